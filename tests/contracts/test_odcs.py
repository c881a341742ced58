"""Contracts of the Open Data Contract Standard: what each part becomes, what is not taken over, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import gates
from lazypipe.contracts import Column, Contract, Finding, from_odcs
from lazypipe.errors import DefinitionError
from lazypipe.spec.model import Step, freeze

DATA = Path(__file__).parent / "data"
STANDARD = jsonschema.Draft201909Validator(json.loads((DATA / "odcs-json-schema-v3.1.0.json").read_text()))
HEAD = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "x", "version": "1", "status": "active"}


def table(*properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {**HEAD, "schema": [{"name": "t", "properties": list(properties), **more}]}


def rules(*properties: Mapping[str, Any], **more: Any) -> tuple[Any, ...]:
    """The rules of a table that the standard allows and from which nothing is missing."""
    written = table(*properties, **more)
    STANDARD.validate(written)
    contract = from_odcs(written)
    assert not contract.unmapped
    for rule in contract.rules["t"]:
        ((name, arguments),) = rule.items()
        gates.rule(Step(name, freeze(arguments)))
    return contract.rules["t"]


def left(*properties: Mapping[str, Any], **more: Any) -> list[str]:
    """What is not taken over."""
    written = table(*properties, **more)
    STANDARD.validate(written)
    contract = from_odcs(written)
    assert contract.rules["t"] == ()
    return [f"{f.what}: {f.why}" for f in contract.unmapped]


def check(column: str = "c", **said: Any) -> dict[str, Any]:
    return {"name": column, "logicalType": "string", "quality": [said]}


def wrong(data: Mapping[str, Any] | str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        from_odcs(data)
    return [str(p) for p in caught.value.problems]


def test_a_whole_contract() -> None:
    path = DATA / "orders.odcs.yaml"
    STANDARD.validate(yaml.safe_load(path.read_text()))
    contract = from_odcs(path)
    assert contract.name == "orders"
    assert contract.description == "Orders of the web shop, for reports."
    assert contract.tables == ("customers", "orders")
    assert contract.rules["customers"] == (
        {"length_between": {"column": "country", "min": 2, "max": 2}},
        {"regex": {"column": "country", "pattern": "^[A-Z]{2}$"}},
        {"primary_key": "customer_id"},
    )
    assert contract.rules["orders"] == (
        {"not_null": "order_id"},
        {"unique": "order_id"},
        {"format": {"column": "order_id", "is": "uuid"}},
        {"between": {"column": "line", "min": 1}},
        {"not_null": "customer_id"},
        {"length_between": {"column": "email", "max": 254}},
        {"format": {"column": "email", "is": "email"}},
        {
            "expression": {
                "condition": "\"email\" IS NOT NULL AND \"email\" NOT IN ('', 'n/a')",
                "id": "email_known",
                "tags": ["contact"],
                "action": "warn",
                "max_failures": "4.999999999999%",
            }
        },
        {"between": {"column": "amount", "min": 0, "max": 100000, "closed": "left"}},
        {"multiple_of": {"column": "amount", "of": 0.01}},
        {"not_null": {"columns": "amount", "description": "Few amounts are open.", "max_failures": 10}},
        {"mean": {"column": "amount", "min": 10, "max": 500}},
        {"in_set": {"column": "status", "values": ["new", "paid", "sent"], "owner": "sales", "action": "quarantine"}},
        {"between": {"column": "ordered_at", "min": "2020-01-01T00:00:00"}},
        {"parseable": {"column": "due", "as": "date", "format": "%d.%m.%Y"}},
        {"length_between": {"column": "labels", "min": 1, "max": 5}},
        {"expression": 'ARRAY_LENGTH(ARRAY_UNIQUE("labels")) = ARRAY_LENGTH("labels")'},
        {"primary_key": ["order_id", "line"]},
        {"row_count": {"min": 1}},
        {"unique": ["customer_id", "ordered_at"]},
        {"expression": "NOT (amount < 0 AND status = 'sent')"},
        {"between": {"column": "amount", "max": 9000, "max_failures": "1%", "where": '"amount" IS NOT NULL'}},
        {"increasing": {"column": "line", "by": "order_id", "order_by": "line"}},
        {
            "foreign_key": {
                "column": "customer_id",
                "references": {"to": "customers", "column": "customer_id"},
            }
        },
        {"foreign_key": {"column": "country", "references": {"to": "countries", "column": "code"}}},
        {
            "foreign_key": {
                "columns": ["customer_id", "country"],
                "references": {"to": "customers", "columns": ["customer_id", "country"]},
            }
        },
        {"freshness": {"column": "ordered_at", "within": "36h", "description": "Loaded nightly."}},
    )
    assert {name: column.dtype for name, column in contract.columns["orders"].items()} == {
        "order_id": "String",
        "line": "Int16",
        "customer_id": "Int64",
        "country": "String",
        "email": "String",
        "amount": "Decimal(10, 2)",
        "status": "String",
        "ordered_at": "Datetime(us, Europe/Berlin)",
        "due": "String",
        "address": "Struct(street: String, zip code: String)",
        "labels": "List(String)",
        "place": None,
    }
    assert contract.columns["orders"]["email"] == Column("String", ("pii", "restricted"))
    assert [str(f).removeprefix(str(path)) for f in contract.unmapped] == [
        ":100:13: orders.address: required of the field 'zip code' of a struct: rules look at columns; unnest it in a stage first",
        ":100:13: orders.address: maxLength of the field 'zip code' of a struct: rules look at columns; unnest it in a stage first",
        ":105:9: orders.place: the type 'geography': no type is known by that, so no type of the table is declared",
        ":112:9: orders: 'Amounts are without tax.': it is text for people; write a rule that checks it",
        ":114:21: orders: a query: only an aggregate of the table's own rows has a rule; write a stage for it",
        ":115:9: orders: a check of soda: only that engine can read it",
        ":127:5: the agreement on availability: no rule on rows can show it",
    ]
    assert [f.what for f in contract.notes] == ["mustBeBetween: [10, 500]"]


def test_the_contract_runs() -> None:
    contract = from_odcs(DATA / "orders.odcs.yaml")
    at = datetime(2024, 5, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "order_id": ["6b7e1b3c-1c1b-4d4e-9f5a-1d2f3a4b5c6d"] * 2,
            "line": [1, 2],
            "customer_id": [1, 1],
            "country": ["DE", None],
            "email": ["a@example.org", "n/a"],
            "amount": ["5.00", "-1.00"],
            "status": ["new", "sent"],
            "ordered_at": [at, at + timedelta(days=1)],
            "due": ["31.12.2024", "2024-12-31"],
            "labels": [["a"], ["b", "b"]],
        },
        schema_overrides={"line": pl.Int16, "ordered_at": pl.Datetime("us", "Europe/Berlin")},
    ).with_columns(pl.col("amount").cast(pl.Decimal(10, 2)))
    others = {
        "customers": pl.DataFrame({"customer_id": [1], "country": ["DE"]}),
        "countries": pl.DataFrame({"code": ["DE"]}),
    }
    report = lp.check(frame, contract.rules["orders"], now=at + timedelta(days=10), **others)
    assert {c.id: c.failed for c in report.checks if c.status != "pass"} == {
        "unique:order_id": 2,
        "email_known": 1,
        "between:amount#1": 1,
        "format:email": 1,
        "mean:amount": 1,
        "parseable:due": 1,
        'expression:ARRAY_LENGTH(ARRAY_UNIQUE("labels")) = ARRAY_LENGTH("labels")': 1,
        "expression:NOT (amount < 0 AND status = 'sent')": 1,
        "freshness:ordered_at": 1,
    }


PAYMENTS = 1_000_001  # the full example asks for more than a million


@pytest.fixture(scope="module")
def full() -> Contract:
    """The standard's own full example, as it stands in its repository."""
    return from_odcs(DATA / "full-example.odcs.yaml")


