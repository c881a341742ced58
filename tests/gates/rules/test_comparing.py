"""The rules compare and sum_equals: every pair of types, exact where they can be, and naive oracles."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.spec.types import dtype_name

NAN, INF = math.nan, math.inf
OPS = {"<": operator.lt, "<=": operator.le, "=": operator.eq, "!=": operator.ne, ">=": operator.ge, ">": operator.gt}


def rule(op: str, **more: Any) -> dict[str, Any]:
    return {"compare": {"left": "a", "op": op, "right": "b", **more}}


def pair(left: Any, right: Any, a: Sequence[Any], b: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame({"a": pl.Series(a, dtype=left), "b": pl.Series(b, dtype=right)})


SUMMER = datetime(2020, 6, 1, 12)
PAIRS: list[tuple[Any, Any, Any, Any]] = [
    # types, and values of which the first is less
    (pl.Int8, pl.Int8, -1, 1),
    (pl.Int8, pl.UInt64, -1, 2**64 - 1),
    (pl.Int64, pl.UInt64, 2**63 - 1, 2**63),
    (pl.UInt64, pl.Int64, 2**53, 2**53 + 1),
    (pl.UInt8, pl.UInt128, 1, 2**128 - 1),
    (pl.Float64, pl.UInt128, 1.0, 2**128 - 1),
    (pl.Int128, pl.Int64, -(2**127), 2**63 - 1),
    (pl.Int64, pl.Float64, 1, 1.5),
    (pl.Float32, pl.Float64, 0.5, INF),
    (pl.Decimal(10, 2), pl.Decimal(10, 1), Decimal("0.09"), Decimal("0.1")),
    (pl.Decimal(38, 2), pl.Decimal(38, 37), Decimal("-1" + "0" * 35), Decimal("0.1")),
    (pl.Decimal(10, 2), pl.Int64, Decimal("4.99"), 2**62),
    (pl.Decimal(10, 2), pl.Float64, Decimal("0.10"), 0.2),
    (pl.String, pl.String, "Z", "a"),
    (pl.String, pl.Categorical, "a", "b"),
    (pl.Categorical, pl.Categorical, "a", "b"),
    (pl.Enum(["z", "a"]), pl.Enum(["z", "a"]), "z", "a"),
    (pl.Enum(["b", "a"]), pl.Enum(["a", "b"]), "a", "b"),
    (pl.Enum(["b", "a"]), pl.String, "a", "b"),
    (pl.Date, pl.Date, date(1, 1, 1), date(9999, 12, 31)),
    (pl.Date, pl.Datetime("us"), date(2020, 1, 1), datetime(2020, 1, 1, 0, 0, 0, 1)),
    (pl.Datetime("ns"), pl.Date, datetime(2020, 1, 1), date(9999, 12, 31)),
    (pl.Datetime("ms"), pl.Datetime("ns"), SUMMER, SUMMER + timedelta(microseconds=1)),
    (pl.Datetime("ns"), pl.Datetime("ms"), SUMMER, datetime(9999, 1, 1)),
    (pl.Datetime("us", "UTC"), pl.Datetime("us", "UTC"), SUMMER.replace(tzinfo=UTC), SUMMER.replace(tzinfo=UTC, hour=13)),
    (pl.Datetime("ms", "UTC"), pl.Datetime("us", "Europe/Berlin"), SUMMER.replace(tzinfo=UTC), SUMMER.replace(tzinfo=UTC, hour=13)),
    (pl.Duration("ms"), pl.Duration("ns"), timedelta(0), timedelta(microseconds=1)),
    (pl.Duration("us"), pl.Duration("us"), timedelta(-1), timedelta(0)),
    (pl.Time, pl.Time, time(0), time(23, 59, 59, 999_999)),
    (pl.Boolean, pl.Boolean, False, True),
    (pl.Binary, pl.Binary, b"\0", b"\xff"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(PAIRS)))
def test_types_that_compare(violations: Any, case: int) -> None:
    left, right, less, more = PAIRS[case]
    frame = pair(left, right, [less, None, less, None], [more, more, None, None])
    back = frame.select(a="b", b="a")
    for op, holds in OPS.items():
        assert violations(frame, rule(op)) == [not holds(0, 1), False, False, False], op
        assert violations(back, rule(op)) == [not holds(1, 0), False, False, False], op
    same = pair(
        left, left, [less, more if left == right else less, None], [less, more if left == right else less, None]
    )
    for op, holds in OPS.items():
        assert violations(same, rule(op)) == [not holds(0, 0)] * 2 + [False], op


def test_the_same_value_in_different_types(violations: Any) -> None:
    for frame in (
        pair(pl.Date, pl.Datetime("ns"), [date(2020, 1, 1)], [datetime(2020, 1, 1)]),
        pair(pl.Datetime("ms"), pl.Datetime("ns"), [SUMMER], [SUMMER]),
        pair(pl.Datetime("us", "UTC"), pl.Datetime("ms", "Europe/Berlin"), [SUMMER.replace(tzinfo=UTC)], [SUMMER.replace(tzinfo=UTC)]),
        pair(pl.Decimal(10, 2), pl.Decimal(10, 1), [Decimal("0.10")], [Decimal("0.1")]),
        pair(pl.Int8, pl.Float64, [1], [1.0]),
        pair(pl.Categorical, pl.String, ["x"], ["x"]),
    ):  # fmt: skip
        for op, holds in OPS.items():
            assert violations(frame, rule(op)) == [not holds(0, 0)]


def test_nan_equals_itself_and_has_no_order(violations: Any) -> None:
    frame = pair(pl.Float64, pl.Float32, [NAN, NAN, 1.0, NAN, None], [NAN, 1.0, NAN, None, NAN])
    for op in ("<", "<=", ">=", ">"):
        assert violations(frame, rule(op)) == [True, True, True, False, False]
    assert violations(frame, rule("=")) == [False, True, True, False, False]
    assert violations(frame, rule("!=")) == [True, False, False, False, False]
    whole = pair(pl.Float64, pl.Int8, [NAN, 1.0, None], [1, 1, 1])
    assert violations(whole, rule(">=")) == [True, False, False]


def test_parts_compare_as_a_whole_but_have_no_order(violations: Any, refusal: Any) -> None:
    for dtype, one, other in (
        (pl.List(pl.Int8), [1], [1, None]),
        (pl.Struct({"x": pl.Int8}), {"x": 1}, {"x": 2}),
        (pl.Array(pl.Int8, 1), [1], [2]),
    ):
        frame = pair(dtype, dtype, [one, one, None], [one, other, one])
        assert violations(frame, rule("=")) == [False, True, False]
        assert violations(frame, rule("!=")) == [True, False, False]
        message = f"column 'a' is {dtype_name(dtype)}, which has no order; compare with = or !=, or compare parts of it with expression"
        assert refusal(frame, rule("<")) == message


def test_a_column_without_type_passes(violations: Any) -> None:
    for left, right in ((pl.Null, pl.Int8), (pl.String, pl.Null), (pl.Null, pl.Null)):
        assert violations(pair(left, right, [None], [None]), rule("<")) == [False]
        assert violations(pair(left, right, [], []), rule("=")) == []


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats() | st.sampled_from([0.0, -0.0, NAN]),
            st.none() | st.floats() | st.sampled_from([0.0, -0.0, NAN]),
            st.none() | st.booleans(),
        ),
        max_size=20,
    )
)
def test_compare_equals_the_oracle(violations: Any, rows: list[tuple[Any, Any, Any]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Float64, "b": pl.Float64, "w": pl.Boolean}, orient="row")

    def holds(op: str, a: float, b: float) -> bool:
        if math.isnan(a) and math.isnan(b):
            return op == "="
        return OPS[op](a, b)

    for op in OPS:
        expected = [a is not None and b is not None and w is True and not holds(op, a, b) for a, b, w in rows]
        assert violations(frame, rule(op, where="w")) == expected


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pl.String, pl.Int64), (pl.Boolean, pl.Int8), (pl.Date, pl.String), (pl.Date, pl.Int32), (pl.Duration("us"), pl.Int64), (pl.Time, pl.Datetime("us")),
        (pl.Datetime("us"), pl.Datetime("us", "UTC")), (pl.Date, pl.Datetime("us", "UTC")), (pl.UInt128, pl.Int64), (pl.Decimal(10, 2), pl.UInt128),
        (pl.List(pl.Int8), pl.List(pl.Int16)), (pl.Struct({"x": pl.Int8}), pl.Struct({"y": pl.Int8})), (pl.Binary, pl.String), (pl.Duration("us"), pl.Time),
    ],
)  # fmt: skip
def test_types_that_do_not_compare(refusal: Any, left: Any, right: Any) -> None:
    frame = pl.DataFrame(schema={"a": left, "b": right})
    shown = [dtype_name(t) for t in frame.dtypes]
    message = f"'a' is {shown[0]} and 'b' is {shown[1]}, which do not compare; cast one of them first"
    assert refusal(frame, rule("=")) == message


def test_what_compare_does_not_know(refusal: Any) -> None:
    frame = pl.DataFrame(schema={"a": pl.Int8, "b": pl.Int8})
    assert refusal(frame, rule("=>")) == "unknown op '=>'; write one of < <= = != >= >"
    assert (
        refusal(frame, {"compare": {"left": "aa", "op": "<", "right": "b"}}) == "unknown column 'aa'; did you mean 'a'?"
    )
    assert (
        refusal(frame, {"compare": {"left": "a", "op": "<", "right": "bb"}}) == "unknown column 'bb'; did you mean 'b'?"
    )


# sum_equals


def total(of: Any, **more: Any) -> dict[str, Any]:
    return {"sum_equals": {"columns": ["a", "b"], "total": of, **more}}


def terms(types: Sequence[Any], *rows: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(zip("abc", types, strict=False)), orient="row")


def test_whole_numbers_add_up_exactly(violations: Any) -> None:
    types = [pl.Int8, pl.UInt64, pl.Int64]
    frame = terms(types, [127, 1, 128], [-1, 2**63, 2**63 - 1], [1, 1, 3], [None, 1, 1], [1, 1, None])
    assert violations(frame, total("c")) == [False, False, True, False, False]
    assert violations(frame, total("c", tolerance=1)) == [False] * 5
    assert violations(frame, total("c", tolerance=0.9)) == [False, False, True, False, False]
    assert violations(frame, total(2)) == [True, True, False, False, False]
    assert violations(frame, total(2.5)) == [True, True, True, False, True]
    assert violations(frame, total(2.5, tolerance=0.5)) == [True, True, False, False, False]
    assert violations(frame, total(10**60, tolerance=10**61)) == [False] * 5
    assert violations(frame.clear(), total("c")) == []


def test_the_widest_integers_add_up(violations: Any) -> None:
    frame = terms([pl.Int128] * 3, [2**127 - 1, -1, 2**127 - 2], [2**127 - 1, -(2**127), -1], [2**127 - 1, 1, 5])
    assert violations(frame, total("c")) == [False, False, True]
    unsigned = terms([pl.UInt128, pl.UInt8, pl.UInt128], [2**128 - 1, 0, 2**128 - 1], [5, 1, 6], [5, 1, 7])
    assert violations(unsigned, total("c")) == [False, False, True]


def test_decimals_add_up_exactly(violations: Any) -> None:
    types = [pl.Decimal(10, 2), pl.Decimal(38, 3), pl.Int8]
    frame = terms(
        types,
        [Decimal("0.10"), Decimal("0.900"), 1],
        [Decimal("0.10"), Decimal("0.901"), 1],
        [None, Decimal("1.000"), 1],
    )
    assert violations(frame, total("c")) == [False, True, False]
    assert violations(frame, total("c", tolerance=0.001)) == [False, False, False]
    assert violations(frame, total("c", tolerance=Decimal("0.0009"))) == [False, True, False]
    assert violations(frame, total(1.001)) == [True, False, False]
    huge = terms(
        [pl.Decimal(38, 0)] * 3,
        [Decimal("9" * 38), Decimal("9" * 38), Decimal(1)],
        [Decimal("9" * 38), Decimal("-" + "9" * 38), Decimal(0)],
    )
    assert violations(huge, total("c")) == [True, False]


def test_floats_add_up_but_for_rounding(violations: Any) -> None:
    frame = terms(
        [pl.Float64] * 3,
        [0.1, 0.2, 0.3],
        [0.1, 0.2, 0.3000001],
        [1e16, 1.0, 1e16],
        [1e300, -1e300, 0.0],
        [0.0, 0.0, 0.0],
    )
    assert violations(frame, total("c")) == [False, True, False, False, False]
    assert violations(frame, total("c", tolerance=1e-6)) == [False] * 5
    assert violations(frame, total(0.3)) == [False, False, True, False, True]
    single = terms([pl.Float32, pl.Float64, pl.Decimal(5, 2)], [0.1, 0.2, Decimal("0.30")], [0.1, 0.2, Decimal("0.31")])
    assert violations(single, total("c")) == [False, True]
    odd = terms(
        [pl.Float64] * 3,
        [NAN, 1.0, 1.0],
        [INF, 1.0, INF],
        [INF, -INF, NAN],
        [1.0, NAN, None],
        [1.0, None, NAN],
        [1e308, 1e308, 1.0],
    )
    assert violations(odd, total("c")) == [True, True, True, False, False, True]
    assert violations(odd, total(5)) == [True, True, True, True, False, True]


def test_one_column_and_columns_without_type(violations: Any) -> None:
    frame = pl.DataFrame({"a": [1, 2, None], "n": [None] * 3})
    assert violations(frame, {"sum_equals": {"columns": "a", "total": 2}}) == [True, False, False]
    assert violations(frame, {"sum_equals": {"columns": ["a", "n"], "total": 2}}) == [False] * 3
    assert violations(frame, {"sum_equals": {"columns": "a", "total": "n"}}) == [False] * 3


amounts = st.none() | st.integers(-(10**4), 10**4)


@given(st.lists(st.tuples(amounts, amounts, amounts), max_size=20), st.integers(0, 3))
def test_sums_equal_the_oracle(violations: Any, rows: list[tuple[Any, Any, Any]], tolerance: int) -> None:
    # a good part of the rows shall add up
    rows = [(a, b, a + b + c % 4 if None not in (a, b, c) and c % 2 else c) for a, b, c in rows]
    expected = [None not in row and abs(row[0] + row[1] - row[2]) > tolerance for row in rows]
    assert violations(terms([pl.Int64] * 3, *rows), total("c", tolerance=tolerance)) == expected
    cents = [[None if v is None else Decimal(v) / 100 for v in row] for row in rows]
    types = [pl.Decimal(10, 2), pl.Decimal(12, 4), pl.Decimal(10, 2)]
    assert violations(terms(types, *cents), total("c", tolerance=Decimal(tolerance) / 100)) == expected
    floats = [[None if v is None else v / 100 for v in row] for row in rows]
    assert violations(terms([pl.Float64] * 3, *floats), total("c", tolerance=tolerance / 100)) == expected


@given(
    st.lists(st.tuples(*[st.none() | st.integers(-(2**63), 2**63 - 1)] * 2), max_size=20),
    st.integers(-(2**64), 2**64),
    st.integers(0, 24),
)
def test_sums_of_wide_integers_equal_the_oracle(
    violations: Any, rows: list[tuple[Any, Any]], halves: int, eighths: int
) -> None:
    wanted, tolerance = Decimal(halves) / 2, Decimal(eighths) / 8
    rows = [*rows, (halves // 4, halves // 4)]
    expected = [None not in row and abs(sum(row) - Fraction(wanted)) > tolerance for row in rows]
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Int64}, orient="row")
    assert violations(frame, total(wanted, tolerance=tolerance)) == expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (total("c", tolerance=-1), "-1 is not a tolerance; write a number, zero or more"),
        (total("c", tolerance=NAN), "nan is not a tolerance; write a number, zero or more"),
        (total("c", tolerance="1"), "'1' is not a tolerance; write a number, zero or more"),
        (total(INF), "inf is not a total; write a column or a number"),
        (total(True), "True is not a total; write a column or a number"),
        (total("d"), "unknown column 'd'; known columns: a, b, c, s"),
        (total("s"), "column 's' is String, and sum_equals is for numbers; use regex, format or parseable, or cast it first"),
        ({"sum_equals": {"columns": ["a", "s"], "total": 1}}, "column 's' is String, and sum_equals is for numbers; use regex, format or parseable, or cast it first"),
    ],
)  # fmt: skip
def test_what_does_not_add_up(refusal: Any, rule: dict[str, Any], message: str) -> None:
    assert refusal(pl.DataFrame(schema={"a": pl.Int8, "b": pl.Int8, "c": pl.Int8, "s": pl.String}), rule) == message
