"""Stages of event time as they are run, with late rows, closed and whole windows: what of them streams, and what is held in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp

DEFINITION = """
version: 1
name: streams
sources:
  r: {uri: in/r.parquet, event_time: at, watermark: {delay: 1h, by: k}, on_bad_time: quarantine}
  o: {uri: in/o.parquet}
stages:
  made: {from: r, do: [STEP]}
outputs: {made: {to: out/made}}
"""


def held(root: Path, step: str) -> list[str]:
    """Return which nodes of the physical plans of all stages are not streamed."""
    (root / "in").mkdir()
    rows = pl.DataFrame({"at": [datetime(2024, 3, 1, tzinfo=UTC)], "k": ["a"], "x": [1], "f": [0.5]})
    for name in ("r", "o"):
        rows.cast({"at": pl.Datetime("us", "Europe/Berlin")}).write_parquet(root / f"in/{name}.parquet")
    plan = lp.Pipeline.from_yaml(DEFINITION.replace("STEP", step), base=str(root)).compile()
    lines = (line for name in plan.nodes for line in plan.explain(name, "physical").splitlines())
    return [line.strip().partition(":")[0] for line in lines if "[in-memory engine]" in line]


@pytest.mark.parametrize(
    "step",
    [
        "window: {time: at, every: 1h, by: k, late: quarantine, aggregate: {n: count(*)}}",
        "window: {time: at, every: [1h, 1d, all], by: k, aggregate: {n: avg(x), s: stddev(x)}}",
        "window: {time: at, every: 1d, by: k, emit: on_close, late: drop, aggregate: {n: count(distinct x)}}",
        "window: {time: at, every: 1h, by: k, emit: on_close, expect: {rows: 3, values: {k: [a]}}, aggregate: {n: count(*)}}",
        "window: {time: at, every: 1h, period: 24h, by: k, keep_results: 3d, aggregate: {n: avg(x)}}",
        "session: {time: at, gap: 1h, by: k, late: drop, emit: on_close, aggregate: {n: count(*)}}",
        "session: {time: at, gap: 1h, max_length: 4h, by: k, aggregate: {n: count(*)}}",
        "window: {time: at, every: 1h, by: k, aggregate: {m: median(x)}}",
        "window: {time: at, every: 1d, period: 3d, by: [k, x], late: quarantine, aggregate: {m: median(x), all: array_agg(x)}}",
        "window: {time: at, every: [1h, 1mo, all], by: k, emit: on_close, aggregate: {m: median(x)}}",
        "session: {time: at, gap: 1h, by: k, late: drop, aggregate: {m: 'quantile_cont(x, 0.9)'}}",
        "aggregate: {by: [k, at], aggregate: {m: \"string_agg(k, ',')\"}}",
        "interval_join: {with: o, time: at, within: [-1h, 1h], by: k, late: quarantine, how: left, columns: [x]}",
        "asof_join: {with: o, on: at, late: quarantine, tolerance: 2h, columns: [x]}",
        "asof_join: {with: o, on: at, by: [k, x], late: quarantine, tolerance: 2h, strategy: nearest}",
        "asof_join: {with: o, on: at, by: [k, f], tolerance: 2h, strategy: nearest}",
        "asof_join: {with: o, on: f, by: k, columns: [x]}",
    ],
)
def test_what_is_run_streams(tmp_path: Path, step: str) -> None:
    assert held(tmp_path, step) == []


@pytest.mark.parametrize(
    ("step", "node"),
    [
        ("pivot: {on: k, into: [a], index: at, values: x, aggregate: median}", "in-memory-map"),
        ("asof_join: {with: o, on: f, by: k, columns: [x], strategy: nearest}", "in-memory-join"),
        ("asof_join: {with: o, on: f, by: k, columns: [x], tolerance: 0.5}", "in-memory-join"),
    ],
)
def test_what_polars_holds_in_memory_is_said_by_explain(tmp_path: Path, step: str, node: str) -> None:
    assert held(tmp_path, step) == [node]
