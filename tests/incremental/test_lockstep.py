"""Two tables side by side: what is left is the difference of two bags of rows, whatever their order; or nothing is said."""

from __future__ import annotations

import random
from collections import Counter

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.incremental import lockstep as module
from lazypipe.incremental.lockstep import KEY, ROW, lockstep


def frame(rows: list[int]) -> pl.LazyFrame:
    hashes = {KEY: pl.Series(rows, dtype=pl.UInt64) // 10, ROW: pl.Series(rows, dtype=pl.UInt64)}
    return pl.LazyFrame({"x": pl.Series(rows, dtype=pl.Int64), **hashes})


@pytest.mark.parametrize("seed", range(12))
def test_what_is_left_is_the_difference(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(module, "_BATCH", draw.choice([1, 3, 10, 1_000]))
    monkeypatch.setattr(module, "_FEW", draw.choice([1, 3, 50]))
    one = [draw.randrange(60 if seed % 3 else 10_000) for _ in range(draw.randrange(80))]
    other = [r if draw.random() < 0.9 else 10_000 + r for r in one if draw.random() < 0.95]
    for _ in range(draw.randrange(4)):
        other.insert(draw.randrange(len(other) + 1), draw.randrange(60))
    if seed % 4 == 0:
        draw.shuffle(other)
    found = lockstep(frame(one), frame(other))
    assert found is not None
    assert Counter(found.one["x"]) == Counter(one) - Counter(other)
    assert Counter(found.other["x"]) == Counter(other) - Counter(one)
    assert Counter(found.keys) == Counter(r // 10 for r in (Counter(one) & Counter(other)).elements())
    assert found.rows == len(other)


def test_a_row_that_is_taken_out_moves_the_rest_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 10)
    monkeypatch.setattr(module, "HELD", 45)  # if places did not agree again, more would be held
    rows = [*range(1_000)]
    found = lockstep(frame(rows), frame([r for r in rows if r not in (15, 507)]))
    assert found is not None
    assert (found.one["x"].to_list(), found.other.height) == ([15, 507], 0)


def test_of_rows_in_quite_another_order_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD", 500)
    monkeypatch.setattr(module, "_BATCH", 50)
    rows = [*range(5_000)]
    assert lockstep(frame(rows), frame(rows[::-1])) is None
    with monkeypatch.context() as context:
        context.setattr(module, "HELD", 20_000)
        found = lockstep(frame(rows), frame(rows[::-1]))
    assert found is not None
    assert (found.one.height, found.other.height) == (0, 0)
    tables = [pl.DataFrame({"k": r, "v": r}) for r in (rows, [*rows[::-1], 5_000])]
    assert lp.diff(tables[0], tables[1], key="k").counts == {
        "inserted": 1,
        "updated": 0,
        "deleted": 0,
        "unchanged": 5_000,
    }
    assert lp.diff(tables[0], tables[0].reverse(), key="k").nothing
