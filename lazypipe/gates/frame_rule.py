"""What rules on whole frames share: groups, bounds on a measured value, and actions that do not touch rows."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from operator import and_
from typing import Any, ClassVar, Literal

import polars as pl

from lazypipe.gates import figures, written
from lazypipe.gates.figures import Figure
from lazypipe.gates.rule import HISTORY, VALUE, Check, Measure, Rule
from lazypipe.gates.rules.helpers import comparable, distinct_names
from lazypipe.spec.arguments import BOUND, COLUMN, COLUMNS, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name

__all__ = [
    "Bounds",
    "Closed",
    "CountRule",
    "FrameRule",
    "GroupedRule",
    "Statistic",
    "bounds",
    "fraction",
    "literal",
    "need_bound",
    "percent",
]

Closed = Literal["both", "left", "right", "none"]
CLOSED = choice("both", "left", "right", "none")


@dataclass(frozen=True, kw_only=True)
class FrameRule(Rule):
    """A rule on a value of all rows together, which cannot say which of them is wrong."""

    def __post_init__(self) -> None:
        """Check that no rows are to be taken out."""
        if self.action in ("quarantine", "drop", "repair"):
            raise Fault("a rule on the whole frame cannot remove rows", "write action: fail or warn", ("action",))
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class GroupedRule(FrameRule):
    """A rule on a value of all rows together, or of each group of them. Null is a group like others."""

    by: tuple[str, ...] = arg(
        COLUMNS, "The columns to group by; each group is measured separately. Default: all rows together.", default=()
    )

    def measured(
        self,
        subject: str,
        schema: pl.Schema,
        scope: Scope,
        figure: Figure,
        bounds: Bounds,
        *,
        columns: Sequence[str] = (),
        column: str | None = None,
        holds: Sequence[str] = (),
    ) -> Check:
        """Return the check that the figure (of each group) is within bounds; it ``holds`` values of these columns."""
        measure = Measure(
            accept=bounds.accept,
            expected=bounds.expected,
            value=figure.value,
            parts=figure.parts,
            by=self.by,
            columns=(*self.by, *columns),
            holds=tuple(holds),
        )
        return self.check(self.subject(subject, schema, scope), schema, scope, measure=measure, column=column)

    def subject(self, subject: str, schema: pl.Schema, scope: Scope) -> str:
        """Return what is measured with the groups it is measured of; raises Fault where those cannot be formed."""
        scope.columns(self.by, schema, "by")
        distinct_names(self.by, scope, "by")
        comparable(self.by, schema, scope, "by")
        for name in (VALUE, HISTORY):
            if name in self.by:
                raise scope.fault(f"a column called {name!r} cannot name groups", "rename it first", "by")
        return f"{subject} by {','.join(self.by)}".lstrip() if self.by else subject


@dataclass(frozen=True, kw_only=True)
class CountRule(FrameRule):
    """A rule on how many there are of something, which must lie between bounds."""

    others: ClassVar[tuple[str, ...]] = ()
    """Further arguments that bound the number."""
    min: Any = arg(BOUND, "The smallest number allowed. Default: no limit.", default=None)
    max: Any = arg(BOUND, "The largest number allowed. Default: no limit.", default=None)
    equals: Any = arg(BOUND, "The exact number.", default=None)

    def __post_init__(self) -> None:
        """Check that there is a bound, and that equals does not stand beside another."""
        super().__post_init__()
        need_bound(self, "min", "max", "equals", *self.others)
        if self.equals is not None and (self.min is not None or self.max is not None):
            raise Fault("equals cannot be combined with min and max", "give equals, or min and max", ("equals",))

    def allowed(self, scope: Scope, what: str) -> Bounds | None:
        """Return the bounds on the number, None where only another argument bounds it."""
        if (self.min, self.max, self.equals) == (None, None, None):
            return None
        return bounds(scope, pl.Int64(), what, least=self.min, most=self.max, equals=self.equals)


@dataclass(frozen=True, kw_only=True)
class Statistic(GroupedRule):
    """A figure of one column that must lie between bounds."""

    takes: ClassVar[str]
    """What the column must be, in words."""

    column: str = arg(COLUMN, "The column to check.")
    min: Any = arg(BOUND, "The lower bound. Default: none.", default=None)
    max: Any = arg(BOUND, "The upper bound. Default: none.", default=None)
    closed: Closed = arg(
        CLOSED,
        "Which of the bounds are allowed values themselves: both, only the lower (left), only the upper "
        "(right), or none.",
        default="both",
    )

    def __post_init__(self) -> None:
        """Check that there is a bound, and that it bounds."""
        super().__post_init__()
        need_bound(self, "min", "max")

    @abstractmethod
    def figure(self, dtype: pl.DataType) -> Figure | None:
        """Return the figure to measure of a column of this type; None if the type has none. Of nulls alone the figure is null."""

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: the figure is outside the bounds."""
        scope.columns([self.column], schema, "column")
        dtype = schema[self.column]
        figure = self.figure(dtype)
        if figure is None and dtype == pl.Null:
            figure = figures.nothing()
        if figure is None:
            what = f"column {self.column!r} is {dtype_name(dtype)}, which has no {self.name}"
            raise scope.fault(what, f"name a column of {self.takes}", "column")
        what = f"the {self.name} of {self.column!r}"
        allowed = bounds(scope, figure.dtype(schema), what, least=self.min, most=self.max, closed=self.closed)
        of = [self.column]
        return [self.measured(self.title(), schema, scope, figure, allowed, columns=of, column=self.column, holds=of)]

    def title(self) -> str:
        """Return the subject of the check."""
        return self.column


