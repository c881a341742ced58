"""Wider types: the one type that holds all values of two others without change, if there is one."""

from __future__ import annotations

from functools import reduce

import polars as pl

from lazypipe.spec.types import instance_of

__all__ = ["widened", "with_fields"]

_SIGNED: tuple[pl.DataType, ...] = (pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.Int128())
_UNSIGNED: tuple[pl.DataType, ...] = (pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64(), pl.UInt128())
_FLOATS: tuple[pl.DataType, ...] = (pl.Float16(), pl.Float32(), pl.Float64())
_EXACT = (11, 24, 53)
"""Bits of whole numbers that floats hold exactly."""
_DIGITS = 38
"""The most digits that a Decimal has."""


def widened(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """Return the narrowest type that holds every value of both, None if there is none.

    Nulls fit everything. Whole numbers become wider ones, or floats that hold them exactly; dates become datetimes at
    midnight, if without a zone; units of time become the finer one (values that it cannot reach then fail a cast);
    categories become text. Lists and structs of the same fields widen inside.

    Examples
    --------
    >>> widened(pl.Int32(), pl.Int64()), widened(pl.Date(), pl.Datetime("us")), widened(pl.Int64(), pl.Float64())
    (Int64, Datetime(time_unit='us', time_zone=None), None)
    """
    if one == other:
        return one
    for here, there in ((one, other), (other, one)):
        found = _widened(here, there)
        if found is not None:
            return found
    return None


def _widened(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    match one, other:
        case pl.Null(), _:
            return other
        case pl.Date(), pl.Datetime(time_zone=None):
            return other
        case pl.Datetime(), pl.Datetime() if one.time_zone == other.time_zone:
            return pl.Datetime(_finer(one.time_unit, other.time_unit), one.time_zone)
        case pl.Duration(), pl.Duration():
            return pl.Duration(_finer(one.time_unit, other.time_unit))
        case ((pl.Categorical() | pl.Enum()), (pl.String() | pl.Categorical() | pl.Enum())):
            return pl.String()
        case pl.Decimal(), pl.Decimal():
            return _decimal(max(one.precision - one.scale, other.precision - other.scale), max(one.scale, other.scale))
        case pl.Decimal(), _ if other.is_integer():
            digits = len(str(2 ** _bits(other)))
            return _decimal(max(one.precision - one.scale, digits), one.scale)
        case pl.List(), pl.List():
            inner = widened(instance_of(one.inner), instance_of(other.inner))
            return None if inner is None else pl.List(inner)
        case pl.Array(), pl.Array() if one.size == other.size:
            inner = widened(instance_of(one.inner), instance_of(other.inner))
            return None if inner is None else pl.Array(inner, one.size)
        case pl.Struct(), pl.Struct() if [f.name for f in one.fields] == [f.name for f in other.fields]:
            pairs = zip(one.fields, other.fields, strict=True)
            found = {a.name: widened(instance_of(a.dtype), instance_of(b.dtype)) for a, b in pairs}
            inside = {name: dtype for name, dtype in found.items() if dtype is not None}
            return pl.Struct(inside) if len(inside) == len(found) else None
    return _number(one, other) if one.is_numeric() and other.is_numeric() else None


def with_fields(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """Return a type with the fields of another that it lacks, at any depth; of fields that are null, nothing was seen.

    Examples
    --------
    >>> here = pl.Struct({"a": pl.Int64()})
    >>> with_fields(here, pl.Struct({"b": pl.String(), "a": pl.Float64(), "c": pl.Null()}))
    Struct({'a': Int64, 'b': String})
    >>> with_fields(pl.List(here), pl.List(pl.Struct({"b": pl.String()}))), with_fields(pl.String(), here)
    (List(Struct({'a': Int64, 'b': String})), String)
    """
    match one, other:
        case pl.Struct(), pl.Struct():
            there = {f.name: instance_of(f.dtype) for f in other.fields}
            here = {f.name: instance_of(f.dtype) for f in one.fields}
            fields = {n: with_fields(t, there[n]) if n in there else t for n, t in here.items()}
            return pl.Struct(fields | {n: t for n, t in there.items() if n not in here and t != pl.Null})
        case pl.List(), pl.List():
            return pl.List(with_fields(instance_of(one.inner), instance_of(other.inner)))
        case pl.Array(), pl.List():
            return pl.Array(with_fields(instance_of(one.inner), instance_of(other.inner)), one.size)
        case pl.Map(), pl.Struct():  # its fields are keys
            types = (instance_of(f.dtype) for f in other.fields)
            return pl.Map(instance_of(one.key), reduce(with_fields, types, instance_of(one.value)))
    return one


def _finer(one: str, other: str) -> pl._typing.TimeUnit:
    for unit in ("ns", "us"):
        if unit in (one, other):
            return unit
    return "ms"


def _number(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    if one.is_float() and other.is_float():
        return max(one, other, key=_FLOATS.index)
    if one.is_integer() and other.is_float():
        needed = _bits(one)
        wide = (f for f, exact in zip(_FLOATS, _EXACT, strict=True) if exact >= needed)
        return next((f for f in wide if _FLOATS.index(f) >= _FLOATS.index(other)), None)
    if one.is_integer() and other.is_integer():
        if one.is_signed_integer() == other.is_signed_integer():
            return max(one, other, key=_bits)
        return next((t for t in _SIGNED if _bits(t) >= max(_bits(one), _bits(other))), None)
    return None


def _bits(dtype: pl.DataType) -> int:
    """Return how many bits the value of a whole number has, without its sign."""
    if dtype in _SIGNED:
        return int(8 * 2 ** _SIGNED.index(dtype)) - 1
    return int(8 * 2 ** _UNSIGNED.index(dtype))


def _decimal(whole: int, scale: int) -> pl.Decimal | None:
    return pl.Decimal(whole + scale, scale) if whole + scale <= _DIGITS else None
