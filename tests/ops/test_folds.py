"""Folds: an operation on parts, then on what came of the parts, gives what it gives of all rows, however they are split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lazypipe import ops
from lazypipe.ops.base import Fold
from lazypipe.spec.model import Step
from lazypipe.spec.scope import Scope, Table

PART = "part"
SCHEMA = pl.Schema(
    {
        "g": pl.String(),
        "i": pl.Int64(),
        "small": pl.Int8(),
        "u": pl.UInt32(),
        "f": pl.Float64(),
        "f32": pl.Float32(),
        "d": pl.Decimal(10, 2),
        "t": pl.Duration("us"),
        "b": pl.Boolean(),
        "s": pl.String(),
        "day": pl.Date(),
        "at": pl.Datetime("us", "UTC"),
    }
)


def value(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


# eighths add up without rounding, in whatever order
FLOATS = st.integers(-800, 800).map(lambda n: n / 8) | st.sampled_from([math.nan, math.inf, -0.0])
ROW = st.tuples(
    st.sampled_from(["a", "b", "é", None]),
    value(st.integers(-(2**40), 2**40)),
    value(st.integers(-128, 127)),
    value(st.integers(0, 2**32 - 1)),
    value(FLOATS),
    value(FLOATS),
    value(st.decimals(Decimal(-1000), Decimal(1000), places=2)),
    value(st.timedeltas(timedelta(days=-99), timedelta(days=99))),
    value(st.booleans()),
    value(st.sampled_from(["", "x", "yy"])),
    value(st.dates(date(1990, 1, 1), date(2030, 1, 1))),
    value(st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1))),
)
PARTS = st.lists(st.tuples(ROW, st.integers(0, 3)), max_size=12)


def prepared(step: dict[str, Any], schema: pl.Schema = SCHEMA) -> tuple[ops.Operation, Scope]:
    ((name, arguments),) = step.items()
    written = Step(name, arguments)
    operation = ops.operation(written)
    return operation, Scope(type(operation), written)


def folded(step: dict[str, Any], rows: pl.DataFrame) -> Fold | None:
    operation, scope = prepared(step)
    return operation.fold(Table(rows.lazy(), SCHEMA, (PART,)), scope)


def frame(parts: Sequence[tuple[Any, int]]) -> pl.DataFrame:
    data = [(*row, part) for row, part in parts]
    return pl.DataFrame(data, schema={**SCHEMA, PART: pl.UInt64()}, orient="row")


def said(found: pl.DataFrame) -> Counter[Any]:
    """Rows in any order; NaN equals NaN, and 0 equals -0."""

    def plain(cell: Any) -> Any:
        if isinstance(cell, float):
            return "NaN" if math.isnan(cell) else cell + 0.0
        return cell

    return Counter(tuple(map(plain, row)) for row in found.rows())


def assert_folds(step: dict[str, Any], rows: pl.DataFrame, live: frozenset[int] = frozenset(range(4))) -> None:
    """Hold folding against lowering over the rows of the parts that stay."""
    operation, scope = prepared(step)
    fold = folded(step, rows)
    assert fold is not None
    kept = fold.partial.collect()
    # as a run does it: what is kept of parts that have left is left out, and each part may stand in a file of its own
    pieces = [kept.filter(pl.col(PART) == part).drop(PART) for part in sorted(live)]
    merged = fold.merge(pl.concat([kept.clear().drop(PART), *pieces]).lazy()).collect()
    whole = operation.lower(Table(rows.filter(pl.col(PART).is_in(live)).drop(PART).lazy(), SCHEMA), scope).collect()
    assert merged.schema == whole.schema
    assert said(merged) == said(whole)
    if fold.reads is not None:  # a gate ahead of it may have left out all other columns
        narrow = operation.fold(Table(rows.lazy().select(*fold.reads, PART), SCHEMA, (PART,)), scope)
        assert narrow is not None
        assert said(narrow.partial.collect()) == said(kept)


EVERY = {
    **{f"sum_{c}": f"sum({c})" for c in ("i", "small", "u", "f", "f32", "d", "t", "b")},
    **{f"count_{c}": f"count({c})" for c in SCHEMA},
    **{f"{m}_{c}": f"{m}({c})" for m in ("min", "max") for c in SCHEMA if c != "g"},
    **{f"mean_{c}": f"avg({c})" for c in ("small", "u", "b")},
    "rows": "count(*)",
    "made": "sum(i * 2 + small)",
    "mean": "AVG(small + 1)",
    "rate": "sum(small) / count(*)",
    "spread": "max(i) - min(i)",
    "at_least": "coalesce(sum(u), 0) >= 3 AND count(*) < 5",
    "worded": "CASE WHEN count(b) > 1 THEN max(s) || '!' ELSE 'few' END",
    "span": "max(at) - min(at)",
    "month": "date_trunc('month', max(at))",
    "typed": "sum(i)::VARCHAR",
}


@pytest.mark.parametrize("by", [(), ("g",), ("g", "b"), ("f",)])
@settings(max_examples=settings().max_examples * 2 // 5)
@given(parts=PARTS, live=st.frozensets(st.integers(0, 3)))
@example(parts=[], live=frozenset({0}))
def test_any_split_aggregates_to_the_same(
    by: tuple[str, ...], parts: list[tuple[Any, int]], live: frozenset[int]
) -> None:
    aggregate = {n: e for n, e in EVERY.items() if n not in by}
    assert_folds({"aggregate": {"by": list(by), "aggregate": aggregate}}, frame(parts), live)


@pytest.mark.parametrize(
    "window",
    [
        {"time": "at", "every": "1h", "by": ["g"]},
        {"time": "at", "every": "5y", "period": "7y"},
        {"time": "day", "every": "1q", "period": "1y", "by": ["g", "b"]},
        {"time": "at", "every": "1w", "time_zone": "Europe/Berlin"},
        {"time": "at", "every": ["1d", "1y", "all"], "by": ["g"]},
        {"time": "day", "gap": "1000d"},
        {"time": "at", "gap": "30000h", "by": ["g"]},
        {"time": "at", "gap": "3000d", "by": ["g", "f"]},
    ],
)
@settings(max_examples=settings().max_examples * 2 // 5)
@given(parts=PARTS, live=st.frozensets(st.integers(0, 3)))
@example(parts=[], live=frozenset({0}))
def test_any_split_falls_into_the_same_windows_and_sessions(
    window: dict[str, Any], parts: list[tuple[Any, int]], live: frozenset[int]
) -> None:
    aggregate = {"rows": "count(*)", "i": "sum(i)", "low": "min(s)", "mean": "avg(small)", "last": "max(at)"}
    name = "session" if "gap" in window else "window"
    assert_folds({name: {"aggregate": aggregate, **window}}, frame(parts), live)


@given(parts=PARTS)
def test_means_of_large_numbers_and_floats_agree_to_rounding(parts: list[tuple[Any, int]]) -> None:
    step = {"aggregate": {"aggregate": {"i": "avg(i)", "f": "avg(f)"}}}
    rows = frame(parts)
    operation, scope = prepared(step)
    fold = folded(step, rows)
    assert fold is not None
    merged = fold.merge(fold.partial).collect().row(0)
    whole = operation.lower(Table(rows.lazy(), SCHEMA), scope).collect().row(0)
    for here, there in zip(merged, whole, strict=True):
        assert (here is None) == (there is None)
        if here is not None:
            assert here == pytest.approx(there, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("columns", [["g"], ["g", "b"], ["f"], []])
@given(parts=PARTS, live=st.frozensets(st.integers(0, 3)))
def test_any_split_keeps_the_same_keys(columns: list[str], parts: list[tuple[Any, int]], live: frozenset[int]) -> None:
    step = {"distinct": columns}
    rows, there = frame(parts), frame(parts).filter(pl.col(PART).is_in(live)).drop(PART)
    fold = folded(step, rows)
    assert fold is not None
    kept = fold.partial.collect().filter(pl.col(PART).is_in(live)).drop(PART)
    found = fold.merge(kept.lazy()).collect()
    key = columns or SCHEMA.names()
    assert said(found.select(key)) == said(there.select(key).unique())
    assert not said(found) - said(there)


@pytest.mark.parametrize("keep", ["first", "last"])
@given(parts=PARTS, live=st.frozensets(st.integers(0, 3)))
def test_any_split_keeps_the_first_and_the_last_by_an_order(
    keep: str, parts: list[tuple[Any, int]], live: frozenset[int]
) -> None:
    # an order over all columns leaves nothing to chance
    step = {
        "distinct": {"columns": "g", "keep": keep, "order_by": ["i DESC", "small NULLS FIRST", *SCHEMA.names()[3:]]}
    }
    assert_folds(step, frame(parts), live)


@pytest.mark.parametrize(
    "step",
    [
        {"aggregate": {"aggregate": {"m": "median(i)"}}},
        {"aggregate": {"aggregate": {"m": "sum(i - min(i))"}}},
        {"aggregate": {"aggregate": {"m": "max(i - avg(i)) + 1"}}},
        {"aggregate": {"aggregate": {"m": "sum(i) + median(i)"}}},
        {"aggregate": {"aggregate": {"m": "first_value(i) + sum(i)"}}},
        {"aggregate": {"aggregate": {"m": "count(DISTINCT i)"}}},
        {"aggregate": {"aggregate": {"n": "count(*)", "m": "avg(d)"}}},
        {"aggregate": {"aggregate": {"m": "avg(t)"}}},
        {"aggregate": {"aggregate": {"m": pl.col("i").sum()}}},
        {"aggregate": {"aggregate": {"m": "sum(i) FILTER (WHERE b)"}}},
        {"distinct": {"columns": "g", "keep": "none"}},
        {"window": {"time": "at", "every": "1h", "period": "2h", "aggregate": {"m": "median(i)"}}},
        {"session": {"time": "at", "gap": "1h", "aggregate": {"m": "median(i)"}}},
        {"session": {"time": "at", "gap": "1h", "max_length": "1d", "aggregate": {"n": "count(*)"}}},
        {"sort": ["i"]},
        {"over": {"by": "g", "columns": {"n": "count(i)"}}},
        {"rank": {"as": "r", "order_by": ["i"]}},
    ],
)
def test_what_does_not_add_up_is_not_folded(step: dict[str, Any]) -> None:
    assert folded(step, frame([])) is None


@pytest.mark.parametrize(
    ("step", "reads"),
    [
        ({"aggregate": {"by": "g", "aggregate": {"n": "count(*)", "x": "sum(i + small)"}}}, {"g", "i", "small"}),
        ({"aggregate": {"aggregate": {"n": "count(*)"}}}, set()),
        ({"window": {"time": "at", "every": "1h", "by": "g", "aggregate": {"x": "avg(u)"}}}, {"at", "g", "u"}),
        ({"window": {"time": "at", "every": "1h", "period": "3h", "aggregate": {"n": "count(*)"}}}, {"at"}),
        ({"aggregate": {"aggregate": {"m": "max(columns('^i$'))"}}}, None),
        ({"window": {"time": "at", "every": "1h", "aggregate": {"m": "max(columns('^i$'))"}}}, None),
    ],
)
def test_what_parts_are_made_of_is_said(step: dict[str, Any], reads: set[str] | None) -> None:
    fold = folded(step, frame([]))
    assert fold is not None
    assert fold.reads == reads


def test_columns_that_are_named_in_odd_ways_are_found() -> None:
    """An aggregate is tried out over the columns that its text may name, however they are written there."""
    rows = pl.DataFrame({"g": [1, 1, 2], 'a"b': [1, 2, 3], "c d": [4, 5, 6], "é:x": [7, 8, 9], "rest": [0, 0, 0]})
    table = Table(rows.lazy(), rows.schema)
    texts = {"n": "count(*)", "s": 'sum("a""b")', "m": 'max("c d" + "a""b")', "x": 'min("é:x")', "one": "sum(1)"}
    operation, scope = prepared({"aggregate": {"by": "g", "aggregate": texts}}, rows.schema)
    fold = operation.fold(table, scope)
    assert fold is not None
    made = fold.merge(fold.partial).sort("g").collect()
    assert made.rows() == [(1, 2, 3, 7, 7, 2), (2, 1, 3, 9, 9, 1)]
    assert fold.reads == {"g", 'a"b', "c d", "é:x"}
