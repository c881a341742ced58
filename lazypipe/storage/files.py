"""Listings of files: globs expanded by us, each file with size and stamp. The listing is what a run reads and records."""

from __future__ import annotations

import os
import re
import sys
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from errno import ELOOP, ENOENT
from functools import cached_property
from itertools import chain, groupby
from operator import itemgetter
from stat import S_IFREG
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload
from urllib.parse import urlsplit

from lazypipe.errors import SourceError, closest, reason_of
from lazypipe.spec.endings import format_of
from lazypipe.spec.model import NOTHING
from lazypipe.storage import uri as uris
from lazypipe.storage.local_files import Names, below, is_glob, matching

if TYPE_CHECKING:
    from email.message import Message

    from fsspec import AbstractFileSystem

__all__ = [
    "FROM_FOLDER",
    "FileColumns",
    "FileInfo",
    "MadeLater",
    "Named",
    "expand",
    "exported",
    "files_at",
    "is_part",
    "named",
    "part_key",
    "read_key",
]

FROM_FOLDER = "; it starts from the definition's folder"
"""What is said of a path in a definition that leads nowhere."""

_HIDDEN = re.compile(r"(^|/)[._]")
"""Hidden files and folders: what is being written, and what other tools put beside their data."""


T = TypeVar("T")

_PART = "\0"
"""What no URI has in it."""


class _NoFiles(SourceError):
    """A pattern matches no file, or a folder holds none."""


class _NoFile(SourceError):
    """There is no file of a name."""


