"""The query of one segment: compiled nodes over the inputs of this run, with the functions that rows flow through.

These count what must be counted on the way: gates, casts, keys of joins, fields of text files. They run on the streaming
engine's own threads, so none of them may start a streaming query (docs/decisions/0001).
"""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import polars as pl

from lazypipe.compile.changes.strategy import Side
from lazypipe.compile.closing import closes
from lazypipe.compile.node import Node, Watching
from lazypipe.compile.segments import Segment, may_stop
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.gates.alone import mark_repeats
from lazypipe.gates.rule import Reference
from lazypipe.gates.tap import FILE_COLUMN, Tap
from lazypipe.gates.uniqueness import KeyHashes, hashed
from lazypipe.incremental.hashing import hash_prefix
from lazypipe.incremental.sides import Digests
from lazypipe.incremental.work import Work
from lazypipe.ops.base import AHEAD
from lazypipe.ops.join import Join
from lazypipe.run.arrival import Counter
from lazypipe.run.closing import Closing
from lazypipe.run.context import Run
from lazypipe.run.segment.figures import Kept
from lazypipe.run.segment.grouping import Grouping
from lazypipe.run.segment.groups import by_time
from lazypipe.run.segment.noted import Noted
from lazypipe.run.segment.watches import Watches
from lazypipe.run.segment.whole import Whole
from lazypipe.spec import taps
from lazypipe.spec.scope import FAR, Table
from lazypipe.sql.exprs import empty
from lazypipe.storage.content import has_grown
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.units import UNIT, Units, as_units
from lazypipe.storage.files import read_key

__all__ = ["Query"]


def _through(batch: pl.DataFrame) -> pl.DataFrame:
    return batch


