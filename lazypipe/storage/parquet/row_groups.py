"""Where the row groups of a Parquet file end, with hashes of everything up to there, to compare two versions of a file.

A file begins as it did only if its bytes are the same, and if the footer says the same of them: the same bytes may be other rows by
another footer, and the same footer may stand behind other bytes.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any, NamedTuple

import polars as pl
from blake3 import blake3

from lazypipe.storage import uri as uris
from lazypipe.storage.files import FileInfo
from lazypipe.storage.parquet.footers import footer_of, reading
from lazypipe.storage.parquet.ranges import Footer

__all__ = ["LARGE", "BorderHash", "Borders", "RowPlaces", "begun", "rows_in"]

LARGE = 16 << 20
"""Bytes of a file from which on it is worth while to know its row groups."""
_MOST = 16
"""Borders of a file that are remembered, besides the last two."""


class Borders(NamedTuple):
    """Places at which row groups of a file end, each with a hash of everything up to it: of the bytes, and of the footer's entries about them.

    The last place is the end of all row groups, the last but one that of all but one.
    """

    at: tuple[int, ...]
    hashes: tuple[str, ...]

    @classmethod
    def read(cls, plain: Sequence[Sequence[Any]]) -> Borders:
        """Return it from plain data, as JSON holds it; raises ValueError or TypeError for what is none."""
        at, hashes = map(tuple, plain)
        if not at or len(at) != len(hashes) or not all(isinstance(place, int) for place in at):
            raise ValueError(plain)
        return cls(at, hashes)

    def common(self, now: Mapping[int, str]) -> int:
        """Return the last place up to which a file has the row groups that it had, by its hashes now; 0 if there is none.

        Examples
        --------
        >>> before = Borders((10, 20, 30), ("a", "b", "c"))
        >>> before.common({10: "a", 20: "b", 35: "d"}), before.common({5: "a"})
        (20, 0)
        """
        return max((place for place, was in zip(*self, strict=True) if now.get(place) == was), default=0)


class BorderHash:
    """The BLAKE3 of a Parquet file that is hashed from its beginning, in pieces; and that of what stands up to each border.

    Used as ``blake3`` is. ``at`` are the places where row groups end.
    """

    def __init__(self, at: list[int], said: list[bytes], threads: int = blake3.AUTO) -> None:
        self.at = at
        self.found: dict[int, str] = {}
        self._said = said
        self._done = 0
        self._made = blake3(max_threads=threads)

    @classmethod
    def of(cls, footer: Footer, threads: int = blake3.AUTO) -> BorderHash | None:
        """Return it for a file with this footer; None if that has fewer than two row groups, or they do not stand one behind the other."""
        if len(footer.group_rows) < 2:
            return None
        made = blake3(footer.about())
        # types as they are read: what Arrow's schema says besides, such as how many rows there are for pandas, makes no row another one
        schema = pl.read_parquet_schema(io.BytesIO(footer.mini_file([], footer.columns, [])))
        made.update(pl.DataFrame(schema=schema).write_ipc(None).getvalue())
        at: list[int] = []
        said: list[bytes] = []
        for group in range(len(footer.group_rows)):
            begins, ends = footer.extent(group)
            if begins < (at[-1] if at else 0) or ends <= begins:
                return None
            made.update(footer.told(group))
            at.append(ends)
            said.append(made.digest())
        return cls(at, said, threads)

    def update(self, piece: bytes | memoryview) -> None:
        """Hash what comes next."""
        left = memoryview(piece)
        while len(self.found) < len(self.at) and self._done + len(left) >= (place := self.at[len(self.found)]):
            here, left = left[: place - self._done], left[place - self._done :]
            self._made.update(here)
            self._done = place
            said = self._said[len(self.found)]
            self.found[place] = blake3(self._made.digest() + said).hexdigest(16)
        self._made.update(left)
        self._done += len(left)

    def hexdigest(self) -> str:
        """Return the hash of all that came."""
        return self._made.hexdigest()

    @property
    def borders(self) -> Borders | None:
        """What is to be remembered of a file that was hashed to its end; None if it ended before its row groups do."""
        if len(self.found) < len(self.at):
            return None
        step = -(-len(self.at) // _MOST)
        kept = sorted({*self.at[step - 1 :: step], *self.at[-2:]})
        return Borders(tuple(kept), tuple(self.found[place] for place in kept))

    def groups_within(self, place: int) -> int:
        """Return how many row groups stand up to a place at which one ends."""
        return bisect_left(self.at, place) + 1 if place else 0


def begun(
    file: FileInfo, storage_options: Mapping[str, Any] | None = None, *, threads: int = blake3.AUTO
) -> BorderHash | None:
    """Return what hashes a large Parquet file with the borders of its row groups; None if it is small, has too few, or is none."""
    if file.size is None or file.size < LARGE:
        return None
    with suppress(Exception):  # whatever is wrong with it is reported when its rows are read
        return BorderHash.of(footer_of(file.uri, storage_options), threads)
    return None


class RowPlaces(NamedTuple):
    """Where row groups of a file begin, and how many rows stand ahead of each, and ahead of its end."""

    begins: list[int]
    ahead: list[int]

    @classmethod
    def of(cls, uri: str, storage_options: Mapping[str, Any] | None = None) -> RowPlaces:
        """Read them from the footer of a Parquet file.

        Raises
        ------
        SourceError
            If the file cannot be read, or is not Parquet.
        """
        with reading(uri):
            footer = footer_of(uri, storage_options)
            begins = [footer.extent(group)[0] for group in range(len(footer.group_rows))]
        return cls(begins, [0, *accumulate(footer.group_rows)])

    def between(self, start: int, end: int) -> tuple[int, int]:
        """Return the number of the first row, and how many there are, of the row groups that begin between two places.

        Examples
        --------
        >>> RowPlaces([4, 90, 170], [0, 10, 20, 25]).between(90, 200)
        (10, 15)
        """
        first, last = (self.ahead[bisect_left(self.begins, place)] for place in (start, end))
        return first, last - first


def rows_in(files: Iterable[FileInfo], storage_options: Mapping[str, Any] | None = None) -> int | None:
    """Return how many rows Parquet files, or the parts of them that are named, have by their footers; None if one does not tell."""
    parts, whole = list[FileInfo](), list[str]()
    for file in files:
        whole.append(file.uri) if file.key == file.uri else parts.append(file)
    try:
        rows = 0
        for file in parts:
            rows += RowPlaces.of(file.uri, storage_options).between(file.start, file.start + (file.length or 0))[1]
        if whole and all(map(uris.is_native, whole)):  # Polars looks at many at a time
            options = uris.polars_options(whole[0], storage_options)
            scan = pl.scan_parquet(
                whole, storage_options=options, glob=False, missing_columns="insert", extra_columns="ignore"
            )
            return rows + int(scan.select(pl.len()).collect(engine="streaming").item())
        return rows + sum(sum(footer_of(uri, storage_options).group_rows) for uri in whole)
    except Exception:  # whatever is wrong with one is reported when its rows are read
        return None
