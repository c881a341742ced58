"""The rules expression, conditional, any_not_null and exclusive: null, parameters, and naive oracles."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_expression_passes_null_and_takes_parameters_and_python_expressions(violations: Any) -> None:
    frame = pl.DataFrame({"a": [1, 5, None], "b": [2, 2, 2]})
    assert violations(frame, {"expression": "a <= b"}) == [False, True, False]
    assert violations(frame, {"expression": "a <= :most"}, {"most": 0}) == [True, True, False]
    assert violations(frame, {"expression": pl.col("a") <= pl.col("b")}) == [False, True, False]
    assert violations(frame, {"expression": "1 = 2"}) == [True, True, True]
    assert violations(frame, {"expression": "NULL"}) == [False, False, False]
    # an aggregate is that of the whole frame
    assert violations(frame, {"expression": "a < avg(a) * 1.5"}) == [False, True, False]


@given(st.lists(st.tuples(st.none() | st.integers(-3, 3), st.none() | st.integers(-3, 3)), max_size=20))
def test_expression_equals_the_oracle(violations: Any, rows: list[tuple[int | None, int | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Int64}, orient="row")
    rule = {"expression": {"condition": "a <= b OR a = 3", "where": "b <> 0"}}
    # SQL's three values: null OR true is true, null OR false is null
    expected = [b is not None and b != 0 and a is not None and a > b and a != 3 for a, b in rows]
    assert violations(frame, rule) == expected


# conditional


def test_conditional_demands_the_second_only_where_the_first_is_true(violations: Any) -> None:
    frame = pl.DataFrame({"a": [True, True, True, False, None], "b": [True, False, None, False, False]})
    assert violations(frame, {"conditional": {"when": "a", "then": "b"}}) == [False, True, False, False, False]
    given_values = {"conditional": {"when": "a", "then": "b IS NOT NULL"}}
    assert violations(frame, given_values) == [False, False, True, False, False]
    of_python = {"conditional": {"when": pl.col("a"), "then": pl.col("b")}}
    assert violations(frame, of_python) == [False, True, False, False, False]
    numbers = pl.DataFrame({"a": [1, 2]})
    assert violations(numbers, {"conditional": {"when": "a >= :n", "then": "a > :n"}}, {"n": 2}) == [False, True]
    assert violations(numbers, {"conditional": {"when": "NULL", "then": "1 = 2"}}) == [False, False]


three = st.none() | st.booleans()


@given(st.lists(st.tuples(three, three, three), max_size=20))
def test_conditional_equals_the_oracle(violations: Any, rows: list[tuple[Any, Any, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=dict.fromkeys("abw", pl.Boolean), orient="row")
    rule = {"conditional": {"when": "a", "then": "b", "where": "w"}}
    assert violations(frame, rule) == [a is True and b is False and w is True for a, b, w in rows]


# any_not_null and exclusive

cells = st.none() | st.sampled_from([math.nan, 0.0, 1.0])


def test_values_are_counted_whatever_their_type(violations: Any) -> None:
    frame = pl.DataFrame(
        {"a": [None, 1.0, math.nan, None], "b": [None, None, "", "x"], "c": [None, [], None, None], "d": [None] * 4}
    )
    every = ["a", "b", "c", "d"]
    assert violations(frame, {"any_not_null": every}) == [True, False, False, False]
    assert violations(frame, {"any_not_null": "d"}) == [True] * 4
    assert violations(frame, {"exclusive": every}) == [False, True, True, False]
    assert violations(frame, {"exclusive": {"columns": every, "exactly": True}}) == [True, True, True, False]
    assert violations(frame.clear(), {"exclusive": every}) == []


@given(st.lists(st.tuples(cells, cells, cells, three), max_size=20))
def test_counts_of_values_equal_the_oracle(violations: Any, rows: list[tuple[Any, Any, Any, Any]]) -> None:
    frame = pl.DataFrame(rows, schema={**dict.fromkeys("abc", pl.Float64), "w": pl.Boolean}, orient="row")
    given_values = [sum(v is not None for v in row[:3]) if row[3] else None for row in rows]
    rules: list[tuple[dict[str, Any], Any]] = [
        ({"any_not_null": {"columns": list("abc"), "where": "w"}}, lambda n: n == 0),
        ({"exclusive": {"columns": list("abc"), "where": "w"}}, lambda n: n > 1),
        ({"exclusive": {"columns": list("abc"), "exactly": True, "where": "w"}}, lambda n: n != 1),
    ]
    for rule, wrong in rules:
        assert violations(frame, rule) == [n is not None and wrong(n) for n in given_values]


@pytest.mark.parametrize("columns", [["a", "a"], ["b", "a", "b"]])
def test_a_column_does_not_exclude_itself(refusal: Any, columns: list[str]) -> None:
    frame = pl.DataFrame(schema={"a": pl.Int8, "b": pl.Int8})
    assert refusal(frame, {"exclusive": columns}) == f"column {columns[-1]!r} is named twice; name it once"
    assert refusal(frame, {"exclusive": "a"}) == "one column excludes no other; name two columns or more"
