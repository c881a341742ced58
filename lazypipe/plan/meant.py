"""Plans as they are meant: without the steps that only put rows in order, so that those of a group stand together."""

from __future__ import annotations

from dataclasses import replace

from lazypipe.in_order import ORDER
from lazypipe.plan.nodes import PlanNode

__all__ = ["meant"]


def meant(plan: PlanNode) -> PlanNode:
    """Return a plan in which groups are made of rows in any order: what a step means does not hang on how it is computed.

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
    nodes = list(plan.walk())
    if not any(ORDER in node.columns for node in nodes):
        return plan
    made: dict[int, PlanNode] = {}
    for node in nodes:
        inputs = tuple(made[id(i)] for i in node.inputs)
        made[id(node)] = _plain(node, inputs) if ORDER in node.columns else replace(node, inputs=inputs)
    return made[id(plan)]


def _plain(node: PlanNode, inputs: tuple[PlanNode, ...]) -> PlanNode:
    columns = tuple(c for c in node.columns if c != ORDER)
    exprs = tuple(n for n in node.exprs if n.name != ORDER)
    if node.kind in ("sort", "pass") or (node.kind == "with_columns" and not exprs):
        return inputs[0]
    if node.kind == "group_by":
        names = node.option("names")
        keys = tuple(k for k, name in zip(node.keys, names, strict=True) if name != ORDER)
        options = (("names", tuple(n for n in names if n != ORDER)), *(o for o in node.options if o[0] != "names"))
        return replace(node, columns=columns, inputs=inputs, exprs=exprs, keys=keys, options=options)
    return replace(node, columns=columns, inputs=inputs, exprs=exprs)
