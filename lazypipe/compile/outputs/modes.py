"""Write modes: how the rows of a run are combined with existing rows, and which settings each mode needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from lazypipe.compile.node import Node
from lazypipe.errors import first_line, nearest
from lazypipe.ops.base import reads_one_row
from lazypipe.spec.model import Fault, Output, Path, Pipeline
from lazypipe.sql.bind import bind
from lazypipe.sql.exprs import dtype_of, empty, settled, try_out
from lazypipe.sql.text import SqlError

__all__ = [
    "CHANGE_COLUMNS",
    "IS_CURRENT",
    "MODES",
    "SNAPSHOT_AT",
    "VALID_FROM",
    "VALID_TO",
    "adds_to",
    "check_modes",
    "deleted",
    "merges",
    "places",
    "written_schema",
]

MODES = ("replace", "append", "upsert", "delete", "scd2", "snapshot", "replace_partitions")

VALID_FROM, VALID_TO, IS_CURRENT = "valid_from", "valid_to", "is_current"
SNAPSHOT_AT = "snapshot_at"
CHANGE_COLUMNS = ("_change", "_version", "_time", "_run")
"""What a change feed says of each row: insert, update_before, update_after or delete; the output's version, its time, its run."""

_RUN_TIME = pl.Datetime("us", "UTC")
_NEEDS_KEY = ("upsert", "delete", "scd2")
_ONLY_FOR = {
    "order_by": ("upsert",),
    "event_time": ("upsert", "scd2"),
    "deleted_when": ("upsert", "scd2"),
    "deletes": ("scd2",),
    "keep": ("snapshot",),
}


def adds_to(output: Output) -> bool:
    """Whether a run gives an output just the rows of new input, and what is there stays or is changed by them."""
    return output.mode in ("append", "upsert", "delete") or (output.mode == "scd2" and output.deletes != "close")


def places(output: Output) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns that identify what a row is about, and those that say which of several such rows is later; none: the one that came later.

    A history that is dated by its rows has a row for each moment of a key.

    Examples
    --------
    >>> places(Output("a", "out", mode="upsert", key=("id",), order_by=("lsn",)))
    (('id',), ('lsn',))
    >>> places(Output("a", "out", mode="scd2", key=("id",), event_time="at"))
    (('id', 'at'), ())
    """
    time = () if output.event_time is None else (output.event_time,)
    if output.mode == "scd2":
        return (*output.key, *time), ()
    return output.key, (output.order_by or time) if output.mode == "upsert" else ()


def merges(output: Output) -> bool:
    """Whether a run's rows are not published as they are, but put together with those that are there."""
    return output.mode in ("upsert", "delete", "scd2", "snapshot")


def written_schema(output: Output, schema: pl.Schema) -> pl.Schema:
    """Return the columns of an output's dataset, of a stage with the columns ``schema``.

    Examples
    --------
    >>> written_schema(Output("a", "out", mode="snapshot"), pl.Schema({"x": pl.Int64()})).names()
    ['x', 'snapshot_at']
    """
    match output.mode:
        case "scd2":
            moment = _RUN_TIME if output.event_time is None else schema[output.event_time]
            return pl.Schema({**schema, VALID_FROM: moment, VALID_TO: moment, IS_CURRENT: pl.Boolean()})
        case "snapshot":
            return pl.Schema({**schema, SNAPSHOT_AT: _RUN_TIME})
        case _:
            return schema


def deleted(output: Output, schema: pl.Schema, params: Mapping[str, Any]) -> pl.Expr | None:
    """Return which rows of a run remove or end their key, as an expression; raises SqlError if it is wrong."""
    written = output.deleted_when
    if written is None:
        return None
    if isinstance(written, pl.Expr):
        return settled(written, schema)
    return bind(written, schema, params)


def check_modes(pipeline: Pipeline, nodes: Mapping[str, Node], params: Mapping[str, Any], faults: list[Fault]) -> None:
    """Add what is wrong with the write modes of outputs to ``faults``."""
    for name, output in pipeline.outputs.items():
        at: Path = ("outputs", name)
        if output.format != "dataset":
            continue
        faults += _options(output, at)
        faults += _readers(pipeline, nodes, output, at)
        if output.stage in nodes:
            faults += _columns(output, nodes[output.stage].schema, params, at)


