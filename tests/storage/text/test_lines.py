"""Short rows, which Polars fills in silence, and the line at which a text file cannot be read."""

from __future__ import annotations

import csv
import gzip
import io
import threading
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.errors import SourceError
from lazypipe.storage.files import FileInfo
from lazypipe.storage.scan import Reader
from lazypipe.storage.text.lines import bad_line, refuse_short_rows

SCHEMA = pl.Schema({"x": pl.Int64(), "s": pl.String(), "z": pl.Int64()})


@pytest.fixture
def root(somewhere: str) -> str:
    return somewhere


def put(root: str, text: str | bytes, name: str = "x.csv") -> FileInfo:
    data = text.encode() if isinstance(text, str) else text
    fs, path = fsspec.core.url_to_fs(f"{root}/{name}")
    fs.pipe_file(path, data)
    return FileInfo(f"{root}/{name}", len(data))


def zst(text: str, folder: Path) -> bytes:
    """Compress with Polars, the only one here who can."""
    lines = pl.LazyFrame({text.split("\n", maxsplit=1)[0]: text.split("\n")[1:-1]})
    lines.sink_csv(folder / "z.csv.zst", quote_style="never", compression="zstd")
    return (folder / "z.csv.zst").read_bytes()


SHORT = {
    "in the middle": ("x,s,z\n1,a,2\n3,b\n4,c,5\n", 3, 2),
    "at the end": ("x,s,z\n1,a,2\n3,b\n", 3, 2),
    "at the end without a newline": ("x,s,z\n1,a,2\n3,b", 3, 2),
    "one field": ("x,s,z\n1\n", 2, 1),
    "blank line": ("x,s,z\n1,a,2\n\n3,b,4\n", 3, 0),
    "blank last line": ("x,s,z\n1,a,2\n\n", 3, 0),
    "spaces only": ("x,s,z\n1,a,2\n   \n", 3, 0),
    "a separator in quotes": ('x,s,z\n1,"a,b",2\n3,"c,d"\n', 3, 2),
    "many separators in quotes": ('x,s,z\n3,",,,,"\n', 2, 2),
    "doubled quotes": ('x,s,z\n1,"a "",""",2\n3,"c "",""\n"\n', 3, 2),
    "after a line break in quotes": ('x,s,z\n1,"a\nb\nc",2\n3,b\n', 5, 2),
    "with a line break in quotes": ('x,s,z\n1,a,2\n3,"b\n,c"\n4,d,5\n', 3, 2),
    "windows": ("x,s,z\r\n1,a,2\r\n3,b\r\n", 3, 2),
    "nulls before it": ("x,s,z\n1,a,\n,,\n3,b\n", 4, 2),
}


@pytest.mark.parametrize("case", SHORT)
def test_a_short_row_is_found_with_its_line(root: str, case: str) -> None:
    text, line, fields = SHORT[case]
    good = put(root, "x,s,z\n1,a,2\n", "good.csv")
    bad = put(root, text)
    with pytest.raises(SourceError, match=f"line {line} has {fields} of 3 fields") as caught:
        refuse_short_rows([good, bad, good], Reader("csv"), SCHEMA, nulls=True)
    assert caught.value.uri == bad.uri


@pytest.mark.parametrize(
    "text",
    [
        "x,s,z\n1,a,\n",
        "x,s,z\n,,\n",
        'x,s,z\n1,"a\nb",\n',
        'x,s,z\n1,"",\n2,"a ""quoted"" word",\n',
        'x,s,z\n1,"\n\n",\n',
        "x,s,z\n",
        "x,s,z",
        "x,s,z\r\n1,a,\r\n",
    ],
)
def test_whole_rows_with_nulls_are_no_short_rows(root: str, text: str) -> None:
    refuse_short_rows([put(root, text)], Reader("csv"), SCHEMA, nulls=True)


