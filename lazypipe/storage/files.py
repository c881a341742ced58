"""Lists of files: globs expanded by us, each file with size and stamp. The list is what a run reads, and its record."""

from __future__ import annotations

import glob
import os
import re
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lazypipe.errors import SourceError, first_line
from lazypipe.storage import uri as uris

__all__ = ["FORMATS", "FileInfo", "expand", "format_of"]

FORMATS: Mapping[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".csv.gz", ".csv.zst"),
    "ndjson": (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".ndjson.zst", ".jsonl.zst"),
    "ipc": (".arrow", ".ipc", ".feather"),
}
"""Format → endings of file names."""

_HIDDEN = re.compile(r"(^|/)[._]")
"""Hidden files and folders: what is being written, and what other tools put beside their data."""


@dataclass(frozen=True)
class FileInfo:
    """One file as it was found: its URI, its size in bytes, and a stamp that changes when it is rewritten.

    ``size`` and ``stamp`` are None where the protocol does not tell.
    """

    uri: str
    size: int | None
    stamp: str | None = None


def format_of(name: str) -> str | None:
    """Return the format that a file name stands for, None if it does not tell.

    Examples
    --------
    >>> format_of("flights-*.csv.gz"), format_of("x.txt")
    ('csv', None)
    """
    plain = name.split("::", maxsplit=1)[0].lower()
    return next((f for f, endings in FORMATS.items() if plain.endswith(endings)), None)


def expand(
    patterns: Iterable[str], options: Mapping[str, Any] | None = None, *, endings: Sequence[str] = ()
) -> tuple[FileInfo, ...]:
    """Return the files that URIs and glob patterns name, in the order given and by name within a pattern.

    A folder stands for all files below it that have one of ``endings``; hidden files and folders are passed over.

    Raises
    ------
    SourceError
        If a pattern matches nothing, a file does not exist, or a folder cannot be listed.
    """
    found: dict[str, FileInfo] = {}
    for pattern in patterns:
        try:
            listed = _list(pattern, options, tuple(endings))
        except SourceError:
            raise
        except Exception as error:  # whatever a file system raises, the caller learns which URI it was
            uri = error.filename if isinstance(error, OSError) and isinstance(error.filename, str) else pattern
            raise SourceError(
                f"cannot be listed: {_reason(error)}", uri=uri, fix="check path, rights and network"
            ) from error
        found.update((f.uri, f) for f in listed)
    return tuple(found.values())


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)


def _list(pattern: str, options: Mapping[str, Any] | None, endings: tuple[str, ...]) -> list[FileInfo]:
    if uris.is_local(pattern):
        return _list_local(uris.local_path(pattern), endings)
    if uris.protocol(pattern) in ("http", "https", "hf") and "::" not in pattern:
        return [_head(pattern)]
    return _list_remote(pattern, options, endings)


def _is_glob(path: str) -> bool:
    return any(c in path for c in "*?[")


def _list_local(path: str, endings: tuple[str, ...]) -> list[FileInfo]:
    if not _is_glob(path) or os.path.exists(path):
        if os.path.isdir(path):
            return _walk(path, endings)
        try:
            return [_stat(path)]
        except FileNotFoundError:
            raise SourceError(
                "there is no such file", uri=path, fix="check the path; it starts from the definition's folder"
            ) from None
    _refuse_unreadable_folders(path)
    matches = sorted(p for p in glob.glob(path, recursive=True) if os.path.isfile(p))
    if not matches:
        raise SourceError("no file matches", uri=path, fix="check the pattern; it starts from the definition's folder")
    return [_stat(p) for p in matches]


def _refuse_unreadable_folders(pattern: str) -> None:
    """Tell unreadable folders from empty ones: glob passes over both in silence."""
    above = os.path.dirname(pattern)
    if _is_glob(above):
        _refuse_unreadable_folders(above)
    for folder in glob.glob(above, recursive=True):
        if os.path.isdir(folder):
            os.scandir(folder).close()


def _stat(path: str) -> FileInfo:
    found = os.stat(path)
    return FileInfo(path, found.st_size, str(found.st_mtime_ns))


def _walk(folder: str, endings: tuple[str, ...]) -> list[FileInfo]:
    def refuse(error: OSError) -> None:
        raise error

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(f for f in folders if not _HIDDEN.match(f))
        found += [
            _stat(os.path.join(parent, n))
            for n in sorted(names)
            if not _HIDDEN.match(n) and n.lower().endswith(endings or ("",))
        ]
    if not found:
        raise SourceError(
            "the folder holds no data file", uri=folder, fix=f"expected files that end in {', '.join(endings)}"
        )
    return found


def _head(uri: str) -> FileInfo:
    if not uri.startswith("http"):
        return FileInfo(uri, None)
    request = urllib.request.Request(uri, method="HEAD")  # noqa: S310  # http and https only, see the caller
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        size = answer.headers.get("Content-Length")
        stamp = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
    return FileInfo(uri, int(size) if size else None, stamp)


def _list_remote(pattern: str, options: Mapping[str, Any] | None, endings: tuple[str, ...]) -> list[FileInfo]:
    fs, path = uris.file_system(pattern, options)
    head, chain, tail = pattern.partition("::")
    scheme = uris.protocol(head)

    def whole(name: str) -> str:
        return name if "://" in name else f"{scheme}://{name.lstrip('/')}" + (chain + tail)

    def info(details: Mapping[str, Any]) -> FileInfo:
        stamp = next((details[k] for k in ("ETag", "etag", "mtime", "created", "LastModified") if details.get(k)), None)
        return FileInfo(whole(details["name"]), details.get("size"), None if stamp is None else str(stamp))

    if _is_glob(head):
        matches = fs.glob(path, detail=True)
        files = [d for n, d in sorted(matches.items()) if d["type"] == "file" and ("/." in path or "/." not in f"/{n}")]
        if not files:
            raise SourceError("no file matches", uri=pattern, fix="check the pattern")
        return [info(d) for d in files]
    try:
        details = fs.info(path)
    except FileNotFoundError:
        raise SourceError("there is no such file", uri=pattern, fix="check the URI") from None
    if details["type"] != "directory":
        return [info(details)]
    below = {n.removeprefix(path): d for n, d in sorted(fs.find(path, detail=True).items())}
    kept = [d for n, d in below.items() if n.lower().endswith(endings or ("",)) and not _HIDDEN.search(n)]
    if not kept:
        raise SourceError(
            "the folder holds no data file", uri=pattern, fix=f"expected files that end in {', '.join(endings)}"
        )
    return [info(d) for d in kept]
