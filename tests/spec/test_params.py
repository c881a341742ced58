"""Parameters: what text and values become, what is refused, and how defaults are written back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.spec.model import PARAM_TYPES, Param

RIGHT: list[tuple[str, Any, Any]] = [
    ("string", "x", "x"),
    ("string", "", ""),
    ("integer", "42", 42),
    ("integer", -3, -3),
    ("number", "1.5", 1.5),
    ("number", 2, 2.0),
    ("decimal", "1.50", Decimal("1.50")),
    ("decimal", 0.1, Decimal("0.1")),
    ("boolean", "true", True),
    ("boolean", "FALSE", False),
    ("boolean", True, True),
    ("date", "2013-01-31", date(2013, 1, 31)),
    ("date", date(2013, 1, 31), date(2013, 1, 31)),
    ("datetime", "2013-01-31", datetime(2013, 1, 31)),
    ("datetime", "2013-01-31T12:00:00Z", datetime(2013, 1, 31, 12, tzinfo=UTC)),
    ("datetime", "2013-01-31 12:00+01:00", datetime(2013, 1, 31, 12, tzinfo=timezone(timedelta(hours=1)))),
    ("duration", "90s", timedelta(seconds=90)),
    ("duration", "0.000001s", timedelta(microseconds=1)),
    ("duration", "1.5h", timedelta(minutes=90)),
    ("duration", "-2d", timedelta(days=-2)),
    ("duration", "-1h30m250ms", -timedelta(hours=1, minutes=30, milliseconds=250)),
    ("duration", "1w", timedelta(weeks=1)),
    ("duration", timedelta(1), timedelta(1)),
    ("list", "a, b,c", ("a", "b", "c")),
    ("list", [1, "b", None], (1, "b", None)),
    ("list", "", ()),
    ("list", ' [1, -2.5, "b,c", true, null]', (1, -2.5, "b,c", True, None)),
]  # fmt: skip
WRONG: list[tuple[str, Any, str]] = [
    ("string", 5, '5 is not a string such as "5"'),
    ("integer", "1.5", "'1.5' is not an integer such as 42"),
    ("integer", True, "True is not an integer such as 42"),
    ("integer", 1.0, "1.0 is not an integer such as 42"),
    ("integer", "9" * 5_000, f"'{'9' * 5_000}' is not an integer such as 42"),
    ("number", "x", "'x' is not a number such as 1.5"),
    ("number", False, "False is not a number such as 1.5"),
    ("decimal", "x", "'x' is not a decimal such as 1.50"),
    ("boolean", 1, "1 is not a boolean: true or false"),
    ("boolean", "yes", "'yes' is not a boolean: true or false"),
    ("date", "2013-13-01", "'2013-13-01' is not a date such as 2013-01-31"),
    ("date", datetime(2013, 1, 1, tzinfo=UTC), "datetime.datetime(2013, 1, 1, 0, 0, tzinfo=datetime.timezone.utc) is not a date such as 2013-01-31"),
    ("datetime", "noon", "'noon' is not a datetime such as 2013-01-31T12:00:00"),
    ("duration", "5", "'5' is not a duration such as 90s, 15m, 2h, 3d or 1w: it has no unit; write 5s, 5m, 5h, 5d or 5w"),
    ("duration", "1mo", "'1mo' is not a duration such as 90s, 15m, 2h, 3d or 1w"),
    ("duration", "5 days", "'5 days' is not a duration such as 90s, 15m, 2h, 3d or 1w"),
    ("duration", "", "'' is not a duration such as 90s, 15m, 2h, 3d or 1w"),
    ("duration", "1e400w", "'1e400w' is not a duration such as 90s, 15m, 2h, 3d or 1w"),
    ("duration", "nans", "'nans' is not a duration such as 90s, 15m, 2h, 3d or 1w"),
    ("list", 5, "5 is not a list such as a,b,c or [1, 2]"),
    ("list", "[1, b]", "'[1, b]' is not a list such as a,b,c or [1, 2]"),
    ("list", "[[1]]", "'[[1]]' is not a list such as a,b,c or [1, 2]"),
    ("list", [[1]], "[[1]] is not a list such as a,b,c or [1, 2]"),
    ("list", [{"a": 1}], "[{'a': 1}] is not a list such as a,b,c or [1, 2]"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "written", "value"), RIGHT)
def test_values(kind: str, written: Any, value: Any) -> None:
    assert repr(Param(kind).parse(written)) == repr(value)


@pytest.mark.parametrize(("kind", "written", "message"), WRONG)
def test_wrong_values(kind: str, written: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Param(kind).parse(written)
    assert str(caught.value) == message


def test_a_list_of_text_is_read_as_its_default_is() -> None:
    assert Param("list", [1, 2]).parse("3,4") == Param("list", (1.5,)).parse("[3, 4]") == (3, 4)
    assert Param("list", [1, 2]).parse("") == ()
    assert Param("list", ["1", 2]).parse("3,4") == Param("list", []).parse("3,4") == ("3", "4")
    with pytest.raises(ValueError, match=r"^'3,x' is not a list such as a,b,c or \[1, 2\]$"):
        Param("list", [1, 2]).parse("3,x")


def test_every_type_is_tested() -> None:
    assert {kind for kind, *_ in RIGHT} == {kind for kind, *_ in WRONG} == set(PARAM_TYPES)


TEXT = """
version: 1
name: p
params:
  since: {type: date, default: 2013-01-01}
  least: {type: integer}
