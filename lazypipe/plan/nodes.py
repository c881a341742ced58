"""A query plan as values of our own: small, frozen, and free of Polars.

Whatever Polars calls a thing, there are few kinds here, and each says by its form what decides what: a node's ``exprs`` make
columns, its ``keys`` decide which rows there are, and in which order; an expression's ``args`` give it its value, its ``by``
decide which of those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

__all__ = ["ExprKind", "Named", "NodeKind", "PlanExpr", "PlanNode", "placed", "postorder"]

NodeKind = Literal[
    "scan", "frame", "select", "project", "with_columns", "filter", "sort", "slice", "distinct", "group_by", "join", "union",
    "hconcat", "merge_sorted", "explode", "unnest", "unpivot", "row_index", "pass", "sink", "tap", "label", "opaque",
]  # fmt: skip
"""What a node does. ``pass`` changes nothing (caches, hints); ``opaque`` cannot be seen into."""

ExprKind = Literal[
    "column", "literal", "len", "cast", "operator", "function", "agg", "ternary", "window", "rolling", "filter", "sort",
    "sort_by", "gather", "slice", "explode", "opaque",
]  # fmt: skip

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class PlanExpr:
    """One expression.

    Parameters
    ----------
    name
        The column, the operator, the function, the aggregate, or the type of a cast; a literal's text.
    args
        What its value is made of.
    by
        What decides which of the values: a condition, a partition, an order.
    options
        Further arguments that are plain values.
    exact
        All that Polars shows of it beside its parts, as text to tell it apart by, with the type it gives; None if that
        was not asked for, or Polars shows too little.

    Examples
    --------
    >>> PlanExpr("operator", "+", (PlanExpr("column", "a"), PlanExpr("literal", "1"))).args[0].name
    'a'
    """

    kind: ExprKind
    name: str = ""
    args: tuple[PlanExpr, ...] = ()
    by: tuple[PlanExpr, ...] = ()
    options: tuple[Any, ...] = ()
    exact: str | None = field(default=None, repr=False)

    def parts(self) -> tuple[PlanExpr, ...]:
        """Return all that it is put together from: ``args`` and ``by``."""
        return (*self.args, *self.by)


@dataclass(frozen=True, slots=True)
class Named:
    """An expression and the column that it makes.

    Examples
    --------
    >>> Named("total", PlanExpr("agg", "sum", (PlanExpr("column", "a"),))).name
    'total'
    """

    name: str
    expr: PlanExpr


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One step of a plan.

    Parameters
    ----------
    columns
        The names that come out of it; none of a sink.
    inputs
        The nodes it reads; a node that several read is one and the same object.
    exprs
        Columns that it makes; of a ``group_by`` the aggregates.
    keys
        What decides rows and their order: a predicate, keys of a grouping, a sort, a join's left side.
    right_keys
        Keys of a join's right side.
    paths
        Of a ``scan``: the files, as the plan names them (none where Polars does not show them).
    options
        How: ``(("how", "left"), ("suffix", "_right"), …)``.
    exact
        As of an expression.

    Examples
    --------
    >>> scan = PlanNode("scan", ("a", "b"), paths=("x.parquet",))
    >>> PlanNode("project", ("b",), (scan,)).inputs[0].columns
    ('a', 'b')
    """

    kind: NodeKind
    columns: tuple[str, ...]
    inputs: tuple[PlanNode, ...] = field(default=(), repr=False)
    exprs: tuple[Named, ...] = ()
    keys: tuple[PlanExpr, ...] = ()
    right_keys: tuple[PlanExpr, ...] = ()
    paths: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    exact: str | None = field(default=None, repr=False)

    def option(self, name: str, default: Any = None) -> Any:
        """Return an option's value."""
        return next((value for key, value in self.options if key == name), default)

    def walk(self) -> Iterator[PlanNode]:
        """Yield every node of the plan once, inputs before those that read them."""
        return postorder(self, lambda node: node.inputs)


def postorder(root: Item, below: Callable[[Item], Sequence[Item]]) -> Iterator[Item]:
    """Yield what is reachable, each once by identity, children first; as deep as it may be.

    Examples
    --------
    >>> one = PlanExpr("literal", "1")
    >>> [e.name for e in postorder(PlanExpr("operator", "+", (one, one)), lambda e: e.args)]
    ['1', '+']
    """
    seen: set[int] = set()
    pending: list[tuple[Item, bool]] = [(root, False)]
    while pending:
        item, ready = pending.pop()
        if ready:
            yield item
        elif id(item) not in seen:
            seen.add(id(item))
            pending.append((item, True))
            pending += [(child, False) for child in reversed(below(item)) if id(child) not in seen]


def placed(plan: PlanNode, name: str, below: PlanNode) -> PlanNode:
    """Return a plan in which another stands where the label ``name`` is.

    Examples
    --------
    >>> label = PlanNode("label", ("a",), options=(("name", "@here"),))
    >>> plan = placed(PlanNode("filter", ("a",), (label,)), "@here", PlanNode("scan", ("a",)))
    >>> [n.kind for n in plan.walk()]
    ['scan', 'filter']
    """
    found: dict[int, PlanNode] = {}
    for node in postorder(plan, lambda node: () if node.kind == "label" else node.inputs):
        if node.kind == "label":
            found[id(node)] = below if node.option("name") == name else node
            continue
        inputs = tuple(found[id(i)] for i in node.inputs)
        same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
        found[id(node)] = node if same else replace(node, inputs=inputs)
    return found[id(plan)]
