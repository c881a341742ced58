"""What footers of real files say of columns, and files that have none."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from lazypipe.errors import SourceError
from lazypipe.storage.parquet.footers import column_bytes, column_range

PARTS = pl.DataFrame({"k": range(500), "t": [f"{i}" for i in range(500)]})


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
    for read in (lambda uri: column_range(uri, "k", pl.Int64()), lambda uri: column_bytes([uri])):
        with pytest.raises(SourceError) as caught:
            read(str(tmp_path / "a"))
        assert str(caught.value) == (
            f"{tmp_path}/a: cannot be read: {why}; check the path, permissions and network, or deliver it again"
        )
        with pytest.raises(SourceError, match="No such file or directory"):
            read(str(tmp_path / "b"))


def test_the_range_of_a_column_is_that_of_its_row_groups(tmp_path: Path) -> None:
    uri = str(tmp_path / "a")
    PARTS.write_parquet(uri, row_group_size=100)
    assert column_range(uri, "k", pl.Int64()) == (0, 499)
    assert column_range(uri, "other", pl.Int64()) is None
    PARTS.write_parquet(tmp_path / "b", statistics=False)
    assert column_range(str(tmp_path / "b"), "k", pl.Int64()) is None
    PARTS.select(k=pl.lit(None, pl.Int64)).write_parquet(tmp_path / "c")
    assert column_range(str(tmp_path / "c"), "k", pl.Int64()) == (None, None)


def test_long_footers_are_read_whole(tmp_path: Path) -> None:
    wide = pl.DataFrame({f"column {n}": [f"text {i:02} " * 3 for i in range(64)] for n in range(200)})
    wide.write_parquet(tmp_path / "a", row_group_size=8)
    assert (tmp_path / "a").stat().st_size > 200_000
    assert column_range(str(tmp_path / "a"), "column 7", pl.String()) == (b"text 00 " * 3, b"text 63 " * 3)
