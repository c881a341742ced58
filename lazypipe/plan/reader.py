"""Reading a plan from Polars: the only file that touches its ``NodeTraverser``.

A traverser lives as long as the call that hands it out. So reading has two parts: ``Capture`` copies what Polars shows, which
takes microseconds and is all that happens inside a run; ``plan`` turns the copy into nodes when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from lazypipe.errors import LazypipeError, RunError, first_line
from lazypipe.in_order import ORDER
from lazypipe.plan.exact import each_value, exact_expr, exact_node
from lazypipe.plan.meant import meant
from lazypipe.plan.nodes import ExprKind, Named, NodeKind, PlanExpr, PlanNode
from lazypipe.plan.shown import duration, function_name, literal, plain
from lazypipe.spec.taps import read_mark

__all__ = ["EXPRESSIONS", "VERSION", "Capture", "read_plan"]

VERSION = (16, 0)
"""The version of Polars' traverser that this file was written for, and that the contract tests passed on."""

EXPRESSIONS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Agg": (("arguments",), ()),
    "Alias": (("expr",), ()),
    "BinaryExpr": (("left", "right"), ()),
    "Cast": (("expr",), ()),
    "Column": ((), ()),
    "Explode": (("expr",), ()),
    "Filter": (("input",), ("by",)),
    "Function": (("input",), ()),
    "Gather": (("expr", "idx"), ()),
    "Len": ((), ()),
    "Literal": ((), ()),
    "Rolling": (("function",), ("index_column",)),
    "Slice": (("input", "offset", "length"), ()),
    "Sort": (("expr",), ()),
    "SortBy": (("expr",), ("by",)),
    "Ternary": (("truthy", "falsy"), ("predicate",)),
    "Window": (("function",), ("partition_by", "order_by")),
}
"""The expressions that Polars shows: the attributes that give the value, and those that decide which."""

_DERIVED = frozenset(
    {
        "Cache",
        "Distinct",
        "Filter",
        "HConcat",
        "HStack",
        "MergeSorted",
        "Reduce",
        "Select",
        "Sink",
        "Slice",
        "Sort",
        "Union",
    }
)
"""Nodes whose columns follow from their inputs and expressions: asking Polars would cost more than all the rest."""


def read_plan(frame: pl.LazyFrame, *, optimized: bool = False, exact: bool = False) -> PlanNode:
    """Return a frame's plan, as written or as Polars optimizes it; reads no data, and files need not exist.

    With ``exact``, each part also carries everything that distinguishes it from others, for fingerprints.

    Raises
    ------
    LazypipeError
        If the installed Polars shows plans in another form than this version of lazypipe reads.

    Examples
    --------
    >>> node = read_plan(pl.LazyFrame({"a": [1], "b": [2]}).filter(pl.col("a") > 1).select("b"))
    >>> [n.kind for n in node.walk()]
    ['frame', 'filter', 'select']
    """
    flags = pl.QueryOptFlags() if optimized else pl.QueryOptFlags.none()
    capture = Capture(exact=exact)
    capture(frame._ldf.with_optimizations(flags._pyoptflags).visit())  # noqa: SLF001  # the one place
    return capture.plan()


@dataclass(slots=True)
class _Seen:
    """A node as Polars shows it: the name of its kind, its view (None if it cannot be seen into), and what it reads."""

    kind: str
    view: Any
    inputs: list[int]
    columns: Mapping[str, Any]
    exprs: list[Any]
    exact: str | None = None


