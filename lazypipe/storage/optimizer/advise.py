"""Advice on how data is best kept: what its profile speaks for is tried on a sample, and the figures decide."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import polars as pl

from lazypipe.errors import LazypipeError, nearest
from lazypipe.storage import hive
from lazypipe.storage.optimizer.advice import LATER, Advice, Reason, listed, order_name, told_form, why
from lazypipe.storage.optimizer.candidates import forms_for
from lazypipe.storage.optimizer.choice import GOALS, LITTLE, Goal, Limits, Measure, Option, choose, ordering_seconds
from lazypipe.storage.optimizer.cost import Cost, Size
from lazypipe.storage.optimizer.estimates import order_seconds
from lazypipe.storage.optimizer.form import Form
from lazypipe.storage.optimizer.form_numbers import Cast
from lazypipe.storage.optimizer.forms import owner
from lazypipe.storage.optimizer.interchange import with_format
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.options import base_layout, measured_options
from lazypipe.storage.optimizer.order import with_bounds
from lazypipe.storage.optimizer.ordering import kept_bits, likely_order, loose_key, packing_order, rising, spread
from lazypipe.storage.optimizer.profile import Profile, profile_sample
from lazypipe.storage.optimizer.pruning import reached
from lazypipe.storage.optimizer.quick import estimated_options, shrinking
from lazypipe.storage.optimizer.sample import ROWS, Sample, take_sample
from lazypipe.storage.optimizer.trial import Bench, Clock, Trial
from lazypipe.storage.optimizer.workload import Workload
from lazypipe.storage.optimizer.writing import writable

__all__ = ["advise"]

Writer = Literal["polars", "pyarrow"]

_TRIED: Mapping[Goal, tuple[tuple[str, int | None], ...]] = {
    "storage": (("zstd", 9),),
    "balanced": (("zstd", 6),),
    "read": (("lz4", None), ("uncompressed", None)),
    "write": (("zstd", 1), ("lz4", None)),
}
"""Codecs that are tried once forms and encodings are chosen."""
_LEVELS: Mapping[Goal, int] = {"storage": 9, "balanced": 6}
"""Levels of zstd that columns may have of their own, where bytes count."""
_WORTH = 0.98
"""How small another codec must make the whole to be worth it."""
_ORDER_WORTH = 0.95
_ORDER_LIKELY = 0.97
"""Which part of the bits an order may leave by their count, to be tried."""
_LIKELY_ROWS = 4_000
_STEP_BITS = 3.0
"""Bits that a step from a number to the next takes besides those that the order of rows is worth."""
_ORDER_TIMES = 3
"""How many times longer than the default writing in order may take."""
_ORDER_BYTES: Mapping[Goal, float] = {"storage": 1.0, "balanced": 1.0, "read": 1.5, "write": 1.0}
"""How many times more bytes than the default rows may take in an order that lets readers read less of them."""
_PRUNES = 0.67
"""Which part of what readers read is left at most, for an order to be worth it."""
_GROUP = 122_880
_GROUPS: Mapping[str, int] = {"point lookup": 32_768, "time range": 98_304}
"""Rows that a group has at least where readers look for few of them: in smaller ones files are larger, and lookups not faster."""
_FEWEST_GROUPS, _HALVES, _SMALLEST = 8, 2, 4_096
"""Groups that rows are taken to be in where orders are compared; into how many few rows are put, of so many at least."""
_STEP = 1_024
"""Rows of a group are a multiple of these."""
_CHUNK_SECONDS = 0.35e-6
"""What a reader takes to see in the footer what a column is like in one row group."""
_HITS = 1.5
"""Row groups that a lookup reads, about."""
_FILE_BYTES = 256 << 20
_ATTEMPTS = 4
_ROWS_PER_SECOND = 50_000
"""Rows that a second is enough to profile and to try the likeliest ways of."""
_FEWEST = 10_000
_QUICK = 1.5
"""Seconds below which nothing is timed: bytes of a few rows tell what is likely, and rates how long it takes."""
_COLUMN_SECONDS, _CELL_SECONDS = 4e-3, 1.5e-6
"""What looking at a column takes then, and at each of its values."""
_WRITTEN_SECONDS = 1e-4
"""What it takes at least to write a column of a few rows, twice."""
_LIKELY_SECONDS, _LIKELY_COUNTED = (1.5e-3, 0.4e-3, 0.05e-3), 12
"""What looking for an order takes then, at each column that is counted, and at each; and how many are counted."""
_LIKELY_LEFT = 0.8
"""Which part of the bits an order may leave by their count alone: next to what is written they are counted too low, or too high."""
_LITTLE_LEVEL = 6
_VALUE_SECONDS = 7e-9
"""What a value takes to be read, about."""
_QUICK_FEWEST, _QUICK_MOST = 2_000, 12_000
_ORDERED = 8_000
"""Rows that orders are tried on."""
_ORDER_SHARE, _ORDER_SECONDS = 1 / 3, 300e-9
"""Which part of the time an order may be looked for in, and what that takes at each value."""
_LARGEST = 32
"""Columns by which an order is looked for: those that take the most."""
_LOOKED = 4
"""Columns that are looked at in any case."""
_LITTLE = 0.01
"""Which part of the bytes a column must have, to be worth a look because its values rise."""
_PARTITIONS = 200
_PARTITION_BYTES = 32 << 20
_SURE = 0.95
"""Which part of the bytes a balanced layout may leave of a sample, not to be larger on all rows."""
_FEW = 0.02
"""Which part of the values may be different ones at most, for more rows to have no more of them."""
_EMPTY = 0.9
"""Which part of the rows must be null for the bytes of a column to tell little more than where they are not."""
_OFTEN = 0.5
"""In which part of the queries a column must be filtered, for its values to be folders; or be a key, for rows with the same to stand together."""
_MANY_KEYS = 1 / 4
"""Which part of the rows must have another key than the others: of few keys all are at hand anyway. (Grouping 6 M rows by 100,000 keys takes
a third of the time where rows are in their order, joining 0.6; by 1,000 keys just as long, and sorting them longer.)"""


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
    clock: Clock = time.process_time,
    storage_options: Mapping[str, Any] | None = None,
) -> Advice:
    """Advise how the rows of a frame, a dataset, or Parquet files at a URI are best kept.

    What a sample's profile speaks for (forms of values, encodings, codecs, orders, sizes of row groups) is written and read, and
    what was measured decides. ``storage`` and ``balanced`` make files small, at no more than 3 and 1.5 times the default's time
    to write, and 1.1 and 1 times that to read; ``read`` makes what the workload asks for fast, and ``write`` writing, at no more
    than 1.1 times the bytes.

    Parameters
    ----------
    workload
        What readers ask: which columns they filter decides on order, row groups and partitions.
    budget
        Seconds after which nothing more is tried; then the advice is the best of what was. A small one makes the sample
        smaller too. Default: no end.
    sample
        About how many rows to try with.
    total
        How many rows these stand for, if the data is a sample already. Default: they are all.
    keep_order
        Whether rows stay in the order in which they come.
    partition_by
        Columns that stand in folders already. Default: that is to be advised too.
    writers
        Who may write: ``polars``, ``pyarrow``. Default: both, if pyarrow is installed.
    forms
        Whether columns may stand in files in other forms, which ``lp.scan`` undoes and other readers (of Delta tables) do not.
    clock
        Tells the time, in seconds. Default: that of the processor in this process, which other work on the machine does not
        disturb.

    Raises
    ------
    LazypipeError
        If there is no such goal, writer or column, or nothing to look at.
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
    asked = workload or Workload()
    if asked.access == "append heavy":  # each append would be put in order, and into folders, by itself
        keep_order, partition_by = True, partition_by or ()
    quick = budget is not None and budget < _QUICK
    bench = Bench(clock, budget, quick=quick)
    if budget is not None:
        sample = min(sample, _quick_rows(data, budget) if quick else max(round(budget * _ROWS_PER_SECOND), _FEWEST))
    packs = quick and not keep_order and GOALS[goal].least == "bytes" and not asked.queries
    taken = take_sample(
        data, max(sample, _ORDERED) if packs and not isinstance(data, pl.DataFrame) else sample, storage_options
    )
    rows = taken.frame
    if packs and isinstance(data, pl.DataFrame):
        # what recurs is seen best where rows follow each other
        rows = data.slice(max(data.height - _ORDERED, 0) // 2, _ORDERED)
    taken = taken if total is None else replace(taken, total=max(total, taken.total))
    for name in partition_by or ():
        if name not in taken.frame.columns:
            raise LazypipeError(f"there is no column {name!r}; {nearest(name, taken.frame.columns, 'columns')}")
    if wrong_type := [n for n, t in taken.frame.schema.items() if t in (pl.Object, pl.Unknown)]:
        raise LazypipeError(f"column {wrong_type[0]!r} holds Python objects, which no file can; cast or drop it")
    chosen = list(writers) if writers else ["polars", *(["pyarrow"] if _has_pyarrow() else [])]
    how: dict[str, bool] = {"keep_order": keep_order, "forms": forms, "is_part": total is not None}
    advice = _Adviser(taken, asked, goal, partition_by, chosen, bench, rows, sample, **how).advice()
    return advice if asked.access != "interchange" else with_format(advice, taken.frame, clock)


def _quick_rows(data: pl.DataFrame | pl.LazyFrame | str, budget: float) -> int:
    """Return the rows that can be looked at in so few seconds."""
    columns = 16 if isinstance(data, str) else max(len(data.collect_schema()), 1)
    rows = (budget - columns * _COLUMN_SECONDS) / (columns * _CELL_SECONDS)
    return min(max(round(rows), _QUICK_FEWEST), _QUICK_MOST)


def _has_pyarrow() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


class _Adviser:
    """Tries ways to keep a sample and decides, step by step; each step notes its reasons."""

    def __init__(
        self,
        sample: Sample,
        workload: Workload,
        goal: Goal,
        partition_by: Sequence[str] | None,
        writers: Sequence[str],
        bench: Bench,
        ordered: pl.DataFrame,
        rows: int,
        *,
        keep_order: bool,
        forms: bool,
        is_part: bool,
    ) -> None:
        self.workload, self.goal, self.bench = workload, goal, bench
        self.partition_by = partition_by
        self.keys = tuple(partition_by or ())
        # orders are told by more rows than there is time to write in all ways
        self.keep_order, self.forms, self.is_part = keep_order, forms, is_part
        self.ordered, self.rows = ordered.drop(self.keys) if self.keys else ordered, rows
        self.sample = replace(sample, frame=spread(sample.frame, rows)) if bench.quick else sample
        self.frame = self.sample.frame.drop(self.keys) if self.keys else self.sample.frame
        self.profile = Profile(0, 0, ())
        self.writers = [w for w in writers if w == "polars" or writable(self.frame.schema)] or ["polars"]
        self.limits: Limits = GOALS[goal]
        self.filtered = self.workload.weights("filters") if self.workload.queries else {}
        self.together: str | None = None
        self.rising: list[str] = []
        self.reasons: list[Reason] = []
        self.left: tuple[str, ...] = ()

    def advice(self) -> Advice:
        """Go through all steps."""
        bench = self.bench
        if not self.frame.width or not self.frame.height:
            why = "there are no rows to try it with" if self.frame.width else "there are no columns in the files"
            bench.trials.append(Trial(None, "default", Cost()))
            self._note(None, "the default layout", why)
            return self._made(replace(DEFAULT, partition_by=self.keys), {}, {})
        if self._has_little():
            return self._little()
        default, plain = bench.whole(self.frame, DEFAULT, "default")
        self._settle_writer(plain)
        large = [n for n in self.frame.columns if plain[n] > _LITTLE * sum(plain.values())]
        self.rising = rising(self.frame.select(large))
        how: dict[str, Any] = {}
        rows, base, held = self.frame, default, plain
        if packed := self._packed(default, plain):
            how = {"sort_by": packed}
            rows = self.ordered.sort(*packed, nulls_last=False, maintain_order=True)
            self.sample, self.frame = replace(self.sample, frame=self.ordered), self.ordered
            bench.trials.clear()  # these were of other rows
            default, plain = bench.whole(self.frame, DEFAULT, "default")
            rows = spread(rows, self.rows)
            base, held = bench.whole(rows, DEFAULT, "default, in order")
        looked = self._looked(held)
        self.profile = profile_sample(replace(self.sample, frame=rows.select(looked)), quick=bench.quick)
        if bench.quick:
            parts = {c.name: shrinking(c, self.sample.total / rows.height) for c in self.profile.columns}
            bench.shrinks = {n: part for n, part in parts.items() if part < 1}
            base, _ = bench.whole(rows, DEFAULT, "default, as of more rows")
        first, noted = default, list(self.reasons)
        # where there is little time columns are looked at once, in the order that rows are going to have
        order = DEFAULT if how or not bench.quick else self._order(DEFAULT, default)
        layout = DEFAULT if order.sort_by else self._columns(rows, base, held, packed)
        unordered = None if order.sort_by else (layout, list(self.reasons))
        if not how and not bench.quick:
            order = self._order(layout, default)
        if order.sort_by:
            # from here on compared with what the default makes of rows in that order
            how = {"sort_by": order.sort_by, "curve": order.curve, "bounds": order.bounds}
            default, _ = bench.whole(self.frame, replace(DEFAULT, **how), "default, in order")
            in_order = bench.in_order(self.frame, replace(DEFAULT, **how))
            unsorted = self._columns(in_order, default, plain, steady=self.rising)
            layout = replace(unsorted, **how)
            bench.expect_in_order(in_order, unsorted, self.frame, layout)
            if self.goal == "balanced" and self._last(layout).bytes > first.bytes:
                # readers are not worth more than bytes: rows stay as they come
                default, how, self.reasons = first, {}, noted
                layout, self.reasons = unordered or (self._columns(rows, base, held), self.reasons)
        layout = self._codec(layout, default)
        layout = self._sizes(layout, default, first)
        layout = self._partitions(layout)
        after, sizes = bench.whole(self.frame, layout, "advised")
        if self._is_no_gain(after, default):
            layout = replace(layout, forms={}, encodings={}, codecs={}, codec="zstd", level=None, writer="polars")
            if not (self.filtered or self.together) or self.goal == "balanced":
                layout = replace(layout, sort_by=(), curve="linear", bounds={}, row_group_rows=None)
            after, sizes = bench.whole(self.frame, layout, "advised")
            kept = ("order", "row groups") if layout.sort_by else ()
            self.reasons = [r for r in self.reasons if r.column is None and r.decision.startswith(kept)]
            self._note(None, "the default forms and encodings", "nothing that was tried is better on the whole")
        if bench.stopped:
            self._note(None, "no more trials", "the time for them was over; what was not tried is as it was")
        return self._made(layout, plain, sizes)

    def _has_little(self) -> bool:
        """Whether there is no time to write all columns in even two ways."""
        budget = self.bench.budget or 0.0
        needed = max(LITTLE, _WRITTEN_SECONDS * self.frame.width)
        return self.bench.quick and budget < needed and self.sample.scale > 1

    def _little(self) -> Advice:
        """Look for an order of rows and for nothing else, or not even that: columns are left for when there is more time."""
        self.bench.trials.append(Trial(None, "default", Cost()))
        self.left = tuple(self.frame.columns)
        once, counted, each = _LIKELY_SECONDS
        seconds = once + counted * min(self.frame.width, _LIKELY_COUNTED) + each * self.frame.width
        time = seconds <= ordering_seconds(self.goal, self.bench.budget or 0.0)
        layout = DEFAULT
        if time and not self.keep_order and self.goal in ("storage", "read"):
            layout = self._likely() if not self.filtered else self._asked()
        if not layout.sort_by:
            self._note(None, "the default layout", "writing takes too little time to choose another")
        return self._made(replace(layout, partition_by=self.keys), {}, {})

    def _likely(self) -> Layout:
        """Return the order in which files are likely to be much smaller."""
        if self.limits.least != "bytes":
            return DEFAULT
        order, left = likely_order(self.ordered)
        if not order or left > _LIKELY_LEFT:
            return DEFAULT
        layout = Layout(sort_by=order, level=_LITTLE_LEVEL)
        self._note(
            None, f"ordered by {order_name(layout)}", f"values that follow each other leave {left:.0%} of the bits"
        )
        return layout

    def _asked(self) -> Layout:
        """Return the order in which queries read less, if files are not likely to be much larger."""
        sort_by, _ = next(self._orders(None), ((), "linear"))
        if not sort_by:
            return DEFAULT
        asked = self.frame.select(c for c in self.filtered if c in self.frame.columns)
        in_order = asked.sort(*sort_by, maintain_order=True, multithreaded=False)
        natural, reading = self._reading(asked), self._reading(in_order)
        if reading > _PRUNES * natural or kept_bits(self.frame, sort_by) > _ORDER_BYTES[self.goal]:
            return DEFAULT
        group = self._group(self.workload.access, _VALUE_SECONDS * self.frame.width)
        layout = Layout(sort_by=sort_by, row_group_rows=group)
        share = f"queries read {reading:.0%} of the row groups, {natural:.0%} as it was"
        self._note(None, f"ordered by {order_name(layout)}", share)
        return layout

    def _settle_writer(self, plain: Mapping[str, int]) -> None:
        """Leave one writer where there is little time and the other would be tried in vain.

        What has encodings per column is smaller, unless most bytes only tell where nulls are: those Polars packs better.
        """
        if not self.bench.quick or len(self.writers) < 2:
            return
        nulls = self.frame.null_count().row(0, named=True)
        empty = sum(size for n, size in plain.items() if nulls[n] >= _EMPTY * self.frame.height)
        if empty > sum(plain.values()) / 2:
            self.writers = ["polars"]
            self._note(None, "written by polars", "most bytes tell where nulls are, which it packs best")
        elif self.limits.least == "bytes":
            self.writers = ["pyarrow"]

    def _looked(self, plain: Mapping[str, int]) -> list[str]:
        """Return the columns that are looked at: all, or, where there is little time, those that take the most."""
        if not self.bench.quick:
            return self.frame.columns
        most = max(round((self.bench.budget or 0.0) / 2 / _COLUMN_SECONDS), _LOOKED)
        # where values rise nearly all bytes may be gained, and more of them than few rows show
        taken = {*sorted(plain, key=lambda n: -plain[n])[:most], *self.filtered, *self.rising}
        if len(taken) < len(plain):
            self._note(None, f"{len(taken)} of {len(plain)} columns looked at", LATER)
            self.left = tuple(n for n in self.frame.columns if n not in taken)
        return [n for n in self.frame.columns if n in taken]

    def _made(self, layout: Layout, plain: Mapping[str, int], sizes: Mapping[str, int]) -> Advice:
        after: dict[str, int] = dict.fromkeys(plain, 0)
        for name, size in sizes.items():
            after[owner(name)] += size
        bench, reasons = self.bench, tuple(self._final(layout, plain, after))
        pairs = {n: (plain[n], after[n]) for n in plain}
        rows, total = self.sample.frame.height, self.sample.total
        trials, seconds = tuple(bench.trials), bench.seconds
        return Advice(
            self.goal, layout, reasons, trials, pairs, rows, total, seconds, estimated=bench.quick, left=self.left
        )

    def _note(self, column: str | None, decision: str, why: str) -> None:
        self.reasons.append(Reason(column, decision, why))

    def _final(self, layout: Layout, plain: Mapping[str, int], after: Mapping[str, int]) -> Iterator[Reason]:
        """Yield the reasons: columns first, with the bytes that they came to in the end."""
        for name in plain:
            encodings = {part: e for part, e in layout.encodings.items() if owner(part) == name}
            if name not in layout.forms and not encodings:
                continue
            form = layout.forms.get(name)
            words = [*([told_form(form)] if form else []), *([f"encoded as {listed(encodings)}"] if encodings else [])]
            reason = why(self.profile[name], form, self.limits.least)
            yield Reason(name, ", ".join(words), reason, plain[name], after[name])
        yield from self.reasons

    # columns

    def _columns(
        self,
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
        profiles = {c.name: c for c in self.profile.columns}
        names = sorted(profiles, key=lambda n: -plain[n])
        forms = {n: self._forms(n, frame) for n in names}
        found = (
            estimated_options(
                frame,
                forms,
                profiles,
                self.writers,
                self.bench,
                _LEVELS.get(self.goal),
                self.sample.scale,
                self.bench.sizes(frame, DEFAULT),
                sure=self.goal == "balanced",
            )
            if self.bench.quick
            else measured_options(frame, forms, self.writers, self.bench)
        )
        for options in found.values() if self.limits.least == "bytes" else ():
            for name in set(steady) & set(options):
                options[name] = [o for o in options[name] if "delta" in dict(o.encodings).values()] or options[name]
        plainly = (options[0].cost for options in found[self.writers[0]].values())
        base = default if self.bench.quick else sum(plainly, Cost())
        layouts = [self._within(found[w], base, default, w, frame, sort_by) for w in self.writers]
        least = self.limits.least
        best, cost = min(layouts, key=lambda p: (self._excess(p[1], default), getattr(p[1], least), p[1].bytes))
        if len(layouts) > 1:
            others = [c for n, c in layouts if n is not best]
            saved = _compared(cost, others[0], least)
            self.reasons = [r for r in self.reasons if not r.decision.startswith("written by")]
            self._note(None, f"written by {best.writer}", saved)
        return best

    def _forms(self, name: str, frame: pl.DataFrame) -> list[Form]:
        """Return the forms to try; of a column that is filtered only those with which a filter skips row groups."""
        if not self.forms:
            return []
        writer = "polars" if self.writers == ["polars"] else "pyarrow"
        found = forms_for(self.profile[name], self.profile, frame, writer)
        if name in self.filtered:
            return [f for f in found if isinstance(f, Cast) and f.widens(frame.schema[name])]
        return found

    def _within(
        self,
        options: Mapping[str, Sequence[Option]],
        base: Cost,
        default: Cost,
        writer: str,
        frame: pl.DataFrame,
        sort_by: tuple[str, ...],
    ) -> tuple[Layout, Cost]:
        """Choose options; where the whole, tried together, breaks limits all the same, choose again under stricter ones."""
        limits = self.limits
        for _ in range(_ATTEMPTS):
            chosen = choose(options, base, limits)
            layout = replace(_layout(chosen, writer, frame), sort_by=sort_by)
            if self.bench.quick:
                self.bench.expect(frame, layout, *_summed(chosen, frame, sort_by))
            cost, _sizes = self.bench.whole(frame, layout, f"chosen, {writer}")
            broken = self.limits.broken(cost, default)
            if not broken or self.bench.over:
                break
            measure = broken[0]
            limit = getattr(self.limits, measure) * getattr(default, measure)
            limits = limits.tightened(measure, 0.95 * limit / getattr(cost, measure))
        return layout, cost

    def _excess(self, cost: Cost, default: Cost) -> float:
        """Return how far a cost is above the limits."""
        broken = self.limits.broken(cost, default)
        parts = (getattr(cost, m) / (getattr(self.limits, m) * max(getattr(default, m), 1e-9)) for m in broken)
        return round(max(parts, default=1.0), 1)

    def _is_no_gain(self, after: Cost, default: Cost) -> bool:
        least = self.limits.least
        # a few parts in a hundred on few rows may be none, or less, on many
        worth = _SURE if self.goal == "balanced" and self.sample.scale > 1 else 1.0
        return getattr(after, least) > worth * getattr(default, least) or self._excess(after, default) > 1.2

    # order

    def _packed(self, default: Cost, plain: Mapping[str, int]) -> tuple[str, ...]:
        """Return the columns by which rows are sorted to make files smaller, where nobody filters them."""
        if (
            self.limits.least != "bytes"
            or self.filtered
            or self.keep_order
            or (not self.bench.quick and self.bench.over)
        ):
            return ()
        large = sorted(plain, key=lambda n: -plain[n])[:_LARGEST]
        by, writer = packing_order(self.ordered.select(large), self._orderable()), self.writers[-1]
        if not by:
            return self._numbered(writer, default)
        if kept_bits(self.ordered.head(_LIKELY_ROWS), by) > _ORDER_LIKELY:
            return ()  # not worth a trial
        # as they come rows are written in what is best for values that rise, so that an order is not said to gain what that does
        delta = rising(self.ordered) if writer == "pyarrow" else ()
        bare = replace(base_layout(writer), encodings=dict.fromkeys(delta, "delta"))
        cost, _ = self.bench.whole(self.ordered, bare, "in no order")
        tried = replace(bare, sort_by=by)
        found, _ = self.bench.whole(self.ordered, tried, f"ordered by {order_name(tried)}")
        if found.bytes > _ORDER_WORTH * cost.bytes or found.write > self.limits.write * cost.write:
            return ()
        self._note(None, f"ordered by {order_name(tried)}", _smaller(cost, found))
        return by

    def _orderable(self) -> int:
        """Return the rows that there is time to put in order again and again."""
        if self.bench.budget is None:
            return _ORDERED
        seconds = _ORDER_SECONDS * max(self.ordered.width, 1)
        return min(max(round(_ORDER_SHARE * self.bench.budget / seconds), _QUICK_FEWEST), _ORDERED)

    def _numbered(self, writer: str, default: Cost) -> tuple[str, ...]:
        """Return the column that rows without any order are sorted by to save what that costs, if it is worth it."""
        key = loose_key(self.ordered) if writer == "pyarrow" else None
        if key is None:
            return ()
        # of few rows a trial shows little: of more, steps are smaller
        rows = self.frame.height
        saved = max(math.log2(max(self.sample.total, 1)) - _STEP_BITS, 0.0) * rows / 8
        longer = order_seconds(self.frame, 1)
        if saved < (1 - _ORDER_WORTH) * default.bytes or default.write + longer > self.limits.write * default.write:
            return ()
        self._note(
            None,
            f"ordered by {key}",
            f"rows have no order that would be lost, and steps take about {8 * saved / rows:.0f} bits a row less than values",
        )
        return (key,)

    def _order(self, layout: Layout, default: Cost) -> Layout:
        """Choose the order of rows."""
        key = None if self.keep_order else self._key()
        orders = [] if self.keep_order else [*self._orders(key)]
        if not orders:
            return layout
        # encodings are those that are best without an order: each order is compared, and tried, without them
        best = bare = replace(base_layout(layout.writer), forms=layout.forms)
        first, _ = self.bench.whole(self.frame, bare, "in no order")
        cost = first
        natural = self._reading(self.frame)
        least = natural
        for number, (sort_by, curve) in enumerate(orders):
            if (number or not self.bench.quick) and self.bench.over:
                break  # one is tried in any case where that takes no time to speak of: it is worth more than all else
            tried = replace(bare, sort_by=sort_by, curve=curve)
            tried = with_bounds(tried, self.frame, "the sample")
            found, _ = self.bench.whole(self.frame, tried, f"ordered by {order_name(tried)}")
            reading = self._reading(self.bench.in_order(self.frame, replace(tried, forms={})))
            smaller = self.limits.least == "bytes" and found.bytes <= _ORDER_WORTH * cost.bytes
            faster = (
                reading <= _PRUNES * natural
                and reading < least
                and found.bytes <= _ORDER_BYTES[self.goal] * default.bytes
            )
            allowed = self.goal != "write" and found.write <= _ORDER_TIMES * default.write
            keyed = (
                sort_by == (key,)
                and self.goal == "read"
                and not best.sort_by
                and reading <= natural
                and found.bytes <= _ORDER_BYTES[self.goal] * default.bytes
            )
            if allowed and (faster or keyed or (smaller and reading <= natural and least == natural)):
                best, cost, least = tried, (found if smaller else cost), reading
                self.together = key if keyed and not faster else None
        if best.sort_by:
            share = f"queries read {least:.0%} of the row groups, {natural:.0%} as it was"
            why = share if least < natural else _smaller(first, cost)
            if self.together:
                why = f"queries group or join by {key}, of which there are many: rows with the same one stand together"
            self._note(None, f"ordered by {order_name(best)}", why)
        return best

    def _orders(self, key: str | None) -> Iterator[tuple[tuple[str, ...], Literal["linear", "hilbert"]]]:
        """Yield orders to try: by the columns that queries filter most, and by their key."""
        flat = [n for n, t in self.frame.schema.items() if not t.is_nested()]
        filtered = [n for n in self.filtered if n in flat][:3]
        for name in filtered:
            yield (name,), "linear"
        for pair in pairwise(filtered):
            yield pair, "linear"
            yield pair, "hilbert"
        if key:
            yield (key,), "linear"

    def _key(self) -> str | None:
        """Return the key that queries group or join by most, if there are many of it, and rows are not in its order already."""
        if not self.workload.queries:
            return None
        weights = self.workload.weights("groups")
        for name, weight in self.workload.weights("joins").items():
            weights[name] = weights.get(name, 0.0) + weight
        for name, weight in sorted(weights.items(), key=lambda item: -item[1]):
            known = name in self.frame.columns and name not in self.filtered
            if known and weight >= _OFTEN and not self.frame.schema[name].is_nested():
                if rising(self.frame.select(name)):
                    continue
                many = self.frame[name].n_unique() > _MANY_KEYS * self.frame.height
                return name if many else None
        return None

    def _reading(self, rows: pl.DataFrame, group: int = _GROUP, fewest: int = _FEWEST_GROUPS) -> float:
        """Return which part of the row groups the workload's queries read, on average: where there are ``fewest`` at least."""
        total = sum(q.weight for q in self.workload.queries)
        groups = min(max(-(-self.sample.total // group), fewest), max(rows.height // 20, 1))
        return sum(reached(rows, q, groups) * q.weight for q in self.workload.queries) / total

    # codec, sizes, partitions

    def _last(self, layout: Layout) -> Cost:
        """Return what a layout costs: what was measured last of all columns, unless rows were put in order since."""
        if layout.sort_by:
            return self.bench.whole(self.frame, layout, f"ordered by {order_name(layout)}")[0]
        return next(
            t.cost for t in reversed(self.bench.trials) if t.column is None and t.how == f"chosen, {layout.writer}"
        )

    def _codec(self, layout: Layout, default: Cost) -> Layout:
        if self.bench.quick and layout.writer == "pyarrow" and self.goal in _LEVELS:
            return layout  # each column has had the choice
        if self.bench.quick and layout.writer == "polars" and self.goal in _LEVELS:
            return self._harder(layout, default)
        best, cost = layout, self._last(layout)
        for codec, level in _TRIED[self.goal]:
            if self.bench.over:
                break
            tried = replace(layout, codec=codec, level=level)
            found, _ = self.bench.whole(self.frame, tried, _codec_name(codec, level))
            least = self.limits.least
            worth = getattr(found, least) <= _WORTH * getattr(cost, least)
            if worth and not self.limits.broken(found, default):
                why = f"{least} of the sample {_figure(getattr(cost, least))} → {_figure(getattr(found, least))}"
                self.reasons = [r for r in self.reasons if not r.decision.startswith("codec ")]
                self._note(None, f"codec {_codec_name(codec, level)}", why)
                best, cost = tried, found
        return best

    def _harder(self, layout: Layout, default: Cost) -> Layout:
        """Compress all columns harder if that stays within limits: what it saves shows only on more rows."""
        tried, cost = self.bench.harder(self.frame, layout, _LEVELS[self.goal])
        if self.limits.broken(cost, default):
            return layout
        self._note(
            None,
            f"codec {_codec_name('zstd', tried.level)}",
            f"writing stays within {self.limits.write:g} times the default's time",
        )
        return tried

    def _repeated(self, layout: Layout, group: int) -> float:
        """Return the bytes by which the sample grows, at most, if dictionaries are repeated in row groups of so many rows."""
        rows, found = self.frame.height, 0.0
        for name, dtype in self.frame.schema.items():
            encodings = {e for part, e in layout.encodings.items() if owner(part) == name}
            if dtype.is_nested() or dtype == pl.Boolean or (encodings and "dictionary" not in encodings):
                continue
            values = self.frame[name]
            distinct, size = values.n_unique(), values.estimated_size() / rows
            # of few values all are seen; of others as many more may come as there are rows
            share = distinct / group if distinct <= _FEW * rows else 1.0
            found += min(share, 1.0) * size * rows * (1 - group / _GROUP)
        return found

    def _group(self, access: str, row_seconds: float) -> int | None:
        """Return the rows of a group with which lookups take the least; None if nobody looks for a few rows of many.

        ``row_seconds`` is what a row takes to be read. In smaller groups less is read in vain, but footers are longer, the more so
        the more columns there are.
        """
        least, total = _GROUPS.get(access), self.sample.total
        if least is None or total < 2 * _SMALLEST:
            return None
        width = self.frame.width
        asked = min(sum(self.workload.weights("columns").values()), width) or width
        seconds = row_seconds * asked / width
        best = math.sqrt(_CHUNK_SECONDS * width * total / (_HITS * seconds))
        rows = max(best, min(least, max(total / _HALVES, _SMALLEST)))
        return min(math.ceil(rows / _STEP) * _STEP, _GROUP)

    def _sizes(self, layout: Layout, default: Cost, first: Cost) -> Layout:
        """Choose the size of row groups and files; ``first`` is what rows cost as they came."""
        access = self.workload.access if self.workload else "scan"
        rows = None
        if access in _GROUPS and self.filtered and layout.sort_by and self.goal in ("read", "balanced"):
            # what was timed is another each time
            rates = self._last(layout) if self.bench.quick else self.bench.alike(self.frame, layout, layout)
            rows = self._group(access, rates.read / self.frame.height)
        if rows is not None:
            order = replace(DEFAULT, sort_by=layout.sort_by, curve=layout.curve, bounds=layout.bounds)
            in_order = self.bench.in_order(self.frame, order)
            now, then = (self._reading(in_order, size, 1) for size in (_GROUP, rows))
            if self.goal == "read" or self._last(layout).bytes + self._repeated(layout, rows) <= first.bytes:
                layout = replace(layout, row_group_rows=rows)
                why = f"{access}: queries read {then:.1%} of the rows, not {now:.1%} as in groups of {_GROUP:,}"
                self._note(None, f"row groups of {rows:,} rows", why)
        size = round(self.bench.trials[-1].cost.bytes * self.sample.scale)
        if size > 2 * _FILE_BYTES:
            layout = replace(layout, file_bytes=_FILE_BYTES)
            self._note(
                None, f"files of {_FILE_BYTES >> 20} MiB", f"about {size >> 20:,} MiB in all, to be read side by side"
            )
        return layout

    def _partitions(self, layout: Layout) -> Layout:
        """Choose the columns that stand in folders, unless that is settled."""
        if self.partition_by is not None:
            return replace(layout, partition_by=self.keys)
        size = self.bench.trials[-1].cost.bytes * self.sample.scale
        for name, weight in self.filtered.items():
            column = next((c for c in self.profile.columns if c.name == name), None)
            if column is None or column.distinct is None or column.nulls or weight < _OFTEN:
                continue
            if not hive.can_name(column.dtype) or self.frame.width == 1:
                continue
            if self.is_part and self.frame[name].head(self.frame.height // 2).n_unique() < column.distinct:
                continue  # more rows are likely to have more values
            counts = self.frame[name].value_counts()
            least = size * int(counts["count"].sort()[0]) / self.frame.height
            if 1 < column.distinct <= _PARTITIONS and least >= _PARTITION_BYTES:
                if (long := _longest_name(counts[name])) > hive.NAME_BYTES:
                    allowed = f"a value makes a name of {long:,} bytes, and {hive.NAME_BYTES} are allowed"
                    self._note(None, f"no folders by {name}", allowed)
                    continue
                self._note(
                    None, f"a folder per {name}", f"{column.distinct} of them, of {int(least) >> 20:,} MiB or more each"
                )
                return _without(layout, name)
        return layout


def _layout(chosen: Mapping[str, Option], writer: str, frame: pl.DataFrame) -> Layout:
    return replace(
        base_layout(writer),
        forms={n: o.form for n in frame.columns if (o := chosen[n]).form is not None},
        encodings=dict(e for n in frame.columns for e in chosen[n].encodings),
        codecs=dict(c for n in frame.columns for c in chosen[n].codecs),
    )


def _smaller(before: Cost, after: Cost) -> str:
    """Return what an order of rows saves."""
    return f"the sample takes {after.bytes:,} bytes that way, {before.bytes:,} as rows come"


def _compared(chosen: Cost, other: Cost, least: Measure) -> str:
    """Return what one way takes, and another, of what is to be small; of bytes if that is the same."""
    here, there = (_figure(getattr(c, least)) for c in (chosen, other))
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


def _without(layout: Layout, name: str) -> Layout:
    """Return the layout with a column in folders."""

    def kept(of: Mapping[str, Any]) -> dict[str, Any]:
        return {n: v for n, v in of.items() if owner(n) != name}

    sort_by = tuple(n for n in layout.sort_by if n != name)
    curve, bounds = (layout.curve, kept(layout.bounds)) if len(sort_by) > 1 else ("linear", {})
    forms, encodings, codecs = kept(layout.forms), kept(layout.encodings), kept(layout.codecs)
    return replace(
        layout, forms=forms, encodings=encodings, codecs=codecs, sort_by=sort_by, curve=curve, bounds=bounds,
        partition_by=(name,),
    )  # fmt: skip


def _longest_name(values: pl.Series) -> int:
    """Return the bytes of the longest name of a folder among those of some values."""
    texts = values.cast(pl.String)
    return max(len(hive.folders([values.name], [text])) - 1 for text in texts)


def _codec_name(codec: str, level: int | None) -> str:
    return codec if level is None else f"{codec} {level}"


def _figure(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number * 1e6:,.0f} µs"
