"""Outputs that are one file: whether its format has what their columns need, told before anything is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from lazypipe.compile.node import Node
from lazypipe.spec.model import Fault, Pipeline
from lazypipe.spec.types import dtype_name
from lazypipe.storage.formats import FORMATS

__all__ = ["check_exports"]


def check_exports(pipeline: Pipeline, nodes: Mapping[str, Node], faults: list[Fault]) -> None:
    """Add columns that cannot be written in the format of their output to ``faults``."""
    for name, output in pipeline.outputs.items():
        if output.format not in FORMATS or output.stage not in nodes:
            continue
        lacks = FORMATS[output.format].lacks
        for column, dtype in nodes[output.stage].schema.items():
            if any(isinstance(part, lacks) for part in _parts(dtype)):
                what = f"{output.format} has no way to write column {column!r}, which is {dtype_name(dtype)}"
                fix = "make text or numbers of it in the stage, drop it, or write parquet or ipc"
                faults.append(Fault(what, fix, ("outputs", name, "format")))


def _parts(dtype: pl.DataType) -> Iterator[pl.DataType]:
    """Yield a type and those within it."""
    yield dtype
    match dtype:
        case pl.List() | pl.Array():
            yield from _parts(dtype.inner)  # type: ignore[arg-type]  # of a schema, it is a type with its parameters
        case pl.Struct():
            for field in dtype.fields:
                yield from _parts(field.dtype)  # type: ignore[arg-type]  # as above
        case _:
            pass
