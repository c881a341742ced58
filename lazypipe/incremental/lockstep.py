"""Two tables read side by side in one pass: equal rows cancel out, and the rest are the rows that differ.

Rows come with a hash of theirs. Those at the same place with the same hash cancel. Where rows were put in or taken out, the rest is
moved: then all rows that are held of both sides are compared, and what has no partner is taken out, so that the places agree again. Any
order of rows gives a right answer; if they come in very different ones, too many would have to be held, and there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

__all__ = ["KEY", "ROW", "Left", "lockstep"]

KEY, ROW = "__lazypipe_key", "__lazypipe_row"
"""The hashes of a row's key, and of all of it."""

HELD = 500_000
"""Rows that are held at most, of both sides."""

_BATCH = 100_000
_FEW = 50
"""If of so many rows at the same places one differs, or less, they were changed; otherwise they were moved."""


@dataclass(frozen=True)
class Left:
    """The rows that only one side has, with their hashes; the hashes of the keys of all others; how many rows the second side has."""

    one: pl.DataFrame
    other: pl.DataFrame
    keys: pl.Series
    rows: int


def lockstep(one: pl.LazyFrame, other: pl.LazyFrame) -> Left | None:
    """Return what differs between two tables with hashes; None if the order of their rows differs too much to tell."""
    left, right = _Reading(one), _Reading(other)
    keys = []
    while not (left.ended and right.ended):
        behind = min((s for s in (left, right) if not s.ended), key=lambda side: side.rows)
        behind.read()
        keys.append(_settle(left, right))
        if left.held + right.held > HELD:
            return None
    here, there = left.rest(), right.rest()
    alone, alone_there = _alone(here[ROW], there[ROW])
    keys.append(here[KEY].filter(~alone))
    return Left(here.filter(alone), there.filter(alone_there), pl.concat(keys), right.rows)


class _Reading:
    """One side: what was read and is not compared, and what has no partner."""

    def __init__(self, frame: pl.LazyFrame) -> None:
        self.buffer = frame.collect_schema().to_frame()
        self.rows = 0
        self.ended = False
        self._differing = [self.buffer]
        self._batches: Iterator[pl.DataFrame] = iter(
            frame.collect_batches(chunk_size=_BATCH, maintain_order=True, engine="streaming")
        )

    @property
    def held(self) -> int:
        """How many rows are held."""
        return self.buffer.height + sum(f.height for f in self._differing)

    def read(self) -> None:
        """Take one batch more."""
        batch = next(self._batches, None)
        if batch is None:
            self.ended = True
        else:
            self.rows += batch.height
            self.buffer = pl.concat([self.buffer, batch]) if self.buffer.height else batch

    def take(self, count: int, differs: pl.Series) -> None:
        """Take so many rows off the buffer; keep those that differ."""
        places = differs.slice(0, count).arg_true()
        if len(places):  # few: they are picked, as a filter would go through all columns
            self._differing.append(self.buffer[places])
        self.buffer = self.buffer.slice(count)

    def rest(self) -> pl.DataFrame:
        """Return all rows that have found no partner."""
        return pl.concat([*self._differing, self.buffer])


def _settle(one: _Reading, other: _Reading) -> pl.Series:
    """Compare what both sides have read; return the hashes of keys of rows that cancel."""
    count = min(one.buffer.height, other.buffer.height)
    here, there = one.buffer, other.buffer
    differs = here[ROW].slice(0, count) != there[ROW].slice(0, count)
    if int(differs.sum()) * _FEW <= count:
        one.take(count, differs)
        other.take(count, differs)
        return here[KEY].slice(0, count).filter(~differs)
    alone = _alone(here[ROW], there[ROW])
    for side, unmatched in zip((one, other), alone, strict=True):
        # what comes behind all that cancels may have its partner in rows to come
        matched = (~unmatched).arg_true()
        side.take(int(matched[-1]) + 1 if len(matched) else 0, unmatched)
    return here[KEY].filter(~alone[0])


def _alone(one: pl.Series, other: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return which rows of both sides have no partner on the other one; of equal rows the last ones."""
    if one.n_unique() == len(one) and other.n_unique() == len(
        other
    ):  # as a rule; numbering rows costs a hundred times as much
        return ~one.is_in(other.implode()), ~other.is_in(one.implode())
    sides = [pl.DataFrame({ROW: s}) for s in (one, other)]
    counts = [f.group_by(ROW).len("times") for f in sides]
    place = pl.int_range(pl.len()).over(ROW)
    found = [
        mine.select(ROW, place=place)
        .join(theirs, on=ROW, how="left", maintain_order="left")
        .select(pl.col("place") >= pl.col("times").fill_null(0))
        .to_series()
        for mine, theirs in zip(sides, reversed(counts), strict=True)
    ]
    return found[0], found[1]
