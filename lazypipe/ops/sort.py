"""``sort``: order the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Fold, Operation, Ordering, Scope, Table, ordering
from lazypipe.spec import taps
from lazypipe.spec.arguments import TEXTS, arg


@dataclass(frozen=True)
class Sort(Operation):
    """Sort the rows by columns, each optionally with ``DESC`` and ``NULLS FIRST``. Nulls come last by default.

    The sort is stable: equal rows keep their order.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"sort": "a DESC"}, pl.LazyFrame({"a": [1, None, 2]})).collect().rows()
    [(2,), (1,), (None,)]
    """

    name: ClassVar[str] = "sort"
    keeps_columns: ClassVar[bool] = True
    shorthand: ClassVar[str] = "by"
    by: tuple[str, ...] = arg(TEXTS, "The columns to sort by, each optionally with DESC and NULLS FIRST.")

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``sort``."""
        return ordering(self.by, table.schema, scope, "by").sort(table.frame)

    def columns(self, table: Table, scope: Scope) -> tuple[str, ...]:
        """Return the columns that it orders by."""
        return ordering(self.by, table.schema, scope, "by").columns

    def top(self, table: Table, scope: Scope, rows: int) -> Fold | None:
        """Return the first rows in two steps: those of each part, then those of all; None if the order leaves some equal.

        Which of equal rows come first is not promised, so rows must be told apart by the order: by all of their columns.
        """
        order = ordering(self.by, table.schema, scope, "by")
        if {*order.columns} != {*table.schema}:
            return None
        return Fold(first_of(order, table.frame, table.extra, rows), order.sort)

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Rows stay as they are."""
        return self.lower(table, scope)


def first_of(order: Ordering, frame: pl.LazyFrame, extra: Sequence[str], rows: int) -> pl.LazyFrame:
    """Return the first rows, in an order, of each part of a frame; ``extra`` columns tell parts apart."""
    apart = list(extra)

    def first(batch: pl.DataFrame) -> pl.DataFrame:
        place = pl.int_range(pl.len()).over(apart)
        return order.sort(batch.lazy()).filter(place < rows).collect(engine="in-memory")

    # of each batch on the way, so that no more than these are ever held
    ahead = taps.tap(frame, first, deciding=order.columns)
    return order.sort(ahead).filter(pl.int_range(pl.len()).over(apart) < rows)
