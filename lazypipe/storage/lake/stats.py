"""The statistics of a file in a Delta log, so that readers can skip files: taken from the file's footer, read once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from lazypipe.storage.parquet.footers import footer_of
from lazypipe.storage.parquet.prune import Bounds, column_bounds
from lazypipe.storage.parquet.ranges import Footer

__all__ = ["MOST_COLUMNS", "of_file", "said"]

MOST_COLUMNS = 32
"""The number of columns with statistics: the first ones, as other writers do it."""

_LONGEST = 256
"""Texts that are longer are no bounds: they would fill the log."""


def of_file(uri: str, rows: int, schema: Mapping[str, pl.DataType], options: Mapping[str, Any]) -> str:
    """Return the statistics of a file as a Delta log writes them: at least how many rows it has.

    A footer that cannot be read gives no statistics: readers then open the file, and report it themselves.
    """
    try:
        footer = footer_of(uri, options)
    except Exception:
        return said(rows, {}, schema)
    return said(rows, {n: column_bounds(footer, n, _known(schema[n])) for n in _told(footer, schema)}, schema)


def _told(footer: Footer, schema: Mapping[str, pl.DataType]) -> Sequence[str]:
    inside = set(footer.columns)
    return [n for n, t in schema.items() if n in inside and not t.is_nested()][:MOST_COLUMNS]


def _known(dtype: pl.DataType) -> pl.DataType:
    """Return the type that bounds in a footer have."""
    return pl.String() if dtype == pl.Categorical else dtype


def said(rows: int, found: Mapping[str, Bounds | None], schema: Mapping[str, pl.DataType]) -> str:
    """Return statistics as a Delta log writes them.

    Examples
    --------
    >>> said(3, {"x": Bounds(1, 7, 0, 3)}, {"x": pl.Int64()})
    '{"numRecords":3,"minValues":{"x":1},"maxValues":{"x":7},"nullCount":{"x":0}}'
    """
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name, known in found.items():
        if known is None:
            continue
        if known.nulls is not None:
            nulls[name] = known.nulls
        if known.low is None:
            continue
        low, high = (_value(v, schema[name], up=up) for v, up in ((known.low, False), (known.high, True)))
        if low is not None and high is not None:
            least[name], most[name] = low, high
    told = {"numRecords": rows}
    more = {"minValues": least, "maxValues": most, "nullCount": nulls}
    return json.dumps(told | {k: v for k, v in more.items() if v}, separators=(",", ":"), ensure_ascii=False)


def _value(physical: Any, dtype: pl.DataType, *, up: bool) -> Any:
    """Return a bound as JSON; None if there is no form that all readers understand alike."""
    if dtype.is_integer():
        return physical
    match dtype:
        case pl.String() | pl.Categorical():
            try:
                return physical.decode() if len(physical) <= _LONGEST else None
            except UnicodeDecodeError:  # a bound that was cut inside a character
                return None
        case pl.Date():
            return _day(physical)
        case pl.Datetime():
            return _moment(physical, dtype, up=up)
        case _:
            # floats: NaN is the largest number to readers, and Parquet's bounds leave it out
            return None


def _day(days: int) -> str | None:
    try:
        return (date(1970, 1, 1) + timedelta(days=days)).isoformat()
    except OverflowError:  # before the year 1, or after 9999
        return None


def _moment(ticks: int, dtype: pl.Datetime, *, up: bool) -> str | None:
    """Return a time in milliseconds, as all readers understand it; rounded so that no value lies outside."""
    step = 1 if dtype.time_unit == "ms" else 1_000
    whole = -(-ticks // step) if up else ticks // step
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=whole)
    except OverflowError:
        return None
    text = moment.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return text if dtype.time_zone is None else f"{text}Z"
