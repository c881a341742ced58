"""Lengths of time may be parameters: as if their values stood in their places."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.compile.durations import with_durations

PARAMS: dict[str, Any] = {
    "wait": {"type": "duration", "default": "90m"},
    "short": {"type": "duration", "default": "1500us"},
    "many": {"type": "integer", "default": 3},
}
AGGREGATE = {"n": "count(*)"}


def definition(root: Path, step: dict[str, Any], **watermark: Any) -> dict[str, Any]:
    (root / "in").mkdir(exist_ok=True)
    times = pl.Series("t", [datetime(2024, 1, 1, h) for h in (3, 5, 9)], dtype=pl.Datetime("us"))
    pl.DataFrame([times]).write_parquet(root / "in/1.parquet")
    source = {"uri": "in/*.parquet", "event_time": "t", "watermark": {"delay": "1h", **watermark}}
    return {
        "version": 1,
        "name": "d",
        "params": PARAMS,
        "sources": {"a": source, "b": source},
        "stages": {"s": {"from": "a", "do": [step]}},
        "outputs": {"s": {"to": "out/s"}},
    }


STEPS = [
    {"window": {"time": "t", "every": "1h", "aggregate": AGGREGATE, "allowed_lateness": "{}", "late": "quarantine"}},
    {"window": {"time": "t", "every": "1h", "aggregate": AGGREGATE, "keep_results": "{}"}},
    {
        "window": {
            "time": "t",
            "every": "1h",
            "aggregate": AGGREGATE,
            "emit": "on_close",
            "expect": {"rows": 2},
            "on_partial": "fail",
            "deadline": "{}",
        }
    },
    {"session": {"time": "t", "gap": "{}", "max_length": "{}", "aggregate": AGGREGATE}},
    {"session": {"time": "t", "gap": "{}", "aggregate": AGGREGATE, "late": "drop", "allowed_lateness": "{}"}},
    {"asof_join": {"with": "b", "on": "t", "tolerance": "{}"}},
    {"interval_join": {"with": "b", "time": "t", "within": ["0s", "{}"], "columns": {"t": "u"}}},
]


def said(step: Any, text: str) -> Any:
    if isinstance(step, dict):
        return {k: said(v, text) for k, v in step.items()}
    if isinstance(step, list):
        return [said(v, text) for v in step]
    return step.replace("{}", text) if isinstance(step, str) else step


def rows_of(plan: lp.Plan) -> Any:
    """What an output's rows are made by, and each step of the stage."""
    return plan.fingerprints()["s"].rows, [o for o, _ in plan.nodes["s"].steps]


@pytest.mark.parametrize("step", STEPS, ids=lambda s: "-".join([next(iter(s)), *next(iter(s.values()))][-2:]))
def test_a_parameter_is_its_value(tmp_path: Path, step: Any) -> None:
    named = lp.Pipeline.from_dict(definition(tmp_path, said(step, ":wait"), idle_after=":wait"), base=str(tmp_path))
    plain = lp.Pipeline.from_dict(definition(tmp_path, said(step, "5400s"), idle_after="5400s"), base=str(tmp_path))
    other = lp.Pipeline.from_dict(definition(tmp_path, said(step, "2700s"), idle_after="2700s"), base=str(tmp_path))
    assert rows_of(named.compile()) == rows_of(plain.compile())
    half = named.compile(wait=timedelta(minutes=45))
    assert rows_of(half) == rows_of(other.compile()) != rows_of(named.compile())
    source = half.nodes["a"].source
    assert source is not None
    assert source.watermark is not None
    assert source.watermark.idle_after == 45 * 60_000_000
    # what was written is what is told and kept
    assert ":wait" in half.pipeline.to_yaml()
    assert lp.Pipeline.from_yaml(named.to_yaml(), base=str(tmp_path)) == named


