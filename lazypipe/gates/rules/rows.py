"""Rules on several columns of one row: ``expression``, ``conditional``, ``any_not_null``, ``exclusive``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.gates.rule import Check, Rule
from lazypipe.gates.rules.helpers import distinct_names
from lazypipe.spec.arguments import COLUMNS, FLAG, SQL, arg
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope


@dataclass(frozen=True)
class Expression(Rule):
    """A SQL condition must be true. If it is null, as a comparison with null is, the row passes.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"a": [1, 5, None], "b": [2, 2, 2]})
    >>> lp.check(frame, [{"expression": {"condition": "a <= b", "id": "order"}}]).failed
    {'order': 1}
    """

    name: ClassVar[str] = "expression"
    shorthand: ClassVar[str] = "condition"
    condition: str | pl.Expr = arg(SQL, "A SQL condition.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: the condition is false."""
        condition = self.bind(self.condition, schema, scope, "condition")
        return [self.check(str(self.condition), schema, scope, violated=~condition)]


@dataclass(frozen=True)
class Conditional(Rule):
    """If one SQL condition is true, another one must be true. If either is null, the row passes.

    To require a value, say so: ``then: shipped_at IS NOT NULL``. Unlike with ``where``, all rows count as checked.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"status": ["shipped", "shipped", "new", None], "day": [1, None, None, None]})
    >>> rules = [{"conditional": {"when": "status = 'shipped'", "then": "day IS NOT NULL", "id": "shipped"}}]
    >>> lp.check(frame, rules).failed
    {'shipped': 1}
    """

    name: ClassVar[str] = "conditional"
    when: str | pl.Expr = arg(SQL, "A SQL condition that selects the rows to check.")
    then: str | pl.Expr = arg(SQL, "A SQL condition that those rows must meet.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: the first is true and the second false."""
        when = self.bind(self.when, schema, scope, "when")
        then = self.bind(self.then, schema, scope, "then")
        return [self.check(f"{self.when} -> {self.then}", schema, scope, violated=when & ~then)]


@dataclass(frozen=True)
class AnyNotNull(Rule):
    """At least one of the columns must have a value: a row of nothing but nulls violates. NaN is a value.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"email": ["x@y.z", None], "phone": [None, None]})
    >>> lp.check(frame, [{"any_not_null": ["email", "phone"]}]).failed
    {'any_not_null:email,phone': 1}
    """

    name: ClassVar[str] = "any_not_null"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns of which one must have a value.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: all are null."""
        scope.columns(self.columns, schema, "columns")
        distinct_names(self.columns, scope, "columns")
        violated = pl.all_horizontal(pl.col(c).is_null() for c in self.columns)
        return [self.check(",".join(self.columns), schema, scope, violated=violated)]


@dataclass(frozen=True)
class Exclusive(Rule):
    """At most one of the columns may have a value; with ``exactly``, exactly one of them must. NaN is a value.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"cash": [5, 5, None], "card": [None, 5, None]})
    >>> rule = {"columns": ["cash", "card"], "exactly": True, "id": "one way to pay"}
    >>> lp.check(frame, [{"exclusive": ["cash", "card"]}, {"exclusive": rule}]).failed
    {'exclusive:cash,card': 1, 'one way to pay': 2}
    """

    name: ClassVar[str] = "exclusive"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "Two or more columns.")
    exactly: bool = arg(FLAG, "Whether a row without any value violates too. Default: no.", default=False)

    def __post_init__(self) -> None:
        """Check that columns can exclude each other."""
        super().__post_init__()
        if len(self.columns) < 2:
            raise Fault("one column excludes no other", "name two columns or more", ("columns",))
        for index, name in enumerate(self.columns):
            if name in self.columns[:index]:
                raise Fault(f"column {name!r} is named twice", "name it once", ("columns", index))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too many values, or none."""
        scope.columns(self.columns, schema, "columns")
        values = pl.sum_horizontal(pl.col(c).is_not_null().cast(pl.UInt32) for c in self.columns)
        violated = values != 1 if self.exactly else values > 1
        return [self.check(",".join(self.columns), schema, scope, violated=violated)]
