"""Polars' error messages in terms of the definition: what is wrong, what to write instead, and which argument is at fault."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

from lazypipe.errors import nearest

__all__ = ["Said", "plain", "plain_types", "type_name"]


@dataclass(frozen=True)
class Said:
    """A message: what is wrong, what to write, and the arguments that it may be about, the likeliest first."""

    what: str
    fix: str | None = None
    arguments: tuple[str, ...] = ()


_CAST = "cast one of them, as in x::double or x::text"
_SHORT = {
    "str": "String",
    "string": "String",
    "datetime": "Datetime",
    "BinaryView": "Binary",
    "bool": "Boolean",
    "date": "Date",
    "time": "Time",
    "cat": "Categorical",
    "binary": "Binary",
    "null": "Null",
    "dyn int": "a whole number",
    "dyn float": "a decimal number",
}


def type_name(text: str) -> str:
    """Return the name of a type that Polars wrote in short.

    Examples
    --------
    >>> type_name("datetime[μs, UTC]"), type_name("i64")
    ('Datetime(us, UTC)', 'Int64')
    """
    if match := re.fullmatch(r"([iuf])(\d+)", text):
        return {"i": "Int", "u": "UInt", "f": "Float"}[match[1]] + match[2]
    if match := re.fullmatch(r"(datetime|duration|list|decimal|struct|array|enum)\[(.*)\]", text):
        inner = (
            type_name(match[2])
            if match[1] == "list"
            else match[2].replace("μs", "us").replace(",", ", ").replace("  ", " ")
        )
        return f"{match[1].capitalize()}({inner})"
    return _SHORT.get(text, plain_types(text))


def plain_types(text: str) -> str:
    """Return ``text`` with the types that Polars wrote at length as a definition writes them.

    Examples
    --------
    >>> plain_types("column 'ts' is Datetime(time_unit='us', time_zone='UTC')")
    "column 'ts' is Datetime(us, UTC)"
    """
    text = text.replace("μs", "us")
    text = re.sub(r"Datetime\((?:time_unit=)?'(\w+)'(?:, time_zone=None)?\)", r"Datetime(\1)", text)
    text = re.sub(r"Datetime\((?:time_unit=)?'(\w+)', (?:time_zone=)?'([^']+)'\)", r"Datetime(\1, \2)", text)
    text = re.sub(r"Duration\((?:time_unit=)?'(\w+)'\)", r"Duration(\1)", text)
    text = re.sub(r"Decimal\(precision=(\d+), scale=(\d+)\)", r"Decimal(\1, \2)", text)
    while (simpler := re.sub(r"Struct\(\{([^{}]*)\}\)", _struct, text)) != text:
        text = simpler
    return text


def _struct(m: re.Match[str]) -> str:
    return "Struct(" + re.sub(r"'(\w+)': ", r"\1: ", m[1]) + ")"


_OF_TIME = frozenset(
    {
        "century",
        "day",
        "decade",
        "hour",
        "isoyear",
        "microsecond",
        "millennium",
        "millisecond",
        "minute",
        "month",
        "nanosecond",
    }
    | {"ordinal_day", "quarter", "second", "timestamp", "truncate", "week", "weekday", "year"}
)
"""What Polars calls the parts of moments."""


def _not_possible(m: re.Match[str]) -> Said:
    call, types = m[1].split(" (")[0], [*map(type_name, m[2].split(" != "))]
    what = f"{call} is not possible for {' and '.join(types)}"
    if call in _OF_TIME and types == ["String"]:
        return Said(what, "read the text first, as in date(x) or timestamp(x)")
    if call in _OF_TIME and types == ["Date"]:
        return Said(what, "cast it first, as in x::timestamp")
    if types[0].startswith("Duration"):
        return Said(what, "divide it by one of its length, as in x / INTERVAL '1 hour'")
    return Said(what, "cast it first, as in x::double")


def _compared(m: re.Match[str]) -> Said:
    left, right = type_name(m[2]), type_name(m[3])
    zones = left.startswith("Datetime") and right.startswith("Datetime")
    fix = "both need a time zone, or neither" if zones else _CAST
    return Said(f"{left} cannot be compared with {right} ({m[1]})", fix)


def _cannot_cast(source: str, target: str) -> Said:
    what = f"{source} cannot be cast to {target}"
    call = {"Date": "date", "Datetime": "timestamp", "Time": "time"}.get(target.partition("(")[0])
    if source == "String" and call is not None:
        return Said(what, f"write {call}(x), or put the operation cast before it")
    return Said(what, "cast it to a type in between, such as text or bigint")


def _stands(found: str, needed: str, column: str | None = None) -> Said:
    fix = f"cast it, as in {column or 'x'}::{_sql(needed)}"
    if needed == "String" and found.startswith(("Date", "Time")):
        fix += "; or write x::date, x::timestamp or x::time for date(x), timestamp(x) or time(x), which read text"
    if column is not None:
        return Said(f"{column!r} is {found}, and {needed} is needed", fix)
    return Said(f"{found} stands where {needed} is needed", fix)


def _missing(m: re.Match[str]) -> Said:
    return Said(f"unknown column {m[1]!r}", nearest(m[1], re.findall(r'"(.*?)"', m[2]), "columns"))


_INSTEAD = {
    "any_value": "min(x)",
    "bool_and": "min(x)",
    "bool_or": "max(x)",
    "approx_count_distinct": "count(DISTINCT x)",
    "charindex": "strpos(x, 'y')",
    "contains": "strpos(x, 'y') > 0",
    "count_distinct": "count(DISTINCT x)",
    "countif": "sum(CASE WHEN a THEN 1 ELSE 0 END)",
    "cum_sum": "sum(x) OVER (ORDER BY t)",
    "cumsum": "sum(x) OVER (ORDER BY t)",
    "date_add": "x + INTERVAL '1 day'",
    "date_diff": "b - a",
    "date_format": "strftime(x, '%Y-%m')",
    "date_sub": "x - INTERVAL '1 day'",
    "dateadd": "x + INTERVAL '1 day'",
    "datediff": "b - a",
    "dayname": "strftime(x, '%A')",
    "decode": "CASE x WHEN a THEN b ELSE c END",
    "div0": "a / nullif(b, 0)",
    "epoch": "extract(epoch FROM x)",
    "iff": "CASE WHEN a THEN b ELSE c END",
    "iif": "CASE WHEN a THEN b ELSE c END",
    "instr": "strpos(x, 'y')",
    "is_null": "x IS NULL",
    "isnan": "x = 'nan'::double",
    "isnull": "x IS NULL, or coalesce(x, y)",
    "last_day": "(date_trunc('month', x) + INTERVAL '1 month' - INTERVAL '1 day')::date",
    "lcase": "lower(x)",
    "len": "length(x)",
    "mean": "avg(x)",
    "monthname": "strftime(x, '%B')",
    "n_unique": "count(DISTINCT x)",
    "nunique": "count(DISTINCT x)",
    "nvl": "coalesce(x, y)",
    "percentile_cont": "quantile_cont(x, 0.5)",
    "regexp_matches": "regexp_like(x, 'y')",
    "safe_divide": "a / nullif(b, 0)",
    "shift": "lag(x) OVER (ORDER BY t)",
    "split": "string_to_array(x, ',')",
    "std": "stddev(x)",
    "str_split": "string_to_array(x, ',')",
    "string_split": "string_to_array(x, ',')",
    "sumif": "sum(CASE WHEN a THEN x END)",
    "to_char": "strftime(x, '%Y-%m')",
    "to_date": "date(x)",
    "to_number": "x::double",
    "to_timestamp": "timestamp(x)",
    "ucase": "upper(x)",
    "weekday": "extract(dow FROM x)",
    "zeroifnull": "coalesce(x, 0)",
}
"""What stands here for functions of other dialects."""
_FUNCTIONS = (
    "abs", "avg", "ceil", "coalesce", "concat", "count", "date_part", "date_trunc", "ends_with", "first", "floor", "greatest", "initcap",
    "last", "least", "left", "length", "ln", "log10", "log2", "lower", "ltrim", "max", "median", "min", "nullif", "quantile_cont",
    "regexp_like", "replace", "reverse", "right", "round", "row_number", "rtrim", "sign", "sqrt", "starts_with", "stddev", "strftime",
    "strpos", "substr", "sum", "timestamp", "trim", "upper", "variance",
)  # fmt: skip
"""Functions that are often meant, for who writes one wrong."""
_OPERATORS = {"PGOverlap": ("&&", "AND"), "BitwiseXor": ("^", "pow(a, b) for powers")}
"""How what Polars calls by names of its own is written, and what to write."""
_FORMS = {"Tuple": "(a, b)", "Dictionary": "{…}", "SimilarTo": "SIMILAR TO"}
"""How what Polars calls by names of its own is written."""

_READINGS: tuple[tuple[str, Callable[[re.Match[str]], Said]], ...] = (
    (r'unable to find column "(.*?)"; valid columns: \[(.*)\]', _missing),
    (
        r"arithmetic on dtypes (.*?) and (.*?) is not allowed .*",
        lambda m: Said(f"cannot calculate with {type_name(m[1])} and {type_name(m[2])}", _CAST),
    ),
    (
        r"cannot compare string with numeric type \((.*)\)",
        lambda m: Said(f"String cannot be compared with {type_name(m[1])}", _CAST),
    ),
    (
        r"cannot compare 'date/datetime/time' to a string value .*",
        lambda _: Said(
            "a date or time cannot be compared with text", "write DATE '2013-01-31' or TIMESTAMP '2013-01-31 12:00:00'"
        ),
    ),
    (
        r"could not evaluate '(.*)' comparison between .*? of dtype: (.*) and series .*? of dtype: (.*)",
        _compared,
    ),
    (
        r"invalid series dtype: expected `(.*)`, got `(.*)` for series with name `_POLARS_TMP_.*`",
        lambda m: _stands(type_name(m[2]), type_name(m[1])),
    ),
    (
        r"invalid series dtype: expected `(.*)`, got `(.*)` for series with name `(.*)`",
        lambda m: _stands(type_name(m[2]), type_name(m[1]), m[3]),
    ),
    (
        r"expected (\w+) type, got: (.*)",
        lambda m: _stands(type_name(m[2]), type_name(m[1])),
    ),
    (
        r"`?(.*?)`? operation not supported for dtypes?:? `?(.*?)`?(?: \(.*\))?",
        _not_possible,
    ),
    (
        r"'is_in' cannot check for (.*) values in List\((.*)\) data",
        lambda m: Said(
            f"{plain_types(m[1])} cannot be looked for among {plain_types(m[2])}",
            "write values of the same type" + (", such as DATE '2013-01-31'" if m[1].startswith("Date") else ""),
        ),
    ),
    (
        r"(&|\||\^) on (.*) and (.*) is not supported",
        lambda m: Said(
            f"{ {'&': 'AND', '|': 'OR'}.get(m[1], 'XOR') } takes conditions, and these are {type_name(m[2])} and {type_name(m[3])}",
            "compare each side with something",
        ),
    ),
    (
        r"conversion from `(.*?)` to `(.*?)` failed in column .*?: \[(.*)\]",
        lambda m: Said(f"{m[3]} cannot become {type_name(m[2])}", "write a value of that type"),
    ),
    (
        r"casting from (.*?) to (.*?) (?:is )?not supported\.?",
        lambda m: _cannot_cast(type_name(m[1]), type_name(m[2])),
    ),
    (
        r"cannot cast (?:List|Array) type \(inner: '.*', to: '(.*)'\)",
        lambda m: _cannot_cast("a list", type_name(m[1])),
    ),
    (
        r"cannot cast categorical types to (.*)",
        lambda m: _cannot_cast("a category", type_name(m[1])),
    ),
    (
        r"could not evaluate comparison between series .*? of dtype: (.*) and series .*? of dtype: (.*)",
        lambda m: Said(f"{type_name(m[1])} cannot be compared with {type_name(m[2])}", _CAST),
    ),
    (
        r"failed to determine supertype of (.*) and (.*)",
        lambda m: Said(f"no type holds both {type_name(m[1])} and {type_name(m[2])}", _CAST),
    ),
    (
        r"got invalid or ambiguous dtypes: '\[(.*), ([\w ]+(?:\[.*\])?)\]' in expression '(.*)'",
        lambda m: Said(f"{m[3]} takes values of one type, not {type_name(m[1])} and {type_name(m[2])}", _CAST),
    ),
    (
        r"could not find an appropriate format to parse dates.*",
        lambda _: Said("the text cannot be read as a date", "write one such as '2013-01-31'"),
    ),
    (
        r"(bad SQL: )unable to parse '(.*)' as Expr",
        lambda m: Said(f"{m[1]}{m[2]!r} is not a whole expression", "check its operators, brackets and commas"),
    ),
    (
        r"(bad SQL: )unsupported function '((?:current_|session_)?user)'",
        lambda m: Said(f"{m[2]} is a word of SQL", f'write "{m[2]}" in double quotes, if a column is meant'),
    ),
    (
        r"(bad SQL: )unsupported function '(.*)'",
        lambda m: Said(
            f"unknown function {m[2]!r}",
            f"write {_INSTEAD[m[2].lower()]}" if m[2].lower() in _INSTEAD else _function(m[2].lower()),
        ),
    ),
    (
        r"(bad SQL: )operator (PGOverlap|BitwiseXor) is not currently supported",
        lambda m: Said(f"{m[1]}{_OPERATORS[m[2]][0]} is not an operator here", f"write {_OPERATORS[m[2]][1]}"),
    ),
    (
        r"([+*-]) not allowed on (.*) and (.*)",
        lambda m: Said(
            f"cannot calculate with {type_name(m[2])} and {type_name(m[3])} ({m[1]})",
            _CAST if m[1] == "*" else "write a length of time as one, as in x + INTERVAL '1 day'",
        ),
    ),
    (
        r"(bad SQL: )(\w+) requires an (OVER clause|ORDER BY in the OVER clause)",
        lambda m: Said(
            f"{m[2].lower()} needs {'a window' if m[3] == 'OVER clause' else 'an order in its window'}",
            f"write {m[2].lower()}(…) OVER (ORDER BY t), perhaps with PARTITION BY",
        ),
    ),
    (
        r"called `Option::unwrap\(\)` on a `None` value",
        lambda _: Said(
            "Polars fails at this, for the types that it has here", "cast what it reads, as in x::timestamp"
        ),
    ),
    (
        r"division with '(.*)' datatypes is not allowed",
        lambda m: Said(f"cannot divide with {type_name(m[1])}", _CAST),
    ),
    (
        r"(bad SQL: )expression (\w+).* is not currently supported",
        lambda m: Said(
            f"{_FORMS.get(m[2], m[2])} is not an expression of Polars' SQL",
            "write it by comparisons, CASE and functions, or as a join or a python step",
        ),
    ),
    (
        r"(bad SQL: )relation '(.*)' was not found",
        lambda m: Said(f"{m[2]!r} cannot be read inside an expression", "join it first, or write a sql operation"),
    ),
    (
        r"'Expr: .*\.subplan\(.*' not allowed in this .*|unknown column '_POLARS_TMP_SQL_.*",
        lambda _: Said("a query cannot be used inside an expression", "join what it reads, or write a sql operation"),
    ),
    (
        r"AT TIME ZONE could not resolve the type of (.*)",
        lambda m: Said(
            f"AT TIME ZONE has to be told whether {m[1]} has a zone",
            f"write CAST({m[1]} AS TIMESTAMP), or CAST({m[1]} AS TIMESTAMPTZ) if it has one",
        ),
    ),
    (
        r"(bad SQL: )expected an expression \(found '(?!(?i:select|with)\b)(.*)' clause\)",
        lambda m: Said(
            f"{m[1]}{m[2]} starts a clause of a query, not an expression",
            f'write "{m[2]}" in double quotes, if a column is meant',
        ),
    ),
    (
        r"(bad SQL: )expected an expression \(found '(.*)' clause\)",
        lambda m: Said(f"{m[1]}{m[2]} starts a query, not an expression", "write an expression, or a sql operation"),
    ),
    (
        r"(bad SQL: )invalid expression \(found unexpected token '(.*)'\)",
        lambda m: Said(f"{m[1]}{m[2]!r} is not expected here", "write one expression"),
    ),
    (
        r"(bad SQL: )datatype \"(.*)\" is not currently supported",
        lambda m: Said(f"unknown SQL type {m[2]!r}", "write one such as bigint, double, text, date or timestamp"),
    ),
    (
        r"(bad SQL: )sql parser error: .*found: \{.*",
        lambda m: Said(
            f"{m[1]}it contains {{, and templates are not rendered here",
            "for {{ ref('x') }} write x, and list it in from",
        ),
    ),
    (
        r"(bad SQL: )sql parser error: Expected: (.*?), found: (.*?)(?: at Line.*)?",
        lambda m: Said(
            f"{m[1]}expected {m[2]}, found {'the end' if m[3] == 'EOF' else m[3]}", "check the words before it"
        ),
    ),
    (
        r"datatypes of join keys don't match - `(.*?)`: (.*?) on left does not match `(.*?)`: (.*?) on right.*",
        lambda m: Said(
            f"key {m[1]!r} is {type_name(m[2])} and key {m[3]!r} is {type_name(m[4])}",
            "cast one of them first",
            ("on", "left_on"),
        ),
    ),
    (
        r"(?:column|.*duplicate output name) '(.*?)'(?: is duplicate|\. It's possible).*",
        lambda m: Said(
            f"two columns would be called {m[1]!r}",
            "rename one of them, or choose a suffix",
            ("columns", "suffix", "with"),
        ),
    ),
    (
        r"can only use timedelta string language with .*",
        lambda _: Said("a duration needs keys that are dates or datetimes", "write a number", ("tolerance",)),
    ),
)


def _function(name: str) -> str:
    close = difflib.get_close_matches(name, _FUNCTIONS, n=1, cutoff=0.75)
    return (
        f"did you mean {close[0]!r}?" if close else "use one of Polars SQL, such as coalesce, round, upper or date_part"
    )


def _sql(name: str) -> str:
    return {"String": "text", "Boolean": "boolean"}.get(name, "double")


def plain(message: str) -> Said:
    """Return an engine's message in plain words; one that is not known stays as it is.

    Examples
    --------
    >>> plain("cannot compare string with numeric type (i64)")
    Said(what='String cannot be compared with Int64', fix='cast one of them, as in x::double or x::text', arguments=())
    >>> plain("`sum` operation not supported for dtype `str`").what
    'sum is not possible for String'
    """
    for prefix in ("bad SQL: ", ""):
        rest = message.removeprefix(prefix)
        for pattern, read in _READINGS:
            if match := re.fullmatch(pattern, rest, re.DOTALL):
                return read(match)
    return Said(plain_types(message))
