"""The panes of outputs, bound: for which windows they are written, and for which columns differences are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from lazypipe.compile.closing import waited_for
from lazypipe.compile.node import Node
from lazypipe.compile.outputs.modes import CHANGE_COLUMNS
from lazypipe.compile.segments import Segment
from lazypipe.ops import session
from lazypipe.ops.session import Session
from lazypipe.ops.window import Window
from lazypipe.spec.model import Fault, Output, Path, Pipeline
from lazypipe.sql.text import call
from lazypipe.windows.panes import Panes
from lazypipe.windows.slices import END, START, WINDOW

__all__ = ["check_panes", "end_of", "feed_schema", "panes_of", "untimed"]

OWN = CHANGE_COLUMNS[1:]
"""What panes say of themselves as changes do: the output's version, its time, its run."""

_MODES = ("replace", "upsert", "replace_partitions")
_ADD_UP = ("sum", "count")


def panes_of(output: Output) -> Panes | None:
    """Return how an output writes panes; None if it does not."""
    return Panes(**output.panes) if output.panes else None


@dataclass(frozen=True)
class _Of:
    """The windows that a stage's rows are: the stage and step that make them, and under which names their columns are there."""

    nodes: Mapping[str, Node]
    stage: str
    cut: tuple[str, int]
    operation: Window | Session

    @classmethod
    def find(cls, nodes: Mapping[str, Node], stage: str) -> _Of | None:
        """Return the last windows that a stage's rows are made of; None if there are none."""
        name = stage
        while True:
            for index, (operation, _) in reversed([*enumerate(nodes[name].steps)]):
                if isinstance(operation, Window | Session):
                    return cls(nodes, stage, (name, index), operation)
            if not nodes[name].inputs:
                return None
            name = nodes[name].inputs[0]

    def name_of(self, column: str) -> str | None:
        """Return the name of a column of windows in the stage; None if it is not there as it is."""
        from lazypipe.compile.fingerprint import carried

        found = carried(self.nodes, self.cut, self.stage, [column])
        return found.get(column)

    @property
    def start(self) -> str:
        return session.START if isinstance(self.operation, Session) else START

    @property
    def end(self) -> str:
        return session.END if isinstance(self.operation, Session) else END

    @property
    def fixed(self) -> tuple[str, ...]:
        """The columns that are the same in all panes of a window."""
        kind = (WINDOW,) if isinstance(self.operation, Window) and len(self.operation.every) > 1 else ()
        ends = () if isinstance(self.operation, Session) else (self.end,)
        return tuple(dict.fromkeys([*self.operation.by, *kind, self.start, *ends]))

    def without_difference(self, output: Output) -> list[tuple[str, str]]:
        """Return the columns of an output that have no difference, each with what it is."""
        known = {n for c in self.fixed if (n := self.name_of(c)) is not None} | {*output.key}
        what: dict[str, str] = {}
        for name, text in self.operation.aggregate.items():
            called = call(text) if isinstance(text, str) else None
            here = self.name_of(name)
            if here is None:
                continue
            if called is not None and called[0] in _ADD_UP:
                known.add(here)
            else:
                what[here] = f"is {text}" if isinstance(text, str) else "is an expression"
        if isinstance(self.operation, Session) and (end := self.name_of(self.end)) is not None:
            what[end] = "is the time of the last row"
        rest = [n for n in self.nodes[self.stage].schema if n not in known]
        return [(n, what.get(n, "is made of others behind the windows")) for n in rest]


def check_panes(pipeline: Pipeline, nodes: Mapping[str, Node], faults: list[Fault]) -> None:
    """Add what is wrong with the panes of outputs to ``faults``."""
    for name, output in pipeline.outputs.items():
        panes = panes_of(output)
        if panes is not None:
            faults += _faults(output, panes, nodes, ("outputs", name, "panes"))


def _faults(output: Output, panes: Panes, nodes: Mapping[str, Node], at: Path) -> list[Fault]:
    if output.format != "dataset":
        return [
            Fault(
                f"panes are for datasets, and this is one {output.format} file",
                "remove panes, or write format: dataset",
                at,
            )
        ]
    if output.mode not in _MODES:
        fix = "remove one of them; panes are for mode: replace, upsert or replace_partitions"
        return [Fault(f"panes have no meaning with mode: {output.mode}", fix, at)]
    if not output.key:
        return [Fault("panes need a key", "add key: the columns of a window's group, and window_start", at)]
    if output.stage not in nodes:
        return []
    of = _Of.find(nodes, output.stage)
    if of is None:
        what = f"panes are for windows, and {output.stage!r} is made of none"
        return [Fault(what, "remove panes, or say changes: true", at)]
    return [*_names(output, panes, nodes[output.stage].schema, at), *_windows(output, panes, of, at)]


