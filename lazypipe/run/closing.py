"""How far event time is in a run: the watermark up to which windows are closed, and what of it the next commit says.

Unlike what rows came under, this is a matter of runs and of their clock, which tells for how long a partition stood still. It
never goes back. A source that is a dataset of lazypipe's says itself how far its rows are complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from lazypipe.compile.closing import closes, waited_for
from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.incremental.before import CONSUMED
from lazypipe.incremental.stamps import nanoseconds
from lazypipe.incremental.state import Consumed
from lazypipe.incremental.work import Work
from lazypipe.run.arrival import Counter, arrived
from lazypipe.run.context import Run
from lazypipe.windows.clock import Clock
from lazypipe.windows.watermark import WHOLE, Arrival, Progress, Watermark, combined, reached

__all__ = ["COMPLETE", "PROGRESS", "Closing"]

PROGRESS = "progress"
"""Where in what a commit has consumed stands how far each source was."""
COMPLETE = "watermark"
"""Where in a commit's ``info`` stands up to which event time its rows are complete, in microseconds since 1970."""

_NOTHING = -(2**62)


@dataclass
class Closing:
    """The progress of the sources that a stage's windows wait for; counted once, when it is first asked for."""

    run: Run
    node: str
    work: Work
    times: Mapping[str, Counter]
    _found: dict[str, Progress] = field(default_factory=dict)

    @property
    def horizon(self) -> int:
        """The watermark of the run, in microseconds; the far past while there is none."""
        now = nanoseconds(self.run.now) // 1_000
        sources = waited_for(self.run.plan.nodes, self.node)
        found = combined([(self._progress(n, s, now), _rule(s).idle_after) for n, s in sources.items()], now=now)
        before = self._before().get("at")
        return max((m for m in (found, before) if m is not None), default=_NOTHING)

    def to_info(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the commit says: beside what was consumed, and for those that read its rows."""
        at = self.horizon
        if at == _NOTHING:
            return {}, {}
        sources = waited_for(self.run.plan.nodes, self.node)
        said = {n: {"about": _rule(s).closing, **self._found[n].to_dict()} for n, s in sources.items()}
        operation = closes(self.run.plan.nodes[self.node])
        wait = 0 if operation is None else operation.wait
        return {PROGRESS: {"at": at, "sources": said}}, {COMPLETE: at - wait}

    def _before(self) -> Mapping[str, Any]:
        said = None if self.work.commit is None else self.work.commit.info.get(CONSUMED)
        found: Mapping[str, Any] = {} if said is None else said.get(PROGRESS, {})
        sources = waited_for(self.run.plan.nodes, self.node)
        same = all(found.get("sources", {}).get(n, {}).get("about") == _rule(s).closing for n, s in sources.items())
        return found if same else {}

    def _progress(self, name: str, source: BoundSource, now: int) -> Progress:
        if name not in self._found:
            said = self._before().get("sources", {}).get(name)
            before = Progress() if said is None else Progress.from_dict(said)
            self._found[name] = before.advanced(self._reached(name, source), now=now)
        return self._found[name]

    def _reached(self, name: str, source: BoundSource) -> Mapping[str, int]:
        rule, snapshot = _rule(source), self.run.look(name)
        if snapshot.commit is not None and COMPLETE in snapshot.commit.info:
            return {WHOLE: snapshot.commit.info[COMPLETE]}
        if not rule.by_files:
            return _stated(source, rule, self._taken(name, source, snapshot))
        snapshot = self._taken(name, source, snapshot)
        arrivals = {f.uri: snapshot.arrivals[f.uri] for f in snapshot.files if f.uri in snapshot.arrivals}
        found = {u: a if a.extents is not None else self._counted(name, u, a) for u, a in arrivals.items()}
        if any(a.extents is None for a in found.values()):
            seen = self.run.extents.setdefault(name, {})
            hashes = self.run.hashes
            found = dict(
                arrived(self.run.plan, source, snapshot, self.run.now, seen, last=True, hashes=hashes).arrivals
            )
        return reached(rule, found.values())

    def _taken(self, name: str, source: BoundSource, snapshot: Snapshot) -> Snapshot:
        """Return what is there of a source without the files that are left for later runs: these say nothing yet."""
        said = self.work.info.get("sources", {}).get(name)
        if said is None or snapshot.commit is not None:
            return snapshot
        names = {f.uri for f in Consumed.from_dict(said).files}
        return replace(snapshot, files=tuple(f for f in snapshot.files if source.redact(f.uri) in names))

    def _counted(self, name: str, uri: str, arrival: Arrival) -> Arrival:
        """Return what is known of a file with the times that were counted while its rows flowed by."""
        counter = self.times.get(name)
        if counter is None or uri not in counter.found or not counter.is_done:
            return arrival
        return Arrival(arrival.before, arrival.bound, counter.found[uri])


def _rule(source: BoundSource) -> Watermark:
    assert source.watermark is not None
    return source.watermark


def _stated(source: BoundSource, rule: Watermark, snapshot: Snapshot) -> dict[str, int]:
    """Return the watermark that a column states: by the latest time in it."""
    assert rule.column is not None
    clock = Clock.of(rule.column, source.schema)
    latest = source.scan(snapshot).select(clock.ticks(pl.col(rule.column)).max()).collect(engine="streaming").item()
    return {} if latest is None else {WHOLE: latest * (clock.tick // 1_000) - rule.delay}
