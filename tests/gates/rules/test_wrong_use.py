"""Wrong use of row rules is a located mistake that says what to write instead."""

from __future__ import annotations

import importlib
import math
import pkgutil
import subprocess
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe import gates
from lazypipe.errors import DefinitionError
from lazypipe.gates import rules
from lazypipe.spec.types import dtype_name

NAN, INF = math.nan, math.inf


def test_the_catalogue_is_found_by_name() -> None:
    assert set(gates.names()) >= {
        "any_not_null", "between", "compare", "conditional", "decreasing", "exclusive", "expression", "finite", "format", "in_future",
        "in_past", "in_set", "increasing", "is_type", "json", "length_between", "like", "multiple_of", "non_negative", "not_empty",
        "not_in_set", "not_like", "not_null", "not_regex", "null", "parseable", "positive", "regex", "sum_equals", "unique",
    }  # fmt: skip
    assert list(gates.names()) == sorted(gates.names())


def test_every_rule_is_found_in_the_text_of_its_module() -> None:
    found: dict[str, type[gates.Rule]] = {}
    for info in pkgutil.iter_modules(rules.__path__):
        module = importlib.import_module(f"{rules.__name__}.{info.name}")
        here = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
        found |= {v.name: v for v in here if issubclass(v, gates.Rule) and "name" in vars(v)}
    for known in (gates._modules, gates._brought):  # whatever was asked before
        known.cache_clear()
    assert {n: gates.rule_class(n) for n in gates.names()} == found


def test_only_modules_are_imported_whose_rules_are_used() -> None:
    code = "import sys, lazypipe; from lazypipe import gates; gates.rule_class('unique'); print(*sys.modules)"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "lazypipe.gates.rules.keys" in there
    assert "lazypipe.gates.rules.drift" not in there


FRAME = pl.DataFrame(
    schema={
        "n": pl.Int64,
        "f": pl.Float32,
        "s": pl.String,
        "b": pl.Boolean,
        "d": pl.Date,
        "ms": pl.Datetime("ms"),
        "ns": pl.Datetime("ns"),
        "utc": pl.Datetime("us", "UTC"),
        "nyc": pl.Datetime("us", "America/New_York"),
        "dec": pl.Decimal(10, 2),
        "wide": pl.UInt128,
        "du": pl.Duration("us"),
        "t": pl.Time,
        "l": pl.List(pl.Int64),
        "st": pl.Struct({"x": pl.Int64}),
        "cat": pl.Categorical,
        "bin": pl.Binary,
        "none": pl.Null,
        "o": pl.Object,
    }
)


LEAVE_OUT = "leave null out: nulls pass, and not_null refuses them"


def misfit(shown: str, name: str, fix: str = "write a value of that type") -> str:
    return f"{shown} cannot be compared with column {name!r}, which is {dtype_name(FRAME.schema[name])}; {fix}"


def bound(name: str, value: Any) -> dict[str, Any]:
    return {"between": {"column": name, "max": value}}


def among(name: str, *values: Any) -> dict[str, Any]:
    return {"in_set": {"column": name, "values": list(values)}}


FOR_TEXT = "use regex, format or parseable, or cast it first"
FOR_DATES = "use between, in_past or in_future"
ELSE = "use not_null or expression"
PER_COLUMN = ("not_null", "null", "not_empty", "positive", "non_negative", "finite")
SINGLE: dict[str, dict[str, Any]] = {
    "regex": {"pattern": "a"},
    "not_regex": {"pattern": "a"},
    "like": {"pattern": "a"},
    "not_like": {"pattern": "a"},
    "length_between": {"min": 1},
    "json": {},
    "parseable": {"as": "date"},
    "is_type": {"type": "Int8"},
    "format": {"is": "email"},
    "multiple_of": {"of": 2},
    "in_past": {},
    "in_future": {},
    "in_set": {"values": [1]},
    "not_in_set": {"values": [1]},
    "between": {"min": 1},
}
ON_TEXT = ("regex", "not_regex", "like", "not_like", "json", "parseable", "format")


