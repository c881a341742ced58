"""Two outputs of one stage: what is asked of the second is answered as of the first, though it has a stage of its own in the plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lazypipe as lp

DEFINITION = """
version: 1
name: p
sources:
  a:
    uri: in/*.csv
    event_time: at
    watermark: {delay: 10m}
    contract: {columns: {at: Datetime(us), site: String, v: Int64}}
stages:
  h:
    from: a
    description: Rows by the hour
    do: [{window: {time: at, every: 1h, by: [site], late: quarantine, aggregate: {n: count(*)}}}]
    gate: [{between: {column: n, max: 2, action: quarantine}}]
  top: {from: h, do: [{filter: n > 1}]}
outputs:
  h: {to: out/h, key: [site, window_start]}
  again: {from: h, to: out/again}
  top: {to: out/top}
"""


@pytest.fixture
def plan(tmp_path: Path) -> lp.Plan:
    (tmp_path / "in").mkdir()
    first = "at,site,v\n2024-01-01T00:10:00,a,1\n2024-01-01T05:10:00,a,1\n" + "2024-01-01T06:10:00,b,1\n" * 3
    (tmp_path / "in/1.csv").write_text(first)
    (tmp_path / "in/2.csv").write_text("at,site,v\n2024-01-01T00:20:00,a,1\n")
    return lp.Pipeline.from_yaml(DEFINITION, base=str(tmp_path)).compile()


def test_what_stands_beside_a_stage_is_told_of_each_of_its_outputs(plan: lp.Plan, tmp_path: Path) -> None:
    plan.run(emit=[lp.FileTransport(str(tmp_path / "events.ndjson"))]).raise_for_status()
    assert [plan.late(name).collect().height for name in ("h", "again")] == [1, 1]
    assert [plan.scan(f"{name}__late").collect().height for name in ("h", "again")] == [1, 1]
    assert [plan.scan(f"{name}__quarantine").collect().height for name in ("h", "again")] == [1, 0]
    assert plan.replay("again").healed == 0
    event = json.loads((tmp_path / "events.ndjson").read_text().splitlines()[-1])
    facets = {Path(o["name"]).name: o["facets"] for o in event["outputs"]}
    assert facets["again"]["documentation"]["description"] == "Rows by the hour"
    assert facets["again"]["dataQualityAssertions"] == facets["h"]["dataQualityAssertions"]


def test_contracts_workloads_and_keys_are_those_of_the_stage(plan: lp.Plan) -> None:
    contract = plan.contract()
    assert contract.rules["again"] == contract.rules["h"] != ()
    assert plan.workload("again") == plan.workload("h")
    assert [q.filters for q in plan.workload("again").queries] == [{"n": "range"}]
    assert plan.key("h") == ("site", "window_start")
    assert plan.schema("again") == plan.schema("h")


@pytest.mark.parametrize(
    ("asked", "made"), [(["again"], ["h", "again"]), (["h"], ["h"]), (["top"], ["h", "top"])], ids=str
)
def test_a_preview_of_some_outputs_says_what_the_run_makes(plan: lp.Plan, asked: list[str], made: list[str]) -> None:
    some = lp.Pipeline.of(plan.pipeline).compile(outputs=asked)
    assert [step["name"] for step in some.preview()] == made
    assert [s.name for s in some.run().segments] == made
