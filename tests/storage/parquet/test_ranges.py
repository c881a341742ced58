"""Footers decode, encode back to the same bytes, and cut files that Polars reads as the original."""

from __future__ import annotations

import functools
import io
import itertools
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.storage.parquet.ranges import TRAILER, Footer, ParquetError, footer_length
from lazypipe.storage.parquet.thrift import BINARY, I64, LIST, STRUCT, ThriftList, decode_struct, encode_struct

FRAME = pl.DataFrame(
    {
        "number": [1, None, 3, 4],
        "nested": [[{"x": 1, "y": "a"}], None, [], [{"x": None, "y": None}]],
        "kind": pl.Series(["x", "y", "x", None], dtype=pl.Enum(["x", "y"])),
        "record": [{"p": 1.5, "q": [1, 2]}, {"p": None, "q": None}, None, {"p": 0.0, "q": []}],
        "text": ["a", "b", None, "d"],
        "took": pl.Series([1, 2, None, 4], dtype=pl.Duration("ms")),
    }
)


def by_polars(frame: pl.DataFrame, rows: int = 2) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out, row_group_size=rows)
    return out.getvalue()


def by_pyarrow(frame: pl.DataFrame, rows: int = 2) -> bytes:
    # page index, bloom filters and sorting columns: all that a cut must leave out
    out = io.BytesIO()
    sorting = [pq.SortingColumn(0)]
    pq.write_table(frame.to_arrow(), out, row_group_size=rows, write_page_index=True, sorting_columns=sorting)
    return out.getvalue()


def footer_bytes(data: bytes) -> bytes:
    return data[-TRAILER - footer_length(data) : -TRAILER]


@functools.cache
def parse(data: bytes) -> Footer:
    raw = footer_bytes(data)
    return Footer(raw, data_end=len(data) - TRAILER - len(raw))


def cut(data: bytes, groups: list[int], columns: list[str]) -> pl.DataFrame:
    footer = parse(data)
    chunks = [data[r.start : r.start + r.length] for g in groups for r in footer.ranges(g, columns)]
    return pl.read_parquet(footer.mini_file(groups, columns, chunks))


@pytest.mark.parametrize("write", [by_polars, by_pyarrow])
def test_a_footer_encodes_to_its_own_bytes(write) -> None:
    raw = footer_bytes(write(FRAME))
    fields, length = decode_struct(raw)
    assert length == len(raw)
    assert encode_struct(fields) == raw


@pytest.mark.parametrize("write", [by_polars, by_pyarrow])
def test_every_set_of_columns_of_every_set_of_row_groups_is_cut_out(write) -> None:
    data = write(FRAME)
    assert parse(data).group_rows == [2, 2]
    for n in range(1, len(FRAME.columns) + 1):
        for columns in itertools.combinations(FRAME.columns, n):
            for groups, rows in (([0, 1], FRAME), ([0], FRAME[:2]), ([1], FRAME[2:]), ([], FRAME[:0])):
                got = cut(data, groups, list(columns))
                assert got.equals(rows.select(columns)), (columns, groups)
                assert got.schema == FRAME.select(columns).schema


def test_a_cut_is_itself_a_sound_parquet_file_for_other_readers() -> None:
    data = by_pyarrow(FRAME)
    footer = parse(data)
    columns = ["text", "nested"]
    chunks = [data[r.start : r.start + r.length] for r in footer.ranges(1, columns)]
    assert len(chunks) == 3
    mini = footer.mini_file([1], columns, chunks)
    table = pq.read_table(io.BytesIO(mini))
    assert table.to_pylist() == FRAME[2:].select("nested", "text").to_dicts()
    group = pq.read_metadata(io.BytesIO(mini)).row_group(0)
    assert not any(group.column(i).has_offset_index or group.column(i).has_column_index for i in range(3))
    assert group.sorting_columns == ()


def test_unknown_fields_are_carried_along() -> None:
    data = by_polars(FRAME)
    fields, _ = decode_struct(footer_bytes(data))
    fields[99] = (BINARY, b"tomorrow's field")
    fields[4][1].items[0][77] = (STRUCT, {1: (I64, 5)})
    raw = encode_struct(fields)
    footer = Footer(raw, data_end=len(data))
    chunks = [data[r.start : r.start + r.length] for r in footer.ranges(0, ["text"])]
    mini = footer.mini_file([0], ["text"], chunks)
    kept, _ = decode_struct(footer_bytes(mini))
    assert kept[99] == fields[99]
    assert kept[4][1].items[0][77] == fields[4][1].items[0][77]
    assert pl.read_parquet(mini).equals(FRAME[:2].select("text"))


