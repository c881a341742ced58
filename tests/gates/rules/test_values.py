"""The rules not_null, null, not_empty, in_set and not_in_set: every type, and naive oracles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp

NAN, INF = math.nan, math.inf
BERLIN = ZoneInfo("Europe/Berlin")
floats = st.none() | st.floats(width=32) | st.sampled_from([-0.0, 0.0, NAN, INF, -INF, 0.5])


def column(values: Sequence[Any], dtype: Any = None) -> pl.DataFrame:
    return pl.DataFrame({"a": pl.Series("a", values, dtype=dtype, strict=False)})


# not_null


def test_not_null_takes_null_only(violations: Any) -> None:
    assert violations(column([None, NAN, 0.0, INF]), {"not_null": "a"}) == [True, False, False, False]
    assert violations(column(["", None]), {"not_null": "a"}) == [False, True]
    assert violations(column([None, None], pl.Int8), {"not_null": "a"}) == [True, True]
    assert violations(column([None, None], pl.Null), {"not_null": "a"}) == [True, True]
    assert violations(column([[], None, [None]], pl.List(pl.Int8)), {"not_null": "a"}) == [False, True, False]
    assert violations(column([{"x": None}, None], pl.Struct({"x": pl.Int8})), {"not_null": "a"}) == [False, True]
    assert violations(column([], pl.Int8), {"not_null": "a"}) == []


def test_not_null_makes_a_check_per_column(violations: Any) -> None:
    frame = pl.DataFrame({"a": [1, None], "b": [None, None]}, schema={"a": pl.Int8, "b": pl.Int8})
    report = lp.check(frame, [{"not_null": ["a", "b"]}])
    assert report.failed == {"not_null:a": 1, "not_null:b": 2}


# null


def test_null_takes_every_value(violations: Any) -> None:
    assert violations([None, NAN, 0.0], {"null": "a"}) == [False, True, True]
    assert violations(["", None], {"null": "a"}) == [True, False]
    assert violations([None, None], {"null": "a"}, dtype=pl.Null) == [False, False]
    assert violations([[], None, [None]], {"null": "a"}, dtype=pl.List(pl.Int8)) == [True, False, True]
    assert violations([], {"null": "a"}, dtype=pl.Int8) == []
    frame = pl.DataFrame({"a": [1, None], "b": [None, None]}, schema={"a": pl.Int8, "b": pl.Int8})
    assert lp.check(frame, [{"null": ["a", "b"]}]).failed == {"null:a": 1}


@given(st.lists(st.tuples(floats, st.none() | st.booleans()), max_size=20))
def test_null_and_not_null_equal_the_oracle(violations: Any, rows: list[tuple[float | None, bool | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Float64, "w": pl.Boolean}, orient="row")
    assert violations(frame, {"null": {"columns": "a", "where": "w"}}) == [a is not None and w is True for a, w in rows]
    assert violations(frame, {"not_null": {"columns": "a", "where": "w"}}) == [a is None and w is True for a, w in rows]


# not_empty


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.String, ["", " ", "\0", None]),
        (pl.Categorical, ["", "a", " ", None]),
        (pl.Enum(["", "a"]), ["", "a", "a", None]),
        (pl.Enum(["b", "a"]), [None, "a", "b", None]),
        (pl.Binary, [b"", b"\0", b" ", None]),
        (pl.List(pl.Int8), [[], [None], [1], None]),
        (pl.Array(pl.Int8, 0), [[], [], [], None]),
        (pl.Array(pl.Int8, 1), [[None], [1], [2], None]),
        (pl.Null, [None, None, None, None]),
    ],
)
def test_not_empty_of_every_type_with_a_length(violations: Any, dtype: Any, values: list[Any]) -> None:
    expected = [v is not None and len(v) == 0 for v in values]
    assert violations(values, {"not_empty": "a"}, dtype=dtype) == expected
    assert violations([], {"not_empty": "a"}, dtype=dtype) == []


def test_not_empty_takes_white_space_for_nothing_if_asked_to(violations: Any) -> None:
    rule = {"not_empty": {"columns": "a", "blank": True}}
    values = ["", " ", "\t\n\u3000\u00a0", "\0", "\u200b", " a ", None]
    assert violations(values, rule) == [True, True, True, False, False, False, False]
    assert violations(["", " ", None], rule, dtype=pl.Categorical) == [True, True, False]
    assert violations([None], rule, dtype=pl.Null) == [False]


@given(st.lists(st.none() | st.text(" \t\n\u2003ab\0", max_size=3), max_size=20))
def test_not_empty_equals_the_oracle(violations: Any, values: list[str | None]) -> None:
    assert violations(values, {"not_empty": "a"}, dtype=pl.String) == [v == "" for v in values]
    blank = {"not_empty": {"columns": "a", "blank": True}}
    assert violations(values, blank, dtype=pl.String) == [v is not None and not v.strip() for v in values]


# in_set

SETS: dict[str, tuple[Any, Any, Any, list[Any]]] = {
    # type, a value of the set, one that is not, ways to write the set
    "bool": (pl.Boolean, True, False, [True]),
    "int": (pl.Int8, 1, 2, [1, 1.0, 1]),
    "wide": (pl.UInt8, 1, 2, [1, -1, 300]),
    "uint64": (pl.UInt64, 2**63 + 1, 2**63, [2**63 + 1]),
    "far apart": (pl.UInt64, 2**64 - 1, 1, [0, -1, 2**64 - 1]),
    "int128": (pl.Int128, 10**30, 1, [0, 10**30, -(10**30)]),
    "too wide": (pl.Int8, 1, 2, [1, 2**70]),
    "float32": (pl.Float32, 0.1, 0.2, [0.1, 7]),
    "float64": (pl.Float64, 0.5, 0.25, [2, 0.5]),
    "zero": (pl.Float64, -0.0, 1.0, [0.0]),
    "nan": (pl.Float64, NAN, 0.0, [NAN]),
    "infinite": (pl.Float64, INF, -INF, [INF]),
    "decimal": (pl.Decimal(10, 2), Decimal("0.10"), Decimal("0.11"), ["0.1", 5, 0.125]),
    "text": (pl.String, "a", "A", ["a", "b"]),
    "binary": (pl.Binary, b"a", b"b", ["a"]),
    "bytes": (pl.Binary, b"\xff", b"b", [b"\xff"]),
    "categorical": (pl.Categorical, "a", "b", ["a", "never seen"]),
    "enum": (pl.Enum(["a", "b"]), "a", "b", ["a", "not in the enum"]),
    "date": (pl.Date, date(2020, 1, 1), date(2020, 1, 2), ["2020-01-01"]),
    "time": (pl.Time, time(12), time(13), ["12:00"]),
    "duration": (pl.Duration("us"), timedelta(hours=2), timedelta(hours=1), ["2h"]),
    "datetime": (pl.Datetime("ms"), datetime(2020, 1, 1), datetime(2020, 1, 2), ["2020-01-01T00:00:00"]),
    "zoned": (
        pl.Datetime("us", "Europe/Berlin"),
        datetime(2020, 1, 1, tzinfo=BERLIN),
        datetime(2020, 1, 1, 1, tzinfo=BERLIN),
        ["2020-01-01"],
    ),
}


@pytest.mark.parametrize("kind", SETS)
def test_in_set_on_every_scalar_type(violations: Any, kind: str) -> None:
    dtype, inside, other, written = SETS[kind]
    rule = {"in_set": {"column": "a", "values": written}}
    assert violations(column([inside, other, None], dtype), rule) == [False, True, False]
    assert violations([inside, other, None], {"not_in_set": rule["in_set"]}, dtype=dtype) == [True, False, False]


@pytest.mark.parametrize("size", [1, 8, 9, 100])
def test_in_set_of_few_and_many_texts(violations: Any, size: int) -> None:
    values = [f"v{i}" for i in range(size)]
    found = violations([*values, "v", "", None], {"in_set": {"column": "a", "values": values}})
    assert found == [False] * size + [True, True, False]
    found = violations([*values, "v", "", None], {"not_in_set": {"column": "a", "values": values}})
    assert found == [True] * size + [False, False, False]


def test_in_set_of_long_texts(violations: Any) -> None:
    values = ["a longer name than twelve bytes", "b"]
    found = violations([*values, "a longer name", None], {"in_set": {"column": "a", "values": values}})
    assert found == [False, False, True, False]


def test_in_set_of_a_column_without_type_passes(violations: Any) -> None:
    for rule in ("in_set", "not_in_set"):
        assert violations([None, None], {rule: {"column": "a", "values": ["x"]}}, dtype=pl.Null) == [False, False]


POOLS: dict[Any, st.SearchStrategy[Any]] = {
    pl.Float64: floats.filter(lambda v: v is not None),
    pl.UInt64: st.sampled_from([0, 1, 2**63, 2**64 - 1]),
    pl.Int128: st.sampled_from([0, 1, 2**63, -(10**30), 10**30]),
    pl.Decimal(10, 2): st.sampled_from([Decimal("0.00"), Decimal("0.10"), Decimal("-99999999.99")]),
    pl.Categorical: st.sampled_from(["", "a", "a longer text than twelve bytes"]),
    pl.Datetime("us"): st.sampled_from([datetime(1, 1, 1), datetime(1970, 1, 1), datetime(9999, 12, 31, 23, 59)]),
}


@given(st.data(), st.sampled_from([*POOLS]))
def test_in_set_equals_the_oracle(violations: Any, data: st.DataObject, dtype: Any) -> None:
    def same(a: Any, b: Any) -> bool:
        return bool(a == b or (a != a and b != b))

    values = data.draw(st.lists(st.none() | POOLS[dtype], max_size=20))
    allowed = data.draw(st.lists(POOLS[dtype], min_size=1, max_size=4))
    expected = [v is not None and not any(same(v, w) for w in allowed) for v in values]
    assert violations(values, {"in_set": {"column": "a", "values": allowed}}, dtype=dtype) == expected
    expected = [v is not None and not e for v, e in zip(values, expected, strict=True)]
    assert violations(values, {"not_in_set": {"column": "a", "values": allowed}}, dtype=dtype) == expected
