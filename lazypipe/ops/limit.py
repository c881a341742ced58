"""``limit``: the first rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import COUNT, arg


@dataclass(frozen=True)
class Limit(Operation):
    """Keep the first rows, after skipping ``offset`` of them. Without a ``sort`` before it, which rows these are is not guaranteed.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"limit": 1}, pl.LazyFrame({"a": [1, 2]})).collect().rows()
    [(1,)]
    """

    name: ClassVar[str] = "limit"
    keeps_columns: ClassVar[bool] = True
    shorthand: ClassVar[str] = "rows"
    rows: int = arg(COUNT, "The number of rows to keep.")
    offset: int = arg(COUNT, "The number of rows to skip first.", default=0)

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``slice``."""
        return table.frame.slice(self.offset, self.rows)

    def large(self, large: frozenset[str]) -> bool:
        """Few rows stay."""
        return False

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Rows stay as they are."""
        return self.lower(table, scope)
