"""The schema that a source's files should have, and how files that differ are read as if they had it.

Files are compared with the shape by their footers or headers. Those that are read in the same way are one group, which is
one scan; with files that are all as they should be, that is the scan that it would be anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from lazypipe.errors import SourceError
from lazypipe.gates.tap import RAW_COLUMN
from lazypipe.spec.types import dtype_name
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.units import is_of_files
from lazypipe.storage.files import FileInfo
from lazypipe.storage.formats import FORMATS, TEXT_FORMATS
from lazypipe.storage.scan import Reader
from lazypipe.storage.text.by_row import COLUMNS
from lazypipe.storage.text.cells import BYTES, as_text, is_no_float, misfit, parses, refused, value
from lazypipe.storage.text.header import refuse_misread
from lazypipe.storage.widen import widened

__all__ = [
    "BY_LOG",
    "MISSING",
    "SET_ASIDE",
    "Fit",
    "Mode",
    "Shape",
    "Target",
    "fit",
    "fitted",
    "grown",
    "misfits",
    "reader_of",
    "refitted",
    "reread",
    "told_otherwise",
    "would_wrap",
]

Mode = Literal["ignore", "evolve", "freeze", "discard_column", "discard_row", "fail"]

_COMPILE = "compile the pipeline again"
BY_LOG = (
    "write the folder of the dataset, which is read by its log (its files also hold deleted rows), or rename the column"
)
"""What to do about a column that only data files of datasets have."""
_CELL = "__lazypipe_cell_"

SET_ASIDE = "quarantine"
"""In the place of a format: rows that were put aside, whose cells have come as text, of whatever type."""

MISSING = "missing_column:"
"""What begins the fields of ``_lazypipe_raw`` that stand for a column which a file lacks."""


@dataclass(frozen=True)
class Target:
    """A column as stages see it, and what to do about files that have it otherwise: of another type, name, or not at all.

    If it was ``guessed`` from text that it is one of floats, whole numbers that are none do not fit it.
    """

    name: str
    dtype: pl.DataType
    on_type_change: Mode = "fail"
    on_missing_column: Mode = "fail"
    alias: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def discards(self) -> bool:
        """Whether cells that do not fit are taken out of their column."""
        return self.on_type_change in ("discard_column", "discard_row")

    @property
    def discards_missing(self) -> bool:
        """Whether rows of files that lack the column are counted, or taken out."""
        return self.on_missing_column in ("discard_column", "discard_row")


@dataclass(frozen=True)
class Shape:
    """The columns that stand in files (not those in the names of folders), and what to do about others.

    ``watched`` are new columns that some files had when the pipeline was compiled: rows with a value in one are set aside.
    With ``gated``, a gate and not a cast refuses what does not fit a frozen column. With ``by_row``, rows of text that cannot be read are
    set aside alone.
    """

    targets: tuple[Target, ...]
    on_new_column: Mode = "ignore"
    watched: tuple[str, ...] = ()
    gated: bool = False
    by_row: bool = False

    @property
    def schema(self) -> pl.Schema:
        """The columns of rows that have the shape."""
        return pl.Schema({t.name: t.dtype for t in self.targets})

    def raw(self, form: str) -> pl.Schema:
        """Return the fields of ``_lazypipe_raw`` for files of a format, or for rows ``SET_ASIDE``; none if no cell is ever discarded."""
        soft = [t for t in self.targets if t.discards or (self.gated and t.on_type_change == "freeze")]
        names = [t.name for t in soft if form not in TEXT_FORMATS or _is_soft(t, form)]
        missing = [MISSING + t.name for t in self.targets if t.discards_missing and form != "ndjson"]
        broken = COLUMNS if self.by_row and form in (*TEXT_FORMATS, SET_ASIDE) else ()
        return pl.Schema(dict.fromkeys([*names, *self.watched, *missing, *broken], pl.String()))

    @property
    def keeping(self) -> Shape:
        """The shape by which rows that were set aside are judged again: what does not fit stays aside, unless it is to be null.

        Who set them aside may have been a contract that said otherwise, and what it took out of a row stands in ``_lazypipe_raw`` alone.
        """

        def kept(target: Target) -> Target:
            judged = target.discards or (self.gated and target.on_type_change == "freeze")
            return target if judged else replace(target, on_type_change="discard_row")

        return replace(self, targets=tuple(map(kept, self.targets)), by_row=True)


@dataclass(frozen=True)
class Fit:
    """How a file is read: the columns it is scanned with, and which of them each target takes (none, or one of several)."""

    reads: tuple[tuple[str, pl.DataType], ...]
    takes: tuple[tuple[str, ...], ...]

    @property
    def schema(self) -> pl.Schema:
        """The columns it is scanned with."""
        return pl.Schema(self.reads)

    @property
    def is_by_row(self) -> bool:
        """Whether rows of it that cannot be read are told."""
        return self.reads[0][0] in COLUMNS

    def by_row(self) -> Fit:
        """Return the same with what is told of rows that cannot be read."""
        return Fit((*COLUMNS.items(), *self.reads), self.takes)


def _is_soft(target: Target, form: str) -> bool:
    return (
        form in TEXT_FORMATS
        and target.discards
        and parses(target.dtype)
        and not isinstance(target.dtype, pl.Categorical)
    )


_NOT_IN_NDJSON = (pl.Int8, pl.Int16, pl.UInt8, pl.UInt16, pl.Decimal, pl.Time)
_SURE = 15
"""So many digits of any number are the same when it has been a Float64, which is what JSON's are read as."""


