"""``limit``: the first rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import COUNT, arg


@dataclass(frozen=True)
class Limit(Operation):
    """Keep so many rows from the start (after ``offset``); sort first, or which ones they are is not promised.

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
    rows: int = arg(COUNT, "How many rows.")
    offset: int = arg(COUNT, "How many rows to pass over first.", default=0)

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``slice``."""
        return table.frame.slice(self.offset, self.rows)

    def large(self, large: frozenset[str]) -> bool:
        """Few rows stay."""
        return False

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Rows stay as they are."""
        return self.lower(table, scope)
