"""What choosing a layout spends is never more than it may, whatever pieces of work take; and what it is told it may is all that it needs to know."""

from __future__ import annotations

import itertools
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazypipe.storage.optimizer import prices
from lazypipe.storage.optimizer.advise import advise
from lazypipe.storage.optimizer.budget import Budget
from lazypipe.storage.optimizer.layout import DEFAULT
from lazypipe.storage.optimizer.workload import Query, Workload
from lazypipe.testing.synthetic import make_orders

GOALS = ("storage", "balanced", "read", "write")
COSTS = st.floats(1e-6, 1.0)


class Ticks:
    """A clock that goes on only when something is done."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.floats(0.0, 5.0), st.lists(COSTS, max_size=30))
def test_without_a_clock_pieces_take_what_they_are_said_to(seconds: float, pieces: list[float]) -> None:
    budget = Budget(seconds)
    done = [price for price in pieces if budget.takes(price)]
    assert budget.spent == pytest.approx(sum(done))
    assert budget.spent <= seconds
    assert budget.stopped == (len(done) < len(pieces))


@given(st.floats(0.0, 5.0), st.lists(COSTS, min_size=1, max_size=30), st.floats(0.01, 100.0))
def test_by_a_clock_what_all_pieces_take_longer_is_known_after_the_first(
    seconds: float, pieces: list[float], pace: float
) -> None:
    clock = Ticks()
    budget = Budget(seconds, clock)
    took = list[float]()
    for price in sorted(pieces):
        if budget.takes(price):
            took.append(pace * price)
            clock.now += pace * price
    assert budget.spent == pytest.approx(sum(took))
    # the first, and least, may take longer than anybody could know
    assert budget.spent <= max(seconds, took[0] if took else 0.0) + 1e-9


@given(st.floats(0.0, 5.0), st.lists(st.tuples(COSTS, COSTS), max_size=30))
def test_by_a_clock_nothing_begins_once_the_time_is_over(seconds: float, pieces: list[tuple[float, float]]) -> None:
    clock = Ticks()
    budget = Budget(seconds, clock)
    for price, cost in pieces:
        before = budget.spent
        if budget.takes(price):
            assert before <= seconds
            clock.now += cost
        else:
            assert budget.stopped


RATES = {
    "_LOOK": 2, "_PACKING": 3, "_LIKELY": 3, "_PROFILE": 3, "_OPTIONS": 0, "_NAMED": 0, "_HARD": 2, "_READING": 2, "_ORDER": 0,
    "_FILE": 0, "_COLUMN": 0, "_PACE": 0, "_UNSEEN": 0,
}  # fmt: skip


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.sampled_from([400, 3_000]))
    made = make_orders(rows, seed=draw(st.integers(0, 3)))
    n = pl.int_range(rows)
    more = {
        "wide": [(n.hash(i) % 5).alias(f"w{i}") for i in range(30)],
        "empty": [pl.when(n % 50 == i % 50).then(n).alias(f"e{i}") for i in range(12)],
        "mixed": [(n * 7_919 % 1_009).alias("key")],
        "plain": [],
    }
    return made.with_columns(more[draw(st.sampled_from([*more]))])


@settings(max_examples=60)
@given(st.data(), frames(), st.sampled_from(GOALS), st.booleans(), st.floats(0.0, 0.3))
def test_choosing_keeps_to_its_time_whatever_pieces_take(
    data: st.DataObject, frame: pl.DataFrame, goal: Any, asks: bool, budget: float
) -> None:
    workload = Workload((Query("q", {"country": "equal", "status": "equal"}),)) if asks else None
    with pytest.MonkeyPatch.context() as patch:
        for name, parts in RATES.items():
            times = data.draw(st.sampled_from([0.2, 1.0, 5.0]), name)
            rate: Any = getattr(prices, name)
            patch.setattr(prices, name, tuple(times * r for r in rate) if parts else times * rate)
        advice = advise(frame, workload, goal, budget, total=10**6, clock=lambda: 0.0)
        look = prices.look_seconds(frame.width)
    assert advice.spent <= max(budget, look) + 1e-9
    if budget < look:
        assert advice.layout == DEFAULT
        assert advice.waits
        assert advice.left == tuple(frame.columns)


def test_a_clock_that_runs_ends_what_is_timed() -> None:
    frame = make_orders(400, seed=1)
    looks = itertools.count()
    advice = advise(frame, None, "storage", 50.0, clock=lambda: float(next(looks)))
    more = advise(frame, None, "storage", 5_000.0, clock=lambda: float(next(itertools.count())))
    assert len(advice.measured) < len(more.measured)
    assert str(advice.reasons[-1]).startswith("no more trials: ")
