"""Which of many small files are merged: those of similar size, so that their number stays small and each row is rarely rewritten.

Files stand in tiers by their rows: each holds about eight times what one of the tier below does. As soon as eight stand in a tier they
become one of the next. After a thousand commits there are at most seven files in each of a few tiers, and every row has been
written once per tier, as in a log-structured merge tree.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from math import isqrt

from lazypipe.storage.datasets.log import DataFile

__all__ = ["FAN", "LEAST", "ROWS", "due", "most_rows"]

FAN = 8
"""As many files of one tier become one of the next."""

ROWS = 500_000
"""Rows at which a file that is found by its statistics is closed and the next begun."""

LEAST = 1 << 13
"""A file is never closed below this number of rows to make changes cheaper: rewriting so many rows takes as long as writing one more file."""

_ROOT = 32


def most_rows(rows: int, files: int | None = None) -> int:
    """Return at how many rows a file is closed, of a dataset of so many ``rows`` in which groups change.

    A change of one row rewrites its file, and a reader of all rows opens each file: this way, both costs grow only with the root of the rows. Of more
    than half as many ``files``, if that is given, each has more rows.

    Examples
    --------
    >>> [most_rows(rows) for rows in (1_000, 1_000_000, 1_000_000_000)], most_rows(1_000_000, 20)
    ([8192, 32000, 500000], 100000)
    """
    wanted = 0 if files is None else -(-2 * rows // files)
    return min(ROWS, max(LEAST, _ROOT * isqrt(rows), wanted))


def due(files: Sequence[DataFile], gone: Container[int] = (), *, most: int | None = None) -> tuple[DataFile, ...]:
    """Return the files that are to be merged into one now; none where nothing is due.

    Parameters
    ----------
    gone
        Units whose rows need not be kept. A file of which more than half are such rows is due too.
    most
        Files with this many rows or more are large enough, and are left alone.

    Examples
    --------
    >>> files = [DataFile(f"{n}.parquet", rows, 0) for n, rows in enumerate([500, *[3] * 8])]
    >>> [f.path for f in due(files)]
    ['1.parquet', '2.parquet', '3.parquet', '4.parquet', '5.parquet', '6.parquet', '7.parquet', '8.parquet']
    >>> due(files[:8])
    ()
    """
    tiers: dict[int, list[DataFile]] = {}
    for file in files:
        if most is None or file.rows < most:
            tiers.setdefault(_tier(file.rows), []).append(file)
    chosen: list[DataFile] = []
    for tier in sorted(tiers):
        merged = sum(f.rows for f in chosen)
        # what is merged so far may stand in this tier itself
        if len(tiers[tier]) + (_tier(merged) == tier if chosen else 0) >= FAN:
            chosen += tiers[tier]
    worn = [f for f in files if f not in chosen and 2 * f.dead(gone) > f.rows]
    return (*chosen, *worn)


def _tier(rows: int) -> int:
    tier = 0
    while rows >= FAN:
        rows //= FAN
        tier += 1
    return tier
