"""Event time in a run: the watermark up to which windows are closed, and what the next commit records of it.

Unlike what rows came under, this is a matter of runs and of their clock (``incremental.progress``). Here it is told of rows: by their
times, which were counted while they flowed by, or by a column that states it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import polars as pl

from lazypipe.compile.closing import Upstream, closes
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.incremental import progress
from lazypipe.incremental.before import CONSUMED
from lazypipe.incremental.progress import NOWHERE, PROGRESS
from lazypipe.incremental.stamps import nanoseconds
from lazypipe.incremental.state import Consumed
from lazypipe.incremental.unreadable import answer
from lazypipe.incremental.work import Work
from lazypipe.run.arrival import Counter
from lazypipe.run.context import Run
from lazypipe.windows.clock import Clock
from lazypipe.windows.watermark import COMPLETE, WHOLE, Arrival, Progress, Watermark, reached

__all__ = ["Closing"]


@dataclass
class Closing:
    """The progress of what a stage's windows wait for; counted once, when it is first asked for."""

    run: Run
    node: str
    work: Work
    times: Mapping[str, Counter]
    _found: dict[str, Progress] = field(default_factory=dict)

    @cached_property
    def _ups(self) -> tuple[Upstream, ...]:
        return progress.waits(self.run.plan, self.node)

    @property
    def now(self) -> int:
        """The clock of the run, in microseconds since 1970."""
        return nanoseconds(self.run.now) // 1_000

    @property
    def horizon(self) -> int:
        """The watermark of the run, in microseconds; the far past while there is none."""
        found = {u.name: self._progress(u) for u in self._ups}
        return progress.horizon(self.node, self._ups, found, self.before, now=self.now)

    @property
    def was(self) -> int | None:
        """The watermark of the last commit; None if it does not say one."""
        return progress.last(self.node, self.before)

    def times_of_files(self) -> list[tuple[int, int]]:
        """Return the first and the last event time of each file that has any, of sources whose watermark advances by files."""
        files = [
            self._arrived(u.name, u.source) for u in self._ups if u.source is not None and _rule(u.source).by_files
        ]
        known = [(a.low, a.high) for of in files for a in of.values()]
        return [(low, high) for low, high in known if low is not None and high is not None]

    def to_info(self, others: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the commit says: beside what was consumed, and for those that read its rows.

        ``others`` are the watermarks of further stages ahead of this one that keep closed windows.
        """
        at = self.horizon
        said = {u.name: {"about": u.about, **self._found[u.name].to_dict()} for u in self._ups}
        operation = closes(self.run.plan.nodes[self.node])
        wait = 0 if operation is None else operation.wait
        beside = {PROGRESS: {"at": at, "sources": said, **({"nodes": dict(others)} if others else {})}}
        return beside, {COMPLETE: None if at == NOWHERE else at - wait}

    @cached_property
    def before(self) -> Mapping[str, Any]:
        """What the last commit says of progress; nothing where that was by another rule."""
        said = None if self.work.commit is None else self.work.commit.info.get(CONSUMED)
        return progress.before(said, self._ups)

    def _progress(self, up: Upstream) -> Progress:
        if up.name not in self._found:
            said = self.before.get("sources", {}).get(up.name)
            before = Progress() if said is None else Progress.from_dict(said)
            told = self._told(up)
            self._found[up.name] = before.advanced(told, now=self.now, among=told or None if _tells_all(up) else None)
        return self._found[up.name]

    def _told(self, up: Upstream) -> Mapping[str, int]:
        stated = progress.stated(self.run.plan, up, self.run.look, self.run.published)
        if stated is None:
            assert up.source is not None
            return self._reached(up.name, up.source)
        # what is recorded about everything does not hold for a part
        part = up.source is not None and (self.work.left > 0 or self.run.window is not None)
        return {} if part else stated

    def _reached(self, name: str, source: BoundSource) -> Mapping[str, int]:
        rule, snapshot = _rule(source), self.run.look(name)
        if not rule.by_files:
            return _stated(source, rule, self._taken(name, source, snapshot))
        return reached(rule, self._arrived(name, source).values())

    def _arrived(self, name: str, source: BoundSource) -> Mapping[str, Arrival]:
        """Return what is known of the files of a source, all of their times among it."""
        snapshot = self._taken(name, source, self.run.look(name))
        arrivals = {f.uri: snapshot.arrivals[f.uri] for f in snapshot.files if f.uri in snapshot.arrivals}
        found = {u: a if a.extents is not None else self._counted(name, u, a) for u, a in arrivals.items()}
        if any(a.extents is None for a in found.values()):
            found = dict(self.run.arrived(source, snapshot, last=True).arrivals)
        return found

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


def _tells_all(up: Upstream) -> bool:
    """Whether a partition has gone that no file has any more: it was corrected, or removed, and nothing of it is to come."""
    if up.source is None or not _rule(up.source).by_files:
        return False
    intake = up.source.intake
    return intake.on_removed != "ignore" and intake.on_modified == "reprocess"


def _stated(source: BoundSource, rule: Watermark, snapshot: Snapshot) -> dict[str, int]:
    """Return the watermark that a column states: by the latest time in it."""
    assert rule.column is not None
    clock = Clock.of(rule.column, source.schema)
    ticks = clock.ticks(pl.col(rule.column)).max()
    latest = answer(source, snapshot, lambda watch: source.scan(snapshot, watch=watch).select(ticks)).item()
    return {} if latest is None else {WHOLE: latest * (clock.tick // 1_000) - rule.delay}
