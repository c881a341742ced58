"""Files that are written anew outside of runs, recorded as runs are: in the ledger of whoever wrote the rows."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from typing import Any

from lazypipe.errors import StorageError, first_line
from lazypipe.records import body as bodies
from lazypipe.records.entry import Entry
from lazypipe.records.ledger import Ledger
from lazypipe.run.recorder import ACTOR, user
from lazypipe.storage.dataset import Dataset
from lazypipe.storage.log import Commit
from lazypipe.storage.optimizer.maintenance import Rewrite

__all__ = ["recorded"]

_HIDDEN = "***"


def recorded(
    made: Rewrite,
    dataset: Dataset,
    before: Commit,
    *,
    kind: str,
    run: str,
    started: datetime,
    seconds: float,
    ended: datetime,
    ledger: Ledger | str | None = None,
    actor: str | None = None,
) -> Rewrite:
    """Append a record of what was written anew, and return it with the record's number, or why there is none.

    The record names the definition that made the rows: they are the same.

    Parameters
    ----------
    before
        The commit that was looked at: it names the run that wrote it, and where that is recorded.
    kind
        ``rewrite`` or ``compact``.
    started, seconds, ended
        When it began, as its commit says, how long it took, and the moment of the record.
    ledger
        Where to record it. Default: where that run is, unless its records are signed, since a key is needed then.
    """
    if made.version is None:
        return made
    said = before.info.get("ledger")
    if said is None:
        return made if ledger is None else replace(made, unrecorded="no run in that ledger has written the rows")
    try:
        if ledger is None and _HIDDEN in said["uri"]:
            return replace(made, unrecorded="the ledger's URI holds a secret, name it with ledger=")
        book = ledger if isinstance(ledger, Ledger) else Ledger(ledger or said["uri"])
        origin = _last_of(book, said["run"])
        if origin is None:
            return replace(made, unrecorded=f"run {said['run']!r}, which wrote the rows, is not in {book.uri}")
        if origin.signature is not None and not book.signs:
            return replace(
                made, unrecorded=f"the records in {book.uri} are signed, give lp.ledger(…, key=…) as ledger="
            )
        segment = _segment(made, dataset, origin, seconds)
        body = {
            "kind": kind,
            "run": run,
            "pipeline": origin.pipeline,
            "started": started.isoformat(),
            "actor": actor or os.environ.get(ACTOR) or user(),
            "code": bodies.code(None),
            **{name: origin.body[name] for name in ("definition", "stages", "params")},
            "status": "done",
            "ended": ended.isoformat(),
            "seconds": round(seconds, 6),
            "inputs": {},
            "segments": [segment],
            "error": None,
        }
        entry = book.append(body, time=ended)
    except StorageError as error:
        # the rows are as they were, and the dataset has its new version: what is missing is told
        return replace(made, unrecorded=first_line(error))
    return replace(made, record=entry.number)


def _last_of(ledger: Ledger, run: str) -> Entry | None:
    """Return the last record of a run, looked for from the end."""
    number = ledger.tip().number
    while number:
        entry = ledger.read(number)
        if entry.run == run:
            return entry
        number -= 1
    return None


def _segment(made: Rewrite, dataset: Dataset, origin: Entry, seconds: float) -> dict[str, Any]:
    like = next((s for s in origin.body["segments"] if s["output"] and _same(s["uri"], dataset.uri)), None)
    name = dataset.uri.rstrip("/").rpartition("/")[2] if like is None else like["output"]
    return {
        "sources": [],
        "mode": "rewrite",  # what the version before held is in it
        "data": bodies.data(made.written),
        "quarantine": [],
        "name": name,
        "status": "done",
        "output": name,
        "uri": dataset.uri if like is None else like["uri"],
        "version": made.version,
        "rows": sum(f.rows for f in made.written),
        "bytes": sum(f.bytes for f in made.written),
        "files": len(made.written),
        "seconds": round(seconds, 6),
        "gates": [],
        "counts": {},
        "corrupt": [],
        "error": None,
        "replaced": [f.path for f in made.replaced],
        "reasons": list(made.reasons),
    }


def _same(one: str, other: str) -> bool:
    return one.removeprefix("file://").rstrip("/") == other.removeprefix("file://").rstrip("/")
