"""A form: how the values of one column are stored in a file, and the expressions that convert them and back.

A form splits a value into parts and joins parts into a value. It need not hold for every value: whoever writes compares what
the parts join into with the value itself (``same``), and keeps what differs as it is, see ``forms``. So a form can be chosen from
a sample, and no value that comes later is lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import polars as pl

__all__ = [
    "INSIDE",
    "Form",
    "Scalar",
    "bits",
    "counted",
    "is_counted",
    "is_scalar",
    "is_ticking",
    "literal",
    "of_count",
    "plain_type",
    "same",
    "scalars",
]

Scalar: TypeAlias = str | int | float | bool
"""A value as it stands in a commit; dates and times are the whole numbers that they are stored as."""

INSIDE = ""
"""Name of the part that stands in the file under the column's own name."""
_DIGITS = 18
_TICKING = (pl.Date, pl.Datetime, pl.Duration)
"""Types that are whole numbers inside, of which each is a value."""


def is_ticking(dtype: pl.DataType) -> bool:
    """Whether values are whole numbers of at most 64 bits inside."""
    return isinstance(dtype, _TICKING) or (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128))


def is_counted(dtype: pl.DataType) -> bool:
    """Whether values are whole numbers inside that 64 bits hold: also decimals of up to 18 digits."""
    return is_ticking(dtype) or (isinstance(dtype, pl.Decimal) and dtype.precision <= _DIGITS)


def counted(value: pl.Expr) -> pl.Expr:
    """Return what a value is inside, as a whole number of 64 bits; null where it is longer."""
    return value.to_physical().cast(pl.Int64, strict=False)


def of_count(count: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return the value that a whole number of 64 bits is inside; null where the type does not hold it.

    Examples
    --------
    >>> pl.select(of_count(pl.lit(1234), pl.Decimal(15, 2))).item()
    Decimal('12.34')
    """
    if not isinstance(dtype, pl.Decimal):
        return count.cast(plain_type(dtype), strict=False).cast(dtype)
    end = 10**dtype.precision
    within = pl.when((count > -end) & (count < end)).then(count)  # else Polars refuses it
    return within.cast(pl.Int128).reinterpret(dtype=dtype)


def same(one: pl.Expr, other: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return whether two values are the same in every bit; a null is a null.

    Examples
    --------
    >>> frame = pl.DataFrame({"a": [0.0, 0.0, float("nan"), None], "b": [0.0, -0.0, float("nan"), None]})
    >>> frame.select(same(pl.col("a"), pl.col("b"), pl.Float64())).to_series().to_list()
    [True, False, True, True]
    """
    if dtype in (pl.Float64, pl.Float32):
        inside = pl.UInt64 if dtype == pl.Float64 else pl.UInt32
        one, other = one.reinterpret(dtype=inside), other.reinterpret(dtype=inside)
    return one.eq_missing(other)


def literal(value: Scalar, dtype: pl.DataType) -> pl.Expr:
    """Return a value that is written as a scalar as a literal of its type."""
    return pl.lit(pl.Series([value], dtype=plain_type(dtype))).first().cast(dtype)


def scalars(values: pl.Series) -> list[Any]:
    """Return values as scalars that ``literal`` takes."""
    return values.to_physical().to_list() if isinstance(values.dtype, _TICKING) else values.to_list()


def plain_type(dtype: pl.DataType) -> pl.DataType:
    """Return the type of what a value is inside."""
    if isinstance(dtype, _TICKING):
        return pl.Int32() if dtype == pl.Date else pl.Int64()
    return dtype


def is_scalar(dtype: pl.DataType) -> bool:
    """Whether values can be written as scalars."""
    return dtype in (pl.String, pl.Boolean, pl.Float32, pl.Float64) or is_ticking(dtype)


def bits(dtype: pl.DataType) -> int:
    """Return how long whole numbers of a type are."""
    return int(str(dtype).lstrip("UInt"))


@dataclass(frozen=True)
class Form(ABC):
    """How the values of one column stand in a file."""

    kind: ClassVar[str]

    @property
    def needs(self) -> tuple[str, ...]:
        """Other columns without which values cannot be told."""
        return ()

    def leans_on(self, dtype: pl.DataType) -> bool:
        """Whether the columns that it needs may be of a type."""
        return True

    @abstractmethod
    def fits(self, dtype: pl.DataType) -> bool:
        """Whether values of a type can stand in this form at all."""

    @abstractmethod
    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return the parts of a value, with their types; the part ``""`` takes the column's place."""

    @abstractmethod
    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Return the parts of a value; null where there is none."""

    @abstractmethod
    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Return the value that parts make; never fails on parts that ``split`` gave."""

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return what makes this form, as plain data."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data: its kind, and what makes it."""
        return {"kind": self.kind, **self.arguments()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Form:
        """Read it back; raises what broken data raises (``forms.from_dict`` translates that)."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items() if k != "kind"})
