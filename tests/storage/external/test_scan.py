"""Files behind any fsspec protocol read as Polars' own scan reads a local copy of them."""

from __future__ import annotations

import datetime as dt
import gc
import io
import os
import pickle
import subprocess
import sys
import tarfile
import textwrap
import time
import uuid
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lazypipe.errors import SourceError
from lazypipe.storage.external import content as external_content
from lazypipe.storage.external import files as external_files
from lazypipe.storage.external.scan import _Builder, external_schema, scan_external

DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 123456)

COLUMNS: dict[str, pl.Series] = {
    "i8": pl.Series([-128, None, 127], dtype=pl.Int8),
    "i16": pl.Series([-(2**15), None, 2**15 - 1], dtype=pl.Int16),
    "i32": pl.Series([-(2**31), None, 2**31 - 1], dtype=pl.Int32),
    "i64": pl.Series([-(2**63), None, 2**63 - 1], dtype=pl.Int64),
    "u8": pl.Series([0, None, 255], dtype=pl.UInt8),
    "u16": pl.Series([0, None, 2**16 - 1], dtype=pl.UInt16),
    "u32": pl.Series([0, None, 2**32 - 1], dtype=pl.UInt32),
    "u64": pl.Series([0, None, 2**64 - 1], dtype=pl.UInt64),
    "f32": pl.Series([float("nan"), None, -0.0], dtype=pl.Float32),
    "f64": pl.Series([float("inf"), None, 1e-300], dtype=pl.Float64),
    "text": pl.Series(["", None, 'ünï\n"quoted"'], dtype=pl.String),
    "bool": pl.Series([True, None, False], dtype=pl.Boolean),
    "date": pl.Series([DAY, None, dt.date(1600, 1, 1)], dtype=pl.Date),
    "time": pl.Series([dt.time(23, 59, 59, 999999), None, dt.time(0)], dtype=pl.Time),
    "ms": pl.Series([NOON, None, NOON], dtype=pl.Datetime("ms")),
    "us": pl.Series([NOON, None, NOON], dtype=pl.Datetime("us")),
    "ns": pl.Series([NOON, None, NOON], dtype=pl.Datetime("ns")),
    "utc": pl.Series([NOON, None, NOON], dtype=pl.Datetime("us", "UTC")),
    "berlin": pl.Series([NOON, None, NOON], dtype=pl.Datetime("ms", "Europe/Berlin")),
    "took": pl.Series([dt.timedelta(1), None, -dt.timedelta(1)], dtype=pl.Duration("us")),
    "took_ns": pl.Series([dt.timedelta(1), None, -dt.timedelta(1)], dtype=pl.Duration("ns")),
    "decimal": pl.Series([Decimal("1.25"), None, Decimal("-99999999.99")], dtype=pl.Decimal(10, 2)),
    "wide": pl.Series([Decimal(10) ** 30, None, Decimal(-1)], dtype=pl.Decimal(38, 2)),
    "binary": pl.Series([b"\x00\xff", None, b""], dtype=pl.Binary),
    "category": pl.Series(["b", None, "a"], dtype=pl.Categorical),
    "enum": pl.Series(["b", None, "a"], dtype=pl.Enum(["a", "b", "c"])),
    "list": pl.Series([[1, None], None, []], dtype=pl.List(pl.Int64)),
    "array": pl.Series([[1.0, 2.0], None, [3.0, None]], dtype=pl.Array(pl.Float64, 2)),
    "struct": pl.Series([{"a": 1, "b": "x"}, {"a": None, "b": None}, {"a": 3, "b": "z"}]),
    "deep": pl.Series([[{"a": [1, 2], "b": {"c": DAY}}], None, [{"a": None, "b": {"c": None}}]]),
    "nothing": pl.Series([None, None, None], dtype=pl.Null),
}
# Types that the other writer or reader has not: nothing to compare.
NOT_ARROW = {"enum"}
POLARS_ONLY: dict[str, pl.Series] = {
    "i128": pl.Series([-(2**100), None, 2**100], dtype=pl.Int128),
    "f16": pl.Series([1.5, None, -2.0], dtype=pl.Float16),
}

