"""Forms and encodings of columns: which columns are looked at, what is tried for each, and what is chosen within limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

import polars as pl

from lazypipe.storage.optimizer.advice import LATER
from lazypipe.storage.optimizer.candidates import forms_for
from lazypipe.storage.optimizer.choice import Measure, Option, choose
from lazypipe.storage.optimizer.cost import Cost, Size, figure
from lazypipe.storage.optimizer.deciding.case import Case
from lazypipe.storage.optimizer.deciding.codecs import LEVELS
from lazypipe.storage.optimizer.deciding.sizes import sizes_seconds
from lazypipe.storage.optimizer.estimates import order_seconds
from lazypipe.storage.optimizer.form import Form
from lazypipe.storage.optimizer.form_numbers import Cast
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.options import base_layout, measured_options
from lazypipe.storage.optimizer.prices import columns_seconds
from lazypipe.storage.optimizer.quick import estimated_options

__all__ = ["column_seconds", "columns_layout", "looked"]

_ATTEMPTS = 4
_FILTERED = 0.03
"""Which part of the bytes a column that is filtered must have, where it makes no folders, to be looked at before others."""
_RISES = 3.0
"""How many times more a byte counts of columns whose values rise: nearly all of them may be gained, more than few rows show."""


def looked(case: Case, plain: Mapping[str, int], order: Layout) -> list[str]:
    """Return the columns that are looked at: all, or, where there is little time, as many as that is for, of those that promise most.

    What follows from the ``order`` of rows has its time.
    """
    spend = case.bench.spend
    if not case.bench.quick or spend.left is None:
        return case.frame.columns
    # of what readers filter folders may be made, or many bytes gained
    total = sum(plain.values())
    least = 0.0 if case.partition_by is None else _FILTERED * total
    asked = {n for n in case.filtered if plain.get(n, 0) > least}
    worth = {n: size * (_RISES if n in case.rising else 1.0) for n, size in plain.items()}
    names = sorted(plain, key=lambda n: (n not in asked, -worth[n]))
    shares = [*accumulate((plain[n] / max(total, 1) for n in names), initial=0.0)]
    prices = (_seconds(case, n, share, hard=False) for n, share in enumerate(shares))
    left = spend.left - (sizes_seconds(case) if order.sort_by else 0.0)
    most = max((n for n, price in enumerate(prices) if price <= left), default=0)
    if most < len(names):
        spend.stopped = True
        case.note(None, f"{most} of {len(plain)} columns looked at", LATER)
        case.left = tuple(n for n in case.frame.columns if n not in names[:most])
    case.hard = most > 0 and case.goal in LEVELS and _seconds(case, most, shares[most], hard=True) <= left
    if most:
        spend.charge(_seconds(case, most, shares[most], hard=case.hard))
    return [n for n in case.frame.columns if n in names[:most]]


def column_seconds(case: Case, number: int = 1) -> float:
    """Return what it takes to look at so many columns."""
    return _seconds(case, number, number / max(case.frame.width, 1), hard=False)


def _seconds(case: Case, number: int, share: float, *, hard: bool) -> float:
    """Return what it takes to look at so many columns, with such a share of the bytes; ``hard``: to try a high level of compression, too."""
    frame = case.frame
    rows = min(frame.height, case.rows)
    write = share * case.bench.writing(frame) * rows / max(frame.height, 1)
    return columns_seconds(number, frame.width, rows, write, case.writers, hard=hard)


def columns_layout(
    case: Case,
    frame: pl.DataFrame,
    default: Cost,
    plain: Mapping[str, int],
    sort_by: tuple[str, ...] = (),
    steady: Sequence[str] = (),
) -> Layout:
    """Choose each column's form and encodings; of rows that are sorted, the sort is part of what writing takes.

    ``steady`` are columns that rose before rows were sorted for readers. Of many rows each row group has new values of them,
    which few rows do not show: a dictionary would be repeated, where differences stay small.
    """
    profiles = {c.name: c for c in case.profile.columns}
    names = sorted(profiles, key=lambda n: -plain[n])
    forms = {n: _forms(case, n, frame) for n in names}
    found = (
        estimated_options(
            frame,
            forms,
            profiles,
            case.writers,
            case.bench,
            LEVELS.get(case.goal) if case.hard else None,
            case.sample.scale,
            case.bench.sizes(frame, DEFAULT),
            sure=case.goal == "balanced",
        )
        if case.bench.quick
        else measured_options(frame, forms, case.writers, case.bench)
    )
    for options in found.values() if case.limits.least == "bytes" else ():
        for name in set(steady) & set(options):
            options[name] = [o for o in options[name] if "delta" in dict(o.encodings).values()] or options[name]
    plainly = (options[0].cost for options in found[case.writers[0]].values())
    base = default if case.bench.quick else sum(plainly, Cost())
    layouts = [_within(case, found[w], base, default, w, frame, sort_by) for w in case.writers]
    least = case.limits.least
    best, cost = min(layouts, key=lambda p: (case.excess(p[1], default), getattr(p[1], least), p[1].bytes))
    if len(layouts) > 1:
        others = [c for n, c in layouts if n is not best]
        saved = _compared(cost, others[0], least)
        case.reasons = [r for r in case.reasons if not r.decision.startswith("written by")]
        case.note(None, f"written by {best.writer}", saved)
    return best


def _forms(case: Case, name: str, frame: pl.DataFrame) -> list[Form]:
    """Return the forms to try; of a column that is filtered only those with which a filter skips row groups."""
    if not case.forms:
        return []
    writer = "polars" if case.writers == ["polars"] else "pyarrow"
    found = forms_for(case.profile[name], case.profile, frame, writer)
    if name in case.filtered:
        return [f for f in found if isinstance(f, Cast) and f.widens(frame.schema[name])]
    return found


def _within(
    case: Case,
    options: Mapping[str, Sequence[Option]],
    base: Cost,
    default: Cost,
    writer: str,
    frame: pl.DataFrame,
    sort_by: tuple[str, ...],
) -> tuple[Layout, Cost]:
    """Choose options; where the whole, tried together, breaks limits all the same, choose again under stricter ones."""
    limits = case.limits
    for _ in range(_ATTEMPTS):
        chosen = choose(options, base, limits)
        layout = replace(_layout(chosen, writer, frame), sort_by=sort_by)
        if case.bench.quick:
            case.bench.expect(frame, layout, *_summed(chosen, frame, sort_by))
        cost, _sizes = case.bench.whole(frame, layout, f"chosen, {writer}")
        broken = case.limits.broken(cost, default)
        if not broken or (not case.bench.quick and not case.bench.fits(frame, writer)):
            break
        measure = broken[0]
        limit = getattr(case.limits, measure) * getattr(default, measure)
        limits = limits.tightened(measure, 0.95 * limit / getattr(cost, measure))
    return layout, cost


def _layout(chosen: Mapping[str, Option], writer: str, frame: pl.DataFrame) -> Layout:
    return replace(
        base_layout(writer),
        forms={n: o.form for n in frame.columns if (o := chosen[n]).form is not None},
        encodings=dict(e for n in frame.columns for e in chosen[n].encodings),
        codecs=dict(c for n in frame.columns for c in chosen[n].codecs),
    )


def _compared(chosen: Cost, other: Cost, least: Measure) -> str:
    """Describe the costs of two ways by what is to be small; by bytes too where that is equal."""
    here, there = (figure(getattr(c, least)) for c in (chosen, other))
    if least == "bytes" or here == there:
        alike = "" if least == "bytes" else f"{here} to {least} the sample either way; "
        return f"{alike}{chosen.bytes:,} bytes of the sample, {other.bytes:,} by the other"
    return f"{here} to {least} the sample, {there} by the other"


def _summed(
    chosen: Mapping[str, Option], frame: pl.DataFrame, sort_by: tuple[str, ...]
) -> tuple[Cost, dict[str, Size]]:
    """Return what options cost together, in order, and what each column takes in the file."""
    cost = sum((o.cost for o in chosen.values()), Cost(0, order_seconds(frame, len(sort_by)) if sort_by else 0.0))
    return cost, {part: size for o in chosen.values() for part, size in o.sizes}
