"""CSV and NDJSON in blocks read as the whole file does, wherever the blocks' borders fall."""

from __future__ import annotations

import gzip
import io
import random
import uuid
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lazypipe.errors import SourceError
from lazypipe.storage.external import blocks as external_text
from lazypipe.storage.external.blocks import Csv, Ndjson
from lazypipe.storage.external.scan import external_schema, scan_external


def memory(data: bytes) -> str:
    uri = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe(uri, data)
    return uri


def zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return bytes(out.getvalue())


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_text, "_FIRST_BLOCK", 64)
    monkeypatch.setattr(external_text, "_BLOCK", 100)


CELLS = st.text(st.sampled_from(list("ab \",;\n\r'#é.0")), max_size=12)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "separator": st.sampled_from([";", "\t", "|"]),
        "has_header": st.just(False),
        "null_values": st.sampled_from(["a", ["b", "ab"]]),
        "quote_char": st.just("'"),
        "encoding": st.just("utf8-lossy"),
    },
)


@given(data=st.data())
def test_random_csv_reads_as_the_native_scan_reads_it(data: st.DataObject, tiny_blocks: None) -> None:
    width = data.draw(st.integers(2, 4))
    rows = data.draw(st.lists(st.lists(st.none() | CELLS, min_size=width, max_size=width), min_size=1, max_size=60))
    options = data.draw(OPTIONS)
    frame = pl.DataFrame(rows, schema={f"c{k}": pl.String for k in range(width)}, orient="row")
    raw = frame.write_csv(
        separator=options.get("separator", ","),
        quote_char=options.get("quote_char", '"'),
        include_header=options.get("has_header", True),
        line_terminator=data.draw(st.sampled_from(["\n", "\r\n"])),
        quote_style=data.draw(st.sampled_from(["necessary", "always", "non_numeric"])),
    ).encode()
    if data.draw(st.booleans()):
        raw = raw.rstrip(b"\n")  # the last row without a newline
    names = frame.columns if options.get("has_header", True) else [f"column_{k + 1}" for k in range(width)]
    schema = pl.Schema(dict.fromkeys(names, pl.String))
    native = pl.scan_csv(raw, schema=schema, **options)
    ours = scan_external([memory(raw)], format="csv", schema=schema, read_options=options)
    try:
        expected = native.collect()
    except pl.exceptions.PolarsError:
        with pytest.raises(SourceError):
            ours.collect()
        return
    assert_frame_equal(ours.collect(), expected)
    assert ours.select(pl.len()).collect().item() == expected.height
    part = data.draw(st.integers(0, 30)), data.draw(st.integers(0, 30))
    assert_frame_equal(ours.slice(*part).select(names[-1]).collect(), expected.slice(*part).select(names[-1]))


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "types": ("a,b,c\n" + "".join(f"{k},{k / 7},x{k}\n" for k in range(500)), {}),
    "nulls": ("a,b\n" + "1,\n,x\nNA,NA\n" * 200, {"null_values": ["NA"]}),
    "nulls by column": ("a,b\n" + "1,\n,x\n-,NA\n" * 200, {"null_values": {"a": "-", "b": "NA"}}),
    "dates": ("d,t\n" + "2024-01-02,2024-01-02 03:04:05\n" * 300, {"try_parse_dates": True}),
    "german": ("a;b\n" + "1,5;x\n" * 300, {"separator": ";", "decimal_comma": True}),
    "overrides": ("a,b\n" + "1,2\n" * 300, {"schema_overrides": {"a": pl.Float32, "b": pl.String}}),
    "comments": ("#x\na,b\n" + "# it's \"5\n1,2\n" * 300 + "# end", {"comment_prefix": "#"}),
    "long comments": ("//\na,b\n" + '// "\n1,"x\n//y\n"\n' * 300, {"comment_prefix": "//"}),
    "skipped rows": ("junk\nmore,junk,here\na,b\n" + "1,2\n" * 300, {"skip_rows": 2}),
    "many skipped rows": ("junk\n" * 2000 + "a,b\n" + "1,2\n" * 300, {"skip_rows": 2000}),
    "no header": ("1,x\n" * 300, {"has_header": False}),
    "no quotes": ('a,b\n1,5"\n2,"6\n' * 200, {"quote_char": None}),
    "one column with empty rows": ("a\n1\n\n\n2\n" * 200, {}),
    "one quoted column": ('a\n"x\n\ny"\n\n""\n' * 200, {}),
    "windows": ("a,b\r\n" + '1,"x\r\ny"\r\n' * 300, {}),
    "byte order mark": ("\ufeffa,b\n" + "1,2\n" * 300, {}),
    "only a header": ("a,b\n", {}),
    "header without newline": ("a,b", {}),
    "same name twice": ("a,a\n" + "1,2\n" * 300, {}),
    "multibyte": ("ä,b\n" + "éé,日本\n" * 300, {}),
    "long rows": ("a,b\n" + f'1,"{"y" * 5000}\n"\n' * 20, {}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("wrap", [bytes, gzip.compress, zstd])
def test_csv_options(name: str, wrap: Any, tiny_blocks: None, tmp_path: Path) -> None:
    text, options = CASES[name]
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    native = pl.scan_csv(path, **options)
    uri = memory(wrap(text.encode()))
    ours = scan_external([uri], format="csv", read_options=options)
    assert external_schema(uri, format="csv", read_options=options) == native.collect_schema()
    assert_frame_equal(ours.collect(), native.collect())
    assert_frame_equal(ours.slice(90, 30).collect(), native.slice(90, 30).collect())
    last = native.collect_schema().names()[-1]
    assert_frame_equal(ours.select(last).collect(), native.select(last).collect())
    assert ours.select(pl.len()).collect().item() == native.select(pl.len()).collect().item()


def test_a_file_of_several_full_blocks() -> None:
    random.seed(1)
    line = "line, one\n"
    rows = [f'{k},"{line * random.randrange(30)}""x""",{random.random()}\n' for k in range(200_000)]
    raw = ("id,text,value\n" + "".join(rows)).encode()
    assert len(raw) > 3 * external_text._BLOCK
    expected = pl.read_csv(raw)
    for data in (raw, gzip.compress(raw, 1)):
        ours = scan_external([memory(data)], format="csv")
        assert_frame_equal(ours.collect(), expected)
        assert_frame_equal(ours.tail(3).collect(), expected.tail(3))


def test_ndjson(tiny_blocks: None, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "a": range(300),
            "b": ['x\n"y"', None, "é"] * 100,
            "c": [[{"p": 1, "q": [1.5]}], None, []] * 100,
        }
    )
    path = tmp_path / "a.ndjson"
    frame.write_ndjson(path)
    raw = path.read_bytes()
    for data in (raw, raw.rstrip(b"\n"), gzip.compress(raw), zstd(raw)):
        ours = scan_external([memory(data)], format="ndjson")
        assert_frame_equal(ours.collect(), pl.read_ndjson(path))
        assert_frame_equal(ours.select("c").slice(150, 5).collect(), pl.read_ndjson(path).select("c").slice(150, 5))
    typed = scan_external([memory(raw)], format="ndjson", read_options={"schema_overrides": {"a": pl.Float64}})
    assert typed.collect_schema()["a"] == pl.Float64


