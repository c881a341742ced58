"""The ledger: numbered records in one folder, each chained to the previous one, with the objects that they refer to.

Many pipelines may share a ledger. Whoever loses the race for a number takes the next one. Definitions, lineage and
schemas rarely change: they stand in ``objects``, once each, and records name them by key and hash.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Self

from blake3 import blake3

from lazypipe.errors import LazypipeError, StorageError, first_line
from lazypipe.records.entry import Entry, sealed, signature_of
from lazypipe.records.proof import whole
from lazypipe.spec.moment import utc_moment
from lazypipe.storage.numbered import NumberedFiles

if TYPE_CHECKING:
    from lazypipe.compile.audit import BoundAudit
    from lazypipe.records.history import History, Holding
    from lazypipe.records.verify import Head, Verification

__all__ = ["Ledger", "Tip"]

_TRIES = 1000
"""Attempts to get a number; each time another run was faster."""


@dataclass(frozen=True)
class Tip:
    """The end of a ledger: number and seal of its last record, the object that it names, and its signature."""

    number: int = 0
    blake3: str | None = None
    object: Mapping[str, str] | None = None
    signature: str | None = None


class Ledger:
    """The records of runs at a URI, and questions about them.

    Examples
    --------
    >>> from lazypipe.records.ledger import Ledger
    >>> ledger = Ledger("memory://no-ledger")
    >>> ledger.records(), ledger.head, ledger.verify().ok
    ((), None, True)
    """

    def __init__(
        self,
        uri: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        key: str | None = None,
        until: datetime | None = None,
    ) -> None:
        self.uri = uri
        self._options = storage_options
        self._key = key
        self._until = until
        self._files = NumberedFiles(uri, storage_options, what="the ledger")
        self._known: dict[int, Entry] = {}

    @classmethod
    def of(cls, audit: BoundAudit) -> Ledger:
        """Return the ledger that a pipeline's runs are recorded in."""
        return cls(audit.uri, storage_options=audit.storage_options, key=audit.key)

    @property
    def signs(self) -> bool:
        """Whether new records are signed."""
        return self._key is not None

    def doubts(self, tip: Tip) -> str | None:
        """Return a warning if new records will be signed with a key that the last record was not signed with."""
        if self._key is None or tip.blake3 is None or tip.signature in (None, signature_of(tip.blake3, self._key)):
            return None
        return (
            f"{self.uri}: record {tip.number} was signed with another key than this run's; "
            "set the variable that audit.key names to the key of this ledger, unless the key was to change"
        )

    # its content

    def records(self) -> tuple[Entry, ...]:
        """Return all records, oldest first; raises StorageError if one is damaged."""
        found = []
        for number in self._files.numbers():
            if number not in self._known:
                self._known[number] = self.read(number)
            found.append(self._known[number])
        return tuple(e for e in found if self._until is None or e.time <= self._until)

    def read(self, number: int) -> Entry:
        """Return one record; raises StorageError if it does not exist or is damaged."""
        data = self._files.read(number)
        if data is None:
            raise StorageError(f"there is no record {number}", uri=self.uri, fix="ask verify() what is missing")
        entry = Entry.from_json(data, self._files.uri_of(number))
        if entry.number != number:
            what = f"the file holds record {entry.number}: it was renamed or copied"
            raise StorageError(what, uri=self._files.uri_of(number), fix="restore it from a backup")
        return entry

    @property
    def head(self) -> Head | None:
        """Number and hash of the last record. Keep it elsewhere to detect later whether records were removed at the end."""
        from lazypipe.records.verify import Head

        tip = self.tip()
        return None if tip.blake3 is None else Head(tip.number, tip.blake3)

    def tip(self) -> Tip:
        """Return the end of the ledger, whether or not its last record can be read."""
        number = self._files.last()
        data = self._files.read(number) if number else None
        return Tip() if data is None else _tip(number, data)

    def object(self, entry: Entry) -> dict[str, Any]:
        """Return the objects that a record refers to: definition, schemas, lineage.

        Raises
        ------
        StorageError
            If it is missing, or is not what the record was written for.
        """
        named = entry.body["definition"]["object"]
        if named is None:
            raise StorageError(f"record {entry.number} is of a run that did not begin, and names nothing", uri=self.uri)
        data = self._files.read_named(object_name(named["key"]))
        uri = f"{self.uri}/{object_name(named['key'])}"
        if data is None:
            raise StorageError(f"what record {entry.number} names is missing", uri=uri, fix="restore it from a backup")
        if blake3(data).hexdigest() != named["blake3"]:
            what = f"it is not what record {entry.number} was written for"
            raise StorageError(what, uri=uri, fix="restore it from a backup")
        return dict(json.loads(data))

    # writing

    def append(self, body: Mapping[str, Any], *, time: datetime, tip: Tip | None = None) -> Entry:
        """Append a record to the chain.

        Parameters
        ----------
        tip
            The end of the ledger as last seen, so that it need not be looked up.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        end = tip if tip is not None else self.tip()
        for _ in range(_TRIES):
            entry, data = sealed(end.number + 1, end.blake3, time, body, self._key)
            try:
                self._files.create(entry.number, data)
                return entry
            except FileExistsError:
                # the store took it and its answer was lost: the client's second try met the file of its first
                if self._files.read(entry.number) == data:
                    return entry
                end = self.tip()
            except Exception as error:  # any store's own errors: the caller learns which ledger it was
                raise _unwritable(self.uri, error) from error
        raise StorageError(f"{_TRIES} times another run took the next number", uri=self.uri, fix="run again")

    def put_object(self, key: str, content: Callable[[], Mapping[str, Any]], tip: Tip) -> dict[str, str]:
        """Store an object that records refer to, if it is not there yet; return the reference for a record.

        Parameters
        ----------
        content
            Called only if the object is not there yet.
        """
        if tip.object is not None and tip.object.get("key") == key:
            return dict(tip.object)
        name = object_name(key)
        data = self._files.read_named(name)
        if data is None:
            data = json.dumps(content(), ensure_ascii=False, default=str).encode()
            try:
                self._files.create_named(name, data)
            except FileExistsError:
                data = self._files.read_named(name) or data
            except Exception as error:  # any store's own errors: the caller learns which ledger it was
                raise _unwritable(self.uri, error) from error
        return {"key": key, "blake3": blake3(data).hexdigest()}

    # questions

    def runs(
        self,
        output: str | None = None,
        *,
        pipeline: str | None = None,
        status: str | None = None,
        since: datetime | date | str | None = None,
        until: datetime | date | str | None = None,
    ) -> tuple[Entry, ...]:
        """Return the last record of each run (and replay, rewrite, compaction, rollback), oldest first.

        Parameters
        ----------
        output
            Only runs that wrote this output, or should have: its name, ``pipeline/name``, or its URI.
        status
            ``done``, ``gate_failed``, ``error``, ``interrupted``, or ``started`` (the run never reported an end).
        since, until
            When the record was written: a datetime, a date, or either as ISO 8601 text. Without a time zone it is UTC.

        Raises
        ------
        LazypipeError
            If no run has such a status, or a time is none.
        """
        from lazypipe.records import history

        return history.runs(self.records(), output, pipeline, status, _moment(since), _moment(until))

    def history(self, output: str, version: int | None = None) -> History:
        """Return everything that a version of an output was made from, back to raw files, across pipelines.

        Parameters
        ----------
        output
            The output's URI, name, or ``pipeline/name``.
        version
            Default: the latest.

        Raises
        ------
        LazypipeError
            If the ledger does not know it.
        """
        from lazypipe.records import history

        return history.history(self.records(), output, version)

    def containing(self, file: str) -> tuple[Holding, ...]:
        """Return every version of every output and quarantine that contains data from a source file.

        Parameters
        ----------
        file
            The file's URI as runs read it, its path, or the BLAKE3 hash of its content. Files with the same content count too.

        Raises
        ------
        LazypipeError
            If no run in the ledger has read it.
        """
        from lazypipe.records import history

        return history.containing(self.records(), file)

    def as_of(self, moment: datetime | date | str) -> Self:
        """Return the ledger as it was at a point in time: a datetime, a date, or either as ISO 8601 text. Without a time zone it is UTC."""
        made = type(self)(self.uri, storage_options=self._options, key=self._key, until=_moment(moment))
        made._known = self._known  # noqa: SLF001  # records do not change
        return made

    def verify(
        self,
        head: Head | tuple[int, str] | str | None = None,
        *,
        datasets: Iterable[str] = (),
        data: bool = False,
        former_keys: Iterable[str] = (),
    ) -> Verification:
        """Check that no record was edited, removed, reordered or inserted, and, if there is a key, the signatures.

        Parameters
        ----------
        head
            A value of ``ledger.head`` that was kept elsewhere, or its text. Detects records that were removed at the end.
        datasets
            URIs of datasets. Every commit of these must be in the ledger.
        data
            Whether to read the data files of these datasets, too, and compare them with the hashes recorded when they were written. If no
            datasets are given, those of all datasets and exports in the ledger.
        former_keys
            The keys that signed earlier records, oldest first, where the key was changed. A record signed with one of them behind a record
            signed with a later one is reported.

        Raises
        ------
        LazypipeError
            If what is given is no head, or there are former keys and no key.
        """
        from lazypipe.records import verify
        from lazypipe.records.verify import Head

        known = None if head is None else Head.of(head)
        named = [datasets] if isinstance(datasets, str) else datasets
        former = (former_keys,) if isinstance(former_keys, str) else tuple(former_keys)
        if former and self._key is None:
            raise LazypipeError("former keys were given, and no key that signs now; give that too: lp.ledger(…, key=…)")
        return verify.verify(self._files, self._key, known, tuple(map(whole, named)), data=data, former=former)


def object_name(key: str) -> str:
    """Return where an object stands, from the ledger's folder."""
    return f"objects/{key}.json"


def _tip(number: int, data: bytes) -> Tip:
    """Return the end of a ledger from its last record, as far as that can be read."""
    try:
        found = json.loads(data)
        stated = str(found["blake3"])
    except (ValueError, KeyError, TypeError):
        return Tip(number, blake3(data).hexdigest())
    signature = found.get("signature")
    try:
        named = found["definition"]["object"]
        return Tip(number, stated, {"key": str(named["key"]), "blake3": str(named["blake3"])}, signature)
    except (KeyError, TypeError):
        return Tip(number, stated, None, signature)


def _moment(given: datetime | date | str | None) -> datetime | None:
    return None if given is None else utc_moment(given)


def _unwritable(uri: str, error: Exception) -> StorageError:
    return StorageError(
        f"cannot write to the ledger: {first_line(error)}",
        uri=uri,
        fix="fix the cause, or choose another folder with audit.ledger",
    )
