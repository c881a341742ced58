"""Units: the parts of an input that come, change and go as one, and the column that tells each row's unit.

A unit is a file of a source as it was at one time. Where every row of an output is made of one row of its input, the output's
data files carry the unit of each row in a column that readers do not see. So a file that changes takes just its own rows
along, without any other row being read or written (docs/decisions/0016-rows-know-their-unit.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from blake3 import blake3

from lazypipe.storage.files import FileInfo

__all__ = ["UNIT", "as_units", "unit_of", "with_numbers"]

UNIT = "_lazypipe_unit"
"""The column with each row's unit, in the data files of datasets that are kept up to date part by part."""


def unit_of(file: FileInfo) -> int:
    """Return the number of a file as it is now, the same for all who read it: 63 bits of a hash of URI, size and stamp.

    Examples
    --------
    >>> unit_of(FileInfo("a.csv", 10, "1")) == unit_of(FileInfo("a.csv", 10, "1"))
    True
    >>> unit_of(FileInfo("a.csv", 10, "1")) == unit_of(FileInfo("a.csv", 10, "2"))
    False
    """
    told = f"{file.uri}\0{file.size}\0{file.stamp}".encode()
    return int.from_bytes(blake3(told).digest(8)) >> 1


def with_numbers(frame: pl.LazyFrame, column: str, uris: Sequence[str], first: int = 0) -> pl.LazyFrame:
    """Add the number of each row's file, counted from ``first``, as ``UNIT``: filters still go below this.

    Parameters
    ----------
    column
        That with the file's URI, one of ``uris``.
    """
    number = pl.col(column).cast(pl.Enum(uris)).to_physical().cast(pl.UInt64)
    return frame.with_columns((number + first if first else number).alias(UNIT))


def as_units(frame: pl.LazyFrame, units: Sequence[int]) -> pl.LazyFrame:
    """Replace the numbers of files by their units."""
    known = pl.lit(pl.Series(units, dtype=pl.UInt64))
    return frame.with_columns(known.gather(pl.col(UNIT)).alias(UNIT))
