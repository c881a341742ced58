"""BLAKE3 of what files begin with, on any protocol, and hashers for the files of one storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from blake3 import blake3

from lazypipe.storage import uri as uris
from lazypipe.storage.content import PIECE, hash_file, unreadable
from lazypipe.storage.files import FileInfo

__all__ = ["hash_lines", "hash_prefix", "hasher", "prefix_hasher"]


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


def _open_and_update(made: Any, uri: str, size: int, options: Mapping[str, Any] | None) -> bytes:
    """Put the start of a file's content into a hash; return the last byte."""
    last = b""
    try:
        fs, path = uris.file_system(uri, options)
        with fs.open(path, "rb") as file:
            while size and (chunk := file.read(min(size, PIECE))):
                made.update(chunk)
                size -= len(chunk)
                last = chunk[-1:]
    except Exception as error:  # any store's own errors: the caller learns which file it was
        raise unreadable(uri, error) from error
    return last
