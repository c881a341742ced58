"""Rules of one's own: made from functions, used by name, as values, and from installed packages."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe import gates
from lazypipe.errors import DefinitionError, LazypipeError
from lazypipe.gates import custom


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom, "_ours", {})


def made() -> Any:
    @lp.rule
    def multiple(column: str, of: int = 2, *, strict: bool = False, note: str = "") -> pl.Expr:
        """The value must be a multiple; null passes."""
        return (pl.col(column) % of == 0) & (pl.col(column) != 0 if strict else True)

    return multiple


FRAME = pl.DataFrame({"a": [0, 1, 2, None, 6], "b": [0, 0, 1, 1, 1]})


def test_by_name_with_all_that_rules_have() -> None:
    made()
    assert lp.check(FRAME, [{"multiple": "a"}]).failed == {"multiple:a": 1}
    assert lp.check(FRAME, [{"multiple": {"column": "a", "of": 3, "where": "b = 1"}}]).failed == {"multiple:a": 1}
    mend = {"column": "a", "strict": True, "action": "repair", "repair": {"default": 2}}
    assert lp.split(FRAME, [{"multiple": mend}]).good["a"].sort().to_list() == [None, 2, 2, 2, 6]


def test_as_a_value_and_in_pipelines() -> None:
    rule = made()
    assert lp.check(FRAME, [rule(column="a", of=6)]).failed == {"multiple:a": 2}
    text = "{version: 1, name: p, sources: {a: {uri: a.csv, contract: {columns: {x: Int64}}, gate: [{multiple: x}]}}, outputs: {a: {to: o}}}"
    assert [c.id for c in lp.Pipeline.from_yaml(text).compile().nodes["a"].checks] == ["multiple:x"]
    built = lp.pipeline("p").source("a", "a.csv", contract={"columns": {"x": "Int64"}}, gate=[rule(column="x")])
    assert built.output("a", "o").build().compile().nodes["a"].checks[0].rule == "multiple"


def test_several_columns_and_none() -> None:
    @lp.rule
    def all_equal(columns: tuple[str, ...]) -> pl.Expr:
        """All must be equal."""
        return pl.concat_list(columns).list.n_unique() == 1

    @lp.rule
    def sum_below(limit: float) -> pl.Expr:
        """The sum of a and b stays below."""
        return pl.col("a") + pl.col("b") < limit

    assert lp.check(FRAME, [{"all_equal": ["a", "b"]}]).failed == {"all_equal:a,b": 4}
    assert lp.check(FRAME, [{"sum_below": 5}]).failed == {"sum_below": 1}


def test_wrong_use() -> None:
    made()
    for rule, message in (
        ({"multiple": "c"}, "unknown column 'c'"),
        ({"multipel": "a"}, "unknown rule 'multipel'; did you mean 'multiple'?"),
        ({"multiple": {"column": "a", "off": 3}}, "unknown argument 'off' of multiple; did you mean 'of'?"),
        ({"multiple": {"of": 3}}, "'column' is missing in 'multiple'"),
    ):
        with pytest.raises(DefinitionError) as caught:
            lp.check(FRAME, [rule])
        assert message in str(caught.value)


def test_functions_that_are_no_rules() -> None:
    def nameless(column: str) -> pl.Expr:
        return pl.col(column)

    def greedy(*columns: str) -> pl.Expr:
        """Take all."""
        return pl.col(columns)

    def empty() -> pl.Expr:
        """Take nothing."""
        return pl.lit(value=True)

    def common(column: str, where: str) -> pl.Expr:
        """Take what is taken."""
        return pl.col(column)

    for function, message in (
        (nameless, "rule 'nameless' has no docstring; say in it what must hold, and what null means"),
        (greedy, "rule 'greedy' takes *columns; name its arguments one by one"),
        (empty, "rule 'empty' takes no arguments; give it at least a column"),
        (common, "rule 'common' has an argument 'where', which every rule has; rename it"),
    ):
        with pytest.raises(LazypipeError) as caught:
            lp.rule(function)
        assert str(caught.value) == message


def test_a_name_is_taken_once() -> None:
    made()
    made()  # the same function again, as a reloaded module makes it

    def multiple(column: str) -> pl.Expr:
        """Another one."""
        return pl.col(column)

    with pytest.raises(LazypipeError, match="there is a rule 'multiple' already; give the function another name"):
        lp.rule(multiple)

    def unique(column: str) -> pl.Expr:
        """One that lazypipe has."""
        return pl.col(column)

    with pytest.raises(LazypipeError, match="there is a rule 'unique' already"):
        lp.rule(unique)


def test_packages_offer_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = made()
    custom._ours.clear()

    class Point:
        name = "multiple"

        def load(self) -> Any:
            return rule

    monkeypatch.setattr(custom, "entry_points", lambda group: [Point()] if group == "lazypipe.rules" else [])
    assert gates.rule_class("multiple") is rule
    assert gates.rule_class("multiple") is rule
    with pytest.raises(KeyError):
        gates.rule_class("other")


def test_functions_that_give_no_condition() -> None:
    @lp.rule
    def raises(column: str) -> pl.Expr:
        """It never holds."""
        raise ValueError(f"no rule for {column}")

    @lp.rule
    def no_expression(column: str) -> Any:
        """It never holds."""
        return len(column)

    frame = pl.DataFrame({"a": [1]})
    for rule, said in (
        ("raises", "the function raised ValueError: no rule for a; give it other arguments, or fix it"),
        ("no_expression", "the function returned 1, which is not an expression; return a pl.Expr that is true where the rule holds"),
    ):  # fmt: skip
        with pytest.raises(DefinitionError) as caught:
            lp.check(frame, [{rule: "a"}])
        assert str(caught.value) == f"rules[0].{rule}: {said}"
