"""What a run has to do for an output: nothing, some units, or all; and what its commit will say that it has consumed.

An output's last commit holds what it was made of and by which plan. That is compared with what is there now. Nothing else is
remembered anywhere, so data and state cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.compile.delta import Strategy
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources import Snapshot
from lazypipe.errors import LazypipeError, SourceError, StorageError
from lazypipe.gates.tally import Tally, from_columns
from lazypipe.incremental.changes import RACY, Changes, compare
from lazypipe.incremental.hashing import hasher, prefix_hasher
from lazypipe.incremental.stamps import moment_of
from lazypipe.incremental.state import Consumed, State
from lazypipe.plan.fingerprint import Fingerprint, digest
from lazypipe.spec.model import NOTHING
from lazypipe.storage import uri as uris
from lazypipe.storage.dataset import Dataset
from lazypipe.storage.log import Commit, DataFile
from lazypipe.storage.units import Units, unit_of

__all__ = ["CONSUMED", "Work", "decide"]

CONSUMED = "consumed"
"""Where in a commit's ``info`` stands what it has consumed."""


@dataclass(frozen=True)
class Work:
    """What is to be done for one output, and why.

    ``units`` says per source or output what is read of it, where rows are told apart; ``gone`` are the units that leave.
    ``tallies`` are what gates counted of the units that stay, ``figures`` the files with what was kept of them, where the output
    is made of that (``cut``). ``info`` is what the next commit says of all this. ``version`` is the output's that it builds upon.
    """

    kind: Literal["none", "units", "all"]
    why: str
    units: Mapping[str, Units] = field(default=NOTHING, repr=False)
    gone: frozenset[int] = frozenset()
    tallies: Mapping[str, Mapping[int, Tally]] = field(default=NOTHING, repr=False)
    figures: tuple[DataFile, ...] = field(default=(), repr=False)
    cut: tuple[str, int] | None = None
    info: Mapping[str, Any] = field(default=NOTHING, repr=False)
    version: int | None = None

    @property
    def live(self) -> frozenset[int]:
        """All units that the output will be made of."""
        return frozenset(u for of in self.info.get("units", {}).values() for u in of)

    @property
    def told_apart(self) -> bool:
        """Whether each row of the output carries its unit."""
        return bool(self.units) and self.cut is None

    @property
    def numbers(self) -> list[int] | None:
        """The unit of each number that rows of files carry on the way; None if they carry their units."""
        if any(u.first is None for u in self.units.values()):
            return None
        return [unit for u in self.units.values() for unit in u.files.values()]


