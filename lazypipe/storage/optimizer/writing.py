"""Writing rows in a layout: with Polars' writer, or batch by batch with pyarrow's, which has more options.

With pyarrow rows are gathered per partition until they make a row group; what is gathered at one time is bounded, so memory is too.
"""

from __future__ import annotations

import importlib
import inspect
import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, BinaryIO

import polars as pl
import polars.selectors as cs

from lazypipe.errors import StorageError, nearest
from lazypipe.spec.types import dtype_name
from lazypipe.sql.exprs import empty
from lazypipe.storage import hive
from lazypipe.storage.optimizer.layout import CURVES, Layout

__all__ = ["CODECS", "ENCODINGS", "BatchWriter", "check_layout", "polars_options", "writable", "write_frame"]

CODECS = ("zstd", "lz4", "snappy", "gzip", "brotli", "uncompressed")

# encoding → physical type in the file → what Parquet calls it
_INTS = ("INT32", "INT64")
_BYTES = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
ENCODINGS: Mapping[str, Mapping[str, str]] = {
    "plain": dict.fromkeys(("BOOLEAN", "FLOAT", "DOUBLE", "INT96", *_INTS, *_BYTES), "PLAIN"),
    "dictionary": dict.fromkeys(("FLOAT", "DOUBLE", "INT96", *_INTS, *_BYTES), ""),
    "delta": dict.fromkeys(_INTS, "DELTA_BINARY_PACKED") | dict.fromkeys(_BYTES, "DELTA_BYTE_ARRAY"),
    "delta_length": {"BYTE_ARRAY": "DELTA_LENGTH_BYTE_ARRAY"},
    "byte_stream_split": dict.fromkeys(("FLOAT", "DOUBLE", "FIXED_LEN_BYTE_ARRAY", *_INTS), "BYTE_STREAM_SPLIT"),
    "rle": {"BOOLEAN": "RLE"},
}
"""Encoding → types in the file that can have it → its name in Parquet."""

_ROW_GROUP = 122_880
_MOST_GATHERED = 256 << 20
_PAGE = 1 << 20


def check_layout(layout: Layout, schema: Mapping[str, pl.DataType], uri: str) -> None:
    """See that a layout fits columns, before anything is read or written.

    Raises
    ------
    StorageError
        If it names a codec, an encoding, a column or a curve that does not exist, or a column whose values cannot be a partition column, or
        asks Polars' writer for what only pyarrow's can.
    """
    for codec in (layout.codec, *(c for c, _ in layout.codecs.values())):
        if codec not in CODECS:
            raise StorageError(f"there is no codec {codec!r}", uri=uri, fix=nearest(codec, CODECS, "codecs"))
    for encoding in layout.encodings.values():
        if encoding not in ENCODINGS:
            fix = nearest(encoding, ENCODINGS, "encodings")
            raise StorageError(f"there is no encoding {encoding!r}", uri=uri, fix=fix)
    if layout.curve not in CURVES:
        raise StorageError(f"there is no order {layout.curve!r}", uri=uri, fix=nearest(layout.curve, CURVES, "orders"))
    if layout.writer not in ("polars", "pyarrow"):
        raise StorageError(f"there is no writer {layout.writer!r}", uri=uri, fix="write polars or pyarrow")
    for name in (*layout.sort_by, *layout.partition_by):
        if name not in schema:
            raise StorageError(f"there is no column {name!r}", uri=uri, fix=nearest(name, schema, "columns"))
    for name in layout.partition_by:
        if not hive.can_name(schema[name]):
            what = f"{dtype_name(schema[name])} column {name!r} cannot be a partition column"
            raise StorageError(what, uri=uri, fix="partition by text, whole numbers, booleans, dates or datetimes")
    if layout.writer == "polars" and (asked := [n for n in ("codecs", "encodings", "bloom") if getattr(layout, n)]):
        what = f"Polars' writer cannot do {' or '.join(asked)} per column"
        raise StorageError(what, uri=uri, fix="write writer: pyarrow, or leave them out")


def polars_options(layout: Layout) -> dict[str, Any]:
    """Return what Polars' writer is told of a layout.

    Examples
    --------
    >>> polars_options(Layout(codec="lz4", row_group_rows=1000))
    {'compression': 'lz4', 'compression_level': None, 'statistics': True, 'row_group_size': 1000, 'data_page_size': None}
    """
    return {
        "compression": layout.codec,
        "compression_level": layout.level,
        "statistics": layout.statistics,
        "row_group_size": layout.row_group_rows,
        "data_page_size": layout.page_bytes,
    }


def writable(schema: Mapping[str, pl.DataType]) -> bool:
    """Whether pyarrow knows all types: integers of 128 bits it does not.

    Examples
    --------
    >>> writable({"a": pl.List(pl.Int64)}), writable({"a": pl.Struct({"x": pl.Int128})})
    (True, False)
    """
    return not any(_has(t, (pl.Int128, pl.UInt128, pl.Object)) for t in schema.values())


