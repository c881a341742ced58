"""Broken rows of CSV and NDJSON, separated from the good ones: where a contract says so, only these are quarantined.

Polars stops at a row with too many fields, at a quote that nothing closes, at a line that is no JSON. So a file that cannot be read is
read here once more, by blocks: a block of sound rows as Polars reads it, and of one that has others the rows one by one, as they stand
in the file. Each row that cannot be read is there with nothing but its text, the line where it begins, and why. What is sound is what
Polars takes: a file gives the same rows whether or not a broken one stands in it (docs/decisions/0052-rows-are-set-aside-not-files.md).
"""

from __future__ import annotations

import json
import math
import re
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import polars as pl

from lazypipe.gates.tap import WHOLE_ROW
from lazypipe.storage.external.blocks import LONGEST_ROW, Csv, TextFormat, is_packed, read_fully, text_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lazypipe.storage.external.content import Request

__all__ = ["BROKEN", "COLUMNS", "LINE", "TEXT", "WHY", "BrokenText", "row_format", "rows_of", "untold"]

BROKEN = WHOLE_ROW
"""The check that counts rows which cannot be read, and puts them in quarantine."""
LINE, TEXT, WHY = (f"{BROKEN}:{name}" for name in ("line", "text", "why"))
COLUMNS = pl.Schema(dict.fromkeys((LINE, TEXT, WHY), pl.String()))
"""What is reported about a broken row: the line where it begins, its text, and the reason."""

_BLOCK = 8 << 20
_WINDOW = 1 << 20
_PLACE = "__lazypipe_place"
_NO_TEXT = "it is not UTF-8"


def untold(schema: Mapping[str, pl.DataType]) -> pl.Schema:
    """Return the columns of a file without those about broken rows."""
    return pl.Schema({n: t for n, t in schema.items() if n not in COLUMNS})


class Opens(Protocol):
    """A text file that can be read from its start more than once. ``on_lines`` are those whose line breaks are not as they were."""

    on_lines: bool

    def open(self) -> BinaryIO:
        """Return its content, decompressed."""

    def lines_ahead(self) -> int:
        """Count the lines ahead of the part, if only a part of a file is read."""

    def close(self) -> None:
        """Close it."""


class Rows(Protocol):
    """How a text format is split into rows, and which of them can be read."""

    def split(self, block: bytes, *, last: bool) -> tuple[list[tuple[int, bytes]], int]:
        """Return the rows of a block that begins with one, each with the number of lines ahead of it, and the offset behind them.

        What is cut off at the end of a block is left out, unless it is the ``last``.
        """

    def first(self, block: bytes, searched: int, *, last: bool) -> tuple[list[tuple[int, bytes]], int] | None:
        """Return the same of the first row alone, in which no end was found up to an offset; None if more must be read."""

    def on_lines(self, block: bytes) -> bool:
        """Whether no row of a block goes over several lines, as far as can be seen at once."""

    def why(self, row: bytes, width: int) -> str | None:
        """Return what is wrong with a row of so many columns; None if nothing is."""


