"""Files are written as a layout says, by either writer, and read back to the last bit; told from pyarrow's own view of them."""

from __future__ import annotations

import io
import sys
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes

from lazypipe.errors import StorageError
from lazypipe.storage.datasets.data_files import scan_files
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.order import with_bounds
from lazypipe.storage.optimizer.writing import BatchWriter, check_layout, writable
from lazypipe.storage.sink import DatasetSink, Written

ROWS = 5_000
FRAME = pl.DataFrame({
    "id": range(ROWS),
    "part": [i % 3 for i in range(ROWS)],
    "text": [f"abc{i}" for i in range(ROWS)],
    "float": [i / 7 for i in range(ROWS)],
    "flag": [i % 2 == 0 for i in range(ROWS)],
    "list": [[i, i + 1] for i in range(ROWS)],
    "dot.ted": [{"id": i, "x": str(i)} for i in range(ROWS)],
})  # fmt: skip


class Kept(io.BytesIO):
    """A file in memory that can be read once it is closed."""

    def close(self) -> None:
        self.flush()


def write(folder: str, frame: pl.DataFrame, layout: Layout, by: tuple[str, ...] = (), **more: Any) -> Written:
    return DatasetSink(folder, "r-001", by, layout=layout, **more).write(frame.lazy())


def back(folder: str, written: Written, frame: pl.DataFrame, by: tuple[str, ...] = ()) -> pl.DataFrame:
    return scan_files(folder, written.files, frame.schema, by, {}).collect()


def columns(path: Path | io.BytesIO, group: int = 0) -> dict[str, Any]:
    meta = pq.ParquetFile(path).metadata.row_group(group)
    return {meta.column(i).path_in_schema: meta.column(i) for i in range(meta.num_columns)}


def test_each_column_has_its_own_encoding_and_codec(tmp_path: Path) -> None:
    layout = Layout(
        codec="zstd", level=1, codecs={"text": ("gzip", 9), "flag": ("uncompressed", None)},
        encodings={"id": "delta", "text": "delta", "float": "byte_stream_split", "flag": "rle", "list": "delta",
                   "part": "dictionary", "dot.ted": "plain"},
        row_group_rows=2_000, writer="pyarrow",
    )  # fmt: skip
    written = write(str(tmp_path), FRAME, layout)
    (file,) = written.files
    path = tmp_path / file.path
    assert (file.rows, file.bytes) == (ROWS, path.stat().st_size)
    assert file.layout == layout
    assert [pq.ParquetFile(path).metadata.row_group(i).num_rows for i in range(3)] == [2_000, 2_000, 1_000]
    found = columns(path)
    assert {n: c.compression for n, c in found.items()} == {
        "id": "ZSTD", "part": "ZSTD", "text": "GZIP", "float": "ZSTD", "flag": "UNCOMPRESSED", "list.list.element": "ZSTD",
        "dot.ted.id": "ZSTD", "dot.ted.x": "ZSTD",
    }  # fmt: skip
    for name, encoding in {
        "id": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY", "float": "BYTE_STREAM_SPLIT", "part": "RLE_DICTIONARY",
        "list.list.element": "DELTA_BINARY_PACKED", "dot.ted.id": "PLAIN", "flag": "RLE",
    }.items():  # fmt: skip
        assert encoding in found[name].encodings, name
        assert ("RLE_DICTIONARY" in found[name].encodings) == (name == "part")
    assert_frame_equal(back(str(tmp_path), written, FRAME), FRAME)


def test_a_layout_may_leave_out_statistics_and_ask_for_bloom_filters(tmp_path: Path) -> None:
    plain = write(str(tmp_path / "a"), FRAME, Layout(writer="pyarrow"))
    filtered = write(str(tmp_path / "b"), FRAME, Layout(writer="pyarrow", statistics=False, bloom=("id", "flag")))
    polars = write(str(tmp_path / "c"), FRAME, Layout(statistics=False))
    of = {
        n: columns(tmp_path / n / w.files[0].path)["id"] for n, w in zip("abc", (plain, filtered, polars), strict=True)
    }
    assert [of[n].is_stats_set for n in "abc"] == [True, False, False]
    # at one bad answer in a hundred a filter takes 10 bits for each of 5,000 values
    assert filtered.bytes - plain.bytes > 5_000
    assert_frame_equal(back(str(tmp_path / "b"), filtered, FRAME), FRAME)


