"""The sort order of a layout: by columns one after the other, or along a curve through two or three of them.

Along a curve, rows that are near each other in every column are near each other in the file, so that the row groups have narrow
bounds in each. For that a column's values are numbered by where they fall between ``bounds``, quantiles of a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial, reduce

import polars as pl

from lazypipe.errors import StorageError
from lazypipe.spec import taps
from lazypipe.storage.optimizer.layout import Curve, Layout

__all__ = ["curve_bounds", "ordered", "with_bounds"]

_KEY = "__lazypipe_order"
_BITS = {2: 8, 3: 6}
"""Columns → bits that each is numbered with: a curve has 65,536 or 262,144 cells."""


def curve_bounds(sample: pl.Series, bits: int) -> pl.Series:
    """Return the values at which the numbers of a column begin, at most 2 ** bits - 2 of them; nulls have a number of their own.

    Examples
    --------
    >>> curve_bounds(pl.Series([4, 1, 3, None, 2]), 2).to_list()
    [2, 3]
    """
    known = sample.drop_nulls().sort()
    if known.is_empty():
        return known
    parts = 2**bits - 1
    places = sorted({known.len() * i // parts for i in range(1, parts)})
    return known.gather(places).unique(maintain_order=True)


def with_bounds(layout: Layout, sample: pl.DataFrame, uri: str) -> Layout:
    """Return the layout with what its curve needs to know of the data, from a sample of it; as it is if it has no curve.

    Raises
    ------
    StorageError
        If its curve goes through fewer than two or more than three columns.
    """
    if layout.curve == "linear":
        return layout
    bits = _bits(layout, uri)
    return replace(layout, bounds={n: _texts(curve_bounds(_physical(sample[n]), bits)) for n in layout.sort_by})


def _bits(layout: Layout, uri: str) -> int:
    if len(layout.sort_by) not in _BITS:
        what = f"a {layout.curve} order of {len(layout.sort_by)} columns cannot be made"
        raise StorageError(what, uri=uri, fix="name two or three columns in sort_by, or make it linear")
    return _BITS[len(layout.sort_by)]


def _texts(bounds: pl.Series) -> tuple[str, ...]:
    return tuple(bounds.cast(pl.String))


def _physical(values: pl.Series) -> pl.Series:
    """Return values that can be compared, and whose texts mean the same in another process."""
    if isinstance(values.dtype, pl.Boolean | pl.Null | pl.Categorical):
        return values.cast(pl.String if isinstance(values.dtype, pl.Categorical) else pl.UInt8)
    return values.to_physical()


def ordered(frame: pl.LazyFrame, layout: Layout, schema: Mapping[str, pl.DataType], uri: str) -> pl.LazyFrame:
    """Return the rows in the layout's order; it streams, and spills where spilling is on.

    Raises
    ------
    StorageError
        If the order needs bounds that the layout lacks.
    """
    if not layout.sort_by:
        return frame
    if layout.curve == "linear":
        return frame.sort(*layout.sort_by, nulls_last=False, maintain_order=True)
    bits = _bits(layout, uri)
    if any(n not in layout.bounds for n in layout.sort_by):
        what = f"the {layout.curve} order has no bounds for its columns"
        raise StorageError(what, uri=uri, fix="let lp.optimize.rewrite write it: that takes them from the data")
    types = {n: _physical(pl.Series([], dtype=schema[n])).dtype for n in layout.sort_by}
    bounds = {n: pl.Series(layout.bounds[n], dtype=pl.String).cast(t) for n, t in types.items()}

    number = partial(with_key, bounds=bounds, place=_along(layout.curve, len(bounds), bits), bits=bits)
    keyed = taps.tap(frame, number, schema=pl.Schema({**schema, _KEY: pl.UInt32()}))
    return keyed.sort(_KEY, maintain_order=False).drop(_KEY)


def with_key(batch: pl.DataFrame, *, bounds: Mapping[str, pl.Series], place: pl.Series, bits: int) -> pl.DataFrame:
    """Add to rows the column with their places on a curve: of each cell of numbers, ``place`` says which."""
    cells = [_numbered(_physical(batch[name]), of) for name, of in bounds.items()]
    at = reduce(lambda so_far, cell: so_far * 2**bits + cell, cells)
    return batch.with_columns(place.gather(at).alias(_KEY))


def _numbered(values: pl.Series, bounds: pl.Series) -> pl.Series:
    # a null has the least number, so that nulls stand together
    return (bounds.search_sorted(values, side="right").cast(pl.UInt32) + 1).zip_with(
        values.is_not_null(), pl.zeros(values.len(), pl.UInt32, eager=True)
    )


@cache
def _along(curve: Curve, columns: int, bits: int) -> pl.Series:
    """Return each cell's place along a curve; cells are counted with the last column fastest."""
    cells = pl.int_range(2 ** (bits * columns), dtype=pl.UInt32, eager=True)
    axes = [cells // 2 ** (bits * (columns - 1 - i)) % 2**bits for i in range(columns)]
    if curve == "hilbert":
        axes = _transposed(axes, bits)
    place = pl.zeros(cells.len(), pl.UInt32, eager=True)
    for bit in reversed(range(bits)):
        for axis in axes:
            place = place * 2 + axis // 2**bit % 2
    return place


def _transposed(axes: list[pl.Series], bits: int) -> list[pl.Series]:
    """Return coordinates as the interleaved bits of their place on Hilbert's curve (J. Skilling, 2004)."""
    x = list(axes)
    for bit in reversed(range(1, bits)):
        low = 2**bit - 1
        for i in range(len(x)):
            is_set = x[i] // 2**bit % 2 == 1
            swapped = (x[0] ^ x[i]) & low
            if i:
                first = (x[0] ^ low).zip_with(is_set, x[0] ^ swapped)
                x[i] = x[i].zip_with(is_set, x[i] ^ swapped)
                x[0] = first
            else:
                x[0] = (x[0] ^ low).zip_with(is_set, x[0])
    for i in range(1, len(x)):
        x[i] = x[i] ^ x[i - 1]
    turn = pl.zeros(x[0].len(), pl.UInt32, eager=True)
    for bit in reversed(range(1, bits)):
        turn = (turn ^ (2**bit - 1)).zip_with(x[-1] // 2**bit % 2 == 1, turn)
    return [axis ^ turn for axis in x]