def _has(dtype: pl.DataType, kinds: tuple[type[pl.DataType], ...]) -> bool:
    match dtype:
        case pl.List() | pl.Array():
            return _has(_instance(dtype.inner), kinds)
        case pl.Struct():
            return any(_has(_instance(f.dtype), kinds) for f in dtype.fields)
        case _:
            return isinstance(dtype, kinds)


def _instance(dtype: Any) -> pl.DataType:
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made


def _parquet(uri: str) -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        what = "the layout asks for pyarrow's writer, and pyarrow is not installed"
        fix = 'pip install "lazypipe[pyarrow]", or choose a layout with writer: polars'
        raise StorageError(what, uri=uri, fix=fix) from None


def _has_bloom_filters(writer: type) -> bool:
    """Whether this pyarrow writes bloom filters; where it does not they are left out, as no reader depends on them."""
    return "bloom_filter_options" in inspect.signature(writer).parameters


@dataclass
class _Open:
    """What is being written of one partition: rows that wait for their row group, and the file that is open."""

    keys: pl.DataFrame
    index: int = 0
    waiting: list[pl.DataFrame] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    path: str = ""
    file: Any = None
    writer: Any = None
    written: int = 0


class BatchWriter:
    """Writes batches of rows by pyarrow, a file (or several) per partition.

    Parameters
    ----------
    layout
        How. Its ``sort_by`` is up to whoever gives the batches.
    schema
        The columns of the batches.
    partition_by
        Those of them that do not go into files, but tell which file.
    create
        Makes a file: called with the partition's keys (a frame of one row, or of none) and the file's number in it; returns its path,
        and the file to write to, which is closed here.
    uri
        What is written to, for messages.
    most_rows
        Rows of a file. Default: as many as make the layout's ``file_bytes``.
    """

    def __init__(
        self,
        layout: Layout,
        schema: Mapping[str, pl.DataType],
        partition_by: tuple[str, ...],
        create: Callable[[pl.DataFrame, int], tuple[str, BinaryIO]],
        uri: str,
        most_rows: int | None = None,
    ) -> None:
        self._most_rows = most_rows
        self._parquet = _parquet(uri)
        self.layout = layout
        self.uri = uri
        self.done: list[tuple[str, int, int]] = []
        self._create = create
        self._by = partition_by
        self._schema = schema
        self._open: dict[Any, _Open] = {}
        self._gathered = 0
        self._group = layout.row_group_rows or _ROW_GROUP
        inside = empty({n: t for n, t in schema.items() if n not in partition_by})
        self._arrow = inside.to_arrow().schema
        self._options = _pyarrow_options(layout, self._arrow, uri)

    def add(self, batch: pl.DataFrame) -> None:
        """Take rows; whole row groups are written."""
        if not self._by:
            self._take((), batch)
        elif batch.height:
            for part in batch.partition_by(self._by, maintain_order=True):
                self._take(self._place(part), part)
        while self._gathered > _MOST_GATHERED:
            self._flush(max(self._open.values(), key=lambda o: o.bytes), self._group)

    def _place(self, part: pl.DataFrame) -> Any:
        """Return what tells a partition from others: to Python, an hour that comes twice is one, and nanoseconds are nothing."""
        return part.head(1).select(self._by).with_columns(cs.temporal().to_physical()).row(0)

    def _take(self, key: Any, rows: pl.DataFrame) -> None:
        if key not in self._open:
            self._open[key] = _Open(rows.head(1).select(self._by) if self._by else pl.DataFrame())
        target = self._open[key]
        inside = rows.drop(self._by) if self._by else rows
        target.waiting.append(inside)
        target.rows += inside.height
        size = int(inside.estimated_size())
        target.bytes += size
        self._gathered += size
        while target.rows >= self._group:
            self._flush(target, self._group)

    def _flush(self, target: _Open, most: int) -> None:
        """Write a row group of what has been gathered of a partition."""
        if self._most_rows is not None:
            most = min(most, self._most_rows - target.written)
        rows = pl.concat(target.waiting)  # as it lies: only what is written is put together
        group, rest = rows.head(most).rechunk(), rows.slice(most)
        self._gathered -= target.bytes
        target.waiting, target.rows, target.bytes = (
            [rest],
            rest.height,
            int(rest.estimated_size()) if rest.height else 0,
        )
        self._gathered += target.bytes
        if target.writer is None:
            target.path, target.file = self._create(target.keys, target.index)
            target.writer = self._parquet.ParquetWriter(target.file, self._arrow, **self._options)
        if group.height:
            target.writer.write_table(group.to_arrow().cast(self._arrow), row_group_size=group.height)
            target.written += group.height
        if self._is_full(target):
            self._close(target)

    def _is_full(self, target: _Open) -> bool:
        if self._most_rows is not None:
            return target.written >= self._most_rows
        return self.layout.file_bytes is not None and int(target.file.tell()) >= self.layout.file_bytes

    def _close(self, target: _Open) -> None:
        if target.writer is not None:
            target.writer.close()
            size = target.file.tell()
            target.file.close()
            self.done.append((target.path, target.written, size))
            target.writer, target.file, target.written = None, None, 0
            target.index += 1

    def finish(self) -> list[tuple[str, int, int]]:
        """Write the rest; return the files with their rows and bytes. Without any rows there is one file, unless in partitions."""
        if not self._by and not self._open:
            self._take((), pl.DataFrame(schema=dict(self._schema)))
        for target in self._open.values():
            if not target.rows and not target.index and target.writer is None:
                self._flush(target, 1)
            while target.rows:
                self._flush(target, target.rows)
            self._close(target)
        return self.done

    def abort(self) -> None:
        """Close what is open, after a failure; files stay for whoever discards them."""
        for target in self._open.values():
            with suppress(Exception):  # a writer that failed fails again, and one that was never made is None
                target.writer.close()
            if target.writer is not None:
                target.writer.is_open = False  # else it tries once more when nobody listens
            with suppress(Exception):
                target.file.close()


