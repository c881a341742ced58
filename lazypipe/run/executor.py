"""The executor: each segment is written to files that nobody sees, audited, and only then published.

    snapshot → (for each segment) write → audit → publish → record

A gate that fails, an error or a signal leaves the commit before in force. Segments that do not depend on a failed one
go on.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.compile.segments import Segment
from lazypipe.errors import GateError, Interrupted, LazypipeError
from lazypipe.records.emitter import Emitter
from lazypipe.records.record import Records
from lazypipe.records.transport import Transport
from lazypipe.run.attempt import Attempt, Observer, Run
from lazypipe.run.body import body
from lazypipe.run.corrupt import files_set_aside, leave_out_corrupt
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
    emit: Sequence[Transport] = (),
    parent: Mapping[str, str] | None = None,
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
    emit
        Where OpenLineage events go, besides what the definition says.
    parent
        What started the run, as events tell it: ``run``, ``job`` and ``namespace``.

    Returns
    -------
    RunResult
        Also where a gate failed or a segment could not be completed: see ``status`` and ``raise_for_status``.
    """
    state = uris.resolve(plan.pipeline.state, plan.pipeline.base)
    records = Records(uris.join(state, "runs"))
    folder = work or (Path(uris.local_path(state)) / "work" / run if uris.is_local(state) else Path(tempfile.mkdtemp()))
    try:
        execution = _Execution(Run(plan, run, now, state, folder, observer), records)
        return execution.told(Emitter(plan, emit, parent=parent))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Execution:
    run: Run
    records: Records
    results: list[SegmentResult] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    def told(self, emitter: Emitter) -> RunResult:
        """Run, and tell of its beginning and its end."""
        emitter.emit(lambda: self.body("running"))
        try:
            result = self.run_all()
        except BaseException as error:
            status: Status = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
            told = str(error) or type(error).__name__
            emitter.emit(lambda: self.body(status, told), self.result().gates)
            emitter.finish()
            raise
        emitter.emit(lambda: self.body(result.status), result.gates)
        return replace(result, warnings=(*result.warnings, *emitter.finish()))

    def body(self, status: Status, error: str | None = None) -> dict[str, Any]:
        return body(self.run, self.results, status=status, seconds=time.perf_counter() - self.begun, error=error)

    def run_all(self) -> RunResult:
        segments = self.run.plan.segments
        self.record(done=False)
        for number, segment in enumerate(segments, start=1):
            result = self.run_one(segment, number)
            self.results.append(result)
            stopped = result.status == "interrupted"
            self.record(done=stopped or number == len(segments))
            if stopped:
                break
        return self.result()

    def result(self) -> RunResult:
        return RunResult(
            run=self.run.id,
            pipeline=self.run.plan.pipeline.name,
            started=self.run.now,
            seconds=time.perf_counter() - self.begun,
            params=self.run.plan.params,
            segments=tuple(self.results),
            record=self.records.path(self.run.id),
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
