"""A definition says the same in YAML, in JSON, as plain data and from Python; equal definitions are equal values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import gates, ops
from lazypipe.spec.model import PARAM_TYPES, Fault
from lazypipe.spec.schema import faults, json_schema

TRICKY = [
    "1", "-1.5", "1e3", "010", "0x1F", ".inf", ".nan", "1_000", "1:1", "true", "False", "yes", "no", "on", "off", "null", "~", "None",
    "2013-01-01", "2013-01-01T00:00:00Z", "<<", "=", "-", "- a", "? a", "a: b", "a #b", "#", "&a", "*a", "!a", "%a", "@a", "`a`", "'", '"',
    "{", "[", "a,b", "|", ">", " a", "a ", "a\nb", "a\n\n b\n", "\t", "\\", "ü✈名😀", "\x85", "\u2028", "\ufeff", ":name", "${X}", "x" * 200 + " " + "y" * 50,
]  # fmt: skip
TEXT = st.sampled_from(TRICKY) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,4}", fullmatch=True) | st.sampled_from(
    ["on", "no", "y", "null", "true"]
)
SCALAR = (
    TEXT | st.integers(-(10**20), 10**20) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False, width=32)
)


def matching(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values that a schema of the published file allows."""
    if "$ref" in schema:
        return matching(json_schema()["$defs"][schema["$ref"].rsplit("/", 1)[-1]])
    if "if" in schema:
        long, short = matching(schema["then"]), matching(schema["else"])
        return long | short if "required" not in schema["if"] else short | long.filter(lambda v: is_long(schema, v))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "type" not in schema:
        return st.none()
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    makers: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "string": lambda: st.sampled_from(["0.1%", "5", " 12 % "]) if "pattern" in schema else TEXT,
        "integer": lambda: st.integers(schema.get("minimum", -(10**12)), 10**12),
        "number": lambda: st.floats(
            schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False
        ),
        "boolean": st.booleans,
        "array": lambda: st.lists(
            matching(schema["items"]), min_size=schema.get("minItems", 0), max_size=schema.get("maxItems", 3)
        ),
        "object": lambda: mapping(schema),
    }
    return st.one_of(makers[t]() for t in types)


def is_long(schema: dict[str, Any], value: Any) -> bool:
    (name,) = schema["if"]["required"]
    return isinstance(value.get(name), dict | list)


def mapping(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    known, more = schema.get("properties"), schema.get("additionalProperties", True)
    if known is not None:  # a file is read with the definition, so that it would have to be there
        known = {n: s for n, s in known.items() if n != "file"}
    if known is None:
        keys = NAMES if "propertyNames" in schema else TEXT
        values = SCALAR if more is True else matching(more)
        # a mapping whose shorthand could be taken for the long form is another definition
        return st.dictionaries(keys, values, min_size=schema.get("minProperties", 0), max_size=3)
    if schema.get("maxProperties") == 1:
        return st.sampled_from(sorted(known)).flatmap(lambda n: st.fixed_dictionaries({n: matching(known[n])}))
    needed = {n: matching(known[n]) for n in schema.get("required", ())}
    made = st.fixed_dictionaries(needed, optional={n: matching(s) for n, s in known.items() if n not in needed})
    return made.filter(bool) if schema.get("minProperties") else made


PARAMS = st.dictionaries(NAMES, st.fixed_dictionaries({"type": st.sampled_from(PARAM_TYPES)}, optional={"description": TEXT}), max_size=2)  # fmt: skip
DEFINITIONS = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "name": TEXT,
        "sources": matching(json_schema()["properties"]["sources"]),
        "outputs": matching(json_schema()["properties"]["outputs"]),
    },
    optional={
        "params": PARAMS,
        "stages": matching(json_schema()["properties"]["stages"]),
        "description": TEXT,
        "state": TEXT,
    },
)


@given(DEFINITIONS)
@example({"version": 1, "name": "p", "sources": {"on": {"uri": "1:1", "read": {"quote": "", "null_values": ["", "~"]}}}, "outputs": {}})  # fmt: skip
def test_definitions_survive_every_form(data: dict[str, Any]) -> None:
    pipe = lp.Pipeline.from_dict(data)
    for again in (lp.Pipeline.from_yaml(pipe.to_yaml()), lp.Pipeline.from_json(pipe.to_json())):
        assert again == pipe
        assert repr(again) == repr(pipe)  # True is not 1, and 1 is not 1.0
        assert hash(again) == hash(pipe)
        assert again.to_yaml() == pipe.to_yaml()


