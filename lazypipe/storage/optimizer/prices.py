"""How long each piece of choosing a layout takes, predicted before it begins.

Rates were measured once, on six sets of rows of 3 to 101 columns, and are rather too high. They are seconds of a machine that writes as fast as
``estimates`` says, times ``_PACE``: a slower one takes longer for these, and for writing the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from lazypipe.storage.optimizer.ordering import COUNTED_LITTLE

__all__ = [
    "columns_seconds",
    "file_seconds",
    "likely_seconds",
    "look_seconds",
    "packing_seconds",
    "reading_seconds",
    "unseen",
]

_PACE = 0.55
"""How long writing takes on the machine where pieces were measured, next to the rates of ``estimates``."""
_LOOK = 0.2e-3, 0.012e-3
"""To take some rows, and each column of them."""
_FILE, _COLUMN = 0.5e-3, 0.06e-3
"""A file, and a column in it."""
_PYARROW = 1.8
"""How long pyarrow's writer takes, next to that of Polars."""
_UNSEEN, _NULL = 10e-9, 0.2
"""A byte in memory of rows that were not written yet, by the rates; of a null."""
_LIKELY = 1.5e-3, 0.36e-3, 0.05e-3
"""One that is likely to, by counting alone: once, for each column that is counted, and each."""
_PACKING = 1e-3, 0.4e-3, 75e-9
"""An order that packs: once, for each column, and each value."""
_PROFILE = 0.5e-3, 1.1e-3, 70e-9
"""A profile, likewise."""
_OPTIONS, _NAMED = 0.8e-3, 0.04e-3
"""The forms and options of a column that is looked at, and of one that is not."""
_ENCODINGS = 1.5
"""How many times more a column is written that is looked at."""
_HARD = 3.0, 0.1e-3
"""How long it takes to write all columns at a high level, next to the usual one; and each besides."""
_ORDER, _READING = 0.8e-3, (0.3e-3, 150e-9)
"""To put rows in order; which row groups a filter reads: once, and for each row."""


def unseen(frame: pl.DataFrame) -> float:
    """Return what writing rows takes by the rates of ``estimates``, as far as that can be told before they were ever written.

    Examples
    --------
    >>> round(unseen(pl.DataFrame({"x": [1] * 1_000})) * 1e6), round(unseen(pl.DataFrame({"x": [None] * 1_000}, {"x": pl.Int64})) * 1e6)
    (80, 16)
    """
    rows = max(frame.height, 1)
    return _UNSEEN * sum(c.estimated_size() * (1 - (1 - _NULL) * c.null_count() / rows) for c in frame)


def look_seconds(columns: int) -> float:
    """Return the seconds that it takes to sample rows and look at their values.

    Examples
    --------
    >>> round(look_seconds(100) * 1e3, 1)
    1.4
    """
    once, each = _LOOK
    return once + each * columns


def file_seconds(columns: int, write: float, writer: str = "polars") -> float:
    """Return what it takes to write a file of some rows, which Polars' writer takes ``write`` for by the rates of ``estimates``.

    Examples
    --------
    >>> round(file_seconds(10, 1e-3) * 1e6), round(file_seconds(10, 1e-3, "pyarrow") * 1e6)
    (1650, 2090)
    """
    return _FILE + _COLUMN * columns + _PACE * write * (1.0 if writer == "polars" else _PYARROW)


def packing_seconds(columns: int, rows: int) -> float:
    """Return what it takes to look for an order of rows in which files are smaller.

    Examples
    --------
    >>> round(packing_seconds(10, 2_000) * 1e3, 1)
    6.5
    """
    once, each, value = _PACKING
    return once + columns * (each + rows * value)


def likely_seconds(columns: int) -> float:
    """Return what it takes to look for such an order by counting alone.

    Examples
    --------
    >>> round(likely_seconds(4) * 1e3, 1), round(likely_seconds(100) * 1e3, 1)
    (3.1, 10.8)
    """
    once, counted, each = _LIKELY
    return once + counted * min(columns, COUNTED_LITTLE) + each * columns


def columns_seconds(looked: int, columns: int, rows: int, write: float, writers: Sequence[str], *, hard: bool) -> float:
    """Return what it takes to look at some of the columns: their profiles, forms and encodings.

    ``write`` is what writing these takes as they stand, by the rates of ``estimates``; ``hard`` tells whether a high level of compression is
    tried too.

    Examples
    --------
    >>> few, more = (columns_seconds(n, 10, 2_000, n * 1e-4, ["pyarrow"], hard=False) for n in (1, 4))
    >>> few < more < columns_seconds(4, 10, 2_000, 4e-4, ["pyarrow"], hard=True)
    True
    """
    once, each, value = _PROFILE
    found = once + looked * (each + rows * value + _OPTIONS) + columns * _NAMED
    if "polars" in writers:  # what stands as it is has been written already
        found += file_seconds(looked, _ENCODINGS * write)
    if "pyarrow" in writers:
        found += file_seconds(2 * looked, (1 + _ENCODINGS) * write, "pyarrow")
    times, more = _HARD
    return found + (more * looked + times * _PACE * write if hard and "pyarrow" in writers else 0.0)


def reading_seconds(filters: int, rows: int) -> float:
    """Return what it takes to put rows in an order, and to tell which row groups some filters then read.

    Examples
    --------
    >>> round(reading_seconds(2, 2_000) * 1e3, 1)
    2.0
    """
    once, each = _READING
    return _ORDER + filters * (once + rows * each)
