"""Plans by meaning: without steps that only sort rows so that those of a group are adjacent.

And without the numbers that Polars counts through a process: the same query is the same plan each time that it is read.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from lazypipe.in_order import NEAR, ORDER
from lazypipe.plan.nodes import Named, PlanExpr, PlanNode, postorder

__all__ = ["meant"]


_NUMBERED = re.compile(r"(_POLARS_TMP_[A-Z]+)_\d+")
"""Names that Polars gives to what a query makes on the way: subqueries, conditions of QUALIFY."""


def meant(plan: PlanNode) -> PlanNode:
    """Return a plan in which groups are made of rows in any order, and rows near each other are found by groups and places.

    What a step means does not hang on how it is computed: lineage and fingerprints are read off this.

    Examples
    --------
    >>> import polars as pl
    >>> from lazypipe.in_order import grouped
    >>> from lazypipe.plan.reader import read_plan
    >>> rows = pl.LazyFrame({"k": ["a"], "x": [1]})
    >>> rows = pl.concat([rows, rows])
    >>> groups = grouped(rows, rows.collect_schema(), ["k"], [pl.col("x").median()])
    >>> "SORT BY" in groups.explain(), [n.kind for n in read_plan(groups).walk()]
    (True, ['frame', 'frame', 'union', 'group_by', 'select'])
    """
    plan = _renumbered(plan)
    nodes = list(plan.walk())
    if not any(ORDER in node.columns or NEAR in node.columns for node in nodes):
        return plan
    made: dict[int, PlanNode] = {}
    # the columns that the number is made of: of a join by place, the group's and then the place
    told: dict[int, tuple[PlanExpr, ...]] = {}
    for node in nodes:
        inputs = tuple(made[id(i)] for i in node.inputs)
        if ORDER not in node.columns and NEAR not in node.columns:
            made[id(node)] = replace(node, inputs=inputs)
            continue
        number = next((n for n in node.exprs if n.name in (ORDER, NEAR) and node.kind == "with_columns"), None)
        below = [told.get(id(i), ()) for i in node.inputs]
        told[id(node)] = _columns(number) if number is not None else below[0]
        made[id(node)] = _near(node, inputs, below) if NEAR in node.columns else _ordered(node, inputs)
    return made[id(plan)]


def _renumbered(plan: PlanNode) -> PlanNode:
    """Return a plan in which the names that Polars makes are numbered as they come."""
    nodes = list(plan.walk())
    if not any("_POLARS_TMP_" in name for node in nodes for name in node.columns):
        return plan
    names: dict[str, str] = {}
    exprs: dict[int, PlanExpr] = {}
    made: dict[int, PlanNode] = {}

    def plain(value: Any) -> Any:
        match value:
            case str():
                return _NUMBERED.sub(lambda m: names.setdefault(m[0], f"{m[1]}_{len(names)}"), value)
            case tuple():
                return tuple(map(plain, value))
            case Named():
                return Named(plain(value.name), plain(value.expr))
            case PlanExpr() if id(value) in exprs:
                return exprs[id(value)]
            case PlanExpr():
                # what it is made of comes first, however deep it is; also that of a filter in a scan, which is an option of it
                for part in postorder(value, PlanExpr.parts):
                    said = (plain(v) for v in (part.name, part.args, part.by, part.options, part.exact))
                    exprs[id(part)] = PlanExpr(part.kind, *said)
                return exprs[id(value)]
            case _:
                return value

    for node in nodes:
        inputs = tuple(made[id(i)] for i in node.inputs)
        said = (plain(v) for v in (node.exprs, node.keys, node.right_keys, node.paths, node.options, node.exact))
        made[id(node)] = PlanNode(node.kind, plain(node.columns), inputs, *said)
    return made[id(plan)]


def _columns(number: Named) -> tuple[PlanExpr, ...]:
    found = {p.name: p for p in postorder(number.expr, PlanExpr.parts) if p.kind == "column"}
    return tuple(found.values())


def _ordered(node: PlanNode, inputs: tuple[PlanNode, ...]) -> PlanNode:
    columns, exprs = _without(node, ORDER)
    if node.kind in ("sort", "pass") or (node.kind == "with_columns" and not exprs):
        return inputs[0]
    node = replace(node, columns=columns, inputs=inputs, exprs=exprs)
    if node.kind != "group_by":
        return node
    names = node.option("names")
    keys = tuple(k for k, name in zip(node.keys, names, strict=True) if name != ORDER)
    options = (("names", tuple(n for n in names if n != ORDER)), *(o for o in node.options if o[0] != "names"))
    return replace(node, keys=keys, options=options)


def _near(node: PlanNode, inputs: tuple[PlanNode, ...], below: list[tuple[PlanExpr, ...]]) -> PlanNode:
    columns, exprs = _without(node, NEAR)
    if node.kind == "with_columns" and not exprs:
        return inputs[0]
    if node.kind == "join":
        # the place first, as where rows are put together by it and by columns
        keys, right = ((*of[-1:], *of[:-1]) for of in below)
        return replace(node, columns=columns, inputs=inputs, keys=keys, right_keys=right)
    # the number replaces them where nothing else reads them
    hidden = [c for c in below[0] if c.name not in columns]
    if node.kind == "select":
        exprs = (*exprs, *(Named(c.name, c) for c in hidden))
    keys = below[0][-1:] if node.kind == "sort" else node.keys
    return replace(node, columns=(*columns, *(c.name for c in hidden)), inputs=inputs, exprs=exprs, keys=keys)


def _without(node: PlanNode, name: str) -> tuple[tuple[str, ...], tuple[Named, ...]]:
    return tuple(c for c in node.columns if c != name), tuple(n for n in node.exprs if n.name != name)
