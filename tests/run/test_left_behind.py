"""A process that runs again and again, as a stream does, holds nothing of runs that are over."""

from __future__ import annotations

import gc
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.run.segment.query import Query

START = """
version: 1
name: p
sources:
  readings: {uri: "in/*.parquet", event_time: at, watermark: {delay: 1h}}
  names: {uri: names.parquet}
stages:
"""
PIPELINES = {
    "a gate ahead of sums": """
  good: {from: readings, gate: [{expression: {condition: v < 90, action: quarantine}}]}
  found: {from: good, do: [{aggregate: {by: g, aggregate: {n: count(*)}}}]}
""",
    "keys and references": """
  good: {from: readings, gate: [{unique: k}, {foreign_key: {column: g, references: {to: names, column: g}, action: quarantine}}]}
  found: {from: good, do: [{aggregate: {by: g, aggregate: {n: count(*)}}}]}
""",
    "late rows": """
  found: {from: readings, do: [{window: {time: at, every: 1h, late: quarantine, emit: on_close, aggregate: {n: count(*)}}}]}
""",
    "late rows of groups": """
  found: {from: readings, do: [{window: {time: at, every: 1h, late: quarantine, aggregate: {middle: median(v)}}}]}
""",
    "late rows of sessions": """
  found: {from: readings, do: [{session: {time: at, gap: 10m, by: g, late: quarantine, aggregate: {n: count(*)}}}]}
""",
    "what is expected": """
  found: {from: readings, do: [{window: {time: at, every: 1h, late: quarantine, emit: on_close, expect: {rows: 1}, aggregate: {n: count(*)}}}]}
""",
    "a gate and a join behind": """
  good: {from: readings, gate: [{expression: {condition: v < 90, action: quarantine}}]}
  found: {from: [good, names], do: [{join: {with: names, on: g, validate: "m:1"}}, {aggregate: {by: name, aggregate: {n: count(*)}}}]}
""",
    "a gate alone": """
  found: {from: readings, gate: [{unique: k}, {expression: {condition: v < 90, action: quarantine}}]}
""",
}


@pytest.mark.parametrize("stages", PIPELINES.values(), ids=PIPELINES)
def test_what_a_run_held_is_freed(tmp_path: Path, stages: str) -> None:
    definition = START + stages + "outputs:\n  found: {to: out/found}\n"
    (tmp_path / "in").mkdir()
    pl.DataFrame({"g": range(6), "name": list("abcdef")}).write_parquet(tmp_path / "names.parquet")
    bad = 0
    for number in range(3):
        k = pl.int_range(number * 1_000, (number + 1) * 1_000, eager=True).alias("k")
        at = datetime(2024, 1, 1) + pl.duration(minutes=pl.when(pl.col("k") % 50 == 3).then(5).otherwise("k"))
        k.to_frame().with_columns(at=at, g=pl.col("k") % 7, v=pl.col("k") % 100).write_parquet(
            tmp_path / f"in/{number}.parquet"
        )
        result = lp.Pipeline.from_yaml(definition, base=str(tmp_path)).compile().run()
        result.raise_for_status()
        bad += sum(g.quarantined for g in result.gates.values())
    del result
    gc.collect()
    gc.collect()  # what Polars held, which only the first let go of
    assert bad
    queries = [held for held in gc.get_objects() if isinstance(held, Query)]
    assert [q for q in queries if str(tmp_path) in q.plan.state.uri] == []
