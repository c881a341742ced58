"""The difference between two versions of a pipeline: which stages and columns must be rebuilt, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lazypipe.plan.fingerprint import Changes, Fingerprint
from lazypipe.plan.graph import Lineage
from lazypipe.plan.lineage import Flows

__all__ = ["Affected", "PlanChanges", "plan_changes"]


@dataclass(frozen=True)
class Affected:
    """A source, stage or output whose data, or rules, are others than before; ``reasons`` say of each part why.

    Examples
    --------
    >>> print(Affected("hourly", Changes(columns=("mean_delay",)), ("hourly.mean_delay: its expression changed",)))
    hourly.mean_delay: its expression changed
    """

    name: str
    changes: Changes
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say why, in a line per reason."""
        return "\n".join(self.reasons)


@dataclass(frozen=True)
class PlanChanges:
    """What is another than in the version before.

    ``affected`` are those that were there before, in order; ``added`` are new, ``removed`` gone, and ``renamed`` has new
    name → old name of those that hold the same data as before.

    Examples
    --------
    >>> print(PlanChanges())
    nothing changed
    """

    affected: tuple[Affected, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def same(self) -> bool:
        """Whether every source, stage and output holds the same data, under the same rules, as before."""
        return not (self.affected or self.added or self.removed)

    def of(self, name: str) -> Changes:
        """Return what changed of a source, stage or output that was there before."""
        return next((a.changes for a in self.affected if a.name == name), Changes())

    def __str__(self) -> str:
        """Say what changed and why, line by line."""
        lines = [
            *(str(a) for a in self.affected),
            *(f"{n}: new" for n in self.added),
            *(f"{n}: gone" for n in self.removed),
            *(f"{new}: was called {old}" for new, old in self.renamed),
        ]
        return "\n".join(lines) or "nothing changed"


def plan_changes(
    now: Mapping[str, Fingerprint],
    before: Mapping[str, Fingerprint],
    lineage: Callable[[], Lineage],
    places: Mapping[str, str],
) -> PlanChanges:
    """Compare two versions.

    Parameters
    ----------
    lineage
        Gives the lineage of the version that is now; asked for only if there is something to explain.
    places
        The name of the source or stage that each name stands for.
    """
    gone = {n: f for n, f in before.items() if n not in now}
    new = {n: f for n, f in now.items() if n not in before}
    old = {f.whole: n for n, f in gone.items()}
    renamed = tuple((n, old[f.whole]) for n, f in new.items() if f.whole in old)
    names = dict(renamed)
    changes = {n: f.changes(before[names.get(n, n)]) for n, f in now.items() if n in before or n in names}
    changed = {n: c for n, c in changes.items() if not c.same}
    why = _Reasons(changed, lineage, places)
    return PlanChanges(
        tuple(Affected(n, c, tuple(why.of(n, c))) for n, c in changed.items()),
        tuple(n for n in new if n not in names),
        tuple(n for n in gone if n not in names.values()),
        renamed,
    )


@dataclass
class _Reasons:
    """Says why something changed: for what stands above it, or for itself."""

    changed: Mapping[str, Changes]
    lineage: Callable[[], Lineage]
    places: Mapping[str, str]

    def of(self, name: str, changes: Changes) -> Iterator[str]:
        place = next(p for p in self.lineage().places if p.name == self.places[name])
        above = [n for n in place.lineage.inputs if n != place.name]
        for column in changes.added:
            yield f"{name}.{column}: new"
        for column in changes.removed:
            yield f"{name}.{column}: gone"
        if changes.rows:
            own = "the source changed" if place.kind == "source" else "its filter, join or grouping changed"
            yield f"{name}: {self._because(above, place.lineage.dataset, own)}"
        elif changes.order:
            yield f"{name}: {self._because(above, place.lineage.dataset, 'its order changed')}"
        # with other rows all columns are others; why each is would only say so again
        for column in () if changes.rows else changes.columns:
            own = "it is read in another way" if place.kind == "source" else "its expression changed"
            yield f"{name}.{column}: {self._because(above, place.lineage.columns[column], own)}"
        if changes.gate:
            yield f"{name}: its rules changed"

    def _because(self, above: Sequence[str], flows: Flows, own: str) -> str:
        rows = [n for n in above if self._of(n).rows]
        if rows:
            return f"the rows of {', '.join(rows)} changed"
        columns = {
            f.source for f in flows if f.source.dataset in above and f.source.name in self._of(f.source.dataset).columns
        }
        return f"{', '.join(sorted(f'{c.dataset}.{c.name}' for c in columns))} changed" if columns else own

    def _of(self, name: str) -> Changes:
        return self.changed.get(name, Changes())
