"""``python``: a function over LazyFrames, from a module that the caller allows."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import polars as pl

from lazypipe.errors import first_line, nearest
from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import INPUTS, MAPPING, TEXT, arg, choice
from lazypipe.spec.model import NOTHING
from lazypipe.spec.types import dtype_name


@dataclass(frozen=True)
class Python(Operation):
    """Call a Python function, ``module:function``, with the LazyFrame; it returns a LazyFrame.

    The function gets the frame, each input in ``with`` under its name, and the keyword ``arguments``. Only modules
    that the caller names in ``allow`` are imported, so a definition alone cannot run code. The function must be pure:
    it is also called with empty frames, to learn the schema. What it prints goes to stderr. Lineage treats it as opaque: every input column feeds
    every output column.

    With ``incremental: rows`` you state that the function treats each row by itself, so that its result for a row
    does not depend on other rows. Runs then call it only with the rows of new files. These carry a column
    ``_lazypipe_unit``, which it must leave as it is. The part of the returned plan that can be read is checked; what
    the function does in Python cannot be.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> step = {"python": {"call": "cleaning:trim", "arguments": {"column": "a"}}}
    >>> lp.apply(step, pl.LazyFrame({"a": [" x"]}))
    Traceback (most recent call last):
    lazypipe.errors.DefinitionError: module 'cleaning' is not allowed; allow it: --allow cleaning, or allow=['cleaning'] in Python
    """

    name: ClassVar[str] = "python"
    shorthand: ClassVar[str] = "call"
    call: str | Callable[..., pl.LazyFrame] = arg(TEXT, "The function, as module:function.")
    with_: tuple[str, ...] = arg(INPUTS, "Other sources or stages, passed by name.", default=())
    arguments: Mapping[str, Any] | None = arg(MAPPING, "Further keyword arguments.", default=None)
    incremental: Literal["rows"] | None = arg(
        choice("rows"),
        "rows: the function treats each row by itself, so that only new files are processed.",
        default=None,
    )

    def multiplies(self) -> bool:
        """Perhaps: a function may do anything."""
        return True

    def inputs(self) -> tuple[str, ...]:
        """Return the other inputs."""
        return self.with_

    def code(self, scope: Scope) -> tuple[Callable[..., object], ...]:
        """Return the function."""
        return (self.call if callable(self.call) else self._load(self.call, scope),)

    def large(self, large: frozenset[str]) -> bool:
        """It is not known how many rows a function gives."""
        return False

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Call the function."""
        (function,) = self.code(scope)
        others = {name: scope.table(name).frame for name in self.with_}
        try:
            with redirect_stdout(sys.stderr):  # stdout is for results: what it prints would stand in their JSON
                result = function(table.frame, **others, **(self.arguments or NOTHING))
        except Exception as error:
            what = f"{self.call} failed: {type(error).__name__}: {first_line(error)}"
            raise scope.fault(what, "it must take and return LazyFrames, and read no data", "call") from error
        if not isinstance(result, pl.LazyFrame):
            what = f"{self.call} returned a {type(result).__name__}"
            raise scope.fault(what, "return a LazyFrame", "call")
        return result

    def refuse_others(
        self, result: pl.LazyFrame, schema: Mapping[str, pl.DataType], extra: Sequence[str], scope: Scope
    ) -> None:
        """Raise Fault where the function gives other columns than it gave of no rows, by which files are written and read."""
        found = {n: t for n, t in result.collect_schema().items() if n not in extra}
        if found == dict(schema):
            return
        others = [f"{n} ({dtype_name(t)})" for n, t in found.items() if schema.get(n) != t]
        missing = [n for n in schema if n not in found]
        what = [f"gives {', '.join(others)}"] * bool(others) + [f"does not give {', '.join(missing)}"] * bool(missing)
        raise scope.fault(
            f"{self.call} {' and '.join(what)}, but not when it was called without rows",
            "make its columns independent of the rows: work on the LazyFrame, or give frames made from rows a schema",
            "call",
        )

    def each(self, table: Table, scope: Scope) -> bool:
        """Whether it is declared so."""
        return self.incremental == "rows"

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Nobody knows what a function makes of columns that it does not know."""
        return None

    def apart(self, table: Table, scope: Scope) -> Mapping[str, str] | None:
        """Whatever a function does to some rows, it may do otherwise to others."""
        return {}

    def _load(self, call: str, scope: Scope) -> Callable[..., Any]:
        module_name, _, attribute = call.partition(":")
        if not module_name or not attribute:
            raise scope.fault(f"{call!r} does not name a function", "write module:function", "call")
        if module_name not in scope.modules:
            fix = f"allow it: --allow {module_name}, or allow=[{module_name!r}] in Python"
            raise scope.fault(f"module {module_name!r} is not allowed", fix, "call")
        try:
            with redirect_stdout(sys.stderr):
                module = importlib.import_module(module_name)
        except Exception as error:
            raise scope.fault(
                f"cannot import {module_name!r}: {type(error).__name__}: {first_line(error)}",
                "check that it is installed, or that its folder is in PYTHONPATH",
                "call",
            ) from error
        function = getattr(module, attribute, None)
        if not callable(function):
            names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise scope.fault(
                f"module {module_name!r} has no function {attribute!r}", nearest(attribute, names, "functions"), "call"
            )
        return function  # type: ignore[no-any-return]  # callable() says no more
