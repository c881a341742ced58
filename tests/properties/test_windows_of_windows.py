"""Windows over windows, with late rows of both and panes of both, over any history: what is there, late, and told is what a naive count has."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from tests.delivered import CLOCK
from tests.properties.scale import at_scale

HOUR = timedelta(hours=1)
START = datetime(2023, 5, 1, tzinfo=UTC)
FILE = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from("ab"), st.integers(0, 5)),
    min_size=1,
    max_size=4,
)
ACTIONS = ["add", "add", "add", "modify", "remove", "move", "compact", "rollback", "bounded", "full"]
STEP = st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5), FILE, st.booleans())
Row = tuple[int, str, int]


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.files: dict[str, list[Row]] = {}
        self.made = 0
        (base / "in").mkdir()
        self.write("f01", [(5, "a", 1), (30, "b", 2)])

    def write(self, name: str, rows: list[Row]) -> None:
        self.made += 1
        self.files[name] = rows
        path = self.base / f"in/{name}.parquet"
        schema = {"at": pl.Datetime("us", "UTC"), "k": pl.String, "v": pl.Int64}
        pl.DataFrame([(START + h * HOUR, k, v) for h, k, v in rows], schema=schema, orient="row").write_parquet(path)
        os.utime(path, (CLOCK + self.made * 10,) * 2)

    def run(self, **how: Any) -> lp.RunResult:
        case = self.case
        panes = {"panes": {"mode": case["panes"]}} if case["panes"] else {}
        figures = {"n": "sum(n)", "s": "sum(s)"}
        hours = {
            "time": "at",
            "every": "1h",
            "by": ["k"],
            "allowed_lateness": f"{case['first']}h",
            "late": "quarantine",
            "aggregate": {"n": "count(*)", "s": "sum(v)", "_watermark": f"{case['by']}(_watermark)"},
        }
        days = {"time": "window_start", "every": "1d", "allowed_lateness": f"{case['second']}h", "late": "quarantine"}
        data = {
            "version": 1,
            "name": "p",
            "state": "state",
            "sources": {"s": {"uri": "in/*.parquet", "event_time": "at", "watermark": {"delay": "1h"}}},
            "stages": {
                "hours": {"from": "s", "do": [{"window": hours}]},
                "days": {"from": "hours", "do": [{"window": {**days, "aggregate": figures}}]},
            },
            "outputs": {
                n: {"to": f"out/{n}", "key": key, **panes}
                for n, key in (("hours", ["k", "window_start"]), ("days", ["window_start"]))
                if n == "days" or case["kept"]
            },
        }
        result = lp.Pipeline.from_dict(data, base=str(self.base)).compile().run(**how)
        result.raise_for_status()
        return result

    def act(self, action: str, index: int, rows: list[Row]) -> None:
        names = sorted(self.files)
        name = names[index % len(names)]
        output = str(self.base / "out" / ("hours" if self.case["kept"] and index % 2 else "days"))
        match action:
            case "add":
                self.write(f"f{self.made + 1:02}", rows)
            case "modify":
                self.write(name, rows)
            case "remove" if len(names) > 1:
                (self.base / f"in/{name}.parquet").unlink()
                del self.files[name]
            case "move":
                there = f"{'eg'[index % 2]}{self.made:02}"
                if there not in self.files:
                    (self.base / f"in/{name}.parquet").rename(self.base / f"in/{there}.parquet")
                    self.files[there] = self.files.pop(name)
            case "compact":
                lp.optimize.compact(output, dead=0.0)
            case "rollback":
                there_ = lp.history(output)["version"].to_list()
                lp.rollback(output, version=there_[index % len(there_)])
            case "bounded":
                self.run(max_files=1)
            case "full":
                self.run(full=True)

    def held(self, path: str, *columns: Any) -> Counter[Any]:
        log = self.base / f"{path}.commits"
        there = log.exists() and any(log.glob("*.json"))
        return Counter(lp.scan(str(self.base / path)).select(columns).collect().rows() if there else [])

    def judge(self) -> None:
        self.run()
        late, hours, late_hours, days = self.wanted()
        since = (pl.col("window_start") - START).dt.total_hours()
        aside = "state/quarantine/p/"
        assert self.held(f"{aside}hours__late", (pl.col("at") - START).dt.total_hours(), "k", "v") == late
        assert self.held(f"{aside}days__late", since, "k", "n", "s") == late_hours
        if self.case["kept"]:
            assert self.held("out/hours", since, "k", "n", "s") == hours
        assert self.held("out/days", since, "n", "s") == days
        if self.case["panes"] == "retract":
            for name, key, now in (("hours", ["k"], hours), ("days", [], days)):
                if name == "hours" and not self.case["kept"]:
                    continue
                total = Counter[Any]()
                told = lp.scan(str(self.base / f"out/{name}__panes")).select(since, *key, "n", "s", "_weight")
                for *row, weight in told.collect().rows():
                    total[tuple(row)] += weight
                assert {r: n for r, n in total.items() if n} == dict(now), name
        elif self.case["panes"] == "accumulate":
            told = lp.scan(str(self.base / "out/days__panes")).sort("_version").select(since, "n", "s")
            last = {day: (n, s) for day, n, s in told.collect().rows()}
            assert Counter((d, *v) for d, v in last.items() if v != (None, None)) == days
        assert {s.status for s in self.run().segments} == {"unchanged"}

    def wanted(self) -> tuple[Counter[Any], Counter[Any], Counter[Any], Counter[Any]]:
        """Return late rows, hours, late hours, and days."""
        late, held = Counter[Any](), dict[Any, list[tuple[int, int]]]()
        reached = -1_000
        for name in sorted(self.files):
            under = reached - 1
            for h, k, v in self.files[name]:
                if h + 1 + self.case["first"] <= under:
                    late[h, k, v] += 1
                else:
                    held.setdefault((h, k), []).append((v, under))
            reached = max(reached, *(h for h, _, _ in self.files[name]))
        hours, late_hours, days = Counter[Any](), Counter[Any](), dict[int, list[int]]()
        for (h, k), rows in held.items():
            row = (h, k, len(rows), sum(v for v, _ in rows))
            hours[row] += 1
            mark = (max if self.case["by"] == "max" else min)(m for _, m in rows)
            day = h // 24 * 24
            if day + 24 + self.case["second"] <= mark:
                late_hours[row] += 1
                continue
            there = days.setdefault(day, [0, 0])
            days[day] = [there[0] + row[2], there[1] + row[3]]
        return late, hours, late_hours, Counter((d, *of) for d, of in days.items())


@given(
    case=st.fixed_dictionaries(
        {
            "first": st.sampled_from([0, 20, 40]),
            "second": st.sampled_from([0, 2]),
            "by": st.sampled_from(["min", "max"]),
            "panes": st.sampled_from([None, "retract", "accumulate"]),
            "kept": st.booleans(),
            "scale": st.booleans(),
        }
    ),
    steps=st.lists(STEP, min_size=1, max_size=6),
)
def test_windows_of_windows(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        world.run()
        for number, (action, index, rows, due) in enumerate(steps, 1):
            world.act(action, index, rows)
            if due or number == len(steps):
                world.judge()
