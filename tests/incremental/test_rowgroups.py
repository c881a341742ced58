"""Row groups of real files: what was appended, rewritten or moved is found from the footer."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import polars as pl
import pyarrow.parquet as pq
import pytest

from lazypipe.errors import SourceError
from lazypipe.incremental.rowgroups import (
    GroupChanges,
    RowGroup,
    column_range,
    compare_groups,
    group_hasher,
    row_groups,
)

PARTS = [pl.DataFrame({"k": range(n * 100, n * 100 + 100), "t": [f"{n}-{i}" for i in range(100)]}) for n in range(5)]


def write(path: Path, *parts: pl.DataFrame, codec: str = "zstd") -> str:
    """One row group for each part."""
    with pq.ParquetWriter(path, parts[0].to_arrow().schema, compression=codec) as writer:
        for part in parts:
            writer.write_table(part.to_arrow())
    return str(path)


def test_what_was_appended_is_new(tmp_path: Path) -> None:
    before = row_groups(write(tmp_path / "a", *PARTS[:3]))
    now = row_groups(write(tmp_path / "a", *PARTS))
    assert [g.rows for g in before] == [100] * 3
    found = compare_groups(before, now)
    assert found == GroupChanges(((0, 0), (1, 1), (2, 2)), (3, 4), ())
    assert str(found) == "3 row groups the same, 2 new, 0 gone"
    assert not found.nothing
    assert compare_groups(now, now).nothing


def test_what_was_rewritten_moved_and_removed(tmp_path: Path) -> None:
    before = row_groups(write(tmp_path / "a", *PARTS[:4]))
    other = PARTS[1].with_columns(k=pl.col("k") + 1)
    now = row_groups(write(tmp_path / "a", PARTS[3], PARTS[0], other))
    assert compare_groups(before, now) == GroupChanges(((3, 0), (0, 1)), (2,), (1, 2))


def test_the_same_statistics_are_not_the_same_data(tmp_path: Path) -> None:
    """Swapped values have the same bounds, counts and sizes: only the bytes tell."""
    one = pl.DataFrame({"k": [0, 1, 2, 9]})
    other = pl.DataFrame({"k": [0, 2, 1, 9]})
    before = row_groups(write(tmp_path / "a", one, one, codec="none"), content=True)
    uri = write(tmp_path / "a", other, one, codec="none")
    now = row_groups(uri)
    assert compare_groups(before, now).nothing
    found = compare_groups(before, now, verify=group_hasher(uri))
    assert (len(found.same), found.new, found.gone) == (1, (0,), (1,))
    assert compare_groups(before, row_groups(uri, content=True)) == found
    assert compare_groups([g._replace(content=None) for g in before], now, verify=group_hasher(uri)).nothing


def test_files_of_polars_on_other_file_systems_with_long_footers(tmp_path: Path) -> None:
    wide = pl.DataFrame({f"column {n}": [f"text {i} " * 3 for i in range(64)] for n in range(200)})
    wide.write_parquet(tmp_path / "a", row_group_size=8)
    uri = f"memory://{uuid.uuid4().hex}/a"
    fs, path = fsspec.core.url_to_fs(uri)
    fs.pipe_file(path, (tmp_path / "a").read_bytes())
    assert (tmp_path / "a").stat().st_size > 200_000
    found = row_groups(uri, content=True)
    assert found == row_groups(str(tmp_path / "a"), content=True)
    assert [g.rows for g in found] == [8] * 8
    assert found[3].content == group_hasher(uri)(3)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file does not end as a Parquet file does: it is truncated, or not Parquet"),
        (b"PAR1" + b"\xff\xff\x00\x00PAR1", "the file does not end as a Parquet file does: it is truncated, or not Parquet"),
        (b"PAR1" + b"\x00" * 8 + b"\x08\x00\x00\x00PAR1", "the footer lacks the number of rows"),
    ],
)  # fmt: skip
def test_what_is_no_parquet(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a").write_bytes(content)
    for read in (row_groups, lambda uri: group_hasher(uri)(0)):
        with pytest.raises(SourceError) as caught:
            read(str(tmp_path / "a"))
        assert str(caught.value) == (
            f"{tmp_path}/a: cannot be read: {why}; check path, rights and network, or deliver it again"
        )
    with pytest.raises(SourceError, match="No such file or directory"):
        row_groups(str(tmp_path / "b"))


def test_equal_row_groups_are_paired_as_often_as_they_stand() -> None:
    one = RowGroup("h", 1)
    assert compare_groups([one], [one, one]) == GroupChanges(((0, 0),), (1,), ())
    assert compare_groups([one, one], [one]) == GroupChanges(((0, 0),), (), (1,))


def test_the_range_of_a_column_is_that_of_its_row_groups(tmp_path: Path) -> None:
    uri = write(tmp_path / "a", *PARTS)
    assert column_range(uri, "k", pl.Int64()) == (0, 499)
    assert column_range(uri, "other", pl.Int64()) is None
    PARTS[0].write_parquet(tmp_path / "b", statistics=False)
    assert column_range(str(tmp_path / "b"), "k", pl.Int64()) is None
    PARTS[0].select(k=pl.lit(None, pl.Int64)).write_parquet(tmp_path / "c")
    assert column_range(str(tmp_path / "c"), "k", pl.Int64()) == (None, None)
    (tmp_path / "d").write_bytes(b"no Parquet")
    with pytest.raises(SourceError, match="not Parquet"):
        column_range(str(tmp_path / "d"), "k", pl.Int64())
