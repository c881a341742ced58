"""Commits told as versions of a Delta table: what goes wrong in between, and who else writes there."""

from __future__ import annotations

import errno
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import deltalake
import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import CommitConflict, StorageError
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DELTA
from lazypipe.storage.datasets.vacuum import vacuum
from lazypipe.storage.lake.log import DeltaLog
from lazypipe.storage.lake.publish import catch_up, partition_values
from lazypipe.storage.sink import DatasetSink
from lazypipe.testing.faults import faulty

NOW = datetime(2024, 1, 1, tzinfo=UTC)
FRAME = pl.DataFrame({"id": [1]})


def add(dataset: Dataset, number: int, mode: str = "append", frame: pl.DataFrame = FRAME) -> int:
    files = DatasetSink(dataset.uri, f"r{number}-001").write(frame.lazy()).files
    time = NOW + timedelta(days=number)
    return dataset.commit(files, frame.schema, run=f"r{number}", time=time, mode=mode).version


FULL = OSError(errno.ENOSPC, "No space left on device")


def note(dataset: Dataset, number: int) -> int:
    """Commit nothing: two files are created, for the commit and for the version of the table."""
    return dataset.commit((), FRAME.schema, run=f"r{number}", time=NOW, mode="append").version


def test_a_log_that_cannot_be_written_is_caught_up() -> None:
    with faulty() as faults:
        dataset = Dataset(f"{faults.uri}out", delta=True)
        note(dataset, 1)
        faults.fail("create", FULL, nth=2)
        assert note(dataset, 2) == 2
        log = DeltaLog(dataset.uri)
        assert log.last() == 0
        faults.fail("create", FULL)
        with pytest.raises(StorageError) as caught:
            dataset.publish(run="r", time=NOW)
        assert str(caught.value) == (
            f"{faults.uri}out/_delta_log: the Delta log cannot be written: [Errno 28] No space left on device; "
            "the rows are committed; fix the cause and run again"
        )
        faults.fail("create", FULL)
        with pytest.raises(StorageError, match="the Delta log cannot be written"):
            vacuum(dataset)  # takes nothing away that nobody could tell of afterwards
        assert dataset.log.versions() == [1, 2]
        assert [dataset.publish(run="r", time=NOW) for _ in range(2)] == [1, 0]
        assert log.table().transactions == {"lazypipe": 2}


def test_a_checkpoint_that_cannot_be_written() -> None:
    with faulty() as faults:
        dataset = Dataset(f"{faults.uri}out", delta=True)
        for number in range(10):
            note(dataset, number)
        faults.fail("create", FULL, nth=3)
        assert note(dataset, 10) == 11
        log = DeltaLog(dataset.uri)
        assert (log.last(), log.checkpoints()) == (10, {})
        faults.fail("create", FULL)
        with pytest.raises(StorageError, match="the checkpoint of the Delta log cannot be written: .* No space left"):
            vacuum(dataset, older_than=timedelta(0))
        for _ in range(2):  # the second has its checkpoint already
            vacuum(dataset, older_than=timedelta(0))
            assert list(log.checkpoints()) == [10]
        faults.fail("write", FULL)
        log.point_to(10, 3)  # what says where the last checkpoint is may fail
        assert log.table().transactions == {"lazypipe": 11}


def test_logs_of_which_all_is_kept(tmp_path: Path) -> None:
    dataset = Dataset(str(tmp_path / "out"), delta=True)
    note(dataset, 1)
    note(dataset, 2)
    vacuum(dataset, keep=9)
    assert DeltaLog(dataset.uri).files.numbers() == [0, 1]
    (tmp_path / f"out/_delta_log/{0:020}.json").unlink()
    vacuum(dataset, keep=9)
    assert DeltaLog(dataset.uri).files.numbers() == [1]
    assert DeltaLog(dataset.uri).checkpoints() == {}


def test_commits_that_are_gone_before_they_were_told(tmp_path: Path) -> None:
    dataset = Dataset(str(tmp_path / "out"), delta=True)
    for number in range(4):
        add(dataset, number)
    for number in (1, 2, 3):
        (tmp_path / f"out/_delta_log/{number:020}.json").unlink()
    (tmp_path / f"out.commits/{2:020}.json").unlink()
    (tmp_path / f"out.commits/{3:020}.json").write_text("damaged")
    assert dataset.publish(run="r", time=NOW) == 3
    table = deltalake.DeltaTable(dataset.uri)
    assert table.version() == 3
    assert table.to_pyarrow_table().num_rows == 4


