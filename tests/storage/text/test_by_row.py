"""Rows that cannot be read, told apart from those that can: by Python's own readers, and by what Polars takes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import uuid
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.errors import SourceError
from lazypipe.storage.external.blocks import Csv
from lazypipe.storage.files import FileInfo
from lazypipe.storage.scan import Reader
from lazypipe.storage.text import by_row
from lazypipe.storage.text.by_row import COLUMNS, LINE, TEXT, WHY, CsvRows, NdjsonRows, row_format

TWO = pl.Schema({"a": pl.String(), "b": pl.String()})
TOLD = pl.Schema({**COLUMNS, **TWO})


def put(content: bytes, ending: str = "csv") -> FileInfo:
    uri = f"memory://{uuid.uuid4().hex}.{ending}"
    fsspec.filesystem("memory").pipe_file(uri, content)
    return FileInfo(uri, len(content))


def read(content: bytes, kind: str = "csv", **options: Any) -> list[tuple[Any, ...]]:
    return Reader(kind, read=options).scan([put(content, kind)], TOLD).collect(engine="streaming").rows()


@given(st.lists(st.sampled_from(['"', '"', ",", "a", " ", "\r", "é"]), max_size=9).map("".join))
def test_a_row_of_csv_is_broken_where_polars_stops(row: str) -> None:
    rows = row.encode()
    taken = io.BytesIO(b",\n" + rows + b"\n")  # Polars takes the first row for as wide as all others
    try:
        found = pl.scan_csv(taken.getvalue(), schema=TWO, has_header=False).collect()
    except pl.exceptions.PolarsError:
        assert CsvRows({}).why(rows, 2) is not None
        return
    lacks = found.height == 2 and found["b"].has_nulls() and CsvRows({}).why(rows, 1) is None
    # short rows are ours to tell: Polars fills them up
    assert CsvRows({}).why(rows, 2) is None or lacks or not row.strip()


@given(st.lists(st.sampled_from([*'{}[]",:\\ax1.-e \t\x00\r', "null", "NaN", '{"a":1}', "\\u00e9", "1e999"]), max_size=9).map("".join))  # fmt: skip
def test_no_line_of_ndjson_that_polars_takes_is_broken(line: str) -> None:
    row = line.encode()
    try:
        found = pl.scan_ndjson(io.BytesIO(row + b"\n"), schema=TWO).collect()
    except pl.exceptions.PolarsError:
        return
    assert not row.strip() or found.height == 1
    assert not row.strip() or NdjsonRows().why(row, 2) is None


CELL = st.text(st.sampled_from([*'ab1 é"\r\n', ","]), max_size=5)


def written(cells: list[str], end: str) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerow(cells)
    return text.getvalue()


@st.composite
def csv_files(draw: st.DrawFn) -> tuple[str, list[tuple[Any, ...]]]:
    """Draw the text behind the header, and its rows as they are to be told."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text, rows, line = "", [], 2
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["sound", "sound", "short", "long", "behind", "blank"]))
        if kind == "sound":
            cells = draw(st.lists(CELL, min_size=2, max_size=2))
            piece = written(cells, end)
            rows.append((None, None, None, *cells))
        else:
            short, why = {
                "short": ("x", "it has 1 of 2 fields"),
                "long": ('x,"y\ny",z', "it has 3 of 2 fields"),
                "behind": ('x,"y"y', "there is text after the quote that closes a field"),
                "blank": ("", "it has 0 of 2 fields"),
            }[kind]
            piece = short + end
            rows.append((str(line), short, why, None, None))
        line += piece.count("\n")
        text += piece
    return text, rows


@given(csv_files(), st.integers(1, 40), st.booleans())
def test_rows_of_csv_are_told_in_order(drawn: tuple[str, list[tuple[Any, ...]]], block: int, cut: bool) -> None:
    text, rows = drawn
    content = ("a,b\n" + text).encode()
    content = content.rstrip(b"\r\n") + b"\n" if cut and rows and rows[-1][1] != "" else content
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_row, "_BLOCK", block if block > 4 else 1 << 20)
        found = read(content)
    assert found == rows


@given(csv_files(), csv_files())
def test_parts_have_the_rows_and_lines_of_the_whole(first: Any, second: Any) -> None:
    head, tail = ("a,b\n" + first[0]).encode(), second[0].encode()
    file = put(head + tail)
    reader = Reader("csv", by_row=True)
    part = file._replace(start=len(head), end=len(head) + len(tail))
    whole = reader.scan([file], TOLD).collect(engine="streaming").rows()
    if tail:
        assert reader.scan([part], TOLD).collect(engine="streaming").rows() == whole[len(first[1]) :]


LINES = st.sampled_from(
    ['{"a": "1", "b": "x"}', '{"b": "é"}', "", "  ", "{", "[1]", "7", '{"a": NaN}', '{"a": 1} {', '{"a": 1e999}']
)


