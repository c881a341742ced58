"""Which files hold rows that may be put beside others, because rows of the other side of a join came or went.

Only the columns that decide it are read: of this side those rows that lie where something changed, of the other side the places of
rows that stay, where the nearest counts. Rows that are gone cannot be read any more: where they lay stands in the
commit, by file. More files than need be may be found, and none less (docs/decisions/0025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import polars as pl

from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.compile.sources import Snapshot
from lazypipe.incremental.changes import Changes
from lazypipe.spec.model import NOTHING
from lazypipe.spec.scope import Scope, Table
from lazypipe.storage.files import FileInfo
from lazypipe.storage.units import UNIT, Units
from lazypipe.windows.reach import Extent, Reach

__all__ = ["EXTENTS", "Moved", "Reaching", "Use", "read_extents"]

EXTENTS = "extents"
"""Where in what a commit has consumed stands, per join and file of its other side, where the file's rows lie."""


class Use(NamedTuple):
    """A source that is the other side of a join: the source, the stage and its step."""

    leaf: str
    node: str
    step: int

    @property
    def key(self) -> str:
        """What it is called in a commit."""
        return f"{self.node}.{self.step}"


@dataclass(frozen=True)
class Moved:
    """What changed in a source: the files that ``came``, those that ``stay``, and the ``names`` of those whose rows went."""

    came: tuple[FileInfo, ...]
    stay: tuple[FileInfo, ...]
    names: frozenset[str]

    @classmethod
    def of(cls, snapshot: Snapshot, changes: Changes, rejudged: frozenset[str]) -> Moved:
        """Return it of what a source holds now; files whose rows came under another watermark went and came."""
        others = (
            {f.uri for f in (*changes.modified, *changes.truncated)} | {g.file.uri for g in changes.grown} | rejudged
        )
        new = others | {f.uri for f in changes.added}
        came = tuple(f for f in snapshot.files if f.uri in new)
        stay = tuple(f for f in snapshot.files if f.uri not in new)
        name = changes.name or str
        return cls(came, stay, frozenset([*map(name, others), *(f.uri for f in changes.removed)]))


def read_extents(plain: Mapping[str, Any]) -> dict[str, dict[str, Extent]]:
    """Return what a commit says of where files lie: between which places, or nothing of a file without any."""
    return {key: {name: tuple(ends) for name, ends in of.items()} for key, of in plain.items()}


class Reaching:
    """The joins of one plan, asked what is beside what."""

    def __init__(self, plan: CompiledPipeline, look: Callable[[str], Snapshot]) -> None:
        self.plan = plan
        self.look = look

    def touched(
        self,
        uses: Sequence[Use],
        moved: Mapping[str, Moved],
        stay: Mapping[str, Sequence[FileInfo]],
        extents: Mapping[str, Mapping[str, Extent]],
    ) -> dict[str, frozenset[str]] | None:
        """Return the files with rows that are reached by what changed, by their sources; None if that cannot be told.

        Parameters
        ----------
        moved
            What changed, by source.
        stay
            The files of this side that were read before and are as they were, by source.
        extents
            Where the files of the other side lay, by use and name.
        """
        files = [(leaf, file) for leaf, of in stay.items() for file in of]
        found: dict[str, set[str]] = {leaf: set() for leaf in stay}
        for use in uses:
            if use.leaf not in moved:
                continue
            change, known = moved[use.leaf], extents.get(use.key, NOTHING)
            if not change.names <= known.keys():
                return None
            for number in self._reached(use, change, [known[n] for n in change.names if known[n]], files):
                leaf, file = files[number]
                found[leaf].add(file.uri)
        return {leaf: frozenset(of) for leaf, of in found.items()}

    def extents(self, use: Use, files: Sequence[FileInfo]) -> dict[str, Extent | tuple[()]]:
        """Return between which places the rows of files lie that are the other side of a join; nothing of one without rows."""
        if not files or self.look(use.leaf).commit is not None:
            return {}
        numbered = Units({f.uri: number for number, f in enumerate(files)})
        rows = self._rows(self._other(use), {use.leaf: files}, {use.leaf: numbered})
        found = self._reach(use).extents(rows.frame, UNIT)
        return {f.uri: found.get(number, ()) for number, f in enumerate(files)}

    def _reached(
        self, use: Use, change: Moved, went: Sequence[Extent], files: Sequence[tuple[str, FileInfo]]
    ) -> list[int]:
        """Return the numbers of the files with rows that are reached."""
        if not files or not (change.came or went):
            return []
        leaves = dict.fromkeys(leaf for leaf, _ in files)
        read = {leaf: [f for of, f in files if of == leaf] for leaf in leaves}
        units = {leaf: Units({f.uri: number for number, (of, f) in enumerate(files) if of == leaf}) for leaf in leaves}
        ahead = self._ahead(use, read, units)
        other = self._other(use)

        def there(of: Sequence[FileInfo]) -> pl.LazyFrame:
            if not of:
                return pl.LazyFrame(schema=self.plan.nodes[other].schema)
            return self._rows(other, {use.leaf: of}, {}).frame

        reach = self._reach(use)
        columns = [*dict.fromkeys([reach.here, *reach.by_here]), UNIT]
        came = there(change.came) if change.came else None
        rows = reach.touched(ahead.frame.select(columns), there(change.stay), came=came, went=went)
        return [*map(int, rows.select(pl.col(UNIT).unique()).collect(engine="streaming").to_series())]

    def _other(self, use: Use) -> str:
        (other,) = self.plan.nodes[use.node].steps[use.step][0].inputs()
        return other

    def _reach(self, use: Use) -> Reach:
        """Return the reach of rows there."""
        node = self.plan.nodes[use.node]
        operation, scope = node.steps[use.step]
        schema = self.plan.nodes[node.inputs[0]].schema if use.step == 0 else node.schemas[use.step - 1]
        found = operation.reach(Table(pl.LazyFrame(schema=schema), schema), self._stubs(scope, node.inputs))
        assert found is not None
        return found

    def _stubs(self, scope: Scope, inputs: Iterable[str]) -> Scope:
        schemas = {n: self.plan.nodes[n].schema for n in inputs}
        return replace(scope, tables={n: Table(pl.LazyFrame(schema=s), s) for n, s in schemas.items()})

    def _ahead(self, use: Use, read: Mapping[str, Sequence[FileInfo]], units: Mapping[str, Units]) -> Table:
        """Return the rows of this side as they come to the join, each with its file's number."""
        node = self.plan.nodes[use.node]
        inputs = {n: self._rows(n, read, units) for n in node.inputs}
        return node.steps_over(inputs[node.inputs[0]], inputs, 0, use.step)

    def _rows(self, name: str, read: Mapping[str, Sequence[FileInfo]], units: Mapping[str, Units]) -> Table:
        """Return the rows of a node; of some sources those of some files, or with their files' numbers."""
        node, extra = self.plan.nodes[name], tuple[str, ...]()
        if node.source is not None:
            snapshot = self.look(name)
            if name in read:
                snapshot = replace(snapshot, files=tuple(read[name]))
            frame = node.source.scan(node.source.looked_at(snapshot), units=units.get(name))
            extra = (UNIT,) if name in units else ()
        else:
            inputs = {n: self._rows(n, read, units) for n in node.inputs}
            frame, extra = node.lower(inputs), inputs[node.inputs[0]].extra
        # no gate on the way looks into other rows
        return Table(node.good(frame, lambda of: self.plan.frames[of.to], extra), node.schema, extra)
