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
"""A column of frames that are traced, in no schema: for each row, the source rows that it was made of (``List(UInt64)``)."""
OTHER_MADE_FROM = f"{MADE_FROM}_there"
"""The same for the other side of a join, until both are combined."""


AHEAD = ""
"""The name, among the inputs of an operation, of the rows of the step before."""

Change = Literal["each", "alone", "all"]
"""How a change passes through an operation.

``each``: added rows give new rows, and removed rows remove just these; other inputs are read as they are.
``alone``: the same, and inputs that have not changed need not be read. ``all``: any row may change.
"""


@dataclass(frozen=True)
class Fold:
    """An operation in two steps: partial results of parts of the rows, and the merge of these.

    Attributes
    ----------
    partial
        One or more rows for each part, with the columns that identify the part.
    merge
        Takes such rows of any parts, and returns what the operation returns for all of their rows.
    by
        The grouping columns of both. Each resulting row is made of one group, and each partial row belongs to one group,
        unless ``spread`` is given.
    spread
        Finds the groups of a partial row, if the columns ``by`` do not say them.
    reads
        The columns of the input that partial results are computed from; None if these may be all.
    """

    partial: pl.LazyFrame
    merge: Callable[[pl.LazyFrame], pl.LazyFrame]
    by: tuple[str, ...] = ()
    spread: Spread | None = None
    reads: frozenset[str] | None = None


@dataclass(frozen=True)
class Match:
    """How rows before an operation, or before a gate, find rows of another input: by equal keys, and by nothing else.

    Only the rows with its key decide what becomes of a row: whether there are any, how many, and what they have in some columns.

    Attributes
    ----------
    here, other, there
        Columns ``here`` are compared, one by one, with the columns ``there`` of the input ``other``.
    taken
        The columns of the other input that decide.
    times
        Whether the number of rows found decides.
    nulls
        Whether null keys are equal; otherwise they find nothing.
    unique
        Whether a key that occurs twice in the other input is refused.
    types
        The types in which keys are compared, if they differ on both sides.
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
    """One step of a stage: a frozen dataclass of arguments that builds a LazyFrame.

    Only ``lower`` must be written. The other methods say more about the operation, so that runs can be incremental; their defaults are always safe.

    Attributes
    ----------
    keeps_columns
        Whether it leaves all columns as they are, whatever its arguments are.
    implied
        Grouping columns that follow from the others, such as the end of a window from its start.
    joint
        Grouping columns that identify a group only together with all others.
    """

    keeps_columns: ClassVar[bool] = False
    implied: ClassVar[tuple[str, ...]] = ()
    joint: ClassVar[tuple[str, ...]] = ()

    def inputs(self) -> tuple[str, ...]:
        """Return the names of the other sources and stages that it reads."""
        return ()

    def code(self, scope: Scope) -> tuple[Callable[..., object], ...]:
        """Return the Python functions that it calls."""
        return ()

    @abstractmethod
    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Return the frame after this operation, without reading data and without Python code for each row.

        Raises
        ------
        Fault
            If an argument does not fit the schema.
        """

    def refuse_others(
        self, result: pl.LazyFrame, schema: Mapping[str, pl.DataType], extra: Sequence[str], scope: Scope
    ) -> None:
        """Raise Fault if the result over rows has other columns than over an empty frame; only functions can do that."""

    def large(self, large: frozenset[str]) -> bool:
        """Whether its rows may be too many for memory, given the inputs for which that holds; ``AHEAD`` means the rows of the step before."""
        return bool(large)

    def multiplies(self) -> bool:
        """Whether it may return more rows than all of its inputs have."""
        return False

    def each(self, table: Table, scope: Scope) -> bool:
        """Whether each resulting row is made of one input row and depends on no other; it then also keeps ``extra`` columns."""
        return False

    def change(self, table: Table, scope: Scope, changed: frozenset[str]) -> Change:
        """Return how rows that are added to inputs, or removed from them, pass through; ``AHEAD`` means the rows of the step before."""
        return "each" if changed == {AHEAD} and self.each(table, scope) else "all"

    def reach(self, table: Table, scope: Scope) -> Reach | None:
        """Return which rows may match others if rows of its other input are added or removed; None if any may."""
        return None

    def match(self, table: Table, scope: Scope) -> Match | None:
        """Return the keys by which its rows find rows of another input, if the result depends on nothing else there; otherwise None."""
        return None

    def fold(self, table: Table, scope: Scope) -> Fold | None:
        """Lower it in two steps, with the parts distinguished by ``extra`` columns; None if that is impossible."""
        return None

    def apart(self, table: Table, scope: Scope) -> Mapping[str, str] | None:
        """Return columns such that rows depend only on rows with the same values in them, each with its name afterwards; None to ask the plan.

        For a join, this holds for the rows of both sides: to rebuild some keys, the rows with these keys are needed from both.
        """
        return None

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Lower over frames with the column ``MADE_FROM``, so that the result has it too: the rows that each row was made of.

        If each row is made of one row, that is ``lower`` itself. None if it is not known, the default: any row of any input may
        have contributed.
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
"""The source rows that any row of a group was made of."""


def carry_partitions(operation: Operation, table: Table, scope: Scope, by: Sequence[str]) -> pl.LazyFrame | None:
    """Lower an operation that reads, for each row, the rows of its partition (all rows, without ``by``), and carry those.

    A join instead of a window function: so a filter on the result is pushed to one side, and the other side has each list once.
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
    """Return the scope with ``MADE_FROM`` of another input renamed, and added to its schema."""
    other = scope.tables[name]
    schema = pl.Schema({**other.schema, OTHER_MADE_FROM: pl.List(pl.UInt64)})
    return replace(
        scope, tables={**scope.tables, name: Table(other.frame.rename({MADE_FROM: OTHER_MADE_FROM}), schema)}
    )


def both_made(joined: pl.LazyFrame) -> pl.LazyFrame:
    """Combine what both sides of each row of a join were made of; either may be missing."""
    none = pl.lit([], dtype=pl.List(pl.UInt64))
    here, there = pl.col(MADE_FROM).fill_null(none), pl.col(OTHER_MADE_FROM).fill_null(none)
    return joined.with_columns(pl.concat_list(here, there).list.unique().alias(MADE_FROM)).drop(OTHER_MADE_FROM)


def is_rowwise(exprs: Iterable[str | pl.Expr], schema: pl.Schema, scope: Scope) -> bool:
    """Whether expressions, as they are written, depend for each row on that row alone."""
    return reads_one_row([scope.expr(e, schema, "") for e in exprs], schema)


def reads_one_row(exprs: Sequence[pl.Expr], schema: pl.Schema) -> bool:
    """Whether expressions depend for each row on that row alone.

    This is tested with Polars' optimizer: it pushes a filter on another column below such expressions, and only those. ``Expr.meta.is_row_separable``
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
    # a common subexpression would become a step of its own, below which the filter is pushed
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