@given(st.lists(LINES, max_size=12), st.integers(5, 60), st.sampled_from(["\n", "\r\n"]))
def test_lines_of_ndjson_are_told_in_order(lines: list[str], block: int, end: str) -> None:
    wanted = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line, parse_constant=lambda _: 1 / 0, parse_float=lambda _: 1 / 0)
        except (ValueError, ZeroDivisionError):
            value = None
        if line.strip():
            sound = isinstance(value, dict)
            wanted.append((None, value.get("a"), value.get("b")) if sound else ((str(number), line), None, None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_row, "_BLOCK", block)
        content = "".join(line + end for line in lines).encode()
        found = read(content, "ndjson") if content else []
    assert [(None if r[0] is None else r[:2], *r[3:]) for r in found] == wanted
    assert all((r[0] is None) == (r[2] is None) for r in found)


def test_a_quote_that_is_never_closed_costs_its_own_line() -> None:
    text = b'a,b\n1,"x\n2,y\n3,"two\nlines"\n4,"z\n5,"ok"\n6,\xe9\n7,"x\n'
    assert read(text) == [
        ("2", '1,"x', "a quote is not closed", None, None),
        (None, None, None, "2", "y"),
        (None, None, None, "3", "two\nlines"),
        ("6", '4,"z', "a quote is not closed", None, None),
        (None, None, None, "5", "ok"),
        ("8", "6,\\xe9", "it is not UTF-8", None, None),
        ("9", '7,"x', "a quote is not closed", None, None),
    ]


def test_reading_options() -> None:
    text = b"skipped\na;b\n# no 'row\n1;'x;y'\n2;'x\n# row'\n3;4;5\n# end\n"
    found = read(text, separator=";", quote="'", comment="#", skip_rows=1)
    assert found == [
        (None, None, None, "1", "x;y"),
        (None, None, None, "2", "x\n# row"),
        ("7", "3;4;5", "it has 3 of 2 fields", None, None),
    ]
    found = read(b'1,"x\n2\n# 3\n', quote="", comment="#", header=False)
    assert found == [(None, None, None, "1", '"x'), ("2", "2", "it has 1 of 2 fields", None, None)]
    assert read(b"b,a\n1,2\n3\n") == [(None, None, None, "2", "1"), ("3", "3", "it has 1 of 2 fields", None, None)]


@pytest.mark.parametrize("pack", ["plain", "gz", "zst"])
def test_packed_files(tmp_path: Path, pack: str) -> None:
    text = b"a,b\r\n1,2\r\n3\r\n4,5"
    path = tmp_path / f"x.csv.{pack}"
    content = {"gz": gzip.compress, "plain": bytes}.get(pack, lambda data: data)(text)
    path.write_bytes(content)
    if pack == "zst":
        pl.DataFrame({"a,b": ["1,2", "3", "4,5"]}).lazy().sink_csv(path, quote_style="never", compression="zstd")
    found = Reader("csv").scan([FileInfo(str(path), path.stat().st_size)], TOLD).collect().rows()
    assert found == [
        (None, None, None, "1", "2"),
        ("3", "3", "it has 1 of 2 fields", None, None),
        (None, None, None, "4", "5"),
    ]


@pytest.mark.parametrize("block", [8 << 20, 14])
def test_rows_over_several_lines_in_zstd_are_refused_for_what_ends_a_line_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(by_row, "_BLOCK", block)
    path = tmp_path / "x.csv.zst"
    pl.DataFrame({"a,b": ['1,"x', 'y"', "3"]}).lazy().sink_csv(path, quote_style="never", compression="zstd")
    with pytest.raises(SourceError, match="goes over several lines, and it is compressed with zstd"):
        Reader("csv").scan([FileInfo(str(path), path.stat().st_size)], TOLD).collect()


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", "csv", "the file is empty"),
        (b"\x78\x9cabc", "csv", "compressed in a way that is not read by row"),
        (b"\xff\xfe\n\xff\n", "ndjson", "no row of it can be read, and it is not UTF-8 text"),
        (b'a,"b', "csv", "its header does not end"),
        (gzip.compress(b"a,b\n1\n" * 99, mtime=0)[:-9], "csv", "Compressed file ended"),
    ],
    ids=["no bytes", "zlib", "no text", "no end of the header", "truncated"],
)
def test_what_cannot_be_read_by_row(content: bytes, kind: str, message: str) -> None:
    file = put(content, kind)
    assert Reader(kind).has_broken_rows(file, TWO) == (kind == "ndjson")  # where the rest is not known yet
    with pytest.raises(SourceError, match=message):
        Reader(kind).scan([file], TOLD).collect(engine="streaming")


