"""Places where rows are (sources, stages, outputs, quarantines), and answers to questions about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from lazypipe.plan import draw
from lazypipe.plan.lineage import Column, ColumnLineage, Edge

__all__ = ["Impact", "Place", "PlaceKind", "Reach", "RuleUse"]

PlaceKind = Literal["source", "stage", "output", "quarantine", "feed"]


@dataclass(frozen=True)
class RuleUse:
    """A rule of a gate: the columns that it reads, of its own place and of those that it looks rows up in.

    ``repairs`` is the column that it mends; a read of ``*`` is of the rows, as when they are counted.

    Examples
    --------
    >>> RuleUse("flown", "not_null:origin", "fail", (Column("flown", "origin"),)).name
    'flown.not_null:origin'
    """

    place: str
    id: str
    action: str
    reads: tuple[Column, ...] = ()
    repairs: str | None = None

    @property
    def name(self) -> str:
        """The rule's name in questions."""
        return f"{self.place}.{self.id}"


@dataclass(frozen=True)
class Place:
    """A place where rows are: a source, a stage, an output, the quarantine of a gate, or a feed of an output.

    ``lineage`` says what its columns come from, in terms of other places; ``uris`` where its rows are kept, as far as they
    are; ``published`` says whether a stage or source is an output of the same name.

    Examples
    --------
    >>> Place("a", "source", ("x",), ColumnLineage("a", {"x": {}}, {})).uris
    ()
    """

    name: str
    kind: PlaceKind
    columns: tuple[str, ...]
    lineage: ColumnLineage
    uris: tuple[str, ...] = ()
    rules: tuple[RuleUse, ...] = ()
    published: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the place as plain data."""
        return {
            "name": self.name,
            "kind": self.kind,
            "published": self.published,
            "uris": list(self.uris),
            "columns": list(self.columns),
            "inputs": list(self.lineage.inputs),
            "edges": [e.to_dict() for e in self.lineage.edges],
            "rules": [{"id": r.id, "action": r.action, "reads": [list(c) for c in r.reads]} for r in self.rules],
        }


@dataclass(frozen=True)
class Reach:
    """The answer to ``upstream`` or ``downstream``: columns, nearest first, and the dependencies on the way to them.

    ``direct`` are the columns connected through values; the others only affect which rows there are. ``rows`` are the places whose rows are affected, not
    only values.

    Examples
    --------
    >>> edge = Edge(Column("a", "x"), Column("b", "y"), "IDENTITY")
    >>> reach = Reach("b.y", (Column("a", "x"),), frozenset({Column("a", "x")}), (edge,))
    >>> "a.x" in reach, list(reach)
    (True, ['a.x'])
    """

    start: str
    columns: tuple[Column, ...]
    direct: frozenset[Column]
    edges: tuple[Edge, ...]
    rows: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        return map(str, self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __contains__(self, name: object) -> bool:
        return any(str(c) == name for c in self.columns)

    @property
    def places(self) -> tuple[str, ...]:
        """The sources, stages and outputs of the columns."""
        return tuple(dict.fromkeys(c.dataset for c in self.columns))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "start": self.start,
            "columns": [{"name": str(c), "direct": c in self.direct} for c in self.columns],
            "rows": list(self.rows),
            "edges": [{**e.to_dict(), "direct": self._passes_values(e)} for e in self.edges],
        }

    def _passes_values(self, edge: Edge) -> bool:
        """Whether values go along an edge between the columns that were asked for and their own, not between others on the way."""
        return edge.type == "DIRECT" and edge.source in self.direct and edge.target in self.direct

    def to_json(self) -> str:
        """Return JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    def to_dot(self) -> str:
        """Return a Graphviz graph."""
        return draw.dot(self.edges)

    def to_mermaid(self) -> str:
        """Return a Mermaid diagram."""
        return draw.mermaid(self.edges)

    def __str__(self) -> str:
        kinds = {True: "DIRECT, by values:", False: "INDIRECT, by which values or rows there are:"}
        lines = [self.start]
        for direct, heading in kinds.items():
            edges = [f"    {e}" for e in self.edges if self._passes_values(e) is direct]
            lines += [f"  {heading}", *edges] if edges else []
        return "\n".join(lines)


@dataclass(frozen=True)
class Impact:
    """What a change can affect: columns, stages, outputs, and rules that would see other values.

    Examples
    --------
    >>> Impact("a.x", (Column("b", "y"),), ("b",), ("b",), ()).to_dict()["outputs"]
    ['b']
    """

    start: str
    columns: tuple[Column, ...]
    stages: tuple[str, ...]
    outputs: tuple[str, ...]
    rules: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "start": self.start,
            "columns": [str(c) for c in self.columns],
            "stages": list(self.stages),
            "outputs": list(self.outputs),
            "rules": list(self.rules),
        }
