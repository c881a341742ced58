"""An oracle for lineage that knows nothing of plans: change one input column, and see which output columns change."""

from __future__ import annotations

import importlib.util
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.plan.lineage import ALL, Column, ColumnLineage
from lazypipe.plan.reader import read_plan
from lazypipe.plan.steps import plan_lineage
from lazypipe.spec.taps import label


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("queries", Path(__file__).parent / "queries.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


queries = _load()
pytestmark = pytest.mark.filterwarnings("ignore")


def lineages(frame: pl.LazyFrame) -> list[ColumnLineage]:
    return [plan_lineage(read_plan(frame, optimized=o), "out") for o in (False, True)]


def affected(lineage: ColumnLineage, source: Column) -> set[str]:
    """The output columns that may change with a column, as lineage says."""
    targets = {e.target.name for e in lineage.edges if e.source == source}
    return set(lineage.columns) if ALL in targets else targets


def changed(series: pl.Series, seed: int) -> pl.Series:
    """Other values of the same type: in another order, shifted, or with a null more."""
    draw = random.Random(seed)
    values = series.to_list()
    match seed % 3:
        case 0:
            values = draw.sample(values, len(values))
        case 1:
            values = [draw.choice(values) for _ in values]
        case _:
            values[draw.randrange(len(values))] = None
    made = pl.Series(series.name, values, dtype=series.dtype)
    if seed % 2 and series.dtype.is_numeric():
        made = made + 3
    return made.cast(series.dtype)


def bags(frame: pl.DataFrame) -> Mapping[str, Counter[str]]:
    """Return what each column holds; but for the last digits of floats, which say in which order threads added up."""
    return {name: Counter(map(_said, frame[name].to_list())) for name in frame.columns}


def _said(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else repr(value)


def check(build: queries.Query, tables: Mapping[str, pl.DataFrame], seeds: range) -> int:
    """Return how many changes were seen; each must be one that lineage allows."""

    def frame(data: Mapping[str, pl.DataFrame]) -> pl.LazyFrame:
        return build(*(label(rows.lazy(), name) for name, rows in data.items()))

    found = lineages(frame(tables))
    result = frame(tables).collect()
    before, names = bags(result), list(result.columns)
    for lineage in found:
        assert list(lineage.columns) == names
    seen = 0
    for table, rows in tables.items():
        for column in rows.columns:
            for seed in seeds:
                other = rows.with_columns(changed(rows[column], seed))
                try:
                    after = bags(frame({**tables, table: other}).collect())
                except pl.exceptions.PolarsError:
                    continue  # the query cannot take these values
                moved = {n for n in names if after[n] != before[n]}
                seen += len(moved)
                for lineage in found:
                    assert moved <= affected(lineage, Column(table, column)), (table, column, str(lineage))
    return seen


@pytest.mark.parametrize("name", queries.QUERIES)
def test_nothing_changes_that_lineage_does_not_name(name: str) -> None:
    assert check(queries.QUERIES[name], {"t": queries.T, "u": queries.U}, range(3)) > 0


COLUMNS = ("id", "x", "y", "g", "b")


@st.composite
def programs(draw: st.DrawFn) -> tuple[str, ...]:
    steps = st.sampled_from(
        [
            "derive",
            "filter",
            "group",
            "window",
            "join",
            "sort head",
            "union",
            "unique",
            "when",
            "agg beside",
            "rename",
            "semi",
        ]
    )
    return tuple(draw(st.lists(steps, min_size=1, max_size=6)))


def _apply(step: str, frame: pl.LazyFrame, u: pl.LazyFrame, draw: random.Random) -> pl.LazyFrame:
    names = frame.collect_schema().names()
    numbers = [n for n, t in frame.collect_schema().items() if t.is_numeric()]
    a, b = draw.choice(numbers), draw.choice(numbers)
    any_one, new = draw.choice(names), f"n{next(i for i in range(99) if not any(n.startswith(f'n{i}') for n in names))}"
    match step:
        case "derive":
            return frame.with_columns((pl.col(a) + pl.col(b)).alias(new))
        case "filter":
            return frame.filter(pl.col(a) > draw.choice([0, 10, 30]))
        case "group":
            return frame.group_by(any_one, maintain_order=True).agg(
                pl.col(a).sum().alias(new), pl.len().alias(f"{new}_rows")
            )
        case "window":
            return frame.with_columns(pl.col(a).sum().over(any_one).alias(new))
        case "join":
            return frame.join(
                u.select(pl.col("id").cast(pl.Float64).alias(f"{new}_key"), pl.col("w").alias(new)),
                how="left",
                left_on=pl.col(a).cast(pl.Float64),
                right_on=f"{new}_key",
            )
        case "sort head":
            return frame.sort(any_one, *names).head(draw.randrange(1, 5))
        case "union":
            return pl.concat([frame.filter(pl.col(a) > 10), frame])
        case "unique":
            return frame.sort(*names).unique(any_one, keep="first", maintain_order=True)
        case "when":
            return frame.with_columns(pl.when(pl.col(a) > 20).then(pl.col(b)).otherwise(None).alias(new))
        case "agg beside":
            return frame.with_columns(pl.col(a).max().alias(new))
        case "rename":
            return frame.rename({any_one: new})
        case _:
            return frame.join(u, how="semi", left_on=pl.col(a).cast(pl.Float64), right_on=pl.col("id").cast(pl.Float64))


@given(programs(), st.integers(0, 10_000))
def test_random_programs(steps: tuple[str, ...], seed: int) -> None:
    def build(t: pl.LazyFrame, u: pl.LazyFrame) -> pl.LazyFrame:
        draw = random.Random(seed)
        frame = t.select(COLUMNS)
        for step in steps:
            frame = _apply(step, frame, u, draw)
        return frame

    check(build, {"t": queries.T, "u": queries.U}, range(seed, seed + 3))
