"""Joins by time with a limit to lateness: rows that come after it are put aside, whatever the runs; others find what came late beside them."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp

T0 = datetime(2024, 5, 1)
ASOF = "asof_join: {with: quotes, on: at, by: [k], allowed_lateness: 2h, late: quarantine}"
NEAR = "interval_join: {with: quotes, time: at, within: [-1h, 3h], by: k, allowed_lateness: 1h, late: quarantine}"
DEFINITION = f"""
version: 1
name: p
sources:
  trades: {{uri: in/trades-*.csv, event_time: at, watermark: {{delay: 1h}}, contract: {{columns: {{at: Datetime(us), k: String, v: Int64}}}}}}
  quotes: {{uri: in/quotes-*.csv, contract: {{columns: {{at: Datetime(us), k: String, p: Int64}}}}}}
stages:
  priced: {{from: trades, do: [{{{ASOF}}}]}}
outputs:
  priced: {{to: out/priced}}
"""


class Feed:
    def __init__(self, root: Path, definition: str = DEFINITION) -> None:
        self.root, self.number = root, 0
        self.definition = definition
        (root / "in").mkdir()

    def deliver(self, name: str, *rows: tuple[float, str, int]) -> None:
        self.number += 1
        path = self.root / "in" / f"{name}.csv"
        value = "v" if name.startswith("trades") else "p"
        path.write_text(f"at,k,{value}\n" + "".join(f"{T0 + timedelta(hours=h)},{k},{x}\n" for h, k, x in rows))
        os.utime(path, (1_750_000_000 + 10 * self.number,) * 2)

    def run(self) -> lp.Plan:
        plan = lp.Pipeline.from_yaml(self.definition, base=str(self.root)).compile()
        plan.run().raise_for_status()
        return plan

    def rows(self) -> list[Any]:
        found = lp.scan(str(self.root / "out/priced")).collect()
        return sorted(((r["at"] - T0) / timedelta(hours=1), r["k"], r["v"], r["p"]) for r in found.to_dicts())

    def late(self, plan: lp.Plan) -> list[float]:
        return sorted((at - T0) / timedelta(hours=1) for at in plan.late("priced").collect()["at"])


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tmp_path)


def test_late_on_either_side(feed: Feed) -> None:
    feed.deliver("trades-1", (1, "a", 1), (10, "a", 2))
    feed.deliver("quotes-1", (0, "a", 100), (8, "a", 108))
    plan = feed.run()
    assert feed.rows() == [(1, "a", 1, 100), (10, "a", 2, 108)]
    # the watermark is at nine: seven is just too late, and finds nothing
    feed.deliver("trades-2", (7, "a", 3), (7.5, "a", 4))
    plan = feed.run()
    assert feed.rows() == [(1, "a", 1, 100), (7.5, "a", 4, 100), (10, "a", 2, 108)]
    assert plan.scan("priced__late").collect().equals(plan.late("priced").collect())
    assert plan.late("priced").select("v", "late_by", "window_end").collect().rows() == [
        (3, timedelta(0), T0 + timedelta(hours=7))
    ]
    # what comes late beside them corrects those that it should have been beside
    feed.deliver("quotes-2", (0.5, "a", 105), (7.2, "a", 172))
    feed.run()
    assert feed.rows() == [(1, "a", 1, 105), (7.5, "a", 4, 172), (10, "a", 2, 108)]
    assert feed.late(feed.run()) == [7]


def test_an_interval_is_awaited_to_its_end(feed: Feed) -> None:
    feed.definition = DEFINITION.replace(ASOF, NEAR)
    feed.deliver("trades-1", (10, "a", 1))
    feed.deliver("trades-2", (5, "a", 2), (5.1, "a", 3))
    feed.deliver("quotes-1", (8.1, "a", 100))
    plan = feed.run()
    assert (feed.rows(), feed.late(plan)) == ([(5.1, "a", 3, 100)], [5])
    feed.definition = feed.definition.replace("[-1h, 3h]", "[-4h, -1h]")
    assert feed.late(feed.run()) == [5, 5.1]


def test_late_rows_are_dropped_and_counted_or_stop_the_run(feed: Feed) -> None:
    feed.definition = DEFINITION.replace("late: quarantine", "late: drop")
    feed.deliver("trades-1", (10, "a", 1))
    feed.deliver("trades-2", (1, "a", 2))
    feed.deliver("quotes-1", (0, "a", 1))
    plan = lp.Pipeline.from_yaml(feed.definition, base=str(feed.root)).compile()
    result = plan.run()
    assert result.gates["priced__late"].dropped == 1
    assert feed.rows() == [(10, "a", 1, 1)]
    feed.definition = DEFINITION.replace("late: quarantine", "late: fail")
    with pytest.raises(lp.GateError, match="late:at"):
        feed.run()
    feed.definition = DEFINITION.replace("late: quarantine", "late: update")
    feed.run()
    assert len(feed.rows()) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("allowed_lateness: 2h", "allowed_lateness: soon", "75: 'soon' is not a duration; write one such as 30m, 2h or 2d"),
        ("allowed_lateness: 2h", "allowed_lateness: -1h", "75: -1h is negative; write one such as 30m, 2h or 2d"),
        ("late: quarantine", "late: aside", "97: 'late' cannot be 'aside'; known values: drop, fail, quarantine, update"),
        ("event_time: at, watermark: {delay: 1h}, ", "", "97: there is no column '_watermark', with the watermark that each row came under; give the source a watermark by files or by a column (a marker or commit gives its rows none), and let '_watermark' through; known columns: at, k, v"),
        ("{with: quotes, on: at, by: [k]", "{with: quotes, left_on: v, right_on: p, by: [k]", "114: column 'v' is Int64, which is not a date or time; name a column of dates or datetimes, or cast it first"),
        ("}]}\noutputs", "}, {window: {time: at, every: 1h, late: drop, aggregate: {n: count(*)}}}]}\noutputs", "148: the late rows of asof_join are handled in this stage already, and cannot be told from those of window; give window a stage of its own"),
    ],
)  # fmt: skip
def test_mistakes_are_told_where_they_are(old: str, new: str, message: str) -> None:
    with pytest.raises(lp.DefinitionError) as found:
        lp.Pipeline.from_yaml(DEFINITION.replace(old, new)).compile()
    assert str(found.value.problems[0]) == f"<yaml>:8:{message}"


def test_late_rows_need_a_pipeline() -> None:
    frame = pl.LazyFrame(schema={"t": pl.Datetime("us")})
    for step in (
        {"asof_join": {"with": "b", "on": "t"}},
        {"interval_join": {"with": "b", "time": "t", "within": ["0s", "1s"]}},
    ):
        ((_, arguments),) = step.items()
        arguments["late"] = "drop"
        with pytest.raises(
            lp.DefinitionError, match="late rows can be quarantined or dropped only in a pipeline, and this is not one"
        ):
            lp.apply(step, frame, b=frame)
