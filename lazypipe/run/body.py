"""What a run's record says, as plain data: what was read with which code, and what came of it."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Sequence
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import blake3
import polars as pl

from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.errors import DefinitionError
from lazypipe.run.attempt import Run
from lazypipe.run.result import SegmentResult, Status
from lazypipe.spec import loader

__all__ = ["body"]


def body(
    run: Run, segments: Sequence[SegmentResult], *, status: Status, seconds: float, error: str | None = None
) -> dict[str, Any]:
    """Return the body of the record of a run as it stands."""
    pipeline = run.plan.pipeline
    sources = {n: node.source for n, node in run.plan.nodes.items()}
    return {
        "kind": "run",
        "run": run.id,
        "pipeline": pipeline.name,
        "status": status,
        "started": run.now.isoformat(),
        "ended": None if status == "running" else (run.now + timedelta(seconds=seconds)).isoformat(),
        "seconds": round(seconds, 6),
        "actor": _actor(),
        "code": {
            "lazypipe": version("lazypipe"),
            "polars": pl.__version__,
            "python": platform.python_version(),
            "version": None,
        },
        "definition": {"file": pipeline.origin.file, "blake3": _fingerprint(run), "object": None},
        "params": {k: str(v) for k, v in run.plan.params.items()},
        "inputs": {n: _input(s, run.snapshots[n]) for n, s in sources.items() if s is not None and n in run.snapshots},
        "segments": [
            {**s.to_dict(), "mode": run.plan.outputs[s.output].mode if s.output else None, "data": []} for s in segments
        ],
        "error": error,
    }


def _input(source: BoundSource, snapshot: Snapshot) -> dict[str, Any]:
    redact = source.redact
    return {
        "uri": [redact(p) for p in source.patterns],
        "format": source.reader.format,
        "files": [{"uri": redact(f.uri), "size": f.size, "stamp": f.stamp, "blake3": None} for f in snapshot.files],
        "version": None if snapshot.commit is None else snapshot.commit.version,
    }


def _fingerprint(run: Run) -> str | None:
    try:
        return blake3.blake3(loader.to_json(run.plan.pipeline).encode()).hexdigest()
    except DefinitionError:
        return None  # it exists in Python only


def _actor() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None  # a user without a name, as in containers
