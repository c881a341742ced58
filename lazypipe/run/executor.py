"""The executor: each segment is written to files that nobody sees, audited, and only then published.

    snapshot → (for each segment) write → audit → publish → record → ledger

A gate that fails, an error or a signal leaves the commit before in force. Segments that do not depend on a failed one
go on.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources import Snapshot
from lazypipe.errors import GateError, Interrupted, LazypipeError, first_line
from lazypipe.records.record import Records
from lazypipe.run.attempt import Attempt, Observer, Run
from lazypipe.run.corrupt import files_set_aside, leave_out_corrupt
from lazypipe.run.recorder import Recorder
from lazypipe.run.result import RunResult, SegmentResult, Status
from lazypipe.storage import uri as uris
from lazypipe.storage.scan import is_engine_error

__all__ = ["Observer", "execute"]


def execute(
    plan: CompiledPipeline,
    *,
    run: str,
    now: datetime,
    observer: Observer = lambda *_: None,
    work: Path | None = None,
    actor: str | None = None,
    code: str | None = None,
) -> RunResult:
    """Run a compiled pipeline.

    Parameters
    ----------
    run
        The run's id; data files carry it in their names, so it must be new.
    now
        The time of the run, as commits record it.
    work
        Folder for rows kept between segments; removed at the end. Default: below ``state``, or a temporary one.
    actor, code
        Who runs it, and the version of the pipeline's code, as the ledger says it. Default: see ``Plan.run``.

    Returns
    -------
    RunResult
        Also where a gate failed or a segment could not be completed: see ``status`` and ``raise_for_status``.
    """
    state = uris.resolve(plan.pipeline.state, plan.pipeline.base)
    records = Records(uris.join(state, "runs"))
    folder = work or (Path(uris.local_path(state)) / "work" / run if uris.is_local(state) else Path(tempfile.mkdtemp()))
    try:
        snapshots: dict[str, Snapshot] = {}
        recorder = Recorder(plan, run, now, state, actor, code, snapshots=snapshots)
        started = Run(plan, run, now, state, folder, observer, recorder, snapshots=snapshots)
        return _Execution(started, records).run_all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Execution:
    run: Run
    records: Records
    results: list[SegmentResult] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    warnings: tuple[str, ...] = ()
    error: LazypipeError | None = None

    def run_all(self) -> RunResult:
        try:
            self.run_segments()
        except BaseException as failure:
            # nobody gets a result then; what was published before is in the ledger all the same
            status: Status = "interrupted" if isinstance(failure, KeyboardInterrupt) else "error"
            self.close(status, first_line(failure))
            raise
        self.close(self.result().status)
        self.record(done=True)
        return self.result()

    def run_segments(self) -> None:
        segments = self.run.plan.segments
        self.record(done=False)
        for number, segment in enumerate(segments, start=1):
            result = self.run_one(segment, number)
            self.results.append(result)
            if result.status == "interrupted" or number == len(segments):
                break
            self.record(done=False)

    def close(self, status: Status, error: str | None = None) -> None:
        """Append the run to the ledger."""
        done = zip(self.run.plan.segments, self.results, strict=False)
        warning, self.error = self.run.recorder.finish([(s, r.to_dict()) for s, r in done], status, error)
        self.warnings = (warning,) if warning is not None else ()

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
        )

    def record(self, *, done: bool) -> None:
        self.records.write(self.run.id, self.result().to_dict() | ({} if done else {"status": "running"}))

    def run_one(self, segment: Segment, number: int) -> SegmentResult:
        """Run one segment; whatever goes wrong is its result, not an exception."""
        if any(name not in self.run.kept for name in segment.reads):
            return SegmentResult(segment.name, "blocked", segment.output)
        started = time.perf_counter()
        while True:
            attempt = Attempt(self.run, segment, number)
            result = self._try(attempt, segment, started)
            if result is not None:
                return result

    def _try(self, attempt: Attempt, segment: Segment, started: float) -> SegmentResult | None:
        """Return the outcome of one try; None where corrupt files were in its way, and are now set aside."""
        status: Status
        error: LazypipeError
        try:
            return attempt.run(started)
        except KeyboardInterrupt:
            status, error = (
                "interrupted",
                Interrupted("stopped by a signal", fix="nothing unfinished was published; run again"),
            )
        except GateError as failure:
            status, error = "gate_failed", failure
        except BaseException as failure:
            if not (isinstance(failure, LazypipeError) or is_engine_error(failure)):
                raise
            attempt.clean_up()
            try:
                if leave_out_corrupt(self.run, segment, failure):
                    return None
                status, error = "error", attempt.explain(failure)
            except LazypipeError as another:
                status, error = "error", another
        finally:
            attempt.clean_up()
        return SegmentResult(
            segment.name,
            status,
            segment.output,
            uri=self.run.plan.redact(attempt.target) if segment.output else None,
            seconds=time.perf_counter() - started,
            gates=attempt.reports(),
            error=error,
            corrupt=files_set_aside(self.run, segment),
        )