def test_the_full_example_of_the_standard(full: Contract) -> None:
    """Each part that speaks of rows is a rule; what does not is listed, as is the table that the example does not have."""
    text = (DATA / "full-example.odcs.yaml").read_text()
    STANDARD.validate(yaml.safe_load(text))
    assert full.columns["tbl"]["txn_ref_dt"] == Column("Date", ("public",), "Reference date for transaction")
    assert {t: {c: column.dtype for c, column in columns.items()} for t, columns in full.columns.items()} == {
        "tbl": {"txn_ref_dt": "Date", "rcvr_id": "String", "rcvr_cntry_code": "String"},
        "receivers": dict.fromkeys(("id", "country_code", "receiver_name", "receiver_type"), "String"),
    }
    assert [f"{f.where and f.where.line}: {f.what}: {f.why}" for f in full.unmapped] == [
        "257: the agreement on latency: the contract has no table 'tab1'; known tables: receivers, tbl",
        *(
            f"{line}: the agreement on {what}: no rule on rows can show it"
            for line, what in (
                (258, "generalAvailability"),
                (260, "endOfSupport"),
                (262, "endOfLife"),
                (264, "retention"),
                (268, "frequency"),
                (273, "timeOfAvailability"),
                (277, "timeOfAvailability"),
            )
        ),
    ]
    assert full.rules["tbl"][2] == {
        "row_count": {"min": PAYMENTS, "description": "Ensure row count is within expected volume range"}
    }
    assert {f.what.split()[0] for f in full.notes} == {"schedule", "scheduler", "custom"}


def payments(rows: int = PAYMENTS) -> pl.DataFrame:
    """Rows that keep every rule of the full example: receiver i is of country i % 3."""
    at = pl.int_range(rows, eager=True)
    country = pl.Series(["DE", "FR", "US"]).gather(at % 3)
    return pl.DataFrame({"rcvr_id": "r" + at.cast(pl.String), "rcvr_cntry_code": country})


def receivers(rows: int = PAYMENTS) -> pl.DataFrame:
    return payments(rows).select(
        id="rcvr_id", country_code="rcvr_cntry_code", receiver_name=pl.lit("n"), receiver_type=pl.lit("business")
    )


TYPES = pl.DataFrame({"type_code": ["business", "individual"]})


def replaced(column: str, value: Any, rows: list[int]) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()).is_in(rows)).then(pl.lit(value)).otherwise(column).alias(column)


FEW = {"row_count": 1}


@pytest.mark.parametrize(
    ("change", "rows", "failed"),
    [
        ([], PAYMENTS, {}),
        ([replaced("rcvr_cntry_code", None, [1, 5, 8])], 9, {**FEW, "not_null:rcvr_cntry_code": 3}),
        # r0 stands three times, always with its own country
        ([replaced("rcvr_id", "r0", [3, 6])], 9, {**FEW, "primary_key:rcvr_id:unique": 3}),
        ([replaced("rcvr_id", None, [2, 4])], 9, {**FEW, "primary_key:rcvr_id:not_null": 2}),
        (
            [replaced("rcvr_id", "nobody", [7])],
            9,
            {**FEW, "foreign_key:rcvr_id": 1, "foreign_key:rcvr_id,rcvr_cntry_code": 1},
        ),
        ([replaced("rcvr_cntry_code", "XX", [7, 8])], 9, {**FEW, "foreign_key:rcvr_id,rcvr_cntry_code": 2}),
    ],
    ids=["fits", "country is null", "key twice", "key is null", "no such receiver", "other country"],
)
def test_payments_of_the_full_example(
    full: Contract, change: list[pl.Expr], rows: int, failed: Mapping[str, int]
) -> None:
    report = lp.check(payments(rows).with_columns(change), full.rules["tbl"], receivers=receivers(rows))
    assert {c.id: c.failed for c in report.checks if c.failed} == failed


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ([], {}),
        # both keys fall where a column of theirs does
        ([replaced("id", None, [0])], {"not_null:id": 1, "primary_key:id,country_code:not_null": 1}),
        ([replaced("id", "r0", [3])], {"unique:id": 2, "primary_key:id,country_code:unique": 2}),
        ([replaced("id", "r0", [4])], {"unique:id": 2}),
        (
            [replaced("country_code", None, [1, 2])],
            {"not_null:country_code": 2, "primary_key:id,country_code:not_null": 2},
        ),
        ([replaced("receiver_name", None, [1, 2])], {"not_null:receiver_name": 2}),
        ([replaced("receiver_type", "?", [5])], {"foreign_key:receiver_type": 1}),
        ([replaced("receiver_type", None, [5])], {}),
    ],
)
def test_receivers_of_the_full_example(full: Contract, change: list[pl.Expr], failed: Mapping[str, int]) -> None:
    report = lp.check(receivers(9).with_columns(change), full.rules["receivers"], receiver_types=TYPES)
    assert {c.id: c.failed for c in report.checks if c.failed} == failed


def test_a_definition_takes_the_yaml(tmp_path: Path) -> None:
    contract = from_odcs(table({"name": "a", "logicalType": "integer", "required": True, "tags": ["pii"]}))
    source = {"uri": "a.csv", **yaml.safe_load(contract.to_yaml("t"))}
    pipe = lp.Pipeline.from_yaml(
        yaml.safe_dump({"version": 1, "name": "p", "sources": {"t": source}, "outputs": {"t": {"to": str(tmp_path)}}})
    )
    assert [c.id for c in pipe.compile().nodes["t"].checks] == ["not_null:a"]
    assert pipe.compile().schema("t") == {"a": pl.Int64()}


# types


