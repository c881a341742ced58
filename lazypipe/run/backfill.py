"""Runs over a range of event time: which files they read, and how a long range is divided into pieces.

A file that no output was made of yet is read if its event times reach into the range; what was read stays read. So ranges may
come in any order, in any pieces, beside runs over what is new, and each piece is done once: it is a commit like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.segments import Segment, and_ahead
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import LazypipeError
from lazypipe.incremental.before import consumed_before, read_whole_before, units_before
from lazypipe.incremental.stamps import nanoseconds
from lazypipe.ops.window import Window
from lazypipe.run.arrival import Extents, arrived, extent
from lazypipe.spec.model import Param
from lazypipe.spec.moment import moment
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.files import FileInfo
from lazypipe.storage.parallel import in_parallel
from lazypipe.windows import Clock, windows
from lazypipe.windows.watermark import WHOLE, Arrival, Extent, Watermark

__all__ = ["TimeRange", "is_timed", "pieces", "refuse_timeless", "touched", "within"]


@dataclass(frozen=True)
class TimeRange:
    """Event times from ``start`` on, and before ``end``; None: without a limit. Without a time zone they are UTC.

    Examples
    --------
    >>> print(TimeRange.of(("2024-01-01", "2024-02-01")))
    2024-01-01T00:00:00..2024-02-01T00:00:00
    """

    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def of(cls, given: TimeRange | Sequence[Any] | str) -> TimeRange:
        """Read a pair of datetimes, dates or texts, or ``START..END``, either of which may be missing.

        Raises
        ------
        LazypipeError
            If it is none, or ends before it starts.
        """
        if isinstance(given, TimeRange):
            return given
        pair = given.split("..") if isinstance(given, str) else [*given] if isinstance(given, Sequence) else []
        if len(pair) != 2:
            raise LazypipeError(
                f"{given!r} is not a range of event time; write START..END, such as 2024-01-01..2024-02-01"
            )
        start, end = map(_moment, pair)
        if start is not None and end is not None and nanoseconds(start) >= nanoseconds(end):
            raise LazypipeError(f"the range from {start} ends at {end}; the end must be later")
        return cls(start, end)

    def overlaps(self, arrival: Arrival | None) -> bool:
        """Whether times of a file lie in it; so they do where none is known."""
        if arrival is None or arrival.low is None or arrival.high is None:
            return True
        starts = self.start is None or arrival.high >= nanoseconds(self.start) // 1_000
        return starts and (self.end is None or arrival.low < nanoseconds(self.end) // 1_000)

    def holds(self, start: int, end: int) -> bool:
        """Whether a window lies in it, by its ends in microseconds since 1970.

        Examples
        --------
        >>> TimeRange.of("1970-01-01..1970-01-02").holds(0, 86_400_000_000)
        True
        """
        starts = self.start is None or nanoseconds(self.start) // 1_000 <= start
        return starts and (self.end is None or end <= nanoseconds(self.end) // 1_000)

    def __str__(self) -> str:
        return "..".join("" if m is None else m.isoformat() for m in (self.start, self.end))


def _moment(given: Any) -> datetime | None:
    return None if given is None or given == "" else moment(given)


def pieces(whole: TimeRange, chunk: timedelta | str) -> Iterator[TimeRange]:
    """Yield the range in pieces of a length, the earliest first.

    Raises
    ------
    LazypipeError
        If it has no start or no end, or pieces have no length.

    Examples
    --------
    >>> [str(piece) for piece in pieces(TimeRange.of("2024-01-01..2024-01-04"), "2d")]
    ['2024-01-01T00:00:00..2024-01-03T00:00:00', '2024-01-03T00:00:00..2024-01-04T00:00:00']
    """
    if whole.start is None or whole.end is None:
        raise LazypipeError(f"the range {whole} has no {'start' if whole.start is None else 'end'}; pieces need both")
    try:
        length: timedelta = Param("duration").parse(chunk)
    except ValueError as error:
        raise LazypipeError(f"chunk: {error}") from None
    if length <= timedelta(0):
        raise LazypipeError(f"chunk: {chunk} is not a length; write one such as 1d")
    return _pieces(whole.start, whole.end, length)


def _pieces(start: datetime, end: datetime, length: timedelta) -> Iterator[TimeRange]:
    while start < end:
        yield TimeRange(start, min(start + length, end))
        start += length


def is_timed(plan: CompiledPipeline) -> bool:
    """Whether a source has event times."""
    return any(_is_timed(plan, node.source) for node in plan.nodes.values() if node.source is not None)


def refuse_timeless(plan: CompiledPipeline) -> None:
    """Raise LazypipeError where no source has event times, so that all runs read the same."""
    if not is_timed(plan):
        what = "no source has an event time, so no range of it can be read alone"
        raise LazypipeError(f"{what}; add event_time: column to a source")


def _is_timed(plan: CompiledPipeline, source: BoundSource) -> bool:
    written = plan.pipeline.sources.get(source.name)
    return written is not None and written.event_time is not None


def within(
    plan: CompiledPipeline,
    source: BoundSource,
    snapshot: Snapshot,
    wanted: TimeRange,
    now: datetime,
    seen: Extents | None = None,
) -> Snapshot:
    """Return a source as it was listed, without the files that were never read and have no time in the range.

    Sources without an event time are read as they are. Of a dataset whose rows know their units, units are left out instead, of
    which no file has a time in the range. Where what was read of a dataset is not there any more, since it was written anew, all of
    it is read: else rows would go without those that replace them. ``seen`` is as in ``arrived``.
    """
    if not _is_timed(plan, source):
        return snapshot
    if snapshot.commit is not None:
        return _within_dataset(plan, source, snapshot, snapshot.commit, wanted)
    fresh = _unread(plan, source, snapshot)
    arrivals = _timed(plan, source, snapshot, fresh, now, seen)
    beyond = {f.uri for f in fresh if not wanted.overlaps(arrivals.get(f.uri))}
    return replace(snapshot, files=tuple(f for f in snapshot.files if f.uri not in beyond))


def _within_dataset(
    plan: CompiledPipeline, source: BoundSource, snapshot: Snapshot, commit: Commit, wanted: TimeRange
) -> Snapshot:
    pairs = [*zip(snapshot.files, commit.files, strict=True)]
    if commit.tagged:
        known = units_before(plan.outputs, source.name)
        units, named = commit.units, {source.redact(f.uri): data for f, data in pairs}
        whole = read_whole_before(plan.outputs, source.name)
        if not (known <= units and whole <= named.keys()):
            return snapshot
        known |= units.intersection(u for name in whole for u in named[name].units)
        fresh = [f for f, data in pairs if not known.issuperset(units.intersection(data.units))]
        arrivals = _in_footers(plan, source, snapshot, fresh)
        reaching = {u for f, data in pairs if f in arrivals and wanted.overlaps(arrivals[f]) for u in data.units}
        return replace(snapshot, beyond=units - known - reaching)
    before = {source.redact(f.uri) for f in consumed_before(plan.outputs, source.name)}
    if not before <= {source.redact(f.uri) for f in snapshot.files}:
        return snapshot
    arrivals = _in_footers(plan, source, snapshot, [f for f, _ in pairs if source.redact(f.uri) not in before])
    kept = [(f, data) for f, data in pairs if f not in arrivals or wanted.overlaps(arrivals[f])]
    files = tuple(f for f, _ in kept)
    return replace(snapshot, files=files, commit=replace(commit, files=tuple(data for _, data in kept)))


def _in_footers(
    plan: CompiledPipeline, source: BoundSource, snapshot: Snapshot, files: Iterable[FileInfo]
) -> dict[FileInfo, Arrival]:
    """Return what the footers of a dataset's files say of their times; nothing where these stand there in another form."""
    from lazypipe.storage.parquet.footers import column_range

    commit, column = snapshot.commit, plan.pipeline.sources[source.name].event_time
    assert commit is not None
    assert column is not None
    data = dict(zip(snapshot.files, commit.files, strict=True))

    def told(file: FileInfo) -> Arrival:
        layout = data[file].layout
        if column not in commit.schema or (layout is not None and column in layout.forms):
            return Arrival()
        dtype = commit.schema[column]
        found = column_range(file.uri, column, dtype, source.reader.storage_options)
        if found is None:
            return Arrival()
        low, high = found
        return Arrival(extents={} if low is None else {WHOLE: extent(low, high, dtype)})

    return dict(in_parallel(told, [*files]))


