"""The graph: its order, its depth, and that compiling reads nothing but schemas."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.compile.graph import build
from lazypipe.spec.model import Fault, Output, Pipeline, Source, Stage, Step


def pipeline(stages: dict[str, list[str]]) -> Pipeline:
    return Pipeline(
        name="p",
        sources={"a": Source(("a.csv",), contract={"columns": {"x": "Int64"}}), "z": Source(("z.csv",))},
        stages={name: Stage(tuple(inputs)) for name, inputs in stages.items()},
    )


def order(stages: dict[str, list[str]]) -> str:
    faults: list[Fault] = []
    graph = build(pipeline(stages), faults)
    assert not faults
    return " ".join(graph.order)


def test_the_order_is_that_of_the_definition_where_it_is_free() -> None:
    assert order({"c": ["a"], "b": ["a"], "d": ["z"]}) == "a z c b d"


def test_inputs_come_first() -> None:
    assert order({"e": ["d", "b"], "d": ["c"], "c": ["a"], "b": ["a", "z"]}) == "a z c d b e"


def test_an_operation_reads_its_other_inputs() -> None:
    join = Step("join", {"with": "late", "on": "x"})
    pipe = pipeline({"first": ["a"], "late": ["z"]})
    stages = {**pipe.stages, "first": Stage(("a",), do=(join,))}
    faults: list[Fault] = []
    graph = build(Pipeline("p", pipe.sources, stages), faults)
    assert (faults, graph.order) == ([], ("a", "z", "late", "first"))
    assert graph.inputs["first"] == ("a", "late")
    assert graph.ancestors(("first",)) == {"first", "a", "late", "z"}


@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_any_graph_is_sorted_and_always_the_same(rng: random.Random, size: int) -> None:
    names = [f"s{i}" for i in range(size)]
    stages = {n: rng.sample(["a", "z", *names[:i]], k=rng.randint(1, min(3, i + 2))) for i, n in enumerate(names)}
    shuffled = dict(rng.sample(list(stages.items()), k=size))
    found = order(shuffled).split()
    assert found == order(shuffled).split()
    assert sorted(found) == sorted(["a", "z", *names])
    assert all(found.index(ref) < found.index(name) for name, refs in stages.items() for ref in refs)


def test_every_cycle_is_told_and_what_is_sound_is_still_checked() -> None:
    text = """\
version: 1
name: p
sources: {a: {uri: a.csv, contract: {columns: {x: Int64}}}}
stages:
  b: {from: c}
  c: {from: b}
  d: {from: [a, e], do: [{sql: SELECT * FROM a}]}
  e: {from: d}
  f: {from: f}
  g: {from: b, do: [{filter: nothing > 1}]}
  h: {from: a, do: [{filter: y > 1}]}
outputs: {h: {to: out}}
"""
    with pytest.raises(lp.DefinitionError) as caught:
        lp.Pipeline.from_yaml(text).compile()
    assert str(caught.value) == (
        "<yaml>:5:7: stages read each other in a circle: b → c → b; break it at one of them\n"
        "<yaml>:7:17: stages read each other in a circle: d → e → d; break it at one of them\n"
        "<yaml>:9:7: stage 'f' reads itself; name another source or stage\n"
        "<yaml>:11:22: unknown column 'y'; known columns: x"
    )


@pytest.mark.parametrize("backwards", [False, True])
def test_a_chain_of_thousands_of_stages(backwards: bool) -> None:
    names = [f"s{i}" for i in range(3_000)]
    stages = {n: [ref] for n, ref in zip(names, ["a", *names[:-1]], strict=True)}
    listed = dict(reversed(stages.items())) if backwards else stages
    assert order(listed).split() == ["a", "z", *names]


def test_a_chain_of_thousands_of_stages_compiles() -> None:
    names = [f"s{i}" for i in range(3_000)]
    stages = {n: Stage((ref,)) for n, ref in zip(names, ["a", *names[:-1]], strict=True)}
    source = Source(("a.csv",), contract={"columns": {"x": "Int64"}})
    outputs = {"s2999": Output("s2999", "out")}
    plan = lp.Pipeline("p", {"a": source}, stages, outputs).compile()
    assert plan.schema("s2999") == {"x": pl.Int64()}
    assert len(plan.segments) == 1


def test_a_cycle_of_thousands_of_stages() -> None:
    names = [f"s{i}" for i in range(3_000)]
    faults: list[Fault] = []
    build(pipeline({n: [ref] for n, ref in zip(names, [*names[1:], "s0"], strict=True)}), faults)
    assert [f.what[:60] for f in faults] == ["stages read each other in a circle: s0 → s1 → s2 → s3 → s4 →"]


TEXT = """
version: 1
name: p
params: {least: {type: integer, default: 1}}
sources:
  a: {uri: 'a/*.parquet', gate: [{not_null: x}]}
  b: {uri: b.parquet, contract: {columns: {x: Int64}, on_new_column: discard_column}}
stages:
  s:
    from: a
    do:
      - filter: x > :least
      - join: {with: b, on: x, how: left, validate: "m:1"}
      - aggregate: {by: t, aggregate: {n: count(*), m: max(x)}}
    gate:
      - between: {column: n, min: 1, action: quarantine}
      - unique: t
outputs: {s: {to: out}}
"""


def test_compiling_reads_no_data(tmp_path: Path) -> None:
    """Every byte of every data page is overwritten; only the footers are left as they were."""
    (tmp_path / "a").mkdir()
    paths = [tmp_path / "a" / "1.parquet", tmp_path / "a" / "2.parquet", tmp_path / "b.parquet"]
    for path in paths:
        pl.DataFrame({"x": range(1_000), "t": ["v"] * 1_000}).write_parquet(path, row_group_size=100)
        whole = path.read_bytes()
        data_ends = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        assert data_ends > 1_000
        path.write_bytes(b"PAR1" + b"\xff" * (data_ends - 4) + whole[data_ends:])
    plan = lp.Pipeline.from_yaml(TEXT, base=str(tmp_path)).compile()
    assert plan.schema("a") == {"x": pl.Int64(), "t": pl.String()}
    assert plan.schema("b") == {"x": pl.Int64()}
    assert plan.schema("s") == {"t": pl.String(), "n": pl.Int64(), "m": pl.Int64()}
    for name in ("a", "b", "s"):
        for kind in ("logical", "optimized", "physical"):
            assert plan.explain(name, kind)
    assert 'SELECTION: col("x") > 1' in plan.explain("s", "optimized")
    assert [segment.name for segment in plan.segments] == ["s"]
    with pytest.raises(pl.exceptions.PolarsError):
        plan.frames["s"].collect(engine="streaming")


def test_compiling_needs_no_files_where_a_contract_says_the_schema(tmp_path: Path) -> None:
    text = TEXT.replace("gate: [{not_null: x}]", "contract: {columns: {x: Int64, t: String}}")
    plan = lp.Pipeline.from_yaml(text, base=str(tmp_path)).compile(least=5)
    assert plan.schema("s") == {"t": pl.String(), "n": pl.Int64(), "m": pl.Int64()}
    assert list(tmp_path.iterdir()) == []
