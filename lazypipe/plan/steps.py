"""Column lineage, node by node through a plan: what each column is computed from, and what decides which rows there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lazypipe.plan.lineage import MASKS, Column, ColumnLineage, Flow, Flows, Subtype, decided, made
from lazypipe.plan.nodes import Named, PlanExpr, PlanNode, postorder
from lazypipe.plan.text import Text, identifier, listed, render, shortened

__all__ = ["plan_lineage", "reshapes"]

_RESHAPING = frozenset(
    {"unique", "unique_stable", "drop_nulls", "drop_nans", "mode", "arg_where", "arg_unique", "unique_counts", "value_counts",
     "top_k", "top_k_by", "bottom_k", "bottom_k_by", "sample", "sample_n", "sample_frac", "random", "gather_every", "hist",
     "extend_constant", "repeat", "append", "search_sorted", "list.explode", "arr.explode", "repeat_by", "reshape", "rle"}
)  # fmt: skip
"""Functions that give another number of values than they get."""


@dataclass(slots=True)
class _State:
    """What is known at one node: per column its flows and its text, and what decides over rows."""

    columns: dict[str, Flows]
    texts: dict[str, Text]
    rows: dict[Flow, str]


def plan_lineage(plan: PlanNode, name: str = "", *, masks: frozenset[str] = MASKS) -> ColumnLineage:
    """Return the column lineage of a plan, down to what it reads: labelled rows, else files, else frames in memory.

    Parameters
    ----------
    name
        What to call the dataset that the plan makes.
    masks
        Functions after which a value can no longer be read.
    """
    nodes = [*plan.walk()]
    covered = {id(b) for n in nodes if n.kind == "label" for i in n.inputs for b in i.walk()}
    names = _leaf_names(nodes, covered)
    inputs = tuple(dict.fromkeys(name for number, name in names.items() if number not in covered))
    states: dict[int, _State] = {}
    for node in nodes:
        below = [states[id(i)] for i in node.inputs]
        if id(node) in names:
            states[id(node)] = _leaf(node, below, names[id(node)], tell=len(inputs) > 1, masks=masks)
        else:
            states[id(node)] = _step(node, below, masks)
    final = states[id(plan)]
    return ColumnLineage(name, final.columns, final.rows, {c: t.text for c, t in final.texts.items()}, inputs)


def _leaf_names(nodes: Sequence[PlanNode], covered: set[int]) -> dict[int, str]:
    """Name what a plan reads: by its label, by its files, or by its number. Labels stand for all that is below them, which they cover."""
    found: dict[int, str] = {}
    frames = 0
    for node in nodes:
        if node.kind == "label":
            found[id(node)] = node.option("name")
        elif node.kind in ("scan", "frame"):
            frames += not node.paths and id(node) not in covered
            found[id(node)] = _files(node.paths) if node.paths else "frame" + (f"#{frames}" if frames > 1 else "")
    return found


def _files(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return paths[0]
    return _common(paths).rpartition("/")[0] + "/*"


def _common(paths: Sequence[str]) -> str:
    first, last = min(paths), max(paths)
    differ = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:differ]


def _leaf(node: PlanNode, inputs: Sequence[_State], name: str, *, tell: bool, masks: frozenset[str]) -> _State:
    """Start again at what is read; predicates below a label are about what it names."""
    columns: dict[str, Flows] = {c: {Flow(Column(name, c), "IDENTITY"): ""} for c in node.columns}
    for column in node.option("made", ()):
        columns[column] = {}
    state = _State(columns, {c: identifier(c, name if tell else "") for c in columns}, {})
    for below in inputs:
        for flow, text in below.rows.items():
            state.rows[flow._replace(source=Column(name, flow.source.name))] = text
    seen = _State({}, {}, {})
    for key in node.keys:
        # a predicate inside a scan may read columns that do not come out of it
        names = [e.name for e in postorder(key, PlanExpr.parts) if e.kind == "column"]
        seen.columns = {c: {Flow(Column(name, c), "IDENTITY"): ""} for c in (*node.columns, *names)}
        seen.texts = {c: identifier(c, name if tell else "") for c in seen.columns}
        state.rows |= _Evaluation(seen, masks).decides([key], "FILTER")
    return state


class _Evaluation:
    """Evaluates expressions over the columns of one node; each part once."""

    def __init__(self, state: _State, masks: frozenset[str]) -> None:
        self._state = state
        self._masks = masks
        self._known: dict[int, tuple[Flows, Text]] = {}

    def of(self, expr: PlanExpr) -> tuple[Flows, Text]:
        """Return what an expression's values come from, and its text."""
        if expr.kind == "column":
            return self._one(expr)
        for part in postorder(expr, PlanExpr.parts):
            if id(part) not in self._known:
                self._known[id(part)] = self._one(part)
        return self._known[id(expr)]

    def decides(self, exprs: Sequence[PlanExpr], subtype: Subtype, text: str | None = None) -> dict[Flow, str]:
        """Return the flows of expressions that decide over rows."""
        found = [self.of(e) for e in exprs]
        said = listed([t for _, t in found]) if text is None else text
        opaque = any(e.kind == "opaque" for e in exprs)
        return {k: v for flows, _ in found for k, v in decided(flows, subtype, said, opaque=opaque).items()}

    def _one(self, expr: PlanExpr) -> tuple[Flows, Text]:
        if expr.kind == "column":
            if expr.name in self._state.columns:
                return self._state.columns[expr.name], self._state.texts[expr.name]
            return self._anything(Text(f"OPAQUE({expr.name})"))
        if expr.kind == "opaque":
            return self._anything(Text(f"OPAQUE({listed(list(self._state.texts.values()))})"))
        args, by = [self._known[id(a)] for a in expr.args], [self._known[id(b)] for b in expr.by]
        text = render(expr, [t for _, t in args], [t for _, t in by])
        found: dict[Flow, str] = {}
        masking = expr.kind == "function" and expr.name in self._masks
        for flows, _ in args:
            found |= made(flows, _VALUES.get(expr.kind, "TRANSFORMATION"), masking=masking)
        # a condition that nobody wrote decides nothing: a sum of no values is null
        shown = by if expr.kind != "ternary" or text != args[0][1] else []
        for flows, said in shown:
            found |= decided(flows, _DECIDES[expr.kind], said.text)
        return found, text

    def _anything(self, text: Text) -> tuple[Flows, Text]:
        """Return what may come from every column there is."""
        found: dict[Flow, str] = {}
        for flows in self._state.columns.values():
            found |= made(flows, "TRANSFORMATION", opaque=True)
        return found, text


