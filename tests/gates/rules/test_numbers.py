"""The rules positive, non_negative, multiple_of and finite: every type of number, edges, and naive oracles."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp

NAN, INF = math.nan, math.inf
INTEGERS = [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.UInt128]
FLOATS = [pl.Float16, pl.Float32, pl.Float64]


def cents(value: str) -> Decimal:
    return Decimal(value)


# positive and non_negative

AMOUNTS: list[tuple[Any, Any, Any, Any]] = [
    # type, below zero, zero, above
    *((t, -1, 0, 1) for t in INTEGERS[:5]),
    *((t, 0, 0, 1) for t in INTEGERS[5:]),
    *((t, -1e-5, 0.0, 1e-5) for t in FLOATS),
    (pl.Float64, -5e-324, -0.0, 5e-324),
    (pl.Float64, -INF, 0.0, INF),
    (pl.Decimal(5, 2), cents("-0.01"), cents("0.00"), cents("0.01")),
    (pl.Decimal(5, 0), cents("-1"), cents("0"), cents("1")),
    (pl.Duration("ms"), timedelta(milliseconds=-1), timedelta(0), timedelta(milliseconds=1)),
    (pl.Duration("ns"), timedelta(days=-1), timedelta(0), timedelta(days=1)),
]


@pytest.mark.parametrize("case", range(len(AMOUNTS)))
def test_zero_parts_amounts_of_every_type(violations: Any, case: int) -> None:
    dtype, below, zero, above = AMOUNTS[case]
    values = [below, zero, above, None]
    assert violations(values, {"positive": "a"}, dtype=dtype) == [True, True, False, False]
    assert violations(values, {"non_negative": "a"}, dtype=dtype) == [below != zero, False, False, False]
    assert violations([], {"positive": "a"}, dtype=dtype) == []


def test_nan_is_not_positive(violations: Any) -> None:
    for rule in ("positive", "non_negative"):
        assert violations([NAN, None], {rule: "a"}, dtype=pl.Float64) == [True, False]
        assert violations([None, None], {rule: "a"}, dtype=pl.Null) == [False, False]


def test_each_column_is_a_check_of_its_own() -> None:
    frame = pl.DataFrame({"a": [0, 1], "b": [-1.0, NAN]})
    for rule, failed in (
        ("positive", {"positive:a": 1, "positive:b": 2}),
        ("non_negative", {"non_negative:b": 2}),
        ("finite", {"finite:b": 1}),
    ):
        report = lp.check(frame, [{rule: ["a", "b"]}])
        assert report.failed == failed
        assert [c.id for c in report.checks] == [f"{rule}:a", f"{rule}:b"]


def test_amounts_can_be_clipped(clipped: Any, refusal: Any) -> None:
    assert clipped([-5, 0, 3, None], {"positive": "a"}, dtype=pl.Int8) == [1, 1, 3, None]
    assert clipped([cents("-5"), cents("2")], {"positive": "a"}, dtype=pl.Decimal(5, 2)) == [cents("0.01"), cents("2")]
    assert clipped([timedelta(0)], {"positive": "a"}, dtype=pl.Duration("us")) == [timedelta(microseconds=1)]
    assert str(clipped([-5.0, NAN, 3.0], {"non_negative": "a"}, dtype=pl.Float32)) == "[0.0, nan, 3.0]"
    assert clipped([-5, 0, 3, None], {"non_negative": "a"}, dtype=pl.Int64) == [0, 0, 3, None]
    assert clipped([cents("-5")], {"non_negative": "a"}, dtype=pl.Decimal(5, 2)) == [cents("0")]
    rule = {"positive": {"columns": "a", "action": "repair", "repair": {"clip": True}}}
    message = "there is no nearest value to clip to; write set: or default:"
    assert refusal(pl.DataFrame(schema={"a": pl.Float64}), rule) == message


numbers = st.none() | st.floats() | st.sampled_from([0.0, -0.0, NAN, INF, -INF])


@given(st.lists(numbers, max_size=20))
def test_floats_equal_the_oracle(violations: Any, values: list[float | None]) -> None:
    def expected(passes: Any) -> list[bool]:
        return [v is not None and not passes(v) for v in values]

    assert violations(values, {"positive": "a"}, dtype=pl.Float64) == expected(lambda v: v > 0)
    assert violations(values, {"non_negative": "a"}, dtype=pl.Float64) == expected(lambda v: v >= 0)
    assert violations(values, {"finite": "a"}, dtype=pl.Float64) == expected(math.isfinite)


# finite


@pytest.mark.parametrize("dtype", FLOATS)
def test_finite_floats(violations: Any, dtype: Any) -> None:
    assert violations([0.0, INF, -INF, NAN, None], {"finite": "a"}, dtype=dtype) == [False, True, True, True, False]


@pytest.mark.parametrize("dtype", [*INTEGERS, pl.Decimal(5, 2), pl.Null])
def test_other_numbers_are_finite_by_their_type(violations: Any, dtype: Any) -> None:
    values = [None, None] if dtype == pl.Null else [1, None]
    assert violations(values, {"finite": "a"}, dtype=dtype) == [False, False]


# multiple_of


def of(number: Any) -> dict[str, Any]:
    return {"multiple_of": {"column": "a", "of": number}}


@pytest.mark.parametrize("dtype", INTEGERS)
def test_multiples_of_whole_numbers(violations: Any, dtype: Any) -> None:
    assert violations([0, 5, 6, None], of(5), dtype=dtype) == [False, False, True, False]
    assert violations([0, 5, 6, None], of(2.5), dtype=dtype) == [False, False, True, False]
    assert violations([0, 5, 7, None], of(0.5), dtype=dtype) == [False, False, False, False]
    assert violations([0, 1, 127, None], of(10**60), dtype=dtype) == [False, True, True, False]


def test_multiples_at_the_ends_of_types(violations: Any) -> None:
    assert violations([-128, 127, 0], of(128), dtype=pl.Int8) == [True, True, False]  # 128 is no Int8
    assert violations([-128, 127, -127], of(127), dtype=pl.Int8) == [True, False, False]
    assert violations([-(2**63), 2**63 - 1], of(2), dtype=pl.Int64) == [False, True]
    assert violations([2**64 - 1, 2**64 - 2], of(2**64 - 1), dtype=pl.UInt64) == [False, True]
    assert violations([None], of(3), dtype=pl.Null) == [False]


def test_multiples_of_decimals_are_exact(violations: Any) -> None:
    values = [cents("0.30"), cents("-0.35"), cents("0.31"), cents("0.00"), None]
    assert violations(values, of(0.1), dtype=pl.Decimal(10, 2)) == [False, True, True, False, False]
    assert violations(values, of(Decimal("0.05")), dtype=pl.Decimal(10, 2)) == [False, False, True, False, False]
    assert violations(values, of(0.0125), dtype=pl.Decimal(10, 2)) == [False, False, True, False, False]
    assert violations(values, of(0.015), dtype=pl.Decimal(10, 2)) == [False, True, True, False, False]
    assert violations(values, of(1e40), dtype=pl.Decimal(10, 2)) == [True, True, True, False, False]
    huge = [Decimal("9" * 36 + ".99"), Decimal("-" + "9" * 36 + ".98")]
    assert violations(huge, of(0.02), dtype=pl.Decimal(38, 2)) == [True, False]


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_are_multiples_but_for_rounding(violations: Any, dtype: Any) -> None:
    values = [0.3, 0.7, -0.7, 0.25, 0.0, -0.0, NAN, INF, -INF, None]
    expected = [False, False, False, True, False, False, True, True, True, False]
    assert violations(values, of(0.1), dtype=dtype) == expected


def test_floats_that_rounding_does_not_explain(violations: Any) -> None:
    assert violations([0.1 + 0.2, 0.3000001, 0.1 * 3 * 7], of(0.1)) == [False, True, False]
    assert violations([1e300, 1.5e-300, 5e-324], of(1e-300)) == [False, True, True]
    assert violations([1e300, 0.0], of(1e-300)) == [False, False]  # the quotient is beyond floats
    assert violations([1234567.89, 1234567.895, 99999999.99], of(0.01)) == [False, True, False]


@given(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-50, 50), max_size=20), st.integers(1, 2**70)
)
def test_multiples_of_integers_equal_the_oracle(violations: Any, values: list[int | None], number: int) -> None:
    for divisor in (number, number % 13 + 1):
        expected = [v is not None and v % divisor != 0 for v in values]
        assert violations(values, of(divisor), dtype=pl.Int64) == expected


@given(
    st.lists(st.none() | st.decimals(-1000, 1000, places=3), max_size=20),
    st.decimals(0, 10, places=4).filter(lambda d: d > 0),
)
def test_multiples_of_decimals_equal_the_oracle(violations: Any, values: list[Decimal | None], number: Decimal) -> None:
    expected = [v is not None and Fraction(v) % Fraction(number) != 0 for v in values]
    assert violations(values, of(number), dtype=pl.Decimal(10, 3)) == expected


@given(st.lists(st.integers(-(10**9), 10**9), max_size=20), st.integers(1, 10**6), st.integers(0, 6))
def test_floats_written_as_decimals_equal_the_oracle(
    violations: Any, values: list[int], number: int, places: int
) -> None:
    # k/10**p of n/10**p: the quotient k/n is whole, or further from it than rounding goes
    scale = 10**places
    expected = [v % number != 0 for v in values]
    assert violations([v / scale for v in values], of(number / scale), dtype=pl.Float64) == expected


@pytest.mark.parametrize("number", [0, -1, NAN, INF, True, "2", None])
def test_nothing_is_a_multiple_of_what_is_not_positive(refusal: Any, number: Any) -> None:
    message = f"nothing is a multiple of {number!r}; write a number greater than zero"
    assert refusal(pl.DataFrame(schema={"a": pl.Int8}), of(number)) == message
