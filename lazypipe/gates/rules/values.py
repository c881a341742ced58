"""Rules on one column, row by row: ``not_null``, ``between``, ``in_set``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any, ClassVar, Literal

import polars as pl

from lazypipe.errors import nearest
from lazypipe.gates.rule import Check, Rule
from lazypipe.spec.arguments import BOUND, COLUMN, COLUMNS, SCALARS, arg, choice
from lazypipe.spec.model import Fault, Param
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name


@dataclass(frozen=True)
class NotNull(Rule):
    """The column must not be null: the one rule for which null is the violation. NaN is not null.

    Several columns make one check each, so that the report says which of them was null.

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
        if self.id is not None and len(self.columns) > 1:
            raise scope.fault("one id cannot name the checks of several columns", "write one rule per column", "id")
        return [self.check(c, schema, scope, violated=pl.col(c).is_null()) for c in self.columns]


@dataclass(frozen=True)
class Between(Rule):
    """The value must lie between bounds, either of which may be left out. Null passes; NaN is outside.

    Bounds on dates, times and datetimes are written as ISO text (a datetime without an offset is in the column's time zone),
    on durations as ``90s``, ``15m``, ``2h``, ``3d`` or ``1w``; a bound may be a parameter, ``:name``.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 9, None]}), [{"between": {"column": "a", "max": 5}}]).failed
    {'between:a': 1}
    """

    name: ClassVar[str] = "between"
    column: str = arg(COLUMN, "The column.")
    min: Any = arg(BOUND, "The least value. Default: none.", default=None)
    max: Any = arg(BOUND, "The greatest value. Default: none.", default=None)
    closed: Literal["both", "left", "right", "none"] = arg(
        choice("both", "left", "right", "none"), "Which bounds are allowed values themselves.", default="both"
    )

    def __post_init__(self) -> None:
        """Check that there is a bound, and that it bounds."""
        super().__post_init__()
        if self.min is None and self.max is None:
            raise Fault("between needs a bound", "give min, max or both", ("column",))
        for argument in ("min", "max"):
            if getattr(self, argument) != getattr(self, argument):
                raise Fault("NaN is no bound", "write a number", (argument,))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: below the least, above the greatest, or NaN."""
        scope.columns([self.column], schema, "column")
        dtype = schema[self.column]
        if not (dtype.is_numeric() or dtype.is_temporal() or dtype == pl.String):
            raise scope.fault(
                f"column {self.column!r} is {dtype_name(dtype)}, which has no order", "use in_set", "column"
            )
        least, most = (self._bound(n, dtype, scope) for n in ("min", "max"))
        column = pl.col(self.column)
        if least is not None and most is not None and bool(pl.select(least > most).item()):
            what = f"min {self.min} is greater than max {self.max}"
            raise scope.fault(what, "no row could pass; exchange them", "min")
        violated: pl.Expr = pl.lit(value=False)
        if least is not None:
            violated = violated | (column < least if self.closed in ("both", "left") else column <= least)
        if most is not None:
            violated = violated | (column > most if self.closed in ("both", "right") else column >= most)
        if dtype.is_float():
            # Polars orders NaN above everything; with only a min it would pass
            violated = violated | column.is_nan()
        return [self.check(self.column, schema, scope, violated=violated)]

    def _bound(self, argument: str, dtype: pl.DataType, scope: Scope) -> pl.Expr | None:
        value = getattr(self, argument)
        if value is None:
            return None
        if isinstance(value, str) and value.startswith(":"):
            if value[1:] not in scope.params:
                raise scope.fault(
                    f"unknown parameter {value}", nearest(value[1:], scope.params, "parameters"), argument
                )
            value = scope.params[value[1:]]
        bound = _typed([value], dtype, scope, argument, self.column)
        if dtype.is_temporal():
            # a Python value would lose nanoseconds
            return pl.lit(bound.to_physical()[0]).cast(bound.dtype)
        return pl.lit(bound[0], dtype=bound.dtype)


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
    column: str = arg(COLUMN, "The column.")
    values: tuple[Any, ...] = arg(SCALARS, "The allowed values.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: not among the values."""
        scope.columns([self.column], schema, "column")
        dtype = schema[self.column]
        values = _typed(self.values, dtype, scope, "values", self.column)
        if values.dtype.is_float() and dtype.is_integer():
            raise _misfit(self.values, dtype, scope, "values", self.column)
        return [self.check(self.column, schema, scope, violated=~pl.col(self.column).is_in(values.implode()))]


