"""The row conditions of Great Expectations, in each of their languages, as SQL.

A row counts where its condition is true. In pandas a comparison with a missing value is false (and ``!=`` and ``not in``
are true), so that ``not`` turns it around; in SQL it is null. The SQL given here says the same as what was written.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from lazypipe.contracts import sqltext
from lazypipe.contracts.contract import joined
from lazypipe.sql.literal import literal
from lazypipe.sql.text import SqlError, quoted

__all__ = ["Untranslatable", "where"]


class Untranslatable(Exception):
    """A condition that has no SQL; the message says why."""


def where(written: Any, parser: str | None) -> str:
    r"""Return a row condition as SQL.

    Raises
    ------
    Untranslatable
        If it says more than SQL over one row can.

    Examples
    --------
    >>> where('col("x") > 5', "great_expectations"), where("a == 1 and b != 2", "pandas")
    ('"x" > 5', '("a" = 1) AND ("b" IS DISTINCT FROM 2)')
    >>> where({"type": "nullity", "column": {"name": "x"}, "is_null": False}, None)
    '"x" IS NOT NULL'
    """
    try:
        if isinstance(written, Mapping):
            return _structured(written, parser)
        if not isinstance(written, str) or not written.strip():
            raise Untranslatable(f"{written!r} is no condition")
        if parser in ("spark", "spark_sql", "sql"):
            return _foreign_sql(written)
        if parser != "pandas" and (match := _GX.fullmatch(written.strip())):
            return _simple(match)
        if parser not in ("pandas", "python", None):
            raise Untranslatable(f"it is not of the form that {parser!r} reads")
        return _pandas(written)
    except SqlError as error:
        raise Untranslatable(str(error)) from None


def _foreign_sql(text: str) -> str:
    ours = re.sub(r"`((?:[^`]|``)*)`", lambda m: quoted(m[1].replace("``", "`")), text)
    if why := sqltext.problem(ours):
        raise Untranslatable(why)
    return ours


# GX's own language: one comparison

_GX = re.compile(
    r"""col\((?P<quote>["'])(?P<column>.+?)(?P=quote)\)\s*
    (?: (?P<null>\.(?:is)?null\(\)) | (?P<notnull>\.(?:is)?notnull\(\))
      | (?P<op>==|!=|>=|<=|>|<)\s*
        (?: (?P<number>[+-]?\d+(?:\.\d*)?(?:e[+-]?\d+)?)
          | (?P<date>date\()?(?P<q>["'])(?P<text>.*?)(?P=q)(?(date)\)) ) )""",
    re.VERBOSE | re.IGNORECASE,
)
_OPERATORS = {"==": "=", "!=": "<>", "IN": "IN", "NOT_IN": "NOT IN"} | {op: op for op in ("<", "<=", ">", ">=")}


def _simple(match: re.Match[str]) -> str:
    column = quoted(match["column"])
    if match["null"] or match["notnull"]:
        return f"{column} IS {'NOT ' if match['notnull'] else ''}NULL"
    if match["number"]:
        value = literal(ast.literal_eval(match["number"]))
    else:
        value = f"{'DATE ' if match['date'] else ''}{literal(match['text'])}"
    return f"{column} {_OPERATORS[match['op']]} {value}"


# conditions as data, of GX 1.x


def _structured(written: Mapping[str, Any], parser: str | None) -> str:
    match written:
        case {"type": "and" | "or" as word, "conditions": [*parts]} if parts:
            return str(joined([_structured(p, parser) for p in parts], word.upper()))
        case {"type": "nullity", "column": {"name": str(column)}, "is_null": bool(is_null)}:
            return f"{quoted(column)} IS {'' if is_null else 'NOT '}NULL"
        case {"type": "comparison", "column": {"name": str(column)}, "operator": str(op), "parameter": value}:
            if op not in _OPERATORS:
                raise Untranslatable(f"unknown operator {op!r}")
            if op in ("IN", "NOT_IN") and isinstance(value, list):
                return f"{quoted(column)} {_OPERATORS[op]} ({literal(value)})"
            return f"{quoted(column)} {_OPERATORS[op]} {literal(value)}"
        case {"type": "pass_through", "pass_through_filter": str(text)}:
            return where(text, parser)
    raise Untranslatable("its structure is not known")


# the language of pandas.DataFrame.query

_BACKTICKS = re.compile(r"`([^`]*)`")
_STRINGS = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_COMPARE: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "=",
    ast.NotEq: "IS DISTINCT FROM",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_ARITHMETIC: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_NULLITY = {"isnull": "IS NULL", "isna": "IS NULL", "notnull": "IS NOT NULL", "notna": "IS NOT NULL"}


def _pandas(text: str) -> str:
    names: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        names.append(match[1])
        return f"__backticked_{len(names) - 1}"

    parts = _STRINGS.split(text)
    if any("@" in part for part in parts[::2]):
        raise Untranslatable("@ names a Python variable, which only its program knows")
    # & and | bind as and and or do in a query
    parts[::2] = [
        _BACKTICKS.sub(placeholder, p).replace("&", " and ").replace("|", " or ").replace("~", " not ")
        for p in parts[::2]
    ]
    try:
        tree = ast.parse("".join(parts).strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Untranslatable("pandas could not read it either") from None
    return _Query(names).condition(tree.body)


class _Query:
    """Writes the parts of a pandas query as SQL."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def condition(self, node: ast.expr) -> str:
        """Return SQL that is true where pandas' mask is true."""
        match node:
            case ast.BoolOp(op=op, values=values):
                return str(joined(map(self.condition, values), "AND" if isinstance(op, ast.And) else "OR"))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return f"NOT COALESCE({self.condition(operand)}, FALSE)"
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [left, *others]
                return str(joined(self._compare(a, o, b) for a, o, b in zip(sides, ops, others, strict=False)))
            case ast.Call(func=ast.Attribute(value=value, attr=method), args=[], keywords=[]) if method in _NULLITY:
                return f"{self._operand(value)} {_NULLITY[method]}"
            case ast.Call(func=ast.Attribute(value=value, attr="isin"), args=[values], keywords=[]):
                return self._member(value, values)
            case ast.Call(
                func=ast.Attribute(value=value, attr="between"), args=[ast.Constant() as low, ast.Constant() as high]
            ):
                return f"{self._operand(value)} BETWEEN {self._operand(low)} AND {self._operand(high)}"
            case ast.Name():
                return self._operand(node)
        raise Untranslatable(f"{ast.unparse(node)!r} has no SQL")

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> str:
        if isinstance(op, ast.In | ast.NotIn) or isinstance(right, ast.List | ast.Tuple):
            if not isinstance(op, ast.In | ast.NotIn | ast.Eq | ast.NotEq):
                raise Untranslatable("a list can only be compared by == and !=")
            return self._member(left, right, inside=isinstance(op, ast.In | ast.Eq))
        if type(op) not in _COMPARE:
            raise Untranslatable("it uses is, which compares Python objects")
        if isinstance(op, ast.NotEq) and not any(isinstance(side, ast.Constant) for side in (left, right)):
            # two missing values are not equal in pandas
            return f"NOT COALESCE({self._operand(left)} = {self._operand(right)}, FALSE)"
        return f"{self._operand(left)} {_COMPARE[type(op)]} {self._operand(right)}"

    def _member(self, left: ast.expr, values: ast.expr, *, inside: bool = True) -> str:
        if not isinstance(values, ast.List | ast.Tuple | ast.Set) or not values.elts:
            raise Untranslatable(f"{ast.unparse(values)!r} is not a list of values")
        column = self._operand(left)
        member = f"{column} IN ({', '.join(map(self._operand, values.elts))})"
        return member if inside else f"NOT COALESCE({member}, FALSE)"

    def _operand(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id="index"):
                raise Untranslatable("rows have no index here")
            case ast.Name(id=text):
                number = text.removeprefix("__backticked_")
                return quoted(self._names[int(number)] if number != text else text)
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return literal(value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return literal(-value)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return f"({self._operand(left)} {_ARITHMETIC[type(op)]} {self._operand(right)})"
        raise Untranslatable(f"{ast.unparse(node)!r} has no SQL")
