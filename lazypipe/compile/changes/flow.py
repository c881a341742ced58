"""Which sources the rows of a segment come from: row by row, or as a whole, and what prevents anything better.

Each operation says in its own file how added and removed rows pass through it (``Operation.change``); this module combines them step by step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import polars as pl

from lazypipe.compile.changes.passing import Passing
from lazypipe.compile.changes.strategy import Closes, Side, Strategy
from lazypipe.compile.closing import as_closed
from lazypipe.compile.fingerprint import carried
from lazypipe.compile.node import Node
from lazypipe.compile.outputs.modes import adds_to
from lazypipe.compile.segments import Segment
from lazypipe.gates import Check
from lazypipe.gates.rule import PREVIOUS
from lazypipe.gates.uniqueness import hashable
from lazypipe.ops.base import AHEAD, Match
from lazypipe.spec.model import NOTHING, Output
from lazypipe.spec.scope import Table
from lazypipe.sql.exprs import empty

if TYPE_CHECKING:
    from lazypipe.ops.closed import Closed

__all__ = ["Flow", "Flows"]


@dataclass(frozen=True)
class Flow:
    """What the rows of a node are made of, up to some step.

    The leaves (sources and published outputs) are ``driving``, ``fixed`` or ``folded``. The attributes that ``Strategy`` has too mean the same here.

    Attributes
    ----------
    driving
        Leaves that are read row by row.
    fixed
        Leaves that are read completely.
    reasons
        Why nothing better is possible.
    folded
        Leaves before a step that is folded (``cut``). After it, anything may be done to the rows.
    by
        The grouping columns after the cut.
    made
        All columns that identify groups right after the cut.
    apart
        If the step at the cut works by groups and is not folded: its grouping columns after it → their names before it.
    whole
        Why not every row belongs to one group.
    hashed
        Checks of keys on the way that compare rows of one file with those of others.
    reached
        Leaves that are the other side of a join by time, with its stage and step.
    stuck
        Leaves that are ``fixed`` in any other way.
    loose
        Fixed leaves for which it is not known what a change affects → why.
    behind
        Leaves that are read after the cut.
    sides, grouped
        The lookups of others by keys: of rows, and of groups.
    closing
        The steps whose groups come or leave as event time advances, with their columns as named right after the cut.
    """

    driving: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()
    reasons: tuple[str, ...] = ()
    folded: frozenset[str] = frozenset()
    cut: tuple[str, int] | None = None
    by: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    apart: Mapping[str, str] = NOTHING
    whole: str | None = None
    hashed: tuple[tuple[str, str], ...] = ()
    reached: tuple[tuple[str, str, int], ...] = ()
    stuck: frozenset[str] = frozenset()
    loose: Mapping[str, str] = NOTHING
    behind: frozenset[str] = frozenset()
    sides: tuple[Side, ...] = ()
    grouped: tuple[Side, ...] = ()
    closing: tuple[Closes, ...] = ()

    @property
    def leaves(self) -> frozenset[str]:
        """All leaves that the rows are made of."""
        return self.driving | self.fixed | self.folded

    def all_fixed(self) -> Flow:
        """Return the same, with all leaves read completely."""
        return Flow(fixed=self.leaves, stuck=self.leaves)

    def with_fixed(self, leaves: Iterable[str]) -> Flow:
        """Return the same, with more leaves that are read completely."""
        return replace(self, fixed=self.fixed.union(leaves), stuck=self.stuck.union(leaves))

    def broken(self, reason: str) -> Flow:
        """Return the same, with all leaves read completely, and why."""
        return Flow(fixed=self.leaves, reasons=(*self.reasons, reason), stuck=self.leaves)


@dataclass(frozen=True)
class Flows:
    """Finds out what the rows of one segment are made of."""

    nodes: Mapping[str, Node]
    segment: Segment
    published: set[str]
    inner: Mapping[str, Strategy]
    output: Output | None

    @property
    def adds(self) -> bool:
        """Whether the output's mode adds rows to existing ones."""
        return self.output is not None and adds_to(self.output)

    def maker(self, cut: tuple[str, int]) -> str:
        """Return the name of the operation that forms the groups."""
        return self.nodes[cut[0]].steps[cut[1]][0].name

    def _leaves(self, name: str) -> frozenset[str]:
        """Return the leaves of a node: the sources and published outputs that it is made of, or that gates on the way look up."""
        node = self.nodes[name]
        if name in self.published or (node.source is not None and not node.checks):
            return frozenset([name])
        own = [name] if node.source is not None else []
        return frozenset(own).union(*(self._leaves(n) for n in (*node.inputs, *_looked_up(node))))

    def of(self, name: str) -> Flow:
        """Return what a node's rows are made of, behind its gate."""
        node = self.nodes[name]
        if name not in self.segment.nodes:
            if name not in self.inner:
                return Flow(driving=frozenset([name]))
            inner = self.inner[name]
            if inner.kind != "units":
                kept = f"{name}: several stages read it, so its groups are rebuilt in every run; write it as an output of its own"
                why = inner.reasons or (kept,)
                return Flow(fixed=self._leaves(name), reasons=why, stuck=self._leaves(name))
            flow = Flow(driving=frozenset(inner.driving), loose=inner.because, sides=inner.sides)
            return flow.with_fixed(inner.fixed)
        flow = Flow(driving=frozenset([name])) if node.source is not None else self._ahead(node)
        flow = self._looking(node, flow)
        if not flow.driving:
            against = self._against_groups(node) if flow.cut is not None else None
            return flow if against is None else replace(flow, whole=flow.whole or against)
        if self.adds:  # where rows are added to what is there, gates judge those of the run
            return flow
        reason = self._against(node)
        if reason is not None:
            return flow.broken(reason)
        return replace(
            flow, hashed=(*flow.hashed, *((node.name, c.id) for c in node.checks if self._is_hashed(c, node)))
        )

    def _looking(self, node: Node, flow: Flow) -> Flow:
        """Return what a node's rows are made of, with what its gate looks up."""
        looked = {n: self._leaves(n) for n in _looked_up(node)}
        flow = flow.with_fixed(chain.from_iterable(looked.values()))
        if flow.cut is not None:
            return replace(flow, behind=flow.behind.union(*looked.values()))
        repaired = {c.column for c in node.checks if c.repair is not None}
        sides, loose = [*flow.sides], {**flow.loose}
        for check in node.checks:
            if check.measure is not None:
                measured = chain.from_iterable(looked[n] for n in check.measure.frames if n in looked)
                loose = dict.fromkeys(measured, f"{node.name}: {check.id} compares with all of its rows") | loose
            if check.reference is not None:
                of, leaves = check.reference, looked[check.reference.to]
                match = Match(of.columns, of.to, of.others, times=of.least != 1 or of.most is not None)
                told = _told(match, node.schema, self.nodes[of.to].schema)
                if told is not None and repaired.isdisjoint(of.columns):
                    sides.append(Side(node.name, None, check.id, told, tuple(sorted(leaves))))
                else:
                    why = "compares nested values" if told is None else "looks up a column that the same gate repairs"
                    loose = dict.fromkeys(leaves, f"{node.name}: {check.id} {why}") | loose
        return replace(flow, loose=loose, sides=tuple(sides))

    def _ahead(self, node: Node) -> Flow:
        """Return what a stage's rows are made of, ahead of its gate."""
        inputs = {n: self.of(n) for n in node.inputs}
        tables = {n: Table(empty(self.nodes[n].schema).lazy(), self.nodes[n].schema) for n in node.inputs}
        flow, schema, unread = inputs[node.inputs[0]], self.nodes[node.inputs[0]].schema, {*node.inputs[1:]}
        for index, ((operation, scope), after) in enumerate(zip(node.steps, node.schemas, strict=True)):
            table, here = Table(empty(schema).lazy(), schema), replace(scope, tables=tables)
            passing = Passing(node, index, operation, table, here)
            others = passing.inputs()
            sides = [inputs[n] for n in others]
            unread -= {*others}
            changed = frozenset(n for n in others if inputs[n].driving) | {AHEAD}
            if flow.cut is not None and (closed := as_closed(operation)) is not None:
                flow = self._closing(flow, node, index, closed)
            elif flow.cut is not None and passing.change(frozenset([AHEAD]), told=False) != "each":
                flow = self._narrowed(flow, node, index, passing)
            if passing.change(changed) != "alone" or not all(f.driving for f in (flow, *sides)):
                near, far = self._reached(passing, flow, sides)
                sides = [f.all_fixed() for f in sides] if near is None else [near]
                # rows of a side that go on by themselves, and are no unit's, would come again with each part
                if flow.driving and passing.change(frozenset([AHEAD])) != "each":
                    flow = self._cut(flow, node, index, passing)
                flow = self._beside(flow, passing, dict(zip(others, sides, strict=True)), far) if near is None else flow
            for side in sides:
                flow = replace(
                    flow,
                    driving=flow.driving | side.driving,
                    fixed=flow.fixed | side.fixed,
                    stuck=flow.stuck | side.stuck,
                    reached=(*flow.reached, *side.reached),
                    reasons=(*flow.reasons, *side.reasons),
                    hashed=tuple(dict.fromkeys([*flow.hashed, *side.hashed])),
                    loose={**side.loose, **flow.loose},
                    sides=(*flow.sides, *side.sides),
                )
            schema = after
        # a query over all inputs does not say which of them it reads
        more = frozenset(chain.from_iterable(inputs[n].leaves for n in unread))
        idle = {
            leaf: f"{node.name}: no step reads {n}; leave it out of from" for n in unread for leaf in inputs[n].leaves
        }
        return replace(flow.with_fixed(more), loose={**idle, **flow.loose})

    def _reached(self, passing: Passing, flow: Flow, sides: list[Flow]) -> tuple[Flow | None, str]:
        """Return the other side of a join by time, if it is known which rows here match those that are added or removed there; otherwise why not.

        It must be made of one source or output row by row, and so must the rows here of theirs.
        """
        from lazypipe.ops.asof_join import AsofJoin
        from lazypipe.ops.interval_join import IntervalJoin

        node, operation = passing.node, passing.operation
        if not len(sides) == len(operation.inputs()) == 1 or not flow.driving or flow.cut is not None:
            return None, ""
        if not isinstance(operation, AsofJoin | IntervalJoin):
            return None, ""
        (side,), (other,) = sides, operation.inputs()
        publish = f"write {other} as an output of its own, so that changes in its rows can be followed"
        if side.reasons:
            return None, side.reasons[0]
        if side.cut or side.hashed:
            return None, f"rows of {other} depend on rows of several files; {publish}"
        if len(side.driving) != 1 or side.fixed:
            return None, f"{other} is computed from {' and '.join(sorted(side.leaves))}; {publish}"
        if operation.reach(passing.table, passing.scope) is None:
            return None, "there are no distances between keys of this type; use dates, datetimes or numbers"
        unseen = [n for n in (node.inputs[0], other) if not self._is_seen(n)]
        if unseen:
            what = (
                f"a gate of {unseen[0]}, or upstream of it, removes rows by key, looks other rows up, or repairs values"
            )
            return (
                None,
                f"{what}; write {unseen[0]} as an output of its own, so that changes in its rows can be followed",
            )
        (leaf,) = side.driving
        return Flow(fixed=side.driving, reached=((leaf, node.name, passing.index),)), ""

    def _is_seen(self, name: str) -> bool:
        """Whether a node is made of sources and outputs by what can be done once more: no gate on the way needs other rows or changes some."""
        node = self.nodes[name]
        if name not in self.segment.nodes and name not in self.inner:
            return name in self.published
        removing = [c for c in node.checks if c.removes_rows]
        alone = all(c.reference is None and c.repair is None for c in node.checks) and not any(c.keys for c in removing)
        return alone and node.judges_each(removing) and all(map(self._is_seen, node.inputs))

    def _beside(self, flow: Flow, passing: Passing, others: Mapping[str, Flow], far: str) -> Flow:
        """Return what rows are made of, with how a step finds those of its sides that are read in whole; ``far`` says why not by time."""
        node, step = passing.node, passing.index
        matches, found, untold = passing.matches(), list[Side](), dict[str, str]()
        for name, side in others.items():
            there = self.nodes[name].schema
            told = [_told(m, passing.table.schema, there) for m in matches.get(name, ())]
            if not told or None in told or (flow.cut is not None and flow.cut[0] != node.name):
                why = "its keys are nested values" if None in told else far or passing.mixes(name)
                untold = dict.fromkeys(side.fixed, f"{node.name}: {passing.operation.name}: {why}") | untold
                continue
            for match in told:
                assert match is not None
                mark = f"@{step}.{len(found)}" if found else f"@{step}"
                found.append(Side(node.name, step, mark, match, tuple(sorted(side.fixed))))
        if flow.cut is not None:
            return replace(flow, behind=flow.behind.union(untold), grouped=(*flow.grouped, *found))
        return replace(flow, loose={**untold, **flow.loose}, sides=(*flow.sides, *found))

    def _cut(self, flow: Flow, node: Node, index: int, passing: Passing) -> Flow:
        """Return what rows are made of behind a step that is folded, or that goes by groups; or why any may change."""
        folded = replace(flow, driving=frozenset(), folded=flow.driving, cut=(node.name, index))
        by = passing.folds()
        if by is not None:
            return replace(folded, by=by, made=by)
        apart = passing.apart()
        if not apart:
            return flow.broken(f"{node.name}: {passing.against()}")
        return replace(folded, by=tuple(apart.values()), apart={after: ahead for ahead, after in apart.items()})

    def _narrowed(self, flow: Flow, node: Node, index: int, passing: Passing) -> Flow:
        """Return what rows are made of behind a further step that does not leave each group by itself: larger groups."""
        assert flow.cut is not None
        apart = {} if passing.inputs() else passing.apart()
        here = {c: carried(self.nodes, flow.cut, node.name, [c], stop=index) for c in flow.by}
        by = tuple(c for c, found in here.items() if found and found[c] in apart)
        if by:
            return replace(flow, by=by)
        against = passing.against(self.maker(flow.cut), flow.by)
        return replace(flow, whole=flow.whole or f"{node.name}: {against}")

    def _closing(self, flow: Flow, node: Node, index: int, closed: Closed) -> Flow:
        """Return what rows are made of behind a step that keeps closed ones: the same groups, each with the end of its rows."""
        assert flow.cut is not None
        ends = [c for c in flow.by if carried(self.nodes, flow.cut, node.name, [c], stop=index) == {c: closed.end}]
        against = ""
        if closed.expectation is not None:
            against = "expect checks all windows"
        elif not ends:
            made, by = self.maker(flow.cut), ", ".join(flow.by)
            against = f"{made} groups by {by}, and not by {closed.end}" if by else f"{made} has no groups"
        against = against and f"{node.name}: any row can change when event time advances ({against})"
        found = Closes(node.name, index, "" if against else ends[0])
        return replace(flow, whole=flow.whole or against or None, closing=(*flow.closing, found))

    def _against(self, node: Node) -> str | None:
        """Return what in a gate decides over rows, or judges them, by other rows than each alone."""
        if (comparing := _comparing(node)) is not None:
            return comparing
        last = self._is_last(node)
        for check in node.checks:
            if check.keys and check.removes_rows:
                return f"{node.name}: {check.id} removes rows depending on other rows"
            if check.measure is not None and not last:
                return f"{node.name}: {check.id} needs all rows; move it to the gate of the stage that is written"
            tolerated = check.action != "fail" or check.fail_above is not None
            if check.keys and tolerated and any(c.action == "quarantine" for c in node.checks):
                # the verdict on a quarantined row would change with rows of other files
                return f"{node.name}: {check.id} is among the reasons that quarantined rows carry, and depends on other rows"
            if self._is_hashed(check, node) and not hashable(check.keys, node.schema):
                return f"{node.name}: {check.id} compares nested values"
        return None

    def _against_groups(self, node: Node) -> str | None:
        """Return what in a gate behind groups needs rows that are not in the output."""
        for check in node.checks:
            if node.name != self.segment.node:
                return f"{node.name}: {check.id} checks rows that are not all in the output"
            if check.removes_rows or check.repair is not None:
                return f"{node.name}: {check.id} removes rows, or changes them"
        return _comparing(node)

    def _is_hashed(self, check: Check, node: Node) -> bool:
        """Whether the rows that a check of keys compares are not all in the output, as it compares them."""
        changes = any(c.action == "drop" or c.repair is not None for c in node.checks)
        return bool(check.keys) and (changes or not self._is_last(node))

    def _is_last(self, node: Node) -> bool:
        """Whether the rows that a node's gate lets go on are those of the output."""
        return node.name == self.segment.node and self.output is not None


