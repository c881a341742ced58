"""One attempt at one segment: write to files that readers do not see, audit, publish; or delete everything again."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import polars as pl

from lazypipe.compile.segments import Segment
from lazypipe.errors import LazypipeError
from lazypipe.gates.alone import settle
from lazypipe.gates.report import GateReport
from lazypipe.gates.tap import Tap
from lazypipe.incremental.before import CONSUMED
from lazypipe.incremental.shared import Shared
from lazypipe.incremental.work import Work
from lazypipe.run.context import Run
from lazypipe.run.corrupt import files_set_aside
from lazypipe.run.result import SegmentResult
from lazypipe.run.segment.audit import Audit
from lazypipe.run.segment.blame import explain_failure
from lazypipe.run.segment.laying import LayingOut
from lazypipe.run.segment.meanwhile import Meanwhile
from lazypipe.run.segment.publish import Publication
from lazypipe.run.segment.query import Query
from lazypipe.run.segment.target import Target
from lazypipe.run.segment.writing import Writing
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.sink import DatasetSink, ExportSink, Written

if TYPE_CHECKING:
    from lazypipe.run.segment.merge import Outcome

__all__ = ["Attempt"]


class Attempt:
    """One try at one segment: its query, its sinks, and what must be taken away if it fails."""

    def __init__(self, run: Run, segment: Segment, number: int, work: Work) -> None:
        self.all = run
        self.plan = run.plan
        self.segment = segment
        self.work = work
        self.target = Target(run, segment, number, work)
        kept = self.target.dataset if self.target.output else self.target.state
        self.query = Query(run, segment, number, work, kept)
        self.writing = Writing(self.query, self.target)
        self.laying = LayingOut(self.query, self.target)
        self.audit = Audit(self.query, self.target)
        self.publication = Publication(self.query, self.target, self.audit)

    def run(self, started: float) -> SegmentResult:
        """Write, audit, publish; raises whatever stops it, with what was published before untouched."""
        self.query.notify(0)
        if self.work.kind == "judge":
            return self._judge_again(started)
        if self.work.kind == "state":
            return self._state_again(started)
        expected = self.target.current_version() if self.work.version is None else self.work.version
        self.target.refuse_changes()
        self.target.refuse_gone()
        self.target.refuse_used()
        self._snapshot()
        self.laying.choose()
        self.writing.note_digests()
        begun = time.perf_counter()
        sink, written = self.writing.write()
        if self.query.cut():
            raise Meanwhile("files have grown while they were read")
        self.query.audit(self.target.made(written))
        again = "b"
        while self.audit.settle():
            sink.discard()
            self.target.staged.remove(sink)
            sink, written = self.writing.write(again)
            again += "b"
        written = self.writing.release(sink, written)
        sink, written = self.laying.after(sink, written, time.perf_counter() - begun)
        hashes = self.target.hashing(sink, written)
        self.audit.measure(sink, written)
        self.audit.count_groups()
        self.audit.ended = True
        # before anything is judged by the rows of another run
        self.target.refuse_conflict(expected)
        self.audit.judge(written)
        whole = self.query.whole(self.segment.node)
        if whole is not None:
            whole.refuse_overdue()
        merged = self._merge(sink, written)
        earlier = self.writing.rewrite(sink)
        commit = self.publication.publish(sink, written, earlier, expected, hashes, merged)
        if commit is not None and self.target.output is not None:
            self.all.published.setdefault(self.segment.node, (self.target.dataset, commit))
        gates = self.audit.reports()  # while it is still known that rows carry their units
        seen = self.target.output is not None and commit is not None
        if seen and commit is not None:
            self.all.kept.setdefault(self.segment.node, cache(partial(self.target.dataset.scan, commit)))
        else:
            rows = self.target.rows_of(sink, written)
            self.all.kept.setdefault(self.segment.node, lambda: rows)
        if self.target.removes_keys and commit is not None:
            self._read_without(commit)
        if self.target.output is None and self.work.told_apart:
            schema = self.target.schema
            keys = self.writing.shared_keys()
            self.all.shared[self.segment.node] = Shared(self.target.uri, written.files, schema, self.work.units, keys)
        now: Commit | Written = commit if seen and commit is not None else written
        return SegmentResult(
            self.segment.name,
            "done",
            self.segment.output,
            uri=self.plan.redact(self.target.uri) if self.target.output else None,
            version=commit.version if seen and commit is not None else None,
            rows=now.rows,
            bytes=now.bytes,
            files=len(now.files),
            written=self.target.made(written),
            left=self.work.left,
            why="; ".join([self.work.why, *([str(self.target.groups)] if self.target.groups is not None else [])])
            or None,
            seconds=time.perf_counter() - started,
            gates=gates,
            counts=dict(self.query.watches.counters),
            corrupt=files_set_aside(self.all, self.segment),
            incomplete=() if whole is None else whole.incomplete(),
            executed=self.writing.executed,
        )

    def _read_without(self, commit: Commit) -> None:
        """Have those who read the dataset that keys were removed from read it as it is now."""
        assert self.segment.output is not None
        for name, output in self.plan.outputs.items():
            if output.stage in self.all.published and self.plan.share_place(name, self.segment.output):
                self.all.published[output.stage] = (self.target.dataset, commit)
                self.all.kept[output.stage] = cache(partial(self.target.dataset.scan, commit))

    def _judge_again(self, started: float) -> SegmentResult:
        """Judge the rows that are published by the rules of the gate as they are now; publish them again with what was found."""
        commit, name = self.work.commit, self.segment.node
        assert commit is not None
        node, dataset = self.plan.nodes[name], self.target.dataset
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
        self.audit.ended = True
        (report,) = self.audit.reports()
        report.raise_for_status()
        self.all.recorder.announce()
        self.target.refuse_conflict(commit.version)
        gates = [report.to_dict() if r["node"] == name else r for r in commit.info.get("gates", ())]
        return self._restated({"gates": gates}, started, (report,))

    def _state_again(self, started: float) -> SegmentResult:
        """Publish the rows that are there again, with how far event time is by now."""
        commit = self.work.commit
        assert commit is not None
        self.audit.ended = True
        self.all.recorder.announce()
        self.target.refuse_conflict(commit.version)
        beside, told = self.publication.progress()
        return self._restated({CONSUMED: {**commit.info[CONSUMED], **beside}, **told}, started)

    def _restated(self, info: dict[str, Any], started: float, gates: tuple[GateReport, ...] = ()) -> SegmentResult:
        """Publish the present files once more, with new information in the commit."""
        commit, name = self.work.commit, self.segment.node
        assert commit is not None
        dataset = self.target.dataset
        made = dataset.restate(commit, run=self.all.id, time=self.all.now, info={**info, **self.all.recorder.info})
        self.publication.published = True
        self.all.recorder.written[self.segment.name] = ()
        self.all.published.setdefault(name, (dataset, made))
        self.all.kept.setdefault(name, cache(partial(dataset.scan, made)))
        return SegmentResult(
            self.segment.name,
            "done",
            self.segment.output,
            uri=self.plan.redact(self.target.uri),
            version=made.version,
            rows=made.rows,
            bytes=made.bytes,
            files=len(made.files),
            why=self.work.why,
            seconds=time.perf_counter() - started,
            gates=gates,
            corrupt=files_set_aside(self.all, self.segment),
        )

    def _snapshot(self) -> None:
        """Take what is to be read of each source, and refuse what Polars would pass over in silence."""
        for name in (*self.segment.nodes, *self.segment.lookups):
            source = self.plan.nodes[name].source
            if source is not None:
                found = self.query.take_snapshot(name, source)
                if not self.all.checked.issuperset(found.files) or found.commit is not None:
                    source.check(found)
                    self.all.checked.update(found.files)
                self.all.recorder.read(source, self.all.look(name), self.all.hashes)

    def _merge(self, sink: DatasetSink | ExportSink, written: Written) -> Outcome | None:
        """Put the rows together with those that are there, as the output's mode says; None if they are all there is."""
        if not self.work.adds:
            return None
        from lazypipe.run.segment.merge import Merge

        assert self.segment.output is not None
        schema = self.target.schema
        merge = Merge(self.all, self.segment.output, self.target.number, self.work, schema)
        try:
            return merge.outcome(self.target.rows_of(sink, written), written.files)
        finally:
            self.target.staged += merge.staged

    def explain(self, error: BaseException) -> LazypipeError:
        """Turn what stopped the query into an error that names the file, or the stage and its operation or rule."""
        nodes = {n: self.plan.nodes[n] for n in (*self.segment.lookups, *self.segment.nodes)}
        grouping = self.query.grouping
        again = {} if grouping is None else grouping.reading.snapshots
        snapshots = {n: s for n, s in {**self.query.snapshots, **again}.items() if n in nodes}
        redacted = self.plan.redact(self.target.uri)
        plain, gated = self.query.plain, partial(self.query.plain, before_gate=True)
        origin, masked = self.plan.pipeline.origin, any(map(self.plan.masked, nodes))
        found = explain_failure(error, nodes, snapshots, plain, gated, origin, redacted, masked=masked)
        if found is not error and not masked:
            found.__cause__ = error
        return found

    def clean_up(self, *, figures: bool = True) -> None:
        """Take away files that were written and not published; what cannot be removed is left to vacuum.

        Without ``figures`` those stay from which ``explain`` computes rows again.
        """
        if self.publication.published:
            return
        if self.target.groups is not None:
            self.target.groups.rewrite.discard()
        beside = self.query.beside.staged if figures and self.query.beside is not None else ()
        for sink in (*self.target.staged, *beside, *(s for a in self.publication.asides for s in a.staged)):
            with suppress(Exception):
                sink.discard()

    def reports(self) -> tuple[GateReport, ...]:
        """Return what the gates found; nothing until all of their rows have been seen."""
        return self.audit.reports()
