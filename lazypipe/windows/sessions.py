"""Sessions: rows that follow each other without a long gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from lazypipe.windows.clock import Clock

__all__ = ["PIECE", "SESSION", "Sessions"]

SESSION = "__lazypipe_session"
"""The column with the number of each session."""
PIECE = "__lazypipe_piece"
"""The column with the number of each piece of a session."""
_BEFORE, _FIRST = "__lazypipe_before", "__lazypipe_first"


@dataclass(frozen=True)
class Sessions:
    """Rows of a group belong together as long as each comes at most ``gap`` ticks after the one before.

    What lasts ``longest`` ticks or more is cut each ``longest`` from its first row on.

    Examples
    --------
    >>> visits = pl.LazyFrame({"t": [16, 0, 5]}).cast(pl.Datetime("ms"))
    >>> told = Sessions(Clock(pl.Datetime("ms")), gap=10).told_apart(visits, [], "t")
    >>> told.cast(pl.Int64).collect().rows()
    [(0, 1, 0), (5, 1, 0), (16, 2, 0)]
    """

    clock: Clock
    gap: int
    longest: int | None = None

    def told_apart(self, rows: pl.LazyFrame, by: Sequence[str], time: str) -> pl.LazyFrame:
        """Return rows in the order of their group and time, each with its session and its piece of that."""
        ticks = self.clock.ticks(pl.col(time))
        return self._numbered(_sorted(rows, by, time), by, ticks, ticks.shift(1))

    def put_together(self, parts: pl.LazyFrame, by: Sequence[str], first: str, last: str) -> pl.LazyFrame:
        """Return the sessions of parts of the rows, each with the number of the whole session that it belongs to."""
        reach = self.clock.ticks(pl.col(last)).cum_max().shift(1)
        ordered = _sorted(parts, by, first).with_columns((reach.over(by) if by else reach).alias(_BEFORE))
        return self._numbered(ordered, by, self.clock.ticks(pl.col(first)), pl.col(_BEFORE)).drop(_BEFORE)

    def _numbered(self, ordered: pl.LazyFrame, by: Sequence[str], ticks: pl.Expr, before: pl.Expr) -> pl.LazyFrame:
        other = (pl.col(name).ne_missing(pl.col(name).shift(1)) for name in by)
        begins = pl.any_horizontal(before.is_null(), *other, ticks - before > self.gap)
        if self.longest is None:
            return ordered.with_columns(
                begins.cast(pl.Int64).cum_sum().alias(SESSION), pl.lit(0, dtype=pl.Int64).alias(PIECE)
            )
        numbered = ordered.with_columns(
            begins.cast(pl.Int64).cum_sum().alias(SESSION), pl.when(begins).then(ticks).forward_fill().alias(_FIRST)
        )
        return numbered.with_columns(((ticks - pl.col(_FIRST)) // self.longest).alias(PIECE)).drop(_FIRST)


def _sorted(rows: pl.LazyFrame, by: Sequence[str], time: str) -> pl.LazyFrame:
    return rows.sort(*by, time)
