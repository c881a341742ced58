"""Expressions that are written in several ways and mean the same for every value, nulls and NaN included: the form they are hashed in.

``CASE WHEN NOT c THEN b ELSE a END`` is not among them: where ``c`` is null, ``CASE WHEN c THEN a ELSE b END`` gives something else.
``docs/decisions/0097-spellings.md`` lists what is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lazypipe.plan.nodes import PlanExpr
from lazypipe.plan.rowwise import is_series

__all__ = ["by_null", "chain", "is_whole_sum", "links", "mirrored", "opposite", "stripped", "truth"]  # fmt: skip

_PLAIN = ("<Int", "<UInt", "<Float", "<Decimal(", "<Boolean>", "<String>", "<Date>", "<Datetime(", "<Duration(", "<Time>")  # fmt: skip
"""Types whose values are all in one order, NaN included: what is not less is greater or equal."""
_WHOLE = ("<Int", "<UInt")
_MIRRORED = {"Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq"}
_OPPOSITES = {
    "Lt": "GtEq", "GtEq": "Lt", "Gt": "LtEq", "LtEq": "Gt", "EqValidity": "NotEqValidity", "NotEqValidity": "EqValidity",
    "is_null": "is_not_null", "is_not_null": "is_null",
}  # fmt: skip
_SUMS = frozenset({"Plus", "Multiply", "And", "Or"})
_CHAINS = {"And": "And", "LogicalAnd": "And", "Or": "Or", "LogicalOr": "Or"}
_DENIED = {"And": "Or", "Or": "And"}
_SHOWN: Mapping[str, str] = {"is_null": "BooleanFunction.IsNull", "is_not_null": "BooleanFunction.IsNotNull"}
"""How ``exact`` shows an operator or function, where that is not ``Operator.`` and its name."""


def stripped(expr: PlanExpr, *, holds: bool = True) -> tuple[PlanExpr, bool]:
    """Return a condition without NOT, ``= TRUE`` and ``= FALSE`` around it, and whether it is to hold or not to.

    Examples
    --------
    >>> ok = PlanExpr("column", "ok", exact="<Boolean>")
    >>> stripped(PlanExpr("function", "not", (ok,), exact="<Boolean>Function(…)"))
    (PlanExpr(kind='column', name='ok', args=(), by=(), options=()), False)
    """
    while True:
        if expr.kind == "function" and expr.name == "not" and _is_condition(expr.args[0]):
            expr, holds = expr.args[0], not holds
        elif expr.kind == "operator" and expr.name == "NotEq" and _compares(expr):
            expr, holds = _named(expr, "Eq"), not holds
        elif expr.kind == "operator" and expr.name == "Eq" and (found := _with_truth(expr)) is not None:
            expr, holds = found[0], holds == truth(found[1])
        else:
            return expr, holds


def _with_truth(expr: PlanExpr) -> tuple[PlanExpr, PlanExpr] | None:
    """Return what a condition is compared with TRUE or FALSE, and that literal."""
    pairs = (expr.args, expr.args[::-1])
    return next(((one, other) for one, other in pairs if _is_condition(one) and truth(other) is not None), None)


def truth(expr: PlanExpr) -> bool | None:
    """Return what TRUE and FALSE are; None for all else.

    Examples
    --------
    >>> truth(PlanExpr("literal", "TRUE", exact="<Boolean>Literal(True)"))
    True
    """
    return {"<Boolean>Literal(True)": True, "<Boolean>Literal(False)": False}.get(expr.exact or "")


def chain(expr: PlanExpr, *, holds: bool) -> str | None:
    """Return the operator that puts a condition's parts together: AND or OR, the other one if it is not to hold; None if there is none.

    Examples
    --------
    >>> ok = PlanExpr("column", "ok", exact="<Boolean>")
    >>> both = PlanExpr("operator", "And", (ok, ok), exact="<Boolean>BinaryExpr(op=Operator.And)")
    >>> chain(both, holds=True), chain(both, holds=False), chain(ok, holds=True)
    ('And', 'Or', None)
    """
    if expr.kind == "operator" and expr.name in _CHAINS and all(map(_is_condition, (expr, *expr.args))):
        name: str | None = _CHAINS[expr.name]
    else:
        name = "Or" if _alternatives(expr) else None
    return name if holds or name is None else _DENIED[name]


def links(expr: PlanExpr) -> tuple[PlanExpr, ...]:
    """Return the parts of a chain: of ``a IN (1, 2)`` they are ``a = 1`` and ``a = 2``."""
    return _alternatives(expr) or expr.args


def _alternatives(expr: PlanExpr) -> tuple[PlanExpr, ...]:
    """Return the comparisons that IN stands for; none if it is not over a list of values, without null, of the type of what is looked up."""
    if expr.name != "is_in" or expr.exact is None or expr.options != (False,):  # or else null is in a list with null
        return ()
    one, values = expr.args
    given = _type(values.options[0]) if values.options else ""
    if not given.startswith(_PLAIN) or not _has(one, given) or is_series(one):
        return ()
    return tuple(
        PlanExpr("operator", "Eq", (one, v), exact="<Boolean>BinaryExpr(op=Operator.Eq)") for v in values.options
    )


def opposite(expr: PlanExpr) -> PlanExpr | None:
    """Return the comparison that holds where this one does not, and is null where it is; None if there is no other word for that.

    Examples
    --------
    >>> a = PlanExpr("column", "a", exact="<Int64>")
    >>> opposite(PlanExpr("operator", "Lt", (a, a), exact="<Boolean>BinaryExpr(op=Operator.Lt)")).name
    'GtEq'
    """
    if expr.name not in _OPPOSITES or expr.exact is None or (expr.kind == "operator" and not _compares(expr)):
        return None
    return _named(expr, _OPPOSITES[expr.name])


def mirrored(expr: PlanExpr) -> PlanExpr:
    """Return a comparison with a literal behind what it is compared with, or else with what is to be greater first.

    Examples
    --------
    >>> a, one = PlanExpr("column", "a", exact="<Int64>"), PlanExpr("literal", "1", exact="<Int64>Literal(1)")
    >>> mirrored(PlanExpr("operator", "Lt", (one, a), exact="<Boolean>BinaryExpr(op=Operator.Lt)")).name
    'Gt'
    """
    if expr.kind != "operator" or expr.name not in _MIRRORED or not _compares(expr):
        return expr
    first, second = (a.kind == "literal" for a in expr.args)
    turned = first if first != second else expr.name in ("Lt", "LtEq")
    return _named(replace(expr, args=expr.args[::-1]), _MIRRORED[expr.name]) if turned else expr


def is_whole_sum(expr: PlanExpr) -> bool:
    """Whether an expression adds or multiplies whole numbers of one type: in whatever order, bit by bit the same comes out."""
    return (
        expr.kind == "operator"
        and expr.name in _SUMS
        and _has(expr, _WHOLE)
        and all(_has(a, _type(expr)) and not is_series(a) for a in expr.args)
    )


def by_null(expr: PlanExpr) -> tuple[PlanExpr, PlanExpr, PlanExpr] | None:
    """Return of a CASE by whether something is null that it is not, what comes then, and what comes else; None of any other.

    Examples
    --------
    >>> a, b = PlanExpr("column", "a", exact="<Int64>"), PlanExpr("column", "b", exact="<Int64>")
    >>> null = PlanExpr("function", "is_null", (a,), exact="<Boolean>Function(…)")
    >>> [p.name for p in by_null(PlanExpr("ternary", "", (b, a), (null,), exact="<Int64>Ternary()"))]
    ['is_not_null', 'a', 'b']
    """
    if expr.kind != "ternary":
        return None
    condition, holds = stripped(expr.by[0])
    if condition.name == "is_null":
        condition, holds = opposite(condition) or condition, not holds
    if condition.name != "is_not_null":
        return None
    there, missing = expr.args if holds else expr.args[::-1]
    return condition, there, missing


def _is_condition(expr: PlanExpr) -> bool:
    return _has(expr, "<Boolean>") and not is_series(expr)


def _compares(expr: PlanExpr) -> bool:
    """Whether an operator compares values of one type, which are in one order."""
    one, other = expr.args
    return expr.exact is not None and _has(one, _PLAIN) and _has(other, _type(one))


def _has(expr: PlanExpr, types: str | tuple[str, ...]) -> bool:
    return (expr.exact or "").startswith(types)


def _type(expr: PlanExpr) -> str:
    """Return the type that an expression of a plain type gives."""
    return (expr.exact or "").partition(">")[0] + ">"


def _named(expr: PlanExpr, name: str) -> PlanExpr:
    """Return a comparison under another name."""
    old, new = (_SHOWN.get(n, f"Operator.{n}") for n in (expr.name, name))
    return replace(expr, name=name, exact=(expr.exact or "").replace(old, new))
