"""Scans: files of one format as a LazyFrame with a known schema, through Polars or fsspec."""

from __future__ import annotations

import io
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from errno import EACCES, EPERM
from typing import Any

import polars as pl

from lazypipe.errors import SourceError, first_line, reason_of
from lazypipe.spec.model import NOTHING
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.documents import document
from lazypipe.storage.external.blocks import Csv, text_format
from lazypipe.storage.files import FileInfo
from lazypipe.storage.formats import FORMATS, INFER_ROWS, TEXT_FORMATS, TYPED_FORMATS
from lazypipe.storage.parallel import in_parallel
from lazypipe.storage.parquet.row_groups import RowPlaces
from lazypipe.storage.reasons import (
    AGAIN,
    NOT_FOUND,
    grouped,
    in_plain_words,
    is_misfit,
    is_of_store,
    is_packing,
    too_narrow,
)
from lazypipe.storage.text.by_row import COLUMNS, TEXT, BrokenText
from lazypipe.storage.text.cells import Marks
from lazypipe.storage.text.header import refuse_misread
from lazypipe.storage.widen import with_fields

__all__ = ["FILE_COLUMN", "Reader", "cannot_read", "is_damage", "is_engine_error", "os_error", "plain_reason"]

FILE_COLUMN = "_lazypipe_file"
"""Column that carries the file a row came from, where it is asked for."""

_CSV_OPTIONS = {
    "separator": "separator",
    "quote": "quote_char",
    "header": "has_header",
    "null_values": "null_values",
    "comment": "comment_prefix",
    "skip_rows": "skip_rows",
    "decimal_comma": "decimal_comma",
}
_OS_ERROR = re.compile(r"([^:\s][^:]*) \(os error (\d+)\)")
_INFER_DATES = 100
_FETCH = "check permissions and network"
"""What to do about a file that a store does not give."""
_SERVES_WHOLE = {
    "Range request not supported": "serves only whole files, not parts of them",
    "Content-Length Header missing": "does not say how long the file is",
}
"""What Polars' client says of a server of the web that it cannot read from by parts."""
_FETCHING = (FileNotFoundError, PermissionError, ConnectionError, TimeoutError, IsADirectoryError)
_OPENING = 512
"""Bytes that show what a file is, if it is something else than its name says."""
_BEGIN = 1 << 16
"""Bytes of a file that are fetched to see how it begins."""
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How text begins that Polars unpacks: gzip, zstd, zlib."""


def is_engine_error(error: BaseException) -> bool:
    """Whether an exception comes from Polars, its panics included (which are no ``Exception``)."""
    return isinstance(error, pl.exceptions.PolarsError | OSError) or type(error).__name__ == "PanicException"


def cannot_read(error: BaseException) -> bool:
    """Whether an exception says that files cannot be read: of the engine, or of who looked at them before it."""
    return is_engine_error(error) or isinstance(error, SourceError)


def is_damage(error: BaseException) -> bool:
    """Whether an error says that bytes could not be decoded, rather than that they could not be fetched.

    Examples
    --------
    >>> is_damage(OSError("unexpected end of file")), is_damage(FileNotFoundError("gone"))
    (True, False)
    """
    from tarfile import TarError
    from zipfile import BadZipFile

    error = _root(error)
    if isinstance(error, SourceError):
        return True  # said by ourselves, of what was read
    if isinstance(error, _FETCHING) or os_error(error) is not None:
        return False
    return (is_engine_error(error) and not is_of_store(str(error))) or isinstance(
        error, EOFError | ValueError | zlib.error | BadZipFile | TarError
    )


def _root(error: BaseException) -> BaseException:
    """Return what a reader's own error stands for."""
    while isinstance(error, SourceError):
        # what a reader of ours raises, Polars hands on as its own cause
        behind = error.__context__ if error.__cause__ in (None, error) else error.__cause__
        if behind is None or behind is error:
            break
        error = behind
    return error


