"""The commit log of a dataset: numbered files, each created exclusively, each with the full list of current files.

Long lists in it may be told by what has changed since those of a file beside it (``storage.since``), never since another commit.

A dataset at ``out/flown`` has its data under that folder and its log beside it, in ``out/flown.commits``, so that a plain
``pl.scan_parquet("out/flown")`` meets data files only (docs/decisions/0002-log-beside-the-data.md).
"""

from __future__ import annotations

import builtins
import json
import secrets
import struct
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from lazypipe.errors import CommitConflict, StorageError, first_line
from lazypipe.spec.types import dtype_from_name, dtype_name
from lazypipe.storage.datasets.packed import pack, unpack
from lazypipe.storage.datasets.since import Lists, Rest, read_lists, told, untold, uses_lists
from lazypipe.storage.numbered import NumberedFiles, is_sealed, seal, seal_text
from lazypipe.storage.parquet.prune import Bounds

if TYPE_CHECKING:
    from lazypipe.storage.optimizer.layout import Layout

__all__ = [
    "BACK",
    "DELTA",
    "JUDGE",
    "KEPT",
    "REWRITE",
    "ROLLBACK",
    "Commit",
    "CommitLog",
    "DataFile",
    "log_of",
    "partitioned",
]

FORMAT, PACKED, RESTING = 1, 2, 3
"""Versions of the commit files; a reader refuses newer ones.

``FORMAT`` seals the body whatever the order of its keys. ``PACKED`` is for long ones: long lists are packed, and it is sealed as it is written,
so that neither thousands of values nor a second text of them must be made when it is read. ``RESTING`` is the same, and rests upon lists
in a file beside it.
"""

_LARGE = 2 << 20
"""Bytes of a commit file above which it is read anew each time, rather than kept in memory."""

_LONG = 1 << 16
"""Characters from which on a commit is a long one."""

_LISTS = "lists"
"""The folder in that of the commits with what they rest upon."""

_RESTORE = "restore it from a backup, or read an earlier version"
"""What to do about a commit file that is not as it was written."""

BACK = "back_to"
"""Where in the ``info`` of a commit stands the version that a dataset has gone back to, until there is something new in it."""
ROLLBACK = "rollback to "
"""How the ``mode`` of a commit begins that makes an earlier version the one in force; the number of that follows."""
REWRITE = "rewrite"
"""The ``mode`` of commits that hold the rows of the one before in other files, and where their ``info`` speaks of that."""

JUDGE = "judge"
"""The ``mode`` of commits that hold the rows of the one before in the same files, and say something else of them."""

DELTA = "delta"
"""Where in a commit's ``info`` stands the version that a dataset's Delta table begins with, if it is one; commits hand it on."""

KEPT = "optimize"
"""Where in a commit's ``info`` stands the layout that the dataset's next files are to have, and why; commits hand it on."""


@dataclass(frozen=True)
class DataFile:
    """One data file of a dataset: its path relative to the dataset, its rows and bytes, its content's hash if it is known.

    ``units`` says how many of its rows were made of which unit of the input (see ``storage.units``); empty where rows are
    not told apart. ``layout`` is how it was written; None: with nothing that a reader must know but the dataset's partitions.
    ``odd`` are those columns with a form in it of which some values do not fit that form; None: each may have such.
    ``bounds`` are those of columns by which rows are looked up, as values of the commit's types: numbers, or UTF-8.
    """

    path: str
    rows: int
    bytes: int
    blake3: str | None = None
    units: Mapping[int, int] = field(default_factory=dict, hash=False)
    layout: Layout | None = None
    odd: tuple[str, ...] | None = None
    bounds: Mapping[str, Bounds] = field(default_factory=dict, hash=False)

    @property
    def folder(self) -> str:
        """The folder that it is in, relative to the dataset."""
        return self.path.rpartition("/")[0]

    def dead(self, gone: Container[int]) -> int:
        """Return how many of its rows no reader sees."""
        return sum(rows for unit, rows in self.units.items() if unit in gone) if gone else 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        plain: dict[str, Any] = {"path": self.path, "rows": self.rows, "bytes": self.bytes}
        plain |= {"blake3": self.blake3} if self.blake3 is not None else {}
        plain |= {"units": [list(self.units), list(self.units.values())]} if self.units else {}
        plain |= {"layout": self.layout.id} if self.layout is not None else {}
        plain |= {"odd": list(self.odd)} if self.odd is not None else {}
        return plain | (
            {"bounds": {n: [*map(_text, b[:2]), b.nulls] for n, b in self.bounds.items()}} if self.bounds else {}
        )

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], layouts: Mapping[str, Layout] | None = None) -> DataFile:
        """Read it back; ``layouts`` are those that files name."""
        units = dict(zip(*plain["units"], strict=True)) if "units" in plain else {}
        layout = (layouts or {})[plain["layout"]] if "layout" in plain else None
        odd = tuple(plain["odd"]) if "odd" in plain else None
        bounds = {
            n: Bounds(_bound(low), _bound(high), nulls, plain["rows"])
            for n, (low, high, nulls) in plain.get("bounds", {}).items()
        }
        return cls(plain["path"], plain["rows"], plain["bytes"], plain.get("blake3"), units, layout, odd, bounds)