def told_otherwise(dtype: pl.DataType, reader: Reader) -> bool:
    """Whether Polars' reader of text does not know a type, or would take values for others, or round them: then they are read as text, and parsed by us."""
    if reader.format == "ndjson" and isinstance(dtype, _NOT_IN_NDJSON):
        return True
    rounds = isinstance(dtype, pl.Decimal)
    return reader.format in TEXT_FORMATS and (rounds or would_wrap(dtype) or reader.marks.told_by(dtype))


def too_long(text: str, dtype: pl.DataType, reader: Reader) -> bool:
    """Whether a number may have been rounded before it was seen as text: see ``_bad``."""
    return bool(pl.select(_may_be_rounded(pl.lit(text), dtype, reader)).item())


def _may_be_rounded(cell: pl.Expr, dtype: pl.DataType, reader: Reader) -> pl.Expr:
    if reader.format != "ndjson" or not isinstance(dtype, pl.Decimal):
        return pl.lit(value=False)
    return cell.str.replace(r"^[+-]?[0.]*", "").str.count_matches(r"\d") > _SURE


def would_wrap(dtype: pl.DataType) -> bool:
    """Whether Polars' readers of text take years for others, in silence: those that nanoseconds do not reach."""
    return isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns"


def reader_of(reader: Reader, file: str, how: Fit | None) -> Reader:
    """Return the reader for files like ``file`` that are read in some way: where Polars can fill in and widen, it does."""
    return replace(reader, loose=True) if how is not None and _is_loose(reader, file) else reader


def _is_loose(reader: Reader, file: str) -> bool:
    return reader.format in FORMATS and bool(FORMATS[reader.format].loose) and uris.is_native(file)


def fit(file: FileInfo, found: pl.Schema, shape: Shape, reader: Reader) -> Fit:
    """Compare the columns inside a file with the shape.

    Raises
    ------
    SourceError
        If the file differs in a way that the shape does not allow; names the file and the column.
    """
    if reader.format == "csv":
        known = {name for target in shape.targets for name in (target.name, *target.alias)}
        refuse_misread(file.uri, found.names(), reader.csv_options, known)
    takes = [_names(file, found, target, reader.format) for target in shape.targets]
    used = {name for names in takes for name in names}
    for name in found:
        if name not in used:
            _check_new(file, name, shape)
    reads: dict[str, pl.DataType] = {}
    text, loose = reader.format in TEXT_FORMATS, _is_loose(reader, file.uri)
    for index, target in enumerate(shape.targets):
        if loose and not takes[index] and not target.discards_missing:
            takes[index] = (target.name,)
            reads[target.name] = target.dtype
            continue
        for name in takes[index]:
            if text:
                as_it_is = _is_soft(target, reader.format) or told_otherwise(target.dtype, reader)
                reads[name] = pl.String() if as_it_is else target.dtype
            else:
                _check_type(file, name, found[name], target)
                reads[name] = target.dtype if loose and _upcasts(found[name], target) else found[name]
    if reader.format == "ndjson":
        reads |= dict.fromkeys(shape.watched, pl.String())
    elif text:
        # every field is parsed, lest a row with too many or too few of them pass
        reads = {n: reads.get(n, pl.String()) for n in found}
    elif loose:
        reads |= {n: found[n] for n in shape.watched if n in found}
    else:
        reads = {n: reads.get(n, t) for n, t in found.items()}
    return Fit(tuple(reads.items()), tuple(takes))


