"""Rules on how the values of a column are distributed: ``outliers``, ``kl_divergence``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal

import polars as pl

from lazypipe.gates.figures import Figure
from lazypipe.gates.frame_rule import GroupedRule, bounds, fraction, percent, typed
from lazypipe.gates.rule import VALUE, Check, Measure
from lazypipe.gates.rules.helpers import NUMBERS, ORDERED, fitting, namable, one_of
from lazypipe.gates.written import literal
from lazypipe.spec.arguments import BOUND, COLUMN, FRACTION, NUMBER, SCALARS, Kind, arg, choice
from lazypipe.spec.model import Fault, freeze
from lazypipe.spec.scope import Scope

_ITEM = "__lazypipe_item"
_TIMES = "__lazypipe_times"

Side = Literal["both", "above", "below"]
_SIDES = ("both", "above", "below")


@dataclass(frozen=True, kw_only=True)
class Outliers(GroupedRule):
    """At most a fraction of the values may lie ``z`` or more sample standard deviations from the mean. Nulls are ignored.

    Mean and standard deviation are those of all checked values, or with ``by`` of those in the group. If all values
    are equal, there are no outliers. Without values the rule passes. With a NaN or an infinity there is no mean, and
    the rule fails.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"a": [1] * 99 + [50, None]})
    >>> report = lp.check(frame, [{"outliers": {"column": "a"}}, {"outliers": {"column": "a", "max": "1%"}}])
    >>> [(c.value, c.status) for c in report.checks]
    [(0.01, 'fail'), (0.01, 'pass')]
    """

    name: ClassVar[str] = "outliers"
    column: str = arg(COLUMN, "The column to check.")
    z: float = arg(NUMBER, "The number of standard deviations from which a value is an outlier.", default=3)
    side: Side = arg(choice(*_SIDES), "The side of the mean on which outliers count.", default="both")
    max: Any = arg(BOUND, "The largest fraction of values that may be outliers: 0.01 or 1%.", default=0)

    def __post_init__(self) -> None:
        """Check the distance and the part."""
        super().__post_init__()
        if not 0 < self.z < math.inf:
            raise Fault(f"no value is far from a mean at {self.z} deviations", "write a number such as 3", ("z",))
        one_of(self.side, _SIDES, "side")
        fraction(self.max, "max")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too great a part is far."""
        column, dtype = fitting(self.column, schema, scope, NUMBERS, "column")
        values = column.cast(pl.Float64)
        off = values - values.mean()
        off = off.abs() if self.side == "both" else off if self.side == "above" else -off
        # the mean of equal floats may differ from them in the last digit
        far = (off >= self.z * values.std()) & (values.max() > values.min())
        part: pl.Expr = pl.when(values.count() > 0).then(far.sum() / values.count())
        if dtype.is_float():
            part = pl.when(values.is_finite().all()).then(part).otherwise(float("nan"))
        most = float(fraction(self.max, "max"))
        allowed = bounds(scope, pl.Float64(), "a part of values", most=most, show=percent)
        subject, of = f"{self.column} {self.side} {self.z:g}", [self.column]
        return [self.measured(subject, schema, scope, Figure(part), allowed, columns=of, column=self.column)]


