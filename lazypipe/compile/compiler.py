"""The compiler: a definition and its parameters in, frozen lazy frames, schemas and segments out."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

import polars as pl

from lazypipe.compile import graph as graphs
from lazypipe.compile.audit import BoundAudit, bind_audit
from lazypipe.compile.binding import bind, expand_env, unseen
from lazypipe.compile.closing import endless, forgotten
from lazypipe.compile.contract import cell_checks, is_broken
from lazypipe.compile.durations import with_durations
from lazypipe.compile.exports import check_exports
from lazypipe.compile.feedback import check_feedback
from lazypipe.compile.lake import check_tables
from lazypipe.compile.late import with_late_gates, without_twins
from lazypipe.compile.modes import check_modes
from lazypipe.compile.names import check_names
from lazypipe.compile.node import Node, check_rules, compile_checks, compile_steps
from lazypipe.compile.openlineage import bind_openlineage
from lazypipe.compile.panes import check_panes, untimed
from lazypipe.compile.promise import promised
from lazypipe.compile.segments import Segment, cut
from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.errors import LazypipeError, RunError, SourceError, StorageError, nearest
from lazypipe.gates import Check
from lazypipe.plan.explain import Kind, explain
from lazypipe.plan.fingerprint import Fingerprint
from lazypipe.plan.lineage import MASKS, Column
from lazypipe.plan.uses import declared, uses, uses_within
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.loader import problems
from lazypipe.spec.model import NOTHING, Fault, Output, Path, Pipeline, Source, Step
from lazypipe.spec.scope import Scope, Table
from lazypipe.spec.types import dtype_name
from lazypipe.sql import empty
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.by_row import TEXT
from lazypipe.storage.shape import Shape

if TYPE_CHECKING:
    from lazypipe.compile.changed import PlanChanges
    from lazypipe.compile.lineage import Parts
    from lazypipe.compile.strategies import Strategy
    from lazypipe.plan.graph import Lineage
    from lazypipe.storage.optimizer.workload import Workload

__all__ = ["CompiledPipeline", "bind_outputs", "compile_pipeline"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 8
"""Sources that are looked at side by side."""
_LATER = datetime(1987, 6, 5, 4, 3, 2, 1, tzinfo=UTC)


@dataclass(frozen=True)
class CompiledPipeline:
    """A pipeline with its parameters, as plans. Nothing but schemas has been read; nothing in it changes.

    ``frames`` holds one LazyFrame per source and stage, gates applied as filters; ``schemas`` the columns of each;
    ``segments`` what will run as one query each, in order; ``outputs`` where that goes, with URIs that are whole; ``held`` the
    columns that outputs with a contract had by then, None if nothing was committed; ``audit`` where its runs are recorded;
    ``openlineage`` where events about them go. If only some outputs were ``asked`` for, only what they need is in all of these.
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

    def __repr__(self) -> str:
        """Say what a run would make, of how much."""
        stages = [n for n in self.pipeline.stages if n in self.nodes]
        counts = ((sum(n in self.nodes for n in self.pipeline.sources), "source"), (len(stages), "stage"))
        ahead = ", ".join(f"{n} {word}" if n == 1 else f"{n} {word}s" for n, word in counts)
        return f"<{type(self).__name__} {self.pipeline.name}: {ahead}; outputs: {', '.join(self.outputs) or 'none'}>"

    def __getstate__(self) -> dict[str, Any]:
        """What it is, without what was found out of that: so it goes to other processes."""
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
        return next((o.key for o in self.outputs.values() if o.stage == name and o.key), ())

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
        from lazypipe.compile.lineage import Parts

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
        from lazypipe.compile.strategies import strategies

        return strategies(self.nodes, self.segments, self.outputs)

    def workload(self, output: str, others: Iterable[CompiledPipeline] = ()) -> Workload:
        """Return what is asked of an output: what it declares, what this pipeline does with it, and what others do that read it.

        Raises
        ------
        LazypipeError
            If there is no such output.
        """
        from lazypipe.storage.optimizer.workload import Workload

        target = self.output(output)
        said, _ = declared(target.workload, output, self.nodes[target.stage].schema)
        here = uses_within(self.lineage(), target.stage)
        there = uses((other.lineage() for other in others), self.redact(target.to))
        return Workload((*said.queries, *here, *there), said.declared)

    def explain_incremental(self) -> str:
        """Return, per output, how it is kept up to date when its inputs change, and why."""
        return "\n".join(f"{name}: {strategy}" for name, strategy in self.strategies.items())

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
        """Return the checks of a source or stage as they are at one time for all, so that they are others only if rules are."""
        node = self.nodes[name]
        written = self.pipeline.sources.get(name) or self.pipeline.stages.get(name)
        if written is None or not written.gate:
            return node.checks
        params = {**self.params, "now": now}

        def make_scope(step: Step, owner: type[Arguments]) -> Scope:
            return Scope(owner, step, params=params, guard=_unwatched)

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
        """Whether two outputs are of one dataset, as where one takes keys out of what the other writes."""
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


