"""Estimates of the time to write and read columns, from their bytes before and after compression, where timing would cost too much.

A few thousand rows are written in less time than it takes to plan the query, so their times say nothing. Their bytes do: with the type
of a column, its encoding and its codec they tell what each value takes, by rates that were measured once (nanoseconds on one core, by
pyarrow's writer and Polars' reader). Only ratios count: what is chosen is compared with the default by the same rates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

import polars as pl

from lazypipe.spec.model import NOTHING
from lazypipe.storage.optimizer.cost import Cost, Size
from lazypipe.storage.optimizer.form import Form
from lazypipe.storage.optimizer.form_texts import Template
from lazypipe.storage.optimizer.forms import plain_column
from lazypipe.storage.optimizer.layout import Layout

__all__ = ["column_cost", "form_cost", "harder", "layout_cost", "order_seconds", "values"]

_NANO = 1e-9

_ENCODE: Mapping[str, tuple[float, float]] = {
    "plain": (14, 65),
    "dictionary": (24, 80),
    "delta": (23, 140),
    "delta_length": (20, 120),
    "byte_stream_split": (15, 22),
    "rle": (20, 20),
}
"""Encoding → nanoseconds to write a number, and a text."""

_DECODE: Mapping[str, tuple[float, float]] = {
    "plain": (3, 15),
    "dictionary": (3.2, 5),
    "delta": (10, 230),
    "delta_length": (12, 33),
    "byte_stream_split": (14, 14),
    "rle": (4, 4),
}

_POLARS = 0.7
"""How long Polars' writer takes to encode, next to pyarrow's."""

_SCATTERED = (70, 45)
"""What a dictionary costs besides, where most values are new to it: its table outgrows the processor's cache."""
_INDEX = 2.2
"""Bytes of a value in a dictionary, beyond which it has that many."""

_PACK: Mapping[str, tuple[float, float]] = {
    "zstd": (6.5, 2.0),
    "gzip": (30, 5.0),
    "brotli": (20, 4.0),
    "lz4": (2.0, 0.8),
    "snappy": (2.0, 0.8),
    "uncompressed": (0.0, 0.0),
}
"""Codec → nanoseconds to compress, and to decompress, a byte; of zstd at level 3."""
_LEVELS: Mapping[int, float] = {1: 0.6, 2: 0.8, 3: 1.0, 4: 1.3, 5: 2.2, 6: 3.0, 7: 4.0, 8: 5.0, 9: 6.2, 19: 60.0}
_HARD = (0.9, 0.2)
"""What is compressed to no less than this part of it is found out soon, and takes this part of the time."""

_STREAMS = 0.5
"""How long bytes that are split into streams take to decompress, next to others: some are not compressed, the rest is much."""

_FORMS: Mapping[str, tuple[float, float]] = {
    "cast": (8, 2),
    "whole": (14, 4),
    "multiple": (30, 5),
    "paged": (20, 6),
    "scaled": (15, 3.5),
    "flag": (30, 15),
    "coded": (68, 25),
    "hexed": (200, 100),
    "constant": (7, 2),
    "determined": (70, 32),
}
_DECIMAL = 12
"""Nanoseconds that a decimal takes besides to be made of a whole number."""
_TEMPLATE: Mapping[str, tuple[float, float]] = {
    "once": (170, 40),
    "number": (80, 45),
    "text": (45, 10),
    "only": (60, 45),
}
"""Nanoseconds to take a text apart and to put it together: once, and for each part of it; of one number and nothing else."""

_NULL = 0.2
"""What a null takes of the time of a value."""
_SORT, _KEY = 25.0, 60.0
"""Nanoseconds that a value takes to be put in order with its row, and each key of a row."""


def column_cost(
    dtype: pl.DataType,
    size: Size,
    rows: int,
    writer: str,
    encoding: str = "",
    codec: str = "zstd",
    level: int | None = 3,
    part: float = 1.0,
) -> Cost:
    """Estimate what a column of a file costs to write and read, by its bytes there.

    ``encoding`` is the writer's own if it is empty. Times are those of ``part`` of the bytes: with many more rows, the dictionary is
    hardly longer.

    Examples
    --------
    >>> cost = column_cost(pl.Int64(), Size(1_000, 1_000), 1_000, "pyarrow", "delta")
    >>> cost.bytes, round(cost.write * 1e6), round(cost.read * 1e6)
    (1000, 24, 10)
    """
    text, own = _kind(dtype)
    encoding = encoding or own
    write, read = _ENCODE[encoding][text], _DECODE[encoding][text]
    if encoding == "dictionary" and part * size.raw > _INDEX * rows:
        # Polars gives such a dictionary up at once, pyarrow when it has outgrown its page
        write += _SCATTERED[text] if writer == "pyarrow" else 0.0
        read = _DECODE["plain"][text]
    if writer == "polars":
        write *= _POLARS
    pack, unpack = _PACK[codec]
    if codec == "zstd":
        pack *= _LEVELS.get(3 if level is None else level, _LEVELS[19])
    if encoding == "byte_stream_split":
        unpack *= _STREAMS
    hard = part * (_HARD[1] if size.bytes > _HARD[0] * size.raw else 1.0)
    return Cost(
        size.bytes,
        (write * rows + pack * hard * size.raw) * _NANO,
        (read * rows + unpack * hard * size.raw) * _NANO,
    )