@pytest.mark.parametrize(
    ("text", "read", "line"),
    [
        ("x;s;z\n1;a,b;\n2;c,d,e\n", {"separator": ";"}, 3),
        ("# a, note\nx,s,z\n# it's \" one\n1,a,\n2,b\n", {"comment": "#"}, 5),
        ("made, by\nhand\nx,s,z\n1,a,\n2,b\n", {"skip_rows": 2}, 5),
        ("1,a,\n2,b\n", {"header": False}, 2),
        ("x,s,z\n1,'a,b',\n2,'c,d'\n", {"quote": "'"}, 3),
        ('x,s,z\n1,5" disk,\n2,b"\n', {"quote": ""}, 3),
        ("x|s|z\n1|a|\n2|b\n", {"separator": "|"}, 3),
    ],
)
def test_short_rows_under_csv_options(root: str, text: str, read: dict[str, Any], line: int) -> None:
    with pytest.raises(SourceError, match=f"line {line} has 2 of 3 fields"):
        refuse_short_rows([put(root, text)], Reader("csv", {}, read), SCHEMA, nulls=True)
    whole = text.replace("2,b", "2,b,").replace("2;c,d,e", "2;c;").replace("2,'c,d'", "2,'c,d',").replace("2|b", "2|b|")
    refuse_short_rows([put(root, whole.replace('2,b,"', '2,b",'))], Reader("csv", {}, read), SCHEMA, nulls=True)


def test_compressed_files_are_looked_into(root: str, tmp_path: Path) -> None:
    text = "x,s,z\n1,a,\n2,b\n"
    for name, data in (("x.csv.gz", gzip.compress(text.encode())), ("x.csv.zst", zst(text, tmp_path))):
        with pytest.raises(SourceError, match="line 3 has 2 of 3 fields"):
            refuse_short_rows([put(root, data, name)], Reader("csv"), SCHEMA, nulls=True)


def test_without_nulls_only_files_whose_columns_stand_in_another_order_are_read(root: str) -> None:
    """What the run sees is the last column of the first file; a short row of the other one lacks something else."""
    unread = put(root, "x,s,z\n1,a\n", "unread.csv")
    refuse_short_rows([unread], Reader("csv"), SCHEMA, nulls=False)
    other = put(root, "z,x,s\n1,2\n", "other.csv")
    with pytest.raises(SourceError, match="line 2 has 2 of 3 fields") as caught:
        refuse_short_rows([unread, other], Reader("csv"), SCHEMA, nulls=False)
    assert caught.value.uri == other.uri


@pytest.mark.parametrize("nulls", [True, False])
def test_of_many_files_the_first_with_a_short_row_is_found(tmp_path: Path, nulls: bool) -> None:
    whole, odd = "z,x,s\n1,2,a\n", 'z,x,s\n1,2,"a\nb"\n'
    files = [put(str(tmp_path), odd if n == 3 else whole, f"{n:03}.csv") for n in range(600)]
    refuse_short_rows(files, Reader("csv"), SCHEMA, nulls=nulls)
    for number in (550, 400):
        files[number] = put(str(tmp_path), f"{whole}3,{number}\n", f"{number}.csv")
        with pytest.raises(SourceError, match="line 3 has 2 of 3 fields") as caught:
            refuse_short_rows(files, Reader("csv"), SCHEMA, nulls=nulls)
        assert caught.value.uri == files[number].uri
    # one that is gone among others: they are looked at one by one
    Path(files[450].uri).unlink()
    with pytest.raises(SourceError, match="line 3 has 2 of 3 fields"):
        refuse_short_rows(files, Reader("csv"), SCHEMA, nulls=nulls)
    with pytest.raises(Exception, match=r"450\.csv|No such file") as gone:
        refuse_short_rows(files[420:], Reader("csv"), SCHEMA, nulls=nulls)
    assert not isinstance(gone.value, AssertionError)


def test_stores_are_asked_for_several_headers_at_once() -> None:
    """Each is a wait of a few round trips."""
    files = [put("memory://headers", "z,x,s\n1,2,a\n", f"{n}.csv")._replace(size=1 << 20) for n in range(4)]
    together = threading.Barrier(len(files), timeout=30)

    def header(_: FileInfo, schema: pl.Schema) -> list[str]:
        together.wait()
        return schema.names()

    refuse_short_rows(files, Reader("csv"), SCHEMA, nulls=False, header=header)


def test_lines_of_small_files_are_looked_at_where_only_their_columns_were_asked_for(tmp_path: Path) -> None:
    """Short rows in files whose last column is the last have left a null there, if there is none there is no short row."""
    small = [put(str(tmp_path), "x,s,z\n1,a,2\n3,b\n", f"{n}.csv") for n in range(3)]
    refuse_short_rows(small, Reader("csv"), SCHEMA, nulls=False)
    unknown = [FileInfo(f.uri, None) for f in small]
    refuse_short_rows(unknown, Reader("csv"), SCHEMA, nulls=False)
    refuse_short_rows([f._replace(size=1 << 20) for f in small], Reader("csv"), SCHEMA, nulls=False)


