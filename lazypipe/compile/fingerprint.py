"""The fingerprints of a pipeline: computed for its sources, then step by step through the plan of each stage.

Like the lineage, from plans over placeholders: nothing is read and nothing is run.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from lazypipe.compile.code import code_of
from lazypipe.compile.node import HERE, Node
from lazypipe.compile.sources.source import BoundSource
from lazypipe.gates import Check
from lazypipe.gates.tap import RAW_COLUMN
from lazypipe.ops import Operation
from lazypipe.plan.exact import Unknown, text
from lazypipe.plan.fingerprint import Fingerprint, digest
from lazypipe.plan.follow import State, follow
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name

if TYPE_CHECKING:
    from lazypipe.compile.parts import Parts

__all__ = ["carried", "pipeline_fingerprints", "same_rules", "unknown"]


def pipeline_fingerprints(parts: Parts, rules: Callable[[str], Sequence[Check]]) -> dict[str, Fingerprint]:
    """Return the fingerprint of each source, stage and output.

    Parameters
    ----------
    rules
        Gives the checks of a source or stage, the same at whatever time.
    """
    states: dict[str, State] = {}
    found: dict[str, Fingerprint] = {}
    for name, at_its_time in parts.nodes.items():
        node = replace(at_its_time, checks=tuple(rules(name)))
        states[name] = _gated(parts, node, _ahead(parts, node, states), states)
        found[name] = _fingerprint(node, states)
    for name, output in parts.outputs.items():
        if name not in parts.nodes:
            found[name] = found[output.stage]
    return found


def same_rules(one: Sequence[Check], other: Sequence[Check]) -> bool:
    """Whether checks find and do the same."""
    return [*map(_arguments, one)] == [*map(_arguments, other)]


def carried(
    nodes: Mapping[str, Node], cut: tuple[str, int], to: str, columns: Iterable[str], *, stop: int | None = None
) -> dict[str, str]:
    """Return under which names a node's rows hold columns, value by value, that there are after a step further up.

    Parameters
    ----------
    cut
        The stage and the number of its step.
    to
        That stage, or one that is made of it row by row.
    stop
        The number of the step of that stage ahead of which to look. Default: behind all of them.

    Returns
    -------
    dict
        The column there by the column after the step, without those that are not kept as they are.
    """
    path = [to]
    while path[-1] != cut[0]:
        path.append(nodes[path[-1]].inputs[0])
    schema = nodes[cut[0]].schemas[cut[1]]
    state = State(digest("after"), {c: digest("after", c) for c in schema}, digest("after", "order"))
    start = cut[1] + 1
    for name in reversed(path):
        node = nodes[name]
        leaves = {n: unknown(n, nodes[n].schema) for n in node.inputs}
        if name != cut[0]:
            leaves[node.inputs[0]] = state
        if name == to and stop is not None:
            state = _over(node, state, leaves, start, stop)
        else:
            state = _through(node, nodes, state, leaves, start).only(node.schema)
        start = 0
    names = {digest_: name for name, digest_ in state.columns.items()}
    found = {c: names.get(digest("after", c)) for c in columns}
    return {c: n for c, n in found.items() if n is not None}


def unknown(name: str, schema: pl.Schema) -> State:
    """Return the state of rows about which nothing is known but their identity."""
    return State(digest("any", name), {c: digest("any", name, c) for c in schema}, digest("any", name, "order"))


def _fingerprint(node: Node, states: Mapping[str, State]) -> Fingerprint:
    state = states[node.name]
    columns = {c: digest(dtype_name(t), state.columns[c]) for c, t in node.schema.items()}
    order = state.sequence if state.ordered else None
    return Fingerprint(
        state.rows, columns, order, digest("gate", sorted(_said(c, states) for c in node.checks), _watched(node))
    )


def _watched(node: Node) -> list[str]:
    """Return what operations refuse: it makes a run fail, and changes no row."""
    return [w for operation, _ in node.steps if (w := str(getattr(operation, "validate", "m:m"))) != "m:m"]


def _ahead(parts: Parts, node: Node, states: Mapping[str, State]) -> State:
    """Return what is known of a node's rows ahead of its gate."""
    if node.source is not None:
        return _source(node.source)
    leaves = {n: states[n] for n in node.inputs}
    return _through(node, parts.nodes, states[node.inputs[0]], leaves)


