"""The rules regex, like, length_between and json: edges, what is no pattern, and naive oracles."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

TEXTS = {"string": pl.String, "categorical": pl.Categorical}


def rule(name: str, pattern: str) -> dict[str, Any]:
    return {name: {"column": "a", "pattern": pattern}}


def both(violations: Any, name: str, pattern: str, values: list[Any], expected: list[bool], dtype: Any) -> None:
    """The rule, and its opposite, for which null passes too."""
    assert violations(values, rule(name, pattern), dtype=dtype) == expected
    opposite = [v is not None and not e for v, e in zip(values, expected, strict=True)]
    assert violations(values, rule(f"not_{name}", pattern), dtype=dtype) == opposite


# regex


@pytest.mark.parametrize("dtype", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        # abc, xabc, abc\n, ABC, "", a\0b
        ("abc", [False, False, False, True, True, True]),
        ("^abc", [False, True, False, True, True, True]),
        ("^", [False] * 6),
        ("abc$", [False, False, True, True, True, True]),
        ("^abc$", [False, True, True, True, True, True]),
        ("(?i)^abc", [False, True, False, False, True, True]),
        (r"^\w+$", [False, False, True, False, True, True]),
        (r"^$", [True, True, True, True, False, True]),
        ("a\0b", [True, True, True, True, True, False]),
        ("^a.b", [True, True, True, True, True, False]),
        ("^a|x", [False, False, False, True, True, False]),
    ],
)
def test_regex_finds(violations: Any, dtype: Any, pattern: str, expected: list[bool]) -> None:
    values = ["abc", "xabc", "abc\n", "ABC", "", "a\0b", None]
    both(violations, "regex", pattern, values, [*expected, False], dtype)


def test_regex_knows_unicode(violations: Any) -> None:
    assert violations(["ä", "١", "\u00a0", "a"], rule("regex", r"^[\p{L}\d\s]$")) == [False] * 4
    assert violations([None, None], rule("regex", "a"), dtype=pl.Null) == [False, False]
    assert violations(["a", None], rule("regex", "b"), dtype=pl.Enum(["a"])) == [True, False]
    assert violations([], rule("regex", "b"), dtype=pl.String) == []


@given(
    st.lists(st.none() | st.text("ab1 \n\0ä", max_size=6), max_size=20),
    st.sampled_from(["^a", "a", "a*b", "[a1]+\\n", "^(ab|ba)*$", "^ab"]),
)
def test_regex_equals_the_oracle(violations: Any, values: list[str | None], pattern: str) -> None:
    of_python = pattern.replace("$", r"\Z")
    expected = [v is not None and re.search(of_python, v) is None for v in values]
    both(violations, "regex", pattern, values, expected, pl.String)


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "unclosed group"),
        ("^(", "unclosed group"),
        ("[a-", "unclosed character class"),
        ("a{2,1}", "invalid repetition count range, the start must be <= the end"),
        ("(?=a)", "look-around, including look-ahead and look-behind, is not supported"),
        (r"(a)\1", "backreferences are not supported"),
        (r"\w{5000}", "Compiled regex exceeds size limit of 10485760 bytes"),
    ],
)
def test_what_is_no_regex_is_refused_before_any_row(refusal: Any, size: int, pattern: str, why: str) -> None:
    frame = pl.DataFrame({"a": ["x"] * size}, schema={"a": pl.String})
    fix = "write it as Rust's regex takes it (https://docs.rs/regex), without look-around and back-references"
    for name in ("regex", "not_regex"):
        assert refusal(frame, rule(name, pattern)) == f"{pattern!r} is not a valid regular expression: {why}; {fix}"


# like


@pytest.mark.parametrize("dtype", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("abc", ["abc"]),
        ("a%", ["abc", "a", "a%c", "a.c", "a\nc", "a_c", "a\\c"]),
        ("%c", ["abc", "a%c", "a.c", "a\nc", "a_c", "c", "a\\c"]),
        ("%b%", ["abc"]),
        ("a_c", ["abc", "a%c", "a.c", "a\nc", "a_c", "a\\c"]),
        ("_", ["a", "c", "ä", "\0"]),
        ("%", ["abc", "a", "a%c", "a.c", "a\nc", "a_c", "c", "", "ä", "\0", "a\\c"]),
        ("%%", ["abc", "a", "a%c", "a.c", "a\nc", "a_c", "c", "", "ä", "\0", "a\\c"]),
        ("a\\%c", ["a%c"]),
        ("a\\_c", ["a_c"]),
        ("a\\\\c", ["a\\c"]),
        ("\\a\\%%", ["a%c"]),
        ("a.c", ["a.c"]),
        ("%.%", ["a.c"]),
        ("a%c", ["abc", "a%c", "a.c", "a\nc", "a_c", "a\\c"]),
        ("A%", []),
        ("_%_%_", ["abc", "a%c", "a.c", "a\nc", "a_c", "a\\c"]),
    ],
)
def test_like_matches_the_whole_text(violations: Any, dtype: Any, pattern: str, matches: list[str]) -> None:
    values = ["abc", "a", "a%c", "a.c", "a\nc", "a_c", "c", "", "ä", "\0", "a\\c", None]
    expected = [v is not None and v not in matches for v in values]
    both(violations, "like", pattern, values, expected, dtype)


def likes(pattern: str, value: str) -> bool:
    """LIKE, one sign at a time."""
    if not pattern:
        return not value
    sign, rest = pattern[0], pattern[1:]
    if sign == "%":
        return any(likes(rest, value[i:]) for i in range(len(value) + 1))
    if sign == "_":
        return bool(value) and likes(rest, value[1:])
    if sign == "\\":
        sign, rest = rest[0], rest[1:]
    return value[:1] == sign and likes(rest, value[1:])


patterns = st.lists(
    st.sampled_from(["a", "b", ".", "%", "_", "\\%", "\\_", "\\\\", "\\a", "\n", "*"]), min_size=1, max_size=5
)


@given(st.lists(st.none() | st.text("ab.%_\\\n*", max_size=5), max_size=20), patterns.map("".join))
def test_like_equals_the_oracle(violations: Any, values: list[str | None], pattern: str) -> None:
    both(violations, "like", pattern, values, [v is not None and not likes(pattern, v) for v in values], pl.String)


def test_a_pattern_does_not_end_in_a_backslash(refusal: Any) -> None:
    frame = pl.DataFrame(schema={"a": pl.String})
    for name in ("like", "not_like"):
        said = refusal(frame, rule(name, "a\\"))
        assert (
            said
            == "the pattern 'a\\\\' ends in a backslash, which must be followed by a character; write \\\\ for a backslash itself"
        )


# length_between


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.String, ["", "ä", "e\u0301", "a\0c", None]),
        (pl.Categorical, ["", "ä", "ab", "abc", None]),
        (pl.Enum(["", "ä", "ab", "abc"]), ["", "ä", "ab", "abc", None]),
        (pl.Binary, [b"", b"\0", b"\xff\xfe", b"abc", None]),
        (pl.List(pl.Int8), [[], [None], [1, 2], [1, 2, 3], None]),
    ],
)
def test_length_of_every_type(violations: Any, dtype: Any, values: list[Any]) -> None:
    for least, most, expected in (
        (1, 2, [True, False, False, True, False]),
        (2, None, [True, True, False, False, False]),
        (None, 1, [False, False, True, True, False]),
        (0, 0, [False, True, True, True, False]),
    ):
        bounds = {k: v for k, v in (("min", least), ("max", most)) if v is not None}
        assert violations(values, {"length_between": {"column": "a", **bounds}}, dtype=dtype) == expected


def test_length_of_arrays_and_of_nothing(violations: Any) -> None:
    for least, expected in ((2, False), (3, True)):
        found = violations(
            [[1, 2], None], {"length_between": {"column": "a", "min": least}}, dtype=pl.Array(pl.Int8, 2)
        )
        assert found == [expected, False]
    assert violations([None], {"length_between": {"column": "a", "min": 1}}, dtype=pl.Null) == [False]


@given(st.lists(st.none() | st.text(max_size=6), max_size=20), st.integers(0, 4), st.integers(0, 4))
def test_length_equals_the_oracle(violations: Any, values: list[str | None], least: int, more: int) -> None:
    expected = [v is not None and not least <= len(v) <= least + more for v in values]
    found = violations(values, {"length_between": {"column": "a", "min": least, "max": least + more}}, dtype=pl.String)
    assert found == expected


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "length_between needs a bound; give min, max or both"),
        ({"min": 3, "max": 2}, "min 3 is greater than max 2; no row could pass; swap them"),
        ({"min": -1}, "-1 is not a length; write a whole number, zero or more"),
        ({"max": 1.5}, "1.5 is not a length; write a whole number, zero or more"),
        ({"max": True}, "True is not a length; write a whole number, zero or more"),
        ({"max": "5"}, "'5' is not a length; write a whole number, zero or more"),
    ],
)
def test_what_is_no_length(refusal: Any, bounds: dict[str, Any], message: str) -> None:
    assert refusal(pl.DataFrame(schema={"a": pl.String}), {"length_between": {"column": "a", **bounds}}) == message


# json

GOOD = ["{}", "[]", "null", " null\n", '"null"', "true", "-0", "1E+2", "0.5e-3", '"\\u00e9\\ud83d\\ude00"', ' {"a": [1, {"b": null}]} ', '{"a":1,"a":2}', '"\u2028"', "[" * 127 + "]" * 127]  # fmt: skip
BAD = ["", " ", "{", "nul", "NULL", "Null", "nullx", "null null", "null,", "01", "+1", ".5", "1.", "1e", "NaN", "-Infinity", "'a'", "[1,]", "{'a':1}", "{a:1}", '{"a" 1}', "[1 2]", "[1]]", "1 //", "/**/1", '"\t"', '"\0"', '"\\x41"', '"\\u12G4"', "\ufeff1", "\u00a0null", "\x0c1", '"a']  # fmt: skip
BEYOND = ["[" * 200 + "]" * 200, "1e999", '"\\ud800"']


def test_json_is_strict(violations: Any) -> None:
    assert violations(GOOD, {"json": "a"}) == [False] * len(GOOD)
    assert violations(BAD, {"json": "a"}) == [True] * len(BAD)
    assert violations(BEYOND, {"json": "a"}) == [True] * len(BEYOND)
    assert violations(["{}", "{", None], {"json": "a"}, dtype=pl.Categorical) == [False, True, False]
    assert violations([None, None], {"json": "a"}, dtype=pl.Null) == [False, False]
    assert violations([], {"json": "a"}, dtype=pl.String) == []


def is_json(text: str) -> bool:
    def refuse(_: str) -> None:
        raise ValueError

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


finite = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    finite | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(documents.map(json.dumps), min_size=1, max_size=8), st.data())
def test_json_equals_the_oracle(violations: Any, texts: list[str], data: Any) -> None:
    broken = []
    for text in texts:
        at = data.draw(st.integers(0, len(text)))
        piece = data.draw(st.sampled_from(["", ",", '"', "]", "}", "{", " ", "0", "-", "e", ".", ":", "\\", "\n"]))
        broken.append(text[:at] + piece + text[at + data.draw(st.integers(0, 1)) :])
    values = [*texts, *broken]
    expected = [not is_json(v) for v in values]
    # what a reader may refuse: half a surrogate pair, numbers beyond doubles
    beyond = [re.search(r"\\u[dD][89a-fA-F]", v) is not None or _overflows(v) for v in values]
    found = violations(values, {"json": "a"}, dtype=pl.String)
    assert [f for f, b in zip(found, beyond, strict=True) if not b] == [
        e for e, b in zip(expected, beyond, strict=True) if not b
    ]


def _overflows(text: str) -> bool:
    return any(math.isinf(float(n)) for n in re.findall(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", text))
