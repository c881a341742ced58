"""Whether a Delta table can hold an output's columns, checked before any data is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from lazypipe.compile.node import Node
from lazypipe.compile.outputs.modes import written_schema
from lazypipe.spec.model import Fault, Output, Path, Pipeline

__all__ = ["check_tables"]


def check_tables(pipeline: Pipeline, nodes: Mapping[str, Node], faults: list[Fault]) -> None:
    """Add what keeps outputs with ``format: delta`` from being Delta tables to ``faults``."""
    for name, output in pipeline.outputs.items():
        if output.delta_log and output.stage in nodes:
            faults += _found(output, nodes[output.stage].schema, ("outputs", name))
    faults += _differing(pipeline)


def _found(output: Output, schema: pl.Schema, at: Path) -> Iterator[Fault]:
    if output.mode == "delete":  # it only removes rows of the table
        return
    try:
        written = written_schema(output, schema)
    except KeyError:  # event_time names no column, which has been reported
        return
    from lazypipe.storage.lake.types import misfits

    for misfit in misfits(written, output.partition_by):
        path = (*at, "partition_by") if "partitions" in misfit.what else (*at, "format")
        yield Fault(misfit.what, misfit.fix, path)


def _differing(pipeline: Pipeline) -> Iterator[Fault]:
    """Yield a fault for each dataset that one output declares a Delta table and another does not."""
    by_target: dict[str, dict[bool, str]] = {}
    for name, output in pipeline.outputs.items():
        if output.format == "dataset":
            by_target.setdefault(output.to, {})[output.delta_log] = name
    for said in by_target.values():
        if len(said) == 2:
            what = f"output {said[True]!r} makes a Delta table of the dataset that {said[False]!r} changes too"
            yield Fault(what, "write format: delta at both", ("outputs", said[False]))