_WEIGHTS = Kind({"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 1}, freeze)
_EDGES = Kind({"type": "array", "items": BOUND.schema, "minItems": 1}, freeze)


@dataclass(frozen=True, kw_only=True)
class KlDivergence(GroupedRule):
    """The Kullback–Leibler divergence of a column from given weights must be small. Nulls are ignored; without values the rule passes.

    The divergence is the sum over bins of ``p * ln(p / q)``. Here ``p`` is the fraction of values in a bin, and ``q``
    the bin's weight as a fraction of all weights. 0 means that the distributions are equal (S. Kullback, R. A.
    Leibler, 1951).

    Give the weights of ``values``, or of the bins that the edges in ``bins`` form: one more weight than there are
    edges, because the first and last bin are open. As in histograms, a value on an edge belongs to the bin above it,
    and on the last edge to the bin below it. A value without a weight, such as one that is not listed, or NaN with
    bins, makes the divergence infinite. With ``rest``, the values that are not listed share that fraction equally,
    and the listed weights are scaled down to make room for it.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"kl_divergence": {"column": "a", "values": ["x", "y"], "weights": [0.75, 0.25], "max": 0.1}},
    ...     {"kl_divergence": {"column": "n", "bins": [0, 10], "weights": [0, 1, 0], "max": 0.1}}]
    >>> report = lp.check(pl.DataFrame({"a": ["x", "x", "y", "y"], "n": [0, 5, 10, 11]}), rules)
    >>> [(round(c.value, 6), c.status) for c in report.checks]
    [(0.143841, 'fail'), (inf, 'fail')]
    """

    name: ClassVar[str] = "kl_divergence"
    column: str = arg(COLUMN, "The column to check.")
    weights: tuple[float, ...] = arg(_WEIGHTS, "The expected frequency of each value or bin, as fractions or counts.")
    max: float = arg(NUMBER, "The largest divergence allowed.")
    values: tuple[Any, ...] | None = arg(SCALARS, "The values that the weights belong to.", default=None)
    bins: tuple[Any, ...] | None = arg(_EDGES, "Instead of values: edges between bins, ascending.", default=None)
    rest: float = arg(FRACTION, "The expected fraction of all values that are not listed in values.", default=0)

    def __post_init__(self) -> None:
        """Check that each weight is that of something."""
        super().__post_init__()
        if (self.values is None) is (self.bins is None):
            raise Fault("weights are those of values, or of bins", "give values or bins", ("weights",))
        named, more = (self.values, 0) if self.values is not None else (self.bins, 1)
        assert named is not None
        if len(self.weights) != len(named) + more:
            what = f"{len(named)} {'edges part' if more else 'values have'} {len(named) + more} weights, not {len(self.weights)}"
            raise Fault(
                what, "write a weight for each value, or for each bin, including the two beyond the edges", ("weights",)
            )
        if any(isinstance(edge, float) and math.isnan(edge) for edge in self.bins or ()):
            raise Fault("NaN is not an edge", "write a number", ("bins",))
        if not (all(0 <= w < math.inf for w in self.weights) and sum(self.weights) > 0):
            raise Fault("weights are parts of something", "write numbers from 0, some of them above it", ("weights",))
        if not self.max >= 0:
            raise Fault(f"no divergence is at most {self.max}", "write a number such as 0.1", ("max",))
        if not 0 <= self.rest < 1:
            raise Fault(f"rest {self.rest} leaves nothing to the values", "write a number from 0 to below 1", ("rest",))
        if self.rest and more:
            raise Fault("every number is in a bin, and none in the rest", "remove rest", ("rest",))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too different."""
        scope.columns([self.column], schema, "column")
        item, places = self._places(schema, scope)
        whole, at = sum(self.weights), pl.col(_ITEM)
        weight = pl.coalesce(
            pl.when(at == place).then(pl.lit(w / whole)) for place, w in zip(places, self.weights, strict=True)
        )
        measure = Measure(
            accept=pl.col(VALUE) <= self.max,
            expected=f"a divergence of at most {self.max:g}",
            query=partial(_divergence, by=self.by, item=item, weight=weight, rest=float(self.rest)),
            by=self.by,
            columns=(*self.by, self.column),
        )
        return [
            self.check(self.subject(self.column, schema, scope), schema, scope, measure=measure, column=self.column)
        ]

    def _places(self, schema: pl.Schema, scope: Scope) -> tuple[pl.Expr, list[pl.Expr]]:
        """Return what rows are counted by, and what of that has the weights, in their order."""
        said = f"column {self.column!r}"
        if self.values is not None:
            namable(self.column, schema, scope)
            wanted = typed(self.values, schema[self.column], scope, "values", said)
            if wanted.n_unique() < len(wanted):
                raise scope.fault("a value is listed twice in values", "name each value once", "values")
            return pl.col(self.column), [literal(wanted[i : i + 1]) for i in range(len(wanted))]
        assert self.bins is not None
        column, dtype = fitting(self.column, schema, scope, ORDERED, "column")
        # one by one: whole numbers and others make no series
        edges = [typed([edge], dtype, scope, "bins", said) for edge in self.bins]
        if not all(low[0] < high[0] for low, high in pairwise(edges)):
            raise scope.fault("bins are not in order", "write their edges from the least to the greatest", "bins")
        *inner, last = map(literal, edges)
        number = pl.sum_horizontal(*((column >= edge).cast(pl.Int64) for edge in inner), (column > last).cast(pl.Int64))
        number = pl.when(column.is_not_null()).then(number)
        if dtype.is_float():
            number = pl.when(column.is_nan()).then(-1).otherwise(number)
        return number, [pl.lit(i) for i in range(len(self.weights))]


def _divergence(
    rows: pl.LazyFrame,
    _: Mapping[str, pl.LazyFrame],
    *,
    by: Sequence[str],
    item: pl.Expr,
    weight: pl.Expr,
    rest: float,
) -> pl.LazyFrame:
    """Return the divergence of each group from the ``weight`` of each item."""
    times, other = pl.col(_TIMES), weight.is_null()
    counts = rows.select(*by, item.alias(_ITEM)).group_by(*by, _ITEM).agg(pl.col(_ITEM).count().alias(_TIMES))
    counted = times.filter(times > 0)
    others = (other & (times > 0)).sum()
    expected = pl.when(other).then(rest / others).otherwise(weight * pl.when(others > 0).then(1 - rest).otherwise(1.0))
    part = counted / counted.sum()
    found = pl.when(counted.len() > 0).then((part * (part / expected.filter(times > 0)).log()).sum()).alias(VALUE)
    return counts.group_by(by).agg(found) if by else counts.select(found)
