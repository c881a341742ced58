"""Changes by key: finds the data files of a dataset that contain some keys, and rewrites only these without them.

The bounds in the commit, the footers' statistics and the folders' values rule out most files without reading any data. Of those that are left, the key
columns are read and joined with the keys, which says exactly which files hold some. One commit then publishes the rewritten files
together with whatever takes the place of the rows that went (docs/decisions/0020-write-modes.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import polars as pl

from lazypipe.errors import StorageError, nearest
from lazypipe.spec.types import dtype_name
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.data_files import find_odd, scan_files
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.key_bounds import KeyBounds, as_bounded
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.parquet.prune import Bounds
from lazypipe.storage.scan import FILE_COLUMN
from lazypipe.storage.sink import DatasetSink, are_few

__all__ = ["Rewrite", "files_with", "not_ruled_out", "refuse_unreadable", "rewrite_without", "rows_with"]

_FEW = 1_000_000
"""Keys that are held in memory; of more, only those that stand in the files that are looked at."""

_PART = 2_000_000
"""Rows of data files that are looked at in one go, where the keys are more than a few."""

_SMALL = 8 << 20
"""Bytes up to which neighbouring files of one folder are written again as one."""

_TESTS = 50_000_000
"""Pairs of boxes and keys up to which all columns of a key are tested together."""

_BOXES = 16
"""Boxes up to which each is tested at once: to rule some of them out first would cost as much."""

_NUMBER = "__lazypipe_file_number"


@dataclass(frozen=True)
class Rewrite:
    """Which files of a commit held some keys, and what takes their place.

    Attributes
    ----------
    files
        Files with the other rows of those replaced; they are committed together with what the keys stand for now.
    replaced
        The files of the commit that held keys; their paths are ``without``.
    read
        The files whose key columns were read, because nothing ruled them out.
    sinks
        What wrote ``files``, for whoever does not publish them: ``discard`` takes them away.
    """

    files: tuple[DataFile, ...] = ()
    replaced: tuple[DataFile, ...] = ()
    read: tuple[DataFile, ...] = ()
    sinks: tuple[DatasetSink, ...] = field(default=(), repr=False)

    @property
    def without(self) -> frozenset[str]:
        """The paths of the files that are replaced, as ``Dataset.commit`` takes them."""
        return frozenset(f.path for f in self.replaced)

    def discard(self) -> None:
        """Take away what was written."""
        for sink in self.sinks:
            sink.discard()


def rewrite_without(
    dataset: Dataset,
    commit: Commit,
    keys: pl.LazyFrame,
    on: Sequence[str],
    *,
    prefix: str,
    together: bool = True,
    most_rows: int | None = None,
) -> Rewrite:
    """Rewrite the files of a commit that hold any of the keys, without the rows of these keys.

    Rows keep their order, their layout and their units; rows of units that the commit says are gone are left out on the way. A file of which nothing is left has no
    successor. Small neighbours become one file. Memory is that of the keys that the files hold, not of all keys.

    Parameters
    ----------
    keys
        A frame with the columns ``on``, of any height, repeats and nulls allowed: null is equal to null, NaN to NaN. It is read
        more than once, so it should be a cheap one.
    on
        The key's columns, partition columns among them or not.
    prefix
        How the names of the new files begin: the run's id and what else makes it new, such as ``r7-001k``.
    together
        Whether small files become one, which their statistics then tell less of.
    most_rows
        How many go into a file, in their order, so that the next change need not write as many. Default: all of them.

    Raises
    ------
    StorageError
        If the dataset or the keys lack a column of the key, or have other types in it.
        Also if a file of the commit cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> orders = Dataset(tempfile.mkdtemp() + "/orders")
    >>> rows = pl.LazyFrame({"id": [1, 2, 3], "x": ["a", "b", "c"]})
    >>> made = DatasetSink(orders.uri, "r1-001").write(rows)
    >>> first = orders.commit(made.files, rows.collect_schema(), run="r1", time=datetime(2024, 1, 1, tzinfo=UTC))
    >>> found = rewrite_without(orders, first, pl.LazyFrame({"id": [2, 7]}), ["id"], prefix="r2-001k")
    >>> len(found.replaced), [f.rows for f in found.files]
    (1, [2])
    """
    _check(dataset, commit, keys, on)
    work = _Work(dataset, commit, tuple(on), prefix, together=together, most_rows=most_rows)
    try:
        return work.run(keys.select(on))
    except BaseException:
        for sink in work.sinks:
            sink.discard()
        raise


def files_with(
    dataset: Dataset,
    commit: Commit,
    keys: pl.LazyFrame,
    on: Sequence[str],
) -> tuple[DataFile, ...]:
    """Return the files of a commit that hold any of the keys, found as :func:`rewrite_without` finds them."""
    _check(dataset, commit, keys, on)
    work = _Work(dataset, commit, tuple(on), "")
    _, found = work.find(keys.select(on))
    return tuple(f for exact, _ in found for f in exact)


def rows_with(
    dataset: Dataset,
    commit: Commit,
    files: Iterable[DataFile],
    keys: pl.LazyFrame,
    on: Sequence[str],
) -> pl.LazyFrame:
    """Return the rows with any of the keys in some files of a commit: those that ``rewrite_without`` leaves out.

    Parameters
    ----------
    files
        Such as ``Rewrite.replaced``.
    """
    return dataset.scan(replace(commit, files=tuple(files))).join(
        keys.select(on).unique(), on=[*on], how="semi", nulls_equal=True
    )


def not_ruled_out(dataset: Dataset, commit: Commit, keys: pl.DataFrame) -> tuple[DataFile, ...]:
    """Return the files of a commit that may hold some keys, as far as folders and footers tell."""
    return _Work(dataset, commit, tuple(keys.columns), "").possible(commit.files, [keys])


def refuse_unreadable(dataset: Dataset, commit: Commit, files: Iterable[DataFile]) -> None:
    """Raise StorageError for the first of some files that has no readable footer."""
    _Work(dataset, commit, (), "").refuse_unreadable(files)


def _check(dataset: Dataset, commit: Commit, keys: pl.LazyFrame, on: Sequence[str]) -> None:
    there = keys.collect_schema()
    for name in on:
        if name not in commit.schema:
            fix = nearest(name, commit.schema, "columns")
            raise StorageError(f"the dataset has no key column {name!r}", uri=dataset.uri, fix=fix)
        if name not in there:
            what = f"the keys have no column {name!r}, which is part of the dataset's key"
            raise StorageError(what, uri=dataset.uri, fix=nearest(name, there, "columns"))
        if there[name] != commit.schema[name]:
            one, other = dtype_name(there[name]), dtype_name(commit.schema[name])
            what = f"key column {name!r} is {one} in the keys and {other} in the dataset"
            raise StorageError(what, uri=dataset.uri, fix="cast it to the dataset's type")


@dataclass(frozen=True)
class _Work:
    """One search for keys, and the rewriting of what holds them."""

    dataset: Dataset
    commit: Commit
    on: tuple[str, ...]
    prefix: str
    together: bool = True
    most_rows: int | None = None
    sinks: list[DatasetSink] = field(default_factory=list)

    @property
    def _known(self) -> KeyBounds:
        commit, dataset = self.commit, self.dataset
        return KeyBounds(dataset.uri, self.on, commit.schema, commit.partition_by, dataset.storage_options)

    def find(self, keys: pl.LazyFrame) -> tuple[tuple[DataFile, ...], Iterator[tuple[list[DataFile], pl.LazyFrame]]]:
        """Return the files whose keys have to be read; and, some at a time, those that hold keys, with all that these hold."""
        head = keys.head(_FEW + 1).collect(engine="streaming")
        few = head.height <= _FEW
        if few:
            head = head.unique()
            keys = head.lazy()
        alive = [f for f in self.commit.files if f.rows > f.dead(self.commit.gone)]
        batches = [head] if few else keys.collect_batches(engine="streaming", maintain_order=False)
        read = self.possible(alive, batches) if head.height else ()
        return read, (
            self._holding(files, keys)
            for files in ([read] if few and read else _parts(read, attrgetter("rows"), _PART))
        )

    def _holding(self, files: Sequence[DataFile], keys: pl.LazyFrame) -> tuple[list[DataFile], pl.LazyFrame]:
        held = self._held(files, keys)
        return [files[n] for n in held[_NUMBER].unique().sort()], held.drop(_NUMBER).unique().lazy()

    def run(self, keys: pl.LazyFrame) -> Rewrite:
        """Find the files, and write them once more."""
        read, found = self.find(keys)
        replaced: list[DataFile] = []
        written: list[DataFile] = []
        for exact, held in found:
            for part in _together(exact) if self.together else [[f] for f in exact]:
                written += self._write(part, held)
            replaced += exact
        return Rewrite(tuple(written), tuple(replaced), read, tuple(self.sinks))

    def possible(self, files: Sequence[DataFile], batches: Iterable[pl.DataFrame]) -> tuple[DataFile, ...]:
        """Return the files that no bounds rule out: those in the commit, and in the footers of files that are larger."""
        known = self._known
        whole = [_Box(n, known.of_file(f)) for n, f in enumerate(files)]
        groups: dict[int, list[_Box]] = {}
        hit: set[int] = set()
        for batch in batches:
            near = _hits(batch, [b for b in whole if b.file not in hit])
            unread = [n for n in near - groups.keys() if known.says_more(files[n])]
            if unread:
                with ThreadPoolExecutor(8) as pool:
                    for number, found in zip(
                        unread, pool.map(known.of_groups, [files[n] for n in unread]), strict=True
                    ):
                        groups[number] = [_Box(number, told) for told in found]
            hit |= near - groups.keys()
            hit |= _hits(batch, [b for n in near & groups.keys() for b in groups[n]])
            if len(hit) == len(files):
                break
        return tuple(files[n] for n in sorted(hit))

    def _held(self, files: Sequence[DataFile], keys: pl.LazyFrame) -> pl.DataFrame:
        """Return the keys that stand in files, each with the number of its file."""
        if FILE_COLUMN in self.commit.schema:  # quarantined rows have their source file in a column of this very name
            there = pl.concat(
                [
                    self._scan([f]).select(*self.on, pl.lit(n, dtype=pl.UInt32).alias(_NUMBER))
                    for n, f in enumerate(files)
                ]
            )
        else:
            names = [uris.join(self.dataset.uri, f.path) for f in files]
            number = pl.col(FILE_COLUMN).cast(pl.Enum(names)).to_physical().cast(pl.UInt32).alias(_NUMBER)
            there = self._scan(files, file_column=True).select(*self.on, number)
        # an inner join, since the engine builds its table of whichever side is the smaller one
        found = keys.join(there, on=[*self.on], how="inner", nulls_equal=True).select(*self.on, _NUMBER).unique()
        try:
            return found.collect(engine="streaming")
        except Exception:
            self.refuse_unreadable(files)
            raise

    def refuse_unreadable(self, files: Iterable[DataFile]) -> None:
        """Raise StorageError for the first file whose footer cannot be read."""
        for file in files:
            self._known.of_groups(file)

    def _write(self, files: Sequence[DataFile], keys: pl.LazyFrame) -> tuple[DataFile, ...]:
        """Write the rows of files that belong together without those of the keys."""
        commit, options = self.commit, self.dataset.storage_options
        number = f"{len(self.sinks):03}"
        # what is left of one file is in its order; rows of several are put in that
        layout = files[0].layout
        unsorted = layout is not None and len(files) == 1
        how = replace(layout, sort_by=(), curve="linear", bounds={}) if layout is not None and unsorted else layout
        prefix, most = f"{self.prefix}-{number}", self.most_rows
        sink = DatasetSink(self.dataset.uri, prefix, commit.partition_by, options, layout=how, most_rows=most)
        self.sinks.append(sink)
        rows = self._scan(files, tags=commit.tagged)
        kept = rows.join(keys, on=[*self.on], how="anti", nulls_equal=True, maintain_order="left")
        try:
            written = sink.write(kept, few=are_few(files), keys=self.on)
        except Exception:
            self.refuse_unreadable(files)
            raise
        if not written.rows:
            sink.discard()
            return ()
        found = written.files
        if layout is not None:
            same = replace(layout, partition_by=commit.partition_by)
            found = tuple(
                replace(f, layout=same) if f.layout is not None and f.layout.writer == layout.writer else f
                for f in found
            )
            found = find_odd(self.dataset.uri, found, commit.schema, options, tagged=commit.tagged)
        if not commit.tagged:
            return found
        return count_units(self.dataset.uri, found, options)

    def _scan(self, files: Sequence[DataFile], *, tags: bool = False, file_column: bool = False) -> pl.LazyFrame:
        commit = self.commit
        live = {u for f in files for u in f.units} - commit.gone
        return scan_files(
            self.dataset.uri,
            files,
            commit.schema,
            commit.partition_by,
            self.dataset.storage_options,
            tagged=commit.tagged,
            units=live if any(f.dead(commit.gone) for f in files) else None,
            tags=tags,
            file_column=file_column,
        )


def _parts(files: Iterable[DataFile], size: Callable[[DataFile], int], most: int) -> Iterator[list[DataFile]]:
    """Yield files that follow each other in groups that are not too large, each of one at the least."""
    part: list[DataFile] = []
    for file in files:
        if part and sum(map(size, part)) + size(file) > most:
            yield part
            part = []
        part.append(file)
    if part:
        yield part


def _together(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    """Yield each file by itself, but small ones that follow each other in one folder in groups."""
    for _, ones in groupby(files, attrgetter("folder")):
        yield from _parts(ones, attrgetter("bytes"), _SMALL)


# statistics


class _Box(NamedTuple):
    """The bounds of a key's columns in a file, or in one row group of it."""

    file: int
    bounds: tuple[Bounds | None, ...]


