"""Contracts that are written: valid by the standard's schema, and read back as they were."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lazypipe import gates
from lazypipe.contracts import Column, Contract, from_odcs, to_odcs
from lazypipe.contracts.odcs_export import normalised
from lazypipe.errors import DefinitionError
from lazypipe.spec.loader import dump
from lazypipe.spec.model import Fault, Step, freeze
from tests.scenarios.test_processes import RULES as REGISTRY

DATA = Path(__file__).parent / "data"
STANDARD = jsonschema.Draft201909Validator(json.loads((DATA / "odcs-json-schema-v3.1.0.json").read_text()))
COLUMNS = {
    "a": Column("Int64", ("pii", "key"), "A number."),
    "b": Column("Decimal(10, 2)"),
    "s": Column("String"),
    'it\'s "odd"': Column("String", ("restricted",)),
    "t": Column("Datetime(us, Europe/Berlin)"),
    "d": Column("Date"),
    "l": Column("List(Struct(x: Int8, y: List(Date)))"),
    "bin": Column("Binary"),
    "unknown": Column(),
}


def export(*rules: Mapping[str, Any], columns: Mapping[str, Column] = COLUMNS, table: str = "orders") -> dict[str, Any]:
    """The only table of a contract; it is valid, and says the same when it is read."""
    contract = Contract("shop", {table: rules}, {table: columns})
    written = to_odcs(contract)
    assert_standard(written)
    for text in (json.dumps(written), dump(written) + "\n"):
        read = from_odcs(text)
        assert read.columns == {table: columns}
        assert same(read.rules[table]) == same(rules)
        assert all(f.what == "the type" for f in read.unmapped)
        assert not read.notes
    (found,) = written["schema"]
    return found


SEEN: set[str] = set()


def assert_standard(written: Mapping[str, Any]) -> None:
    """The standard's schema takes it: each property is looked at once, as none is judged by its neighbours, and that takes a tenth of a second."""
    tables = [
        {**table, "properties": [p for p in table["properties"] if json.dumps(p) not in SEEN]}
        for table in written["schema"]
    ]
    STANDARD.validate({**written, "schema": tables})
    SEEN.update(json.dumps(p) for table in tables for p in table["properties"])


