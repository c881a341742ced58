"""Cutting the graph: a segment is everything between materialised points, and runs as one streaming query.

A node is materialised where its rows are needed as files: it is an output, or it would otherwise run more than once (a
stage, a gated source or a text file with several readers), or one of its gate's checks needs all rows before any can go on
(a repeated key that removes rows). Reading back a Parquet file is cheaper than any sharing inside one query, and bounded:
several sinks of one query share their scan through a queue without a bound (docs/decisions/0003).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lazypipe.compile.graph import Graph, place
from lazypipe.compile.node import Node
from lazypipe.ops import Operation
from lazypipe.ops.aggregate import Aggregate
from lazypipe.ops.join import Join
from lazypipe.spec.model import Pipeline

__all__ = ["COPY", "Segment", "and_ahead", "cut", "made_of", "may_stop"]

COPY = "__copy"
"""What the name of an output's own stage ends with, where another stage is called as the output is."""


@dataclass(frozen=True)
class Segment:
    """One streaming query: the nodes it computes, the last of which it writes, and the nodes of other segments that it reads.

    ``output`` is the output it writes, None where its rows are kept for later segments of the same run only. ``partial`` are
    the nodes with a gate, or a watermark, of which the query may not read all rows: a limit, or a join with nothing, ends its inputs early.
    ``lookups`` are further nodes that are read, uncounted, because gates look rows up in them.
    """

    name: str
    node: str
    output: str | None
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    partial: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()


def and_ahead(segments: Sequence[Segment], segment: Segment) -> Iterator[Segment]:
    """Yield a segment, and then those ahead of it whose rows are kept for one run only; some perhaps several times.

    Examples
    --------
    >>> ahead, behind = Segment("a", "a", None, ("a",), ()), Segment("out", "b", "out", ("b",), ("a",))
    >>> [s.name for s in and_ahead((ahead, behind), behind)]
    ['out', 'a']
    """
    yield segment
    for other in segments:
        if other.output is None and other.node in segment.reads:
            yield from and_ahead(segments, other)


def made_of(segments: Sequence[Segment], wanted: Iterable[str]) -> set[str]:
    """Return the nodes that segments write, or keep for a run, whose rows the wanted ones are made of, with these."""
    found, pending = set[str](), [*wanted]
    while pending:
        name = pending.pop()
        found.add(name)
        pending += [n for s in segments if s.node == name for n in s.reads if n not in found]
    return found


def cut(pipeline: Pipeline, graph: Graph, nodes: dict[str, Node]) -> tuple[Segment, ...]:
    """Cut the graph into segments, in an order in which they can run: those of whatever is among ``nodes``, as all of it is cut.

    An output whose stage is written elsewhere too, and read from there, is one of a stage of its own, which is added to ``nodes``.
    """
    outputs: dict[str, list[str]] = {}
    for written, output in pipeline.outputs.items():
        outputs.setdefault(output.stage, []).append(written)
    kept = _kept(pipeline, outputs, graph, nodes)
    segments = []
    for name, first in kept.items():
        inside, reads = _reach([name], graph, kept)
        named = [ref for n in inside for ref in graph.lookups.get(n, ())]
        lookups, more = _reach([ref for ref in named if ref not in kept], graph, kept)
        reads = tuple(n for n in graph.order if n in {*reads, *more, *(ref for ref in named if ref in kept)})
        segments.append(Segment(first or name, name, first, inside, reads, _partial(inside, nodes), lookups))
        for other in outputs.get(name, ()):
            if other != first:
                own = other if other not in nodes else f"{other}{COPY}"
                nodes[own] = Node(own, (name,), nodes[name].schema)
                segments.append(Segment(other, own, other, (own,), (name,)))
    return _removals_first(segments, pipeline)


