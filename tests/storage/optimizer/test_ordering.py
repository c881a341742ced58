"""Orders that make files smaller: what is planted is found, what rises is left alone, and the files that are written are smaller."""

from __future__ import annotations

import io
import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.storage.optimizer.advise import advise
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.order import ordered
from lazypipe.storage.optimizer.ordering import kept_bits, loose_key, packing_order, rising, spread
from lazypipe.storage.optimizer.trial import write_bytes
from lazypipe.storage.optimizer.workload import Query, Workload


def timetable(rows: int) -> pl.DataFrame:
    """Return trips that recur: the line tells from where to where, and how far that is; the day rises."""
    draw = random.Random(7)
    lines = [
        (f"line {n}", draw.choice("ABCDEFGH"), draw.choice("STUVWXYZ"), draw.randrange(100, 999)) for n in range(60)
    ]
    trips = [(n // 200, *draw.choice(lines), draw.randrange(60)) for n in range(rows)]
    return pl.DataFrame(trips, schema=["day", "line", "from", "to", "distance", "late"], orient="row")


def size(frame: pl.DataFrame, layout: Layout = DEFAULT) -> int:
    return len(write_bytes(ordered(frame.lazy(), layout, frame.schema, "rows").collect(), layout))


def test_the_column_that_others_follow_comes_first() -> None:
    frame = timetable(4_000)
    found = packing_order(frame)[0]
    assert found[0] == "line"
    # no other column alone makes files as small
    sizes = {n: size(frame, Layout(sort_by=(n,))) for n in frame.columns}
    assert min(sizes, key=lambda n: sizes[n]) == "line"
    assert size(frame, Layout(sort_by=found)) <= sizes["line"] < 0.7 * size(frame)


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame(),
        pl.DataFrame({"x": [1, 1, 2]}),
        pl.DataFrame({"x": [1, 2] * 50}),
        pl.DataFrame({"x": [[1], [2]] * 50, "y": [None, None] * 50}),
        pl.DataFrame({"id": range(1_000), "key": [f"{n * 7919 % 1009}" for n in range(1_000)]}),
        pl.DataFrame({"day": [n // 100 for n in range(1_000)], "shop": [n // 10 for n in range(1_000)]}),
    ],
    ids=["nothing", "few", "one", "nested", "all differ", "in order"],
)
def test_where_nothing_is_gained_there_is_no_order(frame: pl.DataFrame) -> None:
    assert packing_order(frame) == ((), 1.0)


def test_of_many_columns_the_best_are_found_on_few_rows() -> None:
    frame = timetable(3_000)
    draw = random.Random(8)
    noise = {f"n{i}": [draw.randrange(40) for _ in range(3_000)] for i in range(9)}
    assert packing_order(frame.with_columns(**{n: pl.Series(v) for n, v in noise.items()}))[0][0] == "line"


def test_an_order_is_judged_by_what_it_leaves_and_what_it_disturbs() -> None:
    frame = timetable(4_000)
    assert packing_order(frame)[1] == kept_bits(frame, packing_order(frame)[0]) < 0.7
    # ids that rise are steps of one; in another order they are long ones
    ids = pl.DataFrame({"id": range(4_000), "at": range(0, 40_000, 10), "shop": [n * 7 % 11 for n in range(4_000)]})
    assert kept_bits(ids, ["shop"]) > 1
    assert kept_bits(ids.select("shop", list=pl.concat_list("shop")), ["shop"]) < 0.2
    assert kept_bits(pl.DataFrame({"text": ["a", "b"] * 500}), ["text"]) < 0.1
    assert kept_bits(pl.DataFrame({"same": [1] * 100}), ["same"]) == 0.0


def test_an_order_that_disturbs_more_than_it_leaves_is_not_tried() -> None:
    n = pl.int_range(20_000, eager=True).alias("id").to_frame()
    frame = n.with_columns(at=pl.col("id") * 10, seen=pl.col("id") * 10 + 3, shop=pl.col("id").hash(1) % 11)
    assert packing_order(frame)[0] == ("shop",)
    advice = advise(frame, goal="storage", budget=0.06, clock=lambda: 0.0)
    assert not any(t.how.startswith("ordered by") for t in advice.measured)
    assert advice.layout.sort_by == ()


def test_what_rises() -> None:
    frame = pl.DataFrame({
        "id": range(100), "same": [1] * 100, "nearly": [*range(98), 5, 6], "falls": range(100, 0, -1),
        "null": pl.Series([None] * 100, dtype=pl.Int64), "text": [f"{n:03}" for n in range(100)],
    })  # fmt: skip
    assert rising(frame) == ["id", "same", "nearly"]
    assert rising(frame.select("text")) == []


@given(st.integers(0, 200), st.integers(4, 60))
def test_stretches_of_rows_are_spread_evenly(height: int, rows: int) -> None:
    frame = pl.DataFrame({"x": range(height)}, schema={"x": pl.Int64})
    found = spread(frame, rows)["x"].to_list()
    if height <= rows:
        assert found == list(range(height))
    else:
        assert len(found) == rows // 4 * 4
        assert found == sorted(set(found))
        assert found[0] == 0
        assert found[-1] >= height // 4 * 3


def test_advice_in_a_hurry_puts_rows_in_order() -> None:
    frame = timetable(30_000)
    advice = advise(frame, goal="storage", budget=0.06, clock=lambda: 0.0)
    assert advice.layout.sort_by[0] == "line"
    ordered_by = f"ordered by {', '.join(advice.layout.sort_by)}: the sample takes "
    assert any(str(r).startswith(ordered_by) for r in advice.reasons)
    assert advice.measured[0].how == "default"
    assert advice.after.bytes < 0.8 * advice.before.bytes
    assert size(frame, Layout(sort_by=advice.layout.sort_by)) < 0.7 * size(frame)
    lazily = advise(frame.lazy(), goal="storage", budget=0.06, clock=lambda: 0.0)
    assert lazily.layout.sort_by[0] == "line"
    assert advise(frame, goal="storage", budget=0.06, keep_order=True, clock=lambda: 0.0).layout.sort_by == ()
    asked = Workload((Query("q", {"line": "equal"}),))
    assert advise(frame, asked, goal="read", keep_order=True, clock=lambda: 0.0).layout.sort_by == ()
    # to sort takes longer than who asks for both small files and fast writing allows
    assert advise(frame, goal="balanced", budget=0.06, clock=lambda: 0.0).layout.sort_by == ()


def test_an_order_does_not_pay_where_it_scatters_what_rises() -> None:
    draw = random.Random(9)
    frame = pl.DataFrame(
        {"id": range(0, 60_000, 3), "at": range(20_000), "kind": [draw.choice("abc") for _ in range(20_000)]}
    )
    assert packing_order(frame)[0] == ("kind",)
    advice = advise(frame, goal="storage", budget=0.06, clock=lambda: 0.0)
    assert advice.layout.sort_by == ()
    found = pl.read_parquet(io.BytesIO(write_bytes(frame, DEFAULT)))
    assert found.equals(frame)


def test_rows_in_no_order_are_sorted_by_a_key_for_its_own_sake() -> None:
    draw = random.Random(5)
    keys = [draw.randrange(2**63) for _ in range(9_000)]
    frame = pl.DataFrame(
        {"x": [draw.random() for _ in keys], "key": keys, "code": [str(draw.randrange(2**63)) for _ in keys]}
    )
    assert loose_key(frame) == "key"
    advice = advise(frame, goal="storage", budget=0.06, total=10_000_000, clock=lambda: 0.0)
    assert advice.layout.sort_by == ("key",)
    assert advice.layout.encodings["key"] == "delta"
    assert "rows have no order that would be lost" in " ".join(map(str, advice.reasons))
    in_order = Layout(sort_by=("key",), encodings={"key": "delta"}, writer="pyarrow")
    assert size(frame.select("key"), in_order) < 0.9 * size(frame.select("key"))
    # what rises would be scattered; and next to long texts it is not worth it
    assert loose_key(frame.with_columns(at=pl.int_range(pl.len()))) is None
    long = frame.with_columns(text=pl.Series([draw.randbytes(90).hex() for _ in range(9_000)]))
    assert advise(long, goal="storage", budget=0.06, clock=lambda: 0.0).layout.sort_by == ()
    assert advise(frame, goal="storage", budget=0.06, writers=["polars"], clock=lambda: 0.0).layout.sort_by == ()


@pytest.mark.parametrize(
    "frame",
    [pl.DataFrame(), pl.DataFrame({"x": [1]}), pl.DataFrame({"x": [2, 1, None]}), pl.DataFrame({"x": [2, 1, 2, 1]}), pl.DataFrame({"x": ["b", "a"]})],
    ids=["nothing", "one", "null", "again", "text"],
)  # fmt: skip
def test_what_is_no_key_of_rows_without_order(frame: pl.DataFrame) -> None:
    assert loose_key(frame) is None
