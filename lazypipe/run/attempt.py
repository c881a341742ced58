"""One try at one segment: write to files that nobody sees, audit, publish; or take everything away again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import polars as pl

from lazypipe.compile.closing import closes, states
from lazypipe.compile.contract import read_contract
from lazypipe.compile.delta import Side
from lazypipe.compile.modes import merges
from lazypipe.compile.segments import Segment
from lazypipe.errors import CommitConflict, LazypipeError, StorageError
from lazypipe.gates import Check
from lazypipe.gates.alone import settle
from lazypipe.gates.report import GateReport
from lazypipe.gates.rule import PREVIOUS
from lazypipe.gates.tally import Tally, to_columns
from lazypipe.gates.tap import Tap
from lazypipe.gates.uniqueness import TIMES_COLUMN, repeated
from lazypipe.incremental import incomplete as incompletes
from lazypipe.incremental.arrivals import with_times
from lazypipe.incremental.before import CONSUMED, DELETES, with_hashes
from lazypipe.incremental.progress import PROGRESS
from lazypipe.incremental.reach import EXTENTS, Reaching, Use
from lazypipe.incremental.shared import Shared, state_of
from lazypipe.incremental.sides import KEYS, Digests
from lazypipe.incremental.work import Work
from lazypipe.plan.executed import Executed
from lazypipe.plan.reader import Capture
from lazypipe.run import layouts
from lazypipe.run.aside import Quarantine
from lazypipe.run.blame import explain_failure
from lazypipe.run.context import Run
from lazypipe.run.corrupt import files_set_aside
from lazypipe.run.groups import Groups
from lazypipe.run.merge import Merge, Outcome
from lazypipe.run.query import FIGURES, Meanwhile, Query, without_units
from lazypipe.run.result import SegmentResult
from lazypipe.storage import uri as uris
from lazypipe.storage.dataset import Dataset, count_units, find_odd, scan_files
from lazypipe.storage.log import KEPT, Commit, DataFile, partitioned
from lazypipe.storage.shape import grown
from lazypipe.storage.sink import DatasetSink, ExportSink, Written
from lazypipe.storage.tiers import ROWS
from lazypipe.windows.watermark import COMPLETE

__all__ = ["Attempt"]

_SPILL = {"compression": "lz4"}
"""Rows kept for later segments of the same run are written once and read once or twice: speed before size."""


class Attempt:
    """One try at one segment: its query, its sinks, and what must be taken away if it fails."""

    def __init__(self, run: Run, segment: Segment, number: int, work: Work) -> None:
        self.all = run
        self.work = work
        self.plan = run.plan
        self.segment = segment
        self.number = number
        self.output = self.plan.outputs[segment.output] if segment.output else None
        self.target = self.output.to if self.output else str(run.folder / segment.name)
        self.state = state_of(run.plan, segment)
        self.query = Query(run, segment, number, work, self._dataset() if self.output else self.state)
        self.groups: Groups | None = None
        self.untouched: tuple[Tally, ...] = ()
        self.staged: list[DatasetSink | ExportSink] = []
        self.asides: list[Quarantine] = []
        self.published = False
        self.ended = False
        self.capture = Capture()
        self.beneath: Executed | None = None
        self.choice: layouts.Choice | None = None
        self.chosen = False

    # write → audit → publish

    def run(self, started: float) -> SegmentResult:
        """Write, audit, publish; raises whatever stops it, with what was published before untouched."""
        self.query.notify(0)
        if self.work.kind == "judge":
            return self._judge_again(started)
        if self.work.kind == "state":
            return self._state_again(started)
        expected = self._current_version() if self.work.version is None else self.work.version
        self._refuse_changes()
        self._snapshot()
        self.choice = self._kept_layout() or self._choose_ahead()
        self._note_digests()
        begun = time.perf_counter()
        sink, written = self._write()
        if self.query.cut():
            raise Meanwhile("files have grown while they were read")
        self.query.audit()
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
        self._count_groups()
        self.ended = True
        # before anything is judged by the rows of another run
        self._refuse_conflict(expected)
        self._audit_gates(written)
        whole = self.query.whole(self.segment.node)
        if whole is not None:
            whole.refuse_overdue()
        merged = self._merge(sink, written)
        earlier = self._rewrite(sink)
        commit = self._publish(sink, written, earlier, expected, hashes, merged)
        if commit is not None and self.output is not None:
            self.all.published.setdefault(self.segment.node, (self._dataset(), commit))
        gates = self.reports()  # while it is still known that rows carry their units
        seen = self.output is not None and commit is not None
        rows = self._dataset().scan(commit) if seen and commit is not None else self._frame_of_files(sink, written)
        self.all.kept.setdefault(self.segment.node, rows)
        if self.output is None and self.work.told_apart:
            schema = self.plan.nodes[self.segment.node].schema
            keys = self._shared_keys()
            self.all.shared[self.segment.node] = Shared(self.target, written.files, schema, self.work.units, keys)
        now: Commit | Written = commit if seen and commit is not None else written
        return SegmentResult(
            self.segment.name,
            "done",
            self.segment.output,
            uri=self.plan.redact(self.target) if self.output else None,
            version=commit.version if seen and commit is not None else None,
            rows=now.rows,
            bytes=now.bytes,
            files=len(now.files),
            written=written.rows,
            left=self.work.left,
            why="; ".join([self.work.why, *([str(self.groups)] if self.groups is not None else [])]) or None,
            seconds=time.perf_counter() - started,
            gates=gates,
            counts=dict(self.query.counters),
            corrupt=files_set_aside(self.all, self.segment),
            incomplete=() if whole is None else whole.incomplete(),
            executed=Executed(self.segment.node, self.capture, self.beneath),
        )

    def _judge_again(self, started: float) -> SegmentResult:
        """Judge the rows that are published by the rules of the gate as they are now; publish them again with what was found."""
        commit, name = self.work.commit, self.segment.node
        assert commit is not None
        node, dataset = self.plan.nodes[name], self._dataset()
        tap = self.query.taps[name] = Tap(
            node.checks,
            node.schema,
            run=self.all.id,
            spill=self.all.folder / "quarantine",
            notify=self.query.notify,
            split=False,
            key=self.plan.key(name),
            masked=self.plan.masked(name),
        )
        tap.attach(dataset.scan(commit)).select(pl.len()).collect(engine="streaming")
        settle(tap, node.checks, lambda: dataset.scan(commit))
        for check in node.checks:
            if check.measure is not None:
                tap.measure(check, lambda: dataset.scan(commit), {})
        self.ended = True
        (report,) = self.reports()
        report.raise_for_status()
        self.all.recorder.announce()
        self._refuse_conflict(commit.version)
        gates = [report.to_dict() if r["node"] == name else r for r in commit.info.get("gates", ())]
        return self._restated({"gates": gates}, started, (report,))

    def _state_again(self, started: float) -> SegmentResult:
        """Publish the rows that are there again, with how far event time is by now."""
        commit = self.work.commit
        assert commit is not None
        self.ended = True
        self.all.recorder.announce()
        self._refuse_conflict(commit.version)
        beside, told = self._progress()
        return self._restated({CONSUMED: {**commit.info[CONSUMED], **beside}, **told}, started)

    def _restated(self, info: dict[str, Any], started: float, gates: tuple[GateReport, ...] = ()) -> SegmentResult:
        """Publish the rows that are there again, with other things said of them."""
        commit, name = self.work.commit, self.segment.node
        assert commit is not None
        dataset = self._dataset()
        made = dataset.restate(commit, run=self.all.id, time=self.all.now, info={**info, **self.all.recorder.info})
        self.published = True
        self.all.recorder.written[self.segment.name] = ()
        self.all.published.setdefault(name, (dataset, made))
        self.all.kept.setdefault(name, dataset.scan(made))
        return SegmentResult(
            self.segment.name,
            "done",
            self.segment.output,
            uri=self.plan.redact(self.target),
            version=made.version,
            rows=made.rows,
            bytes=made.bytes,
            files=len(made.files),
            why=self.work.why,
            seconds=time.perf_counter() - started,
            gates=gates,
            corrupt=files_set_aside(self.all, self.segment),
        )

    def _note_digests(self) -> None:
        """Keep what other sides hold of each key: as it is before any row is read, so that a change meanwhile is found the next time."""
        if self.work.keeping and self.query.beside is not None:
            digests = Digests(self.plan, self.all.look, self.all.digests)
            self.query.beside.note_digests(digests.of, self._prefix("d"))

    def _write(self, suffix: str = "") -> tuple[DatasetSink | ExportSink, Written]:
        """Write the segment's rows, and have its gates see all of theirs."""
        query = self.query
        query.begin()
        sink = self._sink(suffix)
        query.holds = isinstance(sink, DatasetSink) and not self._is_sorted()
        on_the_way = self.work.reread and self.work.kind == "all"
        if self.work.cut is not None and not on_the_way:
            self._write_figures(suffix)
        self.capture = Capture()
        written = sink.write(query.rows(), self.capture)
        query.counted()
        query.complete_gates()
        if on_the_way:
            self._write_places(suffix)
        if self.work.hashed and query.beside is not None:
            query.beside.note_keys(query.taps, query.with_units, self._prefix(f"{suffix}k"))
        if self.work.keeping and query.beside is not None:
            query.beside.note_sides(query.keys_of, self._prefix(f"{suffix}s"))
        if self.groups is not None:
            self.groups.leave_out(self._prefix(f"{suffix}g"))
            if not written.rows:
                sink.discard()
                return sink, Written(())
        added = self.output is not None and self.output.mode == "append" and self.work.kind == "units"
        if written.rows == 0 and (added or self.work.told_apart):
            sink.discard()
            return sink, Written(())
        if not self.work.told_apart:
            return sink, written
        schema = self.plan.nodes[self.segment.node].schema
        options = self.output.storage_options if self.output else {}
        by = self.output.partition_by if self.output else ()
        return sink, Written(count_units(self.target, written.files, schema, by, options))

    def _write_figures(self, suffix: str) -> None:
        """Write what is kept of each unit that this run reads, where the output is made of that."""
        capture, query = Capture(), self.query
        assert query.beside is not None
        partial = query.partial()
        query.within = without_units(partial.collect_schema())
        query.figures = query.beside.write(partial, self._prefix(suffix), capture)
        if not self.work.reread:
            self.beneath = Executed(FIGURES, capture)
        self.query.counted()
        if self.work.groups and self.work.kind == "units":
            self.groups = self._touched(query.within)
            query.touched = None if self.groups is None else self.groups.touched

    def _write_places(self, suffix: str) -> None:
        """Write which units hold rows of which groups, as that was noted on the way."""
        query, by = self.query, [name for name, _ in self.work.groups]
        assert query.beside is not None
        found = query.pairs()
        if found is not None:
            pairs = found.sort(by, nulls_last=True)
            query.within = without_units(pairs.collect_schema())
            query.figures = query.beside.write(pairs, self._prefix(suffix))

    def _touched(self, schema: pl.Schema) -> Groups | None:
        """Return the groups that came, changed or went; None if these are so many that all are better made anew."""
        work, commit, beside = self.work, self.work.commit, self.query.beside
        assert commit is not None
        assert beside is not None
        if work.whole or (self.plan.nodes[self.segment.node].checks and self._reported() is None):
            return None
        by = [name for name, _ in work.groups]
        parts = [beside.scan(self.query.figures, schema, work.live), beside.scan(work.leaving, schema, work.gone)]
        parts += [self.query.looking(side, hashes) for side, hashes in work.turned.items() if len(hashes)]
        touched = pl.concat(p.select(by) for p in parts).unique().collect(engine="streaming")
        if 2 * touched.height > self._groups_there(by, schema):
            return None
        return Groups(self._dataset(), commit, work, touched)

    def _shared_keys(self) -> dict[Side, pl.LazyFrame]:
        """Write the keys by which rows were looked up that are kept for this run only: whoever reads these keeps them as its own."""
        found = {}
        for number, side in enumerate(self.work.sides):
            sink = DatasetSink(self.target + ".keys", self._prefix(f"k-{number:03}"), options=_SPILL)
            self.staged.append(sink)
            files = sink.write(self.query.keys_of(side)).files
            found[side] = scan_files(sink.uri, files, KEYS, (), {}, tagged=True, tags=True)
        return found

    def _groups_there(self, by: list[str], schema: pl.Schema) -> int:
        """Return how many groups the output has, or rows if each is one of its own."""
        work, beside = self.work, self.query.beside
        assert work.commit is not None
        assert beside is not None
        if not self.query.larger:
            return work.commit.rows
        kept = beside.scan((*work.figures, *self.query.figures), schema, work.live)
        return int(kept.select(by).unique().select(pl.len()).collect(engine="streaming").item())

    def _reported(self) -> dict[str, Any] | None:
        """Return what the gate of the output found, as the commit that this run builds upon says."""
        commit = self.work.commit
        reports = [] if commit is None else commit.info.get("gates", ())
        return next((r for r in reports if r["node"] == self.segment.node), None)

    def _prefix(self, suffix: str) -> str:
        return f"{self.all.id}-{self.number:03}{suffix}"

    def _current_version(self) -> int:
        kept = self.state if self.output is None else self._dataset() if self.output.format == "dataset" else None
        latest = None if kept is None else kept.latest()
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
                found = self.query.take_snapshot(name, source)
                if not self.all.checked.issuperset(found.files) or found.commit is not None:
                    source.check(found)
                    self.all.checked.update(found.files)
                self.all.recorder.read(source, self.all.look(name))

    def _sink(self, suffix: str) -> DatasetSink | ExportSink:
        prefix = self._prefix(suffix)
        if self.output is None:
            made: DatasetSink | ExportSink = DatasetSink(self.target, prefix, options=_SPILL)
        elif self._is_merged:
            made = DatasetSink(str(self.all.folder / f"{self.segment.name}.came"), prefix, options=_SPILL)
        elif self.output.format == "dataset":
            layout = None if self.choice is None else self.choice.layout
            rows = ROWS if self.work.groups else None
            by, options = self.output.partition_by, self.output.storage_options
            # what is going to be written once more is written in haste
            how = _SPILL if layout is None and self.output.optimize is not None else {}
            made = DatasetSink(self.target, prefix, by, options, how, layout=layout, most_rows=rows)
        else:
            made = ExportSink(self.target, self.output.format, prefix, self.output.storage_options)
        self.staged.append(made)
        return made

    def _is_sorted(self) -> bool:
        """Whether rows must be written in the order in which they come."""
        steps = self.plan.nodes[self.segment.node].steps
        return bool(steps) and steps[-1][0].name == "sort"

    # audit

    def _settle(self) -> bool:
        """Count repeated keys; return whether the rows must be written again, because it matters which ones repeat."""
        again = False
        for name, tap in self.query.taps.items():
            if self.work.kind == "units" and (self.query.unit(name) or self._by_groups(name)):
                continue
            checks = [c for c in self.plan.nodes[name].checks if (name, c.id) not in self.query.known]
            known = settle(tap, checks, partial(self.query.plain, name, before_gate=True))
            self.query.known |= {(name, check): keys for check, keys in known.items()}
            if any(c.id in known and c.removes_rows for c in checks):
                again = True
            elif known:
                report = tap.report(name)
                again = again or (report.quarantined > 0 and report.status != "fail")
        return again

    def _release(self, sink: DatasetSink | ExportSink, written: Written) -> Written:
        """Write the rows that were held back until all keys had been seen."""
        tap = self.query.taps.get(self.segment.node)
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

    def _choose_ahead(self) -> layouts.Choice | None:
        """Choose a layout by the first rows, so that all are written once; not where these are put together with others."""
        output, name = self.output, self.segment.output
        if output is None or name is None or output.optimize is None or output.format != "dataset":
            return None
        if self._is_merged or self.work.cut is not None:
            return None
        read = self.query.snapshots.values()
        size = sum(sum(f.size or 0 for f in s.files) if s.commit is None else s.commit.bytes for s in read)
        frame = self.query.plain(self.segment.node).select(self.plan.nodes[self.segment.node].schema.names())
        choice = layouts.choose_ahead(self.plan, name, frame, size, ordered=self._is_sorted())
        self.chosen = choice is not None
        return choice

    def _lay_out(
        self, sink: DatasetSink | ExportSink, written: Written, seconds: float
    ) -> tuple[DatasetSink | ExportSink, Written]:
        """Choose a layout by the rows that were written, if one is asked for and none is kept, and write them in that."""
        output, name = self.output, self.segment.output
        if output is None or name is None or not isinstance(sink, DatasetSink) or self._is_merged:
            return sink, written
        if self.chosen and self.choice is not None:
            self.chosen = written.rows > 0
            self.choice = layouts.measured(self.choice, written.rows, written.bytes) if self.chosen else None
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
        for name, tap in self.query.taps.items():
            part = self.work.kind == "units" and (bool(self.query.unit(name)) or self._by_groups(name))
            on_disk = name == self.segment.node and isinstance(sink, DatasetSink)
            rows = partial(self._published_rows, sink, written) if on_disk else partial(self.query.plain, name)
            for check in self.plan.nodes[name].checks:
                if check.keys and part:
                    tap.count_keys(check, self._count_keys(name, check, tap, rows))
                if check.measure is not None:
                    frames = {n: self.query.plain(n) for n in check.measure.frames if n != PREVIOUS}
                    commit = self._dataset().latest() if self._is_published(name) else None
                    if commit is not None and PREVIOUS in check.measure.frames:
                        frames[PREVIOUS] = self._dataset().scan(commit)
                    tap.measure(
                        check,
                        rows,
                        frames,
                        self._history(name, check),
                        ask=part,
                    )

    def _published_rows(self, sink: DatasetSink | ExportSink, written: Written) -> pl.LazyFrame:
        """Return all rows that the output will have."""
        rows = self._frame_of_files(sink, written)
        if self.groups is not None:
            return pl.concat([self.groups.others(), rows])
        commit = self._dataset().latest() if self.work.adds_units else None
        if commit is None:
            return rows
        return pl.concat([self._dataset().scan(commit, only=commit.units - self.work.gone), rows])

    def _by_groups(self, name: str) -> bool:
        """Whether a gate sees only rows of groups that are touched."""
        return self.groups is not None and name == self.segment.node

    def _count_keys(self, name: str, check: Check, tap: Tap, rows: Callable[[], pl.LazyFrame]) -> int:
        """Return how many of all rows have a key that repeats, where this run sees some of them only."""
        if (name, check.id) in self.work.hashed:
            return self._count_hashed(name, check)
        if self.groups is None:
            return self._count_repeated(check, tap, rows())
        within = {*self.groups.names} <= {*check.keys}
        if within and self._had_failed(name, check) == 0 and tap.trackers[check.id].count() == 0:
            return 0  # rows of other groups have other keys
        keys = repeated(rows(), check.keys, check.where).collect(engine="streaming")
        return int(keys[TIMES_COLUMN].sum())

    def _had_failed(self, name: str, check: Check) -> int | None:
        """Return how many rows violated a check, as the commit says that this run builds upon."""
        commit = self.work.commit
        reports = [] if commit is None else [r for r in commit.info.get("gates", ()) if r["node"] == name]
        return next((c["failed"] for r in reports for c in r["checks"] if c["id"] == check.id), None)

    def _count_repeated(self, check: Check, tap: Tap, good: pl.LazyFrame) -> int:
        """Return how many of all rows have a key that repeats: those that went on, now and before, and those put aside."""
        schema = self.plan.nodes[self.segment.node].schema
        names = [n for n in schema if n in check.columns]
        aside = Quarantine(self.query, self.segment.node).dataset
        commit = aside.latest()
        parts = [good.select(names), *(part.lazy().select(names) for part in tap.quarantined())]
        if commit is not None and commit.tagged:
            live = frozenset(self.work.tallies[self.segment.node])
            parts.append(aside.scan(commit, only=live).select(names))
        keys = repeated(pl.concat(parts), check.keys, check.where).collect(engine="streaming")
        return int(keys[TIMES_COLUMN].sum())

    def _count_hashed(self, name: str, check: Check) -> int:
        """Return how many of all rows have a key that repeats, where hashes of keys are kept of those read before."""
        assert self.query.beside is not None
        clean = self._had_failed(name, check) == 0

        def rows(work: Work) -> pl.LazyFrame:
            return self.query.instead(work).plain(name, before_gate=True)

        return self.query.beside.repeats(name, check, self.plan.nodes[name].schema, rows, clean=clean)

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

    def _count_groups(self) -> None:
        """Take the rows of groups that are not touched into account, as they were counted before."""
        tap, report = self.query.taps.get(self.segment.node), self._reported()
        if self.groups is not None and tap is not None and report is not None:
            node = self.plan.nodes[self.segment.node]
            self.untouched = self.groups.earlier(report, node.checks, node.schema, self.query.lookup)

    def _audit_gates(self, written: Written) -> None:
        reports = self.reports()
        for report in reports:
            report.raise_for_status()
        if self.segment.node in self.query.taps:
            good = sum(t.good for t in self.query.taps[self.segment.node].tallies.values())
            assert good == written.rows, f"rows lost on the way to {self.target}: {good}, written {written.rows}"

    def reports(self) -> tuple[GateReport, ...]:
        """Return what the gates found; nothing until all of their rows have been seen."""
        if not self.ended:
            return ()
        earlier: dict[str, Iterable[Tally]] = {
            n: t.values() for n, t in self.work.tallies.items() if self.query.unit(n)
        }
        if self.untouched:
            earlier[self.segment.node] = self.untouched
        return tuple(t.report(name, earlier.get(name, ())) for name, t in self.query.taps.items())

    # publish

    def _sink_uri(self) -> str:
        return (uris.local_path(self.target) if uris.is_local(self.target) else self.target).rstrip("/")

    def _hashing(self, sink: DatasetSink | ExportSink, written: Written) -> Callable[[], tuple[DataFile, ...]]:
        """Begin to hash what was written, where that is going to be recorded; what is returned waits for it."""
        if self.output is None or self._is_merged:
            return lambda: written.files
        if isinstance(sink, DatasetSink):
            schema, options = self.plan.nodes[self.segment.node].schema, sink.storage_options
            files = find_odd(sink.uri, written.files, schema, options, tagged=self.work.told_apart)
            return self.all.recorder.hashing(sink.uri, files, options)
        name = sink.staged.rpartition("/")[2]
        folder = sink.staged.removesuffix(name)
        return self.all.recorder.hashing(folder, written.files, sink.storage_options, names=[name])

    def _hashing_of(self, merged: Outcome) -> Callable[[], tuple[DataFile, ...]]:
        return self.all.recorder.hashing(self._sink_uri(), merged.files, self._dataset().storage_options)

    def _frame_of_files(self, sink: DatasetSink | ExportSink, written: Written) -> pl.LazyFrame:
        schema = self.plan.nodes[self.segment.node].schema
        if isinstance(sink, ExportSink):
            return pl.LazyFrame(schema=schema)  # an export is written only where nobody else reads
        tagged = self.work.told_apart and sink.uri.rstrip("/") == self._sink_uri()
        return scan_files(sink.uri, written.files, schema, sink.partition_by, sink.storage_options, tagged=tagged)

    @property
    def _is_merged(self) -> bool:
        """Whether rows are put together with those that are there, and only that is published."""
        return self.output is not None and self.work.adds and merges(self.output)

    def _merge(self, sink: DatasetSink | ExportSink, written: Written) -> Outcome | None:
        """Put the rows together with those that are there, as the output's mode says; None if they are all there is."""
        if not self.work.adds:
            return None
        assert self.segment.output is not None
        schema = self.plan.nodes[self.segment.node].schema
        merge = Merge(self.all, self.segment.output, self.number, self.work, schema)
        try:
            return merge.outcome(self._frame_of_files(sink, written), written.files)
        finally:
            self.staged += merge.staged

    def _rewrite(self, sink: DatasetSink | ExportSink) -> Written | None:
        """Write the rows that more are appended to once more, if the contract has let the columns change; None if not."""
        if self.output is None or not self.output.contract or self.output.mode != "append" or self.work.anew:
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
        merged: Outcome | None,
    ) -> Commit | None:
        if self.output is not None or self.query.taps:
            self.all.recorder.announce()
        # told before the quarantine is replaced too, which then is that of the other run
        self._refuse_conflict(expected)
        again, worn = self._compact(sink)
        for name, tap in self.query.taps.items():
            self.asides.append(Quarantine(self.query, name))
            self.asides[-1].publish(tap, self._frame_of_files(sink, written))
        self.published = True
        more = () if earlier is None else self._hashing(sink, earlier)()
        if merged is not None and self._is_merged:
            hashes = self._hashing_of(merged)
        files = (*more, *hashes(), *again)
        if isinstance(sink, ExportSink):
            sink.publish()
            self.all.recorder.written[self.segment.name] = files
            return None
        if self.output is None:
            return self._keep_state()
        schema = self.plan.nodes[self.segment.node].schema
        info = self._said()
        beside = self.query.beside
        assert beside is not None
        figures = (*self._merged_figures(), *self.query.figures)
        keys = self._note_keys(info)
        if merged is not None:
            if self.output.mode == "delete":
                # what the dataset itself has consumed stays as it was
                feeds = {**merged.info[DELETES], self.segment.output: info.pop(CONSUMED)}
                merged = replace(merged, info={**merged.info, DELETES: feeds})
            info, schema = {**info, **merged.info}, merged.schema
        mode = "replace" if earlier is not None or merged is None else merged.mode
        commit = self._dataset().commit(
            files,
            schema,
            run=self.all.id,
            time=self.all.now,
            mode="change" if self.work.adds_units or self.groups is not None else mode,
            partition_by=self.output.partition_by if merged is None else merged.partition_by,
            info=info,
            expected=expected,
            tagged=self.work.told_apart,
            gone=self.work.gone if self.work.told_apart else (),
            figures=(*figures, *keys),
            without=worn if merged is None else merged.without,
        )
        self.all.recorder.written[self.segment.name] = files
        return commit

    def _keep_state(self) -> Commit | None:
        """Commit what gates have counted of rows that are kept for this run only, where they see just some of them."""
        if self.state is None:
            return None
        info = self._said()
        keys = self._note_keys(info)
        return self.state.commit(
            (),
            self.plan.nodes[self.segment.node].schema,
            run=self.all.id,
            time=self.all.now,
            info=info,
            expected=self.work.version or 0,
            figures=keys,
        )

    def _said(self) -> dict[str, Any]:
        """Return what a commit says of its making."""
        info = {
            "gates": [r.to_dict() for r in self.reports()],
            **self.query.tags(self.segment.node),
            **self.all.recorder.info,
        }
        if self.work.info:
            read = [n for n in self.work.info["sources"] if n in self.all.snapshots]
            sources = {n: s for n in read if (s := self.plan.nodes[n].source) is not None}
            known = {n: {s.redact(u): h for u, h in self.all.recorder.known(n).items()} for n, s in sources.items()}
            counted = {
                n: {s.redact(u): t for u, t in self.query.times[n].found.items()}
                for n, s in sources.items()
                if n in self.query.times
            }
            beside, told = self._progress()
            info |= told
            info[CONSUMED] = {
                **beside,
                **with_times(with_hashes(self.work.info, known), counted),
                "tallies": self._tallies(),
                **self._extents(),
            }
        if self._is_sorted():
            info["ordered"] = True  # files that are put together later must stay in their order
        if self.chosen and self.choice is not None:
            info[KEPT] = dict(self.choice.said)
        return info

    def _extents(self) -> dict[str, Any]:
        """Return where the files lie that reach rows of others in joins, with those that were not known."""
        said: dict[str, dict[str, Any]] = {k: dict(of) for k, of in self.work.info.get(EXTENTS, {}).items()}
        uses = self.plan.strategies[self.segment.output].reached if self.segment.output is not None else ()
        for use in map(Use._make, uses):
            source, known = self.plan.nodes[use.leaf].source, said.get(use.key, {})
            assert source is not None
            new = [f for f in self.all.look(use.leaf).files if source.redact(f.uri) not in known]
            found = Reaching(self.plan, self.all.look).extents(use, new)
            said[use.key] = {**known, **{source.redact(u): list(ends) for u, ends in found.items()}}
        return {EXTENTS: said} if said else {}

    def _note_keys(self, info: dict[str, Any]) -> tuple[DataFile, ...]:
        """Return the files with hashed keys that the next version is made of, and say in it which is which."""
        beside = self.query.beside
        assert beside is not None
        keys = beside.merge_keys(self._prefix("m"))
        if keys:
            info[CONSUMED]["keys"] = [[n, c, [f.path for f in files]] for (n, c), files in keys.items()]
        if beside.digests:
            told = [[*side.key, [f.path for f in files]] for side, files in beside.digests.items()]
            info[CONSUMED]["digests"] = told
        return tuple(chain(*keys.values(), *beside.digests.values()))

    def _progress(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the commit says of how far event time is, where rows are made of sources that say it."""
        nodes, last = self.plan.nodes, self.segment.node
        if not states(nodes, last):
            return {}, {}
        closed = [n for n in self.segment.nodes if n != last and closes(nodes[n]) is not None]
        beside, told = self.query.closing(last).to_info({n: self.query.closing(n).horizon for n in closed})
        whole = self.query.whole(last)
        if whole is not None:
            told = {COMPLETE: whole.hold(told[COMPLETE])}
            beside = {PROGRESS: {**beside[PROGRESS], incompletes.INCOMPLETE: incompletes.written(whole.incomplete())}}
        # what only removes rows says nothing of those that are there
        return beside, told if self.output is None or self.output.mode != "delete" else {}

    def _compact(self, sink: DatasetSink | ExportSink) -> tuple[tuple[DataFile, ...], frozenset[str]]:
        """Write those rows once more whose file would hold more dead than live ones; return files, and what they replace."""
        if self.groups is not None:
            assert isinstance(sink, DatasetSink)
            merged, gone = self.groups.merge(sink, self.staged.append)
            assert self.output is not None
            before, now = self.groups.commit.partition_by, self.output.partition_by
            made = (*partitioned(self.groups.rewrite.files, before, now), *merged)
            return self._hashing(sink, Written(made))(), gone | self.groups.rewrite.without
        commit = self._dataset().latest() if self.work.adds_units and self.output is not None else None
        worn = () if commit is None else self._dataset().worn(commit, self.work.gone)
        if commit is None or not worn:
            return (), frozenset()
        for file in worn:
            target = uris.join(self.target, file.path)
            fs, path = uris.file_system(target, self._dataset().storage_options)
            if not fs.exists(path):
                what = "a data file of the version in force is gone, and rows of it are to be written once more"
                fix = "restore it from a backup, or run once in full, which makes the output anew"
                raise StorageError(what, uri=self.plan.redact(target), fix=fix)
        assert isinstance(sink, DatasetSink)
        again = replace(sink, prefix=f"{sink.prefix}c")
        self.staged.append(again)
        live = commit.units - self.work.gone
        rows = self._dataset().scan(replace(commit, files=worn), only=live, tags=True)
        counted = count_units(
            self.target, again.write(rows).files, commit.schema, commit.partition_by, again.storage_options
        )
        return self._hashing(again, Written(counted))(), frozenset(f.path for f in worn)

    def _merged_figures(self) -> tuple[DataFile, ...]:
        """Return the files with figures of units that stay, small ones merged."""
        if self.work.cut is None or not self.work.figures:
            return ()
        assert self.query.beside is not None
        schema = self.query.within
        by = [name for name, _ in self.work.groups]
        return self.query.beside.merged(self.work.figures, schema, by, self._prefix("m"))

    def _tallies(self) -> dict[str, Any]:
        """Return what each gate has counted of each unit, in this run and before."""
        numbers = self.work.numbers
        found = {}
        for name, tap in self.query.taps.items():
            if not self.query.unit(name):
                continue
            here = tap.tallies if numbers is None else {numbers[n]: t for n, t in tap.tallies.items()}
            found[name] = to_columns({**self.work.tallies.get(name, {}), **here})
        return found

    # when it went wrong

    def explain(self, error: BaseException) -> LazypipeError:
        """Turn what stopped the query into an error that names the file, or the stage and its operation or rule."""
        nodes = {n: self.plan.nodes[n] for n in (*self.segment.lookups, *self.segment.nodes)}
        snapshots = {n: s for n, s in {**self.query.snapshots, **self.query.read_again}.items() if n in nodes}
        redacted = self.plan.redact(self.target)
        self.query.touched = None  # figures of this run are taken away by now
        plain, gated = self.query.plain, partial(self.query.plain, before_gate=True)
        origin, masked = self.plan.pipeline.origin, any(map(self.plan.masked, nodes))
        found = explain_failure(error, nodes, snapshots, plain, gated, origin, redacted, masked=masked)
        if found is not error and not masked:
            found.__cause__ = error
        return found

    def clean_up(self) -> None:
        """Take away files that were written and not published; what cannot be removed is left to vacuum."""
        if self.published:
            return
        if self.groups is not None:
            self.groups.rewrite.discard()
        beside = self.query.beside.staged if self.query.beside is not None else ()
        for sink in (*self.staged, *beside, *(s for a in self.asides for s in a.staged)):
            with suppress(Exception):
                sink.discard()
