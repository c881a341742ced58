"""The content of files: BLAKE3 hashes, streamed, and cached as long as a file's size and stamp stay the same."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from lazypipe.errors import SourceError, reason_of
from lazypipe.storage import uri as uris
from lazypipe.storage.files import FileInfo
from lazypipe.storage.parquet.row_groups import BorderHash, Borders, begun

__all__ = ["PIECE", "HashCache", "has_grown", "hash_file", "hash_files", "unchanged", "unreadable"]

PIECE = 1 << 20
"""Bytes of a remote file that are read at a time."""
_LARGE = 4 << 20
"""Bytes of a local file that are read at a time, and up to which more threads cost more than they bring.

Not mapped: a file that is cut short meanwhile would end the process.
"""
_SMALL = 1 << 16
"""Bytes that are read first, which many files do not have: of more, each would be given pages of its own."""
_YOUNG = 2_000_000_000
"""Nanoseconds within which a file may be written again under the same stamp, as file systems tick."""
_MOST = 100_000
"""Hashes that a cache keeps."""


def hash_file(uri: str, storage_options: Mapping[str, Any] | None = None, made: BorderHash | None = None) -> str:
    """Return the BLAKE3 hash of a file's content, as 64 hexadecimal digits; memory does not grow with the file.

    What is ``made`` of the file is given all of it.

    Raises
    ------
    SourceError
        If the file cannot be read.

    Examples
    --------
    >>> import fsspec
    >>> fsspec.filesystem("memory").pipe_file("/content/a.txt", b"")
    >>> hash_file("memory://content/a.txt")[:16]
    'af1349b9f5f9a1a6'
    """
    try:
        return _local(uris.local_path(uri), made) if uris.is_local(uri) else _remote(uri, storage_options, made)
    except Exception as error:  # whatever a file system raises, the caller learns which file it was
        raise unreadable(uri, error) from error


def unreadable(uri: str, error: Exception) -> SourceError:
    """Return the error that says which file cannot be read, and why."""
    reason = reason_of(error)
    return SourceError(f"cannot be read: {reason}", uri=uri, fix="check the path, permissions and network")


def _local(path: str, given: BorderHash | None) -> str:
    # without a file object: opening one costs as much as hashing a small file
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        first = os.read(file, _SMALL)
        if len(first) < _SMALL and given is None:
            return blake3(first).hexdigest()
        left = os.fstat(file).st_size - len(first)
        made = blake3(max_threads=blake3.AUTO if left >= _LARGE else 1) if given is None else given
        made.update(first)
        # into the same memory again and again: new pages would take half as long as hashing does
        piece = bytearray(max(1, min(left, _LARGE)))
        view = memoryview(piece)
        with open(file, "rb", buffering=0, closefd=False) as raw:
            while read := raw.readinto(piece):
                made.update(view[:read])
        return made.hexdigest()
    finally:
        os.close(file)


def _remote(uri: str, storage_options: Mapping[str, Any] | None, given: BorderHash | None) -> str:
    fs, path = uris.file_system(uri, storage_options)
    digest = blake3() if given is None else given
    with fs.open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


Key = tuple[str, int, str]


@dataclass
class HashCache:
    """Hashes by URI, size and stamp, kept in one small JSON file on this machine; a cache that cannot be read is empty.

    ``borders`` are those of the row groups of large Parquet files, by their hashes.

    Examples
    --------
    >>> cache = HashCache(None)
    >>> cache.get(FileInfo("a.csv", 3, None)) is None
    True
    """

    path: str | None
    borders: dict[str, Borders] = field(default_factory=dict, init=False, repr=False)
    _known: dict[Key, str] = field(default_factory=dict, init=False, repr=False)
    _changed: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        """Read what is there."""
        if self.path is None:
            return
        with suppress(OSError, ValueError, TypeError, KeyError), open(self.path, "rb") as file:
            read = json.load(file)
            self._known = {(uri, size, stamp): digest for uri, size, stamp, digest in read["hashes"]}
            self.borders = {digest: Borders.read(plain) for digest, plain in read.get("borders", {}).items()}

    def get(self, file: FileInfo) -> str | None:
        """Return the hash of a file that has not changed since, None if that is not known."""
        return None if file.size is None or file.stamp is None else self._known.get((file.uri, file.size, file.stamp))

    def put(self, file: FileInfo, digest: str, listed_at: int, made: BorderHash | None = None) -> None:
        """Remember a hash, unless the file was so young when it was listed that its stamp may stand for other content too.

        Parameters
        ----------
        listed_at
            Nanoseconds since 1970 when the file's stamp was read, or before.
        made
            What the file was hashed with, if that knows the borders of its row groups.
        """
        if made is not None and made.borders is not None:
            self.borders[digest] = made.borders
        if file.size is None or file.stamp is None:
            return
        if file.stamp.isdecimal() and int(file.stamp) > listed_at - _YOUNG:
            return
        # the youngest last, so that the oldest go first
        self._known.pop((file.uri, file.size, file.stamp), None)
        self._known[file.uri, file.size, file.stamp] = digest
        self._changed = True

    def save(self) -> None:
        """Write what has been learned; what cannot be written is learned again."""
        if self.path is None or not self._changed:
            return
        kept = [[*key, digest] for key, digest in self._known.items()][-_MOST:]
        named = {digest for *_, digest in kept}
        borders = {digest: of for digest, of in self.borders.items() if digest in named}
        staged = f"{self.path}.{os.getpid()}.tmp"
        with suppress(OSError):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with open(staged, "w", encoding="utf-8") as file:
                # not dump: piece by piece takes ten times as long
                file.write(json.dumps({"format": 1, "hashes": kept, **({"borders": borders} if borders else {})}))
            os.replace(staged, self.path)
            self._changed = False


def unchanged(file: FileInfo) -> bool:
    """Whether a local file still has the size and stamp that it was listed with; of others it is not asked."""
    if file.stamp is None or not uris.is_local(file.uri):
        return True
    try:
        found = os.stat(uris.local_path(file.uri))
    except OSError:
        return False
    return (found.st_size, str(found.st_mtime_ns)) == (file.size, file.stamp)


def has_grown(file: FileInfo) -> bool:
    """Whether a local file is longer than it was listed; of others it is not asked."""
    if file.size is None or not uris.is_local(file.uri):
        return False
    try:
        return os.stat(uris.local_path(file.uri)).st_size > file.size
    except OSError:
        return False


def hash_files(
    files: Sequence[FileInfo],
    storage_options: Mapping[str, Any] | None = None,
    cache: HashCache | None = None,
    *,
    fixed: bool = False,
    groups: bool = False,
    clock: Callable[[], int] = time.time_ns,
) -> dict[str, str]:
    """Return URI → hash of the content of files, those left out that changed (or went) after they were listed.

    Parameters
    ----------
    cache
        Where hashes are looked up and remembered; the caller saves it.
    fixed
        Whether they never change once they are there, as those of a Delta table, whose stamps are not those of the store.
    groups
        Whether they are Parquet, and the cache is to know the row groups of large ones.
    clock
        Nanoseconds since 1970; stamps that are as young as it are not remembered.

    Raises
    ------
    SourceError
        If a file cannot be read.
    """
    found = {}
    for file in files:
        known = cache.get(file) if cache is not None else None
        if known is None:
            # read before the file is: what is written from here on has a stamp that is too young
            at = clock()
            if not (fixed or unchanged(file)):
                continue
            made = begun(file, storage_options) if groups else None
            known = hash_file(file.uri, storage_options, made)
            if not (fixed or unchanged(file)):
                continue
            if cache is not None:
                cache.put(file, known, at, made)
        found[file.uri] = known
    return found