def _hits(batch: pl.DataFrame, boxes: Sequence[_Box]) -> set[int]:
    """Return the files with a bounding box that may hold a key of the batch."""
    if not boxes:
        return set()
    columns = [(at, physical) for at, s in enumerate(batch) if (physical := as_bounded(s)) is not None]
    left = [*boxes]
    if len(left) > _BOXES:
        for at, physical in columns:
            told = _inside(physical, [b.bounds[at] for b in left])
            left = [b for b, inside in zip(left, told, strict=True) if inside]
        if batch.width == 1 or len(left) * batch.height > _TESTS:
            return {b.file for b in left}
    tested = [_Values.of(physical).within([b.bounds[at] for b in left]) for at, physical in columns]
    return {b.file for b, *told in zip(left, *tested, strict=True) if _holds(told)}


def _inside(values: pl.Series, found: Sequence[Bounds | None]) -> list[bool]:
    """Say for each box whether a value lies within its bounds."""
    nulls = values.null_count() > 0
    ordered = values.drop_nulls()
    odd = False
    if ordered.dtype.is_float():
        nan = ordered.is_nan()
        odd, ordered = nan.any(), ordered.filter(~nan)
    ordered = ordered.sort()
    known = [n for n, b in enumerate(found) if b is not None and b.low is not None]
    lows, highs = (pl.Series([getattr(found[n], side) for n in known], dtype=ordered.dtype) for side in ("low", "high"))
    first, last = ordered.search_sorted(lows, "left"), ordered.search_sorted(highs, "right")
    between = dict(zip(known, (first < last).to_list(), strict=True))
    told = []
    for number, box in enumerate(found):
        some = box is None or odd or (not box.all_null and between.get(number, len(ordered) > 0))
        told.append(some or (nulls and box is not None and box.nulls != 0))
    return told