def test_an_older_pyarrow_writes_without_bloom_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Older(pq.ParquetWriter):
        def __init__(self, where: Any, schema: Any, compression: Any = "snappy", **options: Any) -> None:
            assert "bloom_filter_options" not in options
            super().__init__(where, schema, compression=compression, **options)

    monkeypatch.setattr(pq, "ParquetWriter", Older)
    written = write(str(tmp_path), FRAME, Layout(writer="pyarrow", bloom=("id",)))
    assert_frame_equal(back(str(tmp_path), written, FRAME), FRAME)


@pytest.mark.parametrize("writer", ["polars", "pyarrow"])
def test_partitions_are_folders_and_rows_stand_in_order(tmp_path: Path, writer: Any) -> None:
    layout = Layout(sort_by=("flag", "id"), writer=writer, row_group_rows=500, file_bytes=15_000)
    written = write(str(tmp_path), FRAME.sample(fraction=1.0, shuffle=True, seed=1), layout, ("part",))
    assert {f.path.split("/")[0] for f in written.files} == {"part=0", "part=1", "part=2"}
    assert {f.layout.partition_by for f in written.files if f.layout} == {("part",)}
    assert_frame_equal(back(str(tmp_path), written, FRAME, ("part",)).sort("id"), FRAME)
    for part in range(3):
        files = [f for f in written.files if f.path.startswith(f"part={part}")]
        rows = pl.concat(pl.read_parquet(tmp_path / f.path, hive_partitioning=False) for f in files)
        expected = FRAME.filter(part=part).sort("flag", "id").drop("part")
        assert_frame_equal(rows, expected)
    if writer == "pyarrow":
        assert len(written.files) > 3
        assert max(f.bytes for f in written.files) < 30_000


@pytest.mark.parametrize("at_once", [True, False])
def test_an_hour_that_comes_twice_and_nanoseconds_are_partitions_of_their_own(*, at_once: bool) -> None:
    # Python takes either pair for one moment
    frame = pl.DataFrame({"id": [1, 2, 3], "hour": [0, 3_600_000, 3_600_000], "ns": [5, 5, 6]}).with_columns(
        (pl.col("hour") + 1_729_989_000_000).cast(pl.Datetime("ms", "Europe/Berlin")),
        pl.col("ns").cast(pl.Datetime("ns")),
    )
    assert frame["hour"].dt.hour().to_list() == [2, 2, 2]
    made: dict[str, tuple[Any, io.BytesIO]] = {}

    def create(keys: pl.DataFrame, number: int) -> tuple[str, io.BytesIO]:
        path = f"{len(made)}-{number}"
        made[path] = (keys, Kept())
        return path, made[path][1]

    writer = BatchWriter(Layout(), frame.schema, ("hour", "ns"), create, "uri")
    for batch in [frame] if at_once else frame.iter_slices(1):
        writer.add(batch)
    assert [(path, rows) for path, rows, _ in writer.finish()] == [("0-0", 1), ("1-0", 1), ("2-0", 1)]
    found = [keys.with_columns(id=pl.read_parquet(file.getvalue())["id"]) for keys, file in made.values()]
    assert_frame_equal(pl.concat(found), frame, check_column_order=False)


@pytest.mark.parametrize("writer", ["polars", "pyarrow"])
def test_a_file_has_no_more_rows_than_asked_for(tmp_path: Path, writer: Any) -> None:
    written = write(str(tmp_path), FRAME, Layout(writer=writer, row_group_rows=1_500, file_bytes=100), most_rows=2_000)
    assert sorted(f.rows for f in written.files) == [1_000, 2_000, 2_000]


def test_what_is_gathered_of_many_partitions_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.writing._MOST_GATHERED", 20_000)
    written = write(str(tmp_path), FRAME, Layout(writer="pyarrow", row_group_rows=1_000), ("part",))
    groups = [pq.ParquetFile(tmp_path / f.path).metadata.num_row_groups for f in written.files]
    assert sum(groups) > 6  # two would hold all rows of a partition
    assert_frame_equal(back(str(tmp_path), written, FRAME, ("part",)).sort("id"), FRAME)


