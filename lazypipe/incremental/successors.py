"""Which data files of a table have taken the place of others, where its files were only written anew.

A run that adds rows knows a table by its data files. A rewrite names, in its commit, which files came instead of which: who has
consumed these has consumed those (docs/decisions/0029-tails-times-and-successors.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from lazypipe.errors import StorageError
from lazypipe.incremental.before import Before
from lazypipe.incremental.parts import Listed
from lazypipe.incremental.state import ConsumedFile
from lazypipe.storage import uri as uris
from lazypipe.storage.dataset import Dataset
from lazypipe.storage.log import REWRITE, Commit
from lazypipe.storage.uri import Redactor

__all__ = ["Older", "succeeded"]


class Older(NamedTuple):
    """A version of a table that is read instead of its last one, and the files of that one with rows which it has not."""

    commit: Commit
    left: frozenset[str]


_Known = dict[str, tuple[ConsumedFile, Listed]]


def succeeded(
    before: Before, name: str, dataset: Dataset, latest: Commit, redact: Redactor
) -> tuple[Before, Older | None]:
    """Return what was consumed of a table with successors in the place of files, and what is read if not its latest version.

    Where a rewrite has put files that were consumed together with others that were not, the version before it is read, and what
    came since is for the next run.

    Parameters
    ----------
    name
        What the table is called in ``before``.
    redact
        What URIs are kept as.
    """
    consumed = before.state.sources[name]
    if latest.tagged or consumed.kind != "dataset" or consumed.version is None:
        return before, None
    walk = _Walk(dataset, latest, redact)
    known: _Known = {f.uri: (f, unit) for f, unit in zip(consumed.files, before.units[name], strict=True)}
    version = walk.follow(known, consumed.version)
    files, units = tuple(f for f, _ in known.values()), [unit for _, unit in known.values()]
    if files != consumed.files:
        state = replace(before.state, sources={**before.state.sources, name: replace(consumed, files=files)})
        before = replace(before, state=state, units={**before.units, name: units})
    if version is None:
        return before, None
    commit = dataset.log.read(version)
    then: _Known = {f.uri: (f, 0) for f in walk.files(commit, (f.path for f in commit.files))}
    walk.follow(then, version)
    there = (uris.join(dataset.uri, f.path) for f in latest.files)
    return before, Older(commit, frozenset(u for u in there if redact(u) not in then))


@dataclass(frozen=True)
class _Walk:
    """The versions of a table from some on, up to its latest."""

    dataset: Dataset
    latest: Commit
    redact: Redactor

    def follow(self, known: _Known, since: int) -> int | None:
        """Put successors in the place of known files; return the version up to which that goes, if not up to the latest."""
        for version in range(since + 1, self.latest.version + 1):
            tasks = [*self._tasks(version)]
            if any(0 < sum(f.uri in known for f in old) < len(old) for old, _ in tasks):
                return version - 1
            for old, new in tasks:
                units = [known.pop(f.uri)[1] for f in old if f.uri in known]
                if units:
                    known |= {f.uri: (f, units[0]) for f in new}
        return None

    def files(self, commit: Commit, paths: Iterable[str]) -> list[ConsumedFile]:
        """Return files of a commit as they are consumed."""
        sizes = {f.path: f.bytes for f in commit.files}
        return [ConsumedFile(self.redact(uris.join(self.dataset.uri, p)), sizes.get(p)) for p in paths]

    def _tasks(self, version: int) -> Iterator[tuple[list[ConsumedFile], list[ConsumedFile]]]:
        """Yield which files a version has put in the place of which; one that is gone by now says nothing."""
        commit = self.latest if version == self.latest.version else None
        with suppress(StorageError):
            commit = commit or self.dataset.log.read(version)
        if commit is not None and commit.mode == REWRITE:
            for old, new in commit.info[REWRITE].get("instead", ()):
                yield self.files(commit, old), self.files(commit, new)
