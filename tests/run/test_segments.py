"""How a graph is cut, and that each part of it is computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.compile.sources.source import BoundSource
from lazypipe.run.result import RunResult

NOW = datetime(2024, 1, 1, tzinfo=UTC)
QUARANTINE = [{"not_null": {"columns": "v", "action": "quarantine"}}]
DROP_REPEATS = [{"unique": {"columns": "id", "action": "drop"}}]


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": range(10), "v": [*range(9), None]})
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.csv")


def compiled(base: Path, sources: Mapping[str, Any], stages: Mapping[str, Any], outputs: Mapping[str, Any]) -> lp.Plan:
    definition = {
        "version": 1,
        "name": "p",
        "sources": {n: {"uri": "a.parquet"} | s for n, s in sources.items()},
        "stages": dict(stages),
        "outputs": {n: {"to": f"out/{n}"} | o for n, o in outputs.items()},
    }
    return lp.Pipeline.from_dict(definition, base=str(base)).compile()


def cuts(plan: lp.Plan) -> list[tuple[str, str | None, tuple[str, ...], tuple[str, ...]]]:
    """Name, output, nodes computed, nodes read back."""
    return [(s.name, s.output, s.nodes, s.reads) for s in plan.segments]


def run(plan: lp.Plan) -> RunResult:
    result = plan.run(run="r1", now=NOW)
    result.raise_for_status()
    return result


def ids(base: Path, output: str) -> list[int]:
    return sorted(lp.scan(str(base / "out" / output)).collect()["id"])


def test_one_output_is_one_query(tmp_path: Path) -> None:
    plan = compiled(
        tmp_path, {"a": {"gate": QUARANTINE}}, {"b": {"from": "a"}, "c": {"from": "b", "gate": QUARANTINE}}, {"c": {}}
    )
    assert cuts(plan) == [("c", "c", ("a", "b", "c"), ())]
    run(plan)
    assert ids(tmp_path, "c") == list(range(9))


def test_what_no_output_needs_is_not_run(tmp_path: Path) -> None:
    plan = compiled(
        tmp_path, {"a": {}, "unused": {"uri": "a.csv"}}, {"b": {"from": "a"}, "idle": {"from": "unused"}}, {"b": {}}
    )
    assert cuts(plan) == [("b", "b", ("a", "b"), ())]


def test_a_source_is_an_output_itself(tmp_path: Path) -> None:
    plan = compiled(tmp_path, {"a": {"gate": QUARANTINE}}, {}, {"a": {}})
    assert cuts(plan) == [("a", "a", ("a",), ())]
    assert run(plan).gates["a"].good == 9
    assert ids(tmp_path, "a") == list(range(9))


@pytest.mark.parametrize(
    ("source", "shared"),
    [
        ({}, False),  # reading Parquet twice is cheaper than keeping it
        ({"uri": "a.csv"}, True),
        ({"gate": QUARANTINE}, True),
        ({"gate": [{"unique": "id"}]}, True),
    ],
)
def test_a_source_with_two_readers(tmp_path: Path, source: dict[str, Any], shared: bool) -> None:
    stages = {"b": {"from": "a", "do": [{"filter": "v > 2"}]}, "c": {"from": "a", "do": [{"filter": "v < 2"}]}}
    plan = compiled(tmp_path, {"a": source}, stages, {"b": {}, "c": {}})
    if shared:
        assert cuts(plan) == [("a", None, ("a",), ()), ("b", "b", ("b",), ("a",)), ("c", "c", ("c",), ("a",))]
    else:
        assert cuts(plan) == [("b", "b", ("a", "b"), ()), ("c", "c", ("a", "c"), ())]
    run(plan)
    assert (ids(tmp_path, "b"), ids(tmp_path, "c")) == ([3, 4, 5, 6, 7, 8], [0, 1])


def test_a_shared_stage_is_kept(tmp_path: Path) -> None:
    stages = {"b": {"from": "a"}, "c": {"from": "b"}, "d": {"from": "b"}}
    plan = compiled(tmp_path, {"a": {}}, stages, {"c": {}, "d": {}})
    assert cuts(plan) == [("b", None, ("a", "b"), ()), ("c", "c", ("c",), ("b",)), ("d", "d", ("d",), ("b",))]


def test_a_self_join_and_a_diamond_read_what_was_kept(tmp_path: Path) -> None:
    self_join = compiled(
        tmp_path,
        {"a": {"gate": QUARANTINE}},
        {"b": {"from": "a", "do": [{"join": {"with": "a", "on": "id"}}]}},
        {"b": {}},
    )
    assert cuts(self_join) == [("a", None, ("a",), ()), ("b", "b", ("b",), ("a",))]
    report = run(self_join).gates["a"]
    assert (report.rows, report.good, report.quarantined) == (10, 9, 1)
    assert ids(tmp_path, "b") == list(range(9))
    stages = {
        "b": {"from": "a", "gate": [{"expression": {"condition": "id <> 3", "action": "drop"}}]},
        "left": {"from": "b", "do": [{"filter": "id % 2 = 0"}]},
        "right": {"from": "b", "do": [{"filter": "id % 2 = 1"}]},
        "all": {"from": ["left"], "do": [{"union": "right"}]},
    }
    diamond = compiled(tmp_path, {"a": {}}, stages, {"all": {}})
    assert cuts(diamond) == [("b", None, ("a", "b"), ()), ("all", "all", ("left", "right", "all"), ("b",))]
    result = diamond.run(run="r2", now=NOW)
    assert (result.gates["b"].rows, result.gates["b"].dropped) == (10, 1)
    assert ids(tmp_path, "all") == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_an_ungated_source_joined_with_itself_is_one_query(tmp_path: Path) -> None:
    plan = compiled(tmp_path, {"a": {}}, {"b": {"from": "a", "do": [{"join": {"with": "a", "on": "id"}}]}}, {"b": {}})
    assert cuts(plan) == [("b", "b", ("a", "b"), ())]
    run(plan)
    assert ids(tmp_path, "b") == list(range(10))


def test_two_outputs_of_one_stage(tmp_path: Path) -> None:
    outputs = {
        "one": {"from": "b"},
        "two": {"from": "b", "partition_by": "id"},
        "text": {"from": "b", "to": "out/text.csv", "format": "csv"},
    }
    plan = compiled(tmp_path, {"a": {}}, {"b": {"from": "a", "gate": QUARANTINE}}, outputs)
    assert cuts(plan) == [
        ("one", "one", ("a", "b"), ()),
        ("two", "two", ("two",), ("b",)),
        ("text", "text", ("text",), ("b",)),
    ]
    result = run(plan)
    assert [s.rows for s in result.segments] == [9, 9, 9]
    assert (
        ids(tmp_path, "one")
        == ids(tmp_path, "two")
        == sorted(pl.read_csv(tmp_path / "out/text.csv")["id"])
        == list(range(9))
    )
    assert lp.scan(str(tmp_path / "out/one__quarantine")).collect()["id"].to_list() == [9]


EXPORTS = {"one": {"to": "out/one.csv", "format": "csv"}, "two": {"to": "out/two.ndjson", "format": "ndjson"}}


@pytest.mark.parametrize("node", ["a", "b"])
def test_exports_only(tmp_path: Path, node: str) -> None:
    stages = {"b": {"from": "a"}, "after": {"from": node, "do": [{"filter": "id < 3"}]}}
    alone = compiled(tmp_path, {"a": {}}, stages, {"one": {"from": node, **EXPORTS["one"]}})
    assert [s[:2] for s in cuts(alone)] == [("one", "one")]
    both = compiled(tmp_path, {"a": {}}, stages, {n: {"from": node, **o} for n, o in EXPORTS.items()})
    assert [s[:2] for s in cuts(both)] == [(node, None), ("one", "one"), ("two", "two")]
    run(both)
    assert (
        pl.read_csv(tmp_path / "out/one.csv")["id"].to_list()
        == pl.read_ndjson(tmp_path / "out/two.ndjson")["id"].to_list()
    )
    with_reader = compiled(tmp_path, {"a": {}}, stages, {"one": {"from": node, **EXPORTS["one"]}, "after": {}})
    assert [s[:2] for s in cuts(with_reader)] == [(node, None), ("one", "one"), ("after", "after")]
    with_reader.run(run="r2", now=NOW).raise_for_status()
    assert ids(tmp_path, "after") == [0, 1, 2]


def test_repeated_keys_are_removed_before_anybody_reads(tmp_path: Path) -> None:
    stages = {"b": {"from": "a", "gate": DROP_REPEATS}, "c": {"from": "b"}}
    assert cuts(compiled(tmp_path, {"a": {}}, stages, {"c": {}})) == [
        ("b", None, ("a", "b"), ()),
        ("c", "c", ("c",), ("b",)),
    ]
    assert cuts(compiled(tmp_path, {"a": {}}, stages, {"b": {}, "c": {}})) == [
        ("b", "b", ("a", "b"), ()),
        ("c", "c", ("c",), ("b",)),
    ]
    export = compiled(tmp_path, {"a": {}}, stages, {"b": EXPORTS["one"]})
    assert cuts(export) == [("b", "b", ("a", "b"), ())]


def test_gates_that_may_not_be_read_whole_are_known(tmp_path: Path) -> None:
    def partial(*do: dict[str, Any]) -> tuple[str, ...]:
        stages = {
            "b": {"from": "a", "gate": QUARANTINE, "do": [{"filter": "id > 0"}]},
            "c": {"from": "b", "do": list(do)},
        }
        sources = {"a": {"gate": QUARANTINE}, "other": {"gate": QUARANTINE}}
        (segment,) = compiled(tmp_path, sources, stages, {"c": {}}).segments
        return segment.partial

    def join(how: str) -> dict[str, Any]:
        return {"join": {"with": "other", "how": how, **({"on": "id"} if how != "cross" else {})}}

    assert partial({"sort": "id"}, {"distinct": {}}, {"derive": {"x": "1"}}) == ()
    assert [h for h in ("left", "right", "full") if partial(join(h))] == []
    for how in ("inner", "semi", "anti", "cross"):
        assert partial(join(how)) == ("a", "other", "b")
    for step in ({"limit": 5}, {"sql": "SELECT * FROM b"}, {"aggregate": {"aggregate": {"n": "count(*)"}}}):
        assert partial(step) == ("a", "b")
    assert partial({"aggregate": {"by": "id", "aggregate": {"n": "count(*)"}}}) == ()
    assert partial({"limit": 5}, {"asof_join": {"with": "other", "on": "id"}}) == ("a", "other", "b")


@pytest.mark.parametrize("source", [{"uri": "a.csv"}, {"gate": QUARANTINE}, {"uri": "a.csv", "gate": QUARANTINE}])
def test_text_and_gated_sources_are_scanned_once(
    tmp_path: Path, source: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: Counter[str] = Counter()
    scan = BoundSource.scan

    def counted(self: BoundSource, *args: Any, **more: Any) -> pl.LazyFrame:
        scans[self.name] += 1
        return scan(self, *args, **more)

    stages = {
        "b": {"from": "a", "do": [{"join": {"with": "a", "on": "id"}}]},
        "c": {"from": "a", "do": [{"filter": "id > 4"}]},
    }
    plan = compiled(tmp_path, {"a": source}, stages, {"b": {}, "c": {}, "a": {}})
    monkeypatch.setattr(BoundSource, "scan", counted)
    run(plan)
    assert scans == {"a": 1}


def test_a_stage_of_two_outputs_is_computed_once(tmp_path: Path) -> None:
    rows: list[int] = []

    def seen(batch: pl.DataFrame) -> pl.DataFrame:
        rows.append(batch.height)
        return batch

    def watched(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.map_batches(seen, streamable=True)

    pipe = (
        lp.pipeline("p", base=str(tmp_path))
        .source("a", "a.parquet")
        .stage("b", "a", do=[{"python": watched}], gate=[*QUARANTINE, {"unique": {"columns": "id", "action": "drop"}}])
        .stage("c", "b", do=[{"join": {"with": "b", "on": "id"}}])
        .output("b", "out/b")
        .output("b2", str(tmp_path / "out/b2.csv"), from_="b", format="csv")
        .output("c", "out/c")
        .build()
    )
    plan = pipe.compile()
    assert rows == []
    run(plan)
    assert sum(rows) == 10
    assert ids(tmp_path, "c") == list(range(9))


def test_all_segments_see_the_source_as_the_run_found_it(tmp_path: Path) -> None:
    stages = {"b": {"from": "a", "do": [{"filter": "true"}]}, "c": {"from": "a"}}
    plan = compiled(tmp_path, {"a": {"uri": "a*.parquet"}}, stages, {"b": {}, "c": {}})

    def deliver(segment: str, number: int, count: int, rows: int) -> None:
        if number == 2:
            pl.DataFrame({"id": [99], "v": [1]}).write_parquet(tmp_path / "a2.parquet")

    plan.run(run="r1", now=NOW, observer=deliver).raise_for_status()
    assert ids(tmp_path, "b") == ids(tmp_path, "c") == list(range(10))
    plan.run(run="r2", now=NOW).raise_for_status()
    assert ids(tmp_path, "b") == ids(tmp_path, "c") == [*range(10), 99]


def test_an_export_has_the_columns_in_the_order_of_its_definition(tmp_path: Path) -> None:
    """Also where it is made of a dataset that was written with the same columns in another order, and is left as it is."""
    stages = {"b": {"from": "a", "do": [{"select": ["id", "v"]}]}, "c": {"from": "b"}}
    outputs = {"b": {}, "c": {"to": "out/c.csv"}}
    run(compiled(tmp_path, {"a": {}}, stages, outputs))
    stages["b"]["do"] = [{"select": ["v", "id"]}]
    plan = compiled(tmp_path, {"a": {}}, stages, outputs)
    result = plan.run(now=NOW)
    assert {s.name: s.status for s in result.segments} == {"b": "unchanged", "c": "done"}
    assert plan.schema("c").names() == ["v", "id"]
    assert (tmp_path / "out/c.csv").read_text().splitlines()[:2] == ["v,id", "0,0"]
