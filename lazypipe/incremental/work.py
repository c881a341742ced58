"""What a run has to do for an output: nothing, some units, or all; and what its commit will say that it has consumed.

An output's last commit holds what it was made of and by which plan. That is compared with what is there now. Nothing else is
remembered anywhere, so data and state cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import polars as pl

from lazypipe.compile.closing import closes, waited_for
from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.compile.delta import Strategy
from lazypipe.compile.intake import Intake
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.errors import LazypipeError, StorageError
from lazypipe.gates import Check
from lazypipe.gates.rule import PREVIOUS
from lazypipe.gates.tally import Tally, from_columns
from lazypipe.incremental.arrivals import ARRIVALS, Known, by_name, kept, known, rejudged
from lazypipe.incremental.bound import UNBOUND, Bound
from lazypipe.incremental.changes import RACY, Changes, allowed, compare
from lazypipe.incremental.hashing import hasher, prefix_hasher
from lazypipe.incremental.reach import EXTENTS, Moved, Reaching, Use, read_extents
from lazypipe.incremental.stamps import moment_of
from lazypipe.incremental.state import Consumed, ConsumedFile, State
from lazypipe.plan.fingerprint import Fingerprint, digest
from lazypipe.spec.model import NOTHING, Output
from lazypipe.storage import uri as uris
from lazypipe.storage.dataset import Dataset
from lazypipe.storage.files import FileInfo
from lazypipe.storage.log import Commit, DataFile
from lazypipe.storage.units import Units, unit_of
from lazypipe.windows.reach import Extent

__all__ = [
    "CONSUMED",
    "DELETES",
    "Before",
    "Came",
    "Decision",
    "Leaf",
    "Work",
    "consumed_before",
    "decide",
    "decide_shared",
    "files_of_units",
    "known_before",
    "own_commit",
    "with_hashes",
]

CONSUMED = "consumed"
"""Where in a commit's ``info`` stands what it has consumed."""

DELETES = "deletes"
"""Where in a commit's ``info`` stands what outputs with ``mode: delete`` have consumed, by their names."""

CLOCK = "rules about the clock are judged again"


class Came(NamedTuple):
    """A file that is new, or another than it was, of a source or output; and its rows, where a commit says them."""

    source: str
    file: FileInfo
    rows: int | None = None


@dataclass(frozen=True)
class Work:
    """What is to be done for one output, and why.

    ``units`` says per source or output what is read of it, where rows are told apart; ``gone`` are the units that leave.
    ``tallies`` are what gates counted of the units that stay, ``figures`` the files with what was kept of them, where the output
    is made of that (``cut``), ``keys`` those with the hashed keys of their rows, by node and check. ``known`` says of all units, as
    far as they can be read again, where. ``groups`` are the columns that tell groups apart, with their names in the output, where only
    those that a change touches are made anew; ``leaving`` are the files with the figures of units that are gone. ``info`` is what the next
    commit says of all this. ``commit``, if there is one, and its ``version`` are the output's that it builds upon.

    ``left`` is how many units are there and are left for later runs, because a run may take no more of them (``Bound``). ``came`` are
    the files that are new or others than they were, whether this run takes them or not; ``went`` is how many are gone.

    With ``adds``, the rows of what is read are put together with those that are there, as the output's mode says; with ``anew``,
    what is there is left out of that. With ``wait`` nothing is done yet: there is work, and what it needs of a source is not whole. With ``judge`` no
    row changes, and the gate's rules about the clock are judged again.
    """

    kind: Literal["none", "units", "all", "wait", "judge"]
    why: str
    units: Mapping[str, Units] = field(default=NOTHING, repr=False)
    gone: frozenset[int] = frozenset()
    tallies: Mapping[str, Mapping[int, Tally]] = field(default=NOTHING, repr=False)
    figures: tuple[DataFile, ...] = field(default=(), repr=False)
    cut: tuple[str, int] | None = None
    groups: tuple[tuple[str, str], ...] = ()
    leaving: tuple[DataFile, ...] = field(default=(), repr=False)
    hashed: tuple[tuple[str, str], ...] = ()
    keys: Mapping[tuple[str, str], tuple[DataFile, ...]] = field(default_factory=dict, repr=False)
    known: Mapping[str, Units] = field(default=NOTHING, repr=False)
    info: Mapping[str, Any] = field(default=NOTHING, repr=False)
    version: int | None = None
    commit: Commit | None = field(default=None, repr=False)
    left: int = 0
    came: tuple[Came, ...] = field(default=(), repr=False)
    went: int = 0
    adds: bool = False
    anew: bool = False

    @property
    def live(self) -> frozenset[int]:
        """All units that the output will be made of."""
        return frozenset(u for of in self.info.get("units", {}).values() for u in of)

    def again(self, units: frozenset[int]) -> Work | None:
        """Return the work of reading some units again; None if one of them is not there any more as it was."""
        reading = {name: of.only(units) for name, of in self.known.items()}
        there = {u for of in reading.values() for u in (*of.files.values(), *of.wanted)}
        return replace(self, kind="units", units=reading) if units <= there else None

    @property
    def told_apart(self) -> bool:
        """Whether each row of the output carries its unit."""
        return bool(self.units) and self.cut is None and not self.adds

    @property
    def adds_units(self) -> bool:
        """Whether rows of some units come and go, and all others stay as they are."""
        return self.kind == "units" and self.told_apart

    @property
    def numbers(self) -> list[int] | None:
        """The unit of each number that rows of files carry on the way; None if they carry their units."""
        if any(u.first is None for u in self.units.values()):
            return None
        return [unit for u in self.units.values() for unit in u.files.values()]


