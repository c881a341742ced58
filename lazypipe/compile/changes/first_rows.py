"""Incremental ``ORDER BY … LIMIT`` in SQL: queries for the first rows in an order, treated like ``sort`` and ``limit``.

The text of a query is only a guess at what stands ahead of its ``LIMIT`` and ``ORDER BY``: plans decide whether it is right.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace

from lazypipe.ops.base import Fold, Ordering, Table
from lazypipe.ops.sort import first_of
from lazypipe.ops.sql import Sql
from lazypipe.plan.nodes import PlanNode
from lazypipe.spec.scope import Scope
from lazypipe.sql.text import without_limit

__all__ = ["FirstRows", "chosen", "first_rows"]

_SLICE = re.compile(r"Slice\(len=(\d+),offset=(\d+)\)")
_SORT = re.compile(r"Sort\(slice=None,sort_options=(\[.*\])\)")


@dataclass(frozen=True)
class FirstRows:
    """A query that gives some rows from the start of an order.

    Attributes
    ----------
    order
        By columns of the query, as they are called in the end.
    offset, rows
        How many rows it passes over, and how many it gives then.
    missing
        Columns that the order does not tell apart: of rows that differ there only, any may come first.
    unlimited, unordered
        The query without its ``LIMIT``, and without its ``ORDER BY`` too.
    """

    order: Ordering
    offset: int
    rows: int
    missing: tuple[str, ...]
    unlimited: str
    unordered: str

    def fold(self, operation: Sql, table: Table, scope: Scope) -> Fold:
        """Return the query in two steps: the first rows of each part, then those of all."""
        ahead = replace(operation, query=self.unordered).lower(table, scope)
        parts = first_of(self.order, ahead, table.extra, self.offset + self.rows)
        return Fold(parts, lambda rows: self.order.sort(rows).slice(self.offset, self.rows))


def first_rows(plan: PlanNode, query: str) -> FirstRows | None:
    """Return which first rows a query gives whose plan was read with ``exact``; None if it is another kind of query.

    Examples
    --------
    >>> import polars as pl
    >>> from lazypipe.plan.reader import read_plan
    >>> from lazypipe.sql.query import query
    >>> text = "SELECT a, b AS c FROM t ORDER BY a DESC LIMIT 3"
    >>> rows = query(text, {"t": pl.LazyFrame(schema={"a": pl.Int64, "b": pl.Int64})}, {})
    >>> found = first_rows(read_plan(rows, exact=True), text)
    >>> found.order.columns, found.rows, found.missing, found.unordered
    (('a',), 3, ('c',), 'SELECT a, b AS c FROM t')
    """
    texts = without_limit(query)
    cut = _SLICE.fullmatch(plan.exact or "") if plan.kind == "slice" else None
    if texts is None or cut is None:
        return None
    node, names = chosen(plan.inputs[0])
    found = _SORT.fullmatch(node.exact or "") if node.kind == "sort" else None
    if found is None or any(k.kind != "column" for k in node.keys):
        return None
    _, nulls_last, descending = ast.literal_eval(found[1])
    called: dict[str, str] = {}
    for after, before in names.items():
        called.setdefault(before, after)
    keys = [k.name for k in node.keys]
    if not called.keys() >= {*keys}:  # it orders by what it does not give: that is not known of the rows of parts
        return None
    order = Ordering(tuple(called[k] for k in keys), tuple(descending), tuple(nulls_last))
    missing = tuple(after for after, before in names.items() if before not in keys)
    rows, offset = map(int, cut.groups())
    return FirstRows(order, offset, rows, missing, *texts)


def chosen(plan: PlanNode) -> tuple[PlanNode, dict[str, str]]:
    """Return the first step of a plan that does more than choose and rename columns, and what those after it are called in it."""
    node, names = plan, {c: c for c in plan.columns}
    while node.kind in ("select", "project", "pass"):
        made = {n.name: n.expr for n in node.exprs} if node.kind == "select" else {}
        if any(e.kind != "column" for e in made.values()):
            break
        names = {after: made[before].name if made else before for after, before in names.items()}
        (node,) = node.inputs
    return node, names