@dataclass
class Capture:
    """A copy of what Polars shows of one plan: to be passed as ``post_opt_callback`` to the very ``collect`` that runs it.

    Whatever goes wrong is kept for ``plan``: reading along never stops a run.

    Examples
    --------
    >>> capture = Capture()
    >>> _ = pl.LazyFrame({"a": [1]}).select(pl.col("a") + 1).collect(post_opt_callback=capture)
    >>> capture.plan().kind
    'select'
    """

    exact: bool = False
    _nodes: dict[int, _Seen] = field(default_factory=dict, repr=False)
    _types: dict[int, Any] = field(default_factory=dict, repr=False)
    _exprs: dict[int, Any] = field(default_factory=dict, repr=False)
    _order: list[int] = field(default_factory=list, repr=False)
    _error: Exception | None = field(default=None, repr=False)
    _plan: PlanNode | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Read the plan: what Polars shows does not leave the process."""
        told: LazypipeError | None = None
        try:
            self.plan()
        except LazypipeError as error:
            told = error
        return {**self.__dict__, "_nodes": {}, "_exprs": {}, "_types": {}, "_error": told}

    def __call__(self, traverser: Any, *_: Any) -> None:
        """Copy the plan that the traverser stands on."""
        try:
            _check_version(tuple(traverser.version()))
            self._copy(traverser)
        except Exception as error:
            self._error = error

    def _copy(self, traverser: Any) -> None:
        root = traverser.get_node()
        pending, sinks = [(root, False)], {root}
        while pending:
            number, ready = pending.pop()
            if ready:
                self._order.append(number)
                continue
            if number in self._nodes:
                continue
            traverser.set_node(number)
            inputs = traverser.get_inputs()
            if number in sinks and inputs and not traverser.get_schema():
                # a sink, or several: to view one would pickle the functions in it
                sinks.update(inputs)
                self._nodes[number] = _Seen("Sink", None, inputs, {}, [])
                pending += [(number, True), *((i, False) for i in inputs)]
                continue
            view, kind = _view(traverser)
            exprs = traverser.get_exprs()
            for expr in exprs:
                self._copy_expr(traverser, expr.node)
            if kind == "Join" and view.predicate is not None:
                self._copy_expr(traverser, view.predicate.node)
            elif kind == "PythonScan" and view.options[3] is not None and view.options[3][0] == "polars":
                self._copy_expr(traverser, view.options[3][1])
            exact = exact_node(view) if self.exact else None
            if self.exact and _is_label(view, kind):
                inputs = []  # its name replaces what is below
            if kind == "DataFrameScan":
                view = None  # its rows must not be kept alive
            columns = {} if kind in _DERIVED else traverser.get_schema()
            self._nodes[number] = _Seen(kind, view, inputs, columns, exprs, exact)
            if self.exact and inputs:
                there = {e.node for e in view.right_on} if kind == "Join" else ()
                for expr in exprs:
                    # Polars resolves types by the columns of the node that the traverser is at
                    traverser.set_node(inputs[1 if expr.node in there else 0])
                    self._copy_types(traverser, expr.node)
            pending.append((number, True))
            pending += [(i, False) for i in inputs]

    def _copy_expr(self, traverser: Any, root: int) -> None:
        pending = [root]
        while pending:
            number = pending.pop()
            if number in self._exprs:
                continue
            try:
                view = traverser.view_expression(number)
            except Exception:  # see _view
                view = None
            self._exprs[number] = view
            for group in EXPRESSIONS.get(type(view).__name__, ()):
                for name in group:
                    pending += _ids(getattr(view, name))

    def _copy_types(self, traverser: Any, root: int) -> None:
        pending = [root]
        while pending:
            number = pending.pop()
            view = self._exprs[number]
            typed = view is not None and type(view).__name__ not in _TYPELESS
            self._types[number] = _type(traverser, number) if typed else None
            pending += [i for group in _groups(view) for name in group for i in _ids(getattr(view, name))]

    def plan(self) -> PlanNode:
        """Return the plan.

        Raises
        ------
        LazypipeError
            If there was none, or it could not be read.
        """
        if isinstance(self._error, LazypipeError):
            raise self._error
        if self._error is not None:
            what = f"the query plan could not be read: {type(self._error).__name__}: {first_line(self._error)}"
            raise RunError(what) from self._error
        if not self._order:
            raise RunError("there is no query plan to read: the query did not begin")
        if self._plan is None:
            made: dict[int, PlanNode] = {}
            exprs = _Exprs(self._exprs, self._types)
            for number in self._order:
                seen = self._nodes[number]
                node = _node(seen, tuple(made[i] for i in seen.inputs), exprs)
                made[number] = replace(node, exact=seen.exact) if self.exact else node
            self._plan = meant(made[self._order[-1]])
            self._nodes, self._exprs, self._types = {}, {}, {}
        return self._plan


def _view(traverser: Any) -> tuple[Any, str]:
    try:
        view = traverser.view_current_node()
    except Exception:  # NotImplementedError, and whatever else what it shows may raise: it is opaque then
        return None, ""
    return view, type(view).__name__


_TYPELESS = frozenset({"Alias", "Len", "Literal"})
"""Expressions whose type follows from what is known of them."""


def _type(traverser: Any, number: int) -> Any:
    """Return the type of an expression's values, None where Polars cannot tell."""
    try:
        return traverser.get_dtype(number)
    except Exception:  # see _view
        return None


