"""Candidates for writing a column: forms and encodings that its profile suggests, to be tried."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

from lazypipe.storage.optimizer.form import Form, is_counted, is_scalar, is_ticking, scalars
from lazypipe.storage.optimizer.form_known import Constant, Determined
from lazypipe.storage.optimizer.form_numbers import Cast, Multiple, Paged, Scaled, Whole
from lazypipe.storage.optimizer.form_texts import Coded, Flag
from lazypipe.storage.optimizer.profile import ColumnProfile, Profile
from lazypipe.storage.optimizer.relations import Relation

__all__ = ["encodings_for", "forms_for"]

_CODES = 255
"""Texts up to which a list of them stands in the commit."""
_REPEATS = 20
"""How often each of these texts must stand in the sample, on average, so that few others are to be expected."""
_HEADROOM = 2
"""How many times greater later values may be than those seen, before a narrower type loses them."""
_RISING = 0.98
"""Which part of the steps from a value to the next must not fall, for values to be counted in pages."""
_INTS: tuple[tuple[pl.DataType, int], ...] = ((pl.Int32(), 31), (pl.Int64(), 63))
"""Parquet has no shorter ones."""


def forms_for(column: ColumnProfile, profile: Profile, frame: pl.DataFrame, writer: str = "pyarrow") -> list[Form]:
    """Return the forms that a column could be written in, plainly not among them.

    ``frame`` is the sample that the profile is of; ``writer`` may be one that has no encoding for differences, which others do
    better with than with any form.

    Examples
    --------
    >>> from lazypipe.storage.optimizer.profile import profile
    >>> frame = pl.DataFrame({"price": [1.25, 3.5, 2.75], "side": ["buy", "sell", "buy"]})
    >>> found = profile(frame)
    >>> forms_for(found["price"], found, frame), forms_for(found["side"], found, frame)
    ([Scaled(digits=2, dtype=Int32, product=False)], [Flag(true='buy', false='sell')])
    """
    if column.distinct is None or not column.distinct:
        return []
    found: list[Form] = []
    if column.distinct == 1 and not column.nulls and is_scalar(column.dtype):
        found.append(Constant(scalars(frame[column.name].head(1))[0]))
    found += _numbers(column, frame) if column.dtype != pl.String else _texts(column, frame)
    if writer == "polars" and is_ticking(column.dtype) and (column.rising or 0.0) >= _RISING:
        found.append(Paged())
    for relation in profile.relations:
        if relation.column == column.name and (form := _related(relation, column, profile, frame)) is not None:
            found.append(form)
    return [f for f in found if f.fits(column.dtype)]


def _numbers(column: ColumnProfile, frame: pl.DataFrame) -> list[Form]:
    dtype = column.dtype
    if isinstance(dtype, pl.Decimal):
        return _decimals(column, dtype)
    if dtype.is_float():
        return _floats(column)
    if not (is_ticking(dtype) or dtype in (pl.Int128, pl.UInt128)):
        return []
    found: list[Form] = []
    low, high = _bounds(column, frame)
    if dtype.is_integer():
        bits = max(abs(low), abs(high), 1).bit_length() + _HEADROOM - 1
        types = [t for t, b in _INTS if bits <= b] if dtype.is_signed_integer() else _unsigned(bits)
        found += [Cast(t) for t in types[:1] if _shorter(t, dtype)]
    unit = column.unit or 1
    if unit > 1:
        bits = max(abs(low), abs(high)).bit_length() + _HEADROOM - 1 - (unit.bit_length() - 1)
        found += [Whole(t, unit) for t, b in _INTS if bits <= b][:1]
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None and unit % _day(dtype) == 0:
        found.append(Cast(pl.Date()))
    return found


def _day(dtype: pl.Datetime) -> int:
    return 86_400 * {"ms": 10**3, "us": 10**6, "ns": 10**9}[dtype.time_unit]


def _bounds(column: ColumnProfile, frame: pl.DataFrame) -> tuple[int, int]:
    """Return the bounds of what stands inside."""
    if not column.dtype.is_temporal():
        return column.least, column.greatest
    inside = frame.select(low=pl.col(column.name).min(), high=pl.col(column.name).max())  # Python may have no such date
    return inside["low"].to_physical()[0], inside["high"].to_physical()[0]


def _unsigned(bits: int) -> list[pl.DataType]:
    return [t for t, b in ((pl.UInt32(), 32), (pl.UInt64(), 64)) if bits <= b]


def _shorter(dtype: pl.DataType, than: pl.DataType) -> bool:
    return int(str(dtype).lstrip("UInt")) < int(str(than).lstrip("UInt"))


def _decimals(column: ColumnProfile, dtype: pl.Decimal) -> list[Form]:
    digits = dtype.scale if column.digits is None else column.digits
    whole = int(max(abs(column.least), abs(column.greatest)) * _HEADROOM)
    needed = len(str(whole)) + digits
    found = [p for p in (9, 18) if needed <= p < dtype.precision]
    shorter: list[Form] = [Cast(pl.Decimal(p, digits)) for p in found[:1]]
    if not is_counted(dtype):
        return shorter
    # whole numbers have encodings that decimals have not
    unit = 10 ** (dtype.scale - digits)
    low, high = (int(value.scaleb(dtype.scale)) // unit for value in (column.least, column.greatest))
    bits = max(abs(low), abs(high), 1).bit_length() + _HEADROOM - 1
    return [*shorter, *[Whole(t, unit) for t, b in _INTS if bits <= b][:1]]


def _floats(column: ColumnProfile) -> list[Form]:
    if column.dtype != pl.Float64:
        return []
    found: list[Form] = []
    greatest = max(abs(column.least), abs(column.greatest)) if column.least == column.least else 0.0  # not NaN
    if column.digits is not None and greatest < 2.0**52 / 10**column.digits:
        bits = int(greatest * 10**column.digits).bit_length() + _HEADROOM - 1
        dtype = next(t for t, b in _INTS if bits <= b)
        found.append(Scaled(column.digits, dtype, column.product) if column.digits else Cast(dtype))
    if column.digits is None or not column.digits:
        found.append(Cast(pl.Float32()))
    return found


def _texts(column: ColumnProfile, frame: pl.DataFrame) -> list[Form]:
    found: list[Form] = []
    distinct, values = column.distinct or 0, column.rows - column.nulls
    if distinct == 2:
        one, other = frame[column.name].drop_nulls().unique().sort().to_list()
        found.append(Flag(one, other))
    elif 2 < distinct <= _CODES and distinct * _REPEATS <= values:
        found.append(Coded(tuple(frame[column.name].drop_nulls().unique().sort().to_list())))
    return found if column.make is None else [*found, column.make]


def _related(
    relation: Relation, column: ColumnProfile, profile: Profile, frame: pl.DataFrame
) -> Whole | Multiple | Determined | None:
    by = profile[relation.by]
    if relation.kind == "multiple":
        if any(r.column == by.name and r.by == column.name for r in profile.relations):
            return None  # two cannot lean on each other
        one = 10**by.dtype.scale if isinstance(by.dtype, pl.Decimal) and by.digits == 0 else 1
        bits = math.ceil(relation.strength) + _HEADROOM
        return next((Multiple(t, by.name, one) for t, b in _INTS if bits <= b), None)
    if relation.kind == "difference":
        # of two that lie near each other the one that is harder to pack is written as the difference
        sizes = [(c.encodings or {}).get("delta", 0) for c in (column, by)]
        places = [frame.columns.index(c.name) for c in (column, by)]
        if (sizes[0], places[0]) < (sizes[1], places[1]):
            return None
        difference = pl.col(column.name).to_physical().cast(pl.Int128) - pl.col(by.name).to_physical().cast(pl.Int128)
        unit = min(column.unit or 1, by.unit or 1)
        greater = [
            u for u in _coarser(column.dtype, unit) if (frame.select((difference % u == 0).mean()).item() or 0) >= 0.98
        ]
        unit = greater[0] if greater else unit
        span = frame.select(difference.abs().quantile(0.99, "nearest")).item()
        bits = (max(int(span), 1) * _HEADROOM // unit).bit_length()
        dtype = next((t for t, b in _INTS if bits <= b), None)
        return None if dtype is None else Whole(dtype, unit, by.name)
    if relation.kind == "determined" and is_scalar(by.dtype) and not by.dtype.is_float():
        pairs = frame.lazy().group_by(by.name, column.name).len().sort("len", by.name, column.name, descending=True)
        best = pairs.unique(by.name, keep="first", maintain_order=True).sort(by.name).collect()
        return Determined(by.name, tuple(scalars(best[by.name])), tuple(scalars(best[column.name])))
    return None


def _coarser(dtype: pl.DataType, unit: int) -> list[int]:
    """Return units of time greater than ``unit``, the greatest first."""
    if not isinstance(dtype, pl.Datetime | pl.Duration):
        return []
    second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[dtype.time_unit]
    return [u for u in (86_400 * second, 3_600 * second, 60 * second, second) if u > unit]


def encodings_for(dtype: pl.DataType) -> Sequence[str]:
    """Return the encodings that pyarrow's writer has for a column as it stands in a file, its own choice first.

    Examples
    --------
    >>> encodings_for(pl.Int64()), encodings_for(pl.Boolean())
    (('dictionary', 'delta', 'byte_stream_split', 'plain'), ('plain', 'rle'))
    """
    if is_counted(dtype):
        return ("dictionary", "delta", "byte_stream_split", "plain")
    if dtype in (pl.Float32, pl.Float64):
        return ("dictionary", "byte_stream_split", "plain")
    if dtype in (pl.String, pl.Binary):
        return ("dictionary", "delta", "delta_length", "plain")
    if dtype == pl.Boolean:
        return ("plain", "rle")
    return ("dictionary",)
