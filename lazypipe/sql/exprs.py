"""Expressions over columns: their types, the columns they read, and whether they can be computed, tested on empty frames."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import polars as pl

from lazypipe.errors import first_line
from lazypipe.sql.text import SqlError

__all__ = [
    "cast_to_dates",
    "columns_of",
    "dtype_of",
    "empty",
    "in_pairs",
    "settled",
    "substituted",
    "try_out",
    "value_of",
]


def empty(schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return a frame of these columns without rows; made once, for expressions are tried out on it again and again.

    Examples
    --------
    >>> empty({"a": pl.Int64()}).shape
    (0, 1)
    """
    return _empty(tuple(schema.items()))


@lru_cache(maxsize=256)
def _empty(columns: tuple[tuple[str, pl.DataType], ...]) -> pl.DataFrame:
    # much faster than by a schema: types are few, and their columns are renamed
    return pl.DataFrame([_nothing(dtype).alias(name) for name, dtype in columns])


@lru_cache(maxsize=256)
def _nothing(dtype: pl.DataType) -> pl.Series:
    """Return a column without values."""
    return pl.Series(dtype=dtype)


@lru_cache(maxsize=256)
def value_of(dtype: pl.DataType) -> pl.Series:
    """Return a column of one value, made up; of a null for types that have none worth making.

    Examples
    --------
    >>> value_of(pl.Date()).to_list()
    [datetime.date(1970, 1, 2)]
    """
    match dtype:
        case pl.String() | pl.Categorical():
            return pl.Series(["a"], dtype=dtype)
        case pl.Enum():
            return pl.Series([*dtype.categories[:1]] or [None], dtype=dtype)
        case pl.Binary():
            return pl.Series([b"a"], dtype=dtype)
        case pl.List():
            return pl.Series([[]], dtype=dtype)
        case pl.Array():
            return pl.Series([[None] * dtype.size], dtype=dtype)
        case pl.Decimal():
            return pl.Series([Decimal(0)], dtype=dtype)
    if dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean:
        return pl.Series([1]).cast(pl.Int32 if dtype == pl.Date else pl.Int64).cast(dtype)
    return pl.Series([None], dtype=dtype)


def dtype_of(expr: pl.Expr, schema: pl.Schema) -> pl.DataType:
    """Return the type that ``expr`` has over ``schema``; raises SqlError where it has none."""
    try:
        dtypes = empty(schema).lazy().select(expr.alias("x")).collect_schema().dtypes()
    except pl.exceptions.PolarsError as error:
        raise SqlError(first_line(error)) from error
    if len(dtypes) != 1:
        raise SqlError("the expression selects no column", "write an expression that gives one column")
    return dtypes[0]


def try_out(expr: pl.Expr, rows: pl.DataFrame) -> None:
    """Compute an expression over rows, for what Polars refuses only then.

    In memory, which is half the work: the streaming engine begins with threads of its own.

    Examples
    --------
    >>> try_out(pl.col("n") > 1, empty({"n": pl.Int64()}))
    """
    rows.lazy().select(expr).collect(engine="in-memory")


def in_pairs(combined: Callable[[pl.Expr, pl.Expr], pl.Expr], parts: Iterable[pl.Expr]) -> pl.Expr:
    """Return expressions combined two by two, by what may be done in any order.

    Polars goes down an expression once for each of its levels: one by one, those of a thousand columns take seconds, and those of
    some thousands more than its stack.

    Examples
    --------
    >>> str(in_pairs(lambda a, b: a + b, [pl.col("a"), pl.col("b"), pl.col("c")]))
    '[([(col("a")) + (col("b"))]) + (col("c"))]'
    """
    found = [*parts]
    while len(found) > 1:
        pairs = [combined(a, b) for a, b in zip(found[::2], found[1::2], strict=False)]
        found = [*pairs, *found[2 * len(pairs) :]]
    return found[0]


