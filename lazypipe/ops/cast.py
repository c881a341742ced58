"""``cast``: change the types of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from lazypipe.errors import first_line
from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import TYPES, arg, check_dtype, choice
from lazypipe.spec.types import dtype_name, inner_types, instance_of
from lazypipe.sql.text import quoted

__all__ = ["Cast", "converted", "refusal"]


@dataclass(frozen=True)
class Cast(Operation):
    """Convert columns to other types. A value that does not convert fails the run, or becomes null and is counted.

    Nulls stay null. With ``on_error: "null"``, the run's record counts the lost values as ``cast:<column>``.

    Text is parsed as ISO 8601: 2013-01-31, 12:30:00, 2013-01-31T12:30:00Z. A datetime with a time zone accepts text
    with an offset, and takes text without one as local time. A datetime without a time zone accepts only text without
    an offset. Numbers do not become dates. true/false, t/f, yes/no, y/n and 1/0 become booleans, in upper or lower case. Converting a float to an
    integer truncates it.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> step = {"cast": {"columns": {"a": "Int64"}, "on_error": "null"}}
    >>> lp.apply(step, pl.LazyFrame({"a": ["1", "x"]})).collect().rows()
    [(1,), (None,)]
    """

    name: ClassVar[str] = "cast"
    shorthand: ClassVar[str] = "columns"
    columns: Mapping[str, str] = arg(
        TYPES, "The column → type, such as Int64, Date, Datetime(us, UTC) or Decimal(10, 2)."
    )
    on_error: Literal["fail", "null"] = arg(
        choice("fail", "null"), "What happens to a value that does not convert.", default="fail"
    )

    def __post_init__(self) -> None:
        """Check the names of the types."""
        for name, dtype in self.columns.items():
            check_dtype(dtype, "columns", name)

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``with_columns`` of casts."""
        scope.columns(self.columns, table.schema, "columns")
        strict = self.on_error == "fail"
        casts = {}
        for name, written in self.columns.items():
            target = check_dtype(written)
            if target == pl.Date and (table.schema[name].is_numeric() or table.schema[name] == pl.Boolean):
                # Polars takes 20130131 for as many days since 1970
                what = f"column {name!r} cannot be cast from {dtype_name(table.schema[name])} to Date"
                fix = f"derive it from its digits: {name}: date({quoted(name)}::text, '%Y%m%d')"
                raise scope.fault(what, fix, "columns", name)
            casts[name] = converted(pl.col(name), table.schema[name], target, strict=strict)
            reason = refusal(table.schema[name], target)
            if reason is not None:
                types = f"{dtype_name(table.schema[name])} to {dtype_name(target)}"
                what = f"column {name!r} cannot be cast from {types}"
                raise scope.fault(what, "cast to another type first, or derive it", "columns", name)
            if strict and (fields := _other_fields(table.schema[name], target)) is not None:
                what = f"column {name!r} has a struct with {_listed(fields[0])}, and its type one with {_listed(fields[1])}"
                fix = (
                    'say on_error: "null", which matches fields by name and fills missing ones with null; or derive it'
                )
                raise scope.fault(what, fix, "columns", name)
        frame = table.frame
        if not strict:
            lost = {f"cast:{n}": pl.col(n).is_not_null() & e.is_null() for n, e in casts.items()}
            frame = scope.tally(frame, lost)
        return frame.with_columns(e.alias(n) for n, e in casts.items())

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes."""
        return True


_ISO_DATES = ("%Y-%m-%d",)
_ISO_TIMES = ("%H:%M:%S%.f", "%H:%M")
_ISO_LOCAL = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_ISO_OFFSET = (*(f"{f}%#z" for f in _ISO_LOCAL[:4]), "%+")
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


def converted(column: pl.Expr, source: pl.DataType, target: pl.DataType, *, strict: bool) -> pl.Expr:
    """Cast, also where Polars wants another function for it."""
    if isinstance(source, pl.Categorical | pl.Enum) and not isinstance(target, pl.Categorical | pl.Enum):
        column, source = column.cast(pl.String), pl.String()
    if isinstance(source, pl.String):
        match target:
            case pl.Date():
                return _parsed(column, [_reader(f, target) for f in _ISO_DATES], strict=strict)
            case pl.Time():
                return _parsed(column, [_reader(f, target) for f in _ISO_TIMES], strict=strict)
            case pl.Datetime():
                formats = [*_ISO_LOCAL, *(_ISO_OFFSET if target.time_zone else ())]
                return _parsed(column, [_reader(f, target) for f in formats], strict=strict)
            case pl.Boolean():
                return _parsed(column, [_boolean], strict=strict)
    if isinstance(source, pl.Time | pl.Duration) and isinstance(target, pl.String):
        return column.dt.to_string("iso")  # a cast would lose the fraction of a second
    if isinstance(target, pl.Struct) and not isinstance(source, pl.Struct):
        # of a null Polars makes a struct of nulls where other values are read with it, and null where none is: by how many cores there are
        return pl.when(column.is_not_null()).then(column.cast(target, strict=strict))
    return column.cast(target, strict=strict)


def _boolean(text: pl.Expr, *, strict: bool) -> pl.Expr:
    # read strictly only what could not be read in any case, so that the error shows it as it was written
    word = text if strict else text.str.to_lowercase()
    return word.cast(pl.Enum([*_TRUE, *_FALSE]), strict=strict).cast(pl.String).is_in(_TRUE)


def _reader(form: str, target: pl.Date | pl.Time | pl.Datetime) -> Callable[..., pl.Expr]:
    """Return a function that reads text of one form, strictly or not."""

    def read(text: pl.Expr, *, strict: bool) -> pl.Expr:
        if not isinstance(target, pl.Datetime):
            return text.str.strptime(target, form, strict=strict)
        micro = text.str.to_datetime(form, time_unit="us", strict=strict, time_zone=_zone(target, form))
        if not target.time_zone or form in _ISO_OFFSET:
            found = micro
        else:
            gap: Literal["raise", "null"] = "raise" if strict else "null"
            found = micro.dt.replace_time_zone(target.time_zone, ambiguous=gap, non_existent=gap)
        if target.time_unit != "ns":
            return found.cast(target)
        # read as nanoseconds, years outside 1677 to 2262 would wrap around
        rest = text.str.to_datetime(form, time_unit="ns", strict=False, time_zone=_zone(target, form))
        return found.cast(target, strict=strict) + pl.duration(nanoseconds=rest.dt.nanosecond() % 1000, time_unit="ns")

    return read


def _zone(target: pl.Datetime, form: str) -> str | None:
    return target.time_zone if form in _ISO_OFFSET else None


def _parsed(text: pl.Expr, readers: Sequence[Callable[..., pl.Expr]], *, strict: bool) -> pl.Expr:
    """Read text in the first form that fits; strict reading fails for what fits none."""
    found = pl.coalesce(read(text, strict=False) for read in readers)
    if not strict:
        return found
    return pl.coalesce(found, readers[0](pl.when(found.is_null()).then(text), strict=True))


def refusal(source: pl.DataType, target: pl.DataType) -> str | None:
    """Why Polars has no cast between two types: it says so only when it meets a value."""
    if isinstance(source, pl.Struct) and not isinstance(target, pl.Struct | pl.String):
        return "it holds several values"  # Polars panics
    for one, other in inner_types(source, target):
        if isinstance(other, pl.Struct) and not isinstance(one, pl.Struct | pl.Null):
            return "of a null inside of it Polars makes a struct of nulls, or nothing at all"
        if (inside := refusal(one, other)) is not None:
            return inside
    example = _example(source)
    if example is None:
        return None
    try:
        pl.select(example.alias("x")).select(converted(pl.col("x"), source, target, strict=False))
    except pl.exceptions.PolarsError as error:
        return first_line(error)
    return None


def _other_fields(source: pl.DataType, target: pl.DataType) -> tuple[list[str], list[str]] | None:
    """Return the fields of the first struct and of its type, if they differ or have another order: Polars reports that for values only."""
    if isinstance(source, pl.List | pl.Array) and isinstance(target, pl.List | pl.Array):
        return _other_fields(instance_of(source.inner), instance_of(target.inner))
    if not isinstance(source, pl.Struct) or not isinstance(target, pl.Struct):
        return None
    here, there = [f.name for f in source.fields], [f.name for f in target.fields]
    if here != there:
        return here, there
    pairs = zip(source.fields, target.fields, strict=True)
    found = (_other_fields(instance_of(one.dtype), instance_of(other.dtype)) for one, other in pairs)
    return next((fields for fields in found if fields is not None), None)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no fields"


def _example(dtype: pl.DataType) -> pl.Expr | None:
    match dtype:
        case pl.List():
            inner = _example(instance_of(dtype.inner))
            return None if inner is None else inner.implode()
        case pl.Enum():
            return pl.lit(dtype.categories[0], dtype=dtype) if len(dtype.categories) else None
        case pl.String() | pl.Categorical():
            return pl.lit("1", dtype=dtype)
        case pl.Binary():
            return pl.lit(b"1")
        case _ if dtype.is_numeric() or dtype.is_temporal() or isinstance(dtype, pl.Boolean):
            return pl.lit(1).cast(dtype)
        case _:
            return None
