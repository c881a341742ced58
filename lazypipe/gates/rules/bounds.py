"""The arithmetic of bounds: whether something lies between them, and the allowed value nearest to one that does not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache

import polars as pl
from polars.datatypes import IntegerType

from lazypipe.gates.written import literal

__all__ = ["CLOSED", "Bounds"]

CLOSED = ("both", "left", "right", "none")
"""Which bounds are allowed values themselves."""


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value, either of which may be missing, each a series of one, and whether they count.

    Examples
    --------
    >>> bounds = Bounds(pl.Series([1]), pl.Series([3]), "left")
    >>> nearest = bounds.nearest(pl.col("a"), pl.Int8())
    >>> pl.DataFrame({"a": [0, 1, 2, 3]}, schema={"a": pl.Int8}).select(nearest).to_series().to_list()
    [1, 1, 2, 2]
    """

    least: pl.Series | None
    most: pl.Series | None
    closed: str

    @property
    def crossed(self) -> bool:
        """Whether the least is greater than the greatest."""
        return self._order > 0

    @property
    def empty(self) -> bool:
        """Whether both are the same value, which is not allowed."""
        return self._order == 0 and self.closed != "both"

    @cached_property
    def _order(self) -> int:
        """Whether the least is greater (1), or less (-1), which it is of none, or the same (0)."""
        if self.least is None or self.most is None:
            return -1
        greater, same = pl.select(
            literal(self.least) > literal(self.most), same=literal(self.least) == literal(self.most)
        ).row(0)
        return 1 if greater else 0 if same else -1

    def takes(self, side: str) -> bool:
        """Whether the bound of a side is an allowed value."""
        return self.closed in ("both", side)

    def nearest(self, column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
        """Return the allowed value nearest to that of a column; None where there is none, as below an open bound of floats.

        NaN, which is near to nothing, stays.
        """
        edges = self._edges(dtype) if dtype.is_float() or dtype == pl.String else self._steps(dtype)
        if edges is None:
            return None
        low, high = edges
        found = column
        if high is not None:
            above = (column > high) & column.is_not_nan() if dtype.is_float() else column > high
            found = pl.when(above).then(high).otherwise(found)
        return found if low is None else pl.when(column < low).then(low).otherwise(found)

    def _edges(self, dtype: pl.DataType) -> tuple[pl.Expr | None, pl.Expr | None] | None:
        if (self.least is not None and not self.takes("left")) or (self.most is not None and not self.takes("right")):
            return None
        low, high = (None if b is None else literal(b) for b in (self.least, self.most))
        return low, high

    def _steps(self, dtype: pl.DataType) -> tuple[pl.Expr, pl.Expr] | None:
        """Return the first and the last allowed value of a type that goes in steps."""
        first, last = _range(dtype)
        low, high = _count(self.least, dtype), _count(self.most, dtype)
        if low is not None:
            first = max(first, math.ceil(low) if self.takes("left") else math.floor(low) + 1)
        if high is not None:
            last = min(last, math.floor(high) if self.takes("right") else math.ceil(high) - 1)
        return None if first > last else (_step(first, dtype), _step(last, dtype))


@lru_cache(maxsize=64)
def _range(dtype: pl.DataType) -> tuple[int, int]:
    """Return how far a type counts."""
    match dtype:
        case pl.Decimal():
            return 1 - 10**dtype.precision, 10**dtype.precision - 1
        case pl.Time():
            return 0, 86_400 * 10**9 - 1
        case pl.Date():
            return -(2**31), 2**31 - 1
        case IntegerType():
            first, last = pl.select(dtype.min(), last=dtype.max()).row(0)
            return first, last
    return -(2**63), 2**63 - 1


def _count(bound: pl.Series | None, dtype: pl.DataType) -> Fraction | None:
    """Return a bound in the steps of its column; None for one that bounds nothing."""
    if bound is None:
        return None
    value = bound.to_physical()[0] if bound.dtype.is_temporal() else bound[0]
    if isinstance(value, float) and math.isinf(value):
        return None
    return Fraction(value) * (10**dtype.scale if isinstance(dtype, pl.Decimal) else 1)


def _step(count: int, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Decimal):
        return pl.lit(Decimal(f"{count}e-{dtype.scale}")).cast(dtype)
    # no Python number is as wide as UInt128
    text = pl.lit(str(count))
    return text.cast(pl.Int64).cast(dtype) if dtype.is_temporal() else text.cast(dtype)
