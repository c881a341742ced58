"""Parquet footers as values, and small Parquet files cut out of large ones.

No I/O happens here. A caller reads the tail of a file, asks :class:`Footer` which byte ranges hold some columns of some row
groups, fetches them in any way it likes, and gets back a complete Parquet file of just those chunks, which Polars decodes.
Pages are never looked into: chunks are moved as they are and only their offsets change, so every encoding, codec and page
version that Polars reads works.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from lazypipe.storage.parquet.thrift import (
    BINARY,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    ThriftError,
    ThriftList,
    ThriftStruct,
    decode_struct,
    encode_struct,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Buffer: TypeAlias = bytes | memoryview

__all__ = ["TRAILER", "ChunkRange", "ChunkStatistics", "Footer", "ParquetError", "footer_length"]

MAGIC = b"PAR1"
ENCRYPTED_MAGIC = b"PARE"
#: Bytes behind the footer: its length (4 bytes, little endian) and the magic.
TRAILER = 8

_NO_STRUCTS = ThriftList(STRUCT, [])


class ParquetError(ValueError):
    """The bytes are not a Parquet footer, or one that cannot be read in parts; says why."""


class ChunkRange(NamedTuple):
    """Where the pages of one column chunk lie: offset in the file and length, both in bytes."""

    start: int
    length: int


@dataclass(frozen=True)
class ChunkStatistics:
    """What the footer says about the values of one flat column in one row group.

    ``low`` and ``high`` are the raw bounds in Parquet's plain encoding: no value lies outside, but they need not occur
    (writers truncate long strings) and they leave NaN out. Both are None where the footer has none, or none in the order that
    the specification defines. ``nulls`` is None where it was not counted. ``element`` is the column's SchemaElement, which
    says how to read the bounds.
    """

    element: ThriftStruct
    low: bytes | None
    high: bytes | None
    nulls: int | None
    values: int


def footer_length(tail: bytes) -> int:
    """Return the length in bytes of the footer of the file that ends with ``tail``.

    Raises
    ------
    ParquetError
        If the file does not end as a Parquet file does, or its footer is encrypted.
    """
    if tail[-4:] == ENCRYPTED_MAGIC:
        msg = "the footer is encrypted"
        raise ParquetError(msg)
    if len(tail) < TRAILER or tail[-4:] != MAGIC:
        msg = "the file does not end as a Parquet file does: it is truncated, or not Parquet"
        raise ParquetError(msg)
    return int.from_bytes(tail[-8:-4], "little")


def _get(fields: ThriftStruct, field: int, kinds: tuple[int, ...], what: str) -> Any:
    found = fields.get(field)
    if found is None or found[0] not in kinds:
        msg = f"the footer lacks {what}"
        raise ParquetError(msg)
    return found[1]


def _optional(fields: ThriftStruct, field: int, kinds: tuple[int, ...], default: Any) -> Any:
    kind, value = fields.get(field, (0, None))
    return value if kind in kinds else default


def _integer(fields: ThriftStruct, field: int, what: str) -> int:
    value: int = _get(fields, field, (I16, I32, I64), what)
    if value < 0:
        msg = f"the footer holds a negative number for {what}"
        raise ParquetError(msg)
    return value


def _structs(fields: ThriftStruct, field: int, what: str) -> list[ThriftStruct]:
    value: ThriftList = _get(fields, field, (LIST,), what)
    if value.kind != STRUCT and value.items:
        msg = f"the footer lacks {what}"
        raise ParquetError(msg)
    return value.items


class _Column(NamedTuple):
    """A top-level column: its schema elements (itself first, then its descendants) and its leaves' places."""

    elements: list[ThriftStruct]
    leaves: range


