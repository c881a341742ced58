"""``distinct``: one row per key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import polars as pl

from lazypipe.in_order import together
from lazypipe.ops.base import Fold, Operation, Scope, Table, carry_partitions, ordering
from lazypipe.spec.arguments import COLUMNS, TEXTS, arg, choice
from lazypipe.spec.model import Fault


@dataclass(frozen=True)
class Distinct(Operation):
    """Keep one row per key: the first or last in an order, any one, or none where the key is not unique.

    Without ``columns``, whole rows are compared. Nulls equal each other. The order of the result is not guaranteed.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> step = {"distinct": {"columns": "k", "keep": "last", "order_by": "v"}}
    >>> lp.apply(step, pl.LazyFrame({"k": [1, 1], "v": [5, 3]})).collect().rows()
    [(1, 5)]
    """

    name: ClassVar[str] = "distinct"
    keeps_columns: ClassVar[bool] = True
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns of the key. Default: all columns.", default=())
    keep: Literal["any", "first", "last", "none"] = arg(
        choice("any", "first", "last", "none"),
        "Which row of each key to keep; none removes every row whose key occurs more than once.",
        default="any",
    )
    order_by: tuple[str, ...] = arg(
        TEXTS, "The order that first and last refer to: columns, each optionally with DESC.", default=()
    )

    def __post_init__(self) -> None:
        """Check that first and last mean something."""
        if self.keep in ("first", "last") and not self.order_by:
            raise Fault(f"keep: {self.keep} needs an order", "add order_by: [column]", ("keep",))
        if self.order_by and self.keep not in ("first", "last"):
            raise Fault("order_by has no effect here", "say keep: first or keep: last", ("order_by",))

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``unique``, sorted before where the order decides."""
        scope.columns(self.columns, table.schema, "columns")
        subset = list(self.columns) or None
        order = ordering(self.order_by, table.schema, scope, "order_by")
        if table.large:
            keys = self.columns or table.schema.names()
            rows = together(table.frame, keys, order.columns, order.descending, order.nulls_last)
            return rows.unique(keys, keep=self.keep, maintain_order=self.keep == "first")
        if not self.order_by:
            return table.frame.unique(subset, keep=self.keep)
        return order.sort(table.frame).unique(subset, keep=self.keep, maintain_order=True)

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """The row that stays is made of all with its values."""
        return carry_partitions(self, table, scope, self.columns or table.schema.names())

    def fold(self, table: Table, scope: Scope) -> Fold | None:
        """Keep one row per key of each part, then one row of these; None with ``keep: none``, where keys that repeat go altogether."""
        if self.keep == "none":
            return None
        within = replace(self, columns=(*(self.columns or table.schema), *table.extra))
        listed = replace(table, schema=pl.Schema({**table.schema, **dict.fromkeys(table.extra, pl.UInt64())}), extra=())
        by = self.columns or tuple(table.schema)
        return Fold(
            within.lower(listed, scope), lambda rows: self.lower(replace(table, frame=rows, extra=()), scope), by
        )