def test_parts_of_seconds_are_exact(tmp_path: Path) -> None:
    step = {"session": {"time": "t", "gap": " :short ", "aggregate": AGGREGATE}}
    plan = lp.Pipeline.from_dict(definition(tmp_path, step), base=str(tmp_path)).compile()
    assert plan.nodes["s"].steps[0][0].gap == "1500us"  # type: ignore[attr-defined]


def test_rules_about_late_rows_take_them(tmp_path: Path) -> None:
    data = definition(tmp_path, {"filter": "t IS NOT NULL"})
    late = {"time": "t", "every": "1h", "allowed_lateness": ":wait", "action": "warn"}
    data["stages"]["s"]["gate"] = [{"late": late}]
    pl.DataFrame({"t": [datetime(2024, 1, 1, 6)]}).write_parquet(tmp_path / "in/2.parquet")
    pipe = lp.Pipeline.from_dict(data, base=str(tmp_path))
    found = [pipe.compile(wait=w).run(full=True).segments[0].gates[0].failed for w in ("1h", "61m")]
    assert found == [{"late:t": 1}, {}]  # its hour ended at 7, an hour ahead of the watermark of 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (":weight", "unknown parameter 'weight'; did you mean 'wait'?"),
        (":many", "gap is a duration, and parameter 'many' is of type integer; declare it with type: duration"),
        (":none", "parameter 'none' has no value; pass it (--param none=…), or give it a default"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(tmp_path: Path, text: str, message: str) -> None:
    data = definition(tmp_path, {"session": {"time": "t", "gap": text, "aggregate": AGGREGATE}})
    if text == ":none":
        data["params"] = {**PARAMS, "none": {"type": "duration"}}
    written = lp.Pipeline.from_dict(data, base=str(tmp_path)).to_yaml()
    with pytest.raises(lp.DefinitionError) as caught:
        lp.Pipeline.from_yaml(written, base=str(tmp_path)).compile()
    (problem,) = caught.value.problems
    assert str(problem).split(": ", 1)[1] == message
    line = int(str(problem).split(":")[1])
    assert (text if text != ":none" else "none") in written.splitlines()[line - 1]


def test_a_place_in_a_list_is_told(tmp_path: Path) -> None:
    step = {"interval_join": {"with": "b", "time": "t", "within": ["0s", ":many"], "columns": {"t": "u"}}}
    with pytest.raises(lp.DefinitionError, match="within is a duration, and parameter 'many' is of type integer"):
        lp.Pipeline.from_dict(definition(tmp_path, step), base=str(tmp_path)).compile()


def test_a_length_below_zero_is_refused(tmp_path: Path) -> None:
    pipe = lp.Pipeline.from_dict(definition(tmp_path, said(STEPS[0], ":wait")), base=str(tmp_path))
    with pytest.raises(lp.DefinitionError, match="-7200s is negative"):
        pipe.compile(wait="-2h")


def test_vacuum_needs_no_values(tmp_path: Path) -> None:
    data = definition(tmp_path, said(STEPS[0], ":none"))
    data["params"] = {**PARAMS, "none": {"type": "duration"}}
    pipe = lp.Pipeline.from_dict(data, base=str(tmp_path))
    for rows in ([1, 3], [9, 2]):  # late ones of another version each
        pl.DataFrame({"t": [datetime(2024, 1, 1, h) for h in rows]}).write_parquet(tmp_path / "in/2.parquet")
        pipe.compile(none="0s").run().raise_for_status()
    assert pipe.compile(none="0s").late("s").collect().height == 1
    deleted = lp.vacuum(pipe, keep=1, older_than=timedelta(0))
    assert any("quarantine/d/s__late" in uri for uri in deleted)


def test_nothing_changes_where_nothing_is_named(tmp_path: Path) -> None:
    pipe = lp.Pipeline.from_dict(definition(tmp_path, said(STEPS[1], "1h")), base=str(tmp_path))
    assert with_durations(pipe, {}, []) is pipe
