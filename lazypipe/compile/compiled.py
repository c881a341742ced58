"""A compiled pipeline: frozen lazy frames, schemas and segments, and the questions that can be asked before a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from threading import RLock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import polars as pl

from lazypipe.compile.audit import BoundAudit
from lazypipe.compile.node import Node, ancestors, compile_checks
from lazypipe.compile.outputs.modes import VALID_FROM, VALID_TO
from lazypipe.compile.segments import Segment
from lazypipe.compile.state import StateFolder
from lazypipe.errors import LazypipeError, RunError, nearest
from lazypipe.gates import Check
from lazypipe.plan.explain import Kind, explain
from lazypipe.plan.fingerprint import Fingerprint
from lazypipe.plan.lineage import MASKS, Column
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.model import NOTHING, Fault, Output, Pipeline, Step
from lazypipe.spec.scope import Scope, Table
from lazypipe.storage import uri as uris

if TYPE_CHECKING:
    from lazypipe.compile.changed import PlanChanges
    from lazypipe.compile.changes.strategy import Strategy
    from lazypipe.compile.parts import Parts
    from lazypipe.plan.graph import Lineage
    from lazypipe.storage.optimizer.workload import Workload

__all__ = ["EPOCH", "CompiledPipeline", "Frames", "Lacking", "unwatched"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTEAD = (
    "use a parameter of your own, which changes only when you change it, or mode: append, which keeps existing rows"
)
_ONCE = RLock()
"""Held while fingerprints are computed: a run and its recorder ask at the same time, and one of them is to wait for the other."""
_LATER = datetime(1987, 6, 5, 4, 3, 2, 1, tzinfo=UTC)


class Lacking(NamedTuple):
    """An output that a run does not make, for a source of it cannot be read: where its rows would go, as it may be shown, and why.

    It is ``blocked`` if the source is what another definition did not make in the same run.
    """

    uri: str
    error: RunError
    blocked: bool = False


@dataclass(frozen=True)
class CompiledPipeline:
    """A pipeline with its parameters, as plans. Nothing but schemas has been read; nothing in it changes.

    ``frames`` holds one LazyFrame per source and stage, gates applied as filters; ``schemas`` the columns of each;
    ``segments`` what will run as one query each, in order; ``outputs`` where that goes, with URIs that are whole; ``held`` the
    columns that outputs with a contract had by then, None if nothing was committed; ``audit`` where its runs are recorded;
    ``openlineage`` where events about them go. If only some outputs were ``asked`` for, only what they need is in all of these, and
    ``others`` compiles those that are made of a stage's rows. ``lacking`` are the outputs that are left out as their sources cannot be read.
    """

    pipeline: Pipeline
    params: Mapping[str, Any]
    nodes: Mapping[str, Node] = field(repr=False)
    frames: Mapping[str, pl.LazyFrame] = field(repr=False)
    segments: tuple[Segment, ...]
    state: StateFolder
    redact: uris.Redactor = field(default_factory=uris.Redactor, repr=False)
    outputs: Mapping[str, Output] = field(default_factory=lambda: NOTHING, repr=False)
    held: Mapping[str, pl.Schema | None] = field(default_factory=lambda: NOTHING, repr=False)
    asked: frozenset[str] = frozenset()
    audit: BoundAudit = field(default=BoundAudit("off", ""), repr=False)
    openlineage: Mapping[str, Any] = field(default_factory=lambda: NOTHING, repr=False)
    others: Callable[[str], CompiledPipeline | None] | None = field(default=None, repr=False, compare=False)
    lacking: Mapping[str, Lacking] = field(default_factory=lambda: NOTHING, repr=False)

    def __repr__(self) -> str:
        """Say what a run would make, of how much."""
        stages = [n for n in self.pipeline.stages if n in self.nodes]
        counts = ((sum(n in self.nodes for n in self.pipeline.sources), "source"), (len(stages), "stage"))
        ahead = ", ".join(f"{n} {word}" if n == 1 else f"{n} {word}s" for n, word in counts)
        return f"<{type(self).__name__} {self.pipeline.name}: {ahead}; outputs: {', '.join(self.outputs) or 'none'}>"

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone, without cached properties: what other processes are sent."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def schema(self, name: str) -> pl.Schema:
        """Return the columns and types of a source, stage or output; raises LazypipeError for an unknown name."""
        return self.nodes[self._node(name)].schema

    def output(self, name: str) -> Output:
        """Return an output with its final URIs; raises LazypipeError for an unknown name."""
        if name not in self.outputs:
            raise LazypipeError(f"unknown output {name!r}; {nearest(name, self.outputs, 'outputs')}")
        return self.outputs[name]

    def key(self, name: str) -> tuple[str, ...]:
        """Return the columns that identify a row of a source or stage, if they are declared."""
        if name in self.pipeline.sources:
            return self.pipeline.sources[name].key
        written = (self.pipeline.outputs[n] for n in self.outputs)
        return next((o.key for o in written if o.stage == name and o.key), ())

    def lineage(self, *, optimized: bool = False, masks: frozenset[str] = MASKS) -> Lineage:
        """Return the column lineage of every source, stage and output. No data is read.

        Parameters
        ----------
        optimized
            Whether to include only what is needed by something, read off the plans as Polars optimizes them. Default: as written.
        masks
            Functions whose result does not reveal the value: dependencies through them are marked ``masking``.
        """
        from lazypipe.compile.lineage import pipeline_lineage

        if masks != MASKS:
            return pipeline_lineage(self._parts, optimized=optimized, masks=masks)
        return self._optimized if optimized else self._written

    @cached_property
    def _written(self) -> Lineage:
        from lazypipe.compile.lineage import pipeline_lineage

        return pipeline_lineage(self._parts)

    @cached_property
    def _optimized(self) -> Lineage:
        from lazypipe.compile.lineage import pipeline_lineage

        return pipeline_lineage(self._parts, optimized=True)

    @cached_property
    def _parts(self) -> Parts:
        from lazypipe.compile.parts import Parts

        return Parts(self.state, self.nodes, self.segments, self.outputs, self.redact, self.params)

    @property
    def strategies(self) -> Mapping[str, Strategy]:
        """How each output is kept up to date, by output name."""
        return MappingProxyType(self._strategies[0])

    @property
    def inner(self) -> Mapping[str, Strategy]:
        """How intermediate results that are kept only during one run are read, by source or stage name."""
        return MappingProxyType(self._strategies[1])

    @cached_property
    def _strategies(self) -> tuple[dict[str, Strategy], dict[str, Strategy]]:
        from lazypipe.compile.changes.strategies import strategies

        return strategies(self.nodes, self.segments, self.outputs)

    def workload(self, output: str, others: Iterable[CompiledPipeline] = ()) -> Workload:
        """Return how an output is read: its declared workload, this pipeline's own reads, and those of ``others`` that read it.

        All outputs of this pipeline count, also those that the plan does not contain; if their sources cannot be read just now, only those that it contains.

        Raises
        ------
        LazypipeError
            If there is no such output.
        """
        from lazypipe.plan.uses import declared, uses, uses_within
        from lazypipe.storage.optimizer.workload import Workload

        target, stage = self.output(output), self.pipeline.outputs[output].stage
        said, _ = declared(target.workload, output, self.nodes[stage].schema)
        here = uses_within(self._readers_of(stage).lineage(), stage)
        there = uses((other.lineage() for other in others), self.redact(target.to))
        return Workload((*said.queries, *here, *there), said.declared)

    def _readers_of(self, stage: str) -> CompiledPipeline:
        """Return the plan of all that is made of a stage's rows: what runs together says nothing of who reads."""
        if self.others is None:
            return self
        try:
            return self.others(stage) or self
        except LazypipeError:  # of outputs that are not wanted now, which is no ground to fail
            return self

    def explain_incremental(self) -> str:
        """Return a text that says how each output is kept up to date when its inputs change, and why."""
        told = []
        for name, strategy in self.strategies.items():
            timed = () if strategy.adds else self.by_the_time(self.outputs[name].stage)
            told.append(
                "; ".join(
                    [f"{name}: {strategy}", *(f"rebuilds everything in every run, because {why}" for why in timed)]
                )
            )
        return "\n".join(told)

    def by_the_time(self, name: str) -> tuple[str, ...]:
        """Return the steps that use the time of the run, so that each run recomputes all rows of the source or stage.

        Steps of the stages it depends on are included.
        """
        above = ancestors(self.nodes, name)
        steps = [(n, step) for n in self.nodes if n in above for step in self.nodes[n].timed]
        places = [(n, self.pipeline.origin.locate((*step.path, step.name))) for n, step in steps]
        return tuple(f"{n if where is None else where}: :now differs in every run; {_INSTEAD}" for n, where in places)

    def fingerprints(self) -> Mapping[str, Fingerprint]:
        """Return a hash of what each source, stage and output computes. No data is read.

        Two versions of a pipeline have equal fingerprints only if they compute the same data from the same sources. If an expression uses ``:now``,
        or a rule that removes rows uses the clock, the fingerprint depends on the time for which the pipeline is compiled. Files that a
        Python function reads on its own are not seen; only the function's name counts.
        """
        with _ONCE:
            return self._fingerprints

    def changed_since(self, before: Mapping[str, Fingerprint] | CompiledPipeline) -> PlanChanges:
        """Return which stages and columns differ from an earlier plan or its ``fingerprints``, and why.

        A column is not included if its own expression and everything that it is computed from are the same.
        """
        from lazypipe.compile.changed import plan_changes

        places = {n: self._node(n) for n in self.fingerprints()}
        known = before.fingerprints() if isinstance(before, CompiledPipeline) else before
        return plan_changes(self.fingerprints(), known, self.lineage, places)

    @cached_property
    def _fingerprints(self) -> Mapping[str, Fingerprint]:
        from lazypipe.compile.fingerprint import pipeline_fingerprints

        return MappingProxyType(pipeline_fingerprints(self._parts, self._rules))

    def looks_at_the_clock(self, name: str) -> bool:
        """Whether rules of a source or stage use the clock, so that the same rows may be judged differently at another time."""
        return bool(self.clock_rules(name))

    def clock_rules(self, name: str) -> tuple[Check, ...]:
        """Return the checks of a source or stage that use the clock, so that the same rows may be judged differently at another time."""
        from lazypipe.compile.fingerprint import same_rules

        if self.nodes[name].timeless is not None:
            return ()
        if name not in self._by_clock:
            rules, later = self._rules(name), self._rules(name, _LATER)
            pairs = zip(rules, later, strict=True)
            self._by_clock[name] = tuple(one for one, other in pairs if not same_rules([one], [other]))
        return self._by_clock[name]

    @cached_property
    def _by_clock(self) -> dict[str, tuple[Check, ...]]:
        """What has been found of rules that look at the clock: a run asks several times."""
        return {}

    def _rules(self, name: str, now: datetime = EPOCH) -> tuple[Check, ...]:
        """Return the checks of a source or stage as compiled for one fixed time, so that they differ between runs only if the rules do."""
        node = self.nodes[name]
        written = self.pipeline.sources.get(name) or self.pipeline.stages.get(name)
        if written is None or not written.gate:
            return node.checks
        made = node.timeless
        if made is None:
            params = {**self.params, "now": now}

            def make_scope(step: Step, owner: type[Arguments]) -> Scope:
                return Scope(owner, step, params=params, guard=unwatched)

            schemas = {n: other.schema for n, other in self.nodes.items()}
            made = compile_checks(written.gate, node.schema, make_scope, [], schemas, written.action)
        return (*node.checks[: len(node.checks) - len(made)], *made)

    def dead_columns(self) -> dict[str, tuple[str, ...]]:
        """Return, per source and stage, the columns that no output and no rule needs, as proven by Polars' optimizer.

        Quarantined rows keep these columns.
        """
        live = {p.name: p for p in self._optimized.places if p.kind != "quarantine"}
        read = {c for p in live.values() for c in (*p.lineage.reads, *(r for rule in p.rules for r in rule.reads))}
        dead = {
            n: tuple(c for c in node.schema if c not in live[n].columns and Column(n, c) not in read)
            for n, node in self.nodes.items()
        }
        return {n: columns for n, columns in dead.items() if columns}

    def tags(self, name: str) -> dict[str, tuple[str, ...]]:
        """Return the tags of the columns of a source, stage or output.

        Tags that are declared at sources follow the values through renames, expressions, joins and aggregates. A column that only decides
        which rows exist passes on no tags.
        """
        return dict(self._tags.get(self._node(name), {}))

    def tags_written(self, output: str) -> dict[str, tuple[str, ...]]:
        """Return the tags of the columns of an output's dataset, with those that its write mode adds."""
        written = self.outputs[output]
        tags = self.tags(written.stage)
        times = tags.get(written.event_time or "")
        return tags | ({VALID_FROM: times, VALID_TO: times} if times and written.mode == "scd2" else {})

    @cached_property
    def _given(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """The tags that sources give."""
        return {n: node.source.tags for n, node in self.nodes.items() if node.source is not None and node.source.tags}

    @cached_property
    def _tags(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        from lazypipe.compile.lineage import pipeline_tags

        return pipeline_tags(self._parts, self._given) if self._given else {}

    def masked(self, name: str) -> frozenset[str]:
        """Return the columns of a source or stage with the tag ``pii``: their values are not shown in reports."""
        if not any("pii" in tags for columns in self._given.values() for tags in columns.values()):
            return frozenset()  # so that plans need not be read for it before rows flow
        return frozenset(c for c, tags in self._tags.get(name, {}).items() if "pii" in tags)

    def share_place(self, one: str, other: str) -> bool:
        """Whether two outputs write to the same dataset, for example because one deletes keys from what the other writes."""
        return self.outputs[one].to.rstrip("/") == self.outputs[other].to.rstrip("/")

    def explain(self, name: str, kind: Kind = "optimized") -> str:
        """Return the query plan of a stage as text.

        Parameters
        ----------
        kind
            ``logical``: as written; ``optimized``: as Polars will run it; ``physical``: the nodes of the streaming engine, with a mark at those
            that need memory or fall back to the in-memory engine.
        """
        if kind not in get_args(Kind):
            raise LazypipeError(f"there is no kind {kind!r} of plan; {nearest(str(kind), get_args(Kind), 'kinds')}")
        return self.redact(explain(self.frames[self._node(name)], kind))

    def _node(self, name: str) -> str:
        if name in self.nodes:
            return name
        if name in self.pipeline.outputs:
            return self.pipeline.outputs[name].stage
        hint = nearest(name, [*self.nodes, *self.pipeline.outputs], "names")
        raise LazypipeError(f"unknown source, stage or output {name!r}; {hint}")


class Frames(Mapping[str, pl.LazyFrame]):
    """The rows of each source and stage as plans over the files that were there at compile time, each made when it is asked for.

    A run makes plans of its own, over what is there then; to make these too would cost it time with each file.
    """

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._made: dict[str, pl.LazyFrame] = {}

    def __getitem__(self, name: str) -> pl.LazyFrame:
        if name not in self._made:
            node = self._nodes[name]
            if node.source is not None:
                frame = node.source.scan(node.source.when_compiled())
            else:
                try:
                    frame = node.lower({n: Table(self[n], self._nodes[n].schema) for n in node.inputs})
                except Fault as fault:  # of a function that does with rows what it did not do without
                    raise RunError(f"stage {name!r}: {fault.what}", fix=fault.fix) from fault
            self._made[name] = node.good(frame, lambda reference: self[reference.to])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


def unwatched(frame: pl.LazyFrame, _schema: pl.Schema, _keys: tuple[str, ...]) -> pl.LazyFrame:
    """Leave keys unwatched in compiled frames: a run watches them (and Polars' own check would not stream)."""
    return frame
