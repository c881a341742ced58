"""One try at one segment: write to files that nobody sees, audit, publish; or take everything away again.

The segment's query is built here: compiled nodes lowered over this run's inputs, with what must be counted on the way (gates,
casts, keys of joins, fields of text files) put in as functions that rows flow through. They run on the streaming engine's own
threads, so none of them may start a streaming query (docs/decisions/0001).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.compile.contract import read_contract
from lazypipe.compile.node import Node
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.errors import CommitConflict, LazypipeError, Problem, RunError, StorageError
from lazypipe.gates import Check
from lazypipe.gates.alone import mark_repeats, settle
from lazypipe.gates.report import GateReport
from lazypipe.gates.rule import PREVIOUS, Reference
from lazypipe.gates.tally import to_columns
from lazypipe.gates.tap import FILE_COLUMN, Tap, quarantine_schema
from lazypipe.gates.uniqueness import TIMES_COLUMN, KeyTracker, repeated
from lazypipe.incremental.work import CONSUMED, Work, with_hashes
from lazypipe.plan.executed import Executed
from lazypipe.plan.reader import Capture
from lazypipe.run import layouts
from lazypipe.run.blame import explain_failure, join_sides
from lazypipe.run.corrupt import admitted, files_set_aside
from lazypipe.run.delivery import listing
from lazypipe.run.recorder import Aside, Recorder
from lazypipe.run.result import SegmentResult
from lazypipe.spec import taps
from lazypipe.spec.model import Step
from lazypipe.spec.scope import Table
from lazypipe.storage import uri as uris
from lazypipe.storage.dataset import Dataset, count_units, find_odd, scan_files
from lazypipe.storage.files import FileInfo
from lazypipe.storage.log import KEPT, Commit, DataFile
from lazypipe.storage.shape import grown
from lazypipe.storage.sink import DatasetSink, ExportSink, Written
from lazypipe.storage.units import UNIT, as_units

__all__ = ["Attempt", "Observer", "Run"]

Observer = Callable[[str, int, int, int], None]
"""Told of progress: segment, its number, how many there are, rows seen by its gates so far."""

_FIGURES = "@figures"
"""What is kept of each unit, in the plan of the query that makes an output of that."""

_SPILL = {"compression": "lz4"}
"""Rows kept for later segments of the same run are written once and read once or twice: speed before size."""


@dataclass(frozen=True)
class Run:
    """What the segments of one run share: the plan, the run's id and time, what was listed and what was kept."""

    plan: CompiledPipeline
    id: str
    now: datetime
    state: str
    folder: Path
    observer: Observer
    recorder: Recorder
    full: bool = False
    kept: dict[str, pl.LazyFrame] = field(default_factory=dict)
    published: dict[str, tuple[Dataset, Commit]] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    checked: set[FileInfo] = field(default_factory=set)
    hashes: dict[FileInfo, str] = field(default_factory=dict)

    def look(self, name: str) -> Snapshot:
        """List a source, once per run; without the files that are not whole yet, or known to be corrupt."""
        if name not in self.snapshots:
            source = self.plan.nodes[name].source
            assert source is not None
            # a corrupt file is told by looking into it
            listed = listing(self.plan, source, self.now)
            if source.on_corrupt != "fail":
                listed = source.looked_at(listed)
            self.snapshots[name] = admitted(self, source, listed)
        return self.snapshots[name]


