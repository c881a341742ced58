"""``closed``: only windows that the watermark has passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import COLUMN, TEXTS, arg
from lazypipe.spec.model import Fault
from lazypipe.windows import Clock
from lazypipe.windows.late import lateness


@dataclass(frozen=True)
class Closed(Operation):
    """Keep rows whose ``end``, and ``after`` that, have been reached by the watermark of the sources that they are made of.

    The watermark is the least of those of all sources and partitions which are waited for, as the run finds it; it never goes
    back. A row without an end is not closed. Outside a run, as in ``lp.apply``, all rows with an end are.

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
    after: tuple[str, ...] = arg(TEXTS, "How long after the end, such as 2h; several are added up.", default=())

    def __post_init__(self) -> None:
        """Check the lengths of time."""
        self.wait  # noqa: B018  # it raises

    @property
    def wait(self) -> int:
        """How long after the end a window closes, in microseconds."""
        return sum(lateness(text, "after") for text in self.after)

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to a filter."""
        try:
            clock = Clock.of(self.end, table.schema, argument="end")
        except Fault as fault:
            raise scope.fault(fault.what, fault.fix, "end") from None
        ends = clock.ticks(pl.col(self.end))
        return table.frame.filter(ends <= (scope.horizon - self.wait) // (clock.tick // 1_000))

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of itself."""
        return self.lower(table, scope)