def test_projections_slices_and_row_numbers() -> None:
    file = put(b"a,b\n1,2\n3\n4,5\n6,7,8\n9,0\n")
    scan = Reader("csv").scan([file], TOLD)
    assert scan.select(pl.len()).collect(engine="streaming").item() == 5
    assert scan.with_row_index().filter(pl.col(WHY).is_not_null()).select("index", LINE).collect().rows() == [
        (1, "3"),
        (3, "5"),
    ]
    assert scan.slice(1, 2).select("a").collect().rows() == [(None,), ("4",)]
    assert scan.select(TEXT).head(2).collect().rows() == [(None,), ("3",)]
    typed = Reader("csv").scan([file], pl.Schema({**COLUMNS, "a": pl.Int64(), "b": pl.Int8()}))
    assert typed.select("b").sum().collect().item() == 7


def test_a_cell_of_another_type_is_not_a_broken_row() -> None:
    file = put(b"a,b\n1,2\n3\nx,5\n")
    schema = pl.Schema({**COLUMNS, "a": pl.Int64(), "b": pl.Int64()})
    assert Reader("csv").has_broken_rows(file, schema)
    with pytest.raises(SourceError, match="could not parse `x`"):
        Reader("csv").scan([file], schema).collect(engine="streaming")


def test_a_quote_that_stays_open_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_row, "LONGEST_ROW", 1 << 10)
    monkeypatch.setattr(by_row, "_BLOCK", 1 << 8)
    rows = [f"{n},y\n" for n in range(2000)]
    found = read(('a,b\n0,"x\n' + "".join(rows)).encode())
    assert found[0] == ("2", '0,"x', "a quote is not closed", None, None)
    assert [r[3] for r in found[1:]] == [str(n) for n in range(2000)]
    with pytest.raises(SourceError, match="a line is longer than"):
        read(b'a,b\n0,"' + b"x" * 5000)


@given(st.lists(st.sampled_from(["1,2\n", '1,"x\ny"\n', '1,"x\n', '1,"y" z\n']), max_size=8), st.integers(0, 60))
def test_a_row_ends_where_what_follows_cannot_change_that(pieces: list[str], at: int) -> None:
    """What is read up to there, and then from there on, is what is read at once."""
    content = "".join(pieces).encode()
    form = row_format("csv", {})
    assert isinstance(form, Csv)
    end = form.row_end(content[:at])
    whole, _ = CsvRows({}).split(content, last=True)
    first, _ = CsvRows({}).split(content[:end], last=True)
    rest, _ = CsvRows({}).split(content[end:], last=True)
    lines = content[:end].count(b"\n")
    assert whole == [*first, *((n + lines, row) for n, row in rest)]


def test_a_row_over_many_lines_is_found_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_row, "_BLOCK", 64)
    monkeypatch.setattr(by_row, "_WINDOW", 16)
    long = "\n".join(f"line {n}" for n in range(50))
    text = f'a,b\n1,"{long}"\n2\n3,"{"x" * 500}"\n4,"y'
    assert read(text.encode()) == [
        (None, None, None, "1", long),
        ("52", "2", "it has 1 of 2 fields", None, None),
        (None, None, None, "3", "x" * 500),
        ("54", '4,"y', "a quote is not closed", None, None),
    ]
    assert read(f'{{"a": "{"x" * 300}"}}\n{{'.encode(), "ndjson") == [
        (None, None, None, "x" * 300, None),
        ("2", "{", "it is not JSON: Expecting property name enclosed in double quotes at character 2", None, None),
    ]


def test_a_long_comment_is_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_row, "_BLOCK", 64)
    text = f'a,b\n1,2\n#{"c" * 200}"\n3\n'
    assert read(text.encode(), comment="#") == [
        (None, None, None, "1", "2"),
        ("4", "3", "it has 1 of 2 fields", None, None),
    ]


def test_what_polars_alone_refuses_is_found_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NdjsonRows, "why", lambda *_: None)
    lines = [b'{"a": "%d"}\n' % n for n in range(40)]
    lines[7] = lines[31] = b"{\n"
    found = read(b"".join(lines), "ndjson")
    assert [(r[0], r[2]) for r in found if r[0]] == [("8", "it cannot be parsed"), ("32", "it cannot be parsed")]
    assert len(found) == 40


def test_what_python_cannot_judge_is_left_to_polars() -> None:
    deep = '{"a": ' * 3000 + "1" + "}" * 3000
    digits = '{"a": ' + "1" * 5000 + "}"
    judge = NdjsonRows()
    assert judge.why(deep.encode(), 1) is judge.why(digits.encode(), 1) is None


def test_an_open_quote_in_the_first_row_loses_nothing_in_silence() -> None:
    """Polars, asked for the rows behind the first, says nothing of a quote that is open."""
    file = put(b'a,b\n{"x\n' + b"".join(b'%d,"n, x"\n' % n for n in range(9)))
    part = file._replace(start=4, end=file.size)
    with pytest.raises(SourceError, match="malformed|could not parse"):
        Reader("csv").scan([part], TWO).collect(engine="streaming")
