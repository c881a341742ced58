"""Durations as a definition writes them: ``90s``, ``15m``, ``2h``, ``3d``, ``1w``, ``1mo``, ``1q``, ``1y``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

__all__ = ["Span"]

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DAYS = {"d": 1, "w": 7}
_MONTHS = {"mo": 1, "q": 3, "y": 12}
_YEARS = 30_000
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|ms|mo|[smhdwqy])")
_WHOLE = re.compile(rf"\s*(-?)((?:{_PART.pattern})+)\s*")


@dataclass(frozen=True)
class Span:
    """A length of time: months and days, whose length depends on where they lie, and nanoseconds.

    ``weekly`` is whether days were written as weeks and nothing else: such windows begin on Mondays.
    """

    months: int = 0
    days: int = 0
    nanoseconds: int = 0
    weekly: bool = False

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read a number and a unit, or several in a row; a minus ahead of them is for all of them.

        Raises
        ------
        ValueError
            If the text is of another form, or has part of a month or of a nanosecond.

        Examples
        --------
        >>> Span.parse("1h30m")
        Span(months=0, days=0, nanoseconds=5400000000000, weekly=False)
        >>> Span.parse("-1q").months, Span.parse("2w").days, Span.parse("1.5d").to_timedelta()
        (-3, 14, datetime.timedelta(days=1, seconds=43200))
        """
        match = _WHOLE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a duration")
        sign = -1 if match[1] else 1
        months, days, nanoseconds = Decimal(0), Decimal(0), Decimal(0)
        parts = _PART.findall(match[2])
        for number, unit in parts:
            value = sign * Decimal(number)
            if unit in _MONTHS:
                months += value * _MONTHS[unit]
            elif unit in _DAYS:
                days += value * _DAYS[unit]
            else:
                nanoseconds += value * _UNITS[unit]
        # part of a day is hours: 1.5d is one day and twelve of them
        nanoseconds += (days - int(days)) * 24 * _UNITS["h"]
        if months != int(months) or nanoseconds != int(nanoseconds):
            raise ValueError(f"{text!r} has a part of a month or of a nanosecond")
        weekly = all(unit == "w" for _, unit in parts) and days == int(days)
        return cls(int(months), int(days), int(nanoseconds), weekly)

    @property
    def is_endless(self) -> bool:
        """Whether it is longer than 30,000 years, so that times which are that far apart cannot be counted.

        Examples
        --------
        >>> Span.parse("30000y").is_endless, Span.parse("-11000000d").is_endless
        (False, True)
        """
        days = abs(self.days) + abs(self.nanoseconds) // (24 * _UNITS["h"])
        return abs(self.months) > 12 * _YEARS or days > 366 * _YEARS

    @property
    def is_positive(self) -> bool:
        """Whether it is longer than nothing; all of its parts have one sign."""
        return self.months > 0 or self.days > 0 or self.nanoseconds > 0

    def to_timedelta(self) -> timedelta:
        """Return it with days of 24 hours, to the microsecond towards zero.

        Raises
        ------
        ValueError
            If it has months.
        OverflowError
            If it is too long for a timedelta.
        """
        if self.months:
            raise ValueError("months have no fixed length")
        whole = abs(self.days) * 24 * _UNITS["h"] + abs(self.nanoseconds)
        long = timedelta(microseconds=whole // 1_000)
        return -long if self.days < 0 or self.nanoseconds < 0 else long
