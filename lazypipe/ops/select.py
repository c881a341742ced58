"""``select``: keep these columns, or compute just these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table, is_rowwise
from lazypipe.spec.arguments import CHOSEN, arg
from lazypipe.spec.model import Fault

_AS = re.compile(r"(.+?)\s+as\s+\"?(\w+)\"?", re.IGNORECASE)


@dataclass(frozen=True)
class Select(Operation):
    """Keep only the given columns, in this order, or compute new ones with SQL expressions.

    Every row stays. An aggregate such as ``max(x)`` has the same value in each row.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"select": {"b": "a * 2"}}, pl.LazyFrame({"a": [1]})).collect().rows()
    [(2,)]
    """

    name: ClassVar[str] = "select"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] | Mapping[str, str | pl.Expr] = arg(
        CHOSEN, "A list of column names, or new name → SQL expression."
    )

    def __post_init__(self) -> None:
        """Check that something is selected, once."""
        if not self.columns:
            raise Fault("select needs at least one column", "name the columns to keep", ("columns",))
        for index, name in enumerate(self.columns):
            if not isinstance(self.columns, Mapping) and name in self.columns[:index]:
                raise Fault(f"column {name!r} is selected twice", "name it once", ("columns", index))

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``select``."""
        if isinstance(self.columns, Mapping):
            # not select(exprs) alone: of expressions that read no column, or aggregate, that makes one row
            exprs = (scope.expr(e, table.schema, "columns", n).alias(n) for n, e in self.columns.items())
            return table.frame.with_columns(exprs).select(*self.columns, *table.extra)
        for index, name in enumerate(self.columns):
            if name not in table.schema and (found := _AS.fullmatch(name)):
                fix = f"to name what is selected write a mapping: {{{found[2]}: {found[1]}}}"
                raise scope.fault(f"unknown column {name!r}", fix, "columns", index)
        scope.columns(self.columns, table.schema, "columns")
        return table.frame.select(*self.columns, *table.extra)

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes, if the expressions read no other row."""
        exprs = self.columns.values() if isinstance(self.columns, Mapping) else ()
        return is_rowwise(exprs, table.schema, scope)
