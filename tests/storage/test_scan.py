"""Readers: one schema for many files, columns from folders, and the name of the file that is at fault."""

from __future__ import annotations

import datetime as dt
import io
import re
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lazypipe.errors import SourceError
from lazypipe.storage.files import FileInfo, expand
from lazypipe.storage.formats import FORMATS
from lazypipe.storage.scan import FILE_COLUMN, Reader, is_engine_error

FRAME = pl.DataFrame({"x": [1, 2], "s": ["a", None], "d": [dt.date(2024, 1, 1), None]})
SCHEMA = FRAME.schema
KINDS = ["parquet", "ipc", "csv", "ndjson"]


@pytest.fixture
def root(somewhere: str) -> str:
    return somewhere


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def put(root: str, name: str, frame: pl.DataFrame | bytes, kind: str = "parquet") -> FileInfo:
    fs, path = fsspec.core.url_to_fs(f"{root}/{name}")
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    if isinstance(frame, bytes):
        data = frame
    else:
        buffer = io.BytesIO()
        {"parquet": frame.write_parquet, "ipc": frame.write_ipc, "csv": frame.write_csv, "ndjson": frame.write_ndjson}[
            kind
        ](buffer)
        data = buffer.getvalue()
    fs.pipe_file(path, data)
    return FileInfo(f"{root}/{name}", len(data))


def reader(kind: str, **read: Any) -> Reader:
    return Reader(kind, {"d": pl.Date()} if kind in ("csv", "ndjson") else {}, read)


@pytest.mark.parametrize("name", ["a-[12]", "a-?", "a-*", "a-[!x]", "a-[", "a-]", "a-{1}"])
def test_a_name_that_looks_like_a_pattern_is_that_of_one_file(root: str, kind: str, name: str) -> None:
    file, schema = put(root, f"{name}.{kind}", FRAME, kind), FRAME.schema
    for other in ("a-1", "a-2", "a-y", "a-12"):
        put(root, f"{other}.{kind}", FRAME.with_columns(s=pl.lit("other")), kind)
    one = reader(kind)
    assert_frame_equal(collect(one.scan([file], schema)), FRAME)
    assert collect(one.scan([file], schema, file_column=True))[FILE_COLUMN].to_list() == [file.uri] * 2
    assert one.infer([file])["x"] == pl.Int64


