"""Values in a definition, converted to the type of the column that they are compared with, without loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

import polars as pl

from lazypipe.errors import nearest
from lazypipe.spec.model import Fault, Param
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name

__all__ = ["exactly", "literal", "misfit", "resolved", "typed_values"]

_ERRORS = (pl.exceptions.PolarsError, TypeError, ValueError, ArithmeticError, RuntimeError)
"""What Polars and Python raise for values that are not of a type."""


def resolved(value: Any, scope: Scope, argument: str, *rest: str) -> Any:
    """Return what was written, or the value of the parameter that it names as ``:name``."""
    if not (isinstance(value, str) and value.startswith(":")):
        return value
    if value[1:] not in scope.params:
        hint = nearest(value[1:], scope.params, "parameters")
        raise scope.fault(f"unknown parameter {value}", hint, argument, *rest)
    return scope.params[value[1:]]


def literal(value: pl.Series) -> pl.Expr:
    """Return the one value of a series as an expression.

    Examples
    --------
    >>> pl.select(literal(pl.Series([3]))).item()
    3
    """
    if value.dtype.is_temporal():
        # a Python value would lose nanoseconds
        return pl.lit(value.to_physical()[0]).cast(value.dtype)
    return pl.lit(value[0], dtype=value.dtype)


def exactly(value: Any, dtype: pl.DataType) -> pl.Series | None:
    """Return a written value as a series of just that type; None where it is no value of it.

    Examples
    --------
    >>> exactly(2, pl.Float64()).to_list(), exactly(2.5, pl.Int64())
    ([2.0], None)
    """
    try:
        written = _series([value], dtype)
        made = written.cast(dtype)
        same = made.cast(written.dtype) == written
    except _ERRORS:
        return None
    return made if same.all() and made.null_count() == 0 else None


def typed_values(values: Sequence[Any], dtype: pl.DataType, scope: Scope, argument: str, column: str) -> pl.Series:
    """Return written values as a series that compares with a column of ``dtype``; raises Fault where they cannot."""
    try:
        return _series(values, dtype)
    except _ERRORS as error:
        raise misfit(values, dtype, scope, argument, column) from error


def misfit(values: Sequence[Any], dtype: pl.DataType, scope: Scope, argument: str, column: str) -> Fault:
    """Return the mistake that values, or some of them, cannot be compared with a column."""
    wrong = [v for v in values if not _fits(v, dtype)] or values
    what = (
        f"{', '.join(map(_shown, wrong[:5]))} cannot be compared with column {column!r}, which is {dtype_name(dtype)}"
    )
    fix = f"write {'values' if len(wrong) > 1 else 'a value'} of that type"
    if None in wrong:
        fix = "leave null out: nulls pass, and not_null refuses them"
    elif dtype == pl.String and all(isinstance(v, int | float | Decimal) for v in wrong):
        fix = "write " + ", ".join(f"'{_shown(v)}'" for v in wrong[:5]) + ", in quotes"
    return scope.fault(what, fix, argument)


def _shown(value: Any) -> str:
    """Return a value as definitions write it."""
    return (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or value is True or value is False
        else repr(value)
    )


def _fits(value: Any, dtype: pl.DataType) -> bool:
    try:
        _series([value], dtype)
    except _ERRORS:
        return False
    return True


_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    pl.Date: date.fromisoformat,
    pl.Time: time.fromisoformat,
    pl.Duration: Param("duration").parse,
    pl.Binary: str.encode,
}


def _series(values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    """Return the values in a type that compares with ``dtype`` without loss; raises errors of many kinds."""
    if any(v is None for v in values):
        raise TypeError
    if dtype == pl.Null:
        return pl.Series(values, strict=True)
    if any(isinstance(v, bool) is not (dtype == pl.Boolean) for v in values):
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
        numbers = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
        if dtype == pl.UInt128:
            return pl.Series(numbers, dtype=dtype, strict=True)  # Polars has no type that holds both it and others
        # Polars takes the width of the first number
        wide = all(isinstance(n, int) for n in numbers) and not all(-(2**63) <= n < 2**63 for n in numbers)
        return pl.Series(numbers, dtype=pl.Int128 if wide else None, strict=True)
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