_VALUES: Mapping[str, Subtype] = {
    "agg": "AGGREGATION", "window": "TRANSFORMATION", "rolling": "TRANSFORMATION", "sort": "TRANSFORMATION", "filter": "TRANSFORMATION",
}  # fmt: skip
_DECIDES: Mapping[str, Subtype] = {
    "ternary": "CONDITIONAL", "window": "WINDOW", "rolling": "WINDOW", "filter": "FILTER", "sort_by": "SORT",
}  # fmt: skip


def _step(node: PlanNode, inputs: Sequence[_State], masks: frozenset[str]) -> _State:
    """Return what is known after a node, from what is known after its inputs."""
    rows: dict[Flow, str] = {}
    for state in inputs:
        rows |= state.rows
    first = inputs[0]
    here = _Evaluation(first, masks)
    match node.kind:
        case "select":
            for named in node.exprs:
                if reshapes(named.expr):
                    rows |= here.decides([named.expr], "FILTER")
            return _State(*_named(node.exprs, here), rows)
        case "with_columns":
            columns, texts = _named(node.exprs, here)
            return _State({**first.columns, **columns}, {**first.texts, **texts}, rows)
        case "filter" | "sort" | "distinct":
            rows |= here.decides(node.keys, _ROWS[node.kind])
            return _State(first.columns, first.texts, rows)
        case "group_by":
            return _group_by(node, first, here, rows)
        case "join":
            return _join(node, inputs, masks, rows)
        case "union" | "merge_sorted":
            together = _union(node, inputs, rows)
            rows |= _Evaluation(together, masks).decides(node.keys, "SORT")
            return together
        case "hconcat" | "sink":
            return _State(
                {c: f for s in inputs for c, f in s.columns.items()},
                {c: t for s in inputs for c, t in s.texts.items()},
                rows,
            )
        case "opaque":
            return _opaque(node, inputs, rows)
        case "tap":
            rows |= here.decides(node.keys, "FILTER")
            return _chosen(node, first, rows)
        case "explode" | "unnest" | "unpivot":
            return _reshaped(node, first, here, rows)
        case _:
            return _chosen(node, first, rows)


