"""How many rows of each unit a data file holds, from footers as far as these show it.

Rows that were read at once are of one file, and are written one behind the other, so most row groups hold one unit: its number is both
bounds of the column. Only of the others is that column read.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.units import UNIT
from lazypipe.storage.parquet.footers import TAIL, read_footer, reading
from lazypipe.storage.parquet.ranges import Footer

__all__ = ["count_units"]

_AT_ONCE = 1_000_000
"""As many rows are gathered of row groups that hold several units before they are counted."""


def count_units(
    uri: str, files: Sequence[DataFile], storage_options: Mapping[str, Any] | None = None
) -> tuple[DataFile, ...]:
    """Return data files, below ``uri``, with the number of rows that each has of each unit.

    Raises
    ------
    SourceError
        If a file cannot be read.
    """
    return tuple(replace(f, units=_counted(uris.join(uri, f.path), storage_options)) for f in files)


def _counted(uri: str, storage_options: Mapping[str, Any] | None) -> dict[int, int]:
    from lazypipe.storage.parquet.prune import bounds

    found: Counter[int] = Counter()
    with reading(uri), uris.opened(uri, storage_options, block_size=TAIL) as file:
        footer = read_footer(file)
        mixed = []
        for group, rows in enumerate(footer.group_rows):
            known = bounds(footer.statistics(group, UNIT), pl.UInt64())
            if known is not None and known.low is not None and known.low == known.high:
                found[known.low] += rows
            else:
                mixed.append(group)
        for groups in _batches(footer, mixed):
            ranges = [r for group in groups for r in footer.ranges(group, [UNIT])]
            column = pl.read_parquet(io.BytesIO(footer.mini_file(groups, [UNIT], [_read(file, *r) for r in ranges])))
            found.update(dict(column[UNIT].value_counts().iter_rows()))
    return dict(sorted(found.items()))


def _batches(footer: Footer, groups: Sequence[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    for group in groups:
        batch.append(group)
        if sum(footer.group_rows[g] for g in batch) >= _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(file: Any, start: int, length: int) -> bytes:
    file.seek(start)
    return bytes(file.read(length))
