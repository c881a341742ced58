"""The key tracker: it never misses a repeat, however the rows are cut; and for unique keys it is certain."""

# columns without a time zone hold datetimes without one

from __future__ import annotations

import itertools
import math
import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.gates import uniqueness
from lazypipe.gates.uniqueness import KeyTracker, hashed, repeated

small = st.integers(0, 40)
MOMENTS = [datetime(2020, 10, 25, 0, 0, tzinfo=UTC) + timedelta(minutes=10 * i) for i in range(20)]
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int8": (pl.Int8, small),
    "uint64": (pl.UInt64, small | st.integers(2**64 - 5, 2**64 - 1)),
    "int128": (pl.Int128, small | st.integers(10**30, 10**30 + 3)),
    "float32": (pl.Float32, st.sampled_from([0.0, -0.0, math.nan, -math.nan, math.inf, 1.5, 2.5])),
    "float64": (pl.Float64, st.sampled_from([0.0, -0.0, math.nan, -math.nan, math.inf, 1.5, 2.5])),
    "bool": (pl.Boolean, st.booleans()),
    "text": (pl.String, st.text(alphabet="aä\U0001f600\x00", max_size=3)),
    "binary": (pl.Binary, st.binary(max_size=1)),
    "categorical": (pl.Categorical, st.sampled_from(["b", "a", "c"])),
    "enum": (pl.Enum(["c", "b", "a"]), st.sampled_from(["b", "a", "c"])),
    "decimal": (pl.Decimal(10, 2), small.map(lambda n: Decimal(n) / 100)),
    "date": (pl.Date, small.map(lambda n: date(2020, 1, 1) + timedelta(n))),
    "time": (pl.Time, small.map(lambda n: time(n % 24))),
    "duration": (pl.Duration("ms"), small.map(lambda n: timedelta(milliseconds=n))),
    "datetime": (pl.Datetime("us"), small.map(lambda n: datetime(2020, 1, 1) + timedelta(microseconds=n))),
    "clock put back": (pl.Datetime("us", "Europe/Berlin"), st.sampled_from(MOMENTS)),
    "list": (pl.List(pl.Int8), st.lists(st.none() | st.integers(0, 2), max_size=2)),
    "struct": (pl.Struct({"x": pl.Int8}), st.fixed_dictionaries({"x": st.none() | st.integers(0, 3)})),
}


def tracker_of(frame: pl.DataFrame, cuts: list[int], *keys: str) -> KeyTracker:
    tracker = KeyTracker(keys, frame.schema)
    edges = [0, *sorted(cuts), frame.height]
    for start, end in itertools.pairwise(edges):
        tracker.add(frame.slice(start, end - start))
    return tracker


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_certainty_is_never_wrong(kind: str, data: st.DataObject) -> None:
    dtype, values = KINDS[kind]
    found = data.draw(st.lists(st.none() | values, max_size=40))
    order = data.draw(st.sampled_from(["as drawn", "sorted", "reversed"]))
    frame = pl.DataFrame({"k": pl.Series("k", found, dtype=dtype, strict=False)})
    if order != "as drawn":
        frame = frame.sort("k", descending=order == "reversed")
    tracker = tracker_of(frame, data.draw(st.lists(st.integers(0, frame.height), max_size=5)), "k")
    repeats = repeated(frame, ("k",))
    if tracker.count() == 0:
        assert repeats.height == 0
    elif not dtype.is_nested():  # those are not tracked: any value makes it uncertain
        assert repeats.height > 0 or tracker._spans


@given(
    st.lists(
        st.tuples(st.none() | small, st.none() | st.sampled_from([0.0, -0.0, 1.0]), st.sampled_from("ab")), max_size=40
    ),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_compound_keys_are_certain_both_ways(rows: list[tuple[Any, Any, Any]], cuts: list[int]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Float64, "c": pl.String}, orient="row")
    tracker = tracker_of(frame, [min(c, frame.height) for c in cuts], "a", "b", "c")
    compared = [(a, b + 0.0, c) for a, b, c in rows if a is not None and b is not None]
    assert (tracker.count() != 0) == (len(set(compared)) < len(compared))


def test_swapped_and_gridded_keys_differ() -> None:
    grid = pl.DataFrame({"a": range(300)}).join(pl.DataFrame({"b": range(300)}), how="cross")
    assert tracker_of(grid, [1_000, 50_000], "a", "b").count() == 0
    assert tracker_of(grid.with_columns(c=pl.col("a").cast(pl.String)), [], "c", "b").count() == 0


def batches(*ranges: tuple[int, int], shuffle: bool = False, dtype: Any = pl.Int64) -> KeyTracker:
    tracker = KeyTracker(("k",), pl.Schema({"k": dtype}))
    for start, end in ranges:
        values = list(range(start, end))
        if shuffle:
            random.Random(start).shuffle(values)
        tracker.add(pl.DataFrame({"k": values}).select(pl.col("k").cast(dtype)))
    return tracker