def _names(output: Output, panes: Panes, schema: pl.Schema, at: Path) -> list[Fault]:
    found = []
    if panes.mode != "retract" and "weight" in output.panes:
        what = f"weight is for mode: retract, and this is mode: {panes.mode}"
        found.append(Fault(what, "remove weight, or change mode", (*at, "weight")))
    for index, name in enumerate(panes.columns):
        place = next((n for n in ("weight", "index", "timing") if output.panes.get(n) == name), "mode")
        if name in panes.columns[:index] or name in OWN:
            found.append(Fault(f"panes have a column {name!r} already", "choose another name", (*at, place)))
        elif name in schema:
            what = f"panes have a column {name!r} of their own, and {output.stage!r} has one"
            found.append(Fault(what, "choose another name", (*at, place)))
    for name in OWN:
        if name in schema:
            what = f"panes have a column {name!r} of their own, and {output.stage!r} has one"
            found.append(Fault(what, "rename it in the stage", at))
    return found


def _windows(output: Output, panes: Panes, of: _Of, at: Path) -> list[Fault]:
    found = []
    start = of.name_of(of.start)
    if start is not None and not {start, of.name_of(of.end)} & {*output.key}:
        what = f"the key has no {start!r}, so all windows of a group would share one key"
        found.append(Fault(what, f"add {start} to key", (*at[:-1], "key")))
    if panes.timing is not None:
        if of.name_of(of.end) is None:
            what = f"timing needs the end of each window, and {output.stage!r} has no {of.end!r} as it was"
            found.append(Fault(what, f"keep {of.end} in the stage, or remove timing", (*at, "timing")))
        if not waited_for(of.nodes, output.stage):
            what = "timing needs a watermark, and no source of these rows has one"
            found.append(Fault(what, "give one event_time and watermark: {delay: …}", (*at, "timing")))
    for column, is_ in of.without_difference(output) if panes.mode == "discard" else ():
        what = f"column {column!r} {is_}, of which there is no difference"
        fix = "compute it from sum and count, leave it out, or say mode: retract, which publishes the old row and the new one"
        found.append(Fault(what, fix, (*at, "mode")))
    return found


def untimed(segments: Sequence[Segment], nodes: Mapping[str, Node], outputs: Mapping[str, Output]) -> list[Fault]:
    """Return a fault for each output whose windows are computed elsewhere: the progress of event time is in the commits of others."""
    faults = []
    for segment in segments:
        output = None if segment.output is None else outputs[segment.output]
        panes = None if output is None else panes_of(output)
        if output is None or panes is None or panes.timing is None:
            continue
        of = _Of.find(nodes, output.stage)
        assert of is not None
        if of.cut[0] not in segment.nodes:
            what = f"timing is known only to the output that makes the windows, and {of.cut[0]!r} is made elsewhere"
            fix = "ask for it there, or make the windows for this output alone"
            faults.append(Fault(what, fix, ("outputs", str(segment.output), "panes", "timing")))
    return faults


def end_of(nodes: Mapping[str, Node], stage: str) -> str | None:
    """Return the column of a stage with the ends of its windows; None if it has none."""
    of = _Of.find(nodes, stage)
    return None if of is None else of.name_of(of.end)


def feed_schema(output: Output, nodes: Mapping[str, Node], schema: pl.Schema) -> tuple[pl.Schema, tuple[str, ...]]:
    """Return the columns of an output's windows as its panes have them, and those that differ from pane to pane.

    Differences of whole numbers have 64 bits and a sign.
    """
    of = _Of.find(nodes, output.stage)
    assert of is not None
    same = {n for c in of.fixed if (n := of.name_of(c)) is not None} | {*output.key}
    differ = tuple(n for n in schema if n not in same)
    if output.panes["mode"] != "discard":
        return schema, differ
    wide = {n: pl.Int64() for n in differ if schema[n].is_integer() and schema[n] != pl.Int128}
    return pl.Schema({**schema, **wide}), differ
