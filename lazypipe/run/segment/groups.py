"""Rebuilds only those rows of an output whose groups a change affects.

The figures of units that came, and of those that are gone, say which groups these are. Their rows are computed from the figures that may be
theirs; the data files that hold them are written again without them, small ones together with the new rows, and all of that is one commit. Data files are sorted by the
groups' columns, so that statistics tell most of them apart, and small ones are merged now and then (``storage.tiers``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TypeVar

import polars as pl

from lazypipe.gates import Check
from lazypipe.gates.marks import Lookup
from lazypipe.gates.tally import Tally
from lazypipe.gates.tap import Tap
from lazypipe.incremental.work import Work
from lazypipe.plan.executed import STAYING
from lazypipe.spec import taps
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.key_bounds import as_bounded
from lazypipe.storage.datasets.keyed import Rewrite, not_ruled_out, refuse_unreadable, rewrite_without, rows_with
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.datasets.tiers import FAN, LEAST, due
from lazypipe.storage.sink import DatasetSink, are_few

__all__ = ["Groups", "by_time", "fitted", "rows_of"]

Keys = TypeVar("Keys", pl.DataFrame, pl.LazyFrame)


def by_time(names: Sequence[str], schema: Mapping[str, pl.DataType]) -> list[str]:
    """Return the columns of groups in the order in which their rows are sorted: times first, as what changes together is mostly of one time.

    Examples
    --------
    >>> by_time(["site", "window_start"], {"site": pl.String(), "window_start": pl.Date()})
    ['window_start', 'site']
    """
    return sorted(names, key=lambda name: not schema[name].is_temporal())


def fitted(keys: Keys, schema: Mapping[str, pl.DataType]) -> Keys:
    """Cast keys to the types of other columns, without the keys that those types cannot hold.

    Examples
    --------
    >>> fitted(pl.DataFrame({"k": [1, None, 300]}), pl.Schema({"k": pl.Int8()}))["k"].to_list()
    [1, None]
    """
    here = keys.collect_schema()
    others = {c: schema[c] for c in here if schema[c] != here[c]}
    if not others:
        return keys
    held = (pl.col(c).cast(t, strict=False).cast(here[c]).eq_missing(pl.col(c)) for c, t in others.items())
    return keys.filter(*held).cast(others)  # type: ignore[arg-type]  # names, and their types


def rows_of(rows: pl.LazyFrame, keys: pl.DataFrame, *, in_order: bool = False, few: bool = False) -> pl.LazyFrame:
    """Return the rows that have one of some keys, a null among them being equal to others.

    Of a ``few`` rows all are compared: to look first which lie between the keys takes longer.

    Examples
    --------
    >>> rows_of(pl.LazyFrame({"k": [1, None, 5], "n": [1, 2, 3]}), pl.DataFrame({"k": [None, 5]})).collect().sort("n").rows()
    [(None, 2), (5, 3)]
    """
    those = taps.label(keys.lazy(), "touched groups")
    order: Literal["left"] | None = "left" if in_order else None
    rows = rows if few else rows.filter(_between(keys))
    return rows.join(those, on=keys.columns, how="semi", nulls_equal=True, maintain_order=order)


def _between(keys: pl.DataFrame) -> pl.Expr:
    """Return whether a row lies between the least and the most of some keys, which parts of files are skipped by.

    Examples
    --------
    >>> pl.DataFrame({"a": [1, 5, 9]}).filter(_between(pl.DataFrame({"a": [4, 6]}))).rows()
    [(5,)]
    """
    bounded = [s for s in keys if len(s) and not s.has_nulls() and _has_ends(s.dtype)]
    ends = [(s.name, pl.lit(s.min(), dtype=s.dtype), pl.lit(s.max(), dtype=s.dtype)) for s in bounded]
    return pl.all_horizontal(pl.lit(value=True), *(pl.col(name).is_between(least, most) for name, least, most in ends))


def _has_ends(dtype: pl.DataType) -> bool:
    """Whether the least and the most value can be named: Python's times have no nanoseconds."""
    if isinstance(dtype, pl.Datetime):
        return dtype.time_unit != "ns"
    return dtype.is_integer() or dtype in (pl.Date, pl.String)


_TOGETHER = 1 << 18
"""Bytes of files that may hold touched groups up to which their other rows are written together with the new ones, some 20,000 windows:
to look first which of them hold some, and to write them by a query of their own, would cost as much."""

_APART = 1 << 10
"""As many rows beyond all touched groups may become a file of their own, where these groups are many among them."""


