"""Which row groups can hold a row that passes a filter, according to the footer's statistics; in doubt they are kept.

A filter is walked once into a small function over the bounds of its columns. Only what is understood prunes: comparisons of
a column with a literal of its own type, ``is_in``, ``is_between``, ``is_null`` and ``is_not_null``, and AND and OR of those.
Everything else answers "perhaps". Polars still applies the filter to the rows that are read.
"""

from __future__ import annotations

import bisect
import io
import json
import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import polars as pl

from lazypipe.storage.parquet.ranges import ChunkStatistics, Footer
from lazypipe.storage.parquet.thrift import STRUCT, ThriftStruct

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Bounds", "bounds", "column_bounds", "may_match", "overall"]

# Above this a filter (an is_in of very many values) costs more to take apart than it saves.
_MAX_FILTER_BYTES = 1 << 20

# parquet.thrift: physical types, converted types, fields of LogicalType.
_INT32, _INT64 = 1, 2
_CONVERTED_DATE, _CONVERTED_MILLIS, _CONVERTED_MICROS = 6, 9, 10
_LOGICAL_DATE, _LOGICAL_TIMESTAMP = 6, 8
_UNITS = {1: "ms", 2: "us", 3: "ns"}


class Bounds(NamedTuple):
    """What is known about a column in one row group, as physical Python values (days, ticks, UTF-8 bytes).

    ``low`` and ``high`` are both None if unknown; neither speaks of nulls or NaN. ``nulls`` is None if unknown.
    """

    low: Any
    high: Any
    nulls: int | None
    values: int

    @property
    def all_null(self) -> bool:
        """Whether every value is null, so that no comparison is true."""
        return self.nulls == self.values


_Lookup: TypeAlias = "Callable[[str], Bounds | None]"
_Test: TypeAlias = "Callable[[_Lookup], bool]"


def bounds(statistics: ChunkStatistics | None, dtype: pl.DataType) -> Bounds | None:
    """Read a column's statistics as values of ``dtype``, the type that Polars gives the column; None if there are none."""
    if statistics is None:
        return None
    low = high = None
    if statistics.low is not None and statistics.high is not None:
        low, high = (_physical(raw, statistics.element, dtype) for raw in (statistics.low, statistics.high))
    if low is None or high is None or low > high:  # a writer that got them wrong proves nothing
        low = high = None
    return Bounds(low, high, statistics.nulls, statistics.values)


def overall(groups: Sequence[Bounds | None]) -> Bounds | None:
    """Return the bounds over several row groups; None if one of these has none.

    Examples
    --------
    >>> overall([Bounds(1, 5, 0, 10), Bounds(None, None, 3, 3), Bounds(4, 9, 1, 10)])
    Bounds(low=1, high=9, nulls=4, values=23)
    """
    found = [b for b in groups if b is not None]
    if not found or len(found) < len(groups):
        return None
    counted = [b.nulls for b in found if b.nulls is not None]
    nulls = sum(counted) if len(counted) == len(found) else None
    values = sum(b.values for b in found)
    filled = [b for b in found if not b.all_null]
    if not filled or any(b.low is None for b in filled):
        return Bounds(None, None, nulls, values)
    return Bounds(min(b.low for b in filled), max(b.high for b in filled), nulls, values)


def column_bounds(footer: Footer, name: str, dtype: pl.DataType) -> Bounds | None:
    """Return the bounds of a column over all row groups of a file; None if there are no row groups, or one has no bounds."""
    return overall([bounds(footer.statistics(g, name), dtype) for g in range(len(footer.group_rows))])


def _physical(raw: bytes, element: ThriftStruct, dtype: pl.DataType) -> Any:
    """Decode one bound, or None where order or unit are not certain to be those of ``dtype``."""
    if dtype == pl.String:
        return raw  # UTF-8 sorts as its bytes do; a truncated bound need not be valid UTF-8
    if dtype in (pl.Float32, pl.Float64):
        if len(raw) != (4 if dtype == pl.Float32 else 8):
            return None
        (number,) = struct.unpack("<f" if dtype == pl.Float32 else "<d", raw)
        return None if math.isnan(number) else number
    physical = element.get(1, (0, None))[1]
    if physical not in (_INT32, _INT64) or len(raw) != 4 * physical:
        return None
    value = int.from_bytes(raw, "little", signed=True)
    if dtype.is_signed_integer() and dtype != pl.Int128:
        return value
    if dtype.is_unsigned_integer() and dtype != pl.UInt128:
        # Below the sign bit signed and unsigned order agree, so that it does not matter which the writer used.
        return value if value >= 0 else None
    converted = element.get(6, (0, None))[1]
    logical = _struct(element, 10)
    if dtype == pl.Date:
        return value if physical == _INT32 and (converted == _CONVERTED_DATE or _LOGICAL_DATE in logical) else None
    if isinstance(dtype, pl.Datetime):
        unit = {_CONVERTED_MILLIS: "ms", _CONVERTED_MICROS: "us"}.get(converted)
        if _LOGICAL_TIMESTAMP in logical:
            unit = next((_UNITS.get(k) for k in _struct(_struct(logical, _LOGICAL_TIMESTAMP), 2)), None)
        return value if physical == _INT64 and unit == dtype.time_unit else None
    return None