def _kept(
    pipeline: Pipeline, outputs: Mapping[str, Sequence[str]], graph: Graph, nodes: Mapping[str, Node]
) -> dict[str, str | None]:
    """Return the nodes whose rows are written, in order, each with the output they are written to first; None if the run alone keeps them."""
    needed = graph.ancestors(tuple(outputs))
    uses = Counter(ref for name in needed for ref in graph.inputs[name])
    uses.update(o.stage for o in pipeline.outputs.values())
    kept: dict[str, str | None] = {}
    for name in graph.order:
        if name not in needed or name not in nodes:
            continue
        datasets = [o for o in outputs.get(name, ()) if pipeline.outputs[o].format == "dataset"]
        if datasets:
            kept[name] = datasets[0]
        elif name in outputs and uses[name] == 1:
            kept[name] = outputs[name][0]
        elif name in outputs or _removes_repeats(nodes[name]) or (uses[name] > 1 and _is_dear(nodes[name])):
            kept[name] = None
    return kept


def _removals_first(segments: Sequence[Segment], pipeline: Pipeline) -> tuple[Segment, ...]:
    """Return segments in the order given, but for outputs that remove keys: these come right ahead of who reads what they remove them from.

    One that is itself made of such readers comes after them.
    """
    outputs = {s: pipeline.outputs[s.output] for s in segments if s.output is not None}
    removing = [s for s, output in outputs.items() if output.mode == "delete"]
    if not removing:
        return tuple(segments)
    by_node = {s.node: s for s in segments}
    ahead = {s: {by_node[n] for n in s.reads} for s in segments}

    def above(segment: Segment) -> set[Segment]:
        found: set[Segment] = set()
        pending = [segment]
        while pending:
            new = ahead[pending.pop()] - found
            found |= new
            pending += new
        return found

    for segment in removing:
        target = place(pipeline, outputs[segment])
        written = {s for s, o in outputs.items() if s not in removing and place(pipeline, o) == target}
        ahead[segment] |= written
        nodes, before = {s.node for s in written}, above(segment)
        for reader in segments:
            if reader is not segment and reader not in before and not nodes.isdisjoint(reader.reads):
                ahead[reader].add(segment)
    left, ordered = [*segments], dict[Segment, None]()
    while left:
        turn = next(s for s in left if ahead[s] <= ordered.keys())
        left.remove(turn)
        ordered[turn] = None
    return tuple(ordered)


def _removes_repeats(node: Node) -> bool:
    """Whether no row can go on before all have been seen."""
    return any(check.keys and check.removes_rows for check in node.checks)


def _is_dear(node: Node) -> bool:
    """Whether running it twice costs more than keeping its rows (or would count its violations twice)."""
    return node.source is None or bool(node.checks) or node.source.is_text


def _reach(
    names: Sequence[str], graph: Graph, kept: Mapping[str, str | None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    inside, reads, pending = {*names}, set(), [ref for name in names for ref in graph.inputs[name]]
    while pending:
        ref = pending.pop()
        if ref in kept:
            reads.add(ref)
        elif ref not in inside:
            inside.add(ref)
            pending += graph.inputs[ref]
    return tuple(n for n in graph.order if n in inside), tuple(n for n in graph.order if n in reads)


def _partial(inside: tuple[str, ...], nodes: Mapping[str, Node]) -> tuple[str, ...]:
    cut_short: set[str] = set()
    for name in reversed(inside):
        if name in cut_short or any(may_stop(operation) for operation, _ in nodes[name].steps):
            cut_short.update(nodes[name].inputs)
    return tuple(n for n in inside if n in cut_short and (nodes[n].checks or _is_counted(nodes[n])))


def _is_counted(node: Node) -> bool:
    """Whether event times are counted while rows flow by."""
    return node.source is not None and node.source.watermark is not None


def may_stop(operation: Operation) -> bool:
    """Whether an operation may end before it has read all of its inputs, as measured on the streaming engine."""
    match operation:
        case Join():
            return operation.how not in ("left", "right", "full")
        case Aggregate():
            return not operation.by
        case _:
            return operation.name in ("limit", "asof_join", "sql", "python")
