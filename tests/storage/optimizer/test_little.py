"""Choosing in little time: an order of rows, or nothing yet."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from lazypipe.storage.optimizer import trial
from lazypipe.storage.optimizer.advise import advise
from lazypipe.storage.optimizer.choice import LITTLE, choosing_seconds
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.ordering import kept_bits, likely_order, packing_order
from lazypipe.storage.optimizer.trial import write_bytes
from lazypipe.storage.optimizer.workload import Query, Workload

FLIGHTS = Path(__file__).parents[3] / "pipelines/data"


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    parts = [pl.read_csv(p, infer_schema_length=None) for p in sorted(FLIGHTS.glob("flights-*.csv.gz"))]
    return pl.concat(parts, how="vertical_relaxed")


def still() -> float:
    return 0.0


def test_an_order_is_all_there_is_time_for(flights: pl.DataFrame) -> None:
    advice = advise(flights, goal="storage", budget=0.0075, clock=still)
    assert advice.layout.sort_by
    assert not advice.layout.forms
    assert not advice.layout.encodings
    assert not advice.waits
    assert advice.layout.writer == "polars"
    assert advice.left == tuple(flights.columns)
    in_order = flights.sort(*advice.layout.sort_by, maintain_order=True)
    assert len(write_bytes(in_order, advice.layout)) < 0.75 * len(write_bytes(flights, DEFAULT))
    (reason,) = advice.reasons
    assert reason.decision == f"ordered by {', '.join(advice.layout.sort_by)}"
    assert [t.how for t in advice.measured] == ["default"]  # nothing is written to find that out


@pytest.mark.parametrize(
    ("goal", "more"),
    [
        ("balanced", {}),  # writing in order would take too long
        ("write", {}),
        ("read", {}),  # nobody says what is read
        ("storage", {"keep_order": True}),
        ("storage", {"budget": 0.002}),
        ("storage", {"budget": 0.007}),  # to look at 19 columns takes 7.25 ms
    ],
    ids=["balanced", "write", "read", "kept", "no time", "a little too short"],
)
def test_what_there_is_no_time_for_waits(goal: str, more: dict[str, object], flights: pl.DataFrame) -> None:
    advice = advise(flights, goal=goal, **{"budget": 0.005, "clock": still, **more})  # type: ignore[arg-type]
    assert advice.waits
    assert advice.layout == DEFAULT
    assert [r.decision for r in advice.reasons] == ["the default layout"]
    assert "2,000 of 80,789 rows" in advice.to_markdown() or "8,000 of 80,789 rows" in advice.to_markdown()


def test_what_queries_filter_is_the_order(flights: pl.DataFrame) -> None:
    asked = Workload((Query("a", {"dest": "equal"}),))
    advice = advise(flights, asked, "read", 0.008, clock=still)
    assert advice.layout.sort_by == ("dest",)
    rows = advice.layout.row_group_rows
    assert rows is not None
    places = flights.sort("dest", maintain_order=True).with_row_index()
    found = places.filter(pl.col("dest") == "SFO")["index"] // rows
    assert found.n_unique() <= 2
    assert not advise(flights, asked, "balanced", 0.008, clock=still).layout.sort_by


@pytest.mark.parametrize("budget", [0.008, 0.015, 0.02, 0.025, 0.03, 0.05, 0.2])
def test_whatever_time_there_is_lookups_get_small_row_groups(budget: float, flights: pl.DataFrame) -> None:
    advice = advise(flights, Workload((Query("a", {"dest": "equal"}),)), "read", budget, clock=still)
    assert (advice.layout.sort_by, advice.layout.row_group_rows) == (("dest",), 32_768)


def test_an_order_that_readers_gain_nothing_by_is_none() -> None:
    frame = pl.DataFrame({"id": range(30_000), "x": [n * 7919 % 30_011 for n in range(30_000)]})
    risen = Workload((Query("a", {"id": "equal"}),))  # is in order as it comes
    assert advise(frame, risen, "read", 0.008, clock=still).waits
    other = Workload((Query("a", {"x": "other"}),))
    assert advise(frame, other, "read", 0.008, clock=still).waits


def test_an_order_that_makes_files_much_larger_is_none() -> None:
    rise = {f"c{n}": pl.int_range(30_000, eager=True) // (n + 1) for n in range(8)}
    frame = pl.DataFrame(rise).with_columns(key=pl.int_range(30_000, eager=True).hash() % 1_000)
    asked = Workload((Query("a", {"key": "equal"}),))
    assert kept_bits(frame.head(2_000), ["key"]) > 1.5
    assert advise(frame, asked, "read", 0.011, clock=still).waits


def test_all_rows_at_hand_are_looked_at_as_ever() -> None:
    # what takes so little is not told to wait by a caller who has no more rows
    frame = pl.DataFrame({"id": range(1_000), "price": [n / 4 for n in range(1_000)]})
    assert not advise(frame, goal="storage", budget=0.001, clock=still).waits


def test_likely_orders_are_those_that_are_found_with_more_time(flights: pl.DataFrame) -> None:
    some = flights.slice(30_000, 8_000)
    order, left = likely_order(some)
    slowly, _ = packing_order(some)
    assert left < 0.8
    assert kept_bits(some, order) < kept_bits(some, slowly) + 0.05
    assert likely_order(some.head(3)) == ((), 1.0)
    assert likely_order(some.select("dest")) == ((), 1.0)
    risen = pl.DataFrame({"id": range(4_000), "at": range(4_000)})
    assert likely_order(risen) == ((), 1.0)


@pytest.mark.parametrize("goal", ["storage", "balanced", "read", "write"])
def test_choosing_takes_its_share_of_what_is_written(goal: str) -> None:
    # by the times to write that are allowed, and that were measured, from 0.4 to 3 times the default's
    assert 0.01 * 10 < choosing_seconds(goal, 10) < 0.03 * 3 * 10  # type: ignore[arg-type]
    assert choosing_seconds(goal, 10) == pytest.approx(10 * choosing_seconds(goal, 1))  # type: ignore[arg-type]
    assert choosing_seconds(goal, 0.1) < LITTLE  # type: ignore[arg-type]


@pytest.mark.parametrize("goal", ["storage", "balanced", "read", "write"])
def test_more_columns_than_there_is_time_to_write_once_are_left(goal: str) -> None:
    n = pl.int_range(300, eager=True)
    frame = pl.DataFrame({f"c{i}": n * i % 97 for i in range(1_000)})
    asked = Workload((Query("q", {"c7": "equal"}),)) if goal == "read" else None
    advice = advise(frame, asked, goal, 0.05, total=300_000, clock=still)  # type: ignore[arg-type]
    assert advice.left == tuple(frame.columns)
    assert [t.how for t in advice.measured] == ["default"]
    enough = advise(frame.select(frame.columns[:40]), asked, goal, 0.05, total=300_000, clock=still)  # type: ignore[arg-type]
    assert len(enough.measured) > 1


def bytes_of(frame: pl.DataFrame, layout: Layout) -> int:
    """Return what rows take in a layout without forms."""
    return len(write_bytes(frame.sort(*layout.sort_by, maintain_order=True) if layout.sort_by else frame, layout))


def test_with_time_to_try_an_order_one_is_tried(flights: pl.DataFrame) -> None:
    advice = advise(flights, goal="storage", budget=0.4, forms=False, clock=still)
    order = advice.layout.sort_by
    tried = [t.cost.bytes for t in advice.measured if t.how in ("default", f"ordered by {', '.join(order)}")]
    assert order
    assert advice.spent <= 0.4
    assert not advice.left
    assert tried[0] > advice.after.bytes
    plain = replace(DEFAULT, sort_by=order)
    assert bytes_of(flights, plain) < 0.8 * bytes_of(flights, DEFAULT)


def test_an_order_that_counting_speaks_for_takes_no_trial(flights: pl.DataFrame) -> None:
    """There is no time to try an order: it is one that counting speaks for, and columns stand as they are."""
    times = {"total": 30 * flights.height, "clock": still}
    advice = advise(flights, goal="storage", budget=0.0245, **times)  # type: ignore[arg-type]
    assert advice.layout.sort_by
    assert (advice.layout.level, advice.layout.writer) == (6, "polars")
    assert advice.left == tuple(flights.columns)
    assert not advice.waits
    assert advice.spent <= 0.0245
    assert bytes_of(flights, advice.layout) < 0.75 * bytes_of(flights, DEFAULT)
    # rows that come in the order of a column are left in it, and columns looked at
    numbered = flights.with_columns(id=pl.int_range(pl.len()))
    more = advise(numbered, goal="storage", budget=0.0245, **times)  # type: ignore[arg-type]
    assert not more.layout.sort_by
    assert more.layout.encodings["id"] == "delta"
    assert 0 < len(more.left) < numbered.width


def test_nobody_reads_so_there_is_no_order_for_readers(flights: pl.DataFrame) -> None:
    assert advise(flights, goal="read", budget=0.009, clock=still).waits
    listed = flights.head(30_000).select("dest", "carrier", l=pl.concat_list("day"))
    assert advise(listed, Workload((Query("a", {"l": "equal"}),)), "read", 0.009, clock=still).waits


def test_where_counting_finds_an_order_nothing_is_written(
    flights: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 20 ms no order of 19 columns can be tried: a file of all of them, besides, would be written for nothing."""
    written: list[int] = []
    as_it_is = trial.write_bytes
    monkeypatch.setattr(
        trial, "write_bytes", lambda frame, layout: written.append(frame.width) or as_it_is(frame, layout)
    )
    advice = advise(flights, goal="storage", budget=LITTLE, clock=still)
    assert advice.layout.sort_by
    assert advice.left == tuple(flights.columns)
    assert not written


def test_an_order_that_promises_little_is_tried_where_that_is_little_of_the_time() -> None:
    """By counting, sorted rows leave 93 % of the bits: two files are no share of 7 % of what is left of 40 ms, but of 180."""
    n = pl.int_range(200_000, eager=True).alias("n").to_frame()
    drift = (pl.col("n") // 100 % 1_440).cast(pl.Float64) / 1_440 * math.tau
    frame = n.select(
        time=pl.lit(datetime(2026, 1, 1)) + pl.duration(seconds=pl.col("n") // 100 * 10),
        sensor=pl.format("sensor-{}", pl.col("n") % 100),
        value=(20 + 5 * drift.sin() + (pl.col("n").hash(1) % 100) / 100).round(2),
    )
    tried = {
        budget: [t.how for t in advise(frame, goal="storage", budget=budget, total=10**7, clock=still).measured]
        for budget in (0.04, 0.18)
    }
    assert "ordered by value" in tried[0.18]
    assert not [how for how in tried[0.04] if how.startswith("ordered by")]
    assert "chosen, pyarrow" in tried[0.04]