@cache
def _kind(dtype: pl.DataType) -> tuple[int, str]:
    """Return whether values are numbers (0) or texts (1), as rates are told, and the encoding that writers take by themselves."""
    text = 0 if dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean else 1
    return text, "plain" if dtype == pl.Boolean else "dictionary"


def harder(cost: Cost, sizes: Iterable[Size], level: int) -> Cost:
    """Return what columns cost at a higher zstd level than the usual one, for all of them.

    Few rows do not show what that saves: bytes are the same.

    Examples
    --------
    >>> harder(Cost(100, 0.0, 1.0), [Size(100, 1_000_000)], 9).write > harder(Cost(100, 0.0, 1.0), [Size(100, 1_000_000)], 3).write
    True
    """
    packed = sum(s.raw * (_HARD[1] if s.bytes > _HARD[0] * s.raw else 1.0) for s in sizes)
    return cost + Cost(0, _PACK["zstd"][0] * (_LEVELS[level] - _LEVELS[3]) * packed * _NANO)


def form_cost(form: Form, rows: int, dtype: pl.DataType | None = None) -> Cost:
    """Return what it costs to put values into a form, and back; ``dtype`` is that of the values.

    Examples
    --------
    >>> from lazypipe.storage.optimizer.form_known import Constant
    >>> form_cost(Constant(1), 1_000_000_000)
    Cost(bytes=0, write=7.0, read=2.0)
    """
    if isinstance(form, Template):
        varying = ["text" if v == "text" else "number" for v in form.varying]
        parts = ["only"] if varying == ["number"] and not any(form.pieces) else ["once", *varying]
        write, read = (sum(_TEMPLATE[p][i] for p in parts) for i in (0, 1))
    else:
        write, read = _FORMS[form.kind]
    more = _DECIMAL if isinstance(dtype, pl.Decimal) and form.kind != "cast" else 0.0
    return Cost(0, (write + more) * rows * _NANO, (read + more) * rows * _NANO)


def values(column: pl.Series) -> int:
    """Return how many values a column costs time for: a null is hardly one.

    Examples
    --------
    >>> values(pl.Series([1, None, None, None, None, None]))
    2
    """
    nulls = column.null_count()
    return column.len() - nulls + round(_NULL * nulls)


def order_seconds(frame: pl.DataFrame, keys: int) -> float:
    """Return the seconds that it takes to sort rows by so many keys.

    Examples
    --------
    >>> round(order_seconds(pl.DataFrame({"x": [1] * 1_000, "y": [2] * 1_000}), 1) * 1e6)
    110
    """
    return (_SORT * sum(values(column) for column in frame) + _KEY * keys * frame.height) * _NANO


def layout_cost(
    inside: pl.DataFrame, sizes: Mapping[str, Size], layout: Layout, shrinks: Mapping[str, float] = NOTHING
) -> Cost:
    """Return what all columns cost as they stand in a file, with the forms and the order of the layout.

    Columns for values that do not fit are read, and paid for, only where there are some: they take next to nothing else.
    ``shrinks`` tells which part is left of columns in a dictionary where there are many more rows.
    """
    rows, costs = inside.height, []
    columns = {column.name: column for column in inside}
    for name, size in sizes.items():
        column = columns[name]
        if name.endswith(":plain") and column.null_count() == rows:
            costs.append(Cost(size.bytes))
            continue
        codec, level = layout.codecs.get(name, (layout.codec, layout.level))
        encoding = layout.encodings.get(name, "")
        part = shrinks.get(name, 1.0) if encoding in ("", "dictionary") else 1.0
        costs.append(column_cost(column.dtype, size, values(column), layout.writer, encoding, codec, level, part))
    costs += [form_cost(f, rows, columns[plain_column(n)].dtype) for n, f in layout.forms.items()]
    if layout.sort_by:
        costs.append(Cost(0, order_seconds(inside, len(layout.sort_by))))
    return sum(costs, Cost())
