"""Columns whose names are lazypipe's own: what becomes of them in files, and where nobody else may use them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lazypipe.compile.node import Node
from lazypipe.gates.tap import FILE_COLUMN, RAW_COLUMN, RULES_COLUMN, RUN_COLUMN
from lazypipe.spec.model import Fault, Pipeline
from lazypipe.storage.units import UNIT

__all__ = ["reserved"]

_ASIDE = (RULES_COLUMN, RUN_COLUMN, FILE_COLUMN, RAW_COLUMN)


def reserved(pipeline: Pipeline, nodes: Mapping[str, Node]) -> Iterable[Fault]:
    """Yield where a stage makes a column that tells the units of rows, or a gate puts rows aside that were put aside before.

    Rows in files may carry units: sources leave them out.
    """
    for name, node in nodes.items():
        for index, schema in enumerate(node.schemas):
            if UNIT in schema:
                what = f"column {UNIT!r} is lazypipe's own: it tells which file each row of an output was made of"
                yield Fault(what, "give yours another name", ("stages", name, "do", index))
                break
        kind, gate = ("sources", pipeline.sources[name].gate) if name in pipeline.sources else ("stages", ())
        gate = pipeline.stages[name].gate if name in pipeline.stages else gate
        taken = [c for c in _ASIDE if c in node.schema]
        if gate and taken and any(c.action == "quarantine" for c in node.checks):
            what = f"rows that are put aside get a column {taken[0]!r}, and these have one"
            yield Fault(
                what, f"rename it, in a stage ahead: rename: {{{taken[0]}: {_plain(taken[0])}}}", (kind, name, "gate")
            )


def _plain(column: str) -> str:
    return column.removeprefix("_lazypipe_")
