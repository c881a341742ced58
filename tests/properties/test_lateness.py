"""Whatever the deliveries are, and in whatever order they come: the same windows and the same late rows, as a naive count has them."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp

EXAMPLES = settings().max_examples // 4
T0 = datetime(2024, 2, 28)
STAMPED = 1_710_000_000
SCHEMA = {"t": pl.Datetime("us"), "k": pl.String, "x": pl.Int64, "came": pl.Datetime("us")}

Row = tuple[datetime | None, str | None, int, datetime]
MOMENTS = st.one_of(
    st.none(),
    st.integers(0, 3 * 24 * 4).map(lambda quarters: T0 + timedelta(minutes=15 * quarters)),
    st.just(datetime(2200, 1, 1)),
)
ROWS = st.lists(
    st.tuples(
        MOMENTS,
        st.sampled_from(["a", "b", None]),
        st.integers(-3, 9),
        st.integers(0, 100).map(lambda h: T0 + timedelta(hours=h)),
    ),
    max_size=5,
)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    files = draw(st.lists(ROWS, min_size=1, max_size=6))
    mode = draw(st.sampled_from(["name", "stamp", "by", "column"]))
    return {
        "files": files,
        "stamps": draw(st.permutations(range(len(files)))),
        "deliveries": draw(st.lists(st.integers(0, 3), min_size=len(files), max_size=len(files))),
        "mode": mode,
        "fmt": draw(st.sampled_from(["csv", "parquet"])),
        "delay": draw(st.sampled_from([0, 1, 5])),
        "lateness": draw(st.sampled_from([0, 2, 24])),
        "every": draw(st.sampled_from([["1h"], ["1d"], ["1h", "1d"], ["6h"]])),
        "late": draw(st.sampled_from(["quarantine", "drop"])),
        # hours and days begin by the local clock: in India at half past
        "time": draw(st.sampled_from(["Datetime(us)", "Datetime(us)", "Datetime(us, Asia/Kolkata)"])),
        "most": draw(st.sampled_from([None, None, 1])),
        # a file that goes after the first delivery; and one that is written again, with the rows of another
        "goes": draw(st.sampled_from([None, None, *range(len(files))])),
        "changes": draw(st.one_of(st.none(), st.tuples(st.integers(0, len(files) - 1), ROWS))),
    }


def ends(moment: datetime, every: str) -> tuple[datetime, datetime]:
    """Return the window of a moment."""
    if every == "1d":
        start = datetime(moment.year, moment.month, moment.day)
        return start, start + timedelta(days=1)
    hours = int(every[:-1])
    start = moment.replace(minute=0, hour=moment.hour // hours * hours)
    return start, start + timedelta(hours=hours)


def is_real(moment: datetime | None) -> bool:
    return moment is not None and moment < datetime(2100, 1, 1)


def oracle(case: dict[str, Any], there: list[int]) -> tuple[Counter[Any], Counter[Any]]:
    """Return windows and late rows of the files that are there, one row after the other."""
    order = sorted(there, key=lambda i: case["stamps"][i] if case["mode"] == "stamp" else i)
    highest: dict[Any, datetime] = {}
    windows: dict[Any, list[int]] = {}
    late: Counter[Any] = Counter()
    for index in order:
        before = dict(highest)
        for t, k, x, came in case["files"][index]:
            partition = k if case["mode"] == "by" else None
            if case["mode"] == "column":
                real = t is not None and t <= came + timedelta(days=1)
                mark = came - timedelta(hours=case["delay"])
            else:
                real = is_real(t)
                mark = before[partition] - timedelta(hours=case["delay"]) if partition in before else datetime.min
            if t is None:
                continue
            closes = max(ends(t, every)[1] for every in case["every"]) + timedelta(hours=case["lateness"])
            if real and closes <= mark:
                late[t, k, x] += 1
                continue
            for every in case["every"]:
                windows.setdefault((every, k, *ends(t, every)), []).append(x)
        if case["mode"] != "column":
            for t, k, _, _ in case["files"][index]:
                if t is not None and is_real(t):
                    partition = k if case["mode"] == "by" else None
                    highest[partition] = max(highest.get(partition, t), t)
    return Counter((*w, len(xs), sum(xs)) for w, xs in windows.items()), late


def plain(column: str) -> pl.Expr:
    """Return times as the local clock shows them."""
    return pl.col(column).dt.replace_time_zone(None)


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        (base / "in").mkdir()
        mode = case["mode"]
        watermark: dict[str, Any] = {"delay": f"{case['delay']}h"}
        watermark |= {"name": {}, "stamp": {"order": "stamp"}, "by": {"by": "k"}, "column": {"column": "came"}}[mode]
        step = {"time": "t", "every": case["every"], "by": ["k"], "aggregate": {"n": "count(*)", "s": "sum(x)"}}
        self.data = {
            "version": 1,
            "name": "p",
            "sources": {
                "a": {
                    "uri": f"in/*.{case['fmt']}",
                    "event_time": "t",
                    "watermark": watermark,
                    "contract": {"columns": {"t": case["time"], "k": "String", "x": "Int64", "came": case["time"]}},
                }
            },
            "stages": {
                "w": {
                    "from": "a",
                    "do": [
                        {"filter": "x > -3"},
                        {"window": {**step, "late": case["late"], "allowed_lateness": f"{case['lateness']}h"}},
                    ],
                }
            },
        }

    def deliver(self, index: int) -> None:
        path = self.base / "in" / f"f{index}.{self.case['fmt']}"
        frame = pl.DataFrame(self.case["files"][index], schema=SCHEMA, orient="row")
        if "Kolkata" in self.case["time"]:
            frame = frame.with_columns(pl.col("t", "came").dt.replace_time_zone("Asia/Kolkata"))
        frame.write_csv(path) if self.case["fmt"] == "csv" else frame.write_parquet(path)
        stamp = STAMPED + self.case["stamps"][index]
        os.utime(path, (stamp, stamp))

    def run(self, where: str) -> tuple[Counter[Any], Counter[Any], int]:
        data = {**self.data, "outputs": {"w": {"to": f"{where}/w"}}, "state": f"{where}/state"}
        plan = lp.Pipeline.from_dict(data, base=str(self.base)).compile()
        result = plan.run(max_files=self.case["most"] if where == "kept" else None)
        result.raise_for_status()
        while result.left:
            result = plan.run(max_files=self.case["most"])
            result.raise_for_status()
        windows = pl.DataFrame(lp.scan(str(self.base / where / "w")).collect())
        if "window" not in windows.columns:
            windows = windows.with_columns(pl.lit(self.case["every"][0]).alias("window"))
        found = windows.select("window", "k", plain("window_start"), plain("window_end"), "n", "s").rows()
        aside = self.base / where / "state/quarantine/p/w__late"
        late: Counter[Any] = Counter()
        if Path(f"{aside}.commits").exists():
            late = Counter(lp.scan(str(aside)).collect().select(plain("t"), "k", "x").rows())
        gate = result.gates.get("w__late")
        return Counter(found), late, -1 if gate is None else gate.dropped + gate.quarantined


@given(case=cases())
@settings(max_examples=EXAMPLES)
def test_any_split_into_deliveries_ends_in_the_same_windows_and_late_rows(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case["files"] = [[r for r in rows if r[2] > -3] for rows in case["files"]]
        world = World(Path(folder), case)
        there: list[int] = []
        for delivery in sorted(set(case["deliveries"])):
            came = [i for i, d in enumerate(case["deliveries"]) if d == delivery]
            for index in came:
                world.deliver(index)
            there += came
            if case["goes"] in there and len(there) > 1 and delivery:
                there.remove(case["goes"])
                (world.base / "in" / f"f{case['goes']}.{case['fmt']}").unlink()
            if case["changes"] is not None and case["changes"][0] in there:
                number, rows = case["changes"]
                case["files"][number], case["changes"] = [r for r in rows if r[2] > -3], None
                world.deliver(number)
            windows, late, gone = world.run("kept")
            expected, aside = oracle(case, there)
            assert windows == expected
            assert gone in (-1, aside.total())
            if case["late"] == "quarantine":
                assert late == aside
        fresh = world.run("fresh")
        assert fresh[0] == expected
        assert fresh[2] == aside.total()
        assert fresh[1] == (aside if case["late"] == "quarantine" else Counter())