def unfit(name: str, rule: str, kind: str, advice: str) -> str:
    return f"column {name!r} is {dtype_name(FRAME.schema[name])}, and {rule} is for {kind}; {advice}"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"not_nul": "n"}, "unknown rule 'not_nul'; did you mean 'not_null'?"),
        *[({name: "m"}, "unknown column 'm'; did you mean 'ms'?") for name in PER_COLUMN],
        *[
            (
                {name: {"columns": ["n", "s"], "id": "x"}},
                "one id cannot name the checks of several columns; write one rule per column",
            )
            for name in ("not_null", "null")
        ],
        *[({name: {"column": "m", **more}}, "unknown column 'm'; did you mean 'ms'?") for name, more in SINGLE.items()],
        *[({name: {"column": "n", **SINGLE[name]}}, unfit("n", name, "text", "use between")) for name in ON_TEXT],
        *[({name: {"column": "d", **SINGLE[name]}}, unfit("d", name, "text", FOR_DATES)) for name in ON_TEXT],
        *[({name: {"column": "b", **SINGLE[name]}}, unfit("b", name, "text", "use in_set")) for name in ON_TEXT],
        *[({name: {"column": "o", **SINGLE[name]}}, unfit("o", name, "text", ELSE)) for name in ON_TEXT],
        *[({name: "s"}, unfit("s", name, "numbers and durations", FOR_TEXT)) for name in ("positive", "non_negative")],
        ({"positive": ["n", "t"]}, unfit("t", "positive", "numbers and durations", "use between")),
        ({"finite": "du"}, unfit("du", "finite", "numbers", "use between")),
        ({"multiple_of": {"column": "d", "of": 2}}, unfit("d", "multiple_of", "numbers", FOR_DATES)),
        *[({name: "s"}, unfit("s", name, "dates and datetimes", FOR_TEXT)) for name in ("in_past", "in_future")],
        ({"in_past": "t"}, unfit("t", "in_past", "dates and datetimes", "use between")),
        ({"not_empty": "n"}, unfit("n", "not_empty", "text, lists and binary values", "use between")),
        ({"not_empty": {"columns": "l", "blank": True}}, unfit("l", "not_empty", "text", "use length_between")),
        (
            {"length_between": {"column": "st", "min": 1}},
            unfit("st", "length_between", "text, lists and binary values", ELSE),
        ),
        ({"any_not_null": ["n", "m"]}, "unknown column 'm'; did you mean 'ms'?"),
        ({"exclusive": ["n", "m"]}, "unknown column 'm'; did you mean 'ms'?"),
        (
            {"conditional": {"when": "n", "then": "b"}},
            "a condition must be true or false, and this is Int64; compare it with something",
        ),
        ({"conditional": {"when": "b", "then": "nn > 1"}}, "unknown column 'nn'; "),
        (
            {"conditional": {"when": "b"}},
            "'then' is missing in 'conditional'; add then: A SQL condition that those rows must meet",
        ),
        ({"not_in_set": {"column": "n", "values": [1.5]}}, misfit("1.5", "n")),
        ({"unique": ["n", "zz"]}, "unknown column 'zz'; known columns: "),
        (bound("zz", 1), "unknown column 'zz'; known columns: "),
        (among("zz", 1), "unknown column 'zz'; known columns: "),
        ({"between": {"column": "n"}}, "between needs a bound; give min, max or both"),
        ({"between": {"column": "n", "min": NAN}}, "NaN is not a bound; write a number"),
        (
            {"between": {"column": "n", "min": 2, "max": 1}},
            "min 2 is greater than max 1; no row could pass; swap them",
        ),
        (
            {"between": {"column": "d", "min": "2020-01-02", "max": ":day"}},
            "min 2020-01-02 is greater than max :day; no row could pass; swap them",
        ),
        ({"between": {"column": "n", "max": ":nan"}}, "NaN is not a bound; write a number"),
        (
            {"between": {"column": "n", "max": 1, "closed": "neither"}},
            "unknown closed 'neither'; known values: both, left, none, right",
        ),
        (
            {"between": {"column": "n", "min": 1, "max": 1.0, "closed": "left"}},
            "nothing lies between 1 and 1.0 unless both are allowed; write closed: both, or other bounds",
        ),
        (bound("wide", 0.5), misfit("0.5", "wide")),
        (bound("wide", -1), misfit("-1", "wide")),
        (bound("b", 1), unfit("b", "between", "what has an order", "use in_set")),
        (bound("l", 1), unfit("l", "between", "what has an order", "use length_between")),
        (bound("cat", "a"), unfit("cat", "between", "what has an order", FOR_TEXT)),
        (bound("n", "abc"), misfit("'abc'", "n")),
        (bound("n", True), misfit("true", "n")),
        (bound("n", 10**40), misfit(str(10**40), "n")),
        (bound("f", "1"), misfit("'1'", "f")),
        (bound("dec", "x"), misfit("'x'", "dec")),
        (bound("dec", INF), misfit("inf", "dec")),
        (bound("dec", 1e50), misfit("1e+50", "dec")),
        (bound("s", 1), misfit("1", "s", "write '1', in quotes")),
        (bound("d", "01.02.2020"), misfit("'01.02.2020'", "d")),
        (bound("d", "2020-01-01T12:00"), misfit("'2020-01-01T12:00'", "d")),
        (bound("d", datetime(2020, 1, 1, 12)), misfit("datetime.datetime(2020, 1, 1, 12, 0)", "d")),
        (bound("d", 5), misfit("5", "d")),
        (bound("ms", "noon"), misfit("'noon'", "ms")),
        (bound("ms", "2020-01-01T00:00:00.0005"), misfit("'2020-01-01T00:00:00.0005'", "ms")),
        (bound("ms", "2020-01-01T00:00:00Z"), misfit("'2020-01-01T00:00:00Z'", "ms")),
        (bound("ns", "9999-12-31"), misfit("'9999-12-31'", "ns")),
        (bound("ns", date(9999, 12, 31)), misfit("datetime.date(9999, 12, 31)", "ns")),
        (bound("utc", 5), misfit("5", "utc")),
        (bound("nyc", "2020-03-08T02:30:00"), misfit("'2020-03-08T02:30:00'", "nyc")),
        (bound("du", "soon"), misfit("'soon'", "du")),
        (bound("du", 5), misfit("5", "du")),
        (bound("t", "25:00"), misfit("'25:00'", "t")),
        (bound("t", timedelta(1)), misfit("datetime.timedelta(days=1)", "t")),
        (bound("n", ":dya"), "unknown parameter :dya; did you mean 'day'?"),
        (bound("n", ":day"), misfit("datetime.date(2020, 1, 1)", "n")),
        (bound("n", ":several"), misfit("(1, 2)", "n")),
        (among("n", 1, "a"), misfit("'a'", "n")),
        (among("n", 1, True), misfit("true", "n")),
        (among("n", 1.5), misfit("1.5", "n")),
        (among("s", True, False), misfit("true, false", "s", "write 'true', 'false', in quotes")),
        (among("s", "a", 1, 2), misfit("1, 2", "s", "write '1', '2', in quotes")),
        (among("s", None), misfit("null", "s", LEAVE_OUT)),
        (among("n", 1, None), misfit("null", "n", LEAVE_OUT)),
        (among("none", "a", None), misfit("null", "none", LEAVE_OUT)),
        (among("n", "1", "2"), misfit("'1', '2'", "n", "write values of that type")),
        (among("cat", 1), misfit("1", "cat")),
        (among("b", "true"), misfit("'true'", "b")),
        (among("b", 1), misfit("1", "b")),
        (among("bin", 1), misfit("1", "bin")),
        (among("l", 1), misfit("1", "l")),
        (among("st", "x"), misfit("'x'", "st")),
        (among("o", "x"), misfit("'x'", "o")),
        (among("d", timedelta(1)), misfit("datetime.timedelta(days=1)", "d")),
        ({"expression": "n > 's'"}, "String cannot be compared with Int64; "),
        ({"expression": pl.col("n") > pl.col("s")}, "String cannot be compared with Int64; "),
        ({"expression": "n"}, "a condition must be true or false, and this is Int64; compare it with something"),
        ({"expression": "nn > 1"}, "unknown column 'nn'; "),
        ({"not_null": {"columns": "n", "where": "s > 1"}}, "String cannot be compared with Int32; "),
        (
            {"unique": {"columns": "n", "where": "n"}},
            "a condition must be true or false, and this is Int64; compare it with something",
        ),
        (
            {"unique": {"columns": "n", "max_failures": 1, "fail_above": 1}},
            "max_failures and fail_above say the same; give one of them",
        ),
        (
            {"unique": {"columns": "n", "max_failures": "101%"}},
            "101% is more than all rows; write a count of rows, or 0% to 100%",
        ),
        (
            {"unique": {"columns": "n", "warn_above": "some"}},
            "'some' is not a limit; write a count of rows, or 0% to 100%",
        ),
        ({"unique": {"columns": "n", "fail_above": 1.5}}, "1.5 is not a limit; write a count of rows, or 0% to 100%"),
        ({"unique": {"columns": "n", "fail_above": -1}}, "-1 is not a limit; write a count of rows, or 0% to 100%"),
    ],
)
def test_wrong_use_is_a_definition_error(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        lp.check(FRAME, [rule], params={"day": date(2020, 1, 1), "several": (1, 2), "nan": Decimal("nan")})
    (problem,) = caught.value.problems
    place, _, said = str(problem).partition(": ")
    assert place.startswith(f"rules[0].{next(iter(rule))}")
    assert said.startswith(message) if message.endswith((": ", "; ")) else said == message


def test_every_mistake_is_told_with_its_place(tmp_path: Any) -> None:
    pl.DataFrame({"n": [1], "s": ["x"]}).write_parquet(tmp_path / "a.parquet")
    text = """\
version: 1
name: p
sources:
  a:
    uri: a.parquet
    gate:
      - not_null: m
      - between: {column: n, min: 2, max: 1}
      - in_set: {column: s, values: [yes, true]}
      - expression: s > 1
      - regex: {column: s, pattern: "a("}
      - positive: [n, s]
      - parseable: {column: s, as: date, format: "%Q"}
      - compare: {left: n, op: <, right: s}
      - sum_equals: {columns: [n, s], total: 1}
outputs:
  a: {to: out}
"""
    with pytest.raises(DefinitionError) as caught:
        lp.Pipeline.from_yaml(text, base=str(tmp_path)).compile()
    places = [(p.where.line, p.where.column) for p in caught.value.problems if p.where]
    assert places == [(7, 9), (8, 30), (9, 29), (10, 9), (11, 28), (12, 23), (13, 42), (14, 35), (15, 35)]
    assert [p.what for p in caught.value.problems] == [
        "unknown column 'm'",
        "min 2 is greater than max 1",
        "true cannot be compared with column 's', which is String",
        "String cannot be compared with Int32",
        "'a(' is not a valid regular expression: unclosed group",
        "column 's' is String, and positive is for numbers and durations",
        "'%Q' is not a format of a date",
        "'n' is Int64 and 's' is String, which do not compare",
        "column 's' is String, and sum_equals is for numbers",
    ]
