"""Whether a ledger is intact: which records were edited, removed, reordered or inserted since they were written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from blake3 import blake3

from lazypipe.errors import LazypipeError, StorageError
from lazypipe.records.entry import Entry, signature_of
from lazypipe.records.history import published
from lazypipe.records.proof import compare
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DELTA, REWRITE, Commit, CommitLog
from lazypipe.storage.numbered import NumberedFiles

__all__ = ["Finding", "Head", "Verification", "verify"]


class Head(NamedTuple):
    """The end of a ledger: the number of its last record, and that record's hash.

    Examples
    --------
    >>> str(Head(3, "af13"))
    '3:af13'
    >>> Head.of("3:af13")
    Head(number=3, blake3='af13')
    """

    number: int
    blake3: str

    @classmethod
    def of(cls, noted: object) -> Head:
        """Return a head as it was noted: itself, number and hash, or both as text; raises LazypipeError for all else."""
        number, digest = None, None
        if isinstance(noted, str):
            number, _, digest = noted.strip().partition(":")
        elif isinstance(noted, Sequence) and len(noted) == 2:
            number, digest = noted
        if not (isinstance(digest, str) and digest and str(number).isdecimal()):
            raise LazypipeError(f"{noted!r} is not the head of a ledger; write its number and hash: 12:af13…")
        return cls(int(str(number)), digest)

    def __str__(self) -> str:
        return f"{self.number}:{self.blake3}"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: with which record (None: with none of them), in which file."""

    record: int | None
    file: str
    what: str

    def __str__(self) -> str:
        where = self.file if self.record is None else f"record {self.record} ({self.file})"
        return f"{where}: {self.what}"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return {"record": self.record, "file": self.file, "what": self.what}


@dataclass(frozen=True)
class Verification:
    """The result of checking a ledger.

    ``warnings`` do not mean that records were tampered with: a clock that went back, a run that was killed. ``data`` is the number of data files
    whose hashes were compared; None if that was not requested. ``signed`` is the number of signed records; signatures are checked only with
    a key.
    """

    ledger: str
    records: int
    head: Head | None
    problems: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    signed: int = 0
    checked_signatures: bool = False
    data: int | None = None

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def raise_for_status(self) -> None:
        """Raise StorageError with the first problem, if there is any."""
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise StorageError(
                f"{self.problems[0]}{more}",
                uri=self.ledger,
                fix="restore it from a backup, and find out who did it",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "ledger": self.ledger,
            "ok": self.ok,
            "records": self.records,
            "signed": self.signed,
            "checked_signatures": self.checked_signatures,
            **({} if self.data is None else {"data": self.data}),
            "head": None if self.head is None else {"number": self.head.number, "blake3": self.head.blake3},
            "problems": [p.to_dict() for p in self.problems],
            "warnings": [w.to_dict() for w in self.warnings],
        }

    def __str__(self) -> str:
        count = f"{self.records:,} record{'s' * (self.records != 1)}"
        if self.data is not None:
            count = f"{count} and {self.data:,} data file{'s' * (self.data != 1)}"
        problems = len(self.problems)
        said = f"{count}, all intact" if self.ok else f"{count}, {problems} problem{'s' * (problems != 1)}"
        if self.ok and not self.records:
            said = "there are no records: none was written yet, or all are gone, or the ledger is elsewhere"
        lines = [f"{self.ledger}: {said}", *(f"    {p}" for p in self.problems)]
        return "\n".join([*lines, *(f"    note: {w}" for w in self.warnings)])


def verify(
    files: NumberedFiles,
    key: str | None,
    head: Head | None,
    datasets: Sequence[str],
    *,
    former: Sequence[str] = (),
    data: bool = False,
) -> Verification:
    """Read every record and compare it with its seal, its place, its neighbours, its signature and what it names."""
    numbers = files.numbers()
    problems = list(_gaps(files, numbers))
    good: dict[int, Entry] = {}
    for number in numbers:
        found = _read(files, number)
        if isinstance(found, Finding):
            problems.append(found)
        else:
            good[number] = found
    problems += _misplaced(files, good)
    problems += _signatures(files, good, key, former)
    problems += _objects(files, good)
    problems += [] if head is None else _anchored(files, good, numbers, head)
    problems += [f for uri in datasets for f in _commits(uri, good.values())]
    compared = [*compare(good.values(), datasets)] if data else []
    problems += [Finding(None, c.file, c.what) for c in compared if c.what is not None]
    last = good.get(numbers[-1]) if numbers else None
    # one finding per record, the first: what follows from it is not reported
    told: dict[Any, Finding] = {}
    for problem in problems:
        told.setdefault(problem.file if problem.record is None else problem.record, problem)
    return Verification(
        files.uri,
        len(numbers),
        None if last is None else Head(numbers[-1], last.blake3),
        tuple(sorted(told.values(), key=lambda f: (f.record is None, f.record or 0))),
        (
            *_warnings(files, good, key),
            *(f for uri in datasets for f in _rewrites(uri, good.values())),
            *(_unknown(good.values()) if data and not datasets else ()),
        ),
        sum(e.signature is not None for e in good.values()),
        key is not None,
        len(compared) if data else None,
    )


