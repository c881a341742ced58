"""The nodes of a pipeline over placeholders, by name: the basis for its lineage and fingerprints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lazypipe.compile.node import HERE, Node
from lazypipe.compile.segments import Segment
from lazypipe.compile.state import StateFolder
from lazypipe.compile.stub import Stub
from lazypipe.gates.rule import Reference
from lazypipe.plan.lineage import MASKS, ColumnLineage
from lazypipe.plan.nodes import PlanNode, placed
from lazypipe.spec.model import Output
from lazypipe.spec.taps import label
from lazypipe.sql.exprs import empty
from lazypipe.storage import uri as uris

__all__ = ["Parts"]


@dataclass(frozen=True)
class Parts:
    """The nodes, segments and outputs of a compiled pipeline, and where its state is; with plans over empty frames, each made once."""

    state: StateFolder
    nodes: Mapping[str, Node]
    segments: Sequence[Segment]
    outputs: Mapping[str, Output]
    redact: uris.Redactor
    params: Mapping[str, Any] = field(default_factory=dict)
    _leaves: dict[str, pl.LazyFrame] = field(default_factory=dict, init=False, repr=False, compare=False)
    _gated: dict[tuple[str, tuple[int, ...]], tuple[Stub, Node]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _made: dict[tuple[str, frozenset[str]], ColumnLineage] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def leaf(self, name: str) -> pl.LazyFrame:
        """Return an empty frame with the columns of a node, labelled with its name."""
        if name not in self._leaves:
            self._leaves[name] = label(empty(self.nodes[name].schema).lazy(), name)
        return self._leaves[name]

    def ahead(self, name: str) -> pl.LazyFrame:
        """Return an empty frame with the columns that a node has before its gate, labelled with its name."""
        return label(empty(self.nodes[name].ahead).lazy(), name) if self.nodes[name].raw else self.leaf(name)

    def gated(self, node: Node) -> Stub:
        """Return the plan of the rows that pass a node's gate, over an empty frame of the node."""
        key = (node.name, tuple(map(id, node.checks)))
        if key not in self._gated:
            # with the node, for ids are those of its checks as long as these are there
            self._gated[key] = Stub(node.good(self.ahead(node.name), self.lookup)), node
        return self._gated[key][0]

    def made(self, name: str, masks: frozenset[str] = MASKS) -> ColumnLineage:
        """Return the lineage of a stage's columns before its gate, in terms of its inputs."""
        from lazypipe.plan.steps import plan_lineage

        if (name, masks) not in self._made:
            self._made[name, masks] = plan_lineage(self._steps(self.nodes[name]), name, masks=masks)
        return self._made[name, masks]

    def _steps(self, node: Node) -> PlanNode:
        """Return the plan of a stage's steps, each over the previous one, and of the contract that is applied to their rows."""
        last = node.refit(self.nodes)
        above = [stub.plan(exact=False) for stub in (*node.stubs, *([] if last is None else [last]))]
        if not node.stubs:
            above.insert(0, Stub(self.leaf(node.inputs[0])).plan(exact=False))
        plan = above[0]
        for step in above[1:]:
            plan = placed(step, HERE, plan)
        return plan

    def lookup(self, reference: Reference) -> pl.LazyFrame:
        """Return an empty frame of what a rule refers to."""
        return self.leaf(reference.to)

    def quarantine_uri(self, name: str) -> str:
        """Return the place of the rows that a node's gate quarantines."""
        output = next((s.output for s in self.segments if s.node == name), None)
        if output:
            return f"{self.outputs[output].to}__quarantine"
        return self.state.place("quarantine", name)
