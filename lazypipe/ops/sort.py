"""``sort``: order the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table, ordering
from lazypipe.spec.arguments import TEXTS, arg


@dataclass(frozen=True)
class Sort(Operation):
    """Order the rows by columns, each optionally ``DESC`` and ``NULLS FIRST``; nulls come last otherwise.

    Equal rows keep their order.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"sort": "a DESC"}, pl.LazyFrame({"a": [1, None, 2]})).collect().rows()
    [(2,), (1,), (None,)]
    """

    name: ClassVar[str] = "sort"
    shorthand: ClassVar[str] = "by"
    by: tuple[str, ...] = arg(TEXTS, "Columns, each optionally with DESC and NULLS FIRST.")

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``sort``."""
        return ordering(self.by, table.schema, scope, "by").sort(table.frame)

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Rows stay as they are."""
        return self.lower(table, scope)
