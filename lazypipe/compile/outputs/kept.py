"""The lineage of outputs: which rows of their stages a write mode keeps, the columns it adds, and the feeds beside the output.

A mode is no step of a plan: it puts the rows of a run together with those that are there. What decides over that are columns all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from lazypipe.compile.node import Node
from lazypipe.compile.outputs.modes import CHANGE_COLUMNS, IS_CURRENT, SNAPSHOT_AT, VALID_FROM, VALID_TO, deleted
from lazypipe.compile.outputs.panes import OWN, feed_schema, panes_of
from lazypipe.plan.lineage import Column, ColumnLineage, Flow, Flows
from lazypipe.plan.places import Place
from lazypipe.plan.reader import read_plan
from lazypipe.plan.steps import plan_lineage
from lazypipe.plan.text import identifier
from lazypipe.spec.model import Output
from lazypipe.spec.taps import label
from lazypipe.sql.exprs import empty

__all__ = ["feeds", "kept", "removing"]


def kept(
    name: str, output: Output, of: str, schema: Mapping[str, pl.DataType], params: Mapping[str, Any]
) -> ColumnLineage:
    """Return what the columns of a dataset come from, and what decides over its rows, in terms of the rows ``of`` its stage.

    Examples
    --------
    >>> output = Output("a", "out", mode="upsert", key=("id",), order_by=("n",))
    >>> print(kept("out", output, "a", pl.Schema({"id": pl.Int64(), "n": pl.Int64()}), {}))
    a.id → out.id: IDENTITY id
    a.n → out.n: IDENTITY n
    a.id → out.*: WINDOW PARTITION BY id ORDER BY n
    a.n → out.*: WINDOW PARTITION BY id ORDER BY n
    """
    order = output.order_by or ((output.event_time,) if output.event_time else ())
    columns = _same(of, schema)
    texts = {c: c for c in columns}
    rows: dict[Flow, str] = {}
    match output.mode:
        case "upsert":
            rows = _decided(of, [*output.key, *order], _window(output.key, order))
        case "scd2":
            # a row like the version before it adds none
            rows = _decided(of, schema, _window(output.key, order))
            columns |= _versions(of, order)
            texts |= {VALID_FROM: order[0] if order else "", VALID_TO: _next(output.key, order), IS_CURRENT: ""}
        case "snapshot":
            columns, texts = {**columns, SNAPSHOT_AT: {}}, {**texts, SNAPSHOT_AT: ""}
        case "replace_partitions":
            rows = _decided(of, output.partition_by, _window(output.partition_by, ()))
    if output.mode in ("upsert", "scd2") and (gone := deleted(output, pl.Schema(schema), params)) is not None:
        filtered = plan_lineage(read_plan(label(empty(schema).lazy(), of).filter(~gone)), name)
        # a row that is left out takes those of its key along
        rows |= {flow._replace(subtype="WINDOW"): text for flow, text in filtered.dataset.items()}
    return ColumnLineage(name, columns, rows, texts, (of,))


def removing(name: str, output: Output, of: str, uri: str) -> Place:
    """Return what takes rows out of a dataset by their key: a place without columns, which decides over the rows of who holds it."""
    rows = _decided(of, output.key, ", ".join(identifier(c).text for c in output.key), "FILTER")
    return Place(name, "output", (), ColumnLineage(name, {}, rows, {}, (of,)), (uri,), published=True)


def feeds(
    name: str, output: Output, of: str, columns: Sequence[str], nodes: Mapping[str, Node], uri: str
) -> tuple[Place, ...]:
    """Return the feeds beside an output, which hold its rows as they were and as they are: what each version changed, and panes of windows."""
    # rows of a feed are found by key, and by what differs
    differs = _decided(of, columns, _window(output.key, ()))
    found = []
    if output.changes:
        told = {**{c: {} for c in CHANGE_COLUMNS}, **_same(of, columns)}
        found.append(_feed(f"{name}__changes", told, differs, of, f"{uri}__changes"))
    panes = panes_of(output)
    if panes is not None:
        _, differ = feed_schema(output, nodes, nodes[output.stage].schema)
        made = set(differ) if panes.mode == "discard" else set()
        told = {**{c: {} for c in (*OWN, *panes.columns)}, **_same(of, columns, made)}
        found.append(_feed(f"{name}__panes", told, differs, of, f"{uri}__panes"))
    return tuple(found)


def _feed(name: str, columns: dict[str, Flows], rows: dict[Flow, str], of: str, uri: str) -> Place:
    lineage = ColumnLineage(name, columns, rows, {c: c if flows else "" for c, flows in columns.items()}, (of,))
    return Place(name, "feed", tuple(columns), lineage, (uri,))


def _same(of: str, columns: Iterable[str], made: Iterable[str] = ()) -> dict[str, Flows]:
    return {c: {Flow(Column(of, c), "TRANSFORMATION" if c in made else "IDENTITY"): ""} for c in columns}


def _decided(of: str, columns: Iterable[str], text: str, subtype: Any = "WINDOW") -> dict[Flow, str]:
    return {Flow(Column(of, c), subtype): text for c in columns}


def _versions(of: str, order: Sequence[str]) -> dict[str, Flows]:
    """Return what the times of versions come from; without a time of their own, from the clock of the run alone."""
    found: dict[str, Flows] = {VALID_FROM: {}, VALID_TO: {}, IS_CURRENT: {}}
    for column in order:
        found[VALID_FROM] = {Flow(Column(of, column), "IDENTITY"): ""}
        found[VALID_TO] = {Flow(Column(of, column), "TRANSFORMATION"): ""}
    return found


def _next(key: Sequence[str], order: Sequence[str]) -> str:
    return f"LEAD({identifier(order[0]).text}) OVER ({_window(key, order)})" if order else ""


def _window(key: Sequence[str], order: Sequence[str]) -> str:
    clauses = (("PARTITION BY", key), ("ORDER BY", order))
    return " ".join(f"{word} {', '.join(identifier(c).text for c in of)}" for word, of in clauses if of)
