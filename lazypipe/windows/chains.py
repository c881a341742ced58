"""Sessions put together from partial sessions: which of them change when parts are added or removed, or event time advances.

What touches, of all parts that there are and were, is a chain. Each session lies in one of them, as it is and as it was. A chain in which
nothing came or went is one session, and the same as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from lazypipe.windows.figures import Figures
from lazypipe.windows.sessions import PIECE, SESSION, Sessions

__all__ = ["Chains"]

_OLD, _NEW = "__lazypipe_old", "__lazypipe_new"
"""Whether a part was there before, and whether it is now."""
_LOW, _HIGH = "__lazypipe_low", "__lazypipe_high"
"""Between which ticks parts of a group are looked at."""
_WIDER = 16
"""How many times as far chains are followed if they go on."""
_FAR = 1 << 62
"""Ticks beyond those of times that there are."""
_SEED, _CHANGED, _CHAIN = "__lazypipe_seed", "__lazypipe_changed", "__lazypipe_chain"


@dataclass(frozen=True)
class Chains:
    """Figures of sessions of parts, with the times of their ``first`` and ``last`` row, in groups ``by`` columns.

    ``start`` and ``end`` are what these times are called in sessions; ``merge`` makes rows of figures that know their session.
    """

    sessions: Sessions
    by: tuple[str, ...]
    first: str
    last: str
    start: str
    end: str
    merge: Callable[[pl.LazyFrame], pl.LazyFrame]

    @property
    def places(self) -> tuple[str, ...]:
        """The columns of figures that say where their session lies."""
        return self.first, self.last

    def touched(
        self,
        figures: Figures,
        by: Sequence[str],
        looked_up: Sequence[pl.LazyFrame],
        held: tuple[pl.Expr, pl.Expr] | None,
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the sessions in chains that changed, as they were and are, and those that are due; and the places of all figures in these chains."""
        was, now = (pl.lit(value=True), pl.lit(value=True)) if held is None else held
        seeds = self._seeds(figures, looked_up, held)
        old, new = pl.lit(value=True).alias(_OLD), pl.lit(value=True).alias(_NEW)
        parts = pl.concat(
            [
                figures.came.with_columns(~old, new),
                figures.stayed.with_columns(old, new),
                figures.left.with_columns(old, ~new),
            ]
        )
        members = self._members(parts.select(*self.by, *self.places, _OLD, _NEW), seeds).lazy()
        found = []
        for there, is_held in ((_OLD, was), (_NEW, now)):
            whole = self._put_together(members.filter(there)).group_by(SESSION)
            ends = (pl.col(self.first).min().alias(self.start), pl.col(self.last).max().alias(self.end))
            made = whole.agg(*(pl.col(n).first() for n in (*self.by, _CHAIN)), *ends, pl.col(_CHANGED).any())
            found.append(made.filter(is_held, pl.col(_CHANGED) | (was != now)).select(*by, _CHAIN))
        touched = pl.concat(found).unique().collect()
        those = members.filter(_NEW).join(touched.lazy(), on=_CHAIN, how="semi").select(*self.by, *self.places)
        return touched.select(by).unique(), those.unique().collect()

    def rows(self, figures: Figures, touched: pl.DataFrame) -> pl.LazyFrame:
        """Return the sessions that figures with some places make, which are all of those in their chains."""
        return self.merge(self._put_together(figures.of(touched)))

    def _seeds(
        self, figures: Figures, looked_up: Sequence[pl.LazyFrame], held: tuple[pl.Expr, pl.Expr] | None
    ) -> pl.DataFrame:
        """Return where chains are touched: by what came or left, by what is looked up besides, and where a session may end that is due."""
        columns = [*self.by, *self.places]
        ends = {self.start: self.first, self.end: self.last}
        came = [of.select(columns) for of in (figures.came, figures.left)]
        came += [of.select(*self.by, *ends).rename(ends) for of in looked_up]
        seeds = [of.with_columns(pl.lit(value=True).alias(_CHANGED)) for of in came]
        if held is not None:
            was, now = held
            there = pl.concat([figures.came, figures.stayed])
            # a session begins, and ends, as one of its figures does, but perhaps not as one and the same
            if not {*ends} <= {*was.meta.root_names(), *now.meta.root_names()}:
                there = there.with_columns(pl.col(column).alias(name) for name, column in ends.items()).filter(
                    was != now
                )
            seeds.append(there.select(columns).with_columns(pl.lit(value=False).alias(_CHANGED)))
        return pl.concat(seeds).unique().collect(engine="streaming")

    def _members(self, parts: pl.LazyFrame, seeds: pl.DataFrame) -> pl.DataFrame:
        """Return the parts in chains with any of some seeds; of each group those near its seeds are looked at, and more only if chains go on."""
        gap = reach = self.sessions.gap
        first, last = (self.sessions.clock.ticks(pl.col(n)) for n in self.places)
        while True:
            reach *= _WIDER
            low, high, none = first.min(), last.max(), pl.lit(None, dtype=pl.Int64)
            bounded = reach < _FAR  # beyond that nothing is left out
            cuts = (
                (pl.when(low > reach - _FAR).then(low - reach) if bounded else none).alias(_LOW),
                (pl.when(high < _FAR - reach).then(high + reach) if bounded else none).alias(_HIGH),
            )
            ends = seeds.group_by(self.by).agg(cuts) if self.by else seeds.select(cuts)
            if self.by:
                near = parts.join(ends.lazy(), on=self.by, nulls_equal=True)
            else:
                near = parts.with_columns(pl.lit(ends[n].item(), dtype=pl.Int64).alias(n) for n in (_LOW, _HIGH))
            near = near.filter(
                (last >= pl.col(_LOW)).fill_null(value=True), (first <= pl.col(_HIGH)).fill_null(value=True)
            )
            found = self._chained(near, seeds).rename({SESSION: _CHAIN}).drop(PIECE).collect(engine="streaming")
            # nothing that is left out reaches a chain that ends by a gap before what is
            whole = found.select((first - gap >= pl.col(_LOW)).all() & (last + gap <= pl.col(_HIGH)).all()).item()
            if whole:
                return found.drop(_LOW, _HIGH)

    def _chained(self, parts: pl.LazyFrame, seeds: pl.DataFrame) -> pl.LazyFrame:
        """Return the parts in chains with any of some seeds, each with its chain, and whether one of these seeds says that it changed."""
        seed = pl.lit(value=True).alias(_SEED)
        those = seeds.lazy().with_columns(seed)
        numbered = self._put_together(pl.concat([parts.with_columns(~seed), those], how="diagonal"))
        changed = (pl.col(_SEED) & pl.col(_CHANGED)).any().over(SESSION).alias(_CHANGED)
        numbered = numbered.filter(pl.col(_SEED).any().over(SESSION)).with_columns(changed)
        return numbered.filter(~pl.col(_SEED)).drop(_SEED)

    def _put_together(self, parts: pl.LazyFrame) -> pl.LazyFrame:
        return self.sessions.put_together(parts, self.by, self.first, self.last)
