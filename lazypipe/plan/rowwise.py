"""What is known of functions: which give for each row what that row alone decides, and which do not mind the order of rows.

Only what is listed is taken to be so.
"""

from __future__ import annotations

from typing import Literal

from lazypipe.plan.nodes import PlanExpr, postorder

__all__ = ["is_rowwise", "is_series", "keeps_length", "needs_no_order"]

_FAMILIES = ("str.", "dt.", "struct.")
_NOT_ROWWISE = frozenset({"str.concat_vertical", "str.join"})
_ROWWISE = frozenset(
    {
        "abs", "all_horizontal", "any_horizontal", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "as_struct", "atan2",
        "cbrt", "ceil", "clip", "coalesce", "cos", "cosh", "cot", "degrees", "exp", "fill_null", "floor", "hash", "is_between", "is_close",
        "is_finite", "is_infinite", "is_nan", "is_not_nan", "is_not_null", "is_null", "list.arg_max", "list.arg_min", "list.concat",
        "list.contains", "list.count_matches", "list.diff", "list.drop_nulls", "list.get", "list.join", "list.length", "list.max",
        "list.mean", "list.median", "list.min", "list.set_operation", "list.shift", "list.slice", "list.sort", "list.std", "list.sum",
        "list.var", "log", "log1p", "max_horizontal", "mean_horizontal", "min_horizontal", "negate", "not", "pow", "radians",
        "round", "round_sig_figs", "sign", "sin", "sinh", "sqrt", "sum_horizontal", "tan", "tanh", "to_physical", "truncate",
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
_FLOATS = ("<Float16>", "<Float32>", "<Float64>")
_EXACT_TYPES = ("<Int", "<UInt", "<Boolean>", "<String>", "<Date>", "<Datetime(", "<Duration(", "<Time>", "<Decimal(")


def is_rowwise(expr: PlanExpr) -> bool:
    """Whether an expression, beside its parts, depends on nothing but the row.

    Examples
    --------
    >>> is_rowwise(PlanExpr("function", "str.len_chars")), is_rowwise(PlanExpr("function", "rank"))
    (True, False)
    """
    if expr.kind == "function" and expr.name in _LOOKUPS:
        return all(a.kind == "literal" for a in expr.args[1:])
    if any(is_series(a) for a in expr.args):
        return False
    if expr.kind != "function":
        return expr.kind in ("column", "literal", "cast", "operator", "ternary")
    return expr.name in _ROWWISE or (expr.name.startswith(_FAMILIES) and expr.name not in _NOT_ROWWISE)


def is_series(expr: PlanExpr) -> bool:
    """Whether an expression is a literal of several values, one for each row."""
    return expr.kind == "literal" and ",Frame(" in (expr.exact or "")


def needs_no_order(expr: PlanExpr) -> bool:
    """Whether an expression gives the same, bit by bit, in whatever order the rows come.

    Examples
    --------
    >>> [needs_no_order(PlanExpr("agg", a, exact="<Float64>")) for a in ("count", "sum", "first")]
    [True, False, False]
    """
    if expr.kind == "len":
        return True
    if expr.kind not in ("agg", "function"):
        return False
    said = expr.exact or ""
    return expr.name in _ANY_ORDER or (
        expr.name in _EXACT and said[said.rfind("<") :].startswith(_EXACT_TYPES) and not said.endswith(_FLOATS)
    )


def keeps_length(expr: PlanExpr) -> Literal[True, False] | None:
    """Whether an expression gives a value per row, in the order of the rows; None if one value for all of them.

    Examples
    --------
    >>> column = PlanExpr("column", "a")
    >>> [keeps_length(e) for e in (column, PlanExpr("agg", "sum", (column,)), PlanExpr("sort", "", (column,)))]
    [True, None, False]
    """
    known: dict[int, bool | None] = {}
    for part in postorder(expr, lambda e: e.args):
        args = [known[id(a)] for a in part.args]
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
