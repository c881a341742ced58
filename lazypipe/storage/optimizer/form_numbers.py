"""Forms of numbers, dates and times: narrower types, counts of units, differences, floats with few decimals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import polars as pl

from lazypipe.spec.types import dtype_from_name, dtype_name
from lazypipe.storage.optimizer.form import INSIDE, Form, bits, counted, is_counted, of_count

__all__ = ["Cast", "Multiple", "Paged", "Scaled", "Whole"]

_EXACT_BITS = {8: 21, 16: 21, 32: 21, 64: 13}
"""Bits of a factor whose product with a whole number of so many bits (of 64: of 40) is exact."""

_MOST_PLACES = 1 << 16


@dataclass(frozen=True)
class Cast(Form):
    """Values of a narrower type that holds them: shorter integers, floats of half the size, decimals of fewer digits, dates.

    Examples
    --------
    >>> form = Cast(pl.Int8())
    >>> form.to_dict(), form.fits(pl.Int64()), form.fits(pl.String())
    ({'kind': 'cast', 'dtype': 'Int8'}, True, False)
    """

    kind: ClassVar[str] = "cast"
    dtype: pl.DataType

    def fits(self, dtype: pl.DataType) -> bool:
        """Numbers of one kind, floats that are whole numbers, datetimes of a coarser unit, or at midnight."""
        to = self.dtype
        match dtype:
            case pl.Datetime():
                return to == pl.Date() if dtype.time_zone is None and to == pl.Date() else _is_coarser(dtype, to)
            case pl.Duration():
                return _is_coarser(dtype, to)
            case pl.Decimal():
                return isinstance(to, pl.Decimal)
        if dtype.is_float():
            return (to.is_float() or to.is_integer()) and to != dtype
        return dtype.is_integer() and to.is_integer() and to != dtype

    def widens(self, dtype: pl.DataType) -> bool:
        """Whether Polars' scan of Parquet widens values itself, and skips row groups as if they stood there in that type."""
        to = self.dtype
        if to.is_integer() and dtype.is_integer():
            return to.is_signed_integer() == dtype.is_signed_integer() and bits(to) < bits(dtype)
        return (to, dtype) == (pl.Float32(), pl.Float64())

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return the narrower value."""
        return {INSIDE: self.dtype}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Cast the value; null where it does not fit."""
        return {INSIDE: value.cast(self.dtype, strict=False)}

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Cast it back."""
        return parts[INSIDE].cast(dtype, strict=False)

    def arguments(self) -> dict[str, Any]:
        """Return the type."""
        return {"dtype": dtype_name(self.dtype)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Cast:
        """Read it back."""
        return cls(dtype_from_name(plain["dtype"]))


def _is_coarser(dtype: pl.Datetime | pl.Duration, to: pl.DataType) -> bool:
    units = ("ns", "us", "ms")
    if isinstance(dtype, pl.Datetime):
        alike = isinstance(to, pl.Datetime) and to.time_zone == dtype.time_zone
    else:
        alike = isinstance(to, pl.Duration)
    return alike and units.index(to.time_unit) > units.index(dtype.time_unit)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Whole(Form):
    """Whole numbers, decimals, dates, datetimes and durations, counted in a ``unit``, from 0 or from another column's value.

    Examples
    --------
    >>> seconds = Whole(pl.Int32(), unit=1_000_000, base="event_time")
    >>> seconds.needs, seconds.fits(pl.Datetime("us"))
    (('event_time',), True)
    """

    kind: ClassVar[str] = "whole"
    dtype: pl.DataType
    unit: int = 1
    base: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The other column."""
        return () if self.base is None else (self.base,)

    def leans_on(self, dtype: pl.DataType) -> bool:
        """Whole numbers of up to 64 bits, decimals of up to 18 digits, dates, datetimes and durations."""
        return is_counted(dtype)

    def fits(self, dtype: pl.DataType) -> bool:
        """Whole numbers of up to 64 bits, decimals of up to 18 digits, dates, datetimes and durations."""
        return is_counted(dtype) and self.dtype.is_signed_integer() and self.dtype != pl.Int128 and self.unit > 0

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return the count."""
        return {INSIDE: self.dtype}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Count the units; null where the other column is null."""
        count = counted(value)
        count = count if self.base is None else count - counted(pl.col(self.base))
        count = count if self.unit == 1 else count // self.unit
        return {INSIDE: count.cast(self.dtype, strict=False)}

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Multiply and add."""
        count = parts[INSIDE].cast(pl.Int64)
        count = count if self.unit == 1 else count * self.unit
        count = count if self.base is None else count + counted(pl.col(self.base))
        return of_count(count, dtype)

    def arguments(self) -> dict[str, Any]:
        """Return what differs from a count of ones from 0."""
        plain: dict[str, Any] = {"dtype": dtype_name(self.dtype), "unit": self.unit}
        return plain | ({} if self.base is None else {"base": self.base})

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Whole:
        """Read it back."""
        return cls(dtype_from_name(plain["dtype"]), plain["unit"], plain.get("base"))


@dataclass(frozen=True)
class Multiple(Form):
    """Whole numbers and decimals as how many times they hold another column's value: a total as the price of one of ``by``.

    The other column is counted in a ``unit``, so that 3.00 of something is three of it. Where it is 0, so is what is kept.

    Examples
    --------
    >>> form = Multiple(pl.Int32(), "quantity", unit=100)
    >>> form.needs, form.fits(pl.Decimal(15, 2)), form.fits(pl.String())
    (('quantity',), True, False)
    """

    kind: ClassVar[str] = "multiple"
    dtype: pl.DataType
    by: str
    unit: int = 1

    @property
    def needs(self) -> tuple[str, ...]:
        """The other column."""
        return (self.by,)

    def leans_on(self, dtype: pl.DataType) -> bool:
        """Whole numbers of up to 64 bits, and decimals of up to 18 digits."""
        return _is_amount(dtype)

    def fits(self, dtype: pl.DataType) -> bool:
        """Whole numbers of up to 64 bits, and decimals of up to 18 digits."""
        return _is_amount(dtype) and self.dtype.is_signed_integer() and self.dtype != pl.Int128 and self.unit > 0

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return how many times."""
        return {INSIDE: self.dtype}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Divide, towards what is less; null where the other column is null."""
        by = self._times()
        # a null stays one: nothing stands aside for it
        times = pl.when((by == 0) & value.is_not_null()).then(0).otherwise(counted(value) // by)
        return {INSIDE: times.cast(self.dtype, strict=False)}

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Multiply."""
        return of_count(parts[INSIDE].cast(pl.Int64) * self._times(), dtype)

    def _times(self) -> pl.Expr:
        by = counted(pl.col(self.by))
        return by if self.unit == 1 else by // self.unit

    def arguments(self) -> dict[str, Any]:
        """Return the type, and the other column in its unit."""
        return {"dtype": dtype_name(self.dtype), "by": self.by, "unit": self.unit}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Multiple:
        """Read it back."""
        return cls(dtype_from_name(plain["dtype"]), plain["by"], plain["unit"])


