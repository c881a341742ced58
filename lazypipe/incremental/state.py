"""What an output has consumed: stored inside the output's own commit, so that data and state cannot disagree.

Files are kept as columns (names below one common prefix, sizes, stamps, hashes), not as one mapping each: ten thousand
files are then a few hundred kilobytes, and are read back in milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import StorageError
from lazypipe.spec.model import NOTHING, freeze, thaw
from lazypipe.storage.files import MadeLater
from lazypipe.storage.local_files import Names
from lazypipe.storage.parquet.row_groups import Borders

__all__ = ["Columns", "Consumed", "ConsumedFile", "Kind", "State"]

FORMAT = 2
"""Version of what ``to_dict`` gives; ``from_dict`` refuses newer ones. In 1, stamps were always texts, and hashes one."""

Kind: TypeAlias = Literal["files", "dataset"]
"""How the content of a source is known: by a list of files, or by a commit."""

_NO_HASH = "-"


class ConsumedFile(NamedTuple):
    """One file as it was when it was read: its URI, size in bytes, stamp, and BLAKE3 of its content, each if known."""

    uri: str
    size: int | None
    stamp: str | None = None
    blake3: str | None = None


class Columns(MadeLater[ConsumedFile]):
    """Files that are kept as columns: names behind what all begin with, sizes, stamps, hashes.

    Stamps that are moments, in nanoseconds, may be numbers.

    Raises ValueError where columns are not of one length.

    Examples
    --------
    >>> kept = Columns("d/", ["a.csv"], [10], ["1"], ["-"])
    >>> kept[0], kept == (ConsumedFile("d/a.csv", 10, "1"),), kept.are(Names("", ["d/a.csv"]), [10], ["1"])
    (ConsumedFile(uri='d/a.csv', size=10, stamp='1', blake3=None), True, True)
    """

    def __init__(
        self,
        prefix: str,
        names: Sequence[str],
        sizes: Sequence[int | None],
        stamps: Sequence[str | int | None],
        hashes: Sequence[str | None],
    ) -> None:
        if not len(names) == len(sizes) == len(stamps) == len(hashes):
            raise ValueError("columns of files have different lengths")
        self.prefix = prefix
        self._names, self._sizes, self._stamps, self._hashes = names, sizes, stamps, hashes

    def _uris(self) -> list[str]:
        return [self.prefix + n for n in self._names]

    def _make(self) -> tuple[ConsumedFile, ...]:
        hashes = [None if h == _NO_HASH else h for h in self._hashes]
        stamps = [str(s) if isinstance(s, int) else s for s in self._stamps]
        return tuple(map(ConsumedFile._make, zip(self._uris(), self._sizes, stamps, hashes, strict=True)))

    def are(self, names: Names, sizes: Sequence[int | None], stamps: Sequence[str | int | None]) -> bool:
        """Whether these are the files, in their order, by names, sizes and stamps."""
        start, of = names
        return (
            len(of) == len(self._names)
            and _same(sizes, self._sizes)
            and _same(stamps, self._stamps)
            # whole paths would be as many texts to be made
            and (_same(of, self._names) if start == self.prefix else [start + n for n in of] == self._uris())
        )

    def first(self, number: int) -> Columns:
        """Return the first ``number`` files, without making objects for the others."""
        names, sizes, stamps, hashes = self._names, self._sizes, self._stamps, self._hashes
        return Columns(self.prefix, names[:number], sizes[:number], stamps[:number], hashes[:number])

    def __len__(self) -> int:
        return len(self._names)


def _same(one: Sequence[object], other: Sequence[object]) -> bool:
    """Whether two columns hold the same, be they lists or tuples."""
    return one == other if type(one) is type(other) else [*one] == [*other]


@dataclass(frozen=True)
class Consumed:
    """What has been read of one source.

    Attributes
    ----------
    kind
        Whether it is a list of files, or a dataset.
    files
        The files; of a dataset or Delta table, the data files of its ``version``.
    uri
        The URI of a dataset.
    version
        The version of a dataset or Delta table.
    at
        What a commit says about the rows that their files do not show, as plain data.
    listed
        When the files were listed, in nanoseconds since 1970. A file written at that very moment may have been written again without a
        change of its stamp.
    borders
        Hash of a large Parquet file → the ends of its row groups, with hashes of the content up to there.

    Examples
    --------
    >>> made = Consumed("files", (ConsumedFile("data/a.csv", 10, "1"), ConsumedFile("data/b.csv", 20, "2")))
    >>> made.to_dict()["prefix"], made.to_dict()["names"]
    ('data/', ['a.csv', 'b.csv'])
    >>> Consumed.from_dict(made.to_dict()) == made
    True
    """

    kind: Kind
    files: Sequence[ConsumedFile] = ()
    uri: str | None = None
    version: int | None = None
    at: Mapping[str, Any] = NOTHING
    listed: int | None = None
    borders: Mapping[str, Borders] = field(default=NOTHING, compare=False)

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        *,
        listed: int | None = None,
        hashes: Mapping[str, str] = NOTHING,
        name: Callable[[str], str] | None = None,
        uri: str | None = None,
    ) -> Consumed:
        """Return what was listed of a source as consumed.

        Parameters
        ----------
        listed
            When, in nanoseconds since 1970.
        hashes
            URI → BLAKE3, where it is known.
        name
            What a URI is kept as, if not as it is: without what must not be written down.
        uri
            That of a dataset. Its data files are never written twice, so that their names tell them apart.
        """
        known = hashes.get
        if name is None:
            files = tuple([ConsumedFile(f.uri, f.size, f.stamp, known(f.uri)) for f in snapshot.files])
        else:
            files = tuple([ConsumedFile(name(f.uri), f.size, f.stamp, known(f.uri)) for f in snapshot.files])
        if snapshot.commit is None:
            return cls("files", files, version=snapshot.version, listed=listed)
        return cls("dataset", files, uri=uri, version=snapshot.commit.version)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON holds, without what is not known."""
        plain: dict[str, Any] = {"kind": self.kind}
        plain |= {k: v for k in ("uri", "version", "listed") if (v := getattr(self, k)) is not None}
        if self.at:
            plain["at"] = thaw(self.at)
        if self.files:
            names, sizes, stamps, hashes = zip(*self.files, strict=True)
            # by characters, then cut at a slash: a URI is not a path of this machine
            prefix = os.path.commonprefix([min(names), max(names)])  # noqa: RUF071
            prefix = prefix[: prefix.rfind("/") + 1]
            plain |= {"prefix": prefix, "names": [n[len(prefix) :] for n in names], "sizes": list(sizes)}
            if any(s is not None for s in stamps):
                plain["stamps"] = _as_numbers(stamps)
            if any(hashes):
                plain["blake3"] = [h or _NO_HASH for h in hashes]
            if borders := {h: [*map(list, self.borders[h])] for h in dict.fromkeys(hashes) if h in self.borders}:
                plain["borders"] = borders
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Consumed:
        """Read it back; raises ValueError, KeyError or TypeError for what ``to_dict`` does not give."""
        if plain["kind"] not in get_args(Kind):
            raise ValueError(plain["kind"])
        return cls(
            plain["kind"],
            _files(plain) if "names" in plain else (),
            uri=plain.get("uri"),
            version=plain.get("version"),
            at=freeze(plain.get("at", NOTHING)),
            listed=plain.get("listed"),
            borders={h: Borders.read(of) for h, of in plain.get("borders", NOTHING).items()},
        )