@pytest.mark.parametrize(
    ("writer", "by", "files"), [("pyarrow", (), 1), ("pyarrow", ("part",), 0), ("polars", ("part",), 0)]
)
def test_no_rows_make_one_file_or_in_partitions_none(
    tmp_path: Path, writer: Any, by: tuple[str, ...], files: int
) -> None:
    written = write(str(tmp_path), FRAME.clear(), Layout(writer=writer), by)
    assert len(written.files) == files
    assert len(list(tmp_path.rglob("*.parquet"))) == files
    assert_frame_equal(back(str(tmp_path), written, FRAME, by), FRAME.clear())


@pytest.mark.parametrize("writer", ["polars", "pyarrow"])
def test_other_stores_too(writer: Any) -> None:
    folder = f"memory://{uuid.uuid4().hex}"
    written = write(folder, FRAME, Layout(writer=writer), ("part",))
    assert_frame_equal(back(folder, written, FRAME, ("part",)).sort("id"), FRAME)


@pytest.mark.parametrize("writer", ["polars", "pyarrow"])
def test_types_that_pyarrow_does_not_know_are_written_by_polars(tmp_path: Path, writer: Any) -> None:
    frame = pl.DataFrame({"a": pl.Series([1, None, 2**100], dtype=pl.Int128), "b": [1, 2, 3]})
    layout = Layout(writer=writer, encodings={"b": "delta"} if writer == "pyarrow" else {})
    written = write(str(tmp_path), frame, layout)
    assert written.files[0].layout == Layout()
    assert_frame_equal(back(str(tmp_path), written, frame), frame)


@pytest.mark.parametrize(
    ("dtype", "known"),
    [
        (pl.Int128(), False),
        (pl.Int64(), True),
        (pl.List(pl.Array(pl.UInt128, 2)), False),
        (pl.Struct({"x": pl.List(pl.Int8)}), True),
    ],
)
def test_types_that_pyarrow_knows(dtype: pl.DataType, known: bool) -> None:
    assert writable({"a": dtype}) is known


ALL = {
    "i8": pl.Series([1, None, -3], dtype=pl.Int8), "u64": pl.Series([1, None, 2**64 - 1], dtype=pl.UInt64),
    "f32": pl.Series([1.5, None, float("nan")], dtype=pl.Float32), "f64": pl.Series([-0.0, None, float("inf")]),
    "bool": pl.Series([True, None, False]), "str": pl.Series(["a", None, ""]), "bin": pl.Series([b"a", None, b""]),
    "date": pl.Series([date(2020, 1, 1), None, date(1, 1, 1)]), "us": pl.Series([datetime(2020, 1, 1), None, datetime(1, 1, 1)]),
    "tz": pl.Series([datetime(2020, 1, 1), None, datetime(1970, 1, 1)], dtype=pl.Datetime("ns", "Europe/Berlin")),
    "time": pl.Series([time(1, 2), None, time(0)]), "dur": pl.Series([timedelta(1), None, timedelta(0)], dtype=pl.Duration("ms")),
    "dec": pl.Series([Decimal("1.23"), None, Decimal("0.00")], dtype=pl.Decimal(38, 2)),
    "cat": pl.Series(["a", None, "b"], dtype=pl.Categorical), "enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a", "c"])),
    "arr": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int16, 2)), "null": pl.Series([None, None, None]),
    "ls": pl.Series([[{"x": 1}], None, []], dtype=pl.List(pl.Struct({"x": pl.Int64}))),
    "st": pl.Series([{"x": 1, "y": None}, None, {"x": None, "y": ["a"]}], dtype=pl.Struct({"x": pl.Int64, "y": pl.List(pl.String)})),
}  # fmt: skip


def bits(frame: pl.DataFrame) -> pl.DataFrame:
    """Floats by their bits, so that -0.0 is not 0.0."""
    return frame.with_columns(pl.selectors.float().map_elements(float.hex, return_dtype=pl.String, skip_nulls=True))


def test_every_type_comes_back_as_it_was(tmp_path: Path) -> None:
    frame = pl.concat([pl.DataFrame(ALL), pl.DataFrame(ALL).reverse(), pl.DataFrame(ALL).clear()])
    written = write(str(tmp_path), frame, Layout(writer="pyarrow", row_group_rows=2))
    found = back(str(tmp_path), written, frame)
    assert found.schema == frame.schema
    assert_frame_equal(bits(found), bits(frame))


