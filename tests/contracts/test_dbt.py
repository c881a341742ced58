"""Property files of dbt: what tests and constraints become, with dbt's own semantics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import gates
from lazypipe.contracts import Column, from_dbt
from lazypipe.contracts.dbt import _limit
from lazypipe.errors import DefinitionError
from lazypipe.spec.model import Step, freeze

DATA = Path(__file__).parent / "data"


def model(*tests: Any, column: str | None = "c", **more: Any) -> dict[str, Any]:
    if column is None:
        return {"models": [{"name": "m", "data_tests": list(tests), **more}]}
    return {"models": [{"name": "m", "columns": [{"name": column, "data_tests": list(tests), **more}]}]}


def rules(*tests: Any, column: str | None = "c", **more: Any) -> tuple[Any, ...]:
    contract = from_dbt(model(*tests, column=column, **more))
    assert not contract.unmapped
    for rule in contract.rules["m"]:
        ((name, arguments),) = rule.items()
        gates.rule(Step(name, freeze(arguments)))
    return contract.rules["m"]


def left(*tests: Any, column: str | None = "c", **more: Any) -> list[str]:
    contract = from_dbt(model(*tests, column=column, **more))
    assert contract.rules["m"] == ()
    return [f"{f.what}: {f.why}" for f in contract.unmapped]


def wrong(data: Any) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        from_dbt(data)
    return [str(p) for p in caught.value.problems]


def test_a_whole_file() -> None:
    contract = from_dbt(DATA / "schema.yml")
    assert contract.rules == {
        "orders": (
            {"unique": ["customer_id", "ordered_at"]},
            {"expression": {"condition": "amount >= discount", "where": "status = 'sent'", "tags": ["money"]}},
            {"unique": {"columns": "order_id", "id": "one_row_per_order"}},
            {"primary_key": "order_id"},
            {"expression": {"condition": "amount >= 0", "id": "amount_sign"}},
            {"foreign_key": {"column": "customer_id", "references": {"to": "customers", "column": "id"}}},
            {
                "unique": {
                    "columns": "order_id",
                    "where": "ordered_at >= DATE '2024-01-01'",
                    "warn_above": 4,
                    "max_failures": 10,
                }
            },
            {"not_null": "order_id"},
            {"foreign_key": {"column": "customer_id", "references": {"to": "customers", "column": "id"}}},
            {"not_null": "status"},
            {
                "in_set": {
                    "column": "status",
                    "values": ["new", "paid", "sent"],
                    "max_failures": 5,
                    "id": "known_status",
                    "description": "Only these states exist.",
                }
            },
            {"in_set": {"column": "level", "values": [1, 2, 3.5, True, "x"]}},
            {"between": {"column": "level", "min": 0, "max": 9, "closed": "none"}},
            {"expression": "TRIM(\"email\") <> ''"},
        ),
        "countries": ({"completeness": {"column": "code", "min": 0.95}},),
        "orders_history": ({"row_count": {"min": 1, "where": '"id" IS NOT NULL'}},),
        "payments": ({"unique": "id"}, {"not_null": {"columns": "id", "action": "warn"}}),
        "raw_orders": ({"unique": "id"},),
    }
    assert contract.columns["orders"] == {
        "order_id": Column("Int64", (), "The key."),
        "customer_id": Column("Int32"),
        "status": Column("String"),
        "level": Column("Int32"),
        "email": Column(None, ("contact", "crm", "pii", "masked", "restricted")),
    }
    found = [str(f).removeprefix(str(DATA / "schema.yml")) for f in contract.unmapped]
    assert found == [
        ":50:13: orders.customer_id: the test relationships: it is disabled (enabled: false)",
        (
            ":62:13: orders.status: the test accepted_values: its where cannot be taken over: "
            "it holds a template, which only the tool that wrote it can fill in"
        ),
        ":66:13: orders.status: the test my_package.looks_right: it is no generic test of dbt; write an expression",
        ":73:9: orders.email: the type 'geography': no type is known by that, so no type of the table is declared",
        ":15:21: raw_orders: the freshness: no column says when rows were loaded (loaded_at_field)",
    ]
    assert [f.what for f in contract.notes] == [
        "the test dbt_utils.unique_combination_of_columns",
        "the test unique",
    ]


VALUES = st.lists(st.none() | st.integers(0, 4), max_size=8)


@settings(max_examples=settings().max_examples * 3)
@given(
    values=VALUES,
    test=st.sampled_from(["unique", "not_null", "accepted_values", "relationships"]),
    error_if=st.sampled_from([None, "> 0", ">1", ">= 3", "!= 0"]),
    severity=st.sampled_from(["error", "warn", "WARN"]),
    restricted=st.booleans(),
)
def test_tests_judge_as_dbt_does(
    values: list[int | None], test: str, error_if: str | None, severity: str, restricted: bool
) -> None:
    arguments: dict[str, Any] = {
        "accepted_values": {"values": [1, 2], "quote": False},
        "relationships": {"to": "ref('other')", "field": "id"},
    }.get(test, {})
    config: dict[str, Any] = {"severity": severity}
    config |= {"error_if": error_if} if error_if else {}
    config |= {"where": "c > 0 OR c IS NULL"} if restricted else {}
    config |= {"fail_calc": "sum(n_records)"} if test in ("unique", "accepted_values") else {}
    contract = from_dbt(model({test: {**arguments, "config": config}}))
    assert not contract.notes
    frame = pl.DataFrame({"c": values}, schema={"c": pl.Int64})
    report = lp.check(frame, contract.rules["m"], other=pl.DataFrame({"id": [0, 2, None]}))
    seen = [v for v in values if not restricted or v is None or v > 0]
    times = Counter(v for v in seen if v is not None)
    failures = {
        "unique": sum(n for n in times.values() if n > 1),
        "not_null": seen.count(None),
        "accepted_values": sum(v is not None and v not in (1, 2) for v in seen),
        "relationships": sum(v is not None and v not in (0, 2) for v in seen),
    }[test]
    allowed = {"> 0": 0, ">1": 1, ">= 3": 2}.get(str(error_if), 0)
    fails = severity == "error" and failures > allowed
    assert report.status == ("fail" if fails else "warn" if failures else "pass")


def test_thresholds() -> None:
    assert [_limit(w) for w in (None, "!= 0", "<> 0", "> 0", ">= 1", "> 10", " >=10 ")] == [
        None,
        None,
        None,
        None,
        None,
        10,
        9,
    ]
    for text in ("", "< 5", "!= 3", ">= 0", "between 1 and 3", "= 0"):
        if text:
            with pytest.raises(ValueError):
                _limit(text)


def test_older_and_newer_ways_to_write_a_test() -> None:
    values = {"column": "c", "values": ["a"]}
    assert rules({"accepted_values": {"values": ["a"], "severity": "warn"}}) == (
        {"in_set": {**values, "action": "warn"}},
    )
    assert rules({"test_name": "accepted_values", "values": ["a"], "name": "n"}) == ({"in_set": {**values, "id": "n"}},)
    assert rules({"accepted_values": {"arguments": {"values": ["a", None]}}}) == ({"in_set": values},)
    assert rules({"unique": None}, "dbt.not_null") == ({"unique": "c"}, {"not_null": "c"})
    both = {"models": [{"name": "m", "columns": [{"name": "c", "tests": ["unique"], "data_tests": ["not_null"]}]}]}
    assert from_dbt(both).rules["m"] == ({"not_null": "c"}, {"unique": "c"})
    assert rules({"unique": {"column_name": '"my col"'}}, column=None) == ({"unique": "my col"},)


def test_tests_of_dbt_utils() -> None:
    assert rules({"dbt_utils.expression_is_true": {"expression": ">= 1"}}) == ({"expression": '"c" >= 1'},)
    assert rules({"dbt_utils.not_empty_string": {"trim_whitespace": False}}) == ({"expression": "\"c\" <> ''"},)
    assert rules({"dbt_utils.not_null_proportion": {"at_least": 0.5, "at_most": 0.9}}) == (
        {"proportion": {"condition": '"c" IS NOT NULL', "min": 0.5, "max": 0.9}},
    )
    assert rules({"dbt_utils.equal_rowcount": {"compare_model": "ref('x')"}}, column=None) == (
        {"row_count": {"same_as": "x"}},
    )
    where = {"to": "ref('x')", "field": "id", "from_condition": "a > 1", "config": {"where": "b > 1"}}
    assert rules({"dbt_utils.relationships_where": where}) == (
        {"foreign_key": {"column": "c", "references": {"to": "x", "column": "id"}, "where": "(b > 1) AND (a > 1)"}},
    )


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("ref('a')", "a"),
        ('{{ ref("a") }}', "a"),
        ("ref('project', 'a')", "a"),
        ("ref('a', v=2)", "a"),
        ("source('raw', 'a')", "a"),
        ("a", "a"),
    ],
)
def test_references(to: str, name: str) -> None:
    assert rules({"relationships": {"to": to, "field": "id"}}) == (
        {"foreign_key": {"column": "c", "references": {"to": name, "column": "id"}}},
    )


@pytest.mark.parametrize(
    ("test", "what"),
    [
        ({"relationships": {"to": "{{ env }}", "field": "id"}}, "the test relationships: '{{ env }}' is no ref() or source()"),
        ({"dbt_utils.relationships_where": {"to": "a", "field": "id", "to_condition": "x"}}, "the test dbt_utils.relationships_where: to_condition needs a stage that filters"),
        ({"dbt_utils.relationships_where": {"to": "a", "field": "id", "from_condition": "x ="}}, "the test dbt_utils.relationships_where: 'x =' cannot be taken over: Polars SQL cannot read it: "),
        ({"unique": {"config": {"error_if": "< 5"}}}, "error_if of unique: '< 5': a limit is > or >= a number of rows, or != 0"),
        ({"unique": {"config": {"fail_calc": "max(n_records)"}}}, "the test unique: its failures are counted by max(n_records)"),
        ({"accepted_values": {"values": ["a + 1"], "quote": False}}, "the test accepted_values: a + 1 without quotes is an expression, not a value"),
        ({"unique": {"column_name": "a || b"}}, "the test unique: 'a || b' is not a column; derive it in a stage"),
        ({"dbt_utils.accepted_range": {"min_value": "getdate()"}}, "the test dbt_utils.accepted_range: its bounds are expressions, not numbers"),
        ({"dbt_utils.expression_is_true": {"expression": "> now()"}}, "the test dbt_utils.expression_is_true: '\"c\" > now()' cannot be taken over: now would"),
        ({"dbt_utils.equal_rowcount": {"compare_model": "x y"}}, "the test dbt_utils.equal_rowcount: 'x y' is no ref() or source()"),
        ("dbt_utils.sequential_values", "the test dbt_utils.sequential_values: write no_gaps and unique, where values are whole numbers or dates"),
        ({"dbt_utils.recency": {"field": "c::date", "datepart": "day", "interval": 1}}, "the test dbt_utils.recency: a rule takes a column, and one of minute, hour, day, week"),
        ({"dbt_utils.recency": {"field": "c", "datepart": "month", "interval": 1}}, "the test dbt_utils.recency: a rule takes a column, and one of minute, hour, day, week"),
        ({"dbt_utils.recency": {"field": "c", "datepart": "day", "interval": 1, "ignore_time_component": True}}, "the test dbt_utils.recency: ignore_time_component counts days"),
    ],
)  # fmt: skip
def test_tests_without_a_rule(test: Any, what: str) -> None:
    (found,) = left(test)
    assert found.startswith(what)


def test_what_is_not_known_is_noted() -> None:
    contract = from_dbt(model({"unique": {"config": {"colour": "red", "limit": 5, "error_if": "> 3"}}}))
    assert [f.what for f in contract.notes] == [
        "colour of unique",
        "limit of unique",
        "the test unique",
    ]


def test_arguments_that_are_not_known_may_mean_something() -> None:
    assert left({"unique": {"strict": True}}) == [
        "the test unique: its argument 'strict' is not known, and may change what it means"
    ]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"severity": "{{ 'warn' if target.name == 'dev' else 'error' }}"}, "its severity holds a template"),
        ({"enabled": "{{ var('strict') }}"}, "its enabled holds a template"),
        ({"enabled": False}, "it is disabled (enabled: false)"),
        ({"error_if": "> {{ var('most') }}"}, "its error_if holds a template"),
        ({"where": "day > '{{ var('since') }}'"}, "its where cannot be taken over: it holds a template"),
        # never more failures than the limit are counted: these never fail, or never warn
        ({"limit": 0}, "with limit: 0, dbt never counts as many failures as it allows"),
        ({"limit": 10, "error_if": "> 10"}, "with limit: 10, dbt never counts as many failures as it allows"),
        ({"limit": 5, "severity": "warn", "warn_if": ">= 6"}, "with limit: 5, dbt never counts as many"),
    ],
)
def test_configs_that_decide_and_have_no_rule(config: Mapping[str, Any], why: str) -> None:
    contract = from_dbt(model({"not_null": {"config": config}}))
    assert contract.rules["m"] == ()
    (found,) = contract.unmapped
    assert (found.what, contract.notes) == ("the test not_null", ())
    assert found.why.startswith(why)


def test_templates_among_values() -> None:
    for values in (["a", "{{ var('more') }}"], "{{ var('all') }}"):
        contract = from_dbt(model({"accepted_values": {"arguments": {"values": values}}}))
        assert contract.rules["m"] == ()
        assert [f.why for f in contract.unmapped] == ["its values holds a template, which only dbt can fill in"]


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        # an error is asked for first, and what it leaves to warn of is within the limit
        ({"limit": 11, "error_if": "> 10"}, {"max_failures": 10}),
        ({"limit": 5, "warn_if": "> 8"}, {}),
        # what would be an error is not asked where it is to warn only
        ({"severity": "warn", "error_if": "between 1 and 3"}, {"action": "warn"}),
        ({"severity": "warn", "error_if": "> 100", "limit": 50}, {"action": "warn"}),
    ],
)
def test_limits_that_are_reached(config: Mapping[str, Any], rule: Mapping[str, Any]) -> None:
    contract = from_dbt(model({"not_null": {"config": config}}))
    assert contract.rules["m"] == ({"not_null": {"columns": "c", **rule} if rule else "c"},)
    noted = [f"dbt counts {config['limit']} failures at most, the rule counts all"] if "limit" in config else []
    assert [f.why for f in contract.notes] == noted


@pytest.mark.parametrize("config", [{"store_failures": True, "schema": "aside"}, {"store_failures_as": "view"}])
def test_failures_that_are_kept_are_noted(config: Mapping[str, Any]) -> None:
    contract = from_dbt(model({"not_null": {"config": config}}))
    assert contract.rules["m"] == ({"not_null": "c"},)
    (note,) = contract.notes
    assert str(note) == "m.c: store_failures of not_null: a rule keeps the rows that fail with action: quarantine"
    for ephemeral in ({"store_failures": False}, {"store_failures_as": "ephemeral"}):
        assert not from_dbt(model({"not_null": {"config": ephemeral}})).notes


def test_tables_that_are_left_out() -> None:
    off = {"enabled": False}
    for node in ({"config": off}, off):
        contract = from_dbt({"models": [{"name": "m", "columns": [{"name": "c", "data_tests": ["unique"]}], **node}]})
        assert (contract.rules, contract.columns) == ({"m": ()}, {})
        assert [str(f) for f in contract.unmapped] == [
            "m: the table: it is disabled (enabled: false), so dbt runs none of its tests"
        ]
    assert sources({"data_tests": [{"unique": {"column_name": "c"}}]}, config=off).rules == {"t": ()}
    again = sources({"config": {"enabled": True}, "data_tests": [{"unique": {"column_name": "c"}}]}, config=off)
    assert (again.rules, again.unmapped) == ({"t": ({"unique": "c"},)}, ())
    unsure = from_dbt(
        {**model("unique"), "models": [{**model("unique")["models"][0], "config": {"enabled": "{{ x }}"}}]}
    )
    assert unsure.rules["m"] == ({"unique": "c"},)
    assert [str(f) for f in unsure.notes] == [
        "m: enabled: it holds a template, which only dbt can fill in: the tests are taken over"
    ]


def test_sections_that_hold_no_tests() -> None:
    contract = from_dbt({**model("unique"), "functions": [], "macros": []})
    assert [f.what for f in contract.unmapped] == ["functions"]
    versions = from_dbt({"models": [{"name": "m", "versions": [{"v": 1}]}]})
    assert [f.what for f in versions.unmapped] == ["versions"]


def test_unit_tests_are_not_taken_over() -> None:
    (found,) = from_dbt({**model("unique"), "unit_tests": [{"name": "t", "model": "m"}]}).unmapped
    assert (found.what, found.path) == ("unit_tests", ("unit_tests",))


def sources(table: Mapping[str, Any], **more: Any) -> lp.Contract:
    return from_dbt({"sources": [{"name": "s", **more, "tables": [{"name": "t", **table}]}]})


def test_freshness_of_sources_is_a_rule() -> None:
    limits = {"warn_after": {"count": 12, "period": "hour"}, "error_after": {"count": 2, "period": "day"}}
    own = sources({"loaded_at_field": "at", "freshness": {**limits, "filter": "kind = 'x'"}})
    error = {"column": "at", "within": "2d", "where": "kind = 'x'"}
    warning = {"column": "at", "within": "12h", "where": "kind = 'x'", "action": "warn"}
    assert own.rules["t"] == ({"freshness": error}, {"freshness": warning})
    assert {f.why for f in own.notes} == {"a table without rows passes; dbt takes it for infinitely old"}
    for rule in own.rules["t"]:
        ((name, arguments),) = rule.items()
        gates.rule(Step(name, freeze(arguments)))
    # what a table does not say, its source does; dbt 1.10 writes both under config
    assert sources({"loaded_at_field": '"at"'}, config={"freshness": {"error_after": limits["error_after"]}}).rules[
        "t"
    ] == ({"freshness": {"column": "at", "within": "2d"}},)
    other = {"warn_after": None, "error_after": {"count": 5, "period": "minute"}}
    mixed = sources({"config": {"freshness": other}}, loaded_at_field="at", freshness=limits)
    assert mixed.rules["t"] == ({"freshness": {"column": "at", "within": "5m"}},)
    assert sources({"freshness": None}, loaded_at_field="at", freshness=limits).rules["t"] == ()
    assert sources({"config": {"freshness": None}}, loaded_at_field="at", freshness=limits).rules["t"] == ()
    assert sources({"loaded_at_field": "at", "freshness": {"warn_after": {}}}).rules["t"] == ()


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "no column says when rows were loaded (loaded_at_field)"),
        ({"loaded_at_field": "at::timestamp"}, "'at::timestamp' is not a column; derive it in a stage"),
        ({"loaded_at_field": "at", "filter": "x > {{ y }}"}, "its filter cannot be taken over: it holds a template"),
    ],
)
def test_freshness_without_a_rule(table: dict[str, Any], why: str) -> None:
    condition = table.pop("filter", None)
    limits = {"error_after": {"count": 1, "period": "day"}, "filter": condition}
    found = sources({**table, "freshness": limits})
    assert found.rules["t"] == ()
    assert [f.what for f in found.unmapped] == ["the freshness"]
    assert found.unmapped[0].why.startswith(why)
    assert found.unmapped[0].path == ("sources", 0, "tables", 0, "freshness", "error_after")


def test_recency_is_freshness() -> None:
    test = {"field": "at", "datepart": "hour", "interval": 3, "group_by_columns": ["site"]}
    assert rules({"dbt_utils.recency": test}, column=None) == (
        {"freshness": {"column": "at", "within": "3h", "by": ["site"]}},
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"strategy": "check", "unique_key": "id", "check_cols": "all"}, "mode: scd2, key: id"),
        ({"strategy": "timestamp", "unique_key": ["a", "b"], "updated_at": "at"}, "mode: scd2, key: [a, b], event_time: at"),
        ({"strategy": "check", "unique_key": "id", "hard_deletes": "invalidate"}, "mode: scd2, key: id, deletes: close"),
    ],
)  # fmt: skip
def test_a_snapshot_is_a_matter_of_outputs(config: Mapping[str, Any], words: str) -> None:
    (found,) = from_dbt({"snapshots": [{"name": "snap", "config": config}]}).unmapped
    assert (found.what, found.table) == ("the snapshot", "snap")
    assert found.why == f"an output keeps the versions of its rows: {words}"


# constraints


def test_constraints() -> None:
    each = [
        {"type": "unique"},
        {"type": "foreign_key", "expression": 'shop."people" (id)'},
        {"type": "check", "expression": "c > 1"},
    ]
    assert rules(constraints=each) == (
        {"unique": "c"},
        {"foreign_key": {"column": "c", "references": {"to": "people", "column": "id"}}},
        {"expression": "c > 1"},
    )


@pytest.mark.parametrize(
    ("constraint", "what"),
    [
        ({"type": "foreign_key"}, "the constraint foreign_key: it does not say which columns of which table"),
        ({"type": "check", "expression": "c = now()"}, "the constraint check: now would read the machine's clock; write :now, the time of the run, which the caller can set"),
        ({"type": "custom", "expression": "masking policy x"}, "the constraint custom: only the database knows it"),
    ],
)  # fmt: skip
def test_constraints_without_a_rule(constraint: Mapping[str, Any], what: str) -> None:
    assert left(constraints=[constraint]) == [what]


# wrong documents


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"version": 2}, "there are no models, sources, seeds or snapshots; add models: a list of {name, columns}"),
        ({"version": 1, **model()}, "version: version 1 cannot be read; write version: 2"),
        ([1], "this is not a valid property file of dbt; it must be a mapping"),
        ({"models": [{"columns": []}]}, "models[0]: 'name' is missing; add name: it must be text"),
        ({"models": [{"name": "m"}, {"name": "m"}]}, "models[1].name: two tables are called 'm'; rename one of them"),
        ({"sources": [{"tables": [{"name": "m"}]}]}, "sources[0]: 'name' is missing; add name: it must be text"),
        (model({"unique": {}, "not_null": {}}), "models[0].columns[0].data_tests[0]: a test is its name, or one name with its arguments; write e.g. unique, or unique: {config: …}"),
        (model({"unique": 5}), "models[0].columns[0].data_tests[0]: the arguments of unique must be a mapping; write argument: value"),
        (model({"unique": {"arguments": ["c"]}}), "models[0].columns[0].data_tests[0].unique.arguments: arguments must be a mapping, not a list"),
        (model({"unique": {"config": "warn"}}), "models[0].columns[0].data_tests[0].unique.config: config must be a mapping, not 'warn'"),
        (model({"unique": {"config": {"enabled": "no"}}}), "models[0].columns[0].data_tests[0].unique.enabled: enabled must be true or false, not 'no'"),
        (model({"unique": {"config": {"limit": "many"}}}), "models[0].columns[0].data_tests[0].unique.limit: limit must be a whole number, not 'many'"),
        (model("unique", column=None), "models[0].data_tests[0]: unique of a table needs a column; add column_name, or write it at the column"),
        (model("accepted_values"), "models[0].columns[0].data_tests[0]: 'values' is missing; add values: it must be a list"),
        (model({"accepted_values": {"values": []}}), "models[0].columns[0].data_tests[0].accepted_values.values: values must be texts, numbers, true or false; list at least one"),
        (model({"accepted_values": {"values": [[1]]}}), "models[0].columns[0].data_tests[0].accepted_values.values: values must be texts, numbers, true or false; list at least one"),
        (model({"relationships": {"to": "x"}}), "models[0].columns[0].data_tests[0].relationships: 'field' is missing; add field: it must be text"),
        (model({"unique": {"config": {"severity": "fatal"}}}), "models[0].columns[0].data_tests[0].unique: unknown severity 'fatal'; write error or warn"),
        (model({"dbt_utils.unique_combination_of_columns": {}}, column=None), "models[0].data_tests[0].dbt_utils.unique_combination_of_columns: 'combination_of_columns' is missing; add a list of columns"),
        (model({"dbt_utils.accepted_range": {}}), "models[0].columns[0].data_tests[0].dbt_utils.accepted_range: dbt_utils.accepted_range needs a bound; add min_value or max_value"),
        (model("dbt_utils.expression_is_true"), "models[0].columns[0].data_tests[0]: 'expression' is missing; add expression: it must be text"),
        (model("dbt_utils.not_null_proportion"), "models[0].columns[0].data_tests[0]: 'at_least' is missing; add at_least: it must be a number"),
        (model({"dbt_utils.recency": {"datepart": "day", "interval": 1}}), "models[0].columns[0].data_tests[0].dbt_utils.recency: 'field' is missing; add field: it must be text"),
        ({"sources": [{"name": "s", "tables": [{"name": "t", "loaded_at_field": "at", "freshness": {"warn_after": {"count": 1, "period": "month"}}}]}]}, "sources[0].tables[0].freshness.warn_after: a limit of freshness is a count and a period; write {count: 12, period: hour}, minute or day"),
        (model(column=None, constraints=[{"type": "unique"}]), "models[0].constraints[0]: the constraint unique of a table needs columns; add columns: [a, b]"),
        (model(constraints=[{}]), "models[0].columns[0].constraints[0]: 'type' is missing; add type: it must be text"),
        (model(constraints=[{"type": "check"}]), "models[0].columns[0].constraints[0]: 'expression' is missing; add expression: it must be text"),
    ],
)  # fmt: skip
def test_wrong_files(data: Any, message: str) -> None:
    if isinstance(data, dict):
        assert wrong(data) == [message]
    else:
        assert wrong(yaml.safe_dump(data)) == [f"<text>:1:1: {message}"]


def test_mistakes_have_places() -> None:
    text = yaml.safe_dump(model({"accepted_values": {"values": 5}}), sort_keys=False)
    assert wrong(text) == ["<text>:7:9: values must be a list, not 5"]


def test_a_test_without_its_column_among_several() -> None:
    for test in (
        "dbt_utils.not_empty_string",
        "dbt_utils.at_least_one",
        "relationships",
        "dbt_utils.not_null_proportion",
    ):
        assert any("needs a column" in m for m in wrong(model(test, column=None)))
    assert any("needs a column" in m for m in wrong(model({"dbt_utils.accepted_range": {"min_value": 1}}, column=None)))


def test_an_error_comes_before_a_warning() -> None:
    """Where what fails begins below what is warned of, dbt never warns; a rule must not say so."""
    contract = from_dbt("""
