"""Thresholds, and what a count means for each action; the report as a value."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe import gates
from lazypipe.errors import DefinitionError, GateError
from lazypipe.gates.report import CheckResult, GateReport
from lazypipe.gates.rule import Limit


@pytest.mark.parametrize(
    ("written", "evaluated", "allowed"),
    [
        (0, 10, 0),
        (3, 10, 3),
        ("3", 10, 3),
        (" 3 ", 10, 3),
        ("0%", 10, 0),
        ("100%", 10, 10),
        ("0.1%", 1_000, 1),
        ("0.1 %", 999, 0),
        ("0.7%", 1_000, 7),  # as floats, 0.7 / 100 * 1000 is less than 7
        ("1.1%", 1_000, 11),
        ("33.3%", 10, 3),
        ("0.1%", 0, 0),
    ],
)
def test_a_limit_is_exceeded_just_above_it(written: Any, evaluated: int, allowed: int) -> None:
    limit = Limit.parse(written)
    assert [limit.exceeded(n, evaluated) for n in (allowed - 1, allowed, allowed + 1)] == [False, False, True]


def test_limits_are_shown_as_written() -> None:
    assert [str(Limit.parse(w)) for w in (5, "0.1%", "12.5 %", "0%")] == ["5", "0.1%", "12.5%", "0%"]


def status(failed: int, rows: int = 1_000, **arguments: Any) -> str:
    frame = pl.DataFrame({"a": [None] * failed + [1] * (rows - failed)}, schema={"a": pl.Int64})
    (check,) = lp.check(frame, [{"not_null": {"columns": "a", **arguments}}]).checks
    assert (check.failed, check.evaluated) == (failed, rows)
    return check.status


@pytest.mark.parametrize("action", ["fail", "quarantine", "drop", "warn"])
@pytest.mark.parametrize("limit", [7, "0.7%"])
@pytest.mark.parametrize("name", ["max_failures", "fail_above"])
def test_status_at_a_threshold(action: str, limit: Any, name: str) -> None:
    assert [status(n, action=action, **{name: limit}) for n in (0, 6, 7, 8)] == ["pass", "warn", "warn", "fail"]


@pytest.mark.parametrize(
    ("action", "worst"), [("fail", "fail"), ("quarantine", "warn"), ("drop", "warn"), ("warn", "warn")]
)
def test_status_without_a_threshold(action: str, worst: str) -> None:
    assert [status(n, action=action) for n in (0, 1, 1_000)] == ["pass", worst, worst]


def test_warn_above_says_when_to_warn() -> None:
    assert [status(n, action="drop", warn_above=5) for n in (5, 6)] == ["pass", "warn"]
    assert [status(n, action="warn", warn_above="0.5%", fail_above="0.8%") for n in (5, 6, 8, 9)] == [
        "pass",
        "warn",
        "warn",
        "fail",
    ]
    assert [status(n, action="fail", warn_above=5) for n in (0, 1)] == ["pass", "fail"]


def test_a_percentage_is_of_the_rows_that_where_lets_through() -> None:
    frame = pl.DataFrame({"a": [None, 1, 1, 1], "w": [True, True, False, None]})
    report = lp.check(frame, [{"not_null": {"columns": "a", "where": "w", "max_failures": "40%"}}])
    (check,) = report.checks
    assert (check.evaluated, check.failed, check.fraction, check.status) == (2, 1, 0.5, "fail")
    with pytest.raises(GateError, match=r"^gate of 'frame' failed: not_null:a: 1 of 2 rows, allowed 40% \(fail\)$"):
        report.raise_for_status()


def test_no_rows_pass_every_gate() -> None:
    frame = pl.DataFrame(schema={"a": pl.Int64})
    report = lp.check(frame, [{"not_null": "a"}, {"unique": {"columns": "a", "max_failures": "0%"}}])
    assert (report.status, report.rows, [c.fraction for c in report.checks]) == ("pass", 0, [0.0, 0.0])
    report.raise_for_status()


def test_a_check_alone_counts_and_removes_nothing() -> None:
    frame = pl.LazyFrame({"a": [1, 1, None, 3], "b": [1, 2, 3, 4]})
    rules = [
        {"not_null": {"columns": "a", "action": "quarantine"}},
        {"expression": {"condition": "b < 4", "action": "drop", "id": "x"}},
        {"unique": {"columns": "a", "action": "quarantine", "description": "d", "tags": "t", "owner": "o"}},
        {"expression": {"condition": "b < 4", "action": "warn", "id": "x"}},
    ]
    report = lp.check(frame, rules)
    assert report.failed == {"not_null:a": 1, "x#1": 1, "unique:a": 2, "x#2": 1}
    assert (report.status, report.rows, report.good, report.quarantined, report.dropped) == ("warn", 4, 4, 0, 0)
    assert report.to_dict()["checks"][2] == {
        "id": "unique:a",
        "rule": "unique",
        "action": "quarantine",
        "status": "warn",
        "evaluated": 4,
        "failed": 2,
        "threshold": None,
        "fraction": 0.5,
        "description": "d",
        "tags": ["t"],
        "owner": "o",
    }
    assert lp.check(frame, []).to_dict() == {
        "node": "frame",
        "checks": [],
        "rows": 4,
        "good": 4,
        "quarantined": 0,
        "dropped": 0,
        "status": "pass",
    }


def test_numbers_make_no_id_that_another_rule_has() -> None:
    rules: list[dict[str, Any]] = [{"not_null": "a"}, {"not_null": {"columns": "a", "where": "b > 1"}}]
    rules.append({"not_null": {"columns": "b", "id": "not_null:a#1"}})
    checks = lp.check(pl.DataFrame({"a": [None, None, 1], "b": [1, 2, 3]}), rules).checks
    assert [(c.id, c.evaluated, c.failed) for c in checks] == [
        ("not_null:a#2", 3, 2),
        ("not_null:a#3", 2, 1),
        ("not_null:a#1", 3, 0),
    ]


@pytest.mark.parametrize("name", ["type:a", "new_column:a", "missing_column:a", "event_time:a", "broken_row"])
def test_a_rule_has_no_id_of_a_check_that_contracts_make(name: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        lp.check(pl.DataFrame({"a": [1]}), [{"not_null": {"columns": "a", "id": name}}])
    what = f"the id {name!r} is one that checks of contracts have; give the rule another id"
    assert str(caught.value) == f"rules[0].not_null.id: {what}"


def test_rules_are_values_too() -> None:
    rule = gates.rule_class("unique")(columns=("a",), action="drop", tags=("t",))  # type: ignore[call-arg]
    assert lp.check(pl.DataFrame({"a": [1, 1]}), [rule]).failed == {"unique:a": 2}
    assert rule == gates.rule_class("unique")(columns=("a",), action="drop", tags=("t",))  # type: ignore[call-arg]
    with pytest.raises(KeyError):
        gates.rule_class("uniq")


def test_a_report_that_loses_a_row_cannot_be_made() -> None:
    with pytest.raises(AssertionError, match="rows lost in the gate of n"):
        GateReport("n", (), rows=3, good=1, quarantined=1)
    worst = [CheckResult(s, "r", "warn", s, 1, 1) for s in ("pass", "fail", "warn")]  # type: ignore[arg-type]
    assert GateReport("n", tuple(worst), rows=1, good=1).status == "fail"
    assert GateReport("n", tuple(worst[::2]), rows=1, good=1).status == "warn"
