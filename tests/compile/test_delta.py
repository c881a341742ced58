"""How outputs are kept up to date, as derived from their operations and rules."""

from __future__ import annotations

from typing import Any

import pytest

import lazypipe as lp

COLUMNS = {"columns": {"x": "Int64", "k": "String", "t": "Datetime(us)"}}
N = {"n": "count(*)"}
FOLDED = "by the files of a, from the figures of s that are kept of each"


def strategy(
    steps: list[Any], gate: list[Any] | None = None, source_gate: list[Any] | None = None, **output: Any
) -> str:
    data = {
        "version": 1,
        "name": "p",
        "sources": {
            "a": {"uri": "memory://none/a.csv", "contract": COLUMNS, "gate": source_gate or []},
            "b": {"uri": "memory://none/b.csv", "contract": COLUMNS},
        },
        "stages": {"s": {"from": "a", "do": steps, "gate": gate or []}},
        "outputs": {"s": {"to": "memory://none/s", **output}},
    }
    return str(lp.Pipeline.from_dict(data).compile().strategies["s"])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], "by the files of a"),
        ([{"filter": "x > 1"}, {"derive": {"y": "x + 1"}}], "by the files of a"),
        ([{"union": "b"}], "by the files of a, b"),
        ([{"join": {"with": "b", "on": "k", "columns": {"x": "y"}}}], "by the files of a; all of it if b changes"),
        ([{"join": {"with": "b", "on": "k", "how": "right"}}], "full: s: join can change any row"),
        ([{"sort": ["x"]}], "full: s: sort can change any row"),
        (
            [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}],
            "by the files of a, from the figures of s that are kept of each",
        ),
        ([{"aggregate": {"aggregate": {"m": "median(x)"}}}], "full: s: aggregate can change any row"),
        ([{"window": {"time": "t", "every": "1h", "aggregate": N}}], FOLDED),
        ([{"window": {"time": "t", "every": "1mo", "period": "1q", "by": "k", "aggregate": N}}], FOLDED),
        ([{"window": {"time": "t", "every": ["1h", "1d"], "aggregate": N}}, {"filter": "n > 1"}], FOLDED),
        ([{"session": {"time": "t", "gap": "1h", "by": "k", "aggregate": N}}], FOLDED),
        (
            [{"window": {"time": "t", "every": "1h", "aggregate": {"m": "median(x)"}}}],
            "full: s: window can change any row",
        ),
        (
            [{"session": {"time": "t", "gap": "1h", "max_length": "1d", "aggregate": N}}],
            "full: s: session can change any row",
        ),
        (
            [{"interval_join": {"with": "b", "time": "t", "within": ["-1h", "0s"], "by": "k"}}],
            "by the files of a; all of it if b changes",
        ),
        # what is read twice is kept as files, for the run only, and its rows know no unit
        ([{"union": "b"}, {"union": "b"}], "full: s: union can change any row"),
        ([{"union": "a"}, {"union": "b"}], "full: it reads nothing row by row"),
        ([{"join": {"with": "a", "on": "k", "how": "semi"}}], "full: it reads nothing row by row"),
    ],
)
def test_operations_decide(steps: list[Any], expected: str) -> None:
    assert strategy(steps) == expected


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ([{"not_null": {"columns": "x", "action": "quarantine"}}, {"unique": "x"}], "by the files of a"),
        ([{"unique": {"columns": "x", "action": "warn"}}], "by the files of a"),
        (
            [{"unique": {"columns": "x", "action": "drop"}}],
            "full: s: unique:x takes rows out by what stands in others",
        ),
        (
            [{"not_null": {"columns": "x", "action": "quarantine"}}, {"unique": {"columns": "x", "action": "warn"}}],
            "full: s: unique:x is among the reasons of rows put aside, by what stands in others",
        ),
        (
            [{"not_null": {"columns": "x", "action": "quarantine"}}, {"unique": {"columns": "x", "max_failures": 3}}],
            "full: s: unique:x is among the reasons of rows put aside, by what stands in others",
        ),
        (
            [{"not_null": {"columns": "x", "action": "drop"}}, {"unique": "x"}],
            "full: s: unique:x counts rows that are dropped or repaired",
        ),
        ([{"sum": {"column": "x", "max": 9}}], "by the files of a"),
        (
            [{"foreign_key": {"columns": "k", "references": {"to": "b", "column": "k"}}}],
            "by the files of a; all of it if b changes",
        ),
        (
            [{"between": {"column": "x", "min": 1, "action": "repair", "repair": {"previous": ["x"]}}}],
            "full: s: a repair takes values from other rows",
        ),
    ],
)
def test_gates_decide(gate: list[Any], expected: str) -> None:
    assert strategy([], gate) == expected


def test_rules_about_all_rows_stand_at_the_end() -> None:
    assert strategy([], [], [{"unique": "x"}]) == "full: a: unique:x is a matter of all rows"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"format": "csv", "to": "memory://none/s.csv"}, "full: one csv file is written"),
        ({"mode": "append"}, "full: mode: append"),
    ],
)
def test_outputs_decide(output: dict[str, Any], expected: str) -> None:
    assert strategy([], **output) == expected
