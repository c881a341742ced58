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
    """What a run must do for one output, and why.

    Attributes
    ----------
    kind
        ``none``: nothing. ``units``: some units are added, removed or read again. ``all``: everything is rebuilt. ``wait``: there is work, but
        a source that it needs is incomplete. ``judge``: no row changes, but rules that use the current time are checked again. ``state``:
        no row changes, but the commit records how far event time has advanced.
    why
        The reason, as ``plan`` and ``run`` print it.
    units
        Source or output → the units to read, if each row knows its unit.
    gone
        The units whose rows are removed.
    tallies
        What gates counted for the units that stay.
    figures
        The files with the partial aggregates of these units, if the output is computed from them (``cut``). With ``reread``: the
        files that say which groups each unit contains.
    cut
        The stage and step where the output is split: partial aggregates before it, rows after it.
    groups
        The grouping columns with their names in the output, if only groups that a change affects are rebuilt.
    leaving
        The files with the partial aggregates of units that are gone.
    hashed
        Checks of keys, each as its node and id.
    keys
        Check of keys → the files with the hashed keys of rows.
    sides
        Lookups of other sources and stages by keys, whose hashes are noted for each unit.
    keeping
        Those of them whose hashes are stored, in ``keys``.
    told
        Lookup whose other side has not changed → the files with what it holds for each key.
    digests
        Lookup → what the other side holds for each key now, where it had to be computed.
    whole
        Whether everything computed from partial aggregates is recomputed.
    turned
        Lookup → hashed keys whose rows there have changed: groups that look up one of them are recomputed.
    known
        Source or output → all units that can be read again.
    info
        What the next commit records about all this.
    version, commit
        The version that the work starts from, and its commit if there is one.
    left
        How many units are left for later runs, because of the run's limit (``Bound``).
    came
        The files that are new or have changed, whether or not this run takes them.
    went
        How many files are gone.
    against
        What in the definition prevents reading less than everything that changed.
    reread
        Whether rows of affected groups are read again, from the units that contain any.
    older
        Tables of which an older version is read instead of the last one.
    adds
        Whether the rows are combined with existing ones, as the output's mode says.
    anew
        With ``adds``: whether existing rows are left out of that.
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
        """All units that the output will consist of."""
        return frozenset(u for of in self.info.get("units", {}).values() for u in units_in(of))

    def again(self, units: frozenset[int]) -> Work | None:
        """Return the work that reads some units again; None if one of them has changed or is gone."""
        reading = {name: of.only(units) for name, of in self.known.items()}
        there = {u for of in reading.values() for u in of.here}
        return replace(self, kind="units", units=reading) if units <= there else None

    @property
    def told_apart(self) -> bool:
        """Whether each row of the output has a column with its unit."""
        return bool(self.units) and self.cut is None and not self.adds

    @property
    def adds_units(self) -> bool:
        """Whether rows of some units are added or removed, and all others stay as they are."""
        return self.kind == "units" and self.told_apart

    @property
    def numbers(self) -> list[int] | None:
        """The unit for each file number that rows have while they are processed; None if they have their units at once."""
        if any(u.first is None for u in self.units.values()):
            return None
        return [unit for u in self.units.values() for unit in u.files.values()]
