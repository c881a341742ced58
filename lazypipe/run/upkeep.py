"""Maintenance of an output's files and feeds after a run has published: small files, dead rows, sort order, old versions."""

from __future__ import annotations

from datetime import datetime

from lazypipe.run.changefeed import needed
from lazypipe.run.panefeed import feeds_of
from lazypipe.spec.model import Output
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.datasets.vacuum import vacuum
from lazypipe.storage.optimizer.packing import folders, is_small, target_bytes

__all__ = ["upkeep"]


def upkeep(output: Output, *, run: str, now: datetime) -> tuple[str, ...]:
    """Do what an output's ``maintain`` asks for, as far as it is due; return what was done, in words.

    Raises
    ------
    LazypipeError
        If files cannot be read, written or deleted; the rows of the output are what they were.
    """
    from lazypipe.storage.optimizer.maintenance import recluster

    dataset = Dataset(output.to, output.storage_options)
    commit = dataset.latest()
    if commit is None:
        return ()
    done = _compacted(output, dataset, commit, run, now)
    if (most := output.maintain.get("overlap")) is not None:
        again = recluster(dataset, most, run=run, time=now)
        if again is not None:
            done.append(f"{again}, in order again: {again.tasks[0].why}")
    feeds = feeds_of(output, dataset)
    for feed in feeds:
        done += _compacted(output, feed, feed.latest(), run, now)
    if (keep := output.maintain.get("keep")) is not None:
        # a feed continues from its last version
        done += _vacuumed(dataset, max([keep, *(needed(dataset, feed) for feed in feeds)]))
        for feed in feeds:
            done += _vacuumed(feed, keep)
    return tuple(done)


def _compacted(output: Output, dataset: Dataset, commit: Commit | None, run: str, now: datetime) -> list[str]:
    """Rewrite small files and files with deleted rows, if they are due: of the output, or of a feed of it."""
    from lazypipe.storage.optimizer.maintenance import compact

    if commit is None or not _is_due(output, commit):
        return []
    made = compact(dataset, run=run, time=now, dead=output.maintain.get("dead_rows"), commit=commit)
    return [str(made)] if made.tasks else []


def _vacuumed(dataset: Dataset, keep: int) -> list[str]:
    if len(dataset.log.versions()) <= keep:
        return []
    deleted = vacuum(dataset, keep=keep)
    return [f"{dataset.uri}: {keep} versions kept, {len(deleted):,} files deleted"]


def _is_due(output: Output, commit: Commit) -> bool:
    from lazypipe.storage.optimizer.maintenance import kept_layout

    most, dead = output.maintain.get("small_files"), output.maintain.get("dead_rows")
    if dead is not None:
        rows = sum(f.rows for f in commit.files)
        if rows and sum(f.dead(commit.gone) for f in commit.files) > dead * rows:
            return True
    if most is None:
        return False
    target = target_bytes(None, kept_layout(commit))
    return any(
        sum(is_small(f, commit, target) for f in files) > most for files in folders(commit, commit.files).values()
    )
