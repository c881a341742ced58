"""Which files of a dataset are to be rewritten, and which of them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.optimizer.layout import Layout

__all__ = [
    "TARGET",
    "Task",
    "compaction",
    "folders",
    "is_small",
    "is_worn",
    "live_bytes",
    "pack",
    "renewal",
    "target_bytes",
]

TARGET = 128 << 20
"""Bytes that a data file should have on disk, where its layout does not say."""

_SMALL = 0.5
_DEAD = 0.2


@dataclass(frozen=True)
class Task:
    """Files of one partition, or of all, whose rows go together into new ones, and how; and why."""

    files: tuple[DataFile, ...]
    layout: Layout | None
    partition_by: tuple[str, ...]
    why: str


def live_bytes(file: DataFile, commit: Commit) -> int:
    """Return what of a file's bytes its live rows take, if all rows are alike."""
    return file.bytes if not file.rows else file.bytes * (file.rows - file.dead(commit.gone)) // file.rows


def pack(sizes: Sequence[int], target: int) -> list[list[int]]:
    """Group things by size, so that no group is larger than ``target``; return the places of those in each group.

    Things that are larger stand alone. First fit, the largest first: at most 11/9 of the least number of groups, and one more.

    Examples
    --------
    >>> pack([4, 8, 1, 4, 2, 1], 10)
    [[1, 4], [0, 2, 3, 5]]
    """
    groups: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        for number, room in enumerate(left):
            if sizes[index] <= room:
                groups[number].append(index)
                left[number] -= sizes[index]
                break
        else:
            groups.append([index])
            left.append(target - sizes[index])
    return [sorted(group) for group in groups]


def _in_order(sizes: Sequence[int], target: int) -> list[list[int]]:
    """The same for things that must stay in their order: only neighbours go together."""
    groups: list[list[int]] = []
    room = -1
    for index, size in enumerate(sizes):
        if size <= room:
            groups[-1].append(index)
            room -= size
        else:
            groups.append([index])
            room = target - size
    return groups


def target_bytes(target: int | None, layout: Layout | None) -> int:
    """Return what a file should have on disk: as asked for, as its layout says, or 128 MiB."""
    return target or (layout.file_bytes if layout is not None else None) or TARGET


def folders(commit: Commit, files: Iterable[DataFile]) -> dict[tuple[str, tuple[str, ...]], list[DataFile]]:
    """Return files by their partition: its folder, and the columns that make it."""
    found: dict[tuple[str, tuple[str, ...]], list[DataFile]] = {}
    for file in files:
        by = commit.partition_by if file.layout is None else file.layout.partition_by
        found.setdefault((file.folder, by), []).append(file)
    return found


def is_worn(file: DataFile, commit: Commit, dead: float | None = None) -> bool:
    """Whether so many of a file's rows are dead (by default, more than a fifth) that it should be written anew."""
    return file.dead(commit.gone) > (_DEAD if dead is None else dead) * file.rows


def is_small(file: DataFile, commit: Commit, target: int) -> bool:
    """Whether a file's live rows take less than half of what they should."""
    return live_bytes(file, commit) < _SMALL * target


def compaction(
    commit: Commit, target: int | None = None, *, layout: Layout | None = None, dead: float | None = None
) -> tuple[Task, ...]:
    """Return what makes fewer files of many small ones, and leaves out dead rows; files of two partitions never go together.

    Parameters
    ----------
    target
        Bytes of a file. Default: what ``layout`` says, or 128 MiB.
    layout
        How new files are written, but for their partitions. Default: as those that they replace.
    dead
        Which part of a file's rows may be dead. Default: a fifth.
    """
    most = target_bytes(target, layout)
    tasks = []
    for (folder, by), files in folders(commit, commit.files).items():
        sizes = [live_bytes(f, commit) for f in files]
        small = [is_small(f, commit, most) or is_worn(f, commit, dead) for f in files]
        if commit.info.get("ordered"):
            # a large file between two small ones keeps them apart
            groups = _in_order([s if ok else most + 1 for s, ok in zip(sizes, small, strict=True)], most)
        else:
            chosen = [i for i, ok in enumerate(small) if ok]
            groups = [[chosen[i] for i in group] for group in pack([sizes[i] for i in chosen], most)]
        for group in groups:
            of = tuple(files[i] for i in group)
            if len(of) == 1 and not is_worn(of[0], commit, dead):
                continue
            worn = sum(f.dead(commit.gone) for f in of)
            why = f"{len(of):,} file{'s' * (len(of) > 1)} of {folder or 'the dataset'} smaller than {most:,} bytes"
            tasks.append(Task(of, layout or of[0].layout, by, f"{why}, {worn:,} dead rows" if worn else why))
    return tuple(tasks)


def renewal(commit: Commit, layout: Layout, partition_by: tuple[str, ...] | None, *, every: bool) -> tuple[Task, ...]:
    """Return what gives all files a layout; partitions in which all files have it, and none is worn, stay as they are.

    Parameters
    ----------
    partition_by
        The partitions to have. None: each file stays in its own.
    every
        Whether files that have the layout are written anew too, so that they are in order with each other.
    """

    def is_due(file: DataFile, by: tuple[str, ...]) -> bool:
        return every or file.layout != replaced(layout, by) or is_worn(file, commit)

    tasks = []
    if partition_by is not None:
        files = [f for f in commit.files if is_due(f, partition_by)]
        return (Task(tuple(files), layout, partition_by, _told(commit.partition_by, partition_by)),) if files else ()
    for (_, by), files in folders(commit, commit.files).items():
        # what is ordered as a whole is written as a whole
        whole = layout.sort_by or commit.info.get("ordered")
        due = files if whole and any(is_due(f, by) for f in files) else [f for f in files if is_due(f, by)]
        if due:
            tasks.append(Task(tuple(due), layout, by, "another layout"))
    return tuple(tasks)


def _told(before: tuple[str, ...], after: tuple[str, ...]) -> str:
    """Return why files are written anew that are to have some partitions."""
    if before == after:
        return "another layout"
    now = f"folders by {', '.join(after)}" if after else "no folders"
    return f"{now}, rather than by {', '.join(before)}" if before else now


def replaced(layout: Layout, partition_by: tuple[str, ...]) -> Layout:
    """Return a layout as a file in some partitions has it."""
    return replace(layout, partition_by=partition_by)
