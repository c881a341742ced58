"""Servers that are asked over one connection, one request at a time: SFTP and FTP.

Polars and pyarrow write from threads of their own, several files at once. On such a connection one file's answers would be taken for another's. So whoever
reads has a connection of its own, and what is written stands on this machine until it is whole, and is then sent in one go.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from select import select
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    import fsspec

__all__ = ["SILENCE", "Pool", "bound_silence", "create_whole", "created", "has_ended", "is_single"]

SILENCE = 60.0
"""Seconds without a byte after which a server is taken to be away, however long it takes to get all of them."""

_NAMED = frozenset({"sftp", "ssh"})
_SINGLE = _NAMED | {"ftp", "ftps"}
_MOVING = frozenset({"webdav", "dav"})
_SENT = 1 << 30
"""Bytes that go to an FTP server with one command: not every server takes a file in parts."""


def is_single(protocol: str) -> bool:
    """Whether a protocol's connection serves one request after the other."""
    return protocol in _SINGLE


def has_ended(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether the server has ended the connection of a file system, which fsspec keeps for as long as the process lives."""
    client = getattr(fs, "client", None)
    if client is not None:
        transport = client.get_transport()
        return transport is None or not transport.is_active()
    # nothing is to be read where nothing was asked, but for a goodbye, or the end
    return fs.ftp.sock is None or bool(select([fs.ftp.sock], [], [], 0)[0])


def bound_silence(fs: fsspec.AbstractFileSystem) -> None:
    """Have a server that stays connected and says nothing end in a TimeoutError: that of SFTP would be waited for without end."""
    channel = getattr(getattr(fs, "ftp", None), "get_channel", None)
    if channel is not None:
        channel().settimeout(SILENCE)


class Pool:
    """Connections for those who read: one each, and what one has done with serves the next one."""

    def __init__(self) -> None:
        self._idle: dict[str, list[fsspec.AbstractFileSystem]] = {}
        self._lock = threading.Lock()

    def take(self, key: str, connect: Callable[[], fsspec.AbstractFileSystem]) -> fsspec.AbstractFileSystem:
        """Return a file system that nobody else uses until it is put back, and that remembers no listing."""
        with self._lock:
            idle = self._idle.get(key, [])
            while idle:
                fs = idle.pop()
                if not has_ended(fs):
                    fs.invalidate_cache()
                    return fs
        return connect()

    def put(self, key: str, fs: fsspec.AbstractFileSystem) -> None:
        """Have it serve somebody else."""
        with self._lock:
            self._idle.setdefault(key, []).append(fs)


def created(fs: fsspec.AbstractFileSystem, path: str) -> BinaryIO:
    """Open a file to write it; it is whole in the store once it is closed."""
    if _SINGLE.isdisjoint(_names(fs)):
        return cast("BinaryIO", fs.open(path, "wb"))
    return cast("BinaryIO", _Sent(fs, path))


class _Sent:
    """A file that stands on this machine until it is closed, and is then sent."""

    def __init__(self, fs: fsspec.AbstractFileSystem, path: str) -> None:
        self._fs, self._path = fs, path
        self._file = tempfile.NamedTemporaryFile(prefix="lazypipe-")  # noqa: SIM115  closed with this one

    def close(self) -> None:
        if not self._file.closed:
            with self._file:
                self._file.flush()
                self._fs.put_file(self._file.name, self._path, block_size=_SENT)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def create_whole(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Make a small file appear, whole and only if there is none; raises FileExistsError, and whatever the store raises.

    Object stores have a request for that. Over SFTP a rename never replaces a file, where fsspec would look whether there is one and then write; over WebDAV
    a move need not. Of other protocols (FTP, HDFS, SMB) fsspec knows no better than to look first.
    """
    if not _NAMED.isdisjoint(_names(fs)):
        rename = fs.ftp.rename
    elif not _MOVING.isdisjoint(_names(fs)):
        rename = fs.client.move
    else:
        fs.pipe_file(path, data, mode="create")
        return
    staged = f"{path}.{secrets.token_hex(8)}.tmp"
    try:
        fs.pipe_file(staged, data)
        try:
            rename(staged, path)
        except Exception:  # of whatever client
            if fs.exists(path):
                raise FileExistsError(path) from None
            raise
    finally:
        # it has the other name by now; what cannot be removed is left to vacuum
        with suppress(Exception):
            fs.rm_file(staged)


def _names(fs: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
