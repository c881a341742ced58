"""Whether the format of an exported file can hold its columns, checked before any data is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from lazypipe.compile.node import Node
from lazypipe.spec.model import Fault, Pipeline
from lazypipe.spec.types import dtype_name, is_hollow, parts
from lazypipe.storage.formats import FORMATS

__all__ = ["check_exports"]

_PARQUET = ("dataset", "parquet")


def check_exports(pipeline: Pipeline, nodes: Mapping[str, Node], faults: list[Fault]) -> None:
    """Add columns that cannot be written in the format of their output to ``faults``."""
    for name, output in pipeline.outputs.items():
        if output.stage not in nodes:
            continue
        if output.format in _PARQUET and not output.delta_log:  # Delta tables have a check of their own
            faults += _hollow(name, nodes[output.stage].schema)
        if output.format not in FORMATS:
            continue
        lacks = FORMATS[output.format].lacks
        for column, dtype in nodes[output.stage].schema.items():
            if any(isinstance(part, lacks) for part in parts(dtype)):
                what = f"{output.format} cannot hold column {column!r}, which is {dtype_name(dtype)}"
                fix = "convert it to text or numbers in the stage, drop it, or write parquet or ipc"
                faults.append(Fault(what, fix, ("outputs", name, "format")))


def _hollow(output: str, schema: Mapping[str, pl.DataType]) -> Iterator[Fault]:
    """Yield the columns that Parquet has no way to write, as nothing would stand in it for their rows."""
    for column, dtype in schema.items():
        if is_hollow(dtype):
            what = f"Parquet cannot hold column {column!r}, which is {dtype_name(dtype)}: a struct without fields"
            yield Fault(what, "drop it in the stage, or give it a field", ("outputs", output))
