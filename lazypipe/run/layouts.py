"""The layout of an output's files: kept from the previous commit, or chosen from the first rows of a run, or from all rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.errors import LazypipeError
from lazypipe.plan.nodes import postorder
from lazypipe.plan.reader import read_plan
from lazypipe.run.room import PACKED
from lazypipe.spec.model import Output
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import KEPT, Commit
from lazypipe.storage.hive import NAME_BYTES
from lazypipe.storage.optimizer.choice import LITTLE, Goal, choosing_seconds
from lazypipe.storage.optimizer.forms import check_forms, owner
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.order import ordered as ordered_as
from lazypipe.storage.optimizer.writing import check_layout

__all__ = [
    "WAITS",
    "Choice",
    "choose",
    "choose_ahead",
    "goes_on",
    "is_due",
    "is_little",
    "is_outgrown",
    "kept",
    "looks_again",
    "measured",
    "waits",
    "without_folders",
]

_LEAST_SECONDS = LITTLE
"""What choosing may take for what is worth it, also where that is more than 3 %: in less, next to nothing is found."""
_FEWEST_SECONDS = 0.005
"""What 3 % are of what it takes to write the fewest rows that are worth it."""

_WORTH, _SMALL = 16 << 20, 1 << 20
"""Bytes that rows take in memory from which on choosing is worth that; and bytes that are read in which there are not so many."""

_GOES_ON, _MOST_SECONDS = 0.02, 1.0
"""Seconds there must be for a search to go on that ended early; and that it may take then."""

_AHEAD = 20_000
"""Rows that are looked at before any are written."""

_BYTES_PER_SECOND = 32 << 20
"""Bytes of files that a second of the processor writes, about."""

_STREAMS = frozenset(
    {
        "scan",
        "frame",
        "select",
        "project",
        "with_columns",
        "filter",
        "union",
        "explode",
        "unnest",
        "unpivot",
        "pass",
        "tap",
        "label",
    }
)
"""Steps of a plan whose first rows cost no more than the first rows of their input."""

_LEAST = 1 << 16
"""Bytes of an output below which no layout is worth a choice."""

_GROWN, _GROWN_SOON, _GROWS = 16, 2, 1 << 20
"""How many times more rows there must be than a layout was chosen for, to be chosen once more; than there was too little time to choose one for;
and bytes that a run must then read."""

_DRIFT = 1.5
_ROWS = 50_000


@dataclass(frozen=True)
class Choice:
    """A layout, and what a commit says of it: what it was chosen for, why, and what rows took then."""

    layout: Layout
    said: Mapping[str, Any]


WAITS = Choice(DEFAULT, {})
"""No choice yet: there are so few rows that it would take much more than 3 % of writing them. Once there are more it is made."""


def waits(output: Output, size: int, there: Commit | None) -> bool:
    """Whether so little is read, and there, that no row need be looked at to know that choosing a layout can wait."""
    return output.optimize is not None and 0 < max(size, 0 if there is None else there.bytes) < _SMALL


def is_little(output: Output, size: int, there: Commit | None) -> bool:
    """Whether rows that would be written in haste first, and then once more, leave too little time to find what is worth that."""
    goal: Any = output.optimize
    seconds = max(size, 0 if there is None else there.bytes) / _BYTES_PER_SECOND
    return size > 0 and choosing_seconds(goal, seconds) < LITTLE


def _budget(goal: Goal, seconds: float) -> float:
    """Return what choosing may take for rows that are worth it, where the default layout is written in so many seconds."""
    return max(choosing_seconds(goal, seconds), _LEAST_SECONDS)


def kept(output: Output, commit: Commit | None, schema: pl.Schema, *, ordered: bool) -> Choice | None:
    """Return the layout that an output's files have had, as long as it is what the definition asks for, and fits the columns.

    One that was not chosen for a goal was given by somebody, who has seen the dataset: it stays.

    Parameters
    ----------
    ordered
        Whether rows stay in the order in which they come.
    """
    said = None if commit is None else commit.info.get(KEPT)
    if commit is None or said is None or dict(commit.schema) != dict(schema):
        return None
    if output.optimize is not None and said.get("goal", "") not in (None, output.optimize):
        return None
    layout = Layout.from_dict(said["layout"])
    if output.delta_log:
        from lazypipe.storage.lake.fitting import plain

        layout = plain(layout)
    if ordered:
        layout = replace(layout, sort_by=(), curve="linear", bounds={})
    if not _is_free(output, ordered=ordered):
        layout = replace(layout, partition_by=())
    try:
        check_layout(layout, schema, output.to)
        check_forms(layout.forms, schema)
    except LazypipeError:
        return None
    return Choice(layout, said)


def _is_given(choice: Choice) -> bool:
    """Whether a layout was given by somebody, not chosen for a goal: it is never found too old."""
    return choice.said.get("goal", "") is None


def _is_free(output: Output, *, ordered: bool) -> bool:
    """Whether partition columns may be chosen: none are declared, and nothing relies on there being none."""
    others = output.partition_by or output.delta_log or output.changes or output.panes
    return output.mode == "replace" and not ordered and not others


def is_due(output: Output, choice: Choice | None, rows: int, size: int) -> bool:
    """Whether a layout is to be chosen for rows that were written: none is kept, or they take much more or less than they did.

    A few rows, as they come with an increment, tell nothing of that.
    """
    if output.optimize is None or not rows or size < _LEAST:
        return False
    if choice is None:
        return True
    if _is_given(choice):
        return False
    was = choice.said.get("bytes_per_row")
    if was is None or 10 * rows < choice.said.get("rows", 0):
        return False
    return not was / _DRIFT <= size / rows <= was * _DRIFT


def is_outgrown(output: Output, choice: Choice, commit: Commit, size: int) -> bool:
    """Whether a layout was chosen for few of the rows that there are by now, in little time, so that another choice is worth it.

    Each takes 3 % of what was written until then, at most, and the next one comes when there are as many times more rows again.

    Parameters
    ----------
    commit
        The dataset as it is.
    size
        Bytes that the run reads: few rows tell nothing new.
    """
    rows = None if _is_given(choice) else choice.said.get("total", choice.said.get("rows"))
    grown = _GROWN_SOON if choice.said.get("waits") else _GROWN
    return (
        output.optimize is not None and rows is not None and rows > 0 and size >= _GROWS and commit.rows >= grown * rows
    )


def looks_again(output: Output, choice: Choice, commit: Commit, size: int) -> bool:
    """Whether there was too little time to choose a layout, and there is more by now."""
    return bool(choice.said.get("waits")) and is_outgrown(output, choice, commit, size)


def choose_ahead(
    plan: CompiledPipeline,
    name: str,
    frame: pl.LazyFrame,
    size: int,
    *,
    ordered: bool,
    folders: bool = True,
    read: int = 0,
    there: Commit | None = None,
    spent: float = 0.0,
) -> Choice | None:
    """Take advice on rows that are still to be written, by the first of them; None if that would take a query of its own.

    Parameters
    ----------
    frame
        The rows, in the columns that are to be written.
    size
        Bytes of what they are read from: what writing takes is judged by that.
    folders
        Whether values of columns may be folders, if the output's definition leaves that open.
    read
        Rows that are read, as far as that is known.
    there
        The dataset to which rows come, if the layout is for all that it is going to hold.
    spent
        Seconds that were spent on looks at the dataset before: all of them take their share of all that was written.

    Returns
    -------
    Choice, or None
        ``WAITS`` where there are so few rows that no layout is worth a choice, or writing them leaves too little time for one; None also
        where they cannot be read: the run tells why.
    """
    goal: Any = plan.outputs[name].optimize
    rows = _first_rows(frame)
    if rows is None:
        return None
    taken = rows.estimated_size()
    is_all = rows.height < _AHEAD
    total = rows.height if is_all else max(int(PACKED * size * rows.height / max(taken, 1)), read, _AHEAD)
    if there is not None:  # what was written before counts too: it is to be kept that way from here on
        total, size = max(total, there.rows), max(size, there.bytes)
    seconds = size / _BYTES_PER_SECOND
    # of rows that come from elsewhere than from files it is not known how many there are
    known = is_all or size > 0
    little = known and choosing_seconds(goal, seconds) < _FEWEST_SECONDS and total * taken < _WORTH * rows.height
    # a few rows that come to many tell nothing
    if little or taken < _LEAST:
        return WAITS
    seconds = max(_budget(goal, seconds) - spent, 0.0)
    return _advised(plan, name, rows, total, seconds, ordered=ordered, folders=folders, spent=spent)


def _first_rows(frame: pl.LazyFrame) -> pl.DataFrame | None:
    """Return the first rows that are to be written; None if that would take a query of its own, or if they cannot be read."""
    try:
        if not all(node.kind in _STREAMS for node in postorder(read_plan(frame), lambda node: node.inputs)):
            return None
        return frame.head(_AHEAD).collect(engine="streaming")
    except Exception:  # whatever it is: the run fails on it too, and reports where
        return None


def goes_on(
    plan: CompiledPipeline, name: str, frame: pl.LazyFrame, choice: Choice, size: int, there: Commit
) -> Choice | None:
    """Look at columns that a choice had no time for, once 3 % of what was written by now leave some; None if there is nothing to do.

    What was found stays: columns do not depend on each other in a file.

    Parameters
    ----------
    frame, size
        As ``choose_ahead`` says.
    there
        The dataset to which rows come.
    """
    from lazypipe.storage.optimizer.advise import advise

    output = plan.outputs[name]
    left, spent = choice.said.get("left", ()), choice.said.get("spent", 0.0)
    if output.optimize is None or not left or choice.said.get("waits"):
        return None
    goal: Any = output.optimize
    share = choosing_seconds(goal, max(size, there.bytes) / _BYTES_PER_SECOND)
    seconds = min(share - spent, _MOST_SECONDS)
    if seconds < _GOES_ON:
        return None
    rows = _first_rows(frame)
    if rows is None or rows.height < _AHEAD:
        return None
    layout = choice.layout
    is_open = not (layout.forms or layout.encodings or layout.codecs) and layout.writer == "polars"
    rows = ordered_as(rows.lazy(), layout, rows.schema, output.to).select(left).collect()
    more = advise(
        rows,
        None,
        goal,
        budget=seconds,
        sample=rows.height,
        total=there.rows,
        keep_order=True,
        partition_by=(),
        # where an order is all that was found, how columns are written is still open
        writers=None if is_open else [layout.writer],
        forms=not output.delta_log,
    )
    if is_open or more.layout.writer == layout.writer:  # else nothing was better than the default
        # placeholders for columns that had not been looked at are replaced by what was found
        found = {n for n in left if n not in more.left}
        layout = replace(
            layout if more.layout.writer == layout.writer else replace(layout, codec="zstd", level=more.layout.level),
            writer=more.layout.writer,
            forms={**layout.forms, **more.layout.forms},
            encodings={**_without(found, layout.encodings), **more.layout.encodings},
            codecs={**_without(found, layout.codecs), **more.layout.codecs},
        )
    from lazypipe.storage.optimizer.advice import LATER

    reasons = [r for r in choice.said["reasons"] if not r.endswith(LATER)]
    told = [str(r) for r in more.reasons if r.column is not None or r.decision.endswith("looked at")]
    said = {
        **{k: v for k, v in choice.said.items() if k != "left"},
        "layout": layout.to_dict(),
        "reasons": [*reasons, *told],
        "spent": spent + more.spent,
        **({"left": list(more.left)} if more.left else {}),
    }
    return Choice(layout, said)


def _without(names: Collection[str], how: Mapping[str, Any]) -> dict[str, Any]:
    """Return how parts of columns are written, but for those of some columns."""
    return {part: said for part, said in how.items() if owner(part) not in names}


def choose(
    plan: CompiledPipeline,
    name: str,
    dataset: Dataset,
    staged: Commit,
    seconds: float,
    *,
    ordered: bool,
    folders: bool = True,
) -> Choice:
    """Take advice on rows that were written, by a sample of them.

    Parameters
    ----------
    staged
        The files with the rows, as a commit would hold them.
    seconds
        How long it took to write them: choosing may take 3 % of that, or a moment.
    ordered, folders
        As ``kept`` and ``choose_ahead`` say.
    """
    from lazypipe.storage.optimizer.maintenance import sample

    goal: Any = plan.outputs[name].optimize
    rows = sample(dataset, staged, min(_ROWS, max(5_000, staged.rows // 30)))
    return _advised(plan, name, rows, staged.rows, _budget(goal, seconds), ordered=ordered, folders=folders)


def _advised(
    plan: CompiledPipeline,
    name: str,
    rows: pl.DataFrame,
    total: int,
    seconds: float,
    *,
    ordered: bool,
    folders: bool,
    spent: float = 0.0,
) -> Choice:
    from lazypipe.storage.optimizer.advise import advise

    output = plan.outputs[name]
    goal: Any = output.optimize
    free = folders and _is_free(output, ordered=ordered)
    asked = plan.workload(name)
    if asked.access == "interchange":  # a dataset is Parquet: that another format is faster would be timed in vain
        asked = replace(asked, declared="scan")
    advice = advise(
        rows,
        asked,
        goal,
        budget=seconds,
        sample=rows.height,
        total=total,
        keep_order=ordered,
        partition_by=None if free else output.partition_by,
        forms=not output.delta_log,
        timed=False,
    )
    # declared ones are the output's, not the layout's
    layout = advice.layout if free else replace(advice.layout, partition_by=())
    said = {"goal": goal, "layout": layout.to_dict(), "reasons": [str(r) for r in advice.reasons]}
    if advice.left:
        said |= {"left": list(advice.left), "spent": spent + advice.spent}
    if advice.waits:
        said["waits"] = True
    if not plan.masked(output.stage).isdisjoint(layout.partition_by):
        return without_folders(Choice(layout, said), _PERSONAL)
    return Choice(layout, said)


def measured(choice: Choice, rows: int, size: int, there: Commit | None = None) -> Choice:
    """Return a choice with what the rows take that it was made for; more if they come to a dataset that is ``there``.

    One that goes on from another is as it was.
    """
    if "rows" in choice.said:
        return choice
    more = {"total": there.rows} if there is not None and there.rows > rows else {}
    return replace(choice, said={**choice.said, "rows": rows, "bytes_per_row": size / rows, **more})


_TOO_LONG = f"a value makes a name that is too long for the file system ({NAME_BYTES} bytes)"
_PERSONAL = "its values are personal data, and logs and records keep the names of files"


def without_folders(choice: Choice, why: str = _TOO_LONG) -> Choice:
    """Return a choice without the advised partition columns; by default because some value is too long for a folder name."""
    by = choice.layout.partition_by
    reasons = [r for r in choice.said["reasons"] if not r.startswith("a folder per ")]
    layout = replace(Layout.from_dict(choice.said["layout"]), partition_by=())
    told = f"no folders by {', '.join(by)}: {why}"
    said = {**choice.said, "layout": layout.to_dict(), "reasons": [*reasons, told]}
    return Choice(replace(choice.layout, partition_by=()), said)
