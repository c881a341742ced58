"""Datetimes in CSV files, parsed faster than by Polars' reader, to the same values.

That reader takes 1.6 µs for a moment that is written to the second, where any other field takes it 0.05. So a run has such columns read
as text, and parses them as rows flow by. What is written in another way than is usual, and may be wrong, is left to the reader
(docs/decisions/0048-moments-beside-the-reader.md). That takes all moments of a block to be written as its first one is, so that what it refuses is tried
once more, each row for itself: how rows were delivered must not decide what is taken.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Literal

import polars as pl

from lazypipe.errors import LazypipeError
from lazypipe.spec import taps
from lazypipe.storage import uri as uris
from lazypipe.storage.files import FileInfo
from lazypipe.storage.scan import Reader, cannot_read
from lazypipe.storage.text import cells

__all__ = ["How", "Unusual", "as_text", "columns", "parsed", "refused", "usual"]

How = Literal["usual", "each", "reader"]
"""Who parses moments: a function that takes what is written as usual, one that takes each row for itself, or Polars' reader."""

# not \d, which matches the digits of all scripts, and takes ten times as long to compile
_DAY, _CLOCK, _PARTS = r"[0-9]{4}-[0-9]{2}-[0-9]{2}", r"[0-9]{2}:[0-9]{2}:[0-9]{2}", r"(?:\.[0-9]{1,6})?"
_OFFSET = r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
_USUAL = rf"^{_DAY}[T ]{_CLOCK}{_PARTS}{_OFFSET}?$"


class Unusual(LazypipeError):
    """Moments are written in a way that is left to Polars' reader; ``source`` is where."""

    def __init__(self, source: str) -> None:
        super().__init__("moments are not written as usual")
        self.source = source


def usual(reader: Reader, file: FileInfo, schema: pl.Schema) -> tuple[str, ...]:
    """Return the columns of moments that are worth reading as text: those that the first row of a file has written as usual.

    Only files of this machine are looked into: elsewhere that would be a request more.
    """
    names = columns(reader, schema)
    if not names or not uris.is_local(file.uri):
        return ()
    try:
        row = reader.first_row(file, schema)
    except BaseException as error:
        if not cannot_read(error):
            raise
        return ()  # the run says what is wrong with it
    return tuple(n for n in names if n in row.columns and (row[n].is_null().all() or row[n].str.contains(_USUAL).all()))


def columns(reader: Reader, schema: pl.Schema) -> tuple[str, ...]:
    """Return the columns of moments in CSV that its reader would parse.

    Examples
    --------
    >>> columns(Reader("csv"), pl.Schema({"a": pl.Int64(), "t": pl.Datetime("us")})), columns(Reader("ndjson"), pl.Schema({"t": pl.Datetime("us")}))
    (('t',), ())
    """
    found = (n for n, t in schema.items() if isinstance(t, pl.Datetime) and t.time_unit != "ns")
    return tuple(found) if reader.format == "csv" else ()


def refused(error: BaseException) -> bool:
    """Whether Polars' reader has stopped at what it takes for no moment.

    Examples
    --------
    >>> refused(pl.exceptions.ComputeError("could not parse `1` as dtype `datetime[μs]` at column 't' (column number 2)"))
    True
    """
    return cannot_read(error) and "` as dtype `datetime[" in str(error)


def as_text(schema: pl.Schema, names: Collection[str]) -> pl.Schema:
    """Return the columns of a file with some read as text.

    Examples
    --------
    >>> dict(as_text(pl.Schema({"a": pl.Int64(), "t": pl.Datetime("us")}), ["t"]))
    {'a': Int64, 't': String}
    """
    return pl.Schema({n: pl.String() if n in names else t for n, t in schema.items()})


def parsed(
    frame: pl.LazyFrame, schema: pl.Schema, names: Collection[str], source: str, how: How = "usual"
) -> pl.LazyFrame:
    """Return rows with those columns parsed that were read as text; raises Unusual, when it runs, for what is left to the reader.

    Examples
    --------
    >>> rows = pl.LazyFrame({"t": ["2024-02-29T12:00:00Z", None]})
    >>> parsed(rows, pl.Schema({"t": pl.Datetime("us", "UTC")}), ["t"], "s").collect().to_series().to_list()
    [datetime.datetime(2024, 2, 29, 12, 0, tzinfo=zoneinfo.ZoneInfo(key='UTC')), None]
    """
    parse_one = _each if how == "each" else _moments

    def parse(batch: pl.DataFrame) -> pl.DataFrame:
        made = [m for m in (parse_one(batch[name], schema[name]) for name in names) if m is not None]
        if len(made) < len(names):
            raise Unusual(source)
        return batch.with_columns(made)

    columns = {n: schema.get(n, t) for n, t in frame.collect_schema().items()}
    return taps.tap(frame, parse, schema=pl.Schema(columns))


def _moments(text: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Return moments that are written as usual; None if any is not. Text that has no offset is UTC, as it is for the reader."""
    assert isinstance(dtype, pl.Datetime)
    if text.null_count() == len(text):
        return text.cast(dtype)
    first = text[0] if text[0] is not None else text.drop_nulls()[0]
    between = first[10:11]
    if between not in ("T", " "):
        return None
    # most files have an offset in all rows or in none
    offset = re.search(rf"{_OFFSET}$", first) is not None
    found = text.to_frame().select(_plain(text.name, dtype, between, "Z" if offset else "")).to_series()
    if found.null_count() == text.null_count():
        return found
    left = found.is_null() & text.is_not_null()
    rest = _others(text.filter(left), dtype)
    if rest.has_nulls():
        return None
    return found.to_physical().scatter(left.arg_true(), rest).cast(dtype)


@lru_cache(maxsize=256)
def _plain(name: str, dtype: pl.Datetime, between: str, end: str) -> pl.Expr:
    """Return what most are, without fractions and in UTC: that is parsed six times as fast as any other. Null where it is not that."""
    column, form = pl.col(name), f"%Y-%m-%d{between}%H:%M:%S{end}"
    moment = column.str.to_datetime(form, time_unit=dtype.time_unit, strict=False)
    plain = column.str.contains(rf"^{_DAY}{between}{_CLOCK}{end}$")
    return pl.when(plain).then(moment).to_physical().cast(dtype)


def _each(text: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Return moments in any form that a contract takes, each row for itself; None if one is none."""
    cell = pl.col(text.name)
    made = cells.parsed(cell, dtype)
    bad = cells.misfit(cell, made, pl.String(), dtype)
    found = text.to_frame().select(made.alias("made"), bad.any().alias("bad"))
    return None if found["bad"].any() else found["made"].alias(text.name)


def _others(text: pl.Series, dtype: pl.Datetime) -> pl.Series:
    column = pl.col(text.name)
    fits = column.str.contains(_USUAL)
    end = pl.when(column.str.contains(rf"{_OFFSET}$")).then(pl.lit("")).otherwise(pl.lit("Z"))
    whole = pl.concat_str(column.str.replace(" ", "T", literal=True), end)
    moment = whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit=dtype.time_unit, time_zone="UTC", strict=False)
    return text.to_frame().select(pl.when(fits).then(moment).to_physical()).to_series()
