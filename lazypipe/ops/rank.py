"""``rank``: the place of each row in an order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Literal

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table, carry_partitions, ordering
from lazypipe.spec.arguments import COLUMN, COLUMNS, TEXTS, arg, choice


@dataclass(frozen=True)
class Rank(Operation):
    """Add the rank of each row in an order, from 1, optionally within groups.

    Every row stays. Rows that tie get the lowest of their ranks (``min``), the same rank without gaps after it
    (``dense``), or are numbered one by one (``ordinal``). Nulls rank last unless ``NULLS FIRST`` is given.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> step = {"rank": {"as": "r", "order_by": "v DESC", "by": "g"}}
    >>> lp.apply(step, pl.LazyFrame({"g": [1, 1, 2], "v": [5, 7, 1]})).collect().rows()
    [(1, 5, 2), (1, 7, 1), (2, 1, 1)]
    """

    name: ClassVar[str] = "rank"
    as_: str = arg(COLUMN, "The name of the new column.")
    order_by: tuple[str, ...] = arg(TEXTS, "The order of the rows: columns, each optionally with DESC.")
    by: tuple[str, ...] = arg(COLUMNS, "The groups to rank within. Default: all rows are one group.", default=())
    method: Literal["min", "dense", "ordinal"] = arg(
        choice("min", "dense", "ordinal"), "How to rank rows that tie.", default="min"
    )

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``rank`` over partitions."""
        scope.columns(self.by, table.schema, "by")
        order = ordering(self.order_by, table.schema, scope, "order_by")
        keys = [
            # ranks start at 1: nulls go before or after all of them
            pl.col(c).rank("dense", descending=d).cast(pl.UInt64).fill_null(2**31 if last else 0)
            for c, d, last in zip(order.columns, order.descending, order.nulls_last, strict=True)
        ]
        # several columns become one: the dense rank so far in the high half, the next column in the low half
        key = reduce(lambda high, low: high.rank("dense").cast(pl.UInt64) * 2**32 + low, keys)
        rank = key.rank(self.method).cast(pl.Int64)
        return table.frame.with_columns((rank.over(self.by) if self.by else rank).alias(self.as_))

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of those of its partition, which its rank counts."""
        return carry_partitions(self, table, scope, self.by)
