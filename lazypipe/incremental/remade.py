"""Which units of a table were rewritten: an output that only adds rows would add theirs twice.

A unit that went with its file takes no rows along where rows are added, and is no harm. One whose file has another unit by now holds rows
that were added before (docs/decisions/0032-both-sides-of-joins.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from lazypipe.errors import StorageError
from lazypipe.incremental.before import Before
from lazypipe.incremental.parts import units_in
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit

__all__ = ["Origins", "Remade"]


@dataclass(frozen=True)
class Origins:
    """Finds the file that each unit of a table was made of; ``table`` gives the tables that others are made of, by their names."""

    table: Callable[[str], Dataset | None]

    def of(self, commit: Commit) -> dict[int, str]:
        """Return the file of each unit of a commit, as far as it is known."""
        found: dict[int, str] = {}
        before = Before.of(commit, "")
        for name, units in before.units.items() if before is not None else ():
            assert before is not None
            consumed = before.state.sources[name]
            if consumed.kind == "files":
                pairs = zip(units, consumed.files, strict=True)
                found |= {u: f.uri for listed, f in pairs for u in units_in([listed])}
                continue
            below, dataset = dict[int, str](), self.table(name)
            if dataset is not None and consumed.version is not None:
                with suppress(StorageError):  # of a version that is gone nothing is known
                    below = self.of(dataset.log.read(consumed.version))
            named = {here: unit for unit, here in before.renamed.get(name, {}).items()}
            here = {u: named.get(u, u) for u in units_in(units)}
            found |= {u: below[of] for u, of in here.items() if of in below}
        return found


@dataclass(frozen=True)
class Remade:
    """What was rewritten in a table: ``units`` of ``files`` whose rows were added before; ``gone`` are all removed units, with their files.

    ``lost`` are the files of which nothing came in their place. Where it is ``unknown`` what went, any unit that came may be one.
    """

    units: frozenset[int]
    files: tuple[str, ...]
    gone: Mapping[int, str]
    lost: tuple[str, ...] = ()
    unknown: bool = False

    @classmethod
    def of(
        cls, before: Before, name: str, dataset: Dataset, latest: Commit, new: Iterable[int], origins: Origins
    ) -> Remade:
        """Compare what was consumed of a table whose rows know their units with what is there.

        Parameters
        ----------
        before
            What the output that adds rows has consumed.
        name, dataset, latest
            The table, and its last version.
        new
            The units of it that the output has not consumed.
        """
        gone = {u: f for u, f in before.gone.get(name, {}).items() if u not in latest.units}
        lost = before.known(name).difference(latest.units, gone)
        came, unknown, there = frozenset(new), False, dict[int, str]()
        if lost:
            version, then = before.state.sources[name].version, dict[int, str]()
            with suppress(StorageError):
                then = {} if version is None else origins.of(dataset.log.read(version))
            gone |= {u: then[u] for u in lost if u in then}
            unknown = not lost <= gone.keys()
        if gone or unknown:
            there = origins.of(latest)
            unknown = unknown or (bool(gone) and not came <= there.keys())
        was = frozenset(gone.values())
        again = came if unknown else frozenset(u for u in came if there.get(u) in was)
        files = tuple(sorted({there[u] for u in again if u in there}))
        return cls(again, files, gone, tuple(sorted(was.difference(there.values()))), unknown)
