"""Column lineage of one plan: which columns of what it reads each of its columns comes from, and how.

The words are OpenLineage's. DIRECT: a value is made of the column's values (IDENTITY, TRANSFORMATION, AGGREGATION). INDIRECT: the
column decides which values, rows or order there are (JOIN, FILTER, GROUP_BY, SORT, WINDOW, CONDITIONAL). What decides over rows
decides over every column, and stands once, for the whole dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = ["ALL", "MASKS", "Column", "ColumnLineage", "Edge", "Flow", "Flows", "Subtype", "compose", "decided", "made"]

Subtype = Literal[
    "IDENTITY", "TRANSFORMATION", "AGGREGATION", "JOIN", "FILTER", "GROUP_BY", "SORT", "WINDOW", "CONDITIONAL"
]  # fmt: skip

MASKS: frozenset[str] = frozenset({"hash"})
"""Functions after which a value can no longer be read: edges through them say ``masking``. Policies declare more."""

ALL = "*"
"""As a column's name: every column, because rows or their order are decided."""

_STRENGTH: Mapping[str, int] = {"IDENTITY": 0, "TRANSFORMATION": 1, "AGGREGATION": 2}


class Column(NamedTuple):
    """A column of a dataset, source or stage.

    Examples
    --------
    >>> str(Column("flights", "origin"))
    'flights.origin'
    """

    dataset: str
    name: str

    def __str__(self) -> str:
        return f"{self.dataset}.{self.name}"


class Flow(NamedTuple):
    """How a column is reached by another; ``opaque`` where that was assumed, because something cannot be seen into."""

    source: Column
    subtype: Subtype
    masking: bool = False
    opaque: bool = False

    @property
    def direct(self) -> bool:
        """Whether values are made of the column's values."""
        return self.subtype in _STRENGTH


Flows = Mapping[Flow, str]
"""What reaches a column; with the text of what decides, for those that are indirect."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One dependency: ``target`` depends on ``source``; ``target.name`` is ``*`` where it is all columns.

    Examples
    --------
    >>> edge = Edge(Column("a", "x"), Column("b", "y"), "TRANSFORMATION", text="x + 1")
    >>> edge.type, str(edge)
    ('DIRECT', 'a.x → b.y: TRANSFORMATION x + 1')
    """

    source: Column
    target: Column
    subtype: Subtype
    masking: bool = False
    opaque: bool = False
    text: str = ""

    @property
    def type(self) -> Literal["DIRECT", "INDIRECT"]:
        """OpenLineage's type."""
        return "DIRECT" if self.subtype in _STRENGTH else "INDIRECT"

    def __str__(self) -> str:
        notes = "".join(f", {n}" for n, on in (("masking", self.masking), ("opaque", self.opaque)) if on)
        return f"{self.source} → {self.target}: {self.subtype}{notes} {self.text}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return the edge as plain data."""
        return {
            "source": list(self.source),
            "target": list(self.target),
            "type": self.type,
            "subtype": self.subtype,
            "masking": self.masking,
            "opaque": self.opaque,
            "text": self.text,
        }


