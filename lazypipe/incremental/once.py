"""What a run must do for stages that several outputs read and no dataset stores (``shared.py``): the rows of some files, or all.

How much is read is said by what these outputs need. What its gates count and put aside is kept beyond the run, as for outputs.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Literal

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources.source import Snapshot
from lazypipe.incremental.before import Before, all_before, consumed_before
from lazypipe.incremental.bound import UNBOUND
from lazypipe.incremental.follow import Decision
from lazypipe.incremental.leaf import Leaf
from lazypipe.incremental.leaves import Leaves
from lazypipe.incremental.parts import cut_up
from lazypipe.incremental.state import ConsumedFile
from lazypipe.incremental.successors import Older, rewritten, succeeded
from lazypipe.incremental.terms import Terms, table_of
from lazypipe.incremental.touched import Touched, followed
from lazypipe.incremental.work import Work
from lazypipe.spec.model import NOTHING, Output
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.units import Units
from lazypipe.storage.files import read_key

__all__ = ["decide_shared"]


def decide_shared(
    plan: CompiledPipeline,
    segment: Segment,
    terms: Terms,
    state: Dataset | None,
    needs: Mapping[str, Units] | None,
    anew: Container[str],
    older: Mapping[str, Snapshot] = NOTHING,
) -> Work:
    """Say what a run reads of a source or stage whose rows several outputs need, and which are kept for that run only.

    How much is taken, and of what moment, is said by what these need.

    Parameters
    ----------
    state
        Where its gates keep what they counted and put aside; None if it has no gates.
    needs
        What the outputs need of each source; None for all of it.
    anew
        The outputs that keep nothing of what they were made of before.
    older
        The versions of tables that are read instead of their last ones.
    """
    commit = None if state is None else state.latest()
    before = Before.of(commit, plan.redact("" if state is None else state.uri))
    strategy = plan.inner[segment.node]
    terms = replace(terms, full=False, bound=UNBOUND, judge_again=True, now=None)
    then = {name: Older(snapshot, frozenset()) for name, snapshot in older.items()}
    decision = _Once(Leaves(plan, segment, before, terms, older=then), strategy, commit)
    decision.beside = state
    stays = {n: o for n, o in plan.outputs.items() if n not in anew}
    work = decision.work_of(needs, stays, judged=state is not None)
    # those who read the rows keep the keys by which they were looked up
    version = 0 if commit is None else commit.version
    wanted = {side for of in plan.strategies.values() for side in of.sides}
    sides = tuple(s for s in strategy.sides if s in wanted or s in work.keeping)
    return replace(work, commit=commit, version=version, sides=sides, older=older)


class _Once(Decision):
    """What there is to do for one source or stage whose rows are kept for one run only."""

    def work_of(
        self, needs: Mapping[str, Units] | None, stays: Mapping[str, Output] = NOTHING, *, judged: bool
    ) -> Work:
        """Return the work of reading what is needed, and with gates what these have not judged yet; or all, where that must be.

        What no output needs, and none of those in ``stays`` was made of, is not judged either: runs with bounds leave it for later.
        """
        fixed = [self.leaves.leaf(n) for n in self.strategy.fixed] if judged else []
        driving = [self.leaves.leaf(n) for n in self.strategy.driving]
        turned = [leaf for leaf in fixed if leaf.is_news and leaf.name not in self.strategy.loose]
        touched = Touched()
        kept = needs is not None and judged and self._follows([n for n in fixed if n not in turned], driving)
        if kept:
            touched = self._touching.touched(turned, driving)
            kept = not touched.against
        if judged and needs is not None:
            driving = [self._needed(leaf, needs[leaf.name], stays, anew=not kept) for leaf in driving]
        units = self.numbering.units(driving, keep=kept, anew=not kept)
        units = self.numbering.renewed(units, touched.units)
        if needs is not None:
            units = {n.name: self._renewed(n, units[n.name], needs[n.name], judged=judged) for n in driving}
        info = self.after.info(fixed, driving, units, self.run, anew=not kept) if judged else {}
        if needs is None or not kept:
            kind: Literal["all", "units"] = "all" if needs is None or judged else "units"
            reading, keeping = self.numbering.reading(driving, units), followed(self.strategy, fixed) if judged else ()
            return Work(kind, "", reading, hashed=self.strategy.hashed, keeping=keeping, info=info)
        new, gone = self.numbering.difference(driving, units)
        if any(leaf.tagged and not needs[leaf.name].wanted <= {*map(int, new[leaf.name])} for leaf in driving):
            return self.work_of(None, judged=True)  # these rows were judged under the very unit that they have now
        work = self._changed("", self.numbering.reading(driving, new), gone, units, driving, info)
        return self._touching.keeping(work, fixed, touched)

    def _needed(self, leaf: Leaf, needs: Units, stays: Mapping[str, Output], *, anew: bool) -> Leaf:
        """Return a leaf without files that are not judged yet, which no output needs now, or was made of before."""
        if leaf.tagged:
            return leaf
        new, name = leaf.snapshot.files if anew else [c.file for c in leaf.came], self.plan.redact
        came = {f.uri for f in new}.difference(read_key(key)[0] for key in needs.files)
        if came:
            # data files of a table are never written twice
            told = leaf.snapshot.version is None
            made_of = {(f.uri, f.size, f.stamp) if told else f.uri for f in self._consumed(leaf, stays)}
            files = (f for f in leaf.snapshot.files if f.uri in came)
            rest = [f for f in files if ((name(f.uri), f.size, f.stamp) if told else name(f.uri)) not in made_of]
            return self.leaves.without(leaf, rest) if rest else leaf
        return leaf

    def _consumed(self, leaf: Leaf, outputs: Mapping[str, Output]) -> Iterable[ConsumedFile]:
        """Return the files of a source that outputs were made of; of a table those that hold their rows now."""
        if leaf.snapshot.version is None:
            return consumed_before(outputs, leaf.name)
        found = (self._as_it_is(before, leaf) for before in all_before(outputs, leaf.name))
        return [f for before in found for f in before.state.sources[leaf.name].files]

    def _as_it_is(self, before: Before, leaf: Leaf) -> Before:
        """Return what was consumed of a table by the files that hold it now."""
        name, commit, table, redact = leaf.name, leaf.snapshot.commit, leaf.snapshot.table, self.plan.redact
        if name not in before.units:  # read in whole
            return before
        source = self.plan.nodes[name].source
        if commit is not None:
            published = None if name in self.segment.nodes else table_of(self.plan, name, self.terms.tables)
            if published is not None:
                dataset = published[0]
            else:
                assert source is not None
                dataset = Dataset(source.patterns[0], source.reader.storage_options)
            return succeeded(before, name, dataset, commit, redact, full=True).before
        assert source is not None
        assert table is not None
        return rewritten(before, name, table, source.reader.storage_options, redact, full=True).before

    def _follows(self, fixed: list[Leaf], driving: list[Leaf]) -> bool:
        """Whether rows that were judged before would be judged in the same way now."""
        if self.before is None or self.before.layout != self.after.layout():
            return False
        if not self.after.fingerprint.changes(self.before.fingerprint).same:
            return False
        news = any(n.is_news for n in fixed) or any(n.changes is None or self.numbering.is_remade(n) for n in driving)
        return not news and not any(self.plan.looks_at_the_clock(n) for n in self.after.judged)

    def _renewed(self, leaf: Leaf, units: dict[str, int], needs: Units, *, judged: bool) -> dict[str, int]:
        """Return the units of files and their parts, where those that are read again get others; without gates, of just these.

        Files are cut where any who needs them, or the gates, have read them up to; not those that are others now, which the gates ignored.
        """
        if needs.wanted:
            return {f: u for f, u in units.items() if judged or u in needs.wanted}
        sizes = {f.uri: f.size for f in leaf.snapshot.files}
        asked = cut_up(needs.files, sizes)
        if not judged:
            return {part: self.numbering.new(leaf.name, part) for parts in asked.values() for part in parts}
        found: dict[str, int] = {}
        held, name = {f.uri for f in leaf.held}, self.plan.redact
        for uri, of in groupby(units.items(), lambda pair: read_key(pair[0])[0]):
            own, parts = dict(of), asked.get(uri, [])
            if parts and held and name(uri) in held:
                own = dict.fromkeys(parts, 0)
            whole = own if own.keys() >= {*parts} else dict.fromkeys(cut_up([uri, *own, *parts], sizes)[uri], 0)
            again = parts if whole is own else whole
            found |= whole | {part: self.numbering.new(leaf.name, part) for part in again}
        return found
