"""Quality checks that are SQL queries, as rules: counts and other aggregates of the table's own rows."""

from __future__ import annotations

import re
from typing import Any

from lazypipe.contracts import sqltext
from lazypipe.contracts.contract import Written, made
from lazypipe.contracts.document import Node
from lazypipe.contracts.odcs_range import Range, counted, negated
from lazypipe.sql.text import quoted

__all__ = ["query"]

_PLACEHOLDER = re.compile(r"\$?\{\s*(object|table|schema|model|property|column|field)\s*\}")
_SELECT = re.compile(
    r"""\s*SELECT\s+(?P<function>\w+)\s*\(\s*(?P<distinct>DISTINCT\s+)?(?P<argument>\*|"(?:[^"]|"")+"|\w+)\s*\)
    (?:\s+AS\s+\w+)?\s+FROM\s+(?P<table>"(?:[^"]|"")+"|[\w.]+)(?:\s+WHERE\s+(?P<where>.+?))?\s*;?\s*""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_AGGREGATES = {
    "avg": "mean",
    "mean": "mean",
    "median": "median",
    "min": "min",
    "max": "max",
    "sum": "sum",
    "stddev": "std",
    "stddev_samp": "std",
}
_NEGATED = re.compile(r"NOT \((.*)\)", re.DOTALL)


def query(check: Node, allowed: Range, common: dict[str, Any]) -> list[Written]:
    """Return the rule of a query; notes it where there is none."""
    query = check.need("query", "text")
    if query is None:
        return []
    columns, tables = ("property", "column", "field"), {"object", "table", "schema", "model"}
    if check.column is None and any(word in columns for word in _PLACEHOLDER.findall(query)):
        check.fault("the query names a property, but stands at a table", "name the column, or move it", "query")
        return []
    written = _PLACEHOLDER.sub(lambda m: quoted(str(check.table) if m[1] in tables else str(check.column)), query)
    match = _SELECT.fullmatch(written)
    if match is None or _unquoted(match["table"].rpartition(".")[2]) != check.table:
        check.unmapped("a query", "only an aggregate of the table's own rows has a rule; write a stage for it", "query")
        return []
    where = match["where"] and match["where"].strip()
    if where and (why := sqltext.problem(where)):
        check.unmapped("a query", why, "query")
        return []
    function = match["function"].lower()
    if function == "count" and not allowed.unlike:
        return _sql_count(check, match, allowed, where, common)
    if function not in _AGGREGATES or match["distinct"] or match["argument"] == "*" or allowed.unlike is not None:
        check.unmapped("a query", f"no rule is like {match['function'].upper()} with this operator", "query")
        return []
    arguments = {"column": _unquoted(match["argument"]), "min": allowed.least, "max": allowed.most}
    return [made(_AGGREGATES[function], arguments | {"closed": allowed.closed, "where": where}, common)]


def _sql_count(
    check: Node, match: re.Match[str], allowed: Range, where: str | None, common: dict[str, Any]
) -> list[Written]:
    least, most = allowed.counts()
    if least is None and (most is None or most < 0):
        check.unmapped("a query", "every count passes it, or none", "query")
        return []
    if match["distinct"]:
        arguments = {"columns": [_unquoted(match["argument"])], "min": least, "max": most, "where": where}
        return [made("distinct_count", arguments, common)]
    if match["argument"] != "*":
        where = f"({where}) AND {match['argument']} IS NOT NULL" if where else f"{match['argument']} IS NOT NULL"
    if where and least is None and match["argument"] == "*":
        inner = _NEGATED.fullmatch(where)
        condition = inner[1] if inner and not sqltext.problem(inner[1]) else negated(where)
        return [made("expression", {"condition": condition}, common | {"max_failures": most or None})]
    return [counted(where, least, most, common)]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
