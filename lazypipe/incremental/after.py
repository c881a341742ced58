"""What the next commit of an output records about its inputs: what was consumed, and by which plan. ``before.py`` reads it back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import polars as pl

from lazypipe.compile.changes.strategy import Strategy
from lazypipe.compile.closing import closes, waited_for
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.segments import Segment, and_ahead
from lazypipe.gates import Check
from lazypipe.incremental.arrivals import ARRIVALS, by_name, kept
from lazypipe.incremental.before import Before
from lazypipe.incremental.columns import COLUMNS, columns_found
from lazypipe.incremental.leaf import Leaf
from lazypipe.incremental.parts import to_list
from lazypipe.incremental.reach import EXTENTS, Moved, Use
from lazypipe.incremental.renamed import forgotten
from lazypipe.incremental.state import Consumed, State
from lazypipe.plan.fingerprint import Changes, digest
from lazypipe.spec.model import NOTHING
from lazypipe.windows.reach import Extent

__all__ = ["After"]


class After:
    """What the commit of this run will record as the origin of one output; ``before`` is what the last commit recorded."""

    def __init__(self, plan: CompiledPipeline, segment: Segment, strategy: Strategy, before: Before | None) -> None:
        self.plan = plan
        self.segment = segment
        self.strategy = strategy
        self.before = before
        self.fingerprint = plan.fingerprints()[segment.node]

    def changed(self) -> str:
        """Say what of the definition is another than what was committed was made by, or that the time of the run is; nothing if it is the same."""
        assert self.before is not None
        changes = self.fingerprint.changes(self.before.fingerprint)
        if changes.same:
            return ""
        timed = self.plan.by_the_time(self.segment.node)
        if not timed and (types := self._retyped(changes)):
            return f"columns of files changed: {types}"
        return "; ".join([f"the definition{' or the time of the run' if timed else ''} changed: {changes}", *timed])

    def _retyped(self, changes: Changes) -> str:
        """Say which files have other columns than before, if that changes all that has changed; nothing if it does not."""
        assert self.before is not None
        node, nodes = self.segment.node, self.plan.nodes
        sources = [s for n in self.before.state.sources if n in nodes and (s := nodes[n].source) is not None]
        found = [of for source in sources if (of := source.retyped()) is not None]
        if not found or changes.gate:
            return ""
        from lazypipe.plan.index import Index
        from lazypipe.plan.lineage import Column

        index, other, new, gone, rows = Index(self.plan.lineage().places), set[str](), set[str](), set[str](), False
        for source, name, was, now in ((of.source, n, *t) for of in found for n, t in of.types.items()):
            if now is None:
                gone.add(name)
                continue
            reach = index.reach(name, [Column(source, name)], upward=False)
            columns = {c.name for c in reach.columns if c.dataset == node} | ({name} if source == node else set())
            other |= columns
            new |= columns if was is None else set()
            rows = rows or node in reach.rows
        if not (new.issuperset(changes.added) and gone.issuperset(changes.removed)):
            return ""
        if not rows and (changes.rows or changes.order or not other.issuperset(changes.columns)):
            return ""
        return "; ".join(map(str, found))

    def is_of_another(self) -> bool:
        """Whether only other pipelines have written what is there, by a definition that makes other rows."""
        before = self.before
        if before is None or not before.pipelines or self.plan.pipeline.name in before.pipelines:
            return False
        return self.fingerprint.changes(before.fingerprint).data

    @cached_property
    def judged(self) -> tuple[str, ...]:
        """The nodes whose gates judge in a run for this output: also those of what is kept for that run only."""
        there = {n for s in and_ahead(self.plan.segments, self.segment) for n in s.nodes}
        return tuple(n for n in self.plan.nodes if n in there)

    def layout(self) -> str:
        """Return what the rows that are there rest upon besides the plan, as one hash."""
        by = () if self.segment.output is None else self.plan.outputs[self.segment.output].partition_by
        prints = self.plan.fingerprints()
        nodes = self.plan.nodes
        closing = [n for n in self.judged if closes(nodes[n]) is not None]
        waited = [[n, s.watermark.closing] for c in closing for n, s in waited_for(nodes, c).items() if s.watermark]
        rules = [prints[n].gate for n in self.judged]
        # rows are put aside with all their columns, also those that the output is not made of
        ahead = [n for n in self.judged if n != self.segment.node and any(map(_puts_aside, nodes[n].checks))]
        whole = [[n, sorted(prints[n].columns.items())] for n in ahead]
        # hashes are those of one version of Polars
        sides = (*self.strategy.sides, *self.strategy.grouped)
        hashed = [*map(list, self.strategy.hashed), *(list(s.key) for s in sides)]
        kept = (*hashed, pl.__version__) if hashed else ()
        wanted = [repr(e) for c in closing if (o := closes(nodes[c])) is not None and (e := o.expectation) is not None]
        more = (*([waited] if waited else []), *kept, *wanted, *whole)
        return digest(by, self.strategy.kind, self.strategy.cut, rules, *more)

    def info(
        self,
        fixed: list[Leaf],
        driving: list[Leaf],
        units: Mapping[str, dict[str, int]],
        generation: str,
        *,
        anew: bool,
    ) -> dict[str, Any]:
        """Return what the commit says, as its ``info`` keeps it."""
        state = State({n.name: n.consumed if anew else n.consumed_and_held for n in (*fixed, *driving)})
        others: dict[str, Consumed] = {}
        if self.before is not None and self.strategy.adds and not anew:
            others = forgotten(self.before, state.sources)
        arrivals = {n.name: of for n in (*fixed, *driving) if (of := self._arrivals(n, state, anew=anew)) is not None}
        known = {n.name: [(int(u), here) for u, here in units[n.name].items()] for n in driving if n.tagged}
        apart = {n: [[u, here] for u, here in of if u != here] for n, of in known.items()}
        renamed = {n: of for n, of in apart.items() if of}
        lists = {n: to_list(of) for n, of in units.items()}
        told = {n: columns_found(self.plan.nodes[n].source, of) for n, of in state.sources.items()}
        columns = {n: of for n, of in told.items() if of is not None}
        return {
            **State({**state.sources, **others}).to_dict(),
            **({ARRIVALS: arrivals} if arrivals else {}),
            **({COLUMNS: columns} if columns else {}),
            **self._extents(fixed, state, anew=anew),
            "fingerprint": self.fingerprint.to_dict(),
            "layout": self.layout(),
            **self._pipelines(anew=anew),
            "generation": generation,
            "units": {**lists, **{n: self.before.units[n] for n in others if self.before is not None}},
            **({"renamed": renamed} if renamed else {}),
        }

    def _pipelines(self, *, anew: bool) -> dict[str, Any]:
        """Return which pipelines have written what is there; nothing as long as rows are there of which that was not noted."""
        before, own = self.before, self.plan.pipeline.name
        if before is None or anew or not self.strategy.adds:
            return {"pipelines": [own]}
        return {"pipelines": sorted({own, *before.pipelines})} if before.pipelines else {}

    def _extents(self, fixed: list[Leaf], state: State, *, anew: bool) -> dict[str, Any]:
        """Return what is known of where the files lie that reach rows of others; the rest is added once the run has read them."""
        if not self.strategy.reached:
            return {}
        said: dict[str, dict[str, Extent]] = {}
        for use in (Use(*use) for use in self.strategy.reached):
            leaf = next(n for n in fixed if n.name == use.leaf)
            known = NOTHING if anew or self.before is None else self.before.extents.get(use.key, NOTHING)
            if leaf.changes is not None:
                changed = Moved.of(leaf, known.keys()).names
                known = {n: e for n, e in known.items() if n not in changed}
                known |= {m.now.uri: known[m.before.uri] for m in leaf.changes.moved if m.before.uri in known}
            there = {*known} if leaf.tagged else {f.uri for f in state.sources[use.leaf].files}
            said[use.key] = {n: e for n, e in known.items() if n in there}
        return {EXTENTS: said}

    def _arrivals(self, leaf: Leaf, state: State, *, anew: bool) -> dict[str, Any] | None:
        """Return what is known of the event times in a source's files; None where it has no watermark that advances by them."""
        source, arrivals = self.plan.nodes[leaf.name].source, leaf.snapshot.arrivals
        if source is None or source.watermark is None or not arrivals:
            return None
        said: Mapping[str, Any] = NOTHING
        if self.before is not None and leaf.name in self.before.state.sources:
            said = by_name(self.before.state.sources[leaf.name], self.before.arrivals.get(leaf.name))
        held = frozenset() if anew else frozenset(f.uri for f in leaf.held)
        here = {name: a for uri, a in arrivals.items() if (name := source.redact(uri)) not in held}
        return kept(source.watermark, state.sources[leaf.name].files, here, said)


def _puts_aside(check: Check) -> bool:
    """Whether rows, or their original values, may go to quarantine."""
    return check.action in ("quarantine", "repair")
