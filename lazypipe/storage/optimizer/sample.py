"""Samples: runs of consecutive rows, spread evenly over all rows.

How often a value is that of the row before, and whether values rise, can be seen only where rows follow one another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import polars as pl

from lazypipe.errors import LazypipeError, SourceError
from lazypipe.spec.endings import format_of
from lazypipe.spec.frames import lazy_frame
from lazypipe.spec.types import is_pattern
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.dataset import Dataset, is_dataset
from lazypipe.storage.datasets.log import KEPT
from lazypipe.storage.datasets.units import FORMED
from lazypipe.storage.files import expand
from lazypipe.storage.optimizer.forms import by_owner
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.parquet.footers import column_bytes
from lazypipe.storage.scan import Reader, is_engine_error

__all__ = ["ROWS", "Sample", "take_sample"]

ROWS = 50_000
"""Rows that a sample has if nothing else is asked for."""
_STRETCH, _SHORTEST = 5_000, 500
_STRETCHES = 4
"""Stretches at least, unless they become too short: what lies near each other is often alike."""
_ROW = "__lazypipe_row"
_UNLIKE = "name files with the same columns, name a dataset by its folder, or give a LazyFrame"
_FOOTERS = 64
"""Files at most whose footers are read: as many as are needed to know what columns take, evenly spread."""


@dataclass(frozen=True)
class Sample:
    """Rows of a frame, and of how many they are.

    ``stored`` is what columns take in the files, if they stand in files; ``kept`` the goal and the layout that were chosen for a dataset.
    """

    frame: pl.DataFrame
    total: int
    stored: Mapping[str, int] = field(default_factory=dict, hash=False)
    kept: tuple[str, Layout] | None = None

    @property
    def scale(self) -> float:
        """How many rows each row of the sample stands for."""
        return self.total / self.frame.height if self.frame.height else 1.0


def take_sample(
    data: pl.DataFrame | pl.LazyFrame | str | os.PathLike[str],
    rows: int = ROWS,
    storage_options: Mapping[str, Any] | None = None,
) -> Sample:
    """Return about so many rows of a frame, of a dataset, a Delta table, or Parquet files at a URI; of few rows, all.

    Of a LazyFrame that has more, rows are counted first and picked in a second pass, which streams.

    Raises
    ------
    LazypipeError
        If ``rows`` is less than 1, or if a column has a name that cannot be used.
    SourceError, StorageError
        If the files at a URI cannot be read.

    Examples
    --------
    >>> sample = take_sample(pl.DataFrame({"x": range(100_000)}), 10_000)
    >>> sample.total, sample.frame["x"].to_list()[2_498:2_502]
    (100000, [2498, 2499, 25000, 25001])
    """
    if rows < 1:
        raise LazypipeError(f"a sample of {rows} rows shows nothing; write 1 or more")
    if not isinstance(data, str | os.PathLike):
        return _picked(data, rows, {})
    uri = os.fspath(data)
    if is_dataset(uri, storage_options):
        frame, stored, kept = _of_dataset(Dataset(uri, storage_options))
        return replace(_picked(frame, rows, stored), kept=kept)
    if format_of(uri) is None:
        from lazypipe.storage.lake.log import DeltaLog
        from lazypipe.storage.lake.table import read_table

        if DeltaLog(uri, storage_options).last() >= 0:  # its folder also holds files that are none of its rows any more
            table = read_table(uri, storage_options)
            stored = _column_bytes([f.uri for f in table.files], storage_options)
            return _picked(table.scan(table.files, storage_options or {}), rows, stored)
    frame, stored, culprit = _opened(uri, storage_options)
    try:
        return _picked(frame, rows, stored)
    except BaseException as error:
        if not is_engine_error(error) or (unreadable := culprit()) is None:
            raise
        from lazypipe.storage.external.scan import NEW_COLUMN, NO_COLUMN, OTHER_TYPE

        if unreadable.fix in (NEW_COLUMN, NO_COLUMN, OTHER_TYPE):  # which are about the contract of a source
            unreadable.fix = _UNLIKE
        raise unreadable from error


def _picked(data: pl.DataFrame | pl.LazyFrame, rows: int, stored: Mapping[str, int]) -> Sample:
    """Return rows of a frame; ``stored`` is what its columns take in files."""
    if isinstance(data, pl.DataFrame):
        _check_names(data.columns)
        total = data.height
        starts = range(0, total, _period(total, rows))
        parts = [data.slice(s, _length(rows)) for s in starts]
        return Sample(pl.concat(parts) if total > rows else data, total, stored)
    data = lazy_frame(data, "data", besides=", or the URI of a dataset or of Parquet files")
    some = data.head(rows + 1).collect(engine="streaming")
    _check_names(some.columns)
    if some.height <= rows:
        return Sample(some, some.height, stored)
    total = data.select(pl.len()).collect(engine="streaming").item()
    row = pl.col(_ROW) % _period(total, rows)
    picked = data.with_row_index(_ROW).filter(row < _length(rows)).drop(_ROW)
    return Sample(picked.collect(engine="streaming"), total, stored)


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if is_pattern(name):
            raise LazypipeError(f"column {name!r} would be read as a pattern of names; give it another name")
        if name.startswith(FORMED):
            what = f"column {name!r} is reserved for lazypipe, which keeps values in compact form under such names"
            raise LazypipeError(f"{what}; name the dataset's folder instead of its files, or rename the column")


def _length(rows: int) -> int:
    return min(_STRETCH, max(rows // _STRETCHES, _SHORTEST), rows)


def _period(total: int, rows: int) -> int:
    """Return after how many rows the next stretch begins."""
    stretches = rows // _length(rows)
    return max(_length(rows), -(-total // stretches))


def _of_dataset(dataset: Dataset) -> tuple[pl.LazyFrame, dict[str, int], tuple[str, Layout] | None]:
    """Return the rows of a dataset, what their columns take, and the layout that was chosen for a goal."""
    commit = dataset.read()
    stored = _column_bytes([uris.join(dataset.uri, f.path) for f in commit.files], dataset.storage_options)
    said = commit.info.get(KEPT) or {}
    kept = (said["goal"], Layout.from_dict(said["layout"])) if said.get("goal") else None
    return dataset.scan(commit), stored, kept


def _opened(
    uri: str, storage_options: Mapping[str, Any] | None
) -> tuple[pl.LazyFrame, dict[str, int], Callable[[], SourceError | None]]:
    """Return the rows of files, what their columns take, and who finds a file that cannot be read."""
    files = expand([uri], storage_options, endings=(".parquet",))
    reader = Reader("parquet", storage_options=storage_options or {})
    schema = reader.infer(files)
    stored = _column_bytes([f.uri for f in files], storage_options)
    return reader.scan(files, schema), stored, partial(reader.culprit, files, schema)


def _column_bytes(names: Sequence[str], storage_options: Mapping[str, Any] | None) -> dict[str, int]:
    """Return what columns take in files, by the footers of some."""
    some = names[:: -(-len(names) // _FOOTERS) or 1]
    sizes = by_owner(column_bytes(some, storage_options))
    return {name: size * len(names) // len(some) for name, size in sizes.items()}
