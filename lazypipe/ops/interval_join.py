"""``interval_join``: match rows of another stage whose times lie near."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import polars as pl

from lazypipe.errors import nearest
from lazypipe.ops.base import AHEAD, Change, Operation, Scope, Table, both_made, with_other_made
from lazypipe.ops.join import and_made, check_keys, chosen_columns, refuse_uneven, renamed
from lazypipe.ops.window import refuse_outside
from lazypipe.spec.arguments import CHOSEN, COLUMN, COLUMNS, INPUT, TEXT, Kind, arg, choice
from lazypipe.spec.model import Fault, freeze
from lazypipe.spec.types import dtype_name
from lazypipe.windows import Clock, Interval, Reach, elapsed
from lazypipe.windows.late import lateness
from lazypipe.windows.watermark import WATERMARK

_WITHIN = Kind({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}, freeze)
_THERE, _TIME = "__lazypipe_there", "__lazypipe_time"


@dataclass(frozen=True)
class IntervalJoin(Operation):
    """Join each row with every row of another source or stage whose time lies between ``lower`` and ``upper`` from its own.

    Both bounds are inclusive: ``[-1h, 0s]`` covers the hour before a row up to its own time. A day is 24 hours here.
    A row whose time is null, or with a null in ``by``, matches nothing; a left join keeps such rows of this side,
    with nulls in the other side's columns.

    The columns of ``by`` appear once, under this side's names. The order of the result is not guaranteed.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> days = [pl.LazyFrame({"day": d}).select(pl.col("day").str.to_date()) for d in (["2024-03-01"], ["2024-02-29", "2024-02-01"])]
    >>> step = {"interval_join": {"with": "sales", "time": "day", "within": ["-7d", "0d"]}}
    >>> lp.apply(step, days[0], sales=days[1]).collect().rows()
    [(datetime.date(2024, 3, 1), datetime.date(2024, 2, 29))]
    """

    name: ClassVar[str] = "interval_join"
    with_: str = arg(INPUT, "The other source or stage.")
    within: tuple[str, ...] = arg(
        _WITHIN, "The bounds on the other row's time, relative to this row's: [lower, upper], such as [-1h, 0s]."
    )
    time: str | None = arg(COLUMN, "The time column, if both sides have it under the same name.", default=None)
    left_time: str | None = arg(COLUMN, "The time column of this side.", default=None)
    right_time: str | None = arg(COLUMN, "The time column of the other side.", default=None)
    by: tuple[str, ...] = arg(
        COLUMNS, "The columns that must be equal and have the same name on both sides.", default=()
    )
    left_by: tuple[str, ...] = arg(COLUMNS, "The columns of this side that must equal those in right_by.", default=())
    right_by: tuple[str, ...] = arg(
        COLUMNS, "The columns of the other side that must equal those in left_by.", default=()
    )
    how: Literal["inner", "left"] = arg(
        choice("inner", "left"), "inner keeps only rows that match; left keeps every row of this side.", default="inner"
    )
    columns: tuple[str, ...] | Mapping[str, str] | None = arg(
        CHOSEN, "The columns of the other side to add; a mapping also renames them. Default: all.", default=None
    )
    suffix: str = arg(TEXT, "The suffix for columns of the other side whose name is already taken.", default="_right")
    allowed_lateness: str = arg(
        TEXT, "How late a row of this side may arrive, measured from the end of its interval; see late.", default="0s"
    )
    late: Literal["update", "quarantine", "drop", "fail"] = arg(
        choice("update", "quarantine", "drop", "fail"),
        "What happens to a row of this side that arrived after the watermark had passed the end of its "
        "interval plus allowed_lateness. update: it is joined like any other; quarantine: it is put into "
        "quarantine; drop: it is dropped and counted; fail: the run stops. All but update need a source with "
        "a watermark.",
        default="update",
    )
    watermark: str = arg(
        COLUMN, "The column with the watermark under which each row arrived. Default: _watermark.", default=WATERMARK
    )

    def __post_init__(self) -> None:
        """Check that times and columns are given exactly once, and equally many on both sides."""
        if not isinstance(self.within, tuple) or len(self.within) != 2:
            raise Fault("within has two bounds", "write them as in [-1h, 1h]", ("within",))
        both = self.left_time is not None and self.right_time is not None
        if (self.time is not None) == both or (not both and (self.left_time or self.right_time)):
            raise Fault(
                "the times of an interval_join must be given once", "give time, or left_time and right_time", ("with",)
            )
        if self.by and (self.left_by or self.right_by):
            raise Fault(
                "the columns of an interval_join must be given once", "give by, or left_by and right_by", ("by",)
            )
        refuse_uneven("by", self.left_by, self.right_by)
        lateness(self.allowed_lateness)

    def multiplies(self) -> bool:
        """Yes: a row for each that is near."""
        return True

    def inputs(self) -> tuple[str, ...]:
        """Return the other side."""
        return (self.with_,)

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to a join on equal stretches of time, and a filter; a left join finds pairs of times first."""
        refuse_outside(self.late, "each_run", scope)
        other = scope.table(self.with_)
        interval = self._interval(table.schema, other.schema, scope)
        left, right = self.by or self.left_by, self.by or self.right_by
        time = self.time or self.left_time or ""
        keys = {f"__lazypipe_key_{index}": name for index, name in enumerate(right)}
        chosen = chosen_columns(self.columns, self.suffix, set(table.schema), other.schema, right, scope, of=self.with_)
        there = renamed(other.frame, {**keys, _THERE: self.time or self.right_time or "", **chosen})
        there = interval.there(there, _THERE)
        if self.how == "inner":
            here = interval.here(table.frame, time)
            joined = here.join(there, left_on=[*left, interval.key], right_on=[*keys, interval.key])
            return joined.filter(interval.holds(time, _THERE)).drop(interval.key, _THERE)
        # what a row matches is a matter of its time and keys, and of no number of its own, which could be another each time
        times = renamed(table.frame, {**dict(zip(keys, left, strict=True)), _TIME: time}).unique()
        pairs = interval.here(times, _TIME).join(there, on=[*keys, interval.key]).filter(interval.holds(_TIME, _THERE))
        pairs = pairs.select(*keys, _TIME, *chosen)
        return table.frame.join(pairs, how="left", left_on=[*left, time], right_on=[*keys, _TIME])

    def change(self, table: Table, scope: Scope, changed: frozenset[str]) -> Change:
        """Rows of this side are joined with the other side as it is."""
        return "each" if changed == {AHEAD} else "all"

    def reach(self, table: Table, scope: Scope) -> Reach | None:
        """A row of the other side is seen from the interval around it, turned round."""
        interval = self._interval(table.schema, scope.table(self.with_).schema, scope)
        here, there = self.time or self.left_time or "", self.time or self.right_time or ""
        by = (self.by or self.left_by, self.by or self.right_by)
        # what is finer than a tick may lie just beyond
        more = int(interval.clock.unit == "ns")
        before, after = interval.upper + more, more - interval.lower
        return Reach(here, there, interval.clock.dtype, before, after, by_here=by[0], by_there=by[1])

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of the rows of both sides that it joins."""
        wider = replace(self, columns=and_made(self.columns))
        return both_made(wider.lower(table, with_other_made(scope, self.with_)))

    def _interval(self, here: pl.Schema, there: pl.Schema, scope: Scope) -> Interval:
        """Check times, columns and bounds of both sides."""
        places = ("time", "time") if self.time else ("left_time", "right_time")
        names = (self.time or self.left_time or "", self.time or self.right_time or "")
        scope.columns(self.by or self.left_by, here, "by" if self.by else "left_by")
        scope.columns(self.by or self.right_by, there, "by" if self.by else "right_by", of=self.with_)
        check_keys(
            self.by or self.left_by, self.by or self.right_by, here, there, scope, "by" if self.by else "left_by"
        )
        try:
            clock = Clock.of(names[0], here, argument=places[0])
            if names[1] not in there:
                what = f"unknown column {names[1]!r} of {self.with_!r}"
                raise Fault(what, nearest(names[1], there, "columns"), (places[1],))
            if there[names[1]] != clock.dtype:
                what = f"this side's time is {dtype_name(clock.dtype)} and the other's is {dtype_name(there[names[1]])}"
                raise Fault(what, "cast one of them first", (places[0],))
            lower, upper = (elapsed(text, clock, "within", place) for place, text in enumerate(self.within))
            if lower > upper:
                what = f"nothing lies from {self.within[0]} to {self.within[1]}"
                raise Fault(what, "write the lower bound first", ("within",))
        except Fault as fault:
            argument, *rest = fault.path
            raise scope.fault(fault.what, fault.fix, str(argument), *rest) from None
        return Interval(clock, lower, upper)