@pytest.mark.parametrize(
    ("said", "dtype"),
    [
        ({"logicalType": "string"}, "String"),
        ({"logicalType": "integer"}, "Int64"),
        ({"logicalType": "integer", "logicalTypeOptions": {"format": "u128"}}, "UInt128"),
        ({"logicalType": "integer", "physicalType": "smallint"}, "Int16"),
        ({"logicalType": "number", "logicalTypeOptions": {"format": "f32"}}, "Float32"),
        ({"logicalType": "number"}, "Float64"),
        ({"logicalType": "boolean"}, "Boolean"),
        ({"logicalType": "date"}, "Date"),
        ({"logicalType": "time"}, "Time"),
        ({"logicalType": "timestamp"}, "Datetime(us)"),
        ({"logicalType": "timestamp", "physicalType": "DATETIME", "logicalTypeOptions": {"timezone": True}}, "Datetime(us, UTC)"),
        ({"logicalType": "timestamp", "physicalType": "Datetime(ns)"}, "Datetime(ns)"),
        ({"physicalType": "Int8"}, "Int8"),
        ({"physicalType": "INT8"}, "Int64"),
        ({"logicalType": "array", "items": {"logicalType": "array", "items": {"logicalType": "date"}}}, "List(List(Date))"),
        ({"logicalType": "object", "properties": [{"name": 'a"b', "logicalType": "date"}]}, r'Struct("a\"b": Date)'),
    ],
)  # fmt: skip
def test_types(said: Mapping[str, Any], dtype: str) -> None:
    written = table({"name": "c", **said})
    STANDARD.validate(written)
    contract = from_odcs(written)
    assert contract.columns["t"]["c"].dtype == dtype
    assert not contract.unmapped


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({}, "the type: the contract does not say it, so no type of the table is declared"),
        ({"logicalType": "array"}, "the type 'array': no type is known by that, so no type of the table is declared"),
        (
            {"logicalType": "array", "items": {}},
            "the type: the contract does not say it, so no type of the table is declared",
        ),
        (
            {"logicalType": "object", "properties": [{"name": "x"}]},
            "the type: the contract does not say it, so no type of the table is declared",
        ),
        (
            {"physicalType": "geography"},
            "the type 'geography': no type is known by that, so no type of the table is declared",
        ),
    ],
)
def test_unknown_types(said: Mapping[str, Any], what: str) -> None:
    assert what in left({"name": "c", **said})
    assert "contract" not in from_odcs(table({"name": "c", **said})).source("t")


# options


@pytest.mark.parametrize(
    ("logical", "options", "found"),
    [
        ("string", {"minLength": 1}, [{"length_between": {"column": "c", "min": 1}}]),
        ("string", {"pattern": "^a"}, [{"regex": {"column": "c", "pattern": "^a"}}]),
        ("string", {"format": "ipv6"}, [{"format": {"column": "c", "is": "ipv6"}}]),
        ("string", {"format": "uri"}, [{"format": {"column": "c", "is": "url"}}]),
        ("integer", {"minimum": 1, "maximum": 5}, [{"between": {"column": "c", "min": 1, "max": 5}}]),
        ("integer", {"exclusiveMinimum": 1, "maximum": 5}, [{"between": {"column": "c", "min": 1, "max": 5, "closed": "right"}}]),
        ("number", {"exclusiveMinimum": 1, "exclusiveMaximum": 5}, [{"between": {"column": "c", "min": 1, "max": 5, "closed": "none"}}]),
        ("number", {"exclusiveMaximum": 5}, [{"between": {"column": "c", "max": 5, "closed": "left"}}]),
        (
            "number",
            {"minimum": 1, "exclusiveMinimum": 0, "maximum": 4, "exclusiveMaximum": 5},
            [
                {"between": {"column": "c", "min": 1, "max": 4}},
                {"between": {"column": "c", "min": 0, "closed": "right"}},
                {"between": {"column": "c", "max": 5, "closed": "left"}},
            ],
        ),
        ("date", {"minimum": "2020-01-01", "format": "yyyy"}, [{"between": {"column": "c", "min": "2020-01-01"}}]),
        ("integer", {"multipleOf": 5}, [{"multiple_of": {"column": "c", "of": 5}}]),
        ("array", {"maxItems": 5, "uniqueItems": False}, [{"length_between": {"column": "c", "max": 5}}]),
    ],
)  # fmt: skip
def test_options(logical: str, options: Mapping[str, Any], found: list[Any]) -> None:
    physical = {"physicalType": "List(Int8)"} if logical == "array" else {}
    written = {"name": "c", "logicalType": logical, "logicalTypeOptions": options, **physical}
    assert list(rules(written)) == found


def test_options_without_a_logical_type() -> None:
    contract = from_odcs(
        table({"name": "c", "physicalType": "text", "logicalTypeOptions": {"maxLength": 3, "minimum": "a"}})
    )
    assert contract.rules["t"] == (
        {"length_between": {"column": "c", "max": 3}},
        {"between": {"column": "c", "min": "a"}},
    )


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"logicalType": "string", "logicalTypeOptions": {"pattern": "(?!a)b"}}, "pattern '(?!a)b': look-around and back references are not known here"),
        ({"logicalType": "string", "logicalTypeOptions": {"format": "password"}}, "format 'password': no rule knows it"),
        ({"logicalType": "object", "physicalType": "Struct(a: Int8)", "logicalTypeOptions": {"minProperties": 1}}, "minProperties: a struct has the fields of its type, always"),
        ({"logicalType": "date", "physicalType": "text", "logicalTypeOptions": {"format": "QQQ"}}, "format 'QQQ': strftime has no such format"),
    ],
)  # fmt: skip
def test_options_without_a_rule(said: Mapping[str, Any], what: str) -> None:
    assert left({"name": "c", **said}) == [what]


def later(*properties: Mapping[str, Any], version: str = "v3.2.0", **more: Any) -> dict[str, Any]:
    head = {k: v for k, v in table(*properties, **more).items() if k != "status"}  # which v3.2 does not ask for
    return {**head, "apiVersion": version}


def test_an_enum_is_a_set_of_values() -> None:
    values = [{"value": "new", "label": "New"}, {"value": "paid"}]
    contract = from_odcs(later({"name": "c", "logicalType": "string", "required": True, "enum": values}))
    assert contract.rules["t"] == ({"not_null": "c"}, {"in_set": {"column": "c", "values": ["new", "paid"]}})
    assert not contract.unmapped
    assert not contract.notes
    report = lp.check(pl.DataFrame({"c": ["new", "sent", None, "paid"]}), contract.rules["t"])
    assert report.failed == {"not_null:c": 1, "in_set:c": 1}
    assert wrong(later({"name": "c", "enum": [{"label": "New"}]})) == [
        "schema[0].properties[0].enum[0]: 'value' is missing; add value: it must be text, a number, or true or false"
    ]


@pytest.mark.parametrize(
    ("said", "dtype"),
    [
        ({"logicalType": "map", "physicalType": "MAP<STRING, INT>", "map": {"key": {"logicalType": "string"}, "value": {"logicalType": "integer"}}}, "Map(String, Int64)"),
        ({"logicalType": "map", "map": {"key": {"logicalType": "string"}, "value": {"logicalType": "array", "items": {"logicalType": "number"}}}}, "Map(String, List(Float64))"),
        ({"logicalType": "vector", "physicalType": "vector(3)", "logicalTypeOptions": {"dimensions": 3, "elementType": "float32", "normalized": True}}, "Array(Float32, 3)"),
    ],
)  # fmt: skip
def test_types_of_later_versions(said: Mapping[str, Any], dtype: str) -> None:
    contract = from_odcs(later({"name": "c", **said}))
    assert contract.columns["t"]["c"].dtype == dtype
    assert not contract.unmapped


