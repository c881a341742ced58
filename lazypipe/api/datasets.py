"""Versions of a dataset or of a pipeline's output."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lazypipe.api.now import time_of_run
from lazypipe.api.pipeline import Pipeline
from lazypipe.api.plan import Plan
from lazypipe.api.records import own_ledger
from lazypipe.compile.compiler import bind_outputs
from lazypipe.errors import LazypipeError, nearest
from lazypipe.records.ledger import Ledger
from lazypipe.run.context import named
from lazypipe.run.maintenance import vacuum_dataset, vacuum_pipeline
from lazypipe.run.rewrites import record_rollback
from lazypipe.spec import loader, model
from lazypipe.spec.model import Fault
from lazypipe.spec.moment import age
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DELTA

__all__ = ["history", "publish_delta", "rollback", "vacuum"]


def history(
    target: str | os.PathLike[str] | model.Pipeline | Plan,
    output: str | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> pl.DataFrame:
    """Return the versions of a dataset that can still be read, oldest first.

    Parameters
    ----------
    target
        The dataset's URI, or a pipeline together with the name of one of its outputs.
    storage_options
        Credentials and settings for the storage, if a URI is given, with the names that Polars or fsspec use.

    Returns
    -------
    DataFrame
        Columns ``version``, ``time``, ``run``, ``mode``, ``rows``, ``bytes`` and ``files``.

    Examples
    --------
    >>> history("memory://nothing-here").columns
    ['version', 'time', 'run', 'mode', 'rows', 'bytes', 'files']
    """
    log = _dataset(target, output, storage_options).log
    commits = [log.read(version) for version in log.versions()]
    rows = [(c.version, c.time, c.run, c.mode, c.rows, c.bytes, len(c.files)) for c in commits]
    schema: dict[str, Any] = {
        "version": pl.Int64,
        "time": pl.Datetime("us", "UTC"),
        "run": pl.String,
        "mode": pl.String,
    }
    return pl.DataFrame(rows, schema=schema | dict.fromkeys(("rows", "bytes", "files"), pl.Int64), orient="row")


def rollback(
    target: str | os.PathLike[str] | model.Pipeline | Plan,
    output: str | None = None,
    *,
    version: int,
    run: str | None = None,
    now: datetime | None = None,
    ledger: Ledger | str | None = None,
    actor: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> int:
    """Make an earlier version of a dataset current again, by publishing it as a new version. Returns the new version's number.

    The record of what was consumed is rolled back too: the next run processes what has changed since that version. Rows that were quarantined
    since then are removed from the quarantine.

    Parameters
    ----------
    target, output
        The dataset's URI, or a pipeline together with the name of one of its outputs.
    version
        The version to return to.
    run, now
        An unused run id, and the time recorded in the commit. Default: a generated id, and the machine's clock.
    ledger, actor
        Where to record it, and who does it. Default: the ledger of the pipeline, or of the run that wrote the rows, and the user or
        ``LAZYPIPE_ACTOR``. The rollback succeeds even if it cannot be recorded; the ledger's ``verify`` reports that.
    storage_options
        Credentials and settings for the storage, if a URI is given, with the names that Polars or fsspec use.

    Raises
    ------
    StorageError
        If there is no such version, or some of its files have been deleted.
    CommitConflict
        If another run commits at the same time.
    """
    moment = time_of_run(now)
    dataset, name, clock = _dataset(target, output, storage_options), named(run, moment), time.perf_counter()
    book = ledger if ledger is not None or isinstance(target, str | os.PathLike) else own_ledger(target)
    made = dataset.rollback(version, run=name, time=moment)
    seconds, ended = time.perf_counter() - clock, datetime.now(UTC)
    record_rollback(made, dataset, started=moment, seconds=seconds, ended=ended, ledger=book, actor=actor)
    if DELTA in made.info:
        dataset.publish(run=name, time=moment)  # again, if it did not succeed: to have it said
    return made.version


def publish_delta(
    target: str | os.PathLike[str] | model.Pipeline | Plan,
    output: str | None = None,
    *,
    run: str | None = None,
    now: datetime | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> int:
    """Bring the Delta log of a dataset up to date with its versions; return how many versions were added to it.

    Runs do this themselves for outputs with ``format: delta``. A dataset that is not yet a Delta table becomes one: a new version with the
    same rows is published, and files that a Delta reader would misread are rewritten.

    Raises
    ------
    StorageError
        If there is no dataset at the URI, if a Delta table cannot hold its columns, if the log cannot be written, or if another program has
        written to it.
    CommitConflict
        If another run commits at the same time.

    Examples
    --------
    >>> publish_delta("memory://nothing-here")
    Traceback (most recent call last):
    lazypipe.errors.StorageError: memory://nothing-here: there is no dataset here; run the pipeline that writes it, or check the path
    """
    moment = time_of_run(now)
    dataset = _dataset(target, output, storage_options)
    if isinstance(target, str | os.PathLike):
        dataset.read()  # what was mistyped is told
    return dataset.publish(run=named(run, moment), time=moment)


def _dataset(
    target: str | os.PathLike[str] | model.Pipeline | Plan, output: str | None, options: Mapping[str, Any] | None
) -> Dataset:
    if isinstance(target, str | os.PathLike):
        return Dataset(target, options)
    _refuse(options)
    if isinstance(target, Plan):
        outputs = target.outputs
    else:
        target, faults = Pipeline.of(target), list[Fault]()
        outputs, _ = bind_outputs(target, os.environ, faults)
        if faults:
            raise loader.problems(faults, target.origin)
    if output is None or output not in outputs:
        raise LazypipeError(f"unknown output {output!r}; {nearest(str(output), outputs, 'outputs')}")
    found = outputs[output]
    if found.format != "dataset":
        raise LazypipeError(f"output {output!r} is one {found.format} file, which has no versions")
    return Dataset(found.to, found.storage_options)


def _refuse(options: Mapping[str, Any] | None) -> None:
    """Refuse settings beside a pipeline, whose outputs have their own."""
    if options:
        what = "storage_options are those of a dataset that is given by its URI"
        raise LazypipeError(f"{what}; outputs of a pipeline have their own, in its definition")


def vacuum(
    target: str | os.PathLike[str] | model.Pipeline | Plan,
    *,
    keep: int = 1,
    older_than: timedelta | str = timedelta(hours=24),
    now: datetime | None = None,
    dry_run: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Delete versions and files that are no longer needed: of one dataset, or of all datasets of a pipeline including leftovers of killed runs.

    Parameters
    ----------
    keep
        How many versions to keep. Earlier versions can then no longer be read (``version=``, ``as_of=``), compared or rolled back to. Versions
        that a change feed beside the dataset, or the output's next run, still needs are kept as well.
    older_than
        Files that belong to no commit (left by a killed run) are deleted if they are older than this, such as ``36h``. Files of a run
        that is still writing are younger.
    dry_run
        Only return what would be deleted.
    storage_options
        Credentials and settings for the storage, if a URI is given, with the names that Polars or fsspec use.

    Returns
    -------
    list of str
        The deleted files.
    """
    older_than = age(older_than, "older_than")
    if isinstance(target, str | os.PathLike):
        dataset = Dataset(target, storage_options)
        return vacuum_dataset(dataset, keep=keep, older_than=older_than, now=now, dry_run=dry_run)
    _refuse(storage_options)
    definition = target.pipeline if isinstance(target, Plan) else Pipeline.of(target)
    return vacuum_pipeline(definition, keep=keep, older_than=older_than, now=now, dry_run=dry_run)
