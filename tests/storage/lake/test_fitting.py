"""Files that a Delta reader would misread are written anew, once, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from lazypipe.errors import CommitConflict, StorageError
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DELTA, DataFile
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.datasets.units import UNIT
from lazypipe.storage.lake.fitting import fitted
from lazypipe.storage.sink import DatasetSink

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def tagged(dataset: Dataset, number: int, units: list[int]) -> tuple[pl.Schema, tuple[DataFile, ...]]:
    frame = pl.DataFrame({"id": units, UNIT: pl.Series(units, dtype=pl.UInt64)})
    schema = pl.Schema({"id": pl.Int64()})
    files = DatasetSink(dataset.uri, f"r{number}-001").write(frame.lazy()).files
    return schema, count_units(dataset.uri, files)


@pytest.mark.parametrize("hashed", [True, False])
def test_dead_rows_are_left_out(tmp_path: Path, hashed: bool) -> None:
    dataset = Dataset(str(tmp_path / "out"), delta=True)
    schema, files = tagged(dataset, 1, [1, 1, 2, 3])
    _, more = tagged(dataset, 2, [4])
    files = tuple(replace(f, blake3="0" * 64 if hashed else None) for f in (*files, *more))
    dataset.commit(files, schema, run="r1", time=NOW, tagged=True)
    made = dataset.commit((), schema, run="r2", time=NOW, mode="change", tagged=True, gone={1, 4})
    (file,) = made.files
    assert (made.gone, file.units, file.rows) == (frozenset(), {2: 1, 3: 1}, 2)
    assert (file.blake3 is not None) == hashed
    assert pl.read_delta(dataset.uri)["id"].to_list() == [2, 3]
    assert dataset.scan(made, tags=True).collect().rows() == [(2, 2), (3, 3)]
    # as a commit that goes back to a version with nothing but dead rows
    everything = replace(made, version=3, gone=frozenset({2, 3}))
    assert fitted(dataset, everything).commit.files == ()


def test_what_was_written_for_nothing_is_deleted(tmp_path: Path) -> None:
    dataset = Dataset(str(tmp_path / "out"), delta=True)
    schema, files = tagged(dataset, 1, [1, 2])
    first = dataset.commit(files, schema, run="r1", time=NOW, tagged=True)
    dataset.commit((), schema, run="r2", time=NOW, mode="append", tagged=True)
    late = replace(first, version=2, run="late", gone=frozenset({1}))
    with pytest.raises(CommitConflict):
        dataset.append(late)
    assert [p.name for p in (tmp_path / "out").glob("*.parquet")] == ["r1-001-00000.parquet"]
    gone = replace(late.files[0], path="gone-001-00000.parquet")
    what = "gone-001-00000.parquet: rows that a Delta reader would misread cannot be rewritten: No such file"
    with pytest.raises(StorageError, match=what):
        fitted(dataset, replace(late, files=(*late.files, gone)))
    assert [p.name for p in (tmp_path / "out").glob("*.parquet")] == ["r1-001-00000.parquet"]


def test_columns_that_no_table_has_are_refused_before_anything_is_seen(tmp_path: Path) -> None:
    dataset = Dataset(str(tmp_path / "out"), delta=True)
    with pytest.raises(StorageError) as caught:
        dataset.commit((), pl.Schema({"n": pl.UInt8()}), run="r", time=NOW)
    assert str(caught.value) == f"{dataset.uri}: a Delta table cannot hold column 'n' (UInt8); cast it to Int16"
    assert dataset.latest() is None
    plain = Dataset(dataset.uri)
    plain.commit((), pl.Schema({"n": pl.UInt8()}), run="r", time=NOW)
    with pytest.raises(StorageError, match="cannot hold column 'n'"):
        plain.publish(run="r", time=NOW)
    assert DELTA not in plain.read().info
