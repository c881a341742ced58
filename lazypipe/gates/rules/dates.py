"""Rules on dates and the clock: ``in_past``, ``in_future``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import ClassVar

import polars as pl

from lazypipe.gates.rule import Check, Rule
from lazypipe.gates.rules.helpers import MOMENTS, fitting
from lazypipe.spec.arguments import COLUMN, FLAG, arg
from lazypipe.spec.scope import Scope


@dataclass(frozen=True)
class _Clock(Rule):
    """A date or datetime held against the run's clock."""

    shorthand: ClassVar[str] = "column"
    past: ClassVar[bool]
    """On which side of the clock it must lie."""
    column: str = arg(COLUMN, "The column to check.")
    or_now: bool = arg(
        FLAG, "Whether the exact time of the clock (for dates: today) passes. Default: no.", default=False
    )

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: on the other side of the last moment that is past, or the first that is future."""
        column, dtype = fitting(self.column, schema, scope, MOMENTS, "column")
        now = _now(scope, dtype)
        if self.past:
            edge = _moment(math.floor(now) if self.or_now else math.ceil(now) - 1, dtype)
            violated, clipped = column > edge, column.clip(upper_bound=edge)
        else:
            edge = _moment(math.ceil(now) if self.or_now else math.floor(now) + 1, dtype)
            violated, clipped = column < edge, column.clip(lower_bound=edge)
        return [self.check(self.column, schema, scope, violated=violated, column=self.column, clipped=clipped)]


@dataclass(frozen=True)
class InPast(_Clock):
    """The date or datetime must lie before the run's clock. Null passes.

    A datetime without a time zone counts as UTC. A date is compared with the clock's date in UTC; today passes only
    if ``or_now`` is true.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> from datetime import UTC, date, datetime
    >>> frame = pl.DataFrame({"a": [date(2020, 1, 1), date(2020, 1, 2), None]})
    >>> lp.check(frame, [{"in_past": "a"}], now=datetime(2020, 1, 2, 12, tzinfo=UTC)).failed
    {'in_past:a': 1}
    """

    name: ClassVar[str] = "in_past"
    past: ClassVar[bool] = True


@dataclass(frozen=True)
class InFuture(_Clock):
    """The date or datetime must lie after the run's clock. Null passes.

    A datetime without a time zone counts as UTC. A date is compared with the clock's date in UTC; today passes only
    if ``or_now`` is true.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> from datetime import UTC, date, datetime
    >>> frame = pl.DataFrame({"a": [date(2020, 1, 2), date(2020, 1, 3), None]})
    >>> lp.check(frame, [{"in_future": "a"}], now=datetime(2020, 1, 2, 12, tzinfo=UTC)).failed
    {'in_future:a': 1}
    """

    name: ClassVar[str] = "in_future"
    past: ClassVar[bool] = False


_PER_MICROSECOND = {"ms": Fraction(1, 1000), "us": Fraction(1), "ns": Fraction(1000)}


def _now(scope: Scope, dtype: pl.DataType) -> Fraction:
    """Return the run's clock in the units in which a column of ``dtype`` counts."""
    now: datetime = scope.params["now"]
    since = (now if now.tzinfo else now.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    if isinstance(dtype, pl.Datetime):
        return _PER_MICROSECOND[dtype.time_unit] * (since // timedelta(microseconds=1))
    return Fraction(since // timedelta(days=1))


def _moment(count: int, dtype: pl.DataType) -> pl.Expr:
    # nanoseconds end in 2262: a clock beyond is after every value of the column
    return pl.lit(max(-(2**63), min(count, 2**63 - 1)), dtype=pl.Int64).cast(dtype)
