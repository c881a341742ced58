"""Whole queries over named frames."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import polars as pl

from lazypipe.errors import first_line, nearest
from lazypipe.sql import dialect
from lazypipe.sql.bind import NARROW, TO_DATES, TYPED, computed, refuse_dates_in_queries
from lazypipe.sql.exprs import empty
from lazypipe.sql.prepared import prepared, refuse_equal_to_null, understood, written
from lazypipe.sql.text import SqlError, Token, arguments_of, place_of, plain_name

__all__ = ["judge", "query", "tried_out"]

_STARTS = frozenset({"select", "with", "from", "values"})
"""Words with which a query begins."""


def query(sql: str, tables: Mapping[str, pl.LazyFrame], params: Mapping[str, object] | None = None) -> pl.LazyFrame:
    """Run a whole SELECT over named frames, lazily.

    Raises
    ------
    SqlError
        If the text is not one SELECT, or reads something that is not in ``tables``.

    Examples
    --------
    >>> t = pl.LazyFrame({"a": [1, 2]})
    >>> query("SELECT a FROM t WHERE a > :n", {"t": t}, {"n": 1}).collect().rows()
    [(2,)]
    """
    try:
        return _query(sql, tables, params or {})
    except SqlError as error:
        error.place = error.place or place_of(sql, error.what)
        raise


def _query(sql: str, tables: Mapping[str, pl.LazyFrame], params: Mapping[str, object]) -> pl.LazyFrame:
    tokens = _whole(sql, params)
    text = ""
    try:
        _refuse_other_orders(tokens, tables)
        if TO_DATES.search(sql) is not None or any(
            t.text.lower() in TYPED for t in tokens
        ):  # so that others need not ask for all columns
            tokens = _computed_within(tokens, tables)
        text = understood("".join(t.text for t in tokens))
        result = _in_context(tables).execute(text)
        result.collect_schema()
    except pl.exceptions.PolarsError as error:
        message = first_line(error)
        unknown = re.match(r"relation '(.*)' was not found", message)
        if unknown:
            raise SqlError(f"unknown table {unknown[1]!r}", nearest(unknown[1], tables, "inputs")) from error
        column = re.match(r'unable to find column "(.*?)"', message)
        if column:
            known = {c for t in tables.values() for c in t.collect_schema()}
            raise SqlError(f"unknown column {column[1]!r}", nearest(column[1], known, "columns")) from error
        raise SqlError(f"bad SQL: {message}", place=place_of(sql, message, text)) from error
    return result


def tried_out(sql: str, tables: Mapping[str, pl.Schema], params: Mapping[str, object]) -> None:
    """Run a query over no rows: schemas alone do not show that text was compared with a number, or taken for a date.

    The same text over the same columns is tried once: a pipeline is lowered many times while it is compiled.

    Raises
    ------
    SqlError
        If it fails whatever the rows are.

    Examples
    --------
    >>> tried_out("SELECT a FROM t WHERE a > 'x'", {"t": pl.Schema({"a": pl.Int64})}, {})
    Traceback (most recent call last):
    lazypipe.sql.text.SqlError: cannot compare string with numeric type (i64)
    """
    if (failed := _failure(written(sql, params), tuple((n, tuple(s.items())) for n, s in tables.items()))) is not None:
        raise SqlError(failed)


@lru_cache(maxsize=256)
def _failure(text: str, tables: tuple[tuple[str, tuple[tuple[str, pl.DataType], ...]], ...]) -> str | None:
    try:
        query(text, {name: empty(pl.Schema(columns)).lazy() for name, columns in tables}).collect(engine="in-memory")
    except pl.exceptions.PolarsError as error:
        return first_line(error)
    except pl.exceptions.PanicException:
        pass  # a mistake of Polars', about which rows may know better
    return None


def judge(sql: str, params: Mapping[str, object], kind: str) -> None:
    """Raise SqlError for what is wrong with an ``expression`` or a ``query`` whatever its columns are, where those are not known.

    Examples
    --------
    >>> judge("a >", {}, "expression")
    Traceback (most recent call last):
    lazypipe.sql.text.SqlError: bad SQL: unable to parse 'a >' as Expr
    >>> judge("SELECT a FROM whatever", {}, "query")
    """
    text = ""
    try:
        if kind == "query":
            text = understood("".join(t.text for t in _whole(sql, params)))
            pl.SQLContext().execute(text)
        else:
            text = understood(written(sql, params))
            pl.sql_expr(text)
    except SqlError as error:
        error.place = error.place or (place_of(sql, error.what) if kind == "query" else None)
        raise
    except (pl.exceptions.PolarsError, UnicodeError) as error:
        said = first_line(error)
        if _MALFORMED.match(said):
            raise SqlError(f"bad SQL: {said}", place=place_of(sql, said, text) if kind == "query" else None) from error


_MALFORMED = re.compile(
    r"sql parser error|unable to parse|invalid expression|unsupported function|one \(and only one\)"
)
"""How Polars says that a text is wrong, and not that it does not know the columns or tables."""


def _whole(sql: str, params: Mapping[str, object]) -> list[Token]:
    """Return the tokens of a query; raises SqlError where it is none, whatever its tables are."""
    refuse_equal_to_null(sql)
    tokens = prepared(sql, params)
    first = next((t.text.lower() for t in tokens if t.kind == "word"), "")
    if first not in _STARTS:
        raise SqlError("a sql operation must be one SELECT statement", "start it with SELECT or WITH")
    if (kind := dialect.outer_using(tokens)) is not None:
        what = f"the key of a {kind} join by USING would be null in rows that only the right side has"
        raise SqlError(what, "write ON t.key = u.key, and coalesce(t.key, u.key) for the key")
    _refuse_other_orders(tokens, {})
    return tokens


def _refuse_other_orders(tokens: Sequence[Token], tables: Mapping[str, pl.LazyFrame]) -> None:
    """Refuse what would be ordered by something that the query calls like the column that is meant."""
    for by, name in dialect.other_orders(tokens):
        if by != name or any(name in table.collect_schema() for table in tables.values()):
            what = f"ORDER BY {by} would sort by the alias {name!r}, and not by the column"
            raise SqlError(what, "give one of them another name")


def _computed_within(tokens: Sequence[Token], tables: Mapping[str, pl.LazyFrame]) -> list[Token]:
    """Have a query's sums and quantiles ``computed``, and those of the queries in brackets within it, whose columns it sees."""
    seen = dict(tables)
    out: list[Token] = []
    index = 0
    while index < len(tokens):
        starts = next((t.text.lower() for t in tokens[index + 1 :] if t.kind != "space"), "") in _STARTS
        if tokens[index].text != "(" or not starts or (inner := arguments_of(tokens, index - 1)) is None:
            out.append(tokens[index])
            index += 1
            continue
        end = inner[1] - 1
        nested = _computed_within(tokens[index + 1 : end], seen)
        name, columns = _called_by(out, tokens[end + 1 :])
        try:
            frame = _in_context(seen).execute(understood("".join(t.text for t in nested)))
            names = frame.collect_schema().names()
            seen[name] = frame.rename(dict(zip(names, columns, strict=False)))
        except pl.exceptions.PolarsError:
            pass  # whatever is wrong with it is found with the whole
        out += [tokens[index], *nested]
        index = end
    schema, unsure = _columns(seen)
    refuse_dates_in_queries(out, schema, unsure)
    return computed(out, schema, unsure)


