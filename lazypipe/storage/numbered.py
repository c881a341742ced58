"""Numbered JSON files in one folder: each created exclusively and whole, each sealed by the BLAKE3 hash of its body.

Commits of datasets and records of the ledger are kept this way: of many writers one gets a number, and no reader meets half a file.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from errno import ENOTDIR
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from lazypipe.errors import StorageError, first_line
from lazypipe.storage import uri as uris
from lazypipe.storage.appearing import appear
from lazypipe.storage.connections import create_whole
from lazypipe.storage.deleting import delete

if TYPE_CHECKING:
    import fsspec

__all__ = ["NumberedFiles", "is_sealed", "seal", "seal_text", "written_at"]

_IN_THIS_PROCESS = threading.Lock()
"""For stores whose exclusive create is a look and then a write (fsspec's ``memory``)."""


def seal(body: Mapping[str, Any]) -> str:
    """Return the BLAKE3 hash of a body, whatever the order of its keys.

    Examples
    --------
    >>> seal({"a": 1, "b": 2}) == seal({"b": 2, "a": 1})
    True
    """
    return blake3(json.dumps(body, sort_keys=True).encode()).hexdigest()


def written_at(details: Mapping[str, Any]) -> datetime:
    """When a file was last written; the far past where the store does not say, so that it can be deleted at all."""
    found = next(
        (details[k] for k in ("mtime", "LastModified", "last_modified", "created", "updated") if details.get(k)), 0
    )
    if isinstance(found, int | float):
        return datetime.fromtimestamp(found, UTC)
    moment = datetime.fromisoformat(found) if isinstance(found, str) else found
    assert isinstance(moment, datetime)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seal_text(written: str) -> bytes:
    """Return a JSON object, as text, with the BLAKE3 hash of that text as the last thing in it.

    Examples
    --------
    >>> is_sealed(seal_text('{"a":1}')), is_sealed(seal_text('{"a":1}').replace(b"1", b"2", 1))
    (True, False)
    """
    data = written.encode()[:-1]
    return data + _tail(data)


def is_sealed(data: bytes) -> bool:
    """Whether bytes are what ``seal_text`` gave."""
    end = len(data) - _TAIL
    return end > 0 and data[end:] == _tail(memoryview(data)[:end])


def _tail(data: bytes | memoryview) -> bytes:
    """Return what is to end a JSON object of which the last bracket is left out."""
    # in two pieces: a long one is not to be copied for the bracket
    return b',"blake3":"%s"}' % blake3(data).update(b"}").hexdigest().encode()


_TAIL = 64 + len(',"blake3":""}')


class NumberedFiles:
    """The files ``<number>.json`` of one folder, on any file system that can create a file exclusively.

    ``what`` is what messages call them: ``the commit log``.

    Examples
    --------
    >>> files = NumberedFiles("memory://numbered", what="the log")
    >>> files.create(1, b"{}")
    >>> files.numbers(), files.read(1), files.uri_of(1)
    ([1], b'{}', 'memory://numbered/00000000000000000001.json')
    """

    def __init__(self, uri: str, storage_options: Mapping[str, Any] | None = None, *, what: str) -> None:
        self.uri = uri
        self.what = what
        self._options = storage_options
        self._path = uris.whole_path(uri) if uris.is_local(uri) else self._place[1]

    @property
    def _place(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The file system, and the path in it; that of the thread that asks, as connections of some serve one at a time."""
        with self._errors():
            return uris.file_system(self.uri, self._options)

    @property
    def _fs(self) -> fsspec.AbstractFileSystem:
        return self._place[0]

    def numbers(self) -> list[int]:
        """Return the numbers that exist, the least first; empty where there is no folder."""
        parts = (name.rsplit("/", 1)[-1].partition(".") for name in self._names())
        return sorted(int(stem) for stem, _, end in parts if end == "json" and stem.isdecimal())

    def last(self) -> int:
        """Return the greatest number that exists, 0 if there is none; the names of a long log are not parsed for it."""
        names = self._names() if uris.is_local(self.uri) else self.names()  # a long log has many, and a run asks often
        found = max([n for n in names if len(n) == 25 and n[-5:] == ".json"], default="0.json")
        stem = found.removesuffix(".json")
        # something else in the folder that sorts behind: look closely
        return int(stem) if stem.isdecimal() else max(self.numbers(), default=0)

    def half_written(self) -> dict[str, Mapping[str, Any]]:
        """Return the files that killed writers have left: each path with the details that the store gives."""
        return {name: details for name, details in self._listed().items() if name.endswith(".tmp")}

    def listed(self, folder: str) -> dict[str, Mapping[str, Any]]:
        """List a subfolder: the name of each file, with the details that the store gives."""
        return {path.rpartition("/")[2]: details for path, details in self._listed(f"/{folder}").items()}

    def names(self) -> list[str]:
        """Return the names of all files of the folder, whatever they are."""
        return [name.rsplit("/", 1)[-1] for name in self._names()]

    def _names(self) -> list[str]:
        if not uris.is_local(self.uri):
            return list(self._listed())
        with self._errors():
            try:
                # names only: a long log has many files, and none of them needs to be looked at
                return os.listdir(self._path)
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _listed(self, below: str = "") -> dict[str, Mapping[str, Any]]:
        path = self._path + below
        # a listing that is cached would hide other writers
        self._fs.invalidate_cache(path)
        with self._errors():
            try:
                return {d["name"].rstrip("/"): d for d in self._fs.ls(path, detail=True)}
            except (FileNotFoundError, NotADirectoryError):
                return {}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Whatever a store raises, the caller learns which folder it was."""
        try:
            yield
        except Exception as error:  # those of clients of object stores are of many kinds
            reason = error.strerror if isinstance(error, OSError) else None
            fix = "then run again" if isinstance(error, ImportError) else "check permissions and network"
            raise StorageError(
                f"{self.what} cannot be read: {reason or first_line(error)}", uri=self.uri, fix=fix
            ) from error

    def read(self, number: int) -> bytes | None:
        """Return a file's content, None if there is no such file; raises StorageError if it cannot be read."""
        return self.read_named(f"{number:020}.json")

    def read_named(self, name: str) -> bytes | None:
        """Return the content of a file of the folder that has another name than a number."""
        with self._errors():
            try:
                if uris.is_local(self.uri):
                    with open(f"{self._path}/{name}", "rb") as file:
                        return file.read()
                # as a range: for a whole file a client may ask how long it is, or know of none by a listing that is older than it
                return bytes(self._fs.cat_file(f"{self._path}/{name}", start=0))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def create(self, number: int, data: bytes) -> None:
        """Make a file appear, all at once.

        Raises
        ------
        FileExistsError
            If somebody else created this number first.
        Exception
            Whatever the store raises.
        """
        self.create_named(f"{number:020}.json", data)

    def create_named(self, name: str, data: bytes) -> None:
        """Make a file appear that has another name than a number; see ``create``."""
        path = f"{self._path}/{name}"
        folder = path.rpartition("/")[0]
        if not uris.is_local(self.uri):
            uris.make_folder(self._fs, folder)
            with _IN_THIS_PROCESS:
                create_whole(self._fs, path, data)
            return
        if not os.path.isdir(folder):
            try:
                os.makedirs(folder, exist_ok=True)
            except FileExistsError:  # not to be taken for a number that somebody else has got
                raise NotADirectoryError(ENOTDIR, "there is a file where the folder should be") from None
        if os.path.exists(path):
            raise FileExistsError(path)  # told without writing anything; who comes between is met by the link
        staged = f"{path}.{secrets.token_hex(8)}.tmp"
        try:
            with open(staged, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            appear(staged, path)
        finally:
            # the file stands or falls with the link; what cannot be removed is left to vacuum
            with suppress(OSError):
                os.unlink(staged)

    def remove(self, numbers: Iterable[int]) -> None:
        """Delete files; somebody else may have been first."""
        self.remove_named([f"{number:020}.json" for number in numbers])

    def remove_named(self, names: Iterable[str]) -> None:
        """Delete files that have other names than numbers."""
        delete(self._fs, [f"{self._path}/{name}" for name in names])

    def uri_of(self, number: int) -> str:
        """Return the URI of a file, whether it exists or not."""
        return f"{self.uri}/{number:020}.json"