def test_types_of_later_versions_that_do_not_say_all() -> None:
    no_type = later({"name": "v", "logicalType": "vector", "logicalTypeOptions": {"dimensions": 3}})
    assert [f.what for f in from_odcs(no_type).unmapped] == ["the type 'vector'"]
    no_key = {
        "name": "m",
        "logicalType": "map",
        "map": {"key": {}, "value": {"logicalType": "string", "required": True}},
    }
    assert [f.what for f in from_odcs(later(no_key)).unmapped] == [
        "required of a value of a map",
        "the type",
        "the type 'map'",
    ]


def test_what_is_reckoned_is_no_column() -> None:
    contract = from_odcs(
        later(
            {"name": "euros", "logicalType": "number"},
            {"name": "total", "logicalType": "number", "semanticType": "measure", "transformLogic": "SUM(euros)"},
        )
    )
    assert list(contract.columns["t"]) == ["euros"]
    assert [str(f) for f in contract.unmapped] == [
        "t.total: the measure: it is reckoned from the data, which has no such column"
    ]


def test_variables() -> None:
    query = "SELECT COUNT(*) FROM ${TABLE:-t} WHERE {property} > ${LEAST}"
    written = later({"name": "c", "quality": [{"type": "sql", "query": query, "mustBe": 0}]})
    expected = ({"expression": 'NOT ("c" > 5)'},)
    assert from_odcs(written, variables={"LEAST": "5"}).rules["t"] == expected
    assert from_odcs(written, variables={"LEAST": "5", "TABLE": ""}).rules["t"] == expected
    assert wrong(written) == [
        (
            "schema[0].properties[0].quality[0].query: the variable LEAST has no value; set LEAST in the environment, "
            "pass variables={'LEAST': …}, or write ${LEAST:-otherwise}"
        )
    ]
    placeholder = {"type": "sql", "query": "SELECT COUNT(*) FROM ${object} WHERE c > 5", "mustBe": 0}
    assert from_odcs(later(quality=[placeholder])).rules["t"] == ({"expression": "NOT (c > 5)"},)
    # what an older version writes so is text
    older = {"metric": "invalidValues", "arguments": {"validValues": ["${B}"]}, "mustBe": 0}
    assert rules(check(**older)) == ({"in_set": {"column": "c", "values": ["${B}"]}},)


def test_a_version_that_came_later_is_read_with_a_note() -> None:
    new = [
        {"name": "c", "logicalType": "geometry", "required": True, "since": "2027"},
        {"name": "d", "logicalType": "string", "logicalTypeOptions": {"collation": "de"}},
        {"name": "e", "logicalType": "string", "quality": [{"metric": "entropy", "mustBe": 0}]},
        {"name": "f", "logicalType": "string", "quality": [{"metric": "nullValues", "mustBeNear": 0}]},
        {"name": "g", "logicalType": "string", "quality": [{"type": "model"}]},
        {"name": "h", "logicalType": "string", "relationships": [{"type": "friend", "to": "t.c"}]},
    ]
    contract = from_odcs(later(*new, version="v3.7.1"))
    assert [str(n) for n in contract.notes] == [
        "apiVersion 'v3.7.1': it is read as v3.2.0; what is new in it is not known"
    ]
    assert contract.rules["t"] == ({"not_null": "c"},)
    assert [str(f) for f in contract.unmapped] == [
        (
            "t.c: the key 'since': it is not known; known keys: authoritativeDefinitions, businessName, classification, context, "
            "criticalDataElement, customProperties, deprecated, description, encryptedName, enum, examples, id … (35 in all)"
        ),
        "t.c: unknown logical type 'geometry': it may be of a later version of the standard",
        "t.d: unknown option 'collation' of string: it may be of a later version of the standard",
        "t.e: unknown metric 'entropy': it may be of a later version of the standard",
        "t.f: unknown operator 'mustBeNear': it may be of a later version of the standard",
        "t.g: unknown type of quality check 'model': it may be of a later version of the standard",
        "t.h: unknown type of relationship 'friend': it may be of a later version of the standard",
    ]
    assert wrong(later(*new[1:2])) == [
        (
            "schema[0].properties[0].logicalTypeOptions.collation: unknown option 'collation' of string; known options: "
            "format, maxLength, minLength, pattern"
        )
    ]


def test_a_key_that_nobody_knows_is_listed() -> None:
    contract = from_odcs(table({"name": "c", "logicalType": "string", "requried": True}, quallity=[]))
    assert [str(f) for f in contract.unmapped] == [
        "t: the key 'quallity': it is not known; did you mean 'quality'?",
        "t.c: the key 'requried': it is not known; did you mean 'required'?",
    ]


@pytest.mark.parametrize("said", [{"rule": "nullCheck"}, {"rule": "nulls", "mustBe": 0}, {"rule": "duplicateCount"}])
def test_rules_of_v3_0_that_say_nothing_are_listed(said: Mapping[str, Any]) -> None:
    contract = from_odcs(table(check(**said)))
    assert [str(f) for f in contract.unmapped] == [
        (
            f"t.c: the rule '{said['rule']}': the standard does not say what it means; "
            "write a metric, with an operator such as mustBe: 0"
        )
    ]


# library metrics

NAMES = ("mustBe", "mustNotBe", "mustBeGreaterThan", "mustBeGreaterOrEqualTo", "mustBeLessThan", "mustBeLessOrEqualTo")
COMPARE: dict[str, Any] = {
    "mustBe": lambda a, b: a == b,
    "mustNotBe": lambda a, b: a != b,
    "mustBeGreaterThan": lambda a, b: a > b,
    "mustBeGreaterOrEqualTo": lambda a, b: a >= b,
    "mustBeLessThan": lambda a, b: a < b,
    "mustBeLessOrEqualTo": lambda a, b: a <= b,
    "mustBeBetween": lambda a, b: b[0] <= a <= b[1],
    "mustNotBeBetween": lambda a, b: not b[0] <= a <= b[1],
}
BAD: dict[str, tuple[dict[str, Any], Any]] = {
    "nullValues": ({}, lambda v: v is None),
    "missingValues": ({"missingValues": [None, "", "n/a"]}, lambda v: v in (None, "", "n/a")),
    "missingValues some": ({"missingValues": ["", "n/a"]}, lambda v: v in ("", "n/a")),
    "missingValues null": ({"missingValues": [None]}, lambda v: v is None),
    "invalidValues": ({"validValues": ["a", "b"]}, lambda v: v is not None and v not in ("a", "b")),
    "invalidValues pattern": ({"pattern": "^[ab]"}, lambda v: v is not None and v[:1] not in ("a", "b")),
    "invalidValues both": ({"validValues": ["a", "n/a"], "pattern": "a$"}, lambda v: v not in (None, "a", "n/a") or (v is not None and v[-1:] != "a")),
}  # fmt: skip