def _text(end: Any) -> Any:
    return end.decode() if isinstance(end, builtins.bytes) else end


def _bound(end: Any) -> Any:
    return end.encode() if isinstance(end, str) else end


@dataclass(frozen=True)
class Commit:
    """One version of a dataset: all of its live files, its schema, and where it came from.

    ``info`` is for whoever commits (gate results, what was consumed); readers of data pass over it. With ``tagged``, each row
    in the files carries its unit in a column that is not in ``schema``; rows of the units ``gone`` are not part of this version.
    ``figures`` are files beside the log that this version was made from, and the next will be. ``rest`` is what its file rests upon, or
    that of the version in force when it was made. ``token`` is drawn by the log, so that no two commit files are the same, whoever makes them.
    """

    version: int
    run: str
    time: datetime
    mode: str
    schema: pl.Schema
    files: tuple[DataFile, ...]
    partition_by: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    tagged: bool = False
    gone: frozenset[int] = frozenset()
    figures: tuple[DataFile, ...] = ()
    rest: Rest | None = field(default=None, repr=False, compare=False)
    token: str = field(default="", repr=False, compare=False)

    @property
    def rows_of(self) -> int:
        """The version whose rows these are: its own, or an earlier one where files were only written anew since."""
        return int(self.info[REWRITE]["of"]) if self.mode == REWRITE else self.version

    @property
    def brings_back(self) -> int | None:
        """The version that it made the one in force again, None if it is no rollback."""
        number = self.mode.removeprefix(ROLLBACK)
        return int(number) if number != self.mode and number.isdecimal() else None

    def stands(self, version: int) -> bool:
        """Whether what was built upon a version can be committed on top of this one: nothing but files has changed since."""
        return self.rows_of <= version <= self.version

    @property
    def rows(self) -> int:
        """Rows that a reader sees."""
        return sum(f.rows - f.dead(self.gone) for f in self.files)

    @property
    def units(self) -> frozenset[int]:
        """The units that rows are made of; empty where rows are not told apart."""
        return frozenset(u for f in self.files for u in f.units) - self.gone

    @property
    def bytes(self) -> int:
        """Bytes in all live files."""
        return sum(f.bytes for f in self.files)

    def to_json(self) -> builtins.bytes:
        """Return the commit file's content: one JSON object, sealed by the BLAKE3 hash of its body."""
        body = self.body()
        written = json.dumps(body, separators=(",", ":"))
        if len(written) < _LONG:
            return f'{written[:-1]},"blake3":"{seal(body)}"}}'.encode()
        written = json.dumps(pack(body | {"format": PACKED}), separators=(",", ":"))
        return seal_text(written)

    def to_json_since(self, rest: Rest) -> builtins.bytes:
        """Return the commit file's content as what has changed since the lists that it rests upon."""
        upon = {"lists": rest.name, "blake3": rest.hashed, "bytes": rest.length, "spent": rest.spent}
        body = told(self.body(), rest.lists) | {"format": RESTING, "rest": upon}
        return seal_text(json.dumps(pack(body), separators=(",", ":")))

    def body(self) -> dict[str, Any]:
        """Return it as plain data."""
        layouts = {f.layout for f in self.files if f.layout is not None}
        body = {
            "format": FORMAT,
            "version": self.version,
            "run": self.run,
            "time": self.time.isoformat(),
            "mode": self.mode,
            "schema": [[name, _name(dtype)] for name, dtype in self.schema.items()],
            "partition_by": list(self.partition_by),
            "files": [f.to_dict() for f in self.files],
            "info": dict(self.info),
        }
        if self.tagged:
            body["gone"] = sorted(self.gone)
        if self.figures:
            body["figures"] = [f.to_dict() for f in self.figures]
        if layouts:
            body["layouts"] = {n.id: n.to_dict() for n in layouts}
        if self.token:
            body["token"] = self.token
        return body

    @classmethod
    def from_json(cls, data: builtins.bytes, uri: str, lists: Callable[[str, str], Lists] | None = None) -> Commit:
        """Read a commit file back; ``lists`` reads what it rests upon, by name and hash.

        Raises
        ------
        StorageError
            If it is truncated, was edited, or was written by a newer lazypipe.
        """
        try:
            body = dict(json.loads(data))
            sealed = body.pop("blake3")
            newer = body.get("format", 0) > RESTING
            is_long = body.get("format", 0) >= PACKED
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(uri) from error
        if newer:
            raise StorageError(
                f"the commit file has format {body['format']}, this lazypipe reads up to {RESTING}",
                uri=uri,
                fix="upgrade lazypipe",
            )
        if not is_sealed(data) if is_long else sealed != seal(body):
            raise StorageError("the commit file was changed after it was written", uri=uri, fix=_RESTORE)
        rest = Rest() if is_long else None
        if is_long:
            try:
                body = unpack(body)
                if "rest" in body:
                    rest = _rest(body.pop("rest"), len(data), lists)
                    body = untold(body, rest.lists)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
                raise _damaged(uri) from error
        layouts = _layouts(body["layouts"]) if "layouts" in body else {}
        return cls(
            version=body["version"],
            run=body["run"],
            time=datetime.fromisoformat(body["time"]),
            mode=body["mode"],
            schema=pl.Schema({n: dtype_from_name(t) for n, t in body["schema"]}),
            partition_by=tuple(body["partition_by"]),
            files=tuple(DataFile.from_dict(f, layouts) for f in body["files"]),
            info=body["info"],
            tagged="gone" in body,
            gone=frozenset(body.get("gone", ())),
            figures=tuple(map(DataFile.from_dict, body.get("figures", ()))),
            rest=rest,
            token=body.get("token", ""),
        )