_ROWS: Mapping[str, Subtype] = {"filter": "FILTER", "sort": "SORT", "distinct": "GROUP_BY"}


def reshapes(expr: PlanExpr) -> bool:
    """Whether an expression may give another number of values than there are rows, so that it decides over rows.

    Examples
    --------
    >>> column = PlanExpr("column", "a")
    >>> reshapes(PlanExpr("filter", "", (column,), (column,))), reshapes(column)
    (True, False)
    """
    pending = [expr]
    while pending:
        part = pending.pop()
        if part.kind in ("filter", "gather", "slice", "explode", "opaque"):
            return True
        if part.kind == "function" and part.name in _RESHAPING:
            return True
        if part.kind not in ("agg", "window", "rolling"):
            pending += part.args
    return False


def _named(exprs: Sequence[Named], here: _Evaluation) -> tuple[dict[str, Flows], dict[str, Text]]:
    found = {n.name: here.of(n.expr) for n in exprs}
    return {n: f for n, (f, _) in found.items()}, {n: shortened(t, n) for n, (_, t) in found.items()}


def _chosen(node: PlanNode, state: _State, rows: dict[Flow, str]) -> _State:
    """Keep the columns that a node lets through; those that it makes come from nothing (numbers of rows)."""
    columns = {c: state.columns.get(c, {}) for c in node.columns}
    return _State(columns, {c: state.texts.get(c, identifier(c)) for c in columns}, rows)


_REPEATED: Mapping[str, str] = {"__lazypipe_number": "window", "__lazypipe_begin": "window_start"}
"""What a row is repeated for that lies in several windows, as their columns are called afterwards."""


def _group_by(node: PlanNode, state: _State, here: _Evaluation, rows: dict[Flow, str]) -> _State:
    grouped = [Named(n, e) for n, e in zip(node.option("names"), node.keys, strict=True)]
    columns, texts = _named(grouped, here)
    keys = [identifier(_REPEATED[n]) if n in _REPEATED and "EXPLODE(" in t.text else t for n, t in texts.items()]
    rows |= here.decides(node.keys, "GROUP_BY", listed(keys))
    index = node.option("index")
    if index is not None:
        # the window's start, and its bounds where they are asked for
        made_of = made(state.columns[index], "TRANSFORMATION")
        rows |= decided(state.columns[index], "WINDOW", state.texts[index].text)
        for column in node.columns:
            if column not in columns:
                columns[column], texts[column] = made_of, Text(f"WINDOW({state.texts[index].text})")
    aggregated, said = _named(node.exprs, here)
    columns |= {c: made(f, "AGGREGATION") for c, f in aggregated.items()}
    texts |= said
    return _State({c: columns[c] for c in node.columns}, {c: texts[c] for c in node.columns}, rows)


