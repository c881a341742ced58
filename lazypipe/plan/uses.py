"""How plans use a dataset: which columns they filter, join, group, sort and select, read off their lineage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from posixpath import normpath
from typing import TYPE_CHECKING, Any

import polars as pl

from lazypipe.plan.lineage import ColumnLineage, Edge, compose
from lazypipe.plan.text import identifier
from lazypipe.spec.taps import label
from lazypipe.sql.exprs import empty
from lazypipe.sql.query import query
from lazypipe.sql.text import SqlError
from lazypipe.storage import uri as uris

if TYPE_CHECKING:
    from lazypipe.plan.graph import Lineage
    from lazypipe.plan.places import Place
    from lazypipe.storage.optimizer.workload import Compare, Query, Workload

__all__ = ["declared", "is_in", "query_of", "uses", "uses_within"]

_EQUAL = r"(=|==|IN\b|IS NOT DISTINCT FROM\b)"
_RANGE = r"(<(?!>)|>|BETWEEN\b)"
_SELF = "self"


def query_of(lineage: ColumnLineage, of: str, *, name: str = "", weight: float = 1.0) -> Query:
    """Return what the plan of a lineage asks of one of the datasets that it reads.

    Examples
    --------
    >>> from lazypipe.plan.reader import read_plan
    >>> from lazypipe.plan.steps import plan_lineage
    >>> frame = label(pl.LazyFrame({"day": [1], "x": [2]}), "d")
    >>> asked = frame.filter(pl.col("day") >= 7).group_by("x").agg(pl.len())
    >>> found = query_of(plan_lineage(read_plan(asked)), "d")
    >>> found.filters, found.groups, found.columns
    ({'day': 'range'}, ('x',), ('x', 'day'))
    """
    from lazypipe.storage.optimizer.workload import Query

    edges = [e for e in lineage.edges if e.source.dataset == of]
    direct = [e.source.name for e in edges if e.type == "DIRECT"]
    filters: dict[str, Compare] = {}
    for edge in edges:
        if edge.subtype == "FILTER":
            filters[edge.source.name] = _sharper(filters.get(edge.source.name), _compared(edge))

    def keys(subtype: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(e.source.name for e in edges if e.subtype == subtype))

    return Query(
        name,
        filters,
        keys("JOIN"),
        keys("GROUP_BY"),
        keys("SORT"),
        tuple(dict.fromkeys([*direct, *(e.source.name for e in edges)])),
        weight=weight,
    )


def _compared(edge: Edge) -> Compare:
    """Tell how a filter compares a column, by the text of the filter."""
    column = re.escape(identifier(edge.source.name).text)
    before, after = rf"(?<![\w.\"]){column}\s*", rf"\s*(?<![<>=]){column}(?![\w.\"])"
    said = re.sub(r"NOT \([^()]*\)|\([^()]*\) IS NOT TRUE", "", edge.text)  # all but some values are no help
    if re.search(before + _EQUAL, said) or re.search(r"(?<![<>!=])=" + after, said):
        return "equal"
    if re.search(before + _RANGE, edge.text) or re.search(r"(<|(?<!<)>)=?" + after, edge.text):
        return "range"
    return "other"


def _sharper(one: Compare | None, other: Compare) -> Compare:
    order: Sequence[Compare] = ("equal", "range", "other")
    return other if one is None else min(one, other, key=order.index)


def uses(lineages: Iterable[Lineage], uri: str) -> tuple[Query, ...]:
    """Return the queries that pipelines ask of a dataset: one for each of their outputs that is made of it.

    Parameters
    ----------
    lineages
        Those of the pipelines, each by itself.
    """
    found: list[Query] = []
    for lineage in lineages:
        sources = [p.name for p in lineage.places if p.kind == "source" and any(is_in(u, uri) for u in p.uris)]
        for name in sources:
            found += uses_within(lineage, name)
    return tuple(found)


def is_in(uri: str, dataset: str) -> bool:
    """Whether a URI, or pattern, is that of a dataset, or of files in it; local ones may be written from here, or from the root.

    Examples
    --------
    >>> is_in("file:///lake/orders/*.parquet", "/lake/orders"), is_in("/lake/orders-2", "/lake/orders")
    (True, False)
    """
    one, other = (normpath(uris.whole_path(u)) if uris.is_local(u) else uris.place(u) for u in (uri, dataset))
    return one == other or one.startswith(f"{other}/")


def uses_within(lineage: Lineage, name: str) -> tuple[Query, ...]:
    """Return what the outputs of a pipeline ask of one of its sources or stages, other than to hold just that."""
    known: dict[str, ColumnLineage] = {}
    found: list[Query] = []
    for place in lineage.places:
        if place.name == name:
            continue
        made = compose(place.lineage, {n: known[n] for n in place.lineage.inputs if n in known})
        known[place.name] = made
        if _is_result(place) and name in made.inputs and not _holds_just(place, name):
            found.append(query_of(made, name, name=f"{lineage.name}/{place.name}"))
    return tuple(found)


def _is_result(place: Place) -> bool:
    return place.published or place.kind == "output"


def _holds_just(place: Place, name: str) -> bool:
    """Whether a place has the rows of another as they are."""
    made = place.lineage
    flows = (flow for each in made.columns.values() for flow in each)
    # what a write mode decides is not a query of a reader
    just = all(f.subtype == "IDENTITY" for f in flows) and all(f.subtype == "WINDOW" for f in made.dataset)
    return made.inputs == (name,) and just


def declared(
    said: Mapping[str, Any], name: str, schema: Mapping[str, pl.DataType]
) -> tuple[Workload, list[tuple[int, SqlError]]]:
    """Return the workload that an output declares, and what is wrong with which of its queries.

    Parameters
    ----------
    said
        ``queries``: SQL texts, or mappings with ``sql``, ``weight`` and ``selectivity``; ``access``.
    name
        What queries call the dataset, besides ``self``.

    Examples
    --------
    >>> schema = {"day": pl.Date(), "x": pl.Int64()}
    >>> workload, wrong = declared({"queries": ["SELECT sum(x) FROM sales WHERE day = '2026-01-01'", "SELECT y FROM self"]}, "sales", schema)
    >>> workload.queries[0].filters, [str(w) for _, w in wrong]
    ({'day': 'equal'}, ["unknown column 'y'; known columns: day, x"])
    """
    from lazypipe.plan.reader import read_plan
    from lazypipe.plan.steps import plan_lineage
    from lazypipe.storage.optimizer.workload import Workload

    queries: list[Query] = []
    wrong: list[tuple[int, SqlError]] = []
    rows = label(empty(schema).lazy(), name)
    for number, written in enumerate(said.get("queries", ())):
        given: dict[str, Any] = {"sql": written} if isinstance(written, str) else dict(written)
        try:
            asked = query(given["sql"], {name: rows, _SELF: rows})
        except SqlError as error:
            wrong.append((number, error))
            continue
        made = query_of(plan_lineage(read_plan(asked)), name, name=given["sql"], weight=given.get("weight", 1.0))
        queries.append(made.selecting(given.get("selectivity")))
    return Workload(tuple(queries), said.get("access")), wrong
