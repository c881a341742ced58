"""How far event time has advanced, according to commits, and as far as clocks, markers and other commits tell it without reading rows.

The watermark that windows wait for is a matter of runs and of their clock, which tells for how long a partition stood still. It
never goes back. What is made of a dataset of lazypipe's is as far as the commit says that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lazypipe.compile.closing import Upstream, closes, published, states, upstreams
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources.source import Snapshot
from lazypipe.incremental.incomplete import due
from lazypipe.incremental.marker import marked
from lazypipe.incremental.terms import Tables, table_of
from lazypipe.storage.datasets.log import Commit
from lazypipe.windows.watermark import COMPLETE, WHOLE, Progress, combined, moment

__all__ = ["NOWHERE", "PROGRESS", "before", "horizon", "last", "moved", "passed", "stated", "waits"]

PROGRESS = "progress"
"""Where in what a commit has consumed stands how far each source was."""
NOWHERE = -(2**62)
"""The watermark while there is none: the far past, in microseconds."""


def waits(plan: CompiledPipeline, node: str) -> tuple[Upstream, ...]:
    """Return what a node waits for."""
    return upstreams(plan.nodes, node, published(plan.segments, plan.outputs))


def before(said: Mapping[str, Any] | None, ups: tuple[Upstream, ...]) -> Mapping[str, Any]:
    """Return what the last commit says of how far sources were; nothing where that was by another rule.

    ``said`` is what it says that it has consumed.
    """
    found: Mapping[str, Any] = {} if said is None else said.get(PROGRESS, {})
    same = all(found.get("sources", {}).get(u.name, {}).get("about") == u.about for u in ups)
    return found if same else {}


def horizon(
    node: str, ups: tuple[Upstream, ...], progress: Mapping[str, Progress], said: Mapping[str, Any], *, now: int
) -> int:
    """Return the watermark of a node, in microseconds: never less than ``said`` before, and far in the past while there is none."""
    found = combined([(progress[u.name].behind(u.wait), u.idle_after) for u in ups], now=now)
    return max((m for m in (found, last(node, said)) if m is not None), default=NOWHERE)


def last(node: str, said: Mapping[str, Any]) -> int | None:
    """Return the watermark that a node had ``before``; None if that is not said."""
    at: int | None = said.get("nodes", {}).get(node, said.get("at"))
    return at


def stated(
    plan: CompiledPipeline, up: Upstream, look: Callable[[str], Snapshot], tables: Tables
) -> Mapping[str, int] | None:
    """Return how far an upstream is where something says it without rows being read; None where rows do.

    ``tables`` are the outputs that a run has brought up to date (``Terms``).
    """
    if up.source is None:
        _, commit = table_of(plan, up.name, tables) or (None, None)
        return _of(None if commit is None else commit.info.get(COMPLETE), 0)
    rule = up.source.watermark
    assert rule is not None
    if rule.marker is not None:
        return _of(marked(up.source, rule.marker), rule.delay)
    commit = look(up.name).commit if up.source.reader.format == "dataset" else None
    if commit is not None and (rule.commit or commit.info.get(COMPLETE) is not None):
        return _of(commit.info.get(COMPLETE), rule.delay if rule.commit else 0)
    return None


def _of(at: int | None, delay: int) -> Mapping[str, int]:
    return {} if at is None else {WHOLE: at - delay}


def moved(
    plan: CompiledPipeline,
    segment: Segment,
    commit: Commit,
    said: Mapping[str, Any],
    look: Callable[[str], Snapshot],
    now: int,
    tables: Tables,
) -> str:
    """Say why an output is published once more though nothing came, because event time went on; nothing if it did not.

    Parameters
    ----------
    said
        What the output's last commit says that it has consumed.
    now
        The clock of the run, in microseconds since 1970.
    tables
        The outputs that it has brought up to date.
    """
    if not states(plan.nodes, segment.node):
        return ""
    if COMPLETE not in commit.info:
        return "the progress of event time was not recorded yet"
    closing = [n for n in segment.nodes if closes(plan.nodes[n]) is not None]
    why = passed(plan, [*closing, segment.node], said, look, now, tables)
    closed = closes(plan.nodes[segment.node])
    if why or closed is None:
        return why
    known = before(said, waits(plan, segment.node))
    return due(plan, plan.nodes[segment.node], closed, known, now)


def passed(
    plan: CompiledPipeline,
    nodes: Iterable[str],
    said: Mapping[str, Any],
    look: Callable[[str], Snapshot],
    now: int,
    tables: Tables,
) -> str:
    """Say how far event time is at the first of some nodes at which it went on; nothing if it did at none."""
    for node in nodes:
        ups = waits(plan, node)
        known = before(said, ups)
        sources = known.get("sources", {})
        progress = {
            u.name: (Progress.from_dict(sources[u.name]) if u.name in sources else Progress()).advanced(
                stated(plan, u, look, tables) or {}, now=now
            )
            for u in ups
        }
        at = horizon(node, ups, progress, known, now=now)
        was = last(node, known)
        if at > (NOWHERE if was is None else was):
            return f"event time has reached {moment(at)}"
    return ""
