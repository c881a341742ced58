"""``union``: the rows of several stages, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from lazypipe.ops.base import Change, Operation, Scope, Table
from lazypipe.spec.arguments import INPUTS, arg, choice


@dataclass(frozen=True)
class Union(Operation):
    """Append the rows of other sources or stages; columns are matched by name.

    All rows stay, duplicates included. Columns of the same name must have the same type. A column that one side lacks
    is refused, or filled with nulls.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"union": "b"}, pl.LazyFrame({"x": [1]}), b=pl.LazyFrame({"x": [2]})).collect().rows()
    [(1,), (2,)]
    """

    name: ClassVar[str] = "union"
    shorthand: ClassVar[str] = "with"
    with_: tuple[str, ...] = arg(INPUTS, "The other sources or stages.")
    missing: Literal["refuse", "fill"] = arg(
        choice("refuse", "fill"), "What to do about a column that one side lacks.", default="refuse"
    )

    def inputs(self) -> tuple[str, ...]:
        """Return the other sides."""
        return self.with_

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``concat``."""
        others = [(name, scope.table(name)) for name in self.with_]
        known = dict(table.schema)
        for index, (name, other) in enumerate(others):
            for column, there in other.schema.items():
                here = known.setdefault(column, there)
                if here != there:
                    what = f"column {column!r} is {here} here and {there} in {name!r}"
                    raise scope.fault(what, "cast one of them first", "with", index)
            lacking = sorted(set(table.schema) ^ set(other.schema))
            if lacking and self.missing == "refuse":
                side = name if lacking[0] in table.schema else "this side"
                what = f"{side} lacks column {lacking[0]!r}"
                raise scope.fault(what, "add it, or say missing: fill", "with", index)
        frames = [table.frame, *(other.frame for _, other in others)]
        return pl.concat(frames, how="diagonal")

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Rows stay as they are, of either input."""
        return self.lower(table, scope)

    def change(self, table: Table, scope: Scope, changed: frozenset[str]) -> Change:
        """Rows of any side go on by themselves."""
        return "alone"
