"""Stamps as moments, where they are some: what a store says of when a file was last written."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["moment_of", "nanoseconds"]


def moment_of(stamp: str | None) -> int | None:
    """Return the moment that a stamp stands for, in nanoseconds since 1970; None for an ETag, a version, or none at all.

    Examples
    --------
    >>> moment_of("1764101969123456789"), moment_of("1764101969.5"), moment_of('"5d41402abc4b2a76"')
    (1764101969123456789, 1764101969500000000, None)
    >>> moment_of("Wed, 21 Oct 2015 07:28:00 GMT") == moment_of("2015-10-21 07:28:00+00:00")
    True
    """
    if stamp is None:
        return None
    if len(stamp) >= 16 and stamp.isdecimal():
        return int(stamp)
    try:
        return int(float(stamp) * 1_000_000_000) if stamp.replace(".", "", 1).isdecimal() else _written(stamp)
    except (ValueError, OverflowError):
        return None


def _written(stamp: str) -> int:
    try:
        found = datetime.fromisoformat(stamp)
    except ValueError:
        found = parsedate_to_datetime(stamp)
    return nanoseconds(found)


def nanoseconds(moment: datetime) -> int:
    """Return a moment in nanoseconds since 1970; without a time zone it is UTC.

    Examples
    --------
    >>> nanoseconds(datetime(1970, 1, 2))
    86400000000000
    """
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