@dataclass(frozen=True)
class Leaf:
    """A source or output that is read: what is there now, and what of it was consumed before.

    ``found`` is what has changed, ``changes`` what of that is acted upon. ``consume`` gives what an output that is made anew has
    consumed; what is ignored is not in it, since its rows are not kept then. ``left`` is what this run does not take of it: files,
    which are no longer in ``snapshot``, or units of a dataset whose rows know theirs. ``rejudged`` are files that are as they
    were, and whose rows came under another watermark, because of others; ``reached`` those with rows that rows of another source reach
    which came or went.
    """

    name: str
    snapshot: Snapshot
    consume: Callable[[], Consumed]
    found: Changes | None
    changes: Changes | None
    tagged: bool = False
    keeps_gone: bool = False
    left: frozenset[str] | frozenset[int] = frozenset()
    rejudged: frozenset[str] = frozenset()
    reached: frozenset[str] = frozenset()

    @cached_property
    def consumed(self) -> Consumed:
        """What an output has consumed that is made anew."""
        return self.consume()

    @property
    def is_news(self) -> bool:
        """Whether there is something to act upon."""
        return self.changes is None or not self.changes.nothing or bool(self.rejudged | self.reached)

    @property
    def came(self) -> tuple[Came, ...]:
        """The files that are new, or others than they were."""
        commit, files = self.snapshot.commit, self.snapshot.files
        if self.changes is not None:
            changes = self.changes
            files = (*changes.added, *changes.modified, *changes.truncated, *(g.file for g in changes.grown))
        if commit is None:
            return tuple(Came(self.name, f) for f in files)
        rows = {f: d.rows - d.dead(commit.gone) for f, d in zip(self.snapshot.files, commit.files, strict=True)}
        return tuple(Came(self.name, f, rows[f]) for f in files)

    @property
    def went(self) -> int:
        """How many files are gone; a dataset that was made anew counts as one."""
        return 0 if self.changes is None else len(self.changes.removed) + (self.changes.position is not None)

    @property
    def held(self) -> tuple[ConsumedFile, ...]:
        """The files that stay consumed as they were, though they are gone or others now, or not whole."""
        return () if self.changes is None else (*self.changes.ignored, *self.changes.waiting)

    @property
    def consumed_and_held(self) -> Consumed:
        """What an output has consumed that was not made anew."""
        held = {f.uri: f for f in self.held}
        files = [held.pop(f.uri, f) for f in self.consumed.files]
        return replace(self.consumed, files=(*files, *held.values())) if self.held else self.consumed

    def waits(self, *, anew: bool) -> bool:
        """Whether what is there is too little to work with: nothing, or less than what was consumed if all is read anew."""
        if not self.snapshot.awaited:
            return False
        if anew:
            return not self.snapshot.files or (self.changes is not None and bool(self.changes.waiting))
        return not self.snapshot.files and not self.held

    def __str__(self) -> str:
        told = "never read before" if self.changes is None else str(self.changes)
        judged = f"{len(self.rejudged):,} under another watermark" if self.rejudged else ""
        reached = f"{len(self.reached):,} reached by what changed" if self.reached else ""
        more = filter(None, [judged, reached, self.snapshot.awaited, _left(len(self.left))])
        return ", ".join([f"{self.name}: {told}", *more])


def _left(count: int) -> str:
    return f"{count:,} more left for later runs" if count else ""


@dataclass(frozen=True)
class Before:
    """What the last commit says: the plan, what was consumed, the unit of each file, and since when rows are what they are."""

    fingerprint: Fingerprint
    layout: str
    state: State
    units: Mapping[str, list[int]]
    generation: str
    tallies: Mapping[str, Any]
    figures: tuple[DataFile, ...]
    keys: Mapping[tuple[str, str], tuple[DataFile, ...]]
    arrivals: Mapping[str, Any] = NOTHING
    extents: Mapping[str, Mapping[str, Extent]] = NOTHING

    @classmethod
    def of(cls, commit: Commit | None, uri: str) -> Before | None:
        """Read it from a commit; None if that does not say; raises StorageError if it is damaged."""
        said = None if commit is None else commit.info.get(CONSUMED)
        if commit is None or said is None:
            return None
        state = State.from_dict(said, uri=uri)
        try:
            plan = Fingerprint.from_dict(said["fingerprint"])
            paths = {f.path: f for f in commit.figures}
            keys = {(n, c): tuple(map(paths.pop, names)) for n, c, names in said.get("keys", ())}
            arrivals = said.get(ARRIVALS, NOTHING)
            for name, of in arrivals.items():
                by_name(state.sources[name], of)
            return cls(
                plan,
                said["layout"],
                state,
                said["units"],
                said["generation"],
                said["tallies"],
                tuple(paths.values()),
                keys,
                arrivals,
                read_extents(said.get(EXTENTS, {})),
            )
        except (LazypipeError, KeyError, TypeError, ValueError) as error:
            fix = "run once in full, which writes it anew"
            raise StorageError("what the output has consumed is damaged", uri=uri, fix=fix) from error


