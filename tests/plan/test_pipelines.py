"""Lineage of whole pipelines: every column has its edges, questions have answers, and nothing need exist."""

from __future__ import annotations

import doctest
import json
import pickle
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

import lazypipe as lp
from lazypipe import gates, ops
from lazypipe.plan.lineage import Column, Edge
from lazypipe.plan.places import Reach

SCHEMAS = [
    json.loads(p.read_text()) for p in sorted((Path(__file__).parents[1] / "gates/data/openlineage").glob("*.json"))
]
REGISTRY: Registry[Any] = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in SCHEMAS)

SHOP = """
version: 1
name: shop
sources:
  orders:
    uri: orders-*.parquet
    contract: {columns: {id: Int64, customer: String, mail: String, amount: Float64, day: Date, note: String, spare: Int64}}
    columns: {mail: {tags: [pii, contact]}, customer: {tags: [pii]}, amount: {tags: [money]}}
    gate:
      - not_null: {columns: id, action: quarantine}
      - between: {column: amount, min: 0, action: repair, repair: {clip: true}}
  customers:
    uri: customers.csv
    contract: {columns: {name: String, segment: String, phone: String}}
    columns: {phone: {tags: [pii]}}
stages:
  enriched:
    from: orders
    do:
      - filter: day > DATE '2024-01-01'
      - derive: {net: amount / 1.19, who: "upper(customer)", big: "CASE WHEN amount > 100 THEN note ELSE 'small' END"}
      - join: {with: customers, left_on: customer, right_on: name, how: left, columns: [segment]}
      - drop: [note]
    gate:
      - between: {column: net, max: 1000, action: drop, id: not_too_much}
      - foreign_key: {column: customer, references: {to: customers, column: name}, action: quarantine}
      - expression: {condition: "length(mail) > 3", id: mail_is_long, action: warn}
  daily:
    from: enriched
    do:
      - aggregate: {by: [day, segment], aggregate: {orders: count(*), revenue: sum(net), mails: count(mail)}}
    gate: [{row_count: {min: 1, id: some_days}}, {unique: [day, segment]}]
outputs:
  enriched: {to: out/enriched}
  report: {from: daily, to: out/daily}
"""


@pytest.fixture
def plan() -> lp.Plan:
    return lp.Pipeline.from_yaml(SHOP, base="/lake").compile()


def edges(plan: lp.Plan, target: str) -> set[str]:
    return {str(e) for e in plan.lineage().edges if str(e.target) == target}


def test_each_column_says_what_it_is_made_of(plan: lp.Plan) -> None:
    assert edges(plan, "enriched.net") == {"orders.amount → enriched.net: TRANSFORMATION orders.amount / 1.19"}
    assert edges(plan, "enriched.who") == {"orders.customer → enriched.who: TRANSFORMATION UPPER(orders.customer)"}
    case = "CASE WHEN orders.amount > 100.0 THEN orders.note ELSE 'small' END"
    assert edges(plan, "enriched.big") == {
        f"orders.note → enriched.big: TRANSFORMATION {case}",
        "orders.amount → enriched.big: CONDITIONAL orders.amount > 100.0",
    }
    assert edges(plan, "enriched.segment") == {"customers.segment → enriched.segment: IDENTITY customers.segment"}
    revenue = "SUM(net)"
    assert f"enriched.net → daily.revenue: AGGREGATION {revenue}" in edges(plan, "daily.revenue")
    assert edges(plan, "daily.orders") == set()
    assert edges(plan, "report.mails") == {"daily.mails → report.mails: IDENTITY mails"}


def test_what_decides_over_rows_stands_once(plan: lp.Plan) -> None:
    found = {(str(e.source), e.subtype) for e in plan.lineage().edges if str(e.target) == "enriched.*"}
    assert found == {
        ("orders.day", "FILTER"), ("orders.amount", "FILTER"), ("orders.customer", "JOIN"), ("customers.name", "JOIN"),
        ("orders.customer", "FILTER"), ("customers.name", "GROUP_BY"),
    }  # fmt: skip
    assert {str(e) for e in plan.lineage().edges if str(e.target) == "daily.*"} == {
        "enriched.day → daily.*: GROUP_BY day, segment",
        "enriched.segment → daily.*: GROUP_BY day, segment",
    }