class CsvRows:
    """Rows of CSV, split as Polars splits them: a line with an odd number of quotes continues after the line break.

    A row that would be read in no other way than that its quote was never closed is its first line alone, so that no row
    behind it is lost.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._quote = (options.get("quote_char", '"') or "").encode()
        self._separator = str(options.get("separator", ",")).encode()
        self._comment = (options.get("comment_prefix") or "").encode()
        quote, separator = re.escape(self._quote or b"\n"), re.escape(self._separator)
        # a field that begins with a quote goes on, whatever stands in it, up to a separator that is behind an even number of them
        inside = rb"%b[^%b]*%b" % (quote, quote, quote)
        quoted = rb"%b(?:[^%b%b\n]*%b)*\r?" % (inside, quote, separator, inside)
        plain = rb"[^%b%b\n][^%b\n]*|" % (quote, separator, separator)
        field = rb"(?:%b|%b)" % (quoted, plain)
        self._row = re.compile(rb"%b(?:%b%b)*" % (field, separator, field))
        self._quoted = re.compile(rb"(?:^|(?<=%b))%b" % (separator, quoted))

    def split(self, block: bytes, *, last: bool) -> tuple[list[tuple[int, bytes]], int]:
        lines = block.split(b"\n")
        cut = lines.pop()
        if last and cut:
            lines.append(cut)
        if not (self._quote in block if self._quote else self._comment):
            return [*enumerate(lines)], len(block) if last else len(block) - len(cut)
        odd = self._odd(lines)
        found: list[tuple[int, bytes]] = []
        number = after = 0
        while number < len(lines):
            line, end = lines[number], number + 1
            if self._comment and line.startswith(self._comment):
                number = end
                continue
            while after < len(odd) and odd[after] <= number:
                after += 1
            if after and odd[after - 1] == number:
                if after == len(odd) and not last:
                    return found, len(block) - len(cut) - sum(map(len, lines[number:])) - len(lines) + number
                row = b"\n".join(lines[number : odd[after] + 1]) if after < len(odd) else b""
                if row and self._row.fullmatch(row):
                    line, end = row, odd[after] + 1
            found.append((number, line))
            number = end
        return found, len(block) if last else len(block) - len(cut)

    def first(self, block: bytes, searched: int, *, last: bool) -> tuple[list[tuple[int, bytes]], int] | None:
        line = block.find(b"\n") + 1
        if not line:
            return self.split(block, last=True) if last else None
        if self._odd([block[:line]]) and not (self._comment and block.startswith(self._comment)):
            end = self._closing(block, max(searched, line), last=last)
            if end is None and not last:
                return None
            if end is not None and self._row.fullmatch(block, 0, end):
                return [(0, block[:end])], min(end + 1, len(block))
        return self.split(block[:line], last=True)

    def _closing(self, block: bytes, start: int, *, last: bool) -> int | None:
        """Return where the first line ends that has an odd number of quotes, of those that begin behind an offset or around it."""
        start = block.rfind(b"\n", 0, start) + 1
        while start < len(block):
            stop = (
                block.rfind(b"\n", start, start + _WINDOW) + 1
                or block.find(b"\n", start) + 1
                or (len(block) if last else 0)
            )
            if not stop:
                return None
            for line in block[start:stop].split(b"\n"):
                if line.count(self._quote) & 1:
                    return start + len(line)
                start += len(line) + 1
            start = stop
        return None

    def on_lines(self, block: bytes) -> bool:
        return not self._quote or self._quote not in block

    def _odd(self, lines: Sequence[bytes]) -> list[int]:
        """Return which lines have an odd number of quotes."""
        quote = self._quote
        return [n for n, line in enumerate(lines) if line.count(quote) & 1] if quote else []

    def why(self, row: bytes, width: int) -> str | None:
        fields = 0 if width > 1 and not row.strip() else row.count(self._separator) + 1
        if self._quote and self._quote in row:
            if row.count(self._quote) & 1:
                return "a quote is not closed"
            if not self._row.fullmatch(row):
                return "there is text after the quote that closes a field"
            fields = self._quoted.sub(b"", row).count(self._separator) + 1
        if fields != width:
            return f"it has {fields} of {width} fields"
        return None if _is_text(row) else _NO_TEXT


class NdjsonRows:
    """Lines of NDJSON; blank ones are no rows."""

    def __init__(self) -> None:
        self._decode = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode

    def split(self, block: bytes, *, last: bool) -> tuple[list[tuple[int, bytes]], int]:
        lines = block.split(b"\n")
        cut = b"" if last else lines.pop()
        return [(n, line) for n, line in enumerate(lines) if line.strip()], len(block) - len(cut)

    def first(self, block: bytes, searched: int, *, last: bool) -> tuple[list[tuple[int, bytes]], int] | None:
        end = block.find(b"\n", searched) + 1 or (len(block) if last else 0)
        return self.split(block[:end], last=True) if end else None

    def on_lines(self, block: bytes) -> bool:
        return True

    def why(self, row: bytes, width: int) -> str | None:
        try:
            value = self._decode(row.decode())
        except UnicodeDecodeError:
            return _NO_TEXT
        except json.JSONDecodeError as error:
            return f"it is not JSON: {error.msg} at character {error.pos + 1}"
        except (ValueError, RecursionError):
            return None  # what is too long, or too deep, for Python may not be for Polars
        return None if isinstance(value, dict) else "it is not a JSON object"


def _refuse(name: str) -> None:
    msg = f"{name} is not a JSON number"
    raise json.JSONDecodeError(msg, name, 0)


def _finite(number: str) -> float:
    value = float(number)
    if value in (math.inf, -math.inf):
        _refuse(number)
    return value


def _is_text(row: bytes) -> bool:
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True


def rows_of(text: TextFormat) -> Rows:
    """Return the splitter for the rows of a text format."""
    return CsvRows(text.options) if isinstance(text, Csv) else NdjsonRows()


class _ByRow(Csv):
    """CSV whose rows end where none can begin that what follows would end in another way: not behind a quote that is still open."""

    def row_end(self, block: bytes) -> int:
        quote = (self.options.get("quote_char", '"') or "").encode()
        return rows_of(self).split(block, last=False)[1] if quote and quote in block else block.rfind(b"\n") + 1


def row_format(form: str, options: Mapping[str, Any]) -> TextFormat:
    """Return what knows where rows end of a text format in which some may be broken."""
    return _ByRow(options) if form == "csv" else text_format(form, options)


class _Block:
    """Some rows of a file, with the number of lines ahead of them; read, if all can be."""

    def __init__(self, line: int, frame: pl.DataFrame | None, split: Callable[[], list[tuple[int, bytes]]]) -> None:
        self.line = line
        self.frame = frame
        self._split = split

    @property
    def rows(self) -> list[tuple[int, bytes]]:
        """The rows as they stand there, each with the number of lines ahead of it in the block."""
        return self._split()


class BrokenText:
    """A text file in which some rows cannot be read, as a table: see the ``Content`` of ``external_content``.

    Parameters
    ----------
    text
        How rows and columns are told apart.
    file
        The file, or a part of one.
    declared
        Types by column name, those of ``COLUMNS`` among them.
    beginning
        What the file starts with, if the part starts behind that, at a row.

    Raises
    ------
    EOFError
        If the file is empty.
    ValueError
        If the file cannot be read by row: when it is opened, or when its rows are read.
    """

    def __init__(self, text: TextFormat, file: Opens, declared: pl.Schema, beginning: bytes | None = None) -> None:
        self._text, self._rows, self._file = text, rows_of(text), file
        self._is_whole, self._lines_ahead = beginning is None, 0
        self._is_csv = isinstance(text, Csv)
        self._separator = str(text.options.get("separator", ",")).encode() if isinstance(text, Csv) else b""
        self._stream: BinaryIO | None = file.open()
        self._head = read_fully(self._stream, _BLOCK)
        if not self._head:
            msg = "the file is empty"
            raise EOFError(msg)
        if self._is_whole and is_packed(self._head):
            msg = "it is compressed in a way that is not read by row"
            raise ValueError(msg)
        start = self._head if beginning is None else beginning
        begins = text.begins(start)
        if begins is None:
            msg = "its header does not end"
            raise ValueError(msg)
        self._begins = begins if beginning is None else 0
        self.header = start[:begins]
        self._inside = self._columns(start, untold(declared))
        self.schema = pl.Schema({**COLUMNS, **self._inside})
        # a line of JSON is read as a whole, whatever is wanted of it
        self._structure = pl.Schema(dict.fromkeys(self._inside if self._is_csv else [_PLACE], pl.String()))

    def _columns(self, start: bytes, declared: pl.Schema) -> pl.Schema:
        """Return the columns in the order of the file; without a header as they are declared, or as many as the first row has."""
        if not isinstance(self._text, Csv) or (declared and not self._text.has_header):
            return declared
        known = self.header if self._text.has_header else start[: start.find(b"\n", len(self.header)) + 1]
        return pl.Schema({n: declared.get(n, pl.String()) for n in self._text.infer(known)})

    def rows(self, limit: int | None = None) -> int:
        """Count the rows, or the first ``limit`` of them."""
        return sum(frame.height for frame in self._batches([], 0, limit))

    def batches(self, request: Request) -> Iterator[pl.DataFrame]:
        """Yield the wanted rows in order, and frames of the right height if no columns are wanted."""
        at = request.start
        for frame in self._batches(request.columns, request.start, request.stop):
            yield request.numbered(frame, at)
            at += frame.height

    def _batches(self, columns: Sequence[str], start: int, stop: int | None) -> Iterator[pl.DataFrame]:
        at = 0
        for frame in self.frames():
            wanted = frame.slice(max(0, start - at), None if stop is None else max(0, stop - max(at, start)))
            at += frame.height
            if wanted.height:
                yield wanted.select(columns) if columns else pl.DataFrame(height=wanted.height)
            if stop is not None and at >= stop:
                return

    def close(self) -> None:
        """Close the file, and delete its temporary copy."""
        if self._stream is not None:
            self._stream.close()
        self._file.close()

    def frames(self, *, structure: bool = False) -> Iterator[pl.DataFrame]:
        """Yield the rows block by block; with ``structure`` all cells as text, so that no type is in the way.

        Raises
        ------
        ValueError
            If no row can be read, and what stands there is not even text: that is another file than was meant.
        """
        schema = self._structure if structure else self._inside
        read = garbage = False
        for block in self._blocks(schema):
            frame = self._one_by_one(block, schema) if block.frame is None else block.frame
            read = read or frame[WHY].has_nulls()
            garbage = garbage or bool((frame[WHY] == _NO_TEXT).any())
            yield frame
        if garbage and not read and self._is_whole:
            msg = "no row of it can be read, and it is not UTF-8 text"
            raise ValueError(msg)

    def has_broken(self) -> bool:
        """Whether there is a row that cannot be read; raises as ``frames`` does, if it comes to that before."""
        return any(frame[WHY].null_count() < frame.height for frame in self.frames(structure=True))

    def sound(self) -> Iterator[tuple[int, str]]:
        """Yield the rows that can be read, as they are written, with the number of the line where each begins."""
        first = self._file.lines_ahead() + 1
        for block in self._blocks(self._structure):
            rows = block.rows
            if block.frame is None:
                rows = [row for row, why in zip(rows, self._told(rows)[1], strict=True) if why is None]
            for number, row in rows:
                yield first + block.line + number, f"{row.decode()}\n"

    def _blocks(self, schema: pl.Schema) -> Iterator[_Block]:
        """Yield some megabytes of rows at a time: read with a schema if all can be, else as they stand there."""
        held, at, line = self._head, self._begins, self._head.count(b"\n", 0, self._begins)
        ended, searched = len(held) < _BLOCK, 0
        stream: BinaryIO | None = None
        try:
            while True:
                if not ended and (searched or len(held) - at < _BLOCK):
                    stream = stream or self._behind_head()
                    more = read_fully(stream, _BLOCK)
                    ended = len(more) < _BLOCK
                    held, at = held[at:] + more, 0
                if at == len(held):
                    return
                if searched:  # for where the row ends that the last block began with
                    looked = len(held) - at
                    found, end = self._long_row(line, held[at:], searched, ended=ended)
                else:
                    looked = min(len(held) - at, _BLOCK)
                    last = ended and looked == len(held) - at
                    found, end = self._block(line, held[at : at + looked], schema, last=last)
                if found is not None:
                    yield found
                searched = 0 if end else looked
                line += held.count(b"\n", at, at + end)
                at += end
        finally:
            if stream is not None:
                stream.close()

    def _block(self, line: int, block: bytes, schema: pl.Schema, *, last: bool) -> tuple[_Block | None, int]:
        """Return the rows of a block, and the offset behind them; 0 if not even one ends there."""
        end = len(block) if last else self._text.row_end(block)
        frame = self._sound(block[:end], schema) if end else None
        if frame is not None:
            return _Block(line, frame, partial(self._split, block[:end])), end
        rows, end = self._rows.split(block, last=last)
        return (_Block(line, None, lambda: rows) if rows else None), end

    def _long_row(self, line: int, held: bytes, searched: int, *, ended: bool) -> tuple[_Block | None, int]:
        """Return the first row, in which no end was found up to some offset, and the offset behind it; 0 if more must be read."""
        # a quote that is open for so long is closed nowhere
        last = ended or len(held) >= LONGEST_ROW
        if last and not ended and b"\n" not in held:
            msg = f"a line is longer than {LONGEST_ROW >> 20} MiB"
            raise ValueError(msg)
        found = self._rows.first(held, searched, last=last)
        if found is None:
            return None, 0
        return (_Block(line, None, lambda: found[0]) if found[0] else None), found[1]

    def _split(self, block: bytes) -> list[tuple[int, bytes]]:
        return self._rows.split(block, last=True)[0]

    def _behind_head(self) -> BinaryIO:
        stream, self._stream = self._stream, None
        if stream is None:
            stream = self._file.open()
            read_fully(stream, len(self._head))
        return stream

    def _sound(self, block: bytes, schema: pl.Schema) -> pl.DataFrame | None:
        """Return the rows of a block if all can be read."""
        if self._is_csv and block.count(self._separator, 0, max(0, block.find(b"\n"))) < len(schema) - 1:
            return None  # Polars takes the first row for as wide as all others
        if self._file.on_lines and not self._rows.on_lines(block):
            return None
        try:
            frame = self._decode(block, schema)
        except pl.exceptions.PolarsError:
            return None
        # a row that lacks fields lacks the last one
        if self._is_csv and frame.width > 1 and frame.to_series(-1).has_nulls():
            return None
        return frame.select(*(pl.lit(None, dtype=t).alias(n) for n, t in COLUMNS.items()), pl.all())

    def _decode(self, block: bytes, schema: pl.Schema) -> pl.DataFrame:
        return self._text.scan(block, schema, first=False, n_rows=None).collect(engine="in-memory")

    def _one_by_one(self, block: _Block, schema: pl.Schema) -> pl.DataFrame:
        rows = block.rows
        if self._file.on_lines and any(b"\n" in row for _, row in rows):
            msg = "a row of it goes over several lines, and it is compressed with zstd, whose rows are read line by line; pack it with gzip"
            raise ValueError(msg)
        sound, why = self._told(rows)
        good = self._decode(_joined(sound), schema) if sound else pl.DataFrame(schema=schema)
        if good.height != len(sound):
            msg = f"{len(sound)} rows were read as {good.height}"
            raise ValueError(msg)
        return self._together(good, block.line, rows, why)

    def _told(self, rows: Sequence[tuple[int, bytes]]) -> tuple[list[bytes], list[str | None]]:
        """Return the rows that can be read, and why each of the others cannot."""
        width = len(self._inside)
        why = [self._rows.why(row, width) for _, row in rows]
        places = [place for place, reason in enumerate(why) if reason is None]
        for index in self._refused([rows[place][1] for place in places]):
            why[places[index]] = "it cannot be parsed"
        return [row for (_, row), reason in zip(rows, why, strict=True) if reason is None], why

    def _together(
        self, good: pl.DataFrame, line: int, rows: Sequence[tuple[int, bytes]], why: Sequence[str | None]
    ) -> pl.DataFrame:
        """Return the rows that can be read with those that cannot, in the order of the file."""
        broken = pl.Series([reason is not None for reason in why], dtype=pl.Boolean)
        if broken.any() and not self._is_whole and not self._lines_ahead:
            self._lines_ahead = self._file.lines_ahead()
        first = line + self._lines_ahead + 1
        told = {
            LINE: [str(first + number) for number, _ in compress(rows, broken)],
            TEXT: [row.rstrip(b"\r").decode(errors="backslashreplace") for _, row in compress(rows, broken)],
            WHY: [reason for reason in why if reason is not None],
        }
        place = pl.Series(range(len(rows)), dtype=pl.UInt32)
        both = [
            good.with_columns(place.filter(~broken).alias(_PLACE)),
            pl.DataFrame(told, schema=COLUMNS).with_columns(place.filter(broken).alias(_PLACE)),
        ]
        return pl.concat(both, how="diagonal").sort(_PLACE).select(*COLUMNS, *good.columns)

    def _refused(self, rows: Sequence[bytes]) -> set[int]:
        """Return which rows Polars does not take though nothing seems to be wrong with them: as a rule none."""
        left, found = [range(len(rows))], set[int]()
        while left:
            part = left.pop()
            if not part or self._takes([rows[index] for index in part]):
                continue
            if len(part) == 1:
                found.add(part[0])
            else:
                left += [part[: len(part) // 2], part[len(part) // 2 :]]
        return found

    def _takes(self, rows: Sequence[bytes]) -> bool:
        try:
            return self._decode(_joined(rows), self._structure).height == len(rows)
        except pl.exceptions.PolarsError:
            return False


def _joined(rows: Sequence[bytes]) -> bytes:
    return b"".join(row + b"\n" for row in rows)
