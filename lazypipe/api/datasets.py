"""The versions of a dataset, or of a pipeline's output."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lazypipe.api.now import time_of_run
from lazypipe.api.plan import Plan
from lazypipe.api.records import own_ledger
from lazypipe.compile.compiler import bind_outputs
from lazypipe.errors import LazypipeError, nearest
from lazypipe.records.ledger import Ledger
from lazypipe.run.context import run_id
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
        The dataset's URI, or a pipeline, then with the name of one of its outputs.
    storage_options
        Credentials and settings of the storage of a dataset that is given by its URI, by the names of Polars or of fsspec.

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
    """Make an earlier version of a dataset the one in force, as a version of its own; return its number.

    What it had consumed comes back with it: the next run does what has changed since then, and what was put aside since then leaves the
    quarantine.

    Parameters
    ----------
    target, output
        The dataset's URI, or a pipeline, then with the name of one of its outputs.
    version
        That which comes back.
    run, now
        An id that was never used, and the time that the commit says. Default: made up, and the machine's clock.
    ledger, actor
        Where it is recorded, and who does it. Default: in the ledger of the pipeline, or of the run that wrote the rows, if they come
        of one, and the user, or ``LAZYPIPE_ACTOR``. The version comes back even if that cannot be recorded; ``verify`` of the ledger notes it then.
    storage_options
        Credentials and settings of the storage of a dataset that is given by its URI, by the names of Polars or of fsspec.

    Raises
    ------
    StorageError
        If there is no such version, or files of it are gone.
    CommitConflict
        If a run commits meanwhile.
    """
    moment = time_of_run(now)
    dataset, name, clock = _dataset(target, output, storage_options), run or run_id(moment), time.perf_counter()
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
    """Have the Delta log of a dataset tell of all its versions; return how many it did not know.

    Runs do that themselves, for outputs with ``format: delta``. A dataset that is no Delta table yet becomes one, by a version with the
    same rows; files that a Delta reader would misread are written anew for it.

    Raises
    ------
    StorageError
        If there is no dataset at a URI, a Delta table cannot hold its columns, the log cannot be written, or somebody else has written to it.
    CommitConflict
        If a run commits meanwhile.

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
    return dataset.publish(run=run or run_id(moment), time=moment)


def _dataset(
    target: str | os.PathLike[str] | model.Pipeline | Plan, output: str | None, options: Mapping[str, Any] | None
) -> Dataset:
    if isinstance(target, str | os.PathLike):
        return Dataset(target, options)
    _refuse(options)
    if isinstance(target, Plan):
        outputs = target.outputs
    else:
        faults: list[Fault] = []
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
    target: str | os.PathLike[str] | model.Pipeline,
    *,
    keep: int = 1,
    older_than: timedelta | str = timedelta(hours=24),
    now: datetime | None = None,
    dry_run: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Delete what nobody can read any more: of one dataset, or of all datasets and leftovers of a pipeline.

    Parameters
    ----------
    keep
        How many versions stay readable. Earlier ones cannot be read (``version=``, ``as_of=``), compared or rolled back to any more. Those stay
        from which a feed beside the dataset, or its output's next run, goes on.
    older_than
        Files of no commit (left by a run that was killed) go when they are older than this (``36h``, as text); a run that is writing now
        has younger ones.
    dry_run
        Say what would be deleted, and delete nothing.
    storage_options
        Credentials and settings of the storage of a dataset that is given by its URI, by the names of Polars or of fsspec.

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
    return vacuum_pipeline(target, keep=keep, older_than=older_than, now=now, dry_run=dry_run)