@settings(max_examples=settings().max_examples * 3)
@given(
    metric=st.sampled_from(sorted(BAD)),
    op=st.sampled_from([*NAMES, "mustBeBetween"]),
    number=st.integers(0, 5) | st.floats(0, 5),
    percent=st.booleans(),
    values=st.lists(st.sampled_from(["a", "b", "ab", "ba", "", "n/a", None]), max_size=6),
)
def test_metrics_judge_as_they_say(
    metric: str, op: str, number: float, percent: bool, values: list[str | None]
) -> None:
    arguments, bad = BAD[metric]
    bound: Any = number * 20 if percent else number
    bound = [bound, bound + 1] if op == "mustBeBetween" else bound
    said = {
        "metric": metric.split(maxsplit=1)[0],
        "arguments": arguments,
        op: bound,
        "unit": "percent" if percent else "rows",
    }
    try:
        contract = from_odcs(table(check(**said)))
    except DefinitionError:
        # nothing can be less than nothing, or more than everything
        assert (op == "mustBeLessThan" and bound == 0) or (percent and op == "mustBeGreaterThan" and bound == 100)
        return
    count = sum(map(bad, values))
    value = 100 * count / len(values) if percent and values else count
    if contract.unmapped:
        assert op == "mustNotBe" or not percent or bound in (0, 100) or bound == [100, 101]
        return
    frame = pl.DataFrame({"c": values}, schema={"c": pl.String})
    if percent and not values:
        return  # a part of nothing
    if op == "mustBe" and not percent and number != int(number):
        return
    assert (lp.check(frame, contract.rules["t"]).status != "fail") == COMPARE[op](value, bound)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"mustNotBe": 0}, {"row_count": {"min": 1, "where": '"c" IS NULL'}}),
        ({"mustNotBe": 0, "unit": "percent"}, {"row_count": {"min": 1, "where": '"c" IS NULL'}}),
        ({"mustBe": 3}, {"row_count": {"equals": 3, "where": '"c" IS NULL'}}),
        ({"mustBeBetween": [2, 5]}, {"row_count": {"min": 2, "max": 5, "where": '"c" IS NULL'}}),
        ({"mustBeLessThan": 1, "unit": "percent"}, {"not_null": {"columns": "c", "max_failures": "0.999999999999%"}}),
        ({"mustBeLessThan": 100, "unit": "percent"}, {"not_null": {"columns": "c", "max_failures": "99.999999999999%"}}),
        ({"mustBe": 0, "unit": "percent"}, {"not_null": "c"}),
        ({"mustBe": 50, "unit": "percent"}, {"proportion": {"condition": 'COALESCE("c" IS NULL, FALSE)', "min": 0.5, "max": 0.5}}),
        ({"mustBeGreaterThan": 50, "unit": "percent"}, {"proportion": {"condition": 'COALESCE("c" IS NULL, FALSE)', "min": 0.5000000000000001}}),
    ],
)  # fmt: skip
def test_counts_that_need_some_bad_rows(said: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    assert rules(check(metric="nullValues", **said)) == (found,)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"mustBe": 3}, {"equals": 3}),
        ({"mustNotBe": 0}, {"min": 1}),
        ({"mustBeGreaterThan": 2.5}, {"min": 3}),
        ({"mustBeLessThan": 10}, {"max": 9}),
        ({"mustBeBetween": [1, 5]}, {"min": 1, "max": 5}),
        ({"mustBeBetween": [0, 5]}, {"max": 5}),
        ({"mustBe": 0}, {"equals": 0}),
    ],
)
def test_row_counts(said: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    assert rules(quality=[{"metric": "rowCount", **said}]) == ({"row_count": found},)


def test_two_bounds_that_say_the_same_otherwise_are_one_rule() -> None:
    low, high = {"metric": "rowCount", "mustBeGreaterOrEqualTo": 1}, {"metric": "rowCount", "mustBeLessOrEqualTo": 5}
    assert rules(quality=[low, high]) == ({"row_count": {"min": 1, "max": 5}},)
    assert len(rules(quality=[high, low])) == 2
    assert len(rules(quality=[low, {**high, "name": "x"}])) == 2
    both = {
        **HEAD,
        "schema": [{"name": "t", "quality": [{"metric": "rowCount", "mustBeGreaterThan": 0, "mustBeLessThan": 6}]}],
    }
    assert from_odcs(both).rules["t"] == ({"row_count": {"min": 1, "max": 5}},)


def test_duplicates() -> None:
    assert rules(check(metric="duplicateValues", mustBe=0)) == ({"unique": "c"},)
    keys = {"metric": "duplicateValues", "arguments": {"properties": ["a", "b"]}}
    assert rules(quality=[{**keys, "mustBeLessThan": 10}]) == ({"unique": {"columns": ["a", "b"], "max_failures": 9}},)
    assert from_odcs(table(quality=[{**keys, "mustBeLessThan": 10}])).notes[0].what == "duplicateValues"
    assert rules(check(metric="duplicateValues", mustBeLessOrEqualTo=1, unit="percent")) == (
        {"unique": {"columns": "c", "max_failures": "1%"}},
    )
    assert rules({**check(rule="duplicateCount", metric="duplicateValues", mustBe=0)}) == ({"unique": "c"},)
    assert from_odcs(table(check(rule="duplicateCount", mustBe=0))).rules["t"] == ({"unique": "c"},)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"metric": "duplicateValues", "mustBeGreaterThan": 3}, "duplicateValues of at least 4: no rule asks for duplicates"),
        ({"metric": "duplicateValues", "mustNotBe": 3}, "duplicateValues mustNotBe 3: no rule allows two separate ranges"),
        ({"metric": "duplicateValues", "mustBeGreaterThan": 3, "unit": "percent"}, "duplicateValues in percent: no rule measures it with this operator"),
        ({"metric": "nullValues", "mustNotBe": 3}, "nullValues mustNotBe 3: no rule allows two separate ranges"),
        ({"metric": "nullValues", "mustNotBe": 3, "unit": "percent"}, "nullValues in percent: no rule measures it with this operator"),
        ({"metric": "nullValues", "mustBeLessOrEqualTo": 100, "unit": "percent"}, "nullValues in percent: any part passes it"),
        ({"metric": "nullValues", "mustBeGreaterOrEqualTo": 0}, "a check of a count: any count passes it"),
        ({"metric": "nullValues", "mustNotBeBetween": [1, 2]}, "mustNotBeBetween: [1, 2]: no rule allows two separate ranges"),
        ({"metric": "nullValues", "mustBe": 0, "unit": "bytes"}, "nullValues in bytes: rules count rows, or percent of them"),
        ({"metric": "missingValues", "mustBe": 0}, "missingValues: it does not say which values count as missing"),
        ({"metric": "invalidValues", "mustBe": 0}, "invalidValues: it does not say which values are valid"),
        ({"metric": "invalidValues", "mustBe": 0, "arguments": {"pattern": "(?=a)"}}, "pattern '(?=a)': look-around and back references are not known here"),
        ({"metric": "rowCount", "mustBe": 0}, "rowCount: it counts the rows of a table; write it there"),
        ({"type": "text"}, "'text': it is text for people; write a rule that checks it"),
        ({"type": "custom", "engine": "dbt", "implementation": "unique"}, "a check of dbt: only that engine can read it"),
    ],
)  # fmt: skip
def test_checks_without_a_rule(said: Mapping[str, Any], what: str) -> None:
    assert left(check(**said)) == [what]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"metric": "rowCount", "mustBe": 3, "unit": "percent"}, "rowCount: percent of what?"),
        ({"metric": "rowCount", "mustNotBe": 3}, "rowCount mustNotBe 3: no rule allows two separate ranges"),
        ({"metric": "rowCount", "mustBeGreaterOrEqualTo": 0}, "rowCount: any count passes it"),
        ({"metric": "nullValues", "mustBe": 0}, "nullValues: it is about one column; write it at a property"),
    ],
)
def test_checks_of_a_table_without_a_rule(said: Mapping[str, Any], what: str) -> None:
    assert left(quality=[said]) == [what]


