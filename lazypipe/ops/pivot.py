"""``pivot``: values of a column become columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import polars as pl

from lazypipe.ops.base import MADE, MADE_FROM, Operation, Scope, Table
from lazypipe.spec.arguments import COLUMN, COLUMNS, SCALARS, arg, choice
from lazypipe.spec.types import dtype_name
from lazypipe.sql.bind import NARROW
from lazypipe.sql.exprs import try_out, value_of

_AGGREGATES = ("first", "last", "sum", "min", "max", "mean", "median", "len")


@dataclass(frozen=True)
class Pivot(Operation):
    """Turn the listed values of a column into columns: one row per ``index``.

    The values are listed so that the schema is known before any data is read; rows with other values are ignored. A
    cell without any rows is null, or 0 for ``len`` and ``sum``.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.LazyFrame({"k": [1, 1], "m": ["a", "b"], "v": [5, 6]})
    >>> step = {"pivot": {"on": "m", "into": ["a", "b"], "index": "k", "values": "v", "aggregate": "sum"}}
    >>> lp.apply(step, frame).collect().rows()
    [(1, 5, 6)]
    """

    name: ClassVar[str] = "pivot"
    on: str = arg(COLUMN, "The column whose values become columns.")
    into: tuple[Any, ...] = arg(SCALARS, "The values that become columns.")
    values: str = arg(COLUMN, "The column whose values fill the cells.")
    index: tuple[str, ...] = arg(COLUMNS, "The columns that identify a row of the result.")
    aggregate: Literal["first", "last", "sum", "min", "max", "mean", "median", "len"] = arg(
        choice(*_AGGREGATES), "How to combine several rows that fall into one cell."
    )

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``pivot`` with known columns."""
        scope.columns([self.on], table.schema, "on")
        scope.columns([self.values], table.schema, "values")
        scope.columns(self.index, table.schema, "index")
        try:
            values = pl.Series(self.into, dtype=table.schema[self.on], strict=True)
            names = values.cast(pl.String).to_list()
        except (pl.exceptions.PolarsError, TypeError) as error:
            what = f"the values do not fit column {self.on!r}, which is {dtype_name(table.schema[self.on])}"
            raise scope.fault(what, "write values of that type", "into") from error
        made = list(self.index)
        for index, name in enumerate(names):
            if name in made:
                what = f"two columns would be called {name!r}"
                raise scope.fault(what, "list each value once, and no index column", "into", index)
            made.append(name)
        self._try(table.schema[self.values], scope)
        frame = table.frame
        if self.aggregate == "sum" and table.schema[self.values] in NARROW:
            frame = frame.cast({self.values: pl.Int64})
        return frame.pivot(
            self.on, values, index=list(self.index), values=self.values, aggregate_function=self.aggregate
        )

    def _try(self, dtype: pl.DataType, scope: Scope) -> None:
        """Raise Fault where values of the type have no such aggregate: over no rows Polars would not say so."""
        try:
            try_out(getattr(pl.col("x"), self.aggregate)(), value_of(dtype).to_frame("x"))
        except pl.exceptions.PolarsError as error:
            what = f"column {self.values!r} is {dtype_name(dtype)}, which has no {self.aggregate}"
            raise scope.fault(what, "choose first, last or len, or cast the column first", "aggregate") from error

    def large(self, large: frozenset[str]) -> bool:
        """It is not known how many groups there are."""
        return False

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of those with its values of ``index``."""
        if any(table.schema[name].is_nested() for name in self.index):
            return None
        lowered = self.lower(Table(table.frame.drop(MADE_FROM), table.schema), scope)
        groups = table.frame.group_by(self.index).agg(MADE)
        return lowered.join(groups, on=self.index, how="left", nulls_equal=True)
