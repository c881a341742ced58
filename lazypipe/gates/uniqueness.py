"""Whether a key repeats, seen batch by batch, without keeping the keys.

A batch whose single key column strictly increases is remembered by its first and last value only: where no such interval
overlaps another, nothing repeats, in memory that does not grow with the rows. Other batches (and those so small that they
may be in order by chance) leave one 64-bit hash per row; equal keys have equal hashes, so where all hashes differ, nothing
repeats. Neither ever misses a repeat; where they cannot exclude one, the caller counts exactly.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, TypeVar

import polars as pl

__all__ = ["TIMES_COLUMN", "KeyTracker", "repeated"]

TIMES_COLUMN = "__lazypipe_times"

_SMALL = 16
"""Rows of a batch whose hashes take no more memory than its interval."""

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


class KeyTracker:
    """Sees the keys of all batches of a frame, in any order; thread-safe, because it only appends."""

    def __init__(self, keys: tuple[str, ...], schema: pl.Schema) -> None:
        self._keys = [_comparable(name, schema[name]) for name in keys]
        self._hashable = not any(schema[name].is_nested() or schema[name] == pl.Object for name in keys)
        dtype = schema[keys[0]]
        self._ordered = len(keys) == 1 and (
            dtype.is_integer() or dtype.is_temporal() or dtype.is_decimal() or dtype == pl.String
        )
        self._spans: list[tuple[Any, Any, bool]] = []  # least, greatest, whether the rows between are hashed
        self._hashes: list[pl.Series] = []
        self._unseen = False

    def add(self, batch: pl.DataFrame) -> None:
        """Take note of a batch's keys; rows with a null in the key are not compared."""
        keys = batch.select(self._keys).drop_nulls()
        if keys.height == 0:
            return
        if not self._hashable:
            self._unseen = True
            return
        if self._ordered:
            # as numbers: Python's datetimes have no nanoseconds, and no order where clocks are put back
            values = keys.to_series().to_physical()
            hashed = keys.height <= _SMALL or not (values.slice(1) > values.slice(0, keys.height - 1)).all()
            self._spans.append((values.min(), values.max(), hashed))
            if not hashed:
                return
        # a different seed per column, so that (a, b) and (b, a) differ
        row = reduce(lambda a, b: a ^ b, (pl.col(n).hash(seed) for seed, n in enumerate(keys.columns, start=1)))
        self._hashes.append(keys.select(row.alias("h")).to_series())

    def may_repeat(self) -> bool:
        """Whether a key may stand in two rows; False is certain."""
        if self._unseen:
            return True
        if self._hashes:
            hashes = pl.concat(self._hashes)
            if hashes.n_unique() < len(hashes):
                return True
        reached: dict[bool, Any] = {}
        for least, greatest, hashed in sorted(self._spans):
            # two spans of hashed rows may overlap: their hashes have been compared
            if any(least <= reached[other] for other in reached if not (hashed and other)):
                return True
            reached[hashed] = max(greatest, reached.get(hashed, greatest))
        return False


def _comparable(name: str, dtype: pl.DataType) -> pl.Expr:
    """The column in a form whose equal values have equal hashes."""
    column = pl.col(name)
    if dtype.is_float():
        return column.fill_nan(float("nan")) + 0.0  # one NaN, and no minus zero
    return column.cast(pl.String) if isinstance(dtype, pl.Categorical | pl.Enum) else column


def repeated(frame: Frame, names: tuple[str, ...], where: pl.Expr | None = None) -> Frame:
    """Return the keys that stand in more than one of the compared rows, and in how many (``__lazypipe_times``)."""
    keys = [pl.col(k) for k in names]
    rows = frame if where is None else frame.filter(where)
    compared = rows.select(keys).filter(pl.all_horizontal(k.is_not_null() for k in keys))
    return compared.group_by(keys).agg(pl.len().alias(TIMES_COLUMN)).filter(pl.col(TIMES_COLUMN) > 1)
