"""When there is too little time to try anything: a sort order that counting suggests, or nothing yet."""

from __future__ import annotations

from dataclasses import replace

from lazypipe.storage.optimizer.advice import order_name
from lazypipe.storage.optimizer.choice import LITTLE
from lazypipe.storage.optimizer.cost import Cost
from lazypipe.storage.optimizer.deciding.case import Case
from lazypipe.storage.optimizer.deciding.columns import column_seconds
from lazypipe.storage.optimizer.deciding.order import ORDER_BYTES, PRUNES, likely, orders, packs
from lazypipe.storage.optimizer.deciding.sizes import group_rows
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.ordering import kept_bits
from lazypipe.storage.optimizer.prices import likely_seconds
from lazypipe.storage.optimizer.trial import Trial

__all__ = ["LITTLE_LEVEL", "has_little", "little_layout"]

LITTLE_LEVEL = 6
_VALUE_SECONDS = 7e-9
"""What a value takes to be read, about."""


def has_little(case: Case) -> bool:
    """Whether there is no time to write all columns, and then to find out anything by that."""
    bench, frame, spend = case.bench, case.frame, case.bench.spend
    if not bench.quick or spend.seconds is None or spend.left is None or case.sample.scale <= 1:
        return False
    if spend.seconds < LITTLE:
        return True
    needed = bench.price(frame)
    if packs(case):
        needed += min(likely_seconds(frame.width), column_seconds(case))
    elif case.filtered and not case.keep_order and case.goal == "read":
        needed += bench.price(frame) + 2 * case.reading_seconds()
    else:
        needed += column_seconds(case)
    return needed > spend.left


def little_layout(case: Case) -> Layout:
    """Look for an order of rows and for nothing else, or not even that: columns are left for when there is more time."""
    case.bench.trials.append(Trial(None, "default", Cost()))
    case.left = tuple(case.frame.columns)
    layout = DEFAULT
    if (
        not case.keep_order
        and case.goal in ("storage", "read")
        and case.bench.spend.takes(likely_seconds(case.frame.width))
    ):
        layout = _likely(case) if not case.filtered else _asked(case)
    if not layout.sort_by:
        case.note(None, "the default layout", "writing takes too little time to choose another")
    return replace(layout, partition_by=case.keys)


def _likely(case: Case) -> Layout:
    """Return the order in which files are likely to be much smaller."""
    if case.limits.least != "bytes":
        return DEFAULT
    order = likely(case)
    return Layout(sort_by=order, level=LITTLE_LEVEL) if order else DEFAULT


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