@dataclass(frozen=True)
class ColumnLineage:
    """What the columns of one dataset come from, and what decides over all of them.

    ``inputs`` are the datasets that it reads, if only to count their rows.

    Examples
    --------
    >>> import polars as pl
    >>> from lazypipe.plan.reader import read_plan
    >>> from lazypipe.plan.steps import plan_lineage
    >>> frame = pl.LazyFrame({"a": [1], "b": [2]}).filter(pl.col("b") > 0).select(c=pl.col("a") + 1)
    >>> print(plan_lineage(read_plan(frame)))
    frame.a → .c: TRANSFORMATION a + 1
    frame.b → .*: FILTER b > 0
    """

    name: str
    columns: Mapping[str, Flows]
    dataset: Flows
    texts: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Every dependency, by column; those of the whole dataset last."""
        found = [
            _edge(flow, Column(self.name, column), self.texts.get(column, "") if flow.direct else text)
            for column, flows in self.columns.items()
            for flow, text in flows.items()
        ]
        return (*found, *(_edge(flow, Column(self.name, ALL), text) for flow, text in self.dataset.items()))

    @property
    def reads(self) -> frozenset[Column]:
        """Every column that something depends on."""
        return frozenset(f.source for flows in (*self.columns.values(), self.dataset) for f in flows)

    def to_dict(self) -> dict[str, Any]:
        """Return the lineage as plain data."""
        return {"name": self.name, "columns": list(self.columns), "edges": [e.to_dict() for e in self.edges]}

    def __str__(self) -> str:
        return "\n".join(map(str, self.edges))


def _edge(flow: Flow, target: Column, text: str) -> Edge:
    return Edge(flow.source, target, flow.subtype, flow.masking, flow.opaque, text)


def made(flows: Flows, subtype: Subtype, *, masking: bool = False, opaque: bool = False) -> dict[Flow, str]:
    """Return flows after one more step on values; what was indirect stays what it was.

    Examples
    --------
    >>> flow = Flow(Column("a", "x"), "IDENTITY")
    >>> [f.subtype for f in made({flow: ""}, "AGGREGATION")]
    ['AGGREGATION']
    """
    if subtype == "IDENTITY" and not masking and not opaque:
        return dict(flows)
    found: dict[Flow, str] = {}
    for flow, text in flows.items():
        if flow.direct:
            stronger = max(flow.subtype, subtype, key=_STRENGTH.__getitem__)
            found[Flow(flow.source, stronger, flow.masking or masking, flow.opaque or opaque)] = text
        else:
            found[Flow(flow.source, flow.subtype, flow.masking, flow.opaque or opaque)] = text
    return found


def decided(flows: Iterable[Flow], subtype: Subtype, text: str, *, opaque: bool = False) -> dict[Flow, str]:
    """Return flows into something that decides over others.

    Examples
    --------
    >>> [f.subtype for f in decided([Flow(Column("a", "x"), "IDENTITY")], "FILTER", "x > 1")]
    ['FILTER']
    """
    return {Flow(f.source, subtype, f.masking, f.opaque or opaque): text for f in flows}


def compose(upper: ColumnLineage, lower: Mapping[str, ColumnLineage]) -> ColumnLineage:
    """Return the lineage of ``upper`` with each dataset that ``lower`` knows replaced by what that comes from.

    Examples
    --------
    >>> low = ColumnLineage("b", {"y": {Flow(Column("a", "x"), "AGGREGATION"): ""}}, {}, {"y": "SUM(x)"}, ("a",))
    >>> high = ColumnLineage("c", {"z": {Flow(Column("b", "y"), "IDENTITY"): ""}}, {}, {"z": "y"}, ("b",))
    >>> print(compose(high, {"b": low}))
    a.x → c.z: AGGREGATION SUM(x)
    """
    texts = dict(upper.texts)
    columns: dict[str, Flows] = {}
    for column, flows in upper.columns.items():
        columns[column] = _composed(flows, lower)
        direct = [f for f in flows if f.direct]
        if len(direct) == 1 and direct[0].subtype == "IDENTITY" and direct[0].source.dataset in lower:
            below = lower[direct[0].source.dataset]
            texts[column] = below.texts.get(direct[0].source.name, texts.get(column, ""))
    dataset = _composed(upper.dataset, lower)
    inputs: list[str] = []
    for name in upper.inputs:
        if name in lower:
            dataset |= lower[name].dataset
        inputs += lower[name].inputs if name in lower else [name]
    return ColumnLineage(upper.name, columns, dataset, texts, tuple(dict.fromkeys(inputs)))


def _composed(flows: Flows, lower: Mapping[str, ColumnLineage]) -> dict[Flow, str]:
    found: dict[Flow, str] = {}
    for flow, text in flows.items():
        below = lower.get(flow.source.dataset)
        if below is None:
            found[flow] = text
            continue
        inner = below.columns.get(flow.source.name, {})
        if flow.direct:
            found |= made(inner, flow.subtype, masking=flow.masking, opaque=flow.opaque)
        else:
            found |= decided(inner, flow.subtype, text, opaque=flow.opaque)
    return found
