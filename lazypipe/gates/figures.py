"""Figures of a frame: aggregates, as parts that add up batch by batch where there are such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from lazypipe.gates.rule import Part

__all__ = [
    "Figure",
    "distinct",
    "extreme",
    "mean",
    "median",
    "nothing",
    "quantile",
    "row_count",
    "share",
    "spread",
    "total",
]

_ROWS = "__lazypipe_rows"
_SUM = "__lazypipe_sum"
_COUNT = "__lazypipe_count"
_PART = "__lazypipe_part"
_FAR = 95_000_000
"""Days from 1970, beyond which a date counts as that far away where it must become a datetime: years -258,000 to 262,000."""


@dataclass(frozen=True)
class Figure:
    """An aggregate: ``value`` is over the columns of ``parts`` where there are any, else over the rows."""

    value: pl.Expr = field(compare=False)
    parts: tuple[Part, ...] = ()

    def dtype(self, schema: pl.Schema) -> pl.DataType:
        """Return the type of the value over rows of ``schema``."""
        rows = pl.LazyFrame(schema=schema)
        if self.parts:
            rows = rows.select(p.over.alias(p.name) for p in self.parts)
        return rows.select(self.value.alias(_PART)).collect_schema()[_PART]


def _added(name: str, over: pl.Expr) -> Part:
    return Part(name, over, pl.col(name).sum())


def row_count() -> Figure:
    """Return the number of rows."""
    # wider than Polars counts: batches add up to more than one frame holds
    return Figure(pl.col(_ROWS), (_added(_ROWS, pl.len().cast(pl.Int64)),))


def nothing() -> Figure:
    """Return the figure of a column without a type, in which all is null: null."""
    return Figure(pl.lit(None), row_count().parts)


def share(hits: pl.Expr, of: pl.Expr) -> Figure:
    """Return the sum of ``hits`` (a condition) as a fraction of ``of`` (a count); null of nothing."""
    hit, count = pl.col(_SUM), pl.col(_COUNT)
    parts = (_added(_SUM, hits.cast(pl.Int64).sum()), _added(_COUNT, of.cast(pl.Int64)))
    return Figure(pl.when(count > 0).then(hit / count), parts)


def total(column: str, dtype: pl.DataType) -> Figure:
    """Return the sum: of whole numbers and decimals exactly; 0 of nothing. Of durations in ns it is in us."""
    added, figure = pl.col(_SUM), _added(_SUM, _summed(column, dtype))
    if isinstance(dtype, pl.Duration):
        # a sum in ns would end after 292 years; one that no duration holds is as long as one can be: beyond any bound as well
        fine = dtype.time_unit == "ns"
        longest = pl.lit(2**63 - 1, dtype=pl.Int128)
        held = (added // 1_000 if fine else added).clip(-longest, longest).cast(pl.Int64)
        return Figure(held.cast(pl.Duration("us") if fine else dtype), (figure,))
    return Figure(added, (figure,))


def mean(column: str, dtype: pl.DataType) -> Figure:
    """Return the mean, null of nothing."""
    parts = (_added(_SUM, _summed(column, dtype)), _added(_COUNT, pl.col(column).count().cast(pl.Int64)))
    added, count = pl.col(_SUM), pl.col(_COUNT)
    if isinstance(dtype, pl.Duration):
        return Figure((added // count).cast(pl.Int64).cast(dtype), parts)
    if isinstance(dtype, pl.Decimal):
        # one division only: the mean of 0.10 and 0.10 is the float that 0.1 is
        added, count = added.to_physical(), count.cast(pl.Float64) * 10.0**dtype.scale
    return Figure(pl.when(pl.col(_COUNT) > 0).then(added.cast(pl.Float64) / count), parts)


def _summed(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return the sum in a type that does not go round."""
    rows = pl.col(column)
    if dtype.is_decimal():
        return rows.sum()
    if dtype.is_float() or dtype in (pl.Int128, pl.UInt128):
        return rows.cast(pl.Float64).sum()
    return rows.to_physical().cast(pl.Int128).sum()


def spread(column: str) -> Figure:
    """Return the sample standard deviation, null of fewer than two values.

    Batches are joined by their counts, means and sums of squared deviations (Chan, Golub, LeVeque 1979), which loses
    nothing where sums of squares would.
    """
    rows, part = pl.col(column).cast(pl.Float64), pl.col(_PART).struct
    over = pl.struct(n=rows.count().cast(pl.Int64), mean=rows.mean(), squares=rows.var(ddof=0) * rows.count())
    n, means, squares = part.field("n"), part.field("mean"), part.field("squares")
    # from one of the means, so that those of values that are all the same give just that
    joined = means.max() + (n * (means - means.max())).sum() / n.sum()
    merge = pl.struct(n=n.sum(), mean=joined, squares=squares.sum() + (n * (means - joined) ** 2).sum())
    return Figure(pl.when(n > 1).then((squares / (n - 1)).sqrt()), (Part(_PART, over, merge),))


def extreme(column: str, dtype: pl.DataType, *, least: bool) -> Figure:
    """Return the least or greatest value: NaN if there is one, null of nothing."""

    def of(values: pl.Expr) -> pl.Expr:
        if dtype.is_float():
            return values.nan_min() if least else values.nan_max()
        return values.min() if least else values.max()

    return Figure(pl.col(_PART), (Part(_PART, of(pl.col(column)), of(pl.col(_PART))),))


def median(column: str, dtype: pl.DataType) -> Figure:
    """Return the median, between two values their middle: NaN if there is one, null of nothing."""
    return quantile(column, dtype, 0.5)


def quantile(column: str, dtype: pl.DataType, q: float) -> Figure:
    """Return a quantile, interpolated linearly: NaN if there is one, null of nothing."""
    rows = pl.col(column)
    if dtype == pl.Date:
        # Polars 2.1 panics on a column of dates without values, and on years beyond some 262,000 in either direction
        far = pl.lit(_FAR, dtype=pl.Int64)
        rows = rows.clip((-far).cast(dtype), far.cast(dtype)).cast(pl.Datetime("us"))
    if not dtype.is_float():
        return Figure(rows.quantile(q, "linear"))
    rows = rows.cast(pl.Float64)
    return Figure(pl.when(rows.is_nan().any()).then(float("nan")).otherwise(rows.quantile(q, "linear")))


def distinct(columns: Sequence[str], *, part: bool = False) -> Figure:
    """Return the number of different values, or of combinations without a null; or which ``part`` of all these it is."""
    if len(columns) == 1:
        found = pl.col(columns[0]).drop_nulls()
    else:
        found = pl.struct(columns).filter(pl.all_horizontal(pl.col(c).is_not_null() for c in columns))
    number = found.n_unique().cast(pl.Int64)
    return Figure(pl.when(found.len() > 0).then(number / found.len()) if part else number)
