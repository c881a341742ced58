"""Which closed windows are complete: checked while their rows flow by, and afterwards for windows without rows.

What is expected of a window is a matter of its rows, of the files that reach into it, and of its marker; for how long it is waited for,
of the run's clock. So a window is given or held back by what there is and when, in whatever order it came.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import polars as pl

from lazypipe.compile.closing import closes, columns_where_closed
from lazypipe.compile.node import Node
from lazypipe.errors import Problem, RunError
from lazypipe.incremental.incomplete import Incomplete, Marks, read
from lazypipe.ops.window import Window
from lazypipe.run.closing import Closing
from lazypipe.spec import taps
from lazypipe.windows import Clock, windows
from lazypipe.windows.expectation import STATS, Expectation
from lazypipe.windows.watermark import moment

__all__ = ["Whole"]

_MOST = 1_000_000
"""How many windows without rows are looked for, from the first with rows on."""


class Whole:
    """The windows of one stage in one run: ``found`` are those that lack something, by their start."""

    def __init__(self, closing: Closing, node: Node, expectation: Expectation) -> None:
        from lazypipe.ops.closed import Closed

        closed = closes(node)
        assert isinstance(closed, Closed)
        assert closed.start is not None
        self.closing = closing
        self.node = node
        self.closed = closed
        self.start = closed.start
        self.expectation = expectation
        self.clock = Clock.of(closed.end, columns_where_closed(node))
        self.limit = closing.horizon - closed.wait
        self.marks = Marks.of(closing.run.plan, node, closed)
        times = closing.times_of_files() if expectation.files is not None else []
        self.lows, self.highs = sorted(low for low, _ in times), sorted(high for _, high in times)
        self.before = {w.start: w.since for w in read(closing.before)[0]}
        self.seen: set[int] = set()
        self.found: dict[int, Incomplete] = {}
        self._lock = threading.Lock()

    def attach(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows of windows that are whole, or given all the same."""
        return taps.tap(frame, self._judge, deciding=[self.start, self.closed.end])

    def _judge(self, batch: pl.DataFrame) -> pl.DataFrame:
        if not batch.height:
            return batch
        ends = [pl.col(self.start).alias("start"), pl.col(self.closed.end).alias("end")]
        # an expression, not DataFrame.unique: that is a streaming query of its own, and would wait for this very thread
        each = batch.select(pl.struct(*ends, pl.col(STATS).struct.unnest()).unique().alias("window"))["window"]
        distinct = each.struct.unnest()
        lacking = self._look(distinct, distinct.drop("start", "end").to_dicts())
        held = [w.start for w in lacking if w.held]
        given = [w.start for w in lacking if not w.held]
        begins = self.clock.ticks(pl.col(self.start)) * (self.clock.tick // 1_000)
        if self.expectation.column is not None:
            batch = batch.with_columns(begins.is_in(given).alias(self.expectation.column))
        return batch.filter(~begins.is_in(held)) if held else batch

    def _look(self, ends: pl.DataFrame, stats: Sequence[Mapping[str, int]]) -> list[Incomplete]:
        """Return those of some windows that lack something."""
        scale = self.clock.tick // 1_000
        places = ends.select(self.clock.ticks(pl.col(n)) * scale for n in ("start", "end"))
        marked = [True] * ends.height if self.marks is None else self.marks.have(ends.select("start", "end"))
        lacking = []
        for (start, end), of, has in zip(places.iter_rows(), stats, marked, strict=True):
            files = bisect_left(self.lows, end) - bisect_left(self.highs, start)
            lacks = self.expectation.lacks(of, files, marked=has)
            if lacks:
                held = self.expectation.fails or not self._is_overdue(start, end)
                since = self.before.get(start, self.closing.now)
                lacking.append(Incomplete(start, end, tuple(lacks), since, held))
        with self._lock:
            self.seen.update(places["start"].to_list())
            self.found.update((w.start, w) for w in lacking)
        return lacking

    def _is_overdue(self, start: int, end: int) -> bool:
        """Whether a window is not waited for any more; it is while a run leaves for later what may belong to it."""
        run = self.closing.run
        if self.closing.work.left or (run.window is not None and not run.window.holds(start, end)):
            return False
        return self.expectation.is_due(end, self.closing.now)

    def incomplete(self) -> tuple[Incomplete, ...]:
        """Return all windows that lack something once all rows have flowed by, also those that have no row; the earliest first."""
        ends = self._rowless()
        if ends is not None:
            self._look(ends, [{}] * ends.height)
        return tuple(self.found[start] for start in sorted(self.found))

    def _rowless(self) -> pl.DataFrame | None:
        """Return the ends of closed windows after the first that have no row; None where it is not known which there are."""
        place = next(i for i, (o, _) in enumerate(self.node.steps) if o is self.closed)
        operation = self.node.steps[place - 1][0] if place else None
        if not isinstance(operation, Window) or not self.seen:
            return None
        kind = windows(self.clock, operation.every[0], period=operation.period, offset=operation.offset)
        scale = self.clock.tick // 1_000
        ticks = pl.DataFrame({"at": [min(self.seen) // scale, self.limit // scale]})
        first, last = ticks.select(kind.begin(kind.slice(self.clock.from_ticks(pl.col("at"))), pl.lit(0)))["at"]
        begin = pl.int_range(first, min(last + 1, first + _MOST * kind.every), kind.every).alias("begin")
        ends = pl.select(begin).select(
            kind.start(pl.col("begin")).alias("start"), kind.end(pl.col("begin")).alias("end")
        )
        closed = self.clock.ticks(pl.col("end")) * scale <= self.limit
        known = (self.clock.ticks(pl.col("start")) * scale).is_in(list(self.seen))
        return ends.filter(closed & ~known)

    def refuse_overdue(self) -> None:
        """Raise RunError for the first window that lacks something after its deadline, where that is to fail."""
        if not self.expectation.fails:
            return
        for window in self.incomplete():
            if self._is_overdue(window.start, window.end):
                step = next(s.step for o, s in self.node.steps if o is self.closed)
                where = self.closing.run.plan.pipeline.origin.locate(step.path)
                deadline = moment(window.end + (self.expectation.deadline or 0))
                what = (
                    f"stage {self.node.name!r}: the window from {moment(window.start)} to {moment(window.end)} is incomplete, and its deadline was"
                    f" {deadline}: {', '.join(window.lacks)}"
                )
                raise RunError(str(Problem(what, where)), fix="deliver the rest, or say on_partial: wait or emit")

    def hold(self, complete: int | None) -> int | None:
        """Return up to where rows are complete: not beyond the first window that is held back."""
        held = [w.start for w in self.incomplete() if w.held]
        return complete if complete is None or not held else min(complete, held[0])
