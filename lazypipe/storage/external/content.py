"""An open file as a table: by byte ranges, by blocks, or as a temporary copy that Polars scans itself."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import polars as pl

from lazypipe.storage.external.blocks import TextBlocks, TextFormat, columns_of, is_zstd, open_text, text_format
from lazypipe.storage.external.files import Handle, open_handle, spool, verify
from lazypipe.storage.formats import FORMATS, TEXT_FORMATS
from lazypipe.storage.parquet.ranges import TRAILER, ChunkRange, Footer, footer_length
from lazypipe.storage.text.by_row import TEXT, BrokenText

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lazypipe.storage.parquet.prune import Bounds

__all__ = ["Content", "Request", "open_by_row", "open_content"]

_TAIL = 64 << 10  # holds the footer of most files, so that one read finds it
_GAP = 64 << 10  # ranges closer than this are cheaper to read as one
_BEGINNING = 4 << 10  # holds the header of most text files
_PIECE = 1 << 20
_BATCH = 4 << 20  # small row groups are read together, up to this many bytes


@dataclass(frozen=True)
class Request:
    """The rows that Polars wants of a file: numbered, then sliced, then filtered.

    ``row_index`` is the name of the column of row numbers and the number of the file's first row. ``stop`` is None for the
    end of the file. Rows that fail ``filters`` may be left out or not.
    """

    columns: Sequence[str]
    row_index: tuple[str, int] | None
    start: int
    stop: int | None
    filters: Sequence[pl.Expr]

    def numbered(self, frame: pl.DataFrame, first: int) -> pl.DataFrame:
        """Return ``frame``, whose first row is row ``first`` of the file, with row numbers if they are wanted."""
        if self.row_index is None:
            return frame
        name, offset = self.row_index
        return frame.with_row_index(name, offset + first)


class Content(Protocol):
    """An open file as a table. Methods raise whatever goes wrong; the caller names the file."""

    @property
    def schema(self) -> pl.Schema:
        """Names and types of the columns, in the order of the file."""

    def rows(self, limit: int | None = None) -> int:
        """Count the rows; counting may stop at ``limit``."""

    def batches(self, request: Request) -> Iterator[pl.DataFrame]:
        """Yield the wanted rows in order, and frames of the right height if no columns are wanted."""

    def close(self) -> None:
        """Close the file, and delete its temporary copy."""


def open_content(
    uri: str,
    format: str,  # noqa: A002
    declared: pl.Schema | None,
    storage_options: Mapping[str, Any],
    read_options: Mapping[str, Any],
    part: tuple[int, int] | None = None,
) -> Content:
    """Open a file in the way that reads least of it.

    ``declared`` gives the types that CSV and NDJSON are parsed into; the other formats know their own. With ``part``, only the
    rows between these bytes are read, of a text file that is not compressed; its header stands at its start.
    """
    if format in TEXT_FORMATS:
        if declared is not None and TEXT in declared:
            return open_by_row(uri, text_format(format, read_options), declared, storage_options, part)
        return _open_text(uri, text_format(format, read_options), declared, storage_options, part)
    handle = open_handle(uri, storage_options)
    try:
        if format == "parquet" and handle.random:
            verify(uri, handle)
            return _ParquetContent(handle)
        copy = spool(handle.file)
    except BaseException:
        handle.close()
        raise
    handle.close()
    if format != "parquet":
        return _CopyContent(copy, lambda path: FORMATS[format].scan([path]))
    copied = Handle(copy, random=True)
    try:
        return _ParquetContent(copied)
    except BaseException:
        copied.close()
        raise


def _open_text(
    uri: str,
    text: TextFormat,
    declared: pl.Schema | None,
    storage_options: Mapping[str, Any],
    part: tuple[int, int] | None,
) -> Content:
    file = _TextFile(uri, storage_options, part)
    try:
        beginning = file.beginning(text)
        stream = file.open()
        if not is_zstd(stream):
            return _TextContent(text, file, stream, declared, beginning)
        copy = spool(stream)
    except BaseException:
        file.close()
        raise
    file.close()

    def scan(path: str) -> pl.LazyFrame:
        return text.scan(path, columns_of(text, path, declared), first=True, n_rows=None)

    return _CopyContent(copy, scan)


def open_by_row(
    uri: str,
    text: TextFormat,
    declared: pl.Schema,
    storage_options: Mapping[str, Any],
    part: tuple[int, int] | None,
) -> BrokenText:
    """Open a file in which some rows cannot be read."""
    found = _TextFile(uri, storage_options, part)
    file: _TextFile | _Unpacked = found
    try:
        beginning = found.beginning(text)
        if is_zstd(stream := found.open()):
            with spool(stream) as packed:
                found.close()
                file = _Unpacked(packed.name)
        return BrokenText(text, file, declared, beginning)
    except BaseException:
        file.close()
        raise


class _Unpacked:
    """The lines of a file in a compression that only Polars supports, as a temporary copy; how lines end is not known."""

    on_lines = True

    def __init__(self, path: str) -> None:
        self._copy = tempfile.NamedTemporaryFile(prefix="lazypipe-")  # noqa: SIM115  closed with the content
        try:
            for batch in pl.scan_lines(path, glob=False).collect_batches(maintain_order=True):
                self._copy.write("".join(f"{line}\n" for line in batch["line"]).encode())
            self._copy.flush()
        except BaseException:
            self._copy.close()
            raise

    def beginning(self, _: TextFormat) -> None:
        return None

    def open(self) -> BinaryIO:
        return open(self._copy.name, "rb")

    def lines_ahead(self) -> int:
        return 0

    def close(self) -> None:
        self._copy.close()


class _TextFile:
    """A text file, or a part of one, that can be read from its start more than once."""

    on_lines = False

    def __init__(self, uri: str, storage_options: Mapping[str, Any], part: tuple[int, int] | None) -> None:
        self._uri = uri
        self._options = storage_options
        self._part = part
        self._handle: Handle | None = None

    def open(self) -> io.BufferedReader:
        self.close()
        self._handle = open_handle(self._uri, self._options)
        return open_text(
            self._handle.file if self._is_all(self._handle) else self._handle.part(*(self._part or (0, 0)))
        )

    def _is_all(self, handle: Handle) -> bool:
        """Whether the file has no more bytes than are wanted; what cannot be read by position is then read as it is."""
        if self._part is None or self._part[0]:
            return self._part is None
        if not handle.random:
            return True
        size = handle.size()
        handle.file.seek(0)
        return size <= self._part[1]

    def beginning(self, text: TextFormat) -> bytes | None:
        """Return the header of the file and its first row, for a part that does not begin with them; None if it does."""
        if self._part is None or self._part[0] == 0:
            return None
        most, size = self._part[0], _BEGINNING
        while True:
            handle = open_handle(self._uri, self._options)
            with handle.part(0, min(size, most)) as stream:
                block = stream.read()
            begins = text.begins(block)
            # a row behind the header: what has no columns of its own has those of its first row
            end = 0 if begins is None else begins + text.row_end(block[begins:])
            if (begins is not None and end > begins) or size >= most:
                return block[:end] if end else block
            size *= 2

    def lines_ahead(self) -> int:
        """Count the lines of the file ahead of the part."""
        if self._part is None or not self._part[0]:
            return 0
        with open_handle(self._uri, self._options).part(0, self._part[0]) as stream:
            return sum(piece.count(b"\n") for piece in iter(partial(stream.read, _PIECE), b""))

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


class _ParquetContent:
    """Parquet by byte ranges: the footer first, then only the wanted chunks of the row groups that can hold wanted rows."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        size = handle.size()
        self._tail_start = max(0, size - _TAIL)
        self._tail = handle.read_at(self._tail_start, size - self._tail_start)
        data_end = size - TRAILER - footer_length(self._tail)
        if data_end < 0:
            msg = "the footer is longer than the file"
            raise ValueError(msg)
        self._footer = Footer(self._read(ChunkRange(data_end, size - TRAILER - data_end)), data_end=data_end)
        empty = self._footer.mini_file([], self._footer.columns, [])
        self.schema = pl.Schema(pl.read_parquet_schema(empty))

    def rows(self, limit: int | None = None) -> int:
        return self._footer.num_rows

    def batches(self, request: Request) -> Iterator[pl.DataFrame]:
        for first, groups in self._plan(request):
            frame = self._decode(groups, request.columns)
            skip = max(0, request.start - first)
            stop = None if request.stop is None else max(0, request.stop - first - skip)
            yield request.numbered(frame.slice(skip, stop), first + skip)

    def close(self) -> None:
        self._handle.close()

    def _plan(self, request: Request) -> Iterator[tuple[int, list[int]]]:
        """Yield runs of neighbouring row groups to read together, each with the number of its first row."""
        from lazypipe.storage.parquet.prune import may_match

        test = may_match(request.filters, self.schema)
        run: list[int] = []
        run_first = first = size = 0
        for group, rows in enumerate(self._footer.group_rows):
            last, first = first, first + rows  # first row of this group, of the next
            wanted = first > request.start and (request.stop is None or last < request.stop)
            wanted = wanted and rows > 0 and test(partial(self._bounds, group))
            cost = sum(r.length for r in self._footer.ranges(group, request.columns)) if wanted else 0
            if run and (not wanted or size + cost > _BATCH):
                yield run_first, run
                run, size = [], 0
            if wanted:
                run_first = run_first if run else last
                run.append(group)
                size += cost
        if run:
            yield run_first, run

    def _bounds(self, group: int, name: str) -> Bounds | None:
        from lazypipe.storage.parquet.prune import bounds

        if name not in self.schema:  # the column of row numbers
            return None
        return bounds(self._footer.statistics(group, name), self.schema[name])

    def _decode(self, groups: Sequence[int], columns: Sequence[str]) -> pl.DataFrame:
        if not columns:
            return pl.DataFrame(height=sum(self._footer.group_rows[g] for g in groups))
        chunks = self._fetch([r for g in groups for r in self._footer.ranges(g, columns)])
        mini = self._footer.mini_file(groups, columns, chunks)
        del chunks
        return pl.read_parquet(mini, use_statistics=False, glob=False).select(columns)

    def _fetch(self, ranges: Sequence[ChunkRange]) -> list[memoryview]:
        """Read ranges, those close to each other in one go; return them in the order given."""
        out: dict[ChunkRange, memoryview] = {}
        span: list[ChunkRange] = []
        for item in sorted(ranges):
            if span and item.start > max(r.start + r.length for r in span[-1:]) + _GAP:
                out |= self._span(span)
                span = []
            span.append(item)
        if span:
            out |= self._span(span)
        return [out[item] for item in ranges]

    def _span(self, ranges: Sequence[ChunkRange]) -> dict[ChunkRange, memoryview]:
        start, stop = ranges[0].start, max(r.start + r.length for r in ranges)
        data = memoryview(self._read(ChunkRange(start, stop - start)))
        return {r: data[r.start - start : r.start - start + r.length] for r in ranges}

    def _read(self, wanted: ChunkRange) -> bytes:
        at = wanted.start - self._tail_start
        if at >= 0:
            return self._tail[at : at + wanted.length]
        return self._handle.read_at(wanted.start, wanted.length)


