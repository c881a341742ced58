"""Which files hold rows that a changed row on the other side of a join by time may match.

Only the columns that decide it are read: of this side those rows that lie where something changed, of the other side the places of
rows that stay, where the nearest counts. Rows that are gone cannot be read any more: where they lay stands in the
commit, by file, or by unit of a dataset whose rows know theirs. More files than need be may be found, and none less
(docs/decisions/0025, 0039).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import polars as pl

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import Snapshot
from lazypipe.incremental.leaf import Leaf
from lazypipe.spec.model import NOTHING
from lazypipe.spec.scope import Scope, Table
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.units import UNIT, Units
from lazypipe.windows.reach import Extent, Reach

__all__ = ["EXTENTS", "Moved", "Reaching", "Use", "parts", "read_extents"]

EXTENTS = "extents"
"""Where in what a commit has consumed stands, per join and file (or unit) of its other side, where its rows lie."""


class Use(NamedTuple):
    """A source or output that is the other side of a join: its name, the stage and its step."""

    leaf: str
    node: str
    step: int

    @property
    def key(self) -> str:
        """What it is called in a commit."""
        return f"{self.node}.{self.step}"


@dataclass(frozen=True)
class Moved:
    """What changed in a source or output: what ``came``, what of it will ``stay``, and the ``names`` of the files, or units, whose rows went."""

    came: Units
    stay: Units
    names: frozenset[str]

    @classmethod
    def of(cls, leaf: Leaf, known: Collection[str]) -> Moved:
        """Return it of what there is now.

        Files whose rows came under a different watermark went and came. Of a dataset whose rows know their units, these are held against
        those that are ``known`` by their names: its data files are written anew for other reasons too.
        """
        there = parts(leaf.snapshot)
        if leaf.tagged:
            came = frozenset(u for u in there.wanted if str(u) not in known)
            gone = frozenset(known).difference(map(str, there.wanted))
            stay = Units(wanted=there.wanted - came)
            return cls(Units(wanted=came), stay, frozenset() if leaf.keeps_gone else gone)
        changes = leaf.changes
        assert changes is not None
        others = {f.uri for f in (*changes.modified, *changes.truncated)} | {g.file.uri for g in changes.grown}
        others |= leaf.rejudged
        new = others | {f.uri for f in changes.added}
        name = changes.name or str
        return cls(
            Units({f: n for f, n in there.files.items() if f in new}),
            Units({f: n for f, n in there.files.items() if f not in new}),
            frozenset([*map(name, others), *(f.uri for f in changes.removed)]),
        )


def parts(snapshot: Snapshot) -> Units:
    """Return what there is of a source or output: units of a dataset whose rows know theirs, or files, each with a number.

    Examples
    --------
    >>> from lazypipe.storage.files import FileInfo
    >>> parts(Snapshot((FileInfo("a.csv", 1), FileInfo("b.csv", 1)))).files
    {'a.csv': 0, 'b.csv': 1}
    """
    if snapshot.commit is not None and snapshot.commit.tagged:
        return Units(wanted=snapshot.commit.units - snapshot.beyond)
    return Units({f.uri: number for number, f in enumerate(snapshot.files)})


def read_extents(plain: Mapping[str, Any]) -> dict[str, dict[str, Extent]]:
    """Return what a commit says of where files lie: between which places, or nothing of a file without any."""
    return {key: {name: tuple(ends) for name, ends in of.items()} for key, of in plain.items()}


class Reaching:
    """Finds out for the joins by time of one plan which rows may match which others; ``look`` gives the snapshot of a source, or of an output that is read."""

    def __init__(self, plan: CompiledPipeline, look: Callable[[str], Snapshot]) -> None:
        self.plan = plan
        self.look = look
        outputs = [plan.outputs[s.output] for s in plan.segments if s.output is not None]
        self.tables = {o.stage: Dataset(o.to, o.storage_options) for o in outputs if o.format == "dataset"}

    def touched(
        self,
        uses: Sequence[Use],
        changed: Mapping[str, Leaf],
        stay: Mapping[str, Units],
        extents: Mapping[str, Mapping[str, Extent]],
    ) -> frozenset[int] | None:
        """Return the numbers of units with rows that are affected by changes; None if that is not known.

        Parameters
        ----------
        changed
            What there is of the other sides that are others now, by their names.
        stay
            What of this side was read before and is as it was, by source or output, each with its number.
        extents
            Where the files, or units, of the other side lay, by use and name.
        """
        found = set[int]()
        for use in uses:
            if use.leaf not in changed:
                continue
            known = extents.get(use.key, NOTHING)
            change = Moved.of(changed[use.leaf], known.keys())
            if not change.names <= known.keys():
                return None
            found.update(self._reached(use, change, [known[n] for n in change.names if known[n]], stay))
        return frozenset(found)

    def extents(self, use: Use, known: Container[str]) -> dict[str, Extent | tuple[()]]:
        """Return between which places the rows lie of files, or units, of the other side of a join that are not ``known``, by their names.

        Nothing of those without rows.
        """
        source, there = self.plan.nodes[use.leaf].source, parts(self.look(use.leaf))
        redact = self.plan.redact if source is None or use.leaf in self.tables else source.redact
        names = {u: str(u) for u in there.wanted} | {number: redact(f) for f, number in there.files.items()}
        new = {number: name for number, name in names.items() if name not in known}
        if not new:
            return {}
        rows = self._rows(self._other(use), {use.leaf: there.only(new)})
        found = self._reach(use).extents(rows.frame, UNIT)
        return {name: found.get(number, ()) for number, name in new.items()}

    def _reached(self, use: Use, change: Moved, went: Sequence[Extent], stay: Mapping[str, Units]) -> list[int]:
        """Return the numbers of what has rows that are reached."""
        if not any(of.here for of in stay.values()) or not (change.came.here or went):
            return []
        ahead = self._ahead(use, stay)
        other = self._other(use)

        def there(of: Units) -> pl.LazyFrame:
            if not of.here:
                return pl.LazyFrame(schema=self.plan.nodes[other].schema)
            return self._rows(other, {use.leaf: of}).frame

        reach = self._reach(use)
        columns = [*dict.fromkeys([reach.here, *reach.by_here]), UNIT]
        came = there(change.came) if change.came.here else None
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

    def _ahead(self, use: Use, read: Mapping[str, Units]) -> Table:
        """Return the rows of this side as they come to the join, each with its number."""
        node = self.plan.nodes[use.node]
        inputs = {n: self._rows(n, read) for n in node.inputs}
        return node.steps_over(inputs[node.inputs[0]], inputs, 0, use.step)

    def _rows(self, name: str, read: Mapping[str, Units]) -> Table:
        """Return the rows of a node; of some sources and outputs those of some files or units, with their numbers."""
        node = self.plan.nodes[name]
        extra: tuple[str, ...] = (UNIT,) if name in read else ()
        if name in self.tables:  # what an output publishes is read as it is there
            commit = self.look(name).commit
            assert commit is not None
            dataset = self.tables[name]
            frame = dataset.scan_units(commit, read[name]) if extra else dataset.scan(commit)
            return Table(frame, node.schema, extra)
        if node.source is not None:
            frame = node.source.scan(node.source.looked_at(self.look(name)), units=read.get(name))
        else:
            inputs = {n: self._rows(n, read) for n in node.inputs}
            frame, extra = node.lower(inputs), inputs[node.inputs[0]].extra
        # no gate on the way looks into other rows
        return Table(node.good(frame, lambda of: self.plan.frames[of.to], extra), node.schema, extra)
