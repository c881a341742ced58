"""Reports in other forms: frames of one schema, Markdown that shows what is there, facets that OpenLineage's schemas take."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

import lazypipe as lp
from lazypipe.gates.export import (
    ASSERTIONS_SCHEMA,
    METRICS_SCHEMA,
    PRODUCER,
    data_quality_assertions,
    data_quality_metrics,
    to_frame,
    to_markdown,
)
from lazypipe.gates.report import CheckResult, GateReport

SCHEMAS = [json.loads(p.read_text()) for p in sorted((Path(__file__).parent / "data/openlineage").glob("*.json"))]
REGISTRY: Registry[Any] = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in SCHEMAS)


def validate(facet: Mapping[str, Any]) -> None:
    """Hold a facet against the schema that it names; references are resolved to the copies beside this test."""
    text = json.dumps(facet, allow_nan=False)
    Draft202012Validator({"$ref": facet["_schemaURL"]}, registry=REGISTRY).validate(json.loads(text))


def result(id: str = "not_null:a", rule: str = "not_null", **more: Any) -> CheckResult:
    given = {"action": "fail", "status": "pass", "evaluated": 10, "failed": 0, "column": "a", **more}
    return CheckResult(id=id, rule=rule, **given)


def report(*checks: CheckResult, **more: Any) -> GateReport:
    return GateReport(**{"node": "orders", "rows": 10, "good": 10, **more}, checks=checks)


FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3, 3],
        "a": [1, None, 3, 5],
        "price": [Decimal("0.50"), Decimal("1.25"), None, Decimal("2.25")],
        "x": [0.5, math.nan, 1.0, 1.0],
        "day": [date(2024, 1, n) for n in range(1, 5)],
        "g": ["u", "u", "v", None],
        "never": [None] * 4,
        "r": [1, 2, 3, 4],
    }
)
RULES: list[dict[str, Any]] = [
    {"not_null": {"columns": "a", "max_failures": "50%", "description": "a | b", "tags": ["x", "y"], "owner": "Ann"}},
    {"null": {"columns": "never", "action": "warn"}},
    {"unique": "id"},
    {"between": {"column": "r", "max": 2, "action": "repair", "repair": {"clip": True}}},
    {"in_set": {"column": "g", "values": ["u"], "where": "a > 1", "action": "warn", "max_failures": 0}},
    {"row_count": {"min": 1}},
    {"sum": {"column": "r", "min": 1}},
    {"sum": {"column": "a", "min": 100, "by": ["g"]}},
    {"sum": {"column": "price", "min": 0}},
    {"min": {"column": "a", "min": 0}},
    {"max": {"column": "a", "min": 0}},
    {"max": {"column": "day", "min": "2024-01-01"}},
    {"mean": {"column": "x", "min": 0, "action": "warn"}},
    {"max": {"column": "x", "min": 0, "action": "warn", "id": "x"}},
    {"median": {"column": "a", "min": 0}},
    {"quantile": {"column": "a", "q": 0.25, "min": 0}},
    {"quantile": {"column": "a", "q": 1, "min": 0, "id": "mine"}},
    {"distinct_count": {"columns": "g", "min": 1}},
    {"distinct_count": {"columns": ["g", "a"], "min": 1}},
    {"distinct_count": {"columns": "g", "min": "1%", "id": "distinct_count:g of all"}},
    {"completeness": {"column": "price", "min": "50%"}},
]
REPORT = lp.check(FRAME, RULES)


# frames


def test_a_frame_has_a_row_per_check_and_always_the_same_columns() -> None:
    found = to_frame(REPORT)
    empty = to_frame(report())
    assert found.schema == empty.schema
    assert (found.height, empty.height) == (len(REPORT.checks), 0)
    assert found["id"].to_list() == [c.id for c in REPORT.checks]
    assert found.filter(id="not_null:a").drop("samples").row(0, named=True) == {
        "node": "frame",
        "id": "not_null:a",
        "rule": "not_null",
        "column": "a",
        "action": "fail",
        "status": "warn",
        "evaluated": 4,
        "failed": 1,
        "fraction": 0.25,
        "threshold": "50%",
        "repaired": 0,
        "failed_before": 1,
        "value": None,
        "expected": None,
        "groups": [],
        "description": "a | b",
        "tags": ["x", "y"],
        "owner": "Ann",
    }
    (repaired,) = found.filter(rule="between").select("failed", "repaired", "failed_before").rows()
    assert repaired == (0, 2, 2)
    values = dict(found.filter(pl.col("value").is_not_null()).select("id", "value").iter_rows())
    assert values["max:day"] == "2024-01-04"
    assert values["x"] in ("nan", "NaN")
    groups = found.filter(id="sum:a by g")["groups"].item().to_list()
    assert [*json.loads(groups[0])] == ["g", "value"]
    assert found.write_json()


def test_samples_are_json_objects() -> None:
    check = result(failed=2, status="fail", samples=({"id": 1, "at": date(2024, 1, 1)}, {"id": None, "é": math.inf}))
    assert to_frame(report(check))["samples"].item().to_list() == [
        '{"id": 1, "at": "2024-01-01"}',
        '{"id": null, "é": "inf"}',
    ]


# Markdown


def test_markdown_for_people() -> None:
    found = report(
        result(),
        result(
            "email",
            failed=4,
            evaluated=1_234,
            status="warn",
            action="quarantine",
            threshold="1%",
            repaired=3,
            description="a <b>|\n`c`",
            tags=("pii", "x_y"),
            owner="Ann & Bob",
            samples=({"id": 7, "email": "*nobody*"}, {"id": 8, "email": None}),
        ),
        result("mean:a", "mean", value=3.5, expected="at least 1", evaluated=1),
        result(
            "rows", "row_count", value=3, expected="at least 5", evaluated=1, failed=1, status="fail", threshold="0"
        ),
        result(
            "sum:a by g",
            "sum",
            expected=">= 1",
            evaluated=4,
            failed=1,
            status="fail",
            groups=({"g": "u", "value": Decimal("0.5")},),
        ),
        node="my_orders",
        rows=1_234,
        good=1_230,
        quarantined=4,
    )
    assert to_markdown(found) == MARKDOWN


MARKDOWN = r"""## Gate of my\_orders: fail

