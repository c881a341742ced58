"""What has changed in a source since it was last read: compares two listings, and opens as few files as possible.

Names, sizes and stamps decide; content only where they do not (docs/decisions/0015-what-counts-as-a-change.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias

from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import SourceError
from lazypipe.incremental.hashing import Common, Prefix
from lazypipe.incremental.stamps import moment_of
from lazypipe.incremental.state import Columns, Consumed, ConsumedFile
from lazypipe.spec.model import NOTHING
from lazypipe.storage import hive
from lazypipe.storage.files import FileColumns, FileInfo
from lazypipe.storage.local_files import Names
from lazypipe.storage.parquet.row_groups import Borders

__all__ = [
    "Changes",
    "Detect",
    "Grown",
    "Moved",
    "OnModified",
    "OnRemoved",
    "Redelivered",
    "allowed",
    "compare",
    "trusted",
]

Detect: TypeAlias = Literal["stamp", "content"]
OnRemoved: TypeAlias = Literal["ignore", "delete", "fail"]
OnModified: TypeAlias = Literal["reprocess", "fail", "ignore"]
Hasher: TypeAlias = Callable[[FileInfo], str]
PrefixHasher: TypeAlias = Callable[[FileInfo, int], Prefix | None]
GroupHasher: TypeAlias = Callable[[FileInfo, int | None, Borders], Common]

RACY = 2_000_000_000
"""A stamp this many nanoseconds before the listing, or later, may stay the same when the file is written again."""


_DIGITS, _FIRST = 19, 10**18
"""Of nanoseconds since 1970, from 2001 to 2286; the first of these."""


class Moved(NamedTuple):
    """A file that has another name now, and the same content."""

    before: ConsumedFile
    now: FileInfo


class Grown(NamedTuple):
    """A file of text, or of row groups, that still begins with all that was read of it: only what stands from byte ``start`` on is new.

    If it had another name, it ``was`` that.
    """

    file: FileInfo
    start: int
    was: ConsumedFile | None = None


class Redelivered(NamedTuple):
    """A new file, with the content of one that was read already and is still there."""

    file: FileInfo
    like: ConsumedFile


@dataclass(frozen=True)
class Changes:
    """What came, changed and went, in the order of the list; each file is in one of the kinds.

    Attributes
    ----------
    added, modified, removed
        New names; other content under the same name; names that are gone.
    truncated
        Text files that are shorter than before. Whether the rest is as it was cannot be told without the old bytes.
    grown
        Text files that were appended to, after a whole line; perhaps under another name than before. Large Parquet files with all row
        groups that they had, and more behind these.
    moved
        Removed under one name, added under another, with the same content in folders of the same keys.
    touched
        Another stamp, the same content: nothing to do.
    redelivered
        Those of ``added`` whose content was read already under a name that is still there. They have rows of their own, as in
        a full run; this tells of them.
    unchanged
        How many files are as they were.
    lengthened
        URIs of modified text files that begin with all that was read of them, which ends within a row; or of which that is not
        known, as they were not hashed, and they are longer now.
    common
        URI → what modified Parquet files, and those that have grown, have in common with what they were: their first row groups.
    apart
        URIs of modified Parquet files that have nothing in common with what they were, though their row groups were known.
    unreadable
        URI → why: files whose content had to be looked at, and could not be. They count as changed.
    ignored
        Files that changed or went, and were to be ignored (``allowed``): they stay consumed as they were.
    waiting
        Files that were consumed, and are not to be looked at now: they stay consumed as they were.
    position
        Of a dataset whose files are as they were: what its commit said of their rows, and what it says now, where that differs.
    before, now
        What was compared.
    hashes
        URI → BLAKE3, of files whose content was looked at.
    looked
        Files that are not by name, size and stamp what they were.
    """

    added: tuple[FileInfo, ...] = ()
    modified: tuple[FileInfo, ...] = ()
    removed: tuple[ConsumedFile, ...] = ()
    truncated: tuple[FileInfo, ...] = ()
    grown: tuple[Grown, ...] = ()
    moved: tuple[Moved, ...] = ()
    touched: tuple[FileInfo, ...] = ()
    redelivered: tuple[Redelivered, ...] = ()
    unchanged: int = 0
    lengthened: frozenset[str] = frozenset()
    common: Mapping[str, Common] = NOTHING
    apart: frozenset[str] = frozenset()
    unreadable: Mapping[str, str] = NOTHING
    ignored: tuple[ConsumedFile, ...] = ()
    waiting: tuple[ConsumedFile, ...] = ()
    position: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    before: Consumed | None = field(default=None, repr=False)
    now: Snapshot = field(default=Snapshot(()), repr=False)
    hashes: Mapping[str, str] = field(default=NOTHING, repr=False)
    looked: frozenset[str] = field(default=frozenset(), repr=False)
    name: Callable[[str], str] | None = field(default=None, repr=False, compare=False)

    @property
    def nothing(self) -> bool:
        """Whether no row can have come, changed or gone: files that were moved or touched have the rows they had."""
        return not (
            self.added or self.modified or self.removed or self.truncated or self.grown or self.position is not None
        )

    @property
    def still(self) -> bool:
        """Whether what was consumed is exactly what is there: nothing needs to be recorded."""
        return self.nothing and not (self.moved or self.touched)

    def __str__(self) -> str:
        kinds = ("added", "modified", "grown", "removed", "moved", "touched", "ignored", "waiting")
        counts = {k: len(getattr(self, k)) for k in kinds} | {"unchanged": self.unchanged}
        # shorter ones may be cut off, or rewritten
        shorter = len(self.truncated)
        counts["modified"] += shorter
        more = {"modified": f" ({shorter:,} shorter)" if shorter else "", "grown": ""}
        for kind, files in (("modified", self.modified), ("grown", [g.file for g in self.grown])):
            of = [self.common[f.uri] for f in files if f.uri in self.common]
            if of:
                more[kind] += f" ({sum(c.groups for c in of):,} of {sum(c.of for c in of):,} row groups unchanged)"
        told = [f"{n:,} {k}{more.get(k, '')}" for k, n in counts.items() if n]
        if self.redelivered:
            told[0] += f" ({len(self.redelivered):,} re-delivered)"
        if self.position is not None:
            told.append("position moved")
        return ", ".join(told) or "nothing"

    def consumed(
        self,
        *,
        listed: int | None = None,
        hasher: Hasher | None = None,
        wanted: Callable[[FileInfo], bool] = lambda _: True,
    ) -> Consumed:
        """Return what an output has consumed once it has taken in all of this; for files, not for datasets.

        Parameters
        ----------
        listed
            When the files were listed, in nanoseconds since 1970.
        hasher
            Hashes the files whose content is not known yet. To be called before the files are read: a file that is
            written again in between is then found the next time. A file that cannot be hashed is kept without.
        wanted
            Which of them are hashed. Default: all.
        """
        was = {f.uri: f.blake3 for f in self.before.files} if self.before is not None else {}
        name = self.name or str
        hashes = {f.uri: h for f in self.now.files if f.uri not in self.looked and (h := was.get(name(f.uri)))}
        hashes |= self.hashes
        for file in self.now.files:
            if hasher is not None and file.uri not in hashes and file.uri not in self.unreadable and wanted(file):
                with suppress(SourceError):
                    hashes[file.uri] = hasher(file)
        made = Consumed.of(self.now, listed=listed, hashes=hashes, name=self.name)
        if self.before is not None and self.before.borders:
            made = replace(made, borders=self.before.borders)
        if not (self.ignored or self.waiting):
            return made
        kept = {f.uri: f for f in (*self.ignored, *self.waiting)}
        files = [kept.pop(f.uri, f) for f in made.files]
        return replace(made, files=(*files, *kept.values()))


def compare(
    before: Consumed | None,
    now: Snapshot,
    *,
    hasher: Hasher,
    detect: Detect = "stamp",
    prefix: PrefixHasher | None = None,
    groups: GroupHasher | None = None,
    name: Callable[[str], str] | None = None,
    waiting: Iterable[str] = (),
    tell: bool = True,
) -> Changes:
    """Say what has changed between what was consumed and what is there.

    Parameters
    ----------
    before
        What was consumed; None: nothing yet.
    now
        The source as it was listed.
    hasher
        Gives the BLAKE3 of a file's content; raises SourceError if it cannot be read. It is asked of files whose stamp has
        changed (or is missing, or so young when it was listed that it proves nothing), and of new files that are as
        long as one that was consumed. With ``detect="content"`` of all.
    prefix
        Gives the BLAKE3 of the first bytes of a file, and says whether they end with a row. None for
        files that are compressed. To be given for text: files that were only appended to are ``grown`` then, not modified.
    groups
        Says how much a Parquet file has in common with what it was. It is asked of those of which the row groups are known.
    name
        What a URI was kept as, if not as it is.
    waiting
        URIs of files that are there, were left out of ``now``, and so are not gone: those of ``Delivery.waiting``.
    tell
        Whether ``redelivered`` is found out, for which new files are hashed that are as long as one that was consumed.
    """
    comparison = _Comparison(before or Consumed("files"), now, hasher, detect, prefix, groups, name)
    return comparison.changes(waiting, tell=tell)


def trusted(listed: int) -> Callable[[str | None], bool]:
    """Return whether a stamp of what was ``listed`` at a moment, in nanoseconds since 1970, proves that a file which still has it is as it was.

    Examples
    --------
    >>> proves = trusted(1_700_000_010_000_000_000)
    >>> proves("1700000000000000000"), proves("1700000009000000000"), proves('"etag"'), proves(None)
    (True, False, True, False)
    """
    limit = listed - RACY

    def proves(stamp: str | None) -> bool:
        moment = moment_of(stamp)
        return stamp is not None and (moment is None or moment < limit)

    return proves


@dataclass(frozen=True)
class _Comparison:
    """One comparison of two lists of files, with the hashes it has computed on the way."""

    before: Consumed
    now: Snapshot
    hasher: Hasher
    detect: Detect
    prefix: PrefixHasher | None
    groups: GroupHasher | None
    name: Callable[[str], str] | None
    hashes: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    lengthened: set[str] = field(default_factory=set)
    common: dict[str, Common] = field(default_factory=dict)
    apart: set[str] = field(default_factory=set)

    def changes(self, waiting: Iterable[str], *, tell: bool) -> Changes:
        """Compare name by name, then look for moves among what came and went."""
        if self._is_the_same():
            return Changes(unchanged=len(self.now.files), before=self.before, now=self.now, name=self.name)
        left = {f[0]: f for f in self.before.files}
        trusted, limit = self._trusted()
        name = self.name
        # also where the same folder is listed now: stamps of a Delta log are not those of a store
        logged = self.now.table is not None or (self.before.kind == "files" and self.before.version is not None)
        came: list[FileInfo] = []
        other: list[tuple[FileInfo, ConsumedFile]] = []
        unchanged = 0
        for file in self.now.files:
            uri, size, stamp, *_ = file
            old = left.pop(uri if name is None else name(uri), None)
            if old is None:
                came.append(file)
                continue
            _, was, at, _ = old
            if logged:  # a name means the same rows for ever, whatever stamp a log gives it later
                unchanged += 1
                continue
            # the first comparison is a short cut: most stamps are nanoseconds, in nineteen digits
            if was == size and at == stamp and ((at is not None and at < limit and len(at) == _DIGITS) or trusted(at)):
                unchanged += 1
            else:
                other.append((file, old))
        kinds: dict[str, list[Any]] = {k: [] for k in ("modified", "truncated", "grown", "touched", "unchanged")}
        for file, old in other:
            kind = self._kind(file, old)
            start = self.common[file.uri].until if file.uri in self.common else old.size or 0
            kinds[kind].append(Grown(file, start) if kind == "grown" else file)
        held = [left.pop((name or str)(uri), None) for uri in waiting]
        gone = set(left)
        # the same bytes are other rows in another partition of a Delta table, which its log and no folder may say
        moved, added = ([], came) if logged else self._moves(came, left)
        added = self._carried(added, left, kinds["grown"])
        redelivered = self._again(added, gone) if tell and not logged else []
        unchanged += len(kinds.pop("unchanged"))
        return Changes(
            added=tuple(added),
            removed=tuple(left.values()),
            moved=tuple(moved),
            redelivered=tuple(redelivered),
            lengthened=frozenset(self.lengthened),
            common=self.common,
            apart=frozenset(self.apart),
            unchanged=unchanged,
            unreadable=self.unreadable,
            waiting=tuple(f for f in held if f is not None),
            before=self.before,
            now=self.now,
            hashes=self.hashes,
            looked=frozenset([f.uri for f in came] + [f.uri for f, _ in other]),
            name=name,
            **{k: tuple(v) for k, v in kinds.items()},
        )

    def _is_the_same(self) -> bool:
        """Whether the list is, file by file and to the letter, what was consumed, and all of its stamps prove that.

        By far the most frequent case, and the one that must cost next to nothing with very many files. Anything else,
        another order too, is compared name by name.
        """
        before, now = self.before.files, self.now.files
        if not isinstance(before, Columns) or len(before) != len(now) or self.name is not None or not now:
            return False
        trusted, limit = self._trusted()
        if isinstance(now, FileColumns):
            if not before.are(now.below(before.prefix), now.sizes, now.moments):
                return False
            # numbers in order are texts in order where they have as many digits
            if limit and min(now.moments) >= _FIRST and (last := max(now.moments)) < 10 * _FIRST and str(last) < limit:
                return True
            return all(map(trusted, map(str, now.moments)))
        uris, sizes, stamps, *_ = zip(*now, strict=True)
        return before.are(Names("", [*uris]), sizes, stamps) and all(map(trusted, stamps))

    def _trusted(self) -> tuple[Callable[[str | None], bool], str]:
        """Return whether a file whose stamp is the same is as it was, and a text below which nanoseconds say that it is."""
        if self.before.kind == "dataset" or self.now.table is not None:
            return lambda _: True, ""
        if self.detect == "content":
            return lambda _: False, ""
        if self.before.listed is None:
            return lambda stamp: stamp is not None, "~"
        limit = str(self.before.listed - RACY)
        return trusted(self.before.listed), limit if len(limit) == _DIGITS else ""

    def _kind(self, file: FileInfo, old: ConsumedFile) -> str:
        """Return what has become of a file that names, sizes and stamps do not show to be as it was."""
        borders = self.before.borders.get(old.blake3 or "")
        if self.groups is not None and borders is not None:
            return self._kind_by_groups(file, old, borders)
        known = old.size is not None and file.size is not None
        if not known or old.size == file.size:
            if old.blake3 is not None and self._hash(file) == old.blake3:
                return "unchanged" if old.stamp == file.stamp else "touched"
            return "modified"
        assert old.size is not None
        assert file.size is not None
        if file.size < old.size:
            # if it is not text, a smaller file was rewritten
            return "modified" if self.prefix is None else "truncated"
        return "grown" if self._has_grown(file, old.size, old.blake3) else "modified"

    def _kind_by_groups(self, file: FileInfo, old: ConsumedFile, borders: Borders) -> str:
        """Return how a Parquet file has changed whose row groups are known."""
        assert self.groups is not None
        try:
            found = self.groups(file, old.size, borders)
        except SourceError as error:
            self.unreadable[file.uri] = error.what
            return "modified"
        if found.whole is not None:
            self.hashes[file.uri] = found.whole
            if found.whole == old.blake3:
                return "unchanged" if old.stamp == file.stamp else "touched"
        if not found.until:
            self.apart.add(file.uri)
            return "modified"
        all_there = found.until == borders.at[-1]
        if all_there and found.groups == found.of:  # only what is no row, such as what another tool notes there
            return "touched"
        self.common[file.uri] = found
        return "grown" if all_there else "modified"

    def _has_grown(self, file: FileInfo, size: int, was: str | None) -> bool:
        if self.prefix is None or not size:
            return False
        if was is None:
            self.lengthened.add(file.uri)
            return False
        try:
            found = self.prefix(file, size)
        except SourceError as error:
            self.unreadable[file.uri] = error.what
            return False
        if found is None:
            return False
        self.hashes[file.uri] = found.whole
        if found.blake3 != was:
            return False
        if not found.ends:
            self.lengthened.add(file.uri)
        return found.ends

    def _hash(self, file: FileInfo) -> str | None:
        """Return a file's hash, None if it cannot be read."""
        if file.uri not in self.hashes and file.uri not in self.unreadable:
            try:
                self.hashes[file.uri] = self.hasher(file)
            except SourceError as error:
                self.unreadable[file.uri] = error.what
        return self.hashes.get(file.uri)

    def _moves(self, came: Iterable[FileInfo], left: dict[str, ConsumedFile]) -> tuple[list[Moved], list[FileInfo]]:
        """Pair what came with what went (and take it out of ``left``); return the pairs, and what is new indeed."""
        gone: dict[tuple[str, Any], deque[ConsumedFile]] = {}
        for old in left.values():
            if old.blake3 is not None:
                gone.setdefault((old.blake3, _folder(old.uri)), deque()).append(old)
        sizes = {old.size for olds in gone.values() for old in olds}
        moved, added = [], []
        for file in came:
            found = gone.get((self._hash(file) or "", _folder(file.uri))) if file.size in sizes else None
            if not found:
                added.append(file)
                continue
            old = found.popleft()
            del left[old.uri]
            moved.append(Moved(old, file))
        return moved, added

    def _carried(self, added: list[FileInfo], left: dict[str, ConsumedFile], grown: list[Grown]) -> list[FileInfo]:
        """Move files that grew and were renamed from ``added`` and ``left`` to ``grown``; return what is left of ``added``."""
        olds = sorted((f for f in left.values() if f.size and f.blake3 is not None), key=lambda f: -(f.size or 0))
        if self.prefix is None or not olds:
            return added
        found, tries = [], _TRIES
        for file in added:
            for old in olds:
                longer = file.size is not None and (old.size or 0) < file.size and _folder(old.uri) == _folder(file.uri)
                if not longer or old.uri not in left or not tries:
                    continue
                tries -= 1
                if self._has_grown(file, old.size or 0, old.blake3):
                    grown.append(Grown(file, old.size or 0, left.pop(old.uri)))
                    break
            else:
                found.append(file)
        return found

    def _again(self, added: Sequence[FileInfo], gone: Container[str]) -> list[Redelivered]:
        """Return those of the new files that are like one which was read and is not among the ``gone``."""
        sizes: dict[int | None, dict[str, ConsumedFile]] = {}
        for old in self.before.files if added else ():
            if old.blake3 is not None and old.uri not in gone:
                sizes.setdefault(old.size, {}).setdefault(old.blake3, old)
        pairs = ((f, sizes[f.size].get(self._hash(f) or "")) for f in added if f.size in sizes)
        return [Redelivered(f, like) for f, like in pairs if like is not None]


