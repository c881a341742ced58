"""Deliveries that become whole bit by bit: what runs take in, whenever they look, is what a few lines of plain Python say is whole by then."""

from __future__ import annotations

import hashlib
import json
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
from tests.delivered import put
from tests.properties.scale import at_scale

START = 1_700_000_000
TYPES = {"columns": {"id": "Int64", "k": "String", "v": "Int64"}}
SCHEMA = pl.Schema({"id": pl.Int64, "k": pl.String, "v": pl.Int64})
ROWS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from("ab"), st.integers(0, 9)), min_size=1, max_size=3)
EXPECT: list[Any] = [
    None,
    {"marker": "_SUCCESS"},
    {"marker": "{name}.ok"},
    {"manifest": "*.json"},
    {"files": 2, "per": "folder"},
    {"at_least": 2, "per": "folder"},
    {"at_least": 3},
]
ACTIONS = ["add", "add", "grow", "modify", "remove", "mark", "mark", "unmark", "later", "later", "touch", "edit"]
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5), ROWS, st.sampled_from([True, True, False])),
    min_size=3,
    max_size=9,
)
STAGES: dict[str, list[Any]] = {
    "rows": [{"derive": {"w": "v + :more"}}],
    "sums": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": "sum(v + :more)"}}}],
    "lists": [{"over": {"by": "k", "columns": {"m": "median(v)"}}}],
    "once": [],
    "latest": [{"derive": {"t": "v * 100 + id"}}],
}
HOW: dict[str, dict[str, Any]] = {"once": {"mode": "append"}, "latest": {"mode": "upsert", "key": "k", "order_by": "t"}}
Row = tuple[Any, ...]
Held = dict[str, tuple[list[Row], int]]
"""The rows of files, and when they were written."""


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.now = START
        self.more = 1
        self.there: Held = {}
        self.marks: set[str] = set()
        self.taken: dict[str, Held] = {n: {} for n in STAGES}
        self.added: dict[str, list[Row]] = {"once": [], "latest": []}
        (base / "in").mkdir()
        for folder in "01":
            for name, row in (("e", (0, "a", 1)), ("f", (1, "b", 2))):
                self.write(f"{folder}/{name}.{case['format']}", [row])

    def name(self, index: int, made: int) -> str:
        return f"{index % 2}/f{made}.{self.case['format']}"

    def write(self, name: str, rows: list[Row], *, grow: bool = False) -> None:
        self.now += 10
        all_rows = [*self.there[name][0], *rows] if grow else rows
        self.there[name] = (all_rows, self.now)
        put(self.base / "in" / name, pl.DataFrame(all_rows, schema=SCHEMA, orient="row"), self.now)

    def mark(self, folder: str) -> None:
        """Say that what is in a folder now is whole."""
        expect = self.case["expect"] or {}
        mine = [n for n in self.there if n.startswith(f"{folder}/")]
        place = self.base / "in" / folder
        if not mine:
            return
        if "manifest" in expect:
            told = [
                {"name": Path(n).name, "size": (self.base / "in" / n).stat().st_size, "sha256": self.hash(n)}
                for n in mine
            ]
            (place / "all.json").write_text(json.dumps(told))
        elif expect.get("marker") == "_SUCCESS":
            (place / "_SUCCESS").touch()
            self.marks.add(folder)
        elif "marker" in expect:
            for n in mine:
                (place / f"{Path(n).name}.ok").touch()

    def hash(self, name: str) -> str:
        return hashlib.sha256((self.base / "in" / name).read_bytes()).hexdigest()

    def unmark(self, folder: str) -> None:
        for path in (self.base / "in" / folder).glob("*"):
            if path.suffix in (".ok", ".json") or path.name == "_SUCCESS":
                path.unlink()

    def whole(self, name: str, settled: set[str], was: Held) -> bool:
        """Say by the letter of the guide whether a file may be read."""
        expect, folder = self.case["expect"], self.base / "in" / name.partition("/")[0]
        if name not in settled:
            return False
        if expect is None:
            return True
        if "marker" in expect:
            return (folder / expect["marker"].replace("{name}", Path(name).name)).exists()
        mine = [n for n in self.there if n.startswith(f"{folder.name}/") or "per" not in expect]
        if "manifest" in expect:
            if not (folder / "all.json").exists():
                return False
            told = {f"{folder.name}/{e['name']}": e for e in json.loads((folder / "all.json").read_text())}
            if name not in told:
                return False
            for n, e in told.items():
                if n in self.there and (
                    n not in settled
                    or (e["size"], e["sha256"]) != ((self.base / "in" / n).stat().st_size, self.hash(n))
                ):
                    return False
                if n not in self.there and n not in was:
                    return False
            return True
        counted = len([n for n in mine if n in settled])
        return counted == expect["files"] if "files" in expect else counted >= expect["at_least"]

    def act(self, action: str, index: int, rows: list[Row]) -> None:
        names = sorted(self.there)
        chosen = names[index % len(names)] if names else None
        match action:
            case "add":
                self.write(self.name(index, len(os.listdir(self.base / "in")) + self.now % 1000), rows)
            case "grow" if chosen:
                self.write(chosen, rows, grow=True)
            case "modify" if chosen:
                self.write(chosen, rows)
            case "touch" if chosen:
                self.write(chosen, self.there[chosen][0])
            case "remove" if chosen and len(names) > 1 and chosen in self.taken["rows"]:
                (self.base / "in" / chosen).unlink()
                del self.there[chosen]
            case "mark":
                self.mark(str(index % 2))
            case "unmark":
                self.unmark(str(index % 2))
            case "later":
                self.now += (60, 400, 400)[index % 3]
            case "edit":
                self.more += 1

    def run(self) -> None:
        source = {"uri": f"in/**/*.{self.case['format']}", "contract": TYPES}
        source |= {"settle": "5m"} if self.case["settles"] else {}
        source |= {"expect": self.case["expect"]} if self.case["expect"] else {}
        source |= {"on_removed": self.case["on_removed"], "on_modified": "reprocess"}
        data = {
            "version": 1,
            "name": "p",
            "params": {"more": {"type": "integer", "default": 1}},
            "sources": {"s": source},
            "stages": {n: {"from": "s", "do": do} for n, do in STAGES.items()},
            "outputs": {n: {"to": f"out/{n}", **HOW.get(n, {})} for n in STAGES},
        }
        result = (
            lp.Pipeline.from_dict(data, base=str(self.base))
            .compile(more=self.more)
            .run(now=datetime.fromtimestamp(self.now, UTC))
        )
        limit = self.now - (300 if self.case["settles"] else 0)
        settled = {n for n, (_, at) in self.there.items() if at <= limit}
        for segment in result.segments:
            name = segment.name
            if segment.output is None:
                continue
            was = self.taken[name]
            whole = {n for n in self.there if self.whole(n, settled, was)}
            same = {n for n in self.there if n in was and was[n] == self.there[n]}
            made = {n: self.there[n] for n in self.there if n in whole or n in same}
            kept = {n: was[n] for n in self.there if n in was and n not in made}
            left = {n: was[n] for n in was if n not in self.there}
            moved = set()  # a name that came is paired with one that went, if they hold the same
            for n in made.keys() - was.keys():
                if (old := next((g for g in left if left[g][0] == made[n][0]), None)) is not None:
                    del left[old]
                    moved.add(n)
            gone = left if self.case["on_removed"] == "ignore" or name in HOW else {}
            if segment.error is not None:
                assert gone, segment
                assert name not in HOW
                assert "it would lose the rows of" in str(segment.error)
            elif segment.status == "waiting":
                yet = not made or kept or gone
                assert yet, (name, segment.why)
                assert set(self.there) - whole
            else:
                if name in HOW:
                    for n in made.keys() - moved:
                        if was.get(n, ([],))[0] != made[n][0]:
                            before = was[n][0] if n in was else []
                            grown = self.case["format"] == "csv" and made[n][0][: len(before)] == before
                            self.added[name] += made[n][0][len(before) :] if grown else made[n][0]
                if segment.status == "unchanged":  # no commit says that the stamp is another, as the content is not
                    made |= {n: was[n] for n in made if n in was and was[n][0] == made[n][0]}
                self.taken[name] = {**made, **kept, **gone}
            self.judge(name, segment)

    def complete(self) -> None:
        """Run when everything that is there is whole."""
        for folder in "01":
            self.mark(folder)
        self.now += 1_000
        self.run()

    def judge(self, name: str, segment: Any) -> None:
        path = self.base / "out" / name
        found = Counter(lp.scan(str(path)).collect().rows()) if Path(f"{path}.commits").exists() else Counter()
        rows = [r for held, _ in self.taken[name].values() for r in held]
        match name:
            case "rows":
                self.pending = Counter((*r, r[2] + self.more) for r in rows)
                wanted = self.pending
            case "sums":
                wanted = Counter(
                    (k, len(vs), sum(vs) + self.more * len(vs))
                    for k in "ab"
                    if (vs := [r[2] for r in rows if r[1] == k])
                )
            case "lists":
                medians = {k: pl.Series([r[2] for r in rows if r[1] == k]).median() for k in "ab"}
                wanted = Counter((*r, medians[r[1]]) for r in rows)
            case "once":
                wanted = Counter(self.added[name])
            case _:
                last: dict[Any, Row] = {}
                for r in self.added[name]:
                    t = r[2] * 100 + r[0]
                    if r[1] not in last or last[r[1]][3] <= t:
                        last[r[1]] = (*r, t)
                wanted = Counter(last.values())
        if segment.status in ("waiting", "error") and name in ("rows", "sums"):
            return  # by another definition
        assert found == wanted, (name, segment.status, segment.why)


@given(
    case=st.fixed_dictionaries(
        {
            "expect": st.sampled_from(EXPECT),
            "settles": st.booleans(),
            "format": st.sampled_from(["csv", "parquet"]),
            "on_removed": st.sampled_from(["delete", "ignore"]),
            "scale": st.booleans(),
        }
    ),
    steps=STEPS,
)
@settings(max_examples=settings().max_examples // 6)
def test_deliveries_that_become_whole(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        world.complete()
        for action, index, rows, runs in steps:
            world.act(action, index, rows)
            if runs:
                world.run()
        world.complete()
