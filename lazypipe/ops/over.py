"""``over``: window functions over partitions in an order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table, carry_partitions, ordering
from lazypipe.spec.arguments import COLUMNS, SQLS, TEXTS, arg
from lazypipe.spec.model import Fault


@dataclass(frozen=True)
class Over(Operation):
    """Add columns computed over each row's partition: shares of a total, differences from the first row.

    Every row stays. An aggregate has the same value in all rows of a partition, also with ``order_by``, which decides what
    ``first`` and ``last`` are. For running sums and values of neighbouring rows, write the window in SQL, here or in
    ``derive``: ``sum(x) OVER (PARTITION BY g ORDER BY t)``, ``lag(x) OVER (…)``.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> step = {"over": {"by": "g", "columns": {"share": "v * 1.0::double / sum(v)"}}}
    >>> lp.apply(step, pl.LazyFrame({"g": [1, 1], "v": [1, 3]})).collect()["share"].to_list()
    [0.25, 0.75]
    """

    name: ClassVar[str] = "over"
    columns: Mapping[str, str | pl.Expr] = arg(SQLS, "New column → SQL expression over the partition.")
    by: tuple[str, ...] = arg(
        COLUMNS, "The columns that form a partition. Default: all rows are one partition.", default=()
    )
    order_by: tuple[str, ...] = arg(
        TEXTS, "The order within a partition: columns, all or none of them with DESC.", default=()
    )

    def __post_init__(self) -> None:
        """Check that there is a window."""
        if not self.by and not self.order_by:
            raise Fault("over needs a partition or an order", "give by or order_by", ("columns",))

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``over``."""
        scope.columns(self.by, table.schema, "by")
        order = ordering(self.order_by, table.schema, scope, "order_by")
        if len(set(order.descending)) > 1 or len(set(order.nulls_last)) > 1:
            raise scope.fault(
                "over takes one direction for all columns of order_by", "use DESC on all or none", "order_by"
            )
        partition = self.by or (pl.lit(1),)  # one partition: all rows
        return table.frame.with_columns(
            scope.expr(text, table.schema, "columns", name)
            .over(
                partition,
                order_by=order.columns or None,
                descending=order.descending[:1] == (True,),
                nulls_last=order.nulls_last[:1] == (True,),
            )
            .alias(name)
            for name, text in self.columns.items()
        )

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of those of its partition."""
        return carry_partitions(self, table, scope, self.by)
