"""A pipeline as plans: frozen lazy frames, schemas and segments, and what can be asked of them before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import polars as pl

from lazypipe.compile.audit import BoundAudit
from lazypipe.compile.node import Node, ancestors, compile_checks
from lazypipe.compile.segments import Segment
from lazypipe.errors import LazypipeError, RunError, SourceError, nearest
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
    "write a parameter of your own, which changes when you say so, or mode: append, which keeps rows as they were made"
)
_LATER = datetime(1987, 6, 5, 4, 3, 2, 1, tzinfo=UTC)


class Lacking(NamedTuple):
    """An output that is not in a plan, for a source of it cannot be read: where its rows would go, as it may be shown, and why."""

    uri: str
    error: SourceError


@dataclass(frozen=True)
class CompiledPipeline:
    """A pipeline with its parameters, as plans. Nothing but schemas has been read; nothing in it changes.

    ``frames`` holds one LazyFrame per source and stage, gates applied as filters; ``schemas`` the columns of each;
    ``segments`` what will run as one query each, in order; ``outputs`` where that goes, with URIs that are whole; ``held`` the
    columns that outputs with a contract had by then, None if nothing was committed; ``audit`` where its runs are recorded;
    ``openlineage`` where events about them go. If only some outputs were ``asked`` for, only what they need is in all of these, and
    ``others`` compiles those that are made of a stage's rows. ``lacking`` are the outputs that were left out as their sources cannot be read.
    """

    pipeline: Pipeline
    params: Mapping[str, Any]
    nodes: Mapping[str, Node] = field(repr=False)
    frames: Mapping[str, pl.LazyFrame] = field(repr=False)
    segments: tuple[Segment, ...]
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
        """Return an output, its URIs bound; raises LazypipeError for an unknown name."""
        if name not in self.outputs:
            raise LazypipeError(f"unknown output {name!r}; {nearest(name, self.outputs, 'outputs')}")
        return self.outputs[name]

    def key(self, name: str) -> tuple[str, ...]:
        """Return the columns that tell the rows of a source or stage apart, as far as they are declared."""
        if name in self.pipeline.sources:
            return self.pipeline.sources[name].key
        written = (self.pipeline.outputs[n] for n in self.outputs)
        return next((o.key for o in written if o.stage == name and o.key), ())

    def lineage(self, *, optimized: bool = False, masks: frozenset[str] = MASKS) -> Lineage:
        """Return where the columns of every source, stage and output come from; reads no data.

        Parameters
        ----------
        optimized
            Whether only what something needs is in it, read off plans as Polars optimizes them. Default: as written.
        masks
            Functions after which a value can no longer be read: dependencies through them say ``masking``.
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

        state = uris.resolve(self.pipeline.state, self.pipeline.base)
        return Parts(self.pipeline.name, self.nodes, self.segments, self.outputs, state, self.redact)

    @property
    def strategies(self) -> Mapping[str, Strategy]:
        """How each output is kept up to date, by its name."""
        return MappingProxyType(self._strategies[0])

    @property
    def inner(self) -> Mapping[str, Strategy]:
        """How what is kept for one run only is read, by its source or stage."""
        return MappingProxyType(self._strategies[1])

    @cached_property
    def _strategies(self) -> tuple[dict[str, Strategy], dict[str, Strategy]]:
        from lazypipe.compile.changes.strategies import strategies

        return strategies(self.nodes, self.segments, self.outputs)

    def workload(self, output: str, others: Iterable[CompiledPipeline] = ()) -> Workload:
        """Return what is asked of an output: what it declares, what this pipeline does with it, and what others do that read it.

        Of this pipeline all outputs count, also those that the plan was not asked for; if it reads what is not there just now,
        those that it was.

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
        """Return, per output, how it is kept up to date when its inputs change, and why."""
        told = []
        for name, strategy in self.strategies.items():
            timed = () if strategy.adds else self.by_the_time(self.outputs[name].stage)
            told.append("; ".join([f"{name}: {strategy}", *(f"all of it in each run, for {why}" for why in timed)]))
        return "\n".join(told)

    def by_the_time(self, name: str) -> tuple[str, ...]:
        """Return what makes all rows of a source or stage anew in each run: the steps, its own and those ahead, that ask for the time of it."""
        above = ancestors(self.nodes, name)
        steps = [(n, step) for n in self.nodes if n in above for step in self.nodes[n].timed]
        places = [(n, self.pipeline.origin.locate((*step.path, step.name))) for n, step in steps]
        return tuple(
            f"{n if where is None else where}: :now is another time in each run; {_INSTEAD}" for n, where in places
        )

    def fingerprints(self) -> Mapping[str, Fingerprint]:
        """Return what each source, stage and output is made to hold, as hashes; reads no data.

        Those of two versions of a pipeline are equal only if they make the same data of the same content of their sources.
        Where an expression uses ``:now``, or a rule that takes rows out looks at the clock, they are others at each time that
        the pipeline is compiled for. Files that a Python function reads by itself are no source: only their names count.
        """
        return self._fingerprints

    def changed_since(self, before: Mapping[str, Fingerprint] | CompiledPipeline) -> PlanChanges:
        """Return what is another than in a plan ``before``, or than when ``fingerprints`` were ``before``: which stages and columns, and why.

        A column whose own expression, and whatever it is made of, are the same is not among them.
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
        """Whether rules of a source or stage may find something else of the same rows at another time."""
        return bool(self.clock_rules(name))

    def clock_rules(self, name: str) -> tuple[Check, ...]:
        """Return the checks of a source or stage that may find something else of the same rows at another time."""
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
        """Return, per source and stage, the columns that no output and no rule needs, as Polars proves it.

        Quarantined rows keep all of their columns, also these.
        """
        live = {p.name: p for p in self._optimized.places if p.kind != "quarantine"}
        read = {c for p in live.values() for c in (*p.lineage.reads, *(r for rule in p.rules for r in rule.reads))}
        dead = {
            n: tuple(c for c in node.schema if c not in live[n].columns and Column(n, c) not in read)
            for n, node in self.nodes.items()
        }
        return {n: columns for n, columns in dead.items() if columns}

    def tags(self, name: str) -> dict[str, tuple[str, ...]]:
        """Return the tags of a source's, stage's or output's columns, as far as they have any.

        Those that sources give travel with values: through renames, expressions, joins and aggregates. A column that only
        decides which rows there are passes none on.
        """
        return dict(self._tags.get(self._node(name), {}))

    @cached_property
    def _given(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """The tags that sources give."""
        return {n: node.source.tags for n, node in self.nodes.items() if node.source is not None and node.source.tags}

    @cached_property
    def _tags(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        from lazypipe.compile.lineage import pipeline_tags

        return pipeline_tags(self._parts, self._given) if self._given else {}

    def masked(self, name: str) -> frozenset[str]:
        """Return the columns of a source or stage that carry the tag ``pii``: their values are not shown in reports."""
        if not any("pii" in tags for columns in self._given.values() for tags in columns.values()):
            return frozenset()  # so that plans need not be read for it before rows flow
        return frozenset(c for c, tags in self._tags.get(name, {}).items() if "pii" in tags)

    def share_place(self, one: str, other: str) -> bool:
        """Whether two outputs write to one dataset, as where one removes keys from what the other writes."""
        return self.outputs[one].to.rstrip("/") == self.outputs[other].to.rstrip("/")

    def explain(self, name: str, kind: Kind = "optimized") -> str:
        """Return a stage's plan as text.

        Parameters
        ----------
        kind
            ``logical``: as written; ``optimized``: as Polars will run it; ``physical``: the nodes of the streaming engine,
            with those marked that need memory or fall back to the in-memory engine.
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
