"""One record of the ledger: what a run did, its place in the chain, its seal, and its signature if it has one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from blake3 import blake3

from lazypipe.errors import StorageError, first_line

__all__ = ["FORMAT", "Entry", "sealed", "signature_of"]

FORMAT = 1
"""Version of the records; a reader refuses newer ones."""

_OWN = ("format", "number", "previous", "time", "blake3", "signature")
_RESTORE = "restore it from a backup"


@dataclass(frozen=True)
class Entry:
    """A record of the ledger. ``body`` describes the run; ``previous`` is the hash of the record before.

    Examples
    --------
    >>> from datetime import UTC
    >>> entry, data = sealed(1, None, datetime(2026, 1, 1, tzinfo=UTC), {"kind": "run", "run": "r1", "status": "done"})
    >>> Entry.from_json(data, "1.json") == entry
    True
    """

    number: int
    time: datetime
    previous: str | None
    body: Mapping[str, Any] = field(repr=False)
    blake3: str = field(repr=False)
    signature: str | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """``run`` or ``replay``; ``rewrite`` or ``compact``: files were rewritten outside of runs; ``start``: written before anything is published."""
        return str(self.body["kind"])

    @property
    def run(self) -> str:
        """The run's id."""
        return str(self.body["run"])

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return str(self.body["pipeline"])

    @property
    def status(self) -> str:
        """How the run ended; ``started`` if no end is recorded."""
        return str(self.body["status"])

    @property
    def actor(self) -> str:
        """Who ran it."""
        return str(self.body["actor"])

    @property
    def error(self) -> str | None:
        """The error of the run, or of its first output that failed; None if there was none."""
        errors = (self.body.get("error"), *(s.get("error") for s in self.body["segments"]))
        return next((str(e) for e in errors if e), None)

    def __str__(self) -> str:
        made = [f"{s['output']} {s['version'] or ''}".rstrip() for s in self.body["segments"] if s["output"]]
        made = made if self.status == "done" else []
        what = f" → {', '.join(made)}" if made else ""
        why = "" if self.status == "done" or not self.error else f": {first_line(self.error)}"
        when = f"{self.time:%Y-%m-%d %H:%M:%S}"
        return (
            f"{self.number}: {when} {self.kind} {self.run} of {self.pipeline} by {self.actor}: {self.status}{what}{why}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data, as in its file."""
        own = {
            "format": FORMAT,
            "number": self.number,
            "previous": self.previous,
            "time": self.time.isoformat(),
            **self.body,
            "blake3": self.blake3,
        }
        return own | ({"signature": self.signature} if self.signature else {})

    @classmethod
    def from_json(cls, data: bytes, uri: str) -> Entry:
        """Read a record back.

        Raises
        ------
        StorageError
            If it is truncated, was edited, or was written by a newer lazypipe.
        """
        try:
            found = dict(json.loads(data))
            stated, signature = found.pop("blake3"), found.pop("signature", None)
            newer = found["format"] > FORMAT
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError("the record is truncated or damaged", uri=uri, fix=_RESTORE) from error
        if newer:
            what = f"the record has format {found['format']}, this lazypipe reads up to {FORMAT}"
            raise StorageError(what, uri=uri, fix="upgrade lazypipe")
        text = json.dumps(found, sort_keys=True).encode()
        # in another form it may contain a key twice, and other readers take the first one
        if stated != blake3(text).hexdigest() or not (data.startswith(text[:-1]) or _says_once(data)):
            raise StorageError("the record was edited after it was written", uri=uri, fix=_RESTORE)
        try:
            return cls(
                number=int(found["number"]),
                time=datetime.fromisoformat(found["time"]),
                previous=found["previous"],
                body={name: value for name, value in found.items() if name not in _OWN},
                blake3=stated,
                signature=signature,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError("this is not a record that lazypipe wrote", uri=uri, fix=_RESTORE) from error


def _says_once(data: bytes) -> bool:
    """Whether no object has a name twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice")
        return found

    try:
        json.loads(data, object_pairs_hook=once)
    except ValueError:
        return False
    return True


def sealed(
    number: int, previous: str | None, time: datetime, body: Mapping[str, Any], key: str | None = None
) -> tuple[Entry, bytes]:
    """Return a record and its file's content, signed if there is a key."""
    whole = {"format": FORMAT, "number": number, "previous": previous, "time": time.isoformat(), **body}
    # written in the very form that is sealed, so that it is made once
    text = json.dumps(whole, sort_keys=True)
    stated = blake3(text.encode()).hexdigest()
    signature = None if key is None else signature_of(stated, key)
    more = f', "blake3": "{stated}"' + (f', "signature": "{signature}"' if signature else "")
    return Entry(number, time, previous, body, stated, signature), f"{text[:-1]}{more}}}\n".encode()


def signature_of(stated: str, key: str) -> str:
    """Return the signature of a seal: a hash that only who has the key can make.

    Examples
    --------
    >>> signature_of("00", "a secret") == signature_of("00", "another")
    False
    """
    return blake3(stated.encode(), key=_key(key)).hexdigest()


@cache
def _key(text: str) -> bytes:
    return blake3(text.encode(), derive_key_context="lazypipe ledger signature 1").digest()
