"""Text to data with positions: what YAML's words mean here, and where each part stands."""

from __future__ import annotations

import json
import math
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from lazypipe import DefinitionError
from lazypipe.spec import document
from lazypipe.spec.document import parse

SCALARS = {
    # as YAML 1.2 and JSON have it …
    "1": 1,
    "-7": -7,
    "+7": 7,
    "010": 10,
    "1.5": 1.5,
    "1e3": 1000.0,
    "1.": 1.0,
    ".5": 0.5,
    "-1.5E-2": -0.015,
    ".inf": math.inf,
    "-.inf": -math.inf,
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    # … and what YAML 1.1 would have made into something else
    "on": "on",
    "off": "off",
    "yes": "yes",
    "no": "no",
    "y": "y",
    "1:1": "1:1",
    "12:30:45": "12:30:45",
    "2013-01-01": "2013-01-01",
    "2013-01-01T00:00:00Z": "2013-01-01T00:00:00Z",
    "1_000": "1_000",
    "0x1F": "0x1F",
    "0o17": "0o17",
    "0b11": "0b11",
    "1e": "1e",
    "e5": "e5",
    ".": ".",
    "-": "-",
    "+": "+",
    "=": "=",
    "10%": "10%",
    "nan": "nan",
    "inf": "inf",
    "None": "None",
    "'1'": "1",
    '"true"': "true",
    '"\\u00e9"': "é",
}


@pytest.mark.parametrize(("text", "value"), [c for c in SCALARS.items() if c[0] != "-"], ids=repr)
def test_scalars(text: str, value: Any) -> None:
    found, _ = parse(f"a: {text}\n", "f")
    assert repr(found) == repr({"a": value})


def test_not_a_number_is_a_float() -> None:
    assert math.isnan(parse("a: .nan", "f")[0]["a"])


@pytest.mark.parametrize("key", ["on", "no", "1", "1.5", "true", "~", "2013-01-01", "null"])
def test_keys_are_always_text_as_written(key: str) -> None:
    assert parse(f"{key}: x", "f") == ({key: "x"}, {(): (1, 1), (key,): (1, 1)})


def test_block_style() -> None:
    text = "# a comment\na:\n  b: 1\n  c:\n    - x\n    -  y: 2\n       z: [3]\n"
    assert parse(text, "f") == (
        {"a": {"b": 1, "c": ["x", {"y": 2, "z": [3]}]}},
        {
            (): (2, 1),
            ("a",): (2, 1),
            ("a", "b"): (3, 3),
            ("a", "c"): (4, 3),
            ("a", "c", 0): (5, 7),
            ("a", "c", 1): (6, 8),
            ("a", "c", 1, "y"): (6, 8),
            ("a", "c", 1, "z"): (7, 8),
            ("a", "c", 1, "z", 0): (7, 12),
        },
    )


def test_flow_style_over_several_lines() -> None:
    text = "a: {b: [1,\n    [2, 3]], 'c d':\n  {e: f}}"
    assert parse(text, "f") == (
        {"a": {"b": [1, [2, 3]], "c d": {"e": "f"}}},
        {
            (): (1, 1),
            ("a",): (1, 1),
            ("a", "b"): (1, 5),
            ("a", "b", 0): (1, 9),
            ("a", "b", 1): (2, 5),
            ("a", "b", 1, 0): (2, 6),
            ("a", "b", 1, 1): (2, 9),
            ("a", "c d"): (2, 14),
            ("a", "c d", "e"): (3, 4),
        },
    )


def test_multi_line_text() -> None:
    text = "- filter: |\n    a > 1\n    AND b < 2\n- filter: >-\n    c\n    d\n- plain\n  text\n- last"
    data, at = parse(text, "f")
    assert data == [{"filter": "a > 1\nAND b < 2\n"}, {"filter": "c d"}, "plain text", "last"]
    assert [at[(i,)] for i in range(4)] == [(1, 3), (4, 3), (7, 3), (9, 3)]
    assert at[0, "filter"] == (1, 3)


def test_columns_count_characters_not_bytes() -> None:
    _, at = parse("größe: {✈: {名: 1}, b: 2}\n", "f")
    assert at == {(): (1, 1), ("größe",): (1, 1), ("größe", "✈"): (1, 9), ("größe", "✈", "名"): (1, 13), ("größe", "b"): (1, 20)}  # fmt: skip


