"""Flushes files to disk while they are being written: what a commit names must survive a power cut.

A commit that waited for the disk only at its end would wait for all of the data, with the cores idle. So a thread has the
disk take what has grown while the query goes on, and at the end little is left.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from lazypipe.errors import StorageError, first_line

__all__ = ["Flushing", "write_through"]

_PAUSE = 0.1
"""Seconds between two looks: writes that take less are brought to the disk at their end only."""
_IDLE = 10
"""Looks at nothing after which the thread ends."""
_GROWN = 32 << 20
"""Bytes that a file must have grown by: each time the disk is asked takes a while, however little there is."""


class Flushing:
    """Local files that are written within the ``with``; when it is left without an error, they are on the disk.

    Raises
    ------
    StorageError
        If the disk does not take what was written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Flushing() as flushing:
    ...     flushing.add(f"{folder}/a")
    ...     with open(f"{folder}/a", "wb") as file:
    ...         _ = file.write(b"rows")
    """

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._taken: dict[str, int] = {}
        self._follows = os.name == "posix"
        """Elsewhere a file is flushed by who writes it only."""

    def add(self, path: str) -> None:
        """Have a file looked after that is going to be written."""
        self._paths.append(path)

    def __enter__(self) -> Self:
        if self._follows:
            _keeper.follow(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        _keeper.leave(self)
        if self._follows and error is None:
            for path in self._paths:
                _begin(path, self._taken.get(path, 0))
            for path in self._paths:
                _flush(path)

    def look(self) -> None:
        """Have the disk take what has grown."""
        for path in self._paths[:]:
            # not there yet, or gone; what the disk refuses is reported at the end, which tries again
            with suppress(OSError, StorageError):
                size = os.stat(path).st_size
                if size - self._taken.get(path, 0) >= _GROWN:
                    _flush(path)
                    self._taken[path] = size


def write_through(path: str, data: bytes, *, flushed: bool = True) -> None:
    """Write a file whose whole content is given; if ``flushed``, it is on the disk afterwards.

    Raises
    ------
    OSError
        If it cannot be written.
    StorageError
        If the disk does not take what was written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_through(f"{folder}/new/a", b"rows")
    ...     os.listdir(f"{folder}/new")
    ['a']
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb", buffering=0) as file:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
        if flushed:
            _flush(path, file.fileno())


class _Keeper:
    """One thread that looks after all files that are being written: to begin one costs as much as to write a small file.

    It ends a while after there was something to look after.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Know of no thread: a forked process has none but the one that forked it."""
        self._lock = threading.Lock()
        self._followed: set[Flushing] = set()
        self.thread: threading.Thread | None = None

    def follow(self, flushing: Flushing) -> None:
        with self._lock:
            self._followed.add(flushing)
            if self.thread is None:
                self.thread = threading.Thread(target=self._keep, name="lazypipe-flushing", daemon=True)
                self.thread.start()

    def leave(self, flushing: Flushing) -> None:
        with self._lock:
            self._followed.discard(flushing)

    def _keep(self) -> None:
        idle = 0
        while True:
            time.sleep(_PAUSE)
            with self._lock:
                followed = [*self._followed]
                idle = 0 if followed else idle + 1
                if idle > _IDLE:
                    self.thread = None
                    return
            for flushing in followed:
                flushing.look()


_keeper = _Keeper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keeper.begin_anew)


def _begin(path: str, taken: int) -> None:
    """Ask for a file to be written without waiting, where the system knows how: many then cost little more than one.

    Not for what the disk has ``taken``: the system would drop it from its cache, and the next reader would wait for the disk.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # it is only advice
            file = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(file, taken, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)


def _flush(path: str, opened: int | None = None) -> None:
    try:
        file = os.open(path, os.O_RDONLY) if opened is None else opened
        try:
            getattr(os, "fdatasync", os.fsync)(file)
        finally:
            if opened is None:
                os.close(file)
    except OSError as error:
        raise StorageError(
            f"the disk cannot be written to: {error.strerror or first_line(error)}",
            uri=path,
            fix="nothing became visible; fix the disk, or write elsewhere, and run again",
        ) from error
