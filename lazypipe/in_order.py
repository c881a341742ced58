"""Aggregates for which Polars needs all rows of a group at once: the rows are sorted first, so that it need not hold all groups in memory.

The streaming engine adds up sums, counts and extremes as rows come. For medians, quantiles and lists it needs the rows of a group at once: it holds
all rows in memory, unless it knows that those of a group stand together. A sort streams, and spills to disk where memory is short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import polars as pl

from lazypipe.sql.exprs import empty

__all__ = ["NEAR", "ORDER", "Digit", "grouped", "lying", "together"]

ORDER = "__lazypipe_order"
"""The column by which rows are in order, or the name of what they are sorted by."""
NEAR = "__lazypipe_near"
"""The column in whose order rows of a group lie as their places do."""
_TEXTS = pl.Categories("lazypipe", namespace="texts in order")
"""The texts that have a number; Polars forgets them with the last plan that names them."""
_MOST_TEXTS = 1 << 31


@dataclass(frozen=True)
class Digit:
    """A whole number that tells the values of a column apart: one of ``count`` from ``least`` on, or null for null.

    Examples
    --------
    >>> hour = Digit(pl.col("h"), 0, 24)
    >>> hour.count
    24
    """

    value: pl.Expr
    least: int
    count: int


def grouped(
    frame: pl.LazyFrame,
    schema: Mapping[str, pl.DataType],
    by: Sequence[str],
    exprs: Sequence[pl.Expr],
    *,
    deciding: Sequence[str] | None = None,
    digits: Mapping[str, Digit] | None = None,
    in_order: bool = False,
) -> pl.LazyFrame:
    """Return one row per group of rows with equal values: the values, and the expressions over its rows.

    Parameters
    ----------
    by
        The columns that make a group.
    deciding
        Those of them that decide the others. Default: all.
    digits
        What tells values of columns apart by fewer numbers than their types have.
    in_order
        Whether rows come in the order of the columns that decide.

    Examples
    --------
    >>> rows = pl.LazyFrame({"g": ["b", "a", "b"], "x": [1, 2, 4]})
    >>> grouped(rows, rows.collect_schema(), ["g"], [pl.col("x").median()]).sort("g").collect().rows()
    [('a', 2.0), ('b', 2.5)]
    """
    if _streams(schema, by, exprs):
        return frame.group_by(by).agg(exprs)
    first = list(deciding or by)
    by = list(dict.fromkeys([*first, *by]))
    if in_order:
        rows = frame.with_columns(pl.col(first[0]).alias(ORDER))
    else:
        number = None if len(by) == 1 and _is_plain(schema[by[0]]) else _number(first, schema, digits or {})
        if number is None:
            return frame.sort(by).group_by(by, maintain_order=True).agg(exprs)
        rows = frame.with_columns(number.alias(ORDER)).sort(ORDER)
    # where this is equal, so are the columns, or they rise as rows come: rows are in the order of all of them. Plans are read without it (plan/meant.py)
    return rows.set_sorted([ORDER, *by]).group_by(ORDER, *by, maintain_order=True).agg(exprs).drop(ORDER)


def together(
    frame: pl.LazyFrame,
    keys: Sequence[str],
    then: Sequence[str] = (),
    descending: Sequence[bool] = (),
    nulls_last: Sequence[bool] = (),
) -> pl.LazyFrame:
    """Return rows in the order of keys, told to Polars: it then joins them as they come, and finds those that repeat, without a table of all.

    Rows of equal keys are in an order of their own, that of the columns ``then``; those that are equal there stay in theirs. For rows that take more
    memory than there is: a sort spills to disk, and takes more time than a table. Plans are read without it.

    Examples
    --------
    >>> rows = pl.LazyFrame({"k": [2, 1, 2], "at": [3, 9, 1]})
    >>> together(rows, ["k"], ["at"], [False], [True]).collect().rows()
    [(1, 9), (2, 1), (2, 3)]
    """
    by = [pl.col(key).alias(ORDER) for key in keys]
    up = [False] * len(by)
    rows = frame.sort(
        *by, *then, descending=[*up, *descending], nulls_last=[*up, *nulls_last], maintain_order=bool(then)
    )
    return rows.set_sorted([*keys])


def lying(
    by: Sequence[str], place: str, schema: Mapping[str, pl.DataType], *, nulls: bool = False
) -> tuple[pl.Expr, int] | None:
    """Return where rows lie on one line of whole numbers, and how far those of a group may lie from each other: others are farther away.

    Null where the place is, and where one of the other columns is unless ``nulls`` make a group of their own. None where types have no
    such number. Places that are floats lie in their order there, at other distances. The place is the last column that it reads.

    Examples
    --------
    >>> rows = pl.DataFrame({"g": ["a", "b", "a"], "day": [1, 1, 3]}, schema_overrides={"day": pl.Int8})
    >>> line, far = lying(["g"], "day", rows.schema)
    >>> far, rows.select(line.diff().abs()).to_series().to_list()
    (255, [None, 1024, 1022])
    """
    if not (schema[place].is_integer() or schema[place].is_temporal() or schema[place].is_float()):
        return None
    found = _digit(pl.col(place), schema[place])
    digits = _digits(by, schema, {})
    if found is None or found.count > 1 << 64 or digits is None:
        return None
    apart = 4 * found.count
    group = _packed(_narrowed(digits, (1 << 126) // apart), 128)
    line = group * pl.lit(apart, dtype=pl.Int128) + found.value.cast(pl.Int128)
    known = pl.all_horizontal(pl.col(c).is_not_null() for c in by)
    return line if nulls else pl.when(known).then(line), found.count - 1


def _streams(schema: Mapping[str, pl.DataType], by: Sequence[str], exprs: Sequence[pl.Expr]) -> bool:
    """Whether Polars computes the expressions as rows come: its physical plan is asked."""
    try:
        texts = tuple(e.meta.serialize() for e in exprs)
    except pl.exceptions.PolarsError:  # Python functions that cannot be written down
        texts = ()
    if len(texts) < len(exprs):
        return _asked(schema, by, exprs)
    return _known(tuple(schema.items()), tuple(by), texts)


# a compile and a run ask this of the same step several times
@lru_cache(maxsize=256)
def _known(columns: tuple[tuple[str, pl.DataType], ...], by: tuple[str, ...], texts: tuple[bytes, ...]) -> bool:
    return _asked(dict(columns), by, [pl.Expr.deserialize(text) for text in texts])


def _asked(schema: Mapping[str, pl.DataType], by: Sequence[str], exprs: Sequence[pl.Expr]) -> bool:
    rows = empty(schema).lazy()
    # twice: a frame that has no row is in any order
    plan = pl.concat([rows, rows]).group_by(by).agg(exprs)
    dot = plan.show_graph(raw_output=True, plan_stage="physical", engine="streaming", show=False)
    return '[label="in-memory-map' not in str(dot)


def _is_plain(dtype: pl.DataType) -> bool:
    """Whether a column of the type is sorted as fast as a number."""
    return dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean


def _number(by: Sequence[str], schema: Mapping[str, pl.DataType], digits: Mapping[str, Digit]) -> pl.Expr | None:
    """Return one whole number that tells the values of all columns apart; None where there is none."""
    told = _digits(by, schema, digits)
    if told is None:
        return None
    told = _narrowed(told, 1 << 128)
    return _packed(told, 64 if _size(told) <= 1 << 64 else 128)


def _digits(by: Sequence[str], schema: Mapping[str, pl.DataType], digits: Mapping[str, Digit]) -> list[Digit] | None:
    found = [digits.get(c) or _digit(pl.col(c), schema[c]) for c in by]
    told = [d for d in found if d is not None]
    return told if len(told) == len(found) else None


def _narrowed(digits: Sequence[Digit], most: int) -> list[Digit]:
    """Return digits that together have no more values than that: the widest give way to numbers of the texts that they are as."""
    told = list(digits)
    while _size(told) > most:
        widest = max(range(len(told)), key=lambda i: told[i].count)
        if told[widest].count > _MOST_TEXTS:
            told[widest] = _text(told[widest].value.cast(pl.String))
        else:
            *told, one, other = told
            told.append(_text(_packed([one, other], 64).cast(pl.String)))
    return told


def _size(digits: Sequence[Digit]) -> int:
    return prod(d.count + 1 for d in digits)


def _packed(digits: Sequence[Digit], bits: int) -> pl.Expr:
    """Return digits as one number of so many bits, which they fit into. Numbers past the largest wrap around to the least."""
    dtype = pl.Int64() if bits == 64 else pl.Int128()

    def literal(number: int) -> pl.Expr:
        half = 1 << (bits - 1)
        return pl.lit((number + half) % (2 * half) - half, dtype=dtype)

    first, *others = (d.value.cast(dtype).fill_null(literal(d.least - 1)) for d in digits)
    for digit, value in zip(digits[1:], others, strict=True):
        first = first * literal(digit.count + 1) + value
    return first


def _text(value: pl.Expr) -> Digit:
    # more texts than that are refused by the cast
    return Digit(value.cast(pl.Categorical(_TEXTS)).to_physical().cast(pl.Int32), 0, _MOST_TEXTS)


def _digit(column: pl.Expr, dtype: pl.DataType) -> Digit | None:
    """Return what tells values of a type apart; None for bytes and nested ones."""
    match dtype:
        case pl.String():
            return _text(column)
        case pl.Boolean() | pl.Null():
            return Digit(column, 0, 2)
        case pl.Enum():
            return Digit(column.to_physical(), 0, len(dtype.categories))
        case pl.Categorical():
            return Digit(column.to_physical(), 0, 1 << 32)
        case pl.Decimal():
            most = 10**dtype.precision
            return Digit(column.reinterpret(dtype=pl.Int128), 1 - most, 2 * most)
        case pl.Float64() | pl.Float32():
            # zeros are equal whatever their sign, and so is all that is not a number; more is not written twice, or Polars would take it out of the number
            value = column.fill_nan(float("nan")).abs().cast(dtype)
            dtype = pl.Int64() if dtype == pl.Float64 else pl.Int32()
            column = value.reinterpret(dtype=dtype) * pl.when(column < 0).then(-1).otherwise(1)
        case pl.Date():
            column, dtype = column.to_physical(), pl.Int32()
        case pl.Datetime() | pl.Duration() | pl.Time():
            column, dtype = column.to_physical(), pl.Int64()
    if not dtype.is_integer():
        return None
    bits = int(str(dtype).removeprefix("U").removeprefix("Int"))
    return Digit(column, 0 if dtype.is_unsigned_integer() else -(1 << (bits - 1)), 1 << bits)