def collect(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect(engine="streaming")


def test_every_format_is_read_with_the_types_it_has(root: str, kind: str) -> None:
    files = [put(root, f"{n}.{kind}", FRAME, kind) for n in (1, 2)]
    one = reader(kind)
    assert one.infer(files) == SCHEMA
    assert_frame_equal(collect(one.scan(files, SCHEMA)), pl.concat([FRAME, FRAME]), check_row_order=False)
    assert collect(one.scan(files, SCHEMA).select(pl.len())).item() == 4
    assert collect(one.scan(files, SCHEMA).select("s").filter(pl.col("s") == "a"))["s"].to_list() == ["a", "a"]


def test_each_row_can_carry_its_file(root: str, kind: str) -> None:
    files = [put(root, f"{n}.{kind}", FRAME.with_columns(x=pl.lit(n, dtype=pl.Int64)), kind) for n in (1, 2)]
    found = collect(reader(kind).scan(files, SCHEMA, file_column=True))
    assert found.columns == ["x", "s", "d", FILE_COLUMN]
    assert set(found.select("x", FILE_COLUMN).rows()) == {(1, files[0].uri), (2, files[1].uri)}


def test_columns_of_folders_have_one_type_for_all_files(root: str, kind: str) -> None:
    names = ["y=1/k=a%20b/1", "y=2/k=c/2", "y=__HIVE_DEFAULT_PARTITION__/k=3/3"]
    for name in names:
        put(root, f"t/{name}.{kind}", FRAME, kind)
    files = expand([f"{root}/t/**/*.{kind}"], endings=FORMATS[kind].endings)
    one = reader(kind)
    schema = one.infer(files)
    assert schema == {**SCHEMA, "y": pl.Int64, "k": pl.String}
    one.check(files, schema)
    found = collect(one.scan(files, schema))
    assert found.schema == schema
    assert sorted(found.select("y", "k").unique().rows(), key=str) == [(1, "a b"), (2, "c"), (None, "3")]
    assert collect(one.scan(files, schema).filter(pl.col("y") == 2).select("k", "x")).rows() == [("c", 1), ("c", 2)]
    carried = collect(one.scan(files, schema, file_column=True))
    assert all(
        f"/y={y}/" in file for y, file in carried.filter(pl.col("y").is_not_null()).select("y", FILE_COLUMN).rows()
    )


def test_folders_further_up_are_no_columns(tmp_path: Path, kind: str) -> None:
    file = put(str(tmp_path), f"run=5/data/x.{kind}", FRAME, kind)
    assert reader(kind).infer([file]) == SCHEMA
    partitioned = put(str(tmp_path), f"run=5/data/k=1/x.{kind}", FRAME, kind)
    schema = reader(kind).infer([partitioned])
    assert schema.names() == [*SCHEMA, "k"]
    assert collect(reader(kind).scan([partitioned], schema))["k"].to_list() == [1, 1]


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_a_column_both_in_the_file_and_in_its_folder_is_that_of_the_folder(tmp_path: Path, kind: str) -> None:
    file = put(str(tmp_path), f"x=7/1.{kind}", FRAME, kind)
    schema = reader(kind).infer([file])
    assert schema.names() == ["x", "s", "d"]
    assert collect(reader(kind).scan([file], schema))["x"].to_list() == [7, 7]


def test_a_file_outside_the_folders_is_refused(root: str, kind: str) -> None:
    files = [put(root, f"k=1/1.{kind}", FRAME, kind), put(root, f"2.{kind}", FRAME, kind)]
    schema = reader(kind).infer(files)
    with pytest.raises(SourceError, match="the file is in no folder k=…") as caught:
        reader(kind).check(files, schema)
    assert caught.value.uri == files[1].uri


def test_columns_are_matched_by_name(root: str, kind: str) -> None:
    files = [put(root, f"1.{kind}", FRAME, kind), put(root, f"2.{kind}", FRAME.select("d", "x", "s"), kind)]
    assert_frame_equal(collect(reader(kind).scan(files, SCHEMA)), pl.concat([FRAME, FRAME]), check_row_order=False)


@pytest.mark.parametrize("kind", ["parquet", "ipc", "csv"])
@pytest.mark.parametrize(
    ("other", "message"),
    [(FRAME.drop("s"), "s"), (FRAME.with_columns(new=1), "new"), (FRAME.with_columns(x=pl.lit("text")), "(?i)x|text")],
    ids=["missing", "extra", "type"],
)
def test_another_shape_in_a_later_file_is_named(root: str, kind: str, other: pl.DataFrame, message: str) -> None:
    files = [
        put(root, f"1.{kind}", FRAME, kind),
        put(root, f"2.{kind}", other, kind),
        put(root, f"3.{kind}", FRAME, kind),
    ]
    one = reader(kind)
    schema = one.infer(files)
    with pytest.raises(BaseException) as raised:  # panics are no Exception
        collect(one.scan(files, schema))
    assert is_engine_error(raised.value) or isinstance(raised.value, SourceError)
    culprit = one.culprit(files, schema)
    assert culprit is not None
    assert culprit.uri == files[1].uri
    assert re.search(message, culprit.what)
    assert "\n" not in str(culprit)


def test_a_type_that_changed_since_the_schema_was_read_is_an_error(root: str) -> None:
    for kind in ("parquet", "ipc"):
        file = put(root, f"1.{kind}", FRAME.with_columns(pl.col("x").cast(pl.Int32)), kind)
        one = reader(kind)
        with pytest.raises((SourceError, pl.exceptions.PolarsError)):
            one.check([file], SCHEMA)
            collect(one.scan([file], SCHEMA))
        culprit = one.culprit([file], SCHEMA)
        assert culprit is not None
        assert "the file has Int32 in column 'x', not Int64" in culprit.what


def test_no_file_at_fault_is_no_culprit(root: str, kind: str) -> None:
    files = [put(root, f"{n}.{kind}", FRAME, kind) for n in (1, 2)]
    assert reader(kind).culprit(files, SCHEMA) is None


def test_an_empty_file_is_refused_before_polars_skips_it(root: str, kind: str) -> None:
    files = [put(root, f"1.{kind}", FRAME, kind), put(root, f"2.{kind}", b""), put(root, f"3.{kind}", FRAME, kind)]
    with pytest.raises(SourceError, match=r"the file is empty \(0 bytes\)") as caught:
        reader(kind).check(files, SCHEMA)
    assert caught.value.uri == files[1].uri
    with pytest.raises(SourceError, match="empty"):
        reader(kind).infer([files[1]])


def test_no_files_are_no_rows_with_the_columns(kind: str) -> None:
    assert collect(reader(kind).scan([], SCHEMA)).schema == SCHEMA
    assert collect(reader(kind).scan([], SCHEMA, file_column=True)).columns == [*SCHEMA, FILE_COLUMN]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("x;s\n1;a\n2;\n", {"separator": ";"}),
        ("# note\nx,s\n1,a\n# more\n2,\n", {"comment": "#"}),
        ("made by hand\nx,s\n1,a\n2,\n", {"skip_rows": 1}),
        ("x,s\n1,a\n2,NA\n", {"null_values": ("NA",)}),
        ("x,s\n1,'a'\n2,\n", {"quote": "'"}),
        ("x,s\n1,a\n2,\n", {"quote": ""}),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else None,
)
def test_csv_options(root: str, text: str, read: dict[str, Any]) -> None:
    file = put(root, "x.csv", text.encode())
    one = Reader("csv", {}, read)
    schema = one.infer([file])
    assert schema == {"x": pl.Int64, "s": pl.String}
    assert collect(one.scan([file], schema)).rows() == [(1, "a"), (2, None)]


