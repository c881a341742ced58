"""What every operation has: arguments, and how it builds its Polars LazyFrame."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import polars as pl

from lazypipe.errors import nearest
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.scope import Scope, Table
from lazypipe.sql.exprs import empty
from lazypipe.windows.figures import Spread
from lazypipe.windows.reach import Reach

__all__ = [
    "AHEAD",
    "MADE",
    "MADE_FROM",
    "OTHER_MADE_FROM",
    "Change",
    "Fold",
    "Match",
    "Operation",
    "Ordering",
    "Scope",
    "Table",
    "both_made",
    "carry_partitions",
    "is_rowwise",
    "ordering",
    "reads_one_row",
    "with_other_made",
]

MADE_FROM = "__lazypipe_made_from"
"""The column of a frame being traced that no schema lists: per row, the source rows that made it (``List(UInt64)``)."""
OTHER_MADE_FROM = f"{MADE_FROM}_there"
"""The same of the other side of a join, until the two are put together."""


AHEAD = ""
"""The rows ahead of an operation, among the names of its inputs."""

Change = Literal["each", "alone", "all"]
"""How a change passes through an operation.

``each``: rows that come give rows of their own, rows that go take just those along; other inputs are read as they are.
``alone``: the same, without the inputs that have not changed. ``all``: any row may change.
"""


@dataclass(frozen=True)
class Fold:
    """An operation on all rows in two steps: on parts of the rows, and on what came of the parts.

    ``partial`` has one or more rows for each part, and the columns by which parts are told apart; ``merge`` takes such rows, of
    any parts, and gives what the operation gives of all of their rows. ``by`` are the columns of both that tell groups apart: each row
    after it is made of one group, and those of a group are in all of its figures, but for those that ``spread`` tells. ``reads`` are the
    columns ahead of it that parts are made of; None if these may be all.
    """

    partial: pl.LazyFrame
    merge: Callable[[pl.LazyFrame], pl.LazyFrame]
    by: tuple[str, ...] = ()
    spread: Spread | None = None
    reads: frozenset[str] | None = None


@dataclass(frozen=True)
class Match:
    """How rows ahead of an operation, or of a gate, find those of another input: by equal keys, and by nothing else.

    Columns ``here`` are compared with ``there`` of the ``other`` input, one by one. What comes of a row is decided by the rows with
    its key: by whether there are any, how many (``times``), and the columns that are ``taken``. A null in a key finds nothing
    unless ``nulls`` are equal. With ``unique`` a key that stands twice on the other side is refused. ``types`` are those that keys
    are compared as, where they are not the same on both sides.
    """

    here: tuple[str, ...]
    other: str
    there: tuple[str, ...]
    taken: tuple[str, ...] = ()
    times: bool = True
    nulls: bool = False
    unique: bool = False
    types: tuple[pl.DataType, ...] = ()


class Operation(Arguments):
    """One step in a stage: a frozen dataclass of arguments that lowers to a LazyFrame.

    One that ``keeps_columns`` leaves all of them as they are, whatever its arguments say. ``implied`` are columns of those that tell its
    groups apart which are the same wherever the others are; ``joint`` are those that do so only together with all others.
    """

    keeps_columns: ClassVar[bool] = False
    implied: ClassVar[tuple[str, ...]] = ()
    joint: ClassVar[tuple[str, ...]] = ()

    def inputs(self) -> tuple[str, ...]:
        """Return the names of the other sources and stages it reads."""
        return ()

    def code(self, scope: Scope) -> tuple[Callable[..., object], ...]:
        """Return the Python functions that it calls."""
        return ()

    @abstractmethod
    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Return the frame after this operation: pure, no data read, no Python per row.

        Raises
        ------
        Fault
            If an argument does not fit the schema.
        """

    def refuse_others(
        self, result: pl.LazyFrame, schema: Mapping[str, pl.DataType], extra: Sequence[str], scope: Scope
    ) -> None:
        """Raise Fault where what was lowered over rows has other columns than over none; what only makes plans cannot."""

    def large(self, large: frozenset[str]) -> bool:
        """Whether its rows may be too many for memory, given the inputs for which that holds; ``AHEAD`` means the rows of the step before."""
        return bool(large)

    def multiplies(self) -> bool:
        """Whether there may be more rows after it than came to all of its inputs."""
        return False

    def each(self, table: Table, scope: Scope) -> bool:
        """Whether each row after it is made of one row ahead of it and of no other; ``extra`` columns then go along."""
        return False

    def change(self, table: Table, scope: Scope, changed: frozenset[str]) -> Change:
        """Return how rows that are added to inputs, or removed from them, pass through; ``AHEAD`` means the rows of the step before."""
        return "each" if changed == {AHEAD} and self.each(table, scope) else "all"

    def reach(self, table: Table, scope: Scope) -> Reach | None:
        """Return which rows ahead of it may be put beside others if rows of its other input come or go; None if any may."""
        return None

    def match(self, table: Table, scope: Scope) -> Match | None:
        """Return the keys by which rows ahead of it find rows of another input, where the result depends on nothing else; None otherwise."""
        return None

    def fold(self, table: Table, scope: Scope) -> Fold | None:
        """Lower it in two steps, with the parts distinguished by ``extra`` columns; None if that is impossible."""
        return None

    def apart(self, table: Table, scope: Scope) -> Mapping[str, str] | None:
        """Return columns within whose values alone rows have to do with each other, each with its name after it; None to ask the plan.

        Of a join that is so of the rows of both sides: whoever is made anew of some keys needs the rows with these, there and here.
        """
        return None

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Lower over frames with the column ``MADE_FROM``, so that it says of each resulting row which rows made it.

        Where each row is made of one row that is ``lower`` itself. None where it cannot be told, as of operations that do not
        say: any row of any input may have had a part.
        """
        return self.lower(table, scope) if self.each(table, scope) else None


@dataclass(frozen=True)
class Ordering:
    """Columns to order by, each with its direction; nulls come last unless stated otherwise."""

    columns: tuple[str, ...]
    descending: tuple[bool, ...]
    nulls_last: tuple[bool, ...]

    def sort(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Sort a frame; equal rows keep their order."""
        return frame.sort(self.columns, descending=self.descending, nulls_last=self.nulls_last, maintain_order=True)