@dataclass(frozen=True)
class Bounds:
    """What a measured value may be: a condition on ``VALUE``, and the same in words."""

    accept: pl.Expr
    expected: str


def need_bound(rule: Rule, *names: str) -> None:
    """Raise Fault where none of the arguments is given, or one is NaN."""
    given = [n for n in names if getattr(rule, n) is not None]
    if not given:
        raise Fault(f"{rule.name} needs a bound", f"give {', '.join(names[:-1])} or {names[-1]}", (names[0],))
    for name in given:
        value = getattr(rule, name)
        if isinstance(value, float) and math.isnan(value):
            raise Fault("NaN is not a bound", "write a number", (name,))


def bounds(
    scope: Scope,
    dtype: pl.DataType,
    what: str,
    *,
    least: Any = None,
    most: Any = None,
    equals: Any = None,
    closed: Closed = "both",
    show: Callable[[Any], str] = str,
) -> Bounds:
    """Return bounds on ``what``, whose type is ``dtype``; of ``least``, ``most`` and ``equals`` some are given.

    Raises
    ------
    Fault
        If one is not of that type, or nothing lies between them.
    """
    given = {n: v for n, v in (("min", least), ("max", most), ("equals", equals)) if v is not None}
    values = {n: written.resolved(v, scope, n) for n, v in given.items()}
    exprs = {n: literal(v, dtype, scope, n, what) for n, v in values.items()}
    if "min" in exprs and "max" in exprs:
        nothing = exprs["min"] > exprs["max"] if closed == "both" else exprs["min"] >= exprs["max"]
        if bool(pl.select(nothing).item()):
            above = pl.select(exprs["min"] > exprs["max"]).item()
            said = f"min {least} is greater than max {most}" if above else f"nothing lies between {least} and {most}"
            raise scope.fault(said, "swap them" if above else "write closed: both", "min")
    value, conditions, words = pl.col(VALUE), [], []
    if dtype.is_float():
        conditions.append(~value.is_nan())  # Polars orders NaN above everything
    for name, expr in exprs.items():
        shown = show(values[name])
        match name:
            case "min":
                at = closed in ("both", "left")
                conditions.append(value >= expr if at else value > expr)
                words.append(f"at least {shown}" if at else f"above {shown}")
            case "max":
                at = closed in ("both", "right")
                conditions.append(value <= expr if at else value < expr)
                words.append(f"at most {shown}" if at else f"below {shown}")
            case _:
                conditions.append(value == expr)
                words.append(f"exactly {shown}")
    return Bounds(reduce(and_, conditions), " and ".join(words))


def typed(values: Sequence[Any], dtype: pl.DataType, scope: Scope, argument: str, what: str) -> pl.Series:
    """Return written values as a series that compares with ``dtype``; raises Fault where they cannot."""
    try:
        return written.typed_values(values, dtype, scope, argument, "")
    except Fault:
        shown = ", ".join(repr(v) for v in values[:5])
        said = f"{shown} cannot be compared with {what}, which is {dtype_name(dtype)}"
        fix = f"write {'values' if len(values) > 1 else 'a value'} of that type"
        raise scope.fault(said, fix, argument) from None


def literal(value: Any, dtype: pl.DataType, scope: Scope, argument: str, what: str) -> pl.Expr:
    """Return a written value as a literal that compares with ``dtype``; raises Fault where it cannot."""
    return written.literal(typed([value], dtype, scope, argument, what))


def fraction(given: Any, argument: str) -> Fraction:
    """Read ``0.95`` or ``95%``; raises Fault where it is neither, or not between nothing and all."""
    number, percent, rest = str(given).strip().partition("%")
    try:
        # exact: as a float, 0.7% is not 7 of 1000
        value = Fraction(number.strip()) / (100 if percent else 1)
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if rest or value < 0:
        raise Fault(f"{given!r} is not a fraction", "write one from 0 to 1, or 0% to 100%", (argument,))
    if value > 1:
        raise Fault(f"{given} is more than all rows", "write a fraction from 0 to 1, or 0% to 100%", (argument,))
    return value


def percent(part: float) -> str:
    """Return a fraction as people write it.

    Examples
    --------
    >>> percent(0.125)
    '12.5%'
    """
    return f"{part * 100:.10g}%"
