"""Pipelines, plans and results go to other processes, as whoever has a pool of them expects."""

from __future__ import annotations

import pickle
from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp
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
