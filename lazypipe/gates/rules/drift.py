"""Rules that compare with the past: ``psi`` and ``ks`` with the output's previous commit, ``z_score`` with earlier runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar, Literal

import polars as pl

from lazypipe.errors import nearest
from lazypipe.gates import figures
from lazypipe.gates.figures import Figure
from lazypipe.gates.frame_rule import FrameRule, GroupedRule
from lazypipe.gates.rule import HISTORY, PREVIOUS, VALUE, Check, Measure
from lazypipe.gates.rules.helpers import comparable
from lazypipe.spec.arguments import COLUMN, COUNT, FRACTION, NUMBER, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name
from lazypipe.sql.exprs import columns_of

_ITEM = "__lazypipe_item"
_GROUP = "__lazypipe_group"
_HERE = "__lazypipe_here"
_THERE = "__lazypipe_there"

LEAST_SHARE = 1e-4
"""What an empty bin counts as in a population stability index, whose logarithm has no value for nothing."""


@dataclass(frozen=True, kw_only=True)
class Psi(GroupedRule):
    """The population stability index of a column must be small, compared with the output's previous commit.

    The index is the sum over bins of ``(a - e) * ln(a / e)``, where ``a`` and ``e`` are a bin's fractions of the rows
    now and before. Below 0.1 is usually called stable, above 0.25 changed (N. Siddiqi, Credit Risk Scorecards, 2006).
    A fraction below 0.0001 counts as 0.0001, so that an empty bin does not make the index infinite.

    Numbers, dates and times are binned at their previous quantiles; a value frequent enough to fill a bin has a bin
    of its own. Each value of text, categories and booleans is a bin, so such a column should have few distinct
    values. Null is a bin, and NaN another. Without rows now or before (the first run, a new group, a column that is
    new or has another kind of type) the rule passes. ``where`` restricts the rows of both sides. The rule belongs in
    the gate of a stage (or source) whose rows are written to a dataset.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"country": ["DE", "FR"]}), [{"psi": {"column": "country", "max": 0.1}}]).checks[0]
    <CheckResult pass: psi:country: None, expected an index of at most 0.1 against the previous commit (fail)>
    """

    name: ClassVar[str] = "psi"
    column: str = arg(COLUMN, "The column to check.")
    max: float = arg(NUMBER, "The largest index allowed.", default=0.2)
    bins: int = arg(COUNT, "The number of bins for numbers, dates and times.", default=10)

    def __post_init__(self) -> None:
        """Check the bound and the bins."""
        super().__post_init__()
        if not self.max >= 0:
            raise Fault(f"no index is at most {self.max}", "write a number such as 0.2", ("max",))
        if self.bins < 2:
            raise Fault(f"{self.bins} bins tell nothing apart", "write 2 or more, such as 10", ("bins",))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too different."""
        scope.columns([self.column], schema, "column")
        dtype = schema[self.column]
        scalar = dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null)
        if not (scalar or dtype.is_numeric() or dtype.is_temporal()):
            what = f"column {self.column!r} is {dtype_name(dtype)}, which has no bins"
            raise scope.fault(what, "name a column of numbers, times, text or booleans", "column")
        compare = partial(_index, bins=None if scalar else self.bins)
        expected = f"an index of at most {self.max:g} against the previous commit"
        return [_against_previous(self, schema, scope, compare, pl.col(VALUE) <= self.max, expected)]


def _index(here: pl.LazyFrame, there: pl.LazyFrame, groups: Sequence[str], *, bins: int | None) -> pl.LazyFrame:
    """Return the population stability index of each group, with this number of bins; without one, each value is a bin."""
    if bins is not None:
        here, there = _binned(here, there, groups, bins)
    by = (*groups, _ITEM)
    counts = here.group_by(by).agg(pl.len().alias(_HERE)).join(
        there.group_by(by).agg(pl.len().alias(_THERE)), on=by, how="full", nulls_equal=True, coalesce=True
    ).with_columns(pl.col(_HERE, _THERE).fill_null(0).cast(pl.Int64))  # fmt: skip
    now, before = pl.col(_HERE), pl.col(_THERE)
    a, e = ((n / n.sum()).clip(lower_bound=LEAST_SHARE) for n in (now, before))
    index = ((a - e) * (a / e).log()).sum()
    return counts.group_by(groups).agg(pl.when((now.sum() > 0) & (before.sum() > 0)).then(index).alias(VALUE))