def test_mustnotbe_with_others_has_no_rule() -> None:
    contract = from_odcs(table(quality=[{"metric": "rowCount", "mustNotBe": 3, "mustBeLessThan": 9}]))
    assert contract.unmapped[0].what == "mustNotBe and mustBeLessThan"


def test_what_a_check_says_besides() -> None:
    said = {
        "metric": "nullValues",
        "mustBe": 0,
        "id": "known",
        "severity": "fatal",
        "schedule": "0 20 * * *",
        "scheduler": "cron",
        "customProperties": [{"property": "ticket", "value": 5}],
    }
    contract = from_odcs(table(check(**said)))
    assert contract.rules["t"] == ({"not_null": {"columns": "c", "id": "known"}},)
    assert [f.what for f in contract.notes] == [
        "schedule '0 20 * * *'",
        "scheduler 'cron'",
        "severity 'fatal'",
        "custom property 'ticket'",
    ]


# queries


@pytest.mark.parametrize(
    ("query", "said", "found"),
    [
        ("SELECT COUNT(*) FROM {object}", {"mustBeGreaterThan": 5}, {"row_count": {"min": 6}}),
        ("select count(*) as n from ${table} where {property} is null;", {"mustBeLessThan": 3}, {"expression": {"condition": 'NOT ("c" is null)', "max_failures": 2}}),
        ("SELECT COUNT(*) FROM {object}", {"mustNotBe": 0}, {"row_count": {"min": 1}}),
        ("SELECT COUNT(DISTINCT a) FROM {object}", {"mustNotBe": 0}, {"distinct_count": {"columns": "a", "min": 1}}),
        ("SELECT COUNT(*) FROM {object} WHERE NOT (a < b)", {"mustBe": 0}, {"expression": "a < b"}),
        ("SELECT COUNT(*) FROM {object} WHERE NOT (a) OR NOT (b)", {"mustBe": 0}, {"expression": "NOT (NOT (a) OR NOT (b))"}),
        ("SELECT COUNT(*) FROM shop.t WHERE a = 1", {"mustBe": 4}, {"row_count": {"equals": 4, "where": "a = 1"}}),
        ("SELECT COUNT({property}) FROM {object}", {"mustBeGreaterOrEqualTo": 2}, {"row_count": {"min": 2, "where": '"c" IS NOT NULL'}}),
        ('SELECT COUNT("a""b") FROM {object} WHERE x > 1', {"mustBeGreaterOrEqualTo": 2}, {"row_count": {"min": 2, "where": '(x > 1) AND "a""b" IS NOT NULL'}}),
        ("SELECT COUNT(DISTINCT a) FROM {object}", {"mustBeBetween": [2, 4]}, {"distinct_count": {"columns": "a", "min": 2, "max": 4}}),
        ("SELECT MAX({column}) FROM {model} WHERE a > 1", {"mustBeLessThan": 4}, {"max": {"column": "c", "max": 4, "closed": "left", "where": "a > 1"}}),
        ("SELECT STDDEV({field}) FROM {schema}", {"mustBeGreaterThan": 1, "mustBeLessThan": 4}, {"std": {"column": "c", "min": 1, "max": 4, "closed": "none"}}),
        ("SELECT SUM(x) FROM t", {"mustBeGreaterThan": 1}, {"sum": {"column": "x", "min": 1, "closed": "right"}}),
    ],
)  # fmt: skip
def test_queries(query: str, said: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    assert from_odcs(table(check(type="sql", query=query, **said))).rules["t"] == (found,)


@pytest.mark.parametrize(
    ("query", "said", "why"),
    [
        ("SELECT 1", {"mustBe": 1}, "only an aggregate of the table's own rows"),
        ("SELECT COUNT(*) FROM other", {"mustBe": 1}, "only an aggregate of the table's own rows"),
        ("SELECT COUNT(*) FROM t WHERE a > now()", {"mustBe": 0}, "now would read the machine's clock"),
        ("SELECT COUNT(*) FROM t WHERE a = (SELECT 1)", {"mustBe": 0}, "it holds a query of its own"),
        ("SELECT COUNT(*) FROM t WHERE a = = 1", {"mustBe": 0}, "Polars SQL cannot read it"),
        ("SELECT COUNT(*) FROM t", {"mustBeGreaterOrEqualTo": 0}, "every count passes it, or none"),
        ("SELECT COUNT(*) FROM t", {"mustNotBe": 3}, "no rule is like COUNT with this operator"),
        ("SELECT SUM(a) FROM t", {"mustNotBe": 0}, "no rule is like SUM with this operator"),
        ("SELECT VARIANCE(a) FROM t", {"mustBe": 0}, "no rule is like VARIANCE"),
    ],
)
def test_queries_without_a_rule(query: str, said: Mapping[str, Any], why: str) -> None:
    (found,) = left(quality=[{"type": "sql", "query": query, **said}])
    assert why in found


# custom checks


def test_custom_checks_as_mappings() -> None:
    expect = {"expectation_type": "expect_column_values_to_be_unique", "kwargs": {}}
    custom = {"type": "custom", "engine": "great-expectations", "implementation": expect}
    assert rules(check(**custom)) == ({"unique": "c"},)
    own = {"type": "custom", "engine": "lazypipe", "implementation": {"not_null": "c"}}
    assert rules(quality=[own]) == ({"not_null": "c"},)


def test_custom_checks_note_what_they_lack() -> None:
    odd = {"type": "custom", "engine": "gx", "implementation": "type: expect_something"}
    assert left(check(**odd)) == ["expect_something: it is no core expectation; write an expression"]


# relationships and agreements


@pytest.mark.parametrize(
    ("relation", "why"),
    [
        ({"from": "x.a", "to": "y.b"}, "it is not from this table to one other"),
        ({"from": ["t.a", "t.b"], "to": ["y.b", "z.b"]}, "it is not from this table to one other"),
        ({"from": "t.a", "to": "other.yaml#/schema/x/properties/y"}, "it names nothing in this contract"),
        ({"from": "t.a", "to": "schema/nothing/properties/y"}, "it names nothing in this contract"),
    ],
)
def test_relationships_without_a_rule(relation: Mapping[str, Any], why: str) -> None:
    (found,) = left(relationships=[relation])
    assert found.endswith(why)


def test_relationships_by_id() -> None:
    contract = from_odcs(
        {
            **HEAD,
            "schema": [
                {"name": "t", "id": "t_obj", "properties": [{"name": "A", "physicalName": "a", "id": "a1", "logicalType": "date"}]},
                {"name": "u", "relationships": [{"from": "u.x", "to": "/schema/t_obj/properties/a1"}]},
                {"name": "v", "relationships": [{"from": ["v.x", "v.y"], "to": ["t.A", "t.z"]}]},
            ],
        }
    )  # fmt: skip
    assert contract.rules["u"] == ({"foreign_key": {"column": "x", "references": {"to": "t", "column": "a"}}},)
    assert contract.rules["v"] == (
        {"foreign_key": {"columns": ["x", "y"], "references": {"to": "t", "columns": ["a", "z"]}}},
    )


@pytest.mark.parametrize(
    ("term", "why"),
    [
        ({"property": "retention", "value": 3, "unit": "y"}, "no rule on rows can show it"),
        ({"property": "freshness", "value": 3, "unit": "d"}, "write element: table.column, of a column of times"),
        ({"property": "latency", "value": 3, "unit": "d", "element": "x.c"}, "the contract has no table 'x'; known tables: t"),
        ({"property": "latency", "value": 3, "unit": "d", "element": "t.c, t.c"}, "write element: table.column, of a column of times"),
        ({"property": "latency", "value": 3, "unit": "y", "element": "t.c"}, "write a value and one of the units s, m, h, d, w"),
        ({"property": "latency", "value": "soon", "unit": "d", "element": "t.c"}, "write a value and one of the units s, m, h, d, w"),
    ],
)  # fmt: skip
def test_agreements_without_a_rule(term: Mapping[str, Any], why: str) -> None:
    written = {**table({"name": "c", "logicalType": "date"}), "slaProperties": [term]}
    STANDARD.validate(written)
    (found,) = from_odcs(written).unmapped
    assert found.why == why


def test_the_element_of_an_agreement_may_be_short() -> None:
    """One table needs no name, and there is one for all agreements that name none (the standard had that up to v3.1)."""
    term = {"property": "latency", "value": 2, "unit": "h"}
    expected = ({"freshness": {"column": "c", "within": "2h"}},)
    for more in (
        {"slaProperties": [{**term, "element": "c"}]},
        {"slaProperties": [term], "slaDefaultElement": "t.c"},
        {"slaProperties": [{**term, "element": "t.c"}], "slaDefaultElement": "t.d"},
    ):
        written = {**table({"name": "c", "logicalType": "timestamp"}), **more}
        STANDARD.validate(written)
        assert from_odcs(written).rules["t"] == expected
    two = [{"name": "t"}, {"name": "u"}]
    unclear = {**table(), "schema": two, "slaProperties": [{**term, "element": "c"}]}
    assert from_odcs(unclear).unmapped[0].why == "write element: table.column, of a column of times"


# wrong documents


def test_wrong_documents() -> None:
    assert wrong("- a\n- b\n") == ["<text>:1:1: this is not a valid data contract; it must be a mapping"]
    assert wrong("a: [1\n") == ["<text>:1:4: not YAML: the bracket that opens here is not closed with ']'; close it"]
    assert wrong('{"a": 1') == ["<text>:1:1: not YAML: the bracket that opens here is not closed with '}'; close it"]
    assert wrong("nowhere.yaml") == ["there is no file nowhere.yaml; check the path, or pass the text itself"]
    assert wrong("\n") == ["<text>:1:1: this is not a valid data contract; it must be a mapping"]


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    assert "cannot read" in wrong(str(file))[0]
    assert "cannot read" in wrong(str(tmp_path))[0]


def test_json_files_say_where(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"apiVersion": "v3.1.0",\n "kind": "x"}')
    assert f"{file}:2:2: kind 'x' is not a data contract; write kind: DataContract" in wrong(str(file))
    file.write_text('{"a": }')
    assert wrong(str(file)) == [f"{file}:1:7: not JSON: expecting value"]


def test_the_head() -> None:
    assert wrong("{a: 1}") == [
        "<text>:1:1: 'kind' is missing; add kind: it must be text",
        "<text>:1:1: 'apiVersion' is missing; add apiVersion: it must be text",
        "<text>:1:1: 'version' is missing; add version: it must be text, a number, or true or false",
        "<text>:1:1: 'id' is missing; add id: it must be text, a number, or true or false",
        "<text>:1:1: 'status' is missing; add status: it must be text, a number, or true or false",
        "<text>:1:1: 'schema' is missing; add schema: a list of tables",
    ]
    assert wrong({**table(), "apiVersion": "v2.2.2"}) == [
        "apiVersion: apiVersion 'v2.2.2' cannot be read; migrate it to v3.2.0"
    ]
    assert wrong({**table(), "apiVersion": "v3.1"}) == [
        "apiVersion: apiVersion 'v3.1' cannot be read; did you mean 'v3.1.0'?"
    ]
    assert wrong({**table(), "kind": 5}) == ["kind: kind must be text, not 5"]


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"name": 5}, ["name must be text, not 5"]),
    ({"logicalType": "date"}, ["'name' is missing; add name: it must be text"]),
    ({"name": "c", "logicalType": "text"}, ["unknown logical type 'text'; known logical types: array, boolean, date, integer, map, number, object, string, time, timestamp, vector"]),
    ({"name": "c", "required": "yes"}, ["required must be true or false, not 'yes'"]),
    ({"name": "c", "tags": ["a", 1]}, ["tags must hold texts, not 1"]),
    ({"name": "c", "logicalType": "integer", "logicalTypeOptions": {"format": "x9"}}, ["unknown number format 'x9'; write one such as i32, u64 or f64"]),
    ({"name": "c", "logicalType": "integer", "logicalTypeOptions": {"minLength": 1}}, ["unknown option 'minLength' of integer; known options: exclusiveMaximum, exclusiveMinimum, format, maximum, minimum, multipleOf"]),
    ({"name": "c", "logicalType": "string", "logicalTypeOptions": {"minLength": True}}, ["minLength must be a whole number, not True"]),
    ({"name": "c", "quality": {}}, ["quality must be a list, not a mapping"]),
    ({"name": "c", "quality": ["x"]}, ["quality must hold mappings, not 'x'"]),
    ({"name": "c", "quality": [{"type": "libary", "mustBe": 0}]}, ["unknown type of quality check 'libary'; did you mean 'library'?"]),
    ({"name": "c", "quality": [{"metric": "nullValue", "mustBe": 0}]}, ["unknown metric 'nullValue'; did you mean 'nullValues'?"]),
    ({"name": "c", "quality": [{"mustBe": 0}]}, ["'metric' is missing; add metric: one of nullValues, missingValues, invalidValues, duplicateValues, rowCount"]),
    ({"name": "c", "quality": [{"metric": "nullValues"}]}, ["the check compares with nothing; add an operator such as mustBe: 0"]),
    ({"name": "c", "quality": [{"metric": "nullValues", "mustBeLess": 1}]}, ["unknown operator 'mustBeLess'; did you mean 'mustBeLessThan'?"]),
    ({"name": "c", "quality": [{"metric": "nullValues", "mustBe": "0"}]}, ["mustBe must be a number, not '0'"]),
    ({"name": "c", "quality": [{"metric": "nullValues", "mustBeBetween": [5, 1]}]}, ["mustBeBetween needs two numbers, the smaller one first; write mustBeBetween: [0, 100]"]),
    ({"name": "c", "quality": [{"metric": "nullValues", "mustBeBetween": 5}]}, ["mustBeBetween must be a list, not 5"]),
    ({"name": "c", "quality": [{"metric": "nullValues", "mustBeLessThan": 0}]}, ["no count is less than 0; fix the operator"]),
    ({"name": "c", "quality": [{"metric": "nullValues", "mustBeLessThan": 0, "unit": "percent"}]}, ["no part is less than 0; fix the operator"]),
    ({"name": "c", "quality": [{"metric": "nullValues", "mustBeGreaterThan": 100, "unit": "percent"}]}, ["no part is more than 100 percent; fix the operator"]),
    ({"name": "c", "quality": [{"metric": "nullValues", "mustBeLessThan": 3, "mustBeGreaterThan": 3}]}, ["no number could pass the check; fix its operators"]),
    ({"name": "c", "quality": [{"metric": "invalidValues", "arguments": {"validValues": [{}]}, "mustBe": 3}]}, ["a dict cannot be a SQL parameter; list texts, numbers, true or false"]),
    ({"name": "c", "quality": [{"type": "sql", "mustBe": 0}]}, ["'query' is missing; add query: it must be text"]),
    ({"name": "c", "quality": [{"type": "custom"}]}, ["'engine' is missing; add engine: it must be text", "'implementation' is missing; add implementation: what the engine runs"]),
    ({"name": "c", "quality": [{"type": "custom", "engine": "lazypipe", "implementation": "x"}]}, ["the implementation is not a mapping; write name: arguments"]),
    ({"name": "c", "quality": [{"type": "custom", "engine": "lazypipe", "implementation": "a: 1\nb: 2"}]}, ["a rule is a mapping with one key, its name; write name: arguments"]),
    ({"name": "c", "quality": [{"type": "custom", "engine": "lazypipe", "implementation": "a: ["}]}, ["the implementation is not YAML: the text ends where a value is expected; write YAML"]),
    ({"name": "c", "quality": [{"type": "custom", "engine": "gx", "implementation": "{kwargs: {}}"}]}, ["'type' is missing; add type: the name of the expectation"]),
    ({"name": "c", "relationships": [{"type": "friend", "to": "a.b"}]}, ["unknown type of relationship 'friend'; write type: foreignKey"]),
    ({"name": "c", "relationships": [{}]}, ["'to' is missing; add to: table.column"]),
    ({"name": "c", "relationships": [{"to": ["a.b", "a.c"]}]}, ["1 columns refer to 2; name as many columns as the other key has"]),
    ({"name": "c", "relationships": [{"to": 5}]}, ["to must be a list, not 5"]),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_wrong_parts_have_a_place(case: int) -> None:
    prop, messages = WRONG[case]
    prop = {"logicalType": "string", **prop}
    text = yaml.safe_dump(table(prop), sort_keys=False)
    found = wrong(text)
    assert [m.partition(": ")[2] for m in found] == messages
    assert all(m.startswith("<text>:") and int(m.split(":", 2)[1]) > 6 for m in found)


