"""What the rules on columns share: whether a rule fits a column's type, which rule to suggest instead, one check per column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from lazypipe.errors import nearest
from lazypipe.gates.rule import Check, Rule
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name

__all__ = [
    "AMOUNTS",
    "LONG",
    "MOMENTS",
    "NUMBERS",
    "ORDERED",
    "TEXTS",
    "Kind",
    "comparable",
    "distinct_names",
    "each",
    "fitting",
    "instead",
    "is_text",
    "length",
    "namable",
    "one_of",
    "spacing",
    "text",
]


@dataclass(frozen=True)
class Kind:
    """The columns that a rule is for; ``absent`` is the type as which a column without one (all null) is read."""

    words: str
    fits: Callable[[pl.DataType], bool]
    absent: pl.DataType


def is_text(dtype: pl.DataType) -> bool:
    """Whether values are texts."""
    return dtype in (pl.String, pl.Categorical, pl.Enum)


AMOUNTS = Kind("numbers and durations", lambda t: t.is_numeric() or t == pl.Duration, pl.Int64())
MOMENTS = Kind("dates and datetimes", lambda t: t in (pl.Date, pl.Datetime), pl.Date())
NUMBERS = Kind("numbers", lambda t: t.is_numeric(), pl.Int64())
ORDERED = Kind("numbers, dates and times", lambda t: t.is_numeric() or t.is_temporal(), pl.Int64())
LONG = Kind("text, lists and binary values", lambda t: is_text(t) or t in (pl.List, pl.Array, pl.Binary), pl.String())
TEXTS = Kind("text", is_text, pl.String())


def instead(dtype: pl.DataType) -> str:
    """Return the advice which rules fit a column of ``dtype``, for somebody who chose one that does not.

    Examples
    --------
    >>> instead(pl.Date())
    'use between, in_past or in_future'
    """
    if is_text(dtype):
        return "use regex, format or parseable, or cast it first"
    if dtype in (pl.Date, pl.Datetime):
        return "use between, in_past or in_future"
    if dtype.is_numeric() or dtype.is_temporal():
        return "use between"
    if dtype == pl.Boolean:
        return "use in_set"
    return "use length_between" if dtype in (pl.List, pl.Array) else "use not_null or expression"


def fitting(
    name: str, schema: pl.Schema, scope: Scope, kind: Kind, argument: str, *rest: int
) -> tuple[pl.Expr, pl.DataType]:
    """Return a column that a rule can serve, and its type; one without a type (all null) fits every rule.

    Raises
    ------
    Fault
        If there is no such column, or it is not of the ``kind`` that the rule is for.
    """
    if name not in schema:
        raise scope.fault(f"unknown column {name!r}", nearest(name, schema, "columns"), argument, *rest)
    dtype = schema[name]
    if dtype == pl.Null:
        return pl.col(name).cast(kind.absent), kind.absent
    if not kind.fits(dtype):
        what = f"column {name!r} is {dtype_name(dtype)}, and {scope.owner.name} is for {kind.words}"
        raise scope.fault(what, instead(dtype), argument, *rest)
    return pl.col(name), dtype


def text(name: str, schema: pl.Schema, scope: Scope) -> pl.Expr:
    """Return the argument ``column`` as text; raises Fault where it is none."""
    column, dtype = fitting(name, schema, scope, TEXTS, "column")
    return column if dtype == pl.String else column.cast(pl.String)


def length(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return how long a value is: a text's characters, a list's items, a binary value's bytes."""
    match dtype:
        case pl.List():
            return column.list.len()
        case pl.Array():
            return column.arr.len()
        case pl.Binary():
            return column.bin.size()
    return column.cast(pl.String).str.len_chars()


def each(
    rule: Rule,
    columns: Sequence[str],
    schema: pl.Schema,
    scope: Scope,
    make: Callable[[str, int], tuple[pl.Expr, pl.Expr | None]],
) -> list[Check]:
    """Return one check per column; ``make`` gives the violation, and the nearest valid value or None."""
    if rule.id is not None and len(columns) > 1:
        raise scope.fault("one id cannot name the checks of several columns", "write one rule per column", "id")
    distinct_names(columns, scope, "columns")
    made = [(c, *make(c, i)) for i, c in enumerate(columns)]
    return [rule.check(c, schema, scope, violated=v, column=c, clipped=n) for c, v, n in made]


def one_of(value: Any, known: Collection[str], argument: str) -> None:
    """Raise Fault if an argument is none of the values it may have."""
    if value not in known:
        raise Fault(f"unknown {argument} {value!r}", nearest(str(value), known, "values"), (argument,))


def spacing(dtype: pl.DataType) -> float:
    """Return the distance from 1 to the next number of a type of floats (of Float64 for any other type).

    Examples
    --------
    >>> spacing(pl.Float64()) == 2.0**-52
    True
    """
    digits = 10 if dtype == pl.Float16 else 23 if dtype == pl.Float32 else 52
    return float(2.0**-digits)


def comparable(columns: Iterable[str], schema: pl.Schema, scope: Scope, argument: str) -> None:
    """Raise Fault for columns whose values Polars cannot tell apart."""
    for name in columns:
        if schema[name] == pl.Object:
            what = f"column {name!r} is Object, whose values cannot be compared"
            raise scope.fault(what, "cast it to a type of its own", argument)


def namable(column: str, schema: pl.Schema, scope: Scope) -> None:
    """Raise Fault, at the argument ``column``, for one of whose values none can be written in a rule."""
    comparable([column], schema, scope, "column")
    if schema[column].is_nested():
        what = f"column {column!r} is {dtype_name(schema[column])}, whose values a rule cannot name"
        raise scope.fault(what, "unnest or explode it first, and name a column of single values", "column")


def distinct_names(columns: Sequence[str], scope: Scope, argument: str) -> None:
    """Raise Fault where a column is named twice."""
    for name, times in Counter(columns).items():
        if times > 1:
            raise scope.fault(f"{name!r} is listed twice in {argument}", "name each column once", argument)
