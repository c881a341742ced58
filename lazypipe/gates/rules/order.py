"""Rules on the order of rows: ``increasing``, ``decreasing``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.gates.rule import Check, Rule
from lazypipe.gates.rules.helpers import ORDERED, comparable, fitting
from lazypipe.spec.arguments import COLUMN, COLUMNS, FLAG, arg
from lazypipe.spec.scope import Scope


@dataclass(frozen=True)
class _InOrder(Rule):
    """A value held against the one before it, in an order of rows."""

    rising: ClassVar[bool]
    """Whether values are to go up."""
    column: str = arg(COLUMN, "The column to check.")
    order_by: tuple[str, ...] = arg(COLUMNS, "The columns that order the rows.")
    by: tuple[str, ...] = arg(
        COLUMNS, "The columns to group by; each group is checked separately. Default: all rows together.", default=()
    )
    strictly: bool = arg(FLAG, "Whether an equal value violates too. Default: no.", default=False)

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: less, or greater, than the value before."""
        column, dtype = fitting(self.column, schema, scope, ORDERED, "column")
        scope.columns(self.order_by, schema, "order_by")
        scope.columns(self.by, schema, "by")
        comparable(self.order_by, schema, scope, "order_by")
        comparable(self.by, schema, scope, "by")
        # integers count in the same order as what they stand for, and ~x turns it round without overflow
        number = column.fill_nan(None) if dtype.is_float() else column.to_physical()
        counts = pl.all_horizontal(pl.col(c).is_not_null() for c in self.order_by)
        if self.where is not None:
            counts = counts & self.bind(self.where, schema, scope, "where")
        value = pl.when(counts).then(number)
        ties = number if self.rising else -number if dtype.is_float() else ~number
        # null where there is nothing to compare
        before = value.forward_fill().shift(1).over(self.by or None, order_by=[*self.order_by, ties])
        if self.rising:
            violated = value <= before if self.strictly else value < before
        else:
            violated = value >= before if self.strictly else value > before
        if dtype.is_float():
            violated = violated | column.is_nan()
        return [self.check(self.column, schema, scope, violated=violated, column=self.column)]


@dataclass(frozen=True)
class Increasing(_InOrder):
    """A value must not be less than the previous one, in the order of ``order_by``, within each group of ``by``.

    Rows have no order of their own (a streaming query keeps none), so ``order_by`` is required. Null passes and is
    skipped: its neighbours are compared with each other. Rows outside of ``where``, and rows with a null in
    ``order_by``, are skipped too. NaN violates and is skipped. The first row of a group passes; null in ``by`` is a
    group. Rows that tie in ``order_by`` are taken in the order of their values, which violates least.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"day": [1, 2, 3, 4], "km": [10, 20, 15, 15]})
    >>> lp.check(frame, [{"increasing": {"column": "km", "order_by": "day"}}]).failed
    {'increasing:km': 1}
    """

    name: ClassVar[str] = "increasing"
    rising: ClassVar[bool] = True


@dataclass(frozen=True)
class Decreasing(_InOrder):
    """A value must not be greater than the previous one, in the order of ``order_by``, within each group of ``by``.

    Nulls, NaN, ties and groups are treated as in ``increasing``.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"day": [1, 2, 3, 4], "left": [9, 5, 6, 6]})
    >>> rules = [{"decreasing": {"column": "left", "order_by": "day", "strictly": True}}]
    >>> lp.check(frame, rules).failed
    {'decreasing:left': 2}
    """

    name: ClassVar[str] = "decreasing"
    rising: ClassVar[bool] = False
