"""Windows with aggregates that cannot be added up, in two steps: assign each row to its windows, then group.

So what makes rows of groups anew, and reads only the files that hold such rows, knows windows as it knows any other group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import polars as pl

from lazypipe.ops import Operation, Scope, Table
from lazypipe.ops.window import Window

__all__ = ["in_two"]


def in_two(operation: Operation, table: Table, scope: Scope) -> tuple[Operation, ...]:
    """Return the steps that an operation is compiled as: itself, but for windows that are not made of figures.

    Examples
    --------
    >>> from lazypipe.spec.model import Step
    >>> schema = pl.Schema({"t": pl.Date(), "x": pl.Int64()})
    >>> rows, scope = Table(pl.LazyFrame(schema=schema), schema), Scope(Window, Step("window", {}))
    >>> made = (Window("t", ("1d",), {"a": a}) for a in ("median(x)", "sum(x)"))
    >>> [[type(step).__name__ for step in in_two(window, rows, scope)] for window in made]
    [['Placed', 'Grouped'], ['Window']]
    """
    if not isinstance(operation, Window):
        return (operation,)
    times = table.schema[operation.time]
    # where times end two windows may begin at the same one
    if operation.fold(table, scope) is not None or (isinstance(times, pl.Datetime) and times.time_unit == "ns"):
        return (operation,)
    return (Placed(operation), Grouped(**{f.name: getattr(operation, f.name) for f in fields(operation)}))


@dataclass(frozen=True)
class Placed(Operation):
    """Put each row into its windows."""

    name: ClassVar[str] = "window"
    window: Window

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to columns, and to rows that stand several times where windows overlap."""
        return self.window.placed(table, scope)

    def each(self, table: Table, scope: Scope) -> bool:
        """Its time alone decides in which windows a row lies."""
        return True


@dataclass(frozen=True)
class Grouped(Window):
    """Windows of rows that know theirs."""

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``group_by``."""
        made = self.grouped(table, scope)
        assert made is not None
        return made

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of those of its window."""
        return self.grouped(table, scope, carry=True)

    def fold(self, table: Table, scope: Scope) -> None:
        """Its aggregates do not add up."""

    def apart(self, table: Table, scope: Scope) -> Mapping[str, str]:
        """Rows of other windows have nothing to do with each other."""
        return self.groups()
