"""Rules on keys: ``unique``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.gates.rule import Check, Rule
from lazypipe.spec.arguments import COLUMNS, arg
from lazypipe.spec.scope import Scope


@dataclass(frozen=True)
class Unique(Rule):
    """No two rows may have the same values in the key columns. Rows with a null in the key are not compared.

    Every row of a repeated key violates, the first one too (as in dbt and Great Expectations): which of them is right
    cannot be told from the key.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 1, 2, None, None]}), [{"unique": "a"}]).failed
    {'unique:a': 2}
    """

    name: ClassVar[str] = "unique"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The key: one column or several.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check on the key."""
        scope.columns(self.columns, schema, "columns")
        return [self.check(",".join(self.columns), schema, scope, keys=self.columns)]
