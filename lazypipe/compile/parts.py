"""What the lineage of a pipeline and its fingerprints are read off: its nodes over placeholders, under their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from lazypipe.compile.node import Node
from lazypipe.compile.segments import Segment
from lazypipe.compile.state import StateFolder
from lazypipe.gates.rule import Reference
from lazypipe.spec.model import Output
from lazypipe.spec.taps import label
from lazypipe.sql.exprs import empty
from lazypipe.storage import uri as uris

__all__ = ["Parts"]


@dataclass(frozen=True)
class Parts:
    """What they are made from: a compiled pipeline's nodes, segments and outputs, and where its state is."""

    state: StateFolder
    nodes: Mapping[str, Node]
    segments: Sequence[Segment]
    outputs: Mapping[str, Output]
    redact: uris.Redactor
    _leaves: dict[str, pl.LazyFrame] = field(default_factory=dict, init=False, repr=False, compare=False)

    def leaf(self, name: str) -> pl.LazyFrame:
        """Return no rows of a node, under its name."""
        if name not in self._leaves:
            self._leaves[name] = label(empty(self.nodes[name].schema).lazy(), name)
        return self._leaves[name]

    def ahead(self, name: str) -> pl.LazyFrame:
        """Return no rows of a node as they are ahead of its gate, under its name."""
        return label(empty(self.nodes[name].ahead).lazy(), name) if self.nodes[name].raw else self.leaf(name)

    def lookup(self, reference: Reference) -> pl.LazyFrame:
        """Return no rows of what a rule refers to."""
        return self.leaf(reference.to)

    def quarantine_uri(self, name: str) -> str:
        """Return where rows are put aside by a node's gate."""
        output = next((s.output for s in self.segments if s.node == name), None)
        if output:
            return f"{self.outputs[output].to}__quarantine"
        return self.state.place("quarantine", name)
