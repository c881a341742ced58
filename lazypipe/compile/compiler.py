"""The compiler: takes a definition and its parameters, returns a compiled pipeline, or reports all mistakes at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import polars as pl

from lazypipe.compile import graph as graphs
from lazypipe.compile.audit import bind_audit
from lazypipe.compile.closing import endless, forgotten
from lazypipe.compile.compiled import EPOCH, CompiledPipeline, Frames, Lacking, unwatched
from lazypipe.compile.durations import with_durations
from lazypipe.compile.late import with_late_gates, without_twins
from lazypipe.compile.node import Node
from lazypipe.compile.nodes import compile_nodes
from lazypipe.compile.openlineage import bind_openlineage
from lazypipe.compile.outputs.exports import check_exports
from lazypipe.compile.outputs.feedback import check_feedback
from lazypipe.compile.outputs.lake import check_tables
from lazypipe.compile.outputs.modes import check_modes
from lazypipe.compile.outputs.panes import check_panes, untimed
from lazypipe.compile.segments import cut
from lazypipe.compile.sources.binding import bind, expand_env, refuse_unknown_protocol
from lazypipe.compile.sources.source import BoundSource, Recalled, Snapshot
from lazypipe.compile.state import bind_state
from lazypipe.errors import AwayError, SourceError, StorageError, nearest
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.loader import problems
from lazypipe.spec.model import NOTHING, Fault, Output, Pipeline, Source, Step
from lazypipe.spec.scope import Scope, modules
from lazypipe.spec.types import dtype_name
from lazypipe.storage import hive
from lazypipe.storage import uri as uris

__all__ = ["bind_outputs", "compile_pipeline"]

_AT_ONCE = 8
"""Sources that are looked at side by side."""


def _admit_all(_outputs: Mapping[str, Output], _source: BoundSource, found: Snapshot) -> Snapshot:
    return found


def _recall_none(_outputs: Mapping[str, Output]) -> Callable[[BoundSource], Recalled]:
    return lambda _: Recalled()


def compile_pipeline(
    pipeline: Pipeline,
    params: Mapping[str, Any] | None = None,
    *,
    now: datetime | None = None,
    env: Mapping[str, str] | None = None,
    allow: Iterable[str] = (),
    asked: frozenset[str] = frozenset(),
    skip_unreadable: bool = False,
    admit: Callable[[Mapping[str, Output], BoundSource, Snapshot], Snapshot] = _admit_all,
    recall: Callable[[Mapping[str, Output]], Callable[[BoundSource], Recalled]] = _recall_none,
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
        Modules (or one) whose functions ``python`` operations may call.
    asked
        Outputs: only what they are made of is looked at, and of all else only what the definition says by itself. Default: all.
    skip_unreadable
        Whether outputs whose sources cannot be read are left out (``lacking``), as long as others can be made.
    admit
        Takes out of a source's files those that are not whole yet, so that columns are not learned from them; it is told the outputs.
    recall
        Says of which files of a source the columns are known from before; it is told the outputs.

    Raises
    ------
    DefinitionError
        With every mistake that can be told apart, each with its place.
    SourceError
        If the schema of a source cannot be read.
    """
    how: Any = {"now": now, "env": env, "allow": allow, "admit": admit, "recall": recall}
    faults: list[Fault] = []
    values = _parameters(pipeline, params or NOTHING, faults) | {"now": (now or EPOCH)}
    allowed = modules(allow)

    environment = os.environ if env is None else env
    written, pipeline = pipeline, with_late_gates(with_durations(pipeline, values, faults), faults)
    wrong: list[Fault] = []
    graph = graphs.build(pipeline, faults)
    needed = graphs.needed(pipeline, graph, asked)
    outputs, used = bind_outputs(pipeline, environment, wrong, needed)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lazypipe-sources") as pool:
        look = partial(bind, base=pipeline.base, env=environment, admit=partial(admit, outputs), recall=recall(outputs))
        binding = _begin(pool, {n: s for n, s in pipeline.sources.items() if n in needed}, look)
        faults += wrong
        state, more = bind_state(pipeline, environment, faults)
        used += more
        audit, more = bind_audit(pipeline, environment, state, faults)
        used += more
        held = _held(outputs, uris.Redactor(tuple(used)))
        events, more = bind_openlineage(pipeline, environment, state, faults)
        make_scope = partial(_scope, params=values, modules=allowed)

        def compiled(
            binding: Callable[[str, Source], BoundSource], faults: list[Fault]
        ) -> tuple[dict[str, Node], dict[str, SourceError]]:
            nodes, unread = compile_nodes(pipeline, graph, needed, binding, held, make_scope, faults)
            _check_output_columns(pipeline, nodes, faults)
            faults += endless(nodes)
            check_modes(pipeline, nodes, values, faults)
            check_panes(pipeline, nodes, faults)
            check_tables(pipeline, nodes, faults)
            check_exports(pipeline, nodes, faults)
            check_feedback(outputs, nodes, faults)
            return nodes, unread

        ahead = [*faults]
        nodes, unread = compiled(binding, faults)
    if faults:
        # a parameter without a value is not unknown
        unset = {f"unknown parameter :{name}" for name in pipeline.params if name not in values}
        wrong = without_twins([f for f in faults if f.what not in unset])
        found = problems(wrong, pipeline.origin)
        away = _away(wrong, pipeline, graph, nodes)
        if away is None:
            again, _ = compiled(partial(look, as_before=True), ahead)
            away = None if ahead else _changed(wrong, pipeline, graph, again)
        if away is None:
            raise found
        # the columns that are missed may be in its data, or were
        unread |= {str(f.path[1]): AwayError(found.problems, away) for f in wrong}
    if unread:
        wanted = asked or frozenset(pipeline.outputs)
        without = _without(pipeline, graph, unread, wanted) if skip_unreadable else {}
        rest = wanted - without.keys()
        if not without or not rest:
            raise next(iter(unread.values()))
        redact = uris.Redactor(tuple(used))
        lacking = {name: Lacking(redact(outputs[name].to), error) for name, error in without.items()}
        return replace(compile_pipeline(written, params, asked=rest, **how), lacking=lacking)
    secrets = (s for n in nodes.values() if n.source is not None for s in n.source.redact.secrets)
    redact = uris.Redactor(tuple(dict.fromkeys([*secrets, *used, *more])))
    segments = cut(pipeline, graph, nodes)
    outputs = {s.output: replace(outputs[s.output], stage=s.node) for s in segments if s.output is not None}
    if lost := [*forgotten(segments, nodes, outputs), *untimed(segments, nodes, outputs)]:
        raise problems(lost, pipeline.origin)
    frames = Frames(nodes)
    # most are compiled for all outputs: then no reader is missing
    others = partial(_others, written, params, now=now, env=env, allow=allowed, admit=admit) if asked else None
    return CompiledPipeline(
        written, values, nodes, frames, segments, state, redact, outputs, held, asked, audit, events, others
    )


