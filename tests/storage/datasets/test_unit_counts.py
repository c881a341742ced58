"""How many rows files hold of each unit: by footers where these tell, by the column itself elsewhere; the same as counting rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fsspec
import polars as pl
import pytest

from lazypipe.errors import SourceError
from lazypipe.storage.datasets import unit_counts
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.datasets.units import UNIT
from lazypipe.storage.parquet.footers import read_footer

LARGE = (1 << 63) - 1


def rows(*units: int, times: int = 1) -> pl.DataFrame:
    column = pl.Series(UNIT, [u for u in units for _ in range(times)], dtype=pl.UInt64)
    return pl.DataFrame({"x": range(len(column))}).with_columns(column)


def counted(frame: pl.DataFrame) -> dict[int, int]:
    return dict(frame[UNIT].value_counts().sort(UNIT).iter_rows())


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("at_once", [1, 7, 1_000_000])
def test_counts_are_those_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statistics: bool, at_once: int
) -> None:
    monkeypatch.setattr(unit_counts, "_AT_ONCE", at_once)
    frames = {"a.parquet": rows(3, LARGE, 0, times=5), "k=1/b.parquet": rows(*[7, 8] * 9), "c.parquet": rows()}
    for name, frame in frames.items():
        frame.write_parquet(tmp_path / name, row_group_size=4, statistics=statistics, mkdir=True)
    files = [DataFile(name, frame.height, 1) for name, frame in frames.items()]
    found = count_units(str(tmp_path), files)
    assert [replace(f, units={}) for f in found] == files
    assert [dict(f.units) for f in found] == [{0: 5, 3: 5, LARGE: 5}, {7: 9, 8: 9}, {}]
    assert [dict(f.units) for f in found] == [counted(f) for f in frames.values()]
    assert list(found[0].units) == [0, 3, LARGE]


def test_only_row_groups_of_several_units_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows(1, 2, times=6).write_parquet(path, row_group_size=4)  # 1111 1122 2222
    with path.open("r+b") as file:
        footer = read_footer(file)
        first, mixed, last = (footer.ranges(g, [UNIT])[0] for g in range(3))
        for alike in (first, last):
            file.seek(alike.start)
            file.write(b"\xff" * alike.length)
    assert dict(count_units(str(tmp_path), [DataFile("a.parquet", 12, 1)])[0].units) == {1: 6, 2: 6}
    with path.open("r+b") as file:
        file.seek(mixed.start)
        file.write(b"\xff" * mixed.length)
    with pytest.raises(SourceError, match=r"a\.parquet: cannot be read: .*deliver it again"):
        count_units(str(tmp_path), [DataFile("a.parquet", 12, 1)])


def test_of_files_elsewhere() -> None:
    fs = fsspec.filesystem("memory")
    with fs.open("/unit-counts/a.parquet", "wb") as file:
        rows(4, 4, 9).write_parquet(file)
    (found,) = count_units("memory://unit-counts", [DataFile("a.parquet", 3, 1)])
    assert dict(found.units) == {4: 2, 9: 1}


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as told:
        count_units(str(tmp_path), [DataFile("a.parquet", 1, 1)])
    assert str(told.value) == (
        f"{tmp_path}/a.parquet: cannot be read: No such file or directory; check the path, permissions and network, or deliver it again"
    )
