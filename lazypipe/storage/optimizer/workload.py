"""What readers ask of a dataset: which columns they filter, join, group, sort and take, and how often."""

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
    """One question that is asked of a dataset.

    Parameters
    ----------
    name
        What reads it: ``pipeline/stage``, or the text of a declared query.
    filters
        Column → how it is compared.
    joins, groups, sorts
        Columns that are keys of these.
    columns
        All columns that are read.
    where
        The filter as SQL text, where it is known: to be run by whoever wants to measure.
    selectivity
        Which part of the rows goes through the filters, if it is known.
    weight
        How often it is asked, next to the others.
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
        """How it reads: values compared with ``equal`` make a lookup, with ``range`` a range, everything else a scan."""
        compared = set(self.filters.values())
        return "point lookup" if "equal" in compared else "time range" if "range" in compared else "scan"

    def selecting(self, part: float | None) -> Query:
        """Return it with the part of the rows that goes through its filters."""
        return replace(self, selectivity=part)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON holds, without what is at its default."""
        blank = Query()
        return {k: thaw(v) for k, v in vars(self).items() if v != getattr(blank, k)}


@dataclass(frozen=True)
class Workload:
    """The questions that are asked of a dataset.

    Parameters
    ----------
    queries
        Each of them.
    declared
        How the dataset is used, if somebody has said so; else it follows from the queries.

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
        """How the dataset is used on the whole: as declared, else as most of its queries do."""
        if self.declared is not None:
            return self.declared
        weights: dict[Access, float] = dict.fromkeys(ACCESS, 0.0)
        for query in self.queries:
            weights[query.access] += query.weight
        return max(ACCESS, key=lambda a: weights[a])

    def weights(self, use: Use) -> dict[str, float]:
        """Return the columns that queries use in a way, each with the part of all queries that does, the most used first."""
        total = sum(q.weight for q in self.queries)
        found: dict[str, float] = {}
        for query in self.queries:
            for column in getattr(query, use):
                found[column] = found.get(column, 0.0) + query.weight / total
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def renamed(self, names: Mapping[str, str]) -> Workload:
        """Return it in terms of other columns; what ``names`` does not hold is left out."""

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
        """Return plain data that JSON holds."""
        plain: dict[str, Any] = {"queries": [q.to_dict() for q in self.queries]}
        return plain | ({"access": self.declared} if self.declared is not None else {})
