"""The run as plain data for events, in the shape of its record: what it read, with which code, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from lazypipe.records import body as bodies
from lazypipe.run.context import Run
from lazypipe.run.recorder import Recorder
from lazypipe.run.result import SegmentResult, Status

__all__ = ["body", "head"]


def head(recorder: Recorder, *, status: str, seconds: float) -> dict[str, Any]:
    """Return what the body of a record says of any run, or replay."""
    plan, now = recorder.plan, recorder.now
    return {
        "kind": recorder.kind,
        "run": recorder.run,
        "pipeline": plan.pipeline.name,
        "status": status,
        "started": now.isoformat(),
        "ended": None if status == "running" else (now + timedelta(seconds=seconds)).isoformat(),
        "seconds": round(seconds, 6),
        "actor": recorder.who,
        "code": bodies.code(recorder.code),
        "definition": {"file": plan.pipeline.origin.file, "blake3": bodies.text_hash(plan.pipeline), "object": None},
        "params": {k: str(v) for k, v in plan.params.items()},
    }


def body(
    run: Run, segments: Sequence[SegmentResult], *, status: Status, seconds: float, error: str | None = None
) -> dict[str, Any]:
    """Return the body of the record of a run as it stands."""
    plan = run.plan
    sources = {n: node.source for n, node in plan.nodes.items() if node.source is not None and n in run.snapshots}
    return {
        **head(run.recorder, status=status, seconds=seconds),
        **({"window": str(run.window)} if run.window is not None else {}),
        "inputs": {n: bodies.input_of(s, run.snapshots[n], {}, run.reads.get(n, ())) for n, s in sources.items()},
        "segments": [
            {
                **s.to_dict(),
                "mode": plan.pipeline.outputs[s.output].mode if s.output else None,
                "data": bodies.data(run.recorder.written.get(s.name, ())),
                "quarantine": [a.to_dict() for a in run.recorder.asides.get(s.name, ())],
            }
            for s in segments
        ],
        "error": error,
    }