def test_one_column_cannot_be_short(root: str) -> None:
    refuse_short_rows([put(root, "x\n1\n\n2\n")], Reader("csv"), pl.Schema({"x": pl.Int64()}), nulls=True)


def test_a_field_longer_than_pythons_own_reader_allows(root: str) -> None:
    text = f'x,s,z\n1,"{"long, " * 50_000}",\n2,b\n'
    with pytest.raises(SourceError, match="line 3 has 2 of 3 fields"):
        refuse_short_rows([put(root, text)], Reader("csv"), SCHEMA, nulls=True)


CELLS = st.text(st.sampled_from('ab,"\n ü;'), max_size=5)


@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6), cut=st.integers(0, 30))
def test_the_first_short_row_of_any_csv_is_the_one_found(rows: list[list[str]], cut: int, tmp_path: Path) -> None:
    """Python's writer quotes as the standard says; its reader then tells which rows are short, and where they begin."""
    short = [row[: 1 + (cut + i) % 5] for i, row in enumerate(rows)]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["x", "s", "z"])
    starts = []
    for row in short:
        starts.append(buffer.getvalue().count("\n") + 1)
        writer.writerow(row)
    expected = next(((s, len(r)) for s, r in zip(starts, short, strict=True) if len(r) < 3), None)
    file = put(str(tmp_path), buffer.getvalue())
    schema = pl.Schema(dict.fromkeys("xsz", pl.String()))
    if expected is None:
        refuse_short_rows([file], Reader("csv"), schema, nulls=True)
    else:
        with pytest.raises(SourceError, match=f"line {expected[0]} has {expected[1]} of 3 fields"):
            refuse_short_rows([file], Reader("csv"), schema, nulls=True)


# the line that cannot be read

ROWS = "".join(f"{i},s{i},{2 * i}\n" for i in range(10_000))


@pytest.mark.parametrize(
    ("row", "line"),
    [("7,a,x", 10_002), ("7,a,1,2", 10_002), ('7,"a"b,2', 10_002), ('7,"a,2', 10_002), ('1,"\n\n",2\n7,a,x', 10_005)],
    ids=["type", "long", "quote", "unclosed", "after line breaks"],
)
def test_the_line_of_a_csv_that_cannot_be_read(root: str, row: str, line: int) -> None:
    file = put(root, f"x,s,z\n{ROWS}{row}\n8,b,9\n")
    assert bad_line(file, Reader("csv"), SCHEMA) == line


def test_the_line_is_found_where_columns_stand_in_another_order(root: str) -> None:
    file = put(root, "z,x,s\n1,2,a\n1,b,c\n")
    assert bad_line(file, Reader("csv"), SCHEMA) == 3


@pytest.mark.parametrize(
    "line", ['{"x": 1, "s":', '{"x": "a", "s": "b", "z": 1}', "[1]", "plain", '{"x": 1.5}'], ids=str
)
def test_the_line_of_an_ndjson_that_cannot_be_read(root: str, line: str) -> None:
    rows = "".join(f'{{"x": {i}, "s": "s", "z": 1}}\n' for i in range(5000))
    file = put(root, f"{rows}\n{line}\n{rows}", "x.ndjson")
    assert bad_line(file, Reader("ndjson"), SCHEMA) == 5002


def test_a_file_without_a_bad_line_or_beyond_reading_has_none(root: str) -> None:
    assert bad_line(put(root, f"x,s,z\n{ROWS}"), Reader("csv"), SCHEMA) is None
    assert bad_line(put(root, "x,other\n1,2\n"), Reader("csv"), SCHEMA) is None
    assert bad_line(put(root, b"x,s,z\n1,\xff,2\n"), Reader("csv"), SCHEMA) is None
    assert bad_line(put(root, gzip.compress(ROWS.encode())[:-20], "x.csv.gz"), Reader("csv"), SCHEMA) is None
    assert bad_line(FileInfo(f"{root}/gone.csv", 1), Reader("csv"), SCHEMA) is None