def _rest(said: Mapping[str, Any], written: int, lists: Callable[[str, str], Lists] | None) -> Rest:
    """Return the lists that a commit rests upon, as its file names them; ``written`` is the size of that file."""
    assert lists is not None
    name, of = said["lists"], said["blake3"]
    return Rest(name, of, said["bytes"], said["spent"] + written, lists(name, of))


def _layouts(said: Mapping[str, Any]) -> dict[str, Layout]:
    from lazypipe.storage.optimizer.layout import Layout

    return {n: Layout.from_dict(plain) for n, plain in said.items()}


def _damaged(uri: str) -> StorageError:
    return StorageError("the commit file is truncated or damaged", uri=uri, fix=_RESTORE)


def partitioned(files: Iterable[DataFile], before: tuple[str, ...], now: tuple[str, ...]) -> tuple[DataFile, ...]:
    """Return files of a dataset whose partitioning has changed, each with the partition columns it was written with.

    Examples
    --------
    >>> [f.layout.partition_by for f in partitioned([DataFile("day=1/a", 1, 1)], ("day",), ())]
    [('day',)]
    """
    if before == now:
        return tuple(files)
    from lazypipe.storage.optimizer.layout import Layout

    then = Layout(partition_by=before)
    return tuple(replace(f, layout=then) if f.layout is None else f for f in files)


def _name(dtype: pl.DataType) -> str:
    """The type's name, if it can be read back: a commit that nobody could read must not be made."""
    name = dtype_name(dtype)
    if dtype_from_name(name) != dtype:
        raise ValueError(f"the type {dtype} cannot be recorded")
    return name


@lru_cache(maxsize=8)
def _parsed(data: builtins.bytes, uri: str) -> Commit:
    """Read a commit file back; a run asks for the same one several times, and the same bytes are the same commit."""
    return Commit.from_json(data, uri)


def log_of(uri: str) -> str:
    """Return where the log of a dataset stands.

    Examples
    --------
    >>> log_of("out/flown/")
    'out/flown.commits'
    """
    return f"{uri.rstrip('/')}.commits"


def _is_kept(data: builtins.bytes) -> bool:
    """Whether a commit that was read stays in memory: not large ones, nor those that rest upon lists, which are large."""
    return len(data) <= _LARGE and not data.startswith(b'{"format":%d' % RESTING)