def _names(file: FileInfo, found: pl.Schema, target: Target, form: str) -> tuple[str, ...]:
    """Return the columns of a file that are the target's: in NDJSON, whose lines differ, any of its names."""
    from lazypipe.storage.external.scan import NO_COLUMN

    if form == "ndjson":
        return (target.name, *target.alias)
    names = tuple(n for n in (target.name, *target.alias) if n in found)
    if len(names) > 1:
        what = f"the file has a column {names[0]!r} and another, {names[1]!r}, that is an alias of {target.name!r}"
        raise SourceError(what, uri=file.uri, fix="remove the alias, or have one of them renamed")
    if not names and target.on_missing_column not in ("evolve", "discard_column", "discard_row"):
        raise SourceError(f"the file lacks column {target.name!r}", uri=file.uri, fix=NO_COLUMN)
    return names


def _check_new(file: FileInfo, name: str, shape: Shape) -> None:
    from lazypipe.storage.external.scan import NEW_COLUMN

    if is_of_files(name):
        raise SourceError(f"the file has a column {name!r}, which is reserved for lazypipe", uri=file.uri, fix=BY_LOG)
    match shape.on_new_column:
        case "discard_column":
            return
        case "discard_row" if name in shape.watched:
            return
        case "discard_row" | "evolve":
            what = f"the file has a column {name!r} that no file had when the pipeline was compiled"
            raise SourceError(what, uri=file.uri, fix=_COMPILE)
        case _:
            raise SourceError(f"the file has a column {name!r} that is not expected", uri=file.uri, fix=NEW_COLUMN)


def _check_type(file: FileInfo, name: str, found: pl.DataType, target: Target) -> None:
    from lazypipe.storage.external.scan import AGAIN, OTHER_TYPE

    if found == target.dtype:
        return
    what = f"the file has {dtype_name(found)} in column {name!r}, "
    match target.on_type_change:
        case "evolve":
            if widened(found, target.dtype) != target.dtype:
                raise SourceError(f"{what}which {dtype_name(target.dtype)} does not hold", uri=file.uri, fix=_COMPILE)
        case "fail":
            raise SourceError(f"{what}not {dtype_name(target.dtype)}", uri=file.uri, fix=OTHER_TYPE)
        case _:
            if refused(found, target.dtype):
                raise SourceError(f"{what}which cannot become {dtype_name(target.dtype)}", uri=file.uri, fix=AGAIN)


def _upcasts(found: pl.DataType, target: Target) -> bool:
    """Whether Polars' own scan widens one type to the other."""
    both = (found.is_integer() and target.dtype.is_integer()) or (found.is_float() and target.dtype.is_float())
    return both and widened(found, target.dtype) == target.dtype


def fitted(frame: pl.LazyFrame, how: Fit, shape: Shape, reader: Reader, keep: Sequence[str] = ()) -> pl.LazyFrame:
    """Return the rows of a group of files in the shape, with ``keep`` columns as they are, and ``_lazypipe_raw`` if it has any.

    Reads nothing. Strict casts fail when the rows are collected; what is discarded stands as text in ``_lazypipe_raw``.
    """
    schema, raw = how.schema, shape.raw(reader.format)
    columns: list[pl.Expr] = []
    cells: dict[str, pl.Expr] = {}
    rejected: dict[str, pl.Expr] = {}
    for index, (target, names) in enumerate(zip(shape.targets, how.takes, strict=True)):
        if not names:
            columns.append(pl.lit(None, dtype=target.dtype).alias(target.name))
            rejected[MISSING + target.name] = pl.lit(target.name)
            continue
        cell, found = pl.coalesce(*names), schema[names[0]]
        if found == target.dtype:
            columns.append((cell if len(names) > 1 else pl.col(names[0])).alias(target.name))
            continue
        if target.on_type_change == "evolve" and not told_otherwise(target.dtype, reader):
            columns.append(cell.cast(target.dtype).alias(target.name))
            continue
        name = f"{_CELL}{index}"
        cells[name] = value(cell, found, target.dtype, reader.marks)
        bad = _bad(cell, pl.col(name), found, target, reader)
        columns.append(pl.when(~bad).then(pl.col(name)).alias(target.name))
        if target.name in raw:
            rejected[target.name] = pl.when(bad).then(as_text(cell, found))
        else:
            # an Enum of nothing takes no text: it fails with the values that did not fit
            refuse = pl.when(bad).then(as_text(cell, found)).cast(pl.Enum([])).is_not_null()
            columns[-1] = pl.when(~refuse.fill_null(value=False)).then(pl.col(name)).alias(target.name)
    rejected |= {n: as_text(pl.col(n), schema[n]) for n in (*shape.watched, *COLUMNS) if n in schema}
    if cells:
        frame = frame.with_columns(e.alias(n) for n, e in cells.items())
    if raw:
        empty = pl.lit(None, dtype=pl.String)
        columns.append(pl.struct(rejected.get(n, empty).alias(n) for n in raw).alias(RAW_COLUMN))
    return frame.select(*columns, *keep)


