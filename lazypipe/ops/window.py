"""``window``: one row per window of time and group."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import polars as pl

from lazypipe.in_order import Digit
from lazypipe.ops.aggregate import Aggregate
from lazypipe.ops.base import MADE_FROM, Fold, Operation, Scope, Table
from lazypipe.spec.arguments import COLUMN, COLUMNS, SQLS, TEXT, TEXTS, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.windows import Clock, Windows, windows
from lazypipe.windows.expectation import EXPECT, Expectation, expected, known_values
from lazypipe.windows.late import lateness
from lazypipe.windows.slices import BEGIN, END, NUMBER, START, Shared, Slices, told
from lazypipe.windows.watermark import WATERMARK


@dataclass(frozen=True)
class Window(Operation):
    """Group rows into windows of event time and compute aggregates: one row per window and group that has rows.

    A window includes its start and excludes its end. Hours and shorter units have a fixed length, counted from
    1970-01-01 00:00 in the column's time zone. Days, weeks (from Monday), months, quarters and years follow the
    calendar of that zone: a day may have 23 or 25 hours, and the local date of a row decides where it belongs. Times
    without a zone are taken as they are.

    If ``period`` is longer than ``every``, windows overlap, and a row belongs to several of them. A list in ``every``
    returns the windows of each length, told apart by the column ``window``. ``all`` is one window over all time,
    whose start and end are null.

    The result has the columns of ``by``, ``window`` (if ``every`` is a list), ``window_start`` and ``window_end`` (of
    the type of ``time``), and the aggregates. Rows whose time is null belong to no window. A start or end beyond the
    range of a nanosecond datetime is replaced by the first or last value of that range. The order of the result is
    not guaranteed.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rows = pl.LazyFrame({"day": ["2024-02-28", "2024-02-29", "2024-03-01"], "x": [1, 2, 3]})
    >>> rows = rows.with_columns(pl.col("day").str.to_date())
    >>> step = {"window": {"time": "day", "every": "1mo", "aggregate": {"n": "count(*)", "total": "sum(x)"}}}
    >>> lp.apply(step, rows).drop("window_end").sort("window_start").collect().rows()
    [(datetime.date(2024, 2, 1), 2, 3), (datetime.date(2024, 3, 1), 1, 3)]
    """

    name: ClassVar[str] = "window"
    implied: ClassVar[tuple[str, ...]] = (END,)
    time: str = arg(COLUMN, "The column with the time of each row, a date or datetime.")
    every: tuple[str, ...] = arg(
        TEXTS, "How often a window starts: 15m, 1h, 1d, 1w, 1mo, 1q, 1y, all; or a list of these."
    )
    aggregate: Mapping[str, str | pl.Expr] = arg(SQLS, "New column → SQL aggregate, such as count(*) or avg(x).")
    by: tuple[str, ...] = arg(COLUMNS, "The columns to group by. Default: all rows are one group.", default=())
    period: str | None = arg(TEXT, "The length of a window. Default: that of every.", default=None)
    offset: str | None = arg(TEXT, "How much later windows start, such as 6h.", default=None)
    time_zone: str | None = arg(TEXT, "The time zone in which days start. Default: that of the column.", default=None)
    allowed_lateness: str = arg(
        TEXT, "How long after its end a window still accepts rows, such as 2d; see late.", default="0s"
    )
    late: Literal["update", "quarantine", "drop", "fail"] = arg(
        choice("update", "quarantine", "drop", "fail"),
        "What happens to a row that arrived after the watermark had passed the end of its window plus "
        "allowed_lateness. update: it updates the window; quarantine: it is put into quarantine; drop: it is "
        "dropped and counted; fail: the run stops. All but update need a source with a watermark.",
        default="update",
    )
    watermark: str = arg(
        COLUMN, "The column with the watermark under which each row arrived. Default: _watermark.", default=WATERMARK
    )

    emit: Literal["each_run", "on_close", "counted"] = arg(
        choice("each_run", "on_close"),
        "each_run: every run returns all windows as they stand; on_close: only closed ones, whose end plus "
        "allowed_lateness the watermark of the sources has passed.",
        default="each_run",
    )
    keep_results: str | None = arg(
        TEXT,
        "How long results are kept after the watermark has passed the window's end plus allowed_lateness, "
        "such as 30d. Default: forever.",
        default=None,
    )
    expect: Mapping[str, Any] | None = arg(
        EXPECT, "What must have arrived before a window counts as complete; needs emit: on_close.", default=None
    )
    on_partial: Literal["wait", "emit", "fail"] | None = arg(
        choice("wait", "emit", "fail"),
        "What happens to a closed window that is incomplete. wait: it is held back until it is complete; "
        "emit: it is emitted at the deadline, complete or not; fail: it is held back, and the run fails "
        "after the deadline. Default: wait.",
        default=None,
    )
    deadline: str | None = arg(
        TEXT, "How long after its end, by the run's clock, a window may stay incomplete, such as 6h.", default=None
    )
    partial: str | None = arg(
        COLUMN,
        "With on_partial: emit, the name of a boolean column to add, true where the row's window is incomplete.",
        default=None,
    )

    def __post_init__(self) -> None:
        """Check what needs no columns."""
        for index, every in enumerate(self.every):
            if every in self.every[:index]:
                raise Fault(f"{every} is listed twice in every", "remove one of them", ("every", index))
        if len(self.every) > 1 and self.period is not None:
            what = "overlapping windows cannot have several lengths in one stage"
            raise Fault(what, "give one every with a period, or several without", ("period",))
        lateness(self.allowed_lateness)
        refuse_unseen(self.keep_results, self.emit)
        if self.expectation is not None:
            if self.emit == "each_run":
                what = "expect holds back incomplete windows, and emit: each_run publishes all windows"
                raise Fault(what, "add emit: on_close", ("expect",))
            if len(self.every) > 1 or self.every[0] == "all":
                what = "expect needs windows of one length"
                raise Fault(what, "give one duration as every", ("every",))

    @cached_property
    def expectation(self) -> Expectation | None:
        """What is expected of windows; None if nothing is."""
        return expected(self.expect, self.on_partial, self.deadline, self.partial)

    @cached_property
    def _aggregates(self) -> Mapping[str, str | pl.Expr]:
        """The aggregates, and what is counted to know whether windows are whole."""
        if self.emit != "counted" or self.expectation is None:
            return self.aggregate
        return {**self.aggregate, **self.expectation.counts()}

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``group_by``; where windows share rows, of slices of time whose figures add up, else of rows once per window."""
        slices = self._windows(table, scope)
        fold = self.fold(Table(table.frame, table.schema), scope) if slices.shared else None
        if fold is not None:
            return fold.merge(fold.partial)
        rows, groups = self._in_windows(table, slices)
        digits = {BEGIN: Digit(*slices.parts[0].number(pl.col(BEGIN)))}
        if len(slices.parts) > 1:
            digits = {NUMBER: Digit(pl.col(NUMBER), 0, len(slices.parts))}
        return self._named(groups.lowered(rows, scope, digits=digits), slices)

    def multiplies(self) -> bool:
        """Yes: a row may be in several windows."""
        return True

    def large(self, large: frozenset[str]) -> bool:
        """It is not known how many windows there are."""
        return False

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of those that lie in its window."""
        slices = self._windows(table, scope)
        rows, groups = self._in_windows(table, slices)
        carried = groups.carry(rows, scope)
        return None if carried is None else self._named(carried, slices, MADE_FROM)

    def fold(self, table: Table, scope: Scope) -> Fold | None:
        """Aggregate each slice of time in each part, then the slices of each window; where every aggregate adds up."""
        slices = self._windows(table, scope)
        each = Aggregate(self._aggregates, (*self.by, *slices.columns))
        fold = each.fold(self._sliced(table, slices), scope, (*self.by, *slices.places))
        if fold is None:
            return None
        merge, partial = fold.merge, fold.partial

        def made(rows: pl.LazyFrame) -> pl.LazyFrame:
            return self._named(merge(rows), slices)

        by, spread = tuple(dict.fromkeys(self.by)), None
        if not _is_nanoseconds(table.schema[self.time]):
            # the start of a window identifies it, in partial aggregates as in windows
            by = (*by, *self._told)
            if slices.shared:
                spread = Shared(slices, made)
            else:
                begin, (part,) = pl.col(slices.columns[0]), slices.parts
                partial = partial.with_columns(part.start(begin).alias(START), part.end(begin).alias(END))
        reads = None if fold.reads is None else (fold.reads | {self.time}) - {*slices.columns}
        return Fold(partial, lambda rows: made(slices.spread(rows)), by, spread, reads)

    def placed(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Return each row that has a time once per window that it lies in, and in further columns which that is."""
        slices = self._windows(table, scope)
        rows, _ = self._in_windows(table, slices)
        made = {_placed(name): expr for name, expr in slices.ends().items()}
        frame = rows.frame.with_columns(expr.alias(name) for name, expr in made.items())
        return frame.select(*table.schema, *made, *table.extra)

    def grouped(self, placed: Table, scope: Scope, *, carry: bool = False) -> pl.LazyFrame | None:
        """Return the windows of rows that have been assigned to windows; with ``carry``, also what each was made of, or None if that is unknown."""
        groups = Aggregate(self._aggregates, (*self.by, *map(_placed, self._told)))
        frame = groups.carry(placed, scope) if carry else groups.lowered(placed, scope, **self._known(placed.schema))
        if frame is None:
            return None
        columns = (*self.by, *self._told, *self._aggregates, *([MADE_FROM] if carry else ()))
        return frame.rename({_placed(name): name for name in self._told}).select(*dict.fromkeys(columns))

    def groups(self) -> dict[str, str]:
        """Return the columns that identify a window: their names before rows are grouped → their names in windows."""
        return {**{c: c for c in self.by}, **{_placed(name): name for name in self._told}}

    def _known(self, schema: pl.Schema) -> dict[str, Any]:
        """Return what is known about the grouping columns of rows that have been assigned to windows."""
        parts = self._parts(schema)
        clock = parts[0].line.clock
        # where a zone's clock skips a day, windows that overlap may begin at one moment and end at two
        begins = len(parts) == 1 and parts[0].overlap > 1 and not clock.is_even
        deciding = tuple(_placed(name) for name in self._told if name != END or begins)
        digits = {}
        if len(parts) == 1 and parts[0].line.kind == "ticks":
            start = _placed(START)
            digits[start] = Digit(*parts[0].number(clock.ticks(pl.col(start))))
        return {"deciding": (*self.by, *deciding), "digits": digits}

    @property
    def _told(self) -> tuple[str, ...]:
        """The columns that say which window it is."""
        return told(self.every)

    def _windows(self, table: Table, scope: Scope) -> Slices:
        """Check all arguments, and return the windows of each ``every``."""
        refuse_outside(self.late, self.emit, scope, self.keep_results)
        Aggregate(self.aggregate, self.by).check(table, scope)
        made = self._told
        refuse_taken("windows", made, self.by, self.aggregate, scope)
        if self.partial is not None and (
            self.partial in self.by or self.partial in made or self.partial in self.aggregate
        ):
            raise scope.fault(f"windows have a column {self.partial!r} already", "choose another name", "partial")
        try:
            if self.expectation is not None:
                known_values(self.expectation, table.schema, self.by)
            return Slices(self.every, self._parts(table.schema))
        except Fault as fault:
            argument, *rest = fault.path
            raise scope.fault(fault.what, fault.fix, str(argument), *rest) from None

    def _parts(self, schema: pl.Schema) -> tuple[Windows, ...]:
        """Return the windows of each ``every``; raises Fault."""
        clock = Clock.of(self.time, schema, self.time_zone)
        places = [()] if len(self.every) == 1 else [(index,) for index in range(len(self.every))]
        found: dict[Windows, str] = {}
        for every, place in zip(self.every, places, strict=True):
            made = windows(clock, every, *place, period=self.period, offset=self.offset)
            if made in found:
                what = f"windows of {every} are the same as those of {found[made]}"
                raise Fault(what, "remove one of them", ("every", *place))
            found[made] = every
        return (*found,)

    def _sliced(self, table: Table, slices: Slices) -> Table:
        """Return the rows that have a time, each with the slice that it lies in, of each kind of windows."""
        schema = pl.Schema({**table.schema, **dict.fromkeys(slices.columns, pl.Int64())})
        return Table(slices.cut(table.frame, self.time), schema, table.extra)

    def _in_windows(self, table: Table, slices: Slices) -> tuple[Table, Aggregate]:
        """Return each row once per window that it lies in, and the aggregation of those."""
        sliced, keys = self._sliced(table, slices), slices.places
        schema = pl.Schema({**sliced.schema, **dict.fromkeys(keys, pl.Int64())})
        return Table(slices.spread(sliced.frame), schema), Aggregate(self._aggregates, (*self.by, *keys))

    def _named(self, frame: pl.LazyFrame, slices: Slices, *more: str) -> pl.LazyFrame:
        """Return the columns as they are promised, over rows that say where their window begins."""
        made = slices.ends()
        frame = frame.with_columns(expr.alias(name) for name, expr in made.items())
        return frame.select(*dict.fromkeys(self.by), *made, *self._aggregates, *more)


