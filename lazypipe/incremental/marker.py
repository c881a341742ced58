"""Markers: small files that say up to which time a source is complete, in their content or in their names."""

from __future__ import annotations

import re
from datetime import datetime

from lazypipe.compile.sources.source import BoundSource
from lazypipe.errors import SourceError
from lazypipe.incremental.stamps import nanoseconds
from lazypipe.incremental.store import Store, folder_of, name_of, within
from lazypipe.spec.model import freeze
from lazypipe.storage.files import expand

__all__ = ["marked"]

_DIRECTIVE = re.compile(r"%[A-Za-z%]")


def marked(source: BoundSource, marker: str) -> int | None:
    """Return the latest time that the markers of a source say, in microseconds since 1970; None while there is none.

    With directives such as ``%Y-%m-%d`` in the marker's name, names say it; otherwise what stands in the files does. Times without
    a time zone are UTC.

    Raises
    ------
    SourceError
        If markers cannot be listed or read, or one says no time.
    """
    folder, name = folder_of(marker), name_of(marker)
    named = any(d != "%%" for d in _DIRECTIVE.findall(name))
    pattern = within(folder, _DIRECTIVE.sub(lambda d: "%" if d[0] == "%%" else "*", name)) if named else marker
    options = freeze(source.reader.storage_options)
    store = Store(options)
    try:
        if any(c in pattern for c in "*?["):
            files = [f.uri for f in expand([pattern], options, patient=True)]
        else:
            files = [f.uri for f in store.beside(folder) if name_of(f.uri) == name]
        times = [_named(uri, name) if named else _told(uri, store.read(uri)) for uri in files]
    except SourceError as error:
        raise source.located(error) from None
    return max((t for t in times if t is not None), default=None)


def _named(uri: str, pattern: str) -> int | None:
    """Return the time in a marker's name; None where the name only looks like one."""
    try:
        return nanoseconds(datetime.strptime(name_of(uri), pattern)) // 1_000  # noqa: DTZ007  # or one with a zone, as it says
    except ValueError:
        return None


def _told(uri: str, content: bytes) -> int | None:
    """Return the time in a marker; None if it is empty because it is being written."""
    text = content.decode("utf-8", "replace").strip()
    try:
        return nanoseconds(datetime.fromisoformat(text)) // 1_000 if text else None
    except ValueError:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        fix = "write one such as 2024-01-31T12:00:00 into it, and nothing else"
        raise SourceError(f"the marker says {shown!r}, which is not a date or time", uri=uri, fix=fix) from None
