"""How much of a file a filter reads: the part of the row groups whose bounds do not rule it out, tried on a sample."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

import polars as pl

from lazypipe.storage.optimizer.workload import Compare, Query

__all__ = ["reach", "reached"]

_PROBES = 50
"""Values that are looked up, evenly spread over the rows."""
_RANGE = 0.05
"""Which part of the values a range takes in, where it is not known."""


def reach(values: pl.Series, compare: Compare, groups: int, selectivity: float | None = None) -> float:
    """Return which part of so many row groups, on average, a filter on a column must read; values in the order of the file.

    Looked up are values that the column has, each as often as it has it; a range begins at one of them.

    Examples
    --------
    >>> rows = pl.Series(range(1000))
    >>> reach(rows, "equal", 10), reach(rows.reverse(), "other", 10)
    (0.1, 1.0)
    """
    if compare == "other" or values.null_count() == values.len() or groups < 2:
        return 1.0
    ranks = values.rank("dense")  # so that everything that can be sorted can be compared
    rows, count = values.len(), values.len() - values.null_count()
    size = -(-rows // groups)
    filled = -(-rows // size)
    known = ranks.sort(nulls_last=True)
    grouped = (ranks.extend_constant(None, filled * size - rows) if rows % size else ranks).reshape((filled, size)).arr
    width = 0 if compare == "equal" else max(int(count * (selectivity or _RANGE)), 1)
    places = ((2 * i + 1) * count // (2 * _PROBES) for i in range(_PROBES))
    firsts = [min(p, count - 1 - width) if width < count else 0 for p in places]
    low, high = (known[f].to_list() for f in (firsts, [min(f + width, count - 1) for f in firsts]))
    # a group is left out if all of it lies below, or all of it above; it cannot be both
    lows, highs = (sorted(b for b in bounds if b is not None) for bounds in (grouped.min(), grouped.max()))
    read = sum(bisect_right(lows, h) - bisect_left(highs, f) for f, h in zip(low, high, strict=True))
    return round(read / filled / _PROBES, 6)


def reached(frame: pl.DataFrame, query: Query, groups: int) -> float:
    """Return which part of the row groups a query reads: what the sharpest of its filters leaves."""
    parts = [
        reach(frame[c], how, groups, query.selectivity) for c, how in query.filters.items() if _sorts(frame.schema, c)
    ]
    return min(parts, default=1.0)


def _sorts(schema: Mapping[str, pl.DataType], column: str) -> bool:
    return column in schema and not schema[column].is_nested()
