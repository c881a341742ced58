"""The Thrift compact protocol, in which Parquet writes its metadata: structs as plain values, by field number.

Nothing is known here of any schema. What is decoded encodes to the same bytes again, unknown fields included.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

__all__ = [
    "BINARY",
    "BYTE",
    "DOUBLE",
    "FALSE",
    "I16",
    "I32",
    "I64",
    "LIST",
    "MAP",
    "SET",
    "STRUCT",
    "TRUE",
    "UUID",
    "ThriftError",
    "ThriftList",
    "ThriftMap",
    "ThriftStruct",
    "decode_struct",
    "encode_struct",
]

# Type codes of the Thrift compact protocol.
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)
_INTEGERS = frozenset({I16, I32, I64})
_MAX_DEPTH = 64

#: field id → (type code, value); unknown fields are kept.
ThriftStruct: TypeAlias = "dict[int, tuple[int, Any]]"


class ThriftError(ValueError):
    """The bytes are no value of the compact protocol; says why."""


class ThriftList(NamedTuple):
    """A list or set: the type code of its items, and the items."""

    kind: int
    items: list[Any]


class ThriftMap(NamedTuple):
    """A map: the type codes of keys and values, and the pairs in the order of the file."""

    key_kind: int
    value_kind: int
    items: list[tuple[Any, Any]]


class _Decoder:
    """Reads compact-protocol values from ``data``; every length is checked before anything is allocated."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, n: int) -> bytes:
        end = self.at + n
        if end > len(self.data):
            msg = "the metadata ends in the middle of a value"
            raise ThriftError(msg)
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def byte(self) -> int:
        try:
            found = self.data[self.at]
        except IndexError:
            msg = "the metadata ends in the middle of a value"
            raise ThriftError(msg) from None
        self.at += 1
        return found

    def varint(self) -> int:
        value = shift = 0
        data, at = self.data, self.at
        try:
            while (byte := data[at]) >= 0x80:
                value |= (byte & 0x7F) << shift
                shift += 7
                at += 1
                if shift > 63:
                    msg = "the metadata holds an integer of more than 64 bits"
                    raise ThriftError(msg)
        except IndexError:
            msg = "the metadata ends in the middle of a value"
            raise ThriftError(msg) from None
        self.at = at + 1
        return value | byte << shift

    def integer(self) -> int:
        raw = self.varint()
        return (raw >> 1) ^ -(raw & 1)

    def length(self) -> int:
        # An item takes at least one byte, so a longer list than there are bytes is garbage, not a reason to allocate.
        n = self.varint()
        if n > len(self.data) - self.at:
            msg = "the metadata holds a length beyond its end"
            raise ThriftError(msg)
        return n

    def value(self, kind: int, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            msg = "the metadata is nested too deeply"
            raise ThriftError(msg)
        if kind in _INTEGERS:
            return self.integer()
        if kind == BINARY:
            return self.take(self.length())
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (LIST, SET):
            head = self.byte()
            item = head & 0x0F
            n = head >> 4 if head >> 4 != 15 else self.length()
            return ThriftList(item, [self.value(item, depth + 1) for _ in range(n)])
        if kind in (TRUE, FALSE):  # only as an item of a list: inside a struct the type code is the value
            return self.byte() == TRUE
        if kind == BYTE:
            return self.byte()
        if kind == DOUBLE:
            return self.take(8)
        if kind == UUID:
            return self.take(16)
        if kind == MAP:
            if (n := self.length()) == 0:
                return ThriftMap(0, 0, [])
            kinds = self.byte()
            key, val = kinds >> 4, kinds & 0x0F
            return ThriftMap(key, val, [(self.value(key, depth + 1), self.value(val, depth + 1)) for _ in range(n)])
        msg = f"the metadata holds the unknown Thrift type {kind}"
        raise ThriftError(msg)

    def struct(self, depth: int) -> ThriftStruct:
        out: ThriftStruct = {}
        field = 0
        while head := self.byte():
            kind = head & 0x0F
            field = field + (head >> 4) if head >> 4 else self.integer()
            if kind in _INTEGERS:  # most fields are: a call less for each
                out[field] = (kind, self.integer())
            else:
                out[field] = (kind, kind == TRUE if kind in (TRUE, FALSE) else self.value(kind, depth))
        return out


def decode_struct(data: bytes) -> tuple[ThriftStruct, int]:
    """Decode the compact-protocol struct at the start of ``data``.

    Returns
    -------
    tuple
        The struct, and the number of bytes it took.

    Raises
    ------
    ThriftError
        If the bytes end early or hold no struct.
    """
    decoder = _Decoder(data)
    return decoder.struct(0), decoder.at


def _put_varint(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_integer(out: bytearray, value: int) -> None:
    _put_varint(out, (value << 1) ^ (value >> 63))


def _put(out: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        _put_integer(out, value)
    elif kind == BINARY:
        _put_varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _put_struct(out, value)
    elif kind in (LIST, SET):
        n = len(value.items)
        out.append(min(n, 15) << 4 | value.kind)
        if n >= 15:
            _put_varint(out, n)
        for item in value.items:
            _put(out, value.kind, item)
    elif kind in (TRUE, FALSE):
        out.append(TRUE if value else FALSE)
    elif kind == BYTE:
        out.append(value)
    elif kind in (DOUBLE, UUID):
        out += value
    else:
        _put_varint(out, len(value.items))
        if value.items:
            out.append(value.key_kind << 4 | value.value_kind)
        for key, val in value.items:
            _put(out, value.key_kind, key)
            _put(out, value.value_kind, val)


def _put_struct(out: bytearray, fields: ThriftStruct) -> None:
    last = 0
    for field, (kind, value) in sorted(fields.items()):
        if kind in (TRUE, FALSE):
            kind = TRUE if value else FALSE  # noqa: PLW2901  in a struct the type code is the value
        if 0 < field - last < 16:
            out.append(field - last << 4 | kind)
        else:
            out.append(kind)
            _put_integer(out, field)
        if kind not in (TRUE, FALSE):
            _put(out, kind, value)
        last = field
    out.append(0)


def encode_struct(fields: ThriftStruct) -> bytes:
    """Encode a struct in the compact protocol, fields in ascending order."""
    out = bytearray()
    _put_struct(out, fields)
    return bytes(out)
