"""Pipelines that read what others write, feeds of changes among it: whatever is run, in whatever order, each ends with what a few lines of plain Python make of the deliveries."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.delivered import CLOCK, put

EXAMPLES = settings().max_examples // 8
START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"id": pl.Int64, "k": pl.String, "v": pl.Int64, "op": pl.String})
ROW = st.tuples(
    st.integers(0, 6),
    st.sampled_from(["a", "b", None]),
    st.one_of(st.none(), st.integers(0, 9)),
    st.sampled_from(["u", "u", "u", "d"]),
)
ROWS = st.lists(ROW, min_size=1, max_size=4, unique_by=lambda r: r[0])
ACTION = st.tuples(
    st.sampled_from(
        [
            *("add", "add", "add", "modify", "remove"),
            *("1", "1", "2", "2", "3", "full", "bounded"),
            *("rollback", "compact", "rewrite", "vacuum", "define"),
        ]
    ),
    st.integers(0, 6),
    ROWS,
)
Row = tuple[Any, ...]


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.mode = case["mode"]
        self.files: dict[str, list[Row]] = {}
        # what stood in files that are no more, or others by now
        self.ever: list[list[Row]] = []
        self.made = 0
        self.order = 0
        self.runs = 0
        self.least = 0
        (base / "in").mkdir()
        self.write("f0", [(0, "a", 1, "u"), (1, "b", 2, "u")])

    def write(self, name: str, rows: list[Row]) -> None:
        """Write a file; of each key the row that was written last is the last by its order."""
        made = []
        for row in rows:
            self.order += 1
            made.append((*row, self.order))
        self.files[name] = made
        frame = pl.DataFrame(made, schema={**SCHEMA, "t": pl.Int64}, orient="row")
        put(self.base / f"in/{name}.{self.case['format']}", frame, CLOCK + self.order * 10)

    def first(self) -> dict[str, Any]:
        how: dict[str, Any] = {"mode": self.mode, "key": "id", "changes": True}
        if self.mode == "upsert":
            how |= {"order_by": "t", "deleted_when": "op = 'd'"}
            do: list[Any] = []
        else:
            do = [{"distinct": {"columns": "id", "keep": "last", "order_by": ["t"]}}, {"filter": "op <> 'd'"}]
        how |= {"partition_by": "k"} if self.case["partitioned"] else {}
        return {
            "version": 1,
            "name": "one",
            "state": "one",
            "sources": {
                "s": {
                    "uri": f"in/*.{self.case['format']}",
                    "contract": {"columns": {"id": "Int64", "k": "String", "v": "Int64", "op": "String", "t": "Int64"}},
                }
            },
            "stages": {"o": {"from": "s", "do": do}},
            "outputs": {"o": {"to": "out/o", **how}},
        }

    def second(self) -> dict[str, Any]:
        sign = "CASE WHEN _change IN ('insert', 'update_after') THEN 1 ELSE -1 END"
        return {
            "version": 1,
            "name": "two",
            "state": "two",
            "params": {"least": {"type": "integer", "default": 0}},
            "sources": {"c": {"uri": "out/o__changes"}, "o": {"uri": "out/o"}},
            "stages": {
                "signed": {"from": "c", "do": [{"derive": {"sign": sign}}]},
                "net": {
                    "from": "signed",
                    "do": [
                        {"aggregate": {"by": "k", "aggregate": {"n": "sum(sign)", "s": "sum(sign * coalesce(v, 0))"}}}
                    ],
                },
                "mirror": {"from": "c", "do": [{"select": ["id", "_change", "_version"]}]},
                "copy": {
                    "from": "o",
                    "do": [{"filter": "v >= :least OR v IS NULL"}, {"derive": {"w": "v * 2"}}],
                    "gate": [{"not_null": {"columns": "v", "action": "quarantine"}}],
                },
                "sums": {
                    "from": "copy",
                    "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": "sum(w)"}}}],
                },
                "top": {"from": "o", "do": [{"over": {"by": "k", "columns": {"most": "max(v)"}}}]},
            },
            "outputs": {
                "net": {"to": "out/net"},
                "mirror": {"to": "out/mirror", "mode": "append"},
                "copy": {"to": "out/copy", "key": "id", **({"changes": True} if self.case["twice"] else {})},
                "sums": {"to": "out/sums"},
                "top": {"to": "out/top"},
            },
        }

    def third(self) -> dict[str, Any]:
        return {
            "version": 1,
            "name": "three",
            "state": "three",
            "sources": {"c": {"uri": "out/copy"}, "s": {"uri": "out/sums"}}
            | ({"f": {"uri": "out/copy__changes"}} if self.case["twice"] else {}),
            "stages": {
                "joined": {
                    "from": "c",
                    "do": [
                        {"join": {"with": "s", "on": "k", "how": "left", "nulls_equal": True, "columns": {"n": "of"}}}
                    ],
                },
                "ids": {"from": "c", "do": [{"aggregate": {"aggregate": {"n": "count(*)", "s": "sum(id)"}}}]},
            }
            | (
                {
                    "told": {
                        "from": "f",
                        "do": [{"aggregate": {"by": ["id", "_change"], "aggregate": {"n": "count(*)"}}}],
                    }
                }
                if self.case["twice"]
                else {}
            ),
            "outputs": {"joined": {"to": "out/joined"}, "ids": {"to": "out/ids"}}
            | ({"told": {"to": "out/told"}} if self.case["twice"] else {}),
        }

    def run(self, which: str, **how: Any) -> lp.RunResult:
        self.runs += 1
        data = {"1": self.first, "2": self.second, "3": self.third}[which]()
        given = {"least": self.least} if which == "2" else {}
        result = (
            lp.Pipeline.from_dict(data, base=str(self.base))
            .compile(**given)
            .run(now=START + timedelta(hours=self.runs), **how)
        )
        result.raise_for_status()
        return result

    def rows(self, name: str, *columns: str) -> Counter[Any]:
        return Counter(lp.scan(str(self.base / "out" / name)).collect().select(columns).rows())

    def logs(self) -> list[str]:
        return [str(p).removesuffix(".commits") for p in sorted((self.base / "out").glob("*.commits"))]

    def wanted(self) -> dict[int, Row]:
        """Return by its key the last row, unless it says that it goes."""
        last: dict[int, Row] = {}
        for row in sorted((r for rows in self.said.values() for r in rows), key=lambda r: r[4]):
            last[row[0]] = row
        return {k: r for k, r in last.items() if r[3] != "d"}

    @property
    def said(self) -> dict[str, list[Row]]:
        return self.files if self.mode == "replace" else {**{f"-{n}": r for n, r in enumerate(self.ever)}, **self.files}

    def act(self, action: str, index: int, rows: list[Row]) -> None:
        names = sorted(self.files)
        match action:
            case "add":
                self.made += 1
                self.write(f"f{self.made}", rows)
            case "modify":
                self.run("1")
                self.ever = [*self.ever, self.files[names[index % len(names)]]]
                self.write(names[index % len(names)], rows)
            case "remove" if len(names) > 1:
                self.run("1")
                name = names[index % len(names)]
                self.ever = [*self.ever, self.files.pop(name)]
                (self.base / f"in/{name}.{self.case['format']}").unlink()
            case "1" | "2" | "3":
                self.ready(action)
                self.run(action)
            case "full":
                which = "123"[index % 3]
                if which == "1" and self.mode == "upsert" and self.ever:
                    return  # refused, where rows are gone
                self.ready(which)
                if which == "2":
                    self.run(which, full=True, outputs=["net", "copy", "sums", "top"])
                else:
                    self.run(which, full=True)
            case "bounded":
                which = "123"[index % 3]
                self.ready(which)
                self.run(which, max_files=1)
            case "define":
                self.least = index % 4
            case "rollback" | "compact" | "rewrite" | "vacuum" if self.logs():
                uri = self.logs()[index % len(self.logs())]
                feed = uri.endswith("__changes") or "__quarantine" in uri
                match action:
                    case "compact":
                        lp.optimize.compact(uri, dead=0.0)
                    case "rewrite":
                        lp.optimize.rewrite(uri, "storage", every=True)
                    case "vacuum":
                        lp.vacuum(uri, keep=1 + len(rows) % 2, older_than=timedelta(0))
                    case _ if not feed and (self.mode == "replace" or not uri.endswith("/o") or not self.ever):
                        versions = lp.history(uri)["version"]
                        lp.rollback(uri, version=versions[len(rows) % len(versions)])

    def ready(self, which: str) -> None:
        """Have what is read be there."""
        if which >= "2" and not (self.base / "out/o.commits").exists():
            self.run("1")
        if which >= "3" and not (self.base / "out/copy.commits").exists():
            self.run("2")

    def judge(self) -> None:
        self.run("1")
        self.run("2")
        self.run("3")
        there = self.wanted()
        assert self.rows("o", "id", "k", "v") == Counter(r[:3] for r in there.values())
        sums: dict[Any, list[int]] = {}
        for r in there.values():
            sums.setdefault(r[1], []).append(r[2] or 0)
        net = Counter({k: n for k, n in self.rows("net", "k", "n", "s").items() if k[1:] != (0, 0)})
        assert net == Counter((k, len(vs), sum(vs)) for k, vs in sums.items())
        copy = [r for r in there.values() if r[2] is not None and r[2] >= self.least]
        assert self.rows("copy", "id", "k", "v", "w") == Counter((*r[:3], r[2] * 2) for r in copy)
        aside = (
            lp.scan(str(self.base / "out/copy__quarantine")).collect()["id"].to_list()
            if (self.base / "out/copy__quarantine.commits").exists()
            else []
        )
        assert sorted(aside) == sorted(r[0] for r in there.values() if r[2] is None)
        most: dict[Any, int] = {}
        for r in there.values():
            if r[2] is not None:
                most[r[1]] = max(most.get(r[1], 0), r[2])
        assert self.rows("top", "id", "most") == Counter((r[0], most.get(r[1])) for r in there.values())
        groups: dict[Any, list[int]] = {}
        for r in copy:
            groups.setdefault(r[1], []).append(2 * r[2])
        assert self.rows("sums", "k", "n", "s") == Counter((k, len(w), sum(w)) for k, w in groups.items())
        assert self.rows("joined", "id", "of") == Counter((r[0], len(groups[r[1]])) for r in copy)
        assert self.rows("ids", "n", "s") == Counter([(len(copy), sum(r[0] for r in copy))]) or not copy
        feed = lp.scan(str(self.base / "out/o__changes")).collect()
        assert self.rows("mirror", "id", "_change", "_version") == Counter(
            feed.select("id", "_change", "_version").rows()
        )
        if self.case["twice"]:
            told = lp.scan(str(self.base / "out/copy__changes")).collect()
            assert self.rows("told", "id", "_change", "n") == Counter(
                (*k, n) for k, n in Counter(told.select("id", "_change").rows()).items()
            )
            state: set[int] = set()
            for row in told.sort("_version", maintain_order=True).iter_rows(named=True):
                if row["_change"] in ("delete", "update_before"):
                    assert row["id"] in state
                    state.discard(row["id"])
                else:
                    state.add(row["id"])
            assert state == {r[0] for r in copy}
        for which in "123":
            result = self.run(which)
            assert {s.status for s in result.segments} <= {"unchanged"}, (which, result.segments)


@given(
    case=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["upsert", "replace"]),
            "format": st.sampled_from(["csv", "parquet"]),
            "partitioned": st.booleans(),
            "twice": st.booleans(),
        }
    ),
    actions=st.lists(ACTION, min_size=2, max_size=12),
    checks=st.sets(st.integers(1, 11), max_size=2),
)
@settings(max_examples=EXAMPLES)
def test_chains(case: dict[str, Any], actions: list[Any], checks: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), case)
        for number, action in enumerate(actions):
            world.act(*action)
            if number in checks:
                world.judge()
        world.judge()
