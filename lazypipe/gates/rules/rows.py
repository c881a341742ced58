"""Rules on several columns of one row: ``expression``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.gates.rule import Check, Rule
from lazypipe.spec.arguments import SQL, arg
from lazypipe.spec.scope import Scope


@dataclass(frozen=True)
class Expression(Rule):
    """A SQL condition must be true. Where it is null (a comparison with null), the row passes.

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