def compile_pipeline(
    pipeline: Pipeline,
    params: Mapping[str, Any] | None = None,
    *,
    now: datetime | None = None,
    env: Mapping[str, str] | None = None,
    allow: Iterable[str] = (),
    asked: frozenset[str] = frozenset(),
    admit: Callable[[Mapping[str, Output], BoundSource, Snapshot], Snapshot] = lambda _outputs, _source, found: found,
) -> CompiledPipeline:
    """Compile a definition.

    Parameters
    ----------
    params
        Values of parameters, as values or as text.
    now
        What ``:now`` means in expressions: the time of the run. Default: 1970-01-01, so that compiling reads no clock.
    env
        Where ``${NAME}`` in URIs and credentials is looked up. Default: the process environment.
    allow
        Modules whose functions ``python`` operations may call.
    asked
        Outputs: only what they are made of is looked at, and of all else only what the definition says by itself. Default: all.
    admit
        Takes out of a source's files those that are not whole yet, so that columns are not learned from them; it is told the outputs.

    Raises
    ------
    DefinitionError
        With every mistake that can be told apart, each with its place.
    SourceError
        If the schema of a source cannot be read.
    """
    faults: list[Fault] = []
    values = _parameters(pipeline, params or NOTHING, faults) | {"now": (now or EPOCH)}
    modules = frozenset(allow)

    def make_scope(step: Step, owner: type[Arguments]) -> Scope:
        return Scope(owner, step, params=values, modules=modules, guard=_unwatched)

    environment = os.environ if env is None else env
    written, pipeline = pipeline, with_late_gates(with_durations(pipeline, values, faults), faults)
    wrong: list[Fault] = []
    graph = graphs.build(pipeline, faults)
    needed = graphs.needed(pipeline, graph, asked)
    outputs, used = bind_outputs(pipeline, environment, wrong, needed)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lazypipe-sources") as pool:
        look = partial(bind, base=pipeline.base, env=environment, admit=partial(admit, outputs))
        binding = _begin(pool, {n: s for n, s in pipeline.sources.items() if n in needed}, look)
        faults += wrong
        audit, more = bind_audit(pipeline, environment, faults)
        used += more
        held = _held(outputs, uris.Redactor(tuple(used)))
        events, more = bind_openlineage(pipeline, environment, faults)
        nodes: dict[str, Node] = {}
        unread: list[SourceError] = []
        for name in graph.order:
            if name not in needed:
                _check_unseen(name, pipeline, faults)
                continue
            try:
                node = _compile_node(name, pipeline, graph, nodes, make_scope, faults, binding, held)
            except SourceError as error:
                unread.append(error)  # mistakes in the definition are told first: they can be mended without the data
                continue
            if node is not None:
                nodes[name] = node
    _check_output_columns(pipeline, nodes, faults)
    faults += endless(nodes)
    check_modes(pipeline, nodes, values, faults)
    check_panes(pipeline, nodes, faults)
    check_tables(pipeline, nodes, faults)
    check_exports(pipeline, nodes, faults)
    check_feedback(outputs, nodes, faults)
    if faults:
        # a parameter without a value is not unknown
        unset = {f"unknown parameter :{name}" for name in pipeline.params if name not in values}
        raise problems(without_twins([f for f in faults if f.what not in unset]), pipeline.origin)
    if unread:
        raise unread[0]
    secrets = (s for n in nodes.values() if n.source is not None for s in n.source.redact.secrets)
    redact = uris.Redactor(tuple(dict.fromkeys([*secrets, *used, *more])))
    segments = cut(pipeline, graph, nodes)
    if lost := [*forgotten(segments, nodes, outputs), *untimed(segments, nodes, outputs)]:
        raise problems(lost, pipeline.origin)
    frames = Frames(nodes)
    return CompiledPipeline(written, values, nodes, frames, segments, redact, outputs, held, asked, audit, events)