def decide(
    plan: CompiledPipeline,
    segment: Segment,
    look: Callable[[str], Snapshot],
    *,
    run: str,
    listed: int,
    full: bool = False,
    hashes: dict[FileInfo, str] | None = None,
    bound: Bound = UNBOUND,
    judge_again: bool = True,
    commit: Commit | None = None,
) -> Work:
    """Say what a run has to do for a segment's output.

    What a source says of files that went or changed holds where rows are told apart: what is ignored keeps the rows it had. Where
    an output is made anew its old rows are not there any more: then files that went are without rows, and files that changed are
    read as they are.

    Parameters
    ----------
    look
        Lists a source as it is now.
    listed
        When sources were listed, in nanoseconds since 1970.
    full
        Whether everything is to be made anew, whatever has changed.
    hashes
        BLAKE3 of files, as far as they were hashed for other outputs since they were listed; more are put in.
    bound
        How much a run may take of what is new, where rows are told apart; also where they are made anew.
    judge_again
        Whether rules about the clock are reason enough for work.
    commit
        The output's last one, if it was read already.

    Raises
    ------
    SourceError
        If a source cannot be listed, or has changed in a way that it says is to fail.
    StorageError
        If what was consumed cannot be read, and ``full`` is not asked for.
    """
    assert segment.output is not None
    output = plan.outputs[segment.output]
    strategy = plan.strategies[segment.output]
    if output.format != "dataset":
        awaited = [s.awaited for n in _sources(plan, segment) if (s := look(n)).awaited and not s.files]
        return Work("wait", awaited[0]) if awaited else Work("all", strategy.reasons[0])
    commit = commit or Dataset(output.to, output.storage_options).latest()
    before = None if full else Before.of(commit, plan.redact(output.to))
    known = {} if hashes is None else hashes
    work = Decision(
        plan, segment, strategy, commit, before, look, run, listed, known, bound, full=full, judge_again=judge_again
    ).work()
    return replace(work, commit=commit, version=0 if commit is None else commit.version)


def decide_shared(
    plan: CompiledPipeline,
    segment: Segment,
    look: Callable[[str], Snapshot],
    state: Dataset | None,
    needs: Mapping[str, Units] | None,
    *,
    run: str,
    listed: int,
    hashes: dict[FileInfo, str] | None = None,
) -> Work:
    """Say what a run reads of a source or stage whose rows several outputs need, and which are kept for that run only.

    Parameters
    ----------
    state
        Where its gates keep what they counted and put aside; None if it has no gates.
    needs
        What the outputs need of each source; None for all of it.
    look, run, listed, hashes
        As in ``decide``.
    """
    commit = None if state is None else state.latest()
    before = Before.of(commit, plan.redact("" if state is None else state.uri))
    known = {} if hashes is None else hashes
    strategy = plan.inner[segment.node]
    decision = Decision(
        plan, segment, strategy, commit, before, look, run, listed, known, UNBOUND, full=False, judge_again=True
    )
    work = decision.part(needs, judged=state is not None)
    return replace(work, commit=commit, version=0 if commit is None else commit.version)


def own_commit(commit: Commit | None, name: str, output: Output) -> Commit | None:
    """Return a commit as an output sees it: where it only deletes, with what it has consumed itself, None if it never did."""
    if commit is None or output.mode != "delete":
        return commit
    said = commit.info.get(DELETES, {}).get(name)
    return None if said is None else replace(commit, info={CONSUMED: said})


def consumed_before(outputs: Mapping[str, Output], source: str) -> tuple[ConsumedFile, ...]:
    """Return the files of a source that outputs were made of, as they were then."""
    found: dict[ConsumedFile, None] = {}
    for before in _all_before(outputs, source):
        found |= dict.fromkeys(before.state.sources[source].files)
    return tuple(found)


def files_of_units(commit: Commit) -> dict[int, str]:
    """Return the file that each unit of an output is, as far as its rows know their units; raises StorageError if it is damaged."""
    before = Before.of(commit, "")
    found: dict[int, str] = {}
    if before is not None:
        for name, units in before.units.items():
            files = before.state.sources[name].files
            # those of a dataset whose rows know their units are no files
            found |= {u: f.uri for u, f in zip(units, files, strict=False)} if len(units) == len(files) else {}
    return found


def known_before(plan: CompiledPipeline, source: BoundSource) -> dict[str, Known]:
    """Return what outputs of the pipeline know of the event times in a source's files, by the names they are consumed by."""
    assert source.watermark is not None
    found: dict[str, Known] = {}
    for before in _all_before(plan.outputs, source.name):
        found |= known(source.watermark, before.state.sources[source.name], before.arrivals.get(source.name))
    return found


def _all_before(outputs: Mapping[str, Output], source: str) -> list[Before]:
    """Return what the last commits of outputs say that were made of a source."""
    found = []
    for name, output in [(n, o) for n, o in outputs.items() if o.format == "dataset"]:
        with suppress(LazypipeError):  # what is damaged is told when the output is decided upon
            commit = Dataset(output.to, output.storage_options).latest()
            before = Before.of(own_commit(commit, name, output), output.to)
            if before is not None and source in before.state.sources:
                found.append(before)
    return found


def _sources(plan: CompiledPipeline, segment: Segment) -> list[str]:
    """Return the sources that a segment reads, and those ahead of it whose rows are kept for one run only."""
    inner = [s for s in plan.segments if s.output is None and s.node in segment.reads]
    own = [n for n in (*segment.nodes, *segment.lookups) if plan.nodes[n].source is not None]
    return [*own, *(n for s in inner for n in _sources(plan, s))]