def _is_label(view: Any, kind: str) -> bool:
    if kind != "MapFunction" or view.function[0] != "unnest":
        return False
    mark = None if view.function[1] else read_mark(view.function[2])
    return mark is not None and mark[0] == "label"


def _check_version(found: tuple[int, ...]) -> None:
    if found != VERSION:
        have, want = (".".join(map(str, v)) for v in (found, VERSION))
        raise RunError(
            f"Polars {pl.__version__} shows its plans in version {have}, and this lazypipe reads version {want}; "
            "install the Polars that lazypipe asks for"
        )


def _ids(value: Any) -> Sequence[int]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


class _Exprs:
    """Turns expressions as Polars shows them into ours, each once."""

    def __init__(self, views: Mapping[int, Any], types: Mapping[int, Any] | None = None) -> None:
        self._views = views
        self._types = types or {}
        self._made: dict[int, PlanExpr] = {}

    def named(self, exprs: Sequence[Any]) -> tuple[Named, ...]:
        return tuple(Named(e.output_name, self.get(e.node)) for e in exprs)

    def all(self, exprs: Sequence[Any]) -> tuple[PlanExpr, ...]:
        return tuple(self.get(e.node) for e in exprs)

    def get(self, root: int) -> PlanExpr:
        if root in self._made:
            return self._made[root]
        pending = [root]
        while pending:
            number = pending[-1]
            view = self._views[number]
            of, which = _groups(view)
            args = [i for n in of for i in _ids(getattr(view, n))]
            by = [i for n in which for i in _ids(getattr(view, n))]
            missing = [i for i in (*args, *by) if i not in self._made]
            if missing:
                pending += missing
                continue
            exact = exact_expr(view, self._types[number]) if number in self._types else None
            self._made[number] = _expr(
                view, tuple(self._made[i] for i in args), tuple(self._made[i] for i in by), exact
            )
            pending.pop()
        return self._made[root]