def _told(match: Match, here: pl.Schema, there: pl.Schema) -> Match | None:
    """Return how rows find others, such that equal keys of both sides have equal hashes; None if they may not."""
    pairs = [(here[a], there[b]) for a, b in zip(match.here, match.there, strict=True)]
    if not hashable(match.here, here) or not hashable(match.there, there):
        return None
    if all(a == b for a, b in pairs):
        return match
    return replace(match, types=tuple(a if a == b else _wider(a, b) for a, b in pairs))


def _wider(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """Return the type that holds all values of two that differ, as joins compare them: Polars takes whole numbers of any, or fractions."""
    if one.is_float():
        return pl.Float64()
    if pl.UInt128() in (one, other):
        return pl.UInt128()
    large = (pl.UInt64(), pl.Int128())
    return pl.Int128() if one in large or other in large else pl.Int64()


def _comparing(node: Node) -> str | None:
    """Describe the first check of a gate that compares a row with other rows, or repairs it by their values; None if each row is judged alone. Keys do not count."""
    if node.judges_each(node.checks):
        return None
    found = next(c for c in node.checks if not node.judges_each([c]))
    told = "a repair takes values from" if found.repair is not None else f"{found.id} compares rows with"
    return f"{node.name}: {told} other rows"


def _looked_up(node: Node) -> tuple[str, ...]:
    """Return the other sources and stages that a node's gate reads."""
    found: dict[str, None] = {}
    for check in node.checks:
        if check.reference is not None:
            found[check.reference.to] = None
        if check.measure is not None:
            found |= dict.fromkeys(check.measure.frames)
    found.pop(PREVIOUS, None)
    return tuple(found)
