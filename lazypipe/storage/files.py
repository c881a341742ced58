"""Lists of files: globs expanded by us, each file with size and stamp. The list is what a run reads, and its record."""

from __future__ import annotations

import fnmatch
import os
import re
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from lazypipe.errors import SourceError, first_line
from lazypipe.storage import uri as uris

__all__ = ["FORMATS", "FileInfo", "expand", "format_of", "is_part", "part_key", "read_key"]

FORMATS: Mapping[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".csv.gz", ".csv.zst"),
    "ndjson": (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".ndjson.zst", ".jsonl.zst"),
    "ipc": (".arrow", ".ipc", ".feather"),
}
"""Format → endings of file names."""

_HIDDEN = re.compile(r"(^|/)[._]")
"""Hidden files and folders: what is being written, and what other tools put beside their data."""


_PART = "\0"
"""What no URI has in it."""


class _NoFiles(SourceError):
    """A pattern matches no file, or a folder holds none."""


class FileInfo(NamedTuple):
    """One file as it was found: its URI, its size in bytes, and a stamp that changes when it is rewritten.

    ``size`` and ``stamp`` are None where the protocol does not tell. (A tuple, because there may be many thousands.) With an
    ``end``, only the bytes from ``start`` up to there are meant: rows of a text file, which is not compressed.
    """

    uri: str
    size: int | None
    stamp: str | None = None
    start: int = 0
    end: int | None = None

    @property
    def key(self) -> str:
        """What it goes by among parts of files: the URI of a whole one.

        Examples
        --------
        >>> FileInfo("a.csv", 9).key, FileInfo("a.csv", 9, end=9).key, FileInfo("a.csv", 9, None, 4, 9).key == "a.csv"
        ('a.csv', 'a.csv', False)
        """
        return (
            self.uri if not self.start and self.end in (None, self.size) else part_key(self.uri, self.start, self.end)
        )

    @property
    def length(self) -> int | None:
        """How many bytes are meant."""
        return self.size if self.end is None else self.end - self.start


def part_key(uri: str, start: int, end: int | None) -> str:
    """Return what a part of a file goes by; without an ``end`` it is the file.

    Examples
    --------
    >>> part_key("a.csv", 0, None), read_key(part_key("a.csv", 4, 9)), read_key("a.csv")
    ('a.csv', ('a.csv', 4, 9), ('a.csv', 0, None))
    """
    return uri if end is None else f"{uri}{_PART}{start}-{end}"


def is_part(key: str) -> bool:
    """Whether what goes by a key is a part of a file."""
    return _PART in key


def read_key(key: str) -> tuple[str, int, int | None]:
    """Return URI, start and end of what goes by a key."""
    uri, part, told = key.partition(_PART)
    if not part:
        return uri, 0, None
    start, _, end = told.partition("-")
    return uri, int(start), int(end)


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
    patterns: Iterable[str],
    options: Mapping[str, Any] | None = None,
    *,
    endings: Sequence[str] = (),
    patient: bool = False,
) -> tuple[FileInfo, ...]:
    """Return the files that URIs and glob patterns name, in the order given and by name within a pattern.

    A folder stands for all files below it that have one of ``endings``; hidden files and folders are passed over.

    Parameters
    ----------
    patient
        Whether a pattern may match nothing, and a folder may hold nothing.

    Raises
    ------
    SourceError
        If a pattern matches nothing, a file does not exist, or a folder cannot be listed.
    """
    found: dict[str, FileInfo] = {}
    for pattern in patterns:
        try:
            listed = _list(pattern, options, tuple(endings))
        except _NoFiles:
            if not patient:
                raise
            listed = []
        except SourceError:
            raise
        except Exception as error:  # whatever a file system raises, the caller learns which URI it was
            uri = error.filename if isinstance(error, OSError) and isinstance(error.filename, str) else pattern
            raise SourceError(
                f"cannot be listed: {_reason(error)}", uri=uri, fix="check path, rights and network"
            ) from error
        found.update({f.uri: f for f in listed})
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
    matches = _glob(path)
    if not matches:
        raise _NoFiles("no file matches", uri=path, fix="check the pattern; it starts from the definition's folder")
    return matches