def _bad(cell: pl.Expr, made: pl.Expr, found: pl.DataType, target: Target, reader: Reader) -> pl.Expr:
    """Return whether a cell does not fit its column; nor does a number of NDJSON that has more digits than a Float64 keeps."""
    bad = misfit(cell, made, found, target.dtype, reader.marks)
    if not isinstance(found, pl.String):
        return bad
    bad = bad | _may_be_rounded(cell, target.dtype, reader)
    return bad | is_no_float(reader.marks.plain(cell, target.dtype)).fill_null(value=False) if target.guessed else bad


def refitted(frame: pl.LazyFrame, schema: pl.Schema, shape: Shape, keep: Sequence[str] = ()) -> pl.LazyFrame:
    """Return rows that stand in no file, with the columns ``schema``, in the shape, and ``keep`` columns as they are."""
    reader = Reader("dataset")
    return fitted(frame, fit(FileInfo("", None), schema, shape, reader), shape, reader, keep)


def grown(
    rows: pl.LazyFrame, before: pl.Schema, after: pl.Schema, aliases: Mapping[str, tuple[str, ...]] | None = None
) -> pl.LazyFrame | None:
    """Return rows that were written before with the columns of later ones, None if a cell would be lost by that.

    Examples
    --------
    >>> rows = pl.LazyFrame({"x": pl.Series([1], dtype=pl.Int8)})
    >>> grown(rows, rows.collect_schema(), pl.Schema({"x": pl.Int64(), "y": pl.String()})).collect().rows()
    [(1, None)]
    >>> grown(rows, rows.collect_schema(), pl.Schema({"y": pl.String()})) is None
    True
    """
    names = aliases or {}
    shape = Shape(tuple(Target(n, t, "evolve", "evolve", names.get(n, ())) for n, t in after.items()), "fail")
    try:
        return refitted(rows, before, shape)
    except SourceError:
        return None


def reread(rows: pl.LazyFrame, shape: Shape, reader: Reader) -> pl.LazyFrame:
    """Return quarantined rows, whose ``_lazypipe_raw`` is JSON, with the cells in it parsed as the shape now says.

    Rows of a time when no cells were put aside have none. What does not fit stays in ``_lazypipe_raw``, as a struct.
    """
    raw = shape.raw(SET_ASIDE)
    known = RAW_COLUMN in rows.collect_schema()
    aside = pl.col(RAW_COLUMN) if known else pl.lit(None, dtype=pl.String)
    rows = rows.with_columns(aside.str.json_decode(pl.Struct(raw)).alias(RAW_COLUMN))
    columns, still = [], dict.fromkeys(raw, pl.lit(None, dtype=pl.String))
    targets = {t.name: t for t in shape.targets}
    for name in raw:
        cell = pl.col(RAW_COLUMN).struct.field(name)
        if name not in targets:
            still[name] = cell
            continue
        dtype = targets[name].dtype
        made = value(cell, pl.String(), dtype, reader.marks)
        columns.append(pl.when(cell.is_not_null()).then(made).otherwise(pl.col(name)).alias(name))
        # bytes that are no text do not become it by being shown
        shown = cell.str.starts_with(BYTES) & (dtype == pl.String)
        columns[-1] = pl.when(~shown.fill_null(value=False)).then(columns[-1]).otherwise(pl.col(name)).alias(name)
        still[name] = pl.when(shown | _bad(cell, made, pl.String(), targets[name], reader)).then(cell)
    return rows.with_columns(*columns, pl.struct(e.alias(n) for n, e in still.items()).alias(RAW_COLUMN))


def misfits(
    frame: pl.LazyFrame, how: Fit, shape: Shape, reader: Reader
) -> tuple[str, pl.DataType, int, str, pl.Expr] | None:
    """Return the first column with cells that a strict cast refuses: its name, its type, how many, one of them, and which rows have one."""
    schema = how.schema
    for target, names in zip(shape.targets, how.takes, strict=True):
        strict = target.on_type_change == "freeze" or (told_otherwise(target.dtype, reader) and not target.discards)
        if not names or schema[names[0]] == target.dtype or not strict:
            continue
        cell, found = pl.coalesce(*names), schema[names[0]]
        made = value(cell, found, target.dtype, reader.marks)
        bad = _bad(cell, made, found, target, reader)
        rows = (
            frame.filter(bad).select(pl.len(), as_text(cell, found).first().alias("text")).collect(engine="streaming")
        )
        count, text = rows.row(0)
        if count:
            return target.name, target.dtype, count, text, bad
    return None
