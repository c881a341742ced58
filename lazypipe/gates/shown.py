"""Rows of a frame as Python values, for reports, even where Python has no such value.

A date beyond the years 1 to 9999, as one with a mistyped year is, is shown as text.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import polars as pl

__all__ = ["MASKED", "records"]

MASKED = "***"
"""What reports show in place of personal data."""

_EPOCH = date(1970, 1, 1)
_FIRST, _LAST = (date.min - _EPOCH).days, (date.max - _EPOCH).days
_ERA = 146_097
"""The days of 400 years, after which the calendar begins anew."""
_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}


def records(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Return a mapping of column → value per row; to be called with few rows.

    Examples
    --------
    >>> frame = pl.DataFrame({"a": [1, 2], "day": pl.Series([0, 3_000_000], dtype=pl.Int32).cast(pl.Date)})
    >>> records(frame)
    [{'a': 1, 'day': datetime.date(1970, 1, 1)}, {'a': 2, 'day': '+10183-09-21'}]
    """
    columns = [_values(column) for column in rows]
    return [dict(zip(rows.columns, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pl.Series) -> list[Any]:
    match column.dtype:
        case pl.Date():
            return _readable(column, 1, _day, (_FIRST, _LAST))
        case pl.Datetime(time_unit=unit, time_zone=zone):
            size, mark = _PER_SECOND[unit], "" if zone is None else "Z"
            near = 0 if zone is None else 1  # its own midnight may lie beyond
            limits = _FIRST + near, _LAST - near
            return _readable(column, 86_400 * size, lambda count: _moment(count, size) + mark, limits)
        case pl.Duration(time_unit="ms"):
            # Python counts no more than 999,999,999 days
            return _readable(column, 86_400_000, lambda count: f"{count}ms", (-999_999_999, 999_999_998))
        case pl.Struct() if column.dtype.fields:
            fields = records(column.struct.unnest())
            return [None if gone else value for gone, value in zip(column.is_null(), fields, strict=True)]
        case pl.Array(inner=inner):
            return _values(column.cast(pl.List(inner)))
        case pl.List():
            return [None if items is None else _values(items) for items in column]
    return column.to_list()


def _readable(column: pl.Series, per_day: int, text: Callable[[int], str], limits: tuple[int, int]) -> list[Any]:
    """Return Python's values, and texts for those that lie before the first day or after the last one."""
    counts = column.cast(pl.Int64)
    ends = [e // per_day for e in (counts.min(), counts.max()) if isinstance(e, int)]  # none of nothing but nulls
    if all(limits[0] <= e <= limits[1] for e in ends):
        return column.to_list()
    inside = (counts // per_day).is_between(*limits).fill_null(value=True)
    there = column.to_frame("a").select(pl.when(inside).then("a"))["a"].to_list()
    return [value if ok else text(count) for value, ok, count in zip(there, inside, counts, strict=True)]


def _day(count: int) -> str:
    eras, rest = divmod(count, _ERA)
    day = _EPOCH + timedelta(days=rest)
    year = day.year + 400 * eras
    # as ISO 8601 writes years of other than four digits
    return f"{year:{'04' if 0 <= year <= 9999 else '+05'}}-{day.month:02}-{day.day:02}"


def _moment(count: int, per_second: int) -> str:
    seconds, fraction = divmod(count, per_second)
    days, second = divmod(seconds, 86_400)
    digits = len(str(per_second)) - 1
    return f"{_day(days)} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{fraction:0{digits}}"
