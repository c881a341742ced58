"""Windows that are given once they are closed: by sources that advance, fall silent, or lag; hours that feed days."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from tests.scenarios.test_event_time_goes_on import T0, Site

DEFINITION = """
version: 1
name: p
sources:
  a: {uri: in/a-*.csv, event_time: at, watermark: {delay: 30m, idle_after: 3d}, contract: {columns: {at: Datetime(us), v: Int64}}}
  b: {uri: in/b-*.csv, event_time: at, watermark: {delay: 0s, idle_after: 3d}, contract: {columns: {at: Datetime(us), v: Int64}}}
stages:
  hourly:
    from: a
    do:
      - union: b
      - window: {time: at, every: 1h, allowed_lateness: 1h, emit: on_close, aggregate: {n: count(*), total: sum(v)}}
outputs:
  hourly: {to: out/hourly}
"""


class Feed(Site):
    def __init__(self, root: Path, definition: str = DEFINITION) -> None:
        super().__init__(root)
        self.text = definition

    def hours(self) -> list[float]:
        return self.starts()

    def at(self) -> float:
        commit = Dataset(str(self.root / "out/hourly")).latest()
        assert commit is not None
        moment = datetime(1970, 1, 1) + timedelta(microseconds=commit.info["consumed"]["progress"]["at"])
        return (moment - T0) / timedelta(hours=1)


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tmp_path)


def test_windows_come_when_all_sources_have_passed_them(feed: Feed) -> None:
    feed.deliver("a", 0.5, 1.5, 4)
    feed.deliver("b", 0.2, 3)
    feed.run()
    # a: 3.5, b: 3.0; an hour and the lateness after it must have passed
    assert (feed.hours(), feed.at()) == ([0, 1], 3)
    feed.deliver("b", 10)
    feed.run()
    assert (feed.hours(), feed.at()) == ([0, 1], 3.5)
    feed.deliver("a", 10)
    feed.run()
    assert (feed.hours(), feed.at()) == ([0, 1, 3, 4], 9.5)


def test_a_source_that_never_came_holds_all_back(feed: Feed) -> None:
    feed.deliver("a", 0.5, 100)
    feed.deliver("b")
    feed.run()
    assert feed.hours() == []


def test_a_source_that_is_silent_for_a_week_is_not_waited_for(feed: Feed) -> None:
    feed.deliver("a", 0)
    feed.deliver("b", 0.5)
    feed.run(day=0)
    feed.deliver("a", 48)
    feed.run(day=2)
    assert (feed.hours(), feed.at()) == ([], 0.5)
    feed.deliver("a", 168)
    feed.run(day=7)
    assert (feed.hours(), feed.at()) == ([0, 48], 167.5)
    # it comes back: what was closed stays closed, and its old rows update it
    feed.deliver("b", 1.5, 20)
    feed.run(day=7.5)
    assert feed.at() == 167.5
    assert feed.hours() == [0, 1, 20, 48]


def test_the_watermark_does_not_go_back_with_a_file(feed: Feed) -> None:
    feed.deliver("a", 0, 50)
    feed.deliver("b", 0, 50)
    feed.run()
    (feed.root / "in/b-002.csv").unlink()
    feed.deliver("b", 7)
    feed.run()
    assert feed.at() == 49.5
    assert feed.hours() == [0, 7]


SITES = """
version: 1
name: p
sources:
  a: {uri: in/*.csv, event_time: at, watermark: {by: site}, EXTRA contract: {columns: {at: Datetime(us), site: String}}}
stages:
  hourly: {from: a, do: [window: {time: at, every: 1h, emit: on_close, aggregate: {n: count(*)}}]}
outputs:
  hourly: {to: out/hourly}
"""


@pytest.mark.parametrize("extra", ["", "on_removed: fail,", "on_removed: ignore,"])
def test_a_partition_that_no_file_has_any_more_is_not_waited_for(feed: Feed, extra: str) -> None:
    """A name that was mistyped, and mended, would hold all windows back for ever; but files that only went away said what they said."""
    feed.text = SITES.replace("EXTRA", extra)
    first, second, third = (feed.root / f"in/{n}.csv" for n in "123")
    first.write_text(f"at,site\n{T0},x\n{T0},yy\n")
    second.write_text(f"at,site\n{T0 + timedelta(hours=5)},x\n{T0 + timedelta(hours=5)},y\n")
    for file in (first, second):
        os.utime(file, (2e9, 2e9))
    feed.run()
    assert (feed.hours(), feed.at()) == ([], 0)
    if "ignore" in extra:
        first.unlink()
        third.write_text(f"at,site\n{T0 + timedelta(hours=6)},x\n")
        os.utime(third, (2e9 + 1, 2e9 + 1))
    else:
        first.write_text(f"at,site\n{T0},x\n{T0},y\n")
        os.utime(first, (2e9 + 1, 2e9 + 1))
    feed.run()
    assert (feed.hours(), feed.at()) == (([], 0) if "ignore" in extra else ([0], 5))


def test_another_delay_is_another_watermark(feed: Feed) -> None:
    feed.deliver("a", 0, 50)
    feed.deliver("b", 0, 50)
    feed.run()
    feed.text = DEFINITION.replace("delay: 30m", "delay: 2d")
    feed.run()
    assert (feed.at(), feed.hours()) == (2, [0])


def test_hours_feed_days_which_wait_for_them(feed: Feed) -> None:
    feed.text = DEFINITION.replace(", idle_after: 3d", "")
    days = """
version: 1
name: days
sources:
  hours: {uri: out/hourly, event_time: window_start, watermark: {column: window_end}}
stages:
  daily:
    from: hours
    do: [{window: {time: window_start, every: 1d, emit: on_close, aggregate: {n: count(*), total: sum(n)}}}]
outputs:
  daily: {to: out/daily}
"""

    def daily() -> list[Any]:
        lp.Pipeline.from_yaml(days, base=str(feed.root)).compile().run().raise_for_status()
        return lp.scan(str(feed.root / "out/daily")).select("n", "total").collect().rows()

    feed.deliver("a", *range(23), 24)
    feed.deliver("b", 24)
    feed.run()
    assert (feed.at(), daily()) == (23.5, [])
    # the last hour of the day is empty, not missing: both sources have passed it
    feed.deliver("a", 26)
    feed.deliver("b", 26)
    feed.run()
    assert (feed.at(), daily()) == (25.5, [(23, 23)])


def test_a_dataset_of_others_is_as_far_as_its_column(feed: Feed) -> None:
    frame = pl.DataFrame({"at": [T0, T0 + timedelta(hours=5)], "came": [T0, T0 + timedelta(hours=6)], "v": [1, 2]})
    frame.write_parquet(feed.root / "in/x.parquet")
    text = """
version: 1
name: p
sources:
  a: {uri: in/*.parquet, event_time: at, watermark: {column: came, delay: 1h}}
stages:
  hourly: {from: a, do: [{window: {time: at, every: 1h, emit: on_close, aggregate: {n: count(*)}}}]}
outputs:
  hourly: {to: out/hourly}
"""
    feed.text = text
    feed.run()
    assert (feed.hours(), feed.at()) == ([0], 5)
    frame.clear().write_parquet(feed.root / "in/x.parquet")
    feed.run(full=True)
    assert feed.hours() == []


def test_sessions_close_when_nothing_can_join_them(feed: Feed) -> None:
    feed.text = DEFINITION.replace("every: 1h, allowed_lateness: 1h", "gap: 1h, allowed_lateness: 30m").replace(
        "- window", "- session"
    )
    feed.deliver("a", 0, 0.5, 1.4, 5)
    feed.deliver("b", 2.8)
    feed.run()
    rows = lp.scan(str(feed.root / "out/hourly")).collect()
    assert rows.is_empty()  # the session ended at 1.4, and closes at 2.9
    feed.deliver("b", 2.9)
    feed.run()
    assert lp.scan(str(feed.root / "out/hourly")).select("n", "session_end").collect().rows() == [
        (3, T0 + timedelta(hours=1.4))
    ]


def test_aggregates_that_do_not_add_up_close_too(feed: Feed) -> None:
    feed.text = DEFINITION.replace("total: sum(v)", "middle: median(v)")
    feed.deliver("a", 0.5, 1.5, 4)
    feed.deliver("b", 0.2, 3)
    feed.run()
    assert feed.hours() == [0, 1]


def test_closed_windows_are_traced_and_have_lineage(feed: Feed) -> None:
    feed.deliver("a", 0.25, 1.5, 4)
    feed.deliver("b", 0.5, 3)
    feed.run()
    plan = lp.Pipeline.from_yaml(feed.text, base=str(feed.root)).compile()
    found = plan.trace("hourly", {"window_start": T0})
    rows = [of.rows["at"].to_list() for of in found.sources.values() if of.rows is not None]
    assert rows == [[T0 + timedelta(minutes=15)], [T0 + timedelta(minutes=30)]]
    assert found.exact
    assert found.is_current
    reach = {str(c) for c in plan.lineage().upstream("hourly.total").columns}
    assert {"a.v", "b.v", "a.at", "b.at"} <= reach
    assert plan.lineage(optimized=True).upstream("hourly").direct == plan.lineage().upstream("hourly").direct


@given(
    files=st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 40), max_size=3)), min_size=1, max_size=5),
    runs=st.lists(st.booleans(), min_size=5, max_size=5),
)
@settings(max_examples=settings().max_examples // 5)
def test_what_is_given_is_what_is_closed(files: list[tuple[str, list[int]]], runs: list[bool]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        feed = Feed(Path(folder), DEFINITION.replace(", idle_after: 3d", ""))
        feed.deliver("a")
        feed.deliver("b")
        high: dict[str, int] = {}
        rows: list[int] = []
        for (source, hours), due in zip(files, runs, strict=False):
            feed.deliver(source, *hours)
            rows += hours
            if hours:
                high[source] = max(high.get(source, 0), *hours)
            if due:
                feed.run()
                mark = min(high["a"] - 0.5, high["b"]) if len(high) == 2 else -1
                assert feed.hours() == sorted({h for h in rows if h + 2 <= mark})


def test_nothing_closes_without_a_watermark() -> None:
    text = DEFINITION.replace("watermark: {delay: 30m, idle_after: 3d}, ", "").replace(
        "watermark: {delay: 0s, idle_after: 3d}, ", ""
    )
    with pytest.raises(lp.DefinitionError) as found:
        lp.Pipeline.from_yaml(text).compile()
    assert "no source of these rows has a watermark, so that no window would ever close" in str(found.value)
    assert "give one event_time and watermark: {delay: …}" in str(found.value)


def test_closing_needs_a_pipeline() -> None:
    step = {"window": {"time": "t", "every": "1h", "aggregate": {"n": "count(*)"}, "emit": "on_close"}}
    with pytest.raises(lp.DefinitionError, match="windows close only in a pipeline"):
        lp.apply(step, pl.LazyFrame(schema={"t": pl.Datetime("us")}))
    with pytest.raises(lp.DefinitionError, match="after|duration"):
        lp.apply({"closed": {"end": "t", "after": "soon"}}, pl.LazyFrame(schema={"t": pl.Datetime("us")}))
    with pytest.raises(lp.DefinitionError, match="which is not a date or time"):
        lp.apply({"closed": "t"}, pl.LazyFrame(schema={"t": pl.Int64}))


def keeping(emit: str, keep: str, window: str = "window: {time: at, every: 1h,") -> str:
    return DEFINITION.replace("emit: on_close", f"emit: {emit}, keep_results: {keep}").replace(
        "window: {time: at, every: 1h,", window
    )


def test_results_leave_once_they_are_closed_for_long_enough(tmp_path: Path) -> None:
    feed = Feed(tmp_path, keeping("each_run", "2h"))
    feed.deliver("a", 0.5, 1.5, 4)
    feed.deliver("b", 0.2, 3)
    feed.run()
    assert feed.hours() == [0, 1, 3, 4]  # of event time 3.0: the first leaves at 4
    feed.deliver("a", 9)
    feed.deliver("b", 8.6)
    feed.run()
    assert feed.hours() == [8, 9]  # 8.5
    # what is still taken in does not bring them back
    feed.deliver("b", 1.2, 8.7)
    feed.run()
    assert feed.hours() == [8, 9]
    feed.run(full=True)
    assert feed.hours() == [8, 9]
    assert lp.scan(str(tmp_path / "out/hourly")).collect()["n"].sum() == 3


def test_closed_windows_leave_too(tmp_path: Path) -> None:
    feed = Feed(tmp_path, keeping("on_close", "2h"))
    feed.deliver("a", 0.5, 1.5, 4, 5)
    feed.deliver("b", 0.2, 3, 4.5)
    feed.run()
    assert feed.hours() == [1]  # of event time 4.5: closed are those that ended by 3.5, gone those that did by 1.5
    feed.deliver("a", 50)
    feed.deliver("b", 50)
    feed.run()
    assert feed.hours() == []


def test_sessions_leave_a_gap_after_their_last_row(tmp_path: Path) -> None:
    feed = Feed(tmp_path, keeping("each_run", "1h", "session: {time: at, gap: 1h,"))
    feed.deliver("a", 0, 0.5, 7)
    feed.deliver("b", 3, 5)
    feed.run()
    rows = lp.scan(str(tmp_path / "out/hourly")).collect().sort("session_start")
    assert [(s - T0) / timedelta(hours=1) for s in rows["session_start"]] == [3, 5, 7]  # of event time 5.0


def test_for_how_long_results_stay_is_checked(tmp_path: Path) -> None:
    window = {"time": "at", "every": "1h", "aggregate": {"n": "count(*)"}}
    frame = pl.LazyFrame(schema={"at": pl.Datetime("us")})
    with pytest.raises(
        lp.DefinitionError, match="and are removed at that moment, would never be there; write how long to keep them"
    ):
        lp.apply({"window": {**window, "emit": "on_close", "keep_results": "0h"}}, frame)
    with pytest.raises(
        lp.DefinitionError, match="keep_results: keep_results works only in a pipeline, and this is not one"
    ):
        lp.apply({"window": {**window, "keep_results": "1d"}}, frame)
    with pytest.raises(lp.DefinitionError, match="keep: 1mo has months"):
        lp.apply({"closed": {"end": "at", "keep": "1mo"}}, frame)
    text = keeping("each_run", "2h").replace(", watermark: {delay: 30m, idle_after: 3d}", "")
    text = text.replace(", watermark: {delay: 0s, idle_after: 3d}", "")
    with pytest.raises(
        lp.DefinitionError, match="no source of these rows has a watermark, so that no result would ever leave"
    ):
        lp.Pipeline.from_yaml(text, base=str(tmp_path)).compile()
    days = pl.LazyFrame({"at": [T0, None]}, schema={"at": pl.Datetime("us")})
    assert lp.apply({"closed": {"end": "at", "keep": "1d", "open": True}}, days).collect().rows() == [(T0,)]