def test_wrong_tables() -> None:
    assert wrong(table(relationships=[{"to": "a.b"}])) == [
        "schema[0].relationships[0]: 'from' is missing; add from: table.column"
    ]
    assert wrong(table(quality=[{"metric": "duplicateValues", "mustBe": 0}])) == [
        "schema[0].quality[0]: duplicateValues of a table needs columns; add arguments: {properties: [a, b]}"
    ]
    assert wrong(table(quality=[{"type": "sql", "query": "SELECT COUNT({property}) FROM t", "mustBe": 0}])) == [
        "schema[0].quality[0].query: the query names a property, but stands at a table; name the column, or move it"
    ]
    assert wrong(
        table({"name": "a", "logicalType": "date"}, {"name": "b", "physicalName": "a", "logicalType": "date"})
    ) == ["schema[0].properties[1].name: two columns are called 'a'; rename one of them"]
    assert wrong({**HEAD, "schema": [{"name": "t"}, {"name": "t"}]}) == [
        "schema[0].name: two tables are called 't'; rename one of them",
        "schema[1].name: two tables are called 't'; rename one of them",
    ]
    assert wrong({**HEAD, "schema": [{}]}) == ["schema[0]: 'name' is missing; add name: it must be text"]
    assert wrong({**table(), "slaProperties": [{}]}) == [
        "slaProperties[0]: 'property' is missing; add property: it must be text",
        "slaProperties[0]: 'value' is missing; add value: it must be text, a number, or true or false",
    ]