def test_a_csv_without_a_header(root: str) -> None:
    file = put(root, "x.csv", b"1,a\n2,b\n")
    one = Reader("csv", {}, {"header": False})
    schema = one.infer([file])
    assert schema.dtypes() == [pl.Int64, pl.String]
    assert collect(one.scan([file], schema)).rows() == [(1, "a"), (2, "b")]
    assert one.header(file, schema) == schema.names()


def test_declared_types_win_over_guessed_ones(root: str) -> None:
    for kind, content in (("csv", b"code,n\n007,1\n"), ("ndjson", b'{"code": "007", "n": 1}\n')):
        file = put(root, f"x.{kind}", content)
        one = Reader(kind, {"code": pl.String(), "n": pl.Float64()})
        schema = one.infer([file])
        assert schema == {"code": pl.String, "n": pl.Float64}
        assert collect(one.scan([file], schema)).rows() == [("007", 1.0)]


def test_dates_in_text_are_guessed_unless_told_not_to(root: str) -> None:
    file = put(root, "x.csv", b"d\n2024-01-01\n")
    assert Reader("csv").infer([file]) == {"d": pl.Date}
    assert Reader("csv", {}, {"parse_dates": False}).infer([file]) == {"d": pl.String}


def test_days_with_short_years_and_versions_are_no_dates_of_the_first_century(root: str) -> None:
    rows = b"d,v,t,w\n1/2/24,1.2.3,24-01-31T10:00:00,2024-1-2\n31/1/24,1.10.0,,2024-01-31\n"
    file = put(root, "x.csv", rows)
    assert Reader("csv").infer([file]) == {"d": pl.String, "v": pl.String, "t": pl.String, "w": pl.Date}
    reader = Reader("csv", {"d": pl.String()})
    found = collect(reader.scan([file], reader.infer([file])))
    expected = ("1/2/24", "1.2.3", "24-01-31T10:00:00", dt.date(2024, 1, 2))
    assert found.row(0) == expected


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_a_file_without_the_right_to_read_it_is_not_taken_for_damaged(form: str) -> None:
    for error in (PermissionError(13, "Permission denied"), OSError("Permission denied (os error 13): a")):
        assert str(Reader(form).unreadable(FileInfo("a", 1), error)) == (
            f"a: is not readable as {form}: Permission denied; give the user that runs it the right to read the file"
        )