class Query:
    """The frames of one segment in one run, and what was counted while they ran.

    ``grouping`` is the step that the output is cut at (``work.cut``). ``known`` are keys that stand more than once, per node and
    check, where the rows are gone through once more because of them. With ``holds`` the gate of the segment's own node holds back
    rows whose key may repeat, until all have been seen.
    """

    def __init__(self, run: Run, segment: Segment, number: int, work: Work, dataset: Dataset | None) -> None:
        self.run = run
        self.plan = run.plan
        self.segment = segment
        self.number = number
        self.dataset = dataset
        self.work = work
        self.beside = None if dataset is None else Kept(dataset, work)
        self.grouping = None if work.cut is None else Grouping(self, *work.cut)
        self.snapshots: dict[str, Snapshot] = {}
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
        self.run.reads.setdefault(name, []).append((self.snapshots[name], units))
        return self.snapshots[name]

    @property
    def made_of(self) -> int | None:
        """Bytes of all files that the rows are made of, if these cannot become more on the way; None if that is not known."""
        if self.segment.reads or any(s.multiplies() for n in self.segment.nodes for s, _ in self.plan.nodes[n].steps):
            return None
        sizes = [f.length for snapshot in self.snapshots.values() for f in snapshot.files]
        return None if None in sizes else sum(s for s in sizes if s is not None)

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
        self._sides.clear()
        if self.grouping is not None:
            self.grouping.begin()

    def counted(self) -> None:
        """Take note that all rows have flowed by whose times are counted."""
        for counter in self.times.values():
            counter.is_done = True

    def rows(self, beside: pl.LazyFrame | None = None) -> pl.LazyFrame:
        """Return the rows of the output, with the unit of each if the output says it; of one by groups with rows that stand ``beside``."""
        frame = self.frame(self.segment.node)
        if self.work.groups:
            frame = frame if beside is None else pl.concat([frame, beside])
            order = by_time([name for _, name in self.work.groups], self.plan.nodes[self.segment.node].schema)
            return frame.sort(order, nulls_last=True)
        return self.told(frame)

    def told(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return rows with their units if the output stores them, otherwise without: then they only gave gates the file of a row."""
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

    def frame(self, name: str, reads: Container[str] | None = None) -> pl.LazyFrame:
        """Return a node's rows as this run computes them: counted, checked, split; a gate may leave out columns that are not in ``reads``."""
        units = self.work.units.get(name)
        if name in self.run.kept:
            shared = self._shared(name)
            if shared is None and units is not None:
                shared = self._of_units(name, units)
            return taps.label(self.run.kept[name]() if shared is None else self._told_gates(shared), name)
        node = self.plan.nodes[name]
        quarantines = any(c.action == "quarantine" for c in node.checks)
        if node.source is not None:
            # rows that are replayed from a quarantine carry the file that they came from
            asked = (quarantines or name in self._filed) and FILE_COLUMN not in node.schema
            watch = partial(self.watches.text, name, node.source) if node.source.is_text else None
            rows = self._read(name, node.source, file_column=asked, watch=watch, tally=self.watches.tally)
            rows = rows if units is None else self._counting(name, node.source, units, rows)
            frame = taps.label(self._told_gates(rows), name)
        elif (grouping := self._cut_at(name)) is not None:
            frame = grouping.rows()
        else:
            inputs = {n: self.table(n) for n in node.inputs}
            frame = node.shaped(self.stepped(node, inputs, len(node.steps), self.watch(node)))
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
            notify=self.notify,
            # rows that are held back come out of their unit's file
            hold=self.holds and name == self.segment.node and not told,
            key=self.plan.key(name),
            masked=self.plan.masked(name),
            raw=bool(node.raw),
            unit=UNIT if told else None,
            hashing=hashing,
            passed=reads,
        )
        self.taps[name] = gate
        return gate.attach(frame, lookup)

    def _of_units(self, name: str, units: Units) -> pl.LazyFrame:
        """Return the rows of an output that this run reads, with their units."""
        dataset, commit = self.run.published[name]
        older = self.work.older.get(name)
        return dataset.scan_units(commit if older is None or older.commit is None else older.commit, units)

    def _read(self, name: str, source: BoundSource, **how: Any) -> pl.LazyFrame:
        """Return the rows of a source that this run reads, with their units."""
        moments = self.run.moments.get(name, "usual")
        if source.reader.by_row and source.reader.format == "csv":  # of a broken row no part is to be found either
            how.setdefault("watch", partial(self.watches.text, name, source))
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
        made_here = name == self.segment.node
        if name in self.run.kept and not made_here and not (self.anew and name in self.run.shared):
            shared = self._shared(name)
            if shared is not None:
                return shared if told else shared.drop(UNIT)
            if units is None:
                return self.run.kept[name]()
            rows = self._of_units(name, units)
            return rows if told else rows.drop(UNIT)
        node = self.plan.nodes[name]
        if node.source is not None:
            frame = self._read(name, node.source)
            frame = taps.label(frame if units is None or told else frame.drop(UNIT), name)
        elif (grouping := self._cut_at(name)) is not None and grouping.is_part:
            frame = grouping.plain()
        else:
            frame = node.lower(self.plain_tables(node, told=told), self.unwatched(node))
        if before_gate:
            return frame if told else node.mended(frame)
        return node.good(frame, self.lookup, self.unit(name) if told else ())

    def _cut_at(self, name: str) -> Grouping | None:
        """Return the grouping if it is a step of this node."""
        return self.grouping if self.grouping is not None and self.grouping.node.name == name else None

    def plain_tables(self, node: Node, *, told: bool) -> dict[str, Table]:
        """Return a stage's inputs with gates as filters."""
        return {name: self.plain_table(name, told=told) for name in node.inputs}

    def plain_table(self, name: str, *, told: bool = False) -> Table:
        """Return a node's rows with gates as filters, as an input of a stage."""
        frame, node = self.plain(name, told=told), self.plan.nodes[name]
        return Table(frame, node.schema, self.unit(name) if told else (), self.is_large(name))

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
            inputs = self.plain_tables(node, told=True)
            table = node.steps_over(inputs[node.inputs[0]], inputs, 0, side.step)
            ahead, schema = table.frame, table.schema
        return self.with_units(
            ahead.select(hashed(match.here, schema, nulls=match.nulls, types=match.types), UNIT).drop_nulls().unique()
        )

    @property
    def digests(self) -> Digests:
        """Digests of the rows that the other sides of joins hold for each key, as this run lists and reads them."""
        run = self.run
        return Digests(self.plan, run.look, run.digests, run.published, run.moments)

    def _sides_of(self, name: str, step: int | None) -> list[Side]:
        """Return what is noted of a node's rows on the way: where filters and projections cannot go further down anyhow."""
        sources = [self.plan.nodes[n].source for n in self.work.units]
        watched = [s is not None and (s.is_text or self.plan.nodes[s.name].checks) for s in sources]
        if not all(watched) or any(n in self.run.kept for n in self.work.units):
            return []
        if step is not None and not isinstance(self.plan.nodes[name].steps[step][0], Join):
            return []  # a query may end its inputs at any time, so that they are read afterwards anyhow
        return [s for s in self.work.sides if (s.node, s.step) == (name, step)]

    def stepped(self, node: Node, inputs: Mapping[str, Table], stop: int, watching: Watching) -> Table:
        """Return a stage's rows after some of its steps, with the keys noted by which they are looked up in other sides."""
        table = inputs[node.inputs[0]]
        for step in range(stop):
            noted = self._sides_of(node.name, step)
            for side in noted:
                table = replace(table, frame=self._noting(side, table.frame, table.schema))
            table = node.steps_over(table, inputs, step, step + 1, watching)
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
        full = {(s.node, s.step) for s in self.work.sides if (told[s] if s in told else self.digests.of(s).height)}
        for name in self.segment.nodes:
            for step, (operation, _) in enumerate(self.plan.nodes[name].steps):
                joins = bool(operation.inputs()) and operation.name != "union"
                if (joins or may_stop(operation)) and (name, step) not in full:
                    return True
        return False

    def lookup(self, reference: Reference) -> pl.LazyFrame:
        """Return the rows that a rule of keys looks into."""
        return taps.label(self.plain(reference.to), reference.to)

    @cached_property
    def _filed(self) -> frozenset[str]:
        """The nodes whose rows carry the name of their file to a gate further on, where no units tell it.

        These are a source and what is made of its rows one by one, or puts them in order, up to a gate, which takes it off.
        """
        if self.work.units or self.work.cut is not None:
            return frozenset()
        gates = (n for n in self.segment.nodes if any(c.action == "quarantine" for c in self.plan.nodes[n].checks))
        return frozenset(name for gate in gates for name in self._files_ahead(self.plan.nodes[gate]))

    def _files_ahead(self, node: Node) -> list[str]:
        """Return what is ahead of a gate whose rows know their file, and keep it up to there; nothing if they do not."""
        read = Counted(n for name in self.segment.nodes for n in self.plan.nodes[name].inputs)
        found: list[str] = []
        while node.source is None:
            ahead = self.plan.nodes[node.inputs[0]]
            if ahead.name in self.run.kept or ahead.checks or read[ahead.name] != 1 or not _keeps_rows(node, ahead):
                return []
            node = ahead
            found.append(node.name)
        return [] if FILE_COLUMN in node.schema else found

    def unit(self, name: str) -> tuple[str, ...]:
        """Return the column with each row's unit, if rows have one."""
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
        """Return the inputs of a join whose keys are declared unique.

        Of one that goes by groups all rows of these are compared, and any that is there besides was before.
        """
        grouping = self._cut_at(node.name)
        rows = self if grouping is None else grouping.reading
        return {n: Table(rows.plain(n), self.plan.nodes[n].schema) for n in node.inputs}

    def tags(self, name: str, output: str | None = None) -> dict[str, Any]:
        """Return what a dataset's commit says of its columns' tags, if it is that of an output also of those that this adds; nothing where none has any."""
        tags = self.plan.tags(name) if output is None else self.plan.tags_written(output)
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

    def watch(self, node: Node) -> Watching:
        """Return what counts a stage's rows on the way, and what decides over them by event time."""
        counts = self.counts(node)
        return replace(self.unwatched(node), tally=counts.tally, guard=counts.guard)

    def counts(self, node: Node) -> Watching:
        """Return what counts a stage's rows on the way."""
        return Watching(self.watches.tally, lambda step: partial(self.watches.guard, node, step))

    def unwatched(self, node: Node) -> Watching:
        """Return what decides over a stage's rows by event time, with nothing that counts them."""
        whole = self.whole(node.name)
        horizon = FAR if closes(node) is None else self.closing(node.name).horizon
        return Watching(horizon=horizon, whole=None if whole is None else whole.attach)

    def closing(self, name: str) -> Closing:
        """Return how far event time is for a node's windows."""
        if name not in self._closing:
            self._closing[name] = Closing(self.run, name, self.work, self.times)
        return self._closing[name]

    def whole(self, name: str) -> Whole | None:
        """Return which windows of a node are whole; None if nothing is expected of them."""
        closed = closes(self.plan.nodes[name])
        if closed is None or closed.expectation is None:
            return None
        if name not in self._wholes:
            self._wholes[name] = Whole(self.closing(name), self.plan.nodes[name], closed.expectation)
        return self._wholes[name]

    @cached_property
    def notify(self) -> Callable[[int], None]:
        """The callback for progress. A plan refers to it through its taps, so it must not refer to a plan."""
        observer, name, number, many = self.run.observer, self.segment.name, self.number, len(self.plan.segments)
        taps = self.taps
        return lambda _: observer(name, number, many, sum(t.rows for t in taps.values()))

    def table(self, name: str, reads: Container[str] | None = None) -> Table:
        """Return a node's rows as this run computes them, as an input of a stage; perhaps without columns that it does not ``read``."""
        extra = (FILE_COLUMN,) if name in self._filed else self._carried(name)
        return Table(self.frame(name, reads), self.plan.nodes[name].schema, extra, self.is_large(name))

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
        """Return how many bytes of files this run reads of a source, or of kept rows; 0 where the store does not say."""
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


def _keeps_rows(node: Node, ahead: Node) -> bool:
    """Whether each row of a stage is made of exactly one row of the stage ahead."""
    schema = ahead.schema
    for (operation, scope), after in zip(node.steps, node.schemas, strict=True):
        if operation.name not in ("sort", "limit") and not operation.each(Table(empty(schema).lazy(), schema), scope):
            return False
        schema = after
    return True