def _begin(
    pool: ThreadPoolExecutor, sources: Mapping[str, Source], bind: Callable[[str, Source], BoundSource]
) -> Callable[[str, Source], BoundSource]:
    """Begin to look at sources, side by side: most of the time it is stores that are waited for, or text that is tried for types."""
    begun = {name: pool.submit(bind, name, source) for name, source in sources.items()}
    return lambda name, source: begun[name].result() if name in begun else bind(name, source)


def _held(outputs: Mapping[str, Output], redact: uris.Redactor) -> dict[str, pl.Schema | None]:
    """Return the columns of the latest commit of each output that has a contract."""
    found: dict[str, pl.Schema | None] = {}
    for name, output in outputs.items():
        if output.contract and output.format == "dataset":
            from lazypipe.storage.dataset import Dataset

            try:
                commit = Dataset(output.to, output.storage_options).latest()
            except StorageError as error:
                uri = None if error.uri is None else redact(error.uri)
                raise StorageError(redact(error.what), uri=uri, fix=error.fix) from None
            found[name] = None if commit is None else commit.schema
    return found


def bind_outputs(
    pipeline: Pipeline, env: Mapping[str, str], faults: list[Fault], stages: Collection[str] | None = None
) -> tuple[Mapping[str, Output], list[uris.Secret]]:
    """Return the outputs (of some ``stages``) with URIs that are whole and variables replaced, and the values of those."""
    bound: dict[str, Output] = {}
    secrets: list[uris.Secret] = []
    for name, output in pipeline.outputs.items():
        if stages is not None and output.stage not in stages:
            continue
        try:
            to, used = expand_env(output.to, env, ("outputs", name, "to"))
            options, more = expand_env(output.storage_options, env, ("outputs", name, "storage_options"))
        except Fault as fault:
            faults.append(fault)
            continue
        bound[name] = replace(output, to=uris.resolve(to, pipeline.base), storage_options=options)
        secrets += [*used, *more]
    return bound, secrets


def _unwatched(frame: pl.LazyFrame, _schema: pl.Schema, _keys: tuple[str, ...]) -> pl.LazyFrame:
    """Leave keys unwatched in compiled frames: a run watches them (and Polars' own check would not stream)."""
    return frame


def _parameters(pipeline: Pipeline, given: Mapping[str, Any], faults: list[Fault]) -> dict[str, Any]:
    faults += [
        Fault(f"unknown parameter {name!r}", nearest(name, pipeline.params, "parameters"), ("params",))
        for name in given
        if name not in pipeline.params
    ]
    values = {}
    for name, param in pipeline.params.items():
        if name == "now":
            faults.append(
                Fault("the parameter 'now' is the time of the run already", "give yours another name", ("params", name))
            )
        if name not in given and param.default is None:
            faults.append(
                Fault(
                    f"parameter {name!r} has no value",
                    f"pass it (--param {name}=…), or give it a default",
                    ("params", name),
                )
            )
            continue
        try:
            values[name] = param.parse(given[name]) if name in given else param.default
        except ValueError as error:
            faults.append(Fault(f"parameter {name!r}: {error}", None, ("params", name)))
    return values


