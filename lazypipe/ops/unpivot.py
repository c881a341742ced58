"""``unpivot``: columns become rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import COLUMN, COLUMNS, arg


@dataclass(frozen=True)
class Unpivot(Operation):
    """Turn columns into rows: each row becomes one row per column, with the index columns, the column's name and its value.

    Nulls are kept. Columns in neither ``columns`` nor ``index`` are removed. The columns must all have one type, or
    all be numbers.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> step = {"unpivot": {"columns": ["a", "b"], "index": "k"}}
    >>> lp.apply(step, pl.LazyFrame({"k": [1], "a": [5], "b": [6]})).collect().rows()
    [(1, 'a', 5), (1, 'b', 6)]
    """

    name: ClassVar[str] = "unpivot"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns that become rows.")
    index: tuple[str, ...] = arg(COLUMNS, "The columns to repeat in each row.", default=())
    name_to: str = arg(COLUMN, "The name of the column with the names.", default="name")
    value_to: str = arg(COLUMN, "The name of the column with the values.", default="value")

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``unpivot``."""
        scope.columns(self.columns, table.schema, "columns")
        scope.columns(self.index, table.schema, "index")
        first = table.schema[self.columns[0]]
        for number, name in enumerate(self.columns):
            dtype = table.schema[name]
            if dtype != first and not (dtype.is_numeric() and first.is_numeric()):
                what = f"column {name!r} is {dtype} and {self.columns[0]!r} is {first}"
                raise scope.fault(what, "cast one of them first", "columns", number)
        for argument, name in (("name_to", self.name_to), ("value_to", self.value_to)):
            if name in self.index or self.name_to == self.value_to:
                raise scope.fault(f"two columns would be called {name!r}", "give it another name", argument)
        # under names of their own: Polars refuses those of columns that go
        made = {"__lazypipe_name": self.name_to, "__lazypipe_value": self.value_to}
        name, value = made
        index = [*self.index, *table.extra]
        rows = table.frame.unpivot(list(self.columns), index=index, variable_name=name, value_name=value)
        return rows.rename(made)

    def multiplies(self) -> bool:
        """Yes: a row for each of the columns."""
        return True

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes: of the row whose values became rows."""
        return True
