"""What lineage says of windows, means, sessions and gates: the words of a definition, and not how it is computed."""

from __future__ import annotations

from typing import Any

import pytest

import lazypipe as lp
from lazypipe.plan.idioms import idiom
from lazypipe.plan.nodes import PlanExpr

COLUMNS = {"t": "Datetime(us, UTC)", "k": "String", "x": "Int64", "y": "Float64"}


def lineage(
    *do: dict[str, Any], gate: tuple[Any, ...] = (), columns: dict[str, str] = COLUMNS
) -> lp.plan.graph.Lineage:
    """Return the lineage of a stage over files that do not exist."""
    made = (
        lp.pipeline("p").source("a", "a.parquet", contract={"columns": columns}).stage("s", "a", do=[*do], gate=[*gate])
    )
    return made.output("s", "out/s").build().compile().lineage()


def texts(found: Any, subtype: str) -> set[str]:
    return {e.text for e in found.edges if e.subtype == subtype and e.target.dataset == "s"}


@pytest.mark.parametrize(
    "window",
    [
        {"every": "1h"},
        {"every": "1h", "period": "3h"},
        {"every": ["1h", "1d"]},
        {"every": "1mo", "time_zone": "Europe/Paris"},
    ],
)
def test_figures_of_windows_are_told_as_the_aggregates_they_are(window: dict[str, Any]) -> None:
    aggregate = {"n": "count(*)", "m": "avg(x)", "s": "sum(y)", "least": "min(x)", "most": "max(y)", "i": "avg(x::int)"}
    found = lineage({"window": {"time": "t", "by": "k", "aggregate": aggregate, **window}})
    told = {e.target.name: e.text for e in found.edges if e.subtype == "AGGREGATION"}
    assert told == {"m": "AVG(x)", "s": "SUM(y)", "least": "MIN(x)", "most": "MAX(y)", "i": "AVG(CAST(x AS Int32))"}
    # that a sum of no values is null is no condition that somebody wrote
    assert not [e for e in found.edges if e.subtype == "CONDITIONAL" and e.target.name in aggregate]


@pytest.mark.parametrize(
    ("every", "more", "expected"),
    [
        ("1h", {}, "k, DATE_TRUNC(t, '1h'), DATE_TRUNC(t, '1h') + '1h'"),
        ("90s", {}, "k, DATE_TRUNC(t, '90s'), DATE_TRUNC(t, '90s') + '90s'"),
        ("1d", {"time_zone": "Europe/Paris"}, "k, window_start, window_end"),
        ("1h", {"period": "3h"}, "k, window_start"),
        (["1h", "1d"], {}, "k, window, window_start"),
        ("1w", {"time_zone": "Europe/Paris"}, "k, window_start, window_end"),
        ("1mo", {"time_zone": "Europe/Paris"}, "k, window_start, window_end"),
    ],
)
def test_windows_are_told_by_what_they_begin_with(every: Any, more: dict[str, Any], expected: str) -> None:
    aggregate = {"m": "avg(x)" if "period" in more or isinstance(every, list) else "median(x)"}
    found = lineage({"window": {"time": "t", "every": every, "by": "k", "aggregate": aggregate, **more}})
    assert texts(found, "GROUP_BY") == {expected}


@pytest.mark.parametrize("every", ["3h30m", "1ms"])
def test_windows_of_other_lengths_keep_the_text_of_the_plan(every: str) -> None:
    more = {"offset": "10m"} if every == "3h30m" else {}
    found = lineage({"window": {"time": "t", "every": every, "by": "k", "aggregate": {"m": "median(x)"}, **more}})
    assert all("DATE_TRUNC" not in text and "dt.time_stamp(t, us)" in text for text in texts(found, "GROUP_BY"))


def test_sessions() -> None:
    found = lineage({"session": {"time": "t", "gap": "30m", "by": "k", "aggregate": {"m": "avg(x)"}}})
    assert texts(found, "GROUP_BY") == {"k, SESSION(t, '30m'), 0"}
    assert idiom(PlanExpr("function", "cum_sum", (PlanExpr("column", "x"),)), ["x"], []) is None
    finer = lineage({"session": {"time": "t", "gap": "1ms", "by": "k", "aggregate": {"m": "avg(x)"}}})
    assert not any("SESSION" in text for text in texts(finer, "GROUP_BY"))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"between": {"column": "x", "min": 1, "max": 5}}, "(x BETWEEN 1 AND 5) IS NOT FALSE"),
        ({"not_null": "x"}, "x IS NOT NULL"),
        ({"not_null": "weird name"}, '"weird name" IS NOT NULL'),
        ({"expression": "y > 1.5"}, "(y > 1.5) IS NOT FALSE"),
        ({"expression": "NOT (x > 5)"}, "(NOT (x > 5)) IS NOT FALSE"),
        ({"not_in_set": {"column": "k", "values": ["a", "b"]}}, "((k = 'a') OR (k = 'b')) IS NOT TRUE"),
    ],
)
def test_gates_are_told_by_what_they_keep(rule: Any, expected: str) -> None:
    columns = {**COLUMNS, "weird name": "Int64"}
    found = lineage(
        {"derive": {"z": "1"}}, gate=({name: _aside(arguments) for name, arguments in rule.items()},), columns=columns
    )
    assert texts(found, "FILTER") == {expected}


def _aside(arguments: Any) -> dict[str, Any]:
    """Return a rule's arguments with which it quarantines."""
    if isinstance(arguments, str):
        arguments = {"condition" if " " in arguments and arguments != "weird name" else "columns": arguments}
    return {**arguments, "action": "quarantine"}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "CASE WHEN count(x) > 0 THEN sum(y) END",
            "CASE WHEN CAST(COUNT(x) AS Int64) > 0 THEN SUM(y) ELSE CAST(NULL AS Float64) END",
        ),
        (
            "CASE WHEN count(x) > 1 THEN avg(x) END",
            "CASE WHEN CAST(COUNT(x) AS Int64) > 1 THEN AVG(x) ELSE CAST(NULL AS Float64) END",
        ),
        (
            "CASE WHEN count(x) > 0 THEN sum(x) ELSE 0 END",
            "CASE WHEN CAST(COUNT(x) AS Int64) > 0 THEN SUM(x) ELSE 0 END",
        ),
        ("sum(x) / count(y)", "SUM(x) / CAST(COUNT(y) AS Int64)"),
        ("sum(x) + 3600000", "SUM(x) + 3600000"),
        ("max(x) - 23641", "MAX(x) - 23641"),
    ],
)
def test_what_a_definition_says_itself_is_told_as_it_is(sql: str, expected: str) -> None:
    found = lineage({"aggregate": {"by": ["k"], "aggregate": {"z": sql}}})
    assert {e.text for e in found.edges if e.target.name == "z" and e.type == "DIRECT"} == {expected}


def test_a_condition_that_is_no_gate_is_told_as_it_is() -> None:
    found = lineage({"filter": "NOT coalesce(x > 1, y > 2.5)"})
    assert texts(found, "FILTER") == {"NOT COALESCE(x > 1, y > 2.5)"}
    found = lineage({"filter": "NOT coalesce(x > 1, FALSE)"})
    assert texts(found, "FILTER") == {"(x > 1) IS NOT TRUE"}
