"""What decides when windows close: all sources with a watermark that feed a stage, and outputs in between."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from lazypipe.compile.node import Node, ancestors
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources.source import BoundSource
from lazypipe.ops.base import Operation
from lazypipe.ops.window import Window
from lazypipe.spec.model import Fault, Output

if TYPE_CHECKING:
    from lazypipe.ops.closed import Closed

__all__ = [
    "Upstream",
    "as_closed",
    "closes",
    "columns_where_closed",
    "endless",
    "forgotten",
    "has_windows",
    "published",
    "states",
    "upstreams",
    "waited_for",
]


@dataclass(frozen=True)
class Upstream:
    """What a node waits for: a source with a watermark, or the rows of a stage that an output of the same pipeline has.

    ``wait`` is how long after the watermark its rows have come through the windows that are closed in between, in microseconds.
    ``about`` is what the watermark is a matter of: under another rule, what was reached before says nothing.
    """

    name: str
    about: str
    wait: int = 0
    source: BoundSource | None = None

    @property
    def idle_after(self) -> int | None:
        """How long a source may stand still; an output says itself how far it is."""
        return None if self.source is None or self.source.watermark is None else self.source.watermark.idle_after


def closes(node: Node) -> Closed | None:
    """Return the operation of a stage that keeps closed windows, None if it has none."""
    return next((c for o, _ in node.steps if (c := as_closed(o)) is not None), None)


def as_closed(operation: Operation) -> Closed | None:
    """Return an operation that keeps closed windows; None if it is another one."""
    from lazypipe.ops.closed import Closed

    return operation if isinstance(operation, Closed) else None


def columns_where_closed(node: Node) -> pl.Schema:
    """Return the columns of a stage's rows where it keeps closed windows."""
    from lazypipe.ops.closed import Closed

    place = next(i for i, (o, _) in enumerate(node.steps) if isinstance(o, Closed))
    return node.schemas[place]


def has_windows(nodes: Mapping[str, Node], name: str) -> bool:
    """Whether a stage, or one that its rows are made of, makes windows of rows whose sources say how far they are."""
    from lazypipe.ops.closed import Closed
    from lazypipe.ops.session import Session

    windows = (
        n for n in ancestors(nodes, name) if any(isinstance(o, Window | Session | Closed) for o, _ in nodes[n].steps)
    )
    return any(waited_for(nodes, n) for n in windows)


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


def published(segments: Sequence[Segment], outputs: Mapping[str, Output]) -> Mapping[str, str]:
    """Return the nodes whose rows are read from the dataset that an output writes, each with the output."""
    written = {s.node: s.output for s in segments if s.output is not None and s.nodes}
    return {n: o for n, o in written.items() if outputs[o].format == "dataset" and outputs[o].mode != "delete"}


def upstreams(nodes: Mapping[str, Node], name: str, datasets: Collection[str]) -> tuple[Upstream, ...]:
    """Return what a node waits for: the nearest ``datasets`` (see ``published``) that are made of sources with a watermark, and such sources.

    Rows of a stage that keeps closed windows come later than the watermark of its sources passes them: by as much as its windows wait.
    """
    waits: dict[str, int] = {}
    pending = [(n, 0) for n in nodes[name].inputs]
    if nodes[name].source is not None:
        pending.append((name, 0))
    while pending:
        here, wait = pending.pop()
        if waits.get(here, -1) >= wait:
            continue
        waits[here] = wait
        if here not in datasets or here == name:
            closed = closes(nodes[here])
            pending += [(n, wait + (0 if closed is None else closed.wait)) for n in nodes[here].inputs]
    found = []
    for here in (n for n in nodes if n in waits):
        source = nodes[here].source
        if source is not None and source.watermark is not None and (here not in datasets or here == name):
            found.append(Upstream(here, source.watermark.closing, waits[here], source))
        elif here in datasets and here != name and (of := waited_for(nodes, here)):
            about = [[n, s.watermark.closing] for n, s in of.items() if s.watermark is not None]
            found.append(Upstream(here, json.dumps(about), waits[here]))
    return tuple(found)


def states(nodes: Mapping[str, Node], name: str) -> bool:
    """Whether a commit with a node's rows says up to which event time they are complete.

    Where windows are made it does, and where something reads the node that closes windows. Elsewhere it does unless that would mean
    to read a column once more, which states the watermark.
    """
    sources = waited_for(nodes, name)
    if not sources or has_windows(nodes, name):
        return bool(sources)
    if all(s.watermark is not None and s.watermark.column is None for s in sources.values()):
        return True
    return nodes[name].to_close


def forgotten(segments: Sequence[Segment], nodes: Mapping[str, Node], outputs: Mapping[str, Output]) -> list[Fault]:
    """Return a fault for each stage that keeps closed windows and feeds several outputs, none of which publishes it.

    How far its windows are closed is recorded in the commit of the output that holds them: otherwise it would be forgotten. Where something
    is expected of windows there must be one in any case.
    """
    from lazypipe.ops.closed import Closed

    faults = []
    for segment in segments:
        for name in segment.nodes if segment.output is None else ():
            operation, scope = next(((o, s) for o, s in nodes[name].steps if isinstance(o, Closed)), (None, None))
            if operation is not None and scope is not None and operation.expectation is None:
                what = f"several outputs are made from the windows of {name!r}, and none records up to when they are closed"
                faults.append(scope.fault(what, f"add an output of stage {name!r}", "end"))
    kept = published(segments, outputs)
    for name, node in nodes.items():
        for step, scope in node.steps:
            if isinstance(step, Closed) and step.expectation is not None and name not in kept:
                what = f"which windows of {name!r} are held back stands with them, and no output has them"
                faults.append(scope.fault(what, f"add an output of stage {name!r}", "expect"))
    return faults


def endless(nodes: Mapping[str, Node]) -> list[Fault]:
    """Return a fault for each stage whose windows nothing would ever close."""
    from lazypipe.ops.closed import Closed

    faults = []
    for name, node in nodes.items():
        for operation, scope in node.steps:
            if isinstance(operation, Closed) and not waited_for(nodes, name):
                never = "no result would ever leave" if operation.open else "no window would ever close"
                what = f"no source of these rows has a watermark, so that {never}"
                faults.append(scope.fault(what, "give one event_time and watermark: {delay: …}", "end"))
            elif isinstance(operation, Closed) and operation.expectation is not None:
                counted = [s.watermark for s in waited_for(nodes, name).values()]
                if operation.expectation.files is not None and not any(w is not None and w.by_files for w in counted):
                    what = "files are counted by their event times, and no source of these rows has a watermark that advances by them"
                    faults.append(scope.fault(what, "expect rows, values or a marker", "expect", "files"))
    return faults