def write_frame(frame: pl.DataFrame, layout: Layout, out: BinaryIO, uri: str) -> None:
    """Write rows as they stand, by pyarrow, into one file that stays open; ``uri`` is for messages.

    Raises
    ------
    StorageError
        If a column has an encoding that is not made for what it is in the file, or if pyarrow is not installed.
    """
    parquet, rows = _parquet(uri), frame.to_arrow()
    with parquet.ParquetWriter(out, rows.schema, **_pyarrow_options(layout, rows.schema, uri)) as writer:
        if frame.height:
            writer.write_table(rows, row_group_size=layout.row_group_rows or frame.height)


def _pyarrow_options(layout: Layout, schema: Any, uri: str) -> dict[str, Any]:
    """Return what pyarrow's writer is told of a layout, by the paths of the leaves of its own ``schema``; ``uri`` is for messages.

    Raises
    ------
    StorageError
        If a column has an encoding that is not made for what it is in the file.
    """
    leaves = _leaves(schema)
    chosen = {p: e for p, (name, _) in leaves.items() if (e := layout.encodings.get(name)) is not None}
    named: dict[str, str] = {}
    for path, encoding in chosen.items():
        name, kind = leaves[path]
        if kind not in ENCODINGS[encoding]:
            what = f"column {name!r} is {kind} in the file, which encoding {encoding!r} is not made for"
            fitting = [e for e, kinds in ENCODINGS.items() if kind in kinds]
            raise StorageError(what, uri=uri, fix=f"choose one of {', '.join(fitting)}")
        named[path] = ENCODINGS[encoding][kind]
    codecs = {p: layout.codecs.get(n, (layout.codec, layout.level)) for p, (n, _) in leaves.items()}
    levels = {p: level for p, (_, level) in codecs.items() if level is not None}
    options: dict[str, Any] = {
        "compression": {p: "none" if c == "uncompressed" else c for p, (c, _) in codecs.items()},
        "compression_level": levels or None,
        "use_dictionary": [p for p in leaves if chosen.get(p, "dictionary") == "dictionary"] or False,
        "column_encoding": {p: e for p, e in named.items() if e} or None,
        "write_statistics": layout.statistics,
        "data_page_size": layout.page_bytes or _PAGE,
        # as Polars does: there are encodings for whole numbers that bytes have not
        "store_decimal_as_integer": True,
    }
    if layout.bloom and _has_bloom_filters(_parquet(uri).ParquetWriter):
        wanted = [p for p, (n, kind) in leaves.items() if n in layout.bloom and kind != "BOOLEAN"]
        group = layout.row_group_rows or _ROW_GROUP
        options["bloom_filter_options"] = {p: {"ndv": group, "fpp": 0.01} for p in wanted}
    return options


def _leaves(schema: Any) -> dict[str, tuple[str, str]]:
    """Return path in the file → column and physical type, of each leaf."""
    inside = _inside(tuple(dict.fromkeys(schema.types)))
    return {
        name + path: (name, kind)
        for name, t in zip(schema.names, schema.types, strict=True)
        for path, kind in inside[t]
    }


@lru_cache
def _inside(types: tuple[Any, ...]) -> dict[Any, list[tuple[str, str]]]:
    """Return type of pyarrow → its leaves' paths and physical types: it is asked of a file with one column of each."""
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    alike = arrow.schema([(str(i), t) for i, t in enumerate(types)])
    with parquet.ParquetWriter(out := io.BytesIO(), alike, store_decimal_as_integer=True):
        pass
    made = parquet.ParquetFile(out).schema
    leaves: dict[Any, list[tuple[str, str]]] = {t: [] for t in types}
    for leaf in map(made.column, range(len(made))):
        number, dot, rest = leaf.path.partition(".")
        leaves[types[int(number)]].append((dot + rest, leaf.physical_type))
    return leaves