@settings(max_examples=settings().max_examples)
@given(
    frame=dataframes(min_cols=1, max_cols=4, max_size=30, allow_null=True, excluded_dtypes=[pl.Object, pl.Unknown]),
    rows=st.integers(1, 12),
)
def test_any_frame_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, frame: pl.DataFrame, rows: int
) -> None:
    folder = str(tmp_path_factory.mktemp("d"))
    written = write(folder, frame, Layout(writer="pyarrow", row_group_rows=rows))
    assert_frame_equal(back(folder, written, frame), frame)


ORDERED = {k: v for k, v in ALL.items() if k not in ("arr", "null", "ls", "st", "bin")}


@pytest.mark.parametrize("name", ORDERED)
@pytest.mark.parametrize("curve", ["z_order", "hilbert"])
def test_a_curve_goes_through_columns_of_every_type(tmp_path: Path, name: str, curve: Any) -> None:
    frame = pl.DataFrame({name: ALL[name], "n": [3, 1, 2]})
    layout = with_bounds(Layout(sort_by=(name, "n"), curve=curve), frame, "d")
    assert Layout.from_dict(layout.to_dict()) == layout
    written = write(str(tmp_path), frame, layout)
    found = back(str(tmp_path), written, frame)
    assert found[name][0] is None  # nulls stand first
    assert_frame_equal(found.sort("n"), frame.sort("n"))


@pytest.mark.parametrize("curve", ["z_order", "hilbert"])
@pytest.mark.parametrize("names", [("x", "y"), ("x", "y", "z")])
def test_row_groups_along_a_curve_are_narrow_in_every_column(
    tmp_path: Path, curve: Any, names: tuple[str, ...]
) -> None:
    frame = pl.select(i=pl.int_range(40_000)).select(
        x=pl.col("i") * 7_919 % 40_009, y=pl.col("i") * 104_729 % 39_989, z=pl.col("i") * 1_299_709 % 39_983
    )
    layout = with_bounds(Layout(sort_by=names, curve=curve, row_group_rows=1_000), frame.sample(4_000, seed=1), "d")
    written = write(str(tmp_path), frame, layout)
    assert_frame_equal(back(str(tmp_path), written, frame), frame, check_row_order=False)
    meta = pq.ParquetFile(tmp_path / written.files[0].path).metadata
    for i, name in enumerate(names):
        stats = [meta.row_group(g).column(i).statistics for g in range(meta.num_row_groups)]
        part = sum(s.max - s.min for s in stats) / len(stats) / 40_000
        assert part < {2: 0.35, 3: 0.6}[len(names)], name  # in rows as they come, all of it


def test_a_curve_needs_bounds_and_two_or_three_columns() -> None:
    frame = FRAME.select("id", "part")
    with pytest.raises(
        StorageError, match=r"d: the hilbert order has no bounds for its columns; let lp\.optimize\.rewrite write it"
    ):
        DatasetSink("d", "r-001", layout=Layout(sort_by=("id", "part"), curve="hilbert")).write(frame.lazy())
    for names in ((), ("id",), ("id", "part", "text", "float")):
        with pytest.raises(
            StorageError, match=rf"u: a z_order order of {len(names)} columns cannot be made; name two or three"
        ):
            with_bounds(Layout(sort_by=names, curve="z_order"), FRAME, "u")
    assert with_bounds(Layout(sort_by=("id",)), FRAME, "u") == Layout(sort_by=("id",))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(codec="zip"), "u: there is no codec 'zip'; "),
        (Layout(codecs={"id": ("zst", None)}, writer="pyarrow"), "u: there is no codec 'zst'; did you mean 'zstd'?"),
        (Layout(encodings={"id": "deltas"}, writer="pyarrow"), "u: there is no encoding 'deltas'; did you mean 'delta'?"),
        (Layout(curve="z-order"), "u: there is no order 'z-order'; did you mean 'z_order'?"),  # type: ignore[arg-type]
        (Layout(writer="arrow"), "u: there is no writer 'arrow'; write polars or pyarrow"),  # type: ignore[arg-type]
        (Layout(sort_by=("ids",)), "u: there is no column 'ids'; did you mean 'id'?"),
        (Layout(partition_by=("ids",)), "u: there is no column 'ids'; did you mean 'id'?"),
        (Layout(encodings={"id": "delta"}, bloom=("id",)), "u: Polars' writer cannot do encodings or bloom per column; write writer: pyarrow"),
    ],
)  # fmt: skip
def test_what_a_layout_cannot_ask_for(layout: Layout, message: str) -> None:
    with pytest.raises(StorageError) as caught:
        check_layout(layout, FRAME.schema, "u")
    assert str(caught.value).startswith(message)


