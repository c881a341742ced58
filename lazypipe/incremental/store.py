"""What is looked up in the storage besides the data files of a source: other files in their folders, and checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lazypipe.errors import SourceError, reason_of
from lazypipe.spec.model import NOTHING
from lazypipe.storage import uri as uris
from lazypipe.storage.content import hash_file, unreadable
from lazypipe.storage.files import FileInfo

__all__ = ["ALGORITHMS", "Store", "folder_of", "name_of", "root_of"]

ALGORITHMS = ("blake3", "sha256", "md5")
"""Checksums that manifests may have."""

_CHUNK = 1024 * 1024


def _parts(uri: str) -> tuple[str, str, str]:
    """Return a URI as scheme with slashes, path, and what it is chained to."""
    head, chain, tail = uri.partition("::")
    scheme, slashes, path = head.rpartition("://")
    return scheme + slashes, path, chain + tail


def folder_of(uri: str) -> str:
    """Return the folder that a file stands in.

    Examples
    --------
    >>> folder_of("s3://b/x/a.csv"), folder_of("/a.csv"), folder_of("a.csv"), folder_of("zip://x/a.csv::/z.zip")
    ('s3://b/x', '/', '', 'zip://x::/z.zip')
    """
    scheme, path, chain = _parts(uri)
    above, slash, _ = path.rpartition("/")
    return scheme + (above or slash) + chain


def name_of(uri: str) -> str:
    """Return a file's name, without folders.

    Examples
    --------
    >>> name_of("zip://x/a.csv::/z.zip")
    'a.csv'
    """
    return _parts(uri)[1].rpartition("/")[2]


def within(folder: str, name: str) -> str:
    """Return the URI of a file below a folder; ``name`` may be a path, or a whole URI.

    Examples
    --------
    >>> within("/d", "x/a.csv"), within("zip://::/z.zip", "./a.csv"), within("/d", "s3://b/a.csv"), within("", "a.csv")
    ('/d/x/a.csv', 'zip://a.csv::/z.zip', 's3://b/a.csv', 'a.csv')
    """
    if "://" in name or name.startswith("/"):
        return name
    scheme, path, chain = _parts(folder)
    path = f"{path.rstrip('/')}/{name.removeprefix('./')}" if path else name.removeprefix("./")
    return scheme + path + chain


def root_of(pattern: str) -> str:
    """Return the folder that all files of a pattern are below.

    Examples
    --------
    >>> root_of("s3://b/x/day=*/*.csv"), root_of("data/x/a.csv"), root_of("/data/x")
    ('s3://b/x', 'data/x', '/data/x')
    """
    scheme, path, chain = _parts(pattern)
    parts = path.split("/")
    fixed = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[")), None)
    if fixed is None:
        return folder_of(pattern) if "." in parts[-1] else pattern.rstrip("/")
    return scheme + ("/".join(parts[:fixed]) or "/" * path.startswith("/")) + chain


@dataclass(frozen=True)
class Store:
    """A storage to look into; each folder is listed once."""

    storage_options: Mapping[str, Any] = field(default=NOTHING, repr=False)
    _listed: dict[str, tuple[FileInfo, ...]] = field(default_factory=dict, repr=False, compare=False)

    def beside(self, folder: str) -> tuple[FileInfo, ...]:
        """Return the files that stand right in a folder, hidden ones too; none where there is no such folder.

        Raises
        ------
        SourceError
            If it cannot be listed.
        """
        if folder not in self._listed:
            try:
                self._listed[folder] = self._list(folder)
            except (FileNotFoundError, NotADirectoryError):
                self._listed[folder] = ()
            except Exception as error:  # any store's own errors: the caller learns which folder it was
                raise SourceError(
                    f"cannot be listed: {reason_of(error)}", uri=folder, fix="check the path, permissions and network"
                ) from error
        return self._listed[folder]

    def _list(self, folder: str) -> tuple[FileInfo, ...]:
        if uris.is_local(folder):
            path = uris.local_path(folder)
            with os.scandir(path or ".") as entries:
                return tuple(FileInfo(within(folder, e.name), e.stat().st_size) for e in entries if e.is_file())
        fs, path = uris.file_system(folder, self.storage_options)
        found = fs.ls(path, detail=True)
        names = ((d["name"].rstrip("/").rpartition("/")[2], d) for d in found if d["type"] == "file")
        return tuple(FileInfo(within(folder, name), d.get("size")) for name, d in names)

    def read(self, uri: str) -> bytes:
        """Return a small file's content; raises SourceError if it cannot be read."""
        try:
            fs, path = uris.file_system(uri, self.storage_options)
            return bytes(fs.cat_file(path))
        except Exception as error:  # any store's own errors: the caller learns which file it was
            raise unreadable(uri, error) from error

    def checksum(self, uri: str, algorithm: str) -> str:
        """Return a file's checksum in hexadecimal digits; raises SourceError if it cannot be read."""
        if algorithm == "blake3":
            return hash_file(uri, self.storage_options)
        made = hashlib.new(algorithm, usedforsecurity=False)
        try:
            with uris.opened(uri, self.storage_options) as file:
                while chunk := file.read(_CHUNK):
                    made.update(chunk)
        except Exception as error:  # any store's own errors: the caller learns which file it was
            raise unreadable(uri, error) from error
        return made.hexdigest()
