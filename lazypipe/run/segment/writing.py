"""Writes the rows of one attempt at a segment to files that readers do not see, with what is stored beside them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import polars as pl

from lazypipe.compile.changes.strategy import Side
from lazypipe.incremental.sides import KEYS
from lazypipe.plan.executed import Executed
from lazypipe.plan.reader import Capture
from lazypipe.run.segment.figures import Counted
from lazypipe.run.segment.grouping import FIGURES, Grouping
from lazypipe.run.segment.groups import Groups
from lazypipe.run.segment.growing import with_columns_of_now
from lazypipe.run.segment.part import Part
from lazypipe.run.segment.query import Query
from lazypipe.run.segment.target import Target
from lazypipe.storage.datasets.data_files import scan_files
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.datasets.units import untagged
from lazypipe.storage.sink import DatasetSink, ExportSink, Written

__all__ = ["Writing"]


class Writing(Part):
    """The rows of a segment on their way to files; ``capture`` sees the plan of the query that writes them, ``beneath`` is that of figures."""

    def __init__(self, query: Query, target: Target) -> None:
        super().__init__(query, target)
        self.capture: Capture | None = None
        self.beneath: Executed | None = None

    def note_digests(self) -> None:
        """Keep what other sides hold of each key: as it is before any row is read, so that a change meanwhile is found the next time."""
        if self.work.keeping and self.query.beside is not None:
            digests = self.query.digests
            digests.ahead(s for s in self.work.keeping if s not in self.work.told and s not in self.work.digests)
            self.query.beside.note_digests(digests.of, self.target.prefix("d"))

    def write(self, suffix: str = "") -> tuple[DatasetSink | ExportSink, Written]:
        """Write the segment's rows, and have its gates see all of theirs."""
        query = self.query
        query.begin()
        grouping, many = query.grouping, None
        if grouping is not None and grouping.is_part:
            self._write_figures(grouping, suffix)
            many = sum(f.rows for f in grouping.files)
        groups = self.target.groups
        sink = self.target.sink(suffix, many if groups is None else groups.commit.rows)
        query.holds = isinstance(sink, DatasetSink) and not self.target.is_sorted
        self.capture = self._watch()
        counted, counts = Counted(), self.work.told_apart
        rows = query.rows(None if groups is None else groups.neighbours())
        try:
            written = self._write_rows(sink, counted.attach(rows) if counts else rows)
        except Exception:
            if groups is not None:
                groups.refuse_unreadable()
            raise
        query.counted()
        query.complete_gates()
        if grouping is not None and not grouping.is_part:
            self._write_places(grouping, suffix)
        if self.work.hashed and query.beside is not None:
            query.beside.note_keys(query.taps, query.with_units, self.target.prefix(f"{suffix}k"))
        if self.work.keeping and query.beside is not None:
            query.beside.note_sides(query.keys_of, self.target.prefix(f"{suffix}s"))
        if groups is not None:
            assert isinstance(sink, DatasetSink)
            groups.leave_out(self.target.prefix(f"{suffix}g"), sink.most_rows)
            if not written.rows:
                sink.discard()
                return sink, Written(())
        added = self.output is not None and self.output.mode == "append" and self.work.kind == "units"
        if written.rows == 0 and (added or self.work.told_apart):
            sink.discard()
            return sink, Written(())
        if not self.work.told_apart:
            return sink, written
        options = self.output.storage_options if self.output else {}
        ask = partial(count_units, self.target.uri, written.files, options)
        return sink, Written(counted.files(written.files, ask) if counts else ask())

    def _write_rows(self, sink: DatasetSink | ExportSink, rows: pl.LazyFrame) -> Written:
        if isinstance(sink, ExportSink):
            # what is read of a dataset has the columns in the order of when that was written
            return sink.write(rows.select(*self.target.schema), self.capture)
        grouping = self.query.grouping
        few = grouping is not None and grouping.is_little
        parts = {} if self.target.groups is None else {"parts": self.target.groups.parts}
        keys, size = self.target.looked_up(self.target.schema), self.query.made_of
        return sink.write(rows, self.capture, few=few, made_of=size, keys=keys, **parts)

    def _watch(self) -> Capture | None:
        """Return what is shown the plan that runs; None where nothing of a run is written down."""
        return Capture() if self.run.recorder.is_on else None

    @property
    def executed(self) -> Executed | None:
        """The plan that ran, as far as it was to be seen."""
        return None if self.capture is None else Executed(self.segment.node, self.capture, self.beneath)

    def _write_figures(self, grouping: Grouping, suffix: str) -> None:
        """Write the figures of each unit that this run reads, where the output is made of figures."""
        capture, partial = self._watch(), grouping.partial()
        counted = Counted(grouping.order)
        grouping.figures = grouping.note(
            grouping.beside.write(partial, self.target.prefix(suffix), capture, counted=counted)
        )
        if not self.work.reread and capture is not None:
            self.beneath = Executed(FIGURES, capture)
        self.query.counted()
        if self.work.groups and self.work.kind == "units":
            self.target.groups = self._touched(grouping, counted.held)

    def _write_places(self, grouping: Grouping, suffix: str) -> None:
        """Write which units hold rows of which groups, as noted while rows were processed."""
        pairs = grouping.pairs()
        if pairs is not None:
            grouping.within = untagged(pairs.collect_schema())
            grouping.figures = grouping.note(grouping.beside.write(pairs, self.target.prefix(suffix)))

    def _touched(self, grouping: Grouping, noted: pl.DataFrame | None) -> Groups | None:
        """Return the groups to rebuild, and pass them to the grouping; None if it is better to rebuild all."""
        work, commit, grouping.touched = self.work, self.work.commit, None
        assert commit is not None
        if work.whole or (self.plan.nodes[self.segment.node].checks and self.target.reported() is None):
            return None
        found = grouping.find(noted)
        if found is None or 2 * found[0].height > (grouping.many() if grouping.larger else commit.rows):
            return None
        touched, grouping.touched = found
        return Groups(self.target.dataset, commit, work, touched, self.target.schema)

    def shared_keys(self) -> dict[Side, pl.LazyFrame]:
        """Write the lookup keys of rows that are kept for this run only: the outputs that read these rows store the keys as their own."""
        found = {}
        for number, side in enumerate(self.work.sides):
            sink = DatasetSink(self.target.uri + ".keys", self.target.prefix(f"k-{number:03}"), spill=True)
            self.target.staged.append(sink)
            files = sink.write(self.query.keys_of(side)).files
            found[side] = scan_files(sink.uri, files, KEYS, (), {}, tagged=True, tags=True)
        return found

    def release(self, sink: DatasetSink | ExportSink, written: Written) -> Written:
        """Write the rows that were held back until all keys had been seen."""
        tap = self.query.taps.get(self.segment.node)
        good = tap.release() if tap is not None else None
        if good is None or good.height == 0:
            return written
        assert isinstance(sink, DatasetSink)
        more = replace(sink, prefix=f"{sink.prefix}h")
        self.target.staged.append(more)
        return Written((*written.files, *more.write(self.query.told(good.lazy())).files))

    def rewrite(self, sink: DatasetSink | ExportSink) -> Written | None:
        """Write the rows that more are appended to once more, if the contract has let the columns change; None if not."""
        if self.output is None or not self.output.contract or self.output.mode != "append" or self.work.anew:
            return None
        before = self.target.before
        schema = self.target.schema
        if before is None or dict(before.schema) == dict(schema):
            return None
        assert isinstance(sink, DatasetSink)
        rows = with_columns_of_now(self.target.dataset, before, schema, self.output)
        again = replace(sink, prefix=f"{sink.prefix}o")
        self.target.staged.append(again)
        return again.write(rows)
