"""Rules on event times: ``freshness``, ``no_gaps``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, ClassVar

import polars as pl

from lazypipe.gates import figures
from lazypipe.gates.figures import Figure
from lazypipe.gates.frame_rule import Bounds, GroupedRule, literal
from lazypipe.gates.rule import VALUE, Check
from lazypipe.gates.written import resolved
from lazypipe.spec.arguments import BOUND, COLUMN, COUNT, TEXT, arg
from lazypipe.spec.model import Fault, Param
from lazypipe.spec.scope import Scope
from lazypipe.spec.spans import Span
from lazypipe.spec.types import dtype_name


@dataclass(frozen=True)
class Freshness(GroupedRule):
    """The latest time in a column must not be older than a duration before the run's clock. Nulls are ignored.

    Without values the rule passes; add ``row_count`` or ``completeness`` to rule that out. A time in the future
    passes. A datetime without a time zone counts as UTC. A date lasts until its end: with ``within: 2h`` it is fresh
    until 02:00 of the next day.

    Examples
    --------
    >>> from datetime import datetime
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"at": [datetime(2024, 5, 1, 9), None]})
    >>> rules = [{"freshness": {"column": "at", "within": "2h"}}]
    >>> lp.check(frame, rules, now=datetime(2024, 5, 1, 12)).failed
    {'freshness:at': 1}
    """

    name: ClassVar[str] = "freshness"
    column: str = arg(COLUMN, "A column of dates or datetimes.")
    within: Any = arg(TEXT, "The greatest age of the latest time: 90s, 15m, 2h, 3d or 1w.")

    def __post_init__(self) -> None:
        """Check the duration."""
        super().__post_init__()
        try:
            age = Param("duration").parse(self.within)
        except ValueError as error:
            raise Fault(str(error), None, ("within",)) from None
        if age < timedelta(0):
            raise Fault(f"within {self.within} is negative", "write a duration such as 2h", ("within",))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: the newest is too old."""
        scope.columns([self.column], schema, "column")
        dtype = schema[self.column]
        if dtype not in (pl.Date, pl.Datetime, pl.Null):
            what = f"column {self.column!r} is {dtype_name(dtype)}, which is not a date or time"
            raise scope.fault(what, "name a column of dates or datetimes", "column")
        now: datetime = scope.params["now"]
        now = (now if now.tzinfo is None else now.astimezone(UTC)).replace(tzinfo=None)
        oldest = now - min(Param("duration").parse(self.within), now - datetime(1, 1, 1))  # noqa: DTZ001  # in UTC, as it is compared
        newest = pl.col(VALUE)
        if dtype in (pl.Date, pl.Null):
            # in days: a datetime does not reach as far as a date
            first = -((datetime(1970, 1, 1) - oldest) // timedelta(days=1)) - 1  # noqa: DTZ001  # in UTC, too
            fresh = newest >= pl.lit(first, dtype=pl.Int64).cast(pl.Date)
        else:
            assert isinstance(dtype, pl.Datetime)
            # as counts since 1970, in UTC: neither need be a time that the other's unit reaches
            since = (oldest - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001  # in UTC, too
            scale = {"ms": Fraction(1, 1_000), "us": Fraction(1), "ns": Fraction(1_000)}[dtype.time_unit]
            fresh = newest.to_physical().cast(pl.Int128) >= pl.lit(math.ceil(since * scale), dtype=pl.Int128)
        allowed = Bounds(fresh, f"within {self.within} of {now} UTC")
        figure = figures.extreme(self.column, dtype, least=False)
        of = [self.column]
        return [self.measured(self.column, schema, scope, figure, allowed, columns=of, column=self.column, holds=of)]


@dataclass(frozen=True)
class NoGaps(GroupedRule):
    """Every step between the first and the last value must have a row: every day, every hour, every number. Nulls are ignored.

    A row covers the step that it lies in; it need not be at the step's start. Steps are counted from ``start``, or
    else from 0, from 1970-01-01 and, for weeks, from Mondays. Days and longer steps follow the column's time zone.
    The rule counts missing steps. Without values it passes, unless ``start`` and ``end`` give the range; rows outside
    of that range are ignored. A group without any rows is not noticed.

    Examples
    --------
    >>> from datetime import date
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"day": [date(2024, 2, 28), date(2024, 3, 1), None]})
    >>> report = lp.check(frame, [{"no_gaps": {"column": "day", "every": "1d"}}])
    >>> report.failed, report.checks[0].value
    ({'no_gaps:day': 1}, 1)
    """

    name: ClassVar[str] = "no_gaps"
    column: str = arg(COLUMN, "A column of dates, datetimes or integers.")
    every: Any = arg(BOUND, "The step: 30s, 15m, 1h, 1d, 1w, 1mo, 1q or 1y; for integers, an integer.")
    start: Any = arg(BOUND, "The start of the first step. Default: the step of the first value.", default=None)
    end: Any = arg(BOUND, "A value in the last step. Default: the last value.", default=None)
    max: int = arg(COUNT, "The number of steps that may be missing.", default=0)

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: steps without a row."""
        scope.columns([self.column], schema, "column")
        dtype = schema[self.column]
        # wider numbers than 64 bits have no room to count in
        if not (dtype in (pl.Date, pl.Datetime) or (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128))):
            what = f"column {self.column!r} is {dtype_name(dtype)}, which has no steps"
            raise scope.fault(what, "name a column of dates, datetimes or whole numbers", "column")
        units, size, origin = self._steps(dtype, scope)
        start, end = (self._edge(name, dtype, scope) for name in ("start", "end"))
        from_ = pl.lit(origin) if start is None else units(start)

        def step(values: pl.Expr) -> pl.Expr:
            return (units(values) - from_) // size

        first, last = (None if edge is None else step(edge) for edge in (start, end))
        if first is not None and last is not None and pl.select(first > last).item():
            raise scope.fault(f"start {self.start} is after end {self.end}", "swap them", "start")
        steps = step(pl.col(self.column)).drop_nulls()
        if first is not None:
            steps = steps.filter(steps >= first)
        if last is not None:
            steps = steps.filter(steps <= last)
        low, high = steps.min() if first is None else first, steps.max() if last is None else last
        missing = (high - low + 1 - steps.n_unique().cast(pl.Int64)).cast(pl.Int128)
        # of more than 64 bits hold it is enough to say that they are more than any max allows
        figure = Figure(missing.clip(upper_bound=pl.lit(2**63 - 1, dtype=pl.Int128)).cast(pl.Int64))
        few = f"at most {self.max} steps" if self.max else "no step"
        allowed = Bounds(pl.col(VALUE) <= self.max, f"{few} of {self.every} missing")
        return [self.measured(self.column, schema, scope, figure, allowed, columns=[self.column], column=self.column)]

    def _edge(self, argument: str, dtype: pl.DataType, scope: Scope) -> pl.Expr | None:
        written = getattr(self, argument)
        if written is None:
            return None
        value = resolved(written, scope, argument)
        if dtype.is_integer() and isinstance(value, float) and not value.is_integer():
            what = f"{value!r} is not a whole number, and column {self.column!r} holds whole numbers"
            raise scope.fault(what, "write a whole number", argument)
        return literal(value, dtype, scope, argument, f"column {self.column!r}")

    def _steps(self, dtype: pl.DataType, scope: Scope) -> tuple[Callable[[pl.Expr], pl.Expr], int, int]:
        """Return how to count a column's units (numbers, months, days …), how many make a step, and where to begin."""
        every = resolved(self.every, scope, "every")
        if dtype.is_integer():
            if isinstance(every, bool) or not isinstance(every, int) or every < 1:
                what = f"{every!r} is not a step of column {self.column!r}, which is {dtype_name(dtype)}"
                raise scope.fault(what, "write a whole number, 1 or more", "every")
            # unsigned numbers would go round below the first one
            return lambda values: values.cast(pl.Int128), every, 0
        if (months := _months(every)) > 0:
            return lambda values: values.dt.year().cast(pl.Int64) * 12 + values.dt.month() - 1, months, 0
        try:
            length = Param("duration").parse(every)
        except ValueError:
            length = timedelta(0)
        if length <= timedelta(0):
            fix = "write one such as 15m, 1h, 1d, 1w, 1mo, 1q or 1y"
            raise scope.fault(f"{every!r} is not a step of time", fix, "every")
        whole_days = not length % timedelta(days=1)
        per_day = _PER_DAY[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1
        size, rest = divmod(length // timedelta(microseconds=1) * per_day, _PER_DAY["us"])
        if rest:
            what = f"{every} is finer than column {self.column!r}, which is {dtype_name(dtype)}"
            raise scope.fault(what, "write a longer step", "every")

        def units(values: pl.Expr) -> pl.Expr:
            if whole_days and dtype != pl.Date:
                # days by the clock on the wall: some have 23 hours
                values = values.dt.replace_time_zone(None)
            return values.to_physical().cast(pl.Int64)

        # 1970 began on a Thursday
        return units, size, -3 * per_day if str(every).endswith("w") else 0


def _months(every: object) -> int:
    """Return how many months a step has that is of months alone; 0 for any other."""
    try:
        span = Span.parse(str(every))
    except ValueError:
        return 0
    return 0 if span.days or span.nanoseconds else span.months


_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
