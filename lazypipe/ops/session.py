"""``session``: one row per run of rows with no long gap between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from lazypipe.ops.aggregate import Aggregate, figure
from lazypipe.ops.base import MADE_FROM, Fold, Operation, Scope, Table
from lazypipe.ops.window import refuse_outside, refuse_taken, refuse_unseen
from lazypipe.spec.arguments import COLUMN, COLUMNS, SQLS, TEXT, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.sql.text import quoted
from lazypipe.windows import PIECE, SESSION, Clock, Sessions, elapsed
from lazypipe.windows.chains import Chains
from lazypipe.windows.late import lateness
from lazypipe.windows.watermark import WATERMARK

START, END = "session_start", "session_end"
_NO_EXPECTATION = (
    "which sessions there should be cannot be told: they are made by their rows, and without rows there is none",
    "ask of each session in the stage's gate, such as between: {column: n, min: 2, action: quarantine}; or of periods, in a stage with window over session_end, which has expect",
)


@dataclass(frozen=True)
class Session(Operation):
    """Group rows into sessions, which end after a gap in time, and compute aggregates: one row per session and group.

    A row more than ``gap`` after the previous row of its group starts a new session; a row exactly ``gap`` after it
    does not. A session of ``max_length`` or longer is split at each multiple of ``max_length`` from its first row: a
    row exactly at a split belongs to the next piece, and pieces without rows are omitted. A day is 24 hours here.

    The result has the columns of ``by``, ``session_start`` and ``session_end`` (the times of the session's first and
    last row, both inclusive), and the aggregates. Null is a group of its own. Rows whose time is null belong to no
    session. Rows are sorted by group and time in memory; the order of the result is not guaranteed.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rows = pl.LazyFrame({"user": ["a", "a", "a"], "day": ["2024-02-28", "2024-02-29", "2024-03-04"]})
    >>> rows = rows.with_columns(pl.col("day").str.to_date())
    >>> step = {"session": {"time": "day", "gap": "1d", "by": "user", "aggregate": {"n": "count(*)"}}}
    >>> lp.apply(step, rows).drop("session_end").sort("session_start").collect().rows()
    [('a', datetime.date(2024, 2, 28), 2), ('a', datetime.date(2024, 3, 4), 1)]
    """

    name: ClassVar[str] = "session"
    absent: ClassVar[Mapping[str, tuple[str, str]]] = dict.fromkeys(
        ("expect", "on_partial", "deadline", "partial"), _NO_EXPECTATION
    )
    implied: ClassVar[tuple[str, ...]] = (END,)
    joint: ClassVar[tuple[str, ...]] = (START, END)
    time: str = arg(COLUMN, "The column with the time of each row, a date or datetime.")
    gap: str = arg(TEXT, "The longest time between two consecutive rows of a session: 30s, 15m, 2h, 1d.")
    aggregate: Mapping[str, str | pl.Expr] = arg(SQLS, "New column → SQL aggregate, such as count(*) or avg(x).")
    by: tuple[str, ...] = arg(COLUMNS, "The columns to group by. Default: all rows are one group.", default=())
    max_length: str | None = arg(TEXT, "The length at which a session is split. Default: no limit.", default=None)
    allowed_lateness: str = arg(TEXT, "How long after the gap a session still accepts rows; see late.", default="0s")
    late: Literal["update", "quarantine", "drop", "fail"] = arg(
        choice("update", "quarantine", "drop", "fail"),
        "What happens to a row that arrived after the watermark had passed its time plus gap and "
        "allowed_lateness, as if it were a session alone. update: it updates its session; quarantine: it is "
        "put into quarantine; drop: it is dropped and counted; fail: the run stops. All but update need a "
        "source with a watermark.",
        default="update",
    )
    watermark: str = arg(
        COLUMN, "The column with the watermark under which each row arrived. Default: _watermark.", default=WATERMARK
    )
    emit: Literal["each_run", "on_close"] = arg(
        choice("each_run", "on_close"),
        "each_run: every run returns all sessions as they stand; on_close: only closed ones, whose last row "
        "plus gap and allowed_lateness the watermark of the sources has passed.",
        default="each_run",
    )
    keep_results: str | None = arg(
        TEXT,
        "How long results are kept after the watermark has passed the last row plus gap and allowed_lateness, "
        "such as 30d. Default: forever.",
        default=None,
    )

    def __post_init__(self) -> None:
        """Check what needs no columns."""
        lateness(self.allowed_lateness)
        refuse_unseen(self.keep_results, self.emit)

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to a sort, a comparison with the row before, and ``group_by``."""
        rows = self._told_apart(table, scope)
        # numbers of sessions rise from row to row, and those of their pieces within them
        return self._named(self._groups().lowered(rows, scope, deciding=(SESSION, PIECE), in_order=True))

    def large(self, large: frozenset[str]) -> bool:
        """It is not known how many sessions there are."""
        return False

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of those of its session: where it begins is a matter of the rows ahead too, but not of its values."""
        rows = self._told_apart(table, scope)
        carried = self._groups().carry(rows, scope)
        return None if carried is None else self._named(carried, MADE_FROM)

    def fold(self, table: Table, scope: Scope) -> Fold | None:
        """Make sessions of each part, then put together those that touch; not where they are cut, or aggregates do not add up."""
        rows = self._told_apart(table, scope, table.extra)
        fold = None if self.max_length is not None else self._groups().fold(rows, scope)
        if fold is None:
            return None
        merge, sessions, by = fold.merge, self._sessions(table, scope), self._by()
        first, last = (figure(place) for place in range(2))

        def made(parts: pl.LazyFrame) -> pl.LazyFrame:
            return self._named(merge(parts))

        chains = Chains(sessions, by, first, last, START, END, made)
        return Fold(
            fold.partial, lambda of: made(sessions.put_together(of, by, first, last)), (*by, START, END), chains
        )

    def apart(self, table: Table, scope: Scope) -> Mapping[str, str] | None:
        """Rows of other groups are in other sessions."""
        return {c: c for c in self._by()}

    def _sessions(self, table: Table, scope: Scope) -> Sessions:
        """Check all arguments, and return how sessions are computed."""
        refuse_outside(self.late, self.emit, scope, self.keep_results)
        Aggregate(self.aggregate, self.by).check(table, scope)
        refuse_taken("sessions", (START, END), self.by, self.aggregate, scope)
        try:
            clock = Clock.of(self.time, table.schema)
            gap = self._length("gap", self.gap, clock)
            longest = None if self.max_length is None else self._length("max_length", self.max_length, clock)
            return Sessions(clock, gap, longest)
        except Fault as fault:
            argument, *rest = fault.path
            raise scope.fault(fault.what, fault.fix, str(argument), *rest) from None

    def _length(self, argument: str, text: str, clock: Clock) -> int:
        ticks = elapsed(text, clock, argument)
        if ticks <= 0:
            raise Fault(f"{text} is not a duration", "write one above zero, such as 30m", (argument,))
        return ticks

    def _by(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.by))

    def _told_apart(self, table: Table, scope: Scope, parts: tuple[str, ...] = ()) -> Table:
        sessions = self._sessions(table, scope)
        rows = table.frame.filter(pl.col(self.time).is_not_null())
        told = sessions.told_apart(rows, [*self._by(), *parts], self.time)
        return Table(told, pl.Schema({**table.schema, SESSION: pl.Int64(), PIECE: pl.Int64()}), table.extra)

    def _groups(self) -> Aggregate:
        time = quoted(self.time)
        ends = {START: f"min({time})", END: f"max({time})"}
        return Aggregate({**ends, **self.aggregate}, (*self._by(), SESSION, PIECE))

    def _named(self, frame: pl.LazyFrame, *more: str) -> pl.LazyFrame:
        return frame.select(*self._by(), START, END, *self.aggregate, *more)
