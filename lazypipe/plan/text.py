"""Expressions as text that looks like SQL: stable, and the same for equal expressions.

Columns are written as what they were made of, so a text reads in terms of what a plan reads; where that would grow long,
by their names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lazypipe.plan.idioms import idiom
from lazypipe.plan.nodes import PlanExpr
from lazypipe.sql.text import quoted

__all__ = ["LONGEST", "Text", "identifier", "listed", "render", "shortened"]

LONGEST = 240
"""A definition longer than this is not written in place of a column's name."""

_OPERATORS = {
    "Plus": "+", "Minus": "-", "Multiply": "*", "Divide": "/", "TrueDivide": "/", "FloorDivide": "//", "TruncDivide": "//",
    "Modulus": "%", "Eq": "=", "NotEq": "<>", "EqValidity": "IS NOT DISTINCT FROM", "NotEqValidity": "IS DISTINCT FROM",
    "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">=", "And": "AND", "LogicalAnd": "AND", "Or": "OR", "LogicalOr": "OR",
    "Xor": "XOR",
}  # fmt: skip
_AGGREGATES = {"mean": "AVG", "count": "COUNT", "std": "STDDEV", "var": "VARIANCE", "implode": "ARRAY_AGG"}
_FUNCTIONS = {
    "str.uppercase": "UPPER", "str.lowercase": "LOWER", "str.len_chars": "LENGTH", "str.starts_with": "STARTS_WITH",
    "str.ends_with": "ENDS_WITH", "dt.truncate": "DATE_TRUNC", "fill_null": "COALESCE", "coalesce": "COALESCE", "abs": "ABS",
    "round": "ROUND", "as_struct": "STRUCT", "dt.date": "DATE", "dt.year": "YEAR", "dt.month": "MONTH",
}  # fmt: skip
_NOTHING = re.compile(r"(CAST\()?CAST\(.* IS NULL AS Int(8|64)\) \* 0( AS \w+\))?", re.DOTALL)
"""What is added to a number so that Polars divides by it as by a column (``dialect.py``); users did not write it."""
_AFTER = {"is_null": "IS NULL", "is_not_null": "IS NOT NULL", "is_nan": "IS NAN", "is_not_nan": "IS NOT NAN"}


@dataclass(frozen=True, slots=True)
class Text:
    """A text, and whether it needs parentheses inside another.

    Examples
    --------
    >>> Text("a + b", compound=True).inner
    '(a + b)'
    """

    text: str
    compound: bool = False

    @property
    def inner(self) -> str:
        """The text as part of another."""
        return f"({self.text})" if self.compound else self.text


@lru_cache(maxsize=4096)
def identifier(name: str, of: str = "") -> Text:
    """Return a column's name, quoted where SQL would ask for it.

    Examples
    --------
    >>> identifier("a").text, identifier("a b", "t").text
    ('a', 't."a b"')
    """
    return Text(".".join(_name(n) for n in (of, name) if n))


def _name(name: str) -> str:
    return name if re.fullmatch(r"[^\W\d]\w*", name) else quoted(name)


def shortened(text: Text, name: str) -> Text:
    """Return a column's definition, or its name where that is long; names that lazypipe gives say nothing to anybody.

    Examples
    --------
    >>> shortened(Text("x" * 1000), "a").text, shortened(Text("x > 1"), "a").text
    ('a', 'x > 1')
    >>> len(shortened(Text("x" * 800), "__lazypipe_violates_0").text)
    800
    """
    plain = name.removeprefix("__lazypipe_")
    # the bounds of windows are given the names that they have afterwards
    if len(text.text) <= LONGEST or (plain != name and not plain.startswith("window")):
        return text
    return identifier(plain)


def listed(texts: Sequence[Text]) -> str:
    """Return texts one after the other, cut where it is more than anybody reads.

    Examples
    --------
    >>> listed([Text("a"), Text("b")])
    'a, b'
    """
    text = ", ".join(t.text for t in texts)
    return text if len(text) <= 4 * LONGEST else f"{text[: 4 * LONGEST]}…"


