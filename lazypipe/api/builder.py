"""Definitions written in Python."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from lazypipe import gates, ops
from lazypipe.api.pipeline import Pipeline
from lazypipe.api.plan import Plan
from lazypipe.errors import LazypipeError
from lazypipe.spec import loader, model
from lazypipe.spec.arguments import Arguments

__all__ = ["Builder", "pipeline"]


class Builder:
    """Builds a definition in Python, part by part. The result is the same as that of the equivalent YAML.

    Examples
    --------
    >>> import polars as pl
    >>> pipe = (
    ...     pipeline("p")
    ...     .param("least", "integer", default=1)
    ...     .source("a", "a.csv", contract={"columns": {"x": "Int64"}})
    ...     .stage("b", "a", do=[{"filter": "x >= :least"}, {"derive": {"y": pl.col("x") * 2}}], gate=[{"not_null": "y"}])
    ...     .output("b", "out/b")
    ...     .build()
    ... )
    >>> dict(pipe.compile().schema("b"))
    {'x': Int64, 'y': Int64}
    """

    def __init__(self, name: str, *, base: str | os.PathLike[str] = ".", **more: Any) -> None:
        self._base = os.fspath(base)
        self._data: dict[str, Any] = {
            "version": 1,
            "name": name,
            **more,
            "params": {},
            "sources": {},
            "stages": {},
            "outputs": {},
        }

    def __repr__(self) -> str:
        counts = ((len(self._data[s]), s[:-1]) for s in ("sources", "stages"))
        parts = ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counts)
        return f"<Builder {self._data['name']}: {parts}; outputs: {', '.join(self._data['outputs']) or 'none'}>"

    def _add(self, section: str, name: str, entry: Mapping[str, Any]) -> Self:
        if name in self._data[section]:
            raise LazypipeError(
                f"there is {'an' if section == 'outputs' else 'a'} {section[:-1]} {name!r} already; give one of them another name"
            )
        self._data[section][name] = {k: v for k, v in entry.items() if v is not None}
        return self

    def param(self, name: str, type: str, *, default: Any = None, description: str | None = None) -> Self:  # noqa: A002  # the definition's word
        """Declare a parameter."""
        return self._add("params", name, {"type": type, "default": default, "description": description})

    def source(self, name: str, uri: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **more: Any) -> Self:
        """Declare a source. ``more`` are further keys, as in a definition."""
        if isinstance(uri, pl.DataFrame | pl.LazyFrame):
            what = f"source {name!r} is a frame, but sources are files, whose changes and origin lazypipe tracks"
            raise LazypipeError(
                f"{what}; write it to one, such as with write_parquet; lp.apply and lp.check take frames"
            )
        written = (
            list(map(_path, uri)) if isinstance(uri, Iterable) and not isinstance(uri, str | bytes) else _path(uri)
        )
        return self._add("sources", name, {"uri": written, **more})

    def stage(
        self,
        name: str,
        from_: str | Sequence[str],
        do: Sequence[Mapping[str, Any] | ops.Operation] | None = (),
        gate: Sequence[Mapping[str, Any] | gates.Rule] | Mapping[str, Any] | None = (),
        description: str | None = None,
    ) -> Self:
        """Add a stage. Operations and rules are mappings, as in a definition, or Python objects."""
        at = ("stages", name)
        return self._add(
            "stages",
            name,
            {
                "from": from_,
                "do": _listed(do, (*at, "do"), "an operation", "{'filter': …}"),
                "gate": _listed(gate, (*at, "gate"), "a rule", "{'expression': …}"),
                "description": description,
            },
        )

    def output(self, name: str, to: str | os.PathLike[str], *, from_: str | None = None, **more: Any) -> Self:
        """Declare an output. ``more`` are further keys, as in a definition."""
        return self._add("outputs", name, {"from": from_, "to": _path(to), **more})

    def build(self) -> Pipeline:
        """Return the definition; raises DefinitionError with every mistake of form."""
        data = {k: v for k, v in self._data.items() if v or k in ("sources", "outputs")}
        return Pipeline.from_dict(data, base=self._base)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> None:
            """Say what is forgotten where something is asked for that only the definition, or its plan, has."""
            way = ".build()" if hasattr(Pipeline, name) else ".build().compile()" if hasattr(Plan, name) else None
            if name.startswith("_") or way is None:
                raise AttributeError(f"a builder has no attribute {name!r}", name=name, obj=self)
            raise AttributeError(f"a builder has no attribute {name!r}; finish the definition first: {way}.{name}")


def _path(given: Any) -> Any:
    """Return a path as text, what is none as it is, of which the schema says that."""
    return os.fspath(given) if isinstance(given, os.PathLike) else given


def _listed(given: Any, path: model.Path, kind: str, example: str) -> Any:
    """Return steps as a list, what is none as it is, of which the schema says that; raises DefinitionError for expressions."""
    if isinstance(given, str | Mapping | Arguments) or not isinstance(given, Iterable | pl.Expr):
        return given
    steps = [given] if isinstance(given, pl.Expr) else list(given)
    wrong: list[model.Fault] = []
    for number, step in enumerate(steps):
        if isinstance(step, pl.Expr):
            fix = f"write what is done with it: {example}"
            wrong.append(model.Fault(f"a Polars expression is not {kind}", fix, (*path, number)))
        elif callable(step):
            fix = "call it on the frame that lp.scan returns, or put it into a module and call it with python: {'python': {'call': 'module:function'}}"
            wrong.append(model.Fault(f"a function is not {kind}", fix, (*path, number)))
    if wrong:
        raise loader.problems(wrong, model.Origin())
    return steps


def pipeline(name: str, *, base: str | os.PathLike[str] = ".", **more: Any) -> Builder:
    """Start a definition in Python. Relative URIs are relative to ``base``."""
    return Builder(name, base=base, **more)
