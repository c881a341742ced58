"""The rule between: bounds of every type, open and closed, the nearest allowed value, and a naive oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

NAN, INF = math.nan, math.inf
BERLIN = ZoneInfo("Europe/Berlin")


def column(values: Sequence[Any], dtype: Any = None) -> pl.DataFrame:
    return pl.DataFrame({"a": pl.Series("a", values, dtype=dtype, strict=False)})


MOMENT = datetime(2020, 6, 1, 12, 0, 0, 500_000)
BOUNDS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    # type, (below, at, above), ways to write the bound "at"
    "int8": (pl.Int8, [-1, 0, 1], [0, 0.0]),
    "uint64": (pl.UInt64, [2**63, 2**63 + 1, 2**64 - 1], [2**63 + 1]),
    "int64": (pl.Int64, [2**53, 2**53 + 1, 2**53 + 2], [2**53 + 1]),
    "int128": (pl.Int128, [10**30, 10**30 + 1, 10**30 + 2], [10**30 + 1]),
    "float32": (pl.Float32, [0.0, 0.1, 0.2], [0.1]),
    "float64": (pl.Float64, [-INF, 0.5, INF], [0.5]),
    "zero": (pl.Float64, [-1e-300, -0.0, 1e-300], [0, 0.0, -0.0]),
    "infinite": (pl.Float64, [1e308, INF, None], [INF]),
    "decimal": (
        pl.Decimal(10, 2),
        [Decimal("0.11"), Decimal("0.12"), Decimal("0.13")],
        [0.12, "0.12", Decimal("0.120")],
    ),
    "date": (pl.Date, [date(2020, 5, 31), date(2020, 6, 1), date(2020, 6, 2)], ["2020-06-01", datetime(2020, 6, 1)]),
    "time": (pl.Time, [time(0), time(12, 30), time(23)], ["12:30", "12:30:00"]),
    "duration": (pl.Duration("ms"), [timedelta(0), timedelta(seconds=90), timedelta(days=1)], ["90s", "1.5m"]),
    "ms": (pl.Datetime("ms"), [MOMENT - timedelta(milliseconds=1), MOMENT, datetime(9999, 1, 1)], [MOMENT.isoformat()]),
    "us": (pl.Datetime("us"), [MOMENT - timedelta(microseconds=1), MOMENT, datetime(9999, 1, 1)], [str(MOMENT)]),
    "midnight": (
        pl.Datetime("us"),
        [datetime(1, 1, 1), datetime(2020, 6, 1), MOMENT],
        ["2020-06-01", date(2020, 6, 1)],
    ),
    "far": (pl.Datetime("us"), [MOMENT, datetime(9999, 12, 31), None], ["9999-12-31", date(9999, 12, 31)]),
    "utc": (
        pl.Datetime("us", "UTC"),
        [MOMENT.replace(tzinfo=UTC) - timedelta(hours=1), MOMENT.replace(tzinfo=UTC), None],
        [str(MOMENT), f"{MOMENT}+00:00", f"{MOMENT + timedelta(hours=2)}+02:00"],
    ),
    "berlin": (
        pl.Datetime("ms", "Europe/Berlin"),
        [MOMENT.replace(tzinfo=BERLIN) - timedelta(hours=1), MOMENT.replace(tzinfo=BERLIN), None],
        [str(MOMENT), MOMENT, f"{MOMENT}+02:00", MOMENT.replace(tzinfo=BERLIN).astimezone(UTC)],
    ),
    "text": (pl.String, ["a", "b", "ä"], ["b"]),
}


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize("as_param", [False, True])
def test_between_bounds_of_every_type(violations: Any, kind: str, as_param: bool) -> None:
    dtype, values, ways = BOUNDS[kind]
    frame = column([*values, None], dtype)
    known = [v is not None for v in frame["a"]]
    for written in [*ways, values[1]]:
        bound, params = (":b", {"b": written}) if as_param else (written, {})
        for side, closed, expected in (
            ("min", "both", [True, False, False]),
            ("min", "left", [True, False, False]),
            ("min", "right", [True, True, False]),
            ("max", "both", [False, False, True]),
            ("max", "right", [False, False, True]),
            ("max", "none", [False, True, True]),
        ):
            rule = {"between": {"column": "a", side: bound, "closed": closed}}
            wanted = [v and k for v, k in zip([*expected, False], known, strict=True)]
            assert violations(frame, rule, params) == wanted, (written, side, closed)


def test_between_on_nanoseconds_is_exact(violations: Any) -> None:
    frame = pl.DataFrame({"a": [122, 123, 124]}).select(
        pl.lit(datetime(2020, 1, 1)).cast(pl.Datetime("ns")) + pl.duration(nanoseconds="a")
    )
    frame.columns = ["a"]
    bound = "2020-01-01T00:00:00.000000123"
    assert violations(frame, {"between": {"column": "a", "min": bound}}) == [True, False, False]
    assert violations(frame, {"between": {"column": "a", "max": bound}}) == [False, False, True]
    assert violations(frame, {"in_set": {"column": "a", "values": [bound]}}) == [True, False, True]


def test_a_fraction_bounds_whole_numbers(violations: Any) -> None:
    assert violations(column([0, 1, None]), {"between": {"column": "a", "min": 0.5}}) == [True, False, False]
    assert violations(column([0, 1, None]), {"between": {"column": "a", "max": INF}}) == [False, False, False]
    cents = column([Decimal("0.12"), Decimal("0.13")], pl.Decimal(10, 2))
    assert violations(cents, {"between": {"column": "a", "min": 0.125}}) == [True, False]


def test_a_column_without_type_passes(violations: Any) -> None:
    assert violations([None, None], {"between": {"column": "a", "min": 1}}, dtype=pl.Null) == [False, False]


floats = st.none() | st.floats(width=32) | st.sampled_from([-0.0, 0.0, NAN, INF, -INF, 0.5])


def outside(value: float | None, least: float | None, most: float | None, closed: str) -> bool:
    if value is None:
        return False
    if math.isnan(value):
        return True
    low = least is not None and (value < least or (value == least and closed in ("right", "none")))
    return low or (most is not None and (value > most or (value == most and closed in ("left", "none"))))


@given(
    st.lists(st.tuples(floats, st.none() | st.booleans()), max_size=20),
    st.floats(allow_nan=False, width=32) | st.sampled_from([0.5, 0.0]),
    st.floats(allow_nan=False, width=32) | st.none(),
    st.sampled_from(["both", "left", "right", "none"]),
    st.sampled_from([pl.Float32, pl.Float64]),
)
def test_between_equals_the_oracle(
    violations: Any,
    rows: list[tuple[float | None, bool | None]],
    one: float,
    two: float | None,
    closed: str,
    dtype: Any,
) -> None:
    least, most = (one, two) if two is None or one <= two else (two, one)
    if least == most:
        closed = "both"
    frame = pl.DataFrame(rows, schema={"a": dtype, "w": pl.Boolean}, orient="row")
    bounds = {k: v for k, v in {"min": least, "max": most}.items() if v is not None}
    expected = [outside(a, least, most, closed) and w is True for a, w in rows]
    assert violations(frame, {"between": {"column": "a", **bounds, "closed": closed, "where": "w"}}) == expected


# the nearest allowed value

DAY = date(2020, 1, 1)
NEAREST: list[tuple[Any, dict[str, Any], list[Any], list[Any]]] = [
    # type, bounds, values, what they become
    (pl.Int8, {"min": 1, "max": 3}, [-128, 0, 1, 3, 4, None], [1, 1, 1, 3, 3, None]),
    (pl.Int8, {"min": 1, "max": 3, "closed": "none"}, [0, 1, 2, 3], [2, 2, 2, 2]),
    (pl.Int8, {"min": 1, "closed": "right"}, [0, 1, 2], [2, 2, 2]),
    (pl.Int8, {"max": 3, "closed": "left"}, [2, 3, 127], [2, 2, 2]),
    (pl.Int8, {"min": 0.5, "max": 2.5}, [0, 1, 3], [1, 1, 2]),
    (pl.Int8, {"min": 0.5, "max": 2.5, "closed": "none"}, [0, 1, 3], [1, 1, 2]),
    (pl.Int8, {"min": -300, "max": 1}, [-128, 5], [-128, 1]),
    (pl.Int64, {"min": -INF, "max": 1}, [-(2**63), 5], [-(2**63), 1]),
    (pl.UInt128, {"min": 2, "max": 5}, [1, 2**128 - 1], [2, 5]),
    (pl.UInt8, {"min": 250}, [1, 255], [250, 255]),
    (
        pl.Decimal(5, 2),
        {"min": 0.125, "max": 1},
        [Decimal("0.12"), Decimal("1.01")],
        [Decimal("0.13"), Decimal("1.00")],
    ),
    (pl.Decimal(5, 2), {"min": 0, "closed": "none"}, [Decimal("0.00"), Decimal("-1.00")], [Decimal("0.01")] * 2),
    (pl.Decimal(5, 2), {"max": 10**6}, [Decimal("999.99")], [Decimal("999.99")]),
    (pl.Float32, {"min": 0, "max": 0.5}, [-1.0, 0.25, 9.0, INF, NAN, None], [0.0, 0.25, 0.5, 0.5, NAN, None]),
    (pl.Float64, {"max": 1, "closed": "right"}, [2.0, -INF], [1.0, -INF]),
    (pl.Float64, {"min": 1, "closed": "left"}, [0.0, INF, NAN], [1.0, INF, NAN]),
    (pl.String, {"min": "b", "max": "d"}, ["a", "c", "dd", None], ["b", "c", "d", None]),
    (pl.Date, {"min": "2020-01-01", "closed": "none"}, [DAY, date(2021, 1, 1)], [date(2020, 1, 2), date(2021, 1, 1)]),
    (pl.Date, {"max": "2020-01-01"}, [date(9999, 12, 31)], [DAY]),
    (
        pl.Datetime("ms", "Europe/Berlin"),
        {"max": "2020-01-01T00:00:00", "closed": "none"},
        [datetime(2020, 1, 1, tzinfo=BERLIN)],
        [datetime(2019, 12, 31, 23, 59, 59, 999_000, tzinfo=BERLIN)],
    ),
    (pl.Duration("us"), {"min": "1s", "closed": "none"}, [timedelta(0)], [timedelta(seconds=1, microseconds=1)]),
    (pl.Time, {"min": "12:00", "max": "13:00"}, [time(0), time(23)], [time(12), time(13)]),
]


@pytest.mark.parametrize("case", range(len(NEAREST)))
def test_what_is_outside_can_be_clipped(clipped: Any, case: int) -> None:
    dtype, bounds, values, expected = NEAREST[case]
    found = clipped(values, {"between": {"column": "a", **bounds}}, dtype=dtype)
    assert [str(v) for v in found] == [str(v) for v in expected]


@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [
        (pl.Float64, {"min": 1, "closed": "none"}),
        (pl.Float64, {"max": 1, "closed": "left"}),
        (pl.String, {"min": "a", "max": "b", "closed": "left"}),
        (pl.Int8, {"min": 1, "max": 2, "closed": "none"}),
        (pl.UInt8, {"min": 300}),
        (pl.UInt8, {"max": -1}),
        (pl.Time, {"max": "00:00", "closed": "none"}),
    ],
)
def test_there_may_be_no_nearest_value(refusal: Any, dtype: Any, bounds: dict[str, Any]) -> None:
    rule = {"between": {"column": "a", **bounds, "action": "repair", "repair": {"clip": True}}}
    message = "there is no nearest value to clip to; write set: or default:"
    assert refusal(pl.DataFrame(schema={"a": dtype}), rule) == message


@given(
    st.lists(st.none() | st.integers(-128, 127), min_size=1, max_size=10),
    st.floats(-10, 10) | st.integers(-10, 10),
    st.floats(0.5, 10),
    st.sampled_from(["both", "left", "right", "none"]),
)
def test_the_nearest_value_is_the_nearest(
    clipped: Any, values: list[int | None], least: float, width: float, closed: str
) -> None:
    most = least + width
    allowed = [v for v in range(-128, 128) if not outside(v, least, most, closed)]
    if allowed:
        rule = {"between": {"column": "a", "min": least, "max": most, "closed": closed}}
        expected = [None if v is None else min(allowed, key=lambda w: abs(w - v)) for v in values]
        assert clipped(values, rule, dtype=pl.Int8) == expected
