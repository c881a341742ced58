"""Slices: the pieces of time that windows are made of, which rows and partial aggregates are assigned to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from lazypipe.spec.taps import label
from lazypipe.windows.figures import Figures
from lazypipe.windows.window import Windows

__all__ = ["BEGIN", "END", "NUMBER", "START", "WINDOW", "Shared", "Slices", "told"]

WINDOW, START, END = "window", "window_start", "window_end"
NUMBER, BEGIN = "__lazypipe_number", "__lazypipe_begin"
"""Of which kind a window is, or how many begin after it; and where it begins."""


@dataclass(frozen=True)
class Slices:
    """The windows of some ``kinds``, which share slices of time.

    Examples
    --------
    >>> from datetime import date
    >>> from lazypipe.windows import Clock, windows
    >>> weeks = Slices(("1w",), (windows(Clock(pl.Date()), "1w", period="2w"),))
    >>> rows = weeks.cut(pl.LazyFrame({"t": [date(2024, 1, 3)]}), "t")
    >>> weeks.windows(rows, ()).sort("window_start").collect()["window_start"].to_list()
    [datetime.date(2023, 12, 25), datetime.date(2024, 1, 1)]
    """

    kinds: tuple[str, ...]
    parts: tuple[Windows, ...]

    @property
    def shared(self) -> bool:
        """Whether a row lies in several windows."""
        return len(self.parts) > 1 or self.parts[0].overlap > 1

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that say in which slice a row lies, of each kind of windows."""
        return tuple(f"__lazypipe_slice_{number}" for number in range(len(self.parts)))

    @property
    def places(self) -> tuple[str, ...]:
        """The columns that say in which window a row is."""
        return (NUMBER, BEGIN) if len(self.parts) > 1 else (BEGIN,)

    def cut(self, frame: pl.LazyFrame, time: str) -> pl.LazyFrame:
        """Return the rows that have a time, each with the slices that it lies in."""
        at = pl.col(time)
        frame = frame.filter(at.is_not_null())
        return frame.with_columns(p.slice(at).alias(n) for p, n in zip(self.parts, self.columns, strict=True))

    def spread(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return rows that have their slices, repeated for each window with its start, and its kind if there are several."""
        slices = [pl.col(name) for name in self.columns]
        if len(self.parts) > 1:
            return _repeated(frame, len(self.parts)).with_columns(_by_number(slices).alias(BEGIN))
        part, (slice_,) = self.parts[0], slices
        if part.overlap == 1:
            return frame.with_columns(slice_.alias(BEGIN))
        frame = _repeated(frame, part.overlap).with_columns(part.begin(slice_, pl.col(NUMBER)).alias(BEGIN))
        return frame.filter(part.holds(slice_, pl.col(BEGIN))) if part.period % part.every else frame

    def ends(self) -> dict[str, pl.Expr]:
        """Return the columns that say which window it is, over rows that say where it begins."""
        begin, parts = pl.col(BEGIN), self.parts
        if len(parts) == 1:
            return {START: parts[0].start(begin), END: parts[0].end(begin)}
        # what one kind of windows makes of the places of another may be no time at all
        begins = [pl.when(pl.col(NUMBER) == number).then(begin) for number in range(len(parts))]
        pairs = list(zip(parts, begins, strict=True))
        return {
            WINDOW: _by_number([pl.lit(every) for every in self.kinds]),
            START: _by_number([part.start(begin) for part, begin in pairs]),
            END: _by_number([part.end(begin) for part, begin in pairs]),
        }

    def windows(self, frame: pl.LazyFrame, by: Sequence[str]) -> pl.LazyFrame:
        """Return the windows that the slices of some rows lie in, each once, with their groups ``by`` columns."""
        found = []
        for number, (part, column) in enumerate(zip(self.parts, self.columns, strict=True)):
            slices, slice_ = frame.select(*by, column).unique(), pl.col(column)
            if part.overlap == 1:
                begins = slices.with_columns(slice_.alias(BEGIN))
            else:
                stop = part.begin(slice_, pl.lit(0)) + part.every
                begins = _ranges(slices, by, column, part.first(slice_), stop, part.every)
            found.append(begins.select(*by, pl.lit(number, dtype=pl.Int64).alias(NUMBER), BEGIN))
        return pl.concat(found).with_columns(expr.alias(name) for name, expr in self.ends().items())

    def within(self, windows: pl.DataFrame) -> list[tuple[pl.DataFrame, Callable[[pl.LazyFrame], pl.LazyFrame]]]:
        """Return the slices of some windows, kind by kind, and what puts rows with these into windows of that kind.

        Windows have the columns that say which they are, and those of their groups, or some of both. There may be more slices, and more
        windows of these, than need be: where no start is told, or two windows begin at one moment, as a zone's clock skips a day.
        """
        by = [c for c in windows.columns if c not in (WINDOW, START, END)]
        found = []
        for number, (part, column) in enumerate(zip(self.parts, self.columns, strict=True)):
            of = windows.filter(pl.col(WINDOW) == self.kinds[number]) if WINDOW in windows.columns else windows
            if START not in windows.columns or part.line.kind == "all":
                slices = of.select(by).unique()
            else:
                begins = of.select(*by, part.slice(pl.col(START)).alias(column)).unique().lazy()
                begin = pl.col(column)
                held = _ranges(begins, by, column, begin, begin + part.period, part.step)
                slices = held.select(*by, pl.col(BEGIN).alias(column)).collect()
            if of.height or not number:
                found.append((slices, self._of_kind(number)))
        return found

    def _of_kind(self, number: int) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
        """Return a function that puts rows of slices into the windows of one kind."""

        def put(rows: pl.LazyFrame) -> pl.LazyFrame:
            if len(self.parts) == 1:
                rows = self.spread(rows)
            else:
                kind = pl.lit(number, dtype=pl.Int64).alias(NUMBER)
                rows = rows.with_columns(kind, pl.col(self.columns[number]).alias(BEGIN))
            return rows.with_columns(expr.alias(name) for name, expr in self.ends().items())

        return put


@dataclass(frozen=True)
class Shared:
    """Figures of slices, as those of the windows that share them: ``merge`` makes rows of figures that are put into windows."""

    slices: Slices
    merge: Callable[[pl.LazyFrame], pl.LazyFrame]

    @property
    def places(self) -> tuple[str, ...]:
        """The columns of figures that say in which slices they lie."""
        return self.slices.columns

    def touched(
        self,
        figures: Figures,
        by: Sequence[str],
        looked_up: Sequence[pl.LazyFrame],
        held: tuple[pl.Expr, pl.Expr] | None,
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the windows of slices that came or left, and those that are due."""
        here = [n for n in by if n in figures.came.collect_schema()]
        found = [self.slices.windows(of, here) for of in (figures.came, figures.left)]
        found = [of.select(by) for of in (*found, *looked_up)]
        if held is not None:
            was, now = held
            found = [of.filter(was | now) for of in found]
            # computed first for all distinct times, without the other grouping columns
            deciding = [n for n in here if n in {*was.meta.root_names(), *now.meta.root_names()}]
            due = self.slices.windows(pl.concat([figures.came, figures.stayed]), deciding).filter(was != now)
            ends = due.collect(engine="streaming")
            found.append(self._in_windows(figures, ends.select(c for c in by if c in ends.columns)).select(by))
        touched = pl.concat(found).unique().collect(engine="streaming")
        return touched, touched

    def rows(self, figures: Figures, touched: pl.DataFrame) -> pl.LazyFrame:
        """Return the rows of some windows."""
        return self.merge(self._in_windows(figures, touched))

    def _in_windows(self, figures: Figures, windows: pl.DataFrame) -> pl.LazyFrame:
        """Return the figures of some windows: each figure once per window that it counts in."""
        rows = pl.concat([put(figures.of(places)) for places, put in self.slices.within(windows)])
        return rows.join(label(windows.lazy(), "touched groups"), on=windows.columns, how="semi", nulls_equal=True)


def told(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that tell windows apart: of several kinds, the kind too."""
    return (START, END) if len(kinds) == 1 else (WINDOW, START, END)


def _repeated(frame: pl.LazyFrame, times: int) -> pl.LazyFrame:
    numbers = pl.lit(list(range(times)), dtype=pl.List(pl.Int64))
    return frame.with_columns(numbers.alias(NUMBER)).explode(NUMBER, empty_as_null=False, keep_nulls=False)


def _by_number(exprs: Sequence[pl.Expr]) -> pl.Expr:
    """Return the expression of each row's kind of windows."""
    *others, chosen = exprs
    for number, expr in reversed(list(enumerate(others))):
        chosen = pl.when(pl.col(NUMBER) == number).then(expr).otherwise(chosen)
    return chosen


def _ranges(
    rows: pl.LazyFrame, by: Sequence[str], order: str, start: pl.Expr, stop: pl.Expr, step: int
) -> pl.LazyFrame:
    """Return the places from ``start`` up to ``stop`` of the rows of a group, each once; both rise with ``order``."""
    same = pl.all_horizontal(pl.lit(value=True), *(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in by))
    fresh = pl.max_horizontal(start, pl.when(same).then(stop.shift(1)))
    places = pl.int_ranges(fresh, stop, step, dtype=pl.Int64).alias(BEGIN)
    return rows.sort(*by, order).with_columns(places).explode(BEGIN, empty_as_null=False, keep_nulls=False)
