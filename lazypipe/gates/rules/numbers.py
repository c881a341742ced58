"""Rules on numbers: ``positive``, ``non_negative``, ``multiple_of``, ``finite``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

import polars as pl
from polars.datatypes import IntegerType

from lazypipe.gates.rule import Check, Rule
from lazypipe.gates.rules.helpers import AMOUNTS, NUMBERS, each, fitting, spacing
from lazypipe.spec.arguments import COLUMN, COLUMNS, NUMBER, arg
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope


@dataclass(frozen=True)
class Positive(Rule):
    """The number or duration must be greater than zero. Null passes; NaN violates. Each column is a check of its own.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 0, -1, None]}), [{"positive": "a"}]).failed
    {'positive:a': 2}
    """

    name: ClassVar[str] = "positive"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns to check.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check per column: zero, below it, or NaN."""

        def make(name: str, index: int) -> tuple[pl.Expr, pl.Expr | None]:
            column, dtype = fitting(name, schema, scope, AMOUNTS, "columns", index)
            least = _least(dtype)
            clipped = None if least is None else column.clip(lower_bound=least)
            return _or_nan(column <= _zero(dtype), column, dtype), clipped

        return each(self, self.columns, schema, scope, make)


@dataclass(frozen=True)
class NonNegative(Rule):
    """The number or duration must be zero or greater. Null passes; NaN violates. Each column is a check of its own.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 0, -1, None]}), [{"non_negative": "a"}]).failed
    {'non_negative:a': 1}
    """

    name: ClassVar[str] = "non_negative"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns to check.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check per column: below zero, or NaN."""

        def make(name: str, index: int) -> tuple[pl.Expr, pl.Expr | None]:
            column, dtype = fitting(name, schema, scope, AMOUNTS, "columns", index)
            zero = _zero(dtype)
            return _or_nan(column < zero, column, dtype), column.clip(lower_bound=zero)

        return each(self, self.columns, schema, scope, make)


@dataclass(frozen=True)
class MultipleOf(Rule):
    """The number must be an integer multiple of another one; 0 and negative multiples pass. Null passes.

    Integers and decimals are compared exactly with ``of`` as it is written: 0.1 is one tenth. A float passes if its
    quotient by ``of`` is within four units in the last place of an integer, so 0.3 is a multiple of 0.1. NaN and
    infinities violate.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [0.3, 0.25, None]}), [{"multiple_of": {"column": "a", "of": 0.1}}]).failed
    {'multiple_of:a': 1}
    """

    name: ClassVar[str] = "multiple_of"
    column: str = arg(COLUMN, "The column to check.")
    of: int | float | Decimal = arg(NUMBER, "The divisor, greater than zero.")

    def __post_init__(self) -> None:
        """Check that there are multiples."""
        super().__post_init__()
        written = isinstance(self.of, int | float | Decimal) and not isinstance(self.of, bool)
        if not written or not math.isfinite(self.of) or self.of <= 0:
            raise Fault(f"nothing is a multiple of {self.of!r}", "write a number greater than zero", ("of",))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: something remains."""
        column, dtype = fitting(self.column, schema, scope, NUMBERS, "column")
        violated = self._inexact(column, dtype) if dtype.is_float() else self._remains(column, dtype)
        return [self.check(self.column, schema, scope, violated=violated, column=self.column)]

    def _remains(self, column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        scale = 0
        if isinstance(dtype, pl.Decimal):
            column, scale, dtype = column.to_physical(), dtype.scale, pl.Int128()
        # x is a multiple of p/q (in lowest terms) exactly if it is one of p
        divisor = (Fraction(Decimal(str(self.of))) * 10**scale).numerator
        assert isinstance(dtype, IntegerType)
        if divisor > pl.select(dtype.max()).item():
            return column != 0
        return column % pl.lit(str(divisor)).cast(dtype) != 0  # no Python number is as wide as UInt128

    def _inexact(self, column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        quotient = column.cast(pl.Float64) / float(self.of)
        away = (quotient - quotient.round()).abs() > 4 * spacing(dtype) * quotient.abs()
        # a quotient too great for a float is as whole as any beyond 2**53
        return ~column.is_finite() | (quotient.is_finite() & away)


@dataclass(frozen=True)
class Finite(Rule):
    """The number must be neither infinite nor NaN. Null passes. Each column is a check of its own.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [0.5, float("inf"), float("nan"), None]}), [{"finite": "a"}]).failed
    {'finite:a': 2}
    """

    name: ClassVar[str] = "finite"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns to check.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check per column: infinite or NaN."""

        def make(name: str, index: int) -> tuple[pl.Expr, pl.Expr | None]:
            column, dtype = fitting(name, schema, scope, NUMBERS, "columns", index)
            # whole numbers and decimals are finite by their type
            return ~column.is_finite() if dtype.is_float() else pl.lit(value=False), None

        return each(self, self.columns, schema, scope, make)


def _zero(dtype: pl.DataType) -> pl.Expr:
    return pl.lit(0).cast(dtype)


def _least(dtype: pl.DataType) -> pl.Expr | None:
    """Return the least value above zero; floats have none worth writing."""
    if dtype.is_float():
        return None
    return pl.lit(Decimal((0, (1,), -dtype.scale)) if isinstance(dtype, pl.Decimal) else 1).cast(dtype)


def _or_nan(violated: pl.Expr, column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    # Polars orders NaN above everything
    return violated | column.is_nan() if dtype.is_float() else violated