class CommitLog:
    """The numbered commit files in one folder, on any file system that can create a file exclusively."""

    def __init__(self, uri: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.uri = uri
        self._files = NumberedFiles(uri, storage_options, what="the commit log")

    def versions(self) -> list[int]:
        """Return the versions that exist, oldest first; empty where there is no log."""
        return self._files.numbers()

    def last(self) -> int:
        """Return the latest version, 0 if there is none."""
        return self._files.last()

    def half_written(self) -> dict[str, Mapping[str, Any]]:
        """Return the files that killed commits have left: each path with the details that the store gives."""
        return self._files.half_written()

    def read(self, version: int) -> Commit:
        """Return one commit; raises StorageError if it does not exist or is damaged."""
        data, uri = self._files.read(version), self._files.uri_of(version)
        if data is None:
            known = self.versions()
            fix = f"versions {known[0]} to {known[-1]} exist" if known else "nothing was ever committed"
            raise StorageError(f"there is no version {version}", uri=self.uri, fix=fix)
        commit = _parsed(data, uri) if _is_kept(data) else Commit.from_json(data, uri, self._lists)
        if commit.version != version:
            what = f"the commit file holds version {commit.version}: it was renamed or copied"
            raise StorageError(what, uri=uri, fix=_RESTORE)
        return commit

    def _lists(self, name: str, of: str) -> Lists:
        """Return the lists of a file that commits rest upon, if they are those that were written."""
        data, uri = self._files.read_named(f"{_LISTS}/{name}"), f"{self.uri}/{_LISTS}/{name}"
        if data is None:
            raise StorageError("the commit refers to file lists that are gone", uri=uri, fix=_RESTORE)
        lists = read_lists(data, of)
        if lists is None:
            raise StorageError(
                "the file lists that commits refer to were changed after they were written", uri=uri, fix=_RESTORE
            )
        return lists

    def rests(self) -> dict[str, Mapping[str, Any]]:
        """Return the files that commits may rest upon: name to what the store knows of it."""
        return self._files.listed(_LISTS)

    def append(self, commit: Commit) -> Commit:
        """Make the commit visible, all at once; return it with what its file rests upon.

        Raises
        ------
        CommitConflict
            If somebody else created this version first.
        StorageError
            If the file cannot be written.
        """
        commit, data = replace(commit, token=secrets.token_hex(8)), b""
        try:
            data, rest, made = self._written(commit)
            self._files.create(commit.version, data)
        except Exception as error:  # any store's own errors: the caller learns which log it was
            there = self._is_there(commit.version, data)
            if there:
                return replace(commit, rest=rest)
            if there is None or not isinstance(error, FileExistsError):
                fix = "fix the cause and run again"
                seen = "whether it became visible is not known" if there is None else "nothing became visible"
                raise StorageError(f"cannot commit: {first_line(error)}", uri=self.uri, fix=f"{seen}; {fix}") from error
            if made is not None:
                with suppress(Exception):  # left to vacuum
                    self.remove_lists([made])
            raise CommitConflict(
                f"version {commit.version} was committed by another run",
                uri=self.uri,
                fix="run again: nothing of this run became visible",
            ) from None
        return replace(commit, rest=rest)

    def _is_there(self, version: int, data: builtins.bytes) -> bool | None:
        """Whether a commit file is this very one: a store may take it, and lose its answer to each try, or meet it at the next. None: it cannot be told."""
        try:
            return self._files.read(version) == data
        except Exception:  # the network may be away by now
            return None

    def _written(self, commit: Commit) -> tuple[builtins.bytes, Rest | None, str | None]:
        """Return the content of a commit's file, the lists it rests upon, and the name of the file of lists if a new one was written.

        What is long, and was before, rests upon lists: those of the commit before, as long as it
        has something of them, and until what was spent on differences is as much.
        """
        rest = commit.rest
        if rest is not None and rest.name:
            data = commit.to_json_since(rest)
            if rest.fits(len(data)) and uses_lists(
                data
            ):  # what is short now needs none, and must not be lost with them
                return data, replace(rest, spent=rest.spent + len(data)), None
        data = commit.to_json()
        if rest is None or len(data) < _LONG:
            return data, Rest() if len(data) >= _LONG else None, None
        # a name of its own: nobody else rests upon it before this commit is there, or takes it away
        made, lists = Rest.of(f"{commit.version:020}-{secrets.token_hex(8)}.json", commit.body())
        if not made.lists:
            return data, Rest(), None
        with suppress(FileExistsError):  # of a name that is drawn: by a try whose answer was lost
            self._files.create_named(f"{_LISTS}/{made.name}", lists)
        data = commit.to_json_since(made)
        return data, replace(made, spent=len(data)), made.name

    def remove_lists(self, names: Iterable[str]) -> None:
        """Delete files that no commit rests upon."""
        self._files.remove_named([f"{_LISTS}/{name}" for name in names])

    def remove(self, versions: Iterable[int]) -> None:
        """Delete commit files (vacuum only); another vacuum may have been first."""
        self._files.remove(versions)
