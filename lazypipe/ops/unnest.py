"""``unnest``: the fields of a struct as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import COLUMNS, TEXT, arg


@dataclass(frozen=True)
class Unnest(Operation):
    """Replace struct columns with one column per field. A null struct gives nulls. Every row stays.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"unnest": "a"}, pl.LazyFrame({"a": [{"x": 1, "y": 2}]})).collect().rows()
    [(1, 2)]
    """

    name: ClassVar[str] = "unnest"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The struct columns.")
    separator: str | None = arg(
        TEXT,
        "The text between the names of column and field in the new name. Default: the new name is the field's alone.",
        default=None,
    )

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``unnest``."""
        scope.columns(self.columns, table.schema, "columns")
        for index, name in enumerate(self.columns):
            if not isinstance(table.schema[name], pl.Struct):
                what = f"column {name!r} is {table.schema[name]}, not a struct"
                raise scope.fault(what, "unnest takes struct columns; lists are for explode", "columns", index)
        names: set[str] = set()
        for name, dtype in table.schema.items():
            fields = [f.name for f in dtype.fields] if name in self.columns and isinstance(dtype, pl.Struct) else None
            prefix = "" if self.separator is None else f"{name}{self.separator}"
            for made in [name] if fields is None else [f"{prefix}{f}" for f in fields]:
                if made in names:
                    what = f"two columns would be called {made!r}"
                    raise scope.fault(what, "give a separator, or rename one of them first", "columns")
                names.add(made)
        return table.frame.unnest(self.columns, separator=self.separator)

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes."""
        return True