MADE = pl.col(MADE_FROM).explode(empty_as_null=False, keep_nulls=False).unique()
"""What made any of the rows of a group."""


def carry_partitions(operation: Operation, table: Table, scope: Scope, by: Sequence[str]) -> pl.LazyFrame | None:
    """Lower an operation that reads, for each row, the rows of its partition (all rows, without ``by``), and carry those.

    A join, not a window: so a filter on what comes out is pushed to one side, and each list stands once on the other.
    """
    if any(table.schema[name].is_nested() for name in by):
        return None
    copies = [f"__lazypipe_by_{number}" for number in range(len(by))]
    before = table.frame.with_columns(pl.col(name).alias(copy) for name, copy in zip(by, copies, strict=True))
    lowered = operation.lower(Table(before.drop(MADE_FROM), table.schema), scope)
    if not by:
        return lowered.join(table.frame.select(MADE.implode()), how="cross")
    groups = before.group_by(copies).agg(MADE)
    return lowered.join(groups, on=copies, how="left", nulls_equal=True).drop(copies)


def with_other_made(scope: Scope, name: str) -> Scope:
    """Return the scope with ``MADE_FROM`` of another input under a name of its own, in its schema."""
    other = scope.tables[name]
    schema = pl.Schema({**other.schema, OTHER_MADE_FROM: pl.List(pl.UInt64)})
    return replace(
        scope, tables={**scope.tables, name: Table(other.frame.rename({MADE_FROM: OTHER_MADE_FROM}), schema)}
    )


def both_made(joined: pl.LazyFrame) -> pl.LazyFrame:
    """Put together what made the two sides of each row of a join; either may be missing."""
    none = pl.lit([], dtype=pl.List(pl.UInt64))
    here, there = pl.col(MADE_FROM).fill_null(none), pl.col(OTHER_MADE_FROM).fill_null(none)
    return joined.with_columns(pl.concat_list(here, there).list.unique().alias(MADE_FROM)).drop(OTHER_MADE_FROM)


def is_rowwise(exprs: Iterable[str | pl.Expr], schema: pl.Schema, scope: Scope) -> bool:
    """Whether expressions, as they are written, give for each row what that row alone decides."""
    return reads_one_row([scope.expr(e, schema, "") for e in exprs], schema)


def reads_one_row(exprs: Sequence[pl.Expr], schema: pl.Schema) -> bool:
    """Whether expressions give for each row what that row alone decides.

    Polars' optimizer is asked: it takes a filter on another column below those, and only those. ``Expr.meta.is_row_separable``
    says yes to ``a - a.mean()`` too, and fails on SQL's division.

    Examples
    --------
    >>> schema = pl.Schema({"a": pl.Int64()})
    >>> reads_one_row([pl.col("a") + 1], schema), reads_one_row([pl.col("a") - pl.col("a").mean()], schema)
    (True, False)
    >>> reads_one_row([pl.col("a") > 1, pl.when(pl.col("a") > 1).then(1)], schema)
    True
    """
    if not exprs:
        return True
    mark = "__lazypipe_mark"
    rows = empty({**schema, mark: pl.Boolean()}).lazy()
    made = rows.with_columns(e.alias(f"__lazypipe_made_{number}") for number, e in enumerate(exprs))
    # what several have in common would be a step of its own, below which the filter goes
    alone = pl.QueryOptFlags(comm_subexpr_elim=False)
    return made.filter(pl.col(mark)).explain(optimizations=alone).lstrip().startswith("WITH_COLUMNS")


_ORDER = re.compile(r"(.*?)(?:\s(asc|desc))?(?:\s+nulls\s+(first|last))?\s*", re.IGNORECASE | re.DOTALL)


def ordering(texts: Sequence[str], schema: pl.Schema, scope: Scope, argument: str) -> Ordering:
    """Read ``["origin", "dep_delay DESC NULLS FIRST"]``; raises Fault for unknown columns."""
    columns, descending, nulls_last = [], [], []
    for index, text in enumerate(texts):
        name, direction, nulls = text, None, None
        if text not in schema and (match := _ORDER.fullmatch(text)):
            written, direction, nulls = match.groups()
            # a name may have blanks at its ends, as headers give them, or quotes
            found = [n for n in schema if written.startswith(n) and not written.removeprefix(n).strip()]
            name = max(found, key=len, default=written.strip().strip('"'))
        if name not in schema:
            raise scope.fault(f"unknown column {name!r}", nearest(name, schema, "columns"), argument, index)
        columns.append(name)
        descending.append((direction or "").lower() == "desc")
        nulls_last.append((nulls or "last").lower() == "last")
    return Ordering(tuple(columns), tuple(descending), tuple(nulls_last))