def _join(node: PlanNode, inputs: Sequence[_State], masks: frozenset[str], rows: dict[Flow, str]) -> _State:
    left, right = inputs
    one, other = _Evaluation(left, masks), _Evaluation(right, masks)
    how, suffix, coalesces = node.option("how"), node.option("suffix"), node.option("coalesce")
    said = ", ".join(
        f"{a.inner} = {b.inner}"
        for a, b in zip((one.of(k)[1] for k in node.keys), (other.of(k)[1] for k in node.right_keys), strict=True)
    )
    rows |= one.decides(node.keys, "JOIN", said) | other.decides(node.right_keys, "JOIN", said)
    pairs = {a.name: b.name for a, b in zip(node.keys, node.right_keys, strict=True) if a.kind == b.kind == "column"}
    columns: dict[str, Flows] = {}
    texts: dict[str, Text] = {}
    for name in node.columns:
        there = name if name in right.columns else name.removesuffix(suffix)
        if name in left.columns and not (how == "right" and coalesces and name in pairs):
            columns[name], texts[name] = left.columns[name], left.texts[name]
            if how == "full" and coalesces and name in pairs:
                columns[name] = {**columns[name], **right.columns[pairs[name]]}
        else:
            columns[name], texts[name] = right.columns[there], right.texts[there]
    condition = node.option("condition")
    if condition is not None:
        rows |= _Evaluation(_State(columns, texts, {}), masks).decides([condition], "JOIN")
    return _State(columns, texts, rows)


def _union(node: PlanNode, inputs: Sequence[_State], rows: dict[Flow, str]) -> _State:
    columns: dict[str, Flows] = {}
    texts: dict[str, Text] = {}
    for name in node.columns:
        columns[name] = {flow: text for s in inputs for flow, text in s.columns[name].items()}
        said = {s.texts[name] for s in inputs}
        texts[name] = said.pop() if len(said) == 1 else identifier(name)
    return _State(columns, texts, rows)


def _reshaped(node: PlanNode, state: _State, here: _Evaluation, rows: dict[Flow, str]) -> _State:
    if node.kind == "unnest":
        return _unnest(node, state, rows)
    if node.kind == "unpivot":
        return _unpivot(node, state, rows)
    exploded = [PlanExpr("explode", "", (PlanExpr("column", c),)) for c in node.option("columns")]
    columns, texts = _named([Named(e.args[0].name, e) for e in exploded], here)
    rows |= here.decides(exploded, "FILTER")
    return _State({**state.columns, **columns}, {**state.texts, **texts}, rows)


def _unnest(node: PlanNode, state: _State, rows: dict[Flow, str]) -> _State:
    opened, separator = node.option("columns"), node.option("separator")
    columns: dict[str, Flows] = {}
    texts: dict[str, Text] = {}
    for name in node.columns:
        if name in state.columns and name not in opened:
            columns[name], texts[name] = state.columns[name], state.texts[name]
            continue
        # the plan does not say which of several structs a field is from, unless it is in its name
        of = [s for s in opened if separator and name.startswith(s + separator)] or opened
        columns[name] = {k: v for s in of for k, v in made(state.columns[s], "TRANSFORMATION").items()}
        texts[name] = Text(f"{state.texts[of[0]].inner}.{identifier(name).text}") if len(of) == 1 else identifier(name)
    return _State(columns, texts, rows)


def _unpivot(node: PlanNode, state: _State, rows: dict[Flow, str]) -> _State:
    kept = _chosen(node, state, rows)
    on = node.option("on")
    value, variable = node.option("value"), node.option("variable")
    kept.columns[value] = {k: v for c in on for k, v in state.columns[c].items()}
    kept.columns[variable] = {}
    kept.texts[value] = Text(f"UNPIVOT({listed([state.texts[c] for c in on])})")
    kept.texts[variable] = identifier(variable)
    return kept


def _opaque(node: PlanNode, inputs: Sequence[_State], rows: dict[Flow, str]) -> _State:
    """Let every input column feed every output column, and decide over the rows."""
    every = _State({}, {}, {})
    for number, state in enumerate(inputs):
        every.columns |= {f"{number}.{c}": f for c, f in state.columns.items()}
        every.texts |= {f"{number}.{c}": t for c, t in state.texts.items()}
    flows, text = _Evaluation(every, frozenset()).of(PlanExpr("opaque"))
    rows |= decided(flows, "FILTER", text.text, opaque=True)
    return _State(dict.fromkeys(node.columns, flows), dict.fromkeys(node.columns, text), rows)