@dataclass(frozen=True)
class _Leaf:
    """A source or output that is read: what is there now, and what of it was consumed before."""

    name: str
    snapshot: Snapshot
    consumed: Consumed
    changes: Changes | None
    tagged: bool

    @property
    def is_news(self) -> bool:
        return self.changes is None or not self.changes.nothing

    def __str__(self) -> str:
        return f"{self.name}: {'never read before' if self.changes is None else self.changes}"


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

    @classmethod
    def of(cls, commit: Commit | None, uri: str) -> _Before | None:
        said = None if commit is None else commit.info.get(CONSUMED)
        if commit is None or said is None:
            return None
        state = State.from_dict(said, uri=uri)
        try:
            plan = Fingerprint.from_dict(said["fingerprint"])
            return cls(plan, said["layout"], state, said["units"], said["generation"], said["tallies"], commit.figures)
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
) -> Work:
    """Say what a run has to do for a segment's output.

    Parameters
    ----------
    look
        Lists a source as it is now.
    listed
        When sources were listed, in nanoseconds since 1970.
    full
        Whether everything is to be made anew, whatever has changed.

    Raises
    ------
    SourceError
        If a source cannot be listed.
    StorageError
        If what was consumed cannot be read, and ``full`` is not asked for.
    """
    assert segment.output is not None
    output = plan.outputs[segment.output]
    strategy = plan.strategies[segment.output]
    if output.format != "dataset" or output.mode != "replace":
        return Work("all", strategy.reasons[0])
    commit = Dataset(output.to, output.storage_options).latest()
    before = None if full else _Before.of(commit, plan.redact(output.to))
    work = _Decision(plan, segment, strategy, commit, before, look, run, listed, full=full).work()
    return replace(work, version=0 if commit is None else commit.version)


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
        self.full = full

    def work(self) -> Work:
        before = self.before
        fixed = [self._leaf(n) for n in self.strategy.fixed]
        driving = [self._leaf(n) for n in self.strategy.driving]
        plan = self.plan.fingerprints()[self.segment.node]
        news = [str(leaf) for leaf in fixed if leaf.is_news]
        news += [f"{n.name}: made anew" for n in driving if n.changes is not None and self._is_remade(n)]
        reused = self._units(driving, keep=not news)
        if before is None:
            why = "made anew, as asked for" if self.full else "nothing was consumed yet"
        elif not (changed := plan.changes(before.fingerprint)).same or before.layout != self._layout():
            why = f"the definition changed: {changed if not changed.same else 'partitions, or rules ahead of it'}"
        elif news:
            why = "; ".join(news)
        elif any(self.plan.looks_at_the_clock(n) for n in self._judged()):
            why = "rules about the clock are judged again"
        else:
            why = ""
        generation = before.generation if before is not None and not news else self.run
        if why:
            return self._all(why, plan, fixed, driving, reused, generation)
        new, gone = self._difference(driving, reused)
        if not gone and not any(new.values()):
            return Work("none", "nothing changed: " + ", ".join(map(str, (*fixed, *driving))))
        said = "; ".join(str(leaf) for leaf in driving if leaf.is_news or self._moved(leaf, reused))
        assert before is not None
        tallies = {n: {u: t for u, t in from_columns(c).items() if u not in gone} for n, c in before.tallies.items()}
        info = self._info(plan, fixed, driving, reused, generation)
        live = {u for of in reused.values() for u in of.values()}
        figures = tuple(f for f in before.figures if not live.isdisjoint(f.units))
        return Work("units", said, self._reading(driving, new), gone, tallies, figures, self.strategy.cut, info)

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
        info = self._info(plan, fixed, driving, units, generation)
        return Work("all", why, self._reading(driving, units), cut=self.strategy.cut, info=info)

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
            return self._dataset_leaf(name, snapshot, before, redact(uri), foreign=source is not None)
        text = source is not None and source.is_text and not any(_is_packed(f.uri) for f in snapshot.files)
        changes = compare(
            before,
            snapshot,
            hasher=hasher(options),
            prefix=prefix_hasher(options) if text else None,
            name=redact if redact.secrets else None,
        )
        hashes = dict(changes.hashes)
        for file in snapshot.files:
            if file.uri not in hashes and self._is_racy(file.stamp):
                with suppress(SourceError):  # whoever reads it will say so
                    hashes[file.uri] = hasher(options)(file)
        consumed = Consumed.of(snapshot, listed=self.listed, hashes=hashes, name=redact if redact.secrets else None)
        return _Leaf(name, snapshot, consumed, None if before is None else changes, tagged=False)

    def _outputs(self) -> list[Any]:
        return [
            o
            for s in self.plan.segments
            if s.output is not None and s.nodes and (o := self.plan.outputs[s.output]).format == "dataset"
        ]

    def _dataset_leaf(
        self, name: str, snapshot: Snapshot, before: Consumed | None, uri: str, *, foreign: bool
    ) -> _Leaf:
        commit = snapshot.commit
        assert commit is not None
        said = commit.info.get(CONSUMED, {})
        # what a reader cannot see from files: rows that were taken out of them, and by which plan they were made
        at = {"gone": digest(sorted(commit.gone)), "generation": said.get("generation", "")}
        if foreign:
            at["plan"] = digest(said.get("fingerprint"))
        consumed = replace(Consumed.of(snapshot, uri=uri), at=at)
        changes = None
        if before is not None:
            changes = compare(replace(before, at=NOTHING), snapshot, hasher=hasher(), name=self.plan.redact)
            if changes.nothing and dict(before.at) != at:
                changes = replace(changes, position=(before.at, at))
        return _Leaf(name, snapshot, consumed, changes, tagged=commit.tagged)

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

    def _units(self, driving: list[_Leaf], *, keep: bool) -> dict[str, dict[str, int]]:
        """Return the unit of each file of each leaf; of tagged datasets, the units by themselves."""
        found: dict[str, dict[str, int]] = {}
        for leaf in driving:
            if leaf.tagged:
                assert leaf.snapshot.commit is not None
                found[leaf.name] = {str(u): u for u in sorted(leaf.snapshot.commit.units)}
                continue
            known = self._known(leaf) if keep else {}
            found[leaf.name] = {f.uri: known.get(f.uri) or unit_of(f.uri, self.run) for f in leaf.snapshot.files}
        return found

    def _known(self, leaf: _Leaf) -> dict[str, int]:
        """Return the unit of each file that is as it was."""
        if self.before is None or leaf.changes is None or leaf.name not in self.before.units:
            return {}
        name = leaf.changes.name or str
        was = self.before.state.sources[leaf.name].files
        units = {f.uri: unit for f, unit in zip(was, self.before.units[leaf.name], strict=True)}
        changed = {f.uri for f in (*leaf.changes.modified, *leaf.changes.truncated)}
        changed |= {g.file.uri for g in leaf.changes.grown}
        known = {
            f.uri: units[name(f.uri)] for f in leaf.snapshot.files if name(f.uri) in units and f.uri not in changed
        }
        return known | {m.now.uri: units[m.before.uri] for m in leaf.changes.moved}

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

    # what the next commit says

    def _layout(self) -> str:
        assert self.segment.output is not None
        by, prints = self.plan.outputs[self.segment.output].partition_by, self.plan.fingerprints()
        return digest(by, self.strategy.kind, self.strategy.cut, [prints[n].gate for n in self.segment.nodes])

    def _info(
        self,
        plan: Fingerprint,
        fixed: list[_Leaf],
        driving: list[_Leaf],
        units: Mapping[str, dict[str, int]],
        generation: str,
    ) -> dict[str, Any]:
        state = State({leaf.name: leaf.consumed for leaf in (*fixed, *driving)})
        return {
            **state.to_dict(),
            "fingerprint": plan.to_dict(),
            "layout": self._layout(),
            "generation": generation,
            "units": {n: [*of.values()] for n, of in units.items()},
        }


def _is_packed(uri: str) -> bool:
    return (uris.protocol(uri) != "" and "::" in uri) or uri.endswith((".gz", ".zst"))