def plain_reason(error: BaseException) -> str:
    """Return what an engine or a file system said, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    found = _OS_ERROR.search(first_line(error))
    return found[1] if found else in_plain_words(first_line(error))


def os_error(error: BaseException) -> int | None:
    """Return the number of the operating system's error behind an engine's, None if it was something else."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = _OS_ERROR.search(first_line(error))
    return int(found[2]) if found else None


@dataclass(frozen=True)
class Reader:
    """How the files of a source are read: format, options, declared types.

    The same reader gives the schema (``infer``), the scan of a list of files, and the culprit when a scan has failed.
    ``loose`` lets files that Polars reads itself differ as it can fill in and widen, where their format is one for that. With ``masked``, errors quote nothing of what stands in files. With ``by_row``, rows of text files that cannot be
    read may be set aside alone: a scan whose schema has the columns that tell of them reads files so.
    """

    format: str
    declared: Mapping[str, pl.DataType] = field(default_factory=dict)
    read: Mapping[str, Any] = field(default_factory=dict)
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    loose: bool = False
    masked: bool = False
    by_row: bool = False

    def infer(self, files: Sequence[FileInfo]) -> pl.Schema:
        """Read the schema of the first file, from its footer or its first rows, and add the columns in Hive folders.

        Raises
        ------
        SourceError
            If the file is empty or is not of the format; names it.
        """
        return pl.Schema({**self._infer(files[0]), **hive.types([f.uri for f in files])})

    def _infer(self, file: FileInfo) -> pl.Schema:
        """Read the schema of what is inside a file."""
        _refuse_empty(file)
        try:
            if not uris.is_native(file.uri):
                return self._infer_through_fsspec(file.uri)
            if self.format == "csv":
                return self._infer_csv(file)
            return self._typed(self._native([file.uri], None).collect_schema())
        except BaseException as error:
            if not cannot_read(error):
                raise
            if self.format == "ndjson" and self.declared and "could not infer data-type" in str(error):
                return pl.Schema(self.declared)  # blank lines are all there is: no row says anything else
            if self.by_row and (sound := self._of_sound_rows(file)) is not None:
                return self._typed(sound)
            raise self.unreadable(file, error) from error

    def _typed(self, found: pl.Schema) -> pl.Schema:
        """Put declared types in for the columns that were found, completed by the fields that only the file has: NDJSON refuses a schema with other columns."""
        return pl.Schema({n: with_fields(self.declared.get(n, t), t) for n, t in found.items()})

    def _of_sound_rows(self, file: FileInfo) -> pl.Schema | None:
        """Return the columns by those of the first rows of a text file that can be read; None if it cannot be read row by row."""
        try:
            with self.opened_by_row(file, pl.Schema()) as content:
                rows = "".join(text for _, text in itertools.islice(content.sound(), INFER_ROWS)).encode()
                head = content.header + rows
            if self.format == "csv":
                return Csv(self._inferring).infer(head)
        except (Exception, pl.exceptions.PanicException):
            # it is worse than that, which is told as if nothing had been tried
            return None
        found = (
            pl.scan_ndjson(io.BytesIO(head), infer_schema_length=None) if head else pl.LazyFrame(schema=self.declared)
        )
        return found.collect_schema()

    def has_broken_rows(self, file: FileInfo, schema: pl.Schema) -> bool:
        """Whether a text file has a row that cannot be read, and others ahead of it can be; not if it cannot be read row by row."""
        try:
            with self.opened_by_row(file, schema) as content:
                return content.has_broken()
        except (Exception, pl.exceptions.PanicException):  # it is worse than that, and whoever reads it will say so
            return False

    @contextmanager
    def opened_by_row(self, file: FileInfo, schema: pl.Schema) -> Iterator[BrokenText]:
        """Open a text file with the columns of ``schema``, to be read row by row: rows that cannot be read are reported, not raised."""
        from lazypipe.storage.external.content import open_by_row

        text = text_format(self.format, self.csv_options)
        content = open_by_row(file.uri, text, pl.Schema({**COLUMNS, **schema}), self.storage_options, _bytes_of(file))
        try:
            yield content
        finally:
            content.close()

    def _infer_through_fsspec(self, uri: str) -> pl.Schema:
        from lazypipe.storage.external.scan import external_schema

        options = self._inferring if self.format == "csv" else {}
        found = external_schema(uri, format=self.format, storage_options=self.storage_options, read_options=options)
        return self._typed(found)

    @property
    def _inferring(self) -> dict[str, Any]:
        """How the types of a CSV are taken from its first rows, as ``Csv`` takes it."""
        options = self.csv_options | {"try_parse_dates": self.read.get("parse_dates", True)}
        return options | ({"schema_overrides": dict(self.declared)} if self.declared else {})

    def _infer_csv(self, file: FileInfo) -> pl.Schema:
        if (begin := self._begin(file)) is not None:
            try:
                return self._infer_rows(begin if len(begin) == file.size else file.uri, begin)
            except BaseException as error:  # told by who reads it from its place
                if not cannot_read(error):
                    raise
        return self._infer_rows(file.uri, file.uri)

    def _infer_rows(self, rows: str | bytes, few: str | bytes) -> pl.Schema:
        """Read the names, then the types of undeclared columns, from the first rows; ``few`` are enough for dates.

        Polars' own trial of dates costs forty times the rest of inferring, so it is made on fewer rows and only where
        text was found.
        """
        if self.declared:  # otherwise the names alone decide nothing, and over a network each look is a request
            names = self._native_csv(few, infer_schema_length=0).collect_schema().names()
            if all(n in self.declared for n in names):
                return pl.Schema({n: self.declared[n] for n in names})
        schema = self._native_csv(rows, infer_schema_length=INFER_ROWS).collect_schema()
        if self.read.get("parse_dates", True) and pl.String in schema.dtypes():
            dated = self._native_csv(few, infer_schema_length=_INFER_DATES, try_parse_dates=True).collect_schema()
            moments = [
                name
                for name, dtype in schema.items()
                if dtype == pl.String and name not in self.declared and dated[name].is_temporal()
            ]
            short = self._short_years(few, moments) if moments else ()
            schema |= {n: dated[n] for n in moments if n not in short}
        return schema

    def _short_years(self, rows: str | bytes, names: Sequence[str]) -> Sequence[str]:
        from lazypipe.storage.external.blocks import short_years

        return short_years(self._native_csv(rows, infer_schema_length=0, n_rows=_INFER_DATES), names)

    def _begin(self, file: FileInfo) -> bytes | None:
        """Return the begin of a CSV in an object store, whose names and dates Polars would make three requests for at each look.

        None where Polars is to look by itself: a packed one, or one whose first rows are longer. Raises SourceError if it cannot be fetched.
        """
        if not uris.is_object(file.uri):
            return None
        try:
            fs, path = uris.file_system(file.uri, self.storage_options)
            begin = bytes(fs.cat_file(path, start=0, end=_BEGIN))
        except Exception as error:  # those of clients of object stores are of many kinds
            raise SourceError(f"cannot be read: {first_line(error)}", uri=file.uri, fix=_FETCH) from error
        try:
            if begin.startswith(_PACKED):
                return None
            rows = self._native_csv(begin, infer_schema_length=0, n_rows=_INFER_DATES + 1)
            # the last one may be cut off
            return begin if len(begin) == file.size or rows.collect().height > _INFER_DATES else None
        except (Exception, pl.exceptions.PanicException):  # what is wrong is told by who reads it from its place
            return None

    def header(self, file: FileInfo, schema: pl.Schema) -> list[str]:
        """Return the columns of a CSV file in its own order; where there is no header, as in ``schema``."""
        if self.format != "csv" or not self.read.get("header", True):
            return schema.names()
        if uris.is_native(file.uri):
            begin = self._begin(file)
            return (
                self._native_csv(file.uri if begin is None else begin, infer_schema_length=0).collect_schema().names()
            )
        return self._infer(file).names()

    def first_row(self, file: FileInfo, schema: pl.Schema) -> pl.DataFrame:
        """Return the first row of a CSV file as text; where there is no header, its columns are called as in ``schema``."""
        names = None if self.read.get("header", True) else schema.names()
        storage = uris.polars_options(file.uri, self.storage_options)
        rows = pl.scan_csv(
            file.uri,
            **self.csv_options,
            new_columns=names,
            infer_schema=False,
            n_rows=1,
            glob=False,
            storage_options=storage,
        )
        return rows.collect(engine="in-memory")

    def _native_csv(self, rows: str | bytes, **options: Any) -> pl.LazyFrame:
        """Return a scan of a file, or of what stands in one."""
        return pl.scan_csv(
            rows,
            **self.csv_options,
            **options,
            schema_overrides=dict(self.declared),
            glob=False,
            storage_options=uris.polars_options(rows, self.storage_options) if isinstance(rows, str) else None,
            raise_if_empty=True,
        )

    def scan(
        self,
        files: Sequence[FileInfo],
        schema: pl.Schema,
        *,
        keys: Mapping[str, pl.DataType] | None = None,
        file_column: bool = False,
    ) -> pl.LazyFrame:
        """Return a lazy scan of the files with just the columns of ``schema``; reads nothing but footers of files in parts.

        ``keys`` are the columns that stand in the names of folders; by default what the first file's path says. With
        ``file_column`` each row carries its file's URI in ``_lazypipe_file``.
        """
        extra = [FILE_COLUMN] if file_column else []
        if not files:
            return pl.LazyFrame(schema={**schema, **dict.fromkeys(extra, pl.String)})
        keys = self.keys(files, schema) if keys is None else keys
        stored = pl.Schema({n: t for n, t in schema.items() if n not in keys})
        by_row = TEXT in stored
        parts = [f for f in files if by_row or f.end is not None]
        whole = [f for f in files if not by_row and f.end is None] if parts else files
        places: dict[str, RowPlaces] = {}
        scans = self._wholes(whole, stored, keys, file_column=file_column) if whole else []
        scans += [self._part(f, stored, keys, places) for f in parts]
        return pl.concat([frame.select(*schema, *extra) for frame in scans])

    def _wholes(
        self, files: Sequence[FileInfo], stored: pl.Schema, keys: Mapping[str, pl.DataType], *, file_column: bool
    ) -> list[pl.LazyFrame]:
        """Return the rows of whole files: in one scan, or where it does not find what folders say, folder by folder."""
        names = [f.uri for f in files]
        column = FILE_COLUMN if file_column else None
        native = uris.is_native(names[0])
        if native and (not keys or (self.format in TYPED_FORMATS and hive.is_plain(keys, names))):
            return [self._native(names, stored, keys, column)]
        groups: dict[str, list[str]] = {}
        for name in names:
            one = not native and file_column
            groups.setdefault(name if one else name.rpartition("/")[0] if keys else "", []).append(name)
        if native:
            frames = {group[0]: self._native(group, stored, {}, column) for group in groups.values()}
        else:
            # what is appended while they are read is not read, as it is not consumed
            ends = {f.uri: (0, f.size) for f in files if f.size is not None} if self.format in TEXT_FORMATS else {}
            frames = {group[0]: self._through_fsspec(group, stored, ends) for group in groups.values()}
        told = file_column and not native
        return [
            frame.with_columns(*([pl.lit(first).alias(FILE_COLUMN)] if told else []), *hive.as_literals(first, keys))
            for first, frame in frames.items()
        ]

    def _part(
        self,
        file: FileInfo,
        stored: pl.Schema,
        keys: Mapping[str, pl.DataType],
        places: dict[str, RowPlaces],
    ) -> pl.LazyFrame:
        """Return the rows of a part of a file (bytes of text, or row groups), or of a file that is read row by row, with the part's key as a column."""
        if self.format == "parquet":
            assert file.end is not None
            if file.uri not in places:  # of which there may be many parts
                places[file.uri] = RowPlaces.of(file.uri, self.storage_options)
            first, rows = places[file.uri].between(file.start, file.end)
            native = uris.is_native(file.uri)
            frame = self._native([file.uri], stored) if native else self._through_fsspec([file.uri], stored)
            frame = frame.slice(first, rows)
        else:
            part = _bytes_of(file)
            frame = self._through_fsspec([file.uri], stored, {} if part is None else {file.uri: part})
        return frame.with_columns(pl.lit(file.key).alias(FILE_COLUMN), *hive.as_literals(file.uri, keys))

    def keys(self, files: Sequence[FileInfo], schema: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
        """Return the columns of ``schema`` whose values are in the names of the files' folders."""
        found = hive.values(files[0].uri) if files else {}
        return {n: t for n, t in schema.items() if n in found}

    def check(self, files: Sequence[FileInfo], schema: pl.Schema, *, inside: bool = True, folders: bool = True) -> None:
        """Refuse what Polars would pass over in silence, or not name: an empty file, one in another kind of folder.

        ``inside`` tells whether the columns inside files are to be looked at too, where a scan does not; ``folders`` whether all
        files must be in the same kind of folder: those of a dataset need not, as its commit says of each which it is in.
        """
        keys = self.keys(files, schema) if folders else {}
        for file in files:
            _refuse_empty(file)
            if other := [k for k in keys if k not in hive.values(file.uri)]:
                raise SourceError(f"the file is in no folder {other[0]}=…", uri=file.uri, fix="move it into one")
        # IPC is scanned without a schema: what is not read of a file is not looked for
        in_parallel(
            lambda file: self._refuse_other_columns(file, schema), files if inside and self.format == "ipc" else ()
        )

    def culprit(self, files: Sequence[FileInfo], schema: pl.Schema) -> SourceError | None:
        """Return the error that names the first file which cannot be read, None if all can."""
        for file in files:
            try:
                if self.format in TYPED_FORMATS or self.format == "csv":
                    self._refuse_other_columns(file, schema)
                self.scan([file], schema).select(pl.all().null_count()).collect(engine="streaming")
            except BaseException as found:
                if not cannot_read(found):
                    raise
                return self.unreadable(file, found)
        return None

    def _refuse_other_columns(self, file: FileInfo, schema: pl.Schema) -> None:
        """Say which column of a file that knows its columns is not as in the first one. Their order may differ."""
        from lazypipe.storage.external.scan import refuse_other_columns

        keys = self.keys([file], schema)
        expected = pl.Schema({n: t for n, t in schema.items() if n not in keys and n not in COLUMNS})
        if self.format == "csv":  # which knows no types
            names = self.header(file, expected)
            refuse_misread(file.uri, names, self.csv_options, expected)
            found = {n: expected.get(n, pl.String()) for n in names}
        else:
            found = {n: t for n, t in self._infer(file).items() if n not in keys}
        refuse_other_columns(file.uri, found, expected)

    def unreadable(self, file: FileInfo, error: BaseException) -> SourceError:
        """Return an error that names the file which could not be read, with a fix; an error that has a fix is returned as it is."""
        if isinstance(error, SourceError) and error.fix is not None:
            return error
        fixes = {
            "csv": "fix the row, declare the column's type in contract (on_type_change: discard_row quarantines such rows), or describe the file in read",
            "ndjson": "each line must be one JSON object; declare types in contract",
        }
        reason = error.what if isinstance(error, SourceError) else first_line(error)
        narrow, thousands = too_narrow(reason), None if self.masked else grouped(reason)
        if thousands is not None:
            fixes["csv"] = thousands
        told = self.told(error)
        if told.endswith("is not UTF-8"):
            fixes["csv"] = fixes["ndjson"] = (
                "convert it, such as with iconv -f WINDOWS-1252 -t UTF-8, or declare columns in contract: "
                "on_type_change: discard_row quarantines such rows"
            )
        if is_misfit(reason):
            fixes["ndjson"] = (
                "fix the line, declare another type in contract, or say on_type_change: discard_row there, "
                "which reads values in quotes, and quarantines rows that do not fit"
            )
        if is_packing(reason):
            fixes = {}
        if "unexpected dtype when deserializing ndjson" in reason:
            fixes["ndjson"] = "declare what stands there, such as String or Int64, and cast it in a stage"
        if lacking := next((what for said, what in _SERVES_WHOLE.items() if said in reason), None):
            what = f"cannot be read: the server {lacking}"
            return SourceError(what, uri=file.uri, fix="put simplecache:: in front of its URI, or copy it to a store")
        if narrow is not None and self.format in fixes:
            fixes[self.format] = (
                f"declare a type in contract that holds it, in the place of {narrow}: text shows no widths, so evolve follows none"
            )
        fix = fixes.get(self.format, AGAIN)
        if is_of_store(reason) or (not uris.is_local(file.uri) and not is_damage(error)):
            return SourceError(f"cannot be read: {told}", uri=file.uri, fix=_FETCH)
        if (number := os_error(error)) is not None:  # the content is not known to be wrong
            may_not = number in (EACCES, EPERM)
            fix = "give the user that runs it the right to read the file" if may_not else "fix the cause and run again"
        elif self.format != "csv" and (other := self.foreign(self.opening(file))) is not None:
            return SourceError(other[0], uri=file.uri, fix=other[1])  # of CSV, the header is looked at
        return SourceError(f"is not readable as {self.format}: {told}", uri=file.uri, fix=fix)

    def foreign(self, begin: str) -> tuple[str, str] | None:
        """Say what a file that begins so is, if it is of another format, and what to do; where lines are put aside one by one, the first may be anything."""
        return None if self.format == "ndjson" and self.by_row else document(begin, self.format)

    def opening(self, file: FileInfo) -> str:
        """Return how a file begins; nothing if that cannot be read either."""
        from lazypipe.storage.external.files import open_handle

        with suppress(Exception), closing(open_handle(file.uri, self.storage_options)) as handle:
            return handle.file.read(_OPENING).decode("utf-8", "replace")
        return ""

    def told(self, error: BaseException) -> str:
        """Return why a file could not be read, in plain words."""
        if isinstance(error, SourceError):
            return in_plain_words(error.what, masked=self.masked)
        if os_error(error):
            return plain_reason(error)
        if isinstance(error, FileNotFoundError) and not is_of_store(first_line(error)):
            return NOT_FOUND
        return in_plain_words(reason_of(error), masked=self.masked)

    def _through_fsspec(
        self, names: Sequence[str], schema: pl.Schema, parts: Mapping[str, tuple[int, int]] = NOTHING
    ) -> pl.LazyFrame:
        from lazypipe.storage.external.scan import scan_external

        return scan_external(
            names,
            format=self.format,
            schema=schema,
            storage_options=self.storage_options,
            read_options=self.csv_options if self.format == "csv" else None,
            parts=parts,
        )

    def _native(
        self,
        names: Sequence[str],
        schema: pl.Schema | None,
        keys: Mapping[str, pl.DataType] | None = None,
        file_column: str | None = None,
    ) -> pl.LazyFrame:
        form, storage = FORMATS[self.format], uris.polars_options(names[0], self.storage_options)
        options: dict[str, Any] = self.csv_options if self.format == "csv" else {}
        if form.magic:
            options |= {"hive_partitioning": bool(keys), "hive_schema": keys or None}
        if self.loose:
            options |= form.loose
        return form.scan(list(names), schema=schema, storage_options=storage, include_file_paths=file_column, **options)

    @property
    def marks(self) -> Marks:
        """The marks in numbers of text."""
        return Marks(bool(self.read.get("decimal_comma")), str(self.read.get("thousands", "")))

    @property
    def csv_options(self) -> dict[str, Any]:
        """How the rows of a CSV are written, as ``pl.scan_csv`` takes it."""
        options: dict[str, Any] = {_CSV_OPTIONS[k]: v for k, v in self.read.items() if k in _CSV_OPTIONS}
        if "null_values" in options:
            options["null_values"] = list(options["null_values"])
        if options.get("quote_char") == "":
            options["quote_char"] = None
        return options


def _bytes_of(file: FileInfo) -> tuple[int, int] | None:
    """Return between which bytes rows are read: what is appended meanwhile is not consumed."""
    end = file.size if file.end is None else file.end
    return None if end is None else (file.start, end)


def _refuse_empty(file: FileInfo) -> None:
    if file.size == 0:
        raise SourceError("the file is empty (0 bytes)", uri=file.uri, fix="deliver it again, or remove it")
