"""What a run has to do for an output: nothing, some units, or all; and what its commit will say that it has consumed.

An output's last commit holds what it was made of and by which plan. That is compared with what is there now. Nothing else is
remembered anywhere, so data and state cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import polars as pl

from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.compile.delta import Strategy
from lazypipe.compile.intake import Intake
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.errors import LazypipeError, StorageError
from lazypipe.gates import Check
from lazypipe.gates.rule import PREVIOUS
from lazypipe.gates.tally import Tally, from_columns
from lazypipe.incremental.changes import RACY, Changes, allowed, compare
from lazypipe.incremental.hashing import hasher, prefix_hasher
from lazypipe.incremental.stamps import moment_of
from lazypipe.incremental.state import Consumed, ConsumedFile, State
from lazypipe.plan.fingerprint import Fingerprint, digest
from lazypipe.spec.model import NOTHING
from lazypipe.storage import uri as uris
from lazypipe.storage.dataset import Dataset
from lazypipe.storage.files import FileInfo
from lazypipe.storage.log import Commit, DataFile
from lazypipe.storage.units import Units, unit_of

__all__ = ["CONSUMED", "Work", "consumed_before", "decide", "decide_shared", "with_hashes"]

CONSUMED = "consumed"
"""Where in a commit's ``info`` stands what it has consumed."""

CLOCK = "rules about the clock are judged again"


@dataclass(frozen=True)
class Work:
    """What is to be done for one output, and why.

    ``units`` says per source or output what is read of it, where rows are told apart; ``gone`` are the units that leave.
    ``tallies`` are what gates counted of the units that stay, ``figures`` the files with what was kept of them, where the output
    is made of that (``cut``), ``keys`` those with the hashed keys of their rows, by node and check. ``known`` says of all units, as
    far as they can be read again, where. ``groups`` are the columns that tell groups apart, with their names in the output, where only
    those that a change touches are made anew; ``left`` are the files with the figures of units that are gone. ``info`` is what the next
    commit says of all this. ``commit``, if there is one, and its ``version`` are the output's that it builds upon.

    With ``wait`` nothing is done yet: there is work, and what it needs of a source is not whole. With ``judge`` no row changes, and the
    gate's rules about the clock are judged again.
    """

    kind: Literal["none", "units", "all", "wait", "judge"]
    why: str
    units: Mapping[str, Units] = field(default=NOTHING, repr=False)
    gone: frozenset[int] = frozenset()
    tallies: Mapping[str, Mapping[int, Tally]] = field(default=NOTHING, repr=False)
    figures: tuple[DataFile, ...] = field(default=(), repr=False)
    cut: tuple[str, int] | None = None
    groups: tuple[tuple[str, str], ...] = ()
    left: tuple[DataFile, ...] = field(default=(), repr=False)
    hashed: tuple[tuple[str, str], ...] = ()
    keys: Mapping[tuple[str, str], tuple[DataFile, ...]] = field(default_factory=dict, repr=False)
    known: Mapping[str, Units] = field(default=NOTHING, repr=False)
    info: Mapping[str, Any] = field(default=NOTHING, repr=False)
    version: int | None = None
    commit: Commit | None = field(default=None, repr=False)

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
        return bool(self.units) and self.cut is None

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
class _Leaf:
    """A source or output that is read: what is there now, and what of it was consumed before.

    ``found`` is what has changed, ``changes`` what of that is acted upon. ``consume`` gives what an output that is made anew has
    consumed; what is ignored is not in it, since its rows are not kept then.
    """

    name: str
    snapshot: Snapshot
    consume: Callable[[], Consumed]
    found: Changes | None
    changes: Changes | None
    tagged: bool = False
    keeps_gone: bool = False

    @cached_property
    def consumed(self) -> Consumed:
        return self.consume()

    @property
    def is_news(self) -> bool:
        return self.changes is None or not self.changes.nothing

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
        return ", ".join([f"{self.name}: {told}", *filter(None, [self.snapshot.awaited])])