def test_a_gate_on_a_source_decides_over_its_own_rows_and_repairs_its_columns(plan: lp.Plan) -> None:
    assert {(str(e.source), e.subtype) for e in plan.lineage().edges if str(e.target) == "orders.*"} == {
        ("orders.id", "FILTER")
    }
    assert {(str(e.source), e.subtype) for e in plan.lineage().edges if str(e.target) == "orders.amount"} == {
        ("orders.amount", "TRANSFORMATION"), ("orders.amount", "CONDITIONAL")
    }  # fmt: skip


def test_quarantine_keeps_rows_as_they_were_and_says_why(plan: lp.Plan) -> None:
    place = next(p for p in plan.lineage().places if p.name == "enriched__quarantine")
    assert place.uris == ("/lake/out/enriched__quarantine",)
    assert set(place.columns) == {*plan.schema("enriched"), "_lazypipe_rules", "_lazypipe_run", "_lazypipe_file"}
    assert {(str(e.source), e.subtype) for e in place.lineage.edges if e.target.name == "_lazypipe_rules"} == {
        ("orders.customer", "CONDITIONAL"), ("customers.name", "GROUP_BY"), ("orders.amount", "CONDITIONAL")
    } - {("customers.name", "GROUP_BY")}  # fmt: skip
    amounts = {e.subtype for e in plan.lineage().edges if str(e.target) == "orders__quarantine.amount"}
    assert amounts == {"IDENTITY"}


def test_upstream_reaches_through_rows(plan: lp.Plan) -> None:
    reach = plan.lineage().upstream("report.orders")
    assert list(reach)[:1] == ["daily.orders"]
    assert {"enriched.day", "enriched.segment", "orders.day", "orders.id", "customers.name"} <= set(reach)
    assert "orders.spare" not in reach
    assert "customers.phone" not in reach
    assert {str(c) for c in reach.direct} == {"daily.orders", "report.orders"}
    assert reach.places[0] == "daily"


def test_what_holds_values_is_told_apart_from_what_is_decided_over(plan: lp.Plan) -> None:
    amount = plan.lineage().downstream("orders.amount")
    told = str(amount).splitlines()
    apart = told.index("  INDIRECT, by which values or rows there are:")
    assert told[:2] == ["orders.amount", "  DIRECT, by values:"]
    holding = {line.partition(" → ")[2].partition(":")[0] for line in told[2:apart]}
    assert holding | {"orders.amount"} == {str(c) for c in amount.direct}
    assert len(told) == len(amount.edges) + 3
    edges = amount.to_dict()["edges"]
    assert [e["direct"] for e in edges].count(True) == apart - 2
    assert {".".join(e["target"]) for e in edges if e["direct"]} == holding
    # what is made of others on the way is not made of it
    others = [e for e in edges if e["type"] == "DIRECT" and not e["direct"]]
    assert others
    assert all(".".join(e["target"]) not in holding or ".".join(e["source"]) not in holding for e in others)


def test_downstream_of_values_and_of_rows(plan: lp.Plan) -> None:
    lineage = plan.lineage()
    assert set(lineage.downstream("orders.spare")) == {
        "enriched.spare",
        "orders__quarantine.spare",
        "enriched__quarantine.spare",
    }
    everything = {f"report.{c}" for c in plan.schema("daily")}
    assert everything <= set(lineage.downstream("orders.day"))
    assert everything <= set(lineage.downstream("orders.id"))
    assert {"report.mails", "daily.mails"} <= set(lineage.downstream("orders.mail"))
    assert "report.revenue" not in lineage.downstream("orders.mail")


def test_impact_of_a_column(plan: lp.Plan) -> None:
    found = plan.lineage().impact("orders.mail")
    assert found.stages == ("enriched", "daily")
    assert set(found.outputs) == {"enriched", "report", "orders__quarantine", "enriched__quarantine"}
    assert found.rules == ("enriched.mail_is_long",)