def render(expr: PlanExpr, args: Sequence[Text], by: Sequence[Text]) -> Text:
    """Return the text of an expression that is no column, over the texts of its parts.

    Examples
    --------
    >>> render(PlanExpr("operator", "Plus"), [Text("a"), Text("b * 2", compound=True)], []).text
    'a + (b * 2)'
    """
    known = idiom(expr, [a.text for a in args], [b.text for b in by])
    made = _render(expr, args, by) if known is None else Text(known, compound=known[-1] != ")")
    return made if len(made.text) <= 4 * LONGEST else Text(f"{made.text[: 4 * LONGEST]}…", made.compound)


def _render(expr: PlanExpr, args: Sequence[Text], by: Sequence[Text]) -> Text:
    match expr.kind:
        case "literal":
            return Text(expr.name)
        case "len":
            return Text("COUNT(*)")
        case "cast":
            return Text(f"CAST({args[0].text} AS {expr.name})")
        case "operator" if expr.name == "Plus" and _NOTHING.fullmatch(args[1].text):
            return args[0]
        case "operator":
            sign = _OPERATORS.get(expr.name, expr.name)
            return Text(f"{args[0].inner} {sign} {args[1].inner}", compound=True)
        case "agg":
            if expr.name == "n_unique":
                return Text(f"COUNT(DISTINCT {args[0].text})")
            shown = [a.text for a in args]
            return Text(f"{_AGGREGATES.get(expr.name, expr.name.upper())}({', '.join(shown)})")
        case "ternary":
            return Text(f"CASE WHEN {by[0].text} THEN {args[0].text} ELSE {args[1].text} END")
        case "window":
            parts, order = by[: expr.options[0]], by[expr.options[0] :]
            over = [f"PARTITION BY {listed(parts)}"] * bool(parts) + [f"ORDER BY {listed(order)}"] * bool(order)
            return Text(f"{args[0].inner} OVER ({' '.join(over)})")
        case "rolling":
            return Text(f"{args[0].inner} OVER (ORDER BY {by[0].text} RANGE {expr.options[0]})")
        case "filter":
            return Text(f"{args[0].inner} FILTER (WHERE {listed(by)})", compound=True)
        case "sort_by":
            return Text(f"SORT({args[0].text} ORDER BY {listed(by)})")
        case "gather":
            return Text(f"{args[0].inner}[{args[1].text}]")
        case "function":
            return _function(expr, args)
        case _:
            return Text(f"{expr.kind.upper()}({', '.join(a.text for a in args)})")


def _function(expr: PlanExpr, args: Sequence[Text]) -> Text:
    name = expr.name
    if name in _AFTER:
        return Text(f"{args[0].inner} {_AFTER[name]}", compound=True)
    if name == "not":
        return Text(f"NOT {args[0].inner}", compound=True)
    if name == "negate":
        return Text(f"-{args[0].inner}", compound=True)
    if name == "is_in":
        return Text(f"{args[0].inner} IN {args[1].text}", compound=True)
    if name == "is_between":
        return Text(f"{args[0].inner} BETWEEN {args[1].inner} AND {args[2].inner}", compound=True)
    if name in ("any_horizontal", "all_horizontal"):
        sign = " OR " if name == "any_horizontal" else " AND "
        return Text(sign.join(a.inner for a in args), compound=len(args) > 1)
    if name == "dt.convert_time_zone":
        return Text(f"{args[0].inner} AT TIME ZONE '{expr.options[0]}'", compound=True)
    if name == "struct.field_by_name":
        return Text(f"{args[0].inner}.{_name(expr.options[0])}")
    known = _FUNCTIONS.get(name)
    shown = [a.text for a in args] + ([] if known else [str(o) for o in expr.options if not isinstance(o, bool | None)])
    return Text(f"{known or name}({', '.join(shown)})")