def same(rules: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Rules without their order, with those that check column by column apart."""
    out: Counter[str] = Counter()
    for rule in map(normalised, rules):
        columns = rule.get("not_null")
        for each in [{"not_null": c} for c in columns] if isinstance(columns, list) else [rule]:
            out[json.dumps(each, sort_keys=True)] += 1
    return out


def prop(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {k: v for p in table["properties"] if p["name"] == name for k, v in p.items() if k in SAID}


SAID = ("required", "unique", "primaryKey", "primaryKeyPosition", "logicalTypeOptions", "quality", "relationships")


def test_the_head() -> None:
    contract = Contract("shop", {"orders": ()}, {"orders": {}}, description="Sales.")
    assert to_odcs(contract, version="2.1", status="draft", id="x-1") == {
        "version": "2.1",
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "x-1",
        "name": "shop",
        "status": "draft",
        "description": {"purpose": "Sales."},
        "schema": [{"name": "orders", "logicalType": "object"}],
    }
    assert from_odcs(to_odcs(contract)) == contract
    assert to_odcs(contract)["id"] == "shop"


def test_columns() -> None:
    table = export()
    assert [p["name"] for p in table["properties"]] == list(COLUMNS)
    assert table["properties"][0] == {
        "name": "a",
        "logicalType": "integer",
        "physicalType": "Int64",
        "description": "A number.",
        "tags": ["pii", "key"],
        "logicalTypeOptions": {"format": "i64"},
    }
    assert table["properties"][6] == {
        "name": "l",
        "logicalType": "array",
        "physicalType": "List(Struct(x: Int8, y: List(Date)))",
        "items": {
            "logicalType": "object",
            "physicalType": "Struct(x: Int8, y: List(Date))",
            "properties": [
                {"name": "x", "logicalType": "integer", "physicalType": "Int8", "logicalTypeOptions": {"format": "i8"}},
                {
                    "name": "y",
                    "logicalType": "array",
                    "physicalType": "List(Date)",
                    "items": {"logicalType": "date", "physicalType": "Date"},
                },
            ],
        },
    }
    assert table["properties"][7] == {"name": "bin", "physicalType": "Binary"}
    assert table["properties"][8] == {"name": "unknown"}


@pytest.mark.parametrize(
    ("rule", "name", "said"),
    [
        ({"not_null": "a"}, "a", {"required": True}),
        ({"not_null": {"columns": ["a"], "action": "fail"}}, "a", {"required": True}),
        ({"unique": ["s"]}, "s", {"unique": True}),
        ({"primary_key": "s"}, "s", {"primaryKey": True, "primaryKeyPosition": 1}),
        ({"regex": {"column": "s", "pattern": "^a"}}, "s", {"logicalTypeOptions": {"pattern": "^a"}}),
        ({"length_between": {"column": "s", "max": 3}}, "s", {"logicalTypeOptions": {"maxLength": 3}}),
        ({"format": {"column": "s", "is": "iban"}}, "s", {"logicalTypeOptions": {"format": "iban"}}),
        ({"between": {"column": "b", "min": 0, "max": 9, "closed": "none"}}, "b", {"logicalTypeOptions": {"exclusiveMinimum": 0, "exclusiveMaximum": 9}}),
        ({"between": {"column": "d", "min": date(2020, 1, 1)}}, "d", {"logicalTypeOptions": {"minimum": "2020-01-01"}}),
        ({"multiple_of": {"column": "b", "of": 0.05}}, "b", {"logicalTypeOptions": {"multipleOf": 0.05}}),
        (
            {"not_null": {"columns": "a", "max_failures": 3, "id": "n", "description": "d", "tags": "x", "owner": "me", "action": "quarantine"}},
            "a",
            {"quality": [{"type": "library", "metric": "nullValues", "mustBeLessOrEqualTo": 3, "name": "n", "description": "d", "tags": ["x"], "customProperties": [{"property": "action", "value": "quarantine"}, {"property": "owner", "value": "me"}]}]},
        ),
        (
            {"in_set": {"column": "s", "values": ["x", "y"], "max_failures": "0.5%", "action": "warn"}},
            "s",
            {"quality": [{"type": "library", "metric": "invalidValues", "arguments": {"validValues": ["x", "y"]}, "mustBeLessOrEqualTo": 0.5, "unit": "percent", "severity": "warning"}]},
        ),
        ({"not_in_set": {"column": "s", "values": ["n/a"]}}, "s", {"quality": [{"type": "library", "metric": "missingValues", "arguments": {"missingValues": ["n/a"]}, "mustBe": 0}]}),
        ({"unique": {"columns": "a", "id": "key"}}, "a", {"quality": [{"type": "library", "metric": "duplicateValues", "mustBe": 0, "name": "key"}]}),
        ({"regex": {"column": "s", "pattern": "b", "max_failures": "5%"}}, "s", {"quality": [{"type": "library", "metric": "invalidValues", "arguments": {"pattern": "b"}, "mustBeLessOrEqualTo": 5, "unit": "percent"}]}),
    ],
)  # fmt: skip
def test_rules_of_a_property(rule: Mapping[str, Any], name: str, said: Mapping[str, Any]) -> None:
    table = export(rule)
    assert "quality" not in table
    own = {k: v for k, v in said.items() if k != "logicalTypeOptions"}
    found = prop(table, name)
    assert {k: v for k, v in found.items() if k != "logicalTypeOptions"} == own
    assert found.get("logicalTypeOptions", {}).items() >= said.get("logicalTypeOptions", {}).items()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"unique": ["a", "b"]}, {"type": "library", "metric": "duplicateValues", "arguments": {"properties": ["a", "b"]}, "mustBe": 0}),
        ({"row_count": {"equals": 3}}, {"type": "library", "metric": "rowCount", "mustBe": 3}),
        ({"row_count": {"min": 3, "where": "a > 1"}}, {"type": "sql", "query": "SELECT COUNT(*) FROM {object} WHERE a > 1", "mustBeGreaterOrEqualTo": 3}),
        ({"expression": {"condition": "a > 1", "max_failures": 2}}, {"type": "sql", "query": "SELECT COUNT(*) FROM {object} WHERE NOT (a > 1)", "mustBeLessOrEqualTo": 2}),
    ],
)  # fmt: skip
def test_rules_of_a_table(rule: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    assert export(rule)["quality"] == [said]


def test_a_range_of_rows_is_two_checks_and_one_rule() -> None:
    table = export({"row_count": {"min": 1, "max": 5, "id": "n"}})
    assert [list(check) for check in table["quality"]] == [
        ["type", "metric", "mustBeGreaterOrEqualTo", "name"],
        ["type", "metric", "mustBeLessOrEqualTo", "name"],
    ]
    # more of them would be read as one
    table = export({"row_count": {"min": 1}}, {"row_count": {"max": 5}})
    assert [check["type"] for check in table["quality"]] == ["library", "custom"]


def test_relationships() -> None:
    rules = (
        {"foreign_key": {"columns": ["a"], "references": {"to": "u", "columns": ["id"]}}},
        {"foreign_key": {"columns": ["a", "b"], "references": {"to": "u", "columns": ["id", "b"]}}},
        {"foreign_key": {"column": "a", "references": {"to": "u"}}},
        {"foreign_key": {"column": "a", "references": {"to": "u", "column": "c"}, "id": "x"}},
        {"foreign_key": {"column": 'it\'s "odd"', "references": {"to": "u", "column": "c"}}},
        {"foreign_key": {"column": "a", "references": {"to": "s3://bucket/u", "column": "c"}}},
    )
    table = export(*rules)
    assert table["relationships"] == [
        {"type": "foreignKey", "from": ["orders.a"], "to": ["u.id"]},
        {"type": "foreignKey", "from": ["orders.a", "orders.b"], "to": ["u.id", "u.b"]},
        {"type": "foreignKey", "from": ["orders.a"], "to": ["u.a"]},
    ]
    assert len(table["quality"]) == 3


def test_freshness_is_an_agreement() -> None:
    contract = Contract(
        "shop",
        {
            "orders": (
                {"freshness": {"column": "t", "within": "1.5h", "description": "Hourly."}},
                {"freshness": {"column": "t", "within": "2d", "id": "x"}},
            )
        },
        {"orders": COLUMNS},
    )
    written = to_odcs(contract)
    STANDARD.validate(written)
    assert written["slaProperties"] == [
        {"property": "freshness", "value": 1.5, "unit": "h", "element": "orders.t", "description": "Hourly."}
    ]
    assert written["schema"][0]["quality"][0]["type"] == "custom"
    assert same(from_odcs(written).rules["orders"]) == same(contract.rules["orders"])


@pytest.mark.parametrize(
    "rule",
    [
        {"positive": "a"},
        {"not_null": {"columns": "a", "where": "b > 1"}},
        {"not_null": {"columns": "a", "warn_above": 1}},
        {"not_null": {"columns": "a", "fail_above": "3%"}},
        {"not_null": "elsewhere"},
        {"unique": {"columns": "a", "max_failures": 3}},
        {"primary_key": {"columns": "a", "id": "x"}},
        {"between": {"column": "a", "min": 0, "id": "x"}},
        {"between": {"column": "b", "max": float("inf")}},
        {"between": {"column": "unknown", "min": 1}},
        {"json": "s"},
        {"is_type": {"column": "s", "type": "Date"}},
        {"regex": {"column": "s", "pattern": "a", "where": "a > 1"}},
        {"row_count": {"same_as": "u"}},
        {"row_count": {"min": 1, "by": "a"}},
        {"expression": {"condition": "a > :least"}},
        {"expression": {"condition": "a > 1", "where": "b > 1"}},
        {"my_own": {"thing": [1, "x", None, {"y": True}], "where": "a\nb"}},
        {"my_own": None},
        {"foreign_key": {"column": "a", "references": {"to": "u.v", "column": "c"}}},
        {"freshness": {"column": "t", "within": ":age"}},
    ],
)
def test_other_rules_are_custom_checks(rule: Mapping[str, Any]) -> None:
    table = export(rule)
    (check,) = table["quality"]
    assert (check["type"], check["engine"]) == ("custom", "lazypipe")
    assert yaml.safe_load(check["implementation"]) is not None


def test_two_rules_that_would_be_one_stay_two() -> None:
    table = export(
        {"between": {"column": "a", "min": 0}},
        {"between": {"column": "a", "max": 5}},
        {"not_null": "a"},
        {"not_null": "a"},
        {"primary_key": "a"},
        {"primary_key": "s"},
        {"multiple_of": {"column": "a", "of": 2}},
    )
    assert prop(table, "a") == {
        "logicalTypeOptions": {"format": "i64", "minimum": 0, "multipleOf": 2},
        "required": True,
        "quality": [{"type": "library", "metric": "nullValues", "mustBe": 0}],
        "primaryKey": True,
        "primaryKeyPosition": 1,
    }
    assert [yaml.safe_load(c["implementation"]) for c in table["quality"]] == [
        {"between": {"column": "a", "max": 5}},
        {"primary_key": "s"},
    ]


def test_what_exists_in_python_only() -> None:
    for value in (pl.col("a") > 1, Decimal("1.5")):
        with pytest.raises(DefinitionError) as caught:
            to_odcs(Contract("x", {"t": ({"expression": {"condition": value}},)}))
        assert (
            str(caught.value)
            == "t: a rule 'expression' holds a value that exists in Python only; write SQL text, numbers or text"
        )
    with pytest.raises(DefinitionError) as caught:
        to_odcs(Contract("x", {}, {"t": {"a": Column("Int65")}}))
    assert str(caught.value).startswith("t.a: unknown type 'Int65'; did you mean")


def test_a_contract_read_from_elsewhere_is_written_again() -> None:
    contract = from_odcs(DATA / "orders.odcs.yaml")
    written = to_odcs(contract)
    STANDARD.validate(written)
    again = from_odcs(written)
    assert again.columns == contract.columns
    for table in contract.tables:
        assert same(again.rules[table]) == same(contract.rules[table])


NAMES = st.sampled_from([*COLUMNS, "elsewhere"])
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=8)
NUMBER = st.integers(-5, 5) | st.floats(-5, 5).map(lambda x: round(x, 3))
COMMON = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXT,
        "description": TEXT,
        "tags": TEXT | st.lists(TEXT, min_size=1, max_size=2),
        "owner": TEXT,
        "action": st.sampled_from(["fail", "warn", "drop", "quarantine"]),
        "where": st.sampled_from(["a > 1", "s = 'NOT (x)'"]),
        "max_failures": st.sampled_from([0, 3, "5%", "0.25%", "100%", "0%"]),
        "warn_above": st.integers(0, 3),
    },
)


def rule(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda own, common: {name: {**own, **common}}, st.fixed_dictionaries(arguments), st.just({}) | COMMON
    )


RULES = st.one_of(
    rule("not_null", columns=NAMES | st.lists(NAMES, min_size=1, max_size=1)),
    rule("unique", columns=st.lists(NAMES, min_size=1, max_size=3, unique=True)),
    rule("primary_key", columns=st.lists(NAMES, min_size=1, max_size=3, unique=True)),
    rule("in_set", column=NAMES, values=st.lists(NUMBER | TEXT | st.booleans(), min_size=1, max_size=3)),
    rule("not_in_set", column=NAMES, values=st.lists(NUMBER | TEXT, min_size=1, max_size=3)),
    rule("between", column=NAMES, min=NUMBER | TEXT, closed=st.sampled_from(["both", "left", "right", "none"])),
    rule("between", column=NAMES, min=st.integers(-5, 0), max=st.integers(1, 5)),
    rule("regex", column=NAMES, pattern=st.sampled_from(["^a+$", "'", "\\d", "x|y"])),
    rule("length_between", column=NAMES, min=st.integers(0, 3)),
    rule("multiple_of", column=NAMES, of=st.integers(1, 5) | st.sampled_from([0.5, 0.01])),
    rule("format", column=NAMES, **{"is": st.sampled_from(["email", "uuid", "url", "luhn"])}),
    rule("row_count", min=st.integers(0, 5)),
    rule("row_count", min=st.integers(0, 5), max=st.integers(5, 9)),
    rule("row_count", equals=st.integers(0, 5)),
    rule("expression", condition=st.sampled_from(["a > 1", "NOT (a > 1)", "a = 1) OR (b = 2", "x IS NULL", "s = 'it''s'", ":p > 1"])),
    rule("foreign_key", column=NAMES, references=st.fixed_dictionaries({"to": st.sampled_from(["u", "orders", "a b"])}, optional={"column": NAMES})),
    rule("freshness", column=NAMES, within=st.sampled_from(["1h", "2.5d", "1w", "0.1s"])),
    rule("quantile", column=NAMES, q=st.floats(0, 1), max=NUMBER),
    rule("custom_thing", anything=st.recursive(st.none() | st.booleans() | NUMBER | TEXT, lambda x: st.lists(x, max_size=2))),
)  # fmt: skip


@settings(max_examples=settings().max_examples * 4 // 5)
@given(rules=st.lists(RULES, max_size=6))
def test_round_trip(rules: list[dict[str, Any]]) -> None:
    export(*rules)


def test_the_standard_knows_the_words_of_all_rules_that_are_written_with_it() -> None:
    from lazypipe.contracts.odcs_export import _WRITERS

    assert set(_WRITERS) <= set(gates.names())
    step = Step("not_null", freeze({"columns": "a"}))
    assert gates.rule(step).to_step().to_dict() == {"not_null": ["a"]}


@pytest.mark.parametrize("name", gates.names())
def test_every_rule_of_the_registry_survives(name: str) -> None:
    """Rules as values, not as texts; with arguments that all have, as far as each takes them."""
    own = REGISTRY[name]
    long = (
        own
        if isinstance(own, dict) and name != "schema"
        else {"columns" if name == "schema" else _shorthand(name): own}
    )
    seen = 0

    @settings(max_examples=settings().max_examples // 5)
    @given(COMMON)
    def survives(common: dict[str, Any]) -> None:
        nonlocal seen
        try:
            rule = gates.rule(Step(name, freeze({**long, **common})))
        except Fault:  # a whole frame cannot be quarantined
            return
        seen += 1
        written = to_odcs(Contract("shop", {"orders": (rule.to_step().to_dict(),)}, {"orders": COLUMNS}))
        read = from_odcs(json.dumps(written))
        assert [f.what for f in read.unmapped] == ["the type"]  # of the column whose type is unknown
        assert not read.notes
        assert [gates.rule(Step(*next(iter(freeze(each).items())))) for each in read.rules["orders"]] == [rule]

    survives()
    assert seen


def _shorthand(name: str) -> str:
    return {"expression": "condition", "json": "column", "in_past": "column", "in_future": "column"}.get(
        name, "columns"
    )
