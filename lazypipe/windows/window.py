"""Windows of fixed lengths and of the calendar: which times belong to which window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import gcd

import polars as pl

from lazypipe.spec.model import Fault
from lazypipe.spec.spans import Span
from lazypipe.spec.types import dtype_name
from lazypipe.windows.clock import DAY, Clock
from lazypipe.windows.line import Line

__all__ = ["Windows", "elapsed", "windows"]

MOST = 10_000
"""In how many windows one row may lie."""
_THURSDAY = 3
"""1970 began on a Thursday: the Monday before it is as many days back."""


@dataclass(frozen=True)
class Windows:
    """Windows of ``period`` that begin each ``every``, counted from ``origin`` on a line; a row lies in ``overlap`` or one less.

    Time is divided into slices, and each window consists of whole slices: a row has one slice, a slice has the windows that it
    lies in. So figures that add up are computed once per slice, however many windows share it.

    Examples
    --------
    >>> from datetime import datetime
    >>> frame = pl.LazyFrame({"t": [datetime(2024, 1, 1, 10, 40)]})
    >>> sliding = windows(Clock(pl.Datetime("us")), "1h", period="90m")
    >>> slices = frame.select(slice=sliding.slice(pl.col("t")))
    >>> begin = sliding.begin(pl.col("slice"), pl.lit(0))
    >>> slices.select(sliding.start(begin).alias("from"), sliding.end(begin).alias("to")).collect().row(0)
    (datetime.datetime(2024, 1, 1, 10, 0), datetime.datetime(2024, 1, 1, 11, 30))
    """

    line: Line
    every: int
    period: int
    origin: int

    @property
    def overlap(self) -> int:
        """In how many windows a row lies at most."""
        return -(-self.period // self.every)

    @property
    def step(self) -> int:
        """How long a slice is."""
        return gcd(self.every, self.period)

    def slice(self, time: pl.Expr) -> pl.Expr:
        """Return where the slice of each time begins."""
        if self.line.kind == "all":
            return self.line.places(time)
        return _floor(self.line.places(time), self.step, self.origin)

    def begin(self, slices: pl.Expr, number: pl.Expr) -> pl.Expr:
        """Return where the window of each slice begins that is the last but ``number``."""
        # where each window has whole ones of those that begin with it, a slice begins as a window does
        begin = slices if self.period % self.every == 0 else _floor(slices, self.every, self.origin)
        return begin - number * self.every

    def first(self, slices: pl.Expr) -> pl.Expr:
        """Return where the first window begins that has each slice."""
        return _floor(slices - self.period, self.every, self.origin) + self.every

    def holds(self, slices: pl.Expr, begin: pl.Expr) -> pl.Expr:
        """Whether a window that begins there has the slice, which it may not where periods are no multiple of ``every``."""
        return slices < begin + self.period

    def number(self, begin: pl.Expr) -> tuple[pl.Expr, int, int]:
        """Number windows by their begin: return the number, the least number possible, and how many numbers there may be."""
        if self.line.kind == "all":
            return begin, 0, 1
        # what ticks of datetimes need; there are fewer days and months
        bits = 64 if self.line.kind == "ticks" and self.line.clock.unit is not None else 32
        most = (1 << (bits - 1)) // self.every + self.overlap + 2
        counted = begin - self.origin if self.origin else begin
        return counted // self.every if self.every > 1 else counted, -most, 2 * most

    def start(self, begin: pl.Expr) -> pl.Expr:
        """Return the first moment of the window that begins there."""
        return self.line.times(begin)

    def end(self, begin: pl.Expr) -> pl.Expr:
        """Return the first moment after the window that begins there."""
        return self.line.times(begin + self.period)


def _floor(places: pl.Expr, size: int, origin: int) -> pl.Expr:
    return places if size == 1 else places - (places - origin if origin else places) % size


def _span(text: str, argument: str, *place: int) -> Span:
    """Read a length of time that a definition gives; raises Fault at the argument."""
    try:
        found = Span.parse(text)
    except ValueError as error:
        fix = "write one such as 15m, 1h, 1d, 1w, 1mo, 1q or 1y"
        if argument == "every":
            fix += ", or all for one window over all time"
        raise Fault(str(error), fix, (argument, *place)) from None
    if found.is_endless:
        raise Fault(f"{text} is longer than 30,000 years", "write a shorter one", (argument, *place))
    return found


def elapsed(text: str, clock: Clock, argument: str, *place: int) -> int:
    """Read how much time passes, in ticks of a clock; days have 24 hours. Raises Fault at the argument, also for months."""
    found = _span(text, argument, *place)
    if found.months:
        raise Fault(f"{text} has months, which differ in length", "write it in days or hours", (argument, *place))
    return _ticks(text, found, clock, argument, *place)


def _ticks(text: str, found: Span, clock: Clock, argument: str, *place: int) -> int:
    ticks, rest = divmod(found.days * DAY + found.nanoseconds, clock.tick)
    if rest:
        least = "a microsecond" if clock.unit == "ns" else f"what {dtype_name(clock.dtype)} tells apart"
        raise Fault(f"{text} is finer than {least}", "write a longer one", (argument, *place))
    return ticks


def windows(clock: Clock, every: str, *place: int, period: str | None = None, offset: str | None = None) -> Windows:
    """Return the windows that a definition describes.

    Parameters
    ----------
    every
        How often a window begins, or ``all``: one for all time. Hours and shorter units are as long as they are; days, weeks,
        months, quarters and years are those of the calendar in the clock's zone.
    place
        Where ``every`` stands in the list of several.
    period
        How long a window is. Default: until the next one begins.
    offset
        How much later than that windows begin: hours from 1970-01-01 0:00 of the zone, weeks on Mondays, months on the first.

    Raises
    ------
    Fault
        At ``every``, ``period`` or ``offset``, where there are no such windows.
    """
    if every == "all":
        for argument, given in (("period", period), ("offset", offset)):
            if given is not None:
                raise Fault(f"windows over all time have no {argument}", f"remove {argument}", (argument,))
        return Windows(Line(clock, "all"), 1, 1, 0)
    parts = {"every": _span(every, "every", *place)}
    parts |= {n: _span(t, n) for n, t in (("period", period), ("offset", offset)) if t is not None}
    for argument in ("every", "period"):
        if argument in parts and not parts[argument].is_positive:
            what = f"{every if argument == 'every' else period} is not a valid window length"
            at = place if argument == "every" else ()
            raise Fault(what, "write one above zero, such as 1h", (argument, *at))
    made = _Maker(clock, parts, {"every": every, "period": period or every, "offset": offset or "0h"}, place).windows()
    if made.period < made.every:
        what = f"windows of {period} that begin each {every} leave gaps between them"
        raise Fault(what, "write a period at least as long as every", ("period",))
    if made.overlap > MOST:
        what = f"each row would be in {made.overlap:,} windows of {period}"
        raise Fault(what, f"start them less often than each {every}", ("every", *place))
    return made


@dataclass(frozen=True)
class _Maker:
    """The lengths of windows, and how they are put on one line."""

    clock: Clock
    parts: dict[str, Span]
    texts: dict[str, str]
    place: tuple[int, ...]

    def windows(self) -> Windows:
        every, offset = self.parts["every"], self.parts.get("offset", Span())
        if every.months:
            line = Line(self.clock, "months", self._shift(offset))
            return self._made(line, self._months, offset.months)
        monday = _THURSDAY if every.weekly else 0
        if self.clock.is_even or every.nanoseconds:
            later = self._ticks("offset") if "offset" in self.parts else 0
            origin = self.clock.origin + later - monday * DAY // self.clock.tick
            return self._made(Line(self.clock, "ticks"), self._ticks, origin)
        if offset.months:
            raise self._unfit("offset", "days")
        return self._made(
            Line(self.clock, "days", self._shift(replace(offset, days=0))), self._days, offset.days - monday
        )

    def _made(self, line: Line, size: Callable[[str], int], origin: int) -> Windows:
        every = size("every")
        return Windows(line, every, size("period") if "period" in self.parts else every, origin % every)

    def _shift(self, offset: Span) -> int:
        return _ticks(self.texts["offset"], offset, self.clock, "offset") * self.clock.tick

    def _months(self, argument: str) -> int:
        span = self.parts[argument]
        if span.days or span.nanoseconds or not span.months:
            raise self._unfit(argument, "months")
        return span.months

    def _days(self, argument: str) -> int:
        span = self.parts[argument]
        if span.months or span.nanoseconds:
            raise self._unfit(argument, "days")
        return span.days

    def _ticks(self, argument: str) -> int:
        span = self.parts[argument]
        if span.months:
            raise self._unfit(argument, "hours and days")
        if span.days and not self.clock.is_even:
            what = f"{self.texts[argument]} has days, which are not all of 24 hours in {self.clock.zone}"
            raise Fault(what, "write hours instead, or days and nothing else in all of them", self._at(argument))
        return _ticks(self.texts[argument], span, self.clock, *self._at(argument))

    def _unfit(self, argument: str, kind: str) -> Fault:
        text, every = self.texts[argument], self.texts["every"]
        if argument == "every":
            return Fault(f"{text} mixes months with shorter units", "write one or the other", self._at(argument))
        what = f"the {argument} {text} cannot be counted in {kind}, and windows begin each {every}"
        return Fault(what, f"write the {argument} in {kind}", self._at(argument))

    def _at(self, argument: str) -> tuple[str, *tuple[int, ...]]:
        return (argument, *self.place) if argument == "every" else (argument,)
