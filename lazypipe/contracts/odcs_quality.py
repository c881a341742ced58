"""The quality checks of an ODCS contract, as rules.

A library metric counts rows: bad ones (null, missing, invalid, duplicate values) or all of them. Where bad rows have only
an upper limit, they become the rule that finds them, with ``max_failures``; otherwise a ``row_count`` (or a ``proportion``)
of the rows for which the condition holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from lazypipe.contracts import sqltext
from lazypipe.contracts.contract import Written, made
from lazypipe.contracts.document import Document, Node, read
from lazypipe.contracts.gx import expectation
from lazypipe.contracts.odcs_queries import query
from lazypipe.contracts.odcs_range import OPERATORS, Range, allowed_range, counted, negated
from lazypipe.errors import DefinitionError, nearest
from lazypipe.sql.literal import literal
from lazypipe.sql.text import SqlError, quoted

__all__ = ["quality"]

METRICS = ("nullValues", "missingValues", "invalidValues", "duplicateValues", "rowCount")
_RULES = {"duplicateCount": "duplicateValues"}
"""Metrics as v3.0 calls them, where they are called otherwise."""
_TYPES = ("library", "text", "sql", "custom")
_ACTIONS = {
    "error": None,
    "critical": None,
    "high": None,
    "warning": "warn",
    "warn": "warn",
    "info": "warn",
    "low": "warn",
}


def quality(check: Node) -> list[Written]:
    """Return the rules of one quality check; what has none is noted in its document."""
    kind = check.text("type") or "library"
    if kind not in _TYPES:
        check.unknown(f"unknown type of quality check {kind!r}", nearest(kind, _TYPES, "types"), "type")
        return []
    for key in ("schedule", "scheduler"):
        if key in check:
            check.note(f"{key} {check.value[key]!r}", "rules are checked whenever the pipeline runs", key)
    if kind == "text":
        what = check.text("description") or check.text("name") or "text"
        check.unmapped(repr(what), "it is text for people; write a rule that checks it")
        return []
    if kind == "custom":
        return _custom(check)
    if kind == "library" and "metric" not in check and (rule := check.text("rule")):
        compares = any(key.startswith("must") for key in check.value)
        if not compares or _RULES.get(rule, rule) not in METRICS:
            why = "the standard does not say what it means; write a metric, with an operator such as mustBe: 0"
            check.unmapped(f"the rule {rule!r}", why, "rule")
            return []
    common = _common(check)
    allowed = allowed_range(check)
    if allowed is None:
        return []
    return query(check, allowed, common) if kind == "sql" else _library(check, allowed, common)


def _common(check: Node) -> dict[str, Any]:
    common: dict[str, Any] = {"id": check.text("name") or check.text("id"), "description": check.text("description")}
    common["tags"] = list(check.texts("tags")) or None
    severity = check.text("severity")
    if severity is not None and severity.lower() not in _ACTIONS:
        check.note(f"severity {severity!r}", "it is not known, so a violation fails the gate", "severity")
    common["action"] = _ACTIONS.get((severity or "error").lower())
    for extra in check.children("customProperties"):
        if extra.value.get("property") in ("action", "owner"):
            common[extra.value["property"]] = extra.text("value")
        else:
            extra.note(f"custom property {extra.value.get('property')!r}", "it has no meaning for a rule")
    return common


# library metrics


def _library(check: Node, allowed: Range, common: dict[str, Any]) -> list[Written]:
    older = check.text("rule")
    metric = check.text("metric") or (older and _RULES.get(older, older))
    if metric is None:
        check.fault("'metric' is missing", "add metric: one of " + ", ".join(METRICS))
        return []
    if metric not in METRICS:
        check.unknown(f"unknown metric {metric!r}", nearest(metric, METRICS, "metrics"), "metric")
        return []
    unit = check.text("unit") or "rows"
    if unit not in ("rows", "percent"):
        check.unmapped(f"{metric} in {unit}", "rules count rows, or percent of them", "unit")
        return []
    if metric == "rowCount":
        return _row_count(check, allowed, common, percent=unit == "percent")
    found = _bad_rows(check, metric)
    if found is None:
        return []
    rule, condition = found
    if rule is None and condition is not None:
        rule = {"expression": {"condition": negated(condition)}}
    assert rule is not None
    ((name, arguments),) = rule.items()
    if unit == "percent":
        return _share(check, metric, (name, arguments), condition, allowed, common)
    least, most = allowed.counts()
    if allowed.unlike:
        check.unmapped(f"{metric} mustNotBe {allowed.unlike}", "no rule allows two separate ranges")
        return []
    if least is None:
        return _at_most(check, (name, arguments), most, common)
    if condition is None:
        check.unmapped(f"{metric} of at least {least}", "no rule asks for duplicates")
        return []
    return [counted(condition, least, most, common)]


def _at_most(check: Node, rule: tuple[str, Any], most: int | None, common: dict[str, Any]) -> list[Written]:
    if most is None:
        check.unmapped("a check of a count", "any count passes it")
        return []
    if most < 0:
        check.fault("no count is less than 0", "fix the operator")
        return []
    return [made(*rule, common | {"max_failures": most or None})]


def _row_count(check: Node, allowed: Range, common: dict[str, Any], *, percent: bool) -> list[Written]:
    if check.column is not None or percent:
        why = "percent of what?" if percent else "it counts the rows of a table; write it there"
        check.unmapped("rowCount", why)
        return []
    least, most = allowed.counts()
    if allowed.unlike:
        check.unmapped(f"rowCount mustNotBe {allowed.unlike}", "no rule allows two separate ranges")
        return []
    if least is None and most is None:
        check.unmapped("rowCount", "any count passes it")
        return []
    if allowed.least == allowed.most and most is not None:
        return [made("row_count", {"equals": most}, common)]
    return [counted(None, least, most, common)]


def _percent(number: Decimal) -> str:
    return f"{number.normalize():f}%"


def _share(
    check: Node, metric: str, rule: tuple[str, Any], condition: str | None, allowed: Range, common: dict[str, Any]
) -> list[Written]:
    """Return the rule for a part of the rows, in percent."""
    least = allowed.least
    if allowed.unlike is None and (least is None or least < 0 or (least == 0 and not allowed.open_least)):
        most = allowed.most
        if most is None or most > 100 or (most == 100 and not allowed.open_most):
            check.unmapped(f"{metric} in percent", "any part passes it")
            return []
        if most < 0 or (most == 0 and allowed.open_most):
            check.fault("no part is less than 0", "fix the operator")
            return []
        limit = max(Decimal(str(most)) - (_LITTLE if allowed.open_most else 0), Decimal(0))
        return [made(*rule, common | {"max_failures": _percent(limit) if limit else None})]
    if least is not None and (least > 100 or (least == 100 and allowed.open_least)):
        check.fault("no part is more than 100 percent", "fix the operator")
        return []
    if condition is None or (allowed.unlike is not None and allowed.unlike != 0):
        check.unmapped(f"{metric} in percent", "no rule measures it with this operator")
        return []
    if least is None:
        return [counted(condition, 1, None, common)]
    # a condition that is null would not count as a row
    arguments = {"condition": f"COALESCE({condition}, FALSE)", "min": _fraction(least, allowed.open_least, 2)}
    if allowed.most is not None and allowed.most < 100:
        arguments["max"] = _fraction(allowed.most, allowed.open_most, -1)
    return [made("proportion", arguments, common)]


_LITTLE = Decimal("1e-12")
"""Percent below a limit that is not allowed itself: of fewer than 10**12 rows, none lies between."""


def _fraction(percent: float, is_open: bool, towards: float) -> float:  # noqa: FBT001  # of Range
    part = float(Decimal(str(percent)) / 100)
    return math.nextafter(part, towards) if is_open else part


def _bad_rows(check: Node, metric: str) -> tuple[Written | None, str | None] | None:
    """Return the rule that bad rows violate (None: an expression), and the condition that is true for them."""
    arguments, column = check.child("arguments"), check.column
    if metric == "duplicateValues":
        keys = list(arguments.texts("properties")) or ([] if column is None else [column])
        if not keys:
            check.fault("duplicateValues of a table needs columns", "add arguments: {properties: [a, b]}")
            return None
        if any(op in check for op in OPERATORS if check.value.get(op) != 0):
            check.note(
                "duplicateValues", "every row of a repeated key counts, the first one too; the standard does not say"
            )
        return {"unique": {"columns": keys}}, None
    if column is None:
        check.unmapped(metric, "it is about one column; write it at a property")
        return None
    name = quoted(column)
    if metric == "nullValues":
        return {"not_null": {"columns": [column]}}, f"{name} IS NULL"
    try:
        if metric == "missingValues":
            return _missing(check, arguments, column)
        return _invalid(check, arguments, column)
    except SqlError as error:
        arguments.fault(str(error), "list texts, numbers, true or false")
        return None


def _missing(check: Node, arguments: Node, column: str) -> tuple[Written | None, str] | None:
    values = arguments.get("missingValues", "list")
    if not values:
        check.unmapped("missingValues", "it does not say which values count as missing")
        return None
    name, some = quoted(column), [v for v in values if v is not None]
    if not some:
        return {"not_null": {"columns": [column]}}, f"{name} IS NULL"
    among = f"{name} IN ({literal(some)})"
    if len(some) == len(values):
        return {"not_in_set": {"column": column, "values": some}}, among
    # null or one of them: false where null, rather than null
    return {"expression": {"condition": f"{name} IS NOT NULL AND {name} NOT IN ({literal(some)})"}}, (
        f"{name} IS NULL OR {among}"
    )


def _invalid(check: Node, arguments: Node, column: str) -> tuple[Written | None, str] | None:
    values, pattern = arguments.get("validValues", "list"), arguments.text("pattern") or check.text("pattern")
    name = quoted(column)
    if pattern is not None and not sqltext.is_regex(pattern):
        check.unmapped(f"pattern {pattern!r}", "look-around and back references are not known here")
        return None
    some = [v for v in values or () if v is not None]
    if some and pattern is None:
        return {"in_set": {"column": column, "values": some}}, f"{name} NOT IN ({literal(some)})"
    if pattern is None:
        check.unmapped("invalidValues", "it does not say which values are valid")
        return None
    matches = f"{name} ~ {literal(pattern)}"
    if not some:
        return {"regex": {"column": column, "pattern": pattern}}, negated(matches)
    return None, f"{name} NOT IN ({literal(some)}) OR NOT ({matches})"


# custom checks


def _custom(check: Node) -> list[Written]:
    engine, implementation = check.need("engine", "text"), check.value.get("implementation")
    if implementation is None:
        check.fault("'implementation' is missing", "add implementation: what the engine runs")
    if engine is None or implementation is None:
        return []
    what = engine.lower().replace("-", "").replace("_", "")
    if what not in ("lazypipe", "greatexpectations", "gx"):
        check.unmapped(f"a check of {engine}", "only that engine can read it")
        return []
    data = _implementation(check, implementation)
    if data is None:
        return []
    if what == "lazypipe":
        if len(data) != 1:
            check.fault("a rule is a mapping with one key, its name", "write name: arguments", "implementation")
            return []
        return [data]
    inner = Document(data, check.document.origin)
    node = Node(data, (*check.path, "implementation"), inner, check.table, check.column)
    kwargs = {"column": check.column} if check.column is not None else {}
    rules = expectation(
        Node({**data, "kwargs": {**kwargs, **(data.get("kwargs") or {})}}, node.path, inner, check.table, check.column)
    )
    check.document.faults.extend(inner.faults)
    check.document.unmapped.extend(inner.unmapped)
    check.document.notes.extend(inner.notes)
    return rules


def _implementation(check: Node, written: Any) -> Mapping[str, Any] | None:
    if isinstance(written, str):
        try:
            written = read("\n" + written).data
        except DefinitionError as error:
            check.fault(f"the implementation is {error.problems[0].what}", "write YAML", "implementation")
            return None
    if not isinstance(written, dict):
        check.fault("the implementation is not a mapping", "write name: arguments", "implementation")
        return None
    return written
