"""What a change in lookup tables affects: the units that contain keys whose rows there have changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from lazypipe.compile.changes.strategy import Side, Strategy
from lazypipe.gates.uniqueness import HASH
from lazypipe.incremental.before import Before
from lazypipe.incremental.leaf import Leaf
from lazypipe.incremental.numbering import Numbering
from lazypipe.incremental.sides import DIGESTS, KEYS, Digests, differing, has_repeats
from lazypipe.incremental.work import Work
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.units import UNIT

__all__ = ["Touched", "Touching", "followed"]


@dataclass(frozen=True)
class Touched:
    """What changes in other sides touch: ``units`` to be made again, and what is ``said`` of them; or what is ``against`` that.

    ``digests`` are what those sides hold of each key by now, ``turned`` the hashed keys that groups look up and whose rows are others now.
    """

    against: str = ""
    said: tuple[str, ...] = ()
    units: frozenset[int] = frozenset()
    digests: Mapping[Side, pl.DataFrame] = field(default_factory=dict)
    turned: Mapping[Side, pl.Series] = field(default_factory=dict)


def followed(strategy: Strategy, fixed: Sequence[Leaf]) -> tuple[Side, ...]:
    """Return the lookups for which it is known what rows were joined with: not those with files that are ignored, or wait."""
    held = {leaf.name for leaf in fixed if leaf.held}
    return tuple(s for s in (*strategy.sides, *strategy.grouped) if held.isdisjoint(s.leaves))


@dataclass(frozen=True)
class Touching:
    """Finds what changes in other sides touch of one output, by what is kept in the files ``beside`` it."""

    strategy: Strategy
    before: Before
    numbering: Numbering
    digests: Digests
    beside: Dataset

    def touched(self, turned: Sequence[Leaf], driving: list[Leaf]) -> Touched:
        """Return what is touched by changes in sources and outputs that have ``turned`` into others."""
        names = {leaf.name for leaf in turned}
        changed: dict[Side, int] = {}
        units: dict[Side, frozenset[int]] = {}
        digests: dict[Side, pl.DataFrame] = {}
        groups: dict[Side, pl.Series] = {}
        news = "; ".join(map(str, turned))
        for side in (*self.strategy.sides, *self.strategy.grouped):
            if names.isdisjoint(side.leaves):
                continue
            if side.key not in self.before.digests or (
                side in self.strategy.sides and side.key not in self.before.keys
            ):
                return Touched(f"{news}; the keys of {side.match.other} were not stored")
            try:
                now = digests[side] = self.digests.of(side)
                hashes = differing(self._kept(self.before.digests[side.key], DIGESTS), now)
                if side in self.strategy.sides:
                    units[side] = self._holding(side, hashes)
                else:
                    groups[side] = hashes
            except (Exception, pl.exceptions.PanicException):  # what is wrong is reported when all of it is read
                return Touched(f"{news}; the keys of {side.match.other} cannot be compared")
            if side.match.unique and has_repeats(now):
                return Touched(f"{news}; keys of {side.match.other} are not unique")
            changed[side] = len(hashes)
        reused = self.numbering.units(driving, keep=True, anew=False) if turned else {}
        there = frozenset(u for of in reused.values() for u in of.values())
        again = there & {u for of in units.values() for u in of}
        said = tuple(self._said(leaf, driving, changed, units, there) for leaf in turned)
        if 2 * len(again) > len(there):
            return Touched(f"{'; '.join(said)}, more than half: everything is rebuilt")
        readable = self.numbering.readable(driving, reused) if again else {}
        if not again <= {u for of in readable.values() for u in of.here}:
            return Touched(f"{'; '.join(said)}, some of which cannot be read again one by one")
        return Touched("", said, again, digests, groups)

    def keeping(self, work: Work, fixed: Sequence[Leaf], touched: Touched) -> Work:
        """Return the work of reading some units, which goes on with what is kept of other sides."""
        keeping = tuple(s for s in followed(self.strategy, fixed) if s.key in self.before.digests)
        told = {s: self.before.digests[s.key] for s in keeping if s not in touched.digests}
        return replace(work, keeping=keeping, told=told, digests=touched.digests, turned=touched.turned)

    def _said(
        self,
        leaf: Leaf,
        driving: Sequence[Leaf],
        changed: Mapping[Side, int],
        units: Mapping[Side, frozenset[int]],
        there: frozenset[int],
    ) -> str:
        """Say what has changed, and how much of the driving ones that touches."""
        of = [side for side in changed if leaf.name in side.leaves]
        keys, met = sum(changed[s] for s in of), there & {u for s in of for u in units.get(s, ())}
        told = f" ({keys:,} key{'s' * (keys != 1)} changed)" if of else ""
        among = []
        if any(s in units for s in of):
            among.append(f"{len(met):,} of {len(there):,} files of {', '.join(n.name for n in driving)}")
        if leaf.name in self.strategy.behind:
            among.append("everything computed from the partial aggregates")
        elif any(s not in units for s in of):
            among.append("groups that use them")
        return f"{leaf}{told}: {', and '.join(among)}"

    def _holding(self, side: Side, hashes: pl.Series) -> frozenset[int]:
        """Return the units with rows that have one of some hashed keys."""
        keys = self._kept(self.before.keys[side.key], KEYS, tags=True)
        met = keys.join(hashes.to_frame().lazy(), on=HASH, how="semi").select(pl.col(UNIT).unique())
        return frozenset(met.collect(engine="streaming").to_series())

    def _kept(self, files: Sequence[DataFile], schema: pl.Schema, *, tags: bool = False) -> pl.LazyFrame:
        """Return the rows of files that are kept beside the output."""
        options = self.beside.storage_options
        from lazypipe.storage.datasets.data_files import scan_files

        return scan_files(self.beside.figures, files, schema, (), options, tagged=tags, tags=tags)
