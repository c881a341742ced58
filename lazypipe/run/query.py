"""The query of one segment: compiled nodes lowered over this run's inputs, with functions put in that rows flow through.

These count what must be counted on the way: gates, casts, keys of joins, fields of text files. They run on the streaming
engine's own threads, so none of them may start a streaming query (docs/decisions/0001).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import polars as pl

from lazypipe.compile.node import Node
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.errors import Problem, RunError
from lazypipe.gates.alone import mark_repeats
from lazypipe.gates.rule import Reference
from lazypipe.gates.tap import FILE_COLUMN, Tap
from lazypipe.gates.uniqueness import TIMES_COLUMN, KeyTracker, repeated
from lazypipe.incremental.work import Work
from lazypipe.run.blame import join_sides
from lazypipe.run.context import Run
from lazypipe.spec import taps
from lazypipe.spec.model import Step
from lazypipe.spec.scope import Guard, Table, Tally
from lazypipe.storage.dataset import Dataset, scan_files
from lazypipe.storage.log import DataFile
from lazypipe.storage.units import UNIT, as_units

__all__ = ["FIGURES", "Query", "without_units"]

FIGURES = "@figures"
"""What is kept of each unit, in the plan of the query that makes an output of that."""


class Query:
    """The frames of one segment in one run, and what was counted while they ran.

    ``figures`` are the files with what was kept of the units that this run reads, where the output is made of that. ``known`` are
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
        self.figures: tuple[DataFile, ...] = ()
        self.snapshots: dict[str, Snapshot] = {}
        self.taps: dict[str, Tap] = {}
        self.counters: dict[str, int] = {}
        self.known: dict[tuple[str, str], pl.DataFrame] = {}
        self.holds = False
        self._lock = threading.Lock()
        self._short: dict[str, list[int]] = {}
        self._guards: list[tuple[Node, Step, KeyTracker]] = []

    def begin(self) -> None:
        """Forget what was counted: the rows are gone through once more."""
        self.counters.clear()
        self._guards.clear()

    def partial(self) -> pl.LazyFrame:
        """Return what is to be kept of each unit that this run reads, where the output is made of that (``work.cut``)."""
        assert self.work.cut is not None
        name, step = self.work.cut
        node = self.plan.nodes[name]
        inputs = {n: self._table(n) for n in node.inputs}
        ahead = node.steps_over(inputs[node.inputs[0]], inputs, 0, step, *self._watch(node))
        return self.with_units(node.fold(ahead, inputs, step).partial)

    def rows(self) -> pl.LazyFrame:
        """Return the rows of the output, with the unit of each if the output says it."""
        frame = self.frame(self.segment.node)
        return self.with_units(frame) if self.work.told_apart else frame

    def with_units(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Put units in the place of the numbers that rows of files carry on the way."""
        return frame if self.work.numbers is None else as_units(frame, self.work.numbers)

    def frame(self, name: str) -> pl.LazyFrame:
        """Return a node's rows as this run computes them: counted, checked, split."""
        units = self.work.units.get(name)
        if name in self.run.kept:
            if units is None:
                return taps.label(self.run.kept[name], name)
            dataset, commit = self.run.published[name]
            rows = dataset.scan_units(commit, units)
            return taps.label(rows.drop(UNIT) if self.work.adds else rows, name)
        node = self.plan.nodes[name]
        quarantines = any(c.action == "quarantine" for c in node.checks)
        if node.source is not None:
            # rows that are replayed from a quarantine carry the file that they came from
            asked = quarantines and FILE_COLUMN not in node.schema
            watch = partial(self._watch_text, name, node.source) if node.source.is_text else None
            rows = self._read(name, node.source, file_column=asked, watch=watch)
            frame = taps.label(rows, name)
        elif self.work.cut is not None and name == self.work.cut[0]:
            frame = self._merged(node, self.work.cut[1])
        else:
            inputs = {n: self._table(n) for n in node.inputs}
            frame = node.lower(inputs, *self._watch(node))
        if not node.checks:
            return frame
        known = {check: keys for (of, check), keys in self.known.items() if of == name}
        checks, lookup = mark_repeats(node.checks, known, self.lookup)
        extra = self.unit(name)
        gate = Tap(
            checks,
            pl.Schema({**node.schema, **dict.fromkeys(extra, pl.UInt64())}),
            run=self.run.id,
            spill=self.run.folder / "quarantine",
            lookup=lookup,
            notify=self.notify,
            # rows that are held back come out of their unit's file
            hold=self.holds and name == self.segment.node and not extra,
            key=self.plan.key(name),
            masked=self.plan.masked(name),
            raw=bool(node.raw),
            unit=UNIT if extra else None,
        )
        self.taps[name] = gate
        return gate.attach(frame)

    def _read(self, name: str, source: BoundSource, **how: Any) -> pl.LazyFrame:
        """Return the rows of a source that this run reads, with their units unless it only adds them to others."""
        snapshot, units = self.snapshots[name], self.work.units.get(name)
        if self.work.adds and snapshot.commit is None:
            units = None  # the snapshot has just the files that are read
        rows = source.scan(snapshot, units=units, **how)
        return rows.drop(UNIT) if self.work.adds and units is not None else rows

    def plain(self, name: str, *, before_gate: bool = False) -> pl.LazyFrame:
        """Return a node's rows with gates as filters: what to count exactly, or to find a culprit with; what this run reads."""
        units = self.work.units.get(name)
        if name in self.run.kept and name != self.segment.node:
            if units is None:
                return self.run.kept[name]
            dataset, commit = self.run.published[name]
            return dataset.scan_units(commit, units).drop(UNIT)
        node = self.plan.nodes[name]
        if node.source is not None:
            frame = self._read(name, node.source) if self.work.adds else node.source.scan(self.snapshots[name])
        elif self.work.cut is not None and name == self.work.cut[0]:
            frame = self._merged(node, self.work.cut[1])
        else:
            frame = node.lower({n: Table(self.plain(n), self.plan.nodes[n].schema) for n in node.inputs})
        return node.mended(frame) if before_gate else node.good(frame, self.lookup)

    def lookup(self, reference: Reference) -> pl.LazyFrame:
        """Return the rows that a rule of keys looks into."""
        return taps.label(self.plain(reference.to), reference.to)

    def unit(self, name: str) -> tuple[str, ...]:
        """Return the column with each row's unit, where rows carry it."""
        if self.work.adds:
            return ()
        while name not in self.work.units:
            inputs = self.plan.nodes[name].inputs
            if not inputs or name in self.run.kept or name == (self.work.cut or ("",))[0]:
                return ()
            name = inputs[0]
        return (UNIT,)

    def complete_gates(self) -> None:
        """Run the gates alone that saw only part of their rows, because what reads them stopped, or never began."""
        counted = dict(self.counters)
        for name in reversed([n for n in self.segment.nodes if n in self.taps and n != self.segment.node]):
            seen = self.taps[name].rows
            if seen and name not in self.segment.partial:
                continue
            rows = self.plain(name, before_gate=True).select(pl.len()).collect(engine="streaming").item()
            if rows != seen:
                self.frame(name).select(pl.len()).collect(engine="streaming")
        self.counters.update(counted)

    def audit(self) -> None:
        """Raise where a text file has short rows, or a join's keys are not as unique as it states."""
        for name, nulls in self._short.items():
            source = self.plan.nodes[name].source
            assert source is not None
            source.refuse_short_rows(self.snapshots[name], nulls=bool(nulls))
        for node, step, tracker in self._guards:
            if tracker.count() != 0:
                inputs = {n: Table(self.plain(n), self.plan.nodes[n].schema) for n in node.inputs}
                for frame, keys in join_sides(node, step, inputs):
                    found = repeated(frame, keys).collect(engine="streaming")
                    if found.height:
                        raise self._repeats_in_join(node, step, found)

    def tags(self, name: str) -> dict[str, Any]:
        """Return what a dataset's commit says of its columns' tags; nothing where none has any."""
        tags = self.plan.tags(name)
        return {"tags": {c: list(t) for c, t in tags.items()}} if tags else {}

    # functions that rows flow through

    def _watch(self, node: Node) -> tuple[Tally, Callable[[Step], Guard]]:
        return self._tally, lambda step: partial(self._guard, node, step)

    def _watch_text(self, name: str, source: BoundSource, frame: pl.LazyFrame, last: str) -> pl.LazyFrame:
        """Keep projection away from a text file, so that every field is parsed; note nulls in the last column of a CSV."""
        nulls = self._short.setdefault(name, []) if source.reader.format == "csv" else []

        def watch(batch: pl.DataFrame) -> pl.DataFrame:
            if not nulls and batch[last].null_count():
                nulls.append(1)
            return batch

        return taps.tap(frame, watch)

    def _tally(self, frame: pl.LazyFrame, conditions: Mapping[str, pl.Expr]) -> pl.LazyFrame:
        """Count rows for which conditions hold, on the way."""
        schema = frame.collect_schema()
        columns = {f"__lazypipe_tally_{i}": (name, expr) for i, (name, expr) in enumerate(conditions.items())}
        for name, _ in columns.values():
            self.counters.setdefault(name, 0)

        def count(batch: pl.DataFrame) -> pl.DataFrame:
            sums = batch.select(pl.col(list(columns)).sum()).row(0)
            with self._lock:
                for (name, _), found in zip(columns.values(), sums, strict=True):
                    self.counters[name] += found
            return batch.select(schema.names())

        return taps.tap(frame.with_columns(e.alias(c) for c, (_, e) in columns.items()), count, schema=schema)

    def _guard(
        self, node: Node, step: Step, frame: pl.LazyFrame, schema: pl.Schema, keys: tuple[str, ...]
    ) -> pl.LazyFrame:
        """Watch the keys of a join's side on the way."""
        tracker = KeyTracker(keys, schema)
        self._guards.append((node, step, tracker))

        def watch(batch: pl.DataFrame) -> pl.DataFrame:
            within = batch.select(keys).drop_nulls()
            # select, not DataFrame.n_unique: that is a streaming query of its own, and would wait for this very thread
            if within.select(pl.struct(pl.all()).n_unique()).item() < within.height:
                # said at once: a join on repeated keys can multiply rows without bound
                raise self._repeats_in_join(node, step, repeated(within, keys))
            tracker.add(batch)
            return batch

        return taps.tap(frame, watch)

    def _repeats_in_join(self, node: Node, step: Step, found: pl.DataFrame) -> RunError:
        *values, times = found.sort(TIMES_COLUMN, descending=True).row(0)
        key = ", ".join(map(str, values))
        where = self.plan.pipeline.origin.locate((*step.path, step.name))
        what = f"stage {node.name!r}: join: key ({key}) stands {times} times on a side where validate allows one"
        return RunError(str(Problem(what, where)), fix="mend the data, or change validate; nothing was published")

    def notify(self, _: int) -> None:
        """Tell of progress."""
        self.run.observer(
            self.segment.name, self.number, len(self.plan.segments), sum(t.rows for t in self.taps.values())
        )

    def _table(self, name: str) -> Table:
        return Table(self.frame(name), self.plan.nodes[name].schema, self.unit(name))

    def _merged(self, node: Node, step: int) -> pl.LazyFrame:
        """Return a stage's rows, ahead of its gate, from what was kept of each unit, in this run and before."""
        assert self.dataset is not None
        inputs = {n: self._table(n) if n != node.inputs[0] else self._stub(n) for n in node.inputs}
        ahead = node.steps_over(inputs[node.inputs[0]], {**inputs}, 0, step)
        fold = node.fold(ahead, inputs, step)
        kept = (*self.work.figures, *self.figures)
        within = without_units(fold.partial.collect_schema())
        options = self.dataset.storage_options
        rows = scan_files(self.dataset.figures, kept, within, (), options, tagged=True, units=self.work.live)
        after = Table(fold.merge(taps.label(rows, FIGURES)), node.schemas[step])
        return node.shaped(node.steps_over(after, inputs, step + 1, len(node.steps), *self._watch(node)))

    def _stub(self, name: str) -> Table:
        schema = self.plan.nodes[name].schema
        rows = pl.LazyFrame(schema={**schema, UNIT: pl.UInt64()})
        return Table(rows, schema, (UNIT,))


def without_units(schema: pl.Schema) -> pl.Schema:
    """Return the schema without the column of units."""
    return pl.Schema({n: t for n, t in schema.items() if n != UNIT})