class FileInfo(NamedTuple):
    """One file as it was found: its URI, its size in bytes, and a stamp that changes when it is rewritten.

    ``size`` and ``stamp`` are None where the protocol does not tell. (A tuple, because there may be many thousands.) With an
    ``end``, only the bytes from ``start`` up to there are meant: rows of a text file, which is not compressed, or the row groups of a
    Parquet file that begin there.
    """

    uri: str
    size: int | None
    stamp: str | None = None
    start: int = 0
    end: int | None = None

    @property
    def key(self) -> str:
        """Its key: the URI of a whole file, and of a part the URI with its bounds.

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


class MadeLater(Sequence[T]):
    """Many values that are made, all at once, only if somebody asks for one: mostly nobody does. They equal a tuple of the same."""

    @abstractmethod
    def _make(self) -> tuple[T, ...]:
        """Make them."""

    @cached_property
    def _made(self) -> tuple[T, ...]:
        return self._make()

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self._made[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MadeLater | tuple) and self._made == tuple(other)

    def __hash__(self) -> int:
        return hash(self._made)

    def __repr__(self) -> str:
        return repr(self._made)


class FileColumns(MadeLater[FileInfo]):
    """Whole files of local folders as columns, with stamps as the numbers that they are; made one by one only if somebody asks for them.

    Examples
    --------
    >>> files = FileColumns([Names("d/", ["a.csv"])], [10], [1700000000000000000])
    >>> files[0], files == (FileInfo("d/a.csv", 10, "1700000000000000000"),)
    (FileInfo(uri='d/a.csv', size=10, stamp='1700000000000000000', start=0, end=None), True)
    """

    def __init__(self, folders: list[Names], sizes: list[int], moments: list[int]) -> None:
        self.folders, self.sizes, self.moments = folders, sizes, moments

    def _make(self) -> tuple[FileInfo, ...]:
        return tuple(map(FileInfo, self.below("")[1], self.sizes, map(str, self.moments)))

    def below(self, start: str) -> Names:
        """Return the names relative to ``start`` if that is the one folder of all; otherwise whole."""
        if [start] == [folder for folder, _ in self.folders]:
            return self.folders[0]
        return Names("", [folder + name for folder, of in self.folders for name in of])

    def __len__(self) -> int:
        return len(self.sizes)


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


def expand(
    patterns: Iterable[str],
    options: Mapping[str, Any] | None = None,
    *,
    endings: Sequence[str] = (),
    patient: bool = False,
) -> Sequence[FileInfo]:
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
    found: list[Sequence[FileInfo]] = []
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
                f"cannot be listed: {reason_of(error)}", uri=uri, fix="check the path, permissions and network"
            ) from error
        folders = listed.folders if isinstance(listed, FileColumns) else [Names("", [f.uri for f in listed])]
        if odd := _odd(folders):
            uri = os.fsencode(odd).decode(errors="backslashreplace")
            here = sys.getfilesystemencoding()
            if here != "utf-8":
                fix = "if it is UTF-8, set the variable PYTHONUTF8=1"
                raise SourceError(f"the name is not {here} text, as the locale says it is", uri=uri, fix=fix)
            raise SourceError("the name is not UTF-8 text", uri=uri, fix="rename the file or its folder")
        found.append(listed)
    if len(found) == 1:
        return found[0] if isinstance(found[0], FileColumns) else tuple(found[0])
    return tuple({f.uri: f for of in found for f in of}.values())


def exported(uri: str, options: Mapping[str, Any] | None = None) -> FileInfo | None:
    """Return the one file that is written there, None if there is none yet; raises SourceError if that cannot be told.

    Examples
    --------
    >>> exported("memory://nothing-here.csv") is None
    True
    """
    try:
        return next(iter(expand((uri,), options, patient=True)), None)
    except _NoFile:
        return None


def _list(pattern: str, options: Mapping[str, Any] | None, endings: tuple[str, ...]) -> Sequence[FileInfo]:
    link, chain, rest = pattern.partition("::")
    if chain and link.isidentifier():  # a cache knows what it holds, and not what there is
        inner = {k: v for k, v in (options or {}).items() if k != link}
        if "::" not in rest:
            inner = dict(inner.get(uris.protocol(rest), {}))  # of a chain, each link's settings stand by its name
        there = [_head(rest, inner)] if uris.protocol(rest) in uris.WEB else _list(rest, inner, endings)
        return [f._replace(uri=link + chain + f.uri) for f in there]
    if uris.is_local(pattern):
        return _list_local(uris.local_path(pattern), endings)
    if uris.protocol(pattern) in {*uris.WEB, "hf"} and "::" not in pattern:
        _refuse_secrets(pattern, options or {})
        return [_head(pattern)]
    return _list_remote(pattern, options, endings)


class Named(MadeLater[str]):
    """Paths that patterns name in local folders: one by one, in the order of ``expand``, only if somebody asks for them.

    Examples
    --------
    >>> found = Named([Names("d/", ["b.csv", "a.csv"])])
    >>> [*found], found.each_folder
    (['d/a.csv', 'd/b.csv'], ['d/b.csv'])
    """

    def __init__(self, names: Sequence[Names]) -> None:
        self._names = [of for of in names if of.names]

    def _make(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([start + name for start, of in self._names for name in sorted(of)]))

    @property
    def each_folder(self) -> list[str]:
        """One path of each folder."""
        return [start + of[0] for start, of in self._names]

    @property
    def first(self) -> FileInfo | None:
        """The first of them that is a file."""
        # mostly that is the least name, for which the others need not be put in order
        least = [start + min(of) for start, of in self._names[:1]]
        return next((f for f in chain(files_at(least), files_at(self)) if f.size is not None), None)

    @property
    def odd(self) -> str | None:
        """A name that is not valid text; None if all are."""
        return _odd(self._names)


def named(patterns: Iterable[str], *, endings: Sequence[str] = ()) -> Named | None:
    """Return the URIs that patterns name in local folders, as ``expand`` would, but look at no file; None if some is elsewhere.

    Folders may be among what patterns match. What cannot be listed is left to ``expand``, which says why.
    """
    found: list[Names] = []
    for pattern in patterns:
        if not uris.is_local(pattern):
            return None
        path = uris.local_path(pattern)
        try:
            names = _matching(path, ordered=False) if _is_pattern(path) else below(path, tuple(endings) or ("",))
        except NotADirectoryError:
            names = [Names("", [path])]
        except OSError:
            return None
        if not names:
            return None
        found += names
    made = Named(found)
    return None if made.odd else made


def _odd(names: Iterable[Names]) -> str | None:
    """Return a path that is no text: neither Polars nor a record could name it. None if all of those that are named are."""
    for start, of in names:
        try:
            "".join([start, *of]).encode()
        except UnicodeEncodeError as error:
            part = error.object[error.start]
            return next(start + name for name in of if part in start + name)
    return None


def files_at(paths: Iterable[str]) -> Iterator[FileInfo]:
    """Yield the files among local paths as they are now; those that are gone meanwhile without size and stamp.

    So that whoever reads them misses them. Folders are left out.
    """
    for path in paths:
        try:
            about = os.stat(path)
        except OSError:
            yield FileInfo(path, None)
            continue
        if about.st_mode & _KIND == S_IFREG:
            yield FileInfo(path, about.st_size, str(about.st_mtime_ns))


def _list_local(path: str, endings: tuple[str, ...]) -> Sequence[FileInfo]:
    if _is_pattern(path):
        found = _look(_matching(path))
        if not found:
            fix = _nearest_path(path) or f"check the pattern{FROM_FOLDER}"
            raise _NoFiles("no file matches", uri=path, fix=fix)
        return found
    if os.path.isdir(path):
        found = _look(below(path, endings or ("",)))
        if not found:
            raise _no_data(path, endings, (name for part in below(path, ("",)) for name in part.names))
        return found
    try:
        return [_stat(path)]
    except FileNotFoundError:
        fix = _nearest_path(path) or f"check the path{FROM_FOLDER}"
        raise _NoFile("there is no such file", uri=path, fix=fix) from None


def _no_data(uri: str, endings: Iterable[str], names: Iterable[str]) -> _NoFiles:
    """Return the error for a folder without a file of one format; if there are such of another one, it says which."""
    fix = f"expected files that end in {', '.join(endings)}"
    other = next(filter(None, map(format_of, names)), None)
    if other is not None:
        fix = f"{fix}; for those that it holds, say format: {other}"
    return _NoFiles("the folder holds no data file", uri=uri, fix=fix)


def _nearest_path(path: str) -> str | None:
    """Suggest a path for one that does not exist: with the name nearest to the first part that is missing; None if none is near."""
    if "\\" in path and os.path.exists(turned := path.replace("\\", "/")):
        return f"did you mean {turned!r}?"
    if alternatives := re.fullmatch(r"(.*)\{([^{}/]*,[^{}/]*)\}(.*)", path):
        before, several, behind = alternatives.groups()
        listed = ", ".join(f"{before}{one}{behind}" for one in several.split(","))
        return f"braces are no pattern; write a list: [{listed}]"
    parts = path.split("/")
    for number, part in enumerate(parts):
        ahead = "/".join(parts[:number]) or ("/" if path.startswith("/") else ".")
        if not part or (not _is_pattern(part) and os.path.exists(os.path.join(ahead, part))):
            continue
        try:
            names = [] if _is_pattern(part) else os.listdir(ahead)
        except OSError:
            return None
        meant, rest = closest(part, names), parts[number + 1 :]
        if meant is None or (rest and not os.path.isdir(os.path.join(ahead, meant))):
            return None
        near = "/".join([*parts[:number], meant, *rest])
        return (
            _nearest_path(near) if rest else None
        ) or f"did you mean {near!r}?"  # of the rest some may be missing, too
    return None


def _is_pattern(path: str) -> bool:
    return is_glob(path) and not os.path.exists(path)


def _matching(pattern: str, *, ordered: bool = True) -> list[Names]:
    """Return the names that a pattern matches, in the order of their paths: of several folders, one by one.

    If they need not be ``ordered``, those of a single folder are not.
    """
    names = matching(pattern, ordered=ordered)
    if len(names) < 2:
        return names
    # two ways of ``**`` may lead to the same file
    folders = sorted({(start + name, start) for start, of in names for name in of})
    return [Names(start, [path.removeprefix(start) for path, _ in of]) for start, of in groupby(folders, itemgetter(1))]


def _stat(path: str) -> FileInfo:
    found = os.stat(path)
    return FileInfo(path, found.st_size, str(found.st_mtime_ns))


def _look(names: Sequence[Names]) -> FileColumns:
    """Return the files among names, each with size and stamp."""
    found = FileColumns([], [], [])
    for start, of in names:
        if files := _stats(start, of, found):
            found.folders.append(Names(start, files))
    return found


_KIND = 0o170000
"""Where in a file's mode stands what it is."""