class Attempt:
    """One try at one segment: its taps, its sink, and what must be taken away if it fails."""

    def __init__(self, run: Run, segment: Segment, number: int, work: Work) -> None:
        self.all = run
        self.work = work
        self.figures: tuple[DataFile, ...] = ()
        self.snapshots: dict[str, Snapshot] = {}
        self.plan = run.plan
        self.segment = segment
        self.number = number
        self.output = self.plan.outputs[segment.output] if segment.output else None
        self.taps: dict[str, Tap] = {}
        self.lock = threading.Lock()
        self.counters: dict[str, int] = {}
        self.known: dict[tuple[str, str], pl.DataFrame] = {}
        self.short: dict[str, list[int]] = {}
        self.guards: list[tuple[Node, Step, KeyTracker]] = []
        self.staged: list[DatasetSink | ExportSink] = []
        self.holds = False
        self.published = False
        self.ended = False
        self.capture = Capture()
        self.beneath: Executed | None = None
        self.target = self.output.to if self.output else str(run.folder / segment.name)
        self.choice: layouts.Choice | None = None
        self.chosen = False

    # write → audit → publish

    def run(self, started: float) -> SegmentResult:
        """Write, audit, publish; raises whatever stops it, with what was published before untouched."""
        self._notify(0)
        expected = self._current_version() if self.work.version is None else self.work.version
        self._refuse_changes()
        self._snapshot()
        self.choice = self._kept_layout()
        begun = time.perf_counter()
        sink, written = self._write()
        self._audit_text()
        self._audit_joins()
        again = "b"
        while self._settle():
            sink.discard()
            self.staged.remove(sink)
            sink, written = self._write(again)
            again += "b"
        written = self._release(sink, written)
        sink, written = self._lay_out(sink, written, time.perf_counter() - begun)
        hashes = self._hashing(sink, written)
        self._measure(sink, written)
        self.ended = True
        # before anything is judged by the rows of another run
        self._refuse_conflict(expected)
        self._audit_gates(written)
        earlier = self._rewrite(sink)
        commit = self._publish(sink, written, earlier, expected, hashes)
        if commit is not None:
            self.all.published.setdefault(self.segment.node, (self._dataset(), commit))
        gates = self.reports()  # while it is still known that rows carry their units
        rows = self._frame_of_files(sink, written) if commit is None else self._dataset().scan(commit)
        self.all.kept.setdefault(self.segment.node, rows)
        now: Commit | Written = written if commit is None else commit
        return SegmentResult(
            self.segment.name,
            "done",
            self.segment.output,
            uri=self.plan.redact(self.target) if self.output else None,
            version=None if commit is None else commit.version,
            rows=now.rows,
            bytes=now.bytes,
            files=len(now.files),
            written=written.rows,
            why=self.work.why or None,
            seconds=time.perf_counter() - started,
            gates=gates,
            counts=dict(self.counters),
            corrupt=files_set_aside(self.all, self.segment),
            executed=Executed(self.segment.node, self.capture, self.beneath),
        )

    def _current_version(self) -> int:
        if self.output is None or self.output.format != "dataset":
            return 0
        latest = self._dataset().latest()
        return latest.version if latest else 0

    def _stands(self, expected: int) -> bool:
        if self.output is None or self.output.format != "dataset":
            return True
        latest = self._dataset().latest()
        return expected == 0 if latest is None else latest.stands(expected)

    def _refuse_conflict(self, expected: int) -> None:
        """Raise CommitConflict where another run has committed to the output since this one looked."""
        if not self._stands(expected):
            raise CommitConflict(
                "another run has committed meanwhile",
                uri=self.plan.redact(self.target),
                fix="run again: nothing of this run became visible",
            )

    def _dataset(self) -> Dataset:
        assert self.output is not None
        return Dataset(self.target, self.output.storage_options)

    def _refuse_changes(self) -> None:
        """Raise StorageError where an output with a contract has got other columns since the pipeline was compiled."""
        name = self.segment.output
        if name is None or name not in self.plan.held:
            return
        latest = self._dataset().latest()
        known = (self.plan.held[name], self.plan.nodes[self.segment.node].schema)
        if latest is not None and all(dict(latest.schema) != dict(k or {}) for k in known):
            what = f"output {name!r}: its columns are others than when the pipeline was compiled"
            raise StorageError(what, uri=self.plan.redact(self.target), fix="compile the pipeline again")

    def _snapshot(self) -> None:
        """Take what is to be read of each source, and refuse what Polars would pass over in silence."""
        for name in (*self.segment.nodes, *self.segment.lookups):
            source = self.plan.nodes[name].source
            if source is not None:
                listed, units = self.all.look(name), self.work.units.get(name)
                if units is not None and listed.commit is None:
                    listed = replace(listed, files=tuple(f for f in listed.files if f.uri in units.files))
                found = source.looked_at(listed)
                if not self.all.checked.issuperset(found.files) or found.commit is not None:
                    source.check(found)
                    self.all.checked.update(found.files)
                self.snapshots[name] = found
                self.all.recorder.read(source, self.all.look(name))

    def _sink(self, suffix: str) -> DatasetSink | ExportSink:
        prefix = f"{self.all.id}-{self.number:03}{suffix}"
        if self.output is None:
            made: DatasetSink | ExportSink = DatasetSink(self.target, prefix, options=_SPILL)
        elif self.output.format == "dataset":
            layout = None if self.choice is None else self.choice.layout
            options = self.output.storage_options
            made = DatasetSink(self.target, prefix, self.output.partition_by, options, layout=layout)
        else:
            made = ExportSink(self.target, self.output.format, prefix, self.output.storage_options)
        self.staged.append(made)
        return made

    def _write(self, suffix: str = "") -> tuple[DatasetSink | ExportSink, Written]:
        """Write the segment's rows, and have its gates see all of theirs."""
        self.counters.clear()
        self.guards.clear()
        sink = self._sink(suffix)
        self.holds = isinstance(sink, DatasetSink) and not self._is_sorted()
        if self.work.cut is not None:
            self._fold(*self.work.cut, suffix)
        self.capture = Capture()
        frame = self._frame(self.segment.node)
        if self.work.told_apart and (numbers := self.work.numbers) is not None:
            frame = as_units(frame, numbers)
        written = sink.write(frame, self.capture)
        self._complete_gates()
        if not self.work.told_apart:
            return sink, written
        if written.rows == 0:
            sink.discard()
            return sink, Written(())
        schema, options = self.plan.nodes[self.segment.node].schema, self._dataset().storage_options
        by = self.output.partition_by if self.output else ()
        return sink, Written(count_units(self.target, written.files, schema, by, options))

    def _complete_gates(self) -> None:
        """Run the gates alone that saw only part of their rows, because what reads them stopped, or never began."""
        counted = dict(self.counters)
        for name in reversed([n for n in self.segment.nodes if n in self.taps and n != self.segment.node]):
            seen = self.taps[name].rows
            if seen and name not in self.segment.partial:
                continue
            rows = self._plain(name, before_gate=True).select(pl.len()).collect(engine="streaming").item()
            if rows != seen:
                self._frame(name).select(pl.len()).collect(engine="streaming")
        self.counters.update(counted)

    # frames with taps

    def _frame(self, name: str) -> pl.LazyFrame:
        """Return a node's rows as this run computes them: counted, checked, split."""
        units = self.work.units.get(name)
        if name in self.all.kept:
            if units is None:
                return taps.label(self.all.kept[name], name)
            dataset, commit = self.all.published[name]
            return taps.label(dataset.scan_units(commit, units), name)
        node = self.plan.nodes[name]
        quarantines = any(c.action == "quarantine" for c in node.checks)
        if node.source is not None:
            # rows that are replayed from a quarantine carry the file that they came from
            asked = quarantines and FILE_COLUMN not in node.schema
            watch = partial(self._watch_text, name, node.source) if node.source.is_text else None
            rows = node.source.scan(self.snapshots[name], file_column=asked, watch=watch, units=units)
            frame = taps.label(rows, name)
        elif self.work.cut is not None and name == self.work.cut[0]:
            frame = self._merged(node, self.work.cut[1])
        else:
            inputs = {n: self._table(n) for n in node.inputs}
            frame = node.lower(inputs, self._tally, lambda step: partial(self._guard, node, step))
        if not node.checks:
            return frame
        known = {check: keys for (of, check), keys in self.known.items() if of == name}
        checks, lookup = mark_repeats(node.checks, known, self._lookup)
        extra = self._extra(name)
        gate = Tap(
            checks,
            pl.Schema({**node.schema, **dict.fromkeys(extra, pl.UInt64())}),
            run=self.all.id,
            spill=self.all.folder / "quarantine",
            lookup=lookup,
            notify=self._notify,
            # rows that are held back come out of their unit's file
            hold=self.holds and name == self.segment.node and not extra,
            key=self.plan.key(name),
            masked=self.plan.masked(name),
            raw=bool(node.raw),
            unit=UNIT if extra else None,
        )
        self.taps[name] = gate
        return gate.attach(frame)

    def _table(self, name: str) -> Table:
        return Table(self._frame(name), self.plan.nodes[name].schema, self._extra(name))

    def _fold(self, name: str, step: int, suffix: str) -> None:
        """Write what is kept of each unit that this run reads, where the output is made of that."""
        node = self.plan.nodes[name]
        inputs = {n: self._table(n) for n in node.inputs}
        watch = (self._tally, lambda step: partial(self._guard, node, step))
        ahead = node.steps_over(inputs[node.inputs[0]], inputs, 0, step, *watch)
        frame = node.fold(ahead, inputs, step).partial
        if (numbers := self.work.numbers) is not None:
            frame = as_units(frame, numbers)
        prefix = f"{self.all.id}-{self.number:03}{suffix}"
        sink = DatasetSink(self._dataset().figures, prefix, storage_options=self._dataset().storage_options)
        self.staged.append(sink)
        self.capture = Capture()
        written = sink.write(frame, self.capture)
        self.beneath = Executed(_FIGURES, self.capture)
        if written.rows:
            within = _without_units(frame.collect_schema())
            self.figures = count_units(sink.uri, written.files, within, (), sink.storage_options)
        else:
            sink.discard()
            self.figures = ()

    def _merged(self, node: Node, step: int) -> pl.LazyFrame:
        """Return a stage's rows, ahead of its gate, from what was kept of each unit, in this run and before."""
        inputs = {n: self._table(n) if n != node.inputs[0] else self._stub(n) for n in node.inputs}
        watch = (self._tally, lambda step: partial(self._guard, node, step))
        ahead = node.steps_over(inputs[node.inputs[0]], {**inputs}, 0, step)
        fold = node.fold(ahead, inputs, step)
        kept = (*self.work.figures, *self.figures)
        within = _without_units(fold.partial.collect_schema())
        options = self._dataset().storage_options
        rows = scan_files(self._dataset().figures, kept, within, (), options, tagged=True, units=self.work.live)
        after = Table(fold.merge(taps.label(rows, _FIGURES)), node.schemas[step])
        return node.shaped(node.steps_over(after, inputs, step + 1, len(node.steps), *watch))

    def _stub(self, name: str) -> Table:
        schema = self.plan.nodes[name].schema
        rows = pl.LazyFrame(schema={**schema, UNIT: pl.UInt64()})
        return Table(rows, schema, (UNIT,))

    def _extra(self, name: str) -> tuple[str, ...]:
        """Return the column with each row's unit, where rows carry it."""
        while name not in self.work.units:
            inputs = self.plan.nodes[name].inputs
            if not inputs or name in self.all.kept or name == (self.work.cut or ("",))[0]:
                return ()
            name = inputs[0]
        return (UNIT,)

    def _plain(self, name: str, *, before_gate: bool = False) -> pl.LazyFrame:
        """Return a node's rows with gates as filters: what to count exactly, or to find a culprit with; what this run reads."""
        units = self.work.units.get(name)
        if name in self.all.kept and name != self.segment.node:
            if units is None:
                return self.all.kept[name]
            dataset, commit = self.all.published[name]
            return dataset.scan_units(commit, units).drop(UNIT)
        node = self.plan.nodes[name]
        if node.source is not None:
            frame = node.source.scan(self.snapshots[name])
        elif self.work.cut is not None and name == self.work.cut[0]:
            frame = self._merged(node, self.work.cut[1])
        else:
            frame = node.lower({n: Table(self._plain(n), self.plan.nodes[n].schema) for n in node.inputs})
        return node.mended(frame) if before_gate else node.good(frame, self._lookup)

    def _lookup(self, reference: Reference) -> pl.LazyFrame:
        return taps.label(self._plain(reference.to), reference.to)

    def _is_sorted(self) -> bool:
        """Whether rows must be written in the order in which they come."""
        steps = self.plan.nodes[self.segment.node].steps
        return bool(steps) and steps[-1][0].name == "sort"

    def _watch_text(self, name: str, source: BoundSource, frame: pl.LazyFrame, last: str) -> pl.LazyFrame:
        """Keep projection away from a text file, so that every field is parsed; note nulls in the last column of a CSV."""
        nulls = self.short.setdefault(name, []) if source.reader.format == "csv" else []

        def watch(batch: pl.DataFrame) -> pl.DataFrame:
            if not nulls and batch[last].null_count():
                nulls.append(1)
            return batch

        return taps.tap(frame, watch)

    def _tally(self, frame: pl.LazyFrame, conditions: Mapping[str, pl.Expr]) -> pl.LazyFrame:
        """Count rows for which conditions hold, on the way."""
        schema = frame.collect_schema()
        columns = {f"__lazypipe_tally_{i}": (name, expr) for i, (name, expr) in enumerate(conditions.items())}
        for name, _ in columns.values():
            self.counters.setdefault(name, 0)

        def count(batch: pl.DataFrame) -> pl.DataFrame:
            sums = batch.select(pl.col(list(columns)).sum()).row(0)
            with self.lock:
                for (name, _), found in zip(columns.values(), sums, strict=True):
                    self.counters[name] += found
            return batch.select(schema.names())

        return taps.tap(frame.with_columns(e.alias(c) for c, (_, e) in columns.items()), count, schema=schema)

    def _guard(
        self, node: Node, step: Step, frame: pl.LazyFrame, schema: pl.Schema, keys: tuple[str, ...]
    ) -> pl.LazyFrame:
        """Watch the keys of a join's side on the way."""
        tracker = KeyTracker(keys, schema)
        self.guards.append((node, step, tracker))

        def watch(batch: pl.DataFrame) -> pl.DataFrame:
            within = batch.select(keys).drop_nulls()
            # select, not DataFrame.n_unique: that is a streaming query of its own, and would wait for this very thread
            if within.select(pl.struct(pl.all()).n_unique()).item() < within.height:
                # said at once: a join on repeated keys can multiply rows without bound
                raise self._repeats_in_join(node, step, repeated(within, keys))
            tracker.add(batch)
            return batch

        return taps.tap(frame, watch)

    def _notify(self, _: int) -> None:
        self.all.observer(
            self.segment.name, self.number, len(self.plan.segments), sum(t.rows for t in self.taps.values())
        )

    # audit

    def _audit_text(self) -> None:
        for name, nulls in self.short.items():
            source = self.plan.nodes[name].source
            assert source is not None
            source.refuse_short_rows(self.snapshots[name], nulls=bool(nulls))

    def _audit_joins(self) -> None:
        """Raise RunError where a join's keys are not as unique as it states."""
        for node, step, tracker in self.guards:
            if tracker.count() != 0:
                inputs = {n: Table(self._plain(n), self.plan.nodes[n].schema) for n in node.inputs}
                for frame, keys in join_sides(node, step, inputs):
                    found = repeated(frame, keys).collect(engine="streaming")
                    if found.height:
                        raise self._repeats_in_join(node, step, found)

    def _repeats_in_join(self, node: Node, step: Step, found: pl.DataFrame) -> RunError:
        *values, times = found.sort(TIMES_COLUMN, descending=True).row(0)
        key = ", ".join(map(str, values))
        where = self.plan.pipeline.origin.locate((*step.path, step.name))
        what = f"stage {node.name!r}: join: key ({key}) stands {times} times on a side where validate allows one"
        return RunError(str(Problem(what, where)), fix="mend the data, or change validate; nothing was published")

    def _settle(self) -> bool:
        """Count repeated keys; return whether the rows must be written again, because it matters which ones repeat."""
        again = False
        for name, tap in self.taps.items():
            if self.work.kind == "units" and self._extra(name):
                continue
            checks = [c for c in self.plan.nodes[name].checks if (name, c.id) not in self.known]
            known = settle(tap, checks, partial(self._plain, name, before_gate=True))
            self.known |= {(name, check): keys for check, keys in known.items()}
            if any(c.id in known and c.removes_rows for c in checks):
                again = True
            elif known:
                report = tap.report(name)
                again = again or (report.quarantined > 0 and report.status != "fail")
        return again

    def _release(self, sink: DatasetSink | ExportSink, written: Written) -> Written:
        """Write the rows that were held back until all keys had been seen."""
        tap = self.taps.get(self.segment.node)
        good = tap.release() if tap is not None else None
        if good is None or good.height == 0:
            return written
        assert isinstance(sink, DatasetSink)
        more = replace(sink, prefix=f"{sink.prefix}h")
        self.staged.append(more)
        return Written((*written.files, *more.write(good.lazy()).files))

    def _kept_layout(self) -> layouts.Choice | None:
        """Return the layout that the output's files have, if one was ever chosen."""
        if self.output is None or self.output.format != "dataset":
            return None
        schema = self.plan.nodes[self.segment.node].schema
        return layouts.kept(self.output, self._dataset().latest(), schema, ordered=self._is_sorted())

    def _lay_out(
        self, sink: DatasetSink | ExportSink, written: Written, seconds: float
    ) -> tuple[DatasetSink | ExportSink, Written]:
        """Choose a layout by the rows that were written, if one is asked for and none is kept, and write them in that."""
        output, name = self.output, self.segment.output
        if output is None or name is None or not isinstance(sink, DatasetSink):
            return sink, written
        if not layouts.is_due(output, self.choice, written.rows, written.bytes):
            return sink, written
        schema, apart = self.plan.nodes[self.segment.node].schema, self.work.told_apart
        staged = Commit(
            0, self.all.id, self.all.now, "staged", schema, written.files, output.partition_by, tagged=apart
        )
        dataset, ordered = self._dataset(), self._is_sorted()
        self.choice = layouts.choose(self.plan, name, dataset, staged, seconds, ordered=ordered)
        self.chosen = True
        earlier = [s for s in self.staged if isinstance(s, DatasetSink) and s.uri == sink.uri]
        again = self._sink("l")
        files = again.write(dataset.scan(staged, tags=apart)).files
        if apart:
            files = count_units(self.target, files, schema, output.partition_by, output.storage_options)
        for one in earlier:
            one.discard()
            self.staged.remove(one)
        assert sum(f.rows for f in files) == written.rows, f"rows lost on the way to the layout of {self.target}"
        written = Written(files)
        self.choice = layouts.measured(self.choice, written.rows, written.bytes)
        return again, written

    def _measure(self, sink: DatasetSink | ExportSink, written: Written) -> None:
        """Judge the checks of whole frames, over the rows that go on; those of the segment's own node are on disk by now."""
        for name, tap in self.taps.items():
            on_disk = name == self.segment.node and isinstance(sink, DatasetSink)
            rows = partial(self._published_rows, sink, written) if on_disk else partial(self._plain, name)
            for check in self.plan.nodes[name].checks:
                if check.keys and self.work.kind == "units" and self._extra(name):
                    tap.count_keys(check, self._count_repeated(check, tap, rows()))
                if check.measure is not None:
                    frames = {n: self._plain(n) for n in check.measure.frames if n != PREVIOUS}
                    commit = self._dataset().latest() if self._is_published(name) else None
                    if commit is not None and PREVIOUS in check.measure.frames:
                        frames[PREVIOUS] = self._dataset().scan(commit)
                    tap.measure(
                        check,
                        rows,
                        frames,
                        self._history(name, check),
                        ask=self.work.kind == "units" and bool(self._extra(name)),
                    )

    def _published_rows(self, sink: DatasetSink | ExportSink, written: Written) -> pl.LazyFrame:
        """Return all rows that the output will have."""
        rows = self._frame_of_files(sink, written)
        commit = self._dataset().latest() if self.work.kind == "units" and self.work.told_apart else None
        if commit is None:
            return rows
        return pl.concat([self._dataset().scan(commit, only=commit.units - self.work.gone), rows])

    def _count_repeated(self, check: Check, tap: Tap, good: pl.LazyFrame) -> int:
        """Return how many of all rows have a key that repeats: those that went on, now and before, and those put aside."""
        schema = self.plan.nodes[self.segment.node].schema
        names = [n for n in schema if n in check.columns]
        aside = self._aside(self.segment.node)
        commit = aside.latest()
        parts = [good.select(names), *(part.lazy().select(names) for part in tap.quarantined())]
        if commit is not None and commit.tagged:
            live = frozenset(self.work.tallies[self.segment.node])
            parts.append(aside.scan(commit, only=live).select(names))
        keys = repeated(pl.concat(parts), check.keys, check.where).collect(engine="streaming")
        return int(keys[TIMES_COLUMN].sum())

    def _is_published(self, name: str) -> bool:
        return name == self.segment.node and self.output is not None and self.output.format == "dataset"

    def _history(self, name: str, check: Check) -> list[Any]:
        """Return the values that a check measured in the commits before this one, oldest first."""
        if not check.measure or not check.measure.history or not self._is_published(name):
            return []
        log = self._dataset().log
        found = []
        for version in log.versions()[-check.measure.history :]:
            for report in log.read(version).info.get("gates", ()):
                if report["node"] == name:
                    found += [c.get("value") for c in report["checks"] if c["id"] == check.id]
        return found

    def _audit_gates(self, written: Written) -> None:
        reports = self.reports()
        for report in reports:
            report.raise_for_status()
        if self.segment.node in self.taps:
            good = sum(t.good for t in self.taps[self.segment.node].tallies.values())
            assert good == written.rows, f"rows lost on the way to {self.target}: {good}, written {written.rows}"

    def reports(self) -> tuple[GateReport, ...]:
        """Return what the gates found; nothing until all of their rows have been seen."""
        if not self.ended:
            return ()
        earlier = {n: t.values() for n, t in self.work.tallies.items() if self._extra(n)}
        return tuple(t.report(name, earlier.get(name, ())) for name, t in self.taps.items())

    # publish

    def _sink_uri(self) -> str:
        return (uris.local_path(self.target) if uris.is_local(self.target) else self.target).rstrip("/")

    def _hashing(self, sink: DatasetSink | ExportSink, written: Written) -> Callable[[], tuple[DataFile, ...]]:
        """Begin to hash what was written, where that is going to be recorded; what is returned waits for it."""
        if self.output is None:
            return lambda: written.files
        if isinstance(sink, DatasetSink):
            schema, options = self.plan.nodes[self.segment.node].schema, sink.storage_options
            files = find_odd(sink.uri, written.files, schema, options, tagged=self.work.told_apart)
            return self.all.recorder.hashing(sink.uri, files, options)
        name = sink.staged.rpartition("/")[2]
        folder = sink.staged.removesuffix(name)
        return self.all.recorder.hashing(folder, written.files, sink.storage_options, names=[name])

    def _frame_of_files(self, sink: DatasetSink | ExportSink, written: Written) -> pl.LazyFrame:
        schema = self.plan.nodes[self.segment.node].schema
        if isinstance(sink, ExportSink):
            return pl.LazyFrame(schema=schema)  # an export is written only where nobody else reads
        tagged = self.work.told_apart and sink.uri.rstrip("/") == self._sink_uri()
        return scan_files(sink.uri, written.files, schema, sink.partition_by, sink.storage_options, tagged=tagged)

    def _rewrite(self, sink: DatasetSink | ExportSink) -> Written | None:
        """Write the rows that more are appended to once more, if the contract has let the columns change; None if not."""
        if self.output is None or not self.output.contract or self.output.mode != "append":
            return None
        before = self._dataset().latest()
        schema = self.plan.nodes[self.segment.node].schema
        if before is None or dict(before.schema) == dict(schema) or before.partition_by != self.output.partition_by:
            return None
        assert isinstance(sink, DatasetSink)
        aliases = {n: c.alias for n, c in read_contract(self.output.contract, ()).columns.items()}
        rows = grown(self._dataset().scan(before), before.schema, schema, aliases)
        assert rows is not None, "the compiler refuses columns that do not hold the rows that are there"
        again = replace(sink, prefix=f"{sink.prefix}o")
        self.staged.append(again)
        return again.write(rows)

    def _publish(
        self,
        sink: DatasetSink | ExportSink,
        written: Written,
        earlier: Written | None,
        expected: int,
        hashes: Callable[[], tuple[DataFile, ...]],
    ) -> Commit | None:
        if self.output is not None or self.taps:
            self.all.recorder.announce()
        # told before the quarantine is replaced too, which then is that of the other run
        self._refuse_conflict(expected)
        again, worn = self._compact(sink)
        for name, tap in self.taps.items():
            self._publish_quarantine(name, tap, self._frame_of_files(sink, written))
        self.published = True
        more = () if earlier is None else self._hashing(sink, earlier)()
        files = (*more, *hashes(), *again)
        if isinstance(sink, ExportSink):
            sink.publish()
            self.all.recorder.written[self.segment.name] = files
            return None
        if self.output is None:
            return None
        schema = self.plan.nodes[self.segment.node].schema
        info = {
            "gates": [r.to_dict() for r in self.reports()],
            **self._tags(self.segment.node),
            **self.all.recorder.info,
        }
        if self.work.info:
            read = [n for n in self.work.info["sources"] if n in self.all.snapshots]
            sources = {n: s for n in read if (s := self.plan.nodes[n].source) is not None}
            known = {n: {s.redact(u): h for u, h in self.all.recorder.known(n).items()} for n, s in sources.items()}
            info[CONSUMED] = {**with_hashes(self.work.info, known), "tallies": self._tallies()}
        if self._is_sorted():
            info["ordered"] = True  # files that are put together later must stay in their order
        if self.chosen and self.choice is not None:
            info[KEPT] = dict(self.choice.said)
        mode = self.output.mode if earlier is None else "replace"
        commit = self._dataset().commit(
            files,
            schema,
            run=self.all.id,
            time=self.all.now,
            mode="change" if self.work.kind == "units" and self.work.told_apart else mode,
            partition_by=self.output.partition_by,
            info=info,
            expected=expected,
            tagged=self.work.told_apart,
            gone=self.work.gone if self.work.told_apart else (),
            figures=(*self.work.figures, *self.figures),
            without=worn,
        )
        self.all.recorder.written[self.segment.name] = files
        return commit

    def _compact(self, sink: DatasetSink | ExportSink) -> tuple[tuple[DataFile, ...], frozenset[str]]:
        """Write those rows once more whose file would hold more dead than live ones; return files, and what they replace."""
        commit = self._dataset().latest() if self.work.kind == "units" and self.work.told_apart else None
        worn = () if commit is None else self._dataset().worn(commit, self.work.gone)
        if commit is None or not worn:
            return (), frozenset()
        assert isinstance(sink, DatasetSink)
        again = replace(sink, prefix=f"{sink.prefix}c")
        self.staged.append(again)
        live = commit.units - self.work.gone
        rows = self._dataset().scan(replace(commit, files=worn), only=live, tags=True)
        counted = count_units(
            self.target, again.write(rows).files, commit.schema, commit.partition_by, again.storage_options
        )
        return self._hashing(again, Written(counted))(), frozenset(f.path for f in worn)

    def _tallies(self) -> dict[str, Any]:
        """Return what each gate has counted of each unit, in this run and before."""
        numbers = self.work.numbers
        found = {}
        for name, tap in self.taps.items():
            if not self._extra(name):
                continue
            here = tap.tallies if numbers is None else {numbers[n]: t for n, t in tap.tallies.items()}
            found[name] = to_columns({**self.work.tallies.get(name, {}), **here})
        return found

    def _publish_quarantine(self, name: str, tap: Tap, good: pl.LazyFrame) -> None:
        """Commit a gate's quarantined rows to a dataset of their own, so that it says what is put aside.

        Where rows are added to an output by key, rows put aside before whose key has come by, ``good``, leave.
        """
        dataset = self._aside(name)
        if self._extra(name):
            self._change_quarantine(name, tap, dataset)
            return
        report = tap.report(name)
        mode = self.output.mode if self.output else "replace"
        parts: Iterator[pl.DataFrame] = tap.quarantined()
        before = dataset.latest()
        schema = quarantine_schema(self.plan.nodes[name].schema, raw=bool(self.plan.nodes[name].raw))
        if mode == "append" and before is not None:
            left = self._still_aside(name, dataset.scan(before), before, schema, good, more=report.quarantined > 0)
            if left is not None:
                parts, mode = chain([left] if left.height else [], parts), "replace"
        if not report.quarantined and (mode == "append" or before is None):
            return
        files: list[DataFile] = []
        for index, part in enumerate(parts):
            files += self._write_aside(dataset, index, part)
        commit = dataset.commit(
            files,
            schema,
            run=self.all.id,
            time=self.all.now,
            mode=mode,
            info={
                "of": self.segment.output or name,
                "gate": report.to_dict(),
                **self._tags(name),
                **self.all.recorder.info,
            },
        )
        # rows from before may still be in it, whichever way it was written
        kept = self.output.mode if self.output else "replace"
        self.all.recorder.asides.setdefault(self.segment.name, []).append(Aside(name, dataset.uri, commit, files, kept))

    def _aside(self, name: str) -> Dataset:
        """Return where rows are put aside by a node's gate."""
        if self.output and name == self.segment.node:
            return Dataset(f"{self.target}__quarantine", self.output.storage_options)
        return Dataset(uris.join(self.all.state, "quarantine", name))

    def _write_aside(self, dataset: Dataset, index: int, rows: pl.DataFrame) -> tuple[DataFile, ...]:
        prefix = f"{self.all.id}-{self.number:03}-{index:03}"
        sink = DatasetSink(dataset.uri, prefix, storage_options=dataset.storage_options)
        self.staged.append(sink)
        return self.all.recorder.hashed(sink.uri, sink.write(rows.lazy()).files, dataset.storage_options)

    def _change_quarantine(self, name: str, tap: Tap, dataset: Dataset) -> None:
        """Put this run's rows aside, and take those away whose unit is gone, or of which no commit of the output knows."""
        before, node, numbers = dataset.latest(), self.plan.nodes[name], self.work.numbers
        live = frozenset(self.work.tallies.get(name, {})) if self.work.kind == "units" else frozenset()
        follows = before is not None and before.tagged and self.work.kind == "units"
        gone = before.units - live if before is not None and follows else frozenset()
        report = tap.report(name)
        if not report.quarantined and (before is None or (follows and not gone) or not (before.rows or follows)):
            return
        files: list[DataFile] = []
        for index, part in enumerate(tap.quarantined()):
            rows = part if numbers is None else as_units(part.lazy(), numbers).collect()
            files += self._write_aside(dataset, index, rows)
        schema = quarantine_schema(node.schema, raw=bool(node.raw))
        files = [*count_units(dataset.uri, files, schema, (), dataset.storage_options)]
        commit = dataset.commit(
            files,
            schema,
            run=self.all.id,
            time=self.all.now,
            mode="change" if follows else "replace",
            info={
                "of": self.segment.output or name,
                "gate": report.to_dict(),
                **self._tags(name),
                **self.all.recorder.info,
            },
            tagged=True,
            gone=gone,
        )
        self.all.recorder.asides.setdefault(self.segment.name, []).append(
            Aside(name, dataset.uri, commit, files, "replace")
        )

    def _still_aside(
        self, name: str, rows: pl.LazyFrame, before: Commit, schema: pl.Schema, good: pl.LazyFrame, *, more: bool
    ) -> pl.DataFrame | None:
        """Return what stays of the rows put aside before, with the columns of now; None if they can stay as they are."""
        output, same = self.output, dict(before.schema) == dict(schema)
        if output and output.key and self._is_published(name):
            rows = rows.join(good.select(output.key), on=output.key, how="anti")
        elif same:
            return None
        held = rows if same else grown(rows, before.schema, schema)
        left = None if held is None else held.collect(engine="streaming")
        return None if left is not None and left.height == before.rows and (same or not more) else left

    def _tags(self, name: str) -> dict[str, Any]:
        """Return what a dataset's commit says of its columns' tags; nothing where none has any."""
        tags = self.plan.tags(name)
        return {"tags": {c: list(t) for c, t in tags.items()}} if tags else {}

    # when it went wrong

    def explain(self, error: BaseException) -> LazypipeError:
        """Turn what stopped the query into an error that names the file, or the stage and operation."""
        nodes = {n: self.plan.nodes[n] for n in (*self.segment.lookups, *self.segment.nodes)}
        snapshots = {n: s for n, s in self.snapshots.items() if n in nodes}
        redacted = self.plan.redact(self.target)
        found = explain_failure(error, nodes, snapshots, self._plain, self.plan.pipeline.origin, redacted)
        if found is not error:
            found.__cause__ = error
        return found

    def clean_up(self) -> None:
        """Take away files that were written and not published; what cannot be removed is left to vacuum."""
        if self.published:
            return
        for sink in self.staged:
            with suppress(Exception):
                sink.discard()


def _without_units(schema: pl.Schema) -> pl.Schema:
    return pl.Schema({n: t for n, t in schema.items() if n != UNIT})
