"""Changes to datasets outside of runs (rewritten files, rollbacks), recorded in the ledger of the pipeline that wrote the rows."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lazypipe.errors import StorageError, first_line
from lazypipe.records import body as bodies
from lazypipe.records.entry import Entry
from lazypipe.records.ledger import Ledger
from lazypipe.run.recorder import ACTOR, user
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.optimizer.maintenance import Rewrite

__all__ = ["record_rollback", "recorded"]

_HIDDEN = "***"


def recorded(
    made: Rewrite,
    dataset: Dataset,
    before: Commit,
    kind: str,
    run: str,
    begun: tuple[datetime, float],
    ledger: Ledger | str | None,
    actor: str | None,
) -> Rewrite:
    """Append a record of what was rewritten, and return it with the record's number, or why there is none.

    The record names the definition that made the rows: they are the same.

    Parameters
    ----------
    before
        The commit that was looked at: it names the run that wrote it, and where that is recorded.
    kind
        ``rewrite`` or ``compact``.
    begun
        When it began, as its commit says, and on the clock that counts seconds.
    ledger
        Where to record it. Default: where that run is, unless its records are signed, since a key is needed then.
    """
    if made.version is None:
        return made
    said = {
        "mode": "rewrite",  # what the version before held is in it
        "data": bodies.data(made.written),
        "version": made.version,
        "rows": sum(f.rows for f in made.written),
        "bytes": sum(f.bytes for f in made.written),
        "files": len(made.written),
        "replaced": [f.path for f in made.replaced],
        "reasons": list(made.reasons),
    }
    times = begun[0], time.perf_counter() - begun[1], datetime.now(UTC)
    number, why = _append(dataset, before, said, kind, run, times, ledger, actor)
    return replace(made, record=number, unrecorded=why)


def record_rollback(
    made: Commit,
    dataset: Dataset,
    *,
    started: datetime,
    seconds: float,
    ended: datetime,
    ledger: Ledger | str | None,
    actor: str | None,
) -> int | None:
    """Append a record of a version that has come back; return the record's number, None if there is no ledger, or it cannot be recorded there.

    The record names the definition that made the rows when they were new.
    """
    said = {
        "mode": "rollback",
        "of": made.brings_back,
        "data": bodies.data(made.files),
        "version": made.version,
        "rows": made.rows,
        "bytes": made.bytes,
        "files": len(made.files),
    }
    return _append(dataset, made, said, "rollback", made.run, (started, seconds, ended), ledger, actor)[0]


def _append(
    dataset: Dataset,
    before: Commit,
    about: Mapping[str, Any],
    kind: str,
    run: str,
    times: tuple[datetime, float, datetime],
    ledger: Ledger | str | None,
    actor: str | None,
) -> tuple[int | None, str | None]:
    """Append a record; return its number, or why there is none where there should be one."""
    started, seconds, ended = times
    said = before.info.get("ledger")
    if said is None:
        return None, None if ledger is None else "no run in that ledger has written the rows"
    try:
        if ledger is None and _HIDDEN in said["uri"]:
            return None, "the ledger's URI holds a secret, name it with ledger="
        book = ledger if isinstance(ledger, Ledger) else Ledger(ledger or said["uri"])
        origin = _last_of(book, said["run"])
        if origin is None:
            return None, f"run {said['run']!r}, which wrote the rows, is not in {book.uri}"
        if origin.signature is not None and not book.signs:
            return None, f"the records in {book.uri} are signed, give lp.ledger(…, key=…) as ledger="
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
            "segments": [_segment(about, dataset, origin, seconds)],
            "error": None,
        }
        return book.append(body, time=ended).number, None
    except StorageError as error:
        # the dataset has its new version, which is right: the missing record is reported
        return None, first_line(error)


def _last_of(ledger: Ledger, run: str) -> Entry | None:
    """Return the last record of a run, looked for from the end."""
    number = ledger.tip().number
    while number:
        entry = ledger.read(number)
        if entry.run == run:
            return entry
        number -= 1
    return None


def _segment(about: Mapping[str, Any], dataset: Dataset, origin: Entry, seconds: float) -> dict[str, Any]:
    uri = uris.resolve(dataset.uri, ".")  # as records say it, from wherever it was named
    like = next((s for s in origin.body["segments"] if s["output"] and _same(s["uri"], uri)), None)
    name = uri.rstrip("/").rpartition("/")[2] if like is None else like["output"]
    return {
        "sources": [],
        "quarantine": [],
        "name": name,
        "status": "done",
        "output": name,
        "uri": uri if like is None else like["uri"],
        "seconds": round(seconds, 6),
        "gates": [],
        "counts": {},
        "corrupt": [],
        "error": None,
        **about,
    }


def _same(one: str, other: str) -> bool:
    return uris.place(one) == uris.place(other)
