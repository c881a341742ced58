"""Records of runs that could not begin: the definition is wrong, a source is missing, or an upstream pipeline failed.

Who asks the ledger why an output is old finds the reason there, and not only that nothing happened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from lazypipe.errors import LazypipeError, StorageError, first_line
from lazypipe.records import body as bodies
from lazypipe.records.ledger import Ledger
from lazypipe.run.recorder import ACTOR, user
from lazypipe.run.result import RunResult
from lazypipe.spec.model import Output, Pipeline

__all__ = ["record_not_begun"]


def record_not_begun(
    result: RunResult,
    pipeline: Pipeline,
    outputs: Mapping[str, Output],
    redact: Callable[[str], str],
    ledger: Ledger,
    actor: str | None,
    asked: Collection[str],
    why: str,
) -> str | None:
    """Append a record of a run that did not begin; return a warning if that cannot be written.

    Parameters
    ----------
    outputs
        Those of the definition, with URIs that are whole.
    asked
        Those that were to be made. Default: all.
    why
        What kept it from beginning.
    """
    ended = datetime.now(UTC)
    told: list[dict[str, Any]] = [
        {
            "name": name,
            "status": result.status,
            "output": name,
            "uri": redact(output.to),
            "mode": output.mode,
            "version": None,
            "rows": 0,
            "bytes": 0,
            "files": 0,
            "seconds": 0.0,
            "sources": [],
            "data": [],
            "quarantine": [],
            "gates": [],
            "counts": {},
            "corrupt": [],
            "error": None,
        }
        for name, output in outputs.items()
        if not asked or name in asked
    ]
    body: dict[str, Any] = {
        "kind": "run",
        "run": result.run,
        "pipeline": pipeline.name,
        "started": result.started.isoformat(),
        "actor": actor or os.environ.get(ACTOR) or user(),
        "code": bodies.code(bodies.commit_id(pipeline.base)),
        "definition": {"file": pipeline.origin.file, "blake3": bodies.text_hash(pipeline), "object": None},
        "stages": {},
        "params": {},
        "status": result.status,
        "ended": ended.isoformat(),
        "seconds": round(result.seconds, 6),
        "inputs": {},
        "segments": told,
        "error": redact(why),
    }
    try:
        ledger.append(body, time=ended)
    except Exception as failure:  # whatever it was: the result of the run is reported nevertheless
        error = failure if isinstance(failure, LazypipeError) else StorageError(first_line(failure))
        return f"that this run did not begin is not in the ledger: {redact(str(error))}"
    return None
