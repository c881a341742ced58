"""Quality gates: rules as expressions, what a violation does, and reports.

A rule is a class in a module of ``gates/rules``; it is found by its name, nothing else is edited to add one.
A module is imported when a definition first uses a rule of it.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache

from lazypipe.gates import rules as _rules
from lazypipe.gates.custom import custom_rules
from lazypipe.gates.rule import Check, Rule
from lazypipe.spec.elsewhere import hint
from lazypipe.spec.model import Fault, Step

__all__ = ["Check", "Rule", "names", "rule", "rule_class"]


_NAME = re.compile(r'^    name: ClassVar\[str\] = "(\w+)"$', re.MULTILINE)


@cache
def _modules() -> dict[str, str]:
    """Return which module holds the rule of a name, as the modules' texts say: importing them all takes longer than many a run."""
    found: dict[str, str] = {}
    for info in pkgutil.iter_modules(_rules.__path__):
        module = f"{_rules.__name__}.{info.name}"
        text = pkgutil.get_data(_rules.__name__, f"{info.name}.py")
        assert text is not None, f"{module} cannot be read"
        found |= dict.fromkeys(_NAME.findall(text.decode()), module)
    return dict(sorted(found.items()))


@cache
def _brought(name: str) -> type[Rule] | None:
    """Return the rule of a name that lazypipe brings."""
    if name not in _modules():
        return None
    module = importlib.import_module(_modules()[name])
    # what several rules share has no name
    ours = (v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Rule) and "name" in vars(v))
    return next(v for v in ours if v.__module__ == module.__name__ and v.name == name)


def names() -> tuple[str, ...]:
    """Return the names of the rules that lazypipe brings."""
    return tuple(_modules())


def rule_class(name: str) -> type[Rule]:
    """Return the class of the rule called ``name``; raises KeyError if there is none."""
    return _brought(name) or custom_rules()[name]


def rule(step: Step) -> Rule:
    """Build the rule that ``step`` wrote; raises Fault for an unknown name or wrong arguments."""
    try:
        cls = rule_class(step.name)
    except KeyError:
        fix = hint(step.name, (*names(), *custom_rules()), "rules")
        raise Fault(f"unknown rule {step.name!r}", fix, (*step.path, step.name)) from None
    return cls.from_step(step)
