"""The published JSON Schema: complete, described, up to date, and what the loader goes by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import lazypipe as lp
from lazypipe import gates, ops
from lazypipe.compile import json_schema
from lazypipe.compile.reference import reference

SCHEMA = lp.json_schema()


def test_the_published_file_is_what_the_registries_give(root: Path) -> None:
    text = (root / "lazypipe" / "pipeline.schema.json").read_text(encoding="utf-8")
    assert text == json_schema.published(), "run: python -m lazypipe.compile.json_schema"
    assert json.loads(text) == json_schema.build() == SCHEMA


def test_the_reference_tells_all_that_the_schema_does(root: Path) -> None:
    page = reference(SCHEMA)
    text = (root / "docs" / "guide" / "reference.md").read_text(encoding="utf-8")
    assert text == page, "run: python -m lazypipe.compile.json_schema"
    assert {line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")} == {
        *ops.names(),
        *gates.names(),
    }
    for inner in SCHEMA["$defs"]["output"]["properties"].values():
        assert inner["description"] in text


def test_the_reference_has_an_example_of_every_operation_and_rule_that_a_definition_can_hold() -> None:
    page = reference(SCHEMA)
    for kind, heading, end in (("operation", "## Operations", "## Rules"), ("rule", "## Rules", "\0")):
        sections = page.partition(f"\n{heading}\n")[2].partition(f"\n{end}\n")[0].split("\n### ")[1:]
        examples = {}
        for section in sections:
            [step] = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])
            Draft202012Validator({**SCHEMA["$defs"][kind], "$defs": SCHEMA["$defs"]}).validate(step)
            examples[section.partition("\n")[0]] = [*step]
            assert ">>> " in section.partition("```python\n")[2].partition("```")[0]
        assert examples == {name: [name] for name in SCHEMA["$defs"][kind]["properties"]}


def test_the_guide_names_every_operation_and_rule(root: Path) -> None:
    text = (root / "docs" / "guide" / "definitions.md").read_text(encoding="utf-8")
    short = text.partition("## In short")[2].partition("\n## ")[0]
    assert {n for n in (*ops.names(), *gates.names()) if f"`{n}`" not in short} == set()


def test_it_is_a_schema_of_draft_2020_12() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)


def properties(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            # an "if" only asks a question
            if key == "properties" and not path.endswith("/if"):
                yield from ((f"{path}/{name}", inner) for name, inner in value.items())
            yield from properties(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from properties(value, path)


def test_every_property_is_described_so_that_editors_help() -> None:
    found = dict(properties(SCHEMA))
    assert len(found) > 150
    assert [path for path, schema in found.items() if not schema.get("description", "").strip()] == []


def test_every_operation_and_rule_is_in_it() -> None:
    assert list(SCHEMA["$defs"]["operation"]["properties"]) == list(ops.names())
    assert list(SCHEMA["$defs"]["rule"]["properties"]) == list(gates.names())


def test_an_operation_and_a_rule_are_described_as_in_python_without_the_examples() -> None:
    of = {
        k: {n: one["description"] for n, one in SCHEMA["$defs"][k]["properties"].items()} for k in ("operation", "rule")
    }
    assert of["operation"]["aggregate"] == (
        "Group rows by columns and compute aggregates: one row per group. Without `by`, all rows form one group.\n\n"
        "Null is a group of its own. Aggregates ignore nulls, as in SQL; `count(*)` counts rows. The order of the result is not guaranteed."
    )
    items = [line for line in of["rule"]["format"].splitlines() if line.startswith("- ")]
    assert [line.split("`")[1] for line in items] == SCHEMA["$defs"]["rule"]["properties"]["format"]["properties"][
        "is"
    ]["enum"]
    assert of["rule"]["format"].splitlines()[-len(items) :] == items  # each on a line of its own, however long
    assert [
        n for told in of.values() for n, text in told.items() if ">>>" in text or "``" in text or "Examples" in text
    ] == []


def test_every_argument_is_in_it_with_its_default() -> None:
    join = SCHEMA["$defs"]["operation"]["properties"]["join"]
    assert list(join["properties"]) == ["with", "on", "left_on", "right_on", "how", "columns", "suffix", "validate", "nulls_equal"]  # fmt: skip
    assert join["required"] == ["with"]
    assert join["properties"]["how"] == {
        "description": "Which rows to keep. semi keeps rows of this side that match, anti those that do not, cross pairs every row with every other.",
        "enum": ["inner", "left", "right", "full", "semi", "anti", "cross"],
        "default": "inner",
    }


@pytest.mark.parametrize("name", ["flights.yaml"])
def test_the_examples_are_valid(root: Path, name: str) -> None:
    # PyYAML makes dates of what is text in YAML 1.2
    text = (root / "pipelines" / name).read_text(encoding="utf-8")
    data = yaml.load(text, Loader=yaml.BaseLoader) | {"version": 1}
    Draft202012Validator(SCHEMA).validate(json.loads(lp.Pipeline.from_yaml(text).to_json()))
    assert set(data["sources"]) == {"flights", "airports", "planes", "weather"}


@pytest.mark.parametrize("step", [{"fitler": "a"}, {}, {"filter": "a", "drop": "b"}, {"filter": {"conditoin": "a"}}, {"limit": "x"}])  # fmt: skip
def test_an_editor_sees_what_is_wrong(step: dict[str, Any]) -> None:
    data = {"version": 1, "name": "p", "sources": {"a": {"uri": "a"}}, "stages": {"b": {"from": "a", "do": [step]}}, "outputs": {}}  # fmt: skip
    assert not Draft202012Validator(SCHEMA).is_valid(data)


def test_the_public_function_gives_it() -> None:
    assert lp.json_schema() is SCHEMA
    assert SCHEMA["title"] == "lazypipe pipeline"
