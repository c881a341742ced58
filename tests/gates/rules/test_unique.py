"""The rule unique: edges, every type, and a naive oracle."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

NAN = math.nan


def column(values: Sequence[Any], dtype: Any = None) -> pl.DataFrame:
    return pl.DataFrame({"a": pl.Series("a", values, dtype=dtype, strict=False)})


def test_unique_does_not_compare_null_and_takes_every_row_of_a_repeated_key(violations: Any) -> None:
    assert violations(column([1, 1, 2, None, None]), {"unique": "a"}) == [True, True, False, False, False]
    assert violations(column([NAN, NAN, 0.0, -0.0, 1.0]), {"unique": "a"}) == [True, True, True, True, False]
    assert violations(column([], pl.Int8), {"unique": "a"}) == []
    assert violations(column([None, None], pl.Null), {"unique": "a"}) == [False, False]


REPEATED: dict[str, tuple[Any, Any, Any]] = {
    "categorical": (pl.Categorical, "a", "b"),
    "enum": (pl.Enum(["a", "b"]), "a", "b"),
    "list": (pl.List(pl.Int8), [1, None], []),
    "array": (pl.Array(pl.Float64, 2), [NAN, 0.0], [1.0, 2.0]),
    "struct": (pl.Struct({"x": pl.Int8, "y": pl.String}), {"x": 1, "y": None}, {"x": None, "y": "1"}),
    "bool": (pl.Boolean, True, False),
    "binary": (pl.Binary, b"", b"0"),
    "decimal": (pl.Decimal(10, 2), Decimal("1.00"), Decimal("1.01")),
    "text": (pl.String, "", " "),
}


@pytest.mark.parametrize("kind", REPEATED)
def test_unique_on_keys_of_every_type(violations: Any, kind: str) -> None:
    dtype, twice, once = REPEATED[kind]
    assert violations(column([twice, once, twice, None, None], dtype), {"unique": "a"}) == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert violations(column([twice, once, None], dtype), {"unique": "a"}) == [False, False, False]


def test_unique_compares_only_the_rows_of_where(violations: Any) -> None:
    frame = pl.DataFrame({"a": [1, 1, 2, 2, 3, 3], "w": [True, False, True, True, None, None]})
    assert violations(frame, {"unique": {"columns": "a", "where": "w"}}) == [False, False, True, True, False, False]


@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 2), st.none() | st.sampled_from("xy"), st.none() | st.booleans()),
        max_size=20,
    )
)
def test_unique_equals_the_oracle(violations: Any, rows: list[tuple[Any, Any, Any]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.String, "w": pl.Boolean}, orient="row")
    keys = [(a, b) if w and a is not None and b is not None else None for a, b, w in rows]
    times = Counter(k for k in keys if k is not None)
    assert violations(frame, {"unique": {"columns": ["a", "b"], "where": "w"}}) == [
        times[k] > 1 if k else False for k in keys
    ]
