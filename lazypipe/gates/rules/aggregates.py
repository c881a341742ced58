"""Rules on a figure of one column: ``mean``, ``median``, ``min``, ``max``, ``std``, ``sum``, ``quantile``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.gates import figures
from lazypipe.gates.figures import Figure
from lazypipe.gates.frame_rule import Statistic
from lazypipe.spec.arguments import FRACTION, arg
from lazypipe.spec.model import Fault


@dataclass(frozen=True, kw_only=True)
class Mean(Statistic):
    """The mean of a column must lie within bounds. Nulls are ignored; without values the rule passes, with a NaN it fails.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 2, None]}), [{"mean": {"column": "a", "max": 1.5}}]).failed
    {}
    """

    name: ClassVar[str] = "mean"
    takes: ClassVar[str] = "numbers or durations"

    def figure(self, dtype: pl.DataType) -> Figure | None:
        """Return the mean, as Float64 or a duration."""
        return figures.mean(self.column, dtype) if _adds(dtype) else None


@dataclass(frozen=True, kw_only=True)
class Sum(Statistic):
    """The sum of a column must lie within bounds. Nulls are ignored; the sum of no values is 0, and with a NaN the rule fails.

    Integers and decimals are added exactly; 128-bit integers are added as floats.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 2, None]}), [{"sum": {"column": "a", "max": 2}}]).failed
    {'sum:a': 1}
    """

    name: ClassVar[str] = "sum"
    takes: ClassVar[str] = "numbers or durations"

    def figure(self, dtype: pl.DataType) -> Figure | None:
        """Return the sum, in a type that does not go round."""
        return figures.total(self.column, dtype) if _adds(dtype) or dtype == pl.Null else None


@dataclass(frozen=True, kw_only=True)
class Std(Statistic):
    """The sample standard deviation must lie within bounds. Nulls are ignored; with fewer than two values the rule passes, with a NaN it fails.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 3, None]}), [{"std": {"column": "a", "max": 1}}]).failed
    {'std:a': 1}
    """

    name: ClassVar[str] = "std"
    takes: ClassVar[str] = "numbers"

    def figure(self, dtype: pl.DataType) -> Figure | None:
        """Return the standard deviation, as Float64."""
        return figures.spread(self.column) if dtype.is_numeric() else None


@dataclass(frozen=True, kw_only=True)
class Min(Statistic):
    """The smallest value of a column must lie within bounds. Nulls are ignored; without values the rule passes, with a NaN it fails.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 3, None]}), [{"min": {"column": "a", "max": 0}}]).failed
    {'min:a': 1}
    """

    name: ClassVar[str] = "min"
    takes: ClassVar[str] = "numbers, dates, times or text"

    def figure(self, dtype: pl.DataType) -> Figure | None:
        """Return the least value, in the column's type."""
        return figures.extreme(self.column, dtype, least=True) if _ordered(dtype) or dtype == pl.String else None


@dataclass(frozen=True, kw_only=True)
class Max(Statistic):
    """The largest value of a column must lie within bounds. Nulls are ignored; without values the rule passes, with a NaN it fails.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 3, None]}), [{"max": {"column": "a", "min": 4}}]).failed
    {'max:a': 1}
    """

    name: ClassVar[str] = "max"
    takes: ClassVar[str] = "numbers, dates, times or text"

    def figure(self, dtype: pl.DataType) -> Figure | None:
        """Return the greatest value, in the column's type."""
        return figures.extreme(self.column, dtype, least=False) if _ordered(dtype) or dtype == pl.String else None


@dataclass(frozen=True, kw_only=True)
class Median(Statistic):
    """The median of a column must lie within bounds. Nulls are ignored; without values the rule passes, with a NaN it fails.

    The median of an even number of values is the mean of the two middle ones. The median of dates is a datetime.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 2, 9, None]}), [{"median": {"column": "a", "min": 3}}]).failed
    {'median:a': 1}
    """

    name: ClassVar[str] = "median"
    takes: ClassVar[str] = "numbers, dates or times"

    def figure(self, dtype: pl.DataType) -> Figure | None:
        """Return the median: Float64 for numbers."""
        return figures.median(self.column, dtype) if _ordered(dtype) else None


@dataclass(frozen=True, kw_only=True)
class Quantile(Statistic):
    """A quantile of a column must lie within bounds. Nulls are ignored; without values the rule passes, with a NaN it fails.

    Between two values it is interpolated linearly, like ``quantile_cont`` in SQL. The quantile of dates is a
    datetime.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"quantile": {"column": "a", "q": 0.25, "min": 2}}]
    >>> lp.check(pl.DataFrame({"a": [1, 2, 3, 4, None]}), rules).failed
    {'quantile:a 0.25': 1}
    """

    name: ClassVar[str] = "quantile"
    takes: ClassVar[str] = "numbers, dates or times"
    q: float = arg(FRACTION, "The quantile, from 0 to 1: 0 is the smallest value, 0.5 the median, 1 the largest.")

    def __post_init__(self) -> None:
        """Check that there is such a quantile."""
        super().__post_init__()
        if isinstance(self.q, bool) or not isinstance(self.q, int | float) or not 0 <= self.q <= 1:
            raise Fault(f"there is no quantile {self.q!r}", "write a number from 0 to 1", ("q",))

    def figure(self, dtype: pl.DataType) -> Figure | None:
        """Return the quantile: Float64 for numbers."""
        return figures.quantile(self.column, dtype, self.q) if _ordered(dtype) else None

    def title(self) -> str:
        """Return the column and which quantile."""
        return f"{self.column} {self.q:g}"


def _adds(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or isinstance(dtype, pl.Duration)


def _ordered(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype.is_temporal()
