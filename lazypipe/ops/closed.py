"""``closed``: only windows that the watermark has passed, and that are complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import COLUMN, FLAG, TEXT, TEXTS, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import FAR
from lazypipe.windows import Clock
from lazypipe.windows.expectation import EXPECT, ROWS, STATS, Expectation, expected, known_values
from lazypipe.windows.late import lateness


@dataclass(frozen=True)
class Closed(Operation):
    """Keep only closed rows: those whose ``end`` plus ``after`` the watermark of their sources has reached.

    The watermark is the lowest one of all sources and partitions that are waited for, as the run finds it. It never
    moves back. A row whose end is null is never closed. Outside a run, as in ``lp.apply``, every row that has an end
    is closed.

    With ``keep``, a row is removed again once the watermark is that much further. With ``open``, rows that are not
    closed yet are kept too.

    With ``expect``, rows of incomplete windows are held back as ``on_partial`` says. Rows with the same ``start`` and
    ``end`` belong to one window. Outside a run, every window is complete.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> days = pl.LazyFrame({"day": [19724, None]}, schema={"day": pl.Int32}).cast(pl.Date)
    >>> step = {"closed": {"end": "day", "after": "2h"}}
    >>> lp.apply(step, days).collect().rows()
    [(datetime.date(2024, 1, 2),)]
    """

    name: ClassVar[str] = "closed"
    shorthand: ClassVar[str] = "end"
    end: str = arg(COLUMN, "The column with the end of each row's window.")
    after: tuple[str, ...] = arg(
        TEXTS, "How long after the end a row closes, such as 2h; several durations are added up.", default=()
    )
    keep: str | None = arg(
        TEXT,
        "How long rows stay after they close, measured by the watermark, such as 30d. Default: forever.",
        default=None,
    )
    open: bool = arg(FLAG, "Whether to keep rows that are not closed yet.", default=False)
    start: str | None = arg(
        COLUMN, "The column with the start of each row's window; required with expect.", default=None
    )
    expect: Mapping[str, Any] | None = arg(
        EXPECT, "What must have arrived before a window counts as complete.", default=None
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
        """Check the lengths of time, and what goes together."""
        self._after  # noqa: B018  # it raises
        if self.keep is not None:
            lateness(self.keep, "keep")
        if self.expectation is not None and self.start is None:
            raise Fault("expect needs the start of each window", "add start: column", ("expect",))

    @property
    def _after(self) -> int:
        return sum(lateness(text, "after") for text in self.after)

    @property
    def wait(self) -> int:
        """How long after the end a row comes, in microseconds."""
        return 0 if self.open else self._after

    @cached_property
    def expectation(self) -> Expectation | None:
        """What is expected of windows; None if nothing is."""
        return expected(self.expect, self.on_partial, self.deadline, self.partial)

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to a filter; what is expected of windows is counted over them, and judged by the run."""
        clock = self._clock(self.end, table, scope, "end")
        frame = table.frame.filter(self.holds(pl.col(self.end), clock, scope.horizon))
        found = self.expectation
        if found is None or self.start is None:
            return frame
        self._clock(self.start, table, scope, "start")
        hidden = found.counts() if ROWS in table.schema else ()
        if found.column is not None and found.column in table.schema:
            raise scope.fault(f"there is a column {found.column!r} already", "choose another name", "partial")
        if not hidden:
            try:
                known_values(found, table.schema, None)
            except Fault as fault:
                raise scope.fault(fault.what, fault.fix, str(fault.path[0]), *fault.path[1:]) from None
        frame = frame.with_columns(found.found(table.schema).over(self.start, self.end).alias(STATS))
        if found.column is not None:
            frame = frame.with_columns(pl.lit(value=False).alias(found.column))
        frame = frame if scope.whole is None else scope.whole(frame)
        return frame.drop(*hidden, STATS)

    def holds(self, end: pl.Expr, clock: Clock, horizon: int) -> pl.Expr:
        """Return whether rows with an end are there once event time has reached a moment, in microseconds."""
        ends, unit, at = clock.ticks(end), clock.tick // 1_000, horizon - self._after
        there = end.is_not_null() if self.open else ends <= at // unit
        if self.keep is not None and horizon < FAR:  # outside a run nothing leaves
            there &= ends > (at - lateness(self.keep, "keep")) // unit
        return there

    def apart(self, table: Table, scope: Scope) -> Mapping[str, str]:
        """Nothing keeps rows apart: windows that no new row touches close, too, and its plan shows none of that."""
        return {}

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of itself."""
        return self.lower(table, scope)

    def _clock(self, column: str, table: Table, scope: Scope, argument: str) -> Clock:
        try:
            return Clock.of(column, table.schema, argument=argument)
        except Fault as fault:
            raise scope.fault(fault.what, fault.fix, argument) from None
