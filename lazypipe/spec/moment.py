"""Times and ages as callers give them: datetimes, dates, durations, or text."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from lazypipe.errors import LazypipeError
from lazypipe.spec.model import Param

__all__ = ["age", "moment", "utc_moment"]


def age(given: timedelta | str, argument: str) -> timedelta:
    """Return how old something is: a length of time, or one as text.

    Raises
    ------
    LazypipeError
        If it is neither; the text names the argument, and says what would be.

    Examples
    --------
    >>> age("36h", "older_than")
    datetime.timedelta(days=1, seconds=43200)
    """
    try:
        found: timedelta = Param("duration").parse(given)
    except ValueError as error:
        raise LazypipeError(f"{argument}: {error}") from None
    return found


def moment(given: object) -> datetime:
    """Return a moment: a datetime, the beginning of a date, or either in ISO 8601.

    Raises
    ------
    LazypipeError
        If it is none of these; the text says what would be.

    Examples
    --------
    >>> moment("2024-01-31"), moment(date(2024, 1, 31))
    (datetime.datetime(2024, 1, 31, 0, 0), datetime.datetime(2024, 1, 31, 0, 0))
    """
    if isinstance(given, str):
        try:
            return datetime.fromisoformat(given)
        except ValueError:
            raise LazypipeError(f"{given!r} is not a time; write one such as 2024-01-31 or 2024-01-31T12:00") from None
    if isinstance(given, datetime):
        return given
    if isinstance(given, date):
        return datetime.combine(given, time())
    raise LazypipeError(f"{given!r} is not a time; give a datetime, a date, or a text such as 2024-01-31")


def utc_moment(given: object) -> datetime:
    """Return a moment with its time zone; what has none is UTC.

    Examples
    --------
    >>> utc_moment("2024-01-31T12:00").isoformat(), utc_moment("2024-01-31T12:00+01:00").isoformat()
    ('2024-01-31T12:00:00+00:00', '2024-01-31T12:00:00+01:00')
    """
    found = moment(given)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
