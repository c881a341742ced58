"""Places indexed for questions: made once, after which each question costs what its answer costs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from lazypipe.errors import LazypipeError, nearest
from lazypipe.plan.lineage import ALL, Column, Edge
from lazypipe.plan.places import Place, Reach, RuleUse

__all__ = ["Index"]


class Index:
    """Column dependencies, indexed by source and by target.

    A column means its values. The column ``*`` of a place means which rows it has: whatever decides over them decides
    over all of its columns, and over the rows of every place that reads it.

    Examples
    --------
    >>> Index(()).places
    {}
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = {p.name: p for p in places}
        self._into: dict[Column, list[Edge]] = {}
        self._out: dict[Column, list[Edge]] = {}
        self._readers: dict[str, list[str]] = {}
        for place in places:
            for edge in place.lineage.edges:
                self._into.setdefault(edge.target, []).append(edge)
                self._out.setdefault(edge.source, []).append(edge)
            for name in place.lineage.inputs:
                self._readers.setdefault(name, []).append(place.name)

    # names

    @cached_property
    def _names(self) -> dict[str, list[Place | Column | RuleUse]]:
        """What each name may mean: whole names, and those without the pipeline's."""
        found: dict[str, list[Place | Column | RuleUse]] = {}

        def add(name: str, item: Place | Column | RuleUse) -> None:
            found.setdefault(name, []).append(item)
            _, slash, rest = name.partition("/")
            if slash and rest:
                found.setdefault(rest, []).append(item)

        for place in self.places.values():
            add(place.name, place)
            for column in place.columns:
                add(f"{place.name}.{column}", Column(place.name, column))
        for place in self.places.values():
            for rule in place.rules:
                if rule.name not in found:
                    add(rule.name, rule)
                found.setdefault(rule.id, []).append(rule)
        return found

    def starts(self, name: str) -> tuple[RuleUse | None, tuple[Column, ...]]:
        """Return the rule that a name means, or the columns: one, or all of a place with its rows."""
        found = self._names.get(name, [])
        item: Place | Column | RuleUse | None = self.places.get(name)
        if item is None and len(found) == 1:
            item = found[0]
        elif item is None and found:
            whole = sorted(i.name if not isinstance(i, Column) else str(i) for i in found)
            raise LazypipeError(f"{name!r} may mean {', '.join(whole[:8])}; write one of them")
        if item is None:
            raise self.unknown(name)
        if isinstance(item, RuleUse):
            return item, ()
        if isinstance(item, Column):
            return None, (item,)
        return None, (Column(item.name, ALL), *(Column(item.name, c) for c in item.columns))

    def unknown(self, name: str) -> LazypipeError:
        """Return the error for a name that nothing has, with the nearest one."""
        inside = [p for p in self.places if name.startswith(p + ".")]
        if inside:
            place = self.places[max(inside, key=len)]
            known = [f"{place.name}.{n}" for n in (*place.columns, *(r.id for r in place.rules))]
            return LazypipeError(f"unknown column or rule {name!r}; {nearest(name, known, 'names')}")
        known = [*self.places, *(r.id for p in self.places.values() for r in p.rules)]
        if len(self.places) <= _FEW:
            known += [f"{p.name}.{c}" for p in self.places.values() for c in p.columns]
        return LazypipeError(f"unknown column, stage or rule {name!r}; {nearest(name, known, 'names')}")

    # walks

    def _below(self, column: Column) -> Iterator[tuple[Column, Edge | None]]:
        for edge in self._out.get(column, ()):
            yield edge.target, edge
        if column.name == ALL:
            for name in self.places[column.dataset].columns:
                yield Column(column.dataset, name), None
            for reader in self._readers.get(column.dataset, ()):
                yield Column(reader, ALL), None

    def _above(self, column: Column) -> Iterator[tuple[Column, Edge | None]]:
        for edge in self._into.get(column, ()):
            yield edge.source, edge
        if column.name != ALL:
            yield Column(column.dataset, ALL), None
        elif column.dataset in self.places:
            for name in self.places[column.dataset].lineage.inputs:
                yield Column(name, ALL), None

    def reach(self, name: str, starts: Iterable[Column], *, upward: bool, count_starts: bool = False) -> Reach:
        """Return what can be reached, in order of distance, with the dependencies passed; starts only where asked for."""
        step = self._above if upward else self._below
        begun = tuple(starts)
        seen, edges = dict.fromkeys(begun), dict[Edge, None]()
        pending = deque(begun)
        while pending:
            for column, edge in step(pending.popleft()):
                if edge is not None:
                    edges[edge] = None
                if column not in seen:
                    seen[column] = None
                    pending.append(column)
        left_out = frozenset(() if count_starts else begun)
        columns = tuple(c for c in seen if c.name != ALL and c not in left_out)
        rows = tuple(c.dataset for c in seen if c.name == ALL)
        return Reach(name, columns, self._direct(begun, upward=upward), tuple(edges), rows)

    def _direct(self, starts: Sequence[Column], *, upward: bool) -> frozenset[Column]:
        seen, pending = {c for c in starts if c.name != ALL}, [*starts]
        while pending:
            column = pending.pop()
            for edge in (self._into if upward else self._out).get(column, ()):
                other = edge.source if upward else edge.target
                if edge.type == "DIRECT" and other not in seen:
                    seen.add(other)
                    pending.append(other)
        return frozenset(seen)

    def path(self, starts: Iterable[Column], ends: Iterable[Column], *, values: bool) -> tuple[Edge, ...]:
        """Return the shortest chain of dependencies; of values only, where asked for."""
        goals = set(ends)
        came: dict[Column, tuple[Column, Edge | None] | None] = dict.fromkeys(starts)
        pending = deque(came)
        while pending:
            column = pending.popleft()
            if column in goals and came[column] is not None:
                return self._way_to(column, came)
            for other, edge in self._below(column):
                if other not in came and not (values and (edge is None or edge.type == "INDIRECT")):
                    came[other] = (column, edge)
                    pending.append(other)
        return ()

    @staticmethod
    def _way_to(column: Column, came: dict[Column, tuple[Column, Edge | None] | None]) -> tuple[Edge, ...]:
        found: list[Edge] = []
        step = came[column]
        while step is not None:
            before, edge = step
            if edge is not None:
                found.append(edge)
            elif column.name == ALL:
                found.append(Edge(before, column, "FILTER", text=f"rows of {before.dataset}"))
            column, step = before, came[before]
        return tuple(reversed(found))

    # places

    def below(self, name: str) -> tuple[str, ...]:
        """Return every place that reads a place, directly or not."""
        found: dict[str, None] = {}
        pending = [name]
        while pending:
            new = [r for r in self._readers.get(pending.pop(), ()) if r not in found]
            found |= dict.fromkeys(new)
            pending += new
        return tuple(found)

    def order(self, name: str) -> tuple[Place, ...]:
        """Return a place and everything it is made of, each behind what it reads; within a cycle no such order exists."""
        found: dict[str, Place] = {}
        begun: set[str] = set()
        pending = [(name, False)]
        while pending:
            one, ready = pending.pop()
            if ready:
                found[one] = self.places[one]
            elif one not in begun:
                begun.add(one)
                pending.append((one, True))
                pending += [(i, False) for i in self.places[one].lineage.inputs if i in self.places]
        return tuple(found.values())


_FEW = 500
"""Places up to which the nearest name is looked for among all columns."""
