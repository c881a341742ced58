"""The modification times in file stamps, for stores whose stamps are times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from lazypipe.storage import uri as uris
from lazypipe.storage.content import unchanged
from lazypipe.storage.files import FileInfo, expand

__all__ = ["moment_of", "nanoseconds", "stays"]


def moment_of(stamp: str | None) -> int | None:
    """Return the time that a stamp means, in nanoseconds since 1970; None for an ETag, a version, or no stamp.

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


def stays(file: FileInfo, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Whether a file still has the size and stamp that it was listed with, wherever it is."""
    if uris.is_local(file.uri):
        return unchanged(file)
    try:
        uris.file_system(file.uri, storage_options)[0].invalidate_cache()
        (now,) = (f for f in expand((file.uri,), storage_options, endings=("",)) if f.uri == file.uri)
    except Exception:  # whatever a file system raises: it cannot be said
        return False
    was, found = moment_of(file.stamp), moment_of(now.stamp)
    # listings give times in another form, and not to the last digit
    same = now.stamp == file.stamp if was is None or found is None else abs(was - found) < _DIGITS
    return same and now.size == file.size


_DIGITS = 1_000_000
"""Nanoseconds by which two forms of the same moment may differ."""


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
