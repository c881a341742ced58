"""Rules on one column, row by row: ``not_null``, ``null``, ``not_empty``, ``between``, ``in_set``, ``not_in_set``."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import reduce
from typing import Any, ClassVar, Literal

import polars as pl

from lazypipe.gates.rule import Check, Rule
from lazypipe.gates.rules.bounds import CLOSED, Bounds
from lazypipe.gates.rules.helpers import LONG, ORDERED, TEXTS, each, fitting, is_text, length, one_of
from lazypipe.gates.written import literal, misfit, resolved, typed_values
from lazypipe.spec.arguments import BOUND, COLUMN, COLUMNS, FLAG, SCALARS, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope


@dataclass(frozen=True)
class NotNull(Rule):
    """The column must not be null. NaN is not null.

    Other rules let null pass, unless they say otherwise. Each column is a check of its own, so that the report says
    which of them was null.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, None]}), [{"not_null": "a"}]).failed
    {'not_null:a': 1}
    """

    name: ClassVar[str] = "not_null"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns that must have a value.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check per column."""
        scope.columns(self.columns, schema, "columns")
        return each(self, self.columns, schema, scope, lambda name, _: (pl.col(name).is_null(), None))


@dataclass(frozen=True)
class Null(Rule):
    """The column must be null: any value violates, NaN too. Each column is a check of its own.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"null": {"columns": "closed_at", "where": "status = 'open'"}}]
    >>> lp.check(pl.DataFrame({"closed_at": [1, None], "status": ["open", "open"]}), rules).failed
    {'null:closed_at': 1}
    """

    name: ClassVar[str] = "null"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns that must be null.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check per column."""
        scope.columns(self.columns, schema, "columns")
        return each(self, self.columns, schema, scope, lambda name, _: (pl.col(name).is_not_null(), None))


@dataclass(frozen=True)
class NotEmpty(Rule):
    """Text, lists and binary values must not be empty. Null passes (use ``not_null`` for that). Each column is a check of its own.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"a": ["", " ", "x", None]})
    >>> lp.check(frame, [{"not_empty": "a"}, {"not_empty": {"columns": "a", "blank": True, "id": "blank"}}]).failed
    {'not_empty:a': 1, 'blank': 2}
    """

    name: ClassVar[str] = "not_empty"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns to check.")
    blank: bool = arg(FLAG, "Whether text of nothing but white space violates too. Default: no.", default=False)

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check per column: nothing in it."""

        def make(name: str, index: int) -> tuple[pl.Expr, None]:
            column, dtype = fitting(name, schema, scope, TEXTS if self.blank else LONG, "columns", index)
            if self.blank:
                return column.cast(pl.String).str.strip_chars() == "", None
            # comparing is cheaper than measuring
            return (column.cast(pl.String) == "" if is_text(dtype) else length(column, dtype) == 0), None

        return each(self, self.columns, schema, scope, make)


