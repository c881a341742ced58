"""What is pulled becomes a table of the latest rows, from which keys are removed; that, and what it tells of its changes, become histories: each holds what plain Python holds."""

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
from tests.properties.scale import at_scale

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"id": pl.Int64, "k": pl.String, "v": pl.Int64, "op": pl.String, "seq": pl.Int64})
ROWS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["a", "b", None]),
        st.one_of(st.none(), st.integers(0, 3)),
        st.sampled_from(["u", "u", "u", "d"]),
    ),
    min_size=1,
    max_size=5,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("come", "come", "come", "forget", "pull", "one", "one", "two", "two", "two"),
                *("table", "history", "rollback", "compact", "vacuum", "bounded"),
            ]
        ),
        st.integers(0, 5),
        ROWS,
    ),
    min_size=2,
    max_size=12,
)
Row = tuple[Any, ...]


class Log:
    """Stands for a broker: rows from a position on, a few at a time."""

    def __init__(self, rows: list[Row], most: int) -> None:
        self.rows, self.most = rows, most

    def read(self, after: Any) -> tuple[pl.DataFrame, Any] | None:
        begin = 0 if after is None else after["at"]
        some = self.rows[begin : begin + self.most]
        return (pl.DataFrame(some, schema=SCHEMA, orient="row"), {"at": begin + len(some)}) if some else None


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.log: list[Row] = []
        self.pulled = 0
        self.merged = 0
        self.deleted: list[int] = []
        self.forgotten = 0
        self.hours = 0
        # the table, and what it was in each version
        self.table: dict[int, Row] = {}
        self.versions: dict[int, Any] = {}
        # by key: versions as [row, from, until]
        self.states: list[list[Any]] = []
        self.told: list[list[Any]] = []
        self.changed: list[tuple[str, int, Row, datetime]] = []
        (base / "gone").mkdir()
        self.come([(0, "a", 1, "u"), (1, "b", 2, "u")])
        self.forget(9)

    def come(self, rows: Any) -> None:
        self.log += [(*row, len(self.log) + n) for n, row in enumerate(rows)]

    def forget(self, key: int) -> None:
        self.deleted.append(key)
        name = f"gone/{len(self.deleted):03}.csv"
        # as other systems write numbers
        pl.DataFrame({"who": [f"0{key}"]}).write_csv(self.base / name)

    @property
    def now(self) -> datetime:
        return START + timedelta(hours=self.hours)

    def one(self) -> lp.Pipeline:
        to = {"to": "out/o", "key": "id"}
        return self.defined(
            "one",
            {
                "s": {"uri": "pulled/*.parquet"},
                "gone": {"uri": "gone/*.csv", "contract": {"columns": {"who": "String"}}},
            },
            {
                "o": {"from": "s"},
                "forget": {
                    "from": "gone",
                    "do": [{"rename": {"who": "id"}}, {"cast": {"id": "Int64"}}],
                },
            },
            {
                "o": {**to, "mode": "upsert", "order_by": "seq", "deleted_when": "op = 'd'", "changes": True},
                "forget": {**to, "mode": "delete"},
            },
        )

    def two(self) -> lp.Pipeline:
        columns = ["id", "k", "v"]
        return self.defined(
            "two",
            {"o": {"uri": "out/o"}, "c": {"uri": "out/o__changes"}},
            {
                "table": {"from": "o", "do": [{"select": columns}]},
                "history": {
                    "from": "c",
                    "do": [
                        {"filter": "_change <> 'update_before'"},
                        {"derive": {"gone": "_change = 'delete'", "since": "_time"}},
                        {"select": [*columns, "gone", "since"]},
                    ],
                },
            },
            {
                "table": {"to": "out/table", "mode": "scd2", "key": "id", "deletes": "close"},
                "history": {
                    "to": "out/history",
                    "mode": "scd2",
                    "key": "id",
                    "event_time": "since",
                    "deleted_when": "gone",
                },
            },
        )

    def defined(self, name: str, sources: Any, stages: Any, outputs: Any) -> lp.Pipeline:
        if self.case["partitioned"] and name == "one":
            outputs["o"]["partition_by"] = "k"
        data = {"version": 1, "name": name, "state": name}
        return lp.Pipeline.from_dict(
            data | {"sources": sources, "stages": stages, "outputs": outputs}, base=str(self.base)
        )

    def pull(self) -> None:
        self.one().pull({"s": Log(self.log, self.case["most"])})
        self.pulled = len(self.log)

    def run(self, which: str, **how: Any) -> None:
        self.hours += 1
        pipe = self.one() if which == "one" else self.two()
        # where a rewrite has put what was taken in together with what was not, the rest is for the next run
        while True:
            result = pipe.compile().run(now=self.now, **how)
            result.raise_for_status()
            if not result.left or "max_files" in how:
                return

    # plain Python

    def merge(self) -> None:
        before = dict(self.table)
        for row in self.log[self.merged : self.pulled]:
            key = row[0]
            if row[3] == "d":
                self.table.pop(key, None)
            else:
                self.table[key] = row
        self.merged = self.pulled
        self.tell(before)
        self.remember()

    def remove(self) -> None:
        before = dict(self.table)
        for key in self.deleted[self.forgotten :]:
            self.table.pop(key, None)
        self.forgotten = len(self.deleted)
        self.tell(before)

    def tell(self, before: dict[int, Row]) -> None:
        """Remember what changed, at the time that it is now."""
        for key in before.keys() | self.table.keys():
            was, is_ = before.get(key), self.table.get(key)
            if was == is_:
                continue
            self.changed.append(("delete" if is_ is None else "put", key, (is_ or was or ())[:3], self.now))

    def enter(self, which: str) -> None:
        if which in ("table", "both"):
            for version in self.states:
                if version[2] is None:
                    now = self.table.get(version[0][0])
                    if now is None or now[:3] != version[0]:
                        version[2] = self.now
            current = {v[0][0] for v in self.states if v[2] is None}
            self.states += [[r[:3], self.now, None] for k, r in self.table.items() if k not in current]
        if which in ("history", "both"):
            self.told = []
            last: dict[int, list[Any]] = {}
            for what, key, row, at in self.changed:
                there = last.get(key)
                if what == "delete":
                    if there is not None and there[2] is None:
                        there[2] = at
                elif there is None or there[2] is not None or there[0] != row:
                    if there is not None and there[2] is None:
                        there[2] = at
                    last[key] = [row, at, None]
                    self.told.append(last[key])

    def act(self, action: str, index: int, rows: Any) -> None:
        uri = str(self.base / "out/o")
        match action:
            case "come":
                self.come(rows)
            case "forget":
                self.forget(index)
            case "pull":
                self.pull()
            case "one":
                if not self.pulled or self.case["eager"]:
                    self.pull()
                # one after the other: a key that is put and removed at one time has no history by time, and is refused
                self.run("one", outputs=["o"])
                self.merge()
                self.run("one", outputs=["forget"])
                self.remove()
            case "two" | "table" | "history" if self.versions:
                self.run("two", **({} if action == "two" else {"outputs": [action]}))
                self.enter("both" if action == "two" else action)
            case "bounded" if self.versions:
                # what is compared as a whole is not read by parts
                self.run("two", max_files=1)
                self.enter("table")
                self.run("two")
                self.enter("both")
            case "compact" if self.versions:
                lp.optimize.compact([uri, f"{uri}__changes"][index % 2], dead=0.0)
            case "vacuum" if self.versions:
                lp.vacuum(uri, keep=1 + index % 2, older_than=timedelta(0))
            case "rollback" if self.versions:
                self.hours += 1
                there = lp.history(uri)["version"].to_list()
                version = there[index % len(there)]
                lp.rollback(uri, version=version, now=self.now)
                before = dict(self.table)
                table, self.merged, self.forgotten = self.versions[version]
                self.table = dict(table)
                self.tell(before)
        self.remember()

    def remember(self) -> None:
        if not (self.base / "out/o.commits").exists():
            return
        for version in lp.history(str(self.base / "out/o"))["version"]:
            self.versions.setdefault(version, (dict(self.table), self.merged, self.forgotten))

    def judge(self) -> None:
        self.pull()
        self.act("one", 0, [])
        self.act("two", 0, [])
        held = lp.scan(str(self.base / "out/o")).collect()
        assert Counter(held.select(*SCHEMA).rows()) == Counter(self.table.values())
        for name, versions in (("table", self.states), ("history", self.told)):
            found = lp.scan(str(self.base / "out" / name)).collect()
            rows = found.select("id", "k", "v", "valid_from", "valid_to").rows()
            assert Counter(rows) == Counter((*row, since, until) for row, since, until in versions), name
            assert (found["is_current"] == found["valid_to"].is_null()).all()


@given(
    case=st.fixed_dictionaries(
        {
            "most": st.integers(1, 3),
            "eager": st.booleans(),
            "partitioned": st.booleans(),
            "scale": st.booleans(),
        }
    ),
    steps=STEPS,
    checks=st.sets(st.integers(1, 11), max_size=2),
)
@settings(max_examples=settings().max_examples // 8)
def test_histories(case: dict[str, Any], steps: list[Any], checks: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        for number, step in enumerate(steps):
            world.act(*step)
            if number in checks:
                world.judge()
        world.judge()
