"""Rows pulled from logs, tables and APIs: stored as files, together with the position to continue from.

Rows and position stand in one file, that appears all at once: neither can be there without the other. From there on they are files
like any others (docs/decisions/0060-what-is-pulled-becomes-files.md).
"""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from lazypipe.compile.sources.binding import expand_source
from lazypipe.errors import (
    CommitConflict,
    LazypipeError,
    RunError,
    SourceError,
    StorageError,
    first_line,
    nearest,
    reason_of,
    redacted,
)
from lazypipe.spec import loader
from lazypipe.spec.frames import lazy_frame
from lazypipe.spec.model import Fault, Path, Pipeline
from lazypipe.storage import uri as uris
from lazypipe.storage.local_files import is_glob
from lazypipe.storage.numbered import NumberedFiles
from lazypipe.storage.sink import ExportSink

__all__ = ["Pulled", "Puller", "Reader"]

_POSITION = "lazypipe:position"
"""Where a file says how far it goes: JSON, in its footer."""
_ENDING = ".parquet"
_DIGITS = 20


class Reader(Protocol):
    """A source that can be read on from a position: a log with offsets, a table with a cursor, pages of an API.

    Examples
    --------
    >>> class Numbers:
    ...     def read(self, after):
    ...         begin = after or 0
    ...         return None if begin == 6 else (pl.DataFrame({"n": range(begin, begin + 3)}), begin + 3)
    >>> Numbers().read(None)[1], Numbers().read(6)
    (3, None)
    """

    def read(self, after: Any, /) -> tuple[pl.DataFrame | pl.LazyFrame, Any] | None:
        """Return the next rows and the position after them; None if there is nothing new.

        It may be called again with an earlier position, for example after a crash, and must then return the same rows, or more. It decides how many
        rows to return at a time; they are held in memory.

        Parameters
        ----------
        after
            The position that it returned with the previous rows; None at the very start. Any JSON value: a number, a text, a list, or a mapping from
            partitions (as text) to offsets.
        """


@dataclass(frozen=True)
class Pulled:
    """Rows that were pulled for a ``source``: the file with the rows, their number, and the position after them."""

    source: str
    uri: str
    rows: int
    position: Any