def _typed(values: Sequence[Any], dtype: pl.DataType, scope: Scope, argument: str, column: str) -> pl.Series:
    """Return written values as a series that compares with a column of ``dtype``; raises Fault where they cannot."""
    try:
        return _series(values, dtype)
    except (pl.exceptions.PolarsError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise _misfit(values, dtype, scope, argument, column) from error


def _misfit(values: Sequence[Any], dtype: pl.DataType, scope: Scope, argument: str, column: str) -> Fault:
    shown = ", ".join(repr(v) for v in values[:5])
    what = f"{shown} cannot be compared with column {column!r}, which is {dtype_name(dtype)}"
    return scope.fault(what, f"write {'values' if len(values) > 1 else 'a value'} of that type", argument)


_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    pl.Date: date.fromisoformat,
    pl.Time: time.fromisoformat,
    pl.Duration: Param("duration").parse,
    pl.Binary: str.encode,
}


def _series(values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    """Return the values in a type that compares with ``dtype`` without loss; raises errors of many kinds."""
    if dtype == pl.Null:
        return pl.Series(values, strict=True)
    if any(v is None or isinstance(v, bool) is not (dtype == pl.Boolean) for v in values):
        raise TypeError
    if dtype.is_decimal():
        # as many digits as were written: 0.125 is a fair bound for cents
        return pl.Series([_finite(v) for v in values], strict=True)
    if dtype.is_numeric():
        if not all(isinstance(v, int | float | Decimal) for v in values):
            raise TypeError
        if dtype.is_float():
            return pl.Series([float(v) for v in values], dtype=dtype)
        # 0.5 is a fair bound for an integer column
        return pl.Series([int(v) if isinstance(v, float) and v.is_integer() else v for v in values], strict=True)
    parse = _FROM_TEXT.get(dtype.base_type())
    series = pl.Series([parse(v) if parse and isinstance(v, str) else v for v in values], strict=True)
    if isinstance(dtype, pl.Datetime):
        series = _moments(series, dtype)
    kinds = (pl.Date, pl.Datetime) if dtype in (pl.Date, pl.Datetime) else (dtype.base_type(),)
    if dtype in (pl.Categorical, pl.Enum):
        kinds, dtype = (pl.String,), pl.String()
    made = series.cast(dtype)
    if series.dtype.base_type() not in kinds or (made.cast(series.dtype) != series).any():
        raise TypeError
    return made


def _finite(value: Any) -> Decimal:
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError(value)
    return number


def _moments(series: pl.Series, dtype: pl.Datetime) -> pl.Series:
    """Return datetimes, from text too, with a time zone where the column has one."""
    if series.dtype == pl.String:
        found = series.str.to_datetime(time_unit="us")
        if dtype.time_unit == "ns":
            fine = series.str.to_datetime(time_unit="ns")
            if (fine.cast(found.dtype) != found).any():
                raise OverflowError  # nanoseconds end in 2262, and Polars goes round
            found = fine
    else:
        found = series.cast(pl.Datetime("us")) if series.dtype == pl.Date else series
    aware = isinstance(found.dtype, pl.Datetime) and found.dtype.time_zone is not None
    if aware and dtype.time_zone is None:
        raise TypeError
    return found.dt.replace_time_zone(dtype.time_zone) if dtype.time_zone and not aware else found
