"""Rules on keys and references, against a naive oracle over lists; wrong use is a located mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import gates
from lazypipe.errors import DefinitionError
from lazypipe.gates.rule import Reference
from lazypipe.spec.model import Step, freeze
from lazypipe.spec.scope import Scope

Key = tuple[Any, Any]
keys = st.lists(st.tuples(st.none() | st.integers(0, 3), st.none() | st.sampled_from("xy")), max_size=15)


def pairs(rows: list[Key], *names: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={names[0]: pl.Int64, names[1]: pl.String}, orient="row")


def failed(frame: pl.DataFrame, rule: Mapping[str, Any], **others: pl.DataFrame) -> dict[str, int]:
    return dict(lp.check(frame, [rule], **others).failed)


def known(rows: list[Key]) -> list[Key]:
    return [r for r in rows if None not in r]


def repeats(rows: list[Key]) -> int:
    return sum(n for n in Counter(known(rows)).values() if n > 1)


# primary_key


@given(keys)
def test_a_primary_key_is_whole_and_unique(rows: list[Key]) -> None:
    expected = {"primary_key:a,b:not_null": len(rows) - len(known(rows)), "primary_key:a,b:unique": repeats(rows)}
    found = failed(pairs(rows, "a", "b"), {"primary_key": ["a", "b"]})
    assert found == {k: v for k, v in expected.items() if v}


def test_a_primary_key_may_have_a_name_and_a_condition() -> None:
    frame = pl.DataFrame({"a": [1, 1, None, None], "w": [True, True, True, None]})
    rule = {"primary_key": {"columns": "a", "id": "pk", "where": "w", "action": "quarantine", "max_failures": 1}}
    report = lp.check(frame, [rule])
    assert [(c.id, c.failed, c.status) for c in report.checks] == [("pk:not_null", 1, "warn"), ("pk:unique", 2, "fail")]
    assert [c.column for c in report.checks] == ["a", None]
    assert failed(pl.DataFrame(schema={"a": pl.Int8}), {"primary_key": "a"}) == {}
    assert failed(pl.DataFrame({"a": [None, None]}), {"primary_key": "a"}) == {"primary_key:a:not_null": 2}
    split = lp.split(frame, [rule])
    assert (split.good.height, split.bad.height) == (1, 3)


# foreign_key and cardinality


@given(keys, keys)
def test_references_equal_the_oracle(here: list[Key], there: list[Key]) -> None:
    frame, other = pairs(here, "a", "b"), pairs(there, "c", "d")
    times = Counter(known(there))
    reference = {"columns": ["a", "b"], "references": {"to": "o", "columns": ["c", "d"]}}

    def outside(least: int, most: float) -> int:
        return sum(not least <= times[k] <= most for k in known(here))

    assert failed(frame, {"foreign_key": reference}, o=other).get("foreign_key:a,b", 0) == outside(1, float("inf"))
    for bounds, least, most in (
        ({"min": 2}, 2, float("inf")),
        ({"max": 1}, 0, 1),
        ({"max": 0}, 0, 0),
        ({"min": 0, "max": 2}, 0, 2),
        ({"min": 1, "max": 2}, 1, 2),
    ):
        found = failed(frame, {"cardinality": {**reference, **bounds}}, o=other)
        assert found.get("cardinality:a,b", 0) == outside(least, most), bounds
    for written in ("1:1", "1:m", "m:1", "m:m"):
        found = failed(frame, {"cardinality": {**reference, "is": written}}, o=other)
        assert found.get("cardinality:a,b", 0) == outside(1, 1 if written.endswith("1") else float("inf"))
        assert found.get("cardinality:a,b:unique", 0) == (repeats(here) if written.startswith("1") else 0)


def test_ways_to_write_a_reference() -> None:
    frame, airports = pl.DataFrame({"faa": ["JFK", "XXX", None]}), pl.DataFrame({"faa": ["JFK"], "code": ["XXX"]})
    for written, count in (
        ({"column": "faa", "references": {"to": "airports", "column": "faa"}}, 1),
        ({"column": "faa", "references": {"to": "airports"}}, 1),
        ({"columns": "faa", "references": {"to": "airports", "columns": "code"}}, 1),
        ({"columns": ["faa"], "references": {"to": "airports", "columns": ["faa"]}, "where": "faa <> 'XXX'"}, 0),
    ):
        step = Step("foreign_key", freeze(written), ())
        rule = gates.rule(step)
        assert rule.frames() == {"references": "airports"}
        assert rule.to_step() == Step("foreign_key", freeze({**written, **_lists(written)}), ())
        assert sum(failed(frame, {"foreign_key": written}, airports=airports).values()) == count
    step = Step("cardinality", freeze({"column": "a", "references": {"to": "s3://b/a"}, "is": "1:1"}))
    made = gates.rule(step)
    assert made.frames() == {"references": "s3://b/a"}
    (lookup, unique) = made.checks(pl.Schema({"a": pl.Int8()}), Scope(type(made), step))
    assert lookup.reference == Reference(("a",), "s3://b/a", ("a",), 1, 1)
    assert (lookup.column, unique.keys) == ("a", ("a",))


def _lists(written: Mapping[str, Any]) -> dict[str, Any]:
    columns = written.get("columns")
    return {"columns": (columns,)} if isinstance(columns, str) else {}


def test_rows_without_their_reference_can_be_put_aside() -> None:
    frame = pl.DataFrame({"a": [1, 2, None]})
    rule = {"foreign_key": {"column": "a", "references": {"to": "o"}, "action": "quarantine"}}
    split = lp.split(frame, [rule], o=pl.DataFrame({"a": [1, 1]}))
    assert sorted(split.good["a"].to_list(), key=str) == [1, None]
    assert split.bad["a"].to_list() == [2]


# wrong use

FRAME = pl.DataFrame(schema={"a": pl.Int64, "b": pl.String})


def refers(**more: Any) -> dict[str, Any]:
    return {"foreign_key": {"column": "a", "references": {"to": "o"}, **more}}


def counts(**more: Any) -> dict[str, Any]:
    return {"cardinality": {"column": "a", "references": {"to": "o"}, **more}}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"primary_key": ["a", "zz"]}, "unknown column 'zz'; known columns: a, b"),
        (refers(column="zz"), "unknown column 'zz'; known columns: a, b"),
        (
            {"foreign_key": {"columns": ["a", "zz"], "references": {"to": "o"}}},
            "unknown column 'zz'; known columns: a, b",
        ),
        ({"foreign_key": {"references": {"to": "o"}}}, "foreign_key needs a key; give column or columns"),
        (refers(columns=["a"]), "column and columns say the same; give column or columns"),
        (
            {"foreign_key": {"column": "a"}},
            "'references' is missing in 'foreign_key'; add references: The frame and columns in which the key must exist: {to: frame, columns: [its key]}",
        ),
        (refers(references={}), "references needs a frame; write to: and a source, a stage or a URI"),
        (refers(references={"to": 5}), "5 is not the name of a frame; write to: and a source, a stage or a URI"),
        (refers(references={"to": ""}), "'' is not the name of a frame; write to: and a source, a stage or a URI"),
        (refers(references={"tow": "o"}), "unknown argument 'tow' of references; did you mean 'to'?"),
        (
            refers(references={"to": "o", "column": "a", "columns": "a"}),
            "column and columns say the same; give one of them",
        ),
        (refers(references={"to": "o", "columns": 5}), "5 is not a list of columns; write names of columns"),
        (
            refers(references={"to": "o", "columns": ["a", 5]}),
            "('a', 5) is not a list of columns; write names of columns",
        ),
        (refers(references={"to": "o", "column": ""}), "'' is not a list of columns; write names of columns"),
        (
            refers(references={"to": "o", "columns": ["a", "b"]}),
            "1 columns here cannot be compared with 2 there; name the same number there as here, in the same order",
        ),
        (refers(references={"to": "p"}), "unknown frame 'p'; known frames: o"),
        (refers(references={"to": "o", "column": "zz"}), "unknown column 'zz' of 'o'; known columns: a, b"),
        (
            refers(references={"to": "o", "column": "b"}),
            "column 'a' is Int64, and 'b' of 'o' is String; cast one of them",
        ),
        (counts(), "cardinality needs a bound; give is, or min and max"),
        (counts(**{"is": "1:1", "min": 1}), "'is' already sets min and max; give is, or min and max"),
        (counts(**{"is": "1:n"}), "unknown cardinality '1:n'; write 1:1, 1:m, m:1 or m:m"),
        (counts(min=0), "min: 0 allows any number; give max too, or another min"),
        (counts(min=2, max=1), "min 2 is greater than max 1; swap them"),
        (counts(column="zz", max=1), "unknown column 'zz'; known columns: a, b"),
    ],
)
def test_wrong_use_is_a_definition_error(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        lp.check(FRAME, [rule], o=FRAME)
    (problem,) = caught.value.problems
    place, _, said = str(problem).partition(": ")
    assert place.startswith(f"rules[0].{next(iter(rule))}")
    assert said == message
