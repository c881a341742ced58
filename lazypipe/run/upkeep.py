"""What a run mends of an output's files once it has published: small files, dead rows, a lost order, old versions."""

from __future__ import annotations

from datetime import datetime

from lazypipe.spec.model import Output
from lazypipe.storage.dataset import Dataset
from lazypipe.storage.log import Commit
from lazypipe.storage.optimizer.maintenance import compact, kept_layout, recluster
from lazypipe.storage.optimizer.packing import folders, is_small, target_bytes

__all__ = ["upkeep"]


def upkeep(output: Output, *, run: str, now: datetime) -> tuple[str, ...]:
    """Do what an output's ``maintain`` asks for, as far as it is due; return what was done, in words.

    Raises
    ------
    LazypipeError
        If files cannot be read, written or deleted; the rows of the output are what they were.
    """
    dataset = Dataset(output.to, output.storage_options)
    commit = dataset.latest()
    if commit is None:
        return ()
    done = []
    if _is_due(output, commit):
        made = compact(dataset, run=run, time=now, dead=output.maintain.get("dead_rows"), commit=commit)
        if made.tasks:
            done.append(str(made))
    if (most := output.maintain.get("overlap")) is not None:
        again = recluster(dataset, most, run=run, time=now)
        if again is not None:
            done.append(f"{again}, in order again: {again.tasks[0].why}")
    if (keep := output.maintain.get("keep")) is not None and len(dataset.log.versions()) > keep:
        deleted = dataset.vacuum(keep=keep)
        done.append(f"{dataset.uri}: {keep} versions kept, {len(deleted):,} files deleted")
    return tuple(done)


def _is_due(output: Output, commit: Commit) -> bool:
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
