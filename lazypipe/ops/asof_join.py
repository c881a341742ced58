"""``asof_join``: for each row the nearest earlier (or later) row of another stage."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

import polars as pl

from lazypipe.ops.base import AHEAD, Change, Operation, Scope, Table, both_made, with_other_made
from lazypipe.ops.window import refuse_outside
from lazypipe.spec.arguments import BOUND, COLUMN, COLUMNS, INPUT, TEXT, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.spec.spans import Span
from lazypipe.spec.types import dtype_name
from lazypipe.windows import Clock, Reach
from lazypipe.windows.clock import DAY
from lazypipe.windows.late import lateness
from lazypipe.windows.watermark import WATERMARK


@dataclass(frozen=True)
class AsofJoin(Operation):
    """Join each row with the other side's row whose key is nearest: the last not after it, by default.

    Every row of this side stays, once, ordered by the key; where nothing matches, the other side's columns are null.
    Rows with a null key (or NaN, or null in ``by``) match nothing. Both sides are sorted by the key.
    Without ``by`` it streams; with it, both sides are held in memory (see ``interval_join`` for a join that is not).

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> quotes = pl.LazyFrame({"t": [1, 5], "price": [10, 50]})
    >>> step = {"asof_join": {"with": "quotes", "on": "t"}}
    >>> lp.apply(step, pl.LazyFrame({"t": [0, 4, 9]}), quotes=quotes).collect().rows()
    [(0, None), (4, 10), (9, 50)]
    """

    name: ClassVar[str] = "asof_join"
    with_: str = arg(INPUT, "The other source or stage.")
    on: str | None = arg(COLUMN, "The ordered key, if it has the same name on both sides.", default=None)
    left_on: str | None = arg(COLUMN, "The ordered key of this side.", default=None)
    right_on: str | None = arg(COLUMN, "The ordered key of the other side.", default=None)
    by: tuple[str, ...] = arg(COLUMNS, "Columns that must be equal on both sides.", default=())
    strategy: Literal["backward", "forward", "nearest"] = arg(
        choice("backward", "forward", "nearest"), "Which neighbour is taken.", default="backward"
    )
    tolerance: str | float | None = arg(
        BOUND, "How far away it may be: a number, or a duration such as 2h.", default=None
    )
    suffix: str = arg(TEXT, "Added to names of the other side that are taken.", default="_right")
    allowed_lateness: str = arg(TEXT, "How long after its time a row of this side may come; see late.", default="0s")
    late: Literal["update", "quarantine", "drop", "fail"] = arg(
        choice("update", "quarantine", "drop", "fail"),
        "What becomes of a row of this side that came under a watermark past its time and allowed_lateness: it is joined as any "
        "other, or is put aside, dropped and counted, or stops the run. All but update need a source with a watermark.",
        default="update",
    )
    watermark: str = arg(
        COLUMN, "The column with the watermark that each row came under. Default: _watermark.", default=WATERMARK
    )

    def __post_init__(self) -> None:
        """Check that the key is said once."""
        both = self.left_on is not None and self.right_on is not None
        if (self.on is not None) == both or (not both and (self.left_on or self.right_on)):
            raise Fault("an asof_join needs its key once", "give on, or left_on and right_on", ("with",))
        lateness(self.allowed_lateness)

    def inputs(self) -> tuple[str, ...]:
        """Return the other side."""
        return (self.with_,)

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to sorts and ``join_asof``."""
        refuse_outside(self.late, "each_run", scope)
        other = scope.table(self.with_)
        left, right = self.on or self.left_on or "", self.on or self.right_on or ""
        scope.columns([left], table.schema, "on" if self.on else "left_on")
        scope.columns([right], other.schema, "on" if self.on else "right_on", of=self.with_)
        scope.columns(self.by, table.schema, "by")
        scope.columns(self.by, other.schema, "by", of=self.with_)
        for index, name in enumerate(self.by):
            if table.schema[name].is_nested():
                what = f"column {name!r} is {dtype_name(table.schema[name])}, by which rows cannot be put together here"
                raise scope.fault(what, "take columns of plain values", "by", index)
        self._check_keys(table.schema[left], other.schema[right], scope)
        key, frame = left, table.frame
        matchable = other.frame.filter(pl.col(right).is_not_null())
        if table.schema[left].is_float():
            # NaN is near nothing, though Polars sorts it as the greatest number
            key = "__lazypipe_key"
            frame = frame.with_columns(pl.col(left).fill_nan(None).alias(key))
            matchable = matchable.filter(pl.col(right).is_not_nan())
            if left == right:
                matchable, right = matchable.rename({right: key}), key  # else it would stay beside ours
        # a null key matches nothing, but Polars refuses nulls in a sorted key of the other side
        joined = frame.sort(key, nulls_last=True).join_asof(
            matchable.sort(right),
            left_on=key,
            right_on=right,
            by=list(self.by) or None,
            strategy=self.strategy,
            tolerance=self._tolerance(scope),
            suffix=self.suffix,
            check_sortedness=False,
        )
        return joined if key == left else joined.drop(key)

    def change(self, table: Table, scope: Scope, changed: frozenset[str]) -> Change:
        """Rows of this side are put beside the other side's as these are."""
        return "each" if changed == {AHEAD} else "all"

    def reach(self, table: Table, scope: Scope) -> Reach | None:
        """A row of the other side is near to those from it to the next one, or from the one before it, and within the tolerance."""
        left, right = self.on or self.left_on or "", self.on or self.right_on or ""
        dtype = table.schema[left]
        if not Reach.takes(dtype):
            return None
        far = self._distance(dtype)
        back, on = self.strategy != "backward", self.strategy != "forward"
        before, after = far if back else 0, far if on else 0
        return Reach(left, right, dtype, before, after, previous=back, following=on, by_here=self.by, by_there=self.by)

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of itself and the one that it was put beside."""
        return both_made(self.lower(table, with_other_made(scope, self.with_)))

    def _check_keys(self, left: pl.DataType, right: pl.DataType, scope: Scope) -> None:
        argument = "on" if self.on else "left_on"
        if left != right:
            what = f"this side's key is {left} and the other's is {right}"
            raise scope.fault(what, "cast one of them first", argument)
        if not (left.is_numeric() or left.is_temporal()):
            raise scope.fault(f"a {left} key has no distances", "take a number, a date or a datetime", argument)
        if self.tolerance is None:
            return
        if isinstance(self.tolerance, str) != left.is_temporal():
            form = "a duration such as 2h" if left.is_temporal() else "a number"
            raise scope.fault(
                f"the tolerance {self.tolerance!r} does not fit a {left} key", f"write {form}", "tolerance"
            )

    def _tolerance(self, scope: Scope) -> str | float | None:
        """Return the tolerance as Polars reads it."""
        if not isinstance(self.tolerance, str):
            if self.tolerance is not None and self.tolerance < 0:
                raise self._negative(scope)
            return self.tolerance
        try:
            span = Span.parse(self.tolerance)
        except ValueError:
            what = f"{self.tolerance!r} is not a duration"
            raise scope.fault(what, "write one such as 90s, 15m, 2h or 3d", "tolerance") from None
        if span.months:
            what = f"{self.tolerance} has months, which are not all as long"
            raise scope.fault(what, "write it in days or hours", "tolerance")
        if span.days < 0 or span.nanoseconds < 0:
            raise self._negative(scope)
        if span.is_endless:
            what = f"{self.tolerance} is longer than 30,000 years"
            raise scope.fault(what, "write a shorter one, or leave it out", "tolerance")
        return f"{span.days}d{span.nanoseconds}ns"

    def _distance(self, dtype: pl.DataType) -> int | float | None:
        """Return the tolerance in whole ticks or numbers, rounded up; None if there is none."""
        if self.tolerance is None:
            return None
        if not isinstance(self.tolerance, str):
            return self.tolerance if dtype.is_float() else ceil(self.tolerance)
        span = Span.parse(self.tolerance)
        # what is finer than a tick may lie just beyond
        return (span.days * DAY + span.nanoseconds) // Clock(dtype).tick + 1

    def _negative(self, scope: Scope) -> Fault:
        return scope.fault(f"the tolerance {self.tolerance} is negative", "write it without the minus", "tolerance")