def _called_by(before: Sequence[Token], behind: Sequence[Token]) -> tuple[str, list[str]]:
    """Return the name that a query in brackets has where it stands, and those of its columns, if they are listed."""
    front = [t for t in before if t.kind != "space"]
    rest = [t for t in behind if t.kind != "space"]
    if front and front[-1].text.lower() == "as":  # WITH name (columns) AS (…)
        end = len(front) - 1
        start = next((n for n in range(end, 0, -1) if front[n].text == "("), end) if front[end - 1].text == ")" else end
        named = front[start - 1 : end]
    else:  # (…) AS name (columns)
        start = int(bool(rest) and rest[0].text.lower() == "as")
        end = (
            next((n for n, t in enumerate(rest) if t.text == ")"), 0)
            if [t.text for t in rest[start + 1 :][:1]] == ["("]
            else 0
        )
        named = rest[start : max(end, start + 1)]
    names = [plain_name(t) for t in named if t.kind in ("word", "quoted")] or [""]
    return names[0], names[1:]


def _in_context(tables: Mapping[str, pl.LazyFrame]) -> pl.SQLContext[pl.LazyFrame]:
    context: pl.SQLContext[pl.LazyFrame] = pl.SQLContext(eager=False)
    context.register_many(tables)
    return context


def _columns(tables: Mapping[str, pl.LazyFrame]) -> tuple[pl.Schema, frozenset[str]]:
    """Return the columns of all tables, and those that are of several types: of these the one that has few bits."""
    found: dict[str, pl.DataType] = {}
    several = set()
    for table in tables.values():
        for name, dtype in table.collect_schema().items():
            if found.get(name, dtype) != dtype:
                several.add(name)
            if name not in found or dtype in NARROW:
                found[name] = dtype
    return pl.Schema(found), frozenset(several)
