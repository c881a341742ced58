"""The rules in_past and in_future: the run's clock, every unit and time zone, and a naive oracle."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2020, 6, 1, 12, 0, 0, 500_500, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
TICK = {"ms": timedelta(milliseconds=1), "us": timedelta(microseconds=1), "ns": timedelta(microseconds=1)}


def rule(name: str, **more: Any) -> dict[str, Any]:
    return {name: {"column": "a", **more}}


def test_today_is_neither_past_nor_future(violations: Any) -> None:
    days = [date(1, 1, 1), date(2020, 5, 31), date(2020, 6, 1), date(2020, 6, 2), date(9999, 12, 31), None]
    for name, or_now, expected in (
        ("in_past", False, [False, False, True, True, True, False]),
        ("in_past", True, [False, False, False, True, True, False]),
        ("in_future", False, [True, True, True, False, False, False]),
        ("in_future", True, [True, True, False, False, False, False]),
    ):
        assert violations(days, rule(name, or_now=or_now), now=NOW, dtype=pl.Date) == expected
    # the day in UTC, whatever the clock's own time zone
    late = datetime(2020, 6, 1, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    assert violations(days, {"in_past": "a"}, now=late) == [False, False, False, True, True, False]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
@pytest.mark.parametrize("now", [NOW, NOW.replace(microsecond=500_000)])
def test_moments_of_every_unit_and_zone(violations: Any, unit: Any, zone: str | None, now: datetime) -> None:
    whole = now.replace(microsecond=now.microsecond // 1000 * 1000) if unit == "ms" else now
    exact = whole == now
    moments = [whole - TICK[unit], whole, whole + TICK[unit]]
    values = [m.astimezone(ZoneInfo(zone)) if zone else m.replace(tzinfo=None) for m in moments]
    for name, or_now, expected in (
        # between two ticks of the column, the clock is nowhere in it
        ("in_past", False, [False, exact, True, False]),
        ("in_past", True, [False, False, True, False]),
        ("in_future", False, [True, True, False, False]),
        ("in_future", True, [True, not exact, False, False]),
    ):
        frame = pl.DataFrame({"a": pl.Series([*values, None]).cast(pl.Datetime(unit, zone))})
        assert violations(frame, rule(name, or_now=or_now), now=now) == expected


def test_a_clock_without_time_zone_is_of_utc(violations: Any) -> None:
    values = [datetime(2020, 6, 1, 11), datetime(2020, 6, 1, 13)]
    assert violations(values, {"in_past": "a"}, now=NOW.replace(tzinfo=None)) == [False, True]
    aware = [v.replace(tzinfo=BERLIN) for v in [datetime(2020, 6, 1, 13), datetime(2020, 6, 1, 15)]]
    assert violations(aware, {"in_past": "a"}, now=NOW.replace(tzinfo=None)) == [False, True]


def test_a_clock_beyond_nanoseconds(violations: Any) -> None:
    values = [datetime(2262, 1, 1), datetime(1680, 1, 1)]
    for year, past in ((3000, [False, False]), (1600, [True, True])):
        now = datetime(year, 1, 1, tzinfo=UTC)
        assert violations(values, {"in_past": "a"}, now=now, dtype=pl.Datetime("ns")) == past
        assert violations(values, {"in_future": "a"}, now=now, dtype=pl.Datetime("ns")) == [not p for p in past]


def test_no_row_and_no_type(violations: Any) -> None:
    for name in ("in_past", "in_future"):
        assert violations([], {name: "a"}, dtype=pl.Date) == []
        assert violations([None, None], {name: "a"}, dtype=pl.Null) == [False, False]
        assert violations([None], {name: "a"}, dtype=pl.Datetime("us")) == [False]


def test_moments_can_be_clipped(clipped: Any) -> None:
    days = [date(2020, 5, 1), date(2020, 6, 1), date(2020, 7, 1), None]
    for name, or_now, nearest in (
        ("in_past", False, [date(2020, 5, 1), date(2020, 5, 31), date(2020, 5, 31), None]),
        ("in_past", True, [date(2020, 5, 1), date(2020, 6, 1), date(2020, 6, 1), None]),
        ("in_future", False, [date(2020, 6, 2), date(2020, 6, 2), date(2020, 7, 1), None]),
        ("in_future", True, [date(2020, 6, 1), date(2020, 6, 1), date(2020, 7, 1), None]),
    ):
        assert clipped(days, rule(name, or_now=or_now), now=NOW) == nearest
    before = NOW.replace(tzinfo=None, microsecond=500_000)
    assert clipped([datetime(2021, 1, 1)], {"in_past": "a"}, now=NOW, dtype=pl.Datetime("ms")) == [before]


moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))


@given(st.lists(st.none() | moments, max_size=20), moments, st.booleans(), st.data())
def test_moments_equal_the_oracle(
    violations: Any, values: list[datetime | None], now: datetime, or_now: bool, data: Any
) -> None:
    values = [*values, now]
    for name, passes in (
        ("in_past", lambda v, n: v < n or (or_now and v == n)),
        ("in_future", lambda v, n: v > n or (or_now and v == n)),
    ):
        expected = [v is not None and not passes(v, now) for v in values]
        assert violations(values, rule(name, or_now=or_now), now=now, dtype=pl.Datetime("us")) == expected
        days = [None if v is None else v.date() for v in values]
        expected = [d is not None and not passes(d, now.date()) for d in days]
        assert violations(days, rule(name, or_now=or_now), now=now, dtype=pl.Date) == expected