def refuse_unseen(keep_results: str | None, emit: str) -> None:
    """Raise Fault for a length of time that is none, or by which no result would ever be seen."""
    if keep_results is not None and lateness(keep_results, "keep_results") == 0 and emit == "on_close":
        what = "results that appear when windows close, and are removed at that moment, would never be there"
        raise Fault(what, "write how long to keep them, such as 30d", ("keep_results",))


def refuse_outside(late: str, emit: str, scope: Scope, keep_results: str | None = None) -> None:
    """Raise Fault for what a pipeline makes stages and steps of before windows are lowered."""
    if late != "update":
        what = "late rows can be quarantined or dropped only in a pipeline, and this is not one"
        raise scope.fault(what, "write late: update, and check the rule late", "late")
    if emit == "on_close":
        raise scope.fault("windows close only in a pipeline, and this is not one", "remove emit", "emit")
    if keep_results is not None:
        what = "keep_results works only in a pipeline, and this is not one"
        raise scope.fault(what, "remove keep_results", "keep_results")


def refuse_taken(kind: str, made: Collection[str], by: Iterable[str], aggregate: Iterable[str], scope: Scope) -> None:
    """Raise Fault where windows, or what else is of a ``kind``, make a column that is a group's or an aggregate's."""
    for index, name in enumerate(by):
        if name in made:
            raise scope.fault(f"{kind} have a column {name!r} of their own", "rename it first", "by", index)
    for name in aggregate:
        if name in made:
            what = f"{kind} have a column {name!r} of their own"
            raise scope.fault(what, "give the aggregate another name", "aggregate", name)


def _is_nanoseconds(dtype: pl.DataType) -> bool:
    """Whether two windows may begin at the same time, because it is the last that the type reaches."""
    return isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns"


def _placed(name: str) -> str:
    """Return what a column of windows is called in rows that are placed: these may have one of its name."""
    return f"__lazypipe_{name}"