@dataclass(frozen=True, kw_only=True)
class Ks(GroupedRule):
    """A two-sample Kolmogorov–Smirnov test must find no difference between a column and the output's previous commit.

    The statistic ``D`` is the largest distance between the two empirical distribution functions; it is exact. Either
    ``D`` must be at most ``max``, or the probability of a ``D`` at least as large, if nothing had changed, must be at
    least ``p_value``. That probability is the asymptotic ``2 Σ (-1)^(k-1) exp(-2 k² λ²)`` with ``λ = (√n + 0.12 +
    0.11 / √n) D`` and ``n = n₁ n₂ / (n₁ + n₂)`` (M. A. Stephens, 1970).

    Nulls are ignored; NaN is the largest value. Without values now or before (the first run, a new group, a column
    that is new or has another kind of type) the rule passes. ``where`` restricts the rows of both sides. The rule
    belongs in the gate of a stage (or source) whose rows are written to a dataset.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"amount": [3.5, 8]}), [{"ks": {"column": "amount", "p_value": 0.01}}]).checks[0]
    <CheckResult pass: ks:amount: None, expected a probability of at least 0.01 against the previous commit (fail)>
    """

    name: ClassVar[str] = "ks"
    column: str = arg(COLUMN, "The column to check.")
    max: float | None = arg(FRACTION, "The largest distance allowed.", default=None)
    p_value: float | None = arg(FRACTION, "Instead of max: smallest probability allowed, such as 0.01.", default=None)

    def __post_init__(self) -> None:
        """Check that there is one bound."""
        super().__post_init__()
        if (self.max is None) is (self.p_value is None):
            what = "ks needs a bound" if self.max is None else "max and p_value are two measures"
            raise Fault(what, "give max or p_value", ("max",))
        for name in ("max", "p_value"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise Fault(f"{name} {value} is not a fraction", "write a number from 0 to 1", (name,))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too different."""
        scope.columns([self.column], schema, "column")
        dtype = schema[self.column]
        if not (dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Null):
            what = f"column {self.column!r} is {dtype_name(dtype)}, which has no order to compare"
            raise scope.fault(what, "write psi", "column")
        compare = partial(_distance, probable=self.p_value is not None)
        if self.p_value is None:
            accept, expected = pl.col(VALUE) <= self.max, f"a distance of at most {self.max:g}"
        else:
            accept, expected = pl.col(VALUE) >= self.p_value, f"a probability of at least {self.p_value:g}"
        return [_against_previous(self, schema, scope, compare, accept, f"{expected} against the previous commit")]


def _distance(here: pl.LazyFrame, there: pl.LazyFrame, groups: Sequence[str], *, probable: bool) -> pl.LazyFrame:
    """Return the greatest distance of each group's distribution functions, or how ``probable`` it is."""
    sides = [
        rows.filter(pl.col(_ITEM).is_not_null()).with_columns(
            pl.lit(now, dtype=pl.Int64).alias(_HERE), pl.lit(1 - now, dtype=pl.Int64).alias(_THERE)
        )
        for now, rows in ((1, here), (0, there))
    ]
    counts = pl.concat(sides).group_by(*groups, _ITEM).agg(pl.col(_HERE, _THERE).sum())
    now, before = pl.col(_HERE), pl.col(_THERE)
    # of whole numbers, so that a distance of 9/10 - 7/10 is not more than 0.2
    ours, theirs = (n.sort_by(_ITEM).cum_sum().cast(pl.Float64) * m.sum() for n, m in ((now, before), (before, now)))
    distance = (ours - theirs).abs().max() / (now.sum().cast(pl.Float64) * before.sum())
    found = counts.group_by(groups).agg(distance.alias(VALUE), now.sum(), before.sum())
    value = _probability(pl.col(VALUE), now, before) if probable else pl.col(VALUE)
    return found.with_columns(pl.when((now > 0) & (before > 0)).then(value).alias(VALUE))


def _probability(distance: pl.Expr, first: pl.Expr, second: pl.Expr) -> pl.Expr:
    root = (first / (first + second) * second).sqrt()
    size = (root + 0.12 + 0.11 / root) * distance
    terms = [(1 if k % 2 else -1) * (-2 * k * k * size * size).exp() for k in range(1, 21)]
    # below 0.3 the probability differs from 1 by less than 0.00001, and the series would need more terms
    return pl.when(size < 0.3).then(1.0).otherwise((2 * pl.sum_horizontal(terms)).clip(0, 1))


def _binned(
    here: pl.LazyFrame, there: pl.LazyFrame, groups: Sequence[str], bins: int
) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Return both with the number of the bin in place of the value; of groups that are in both."""
    item = pl.col(_ITEM)
    sides = [rows.with_columns(item.to_physical().cast(pl.Float64)) for rows in (here, there)]
    edges = {f"__lazypipe_edge_{i}": i / bins for i in range(bins)}
    cuts = sides[1].group_by(groups).agg(item.fill_nan(None).quantile(q, "linear").alias(n) for n, q in edges.items())
    above = [item > pl.col(n) for n in list(edges)[1:]]
    # a value so frequent that two quantiles fall on it has a bin of its own, apart from what is below
    tied = [(item >= pl.col(n)) & (pl.col(n) == pl.col(m)) for m, n in pairwise(edges)]
    number = pl.sum_horizontal(e.cast(pl.Int64) for e in (*above, *tied))
    number = pl.when(item.is_nan()).then(-1).when(item.is_not_null()).then(number)
    first, second = (
        rows.join(cuts, on=groups, nulls_equal=True).select(*groups, number.alias(_ITEM)) for rows in sides
    )
    return first, second


def _against_previous(
    rule: Psi | Ks,
    schema: pl.Schema,
    scope: Scope,
    compare: Callable[[pl.LazyFrame, pl.LazyFrame, Sequence[str]], pl.LazyFrame],
    accept: pl.Expr,
    expected: str,
) -> Check:
    """Return the check that holds a column against the rows that the output had before.

    ``compare`` takes rows now and before, with the columns of the groups and ``_ITEM``, and gives a value per group.
    """
    where = None if rule.where is None else rule.bind(rule.where, schema, scope, "where")
    column = rule.column
    subject = rule.subject(column, schema, scope)
    needed = dict.fromkeys([*rule.by, column, *(() if where is None else sorted(columns_of(where)))])
    types = pl.Schema({n: schema[n] for n in needed})
    measure = Measure(
        accept=accept,
        expected=expected,
        query=partial(_now_and_before, by=rule.by, column=column, types=types, where=where, compare=compare),
        frames=(PREVIOUS,),
        by=rule.by,
        columns=(*rule.by, column),
    )
    return rule.check(subject, schema, scope, measure=measure, column=column)


def _now_and_before(
    rows: pl.LazyFrame,
    frames: Mapping[str, pl.LazyFrame],
    *,
    by: Sequence[str],
    column: str,
    types: pl.Schema,
    where: pl.Expr | None,
    compare: Callable[[pl.LazyFrame, pl.LazyFrame, Sequence[str]], pl.LazyFrame],
) -> pl.LazyFrame:
    """Return the value of each group; ``types`` are those of the columns that are needed of the rows before."""
    here = _picked(rows, by, column)
    before = frames.get(PREVIOUS)
    known = pl.Schema() if before is None else before.collect_schema()
    if before is None or not all(n in known and _alike(known[n], dtype) for n, dtype in types.items()):
        there = pl.LazyFrame(schema=here.collect_schema())
    else:
        same = before.select(pl.col(n).cast(dtype, strict=False) for n, dtype in types.items())
        there = _picked(same if where is None else same.filter(where), by, column)
    groups = by or [_GROUP]
    values = compare(here, there, groups)
    # a group that is new has its row, and all rows together have theirs even where there are none
    wanted = here.select(groups).unique() if by else pl.LazyFrame({_GROUP: [0]}, schema={_GROUP: pl.Int32})
    return wanted.join(values, on=groups, how="left", nulls_equal=True).select(*by, VALUE)


def _picked(rows: pl.LazyFrame, by: Sequence[str], column: str) -> pl.LazyFrame:
    groups = [pl.col(n) for n in by] or [pl.lit(0).alias(_GROUP)]
    return rows.select(*groups, pl.col(column).alias(_ITEM))


def _alike(before: pl.DataType, now: pl.DataType) -> bool:
    return before.base_type() == now.base_type() or (before.is_numeric() and now.is_numeric())


Metric = Literal["row_count", "mean", "median", "min", "max", "std", "sum", "completeness", "distinct_count"]
METRICS: tuple[Metric, ...] = (
    "row_count", "mean", "median", "min", "max", "std", "sum", "completeness", "distinct_count",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ZScore(FrameRule):
    """A figure must lie within a number of standard deviations of the mean of earlier runs.

    Each metric treats nulls and NaN as the rule of the same name does; if the figure is NaN, the rule fails. Earlier
    runs that measured nothing (null, NaN, infinity) are ignored, and so are those whose version was rolled back or
    vacuumed. With fewer than ``min_runs`` earlier runs the rule passes. If all of them measured the same figure, only
    that figure passes (to nine digits). The rule belongs in the gate of a stage (or source) whose rows are written to
    a dataset.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"amount": [3.5, 8]}), [{"z_score": {"metric": "mean", "column": "amount"}}]).checks[0]
    <CheckResult pass: z_score:mean amount: 5.75, expected within 3 standard deviations of the mean of the last 20 runs (fail)>
    """

    name: ClassVar[str] = "z_score"
    metric: Metric = arg(choice(*METRICS), "The figure to measure.")
    column: str | None = arg(COLUMN, "The column to measure; required for all metrics but row_count.", default=None)
    max: float = arg(NUMBER, "The largest distance from the mean, in standard deviations.", default=3)
    runs: int = arg(COUNT, "The number of earlier runs to compare with: the most recent ones.", default=20)
    min_runs: int = arg(COUNT, "The number of earlier runs below which the rule passes.", default=3)

    def __post_init__(self) -> None:
        """Check that there is something to measure, and enough to compare it with."""
        super().__post_init__()
        if self.metric not in METRICS:
            raise Fault(f"unknown metric {self.metric!r}", nearest(self.metric, METRICS, "metrics"), ("metric",))
        if (self.column is None) is not (self.metric == "row_count"):
            if self.column is None:
                raise Fault(f"{self.metric} is that of a column", "add column", ("metric",))
            raise Fault("row_count is that of all columns", "remove column", ("column",))
        if not self.max > 0:
            raise Fault(f"nothing is {self.max} standard deviations from a mean", "write a number such as 3", ("max",))
        if self.min_runs < 2:
            raise Fault(f"{self.min_runs} runs have no deviation", "write 2 or more, such as 3", ("min_runs",))
        if self.runs < self.min_runs:
            what = f"runs {self.runs} is less than min_runs {self.min_runs}"
            raise Fault(what, "write a runs of at least min_runs", ("runs",))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too far from what was measured before."""
        figure = self._figure(schema, scope)
        past = pl.col(HISTORY).list.eval(pl.element().filter(pl.element().is_finite()))
        center, deviation = past.list.mean(), past.list.std()
        # a mean of equal floats may differ from them in the last digit
        allowed = self.max * deviation + 1e-9 * center.abs()
        measure = Measure(
            accept=pl.when(past.list.len() >= self.min_runs).then((pl.col(VALUE) - center).abs() <= allowed),
            expected=f"within {self.max:g} standard deviations of the mean of the last {self.runs} runs",
            value=figure.value.cast(pl.Float64),
            parts=figure.parts,
            columns=() if self.column is None else (self.column,),
            history=self.runs,
        )
        subject = self.metric if self.column is None else f"{self.metric} {self.column}"
        return [self.check(subject, schema, scope, measure=measure, column=self.column)]

    def _figure(self, schema: pl.Schema, scope: Scope) -> Figure:
        if self.column is None:
            return figures.row_count()
        scope.columns([self.column], schema, "column")
        column, dtype = self.column, schema[self.column]
        if self.metric == "completeness":
            return figures.share(pl.col(column).is_not_null(), pl.len())
        if self.metric == "distinct_count":
            comparable([column], schema, scope, "column")
            return figures.distinct([column])
        if dtype == pl.Null:
            return figures.nothing()
        if not dtype.is_numeric():
            what = f"column {column!r} is {dtype_name(dtype)}, whose {self.metric} cannot be compared with earlier runs"
            raise scope.fault(what, "name a column of numbers", "column")
        match self.metric:
            case "mean":
                return figures.mean(column, dtype)
            case "median":
                return figures.median(column, dtype)
            case "std":
                return figures.spread(column)
            case "sum":
                return figures.total(column, dtype)
            case _:
                return figures.extreme(column, dtype, least=self.metric == "min")
