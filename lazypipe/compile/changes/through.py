"""How changes pass through the plan of a step: row by row, or by groups of rows with equal values in some columns.

What an operation does not declare is read off its Polars plan, so that SQL text, windows in expressions and operations that use
them follow one rule. Anything that is not listed here is assumed to mix all rows
(docs/decisions/0028-partitions.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lazypipe.plan.nodes import Named, PlanExpr, PlanNode, postorder
from lazypipe.plan.rowwise import is_rowwise, keeps_length

__all__ = ["LookedUp", "Through", "looked_up", "through"]


@dataclass(frozen=True)
class Through:
    """What is known about the rows at one point of a plan.

    Attributes
    ----------
    rows
        The labels of the inputs whose rows these are made of, each row of one of them.
    whole
        The labels of inputs that are also read, with all of their rows at once.
    by
        Rows depend only on rows with the same values in these columns of the input; None where each row is made of one row only.
    kept
        Column → the column of the input that it is an unchanged copy of.
    ordered
        Whether rows were sorted on the way.
    against
        What mixes all rows, in the words of SQL; empty if nothing does.
    """

    rows: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    by: frozenset[str] | None = None
    kept: Mapping[str, str] = field(default_factory=dict)
    ordered: bool = False
    against: str = ""

    @property
    def opaque(self) -> bool:
        """Whether the plan contains something opaque."""
        return self.against == _UNKNOWN

    @property
    def apart(self) -> dict[str, str]:
        """The columns in whose values rows that depend on each other agree, each with its name after the plan."""
        if self.against or self.by is None:
            return {}
        found: dict[str, str] = {}
        for name, ahead in self.kept.items():
            if ahead in self.by:
                found.setdefault(ahead, name)
        return found


def through(plan: PlanNode, ahead: str, known: frozenset[str] = frozenset()) -> Through:
    """Return how rows pass through a plan that was read with ``exact``; its input has the label ``ahead``.

    Columns of this input are followed, and those of other labels that are ``known``.

    Examples
    --------
    >>> import polars as pl
    >>> from lazypipe.plan.reader import read_plan
    >>> from lazypipe.spec.taps import label
    >>> rows = label(pl.LazyFrame(schema={"k": pl.String, "v": pl.Int64}), "a")
    >>> counted = rows.with_columns(n=pl.len().over("k")).rename({"k": "g"})
    >>> through(read_plan(counted, exact=True), "a").apart
    {'k': 'g'}
    """
    return _states(plan, ahead, known)[id(plan)]


@dataclass(frozen=True)
class LookedUp:
    """A place in a plan where rows find others by equal keys: columns of the rows ahead, and of those others, as they were."""

    here: tuple[str, ...]
    there: tuple[str, ...]


def looked_up(plan: PlanNode, ahead: str) -> dict[str, tuple[LookedUp, ...]]:
    """Return where rows of a plan find those of each other label by keys that both have as they were.

    What is made of the rows with one key there is then decided by these alone; also if they are filtered, joined with others, or grouped
    by that key first. Labels that are also read in another way are left out.

    Examples
    --------
    >>> import polars as pl
    >>> from lazypipe.plan.reader import read_plan
    >>> from lazypipe.spec.taps import label
    >>> rows = label(pl.LazyFrame(schema={"k": pl.String}), "a")
    >>> names = label(pl.LazyFrame(schema={"id": pl.String, "n": pl.Int64}), "b").group_by("id").agg(pl.col("n").sum())
    >>> looked_up(read_plan(rows.join(names, left_on="k", right_on="id"), exact=True), "a")
    {'b': (LookedUp(here=('k',), there=('id',)),)}
    """
    states = _states(plan, ahead, frozenset())
    found: dict[str, tuple[LookedUp, ...]] = {}
    untold: set[str] = set()
    for node in postorder(plan, _below):
        if node.kind != "join" or ahead not in states[id(node)].rows:
            continue
        at = 0 if ahead in states[id(node.inputs[0])].rows else 1
        one, other = states[id(node.inputs[at])], node.inputs[1 - at]
        sides = (node.keys, node.right_keys)
        pairs = [p for p in map(_columns_of, sides[at], sides[1 - at]) if p is not None]
        for name in {n.option("name") for n in postorder(other, _below) if n.kind == "label"}:
            inner = through(other, name)
            told = [(one.kept.get(a), inner.kept.get(b)) for a, b in pairs]
            keys = [(a, b) for a, b in told if a is not None and b is not None and b in (inner.by or {b})]
            if inner.against or name not in inner.rows or not keys:
                untold.add(name)
            else:
                here, there = zip(*keys, strict=True)
                found[name] = (*found.get(name, ()), LookedUp(here, there))
    return {n: of for n, of in found.items() if n not in untold}


def _columns_of(one: PlanExpr, other: PlanExpr) -> tuple[str, str] | None:
    """Return the columns that two keys are, perhaps both as numbers of one type; None if they are more than that."""
    if one.kind == other.kind == "cast" and one.name == other.name:
        numbers = "<Float" if one.name == "Float64" else ("<Int", "<UInt") if one.name in _INTEGERS else ()
        if not all((e.args[0].exact or "").startswith(numbers) for e in (one, other)):
            return None
        # those that are equal as such are equal as they were, or there are none such
        one, other = one.args[0], other.args[0]
    return (one.name, other.name) if one.kind == other.kind == "column" else None


_INTEGERS = frozenset({"Int16", "Int32", "Int64", "Int128", "UInt16", "UInt32", "UInt64"})
"""Types that numbers of two types are compared as."""


def _below(node: PlanNode) -> Sequence[PlanNode]:
    return () if node.kind == "label" else node.inputs


def _states(plan: PlanNode, ahead: str, known: frozenset[str]) -> dict[int, Through]:
    states: dict[int, Through] = {}
    for node in postorder(plan, _below):
        below = [states[id(i)] for i in node.inputs] if node.kind != "label" else []
        try:
            states[id(node)] = _step(node, below, ahead, known)
        except _Against as found:
            everything = frozenset[str]().union(*(s.rows | s.whole for s in below))
            # what is made of other rows only is read as a whole, whatever is done to them
            states[id(node)] = Through(whole=everything, against=str(found) if ahead in everything else "")
    return states


class _Against(Exception):
    """What mixes all rows."""


def _step(node: PlanNode, below: Sequence[Through], ahead: str, known: frozenset[str]) -> Through:
    for state in below:
        if state.against:
            raise _Against(state.against)
    if node.kind == "label":
        name = node.option("name")
        kept = {c: c for c in node.columns} if name == ahead or name in known else {}
        return Through(frozenset([name]), kept=kept)
    if node.exact is None or node.kind not in _STEPS:
        raise _Against(_UNSEEN.get(node.kind, _UNKNOWN))
    return _STEPS[node.kind](node, below, ahead)


_UNSEEN: Mapping[str, str] = {
    "slice": "LIMIT", "row_index": "row numbers", "hconcat": "a horizontal concatenation", "merge_sorted": "a merge of sorted rows",
}  # fmt: skip
_UNKNOWN = "a function that cannot be analyzed"


def _same(node: PlanNode, below: Sequence[Through], _: str) -> Through:
    """Return the same rows, with some of the columns; also those that it opens, row by row."""
    (state,) = below
    opened = node.option("columns", ()) if node.kind in ("explode", "unnest") else ()
    return replace(state, kept={c: state.kept[c] for c in node.columns if c in state.kept and c not in opened})


def _unpivot(node: PlanNode, below: Sequence[Through], _: str) -> Through:
    (state,) = below
    made = (node.option("value"), node.option("variable"))
    return replace(state, kept={c: state.kept[c] for c in node.columns if c in state.kept and c not in made})


def _columns(node: PlanNode, below: Sequence[Through], _: str) -> Through:
    (state,) = below
    state = _mixed(state, [n.expr for n in node.exprs])
    lengths = [keeps_length(n.expr) for n in node.exprs]
    if False in lengths or (node.kind == "select" and True not in lengths):
        raise _Against("values computed from all rows")
    kept = dict(state.kept) if node.kind == "with_columns" else {}
    return replace(state, kept=_made(kept, node.exprs, state))


def _made(kept: dict[str, str], exprs: Iterable[Named], state: Through) -> dict[str, str]:
    for named in exprs:
        kept.pop(named.name, None)
        if named.expr.kind == "column" and named.expr.name in state.kept:
            kept[named.name] = state.kept[named.expr.name]
    return kept


def _filter(node: PlanNode, below: Sequence[Through], _: str) -> Through:
    (state,) = below
    return _mixed(state, node.keys)


def _distinct(node: PlanNode, below: Sequence[Through], _: str) -> Through:
    (state,) = below
    return _within(state, node.keys, "DISTINCT")


def _group_by(node: PlanNode, below: Sequence[Through], _: str) -> Through:
    (state,) = below
    if node.option("index") is not None:
        raise _Against("groups by time intervals")
    for part in (p for n in node.exprs for p in postorder(n.expr, PlanExpr.parts)):
        if part.kind in ("opaque", "window"):
            raise _Against(_UNKNOWN if part.kind == "opaque" else "a window function inside an aggregate")
    names = [Named(n, k) for n, k in zip(node.option("names"), node.keys, strict=True)]
    return replace(_within(state, node.keys, "GROUP BY"), kept=_made({}, names, state))


def _join(node: PlanNode, below: Sequence[Through], ahead: str) -> Through:
    left, right = below
    how, one, other = node.option("how"), left, right
    if ahead in left.rows | left.whole and ahead in right.rows | right.whole:
        raise _Against("a self-join")
    if ahead in right.rows | right.whole:
        one, other = right, left
    if how not in ("inner", "cross", "right" if one is right else "left", *(() if one is right else ("semi", "anti"))):
        raise _Against(f"{how.upper()} JOIN")
    hidden = node.inputs[0].columns if one is right else ()
    kept = {c: one.kept[c] for c in node.columns if c in one.kept and c not in hidden}
    return replace(one, whole=one.whole | other.rows | other.whole, kept=kept)


def _union(_node: PlanNode, below: Sequence[Through], _: str) -> Through:
    if any(s.by is not None for s in below):
        raise _Against("UNION of groups")
    if not all(s.rows for s in below):
        raise _Against("UNION with rows that are read in full")
    first = below[0]
    kept = {c: o for c, o in first.kept.items() if all(s.kept.get(c) == o for s in below)}
    rows, whole = (frozenset[str]().union(*of) for of in ((s.rows for s in below), (s.whole for s in below)))
    return Through(rows, whole, kept=kept)


def _sort(node: PlanNode, below: Sequence[Through], _: str) -> Through:
    (state,) = below
    return replace(_mixed(state, node.keys), ordered=True)


_STEPS: Mapping[str, Callable[[PlanNode, Sequence[Through], str], Through]] = {
    "distinct": _distinct, "explode": _same, "filter": _filter, "group_by": _group_by, "join": _join, "pass": _same,
    "project": _same, "select": _columns, "sort": _sort, "union": _union, "unnest": _same, "unpivot": _unpivot,
    "with_columns": _columns,
}  # fmt: skip


def _mixed(state: Through, exprs: Iterable[PlanExpr]) -> Through:
    """Return how rows pass through expressions, some of which may read other rows with the same values."""
    for expr in exprs:
        for window in _windows(expr):
            partition = window.by[: window.options[0]]
            if 'kind="explode"' in (window.exact or "") or any(
                p.kind == "opaque" for p in postorder(window, PlanExpr.parts)
            ):
                raise _Against(_UNKNOWN)
            if any(p.kind == "window" for a in window.args for p in postorder(a, PlanExpr.parts)):
                raise _Against("a window function inside another")
            state = _within(state, partition, "OVER")
    return state


def _windows(expr: PlanExpr) -> list[PlanExpr]:
    """Return the windows of an expression that is, but for them, a matter of one row."""
    found: list[PlanExpr] = []
    left = [expr]
    while left:
        part = left.pop()
        if part.kind == "window":
            found.append(part)
        elif part.kind == "opaque":
            raise _Against(_UNKNOWN)
        elif not is_rowwise(part):
            raise _Against(f"{part.name or part.kind} over all rows")
        else:
            left += part.parts()
    return found


def _within(state: Through, keys: Iterable[PlanExpr], what: str) -> Through:
    """Return rows that have to do with those of the same keys only."""
    names = frozenset(state.kept[k.name] for k in keys if k.kind == "column" and k.name in state.kept)
    by = names if state.by is None else names & state.by
    if not by:
        raise _Against(f"{what} without an unchanged column" if state.by is None else f"{what} by other columns")
    return replace(state, by=by)
