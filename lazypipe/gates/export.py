"""A gate's report in other forms: a frame, Markdown, and OpenLineage's data quality facets."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from lazypipe.gates.report import CheckResult, GateReport

__all__ = [
    "ASSERTIONS_SCHEMA",
    "METRICS_SCHEMA",
    "PRODUCER",
    "data_quality_assertions",
    "data_quality_metrics",
    "to_frame",
    "to_markdown",
]

PRODUCER = "urn:lazypipe:gates"
"""The default URI of the producer."""
_SPEC = "https://openlineage.io/spec/facets"
ASSERTIONS_SCHEMA = f"{_SPEC}/1-1-0/DataQualityAssertionsDatasetFacet.json#/$defs/DataQualityAssertionsDatasetFacet"
"""The schema that ``data_quality_assertions`` keeps to."""
METRICS_SCHEMA = f"{_SPEC}/1-0-3/DataQualityMetricsInputDatasetFacet.json#/$defs/DataQualityMetricsInputDatasetFacet"
"""The schema that ``data_quality_metrics`` keeps to."""

_COLUMNS: Mapping[str, Any] = {
    "node": pl.String,
    "id": pl.String,
    "rule": pl.String,
    "column": pl.String,
    "action": pl.String,
    "status": pl.String,
    "evaluated": pl.Int64,
    "failed": pl.Int64,
    "fraction": pl.Float64,
    "threshold": pl.String,
    "repaired": pl.Int64,
    "failed_before": pl.Int64,
    "value": pl.String,
    "expected": pl.String,
    "groups": pl.List(pl.String),
    "samples": pl.List(pl.String),
    "description": pl.String,
    "tags": pl.List(pl.String),
    "owner": pl.String,
}


def to_frame(report: GateReport) -> pl.DataFrame:
    """Return one row per check, in the gate's order; the columns are the same for every report.

    ``value`` is text, because checks measure values of all types; ``groups`` and ``samples`` are JSON objects. ``column``,
    ``threshold``, ``value``, ``expected``, ``description`` and ``owner`` are null where there is none.

    Examples
    --------
    >>> import lazypipe as lp
    >>> report = lp.check(pl.DataFrame({"a": [1, None]}), [{"not_null": "a"}])
    >>> to_frame(report).select("id", "status", "evaluated", "failed", "fraction").rows()
    [('not_null:a', 'fail', 2, 1, 0.5)]
    """
    return pl.DataFrame([_row(report.node, c) for c in report.checks], schema=_COLUMNS, orient="row")


def _row(node: str, check: CheckResult) -> tuple[Any, ...]:
    plain = check.to_dict()
    told = {
        **plain,
        "node": node,
        "failed_before": check.failed_before,
        "repaired": check.repaired,
        "value": _text(check.value),
        "groups": [_json(g) for g in plain.get("groups", ())],
        "samples": [_json(s) for s in plain.get("samples", ())],
        "tags": [*check.tags],
    }
    return tuple(told.get(name) for name in _COLUMNS)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def to_markdown(report: GateReport) -> str:
    r"""Return the report as Markdown (GitHub's, with a table), for people; texts from the data stay texts.

    Examples
    --------
    >>> import lazypipe as lp
    >>> report = lp.check(pl.DataFrame({"a": [1, None]}), [{"not_null": "a"}])
    >>> print(to_markdown(report), end="")
    ## Gate of frame: fail
    <BLANKLINE>
    2 rows: 2 good, 0 quarantined, 0 dropped
    <BLANKLINE>
    | Status | Check | Found | Allowed | Action |
    |---|---|---|---|---|
    | **fail** | not\_null:a | 1 of 2 rows (50 %) |  | fail |
    <BLANKLINE>
    The first rows that fail not\_null:a:
    <BLANKLINE>
    - a = None
    """
    counts = f"{report.good:,} good, {report.quarantined:,} quarantined, {report.dropped:,} dropped"
    lines = [f"## Gate of {_escaped(report.node)}: {report.status}", "", f"{report.rows:,} rows: {counts}"]
    if report.checks:
        lines += ["", "| Status | Check | Found | Allowed | Action |", "|---|---|---|---|---|"]
        lines += [_table_row(c) for c in report.checks]
    for check in report.checks:
        told = check.to_dict()
        shown = [*told.get("groups", ()), *told.get("samples", ())]
        if shown:
            kind = "groups" if check.groups else "rows"
            lines += ["", f"The first {kind} that fail {_escaped(check.id)}:", ""]
            lines += ["- " + ", ".join(f"{_escaped(k)} = {_escaped(str(v))}" for k, v in s.items()) for s in shown]
    return "\n".join(lines) + "\n"


def _table_row(check: CheckResult) -> str:
    status = check.status if check.status == "pass" else f"**{check.status}**"
    about = [_escaped(check.id), *([_escaped(check.description)] if check.description else ())]
    about += [f"({_escaped(', '.join(check.tags))})"] if check.tags else []
    about += [f"answered for by {_escaped(check.owner)}"] if check.owner else []
    allowed = check.threshold or ""
    if check.expected is not None:
        found = f"{check.failed:,} of {check.evaluated:,} groups" if check.groups else _escaped(str(check.value))
        allowed = "; ".join([_escaped(check.expected), *([allowed] if allowed else ())])
    else:
        found = f"{check.failed:,} of {check.evaluated:,} rows ({check.fraction * 100:.3g} %)"
    found += f", {check.repaired:,} repaired" if check.repaired else ""
    return f"| {status} | {'<br>'.join(about)} | {found} | {allowed} | {check.action} |"


def _escaped(text: str) -> str:
    """Escape text so that Markdown shows it literally, on one line."""
    line = "".join(c if c.isprintable() else _json(c)[1:-1] if c in "\n\r\t" else f"\\x{ord(c):02x}" for c in text)
    return re.sub(r"([\\`*_\[\]<>|~&$#!])", r"\\\1", line)


def data_quality_assertions(report: GateReport, *, producer: str = PRODUCER) -> dict[str, Any]:
    """Return OpenLineage's facet ``dataQualityAssertions`` (1-1-0): one assertion per check, with what was found.

    ``success`` is whether the check passed without a warning. ``severity`` is ``error`` for checks that can fail the gate,
    ``warn`` for all others. ``expected`` and ``actual`` are the measured value and what it may be, or the limit on rows
    that violate (a count, or a percentage) and how many do. The rest stands in ``params``.

    Examples
    --------
    >>> import lazypipe as lp
    >>> report = lp.check(pl.DataFrame({"a": [1, None]}), [{"not_null": "a"}])
    >>> (found,) = data_quality_assertions(report)["assertions"]
    >>> found["assertion"], found["column"], found["success"], found["expected"], found["actual"]
    ('not_null', 'a', False, '0', '1')
    """
    assertions = [_assertion(c) for c in report.checks]
    return {"_producer": producer, "_schemaURL": ASSERTIONS_SCHEMA, "assertions": assertions}


def _assertion(check: CheckResult) -> dict[str, Any]:
    plain = check.to_dict()
    measured = check.expected is not None
    percent = check.threshold is not None and check.threshold.endswith("%")
    failed = f"{check.fraction * 100:g}%" if percent else str(check.failed)
    given = {
        "assertion": check.rule,
        "success": check.status == "pass",
        "column": check.column,
        "severity": "error" if check.action == "fail" or check.threshold is not None else "warn",
        "name": check.id,
        "description": check.description,
        "expected": check.expected if measured else check.threshold or "0",
        "actual": _text(check.value) if measured else failed,
    }
    params = {
        "action": check.action,
        "status": check.status,
        "evaluated": check.evaluated,
        "failed": check.failed,
        "fraction": check.fraction,
        **{k: plain[k] for k in ("threshold", "repaired", "groups", "samples", "tags", "owner") if plain.get(k)},
    }
    return {k: v for k, v in given.items() if v is not None} | {"params": params}


def data_quality_metrics(
    report: GateReport,
    *,
    bytes: int | None = None,  # noqa: A002  # OpenLineage's word
    files: int | None = None,
    updated: datetime | None = None,
    restricted: Collection[str] = (),
    producer: str = PRODUCER,
) -> dict[str, Any]:
    """Return OpenLineage's facet ``dataQualityMetrics`` of an input (1-0-3), as far as the gate's checks know its figures.

    Per column: ``nullCount`` and ``count`` from ``not_null``, ``null``, ``primary_key`` and ``completeness``;
    ``distinctCount``, ``sum``, ``min``, ``max`` and ``quantiles`` from the rules of these names and ``median``. Figures that
    are no finite numbers are left out, and so are those of groups, of values that another check repaired, and of some rows
    only: of a check with ``where``, and, where a gate took out rows, all those that are measured on the rows that go on.

    Parameters
    ----------
    bytes, files, updated
        The size, number of files and time of the last change (without a time zone: UTC) of what was read, where they are
        known.
    restricted
        The ids of checks of the whole frame that have a ``where``: a report does not say so.

    Examples
    --------
    >>> import lazypipe as lp
    >>> rules = [{"not_null": "a"}, {"sum": {"column": "a", "min": 0}}, {"median": {"column": "a", "min": 0}}]
    >>> found = data_quality_metrics(lp.check(pl.DataFrame({"a": [1, 2, None]}), rules))
    >>> found["rowCount"], found["columnMetrics"]
    (3, {'a': {'nullCount': 1, 'count': 2, 'sum': 3, 'quantiles': {'0.5': 1.5}}})
    """
    columns: dict[str, dict[str, Any]] = {}
    for check in report.checks:
        column = _about(check)
        mended = any(other.repaired and other.column == column for other in report.checks if other is not check)
        if column is None or mended or check.id in restricted:
            continue
        if figures := _figures(check, report):
            known = columns.setdefault(column, {})
            quantiles = known.get("quantiles", {}) | figures.get("quantiles", {})
            known |= figures | ({"quantiles": quantiles} if quantiles else {})
    given = {
        "rowCount": report.rows,
        "bytes": bytes,
        "fileCount": files,
        "lastUpdated": None if updated is None else updated.replace(tzinfo=updated.tzinfo or UTC).isoformat(),
        "columnMetrics": columns,
    }
    return {"_producer": producer, "_schemaURL": METRICS_SCHEMA} | {k: v for k, v in given.items() if v is not None}


_FIGURES = {"distinct_count": "distinctCount", "sum": "sum", "min": "min", "max": "max"}


def _about(check: CheckResult) -> str | None:
    """Return the one column that a check is about."""
    if check.column is None and (single := re.fullmatch(r"distinct_count:([^,]+)", check.id)):
        return single[1]  # it may count combinations of several columns
    return check.column


def _figures(check: CheckResult, report: GateReport) -> dict[str, Any]:
    """Return what a check knows about its column."""
    if check.expected is None:
        if check.evaluated != report.rows:
            return {}
        if check.rule in ("not_null", "primary_key"):
            return _nulls(check.failed_before, report.rows)
        return _nulls(report.rows - check.failed_before, report.rows) if check.rule == "null" else {}
    value = _number(check.value)
    if value is None or report.good != report.rows:
        return {}
    if check.rule == "completeness":
        return _nulls(round((1 - value) * report.rows), report.rows)
    if check.rule in _FIGURES and not (check.rule == "distinct_count" and isinstance(value, float)):  # a part
        return {_FIGURES[check.rule]: value}
    if check.rule == "median":
        return {"quantiles": {"0.5": value}}
    which = re.fullmatch(rf"quantile:{re.escape(str(check.column))} ([0-9.e-]+)", check.id)
    return {"quantiles": {which[1]: value}} if which else {}


def _nulls(nulls: int, rows: int) -> dict[str, Any]:
    return {"nullCount": nulls, "count": rows - nulls}


def _number(value: Any) -> int | float | None:
    """Return a value as JSON has numbers; None where it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Decimal) and value.is_finite():
        value = float(value)
    return value if isinstance(value, int) or (isinstance(value, float) and isfinite(value)) else None