@dataclass
class Groups:
    """The groups that a change touches, and what of a commit gives way to them.

    ``touched`` are their values, under the names that they have after the step that groups; ``commit`` is what they are changed in,
    ``schema`` are the columns of the next one.
    """

    dataset: Dataset
    commit: Commit
    work: Work
    touched: pl.DataFrame
    schema: pl.Schema
    rewrite: Rewrite = field(default_factory=Rewrite)
    _beside: list[int] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The columns of the output that tell groups apart."""
        return [name for _, name in self.work.groups]

    @cached_property
    def keys(self) -> pl.DataFrame:
        """The groups, as the output names their columns, and of its types."""
        return fitted(self.touched.rename(dict(self.work.groups)), self.commit.schema)

    def __str__(self) -> str:
        """Say what is rebuilt."""
        many = self.touched.height
        return f"{many:,} group{'s' * (many != 1)} touched, of {self.commit.rows:,} rows"

    @cached_property
    def near(self) -> tuple[DataFile, ...]:
        """The files of the commit that nothing excludes from holding rows of the groups."""
        return not_ruled_out(self.dataset, self.commit, self.keys)

    @property
    def _is_together(self) -> bool:
        few = are_few(self.near) and sum(f.bytes for f in self.near) <= _TOGETHER
        return few and dict(self.commit.schema) == dict(self.schema)

    def neighbours(self) -> pl.LazyFrame | None:
        """Return the other rows of the files that may hold some of the groups, to be written with these; None if ``leave_out`` does that."""
        self._beside.clear()
        if not self.near or not self._is_together:
            return None
        rows = self.dataset.scan(replace(self.commit, files=self.near)).select(self.schema.names())
        others = rows.join(self.keys.lazy(), on=self.names, how="anti", nulls_equal=True)
        return taps.label(taps.tap(others, self._count), STAYING)

    def _count(self, rows: pl.DataFrame) -> pl.DataFrame:
        self._beside.append(rows.height)
        return rows

    def parts(self, rows: pl.DataFrame) -> list[pl.DataFrame]:
        """Return rows as they go to files: those beyond all touched groups apart, once they are half of them and not few.

        Groups that are touched later are most likely none of these, either: windows go on. In one file they would be written by each change. Where
        hardly a group is touched, no other may be for long, and to write as many rows as the least file has takes no longer than one file more.
        """
        least = _APART if FAN * self.keys.height >= rows.height else LEAST
        for touched in self.keys if self.beside >= least else ():
            if as_bounded(touched) is None or touched.null_count() == len(touched):
                continue
            values = rows[touched.name]
            for beyond in (values < touched.min(), values > touched.max()):
                if beyond.sum() >= max(least, rows.height // 2):
                    told = beyond.fill_null(value=False)
                    return [rows.filter(~told), rows.filter(told)]
        return [rows]

    def refuse_unreadable(self) -> None:
        """Raise StorageError that names a file with such rows that cannot be read, if there is one."""
        refuse_unreadable(self.dataset, self.commit, self.near if self._is_together else ())

    @property
    def beside(self) -> int:
        """How many rows of other groups were written together with those of these."""
        return sum(self._beside)

    def leave_out(self, prefix: str, most_rows: int | None) -> None:
        """Write the files that hold rows of the groups once more, without these, where that is not done yet; of ``most_rows`` each."""
        self.rewrite.discard()
        if self._is_together:
            self.rewrite = Rewrite(replaced=self.near, read=self.near)
            return
        near, keys = replace(self.commit, files=self.near), self.keys.lazy()
        self.rewrite = rewrite_without(
            self.dataset, near, keys, self.names, prefix=prefix, together=False, most_rows=most_rows
        )

    @property
    def staying(self) -> tuple[DataFile, ...]:
        """The files of the commit that hold no row of the groups."""
        return tuple(f for f in self.commit.files if f.path not in self.rewrite.without)

    def others(self) -> pl.LazyFrame:
        """Return the rows of all other groups."""
        return self.dataset.scan(replace(self.commit, files=(*self.staying, *self.rewrite.files)))

    def earlier(
        self, report: dict[str, Any], checks: Sequence[Check], schema: pl.Schema, lookup: Lookup
    ) -> tuple[Tally, Tally]:
        """Return what a gate had counted of all rows, and the counts of the touched groups as negative numbers, to be added to it."""
        told = {c["id"]: c for c in report["checks"]}
        before = Tally(rows=report["rows"], good=report["good"])
        before.evaluated.update({i: c["evaluated"] for i, c in told.items()})
        before.failed.update({i: c["failed"] for i, c in told.items()})
        tap = Tap([c for c in checks if c.measure is None], schema, run="", spill=Path(), split=False)
        rows = rows_with(self.dataset, self.commit, self.rewrite.replaced, self.keys.lazy(), self.names)
        tap.attach(rows, lookup).select(pl.len()).collect(engine="streaming")
        gone = Tally()
        for tally in tap.tallies.values():
            gone.rows -= tally.rows
            gone.good -= tally.good
            gone.evaluated.subtract(tally.evaluated)
            gone.failed.subtract(tally.failed)
        return before, gone

    def merge(
        self, sink: DatasetSink, staged: Callable[[DatasetSink], None]
    ) -> tuple[tuple[DataFile, ...], frozenset[str]]:
        """Merge the small files of each folder that stay, rows in order; return the files made, and the paths of those they replace.

        ``staged`` is told what writes them, before it does.
        """
        made: list[DataFile] = []
        merged: list[DataFile] = []
        folder, order = attrgetter("folder"), by_time(self.names, self.commit.schema)
        assert sink.most_rows is not None
        for number, (_, of) in enumerate(groupby(sorted(self.staying, key=folder), folder)):
            small = due([*of], most=sink.most_rows // 2)
            if small:
                again = replace(sink, prefix=f"{sink.prefix}c-{number:03}")
                staged(again)
                rows = self.dataset.scan(replace(self.commit, files=small)).sort(order, nulls_last=True)
                made += again.write(rows, few=are_few(small), keys=self.names).files
                merged += small
        return tuple(made), frozenset(f.path for f in merged)
