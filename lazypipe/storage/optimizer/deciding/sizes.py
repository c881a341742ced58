"""Sizes of row groups and of files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from lazypipe.storage.optimizer.cost import Cost
from lazypipe.storage.optimizer.deciding.case import GROUP, Case
from lazypipe.storage.optimizer.forms import owner
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.prices import look_seconds

__all__ = ["group_rows", "sizes_seconds", "with_sizes"]

_GROUPS: Mapping[str, int] = {"point lookup": 32_768, "time range": 98_304}
"""Rows that a group has at least where readers look for few of them: in smaller ones files are larger, and lookups not faster."""
_HALVES, _SMALLEST = 2, 4_096
"""Into how many groups few rows are put, of so many rows at least."""
_STEP = 1_024
"""Rows of a group are a multiple of these."""
_CHUNK_SECONDS = 0.35e-6
"""What a reader takes to see in the footer what a column is like in one row group."""
_HITS = 1.5
"""Row groups that a lookup reads, about."""
_FILE_BYTES = 256 << 20
_FEW = 0.02
"""Which part of the values may be different ones at most, for more rows to have no more of them."""


def _repeated(case: Case, layout: Layout, group: int) -> float:
    """Return the bytes by which the sample grows, at most, if dictionaries are repeated in row groups of so many rows."""
    rows, found = case.frame.height, 0.0
    for name, dtype in case.frame.schema.items():
        encodings = {e for part, e in layout.encodings.items() if owner(part) == name}
        if dtype.is_nested() or dtype == pl.Boolean or (encodings and "dictionary" not in encodings):
            continue
        values = case.frame[name]
        distinct, size = values.n_unique(), values.estimated_size() / rows
        # of few values all are seen; of others as many more may come as there are rows
        share = distinct / group if distinct <= _FEW * rows else 1.0
        found += min(share, 1.0) * size * rows * (1 - group / GROUP)
    return found


def group_rows(case: Case, access: str, row_seconds: float) -> int | None:
    """Return the rows of a group with which lookups take the least; None if nobody looks for a few rows of many.

    ``row_seconds`` is what a row takes to be read. In smaller groups less is read in vain, but footers are longer, the more so
    the more columns there are.
    """
    least, total = _GROUPS.get(access), case.sample.total
    if least is None or total < 2 * _SMALLEST:
        return None
    width = case.frame.width
    asked = min(sum(case.workload.weights("columns").values()), width) or width
    seconds = row_seconds * asked / width
    best = math.sqrt(_CHUNK_SECONDS * width * total / (_HITS * seconds))
    rows = max(best, min(least, max(total / _HALVES, _SMALLEST)))
    return min(math.ceil(rows / _STEP) * _STEP, GROUP)


def _looks_up(case: Case) -> bool:
    """Whether readers look for a few rows of many."""
    return case.workload.access in _GROUPS and bool(case.filtered) and case.goal in ("read", "balanced")


def sizes_seconds(case: Case) -> float:
    """Return what it takes to choose the size of row groups."""
    return 2 * case.reading_seconds() + look_seconds(case.frame.width) if _looks_up(case) else 0.0


def _with_groups(case: Case, layout: Layout, first: Cost) -> Layout:
    """Choose the size of row groups for lookups. That takes no time where rates are known; what it brings, and whether files grow, does."""
    access, quick = case.workload.access, case.bench.quick
    is_told = case.bench.spend.takes(sizes_seconds(case))
    if not is_told and not (quick and case.goal == "read"):
        return layout
    # what was timed is another each time
    rates = case.last(layout) if quick else case.bench.alike(case.frame, layout, layout)
    rows = group_rows(case, access, rates.read / case.frame.height)
    if rows is None:
        return layout
    why = f"{access}: fewer rows are read in vain than in groups of {GROUP:,}"
    if is_told:
        if case.goal != "read" and case.last(layout).bytes + _repeated(case, layout, rows) > first.bytes:
            return layout
        order = replace(DEFAULT, sort_by=layout.sort_by, curve=layout.curve, bounds=layout.bounds)
        in_order = case.bench.in_order(case.frame, order)
        now, then = (case.reading(in_order, size, 1) for size in (GROUP, rows))
        why = f"{access}: queries read {then:.1%} of the rows, not {now:.1%} as in groups of {GROUP:,}"
    case.note(None, f"row groups of {rows:,} rows", why)
    return replace(layout, row_group_rows=rows)


def with_sizes(case: Case, layout: Layout, first: Cost) -> Layout:
    """Choose the size of row groups and files; ``first`` is what rows cost as they came."""
    if layout.sort_by and _looks_up(case):
        layout = _with_groups(case, layout, first)
    size = round(case.bench.trials[-1].cost.bytes * case.sample.scale)
    if size > 2 * _FILE_BYTES:
        layout = replace(layout, file_bytes=_FILE_BYTES)
        case.note(
            None, f"files of {_FILE_BYTES >> 20} MiB", f"about {size >> 20:,} MiB in all, to be read side by side"
        )
    return layout
