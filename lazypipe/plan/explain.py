"""Plans as text: as written, as optimized, and as the streaming engine will run them."""

from __future__ import annotations

import re
from typing import Literal

import polars as pl

__all__ = ["Kind", "explain"]

Kind = Literal["logical", "optimized", "physical"]

_NODE = re.compile(r'^(\d+) \[label="((?:[^"\\]|\\.)*)"(.*)\];?$', re.MULTILINE)
_EDGE = re.compile(r"^(\d+) -> (\d+)", re.MULTILINE)
# the colours of Polars' legend
_MARKS = {"0.16 0.3 1.0": "  [needs memory]", "0.0 0.3 1.0": "  [in-memory engine]"}


def explain(frame: pl.LazyFrame, kind: Kind = "optimized") -> str:
    """Return the plan of a frame as text; reads no data.

    Examples
    --------
    >>> print(explain(pl.LazyFrame({"a": [1]}).select(b=pl.col("a") + 1), "physical"))
    select: b = ...
      in-memory-source: cols: a  [needs memory]
    """
    if kind == "physical":
        return _physical(frame)
    return frame.explain(optimized=kind == "optimized", engine="streaming")


def _physical(frame: pl.LazyFrame) -> str:
    dot = frame.show_graph(raw_output=True, plan_stage="physical", engine="streaming")
    assert isinstance(dot, str)
    labels, marks = {}, {}
    for number, label, attributes in _NODE.findall(dot):
        lines = [part.strip() for part in label.replace('\\"', '"').split("\\n") if part.strip()]
        labels[number] = lines[0] + (": " + "; ".join(lines[1:]) if lines[1:] else "")
        marks[number] = next((text for colour, text in _MARKS.items() if colour in attributes), "")
    inputs: dict[str, list[str]] = {number: [] for number in labels}
    for lower, upper in _EDGE.findall(dot):
        inputs[upper].append(lower)
    feeding = {number for group in inputs.values() for number in group}
    lines = []
    pending = [(0, number) for number in labels if number not in feeding]
    while pending:
        depth, number = pending.pop()
        lines.append("  " * depth + labels[number] + marks[number])
        pending += [(depth + 1, below) for below in reversed(inputs[number])]
    return "\n".join(lines)
