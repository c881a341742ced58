"""Compact-protocol structs survive a round trip, and damaged ones are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.storage.parquet.thrift import (
    BINARY,
    BYTE,
    DOUBLE,
    I16,
    I32,
    I64,
    LIST,
    MAP,
    SET,
    STRUCT,
    TRUE,
    UUID,
    ThriftError,
    ThriftList,
    ThriftMap,
    decode_struct,
    encode_struct,
)

SCALARS = {
    TRUE: st.booleans(),
    BYTE: st.integers(0, 255),
    I16: st.integers(-(2**15), 2**15 - 1),
    I32: st.integers(-(2**31), 2**31 - 1),
    I64: st.integers(-(2**63), 2**63 - 1),
    DOUBLE: st.binary(min_size=8, max_size=8),
    BINARY: st.binary(max_size=300),
    UUID: st.binary(min_size=16, max_size=16),
}


def values(depth: int) -> st.SearchStrategy[tuple[int, object]]:
    kinds = [st.tuples(st.just(kind), values) for kind, values in SCALARS.items()]
    if depth:
        kinds += [st.tuples(st.just(STRUCT), structs(depth - 1)), lists(depth - 1, LIST), lists(depth - 1, SET), maps()]
    return st.one_of(kinds)


def structs(depth: int) -> st.SearchStrategy[dict[int, tuple[int, object]]]:
    return st.dictionaries(st.integers(-(2**15), 2**15 - 1), values(depth), max_size=5)


def lists(depth: int, kind: int) -> st.SearchStrategy[tuple[int, object]]:
    items = {**SCALARS, STRUCT: structs(depth)}
    one = st.sampled_from(sorted(items)).flatmap(
        lambda item: st.builds(ThriftList, st.just(item), st.lists(items[item], max_size=20))
    )
    return st.tuples(st.just(kind), one)


def maps() -> st.SearchStrategy[tuple[int, object]]:
    pairs = st.lists(st.tuples(SCALARS[BINARY], SCALARS[I64]), max_size=4)
    return st.tuples(st.just(MAP), pairs.map(lambda p: ThriftMap(BINARY, I64, p) if p else ThriftMap(0, 0, [])))


@given(structs(2))
def test_any_struct_survives_a_round_trip(fields: dict[int, tuple[int, object]]) -> None:
    raw = encode_struct(fields)
    assert decode_struct(raw + b"more") == (normal(fields), len(raw))


def normal(fields: dict[int, tuple[int, object]]) -> dict[int, tuple[int, object]]:
    """A struct's boolean has the type code of its value."""

    def value(kind: int, v: object) -> tuple[int, object]:
        if kind == TRUE:
            return (1 if v else 2), v
        if kind == STRUCT:
            return kind, normal(v)  # type: ignore[arg-type]
        if isinstance(v, ThriftList) and v.kind == STRUCT:
            return kind, ThriftList(STRUCT, [normal(i) for i in v.items])
        return kind, v

    return {k: value(*v) for k, v in fields.items()}


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    try:
        _, length = decode_struct(raw)
    except ThriftError:
        return
    assert length <= len(raw)


def test_deep_nesting_is_refused_without_exhausting_the_stack() -> None:
    with pytest.raises(ThriftError, match="nested too deeply"):
        decode_struct(bytes([0x1C]) * 100_000)
    with pytest.raises(ThriftError):
        decode_struct(bytes([0x19, 0x19]) * 100_000)
