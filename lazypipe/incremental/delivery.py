"""Which files of a source have arrived completely: settled, and with the markers and manifests that must come with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import NamedTuple

from lazypipe.compile.sources.intake import Expect, Intake
from lazypipe.errors import SourceError
from lazypipe.incremental.manifest import Entry, ManifestError, read_manifest
from lazypipe.incremental.stamps import moment_of, nanoseconds
from lazypipe.incremental.state import Consumed, ConsumedFile
from lazypipe.incremental.store import Store, folder_of, name_of, root_of, within
from lazypipe.spec.model import NOTHING
from lazypipe.storage.files import FileInfo

__all__ = ["Delivery", "Partial", "deliver", "refuse_partial"]


class Partial(NamedTuple):
    """A delivery that is not whole: where, and why; ``lacks`` is the name of the file that must come yet, if it has one."""

    where: str
    why: str
    lacks: str = ""

    def awaited(self, show: Callable[[str], str] = str) -> str:
        """Return what is waited for, in words; ``show`` is what a URI is shown as.

        Examples
        --------
        >>> Partial("in/2013-03", "there is no _SUCCESS", "_SUCCESS").awaited()
        '_SUCCESS in in/2013-03/'
        >>> Partial("in", "1 of 2 files are there").awaited()
        'the rest of in (1 of 2 files are there)'
        """
        if self.lacks:
            return f"{self.lacks} in {show(self.where)}/"
        return f"the rest of {show(self.where)} ({self.why})"


@dataclass(frozen=True)
class Delivery:
    """The files that may be read, and those that wait for a later run: URI → why. ``partial`` says what is not whole."""

    admitted: tuple[FileInfo, ...]
    waiting: Mapping[str, str] = NOTHING
    partial: tuple[Partial, ...] = ()

    def __str__(self) -> str:
        told = f"{len(self.admitted):,} files"
        return (
            told if not self.waiting else f"{told}, {len(self.waiting):,} waiting: {next(iter(self.waiting.values()))}"
        )


def deliver(
    files: Sequence[FileInfo],
    intake: Intake,
    *,
    now: datetime,
    patterns: Iterable[str] = (),
    store: Store | None = None,
    before: Consumed | None = None,
    name: Callable[[str], str] | None = None,
    hashing: bool = True,
) -> Delivery:
    """Divide a list of files into those that may be read and those that wait.

    Parameters
    ----------
    now
        The moment of the run, from which files must have settled.
    patterns
        What the files were listed by: markers and manifests are looked for in each file's folder and those above it,
        up to where the patterns start.
    store
        Where to look. Default: one without options.
    before
        What was consumed: files that are as they were are not hashed again to be compared with a manifest, and those of a
        manifest that were consumed and are gone were removed, not forgotten.
    name
        What a URI was kept as in ``before``, if not as it is.
    hashing
        Whether files are hashed to be compared with a manifest.

    Raises
    ------
    SourceError
        If a folder, a manifest or a file to be hashed cannot be read.
    """
    was = {} if before is None else {f.uri: f for f in before.files}
    made = _Delivery(files, store or Store(), [root_of(p) for p in patterns], was, name or str, hashing)
    if intake.settle > timedelta(0):
        made.settle(nanoseconds(now), intake.settle)
    if intake.expect is not None:
        made.expect(intake.expect)
    admitted = tuple(f for f in files if f.uri not in made.waiting) if made.waiting else tuple(files)
    return Delivery(admitted, made.waiting, tuple(made.partial))


def refuse_partial(delivery: Delivery, intake: Intake, source: str) -> None:
    """Raise SourceError for a delivery that is not whole, where that is to stop the run; names the first place."""
    if delivery.partial and intake.on_partial == "fail":
        where, why, _ = delivery.partial[0]
        raise SourceError(
            f"source {source!r}: the delivery is incomplete: {why}",
            uri=where,
            fix="deliver the rest, or say on_partial: wait",
        )


@dataclass
class _Delivery:
    """What is found out about one list of files, step by step."""

    files: Sequence[FileInfo]
    store: Store
    roots: Sequence[str]
    was: Mapping[str, ConsumedFile]
    name: Callable[[str], str]
    hashing: bool
    waiting: dict[str, str] = field(default_factory=dict)
    partial: list[Partial] = field(default_factory=list)

    def settle(self, now: int, long: timedelta) -> None:
        """Let files wait that were written a short while ago; stores without modification times show complete files only."""
        limit = now - (long // timedelta(microseconds=1)) * 1_000
        for file in self.files:
            at = moment_of(file.stamp)
            if at is not None and at > limit:
                ago = (now - at) / 1e9
                when = f"{ago:,.0f} s ago" if ago >= 0 else f"{-ago:,.0f} s in the future: a clock is wrong"
                self.waiting[file.uri] = f"written {when}, and to settle for {long.total_seconds():,.0f} s"

    def expect(self, expect: Expect) -> None:
        """Have files wait whose delivery lacks its marker, a file of its manifest, or some of the files expected."""
        if expect.marker is not None:
            self._markers(expect.marker)
        if expect.manifest is not None:
            self._manifests(expect.manifest)
        if expect.files is not None or expect.at_least is not None:
            self._counts(expect)

    def _refuse(self, files: Iterable[FileInfo], where: str, why: str, lacks: str = "") -> None:
        self.partial.append(Partial(where, why, lacks))
        for file in files:
            self.waiting.setdefault(file.uri, why)

    def _folders(self) -> dict[str, list[FileInfo]]:
        made: dict[str, list[FileInfo]] = {}
        for file in self.files:
            made.setdefault(folder_of(file.uri), []).append(file)
        return made

    def _upward(self, folder: str) -> list[str]:
        """Return a folder and those above it, up to where a pattern starts."""
        roots = [r for r in self.roots if folder == r or folder.startswith(f"{r.rstrip('/')}/") or not r]
        found = [folder]
        while roots and folder not in roots and (above := folder_of(folder)) != folder:
            found.append(folder := above)
        return found

    def _matching(self, folder: str, pattern: str) -> list[FileInfo]:
        """Return the files of the pattern in the nearest folder that has any."""
        for place in self._upward(folder):
            found = [f for f in self.store.beside(place) if fnmatchcase(name_of(f.uri), pattern)]
            if found:
                return sorted(found)
        return []

    def _markers(self, pattern: str) -> None:
        for folder, files in self._folders().items():
            if "{name}" in pattern:
                there = {name_of(f.uri) for f in self.store.beside(folder)}
                for file in files:
                    marker = pattern.replace("{name}", name_of(file.uri))
                    if marker not in there:
                        self._refuse([file], file.uri, f"there is no {marker}")
            elif not self._matching(folder, pattern):
                self._refuse(files, folder, f"there is no {pattern}", pattern)

    def _counts(self, expect: Expect) -> None:
        groups = self._folders() if expect.per == "folder" else {self._whole(): list(self.files)}
        for where, files in groups.items():
            there = sum(f.uri not in self.waiting for f in files)
            if expect.files is not None and there != expect.files:
                self._refuse(files, where, f"{there:,} of {expect.files:,} files are there")
            elif expect.at_least is not None and there < expect.at_least:
                self._refuse(files, where, f"{there:,} of at least {expect.at_least:,} files are there")

    def _whole(self) -> str:
        return self.roots[0] if self.roots else folder_of(self.files[0].uri)

    # manifests

    def _manifests(self, pattern: str) -> None:
        listed = {f.uri: f for f in self.files}
        manifests: dict[str, None] = {}
        for folder, files in self._folders().items():
            found = self._matching(folder, pattern)
            manifests |= dict.fromkeys(f.uri for f in found)
            if not found:
                self._refuse(files, folder, f"there is no {pattern}", pattern)
        named: set[str] = set()
        for uri in manifests:
            try:
                entries = read_manifest(self.store.read(uri), name_of(uri))
            except ManifestError as error:
                self._refuse((), uri, f"the manifest cannot be understood: {error}")
                continue
            members = {within(folder_of(uri), e.name): e for e in entries}
            named |= members.keys()
            why = self._missing(members, listed)
            if why is not None:
                self._refuse([listed[m] for m in members if m in listed], uri, why)
        for file in self.files:
            if file.uri not in named:
                self.waiting.setdefault(file.uri, "no manifest lists it")

    def _missing(self, members: Mapping[str, Entry], listed: Mapping[str, FileInfo]) -> str | None:
        """Return what a manifest's files lack, None if all is well."""
        gone = [m for m in members if m not in listed and self.name(m) not in self.was]
        if gone:
            first = name_of(gone[0])
            return f"{len(members) - len(gone):,} of {len(members):,} files of the manifest are there; {first!r} is not"
        for uri, entry in members.items():
            file = listed.get(uri)
            why = None if file is None else self._differs(file, entry)
            if why is not None:
                return f"{name_of(uri)!r} {why}"
        return None

    def _differs(self, file: FileInfo, entry: Entry) -> str | None:
        if file.uri in self.waiting:
            return f"waits: {self.waiting[file.uri]}"
        if entry.size is not None and file.size is not None and file.size != entry.size:
            return f"has {file.size:,} bytes, {entry.size:,} in the manifest"
        was = self.was.get(self.name(file.uri))
        if was is not None and file.stamp is not None and (was.size, was.stamp) == (file.size, file.stamp):
            return None
        for algorithm, expected in entry.checksums if self.hashing else ():
            if self.store.checksum(file.uri, algorithm) != expected:
                return f"has another {algorithm} than in the manifest"
        return None