class Decision:
    """What there is to do for one output whose rows follow its inputs."""

    def __init__(
        self,
        plan: CompiledPipeline,
        segment: Segment,
        strategy: Strategy,
        commit: Commit | None,
        before: Before | None,
        look: Callable[[str], Snapshot],
        run: str,
        listed: int,
        hashes: dict[FileInfo, str],
        bound: Bound,
        *,
        full: bool,
        judge_again: bool,
    ) -> None:
        self.plan = plan
        self.segment = segment
        self.strategy = strategy
        self.commit = commit
        self.before = before
        self.look = look
        self.run = run
        self.listed = listed
        self.hashes = hashes
        self.bound = bound
        self.full = full
        self.judge_again = judge_again
        self.reached: Mapping[str, frozenset[str]] = NOTHING

    def work(self) -> Work:
        """Say what it is, and what it would read."""
        fixed = [self._leaf(n) for n in self.strategy.fixed]
        driving = [self._leaf(n) for n in self.strategy.driving]
        made = self._work(fixed, driving)
        leaves = (*fixed, *driving)
        came, went = tuple(c for leaf in leaves for c in leaf.came), sum(leaf.went for leaf in leaves)
        return replace(made, came=came, went=went) if made.kind in ("units", "all") else made

    def _work(self, fixed: list[Leaf], driving: list[Leaf]) -> Work:
        before = self.before
        plan = self.plan.fingerprints()[self.segment.node]
        news = [str(leaf) for leaf in fixed if leaf.is_news]
        news += [f"{n.name}: made anew" for n in driving if n.changes is not None and self._is_remade(n)]
        if before is None:
            unknown = (
                "nothing was committed yet"
                if self.commit is None
                else "the last version does not say what it is made of"
            )
            why = "made anew, as asked for" if self.full else unknown
        elif not (changed := plan.changes(before.fingerprint)).same or before.layout != self._layout():
            why = f"the definition changed: {changed if not changed.same else 'partitions, or rules ahead of it'}"
        elif self._is_renamed(before, {leaf.name for leaf in (*fixed, *driving)}):
            why = (
                "the definition changed: sources or stages have other names, by which is kept what was read and counted"
            )
        elif news and not self._reach(fixed, driving, len(news)):
            why = "; ".join(news)
        elif self.judge_again and self._clock_makes_anew(driving):
            why = CLOCK
        else:
            why = ""
        remade = bool(news) and not self.reached
        generation = before.generation if before is not None and not remade else self.run
        if why:
            return self._all(why, plan, fixed, driving, generation, keep=not remade)
        driving = [self._leaf(leaf.name) for leaf in driving] if self.reached else driving
        nothing = Work("none", "nothing changed: " + ", ".join(map(str, (*fixed, *driving))))
        judges = self.segment.node in self._judged() and self.plan.looks_at_the_clock(self.segment.node)
        if judges and self.judge_again:
            nothing = Work("judge", CLOCK)
        if not any(leaf.is_news for leaf in driving):
            return nothing
        reused = self._units(driving, keep=True, anew=False)
        new, gone = self._difference(driving, reused)
        if not gone and not any(new.values()):
            return nothing
        if (waits := self._waits(fixed, driving, anew=False)) is not None:
            return waits
        if self.bound.is_set:
            driving = [self._bounded(leaf) for leaf in driving]
            reused = self._units(driving, keep=True, anew=False)
            new, gone = self._difference(driving, reused)
        said = "; ".join([*news, *(str(leaf) for leaf in driving if leaf.is_news or self._moved(leaf, reused))])
        left = sum(len(leaf.left) for leaf in driving)
        info = self._info(plan, fixed, driving, reused, generation, anew=False)
        return replace(self._changed(said, self._reading(driving, new), gone, reused, driving, info), left=left)

    def _reach(self, fixed: list[Leaf], driving: list[Leaf], news: int) -> bool:
        """Find the files whose rows are reached by what changed beside them; whether that can be told, and is all the news."""
        changed = [leaf for leaf in fixed if leaf.is_news]
        uses = [Use(*use) for use in self.strategy.reached]
        if any(leaf.snapshot.commit is not None for leaf in (*changed, *driving)):
            return False  # the data files of a dataset are written anew for other reasons too
        if len(changed) < news or not {leaf.name for leaf in changed} <= {use.leaf for use in uses}:
            return False
        assert self.before is not None
        moved: dict[str, Moved] = {}
        for leaf in changed:
            if leaf.changes is None or leaf.changes.position is not None:
                return False
            moved[leaf.name] = Moved.of(leaf.snapshot, leaf.changes, leaf.rejudged)
        units = self._units(driving, keep=True, anew=False)
        new, _ = self._difference(driving, units)
        stay = {n.name: tuple(f for f in n.snapshot.files if f.uri not in new[n.name]) for n in driving}
        found = Reaching(self.plan, self.look).touched(uses, moved, stay, self.before.extents)
        if found is None:
            return False
        # an entry for each, so that something is known even where nothing is reached
        self.reached = {n.name: found.get(n.name, frozenset()) for n in driving}
        return True

    def part(self, needs: Mapping[str, Units] | None, *, judged: bool) -> Work:
        """Return the work of reading what is needed, and with gates what these have not judged yet; or all, where that must be."""
        fixed = [self._leaf(n) for n in self.strategy.fixed] if judged else []
        driving = [self._leaf(n) for n in self.strategy.driving]
        kept = needs is not None and judged and self._follows(fixed, driving)
        units = self._units(driving, keep=kept, anew=not kept)
        if needs is not None and (kept or not judged):
            units = {n: self._renewed(of, needs[n], judged=judged) for n, of in units.items()}
        plan = self.plan.fingerprints()[self.segment.node]
        info = self._info(plan, fixed, driving, units, self.run, anew=not kept) if judged else {}
        if needs is None or not kept:
            kind: Literal["all", "units"] = "all" if needs is None or judged else "units"
            return Work(kind, "", self._reading(driving, units), hashed=self.strategy.hashed, info=info)
        new, gone = self._difference(driving, units)
        if any(leaf.tagged and not needs[leaf.name].wanted <= {*new[leaf.name].values()} for leaf in driving):
            return self.part(None, judged=True)  # these rows were judged under the very unit that they have now
        return self._changed("", self._reading(driving, new), gone, units, driving, info)

    def _follows(self, fixed: list[Leaf], driving: list[Leaf]) -> bool:
        """Whether rows that were judged before would be judged in the same way now."""
        if self.before is None or self.before.layout != self._layout():
            return False
        if not self.plan.fingerprints()[self.segment.node].changes(self.before.fingerprint).same:
            return False
        news = any(n.is_news for n in fixed) or any(n.changes is None or self._is_remade(n) for n in driving)
        return not news and not any(self.plan.looks_at_the_clock(n) for n in self._judged())

    def _renewed(self, units: dict[str, int], needs: Units, *, judged: bool) -> dict[str, int]:
        """Return the units of files, where those that are read again get others; without gates, of just these."""
        if needs.wanted:
            return {f: u for f, u in units.items() if judged or u in needs.wanted}
        again = {f: unit_of(f, self.run) for f in units if f in needs.files}
        return {**units, **again} if judged else again

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
            groups=self.strategy.keys,
            leaving=tuple(f for f in before.figures if not gone.isdisjoint(f.units)),
            hashed=self.strategy.hashed,
            keys={k: tuple(f for f in files if not live.isdisjoint(f.units)) for k, files in before.keys.items()},
            known=self._readable(driving, units),
            info=info,
        )

    def _is_renamed(self, before: Before, leaves: set[str]) -> bool:
        return before.state.sources.keys() != leaves or not before.tallies.keys() <= self._judged()

    def _clock_makes_anew(self, driving: list[Leaf]) -> bool:
        """Whether rules about the clock decide over more than what is said of the rows that are there.

        Those of the output's own gate can be judged by its rows, if these are all that the gate saw. With rows that are new it is
        no matter what was counted before only of what is measured of all rows.
        """
        watching = {n for n in self._judged() if self.plan.looks_at_the_clock(n)}
        if not watching:
            return False
        node = self.plan.nodes[self.segment.node]
        if watching != {node.name} or not all(map(_judges_alone, node.checks)):
            return True
        news = any(leaf.is_news for leaf in driving)
        return news and any(c.measure is None for c in self.plan.clock_rules(node.name))

    def _judged(self) -> set[str]:
        """Return the nodes whose gates judge in a run for this output: also those of what is kept for that run only."""
        kept = {s.node: s for s in self.plan.segments if s.output is None}
        found, left = set[str](), [self.segment]
        while left:
            segment = left.pop()
            found.update(segment.nodes)
            left += [kept[n] for n in segment.reads if n in kept]
        return found

    def _moved(self, leaf: Leaf, units: Mapping[str, Mapping[str, int]]) -> bool:
        assert self.before is not None
        return {*units[leaf.name].values()} != {*self.before.units[leaf.name]}

    def _all(
        self,
        why: str,
        plan: Fingerprint,
        fixed: list[Leaf],
        driving: list[Leaf],
        generation: str,
        *,
        keep: bool,
    ) -> Work:
        """Return the work where all is made anew; files that are as they were ``keep`` their units if these still say something."""
        if (waits := self._waits(fixed, driving, anew=True)) is not None:
            return waits
        driving = [self._bounded(leaf, anew=True, again=why == CLOCK) for leaf in driving]
        units = self._units(driving, keep=keep, anew=True)
        leaves = (*fixed, *driving)
        ignored = {leaf.name: len(leaf.changes.ignored) for leaf in leaves if leaf.changes and leaf.changes.ignored}
        said = [leaf.snapshot.awaited for leaf in leaves if leaf.snapshot.awaited and leaf.snapshot.awaited not in why]
        said += [
            f"{n}: what {k:,} ignored file{'s' * (k > 1)} held is not kept, as all is made anew"
            for n, k in ignored.items()
        ]
        left = {leaf.name: len(leaf.left) for leaf in driving if leaf.left}
        said += [f"{n}: {_left(k)}" for n, k in left.items()]
        info = self._info(plan, fixed, driving, units, generation, anew=True)
        return Work(
            "all",
            "; ".join([why, *said]),
            self._reading(driving, units),
            cut=self.strategy.cut,
            groups=self.strategy.keys,
            hashed=self.strategy.hashed,
            info=info,
            left=sum(left.values()),
        )

    def _waits(self, fixed: list[Leaf], driving: list[Leaf], *, anew: bool) -> Work | None:
        """Return what is waited for, if work cannot begin: what is read in whole must be there in whole."""
        waits = [n for n in fixed if n.waits(anew=True)] + [n for n in driving if n.waits(anew=anew)]
        return Work("wait", waits[0].snapshot.awaited) if waits else None

    # leaves

    def _leaf(self, name: str, without: Sequence[FileInfo] = ()) -> Leaf:
        """Return what is there of a source or output, and what was consumed of it; ``without`` files that are left for later."""
        published = name not in self.segment.nodes and any(o.stage == name for o in self._outputs())
        source = None if published else self.plan.nodes[name].source
        before = None if self.before is None else self.before.state.sources.get(name)
        if source is not None:
            snapshot, options, redact = self.look(name), source.reader.storage_options, source.redact
            uri = source.patterns[0]
        else:
            output = next(o for o in self._outputs() if o.stage == name)
            dataset = Dataset(output.to, output.storage_options)
            commit = dataset.latest()
            assert commit is not None, f"{name} was published"
            snapshot, options, redact = (
                Snapshot(dataset.files(commit), commit),
                dataset.storage_options,
                self.plan.redact,
            )
            uri = output.to
        left = frozenset(f.uri for f in without)
        if left:
            files = tuple(f for f in snapshot.files if f.uri not in left)
            snapshot = replace(snapshot, files=files, waiting=(*snapshot.waiting, *without))
        if snapshot.commit is not None:
            return replace(self._dataset_leaf(name, snapshot, before, redact(uri), source), left=left)
        intake = self._intake(source)
        text = source is not None and source.is_text and not any(_is_packed(f.uri) for f in snapshot.files)
        hashing = self._hasher(options)
        found = compare(
            before,
            snapshot,
            hasher=hashing,
            detect=intake.detect,
            prefix=prefix_hasher(options) if text else None,
            name=redact if redact.secrets else None,
            waiting=[f.uri for f in snapshot.waiting],
            # where there may be many new files, of which few are taken, none is hashed for that alone
            tell=self.judge_again and not self.bound.is_set,
        )
        changes = allowed(found, on_removed=intake.on_removed, on_modified=intake.on_modified, source=name)

        def consume() -> Consumed:
            return replace(found, waiting=()).consumed(
                listed=self.listed,
                hasher=hashing,  # whoever reads a file that cannot be read will say so
                wanted=lambda f: intake.detect == "content" or self._is_racy(f.stamp),
            )

        if before is None:
            return Leaf(name, snapshot, consume, None, None, left=left)
        return Leaf(
            name,
            snapshot,
            consume,
            found,
            changes,
            left=left,
            rejudged=self._rejudged(name, snapshot, before, changes),
            reached=self.reached.get(name, frozenset()),
        )

    def _rejudged(self, name: str, snapshot: Snapshot, before: Consumed, changes: Changes) -> frozenset[str]:
        """Return the files that are as they were, and whose rows came under another watermark."""
        assert self.before is not None
        said = by_name(before, self.before.arrivals.get(name))
        moved = {m.now.uri: m.before.uri for m in changes.moved}
        found = rejudged(snapshot, said, changes.name or str, moved)
        ignored = {f.uri for f in changes.ignored}
        changed = {f.uri for f in (*changes.modified, *changes.truncated)} | {g.file.uri for g in changes.grown}
        return frozenset(u for u in found - changed if (changes.name or str)(u) not in ignored)

    def _intake(self, source: BoundSource | None) -> Intake:
        """Return what a source says of files that change or go."""
        return Intake() if source is None else source.intake

    def _hasher(self, options: Mapping[str, Any]) -> Callable[[FileInfo], str]:
        """Return what hashes the files of one storage, each once in a run."""
        plain = hasher(options)

        def hashed(file: FileInfo) -> str:
            if file not in self.hashes:
                self.hashes[file] = plain(file)
            return self.hashes[file]

        return hashed

    def _outputs(self) -> list[Any]:
        return [
            o
            for s in self.plan.segments
            if s.output is not None and s.nodes and (o := self.plan.outputs[s.output]).format == "dataset"
        ]

    def _dataset_leaf(
        self, name: str, snapshot: Snapshot, before: Consumed | None, uri: str, source: BoundSource | None
    ) -> Leaf:
        commit = snapshot.commit
        assert commit is not None
        said = commit.info.get(CONSUMED, {})
        # what a reader cannot see from files: rows that were taken out of them, and by which plan they were made
        at = {"gone": digest(sorted(commit.gone)), "generation": said.get("generation", "")}
        if source is not None:
            at["plan"] = digest(said.get("fingerprint"))
        consumed = replace(Consumed.of(snapshot, uri=uri), at=at)
        if before is None:
            return Leaf(name, snapshot, lambda: consumed, None, None, tagged=commit.tagged)
        found = compare(replace(before, at=NOTHING), snapshot, hasher=hasher(), name=self.plan.redact)
        if found.nothing and dict(before.at) != at:
            found = replace(found, position=(before.at, at))
        intake = self._intake(source)
        changes = allowed(found, on_removed=intake.on_removed, on_modified=intake.on_modified, source=name)
        return Leaf(
            name,
            snapshot,
            lambda: consumed,
            found,
            changes,
            tagged=commit.tagged,
            keeps_gone=intake.on_removed == "ignore",
        )

    # how much of it

    def _bounded(self, leaf: Leaf, *, anew: bool = False, again: bool = False) -> Leaf:
        """Return a leaf with as much of what is new as this run may take, the first of it at least.

        Where all is made ``anew`` nothing has been taken yet; unless that is done ``again`` with all that was consumed.
        """
        if not self.bound.is_set:
            return leaf
        if leaf.tagged:
            return self._bounded_units(leaf, anew=anew and not again)
        new: Sequence[FileInfo] = leaf.snapshot.files
        if leaf.changes is not None and (again or not anew):
            came = {f.uri for f in leaf.changes.added}
            if not again:  # what was changed is read as it is then
                came.update(f.uri for f in (*leaf.changes.modified, *leaf.changes.truncated))
                came.update(g.file.uri for g in leaf.changes.grown)
            new = [f for f in new if f.uri in came]
        rest = new[self.bound.first(new, lambda f: f.size, partial(self._rows, leaf)) :]
        return self._leaf(leaf.name, rest) if rest else leaf

    def _rows(self, leaf: Leaf, file: FileInfo) -> int:
        """Count the rows of a file; one that cannot be read has none: whoever reads it will say so."""
        commit = leaf.snapshot.commit
        if commit is not None:
            return dict(zip(leaf.snapshot.files, commit.files, strict=True))[file].rows
        source = self.plan.nodes[leaf.name].source
        assert source is not None
        return source.count(file)

    def _bounded_units(self, leaf: Leaf, *, anew: bool) -> Leaf:
        """Return a dataset's leaf without the units that are left for later, oldest first; their files are not consumed then."""
        commit = leaf.snapshot.commit
        assert commit is not None
        known = frozenset(self.before.units.get(leaf.name, ())) if self.before is not None and not anew else frozenset()
        said: Mapping[str, Sequence[int]] = commit.info.get(CONSUMED, {}).get("units", {})
        order = {unit: place for place, unit in enumerate(u for of in said.values() for u in of)}
        rows: dict[int, int] = {}
        size: dict[int, int] = {}
        for file in commit.files:
            for unit, count in sorted(file.units.items(), key=lambda pair: order.get(pair[0], -1)):
                if unit not in commit.gone and unit not in known:
                    rows[unit] = rows.get(unit, 0) + count
                    size[unit] = size.get(unit, 0) + file.bytes * count // file.rows
        new = [*rows]
        left = frozenset(new[self.bound.first(new, size.__getitem__, rows.__getitem__) :])
        if not left:
            return leaf
        consumed = leaf.consumed
        pairs = zip(commit.files, consumed.files, strict=True)
        kept = tuple(said for file, said in pairs if left.isdisjoint(file.units))
        return replace(leaf, left=left, consume=lambda: replace(consumed, files=kept))

    def _is_racy(self, stamp: str | None) -> bool:
        """Whether a file may be written again without its stamp telling."""
        moment = moment_of(stamp)
        return stamp is None or (moment is not None and moment >= self.listed - RACY)

    # units

    def _is_remade(self, leaf: Leaf) -> bool:
        """Whether an output's rows are others than they were, unit by unit: then its units say nothing."""
        if self.before is None or not leaf.tagged:
            return False
        was = dict(self.before.state.sources[leaf.name].at)
        return any(was.get(k) != v for k, v in leaf.consumed.at.items() if k != "gone")

    def _units(self, driving: list[Leaf], *, keep: bool, anew: bool) -> dict[str, dict[str, int]]:
        """Return the unit of each file of each leaf; of tagged datasets, the units by themselves.

        Unless all is made ``anew``, the units of files that are ignored, or wait, are among them.
        """
        found: dict[str, dict[str, int]] = {}
        for leaf in driving:
            if leaf.tagged:
                assert leaf.snapshot.commit is not None
                there = leaf.snapshot.commit.units.difference(leaf.left)
                if leaf.keeps_gone and not anew:
                    assert self.before is not None
                    there = there.union(self.before.units[leaf.name])
                found[leaf.name] = {str(u): u for u in sorted(there)}
                continue
            known = self._known(leaf, leaf.found if anew else leaf.changes) if keep else {}
            found[leaf.name] = {f.uri: known.get(f.uri) or unit_of(f.uri, self.run) for f in leaf.snapshot.files}
            if not anew:
                found[leaf.name] |= self._held(leaf)
        return found

    def _was(self, leaf: Leaf) -> dict[str, int]:
        """Return the unit that each file had."""
        assert self.before is not None
        files = self.before.state.sources[leaf.name].files
        return {f.uri: unit for f, unit in zip(files, self.before.units[leaf.name], strict=True)}

    def _held(self, leaf: Leaf) -> dict[str, int]:
        """Return the units of files that are not there, or not to be read, and stay as they were."""
        assert leaf.changes is not None
        name = leaf.changes.name or str
        there = {name(f.uri) for f in leaf.snapshot.files}
        units = self._was(leaf)
        return {f.uri: units[f.uri] for f in leaf.held if f.uri not in there}

    def _known(self, leaf: Leaf, changes: Changes | None) -> dict[str, int]:
        """Return the unit of each file that is as it was."""
        if self.before is None or changes is None or leaf.name not in self.before.units:
            return {}
        name, units = changes.name or str, self._was(leaf)
        changed = {f.uri for f in (*changes.modified, *changes.truncated)}
        changed |= {g.file.uri for g in changes.grown} | leaf.rejudged | leaf.reached
        known = {
            f.uri: units[name(f.uri)] for f in leaf.snapshot.files if name(f.uri) in units and f.uri not in changed
        }
        return known | {m.now.uri: units[m.before.uri] for m in changes.moved if m.now.uri not in changed}

    def _difference(
        self, driving: list[Leaf], units: Mapping[str, dict[str, int]]
    ) -> tuple[dict[str, dict[str, int]], frozenset[int]]:
        """Return what is new of each leaf, and the units that are gone."""
        assert self.before is not None
        was = {leaf.name: {*self.before.units[leaf.name]} for leaf in driving}
        new = {n: {f: u for f, u in of.items() if u not in was[n]} for n, of in units.items()}
        gone = frozenset(u for n, of in units.items() for u in was[n].difference(of.values()))
        return new, gone

    def _reading(self, driving: list[Leaf], units: Mapping[str, dict[str, int]]) -> dict[str, Units]:
        """Return what is read of each leaf; files are numbered where no rows come with their units."""
        late = not any(leaf.tagged for leaf in driving)
        found, first = {}, 0
        for leaf in driving:
            of = units[leaf.name]
            if leaf.tagged:
                found[leaf.name] = Units(wanted=frozenset(of.values()))
            else:
                found[leaf.name] = Units(of, first=first if late else None)
                first += len(of)
        return found

    def _readable(self, driving: list[Leaf], units: Mapping[str, dict[str, int]]) -> dict[str, Units]:
        """Return where all units are that can be read again: not those of files that are gone, or others now."""
        there = {}
        for leaf in driving:
            held = set(self._was_held(leaf))
            of = {f: u for f, u in units[leaf.name].items() if u not in held}
            if leaf.tagged:
                assert leaf.snapshot.commit is not None
                of = {f: u for f, u in of.items() if u in leaf.snapshot.commit.units}
            there[leaf.name] = of
        return self._reading(driving, there)

    def _was_held(self, leaf: Leaf) -> list[int]:
        if leaf.tagged or not leaf.held:
            return []
        units = self._was(leaf)
        return [units[f.uri] for f in leaf.held]

    # what the next commit says

    def _layout(self) -> str:
        by = () if self.segment.output is None else self.plan.outputs[self.segment.output].partition_by
        prints = self.plan.fingerprints()
        nodes = self.plan.nodes
        closing = [n for n in self.segment.nodes if closes(nodes[n]) is not None]
        waited = [[n, s.watermark.closing] for c in closing for n, s in waited_for(nodes, c).items() if s.watermark]
        rules = [prints[n].gate for n in self.segment.nodes]
        # hashes are those of one version of Polars
        kept = (*map(list, self.strategy.hashed), pl.__version__) if self.strategy.hashed else ()
        more = (*([waited] if waited else []), *kept)
        return digest(by, self.strategy.kind, self.strategy.cut, rules, *more)

    def _info(
        self,
        plan: Fingerprint,
        fixed: list[Leaf],
        driving: list[Leaf],
        units: Mapping[str, dict[str, int]],
        generation: str,
        *,
        anew: bool,
    ) -> dict[str, Any]:
        state = State({n.name: n.consumed if anew else n.consumed_and_held for n in (*fixed, *driving)})
        arrivals = {n.name: of for n in (*fixed, *driving) if (of := self._arrivals(n, state, anew=anew)) is not None}
        return {
            **state.to_dict(),
            **({ARRIVALS: arrivals} if arrivals else {}),
            **self._extents(fixed, state, anew=anew),
            "fingerprint": plan.to_dict(),
            "layout": self._layout(),
            "generation": generation,
            "units": {n: [*of.values()] for n, of in units.items()},
        }

    def _extents(self, fixed: list[Leaf], state: State, *, anew: bool) -> dict[str, Any]:
        """Return what is known of where the files lie that reach rows of others; the rest is added once the run has read them."""
        if not self.strategy.reached:
            return {}
        said: dict[str, dict[str, Extent]] = {}
        for use in (Use(*use) for use in self.strategy.reached):
            leaf = next(n for n in fixed if n.name == use.leaf)
            known = NOTHING if anew or self.before is None else self.before.extents.get(use.key, NOTHING)
            if leaf.changes is not None:
                changed = Moved.of(leaf.snapshot, leaf.changes, leaf.rejudged).names
                known = {n: e for n, e in known.items() if n not in changed}
                known |= {m.now.uri: known[m.before.uri] for m in leaf.changes.moved if m.before.uri in known}
            there = {f.uri for f in state.sources[use.leaf].files}
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


def _judges_alone(check: Check) -> bool:
    """Whether a check leaves all rows as they are, and looks at no others."""
    frames = () if check.measure is None else (*check.measure.frames, *([PREVIOUS] if check.measure.history else []))
    return not (check.removes_rows or check.repair is not None or check.reference is not None or frames)


def _is_packed(uri: str) -> bool:
    return (uris.protocol(uri) != "" and "::" in uri) or uri.endswith((".gz", ".zst"))


def with_hashes(info: Mapping[str, Any], known: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return what a commit says of its inputs with the hashes of files that became known meanwhile, per source.

    So that a file which is only touched, moved or delivered again is known for what it is the next time.
    """
    sources = dict(info["sources"])
    for name, hashes in known.items():
        if name in sources and hashes:
            consumed = Consumed.from_dict(sources[name])
            files = tuple(f._replace(blake3=f.blake3 or hashes.get(f.uri)) for f in consumed.files)
            sources[name] = replace(consumed, files=files).to_dict()
    return {**info, "sources": sources}
