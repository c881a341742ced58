"""Names of columns that cannot be used: Polars takes them for patterns, or they are lazypipe's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import polars as pl

from lazypipe.gates.tap import FILE_COLUMN, RAW_COLUMN, RULES_COLUMN, RUN_COLUMN
from lazypipe.spec.model import Fault, Path, Pipeline
from lazypipe.storage.units import UNIT

if TYPE_CHECKING:
    from lazypipe.compile.node import Node

__all__ = ["check_aside", "check_names"]

_ASIDE = (RULES_COLUMN, RUN_COLUMN, FILE_COLUMN, RAW_COLUMN)


def check_names(schema: pl.Schema, path: Path, *, files: bool = False) -> None:
    """Raise Fault, at ``path``, for a column of a frame (or, with ``files``, of files) that cannot be used.

    Examples
    --------
    >>> check_names(pl.Schema({"^x$": pl.Int64}), ())
    Traceback (most recent call last):
        ...
    lazypipe.spec.model.Fault: column '^x$' would be taken for a pattern of names
    """
    for name in schema:
        if name == "*" or (name.startswith("^") and name.endswith("$")):
            fix = "rename it, or leave it out of the files" if files else "give it another name"
            raise Fault(f"column {name!r} would be taken for a pattern of names", fix, path)
        if name == UNIT:
            what = f"column {UNIT!r} is lazypipe's own: it tells which file each row of an output was made of"
            raise Fault(what, "give it another name", path)


def check_aside(pipeline: Pipeline, nodes: Mapping[str, Node]) -> Iterable[Fault]:
    """Yield where a gate puts rows aside that were put aside before: why that was would be lost."""
    for name, node in nodes.items():
        kind, gate = ("sources", pipeline.sources[name].gate) if name in pipeline.sources else ("stages", ())
        gate = pipeline.stages[name].gate if name in pipeline.stages else gate
        taken = [c for c in _ASIDE if c in node.schema]
        if gate and taken and any(c.action == "quarantine" for c in node.checks):
            plain = taken[0].removeprefix("_lazypipe_")
            what = f"rows that are put aside get a column {taken[0]!r}, and these have one"
            yield Fault(what, f"rename it, in a stage ahead: rename: {{{taken[0]}: {plain}}}", (kind, name, "gate"))