def test_impact_of_a_stage_is_everything_below(plan: lp.Plan) -> None:
    found = plan.lineage().impact("enriched")
    assert (found.stages, set(found.outputs)) == (("enriched", "daily"), {"enriched", "report"})
    assert "daily.some_days" in found.rules
    assert "enriched.not_too_much" in found.rules
    assert plan.lineage().impact("daily").stages == ("daily",)


@pytest.mark.parametrize(
    ("rule", "stages", "outputs"),
    [
        ("mail_is_long", (), ()),
        ("not_too_much", ("enriched", "daily"), ("enriched", "report")),
        ("daily.some_days", ("daily",), ("report",)),
        ("foreign_key:customer", ("enriched", "daily"), ("enriched", "report", "enriched__quarantine")),
        ("between:amount", ("enriched", "daily"), ("enriched", "report", "orders__quarantine", "enriched__quarantine")),
    ],
)
def test_impact_of_a_rule_is_what_its_action_does(plan: lp.Plan, rule: str, stages: Any, outputs: Any) -> None:
    found = plan.lineage().impact(rule)
    assert (found.stages, found.outputs) == (stages, outputs)


def test_a_rule_knows_what_it_reads(plan: lp.Plan) -> None:
    lineage = plan.lineage()
    assert "orders.mail" in lineage.upstream("mail_is_long")
    assert "enriched.mail" in lineage.upstream("mail_is_long")
    rules = {r.id: [str(c) for c in r.reads] for p in lineage.places for r in p.rules}
    assert rules["foreign_key:customer"] == ["customers.name", "enriched.customer"]
    assert rules["unique:day,segment"] == ["daily.day", "daily.segment"]
    assert set(lineage.downstream("not_too_much")) >= {"report.orders", "enriched.id"}
    assert list(lineage.downstream("mail_is_long")) == []