def cast_to_dates(expr: pl.Expr) -> Iterator[pl.Expr]:
    """Yield what an expression casts to dates.

    Examples
    --------
    >>> [str(e) for e in cast_to_dates(pl.sql_expr("coalesce(n::date, (m + 1)::text::date)"))]
    ['col("n")', '[(col("m")) + (dyn int: 1)].strict_cast(String)']
    """

    def walk(node: Any) -> Iterator[Any]:
        if isinstance(node, dict):
            cast = node.get("Cast")
            if isinstance(cast, dict) and cast.get("dtype") == {"Literal": "Date"}:
                yield cast["expr"]
            yield from walk([*node.values()])
        elif isinstance(node, list):
            for part in node:
                yield from walk(part)

    yield from map(_from_json, walk(json.loads(expr.meta.serialize(format="json"))))


def settled(expr: pl.Expr, schema: pl.Schema, keys: Collection[str] = ()) -> pl.Expr:
    """Name the columns that an expression chooses by type, by pattern or as all of them.

    Rows have more columns on their way than ``schema`` tells of, which such a choice would take too. ``keys`` are those of
    groups, which it passes over, as in Polars.

    Raises
    ------
    SqlError
        If a Python function stands in such an expression, which then cannot be written anew.

    Examples
    --------
    >>> print(settled(pl.sum_horizontal(pl.all()), pl.Schema({"a": pl.Int64, "b": pl.Int64})))
    cs.by_name('a', 'b', require_all=true).sum_horizontal()
    """
    chosen = [_selector(leaf) for leaf in _leaves(expr)]
    if all(selector is None or _named(selector) is not None for selector in chosen):
        return expr

    def named(node: Any) -> Any:
        if not (isinstance(node, dict) and list(node) == ["Selector"]) or _named(node) is not None:
            return None
        names = empty(schema).lazy().select(_from_json(node)).collect_schema().names()
        return {"Selector": {"ByName": {"names": [n for n in names if n not in keys], "strict": True}}}

    try:
        return _rewritten(expr, named)
    except pl.exceptions.ComputeError as error:
        what = "an expression with a Python function in it chooses columns by type, by pattern or as all of them"
        raise SqlError(what, "name them: pl.struct('a', 'b')") from error


def columns_of(expr: pl.Expr) -> set[str]:
    """Return the columns that an expression reads; ``settled``, if it may choose some.

    Examples
    --------
    >>> sorted(columns_of(pl.any_horizontal(pl.col("a", "b").is_null()) & pl.col("c")))
    ['a', 'b', 'c']
    """
    selectors = (_selector(leaf) for leaf in _leaves(expr))
    return {*expr.meta.root_names()}.union(*(_named(s) or () for s in selectors if s is not None))


def _leaves(expr: pl.Expr) -> Iterator[pl.Expr]:
    """Yield the leaves of an expression that selects several columns; nothing for any other."""
    if not expr.meta.has_multiple_outputs():
        return
    inner = expr.meta.pop()
    if not inner:
        yield expr
    for part in inner:
        yield from _leaves(part)


def _selector(leaf: pl.Expr) -> Any:
    """Return how a leaf chooses columns; None if it does not."""
    node = json.loads(leaf.meta.serialize(format="json"))
    return node if isinstance(node, dict) and "Selector" in node else None


def _named(selector: Any) -> Sequence[str] | None:
    """Return the names that a column selection lists; None if it selects them in another way."""
    how = selector["Selector"]
    return how["ByName"]["names"] if isinstance(how, dict) and "ByName" in how else None


def substituted(expr: pl.Expr, column: str, replacement: pl.Expr) -> pl.Expr:
    """Replace a column by an expression."""
    new = json.loads(replacement.meta.serialize(format="json"))
    return _rewritten(expr, lambda node: new if node == {"Column": column} else None)


def _rewritten(expr: pl.Expr, change: Callable[[Any], Any]) -> pl.Expr:
    """Replace the parts for which ``change`` returns something; goes through Polars' JSON form, which only this module uses."""

    def walk(node: Any) -> Any:
        if (new := change(node)) is not None:
            return new
        if isinstance(node, dict):
            return {k: walk(v) for k, v in node.items()}
        if isinstance(node, list):
            return [walk(v) for v in node]
        return node

    return _from_json(walk(json.loads(expr.meta.serialize(format="json"))))


def _from_json(tree: Any) -> pl.Expr:
    return pl.Expr.deserialize(io.StringIO(json.dumps(tree)), format="json")
