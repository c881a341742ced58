"""Which strategy keeps an output up to date, derived from the operations of its segment; users annotate nothing.

Each operation says in its own file how rows that come or go pass through it (``Operation.change``). Put together, that gives
for each output either that every row of it is made of one row of what it reads, so that it can be kept up to date unit by
unit (``storage.units``), or that any row of it may change, and why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal

from lazypipe.compile.changes.flow import Flow, Flows
from lazypipe.compile.changes.strategy import Side, Strategy
from lazypipe.compile.closing import closes
from lazypipe.compile.fingerprint import carried
from lazypipe.compile.node import Node
from lazypipe.compile.segments import Segment
from lazypipe.spec.model import Output

__all__ = ["strategies"]

_WHOLE = {
    "snapshot": " keeps all rows of each run",
    "scd2": " with deletes: close compares all rows with the existing ones",
    "replace_partitions": " replaces whole partitions",
}
"""What write modes need all rows for, where rows are not just added."""


def strategies(
    nodes: Mapping[str, Node], segments: tuple[Segment, ...], outputs: Mapping[str, Output]
) -> tuple[dict[str, Strategy], dict[str, Strategy]]:
    """Return how each output is kept up to date, by its name; and by their nodes, how what is kept for a run only is read.

    Of the latter, ``units`` says that rows of just some files can be kept, each with its unit; otherwise all are.
    """
    published = {s.node for s in segments if s.output is not None and outputs[s.output].format == "dataset"}
    found: dict[str, Strategy] = {}
    inner: dict[str, Strategy] = {}
    for segment in segments:
        output = None if segment.output is None else outputs[segment.output]
        made = _Deriving(Flows(nodes, segment, published, inner, output)).strategy()
        if segment.output is None:
            inner[segment.node] = made
        else:
            found[segment.output] = made
    return found, inner


class _Deriving:
    """How one segment is kept up to date."""

    def __init__(self, flows: Flows) -> None:
        self.flows = flows
        self.nodes = flows.nodes
        self.segment = flows.segment
        self.output = flows.output

    def strategy(self) -> Strategy:
        """Return how the output is kept up to date."""
        flow = self._refused(self.flows.of(self.segment.node))
        keys, whole = self._keys(flow) if flow.cut is not None and not flow.reasons else ((), None)
        if flow.apart and whole is not None:
            flow, whole = flow.broken(whole), None
        kind = _kind(flow)
        order = [*self.nodes]
        reached = tuple(r for r in flow.reached if r[0] not in flow.stuck and kind != "full" and self._follows)
        closing = tuple(replace(c, end=flow.apart.get(c.end, c.end)) for c in flow.closing)
        unfollowed = {n for n in self.segment.nodes if closes(self.nodes[n]) is not None}
        if keys:
            unfollowed -= {c.node for c in closing}
        loose, sides = self._followed(flow, kind, unfollowed)
        twice = {leaf: f"{name}: it is joined by time, and also read in another way" for leaf, name, _ in flow.reached}
        near = {leaf for leaf, *_ in reached}
        loose = {leaf: why for leaf, why in {**twice, **loose}.items() if leaf not in near}
        # without distinct groups, everything is computed from the partial aggregates
        grouped = tuple(s for s in flow.grouped if keys and not loose.keys() >= {*s.leaves})
        behind = flow.behind if keys else flow.behind.union(*(s.leaves for s in flow.grouped))
        if flow.apart:
            # the grouping step may look rows up by these very columns; lookups of later steps are not known by group
            looking = tuple(s for s in grouped if (s.node, s.step) == flow.cut)
            others = (s.leaves for s in grouped if s not in looking)
            loose = dict.fromkeys(behind.union(*others), self._looked_up_late(flow)) | loose
            behind, grouped = frozenset(), looking
        return Strategy(
            kind,
            driving=tuple(sorted(flow.driving | flow.folded, key=order.index)),
            fixed=tuple(sorted(flow.fixed, key=order.index)),
            reasons=flow.reasons,
            cut=flow.cut,
            hashed=flow.hashed,
            keys=keys,
            whole=whole,
            reached=reached,
            loose=tuple(sorted(loose, key=order.index)),
            behind=tuple(sorted(behind, key=order.index)),
            sides=sides,
            grouped=grouped,
            because=loose,
            adds=self.flows.adds,
            closing=closing,
        )

    def _refused(self, flow: Flow) -> Flow:
        """Return what rows are made of, with what the output says against going by files."""
        if self.output is None:
            pass
        elif self.output.format != "dataset":
            flow = flow.broken(f"one {self.output.format} file is written in full")
        elif self.output.mode != "replace" and not self.flows.adds:
            flow = flow.broken(f"mode: {self.output.mode}{_WHOLE.get(self.output.mode, '')}")
        elif self.output.mode != "replace" and flow.cut is not None:
            flow = flow.broken(f"{flow.cut[0]}: every file can change existing rows")
        elif not (flow.driving or flow.folded or flow.reasons):
            flow = flow.broken("it reads nothing row by row")
        both = (flow.driving | flow.folded) & flow.fixed
        if both:
            what = f"{min(both)} is read both row by row and in full"
            flow = flow.broken(f"{what}; write what is looked up as an output of its own")
        return flow

    def _looked_up_late(self, flow: Flow) -> str:
        """Say why what is looked up behind groups that are read again is not followed."""
        assert flow.cut is not None
        made = self.flows.maker(flow.cut)
        return f"{flow.cut[0]}: it is looked up after {made}, which works by group; look it up before that"

    def _followed(self, flow: Flow, kind: str, closing: Collection[str]) -> tuple[Mapping[str, str], tuple[Side, ...]]:
        """Return the fixed leaves whose changes rebuild everything, and the places where changes of others are found by keys.

        ``closing`` are stages of which not just the groups are made anew that event time reaches.
        """
        if kind == "full" or self.flows.adds or closing:
            why = f"{min(closing)}: its windows close by event time" if closing else ""
            return {**dict.fromkeys(flow.fixed, why), **flow.loose}, ()
        return flow.loose, tuple(s for s in dict.fromkeys(flow.sides) if not flow.loose.keys() >= {*s.leaves})

    def _keys(self, flow: Flow) -> tuple[tuple[tuple[str, str], ...], str | None]:
        """Return the grouping columns with their names in the output, or why they do not identify its rows."""
        assert flow.cut is not None
        schema = self.nodes[flow.cut[0]].schemas[flow.cut[1]]
        if flow.whole is not None:
            return (), flow.whole
        if not flow.by:
            return (), "it has no grouping columns"
        if all(schema[c].is_nested() for c in flow.by):
            return (), "its grouping columns are nested"
        node, step = flow.cut
        ends = {c.end for c in flow.closing}
        implied = {*self.nodes[node].steps[step][0].implied} - ends
        # groups of some of the columns are larger ones
        by = [c for c in flow.by if c not in implied and not schema[c].is_nested()]
        found = carried(self.nodes, flow.cut, self.segment.node, by)
        joint = self.nodes[node].steps[step][0].joint
        lacking = [c for c in flow.made if c not in implied and c not in found]
        if joint and lacking:
            others = [c for c in lacking if c not in joint]
            if others and found.keys() <= {*joint}:
                what = f"{joint[0]} identifies its groups only together with {', '.join(others)}"
                return (), f"{what}, which is not in the output unchanged"
            found = {c: name for c, name in found.items() if c not in joint}
        if not found:
            return (), f"none of {', '.join(by)} is in the output unchanged"
        for closing in flow.closing:
            if closing.end not in found:
                what = f"{closing.node}: rows appear and leave by {closing.end}"
                return (), f"{what}, which is not in the output unchanged, or is not a grouping column"
        return tuple((flow.apart.get(c, c), name) for c, name in found.items()), None

    @property
    def _follows(self) -> bool:
        """Whether the output always holds the rows of its inputs as they are now."""
        return self.output is not None and self.output.mode == "replace"


def _kind(flow: Flow) -> Literal["units", "fold", "parts", "full"]:
    if flow.reasons:
        return "full"
    return "units" if flow.cut is None else "parts" if flow.apart else "fold"
