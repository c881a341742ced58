"""Where there is too little time to write anything twice: an order of rows that counting speaks for, or nothing yet."""

from __future__ import annotations

from dataclasses import replace

from lazypipe.storage.optimizer.advice import order_name
from lazypipe.storage.optimizer.choice import LITTLE, ordering_seconds
from lazypipe.storage.optimizer.cost import Cost
from lazypipe.storage.optimizer.deciding.case import Case
from lazypipe.storage.optimizer.deciding.order import ORDER_BYTES, PRUNES, orders
from lazypipe.storage.optimizer.deciding.sizes import group_rows
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.ordering import COUNTED_LITTLE, kept_bits, likely_order
from lazypipe.storage.optimizer.trial import Trial

__all__ = ["has_little", "little_layout"]

_WRITTEN_SECONDS = 1e-4
"""What it takes at least to write a column of a few rows, twice."""
_LIKELY_SECONDS = 1.5e-3, 0.4e-3, 0.05e-3
"""What looking for an order takes then, at each column that is counted, and at each."""
_LIKELY_LEFT = 0.8
"""Which part of the bits an order may leave by their count alone: next to what is written they are counted too low, or too high."""
_LITTLE_LEVEL = 6
_VALUE_SECONDS = 7e-9
"""What a value takes to be read, about."""


def has_little(case: Case) -> bool:
    """Whether there is no time to write all columns in even two ways."""
    budget = case.bench.budget or 0.0
    needed = max(LITTLE, _WRITTEN_SECONDS * case.frame.width)
    return case.bench.quick and budget < needed and case.sample.scale > 1


def little_layout(case: Case) -> Layout:
    """Look for an order of rows and for nothing else, or not even that: columns are left for when there is more time."""
    case.bench.trials.append(Trial(None, "default", Cost()))
    case.left = tuple(case.frame.columns)
    once, counted, each = _LIKELY_SECONDS
    seconds = once + counted * min(case.frame.width, COUNTED_LITTLE) + each * case.frame.width
    time = seconds <= ordering_seconds(case.goal, case.bench.budget or 0.0)
    layout = DEFAULT
    if time and not case.keep_order and case.goal in ("storage", "read"):
        layout = _likely(case) if not case.filtered else _asked(case)
    if not layout.sort_by:
        case.note(None, "the default layout", "writing takes too little time to choose another")
    return replace(layout, partition_by=case.keys)


def _likely(case: Case) -> Layout:
    """Return the order in which files are likely to be much smaller."""
    if case.limits.least != "bytes":
        return DEFAULT
    order, left = likely_order(case.ordered)
    if not order or left > _LIKELY_LEFT:
        return DEFAULT
    layout = Layout(sort_by=order, level=_LITTLE_LEVEL)
    case.note(None, f"ordered by {order_name(layout)}", f"values that follow each other leave {left:.0%} of the bits")
    return layout


def _asked(case: Case) -> Layout:
    """Return the order in which queries read less, if files are not likely to be much larger."""
    sort_by, _ = next(orders(case, None), ((), "linear"))
    if not sort_by:
        return DEFAULT
    asked = case.frame.select(c for c in case.filtered if c in case.frame.columns)
    in_order = asked.sort(*sort_by, maintain_order=True, multithreaded=False)
    natural, reading = case.reading(asked), case.reading(in_order)
    if reading > PRUNES * natural or kept_bits(case.frame, sort_by) > ORDER_BYTES[case.goal]:
        return DEFAULT
    group = group_rows(case, case.workload.access, _VALUE_SECONDS * case.frame.width)
    layout = Layout(sort_by=sort_by, row_group_rows=group)
    share = f"queries read {reading:.0%} of the row groups, {natural:.0%} as it was"
    case.note(None, f"ordered by {order_name(layout)}", share)
    return layout
