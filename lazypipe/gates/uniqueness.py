"""Whether a key repeats, checked batch by batch, without keeping the keys.

A batch whose single key column never decreases is remembered by its ends only: what repeats inside it is seen at once, by
comparing neighbours, and where no such interval overlaps another, only keys at the ends can stand in two batches. That is
exact, in memory that does not grow with the rows. Other batches (and those so small that they may be in order by chance)
leave one 64-bit hash per row; equal keys have equal hashes, so where all hashes differ, nothing repeats. Neither ever
misses a repeat; where they cannot tell, the caller counts exactly.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter, xor
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from lazypipe.sql.exprs import in_pairs

__all__ = ["HASH", "TIMES_COLUMN", "Ends", "KeyHashes", "KeyTracker", "hashable", "hashed", "repeated"]

TIMES_COLUMN = "__lazypipe_times"
HASH = "__lazypipe_hash"
"""The column with the hash of each row's key. Equal keys have equal hashes, in one version of Polars."""

_SMALL = 16
"""Rows of a batch whose hashes take no more memory than its interval."""

_HELD = 4_000_000
"""Hashes held in memory, each with its unit, before they go to a temporary file."""

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


@dataclass(frozen=True)
class _Span:
    """A batch's keys as physical values: the first and last key, how often each occurs, and the rows in between that repeat."""

    least: Any
    most: Any
    hashed: bool = True
    times_least: int = 0
    times_most: int = 0
    inner: int = 0


@dataclass(frozen=True)
class Ends:
    """What is known of an ordered batch, as physical values: keys that repeat in it, and those at its ends.

    Only those at the ends may stand in other batches too, if no two of them overlap.
    """

    repeated: pl.Series
    ends: pl.Series


class KeyTracker:
    """Sees the keys of all batches of a frame, in any order; thread-safe."""

    def __init__(self, keys: tuple[str, ...], schema: pl.Schema) -> None:
        self._keys = [_comparable(name, schema[name]) for name in keys]
        self._hashable = hashable(keys, schema)
        dtype = schema[keys[0]]
        self._ordered = len(keys) == 1 and (
            dtype.is_integer() or dtype.is_temporal() or dtype.is_decimal() or dtype == pl.String
        )
        self._lock = threading.Lock()
        self._spans: list[_Span] = []
        self._hashes: list[pl.Series] = []
        self._unseen = False
        self._counted: Counter[Any] = Counter()

    def add(self, batch: pl.DataFrame, hashes: pl.Series | None = None) -> Ends | None:
        """Take note of a batch's keys; rows with a null in the key are not compared.

        Parameters
        ----------
        hashes
            Those of the keys that are compared, where they are known already.

        Returns
        -------
        Ends or None
            What is known at once; None where the keys are in no order.
        """
        if hashes is not None and self._hashable and not self._ordered:
            self._hash(hashes)
            return None
        keys = batch.select(self._keys).drop_nulls()
        if keys.height == 0:
            return None
        if not self._hashable:
            self._unseen = True
            return None
        if self._ordered:
            # as numbers: Python's datetimes have no nanoseconds, and no order where clocks are put back
            values = keys.to_series().to_physical()
            before, after = values.slice(0, keys.height - 1), values.slice(1)
            inside = values.clear()
            ordered = keys.height > _SMALL
            if ordered and not (after > before).all():
                ordered = bool((after >= before).all())
                if ordered:
                    inside = after.filter(after == before).unique()
            if ordered:
                self._note(values, inside)
                return Ends(inside, values.gather([0, keys.height - 1]))
            self._keep(_Span(values.min(), values.max()))
        self._hash(keys.select(_row_hash(keys.columns)).to_series())
        return None

    def _hash(self, hashes: pl.Series) -> None:
        with self._lock:
            self._hashes.append(hashes)

    def _note(self, values: pl.Series, inside: pl.Series) -> None:
        least, most = values[0], values[-1]
        times_least, times_most = 1, int(least != most)
        inner = 0
        if len(inside):
            # in order: an end's repeats are found where the next value begins
            times_least = int(values.search_sorted(least, side="right"))
            times_most = 0 if least == most else len(values) - int(values.search_sorted(most, side="left"))
            between = inside.filter((inside > least) & (inside < most))
            inner = int(values.is_in(between.implode()).sum()) if len(between) else 0
        self._keep(_Span(least, most, hashed=False, times_least=times_least, times_most=times_most, inner=inner))

    def _keep(self, span: _Span) -> None:
        with self._lock:
            self._spans.append(span)

    def count(self) -> int | None:
        """Return how many rows have a key that another row has too; None if that is not known."""
        if self._unseen:
            return None
        if self._hashes:
            hashes = pl.concat(self._hashes)
            if hashes.n_unique() < len(hashes):
                return None
        times: Counter[Any] = Counter()
        reached: dict[bool, Any] = {}
        for span in sorted(self._spans, key=lambda s: (s.least, s.most)):
            for hashed, most in reached.items():
                # two spans of hashed rows may overlap: their hashes have been compared; two in order may touch
                if span.least < most and not (hashed and span.hashed):
                    return None
                if span.least == most and hashed != span.hashed:
                    return None
            reached[span.hashed] = max(span.most, reached.get(span.hashed, span.most))
            if not span.hashed:
                times[span.least] += span.times_least
                times[span.most] += span.times_most
        self._counted = times
        return sum(s.inner for s in self._spans) + sum(n for n in times.values() if n > 1)

    def ends_repeated(self, dtype: pl.DataType) -> pl.Series:
        """Return the keys at ends of batches that repeat, as physical values; to be asked after ``count``."""
        physical = pl.Series(dtype=dtype).to_physical().dtype
        return pl.Series([key for key, times in self._counted.items() if times > 1], dtype=physical)


