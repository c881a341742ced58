"""Borders of row groups: hashes of what stands up to each, however the bytes come, and files that have none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.errors import SourceError
from lazypipe.storage.content import HashCache, hash_file, hash_files
from lazypipe.storage.files import FileInfo
from lazypipe.storage.parquet import row_groups
from lazypipe.storage.parquet.footers import read_footer
from lazypipe.storage.parquet.ranges import Footer
from lazypipe.storage.parquet.row_groups import BorderHash, Borders, RowPlaces, begun, rows_in

FRAME = pl.DataFrame({"k": range(400), "t": [f"{n}" for n in range(400)]})


def content(frame: pl.DataFrame = FRAME, rows: int = 100) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out, row_group_size=rows)
    return out.getvalue()


def footer(data: bytes) -> Footer:
    return read_footer(io.BytesIO(data))


def bordered(data: bytes) -> BorderHash:
    made = BorderHash.of(footer(data))
    assert made is not None
    return made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "LARGE", 0)


@given(st.lists(st.integers(0, 400), max_size=8))
def test_it_is_no_matter_in_which_pieces_bytes_come(cuts: list[int]) -> None:
    data = content()
    whole, pieces = bordered(data), bordered(data)
    whole.update(data)
    at = 0
    for place in [*sorted(c * len(data) // 400 for c in cuts), len(data)]:
        pieces.update(data[at:place])
        at = place
    assert pieces.hexdigest() == whole.hexdigest() == blake3(data).hexdigest()
    assert pieces.borders == whole.borders
    assert whole.borders is not None
    assert whole.borders.at == tuple(whole.at) == tuple(footer(data).extent(n)[1] for n in range(4))


def test_what_is_ahead_of_a_border_decides_and_what_the_footer_says_of_it() -> None:
    data = content()
    before, longer = bordered(data), bordered(content(pl.concat([FRAME, FRAME])))
    before.update(data)
    longer.update(content(pl.concat([FRAME, FRAME])))
    assert before.borders is not None
    assert before.borders.common(longer.found) == before.at[-1]
    assert longer.groups_within(before.at[-1]) == 4
    assert longer.groups_within(0) == 0
    for place in (before.at[0] - 1, before.at[2]):
        other = bordered(data)
        other.update(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert before.borders.common(other.found) == max([p for p in before.at if p <= place], default=0)
    # the same bytes under another name, or of another type
    for renamed in (FRAME.rename({"k": "n"}), FRAME.with_columns(pl.col("k").cast(pl.Datetime("us")))):
        other = BorderHash.of(footer(content(renamed)))
        assert other is not None
        other.at = before.at
        other.update(data)
        assert before.borders.common(other.found) == 0


def test_no_more_than_a_few_are_remembered() -> None:
    frame = pl.DataFrame({"k": range(1_000)})
    made = bordered(content(frame, rows=10))
    made.update(content(frame, rows=10))
    assert made.borders is not None
    assert len(made.found) == 100
    assert made.borders.at == (*made.at[6::7], made.at[98], made.at[99])


def test_a_file_that_ends_too_early_has_no_borders() -> None:
    made = bordered(content())
    made.update(content()[:1_000])
    assert made.borders is None


def test_row_groups_that_do_not_stand_one_behind_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    found = footer(content())
    for extents in ([(4, 20), (10, 30), (30, 40), (40, 50)], [(4, 20), (20, 20), (20, 40), (40, 50)]):
        monkeypatch.setattr(Footer, "extent", lambda _, group, of=extents: of[group])
        assert BorderHash.of(found) is None
    assert BorderHash.of(footer(content(rows=1_000))) is None


@pytest.mark.usefixtures("small")
def test_what_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"no Parquet")
    assert begun(FileInfo(str(path), 10)) is None
    assert begun(FileInfo(str(path), None)) is None
    with pytest.raises(SourceError, match=r"a\.parquet: cannot be read: the file does not end as a Parquet file does"):
        RowPlaces.of(str(path))


def test_small_files_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content())
    assert begun(FileInfo(str(path), len(content()))) is None
    assert begun(FileInfo(str(path), row_groups.LARGE)) is not None


@pytest.mark.usefixtures("small")
def test_a_cache_knows_them(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content())
    file = FileInfo(str(path), len(content()), str(path.stat().st_mtime_ns))
    later = path.stat().st_mtime_ns + 10_000_000_000
    cache = HashCache(str(tmp_path / "hashes.json"))
    assert hash_files([file], cache=cache, clock=lambda: later) == {file.uri: hash_file(file.uri)}
    assert not cache.borders
    other = HashCache(str(tmp_path / "hashes.json"))
    hash_files([file], cache=other, groups=True, clock=lambda: later)
    other.save()
    again = HashCache(str(tmp_path / "hashes.json"))
    assert again.get(file) == hash_file(file.uri)
    assert again.borders == other.borders == {hash_file(file.uri): again.borders[hash_file(file.uri)]}
    assert len(again.borders[hash_file(file.uri)].at) == 4


@pytest.mark.parametrize("plain", [[[], []], [[1, 2], ["a"]], [["1"], ["a"]], [[1]], 3])
def test_what_are_no_borders(plain: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Borders.read(plain)


def test_rows_of_files_and_of_parts(tmp_path: Path) -> None:
    data = content()
    paths = [tmp_path / "a.parquet", tmp_path / "b [1].parquet"]
    for path in paths:
        path.write_bytes(data)
    whole = [FileInfo(str(p), len(data)) for p in paths]
    ends = [footer(data).extent(n)[1] for n in range(4)]
    assert rows_in([]) == 0
    assert rows_in(whole) == 800
    # a footer says that whatever columns others have
    FRAME.select("t").head(3).write_parquet(tmp_path / "c.parquet")
    assert rows_in([*whole, FileInfo(str(tmp_path / "c.parquet"), None)]) == 803
    parts = [whole[0]._replace(end=ends[0]), whole[1]._replace(start=ends[1], end=len(data))]
    assert rows_in(parts) == 100 + 200
    assert rows_in([parts[1], whole[0]]) == 600
    assert rows_in([whole[0]._replace(end=len(data))]) == 400
    (tmp_path / "c.parquet").write_bytes(b"nonsense")
    assert rows_in([whole[0], FileInfo(str(tmp_path / "c.parquet"), 8)]) is None
    assert rows_in([FileInfo(str(tmp_path / "none.parquet"), 8)]) is None
    fsspec.filesystem("memory").pipe_file("/rows/a.parquet", data)
    assert rows_in([FileInfo("memory://rows/a.parquet", len(data))]) == 400
