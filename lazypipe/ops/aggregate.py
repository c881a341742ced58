"""``aggregate``: one row per group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import MADE, Operation, Scope, Table
from lazypipe.spec.arguments import COLUMNS, SQLS, arg


@dataclass(frozen=True)
class Aggregate(Operation):
    """Group by columns and compute aggregates, one row per group; without ``by``, one row in all.

    Null is a group of its own. Aggregates skip nulls, as in SQL; ``count(*)`` counts rows. The order is not promised.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> step = {"aggregate": {"by": "g", "aggregate": {"n": "count(*)", "mean": "avg(x)"}}}
    >>> lp.apply(step, pl.LazyFrame({"g": ["a", "a"], "x": [1, 3]})).collect().rows()
    [('a', 2, 2.0)]
    """

    name: ClassVar[str] = "aggregate"
    aggregate: Mapping[str, str | pl.Expr] = arg(SQLS, "New column → SQL aggregate, such as count(*) or avg(x).")
    by: tuple[str, ...] = arg(COLUMNS, "The columns that make a group.", default=())

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``group_by().agg()``, or ``select`` without groups."""
        return self._aggregated(table, scope, [])

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of those of its group."""
        return self._aggregated(table, scope, [MADE if self.by else MADE.implode()])

    def _aggregated(self, table: Table, scope: Scope, more: Sequence[pl.Expr]) -> pl.LazyFrame:
        scope.columns(self.by, table.schema, "by")
        stub = table.stub().frame
        exprs = []
        for name, text in self.aggregate.items():
            if name in self.by:
                raise scope.fault(
                    f"{name!r} is a group column already", "give the aggregate another name", "aggregate", name
                )
            expr = scope.expr(text, table.schema, "aggregate", name)
            plain = stub.select(expr.alias(name)).collect_schema()[name]
            grouped = stub.group_by(pl.lit(1).alias("__lazypipe_group")).agg(expr.alias(name)).collect_schema()[name]
            if grouped == pl.List(plain):
                what = f"{name!r} is not an aggregate"
                raise scope.fault(what, "wrap it in sum(), min(), max(), first() … or add it to by", "aggregate", name)
            exprs.append(expr.alias(name))
        exprs += more
        return table.frame.group_by(list(dict.fromkeys(self.by))).agg(exprs) if self.by else table.frame.select(exprs)