def _read(files: NumberedFiles, number: int) -> Entry | Finding:
    uri = files.uri_of(number)
    try:
        data = files.read(number)
    except StorageError as error:  # one that cannot be read hides nothing of what is wrong with the others
        return Finding(number, uri, f"{error.what}; restore it from a backup")
    if data is None:
        return Finding(number, uri, "went while the ledger was read")
    try:
        entry = Entry.from_json(data, uri)
    except StorageError as error:
        return Finding(number, uri, f"{error.what}; {error.fix}")
    try:
        # its author sealed it too, unaware of the mistake
        _ = [*published(entry)], str(entry), (entry.body.get("definition") or {}).get("object")
    except (AttributeError, KeyError, TypeError, ValueError):
        return Finding(number, uri, "is not a record that lazypipe wrote: it is sealed, and lacks what records say")
    return entry


def _gaps(files: NumberedFiles, numbers: Sequence[int]) -> Iterator[Finding]:
    for before, after in pairwise([0, *numbers]):
        if after - before == 2:
            yield Finding(before + 1, files.uri_of(before + 1), "is missing: it was removed")
        elif after - before > 2:
            what = f"is missing, and so are those up to {after - 1}: they were removed"
            yield Finding(before + 1, files.uri_of(before + 1), what)


def _misplaced(files: NumberedFiles, good: Mapping[int, Entry]) -> Iterator[Finding]:
    for number, entry in good.items():
        if entry.number != number:
            yield Finding(number, files.uri_of(number), f"holds record {entry.number}: it was renamed or copied")
        if number == 1 and entry.number == 1 and entry.previous is not None:
            yield Finding(
                1, files.uri_of(1), "is chained to a record before it: there were others, and they were removed"
            )
    for number, entry in good.items():
        after = good.get(number + 1)
        # where numbers jump, a record between them is gone, which is reported; its neighbours are intact
        if after is not None and after.number <= entry.number + 1 and after.previous != entry.blake3:
            what = "is not the one that the next record is chained to: it was replaced, or inserted"
            yield Finding(number, files.uri_of(number), what)


def _signatures(
    files: NumberedFiles, good: Mapping[int, Entry], key: str | None, former: Sequence[str]
) -> Iterator[Finding]:
    if key is None:
        return
    keys = [*former, key]
    by = {
        n: [i for i, k in enumerate(keys) if e.signature == signature_of(e.blake3, k)]
        for n, e in good.items()
        if e.signature is not None
    }
    if len(by) > 1 and not any(by.values()):
        which = "this key; give the key" if not former else "these keys; give the keys"
        yield Finding(None, files.uri, f"none of its {len(by):,} signatures was made with {which} that signed them")
        return
    signing, reached = False, 0
    for number, entry in good.items():
        if entry.signature is None and signing:
            yield Finding(number, files.uri_of(number), "is not signed, and records before it are")
        elif number in by and not by[number]:
            which = "this key" if not former else "any of these keys"
            yield Finding(number, files.uri_of(number), f"its signature was not made with {which}")
        elif number in by and by[number][-1] < reached:
            what = "was signed with a former key, and records before it with a later one"
            yield Finding(number, files.uri_of(number), what)
        signing = signing or entry.signature is not None
        reached = max([reached, *by.get(number, ())[:1]])
    if good and not signing:
        last = max(good)
        yield Finding(last, files.uri_of(last), "is not signed, and neither is any other record")


def _objects(files: NumberedFiles, good: Mapping[int, Entry]) -> Iterator[Finding]:
    seen: dict[str, str | None] = {}
    for number, entry in good.items():
        named = (entry.body.get("definition") or {}).get("object")
        if not named:
            continue
        name = f"objects/{named['key']}.json"
        if name not in seen:
            try:
                data = files.read_named(name)
            except StorageError:
                data = b""
            seen[name] = None if data is None else blake3(data).hexdigest()
        if seen[name] != named["blake3"]:
            state = "is missing" if seen[name] is None else "was edited, or replaced"
            what = f"the definition and lineage that it names, {name}, {state}; restore it from a backup"
            yield Finding(number, files.uri_of(number), what)


def _anchored(files: NumberedFiles, good: Mapping[int, Entry], numbers: Sequence[int], head: Head) -> Iterator[Finding]:
    uri = files.uri_of(head.number)
    if head.number not in numbers:
        last = f"the last is {numbers[-1]}" if numbers else "there is none"
        yield Finding(head.number, uri, f"is missing: the ledger had it when its head was noted, and now {last}")
    elif head.number in good and good[head.number].blake3 != head.blake3:
        yield Finding(head.number, uri, "is not the one that was there when the head was noted")


