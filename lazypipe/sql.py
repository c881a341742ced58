"""SQL text to Polars expressions and frames, bound against a schema.

The dialect is that of Polars (``pl.sql_expr``). Five things are added, all on the token stream, so that strings,
quoted names and comments are never touched:

* ``:name`` is a parameter. Its value becomes ONE literal token with its type (``DATE '2013-01-01'``), so that no value,
  whatever it contains, can change the shape of the statement.
* ``date_trunc('hour', x)`` needs the type of ``x``, which ``pl.sql_expr`` does not know: it is bound here.
* ``now()``, ``current_date`` … are refused: a pipeline reads no clock that its caller cannot pass in (``:now``).
* functions that open files (``read_csv`` …) are refused: what a pipeline reads is declared as a source.
* what Polars takes for something else than SQL says is written in other words (``dialect.py``).
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import polars as pl

from lazypipe import dialect
from lazypipe.errors import first_line, nearest

__all__ = ["SqlError", "bind", "call", "empty", "literal", "parameters", "query", "tried", "value_of", "words"]

_TOKEN = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\* )
    | (?P<string>  '(?:[^']|'')*' )
    | (?P<quoted>  "(?:[^"]|"")*" )
    | (?P<foreign> [`$] | (?:[ebnqr]|br|rb|nq)(?=['"]) )
    | (?P<cast>    :: )
    | (?P<param>   :[A-Za-z_]\w* )
    | (?P<number>  \d+(?:\.\d*)?(?:[eE][+-]?\d+)? | \.\d+ )
    | (?P<word>    [^\W\d][\w$]* )
    | (?P<space>   \s+ )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")

_CLOCKS = {
    "now",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "today",
}
_READERS = re.compile(r"(read|scan)_\w+", re.IGNORECASE)
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


_STARTS = frozenset({"select", "with", "from", "values"})
"""Words with which a query begins."""


class SqlError(ValueError):
    """SQL that cannot be bound: what is wrong and what to write instead."""

    def __init__(self, what: str, fix: str | None = None) -> None:
        self.what = what
        self.fix = fix
        super().__init__(what if fix is None else f"{what}; {fix}")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def _tokens(sql: str) -> Iterator[_Token]:
    position = 0
    while match := _TOKEN.match(sql, position):
        kind, text, position = match.lastgroup or "other", match.group(), match.end()
        if text == "/*":
            position = _comment_end(sql, position)
        elif kind == "other" and text in "'\"":
            raise SqlError(f"unclosed {text} in SQL", "close the quote")
        elif kind == "foreign":
            # quotes that end elsewhere than ours: what stands in them could be taken for code, or code for text
            raise SqlError(f"{text} cannot be used here in SQL", "write text as 'text' and names as \"name\"")
        yield _Token(kind, text)


def _comment_end(sql: str, position: int) -> int:
    """Return where the comment ends whose inside starts at ``position``; comments nest, as in Polars."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise SqlError("unclosed /* in SQL", "close the comment")


def parameters(sql: str) -> frozenset[str]:
    """Return the names of the parameters that a statement uses.

    Examples
    --------
    >>> sorted(parameters("a >= :since AND b <> ':not_this' AND c::int = :n"))
    ['n', 'since']
    """
    return frozenset(t.text[1:] for t in _tokens(sql) if t.kind == "param")


def words(sql: str) -> list[str]:
    r"""Return the words, numbers, quoted texts and signs of a statement, without what stands between them.

    Examples
    --------
    >>> words("sum(a.b) -- of all\n >= 'x y'")
    ['sum', '(', 'a', '.', 'b', ')', '>=', "'x y'"]
    """
    found, adjacent = list[str](), False
    for token in _tokens(sql):
        if adjacent and found[-1] + token.text in _SIGNS:
            found[-1] += token.text
        elif token.kind not in ("space", "comment"):
            found.append(token.text)
        adjacent = token.kind == "other"
    return found


_SIGNS = frozenset(
    {"||", ">=", "<=", "<>", "!=", "==", "//", "->", "->>", "~*", "!~", "!~*", "~~", "~~*", "!~~", "!~~*", "^@"}
)
"""Signs of several characters."""


def call(sql: str) -> tuple[str, str] | None:
    """Return the function and the argument of text that is one call and nothing else; None for any other text.

    Examples
    --------
    >>> call("SUM(a * (b + 1))"), call("sum(a) / count(*)"), call("count(DISTINCT a)")
    (('sum', 'a * ( b + 1 )'), None, None)
    """
    tokens = [t for t in _tokens(sql) if t.kind not in ("space", "comment")]
    if len(tokens) < 4 or tokens[0].kind != "word" or tokens[1].text != "(" or tokens[-1].text != ")":
        return None
    depth = 0
    for token in tokens[1:-1]:
        depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "other" else 0
        if depth == 0 or (depth == 1 and token.text == ","):
            return None
    if any(t.text.lower() in ("distinct", "all") and t.kind == "word" for t in tokens[2:3]):
        return None
    return tokens[0].text.lower(), " ".join(t.text for t in tokens[2:-1])


def carrying(sql: str, columns: Sequence[str], *, deep: bool = True) -> str:
    """Return a query that selects some columns besides, wherever it selects columns one by one: a guess, for the plan to judge.

    Parameters
    ----------
    deep
        Whether queries in brackets, which others read, are to select them too.

    Examples
    --------
    >>> carrying("SELECT a FROM t WHERE b IN (SELECT b FROM d)", ["u"])
    'SELECT a, "u" FROM t WHERE b IN (SELECT b FROM d)'
    >>> carrying("WITH t AS (SELECT * FROM s) SELECT extract(year FROM d) AS y FROM t UNION ALL SELECT a FROM s", ["u"])
    'WITH t AS (SELECT * FROM s) SELECT extract(year FROM d) AS y, "u" FROM t UNION ALL SELECT a, "u" FROM s'
    """
    more = "".join(f', "{c}"' for c in columns)
    out: list[str] = []
    # per bracket: whether columns are being selected in it, and whether its query is one that gives rows
    levels = [_Level(gives=True)]
    before = ""
    for token in _tokens(sql):
        word = token.text.lower()
        if token.kind in ("space", "comment"):
            out.append(token.text)
            continue
        here = levels[-1]
        if word == "(":
            # of a table, or of a query by a name; not of a value
            levels.append(_Level(gives=deep and here.gives and before in ("from", "join", "as", "all", "(", "")))
        elif word == ")" and len(levels) > 1:
            levels.pop()
        elif word == "select":
            here.selects, here.star = True, False
        elif word == "*" and before in ("select", "distinct", "all", ",", "."):
            here.star = here.star or here.selects
        elif word == "from" and here.selects:
            if here.gives and not here.star:
                while out and out[-1].isspace():
                    out.pop()
                out.append(more + " ")
            here.selects = False
        out.append(token.text)
        before = word
    return "".join(out)


def without_limit(sql: str) -> tuple[str, str] | None:
    """Return a query without its ``LIMIT``, and without its ``ORDER BY`` too, if it ends in both: a guess, for the plan to judge.

    Examples
    --------
    >>> without_limit("SELECT a FROM (SELECT a FROM t LIMIT 9) AS s ORDER BY a LIMIT 3 OFFSET 1")
    ('SELECT a FROM (SELECT a FROM t LIMIT 9) AS s ORDER BY a', 'SELECT a FROM (SELECT a FROM t LIMIT 9) AS s')
    >>> without_limit("SELECT a FROM t LIMIT 3") is None
    True
    """
    texts: list[str] = []
    order = limit = None
    depth = 0
    for token in _tokens(sql):
        word = token.text.lower()
        if token.kind == "other":
            depth += {"(": 1, ")": -1}.get(word, 0)
        elif token.kind == "word" and depth == 0:
            if word == "order":
                order, limit = len(texts), None
            elif word in ("limit", "offset") and limit is None:
                limit = len(texts)
        texts.append(" " if token.kind == "comment" else token.text)
    if order is None or limit is None:
        return None
    return "".join(texts[:limit]).rstrip(), "".join(texts[:order]).rstrip()


@dataclass
class _Level:
    """What is known of the query within a bracket."""

    gives: bool
    selects: bool = False
    star: bool = False


def literal(value: object) -> str:
    """Render a Python value as one SQL literal, with its type; a list as several, for ``IN (:list)``.

    Examples
    --------
    >>> literal("it's"), literal(date(2013, 1, 1)), literal(None), literal(["a", "b"])
    ("'it''s'", "DATE '2013-01-01'", 'NULL', "'a', 'b'")

    Raises
    ------
    SqlError
        If there is no literal for it.
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return _integer(value)
        case float():
            # with an exponent it is a float from the start; Polars reads 1.5 as a decimal, and -0.0 as 0
            text = repr(float(value))
            shown = f"'{text}'" if not math.isfinite(value) else text if "e" in text else f"{text}e0"
            return f"CAST({shown} AS DOUBLE)"
        case Decimal():
            return _decimal(value)
        case str():
            return "'" + value.replace("'", "''") + "'"
        case datetime():
            return _timestamp(value)
        case date():
            return f"DATE '{value.isoformat()}'"
        case time() if value.tzinfo is None:
            return f"TIME '{value.isoformat()}'"
        case timedelta():
            # not INTERVAL '…': that has no sign, wraps around at 292 years, and cannot be added to a duration
            return f"CAST({_integer(_fitting(value // timedelta(microseconds=1), 64, value))} AS INTERVAL)"
        case list() | tuple():
            if not value:
                raise SqlError("an empty list cannot stand in SQL", "pass at least one value")
            return ", ".join(literal(v) for v in value)
        case _:
            raise SqlError(f"a {type(value).__name__} cannot be a SQL parameter")


def _fitting(number: int, bits: int, value: object) -> int:
    if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        return number
    raise SqlError(f"{value} is too large for SQL", f"it must fit {bits} bits")


def _integer(value: int) -> str:
    number = int(value)  # of a bool or an enumeration too
    if 0 <= number < 2**63:
        return str(number)
    if -(2**63) < number < 0:
        return f"({number})"
    kind = "BIGINT" if number == -(2**63) else "HUGEINT"
    return f"CAST('{_fitting(number, 128, number)}' AS {kind})"


def _decimal(value: Decimal) -> str:
    text = f"{value:f}"
    if not value.is_finite() or sum(c.isdigit() for c in text) > 38:
        raise SqlError(f"the decimal {value} is not one that SQL knows", "it must be a number of at most 38 digits")
    return f"({text})" if "." in text else f"({text}.)"  # without a point it would be an integer


def _timestamp(value: datetime) -> str:
    if value.tzinfo is None:
        return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
    try:
        return f"TIMESTAMPTZ '{value.astimezone(UTC).isoformat(sep=' ')}'"
    except OverflowError as error:
        raise SqlError(f"{value} is out of range in UTC", "it must be in the years 1 to 9999") from error


def _prepared(sql: str, params: Mapping[str, object]) -> list[_Token]:
    """Tokens without comments, with parameters as literals; refuses clocks and readers."""
    # a comment parts words, as a space does
    found = [_Token("space", " ") if t.kind == "comment" else t for t in _tokens(sql)]
    following: str | None = None
    out: list[_Token] = []
    for token in reversed(found):
        called = following == "("
        if token.kind != "space":
            following = token.text
        if token.kind == "param":
            name = token.text[1:]
            if name not in params:
                raise SqlError(f"unknown parameter :{name}", nearest(name, params, "parameters"))
            # spaces, so that it does not grow together with its neighbours: x:p, :p:q
            out += [_Token("space", " "), _Token("literal", literal(params[name])), _Token("space", " ")]
            continue
        if token.kind in ("word", "quoted"):
            _refuse(token, called=called)
        out.append(token)
    prepared = out[::-1]
    for index in [n for n, t in enumerate(prepared) if t.text.lower() == "log"] if "log" in sql.lower() else ():
        if prepared[index].kind == "word" and len((_call(prepared, index) or [()])[0]) == 2:
            raise SqlError(
                "databases differ on which argument of log() is the base", "write ln(x) / ln(base), log2(x) or log10(x)"
            )
    return prepared


def _understood(text: str) -> str:
    """Write text without parameters so that Polars takes it as SQL has it."""
    return dialect.understood([(t.kind, t.text) for t in _tokens(text)])


def _refuse(token: _Token, *, called: bool) -> None:
    word = token.text.strip('"').lower()
    keyword = token.kind == "word" and word.startswith(("current_", "local"))  # a clock without brackets too
    if word in _CLOCKS and (called or keyword):
        raise SqlError(
            f"{word} would read the machine's clock",
            "write :now, the time of the run, which the caller can set",
        )
    if called and _READERS.fullmatch(word):
        raise SqlError(f"{word}() would read a file behind the plan", "declare it as a source")


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
    return _bound(_summed(_prepared(sql, params or {}), schema), schema)


def _bound(tokens: Sequence[_Token], schema: pl.Schema) -> pl.Expr:
    """Bind tokens of which sums have as many bits as they need."""
    inner: list[pl.Expr] = []
    text = _understood(_hoist(tokens, schema, inner))
    if not text.strip():
        raise SqlError("empty SQL expression", "write an expression such as a + 1")
    try:
        expr = pl.sql_expr(text)
    except (pl.exceptions.PolarsError, UnicodeError) as error:
        raise SqlError(f"bad SQL: {first_line(error)}") from error
    if expr.meta != expr.meta.undo_aliases():
        name = expr.meta.output_name()
        raise SqlError(f"{name!r} at the end would only be a name", "write an operator in front of it, or leave it out")
    for index, replacement in enumerate(inner):
        expr = _substitute(expr, _placeholder(index), replacement)
    for name in expr.meta.root_names():
        if name not in schema and name != "*":
            # of what a query in brackets gives there is no column, and no hint
            made = name.startswith("_POLARS_TMP_SQL")
            raise SqlError(f"unknown column {name!r}", None if made else nearest(name, schema, "columns"))
    return expr


def tried(sql: str, schema: pl.Schema, params: Mapping[str, object]) -> pl.Expr:
    """Return what ``bind`` does, after it was tried out: schemas alone do not show that text was compared with a number.

    It is run over no rows, and over a made-up one, for Polars refuses casts between types only where there is a value.

    The same text over the same columns is tried once: a pipeline is lowered many times while it is compiled.

    Examples
    --------
    >>> print(tried("n > 1", pl.Schema({"n": pl.Int64}), {}))
    [(col("n")) > (dyn int: 1)]
    """
    text = _joined(sql, params) if ":" in sql else _without_params(sql)
    return _tried(text, tuple(schema.items()))


def _joined(sql: str, params: Mapping[str, object]) -> str:
    return "".join(t.text for t in _prepared(sql, params))


@lru_cache(maxsize=1_024)
def _without_params(sql: str) -> str:
    return _joined(sql, {})


@lru_cache(maxsize=1_024)
def _tried(sql: str, columns: tuple[tuple[str, pl.DataType], ...]) -> pl.Expr:
    schema = pl.Schema(columns)
    expr = bind(sql, schema)
    empty(schema).lazy().select(expr).collect()
    if not _may_cast(sql, expr, schema):
        return expr
    try:
        _one_row(columns).lazy().select(expr).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        # whatever else is wrong is so of the made-up values
        if _NEVER.match(first_line(error)):
            raise
    return expr


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


def _placeholder(index: int) -> str:
    return f"__lazypipe_bound_{index}"


def _hoist(tokens: Sequence[_Token], schema: pl.Schema, inner: list[pl.Expr]) -> str:
    """Replace each ``date_trunc(unit, x)`` by a placeholder column and bind ``x`` by its type."""
    out: list[str] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        call = _call(tokens, index) if token.text.lower() == "date_trunc" else None
        if call is None or token.kind != "word":
            out.append(token.text)
            index += 1
            continue
        arguments, index = call
        inner.append(_date_trunc(arguments, schema))
        out.append(_placeholder(len(inner) - 1))
    return "".join(out)


NARROW = (pl.Int32(), pl.UInt32(), pl.Boolean())
"""Types of which Polars makes sums of 32 bits, that wrap around."""


def _summed(tokens: Sequence[_Token], schema: pl.Schema) -> list[_Token]:
    """Have sums of what has few bits, such as whole numbers that are written in the text, made of 64, as databases have it.

    A factor does it, and no cast: where a query calls something else by a name of its tables, that keeps its value.
    """
    out: list[_Token] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        call = _call(tokens, index) if (token.kind, token.text.lower()) == ("word", "sum") else None
        if call is None or len(call[0]) != 1:
            out.append(token)
            index += 1
            continue
        ((argument,), index) = call
        begin = next((n for n, t in enumerate(argument) if t.kind != "space"), 0)
        begin += bool(argument) and argument[begin].text.lower() == "distinct"
        value = _summed(argument[begin:], schema)
        out += [token, _Token("other", "("), *argument[:begin]]
        if _type_of(value, schema) in NARROW:
            value = [*_tokens(" ("), *value, *_tokens(") * CAST(1 AS BIGINT)")]
        out += [*value, _Token("other", ")")]
    return out


def _summed_within(tokens: Sequence[_Token], tables: Mapping[str, pl.LazyFrame]) -> list[_Token]:
    """Have sums of a query made of 64 bits, and those of queries in brackets in it, of which it sees the columns."""
    seen = dict(tables)
    out: list[_Token] = []
    index = 0
    while index < len(tokens):
        starts = next((t.text.lower() for t in tokens[index + 1 :] if t.kind != "space"), "") in _STARTS
        if tokens[index].text != "(" or not starts or (inner := _call(tokens, index - 1)) is None:
            out.append(tokens[index])
            index += 1
            continue
        end = inner[1] - 1
        nested = _summed_within(tokens[index + 1 : end], seen)
        name, columns = _called_by(out, tokens[end + 1 :])
        try:
            frame = _in_context(seen).execute(_understood("".join(t.text for t in nested)))
            names = frame.collect_schema().names()
            seen[name] = frame.rename(dict(zip(names, columns, strict=False)))
        except pl.exceptions.PolarsError:
            pass  # whatever is wrong with it is found with the whole
        out += [tokens[index], *nested]
        index = end
    return _summed(out, _columns(seen))


def _called_by(before: Sequence[_Token], behind: Sequence[_Token]) -> tuple[str, list[str]]:
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
    names = [_plain(t) for t in named if t.kind in ("word", "quoted")] or [""]
    return names[0], names[1:]


def _plain(token: _Token) -> str:
    return token.text[1:-1].replace('""', '"') if token.kind == "quoted" else token.text


def _in_context(tables: Mapping[str, pl.LazyFrame]) -> pl.SQLContext[pl.LazyFrame]:
    context: pl.SQLContext[pl.LazyFrame] = pl.SQLContext(eager=False)
    context.register_many(tables)
    return context


def _type_of(tokens: Sequence[_Token], schema: pl.Schema) -> pl.DataType | None:
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


def _columns(tables: Mapping[str, pl.LazyFrame]) -> pl.Schema:
    """Return the columns of all tables, of the type that has few bits where it is of several."""
    found: dict[str, pl.DataType] = {}
    for table in tables.values():
        for name, dtype in table.collect_schema().items():
            if name not in found or dtype in NARROW:
                found[name] = dtype
    return pl.Schema(found)


def _call(tokens: Sequence[_Token], start: int) -> tuple[list[list[_Token]], int] | None:
    """Return the arguments of the call whose name stands at ``start``, and where it ends."""
    index = start + 1
    while index < len(tokens) and tokens[index].kind == "space":
        index += 1
    if index == len(tokens) or tokens[index].text != "(":
        return None
    depth, arguments = 1, [list[_Token]()]
    for end in range(index + 1, len(tokens)):
        text = tokens[end].text if tokens[end].kind == "other" else ""
        depth += {"(": 1, ")": -1}.get(text, 0)
        if depth == 0:
            return arguments, end + 1
        if text == "," and depth == 1:
            arguments.append([])
        else:
            arguments[-1].append(tokens[end])
    raise SqlError(f"bad SQL: unclosed ( after {tokens[start].text}", "close the bracket")


def _date_trunc(arguments: Sequence[Sequence[_Token]], schema: pl.Schema) -> pl.Expr:
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
            f"cast it first: date_trunc('{unit}', {text}::timestamp)",
        )
    return operand.dt.truncate(every)


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


def dtype_of(expr: pl.Expr, schema: pl.Schema) -> pl.DataType:
    """Return the type that ``expr`` has over ``schema``; raises SqlError where it has none."""
    try:
        dtypes = empty(schema).lazy().select(expr.alias("x")).collect_schema().dtypes()
    except pl.exceptions.PolarsError as error:
        raise SqlError(first_line(error)) from error
    if len(dtypes) != 1:
        raise SqlError("the expression selects no column", "write an expression that gives one column")
    return dtypes[0]


def _substitute(expr: pl.Expr, column: str, replacement: pl.Expr) -> pl.Expr:
    """Replace a column by an expression; through Polars' JSON form, which lives only here."""
    tree = json.loads(expr.meta.serialize(format="json"))
    new = json.loads(replacement.meta.serialize(format="json"))

    def walk(node: Any) -> Any:
        if node == {"Column": column}:
            return new
        if isinstance(node, dict):
            return {k: walk(v) for k, v in node.items()}
        if isinstance(node, list):
            return [walk(v) for v in node]
        return node

    return pl.Expr.deserialize(io.StringIO(json.dumps(walk(tree))), format="json")


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
    tokens = _prepared(sql, params or {})
    first = next((t.text.lower() for t in tokens if t.kind == "word"), "")
    if first not in _STARTS:
        raise SqlError("a sql operation must be one SELECT statement", "start it with SELECT or WITH")
    if (kind := dialect.outer_using([(t.kind, t.text) for t in tokens])) is not None:
        what = f"the key of a {kind} join by USING would be null in rows that only the right side has"
        raise SqlError(what, "write ON t.key = u.key, and coalesce(t.key, u.key) for the key")
    try:
        if any(t.text.lower() == "sum" for t in tokens):  # so that others need not ask for all columns
            tokens = _summed_within(tokens, tables)
        result = _in_context(tables).execute(_understood("".join(t.text for t in tokens)))
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
        raise SqlError(f"bad SQL: {message}") from error
    return result
