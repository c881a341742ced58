"""``explode``: one row per element of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import COLUMNS, arg


@dataclass(frozen=True)
class Explode(Operation):
    """Turn each element of a list column into a row of its own. A null or empty list gives one row with null.

    Several columns are exploded together; within a row, their lists must have the same length.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"explode": "a"}, pl.LazyFrame({"a": [[1, 2], []]})).collect().rows()
    [(1,), (2,), (None,)]
    """

    name: ClassVar[str] = "explode"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The list columns.")

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``explode``."""
        scope.columns(self.columns, table.schema, "columns")
        for index, name in enumerate(self.columns):
            if not isinstance(table.schema[name], pl.List | pl.Array):
                what = f"column {name!r} is {table.schema[name]}, not a list"
                raise scope.fault(what, "explode takes list columns", "columns", index)
        return table.frame.explode(self.columns, empty_as_null=True, keep_nulls=True)

    def multiplies(self) -> bool:
        """Yes: a row for each value of its lists."""
        return True

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes: of the row with its list."""
        return True
