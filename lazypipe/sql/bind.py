"""SQL expressions to Polars expressions, bound against a schema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise

import polars as pl

from lazypipe.errors import closest, first_line, nearest
from lazypipe.sql.exprs import cast_to_dates, dtype_of, empty, settled, substituted, try_out, value_of
from lazypipe.sql.prepared import prepared, refuse_equal_to_null, understood, written
from lazypipe.sql.text import SqlError, Token, arguments_of, plain_name, quoted, tokenize

__all__ = ["NARROW", "TO_DATES", "TYPED", "bind", "computed", "refuse_dates_in_queries", "tried"]

_UNITS = {
    "microsecond": "1us",
    "millisecond": "1ms",
    "second": "1s",
    "minute": "1m",
    "hour": "1h",
    "day": "1d",
    "week": "1w",
    "month": "1mo",
    "quarter": "1q",
    "year": "1y",
    "decade": "10y",
}


def bind(sql: str, schema: pl.Schema, params: Mapping[str, object] | None = None) -> pl.Expr:
    """Turn a SQL expression into a Polars expression over columns of ``schema``.

    Nulls follow SQL: comparisons with null give null. Unquoted names are taken as they are written.

    Raises
    ------
    SqlError
        If the text does not parse, or names an unknown column, function or parameter.

    Examples
    --------
    >>> schema = pl.Schema({"ts": pl.Datetime("us"), "n": pl.Int64})
    >>> print(bind("date_trunc('hour', ts)", schema))
    col("ts").dt.truncate(["1h"])
    >>> print(bind("n > :least", schema, {"least": 3}))
    [(col("n")) > (dyn int: 3)]
    """
    return _bound(computed(prepared(sql, params or {}), schema), schema)


def _bound(tokens: Sequence[Token], schema: pl.Schema) -> pl.Expr:
    """Bind tokens whose sums and quantiles are ``computed``."""
    inner: list[pl.Expr] = []
    text = understood(_hoist(tokens, schema, inner))
    if not text.strip():
        raise SqlError("empty SQL expression", "write an expression such as a + 1")
    try:
        expr = pl.sql_expr(text)
    except (pl.exceptions.PolarsError, UnicodeError) as error:
        raise SqlError(f"bad SQL: {first_line(error)}") from error
    if expr.meta != expr.meta.undo_aliases():
        name = expr.meta.output_name()
        raise SqlError(
            f"{name!r} at the end would be read as an alias", "write an operator in front of it, or leave it out"
        )
    for index, replacement in enumerate(inner):
        expr = substituted(expr, _placeholder(index), replacement)
    for name in expr.meta.root_names():
        if name not in schema and name != "*":
            # of what a query in brackets gives there is no column, and no hint
            made = name.startswith("_POLARS_TMP_SQL")
            hint = None if made else nearest(name, schema, "columns")
            if hint is not None and quoted(name) in text and closest(name, schema) is None:
                hint = f"text is written in single quotes: '{name}'; {hint}"
            raise SqlError(f"unknown column {name!r}", hint)
    return settled(expr, schema)  # COLUMNS('a.*')


def tried(sql: str, schema: pl.Schema, params: Mapping[str, object]) -> pl.Expr:
    """Return what ``bind`` does, after it was tried out: schemas alone do not show that text was compared with a number.

    It is run over no rows, and over a made-up one, for Polars refuses casts between types only where there is a value.

    The same text over the same columns is tried once: a pipeline is lowered many times while it is compiled.

    Examples
    --------
    >>> print(tried("n > 1", pl.Schema({"n": pl.Int64}), {}))
    [(col("n")) > (dyn int: 1)]
    """
    refuse_equal_to_null(sql)
    text = written(sql, params) if ":" in sql else _without_params(sql)
    return _tried(text, tuple(schema.items()))


@lru_cache(maxsize=1_024)
def _without_params(sql: str) -> str:
    return written(sql, {})


@lru_cache(maxsize=1_024)
def _tried(sql: str, columns: tuple[tuple[str, pl.DataType], ...]) -> pl.Expr:
    schema = pl.Schema(columns)
    expr = bind(sql, schema)
    if TO_DATES.search(sql) is not None:
        _refuse_dates_of_numbers(expr, schema)
    try_out(expr, empty(schema))
    if not _may_cast(sql, expr, schema):
        return expr
    try:
        try_out(expr, _one_row(columns))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        # whatever else is wrong is so of the made-up values
        if _NEVER.match(first_line(error)):
            raise
    return expr


TO_DATES = re.compile(r"(::|\bas)\s*date\b", re.IGNORECASE)
"""How casts to dates are written."""


def _refuse_dates_of_numbers(expr: pl.Expr, schema: pl.Schema) -> None:
    """Raise SqlError where a number is cast to a date: Polars takes 20130131 for as many days since 1970, databases refuse it."""
    for operand in cast_to_dates(expr):
        with suppress(SqlError):  # of what stands in another context, such as that of a list
            dtype = dtype_of(operand, schema)
            if dtype.is_numeric() or dtype == pl.Boolean:
                break
    else:
        return
    raise _no_date(dtype)


def refuse_dates_in_queries(tokens: Sequence[Token], schema: pl.Schema, unsure: frozenset[str]) -> None:
    """Raise SqlError where a query casts a number to a date, as far as the text tells its type; see ``computed``."""
    for operand in _cast_to_dates(tokens):
        dtype = _type_of(operand, schema) if unsure.isdisjoint(map(plain_name, operand)) else None
        if dtype is not None and (dtype.is_numeric() or dtype == pl.Boolean):
            raise _no_date(dtype)


def _no_date(dtype: pl.DataType) -> SqlError:
    return SqlError(f"{dtype} is no date", "read its digits, as in date(x::text, '%Y%m%d')")


def _cast_to_dates(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """Yield what a text casts to dates: columns, perhaps of tables, and arguments of ``CAST``."""
    for index, token in enumerate(tokens):
        if token.text.lower() not in ("cast", "try_cast") or (call := arguments_of(tokens, index)) is None:
            continue
        argument = call[0][0]
        said = [n for n, t in enumerate(argument) if t.kind not in ("space", "comment")][-2:]
        if [argument[n].text.lower() for n in said] == ["as", "date"]:
            yield argument[: said[0]]
    near = [t for t in tokens if t.kind not in ("space", "comment")]
    for index, (token, behind) in enumerate(pairwise(near)):
        if token.kind == "cast" and behind.text.lower() == "date":
            start = index - 1
            while start > 1 and near[start - 1].text == ".":
                start -= 2
            # behind another cast stands a type, which is no column
            if start == 0 or near[start - 1].kind != "cast":
                yield near[start:index]


_NEVER = re.compile(
    r"casting from .* not supported|cannot cast (List|Array|categorical) type|could not evaluate comparison between"
)
"""How Polars says that no value of a type becomes one of another, or can be compared with one."""


def _may_cast(sql: str, expr: pl.Expr, schema: pl.Schema) -> bool:
    """Whether an expression casts, or reads what comparing and joining text would cast: of most it need not be found out."""
    read = (schema[name] for name in expr.meta.root_names() if name in schema)
    return re.search(r"::|\|\||cast", sql, re.IGNORECASE) is not None or any(
        dtype.is_nested() or dtype == pl.Duration for dtype in read
    )


@lru_cache(maxsize=256)
def _one_row(columns: tuple[tuple[str, pl.DataType], ...]) -> pl.DataFrame:
    """Return a frame of these columns with a row of values, as far as types have one that is easily made up."""
    return pl.DataFrame([value_of(dtype).alias(name) for name, dtype in columns])


def _placeholder(index: int) -> str:
    return f"__lazypipe_bound_{index}"


def _hoist(tokens: Sequence[Token], schema: pl.Schema, inner: list[pl.Expr]) -> str:
    """Replace each ``date_trunc(unit, x)`` by a placeholder column and bind ``x`` by its type."""
    out: list[str] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        call = arguments_of(tokens, index) if token.text.lower() == "date_trunc" else None
        if call is None or token.kind != "word":
            out.append(token.text)
            index += 1
            continue
        arguments, index = call
        inner.append(_date_trunc(arguments, schema))
        out.append(_placeholder(len(inner) - 1))
    return "".join(out)


def _date_trunc(arguments: Sequence[Sequence[Token]], schema: pl.Schema) -> pl.Expr:
    if len(arguments) != 2:
        raise SqlError(f"date_trunc takes 2 arguments, not {len(arguments)}", "write date_trunc('hour', x)")
    unit = "".join(t.text for t in arguments[0]).strip().strip("'").lower()
    every = _UNITS.get(unit.removesuffix("s")) or _UNITS.get(unit)
    if every is None:
        raise SqlError(f"date_trunc has no unit {unit!r}", nearest(unit, _UNITS, "units"))
    text = "".join(t.text for t in arguments[1]).strip()
    operand = bind(text, schema)
    dtype = dtype_of(operand, schema)
    if dtype == pl.Date:
        # as Polars' SQL does it: a date truncated is a timestamp
        operand = operand.cast(pl.Datetime("us"))
    elif not isinstance(dtype, pl.Datetime):
        raise SqlError(
            f"date_trunc needs a date or a datetime, and {text} is {dtype}",
            f"write date_trunc('{unit}', {f'timestamp({text})' if dtype == pl.String else f'{text}::timestamp'})",
        )
    return operand.dt.truncate(every)


NARROW = (pl.Int32(), pl.UInt32(), pl.Boolean())
"""Types of which Polars makes sums of 32 bits, that wrap around."""


TYPED = {"sum": 1, "quantile_cont": 2, "quantile_disc": 2}
"""Functions that Polars computes wrongly of some types, and how many arguments they take."""


def computed(tokens: Sequence[Token], schema: pl.Schema, unsure: frozenset[str] = frozenset()) -> list[Token]:
    """Have sums and quantiles computed as databases do.

    Sums of narrow whole numbers, such as those written in the text, have 64 bits. A factor does it, and no cast: where a query
    calls something else by a name of its tables, that keeps its value. Quantiles of dates are those of timestamps, as their
    median is: Polars panics at no dates. What they are not possible for is refused: of text, Polars gives null. Columns that
    are ``unsure`` may be of another type than ``schema`` says.
    """
    out: list[Token] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        name = token.text.lower() if token.kind == "word" else ""
        call = arguments_of(tokens, index) if name in TYPED else None
        if call is None or len(call[0]) != TYPED[name]:
            out.append(token)
            index += 1
            continue
        (argument, *rest), index = call
        begin = next((n for n, t in enumerate(argument) if t.kind != "space"), 0)
        begin += bool(argument) and argument[begin].text.lower() == "distinct"
        value = computed(argument[begin:], schema, unsure)
        out += [token, Token("other", "("), *argument[:begin]]
        dtype = _type_of(value, schema)
        if name == "sum" and dtype in NARROW:
            value = [*tokenize(" ("), *value, *tokenize(") * CAST(1 AS BIGINT)")]
        elif dtype is not None and unsure.isdisjoint(map(plain_name, value)):
            if _is_impossible(name, dtype):
                raise SqlError(f"{name} is not possible for {dtype}", "cast it first, as in x::double")
            if name != "sum" and dtype == pl.Date:
                value = [*tokenize("CAST("), *value, *tokenize(" AS TIMESTAMP)")]
        out += [*value, *(t for other in rest for t in (Token("other", ","), *other)), Token("other", ")")]
    return out


def _is_impossible(name: str, dtype: pl.DataType) -> bool:
    """Whether a type has no sum, or no quantile."""
    if name == "sum":
        return isinstance(dtype, pl.Date | pl.Datetime | pl.Time | pl.String | pl.Categorical | pl.Enum)
    return isinstance(dtype, pl.Boolean | pl.String | pl.Categorical | pl.Enum | pl.Binary)


def _type_of(tokens: Sequence[Token], schema: pl.Schema) -> pl.DataType | None:
    """Return the type of an expression over columns, perhaps of tables that it names; None where it is another kind of thing."""
    alone = [
        t
        for n, t in enumerate(tokens)
        if t.text != "." and not (n + 1 < len(tokens) and tokens[n + 1].text == "." and t.kind in ("word", "quoted"))
    ]
    for of in (tokens, alone):
        try:
            return dtype_of(_bound(of, schema), schema)
        except (SqlError, pl.exceptions.PolarsError):
            continue
    return None
