"""``filter``: keep rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table, is_rowwise
from lazypipe.spec.arguments import SQL, arg
from lazypipe.sql.exprs import dtype_of


@dataclass(frozen=True)
class Filter(Operation):
    """Keep the rows for which a SQL condition is true; where it is null, the row goes, as in SQL.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"filter": "a > 1"}, pl.LazyFrame({"a": [1, 2, None]})).collect().rows()
    [(2,)]
    """

    name: ClassVar[str] = "filter"
    keeps_columns: ClassVar[bool] = True
    shorthand: ClassVar[str] = "condition"
    condition: str | pl.Expr = arg(SQL, "A SQL condition.")

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``filter``."""
        condition = scope.condition(self.condition, table.schema, "condition")
        if dtype_of(condition, table.schema) == pl.Null:
            condition = condition.cast(pl.Boolean)  # Polars takes no filter that is only null
        return table.frame.filter(condition)

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes, if the condition reads no other row."""
        return is_rowwise([self.condition], table.schema, scope)