_TRIES = 100
"""How often at most the beginning of a new file is compared with a file that is gone."""


def _folder(uri: str) -> tuple[tuple[str, str | None], ...]:
    """Return what a file's folders say of its rows: a move between folders of other keys would change them."""
    return tuple(hive.values(uri).items()) if "=" in uri else ()


def allowed(
    changes: Changes, *, on_removed: OnRemoved = "delete", on_modified: OnModified = "reprocess", source: str = ""
) -> Changes:
    """Return what a run is to act upon, by what a source says of files that went or were changed.

    What is ignored stays consumed as it was, so that it is no news when it comes back. Growth is not covered: it changes no row
    that was read.

    Parameters
    ----------
    on_removed
        ``delete``: their rows go; ``ignore``: their rows stay; ``fail``.
    on_modified
        ``reprocess``: their rows are made anew; ``ignore``: they stay as they were; ``fail``.
    source
        Its name, for messages.

    Raises
    ------
    SourceError
        If there are such files, and they are not to be; names the first.
    """
    changed = (*changes.modified, *changes.truncated)
    if changes.removed and on_removed == "fail":
        _refuse(source, [f.uri for f in changes.removed], "gone", "on_removed: delete or ignore")
    name = changes.name or str
    names = {name(f.uri): None for f in changed}
    if changed and on_modified == "fail":
        _refuse(source, list(names), "changed", "on_modified: reprocess or ignore")
    if changes.removed and on_removed == "ignore":
        changes = replace(changes, removed=(), ignored=(*changes.ignored, *changes.removed))
    if changed and on_modified == "ignore":
        assert changes.before is not None
        kept = [f for f in changes.before.files if f.uri in names]
        changes = replace(changes, modified=(), truncated=(), ignored=(*changes.ignored, *kept))
    return changes


def _refuse(source: str, uris: list[str], what: str, or_say: str) -> None:
    which = f"a file that was read is {what}" if len(uris) == 1 else f"{len(uris):,} files that were read are {what}"
    it = "it" if len(uris) == 1 else "them"
    raise SourceError(f"source {source!r}: {which}", uri=uris[0], fix=f"restore {it}, or say {or_say}")