POLARS_WRITERS: list[dict[str, Any]] = [
    {"compression": "uncompressed", "row_group_size": 7},
    {"compression": "snappy", "statistics": False},
    {"compression": "zstd", "row_group_size": 10, "data_page_size": 64},
    {"compression": "lz4", "row_group_size": 30},
    {"compression": "gzip", "statistics": "full"},
    {"compression": "brotli", "row_group_size": 29},
]
ARROW_WRITERS: list[dict[str, Any]] = [
    {"compression": "none", "use_dictionary": False, "row_group_size": 7},
    {"compression": "snappy", "data_page_version": "2.0", "row_group_size": 10, "write_page_index": True},
    {"compression": "zstd", "data_page_version": "2.0", "use_dictionary": False, "data_page_size": 64},
    {"compression": "gzip", "store_schema": False, "row_group_size": 29},
    {"compression": "lz4", "version": "1.0", "write_statistics": False},
    {"compression": "brotli", "version": "2.4", "data_page_version": "2.0", "row_group_size": 11},
]


def memory(data: bytes, suffix: str = "") -> str:
    path = f"/{uuid.uuid4().hex}{suffix}"
    fsspec.filesystem("memory").pipe(path, data)
    return f"memory:/{path}"


def parquet(frame: pl.DataFrame, **options: Any) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out, **options)
    return out.getvalue()


def arrow_parquet(frame: pl.DataFrame, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), out, **options)
    return out.getvalue()


def scan(data: bytes, suffix: str = ".parquet") -> pl.LazyFrame:
    return scan_external([memory(data, suffix)], format=suffix.removeprefix(".").split(".")[0])  # type: ignore[arg-type]


