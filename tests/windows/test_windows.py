"""Windows against loops in Python over the same rows, and against days and hours counted by hand."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import DefinitionError
from lazypipe.plan.explain import explain

EPOCH = datetime(1970, 1, 1)
HOUR = timedelta(hours=1)
ENGINES = st.sampled_from(["in-memory", "streaming"])
ADDS_UP = {"n": "count(*)", "total": "sum(x)", "low": "min(x)"}
WHOLE = {"n": "count(*)", "total": "sum(x)", "low": "min(x)", "kinds": "count(distinct x)"}


def apply(frame: pl.LazyFrame, engine: Any = "streaming", aggregate: Any = None, **window: Any) -> pl.DataFrame:
    step = {"window": {"time": "t", "aggregate": aggregate or {"n": "count(*)"}, **window}}
    return lp.apply(step, frame).collect(engine=engine)


def sums(rows: list[tuple[Any, ...]], *, whole: bool) -> tuple[Any, ...]:
    values = [x for *_, x in rows if x is not None]
    found = (len(rows), sum(values) if values else None, min(values, default=None))
    return (*found, len(set(values))) if whole else found


times = st.none() | st.integers(-5_000, 5_000).map(lambda n: EPOCH + timedelta(minutes=7 * n))
ROWS = st.lists(st.tuples(times, st.sampled_from(["a", "b", None]), st.none() | st.integers(-3, 3)), max_size=10)
UNITS = st.sampled_from(["ms", "us", "ns"])


def frame(rows: list[Any], dtype: pl.DataType) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema={"t": dtype, "g": pl.String(), "x": pl.Int64()}, orient="row")


# --- fixed lengths: every start is tried


@given(
    ROWS,
    st.integers(1, 200),
    st.integers(1, 5),
    st.integers(0, 40),
    st.integers(-300, 300),
    st.booleans(),
    UNITS,
    ENGINES,
)
@example([(EPOCH, "a", 1), (EPOCH - HOUR, "a", 2)], 60, 1, 0, 0, False, "us", "streaming")
def test_lengths_of_time(
    rows: list[Any], every: int, times: int, more: int, offset: int, whole: bool, unit: Any, engine: Any
) -> None:
    period = every * times + more
    expected = defaultdict(list)
    for row in rows:
        if row[0] is not None:
            minutes = (row[0] - EPOCH) // timedelta(minutes=1) - offset
            for start in range(minutes - period - every, minutes + every):
                if start % every == 0 and start <= minutes < start + period:
                    expected[row[1], start + offset].append(row)
    found = apply(
        frame(rows, pl.Datetime(unit)),
        engine,
        WHOLE if whole else ADDS_UP,
        every=f"{every}m",
        period=f"{period}m",
        offset=f"{offset}m",
        by="g",
    )
    assert found.columns[:3] == ["g", "window_start", "window_end"]
    assert found.schema["window_start"] == found.schema["window_end"] == pl.Datetime(unit)
    assert set(found.rows()) == {
        (
            group,
            EPOCH + timedelta(minutes=start),
            EPOCH + timedelta(minutes=start + period),
            *sums(group_rows, whole=whole),
        )
        for (group, start), group_rows in expected.items()
    }
    assert found.height == len(expected)


# --- the calendar: which date the wall clock shows decides, and windows begin when it first shows one

ZONES = ["Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "America/Havana", "Asia/Kolkata", "Pacific/Apia"]
CHANGES = [
    datetime(2024, 3, 31, 1), datetime(2024, 10, 27, 1), datetime(2024, 4, 6, 15), datetime(2024, 10, 5, 15, 30),
    datetime(2018, 11, 4, 3), datetime(2018, 2, 18, 2), datetime(2023, 11, 5, 5), datetime(2024, 3, 10, 5),
    datetime(2011, 12, 30, 10), datetime(2024, 2, 29), datetime(2000, 2, 29), datetime(1969, 12, 31, 23, 45),
    datetime(2020, 12, 31), datetime(1961, 7, 2), datetime(2036, 1, 1),
]  # fmt: skip
moments = st.tuples(st.sampled_from(CHANGES), st.integers(-300, 300)).map(
    lambda m: (m[0] + timedelta(minutes=15 * m[1])).replace(tzinfo=UTC)
)
CALENDAR = ["1d", "3d", "1w", "2w", "1mo", "5mo", "1q", "1y", "10y"]


def first_day(day: date, every: str, shift: int) -> date:
    """Return the first day of the calendar window that a day lies in, ``shift`` days or months late."""
    number = int(every.rstrip("dwmoqy"))
    unit = every.lstrip("0123456789")
    if unit in ("d", "w"):
        size, zero = (number, date(1970, 1, 1)) if unit == "d" else (7 * number, date(1969, 12, 29))
        zero += timedelta(days=shift)
        return day - timedelta(days=(day - zero).days % size)
    size = number * {"mo": 1, "q": 3, "y": 12}[unit]
    months = (day.year - 1970) * 12 + day.month - 1 - shift
    year, month = divmod(months - months % size + shift + 1970 * 12, 12)
    return date(year, month + 1, 1)


def next_day(first: date, every: str) -> date:
    number = int(every.rstrip("dwmoqy"))
    unit = every.lstrip("0123456789")
    if unit in ("d", "w"):
        return first + timedelta(days=number * (7 if unit == "w" else 1))
    size = number * {"mo": 1, "q": 3, "y": 12}[unit]
    year, month = divmod(first.year * 12 + first.month - 1 + size, 12)
    return date(year, month + 1, 1)


def begin(day: date, zone: ZoneInfo, late: timedelta) -> datetime:
    """Return the first moment whose wall clock shows the day, or a later one: a quarter of an hour at a time."""
    wall = datetime.combine(day, datetime.min.time()) + late
    moment = (wall - timedelta(hours=30)).replace(tzinfo=UTC)
    while moment.astimezone(zone).replace(tzinfo=None) < wall:
        moment += timedelta(minutes=15)
    return moment


@given(
    st.lists(moments, min_size=1, max_size=5),
    st.sampled_from(ZONES),
    st.sampled_from(CALENDAR),
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([0, 0, 6, 23]),
    UNITS,
    ENGINES,
)
def test_the_calendar_in_a_zone(
    rows: list[datetime], name: str, every: str, shift: int, late: int, unit: Any, engine: Any
) -> None:
    zone, days = ZoneInfo(name), every[-1] in "dw"
    expected: dict[Any, int] = defaultdict(int)
    for row in rows:
        wall = row.astimezone(zone).replace(tzinfo=None) - timedelta(hours=late)
        expected[first_day(wall.date(), every, shift)] += 1
    offset = f"{shift}{'d' if days else 'mo'}{late}h"
    found = apply(
        pl.LazyFrame({"t": rows}, schema={"t": pl.Datetime(unit, "UTC")}),
        engine,
        every=every,
        offset=offset,
        time_zone=name,
    )
    assert found.schema["window_start"] == pl.Datetime(unit, name)
    assert sorted(found.rows()) == sorted(
        (begin(first, zone, timedelta(hours=late)), begin(next_day(first, every), zone, timedelta(hours=late)), count)
        for first, count in expected.items()
    )


@given(st.lists(st.dates(date(1, 1, 2), date(9980, 1, 1)), max_size=5), st.sampled_from(CALENDAR), st.booleans())
@example([date(2024, 2, 29), date(1900, 2, 28), date(2000, 2, 29), date(1582, 10, 15)], "1mo", True)
def test_the_calendar_as_it_is(rows: list[date], every: str, dates: bool) -> None:
    # ten years may begin before the first year that Python has
    rows = [r for r in rows if r.year > 20]
    dtype = pl.Date() if dates else pl.Datetime("us")
    found = apply(pl.LazyFrame({"t": rows}, schema={"t": pl.Date()}).cast(dtype), every=every)
    expected: dict[date, int] = defaultdict(int)
    for row in rows:
        expected[first_day(row, every, 0)] += 1
    assert found.schema["window_end"] == dtype
    assert sorted(found.cast({"window_start": pl.Date(), "window_end": pl.Date()}).rows()) == sorted(
        (first, next_day(first, every), count) for first, count in expected.items()
    )


# --- by hand


def each(start: datetime, end: datetime, step: timedelta, zone: str) -> pl.LazyFrame:
    count = (end - start) // step
    return pl.LazyFrame({"t": [start + n * step for n in range(count)]}, schema={"t": pl.Datetime("us", "UTC")}).select(
        pl.col("t").dt.convert_time_zone(zone)
    )


@pytest.mark.parametrize(
    ("zone", "start", "quarters"),
    [
        ("Europe/Berlin", datetime(2024, 3, 29, 23, tzinfo=UTC), [96, 92, 96]),
        ("Europe/Berlin", datetime(2024, 10, 25, 22, tzinfo=UTC), [96, 100, 96]),
        ("Australia/Lord_Howe", datetime(2024, 4, 5, 13, tzinfo=UTC), [96, 98, 96]),
        ("Australia/Lord_Howe", datetime(2024, 10, 4, 13, 30, tzinfo=UTC), [96, 94, 96]),
        # midnight itself is skipped, or comes twice
        ("America/Sao_Paulo", datetime(2018, 11, 3, 3, tzinfo=UTC), [96, 92, 96]),
        ("America/Havana", datetime(2023, 11, 4, 4, tzinfo=UTC), [96, 100, 96]),
        ("Asia/Kathmandu", datetime(1985, 12, 30, 18, 30, tzinfo=UTC), [96, 95, 96]),
        # the 30th of December did not happen
        ("Pacific/Apia", datetime(2011, 12, 29, 10, tzinfo=UTC), [96, 96, 96]),
        ("UTC", datetime(2024, 3, 30, tzinfo=UTC), [96, 96, 96]),
    ],
)
def test_days_are_as_long_as_they_were(zone: str, start: datetime, quarters: list[int]) -> None:
    quarter = timedelta(minutes=15)
    frame = each(start, start + sum(quarters) * quarter, quarter, zone)
    found = apply(frame, every="1d").sort("window_start")
    assert found["n"].to_list() == quarters
    assert ((found["window_end"] - found["window_start"]) / quarter).to_list() == quarters
    assert found["window_start"].to_list()[1:] == found["window_end"].to_list()[:-1]
    assert found["window_start"][0] == start


@pytest.mark.parametrize(
    ("zone", "day", "first"),
    [
        # clocks were put forward at midnight, by as much as the sun's time was behind
        ("Europe/Berlin", date(1893, 4, 1), datetime(1893, 3, 31, 23, 6, 32, tzinfo=UTC)),
        ("Africa/Monrovia", date(1972, 1, 7), datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC)),
        ("Pacific/Kwajalein", date(1993, 8, 22), datetime(1993, 8, 21, 12, tzinfo=UTC)),
    ],
)
def test_days_begin_when_clocks_go_on_to_the_second(zone: str, day: date, first: datetime) -> None:
    second = timedelta(seconds=1)
    assert (first - second).astimezone(ZoneInfo(zone)).date() < day == first.astimezone(ZoneInfo(zone)).date()
    frame = pl.LazyFrame({"t": [first - second, first]}, schema={"t": pl.Datetime("us", "UTC")})
    found = apply(frame, every="1d", time_zone=zone).sort("window_start")
    assert found["window_start"].to_list()[1] == first
    assert found["window_end"].to_list()[0] == first


def test_hours_are_hours_when_clocks_change() -> None:
    frame = each(
        datetime(2024, 10, 26, 23, tzinfo=UTC), datetime(2024, 10, 27, 4, tzinfo=UTC), HOUR / 4, "Europe/Berlin"
    )
    found = apply(frame, every="1h").sort("window_start")
    assert found["n"].to_list() == [4] * 5
    assert [str(t) for t in found["window_start"].dt.strftime("%H:%M %Z")] == [
        "01:00 CEST",
        "02:00 CEST",
        "02:00 CET",
        "03:00 CET",
        "04:00 CET",
    ]


def test_hours_begin_where_the_zones_hours_do() -> None:
    frame = pl.LazyFrame({"t": [datetime(2024, 1, 1, 10, 10, tzinfo=UTC)]})
    found = apply(frame, every="1h", time_zone="Asia/Kolkata")
    assert found["window_start"].dt.replace_time_zone(None).to_list() == [datetime(2024, 1, 1, 15, 0)]


def test_several_at_once() -> None:
    rows = [datetime(2024, 2, 29, 23, 30, tzinfo=UTC), datetime(2024, 3, 1, 0, 10, tzinfo=UTC), None]
    frame = pl.LazyFrame({"t": rows, "x": [1, 2, 4]}, schema_overrides={"t": pl.Datetime("us", "UTC")})
    for aggregate in ({"s": "sum(x)"}, {"s": "median(x)"}):
        found = apply(frame, aggregate=aggregate, every=["1h", "1d", "1mo", "all"], time_zone="Europe/Berlin")
        assert found.columns == ["window", "window_start", "window_end", "s"]
        local = found.with_columns(pl.col("window_start", "window_end").dt.strftime("%m-%d %H"))
        middle = 3 if aggregate["s"].startswith("sum") else 1.5
        assert sorted(local.rows(), key=repr) == sorted(
            [
                ("1h", "03-01 00", "03-01 01", 1),
                ("1h", "03-01 01", "03-01 02", 2),
                ("1d", "03-01 00", "03-02 00", middle),
                ("1mo", "03-01 00", "04-01 00", middle),
                ("all", None, None, middle),
            ],
            key=repr,
        )


def test_sliding_days_across_a_change_of_clocks() -> None:
    frame = each(datetime(2024, 3, 29, 23, tzinfo=UTC), datetime(2024, 4, 1, 22, tzinfo=UTC), HOUR, "Europe/Berlin")
    found = apply(frame, every="1d", period="2d").sort("window_start")
    assert found["n"].to_list() == [24, 47, 47, 24]
    months = apply(pl.LazyFrame({"t": [date(2024, 2, 29)]}), every="1mo", period="1q").sort("window_start")
    assert months.rows() == [
        (date(2023, 12, 1), date(2024, 3, 1), 1),
        (date(2024, 1, 1), date(2024, 4, 1), 1),
        (date(2024, 2, 1), date(2024, 5, 1), 1),
    ]


def test_what_nanoseconds_do_not_reach_is_their_first_and_last() -> None:
    least, most = -(2**63) + 1, 2**63 - 1
    frame = pl.LazyFrame({"t": pl.Series([least, most]).cast(pl.Datetime("ns"))})
    for every in ("1d", "1mo", "1h"):
        found = apply(frame, every=every).sort("window_start").cast(pl.Int64)
        # to the microsecond within
        assert found["window_start"][0] - least in range(1_000_000)
        assert most - found["window_end"][1] in range(1_000_000)
        assert found["n"].to_list() == [1, 1]


def test_months_in_utc() -> None:
    frame = pl.LazyFrame({"t": [datetime(2024, 2, 29, 23, 59, tzinfo=UTC)]})
    assert apply(frame, every="1mo").rows() == [(datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), 1)]


def test_years_that_python_does_not_have() -> None:
    frame = pl.LazyFrame({"t": pl.Series([-800_000, 4_000_000]).cast(pl.Int32).cast(pl.Date)})
    found = apply(frame, every="1y").sort("window_start")
    assert found["window_start"].dt.year().to_list() == frame.collect()["t"].dt.year().to_list()
    assert found["window_end"].dt.year().to_list() == [y + 1 for y in frame.collect()["t"].dt.year()]


# --- plans


@pytest.mark.parametrize("dtype", [pl.Date(), pl.Datetime("us"), pl.Datetime("ns", "Europe/Berlin")])
@pytest.mark.parametrize(
    "window",
    [
        {"every": "1d"},
        {"every": "1mo", "period": "1q"},
        {"every": "1d", "period": "7d"},
        {"every": "2d", "period": "3d"},
        {"every": ["1d", "1w", "all"]},
    ],
)
def test_nothing_falls_back_to_the_engine_in_memory(dtype: pl.DataType, window: Any) -> None:
    frame = pl.LazyFrame(schema={"t": dtype, "g": pl.String(), "x": pl.Int64()})
    frame = pl.concat([frame, frame])  # rows of one empty frame are in any order
    for aggregate in (ADDS_UP, WHOLE, WHOLE | {"mid": "median(x)"}):
        lowered = lp.apply({"window": {"time": "t", "by": "g", "aggregate": aggregate, **window}}, frame)
        assert "in-memory engine" not in explain(lowered, "physical")


def test_windows_that_overlap_do_not_multiply_rows() -> None:
    lowered = lp.apply(
        {"window": {"time": "t", "every": "1h", "period": "24h", "aggregate": ADDS_UP}},
        pl.LazyFrame(schema={"t": pl.Datetime("us"), "x": pl.Int64()}),
    )
    lines = explain(lowered, "physical").splitlines()
    exploded = next(i for i, line in enumerate(lines) if "EXPLODE" in line)
    assert any("group-by" in line for line in lines[exploded:])


# --- mistakes

SCHEMA = {
    "t": pl.Datetime("us"),
    "u": pl.Datetime("us", "UTC"),
    "b": pl.Datetime("us", "Europe/Berlin"),
    "n": pl.Datetime("ns"),
    "d": pl.Date(),
    "s": pl.String(),
    "x": pl.Int64(),
    "window_start": pl.Int64(),
}
LENGTH = "write one such as 15m, 1h, 1d, 1w, 1mo, 1q or 1y"
EVERY = f"{LENGTH}, or all for one window over all time"


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"every": "0h"}, "window.every: 0h is not a valid window length; write one above zero, such as 1h"),
        ({"every": "-1h"}, "window.every: -1h is not a valid window length; write one above zero, such as 1h"),
        ({"every": "1h", "period": "-2h"}, "window.period: -2h is not a valid window length; write one above zero, such as 1h"),
        ({"every": "hourly"}, f"window.every: 'hourly' is not a duration; {EVERY}"),
        ({"every": ["1d", "1 hour"]}, f"window.every[1]: '1 hour' is not a duration; {EVERY}"),
        ({"every": "1.5mo"}, f"window.every: '1.5mo' has a part of a month or of a nanosecond; {EVERY}"),
        ({"every": "1h", "offset": "x"}, f"window.offset: 'x' is not a duration; {LENGTH}"),
        ({"every": "30001y"}, "window.every: 30001y is longer than 30,000 years; write a shorter one"),
        ({"every": "1d", "offset": "-11000000d"}, "window.offset: -11000000d is longer than 30,000 years; write a shorter one"),
        ({"every": ["1h", "1h"]}, "window.every[1]: 1h is listed twice in every; remove one of them"),
        ({"every": ["1h", "1d", "60m"]}, "window.every[2]: windows of 60m are the same as those of 1h; remove one of them"),
        ({"every": ["24h", "1d"]}, "window.every[1]: windows of 1d are the same as those of 24h; remove one of them"),
        ({"every": ["1q", "3mo"]}, "window.every[1]: windows of 3mo are the same as those of 1q; remove one of them"),
        (
            {"every": ["1h", "1d"], "period": "2d"},
            "window.period: overlapping windows cannot have several lengths in one stage; give one every with a period, or several without",
        ),
        (
            {"every": "1h", "period": "30m"},
            "window.period: windows of 30m that begin each 1h leave gaps between them; write a period at least as long as every",
        ),
        ({"every": "all", "period": "1h"}, "window.period: windows over all time have no period; remove period"),
        ({"every": "all", "offset": "1h"}, "window.offset: windows over all time have no offset; remove offset"),
        ({"every": "1mo1d"}, "window.every: 1mo1d mixes months with shorter units; write one or the other"),
        (
            {"every": "1mo", "period": "40d"},
            "window.period: the period 40d cannot be counted in months, and windows begin each 1mo; write the period in months",
        ),
        (
            {"every": "1d", "period": "1mo"},
            "window.period: the period 1mo cannot be counted in hours and days, and windows begin each 1d; write the period in hours and days",
        ),
        (
            {"time": "b", "every": "1d", "period": "36h"},
            "window.period: the period 36h cannot be counted in days, and windows begin each 1d; write the period in days",
        ),
        (
            {"time": "b", "every": "1d", "offset": "1mo"},
            "window.offset: the offset 1mo cannot be counted in days, and windows begin each 1d; write the offset in days",
        ),
        (
            {"time": "b", "every": "1h", "period": "1d"},
            "window.period: 1d has days, which are not all of 24 hours in Europe/Berlin; write hours instead, or days and nothing else in all of them",
        ),
        ({"time": "d", "every": "1h"}, "window.every: 1h is finer than what Date tells apart; write a longer one"),
        ({"time": "d", "every": "1mo", "offset": "1h"}, "window.offset: 1h is finer than what Date tells apart; write a longer one"),
        ({"time": "n", "every": "1ns"}, "window.every: 1ns is finer than a microsecond; write a longer one"),
        ({"every": "1s", "period": "1d"}, "window.every: each row would be in 86,400 windows of 1d; start them less often than each 1s"),
        ({"time": "tt", "every": "1h"}, "window.time: unknown column 'tt'; did you mean 't'?"),
        (
            {"time": "s", "every": "1h"},
            "window.time: column 's' is String, which is not a date or time; name a column of dates or datetimes, or cast it first",
        ),
        ({"time": "u", "every": "1h", "time_zone": "Mars"}, "window.time_zone: unknown time zone 'Mars'; write one such as UTC or Europe/Berlin"),
        (
            {"every": "1h", "time_zone": "Europe/Berlin"},
            "window.time_zone: column 't' is Datetime(us), which has no time zone; remove time_zone, or cast the column to Datetime(us, Europe/Berlin) first",
        ),
        (
            {"time": "d", "every": "1d", "time_zone": "UTC"},
            "window.time_zone: column 'd' is Date, which has no time zone; remove time_zone, or cast the column to Datetime(us, UTC) first",
        ),
        ({"every": "1h", "by": ["x", "window_start"]}, "window.by[1]: windows have a column 'window_start' of their own; rename it first"),
        (
            {"every": "1h", "aggregate": {"window_end": "count(*)"}},
            "window.aggregate.window_end: windows have a column 'window_end' of their own; give the aggregate another name",
        ),
        (
            {"every": ["1h", "1d"], "aggregate": {"window": "count(*)"}},
            "window.aggregate.window: windows have a column 'window' of their own; give the aggregate another name",
        ),
        ({"every": "1h", "aggregate": {"n": "sum(xx)"}}, "window.aggregate.n: unknown column 'xx'; did you mean 'x'?"),
        ({"every": "1h", "by": "xx"}, "window.by[0]: unknown column 'xx'; did you mean 'x'?"),
    ],
)  # fmt: skip
def test_mistakes(window: dict[str, Any], said: str) -> None:
    step = {"window": {"time": "t", "aggregate": {"n": "count(*)"}, **window}}
    with pytest.raises(DefinitionError) as caught:
        lp.apply(step, pl.LazyFrame(schema=SCHEMA))
    assert str(caught.value) == said


def test_window_is_a_name_as_others_where_there_is_one_kind() -> None:
    frame = pl.LazyFrame({"t": [EPOCH], "window": [1]})
    assert apply(frame, every="1h", by="window").columns == ["window", "window_start", "window_end", "n"]
