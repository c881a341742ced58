"""BLAKE3 hashes of files while they are being written or read.

A thread of low priority looks after the files every now and then and hashes what is new in them, so that it takes the time that a core
would idle. Whoever asks for a hash takes over from it, and does what is left.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

from blake3 import blake3

from lazypipe.storage.parquet.row_groups import BorderHash

__all__ = ["Following"]

_PIECE = 1 << 18
"""Bytes that are hashed at a time: they stay in a core's cache, and nothing waits long for a piece."""
_PAUSE = 0.05
"""Seconds between two looks; nothing at all is done for files that are written in less."""
_MOST = 32
"""Files that are followed at a time: looking after very many small ones would cost more than it brings."""
_NICE = 5
"""Not less priority than that: on a busy machine it would be held up within a piece, and everything that waits for the hash with it."""


class Following:
    """Follows local files while they grow.

    They may only be appended to, as all writers of data files do. A file that has become shorter, or was replaced, is not hashed here.

    Examples
    --------
    >>> import tempfile
    >>> following = Following()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = following.follow(f"{folder}/a")
    ...     with open(f"{folder}/a", "wb") as file:
    ...         _ = file.write(b"rows")
    ...     found = following.digest(f"{folder}/a", 4)
    >>> found == blake3(b"rows").hexdigest()
    True
    >>> following.close()
    """

    def __init__(self) -> None:
        self._trails: dict[str, _Trail] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._asking = 0
        self._thread: threading.Thread | None = None

    def follow(self, path: str) -> bool:
        """Follow a file that is going to be written, unless it is there already; return whether it is followed."""
        with self._lock:
            known = self._trails.pop(path, None)  # by a try that failed
            if known is not None:
                known.close()
            return not os.path.exists(path) and self._begin(path)

    def ahead(self, path: str, made: BorderHash | None = None) -> bool:
        """Hash a file that is whole; return whether it is going to be, as long as there are not very many.

        What is ``made`` of it is given all of it.
        """
        with self._lock:
            return path not in self._trails and self._begin(path, made)

    def _begin(self, path: str, made: BorderHash | None = None) -> bool:
        # elsewhere than on POSIX a file that is open could not be taken away
        if os.name != "posix" or len(self._trails) >= _MOST:
            return False
        self._trails[path] = _Trail(path, made)
        if self._thread is None:
            # a daemon: a run that is stopped in the middle does not wait for it
            self._thread = threading.Thread(target=self._look_after, name="lazypipe-following", daemon=True)
            self._thread.start()
        return True

    def left(self, path: str, size: int) -> int:
        """Return how many bytes of a file are not hashed yet."""
        trail = self._trails.get(path)
        return size if trail is None else size - trail.at

    def digest(self, path: str, size: int) -> str | None:
        """Return the hash of a file that is whole by now, None where it is not known: then it is to be read from its beginning."""
        with self._lock:
            trail = self._trails.pop(path, None)
            self._asking += 1
        try:
            return None if trail is None else trail.finish(size)
        finally:
            with self._lock:
                self._asking -= 1

    def close(self) -> None:
        """Follow nothing any more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        for trail in self._trails.values():
            trail.close()
        self._trails.clear()

    def _look_after(self) -> None:
        less = _NICE if sys.platform == "linux" else 0  # elsewhere it would be that of the whole process
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + less)
        while not self._ended.wait(_PAUSE):
            with self._lock:
                trails = [*self._trails.values()]
            for trail in trails:
                # who asks for a hash will ask for others: let them be free
                while not (self._asking or self._ended.is_set()) and trail.step():
                    pass


class _Trail:
    """One file, and how far it is hashed."""

    def __init__(self, path: str, made: BorderHash | None) -> None:
        self.path = path
        self.at = 0
        self._made = blake3(max_threads=1) if made is None else made
        self._file: int | None = None
        self._is_over = False
        self._is_lost = False
        self._lock = threading.Lock()

    def step(self) -> bool:
        """Hash the next piece if it is there as a whole; return whether it was."""
        with (
            self._lock,
            suppress(OSError),
        ):  # not there yet; or unreadable, which is reported when the hash is asked for
            return not self._is_over and self._hash(_PIECE)
        return False

    def finish(self, size: int) -> str | None:
        """Hash what is left, and return the hash of all; None if the file was not just appended to, up to this size."""
        self._is_over = True  # so that no other thread continues
        with self._lock:
            try:
                while self._hash(1):
                    pass
                return self._made.hexdigest() if self.at == size and self._is_true() else None
            except OSError:
                return None
            finally:
                self._let_go()

    def close(self) -> None:
        """Forget the file."""
        self._is_over = True
        with self._lock:
            self._let_go()

    def _hash(self, least: int) -> bool:
        """Hash the next piece, if there are that many bytes; return whether there were."""
        if self._file is None:
            if os.stat(self.path).st_size < least:
                return False
            self._file = os.open(self.path, os.O_RDONLY)
        there = os.fstat(self._file).st_size
        self._is_lost = self._is_lost or there < self.at
        if self._is_lost or there - self.at < least:
            return False
        read = os.read(self._file, _PIECE)
        self._made.update(read)
        self.at += len(read)
        return True

    def _is_true(self) -> bool:
        """Whether the bytes that were read are still those in the file."""
        if self._is_lost or self._file is None:
            return False
        return os.path.samestat(os.fstat(self._file), os.stat(self.path))

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
