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
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import polars as pl

from lazypipe import dialect
from lazypipe.errors import first_line, nearest
from lazypipe.sql_text import SqlError, Token, literal, place_of, quoted, tokenize

__all__ = [
    "NARROW",
    "SqlError",
    "bind",
    "columns_of",
    "dtype_of",
    "empty",
    "in_pairs",
    "judge",
    "query",
    "settled",
    "tried",
    "try_out",
    "value_of",
]

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


def _prepared(sql: str, params: Mapping[str, object]) -> list[Token]:
    """Tokens without comments, with parameters as literals; refuses clocks and readers."""
    # a comment parts words, as a space does
    found = [Token("space", " " + "\n" * t.text.count("\n")) if t.kind == "comment" else t for t in tokenize(sql)]
    following: str | None = None
    out: list[Token] = []
    for token in reversed(found):
        called = following == "("
        if token.kind != "space":
            following = token.text
        if token.kind == "param":
            name = token.text[1:]
            if name not in params:
                hint = nearest(name, params, "parameters")
                declare = "" if hint.startswith("did") else f"; or declare it: params: {{{name}: …}}"
                raise SqlError(f"unknown parameter :{name}", f"{hint}{declare}")
            # spaces, so that it does not grow together with its neighbours: x:p, :p:q
            out += [Token("space", " "), Token("literal", literal(params[name])), Token("space", " ")]
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


def _refuse_equal_to_null(sql: str) -> None:
    """Refuse ``x = NULL``, which no row is; a parameter may be null all the same."""
    if "null" not in sql.lower():
        return
    said = [t for t in tokenize(sql) if t.kind not in ("space", "comment")]
    for before, operator, token in zip(["", *(t.text for t in said)], said, said[1:], strict=False):
        if token.kind == "word" and token.text.lower() == "null" and operator.kind == "other":
            if operator.text == "=" and before not in ("<", ">", "!"):
                raise SqlError("nothing is = NULL, not even NULL", "write IS NULL")
            if (before, operator.text) in (("<", ">"), ("!", "=")):
                raise SqlError(f"nothing is {before}{operator.text} NULL, whatever it is", "write IS NOT NULL")


def _understood(text: str) -> str:
    """Write text without parameters so that Polars takes it as SQL has it."""
    return dialect.understood([*tokenize(text)])


def _refuse(token: Token, *, called: bool) -> None:
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


def _bound(tokens: Sequence[Token], schema: pl.Schema) -> pl.Expr:
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
            hint = None if made else nearest(name, schema, "columns")
            if hint is not None and not hint.startswith("did") and quoted(name) in text:
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
    _refuse_equal_to_null(sql)
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


def try_out(expr: pl.Expr, rows: pl.DataFrame) -> None:
    """Compute an expression over rows, for what Polars refuses only then.

    In memory, which is half the work: the streaming engine begins with threads of its own.

    Examples
    --------
    >>> try_out(pl.col("n") > 1, empty({"n": pl.Int64()}))
    """
    rows.lazy().select(expr).collect(engine="in-memory")


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


def _hoist(tokens: Sequence[Token], schema: pl.Schema, inner: list[pl.Expr]) -> str:
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


def _summed(tokens: Sequence[Token], schema: pl.Schema) -> list[Token]:
    """Have sums of what has few bits, such as whole numbers that are written in the text, made of 64, as databases have it.

    A factor does it, and no cast: where a query calls something else by a name of its tables, that keeps its value.
    """
    out: list[Token] = []
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
        out += [token, Token("other", "("), *argument[:begin]]
        if _type_of(value, schema) in NARROW:
            value = [*tokenize(" ("), *value, *tokenize(") * CAST(1 AS BIGINT)")]
        out += [*value, Token("other", ")")]
    return out


def _summed_within(tokens: Sequence[Token], tables: Mapping[str, pl.LazyFrame]) -> list[Token]:
    """Have sums of a query made of 64 bits, and those of queries in brackets in it, of which it sees the columns."""
    seen = dict(tables)
    out: list[Token] = []
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
    names = [_plain(t) for t in named if t.kind in ("word", "quoted")] or [""]
    return names[0], names[1:]


def _plain(token: Token) -> str:
    return token.text[1:-1].replace('""', '"') if token.kind == "quoted" else token.text


def _in_context(tables: Mapping[str, pl.LazyFrame]) -> pl.SQLContext[pl.LazyFrame]:
    context: pl.SQLContext[pl.LazyFrame] = pl.SQLContext(eager=False)
    context.register_many(tables)
    return context


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


def _columns(tables: Mapping[str, pl.LazyFrame]) -> pl.Schema:
    """Return the columns of all tables, of the type that has few bits where it is of several."""
    found: dict[str, pl.DataType] = {}
    for table in tables.values():
        for name, dtype in table.collect_schema().items():
            if name not in found or dtype in NARROW:
                found[name] = dtype
    return pl.Schema(found)


def _call(tokens: Sequence[Token], start: int) -> tuple[list[list[Token]], int] | None:
    """Return the arguments of the call whose name stands at ``start``, and where it ends."""
    index = start + 1
    while index < len(tokens) and tokens[index].kind == "space":
        index += 1
    if index == len(tokens) or tokens[index].text != "(":
        return None
    depth, arguments = 1, [list[Token]()]
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
    """Replace a column by an expression."""
    new = json.loads(replacement.meta.serialize(format="json"))
    return _rewritten(expr, lambda node: new if node == {"Column": column} else None)


def _rewritten(expr: pl.Expr, change: Callable[[Any], Any]) -> pl.Expr:
    """Replace the parts of which ``change`` gives something; through Polars' JSON form, which lives only here."""

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
    """Yield the innermost parts of an expression, of one that chooses columns; of another there is nothing to look at."""
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
    """Return the names that a choice of columns lists; None if it tells them by something else."""
    how = selector["Selector"]
    return how["ByName"]["names"] if isinstance(how, dict) and "ByName" in how else None


def judge(sql: str, params: Mapping[str, object], kind: str) -> None:
    """Raise SqlError for what is wrong with an ``expression`` or a ``query`` whatever its columns are, where those are not known.

    Examples
    --------
    >>> judge("a >", {}, "expression")
    Traceback (most recent call last):
    lazypipe.sql_text.SqlError: bad SQL: unable to parse 'a >' as Expr
    >>> judge("SELECT a FROM whatever", {}, "query")
    """
    text = ""
    try:
        if kind == "query":
            text = _understood("".join(t.text for t in _whole(sql, params)))
            pl.SQLContext().execute(text)
        else:
            text = _understood(_joined(sql, params))
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
    _refuse_equal_to_null(sql)
    tokens = _prepared(sql, params)
    first = next((t.text.lower() for t in tokens if t.kind == "word"), "")
    if first not in _STARTS:
        raise SqlError("a sql operation must be one SELECT statement", "start it with SELECT or WITH")
    if (kind := dialect.outer_using(tokens)) is not None:
        what = f"the key of a {kind} join by USING would be null in rows that only the right side has"
        raise SqlError(what, "write ON t.key = u.key, and coalesce(t.key, u.key) for the key")
    return tokens


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
        if any(t.text.lower() == "sum" for t in tokens):  # so that others need not ask for all columns
            tokens = _summed_within(tokens, tables)
        text = _understood("".join(t.text for t in tokens))
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
