"""Footers of real files: what they say of columns, and which files have none."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import polars as pl
import pyarrow.parquet as pq
import pytest

from lazypipe.errors import SourceError
from lazypipe.storage.footers import column_bytes, column_range

PARTS = [pl.DataFrame({"k": range(n * 100, n * 100 + 100), "t": [f"{n}-{i}" for i in range(100)]}) for n in range(5)]


def write(path: Path, *parts: pl.DataFrame, codec: str = "zstd") -> str:
    """One row group for each part."""
    with pq.ParquetWriter(path, parts[0].to_arrow().schema, compression=codec) as writer:
        for part in parts:
            writer.write_table(part.to_arrow())
    return str(path)


def test_files_of_polars_on_other_file_systems_with_long_footers(tmp_path: Path) -> None:
    wide = pl.DataFrame({f"column {n}": [f"text {i} " * 3 for i in range(64)] for n in range(200)})
    wide.write_parquet(tmp_path / "a", row_group_size=8)
    uri = f"memory://{uuid.uuid4().hex}/a"
    fs, path = fsspec.core.url_to_fs(uri)
    fs.pipe_file(path, (tmp_path / "a").read_bytes())
    assert (tmp_path / "a").stat().st_size > 200_000
    found = column_bytes([uri])
    assert found == column_bytes([str(tmp_path / "a")])
    assert [*found] == wide.columns
    assert column_range(uri, "column 7", pl.String()) == (b"text 0 text 0 text 0 ", b"text 9 text 9 text 9 ")


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
    for read in (lambda uri: column_bytes([uri]), lambda uri: column_range(uri, "k", pl.Int64())):
        with pytest.raises(SourceError) as caught:
            read(str(tmp_path / "a"))
        assert str(caught.value) == (
            f"{tmp_path}/a: cannot be read: {why}; check path, rights and network, or deliver it again"
        )
    with pytest.raises(SourceError, match="No such file or directory"):
        column_bytes([str(tmp_path / "b")])


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