class Footer:
    """The metadata of a Parquet file (thrift ``FileMetaData``), and what can be cut out by it.

    Parameters
    ----------
    data
        The footer's bytes, without the trailing length and magic.
    data_end
        Offset in the file at which the footer starts: no chunk may reach beyond it.

    Raises
    ------
    ParquetError
        If the footer is damaged, or points outside the file.
    """

    def __init__(self, data: bytes, *, data_end: int) -> None:
        try:
            self._file, _ = decode_struct(data)
        except ThriftError as error:
            msg = f"the footer is damaged: {error}"
            raise ParquetError(msg) from error
        # A field is named by its number in parquet.thrift, FileMetaData. 8 is encryption_algorithm: a plain footer over
        # encrypted columns.
        if 8 in self._file:
            msg = "the columns are encrypted"
            raise ParquetError(msg)
        self._data_end = data_end
        self.num_rows = _integer(self._file, 3, "the number of rows")
        self._groups = _structs(self._file, 4, "the row groups")
        self._root, self._columns = _top_level(_structs(self._file, 2, "the schema"))
        n_leaves = sum(len(c.leaves) for c in self._columns.values())
        self._chunks = [_structs(g, 1, "the column chunks of a row group") for g in self._groups]
        if any(len(chunks) != n_leaves for chunks in self._chunks):
            msg = "a row group has not one chunk for each column"
            raise ParquetError(msg)
        self.group_rows = [_integer(g, 3, "the number of rows of a row group") for g in self._groups]
        if sum(self.group_rows) != self.num_rows:
            msg = f"the row groups have {sum(self.group_rows)} rows, the file says {self.num_rows}"
            raise ParquetError(msg)

    @property
    def columns(self) -> list[str]:
        """Names of the top-level columns, in the order of the file."""
        return list(self._columns)

    def ranges(self, group: int, columns: Iterable[str]) -> list[ChunkRange]:
        """Return where the chunks of ``columns`` lie in row group ``group``: every leaf of a nested column, in file order."""
        return [self._range(self._chunks[group][leaf]) for leaf in self._leaves(columns)]

    def raw_bytes(self, group: int, column: str) -> int:
        """Return the bytes that a column takes in a row group before compression."""
        metas = [
            _get(self._chunks[group][i], 3, (STRUCT,), "the metadata of a column chunk") for i in self._leaves([column])
        ]
        return sum(_integer(m, 6, "the size of a column chunk") for m in metas)

    def _leaves(self, columns: Iterable[str]) -> list[int]:
        return sorted(leaf for name in set(columns) for leaf in self._columns[name].leaves)

    def _range(self, chunk: ThriftStruct) -> ChunkRange:
        if 1 in chunk:
            msg = "a column chunk lies in another file"
            raise ParquetError(msg)
        meta: ThriftStruct = _get(chunk, 3, (STRUCT,), "the metadata of a column chunk")
        start = _integer(meta, 9, "the offset of a column chunk")
        if 0 < (dictionary := _optional(meta, 11, (I64,), 0)) < start:  # some writers say 0 for "no dictionary"
            start = dictionary
        length = _integer(meta, 7, "the size of a column chunk")
        if start < len(MAGIC) or start + length > self._data_end:
            msg = f"a column chunk lies at {start}..{start + length}, outside the file's data"
            raise ParquetError(msg)
        return ChunkRange(start, length)

    def extent(self, group: int) -> tuple[int, int]:
        """Return where a row group begins and ends in the file, in bytes."""
        ranges = [self._range(c) for c in self._chunks[group]]
        return min(r.start for r in ranges), max(r.start + r.length for r in ranges)

    def about(self) -> bytes:
        """Return what the footer says of all row groups: columns and their order, who wrote them; not Arrow's schema, which may say more."""
        return encode_struct({n: self._file[n] for n in (2, 6, 7) if n in self._file})

    def told(self, group: int) -> bytes:
        """Return what the footer says of a row group: where each chunk is, how it is written, and what is in it."""
        # 14 and 15 of a chunk's metadata: where its bloom filter is, which may stand behind all row groups
        metas = [_get(c, 3, (STRUCT,), "the metadata of a column chunk") for c in self._chunks[group]]
        kept = [encode_struct({k: v for k, v in m.items() if k not in (14, 15)}) for m in metas]
        return b"".join([self.group_rows[group].to_bytes(8, "little"), *kept])

    def statistics(self, group: int, column: str) -> ChunkStatistics | None:
        """Return the statistics of a flat column in a row group; None for a nested or repeated column, or without any."""
        elements, leaves = self._columns[column]
        if len(elements) != 1 or _optional(elements[0], 3, (I32,), 0) == 2:  # repetition_type REPEATED
            return None
        meta: ThriftStruct = _get(self._chunks[group][leaves[0]], 3, (STRUCT,), "the metadata of a column chunk")
        stats: ThriftStruct | None = _optional(meta, 12, (STRUCT,), None)
        if stats is None:
            return None
        # Without a declared order (TypeDefinedOrder, field 1) min_value and max_value mean nothing. The older fields 1 and 2
        # are never used: writers disagreed on the order of strings and unsigned numbers.
        orders = _optional(self._file, 7, (LIST,), _NO_STRUCTS)
        ordered = orders.kind == STRUCT and leaves[0] < len(orders.items) and 1 in orders.items[leaves[0]]
        nulls: int = _optional(stats, 3, (I64,), -1)
        return ChunkStatistics(
            element=elements[0],
            low=_optional(stats, 6, (BINARY,), None) if ordered else None,
            high=_optional(stats, 5, (BINARY,), None) if ordered else None,
            nulls=nulls if nulls >= 0 else None,
            values=_integer(meta, 5, "the number of values of a column chunk"),
        )

    def mini_file(self, groups: Sequence[int], columns: Sequence[str], chunks: Sequence[Buffer]) -> bytes:
        """Build a Parquet file of just ``columns`` of just the row groups ``groups``.

        Parameters
        ----------
        groups
            Row groups, ascending. None at all gives a file without rows, whose schema can be read.
        columns
            Top-level columns; they stand in the order of the original file.
        chunks
            The bytes of the chunks, in the order of :meth:`ranges`, one row group after the other.

        Returns
        -------
        bytes
            A complete file. Page indexes and bloom filters are left out; statistics and unknown fields stay.
        """
        leaves = self._leaves(columns)
        if len(chunks) != len(groups) * len(leaves):
            msg = f"{len(chunks)} chunks given for {len(groups)} row groups of {len(leaves)} leaf columns"
            raise ValueError(msg)
        pieces: list[Buffer] = [MAGIC]
        at = len(MAGIC)
        rows: list[ThriftStruct] = []
        given = iter(chunks)
        for number, group in enumerate(groups):
            moved, first, size = [], at, 0
            for leaf in leaves:
                data = next(given)
                moved.append(_move(self._chunks[group][leaf], at - self._range(self._chunks[group][leaf]).start))
                size += _integer(moved[-1][3][1], 6, "the size of a column chunk")
                pieces.append(data)
                at += len(data)
            rows.append(
                {
                    # sorting_columns (4) goes: its column numbers would be wrong
                    **{k: v for k, v in self._groups[group].items() if k != 4},
                    1: (LIST, ThriftList(STRUCT, moved)),
                    2: (I64, size),
                    5: (I64, first),
                    6: (I64, at - first),
                    7: (I16, number),
                }
            )
        footer = encode_struct(self._pruned(rows, sum(self.group_rows[g] for g in groups), columns, leaves))
        return b"".join([*pieces, footer, struct.pack("<I", len(footer)), MAGIC])

    def _pruned(
        self, groups: list[ThriftStruct], num_rows: int, columns: Iterable[str], leaves: Sequence[int]
    ) -> ThriftStruct:
        keep = set(columns)
        kept = [c.elements for name, c in self._columns.items() if name in keep]
        root = {**self._root, 5: (I32, len(kept))}
        out = {
            **self._file,
            2: (LIST, ThriftList(STRUCT, [root, *(e for elements in kept for e in elements)])),
            3: (I64, num_rows),
            4: (LIST, ThriftList(STRUCT, groups)),
        }
        # Only the Arrow schema says more about types than the Parquet one (enums, durations, time zones); Polars looks its
        # fields up by name, so it may stay whole. Other entries (pandas' index, provenance) describe the whole file.
        entries = _structs(self._file, 5, "the key-value metadata") if 5 in self._file else []
        out[5] = (LIST, ThriftList(STRUCT, [e for e in entries if _optional(e, 1, (BINARY,), b"") == b"ARROW:schema"]))
        orders = _structs(self._file, 7, "the column orders") if 7 in self._file else []
        if len(orders) > max(leaves, default=-1):
            out[7] = (LIST, ThriftList(STRUCT, [orders[leaf] for leaf in leaves]))
        return out