def _through(node: Node, nodes: Mapping[str, Node], state: State, leaves: Mapping[str, State], start: int = 0) -> State:
    """Return the state of rows after a stage's steps, beginning with step ``start``."""
    state = _over(node, state, leaves, start, len(node.steps))
    last = node.refit(nodes)
    if last is not None:
        state = follow(last.plan(), {HERE: state}, lambda: digest("shape", _arguments(node.shape)))
    return state


def _over(node: Node, state: State, leaves: Mapping[str, State], start: int, stop: int) -> State:
    """Return what is known of rows after some of a stage's steps."""
    for (operation, scope), stub in zip(node.steps[start:stop], node.stubs[start:stop], strict=True):
        state = follow(stub.plan(), {**leaves, HERE: state}, _identity(operation, scope))
    return state


def _source(source: BoundSource) -> State:
    reader = source.reader
    where = [source.redact(p) for p in source.patterns]
    beyond = [] if source.shape is None else [source.shape.on_new_column, list(source.shape.watched)]
    left_out = [] if source.watermark is None or source.watermark.heartbeat is None else [source.watermark.heartbeat]
    version = [] if source.version is None else [source.version]
    rows = digest(
        "source", where, reader.format, _arguments(reader.read), source.on_corrupt, beyond, *left_out, *version
    )
    targets = {} if source.shape is None else {t.name: _arguments(t) for t in source.shape.targets}
    columns = {c: digest("column", rows, c, dtype_name(t), targets.get(c, "")) for c, t in source.schema.items()}
    if source.watermark is not None and source.watermark.tells_rows:
        rule = source.watermark
        read = [columns[c] for c in (rule.time, rule.column, rule.by) if c is not None]
        columns[rule.name] = digest("watermark", rows, _arguments(replace(rule, idle_after=None)), read)
    if source.raw:
        columns[RAW_COLUMN] = digest("raw", rows, sorted(columns.items()))
    return State(rows, columns, digest("sequence", rows))


def _gated(parts: Parts, node: Node, state: State, states: Mapping[str, State]) -> State:
    """Return what is known of the rows that a gate lets go on, as it repairs them."""
    if not any(c.repair is not None or c.removes_rows for c in node.checks):
        return state.only(node.schema)
    leaves = {**states, node.name: state}
    return follow(
        parts.gated(node).plan(), leaves, lambda: digest("gate", sorted(_said(c, states) for c in node.checks))
    )


_PARAMETER = re.compile(r":(\w+)")


def _identity(operation: Operation, scope: Scope) -> Callable[[], str]:
    """Return what hashes all that a step was made from: its arguments, the parameters they name, and its code."""

    def made_from() -> str:
        said = _arguments(operation)
        params = {n: scope.params[n] for n in sorted(set(_PARAMETER.findall(said))) if n in scope.params}
        return digest(operation.name, said, text(params), [code_of(f) for f in operation.code(scope)])

    return made_from


def _arguments(value: Any) -> str:
    """Write what a definition, or Python, gave as an argument."""
    match value:
        case pl.Expr():
            return f"Expr({value.meta.serialize().hex()})"
        case Mapping():
            return "{" + ",".join(f"{_arguments(k)}:{_arguments(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_arguments, value)) + "]"
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            said = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return f"{type(value).__name__}{_arguments(said)}"
        case _ if callable(value):
            return code_of(value)
        case _:
            try:
                return text(value)
            except Unknown:
                return code_of(value)


def _said(check: Check, states: Mapping[str, State]) -> str:
    """Write all that decides what a check finds and does; not what it is called for, nor who owns it."""
    about = {f.name: getattr(check, f.name) for f in dataclasses.fields(check) if f.name not in _WORDS}
    if check.reference is not None:
        about["reference"] = replace(check.reference, to=_rows_of(check.reference.to, states))
    if check.measure is not None:
        about["measure"] = replace(check.measure, frames=tuple(_rows_of(f, states) for f in check.measure.frames))
    return _arguments({n: v for n, v in about.items() if v is not None})


def _rows_of(name: str, states: Mapping[str, State]) -> str:
    """Return a placeholder for another frame: by its content, regardless of its name."""
    return states[name].everything if name in states else name


_WORDS = frozenset({"description", "tags", "owner", "place"})