def test_windows_line_ends_and_a_byte_order_mark() -> None:
    data, at = parse("a: 1\r\nb:\r\n  c: 2\r\n", "f")
    assert (data, at["b", "c"]) == ({"a": 1, "b": {"c": 2}}, (3, 3))


def test_an_alias_stands_where_its_anchor_stands() -> None:
    text = "a: &x {b: 1, c: [2]}\nd: *x\n"
    data, at = parse(text, "f")
    assert data == {"a": {"b": 1, "c": [2]}, "d": {"b": 1, "c": [2]}}
    assert at[("d",)] == (2, 1)
    assert at["d", "c", 0] == at["a", "c", 0] == (1, 18)


def test_merged_keys_stand_where_they_were_written_and_own_keys_win() -> None:
    text = "a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\n  e: 4\n"
    data, at = parse(text, "f")
    assert data["d"] == {"b": 1, "c": 3, "e": 4}
    assert [at["d", k] for k in "bce"] == [(1, 8), (4, 3), (5, 3)]


def test_a_mapping_that_merges_can_itself_be_an_alias() -> None:
    text = "a: &x {b: 1}\nc: &y {<<: *x, b: 2}\nd: *y\ne: {<<: [*y, *x], f: 3}\n"
    assert parse(text, "f")[0] == {"a": {"b": 1}, "c": {"b": 2}, "d": {"b": 2}, "e": {"b": 2, "f": 3}}


def test_json_positions_with_tabs_and_escapes() -> None:
    text = '\n{\t"a": {\t"b\\n\\"": [1,\r\n\t-2.5e3, "],{", {}],\r\t"é\\/": true }, "\\ud83d\\ude00":[ ] }'
    data, at = parse(text, "f", is_json=True)
    assert data == {"a": {'b\n"': [1, -2500.0, "],{", {}], "é/": True}, "😀": []}
    assert at == {
        (): (2, 1),
        ("a",): (2, 3),
        ("a", 'b\n"'): (2, 10),
        ("a", 'b\n"', 0): (2, 20),
        ("a", 'b\n"', 1): (3, 2),
        ("a", 'b\n"', 2): (3, 10),
        ("a", 'b\n"', 3): (3, 17),
        ("a", "é/"): (4, 2),
        ("😀",): (4, 17),
    }


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 1, "\t"]))
@example({"\x7f\x80\u2028\u2029\ufeff\ufffe": ["\x85", "\x00"]}, None)
def test_every_json_document_is_read_with_all_its_positions(value: Any, indent: int | str | None) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    found, at = parse(text, "f", is_json=True)
    assert (repr(found), set(at)) == (repr(value), set(_paths(value)))
    lines = text.split("\n")
    for path, (line, column) in at.items():
        rest = lines[line - 1][column - 1 :]
        part = path[-1] if path and isinstance(path[-1], str) else _at(value, path)
        start = json.dumps(part, ensure_ascii=False)
        assert rest.startswith(start[0] if isinstance(part, list | dict) else start)


@given(
    VALUES, st.booleans(), st.integers(0, 60), st.sampled_from(["", ":", "\t", "'", "]", "- ", "#", "&a ", "*a", "\n "])
)
def test_what_libyaml_reads_is_what_pyyaml_reads(value: Any, flow: bool, at: int, more: str) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    text = text[:at] + more + text[at:]

    def read() -> Any:
        try:
            return repr(parse(text, "f"))
        except DefinitionError as error:
            return str(error)

    with patch.object(document, "_FastLoader", document._Loader):
        slowly = read()
    assert read() == slowly


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for k, v in inner for p in _paths(v, (*path, k)))]


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@given(st.text(alphabet="ab:-[]{}&*!|>'\"%@`#,? \n\t0.~<", max_size=30), st.booleans())
def test_any_text_gives_data_or_a_located_error(text: str, is_json: bool) -> None:
    try:
        data, at = parse(text, "f", is_json=is_json)
    except DefinitionError as error:
        lines = [problem.where.line if problem.where else 0 for problem in error.problems]
        assert lines  # either is right
        assert 1 <= min(lines) <= max(lines) <= text.count("\n") + 2
    else:
        assert () in at
        assert set(_paths(data)) <= set(at)
