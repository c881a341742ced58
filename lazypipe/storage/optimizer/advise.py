"""Advice on how data is best stored: candidates from its profile are tried on a sample, and the measurements decide."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import polars as pl

from lazypipe.errors import LazypipeError, nearest
from lazypipe.spec.types import is_hollow
from lazypipe.storage.optimizer.advice import Advice, Reason, listed, told_form, why
from lazypipe.storage.optimizer.budget import Clock
from lazypipe.storage.optimizer.choice import GOALS, Goal
from lazypipe.storage.optimizer.cost import Cost
from lazypipe.storage.optimizer.deciding.case import ORDERED, QUICK_FEWEST, Case
from lazypipe.storage.optimizer.deciding.codecs import with_codec
from lazypipe.storage.optimizer.deciding.columns import column_seconds, columns_layout, looked
from lazypipe.storage.optimizer.deciding.little import LITTLE_LEVEL, has_little, little_layout
from lazypipe.storage.optimizer.deciding.order import counted, ordered_for_readers, packed
from lazypipe.storage.optimizer.deciding.partitions import with_partitions
from lazypipe.storage.optimizer.deciding.sizes import with_sizes
from lazypipe.storage.optimizer.deciding.writers import has_pyarrow, settle_writer
from lazypipe.storage.optimizer.forms import by_owner, owner
from lazypipe.storage.optimizer.interchange import with_format
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.ordering import rising, spread
from lazypipe.storage.optimizer.prices import look_seconds
from lazypipe.storage.optimizer.profile import profile_sample
from lazypipe.storage.optimizer.quick import shrinking
from lazypipe.storage.optimizer.sample import ROWS, Sample, take_sample
from lazypipe.storage.optimizer.trial import Bench, Trial
from lazypipe.storage.optimizer.workload import Workload

__all__ = ["advise"]

Writer = Literal["polars", "pyarrow"]

_ROWS_PER_SECOND = 50_000
"""Rows that a second is enough to profile and to try the likeliest ways of."""
_FEWEST = 10_000
_QUICK = 1.5
"""Seconds below which nothing is timed: bytes of a few rows tell what is likely, and rates how long it takes."""
_COLUMN_SECONDS, _CELL_SECONDS = 4e-3, 1e-6
"""What looking at a column takes then, and at each value of it, for which so many rows are taken."""
_ASKED = 1.5
"""How many times longer a value takes that queries are tried on, too."""
_QUICK_MOST = 12_000
"""Rows that are looked at at most where there is little time."""
_FEWEST_HELD = 1_000
"""Rows that are tried at least, however few a folder holds."""
_LITTLE = 0.01
"""Which part of the bytes a column must have, to be worth a look because its values rise."""
_SURE = 0.95
"""Which part of the bytes a balanced layout may leave of a sample, not to be larger on all rows."""


def advise(
    data: pl.DataFrame | pl.LazyFrame | str,
    workload: Workload | None = None,
    goal: Goal = "balanced",
    budget: float | None = None,
    *,
    sample: int = ROWS,
    total: int | None = None,
    keep_order: bool = False,
    partition_by: Sequence[str] | None = None,
    writers: Sequence[Writer] | None = None,
    forms: bool = True,
    timed: bool | None = None,
    clock: Clock = time.process_time,
    storage_options: Mapping[str, Any] | None = None,
) -> Advice:
    """Recommend a layout for the rows of a frame, a dataset, a Delta table, or Parquet files at a URI.

    Candidates that the profile of a sample suggests (physical forms, encodings, codecs, sort orders, row group sizes) are written and read, and
    the measurements decide. ``storage`` and ``balanced`` make files small, with at most 3 and 1.5 times the write time of the default layout, and
    1.1 and 1 times its read time. ``read`` makes the workload's queries fast. ``write`` makes writing fast, with at most 1.1 times the bytes.

    Parameters
    ----------
    workload
        How the data is read. The columns that are filtered decide over sort order, row groups and partitions.
    budget
        Seconds that trials may take. When they are used up, the best layout so far is recommended. A small budget also makes the
        sample smaller. Default: no limit.
    sample
        About how many rows to try with.
    total
        How many rows the data stands for, if it is already a sample. Default: its own number of rows.
    keep_order
        Whether rows must stay in their order.
    partition_by
        Columns that are already folders. Default: partitions may be recommended too.
    writers
        Which writers may be used: ``polars``, ``pyarrow``. Default: both, if pyarrow is installed.
    forms
        Whether columns may be stored in other physical forms. ``lp.scan`` converts them back; other readers (of Delta tables) do not.
    timed
        Whether candidates are timed. If not, times are estimated from bytes with known rates, and the same rows always give the same advice.
        Default: if the budget is 1.5 seconds or more.
    clock
        Returns the time in seconds. Default: the processor time of this process, which other programs do not disturb.

    Raises
    ------
    LazypipeError
        If there is no such goal, writer or column, or if there are no rows.
    SourceError, StorageError
        If the files at a URI cannot be read.

    Examples
    --------
    >>> frame = pl.DataFrame({"id": range(1_000), "price": [n / 4 for n in range(1_000)]})
    >>> advice = advise(frame, goal="storage", clock=lambda: 0.0)
    >>> advice.layout.encodings["id"], advice.after.bytes < advice.before.bytes / 4
    ('delta', True)
    """
    if not isinstance(goal, str) or goal not in GOALS:
        raise LazypipeError(f"there is no goal {goal!r}; {nearest(str(goal), GOALS, 'goals')}")
    known = ("polars", "pyarrow")
    if wrong := [w for w in writers or () if w not in known]:
        raise LazypipeError(f"there is no writer {wrong[0]!r}; {nearest(wrong[0], known, 'writers')}")
    if not isinstance(workload, Workload | None):
        raise LazypipeError(
            f"workload={workload!r} is none; make one with lp.optimize.workload or lp.optimize.Workload"
        )
    if budget is not None and not budget >= 0:
        raise LazypipeError(f"budget={budget!r} is less than no time; give seconds, or None for no limit")
    asked = workload or Workload()
    if asked.access == "append heavy":  # each append would be put in order, and into folders, by itself
        keep_order, partition_by = True, partition_by or ()
    quick = (budget is not None and budget < _QUICK) if timed is None else not timed
    bench = Bench(clock, budget, quick=quick)
    if budget is not None:
        sample = min(
            sample, _quick_rows(data, budget, asked) if quick else max(round(budget * _ROWS_PER_SECOND), _FEWEST)
        )
    packs = quick and not keep_order and GOALS[goal].least == "bytes" and not asked.queries
    taken = take_sample(
        data, max(sample, ORDERED) if packs and not isinstance(data, pl.DataFrame) else sample, storage_options
    )
    rows = taken.frame
    if packs and isinstance(data, pl.DataFrame):
        # what recurs is seen best where rows follow each other
        rows = data.slice(max(data.height - ORDERED, 0) // 2, ORDERED)
    taken = taken if total is None else replace(taken, total=max(total, taken.total))
    for name in partition_by or ():
        if name not in taken.frame.columns:
            raise LazypipeError(f"there is no column {name!r}; {nearest(name, taken.frame.columns, 'columns')}")
    if wrong_type := [n for n, t in taken.frame.schema.items() if t in (pl.Object, pl.Unknown)]:
        raise LazypipeError(f"column {wrong_type[0]!r} holds Python objects, which no file can; cast or drop it")
    if hollow := [n for n, t in taken.frame.schema.items() if is_hollow(t)]:
        raise LazypipeError(f"column {hollow[0]!r} has a struct without fields, which Parquet cannot hold; drop it")
    if partition_by:
        held = _held(taken, partition_by)
        taken, rows = replace(taken, frame=spread(taken.frame, held)), spread(rows, held)
    chosen = list(writers) if writers else ["polars", *(["pyarrow"] if has_pyarrow() else [])]
    how: dict[str, bool] = {"keep_order": keep_order, "forms": forms, "is_part": total is not None}
    advice = _advice(Case(taken, asked, goal, partition_by, chosen, bench, rows, sample, **how))
    return advice if asked.access != "interchange" else with_format(advice, taken.frame, clock)


def _held(sample: Sample, partition_by: Sequence[str]) -> int:
    """Return the rows that the folder of a row holds, on average: a dictionary is as long as in a file of so many, not of all."""
    counts: list[int] = sample.frame.group_by(partition_by).len()["len"].to_list()
    return max(round(sample.scale * sum(n * n for n in counts) / max(sum(counts), 1)), _FEWEST_HELD)


def _quick_rows(data: pl.DataFrame | pl.LazyFrame | str, budget: float, asked: Workload) -> int:
    """Return the rows that can be looked at in so few seconds."""
    columns = 16 if isinstance(data, str) else max(len(data.collect_schema()), 1)
    cell = _CELL_SECONDS * (_ASKED if asked.queries else 1)
    rows = (budget - columns * _COLUMN_SECONDS) / (columns * cell)
    return min(max(round(rows), QUICK_FEWEST), _QUICK_MOST)


def _advice(case: Case) -> Advice:
    """Go through all steps."""
    bench = case.bench
    bench.spend.charge(look_seconds(case.frame.width))
    if not case.frame.width or not case.frame.height:
        why = "there are no rows to try it with" if case.frame.width else "there are no columns in the files"
        bench.trials.append(Trial(None, "default", Cost()))
        case.note(None, "the default layout", why)
        return _made(case, replace(DEFAULT, partition_by=case.keys), {}, {})
    if has_little(case):
        return _made(case, little_layout(case), {}, {})
    if by := counted(case):
        return _bare(case, replace(DEFAULT, sort_by=by), {})
    default, plain = bench.whole(case.frame, DEFAULT, "default")
    settle_writer(case, plain)
    least = _LITTLE * sum(plain.values())
    large = [n for n in case.frame.columns if plain[n] > least]
    case.rising = rising(case.frame.select(large))
    how: dict[str, Any] = {}
    rows, base, held = case.frame, default, plain
    by = packed(case, default, plain)
    if by and bench.quick and not bench.fits(case.ordered, times=2):
        return _bare(case, replace(DEFAULT, sort_by=by), plain)
    if by:
        how = {"sort_by": by}
        rows = case.ordered.sort(*by, nulls_last=False, maintain_order=True)
        case.sample, case.frame = replace(case.sample, frame=case.ordered), case.ordered
        bench.trials.clear()  # these were of other rows
        default, plain = bench.whole(case.frame, DEFAULT, "default")
        rows = spread(rows, case.rows)
        base, held = bench.whole(rows, DEFAULT, "default, in order")
    # where there is little time columns are looked at once, in the order that rows are going to have
    first, noted = default, list(case.reasons)
    order = DEFAULT if how or not bench.quick else ordered_for_readers(case, DEFAULT, default)
    names = looked(case, held, order)
    if not names:
        return _bare(case, replace(order, **how), plain)
    case.profile = profile_sample(replace(case.sample, frame=rows.select(names)), quick=bench.quick)
    if bench.quick:
        parts = {c.name: shrinking(c, case.sample.total / rows.height) for c in case.profile.columns}
        bench.shrinks = {n: part for n, part in parts.items() if part < 1}
        base, _ = bench.whole(rows, DEFAULT, "default, as of more rows")
    layout = DEFAULT if order.sort_by else columns_layout(case, rows, base, held, by)
    unordered = None if order.sort_by else (layout, list(case.reasons))
    if not how and not bench.quick:
        order = ordered_for_readers(case, layout, default)
    if order.sort_by:
        # from here on compared with what the default makes of rows in that order
        how = {"sort_by": order.sort_by, "curve": order.curve, "bounds": order.bounds}
        default, _ = bench.whole(case.frame, replace(DEFAULT, **how), "default, in order")
        in_order = bench.in_order(case.frame, replace(DEFAULT, **how))
        unsorted = columns_layout(case, in_order, default, plain, steady=case.rising)
        layout = replace(unsorted, **how)
        bench.expect_in_order(in_order, unsorted, case.frame, layout)
        if case.goal == "balanced" and case.last(layout).bytes > first.bytes:
            # readers are not worth more than bytes: rows stay as they come
            default, how, case.reasons = first, {}, noted
            layout, case.reasons = unordered or (_as_they_come(case, rows, base, held), case.reasons)
    layout = with_codec(case, layout, default)
    layout = with_sizes(case, layout, first)
    layout = with_partitions(case, layout)
    layout, sizes = _if_gain(case, layout, default)
    if bench.stopped:
        case.note(None, "no more trials", "the time for them was over; what was not tried is as it was")
    return _made(case, layout, plain, sizes)


def _if_gain(case: Case, layout: Layout, default: Cost) -> tuple[Layout, Mapping[str, int]]:
    """Return a layout, and what columns take in it; what is not better on the whole is as it is by default."""
    after, sizes = case.bench.whole(case.frame, layout, "advised")
    if not _is_no_gain(case, after, default):
        return layout, sizes
    layout = replace(layout, forms={}, encodings={}, codecs={}, codec="zstd", level=None, writer="polars")
    if not (case.filtered or case.together) or case.goal == "balanced":
        layout = replace(layout, sort_by=(), curve="linear", bounds={}, row_group_rows=None)
    after, sizes = case.bench.whole(case.frame, layout, "advised")
    kept = ("a folder", "no folders", "files of", *(("order", "row groups") if layout.sort_by else ()))
    case.reasons = [r for r in case.reasons if r.column is None and r.decision.startswith(kept)]
    case.note(None, "the default forms and encodings", "nothing that was tried is better on the whole")
    return layout, sizes


def _bare(case: Case, layout: Layout, plain: Mapping[str, int]) -> Advice:
    """Return advice where there was time for an order at most: columns stand as they do by default."""
    case.left = tuple(case.frame.columns)
    if case.goal == "balanced":
        layout = DEFAULT  # what an order costs in bytes columns would have made up for
    if case.goal == "storage" and layout.sort_by:
        layout = replace(layout, level=LITTLE_LEVEL)
    if not layout.sort_by:
        case.reasons.clear()
        case.note(None, "the default layout", "writing takes too little time to choose another")
    layout = with_partitions(case, with_sizes(case, layout, case.bench.trials[0].cost))
    if case.sample.scale <= 1 and not layout.sort_by:
        return _made(case, layout, plain, plain)  # there are no more rows to wait for
    case.bench.trials = [Trial(None, "default", Cost())]
    return _made(case, layout, {}, {})


def _as_they_come(case: Case, rows: pl.DataFrame, base: Cost, held: Mapping[str, int]) -> Layout:
    """Return the layout of columns that were looked at in an order which is not worth it, if there is time to look again."""
    if case.bench.quick and not case.bench.spend.takes(column_seconds(case, len(case.profile.columns))):
        return DEFAULT
    return columns_layout(case, rows, base, held)


def _made(case: Case, layout: Layout, plain: Mapping[str, int], sizes: Mapping[str, int]) -> Advice:
    layout = case.in_order_still(layout)
    after = dict.fromkeys(plain, 0) | by_owner(sizes)
    bench, reasons = case.bench, tuple(_final(case, layout, plain, after))
    pairs = {n: (plain[n], after[n]) for n in plain}
    rows, total = case.sample.frame.height, case.sample.total
    trials, seconds = tuple(bench.trials), bench.seconds
    return Advice(
        case.goal, layout, reasons, trials, pairs, rows, total, seconds, estimated=bench.quick, left=case.left,
        spent=bench.spend.spent,
    )  # fmt: skip


def _final(case: Case, layout: Layout, plain: Mapping[str, int], after: Mapping[str, int]) -> Iterator[Reason]:
    """Yield the reasons: columns first, with the bytes that they came to in the end."""
    encoded: dict[str, dict[str, str]] = {}
    for part, encoding in layout.encodings.items():
        encoded.setdefault(owner(part), {})[part] = encoding
    for name in plain:
        encodings = encoded.get(name, {})
        if (name not in layout.forms and not encodings) or name in case.left:
            continue
        form = layout.forms.get(name)
        words = [*([told_form(form)] if form else []), *([f"encoded as {listed(encodings)}"] if encodings else [])]
        reason = why(case.profile[name], form, case.limits.least)
        yield Reason(name, ", ".join(words), reason, plain[name], after[name])
    yield from case.reasons


def _is_no_gain(case: Case, after: Cost, default: Cost) -> bool:
    least = case.limits.least
    # a few parts in a hundred on few rows may be none, or less, on many
    worth = _SURE if case.goal == "balanced" and case.sample.scale > 1 else 1.0
    return getattr(after, least) > worth * getattr(default, least) or case.excess(after, default) > 1.2