sources: {a: {uri: a.csv, contract: {columns: {day: Date, n: Int64}}}}
stages: {b: {from: a, do: [{filter: day >= :since AND n > :least}]}}
outputs: {b: {to: out}}
"""


def test_a_time_without_a_zone_is_in_utc_if_the_default_has_a_zone() -> None:
    noon = datetime(2013, 3, 1, 12)
    zoned = Param("datetime", datetime(2013, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    assert zoned.parse("2013-03-01T12:00") == zoned.parse(noon) == noon.replace(tzinfo=UTC)
    assert zoned.parse("2013-03-01T12:00+02:00") == noon.replace(tzinfo=timezone(timedelta(hours=2)))
    assert Param("datetime", datetime(2013, 1, 1)).parse("2013-03-01T12:00") == noon
    assert Param("datetime").parse("2013-03-01T12:00") == noon


def test_a_parameter_becomes_a_literal_of_its_type() -> None:
    pipe = lp.Pipeline.from_yaml(TEXT)
    now = datetime(1970, 1, 1, tzinfo=UTC)
    by_text = pipe.compile(now=now, since="2013-02-01", least="-7")
    by_value = pipe.compile(now=now, params={"since": date(2013, 2, 1)}, least=-7)
    assert by_text.params == by_value.params == {
        "since": date(2013, 2, 1), "least": -7, "now": now,
    }  # fmt: skip
    assert by_text.explain("b", "logical") == by_value.explain("b", "logical")
    assert "2013-02-01" in by_text.explain("b", "logical")


def test_no_value_can_change_the_shape_of_a_statement() -> None:
    text = TEXT.replace("n > :least", "s = :least").replace("n: Int64", "s: String").replace("integer", "string")
    plan = lp.Pipeline.from_yaml(text).compile(least="x' OR 1=1 --")
    assert '"x\' OR 1=1 --"' in plan.explain("b", "logical")


def test_now_is_what_the_caller_says() -> None:
    text = TEXT.replace("n > :least", "day < :now").replace("  least: {type: integer}\n", "")
    moment = datetime(2020, 5, 6, tzinfo=UTC)
    plan = lp.Pipeline.from_yaml(text).compile(now=moment)
    assert plan.params["now"] == moment
    assert "2020-05-06" in plan.explain("b", "logical")


DEFAULTS = {
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "integer": st.integers(),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "date": st.dates(),
    "datetime": st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    "duration": st.timedeltas(),
    "list": st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.integers() | st.booleans()),
}
PARAMS = st.sampled_from(PARAM_TYPES).flatmap(lambda kind: st.tuples(st.just(kind), DEFAULTS[kind]))


@given(PARAMS)
def test_every_default_is_written_and_read_back(param: tuple[str, Any]) -> None:
    kind, default = param
    params = {"x": {"type": kind, "default": default}}
    data = {
        "version": 1,
        "name": "p",
        "params": params,
        "sources": {"a": {"uri": "a.csv"}},
        "outputs": {"a": {"to": "out"}},
    }
    pipe = lp.Pipeline.from_dict(data)
    assert pipe.params["x"] == Param(kind, Param(kind).parse(default))
    for again in (lp.Pipeline.from_yaml(pipe.to_yaml()), lp.Pipeline.from_json(pipe.to_json())):
        assert again.params["x"] == pipe.params["x"]
        assert type(again.params["x"].default) is type(pipe.params["x"].default)
        assert hash(again) == hash(pipe)


def test_parameters_are_a_mapping() -> None:
    pipe = lp.pipeline("p").source("a", "a.csv", contract={"columns": {"x": "Int64"}}).output("a", "out").build()
    with pytest.raises(lp.LazypipeError) as caught:
        pipe.compile(params=[1])  # type: ignore[arg-type]
    assert str(caught.value) == "params is [1], which is not a mapping; write {name: value}"
