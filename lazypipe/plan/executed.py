"""The lineage of a query that ran: copied during the run, read on demand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lazypipe.plan.lineage import ColumnLineage, Flows, compose
from lazypipe.plan.nodes import PlanNode
from lazypipe.plan.reader import Capture
from lazypipe.plan.steps import plan_lineage
from lazypipe.storage.datasets.units import UNIT

__all__ = ["STAYING", "Executed"]

STAYING = "@staying"
"""What the rows of a dataset are called, in the plan of a query that writes some once more, as they are, beside those that it makes."""


@dataclass(frozen=True)
class Executed:
    """The plan that Polars ran for a dataset; ``beneath`` is that of the query that made what it reads, if two were needed.

    Examples
    --------
    >>> import polars as pl
    >>> capture = Capture()
    >>> _ = pl.LazyFrame({"a": [1]}).select(b=pl.col("a") + 1).collect(post_opt_callback=capture)
    >>> print(Executed("b", capture).lineage)
    frame.a → b.b: TRANSFORMATION a + 1
    """

    name: str
    capture: Capture
    beneath: Executed | None = None

    @property
    def plan(self) -> PlanNode:
        """The plan, as it was optimized and run; raises LazypipeError if it cannot be read."""
        return self.capture.plan()

    @cached_property
    def lineage(self) -> ColumnLineage:
        """Its column lineage."""
        found = _without_units(plan_lineage(_made(self.plan), self.name))
        return found if self.beneath is None else compose(found, {self.beneath.name: self.beneath.lineage})

    def to_dict(self) -> dict[str, Any]:
        """Return the lineage as plain data."""
        return self.lineage.to_dict()


def _made(plan: PlanNode) -> PlanNode:
    """Return a plan without the rows that stay as they were."""
    found: dict[int, PlanNode] = {}
    for node in plan.walk():
        inputs = tuple(found[id(i)] for i in node.inputs)
        if node.kind == "union":
            inputs = tuple(i for i in inputs if not _stays(i))
        same = all(a is b for a, b in zip(inputs, node.inputs, strict=False)) and len(inputs) == len(node.inputs)
        found[id(node)] = (
            node if same else inputs[0] if node.kind == "union" and len(inputs) == 1 else replace(node, inputs=inputs)
        )
    return found[id(plan)]


def _stays(node: PlanNode) -> bool:
    while node.kind != "label" and len(node.inputs) == 1:
        (node,) = node.inputs
    return node.kind == "label" and node.option("name") == STAYING


def _without_units(lineage: ColumnLineage) -> ColumnLineage:
    """Return a lineage without the column that a run adds to know which file a row comes from."""
    return replace(
        lineage,
        columns={c: _flows(flows) for c, flows in lineage.columns.items() if c != UNIT},
        dataset=_flows(lineage.dataset),
    )


def _flows(flows: Flows) -> Flows:
    return {f: text.replace(f", {UNIT}", "") for f, text in flows.items() if f.source.name != UNIT}
