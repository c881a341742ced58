"""What a run observes of passing rows besides its gates: counts of operations, keys of joins, short rows of text files.

These functions run on the streaming engine's own threads, so none of them may start a streaming query (docs/decisions/0001).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import polars as pl

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.node import Node
from lazypipe.compile.segments import may_stop
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import Problem, RunError
from lazypipe.gates.shown import MASKED
from lazypipe.gates.uniqueness import TIMES_COLUMN, KeyTracker, hashable, hashed, repeated
from lazypipe.run.segment.blame import join_sides
from lazypipe.spec import taps
from lazypipe.spec.model import Step
from lazypipe.spec.scope import Table
from lazypipe.storage.text.wholes import may_change

__all__ = ["Watches"]


class Watches:
    """What was noted while the query of a segment ran; ``counters`` are what its operations count."""

    def __init__(self, plan: CompiledPipeline) -> None:
        self.plan = plan
        self.counters: dict[str, int] = {}
        self._lock = threading.Lock()
        self._texts: dict[str, list[int]] = {}
        self._large: dict[str, set[str]] = {}
        self._guards: list[tuple[Node, Step, KeyTracker]] = []

    def begin(self) -> None:
        """Forget what was counted: the rows are gone through once more."""
        self.counters.clear()
        self._guards.clear()

    def refuse_lost_text(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Raise SourceError where a text file has what Polars passes over, or changes, in silence.

        Those are short rows, fields that no column takes, and whole numbers that are no floats.
        """
        for name, nulls in self._texts.items():
            source = self.plan.nodes[name].source
            assert source is not None
            if source.reader.format == "csv":
                source.refuse_short_rows(snapshots[name], nulls=bool(nulls))
            else:
                source.refuse_unknown_fields(snapshots[name])
            if self._large[name]:
                source.refuse_changed_wholes(snapshots[name], sorted(self._large[name]))

    def refuse_repeats(self, compared: Callable[[Node], Mapping[str, Table]], *, came: bool) -> None:
        """Raise RunError where a join's keys are not as unique as it states.

        Parameters
        ----------
        compared
            Gives the inputs of the join's stage.
        came
            Whether any row came of all this. If none did, a join may have had nothing on one side, and ended the other before all of
            its keys had flowed by.
        """
        for node, step, tracker in self._guards:
            if tracker.count() != 0 or (not came and _may_stop(node, step)):
                for frame, keys in join_sides(node, step, compared(node)):
                    found = repeated(frame, keys).collect(engine="streaming")
                    if found.height:
                        raise self._repeats_in_join(node, step, found)

    def text(self, name: str, source: BoundSource, frame: pl.LazyFrame, last: str | None) -> pl.LazyFrame:
        """Keep projection away from a text file, so that every field is parsed; note nulls in the ``last`` column of a CSV, and large floats."""
        large, floats = self._large.setdefault(name, set()), _floats(frame, source)
        nulls, csv = self._texts.setdefault(name, []), source.reader.format == "csv"

        def watch(batch: pl.DataFrame) -> pl.DataFrame:
            if csv and last is not None and not nulls and batch[last].null_count():
                nulls.append(1)
            large.update(n for n in floats if n not in large and may_change(batch[n]))
            return batch

        return taps.tap(frame, watch)

    def tally(self, frame: pl.LazyFrame, conditions: Mapping[str, pl.Expr]) -> pl.LazyFrame:
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

    def guard(
        self, node: Node, step: Step, frame: pl.LazyFrame, schema: pl.Schema, keys: tuple[str, ...]
    ) -> pl.LazyFrame:
        """Watch the keys of a join's side on the way."""
        tracker = KeyTracker(keys, schema)
        self._guards.append((node, step, tracker))
        hashes = hashed(keys, schema) if hashable(keys, schema) else None

        def watch(batch: pl.DataFrame) -> pl.DataFrame:
            found = None if hashes is None else batch.select(hashes).to_series().drop_nulls()
            if found is None or found.n_unique() < len(found):
                within = batch.select(keys).drop_nulls()
                # select, not DataFrame.n_unique: that is a streaming query of its own, and would wait for this very thread
                if within.select(pl.struct(pl.all()).n_unique()).item() < within.height:
                    # said at once: a join on repeated keys can multiply rows without bound
                    raise self._repeats_in_join(node, step, repeated(within, keys))
            tracker.add(batch, found)
            return batch

        return taps.tap(frame, watch)

    def _repeats_in_join(self, node: Node, step: Step, found: pl.DataFrame) -> RunError:
        *values, times = found.sort(TIMES_COLUMN, descending=True).row(0)
        hidden = frozenset[str]().union(*map(self.plan.masked, (node.name, *node.inputs)))
        named = zip(found.columns, values, strict=False)
        key = ", ".join(MASKED if name in hidden else str(value) for name, value in named)
        where = self.plan.pipeline.origin.locate((*step.path, step.name))
        what = f"stage {node.name!r}: join: key ({key}) occurs {times} times on a side where validate allows one"
        return RunError(str(Problem(what, where)), fix="fix the data, or change validate; nothing was published")


def _may_stop(node: Node, step: Step) -> bool:
    return any(may_stop(operation) for operation, scope in node.steps if scope.step is step)


def _floats(frame: pl.LazyFrame, source: BoundSource) -> list[str]:
    if not source.guessed:  # to ask for columns resolves the plan
        return []
    return [n for n, t in frame.collect_schema().items() if t == pl.Float64 and n in source.guessed]
