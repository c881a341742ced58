"""What a gate adds to a plan: repairs, lookups of references, and a boolean column for each row-wise check.

The same columns serve a compiled frame, which filters by them, and a run's tap, which counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from lazypipe.gates.rule import BAD, Check, Reference

__all__ = ["Lookup", "Marked", "mark", "mended", "nowhere"]

Lookup = Callable[[Reference], pl.LazyFrame]
"""Gives the rows that a reference means."""


def nowhere(reference: Reference) -> pl.LazyFrame:
    """Look nothing up: for gates without references."""
    raise AssertionError(reference)


@dataclass(frozen=True)
class Marked:
    """A gate's rows with its marks.

    ``masks``, ``wheres`` and ``repairs`` are the columns, by the check's id, that are true where a row violates it, is
    let through to it, and was repaired for it; ``originals`` the columns that hold what stood in repaired ones before.
    None of the marks is null.
    """

    frame: pl.LazyFrame
    masks: dict[str, str]
    wheres: dict[str, str]
    repairs: dict[str, str]
    originals: dict[str, str]


def mark(frame: pl.LazyFrame, checks: Sequence[Check], lookup: Lookup) -> Marked:
    """Repair, look up references, and mark rows; keys and measures, which no row can tell alone, are left out."""
    repairs: dict[str, str] = {}
    originals: dict[str, str] = {}
    for index, check in enumerate(checks):
        if check.repair is not None:
            assert check.column is not None
            column = pl.col(check.column)
            if check.column not in originals:
                originals[check.column] = f"__lazypipe_was_{check.column}"
                frame = frame.with_columns(column.alias(originals[check.column]))
            repairs[check.id] = f"__lazypipe_repaired_{index}"
            frame = frame.with_columns(check.mask().alias(BAD))
            mended = pl.when(pl.col(BAD)).then(check.repair).otherwise(column)
            frame = frame.with_columns(mended.alias(check.column)).rename({BAD: repairs[check.id]})
    masks: dict[str, str] = {}
    exprs: list[pl.Expr] = []
    for index, check in enumerate(checks):
        if check.reference is not None:
            found = pl.col(f"__lazypipe_found_{index}")
            frame = _joined(frame, check.reference, found.meta.output_name(), lookup)
            violated = _missing(check.reference, found)
            check = replace(check, violated=violated, reference=None)  # noqa: PLW2901
        if check.violated is not None:
            masks[check.id] = f"__lazypipe_violates_{index}"
            exprs.append(check.mask().alias(masks[check.id]))
    wheres = {c.id: f"__lazypipe_where_{i}" for i, c in enumerate(checks) if c.where is not None}
    exprs += [c.where.fill_null(value=False).alias(wheres[c.id]) for c in checks if c.where is not None]
    return Marked(frame.with_columns(exprs), masks, wheres, repairs, originals)


def mended(frame: pl.LazyFrame, checks: Sequence[Check]) -> pl.LazyFrame:
    """Return the rows as a gate repairs them, with marks beside them, before any is taken out."""
    repairs = [check for check in checks if check.repair is not None]
    return mark(frame, repairs, nowhere).frame if repairs else frame


def _joined(frame: pl.LazyFrame, reference: Reference, found: str, lookup: Lookup) -> pl.LazyFrame:
    """Add how many rows of the other frame have a row's key; null for none, and for a key with a null in it."""
    keys = [f"{found}_{number}" for number in range(len(reference.others))]
    others = lookup(reference).select(pl.col(o).alias(k) for o, k in zip(reference.others, keys, strict=True))
    if reference.least == 1 and reference.most is None:
        counted = others.unique().with_columns(pl.lit(1).cast(pl.UInt32).alias(found))
    else:
        counted = others.group_by(keys).agg(pl.len().alias(found))
    return frame.join(counted, left_on=reference.columns, right_on=keys, how="left", maintain_order="left")


def _missing(reference: Reference, found: pl.Expr) -> pl.Expr:
    known = pl.all_horizontal(pl.col(c).is_not_null() for c in reference.columns)
    times = found.fill_null(0)
    wrong = times < reference.least
    if reference.most is not None:
        wrong = wrong | (times > reference.most)
    return known & wrong
