"""Joins by time intervals, as equality joins on numbered stretches of time."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from lazypipe.windows.clock import Clock

__all__ = ["Interval"]

_STRETCH, _NEXT = "__lazypipe_stretch", "__lazypipe_next"


@dataclass(frozen=True)
class Interval:
    """From ``lower`` to ``upper`` ticks after a time, both ends in it.

    Time is cut into stretches as long as the interval. A time here lies in one of them; a time there is put into all, at most two, from
    which it can be seen. So a join on equal stretches finds each pair once, beside others that a filter takes out.

    Examples
    --------
    >>> here, there = (pl.LazyFrame({name: times}).cast(pl.Datetime("ms")) for name, times in (("t", [0, 9]), ("u", [4, 7])))
    >>> around = Interval(Clock(pl.Datetime("ms")), -3, 3)
    >>> left, right = around.here(here, "t"), around.there(there, "u")
    >>> left.join(right, on=around.key).filter(around.holds("t", "u")).select("t", "u").cast(pl.Int64).collect().rows()
    [(9, 7)]
    """

    clock: Clock
    lower: int
    upper: int

    key = _STRETCH
    """The column that both sides are joined on."""

    @property
    def length(self) -> int:
        """How many ticks a stretch has."""
        return self.upper - self.lower + 1

    def here(self, rows: pl.LazyFrame, time: str) -> pl.LazyFrame:
        """Return rows with the stretch that each lies in."""
        return rows.with_columns((self.clock.ticks(pl.col(time)) // self.length).alias(_STRETCH))

    def there(self, rows: pl.LazyFrame, time: str) -> pl.LazyFrame:
        """Return rows of the other side that have a time, once for each stretch that they can be seen from."""
        ticks = self.clock.ticks(pl.col(time))
        first, last = ((ticks - bound) // self.length for bound in (self.upper, self.lower))
        both = pl.lit([0, 1], dtype=pl.List(pl.Int64)).alias(_NEXT)
        rows = rows.filter(pl.col(time).is_not_null()).with_columns(both)
        rows = rows.explode(_NEXT, empty_as_null=False, keep_nulls=False)
        return rows.with_columns((first + pl.col(_NEXT)).alias(_STRETCH)).filter(pl.col(_STRETCH) <= last).drop(_NEXT)

    def holds(self, here: str, there: str) -> pl.Expr:
        """Whether the time in one column lies in the interval around that in the other."""
        if self.clock.unit != "ns":
            away = self.clock.ticks(pl.col(there)) - self.clock.ticks(pl.col(here))
            return away.is_between(self.lower, self.upper)
        # to the nanosecond, and 64 bits do not hold the distance of the first one from the last
        away = pl.col(there).cast(pl.Int64).cast(pl.Int128) - pl.col(here).cast(pl.Int64).cast(pl.Int128)
        lower, upper = (pl.lit(bound * 1_000, dtype=pl.Int128) for bound in (self.lower, self.upper))
        return away.is_between(lower, upper)
