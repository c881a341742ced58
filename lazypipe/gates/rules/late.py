"""The rule ``late``: a row must arrive before its window has closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.errors import nearest
from lazypipe.gates.rule import Check, Rule
from lazypipe.spec.arguments import COLUMN, TEXT, TEXTS, arg
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name
from lazypipe.windows import Clock, Windows, windows
from lazypipe.windows.late import Closing, lateness
from lazypipe.windows.watermark import WATERMARK


@dataclass(frozen=True)
class Late(Rule):
    """A row must arrive before its window closes: before the watermark passes the window's end plus the allowed lateness.

    If a row belongs to several windows, the one that ends last counts. A row without a time or without a watermark is
    not late.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> from datetime import datetime
    >>> frame = pl.DataFrame({"t": [datetime(2024, 1, 1, h) for h in (1, 8)], "_watermark": [datetime(2024, 1, 1, 9, 30)] * 2})
    >>> lp.check(frame, [{"late": {"time": "t", "every": "1h", "allowed_lateness": "30m"}}]).failed
    {'late:t': 2}
    >>> lp.check(frame, [{"late": {"time": "t", "every": "1h", "allowed_lateness": "2h"}}]).failed
    {'late:t': 1}
    """

    name: ClassVar[str] = "late"
    time: str = arg(COLUMN, "The column with the time of each row.")
    every: tuple[str, ...] = arg(
        TEXTS, "How often a window starts, as in the operation window; one duration or several.", default=()
    )
    period: str | None = arg(TEXT, "The length of a window. Default: that of every.", default=None)
    offset: str | None = arg(TEXT, "How much later windows start.", default=None)
    time_zone: str | None = arg(TEXT, "The time zone in which days start. Default: that of the column.", default=None)
    gap: str | None = arg(TEXT, "Instead of every: how long a session stays open after a row.", default=None)
    allowed_lateness: str = arg(TEXT, "How long after its end a window still accepts rows.", default="0s")
    watermark: str = arg(COLUMN, "The column with the watermark under which each row arrived.", default=WATERMARK)

    def __post_init__(self) -> None:
        """Check that there are windows of one kind, and that the lateness is a length of time."""
        super().__post_init__()
        if bool(self.every) == (self.gap is not None):
            raise Fault("late needs every or gap, and not both", "write every: 1h, or gap: 30m", ("every",))
        lateness(self.allowed_lateness)

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: the window has closed."""
        try:
            closing = self.closing(schema)
        except Fault as fault:
            argument, *rest = fault.path
            raise scope.fault(fault.what, fault.fix, str(argument), *rest) from None
        return [self.check(self.time, schema, scope, violated=closing.late)]

    def closing(self, schema: pl.Schema) -> Closing:
        """Return when windows of rows close; raises Fault at an argument that does not fit the columns."""
        clock = Clock.of(self.time, schema, self.time_zone)
        if self.watermark not in schema:
            what = f"there is no column {self.watermark!r}, with the watermark that each row came under"
            fix = f"give the source a watermark by files or by a column (a marker or commit gives its rows none), and let {self.watermark!r} through"
            fix += f"; {nearest(self.watermark, schema, 'columns')}"
            raise Fault(what, fix, ("watermark",))
        under = Clock.of(self.watermark, schema, argument="watermark")
        if (clock.zone is None) != (under.zone is None):
            what = (
                f"{self.watermark!r} is {dtype_name(under.dtype)}, and {self.time!r} is {dtype_name(schema[self.time])}"
            )
            raise Fault(what, "both need a time zone, or neither", ("watermark",))
        parts: tuple[Windows, ...] = ()
        if self.gap is None:
            places = [()] if len(self.every) == 1 else [(index,) for index in range(len(self.every))]
            parts = tuple(
                windows(clock, every, *place, period=self.period, offset=self.offset)
                for every, place in zip(self.every, places, strict=True)
            )
        gap = None if self.gap is None else lateness(self.gap, "gap")
        return Closing(self.time, clock, parts, gap, lateness(self.allowed_lateness), self.watermark, under)
