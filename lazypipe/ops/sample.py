"""``sample``: some of the rows, always the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import COLUMNS, COUNT, FRACTION, arg
from lazypipe.spec.model import Fault


@dataclass(frozen=True)
class Sample(Operation):
    """Keep a fraction or a number of rows, chosen by a seeded hash: the same rows whatever their order or files.

    With ``fraction``, rows that are equal in ``by`` (by default in all columns) are kept or removed together; a
    sample by customer keeps whole customers. The choice is deterministic for a given version of Polars.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"sample": {"rows": 2}}, pl.LazyFrame({"a": range(9)})).collect().height
    2
    """

    name: ClassVar[str] = "sample"
    keeps_columns: ClassVar[bool] = True
    fraction: float | None = arg(FRACTION, "The fraction of the rows to keep, from 0 to 1.", default=None)
    rows: int | None = arg(COUNT, "The number of rows to keep.", default=None)
    seed: int = arg(COUNT, "The seed of the hash; another seed gives another sample.", default=0)
    by: tuple[str, ...] = arg(
        COLUMNS, "The columns whose equal rows are kept or removed together. Default: all columns.", default=()
    )

    def __post_init__(self) -> None:
        """Check that there is one size."""
        if (self.fraction is None) == (self.rows is None):
            raise Fault(
                "sample needs one size", "give fraction or rows", ("fraction" if self.fraction is not None else "rows",)
            )
        if self.fraction is not None and not 0 <= self.fraction <= 1:
            raise Fault(f"{self.fraction} is not a fraction of the rows", "write a number from 0 to 1", ("fraction",))
        if self.rows is not None and self.rows < 0:
            raise Fault(f"{self.rows} rows cannot be kept", "write a whole number, zero or more", ("rows",))
        if not 0 <= self.seed < 2**64:
            raise Fault(f"{self.seed} cannot be a seed", "write a whole number from 0 to 2^64 - 1", ("seed",))

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to a filter on a hash, or to the k smallest hashes."""
        scope.columns(self.by, table.schema, "by")
        # by name: in which order columns stand says nothing about a row
        hashed = pl.struct(self.by or sorted(table.schema)).hash(self.seed)
        if self.fraction is not None:
            threshold = round(self.fraction * 2**64)
            if threshold >= 2**64:
                return table.frame
            return table.frame.filter(hashed < pl.lit(threshold, dtype=pl.UInt64))
        column = "__lazypipe_hash"
        # all columns break ties of the hash, so that the choice does not depend on the order of rows
        rows = table.frame.with_columns(hashed.alias(column))
        return rows.bottom_k(self.rows or 0, by=[column, *sorted(table.schema)]).drop(column)

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Rows stay as they are."""
        return self.lower(table, scope)

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes, of a fraction: a row's hash decides."""
        return self.fraction is not None