def _options(output: Output, at: Path) -> list[Fault]:
    found = []
    mode = output.mode
    for option, modes in _ONLY_FOR.items():
        if output.says(option) and mode not in modes:
            what = f"{option} is for mode: {' or '.join(modes)}, and this is mode: {mode}"
            found.append(Fault(what, f"remove {option}, or change mode", (*at, option)))
    if mode in _NEEDS_KEY and not output.key:
        fix = "add key: the columns that identify a row"
        found.append(Fault(f"mode: {mode} needs a key", fix, (*at, "mode")))
    if output.changes and not output.key:
        found.append(
            Fault("changes needs a key", "add key: the columns that identify a row", (*at, "changes")),
        )
    if output.changes and mode in ("snapshot", "delete"):
        what = f"changes has no meaning with mode: {mode}"
        fix = "ask for it at the output that writes the rows" if mode == "delete" else "compare snapshots with lp.diff"
        found.append(Fault(what, fix, (*at, "changes")))
    if mode == "replace_partitions" and not output.partition_by:
        fix = "add partition_by: the columns whose values are replaced as one"
        found.append(Fault("mode: replace_partitions needs partitions", fix, (*at, "mode")))
    if mode == "delete" and output.partition_by:
        what = "partition_by is for rows that are written, and mode: delete only removes rows"
        found.append(Fault(what, "remove partition_by", (*at, "partition_by")))
    if output.order_by and output.event_time and mode == "upsert":
        what = "order_by and event_time both say which row is the latest"
        found.append(Fault(what, "keep one of them", (*at, "event_time")))
    if mode == "scd2" and output.deletes == "close" and output.event_time:
        what = "deletes: close ends versions at the time of the run, and event_time gives them times of their own"
        found.append(Fault(what, "remove one of them", (*at, "deletes")))
    if output.contract and mode in ("delete", "scd2", "snapshot", "replace_partitions"):
        what = f"a contract is about the rows of a stage, and mode: {mode} makes something else of it"
        found.append(Fault(what, "remove contract, or put rules at the stage's gate", (*at, "contract")))
    return found


def _readers(pipeline: Pipeline, nodes: Mapping[str, Node], output: Output, at: Path) -> list[Fault]:
    """Return what is wrong with who else wants the stage's rows."""
    if output.mode in ("replace", "append"):
        return []
    others = [n for n, o in pipeline.outputs.items() if o.stage == output.stage and o is not output]
    if others:
        what = (
            f"mode: {output.mode} makes something else of the rows of {output.stage!r}, which {others[0]!r} writes too"
        )
        return [Fault(what, "give one of them a stage of its own", (*at, "mode"))]
    if output.mode not in ("delete", "scd2", "snapshot"):
        return []
    readers = [n for n, node in nodes.items() if output.stage in (*node.inputs, *_looked_up(node))]
    if readers:
        what = f"mode: {output.mode} makes something else of the rows of {output.stage!r}, which {readers[0]!r} reads"
        return [Fault(what, "write from a stage of its own, that nothing reads", (*at, "mode"))]
    return []


def _looked_up(node: Node) -> list[str]:
    return [c.reference.to for c in node.checks if c.reference is not None]


def _columns(output: Output, schema: pl.Schema, params: Mapping[str, Any], at: Path) -> list[Fault]:
    found = []
    for index, column in enumerate(output.order_by):
        if column not in schema:
            fix = nearest(column, schema, "columns")
            found.append(Fault(f"unknown column {column!r}", fix, (*at, "order_by", index)))
        elif schema[column].is_nested():
            what = f"{schema[column]} column {column!r} has no order"
            found.append(Fault(what, "name a column of numbers, text or times", (*at, "order_by", index)))
    if (moment := output.event_time) is not None:
        if moment not in schema:
            found.append(Fault(f"unknown column {moment!r}", nearest(moment, schema, "columns"), (*at, "event_time")))
        elif not isinstance(schema[moment], pl.Date | pl.Datetime):
            what = f"event_time {moment!r} is {schema[moment]}"
            found.append(Fault(what, "name a column of dates or datetimes, or cast it", (*at, "event_time")))
        elif moment in output.key and output.mode == "scd2":
            what = f"event_time {moment!r} is part of the key, so that a key has one version only"
            found.append(Fault(what, "remove it from key", (*at, "event_time")))
    for name in {"scd2": (VALID_FROM, VALID_TO, IS_CURRENT), "snapshot": (SNAPSHOT_AT,)}.get(output.mode, ()):
        if name in schema:
            what = f"mode: {output.mode} adds a column {name!r}, and {output.stage!r} has one"
            found.append(Fault(what, "rename it in the stage", (*at, "mode")))
    for name in CHANGE_COLUMNS if output.changes else ():
        if name in schema:
            what = f"a change feed has a column {name!r} of its own, and {output.stage!r} has one"
            found.append(Fault(what, "rename it in the stage", (*at, "changes")))
    for index, column in enumerate(output.key):
        if column in schema and schema[column].is_nested() and (output.mode in _NEEDS_KEY or output.changes):
            what = f"{schema[column]} column {column!r} cannot be a key"
            found.append(Fault(what, "name columns of numbers, text or times", (*at, "key", index)))
    return found + _condition(output, schema, params, at)


def _condition(output: Output, schema: pl.Schema, params: Mapping[str, Any], at: Path) -> list[Fault]:
    path = (*at, "deleted_when")
    try:
        expr = deleted(output, schema, params)
        if expr is None:
            return []
        try_out(expr.alias("x"), empty(schema))
        dtype = dtype_of(expr, schema)
    except SqlError as error:
        return [Fault(error.what, error.fix, path)]
    except pl.exceptions.PolarsError as error:
        return [Fault(first_line(error), None, path)]
    if dtype != pl.Boolean:
        return [Fault(f"a condition must be true or false, and this is {dtype}", "compare it with something", path)]
    if not reads_one_row([expr], schema):
        return [Fault("deleted_when takes values from other rows", "compute it in the stage", path)]
    return []