def _move(chunk: ThriftStruct, by: int) -> ThriftStruct:
    """Return the chunk's metadata with its pages ``by`` bytes further on, and without what lay elsewhere."""
    gone = {10, 14, 15}  # index page, bloom filter: not copied
    meta: ThriftStruct = {k: v for k, v in chunk[3][1].items() if k not in gone}
    meta[9] = (I64, meta[9][1] + by)
    if _optional(meta, 11, (I64,), 0) > 0:
        meta[11] = (I64, meta[11][1] + by)
    # file_offset (2) is required but means nothing since it was deprecated; 4 to 7 place the page indexes
    return {2: (I64, 0), 3: (STRUCT, meta)}


def _top_level(elements: list[ThriftStruct]) -> tuple[ThriftStruct, dict[str, _Column]]:
    """Split the flattened schema tree into its root and the subtree of each top-level column."""
    columns: dict[str, _Column] = {}
    at = 1
    leaf = 0
    for _ in range(_children(elements[0]) if elements else 0):
        first, first_leaf, open_ = at, leaf, 1
        while open_:
            if at >= len(elements):
                msg = "the schema ends early"
                raise ParquetError(msg)
            n = _children(elements[at])
            leaf += n == 0 and 1 in elements[at]  # a group without children has no chunk
            open_ += n - 1
            at += 1
        name = _get(elements[first], 4, (BINARY,), "the name of a column").decode("utf-8", "replace")
        if name in columns:
            msg = f"two columns are named {name!r}"
            raise ParquetError(msg)
        columns[name] = _Column(elements[first:at], range(first_leaf, leaf))
    if at != len(elements):
        msg = "the schema has elements that belong to no column"
        raise ParquetError(msg)
    return elements[0], columns


def _children(element: ThriftStruct) -> int:
    return max(0, int(_optional(element, 5, (I32,), 0)))
