"""What a run does for one output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import polars as pl

from lazypipe.compile.changes.strategy import Side
from lazypipe.compile.sources.source import Snapshot
from lazypipe.gates.tally import Tally
from lazypipe.incremental.leaf import Came
from lazypipe.incremental.parts import units_in
from lazypipe.spec.model import NOTHING
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.datasets.units import Units

__all__ = ["Work"]


@dataclass(frozen=True)
class Work:
    """What is to be done for one output, and why.

    ``units`` says per source or output what is read of it, where rows are told apart; ``gone`` are the units that leave.
    ``tallies`` are what gates counted of the units that stay, ``figures`` the files with what was kept of them, where the output
    is made of that (``cut``), ``keys`` those with the hashed keys of their rows, by node and check. ``known`` says of all units, as
    far as they can be read again, where. ``groups`` are the columns that tell groups apart, with their names in the output, where only
    those that a change touches are made anew; ``leaving`` are the files with the figures of units that are gone. ``info`` is what the next
    commit says of all this. ``commit``, if there is one, and its ``version`` are the output's that it builds upon.

    With ``reread`` the figures are the groups that stand in each unit, and rows of groups that are touched are read again from the
    units that hold any.

    ``left`` is how many units are there and are left for later runs, because a run may take no more of them (``Bound``). ``came`` are
    the files that are new or others than they were, whether this run takes them or not; ``went`` is how many are gone.

    ``sides`` are the places where rows find those of other sides by keys, of which hashes are noted by unit; for those in ``keeping`` they are
    kept, in ``keys``. What such sides hold of each key is in the files of ``told``, as far as that is as it was; ``digests`` are what
    is known of others by now. With
    ``whole``, all that is made of figures is made anew; otherwise also the groups that look up one of the hashed keys ``turned`` in a side.
    ``older`` are versions of tables that are read instead of their last ones.

    With ``adds``, the rows of what is read are put together with those that are there, as the output's mode says; with ``anew``,
    what is there is left out of that. With ``wait`` nothing is done yet: there is work, and what it needs of a source is not whole. With ``judge`` no
    row changes, and the gate's rules that use the current time are checked again; with ``state`` none does, and the commit says how far event time is by now.
    ``against`` says what in the definition stands against reading less than all of what changed.
    """

    kind: Literal["none", "units", "all", "wait", "judge", "state"]
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
    sides: tuple[Side, ...] = field(default=(), repr=False)
    keeping: tuple[Side, ...] = field(default=(), repr=False)
    told: Mapping[Side, tuple[DataFile, ...]] = field(default_factory=dict, repr=False)
    digests: Mapping[Side, pl.DataFrame] = field(default_factory=dict, repr=False)
    whole: bool = False
    turned: Mapping[Side, pl.Series] = field(default_factory=dict, repr=False)
    known: Mapping[str, Units] = field(default=NOTHING, repr=False)
    info: Mapping[str, Any] = field(default=NOTHING, repr=False)
    version: int | None = None
    commit: Commit | None = field(default=None, repr=False)
    left: int = 0
    came: tuple[Came, ...] = field(default=(), repr=False)
    went: int = 0
    against: tuple[str, ...] = ()
    reread: bool = False
    older: Mapping[str, Snapshot] = field(default=NOTHING, repr=False)
    adds: bool = False
    anew: bool = False

    @property
    def live(self) -> frozenset[int]:
        """All units that the output will be made of."""
        return frozenset(u for of in self.info.get("units", {}).values() for u in units_in(of))

    def again(self, units: frozenset[int]) -> Work | None:
        """Return the work of reading some units again; None if one of them has changed or is gone."""
        reading = {name: of.only(units) for name, of in self.known.items()}
        there = {u for of in reading.values() for u in of.here}
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
