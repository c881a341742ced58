"""Functions and names that a run puts into a plan, marked so that readers of the plan recognise them.

Polars shows no Python function in a plan, so a name stands right below it: an ``unnest`` of no columns at all, whose
separator is free text that plans show. It streams, costs nothing, and lets filters, projections and limits through
(docs/decisions/0011).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

import polars as pl

__all__ = ["label", "read_mark", "tap"]

_MARK = "lazypipe:"


def tap(
    frame: pl.LazyFrame,
    function: Callable[[pl.DataFrame], pl.DataFrame],
    *,
    schema: pl.Schema | None = None,
    deciding: Sequence[str] = (),
) -> pl.LazyFrame:
    """Let rows flow through a function that changes no value: it counts, and may take rows or columns out.

    Parameters
    ----------
    schema
        The columns that go on. Default: all.
    deciding
        The columns by which rows are taken out.

    Examples
    --------
    >>> tap(pl.LazyFrame({"a": [1]}), lambda rows: rows).collect().item()
    1
    """
    return _marked(frame, "tap", list(deciding)).map_batches(
        function, schema=schema, streamable=True, validate_output_schema=False
    )


def label(frame: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Give the rows that a frame reads a name: that of the source or stage they are.

    Examples
    --------
    >>> label(pl.LazyFrame({"a": [1]}), "orders").collect().item()
    1
    """
    return _marked(frame, "label", name)


def _marked(frame: pl.LazyFrame, kind: str, value: Any) -> pl.LazyFrame:
    return frame.unnest([], separator=_MARK + json.dumps([kind, value]))


def read_mark(separator: str | None) -> tuple[Literal["tap"], list[str]] | tuple[Literal["label"], str] | None:
    """Return what the separator of an ``unnest`` says: a tap with its deciding columns, a label with its name, or nothing.

    Examples
    --------
    >>> read_mark('lazypipe:["label", "orders"]'), read_mark("_")
    (('label', 'orders'), None)
    """
    if separator is None or not separator.startswith(_MARK):
        return None
    kind, value = json.loads(separator.removeprefix(_MARK))
    return (kind, value)
