"""A folder where messages wait until they can be sent: numbered files, in order, shared by processes.

    0000000001.json     waits; the lowest number is the oldest
    rejected/           refused for good: each message with a .txt that says why
    lock                held by whoever is sending; its time is renewed with every message

A message is written under another name, brought to disk, and then linked to the next free number: it is there whole, or not at
all, and two processes never take the same number.
"""

from __future__ import annotations

import atexit
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

from lazypipe.storage.appearing import appear

__all__ = ["Spool"]

_HOUR = 3_600.0
_NUMBERED = re.compile(r"(\d{10,})\.json")


class Spool:
    """Messages in a local folder, which is made when the first one comes.

    Parameters
    ----------
    now
        The time of the clock that stamps files, in seconds.
    stale
        Seconds after which a lock that nobody renews counts as left by a process that was killed.

    Examples
    --------
    >>> import tempfile, time
    >>> spool = Spool(Path(tempfile.mkdtemp()) / "spool", now=time.time)
    >>> spool.put(b"one"), spool.put(b"two"), [p.name for p in spool.waiting()]
    (None, None, ['0000000001.json', '0000000002.json'])
    """

    def __init__(self, folder: str | Path, *, now: Callable[[], float], stale: float = 60.0) -> None:
        self.folder = Path(folder)
        self._now = now
        self._stale = stale
        self._hooks: dict[str, Callable[[], None]] = {}

    def put(self, message: bytes) -> None:
        """Append a message; raises OSError if it cannot be kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(message)
                file.flush()
                os.fsync(file.fileno())
            _link(Path(name), self.folder)
        finally:
            Path(name).unlink(missing_ok=True)

    def waiting(self) -> list[Path]:
        """Return the messages that wait, oldest first; raises OSError if the folder cannot be read."""
        return _numbered(self.folder)

    def reject(self, message: Path, why: str) -> Path:
        """Move a waiting message away for good, with the reason beside it; return where it is."""
        aside = self.folder / "rejected"
        aside.mkdir(exist_ok=True)
        kept = _link(message, aside)
        with suppress(OSError):  # the caller reports the reason too
            kept.with_suffix(".txt").write_text(why, encoding="utf-8")
        message.unlink(missing_ok=True)
        return kept

    # one sends at a time

    @property
    def _lock(self) -> Path:
        return self.folder / "lock"

    def acquire(self) -> str | None:
        """Take the lock; return the token that ``renew`` and ``release`` ask for, or None if somebody else has it.

        Raises OSError if the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        token = f"{os.getpid()} {uuid4()}"
        with suppress(FileNotFoundError):
            if self._now() - self._lock.stat().st_mtime > self._stale:
                self._break()
        # a process that ends does not wait for a thread that sends, and the next one is not to wait for nobody: wherever the thread is then
        self._hooks[token] = atexit.register(partial(self.release, token))
        try:
            self._take(token)
        except OSError as error:
            atexit.unregister(self._hooks.pop(token))
            if isinstance(error, FileExistsError):
                return None
            raise
        self._sweep()
        return token

    def renew(self, token: str) -> bool:
        """Say that the lock's holder is alive; False if the lock is no longer its own."""
        if not self._is_mine(token):
            return False
        os.utime(self._lock, (self._now(), self._now()))
        return True

    def release(self, token: str) -> None:
        """Give the lock back, if it is still held under the token."""
        if (hook := self._hooks.pop(token, None)) is not None:
            atexit.unregister(hook)
        if self._is_mine(token):
            self._lock.unlink(missing_ok=True)

    def _take(self, token: str) -> None:
        """Make the lock, with the token in it from the first moment on."""
        made = self.folder / f".{uuid4()}.tmp"
        handle = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(token)
            appear(made, self._lock)
        finally:
            made.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Take away what processes that were killed while they wrote have left."""
        for path in self.folder.glob(".*.tmp"):
            with suppress(FileNotFoundError):
                if self._now() - path.stat().st_mtime > _HOUR:
                    path.unlink()

    def _is_mine(self, token: str) -> bool:
        with suppress(FileNotFoundError):
            return self._lock.read_text(encoding="utf-8") == token
        return False

    def _break(self) -> None:
        """Remove a lock that a dead process has left. If several processes find it, exactly one of them removes it."""
        left = self._lock.with_name(f"{uuid4()}.lock")
        os.rename(self._lock, left)
        if self._now() - left.stat().st_mtime <= self._stale:
            # somebody else was faster, and this is the lock that they took since
            with suppress(FileExistsError):  # so was a third: the second will see that its lock is gone
                appear(left, self._lock)
        left.unlink(missing_ok=True)


def _numbered(folder: Path) -> list[Path]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [(int(m[1]), n) for n in names if (m := _NUMBERED.fullmatch(n))]
    return [folder / name for _, name in sorted(found)]


def _link(file: Path, folder: Path) -> Path:
    """Give a file the next free number in a folder."""
    last = next(reversed(_numbered(folder)), None)
    number = int(last.stem) + 1 if last else 1
    while True:
        target = folder / f"{number:010}.json"
        try:
            appear(file, target)
        except FileExistsError:
            number += 1
        else:
            return target
