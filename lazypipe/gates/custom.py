"""Your own rules: a Python function that returns an expression, with arguments as in a definition."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import make_dataclass
from importlib.metadata import entry_points
from typing import Any

import polars as pl

from lazypipe.errors import LazypipeError, first_line
from lazypipe.gates.rule import Check, Rule
from lazypipe.spec.arguments import COLUMN, COLUMNS, FLAG, SCALAR, TEXT, Kind, arg
from lazypipe.spec.scope import Scope

__all__ = ["GROUP", "custom_rules", "rule"]

GROUP = "lazypipe.rules"
"""The entry point group in which packages offer rules."""

_ours: dict[str, type[Rule]] = {}
_KINDS: Mapping[str, Kind] = {"column": COLUMN, "columns": COLUMNS}
_TYPES: Mapping[Any, Kind] = {bool: FLAG, str: TEXT, "bool": FLAG, "str": TEXT}


def rule(function: Callable[..., pl.Expr]) -> type[Rule]:
    """Turn a function that returns a condition into a rule. Rows for which it is false violate the rule; null passes.

    The rule has the name of the function and takes its arguments, and those of every rule (``where``, ``action``, …). An argument ``column`` is the
    name of a column, ``columns`` of several; they must exist. The first argument is the one that can be written without a name. A package
    provides rules through the entry point group ``lazypipe.rules``.

    Raises
    ------
    LazypipeError
        If a rule of that name exists, or if the function has no docstring, or arguments that cannot be written in a definition.

    Examples
    --------
    >>> import lazypipe as lp
    >>> @rule
    ... def even(column: str) -> pl.Expr:
    ...     '''The value must be even.'''
    ...     return pl.col(column) % 2 == 0
    >>> lp.check(pl.DataFrame({"a": [1, 2, None]}), [{"even": "a"}]).failed
    {'even:a': 1}
    """
    name = function.__name__
    known = _ours.get(name) or brought(name)
    if known is not None and (known.__module__, known.__doc__) != (function.__module__, function.__doc__):
        raise LazypipeError(f"there is a rule {name!r} already; give the function another name")
    made = _made(name, function)
    _ours[name] = made
    return made


def brought(name: str) -> type[Rule] | None:
    """Return the rule of that name that lazypipe brings."""
    from lazypipe import gates  # the package finds its rules through this module too

    return gates.rule_class(name) if name in gates.names() else None


def _made(name: str, function: Callable[..., pl.Expr]) -> type[Rule]:
    if not function.__doc__:
        raise LazypipeError(f"rule {name!r} has no docstring; say in it what must hold, and what null means")
    fields: list[tuple[str, Any, Any]] = []
    for given in inspect.signature(function).parameters.values():
        if given.kind in (given.VAR_POSITIONAL, given.VAR_KEYWORD):
            raise LazypipeError(f"rule {name!r} takes *{given.name}; name its arguments one by one")
        if given.name in Rule.kinds():
            raise LazypipeError(f"rule {name!r} has an argument {given.name!r}, which every rule has; rename it")
        kind = _KINDS.get(given.name) or _TYPES.get(given.annotation, SCALAR)
        default = {} if given.default is given.empty else {"default": given.default}
        fields.append((given.name, Any, arg(kind, f"The {given.name}.", **default)))
    if not fields:
        raise LazypipeError(f"rule {name!r} takes no arguments; give it at least a column")
    names = [f for f, _, _ in fields]

    def checks(self: Rule, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        given = {n: getattr(self, n) for n in names}
        for argument in ("column", "columns"):
            if argument in given:
                written = given[argument]
                scope.columns([written] if isinstance(written, str) else written, schema, argument)
        try:
            condition: Any = function(**given)
        except Exception as error:
            what = f"the function raised {type(error).__name__}: {first_line(error)}"
            raise scope.fault(what, "give it other arguments, or fix it", names[0]) from error
        if not isinstance(condition, pl.Expr):
            what = f"the function returned {condition!r}, which is not an expression"
            raise scope.fault(what, "return a pl.Expr that is true where the rule holds", names[0])
        holds = self.bind(condition, schema, scope, names[0])
        subject = given.get("columns", given.get("column", ""))
        about = subject if isinstance(subject, str) else ",".join(subject)
        column = given.get("column")
        return [self.check(about, schema, scope, violated=~holds, column=column)]

    space = {
        "__doc__": function.__doc__,
        "name": name,
        "shorthand": names[0],
        "checks": checks,
    }
    made: type[Rule] = make_dataclass(name, fields, bases=(Rule,), namespace=space, frozen=True, kw_only=True)
    made.__module__ = function.__module__  # from 3.12 on Python says that it is this one
    return made


def custom_rules() -> Mapping[str, type[Rule]]:
    """Return the rules that were made by ``rule``, and those that installed packages offer."""
    for point in entry_points(group=GROUP):
        if point.name not in _ours:
            _ours[point.name] = point.load()
    return _ours