def _groups(view: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return EXPRESSIONS.get(type(view).__name__, ((), ()))


_EXPR_KINDS: Mapping[str, ExprKind] = {
    "Explode": "explode", "Filter": "filter", "Gather": "gather", "Len": "len", "Slice": "slice", "Sort": "sort",
    "SortBy": "sort_by", "Ternary": "ternary",
}  # fmt: skip


def _expr(view: Any, args: tuple[PlanExpr, ...], by: tuple[PlanExpr, ...], exact: str | None) -> PlanExpr:
    match type(view).__name__:
        case "Column":
            return PlanExpr("column", view.name, exact=exact)
        case "Literal":
            values = () if exact is None else each_value(view)
            each = tuple(PlanExpr("literal", literal(v), exact=e) for v, e in values)
            return PlanExpr("literal", literal(view.value), options=each, exact=exact)
        case "Alias":
            return args[0]
        case "BinaryExpr":
            return PlanExpr("operator", str(view.op).removeprefix("Operator."), args, exact=exact)
        case "Cast":
            return PlanExpr("cast", str(view.dtype), args, exact=exact)
        case "Agg":
            return PlanExpr(
                "agg", str(view.name), args, options=() if view.options is None else (view.options,), exact=exact
            )
        case "Function":
            data = view.function_data
            name, *options = data if isinstance(data, tuple) else (data,)
            if name == "dynamic_pred":
                options = []  # a number that Polars draws each time
            return PlanExpr(
                "function", function_name(name), args, options=tuple(plain(o) for o in options), exact=exact
            )
        case "Window":
            return PlanExpr("window", "", args, by, (len(view.partition_by),), exact)
        case "Rolling":
            return PlanExpr("rolling", "", args, by, (duration(view.period), duration(view.offset)), exact)
        case kind if kind in _EXPR_KINDS:
            return PlanExpr(_EXPR_KINDS[kind], "", args, by, exact=exact)
        case _:
            return PlanExpr("opaque")


def _node(seen: _Seen, inputs: tuple[PlanNode, ...], exprs: _Exprs) -> PlanNode:
    """Return one node over its inputs."""
    view, columns = seen.view, tuple(seen.columns)
    match seen.kind:
        case "Scan" | "PythonScan" | "DataFrameScan":
            return _leaf(seen, columns, exprs)
        case "Select" | "Reduce" | "HStack":
            return _with_exprs(seen, inputs, exprs)
        case "Filter" | "Sort" | "Slice" | "Cache" | "Distinct" | "Union" | "MergeSorted":
            return _same_columns(seen, inputs, exprs)
        case "SimpleProjection":
            return PlanNode("project", columns, inputs)
        case "GroupBy":
            return _group_by(view, columns, inputs, exprs)
        case "Join":
            return _join(view, columns, inputs, exprs)
        case "HConcat":
            return PlanNode("hconcat", tuple(c for i in inputs for c in i.columns), inputs)
        case "MapFunction":
            return _map_function(view.function, columns, inputs)
        case _:
            return _unseen(seen.kind, columns, inputs)


_SAME: Mapping[str, NodeKind] = {
    "Filter": "filter", "Sort": "sort", "Slice": "slice", "Cache": "pass", "Distinct": "distinct", "Union": "union",
    "MergeSorted": "merge_sorted",
}  # fmt: skip


def _same_columns(seen: _Seen, inputs: tuple[PlanNode, ...], exprs: _Exprs) -> PlanNode:
    view, columns = seen.view, inputs[0].columns
    keys: tuple[PlanExpr, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    if seen.kind == "Filter":
        keys = exprs.all([view.predicate])
    elif seen.kind == "Sort":
        # by what only has equal keys stand together nothing is meant
        keys = exprs.all([e for e in view.by_column if e.output_name != ORDER])
        if not keys:
            return inputs[0]
    elif seen.kind == "Distinct":
        keep, subset, _, only = view.options
        keys, options = _columns(subset or columns), (("keep", (keep, only)),)
    elif seen.kind == "MergeSorted":
        keys = _columns(view.key)
    return PlanNode(_SAME[seen.kind], columns, inputs, keys=keys, options=options)


def _columns(names: Sequence[str]) -> tuple[PlanExpr, ...]:
    return tuple(PlanExpr("column", name) for name in names)


def _leaf(seen: _Seen, columns: tuple[str, ...], exprs: _Exprs) -> PlanNode:
    view = seen.view
    if seen.kind == "DataFrameScan":
        return PlanNode("frame", columns)
    if seen.kind == "Scan":
        keys = () if view.predicate is None else exprs.all([view.predicate])
        index, path = view.file_options.row_index, view.file_options.include_file_paths
        made = (*([] if index is None else [index[0]]), *([] if path is None else [path]))
        return PlanNode("scan", columns, keys=keys, paths=tuple(view.paths), options=(("made", made),))
    condition = view.options[3]
    if condition is None:
        return PlanNode("scan", columns)
    # pyarrow's conditions are text: they may read any column
    return PlanNode(
        "scan", columns, keys=(exprs.get(condition[1]) if condition[0] == "polars" else PlanExpr("opaque"),)
    )


def _with_exprs(seen: _Seen, inputs: tuple[PlanNode, ...], exprs: _Exprs) -> PlanNode:
    made = exprs.named(seen.exprs)
    names = tuple(n.name for n in made)
    if seen.kind == "HStack":
        return PlanNode("with_columns", tuple(dict.fromkeys((*inputs[0].columns, *names))), inputs, made)
    return PlanNode("select", names, inputs, made)


def _unseen(kind: str, columns: tuple[str, ...], inputs: tuple[PlanNode, ...]) -> PlanNode:
    """Return a node that cannot be seen into; a tap, if the mark of one stands below it."""
    if kind == "Sink":
        return PlanNode("sink", (), inputs)
    if not inputs:
        return PlanNode("scan", columns)
    (below, *others) = inputs
    if below.kind == "tap" and below.option("mark") and not others:
        return PlanNode("tap", columns, below.inputs, keys=below.keys)
    return PlanNode("opaque", columns, inputs)


def _group_by(view: Any, columns: tuple[str, ...], inputs: tuple[PlanNode, ...], exprs: _Exprs) -> PlanNode:
    grouped = exprs.named(view.keys)
    options = view.options
    index = next((o.index_column for o in (options.dynamic, options.rolling) if o is not None), None)
    return PlanNode(
        "group_by",
        columns,
        inputs,
        exprs.named(view.aggs),
        tuple(n.expr for n in grouped),
        options=(("names", tuple(n.name for n in grouped)), ("index", index)),
    )


def _join(view: Any, columns: tuple[str, ...], inputs: tuple[PlanNode, ...], exprs: _Exprs) -> PlanNode:
    how, _, _, suffix, coalesce, _ = view.options
    left, right = exprs.all(view.left_on), exprs.all(view.right_on)
    if isinstance(how, tuple):
        if how[0] == "AsOf":
            left += tuple(PlanExpr("column", c) for c in how[4] or ())
            right += tuple(PlanExpr("column", c) for c in how[5] or ())
        how = how[0]
    condition = None if view.predicate is None else exprs.get(view.predicate.node)
    said = (("how", how.lower()), ("suffix", suffix), ("coalesce", coalesce), ("condition", condition))
    return PlanNode("join", columns, inputs, keys=left, right_keys=right, options=said)


def _map_function(function: tuple[Any, ...], columns: tuple[str, ...], inputs: tuple[PlanNode, ...]) -> PlanNode:
    match function:
        case ("unnest", names, separator):
            mark = read_mark(separator) if not names else None
            if mark is None:
                return PlanNode(
                    "unnest", columns, inputs, options=(("columns", tuple(names)), ("separator", separator))
                )
            if mark[0] == "label":
                return PlanNode("label", columns, inputs, options=(("name", mark[1]),))
            return PlanNode("tap", columns, inputs, keys=_columns(mark[1]), options=(("mark", True),))
        case ("explode", names, *_):
            return PlanNode("explode", columns, inputs, options=(("columns", tuple(names)),))
        case ("unpivot", index, on, variable, value):
            on = on or [c for c in inputs[0].columns if c not in index]
            said = (("on", tuple(on)), ("variable", variable), ("value", value))
            return PlanNode("unpivot", columns, inputs, options=said)
        case ("row_index", name, _):
            return PlanNode("row_index", columns, inputs, options=(("name", name),))
        case ("rechunk" | "hint_sorted", *_):
            return PlanNode("pass", columns, inputs)
        case _:
            return PlanNode("opaque", columns, inputs)