def test_the_path_of_values_comes_first(plan: lp.Plan) -> None:
    lineage = plan.lineage()
    assert [e.subtype for e in lineage.path("orders.amount", "report.revenue")] == [
        "TRANSFORMATION",
        "AGGREGATION",
        "IDENTITY",
    ]
    by_rows = lineage.path("orders.id", "report.orders")
    assert [str(e.target) for e in by_rows] == ["orders.*", "enriched.*", "daily.*", "report.orders"]
    assert by_rows[1].text == "rows of orders"
    assert lineage.path("report.orders", "orders.id") == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("daily.revenu", "unknown column or rule 'daily.revenu'; did you mean 'daily.revenue'?"),
        ("dayly", "unknown column, stage or rule 'dayly'; did you mean 'daily'?"),
        ("not_too_mch", "unknown column, stage or rule 'not_too_mch'; did you mean 'not_too_much'?"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(plan: lp.Plan, name: str, message: str) -> None:
    for ask in (plan.lineage().upstream, plan.lineage().downstream, plan.lineage().impact):
        with pytest.raises(lp.LazypipeError) as caught:
            ask(name)
        assert str(caught.value) == message
    with pytest.raises(lp.LazypipeError, match="unknown column, stage or rule 'nowhere'"):
        plan.lineage().composed("nowhere")


def test_a_name_with_two_meanings_asks_for_the_whole_one() -> None:
    text = SHOP.replace("id: not_too_much", "id: twice").replace("id: some_days", "id: twice")
    lineage = lp.Pipeline.from_yaml(text, base="/lake").compile().lineage()
    with pytest.raises(lp.LazypipeError, match=r"'twice' may mean daily.twice, enriched.twice; write one of them"):
        lineage.impact("twice")
    assert lineage.impact("daily.twice").stages == ("daily",)


def test_dead_columns_are_those_that_no_output_and_no_rule_needs() -> None:
    text = SHOP.replace("outputs:\n  enriched: {to: out/enriched}\n", "outputs:\n")
    plan = lp.Pipeline.from_yaml(text, base="/lake").compile()
    assert plan.dead_columns() == {
        "orders": ("note", "spare"), "customers": ("phone",), "enriched": ("id", "amount", "spare", "who", "big")
    }  # fmt: skip
    optimized = plan.lineage(optimized=True)
    assert "orders.spare" not in {
        str(e.source) for e in optimized.edges if not e.target.dataset.endswith("__quarantine")
    }
    assert optimized.upstream("report.revenue").direct == plan.lineage().upstream("report.revenue").direct
    assert lp.Pipeline.from_yaml(SHOP, base="/lake").compile().dead_columns() == {"customers": ("phone",)}


@pytest.mark.parametrize("optimized", [False, True])
def test_what_only_the_gate_of_a_source_reads_decides_over_its_rows(optimized: bool) -> None:
    columns = {"columns": {"id": "Int64", "k": "String", "spare": "Int64"}}
    built = lp.pipeline("p").source("a", "a.csv", contract=columns)
    built = built.source(
        "b", "b.csv", contract=columns, gate=[{"between": {"column": "id", "max": 5, "action": "drop"}}]
    )
    built = built.stage("o", "a", do=[{"join": {"with": "b", "on": "k", "columns": []}}])
    lineage = built.output("o", "o").build().compile().lineage(optimized=optimized)
    assert {c for c in lineage.downstream("b.id") if c.startswith("o.")} == {"o.id", "o.k", "o.spare"}
    assert "b.id" in lineage.upstream("o.k")
    known = {p.name: p.columns for p in lineage.places}
    assert known["b"] == (("id", "k") if optimized else ("id", "k", "spare"))


def test_openlineage_facets_validate_and_end_at_sources(plan: lp.Plan) -> None:
    for output in ("enriched", "report", "orders__quarantine", "enriched__quarantine", "orders"):
        facet = plan.lineage().to_openlineage(output)
        Draft202012Validator({"$ref": facet["_schemaURL"]}, registry=REGISTRY).validate(json.loads(json.dumps(facet)))
        names = {f["name"] for field in facet["fields"].values() for f in field["inputFields"]} | {
            f["name"] for f in facet["dataset"]
        }
        assert names <= {"/lake/orders-*.parquet", "/lake/customers.csv"}
    facet = plan.lineage().to_openlineage("report")
    (field,) = [f for f in facet["fields"]["revenue"]["inputFields"] if f["transformations"][0]["type"] == "DIRECT"]
    assert (field["namespace"], field["field"]) == ("file", "amount")
    assert {"type": "INDIRECT", "subtype": "FILTER", "description": "id IS NOT NULL", "masking": False} not in facet[
        "dataset"
    ]
    assert {f["field"] for f in facet["dataset"]} >= {"day", "id", "customer", "name", "segment"}


def test_masks_are_declared() -> None:
    columns = {"columns": {"mail": "String", "name": "String"}}
    pipe = lp.pipeline("p", base="/d").source("a", "a.csv", contract=columns)
    pipe.stage(
        "b", "a", do=[{"select": {"h": pl.col("mail").hash(), "n": pl.col("name").str.to_uppercase(), "mail": "mail"}}]
    )
    plan = pipe.output("b", "out").build().compile()

    def masking(lineage: lp.Lineage) -> set[str]:
        return {e.target.name for e in lineage.edges if e.masking}

    assert masking(plan.lineage()) == {"h"}
    assert masking(plan.lineage(masks=frozenset({"str.uppercase"}))) == {"n"}


def test_tags_travel_with_values_only(plan: lp.Plan) -> None:
    assert plan.tags("orders") == {"mail": ("pii", "contact"), "customer": ("pii",), "amount": ("money",)}
    assert plan.tags("enriched") == {
        "mail": ("pii", "contact"), "customer": ("pii",), "amount": ("money",), "net": ("money",), "who": ("pii",)
    }  # fmt: skip
    assert plan.tags("report") == plan.tags("daily") == {"revenue": ("money",), "mails": ("pii", "contact")}
    assert plan.masked("enriched") == {"mail", "customer", "who"}
    assert plan.masked("daily") == {"mails"}
    assert plan.masked("customers") == {"phone"}


def test_tags_go_through_the_contract_of_an_output() -> None:
    contract = {
        "columns": {"address": {"type": "String", "alias": "mail"}, "n": "Int64"},
        "on_type_change": "discard_row",
        "on_new_column": "evolve",
    }
    made = (
        lp.pipeline("p", base="memory://none")
        .source(
            "a", "a.csv", contract={"columns": {"mail": "String", "n": "String"}}, columns={"mail": {"tags": ["pii"]}}
        )
        .stage("s", "a", [{"derive": {"length": "length(mail)"}}])
        .output("s", "out/s", contract=contract)
    )
    assert made.build().compile().tags("s") == {"address": ("pii",), "length": ("pii",)}


def test_exports_are_whole(plan: lp.Plan) -> None:
    lineage = plan.lineage()
    data = json.loads(lineage.to_json())
    assert [p["name"] for p in data["places"]] == [p.name for p in lineage.places]
    assert sum(len(p["edges"]) for p in data["places"]) == len(lineage.edges)
    for text in (lineage.to_dot(), lineage.to_mermaid()):
        assert all(f'"{p.name}"' in text for p in lineage.places)
    assert str(lineage).splitlines() == [str(e) for e in lineage.edges]
    reach = lineage.upstream("daily.revenue")
    assert json.loads(reach.to_json())["start"] == "daily.revenue"
    assert "AGGREGATION" in reach.to_dot()
    assert "AGGREGATION" in reach.to_mermaid()
    assert len(reach) == len(reach.columns)
    assert str(reach).startswith("daily.revenue\n  DIRECT, by values:\n    ")
    assert lineage.impact("daily").to_dict()["outputs"] == ["report"]
    assert lineage.places[0].rules[0].name == "orders.not_null:id"


def test_drawings_quote_what_their_languages_would_read() -> None:
    odd = Column('a "b"', "<x> & y\\")
    edge = Edge(odd, Column("c", "*"), "FILTER", masking=True)
    reach = Reach("c", (odd,), frozenset(), (edge,))
    assert 'label="<x> & y\\\\"' in reach.to_dot()
    assert 'label="a \\"b\\""' in reach.to_dot()
    assert '"#lt;x#gt; #amp; y\\"' in reach.to_mermaid()
    assert '"FILTER (masking)"' in reach.to_mermaid()


def _examples(owner: Any) -> list[tuple[pl.LazyFrame, list[dict[str, Any]], dict[str, Any]]]:
    """Catch the frames and rules (or steps) of a docstring's examples."""
    found: list[tuple[pl.LazyFrame, list[dict[str, Any]], dict[str, Any]]] = []

    def check(frame: Any, rules: Any, **others: Any) -> Any:
        found.append((frame.lazy(), [*rules], others))
        return lp.check(frame, rules, **others)

    def apply(step: Any, frame: Any, **others: Any) -> Any:
        found.append((frame.lazy(), [step], others))
        return frame

    names: dict[str, Any] = {"lp": types.SimpleNamespace(check=check, split=lp.split, apply=apply), "pl": pl}
    for example in doctest.DocTestParser().get_examples(owner.__doc__ or ""):
        if not example.source.startswith(("import lazypipe", "import polars")):
            with suppress(Exception):
                exec(example.source, names)
    return found


FILLED = {
    "psi": {"psi": {"column": "x"}},
    "ks": {"ks": {"column": "x", "max": 0.5}},
    "z_score": {"z_score": {"metric": "row_count"}},
}


@pytest.mark.parametrize("name", gates.names())
def test_every_rule_names_the_columns_it_reads(name: str, tmp_path: Path) -> None:
    cases = (
        _examples(gates.rule_class(name)) or [(pl.LazyFrame({"x": [1.0, 2.0]}), [FILLED[name]], {})]
        if name in FILLED
        else _examples(gates.rule_class(name))
    )
    cases = [c for c in cases if not c[2].keys() & {"params", "now"}] or cases
    assert cases
    for frame, rules, others in cases:
        frame.collect().write_parquet(tmp_path / "here.parquet")
        pipe = lp.pipeline("p", base=str(tmp_path)).source("here", "here.parquet")
        for other, rows in others.items():
            if isinstance(rows, pl.DataFrame | pl.LazyFrame):
                rows.lazy().collect().write_parquet(tmp_path / f"{other}.parquet")
                pipe.source(other, f"{other}.parquet")
        given = {k: v for k, v in others.items() if k == "now"}
        plan = pipe.stage("s", "here", gate=rules).output("s", "out").build().compile(**given)
        for optimized in (False, True):
            lineage = plan.lineage(optimized=optimized)
            found = [r for p in lineage.places for r in p.rules]
            assert len(found) == len(plan.nodes["s"].checks)
            assert {r.place for r in found} == {"s"}
            known = {(p.name, c) for p in plan.lineage().places for c in p.columns}
            assert all(tuple(c) in known or c.name == "*" for r in found for c in r.reads)
            for check in plan.nodes["s"].checks:
                reads = {c.name for r in found if r.id == check.id for c in r.reads if c.dataset == "s"}
                assert reads == check.columns & set(plan.schema("s"))


@pytest.mark.parametrize("name", sorted(set(ops.names()) - {"python", "closed"}))
def test_every_operation_has_lineage(name: str, tmp_path: Path) -> None:
    cases = _examples(ops.operation_class(name))
    assert cases
    for frame, steps, others in cases:
        frame.collect().write_parquet(tmp_path / "here.parquet")
        pipe = lp.pipeline("p", base=str(tmp_path)).source("here", "here.parquet")
        for other, rows in others.items():
            if isinstance(rows, pl.LazyFrame):
                rows.collect().write_parquet(tmp_path / f"{other}.parquet")
                pipe.source(other, f"{other}.parquet")
        if others.get("params"):
            pipe.param("least", "integer", default=1)
        plan = pipe.stage("s", "here", do=steps).output("s", "out").build().compile()
        place = next(p for p in plan.lineage().places if p.name == "s")
        assert place.columns == tuple(plan.schema("s"))
        assert place.lineage.reads
        assert not any(e.opaque for e in place.lineage.edges)
        assert plan.lineage(optimized=True).upstream("s").direct == plan.lineage().upstream("s").direct


def test_two_ways_from_one_source_meet_again() -> None:
    pipe = lp.pipeline("p", base="/d").source("a", "a.csv", contract={"columns": {"x": "Int64", "y": "Int64"}})
    pipe.stage("b", "a", do=[{"select": {"x": "y"}}]).stage("c", "a", do=[{"select": ["x"]}])
    plan = (
        pipe.stage("d", "b", do=[{"union": {"with": ["c", "a"], "missing": "fill"}}])
        .output("d", "out")
        .build()
        .compile()
    )
    assert {str(f.source) for f in plan.lineage().composed("d").columns["x"]} == {"a.x", "a.y"}
    assert plan.lineage().composed("d").inputs == ("a",)


def test_a_rule_that_counts_the_rows_of_another_frame_depends_on_them() -> None:
    contract = {"columns": {"x": "Int64"}}
    pipe = lp.pipeline("p", base="/d").source("a", "a.csv", contract=contract).source("b", "b.csv", contract=contract)
    pipe.stage("fewer", "b", do=[{"filter": "x > 1"}])
    plan = (
        pipe.stage("s", "a", gate=[{"row_count": {"same_as": "fewer", "id": "as_many"}}])
        .output("s", "out")
        .build()
        .compile()
    )
    assert plan.lineage().impact("b.x").rules == ("s.as_many",)
    assert plan.dead_columns() == {"fewer": ("x",)}


def test_a_python_operation_over_batches_is_opaque(tmp_path: Path) -> None:
    def batches(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.map_batches(lambda rows: rows)

    columns = {"columns": {"a": "Int64", "b": "Int64"}}
    pipe = lp.pipeline("p", base=str(tmp_path)).source("here", "none.csv", contract=columns)
    plan = pipe.stage("s", "here", do=[ops.operation_class("python")(call=batches)]).output("s", "o").build().compile()
    found = [e for e in plan.lineage().edges if e.target.dataset == "s"]
    assert {(e.source.name, e.target.name) for e in found} == {(a, t) for a in "ab" for t in "ab*"}
    assert all(e.opaque for e in found)


def test_the_lineage_of_flights(root: Path) -> None:
    plan = lp.load(root / "pipelines/flights.yaml").compile()
    text = "\n".join(str(e) for e in plan.lineage().edges if "__quarantine" not in str(e)) + "\n"
    golden = Path(__file__).parent / "data/flights.txt"
    assert text == golden.read_text()


def test_a_query_that_looks_values_up_is_read_as_it_runs_too(tmp_path: Path) -> None:
    """Polars makes names for such a lookup, and puts a filter on one of them into a scan."""
    pl.DataFrame({"id": [1], "k": ["a"]}).write_csv(tmp_path / "a.csv")
    pl.DataFrame({"k": ["a"]}).write_csv(tmp_path / "d.csv")
    query = "SELECT id, k FROM self WHERE k NOT IN (SELECT k FROM d WHERE k IS NOT NULL)"
    data = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "a.csv"}, "d": {"uri": "d.csv"}},
        "stages": {"s": {"from": ["a", "d"], "do": [{"sql": query}]}},
        "outputs": {"s": {"to": "out"}},
    }
    plan = lp.Pipeline.from_dict(data, base=str(tmp_path)).compile()
    for optimized in (False, True):
        lineage = plan.lineage(optimized=optimized)
        assert {str(c) for c in lineage.downstream("d.k")} == {"s.id", "s.k"}
        assert {str(c) for c in lineage.downstream("a.id")} == {"s.id"}


