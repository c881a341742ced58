"""The lowest and highest value in each data file, of the columns by which rows are looked up.

Footers say it of row groups, folders of files. What the footers of a file say all in all stands in the commit too, so that thousands of
files are ruled out without one of them being opened (docs/decisions/0046-bounds-in-commits.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from lazypipe.errors import StorageError, reason_of
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.parquet.footers import footer_of
from lazypipe.storage.parquet.prune import Bounds, bounds, overall

__all__ = ["KeyBounds", "as_bounded", "exact_bounds"]

_ONE_GROUP = 8 << 20
"""Bytes up to which the row groups of a file tell hardly more than the file as a whole."""


_LONGEST = 256
"""Bytes of a text up to which it is noted."""


@dataclass(frozen=True)
class KeyBounds:
    """What is known of some columns of a dataset's files.

    Parameters
    ----------
    uri
        The dataset's folder.
    columns
        Those by which rows are looked up, partition columns among them or not.
    schema
        The types of all columns; bounds in the files' entries are of these types.
    """

    uri: str
    columns: tuple[str, ...]
    schema: Mapping[str, pl.DataType]
    partition_by: tuple[str, ...] = ()
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def noted(self, files: Sequence[DataFile]) -> tuple[DataFile, ...]:
        """Return the files with the bounds of the columns in their entries; of those that lack them, the footers are read.

        Raises
        ------
        StorageError
            If a footer cannot be read.
        """
        lacking = [f for f in files if set(self.columns).difference(f.bounds, self._folders(f))]
        if len(lacking) < 2:  # threads take longer to begin than one footer to be read
            told = [*map(self._all_in_all, lacking)]
        else:
            with ThreadPoolExecutor(8) as pool:
                told = [*pool.map(self._all_in_all, lacking)]
        found = dict(zip((f.path for f in lacking), told, strict=True))
        return tuple(replace(f, bounds={**f.bounds, **found[f.path]}) if f.path in found else f for f in files)

    def of_file(self, file: DataFile) -> tuple[Bounds | None, ...]:
        """Return what is known of a file without opening it, column by column; None where nothing is."""
        fixed = self._fixed(file)
        return tuple(fixed[n] if n in fixed else file.bounds.get(n) for n in self.columns)

    def says_more(self, file: DataFile) -> bool:
        """Whether the footer may rule out what the entry does not: it is not known, or there is more than a row group or two."""
        return file.bytes > _ONE_GROUP or bool(set(self.columns).difference(file.bounds, self._folders(file)))

    def of_groups(self, file: DataFile) -> list[tuple[Bounds | None, ...]]:
        """Return what the folders and the footer say of each row group; raises StorageError if the footer cannot be read."""
        fixed = self._fixed(file)
        read = self._read(file, [n for n in self.columns if n not in fixed])
        return [tuple(fixed[n] if n in fixed else group[n] for n in self.columns) for group in read]

    def _folders(self, file: DataFile) -> tuple[str, ...]:
        return self.partition_by if file.layout is None else file.layout.partition_by

    def _fixed(self, file: DataFile) -> dict[str, Bounds | None]:
        """Return the bounds of partition columns: a file's one value of each, as its folder is named."""
        by = self._folders(file)
        folders = {n: self.schema[n] for n in self.columns if n in by}
        values = hive.as_literals(file.path, folders) if folders else ()
        return dict(zip(folders, map(_exactly, values), strict=True))

    def _read(self, file: DataFile, columns: Iterable[str]) -> list[dict[str, Bounds | None]]:
        uri = uris.join(self.uri, file.path)
        try:
            footer = footer_of(uri, self.storage_options)
        except Exception as error:  # any store's own errors: the caller learns which file it was
            reason = reason_of(error)
            fix = "restore it from a backup, roll back, or run in full"
            raise StorageError(f"a data file cannot be read: {reason}", uri=uri, fix=fix) from error
        # the bounds of a column in another form are not those of its values
        formed = frozenset() if file.layout is None else file.layout.forms.keys() - {*self._folders(file)}
        return [
            {n: None if n in formed else bounds(footer.statistics(g, n), self.schema[n]) for n in columns}
            for g in range(len(footer.group_rows))
        ]

    def _all_in_all(self, file: DataFile) -> dict[str, Bounds]:
        """Return the bounds of a whole file, as its footer gives them."""
        columns = [n for n in self.columns if n not in self._folders(file)]
        groups = self._read(file, columns)
        found = {n: overall([g[n] for g in groups]) for n in columns}
        return {n: Bounds(None, None, None, file.rows) if b is None else _writable(b) for n, b in found.items()}


def _writable(found: Bounds) -> Bounds:
    """Return bounds that JSON can hold, and that do not fill the log: none where these are no such."""
    ends = (found.low, found.high)
    fit = all(_is_text(e) if isinstance(e, bytes) else not isinstance(e, float) or math.isfinite(e) for e in ends)
    return found if fit else found._replace(low=None, high=None)


def exact_bounds(values: pl.Series) -> Bounds | None:
    """Return the bounds of a column whose values are at hand, as a commit notes them; None for ends that it cannot hold.

    Examples
    --------
    >>> exact_bounds(pl.Series(["b", None, "a"]))
    Bounds(low=b'a', high=b'b', nulls=1, values=3)
    """
    found = as_bounded(values)
    low, high = (None, None) if found is None else (found.min(), found.max())
    made = Bounds(low, high, values.null_count(), len(values))
    return made if _writable(made) == made and not (isinstance(high, int) and high >= 1 << 63) else None


def _is_text(end: bytes) -> bool:
    try:
        return len(end) <= _LONGEST and end.decode() is not None
    except UnicodeDecodeError:  # it was cut inside a character
        return False


def as_bounded(values: pl.Series) -> pl.Series | None:
    """Return values as bounds are compared; None for types whose bounds are not known.

    Examples
    --------
    >>> as_bounded(pl.Series(["a"])).to_list(), as_bounded(pl.Series([True]))
    ([b'a'], None)
    """
    dtype = values.dtype
    if dtype == pl.String:
        return values.cast(pl.Binary)
    # not to_physical, which is a query
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return values.cast(pl.Int32 if dtype == pl.Date else pl.Int64)
    return values if (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)) or dtype.is_float() else None


def _exactly(value: pl.Expr) -> Bounds | None:
    """Return the bounds of a column that has one value, that of a folder; None if such values are not compared."""
    found = as_bounded(pl.select(value).to_series())
    if found is None:
        return None
    return Bounds(None, None, 1, 1) if found[0] is None else Bounds(found[0], found[0], 0, 1)
