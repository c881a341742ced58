"""The order of rows: one that makes files small, or one in which readers skip more of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Literal

from lazypipe.storage.optimizer.advice import order_name
from lazypipe.storage.optimizer.choice import Goal
from lazypipe.storage.optimizer.cost import Cost
from lazypipe.storage.optimizer.deciding.case import OFTEN, ORDERED, QUICK_FEWEST, Case
from lazypipe.storage.optimizer.deciding.columns import column_seconds
from lazypipe.storage.optimizer.estimates import order_seconds
from lazypipe.storage.optimizer.form import is_ticking
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.options import base_layout
from lazypipe.storage.optimizer.order import with_bounds
from lazypipe.storage.optimizer.ordering import TRIED_LITTLE, likely_order, loose_key, packing_order, rising
from lazypipe.storage.optimizer.prices import likely_seconds, packing_seconds
from lazypipe.storage.optimizer.trial import Trial

__all__ = ["ORDER_BYTES", "PRUNES", "counted", "likely", "ordered_for_readers", "orders", "packed", "packs"]

_ORDER_WORTH = 0.95
_ORDER_LIKELY = 0.97
"""Which part of the bits an order may leave by their count, to be tried."""
_LIKELY_LEFT = 0.8
"""Which part of the bits it may leave by their count alone, to be taken untried: next to what is written they are counted too low, or too high."""
_STEP_BITS = 3.0
"""Bits that a step from a number to the next takes besides those that the order of rows is worth."""
_ORDER_TIMES = 3
"""How many times longer than the default writing in order may take."""
ORDER_BYTES: Mapping[Goal, float] = {"storage": 1.0, "balanced": 1.0, "read": 1.5, "write": 1.0}
"""How many times more bytes than the default rows may take in an order that lets readers read less of them."""
PRUNES = 0.67
"""Which part of what readers read is left at most, for an order to be worth it."""
_ORDER_SHARE, _ORDER_SECONDS = 1 / 3, 300e-9
"""Which part of the time an order may be looked for in, and what that takes at each value."""
_LARGEST = 32
"""Columns by which an order is looked for: those that take the most."""
_OFTEN = 0.1
"""Which part of the values of a column that is sorted are other ones, for rows to have an order that counts."""
_MANY_KEYS = 1 / 4
"""Which part of the rows must have another key than the others: of few keys all are at hand anyway. (Grouping 6 M rows by 100,000 keys takes
a third of the time where rows are in their order, joining 0.6; by 1,000 keys just as long, and sorting them longer.)"""


def packed(case: Case, default: Cost, plain: Mapping[str, int]) -> tuple[str, ...]:
    """Return the columns by which rows are sorted to make files smaller, where nobody filters them."""
    if not packs(case) or not _is_triable(case) or not case.bench.spend.takes(_search_seconds(case)):
        return ()
    large = sorted(plain, key=lambda n: -plain[n])[:_LARGEST]
    keys = (TRIED_LITTLE,) if case.bench.quick else ()
    by, left = packing_order(case.ordered.select(large), _orderable(case), *keys)
    writer = case.writers[-1]
    if not by:
        return _numbered(case, writer, default)
    if left > _ORDER_LIKELY:
        return ()  # not worth a trial
    if not case.bench.quick and not case.bench.fits(case.ordered, writer, 2):
        return ()
    time = case.bench.spend.left
    # a trial may take such a part of the time as the order promises of the bytes
    if case.bench.quick and time is not None and 2 * case.bench.price(case.ordered, writer) > (1 - left) * time:
        return ()
    # as they come rows are written in what is best for values that rise, so that an order is not said to gain what that does
    delta = rising(case.ordered) if writer == "pyarrow" else ()
    bare = replace(base_layout(writer), encodings=dict.fromkeys(delta, "delta"))
    cost, _ = case.bench.whole(case.ordered, bare, "in no order")
    tried = replace(bare, sort_by=by)
    found, _ = case.bench.whole(case.ordered, tried, f"ordered by {order_name(tried)}")
    if found.bytes > _ORDER_WORTH * cost.bytes or found.write > case.limits.write * cost.write:
        return ()
    case.note(None, f"ordered by {order_name(tried)}", _smaller(cost, found))
    return by


def counted(case: Case) -> tuple[str, ...]:
    """Return the columns of an order that counting alone speaks for, where there is no time to write rows in one; none if they have one.

    That is known before anything is written, and where an order is found nothing need be.
    """
    if not packs(case) or _is_triable(case) or _are_sorted(case):
        return ()
    order = likely(case) if case.bench.spend.takes(likely_seconds(case.frame.width)) else ()
    if order:
        case.bench.trials.append(Trial(None, "default", Cost()))
    return order


def _search_seconds(case: Case) -> float:
    """Return what it takes to look for an order that packs."""
    return packing_seconds(min(case.frame.width, _LARGEST), _orderable(case))


def _is_triable(case: Case) -> bool:
    """Whether there is time to look for an order that packs, and to write rows in it."""
    left = case.bench.spend.left
    if left is None or not case.bench.quick:
        return True
    return _search_seconds(case) + 4 * case.bench.price(case.ordered, case.writers[-1]) <= left


def packs(case: Case) -> bool:
    """Whether an order is looked for that makes files smaller."""
    return case.limits.least == "bytes" and not case.filtered and not case.keep_order and not case.sparse


def likely(case: Case) -> tuple[str, ...]:
    """Return the columns of an order in which files are likely to be much smaller, by counting alone."""
    order, left = likely_order(case.ordered)
    if not order or left > _LIKELY_LEFT:
        return ()
    case.note(None, f"ordered by {', '.join(order)}", f"values that follow each other leave {left:.0%} of the bits")
    return order


def _are_sorted(case: Case) -> bool:
    """Whether rows stand in the order of a column that hardly ever has the same value twice in a row."""
    ticking = (case.frame[n] for n, t in case.frame.schema.items() if is_ticking(t))
    return any(c.is_sorted() and c.n_unique() > _OFTEN * c.len() for c in ticking)


def _orderable(case: Case) -> int:
    """Return the rows that there is time to put in order again and again."""
    budget = case.bench.spend.seconds
    if budget is None:
        return ORDERED
    seconds = _ORDER_SECONDS * max(case.ordered.width, 1)
    return min(max(round(_ORDER_SHARE * budget / seconds), QUICK_FEWEST), ORDERED)


def _numbered(case: Case, writer: str, default: Cost) -> tuple[str, ...]:
    """Return the column that rows without any order are sorted by to save what that costs, if it is worth it."""
    key = loose_key(case.ordered) if writer == "pyarrow" else None
    if key is None:
        return ()
    # of few rows a trial shows little: of more, steps are smaller
    rows = case.frame.height
    saved = max(math.log2(max(case.sample.total, 1)) - _STEP_BITS, 0.0) * rows / 8
    longer = order_seconds(case.frame, 1)
    if saved < (1 - _ORDER_WORTH) * default.bytes or default.write + longer > case.limits.write * default.write:
        return ()
    case.note(
        None,
        f"ordered by {key}",
        f"rows have no order that would be lost, and steps take about {8 * saved / rows:.0f} bits a row less than values",
    )
    return (key,)


def ordered_for_readers(case: Case, layout: Layout, default: Cost) -> Layout:
    """Choose the order of rows: that in which they stand, if one was chosen before, unless another is better."""
    return case.in_order_still(_for_readers(case, layout, default))


def _for_readers(case: Case, layout: Layout, default: Cost) -> Layout:
    key = None if case.keep_order else _key(case)
    ways = [] if case.keep_order else [*orders(case, key)]
    if not ways:
        return layout
    once = case.reading_seconds()
    trial = once + case.bench.price(case.frame)
    # where bytes count, columns must make up for an order
    trial += column_seconds(case, case.frame.width) if case.bench.quick and case.goal == "balanced" else 0.0
    if not case.bench.spend.allows(once + trial):
        return layout
    # encodings are those that are best without an order: each order is compared, and tried, without them
    best = bare = replace(base_layout(layout.writer), forms=layout.forms)
    first, _ = case.bench.whole(case.frame, bare, "in no order")
    cost = first
    case.bench.spend.charge(once)
    natural = case.reading(case.frame)
    least = natural
    for sort_by, curve in ways:
        if not case.bench.spend.allows(trial):
            break
        case.bench.spend.charge(once)
        tried = replace(bare, sort_by=sort_by, curve=curve)
        tried = with_bounds(tried, case.frame, "the sample")
        found, _ = case.bench.whole(case.frame, tried, f"ordered by {order_name(tried)}")
        reading = case.reading(case.bench.in_order(case.frame, replace(tried, forms={})))
        smaller = case.limits.least == "bytes" and found.bytes <= _ORDER_WORTH * cost.bytes
        faster = (
            reading <= PRUNES * natural and reading < least and found.bytes <= ORDER_BYTES[case.goal] * default.bytes
        )
        allowed = case.goal != "write" and found.write <= _ORDER_TIMES * default.write
        keyed = (
            sort_by == (key,)
            and case.goal == "read"
            and not best.sort_by
            and reading <= natural
            and found.bytes <= ORDER_BYTES[case.goal] * default.bytes
        )
        if allowed and (faster or keyed or (smaller and reading <= natural and least == natural)):
            best, cost, least = tried, (found if smaller else cost), reading
            case.together = key if keyed and not faster else None
    if best.sort_by:
        share = f"queries read {least:.0%} of the row groups, {natural:.0%} as it was"
        why = share if least < natural else _smaller(first, cost)
        if case.together:
            why = f"queries group or join by {key}, of which there are many: rows with the same one stand together"
        case.note(None, f"ordered by {order_name(best)}", why)
    return best


def orders(case: Case, key: str | None) -> Iterator[tuple[tuple[str, ...], Literal["linear", "hilbert"]]]:
    """Yield orders to try: by the columns that queries filter most, and by their key."""
    flat = [n for n, t in case.frame.schema.items() if not t.is_nested()]
    filtered = [n for n in case.filtered if n in flat][:3]
    for name in filtered:
        yield (name,), "linear"
    for pair in pairwise(filtered):
        yield pair, "linear"
        yield pair, "hilbert"
    if key:
        yield (key,), "linear"


def _key(case: Case) -> str | None:
    """Return the key that queries group or join by most, if there are many of it, and rows are not in its order already."""
    if not case.workload.queries:
        return None
    weights = case.workload.weights("groups")
    for name, weight in case.workload.weights("joins").items():
        weights[name] = weights.get(name, 0.0) + weight
    for name, weight in sorted(weights.items(), key=lambda item: -item[1]):
        known = name in case.frame.columns and name not in case.filtered
        if known and weight >= OFTEN and not case.frame.schema[name].is_nested():
            if rising(case.frame.select(name)):
                continue
            many = case.frame[name].n_unique() > _MANY_KEYS * case.frame.height
            return name if many else None
    return None


def _smaller(before: Cost, after: Cost) -> str:
    """Return what an order of rows saves."""
    return f"the sample takes {after.bytes:,} bytes that way, {before.bytes:,} as rows come"
