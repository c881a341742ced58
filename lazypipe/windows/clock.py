"""The type, unit and time zone of a time column."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lazypipe.errors import nearest
from lazypipe.spec.model import Fault
from lazypipe.spec.types import dtype_from_name, dtype_name

__all__ = ["DAY", "HOUR", "Clock"]

HOUR = 3_600_000_000_000
"""Nanoseconds in an hour."""
DAY = 24 * HOUR
"""Nanoseconds in a day that has 24 hours."""
_UNITS = {"ms": 1_000_000, "us": 1_000}
_NANOSECONDS = (-(2**63) // 1_000 + 1, 2**63 // 1_000 - 1)
"""The first and the last microsecond that nanoseconds reach: in 1677 and in 2262."""


@dataclass(frozen=True)
class Clock:
    """What the times of a column are: ``dtype`` is ``Date`` or ``Datetime``, the latter with the zone in which days begin.

    Times are counted in ticks from 1970-01-01: days of dates, milliseconds or microseconds of datetimes (those in nanoseconds
    are counted in microseconds, so that the ends of windows do not overflow).
    """

    dtype: pl.DataType

    @classmethod
    def of(cls, column: str, schema: pl.Schema, zone: str | None = None, argument: str = "time") -> Clock:
        """Return the clock of a column, with days that begin in ``zone``, by default in the column's own.

        Raises
        ------
        Fault
            At ``argument``, if there is no such column or it is not a time; at ``time_zone``, if that does not fit.
        """
        if column not in schema:
            raise Fault(f"unknown column {column!r}", nearest(column, schema, "columns"), (argument,))
        dtype = schema[column]
        if not isinstance(dtype, pl.Date | pl.Datetime):
            what = f"column {column!r} is {dtype_name(dtype)}, which is not a date or time"
            raise Fault(what, "name a column of dates or datetimes, or cast it first", (argument,))
        if zone is None:
            return cls(dtype)
        try:
            other = dtype_from_name(f"Datetime(us, {zone})")
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            raise Fault(what, fix, ("time_zone",)) from None
        assert isinstance(other, pl.Datetime)
        if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
            what = f"column {column!r} is {dtype_name(dtype)}, which has no time zone"
            fix = f"remove time_zone, or cast the column to Datetime(us, {zone}) first"
            raise Fault(what, fix, ("time_zone",))
        return cls(pl.Datetime(dtype.time_unit, other.time_zone))

    @property
    def zone(self) -> str | None:
        """The time zone; None for dates and for datetimes that have none."""
        return self.dtype.time_zone if isinstance(self.dtype, pl.Datetime) else None

    @property
    def unit(self) -> str | None:
        """The unit of datetimes; None of dates."""
        return self.dtype.time_unit if isinstance(self.dtype, pl.Datetime) else None

    @property
    def is_even(self) -> bool:
        """Whether every day has 24 hours: so it is without a time zone, and in UTC."""
        return self.zone in (None, "UTC")

    @property
    def tick(self) -> int:
        """Nanoseconds between two neighbouring times of the column's unit."""
        return DAY if self.unit is None else _UNITS.get(self.unit, 1_000)

    @property
    def origin(self) -> int:
        """Where 1970-01-01 0:00 of the zone lies, in ticks from that in UTC."""
        if self.is_even:
            return 0
        then = pl.lit(0).cast(pl.Datetime("us", self.zone)).dt
        return -int(pl.select((then.base_utc_offset() + then.dst_offset()).dt.total_nanoseconds()).item()) // self.tick

    def ticks(self, time: pl.Expr) -> pl.Expr:
        """Return times as ticks, in UTC if they have a time zone."""
        if self.unit is None:
            return time.cast(pl.Int32).cast(pl.Int64)
        return time.dt.timestamp("ms" if self.unit == "ms" else "us")

    def from_ticks(self, ticks: pl.Expr) -> pl.Expr:
        """Return ticks as times of the column's type; what nanoseconds do not reach is the first or last that they do."""
        if self.unit is None:
            return ticks.cast(pl.Int32, strict=False).cast(self.dtype)
        if self.unit == "ns":
            within = ticks.clip(*_NANOSECONDS).cast(pl.Datetime("us", self.zone))
            return within.dt.cast_time_unit("ns")
        return ticks.cast(self.dtype)

    def days(self, time: pl.Expr, shift: int) -> pl.Expr:
        """Return the day of each time as the wall clock shows it, as days from 1970-01-01; days begin ``shift`` ns late."""
        if self.unit is None:
            return self.ticks(time) - shift // DAY
        if shift:
            time = time.dt.convert_time_zone(self.zone) if self.zone is not None else time
            # in microseconds: nanoseconds could overflow
            wall = time.dt.replace_time_zone(None).dt.cast_time_unit("us")
            time = wall - timedelta(microseconds=shift // 1_000)
        elif self.zone is not None:
            time = time.dt.convert_time_zone(self.zone)
        return time.dt.date().cast(pl.Int32).cast(pl.Int64)

    def from_days(self, days: pl.Expr, shift: int) -> pl.Expr:
        """Return when days begin, ``shift`` ns late by the wall clock: the first moment of them that there is.

        A time that the clock shows twice is the earlier one. One that it skips is the one at which it goes on: to the second where it
        skips from there on, otherwise looked for on quarters of an hour; where a zone lost a whole day, that day has no length.
        """
        if self.unit is None:
            return self.from_ticks(days + shift // DAY)
        wall = days.cast(pl.Int32).cast(pl.Date).cast(pl.Datetime("us")) + timedelta(microseconds=shift // 1_000)
        if self.zone is None:
            moment = wall
        elif self.is_even:
            moment = wall.dt.replace_time_zone("UTC")
        else:
            moment = self._first(wall)
        return self.from_ticks(moment.dt.timestamp("ms" if self.unit == "ms" else "us"))

    def _first(self, wall: pl.Expr) -> pl.Expr:
        """Return the first moment at or after a time of the wall clock."""

        def moment(shown: pl.Expr) -> pl.Expr:
            return shown.dt.replace_time_zone(self.zone, ambiguous="earliest", non_existent="null")

        quarter = timedelta(minutes=15)
        size = quarter // timedelta(microseconds=1)
        # the next full quarter, and those of an hour from there
        on = (-((-wall.dt.timestamp("us")) // size) * size).cast(pl.Datetime("us"))
        later = [on + quarter * number for number in range(5)]
        before = moment(wall - timedelta(days=1)).dt
        utc = wall - (before.base_utc_offset() + before.dst_offset()).dt.cast_time_unit("us")
        skipped = utc.dt.replace_time_zone("UTC").dt.convert_time_zone(self.zone or "UTC")
        # what is skipped may begin right there
        last = (skipped - timedelta(microseconds=1)).dt.replace_time_zone(None)
        return pl.coalesce(moment(wall), pl.when(last < wall).then(skipped), *map(moment, later), skipped)