@dataclass(frozen=True)
class _Before:
    """What the last commit says: the plan, what was consumed, the unit of each file, and since when rows are what they are."""

    fingerprint: Fingerprint
    layout: str
    state: State
    units: Mapping[str, list[int]]
    generation: str
    tallies: Mapping[str, Any]
    figures: tuple[DataFile, ...]
    keys: Mapping[tuple[str, str], tuple[DataFile, ...]]

    @classmethod
    def of(cls, commit: Commit | None, uri: str) -> _Before | None:
        said = None if commit is None else commit.info.get(CONSUMED)
        if commit is None or said is None:
            return None
        state = State.from_dict(said, uri=uri)
        try:
            plan = Fingerprint.from_dict(said["fingerprint"])
            paths = {f.path: f for f in commit.figures}
            keys = {(n, c): tuple(map(paths.pop, names)) for n, c, names in said.get("keys", ())}
            figures = tuple(paths.values())
            return cls(plan, said["layout"], state, said["units"], said["generation"], said["tallies"], figures, keys)
        except (LazypipeError, KeyError, TypeError) as error:
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
    if output.format != "dataset" or output.mode != "replace":
        awaited = [s.awaited for n in _sources(plan, segment) if (s := look(n)).awaited and not s.files]
        return Work("wait", awaited[0]) if awaited else Work("all", strategy.reasons[0])
    commit = Dataset(output.to, output.storage_options).latest()
    before = None if full else _Before.of(commit, plan.redact(output.to))
    known = {} if hashes is None else hashes
    work = _Decision(plan, segment, strategy, commit, before, look, run, listed, known, full=full).work()
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
    before = _Before.of(commit, plan.redact("" if state is None else state.uri))
    known = {} if hashes is None else hashes
    strategy = plan.inner[segment.node]
    decision = _Decision(plan, segment, strategy, commit, before, look, run, listed, known, full=False)
    work = decision.part(needs, judged=state is not None)
    return replace(work, commit=commit, version=0 if commit is None else commit.version)


def consumed_before(plan: CompiledPipeline, source: str) -> tuple[ConsumedFile, ...]:
    """Return the files of a source that outputs of the pipeline were made of, as they were then."""
    found: dict[ConsumedFile, None] = {}
    for output in [o for o in plan.outputs.values() if o.format == "dataset"]:
        with suppress(LazypipeError):  # what is damaged is told when the output is decided upon
            before = _Before.of(Dataset(output.to, output.storage_options).latest(), plan.redact(output.to))
            if before is not None and source in before.state.sources:
                found |= dict.fromkeys(before.state.sources[source].files)
    return tuple(found)


def _sources(plan: CompiledPipeline, segment: Segment) -> list[str]:
    """Return the sources that a segment reads, and those ahead of it whose rows are kept for one run only."""
    inner = [s for s in plan.segments if s.output is None and s.node in segment.reads]
    own = [n for n in (*segment.nodes, *segment.lookups) if plan.nodes[n].source is not None]
    return [*own, *(n for s in inner for n in _sources(plan, s))]