class _Values(NamedTuple):
    """The values of a key's column, and which of them are null, or no number, if any are."""

    values: pl.Series
    nulls: pl.Series | None
    odd: pl.Series | None

    @classmethod
    def of(cls, values: pl.Series) -> _Values:
        nulls = values.is_null() if values.null_count() else None
        odd = values.is_nan() if values.dtype.is_float() else None
        return cls(values, nulls, odd if odd is not None and odd.any() else None)

    def within(self, found: Sequence[Bounds | None]) -> Iterator[pl.Series | bool]:
        """Return for each of some bounds which of the values may be in them, or whether all of them may, or none."""
        # Series, not expressions: a query costs more to begin than this takes; and few, of which each takes as long as many values
        dtype = self.values.dtype
        known = [b for b in found if b is not None and b.low is not None]
        lows, highs = (pl.Series([getattr(b, side) for b in known], dtype=dtype) for side in ("low", "high"))
        at = 0
        for box in found:
            if box is None:
                yield True
                continue
            nulls = None if box.nulls == 0 else self.nulls
            if box.low is None:
                if box.all_null:
                    yield False if nulls is None else nulls
                else:
                    yield True if self.nulls is None or nulls is not None else ~self.nulls
                continue
            inside = (self.values >= lows.slice(at, 1)) & (self.values <= highs.slice(at, 1))
            at += 1
            inside = inside if nulls is None else nulls | inside
            yield inside if self.odd is None else self.odd | inside


def _holds(told: Sequence[pl.Series | bool]) -> bool:
    """Whether a key may be in a box with all of its columns."""
    held: pl.Series | None = None
    for inside in told:
        if inside is False:
            return False
        if inside is not True:
            held = inside if held is None else held & inside
    return held is None or bool(held.any())