def test_what_others_only_note_is_passed_over(tmp_path: Path) -> None:
    dataset = Dataset(str(tmp_path / "out"), delta=True)
    add(dataset, 1)
    add(dataset, 2, mode="replace")
    at_once = {"retention_hours": 0, "enforce_retention_duration": False, "dry_run": False}
    deltalake.DeltaTable(dataset.uri).vacuum(**at_once)
    noted = deltalake.DeltaTable(dataset.uri).version()
    assert noted > 1
    add(dataset, 3)
    table = deltalake.DeltaTable(dataset.uri)
    assert (table.version(), table.to_pyarrow_table().num_rows) == (noted + 1, 2)
    # another engine may take a checkpoint, and delete what was before it
    add(dataset, 4, mode="replace")
    deltalake.DeltaTable(dataset.uri).vacuum(**at_once)
    table = deltalake.DeltaTable(dataset.uri)
    table.create_checkpoint()
    for number in range(table.version() + 1):
        (tmp_path / f"out/_delta_log/{number:020}.json").unlink()
    assert dataset.publish(run="r", time=NOW) == 0
    add(dataset, 5)
    assert deltalake.DeltaTable(dataset.uri).to_pyarrow_table().num_rows == 2
    vacuum(dataset, keep=2)
    assert deltalake.DeltaTable(dataset.uri).to_pyarrow_table().num_rows == 2


def test_a_table_that_others_have_begun_anew(tmp_path: Path) -> None:
    dataset = Dataset(str(tmp_path / "out"), delta=True)
    add(dataset, 1)
    for path in (tmp_path / "out/_delta_log").iterdir():
        path.unlink()
    deltalake.write_deltalake(dataset.uri, FRAME.to_arrow())
    table = deltalake.DeltaTable(dataset.uri)
    table.create_checkpoint()
    (tmp_path / f"out/_delta_log/{0:020}.json").unlink()
    with pytest.raises(StorageError, match="the Delta table here was written by somebody else; write the output to"):
        dataset.publish(run="r", time=NOW)


def test_two_tell_of_the_same_commit(tmp_path: Path) -> None:
    """One looks at the log, and another writes the version before it does."""
    dataset = Dataset(str(tmp_path / "out"), delta=True)
    add(dataset, 1)
    add(dataset, 2)
    wanted = (tmp_path / f"out/_delta_log/{1:020}.json").read_bytes()
    (tmp_path / f"out/_delta_log/{1:020}.json").unlink()
    create = DeltaLog.create

    def late(self: DeltaLog, version: int, actions: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DeltaLog, "create", create)
            assert dataset.publish(run="other", time=NOW) == 1
        create(self, version, actions)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeltaLog, "create", late)
        assert dataset.publish(run="r", time=NOW) == 0
    assert (tmp_path / f"out/_delta_log/{1:020}.json").read_bytes() == wanted


def test_who_is_behind_leaves_the_table_as_it_is(tmp_path: Path) -> None:
    dataset = Dataset(str(tmp_path / "out"), delta=True)
    add(dataset, 1)
    first = dataset.read()
    add(dataset, 2)
    assert catch_up(dataset.uri, dataset.log, first) == 0


def test_a_conflict_leaves_nothing_behind(tmp_path: Path) -> None:
    """Files that were written anew for a commit that another one came before are deleted."""
    dataset = Dataset(str(tmp_path / "out"))
    add(dataset, 1)
    table = Dataset(dataset.uri, delta=True)
    stale = table.read()
    add(dataset, 2)
    tagged = replace(stale.files[0], units={0: 1, 1: 0})
    made = replace(stale, version=2, tagged=False, partition_by=(), info={DELTA: 2}, files=(tagged,))
    with pytest.raises(CommitConflict):
        table.append(made)
    assert {p.name for p in (tmp_path / "out").iterdir() if p.is_file()} == {
        "r1-001-00000.parquet",
        "r2-001-00000.parquet",
    }


def test_partition_values_of_times() -> None:
    path = "at=2013-01-01%2000%3A00%3A00.000001%2B0000/n=__HIVE_DEFAULT_PARTITION__/x.parquet"
    schema = {"at": pl.Datetime("us", "Europe/Berlin"), "n": pl.Datetime("us")}
    assert partition_values(path, schema) == {"at": "2013-01-01T00:00:00.000001Z", "n": None}


def test_what_is_no_dataset_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no dataset here"):
        lp.publish_delta(str(tmp_path / "none"))
