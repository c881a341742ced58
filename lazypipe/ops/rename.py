"""``rename``: rename columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import NAMES, arg


@dataclass(frozen=True)
class Rename(Operation):
    """Rename columns. Rows, their order and values stay as they are.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"rename": {"a": "b"}}, pl.LazyFrame({"a": [1]})).collect().columns
    ['b']
    """

    name: ClassVar[str] = "rename"
    shorthand: ClassVar[str] = "columns"
    columns: Mapping[str, str] = arg(NAMES, "Old name → new name.")

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``rename``."""
        for old, new in self.columns.items():
            if old not in table.schema and new in table.schema:
                what, fix = f"unknown column {old!r}", f"rename is from the old name to the new one: write {new}: {old}"
                raise scope.fault(what, fix, "columns", old)
        scope.columns(self.columns, table.schema, "columns")
        result = [self.columns.get(n, n) for n in table.schema]
        for old, new in self.columns.items():
            if result.count(new) > 1:
                raise scope.fault(
                    f"two columns would be called {new!r}", "rename or drop the other one", "columns", old
                )
        return table.frame.rename(dict(self.columns))

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes."""
        return True
