"""``asof_join``: for each row the nearest earlier (or later) row of another stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import ClassVar, Literal, TypeAlias

import polars as pl

from lazypipe.in_order import NEAR, lying
from lazypipe.ops.base import AHEAD, Change, Operation, Scope, Table, both_made, with_other_made
from lazypipe.ops.join import and_made, check_keys, chosen_columns, refuse_uneven, renamed
from lazypipe.ops.window import refuse_outside
from lazypipe.spec.arguments import BOUND, CHOSEN, COLUMN, COLUMNS, INPUT, TEXT, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.spec.spans import Span
from lazypipe.spec.types import dtype_name
from lazypipe.windows import Clock, Reach
from lazypipe.windows.clock import DAY
from lazypipe.windows.late import lateness
from lazypipe.windows.watermark import WATERMARK

_THERE = "__lazypipe_there"
_Side: TypeAlias = tuple[pl.LazyFrame, list[str], str]
"""Rows, the columns that make a group of them, and their key."""


@dataclass(frozen=True)
class AsofJoin(Operation):
    """Join each row with the nearest row of another source or stage: by default, the last one at or before its own key.

    Every row of this side stays exactly once, and the result is sorted by the key. Where nothing matches, the other
    side's columns are null. A row whose key is null or NaN, or with a null in ``by``, matches nothing.

    Both sides are sorted by the key. The join streams, and its sorts spill to disk when memory is short. The
    exception is a float key with ``by`` and either a ``tolerance`` or ``strategy: nearest``: then both sides are held
    in memory.

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
    on: str | None = arg(COLUMN, "The sorted key, if both sides have it under the same name.", default=None)
    left_on: str | None = arg(COLUMN, "The key of this side.", default=None)
    right_on: str | None = arg(COLUMN, "The key of the other side.", default=None)
    by: tuple[str, ...] = arg(COLUMNS, "The columns that must be equal on both sides.", default=())
    left_by: tuple[str, ...] = arg(COLUMNS, "The columns of this side that must equal those in right_by.", default=())
    right_by: tuple[str, ...] = arg(
        COLUMNS, "The columns of the other side that must equal those in left_by.", default=()
    )
    strategy: Literal["backward", "forward", "nearest"] = arg(
        choice("backward", "forward", "nearest"),
        "Which neighbour to take: the last one at or before the key (backward), the first one at or after it "
        "(forward), or the closer of the two (nearest).",
        default="backward",
    )
    tolerance: str | float | None = arg(
        BOUND,
        "The greatest distance between the two keys: a number, or a duration such as 2h. Default: no limit.",
        default=None,
    )
    columns: tuple[str, ...] | Mapping[str, str] | None = arg(
        CHOSEN, "The columns of the other side to add; a mapping also renames them. Default: all.", default=None
    )
    suffix: str = arg(TEXT, "The suffix for columns of the other side whose name is already taken.", default="_right")
    allowed_lateness: str = arg(
        TEXT, "How late a row of this side may arrive, measured from its time; see late.", default="0s"
    )
    late: Literal["update", "quarantine", "drop", "fail"] = arg(
        choice("update", "quarantine", "drop", "fail"),
        "What happens to a row of this side that arrived after the watermark had passed its time plus "
        "allowed_lateness. update: it is joined like any other; quarantine: it is put into quarantine; drop: "
        "it is dropped and counted; fail: the run stops. All but update need a source with a watermark.",
        default="update",
    )
    watermark: str = arg(
        COLUMN, "The column with the watermark under which each row arrived. Default: _watermark.", default=WATERMARK
    )

    def __post_init__(self) -> None:
        """Check that the key is given exactly once."""
        both = self.left_on is not None and self.right_on is not None
        if (self.on is not None) == both or (not both and (self.left_on or self.right_on)):
            raise Fault("the key of an asof_join must be given once", "give on, or left_on and right_on", ("with",))
        if self.by and (self.left_by or self.right_by):
            raise Fault("the columns of an asof_join must be given once", "give by, or left_by and right_by", ("by",))
        refuse_uneven("by", self.left_by, self.right_by)
        lateness(self.allowed_lateness)

    def inputs(self) -> tuple[str, ...]:
        """Return the other side."""
        return (self.with_,)

    def large(self, large: frozenset[str]) -> bool:
        """One row comes of each row ahead."""
        return AHEAD in large

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to sorts and ``join_asof``."""
        refuse_outside(self.late, "each_run", scope)
        other = scope.table(self.with_)
        left, right = self.on or self.left_on or "", self.on or self.right_on or ""
        scope.columns([left], table.schema, "on" if self.on else "left_on")
        scope.columns([right], other.schema, "on" if self.on else "right_on", of=self.with_)
        ours, others = self.by or self.left_by, self.by or self.right_by
        places = ("by", "by") if self.by else ("left_by", "right_by")
        scope.columns(ours, table.schema, places[0])
        scope.columns(others, other.schema, places[1], of=self.with_)
        for index, name in enumerate(ours):
            if table.schema[name].is_nested():
                what = f"column {name!r} is {dtype_name(table.schema[name])}, which cannot be matched on"
                raise scope.fault(what, "use columns of plain values", places[0], index)
        self._check_keys(table.schema[left], other.schema[right], scope)
        key, frame = left, table.frame
        matchable = other.frame.filter(pl.col(right).is_not_null())
        if table.schema[left].is_float():
            # NaN is near nothing, though Polars sorts it as the greatest number
            key = "__lazypipe_key"
            frame = frame.with_columns(pl.col(left).fill_nan(None).alias(key))
            matchable = matchable.filter(pl.col(right).is_not_nan())
            if left == right and not self._chooses:
                matchable, right = matchable.rename({right: key}), key  # else it would stay beside ours
        if self._chooses:
            check_keys(ours, others, table.schema, other.schema, scope, places[0])
            coalesced = others if self.on is None else (*others, self.on)
            taken = set(table.schema)
            chosen = chosen_columns(self.columns, self.suffix, taken, other.schema, coalesced, scope, of=self.with_)
            helpers = {_THERE: right, **{f"__lazypipe_by_{index}": name for index, name in enumerate(others)}}
            matchable, right, others = renamed(matchable, {**helpers, **chosen}), _THERE, tuple(helpers)[1:]
        # a null key matches nothing, but Polars refuses nulls in a sorted key of the other side; on this one it streams wrongly unless they come
        # first: rows ahead of a null, in one batch, are put beside the first ones of the other side only
        joined = frame.sort(key).join_asof(
            matchable.sort(right),
            left_on=key,
            right_on=right,
            by_left=[*ours] or None,
            by_right=[*others] or None,
            strategy=self.strategy,
            tolerance=self._tolerance(scope),
            suffix=self.suffix,
            check_sortedness=False,
        )
        # of floats a line says which is the next, and not how far it is
        if ours and (key == left or (self.tolerance is None and self.strategy != "nearest")):
            schema = {**table.schema, key: table.schema[left]}
            joined = self._streamed(joined, (frame, [*ours], key), (matchable, [*others], right), schema)
        joined = joined.sort(key, nulls_last=True)
        unwanted = [*(() if key == left else (key,)), *((_THERE,) if self._chooses else ())]
        return joined.drop(unwanted, strict=False) if unwanted else joined

    def _streamed(
        self, plain: pl.LazyFrame, here: _Side, there: _Side, schema: Mapping[str, pl.DataType]
    ) -> pl.LazyFrame:
        """Return the same rows, put together by one key that lies near to those of the same group only: so Polars streams it.

        Where there is no such key, it is as it is ``plain``: both sides in memory.
        """
        (frame, ours, key), (other, others, right) = here, there
        types = other.collect_schema()
        line, theirs = lying(ours, key, schema), lying(others, right, types, nulls=True)
        if line is None or theirs is None or [schema[c] for c in ours] != [types[c] for c in others]:
            return plain
        names = plain.collect_schema().names()
        gone = [c for c in (*others, right) if (f"{c}{self.suffix}" if c in schema else c) not in names]
        matchable = other.with_columns(theirs[0].alias(NEAR)).sort(NEAR)
        far = self._ticks(schema[key])
        joined = (
            frame.with_columns(line[0].alias(NEAR))
            .sort(NEAR)
            .join_asof(
                matchable.drop(gone),
                on=NEAR,
                strategy=self.strategy,
                tolerance=line[1] if far is None else min(far, line[1]),
                suffix=self.suffix,
                check_sortedness=False,
            )
        )
        return joined.drop(NEAR).select(names)

    def _ticks(self, dtype: pl.DataType) -> int | None:
        """Return the tolerance in what the type counts, rounded down; None if there is none."""
        if not isinstance(self.tolerance, str):
            return None if self.tolerance is None else floor(self.tolerance)
        span = Span.parse(self.tolerance)
        unit = {"ms": 1_000_000, "us": 1_000, "ns": 1}.get(getattr(dtype, "time_unit", None) or "ns", 1)
        return (span.days * DAY + span.nanoseconds) // (DAY if dtype == pl.Date else unit)

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
        by = (self.by or self.left_by, self.by or self.right_by)
        return Reach(left, right, dtype, before, after, previous=back, following=on, by_here=by[0], by_there=by[1])

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of itself and the one that it was put beside."""
        wider = replace(self, columns=and_made(self.columns))
        return both_made(wider.lower(table, with_other_made(scope, self.with_)))

    @property
    def _chooses(self) -> bool:
        """Whether the other side's columns are listed: with other names, or only some of them."""
        return self.columns is not None or bool(self.right_by)

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
            what = f"{self.tolerance} has months, which differ in length"
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
