"""How readers use a dataset: which columns they filter, join, group, sort and select, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lazypipe.spec.model import NOTHING, freeze, thaw

__all__ = ["ACCESS", "Access", "Compare", "Query", "Use", "Workload"]

Compare = Literal["equal", "range", "other"]
"""How a filter compares a column: with values, with bounds, or in a way that no footer helps with."""

Access = Literal["scan", "point lookup", "time range", "append heavy", "interchange"]
ACCESS: tuple[Access, ...] = ("scan", "point lookup", "time range", "append heavy", "interchange")
"""How a dataset is used on the whole."""

Use = Literal["filters", "joins", "groups", "sorts", "columns"]


@dataclass(frozen=True)
class Query:
    """One query on a dataset.

    Parameters
    ----------
    name
        Who runs it: ``pipeline/stage``, or the text of a declared query.
    filters
        Column → how it is compared.
    joins, groups, sorts
        Columns that are join keys, group keys and sort keys.
    columns
        All columns that are read.
    where
        The filter as SQL text, if known, so that it can be run and measured.
    selectivity
        The fraction of rows that pass the filters, if known.
    weight
        How often it is run, relative to the others.
    """

    name: str = ""
    filters: Mapping[str, Compare] = NOTHING
    joins: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    sorts: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    where: str | None = None
    selectivity: float | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Make the mapping read-only."""
        object.__setattr__(self, "filters", freeze(self.filters))

    @property
    def access(self) -> Access:
        """The access pattern: a lookup if values are compared with ``equal``, a range with ``range``, otherwise a scan."""
        compared = set(self.filters.values())
        return "point lookup" if "equal" in compared else "time range" if "range" in compared else "scan"

    def selecting(self, part: float | None) -> Query:
        """Return the query with this fraction of rows passing its filters."""
        return replace(self, selectivity=part)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data, without defaults."""
        blank = Query()
        return {k: thaw(v) for k, v in vars(self).items() if v != getattr(blank, k)}


@dataclass(frozen=True)
class Workload:
    """How a dataset is read.

    Parameters
    ----------
    queries
        The queries on it.
    declared
        The access pattern, if it was declared; otherwise it follows from the queries.

    Examples
    --------
    >>> lookup = Query("shop/report", {"id": "equal"}, columns=("id", "total"), weight=3)
    >>> workload = Workload((lookup, Query("shop/all", columns=("total",))))
    >>> workload.access, workload.weights("filters"), workload.weights("columns")
    ('point lookup', {'id': 0.75}, {'total': 1.0, 'id': 0.75})
    """

    queries: tuple[Query, ...] = ()
    declared: Access | None = field(default=None)

    def __bool__(self) -> bool:
        return bool(self.queries) or self.declared is not None

    @property
    def access(self) -> Access:
        """The overall access pattern: as declared, or that of most queries."""
        if self.declared is not None:
            return self.declared
        weights: dict[Access, float] = dict.fromkeys(ACCESS, 0.0)
        for query in self.queries:
            weights[query.access] += query.weight
        return max(ACCESS, key=lambda a: weights[a])

    def weights(self, use: Use) -> dict[str, float]:
        """Return the columns that queries use in a given way, with the fraction of queries that do, the most used first."""
        total = sum(q.weight for q in self.queries)
        found: dict[str, float] = {}
        for query in self.queries:
            for column in getattr(query, use):
                found[column] = found.get(column, 0.0) + query.weight / total
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def renamed(self, names: Mapping[str, str]) -> Workload:
        """Return the workload with other column names; columns that are not in ``names`` are left out."""

        def kept(columns: Iterable[str]) -> tuple[str, ...]:
            return tuple(names[c] for c in columns if c in names)

        queries = tuple(
            Query(
                q.name,
                {names[c]: how for c, how in q.filters.items() if c in names},
                kept(q.joins),
                kept(q.groups),
                kept(q.sorts),
                kept(q.columns),
                q.where if all(names.get(c) == c for c in q.columns) else None,
                q.selectivity,
                q.weight,
            )
            for q in self.queries
        )
        return Workload(queries, self.declared)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        plain: dict[str, Any] = {"queries": [q.to_dict() for q in self.queries]}
        return plain | ({"access": self.declared} if self.declared is not None else {})
