"""What a run must do for an output that follows its inputs (``mode: replace``): nothing, rebuild some units, or rebuild all.

What the last commit says that it was made of is compared with what is there now; and what the next one will say is put together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lazypipe.compile.changes.strategy import Side, Strategy
from lazypipe.compile.closing import closes
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.outputs.modes import adds_to
from lazypipe.compile.segments import Segment
from lazypipe.errors import StorageError
from lazypipe.gates import Check
from lazypipe.gates.rule import PREVIOUS
from lazypipe.gates.tally import from_columns
from lazypipe.incremental import progress
from lazypipe.incremental.after import After
from lazypipe.incremental.before import CONSUMED, Before, own_commit
from lazypipe.incremental.exports import decide_export, exports_of
from lazypipe.incremental.leaf import Leaf, left_for_later
from lazypipe.incremental.leaves import Leaves
from lazypipe.incremental.numbering import Numbering
from lazypipe.incremental.reach import Reaching, Use, parts
from lazypipe.incremental.sides import Digests
from lazypipe.incremental.terms import Terms
from lazypipe.incremental.touched import Touched, Touching, followed
from lazypipe.incremental.work import Work
from lazypipe.spec.model import NOTHING
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.datasets.units import Units

__all__ = ["Decision", "decide_followed"]

CLOCK = "rules that use the current time are checked again"


def decide_followed(plan: CompiledPipeline, segment: Segment, terms: Terms, commit: Commit | None = None) -> Work:
    """Say what a run has to do for a segment's output; ``commit`` is the last one, None if nothing was committed yet.

    What a source says of files that went or changed holds where rows are told apart: what is ignored keeps the rows it had. Where
    an output is made anew its old rows are not there any more: then files that went are without rows, and files that changed are
    read as they are.

    Raises
    ------
    SourceError
        If a source cannot be listed, or has changed in a way that it says is to fail.
    StorageError
        If what was consumed cannot be read, and not all is to be made anew.
    """
    assert segment.output is not None
    output = plan.outputs[segment.output]
    strategy = plan.strategies[segment.output]
    if output.format != "dataset":

        def decided(before: Before | None, commit: Commit | None) -> Work:
            decision = Decision(Leaves(plan, segment, before, terms), strategy, commit)
            decision.beside = exports_of(plan, segment.output or "")
            return decision.work()

        return decide_export(plan, segment, terms, strategy, decided)
    before = None if terms.full else Before.of(commit, plan.redact(output.to))
    decision = Decision(Leaves(plan, segment, before, terms), strategy, commit)
    decision.beside = Dataset(output.to, output.storage_options)
    if decision.after.is_of_another():
        assert before is not None
        by, own = ", ".join(map(repr, before.pipelines)), plan.pipeline.name
        what = f"output {segment.output!r}: the dataset holds what pipeline {by} made, and {own!r} would put other rows in its place"
        fix = "write to another place, or run once in full (--full) if the pipeline was renamed"
        raise StorageError(what, uri=plan.redact(output.to), fix=fix)
    work = decision.work()
    return replace(work, commit=commit, version=0 if commit is None else commit.version)


class Decision:
    """What there is to do for one output whose rows follow its inputs."""

    def __init__(self, leaves: Leaves, strategy: Strategy, commit: Commit | None) -> None:
        self.leaves = leaves
        self.terms = terms = leaves.terms
        self.plan = leaves.plan
        self.segment = leaves.segment
        self.before = leaves.before
        self.strategy = strategy
        self.commit = commit
        self.run = terms.run
        self.after = After(self.plan, self.segment, strategy, self.before)
        self.numbering = Numbering(self.before, self.run, self.segment.name, commit)
        self.reached: Mapping[str, frozenset[str]] = NOTHING
        self.renewed = frozenset[int]()
        self.digests = Digests(self.plan, terms.look, terms.digests, terms.tables, terms.moments)
        self.beside: Dataset | None = None

    def work(self) -> Work:
        """Return the work that there is to do, with the changes it would read."""
        fixed = [self.leaves.leaf(n) for n in self.strategy.fixed]
        driving = [self.leaves.leaf(n) for n in self.strategy.driving]
        made = self._work(fixed, driving)
        leaves = (*fixed, *driving)
        came, went = tuple(c for leaf in leaves for c in leaf.came), sum(leaf.went for leaf in leaves)
        return replace(made, came=came, went=went) if made.kind in ("units", "all") else made

    def _against(self, changed: Sequence[Leaf]) -> tuple[str, ...]:
        """Return what in the definition stands against reading less than all, where only some of it changed."""
        said = [self.strategy.because[n.name] for n in changed if self.strategy.because.get(n.name)]
        return tuple(dict.fromkeys([*self.strategy.reasons, *said]))

    def _work(self, fixed: list[Leaf], driving: list[Leaf]) -> Work:
        before, changed = self.before, [leaf for leaf in fixed if leaf.is_news]
        beside, loose = {leaf for leaf, *_ in self.strategy.reached}, self.strategy.loose
        near = [leaf for leaf in changed if leaf.name in beside]
        turned = [leaf for leaf in changed if leaf.name not in beside and leaf.name not in loose]
        news = [str(leaf) for leaf in changed if leaf.name in loose]
        remade = [f"{n.name}: rebuilt" for n in driving if n.changes is not None and self.numbering.is_remade(n)]
        news += remade
        touched, why = Touched(), self._why_all({leaf.name for leaf in (*fixed, *driving)}, news)
        others = ""
        if not why:
            # rows are others than they were, though nothing of the definition or the files shows it to whoever reads them
            others = self._went_on_beside()
            if not others and self.terms.judge_again and self._clock_makes_anew([*driving, *turned, *near]):
                why, others = CLOCK, CLOCK if self._clock_moves_rows else ""
            why = why or others
        if not why:
            touched = self._touching.touched(turned, driving)
            why = touched.against or ("" if self._reach(near, fixed, driving) else "; ".join(map(str, near)))
            news += [why] if why else []
        stays = before is not None and not (news or others)
        generation = before.generation if before is not None and stays else self.run
        if not why:
            return self._some(fixed, driving, turned, near, touched, generation)
        # what is made anew each time would otherwise begin again with the first files each time
        again = why == CLOCK or bool(others) or why == "; ".join(remade)
        made = self._all(why, fixed, driving, generation, keep=not news, again=again)
        told = news and before is not None
        return replace(made, against=self._against(changed)) if told else made

    def _why_all(self, leaves: set[str], news: list[str]) -> str:
        """Say why all is made anew, whatever of it changed; nothing if there is no reason. ``leaves`` are all that it is made of."""
        before = self.before
        if before is None:
            if self.terms.full:
                return "full rebuild requested"
            committed = "the last version does not record what it was made from"
            return "nothing was committed yet" if self.commit is None else committed
        if changed := self.after.changed():
            return changed
        if before.layout != self.after.layout():
            return "the definition changed: partitioning, upstream rules, or the rows that these quarantine"
        if self._is_renamed(before, leaves):
            what = "sources or stages were renamed, and what was read and counted is recorded under their names"
            return f"the definition changed: {what}"
        return "; ".join(news)

    def _some(
        self,
        fixed: list[Leaf],
        driving: list[Leaf],
        turned: list[Leaf],
        near: list[Leaf],
        touched: Touched,
        generation: str,
    ) -> Work:
        """Return the work where only some is made anew: of what came, of what is ``touched``, or of nothing."""
        driving = [replace(leaf, reached=self.reached[leaf.name]) for leaf in driving] if self.reached else driving
        touched = replace(touched, units=touched.units | self.renewed)
        nothing = Work("none", "nothing changed: " + ", ".join(map(str, (*fixed, *driving))))
        judges = self.segment.node in self.after.judged and self.plan.looks_at_the_clock(self.segment.node)
        if judges and self.terms.judge_again:
            nothing = Work("judge", CLOCK)
        renamed = self._moved(driving)
        is_still = not (turned or near or renamed)
        if is_still and not any(leaf.is_news for leaf in driving):
            return self._still(nothing, fixed, driving, generation)
        reused = self._units(driving, touched)
        new, gone = self.numbering.difference(driving, reused)
        if is_still and not gone and not any(new.values()):
            return self._still(nothing, fixed, driving, generation)
        if (waits := self._waits(fixed, driving, anew=False)) is not None:
            return waits
        if self.terms.bound.is_set:
            driving = [self.leaves.bounded(leaf) for leaf in driving]
            reused = self._units(driving, touched)
            new, gone = self.numbering.difference(driving, reused)
            if is_still and not gone and not any(new.values()):
                return replace(nothing, why="nothing to do: " + ", ".join(map(str, (*fixed, *driving))))
        plain = self.numbering.units(driving, keep=True, anew=False) if touched.units else reused
        moved = [str(leaf) for leaf in driving if leaf.is_news or leaf in renamed or self.numbering.moved(leaf, plain)]
        said = "; ".join([*touched.said, *map(str, near), *moved])
        if (again := self._unread(said, fixed, driving, reused)) is not None:
            return again
        left = sum(len(leaf.left) for leaf in driving)
        info = self.after.info(fixed, driving, reused, generation, anew=False)
        work = self._changed(said, self.numbering.reading(driving, new), gone, reused, driving, info)
        work = self._touching.keeping(work, fixed, touched)
        whole = any(leaf.name in self.strategy.behind for leaf in turned)
        return replace(work, left=left, sides=self._noted(work.keeping), whole=whole)

    def _moved(self, driving: list[Leaf]) -> list[Leaf]:
        """Return the sources of which a file has another name, by which it is to be known.

        It would be another one when it grows, and all of its rows would be added again; or when it changes, where what changed or is gone
        is not as good as what is there.
        """
        node, nodes, outputs = self.segment.node, self.plan.nodes, self.plan.outputs
        added = [n for n, o in outputs.items() if adds_to(o)]
        adds = self.segment.output in added or any(node in self.plan.strategies[n].driving for n in added)
        found = []
        for leaf in driving:
            if leaf.changes is None or not leaf.changes.moved:
                continue
            source = nodes[leaf.name].source
            minds = source is not None and source.intake.minds_names
            grows = _in_groups(leaf) or (source is not None and source.is_text)
            if minds or (adds and grows):
                found.append(leaf)
        return found

    def _units(self, driving: list[Leaf], touched: Touched) -> dict[str, dict[str, int]]:
        """Return the unit of each file; those that are touched are made again."""
        return self.numbering.renewed(self.numbering.units(driving, keep=True, anew=False), touched.units)

    def _reach(self, changed: list[Leaf], fixed: list[Leaf], driving: list[Leaf]) -> bool:
        """Find the files and units whose rows are affected by changes beside them; whether that can be told."""
        if not changed:
            return True
        assert self.before is not None
        uses = [Use(*use) for use in self.strategy.reached]
        turned = {leaf.name: leaf for leaf in changed}
        if any(self._is_untold(turned[use.leaf], use) for use in uses if use.leaf in turned):
            return False
        units = self.numbering.units(driving, keep=True, anew=False)
        new, _ = self.numbering.difference(driving, units)
        stay, first = dict[str, Units](), 0
        for leaf in driving:
            of = {f: u for f, u in units[leaf.name].items() if f not in new[leaf.name]}
            there = parts(leaf.snapshot)
            if leaf.tagged:
                wanted = there.wanted.intersection(map(int, of))
                stay[leaf.name] = Units(wanted=wanted, others={u: of[str(u)] for u in wanted if of[str(u)] != u})
            else:  # by numbers of their own, which no unit has
                files = [f for f in there.files if f not in new[leaf.name]]
                stay[leaf.name] = Units({f: number for number, f in enumerate(files, first)})
                first += len(files)
        snapshots = {leaf.name: leaf.snapshot for leaf in (*fixed, *driving)}
        reaching = Reaching(self.plan, lambda name: snapshots.get(name) or self.terms.look(name))
        found = reaching.touched(uses, turned, stay, self.before.extents)
        if found is None:
            return False
        # an entry for each, so that something is known even where nothing is reached
        self.reached = {
            n: frozenset([*(f for f, u in of.files.items() if u in found), *map(str, of.only(found).wanted)])
            for n, of in stay.items()
        }
        self.renewed = frozenset(u for n in driving if n.tagged for u in stay[n.name].only(found).here)
        return True

    def _is_untold(self, leaf: Leaf, use: Use) -> bool:
        """Whether it is not known which rows of a dataset that is the other side of a join are as they were."""
        assert self.before is not None
        unknown = bool(self.before.state.sources[leaf.name].files) and not self.before.extents.get(use.key)
        return leaf.tagged and (unknown or self.numbering.is_remade(leaf))

    def _still(self, nothing: Work, fixed: list[Leaf], driving: list[Leaf], generation: str) -> Work:
        """Return the work where nothing came: none, unless event time went on, by which windows close."""
        why = self._went_on()
        if not why:
            return nothing
        if not self._closing:
            return nothing if nothing.kind == "judge" else Work("state", why)
        if self._beside:
            return self._all(why, fixed, driving, self.run, keep=True, again=True)
        units = self.numbering.units(driving, keep=True, anew=False)
        if (made := self._unread(why, fixed, driving, units)) is not None:
            return made
        info = self.after.info(fixed, driving, units, generation, anew=False)
        none = self.numbering.reading(driving, {n: {} for n in units})
        work = self._changed(why, none, frozenset(), units, driving, info)
        work = self._touching.keeping(work, fixed, Touched())
        return replace(work, sides=self._noted(work.keeping))

    def _went_on_beside(self) -> str:
        """Say how far event time is where windows close in what rows are put beside, which is read as a whole; nothing if it went on at none."""
        said = None if self.commit is None else self.commit.info.get(CONSUMED)
        if self.terms.now is None or said is None:
            return ""
        look, tables = self.terms.look, self.terms.tables
        return progress.passed(self.plan, sorted(self._beside), said, look, self.terms.now, tables)

    @property
    def _beside(self) -> frozenset[str]:
        """The stages of which event time decides which rows there are, whose groups are not followed."""
        return self._closing.difference(c.node for c in self.strategy.closing)

    @property
    def _closing(self) -> frozenset[str]:
        """The stages whose rows depend on how far event time is, such as windows that give rows once they are closed."""
        return frozenset(n for n in self.segment.nodes if closes(self.plan.nodes[n]) is not None)

    def _unread(
        self, said: str, fixed: list[Leaf], driving: list[Leaf], units: Mapping[str, dict[str, int]]
    ) -> Work | None:
        """Return the work where rows of groups are to be read again, and some cannot be; None if all can."""
        kept = self._unreadable(driving, units) if self.strategy.kind == "parts" else ""
        why = f"{said}; rows of {kept} must be read again, but their files changed or are gone"
        return self._all(why, fixed, driving, self.run, keep=False) if kept else None

    def _went_on(self) -> str:
        """Say why the output is published once more though nothing came; nothing if there is no reason."""
        said = None if self.commit is None else self.commit.info.get(CONSUMED)
        if self.terms.now is None or self.commit is None or said is None:
            return ""
        look, tables = self.terms.look, self.terms.tables
        return progress.moved(self.plan, self.segment, self.commit, said, look, self.terms.now, tables)

    def _noted(self, sides: Sequence[Side]) -> tuple[Side, ...]:
        """Return the sides of which keys are kept by units."""
        return tuple(s for s in sides if s in self.strategy.sides)

    @property
    def _touching(self) -> Touching:
        assert self.before is not None
        assert self.beside is not None
        return Touching(self.strategy, self.before, self.numbering, self.digests, self.beside)

    def _unreadable(self, driving: list[Leaf], units: Mapping[str, dict[str, int]]) -> str:
        """Return the sources of which files are kept as they were, though they are gone or others now; empty if there are none."""
        there = self.numbering.readable(driving, units)
        told = {n: of.here for n, of in there.items()}
        return ", ".join(n for n, of in units.items() if not told[n].issuperset(of.values()))

    def _changed(
        self,
        said: str,
        reading: Mapping[str, Units],
        gone: frozenset[int],
        units: Mapping[str, dict[str, int]],
        driving: list[Leaf],
        info: Mapping[str, Any],
    ) -> Work:
        """Return the work of reading some units, with what is kept of the others."""
        before = self.before
        assert before is not None
        tallies = {n: {u: t for u, t in from_columns(c).items() if u not in gone} for n, c in before.tallies.items()}
        live = {u for of in units.values() for u in of.values()}
        return Work(
            "units",
            said,
            reading,
            gone,
            tallies,
            tuple(f for f in before.figures if not live.isdisjoint(f.units)),
            self.strategy.cut,
            reread=self.strategy.kind == "parts",
            groups=self.strategy.keys,
            leaving=tuple(f for f in before.figures if not gone.isdisjoint(f.units)),
            hashed=self.strategy.hashed,
            keys={k: tuple(f for f in files if not live.isdisjoint(f.units)) for k, files in before.keys.items()},
            known=self.numbering.readable(driving, units),
            info=info,
        )

    def _is_renamed(self, before: Before, leaves: set[str]) -> bool:
        return before.state.sources.keys() != leaves or not before.tallies.keys() <= {*self.after.judged}

    @property
    def _clock_moves_rows(self) -> bool:
        """Whether rules about the clock let other rows go on, or repair others, at another time."""
        found = (c for n in self.after.judged for c in self.plan.clock_rules(n))
        return any(c.removes_rows or c.repair is not None for c in found)

    def _clock_makes_anew(self, driving: list[Leaf]) -> bool:
        """Whether rules about the clock decide over more than what is said of the rows that are there.

        Those of the output's own gate can be judged by its rows, if these are all that the gate saw. With rows that are new it is
        no matter what was counted before only of what is measured of all rows.
        """
        watching = {n for n in self.after.judged if self.plan.looks_at_the_clock(n)}
        if not watching:
            return False
        node = self.plan.nodes[self.segment.node]
        if watching != {node.name} or not all(map(_judges_alone, node.checks)):
            return True
        news = any(leaf.is_news for leaf in driving)
        return news and any(c.measure is None for c in self.plan.clock_rules(node.name))

    def _all(
        self,
        why: str,
        fixed: list[Leaf],
        driving: list[Leaf],
        generation: str,
        *,
        keep: bool,
        again: bool = False,
    ) -> Work:
        """Return the work where all is made anew; files that are as they were ``keep`` their units if these still say something.

        What a run may take counts from what was consumed before, if that is made ``again``.
        """
        if (waits := self._waits(fixed, driving, anew=True)) is not None:
            return waits
        driving = [self.leaves.bounded(leaf, anew=True, again=again) for leaf in driving]
        if (untaken := self._untaken(driving)) is not None:
            return untaken
        leaves = (*fixed, *driving)
        self._keep_gone(why, leaves)
        units = self.numbering.units(driving, keep=keep, anew=True)
        ignored = {leaf.name: len(leaf.changes.ignored) for leaf in leaves if leaf.changes and leaf.changes.ignored}
        said = [leaf.snapshot.awaited for leaf in leaves if leaf.snapshot.awaited and leaf.snapshot.awaited not in why]
        said += [
            f"{n}: rows of {k:,} ignored file{'s' * (k > 1)} are not kept, because everything is rebuilt"
            for n, k in ignored.items()
        ]
        left = {leaf.name: len(leaf.left) for leaf in driving if leaf.left}
        said += [f"{n.name}: {n.told_outside}" for n in driving if n.outside]
        said += [f"{n}: {left_for_later(k)}" for n, k in left.items()]
        info = self.after.info(fixed, driving, units, generation, anew=True)
        return Work(
            "all",
            "; ".join([why, *said]),
            self.numbering.reading(driving, units),
            cut=self.strategy.cut,
            reread=self.strategy.kind == "parts",
            groups=self.strategy.keys,
            hashed=self.strategy.hashed,
            sides=self._noted(followed(self.strategy, fixed)),
            keeping=followed(self.strategy, fixed),
            info=info,
            left=sum(left.values()),
        )

    def _untaken(self, driving: list[Leaf]) -> Work | None:
        """Return what is waited for, if all is to be made anew and of what it was made of some may not be taken now.

        In full it is refused: what would be left out is not read again by itself.
        """
        outside = [leaf for leaf in driving if leaf.outside]
        if not outside:
            return None
        name, written = self.segment.output, outside[0].written
        assert name is not None
        output = self.plan.outputs[name]
        redact, before = self.plan.redact, None
        with suppress(StorageError):  # what is damaged says nothing, and is to be mended
            before = Before.of(own_commit(self.commit, name, output), redact(output.to))
        had = {} if before is None else {n: {f.uri for f in of.files} for n, of in before.state.sources.items()}
        lost = [u for n in outside for f in n.outside if (u := redact(f.uri)) in had.get(n.name, ())]
        if lost:
            which = (
                "a file that it was made of was" if len(lost) == 1 else f"{len(lost):,} files that it was made of were"
            )
            what = f"rebuilding it would lose rows: {which} not written {written}, such as {lost[0]}"
            if not self.terms.full:
                return Work("wait", f"waiting for a run without since and until: {what}")
            fix = "leave out full, or since and until"
            raise StorageError(f"output {name!r}: {what}", uri=redact(output.to), fix=fix)
        if all(leaf.outside and not leaf.snapshot.files for leaf in driving):
            return Work("wait", "waiting for files: " + ", ".join(f"{n.name}: {n.told_outside}" for n in driving))
        return None

    def _keep_gone(self, why: str, leaves: Sequence[Leaf]) -> None:
        """Refuse to make anew what was made of files that are gone, and whose rows were to stay; in full it is not asked what changed."""
        for leaf in leaves:
            there = {f.uri for f in leaf.snapshot.files}
            gone = [f.uri for f in leaf.changes.ignored if f.uri not in there] if leaf.changes else []
            if not gone:
                continue
            name = self.segment.output or self.segment.node
            which = "a file that is" if len(gone) == 1 else f"{len(gone):,} files that are"
            what = f"rebuilding it would lose the rows of {which} gone, such as {self.plan.redact(gone[0])} ({why})"
            fix = "put back what is gone, run it in full, or say on_removed: delete"
            raise StorageError(f"output {name!r}: {what}", fix=fix)

    def _waits(self, fixed: list[Leaf], driving: list[Leaf], *, anew: bool) -> Work | None:
        """Return what is waited for, if work cannot begin: what is read in whole must be there in whole."""
        waits = [n for n in fixed if n.waits(anew=True)] + [n for n in driving if n.waits(anew=anew)]
        return Work("wait", waits[0].snapshot.awaited) if waits else None


def _in_groups(leaf: Leaf) -> bool:
    """Whether the row groups are known of a file that has another name now."""
    assert leaf.changes is not None
    borders = NOTHING if leaf.changes.before is None else leaf.changes.before.borders
    return any(m.before.blake3 in borders for m in leaf.changes.moved)


def _judges_alone(check: Check) -> bool:
    """Whether a check leaves all rows as they are, and looks at no others."""
    frames = () if check.measure is None else (*check.measure.frames, *([PREVIOUS] if check.measure.history else []))
    return not (check.removes_rows or check.repair is not None or check.reference is not None or frames)
