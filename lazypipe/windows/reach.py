"""How far a changed row of the other side of a join reaches: which rows on this side may match it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import polars as pl

from lazypipe.windows.clock import Clock

__all__ = ["Extent", "Reach"]

Extent: TypeAlias = tuple[int | float, int | float]
"""The first and the last place of some rows, both among them."""

_MANY = 16
"""Stretches by which files are skipped; more are taken for one."""

_ALL, _LOW, _HIGH = "__lazypipe_all", "__lazypipe_low", "__lazypipe_high"
_PLACE, _BEFORE, _AFTER = "__lazypipe_place", "__lazypipe_previous", "__lazypipe_following"
_MOST = 1.7976931348623157e308
_ENDS: Mapping[pl.DataType, tuple[float, float]] = {
    pl.Float64(): (-_MOST, _MOST),
    pl.Int64(): (-(2**63), 2**63 - 1),
    pl.Int128(): (-(2**127), 2**127 - 1),
}
# microseconds from the year 1 to 9999, which Python's times reach
_PYTHON = (-62_135_596_800_000_000, 253_402_300_799_999_999)


@dataclass(frozen=True)
class Reach:
    """Rows there at a place reach rows here from ``before`` it to ``after`` it, None being any distance, of equal ``by``.

    With ``previous``, no further down than the row there that comes before them, with ``following``, no further up than the one that
    comes after: what lies beyond has a nearer one. Both ends count, so that a few rows more may be found, and none less.

    Parameters
    ----------
    here, there
        The columns with the places of both sides: times, or numbers of the type ``dtype``.
    by_here, by_there
        The columns that must be equal.

    Examples
    --------
    >>> reach = Reach("t", "u", pl.Int64(), before=0, after=None, following=True)
    >>> here, there = pl.LazyFrame({"t": [1, 3, 5, 7, 9]}), pl.LazyFrame({"u": [2, 8]})
    >>> found = reach.touched(here, there.head(0), came=pl.LazyFrame({"u": [4]}))
    >>> found.collect().to_series().to_list(), reach.touched(here, there, went=[(4, 4)]).collect().to_series().to_list()
    ([5, 7, 9], [5, 7])
    """

    here: str
    there: str
    dtype: pl.DataType
    before: int | float | None
    after: int | float | None
    previous: bool = False
    following: bool = False
    by_here: tuple[str, ...] = ()
    by_there: tuple[str, ...] = ()

    @staticmethod
    def takes(dtype: pl.DataType) -> bool:
        """Whether distances between values of a type can be computed."""
        return isinstance(dtype, pl.Date | pl.Datetime) or dtype.is_integer() or dtype in (pl.Float32, pl.Float64)

    def extents(self, rows: pl.LazyFrame, apart: str) -> dict[int, Extent]:
        """Return the first and the last place of rows there, for each value of a column; none where they have no place."""
        places = rows.select(pl.col(apart), self._place(self.there).alias(_PLACE)).filter(self._has_place)
        found = places.group_by(apart).agg(pl.min(_PLACE).alias(_LOW), pl.max(_PLACE).alias(_HIGH))
        return {unit: (low, high) for unit, low, high in found.collect(engine="streaming").iter_rows()}

    def touched(
        self,
        rows: pl.LazyFrame,
        stays: pl.LazyFrame,
        *,
        came: pl.LazyFrame | None = None,
        went: Sequence[Extent] = (),
    ) -> pl.LazyFrame:
        """Return the rows here that may be put beside others.

        Parameters
        ----------
        rows
            Those here.
        stays
            The rows there that were there, and still are.
        came
            The rows that came there.
        went
            Between which places rows went there, of whatever ``by``.
        """
        place, extents = pl.col(_PLACE), []
        if came is not None:
            extents.append(self._told(came).select(*self._keys, place.alias(_LOW), place.alias(_HIGH)).unique())
        if went:
            ends = pl.LazyFrame(list(went), schema={_LOW: self._type, _HIGH: self._type}, orient="row")
            groups = self._keyed(rows, self.by_here).select(self._keys).unique()
            extents.append(groups.join(ends, how="cross"))
        bounds = self._bounds(pl.concat(extents), stays).collect(engine="streaming")
        names = rows.collect_schema().names()
        beside = self._keyed(rows.filter(self._within(bounds)), self.by_here)
        beside = beside.with_columns(self._place(self.here).alias(_PLACE)).filter(self._has_place)
        # of all that begin before a row, the one that ends last
        last = bounds.sort(_LOW).select(*self._keys, _LOW, pl.col(_HIGH).cum_max().over(self._keys))
        found = self._beside(beside, last.lazy(), _PLACE, _LOW, "backward")
        return found.filter(place <= pl.col(_HIGH)).select(names)

    @property
    def _keys(self) -> list[str]:
        """The columns that bounds have, besides themselves, to be joined on."""
        return [*(f"__lazypipe_by_{number}" for number in range(len(self.by_there))), _ALL]

    def _keyed(self, rows: pl.LazyFrame, by: Sequence[str]) -> pl.LazyFrame:
        named = [pl.col(name).alias(key) for name, key in zip(by, self._keys, strict=False)]
        return rows.with_columns(*named, pl.lit(0, dtype=pl.Int64).alias(_ALL))

    def _told(self, there: pl.LazyFrame) -> pl.LazyFrame:
        """Return rows there as keys and places."""
        rows = self._keyed(there, self.by_there).select(*self._keys, self._place(self.there).alias(_PLACE))
        return rows.filter(self._has_place)

    @property
    def _type(self) -> pl.DataType:
        """The type of places."""
        return pl.Float64() if self.dtype.is_float() else pl.Int64() if self.dtype.is_temporal() else pl.Int128()

    def _beside(
        self,
        rows: pl.LazyFrame,
        other: pl.LazyFrame,
        here: str,
        there: str,
        strategy: Literal["backward", "forward"],
        *,
        exact: bool = True,
    ) -> pl.LazyFrame:
        """Put the nearest of some rows beside others of their group."""
        return rows.sort(here).join_asof(
            other.sort(there),
            left_on=here,
            right_on=there,
            by=self._keys[:-1] or None,
            strategy=strategy,
            allow_exact_matches=exact,
            check_sortedness=False,
        )

    def _bounds(self, extents: pl.LazyFrame, stays: pl.LazyFrame) -> pl.LazyFrame:
        """Return from where to where rows here are reached, per group."""
        least, most = pl.lit(_ENDS[self._type][0], dtype=self._type), pl.lit(_ENDS[self._type][1], dtype=self._type)
        low = least if self.before is None else pl.col(_LOW) - self.before
        high = most if self.after is None else pl.col(_HIGH) + self.after
        if self.previous:
            others = self._told(stays).select(*self._keys, pl.col(_PLACE).alias(_BEFORE), _PLACE)
            extents = self._beside(extents, others.drop(_ALL), _LOW, _PLACE, "backward", exact=False)
            low = pl.max_horizontal(low, _BEFORE)  # null is passed over
        if self.following:
            others = self._told(stays).select(*self._keys, pl.col(_PLACE).alias(_AFTER), _PLACE)
            extents = self._beside(extents, others.drop(_ALL), _HIGH, _PLACE, "forward", exact=False)
            high = pl.min_horizontal(high, _AFTER)
        return extents.select(*self._keys, low.cast(self._type).alias(_LOW), high.cast(self._type).alias(_HIGH))

    def _within(self, bounds: pl.DataFrame) -> pl.Expr:
        """Return whether a row may lie within any of some bounds, in a form by which files are skipped."""
        if not bounds.height:
            return pl.lit(value=False)
        ordered = bounds.sort(_LOW).select(_LOW, pl.col(_HIGH).cum_max())
        apart = (pl.col(_LOW) > pl.col(_HIGH).shift(1)).fill_null(value=False).cum_sum()
        merged = ordered.group_by(apart.alias(_ALL)).agg(pl.min(_LOW), pl.max(_HIGH))
        if merged.height > _MANY:
            merged = merged.select(pl.lit(0).alias(_ALL), pl.min(_LOW), pl.max(_HIGH))
        column, found = pl.col(self.here), []
        for _, low, high in merged.iter_rows():
            ends = [column >= self._value(low)] if self._is_told(low) else []
            ends += [column <= self._value(high)] if self._is_told(high) else []
            found.append(pl.all_horizontal(pl.lit(value=True), *ends))
        return pl.any_horizontal(found)

    def _is_told(self, end: object) -> bool:
        """Whether a place can be written as a value of the column."""
        if not isinstance(self.dtype, pl.Date | pl.Datetime):
            return False
        low, high = _PYTHON
        assert isinstance(end, int)
        return Clock(self.dtype).unit != "ns" and low <= end * (Clock(self.dtype).tick // 1_000) <= high

    def _value(self, end: Any) -> pl.Expr:
        made = pl.select(Clock(self.dtype).from_ticks(pl.lit(end, dtype=pl.Int64))).item()
        return pl.lit(made, dtype=self.dtype)

    def _place(self, column: str) -> pl.Expr:
        if isinstance(self.dtype, pl.Date | pl.Datetime):
            return Clock(self.dtype).ticks(pl.col(column))
        # a commit holds no infinite numbers
        return (
            pl.col(column).cast(pl.Float64).clip(-_MOST, _MOST)
            if self.dtype.is_float()
            else pl.col(column).cast(pl.Int128)
        )

    @property
    def _has_place(self) -> pl.Expr:
        """Whether a row has a place: null and NaN are none."""
        place = pl.col(_PLACE)
        return place.is_not_null() & place.is_not_nan() if self.dtype.is_float() else place.is_not_null()
