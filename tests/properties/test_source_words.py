"""All that a source can say of its files at once, in every format and mode: what is there is what a few lines of plain Python make of the deliveries, or a run says why not.

Files are added, written anew, touched, moved, removed, brought back, spoilt and mended, while clocks go on.
"""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.delivered import CLOCK
from tests.properties.scale import at_scale

SCHEMA = pl.Schema({"id": pl.Int64, "v": pl.Int64, "t": pl.Int64})
FORMATS = ["csv", "csv.gz", "csv.zst", "ndjson", "ndjson.gz", "parquet", "arrow"]
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=3, unique_by=lambda r: r[0])
ACTIONS = [
    "add",
    "add",
    "modify",
    "modify",
    "touch",
    "move",
    "remove",
    "back",
    "spoil",
    "spoil",
    "mend",
    "later",
    "grow",
    "full",
]
STEP = st.tuples(st.sampled_from(ACTIONS), st.integers(0, 6), ROWS, st.booleans())
MODES: dict[str, dict[str, Any]] = {
    "rows": {},
    "sums": {},
    "once": {"mode": "append"},
    "latest": {"mode": "upsert", "key": "id", "order_by": "t"},
    "history": {"mode": "scd2", "key": "id", "event_time": "at"},
}
ADDS = ("once", "latest", "history")
Row = tuple[Any, ...]
SPOILT = None
Held = tuple[list[Row] | None, int]
"""What a file holds, and when it was written."""


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.now, self.order, self.made = CLOCK, 0, 0
        self.there: dict[str, Held] = {}
        self.once: list[tuple[str, list[Row]]] = []
        self.spoilt: dict[str, list[Row]] = {}
        self.taken: dict[str, dict[str, Held]] = {n: {} for n in case["outputs"]}
        self.added: dict[str, list[Row]] = {n: [] for n in ADDS}
        # of each version of an output, what it was made of
        self.versions: dict[tuple[str, int], tuple[dict[str, Held], list[Row]]] = {}
        (base / "in").mkdir()
        self.add([(0, 1), (1, 2)])
        self.add([(1, 3)])

    def path(self, name: str) -> Path:
        return self.base / f"in/{name}.{self.case['format']}"

    def numbered(self, rows: list[Any]) -> list[Row]:
        self.order += len(rows)
        return [(*row, self.order - n) for n, row in enumerate(rows)]

    def content(self, rows: list[Row]) -> bytes:
        frame, file = pl.DataFrame(rows, schema=SCHEMA, orient="row"), io.BytesIO()
        kind, _, packed = self.case["format"].partition(".")
        match kind:
            case "csv":
                frame.write_csv(file)
            case "ndjson":
                frame.write_ndjson(file)
            case "parquet":
                frame.write_parquet(file)
            case _:
                frame.write_ipc(file)
        plain = file.getvalue()
        if packed == "gz":
            return gzip.compress(plain, mtime=0)
        if packed == "zst":
            file = io.BytesIO()
            frame.write_csv(file, compression="zstd")
            return file.getvalue()
        return plain

    def write(self, name: str, rows: list[Row] | None) -> None:
        self.now += 10
        content = b"PAR1\x1f\xff\xfe{" * 9 if rows is None else self.content(rows)
        self.path(name).write_bytes(content)
        os.utime(self.path(name), (self.now, self.now))
        self.there[name] = (rows, self.now)

    def add(self, rows: list[Any]) -> None:
        self.made += 1
        self.write(f"f{self.made:02}", self.numbered(rows))

    def act(self, action: str, index: int, rows: list[Any]) -> None:
        names = sorted(self.there)
        name = names[index % len(names)]
        held, at = self.there[name]
        match action:
            case "add":
                self.add(rows)
            case "modify":
                self.write(name, self.numbered(rows))
            case "grow" if held is not None and self.case["format"] in ("csv", "ndjson"):
                self.write(name, [*held, *self.numbered(rows)])
            case "touch":
                self.write(name, held)
            case "move":
                there = f"{'eg'[index % 2]}{self.made}{len(self.once)}"
                if there not in self.there:
                    self.path(name).rename(self.path(there))
                    self.there[there] = self.there.pop(name)
            case "remove" if len(names) > 1 and held is not None:
                self.path(name).unlink()
                del self.there[name]
                self.once.append((name, held))
            case "back" if self.once:
                there, what = self.once[index % len(self.once)]
                self.write(there, what)
            case "spoil" if held is not None and self.case["corrupt"] != "fail":
                self.spoilt[name] = held
                self.write(name, SPOILT)
            case "mend" if held is None:
                self.write(name, self.spoilt[name] if index % 2 and name in self.spoilt else self.numbered(rows))
            case "rollback" | "compact":
                output = self.case["outputs"][index % len(self.case["outputs"])]
                uri = str(self.base / "out" / output)
                there_ = sorted(lp.history(uri)["version"])
                if action == "compact":
                    lp.optimize.compact(uri, dead=0.0)
                else:
                    version = there_[index % len(there_)]
                    lp.rollback(uri, version=version)
                    self.taken[output], added = self.versions[output, version]
                    if output in ADDS:
                        self.added[output] = added
                self.remember(output)
            case "later":
                self.now += (60, 400, 400)[index % 3]

    def run(self) -> None:
        case = self.case
        source = {
            "uri": f"in/*.{case['format']}",
            "contract": {"columns": {n: str(t) for n, t in SCHEMA.items()}},
            "on_removed": case["removed"],
            "on_modified": case["modified"],
            "on_corrupt": case["corrupt"],
            **({"detect": "content"} if case["detect"] else {}),
            **({"settle": "5m"} if case["settles"] else {}),
        }
        gate = [{"between": {"column": "v", "max": 7, "action": "drop"}}]
        source |= {"gate": gate} if case["gate"] == "source" else {}
        aggregate = {"aggregate": {"by": "id", "aggregate": {"n": "count(*)", "v": "sum(v)"}}}
        date = [{"derive": {"at": "t * 60000000"}}, {"cast": {"at": "Datetime(us)"}}]
        do = {"sums": [aggregate], "history": date}
        data = {
            "version": 1,
            "name": "p",
            "sources": {"s": source},
            "stages": {n: {"from": "s", "do": do.get(n, [])} for n in case["outputs"]},
            "outputs": {n: {"to": f"out/{n}", **MODES[n]} for n in case["outputs"]},
        }
        plan = lp.Pipeline.from_dict(data, base=str(self.base)).compile()
        result = plan.run(now=datetime.fromtimestamp(self.now, UTC))
        for segment in result.segments:
            if segment.output is not None:
                self.ended(segment)
            else:
                assert segment.status in ("done", "unchanged", "blocked", "waiting"), segment
                assert segment.error is None, segment

    def begins(self, rows: list[Row], was: list[Row]) -> bool:
        """Whether a file holds what was read of it, and perhaps more."""
        return rows == was if self.case["format"] not in ("csv", "ndjson") else rows[: len(was)] == was

    def ended(self, segment: Any) -> None:
        name, case = segment.name, self.case
        was = self.taken[name]
        limit = self.now - (300 if case["settles"] else 0)
        new: dict[str, Held] = {}
        news: list[Row] = []
        gone = {n: h for n, h in was.items() if n not in self.there or (self.there[n][0] is SPOILT)}
        for n, (rows, at) in self.there.items():
            old = was.get(n)
            if old is not None and (rows == old[0] or at > limit):
                new[n] = old if at > limit else (rows, at)
            elif at > limit or rows is SPOILT:
                continue
            elif old is None:
                same = next((g for g, h in gone.items() if self.begins(rows, h[0])), None)
                news += rows if same is None else rows[len(gone.pop(same)[0]) :]
                new[n] = (rows, at)
            else:
                tail = self.begins(rows, old[0])
                if tail or case["modified"] == "reprocess":
                    new[n] = (rows, at)
                    news += rows[len(old[0]) :] if tail else rows
                else:
                    new[n] = old
        if case["removed"] == "ignore" or name in ADDS:
            for n, h in gone.items():
                new.setdefault(n, h)
        if segment.status in ("done", "unchanged"):
            self.taken[name] = new
            if name in ADDS:
                self.added[name] += news
        else:
            assert segment.status in ("waiting", "blocked"), segment
        self.remember(name)
        self.judge(name, segment)

    def remember(self, name: str) -> None:
        for version in lp.history(str(self.base / "out" / name))["version"]:
            self.versions.setdefault((name, version), (dict(self.taken[name]), [*self.added.get(name, ())]))

    def judge(self, name: str, segment: Any) -> None:
        path = self.base / "out" / name
        there = Path(f"{path}.commits").exists() and any(Path(f"{path}.commits").glob("*.json"))
        found = lp.scan(str(path)).collect() if there else None
        limit = 7 if self.case["gate"] == "source" else 99
        if name in ADDS:
            rows = [r for r in self.added[name] if r[1] <= limit]
        else:
            rows = [r for of, _ in self.taken[name].values() for r in of or () if r[1] <= limit]
        wanted: Counter[Row]
        match name:
            case "rows" | "once":
                wanted = Counter(rows)
            case "sums":
                sums: dict[int, list[int]] = {}
                for i, v, _ in rows:
                    sums.setdefault(i, []).append(v)
                wanted = Counter((i, len(vs), sum(vs)) for i, vs in sums.items())
            case "latest":
                wanted = Counter({r[0]: r for r in sorted(rows, key=lambda r: r[2])}.values())
            case _:
                wanted = Counter()
                for i in {r[0] for r in rows}:
                    of = sorted({r for r in rows if r[0] == i}, key=lambda r: r[2])
                    wanted += Counter((*r, z[2] if z else None) for r, z in zip(of, [*of[1:], None], strict=True))
        columns = [*SCHEMA] if name != "sums" else ["id", "n", "v"]
        if found is not None and name == "history":
            until = pl.col("valid_to").dt.replace_time_zone(None).dt.epoch("us") // 60000000
            found = found.select(*SCHEMA, until)
            columns = found.columns
        assert Counter(found.select(columns).rows() if found is not None else []) == wanted, (name, segment)


@given(
    case=st.fixed_dictionaries(
        {
            "format": st.sampled_from(FORMATS),
            "removed": st.sampled_from(["delete", "ignore"]),
            "modified": st.sampled_from(["reprocess", "ignore"]),
            "corrupt": st.sampled_from(["fail", "skip", "quarantine_file"]),
            "detect": st.booleans(),
            "settles": st.booleans(),
            "gate": st.sampled_from(["", "source"]),
            "scale": st.booleans(),
            "outputs": st.lists(st.sampled_from([*MODES]), min_size=1, max_size=3, unique=True),
        }
    ),
    steps=st.lists(STEP, min_size=1, max_size=7),
)
@settings(max_examples=settings().max_examples)
def test_source_words(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        world.now += 400
        world.run()
        for number, (action, index, rows, due) in enumerate(steps, 1):
            world.act(action, index, rows)
            if number == len(steps):
                world.now += 400
            if due or number == len(steps):
                world.run()
