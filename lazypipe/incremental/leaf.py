"""One input of an output: what it holds now, and what was consumed of it before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from lazypipe.compile.sources.source import Snapshot
from lazypipe.incremental.changes import Changes
from lazypipe.incremental.state import Consumed, ConsumedFile
from lazypipe.spec.model import NOTHING
from lazypipe.storage.files import FileInfo

__all__ = ["Came", "Leaf", "left_for_later"]


class Came(NamedTuple):
    """A file of a source or output that is new or has changed, and its number of rows, where a commit says it."""

    source: str
    file: FileInfo
    rows: int | None = None


@dataclass(frozen=True)
class Leaf:
    """One input of an output, a source or another output: what it holds now, and what was consumed of it before.

    Attributes
    ----------
    snapshot
        What it holds now, without files that are left for later.
    consume
        Returns what a rebuilt output has consumed. Ignored files are not part of it, because their rows are not kept then.
    found
        What has changed.
    changes
        The changes that are acted upon.
    tagged
        Whether it is a dataset whose rows know their units.
    keeps_gone
        Whether rows of removed units stay, for such a dataset.
    replaced
        Units that other units of the same files replaced: their rows do not stay.
    left
        What this run does not take: files, or units of a dataset whose rows know their units.
    rejudged
        Unchanged files whose rows have another watermark now, because of other files.
    reached
        Unchanged files with rows that match added or removed rows of another source.
    tails
        Files that only grew → where the parts to read begin.
    outside
        Files that are not taken because of when they were written.
    written
        When they would have to be written, in words.
    """

    name: str
    snapshot: Snapshot
    consume: Callable[[], Consumed]
    found: Changes | None
    changes: Changes | None
    tagged: bool = False
    keeps_gone: bool = False
    replaced: frozenset[int] = frozenset()
    left: frozenset[str | int] = frozenset()
    rejudged: frozenset[str] = frozenset()
    reached: frozenset[str] = frozenset()
    tails: Mapping[str, tuple[int, ...]] = NOTHING
    outside: tuple[FileInfo, ...] = ()
    written: str = ""

    @cached_property
    def consumed(self) -> Consumed:
        """What a rebuilt output has consumed."""
        return self.consume()

    @property
    def is_news(self) -> bool:
        """Whether there is something to act upon."""
        return self.changes is None or not self.changes.nothing or bool(self.rejudged | self.reached)

    @property
    def came(self) -> tuple[Came, ...]:
        """The files that are new or have changed."""
        commit, files = self.snapshot.commit, self.snapshot.files
        if self.changes is not None:
            changes = self.changes
            grown = (g.file for g in changes.grown)
            files = tuple(map(self.read, (*changes.added, *changes.modified, *changes.truncated, *grown)))
        if commit is None:
            return tuple(Came(self.name, f) for f in files)
        rows = {f: d.rows - d.dead(commit.gone) for f, d in zip(self.snapshot.files, commit.files, strict=True)}
        return tuple(Came(self.name, f, rows[f]) for f in files)

    def read(self, file: FileInfo) -> FileInfo:
        """Return the part to read of a file that is new or has changed."""
        return file._replace(start=self.tails[file.uri][0], end=file.size) if file.uri in self.tails else file

    @property
    def went(self) -> int:
        """How many files are gone; a dataset that was created again counts as one."""
        return 0 if self.changes is None else len(self.changes.removed) + (self.changes.position is not None)

    @property
    def held(self) -> tuple[ConsumedFile, ...]:
        """The files that stay consumed as they were, although they are gone, have changed, or are incomplete."""
        return () if self.changes is None else (*self.changes.ignored, *self.changes.waiting)

    @property
    def consumed_and_held(self) -> Consumed:
        """What an output that is not rebuilt has consumed."""
        held = {f.uri: f for f in self.held}
        files = [held.pop(f.uri, f) for f in self.consumed.files]
        return replace(self.consumed, files=(*files, *held.values())) if self.held else self.consumed

    @property
    def told_outside(self) -> str:
        """How many files are not taken because of when they were written, in words."""
        return f"{len(self.outside):,} not written {self.written}" if self.outside else ""

    def waits(self, *, anew: bool) -> bool:
        """Whether there is too little to work with: nothing, or less than was consumed, if everything is read again."""
        if not self.snapshot.awaited:
            return False
        if anew:
            return not self.snapshot.files or (self.changes is not None and bool(self.changes.waiting))
        return not self.snapshot.files and not self.held

    def __str__(self) -> str:
        told = "not read before" if self.changes is None else str(self.changes)
        judged = f"{len(self.rejudged):,} under a different watermark" if self.rejudged else ""
        reached = f"{len(self.reached):,} affected by changes" if self.reached else ""
        more = filter(None, [judged, reached, self.snapshot.awaited, self.told_outside, left_for_later(len(self.left))])
        return ", ".join([f"{self.name}: {told}", *more])


def left_for_later(count: int) -> str:
    """Say how much is left, if any."""
    return f"{count:,} more left for later runs" if count else ""
