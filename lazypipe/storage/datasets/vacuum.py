"""Deletes what no reader of a dataset can reach any more: old versions, their files, and what killed runs left behind."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from lazypipe.errors import StorageError
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DELTA, Commit
from lazypipe.storage.deleting import delete
from lazypipe.storage.lake import publish
from lazypipe.storage.numbered import written_at
from lazypipe.storage.parallel import in_parallel
from lazypipe.storage.sink import is_data_file

__all__ = ["vacuum"]


def vacuum(
    dataset: Dataset,
    *,
    keep: int = 1,
    older_than: timedelta = timedelta(hours=24),
    now: datetime | None = None,
    dry_run: bool = False,
) -> list[str]:
    """Delete what no reader of a dataset can reach any more; return the paths of the deleted data files.

    With ``dry_run``, they are only told.

    Keeps the last ``keep`` versions. Files of no commit (left by a run that was killed) go once they are older than
    ``older_than``, so that a run in progress does not lose what it is writing. Files that no lazypipe wrote stay.

    Raises
    ------
    StorageError
        If ``keep`` is less than 1, or a commit to keep cannot be read.
    """
    if keep < 1:
        raise StorageError(
            f"cannot keep {keep} versions", uri=dataset.uri, fix="keep 1 or more: one must stay in force"
        )
    moment = now or datetime.now(UTC)
    limit = moment - older_than
    fs, root = uris.file_system(dataset.uri, dataset.storage_options)
    fs.invalidate_cache(root)
    is_table = not dry_run and _is_caught_up(dataset)
    # listed before the log is read: a file that is committed meanwhile is either not in the list, or live
    listed = {p.removeprefix(root).lstrip("/"): d for p, d in sorted(fs.find(root, detail=True).items())}
    rests = dataset.log.rests()
    versions = dataset.log.versions()
    needed = _Needed()
    for version in versions[-keep:]:
        needed.add(dataset.log.read(version))
    deleted = [path for path in _unneeded(dataset, listed, versions[:-keep], limit) if path not in needed.files]
    if dry_run:
        return deleted
    # versions go before their files, and then the log is looked at once more: a rollback to one of them that was committed by then
    # keeps its files, and one that is committed later finds that the version is gone (Dataset.rollback)
    dataset.log.remove(versions[:-keep])
    for version in dataset.log.versions():
        if version > max(versions, default=0):
            needed.add(dataset.log.read(version))
    deleted = [path for path in deleted if path not in needed.files]
    delete(fs, [f"{root}/{path}" for path in deleted])
    if is_table:
        oldest = versions[max(0, len(versions) - keep)]
        publish.forget(dataset.uri, oldest, moment, limit, dataset.storage_options)
    _vacuum_figures(dataset, needed.figures, limit)
    dataset.log.remove_lists([n for n, d in rests.items() if n not in needed.rests and written_at(d) <= limit])
    delete(fs, [path for path, details in dataset.log.half_written().items() if written_at(details) <= limit])
    if uris.is_local(dataset.uri):
        _remove_empty_folders(root)
    return deleted


class _Needed:
    """What commits that stay are made of, by name: data files, figures, and lists that they rest upon."""

    def __init__(self) -> None:
        self.files, self.figures, self.rests = set[str](), set[str](), set[str]()

    def add(self, commit: Commit) -> None:
        """Note what one more commit is made of."""
        self.files |= {f.path for f in commit.files}
        self.figures |= {f.path for f in commit.figures}
        self.rests |= set() if commit.rest is None else {commit.rest.name}


def _unneeded(
    dataset: Dataset, listed: Mapping[str, Mapping[str, Any]], older: Sequence[int], limit: datetime
) -> Iterator[str]:
    """Yield the data files that ``older`` commits name, or none, if these were written before the limit; in their order."""
    nested = {p.partition(".commits/")[0] + "/" for p in listed if ".commits/" in p}

    def files(version: int) -> set[str]:
        with suppress(StorageError):  # damaged, and to be deleted anyway: its files go by their age
            return {f.path for f in dataset.log.read(version).files}
        return set()

    # of a store each is a round trip
    read = [f for _, f in in_parallel(files, older)] if uris.is_object(dataset.uri) else map(files, older)
    known = set[str]().union(*read)
    for path, details in listed.items():
        left_over = is_data_file(path) and written_at(details) <= limit and not path.startswith(tuple(nested))
        if path in known or left_over:
            yield path


def _is_caught_up(dataset: Dataset) -> bool:
    """Have the Delta log tell of all commits, as of some nobody could afterwards; return whether there is one."""
    latest = dataset.latest()
    if latest is None or DELTA not in latest.info:
        return False
    publish.catch_up(dataset.uri, dataset.log, latest, dataset.storage_options)
    return True


def _vacuum_figures(dataset: Dataset, live: Collection[str], limit: datetime) -> None:
    fs, root = uris.file_system(dataset.figures, dataset.storage_options)
    with suppress(FileNotFoundError):
        found = fs.find(root, detail=True)
        delete(fs, [p for p, d in found.items() if p.rpartition("/")[2] not in live and written_at(d) <= limit])


def _remove_empty_folders(root: str) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        if folder != root:
            with suppress(OSError):  # not empty, or somebody is about to write into it
                os.rmdir(folder)
