"""The step at which an output is split: before it, partial aggregates are stored for each unit; after it, rows are computed from these.

A step that is folded is made of the figures of units. One that goes by groups is made of their rows, which are read again; what is kept of
each unit then are just the groups that it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from lazypipe.compile.changes.strategy import Closes, Side
from lazypipe.compile.closing import as_closed
from lazypipe.compile.node import Watching
from lazypipe.compile.segments import may_stop
from lazypipe.gates.uniqueness import HASH, hashed
from lazypipe.ops.base import AHEAD, Fold
from lazypipe.ops.join import Join
from lazypipe.run.segment.figures import Places
from lazypipe.run.segment.groups import by_time, fitted, rows_of
from lazypipe.spec import taps
from lazypipe.spec.scope import Table
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.tiers import FAN, LEAST
from lazypipe.storage.datasets.units import UNIT, untagged
from lazypipe.storage.sink import FEW, FEW_BYTES, are_few
from lazypipe.windows.clock import Clock
from lazypipe.windows.figures import Spread

if TYPE_CHECKING:
    from lazypipe.run.segment.query import Query

__all__ = ["FIGURES", "Grouping"]

FIGURES = "@figures"
"""What is kept of each unit, in the plan of the query that makes an output of that."""

_CELLS, _BYTES = 100 * FEW, 4 * FEW_BYTES
"""Up to so many values of partial aggregates, and so many bytes of their files, some groups are computed in memory: as many as a few rows of a hundred columns have."""


_NARROW = 8
"""Columns of rows that a gate copies whole, as fast as it is told which of them are read."""


class Grouping:
    """The step of a stage at which the query of a segment is cut.

    ``figures`` are the files with what was kept of the units that this run reads, and ``within`` their columns; only the groups that
    are ``touched`` are made anew, if they are known. Groups are ``larger`` than one row of the output. ``reading`` is the query that
    reads their rows.
    """

    def __init__(self, query: Query, name: str, step: int) -> None:
        assert query.beside is not None
        self.query = query
        self.work = query.work
        self.beside = query.beside
        self.node = query.plan.nodes[name]
        self.step = step
        self.by = [by for by, _ in query.work.groups]
        self.figures: tuple[DataFile, ...] = ()
        self.within = pl.Schema()
        self.touched: pl.DataFrame | None = None
        self.larger = query.work.reread
        self.reading = query
        self._places = Places(query.run.folder / "places")
        self._fold: Fold | None = None
        self.is_little = False
        """Whether the rows that it makes of what is kept are few for sure."""

    def begin(self) -> None:
        """Forget what was noted: the rows are gone through once more."""
        self._places = Places(self.query.run.folder / "places")

    @property
    def files(self) -> tuple[DataFile, ...]:
        """The files with what was kept of units, in this run and before."""
        return (*self.work.figures, *self.figures)

    @property
    def is_part(self) -> bool:
        """Whether rows are made of what is kept of units, and not, as groups are at first, of all rows there are."""
        return not self.work.reread or self.work.kind == "units"

    @property
    def order(self) -> list[str]:
        """The columns that what is kept of units is in the order of, and looked up by."""
        here = by_time([n for n in self.by if n in self.within], self.within)
        return here if self._spread is None else [*here, *self._spread.places]

    @property
    def _spread(self) -> Spread | None:
        """How to find the groups of partial aggregates that lack a grouping column; None if they have all of them."""
        told = self._fold is None or {*self.by} <= self.within.keys()
        return None if told or self._fold is None else self._fold.spread

    @property
    def came(self) -> pl.LazyFrame:
        """The figures of the units that this run reads."""
        return self.beside.scan(self.figures, self.within, self.work.live)

    @property
    def stayed(self) -> pl.LazyFrame:
        """The figures of all other units, as earlier runs kept them."""
        return self.beside.scan(self.work.figures, self.within, self.work.live)

    @property
    def left(self) -> pl.LazyFrame:
        """The figures of the units that are gone."""
        return self.beside.scan(self.work.leaving, self.within, self.work.gone)

    def kept(self) -> pl.LazyFrame:
        """Return the figures of all units: those of this run and of earlier ones."""
        return self.beside.scan(self.files, self.within, self.work.live)

    def note(self, figures: tuple[DataFile, ...]) -> tuple[DataFile, ...]:
        """Return files with what is kept of units, with the bounds of the columns of groups."""
        # where no rows came it is not known what figures are like
        return self.beside.noted(figures, self.within, self.order)

    # what is kept of units

    def partial(self) -> pl.LazyFrame:
        """Return what is to be kept of each unit that this run reads."""
        query, node, step = self.query, self.node, self.step
        inputs = {n: query.table(n, self._reads) for n in node.inputs}
        # event time is known once all rows have flowed by
        ahead = query.stepped(node, inputs, step, query.counts(node))
        if self.work.reread:
            rows = self._in_one_type(query.with_units(ahead.frame.select(*self.by, UNIT).unique()))
        else:
            fold = self._fold = node.fold(ahead, inputs, step)
            rows = query.with_units(fold.partial)
        self.within = untagged(rows.collect_schema())
        if self._fold is not None and self._spread is None:
            self.larger = not {*self._fold.by}.issubset((*self.by, *node.steps[step][0].implied))
        return rows.sort(self.order, nulls_last=True) if self.order else rows

    @property
    def _reads(self) -> frozenset[str] | None:
        """The columns that the step reads, where rows come to it right from a gate which takes some out; None if they may be all.

        Of few columns it is not asked: to copy these takes no longer.
        """
        ahead, *more = self.node.inputs
        gate = self.query.plan.nodes[ahead]
        removes = any(c.removes_rows for c in gate.checks)
        if more or self.step or self.work.reread or not removes or len(gate.schema) <= _NARROW:
            return None
        readers = [n for n in self.query.segment.nodes if ahead in self.query.plan.nodes[n].inputs]
        if readers != [self.node.name]:
            return None
        stub = self._stub()
        return self.node.fold(stub, {ahead: stub}, 0).reads

    def pairs(self) -> pl.LazyFrame | None:
        """Return pairs of groups and the units that hold their rows, ordered by group, where all rows were read; None if there are no rows.

        They were noted on the way, unless rows were joined: with nothing on the other side a join may end before all have flowed by.
        """
        query, node = self.query, self.node
        if not self._may_end():
            return self._in_one_type(query.with_units(self._places.frame())) if self._places else None
        inputs = query.plain_tables(node, told=True)
        ahead = node.steps_over(inputs[node.inputs[0]], inputs, 0, self.step).frame
        return self._in_one_type(query.with_units(ahead.select(*self.by, UNIT).unique())).sort(self.by, nulls_last=True)

    def _in_one_type(self, groups: pl.LazyFrame) -> pl.LazyFrame:
        """Cast the keys of groups that a join compares with keys of another type to the type that holds both."""
        assert self.query.segment.output is not None
        sides = self.query.plan.strategies[self.query.segment.output].grouped if self.work.reread else ()
        types = {here: t for s in sides for here, t in zip(s.match.here, s.match.types, strict=False)}
        return groups.cast(types)  # type: ignore[arg-type]  # names, and their types

    def _may_end(self) -> bool:
        """Whether the step may end what is ahead of it before all of its rows have flowed by."""
        operation = self.node.steps[self.step][0]
        return isinstance(operation, Join) and may_stop(operation)

    # which groups a change touches

    @property
    def closes(self) -> tuple[Closes, ...]:
        """The steps by which groups come, or leave, because event time has gone on."""
        output = self.query.segment.output
        return () if output is None else self.query.plan.strategies[output].closing

    def held(self) -> tuple[pl.Expr, pl.Expr] | None:
        """Return whether groups were there by how far event time was, and whether they are by now; None if the former is not known."""
        was = now = pl.lit(value=True)
        for closing in self.closes:
            node, told = self.query.plan.nodes[closing.node], self.query.closing(closing.node)
            closed = as_closed(node.steps[closing.step][0])
            assert closed is not None
            if told.was is None:
                return None
            clock, end = Clock.of(closed.end, node.schemas[closing.step]), pl.col(closing.end)
            was &= closed.holds(end, clock, told.was).fill_null(value=False)
            now &= closed.holds(end, clock, told.horizon).fill_null(value=False)
        return was, now

    def find(self, noted: pl.DataFrame | None) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """Return the groups that came, changed or went, or that event time has reached, and how their rows are found; None if it is not known.

        Rows of groups that are not there yet, and were not, are noted with their files, and read when these are due. Those that came
        need not be read again if they were ``noted``.
        """
        held = self.held() if self.closes else None
        if self.closes and held is None:
            return None
        looked_up = [self.looking(side, hashes) for side, hashes in self.work.turned.items() if len(hashes)]
        if self._spread is not None:
            return self._spread.touched(self, self.by, looked_up, held)
        came, read = (self.came, [*self.figures]) if noted is None else (noted.lazy(), [])
        found = [of.select(self.by) for of in (came, self.left, *looked_up)]
        if held is not None:
            was, now = held
            found = [*(of.filter(was | now) for of in found), self.kept().select(self.by).filter(was != now)]
        few = are_few([*read, *self.work.leaving] if held is None else self.files) and not self.work.turned
        touched = pl.concat(found).unique().collect(engine="in-memory" if few else "streaming")
        return touched, touched

    def many(self) -> int:
        """Return how many groups there are, which are larger than one row of the output."""
        return self.kept().select(self.by).unique().collect(engine="streaming").height

    def looking(self, side: Side, hashes: pl.Series) -> pl.LazyFrame:
        """Return the groups, as the step names their columns, that look up one of some hashed keys in another side."""
        assert side.step is not None
        if self.work.reread:
            return self._holding(side, hashes)
        node, cut, match = self.node, self.step, side.match
        inputs = {**self.query.plain_tables(node, told=False), node.inputs[0]: self._stub()}
        fold = node.fold(node.steps_over(inputs[node.inputs[0]], {**inputs}, 0, cut), inputs, cut)
        within = untagged(fold.partial.collect_schema())
        rows = fold.merge(self.beside.scan(self.files, within, self.work.live))
        copies = {f"__lazypipe_group_{number}": by for number, by in enumerate(fold.by)}
        after = Table(
            rows.with_columns(pl.col(by).alias(copy) for copy, by in copies.items()), node.schemas[cut], tuple(copies)
        )
        table = node.steps_over(after, inputs, cut + 1, side.step)
        found = table.frame.select(*copies, hashed(match.here, table.schema, nulls=match.nulls, types=match.types))
        those = found.join(hashes.to_frame().lazy(), on=HASH, how="semi")
        return those.select(pl.col(copy).alias(by) for copy, by in copies.items())

    def _holding(self, side: Side, hashes: pl.Series) -> pl.LazyFrame:
        """Return the groups that are keys of a join and have one of some hashes: of rows here, there now, or in the output as they were."""
        assert self.work.commit is not None
        match, names = side.match, dict(self.work.groups)
        there = self.query.plain(match.other)
        columns = dict(zip(match.here, match.there, strict=True))
        there = self._in_one_type(there.select(pl.col(columns[by]).alias(by) for by in names))
        was = self.beside.dataset.scan(self.work.commit).select(pl.col(name).alias(by) for by, name in names.items())
        was = self._in_one_type(was)
        key = hashed(match.here, self.within, nulls=match.nulls, types=match.types)
        found, left = [], hashes.to_frame()
        for rows in (pl.concat([self.kept().select(*names), there]), was):
            if left.height:  # keys that are nowhere else any more stand in the output
                those = (
                    rows.with_columns(key).join(left.lazy(), on=HASH, how="semi").unique().collect(engine="streaming")
                )
                left = left.join(those, on=HASH, how="anti")
                found.append(those.select(*names))
        return pl.concat(found).unique().lazy()

    # the rows behind the step

    def rows(self) -> pl.LazyFrame:
        """Return the stage's rows, ahead of its gate, counted."""
        query, node = self.query, self.node
        if not self.work.reread:
            return self._merged(query.table, query.watch(node))
        if self.is_part:
            return self._again(query.watch(node))
        inputs = {n: query.table(n) for n in node.inputs}
        ahead = query.stepped(node, inputs, self.step, query.watch(node))
        noted = ahead.frame if self._may_end() else self._places.attach(ahead.frame, self.by)
        rows = replace(ahead, frame=noted.drop(UNIT), extra=())
        told = {n: replace(t, frame=t.frame.drop(t.extra), extra=()) for n, t in inputs.items()}
        return node.shaped(self._behind(rows, told, query.watch(node)))

    def plain(self) -> pl.LazyFrame:
        """Return the stage's rows, ahead of its gate, of what is kept of units; not counted."""
        query, node = self.query, self.node
        if self.work.reread:
            return self._again(query.unwatched(node))
        return self._merged(query.plain_table, query.unwatched(node))

    def _merged(self, table: Callable[[str], Table], watching: Watching) -> pl.LazyFrame:
        """Return the rows that are made of the figures kept of each unit, in this run and before; ``table`` gives what is joined to them."""
        query, node, step, files = self.query, self.node, self.step, self.files
        stub = replace(self._stub(), large=query.run.room.is_short_of(sum(f.bytes for f in files)))
        first, *others = node.inputs
        # what figures are, and how they are merged, is the same whichever rows they are made of; unless there are too many of them
        fold = self._fold
        if fold is None or stub.large:
            # and what is joined ahead of them was counted when they were made
            inputs = {first: stub, **{n: query.plain_table(n) for n in others}}
            fold = node.fold(node.steps_over(stub, inputs, 0, step), inputs, step)
        within = self.within or untagged(fold.partial.collect_schema())
        self.within, touched = within, self.touched
        # of figures that are of several groups each, rows may be many
        self.is_little = fold.spread is None and not self._is_joined_behind()
        if touched is not None and fold.spread is not None and self._spread is not None:
            rows = fold.spread.rows(self, touched)
        else:
            rows = fold.merge(self.of(touched))
        large = node.steps[step][0].large(frozenset({AHEAD} if stub.large else ()))
        after = Table(rows, node.schemas[step], large=large)
        behind = {n for operation, _ in node.steps[step + 1 :] for n in operation.inputs()}
        inputs = {first: stub, **{n: table(n) for n in others if n in behind}}
        return node.shaped(node.steps_over(after, inputs, step + 1, len(node.steps), watching))

    def of(self, places: pl.DataFrame | None) -> pl.LazyFrame:
        """Return the figures that have given values in their lookup columns; all figures if there are no such columns."""
        places = None if places is None or places.width == 0 else places
        files = self.files if places is None else self.beside.may_hold(self.files, self.within, places)
        self.is_little = self.is_little and (are_few(files) if places is None else self._is_read_at_once(files, places))
        rows = taps.label(self.beside.scan(files, self.within, self.work.live), FIGURES)
        if places is None:
            return rows
        # where a good part is touched, little lies beyond: to look for that takes longer than to compare it
        few = max(LEAST, min(FEW, 2 * FAN * places.height))
        return rows_of(rows, places, few=sum(f.rows for f in files) <= few)

    def _is_read_at_once(self, files: Sequence[DataFile], places: pl.DataFrame) -> bool:
        """Whether the figures of some groups are read from files in no time, and become few rows."""
        rows, size = sum(f.rows for f in files), sum(f.bytes for f in files)
        return places.height <= FEW and rows * len(self.within) <= _CELLS and size <= _BYTES

    def _is_joined_behind(self) -> bool:
        """Whether further rows are looked up behind the step, by operations or gates."""
        nodes, name, first = self.query.plan.nodes, self.query.segment.node, self.step + 1
        while True:
            node = nodes[name]
            steps = node.steps[first:] if node is self.node else node.steps
            if any(c.reference is not None for c in node.checks) or any(o.inputs() for o, _ in steps):
                return True
            if node is self.node:
                return False
            name = node.inputs[0]

    def _again(self, watching: Watching) -> pl.LazyFrame:
        """Return the rows of the groups that are touched, read again from the units that hold any."""
        query, node, touched = self.query, self.node, self.touched
        units = self.work.live
        if touched is not None:
            files = self.beside.may_hold(self.files, self.within, touched)
            held = rows_of(self.beside.scan(files, self.within, units, tags=True), touched)
            units = frozenset(held.select(pl.col(UNIT).unique()).collect(engine="streaming")[UNIT].to_list())
        work = self.work.again(units)
        assert work is not None, "units that cannot be read again were asked for"
        other = self.reading = query.instead(work)
        there = {n: other.plain(n) for n in node.inputs}
        told = {n: rows if n in query.segment.nodes else taps.label(rows, n) for n, rows in there.items()}
        inputs = {n: Table(rows, query.plan.nodes[n].schema, large=other.is_large(n)) for n, rows in told.items()}
        ahead = node.steps_over(inputs[node.inputs[0]], inputs, 0, self.step, Watching(horizon=watching.horizon))
        if touched is None:
            return node.shaped(self._behind(ahead, inputs, watching))
        sides = self._cut_down(ahead, inputs, touched)
        rows = rows_of(ahead.frame, fitted(touched, ahead.schema), in_order=True)
        return node.shaped(self._behind(replace(ahead, frame=rows), inputs, watching, sides))

    def _cut_down(self, ahead: Table, inputs: Mapping[str, Table], touched: pl.DataFrame) -> Mapping[str, Table] | None:
        """Return the inputs of the step, with the other side of a join cut down to the groups that are touched."""
        operation, scope = self.node.steps[self.step]
        match = operation.match(ahead, replace(scope, tables={**inputs})) if operation.inputs() else None
        if match is None:
            return None
        columns, other = dict(zip(match.here, match.there, strict=True)), inputs[match.other]
        those = fitted(touched.select(pl.col(by).alias(columns[by]) for by in touched.columns), other.schema)
        return {**inputs, match.other: replace(other, frame=rows_of(other.frame, those))}

    def _behind(
        self, rows: Table, inputs: Mapping[str, Table], watching: Watching, sides: Mapping[str, Table] | None = None
    ) -> Table:
        """Return the rows after the step and all behind it; that step itself has perhaps other ``sides``."""
        node, step = self.node, self.step
        if step == 0:  # a query may call the rows ahead of it by the name of the stage that they are
            inputs = {**inputs, node.inputs[0]: rows}
        after = node.steps_over(rows, inputs if sides is None else sides, step, step + 1, watching)
        return node.steps_over(after, inputs, step + 1, len(node.steps), watching)

    def _stub(self) -> Table:
        schema = self.query.plan.nodes[self.node.inputs[0]].schema
        return Table(pl.LazyFrame(schema={**schema, UNIT: pl.UInt64()}), schema, (UNIT,))
