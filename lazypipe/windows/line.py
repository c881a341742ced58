"""Time as whole numbers in which windows are counted: ticks, days of a wall clock, months."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from lazypipe.windows.clock import Clock

__all__ = ["Line"]

EPOCH_MONTH = 1970 * 12


@dataclass(frozen=True)
class Line:
    """Times of a clock as whole numbers, and back.

    ``ticks`` are as long as each other, days of 24 hours among them. ``days`` and ``months`` are those of the wall clock in a
    zone, and begin ``shift`` ns after midnight. ``all`` has one place for all times.
    """

    clock: Clock
    kind: Literal["ticks", "days", "months", "all"]
    shift: int = 0

    def places(self, time: pl.Expr) -> pl.Expr:
        """Return where times lie: ``Int64``; null stays null."""
        match self.kind:
            case "ticks":
                return self.clock.ticks(time)
            case "days":
                return self.clock.days(time, self.shift)
            case "months":
                # the day in the column's own calendar, as year and month
                day = self.clock.days(time, self.shift).cast(pl.Int32).cast(pl.Date).dt
                return day.year().cast(pl.Int64) * 12 + day.month().cast(pl.Int64) - (EPOCH_MONTH + 1)
            case _:
                return pl.when(time.is_not_null()).then(pl.lit(0, dtype=pl.Int64))

    def times(self, places: pl.Expr) -> pl.Expr:
        """Return the time at which each place begins, of the column's type; null for all of time."""
        match self.kind:
            case "ticks":
                return self.clock.from_ticks(places)
            case "days":
                return self.clock.from_days(places, self.shift)
            case "months":
                return self.clock.from_days(_first_days(places), self.shift)
            case _:
                return pl.lit(None, dtype=self.clock.dtype)


def _first_days(months: pl.Expr) -> pl.Expr:
    """Return the day on which each month begins; years are counted from March, so that a leap day ends one."""
    since = months + (EPOCH_MONTH - 2)
    year, month = since // 12, since % 12
    return year * 365 + year // 4 - year // 100 + year // 400 + (month * 153 + 2) // 5 - 719_468
