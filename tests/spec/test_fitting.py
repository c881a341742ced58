"""What is asked quickly of a document is what ``jsonschema`` says of it, and never that it fits where it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, validators

from lazypipe.spec import fitting
from lazypipe.spec.fitting import fits
from lazypipe.spec.schema import json_schema

# the peer, told as the loader tells it that 1.0 is no integer
_CHECKER = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
PEER = validators.extend(Draft202012Validator, type_checker=_CHECKER)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats()
    | st.text("ab0_ %", max_size=3)
    | st.sampled_from(["a", "b"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
KEYWORDS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["string", "integer", "number", "boolean", "object", "array", "null", ["string", "number"]]
        ),
        "enum": st.lists(SCALARS, min_size=1, max_size=3),
        "const": SCALARS,
        "required": st.lists(st.sampled_from("abc"), max_size=2),
        "minProperties": st.integers(0, 2),
        "maxProperties": st.integers(0, 2),
        "minItems": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "minLength": st.integers(0, 2),
        "pattern": st.sampled_from(["^a", "b$", "[0-9]"]),
        "minimum": st.integers(-1, 2),
        "maximum": st.integers(-1, 2),
        "description": st.just("words"),
    },
)
SCHEMAS = st.recursive(
    KEYWORDS,
    lambda inner: st.builds(
        lambda own, more: own | more,
        KEYWORDS,
        st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
                "additionalProperties": st.booleans() | inner,
                "propertyNames": KEYWORDS,
                "items": inner,
                "if": inner,
                "then": inner,
                "else": inner,
                "$ref": st.just("#/$defs/d"),
            },
        ),
    ),
    max_leaves=5,
)


@given(SCHEMAS, KEYWORDS, VALUES)
def test_it_answers_as_the_peer_does_or_asks_it(schema: dict[str, Any], inner: dict[str, Any], value: Any) -> None:
    schema = {**schema, "$defs": {"d": inner}}
    valid = PEER(schema).is_valid(value)
    assert fits(value, schema) <= valid
    # values that are equal and of different types (1 and 1.0) are left to the peer
    if not {"enum", "const"} & {*json.dumps(schema).split('"')}:
        assert fits(value, schema) == valid


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, {"not": {}}),
        ({1: 2}, {"propertyNames": {"type": "string"}}),
        ((1,), {"type": "array"}),
        (1.0, {"enum": [1]}),
        ({"a": 1.0}, {"if": {"properties": {"a": {"const": 1}}}, "then": {"type": "string"}}),
    ],
)
def test_what_it_cannot_tell_does_not_fit(value: Any, schema: dict[str, Any]) -> None:
    assert not fits(value, schema)


def keywords(schema: dict[str, Any]) -> Iterator[str]:
    yield from schema
    for key in ("properties", "$defs"):
        for inner in schema.get(key, {}).values():
            yield from keywords(inner)
    for key in ("items", "if", "then", "else", "propertyNames", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from keywords(schema[key])


def test_it_knows_every_keyword_of_the_published_schema() -> None:
    assert {*keywords(json_schema())} <= {*fitting._JUDGES, *fitting._ABOUT}


def test_what_fits_needs_no_other_tool(root: Path) -> None:
    code = "import sys, lazypipe as lp; lp.load('pipelines/flights.yaml'); assert 'jsonschema' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