def _unread(plan: CompiledPipeline, source: BoundSource, snapshot: Snapshot) -> tuple[FileInfo, ...]:
    if snapshot.commit is not None and snapshot.commit.tagged:
        known = units_before(plan.outputs, source.name) | snapshot.beyond
        pairs = zip(snapshot.files, snapshot.commit.files, strict=True)
        return tuple(f for f, data in pairs if not known.issuperset(data.units))
    before = {f.uri for f in consumed_before(plan.outputs, source.name)}
    return tuple(f for f in snapshot.files if source.redact(f.uri) not in before)


def _timed(
    plan: CompiledPipeline,
    source: BoundSource,
    snapshot: Snapshot,
    files: tuple[FileInfo, ...],
    now: datetime,
    seen: Extents | None,
) -> Mapping[str, Arrival]:
    """Return the known times in files; the times of all of them are looked for."""
    if snapshot.commit is not None:
        return {f.uri: a for f, a in _in_footers(plan, source, snapshot, files).items()}
    if source.watermark is not None and source.watermark.by_files:
        return arrived(plan, source, snapshot, now, seen, last=True).arrivals
    column = plan.pipeline.sources[source.name].event_time
    assert column is not None
    timed = replace(source, watermark=Watermark(column))
    return arrived(plan, timed, replace(snapshot, files=files), now, seen, last=True).arrivals


