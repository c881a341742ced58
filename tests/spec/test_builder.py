"""The Python builder makes what the same YAML would make."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.gates.rules.values import Between
from lazypipe.ops.filter import Filter
from lazypipe.ops.join import Join

TEXT = """
version: 1
name: demo
description: All there is.
state: .state
params:
  since: {type: date, default: 2013-01-01, description: first day}
  least: {type: integer}
sources:
  a:
    uri: a.csv
    contract: {columns: {day: Date, k: String, n: Int64}}
    event_time: day
    key: [day, k]
    gate: [{not_null: [day, k]}]
  b: {uri: [b1.parquet, b2.parquet], contract: {columns: {k: String, v: Float64}}, description: more}
stages:
  s:
    from: a
    do:
      - filter: day >= :since AND n > :least
      - join: {with: b, on: k, how: left}
    gate:
      - between: {column: n, min: 1, action: warn}
    description: joined
outputs:
  s: {to: out/s, partition_by: k}
  copy: {from: s, to: copy.csv, format: csv}
"""


def build(do: list[Any], gate: list[Any]) -> lp.Pipeline:
    return (
        lp.pipeline("demo", description="All there is.", state=".state")
        .param("since", "date", default=date(2013, 1, 1), description="first day")
        .param("least", "integer")
        .source(
            "a",
            "a.csv",
            contract={"columns": {"day": "Date", "k": "String", "n": "Int64"}},
            event_time="day",
            key=["day", "k"],
            gate=[{"not_null": ["day", "k"]}],
        )
        .source(
            "b", ["b1.parquet", "b2.parquet"], contract={"columns": {"k": "String", "v": "Float64"}}, description="more"
        )
        .stage("s", "a", do=do, gate=gate, description="joined")
        .output("s", "out/s", partition_by="k")
        .output("copy", "copy.csv", from_="s", format="csv")
        .build()
    )


AS_MAPPINGS = (
    [{"filter": "day >= :since AND n > :least"}, {"join": {"with": "b", "on": "k", "how": "left"}}],
    [{"between": {"column": "n", "min": 1, "action": "warn"}}],
)
AS_VALUES = (
    [Filter("day >= :since AND n > :least"), Join(with_="b", on=("k",), how="left")],
    [Between(column="n", min=1, action="warn")],
)


@pytest.mark.parametrize("steps", [AS_MAPPINGS, AS_VALUES], ids=["mappings", "values"])
def test_the_builder_equals_yaml(steps: tuple[list[Any], list[Any]]) -> None:
    written, built = lp.Pipeline.from_yaml(TEXT), build(*steps)
    plans = [p.compile(least=1) for p in (written, built)]
    assert plans[0].schema("s") == plans[1].schema("s")
    assert plans[0].explain("s") == plans[1].explain("s")
    assert built.params == written.params
    if steps is AS_MAPPINGS:
        assert (built, hash(built), built.to_yaml()) == (written, hash(written), written.to_yaml())
    assert lp.Pipeline.from_yaml(built.to_yaml()) == built


def test_expressions_may_be_polars() -> None:
    built = build([Filter(pl.col("n") > 3), {"derive": {"m": pl.col("n") * 2}}], [])
    assert built.compile(least=1).schema("s")["m"] == pl.Int64()


def test_mistakes_are_told_by_their_path() -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        build([{"fitler": "n > 1"}, {"limit": "x"}], [{"unique": {"column": "n"}}])
    assert str(caught.value) == (
        "stages.s.do[0].fitler: unknown operation 'fitler'; did you mean 'filter'?\n"
        "stages.s.do[1].limit: 'limit' must be a whole number, not 'x'; write the number of rows to keep\n"
        "stages.s.gate[0].unique.column: unknown argument 'column' of unique; did you mean 'columns'?"
    )
    with pytest.raises(lp.DefinitionError) as caught:
        build([Filter(pl.col("nn") > 3)], []).compile(least=1)
    assert str(caught.value.problems[0]) == "stages.s.do[0].filter: unknown column 'nn'; did you mean 'n'?"


def test_what_the_engine_refuses_in_a_function_is_told_in_plain_words() -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        build([{"python": lambda frame: frame.select("kk")}], []).compile(least=1)
    assert str(caught.value.problems[0]) == "stages.s.do[0].python: python: unknown column 'kk'; did you mean 'k'?"
    with pytest.raises(lp.DefinitionError) as caught:
        build([{"python": {"call": lambda frame, b: frame.select("k", "k"), "with": "b"}}], []).compile(least=1)
    assert str(caught.value) == (
        "stages.s.do[0].python.with: python: two columns would be called 'k'; rename one of them, or choose a suffix"
    )


def test_a_name_stands_once() -> None:
    with pytest.raises(lp.LazypipeError) as caught:
        lp.pipeline("p").source("a", "a.csv").source("a", "b.csv")
    assert str(caught.value) == "there is a source 'a' already; give one of them another name"


STEPS = [
    ({"limit": {"row": 1}}, "limit.row: unknown argument 'row' of limit; did you mean 'rows'?"),
    ({"join": {"on": "x"}}, "join: 'with' is missing in 'join'; add with: The other source or stage"),
    ({"filtr": "x"}, "filtr: unknown operation 'filtr'; did you mean 'filter'?"),
    ({"filter": "y > 1"}, "filter: unknown column 'y'; known columns: x"),
]


@pytest.mark.parametrize(("step", "message"), STEPS)
def test_one_operation_alone(step: dict[str, Any], message: str) -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        lp.apply(step, pl.LazyFrame({"x": [1]}))
    assert str(caught.value) == message


@pytest.mark.parametrize("none", [None, ()])
def test_a_stage_without_steps_or_rules(none: Any) -> None:
    made = lp.pipeline("p").source("a", "a.csv").stage("b", "a", do=none, gate=none).output("b", "out").build()
    assert made == lp.pipeline("p").source("a", "a.csv").stage("b", "a").output("b", "out").build()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda b: b.stage("b", "a", do=5),
            "stages.b.do: 'do' must be a list, not 5; start each operation with a dash",
        ),
        (lambda b: b.source("b", 5), "sources.b.uri: 'uri' must be text or a list, not 5; put it in quotes: \"5\""),
        (
            lambda b: b.source("b", None),
            (
                "sources.b: 'uri' is missing in source 'b'; "
                "add uri: path, URI or glob pattern, or a list of them, relative to this file"
            ),
        ),
        (
            lambda b: b.source("b", ["a.csv", 5]),
            "sources.b.uri[1]: an entry of 'uri' must be text, not 5; put it in quotes: \"5\"",
        ),
        (lambda b: b.output("b", 5, from_="a"), "outputs.b.to: 'to' must be text, not 5; put it in quotes: \"5\""),
        (
            lambda b: b.output("b", None, from_="a"),
            (
                "outputs.b: 'to' is missing in output 'b'; "
                "add to: folder of the dataset, or file of the export, relative to this file"
            ),
        ),
    ],
)
def test_arguments_of_other_types_are_told_as_in_a_file(make: Any, told: str) -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        make(lp.pipeline("p").source("a", "a.csv").output("a", "out")).build()
    assert str(caught.value) == told


def test_what_is_shown_of_a_builder_and_of_definitions() -> None:
    made = lp.pipeline("p", state={"uri": "s", "storage_options": {"key": "hunter2"}})
    made = made.source("a", "a.csv", storage_options={"key": "hunter2"}).output(
        "a", "out", storage_options={"key": "hunter2"}
    )
    assert repr(made) == "<Builder p: 1 source, 0 stages; outputs: a>"
    assert "hunter2" not in repr(made.build())


@pytest.mark.parametrize(
    "ask",
    [
        lp.history,
        lp.vacuum,
        lp.ledger,
        lp.publish_delta,
        lambda of: lp.rollback(of, "a", version=1),
        lambda of: lp.audit_report(of, "a"),
        lambda of: lp.replay(of, "a"),
        lp.stream,
    ],
)
def test_what_is_no_definition_is_refused(ask: Any) -> None:
    for given in (None, lp.pipeline("p").source("a", "a.csv").output("a", "out")):
        with pytest.raises(lp.LazypipeError) as caught:
            ask(given)
        told = f"{type(given).__name__} is not a definition; give lp.load(path), or what build() of a builder gives"
        assert str(caught.value) == told


def test_a_plan_is_vacuumed_as_its_definition_is(tmp_path: Path) -> None:
    made = lp.pipeline("p", base=tmp_path).source("a", "a.csv").output("a", "out").build()
    (tmp_path / "a.csv").write_text("x\n1\n")
    plan = made.compile()
    for _ in range(3):
        plan.run(full=True).raise_for_status()
    there = lp.vacuum(made, dry_run=True)
    assert there == lp.vacuum(plan, dry_run=True) != []
    assert lp.vacuum(plan) == there
