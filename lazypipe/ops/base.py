"""What every operation is: arguments, and how they lower to a Polars LazyFrame."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from lazypipe.errors import nearest
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.scope import Scope, Table

__all__ = ["Operation", "Ordering", "Scope", "Table", "ordering"]


class Operation(Arguments):
    """One step in a stage: a frozen dataclass of arguments that lowers to a LazyFrame."""

    def inputs(self) -> tuple[str, ...]:
        """Return the names of the other sources and stages it reads."""
        return ()

    @abstractmethod
    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Return the frame after this operation: pure, no data read, no Python per row.

        Raises
        ------
        Fault
            If an argument does not fit the schema.
        """


@dataclass(frozen=True)
class Ordering:
    """Columns to order by, each with its direction; nulls come last unless told otherwise."""

    columns: tuple[str, ...]
    descending: tuple[bool, ...]
    nulls_last: tuple[bool, ...]

    def sort(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Sort a frame; equal rows keep their order."""
        return frame.sort(self.columns, descending=self.descending, nulls_last=self.nulls_last, maintain_order=True)


_ORDER = re.compile(r"(.*?)(?:\s+(asc|desc))?(?:\s+nulls\s+(first|last))?", re.IGNORECASE | re.DOTALL)


def ordering(texts: Sequence[str], schema: pl.Schema, scope: Scope, argument: str) -> Ordering:
    """Read ``["origin", "dep_delay DESC NULLS FIRST"]``; raises Fault for unknown columns."""
    columns, descending, nulls_last = [], [], []
    for index, text in enumerate(texts):
        name, direction, nulls = text, None, None
        if text not in schema and (match := _ORDER.fullmatch(text.strip())):
            name, direction, nulls = match.groups()
        name = name.strip().strip('"')
        if name not in schema:
            raise scope.fault(f"unknown column {name!r}", nearest(name, schema, "columns"), argument, index)
        columns.append(name)
        descending.append((direction or "").lower() == "desc")
        nulls_last.append((nulls or "last").lower() == "last")
    return Ordering(tuple(columns), tuple(descending), tuple(nulls_last))