@dataclass(frozen=True)
class Between(Rule):
    """The value must lie within bounds, either of which may be left out. Null passes; NaN violates.

    Write bounds on dates, times and datetimes as ISO text; a datetime without an offset is in the column's time zone.
    Write bounds on durations as ``90s``, ``15m``, ``2h``, ``3d`` or ``1w``. A bound may be a parameter, ``:name``.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 9, None]}), [{"between": {"column": "a", "max": 5}}]).failed
    {'between:a': 1}
    """

    name: ClassVar[str] = "between"
    column: str = arg(COLUMN, "The column to check.")
    min: Any = arg(BOUND, "The lower bound. Default: none.", default=None)
    max: Any = arg(BOUND, "The upper bound. Default: none.", default=None)
    closed: Literal["both", "left", "right", "none"] = arg(
        choice(*CLOSED),
        "Which of the bounds are allowed values themselves: both, only the lower (left), only the upper "
        "(right), or none.",
        default="both",
    )

    def __post_init__(self) -> None:
        """Check that there is a bound, and that ``closed`` is a known word."""
        super().__post_init__()
        if self.min is None and self.max is None:
            raise Fault("between needs a bound", "give min, max or both", ("column",))
        one_of(self.closed, CLOSED, "closed")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: below the least, above the greatest, or NaN."""
        column, dtype = fitting(self.column, schema, scope, _BOUNDED, "column")
        least, most = (self._bound(n, dtype, scope) for n in ("min", "max"))
        bounds = Bounds(least, most, self.closed)
        if bounds.crossed:
            what = f"min {self.min} is greater than max {self.max}"
            raise scope.fault(what, "no row could pass; swap them", "min")
        if bounds.empty:
            what = f"nothing lies between {self.min} and {self.max} unless both are allowed"
            raise scope.fault(what, "write closed: both, or other bounds", "closed")
        if most is None:
            assert least is not None
            violated = column < literal(least) if bounds.takes("left") else column <= literal(least)
            if dtype.is_float():
                violated = violated | column.is_nan()  # Polars orders NaN above everything
        elif least is None:
            violated = column > literal(most) if bounds.takes("right") else column >= literal(most)
        else:
            violated = ~column.is_between(literal(least), literal(most), closed=self.closed)
        clipped = bounds.nearest(column, dtype)
        return [self.check(self.column, schema, scope, violated=violated, column=self.column, clipped=clipped)]

    def _bound(self, argument: str, dtype: pl.DataType, scope: Scope) -> pl.Series | None:
        value = getattr(self, argument)
        if value is None:
            return None
        value = resolved(value, scope, argument)
        if isinstance(value, float | Decimal) and math.isnan(value):
            raise scope.fault("NaN is not a bound", "write a number", argument)
        return typed_values([value], dtype, scope, argument, self.column)


_BOUNDED = replace(ORDERED, words="what has an order", fits=lambda t: ORDERED.fits(t) or t == pl.String)


@dataclass(frozen=True)
class InSet(Rule):
    """The value must be one of a list. Null passes.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"in_set": {"column": "a", "values": ["x", "y"]}}]
    >>> lp.check(pl.DataFrame({"a": ["x", "z", None]}), rules).failed
    {'in_set:a': 1}
    """

    name: ClassVar[str] = "in_set"
    column: str = arg(COLUMN, "The column to check.")
    values: tuple[Any, ...] = arg(SCALARS, "The allowed values.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: not among the values."""
        member = _member(self, schema, scope)
        return [self.check(self.column, schema, scope, violated=~member, column=self.column)]


@dataclass(frozen=True)
class NotInSet(Rule):
    """The value must not be one of a list. Null passes.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"not_in_set": {"column": "a", "values": ["n/a", "-"]}}]
    >>> lp.check(pl.DataFrame({"a": ["x", "n/a", None]}), rules).failed
    {'not_in_set:a': 1}
    """

    name: ClassVar[str] = "not_in_set"
    column: str = arg(COLUMN, "The column to check.")
    values: tuple[Any, ...] = arg(SCALARS, "The values that must not occur.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: among the values."""
        member = _member(self, schema, scope)
        return [self.check(self.column, schema, scope, violated=member, column=self.column)]


_FEW, _INLINE = 8, 12
"""So many strings of so many bytes, which Polars holds in place, are compared sooner one by one than looked up (5 values: 9 ns, 27 ns)."""


def _member(rule: InSet | NotInSet, schema: pl.Schema, scope: Scope) -> pl.Expr:
    """Return whether the value is one of the rule's."""
    scope.columns([rule.column], schema, "column")
    column, dtype = pl.col(rule.column), schema[rule.column]
    values = typed_values(rule.values, dtype, scope, "values", rule.column)
    if values.dtype.is_float() and dtype.is_integer():
        raise misfit(rule.values, dtype, scope, "values", rule.column)
    if values.dtype == pl.String and len(values) <= _FEW and (values.str.len_bytes() <= _INLINE).all():
        found: pl.Expr = reduce(operator.or_, (column == value for value in values))
        return found
    return column.is_in(values.implode())
