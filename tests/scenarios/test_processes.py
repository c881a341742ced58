"""Pipelines, plans and results go to other processes, as whoever has a pool of them expects."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe import gates
from lazypipe.plan.executed import Executed
from lazypipe.plan.reader import Capture


def test_plans_and_results_go_to_other_processes(tmp_path: Path) -> None:
    pl.DataFrame({"k": ["a", "b", "a"], "x": [3, 1, 2]}).write_csv(tmp_path / "in.csv")
    builder = lp.pipeline("p", base=tmp_path).source("s", "in.csv", contract={"columns": {"k": "String", "x": "Int64"}})
    do = [{"derive": {"y": "x + 1"}}, {"sort": "y"}, {"limit": 2}]
    pipe = builder.stage("t", "s", do=do, gate=[{"unique": "x"}]).output("t", "out").build()
    plan = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(pipe)).compile()))
    result = plan.run()
    result.raise_for_status()
    assert lp.scan(tmp_path / "out").collect()["y"].to_list() == [2, 3]
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    assert again.segments[0].lineage == result.segments[0].lineage is not None
    # what was found out of a plan does not stand in the way
    used = pickle.loads(pickle.dumps(plan))
    assert used.fingerprints() == plan.fingerprints()
    assert used.run().status == "unchanged"


def test_a_plan_that_could_not_be_read_stays_so_elsewhere() -> None:
    executed = pickle.loads(pickle.dumps(Executed("t", Capture())))
    with pytest.raises(lp.LazypipeError, match="there is no query plan to read"):
        _ = executed.lineage


RULES: dict[str, Any] = {
    "any_not_null": ["i", "t"],
    "between": {"column": "i", "min": 2},
    "cardinality": {"column": "i", "references": {"to": "a", "column": "i"}, "max": 1},
    "column_count": {"equals": 1},
    "compare": {"left": "i", "op": "<", "right": "x"},
    "completeness": {"column": "t", "min": 0.9},
    "conditional": {"when": "i > 1", "then": "x > 0"},
    "decreasing": {"column": "i", "order_by": "m"},
    "distinct_count": {"columns": "g", "max": 1},
    "exclusive": ["i", "t"],
    "expression": "i > 1",
    "finite": "x",
    "foreign_key": {"column": "i", "references": {"to": "b", "column": "k"}},
    "format": {"column": "t", "is": "email"},
    "freshness": {"column": "m", "within": "1h"},
    "in_future": "m",
    "in_past": "m",
    "in_set": {"column": "g", "values": ["p"]},
    "increasing": {"column": "x", "order_by": "m"},
    "is_type": {"column": "t", "type": "String"},
    "json": "t",
    "kl_divergence": {"column": "g", "values": ["p", "q"], "weights": [1, 9], "max": 0.1},
    "ks": {"column": "x", "max": 0.1, "by": "g"},
    "late": {"time": "m", "every": "1h", "watermark": "w"},
    "length_between": {"column": "t", "min": 9},
    "like": {"column": "t", "pattern": "a%"},
    "max": {"column": "i", "max": 2},
    "mean": {"column": "i", "max": 1, "by": "g"},
    "median": {"column": "i", "max": 1},
    "min": {"column": "i", "min": 2},
    "most_common": {"column": "g", "is": "q"},
    "multiple_of": {"column": "i", "of": 2},
    "no_gaps": {"column": "m", "every": "1h"},
    "non_negative": "x",
    "not_empty": "t",
    "not_in_set": {"column": "g", "values": ["p"]},
    "not_like": {"column": "t", "pattern": "a%"},
    "not_null": "t",
    "not_regex": {"column": "t", "pattern": "^a"},
    "null": "t",
    "outliers": {"column": "i", "z": 0.5},
    "parseable": {"column": "t", "as": "integer"},
    "positive": "x",
    "primary_key": "g",
    "proportion": {"column": "g", "value": "p", "max": 0.1},
    "psi": {"column": "x", "max": 0.001, "bins": 2, "where": "i > 0"},
    "quantile": {"column": "i", "q": 0.9, "max": 1},
    "regex": {"column": "t", "pattern": "^b"},
    "row_count": {"same_as": "b"},
    "schema": {"i": "String"},
    "std": {"column": "i", "max": 0.1},
    "sum": {"column": "i", "max": 1},
    "sum_equals": {"columns": ["i", "x"], "total": "x"},
    "unique": "g",
    "z_score": {"metric": "mean", "column": "x", "min_runs": 2},
}
"""Every rule, of which rows below violate most."""


@pytest.mark.parametrize("name", gates.names())
def test_every_rule_goes_to_other_processes(tmp_path: Path, name: str) -> None:
    def deliver(x: list[float]) -> None:
        moments = ["2024-01-01T00:00:00", "2024-01-01T05:00:00", "2024-01-01T02:00:00"]
        rows = {"i": [1, 2, 3], "x": x, "t": ["a", None, "b"], "g": ["p", "q", "p"], "m": moments, "w": moments}
        pl.DataFrame(rows).write_csv(tmp_path / "a.csv")

    pl.DataFrame({"k": [1]}).write_csv(tmp_path / "b.csv")
    written = RULES[name]
    rule = {name: {**written, "action": "warn"} if isinstance(written, dict) and name != "schema" else written}
    if name in ("schema", "late"):
        rule = {"schema": {"columns": written, "action": "warn"}} if name == "schema" else {name: written}
    columns = {"i": "Int64", "x": "Float64", "t": "String", "g": "String", "m": "Datetime", "w": "Datetime"}
    deliver([1.0, -2.0, 3.0])
    pipe = (
        lp.pipeline("p", base=tmp_path)
        .source("a", "a.csv", contract={"columns": columns})
        .source("b", "b.csv")
        .stage("s", "a", do=[{"filter": "i > 0"}], gate=[rule])
        .output("s", "out")
        .build()
    )
    plan = pickle.loads(pickle.dumps(pipe.compile()))
    found = []
    for x in ([1.0, -2.0, 3.0], [1.0, -2.0, 3.0], [50.0, 60.0, -70.0]):  # some rules compare with the past
        deliver(x)
        result = plan.run(full=True)
        assert pickle.loads(pickle.dumps(result)).to_dict() == result.to_dict()
        found.append([(c.status, c.failed, c.value) for g in result.gates.values() for c in g.checks])
    # the plan that did not go there finds the same
    deliver([1.0, -2.0, 3.0])
    here = pl.read_csv(tmp_path / "a.csv", try_parse_dates=True)
    assert found[0]
    if name not in ("ks", "psi", "z_score"):
        alone = lp.check(here, [rule], a=here, b=pl.read_csv(tmp_path / "b.csv"))
        assert [(c.status, c.failed, c.value) for c in alone.checks] == found[0]
    else:
        assert [status for ((status, _, _),) in found] == ["pass", "pass", "warn"]


FORK = """
import faulthandler, os, sys
import polars as pl
import lazypipe as lp