def _scope(step: Step, owner: type[Arguments], **known: Any) -> Scope:
    return Scope(owner, step, guard=unwatched, **known)


def _others(pipeline: Pipeline, params: Mapping[str, Any] | None, stage: str, **how: Any) -> CompiledPipeline | None:
    """Compile the outputs that are made of the rows of a stage; None if these are only that stage's own."""
    graph = graphs.build(pipeline, [])
    made = {
        n for n, o in pipeline.outputs.items() if o.stage != stage and stage in graph.ancestors([o.stage], lookups=True)
    }
    return compile_pipeline(pipeline, params, asked=frozenset(made), **how) if made else None


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
            from lazypipe.storage.datasets.dataset import Dataset

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
            refuse_unknown_protocol(to, ("outputs", name, "to"))
            options, more = expand_env(output.storage_options, env, ("outputs", name, "storage_options"))
        except Fault as fault:
            faults.append(fault)
            continue
        bound[name] = replace(output, to=uris.resolve(to, pipeline.base), storage_options=options)
        secrets += [*used, *more]
    return bound, secrets


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
                Fault("the parameter 'now' is always the time of the run", "give yours another name", ("params", name))
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


def _away(
    faults: Sequence[Fault], pipeline: Pipeline, graph: graphs.Graph, nodes: Mapping[str, Node]
) -> SourceError | None:
    """Return why a source is away that may well have the columns which are missed; None if anything else is wrong."""
    away = {n: node.source.away for n, node in nodes.items() if node.source is not None and node.source.away}
    found: list[SourceError] = []
    for fault in faults:
        if not fault.is_unknown_column:
            return None
        read = _read_by(fault, pipeline, graph)
        why = fault.away or next((error for name, error in away.items() if name in read), None)
        if why is None:
            return None
        found.append(why)
    why = found[0]
    return SourceError(f"{why.what}, and of its columns only those of the contract are known", uri=why.uri, fix=why.fix)


def _changed(
    faults: Sequence[Fault], pipeline: Pipeline, graph: graphs.Graph, nodes: Mapping[str, Node]
) -> SourceError | None:
    """Return which file has other columns than before, where nothing is wrong with those; None if none has."""
    changed = {n: node.source.changed for n, node in nodes.items() if node.source is not None and node.source.changed}
    read = {name for fault in faults for name in _read_by(fault, pipeline, graph)}
    return next((error for name, error in changed.items() if name in read), None)


def _read_by(fault: Fault, pipeline: Pipeline, graph: graphs.Graph) -> Collection[str]:
    """Return what the source, stage or output reads in which a mistake is, and itself."""
    owner = str(fault.path[1]) if len(fault.path) > 1 else ""
    owner = pipeline.outputs[owner].stage if fault.path[:1] == ("outputs",) else owner
    return graph.ancestors([owner], lookups=True)


def _without(
    pipeline: Pipeline, graph: graphs.Graph, unread: Mapping[str, SourceError], asked: Collection[str]
) -> dict[str, SourceError]:
    """Return the outputs that cannot be made, of those that are asked for, and why: they, or what they are made of, cannot be read."""
    found: dict[str, SourceError] = {}
    for name in pipeline.outputs:
        read = [name, *sorted(graphs.needed(pipeline, graph, {name}))]
        why = next((unread[n] for n in read if n in unread), None)
        if name in asked and why is not None:
            found[name] = why
    return found


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
                    what = f"{dtype_name(schema[column])} column {column!r} cannot be a partition column"
                    faults.append(Fault(what, "partition by text, whole numbers, booleans, dates or datetimes", path))
        if output.workload:
            from lazypipe.plan.uses import declared

            for number, error in declared(output.workload, name, schema)[1]:
                faults.append(Fault(error.what, error.fix, ("outputs", name, "workload", "queries", number)))
        if output.partition_by and set(output.partition_by) == set(schema):
            faults.append(
                Fault(
                    "every column is a partition column", "leave one for the files", ("outputs", name, "partition_by")
                )
            )
