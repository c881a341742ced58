"""Keys are noted of every row, with its unit, however batches are put together."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from lazypipe.gates import uniqueness
from lazypipe.gates.uniqueness import HASH, KeyHashes, hashed
from lazypipe.run.segment import noted
from lazypipe.run.segment.noted import Noted
from lazypipe.storage.datasets.units import UNIT

SCHEMA = pl.Schema({"k": pl.String(), "v": pl.Int64(), UNIT: pl.UInt64()})
ROWS = pl.DataFrame(
    {"k": ["a", "b", "a", "a", "c", None, "a"], "v": range(7), UNIT: [1, 1, 1, 3, 2, 2, 1]}, schema=SCHEMA
)


@pytest.mark.parametrize("held", [2, 1_000])
@pytest.mark.parametrize("at_once", [1, 3, 1_000])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_each_key_is_noted_once_with_its_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, batch: int, held: int
) -> None:
    monkeypatch.setattr(noted, "_AT_ONCE", at_once)
    monkeypatch.setattr(uniqueness, "_HELD", held)
    keys = Noted(["k"], KeyHashes(("k",), SCHEMA, tmp_path, UNIT, once=True))
    for rows in [*ROWS.iter_slices(batch), ROWS.clear()]:
        assert keys.note(rows) is rows
    expected = ROWS.select(hashed(("k",), SCHEMA), UNIT).drop_nulls(HASH).unique()
    for _ in range(2):  # asked once more, it says the same
        assert sorted(keys.frame().collect().rows()) == sorted(expected.rows())


def test_of_no_rows_there_are_no_keys(tmp_path: Path) -> None:
    assert Noted(["k"], KeyHashes(("k",), SCHEMA, tmp_path, UNIT, once=True)).frame().collect().height == 0