_DIGITS = 19
"""Of nanoseconds since 1970, from 2001 to 2286."""


def _as_numbers(stamps: Sequence[str | None]) -> list[str | None] | list[int]:
    """Return stamps as numbers, if all of them are moments in nanoseconds: they take less room, and are read at once."""
    if all(s is not None and len(s) == _DIGITS and s.isascii() and s.isdecimal() and s[0] != "0" for s in stamps):
        return [*map(int, filter(None, stamps))]
    return [*stamps]


def _files(plain: Mapping[str, Any]) -> Columns:
    names, prefix = plain["names"], plain["prefix"]
    "".join([prefix, *names])  # TypeError where one is no text
    nothing = [None] * len(names)
    hashes = plain.get("blake3", nothing)
    hashes = hashes.split(" ") if isinstance(hashes, str) else hashes
    return Columns(prefix, names, plain["sizes"], plain.get("stamps", nothing), hashes)


@dataclass(frozen=True)
class State:
    """What an output has consumed of each of its sources, by their names.

    Examples
    --------
    >>> state = State({"orders": Consumed("files", (ConsumedFile("a.csv", 10, "1"),))})
    >>> State.from_dict(state.to_dict()) == state
    True
    """

    sources: Mapping[str, Consumed] = NOTHING

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON holds."""
        return {"format": FORMAT, "sources": {n: c.to_dict() for n, c in self.sources.items()}}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], *, uri: str | None = None) -> State:
        """Read it back; ``uri`` is the dataset that it was found in, for messages.

        Raises
        ------
        StorageError
            If a newer lazypipe wrote it, or it is damaged.
        """
        mend = "run once in full, which rewrites it"
        try:
            newer = plain["format"] > FORMAT
            if not newer:
                return cls(freeze({n: Consumed.from_dict(c) for n, c in plain["sources"].items()}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError("the record of what the output has consumed is damaged", uri=uri, fix=mend) from error
        raise StorageError(
            f"what the output has consumed is kept in format {plain['format']}, this lazypipe reads up to {FORMAT}",
            uri=uri,
            fix=f"upgrade lazypipe, or {mend}",
        )
