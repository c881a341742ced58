"""Curves through two or three columns: every cell once, neighbours side by side; values numbered by quantiles."""

from __future__ import annotations

import itertools
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.storage.optimizer import order
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.order import curve_bounds, ordered, with_bounds, with_key


def cells(columns: int, bits: int) -> list[list[int]]:
    """The coordinates of every cell, the last column fastest, by plain arithmetic."""
    return [[i >> bits * (columns - 1 - c) & 2**bits - 1 for c in range(columns)] for i in range(2 ** (bits * columns))]


@pytest.mark.parametrize(("columns", "bits"), [(2, 2), (2, 5), (3, 2), (3, 3)])
def test_hilberts_curve_visits_every_cell_once_and_takes_single_steps(columns: int, bits: int) -> None:
    place = order._along("hilbert", columns, bits).to_list()
    assert sorted(place) == list(range(2 ** (bits * columns)))
    path = [cell for _, cell in sorted(zip(place, cells(columns, bits), strict=True))]
    assert all(sum(abs(a - b) for a, b in zip(one, other, strict=True)) == 1 for one, other in itertools.pairwise(path))


@pytest.mark.parametrize(("columns", "bits"), [(2, 3), (3, 2)])
def test_z_order_interleaves_bits(columns: int, bits: int) -> None:
    place = order._along("z_order", columns, bits).to_list()
    expected = []
    for cell in cells(columns, bits):
        digits = "".join(format(c, f"0{bits}b")[b] for b in range(bits) for c in cell)
        expected.append(int(digits, 2))
    assert place == expected


@given(st.lists(st.none() | st.integers(-50, 50), max_size=200), st.integers(1, 4))
def test_bounds_are_values_and_part_them_evenly(values: list[int | None], bits: int) -> None:
    bounds = curve_bounds(pl.Series(values, dtype=pl.Int64), bits).to_list()
    known = sorted(v for v in values if v is not None)
    assert bounds == sorted(set(bounds))
    assert set(bounds) <= set(known)
    assert len(bounds) <= 2**bits - 2
    if len(set(known)) == len(known) and bits > 1 and known:
        counts = [sum(a <= v < b for v in known) for a, b in zip([-99, *bounds], [*bounds, 99], strict=True)]
        assert max(counts) <= -(-len(known) // (2**bits - 1)) + 1


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Boolean, pl.Categorical, pl.Date, pl.String, pl.Enum(["0", "1"])])
def test_values_are_numbered_by_bounds_and_nulls_come_first(dtype: Any) -> None:
    values = (
        pl.Series(["1", None, "0"]).cast(pl.Int32).cast(dtype)
        if dtype in (pl.Date, pl.Boolean)
        else pl.Series(["1", None, "0"]).cast(dtype)
    )
    frame = pl.DataFrame({"a": values, "b": [0, 0, 0]})
    layout = with_bounds(Layout(sort_by=("a", "b"), curve="z_order"), frame, "u")
    bounds = {n: pl.Series(layout.bounds[n], dtype=pl.String).cast(order._physical(frame[n]).dtype) for n in ("a", "b")}
    made = with_key(frame, bounds=bounds, place=order._along("z_order", 2, 8), bits=8)
    one, null, zero = made["__lazypipe_order"]
    assert null < zero < one
    assert made.drop("__lazypipe_order").equals(frame)
    assert ordered(frame.lazy(), layout, frame.schema, "u").collect()["a"].to_list() == [
        None,
        *frame["a"].gather([2, 0]).to_list(),
    ]


def test_rows_without_an_order_stay_as_they_are() -> None:
    frame = pl.LazyFrame({"a": [3, 1, 2]})
    assert ordered(frame, Layout(), frame.collect_schema(), "u") is frame
    assert ordered(frame, Layout(sort_by=("a",)), frame.collect_schema(), "u").collect()["a"].to_list() == [1, 2, 3]


@pytest.mark.parametrize("dtype", [pl.Int64(), pl.Null()], ids=str)
def test_a_column_of_nulls_has_no_bounds(dtype: pl.DataType) -> None:
    frame = pl.DataFrame({"a": pl.Series([None, None], dtype=dtype), "b": [2, 1]})
    layout = with_bounds(Layout(sort_by=("a", "b"), curve="hilbert"), frame, "u")
    assert layout.bounds["a"] == ()
    assert ordered(frame.lazy(), layout, frame.schema, "u").collect()["b"].to_list() == [1, 2]
