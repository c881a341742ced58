"""``filter``: keep rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table, is_rowwise, reads_one_row
from lazypipe.spec.arguments import SQL, arg
from lazypipe.sql.exprs import dtype_of, empty


@dataclass(frozen=True)
class Filter(Operation):
    """Keep the rows for which a SQL condition is true. Rows for which it is false or null are removed.

    An aggregate in the condition is computed over all rows, as in ``x > avg(x)``. A condition that reads nothing else
    of the row, such as ``count(*) > 1``, would keep all rows or none, and is refused; to filter groups, use
    ``aggregate`` or ``over`` first.

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
        elif isinstance(self.condition, str) and _is_one_value(condition, table.schema):
            raise scope.fault(
                "the condition has one value for all rows, so it would keep all of them or none",
                "filter groups after aggregate, by its columns; or compare within each row's group: count(*) OVER (PARTITION BY …) > 1",
                "condition",
            )
        return table.frame.filter(condition)

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes, if the condition reads no other row."""
        return is_rowwise([self.condition], table.schema, scope)


def _is_one_value(condition: pl.Expr, schema: pl.Schema) -> bool:
    """Whether a condition says the same of each row, by what the rows are; constants and parameters say it whatever they are."""
    return not reads_one_row([condition], schema) and empty(schema).select(condition).height == 1
