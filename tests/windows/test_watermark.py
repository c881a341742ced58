"""Watermarks as values: what files came under, per partition, and how sources are put together."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lazypipe.spec.model import Fault
from lazypipe.windows.clock import Clock
from lazypipe.windows.late import Closing, lateness
from lazypipe.windows.watermark import (
    Arrival,
    Extent,
    Progress,
    Watermark,
    combined,
    in_order,
    key,
    reached,
)
from lazypipe.windows.window import windows

US = 1_000_000


def us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("dtype", "first"),
    [
        (pl.Datetime("us"), datetime(1, 1, 1)),
        (pl.Datetime("ms"), datetime(1, 1, 1)),
        (pl.Datetime("ns"), datetime(1677, 9, 21, 0, 12, 43, 145225)),
        (pl.Datetime("us", "Europe/Berlin"), None),
        (pl.Date(), date(1, 1, 1)),
    ],
)
def test_rows_get_what_was_reached_before_their_file(dtype: pl.DataType, first: Any) -> None:
    noon = datetime(2024, 3, 1, 12)
    frame = pl.DataFrame({"t": [noon, noon, None, noon + timedelta(days=9)], "f": ["a", "b", "b", "b"]})
    schema = pl.Schema({"t": dtype})
    rows = frame.with_columns(
        pl.col("t").cast(pl.Datetime("us")).dt.replace_time_zone(getattr(dtype, "time_zone", None))
    )
    rows = rows.with_columns(pl.col("t").cast(dtype))
    arrivals = {"b": Arrival({"": us(noon) - 1}, us(noon) + 86_400 * US)}
    found = rows.select(Watermark("t").counted(schema, arrivals, ["a", "b"], "f")).to_series()
    assert found.dtype == dtype
    assert found[0] == first or first is None
    assert found[2] is None
    assert found[3] is None
    plain = found.cast(pl.Datetime("us")).dt.replace_time_zone(None)[1]
    if dtype == pl.Date:
        assert plain == datetime(2024, 3, 1)
    elif getattr(dtype, "time_zone", None):
        assert found.dt.epoch("us")[1] == us(noon) - 1
    else:
        assert plain == noon - timedelta(microseconds=1000 if dtype == pl.Datetime("ms") else 1)


def test_partitions_are_told_apart_and_null_is_one() -> None:
    frame = pl.DataFrame({"t": [datetime(2024, 1, 1)] * 4, "k": [1, 2, None, 3], "f": ["x"] * 4})
    arrivals = {"x": Arrival({"=1": us(datetime(2023, 1, 1)), "": us(datetime(2022, 1, 1))})}
    rule = Watermark("t", by="k", name="w")
    found = frame.select(rule.counted(frame.schema, arrivals, ["x"], "f"))["w"].to_list()
    assert found == [datetime(2023, 1, 1), datetime(1, 1, 1), datetime(2022, 1, 1), datetime(1, 1, 1)]


def test_a_column_states_it() -> None:
    came = [datetime(2024, 1, 2), None, datetime(2024, 1, 1), datetime(2024, 1, 1)]
    times = [datetime(2024, 1, 1), datetime(2024, 1, 1), datetime(2024, 1, 9), None]
    frame = pl.DataFrame({"t": times, "came": came}, schema={"t": pl.Datetime("ms"), "came": pl.Datetime("us")})
    rule = Watermark("t", column="came", delay=3_600 * US)
    assert not rule.by_files
    found = frame.select(rule.stated(frame.schema)).to_series().to_list()
    assert found == [datetime(2024, 1, 1, 23), datetime(1, 1, 1), None, None]


def test_extents_leave_out_what_is_no_time() -> None:
    moments = [datetime(2024, 1, 1), datetime(2024, 1, 5), datetime(2024, 2, 1), None]
    frame = pl.DataFrame({"t": moments, "k": ["a", "b", "a", "a"], "f": ["x", "x", "x", "y"]})
    bounds = {"x": us(datetime(2024, 1, 20)), "y": None}
    found = Watermark("t", by="k").extents(frame.lazy(), frame.schema, bounds, "f").collect().sort("key").rows()
    # the last says that there are others
    assert found == [
        ("x", "=a", us(moments[0]), us(moments[0]), True),
        ("x", "=b", us(moments[1]), us(moments[1]), False),
    ]
    whole = Watermark("t").extents(frame.lazy(), frame.schema, bounds, "f").collect().rows()
    assert whole == [("x", "", us(moments[0]), us(moments[1]), True)]


def test_files_advance_what_comes_after_them() -> None:
    extents = {"a": {"=p": Extent(0, 50)}, "b": None, "c": {"=p": Extent(10, 20), "=q": Extent(1, 2)}, "d": {}}
    rule = Watermark("t", delay=5, by="k")
    found = in_order("abcd", rule, extents, {"a": 99})
    assert [dict(found[n].before) for n in "abcd"] == [{}, {"=p": 45}, {"=p": 45}, {"=p": 45, "=q": -3}]
    assert (found["a"].bound, found["b"].bound) == (99, None)
    assert (found["a"].low, found["a"].high, found["b"].low, found["d"].high) == (0, 50, None, None)
    assert reached(rule, found.values()) == {"=p": 45, "=q": -3}
    assert found["b"].mark == found["c"].mark != found["d"].mark
    assert Arrival(bound=1).mark != Arrival(bound=2).mark
    assert found["a"].to_plain()[1:] == [99, {"=p": [0, 50]}]
    assert found["b"].to_plain()[2] is None


def test_what_was_counted_by_another_rule_says_nothing() -> None:
    one, later, idle = Watermark("t"), Watermark("t", delay=5), Watermark("t", idle_after=5)
    assert one.about == later.about == idle.about
    assert Watermark("t", by="k").about != one.about != Watermark("u").about
    assert one.closing == idle.closing != later.closing


def test_progress_never_goes_back_and_idle_partitions_are_left_out() -> None:
    one = Progress().advanced({"=a": 10, "=b": 20}, now=0)
    two = one.advanced({"=a": 5, "=b": 30}, now=60)
    assert dict(two.reached) == {"=a": 10, "=b": 30}
    assert two.watermark(idle_after=None, now=1_000) == 10
    assert two.watermark(idle_after=50, now=60) == 30
    assert two.watermark(idle_after=50, now=1_000) == 30  # all are idle: nothing is waited for
    assert Progress().watermark(idle_after=None, now=0) is None
    assert Progress.from_dict(two.to_dict()) == two


def test_sources_are_combined_by_the_least() -> None:
    fresh, stale, none = Progress({"": 90}, {"": 100}), Progress({"": 10}, {"": 0}), Progress()
    assert combined([(fresh, None), (stale, None)], now=100) == 10
    assert combined([(fresh, 50), (stale, 50)], now=100) == 90
    assert combined([(fresh, 50), (stale, 50)], now=900) == 90
    assert combined([(fresh, 50), (none, 50)], now=100) is None
    assert combined([], now=0) is None


def test_keys_tell_null_from_text() -> None:
    found = pl.DataFrame({"k": ["", None, "="]}).select(key("k")).to_series().to_list()
    assert found == ["=", "", "=="]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("soon", "'soon' is not a duration"),
        ("1mo", "1mo has months, which have no fixed length"),
        ("-1h", "-1h is negative"),
        ("11000000d", "11000000d is longer than 30,000 years"),
    ],
)
def test_lateness_is_a_length_of_time(text: str, what: str) -> None:
    with pytest.raises(Fault) as found:
        lateness(text)
    assert (found.value.what, found.value.path) == (what, ("allowed_lateness",))


def judged(every: list[str], moment: datetime, under: datetime, *, late: str = "0s", gap: str | None = None) -> Any:
    schema = pl.Schema({"t": pl.Datetime("us"), "w": pl.Datetime("us")})
    clock = Clock.of("t", schema)
    parts = tuple(windows(clock, e) for e in every)
    open_for = None if gap is None else lateness(gap, "gap")
    closing = Closing("t", clock, parts, open_for, lateness(late), "w", clock)
    frame = pl.DataFrame({"t": [moment], "w": [under]}, schema=schema)
    return frame.select(
        closing.start.alias("a"), closing.end.alias("b"), closing.late_by.alias("c"), closing.late.alias("d")
    ).row(0)


def test_a_row_is_late_from_the_moment_its_window_closes() -> None:
    row = datetime(2024, 1, 1, 10, 20)
    at = datetime(2024, 1, 1, 11)
    assert judged(["1h"], row, at) == (datetime(2024, 1, 1, 10), at, 0, True)
    assert judged(["1h"], row, at - timedelta(microseconds=1))[2:] == (-1, False)
    assert judged(["1h"], row, at, late="30m")[2:] == (-1_800 * US, False)


def test_the_window_that_ends_last_decides() -> None:
    row, under = datetime(2024, 1, 1, 10, 20), datetime(2024, 1, 1, 15)
    day = (datetime(2024, 1, 1), datetime(2024, 1, 2), -9 * 3_600 * US, False)
    assert judged(["1h", "1d"], row, under) == day
    assert judged(["1d", "1h"], row, under) == day
    assert judged(["1d", "6h", "1h"], row, under) == day
    assert judged(["1h", "all"], row, under) == (None, None, None, None)


def test_a_session_is_judged_as_if_the_row_stood_alone() -> None:
    row = datetime(2024, 1, 1, 10, 20)
    found = judged([], row, datetime(2024, 1, 1, 10, 51), gap="30m")
    assert found == (row, datetime(2024, 1, 1, 10, 50), 60 * US, True)
