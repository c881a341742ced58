"""Quality gates: rules as expressions, what a violation does, and what was found.

A rule is a class in a module of ``gates/rules``; it is found by its name, nothing else is edited to add one.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from lazypipe.errors import nearest
from lazypipe.gates import rules as _rules
from lazypipe.gates.custom import custom_rules
from lazypipe.gates.rule import Check, Rule
from lazypipe.spec.model import Fault, Step

__all__ = ["Check", "Rule", "names", "rule", "rule_class"]


@cache
def _registry() -> dict[str, type[Rule]]:
    found: dict[str, type[Rule]] = {}
    for info in pkgutil.iter_modules(_rules.__path__):
        module = importlib.import_module(f"{_rules.__name__}.{info.name}")
        for value in vars(module).values():
            ours = isinstance(value, type) and issubclass(value, Rule) and value.__module__ == module.__name__
            # what several rules share has no name
            if ours and "name" in vars(value):
                found[value.name] = value
    return dict(sorted(found.items()))


def names() -> tuple[str, ...]:
    """Return the names of the rules that lazypipe brings."""
    return tuple(_registry())


def rule_class(name: str) -> type[Rule]:
    """Return the class of the rule called ``name``; raises KeyError if there is none."""
    return _registry().get(name) or custom_rules()[name]


def rule(step: Step) -> Rule:
    """Build the rule that ``step`` wrote; raises Fault for an unknown name or wrong arguments."""
    try:
        cls = rule_class(step.name)
    except KeyError:
        path = (*step.path, step.name)
        raise Fault(
            f"unknown rule {step.name!r}", nearest(step.name, (*names(), *custom_rules()), "rules"), path
        ) from None
    return cls.from_step(step)
