"""Incremental aggregation in SQL: queries whose plan groups rows by aggregates that can be added up, as ``aggregate`` does.

The text of a query is only a guess at its steps (``lazypipe.sql.steps``): plans decide whether it is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from lazypipe.ops.aggregate import figures_of
from lazypipe.ops.base import Fold, Table
from lazypipe.ops.sql import Sql
from lazypipe.plan.nodes import PlanExpr, PlanNode
from lazypipe.plan.rowwise import is_rowwise, keeps_length
from lazypipe.spec.model import NOTHING
from lazypipe.spec.scope import Scope
from lazypipe.sql.query import query
from lazypipe.sql.steps import Steps

__all__ = ["Grouped", "fold_query", "grouped"]


@dataclass(frozen=True)
class Grouped:
    """What a query makes of groups of rows, as its plan says it: ``columns`` of those groups for which ``conditions`` hold.

    Expressions are over ``rows``, which the expressions ``by`` divide into groups; so is everything that the query names on the way.
    """

    columns: Mapping[str, PlanExpr]
    conditions: tuple[PlanExpr, ...]
    by: frozenset[PlanExpr]
    rows: PlanNode = field(repr=False)

    def is_made_of(self, figures: Iterable[PlanExpr]) -> bool:
        """Whether all that it gives, and asks, is a matter of some figures and groups, one by one."""
        told = {*figures, *self.by}
        return all(_is_told(e, told) for e in (*self.columns.values(), *self.conditions))


def grouped(plan: PlanNode) -> Grouped | None:
    """Return what a query whose plan was read with ``exact`` makes of groups of rows; None if it is another kind of query.

    Examples
    --------
    >>> from lazypipe.plan.reader import read_plan
    >>> rows = pl.LazyFrame(schema={"k": pl.String, "v": pl.Int64})
    >>> def made(text):
    ...     return grouped(read_plan(query(text, {"t": rows}, {}), exact=True))
    >>> inner = "SELECT k, max(v) AS m, count(*) AS n FROM t GROUP BY k"
    >>> made("SELECT k, max(v) + 1 AS m FROM t GROUP BY k HAVING count(*) > 1") == made(f"SELECT k, m + 1 AS m FROM ({inner}) AS s WHERE n > 1")
    True
    """
    found = _made(plan)
    if found.by is None or not found.values.keys() >= {*plan.columns}:
        return None
    return Grouped({c: found.values[c] for c in plan.columns}, found.conditions, found.by, found.rows)


def fold_query(found: Steps, operation: Sql, table: Table, scope: Scope, schema: pl.Schema) -> Fold | None:
    """Return a query in two steps: of each part, then of what came of the parts; None if its figures do not add up."""
    rows = replace(operation, query=found.rows).lower(table, scope)
    here, types = rows.collect_schema(), query(found.figures, {"self": rows}).collect_schema()
    parts: list[pl.Expr] = []
    merged: list[pl.Expr] = []
    for name, call in found.calls.items():
        made = figures_of(name, call.function, call.argument, here, scope.params)
        if made is None:
            return None
        figures, whole = made
        parts += [e.cast(types[n]).alias(n) if n in types else e.alias(n) for n, e in figures.items()]
        merged.append(whole.cast(types[name]).alias(name))
    by = list(found.by)

    def merge(kept: pl.LazyFrame) -> pl.LazyFrame:
        groups = kept.group_by(by).agg(merged) if by else kept.select(merged)
        return query(found.result, {"self": groups}, scope.params).select(schema.names())

    return Fold(rows.group_by([*by, *table.extra]).agg(parts), merge, found.by)


@dataclass(frozen=True)
class _Made:
    """The rows at one point of a plan: ``values`` are the columns computed from ``rows``; where ``by`` is given, there is one row per group."""

    rows: PlanNode
    values: Mapping[str, PlanExpr] = NOTHING
    conditions: tuple[PlanExpr, ...] = ()
    by: frozenset[PlanExpr] | None = None

    def put_in(self, expr: PlanExpr) -> PlanExpr:
        """Return an expression over the rows."""
        if expr.kind == "column":
            return self.values.get(expr.name, expr)
        args, by = (tuple(map(self.put_in, of)) for of in (expr.args, expr.by))
        return replace(expr, args=args, by=by)


def _made(plan: PlanNode) -> _Made:
    if len(plan.inputs) != 1 or plan.exact is None:
        return _Made(plan)
    below = _made(plan.inputs[0])
    exprs = [n.expr for n in plan.exprs]
    match plan.kind:
        case "select" | "with_columns":
            made = {n.name: below.put_in(n.expr) for n in plan.exprs}
            if plan.kind == "select" and below.by is None and all(keeps_length(e) is None for e in exprs):
                return _Made(below.rows, made, (), frozenset())
            if below.by is None and not all(map(_is_plain, exprs)):
                return _Made(plan)
            return replace(below, values=made if plan.kind == "select" else {**below.values, **made})
        case "filter" if below.by is not None:
            return replace(below, conditions=(*below.conditions, *map(below.put_in, plan.keys)))
        case "group_by" if below.by is None and _PLAIN_GROUPS in plan.exact:
            keys = [*map(below.put_in, plan.keys)]
            made = {n.name: _of_groups(below.put_in(n.expr), keys) for n in plan.exprs}
            return _Made(
                below.rows, {**dict(zip(plan.option("names"), keys, strict=True)), **made}, (), frozenset(keys)
            )
        case "distinct" if below.by is None and plan.option("keep") == ("any", None):
            told = {k.name: below.put_in(k) for k in plan.keys}
            return (
                _Made(below.rows, told, (), frozenset(told.values())) if told.keys() == {*plan.columns} else _Made(plan)
            )
        case _:
            return _Made(plan)


_PLAIN_GROUPS = "GroupBy(apply=[],maintain_order=False,options=GroupbyOptions(dynamic=None,rolling=None,slice=None))"


def _of_groups(expr: PlanExpr, keys: Sequence[PlanExpr]) -> PlanExpr:
    """Return an expression with what all rows of a group have in the place of that of its first."""
    if expr.kind == "agg" and expr.name == "first" and expr.args[0] in keys:
        return expr.args[0]
    args, by = (tuple(_of_groups(e, keys) for e in of) for of in (expr.args, expr.by))
    return replace(expr, args=args, by=by)


def _is_plain(expr: PlanExpr) -> bool:
    """Whether a value is a matter of one row."""
    return is_rowwise(expr) and all(map(_is_plain, (*expr.args, *expr.by)))


def _is_told(expr: PlanExpr, told: set[PlanExpr]) -> bool:
    return expr in told or (
        expr.kind != "column" and is_rowwise(expr) and all(_is_told(part, told) for part in (*expr.args, *expr.by))
    )