@pytest.mark.parametrize("name", [*ops.names(), *gates.names()])
def test_every_step_survives_being_a_value(name: str) -> None:
    kind, cls = ("operation", ops.operation_class(name)) if name in ops.names() else ("rule", gates.rule_class(name))

    @settings(max_examples=settings().max_examples // 3)
    @given(matching(json_schema()["$defs"][kind]["properties"][name]))
    def survives(written: Any) -> None:
        step = lp.Pipeline.from_dict(_with_step(kind, {name: written})).stages["b"]
        try:
            value = cls.from_step((*step.do, *step.gate)[0])
        except Fault:  # arguments that contradict each other
            return
        again = cls.from_step(value.to_step())
        assert again == value
        assert hash(again) == hash(value)
        assert again.to_step() == value.to_step()
        assert not list(faults(_with_step(kind, value.to_step().to_dict())))

    survives()


def _with_step(kind: str, step: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "a.csv"}},
        "stages": {"b": {"from": "a", {"operation": "do", "rule": "gate"}[kind]: [step]}},
        "outputs": {"b": {"to": "out"}},
    }


LONG = [
    ({"filter": "a > 1"}, {"filter": {"condition": "a > 1"}}),
    ({"drop": "a"}, {"drop": {"columns": "a"}}),
    ({"drop": "a"}, {"drop": ["a"]}),
    ({"derive": {"b": "a"}}, {"derive": {"columns": {"b": "a"}}}),
    ({"select": {"b": "a"}}, {"select": {"columns": {"b": "a"}}}),
    ({"select": ["a"]}, {"select": {"columns": ["a"]}}),
    ({"rename": {"a": "b"}}, {"rename": {"columns": {"a": "b"}}}),
    ({"sort": "a DESC"}, {"sort": {"by": ["a DESC"]}}),
    ({"limit": 3}, {"limit": {"rows": 3, "offset": 0}}),
    ({"union": "b"}, {"union": {"with": ["b"], "missing": "refuse"}}),
    # a new column may be called like the argument
    ({"derive": {"columns": "a"}}, {"derive": {"columns": {"columns": "a"}}}),
]


@pytest.mark.parametrize(("short", "long"), LONG)
def test_the_obvious_argument_may_be_named(short: dict[str, Any], long: dict[str, Any]) -> None:
    built = [ops.operation(lp.Pipeline.from_dict(_with_step("operation", s)).stages["b"].do[0]) for s in (short, long)]
    assert built[0] == built[1]


def test_what_differs_is_not_equal() -> None:
    base = lp.Pipeline.from_dict(_with_step("operation", {"limit": 1}))
    assert base != lp.Pipeline.from_dict(_with_step("operation", {"limit": 2}))
    assert base == lp.Pipeline.from_yaml(base.to_yaml(), base="elsewhere")
    assert len({base, lp.Pipeline.from_json(base.to_json())}) == 1


def test_yaml_is_short_and_in_the_order_of_the_definition() -> None:
    text = """\
version: 1
name: p
params:
  since:
    type: date
    default: '2013-01-01'
sources:
  z:
    uri: z.csv
    gate:
    - not_null: a
  a:
    uri:
    - a1.csv
    - a2.csv
stages:
  s:
    from: z
    do:
    - filter: a > 1
    - join:
        with: a
        'on': 'no'
outputs:
  s:
    to: out
"""
    assert lp.Pipeline.from_yaml(text).to_yaml() == text


def test_what_exists_in_python_only_has_no_text() -> None:
    def double(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.with_columns(c=pl.col("b") * 2)

    source = {"columns": {"a": "Int64"}}
    do = [{"derive": {"b": pl.col("a") + 1}}, {"python": double}, ops.operation_class("filter")(pl.col("b") > 0)]
    pipe = lp.pipeline("p").source("x", "x.csv", contract=source).stage("y", "x", do=do).output("y", "out/y").build()
    assert pipe.compile().schema("y") == {"a": pl.Int64(), "b": pl.Int64(), "c": pl.Int64()}
    for write in (pipe.to_yaml, pipe.to_json):
        with pytest.raises(lp.DefinitionError) as caught:
            write()
        assert str(caught.value) == (
            "stages.y.do[0].derive.b: a Polars expression has no YAML form; write SQL text, or module:function\n"
            "stages.y.do[1].python: a Python function has no YAML form; write SQL text, or module:function\n"
            "stages.y.do[2].filter: a Polars expression has no YAML form; write SQL text, or module:function"
        )