_FROM_FOLDERS = os.stat in os.supports_dir_fd
"""Whether a file can be looked at by its name in an open folder: then its path is not gone down for each."""


def _stats(start: str, names: Sequence[str], found: FileColumns) -> list[str]:
    """Return the regular files among the names of one folder, and add their sizes and times to ``found``."""
    folder = os.open(start or ".", os.O_RDONLY) if _FROM_FOLDERS and len(names) > 1 else None
    # without calls of our own, and without an object for each: there may be very many
    stat = os.stat
    files, size, moment = list[str](), found.sizes.append, found.moments.append
    try:
        for name in names:
            try:
                about = stat(start + name) if folder is None else stat(name, dir_fd=folder)
            except OSError as error:
                error.filename = start + name
                if error.errno in (ENOENT, ELOOP) and os.path.islink(start + name):
                    # a file was to be there: nobody would miss its rows
                    fix = "deliver that file, or remove the link"
                    raise SourceError("is a link to a file that does not exist", uri=start + name, fix=fix) from error
                raise
            if about.st_mode & _KIND == S_IFREG:
                files.append(name)
                size(about.st_size)
                moment(about.st_mtime_ns)
    finally:
        if folder is not None:
            os.close(folder)
    return files


def _refuse_secrets(uri: str, options: Mapping[str, Any]) -> None:
    """Raise SourceError for what Polars, which reads such files, would not send along."""
    parts = urlsplit(uri)
    _, named, host = parts.netloc.rpartition("@")
    if named or "headers" in options or "client_kwargs" in options:
        what = "user names in addresses" if named else "headers"
        address = parts._replace(netloc=host).geturl()
        how = f'{{{parts.scheme}: {{headers: {{Authorization: "${{AUTH}}"}}}}}}'
        fix = f"write simplecache::{address}, with storage_options: {how}"
        raise SourceError(f"{what} are not sent when Polars reads from the web", uri=address, fix=fix)