@pytest.mark.parametrize(
    "dtype", [pl.Int64, pl.Datetime("ns"), pl.Datetime("us", "Europe/Berlin"), pl.Date, pl.Decimal(20, 2)]
)
def test_sorted_batches_are_certain_and_keep_no_hashes(dtype: Any) -> None:
    tracker = batches((100, 200), (0, 50), (50, 100), (300, 320), dtype=dtype)
    assert tracker.count() == 0
    assert tracker._hashes == []
    assert batches((0, 50), (49, 100), dtype=dtype).count() != 0


def test_nanoseconds_apart_is_apart() -> None:
    tracker = KeyTracker(("k",), pl.Schema({"k": pl.Datetime("ns")}))
    for start in (0, 20, 40):
        tracker.add(pl.DataFrame({"k": range(start, start + 20)}).select(pl.col("k").cast(pl.Datetime("ns"))))
    assert tracker.count() == 0


def test_shuffled_batches_are_certain() -> None:
    # small batches that are in order by chance, a single row between others, and interleaved ones
    one_by_one = KeyTracker(("k",), pl.Schema({"k": pl.Int64}))
    values = list(range(500))
    random.Random(1).shuffle(values)
    for start in range(0, 500, 3):
        one_by_one.add(pl.DataFrame({"k": values[start : start + 3]}))
    assert one_by_one.count() == 0
    one_by_one.add(pl.DataFrame({"k": [250]}))
    assert one_by_one.count() != 0
    assert batches((0, 100), (100, 200), shuffle=True).count() == 0


@pytest.mark.parametrize(("values", "times"), [([5, 1, 3, None], 0), ([5, 1, 3, 5], 2)])
def test_hashes_that_are_known_are_taken(values: list[int | None], times: int) -> None:
    rows = pl.DataFrame({"k": values, "g": "a"})
    tracker = KeyTracker(("k", "g"), rows.schema)
    hashes = rows.select(hashed(("k", "g"), rows.schema)).to_series().drop_nulls()
    assert tracker.add(rows.head(2), hashes.head(2)) is None
    assert tracker.add(rows.tail(2), hashes.tail(-2)) is None
    assert (tracker.count() != 0) == bool(times)


def test_a_mix_is_certain_where_sorted_batches_stand_apart() -> None:
    tracker = batches((0, 100), (100, 200))
    evens, odds = list(range(1_000, 1_100, 2)), list(range(1_001, 1_101, 2))
    for values in (evens[::-1], odds[::-1], [2_000], [1_999]):
        tracker.add(pl.DataFrame({"k": values}))
    assert tracker.count() == 0
    tracker.add(pl.DataFrame({"k": list(range(1_050, 1_080))}))  # in order, among hashed ones
    assert tracker.count() != 0
    # a short span inside a long one that is not its neighbour
    assert batches((0, 100), (20, 40), (60, 80)).count() != 0
    hidden = KeyTracker(("k",), pl.Schema({"k": pl.Int64}))
    for values in (list(range(0, 200, 2))[::-1], [3, 1], list(range(100, 130))):
        hidden.add(pl.DataFrame({"k": values}))
    assert hidden.count() != 0


def test_nulls_are_not_compared_and_nested_keys_not_tracked() -> None:
    tracker = KeyTracker(("k",), pl.Schema({"k": pl.List(pl.Int8)}))
    tracker.add(pl.DataFrame({"k": [None, None]}, schema={"k": pl.List(pl.Int8)}))
    assert tracker.count() == 0
    tracker.add(pl.DataFrame({"k": [[1]]}, schema={"k": pl.List(pl.Int8)}))
    assert tracker.count() != 0


def test_repeated_counts_the_rows_of_where() -> None:
    frame = pl.DataFrame({"k": [1, 1, 2, 2, None, None], "w": [True, True, True, False, True, True]})
    assert repeated(frame, ("k",), pl.col("w")).rows() == [(1, 2)]
    assert repeated(frame.lazy(), ("k",)).collect().sort("k").rows() == [(1, 2), (2, 2)]


def test_batches_in_order_and_in_none_that_touch_are_uncertain() -> None:
    tracker = KeyTracker(("k",), pl.Schema({"k": pl.Int64}))
    tracker.add(pl.DataFrame({"k": list(range(50))}))
    tracker.add(pl.DataFrame({"k": [60, 49, 55]}))
    assert tracker.count() is None


def test_one_row_by_itself_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key is both ends of an ordered batch, and is one."""
    monkeypatch.setattr(uniqueness, "_SMALL", 0)
    tracker = KeyTracker(("k",), pl.Schema({"k": pl.Int64}))
    tracker.add(pl.DataFrame({"k": [1]}))
    assert tracker.count() == 0
    tracker.add(pl.DataFrame({"k": [1, 2]}))
    assert tracker.count() == 2
    assert tracker.ends_repeated(pl.Int64()).to_list() == [1]
