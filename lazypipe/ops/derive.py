"""``derive``: add or replace columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table, is_rowwise
from lazypipe.spec.arguments import SQLS, arg
from lazypipe.spec.model import Fault


@dataclass(frozen=True)
class Derive(Operation):
    """Add columns computed with SQL expressions, or replace columns of the same name.

    Every row stays. All expressions see the columns as they were before this step.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"derive": {"b": "a * 2"}}, pl.LazyFrame({"a": [1]})).collect().rows()
    [(1, 2)]
    """

    name: ClassVar[str] = "derive"
    shorthand: ClassVar[str] = "columns"
    columns: Mapping[str, str | pl.Expr] = arg(SQLS, "New column → SQL expression.")

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``with_columns``."""
        return table.frame.with_columns(
            self._bound(n, e, table.schema, scope).alias(n) for n, e in self.columns.items()
        )

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes, if the expressions read no other row."""
        return is_rowwise(self.columns.values(), table.schema, scope)

    def _bound(self, name: str, text: str | pl.Expr, schema: pl.Schema, scope: Scope) -> pl.Expr:
        try:
            return scope.expr(text, schema, "columns", name)
        except Fault as fault:
            for other in self.columns:
                if fault.what == f"unknown column {other!r}":
                    raise Fault(
                        f"column {other!r} is computed in the same derive",
                        "move what uses it into a second derive below",
                        fault.path,
                    ) from None
            raise
