"""CSV and NDJSON of any length in bounded memory: split into blocks between rows, each decoded by Polars with the full schema."""

from __future__ import annotations

import glob
import gzip
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "CSV_OPTIONS",
    "NDJSON_OPTIONS",
    "Csv",
    "Ndjson",
    "TextBlocks",
    "TextFormat",
    "columns_of",
    "is_packed",
    "is_zstd",
    "open_text",
    "short_years",
    "text_format",
]

#: Keyword arguments of ``polars.scan_csv`` and ``polars.scan_ndjson`` that can be given here.
CSV_OPTIONS = frozenset(
    {"separator", "quote_char", "has_header", "null_values", "encoding", "comment_prefix", "skip_rows"}
    | {"decimal_comma", "try_parse_dates", "schema_overrides"}
)
NDJSON_OPTIONS = frozenset({"schema_overrides"})

_BLOCK = 8 << 20
_FIRST_BLOCK = 64 << 10  # so that a head(10) does not read megabytes; blocks then double up to _BLOCK
LONGEST_ROW = 128 << 20
_INFER_LINES = 128  # Polars infers a schema from 100 rows
_SHORT_YEAR = r"^\s*\d{1,2}[-/.]\d{1,2}[-/.]\d{1,2}(\D|$)"
_COMPRESSED_BUFFER = 256 << 10
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


