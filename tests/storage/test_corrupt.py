"""Corrupt files, told by their ends without being read, and one by one by being read."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import fsspec
import polars as pl
import pytest

from lazypipe.errors import SourceError
from lazypipe.storage.corrupt import damaged, preflight
from lazypipe.storage.files import FileInfo, expand
from lazypipe.storage.parallel import in_parallel
from lazypipe.storage.scan import Reader, is_damage

FRAME = pl.DataFrame({"x": [1, 2], "s": ["a", "b"]})


def parquet(frame: pl.DataFrame = FRAME) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture
def root(somewhere: str) -> str:
    return somewhere


def put(root: str, name: str, data: bytes) -> FileInfo:
    fs, path = fsspec.core.url_to_fs(root)
    fs.pipe_file(f"{path}/{name}", data)
    (found,) = expand([f"{root}/{name}"])
    return found


@pytest.mark.parametrize(
    ("name", "form", "data", "why"),
    [
        ("a.parquet", "parquet", parquet(), None),
        ("a.parquet", "parquet", b"PAR1", "the file does not end as Parquet does: it is truncated"),
        ("a.parquet", "parquet", b"PAR1PAR", "the file does not end as Parquet does: it is truncated"),
        ("a.csv", "csv", b"x,s\n1,a\n", None),
        ("a.csv", "csv", ("x" + "ä" * 4000).encode(), None),
        ("a.csv", "csv", b"x,\xe4\n1,a\n", "the file does not begin with UTF-8 text"),
        ("a.csv", "csv", b"x,s\n1,a\0\n", None),
        ("a.csv", "csv", b"x\0,s\n1,a\n", "the file does not begin with UTF-8 text"),
        ("a.csv.gz", "csv", gzip.compress(b"x\n", mtime=0), None),
        ("a.csv", "csv", gzip.compress(b"x\n", mtime=0), None),
        ("a.csv.gz", "csv", b"x,s\n1,a\n", "the file is not gzip, as its name says"),
        ("a.ndjson.zst", "ndjson", gzip.compress(b"{}", mtime=0), "the file is not zstd, as its name says"),
        ("a.ndjson", "ndjson", b'{"x": 1}', None),
    ],
)
def test_what_the_ends_of_a_file_tell(root: str, name: str, form: str, data: bytes, why: str | None) -> None:
    file = put(root, name, data)
    assert preflight([file], Reader(form)) == ({} if why is None else {file.uri: why})


def test_a_size_that_the_protocol_does_not_tell(root: str) -> None:
    file = FileInfo(put(root, "a.csv", b"").uri, None)
    assert preflight([file], Reader("csv")) == {file.uri: "the file is empty (0 bytes)"}


def test_an_archive_member_that_cannot_be_read_from_its_end(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.parquet", parquet())
        archive.writestr("b.parquet", parquet()[:-20])
    files = [FileInfo(f"zip://{n}.parquet::file://{tmp_path}/z.zip", None) for n in ("a", "b")]
    found = preflight(files, Reader("parquet"))
    assert list(found) == [files[1].uri]
    assert found[files[1].uri].startswith("is not readable as parquet: ")


def test_a_file_that_cannot_be_fetched_is_no_corrupt_file(root: str) -> None:
    gone = FileInfo(f"{root}/gone.parquet", 100)
    told = "cannot be read: the file does not exist, or the server does not give it now; check permissions and network"
    if "://" not in root:
        told = "is not readable as parquet: No such file or directory; fix the cause and run again"
    with pytest.raises(SourceError, match=f"gone.parquet: {told}$"):
        preflight([gone], Reader("parquet"))
    assert damaged([gone], Reader("parquet"), FRAME.schema) == []


def test_a_footer_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(str(tmp_path), "a.parquet", parquet())

    def fail(*_: object) -> None:
        raise SourceError("the network is down", uri=file.uri) from ConnectionResetError("reset")

    monkeypatch.setattr(Reader, "infer", fail)
    with pytest.raises(SourceError, match="the network is down"):
        preflight([file], Reader("parquet"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("unexpected end of file"), True),
        (gzip.BadGzipFile("Not a gzipped file"), True),
        (zlib.error("Error -3 while decompressing data"), True),
        (EOFError("Compressed file ended"), True),
        (ValueError("a row is longer"), True),
        (pl.exceptions.ComputeError("could not parse `a` as dtype `i64`"), True),
        (pl.exceptions.PanicException("not implemented"), True),
        (FileNotFoundError("gone"), False),
        (PermissionError("no"), False),
        (ConnectionResetError("reset"), False),
        (TimeoutError("slow"), False),
        (OSError(5, "Input/output error"), False),
        (pl.exceptions.ComputeError("Input/output error (os error 5): a.csv"), False),
        (OSError("Generic S3 error: error sending request for url"), False),
        (KeyError("a library's own"), False),
    ],
)
def test_what_is_damage(error: BaseException, expected: bool) -> None:
    assert is_damage(error) is expected
    try:
        raise SourceError("said", uri="a") from error
    except SourceError as wrapped:
        assert is_damage(wrapped) is expected
        # what a reader of ours raises, Polars hands on as its own cause
        wrapped.__cause__ = wrapped
        wrapped.__context__ = error
        assert is_damage(wrapped) is expected


def test_an_error_of_our_own_is_about_what_was_read() -> None:
    assert is_damage(SourceError("line 3 has 1 of 2 fields", uri="a"))


def test_each_corrupt_file_is_found(root: str) -> None:
    files = [
        put(root, "1.csv", b"x,s\n1,a\n"),
        put(root, "2.csv", b"x,s\n1,a\nb,c\n"),
        put(root, "3.csv", b"s,x\n1,a\n1,2\n"),
        put(root, "4.csv", b"x,s\n1\n"),
        put(root, "5.csv", b"x\n1\n"),
        put(root, "6.csv", b""),
    ]
    found = {f.uri.rpartition("/")[2]: why for f, why in damaged(files, Reader("csv"), FRAME.schema)}
    assert sorted(found) == ["2.csv", "3.csv", "4.csv", "6.csv"]
    assert found["2.csv"].endswith("(line 3)")
    assert found["3.csv"].endswith("(line 2)")
    assert found["4.csv"] == "line 2 has 1 of 2 fields"
    assert found["6.csv"] == "the file is empty (0 bytes)"


def test_of_very_many_files_each_is_asked_once_and_in_order() -> None:
    for count in (0, 1, 255, 256, 257, 1_000):
        files = [FileInfo(f"{n}", n) for n in range(count)]
        assert in_parallel(lambda file: -(file.size or 0), files) == [(f, -(f.size or 0)) for f in files]


def test_columns_in_folders_are_not_looked_for_in_files(tmp_path: Path) -> None:
    for day, data in (("1", parquet()), ("2", parquet()[:-1])):
        (tmp_path / f"day={day}").mkdir()
        put(str(tmp_path), f"day={day}/a.parquet", data)
    files = expand([str(tmp_path)], endings=(".parquet",))
    found = damaged(files, Reader("parquet"), pl.Schema({**FRAME.schema, "day": pl.Int64()}))
    assert [f.uri for f, _ in found] == [f"{tmp_path}/day=2/a.parquet"]


def test_a_mistake_in_our_own_code_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(str(tmp_path), "a.parquet", parquet())
    monkeypatch.setattr(Reader, "scan", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        damaged([file], Reader("parquet"), FRAME.schema)
