"""Scans of files on protocols that Polars does not support: ``memory``, ``zip``, ``sftp``, ``ftp``, ``github``, fsspec chains.

Each URI becomes one source of a ``pl.scan_external_reader``, so that plans show it and Polars asks for just the columns, the
filter and the rows that it needs. Parquet is read by byte ranges, CSV and NDJSON block by block; what can only be read whole
(IPC, zstd, compressed archive members, servers without ranges) goes through a temporary file that Polars then scans.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.io.external_reader import (
    FileReader,
    FileReaderBuilder,
    FilterExpr,
    ReaderCapabilities,
    scan_external_reader,
)

from lazypipe.errors import SourceError, nearest
from lazypipe.spec.model import NOTHING
from lazypipe.spec.types import dtype_name
from lazypipe.storage.external.blocks import CSV_OPTIONS, NDJSON_OPTIONS
from lazypipe.storage.external.content import Content, Request, open_content
from lazypipe.storage.external.files import reading
from lazypipe.storage.formats import TYPED_FORMATS
from lazypipe.storage.text.header import refuse_misread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["AGAIN", "NEW_COLUMN", "NO_COLUMN", "OTHER_TYPE", "external_schema", "refuse_other_columns", "scan_external"]

AGAIN = "deliver it again, or make it another source"
"""What to do about a file that the contract has no word for."""
NEW_COLUMN = (
    "deliver it again, make it another source, or say in its contract on_new_column: "
    "evolve, discard_column or discard_row"
)
"""What to do about a file that has a column more."""
NO_COLUMN = (
    "deliver it again, make it another source, or say in its contract on_missing_column: "
    "evolve, discard_column or discard_row"
)
"""What to do about a file that lacks a column."""
OTHER_TYPE = (
    "deliver it again, make it another source, or say in its contract on_type_change: "
    "evolve, freeze, discard_column or discard_row"
)
"""What to do about a file in which a column has another type."""

_OPTIONS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(TYPED_FORMATS, frozenset()),
    "csv": CSV_OPTIONS,
    "ndjson": NDJSON_OPTIONS,
}


def scan_external(
    uris: Sequence[str],
    *,
    format: str,  # noqa: A002  the word of the definition
    schema: pl.Schema | None = None,
    storage_options: Mapping[str, Any] | None = None,
    read_options: Mapping[str, Any] | None = None,
    parts: Mapping[str, tuple[int, int]] | None = None,
) -> pl.LazyFrame:
    """Scan files of any fsspec protocol.

    Parameters
    ----------
    uris
        One or more files, no patterns: ``*`` and ``?`` stand for themselves. Plans show them as they are.
    format
        Of all the files. CSV and NDJSON may be compressed with gzip or zstd, which is seen from their content.
    schema
        Columns of every file, by name; without it those of the first file. Files of the self-describing formats must have
        exactly these types. CSV and NDJSON are parsed into them; a CSV file without a header takes its names from here.
    storage_options
        Options of the fsspec filesystem, in a chain under each protocol's name.
    read_options
        For CSV a subset of the keywords of ``pl.scan_csv`` (:data:`~lazypipe.storage.external.blocks.CSV_OPTIONS`), for NDJSON
        ``schema_overrides``, for others none.
    parts
        Of text files that are not compressed: URI → the bytes between which rows are read.

    Returns
    -------
    pl.LazyFrame
        The rows of the files, one file after the other, values and nulls as Polars' own scan gives them.

    Raises
    ------
    SourceError
        Here, if the schema of the first file is needed and cannot be read; when collected, if a file is missing, empty
        (CSV, NDJSON: zero bytes), damaged, or has other columns than expected. It names the file.
    ValueError
        If there is no URI, or an unknown read option.
    """
    if not uris:
        msg = "no files to scan"
        raise ValueError(msg)
    _check_options(format, read_options)
    if schema is None:
        schema = external_schema(uris[0], format=format, storage_options=storage_options, read_options=read_options)
    builder = _Builder(format, schema, dict(storage_options or {}), dict(read_options or {}), dict(parts or {}))
    return scan_external_reader(builder, sources=list(uris), schema=schema, expand_paths=False)


def external_schema(
    uri: str,
    *,
    format: str,  # noqa: A002
    storage_options: Mapping[str, Any] | None = None,
    read_options: Mapping[str, Any] | None = None,
) -> pl.Schema:
    """Return the columns of a file, reading its footer (Parquet) or its first rows (CSV, NDJSON); IPC is read whole.

    Types of CSV and NDJSON are inferred from the first 100 rows. See :func:`scan_external` for the parameters and errors.
    """
    _check_options(format, read_options)
    with reading(uri):
        content = open_content(uri, format, None, storage_options or {}, read_options or {})
        try:
            return content.schema
        finally:
            content.close()


def _check_options(format: str, options: Mapping[str, Any] | None) -> None:  # noqa: A002
    for name in options or {}:
        if name not in _OPTIONS[format]:
            msg = f"{format} has no read option {name!r}; {nearest(name, _OPTIONS[format], 'read options')}"
            raise ValueError(msg)


@dataclass(frozen=True)
class _Builder(FileReaderBuilder):
    """Makes a reader per file. Holds options only, so that a plan can be pickled."""

    format: str
    schema: pl.Schema
    storage_options: Mapping[str, Any] = field(repr=False)
    read_options: Mapping[str, Any]
    parts: Mapping[str, tuple[int, int]] = NOTHING

    def reader_capabilities(self) -> ReaderCapabilities:
        return ReaderCapabilities(row_index=True, pre_slice=True, supported_filter="partial")

    def build_file_reader(self, source: str | bytes, multi_scan_context: dict[Any, Any]) -> FileReader:
        return _Reader(self, source if isinstance(source, str) else source.decode())

    def explain_properties(self) -> dict[str, str]:
        # Options stay out: they hold credentials, and plans are logged.
        parts = [f"{start}-{end}" for start, end in self.parts.values() if start]
        return {"reader": "lazypipe", "format": self.format, **({"bytes": ", ".join(parts)} if parts else {})}


class _Reader(FileReader):
    """Answers Polars' questions about one file; every error names it."""

    def __init__(self, builder: _Builder, uri: str) -> None:
        self._builder = builder
        self._uri = uri
        self._content: Content | None = None

    def _opened(self) -> Content:
        if self._content is None:
            b = self._builder
            part = b.parts.get(self._uri)
            self._content = open_content(self._uri, b.format, b.schema, b.storage_options, b.read_options, part)
            if b.format == "csv":
                refuse_misread(self._uri, self._content.schema.names(), b.read_options, b.schema)
            refuse_other_columns(self._uri, self._content.schema, b.schema)
        return self._content

    def fetch_metadata(self) -> None:
        with reading(self._uri):
            self._opened()

    def schema(self) -> pl.Schema:
        with reading(self._uri):
            return self._opened().schema

    def n_rows_in_file(self, limit: int | None = None) -> int:
        with reading(self._uri):
            return self._opened().rows(limit)

    def collect_batches(
        self,
        *,
        columns: Sequence[str],
        row_index: tuple[str, int] | None,
        pre_slice: tuple[int, int] | None,
        filters: Sequence[FilterExpr],
        num_pipelines: int,
    ) -> Iterator[pl.DataFrame]:
        start, length = pre_slice or (0, None)
        stop = None if length is None else start + length
        request = Request(columns, row_index, start, stop, [f.expr for f in filters])
        with reading(self._uri):
            yield from self._opened().batches(request)

    def on_drop(self) -> None:
        if self._content is not None:
            self._content.close()
            self._content = None


def refuse_other_columns(uri: str, found: Mapping[str, pl.DataType], expected: Mapping[str, pl.DataType]) -> None:
    """Raise SourceError for a file that has other columns; Polars would refuse it as well, without naming the file."""
    missing = next((n for n in expected if n not in found), None)
    if missing is not None:
        raise SourceError(f"the file lacks column {missing!r}", uri=uri, fix=NO_COLUMN)
    more = next((n for n in found if n not in expected), None)
    if more is not None:
        raise SourceError(f"the file has a column {more!r} that is not expected", uri=uri, fix=NEW_COLUMN)
    for name, dtype in expected.items():
        if found[name] != dtype:
            what = f"the file has {dtype_name(found[name])} in column {name!r}, not {dtype_name(dtype)}"
            raise SourceError(what, uri=uri, fix=OTHER_TYPE)
