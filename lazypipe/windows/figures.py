"""Partial aggregates without their windows: which windows a change in them affects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import polars as pl

__all__ = ["Figures", "Spread"]


class Figures(Protocol):
    """The figures that a run has."""

    @property
    def came(self) -> pl.LazyFrame:
        """Those of parts that came."""

    @property
    def stayed(self) -> pl.LazyFrame:
        """Those of parts that stay in the output."""

    @property
    def left(self) -> pl.LazyFrame:
        """Those of parts that were removed."""

    def of(self, places: pl.DataFrame) -> pl.LazyFrame:
        """Return the current figures that have given values in their lookup columns; all figures if there are no such columns."""


class Spread(Protocol):
    """How to find the groups that partial aggregates belong to if no column says it: one counts in several groups, or depends on others."""

    @property
    def places(self) -> tuple[str, ...]:
        """The columns of partial aggregates that identify their groups, besides those that groups have too."""

    def touched(
        self,
        figures: Figures,
        by: Sequence[str],
        looked_up: Sequence[pl.LazyFrame],
        held: tuple[pl.Expr, pl.Expr] | None,
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the groups whose partial aggregates were added or removed, or that are ``looked_up`` besides, and how ``rows`` finds them.

        ``by`` are the columns that identify groups. ``held`` has two conditions: which groups were in the output before, and which are now.
        Groups for which neither is true are left out; those for which exactly one is true have changed.
        """

    def rows(self, figures: Figures, touched: pl.DataFrame) -> pl.LazyFrame:
        """Return the partial aggregates of changed groups, perhaps with some that ``held`` excludes."""
