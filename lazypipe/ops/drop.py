"""``drop``: remove columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import COLUMNS, arg


@dataclass(frozen=True)
class Drop(Operation):
    """Remove columns. Every row stays.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"drop": "a"}, pl.LazyFrame({"a": [1], "b": [2]})).collect().columns
    ['b']
    """

    name: ClassVar[str] = "drop"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns to remove.")

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``drop``."""
        scope.columns(self.columns, table.schema, "columns")
        if set(self.columns) == set(table.schema):
            raise scope.fault("every column is dropped", "keep at least one", "columns")
        return table.frame.drop(self.columns)

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes."""
        return True
