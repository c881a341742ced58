"""What a run must know about event times before it reads rows: the watermark of a source before each of its files.

Times that an earlier commit knows are not read again. Those of Parquet files stand in their footers. Only where neither says them
is one column read, of just the files that others come after: the last one is counted while its rows are read (``Counter``).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import cast

import polars as pl

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import SourceError
from lazypipe.incremental.arrivals import Known
from lazypipe.incremental.before import known_before
from lazypipe.incremental.hashing import Hashes, prefix_hasher
from lazypipe.incremental.stamps import moment_of, nanoseconds
from lazypipe.incremental.unreadable import answer
from lazypipe.spec import taps
from lazypipe.storage.content import hash_file
from lazypipe.storage.files import FileInfo
from lazypipe.storage.parallel import in_parallel
from lazypipe.storage.scan import cannot_read
from lazypipe.windows.clock import Clock
from lazypipe.windows.watermark import WHOLE, Extent, Times, Watermark, in_order, key

__all__ = ["Counter", "Extents", "arrived", "extent"]

Extents = MutableMapping[FileInfo, Times]
"""The times in files, as far as they are known."""


def arrived(
    plan: CompiledPipeline,
    source: BoundSource,
    snapshot: Snapshot,
    now: datetime,
    seen: Extents | None = None,
    *,
    last: bool = False,
    hashes: Hashes | None = None,
) -> Snapshot:
    """Return a source as it was listed, with what it had reached ahead of each file.

    Parameters
    ----------
    now
        The time of the run: a file of which its store does not say when it was written came then, unless it is known already.
    seen
        Times that were read before in the same run; more are put in.
    last
        Whether the times of the last file are wanted too, which no other comes after.
    hashes
        What is known in the run of the content of files.

    Raises
    ------
    SourceError
        If files are to be put in the order of stamps, and the store tells none.
    """
    rule = source.watermark
    if rule is None or not rule.by_files or snapshot.commit is not None:
        return snapshot
    known, times = known_before(plan, source), {} if seen is None else seen
    return _Arrivals(source, rule, snapshot, known, now, times, Hashes() if hashes is None else hashes).found(last)


@dataclass(frozen=True)
class _Arrivals:
    source: BoundSource
    rule: Watermark
    snapshot: Snapshot
    held: Mapping[str, Known]
    now: datetime
    seen: Extents
    hashes: Hashes

    def found(self, last: bool) -> Snapshot:  # noqa: FBT001  # as its caller says it
        bounds: dict[str, int | None] = {}
        extents: dict[str, Times | None] = {}
        unknown, tails = [], dict[FileInfo, Times]()
        for file in self.snapshot.files:
            was = self._was(file)
            bounds[file.uri] = self._bound(file)
            extents[file.uri] = was.extents if was is not None and was.extents is not None else self.seen.get(file)
            if extents[file.uri] is None:
                grown = self._grown(file, bounds[file.uri])
                if grown is None:
                    unknown.append(file)
                else:
                    tails |= grown
        gone = self._gone()
        order = self._order(gone)
        if not last and self.rule.heartbeat is None:  # rows that only tell the time do not come by
            newest = [f for f in unknown if f.uri == order[-1]]
            unknown = [f for f in unknown if f.uri != order[-1]]
            told = self._told(newest, bounds)  # if not, it is counted on the way
            self.seen.update(told)
            extents |= {f.uri: e for f, e in told.items()}
        if unknown:
            read = self._read(unknown, bounds)
            self.seen.update(read)
            extents |= {f.uri: e for f, e in read.items()}
        if tails:
            read = self._read([*tails], bounds)
            for tail, more in read.items():
                whole = tail._replace(start=0, end=None)
                self.seen[whole] = extents[tail.uri] = tails[tail].joined(more)
        every = {**{name: k.extents for name, k in gone.items()}, **extents}
        made = in_order(order, self.rule, every, bounds)
        return replace(self.snapshot, arrivals={f.uri: made[f.uri] for f in self.snapshot.files})

    def _grown(self, file: FileInfo, bound: int | None) -> dict[FileInfo, Times] | None:
        """Return the part that was appended to a file, with the times in what was there before; None if they are not known."""
        was = self._before_growth(file)
        if was is None or was.extents is None or not was.extents.holds_with(bound):
            return None
        return {file._replace(start=was.file.size or 0, end=file.size): was.extents}

    def _before_growth(self, file: FileInfo) -> Known | None:
        """Return what is known of a text file that begins with all that was read of it, and has further rows now."""
        was, reader = self.held.get(self.source.redact(file.uri)), self.source.reader
        if was is None or not self.source.is_text or not was.file.size or was.file.blake3 is None:
            return None
        if file.size is None or file.size <= was.file.size:
            return None
        hashing = prefix_hasher(
            reader.format, reader.csv_options, reader.storage_options, self.hashes, by_row=reader.by_row
        )
        try:
            found = hashing(file, was.file.size)
        except SourceError:
            return None  # reported when its rows are read
        return was if found is not None and found.blake3 == was.file.blake3 and found.ends else None

    def _was(self, file: FileInfo) -> Known | None:
        """Return what was known of a file before this run, if it is unchanged or its changes are ignored; None if it must be looked into."""
        was = self.held.get(self.source.redact(file.uri))
        if was is None or was.is_of(file) or (file.stamp is None and self._holds_the_same(file, was)):
            return was
        # growth is no change that would be ignored
        ignores = self.source.intake.on_modified == "ignore"
        return was if ignores and self._before_growth(file) is None else None

    def _holds_the_same(self, file: FileInfo, was: Known) -> bool:
        """Whether a file without a stamp, as in archives, has the same content as before."""
        if was.file.blake3 is None or was.file.size != file.size:
            return False
        if file not in self.hashes:
            try:
                self.hashes[file] = hash_file(file.uri, self.source.reader.storage_options)
            except SourceError:
                return False  # reported when its rows are read
        return self.hashes[file] == was.file.blake3

    def _bound(self, file: FileInfo) -> int:
        """Return the latest time that a file may tell: the tolerance after it was written, or was found, in microseconds."""
        was = self.held.get(self.source.redact(file.uri))
        if was is not None and was.bound is not None and (was.looks_like(file) or self._was(file) is not None):
            return was.bound
        came, now = moment_of(file.stamp), nanoseconds(self.now)
        return min(now, now if came is None else came) // 1_000 + self.rule.tolerance

    def _gone(self) -> dict[str, Known]:
        """Return what is known of files that are gone or wait while their rows stay: the watermark keeps what they moved."""
        there = {self.source.redact(f.uri) for f in self.snapshot.files}
        stays = {self.source.redact(f.uri) for f in self.snapshot.waiting}
        ignores = self.source.intake.on_removed == "ignore"
        return {n: k for n, k in self.held.items() if n not in there and (ignores or n in stays)}

    def _order(self, gone: Mapping[str, Known]) -> list[str]:
        """Return the files in the order in which they came: URIs of those that are there, names of those that are gone."""
        redact = self.source.redact
        stamps = [(f.uri, redact(f.uri), f.stamp) for f in self.snapshot.files]
        stamps += [(name, name, k.file.stamp) for name, k in gone.items()]
        places: dict[str, tuple[int, str]] = {}
        for uri, name, stamp in stamps:
            moment = 0 if self.rule.order == "name" else moment_of(stamp)
            if moment is None:
                what = "its storage does not say when it was written, and order: stamp needs that"
                error = SourceError(what, uri=uri, fix="write order: name, or use a column with the arrival time")
                raise self.source.located(error)
            places[uri] = (moment, name)
        return sorted(places, key=lambda uri: places[uri])

    def _read(self, files: Sequence[FileInfo], bounds: Mapping[str, int | None]) -> dict[FileInfo, Times]:
        """Return the times in files, from their footers or else from the columns that say them."""
        found = self._told(files, bounds)
        left = [f for f in files if f not in found]
        if left:
            found |= self._from_columns(left, bounds)
        return found

    def _told(self, files: Sequence[FileInfo], bounds: Mapping[str, int | None]) -> dict[FileInfo, Times]:
        """Return the times in those files whose footers tell them."""
        if self.source.reader.format != "parquet" or self.rule.by is not None:
            return {}
        told = [(f, e) for f, e in in_parallel(self._from_footer, files) if e is not None]
        within = {f: Times(e, within=True) for f, e in told}
        return {f: e for f, e in within.items() if e.holds_with(bounds[f.uri])}

    def _from_footer(self, file: FileInfo) -> Times | None:
        from lazypipe.storage.parquet.footers import column_range

        try:
            dtype = self.source.schema[self.rule.time]
            told = column_range(file.uri, self.rule.time, dtype, self.source.reader.storage_options)
        except SourceError:
            return None  # reported when its rows are read
        if told is None:
            return None
        low, high = told
        if low is None:
            return Times()
        return Times({WHOLE: extent(low, high, dtype)})

    def _from_columns(self, files: Sequence[FileInfo], bounds: Mapping[str, int | None]) -> dict[FileInfo, Times]:
        wanted = {f.key: bounds[f.uri] for f in files}
        try:
            some = replace(self.snapshot, files=tuple(files))
            rows = answer(self.source, some, partial(self.source.extents, some, wanted))
        except BaseException as error:
            if not cannot_read(error):
                raise
            # which file it was is reported when all rows are read; the others have times nevertheless
            parts = [self._from_columns([f], bounds) for f in files] if len(files) > 1 else []
            return {f: e for part in parts for f, e in part.items()}
        return extents_of(rows, self.source, files)


def extent(low: int, high: int, dtype: pl.DataType) -> Extent:
    """Return physical values of a type as times in microseconds.

    Examples
    --------
    >>> extent(1, 2, pl.Date())
    Extent(low=86400000000, high=172800000000)
    """
    scale = {"ns": 1, "us": 1_000, "ms": 1_000_000}.get(getattr(dtype, "time_unit", ""), 86_400_000_000_000)
    return Extent(low * scale // 1_000, high * scale // 1_000)


def extents_of(rows: pl.DataFrame, source: BoundSource, files: Sequence[FileInfo]) -> dict[FileInfo, Times]:
    """Return what ``Watermark.extents`` found, by file; a file without rows has no times."""
    assert source.watermark is not None
    micro = Clock.of(source.watermark.time, source.schema).tick // 1_000
    found = {f.key: Times(within=True) for f in files}
    for key_of_file, partition, low, high, beyond in rows.select("file", "key", "low", "high", "beyond").iter_rows():
        times = found[key_of_file]
        times.within = times.within and not beyond
        if low is not None:
            times[partition] = Extent(low * micro, high * micro)
    return {f: found[f.key] for f in files}


class Counter:
    """Counts event times while rows of files flow by, where they are not known before.

    ``files`` are those that are counted, by the number that their rows carry.
    """

    def __init__(self, source: BoundSource, snapshot: Snapshot, files: Mapping[int, str], number: str) -> None:
        assert source.watermark is not None
        self.rule = source.watermark
        self.clock = Clock.of(self.rule.time, source.schema)
        self.files = files
        self.number = number
        self.bounds = {n: snapshot.arrivals[uri].bound for n, uri in files.items()}
        self.found = {uri: Times(within=True) for uri in files.values()}
        self.is_done = False
        self._lock = threading.Lock()

    def attach(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return the frame with the count in it."""
        return taps.tap(frame, self._count)

    def _count(self, batch: pl.DataFrame) -> pl.DataFrame:
        number = batch[self.number]
        first = number.min()
        if first is not None and first == number.max():  # as a rule: what is read at once is of one file
            self._count_file(number[0], batch)
            return batch
        for file in number.unique().to_list():
            self._count_file(file, batch.filter(number == file))
        return batch

    def _count_file(self, file: int, rows: pl.DataFrame) -> None:
        """Count the times of rows of one file."""
        if file not in self.files:
            return
        if self.rule.by is None:
            self._count_partition(file, WHOLE, rows[self.rule.time])
            return
        told = rows.select(key(self.rule.by).alias("key"), self.rule.time)
        for part in told.partition_by("key"):
            self._count_partition(file, part["key"][0], part[self.rule.time])

    def _count_partition(self, file: int, partition: str, times: pl.Series) -> None:
        # no query of its own, which would wait for this very thread; a cast copies nothing
        physical = times.cast(pl.Int32 if self.clock.unit is None else pl.Int64)
        latest = self._latest(self.bounds[file])
        if (highest := cast("int | None", physical.max())) is not None and highest > latest:
            self.found[self.files[file]].within = False
            physical = physical.filter(physical <= latest)
        low, high = cast("int | None", physical.min()), cast("int | None", physical.max())
        if low is not None and high is not None:
            self._add(self.files[file], partition, Extent(self._micro(low), self._micro(high)))

    @property
    def _each(self) -> int:
        """How much the column's own numbers rise in one tick: nanoseconds are counted in microseconds."""
        return 1_000 if self.clock.unit == "ns" else 1

    def _latest(self, bound: int | None) -> int:
        """Return the last of the column's own numbers that is a time: the last of the tick in which the bound lies."""
        return 2**63 - 1 if bound is None else (bound // (self.clock.tick // 1_000) + 1) * self._each - 1

    def _micro(self, physical: int) -> int:
        return physical // self._each * (self.clock.tick // 1_000)

    def _add(self, uri: str, partition: str, more: Extent) -> None:
        with self._lock:
            known = self.found[uri].get(partition, more)
            self.found[uri][partition] = Extent(min(known.low, more.low), max(known.high, more.high))
