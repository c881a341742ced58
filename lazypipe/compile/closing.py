"""Which sources decide when windows close: all with a watermark that a stage's rows are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lazypipe.compile.node import Node
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources import BoundSource
from lazypipe.ops.closed import Closed
from lazypipe.ops.session import Session
from lazypipe.ops.window import Window
from lazypipe.spec.model import Fault

__all__ = ["closes", "endless", "forgotten", "has_windows", "waited_for"]


def closes(node: Node) -> Closed | None:
    """Return the operation of a stage that keeps closed windows, None if it has none."""
    return next((o for o, _ in node.steps if isinstance(o, Closed)), None)


def has_windows(nodes: Mapping[str, Node], name: str) -> bool:
    """Whether a stage makes windows of rows whose sources say how far they are."""
    return any(isinstance(o, Window | Session | Closed) for o, _ in nodes[name].steps) and bool(waited_for(nodes, name))


def waited_for(nodes: Mapping[str, Node], name: str) -> dict[str, BoundSource]:
    """Return the sources with a watermark that a node's rows are made of, by their names."""
    found: dict[str, BoundSource] = {}
    pending, seen = [name], {name}
    while pending:
        node = nodes[pending.pop()]
        if node.source is not None and node.source.watermark is not None:
            found[node.name] = node.source
        pending += [n for n in node.inputs if n not in seen]
        seen.update(node.inputs)
    return {n: found[n] for n in nodes if n in found}


def forgotten(segments: Sequence[Segment], nodes: Mapping[str, Node]) -> list[Fault]:
    """Return a fault for each stage that keeps closed windows and is computed for several outputs, none of which publishes it.

    How far its windows are closed stands in the commit of the output that they are in: else it would be forgotten.
    """
    faults = []
    for segment in segments:
        for name in segment.nodes if segment.output is None else ():
            operation, scope = next(((o, s) for o, s in nodes[name].steps if isinstance(o, Closed)), (None, None))
            if operation is not None and scope is not None:
                what = f"several outputs are made of the windows of {name!r}, and none keeps how far these are closed"
                faults.append(scope.fault(what, f"add an output of stage {name!r}", "end"))
    return faults


def endless(nodes: Mapping[str, Node]) -> list[Fault]:
    """Return a fault for each stage whose windows nothing would ever close."""
    faults = []
    for name, node in nodes.items():
        for operation, scope in node.steps:
            if isinstance(operation, Closed) and not waited_for(nodes, name):
                what = "no source of these rows has a watermark, so that no window would ever close"
                faults.append(scope.fault(what, "give one event_time and watermark: {delay: …}", "end"))
    return faults
