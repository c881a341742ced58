"""The history of a window: what each version of an output said of it, why that changed, and which rows had come by then.

Nothing is kept for this. The versions are those that vacuum has left; why a run did something stands in the ledger; the rows that
came are found again in the files that they came in, as far as these are still as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import polars as pl

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.outputs.panes import panes_of
from lazypipe.errors import LazypipeError
from lazypipe.incremental.before import CONSUMED
from lazypipe.incremental.state import State
from lazypipe.records.ledger import Ledger
from lazypipe.run.trace import Trace, of_type, trace
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.in_python import for_python
from lazypipe.windows.panes import timing
from lazypipe.windows.watermark import COMPLETE

__all__ = ["Pane", "WindowHistory", "window_history"]

_STARTS = ("window_start", "session_start")
_ENDS = ("window_end", "session_end")
_VACUUMED = "as it was by then: versions before this one are vacuumed"


@dataclass(frozen=True)
class Pane:
    """One state of a window: its row in ``version``, or None if it was removed; ``before`` is the row of the previous pane.

    ``timing`` is ``early`` before the watermark has passed the window's end, ``on_time`` in the version in which it does, ``late`` afterwards, and
    None if no source of the output has a watermark. ``came`` and ``went`` are the files that this version was made from and the previous one was not,
    and vice versa; a changed file is in both. ``rows`` are, per source, the rows of the files that came which are now in the window.
    """

    number: int
    version: int
    run: str
    time: datetime
    row: Mapping[str, Any] | None
    before: Mapping[str, Any] | None
    timing: Literal["early", "on_time", "late"] | None
    came: tuple[str, ...]
    went: tuple[str, ...]
    why: str | None
    rows: Mapping[str, pl.DataFrame] = field(repr=False, compare=False)

    def __str__(self) -> str:
        said = "taken away" if self.row is None else ", ".join(f"{k}={v}" for k, v in self.row.items())
        timing = "" if self.timing is None else f" {self.timing.replace('_', ' ')}"
        why = "" if self.why is None else f" ({self.why})"
        return f"{self.number}: version {self.version}{timing}: {said}{why}"


@dataclass(frozen=True)
class WindowHistory:
    """The panes of one window, oldest first."""

    output: str
    panes: tuple[Pane, ...]

    def changes(self) -> pl.DataFrame:
        """Return the panes as retractions and additions: the old row with ``_change`` −1, the new one with +1, in the order of versions."""
        found = []
        for pane in self.panes:
            for row, sign in ((pane.before, -1), (pane.row, 1)):
                if row is not None:
                    found.append({"_pane": pane.number, "_version": pane.version, "_change": sign, **row})
        return pl.DataFrame(found, infer_schema_length=None)

    def __str__(self) -> str:
        return "\n".join(map(str, self.panes)) or f"{self.output}: no version that is left has this window"


def window_history(
    plan: CompiledPipeline,
    output: str,
    key: Mapping[str, Any],
    window: Any,
    ledger: Ledger | None = None,
) -> WindowHistory:
    """Return what each version of an output said of one window, as far as vacuum has left them.

    Of the first version that is left it is not known when a window became what it is there, nor why, if there were others before.

    Parameters
    ----------
    key
        Column → value of the group that the window is of; nothing where windows have no groups.
    window
        When it starts, or ``(start, end)``: times, or texts of them.
    ledger
        Where it stands why runs did what they did.

    Raises
    ------
    LazypipeError
        If there is no such output or column, the output has no windows or is no dataset, or more than one window is meant.
    """
    return _History(plan, output, key, window, ledger).found()


class _History:
    def __init__(
        self, plan: CompiledPipeline, output: str, key: Mapping[str, Any], window: Any, ledger: Ledger | None
    ) -> None:
        self.plan = plan
        self.output = output
        self.ledger = ledger
        self.target = plan.output(output)
        self.node = plan.nodes[self.target.stage]
        schema = self.node.schema
        start = next((n for n in _STARTS if n in schema), None)
        if start is None or self.target.format != "dataset":
            what = "is no dataset" if start is not None else "has no windows: no column window_start or session_start"
            raise LazypipeError(f"output {output!r} {what}; name the output of a stage with windows")
        self.end = _ENDS[_STARTS.index(start)]
        pair = window if isinstance(window, tuple | list) else (window,)
        asked = {**key, **dict(zip((start, self.end), pair, strict=False))}
        self.key = {n: of_type(output, schema, n, value) for n, value in asked.items()}
        self.matches = pl.all_horizontal(pl.col(n).eq_missing(pl.lit(v, dtype=schema[n])) for n, v in self.key.items())

    def found(self) -> WindowHistory:
        dataset = Dataset(self.target.to, self.target.storage_options)
        made: list[tuple[Commit, Commit | None, Mapping[str, Any] | None, Mapping[str, Any] | None]] = []
        last: Commit | None = None
        row: Mapping[str, Any] | None = None
        # such panes are told of, though nothing changes with them
        timed = (told := panes_of(self.target)) is not None and told.timing is not None
        for version in dataset.log.versions():
            commit = dataset.log.read(version)
            now = self._row(dataset, commit)
            if now != row or (timed and now is not None and self._timing(commit, last, now) == "on_time"):
                made.append((commit, last, now, row))
            last, row = commit, now
        whys = self._whys() if made else {}
        traced = self._traced() if row is not None else None
        panes: list[Pane] = []
        for number, (commit, previous, now, before) in enumerate(made):
            came, went = _files(previous, commit)
            timing = self._timing(commit, previous, now or before)
            rows = _rows(traced, came)
            why = whys.get(commit.run)
            if previous is None and commit.version > 1:  # which run made it so, and when, went with the versions before
                timing, why = "early" if timing == "early" else None, _VACUUMED
            panes.append(
                Pane(number, commit.version, commit.run, commit.time, now, before, timing, came, went, why, rows)
            )
        return WindowHistory(self.output, tuple(panes))

    def _row(self, dataset: Dataset, commit: Commit) -> Mapping[str, Any] | None:
        if any(n not in commit.schema for n in self.key):
            return None
        rows = dataset.scan(commit).filter(self.matches).head(2).collect(engine="streaming")
        if rows.height > 1:
            fix = "give all columns of its group, and (start, end) if windows are of several lengths"
            raise LazypipeError(f"output {self.output!r}: more than one window is meant; {fix}")
        return for_python(rows).row(0, named=True) if rows.height else None

    def _timing(
        self, commit: Commit, previous: Commit | None, row: Mapping[str, Any] | None
    ) -> Literal["early", "on_time", "late"] | None:
        """Return whether the watermark had passed the end of the window, by what the commit and the one before it say."""
        schema = self.node.schema
        if row is None or self.end not in row or self.end not in schema:
            return None
        had = None if previous is None else previous.info.get(COMPLETE)
        if isinstance(row[self.end], str):  # it is one that Python has no value for: no watermark gets so far
            return "early"
        ends = pl.DataFrame({self.end: [row[self.end]]}, schema={self.end: schema[self.end]})
        found: Literal["early", "on_time", "late"] | None
        found = ends.select(timing(self.end, schema, commit.info.get(COMPLETE), had)).item()
        return found

    def _whys(self) -> dict[str, str]:
        """Return why runs did what they did for the output, by run."""
        found: dict[str, str] = {}
        for entry in self.ledger.runs(self.output) if self.ledger is not None else ():
            for segment in entry.body["segments"]:
                if segment.get("output") == self.output and segment.get("why"):
                    found[entry.run] = segment["why"]
        return found

    def _traced(self) -> Trace | None:
        try:
            return trace(self.plan, self.output, self.key)
        except LazypipeError:  # what the sources hold by now does not give this window any more
            return None


def _files(before: Commit | None, now: Commit) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files that came and those that went between two versions; a file that changed is both."""
    was, is_ = _consumed(before), _consumed(now)
    return tuple(u for u, at in is_.items() if was.get(u) != at), tuple(u for u, at in was.items() if is_.get(u) != at)


def _consumed(commit: Commit | None) -> dict[str, tuple[int | None, str | None]]:
    said = None if commit is None else commit.info.get(CONSUMED)
    sources = {} if said is None else State.from_dict(said).sources
    return {f.uri: (f.size, f.stamp) for of in sources.values() for f in of.files}


def _rows(traced: Trace | None, came: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Return the rows in files that came, by source, as far as rows can be told."""
    sources = {} if traced is None else traced.sources
    # the first two columns are a row's file and its number there
    found = {n: of.rows.filter(of.rows.to_series(0).is_in(came)) for n, of in sources.items() if of.rows is not None}
    return {n: rows.sort(rows.columns[:2]) for n, rows in found.items() if rows.height}
