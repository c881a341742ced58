"""Lines of text files, checked one by one: for CSV rows with too few fields, and for the line that cannot be read.

Polars fills short rows with nulls in silence. A short row always leaves a null in the file's last column, so nothing needs
to be looked at unless that column has nulls; then separators are counted, and only where that could mislead, rows are taken
apart.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import polars as pl

from lazypipe.errors import SourceError
from lazypipe.storage import uri as uris
from lazypipe.storage.files import FileInfo
from lazypipe.storage.parallel import in_parallel
from lazypipe.storage.scan import Reader, cannot_read, is_engine_error
from lazypipe.storage.text.by_row import TEXT, untold

__all__ = ["bad_line", "batches", "line_where", "refuse_short_rows", "sound", "sound_rows"]

_CHUNK = 4096
_TOGETHER = 256
"""Files whose lines are looked at in one query."""
_SMALL = 1 << 16
"""Bytes of a small file."""


def refuse_short_rows(
    files: Sequence[FileInfo],
    reader: Reader,
    schema: pl.Schema,
    *,
    nulls: bool,
    header: Callable[[FileInfo, pl.Schema], list[str]] | None = None,
) -> None:
    """Raise SourceError for the first row with fewer fields than columns; names file and line.

    Parameters
    ----------
    schema
        The columns in the files. They may stand in another order in some of them.
    nulls
        Whether the last column of ``schema`` has any null.
    header
        Returns the columns of a file in its own order, as ``reader.header`` does, where that may be known.
    """
    width, header = len(schema), header or reader.header
    if width < 2:  # one column: a missing field is an empty line
        return
    # to look at the lines of a small file costs less than to ask for the order of its columns
    some = [f for f in files if nulls or (f.size is not None and f.size <= _SMALL)]
    passed = sound(some, lambda part: not _suspicious([f.uri for f in part], reader, width))
    left = [f for f in files if f.uri not in passed]

    def in_place(file: FileInfo) -> bool:
        return header(file, schema)[-1:] == schema.names()[-1:]

    # of others than local ones each is a wait for a store
    asked = dict(in_parallel(in_place, [] if nulls else [f for f in left if not uris.is_local(f.uri)]))
    for file in left:
        if asked[file] if file in asked else not nulls and in_place(file):
            continue
        with _local(file, reader) as path:
            found = _short_row(path, reader, width, preamble=not file.start)
        if found is not None:
            line, fields = found
            line += _lines_ahead(file, reader)
            raise SourceError(
                f"line {line} has {fields} of {width} fields",
                uri=file.uri,
                fix="fix the row, or have the file delivered again",
            )


def sound(files: Sequence[FileInfo], are: Callable[[Sequence[FileInfo]], bool]) -> frozenset[str]:
    """Return those of very many files that ``are`` sound where many are looked at together: a query for each would take minutes."""
    whole = [f for f in files if uris.is_native(f.uri) and f.end is None]
    found: list[str] = []
    for start in range(0, len(whole) if len(whole) > 1 else 0, _TOGETHER):
        part = whole[start : start + _TOGETHER]
        try:
            found += [f.uri for f in part] if are(part) else []
        except BaseException as error:  # the faulty file is found when files are checked one by one
            if not is_engine_error(error):
                raise
    return frozenset(found)


def bad_line(file: FileInfo, reader: Reader, schema: pl.Schema) -> int | None:
    """Return the number of the first line at which a CSV or NDJSON file cannot be read; None if it is not known."""
    from lazypipe.storage.external.files import reading

    try:
        by_row, inside = TEXT in schema, untold(schema)
        names = reader.header(file, inside)
        if set(names) != set(inside):
            return None
        parser = _parser(reader, pl.Schema({n: inside[n] for n in names}))
        with reading(file.uri):
            return _first_bad(file, reader, parser, inside if by_row else None)
    except BaseException as error:  # the file is worse than one bad line
        if not cannot_read(error):
            raise
    return None


def line_where(file: FileInfo, reader: Reader, schema: pl.Schema, condition: pl.Expr) -> int | None:
    """Return the number of the line of the first row that meets a condition, None if none does; the row can be read."""
    by_row, inside = TEXT in schema, untold(schema)
    scan = _scanner(reader, pl.Schema({n: inside[n] for n in reader.header(file, inside)}))

    def fits(chunk: Sequence[tuple[int, str]]) -> bool:
        return scan(chunk).filter(condition).collect(engine="in-memory").is_empty()

    return _first_bad(file, reader, fits, inside if by_row else None)


def _first_bad(
    file: FileInfo, reader: Reader, fits: Callable[[Sequence[tuple[int, str]]], bool], by_row: pl.Schema | None
) -> int | None:
    """Return the number of the line of the first row that does not fit; ``fits`` is called with rows and their lines, as they are written."""
    with sound_rows(file, reader, by_row) if by_row else _rows(file, reader) as records:
        while chunk := list(itertools.islice(records, _CHUNK)):
            if fits(chunk):
                continue
            while len(chunk) > 1:
                half = len(chunk) // 2
                chunk = chunk[half:] if fits(chunk[:half]) else chunk[:half]
            return chunk[0][0]
    return None


@contextmanager
def _rows(file: FileInfo, reader: Reader) -> Iterator[Iterator[tuple[int, str]]]:
    with _local(file, reader) as path:
        records = _records(path, reader, preamble=reader.format == "csv" and not file.start)
        ahead = _lines_ahead(file, reader)
        yield ((number + ahead, text) for number, text in records)


@contextmanager
def sound_rows(file: FileInfo, reader: Reader, schema: pl.Schema) -> Iterator[Iterator[tuple[int, str]]]:
    """Give the rows of a file that can be read, as they are written, each with the number of its first line."""
    with reader.opened_by_row(file, schema) as content:
        yield content.sound()


def batches(files: Sequence[FileInfo], reader: Reader) -> Iterator[tuple[int, pl.Series]]:
    """Yield the lines of files in order, many at a time, with the number that the first of them has in a single file."""
    with ExitStack() as stack:
        paths = [stack.enter_context(_local(file, reader)) for file in files]
        number = 1 + (_lines_ahead(files[0], reader) if len(files) == 1 else 0)
        for batch in _scan(paths, reader).collect_batches(maintain_order=True):
            yield number, batch["line"]
            number += batch.height


def _scanner(reader: Reader, schema: pl.Schema) -> Callable[[Sequence[tuple[int, str]]], pl.LazyFrame]:
    """Return what reads rows as they are written."""

    def scan(chunk: Sequence[tuple[int, str]]) -> pl.LazyFrame:
        text = "".join(record for _, record in chunk).encode()
        if reader.format == "csv":
            # Polars takes a first row with too few fields for all columns that there are, so another one stands ahead
            ahead = reader.read.get("separator", ",").encode() * (len(schema) - 1)
            options = reader.csv_options | {"has_header": False, "skip_rows": 0}
            rows = pl.scan_csv(b"\n".join([ahead, text]) if ahead else text, schema=schema, **options)
            return rows.slice(1) if ahead else rows
        return pl.scan_ndjson(io.BytesIO(text), schema=schema)

    return scan


def _parser(reader: Reader, schema: pl.Schema) -> Callable[[Sequence[tuple[int, str]]], bool]:
    scan = _scanner(reader, schema)

    def parse(chunk: Sequence[tuple[int, str]]) -> bool:
        try:
            scan(chunk).collect(engine="in-memory")
        except BaseException as error:
            if not is_engine_error(error):
                raise
            return False
        return True

    return parse


@contextmanager
def _local(file: FileInfo, reader: Reader) -> Iterator[str]:
    """Yield a path or URI that Polars can read: that of the file itself, or of a temporary copy of it, or of a part of it."""
    if uris.is_native(file.uri) and file.end is None:
        yield file.uri
        return
    from lazypipe.storage.external.files import open_handle, spool

    handle = open_handle(file.uri, reader.storage_options)
    stream = handle.file if file.end is None else handle.part(file.start, file.end)
    try:
        with spool(stream) as copy:
            yield copy.name
    finally:
        stream.close()
        handle.close()


def _lines_ahead(file: FileInfo, reader: Reader) -> int:
    """Return how many lines of the file stand ahead of a part."""
    from lazypipe.storage.external.files import open_handle

    if not file.start:
        return 0
    with open_handle(file.uri, reader.storage_options).part(0, file.start) as stream:
        return sum(piece.count(b"\n") for piece in iter(partial(stream.read, 1 << 20), b""))


def _scan(path: str | list[str], reader: Reader) -> pl.LazyFrame:
    storage = uris.polars_options(path if isinstance(path, str) else path[0], reader.storage_options)
    return pl.scan_lines(path, glob=False, storage_options=storage)


def _short_row(path: str, reader: Reader, width: int, *, preamble: bool) -> tuple[int, int] | None:
    if not _suspicious(path, reader, width):
        return None
    separator, quoted = reader.read.get("separator", ","), _quoted(reader)
    for number, record in _records(path, reader, preamble=preamble):
        fields = quoted.sub("", record).count(separator) + 1 if record.strip() else 0
        if fields < width:
            return number, fields
    return None


def _quote(reader: Reader) -> str:
    return str(reader.read.get("quote", '"') or "")


def _quoted(reader: Reader) -> re.Pattern[str]:
    quote = re.escape(_quote(reader))
    return re.compile(f"{quote}[^{quote}]*{quote}" if quote else r"(?!)")


def _suspicious(path: str | list[str], reader: Reader, width: int) -> bool:
    """Whether some line of one or more files has fewer separators than a row needs: a short row, or a part of one with quoted line breaks."""
    quote, comment, line = _quote(reader), reader.read.get("comment"), pl.col("line")
    lines = _scan(path, reader)
    if comment:
        lines = lines.filter(~line.str.starts_with(comment))
    bare = line.str.replace_all(_quoted(reader).pattern, "") if quote else line
    few = bare.str.count_matches(reader.read.get("separator", ","), literal=True) < width - 1
    broken = bare.str.contains(quote, literal=True) if quote else pl.lit(value=False)
    return bool(lines.select((few | broken).any()).collect(engine="streaming").item())


def _records(path: str, reader: Reader, *, preamble: bool) -> Iterator[tuple[int, str]]:
    """Yield each row as it is written, with the number of its first line; for a CSV without header and comments."""
    csv = reader.format == "csv"
    quote, comment = (_quote(reader), reader.read.get("comment")) if csv else ("", None)
    skip = reader.read.get("skip_rows", 0) + (1 if reader.read.get("header", True) else 0) if preamble else 0
    record, first, inside = "", 0, False
    batches = _scan(path, reader).collect_batches(maintain_order=True)
    for number, line in enumerate((line for batch in batches for line in batch["line"]), start=1):
        if not record:
            if comment and line.startswith(comment):
                continue
            first = number
        record += f"{line}\n"
        if quote:
            inside ^= line.count(quote) % 2 == 1
        if inside:
            continue
        if skip:
            skip -= 1
        else:
            yield first, record
        record = ""
    if record:
        yield first, record
