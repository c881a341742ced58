"""The lineage of a whole pipeline, or of many: sources, stages and outputs, what each of their columns comes from, and questions.

A column, stage or rule is named as people write it: ``flown.dep_delay``, ``flown``, ``plausible_delay``. Of several pipelines,
``flights/flown.dep_delay``; the pipeline's name can be left out where nothing else has the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lazypipe.plan import draw
from lazypipe.plan.facet import column_lineage_facet
from lazypipe.plan.index import Index
from lazypipe.plan.lineage import ALL, Column, ColumnLineage, Edge, Flow, compose
from lazypipe.plan.places import Impact, Place, Reach, RuleUse

__all__ = ["Lineage"]


@dataclass(frozen=True)
class Lineage:
    """Sources, stages and outputs, and the dependencies between their columns. Returned by ``plan.lineage()`` and ``lp.catalog``.

    Examples
    --------
    >>> import lazypipe as lp
    >>> pipe = (
    ...     lp.pipeline("shop")
    ...     .source("orders", "orders.csv", contract={"columns": {"id": "Int64", "gross": "Float64"}})
    ...     .stage("net", "orders", do=[{"filter": "id > 0"}, {"derive": {"net": "gross / 1.19"}}])
    ...     .output("net", "out/net")
    ...     .build()
    ... )
    >>> lineage = pipe.compile().lineage()
    >>> list(lineage.upstream("net.net"))
    ['orders.gross', 'orders.id']
    >>> print(*lineage.path("orders.gross", "net.net"))
    orders.gross → net.net: TRANSFORMATION gross / 1.19
    """

    name: str
    places: tuple[Place, ...] = field(repr=False)
    optimized: bool = False

    # questions

    def upstream(self, name: str) -> Reach:
        """Return all columns that a column (or a stage, or the input of a rule) depends on, nearest first.

        Raises
        ------
        LazypipeError
            If there is no such column, stage or rule.
        """
        rule, starts = self._index.starts(name)
        return self._index.reach(name, rule.reads if rule else starts, upward=True, count_starts=rule is not None)

    def downstream(self, name: str) -> Reach:
        """Return all columns that depend on a column or stage, nearest first; for a rule, everything that its verdict affects."""
        rule, starts = self._index.starts(name)
        return self._index.reach(
            name, _decided_by(rule) if rule else starts, upward=False, count_starts=rule is not None
        )

    def impact(self, name: str) -> Impact:
        """Return everything that can change if a column, stage, source or rule changes."""
        rule, starts = self._index.starts(name)
        reach = self.downstream(name)
        changed = {*reach.columns, *(Column(n, ALL) for n in reach.rows), *(starts if rule is None else ())}
        touched = {c.dataset for c in reach.columns}
        if rule is None and Column(name, ALL) in starts:
            touched |= {name, *self._index.below(name)}
        if rule is not None and rule.action == "fail":
            touched |= {rule.place, *self._index.below(rule.place)}
        if rule is not None and rule.action == "quarantine":
            touched.add(f"{rule.place}__quarantine")
        places = [p for p in self.places if p.name in touched]
        rules = [
            r.name
            for p in self.places
            for r in p.rules
            if r is not rule and (p.name in reach.rows or any(c in changed for c in r.reads))
        ]
        return Impact(
            name,
            reach.columns,
            tuple(p.name for p in places if p.kind == "stage"),
            tuple(p.name for p in places if p.published or p.kind in ("output", "quarantine", "feed")),
            tuple(rules),
        )

    def path(self, start: str, end: str) -> tuple[Edge, ...]:
        """Return the shortest chain of dependencies from one column to another, through values if possible; empty if there is none."""
        (_, starts), (_, ends) = self._index.starts(start), self._index.starts(end)
        return self._index.path(starts, ends, values=True) or self._index.path(starts, ends, values=False)

    def composed(self, name: str) -> ColumnLineage:
        """Return the original sources of a place's columns: sources that no pipeline here writes."""
        if name not in self._index.places:
            raise self._index.unknown(name)
        known: dict[str, ColumnLineage] = {}
        for place in self._index.order(name):
            known[place.name] = _source(place, known) if place.kind == "source" else compose(place.lineage, known)
        return known[name]

    @cached_property
    def _index(self) -> Index:
        return Index(self.places)

    # as data

    def to_dict(self) -> dict[str, Any]:
        """Return the lineage as plain data."""
        return {"name": self.name, "optimized": self.optimized, "places": [p.to_dict() for p in self.places]}

    def to_json(self) -> str:
        """Return the lineage as JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    def to_dot(self) -> str:
        """Return a Graphviz graph."""
        return draw.dot(self.edges)

    def to_mermaid(self) -> str:
        """Return a Mermaid diagram."""
        return draw.mermaid(self.edges)

    def to_openlineage(self, output: str) -> dict[str, Any]:
        """Return the OpenLineage column lineage facet (1-2-0) of an output, source or stage, in terms of what the pipeline reads.

        Examples
        --------
        >>> import lazypipe as lp
        >>> pipe = lp.pipeline("p").source("a", "/d/a.csv", contract={"columns": {"x": "Int64"}}).output("a", "out").build()
        >>> facet = pipe.compile().lineage().to_openlineage("a@output")
        >>> facet["fields"]["x"]["inputFields"][0]["name"]
        '/d/a.csv'
        """
        uris = {p.name: p.uris for p in self.places}
        return column_lineage_facet(self.composed(output), uris)

    def __str__(self) -> str:
        return "\n".join(map(str, self.edges))

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All dependencies."""
        return tuple(e for p in self.places for e in p.lineage.edges)


def _decided_by(rule: RuleUse) -> tuple[Column, ...]:
    """Return what a rule's verdict decides over: all rows of its place where it takes some out, a column that it repairs."""
    if rule.action in ("quarantine", "drop"):
        return (Column(rule.place, ALL),)
    return (Column(rule.place, rule.repairs),) if rule.repairs else ()


def _source(place: Place, known: Mapping[str, ColumnLineage]) -> ColumnLineage:
    """Return a source's lineage: what another pipeline wrote there, or itself; and what its own gate decides."""
    written, name = place.lineage, place.name
    own = ColumnLineage(name, {c: {Flow(Column(name, c), "IDENTITY"): ""} for c in place.columns}, {}, {}, (name,))
    others = tuple(i for i in written.inputs if i != name)
    if others:
        outer = {c: {f: t for f, t in written.columns[c].items() if f.source.dataset != name} for c in place.columns}
        own = compose(ColumnLineage(name, outer, {}, {}, others), known)
    gated = {
        c: {Flow(Column(name, c), "IDENTITY"): "", **{f: t for f, t in flows.items() if f.source.dataset == name}}
        for c, flows in written.columns.items()
    }
    return compose(ColumnLineage(name, gated, written.dataset, {}, (name,)), {name: own})
