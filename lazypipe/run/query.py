"""The query of one segment: compiled nodes lowered over this run's inputs, with functions put in that rows flow through.

These count what must be counted on the way: gates, casts, keys of joins, fields of text files. They run on the streaming
engine's own threads, so none of them may start a streaming query (docs/decisions/0001).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import polars as pl

from lazypipe.compile.closing import as_closed, closes
from lazypipe.compile.delta import Closes, Side
from lazypipe.compile.node import Node
from lazypipe.compile.segments import Segment, may_stop
from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.errors import LazypipeError
from lazypipe.gates.alone import mark_repeats
from lazypipe.gates.rule import Reference
from lazypipe.gates.tap import FILE_COLUMN, Tap
from lazypipe.gates.uniqueness import HASH, KeyHashes, hashed
from lazypipe.incremental.hashing import hash_prefix
from lazypipe.incremental.sides import Digests
from lazypipe.incremental.work import Work
from lazypipe.ops.base import AHEAD, Fold
from lazypipe.ops.join import Join
from lazypipe.run.arrival import Counter
from lazypipe.run.closing import Closing
from lazypipe.run.context import Run
from lazypipe.run.figures import Kept, Places
from lazypipe.run.groups import fitted
from lazypipe.run.noted import Noted
from lazypipe.run.watches import Watches
from lazypipe.run.whole import Whole
from lazypipe.spec import taps
from lazypipe.spec.model import Step
from lazypipe.spec.scope import FAR, Guard, Table, Tally
from lazypipe.spec.scope import Whole as WholeWindows
from lazypipe.storage.content import has_grown
from lazypipe.storage.dataset import Dataset
from lazypipe.storage.files import read_key
from lazypipe.storage.log import DataFile
from lazypipe.storage.units import UNIT, Units, as_units, untagged
from lazypipe.windows.clock import Clock

__all__ = ["FIGURES", "Meanwhile", "Query"]

FIGURES = "@figures"
"""What is kept of each unit, in the plan of the query that makes an output of that."""

_FEW = 1 << 20
"""Bytes of figures up to which all are compared with the groups that are touched: to look first which lie between these takes longer."""


def _through(batch: pl.DataFrame) -> pl.DataFrame:
    return batch


class Meanwhile(LazypipeError):
    """Files have grown while they were read; with them cut, all is to be read once more."""


class Query:
    """The frames of one segment in one run, and what was counted while they ran.

    ``figures`` are the files with what was kept of the units that this run reads, where the output is made of that, and ``within``
    their columns; only the groups that are ``touched`` are made of them, if they are known. Groups are ``larger`` than one row of the output. ``known`` are
    keys that stand more than once, per node and check, where the rows are gone through once more because of them. With ``holds``
    the gate of the segment's own node holds back rows whose key may repeat, until all have been seen.
    """

    def __init__(self, run: Run, segment: Segment, number: int, work: Work, dataset: Dataset | None) -> None:
        self.run = run
        self.plan = run.plan
        self.segment = segment
        self.number = number
        self.dataset = dataset
        self.work = work
        self.beside = None if dataset is None else Kept(dataset, work)
        self.figures: tuple[DataFile, ...] = ()
        self.within = pl.Schema()
        self._fold: Fold | None = None
        self.touched: pl.DataFrame | None = None
        self.places = Places(run.folder / "places")
        self.larger = work.reread
        self.snapshots: dict[str, Snapshot] = {}
        self.read_again: dict[str, Snapshot] = {}
        self._groups_of: Query = self
        self.taps: dict[str, Tap] = {}
        self.watches = Watches(run.plan)
        self.times: dict[str, Counter] = {}
        self._sides: dict[Side, Noted] = {}
        self._closing: dict[str, Closing] = {}
        self._wholes: dict[str, Whole] = {}
        self.known: dict[tuple[str, str], pl.DataFrame] = {}
        self.holds = False
        self.anew = False
        self._large: dict[str, bool] = {}

    def take_snapshot(self, name: str, source: BoundSource) -> Snapshot:
        """Take what is to be read of a source, and look into its files."""
        listed, units = self.work.older.get(name) or self.run.look(name), self.work.units.get(name)
        if units is not None and listed.commit is None:
            listed = replace(listed, files=units.select(listed.files))
        if self.run.cut and listed.commit is None:
            cut = (f._replace(end=f.size) if f in self.run.cut else f for f in listed.files)
            listed = replace(listed, files=tuple(cut))
        self.snapshots[name] = source.looked_at(listed)
        return self.snapshots[name]

    def cut(self) -> bool:
        """Note which text files have grown since they were listed, and were perhaps read beyond that; return whether there are any.

        What was appended is not consumed, and would be read once more by the next run. So these are read up to where they
        ended. What that is must be hashed before.
        """
        grown = [
            (f, source)
            for name, snapshot in self.snapshots.items()
            if (source := self.plan.nodes[name].source) is not None and source.is_text
            for f in snapshot.files
            if f.end is None and has_grown(f)
        ]
        for file, source in grown:
            self.run.hashes[file] = hash_prefix(file.uri, file.size or 0, source.reader.storage_options)
            self.run.cut.add(file)
        return bool(grown)

    def pairs(self) -> pl.LazyFrame | None:
        """Return which units hold rows of which groups, in the order of these, where all rows were read; None if there are no rows.

        They were noted on the way, unless rows were joined: with nothing on the other side a join may end before all have flowed by.
        """
        assert self.work.cut is not None
        name, step = self.work.cut
        node = self.plan.nodes[name]
        if not self._may_end(node, step):
            return self._in_one_type(self.with_units(self.places.frame())) if self.places else None
        inputs = self._plain_tables(node, told=True)
        ahead = node.steps_over(inputs[node.inputs[0]], inputs, 0, step).frame
        by = [by for by, _ in self.work.groups]
        return self._in_one_type(self.with_units(ahead.select(*by, UNIT).unique())).sort(by, nulls_last=True)

    def _in_one_type(self, groups: pl.LazyFrame) -> pl.LazyFrame:
        """Return groups of which keys that a join compares with those of another type are of the type that holds both."""
        return groups.cast(dict(self._types))  # type: ignore[arg-type]  # names, and their types

    @property
    def _types(self) -> Mapping[str, pl.DataType]:
        """The types as which keys are compared that are of two types, where groups are those of a join."""
        assert self.segment.output is not None
        sides = self.plan.strategies[self.segment.output].grouped if self.work.reread else ()
        return {here: t for s in sides for here, t in zip(s.match.here, s.match.types, strict=False)}

    def _may_end(self, node: Node, step: int) -> bool:
        """Whether a step may end what is ahead of it before all of its rows have flowed by."""
        operation = node.steps[step][0]
        return isinstance(operation, Join) and may_stop(operation)

    def instead(self, work: Work) -> Query:
        """Return the same query with other work, to ask of rows without counting them; also of what was not kept for this run."""
        other = Query(self.run, self.segment, self.number, work, self.dataset)
        other.anew = True
        left = [self.segment.node, *self.segment.lookups]
        while left:
            node = self.plan.nodes[left.pop()]
            left += [*node.inputs, *(c.reference.to for c in node.checks if c.reference is not None)]
            if node.source is not None and node.name not in other.snapshots:
                other.take_snapshot(node.name, node.source)
        return other

    def _shared(self, name: str) -> pl.LazyFrame | None:
        """Return the rows of what is kept for this run only, each with its unit; None if it is read as a whole."""
        return self.run.shared[name].scan(self.work.units) if name in self.run.shared else None

    def begin(self) -> None:
        """Forget what was counted: the rows are gone through once more."""
        self.watches.begin()
        self.times.clear()
        self.places = Places(self.run.folder / "places")
        self._sides.clear()

    def counted(self) -> None:
        """Take note that all rows have flowed by whose times are counted."""
        for counter in self.times.values():
            counter.is_done = True

    def partial(self) -> pl.LazyFrame:
        """Return what is to be kept of each unit that this run reads, where the output is made of that (``work.cut``)."""
        assert self.work.cut is not None
        name, step = self.work.cut
        node = self.plan.nodes[name]
        inputs = {n: self._table(n) for n in node.inputs}
        # how far event time is can be told once all rows have flowed by
        ahead = self._stepped(node, inputs, step, *self._counts(node))
        if self.work.reread:
            by = [name for name, _ in self.work.groups]
            return self._in_one_type(self.with_units(ahead.frame.select(*by, UNIT).unique())).sort(by, nulls_last=True)
        fold = self._fold = node.fold(ahead, inputs, step)
        by = [name for name, _ in self.work.groups]
        self.larger = not {*fold.by}.issubset((*by, *node.steps[step][0].implied))
        rows = self.with_units(fold.partial)
        return rows.sort(by, nulls_last=True) if by else rows

    def rows(self, beside: pl.LazyFrame | None = None) -> pl.LazyFrame:
        """Return the rows of the output, with the unit of each if the output says it; of one by groups with rows that stand ``beside``."""
        frame = self.frame(self.segment.node)
        if self.work.groups:
            frame = frame if beside is None else pl.concat([frame, beside])
            return frame.sort([name for _, name in self.work.groups], nulls_last=True)
        return self.told(frame)

    def told(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return rows with their units if the output says them, without them where they only told gates the file of a row."""
        return self.with_units(frame) if self.work.told_apart else self._untold(frame)

    def with_units(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Put units in the place of the numbers that rows of files carry on the way."""
        return frame if self.work.numbers is None else as_units(frame, self.work.numbers)

    def with_files(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Say of quarantined rows which file they came from, where they do not yet: their units tell."""
        files = {unit: read_key(key)[0] for of in self.work.units.values() for key, unit in of.files.items()}
        if not files:
            return frame
        file = pl.col(UNIT).replace_strict([*files], [*files.values()], default=None, return_dtype=pl.String)
        return frame.with_columns(pl.coalesce(FILE_COLUMN, file).alias(FILE_COLUMN))

    def frame(self, name: str) -> pl.LazyFrame:
        """Return a node's rows as this run computes them: counted, checked, split."""
        units = self.work.units.get(name)
        if name in self.run.kept:
            shared = self._shared(name)
            if shared is None and units is not None:
                shared = self._of_units(name, units)
            return taps.label(self.run.kept[name] if shared is None else self._told_gates(shared), name)
        node = self.plan.nodes[name]
        quarantines = any(c.action == "quarantine" for c in node.checks)
        if node.source is not None:
            # rows that are replayed from a quarantine carry the file that they came from
            asked = quarantines and FILE_COLUMN not in node.schema
            watch = partial(self.watches.text, name, node.source) if node.source.is_text else None
            rows = self._read(name, node.source, file_column=asked, watch=watch, tally=self.watches.tally)
            rows = rows if units is None else self._counting(name, node.source, units, rows)
            frame = taps.label(self._told_gates(rows), name)
        elif self.work.cut is not None and name == self.work.cut[0]:
            made = self._by_groups if self.work.reread else self._merged
            frame = made(node, self.work.cut[1])
        else:
            inputs = {n: self._table(n) for n in node.inputs}
            frame = node.shaped(self._stepped(node, inputs, len(node.steps), *self._watch(node)))
        if not node.checks:
            return frame
        for side in self._sides_of(name, None):
            frame = self._noting(side, frame, node.ahead)
        hashing = {check for of, check in self.work.hashed if of == name}
        known = {check: keys for (of, check), keys in self.known.items() if of == name and check not in hashing}
        checks, lookup = mark_repeats(node.checks, known, self.lookup)
        extra, told = self._carried(name), self.unit(name)
        gate = Tap(
            checks,
            pl.Schema({**node.schema, **dict.fromkeys(extra, pl.UInt64())}),
            run=self.run.id,
            spill=self.run.folder / "quarantine",
            lookup=lookup,
            notify=self.notify,
            # rows that are held back come out of their unit's file
            hold=self.holds and name == self.segment.node and not told,
            key=self.plan.key(name),
            masked=self.plan.masked(name),
            raw=bool(node.raw),
            unit=UNIT if told else None,
            hashing=hashing,
        )
        self.taps[name] = gate
        return gate.attach(frame)

    def _of_units(self, name: str, units: Units) -> pl.LazyFrame:
        """Return the rows of an output that this run reads, with their units."""
        dataset, commit = self.run.published[name]
        older = self.work.older.get(name)
        return dataset.scan_units(commit if older is None or older.commit is None else older.commit, units)

    def _read(self, name: str, source: BoundSource, **how: Any) -> pl.LazyFrame:
        """Return the rows of a source that this run reads, with their units."""
        moments = self.run.moments.get(name, "usual")
        return source.scan(self.snapshots[name], units=self.work.units.get(name), how=moments, **how)

    def _untold(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return rows without their units where these only choose what is read."""
        return rows.drop(UNIT, strict=False) if self.work.adds else rows

    def _told_gates(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return rows without their units where no gate on the way has to know which file a row came from."""
        return rows if self._tells_gates else self._untold(rows)

    @cached_property
    def _tells_gates(self) -> bool:
        nodes = (self.plan.nodes[n] for n in self.segment.nodes)
        return any(c.action == "quarantine" for node in nodes if node.source is None for c in node.checks)

    def plain(self, name: str, *, before_gate: bool = False, told: bool = False) -> pl.LazyFrame:
        """Return a node's rows with gates as filters: what to count exactly, or to find a culprit with; what this run reads.

        If they are to be ``told`` apart, they carry their units.
        """
        units = self.work.units.get(name)
        made_here = name == self.segment.node and bool(self.segment.nodes)
        if name in self.run.kept and not made_here and not (self.anew and name in self.run.shared):
            shared = self._shared(name)
            if shared is not None:
                return shared if told else shared.drop(UNIT)
            if units is None:
                return self.run.kept[name]
            rows = self._of_units(name, units)
            return rows if told else rows.drop(UNIT)
        node = self.plan.nodes[name]
        if node.source is not None:
            frame = self._read(name, node.source)
            frame = taps.label(frame if units is None or told else frame.drop(UNIT), name)
        elif self.work.cut is not None and name == self.work.cut[0] and not self.work.reread:
            frame = self._merged(node, self.work.cut[1])
        elif self.work.cut is not None and name == self.work.cut[0] and self.work.kind == "units":
            frame = self._again(node, self.work.cut[1], None, None, self._horizon(node), self._hold(node))
        else:
            frame = node.lower(self._plain_tables(node, told=told), horizon=self._horizon(node), whole=self._hold(node))
        if before_gate:
            return frame if told else node.mended(frame)
        return node.good(frame, self.lookup, self.unit(name) if told else ())

    def _plain_tables(self, node: Node, *, told: bool) -> dict[str, Table]:
        found = {}
        for name in node.inputs:
            frame = self.plain(name, told=told)
            schema = self.plan.nodes[name].schema
            found[name] = Table(frame, schema, self.unit(name) if told else (), self.is_large(name))
        return found

    # keys by which rows are looked up in other sides

    def keys_of(self, side: Side) -> pl.LazyFrame:
        """Return the hashed keys of the rows that this run has looked up in another side, with their units.

        They were noted while rows flowed by, if all are sure to have done so; otherwise they are read.
        """
        for shared in self.run.shared.values():
            if side.node not in self.segment.nodes and side in shared.keys:
                return self.with_units(shared.keys_of(side, self.work.units))
        if side in self._sides and not self._may_have_stopped():
            return self.with_units(self._sides[side].frame())
        node, match = self.plan.nodes[side.node], side.match
        if side.step is None:
            ahead, schema = self.plain(side.node, before_gate=True, told=True), node.schema
        else:
            inputs = self._plain_tables(node, told=True)
            table = node.steps_over(inputs[node.inputs[0]], inputs, 0, side.step)
            ahead, schema = table.frame, table.schema
        return self.with_units(
            ahead.select(hashed(match.here, schema, nulls=match.nulls, types=match.types), UNIT).drop_nulls().unique()
        )

    def _sides_of(self, name: str, step: int | None) -> list[Side]:
        """Return what is noted of a node's rows on the way: where filters and projections cannot go further down anyhow."""
        sources = [self.plan.nodes[n].source for n in self.work.units]
        watched = [s is not None and (s.is_text or self.plan.nodes[s.name].checks) for s in sources]
        if not all(watched) or any(n in self.run.kept for n in self.work.units):
            return []
        if step is not None and not isinstance(self.plan.nodes[name].steps[step][0], Join):
            return []  # a query may end its inputs at any time, so that they are read afterwards anyhow
        return [s for s in self.work.sides if (s.node, s.step) == (name, step)]

    def _stepped(
        self,
        node: Node,
        inputs: Mapping[str, Table],
        stop: int,
        tally: Tally | None = None,
        guard: Callable[[Step], Guard] | None = None,
        horizon: int = FAR,
        whole: WholeWindows | None = None,
    ) -> Table:
        """Return a stage's rows after some of its steps, with the keys noted by which they are looked up in other sides."""
        table = inputs[node.inputs[0]]
        for step in range(stop):
            noted = self._sides_of(node.name, step)
            for side in noted:
                table = replace(table, frame=self._noting(side, table.frame, table.schema))
            table = node.steps_over(table, inputs, step, step + 1, tally, guard, horizon, whole)
            if noted and not (step + 1 < stop and self._sides_of(node.name, step + 1)):
                # a filter of a later step that emptied the other side would end this one before all of its rows have flowed by
                table = replace(table, frame=taps.tap(table.frame, _through))
        return table

    def _noting(self, side: Side, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
        """Note the hashed keys of rows on the way."""
        match, spill = side.match, self.run.folder / "keys"
        made = KeyHashes(match.here, schema, spill, UNIT, once=True, nulls=match.nulls, types=match.types)
        return taps.tap(frame, self._sides.setdefault(side, Noted(match.here, made)).note)

    def _may_have_stopped(self) -> bool:
        """Whether a step may have ended its inputs early, so that not all rows have flowed by."""
        told = {} if self.beside is None else self.beside.digests
        digests = Digests(self.plan, self.run.look, self.run.digests, self.run.published)
        full = {(s.node, s.step) for s in self.work.sides if (told[s] if s in told else digests.of(s).height)}
        for name in self.segment.nodes:
            for step, (operation, _) in enumerate(self.plan.nodes[name].steps):
                joins = bool(operation.inputs()) and operation.name != "union"
                if (joins or may_stop(operation)) and (name, step) not in full:
                    return True
        return False

    def lookup(self, reference: Reference) -> pl.LazyFrame:
        """Return the rows that a rule of keys looks into."""
        return taps.label(self.plain(reference.to), reference.to)

    def unit(self, name: str) -> tuple[str, ...]:
        """Return the column with each row's unit, where rows are told apart by it."""
        return () if self.work.adds else self._carried(name)

    def _carried(self, name: str) -> tuple[str, ...]:
        """Return the column with each row's unit, where rows carry it."""
        if self.work.adds and not self._tells_gates:
            return ()
        while name not in self.work.units:
            inputs = self.plan.nodes[name].inputs
            if name in self.run.shared and self._shared(name) is not None:
                return (UNIT,)
            if not inputs or name in self.run.kept or name == (self.work.cut or ("",))[0]:
                return ()
            name = inputs[0]
        return (UNIT,)

    def complete_gates(self) -> None:
        """Run the gates alone that saw only part of their rows, because what reads them stopped, or never began."""
        counted = dict(self.watches.counters)
        for name in reversed([n for n in self.segment.nodes if n in self.taps and n != self.segment.node]):
            seen = self.taps[name].rows
            if seen and name not in self.segment.partial:
                continue
            rows = self.plain(name, before_gate=True).select(pl.len()).collect(engine="streaming").item()
            if rows != seen:
                self.frame(name).select(pl.len()).collect(engine="streaming")
        self.watches.counters.update(counted)

    def audit(self, rows: int) -> None:
        """Raise where text was passed over in silence, or a join's keys are not as unique as it states; ``rows`` are how many came of it."""
        self.watches.refuse_lost_text(self.snapshots)
        self.watches.refuse_repeats(self._compared, came=rows > 0)

    def _compared(self, node: Node) -> Mapping[str, Table]:
        """Return the inputs of a join whose keys are said to be unique.

        Of one that goes by groups all rows of these are compared, and any that is there besides was before.
        """
        rows = self._groups_of if self.work.cut is not None and node.name == self.work.cut[0] else self
        return {n: Table(rows.plain(n), self.plan.nodes[n].schema) for n in node.inputs}

    def tags(self, name: str) -> dict[str, Any]:
        """Return what a dataset's commit says of its columns' tags; nothing where none has any."""
        tags = self.plan.tags(name)
        return {"tags": {c: list(t) for c, t in tags.items()}} if tags else {}

    # functions that rows flow through

    def _counting(self, name: str, source: BoundSource, units: Units, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Count event times of files on the way, where they are not known, and all rows are sure to come by."""
        unknown = {uri for uri, a in self.snapshots[name].arrivals.items() if a.extents is None}
        places = [*units.files.values()] if units.first is None else range(units.first, units.first + len(units.files))
        files = {number: uri for number, uri in zip(places, units.files, strict=True) if uri in unknown}
        known = self.times.get(name)
        # what was counted is not counted again where the same rows are lowered once more, perhaps never to be run
        if not files or name in self.segment.partial or (known is not None and known.is_done):
            return rows
        self.times[name] = Counter(source, self.snapshots[name], files, UNIT)
        return self.times[name].attach(rows)

    def _watch(self, node: Node) -> tuple[Tally, Callable[[Step], Guard], int, WholeWindows | None]:
        return (*self._counts(node), self._horizon(node), self._hold(node))

    def _counts(self, node: Node) -> tuple[Tally, Callable[[Step], Guard]]:
        return self.watches.tally, lambda step: partial(self.watches.guard, node, step)

    def closing(self, name: str) -> Closing:
        """Return how far event time is for a node's windows."""
        if name not in self._closing:
            self._closing[name] = Closing(self.run, name, self.work, self.times)
        return self._closing[name]

    @property
    def closes(self) -> tuple[Closes, ...]:
        """The steps by which groups come, or leave, because event time has gone on."""
        return () if self.segment.output is None else self.plan.strategies[self.segment.output].closing

    def held(self) -> tuple[pl.Expr, pl.Expr] | None:
        """Return whether groups were there by how far event time was, and whether they are by now; None if the former is not known.

        Where no rows close, all were, and are.
        """
        was = now = pl.lit(value=True)
        for closing in self.closes:
            node, told = self.plan.nodes[closing.node], self.closing(closing.node)
            closed = as_closed(node.steps[closing.step][0])
            assert closed is not None
            if told.was is None:
                return None
            clock, end = Clock.of(closed.end, node.schemas[closing.step]), pl.col(closing.end)
            was &= closed.holds(end, clock, told.was).fill_null(value=False)
            now &= closed.holds(end, clock, told.horizon).fill_null(value=False)
        return was, now

    def whole(self, name: str) -> Whole | None:
        """Return which windows of a node are whole; None if nothing is expected of them."""
        closed = closes(self.plan.nodes[name])
        if closed is None or closed.expectation is None:
            return None
        if name not in self._wholes:
            self._wholes[name] = Whole(self.closing(name), self.plan.nodes[name], closed.expectation)
        return self._wholes[name]

    def _hold(self, node: Node) -> WholeWindows | None:
        whole = self.whole(node.name)
        return None if whole is None else whole.attach

    def _horizon(self, node: Node) -> int:
        return FAR if closes(node) is None else self.closing(node.name).horizon

    def notify(self, _: int) -> None:
        """Tell of progress."""
        self.run.observer(
            self.segment.name, self.number, len(self.plan.segments), sum(t.rows for t in self.taps.values())
        )

    def _table(self, name: str) -> Table:
        return Table(self.frame(name), self.plan.nodes[name].schema, self._carried(name), self.is_large(name))

    def is_large(self, name: str) -> bool:
        """Whether the rows that this run reads of a node may take more memory than there is for them."""
        if name not in self._large:
            node = self.plan.nodes[name]
            if name in self.run.kept or node.source is not None:
                large = self.run.room.is_short_of(self._bytes(name))
            else:
                large = self.is_large(node.inputs[0])
                for operation, _ in node.steps:
                    others = frozenset(filter(self.is_large, operation.inputs()))
                    large = operation.large(others | {AHEAD} if large else others)
            self._large[name] = large
        return self._large[name]

    def _bytes(self, name: str) -> int:
        """Return how many bytes of files this run reads of a source, or of rows that are kept; none of stores that do not say it."""
        units, listed = self.work.units.get(name), self.snapshots.get(name)
        if name in self.run.shared:
            files: Sequence[DataFile] = self.run.shared[name].files
        elif name in self.run.kept:
            files = self.run.published[name][1].files if name in self.run.published else ()
        elif listed is not None and listed.commit is not None:
            files = listed.commit.files
        else:
            return 0 if listed is None else sum(f.length or 0 for f in listed.files)
        return sum(f.bytes for f in files if units is None or not f.units or not units.wanted.isdisjoint(f.units))

    def _merged(self, node: Node, step: int) -> pl.LazyFrame:
        """Return a stage's rows, ahead of its gate, from what was kept of each unit, in this run and before."""
        assert self.beside is not None
        inputs = {n: self._table(n) if n != node.inputs[0] else self._stub(n) for n in node.inputs}
        kept = (*self.work.figures, *self.figures)
        stub = replace(inputs[node.inputs[0]], large=self.run.room.is_short_of(sum(f.bytes for f in kept)))
        # what figures are, and how they are merged, is the same whichever rows they are made of; unless there are too many of them
        fold = self._fold
        if fold is None or stub.large:
            fold = node.fold(node.steps_over(stub, {**inputs}, 0, step), inputs, step)
        within = self.within or untagged(fold.partial.collect_schema())
        if self.touched is None:
            rows = taps.label(self.beside.scan(kept, within, self.work.live), FIGURES)
        else:
            files = self.beside.may_hold(kept, within, self.touched)
            rows = taps.label(self.beside.scan(files, within, self.work.live), FIGURES)
            those = taps.label(self.touched.lazy(), "touched groups")
            if sum(f.bytes for f in files) > _FEW:
                rows = rows.filter(between(self.touched))
            rows = rows.join(those, on=self.touched.columns, how="semi", nulls_equal=True)
        large = node.steps[step][0].large(frozenset({AHEAD} if stub.large else ()))
        after = Table(fold.merge(rows), node.schemas[step], large=large)
        return node.shaped(node.steps_over(after, inputs, step + 1, len(node.steps), *self._watch(node)))

    def looking(self, side: Side, hashes: pl.Series) -> pl.LazyFrame:
        """Return the groups, as the step that makes them names their columns, that look up one of some hashed keys in another side."""
        assert self.beside is not None
        assert self.work.cut is not None
        assert side.step is not None
        if self.work.reread:
            return self._holding(side, hashes)
        (name, cut), match = self.work.cut, side.match
        node = self.plan.nodes[name]
        inputs = {**self._plain_tables(node, told=False), node.inputs[0]: self._stub(node.inputs[0])}
        fold = node.fold(node.steps_over(inputs[node.inputs[0]], {**inputs}, 0, cut), inputs, cut)
        within = untagged(fold.partial.collect_schema())
        rows = fold.merge(self.beside.scan((*self.work.figures, *self.figures), within, self.work.live))
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
        assert self.beside is not None
        assert self.dataset is not None
        assert self.work.commit is not None
        match, names = side.match, dict(self.work.groups)
        here = self.beside.scan((*self.work.figures, *self.figures), self.within, self.work.live)
        there = self.plain(match.other)
        columns = dict(zip(match.here, match.there, strict=True))
        there = self._in_one_type(there.select(pl.col(columns[by]).alias(by) for by in names))
        was = self.dataset.scan(self.work.commit).select(pl.col(name).alias(by) for by, name in names.items())
        was = self._in_one_type(was)
        key = hashed(match.here, self.within, nulls=match.nulls, types=match.types)
        found, left = [], hashes.to_frame()
        for rows in (pl.concat([here.select(*names), there]), was):
            if left.height:  # keys that are nowhere else any more stand in the output
                those = (
                    rows.with_columns(key).join(left.lazy(), on=HASH, how="semi").unique().collect(engine="streaming")
                )
                left = left.join(those, on=HASH, how="anti")
                found.append(those.select(*names))
        return pl.concat(found).unique().lazy()

    def _by_groups(self, node: Node, step: int) -> pl.LazyFrame:
        """Return a stage's rows, ahead of its gate: of all units that there are, or of the groups that are touched."""
        if self.work.kind == "units":
            return self._again(node, step, *self._watch(node))
        inputs = {n: self._table(n) for n in node.inputs}
        by = [name for name, _ in self.work.groups]
        ahead = self._stepped(node, inputs, step, *self._watch(node))
        noted = ahead.frame if self._may_end(node, step) else self.places.attach(ahead.frame, by)
        rows = replace(ahead, frame=noted.drop(UNIT), extra=())
        told = {n: replace(t, frame=t.frame.drop(t.extra), extra=()) for n, t in inputs.items()}
        return node.shaped(self._from(node, step, rows, told, *self._watch(node)))

    def _again(self, node: Node, step: int, *watch: Any) -> pl.LazyFrame:
        """Return a stage's rows, ahead of its gate, of the groups that are touched, read again from the units that hold any."""
        assert self.beside is not None
        kept, live = (*self.work.figures, *self.figures), self.work.live
        if self.touched is None:
            units = live
        else:
            files = self.beside.may_hold(kept, self.within, self.touched)
            held = self.beside.scan(files, self.within, live, tags=True).filter(between(self.touched))
            held = held.join(self.touched.lazy(), on=self.touched.columns, how="semi", nulls_equal=True)
            units = frozenset(held.select(pl.col(UNIT).unique()).collect(engine="streaming")[UNIT].to_list())
        work = self.work.again(units)
        assert work is not None, "units that cannot be read again were asked for"
        other = self._groups_of = self.instead(work)
        self.read_again = other.snapshots
        there = {n: other.plain(n) for n in node.inputs}
        told = {n: rows if n in self.segment.nodes else taps.label(rows, n) for n, rows in there.items()}
        inputs = {n: Table(rows, self.plan.nodes[n].schema, large=other.is_large(n)) for n, rows in told.items()}
        ahead = node.steps_over(inputs[node.inputs[0]], inputs, 0, step, horizon=self._horizon(node))
        rows, sides = ahead.frame, None
        if self.touched is not None:
            sides = self._cut_down(node, step, ahead, inputs)
            touched = fitted(self.touched, ahead.schema)
            those = taps.label(touched.lazy(), "touched groups")
            rows = rows.filter(between(touched)).join(
                those, on=touched.columns, how="semi", nulls_equal=True, maintain_order="left"
            )
        return node.shaped(self._from(node, step, replace(ahead, frame=rows), inputs, *watch, sides=sides))

    def _cut_down(self, node: Node, step: int, ahead: Table, inputs: Mapping[str, Table]) -> Mapping[str, Table] | None:
        """Return the inputs of a step with the other side of a join cut down to the groups that are touched."""
        operation, scope = node.steps[step]
        match = operation.match(ahead, replace(scope, tables={**inputs})) if operation.inputs() else None
        if match is None or self.touched is None:
            return None
        columns = dict(zip(match.here, match.there, strict=True))
        other = inputs[match.other]
        those = fitted(self.touched.select(pl.col(by).alias(columns[by]) for by in self.touched.columns), other.schema)
        rows = other.frame.filter(between(those)).join(
            taps.label(those.lazy(), "touched groups"), on=those.columns, how="semi", nulls_equal=True
        )
        return {**inputs, match.other: replace(other, frame=rows)}

    def _from(
        self,
        node: Node,
        step: int,
        rows: Table,
        inputs: Mapping[str, Table],
        *watch: Any,
        sides: Mapping[str, Table] | None = None,
    ) -> Table:
        """Return the rows after a step and all behind it; that step itself has perhaps other ``sides``."""
        if step == 0:  # a query may call the rows ahead of it by the name of the stage that they are
            inputs = {**inputs, node.inputs[0]: rows}
        after = node.steps_over(rows, inputs if sides is None else sides, step, step + 1, *watch)
        return node.steps_over(after, inputs, step + 1, len(node.steps), *watch)

    def _stub(self, name: str) -> Table:
        schema = self.plan.nodes[name].schema
        rows = pl.LazyFrame(schema={**schema, UNIT: pl.UInt64()})
        return Table(rows, schema, (UNIT,))


def between(keys: pl.DataFrame) -> pl.Expr:
    """Return whether a row lies between the least and the most of some keys, which parts of files are skipped by.

    Examples
    --------
    >>> pl.DataFrame({"a": [1, 5, 9]}).filter(between(pl.DataFrame({"a": [4, 6]}))).rows()
    [(5,)]
    """
    bounded = [s for s in keys if len(s) and not s.has_nulls() and _has_ends(s.dtype)]
    ends = [(s.name, pl.lit(s.min(), dtype=s.dtype), pl.lit(s.max(), dtype=s.dtype)) for s in bounded]
    return pl.all_horizontal(pl.lit(value=True), *(pl.col(name).is_between(least, most) for name, least, most in ends))


def _has_ends(dtype: pl.DataType) -> bool:
    """Whether the least and the most value can be named: Python's times have no nanoseconds."""
    if isinstance(dtype, pl.Datetime):
        return dtype.time_unit != "ns"
    return dtype.is_integer() or dtype in (pl.Date, pl.String)