class KeyHashes:
    """Keeps the hash of each compared row's key, by the unit that the row is of; thread-safe, beyond a budget on disk.

    With ``once`` a key that repeats within a unit is kept once. With ``nulls`` a null is a value like others. Keys are hashed
    as if they were of ``types``, if these are given.
    """

    def __init__(
        self,
        keys: tuple[str, ...],
        schema: pl.Schema,
        spill: Path,
        unit: str,
        *,
        once: bool = False,
        nulls: bool = False,
        types: Sequence[pl.DataType] = (),
    ) -> None:
        self._key = hashed(keys, schema, nulls=nulls, types=types)
        self._once = once
        self._spill = spill
        self._unit = unit
        self._lock = threading.Lock()
        self._parts: dict[int, list[pl.Series]] = {}
        self._rows = 0
        self._spilled: list[Path] = []

    def add(self, unit: int, batch: pl.DataFrame) -> pl.Series:
        """Take note of the keys of rows of one unit, and return their hashes; those with a null in the key are not compared."""
        return self._keep(unit, batch.select(self._key).to_series())

    def add_all(self, parts: Iterable[tuple[int, pl.DataFrame]]) -> None:
        """Take note of the keys of rows of several units, hashed in one query: one for each would cost more than the hashes."""
        ordered = sorted(parts, key=itemgetter(0))
        left = pl.concat(rows for _, rows in ordered).select(self._key).to_series()
        for unit, of in groupby(ordered, key=itemgetter(0)):
            height = sum(rows.height for _, rows in of)
            self._keep(unit, left[:height])
            left = left[height:]

    def _keep(self, unit: int, found: pl.Series) -> pl.Series:
        found = found.drop_nulls() if found.has_nulls() else found
        found = found.unique(maintain_order=True) if self._once else found
        with self._lock:
            self._parts.setdefault(unit, []).append(found)
            self._rows += len(found)
            if self._rows > _HELD:
                self._spill.mkdir(parents=True, exist_ok=True)
                path = self._spill / f"keys-{id(self)}-{len(self._spilled)}.arrow"
                self._here().write_ipc(path)
                self._spilled.append(path)
                self._parts, self._rows = {}, 0
        return found

    def _here(self) -> pl.DataFrame:
        """Return what is held in memory; put together unit by unit, for a query per batch would cost more than the hashes."""
        frames = [pl.DataFrame(schema={HASH: pl.UInt64, self._unit: pl.UInt64})]
        for unit, parts in self._parts.items():
            hashes = pl.concat(parts)
            hashes = hashes.unique() if self._once else hashes
            frames.append(hashes.to_frame().with_columns(pl.lit(unit, dtype=pl.UInt64).alias(self._unit)))
        return pl.concat(frames)

    def frame(self) -> pl.LazyFrame:
        """Return the hashes, each with its unit."""
        found = pl.concat([*(pl.scan_ipc(path) for path in self._spilled), self._here().lazy()])
        return found.unique() if self._once and self._spilled else found


def hashable(keys: Iterable[str], schema: pl.Schema) -> bool:
    """Whether equal values of all the columns have equal hashes."""
    return not any(schema[name].is_nested() or schema[name] == pl.Object for name in keys)


def hashed(
    keys: tuple[str, ...], schema: pl.Schema, *, nulls: bool = False, types: Sequence[pl.DataType] = ()
) -> pl.Expr:
    """Return the hash of a row's key, null where there is a null in it; unless ``nulls`` are values like others.

    Values of other types than those in the ``schema`` have equal hashes with theirs where both are hashed as if of the same ``types``.

    Examples
    --------
    >>> rows = pl.DataFrame({"a": [1, 2, None], "b": [2, 1, 3]})
    >>> found = rows.select(hashed(("a", "b"), rows.schema)).to_series()
    >>> found[0] == found[1], found[2]
    (False, None)
    """
    values = [_comparable(name, schema[name]).alias(name) for name in keys]
    values = [v.cast(t) for v, t in zip(values, types, strict=True)] if types else values
    if nulls:
        return _row_hash(values)
    known = pl.all_horizontal(pl.col(name).is_not_null() for name in keys)
    return pl.when(known).then(_row_hash(values)).alias(HASH)


def _row_hash(columns: Sequence[str | pl.Expr]) -> pl.Expr:
    # a different seed per column, so that (a, b) and (b, a) differ
    exprs = [pl.col(c) if isinstance(c, str) else c for c in columns]
    return in_pairs(xor, (e.hash(seed) for seed, e in enumerate(exprs, start=1))).alias(HASH)


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