root, use = sys.argv[1:]
pipe = lp.pipeline("p", base=root).source("a", "in.parquet").output("a", "out").build()
frame, rule = pl.DataFrame({"a": [1, None]}), {"not_null": "a"}
plan = pipe.compile() if use == "plan" else None
if use == "polars":
    pl.scan_parquet(root + "/in.parquet").collect()
asks = {
    "compile": lambda: pipe.compile().run().status,
    "check": lambda: lp.check(frame, [rule]).failed,
    "split": lambda: lp.split(frame, [rule]).good.height,
}
if plan is not None:
    asks |= {"run": lambda: plan.run().status, "backfill": lambda: list(plan.backfill("2024..2025", chunk="1d")), "replay": lambda: plan.replay("a")}
for name, ask in asks.items():
    sys.stdout.flush()
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(60, exit=True)  # rather than hang
        try:
            print(name, ask())
        except lp.RunError as error:
            print(name, error)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""
HANGS = (
    "this process was forked from one that had used Polars, whose threads do not go along, so queries would hang; "
    "start processes by spawn, as with ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))"
)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="the system does not tell threads")
@pytest.mark.parametrize(
    ("use", "told"),
    [
        ("nothing", ["compile done", "check {'not_null:a': 1}", "split 2"]),
        ("polars", [f"{name} {HANGS}" for name in ("compile", "check", "split")]),
        ("plan", [f"{name} {HANGS}" for name in ("compile", "check", "split", "run", "backfill", "replay")]),
    ],
)
def test_a_forked_process_does_not_wait_for_threads_that_were_left_behind(
    tmp_path: Path, use: str, told: list[str]
) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "in.parquet")
    ran = subprocess.run([sys.executable, "-c", FORK, str(tmp_path), use], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == told


def test_a_process_that_was_spawned_runs(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "in.parquet")
    plan = lp.pipeline("p", base=tmp_path).source("a", "in.parquet").output("a", "out").build().compile()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(plan.run).result().status == "done"


def test_results_with_rows_are_compared_and_shown_without_them(tmp_path: Path) -> None:
    pl.DataFrame({"k": [1, 2], "x": ["Ann", None]}).write_parquet(tmp_path / "in.parquet")
    plan = lp.pipeline("p", base=tmp_path).source("a", "in.parquet").output("a", "out").build().compile()
    plan.run().raise_for_status()
    frame = plan.scan("a")
    rules = [{"not_null": {"columns": "x", "action": "quarantine"}}]
    shown = {
        "<Trace of a, k = 1: 1 of a>": plan.trace("a", {"k": 1}),
        "<RowDiff 1 deleted, 1 unchanged>": lp.diff(frame, frame.filter(pl.col("k") == 1), key="k"),
        "<Split 1 good, 1 bad of 2 rows>": lp.split(frame, rules),
    }
    for text, found in shown.items():
        again = pickle.loads(pickle.dumps(found))
        assert (repr(found), repr(again)) == (text, text)
        assert found == found  # a frame's own comparison gives frames
        assert found != again