def _head(uri: str, options: Mapping[str, Any] = NOTHING) -> FileInfo:
    if not uri.startswith("http"):
        return FileInfo(uri, None)
    from urllib.error import HTTPError

    sent = {**options.get("client_kwargs", {}).get("headers", {}), **options.get("headers", {})}
    try:
        told = _answer(uri, "HEAD", sent)
    except HTTPError as error:
        if error.code not in _NO_HEAD:
            raise
        # not every server lets one ask, and not every address that is signed may be used for it
        told = _answer(uri, "GET", {**sent, "Range": "bytes=0-0"})
    _, part, size = (told.get("Content-Range") or "").rpartition("/")
    size = size if part else told.get("Content-Length") or ""
    return FileInfo(uri, int(size) if size.isdecimal() else None, told.get("ETag") or told.get("Last-Modified"))


def _answer(uri: str, method: str, sent: Mapping[str, str]) -> Message:
    """Return the headers of what a server answers; what may be otherwise in a moment is tried again."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(uri, method=method, headers=dict(sent))  # noqa: S310  # http and https only, see the caller
    pauses = iter(_PAUSES)
    while True:
        try:
            with urlopen(request, timeout=30) as answer:  # noqa: S310
                headers: Message = answer.headers
                return headers
        except HTTPError as error:
            error.close()
            if error.code not in _BUSY or (pause := next(pauses, None)) is None:
                raise
        except (OSError, HTTPException):
            if (pause := next(pauses, None)) is None:
                raise
        time.sleep(pause)


_PAUSES = (0.2, 1.0)
"""Seconds ahead of the second try, and of the third."""
_BUSY = (429, 500, 502, 503, 504)
_NO_HEAD = (403, 405, 501)


def _refuse_missing_bucket(fs: AbstractFileSystem, path: str, pattern: str) -> None:
    """Raise SourceError where nothing can ever match, however patient one is: clients list a bucket that is missing as an empty one."""
    try:
        fs.info(path.partition("/")[0])
    except FileNotFoundError:
        raise SourceError("there is no such bucket", uri=pattern, fix="check the URI") from None
    except Exception:  # of whatever client: who may not ask for a bucket may list what is in it
        return


def _stamp(details: Mapping[str, Any]) -> str | None:
    """Return the stamp of a file in what a store says of it; of FTP, the moment as the standard form of a listing has it (RFC 3659)."""
    found = next((details[k] for k in ("ETag", "etag", "mtime", "created", "LastModified") if details.get(k)), None)
    told = str(details.get("modify", "")).partition(".")[0]
    if found is None and len(told) == 14 and told.isdecimal():
        found = datetime.strptime(f"{told}+0000", "%Y%m%d%H%M%S%z")
    return None if found is None else str(found)


def _ahead(uri: str, path: str) -> tuple[str, str]:
    """Return what stands in a URI ahead of the names in its file system, such as a host, and what of these names is in that.

    Examples
    --------
    >>> _ahead("s3://b/in/*.csv", "b/in/*.csv"), _ahead("sftp://u@host:22/in/", "/in/")
    (('s3://', ''), ('sftp://u@host:22/', ''))
    >>> _ahead("abfss://lake@account.dfs.core.windows.net/in", "lake/in")
    ('abfss://lake@account.dfs.core.windows.net/', 'lake/')
    """
    scheme, _, rest = uri.partition("://")
    rest, below = rest.rstrip("/"), path.strip("/")
    host, _, _ = rest.partition("/")
    if rest.endswith(below):
        host = rest.removesuffix(below).rstrip("/")
        return f"{scheme}://{host}/" if host else f"{scheme}://", ""
    container = below.partition("/")[0]
    return (f"{scheme}://{host}/", f"{container}/") if host.startswith(f"{container}@") else (f"{scheme}://", "")


def _list_remote(pattern: str, options: Mapping[str, Any] | None, endings: tuple[str, ...]) -> list[FileInfo]:
    fs, path = uris.file_system(pattern, options)
    head, chain, tail = pattern.partition("::")
    start, inside = _ahead(head, path)

    def whole(name: str) -> str:
        return name if "://" in name else start + name.lstrip("/").removeprefix(inside) + (chain + tail)

    def info(details: Mapping[str, Any]) -> FileInfo:
        return FileInfo(whole(details["name"]), details.get("size"), _stamp(details))

    if is_glob(head):
        matches = fs.glob(path, detail=True)
        files = [d for n, d in sorted(matches.items()) if d["type"] == "file" and ("/." in path or "/." not in f"/{n}")]
        if not files:
            if uris.is_object(pattern):
                _refuse_missing_bucket(fs, path, pattern)
            raise _NoFiles("no file matches", uri=pattern, fix="check the pattern")
        return [info(d) for d in files]
    try:
        details = fs.info(path)
    except FileNotFoundError:
        raise _NoFile("there is no such file", uri=pattern, fix="check the URI") from None
    if details["type"] != "directory":
        return [info(details)]
    found = {n.removeprefix(path): d for n, d in sorted(fs.find(path, detail=True).items())}
    kept = [d for n, d in found.items() if n.lower().endswith(endings or ("",)) and not _HIDDEN.search(n)]
    if not kept:
        raise _no_data(pattern, endings, found)
    return [info(d) for d in kept]
