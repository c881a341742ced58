"""Delta logs as values: what deltalake has written is read, what we write deltalake reads, and what is damaged is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import deltalake
import polars as pl
import pytest

from lazypipe.errors import StorageError
from lazypipe.storage.lake.log import FOLDER, DeltaLog, Table


def theirs(root: Path, versions: int = 4) -> str:
    """Make a table by deltalake, whose last versions remove some."""
    uri = str(root / "t")
    for number in range(versions):
        frame = pl.DataFrame({"id": [number], "day": [f"d {number % 2}"]})
        deltalake.write_deltalake(uri, frame.to_arrow(), mode="append", partition_by=["day"])
    deltalake.DeltaTable(uri).delete("id = 1")
    return uri


def live(table: Table) -> set[str]:
    return {unquote(Path(p).name) for p in table.adds}


def test_tables_of_deltalake(tmp_path: Path) -> None:
    uri = theirs(tmp_path)
    log, other = DeltaLog(uri), deltalake.DeltaTable(uri)
    for version in range(5):
        other.load_as_version(version)
        found = log.table(version)
        assert live(found) == {Path(f).name for f in other.file_uris()}
        assert found.metadata["partitionColumns"] == ["day"]
    assert len(log.table().removes) == 1
    assert log.last() == log.table().version == 4
    other.create_checkpoint()
    for number in range(4):
        (tmp_path / f"t/{FOLDER}/{number:020}.json").unlink()
    assert log.table().adds.keys() == found.adds.keys()
    assert log.table().metadata["id"] == found.metadata["id"]
    with pytest.raises(StorageError) as caught:
        log.table(3)
    assert str(caught.value) == (
        f"{log.uri}: version 0 of the Delta log is missing, and no readable checkpoint replaces it; "
        "ask for a later version, or restore the file"
    )


def test_checkpoints_that_deltalake_reads(tmp_path: Path) -> None:
    uri = theirs(tmp_path)
    log = DeltaLog(uri)
    before = log.table()
    log.write_checkpoint(before, int(datetime.now(UTC).timestamp() * 1000))
    log.write_checkpoint(before, 0)  # it is there
    log.forget_before(4)
    assert log.files.numbers() == [4]
    (tmp_path / f"t/{FOLDER}/{4:020}.json").unlink()  # so that all must come from the checkpoint
    assert log.last() == 4
    assert log.table().adds.keys() == before.adds.keys()
    assert log.table().removes.keys() == before.removes.keys()
    table = deltalake.DeltaTable(uri)
    assert sorted(pl.DataFrame(table.to_pyarrow_table()).rows()) == [(0, "d 0"), (2, "d 0"), (3, "d 1")]
    assert json.loads((tmp_path / f"t/{FOLDER}/_last_checkpoint").read_text()) == {"version": 4, "size": 6}


def test_removed_files_are_named_for_a_week(tmp_path: Path) -> None:
    uri = theirs(tmp_path)
    log = DeltaLog(uri)
    log.write_checkpoint(log.table(), int((datetime.now(UTC) + timedelta(days=8)).timestamp() * 1000))
    assert log.table(4).removes == {}
    assert len(log.table(4).adds) == 3


def test_checkpoints_in_parts(tmp_path: Path) -> None:
    uri = theirs(tmp_path)
    log = DeltaLog(uri)
    wanted = log.table()
    log.write_checkpoint(wanted, 0)
    whole = tmp_path / f"t/{FOLDER}/{4:020}.checkpoint.parquet"
    frame = pl.read_parquet(whole)
    whole.unlink()
    frame[:3].write_parquet(whole.with_name(f"{4:020}.checkpoint.{1:010}.{2:010}.parquet"))
    assert log.checkpoints() == {}  # half of it is of no use
    frame[3:].write_parquet(whole.with_name(f"{4:020}.checkpoint.{2:010}.{2:010}.parquet"))
    log.forget_before(4)
    assert log.table().adds.keys() == wanted.adds.keys()
    log.forget_before(5)
    assert log.last() == -1


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    uri = theirs(tmp_path)
    log = DeltaLog(uri)
    with pytest.raises(StorageError, match="there is no version 9; the last is 4"):
        log.table(9)
    with pytest.raises(StorageError, match="there is no version 0; there is no Delta table"):
        DeltaLog(str(tmp_path / "none")).table(0)
    (tmp_path / f"t/{FOLDER}/{2:020}.json").write_text('{"add":')
    with pytest.raises(StorageError, match=r"0002.json: the file of the Delta log is truncated or damaged; restore it"):
        log.table()
    (tmp_path / f"t/{FOLDER}/{3:020}.checkpoint.parquet").write_bytes(b"PAR1")
    with pytest.raises(StorageError, match=r"0003.checkpoint.parquet: the checkpoint cannot be read: .*; restore it"):
        log.table()


def test_half_written_files_go_when_they_are_old(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "00000000000000000001.json.ab.tmp").write_text("")
    log = DeltaLog(str(tmp_path))
    log.forget_half_written(datetime.now(UTC) - timedelta(hours=1))
    assert len([*folder.iterdir()]) == 1
    log.forget_half_written(datetime.now(UTC) + timedelta(hours=1))
    assert [*folder.iterdir()] == []