def _compile_node(
    name: str,
    pipeline: Pipeline,
    graph: graphs.Graph,
    nodes: Mapping[str, Node],
    make_scope: Callable[..., Scope],
    faults: list[Fault],
    binding: Callable[[str, Source], BoundSource],
    held: Mapping[str, pl.Schema | None],
) -> Node | None:
    """Compile one source or stage; None (with its mistakes in ``faults``) where it is wrong or reads something wrong."""
    others = {ref: nodes[ref].schema for ref in graph.lookups.get(name, ()) if ref in nodes}
    if len(others) < len(graph.lookups.get(name, ())):
        check_rules((pipeline.stages.get(name) or pipeline.sources[name]).gate, faults)
        return None  # what its gate looks up is wrong, and has been told
    if name in pipeline.sources or name in graph.outside:
        source = pipeline.sources.get(name) or Source((name,))
        try:
            bound = binding(name, source)
            at: Path = ("sources", name) if name in pipeline.sources else ()
            form = bound.reader.format
            check_names(bound.schema, at, files=form != "dataset", text=form == "csv")
        except (Fault, SourceError) as error:
            check_rules(source.gate, faults)
            if isinstance(error, SourceError):
                raise
            faults.append(error)
            return None
        _promise(name, pipeline, bound.seen, held, faults, source=True)
        checks = compile_checks(source.gate, bound.seen, make_scope, faults, others, source.action)
        if TEXT in bound.raw:
            checks = tuple(
                replace(c, violated=c.violated & ~is_broken()) if c.violated is not None else c for c in checks
            )
        return Node(name, (), bound.seen, (*bound.checks, *checks), source=bound, to_close=name in graph.closing)
    stage = pipeline.stages[name]
    inputs = tuple(dict.fromkeys(graph.inputs[name]))
    if name not in graph.operations or any(ref not in nodes for ref in inputs):
        check_rules(stage.gate, faults)
        return None
    tables = {ref: Table(empty(nodes[ref].schema).lazy(), nodes[ref].schema) for ref in inputs}
    built = graph.operations[name]  # up to the first that is none
    made = compile_steps(stage.do[: len(built)], built, inputs, tables, make_scope, faults)
    if made is None or len(built) < len(stage.do):
        check_rules(stage.gate, faults)
        return None
    steps, schemas, stubs = made
    schema = schemas[-1] if schemas else nodes[inputs[0]].schema
    shape = _promise(name, pipeline, schema, held, faults)
    first = () if shape is None else cell_checks(shape, "dataset")
    schema = schema if shape is None else shape.schema
    checks = compile_checks(stage.gate, schema, make_scope, faults, others, stage.action)
    return Node(
        name,
        inputs,
        schema,
        (*first, *checks),
        steps=steps,
        schemas=schemas,
        stubs=stubs,
        shape=shape,
        to_close=name in graph.closing,
    )


def _check_unseen(name: str, pipeline: Pipeline, faults: list[Fault]) -> None:
    """Add what is wrong with a source or stage that nothing asked for is made of, as far as no data is needed to tell."""
    if name in pipeline.sources:
        faults += unseen(name, pipeline.sources[name])
    written = pipeline.stages.get(name) or pipeline.sources.get(name)
    check_rules(() if written is None else written.gate, faults)


def _promise(
    stage: str,
    pipeline: Pipeline,
    schema: pl.Schema,
    held: Mapping[str, pl.Schema | None],
    faults: list[Fault],
    *,
    source: bool = False,
) -> Shape | None:
    """Return the shape that the contract of an output gives the rows of a stage, which all who read it see."""
    promises = {n: o for n, o in pipeline.outputs.items() if o.stage == stage and o.contract}
    shapes = {n: promised(n, o, held.get(n), schema, faults) for n, o in promises.items()}
    for name, shape in shapes.items():
        if shape is None:
            continue
        at: Path = ("outputs", name, "contract")
        if source:
            what = f"by it the rows have to change, and {stage!r} is a source"
            faults.append(Fault(what, "put a stage between, or change the source's contract", at))
        elif len(promises) > 1:
            other = next(n for n in promises if n != name)
            what = f"by it the rows of {stage!r} have to change, which output {other!r} has a contract about too"
            faults.append(Fault(what, "give each of them a stage of its own", at))
        return shape
    return None


def _check_output_columns(pipeline: Pipeline, nodes: Mapping[str, Node], faults: list[Fault]) -> None:
    for name, output in pipeline.outputs.items():
        if output.stage not in nodes:
            continue
        schema = nodes[output.stage].schema
        for key in ("partition_by", "key"):
            for index, column in enumerate(getattr(output, key)):
                path = ("outputs", name, key, index)
                if column in getattr(output, key)[:index]:
                    faults.append(Fault(f"column {column!r} stands twice", "remove one of them", path))
                elif column not in schema:
                    faults.append(Fault(f"unknown column {column!r}", nearest(column, schema, "columns"), path))
                elif key == "partition_by" and not hive.can_name(schema[column]):
                    what = f"{dtype_name(schema[column])} column {column!r} cannot name folders"
                    faults.append(Fault(what, "partition by text, whole numbers, booleans, dates or datetimes", path))
        for number, error in declared(output.workload, name, schema)[1]:
            faults.append(Fault(error.what, error.fix, ("outputs", name, "workload", "queries", number)))
        if output.partition_by and set(output.partition_by) == set(schema):
            faults.append(
                Fault(
                    "every column is a partition column", "leave one for the files", ("outputs", name, "partition_by")
                )
            )
