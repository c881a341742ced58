"""Queries that group rows by columns and whose aggregates add up: what their plan says of it, and how they are folded, as ``aggregate`` is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import polars as pl

from lazypipe import sql
from lazypipe.compile.first_rows import chosen
from lazypipe.ops.base import Fold, Table
from lazypipe.ops.sql import Sql
from lazypipe.plan.nodes import PlanExpr, PlanNode
from lazypipe.plan.rowwise import is_rowwise
from lazypipe.spec.scope import Scope

__all__ = ["AddedUp", "added_up"]

_Sort: TypeAlias = Literal["sum", "count", "min", "max"]


@dataclass(frozen=True)
class AddedUp:
    """A query that gives one row per group, of figures that add up.

    Attributes
    ----------
    by
        The columns of the query that tell groups apart.
    figures
        Its other columns, and what each is: a ``sum`` (null of no values), a ``count``, ``min`` or ``max``.
    groups
        The step of its plan that groups.
    """

    by: tuple[str, ...]
    figures: Mapping[str, _Sort]
    groups: PlanNode

    @property
    def exprs(self) -> dict[str, PlanExpr]:
        """The aggregates, by what they are called where they are made."""
        return {n.name: n.expr for n in self.groups.exprs}

    def fold(self, operation: Sql, table: Table, scope: Scope, schema: pl.Schema) -> Fold:
        """Return the query in two steps: of each part, then of what came of the parts."""
        text = sql.grouping(operation.query, table.extra)
        assert text is not None, "its plan shows groups, and the compiler has tried this"
        parts = replace(operation, query=text).lower(replace(table, extra=()), scope)
        exprs = [_merged(n, sort).cast(schema[n]).alias(n) for n, sort in self.figures.items()]
        return Fold(parts, lambda rows: rows.group_by(self.by).agg(exprs).select(schema.names()), self.by)


def _merged(name: str, sort: _Sort) -> pl.Expr:
    number = pl.col(name)
    match sort:
        case "min":
            return number.min()
        case "max":
            return number.max()
        case "count":
            return number.sum()
        case _:
            return pl.when(number.count() > 0).then(number.sum())


def added_up(plan: PlanNode) -> AddedUp | None:
    """Return which figures a query gives of groups whose plan was read with ``exact``; None if it is another kind of query.

    Examples
    --------
    >>> from lazypipe.plan.reader import read_plan
    >>> rows = pl.LazyFrame(schema={"k": pl.String, "v": pl.Int64})
    >>> query = sql.query("SELECT k AS g, sum(v * 2) AS s, count(*) AS n FROM t GROUP BY k", {"t": rows}, {})
    >>> found = added_up(read_plan(query, exact=True))
    >>> found.by, found.figures
    (('g',), {'s': 'sum', 'n': 'count'})
    """
    node, names = chosen(plan)
    if node.kind != "group_by" or node.option("index") is not None or any(k.kind != "column" for k in node.keys):
        return None
    keys, made = node.option("names"), {n.name: _sort(n.expr) for n in node.exprs}
    figures = {after: made[before] for after, before in names.items() if before not in keys}
    by = tuple(after for after, before in names.items() if before in keys)
    if {names[after] for after in by} != {*keys}:  # groups are not told apart by what it gives
        return None
    told = {after: sort for after, sort in figures.items() if sort is not None}
    return AddedUp(by, told, node) if len(told) == len(figures) else None


def _sort(expr: PlanExpr) -> _Sort | None:
    """Return which figure an aggregate is, as SQL is lowered; None if it is none that adds up."""
    match expr:
        case PlanExpr("cast", "Int64", (PlanExpr("len"),)):
            return "count"
        case PlanExpr("cast", "Int64", (PlanExpr("agg", "count", (value,)),)) if _is_plain(value):
            return "count"
        case PlanExpr("agg", "min" | "max" as name, (value,)) if _is_plain(value):
            return "min" if name == "min" else "max"
        case PlanExpr(
            "ternary",
            _,
            (PlanExpr("agg", "sum", (value,)), PlanExpr("cast", _, (PlanExpr("literal", "NULL"),))),
            (PlanExpr("operator", "Gt", (PlanExpr("agg", "count", (counted,)), PlanExpr("literal", "0"))),),
        ) if value == counted and _is_plain(value):
            return "sum"
        case _:
            return None


def _is_plain(expr: PlanExpr) -> bool:
    """Whether a value is a matter of one row."""
    return is_rowwise(expr) and all(map(_is_plain, (*expr.args, *expr.by)))
