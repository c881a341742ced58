"""Wider types: every value of both is held, or there is none."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.storage.widen import widened

WHOLE = [pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64()]
NUMBERS = [*WHOLE, pl.Float32(), pl.Float64()]
us, ns = pl.Datetime("us"), pl.Datetime("ns")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pl.Int32(), pl.Int64(), pl.Int64()),
        (pl.UInt8(), pl.Int8(), pl.Int16()),
        (pl.UInt8(), pl.Int16(), pl.Int16()),
        (pl.UInt64(), pl.Int8(), pl.Int128()),
        (pl.UInt128(), pl.Int8(), None),
        (pl.Int8(), pl.Float16(), pl.Float16()),
        (pl.Int16(), pl.Float16(), pl.Float32()),
        (pl.Int16(), pl.Float32(), pl.Float32()),
        (pl.Int32(), pl.Float32(), pl.Float64()),
        (pl.Int64(), pl.Float64(), None),
        (pl.Float32(), pl.Float64(), pl.Float64()),
        (pl.Decimal(10, 2), pl.Decimal(10, 4), pl.Decimal(12, 4)),
        (pl.Decimal(38, 2), pl.Decimal(38, 4), None),
        (pl.Decimal(10, 2), pl.Int32(), pl.Decimal(12, 2)),
        (pl.Decimal(10, 2), pl.Float64(), None),
        (pl.Date(), us, us),
        (pl.Date(), pl.Datetime("us", "UTC"), None),
        (us, ns, ns),
        (pl.Datetime("ms"), us, us),
        (pl.Datetime("ms"), pl.Datetime("ms"), pl.Datetime("ms")),
        (us, pl.Datetime("us", "UTC"), None),
        (pl.Datetime("ms", "UTC"), pl.Datetime("us", "UTC"), pl.Datetime("us", "UTC")),
        (pl.Duration("ms"), pl.Duration("us"), pl.Duration("us")),
        (pl.Categorical(), pl.String(), pl.String()),
        (pl.Enum(["a"]), pl.Enum(["b"]), pl.String()),
        (pl.Null(), pl.Date(), pl.Date()),
        (pl.String(), pl.Int64(), None),
        (pl.Boolean(), pl.Int8(), None),
        (pl.Time(), pl.Date(), None),
        (pl.List(pl.Int8()), pl.List(pl.Int32()), pl.List(pl.Int32())),
        (pl.List(pl.Int8()), pl.List(pl.String()), None),
        (pl.Array(pl.Int8(), 2), pl.Array(pl.Int32(), 2), pl.Array(pl.Int32(), 2)),
        (pl.Array(pl.Int8(), 2), pl.Array(pl.String(), 2), None),
        (pl.Array(pl.Int8(), 2), pl.Array(pl.Int8(), 3), None),
        (pl.Struct({"a": pl.Int8()}), pl.Struct({"a": pl.Int32()}), pl.Struct({"a": pl.Int32()})),
        (pl.Struct({"a": pl.Int8()}), pl.Struct({"a": pl.String()}), None),
        (pl.Struct({"a": pl.Int8()}), pl.Struct({"b": pl.Int8()}), None),
    ],
)
def test_widened(one: pl.DataType, other: pl.DataType, expected: pl.DataType | None) -> None:
    assert widened(one, other) == expected
    assert widened(other, one) == expected


@given(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
def test_the_ends_of_both_survive(one: pl.DataType, other: pl.DataType) -> None:
    both = widened(one, other)
    if both is None:
        return
    for dtype in (one, other):
        ends = (
            pl.select(dtype.min(), dtype.max().alias("max"))
            if dtype.is_integer()
            else pl.select(pl.lit(0.1, dtype=dtype))
        )  # type: ignore[attr-defined]
        wide = ends.cast(both)
        assert wide.cast(dtype).equals(ends)
