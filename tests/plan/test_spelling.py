"""Expressions that mean the same are hashed alike; those that only look as if they did are not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import polars as pl
import pytest

from lazypipe.plan.follow import follow
from lazypipe.plan.nodes import Named, PlanExpr, PlanNode
from lazypipe.plan.spelling import opposite, stripped
from tests.plan.test_follow import LEAVES, Asked, X, state

c = pl.col
SIDE = pl.Series([True, False])


def value(expr: pl.Expr, rows: pl.LazyFrame = X) -> str:
    return state(rows.select(v=expr)).columns["v"]


ALIKE: list[list[Callable[[], pl.Expr]]] = [
    [lambda: c.a > 1, lambda: pl.lit(1) < c.a, lambda: ~(c.a <= 1), lambda: (c.a > 1) == pl.lit(True), lambda: pl.lit(False) == (c.a <= 1)],
    [lambda: c.b < c.b.abs(), lambda: c.b.abs() > c.b, lambda: ~(c.b >= c.b.abs()), lambda: ~~(c.b < c.b.abs())],
    [lambda: c.d != c.d.dt.offset_by("1d"), lambda: ~(c.d == c.d.dt.offset_by("1d"))],
    [lambda: c.a.is_in([1, 2]), lambda: c.a.is_in([2, 1, 2]), lambda: (c.a == 2) | (c.a == 1)],
    [lambda: ~c.s.is_in(["p", "q"]), lambda: (c.s != "q") & (c.s != "p"), lambda: ~((c.s == "p") | (c.s == "q"))],
    [lambda: c.a.is_in([1]), lambda: c.a == 1],
    [lambda: ~(c.ok & (c.a > 1)), lambda: ~c.ok | (c.a <= 1), lambda: ((c.a > 1) & c.ok) == pl.lit(False)],
    [lambda: ~(c.ok | ~((c.a > 1) & c.s.is_null())), lambda: (c.a > 1) & ~c.ok & ~c.s.is_not_null()],
    [lambda: c.ok & pl.lit(True), lambda: c.ok | pl.lit(False), lambda: c.ok & c.ok, lambda: c.ok],
    [lambda: c.d.is_in([date(2024, 1, 1)]), lambda: c.d == date(2024, 1, 1)],
    [lambda: ~c.a.eq_missing(1), lambda: c.a.ne_missing(1)],
    [lambda: (c.a + c.a.abs()) + c.a * 2, lambda: c.a * 2 + (c.a.abs() + c.a)],
    [
        lambda: pl.coalesce(c.a, 0), lambda: pl.when(c.a.is_null()).then(0).otherwise(c.a), lambda: pl.when(~c.a.is_null()).then(c.a).otherwise(0),
    ],
    [lambda: pl.when(c.s.is_null()).then(1).otherwise(c.a), lambda: pl.when(c.s.is_not_null()).then(c.a).otherwise(1)],
]  # fmt: skip


@pytest.mark.parametrize("group", ALIKE)
def test_what_means_the_same_is_hashed_alike(group: list[Callable[[], pl.Expr]]) -> None:
    assert len({value(made()) for made in group}) == 1


APART: list[list[Callable[[], pl.Expr]]] = [
    # where the condition is null, the other branch is taken
    [lambda: pl.when(c.ok).then(1).otherwise(2), lambda: pl.when(~c.ok).then(2).otherwise(1)],
    [lambda: c.a > 1, lambda: c.a < 1, lambda: c.a >= 1, lambda: ~(c.a > 1), lambda: ~(c.a > 1).is_null()],
    [lambda: c.a.is_in([1, 2]), lambda: c.a.is_in([1, 3]), lambda: c.a.is_in([1]), lambda: c.a.is_in([1, 2], nulls_equal=True)],
    [lambda: c.a.is_in([1, None]), lambda: c.a.is_in([1]), lambda: c.a.is_in([1, None], nulls_equal=True), lambda: c.a.is_in([])],
    # in the order of categories, or value by value of a list, is another thing
    [lambda: c.c.is_in(["p"]), lambda: c.c == "p", lambda: c.l.is_in([[1]]), lambda: c.b.is_in([1.0]), lambda: c.a.is_in([1])],
    [lambda: c.a.is_in(pl.Series([[1], [2]])), lambda: c.a.is_in(pl.Series([[1], [3]])), lambda: c.a.is_in(pl.Series([[1]]))],
    # what is not TRUE is not FALSE
    [lambda: c.ok.eq_missing(pl.lit(True)), lambda: c.ok == pl.lit(True), lambda: c.ok.ne_missing(pl.lit(False))],
    [lambda: c.ok & pl.lit(False), lambda: c.ok | pl.lit(True), lambda: c.ok, lambda: pl.lit(True)],
    [lambda: (c.b + 0.1) + c.b.abs(), lambda: c.b + (0.1 + c.b.abs())],
    [lambda: c.a + c.a + 1, lambda: c.a + 1, lambda: c.a * c.a * 1, lambda: c.a - 1 - c.a],
    [lambda: c.a.cast(pl.Int32), lambda: c.a, lambda: c.a.cast(pl.Int32).cast(pl.Int64)],
    [lambda: pl.when(c.a.is_null()).then(c.a).otherwise(0), lambda: pl.coalesce(c.a, 0), lambda: pl.when(c.s.is_null()).then(0).otherwise(c.a)],
]  # fmt: skip


@pytest.mark.parametrize("group", APART)
def test_what_only_looks_alike_is_told_apart(group: list[Callable[[], pl.Expr]]) -> None:
    assert len({value(made()) for made in group}) == len(group)


@pytest.mark.parametrize(
    "expr",
    [c.ok & SIDE, c.ok | ~pl.lit(SIDE), ~pl.lit(SIDE), pl.lit(SIDE) == pl.lit(True), c.a + pl.Series([1, 2]) + 1, c.a > pl.Series([1, 2]),
     pl.when(pl.lit(SIDE)).then(c.a).otherwise(0), pl.lit(pl.Series([1, 2])).cast(pl.Int64) + c.a],
)  # fmt: skip
def test_values_beside_the_rows_go_by_their_order(expr: pl.Expr) -> None:
    """As a part of anything: which row a value stands beside is another after a sort."""
    found = {value(expr, rows) for rows in (X, X.sort("a"), X.filter(c.a > 1))}
    assert len(found) == 3


def test_a_filter_is_the_conditions_that_must_all_hold() -> None:
    same = [
        X.filter(~c.a.is_in([1, 2])), X.filter(c.a != 1).filter(c.a != 2), X.filter(~((c.a == 2) | (c.a == 1))),
        X.filter((c.a != 1) & pl.lit(True)).filter(c.a != 2),
    ]  # fmt: skip
    assert len({state(frame).rows for frame in same}) == 1
    assert state(X.filter(pl.lit(True))).rows == state(X).rows
    assert len({state(X.filter(pl.Series([True, False]), c.a > n)).rows for n in (1, 2)}) == 2
    assert state(X.filter(pl.lit(False))).rows != state(X).rows


def test_what_is_not_seen_into_stays_so() -> None:
    """A word for the opposite is no way around what Polars does not show."""
    hidden = PlanExpr("function", "is_null", (PlanExpr("column", "a", exact="<Int64>"),))
    assert opposite(hidden) is None
    denied = PlanExpr("function", "not", (hidden,), exact="<Boolean>Function()")
    assert stripped(denied) == (denied, True)
    case = PlanExpr("ternary", "", (hidden, hidden), (hidden,), exact="<Boolean>Ternary()")
    leaf = PlanNode("label", ("a",), options=(("name", "x"),))
    plan = PlanNode("select", ("v",), (leaf,), (Named("v", case),), exact="Select()")
    asked = Asked()
    follow(plan, LEAVES, asked)
    assert asked.times == 1


def test_times_finer_than_python_shows_are_no_list_of_values() -> None:
    asked = Asked()
    state(
        X.select(v=c.t.cast(pl.Datetime("ns")).is_in(pl.lit(pl.Series([[1]], dtype=pl.List(pl.Datetime("ns")))))), asked
    )
    assert asked.times == 0
