"""Exports are swapped in whole; sinks leave nothing that readers see, and take back what they wrote."""

from __future__ import annotations

import gzip
import io
import os
import uuid
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from polars.testing import assert_frame_equal

from lazypipe.errors import StorageError
from lazypipe.storage import sink as sink_module
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.sink import DatasetSink, ExportSink, Written, is_data_file, is_staged
from lazypipe.testing.faults import Faults, faulty

FRAME = pl.DataFrame({"a": [1, 2, None], "s": ['quo"te, comma', "ü\nline", None]})
ENDINGS = [".parquet", ".csv", ".csv.gz", ".csv.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst", ".arrow"]
FULL = OSError(28, "No space left on device")


@pytest.fixture(params=["local", "memory", "file"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    prefix = {"local": "", "file": "file://"}
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"{prefix[request.param]}{tmp_path}"


def format_of(ending: str) -> str:
    return "ipc" if ending == ".arrow" else ending.split(".")[1]


def read(uri: str, ending: str) -> pl.DataFrame:
    fs, path = fsspec.core.url_to_fs(uri)
    data = io.BytesIO(fs.cat_file(path))
    match format_of(ending):
        case "parquet":
            return pl.read_parquet(data)
        case "ipc":
            return pl.read_ipc(data)
        case "csv":
            return pl.read_csv(data)
        case _:
            return pl.scan_ndjson(data).collect()


def names(folder: str) -> list[str]:
    fs, path = fsspec.core.url_to_fs(folder)
    return sorted(p.rsplit("/", 1)[-1] for p in fs.find(path))


def failing() -> pl.LazyFrame:
    """Rows of which the last cannot be computed."""
    rows = 200_000
    text = pl.when(pl.col("a") == rows - 1).then(pl.lit("x")).otherwise(pl.col("a").cast(pl.String))
    return pl.LazyFrame({"a": range(rows)}).with_columns(s=text.cast(pl.Int64))


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_export_replaces_its_target_in_one_step(folder: str, ending: str) -> None:
    uri = f"{folder}/x{ending}"
    first = ExportSink(uri, format_of(ending), "r1-001")
    written = first.write(FRAME.lazy())
    assert names(folder) == [f".r1-001.x{ending}"]
    assert (written.rows, len(written.files)) == (3, 1)
    first.publish()
    assert names(folder) == [f"x{ending}"]
    assert_frame_equal(read(uri, ending), FRAME)
    fs, path = fsspec.core.url_to_fs(uri)
    assert written.bytes == fs.size(path)

    second = ExportSink(uri, format_of(ending), "r2-001")
    second.write(FRAME.with_columns(a=pl.lit(9, dtype=pl.Int64)).lazy())
    assert_frame_equal(read(uri, ending), FRAME)  # readable until the swap
    second.publish()
    assert read(uri, ending)["a"].to_list() == [9, 9, 9]
    assert names(folder) == [f"x{ending}"]


@pytest.mark.parametrize("ending", [".csv.gz", ".ndjson.gz"])
def test_gz_is_gzip_and_zst_is_zstandard(tmp_path: Path, ending: str) -> None:
    for end in (ending, ending.replace("gz", "zst")):
        sink = ExportSink(str(tmp_path / f"x{end}"), format_of(end), "r-001")
        sink.write(pl.LazyFrame({"a": [1]}))
        sink.publish()
    assert b"1" in gzip.decompress((tmp_path / f"x{ending}").read_bytes())
    assert (tmp_path / f"x{ending.replace('gz', 'zst')}").read_bytes().startswith(b"\x28\xb5\x2f\xfd")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_query_that_fails_leaves_the_target_as_it_was(folder: str, ending: str) -> None:
    uri = f"{folder}/x{ending}"
    first = ExportSink(uri, format_of(ending), "r1-001")
    first.write(FRAME.lazy())
    first.publish()
    second = ExportSink(uri, format_of(ending), "r2-001")
    with pytest.raises(pl.exceptions.PolarsError, match="conversion"):
        second.write(failing())
    assert_frame_equal(read(uri, ending), FRAME)
    second.discard()
    assert names(folder) == [f"x{ending}"]
    second.discard()  # nothing is there any more, and that is no error


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_rows_are_a_file_with_its_columns(folder: str, ending: str) -> None:
    uri = f"{folder}/x{ending}"
    sink = ExportSink(uri, format_of(ending), "r-001")
    assert sink.write(FRAME.clear().lazy()).rows == 0
    sink.publish()
    if "ndjson" in ending:
        assert names(folder) == [f"x{ending}"]
    else:
        assert read(uri, ending).columns == ["a", "s"]


@pytest.mark.parametrize("call", ["open", "write", "close"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_store_that_fails_while_an_export_is_written(ending: str, call: Any) -> None:
    with faulty() as faults:
        uri = f"faulty://x{ending}"
        first = ExportSink(uri, format_of(ending), "r1-001")
        first.write(FRAME.lazy())
        first.publish()
        for number in range(1, 1 + _calls(faults, call, ending)):
            faults.fail(call, FULL, nth=number)
            second = ExportSink(uri, format_of(ending), "r2-001")
            with pytest.raises(
                StorageError, match=rf"^{faults.uri}x\{ending}: cannot be written: No space left on device; nothing"
            ):
                second.write(FRAME.lazy())
            assert_frame_equal(read(uri, ending), FRAME)
            faults.mend()
            second.discard()
            assert names("faulty://") == [f"x{ending}"]


def _calls(faults: Faults, call: str, ending: str) -> int:
    """How many calls of a kind one write makes."""
    faults.mend()
    sink = ExportSink(f"faulty://count{ending}", format_of(ending), "r-001")
    sink.write(FRAME.lazy())
    sink.discard()
    made = faults.calls[call]
    assert made > 0
    faults.mend()
    return made


def test_a_swap_that_the_store_refuses_is_a_storage_error_and_can_be_tried_again() -> None:
    with faulty() as faults:
        sink = ExportSink("faulty://x.csv", "csv", "r-001")
        sink.write(FRAME.lazy())
        faults.fail("move", PermissionError(13, "Permission denied"))
        with pytest.raises(StorageError, match=r"^faulty://x.csv: cannot be replaced: .*Permission denied"):
            sink.publish()
        assert names("faulty://") == [".r-001.x.csv"]
        sink.publish()
        assert names("faulty://") == ["x.csv"]


def test_a_folder_in_place_of_the_target_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    sink = ExportSink(str(tmp_path / "x.csv"), "csv", "r-001")
    sink.write(FRAME.lazy())
    with pytest.raises(StorageError, match="x.csv: cannot be replaced: .*directory"):
        sink.publish()


def test_a_name_with_glob_characters_is_a_name_like_any_other(folder: str) -> None:
    uri = f"{folder}/a[b]*.csv"
    for value in (1, 2):
        sink = ExportSink(uri, "csv", f"r{value}-001")
        sink.write(pl.LazyFrame({"a": [value]}))
        sink.publish()
        assert names(folder) == ["a[b]*.csv"]
        assert read(uri, ".csv")["a"].to_list() == [value]


# datasets


def test_data_files_are_named_by_the_run_and_counted(folder: str) -> None:
    frame = pl.DataFrame({"a": range(10), "k": ["x", "y"] * 5})
    written = DatasetSink(f"{folder}/d", "r7-002", ("k",)).write(frame.lazy())
    assert [(f.path, f.rows) for f in written.files] == [
        ("k=x/r7-002-00000.parquet", 5),
        ("k=y/r7-002-00000.parquet", 5),
    ]
    fs, root = fsspec.core.url_to_fs(f"{folder}/d")
    assert [f.bytes for f in written.files] == [fs.size(f"{root}/{f.path}") for f in written.files]
    assert all(is_data_file(f.path) for f in written.files)


def test_two_runs_never_write_the_same_file(folder: str) -> None:
    sinks = [DatasetSink(f"{folder}/d", f"r{n}-001", ("k",)) for n in (1, 2)]
    paths = [f.path for sink in sinks for f in sink.write(pl.LazyFrame({"a": [1], "k": [None]})).files]
    assert len(set(paths)) == 2
    sinks[0].discard()
    assert [n for n in names(f"{folder}/d") if n.startswith("r1")] == []
    assert names(f"{folder}/d") == ["r2-001-00000.parquet"]


def test_what_a_failed_write_left_can_be_discarded(folder: str) -> None:
    sink = DatasetSink(f"{folder}/d", "r-001")
    with pytest.raises(pl.exceptions.PolarsError, match="conversion"):
        sink.write(failing())
    sink.discard()
    assert names(f"{folder}/d") == []


@pytest.mark.parametrize("rows", [0, 1, 10])
@pytest.mark.parametrize("told", [None, str])
def test_few_rows_are_written_at_once_with_all_that_is_known_of_them(
    folder: str, rows: int, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pl.DataFrame({"a": range(rows), "s": ["x", None] * (rows // 2) + ["y"] * (rows % 2)})
    engines: list[str] = []
    run = sink_module._run

    def noted(sink: pl.LazyFrame, capture: Any, engine: Any = "streaming") -> Any:
        engines.append(engine)
        return run(sink, capture, engine)

    monkeypatch.setattr(sink_module, "_run", noted)
    sink = DatasetSink(f"{folder}/d", "r7-002", most_rows=4, told=told)
    written = sink.write(frame.lazy(), few=True, keys=["a", "s"])
    assert engines == ["streaming" if folder.startswith("memory") else "in-memory"]
    counts = [min(4, rows - n) for n in range(0, rows, 4)] or [0]
    fs, root = fsspec.core.url_to_fs(f"{folder}/d")
    assert [(f.path, f.rows) for f in written.files] == [(f"r7-002-{n:05}.parquet", c) for n, c in enumerate(counts)]
    content = [fs.cat_file(f"{root}/{f.path}") for f in written.files]
    assert [f.bytes for f in written.files] == [len(c) for c in content]
    assert_frame_equal(pl.concat(pl.read_parquet(io.BytesIO(c)) for c in content), frame)
    if folder.startswith("memory"):  # such a store is written to as rows come
        return
    assert [f.blake3 for f in written.files] == [None if told is None else blake3(c).hexdigest() for c in content]
    for file, part in zip(written.files, frame.iter_slices(4) if rows else [frame], strict=True):
        texts = part["s"].drop_nulls().sort().to_list()
        low, high = (texts[0].encode(), texts[-1].encode()) if texts else (None, None)
        assert file.bounds["s"] == (low, high, part["s"].to_list().count(None), part.height)
        numbers = part["a"].to_list()
        assert file.bounds["a"][:3] == ((numbers[0], numbers[-1], 0) if numbers else (None, None, 0))
    sink.discard()
    assert names(f"{folder}/d") == []


def test_few_rows_of_partitions_and_layouts_are_written_as_many_are(tmp_path: Path) -> None:
    frame = pl.LazyFrame({"k": ["a", "b"], "x": [1, 2]})
    by = DatasetSink(f"{tmp_path}/d", "r-001", ("k",)).write(frame, few=True)
    assert [f.path for f in by.files] == ["k=a/r-001-00000.parquet", "k=b/r-001-00000.parquet"]
    laid = DatasetSink(f"{tmp_path}/d", "r-002", layout=Layout(codec="gzip")).write(frame, few=True)
    assert laid.files[0].layout == Layout(codec="gzip")
    assert _codec(tmp_path, laid) == "GZIP"


def test_few_rows_are_packed_in_little_time_unless_it_is_said_how(tmp_path: Path) -> None:
    frame = pl.LazyFrame({"x": [1, 2]})

    def codec(name: str, *, few: bool = True, **how: Any) -> str:
        return _codec(tmp_path, DatasetSink(f"{tmp_path}/d", name, **how).write(frame, few=few))

    assert codec("r-001") == "ZSTD"  # few rows are no ground for larger files
    assert codec("r-002", few=False) == "ZSTD"
    assert codec("r-003", options={"compression": "gzip"}) == "GZIP"
    assert codec("r-004", spill=True) == "LZ4"


def _codec(folder: Path, written: Written) -> str:
    codec: str = pq.read_metadata(f"{folder}/d/{written.files[0].path}").row_group(0).column(0).compression
    return codec


def test_few_rows_that_cannot_be_computed_or_written_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(pl.exceptions.PolarsError, match="conversion"):
        DatasetSink(f"{tmp_path}/d", "r-001").write(failing(), few=True)
    assert names(f"{tmp_path}") == []
    (tmp_path / "d").write_text("a file")
    with pytest.raises(OSError, match="(?i)not a directory|exists"):
        DatasetSink(f"{tmp_path}/d", "r-001").write(pl.LazyFrame({"a": [1]}), few=True)


@pytest.mark.parametrize("call", ["open", "write", "close"])
def test_a_store_that_fails_while_a_dataset_is_written(call: Any) -> None:
    frame = pl.LazyFrame({"a": range(10), "k": ["x", "y"] * 5})
    failed = list[int]()
    with faulty() as faults:
        DatasetSink("faulty://count", "r-001", ("k",)).write(frame)
        for number in range(1, faults.calls[call] + 1):
            faults.mend()
            faults.fail(call, FULL, nth=number)
            sink = DatasetSink("faulty://d", f"r{number}-001", ("k",))
            try:
                sink.write(frame)
            except StorageError as error:
                assert str(error).startswith("faulty://d: cannot be written: No space left on device; nothing")
                failed.append(number)
            else:  # in how many pieces Polars writes is up to its threads
                assert faults.calls[call] < number
            faults.mend()
            sink.discard()
            assert names("faulty://d") == []
        assert 1 in failed


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("r-001-00000.parquet", True),
        ("20240501T120000-ab12cd34-012b-00003.parquet", True),
        ("k=1/r-001-000-00000.parquet", True),
        ("part-00000.parquet", False),
        ("sales-2024-00001.parquet", False),
        ("r-001-00000.parquet.bak", False),
        ("r-001-00000.csv", False),
    ],
)
def test_only_files_named_by_a_run_are_data_files(name: str, ours: bool) -> None:
    assert is_data_file(name) is ours


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (".r-001.a.csv", True),
        (".20240501T120000-ab12cd34-012b.a.csv", True),
        ("r-001.a.csv", False),
        (".r-001.b.csv", False),
        (".mine.a.csv", False),
        (".r-001.aXcsv", False),
    ],
)
def test_only_exports_staged_by_a_run_are_left_overs(name: str, ours: bool) -> None:
    assert is_staged(name, "a.csv") is ours


def test_a_folder_that_cannot_be_made_is_an_error_before_any_row(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("a file")
    with pytest.raises(OSError, match="(?i)not a directory|exists"):
        DatasetSink(str(tmp_path / "d"), "r-001").write(FRAME.lazy())
    assert os.listdir(tmp_path) == ["d"]


def test_rows_that_one_file_can_hold_are_not_cut(tmp_path: Path) -> None:
    """Files are closed at four times 100,000 bytes in memory. With many threads Polars cuts the end of what it reads, and only that."""
    rows = pl.DataFrame({"a": range(200_000)})
    rows.write_parquet(tmp_path / "in.parquet", row_group_size=100_000)
    frame = pl.scan_parquet(tmp_path / "in.parquet").filter(pl.col("a") % 100 > 0)
    layout = Layout(file_bytes=100_000)
    written = {
        made_of: DatasetSink(str(tmp_path / "out"), f"r{made_of}-001", layout=layout).write(frame, made_of=made_of)
        for made_of in (None, 100_001, 100_000)
    }
    assert [len(w.files) > 1 for w in written.values()] == [True, True, False]
    for made in written.values():
        read = pl.concat([pl.read_parquet(tmp_path / "out" / f.path) for f in made.files])
        assert_frame_equal(read.sort("a"), frame.collect())
    (file,) = written[100_000].files
    groups = pq.ParquetFile(tmp_path / "out" / file.path).metadata
    sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
    assert (sizes[0], sum(sizes[1:])) == (99_000, 99_000)
    assert len(sizes) == 2 or pl.thread_pool_size() > 4
