"""Which row groups of a Parquet file came and went between two versions of it, from its footer and not its data.

A row group has a hash of what the footer says of it. Another hash is another row group, for sure. The same one is the same row
group in all likelihood: statistics, sizes and counts of every column agree; who must be sure hashes its bytes too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl
from blake3 import blake3

from lazypipe.storage import uri as uris
from lazypipe.storage.footers import TAIL, footer_of, read_footer, unreadable
from lazypipe.storage.parquet_ranges import ChunkRange, Footer

__all__ = ["GroupChanges", "RowGroup", "column_range", "compare_groups", "group_hasher", "row_groups"]


class RowGroup(NamedTuple):
    """One row group: a hash of what the footer says of it, its rows, and the BLAKE3 of its bytes, if that was asked for."""

    footer: str
    rows: int
    content: str | None = None


@dataclass(frozen=True)
class GroupChanges:
    """Row groups by their numbers: ``same`` as pairs of before and now, ``new`` in the file now, ``gone`` from before."""

    same: tuple[tuple[int, int], ...] = ()
    new: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether the file has the row groups that it had, in whatever order."""
        return not (self.new or self.gone)

    def __str__(self) -> str:
        return f"{len(self.same):,} row groups the same, {len(self.new):,} new, {len(self.gone):,} gone"


def row_groups(
    uri: str, storage_options: Mapping[str, Any] | None = None, *, content: bool = False
) -> tuple[RowGroup, ...]:
    """Return the row groups of a Parquet file; only its footer is read, unless their ``content`` is to be hashed.

    Raises
    ------
    SourceError
        If the file cannot be read, or is not Parquet.
    """
    try:
        with uris.opened(uri, storage_options, block_size=TAIL) as file:
            footer = read_footer(file)
            found = [
                RowGroup(blake3(footer.fingerprint(n)).hexdigest(), rows) for n, rows in enumerate(footer.group_rows)
            ]
            if content:
                found = [g._replace(content=_hash(file, _ranges(footer, n))) for n, g in enumerate(found)]
    except Exception as error:  # any store's own errors: the caller learns which file it was
        raise unreadable(uri, error) from error
    return tuple(found)


def column_range(
    uri: str, column: str, dtype: pl.DataType, storage_options: Mapping[str, Any] | None = None
) -> tuple[Any, Any] | None:
    """Return the least and the greatest value of a Parquet file's column as its footer says them, physical; None if it does not.

    A column without any value has ``(None, None)``.

    Raises
    ------
    SourceError
        If the file cannot be read, or is not Parquet.
    """
    from lazypipe.storage.parquet_prune import Bounds, column_bounds

    try:
        footer = footer_of(uri, storage_options)
        if column not in footer.columns:
            return None
        found = column_bounds(footer, column, dtype) if footer.group_rows else Bounds(None, None, 0, 0)
    except Exception as error:  # any store's own errors: the caller learns which file it was
        raise unreadable(uri, error) from error
    return None if found is None or (found.low is None and not found.all_null) else (found.low, found.high)


def group_hasher(uri: str, storage_options: Mapping[str, Any] | None = None) -> Callable[[int], str]:
    """Return a function that gives the BLAKE3 of the bytes of a row group, by its number; it raises SourceError."""

    def hashed(number: int) -> str:
        try:
            with uris.opened(uri, storage_options, block_size=TAIL) as file:
                return _hash(file, _ranges(read_footer(file), number))
        except Exception as error:  # any store's own errors: the caller learns which file it was
            raise unreadable(uri, error) from error

    return hashed


def compare_groups(
    before: Sequence[RowGroup], now: Sequence[RowGroup], *, verify: Callable[[int], str] | None = None
) -> GroupChanges:
    """Say which row groups are new and which are gone; equal ones are paired in their order.

    Parameters
    ----------
    verify
        Gives the BLAKE3 of the bytes of a row group of now, by its number (``group_hasher``). Where it differs from what
        was known before, a row group is not the same, whatever the footer says.

    Examples
    --------
    >>> one, two, three = RowGroup("h1", 10), RowGroup("h2", 10), RowGroup("h3", 5)
    >>> print(compare_groups([one, two], [one, two, three]))
    2 row groups the same, 1 new, 0 gone
    """
    known: dict[str, deque[int]] = {}
    for number, group in enumerate(before):
        known.setdefault(group.footer, deque()).append(number)
    same, new = [], []
    for number, group in enumerate(now):
        candidates = known.get(group.footer)
        content = group.content
        if candidates and verify is not None and content is None:
            content = verify(number)
        found = next((c for c in candidates or () if content is None or before[c].content in (None, content)), None)
        if candidates is None or found is None:
            new.append(number)
            continue
        candidates.remove(found)
        same.append((found, number))
    paired = {b for b, _ in same}
    return GroupChanges(tuple(same), tuple(new), tuple(n for n in range(len(before)) if n not in paired))


def _ranges(footer: Footer, group: int) -> list[ChunkRange]:
    return footer.ranges(group, footer.columns)


def _hash(file: Any, ranges: Sequence[ChunkRange]) -> str:
    made = blake3(max_threads=blake3.AUTO)
    for start, length in ranges:
        file.seek(start)
        made.update(file.read(length))
    return made.hexdigest()
