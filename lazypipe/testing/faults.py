"""A file system that fails on demand: for tests of what remains after a full disk or a lost connection."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args
from uuid import uuid4

import fsspec
from fsspec.implementations.dirfs import DirFileSystem

from lazypipe.storage.external.files import Positioned

__all__ = ["Call", "Faults", "faulty"]

Call = Literal["list", "open", "read", "write", "close", "create", "move", "delete", "mkdir"]
"""Kinds of calls. ``create`` is a whole file that must not exist yet; ``open`` and ``close`` are those of files to write."""


@dataclass
class Faults:
    """The calls to a faulty file system, and which of them should fail.

    ``calls`` counts calls by kind, ``bytes`` the bytes read and written, ``paths`` how often each file was opened for reading.
    """

    uri: str
    calls: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    _plans: dict[tuple[str, int], BaseException] = field(default_factory=dict)
    _always: dict[str, BaseException] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, call: Call, error: BaseException, *, nth: int = 1, forever: bool = False) -> None:
        """Make the ``nth`` call of a kind from now on raise ``error``; with ``forever`` all later ones too."""
        if call not in get_args(Call):
            msg = f"unknown kind of call {call!r}; known: {', '.join(get_args(Call))}"
            raise ValueError(msg)
        with self._lock:
            self._plans[call, self.calls[call] + nth] = error
            if forever:
                self._always[call] = error

    def mend(self) -> None:
        """Let all calls succeed from now on, and reset the counts."""
        with self._lock:
            for part in (self._plans, self._always, self.calls, self.bytes, self.paths):
                part.clear()

    def note(self, call: Call, size: int = 0) -> None:
        """Count a call, and raise the error that was planned for it."""
        with self._lock:
            self.calls[call] += 1
            number = self.calls[call]
            begun = [n for kind, n in self._plans if kind == call and n <= number]
            error = self._plans.get((call, number)) or (self._always.get(call) if begun else None)
            if error is None:
                self.bytes[call] += size
        if error is not None:
            raise error


@contextmanager
def faulty(wrapped: fsspec.AbstractFileSystem | None = None, *, protocol: str = "faulty") -> Iterator[Faults]:
    """Create a file system for ``faulty://…`` URIs that passes calls on to another one, except those that should fail.

    Parameters
    ----------
    wrapped
        The file system with the files. Default: a new, empty one in memory.

    Examples
    --------
    >>> import errno
    >>> with faulty() as faults:
    ...     fs = fsspec.filesystem("faulty")
    ...     fs.pipe_file("/a", b"abc")
    ...     faults.fail("write", OSError(errno.ENOSPC, "No space left on device"))
    ...     try:
    ...         fs.pipe_file("/b", b"abc")
    ...     except OSError as error:
    ...         print(error.strerror, faults.calls["write"], faults.bytes["write"])
    No space left on device 2 3
    """
    memory = fsspec.filesystem("memory")
    root = f"/{uuid4().hex}"
    under = wrapped if wrapped is not None else DirFileSystem(path=root, fs=memory)
    plan = Faults(f"{protocol}://")
    made = type("_FaultyFileSystem", (_FaultyFileSystem,), {"protocol": protocol, "under": under, "faults": plan})
    fsspec.register_implementation(protocol, made, clobber=True)
    try:
        yield plan
    finally:
        if wrapped is None and memory.exists(root):
            memory.rm(root, recursive=True)


class _FaultyFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    cachable = False
    under: ClassVar[Any]
    faults: ClassVar[Faults]

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002  # fsspec's signature
        self.faults.note("list")
        return self.under.ls(self._strip_protocol(path), detail=detail, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        return self.under.info(self._strip_protocol(path), **kwargs)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:  # noqa: FBT001, FBT002  # fsspec's signature
        self.faults.note("mkdir")
        self.under.makedirs(self._strip_protocol(path), exist_ok=exist_ok)

    def rm_file(self, path: str) -> None:
        self.faults.note("delete")
        self.under.rm_file(self._strip_protocol(path))

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        self.faults.note("move")
        self.under.mv(self._strip_protocol(path1), self._strip_protocol(path2), **kwargs)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        found: bytes = self.under.cat_file(self._strip_protocol(path), start=start, end=end)
        self.faults.note("read", len(found))
        return found

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        if mode == "create":
            self.faults.note("create", len(value))
            self.under.pipe_file(self._strip_protocol(path), value, mode="create")
            return
        with self.open(path, "wb") as file:
            file.write(value)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.RawIOBase:
        if "r" in mode:
            self.faults.paths[path] += 1
            return _Reading(self, path, self.info(path)["size"])
        self.faults.note("open")
        return _Writing(self.faults, self.under.open(path, mode))


class _Reading(Positioned):
    """A file by position: what is wrapped may share one position among all who read."""

    def __init__(self, fs: _FaultyFileSystem, path: str, size: int) -> None:
        super().__init__(0, size)
        self._fs, self._path, self.size = fs, path, size

    def _fetch(self, start: int, stop: int) -> bytes:
        return self._fs.cat_file(self._path, start, stop)


class _Writing(io.RawIOBase):
    """A file to be written; what was written before a fault stays, as it does on a disk."""

    def __init__(self, faults: Faults, file: Any) -> None:
        self._faults, self._file = faults, file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._faults.note("write", len(data))
        return int(self._file.write(data))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()
            self._faults.note("close")
