"""A hash of the code of Python functions: of what they do, regardless of comments, line numbers and file."""

from __future__ import annotations

import functools
import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import polars as pl

from lazypipe.plan.exact import Unknown, text
from lazypipe.plan.fingerprint import digest

__all__ = ["code_of"]

_FOREIGN = frozenset({"polars", "lazypipe"})
"""Packages into which functions are not followed, beside Python's own: their versions are those of the environment."""

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def code_of(function: Any) -> str:
    """Return a hash of a function's code, with that of the functions it calls, and of the values that it refers to.

    Examples
    --------
    >>> code_of(lambda x: x + 1) == code_of(lambda x: x + 1), code_of(lambda x: x + 1) == code_of(lambda x: x + 2)
    (True, False)
    """
    return digest("code", _Reading().value(function))


class _Reading:
    """Follows a function through what it refers to, each object once."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []

    def value(self, value: Any) -> Any:
        """Return what a value is, as lists of texts."""
        if isinstance(value, FunctionType | type | MethodType | functools.partial) or hasattr(value, "__dict__"):
            if id(value) in self._seen:
                return ["seen", self._seen[id(value)]]
            self._seen[id(value)] = len(self._seen)
            self._kept.append(value)  # so that no other object gets its id
        match value:
            case FunctionType():
                return self._function(value)
            case MethodType():
                return ["method", self.value(value.__func__), self.value(value.__self__)]
            case functools.partial():
                return ["partial", self.value(value.func), self.value(value.args), self.value(value.keywords)]
            case staticmethod() | classmethod():
                return [type(value).__name__, self.value(value.__func__)]
            case property():
                return ["property", self.value([value.fget, value.fset])]
            case ModuleType():
                return ["module", value.__name__]
            case type():
                return self._class(value)
            case pl.DataFrame() | pl.LazyFrame():
                return [type(value).__name__, value.serialize().hex()]
            case pl.Series():
                return ["Series", value.to_frame().serialize().hex()]
            case pl.Expr():
                return ["Expr", value.meta.serialize().hex()]
            case list() | tuple():
                return [type(value).__name__, *map(self.value, value)]
            case Mapping():
                return ["mapping", [[self.value(k), self.value(v)] for k, v in value.items()]]
            case _:
                return self._plain(value)

    def _plain(self, value: Any) -> Any:
        try:
            return text(value)
        except Unknown:
            pass
        if hasattr(value, "__wrapped__"):
            return ["wrapped", self.value(value.__wrapped__)]
        if hasattr(value, "__qualname__"):
            return ["named", str(value.__module__), value.__qualname__, self.value(getattr(value, "__self__", None))]
        if hasattr(value, "__dict__"):
            return ["object", self.value(type(value)), self.value(vars(value))]
        try:
            return ["pickled", pickle.dumps(value, protocol=4).hex()]
        except Exception:  # whatever its class raises
            return ["shown", type(value).__qualname__, _ADDRESS.sub("", repr(value))]

    def _function(self, function: FunctionType) -> list[Any]:
        cells = [self.value(c.cell_contents) for c in function.__closure__ or ()]
        given = [self.value(function.__defaults__), self.value(function.__kwdefaults__)]
        if (
            _is_foreign(function.__module__) and function.__name__ != "<lambda>"
        ):  # a lambda has no name that identifies it
            return ["foreign", function.__module__, function.__qualname__, given, cells]
        names = set(_names(function.__code__))
        globals_ = function.__globals__
        referred = [[n, self._referred(globals_[n], names)] for n in sorted(names) if n in globals_]
        return ["function", self._code(function.__code__), given, cells, referred]

    def _referred(self, value: Any, names: set[str]) -> Any:
        if not isinstance(value, ModuleType) or _is_foreign(value.__name__):
            return self.value(value)
        parts = [[n, self.value(getattr(value, n))] for n in sorted(names) if hasattr(value, n)]
        return ["module", value.__name__, parts]

    def _class(self, kind: type) -> list[Any]:
        if _is_foreign(kind.__module__):
            return ["foreign", kind.__module__, kind.__qualname__]
        own = [
            [n, self.value(v)]
            for n, v in sorted(vars(kind).items())
            if not (n.startswith("__") and n.endswith("__")) or callable(v)
        ]
        return ["class", kind.__qualname__, [self.value(b) for b in kind.__bases__], own]

    def _code(self, code: CodeType) -> list[Any]:
        consts = [self._code(c) if isinstance(c, CodeType) else self.value(c) for c in code.co_consts]
        names = [*code.co_names, "", *code.co_varnames, "", *code.co_freevars]
        table = getattr(code, "co_exceptiontable", b"")
        return [
            code.co_code.hex(),
            consts,
            names,
            code.co_argcount,
            code.co_kwonlyargcount,
            code.co_posonlyargcount,
            code.co_flags,
            table.hex(),
        ]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)


def _is_foreign(module: str | None) -> bool:
    top = (module or "").partition(".")[0]
    return top in _FOREIGN or top in sys.stdlib_module_names
