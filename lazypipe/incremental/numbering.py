"""The unit of each file: a number that tells which file a row of an output comes from."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from lazypipe.incremental.before import Before
from lazypipe.incremental.changes import Changes
from lazypipe.incremental.leaf import Leaf
from lazypipe.incremental.parts import Listed, of_file, units_in
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.datasets.units import Units, unit_of
from lazypipe.storage.files import FileInfo, part_key

__all__ = ["Numbering"]


@dataclass(frozen=True)
class Numbering:
    """Gives each file of what an output reads the unit that its rows have; files that are as they were keep theirs.

    ``before`` is what the last commit says, ``run`` the run that gives new ones, ``at`` the segment that it gives them for: what is made
    of a file here and elsewhere in the same run may meet again further down. ``commit`` is the last one.
    """

    before: Before | None
    run: str
    at: str
    commit: Commit | None = None

    @property
    def held(self) -> frozenset[int]:
        """The units that have rows in the last commit's files, or figures beside them; also those whose source files are gone."""
        files = () if self.commit is None else (*self.commit.files, *self.commit.figures)
        return frozenset(u for f in files for u in f.units)

    def new(self, leaf: str, key: str) -> int:
        """Return a unit for a file of a source or output that had none, or is another now."""
        return unit_of(f"{self.at}\0{leaf}\0{key}", self.run)

    def is_remade(self, leaf: Leaf) -> bool:
        """Whether an output's rows are others than they were, unit by unit, or know no units any more: then these say nothing."""
        if self.before is None or not leaf.tagged:
            return self.before is not None and self.before.knew_units(leaf.name)
        was = dict(self.before.state.sources[leaf.name].at)
        return any(was.get(k) != v for k, v in leaf.consumed.at.items() if k != "gone")

    def units(self, driving: list[Leaf], *, keep: bool, anew: bool) -> dict[str, dict[str, int]]:
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
                    there = there.union(self.before.known(leaf.name).difference(leaf.replaced))
                found[leaf.name] = self._tagged(leaf.name, there, found, keep=keep)
                continue
            known = self._known(leaf, leaf.found if anew else leaf.changes, {} if anew else leaf.tails) if keep else {}
            tails = {} if anew else leaf.tails
            of = found[leaf.name] = {}
            for file in leaf.snapshot.files:
                listed = known.get(file.uri)
                if listed is None or (anew and not isinstance(listed, int)):  # what is read at once is one unit
                    of[file.uri] = self.new(leaf.name, file.uri)
                elif isinstance(listed, int) and file.uri not in tails:
                    of[file.uri] = listed
                else:
                    of |= self._parts(leaf.name, file, listed, tails.get(file.uri, ()))
            if not anew:
                of |= self._held(leaf)
        return found

    def _tagged(
        self, leaf: str, there: frozenset[int], found: Mapping[str, Mapping[str, int]], *, keep: bool
    ) -> dict[str, int]:
        """Return the units of an output's rows: their own, unless rows that come another way, or were there before, have the same."""
        kept = self.before if keep else None
        others = {} if kept is None else kept.renamed.get(leaf, {})
        known = frozenset() if kept is None else kept.known(leaf)
        taken = {u for n, of in found.items() if n != leaf for u in of.values()}
        if kept is not None:
            taken.update(u for n, of in kept.units.items() if n != leaf for u in units_in(of))
            # of one that went and comes back, as by a rollback, rows may still be there that nobody reads
            taken |= self.held
        return {
            str(u): self.new(leaf, str(u)) if u in taken and u not in known else others.get(u, u) for u in sorted(there)
        }

    def renewed(self, units: Mapping[str, dict[str, int]], again: Container[int]) -> dict[str, dict[str, int]]:
        """Return the units of files, where those to be made ``again`` get others."""
        return {n: {f: self.new(n, f) if u in again else u for f, u in of.items()} for n, of in units.items()}

    def _parts(self, leaf: str, file: FileInfo, listed: Listed, tail: Sequence[int]) -> dict[str, int]:
        """Return the units of a file that was read in parts, and is read again from the first place of its ``tail`` on, in such parts."""
        if not tail:
            return of_file(file.uri, file.size, listed)
        stay = [pair for pair in ([[0, listed]] if isinstance(listed, int) else listed) if pair[0] < tail[0]]
        keys = [part_key(file.uri, start, end) for start, end in zip(tail, [*tail[1:], file.size], strict=True)]
        return {**of_file(file.uri, tail[0], stay), **{key: self.new(leaf, key) for key in keys}}

    def difference(
        self, driving: list[Leaf], units: Mapping[str, dict[str, int]]
    ) -> tuple[dict[str, dict[str, int]], frozenset[int]]:
        """Return what is new of each leaf, and the units that are gone."""
        assert self.before is not None
        was = {leaf.name: {*units_in(self.before.units[leaf.name])} for leaf in driving}
        new = {n: {f: u for f, u in of.items() if u not in was[n]} for n, of in units.items()}
        gone = frozenset(u for n, of in units.items() for u in was[n].difference(of.values()))
        return new, gone

    def reading(self, driving: list[Leaf], units: Mapping[str, dict[str, int]]) -> dict[str, Units]:
        """Return what is read of each leaf; files are numbered where no rows come with their units."""
        late = not any(leaf.tagged for leaf in driving)
        found, first = {}, 0
        for leaf in driving:
            of = units[leaf.name]
            if leaf.tagged:
                others = {int(u): here for u, here in of.items() if int(u) != here}
                found[leaf.name] = Units(wanted=frozenset(map(int, of)), others=others)
            else:
                found[leaf.name] = Units(of, first=first if late else None)
                first += len(of)
        return found

    def readable(self, driving: list[Leaf], units: Mapping[str, dict[str, int]]) -> dict[str, Units]:
        """Return where all units are that can be read again: not those of files that are gone, or others now."""
        there = {}
        for leaf in driving:
            held = set(self._was_held(leaf))
            of = {f: u for f, u in units[leaf.name].items() if u not in held}
            if leaf.tagged:
                assert leaf.snapshot.commit is not None
                of = {f: u for f, u in of.items() if int(f) in leaf.snapshot.commit.units}
            there[leaf.name] = of
        return self.reading(driving, there)

    def moved(self, leaf: Leaf, units: Mapping[str, Mapping[str, int]]) -> bool:
        """Whether the units of a leaf are others than they were."""
        assert self.before is not None
        return {*units[leaf.name].values()} != {*units_in(self.before.units[leaf.name])}

    def _was(self, leaf: Leaf) -> dict[str, Listed]:
        """Return the unit that each file had, or those of its parts."""
        assert self.before is not None
        files = self.before.state.sources[leaf.name].files
        return {f.uri: unit for f, unit in zip(files, self.before.units[leaf.name], strict=True)}

    def _held(self, leaf: Leaf) -> dict[str, int]:
        """Return the units of files that are not there, or not to be read, and stay as they were."""
        assert leaf.changes is not None
        name = leaf.changes.name or str
        there = {name(f.uri) for f in leaf.snapshot.files}
        units, found = self._was(leaf), dict[str, int]()
        for file in leaf.held:
            if file.uri not in there:
                found |= of_file(file.uri, file.size, units[file.uri])
        return found

    def _was_held(self, leaf: Leaf) -> list[int]:
        if leaf.tagged or not leaf.held:
            return []
        units = self._was(leaf)
        return [*units_in(units[f.uri] for f in leaf.held)]

    def _known(self, leaf: Leaf, changes: Changes | None, tails: Container[str]) -> dict[str, Listed]:
        """Return the units of files that are unchanged, moved or have only grown, or of their parts."""
        if self.before is None or changes is None or leaf.name not in self.before.units:
            return {}
        name, units = changes.name or str, self._was(leaf)
        others = (*changes.modified, *changes.truncated, *(g.file for g in changes.grown))
        changed = {f.uri for f in others if f.uri not in tails} | leaf.rejudged | leaf.reached
        known = {
            f.uri: units[name(f.uri)] for f in leaf.snapshot.files if name(f.uri) in units and f.uri not in changed
        }
        carried = {
            g.file.uri: units[g.was.uri] for g in changes.grown if g.was is not None and g.file.uri not in changed
        }
        return known | carried | {m.now.uri: units[m.before.uri] for m in changes.moved if m.now.uri not in changed}