@dataclass(frozen=True)
class Puller:
    """Pulls for sources of a pipeline, by their names, into the place that each of them reads: one of their ``readers`` after the other.

    Raises
    ------
    LazypipeError
        If there is no such source, or what is given for it does not read.
    DefinitionError
        If the source does not say a place where what is pulled can stand.
    """

    pipeline: Pipeline
    readers: Mapping[str, Reader]
    env: Mapping[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        for name, reader in self.readers.items():
            if name not in self.pipeline.sources:
                raise LazypipeError(
                    f"there is no source {name!r} to pull for; {nearest(name, self.pipeline.sources, 'sources')}"
                )
            if not callable(getattr(reader, "read", None)) or isinstance(reader, type):
                raise LazypipeError(f"the reader for {name!r} has no method read; give an object like lazypipe.Reader")
            self._place(name)

    def pull(self) -> tuple[Pulled, ...]:
        """Ask each reader once for what came; return what did.

        Raises
        ------
        SourceError
            If a reader fails.
        LazypipeError
            If it gives something else than rows and a position that is another one.
        StorageError
            If the file with the rows cannot be written, or the one before says nothing of a position.
        CommitConflict
            If another process pulled the same meanwhile.
        """
        return tuple(found for name in self.readers if (found := self._pull(name)) is not None)

    def _pull(self, name: str) -> Pulled | None:
        place, redact = self._place(name)
        try:
            return place.pull(name, self.readers[name])
        except RunError as error:
            redacted(error, redact)
            raise

    def _place(self, name: str) -> tuple[_Folder | _File, uris.Redactor]:
        source, at = self.pipeline.sources[name], ("sources", name)
        try:
            patterns, options, _, redact = expand_source(source, self.pipeline.base, self.env, at)
            if source.format not in (None, "parquet") or len(patterns) > 1:
                raise _no_place((*at, "uri"))
            return _place_of(patterns[0], options, (*at, "uri")), redact
        except Fault as fault:
            raise loader.problems([fault], self.pipeline.origin) from None


def _no_place(at: Path) -> Fault:
    what = "pulled rows are kept in Parquet files of one folder, or in one file that is replaced"
    return Fault(what, "write uri: pulled/orders/*.parquet, or pulled/orders.parquet", at)


def _place_of(pattern: str, options: Mapping[str, Any], at: Path) -> _Folder | _File:
    folder, _, name = pattern.rpartition("/")
    if name == f"*{_ENDING}" and not is_glob(folder):
        return _Folder(folder, options)
    if name.endswith(_ENDING) and not is_glob(pattern):
        return _File(pattern, options)
    raise _no_place(at)


class _Place(ABC):
    """Where rows of one reader stand."""

    def __init__(self, uri: str, options: Mapping[str, Any]) -> None:
        self.uri, self.options = uri, options

    def pull(self, name: str, reader: Reader) -> Pulled | None:
        """Ask for what is behind the position that was reached, and keep it."""
        number, after = self.reached()
        try:
            found = reader.read(after)
            rows, position = (None, None) if found is None else _pair(found, name)
            frame = None if rows is None else rows.collect(engine="streaming")
        except LazypipeError:
            raise
        except Exception as error:  # whatever the reader's client raises: the caller learns where it stood
            what = f"cannot be pulled after {json.dumps(after)}: {type(error).__name__}: {first_line(error)}"
            raise SourceError(
                what, uri=self.uri, fix="fix the cause and go on: nothing is lost or read twice"
            ) from error
        if frame is None:
            return None
        text = _text(position, name)
        if position == after:
            if not frame.height:
                return None
            what = f"the reader for {name!r} returned {frame.height:,} rows and the position {text}, where it began"
            raise LazypipeError(f"{what}: they would be read again; return the position after them")
        if not frame.width:
            raise LazypipeError(f"the reader for {name!r} returned rows without columns; return None if nothing came")
        return Pulled(name, self.keep(number + 1, frame, text), frame.height, position)

    @abstractmethod
    def reached(self) -> tuple[int, Any]:
        """Return the number of the last file, 0 if there is none, and the position that it says."""

    @abstractmethod
    def keep(self, number: int, frame: pl.DataFrame, position: str) -> str:
        """Have rows, and the position behind them, appear in a file; return its URI."""

    def _position(self, uri: str) -> Any:
        try:
            with uris.opened(uri, self.options) as file:
                return json.loads(pl.read_parquet_metadata(file)[_POSITION])
        except FileNotFoundError:
            raise
        except Exception as error:
            why = "it does not say how far it goes" if isinstance(error, KeyError) else reason_of(error)
            fix = "this folder holds only what was pulled, and its last file must stay: put it back, or pull into another folder"
            raise StorageError(f"cannot be continued from: {why}", uri=uri, fix=fix) from error


class _Folder(_Place):
    """A folder with a file for all rows that came at a time, numbered in their order."""

    @property
    def _files(self) -> NumberedFiles:
        return NumberedFiles(self.uri, self.options, what="the folder of what was pulled")

    def reached(self) -> tuple[int, Any]:
        stems = (n.removesuffix(_ENDING) for n in self._files.names() if n.endswith(_ENDING))
        last = max((s for s in stems if len(s) == _DIGITS and s.isdecimal()), default=None)
        return (0, None) if last is None else (int(last), self._position(uris.join(self.uri, last + _ENDING)))

    def keep(self, number: int, frame: pl.DataFrame, position: str) -> str:
        name, data = f"{number:0{_DIGITS}}{_ENDING}", io.BytesIO()
        uri = uris.join(self.uri, name)
        try:
            frame.write_parquet(data, metadata={_POSITION: position})
            self._files.create_named(name, data.getvalue())
        except FileExistsError:
            raise CommitConflict(
                "another process pulled in the meantime", uri=uri, fix="continue: nothing was stored twice"
            ) from None
        except Exception as error:  # any store's own errors
            raise _unwritable(uri, error) from error
        return uri


class _File(_Place):
    """One file, that is replaced: by a reader that gives all there is, whenever that is another."""

    def reached(self) -> tuple[int, Any]:
        try:
            return 0, self._position(self.uri)
        except FileNotFoundError:
            return 0, None

    def keep(self, number: int, frame: pl.DataFrame, position: str) -> str:
        sink = ExportSink(self.uri, "parquet", "pulled", dict(self.options), metadata={_POSITION: position})
        try:
            sink.write(frame.lazy())
            sink.publish()
        except Exception as error:
            sink.discard()
            raise (error if isinstance(error, RunError) else _unwritable(self.uri, error)) from error
        return self.uri


def _unwritable(uri: str, error: Exception) -> StorageError:
    return StorageError(f"cannot be written: {reason_of(error)}", uri=uri, fix="fix the cause and go on")


def _pair(found: Any, name: str) -> tuple[pl.LazyFrame, Any]:
    """Return what a reader gave as rows and a position."""
    if not isinstance(found, tuple) or len(found) != 2:
        what = f"the reader for {name!r} returned a {type(found).__name__}"
        raise LazypipeError(f"{what}; return rows and the position after them, or None if nothing came")
    return lazy_frame(found[0], f"what the reader for {name!r} returned"), found[1]


def _text(position: Any, name: str) -> str:
    """Return a position as JSON; refuse what would come back as something else."""
    try:
        text = json.dumps(position, allow_nan=False)
        if position is not None and json.loads(text) == position:
            return text
    except (TypeError, ValueError):
        pass
    what = f"the reader for {name!r} returned the position {position!r}, which JSON does not hold"
    raise LazypipeError(f"{what}; write numbers, texts, lists, and mappings with text as keys")
