"""Ranges of time, deliveries since and until, pieces of history: whatever part is worked off in whatever order, by either of two pipelines, the rest ends as all of it in plain Python."""

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
from tests.delivered import put
from tests.properties.scale import at_scale

START = datetime(2024, 3, 29, tzinfo=UTC)
SCHEMA = pl.Schema({"id": pl.Int64, "k": pl.String, "at": pl.Datetime("us", "UTC"), "v": pl.Int64})
ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["a", "b", None]), st.integers(0, 95), st.integers(0, 9)),
    min_size=1,
    max_size=4,
)
ACTIONS = ["add", "add", "add", "modify", "remove", "1", "2", "1 in", "1 in", "2 in", "2 in", "1 since", "2 since"]
ACTIONS += ["1 pieces", "2 pieces", "1 bounded", "2 bounded", "2 full", "compact", "define", "rollback"]
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9), st.integers(1, 48), ROWS), min_size=2, max_size=8
)
SUMS = {"n": "count(*)", "s": "sum(v)"}
Row = tuple[Any, ...]


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.files: dict[str, list[Row]] = {}
        self.clock = 1_700_000_000
        self.made = 0
        self.more = 0
        (base / "in").mkdir()
        self.write([(0, "a", 0, 1), (1, "b", 30, 2)])
        self.write([(2, "a", 60, 3), (3, None, 95, 4)])

    def write(self, rows: list[Any], name: str | None = None) -> None:
        self.made += 1
        self.clock += 10
        made = [(i, k, START + timedelta(hours=h), v) for i, k, h, v in rows]
        name = name or f"f{self.made:02}"
        self.files[name] = made
        frame = pl.DataFrame(made, schema=SCHEMA, orient="row")
        put(self.base / f"in/{name}.{self.case['format']}", frame, self.clock)

    def first(self) -> dict[str, Any]:
        types = {"id": "Int64", "k": "String", "at": "Datetime(us, UTC)", "v": "Int64"}
        zoned = {"derive": {"day": "date_trunc('day', at)"}}
        return {
            "sources": {
                "s": {"uri": f"in/*.{self.case['format']}", "event_time": "at", "contract": {"columns": types}}
            },
            "stages": {
                "o": {
                    "from": "s",
                    "do": [
                        {"derive": {"local": "at"}},
                        {"cast": {"local": f"Datetime(us, {self.case['zone']})"}},
                        {"derive": {"day": "date_trunc('day', local)"}},
                        {"drop": "local"},
                    ]
                    if self.case["by_day"]
                    else [zoned],
                    "gate": [{"between": {"column": "v", "max": 8, "action": "quarantine"}}],
                }
            },
            "outputs": {"o": {"to": "out/o"} | ({"partition_by": "day"} if self.case["by_day"] else {})},
        }

    def second(self) -> dict[str, Any]:
        return {
            "params": {"more": {"type": "integer", "default": 0}},
            "sources": {"o": {"uri": "out/o", "event_time": "at"}},
            "stages": {
                "rows": {"from": "o", "do": [{"drop": "day"}, {"derive": {"w": "v + :more"}}]},
                "days": {
                    "from": "o",
                    "do": [
                        {
                            "window": {
                                "time": "at",
                                "every": "1d",
                                "time_zone": self.case["zone"],
                                "by": "k",
                                "aggregate": SUMS,
                            }
                        }
                    ],
                },
                "middle": {
                    "from": "o",
                    "do": [{"window": {"time": "at", "every": "12h", "aggregate": {"m": "median(v)"}}}],
                },
                "keys": {"from": "o", "do": [{"aggregate": {"by": "k", "aggregate": SUMS}}]},
                "most": {"from": "o", "do": [{"drop": "day"}, {"over": {"by": "k", "columns": {"most": "max(v)"}}}]},
                "added": {"from": "o", "do": [{"select": ["id", "k", "at", "v"]}]},
            },
            "outputs": {n: {"to": f"out/{n}"} for n in ("rows", "days", "middle", "keys", "most")},
        }

    def plan(self, which: str) -> lp.Plan:
        data = {"version": 1, "name": which, "state": which, **(self.first() if which == "1" else self.second())}
        given = {"more": self.more} if which == "2" else {}
        return lp.Pipeline.from_dict(data, base=str(self.base)).compile(**given)

    def run(self, which: str, **how: Any) -> None:
        if which == "2" and not (self.base / "out/o.commits").exists():
            self.plan("1").run().raise_for_status()
        try:
            self.plan(which).run(**how).raise_for_status()
        except lp.LazypipeError as error:
            if "choose nothing" not in str(error) and "chooses nothing" not in str(error):
                raise

    def act(self, action: str, index: int, long: int, rows: list[Row]) -> None:
        names = sorted(self.files)
        chosen = names[index % len(names)]
        begin = START + timedelta(hours=index * 10)
        window = (begin if index else None, begin + timedelta(hours=long) if long < 40 else None)
        which, _, how = action.partition(" ")
        match how or action:
            case "add":
                self.write(rows)
            case "modify":
                self.write(rows, chosen)
            case "remove" if len(names) > 1:
                (self.base / f"in/{chosen}.{self.case['format']}").unlink()
                del self.files[chosen]
            case "1" | "2":
                self.run(action)
            case "in" if window != (None, None):
                self.run(which, window=window)
            case "since":
                moment = datetime.fromtimestamp(1_700_000_000 + index * 10, UTC)
                self.run(which, **{("since", "until")[long % 2]: moment})
            case "bounded":
                self.run(which, max_files=1)
            case "full":
                self.run(which, full=True)
            case "pieces":
                self.run(which)
                for result in self.plan(which).backfill(
                    (begin, begin + timedelta(hours=long)), chunk=("12h", "1d")[long % 2]
                ):
                    result.raise_for_status()
            case "compact" | "rollback":
                logs = sorted((self.base / "out").glob("*.commits"))
                if logs and any(logs[index % len(logs)].glob("*.json")):
                    uri = str(logs[index % len(logs)]).removesuffix(".commits")
                    if action == "compact":
                        lp.optimize.compact(uri, dead=0.0)
                    else:
                        versions = lp.history(uri)["version"]
                        lp.rollback(uri, version=versions[long % len(versions)])
            case "define":
                self.more = index

    def held(self, name: str, *columns: str) -> Counter[Any]:
        return Counter(lp.scan(str(self.base / "out" / name)).collect().select(columns).rows())

    def judge(self) -> None:
        self.run("1")
        self.run("2")
        every = [r for rows in self.files.values() for r in rows]
        good = [r for r in every if r[3] <= 8]
        assert self.held("o", *SCHEMA) == Counter(good)
        aside = self.base / "out/o__quarantine"
        bad = lp.scan(str(aside)).collect().select(*SCHEMA).rows() if Path(f"{aside}.commits").exists() else []
        assert Counter(bad) == Counter(r for r in every if r[3] > 8)
        assert self.held("rows", *SCHEMA, "w") == Counter((*r, r[3] + self.more) for r in good)
        zone = self.case["zone"]

        def grouped(key: Any) -> dict[Any, list[int]]:
            made: dict[Any, list[int]] = {}
            for r in good:
                made.setdefault(key(r), []).append(r[3])
            return made

        from zoneinfo import ZoneInfo

        days = grouped(lambda r: (r[2].astimezone(ZoneInfo(zone)).date(), r[1]))
        found = Counter(
            (a.astimezone(ZoneInfo(zone)).date(), k, n, s)
            for a, k, n, s in self.held("days", "window_start", "k", "n", "s")
        )
        assert found == Counter((*key, len(vs), sum(vs)) for key, vs in days.items())
        halves = grouped(lambda r: r[2].replace(hour=r[2].hour // 12 * 12))
        assert self.held("middle", "window_start", "m") == Counter(
            (at, pl.Series(vs).median()) for at, vs in halves.items()
        )
        keys = grouped(lambda r: r[1])
        assert self.held("keys", "k", "n", "s") == Counter((k, len(vs), sum(vs)) for k, vs in keys.items())
        assert self.held("most", *SCHEMA, "most") == Counter((*r, max(keys[r[1]])) for r in good)
        for which in "12":
            again = self.plan(which).run()
            assert {s.status for s in again.segments} <= {"unchanged"}, (which, again.segments)


@given(
    case=st.fixed_dictionaries(
        {
            "format": st.sampled_from(["csv", "parquet"]),
            "zone": st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
            "by_day": st.booleans(),
            "scale": st.booleans(),
        }
    ),
    steps=STEPS,
    checks=st.sets(st.integers(1, 6), max_size=1),
)
@settings(max_examples=settings().max_examples // 8)
def test_any_part_in_any_order(case: dict[str, Any], steps: list[Any], checks: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        for number, step in enumerate(steps):
            world.act(*step)
            if number in checks:
                world.judge()
        world.judge()
