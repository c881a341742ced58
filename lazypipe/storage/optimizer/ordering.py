"""Orders of rows that make files small: found on a few rows, by how often values are other than in the row before.

In a Parquet file a run of equal values takes next to nothing. Rows are sorted by the column that leaves the least bits in all
columns, then by the next, as long as there is something to gain. The sort is stable, so what rises stays so among rows that are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from lazypipe.storage.optimizer.form import is_ticking

__all__ = ["kept_bits", "loose_key", "packing_order", "rising", "spread"]

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
_RISES = 0.98
_DIFFER = 0.999
"""Which part of the values must be different ones, for rows to be sorted by them for their own sake."""
_OFTEN = 0.1
"""Which part of the rows may be another than the one before in a column that rises, for there to be no order yet."""
_RUN = 3.0
"""Bits that a run takes besides its value."""
_STRETCHES = 4
"""Stretches of neighbours that fewer rows are taken in."""


def packing_order(frame: pl.DataFrame, rows: int = _ROWS) -> tuple[str, ...]:
    """Return the columns to sort by, none if nothing is to be gained; nested columns count for nothing.

    Examples
    --------
    >>> frame = pl.DataFrame({"id": range(900), "shop": [n % 9 for n in range(900)], "town": [n % 3 for n in range(900)]})
    >>> packing_order(frame)
    ('shop',)
    """
    probe = frame.head(rows)
    flat = [n for n, t in frame.schema.items() if not t.is_nested() and t not in (pl.Null, pl.Object)]
    if probe.height < 2 * _ALIKE or len(flat) < 2:
        return ()
    # what a value is does not matter, only where it is another: hashes are compared and sorted the fastest
    codes = probe.select(pl.col(flat).hash())
    bits = _entropies(codes)
    distinct = codes.select(pl.all().n_unique()).row(0, named=True)
    worth = [n for n in flat if bits[n] > _FEW_BITS and distinct[n] <= probe.height / _ALIKE]
    keys = sorted(worth, key=lambda n: -bits[n])[:_TRIED]
    codes = codes.select(sorted(flat, key=lambda n: -bits[n])[:_COUNTED])
    if len(keys) > _BEST:
        first = codes.head(_FIRST)
        keys = sorted(keys, key=lambda n: _bits(first.sort(n, maintain_order=True), bits))[:_BEST]
    least = _bits(codes, bits)
    whole, order = least, list[str]()
    while keys and len(order) < _KEYS:
        tried = {n: _bits(codes.sort(*order, n, maintain_order=True), bits) for n in keys}
        best = min(keys, key=lambda n: (tried[n], distinct[n]))
        if tried[best] > least - _GAIN * whole:
            break
        least = tried[best]
        order.append(best)
        keys.remove(best)
    return tuple(order)


def kept_bits(frame: pl.DataFrame, order: Sequence[str]) -> float:
    """Return which part of the bits an order is likely to leave; what rises as rows come costs the more in another order.

    Examples
    --------
    >>> frame = pl.DataFrame({"id": range(900), "shop": [n % 9 for n in range(900)]})
    >>> kept_bits(frame, ["shop"]) > 1, kept_bits(frame.drop("id"), ["shop"]) < 0.1
    (True, True)
    """
    ticking = [n for n, t in frame.schema.items() if is_ticking(t)]
    flat = [n for n, t in frame.schema.items() if not t.is_nested() and t not in (pl.Null, pl.Object)]
    codes = frame.select(pl.col(flat).hash())
    counts = _entropies(codes)
    # a step to the next value takes as many bits as it is long, and one more
    step = (pl.all().diff().abs().cast(pl.Float64) + 1).log(2).sum() + frame.height

    def bits(rows: pl.DataFrame) -> float:
        found = _each(rows.select(pl.col(flat).hash()), counts)
        steps = (
            rows.select(pl.col(ticking).to_physical().cast(pl.Int64, strict=False)).select(step) if ticking else None
        )
        return sum(min(b, steps[n].item()) if steps is not None and n in steps.columns else b for n, b in found.items())

    return bits(frame.sort(order, maintain_order=True)) / max(bits(frame), 1.0)


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


def _entropies(codes: pl.DataFrame) -> dict[str, float]:
    """Return the bits that a value of each column holds."""
    counts = pl.all().value_counts(name="__n").struct.field("__n").entropy(base=2)
    return {n: bits or 0.0 for n, bits in codes.select(counts.name.keep()).row(0, named=True).items()}


def _bits(codes: pl.DataFrame, bits: dict[str, float]) -> float:
    """Return the bits that all columns take in this order."""
    return sum(_each(codes, bits).values())


def _each(codes: pl.DataFrame, bits: dict[str, float]) -> dict[str, float]:
    """Return the bits of each column: a value for each run, or for each row if that is less."""
    runs: Sequence[int] = codes.select((pl.all() != pl.all().shift()).sum() + 1).row(0)
    return {n: min(r * (bits[n] + _RUN), codes.height * bits[n]) for n, r in zip(codes.columns, runs, strict=True)}