_PACKED = (_GZIP, _ZSTD, b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # those of zlib are the last four


class TextFormat(Protocol):
    """What differs between row-by-row text formats. A source is whole rows, or the path of a file."""

    def row_end(self, block: bytes) -> int:
        """Return the offset behind the last whole row of ``block``, which starts at a row; 0 if no row ends in it."""

    def begins(self, block: bytes) -> int | None:
        """Return the offset behind what precedes the rows of a file that starts with ``block``; None if that is longer."""

    def head_lines(self) -> int:
        """Return how many lines suffice to infer the schema."""

    def infer(self, source: bytes | str) -> pl.Schema:
        """Return the columns of the file that starts as ``source`` does."""

    def scan(self, source: bytes | str, schema: pl.Schema, *, first: bool, n_rows: int | None) -> pl.LazyFrame:
        """Return up to ``n_rows`` rows; the ``first`` source of a file starts with what precedes the rows."""


@dataclass(frozen=True)
class Csv:
    """CSV, read as ``polars.scan_csv`` reads it with ``options`` (see :data:`CSV_OPTIONS`)."""

    options: Mapping[str, Any]

    @property
    def has_header(self) -> bool:
        """Whether the first row holds the names of the columns."""
        return bool(self.options.get("has_header", True))

    def row_end(self, block: bytes) -> int:
        """Return the offset behind the last newline that has an even number of quotes before it."""
        quote = (self.options.get("quote_char", '"') or "").encode()
        if not quote:
            return block.rfind(b"\n") + 1
        if comment := (self.options.get("comment_prefix") or "").encode():
            return _row_end_with_comments(block, quote, comment)
        # Walk back from quote to quote: every second stretch between them lies outside quotes.
        stop, outside = len(block), block.count(quote) % 2 == 0
        while True:
            start = block.rfind(quote, 0, stop)
            if outside and (newline := block.rfind(b"\n", start + 1, stop)) >= 0:
                return newline + 1
            if start < 0:
                return 0
            stop, outside = start, not outside

    def begins(self, block: bytes) -> int | None:
        """Return the offset behind the rows to skip and the header; comments ahead of them are not counted."""
        quote = (self.options.get("quote_char", '"') or "").encode()
        comment = (self.options.get("comment_prefix") or "").encode()
        at, left, inside = 0, int(self.options.get("skip_rows", 0)) + self.has_header, False
        while left:
            newline = block.find(b"\n", at)
            if newline < 0:
                return None
            if inside or not (comment and block.startswith(comment, at)):
                inside ^= bool(quote) and block.count(quote, at, newline) % 2 == 1
                left -= not inside
            at = newline + 1
        return at

    def head_lines(self) -> int:
        """Return the lines of a header, of the rows to skip, and of those that types are inferred from."""
        return _INFER_LINES + int(self.options.get("skip_rows", 0))

    def infer(self, source: bytes | str) -> pl.Schema:
        """Return the header's names (or ``column_1``, …) with types inferred from the first 100 rows."""
        found = pl.scan_csv(source, **self.options).collect_schema()
        moments = [n for n, t in found.items() if isinstance(t, pl.Date | pl.Datetime)]
        if not moments or not self.options.get("try_parse_dates"):
            return found
        declared = self.options.get("schema_overrides", {})
        as_text = {k: v for k, v in self.options.items() if k not in ("schema_overrides", "try_parse_dates")}
        short = short_years(pl.scan_csv(source, infer_schema_length=0, **as_text), moments)
        return pl.Schema({n: pl.String() if n in short and n not in declared else t for n, t in found.items()})

    def scan(self, source: bytes | str, schema: pl.Schema, *, first: bool, n_rows: int | None) -> pl.LazyFrame:
        """Return the rows; header and ``skip_rows`` count for the first block only."""
        options = {k: v for k, v in self.options.items() if k not in ("schema_overrides", "try_parse_dates")}
        if not first:
            options |= {"has_header": False, "skip_rows": 0}
        separator = str(options.get("separator", ",")).encode()
        if not first and isinstance(source, bytes) and self._begins_short(source, separator, len(schema)):
            # Polars takes the first row for as wide as all others: it gets one that is
            full = separator * (len(schema) - 1) + b"\n" + source
            most = None if n_rows is None else n_rows + 1
            rows = pl.scan_csv(full, schema=schema, n_rows=most, raise_if_empty=False, **options)
            # no slice, with which Polars does not see that a quote is open, and loses all that is behind it
            return rows.filter(pl.int_range(pl.len()) > 0)
        return pl.scan_csv(source, schema=schema, n_rows=n_rows, raise_if_empty=False, **options)

    def _begins_short(self, block: bytes, separator: bytes, width: int) -> bool:
        """Whether the first line of a block may have fewer fields than a row."""
        return block.count(separator, 0, max(0, block.find(b"\n"))) < width - 1


def _row_end_with_comments(block: bytes, quote: bytes, comment: bytes) -> int:
    # A quote in a comment quotes nothing, so that lines must be looked at one by one.
    at = end = 0
    inside = False
    while (newline := block.find(b"\n", at)) >= 0:
        if inside or not block.startswith(comment, at):
            inside ^= block.count(quote, at, newline) % 2 == 1
        at = newline + 1
        if not inside:
            end = at
    return end


def short_years(rows: pl.LazyFrame, names: Sequence[str]) -> list[str]:
    """Return the columns of text whose first rows have days with years of two digits: Polars takes 24 for the year 24.

    Examples
    --------
    >>> short_years(pl.LazyFrame({"a": ["1/2/24"], "b": ["2024-01-02"]}), ["a", "b"])
    ['a']
    """
    short = rows.head(_INFER_LINES).select(pl.col(names).str.contains(_SHORT_YEAR).any())
    return [n for n, found in short.collect().row(0, named=True).items() if found]


@dataclass(frozen=True)
class Ndjson:
    """One JSON object per line, read as ``polars.scan_ndjson`` reads it with ``options`` (see :data:`NDJSON_OPTIONS`)."""

    options: Mapping[str, Any]

    def row_end(self, block: bytes) -> int:
        """Return the offset behind the last newline: JSON escapes those inside strings."""
        return block.rfind(b"\n") + 1

    def begins(self, block: bytes) -> int | None:
        """Return 0: rows begin at once."""
        return 0

    def head_lines(self) -> int:
        """Return the number of lines that types are inferred from."""
        return _INFER_LINES

    def infer(self, source: bytes | str) -> pl.Schema:
        """Return the keys of the first 100 objects with their inferred types."""
        return pl.scan_ndjson(_ndjson_source(source), **self.options).collect_schema()

    def scan(
        self,
        source: bytes | str,
        schema: pl.Schema,
        *,
        first: bool,
        n_rows: int | None,
    ) -> pl.LazyFrame:
        """Return the rows."""
        return pl.scan_ndjson(_ndjson_source(source), schema=schema, n_rows=n_rows)


def text_format(form: str, options: Mapping[str, Any]) -> TextFormat:
    """Return what knows the rows of a text format that is read with ``options``."""
    return Csv(options) if form == "csv" else Ndjson(options)


def is_packed(start: bytes) -> bool:
    """Tell whether what starts so is compressed, as Polars would see it."""
    return start.startswith(_PACKED)


def _ndjson_source(source: bytes | str) -> str | io.BytesIO:
    return (
        glob.escape(source) if isinstance(source, str) else io.BytesIO(source)
    )  # scan_ndjson would take bytes for a path


def columns_of(text: TextFormat, source: bytes | str, declared: Mapping[str, pl.DataType] | None) -> pl.Schema:
    """Return the columns of a file with their types: the declared one by name, else the inferred one.

    Those of NDJSON, where each line has the keys that it has, are those declared. Without a header a CSV file's columns are those declared, in order, if they are as many.
    """
    if isinstance(text, Ndjson) and declared is not None:
        return pl.Schema(declared)  # a key that no line has is null in all of them
    found = text.infer(source)
    if declared is None:
        return found
    if isinstance(text, Csv) and not text.has_header and len(declared) == len(found):
        return pl.Schema(declared)
    return pl.Schema({name: declared.get(name, dtype) for name, dtype in found.items()})


def open_text(file: BinaryIO) -> io.BufferedReader:
    """Return the decompressed content of ``file`` if it is gzip, else its content, buffered."""
    plain: io.BufferedReader = io.BufferedReader(cast("Any", file), _FIRST_BLOCK)
    if not plain.peek(len(_GZIP)).startswith(_GZIP):
        return plain
    # GzipFile reads 8 KiB at a time, each of which could be a request to a server.
    compressed = io.BufferedReader(cast("Any", plain), _COMPRESSED_BUFFER)
    return cast("io.BufferedReader", gzip.GzipFile(fileobj=compressed))


def is_zstd(stream: io.BufferedReader) -> bool:
    """Tell whether the stream holds zstd frames, for which the standard library has no decoder."""
    return stream.peek(len(_ZSTD)).startswith(_ZSTD)


class TextBlocks:
    """A text file as frames, one per block.

    Parameters
    ----------
    text
        How rows and columns are told apart.
    stream
        The decompressed file, at its start.
    reopen
        Opens it again; called only if the rows are asked for twice.
    declared
        Types by column name, see :func:`columns_of`.
    beginning
        What the file starts with, if ``stream`` starts behind that, at a row.

    Raises
    ------
    EOFError
        If the file is empty.
    ValueError
        If a row is longer than 128 MiB, which means an unclosed quote.
    """

    def __init__(
        self,
        text: TextFormat,
        stream: io.BufferedReader,
        reopen: Callable[[], io.BufferedReader],
        declared: Mapping[str, pl.DataType] | None,
        beginning: bytes | None = None,
    ) -> None:
        self._text = text
        self._is_whole = beginning is None
        self._stream: io.BufferedReader | None = stream
        self._reopen = reopen
        self._head, self._head_is_all = self._read_head(stream)
        rows = self._head if self._head_is_all else self._head[: text.row_end(self._head)]
        self.schema = columns_of(text, rows if beginning is None else beginning, declared)

    def _read_head(self, stream: BinaryIO) -> tuple[bytes, bool]:
        """Read enough rows to infer types from, and tell whether that was the whole file."""
        head = b""
        size = _FIRST_BLOCK
        while True:
            more = read_fully(stream, size)
            head += more
            if len(more) < size:
                break
            if head.count(b"\n") >= self._text.head_lines() and self._text.row_end(head):
                return head, False
            if len(head) >= LONGEST_ROW:
                self._refuse_long_row(head)
                return head, False
            size = len(head)
        if not head:
            msg = "the file is empty"
            raise EOFError(msg)
        return head, True

    def _refuse_long_row(self, block: bytes) -> None:
        if len(block) >= LONGEST_ROW and not self._text.row_end(block):
            msg = f"a row is longer than {LONGEST_ROW >> 20} MiB: is a quote left open, or quote_char wrong?"
            raise ValueError(msg)

    def rows(self, limit: int | None = None) -> int:
        """Count the rows, or the first ``limit`` of them."""
        count = 0
        for _, frame in self.batches([], stop=limit):
            count += frame.height
        return count

    def batches(
        self, columns: Sequence[str], *, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield the rows ``start`` to ``stop`` of the file, each batch with the number of its first row.

        Nothing is read behind the block that holds row ``stop``.
        """
        at = 0
        for number, block in enumerate(self._blocks()):
            frame = self._decode(
                block, columns, first=self._is_whole and number == 0, n_rows=None if stop is None else stop - at
            )
            if at + frame.height > start:
                skip = max(0, start - at)
                yield at + skip, frame.slice(skip)
            at += frame.height
            if stop is not None and at >= stop:
                return

    def _decode(self, block: bytes, columns: Sequence[str], *, first: bool, n_rows: int | None) -> pl.DataFrame:
        lazy = self._text.scan(block, self.schema, first=first, n_rows=n_rows)
        if columns:
            return lazy.select(columns).collect(engine="in-memory")
        return pl.DataFrame(height=lazy.select(pl.len()).collect(engine="in-memory").item())

    def _blocks(self) -> Iterator[bytes]:
        block, size, ended = self._head, len(self._head), self._head_is_all
        stream: io.BufferedReader | None = None
        try:
            while not ended:
                end = self._text.row_end(block)
                if end:
                    yield block[:end]
                else:
                    self._refuse_long_row(block)
                # a row longer than a block doubles it, so that its start is not searched over and over
                size = min(2 * size, _BLOCK) if end else max(size, len(block))
                stream = stream or self._behind_head()
                more = read_fully(stream, size)
                ended = len(more) < size
                block = block[end:] + more
            if block:
                yield block
        finally:
            if stream is not None:
                stream.close()

    def _behind_head(self) -> io.BufferedReader:
        stream, self._stream = self._stream, None
        if stream is None:
            stream = self._reopen()
            read_fully(stream, len(self._head))
        return stream

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()


def read_fully(stream: BinaryIO, size: int) -> bytes:
    """Read ``size`` bytes, fewer only at the end of the file."""
    pieces = []
    while size and (piece := stream.read(size)):
        size -= len(piece)
        pieces.append(piece)
    return b"".join(pieces)
