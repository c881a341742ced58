"""Which data files of a table replaced which others when files were merged or rewritten without changing rows.

A run that adds rows knows a table by its data files. A rewrite names, in its commit, which files came instead of which: who has
consumed these has consumed those (docs/decisions/0029-tails-times-and-successors.md). Versions of Delta tables say the same of
those that changed no data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import StorageError
from lazypipe.incremental.before import Before
from lazypipe.incremental.feed import mode_of
from lazypipe.incremental.parts import Listed
from lazypipe.incremental.state import Consumed, ConsumedFile
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import REWRITE, Commit
from lazypipe.storage.uri import Redactor

if TYPE_CHECKING:
    from lazypipe.storage.lake.table import LakeTable

__all__ = ["Older", "Rewritten", "replaced", "rewritten", "succeeded"]


class Older(NamedTuple):
    """A version of a table that is read instead of the last one, and the files of the last version whose rows it lacks."""

    then: Snapshot
    left: frozenset[str]


_Known = dict[str, tuple[ConsumedFile, Listed]]


class Rewritten(NamedTuple):
    """What was consumed of a table, by the files that hold it now.

    And what is read if not its latest version, and whether rows that were consumed would come ``again``.
    """

    before: Before
    older: Older | None
    again: bool


def succeeded(
    before: Before, name: str, dataset: Dataset, latest: Commit, redact: Redactor, *, full: bool = False
) -> Rewritten:
    """Return what was consumed of a table with successors in the place of files, and what is read if not its latest version.

    Where a rewrite has put files that were consumed together with others that were not, the version before it is read, and what
    came since is for the next run. Rows would come again if that version is gone. With ``full`` no older version is read: all rows are.

    Parameters
    ----------
    name
        What the table is called in ``before``.
    redact
        What URIs are kept as.
    """
    consumed = before.state.sources[name]
    if latest.tagged or before.knew_units(name) or consumed.kind != "dataset" or consumed.version is None:
        return Rewritten(before, None, again=False)
    walk = _Walk(dataset, latest, redact, full=full)
    known: _Known = {f.uri: (f, unit) for f, unit in zip(consumed.files, before.units[name], strict=True)}
    version = walk.follow(known, consumed.version)
    files, units = tuple(f for f, _ in known.values()), [unit for _, unit in known.values()]
    if files != consumed.files:
        state = replace(before.state, sources={**before.state.sources, name: replace(consumed, files=files)})
        before = replace(before, state=state, units={**before.units, name: units})
    if version is None:
        return Rewritten(before, None, again=False)
    try:
        commit = dataset.log.read(version)
    except StorageError:
        return Rewritten(before, None, again=True)
    then: _Known = {f.uri: (f, 0) for f in walk.files(commit, (f.path for f in commit.files))}
    walk.follow(then, version)
    there = (uris.join(dataset.uri, f.path) for f in latest.files)
    older = Older(Snapshot(dataset.files(commit), commit), frozenset(u for u in there if redact(u) not in then))
    return Rewritten(before, older, again=False)


def rewritten(
    before: Before,
    name: str,
    table: LakeTable,
    storage_options: Mapping[str, Any],
    redact: Redactor,
    *,
    full: bool = False,
) -> Rewritten:
    """Return what was consumed of a Delta table with successors in the place of files; see ``succeeded``.

    Rows would come again where files that were consumed were written anew with changes, or are gone and the log no longer says
    why. With ``full`` no older version is read: all rows are.

    Raises
    ------
    StorageError
        If it was read as a dataset before, whose rows may know their units.
    """
    from lazypipe.storage.lake.table import rewrites

    consumed = before.state.sources[name]
    if consumed.kind != "files":
        if full:
            return Rewritten(before, None, again=False)
        what = f"{name!r} was read by its own log of commits before, and is read as a Delta table now, so new rows cannot be told from old"
        fix = "run once in full (--full), which rebuilds the output, or remove format: delta at the source"
        raise StorageError(what, uri=redact(table.uri), fix=fix)
    known: _Known = {f.uri: (f, unit) for f, unit in zip(consumed.files, before.units[name], strict=True)}
    done = None if consumed.version is None else rewrites(table, storage_options, consumed.version)
    older, again = None, done is None and not known.keys() <= {redact(f.uri) for f in table.files}
    for version, went, came, same in done or ():
        old = [u for u in map(redact, went) if u in known]
        if not old or not came:
            continue
        if not same:
            again = True
        elif full or len(old) == len(went):
            units = [known.pop(u)[1] for u in old]
            known |= {u: (ConsumedFile(u, None), units[0]) for u in map(redact, came)}
        else:
            older = _before(version, table, storage_options)
            again |= older is None
            break
    files, listed = tuple(f for f, _ in known.values()), [unit for _, unit in known.values()]
    if files != tuple(consumed.files):
        state = replace(before.state, sources={**before.state.sources, name: replace(consumed, files=files)})
        before = replace(before, state=state, units={**before.units, name: listed})
    return Rewritten(before, older, again)


def _before(version: int, table: LakeTable, storage_options: Mapping[str, Any]) -> Older | None:
    """Return a Delta table as it was before a version, None if its log no longer says that."""
    from lazypipe.storage.lake.table import read_table, rewrites

    try:
        then = read_table(table.uri, storage_options, version - 1)
    except StorageError:
        return None
    held = {f.uri for f in then.files}
    for _, went, came, same in rewrites(table, storage_options, version - 1) or ():
        held.update(came if same and held.issuperset(went) else ())
    return Older(Snapshot(then.files, table=then), frozenset(f.uri for f in table.files if f.uri not in held))


def replaced(
    consumed: Consumed, snapshot: Snapshot, uri: str, storage_options: Mapping[str, Any], redact: Redactor
) -> frozenset[str] | None:
    """Return the files of a table in whose place a version has put others, by the names they are consumed by; None if its log no longer says that.

    These are not gone: their rows are in the others, as they were or changed. Earlier snapshots that are no longer kept are gone.

    Parameters
    ----------
    uri
        Where the table is.
    """
    from lazypipe.storage.lake.table import rewrites

    if snapshot.table is not None:
        done = None if consumed.version is None else rewrites(snapshot.table, storage_options, consumed.version)
        return None if done is None else frozenset(redact(u) for _, went, came, _ in done if came for u in went)
    commit, dataset = snapshot.commit, Dataset(uri, storage_options)
    assert commit is not None
    assert consumed.version is not None
    there, found = frozenset[str](), set[str]()
    for version in range(consumed.version, commit.version + 1):
        try:
            now = commit if version == commit.version else dataset.log.read(version)
        except StorageError:
            return None
        files = frozenset(f.path for f in now.files)
        if files - there and (now.mode == REWRITE or mode_of(now) != "snapshot"):
            found |= there - files
        there = files
    return frozenset(redact(uris.join(uri, path)) for path in found)


@dataclass(frozen=True)
class _Walk:
    """The versions of a table from some on, up to its latest; in ``full`` a file that holds rows of one that was known is known."""

    dataset: Dataset
    latest: Commit
    redact: Redactor
    full: bool

    def follow(self, known: _Known, since: int) -> int | None:
        """Put successors in the place of known files; return the version up to which that goes, if not up to the latest."""
        for version in range(since + 1, self.latest.version + 1):
            tasks = [*self._tasks(version)]
            if not self.full and any(0 < sum(f.uri in known for f in old) < len(old) for old, _ in tasks):
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
        """Yield which files a version replaced by which; a version that was vacuumed yields nothing."""
        commit = self.latest if version == self.latest.version else None
        with suppress(StorageError):
            commit = commit or self.dataset.log.read(version)
        if commit is not None and commit.mode == REWRITE:
            for old, new in commit.info[REWRITE].get("instead", ()):
                yield self.files(commit, old), self.files(commit, new)
