"""What plans ask of a dataset, from pipelines that read it and from declared queries."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.plan.uses import declared
from lazypipe.storage.optimizer.workload import Query, Workload

SCHEMA = {"day": pl.Date(), "id": pl.Int64(), "sum": pl.Float64(), "odd name": pl.String()}
COLUMNS = {"day": "Date", "id": "Int64", "sum": "Float64", "odd name": "String"}


def asked(sql: str) -> Query:
    workload, wrong = declared({"queries": [sql]}, "sales", SCHEMA)
    assert not wrong
    return workload.queries[0]


@pytest.mark.parametrize(
    ("where", "filters"),
    [
        ("id = 3", {"id": "equal"}),
        ("3 = id", {"id": "equal"}),
        ("id IN (1, 2)", {"id": "equal"}),
        ("id > 3", {"id": "range"}),
        ("3 <= id", {"id": "range"}),
        ("day BETWEEN '2026-01-01' AND '2026-02-01'", {"day": "range"}),
        ("id <> 3", {"id": "other"}),
        ("3 <> id", {"id": "other"}),
        ("NOT id > 3", {"id": "range"}),
        ("\"odd name\" LIKE '%x%'", {"odd name": "other"}),
        ("\"odd name\" = 'a'", {"odd name": "equal"}),
        ("day = '2026-01-01' AND sum > 0", {"day": "equal", "sum": "range"}),
        ("day >= '2026-01-01' AND day = '2026-03-01'", {"day": "equal"}),
    ],
)
def test_how_filters_compare(where: str, filters: dict[str, str]) -> None:
    assert dict(asked(f"SELECT id FROM sales WHERE {where}").filters) == filters


def test_what_a_query_does_with_columns() -> None:
    query = asked("SELECT day, count(*) AS n, sum(sum) AS s FROM self GROUP BY day ORDER BY day")
    assert (query.groups, query.sorts, query.joins, set(query.columns)) == (("day",), ("day",), (), {"day", "sum"})
    joined = asked("SELECT a.sum FROM sales AS a JOIN self AS b ON a.id = b.id")
    assert (joined.joins, set(joined.columns)) == (("id",), {"id", "sum"})
    assert asked("SELECT count(*) AS n FROM self").columns == ()


def test_queries_have_weights_and_a_wrong_one_is_told_with_its_number() -> None:
    said = {
        "access": "append heavy",
        "queries": [
            {"sql": "SELECT id FROM self WHERE id = 1", "weight": 3, "selectivity": 0.1},
            "SELECT * FROM nowhere",
        ],
    }
    workload, wrong = declared(said, "sales", SCHEMA)
    assert (workload.access, workload.queries[0].weight, workload.queries[0].selectivity) == ("append heavy", 3, 0.1)
    assert [(n, e.what) for n, e in wrong] == [(1, "unknown table 'nowhere'")]


def pipe(name: str, source: str, to: str, do: list[dict[str, Any]], **more: Any) -> lp.Plan:
    built = lp.pipeline(name).source("sales", source, format="parquet", contract={"columns": COLUMNS})
    return built.stage("made", "sales", do=do).output("made", to, **more).build().compile()


def test_what_pipelines_do_with_a_dataset_that_another_writes() -> None:
    writer = pipe(
        "writer",
        "/raw/a.parquet",
        "/out/sales",
        [{"filter": "sum > 0"}],
        workload={"queries": ["SELECT id FROM made WHERE id = 7"]},
    )
    reader = pipe("reader", "/out/sales/*.parquet", "/out/days", [
        {"filter": "day >= DATE '2026-01-01'"}, {"derive": {"key": "id"}}, {"filter": "key = 5"},
        {"aggregate": {"by": ["day"], "aggregate": {"sum": "sum(sum)"}}}, {"sort": "day"},
    ])  # fmt: skip
    other = pipe("other", "/out/salesman/*.parquet", "/out/x", [{"filter": "id > 0"}])
    workload = writer.workload("made", [reader, other])
    declared_one, read = workload.queries
    assert (declared_one.name, dict(declared_one.filters)) == ("SELECT id FROM made WHERE id = 7", {"id": "equal"})
    assert read.name == "reader/made"
    assert dict(read.filters) == {"day": "range", "id": "equal"}  # by another name there
    assert (read.groups, read.sorts) == (("day",), ("day",))
    assert set(read.columns) == {"day", "id", "sum"}
    assert workload.weights("filters") == {"id": 1.0, "day": 0.5}
    with pytest.raises(lp.LazypipeError, match="unknown output 'mad'; did you mean 'made'"):
        writer.workload("mad")


def test_what_the_same_pipeline_does_further_down() -> None:
    plan = (
        lp.pipeline("p")
        .source("sales", "/raw/a.parquet", format="parquet", contract={"columns": COLUMNS})
        .stage("kept", "sales", do=[{"filter": "sum > 0"}])
        .stage("one", "kept", do=[{"filter": "id = 1"}])
        .stage("two", "one", do=[{"filter": "day < DATE '2026-01-01'"}])
        .output("kept", "/out/kept")
        .output("again", "/out/again", from_="kept")
        .output("two", "/out/two")
        .build()
        .compile()
    )
    (query,) = plan.workload("kept").queries
    assert (query.name, dict(query.filters)) == ("p/two", {"id": "equal", "day": "range"})


def test_wrong_queries_are_told_with_their_place() -> None:
    text = (
        "version: 1\nname: p\nsources:\n  a: {uri: /a.parquet, format: parquet, contract: {columns: {x: Int64}}}\n"
        "outputs:\n  a:\n    to: out\n    workload:\n      access: scan\n      queries:\n        - SELECT x FROM self\n        - sql: SELECT y FROM self\n"
    )
    with pytest.raises(lp.DefinitionError) as caught:
        lp.Pipeline.from_yaml(text).compile()
    (problem,) = caught.value.problems
    assert (problem.what, problem.where and problem.where.line) == ("unknown column 'y'", 12)


def test_access_follows_from_the_queries() -> None:
    lookup, month, every = (
        Query(filters={"id": "equal"}),
        Query(filters={"day": "range"}),
        Query(filters={"x": "other"}),
    )
    assert [q.access for q in (lookup, month, every)] == ["point lookup", "time range", "scan"]
    assert Workload((lookup, month, month)).access == "time range"
    assert Workload((lookup, month), "append heavy").access == "append heavy"
    assert (Workload().access, bool(Workload()), bool(Workload(declared="scan")), bool(Workload((every,)))) == (
        "scan",
        False,
        True,
        True,
    )


def test_a_workload_in_terms_of_other_columns() -> None:
    query = Query("q", {"a": "equal", "b": "range"}, ("a",), ("b",), ("c",), ("a", "b", "c"), "a = 1", 0.5, 2.0)
    made = Workload((query,)).renamed({"a": "x", "b": "b"})
    assert made.queries == (Query("q", {"x": "equal", "b": "range"}, ("x",), ("b",), (), ("x", "b"), None, 0.5, 2.0),)
    assert Workload((query,)).renamed({"a": "a", "b": "b", "c": "c"}).queries == (query,)
    assert Workload((query,), "scan").to_dict() == {"queries": [{
        "name": "q", "filters": {"a": "equal", "b": "range"}, "joins": ["a"], "groups": ["b"], "sorts": ["c"],
        "columns": ["a", "b", "c"], "where": "a = 1", "selectivity": 0.5, "weight": 2.0,
    }], "access": "scan"}  # fmt: skip
    assert Workload((Query(),)).to_dict() == {"queries": [{}]}
