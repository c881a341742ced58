"""What a sink has written is on the disk before it is named: how that is asked for, and what is told where it fails."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import StorageError
from lazypipe.storage import flushing
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.flushing import Flushing
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.sink import DatasetSink, ExportSink


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """The files that the disk was asked for, each with its size at that time."""
    found: list[tuple[str, int]] = []
    true = os.fdatasync

    def noted(file: int) -> None:
        found.append((os.path.basename(os.readlink(f"/proc/self/fd/{file}")), os.fstat(file).st_size))
        true(file)

    monkeypatch.setattr(os, "fdatasync", noted)
    return found


ROWS = pl.LazyFrame({"k": [1, 1, 2], "x": [1, 2, 3]})


@pytest.mark.parametrize("by", [(), ("k",)])
@pytest.mark.parametrize("layout", [None, Layout(), Layout(writer="pyarrow")])
def test_data_files_are_on_the_disk_as_a_whole(
    tmp_path: Path, by: tuple[str, ...], layout: Layout | None, flushed: list[tuple[str, int]]
) -> None:
    written = DatasetSink(str(tmp_path), "r-001", by, layout=layout).write(ROWS)
    assert sorted(flushed) == sorted((os.path.basename(f.path), f.bytes) for f in written.files)


def test_few_rows_are_on_the_disk_unless_only_this_run_reads_them(
    tmp_path: Path, flushed: list[tuple[str, int]]
) -> None:
    (written,) = DatasetSink(str(tmp_path), "r-001").write(ROWS, few=True).files
    DatasetSink(str(tmp_path), "r-002", spill=True).write(ROWS, few=True)
    assert flushed == [("r-001-00000.parquet", written.bytes)]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "ndjson", "parquet", "ipc"])
def test_exports_are_on_the_disk_before_they_are_swapped_in(
    tmp_path: Path, ending: str, flushed: list[tuple[str, int]]
) -> None:
    sink = ExportSink(f"{tmp_path}/e.{ending}", ending.partition(".")[0], "r-001")
    written = sink.write(ROWS)
    assert flushed == [(f".r-001.e.{ending}", written.bytes)]


def test_what_only_this_run_reads_need_not_be(tmp_path: Path, flushed: list[tuple[str, int]]) -> None:
    DatasetSink(str(tmp_path), "r-001", spill=True).write(ROWS)
    DatasetSink("memory://flushing", "r-001").write(ROWS)
    ExportSink("memory://flushing/e.csv", "csv", "r-001").write(ROWS)
    assert flushed == []


def test_what_was_written_in_haste_and_stays_is_on_the_disk(tmp_path: Path, flushed: list[tuple[str, int]]) -> None:
    for name, uri in (("here", str(tmp_path)), ("there", "memory://flushing")):
        sink = DatasetSink(uri, f"{name}-001", ("k",), spill=True)
        written = sink.write(ROWS)
        assert sink.stay(written) == DatasetSink(uri, f"{name}-001", ("k",))
        assert sink.stay(written).stay(written).spill is False
    files = DatasetSink(str(tmp_path), "more-001", ("k",), spill=True).write(ROWS).files
    assert len(files) == 2
    assert {name for name, _ in flushed} == {"here-001-00000.parquet"}


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_outputs_too_small_for_a_layout_are_on_the_disk(
    tmp_path: Path, mode: str, flushed: list[tuple[str, int]]
) -> None:
    (tmp_path / "a.csv").write_text("k,x\n1,1\n1,2\n2,3\n")
    made = lp.pipeline("p", base=tmp_path).source("a", "*.csv").stage("s", "a")
    made.output(
        "s", "out/s", optimize="storage", mode=mode, partition_by="k"
    ).build().compile().run().raise_for_status()
    commit = Dataset(tmp_path / "out/s").read()
    assert len(commit.files) == 2
    assert {(f.path.rpartition("/")[2], f.bytes) for f in commit.files} <= {*flushed}


def test_a_large_file_goes_to_the_disk_while_it_grows(
    tmp_path: Path, flushed: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "_PAUSE", 0.001)
    monkeypatch.setattr(flushing, "_GROWN", 100)
    with Flushing() as following, open(tmp_path / "a", "wb", buffering=0) as file:
        following.add(str(tmp_path / "a"))
        following.add(str(tmp_path / "b"))
        for size in (100, 250):
            file.write(b"x" * (size - file.tell()))
            while ("a", size) not in flushed:
                assert flushing._keeper.thread is not None
                assert flushing._keeper.thread.is_alive()
        file.write(b"x")
        (tmp_path / "b").touch()
    assert flushed == [("a", 100), ("a", 250), ("a", 251), ("b", 0)]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice")
def test_what_the_disk_has_taken_stays_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "_GROWN", 1 << 20)
    forgotten: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, length, advice: forgotten.append(start))
    path = tmp_path / "a"
    with Flushing() as following:
        following.add(str(path))
        path.write_bytes(bytes(8 << 20))
        following.look()
        with path.open("ab") as file:
            file.write(b"more")
    assert forgotten == [8 << 20]


def test_a_disk_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", refuse)
    with pytest.raises(StorageError, match="the disk cannot be written to: Input/output error") as error:
        DatasetSink(str(tmp_path), "r-001").write(ROWS)
    assert error.value.uri == f"{tmp_path}/r-001-00000.parquet"


def test_a_query_that_fails_is_not_waited_for(tmp_path: Path, flushed: list[tuple[str, int]]) -> None:
    with pytest.raises(pl.exceptions.InvalidOperationError):
        DatasetSink(str(tmp_path), "r-001").write(ROWS.select(pl.lit("a").cast(pl.Int64)))
    assert flushed == []


def test_where_files_cannot_be_flushed_by_others_it_is_left_to_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushed: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(os, "name", "nt")
    with Flushing() as following:
        following.add(str(tmp_path / "none"))
    assert flushed == []


def test_advice_is_no_condition(
    tmp_path: Path, flushed: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    written = DatasetSink(str(tmp_path), "r-001").write(ROWS)
    assert [f.bytes for f in written.files] == [size for _, size in flushed]


def test_one_thread_looks_after_all_files_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "_PAUSE", 0.01)
    monkeypatch.setattr(flushing, "_keeper", flushing._Keeper())
    with Flushing(), Flushing():
        thread = flushing._keeper.thread
    assert thread is not None
    DatasetSink(str(tmp_path), "r-001").write(ROWS)
    assert flushing._keeper.thread in (thread, None)
    thread.join(300)
    assert not thread.is_alive()
    assert flushing._keeper.thread is None
    with Flushing():
        assert flushing._keeper.thread is not thread


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_process_begins_a_thread_of_its_own() -> None:
    with Flushing(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads that a child lacks
        child = os.fork()
        if child == 0:  # pragma: no cover
            alive = False
            with Flushing():
                alive = flushing._keeper.thread is not None and flushing._keeper.thread.is_alive()
            os._exit(0 if alive else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
