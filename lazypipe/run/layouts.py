"""The layout of an output's files: kept from the commit before, or chosen from the rows that a run has just written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.errors import LazypipeError
from lazypipe.spec.model import Output
from lazypipe.storage.dataset import Dataset
from lazypipe.storage.log import KEPT, Commit
from lazypipe.storage.optimizer.advise import advise
from lazypipe.storage.optimizer.forms import check_forms
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.maintenance import sample
from lazypipe.storage.optimizer.writing import check_layout

__all__ = ["Choice", "choose", "is_due", "kept"]

_SHARE = 0.03
"""Which part of the time that writing took may be spent on choosing, where that is more than the least."""

_LEAST_SECONDS = 1.0
"""What choosing may take at any rate: it is done once, and less than that finds nothing."""

_LEAST = 1 << 16
"""Bytes of an output below which no layout is worth a choice."""

_DRIFT = 1.5
_ROWS = 50_000


@dataclass(frozen=True)
class Choice:
    """A layout, and what a commit says of it: what it was chosen for, why, and what rows took then."""

    layout: Layout
    said: Mapping[str, Any]


def kept(output: Output, commit: Commit | None, schema: pl.Schema, *, ordered: bool) -> Choice | None:
    """Return the layout that an output's files have had, as long as it is what the definition asks for, and fits the columns.

    Parameters
    ----------
    ordered
        Whether rows stay in the order in which they come.
    """
    said = None if commit is None else commit.info.get(KEPT)
    if commit is None or said is None or dict(commit.schema) != dict(schema):
        return None
    if output.optimize is not None and said.get("goal") != output.optimize:
        return None
    layout = Layout.from_dict(said["layout"])
    if ordered:
        layout = replace(layout, sort_by=(), curve="linear", bounds={})
    try:
        check_layout(layout, schema, output.to)
        check_forms(layout.forms, schema)
    except LazypipeError:
        return None
    return Choice(layout, said)


def is_due(output: Output, choice: Choice | None, rows: int, size: int) -> bool:
    """Whether a layout is to be chosen for rows that were written: none is kept, or they take much more or less than they did.

    A few rows, as they come with an increment, tell nothing of that.
    """
    if output.optimize is None or not rows or size < _LEAST:
        return False
    if choice is None:
        return True
    was = choice.said.get("bytes_per_row")
    if was is None or 10 * rows < choice.said.get("rows", 0):
        return False
    return not was / _DRIFT <= size / rows <= was * _DRIFT


def choose(
    plan: CompiledPipeline, name: str, dataset: Dataset, staged: Commit, seconds: float, *, ordered: bool
) -> Choice:
    """Take advice on rows that were written, by a sample of them.

    Parameters
    ----------
    staged
        The files with the rows, as a commit would hold them.
    seconds
        How long it took to write them: choosing may take 3 % of that, or a second.
    """
    output = plan.outputs[name]
    goal: Any = output.optimize
    rows = sample(dataset, staged, min(_ROWS, max(5_000, staged.rows // 30)))
    advice = advise(
        rows,
        plan.workload(name),
        goal,
        budget=max(seconds * _SHARE, _LEAST_SECONDS),
        sample=rows.height,
        partition_by=output.partition_by,
    )
    layout = replace(advice.layout, partition_by=())
    if ordered:
        layout = replace(layout, sort_by=(), curve="linear", bounds={})
    said = {"goal": goal, "layout": layout.to_dict(), "reasons": [str(r) for r in advice.reasons]}
    return Choice(layout, said)


def measured(choice: Choice, rows: int, size: int) -> Choice:
    """Return a choice with what the rows take that it was made for."""
    return replace(choice, said={**choice.said, "rows": rows, "bytes_per_row": size / rows})