def test_a_declared_schema_gives_the_types_and_without_a_header_the_names() -> None:
    schema = pl.Schema({"a": pl.Float64, "b": pl.Date})
    headless = {"has_header": False}
    named = scan_external([memory(b"1,2024-01-02\n")], format="csv", schema=schema, read_options=headless).collect()
    assert (named.schema, named.row(0)[0]) == (schema, 1.0)
    swapped = scan_external([memory(b"b,a\n2024-01-02,1\n")], format="csv", schema=schema).collect()
    assert_frame_equal(swapped, named)
    with pytest.raises(SourceError, match="the file lacks column 'a'"):
        scan_external([memory(b"1,2,3\n")], format="csv", schema=schema, read_options=headless).collect()


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"a,b\n" + b"1,2\n" * 3000 + b"1,2,3\n", "more fields"),
        (b"a,b\n" + b"1,2\n" * 3000 + b"x,2\n", "could not parse `x`"),
        (gzip.compress(random.Random(1).randbytes(5000).hex().encode())[:-500], "end-of-stream"),
        (b"\x1f\x8b and no more", ""),
        (b"\x28\xb5\x2f\xfd and no more", ""),
    ],
)
def test_faults_far_into_a_file_are_found_and_named(raw: bytes, why: str, tiny_blocks: None) -> None:
    uri = memory(raw)
    with pytest.raises(SourceError) as failed:
        scan_external([uri], format="csv").collect()
    assert failed.value.uri == uri
    assert why in str(failed.value)


def test_a_limit_ends_before_a_later_fault(tiny_blocks: None) -> None:
    uri = memory(b"a,b\n" + b"1,2\n" * 3000 + b"x,2\n")
    assert scan_external([uri], format="csv").head(5).collect().height == 5


def test_an_open_quote_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch, tiny_blocks: None) -> None:
    monkeypatch.setattr(external_text, "LONGEST_ROW", 1 << 20)
    for raw in (b'a,b\n1,"x\n' + b"1,2\n" * 10**6, b"a,b\n" + b"1,2\n" * 500 + b'1,"x\n' + b"1,2\n" * 10**6):
        uri = memory(raw)
        with pytest.raises(SourceError, match="is a quote left open") as failed:
            scan_external([uri], format="csv", schema=pl.Schema({"a": pl.Int64, "b": pl.String})).collect()
        assert failed.value.uri == uri


@pytest.mark.parametrize(
    ("options", "block", "end"),
    [
        ({}, b"1\n2", 2),
        ({}, b"1", 0),
        ({}, b'"1\n', 0),
        ({}, b'1\n"2\n', 2),
        ({}, b'1\n"2\n"\n3', 7),
        ({}, b'"a""\n"\nx', 7),
        ({"quote_char": None}, b'"1\n', 3),
        ({"quote_char": "'"}, b"'1\n", 0),
        ({"comment_prefix": "#"}, b'#"\n1\n"\n', 5),
        ({"comment_prefix": "#"}, b'"\n#"\n1', 5),
    ],
)
def test_blocks_end_between_rows(options: dict[str, Any], block: bytes, end: int) -> None:
    assert Csv(options).row_end(block) == end


def test_json_lines_end_at_newlines() -> None:
    assert Ndjson({}).row_end(b'{"a": "\\n"}\n{') == 12
    assert Ndjson({}).row_end(b"{") == 0


def test_a_stream_that_returns_little_at_a_time_is_read_whole() -> None:
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self.data = io.BytesIO(b"a\n" + b"1\n" * 100)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            piece = self.data.read(min(3, len(buffer)))
            buffer[: len(piece)] = piece
            return len(piece)

    stream = external_text.open_text(Slow())  # type: ignore[arg-type]
    blocks = external_text.TextBlocks(Csv({}), stream, lambda: stream, None)
    assert blocks.rows() == 100
