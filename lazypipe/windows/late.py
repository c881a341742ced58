"""When a window closes for a row, and whether the row came later: an expression over the row alone."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from lazypipe.spec.model import Fault
from lazypipe.spec.spans import Span
from lazypipe.windows.clock import Clock
from lazypipe.windows.window import Windows

__all__ = ["Closing", "lateness"]


def lateness(text: str, argument: str = "allowed_lateness") -> int:
    """Read a length of time in microseconds; raises Fault at the argument for one below zero, or of months.

    Examples
    --------
    >>> lateness("2d")
    172800000000
    """
    try:
        span = Span.parse(text)
    except ValueError as error:
        raise Fault(str(error), "write one such as 30m, 2h or 2d", (argument,)) from None
    if span.months:
        raise Fault(f"{text} has months, which have no fixed length", "write days", (argument,))
    if span.is_endless:
        raise Fault(f"{text} is longer than 30,000 years", "write a shorter one", (argument,))
    found = (span.days * 86_400_000_000_000 + span.nanoseconds) // 1_000
    if found < 0:
        raise Fault(f"{text} is negative", "write one such as 30m, 2h or 2d", (argument,))
    return found


@dataclass(frozen=True)
class Closing:
    """The windows of rows by their ``time``, or sessions with a ``gap``, and the watermark that the rows came ``under``.

    A window closes ``lateness`` microseconds after its end. A row that lies in several is judged by the one that ends last. The
    session of a row is judged as if the row stood alone: whether others came does not matter.
    """

    time: str
    clock: Clock
    parts: tuple[Windows, ...]
    gap: int | None
    lateness: int
    watermark: str
    under: Clock

    @property
    def start(self) -> pl.Expr:
        """When the window begins that decides, of the type of ``time``."""
        if self.gap is not None:
            return pl.col(self.time)
        starts = [p.start(p.begin(p.slice(pl.col(self.time)), pl.lit(0))) for p in self.parts]
        return self._of_the_last(starts)

    @property
    def end(self) -> pl.Expr:
        """When the window ends that decides, of the type of ``time``; null if it never does."""
        if self.gap is not None:
            return self.clock.from_ticks(self.clock.ticks(pl.col(self.time)) + self.gap // self._scale(self.clock))
        return self._of_the_last(self._ends())

    @property
    def late_by(self) -> pl.Expr:
        """How long after its window closed a row came, in microseconds; less than nothing if it came before."""
        closes = self._microseconds(self.end, self.clock) + self.lateness
        return self._microseconds(pl.col(self.watermark), self.under) - closes

    @property
    def late(self) -> pl.Expr:
        """Whether a row came when its window was closed; null where it has no time, or no watermark."""
        return self.late_by >= 0

    def _ends(self) -> list[pl.Expr]:
        return [p.end(p.begin(p.slice(pl.col(self.time)), pl.lit(0))) for p in self.parts]

    def _of_the_last(self, exprs: list[pl.Expr]) -> pl.Expr:
        """Return what belongs to the window that ends last; one over all time never ends."""
        endless = [e for p, e in zip(self.parts, exprs, strict=True) if p.line.kind == "all"]
        if endless or len(exprs) == 1:
            return (endless or exprs)[0]
        ends = self._ends()
        found, last = exprs[0], ends[0]
        for expr, end in zip(exprs[1:], ends[1:], strict=True):
            found, last = pl.when(end > last).then(expr).otherwise(found), pl.max_horizontal(end, last)
        return found

    @staticmethod
    def _scale(clock: Clock) -> int:
        return clock.tick // 1_000

    def _microseconds(self, time: pl.Expr, clock: Clock) -> pl.Expr:
        return clock.ticks(time) * self._scale(clock)
