"""What the tests of row rules share: which rows violate, what a repair makes of them, and how wrong use is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe import gates
from lazypipe.compile.compiled import EPOCH
from lazypipe.errors import DefinitionError
from lazypipe.gates.rule import Check
from lazypipe.spec.model import Step, freeze
from lazypipe.spec.scope import Scope


def as_frame(rows: pl.DataFrame | Sequence[Any], dtype: Any) -> pl.DataFrame:
    return (
        rows if isinstance(rows, pl.DataFrame) else pl.DataFrame({"a": pl.Series("a", rows, dtype=dtype, strict=False)})
    )


def check_of(frame: pl.DataFrame, rule: Mapping[str, Any], params: Mapping[str, Any]) -> Check:
    ((name, arguments),) = rule.items()
    step = Step(name, freeze(arguments), ("rules", 0))
    made = gates.rule(step)
    (check,) = made.checks(frame.schema, Scope(type(made), step, params=params))
    return check


@pytest.fixture(scope="session")
def violations() -> Callable[..., list[bool]]:
    """Which rows of a frame (or of values of column a) violate a rule's one check; the report must count the same."""

    def find(
        rows: pl.DataFrame | Sequence[Any],
        rule: Mapping[str, Any],
        params: Mapping[str, Any] | None = None,
        *,
        dtype: Any = None,
        now: datetime = EPOCH,
    ) -> list[bool]:
        frame = as_frame(rows, dtype)
        check = check_of(frame, rule, {"now": now, **(params or {})})
        found: list[bool] = frame.with_columns(check.mask().alias("__violated"))["__violated"].to_list()
        report = lp.check(frame, [rule], params=params, now=now)
        assert report.checks[0].failed == sum(found)
        assert check.columns <= set(frame.columns)
        return found

    return find


@pytest.fixture(scope="session")
def clipped() -> Callable[..., list[Any]]:
    """What a repair by clipping makes of the values of column a; afterwards none of them may violate."""

    def repair(
        values: Sequence[Any], rule: Mapping[str, Any], *, dtype: Any = None, now: datetime = EPOCH
    ) -> list[Any]:
        ((name, arguments),) = rule.items()
        long = arguments if isinstance(arguments, Mapping) else {gates.rule_class(name).shorthand: arguments}
        frame = as_frame(values, dtype)
        check = check_of(frame, {name: {**long, "action": "repair", "repair": {"clip": True}}}, {"now": now})
        assert check.column == "a"
        assert check.repair is not None
        mended = frame.select(pl.when(check.mask()).then(check.repair).otherwise(pl.col("a")).alias("a"))
        assert mended.schema == frame.schema
        assert (
            mended.select(check.mask().alias("a")).to_series().sum() == mended.select(_is_nan(mended)).to_series().sum()
        )
        return mended["a"].to_list()

    return repair


def _is_nan(frame: pl.DataFrame) -> pl.Expr:
    return pl.col("a").is_nan() if frame["a"].dtype.is_float() else pl.lit(False)


@pytest.fixture(scope="session")
def refusal() -> Callable[..., str]:
    """The one mistake that a rule makes on a frame, without its place, which must be in the rule."""

    def tell(frame: pl.DataFrame, rule: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> str:
        with pytest.raises(DefinitionError) as caught:
            lp.check(frame, [rule], params=params)
        (problem,) = caught.value.problems
        place, _, said = str(problem).partition(": ")
        assert place.startswith(f"rules[0].{next(iter(rule))}")
        return said

    return tell
