"""Rows that take more memory than there is: joins and distinct rows are found in order, and are those that tables would find."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import ops
from lazypipe.ops.base import AHEAD, Operation
from lazypipe.plan.explain import explain
from lazypipe.run.room import Room
from lazypipe.spec.model import Step, freeze
from lazypipe.spec.scope import Scope, Table
from tests.test_in_order import KEYS


def lowered(step: dict[str, Any], here: pl.LazyFrame, *, large: bool, **others: pl.LazyFrame) -> pl.LazyFrame:
    """Return what a step makes of rows that are said to be large, or not."""
    ((name, arguments),) = step.items()
    written = Step(name, freeze(arguments))
    operation = ops.operation(written)
    tables = {n: Table(f, f.collect_schema(), large=large) for n, f in others.items()}
    return operation.lower(Table(here, here.collect_schema(), large=large), Scope(type(operation), written, tables))


def bag(frame: pl.LazyFrame, names: list[str] | None = None) -> Counter[str]:
    """Return rows in no order; zeros have no sign here."""
    found = frame.select(names or pl.all()).collect(engine="streaming")
    return Counter(str([0.0 if v == 0 and isinstance(v, float) else v for v in row]) for row in found.iter_rows())


def halves(frame: pl.DataFrame) -> pl.LazyFrame:
    """Return rows in two parts: of few in one Polars knows the order."""
    return pl.concat([frame.head(7).lazy(), frame.slice(7).lazy()])


def side(name: str, cells: list[tuple[int, int]], more: str) -> pl.LazyFrame:
    dtype, values = KEYS[name]
    return halves(
        pl.DataFrame(
            {
                "k": pl.Series([values[k % len(values)] for k, _ in cells], dtype=dtype),
                "j": pl.Series([None if j == 3 else j for _, j in cells], dtype=pl.Int16()),
                more: pl.Series(range(len(cells)), dtype=pl.Int64()),
            }
        )
    )


CELLS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=25)


@given(
    st.sampled_from(sorted(KEYS)),
    CELLS,
    CELLS,
    st.sampled_from([["k"], ["k", "j"]]),
    st.sampled_from(["inner", "left", "right", "full", "semi", "anti"]),
    st.booleans(),
)
def test_joins_in_order_find_what_tables_find(
    dtype: str, here: list[tuple[int, int]], there: list[tuple[int, int]], on: list[str], how: str, nulls: bool
) -> None:
    left, right = side(dtype, here, "x"), side(dtype, there, "y")
    step = {"join": {"with": "r", "on": on, "how": how, "nulls_equal": nulls}}
    by_table, in_order = (lowered(step, left, large=large, r=right) for large in (False, True))
    assert in_order.collect_schema() == by_table.collect_schema()
    assert bag(in_order) == bag(by_table)


@given(
    st.sampled_from(sorted(KEYS)),
    CELLS,
    st.sampled_from([["k"], ["k", "j"]]),
    st.sampled_from(["any", "none", "first", "last"]),
    st.sampled_from([["x"], ["x DESC"], ["j NULLS FIRST", "x DESC"]]),
)
def test_distinct_rows_in_order_are_those_of_tables(
    dtype: str, cells: list[tuple[int, int]], columns: list[str], keep: str, order: list[str]
) -> None:
    rows = side(dtype, cells, "x")
    ordered = {"order_by": order} if keep in ("first", "last") else {}
    step = {"distinct": {"columns": columns, "keep": keep, **ordered}}
    by_table, in_order = (lowered(step, rows, large=large) for large in (False, True))
    names = columns if keep == "any" else None
    assert bag(in_order, names) == bag(by_table, names)
    if keep == "any":  # each is one of the rows
        assert not bag(in_order) - bag(rows)


def test_equal_rows_of_an_order_stay_in_theirs() -> None:
    rows = halves(pl.DataFrame({"k": [1] * 20, "t": [0] * 20, "x": range(20)}))
    for keep, x in (("first", 0), ("last", 19)):
        step = {"distinct": {"columns": "k", "keep": keep, "order_by": "t"}}
        assert [lowered(step, rows, large=large).collect()["x"].to_list() for large in (False, True)] == [[x], [x]]


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
def test_large_sides_are_joined_as_they_come(how: str) -> None:
    rows = side("int64", [(n, n) for n in range(20)], "x")
    step = {"join": {"with": "r", "on": ["k", "j"], "how": how}}
    assert "merge-join" in explain(lowered(step, rows, large=True, r=rows), "physical")
    assert "equi-join" in explain(lowered(step, rows, large=False, r=rows), "physical")


@pytest.mark.parametrize("keep", ["any", "none", "first", "last"])
def test_large_rows_are_told_apart_as_they_come(keep: str) -> None:
    rows = side("text", [(n, n) for n in range(20)], "x")
    ordered = {"order_by": "x"} if keep in ("first", "last") else {}
    plan = explain(
        lowered({"distinct": {"columns": ["k", "j"], "keep": keep, **ordered}}, rows, large=True), "physical"
    )
    assert "sorted-unique" in plan or "sorted-group-by" in plan
    assert "in-memory engine" not in plan


PIPELINE = {
    "version": 1,
    "name": "large",
    "sources": {"a": {"uri": "a/*.parquet"}, "b": {"uri": "b/*.parquet"}},
    "stages": {
        "joined": {"from": "a", "do": [{"join": {"with": "b", "on": "k", "how": "left"}}]},
        "one": {"from": "joined", "do": [{"distinct": {"columns": "k", "keep": "last", "order_by": "x"}}]},
    },
    "outputs": {"joined": {"to": "out/joined"}, "one": {"to": "out/one"}},
}


def deliver(folder: Path, number: int) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir(exist_ok=True)
        rows = pl.DataFrame(
            {"k": [n * 7 % 30 for n in range(number, number + 40)], {"a": "x", "b": "y"}[name]: range(40)}
        )
        rows.write_parquet(folder / name / f"{number}.parquet")


@pytest.mark.parametrize("budget", ["0", "4000"])
def test_runs_without_memory_publish_what_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    """A small budget changes how rows are found, and nothing that is published or recorded."""
    monkeypatch.setenv("POLARS_OOC_MEMORY_BUDGET_MB", budget)
    plan = lp.Pipeline.from_yaml(json.dumps(PIPELINE), base=str(tmp_path))
    for number in range(2):
        deliver(tmp_path, number)
        assert plan.compile().run().status == "done"
    a, b = (pl.read_parquet(tmp_path / n / "*.parquet") for n in "ab")
    joined = a.join(b, on="k", how="left")
    assert bag(lp.scan(str(tmp_path / "out/joined"))) == bag(joined.lazy())
    one = lp.scan(str(tmp_path / "out/one")).collect()
    assert dict(one.select("k", "x").iter_rows()) == dict(joined.sort("x").select("k", "x").iter_rows())


def test_a_plan_that_ran_in_order_is_recorded_as_it_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(budget: str) -> list[Any]:
        folder = tmp_path / budget
        folder.mkdir()
        deliver(folder, 0)
        monkeypatch.setenv("POLARS_OOC_MEMORY_BUDGET_MB", budget)
        result = lp.Pipeline.from_yaml(json.dumps(PIPELINE), base=str(folder)).compile().run()
        found = [segment.lineage for segment in result.segments]
        return [of and (of.name, of.columns, of.dataset, of.inputs) for of in found]

    with_room, without = said("4000"), said("0")
    assert None not in with_room
    assert without == with_room


def test_what_gathers_rows_is_not_large() -> None:
    found = {name: _large(operation) for name in ops.names() for operation in [ops.operation_class(name)]}
    gathers = {"aggregate", "limit", "pivot", "python", "session", "sql", "window"}
    assert {n for n, ahead in found.items() if not ahead} == gathers


def _large(operation: type[Operation]) -> bool:
    return operation.large(object.__new__(operation), frozenset({AHEAD}))


@pytest.mark.parametrize(("how", "large"), [("inner", True), ("left", True), ("semi", False), ("anti", False)])
def test_rows_of_another_side_come_too_unless_it_only_decides(how: str, large: bool) -> None:
    join = ops.operation(Step("join", freeze({"with": "r", "on": "k", "how": how})))
    assert join.large(frozenset({"r"})) is large
    assert not join.large(frozenset())


@pytest.mark.parametrize(
    ("env", "files", "megabytes"),
    [
        ({"POLARS_OOC_MEMORY_BUDGET_MB": "500"}, {}, 500),
        ({"POLARS_OVERRIDE_TOTAL_MEMORY_MB": "1000"}, {}, 800),
        ({"POLARS_OVERRIDE_TOTAL_MEMORY_MB": "1000", "POLARS_OOC_MEMORY_BUDGET_FRACTION": "0.5"}, {}, 500),
        ({"POLARS_OOC_MEMORY_BUDGET_MB": "many"}, {"memory.max": f"{10 << 20}\n"}, 8),
        ({}, {"memory/memory.limit_in_bytes": f"{10 << 20}\n"}, 8),
    ],
)
def test_the_room_is_what_polars_takes_it_to_be(
    tmp_path: Path, env: dict[str, str], files: dict[str, str], megabytes: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert Room.of(env, tmp_path).bytes == megabytes << 20


def test_without_a_limit_the_room_is_that_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    assert Room.of({}, tmp_path) == Room.of({}, tmp_path / "nowhere")
    assert 1 << 20 < Room.of({}, tmp_path).bytes < 1 << 60