version: 2
models:
  - name: t
    columns:
      - name: a
        data_tests:
          - not_null: {config: {warn_if: "> 10", error_if: "> 5"}}
          - unique: {config: {warn_if: "> 10"}}
          - accepted_values: {values: [1], config: {warn_if: "> 2", severity: warn}}
""")
    assert contract.rules["t"] == (
        {"not_null": {"columns": "a", "max_failures": 5}},
        {"unique": "a"},
        {"in_set": {"column": "a", "values": [1], "action": "warn", "warn_above": 2}},
    )
    report = lp.check(pl.DataFrame({"a": [1, 2, 2, 2, None]}), contract.rules["t"])
    assert [c.status for c in report.checks] == ["warn", "fail", "warn"]


def test_values_that_are_no_text_are_noted_where_dbt_puts_them_in_quotes() -> None:
    test = {"accepted_values": {"values": [1, 2]}}
    (note,) = from_dbt(model(test, column="c")).notes
    assert note.what == "the test accepted_values"
    assert note.why == "what is no text is compared as it is, dbt puts it in quotes: do that where the column is text"
    for values, quote in ((["1", "2"], None), ([1, 2], False)):
        said = {"values": values} | ({} if quote is None else {"quote": quote})
        assert not from_dbt(model({"accepted_values": said}, column="c")).notes