def _is_amount(dtype: pl.DataType) -> bool:
    return is_counted(dtype) and not dtype.is_temporal()


@dataclass(frozen=True)
class Paged(Form):
    """Whole numbers, dates and times that rise, as a page and a place in it: pages come in runs, and places come again and again.

    So a writer that has no encoding for differences packs both.

    Examples
    --------
    >>> form = Paged()
    >>> pl.select(**{f"part {n}": e for n, e in form.split(pl.lit(-1), pl.Int32()).items()}).row(0)
    (-1, 255)
    """

    kind: ClassVar[str] = "paged"
    places: int = 256

    def fits(self, dtype: pl.DataType) -> bool:
        """Whole numbers of up to 64 bits, decimals of up to 18 digits, dates, datetimes and durations."""
        return is_counted(dtype) and 1 < self.places <= _MOST_PLACES

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return the page, and the place."""
        return {"page": pl.Int64(), "place": pl.UInt16()}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Divide, towards what is less."""
        count = counted(value)
        return {"page": count // self.places, "place": (count % self.places).cast(pl.UInt16)}

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Multiply and add."""
        return of_count(parts["page"] * self.places + parts["place"], dtype)

    def arguments(self) -> dict[str, Any]:
        """Return the places of a page."""
        return {"places": self.places}


@dataclass(frozen=True)
class Scaled(Form):
    """Floats with few decimals as whole numbers: 12.34 as 1234.

    Dividing 1234 by 100 gives the float that is written 12.34, in every bit, but Polars multiplies with 1/100 instead where it
    divides by one number, and a column of hundreds is no way round that: it may be one row long. So 1/100 is kept in two
    parts, of which the first is short enough that its product is exact, and the sum of both products is rounded once.

    Where a program has multiplied with 1/100 itself, which gives another float in 13 % of the values, ``product`` does the same.

    Examples
    --------
    >>> Scaled(2, pl.Int32()).join({"": pl.lit(123)}, pl.Float64()).pipe(pl.select).item()
    1.23
    """

    kind: ClassVar[str] = "scaled"
    digits: int
    dtype: pl.DataType
    product: bool = False

    def fits(self, dtype: pl.DataType) -> bool:
        """Floats of 64 bits, with up to eight decimals."""
        signed = self.dtype.is_signed_integer() and self.dtype != pl.Int128
        return dtype == pl.Float64 and signed and 0 < self.digits <= 8

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return the whole number."""
        return {INSIDE: self.dtype}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Multiply and round; null for what is not a number."""
        return {INSIDE: (value * 10.0**self.digits).round(0).cast(self.dtype, strict=False)}

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Divide."""
        if self.product:
            return parts[INSIDE].cast(pl.Float64) * float(Fraction(1, 10**self.digits))
        exact = Fraction(1, 10**self.digits)
        shift = 10**self.digits
        places = shift.bit_length() + _EXACT_BITS[bits(self.dtype)] - 1
        short = Fraction((exact * 2**places).__floor__(), 2**places)
        number = parts[INSIDE].cast(pl.Float64)
        return number * float(short) + number * float(exact - short)

    def arguments(self) -> dict[str, Any]:
        """Return the decimals and the type, and whether values are products."""
        plain: dict[str, Any] = {"digits": self.digits, "dtype": dtype_name(self.dtype)}
        return plain | ({"product": True} if self.product else {})

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Scaled:
        """Read it back."""
        return cls(plain["digits"], dtype_from_name(plain["dtype"]), bool(plain.get("product")))