# the result


def test_plain_data_of_yaml_1_1_is_text_again() -> None:
    from datetime import date

    option = {"minimum": date(2020, 1, 1)}
    found = from_odcs(table({"name": "c", "logicalType": "date", "logicalTypeOptions": option}))
    assert found.rules["t"] == ({"between": {"column": "c", "min": "2020-01-01"}},)


def test_the_result_as_yaml() -> None:
    contract = from_odcs(
        table(
            {"name": "c", "logicalType": "string", "required": True}, quality=[{"type": "text", "description": "a\nb"}]
        )
    )
    text = contract.to_yaml()
    assert yaml.safe_load(text) == {"t": {"contract": {"columns": {"c": "String"}}, "gate": [{"not_null": "c"}]}}
    assert text.endswith("# not taken over: t: 'a\\nb': it is text for people; write a rule that checks it\n")
    assert contract.to_yaml("t").startswith("contract:")
    two = Contract("two", {"a": ({"not_null": "x"},), "b": ()}, unmapped=(Finding("x", "y", "b"), Finding("x", "y")))
    assert two.to_yaml("a") == "gate:\n- not_null: x\n# not taken over: x: y\n"
    assert Contract("empty").to_yaml() == ""
    with pytest.raises(KeyError, match="unknown table 'x'; known tables: t"):
        contract.source("x")