def test_a_frame_that_a_function_brings_along_has_the_same_name_however_plans_were_read() -> None:
    def named(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.join(pl.LazyFrame({"g": ["a"], "name": ["Alpha"]}), on="g", how="left")

    contract = {"columns": {"g": "String", "x": "Int64"}}
    pipe = lp.pipeline("p", base="/d").source("a", "a.csv", contract=contract).source("b", "b.csv", contract=contract)
    steps = [{"derive": {"z": "x + 1"}}, ops.operation_class("python")(call=named), {"join": {"with": "b", "on": "g"}}]
    made = pipe.stage("s", "a", do=steps).output("s", "out").build()
    plain, printed = made.compile(), made.compile()
    assert printed.fingerprints()
    assert {"frame.name → s.name: IDENTITY frame.name", "a.x → s.z: TRANSFORMATION a.x + 1"} <= {
        str(e) for e in plain.lineage().edges
    }
    assert plain.lineage().edges == printed.lineage().edges
    sent: lp.Plan = pickle.loads(pickle.dumps(lp.Pipeline.from_yaml(SHOP, base="/lake").compile()))
    assert sent.lineage().edges == lp.Pipeline.from_yaml(SHOP, base="/lake").compile().lineage().edges


@pytest.mark.parametrize("action", ["fail", "warn", "quarantine"])
def test_a_column_that_only_a_rule_further_down_reads_is_not_dead(action: str) -> None:
    contract = {"columns": {"id": "Int64", "x": "Int64", "spare": "Int64"}}
    pipe = lp.pipeline("p", base="/d").source("a", "a.csv", contract=contract)
    pipe.stage("m", "a", do=[{"derive": {"y": "x + 1"}}], gate=[{"positive": {"columns": "y", "action": action}}])
    plan = pipe.stage("o", "m", do=[{"select": ["id"]}]).output("o", "out").build().compile()
    assert plan.dead_columns() == {"a": ("spare",), "m": ("x", "spare")}
    optimized = plan.lineage(optimized=True)
    assert set(optimized.upstream("positive:y")) == {"m.y", "a.x"}
    assert optimized.impact("a.x").rules == ("m.positive:y",)