def check(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    native = pl.scan_parquet(path)
    ours = scan(data)
    assert ours.collect_schema() == native.collect_schema()
    assert_frame_equal(ours.collect(), native.collect())
    for name in native.collect_schema():
        assert_frame_equal(ours.select(name).slice(5, 13).collect(), native.select(name).slice(5, 13).collect())


@pytest.mark.parametrize("options", POLARS_WRITERS, ids=str)
def test_every_type_written_by_polars(options: dict[str, Any], tmp_path: Path) -> None:
    frame = pl.DataFrame({**COLUMNS, **POLARS_ONLY})
    check(parquet(pl.concat([frame] * 10), **options), tmp_path / "a.parquet")


@pytest.mark.parametrize("options", ARROW_WRITERS, ids=str)
def test_every_type_written_by_pyarrow(options: dict[str, Any], tmp_path: Path) -> None:
    frame = pl.DataFrame({k: v for k, v in COLUMNS.items() if k not in NOT_ARROW})
    if options.get("version") == "1.0":
        frame = frame.drop("ns", "took_ns")  # it has no nanoseconds
    check(arrow_parquet(pl.concat([frame] * 10), **options), tmp_path / "a.parquet")


def test_dictionary_columns_of_pyarrow(tmp_path: Path) -> None:
    out = io.BytesIO()
    table = pa.table({"a": pa.array(["x", None, "y"] * 10).dictionary_encode(), "b": pa.array(range(30))})
    pq.write_table(table, out, row_group_size=7)
    check(out.getvalue(), tmp_path / "a.parquet")


@pytest.mark.parametrize("format_", ["csv", "ndjson", "ipc"])
def test_other_formats(format_: Any, tmp_path: Path) -> None:
    frame = pl.concat([pl.DataFrame(COLUMNS).select("i64", "f64", "text", "bool", "u8")] * 200)
    path = tmp_path / f"a.{format_}"
    getattr(frame, f"write_{format_}")(path)
    native = getattr(pl, f"scan_{format_}")(path)
    ours = scan_external([memory(path.read_bytes())], format=format_)
    for query in QUERIES:
        assert_frame_equal(query(ours).collect(), query(native).collect())


QUERIES: list[Any] = [
    lambda f: f,
    lambda f: f.select("text"),
    lambda f: f.select(pl.len()),
    lambda f: f.head(7),
    lambda f: f.tail(7),
    lambda f: f.slice(30, 31),
    lambda f: f.head(0),
    lambda f: f.slice(10_000, 5),
    lambda f: f.filter(pl.col("i64") > 0).select("bool"),
    lambda f: f.filter(pl.col("i64") > 0).head(3),
    lambda f: f.head(50).filter(pl.col("i64") > 0),
    lambda f: f.with_row_index("n", 5).filter(pl.col("n") % 9 == 2).select("n", "text"),
    lambda f: f.with_row_index("n").select("n"),
    lambda f: f.with_row_index("n").slice(33, 40).filter(pl.col("i64") < 0),
    lambda f: f.sort("i64", maintain_order=True).head(5),
    lambda f: f.group_by("text").len().sort("text"),
]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
def test_queries_over_several_files(query: Any, engine: Any, tmp_path: Path) -> None:
    frame = pl.concat([pl.DataFrame(COLUMNS).select("i64", "f64", "text", "bool", "u8")] * 10)
    paths, uris = [], []
    for k in range(5):
        data = parquet(frame, row_group_size=3 + k)
        paths.append(tmp_path / f"{k}.parquet")
        paths[-1].write_bytes(data)
        uris.append(memory(data))
    native, ours = pl.scan_parquet(paths), scan_external(uris, format="parquet")
    assert_frame_equal(query(ours).collect(engine=engine), query(native).collect(engine=engine))


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "i": st.integers(-5, 5),
    "f": st.sampled_from([-1.5, -0.0, 0.0, 1.0, 2.5, float("nan"), float("inf"), float("-inf")]),
    "s": st.text("ab\xff\U0001f600", max_size=70),
    "d": st.dates(dt.date(1969, 12, 30), dt.date(1970, 1, 3)),
    "t": st.datetimes(dt.datetime(1969, 12, 31, 23), dt.datetime(1970, 1, 1, 1)),
}
TYPES = {"i": pl.Int16, "f": pl.Float64, "s": pl.String, "d": pl.Date, "t": pl.Datetime("us")}


@st.composite
def predicates(draw: st.DrawFn, depth: int = 2) -> pl.Expr:
    kind = draw(st.integers(0, 9 if depth else 6))
    name = draw(st.sampled_from(sorted(VALUES)))
    column, value = pl.col(name), draw(VALUES[name])
    literal = pl.lit(value, dtype=TYPES[name])
    if kind <= 2:
        op = draw(st.sampled_from(["__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "eq_missing"]))
        left, right = (column, literal) if draw(st.booleans()) else (literal, column)
        return getattr(left, op)(right)  # type: ignore[no-any-return]
    if kind == 3:
        return column.is_in([value, draw(VALUES[name]), *([None] if draw(st.booleans()) else [])])
    if kind == 4:
        return column.is_between(literal, pl.lit(draw(VALUES[name]), dtype=TYPES[name]))
    if kind <= 6:
        return column.is_null() if draw(st.booleans()) else column.is_not_null()
    one, two = draw(predicates(depth - 1)), draw(predicates(depth - 1))
    return one & two if kind == 7 else one | two if kind == 8 else ~one


@given(st.data())
def test_any_projection_predicate_and_limit_gives_what_the_native_scan_gives(data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 40))
    columns = {
        name: pl.Series(
            data.draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), dtype=TYPES[name], strict=False
        )
        for name, values in VALUES.items()
    }
    # sorted columns make row groups whose bounds exclude something
    frame = pl.DataFrame(columns).sort(data.draw(st.sampled_from(sorted(VALUES))))
    write = data.draw(st.sampled_from([parquet, arrow_parquet]))
    raw = write(frame, row_group_size=data.draw(st.integers(3, 20)))
    steps = data.draw(st.lists(st.sampled_from(["filter", "slice", "head", "select", "index"]), max_size=4))
    ours, truth, native = scan(raw), frame.lazy(), pl.scan_parquet(raw)
    for number, step in enumerate(steps):
        if step == "filter":
            args: Any = (data.draw(predicates()),)
        elif step == "select":
            if {"index", "select"} & {*steps[:number]} or "filter" in steps[number:]:
                continue
            args = (data.draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True)),)
        elif step == "index":
            if "index" in steps[:number] or "select" in steps[:number]:
                continue
            args = ("n", data.draw(st.integers(0, 3)))
        else:
            args = (data.draw(st.integers(0, 45)), data.draw(st.integers(0, 45)))[: 2 if step == "slice" else 1]
        method = "with_row_index" if step == "index" else step
        ours, truth, native = (getattr(f, method)(*args) for f in (ours, truth, native))
    expected = truth.collect()
    assert_frame_equal(ours.collect(), expected)
    assert ours.select(pl.len()).collect().item() == expected.height
    assert_frame_equal(native.collect(), expected)


