"""Transports of events: their interface, and the one that appends to files."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lazypipe.errors import StorageError, first_line
from lazypipe.records.facets import public
from lazypipe.storage import uri as uris

__all__ = ["FileTransport", "Transport", "encoded"]

Event = Mapping[str, Any]


@runtime_checkable
class Transport(Protocol):
    """Takes events during a run. Whatever it raises or says becomes a warning of the run, never its failure."""

    def emit(self, event: Event) -> None:
        """Take an event in, at once: the run waits for it. Called in the order of events."""

    def flush(self) -> None:
        """Send what was taken in. Called in a thread of its own after each event; the run waits only at its end, and not long."""

    def problems(self) -> tuple[str, ...]:
        """Return what went wrong since it was asked last, in words."""


def encoded(event: Event) -> bytes:
    """Return an event as one line of JSON."""
    return json.dumps(event, ensure_ascii=False, default=str, allow_nan=False, separators=(",", ":")).encode()


class FileTransport:
    r"""Writes OpenLineage events to a local file, one line of JSON each; in an object store, to one file per event below the URI.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "events.ndjson"
    >>> FileTransport(str(path)).emit({"eventType": "START"})
    >>> path.read_text()
    '{"eventType":"START"}\n'
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._left: list[Event] = []
        self._problems: list[str] = []
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Append an event; raises StorageError if that fails."""
        if not uris.is_local(self.uri):
            with self._lock:
                self._left.append(event)
            return
        try:
            _append(Path(uris.local_path(self.uri)), encoded(event) + b"\n")
        except OSError as error:
            what = f"cannot write an OpenLineage event: {first_line(error.strerror or error)}"
            raise StorageError(what, uri=self.uri, fix="make room, or choose another file") from error

    def flush(self) -> None:
        """Write pending events to the object store."""
        with self._lock:
            left, self._left = self._left, []
            for event in left:
                try:
                    fs, path = uris.file_system(uris.join(self.uri, _name(event)))
                    uris.make_folder(fs, path.rpartition("/")[0])
                    fs.pipe_file(path, encoded(event))
                except Exception as error:  # any store's own errors
                    self._problems.append(f"{public(self.uri)}: cannot write an OpenLineage event: {first_line(error)}")

    def problems(self) -> tuple[str, ...]:
        """Return what could not be written since the last call."""
        with self._lock:
            told, self._problems = self._problems, []
        return tuple(told)


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        with suppress(ImportError, OSError):  # where there is no such lock, a line still goes in one call
            import fcntl  # not on every system

            fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            # a line that a crash cut off stays alone, and spoils no other
            line = line if file.read(1) == b"\n" else b"\n" + line
        if file.write(line) != len(line):
            raise OSError("No space left on device")


def _name(event: Event) -> str:
    parts = (event.get("eventTime"), event.get("run", {}).get("runId"), event.get("eventType"))
    return re.sub(r"[^\w.+-]", "-", "_".join(map(str, parts))) + ".json"