def test_statistics_are_those_of_the_file() -> None:
    footer = parse(by_polars(FRAME))
    number = footer.statistics(0, "number")
    assert number is not None
    assert (number.low, number.high, number.nulls, number.values) == (
        (1).to_bytes(8, "little"), (1).to_bytes(8, "little"), 1, 2
    )  # fmt: skip
    assert footer.statistics(0, "nested") is None
    assert footer.statistics(0, "record") is None


def test_statistics_without_a_declared_order_have_no_bounds() -> None:
    fields, _ = decode_struct(footer_bytes(by_polars(FRAME)))
    del fields[7]
    got = Footer(encode_struct(fields), data_end=10**6).statistics(0, "number")
    assert got is not None
    assert (got.low, got.high, got.nulls) == (None, None, 1)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(ParquetError):
        Footer(raw, data_end=10**9)


@given(st.data())
def test_a_damaged_footer_is_refused_or_reads_within_the_file(data: st.DataObject) -> None:
    raw = bytearray(FOOTER)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        footer = Footer(bytes(raw), data_end=DATA_END)
        for group in range(len(footer.group_rows)):
            for item in footer.ranges(group, footer.columns):
                assert item.start >= 4
                assert item.length >= 0
                assert item.start + item.length <= DATA_END
            for name in footer.columns:
                footer.statistics(group, name)
        footer.mini_file([], footer.columns, [])
    except ParquetError:
        pass


FOOTER = footer_bytes(by_polars(FRAME))
DATA_END = len(by_polars(FRAME)) - TRAILER - len(FOOTER)


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        (b"", "truncated"),
        (b"PAR1", "truncated"),
        (b"\x10\x00\x00\x00PAR2", "not Parquet"),
        (b"\x10\x00\x00\x00PARE", "encrypted"),
    ],
)
def test_a_tail_that_is_not_parquet_says_why(tail: bytes, why: str) -> None:
    with pytest.raises(ParquetError, match=why):
        footer_length(tail)


def test_chunks_outside_the_file_and_row_counts_that_disagree_are_refused() -> None:
    with pytest.raises(ParquetError, match="outside the file's data"):
        Footer(FOOTER, data_end=50).ranges(1, ["text"])
    fields, _ = decode_struct(FOOTER)
    fields[3] = (I64, 5)
    with pytest.raises(ParquetError, match="the row groups have 4 rows, the file says 5"):
        Footer(encode_struct(fields), data_end=DATA_END)


def test_a_file_without_columns_or_rows_is_read() -> None:
    empty = by_polars(pl.DataFrame(schema={"a": pl.Int64}))
    assert cut(empty, list(range(len(parse(empty).group_rows))), ["a"]).equals(pl.DataFrame(schema={"a": pl.Int64}))
    out = io.BytesIO()
    pq.write_table(pa.table({}), out)
    assert parse(out.getvalue()).columns == []


def change(damage: Any) -> bytes:
    fields, _ = decode_struct(FOOTER)
    damage(fields)
    return encode_struct(fields)


def chunk(fields: Any) -> Any:
    return fields[4][1].items[0][1][1].items[0]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda f: f.update({8: (STRUCT, {})}), "encrypted"),
        (lambda f: f.pop(3), "lacks the number of rows"),
        (lambda f: f.update({3: (I64, -1)}), "negative number"),
        (lambda f: f.update({4: (LIST, ThriftList(I64, [1]))}), "lacks the row groups"),
        (lambda f: f[2][1].items.pop(), "the schema ends early"),
        (lambda f: f[2][1].items.append({4: (BINARY, b"stray")}), "belong to no column"),
        (lambda f: f[2][1].items[-1].update({4: (BINARY, b"text")}), "two columns are named 'text'"),
        (lambda f: f[4][1].items[0][1][1].items.pop(), "not one chunk for each column"),
        (lambda f: chunk(f).update({1: (BINARY, b"elsewhere")}), "lies in another file"),
        (lambda f: chunk(f).pop(3), "lacks the metadata"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_footer_is_said(damage: Any, why: str) -> None:
    with pytest.raises(ParquetError, match=why):
        Footer(change(damage), data_end=DATA_END).ranges(0, ["number"])


def test_a_cut_needs_the_bytes_of_every_chunk() -> None:
    with pytest.raises(ValueError, match="0 chunks given for 1 row groups of 1 leaf columns"):
        Footer(FOOTER, data_end=DATA_END).mini_file([0], ["text"], [])
