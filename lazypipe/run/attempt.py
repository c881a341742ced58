"""One try at one segment: write to files that nobody sees, audit, publish; or take everything away again.

The segment's query is built here: compiled nodes lowered over this run's inputs, with what must be counted on the way (gates,
casts, keys of joins, fields of text files) put in as functions that rows flow through. They run on the streaming engine's own
threads, so none of them may start a streaming query (docs/decisions/0001).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import polars as pl

from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.compile.node import Node
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.errors import CommitConflict, LazypipeError, Problem, RunError
from lazypipe.gates import Check
from lazypipe.gates.report import GateReport
from lazypipe.gates.tap import FILE_COLUMN, Tap, quarantine_schema
from lazypipe.gates.uniqueness import TIMES_COLUMN, KeyTracker, repeated
from lazypipe.run.blame import explain_failure, join_sides
from lazypipe.run.result import SegmentResult
from lazypipe.spec.model import Step
from lazypipe.spec.scope import Table
from lazypipe.storage import uri as uris
from lazypipe.storage.dataset import Dataset, scan_files
from lazypipe.storage.log import DataFile
from lazypipe.storage.sink import DatasetSink, ExportSink, Written
from lazypipe.storage.text import refuse_short_rows

__all__ = ["Attempt", "Observer", "Run"]

Observer = Callable[[str, int, int, int], None]
"""Told of progress: segment, its number, how many there are, rows seen by its gates so far."""

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
    kept: dict[str, pl.LazyFrame] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)


class Attempt:
    """One try at one segment: its taps, its sink, and what must be taken away if it fails."""

    def __init__(self, run: Run, segment: Segment, number: int) -> None:
        self.all = run
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
        self.published = False
        self.ended = False
        self.target = self.output.to if self.output else str(run.folder / segment.name)

    # write → audit → publish

    def run(self, started: float) -> SegmentResult:
        """Write, audit, publish; raises whatever stops it, with what was published before untouched."""
        self._notify(0)
        expected = self._current_version()
        self._snapshot()
        sink, written = self._write()
        self._audit_text()
        self._audit_joins()
        for name, tap in self.taps.items():
            self._count_repeats(name, tap)
        if any(self._concern_rows(name, tap) for name, tap in self.taps.items()):
            sink.discard()
            self.staged.remove(sink)
            sink, written = self._write("b")
        self.ended = True
        self._audit_gates(written)
        version = self._publish(sink, written, expected)
        self.all.kept.setdefault(self.segment.node, self._frame_of_files(sink, written))
        return SegmentResult(
            self.segment.name,
            "done",
            self.segment.output,
            uri=self.plan.redact(self.target) if self.output else None,
            version=version,
            rows=written.rows,
            bytes=written.bytes,
            files=len(written.files),
            seconds=time.perf_counter() - started,
            gates=self.reports(),
            counts=dict(self.counters),
        )

    def _current_version(self) -> int:
        if self.output is None or self.output.format != "dataset":
            return 0
        latest = self._dataset().latest()
        return latest.version if latest else 0

    def _dataset(self) -> Dataset:
        assert self.output is not None
        return Dataset(self.target, self.output.storage_options)

    def _snapshot(self) -> None:
        for name in self.segment.nodes:
            source = self.plan.nodes[name].source
            if source is not None and name not in self.all.snapshots:
                found = source.snapshot()
                try:
                    source.reader.check(found.files, source.stored)
                except LazypipeError as error:
                    raise source.located(error) from error  # type: ignore[arg-type]  # check raises SourceError only
                self.all.snapshots[name] = found

    def _sink(self, suffix: str) -> DatasetSink | ExportSink:
        prefix = f"{self.all.id}-{self.number:03}{suffix}"
        if self.output is None:
            made: DatasetSink | ExportSink = DatasetSink(self.target, prefix, options=_SPILL)
        elif self.output.format == "dataset":
            made = DatasetSink(self.target, prefix, self.output.partition_by, self.output.storage_options)
        else:
            made = ExportSink(self.target, self.output.format, prefix, self.output.storage_options)
        self.staged.append(made)
        return made

    def _write(self, suffix: str = "") -> tuple[DatasetSink | ExportSink, Written]:
        """Write the segment's rows, and have its gates see all of theirs."""
        self.counters.clear()
        self.guards.clear()
        sink = self._sink(suffix)
        written = sink.write(self._frame(self.segment.node))
        self._complete_gates()
        return sink, written

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
        if name in self.all.kept:
            return self.all.kept[name]
        node = self.plan.nodes[name]
        quarantines = any(c.action == "quarantine" for c in node.checks)
        if node.source is not None:
            # rows that are replayed from a quarantine carry the file that they came from
            asked = quarantines and FILE_COLUMN not in node.schema
            watch = partial(self._watch_text, name, node.source) if node.source.is_text else None
            frame = node.source.scan(self.all.snapshots[name], file_column=asked, watch=watch)
        else:
            inputs = {n: Table(self._frame(n), self.plan.nodes[n].schema) for n in node.inputs}
            frame = node.lower(inputs, self._tally, lambda step: partial(self._guard, node, step))
        if not node.checks:
            return frame
        frame, checks = self._mark_repeats(name, frame)
        tap = Tap(checks, node.schema, run=self.all.id, spill=self.all.folder / "quarantine", notify=self._notify)
        self.taps[name] = tap
        return tap.attach(frame)

    def _plain(self, name: str, *, before_gate: bool = False) -> pl.LazyFrame:
        """Return a node's rows with gates as filters: what to count exactly, or to find a culprit with."""
        if name in self.all.kept and name != self.segment.node:
            return self.all.kept[name]
        node = self.plan.nodes[name]
        if node.source is not None:
            frame = node.source.scan(self.all.snapshots[name])
        else:
            frame = node.lower({n: Table(self._plain(n), self.plan.nodes[n].schema) for n in node.inputs})
        return frame if before_gate else node.good(frame)

    def _watch_text(self, name: str, source: BoundSource, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Keep projection away from a text file, so that every field is parsed; note nulls in the last column of a CSV."""
        nulls = self.short.setdefault(name, []) if source.reader.format == "csv" else []
        last = source.in_files(self.all.snapshots[name]).names()[-1]

        def watch(batch: pl.DataFrame) -> pl.DataFrame:
            if not nulls and batch[last].null_count():
                nulls.append(1)
            return batch

        return frame.map_batches(watch, streamable=True, validate_output_schema=False)

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

        return frame.with_columns(e.alias(c) for c, (_, e) in columns.items()).map_batches(
            count, schema=schema, streamable=True, validate_output_schema=False
        )

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

        return frame.map_batches(watch, streamable=True, validate_output_schema=False)

    def _notify(self, _: int) -> None:
        self.all.observer(
            self.segment.name, self.number, len(self.plan.segments), sum(t.rows for t in self.taps.values())
        )

    # audit

    def _audit_text(self) -> None:
        for name, nulls in self.short.items():
            source = self.plan.nodes[name].source
            assert source is not None
            found = self.all.snapshots[name]
            refuse_short_rows(found.files, source.reader, source.in_files(found), nulls=bool(nulls))

    def _audit_joins(self) -> None:
        """Raise RunError where a join's keys are not as unique as it states."""
        for node, step, tracker in self.guards:
            if tracker.may_repeat():
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

    def _count_repeats(self, name: str, tap: Tap) -> None:
        """Count exactly, for each key check of a gate that may have found any, the rows whose key repeats."""
        for check in self.plan.nodes[name].checks:
            if check.keys and tap.trackers[check.id].may_repeat():
                rows = self._plain(name, before_gate=True)
                keys = repeated(rows, check.keys, check.where).collect(engine="streaming")
                tap.count_keys(check, int(keys[TIMES_COLUMN].sum()))
                if keys.height:
                    self.known[name, check.id] = keys

    def _concern_rows(self, name: str, tap: Tap) -> bool:
        """Whether repeated keys send rows away, or are among the reasons of rows in quarantine: then all is run again."""
        checks = [c for c in self.plan.nodes[name].checks if (name, c.id) in self.known]
        if any(c.removes_rows for c in checks) or not checks:
            return bool(checks)
        report = tap.report(name)
        return report.quarantined > 0 and report.status != "fail"

    def _mark_repeats(self, name: str, frame: pl.LazyFrame) -> tuple[pl.LazyFrame, list[Check]]:
        """Turn the key checks of a gate whose repeated keys are known by now into checks that each row can tell."""
        checks = []
        for index, check in enumerate(self.plan.nodes[name].checks):
            keys = self.known.get((name, check.id))
            if keys is None:
                checks.append(check)
                continue
            mark = pl.lit(value=True).alias(f"__lazypipe_repeats_{index}")
            frame = frame.join(keys.lazy().select(*check.keys, mark), on=check.keys, how="left")
            checks.append(replace(check, keys=(), violated=pl.col(mark.meta.output_name())))
        return frame, checks

    def _audit_gates(self, written: Written) -> None:
        reports = self.reports()
        for report in reports:
            report.raise_for_status()
        last = [r for r in reports if r.node == self.segment.node]
        assert not last or last[0].good == written.rows, (
            f"rows lost on the way to {self.target}: {last[0]}, written {written.rows}"
        )

    def reports(self) -> tuple[GateReport, ...]:
        """Return what the gates found; nothing until all of their rows have been seen."""
        return tuple(t.report(name) for name, t in self.taps.items()) if self.ended else ()

    # publish

    def _frame_of_files(self, sink: DatasetSink | ExportSink, written: Written) -> pl.LazyFrame:
        schema = self.plan.nodes[self.segment.node].schema
        if isinstance(sink, ExportSink):
            return pl.LazyFrame(schema=schema)  # an export is written only where nobody else reads
        return scan_files(sink.uri, written.files, schema, sink.partition_by, sink.storage_options)

    def _publish(self, sink: DatasetSink | ExportSink, written: Written, expected: int) -> int | None:
        if self._current_version() != expected:
            # told before the quarantine is replaced too, which then is that of the other run
            raise CommitConflict(
                "another run has committed meanwhile",
                uri=self.plan.redact(self.target),
                fix="run again: nothing of this run became visible",
            )
        for name, tap in self.taps.items():
            self._publish_quarantine(name, tap)
        self.published = True
        if isinstance(sink, ExportSink):
            sink.publish()
            return None
        if self.output is None:
            return None
        commit = self._dataset().commit(
            written.files,
            self.plan.nodes[self.segment.node].schema,
            run=self.all.id,
            time=self.all.now,
            mode=self.output.mode,
            partition_by=self.output.partition_by,
            info={"gates": [r.to_dict() for r in self.reports()]},
            expected=expected,
        )
        return commit.version

    def _publish_quarantine(self, name: str, tap: Tap) -> None:
        """Commit a gate's quarantined rows to a dataset of their own, so that it says what this run put aside."""
        uri = (
            f"{self.target}__quarantine"
            if self.output and name == self.segment.node
            else uris.join(self.all.state, "quarantine", name)
        )
        options = self.output.storage_options if self.output and name == self.segment.node else {}
        dataset = Dataset(uri, options)
        report = tap.report(name)
        mode = self.output.mode if self.output else "replace"
        if not report.quarantined and (mode == "append" or not dataset.log.versions()):
            return
        files: list[DataFile] = []
        for index, part in enumerate(tap.quarantined()):
            sink = DatasetSink(uri, f"{self.all.id}-{self.number:03}-{index:03}", storage_options=options)
            self.staged.append(sink)
            files += sink.write(part.lazy()).files
        dataset.commit(
            files,
            quarantine_schema(self.plan.nodes[name].schema),
            run=self.all.id,
            time=self.all.now,
            mode=mode,
            info={"of": self.segment.output or name, "gate": report.to_dict()},
        )

    # when it went wrong

    def explain(self, error: BaseException) -> LazypipeError:
        """Turn what stopped the query into an error that names the file, or the stage and operation."""
        nodes = {n: self.plan.nodes[n] for n in self.segment.nodes}
        snapshots = {n: s for n, s in self.all.snapshots.items() if n in nodes}
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
