"""Row tracing through SQL queries: which input rows made each result row, as far as the plan proves it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from lazypipe.compile.changes.passing import Passing
from lazypipe.compile.changes.through import LookedUp, looked_up
from lazypipe.compile.node import Node
from lazypipe.ops import Operation
from lazypipe.ops.base import AHEAD, MADE, MADE_FROM, OTHER_MADE_FROM, both_made
from lazypipe.ops.sql import Sql
from lazypipe.spec.scope import Scope, Table
from lazypipe.sql.query import query
from lazypipe.sql.steps import steps
from lazypipe.sql.text import carrying

__all__ = ["Carried", "carry_query"]


@dataclass(frozen=True)
class Carried:
    """Rows with what made them in ``MADE_FROM``; None where that is unknown.

    Of inputs that are ``whole`` any row may have had a part besides. ``reasons`` say what stands against naming just the rows that had one.
    """

    frame: pl.LazyFrame | None
    whole: frozenset[str] = frozenset()
    reasons: tuple[str, ...] = ()


def carry_query(node: Node, index: int, operation: Operation, table: Table, scope: Scope) -> Carried | None:
    """Return the rows of a query over inputs that have ``MADE_FROM``; None for other steps, and for queries that mix all rows.

    Where each row is made of one, or of a group whose figures add up, just these are named; where rows have to do with those that have the same
    values in some columns, all of these, as of inputs that are looked up by keys. Of others that the query reads any row may have had a part.
    """
    if not isinstance(operation, Sql):
        return None
    passing = Passing(node, index, operation, table, scope)
    whole, said = set(passing.plan.whole), []
    for name, places in _looked_up(passing).items():
        for place in places:
            table = _with_found(table, scope.tables[name], place)
            said.append(
                f"sql matches rows of {name} by {', '.join(place.there)}, and all rows with equal values are listed"
            )
        whole.discard(name)
    reasons = (*said, *(f"sql can read any row of {name}" for name in sorted(whole)))
    query = _Query(passing, table, scope)
    if passing.change(frozenset([AHEAD])) == "each":
        return Carried(query.lowered(operation, told=True), frozenset(whole), reasons)
    if (added := query.added_up()) is not None:
        return Carried(added)
    apart = passing.apart()
    if not apart or any(table.schema[c].is_nested() for c in apart):
        return None
    groups = table.frame.group_by([*apart]).agg(MADE)
    made = query.lowered(operation, told=False).join(
        groups, left_on=[*apart.values()], right_on=[*apart], how="left", nulls_equal=True
    )
    by = f"sql groups by {', '.join(apart)}, and all rows with equal values are listed"
    return Carried(made, frozenset(whole), (by, *reasons))


def _looked_up(passing: Passing) -> dict[str, tuple[LookedUp, ...]]:
    """Return the places where rows find rows of other inputs by equal keys whose types compare without a cast."""
    if passing.plan.rows != {passing.ahead}:
        return {}
    here, tables = passing.table.schema, passing.scope.tables
    found = looked_up(passing.node.stubs[passing.index].plan(), passing.ahead)
    return {
        name: places
        for name, places in found.items()
        if all(
            here[a] == tables[name].schema[b] and not here[a].is_nested()
            for place in places
            for a, b in zip(place.here, place.there, strict=True)
        )
    }


def _with_found(table: Table, other: Table, place: LookedUp) -> Table:
    """Return rows that are also made of another input's rows with the same keys. Nulls count as equal, since the plan does not say whether they are."""
    groups = other.frame.group_by(place.there).agg(MADE.alias(OTHER_MADE_FROM))
    joined = table.frame.join(groups, left_on=place.here, right_on=place.there, how="left", nulls_equal=True)
    return replace(table, frame=both_made(joined))


@dataclass(frozen=True)
class _Query:
    passing: Passing
    table: Table
    scope: Scope

    def lowered(self, operation: Operation, *, told: bool) -> pl.LazyFrame:
        """Return the rows of a query in this place, if what made them is ``told``."""
        bare = {n: replace(t, frame=t.frame.drop(MADE_FROM), extra=()) for n, t in self.scope.tables.items()}
        # last, as it was when plans were asked: a query may take columns by their place
        columns, extra = [*self.table.schema], self.table.extra if told else ()
        ahead = replace(self.table, frame=self.table.frame.select(*columns, *extra), extra=extra)
        tables = bare if self.passing.index else {**bare, self.passing.ahead: ahead}
        return operation.lower(ahead, replace(self.scope, tables=tables))

    def added_up(self) -> pl.LazyFrame | None:
        """Return groups whose figures add up, each with the rows that are in it; None where the query is no such."""
        operation, names = self.passing.operation, self.passing.node.schemas[self.passing.index].names()
        assert isinstance(operation, Sql)
        found = steps(operation.query, names)
        if found is None or self.passing.folds() is None:
            return None
        rows = self.lowered(replace(operation, query=found.rows), told=True)
        by, schema = [*found.by], rows.collect_schema()
        if any(schema[c].is_nested() for c in by):
            return None
        figures = query(found.figures, {"self": rows.drop(MADE_FROM)})
        if by:
            groups = figures.join(rows.group_by(by).agg(MADE), on=by, how="left", nulls_equal=True)
        else:
            groups = figures.join(rows.select(MADE.implode()), how="cross")
        made = query(carrying(found.result, [MADE_FROM]), {"self": groups}, self.scope.params)
        return made.select(*names, MADE_FROM)