def test_an_encoding_that_is_not_made_for_a_type_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError,
        match=r"column 'float' is DOUBLE in the file, which encoding 'delta' is not made for; choose one of plain, dictionary, byte_stream_split",
    ):
        write(str(tmp_path), FRAME, Layout(encodings={"float": "delta"}, writer="pyarrow"))
    assert not list(tmp_path.iterdir())


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        StorageError,
        match=r'pyarrow is not installed; pip install "lazypipe\[pyarrow\]", or choose a layout with writer: polars',
    ):
        write(str(tmp_path), FRAME, Layout(writer="pyarrow"))


def test_a_failure_midway_leaves_nothing_once_discarded(tmp_path: Path) -> None:
    text = pl.when(pl.col("id") == ROWS - 1).then(pl.lit("x")).otherwise(pl.col("id").cast(pl.String))
    bad = FRAME.lazy().with_columns(text.alias("text")).with_columns(pl.col("text").cast(pl.Int64))
    sink = DatasetSink(str(tmp_path), "r-001", ("part",), layout=Layout(writer="pyarrow", row_group_rows=100))
    with pytest.raises(pl.exceptions.InvalidOperationError):
        sink.write(bad)
    sink.discard()
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_full_disk_is_told_and_the_file_closed() -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    file = Full()
    writer = BatchWriter(Layout(writer="pyarrow", row_group_rows=10), FRAME.schema, (), lambda _, __: ("a", file), "u")
    with pytest.raises(OSError, match="No space left"):
        writer.add(FRAME)
    writer.abort()
    assert file.closed


def test_batches_are_gathered_into_row_groups_of_each_partition() -> None:
    files: dict[str, io.BytesIO] = {}

    class Kept(io.BytesIO):
        def close(self) -> None:
            self.seek(0)

    def create(keys: pl.DataFrame, index: int) -> tuple[str, Any]:
        path = f"{keys.item()}-{index}"
        files[path] = Kept()
        return path, files[path]

    layout = Layout(writer="pyarrow", row_group_rows=400)
    writer = BatchWriter(layout, FRAME.schema, ("part",), create, "u", 900)
    for start in range(0, ROWS, 100):
        writer.add(FRAME[start : start + 100])
    writer.add(FRAME.clear())
    assert [rows for _, rows, _ in writer.done] == [900] * 3
    done = {path: rows for path, rows, _ in writer.finish()}
    assert done == {"0-0": 900, "1-0": 900, "2-0": 900, "0-1": 767, "1-1": 767, "2-1": 766}
    groups = [pq.ParquetFile(files["0-0"]).metadata.row_group(i).num_rows for i in range(3)]
    assert groups == [400, 400, 100]
    rows = pl.concat(pl.read_parquet(files[f"1-{i}"]) for i in range(2))
    assert_frame_equal(rows, FRAME.filter(part=1).drop("part"))


def test_no_empty_file_follows_a_full_one() -> None:
    writer = BatchWriter(Layout(writer="pyarrow"), FRAME.schema, (), lambda _, i: (str(i), io.BytesIO()), "u", 2_500)
    writer.add(FRAME)
    assert [(path, rows) for path, rows, _ in writer.finish()] == [("0", 2_500), ("1", 2_500)]


def test_a_file_is_closed_once_it_is_as_large_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.writing._MOST_GATHERED", 10_000)
    made: list[str] = []

    def create(keys: pl.DataFrame, index: int) -> tuple[str, Any]:
        made.append(f"{keys.height}-{index}")
        return made[-1], io.BytesIO()

    writer = BatchWriter(Layout(writer="pyarrow", file_bytes=30_000), FRAME.schema, (), create, "u")
    for start in range(0, ROWS, 500):
        writer.add(FRAME[start : start + 500])
    done = writer.finish()
    assert made == [f"0-{i}" for i in range(len(done))]
    assert len(done) > 2
    assert all(size >= 30_000 for _, _, size in done[:-1])
    assert sum(rows for _, rows, _ in done) == ROWS
    writer.abort()