def _stat(path: str) -> FileInfo:
    found = os.stat(path)
    return FileInfo(path, found.st_size, str(found.st_mtime_ns))


def _info(path: str, entry: os.DirEntry[str]) -> FileInfo:
    found = entry.stat()
    # without the checks of a call: there may be very many
    return tuple.__new__(FileInfo, (path, found.st_size, str(found.st_mtime_ns), 0, None))


def _glob(pattern: str) -> list[FileInfo]:
    """Return the files that a pattern matches, as ``glob.glob`` would, but each folder and each file is looked at once.

    An unreadable folder is an error, not an empty one. A folder that is a link to one that it stands in is not gone into again.
    """
    root, parts = "/" if pattern.startswith("/") else "", pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if _is_glob(part))
    start = "/".join(parts[:fixed])
    found: dict[str, FileInfo] = {}
    _match(start or root, [p for p in parts[fixed:] if p], found)
    return [found[path] for path in sorted(found)]


def _match(
    folder: str,
    parts: Sequence[str],
    found: dict[str, FileInfo],
    inside: frozenset[tuple[int, int]] = frozenset(),
    entries: Sequence[os.DirEntry[str]] | None = None,
) -> None:
    """Collect the files below ``folder`` that match the parts of a pattern; ``inside`` are the folders that ``**`` is in."""
    part, rest = parts[0], parts[1:]
    if not _is_glob(part):
        _match_name(folder, part, rest, found)
        return
    deep = part == "**"
    entries = _entries(folder) if entries is None else entries
    if deep and entries:
        at = os.stat(folder or ".")
        if (at.st_dev, at.st_ino) in inside:
            return
        inside |= {(at.st_dev, at.st_ino)}
        if rest:
            _match(folder, rest, found, entries=entries)
    fits = re.compile(fnmatch.translate("*" if deep else part)).match
    start = folder if folder in ("", "/") else f"{folder}/"
    for entry in entries:
        name = entry.name
        if not fits(name) or (name[0] == "." and part[0] != "."):
            continue
        path = start + name
        if (rest or deep) and (entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(path))):
            _match(path, parts, found, inside) if deep else _match(path, rest, found)
        elif not rest and (entry.is_file(follow_symlinks=False) or os.path.isfile(path)):
            found[path] = _info(path, entry)


def _join(folder: str, name: str) -> str:
    return f"{folder}{name}" if folder in ("", "/") else f"{folder}/{name}"


def _match_name(folder: str, name: str, rest: Sequence[str], found: dict[str, FileInfo]) -> None:
    path = _join(folder, name)
    if rest:
        _match(path, rest, found)
    elif os.path.isfile(path):
        found[path] = _stat(path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _walk(folder: str, endings: tuple[str, ...]) -> list[FileInfo]:
    found = _below(folder, endings or ("",))
    if not found:
        raise _NoFiles(
            "the folder holds no data file", uri=folder, fix=f"expected files that end in {', '.join(endings)}"
        )
    return found


def _below(folder: str, endings: tuple[str, ...]) -> list[FileInfo]:
    """Return the files of a folder by name, then those of the folders in it; links to folders are not gone into."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name[0] in "._":
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif name.lower().endswith(endings) and not (entry.is_symlink() and os.path.isdir(entry.path)):
                files.append((name, entry))
    start = folder if folder.endswith("/") else f"{folder}/"
    found = [_info(start + name, entry) for name, entry in sorted(files, key=itemgetter(0))]
    for name in sorted(folders):
        found += _below(start + name, endings)
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
            raise _NoFiles("no file matches", uri=pattern, fix="check the pattern")
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
        raise _NoFiles(
            "the folder holds no data file", uri=pattern, fix=f"expected files that end in {', '.join(endings)}"
        )
    return [info(d) for d in kept]