class _Decision:
    def __init__(
        self,
        plan: CompiledPipeline,
        segment: Segment,
        strategy: Strategy,
        commit: Commit | None,
        before: _Before | None,
        look: Callable[[str], Snapshot],
        run: str,
        listed: int,
        hashes: dict[FileInfo, str],
        *,
        full: bool,
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
        self.full = full

    def work(self) -> Work:
        before = self.before
        fixed = [self._leaf(n) for n in self.strategy.fixed]
        driving = [self._leaf(n) for n in self.strategy.driving]
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
        elif news:
            why = "; ".join(news)
        elif self._clock_makes_anew(driving):
            why = CLOCK
        else:
            why = ""
        generation = before.generation if before is not None and not news else self.run
        if why:
            units = self._units(driving, keep=not news, anew=True)
            return self._all(why, plan, fixed, driving, units, generation)
        nothing = Work("none", "nothing changed: " + ", ".join(map(str, (*fixed, *driving))))
        if self.segment.node in self._judged() and self.plan.looks_at_the_clock(self.segment.node):
            nothing = Work("judge", CLOCK)
        if not any(leaf.is_news for leaf in driving):
            return nothing
        reused = self._units(driving, keep=True, anew=False)
        new, gone = self._difference(driving, reused)
        if not gone and not any(new.values()):
            return nothing
        said = "; ".join(str(leaf) for leaf in driving if leaf.is_news or self._moved(leaf, reused))
        if (waits := self._waits(fixed, driving, anew=False)) is not None:
            return waits
        info = self._info(plan, fixed, driving, reused, generation, anew=False)
        return self._changed(said, self._reading(driving, new), gone, reused, driving, info)

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

    def _follows(self, fixed: list[_Leaf], driving: list[_Leaf]) -> bool:
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
        driving: list[_Leaf],
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
            left=tuple(f for f in before.figures if not gone.isdisjoint(f.units)),
            hashed=self.strategy.hashed,
            keys={k: tuple(f for f in files if not live.isdisjoint(f.units)) for k, files in before.keys.items()},
            known=self._readable(driving, units),
            info=info,
        )

    def _clock_makes_anew(self, driving: list[_Leaf]) -> bool:
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

    def _moved(self, leaf: _Leaf, units: Mapping[str, Mapping[str, int]]) -> bool:
        assert self.before is not None
        return {*units[leaf.name].values()} != {*self.before.units[leaf.name]}

    def _all(
        self,
        why: str,
        plan: Fingerprint,
        fixed: list[_Leaf],
        driving: list[_Leaf],
        units: Mapping[str, dict[str, int]],
        generation: str,
    ) -> Work:
        if (waits := self._waits(fixed, driving, anew=True)) is not None:
            return waits
        leaves = (*fixed, *driving)
        ignored = {leaf.name: len(leaf.changes.ignored) for leaf in leaves if leaf.changes and leaf.changes.ignored}
        said = [leaf.snapshot.awaited for leaf in leaves if leaf.snapshot.awaited and leaf.snapshot.awaited not in why]
        said += [
            f"{n}: what {k:,} ignored file{'s' * (k > 1)} held is not kept, as all is made anew"
            for n, k in ignored.items()
        ]
        info = self._info(plan, fixed, driving, units, generation, anew=True)
        return Work(
            "all",
            "; ".join([why, *said]),
            self._reading(driving, units),
            cut=self.strategy.cut,
            groups=self.strategy.keys,
            hashed=self.strategy.hashed,
            info=info,
        )

    def _waits(self, fixed: list[_Leaf], driving: list[_Leaf], *, anew: bool) -> Work | None:
        """Return what is waited for, if work cannot begin: what is read in whole must be there in whole."""
        waits = [n for n in fixed if n.waits(anew=True)] + [n for n in driving if n.waits(anew=anew)]
        return Work("wait", waits[0].snapshot.awaited) if waits else None

    # leaves

    def _leaf(self, name: str) -> _Leaf:
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
        if snapshot.commit is not None:
            return self._dataset_leaf(name, snapshot, before, redact(uri), source)
        intake = Intake() if source is None else source.intake
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
        )
        changes = allowed(found, on_removed=intake.on_removed, on_modified=intake.on_modified, source=name)

        def consume() -> Consumed:
            return replace(found, waiting=()).consumed(
                listed=self.listed,
                hasher=hashing,  # whoever reads a file that cannot be read will say so
                wanted=lambda f: intake.detect == "content" or self._is_racy(f.stamp),
            )

        if before is None:
            return _Leaf(name, snapshot, consume, None, None)
        return _Leaf(name, snapshot, consume, found, changes)

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
    ) -> _Leaf:
        commit = snapshot.commit
        assert commit is not None
        said = commit.info.get(CONSUMED, {})
        # what a reader cannot see from files: rows that were taken out of them, and by which plan they were made
        at = {"gone": digest(sorted(commit.gone)), "generation": said.get("generation", "")}
        if source is not None:
            at["plan"] = digest(said.get("fingerprint"))
        consumed = replace(Consumed.of(snapshot, uri=uri), at=at)
        if before is None:
            return _Leaf(name, snapshot, lambda: consumed, None, None, tagged=commit.tagged)
        found = compare(replace(before, at=NOTHING), snapshot, hasher=hasher(), name=self.plan.redact)
        if found.nothing and dict(before.at) != at:
            found = replace(found, position=(before.at, at))
        intake = Intake() if source is None else source.intake
        changes = allowed(found, on_removed=intake.on_removed, on_modified=intake.on_modified, source=name)
        return _Leaf(
            name,
            snapshot,
            lambda: consumed,
            found,
            changes,
            tagged=commit.tagged,
            keeps_gone=intake.on_removed == "ignore",
        )

    def _is_racy(self, stamp: str | None) -> bool:
        """Whether a file may be written again without its stamp telling."""
        moment = moment_of(stamp)
        return stamp is None or (moment is not None and moment >= self.listed - RACY)

    # units

    def _is_remade(self, leaf: _Leaf) -> bool:
        """Whether an output's rows are others than they were, unit by unit: then its units say nothing."""
        if self.before is None or not leaf.tagged:
            return False
        was = dict(self.before.state.sources[leaf.name].at)
        return any(was.get(k) != v for k, v in leaf.consumed.at.items() if k != "gone")

    def _units(self, driving: list[_Leaf], *, keep: bool, anew: bool) -> dict[str, dict[str, int]]:
        """Return the unit of each file of each leaf; of tagged datasets, the units by themselves.

        Unless all is made ``anew``, the units of files that are ignored, or wait, are among them.
        """
        found: dict[str, dict[str, int]] = {}
        for leaf in driving:
            if leaf.tagged:
                assert leaf.snapshot.commit is not None
                there = leaf.snapshot.commit.units
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

    def _was(self, leaf: _Leaf) -> dict[str, int]:
        """Return the unit that each file had."""
        assert self.before is not None
        files = self.before.state.sources[leaf.name].files
        return {f.uri: unit for f, unit in zip(files, self.before.units[leaf.name], strict=True)}

    def _held(self, leaf: _Leaf) -> dict[str, int]:
        """Return the units of files that are not there, or not to be read, and stay as they were."""
        assert leaf.changes is not None
        name = leaf.changes.name or str
        there = {name(f.uri) for f in leaf.snapshot.files}
        units = self._was(leaf)
        return {f.uri: units[f.uri] for f in leaf.held if f.uri not in there}

    def _known(self, leaf: _Leaf, changes: Changes | None) -> dict[str, int]:
        """Return the unit of each file that is as it was."""
        if self.before is None or changes is None or leaf.name not in self.before.units:
            return {}
        name, units = changes.name or str, self._was(leaf)
        changed = {f.uri for f in (*changes.modified, *changes.truncated)}
        changed |= {g.file.uri for g in changes.grown}
        known = {
            f.uri: units[name(f.uri)] for f in leaf.snapshot.files if name(f.uri) in units and f.uri not in changed
        }
        return known | {m.now.uri: units[m.before.uri] for m in changes.moved}

    def _difference(
        self, driving: list[_Leaf], units: Mapping[str, dict[str, int]]
    ) -> tuple[dict[str, dict[str, int]], frozenset[int]]:
        """Return what is new of each leaf, and the units that are gone."""
        assert self.before is not None
        was = {leaf.name: {*self.before.units[leaf.name]} for leaf in driving}
        new = {n: {f: u for f, u in of.items() if u not in was[n]} for n, of in units.items()}
        gone = frozenset(u for n, of in units.items() for u in was[n].difference(of.values()))
        return new, gone

    def _reading(self, driving: list[_Leaf], units: Mapping[str, dict[str, int]]) -> dict[str, Units]:
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

    def _readable(self, driving: list[_Leaf], units: Mapping[str, dict[str, int]]) -> dict[str, Units]:
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

    def _was_held(self, leaf: _Leaf) -> list[int]:
        if leaf.tagged or not leaf.held:
            return []
        units = self._was(leaf)
        return [units[f.uri] for f in leaf.held]

    # what the next commit says

    def _layout(self) -> str:
        by = () if self.segment.output is None else self.plan.outputs[self.segment.output].partition_by
        prints = self.plan.fingerprints()
        rules = [prints[n].gate for n in self.segment.nodes]
        # hashes are those of one version of Polars
        kept = (*map(list, self.strategy.hashed), pl.__version__) if self.strategy.hashed else ()
        return digest(by, self.strategy.kind, self.strategy.cut, rules, *kept)

    def _info(
        self,
        plan: Fingerprint,
        fixed: list[_Leaf],
        driving: list[_Leaf],
        units: Mapping[str, dict[str, int]],
        generation: str,
        *,
        anew: bool,
    ) -> dict[str, Any]:
        state = State({n.name: n.consumed if anew else n.consumed_and_held for n in (*fixed, *driving)})
        return {
            **state.to_dict(),
            "fingerprint": plan.to_dict(),
            "layout": self._layout(),
            "generation": generation,
            "units": {n: [*of.values()] for n, of in units.items()},
        }


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
