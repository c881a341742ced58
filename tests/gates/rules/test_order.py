"""The rules increasing and decreasing: groups, nulls, ties, and a naive oracle."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

NAN, INF = math.nan, math.inf


def rule(name: str, **more: Any) -> dict[str, Any]:
    return {name: {"column": "a", "order_by": "t", **more}}


VALUES: dict[str, tuple[Any, list[Any]]] = {
    "int8": (pl.Int8, [-128, 0, 127]),
    "uint64": (pl.UInt64, [0, 2**63, 2**64 - 1]),
    "int128": (pl.Int128, [-(2**127), 0, 2**127 - 1]),
    "float": (pl.Float64, [-INF, 0.5, INF]),
    "decimal": (pl.Decimal(38, 2), [Decimal("-" + "9" * 36), Decimal("0.01"), Decimal("0.02")]),
    "date": (pl.Date, [date(1, 1, 1), date(2020, 1, 1), date(9999, 12, 31)]),
    "datetime": (pl.Datetime("ns", "UTC"), [datetime(1700, 1, 1), datetime(2020, 1, 1), datetime(2200, 1, 1)]),
    "time": (pl.Time, [time(0), time(1), time(23)]),
    "duration": (pl.Duration("ms"), [timedelta(-1), timedelta(0), timedelta(1)]),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_of_every_type(violations: Any, kind: str) -> None:
    dtype, (low, middle, high) = VALUES[kind]
    frame = pl.DataFrame({"t": range(6), "a": pl.Series([low, middle, middle, None, high, low], dtype=dtype)})
    assert violations(frame, rule("increasing")) == [False, False, False, False, False, True]
    assert violations(frame, rule("increasing", strictly=True)) == [False, False, True, False, False, True]
    back = frame.with_columns(t=5 - pl.col("t"))
    assert violations(back, rule("decreasing")) == [False, False, False, False, True, False]
    assert violations(back, rule("decreasing", strictly=True)) == [False, True, False, False, True, False]
    assert violations(frame.clear(), rule("increasing")) == []


def test_columns_without_values_pass(violations: Any) -> None:
    frame = pl.DataFrame({"t": [1, 2], "n": [None, None], "a": [None, None]}, schema_overrides={"a": pl.Float64})
    for column in ("n", "a"):
        assert violations(frame, {"increasing": {"column": column, "order_by": "t"}}) == [False, False]
    without_order = frame.with_columns(a=pl.Series([2, 1]))
    assert violations(without_order, {"decreasing": {"column": "a", "order_by": "n"}}) == [False, False]


def test_nan_violates_and_is_skipped(violations: Any) -> None:
    frame = pl.DataFrame({"t": range(4), "a": [1.0, NAN, 2.0, 1.5]})
    assert violations(frame, rule("increasing")) == [False, True, False, True]
    assert violations(frame, rule("decreasing")) == [False, True, True, False]


def test_ties_violate_as_little_as_they_can(violations: Any) -> None:
    frame = pl.DataFrame({"t": [1, 1, 1, 2], "a": [2, 3, 2, 3]})
    assert violations(frame, rule("increasing")) == [False] * 4
    assert sum(violations(frame, rule("increasing", strictly=True))) == 2
    assert violations(frame, rule("decreasing")) == [False, False, False, True]


def test_order_is_that_of_several_columns(violations: Any) -> None:
    frame = pl.DataFrame({"t": [2, 1, 2, 1], "u": ["b", "b", "a", "a"], "a": [3, 2, 4, 1]})
    assert violations(frame, rule("increasing", order_by=["t", "u"])) == [True, False, False, False]


stamps = st.none() | st.integers(0, 3)
cells = st.none() | st.sampled_from([NAN, 0.0, 1.0, 2.0])


@given(
    st.lists(st.tuples(st.none() | st.sampled_from("xy"), stamps, cells, st.none() | st.booleans()), max_size=20),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_neighbours_equal_the_oracle(
    violations: Any,
    rows: list[tuple[Any, Any, Any, Any]],
    grouped: bool,
    strictly: bool,
    rising: bool,
    restricted: bool,
) -> None:
    frame = pl.DataFrame(rows, schema={"g": pl.String, "t": pl.Int64, "a": pl.Float64, "w": pl.Boolean}, orient="row")
    sign = 1 if rising else -1
    groups = defaultdict(list)
    wrong: list[tuple[Any, ...]] = []
    for g, t, a, w in rows:
        if a is not None and (w or not restricted):
            if math.isnan(a):
                wrong.append((g, t, "nan"))
            elif t is not None:
                groups[g if grouped else None].append((t, sign * a, g))
    for values in groups.values():
        values.sort(key=lambda v: v[:2])
        for (_, before, _), (t, value, g) in pairwise(values):
            if value < before or (strictly and value == before):
                wrong.append((g if grouped else None, t, sign * value))
    more = {"strictly": strictly, **({"by": "g"} if grouped else {}), **({"where": "w"} if restricted else {})}
    marks = violations(frame, rule("increasing" if rising else "decreasing", **more))

    # which one of two equal rows violates is not said
    found = [
        (g if grouped or math.isnan(a) else None, t, "nan" if math.isnan(a) else a)
        for (g, t, a, _), violates in zip(rows, marks, strict=True)
        if violates
    ]
    assert sorted(found, key=str) == sorted(wrong, key=str)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"column": "s"}, "column 's' is String, and {} is for numbers, dates and times; use regex, format or parseable, or cast it first"),
        ({"column": "b"}, "unknown column 'b'; known columns: a, s, t"),
        ({"order_by": ["t", "u"]}, "unknown column 'u'; known columns: a, s, t"),
        ({"by": "g"}, "unknown column 'g'; known columns: a, s, t"),
        ({"where": "s"}, "a condition must be true or false, and this is String; compare it with something"),
    ],
)  # fmt: skip
def test_wrong_use(refusal: Any, change: dict[str, Any], message: str) -> None:
    frame = pl.DataFrame(schema={"a": pl.Int8, "s": pl.String, "t": pl.Int8})
    for name in ("increasing", "decreasing"):
        assert refusal(frame, rule(name, **change)) == message.format(name)


def test_the_order_must_be_named(refusal: Any) -> None:
    frame = pl.DataFrame(schema={"a": pl.Int8})
    assert (
        refusal(frame, {"increasing": {"column": "a"}})
        == "'order_by' is missing in 'increasing'; add order_by: The columns that order the rows"
    )
