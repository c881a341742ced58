"""What all decisions share: what is known about the rows, what has been decided so far, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from lazypipe.storage.optimizer.advice import Reason, order_name
from lazypipe.storage.optimizer.choice import GOALS, Goal, Limits
from lazypipe.storage.optimizer.cost import Cost
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.ordering import spread
from lazypipe.storage.optimizer.prices import reading_seconds
from lazypipe.storage.optimizer.profile import Profile
from lazypipe.storage.optimizer.pruning import reached
from lazypipe.storage.optimizer.sample import Sample
from lazypipe.storage.optimizer.trial import Bench
from lazypipe.storage.optimizer.workload import Workload
from lazypipe.storage.optimizer.writing import writable

__all__ = ["EMPTY", "FEWEST_GROUPS", "GROUP", "OFTEN", "ORDERED", "QUICK_FEWEST", "Case"]

QUICK_FEWEST = 2_000
"""Rows that are looked at in any case."""
ORDERED = 8_000
"""Rows that orders are tried on."""
EMPTY = 0.9
"""Which part of the rows must be null for the bytes of a column to tell little more than where they are not."""
GROUP = 122_880
"""Rows that a group has by default."""
FEWEST_GROUPS = 8
"""Groups at least that rows are taken to be in where orders are compared."""
OFTEN = 0.5
"""In which part of the queries a column must be filtered, for its values to be folders; or be a key, for rows with the same to stand together."""


class Case:
    """Rows to choose a layout for; each decision notes its reasons."""

    def __init__(
        self,
        sample: Sample,
        workload: Workload,
        goal: Goal,
        partition_by: Sequence[str] | None,
        writers: Sequence[str],
        bench: Bench,
        ordered: pl.DataFrame,
        rows: int,
        *,
        keep_order: bool,
        forms: bool,
        is_part: bool,
    ) -> None:
        self.workload, self.goal, self.bench = workload, goal, bench
        self.partition_by = partition_by
        self.keys = tuple(partition_by or ())
        # orders are told by more rows than there is time to write in all ways
        self.keep_order, self.forms, self.is_part = keep_order, forms, is_part
        self.ordered, self.rows = ordered.drop(self.keys) if self.keys else ordered, rows
        self.sample = replace(sample, frame=spread(sample.frame, rows)) if bench.quick else sample
        self.frame = self.sample.frame.drop(self.keys) if self.keys else self.sample.frame
        self.profile = Profile(0, 0, ())
        self.writers = [w for w in writers if w == "polars" or writable(self.frame.schema)] or ["polars"]
        self.limits: Limits = GOALS[goal]
        self.filtered = self.workload.weights("filters") if self.workload.queries else {}
        self.together: str | None = None
        self.rising: list[str] = []
        self.hard = True
        self.sparse = self._is_empty()
        self.reasons: list[Reason] = []
        self.left: tuple[str, ...] = ()
        self.stands = self._standing(sample.kept)

    def _standing(self, kept: tuple[str, Layout] | None) -> Layout | None:
        """Return the order that was chosen for this goal before, in which rows stand: they show no longer what it has brought."""
        if kept is None or kept[0] != self.goal or self.keep_order:
            return None
        _, there = kept
        known = bool(there.sort_by) and all(n in self.frame.columns for n in there.sort_by)
        return replace(DEFAULT, sort_by=there.sort_by, curve=there.curve, bounds=there.bounds) if known else None

    def in_order_still(self, layout: Layout) -> Layout:
        """Return a layout with the order in which rows stand, if it has none: what was measured of rows as they come was measured in that order."""
        if self.stands is None or layout.sort_by:
            return layout
        self.note(None, f"ordered by {order_name(self.stands)}", "as before: no other order is better")
        return replace(layout, sort_by=self.stands.sort_by, curve=self.stands.curve, bounds=self.stands.bounds)

    def _is_empty(self) -> bool:
        """Whether most columns hold hardly more than nulls."""
        empty = sum(column.null_count() >= EMPTY * self.frame.height for column in self.frame)
        return 2 * empty > self.frame.width

    def note(self, column: str | None, decision: str, why: str) -> None:
        """Note what is decided, of a column or of all, and why."""
        self.reasons.append(Reason(column, decision, why))

    def reading(self, rows: pl.DataFrame, group: int = GROUP, fewest: int = FEWEST_GROUPS) -> float:
        """Return which part of the row groups the workload's queries read, on average: where there are ``fewest`` at least."""
        total = sum(q.weight for q in self.workload.queries)
        groups = min(max(-(-self.sample.total // group), fewest), max(rows.height // 20, 1))
        return sum(reached(rows, q, groups) * q.weight for q in self.workload.queries) / total

    def reading_seconds(self) -> float:
        """Return what it takes to tell once which row groups the queries read."""
        return reading_seconds(sum(len(q.filters) for q in self.workload.queries), self.frame.height)

    def last(self, layout: Layout) -> Cost:
        """Return what a layout costs: what was measured last of all columns, unless rows were put in order since."""
        if layout.sort_by:
            return self.bench.whole(self.frame, layout, f"ordered by {order_name(layout)}")[0]
        return next(
            t.cost for t in reversed(self.bench.trials) if t.column is None and t.how == f"chosen, {layout.writer}"
        )

    def excess(self, cost: Cost, default: Cost) -> float:
        """Return how far a cost is above the limits."""
        broken = self.limits.broken(cost, default)
        parts = (getattr(cost, m) / (getattr(self.limits, m) * max(getattr(default, m), 1e-9)) for m in broken)
        return round(max(parts, default=1.0), 1)
