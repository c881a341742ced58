"""Sort orders that make files small: found on a few rows, by how often values differ from those of the row before.

In a Parquet file a run of equal values takes next to nothing. Rows are sorted by the column that leaves the least bits in all
columns, then by the next, as long as there is something to gain. The sort is stable, so what rises stays so among rows that are alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from lazypipe.storage.optimizer.form import is_ticking

__all__ = [
    "COUNTED_LITTLE",
    "TRIED_LITTLE",
    "kept_bits",
    "likely_order",
    "loose_key",
    "packing_order",
    "rising",
    "spread",
]

_ROWS = 8_000
"""Rows that are put in order again and again."""
_FIRST = 2_000
"""Rows that all columns are tried on, before the best are on more."""
_TRIED, _BEST = 16, 6
"""Columns that are tried as keys: those with the most bits; and those of them that are on more rows."""
_COUNTED = 32
"""Columns whose bits are counted: those that have the most."""
_KEYS = 4
"""Columns that rows are sorted by at most."""
_ALIKE = 2
"""Rows that have each value, on average, for it to be worth sorting by."""
_FEW_BITS = 0.5
"""Bits of a value, below which nothing is gained by sorting by it."""
_GAIN = 0.02
"""Which part of the bits a key must save."""
COUNTED_LITTLE, TRIED_LITTLE, _KEYS_LITTLE = 12, 8, 2
"""The same where there is little time."""
_RISES = 0.98
_DIFFER = 0.999
"""Which part of the values must be different ones, for rows to be sorted by them for their own sake."""
_OFTEN = 0.1
"""Which part of the rows may be another than the one before in a column that rises, for there to be no order yet."""
_RUN = 3.0
"""Bits that a run takes besides its value."""
_STRETCHES = 4
"""Stretches of neighbours that fewer rows are taken in."""


def packing_order(frame: pl.DataFrame, rows: int = _ROWS, tried: int = _TRIED) -> tuple[tuple[str, ...], float]:
    """Return the columns to sort by, none if nothing is to be gained, and which part of the bits that leaves; nested columns count for nothing.

    ``tried`` columns are keys at most: those with the most bits.

    Examples
    --------
    >>> frame = pl.DataFrame({"id": range(900), "shop": [n % 9 for n in range(900)], "town": [n % 3 for n in range(900)]})
    >>> order, left = packing_order(frame)
    >>> order, round(left, 2)
    (('shop',), 0.77)
    """
    probe = frame.head(rows)
    flat = _flat(frame)
    if probe.height < 2 * _ALIKE or len(flat) < 2:
        return (), 1.0
    # what a value is does not matter, only where it is another: hashes are compared and sorted the fastest
    codes = probe.select(pl.col(flat).hash())
    counts = _counts(codes)
    keys = counts.keys(probe.height)[:tried]
    codes = codes.select(counts.most(_COUNTED))
    if len(keys) > _BEST:
        first = codes.head(_FIRST)
        alone = dict(zip(keys, _sorted_bits(first, [(n,) for n in keys], counts.bits), strict=True))
        keys = sorted(keys, key=alone.__getitem__)[:_BEST]
    order = _greedy(codes, keys, counts, _KEYS)
    return order, _kept(probe, codes, order, counts) if order else 1.0


def likely_order(frame: pl.DataFrame) -> tuple[tuple[str, ...], float]:
    """Return an order as ``packing_order`` does, in a fraction of its time, and the part of the bits that is left in it.

    Only the columns with the most bits are counted, few keys are tried, on few of the rows; all of them tell what is left.

    Examples
    --------
    >>> frame = pl.DataFrame({"x": [n * 7 % 9 for n in range(900)], "shop": [n * 7 % 9 % 3 for n in range(900)]})
    >>> order, left = likely_order(frame)
    >>> order, left < 0.1
    (('x',), True)
    """
    flat = _flat(frame)
    if frame.height < 2 * _ALIKE or len(flat) < 2:
        return (), 1.0
    probe = frame.head(_FIRST).select(pl.col(flat).hash())
    counts = _counts(probe)
    names = counts.most(COUNTED_LITTLE)
    codes = frame.select(pl.col(names).hash())
    keys = [n for n in counts.keys(probe.height) if n in names][:TRIED_LITTLE]
    order = _greedy(probe.select(names), keys, counts, _KEYS_LITTLE)
    if not order:
        return (), 1.0
    # of both hashes the first half: one number is sorted by in half the time of two
    key = pl.sum_horizontal(pl.col(n) // 2**32 * 2 ** (32 - 32 * i) for i, n in enumerate(order))
    place = codes.select(pl.arg_sort_by(key, maintain_order=True, multithreaded=False)).to_series()
    return order, _left(frame, codes, place, counts.bits, rising(frame.head(_FIRST)[names]))


def kept_bits(frame: pl.DataFrame, order: Sequence[str]) -> float:
    """Return which part of the bits an order is likely to leave; what rises as rows come costs the more in another order.

    Examples
    --------
    >>> frame = pl.DataFrame({"id": range(900), "shop": [n % 9 for n in range(900)]})
    >>> kept_bits(frame, ["shop"]) > 1, kept_bits(frame.drop("id"), ["shop"]) < 0.1
    (True, True)
    """
    codes = frame.select(pl.col(_flat(frame)).hash())
    return _kept(frame, codes, order, _counts(codes))


def _kept(frame: pl.DataFrame, codes: pl.DataFrame, order: Sequence[str], counts: _Counts) -> float:
    """Return the same, of columns that were counted."""
    names = counts.most(COUNTED_LITTLE)
    place = frame.select(pl.arg_sort_by(*order, maintain_order=True, multithreaded=False)).to_series()
    types = frame.schema
    ticking = [n for n in names if is_ticking(types[n])]
    return _left(frame, codes.select(names), place, counts.bits, ticking)


def _left(
    frame: pl.DataFrame, codes: pl.DataFrame, place: pl.Series, counts: Mapping[str, float], stepping: Sequence[str]
) -> float:
    """Return the bits of rows in other places next to those of rows as they come.

    ``codes`` are the hashes of the columns, ``counts`` the bits that a value of each holds, ``stepping`` the columns of which steps count.
    """
    # a step to the next value takes as many bits as it is long, and one more
    step = (pl.all().diff().abs().cast(pl.Float64) + 1).log(2).sum() + frame.height

    def bits(codes: pl.DataFrame, steps: pl.DataFrame) -> float:
        found = _each(codes, counts)
        if stepping:
            found |= {n: min(found[n], b) for n, b in steps.select(step).row(0, named=True).items()}
        return sum(found.values())

    steps = frame.select(pl.col(*stepping).to_physical().cast(pl.Int64, strict=False)) if stepping else codes
    return bits(codes[place], steps[place]) / max(bits(codes, steps), 1.0)


def loose_key(frame: pl.DataFrame) -> str | None:
    """Return a column of whole numbers or times that all differ and come in no order, None if rows have an order already.

    That rows have no order is worth something: sorted by such a column, its values are small steps. Each row then saves about as
    many bits as it takes to number the rows.

    Examples
    --------
    >>> loose_key(pl.DataFrame({"id": [n * 7919 % 1009 for n in range(1_000)], "x": [0.5] * 1_000}))
    'id'
    >>> loose_key(pl.DataFrame({"id": [n * 7919 % 1009 for n in range(1_000)], "at": range(1_000)})) is None
    True
    """
    whole = [n for n, t in frame.schema.items() if is_ticking(t) and not frame[n].null_count()]
    if not whole or frame.height < 2:
        return None
    rises = set(rising(frame))
    counts = dict(zip(whole, frame.select(pl.col(whole).n_unique()).row(0), strict=True))
    if any(counts.get(n, 0) > _OFTEN * frame.height for n in rises):
        return None
    return next((n for n in whole if counts[n] >= _DIFFER * frame.height and n not in rises), None)


def rising(frame: pl.DataFrame) -> list[str]:
    """Return the columns of whole numbers, dates and times of which nearly all steps from a value to the next do not fall.

    Examples
    --------
    >>> rising(pl.DataFrame({"id": [3, 4, 4, 9], "x": [3, 2, 4, 1], "name": ["a", "b", "c", "d"]}))
    ['id']
    """
    whole = [n for n, t in frame.schema.items() if is_ticking(t)]
    found = frame.select((pl.col(whole) >= pl.col(whole).shift()).mean()) if whole else frame.clear()
    return [n for n in whole if (found[n].item() or 0.0) >= _RISES]


def spread(frame: pl.DataFrame, rows: int) -> pl.DataFrame:
    """Return so many rows, in stretches."""
    if frame.height <= rows:
        return frame
    step = frame.height // _STRETCHES
    return pl.concat(frame.slice(i * step, rows // _STRETCHES) for i in range(_STRETCHES))


def _flat(frame: pl.DataFrame) -> list[str]:
    return [n for n, t in frame.schema.items() if not t.is_nested() and t not in (pl.Null, pl.Object)]


@dataclass(frozen=True)
class _Counts:
    """The bits that a value of each column holds, and how many different ones there are."""

    bits: Mapping[str, float]
    distinct: Mapping[str, int]

    def most(self, number: int) -> list[str]:
        """Return so many columns: those with the most bits."""
        return sorted(self.bits, key=lambda n: -self.bits[n])[:number]

    def keys(self, rows: int) -> list[str]:
        """Return the columns that are worth sorting so many rows by, those with the most bits first."""
        return [n for n in self.most(len(self.bits)) if self.bits[n] > _FEW_BITS and self.distinct[n] <= rows / _ALIKE]


def _counts(codes: pl.DataFrame) -> _Counts:
    counts = codes.select(pl.all().unique_counts().implode())
    distinct = pl.all().list.len().name.prefix("of:")
    found = counts.select(pl.all().explode().entropy(base=2), distinct).row(0)
    bits = (b or 0.0 for b in found)
    return _Counts(
        dict(zip(codes.columns, bits, strict=False)), dict(zip(codes.columns, found[codes.width :], strict=True))
    )


def _greedy(codes: pl.DataFrame, keys: Sequence[str], counts: _Counts, most: int) -> tuple[str, ...]:
    """Return the keys, ``most`` of them, of which each leaves the least bits when rows are sorted by it after those before."""
    left, order = list(keys), list[str]()
    least = whole = math.inf
    while left and len(order) < most:
        first = [] if order else [()]
        found = _sorted_bits(codes, [*((*order, n) for n in left), *first], counts.bits)
        if first:
            least = whole = found.pop()
        tried = dict(zip(left, found, strict=True))
        best = min(left, key=lambda n: (tried[n], counts.distinct[n]))
        if tried[best] > least - _GAIN * whole:
            break
        least = tried[best]
        order.append(best)
        # what saves little by itself does not save more in an order
        left = sorted((n for n in left if n != best), key=tried.__getitem__)[: None if most > _KEYS_LITTLE else most]
    return tuple(order)


def _sorted_bits(codes: pl.DataFrame, orders: Sequence[Sequence[str]], bits: Mapping[str, float]) -> list[float]:
    """Return the bits that all columns take with rows in each of some orders of hashes; in none, as they come."""
    runs = pl.all().rle_id().last() + 1
    # so short that planning, and other threads, take more time than they save
    plans = [
        (codes.lazy().sort(*by, maintain_order=True, multithreaded=False) if by else codes.lazy()).select(runs)
        for by in orders
    ]
    found = pl.concat(plans, parallel=False).collect(engine="in-memory", optimizations=pl.QueryOptFlags.none())
    return [sum(_of_runs(codes, row, bits).values()) for row in found.rows()]


def _each(codes: pl.DataFrame, bits: Mapping[str, float]) -> dict[str, float]:
    """Return the bits of each column: a value for each run, or for each row if that is less."""
    return _of_runs(codes, codes.select(pl.all().rle_id().last() + 1).row(0), bits)


def _of_runs(codes: pl.DataFrame, runs: Sequence[int], bits: Mapping[str, float]) -> dict[str, float]:
    rows = codes.height
    return {n: min(r * (bits[n] + _RUN), rows * bits[n]) for n, r in zip(codes.columns, runs, strict=True)}
