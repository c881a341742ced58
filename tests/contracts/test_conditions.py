"""Row conditions of Great Expectations as SQL, and rows they choose."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazypipe.contracts.conditions import Untranslatable, where
from lazypipe.sql.bind import bind

FRAME = pl.DataFrame(
    {
        "x": [1, 2, None, -3],
        "y": [2.5, None, 0.5, 2.0],
        "my col": ["a", "it's", None, ""],
        "b": [True, False, None, True],
    },
    schema={"x": pl.Int64, "y": pl.Float64, "my col": pl.String, "b": pl.Boolean},
)


def rows(written: Any, parser: str | None) -> list[int]:
    expr = bind(where(written, parser), FRAME.schema)
    return FRAME.with_row_index("n").filter(expr)["n"].to_list()


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ('col("x").notNull()', [0, 1, 3]),
        ('col("x").isNull()', [2]),
        ('col("x") > 1', [1]),
        ('col("x") <= -3', [3]),
        ("col('y') == 2.5", [0]),
        ('col("y") >= 5e-1', [0, 2, 3]),
        ('col("my col") == "it\'s"', [1]),
        ('col("my col") != "a"', [1, 3]),
    ],
)
@pytest.mark.parametrize("parser", ["great_expectations__experimental__", "great_expectations", None])
def test_gx_conditions(written: str, found: list[int], parser: str | None) -> None:
    assert rows(written, parser) == found


def test_gx_dates() -> None:
    assert where('col("d") > date("2024-05-01")', "great_expectations") == "\"d\" > DATE '2024-05-01'"


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("x > 1", [1]),
        ("x != 1", [1, 2, 3]),
        ("not x > 1", [0, 2, 3]),
        ("~(x > 1)", [0, 2, 3]),
        ("x > 0 & y > 0", [0]),
        ("x > 0 | y > 0", [0, 1, 2, 3]),
        ("x == 1 or (x == 2 and y.isnull())", [0, 1]),
        ("-4 < x < 2", [0, 3]),
        ("x in [1, 2]", [0, 1]),
        ("x == [1, 2]", [0, 1]),
        ("x not in (1, 2)", [2, 3]),
        ("x != [1]", [1, 2, 3]),
        ("x.isin([1, -3])", [0, 3]),
        ("x.between(1, 2)", [0, 1]),
        ("`my col` == 'a & `b`'", []),
        ("`my col`.notna()", [0, 1, 3]),
        ('`my col` == "it\'s"', [1]),
        ("b", [0, 3]),
        ("not b", [1, 2]),
        ("b == True", [0, 3]),
        ("x + 1 > 1 * 2 - 1", [0, 1]),
        ("x / 2 == 0.5", [0]),
        ("x != y", [0, 1, 2, 3]),
        ("x != x", [2]),
        ("x + 1 != x + 1", [2]),
        ("x != -3", [0, 1, 2]),
    ],
)
def test_pandas_queries(written: str, found: list[int]) -> None:
    assert rows(written, "pandas") == found


@given(
    ops=st.lists(st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), min_size=1, max_size=3),
    numbers=st.lists(st.integers(-2, 3), min_size=3, max_size=3),
    words=st.lists(st.sampled_from([" and ", " or ", " and not "]), min_size=2, max_size=2),
    values=st.lists(st.none() | st.integers(-2, 3), min_size=1, max_size=5),
)
@settings(max_examples=settings().max_examples * 3)
def test_pandas_queries_against_python(
    ops: list[str], numbers: list[int], words: list[str], values: list[int | None]
) -> None:
    parts = [f"x {op} {n}" for op, n in zip(ops, numbers, strict=False)]
    query = parts[0] + "".join(w + p for w, p in zip(words, parts[1:], strict=False))
    frame = pl.DataFrame({"x": values}, schema={"x": pl.Int64})
    expr = bind(where(query, "pandas"), frame.schema)
    chosen = frame.select(expr.fill_null(value=False).alias("r"))["r"].to_list()
    # a missing value compares as NaN does
    assert chosen == [eval(query, {"x": float("nan") if v is None else v}) for v in values]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ({"type": "comparison", "column": {"name": "x"}, "operator": ">", "parameter": 1}, [1]),
        ({"type": "comparison", "column": {"name": "x"}, "operator": "!=", "parameter": 1}, [1, 3]),
        ({"type": "comparison", "column": {"name": "x"}, "operator": "IN", "parameter": [1, 2]}, [0, 1]),
        ({"type": "comparison", "column": {"name": "x"}, "operator": "NOT_IN", "parameter": [1]}, [1, 3]),
        ({"type": "nullity", "column": {"name": "x"}, "is_null": True}, [2]),
        ({"type": "nullity", "column": {"name": "x"}, "is_null": False}, [0, 1, 3]),
        ({"type": "pass_through", "pass_through_filter": "x != 1"}, [1, 2, 3]),
        (
            {
                "type": "or",
                "conditions": [
                    {"type": "comparison", "column": {"name": "x"}, "operator": "==", "parameter": 1},
                    {
                        "type": "and",
                        "conditions": [
                            {"type": "nullity", "column": {"name": "y"}, "is_null": False},
                            {"type": "nullity", "column": {"name": "x"}, "is_null": True},
                        ],
                    },
                ],
            },
            [0, 2],
        ),
    ],
)
def test_conditions_as_data(written: Any, found: list[int]) -> None:
    assert rows(written, None) == found


def test_spark_conditions_are_sql_already() -> None:
    assert rows("`my col` = 'a' OR x = 2", "spark") == [0, 1]
    assert where("`a``b` IS NULL", "spark_sql") == '"a`b" IS NULL'


@pytest.mark.parametrize(
    ("written", "parser", "why"),
    [
        (5, None, "5 is no condition"),
        ("  ", "pandas", "'  ' is no condition"),
        ("x >", "pandas", "pandas could not read it either"),
        ("x > @limit", "pandas", "@ names a Python variable, which only its program knows"),
        ("index > 3", "pandas", "rows have no index here"),
        ("x.str.contains('a')", "pandas", "x.str.contains('a')\" has no SQL"),
        ("f(x) > 1", "pandas", "'f(x)' has no SQL"),
        ("x ** 2 > 1", "pandas", "'x ** 2' has no SQL"),
        ("x is None", "pandas", "it uses is, which compares Python objects"),
        ("x > [1]", "pandas", "a list can only be compared by == and !="),
        ("x in y", "pandas", "'y' is not a list of values"),
        ("x in []", "pandas", "'[]' is not a list of values"),
        ("-x > 1", "pandas", "'-x' has no SQL"),
        ("x > 1", "great_expectations", "it is not of the form that 'great_expectations' reads"),
        ("x >", "spark", "Polars SQL cannot read it"),
        ("x > current_date()", "sql", "current_date would read the machine's clock"),
        ({"type": "xor"}, None, "its structure is not known"),
        ({"type": "and", "conditions": []}, None, "its structure is not known"),
        (
            {"type": "comparison", "column": {"name": "x"}, "operator": "~", "parameter": 1},
            None,
            "unknown operator '~'",
        ),
        ({"type": "comparison", "column": {"name": "x"}, "operator": "IN", "parameter": []}, None, "an empty list"),
        ({"type": "comparison", "column": {"name": "x"}, "operator": "==", "parameter": {}}, None, "a dict cannot be"),
    ],
)
def test_what_cannot_be_translated(written: Any, parser: str | None, why: str) -> None:
    with pytest.raises(Untranslatable) as caught:
        where(written, parser)
    assert why in str(caught.value)
