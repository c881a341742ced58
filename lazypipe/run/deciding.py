"""What one run has to do: which outputs are needed, and the work for each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from lazypipe.compile.segments import Segment, made_of
from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import CommitConflict, LazypipeError
from lazypipe.incremental.agreeing import Agreeing
from lazypipe.incremental.before import CONSUMED
from lazypipe.incremental.feed import decide, older_of
from lazypipe.incremental.once import decide_shared
from lazypipe.incremental.shared import needs_of, state_of
from lazypipe.incremental.stamps import nanoseconds
from lazypipe.incremental.terms import Terms
from lazypipe.incremental.work import Work
from lazypipe.run.context import Run
from lazypipe.run.result import SegmentResult
from lazypipe.storage.datasets.units import Units

__all__ = ["Deciding"]


@dataclass(frozen=True)
class Deciding:
    """Says what one run has to do; ``only`` are the outputs that are wanted (all if empty), ``done`` is what came of segments by now."""

    run: Run
    only: frozenset[str]
    done: list[SegmentResult]
    asked: dict[str, Mapping[str, Units] | None] = field(default_factory=dict)
    """What was needed of each node that is kept for this run only, when that was last decided; None for all of it."""

    @cached_property
    def by_node(self) -> Mapping[str, Segment]:
        """The segment that writes the rows of each source or stage, as far as one does."""
        return {s.node: s for s in self.run.plan.segments}

    @cached_property
    def needed(self) -> set[str]:
        """The nodes whose rows the wanted outputs are made of."""
        plan = self.run.plan
        wanted = (self.only or plan.outputs.keys()) - plan.lacking.keys()
        return made_of(plan.segments, (o.stage for n, o in plan.outputs.items() if n in wanted))

    def decide(self, segment: Segment) -> Work:
        """Say what is to be done for an output."""
        work = decide(self.run.plan, segment, self._terms())
        self._refuse_overtaken(segment, work)
        if (waits := self.agreeing.waits(segment, work)) is not None:
            return waits
        self._refuse_lacking(segment, work)
        return work

    @cached_property
    def agreeing(self) -> Agreeing:
        """Which versions of tables are read for several outputs at once."""
        return Agreeing(self.run.plan, self.run.look, self._older)

    def _older(self, segment: Segment, name: str) -> Snapshot | None:
        """Return the version of a source or output that an output would read in this run instead of the last one; None if it reads that."""
        if self.run.full or self._is_over(segment):
            return None
        with suppress(LazypipeError):  # reported when its turn comes
            if self._waits_for(segment):
                return older_of(self.run.plan, segment, self._terms(), name)
            work = decide(self.run.plan, segment, self._terms())
            return work.older.get(name) if work.kind in ("units", "all") else None
        return None

    def _refuse_overtaken(self, segment: Segment, work: Work) -> None:
        """Raise CommitConflict where another run has made an output of what is newer than all that this run reads."""
        said = {} if work.commit is None else work.commit.info.get(CONSUMED, {}).get("sources", {})
        for node in said.keys() & self.run.published.keys() - set(segment.nodes):
            dataset, read = self.run.published[node]
            made_of = said[node].get("version", 0)
            # versions start again if the dataset was removed
            if made_of > read.version and (latest := dataset.latest()) is not None and made_of <= latest.version:
                raise self._overtaken(segment, "with newer rows than this one has read")

    def _refuse_lacking(self, segment: Segment, work: Work) -> None:
        """Raise CommitConflict where outputs have become others since rows were read that they share, and need more of them by now."""
        if work.kind not in ("units", "all"):
            return
        for node in segment.reads:
            asked = self.asked.get(node) if node in self.run.kept else None
            if asked is not None and not all(n in work.units and work.units[n].lies_in(of) for n, of in asked.items()):
                raise self._overtaken(segment, f"and more is needed of {node!r} than this one has read")

    def _overtaken(self, segment: Segment, what: str) -> CommitConflict:
        # what is kept for this run only has no place of its own
        output = None if segment.output is None else self.run.plan.outputs[segment.output]
        return CommitConflict(
            f"another run committed in the meantime, {what}",
            uri=None if output is None else self.run.plan.redact(output.to),
            fix="run again: nothing of this run became visible",
        )

    def _terms(self) -> Terms:
        """Return the terms on which this run decides what there is to do."""
        run = self.run
        # over part of event time, clocks and markers say nothing of what is left
        now = nanoseconds(run.now) // 1_000 if run.window is None else None
        return Terms(
            run.id,
            run.look,
            time.time_ns(),
            run.hashes,
            run.digests,
            full=run.full,
            bound=run.bound,
            now=now,
            moments=run.moments,
            tables=run.published,
        )

    def shared(self, segment: Segment) -> Work:
        """Return the work of a segment whose rows are kept for this run only: it reads what any of the segments behind it needs."""
        run = self.run
        if run.plan.inner[segment.node].kind != "units":
            return Work("all", "")
        needs, anew = (None, frozenset[str]()) if run.full else needs_of(run.plan, segment, self._work_of)
        self.asked[segment.node] = needs
        work = decide_shared(
            run.plan, segment, self._terms(), state_of(run.plan, segment), needs, anew, self.agreeing.of(segment)
        )
        self._refuse_lacking(segment, work)
        return work

    def _work_of(self, segment: Segment) -> Work | None:
        """Return the work of a segment that may still run in this run; None if it is not known yet."""
        inner = segment.output is None
        if not inner and self._is_over(segment):
            return Work("none", "")
        if self._waits_for(segment):
            return None
        if inner:
            return self.shared(segment)
        try:
            return self.decide(segment)
        except LazypipeError:  # reported when its turn comes
            return Work("none", "")

    def _is_over(self, segment: Segment) -> bool:
        """Whether an output does not run any more in this run, or not at all."""
        return segment.node not in self.needed or segment.name in {r.name for r in self.done}

    def _waits_for(self, segment: Segment) -> bool:
        """Whether a segment reads outputs that this run has not come to yet."""
        above = (n for n in self.read(segment) if self.by_node[n].output is not None)
        return any(n not in self.run.kept for n in above)

    def read(self, segment: Segment) -> list[str]:
        """Return the nodes of other segments that a segment reads, each behind those that it is made of."""
        by_node, found = self.by_node, dict[str, None]()
        for name in segment.reads:
            if by_node[name].output is None:
                found |= dict.fromkeys(self.read(by_node[name]))
            found[name] = None
        return [*found]
