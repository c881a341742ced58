"""Values of whole frames: added up batch by batch where possible, otherwise computed over all rows."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from lazypipe.gates.report import CheckResult, judge
from lazypipe.gates.rule import HISTORY, VALUE, Check, Measure
from lazypipe.gates.shown import MASKED, records

__all__ = ["Sum", "measured", "verdict"]

_SHOWN = 10
"""Failing groups that a report names."""
_COMPACT = 100_000
"""Rows of partial figures (one per batch and group) above which they are merged while rows still flow."""


class Sum:
    """Adds up the parts of one check's measure, batch by batch; thread-safe."""

    def __init__(self, check: Check) -> None:
        assert check.measure is not None
        self._check = check
        self._measure = check.measure
        self._lock = threading.Lock()
        self._figures: list[pl.DataFrame] = []

    def add(self, batch: pl.DataFrame) -> None:
        """Take a batch's rows into account, those that ``where`` lets through."""
        rows = batch if self._check.where is None else batch.filter(self._check.where)
        over = [p.over.alias(p.name) for p in self._measure.parts]
        found = rows.group_by(self._measure.by).agg(over) if self._measure.by else rows.select(over)
        with self._lock:
            self._figures.append(found)
            if sum(f.height for f in self._figures) > _COMPACT:
                self._figures = [self._merged()]

    def value(self, schema: pl.Schema) -> pl.DataFrame:
        """Return the groups and the value of each; ``schema`` is that of the rows, even if there were none."""
        if not self._figures:
            self.add(pl.DataFrame(schema=schema))
        assert self._measure.value is not None
        return self._merged().select(*self._measure.by, self._measure.value.alias(VALUE))

    def _merged(self) -> pl.DataFrame:
        figures = pl.concat(self._figures)
        merge = [p.merge.alias(p.name) for p in self._measure.parts]
        return figures.group_by(self._measure.by).agg(merge) if self._measure.by else figures.select(merge)


def measured(check: Check, rows: pl.LazyFrame, frames: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """Return a frame of the groups and the value of each, asked of all rows at once."""
    measure = check.measure
    assert measure is not None
    rows = rows if check.where is None else rows.filter(check.where)
    if measure.query is not None:
        return measure.query(rows, frames)
    assert measure.value is not None
    parts = [p.over.alias(p.name) for p in measure.parts]
    if not parts:
        value = measure.value.alias(VALUE)
        return rows.group_by(measure.by).agg(value) if measure.by else rows.select(value)
    figures = rows.group_by(measure.by).agg(parts) if measure.by else rows.select(parts)
    return figures.select(*measure.by, measure.value.alias(VALUE))


def verdict(
    check: Check, values: pl.DataFrame, history: Sequence[Any] = (), masked: Collection[str] = ()
) -> CheckResult:
    """Compare measured values with what is accepted; those of ``masked`` columns are not reported."""
    measure: Measure | None = check.measure
    assert measure is not None
    past = [float(v) for v in history if v is not None][-measure.history :] if measure.history else []
    rows = values.with_columns(pl.lit(past, dtype=pl.List(pl.Float64)).alias(HISTORY))
    failed = rows.filter(~measure.accept.fill_null(value=True))
    shown = failed.sort(measure.by).head(_SHOWN) if measure.by else failed.clear()
    hidden = {*masked, VALUE} if any(name in masked for name in measure.holds) else {*masked}
    value = next((row[VALUE] for row in records(values.select(VALUE).head(1))), None) if not measure.by else None
    return judge(
        check,
        values.height,
        failed.height,
        value=MASKED if value is not None and VALUE in hidden else value,
        expected=measure.expected,
        groups=tuple(
            {k: MASKED if k in hidden else v for k, v in row.items()}
            for row in records(shown.select(*measure.by, VALUE))
        ),
    )
