"""BLAKE3 of files' contents: streamed, small ones on one thread, large ones on all, on any protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import IO, Any

from blake3 import blake3

from lazypipe.errors import SourceError, first_line
from lazypipe.storage import uri as uris
from lazypipe.storage.files import FileInfo

__all__ = ["hash_file", "hash_lines", "hash_prefix", "hasher", "prefix_hasher"]

_CHUNK = 8 * 1024 * 1024
"""Bytes that are read at a time. Not mapped into memory: a file that is cut short meanwhile would end the process."""

_SMALL = 1024 * 1024
"""Up to this size more threads cost more than they bring."""


def hash_file(uri: str, storage_options: Mapping[str, Any] | None = None) -> str:
    """Return the BLAKE3 of a file's content, as 64 hexadecimal digits; raises SourceError if it cannot be read."""
    if uris.is_local(uri):
        try:
            return _hash_local(uris.local_path(uri))
        except OSError as error:
            raise _unreadable(uri, error) from error
    made = blake3(max_threads=blake3.AUTO)
    _open_and_update(made, uri, None, storage_options)
    return made.hexdigest()


def _hash_local(path: str) -> str:
    # without a file object: opening one costs as much as hashing a small file
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        first = os.read(file, _SMALL)
        made = blake3(first, max_threads=blake3.AUTO if len(first) == _SMALL else 1)
        while chunk := os.read(file, _CHUNK):
            made.update(chunk)
        return made.hexdigest()
    finally:
        os.close(file)


def hash_prefix(uri: str, size: int, storage_options: Mapping[str, Any] | None = None) -> str:
    """Return the BLAKE3 of the first ``size`` bytes of a file (of all, if it has less)."""
    made = blake3(max_threads=blake3.AUTO)
    _open_and_update(made, uri, size, storage_options)
    return made.hexdigest()


def hash_lines(uri: str, size: int, storage_options: Mapping[str, Any] | None = None) -> str:
    """Return the BLAKE3 of the first ``size`` bytes of a file; "" if they do not end with a line.

    What is appended to half a line changes that line, so that not only the new bytes must be read.
    """
    made = blake3(max_threads=blake3.AUTO)
    last = _open_and_update(made, uri, size, storage_options)
    return made.hexdigest() if last == b"\n" else ""


def hasher(storage_options: Mapping[str, Any] | None = None) -> Callable[[FileInfo], str]:
    """Return ``hash_file`` for files of one storage."""
    return lambda file: hash_file(file.uri, storage_options)


def prefix_hasher(storage_options: Mapping[str, Any] | None = None) -> Callable[[FileInfo, int], str]:
    """Return ``hash_lines`` for files of one storage."""
    return lambda file, size: hash_lines(file.uri, size, storage_options)


def _open_and_update(made: Any, uri: str, size: int | None, options: Mapping[str, Any] | None) -> bytes:
    """Put a file's content, or its start, into a hash; return the last byte."""
    try:
        fs, path = uris.file_system(uri, options)
        with fs.open(path, "rb", block_size=_CHUNK) as file:
            return _update(made, file, size)
    except Exception as error:  # any store's own errors: the caller learns which file it was
        raise _unreadable(uri, error) from error


def _update(made: Any, file: IO[bytes], size: int | None) -> bytes:
    last = b""
    while size != 0:
        chunk = file.read(_CHUNK if size is None else min(size, _CHUNK))
        if not chunk:
            break
        made.update(chunk)
        size = None if size is None else size - len(chunk)
        last = chunk[-1:]
    return last


def _unreadable(uri: str, error: Exception) -> SourceError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    return SourceError(f"cannot be read: {reason}", uri=uri, fix="check path, rights and network")
