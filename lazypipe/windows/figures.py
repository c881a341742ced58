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
        """Those of parts that stay."""

    @property
    def left(self) -> pl.LazyFrame:
        """Those of parts that went."""

    def of(self, places: pl.DataFrame) -> pl.LazyFrame:
        """Return the current figures that have given values in their lookup columns; all figures if there are no such columns."""


class Spread(Protocol):
    """How to find the groups that figures belong to where no column says it: a figure counts in several groups, or depends on others."""

    @property
    def places(self) -> tuple[str, ...]:
        """The columns of figures that tell their groups, besides those that groups have too."""

    def touched(
        self,
        figures: Figures,
        by: Sequence[str],
        looked_up: Sequence[pl.LazyFrame],
        held: tuple[pl.Expr, pl.Expr] | None,
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the groups whose partial aggregates were added or removed, or that are ``looked_up`` besides, and how ``rows`` finds them.

        ``by`` are the columns that tell them apart. By ``held`` groups were there, and are, where others were not, or are not: these are
        left out, and those of which just one of the two holds are touched.
        """

    def rows(self, figures: Figures, touched: pl.DataFrame) -> pl.LazyFrame:
        """Return the rows of touched groups, perhaps with some that ``held`` rules out."""
