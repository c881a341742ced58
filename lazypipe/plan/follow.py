"""Following a plan node by node: what its columns are made to hold and which rows there are, as hashes, without any data.

A column's hash says what gives each row its value; so it stays the same where rows only go or stay, and what tells rows apart
changes. ``docs/decisions/0014-fingerprints.md`` says why that is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lazypipe.plan.fingerprint import digest
from lazypipe.plan.nodes import Named, PlanExpr, PlanNode, postorder
from lazypipe.plan.rowwise import is_rowwise, is_series, keeps_length, needs_no_order
from lazypipe.plan.spelling import (
    by_null,
    chain,
    is_whole_sum,
    links,
    mirrored,
    opposite,
    stripped,
    truth,
)

__all__ = ["State", "follow"]


@dataclass(frozen=True)
class State:
    """What is known of rows at one point of a plan.

    The rows are ``base``, of which ``conditions`` leave some: so two filters are the same as one with both. ``columns`` are
    hashes of what gives each row its value; they stay the same where rows only go. ``sequence`` is the order in which rows
    come, which operations that look at neighbours see; ``ordered`` whether it is a promise.
    """

    base: str
    columns: Mapping[str, str]
    sequence: str
    conditions: frozenset[str] = frozenset()
    ordered: bool = False

    @cached_property
    def rows(self) -> str:
        """Which rows there are."""
        return digest("filter", self.base, sorted(self.conditions)) if self.conditions else self.base

    @cached_property
    def everything(self) -> str:
        """All that can be known of the rows, their names included."""
        return digest("everything", self.rows, sorted(self.columns.items()), self.sequence)

    def only(self, columns: Iterable[str]) -> State:
        """Return it with these columns."""
        return self.having({c: self.columns[c] for c in columns})

    def having(self, columns: Mapping[str, str]) -> State:
        """Return it with other columns of the same rows."""
        return State(self.base, columns, self.sequence, self.conditions, self.ordered)


def follow(plan: PlanNode, leaves: Mapping[str, State], identity: Callable[[], str] = str) -> State:
    """Return what is known after a plan that was read with ``exact``.

    Parameters
    ----------
    leaves
        What is known of the rows under each label.
    identity
        Gives a hash of all that the plan was made from; asked for only where the plan cannot be seen into.
    """
    states: dict[int, State] = {}
    seeing = _Seeing(identity)
    for node in _visible(plan):
        if node.kind == "label":
            states[id(node)] = leaves[node.option("name")].only(node.columns)
            continue
        seeing.node += 1
        states[id(node)] = _Step(node, [states[id(i)] for i in node.inputs], seeing).state()
    return states[id(plan)]


def _visible(plan: PlanNode) -> Iterable[PlanNode]:
    """Return the nodes of a plan down to the labels."""
    return postorder(plan, lambda node: () if node.kind == "label" else node.inputs)


@dataclass
class _Seeing:
    """Gives parts that cannot be seen into a hash: of all the plan is made from, and of where in it they are."""

    identity: Callable[[], str]
    node: int = 0
    _identity: str | None = None

    def opaque(self, *where: Any) -> str:
        if self._identity is None:
            self._identity = self.identity()
        return digest("opaque", self._identity, self.node, *where)


@dataclass
class _Values:
    """Hashes of expressions over the columns of one input; each part once."""

    state: State
    seeing: _Seeing
    side: str = ""
    known: dict[int, str] = field(default_factory=dict)
    denied: dict[int, str] = field(default_factory=dict)
    links: dict[tuple[int, bool], frozenset[str]] = field(default_factory=dict)

    def of(self, expr: PlanExpr, place: Any) -> str:
        """Return the hash of an expression; ``place`` is where it stands in its node."""
        self._know(expr, place)
        found = self.known[id(expr)]
        # values side by side with the rows are matched by their order
        return digest("aligned", found, self.state.rows, self.state.sequence) if is_series(expr) else found

    def all(self, exprs: Sequence[PlanExpr]) -> list[str]:
        return [self.of(e, i) for i, e in enumerate(exprs)]

    def conditions(self, expr: PlanExpr, place: Any) -> frozenset[str]:
        """Return the hashes of conditions all of which must hold for ``expr`` to hold."""
        whole = self.of(expr, place)
        return frozenset([whole]) if is_series(expr) else self._joined("And", [expr], holds=True)

    def _know(self, expr: PlanExpr, place: Any) -> None:
        parts = [*postorder(expr, PlanExpr.parts)]
        denies = any(not stripped(p)[1] for p in parts)
        for number, part in enumerate(parts):
            if id(part) not in self.known:
                self.known[id(part)] = self._one(part, [self.side, place, number])
            # parts come ahead of what denies them, so that no question is as deep as the brackets are
            if denies and id(part) not in self.denied and chain(part, holds=False) is not None:
                self.denied[id(part)] = self._chained(part, holds=False)

    def _one(self, expr: PlanExpr, where: list[Any]) -> str:
        if expr.kind == "column" and expr.name in self.state.columns:
            return self.state.columns[expr.name]
        if expr.kind in ("column", "opaque") or expr.exact is None:
            return self.seeing.opaque(where, self.state.everything)
        part, holds = stripped(expr)
        if part is not expr:
            return self._condition(part, holds=holds)
        return self._plain(mirrored(expr)) if chain(expr, holds=True) is None else self._chained(expr, holds=True)

    def _condition(self, expr: PlanExpr, *, holds: bool) -> str:
        """Return the hash of a condition that NOT is taken off, or of its opposite."""
        if holds:
            return self._of_part(expr)
        if id(expr) in self.denied:
            return self.denied[id(expr)]
        other = opposite(expr)
        found = digest(_NOT, [self._of_part(expr)], []) if other is None else self._plain(mirrored(other))
        if id(expr) in self.known:
            self.denied[id(expr)] = found
        return found

    def _of_part(self, expr: PlanExpr) -> str:
        """Return the hash of a part of the plan, or of what stands in place of one."""
        return self.known[id(expr)] if id(expr) in self.known else self._plain(expr)

    def _chained(self, expr: PlanExpr, *, holds: bool) -> str:
        name = chain(expr, holds=holds)
        assert name is not None
        found = self.links[id(expr), holds] = self._joined(name, links(expr), holds=holds)
        return min(found) if len(found) == 1 else digest("all", name, f"{_OPERATOR}{name})", sorted(found))

    def _joined(self, name: str, parts: Iterable[PlanExpr], *, holds: bool) -> frozenset[str]:
        """Return the links of a chain of AND or OR, which does not mind their order, or how often they stand."""
        found: set[str] = set()
        for one in parts:
            part, so = stripped(one, holds=holds)
            if chain(part, holds=so) == name:
                found |= self.links[id(part), so]
            elif truth(part) is None or (truth(part) == so) != (name == "And"):
                found.add(self._condition(part, holds=so))
        return frozenset(found)

    def _plain(self, expr: PlanExpr) -> str:
        """Return the hash of an expression, of those of its parts."""
        args, by = [self._of_part(a) for a in expr.args], [self._of_part(b) for b in expr.by]
        said = [expr.kind, expr.name, expr.exact]
        if is_whole_sum(expr):
            args = sorted(self._summed(expr))
        elif expr.kind == "operator" and (
            expr.name in _EITHER or (expr.name in _SUMS and (expr.exact or "").startswith(_NUMBERS))
        ):
            args.sort()
        elif (told := by_null(expr)) is not None:
            condition, *args = map(self._of_part, told)
            by = [condition]
            value = self._of_part(told[0].args[0])
            if value == args[0]:
                given = (expr.exact or "").removesuffix("Ternary()")
                said, args, by = (
                    [*_COALESCE, f'{given}Function(function_data=["coalesce"],options=None)'],
                    [value, args[1]],
                    [],
                )
        if is_rowwise(expr):
            return digest(said, args, by)
        rows = self.state.rows
        return (
            digest(said, args, by, rows) if needs_no_order(expr) else digest(said, args, by, rows, self.state.sequence)
        )

    def _summed(self, expr: PlanExpr) -> list[str]:
        """Return what a chain of one operator over whole numbers puts together."""
        found: list[str] = []
        pending = [*expr.args]
        while pending:
            part = pending.pop()
            if part.exact == expr.exact and is_whole_sum(part):
                pending += part.args
            else:
                found.append(self._of_part(part))
        return found


_NOT = ["function", "not", "<Boolean>Function(function_data=[BooleanFunction.Not],options=None)"]
_OPERATOR = "<Boolean>BinaryExpr(op=Operator."
_COALESCE = ["function", "coalesce"]
_EITHER = frozenset({"Eq", "EqValidity", "NotEq", "NotEqValidity", "Xor"})
_SUMS = frozenset({"Plus", "Multiply"})
"""Operators of which, for two numbers, it does not matter bit by bit which one is first."""
_NUMBERS = ("<Int", "<UInt", "<Float")


@dataclass
class _Step:
    """One node over what is known of its inputs."""

    node: PlanNode
    inputs: Sequence[State]
    seeing: _Seeing

    def state(self) -> State:
        node = self.node
        if node.exact is None or (not self.inputs and node.keys):
            return self.opaque()
        if node.kind == "pass" and "hint_sorted" in node.exact:
            return self.reshaped()  # a hint that is wrong changes results
        return _STEPS.get(node.kind, _Step.reshaped)(self)

    def here(self) -> _Values:
        return _Values(self.inputs[0], self.seeing)

    def named(self, exprs: Sequence[Named]) -> dict[str, str]:
        here = self.here()
        return {n.name: here.of(n.expr, n.name) for n in exprs}

    def opaque(self) -> State:
        node = self.node
        said = [node.kind, list(node.paths), list(node.columns)]
        return self.other(self.seeing.opaque(said, [s.everything for s in self.inputs]))

    def reshaped(self) -> State:
        """Return rows that each column of each input may have a part in; the options of a node name its columns."""
        said = [self.node.kind, self.node.exact, list(self.node.columns)]
        return self.other(digest(said, [s.everything for s in self.inputs]))

    def other(self, rows: str) -> State:
        columns = {c: digest("column", rows, c) for c in self.node.columns}
        return State(rows, columns, digest("sequence", rows))

    def leaf(self) -> State:
        rows = digest(self.node.kind, self.node.exact)
        columns = {c: digest("column", rows, c) for c in self.node.columns}
        return State(rows, columns, digest("sequence", rows))

    def select(self) -> State:
        made, first = self.named(self.node.exprs), self.inputs[0]
        exprs = [n.expr for n in self.node.exprs]
        if any(keeps_length(e) for e in exprs) and all(keeps_length(e) is not False for e in exprs):
            return first.having(made)
        rows = digest("select", first.rows, first.sequence, sorted(made.values()))
        columns = {c: digest("column", rows, h) for c, h in made.items()}
        return State(rows, columns, digest("sequence", rows))

    def project(self) -> State:
        return self.inputs[0].only(self.node.columns)

    def with_columns(self) -> State:
        first = self.inputs[0]
        return first.having({**first.columns, **self.named(self.node.exprs)})

    def row_index(self) -> State:
        first = self.inputs[0]
        number = digest("row_index", self.node.exact, first.rows, first.sequence)
        return first.having({**first.columns, self.node.option("name"): number})

    def filter(self) -> State:
        first = self.inputs[0]
        more = self.here().conditions(self.node.keys[0], "filter")
        return State(first.base, first.columns, first.sequence, first.conditions | more, first.ordered)

    def sort(self) -> State:
        first = self.inputs[0]
        sequence = digest("sort", self.node.exact, self.here().all(self.node.keys), first.sequence)
        return State(first.base, first.columns, sequence, first.conditions, ordered=True)

    def fewer(self) -> State:
        """Return some of the rows, chosen by their order."""
        first = self.inputs[0]
        keys = sorted(set(self.here().all(self.node.keys)))
        rows = digest(self.node.kind, self.how(), keys, first.rows, first.sequence)
        return State(rows, first.columns, first.sequence, ordered=first.ordered)

    def how(self) -> str:
        """Return the options of a node; those of a distinct name its columns, which stand as its keys."""
        return str(self.node.option("keep") if self.node.kind == "distinct" else self.node.exact)

    def group_by(self) -> State:
        node, first, here = self.node, self.inputs[0], self.here()
        keys = {n: here.of(k, n) for n, k in zip(node.option("names"), node.keys, strict=True)}
        index = node.option("index")
        by_time = [] if index is None else [first.columns[index], first.sequence]
        rows = digest("group_by", node.exact, sorted(set(keys.values())), by_time, first.rows)
        made = {n.name: digest("aggregate", rows, here.of(n.expr, n.name)) for n in node.exprs}
        # what is neither a key nor an aggregate is of the window: its start, its bounds
        columns = {c: keys.get(c) or made.get(c) or digest("window", rows, c) for c in node.columns}
        return State(rows, columns, digest("sequence", rows, first.sequence))

    def join(self) -> State:
        node, (left, right) = self.node, self.inputs
        one, other = _Values(left, self.seeing, "left"), _Values(right, self.seeing, "right")
        how, suffix = node.option("how"), node.option("suffix")
        ours, theirs = one.all(node.keys), other.all(node.right_keys)
        pairs = [list(p) for p in zip(ours, theirs, strict=True)]
        by_order = [left.sequence, right.sequence] if how == "asof" else []
        if how != "asof":
            pairs.sort()
        if node.option("condition") is not None or how not in _JOINS:
            return self.opaque()
        rows = digest("join", node.exact, pairs, left.rows, right.rows, by_order)
        columns: dict[str, str] = {}
        for name in node.columns:
            there = name if name in right.columns else name.removesuffix(suffix)
            if how in ("right", "full"):
                # which side a value is from depends on the row; that of a key may be its mate's
                sides = [left.columns.get(name), right.columns.get(name), right.columns.get(there)]
                columns[name] = digest(
                    "joined", rows, sides, _mates(name, node.keys, theirs), _mates(name, node.right_keys, ours)
                )
            elif name in left.columns:
                columns[name] = left.columns[name]
            else:
                columns[name] = digest("joined", rows, right.columns[there])
        return State(rows, columns, digest("sequence", rows, left.sequence, right.sequence))

    def union(self) -> State:
        rows = digest("union", [s.rows for s in self.inputs])
        columns = {c: digest("union", [s.columns[c] for s in self.inputs]) for c in self.node.columns}
        return State(rows, columns, digest("sequence", rows, self.node.exact, [s.sequence for s in self.inputs]))

    def explode(self) -> State:
        first, names = self.inputs[0], self.node.option("columns")
        rows = digest("explode", self.node.exact, [first.columns[c] for c in names], first.rows)
        opened = {c: digest("exploded", rows, first.columns[c]) for c in names}
        return State(rows, {**first.columns, **opened}, digest("sequence", rows, first.sequence), ordered=first.ordered)

    def unnest(self) -> State:
        first, names = self.inputs[0], self.node.option("columns")
        opened = [[c, first.columns[c]] for c in names]
        kept = {c: h for c, h in first.columns.items() if c not in names}
        fields = {c: digest("field", self.node.exact, opened, c) for c in self.node.columns if c not in kept}
        return first.having({c: kept.get(c) or fields[c] for c in self.node.columns})

    def unpivot(self) -> State:
        node, first = self.node, self.inputs[0]
        on = [[c, first.columns[c]] for c in node.option("on")]
        rows = digest("unpivot", on, first.rows)
        made = {node.option("value"): digest("value", rows), node.option("variable"): digest("variable", rows)}
        columns = {c: made.get(c) or first.columns[c] for c in node.columns}
        return State(rows, columns, digest("sequence", rows, first.sequence))


def _mates(name: str, keys: Sequence[PlanExpr], others: Sequence[str]) -> list[str]:
    """Return what a column is compared with as a key of a join."""
    return [o for k, o in zip(keys, others, strict=True) if k.kind == "column" and k.name == name]


_STEPS: Mapping[str, Callable[[_Step], State]] = {
    "distinct": _Step.fewer, "explode": _Step.explode, "filter": _Step.filter, "frame": _Step.leaf, "group_by": _Step.group_by,
    "join": _Step.join, "pass": _Step.project, "project": _Step.project, "row_index": _Step.row_index, "scan": _Step.leaf,
    "select": _Step.select, "slice": _Step.fewer, "sort": _Step.sort, "union": _Step.union, "unnest": _Step.unnest,
    "unpivot": _Step.unpivot, "with_columns": _Step.with_columns,
}  # fmt: skip
_JOINS = frozenset({"inner", "left", "right", "full", "semi", "anti", "cross", "asof"})
