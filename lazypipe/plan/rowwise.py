"""Which functions compute each row from that row alone, and which do not depend on the order of rows.

Only what is listed is taken to be so.
"""

from __future__ import annotations

from typing import Literal

from lazypipe.plan.nodes import PlanExpr, postorder

__all__ = ["is_rowwise", "is_series", "keeps_length", "needs_no_order"]

_FAMILIES = ("str.", "dt.", "struct.")
_NOT_ROWWISE = frozenset({"str.concat_vertical", "str.join", "str.json_decode", "str.to_decimal"})
"""Functions of text that gather it, or look at all of it for what type there is."""
_ROWWISE = frozenset(
    {
        "abs", "all_horizontal", "any_horizontal", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "as_struct", "atan2",
        "cbrt", "ceil", "clip", "coalesce", "cos", "cosh", "cot", "decimal_div", "decimal_mul", "degrees", "exp", "fill_null", "floor", "hash", "is_between", "is_close",
        "is_finite", "is_infinite", "is_nan", "is_not_nan", "is_not_null", "is_null", "list.arg_max", "list.arg_min", "list.concat",
        "list.contains", "list.count_matches", "list.diff", "list.drop_nulls", "list.get", "list.join", "list.length", "list.max",
        "list.mean", "list.median", "list.min", "list.set_operation", "list.shift", "list.slice", "list.sort", "list.std", "list.sum",
        "list.var", "log", "log1p", "max_horizontal", "mean_horizontal", "min_horizontal", "negate", "not", "pow", "radians",
        "round", "round_sig_figs", "sign", "sin", "sinh", "sqrt", "sum_horizontal", "tan", "tanh", "trunc_rem", "trunc_int_div", "truncate",
    }
)  # fmt: skip
_LOOKUPS = frozenset({"is_in", "replace", "replace_strict"})
"""Functions that look a value up among others: row by row if those are literals."""
_SAME_LENGTH = frozenset(
    {
        "cum_count", "cum_max", "cum_min", "cum_prod", "cum_sum", "diff", "fill_null_with_strategy", "is_duplicated",
        "is_first_distinct", "is_last_distinct", "is_unique", "rank", "shift", "shift_and_fill",
    }
)  # fmt: skip
_ANY_ORDER = frozenset({"count", "len", "n_unique", "null_count"})
_EXACT = frozenset({"all", "any", "max", "median", "min", "sum"})
"""Aggregates whose result does not depend on the order of rows, unless they are of floats."""
_EXACT_TYPES = ("<Int", "<UInt", "<Boolean>", "<String>", "<Date>", "<Datetime(", "<Duration(", "<Time>", "<Decimal(")
_TEMPORAL = ("<Date>", "<Datetime(", "<Duration(", "<Time>")
_FROM = ("<Int", "<UInt", "<Float", "<Decimal", "<Null>", *_TEMPORAL)


def is_rowwise(expr: PlanExpr) -> bool:
    """Whether an expression, beside its parts, depends on nothing but the row.

    Examples
    --------
    >>> is_rowwise(PlanExpr("function", "str.len_chars")), is_rowwise(PlanExpr("function", "rank"))
    (True, False)
    """
    if expr.kind == "function" and expr.name in _LOOKUPS:
        return all(a.kind == "literal" for a in expr.args[1:])
    if any(is_series(a) for a in (*expr.args, *expr.by)):
        return False
    if expr.kind == "cast":
        # how text is read as a time is guessed from the first of it
        return not _is(expr, _TEMPORAL) or all(_is(a, _FROM) or a.kind == "literal" for a in expr.args)
    if expr.kind != "function":
        return expr.kind in ("column", "literal", "operator", "ternary")
    if expr.name == "str.strptime":
        return expr.options[0] is not None
    return expr.name in _ROWWISE or (expr.name.startswith(_FAMILIES) and expr.name not in _NOT_ROWWISE)


def is_series(expr: PlanExpr) -> bool:
    """Whether an expression is a literal of several values, one for each row."""
    return expr.kind == "literal" and ">Literal(Frame(" in (expr.exact or "")


def needs_no_order(expr: PlanExpr) -> bool:
    """Whether an expression gives the same, bit by bit, in whatever order the rows come.

    Examples
    --------
    >>> [needs_no_order(PlanExpr("agg", a, exact="<Float64>Agg()")) for a in ("count", "sum", "first")]
    [True, False, False]
    """
    if expr.kind == "len":
        return True
    if expr.kind not in ("agg", "function"):
        return False
    return expr.name in _ANY_ORDER or (expr.name in _EXACT and _is(expr, _EXACT_TYPES))


def _is(expr: PlanExpr, types: tuple[str, ...]) -> bool:
    return (expr.exact or "").startswith(types)


def keeps_length(expr: PlanExpr) -> Literal[True, False] | None:
    """Whether an expression gives a value per row, in the order of the rows; None if one value for all of them.

    Examples
    --------
    >>> column = PlanExpr("column", "a")
    >>> [keeps_length(e) for e in (column, PlanExpr("agg", "sum", (column,)), PlanExpr("sort", "", (column,)))]
    [True, None, False]
    """
    if expr.kind == "column":
        return True
    known: dict[int, bool | None] = {}
    for part in postorder(expr, _values):
        looks_up = part.kind == "function" and part.name in _LOOKUPS and is_rowwise(part)
        args = [known[id(a)] for a in (part.args[:1] if looks_up else _values(part))]
        if part.kind == "column":
            found: bool | None = True
        elif part.kind in ("literal", "len", "agg"):
            found = False if is_series(part) else None
        elif part.kind == "window":
            found = 'kind="explode"' not in (part.exact or "")
        elif is_rowwise(part) or (part.kind == "function" and part.name in _SAME_LENGTH):
            found = False if False in args else (True if True in args else None)
        else:
            found = False
        known[id(part)] = found
    return known[id(expr)]


def _values(expr: PlanExpr) -> tuple[PlanExpr, ...]:
    return (*expr.args, *expr.by) if expr.kind == "ternary" else expr.args
