"""Parts of text files: their rows are those of the file, wherever it is cut between rows, and whatever stands there."""

from __future__ import annotations

import uuid
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.errors import SourceError
from lazypipe.incremental.hashing import prefix_hasher
from lazypipe.storage.datasets.units import Units, as_uri
from lazypipe.storage.files import FileInfo, part_key
from lazypipe.storage.scan import FILE_COLUMN, Reader
from lazypipe.storage.text.lines import bad_line, refuse_short_rows

TWO = pl.Schema({"id": pl.String(), "k": pl.String()})
ONE = pl.Schema({"k": pl.String()})


def rows(reader: Reader, schema: pl.Schema, *files: FileInfo) -> list[Any]:
    return reader.scan(files, schema).collect(engine="streaming").rows()


def part(uri: str, content: bytes, start: int, end: int) -> FileInfo:
    return FileInfo(uri, len(content), None, start, end)


HEADS = ["id,k\n1,a\n", "id,k\n", "id,k\r\n1,\r\n"]
TAILS = [
    "\n2,b\n",
    "\n",
    "2,b\n\n",
    "# c\n2,b\n",
    "2,\n",
    "2",
    "  \n2,b\n",
    '2,"a""b"\n3,"cd"\n',
    ',\n,"\n"\n',
    "\r\n2,b\r\n",
]


@pytest.mark.parametrize(
    "read", [{}, {"comment": "#"}, {"header": False}, {"quote": "", "header": False, "skip_rows": 1}]
)
@pytest.mark.parametrize("head", HEADS)
def test_whatever_stands_at_the_cut(tmp_path: Path, read: dict[str, Any], head: str) -> None:
    reader = Reader("csv", read=read)
    before = tmp_path / "head.csv"
    before.write_bytes(head.encode())
    if "skip_rows" in read and head == HEADS[1]:
        return  # no row is left
    known = rows(reader, TWO, FileInfo(str(before), len(head)))
    for number, tail in enumerate(TAILS):
        path, content = tmp_path / f"{number}.csv", (head + tail).encode()
        path.write_bytes(content)
        whole = rows(reader, TWO, FileInfo(str(path), len(content)))
        parts = [part(str(path), content, 0, len(head)), part(str(path), content, len(head), len(content))]
        assert rows(reader, TWO, parts[1]) == whole[len(known) :]
        assert rows(reader, TWO, *parts) == whole


def test_a_column_alone(tmp_path: Path) -> None:
    for number, (head, tail) in enumerate([("k\n1\n", "\n2\n"), ("k\n", "\n"), ("k\n\n", "2\n\n")]):
        path, content = tmp_path / f"{number}.csv", (head + tail).encode()
        path.write_bytes(content)
        whole = rows(Reader("csv"), ONE, FileInfo(str(path), len(content)))
        parts = [part(str(path), content, 0, len(head)), part(str(path), content, len(head), len(content))]
        assert rows(Reader("csv"), ONE, *parts) == whole


CELLS = st.text(st.sampled_from('ab,"\n#;'), max_size=4)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), st.sampled_from([",", ";"]))
def test_every_end_of_a_row_that_is_found_is_one(lines: list[tuple[str, str]], separator: str) -> None:
    text = pl.DataFrame(lines, schema=TWO, orient="row").write_csv(separator=separator, quote_style="always")
    content, uri = text.encode(), f"memory://{uuid.uuid4().hex}.csv"
    fsspec.filesystem("memory").pipe_file(uri, content)
    reader = Reader("csv", read={"separator": separator})
    whole = rows(reader, TWO, FileInfo(uri, len(content)))
    prefix = prefix_hasher("csv", reader.csv_options)
    ends = [n for n in range(1, len(content)) if (p := prefix(FileInfo(uri, len(content)), n)) and p.ends]
    assert len(ends) == len(lines)  # behind the header, and behind all rows but the last
    for number, end in enumerate(ends):
        assert rows(reader, TWO, part(uri, content, end, len(content))) == whole[number:]
        assert rows(reader, TWO, part(uri, content, 0, end)) == whole[:number]


def test_long_headers_and_files_that_are_not_read_by_position(tmp_path: Path) -> None:
    names = [f"{'x' * 40}{n}" for n in range(300)]
    schema = pl.Schema(dict.fromkeys(reversed(names), pl.Int64()))
    head, tail = ",".join(names) + "\n" + ",".join("1" * 300) + "\n", ",".join("2" * 300) + "\n"
    content = (head + tail).encode()
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    for uri in (str(path), f"zip://a.csv::{tmp_path}/x.zip"):
        found = Reader("csv").scan([part(uri, content, len(head), len(content))], schema, file_column=True).collect()
        assert found.drop(FILE_COLUMN).rows() == [(2,) * 300]
        assert found.columns[:-1] == schema.names()
        assert found.select(as_uri(pl.col(FILE_COLUMN))).item() == uri


def test_ndjson_and_what_is_shown(tmp_path: Path) -> None:
    content = b'{"id": "1", "k": "a\\n"}\n{"k": "b"}\n'
    path = tmp_path / "a.ndjson"
    path.write_bytes(content)
    start = content.index(b"\n") + 1
    tail = part(str(path), content, start, len(content))
    assert rows(Reader("ndjson"), TWO, tail) == [(None, "b")]
    assert f"{start}-{len(content)}" in Reader("ndjson").scan([tail], TWO).explain()


def test_a_file_that_is_shorter_by_now_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,k\n1,a\n")
    with pytest.raises(SourceError, match="a.csv: the file ends 3 bytes early"):
        rows(Reader("csv"), TWO, FileInfo(str(path), 12, None, 5, 12))


def test_rows_of_parts_are_named_by_their_lines_in_the_file(tmp_path: Path) -> None:
    path, content = tmp_path / "a.csv", b'id,k\n1,"a\n"\n2,b\n3\n4,x\n'
    path.write_bytes(content)
    tail = part(str(path), content, 12, len(content))
    with pytest.raises(SourceError, match=r"line 5 has 1 of 2 fields"):
        refuse_short_rows([tail], Reader("csv"), TWO, nulls=True)
    numbers = pl.Schema({"id": pl.Int64(), "k": pl.Int64()})
    assert bad_line(tail, Reader("csv"), numbers) == 4
    assert bad_line(part(str(path), content, 0, 12), Reader("csv"), numbers) == 2


def test_units_choose_parts() -> None:
    files = [FileInfo("a", 9), FileInfo("b", 9), FileInfo("c", 9)]
    units = Units({"c": 1, part_key("b", 4, 9): 2, part_key("b", 0, 4): 3})
    assert units.select(files) == (FileInfo("b", 9, None, 4, 9), FileInfo("b", 9, None, 0, 4), FileInfo("c", 9))
    assert [f.key for f in units.select(files)] == [part_key("b", 4, 9), part_key("b", 0, 4), "c"]
    assert [f.length for f in units.select(files)] == [5, 4, 9]