class _TextContent:
    """CSV or NDJSON by blocks."""

    def __init__(
        self,
        text: TextFormat,
        file: _TextFile,
        stream: io.BufferedReader,
        declared: pl.Schema | None,
        beginning: bytes | None,
    ) -> None:
        self._file = file
        self._blocks = TextBlocks(text, stream, file.open, declared, beginning)
        self.schema = self._blocks.schema

    def rows(self, limit: int | None = None) -> int:
        return self._blocks.rows(limit)

    def batches(self, request: Request) -> Iterator[pl.DataFrame]:
        for first, frame in self._blocks.batches(request.columns, start=request.start, stop=request.stop):
            yield request.numbered(frame, first)

    def close(self) -> None:
        self._blocks.close()
        self._file.close()


class _CopyContent:
    """A temporary copy, scanned by Polars."""

    def __init__(self, copy: BinaryIO, scan: Callable[[str], pl.LazyFrame]) -> None:
        self._copy = copy
        try:
            self._lazy = scan(copy.name)
            self.schema = self._lazy.collect_schema()
        except BaseException:
            copy.close()
            raise

    def rows(self, limit: int | None = None) -> int:
        lazy = self._lazy if limit is None else self._lazy.head(limit)
        return int(lazy.select(pl.len()).collect().item())

    def batches(self, request: Request) -> Iterator[pl.DataFrame]:
        # Filters are left to Polars: they may hold nodes (the moving bound of a top-k) that no new plan can take.
        lazy = self._lazy
        columns = list(request.columns)
        if request.row_index is not None:
            lazy = lazy.with_row_index(*request.row_index)
            columns.insert(0, request.row_index[0])
        expected = max(0, self.rows(request.stop) - request.start)
        if not columns:
            yield pl.DataFrame(height=expected)
            return
        wanted = lazy.slice(request.start, expected).select(columns)
        for frame in wanted.collect_batches(maintain_order=True, engine="streaming"):
            expected -= frame.height
            yield frame
        if expected:  # a panic inside collect_batches ends it as if there were no more rows
            msg = f"Polars stopped {expected} rows early"
            raise ValueError(msg)

    def close(self) -> None:
        self._copy.close()
