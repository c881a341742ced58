"""The executor: each segment is written to files that readers do not see, audited, and only then published.

    snapshot → (for each segment) write → audit → publish → record → ledger

A gate that fails, an error or a signal leaves the commit before in force. Segments that do not depend on a failed one
go on.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import GateError, Interrupted, LazypipeError, Problem, RunError, first_line, redacted
from lazypipe.gates.report import GateReport
from lazypipe.incremental import incomplete as incompletes
from lazypipe.incremental.before import CONSUMED
from lazypipe.incremental.bound import UNBOUND, Bound
from lazypipe.incremental.exports import EXPORT
from lazypipe.incremental.progress import PROGRESS
from lazypipe.incremental.work import Work
from lazypipe.records.emitter import Emitter
from lazypipe.records.record import Records
from lazypipe.records.transport import Transport
from lazypipe.run.arrival import Extents
from lazypipe.run.backfill import TimeRange, refuse_timeless
from lazypipe.run.body import body
from lazypipe.run.context import Observer, Run
from lazypipe.run.corrupt import files_set_aside, leave_out_corrupt, read_by_row
from lazypipe.run.deciding import Deciding
from lazypipe.run.recorder import Recorder
from lazypipe.run.result import RunResult, SegmentResult, Status
from lazypipe.run.segment.meanwhile import Meanwhile
from lazypipe.spec.model import Fault
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.units import Units
from lazypipe.storage.scan import is_engine_error
from lazypipe.storage.text.moments import Unusual, columns, refused

if TYPE_CHECKING:
    from lazypipe.run.changefeed import Feed
    from lazypipe.run.segment.attempt import Attempt

__all__ = ["Observer", "execute"]


def execute(
    plan: CompiledPipeline,
    *,
    run: str,
    now: datetime,
    observer: Observer = lambda *_: None,
    work: str | os.PathLike[str] | None = None,
    full: bool = False,
    bound: Bound = UNBOUND,
    patient: bool = False,
    actor: str | None = None,
    code: str | None = None,
    outputs: frozenset[str] = frozenset(),
    emit: Sequence[Transport] = (),
    parent: Mapping[str, str] | None = None,
    window: TimeRange | None = None,
    extents: dict[str, Extents] | None = None,
) -> RunResult:
    """Run a compiled pipeline.

    Parameters
    ----------
    run
        The run's id; data files carry it in their names, so it must be new.
    now
        The time of the run, as commits record it.
    work
        Folder in which one is made for rows kept between segments, and removed at the end. Default: below ``state``, or a temporary one.
    full
        Whether all outputs are made anew, also those whose inputs have not changed.
    bound
        How much the run takes of what is new; what is left is for the next one.
    patient
        Whether sources without any file are waited for. Default: only where they say so.
    actor, code
        Who runs it, and the version of the pipeline's code, as the ledger says it. Default: see ``Plan.run``.
    outputs
        Only these, and those that they are made of. Default: all.
    emit
        Where OpenLineage events go, besides what the definition says.
    parent
        What started the run, as events tell it: ``run``, ``job`` and ``namespace``.
    window
        Of files that were never read, only those with event times in this range.
    extents
        Event times in files by source, as far as earlier runs of the same caller have read them; more are put in.

    Returns
    -------
    RunResult
        Also where a gate failed or a segment could not be completed: see ``status`` and ``raise_for_status``.
    """
    if window is not None:
        refuse_timeless(plan)
    records, home = Records(plan.state.join("runs"), plan.state.storage_options), plan.state.uri
    if work is not None or uris.is_local(home):
        folder = (Path(uris.local_path(home)) / "work" if work is None else Path(work)) / run
    else:
        folder = Path(tempfile.mkdtemp())
    try:
        snapshots: dict[str, Snapshot] = {}
        about = {} if window is None else {"window": str(window)}
        reads: dict[str, list[tuple[Snapshot, Units | None]]] = {}
        recorder = Recorder(plan, run, now, actor, code, snapshots=snapshots, reads=reads, about=about)
        times = {} if extents is None else extents
        started = Run(
            plan,
            run,
            now,
            folder,
            observer,
            recorder,
            full,
            bound,
            patient,
            snapshots=snapshots,
            reads=reads,
            window=window,
            extents=times,
        )
        execution = _Execution(started, records, outputs)
        return execution.told(Emitter(plan, emit, parent=parent))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Execution:
    run: Run
    records: Records
    only: frozenset[str] = frozenset()
    results: list[SegmentResult] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    warnings: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    error: LazypipeError | None = None

    @cached_property
    def deciding(self) -> Deciding:
        """What says what there is to do."""
        return Deciding(self.run, self.only, self.results)

    def told(self, emitter: Emitter) -> RunResult:
        """Run, and tell of its beginning and its end."""
        emitter.emit(lambda: self.body("running"))
        try:
            result = self.run_all()
        except BaseException as error:
            status: Status = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
            redacted(error, self.run.plan.redact)
            told = str(error) or type(error).__name__
            emitter.emit(lambda: self.body(status, told), self.result().gates)
            emitter.finish()
            if isinstance(error, RunError):
                result = replace(self.result(), error=error)
                # a record that could not be written is not there to be read
                error.result = replace(result, record="") if error.uri == result.record else result
            raise
        emitter.emit(lambda: self.body(result.status), result.gates)
        return replace(result, warnings=(*result.warnings, *emitter.finish()))

    def body(self, status: Status, error: str | None = None) -> dict[str, Any]:
        return body(self.run, self.results, status=status, seconds=time.perf_counter() - self.begun, error=error)

    def run_all(self) -> RunResult:
        try:
            self.publish()  # what runs have not told that were killed
            self.run_segments()
            self.maintain()
            self.publish()
        except BaseException as failure:
            # nobody gets a result then; what was published before is in the ledger all the same
            status: Status = "interrupted" if isinstance(failure, KeyboardInterrupt) else "error"
            self.close(status, self.run.plan.redact(first_line(failure)))
            raise
        self.close(self.result().status)
        self.record(done=True)
        return self.result()

    def run_segments(self) -> None:
        self.record(done=False)
        plan = self.run.plan
        needed = self.deciding.needed
        outputs = [s for s in plan.segments if s.output is not None and s.node in needed]
        for segment in outputs:
            self.run_output(segment)
            if any(r.status == "interrupted" for r in self.results) or segment is outputs[-1]:
                break
            self.record(done=False)
        self.results += [
            SegmentResult(name, "blocked", name, uri=uri, why=str(error))
            if blocked
            else SegmentResult(name, "error", name, uri=uri, error=error)
            for name, (uri, error, blocked) in plan.lacking.items()
            if not self.only or name in self.only
        ]

    def maintain(self) -> None:
        """Mend what outputs ask for; only now, so that no segment reads what is deleted. What fails here is a warning."""
        plan = self.run.plan
        for number, found in enumerate(self.results):
            if found.output is None or found.status != "done" or not plan.outputs[found.output].maintain:
                continue
            from lazypipe.run.upkeep import upkeep

            output = plan.outputs[found.output]
            try:
                done = upkeep(output, run=self.run.id, now=self.run.now)
            except Exception as error:
                if not (isinstance(error, LazypipeError) or is_engine_error(error)):
                    raise
                self.notes.append(plan.redact(f"output {found.output!r} was not maintained: {first_line(error)}"))
                continue
            self.results[number] = replace(found, maintained=tuple(map(plan.redact, done)))

    def publish(self) -> None:
        """Have the Delta logs of outputs tell of all commits. What fails here is a warning: the rows are committed."""
        plan = self.run.plan
        for name, output in plan.outputs.items():
            if not output.delta_log or (self.only and name not in self.only):
                continue
            from lazypipe.run.lake import publish

            try:
                publish(output, run=self.run.id, now=self.run.now)
            except LazypipeError as error:
                note = plan.redact(f"output {name!r} is not up to date as a Delta table: {error}")
                self.notes += [] if note in self.notes else [note]

    def close(self, status: Status, error: str | None = None) -> None:
        """Append the run to the ledger."""
        named = {s.name: s for s in self.run.plan.segments}
        done = [(named.get(r.name), r.to_dict()) for r in self.results]
        warning, self.error = self.run.recorder.finish(done, status, error)
        self.warnings = (*self.notes, warning) if warning is not None else tuple(self.notes)

    def run_output(self, segment: Segment) -> None:
        """Bring an output up to date, and first what is needed for that; whatever goes wrong is a result, no exception."""
        started = time.perf_counter()
        try:
            found = self._prepared(segment, started)
        except LazypipeError as error:
            found = self._ended(segment, "error", error, started)
        except KeyboardInterrupt:
            found = self._ended(segment, "interrupted", _stopped(), started)
        self.results.append(self.run_one(segment, found) if isinstance(found, Work) else found)

    def _prepared(self, segment: Segment, started: float) -> Work | SegmentResult:
        """Return what is to be done for an output, once all that it needs is there; or its outcome, if that is nothing."""
        by_node, kept = self.deciding.by_node, self.run.kept
        read = [by_node[name] for name in self.deciding.read(segment)]
        missing = [s.name for s in read if s.output is not None and s.node not in kept]
        if waited := missing or self._written_before(segment):
            return self._held_up(segment, waited)
        work = self.deciding.decide(segment)
        # a feed that has not begun has nothing to say of rows that were written in another way
        if not work.anew:
            self.complete_feed(segment)
        for inner in read if work.kind in ("units", "all") else ():
            if inner.output is None and inner.node not in kept and inner.name not in {r.name for r in self.results}:
                self.results.append(self.run_one(inner, self.deciding.shared(inner)))
                self.record(done=False)
                work = self.deciding.decide(segment)  # without files that were set aside
        return self._idle(segment, work, started) if work.kind in ("none", "wait") else work

    def _written_before(self, segment: Segment) -> list[str]:
        """Return the outputs that write what a segment only removes keys from, and could not be brought up to date."""
        outputs = self.run.plan.outputs
        if outputs[segment.name].mode != "delete":
            return []
        failed = [r.name for r in self.results if r.output is not None and r.status not in ("done", "unchanged")]
        return [n for n in failed if self.run.plan.share_place(n, segment.name)]

    def complete_feed(self, segment: Segment) -> None:
        """Bring the feeds of an output up to date, if it has any."""
        plan, name = self.run.plan, segment.output
        for one, output in plan.outputs.items() if name is not None else ():
            if name is None or not plan.share_place(one, name) or not (output.changes or output.panes):
                continue
            from lazypipe.run.changefeed import ChangeFeed
            from lazypipe.run.panefeed import PaneFeed

            kinds: list[type[Feed]] = [ChangeFeed] * output.changes + [PaneFeed] * bool(output.panes)
            for kind in kinds:
                kind(self.run, one, plan.segments.index(segment) + 1).complete()

    def _held_up(self, segment: Segment, by: Sequence[str]) -> SegmentResult:
        """Return the outcome where what a segment reads was not brought up to date: it waits too, or is blocked."""
        above = [r for r in self.results if r.name in by]
        status: Status = "waiting" if all(r.status == "waiting" for r in above) else "blocked"
        why = above[0].why if status == "waiting" else None
        return SegmentResult(segment.name, status, segment.output, uri=self._place(segment), why=why)

    def _place(self, segment: Segment) -> str | None:
        """Return where the rows of a segment go, as it may be shown; None if they are kept for this run only."""
        plan = self.run.plan
        return None if segment.output is None else plan.redact(plan.outputs[segment.output].to)

    def _idle(self, segment: Segment, work: Work, started: float) -> SegmentResult:
        """Return the outcome where there is nothing to do, or not yet."""
        if work.kind == "none":
            return self._unchanged(segment, work, started)
        return SegmentResult(
            segment.name,
            "waiting",
            segment.output,
            uri=self._place(segment),
            why=work.why,
            left=work.left,
            corrupt=files_set_aside(self.run, segment, idle=True),
            seconds=time.perf_counter() - started,
        )

    def _unchanged(self, segment: Segment, work: Work, started: float) -> SegmentResult:
        assert segment.output is not None
        output = self.run.plan.outputs[segment.output]
        commit = work.commit
        assert commit is not None
        if output.format != "dataset":
            said = commit.info[EXPORT]
            return SegmentResult(
                segment.name,
                "unchanged",
                segment.output,
                uri=self._place(segment),
                rows=said["rows"],
                bytes=said["size"],
                files=1,
                why=work.why,
                seconds=time.perf_counter() - started,
                corrupt=files_set_aside(self.run, segment, idle=True),
            )
        dataset = Dataset(output.to, output.storage_options)
        self.run.published.setdefault(segment.node, (dataset, commit))
        self.run.kept.setdefault(segment.node, cache(partial(dataset.whole, commit)))
        return SegmentResult(
            segment.name,
            "unchanged",
            segment.output,
            uri=self._place(segment),
            version=commit.version,
            rows=commit.rows,
            bytes=commit.bytes,
            files=len(commit.files),
            why=work.why,
            seconds=time.perf_counter() - started,
            corrupt=files_set_aside(self.run, segment, idle=True),
            incomplete=incompletes.read(commit.info.get(CONSUMED, {}).get(PROGRESS, {}))[0],
        )

    def result(self) -> RunResult:
        return RunResult(
            run=self.run.id,
            pipeline=self.run.plan.pipeline.name,
            started=self.run.now,
            seconds=time.perf_counter() - self.begun,
            params=self.run.plan.params,
            segments=tuple(self.results),
            record=self.records.path(self.run.id),
            warnings=self.warnings,
            error=self.error,
            window=None if self.run.window is None else str(self.run.window),
        )

    def record(self, *, done: bool) -> None:
        self.records.write(self.run.id, self.result().to_dict() | ({} if done else {"status": "running"}))

    def run_one(self, segment: Segment, work: Work) -> SegmentResult:
        """Run one segment; whatever goes wrong is its result, not an exception."""
        from lazypipe.run.segment.attempt import Attempt

        if work.kind not in ("judge", "state") and any(name not in self.run.kept for name in segment.reads):
            return SegmentResult(segment.name, "blocked", segment.output, uri=self._place(segment))
        number = self.run.plan.segments.index(segment) + 1
        started = time.perf_counter()
        while True:
            attempt = Attempt(self.run, segment, number, work)
            result = self._try(attempt, segment, started)
            if result is not None:
                return result
            # without the files that were set aside, without folders, or with moments parsed by Polars' reader
            try:
                work = self.deciding.shared(segment) if segment.output is None else self.deciding.decide(segment)
            except LazypipeError as error:
                return self._ended(segment, "error", error, started)
            if segment.output is not None and work.kind in ("none", "wait"):
                return self._idle(segment, work, started)

    def _try(self, attempt: Attempt, segment: Segment, started: float) -> SegmentResult | None:
        """Return the outcome of one try; None where corrupt files, some that grow, moments or folders were in its way, and are known now."""
        status: Status
        error: LazypipeError
        try:
            result = attempt.run(started)
            self.complete_feed(segment)
            return result
        except KeyboardInterrupt:
            status, error = "interrupted", _stopped()
        except GateError as failure:
            status, error = "gate_failed", failure
        except Fault as fault:  # of a function that does with rows what it did not do without
            where = self.run.plan.pipeline.origin.locate(fault.path)
            what = f"stage {fault.path[1]!r}: {fault.what}"
            status, error = "error", RunError(str(Problem(what, where)), fix=fault.fix)
        except BaseException as failure:
            if not (isinstance(failure, LazypipeError) or is_engine_error(failure)):
                raise
            attempt.clean_up(figures=False)
            if isinstance(failure, Unusual):
                self.run.moments[failure.source] = "reader"
                return None
            if refused(failure) and self._each_for_itself(segment):
                return None
            try:
                if (
                    isinstance(failure, Meanwhile)
                    or attempt.query.cut()
                    or attempt.laying.gives_up_folders(failure)
                    or read_by_row(self.run, segment, failure)
                    or leave_out_corrupt(self.run, segment, failure)
                ):
                    return None
                status, error = "error", attempt.explain(failure)
            except LazypipeError as another:
                status, error = "error", another
        finally:
            attempt.clean_up()
        return self._ended(segment, status, error, started, attempt.reports())

    def _each_for_itself(self, segment: Segment) -> bool:
        """Have moments parsed each row for itself where Polars' reader has refused some; return whether that is still to be tried."""
        found = set()
        for name in {*segment.nodes, *segment.lookups} - self.run.each:
            source = self.run.plan.nodes[name].source
            if source is not None and columns(source.reader, source.schema):
                found.add(name)
        self.run.each.update(found)
        self.run.moments.update(dict.fromkeys(found, "each"))
        return bool(found)

    def _ended(
        self,
        segment: Segment,
        status: Status,
        error: LazypipeError,
        started: float,
        gates: tuple[GateReport, ...] = (),
    ) -> SegmentResult:
        redacted(error, self.run.plan.redact)  # a log or a sink knows only where it writes
        return SegmentResult(
            segment.name,
            status,
            segment.output,
            uri=self._place(segment),
            seconds=time.perf_counter() - started,
            gates=gates,
            error=error,
            corrupt=files_set_aside(self.run, segment),
        )


def _stopped() -> Interrupted:
    return Interrupted("stopped by a signal", fix="nothing unfinished was published; run again")
