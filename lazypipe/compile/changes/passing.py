"""How changes pass through one step of a stage: by what its operation declares, otherwise by what its plan shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from lazypipe.compile.fingerprint import unknown
from lazypipe.compile.node import HERE, Node
from lazypipe.ops import Operation
from lazypipe.ops.aggregate import Aggregate
from lazypipe.ops.base import AHEAD, Change, Match
from lazypipe.ops.join import Join
from lazypipe.ops.limit import Limit
from lazypipe.ops.python import Python
from lazypipe.ops.sort import Sort
from lazypipe.ops.sql import Sql
from lazypipe.ops.window import Window
from lazypipe.plan.follow import follow
from lazypipe.plan.nodes import PlanNode
from lazypipe.plan.reader import read_plan
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope, Table
from lazypipe.spec.taps import label
from lazypipe.sql.exprs import empty
from lazypipe.sql.query import query
from lazypipe.sql.steps import steps
from lazypipe.sql.text import SqlError
from lazypipe.storage.datasets.units import UNIT

if TYPE_CHECKING:
    from lazypipe.compile.changes.through import Through

__all__ = ["Passing"]


@dataclass(frozen=True)
class Passing:
    """One step of a stage, over empty frames: ``table`` is its input, ``scope`` has the stage's inputs."""

    node: Node
    index: int
    operation: Operation
    table: Table
    scope: Scope

    @cached_property
    def plan(self) -> Through:
        """What its plan shows."""
        from lazypipe.compile.changes.through import through

        return through(self.node.stubs[self.index].plan(), self.ahead)

    @property
    def ahead(self) -> str:
        """The label of its input in its plan."""
        return HERE if self.index else self.node.inputs[0]

    def inputs(self) -> tuple[str, ...]:
        """Return the names of the other sources and stages that it reads."""
        if not isinstance(self.operation, Sql):
            return self.operation.inputs()
        read = self.plan.rows | self.plan.whole
        return tuple(n for n in self.node.inputs if n in read and n != self.ahead)

    def change(self, changed: frozenset[str], *, told: bool = True) -> Change:
        """Return how rows that are added to inputs, or removed from them, pass through it; ``told``: with the unit of each row."""
        if not isinstance(self.operation, Sql):
            return self.operation.change(self.table, self.scope, changed)
        plan, these = self.plan, frozenset(self.ahead if n == AHEAD else n for n in changed)
        if plan.against or plan.by is not None or plan.ordered or not {self.ahead} <= plan.rows <= these:
            return "all"
        if told and not self.carries(plan.rows):
            return "all"
        if these == {self.ahead}:
            return "each"
        return "alone" if plan.whole.isdisjoint(these) else "all"

    def carries(self, told: frozenset[str]) -> bool:
        """Whether a query still gives the same rows, each with its unit, if some of its inputs have a column with the unit."""
        from lazypipe.compile.changes.through import through

        states = {n: unknown(n, pl.Schema({**t.schema, UNIT: pl.UInt64()})) for n, t in self._tables(told).items()}
        plain = self.lowered(frozenset(), ())
        try:
            carrying = self.lowered(told, (UNIT,))
        except Fault:
            return False
        columns = plain.collect_schema().names()
        if {*carrying.collect_schema()} != {*columns, UNIT}:
            return False
        plans = [read_plan(f, exact=True) for f in (plain, carrying)]
        one, other = (follow(p, states, lambda: "") for p in plans)
        same = one.rows == other.rows and all(other.columns[c] == one.columns[c] for c in columns)
        return same and through(plans[1], self.ahead, told).kept.get(UNIT) == UNIT

    def lowered(self, told: frozenset[str], extra: tuple[str, ...]) -> pl.LazyFrame:
        """Return its plan over inputs, some of which have a column with the unit of each row."""
        tables = self._tables(told)
        ahead = tables.pop(HERE) if self.index else tables[self.ahead]
        return self.operation.lower(replace(ahead, extra=extra), replace(self.scope, tables=tables))

    def _tables(self, told: frozenset[str]) -> dict[str, Table]:
        schemas = {n: t.schema for n, t in self.scope.tables.items()} | {self.ahead: self.table.schema}
        unit = {UNIT: pl.UInt64()}
        frames = {n: empty({**s, **(unit if n in told else {})}).lazy() for n, s in schemas.items()}
        return {n: Table(label(f, n), schemas[n]) for n, f in frames.items()}

    def folds(self) -> tuple[str, ...] | None:
        """Return the grouping columns, if the aggregates can be added up from parts; otherwise None."""
        if self.inputs():
            return None
        if isinstance(self.operation, Sql):
            return () if self._gives_first_rows(self.operation) else self._adds_up(self.operation)
        tagged = self.table.frame.with_columns(pl.lit(0, dtype=pl.UInt64).alias(UNIT))
        fold = self.node.folds(replace(self.table, frame=tagged, extra=(UNIT,)), self.scope, self.index)
        return None if fold is None else fold.by

    def _gives_first_rows(self, operation: Sql) -> bool:
        """Whether a query returns first rows that can be computed for each file alone, and its text says the same as its plan."""
        from lazypipe.compile.changes.first_rows import first_rows
        from lazypipe.compile.changes.through import through

        found = first_rows(self._written, operation.query)
        if found is None or found.missing:
            return False
        unlimited, rows = self._guess(operation, found.unlimited), self._guess(operation, found.unordered)
        if unlimited is None or rows is None or self._written.inputs != (unlimited,):
            return False
        ahead = through(rows, self.ahead)
        if ahead.against or ahead.by is not None or ahead.ordered or not self._alike(unlimited, rows, frozenset()):
            return False
        plain = replace(self, operation=replace(operation, query=found.unordered))
        return plain.carries(frozenset([self.ahead]))

    def _adds_up(self, operation: Sql) -> tuple[str, ...] | None:
        """Return the columns a query groups by, if its aggregates add up and can be computed for each file alone."""
        from lazypipe.compile.changes.added_up import fold_query, grouped
        from lazypipe.compile.changes.through import through

        found = steps(operation.query, self.node.schemas[self.index].names())
        guess = None if found is None else self._guess(operation, found.rows)
        if found is None or guess is None:
            return None
        rows, ahead = replace(self, operation=replace(operation, query=found.rows)), through(guess, self.ahead)
        if ahead.against or ahead.by or ahead.ordered or not rows.carries(frozenset([self.ahead])):
            return None
        try:
            figures = query(found.figures, {"self": rows.lowered(frozenset(), ())})
            whole = query(found.result, {"self": figures}, self.scope.params)
        except SqlError:
            return None
        plans = [grouped(p) for p in (self._written, *(read_plan(f, exact=True) for f in (whole, figures)))]
        wanted, made, kept = plans
        if wanted is None or kept is None or wanted != made or not wanted.is_made_of(kept.columns.values()):
            return None
        folded = fold_query(found, operation, replace(self.table, extra=()), self.scope, self.node.schemas[self.index])
        return None if folded is None else folded.by

    def _guess(self, operation: Sql, query: str) -> PlanNode | None:
        """Return the plan of another query in this place; None if there is no such query."""
        guess = replace(self, operation=replace(operation, query=query))
        try:
            return read_plan(guess.lowered(frozenset(), ()), exact=True)
        except Fault:
            return None

    def _alike(self, plan: PlanNode, other: PlanNode, told: frozenset[str]) -> bool:
        """Whether two plans give the same rows, with the columns of the first."""
        states = {n: unknown(n, pl.Schema({**t.schema, UNIT: pl.UInt64()})) for n, t in self._tables(told).items()}
        one, two = (follow(p, states, lambda: "") for p in (plan, other))
        return one.rows == two.rows and all(one.columns[c] == two.columns.get(c) for c in plan.columns)

    @cached_property
    def _written(self) -> PlanNode:
        """The plan of the step, as it is written, in the place where guesses stand."""
        return read_plan(self.lowered(frozenset(), ()), exact=True)

    def apart(self) -> dict[str, str]:
        """Return the columns within whose values alone rows have to do with each other, each with its name after the step."""
        if isinstance(self.operation, Sql):
            return {} if self.plan.ordered or self.plan.rows != {self.ahead} else self.plan.apart
        said = self.operation.apart(self.table, self.scope)
        if said is not None:
            return dict(said)
        return {} if self.operation.inputs() else self.plan.apart

    def matches(self) -> dict[str, tuple[Match, ...]]:
        """Return the keys by which its rows find rows of other inputs, one for each place where an input is read; inputs without a known key are left out."""
        from lazypipe.compile.changes.through import looked_up

        match = self.operation.match(self.table, self.scope)
        if match is not None:
            return {match.other: (match,)}
        if not isinstance(self.operation, Sql | Python) or self.plan.rows != {self.ahead} or self.plan.by is not None:
            return {}
        found = looked_up(self.node.stubs[self.index].plan(), self.ahead)
        taken = {n: tuple(self.scope.tables[n].schema) for n in found}
        # whether nulls are equal to each other its plan does not say
        return {n: tuple(Match(u.here, n, u.there, taken[n], nulls=True) for u in of) for n, of in found.items()}

    def mixes(self, other: str) -> str:
        """Say why it is not known which of its rows a change in another input touches."""
        if isinstance(self.operation, Join):
            return f"each row is paired with every row of {other}"
        if self.plan.opaque:
            return self.plan.against
        return f"rows of {other} are not matched by equality of unchanged columns alone"

    def against(self, behind: str = "", by: Sequence[str] = ()) -> str:
        """Say what stands against following single files behind it; or groups ``by`` columns, ``behind`` a step that makes them."""
        clause = self._behind(behind, by) if behind else self._clause()
        return f"{self.operation.name} can change any row" + (f" ({clause})" if clause else "")

    def _behind(self, behind: str, by: Sequence[str]) -> str:
        """Say why groups of an earlier step cannot be distinguished after it."""
        if self.inputs():
            name = self.node.name
            return f"it follows {behind}, which works by group; write {name} up to there as an output of its own"
        apart = [*self.apart()]
        if apart:
            ahead = f"{behind} by {', '.join(by)}" if by else f"{behind} has no groups"
            return f"it works by {', '.join(apart)}, and {ahead}; give both a column in common"
        return f"it needs all groups of {behind}"

    def _clause(self) -> str:
        """Say which part of the operation is the reason, and what to write instead where there is something."""
        from lazypipe.ops.closed import Closed
        from lazypipe.ops.sample import Sample
        from lazypipe.ops.session import Session

        operation = self.operation
        match operation:
            case Sort():
                after = self.node.steps[self.index + 1 :]
                missing = [c for c in self.table.schema if c not in {*operation.columns(self.table, self.scope)}]
                first = after and isinstance(after[0][0], Limit)
                return _untied(missing) if first else f"it orders all rows; {_UNSORTED}"
            case Sample():
                return "it draws from all rows; use a fraction, which is decided row by row"
            case Limit():
                return "the order of rows is undefined; sort by all columns right before it"
            case Python():
                return "unless you declare incremental: rows"
            case Join():
                pairs = zip(operation.on or operation.left_on, operation.on or operation.right_on, strict=True)
                there = self.scope.tables[operation.with_].schema
                types = [(self.table.schema[a], there[b]) for a, b in pairs if self.table.schema[a] != there[b]]
                return (
                    " and ".join(f"its keys are {a} here and {b} there" for a, b in types) + "; cast one of them first"
                )
            case Sql():
                return self._query_clause(operation)
            case Closed():
                return f"event time changes rows without a new file; put it after an aggregate or window by {operation.end}"
            case Aggregate() | Window() | Session():
                return "its aggregates cannot be merged from partial ones; add by, so that only changed groups are recomputed"
        return f"{self.plan.against}; {_PARTITIONS}" if self.plan.against else ""

    def _query_clause(self, operation: Sql) -> str:
        from lazypipe.compile.changes.first_rows import first_rows

        found = first_rows(self._written, operation.query)
        if found is not None and found.missing:
            return _untied(found.missing)
        if self.plan.against or self.plan.ordered:
            what = self.plan.against or "ORDER BY"
            return f"{what}; {_INSTEAD[what]}" if what in _INSTEAD else what
        if self.ahead not in self.plan.rows:
            return "its rows are not made from those before it"
        if self.plan.by is not None:
            return f"it does not give {' or '.join(sorted(self.plan.by))} unchanged, which it groups by; select it too"
        return "the file of each row cannot be traced"


_UNSORTED = "remove it, and sort where the output is read"
_PARTITIONS = "partition it by unchanged columns (by, or PARTITION BY)"
_INSTEAD: Mapping[str, str] = {
    "ORDER BY": _UNSORTED,
    "LIMIT": "it needs ORDER BY all columns that are selected, and no other",
    "FULL JOIN": "use the operation join, which follows both sides",
}


def _untied(missing: Sequence[str]) -> str:
    return f"rows that tie have no order; order by {', '.join(missing)} too"
