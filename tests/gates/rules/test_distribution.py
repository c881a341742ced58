"""How values are distributed: ``outliers`` and ``kl_divergence`` equal a naive reading, also of groups and of every type."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp

NAN, INF = math.nan, math.inf
GROUPS = st.lists(st.tuples(st.sampled_from(["x", "y", None]), st.none() | st.integers(-3, 6)), max_size=20)


def value_of(rows: Sequence[Any] | pl.DataFrame, rule: Mapping[str, Any], dtype: Any = None) -> tuple[Any, str]:
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame({"a": pl.Series(rows, dtype=dtype, strict=False)})
    (check,) = lp.check(frame, [rule]).checks
    (lazily,) = lp.check(frame.lazy(), [rule]).checks
    assert (str(lazily.value), lazily.status) == (str(check.value), check.status)
    return check.value, check.status


def close(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, abs_tol=1e-12)


def failing(rows: Sequence[tuple[Any, Any]], rule: Mapping[str, Any], dtype: Any) -> dict[Any, float]:
    frame = pl.DataFrame(rows, schema={"g": pl.String, "a": dtype}, orient="row")
    ((name, arguments),) = rule.items()
    (check,) = lp.check(frame, [{name: {**arguments, "by": "g"}}]).checks
    return {group["g"]: group["value"] for group in check.groups}


def known_of(rows: Sequence[tuple[Any, Any]]) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = {}
    for group, value in rows:
        groups.setdefault(group, []).extend([] if value is None else [value])
    return groups


# outliers

SIDES: dict[str, Callable[[float], float]] = {"both": abs, "above": float, "below": lambda z: -z}


def part_far(values: Sequence[float], z: float, side: str) -> float | None:
    if len(set(values)) < 2:
        return 0 if values else None
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    return sum(SIDES[side]((v - mean) / deviation) >= z for v in values) / len(values)


@pytest.mark.parametrize("side", SIDES)
@given(rows=GROUPS, z=st.sampled_from([0.3456, 1.2345, 2.0123]))
def test_outliers_equal_the_oracle(side: str, rows: list[tuple[Any, Any]], z: float) -> None:
    rule = {"outliers": {"column": "a", "z": z, "side": side}}
    part = part_far([v for _, v in rows if v is not None], z, side)
    for dtype in (pl.Int8, pl.Float64):
        value, status = value_of([v for _, v in rows], rule, dtype)
        assert close(value, part)
        assert status == ("fail" if part else "pass")
    found = failing(rows, rule, pl.Int64)
    parts = {g: part_far(values, z, side) for g, values in known_of(rows).items()}
    assert found.keys() == {g for g, p in parts.items() if p}
    assert all(close(found[g], parts[g]) for g in found)


def test_a_value_just_as_far_is_far_and_where_leaves_out_of_the_mean() -> None:
    # a mean of 2, a deviation of 1
    assert value_of([1, 2, 3], {"outliers": {"column": "a", "z": 1}}) == (2 / 3, "fail")
    assert (
        value_of([1, 2, 3, 90], {"outliers": {"column": "a", "z": 1, "side": "below", "where": "a < 90"}})[0] == 1 / 3
    )
    assert value_of([1, 2, 3], {"outliers": {"column": "a", "z": 1, "max": "66.7%"}})[1] == "pass"
    assert value_of([1, 2, 3], {"outliers": {"column": "a", "z": 1, "max": 0.66}})[1] == "fail"


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0.1] * 3, pl.Float64, (0.0, "pass")),
        ([0.1] * 3 + [NAN], pl.Float64, ("nan", "fail")),
        ([1.0, INF, None], pl.Float32, ("nan", "fail")),
        ([NAN, NAN], pl.Float64, ("nan", "fail")),
        ([Decimal("0.1")] * 20 + [Decimal(90)], pl.Decimal(10, 2), (1 / 21, "fail")),
        ([0] * 20 + [2**63], pl.UInt64, (1 / 21, "fail")),
        ([5], pl.Int64, (0.0, "pass")),
        ([], pl.Int64, (None, "pass")),
        ([None], pl.Null, (None, "pass")),
    ],
)
def test_outliers_of_every_type(values: list[Any], dtype: Any, expected: tuple[Any, str]) -> None:
    value, status = value_of(values, {"outliers": {"column": "a"}}, dtype)
    assert (str(value) if value is not None and math.isnan(value) else value, status) == expected


# divergence


def divergence(counts: Mapping[Any, int], weights: Mapping[Any, float], rest: float = 0) -> float | None:
    total, whole = sum(counts.values()), sum(weights.values())
    if not total:
        return None
    others = sum(1 for v in counts if v not in weights)
    expected = {v: w / whole * (1 - rest if others else 1) for v, w in weights.items()}
    found = 0.0
    for value, times in counts.items():
        q = expected.get(value, rest / others if others else 0)
        if q == 0:
            return INF
        found += times / total * math.log(times / total / q)
    return found


WEIGHTS = st.lists(st.sampled_from([0, 0.25, 1, 2]), min_size=4, max_size=4).filter(any)


@given(rows=GROUPS, weights=WEIGHTS, rest=st.sampled_from([0, 0.125]))
def test_divergence_of_values_equals_the_oracle(rows: list[tuple[Any, Any]], weights: list[float], rest: float) -> None:
    values = [-1, 0, 2, 5]
    rule = {"kl_divergence": {"column": "a", "values": values, "weights": weights, "rest": rest, "max": 1e-9}}
    expected = divergence(Counter(v for _, v in rows if v is not None), dict(zip(values, weights, strict=True)), rest)
    value, status = value_of([v for _, v in rows], rule, pl.Int16)
    assert close(value, expected)
    assert (status == "fail") is (expected is not None and expected > 1e-9)
    found = failing(rows, rule, pl.Int64)
    each = {g: divergence(Counter(v), dict(zip(values, weights, strict=True)), rest) for g, v in known_of(rows).items()}
    assert found.keys() == {g for g, d in each.items() if d is not None and d > 1e-9}
    assert all(close(found[g], each[g]) for g in found)


@given(rows=GROUPS, weights=WEIGHTS)
def test_divergence_of_bins_equals_the_oracle(rows: list[tuple[Any, Any]], weights: list[float]) -> None:
    def place(value: int) -> int:
        return 0 if value < 0 else 1 if value < 2 else 2 if value <= 4 else 3

    rule = {"kl_divergence": {"column": "a", "bins": [0, 2, 4], "weights": weights, "max": 1e-9}}
    expected = divergence(Counter(place(v) for _, v in rows if v is not None), dict(enumerate(weights)))
    for dtype in (pl.Int8, pl.Float32, pl.Decimal(5, 2)):
        assert close(value_of([v for _, v in rows], rule, dtype)[0], expected)
    found = failing(rows, rule, pl.Int64)
    each = {g: divergence(Counter(map(place, v)), dict(enumerate(weights))) for g, v in known_of(rows).items()}
    assert found.keys() == {g for g, d in each.items() if d is not None and d > 1e-9}
    assert all(close(found[g], each[g]) for g in found)


@pytest.mark.parametrize(
    ("values", "dtype", "named", "expected"),
    [
        (["x", "x", "y", "y"], pl.Categorical, {"values": ["x", "y"], "weights": [1, 1]}, 0.0),
        (["x", "x", "y", "y"], pl.Enum(["y", "x"]), {"values": ["x", "y"], "weights": [3, 1]}, 0.5 * math.log(4 / 3)),
        ([True, False, None], pl.Boolean, {"values": [True, False], "weights": [1, 1]}, 0.0),
        ([b"x"], pl.Binary, {"values": ["x"], "weights": [2]}, 0.0),
        ([date(2024, 5, 1)], pl.Date, {"values": ["2024-05-01", "2024-05-02"], "weights": [1, 1]}, math.log(2)),
        ([date(2024, 5, 1)], pl.Date, {"bins": ["2024-05-01", "2024-05-02"], "weights": [0, 1, 0]}, 0.0),
        ([date(2024, 5, 2)], pl.Date, {"bins": ["2024-05-01", "2024-05-02"], "weights": [0, 1, 0]}, 0.0),
        ([date(2024, 5, 2)], pl.Date, {"bins": ["2024-05-02"], "weights": [1, 0]}, 0.0),
        ([1.0, NAN], pl.Float64, {"bins": [0], "weights": [1, 1]}, INF),
        ([1.0, NAN], pl.Float64, {"values": [1.0, NAN], "weights": [1, 1]}, 0.0),
        ([INF], pl.Float64, {"bins": [0], "weights": [0, 1]}, 0.0),
        ([None], pl.Null, {"bins": [0], "weights": [0, 1]}, None),
        ([None], pl.Null, {"values": [0], "weights": [1]}, None),
        ([], pl.String, {"values": ["x"], "weights": [1]}, None),
    ],
)
def test_divergence_of_every_type(values: list[Any], dtype: Any, named: dict[str, Any], expected: Any) -> None:
    value, status = value_of(values, {"kl_divergence": {"column": "a", "max": 0.01, **named}}, dtype)
    assert close(value, expected)
    assert (status == "fail") is (expected is not None and expected > 0.01)


# wrong use

FRAME = pl.DataFrame(schema={"n": pl.Int64, "s": pl.String, "l": pl.List(pl.Int64), "o": pl.Object, "d": pl.Date})
AS_MANY = "write a weight for each value, or for each bin, including the two beyond the edges"
AHEAD = "write their edges from the least to the greatest"


def kl(**arguments: Any) -> dict[str, Any]:
    return {"kl_divergence": {"column": "n", "max": 0.1, **arguments}}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"outliers": {"column": "zz"}}, "unknown column 'zz'; known columns: d, l, n, o, s"),
        ({"outliers": {"column": "s"}}, "column 's' is String, and outliers is for numbers; use regex, format or parseable, or cast it first"),
        ({"outliers": {"column": "d"}}, "column 'd' is Date, and outliers is for numbers; use between, in_past or in_future"),
        ({"outliers": {"column": "n", "z": 0}}, "no value is far from a mean at 0 deviations; write a number such as 3"),
        ({"outliers": {"column": "n", "z": NAN}}, "no value is far from a mean at nan deviations; write a number such as 3"),
        ({"outliers": {"column": "n", "side": "left"}}, "unknown side 'left'; known values: above, below, both"),
        ({"outliers": {"column": "n", "max": "120%"}}, "120% is more than all rows; write a fraction from 0 to 1, or 0% to 100%"),
        ({"outliers": {"column": "n", "action": "quarantine"}}, "a rule on the whole frame cannot remove rows; write action: fail or warn"),
        (kl(weights=[1]), "weights are those of values, or of bins; give values or bins"),
        (kl(weights=[1], values=[1], bins=[1]), "weights are those of values, or of bins; give values or bins"),
        (kl(weights=[1], values=[1, 2]), f"2 values have 2 weights, not 1; {AS_MANY}"),
        (kl(weights=[1], bins=[1, 2]), f"2 edges part 3 weights, not 1; {AS_MANY}"),
        (kl(weights=[0, 0], values=[1, 2]), "weights are parts of something; write numbers from 0, some of them above it"),
        (kl(weights=[INF, 1], values=[1, 2]), "weights are parts of something; write numbers from 0, some of them above it"),
        (kl(weights=[1, 1], values=[1, 2], max=-1), "no divergence is at most -1; write a number such as 0.1"),
        (kl(weights=[1, 1], values=[1, 2], rest=1), "rest 1 leaves nothing to the values; write a number from 0 to below 1"),
        (kl(weights=[1, 1], bins=[1], rest=0.5), "every number is in a bin, and none in the rest; remove rest"),
        (kl(weights=[1, 1], bins=[NAN]), "NaN is not an edge; write a number"),
        (kl(weights=[1, 1, 1], bins=[2, 2]), f"bins are not in order; {AHEAD}"),
        (kl(weights=[1, 1, 1], bins=[2, 1]), f"bins are not in order; {AHEAD}"),
        (kl(weights=[1, 1], bins=["x"]), "'x' cannot be compared with column 'n', which is Int64; write a value of that type"),
        (kl(weights=[1, 1], values=[1, 1]), "a value is listed twice in values; name each value once"),
        (kl(weights=[1, 1], values=["x", "y"]), "'x', 'y' cannot be compared with column 'n', which is Int64; write values of that type"),
        (kl(column="zz", weights=[1], values=[1]), "unknown column 'zz'; known columns: d, l, n, o, s"),
        (kl(column="s", weights=[1, 1], bins=[1]), "column 's' is String, and kl_divergence is for numbers, dates and times; use regex, format or parseable, or cast it first"),
        (kl(column="l", weights=[1], values=[1]), "column 'l' is List(Int64), whose values a rule cannot name; unnest or explode it first, and name a column of single values"),
        (kl(column="o", weights=[1], values=[1]), "column 'o' is Object, whose values cannot be compared; cast it to a type of its own"),
        (kl(weights=[1], values=[1], by=["o"]), "column 'o' is Object, whose values cannot be compared; cast it to a type of its own"),
    ],
)  # fmt: skip
def test_wrong_use(rule: dict[str, Any], message: str, refusal: Callable[..., str]) -> None:
    assert refusal(FRAME, rule) == message