ONE_COLUMN = pl.DataFrame({"a": range(10_000)})
ARCHIVED = pl.DataFrame({"a": range(1000), "b": [f"row {k}" for k in range(1000)]})


@pytest.mark.parametrize("format_", ["parquet", "csv", "ndjson", "ipc"])
@pytest.mark.parametrize("archive", ["stored", "deflated", "tar", "tar.gz", "zip in zip"])
def test_members_of_archives(archive: str, format_: Any) -> None:
    out = io.BytesIO()
    getattr(ARCHIVED, f"write_{format_}")(out)
    name = f"dir/a.{format_}"
    uris = [
        f"{'tar' if 'tar' in archive else 'zip'}://{name}::{memory(packed(archive, name, out.getvalue()), '.' + archive)}"
    ]
    if archive == "zip in zip":
        inner = packed("deflated", name, out.getvalue())
        uris = [f"zip://{name}::zip://in.zip::{memory(packed('deflated', 'in.zip', inner))}"]
    ours = scan_external(uris * 3, format=format_)
    assert_frame_equal(ours.collect(), pl.concat([ARCHIVED] * 3))
    assert_frame_equal(ours.tail(3).select("b").collect(), ARCHIVED.tail(3).select("b"))


@pytest.mark.parametrize("format_", ["parquet", "ipc"])
def test_no_copy_of_a_damaged_file_stays_open(format_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []

    def spool(file: Any) -> Any:
        copies.append(external_files.spool(file))
        return copies[-1]

    monkeypatch.setattr(external_content, "spool", spool)
    uri = f"zip://a.{format_}::{memory(packed('deflated', f'a.{format_}', b'no such file' * 9), '.zip')}"
    with pytest.raises(SourceError):
        external_schema(uri, format=format_)
    assert [copy.closed for copy in copies] == [True]


def packed(how: str, name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    if how.startswith("tar"):
        with tarfile.open(fileobj=out, mode="w:gz" if how.endswith("gz") else "w") as tar:
            for member, content in (("other", b"x" * 2000), (name, data)):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    else:
        method = zipfile.ZIP_STORED if how == "stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(out, "w", method) as zipped:
            zipped.writestr("other", b"x" * 2000)
            zipped.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("format_", ["parquet", "csv", "ndjson", "ipc"])
def test_the_reader_answers_each_of_polars_questions(format_: Any) -> None:
    out = io.BytesIO()
    ARCHIVED.write_parquet(out, row_group_size=300) if format_ == "parquet" else getattr(ARCHIVED, f"write_{format_}")(
        out
    )
    builder = _Builder(format_, ARCHIVED.schema, {}, {})
    reader = builder.build_file_reader(memory(out.getvalue()).encode(), {})
    reader.fetch_metadata()
    assert reader.schema() == ARCHIVED.schema
    assert reader.n_rows_in_file() == 1000
    assert min(reader.n_rows_in_file(limit=10), 10) == 10

    def read(columns: list[str], **asked: Any) -> pl.DataFrame:
        asked = {"row_index": None, "pre_slice": None, "filters": [], "num_pipelines": 2} | asked
        return pl.concat([pl.DataFrame(height=0), *reader.collect_batches(columns=columns, **asked)], how="diagonal")

    assert sum(f.height for f in reader.collect_batches(
        columns=[], row_index=None, pre_slice=(250, 500), filters=[], num_pipelines=2
    )) == 500  # fmt: skip
    assert_frame_equal(read(["b"], pre_slice=(299, 302)), ARCHIVED.select("b").slice(299, 302))
    numbered = read([], row_index=("n", 7), pre_slice=(998, 10))
    assert numbered["n"].to_list() == [1005, 1006]
    assert_frame_equal(read(["b", "a"]), ARCHIVED.select("b", "a"))
    reader.on_drop()


def test_the_plan_shows_the_uris_as_they_are_and_no_options() -> None:
    schema = pl.Schema({"a": pl.Int64})
    uris = ["memory://a[1]*?.parquet", "zip://a.parquet::sftp://host/b%20c.zip"]
    lazy = scan_external(uris, format="parquet", schema=schema, storage_options={"password": "hunter2"})
    plan = lazy.filter(pl.col("a") > 1).explain()
    assert "SCAN [memory://a[1]*?.parquet, zip://a.parquet::sftp://host/b%20c.zip]" in plan
    assert 'SELECTION: col("a") > 1' in plan
    assert "hunter2" not in plan


def test_names_with_wildcards_stand_for_themselves() -> None:
    fsspec.filesystem("memory").pipe("/a[1]*.parquet", parquet(pl.DataFrame({"a": [1]})))
    fsspec.filesystem("memory").pipe("/a1x.parquet", parquet(pl.DataFrame({"a": [2]})))
    assert scan_external(["memory://a[1]*.parquet"], format="parquet").collect().item() == 1


def test_a_plan_can_be_pickled() -> None:
    lazy = scan(parquet(ARCHIVED)).filter(pl.col("a") > 990)
    again = pickle.loads(pickle.dumps(lazy))
    assert_frame_equal(again.collect(), lazy.collect())


def test_the_same_file_read_twice_in_one_query() -> None:
    uri = memory(parquet(ARCHIVED, row_group_size=10))
    one, two = (scan_external([uri], format="parquet") for _ in range(2))
    for _ in range(20):  # fsspec's memory files share one position among all readers
        assert one.join(two, on="a").collect().height == 1000


@pytest.mark.parametrize(
    ("format_", "data", "why"),
    [
        ("parquet", b"", "truncated"),
        ("parquet", parquet(ONE_COLUMN)[:-10], "truncated"),
        ("parquet", parquet(ONE_COLUMN)[1000:], "outside the file"),
        ("parquet", b"PAR1" + b"\xab" * 300 + (300).to_bytes(4, "little") + b"PAR1", "footer"),
        ("parquet", b"\xff\xff\xff\x7fPAR1", "longer than the file"),
        ("csv", b"", "empty"),
        ("csv", b"a\n1\n1,2\n", "more fields"),
        ("csv", b"a\n" + b"1\n" * 200 + b"x\n", "could not parse"),
        ("ndjson", b"", "empty"),
        ("ndjson", b'{"a": 1}\n{"a":\n', None),
        ("ipc", b"", None),
        ("ipc", b"ARROW1 and garbage", None),
    ],
)
def test_damaged_files_are_named(format_: Any, data: bytes, why: str | None) -> None:
    good = io.BytesIO()
    getattr(pl.DataFrame({"a": [1]}), f"write_{format_}")(good)
    uri = memory(data, f".{format_}")
    lazy = scan_external([memory(good.getvalue()), uri], format=format_, schema=pl.Schema({"a": pl.Int64}))
    with pytest.raises(SourceError, match=why) as failed:
        lazy.collect()
    assert failed.value.uri == uri
    assert uri in str(failed.value)


@pytest.mark.parametrize("cut", [1000, 3000])
def test_a_file_cut_short_while_it_is_read_is_named(cut: int) -> None:
    uri = memory(parquet(pl.DataFrame({"a": [os.urandom(8) for _ in range(20_000)]}), compression="uncompressed"))
    fs = fsspec.filesystem("memory")
    lazy = scan_external([uri], format="parquet")
    data = fs.cat(uri)
    head = data[: len(data) // 2] + bytes(cut)
    fs.pipe(uri, head + data[len(data) // 2 + cut :])
    with pytest.raises(SourceError, match=uri):
        lazy.collect()


@pytest.mark.parametrize("format_", ["parquet", "csv", "ndjson", "ipc"])
@pytest.mark.parametrize("uri", ["memory://nowhere", "zip://nowhere::memory://neither", "no-such-protocol://x"])
def test_missing_files_are_named(format_: Any, uri: str) -> None:
    with pytest.raises(SourceError) as failed:
        external_schema(uri, format=format_)
    assert failed.value.uri == uri
    with pytest.raises(SourceError, match=uri):
        scan_external([uri], format=format_, schema=pl.Schema({"a": pl.Int64})).collect()


def test_a_missing_member_is_named() -> None:
    uri = f"zip://nowhere::{memory(packed('stored', 'a', b'x'))}"
    with pytest.raises(SourceError, match="nowhere"):
        external_schema(uri, format="csv")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"a": [1]}, r"lacks column 'b'"),
        ({"a": [1], "b": ["x"], "c": [2]}, r"has a column 'c' that is not expected"),
        ({"a": ["1"], "b": ["x"]}, "has String in column 'a', not Int64"),
    ],
)
def test_a_file_with_other_columns_is_named(found: dict[str, Any], why: str) -> None:
    first, other = memory(parquet(pl.DataFrame({"a": [1], "b": ["x"]}))), memory(parquet(pl.DataFrame(found)))
    with pytest.raises(SourceError, match=why) as failed:
        scan_external([first, other], format="parquet").collect()
    assert failed.value.uri == other


def test_columns_in_another_order_are_matched_by_name() -> None:
    one, two = pl.DataFrame({"a": [1], "b": ["x"]}), pl.DataFrame({"b": ["y"], "a": [2]})
    expected = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    for format_ in ("parquet", "csv", "ndjson", "ipc"):
        uris = []
        for frame in (one, two):
            out = io.BytesIO()
            getattr(frame, f"write_{format_}")(out)
            uris.append(memory(out.getvalue()))
        assert_frame_equal(scan_external(uris, format=format_).collect(), expected)  # type: ignore[arg-type]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="no files"):
        scan_external([], format="csv")
    with pytest.raises(ValueError, match="did you mean 'separator'"):
        scan_external(["memory://a"], format="csv", read_options={"seperator": ";"})
    with pytest.raises(ValueError, match="parquet has no read option"):
        external_schema("memory://a", format="parquet", read_options={"separator": ";"})


def test_temporary_copies_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = io.BytesIO()
    ARCHIVED.write_ipc(out)
    lazy = scan(out.getvalue(), ".ipc")
    for query in (lazy, lazy.head(1), lazy.select(pl.len())):
        query.collect()
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        lazy.select("nowhere").collect()
    assert list(tmp_path.iterdir()) == []


class LikeParamiko(io.BytesIO):
    """A file as paramiko gives it: ``seek`` returns nothing, ``readv`` reads many ranges at once, others read slowly."""

    def stat(self) -> Any:
        return type("Stat", (), {"st_size": len(self.getvalue())})

    def seek(self, offset: int, whence: int = 0) -> None:  # type: ignore[override]
        super().seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        raise AssertionError("not pipelined")

    def readv(self, ranges: list[tuple[int, int]]) -> Any:
        for start, length in ranges:
            self.seek(start)
            yield super().read(length)


class LikeSftp(MemoryFileSystem):
    protocol = "likesftp"

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        return LikeParamiko(self.store[path].getvalue()) if mode == "rb" else super()._open(path, mode, **kwargs)


@pytest.mark.parametrize("format_", ["parquet", "csv", "ndjson", "ipc"])
@pytest.mark.parametrize("archive", [None, "stored", "deflated", "tar"])
def test_files_of_paramiko_are_read_pipelined(archive: str | None, format_: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(external_files, "MemoryFileSystem", type("NoneSuch", (), {}))
    fsspec.register_implementation("likesftp", LikeSftp, clobber=True)
    out = io.BytesIO()
    getattr(ARCHIVED, f"write_{format_}")(out)
    data = out.getvalue() if archive is None else packed(archive, "x", out.getvalue())
    LikeSftp().pipe("likesftp://a", data)
    link = "" if archive is None else f"{'tar' if archive == 'tar' else 'zip'}://x::"
    assert_frame_equal(scan_external([f"{link}likesftp://a"], format=format_).collect(), ARCHIVED)


def test_nothing_stays_open_after_a_query() -> None:
    out = {}
    for format_ in ("parquet", "csv", "ndjson", "ipc"):
        data = io.BytesIO()
        getattr(ARCHIVED, f"write_{format_}")(data)
        out[format_] = data.getvalue()
    gc.collect()
    gc.disable()  # what is only freed by the collector can hold a connection for long
    try:
        for format_, data_ in out.items():
            for uri in (memory(data_), f"zip://x::{memory(packed('deflated', 'x', data_))}"):
                lazy = scan_external([uri] * 5, format=format_)  # type: ignore[arg-type]
                for query in (lazy, lazy.head(1), lazy.select(pl.len()), lazy.slice(1500, 10)):
                    query.collect()
        deadline = time.monotonic() + 60
        while (still := open_handles()) and time.monotonic() < deadline:
            time.sleep(0.05)  # Polars drops readers a little after the query has ended
        assert still == 0
    finally:
        gc.enable()


def open_handles() -> int:
    return sum(isinstance(o, external_files.Handle) for o in gc.get_objects())


MANY = """
    import io, fsspec, polars as pl
    from lazypipe.storage.external.scan import scan_external
    frame = pl.DataFrame({"a": range(5000), "b": [str(k) for k in range(5000)]})
    fs = fsspec.filesystem("memory")
    for format_ in ("parquet", "csv", "ndjson", "ipc"):
        out = io.BytesIO()
        getattr(frame, f"write_{format_}")(out)
        uris = [f"memory://many/{k}.{format_}" for k in range(20)]
        for uri in uris:
            fs.pipe(uri, out.getvalue())
        lazy = scan_external(uris, format=format_)
        for engine in ("streaming", "in-memory"):
            assert lazy.collect(engine=engine).height == 100_000
            assert lazy.select(pl.len()).collect(engine=engine).item() == 100_000
            assert lazy.filter(pl.col("a") % 10 == 0).group_by("b").len().collect(engine=engine).height == 500
            assert lazy.sort("a").head(3).collect(engine=engine)["a"].to_list() == [0, 0, 0]
            assert lazy.join(lazy.head(5), on="a").collect(engine=engine).height == 100
        assert [f.item() for f in pl.collect_all([lazy.select(pl.col("a").sum() + k) for k in range(4)])]
    print("done")
"""


def test_queries_inside_the_reader_do_not_starve_the_query_outside() -> None:
    # with one thread that is certain; the tests above run on as many as there are
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MANY)],
        env={**os.environ, "POLARS_MAX_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert (ended.stdout.strip(), ended.stderr) == ("done", "")