def _commits(uri: str, entries: Iterable[Entry]) -> Iterator[Finding]:
    """Compare the commits of a dataset with what the ledger says of it."""
    known: dict[str, list[Entry]] = {}
    for entry in entries:
        known.setdefault(entry.run, []).append(entry)
    log = Dataset(uri).log
    for version in log.versions():
        file = f"{log.uri}/{version:020}.json"
        try:
            commit = log.read(version)
        except StorageError as error:
            yield Finding(None, file, f"{error.what}; {error.fix}")
            continue
        if commit.run not in known:
            if _is_rewrite(commit, log) or _is_rollback(commit, log):
                continue
            yield Finding(
                None, file, f"version {version} was committed by run {commit.run!r}, which the ledger does not know"
            )
            continue
        there = {(f.path, f.blake3) for f in commit.files}
        for entry in known[commit.run]:
            for segment in entry.body["segments"]:
                if (segment.get("uri"), segment.get("version")) != (uri, version):
                    continue
                if not {(d["path"], d["blake3"]) for d in segment["data"]} <= there:
                    what = f"version {version} does not hold the files that record {entry.number} says"
                    yield Finding(None, file, what)


def _unknown(entries: Iterable[Entry]) -> Iterator[Finding]:
    """Name commits behind those that the ledger knows: their records may have been removed at its end."""
    first: dict[str, int] = {}
    for entry in entries:
        for part in published(entry):
            if part.version is not None:
                first.setdefault(part.uri, part.version)
    runs = {entry.run for entry in entries}
    for uri, since in first.items():
        log = Dataset(uri).log
        for version in log.versions():
            try:
                commit = log.read(version)
            except StorageError:
                continue  # reported already
            if (
                version > since
                and commit.run not in runs
                and not _is_rewrite(commit, log)
                and not _is_rollback(commit, log)
            ):
                what = (
                    f"version {version} was committed by run {commit.run!r}, which the ledger does not know: "
                    "its record was removed, or the run was killed before it wrote one"
                )
                yield Finding(None, f"{log.uri}/{version:020}.json", what)


def _is_rewrite(commit: Commit, log: CommitLog) -> bool:
    """Whether a commit holds the rows of one before in other files, as far as numbers of rows tell: no run makes those."""
    if commit.mode != REWRITE:
        return False
    try:
        return commit.rows_of < commit.version and log.read(commit.rows_of).rows == commit.rows
    except StorageError:  # vacuumed since
        return True


def _is_rollback(commit: Commit, log: CommitLog) -> bool:
    """Whether a commit has the content of an earlier one: the same files, or, if it was rewritten for Delta readers, equally many rows."""
    of = commit.brings_back
    if not of or of >= commit.version:
        return of == 0 and not commit.files
    try:
        old = log.read(of)
    except StorageError:  # vacuumed since
        return True
    same = {(f.path, f.blake3) for f in commit.files} == {(f.path, f.blake3) for f in old.files}
    return same or (DELTA in commit.info and commit.rows == old.rows)


def _rewrites(uri: str, entries: Iterable[Entry]) -> Iterator[Finding]:
    """Report versions that were rewritten or rolled back outside of any run, and are not recorded."""
    known, log = {entry.run for entry in entries}, Dataset(uri).log
    for version in log.versions():
        try:
            commit = log.read(version)
        except StorageError:
            continue  # reported already
        if commit.mode == REWRITE and commit.run not in known:
            what = f"version {version} was rewritten by {commit.run!r}, outside of any run, with the rows of version {commit.rows_of}"
            yield Finding(None, f"{log.uri}/{version:020}.json", what)
        elif commit.brings_back is not None and commit.run not in known:
            what = f"version {version} was made by {commit.run!r}, outside of any run, of version {commit.brings_back}, which it brings back"
            yield Finding(None, f"{log.uri}/{version:020}.json", what)


def _warnings(files: NumberedFiles, good: Mapping[int, Entry], key: str | None) -> Iterator[Finding]:
    for number, entry in good.items():
        before = good.get(number - 1)
        if before is not None and entry.time < before.time:
            earlier = f"its time is {before.time - entry.time} before that of record {number - 1}"
            what = f"{earlier}: the clock went backwards, or two runs ended at the same time"
            yield Finding(number, files.uri_of(number), what)
    ended = {e.run for e in good.values() if e.kind != "start"}
    for number, entry in good.items():
        if entry.kind == "start" and entry.run not in ended:
            what = f"run {entry.run!r} began and has no final record: it is still running, or was killed"
            yield Finding(number, files.uri_of(number), what)
    if key is not None and any(e.signature for e in good.values()):
        unsigned = [n for n, e in good.items() if e.signature is None]
        first = min(n for n, e in good.items() if e.signature)
        early = [n for n in unsigned if n < first]
        if early:
            yield Finding(
                early[-1], files.uri_of(early[-1]), f"signing began after it: {len(early)} records are unsigned"
            )