1,234 rows: 1,230 good, 4 quarantined, 0 dropped

| Status | Check | Found | Allowed | Action |
|---|---|---|---|---|
| pass | not\_null:a | 0 of 10 rows (0 %) |  | fail |
| **warn** | email<br>a \<b\>\|\\n\`c\`<br>(pii, x\_y)<br>answered for by Ann \& Bob | 4 of 1,234 rows (0.324 %), 3 repaired | 1% | quarantine |
| pass | mean:a | 3.5 | at least 1 | fail |
| **fail** | rows | 3 | at least 5; 0 | fail |
| **fail** | sum:a by g | 1 of 4 groups | \>= 1 | fail |

The first rows that fail email:

- id = 7, email = \*nobody\*
- id = 8, email = None

The first groups that fail sum:a by g:

- g = u, value = 0.5
"""


def test_markdown_of_nothing() -> None:
    assert (
        to_markdown(report(rows=0, good=0)) == "## Gate of orders: pass\n\n0 rows: 0 good, 0 quarantined, 0 dropped\n"
    )


@given(st.text(), st.text(), st.text())
def test_no_text_breaks_the_table(id_: str, value: str, node: str) -> None:
    check = result(id_, failed=1, status="fail", description=value, samples=({value: value},))
    text = to_markdown(report(check, node=node))
    lines = text.split("\n")
    assert text.splitlines() == lines[:-1]
    assert len(lines) == 12
    unescaped = lines[6].replace("\\\\", "").replace("\\|", "")
    assert unescaped.count("|") == 6
    assert not any(mark in unescaped.replace("\\" + mark, "").replace("**fail**", "") for mark in "*_`[")


# OpenLineage


def test_assertions_follow_the_schema() -> None:
    found = data_quality_assertions(REPORT)
    validate(found)
    assert (found["_producer"], found["_schemaURL"]) == (PRODUCER, ASSERTIONS_SCHEMA)
    by_name = {a["name"]: a for a in found["assertions"]}
    assert len(by_name) == len(REPORT.checks)
    assert {k: v for k, v in by_name["not_null:a"].items() if k != "params"} == {
        "assertion": "not_null",
        "success": False,
        "column": "a",
        "severity": "error",
        "name": "not_null:a",
        "description": "a | b",
        "expected": "50%",
        "actual": "25%",
    }
    told = {k: v for k, v in by_name["not_null:a"]["params"].items() if k != "samples"}
    assert told == {
        "action": "fail",
        "status": "warn",
        "evaluated": 4,
        "failed": 1,
        "fraction": 0.25,
        "threshold": "50%",
        "tags": ["x", "y"],
        "owner": "Ann",
    }
    assert by_name["null:never"]["severity"] == "warn"
    assert by_name["null:never"]["success"] is True
    assert "column" not in by_name["unique:id"]
    assert (by_name["unique:id"]["expected"], by_name["unique:id"]["actual"]) == ("0", "2")
    # a warning that fails the gate above its threshold
    assert by_name["in_set:g"]["severity"] == "error"
    assert by_name["max:day"]["actual"] == "2024-01-04"
    assert "actual" not in by_name["sum:a by g"]
    assert by_name["sum:a by g"]["params"]["groups"]
    assert by_name["between:r"]["params"]["repaired"] == 2


def test_metrics_follow_the_schema() -> None:
    found = data_quality_metrics(
        REPORT, bytes=12, files=3, updated=datetime(2024, 1, 1, tzinfo=UTC), producer="urn:mine"
    )
    validate(found)
    assert found == {
        "_producer": "urn:mine",
        "_schemaURL": METRICS_SCHEMA,
        "rowCount": 4,
        "bytes": 12,
        "fileCount": 3,
        "lastUpdated": "2024-01-01T00:00:00+00:00",
        "columnMetrics": {
            "a": {"nullCount": 1, "count": 3, "min": 1, "max": 5, "quantiles": {"0.5": 3.0, "0.25": 2.0}},
            "never": {"nullCount": 4, "count": 0},
            "price": {"sum": 4.0, "nullCount": 1, "count": 3},
            "g": {"distinctCount": 2},
        },
    }


def test_metrics_know_what_checks_looked_at_all_rows() -> None:
    assert metrics(result(failed=2, repaired=3)) == {"a": {"nullCount": 5, "count": 5}}
    assert metrics(result(evaluated=9)) == {}
    assert metrics(result("primary_key:a:not_null", "primary_key", failed=1)) == {"a": {"nullCount": 1, "count": 9}}
    assert metrics(result("null:a", "null", failed=4)) == {"a": {"nullCount": 6, "count": 4}}
    assert metrics(result("in_set:a", "in_set")) == {}
    assert metrics(result(column=None)) == {}
    whole = result("sum:a", "sum", value=7, expected="any", evaluated=1)
    assert metrics(whole) == {"a": {"sum": 7}}
    assert (
        metrics(whole, result("r", "between", repaired=1))
        == metrics(result(), result("b", "between", repaired=1))
        == {}
    )
    # only of the rows that go on, or of those that where lets through
    assert metrics(whole, good=9, dropped=1) == {}
    assert metrics(whole, restricted={"sum:a"}) == {}
    assert metrics(result("sum:a", "sum", value=10**400, expected="any")) == {"a": {"sum": 10**400}}
    for value in (
        None,
        math.nan,
        math.inf,
        "x",
        True,
        date(2024, 1, 1),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("1e999"),
        timedelta(1),
    ):
        assert metrics(result("sum:a", "sum", value=value, expected="any", evaluated=1)) == {}
    assert metrics(result("std:a", "std", value=1, expected="any")) == {}
    assert metrics(
        result("quantile:a 0.25", "quantile", value=1, expected="any"), result("b", "median", value=2, expected="any")
    ) == {"a": {"quantiles": {"0.25": 1, "0.5": 2}}}


def metrics(*checks: CheckResult, restricted: Any = (), **more: Any) -> Any:
    found = data_quality_metrics(report(*checks, **more), restricted=restricted)
    validate(found)
    assert set(found) == {"_producer", "_schemaURL", "rowCount", "columnMetrics"}
    return found["columnMetrics"]


def test_the_time_of_the_last_change_has_an_offset() -> None:
    for moment, written in (
        (datetime(2024, 1, 1), "2024-01-01T00:00:00+00:00"),
        (datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2024-01-01T00:00:00+02:00"),
    ):
        assert data_quality_metrics(report(), updated=moment)["lastUpdated"] == written


def test_the_schemas_are_used() -> None:
    for facet, key in (
        (data_quality_assertions(REPORT), "assertions"),
        (data_quality_metrics(REPORT), "columnMetrics"),
    ):
        for broken in ({k: v for k, v in facet.items() if k != key}, {**facet, key: "x"}):
            with pytest.raises(ValidationError):
                validate(broken)
    with pytest.raises(ValidationError):
        validate({k: v for k, v in data_quality_metrics(REPORT).items() if k != "_producer"})


values = st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text() | st.dates() | st.binary()


@given(
    st.lists(
        st.builds(
            CheckResult,
            id=st.text(),
            rule=st.sampled_from(["not_null", "null", "sum", "median", "completeness", "quantile", "mine"]),
            action=st.sampled_from(["fail", "quarantine", "drop", "warn"]),
            status=st.sampled_from(["pass", "warn", "fail"]),
            evaluated=st.sampled_from([0, 1, 10]),
            failed=st.integers(0, 10),
            threshold=st.sampled_from([None, "5", "0.1%"]),
            repaired=st.integers(0, 3),
            value=values,
            expected=st.none() | st.text(),
            groups=st.lists(st.dictionaries(st.text(), values), max_size=2).map(tuple),
            samples=st.lists(st.dictionaries(st.text(), values), max_size=2).map(tuple),
            column=st.none() | st.text(),
            description=st.none() | st.text(),
            tags=st.lists(st.text()).map(tuple),
            owner=st.none() | st.text(),
        ),
        max_size=4,
    )
)
def test_every_report_can_be_exported(checks: list[CheckResult]) -> None:
    found = report(*checks)
    validate(data_quality_assertions(found))
    validate(data_quality_metrics(found))
    assert to_frame(found).height == len(checks)
    assert to_markdown(found).endswith("\n")
