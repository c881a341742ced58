"""Rules are compiled once; only those that ask for the time of the run once more, at times that are the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.gates.rules.values import Between

ANY_TIME = {"between": {"column": "x", "min": 0, "max": 9}}
AT_A_TIME = [
    {"expression": {"condition": "t < :now", "id": "past"}},
    {"expression": {"condition": "t < date_trunc('day', :now)", "id": "past"}},
    {"freshness": {"column": "t", "within": "2d"}},
]


def plan_of(base: Path, *gate: dict[str, Any], now: datetime, stage: bool) -> lp.Plan:
    pl.DataFrame({"x": [1], "t": [datetime(2024, 1, 1, tzinfo=UTC)]}).write_parquet(base / "a.parquet")
    made = lp.pipeline("p", base=str(base), audit="off")
    if stage:
        made = made.source("a", "a.parquet").stage("b", "a", gate=[*gate])
    else:
        made = made.source("a", "a.parquet", gate=[*gate]).stage("b", "a", do=[{"limit": 5}])
    return made.output("b", "out").build().compile(now=now)


NOW, THEN = datetime(2024, 1, 2, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("stage", [False, True])
def test_a_rule_that_does_not_ask_for_the_time_is_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stage: bool
) -> None:
    real, times = Between.checks, list[str]()

    def counted(self: Between, schema: pl.Schema, scope: Any) -> Sequence[Any]:
        times.append(self.column)
        return real(self, schema, scope)

    monkeypatch.setattr(Between, "checks", counted)
    name = "b" if stage else "a"
    plan = plan_of(tmp_path, ANY_TIME, now=NOW, stage=stage)
    assert (plan.looks_at_the_clock(name), plan.clock_rules(name), len(plan.fingerprints())) == (False, (), 2)
    assert times == ["x"]
    assert plan_of(tmp_path, ANY_TIME, now=THEN, stage=stage).fingerprints() == plan.fingerprints()


@pytest.mark.parametrize("stage", [False, True])
@pytest.mark.parametrize("rule", AT_A_TIME)
def test_a_rule_that_asks_for_the_time_is_known_by_itself(tmp_path: Path, rule: dict[str, Any], *, stage: bool) -> None:
    name = "b" if stage else "a"
    plan = plan_of(tmp_path, ANY_TIME, rule, now=NOW, stage=stage)
    later = plan_of(tmp_path, ANY_TIME, rule, now=THEN, stage=stage)
    other = plan_of(tmp_path, rule, now=NOW, stage=stage)
    assert [c.place[-1] for c in plan.clock_rules(name)] == [*rule]
    assert plan.fingerprints()[name].gate == later.fingerprints()[name].gate != other.fingerprints()[name].gate
