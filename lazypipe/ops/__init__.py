"""Operations: one file each, found by its name; nothing else is edited to add one.

A module here holds one ``Operation`` of the module's name. It is imported when a definition first uses it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.util import find_spec

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.elsewhere import hint
from lazypipe.spec.model import Fault, Step

__all__ = ["Operation", "Scope", "Table", "names", "operation", "operation_class"]


@cache
def names() -> tuple[str, ...]:
    """Return the names of all operations: each module of this package is one."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base"))


@cache
def operation_class(name: str) -> type[Operation]:
    """Return the class of the operation called ``name``; raises KeyError if there is none."""
    # to look for one costs a fiftieth of what listing them all does
    found = (
        None if name == "base" or not name.isidentifier() or name.startswith("_") else find_spec(f"{__name__}.{name}")
    )
    if found is None:
        raise KeyError(name)
    module = importlib.import_module(found.name)
    (cls,) = (
        v
        for v in vars(module).values()
        if isinstance(v, type) and issubclass(v, Operation) and v.__module__ == module.__name__
    )
    return cls


def operation(step: Step) -> Operation:
    """Build the operation that ``step`` wrote; raises Fault for an unknown name or wrong arguments."""
    try:
        cls = operation_class(step.name)
    except KeyError:
        fix = hint(step.name, names(), "operations")
        raise Fault(f"unknown operation {step.name!r}", fix, (*step.path, step.name)) from None
    return cls.from_step(step)