def _struct(fields: ThriftStruct, field: int) -> ThriftStruct:
    kind, value = fields.get(field, (0, {}))
    return value if kind == STRUCT else {}


def may_match(filters: Sequence[pl.Expr], schema: Mapping[str, pl.DataType]) -> _Test:
    """Return a test that tells from the bounds of a row group's columns whether any of its rows can pass all ``filters``.

    Parameters
    ----------
    filters
        Boolean expressions as the optimizer leaves them: literals already have the type of their column.
    schema
        Types of the file's columns.

    Returns
    -------
    Callable
        Takes a function from column name to :class:`Bounds` (or None), returns False only if it is proved that no row passes.
    """
    tests = [_compile(f, schema) for f in filters]
    return lambda lookup: all(test(lookup) for test in tests)


def _perhaps(_: _Lookup) -> bool:
    return True


def _compile(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> _Test:
    # The serialized form is no stable interface. A node that looks otherwise than expected in any way is "perhaps": a change
    # in Polars can cost pruning (a test notices), never rows.
    try:
        if len(expr.meta.serialize()) > _MAX_FILTER_BYTES:
            return _perhaps
        return _node(json.loads(expr.meta.serialize(format="json")), schema)
    except (pl.exceptions.PolarsError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return _perhaps


def _node(node: Any, schema: Mapping[str, pl.DataType]) -> _Test:
    match node:
        case {"BinaryExpr": {"left": left, "op": "And", "right": right}}:
            one, two = _node(left, schema), _node(right, schema)
            return lambda lookup: one(lookup) and two(lookup)
        case {"BinaryExpr": {"left": left, "op": "Or", "right": right}}:
            one, two = _node(left, schema), _node(right, schema)
            return lambda lookup: one(lookup) or two(lookup)
        case {"BinaryExpr": {"left": {"Column": name}, "op": op, "right": {"Literal": _} as literal}}:
            return _comparison(name, op, _values(literal, schema[name]))
        case {"BinaryExpr": {"left": {"Literal": _} as literal, "op": op, "right": {"Column": name}}}:
            turned = {"Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq"}.get(op, op)
            return _comparison(name, turned, _values(literal, schema[name]))
        case {"Function": {"input": [{"Column": name}, *rest], "function": {"Boolean": function}}}:
            return _function(name, function, rest, schema)
        case _:
            return _perhaps


def _function(name: str, function: Any, inputs: list[Any], schema: Mapping[str, pl.DataType]) -> _Test:
    match function:
        case "IsNull":
            return lambda lookup: (b := lookup(name)) is None or b.nulls != 0
        case "IsNotNull":
            return lambda lookup: (b := lookup(name)) is None or b.nulls is None or b.nulls < b.values
        case {"IsBetween": {"closed": closed}}:
            low, high = (_values(value, schema[name]) for value in inputs)
            above = _comparison(name, "GtEq" if closed in ("Both", "Left") else "Gt", low)
            below = _comparison(name, "LtEq" if closed in ("Both", "Right") else "Lt", high)
            return lambda lookup: above(lookup) and below(lookup)
        case {"IsIn": {"nulls_equal": False}}:
            values = _values(inputs[0], schema[name])
            return _perhaps if values is None else lambda lookup: _any_inside(lookup(name), values)
        case _:
            return _perhaps


def _values(node: Any, dtype: pl.DataType) -> list[Any] | None:
    """Return a literal's values as physical Python values, sorted; None unless they are of ``dtype``, not null and not NaN."""
    if not isinstance(node, dict) or set(node) != {"Literal"}:
        return None
    series = pl.select(pl.Expr.deserialize(io.StringIO(json.dumps(node)), format="json")).to_series()
    if isinstance(series.dtype, pl.List):
        series = series.explode()
    if series.dtype != dtype:
        return None
    series = series.drop_nulls()  # null equals nothing, so no row passes for its sake
    if dtype.is_float() and series.is_nan().any():
        return None
    if dtype == pl.String:
        return sorted(value.encode() for value in series.to_list())
    return sorted(series.to_physical().to_list())


def _comparison(name: str, op: str, values: list[Any] | None) -> _Test:
    if values is None or len(values) != 1:
        return _perhaps
    (value,) = values

    def test(lookup: _Lookup) -> bool:
        known = lookup(name)
        if known is None or known.low is None:
            return known is None or not known.all_null
        match op:
            case "Eq":
                return bool(known.low <= value <= known.high)
            case "Lt":
                return bool(known.low < value)
            case "LtEq":
                return bool(known.low <= value)
            # To Polars NaN is greater than every number, and Parquet's bounds leave it out.
            case "Gt" if not isinstance(value, float):
                return bool(known.high > value)
            case "GtEq" if not isinstance(value, float):
                return bool(known.high >= value)
            case _:
                return True

    return test


def _any_inside(known: Bounds | None, values: list[Any]) -> bool:
    if known is None or known.low is None:
        return known is None or not known.all_null
    first = bisect.bisect_left(values, known.low)
    return first < len(values) and bool(values[first] <= known.high)