def touched(
    plan: CompiledPipeline,
    segment: Segment,
    snapshots: Mapping[str, Snapshot],
    now: datetime,
) -> dict[str, int]:
    """Return, per stage of a segment, how many windows reach over the times of files that were never read.

    Windows over another column than a source's event time are not counted: it is not known before rows are read.
    """
    found = {}
    extents: dict[str, list[Extent]] = {}
    for name in (n for s in and_ahead(plan.segments, segment) for n in s.nodes):
        source = plan.nodes[name].source
        if source is not None and name in snapshots and _is_timed(plan, source):
            fresh = _unread(plan, source, snapshots[name])
            arrivals = _timed(plan, source, snapshots[name], fresh, now, {})
            times = [
                Extent(a.low, a.high) for f in fresh if (a := arrivals[f.uri]).low is not None and a.high is not None
            ]
            extents.setdefault(str(plan.pipeline.sources[name].event_time), []).extend(times)
    for name in segment.nodes:
        node = plan.nodes[name]
        for operation, _ in node.steps:
            if isinstance(operation, Window) and operation.time in extents:
                schema = plan.nodes[node.inputs[0]].schema
                found[name] = _count(operation, schema, extents[operation.time])
    return found


def _count(operation: Window, schema: pl.Schema, extents: Iterable[Extent]) -> int:
    clock = Clock.of(operation.time, schema, operation.time_zone)
    ticks = pl.DataFrame(list(extents), schema={"low": pl.Int64, "high": pl.Int64}, orient="row") // (
        clock.tick // 1_000
    )
    total = 0
    for every in operation.every:
        kind = windows(clock, every, period=operation.period, offset=operation.offset)
        last, first = pl.lit(0), pl.lit(kind.overlap - 1)
        begins = ticks.select(
            kind.begin(kind.slice(clock.from_ticks(pl.col("low"))), first).alias("low"),
            kind.begin(kind.slice(clock.from_ticks(pl.col("high"))), last).alias("high"),
        )
        seen: set[int] = set()
        for low, high in begins.unique().iter_rows():
            seen.update(range(low, high + 1, kind.every))
        total += len(seen)
    return total
