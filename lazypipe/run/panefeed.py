"""The pane feed of an output of windows: a dataset beside it with what each version changed in each window.

Made of the difference of two versions, as the change feed is, so that late rows, removed files, backfills and rollbacks are told alike.
The sum of what is told is always what the output holds (docs/decisions/0025).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from lazypipe.compile.outputs.modes import CHANGE_COLUMNS
from lazypipe.compile.outputs.panes import end_of, feed_schema, panes_of
from lazypipe.run.changefeed import ChangeFeed, Feed, feed_of
from lazypipe.run.context import Run
from lazypipe.run.segment.groups import rows_of
from lazypipe.spec.model import Output
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.windows.panes import Panes, timing
from lazypipe.windows.watermark import COMPLETE

__all__ = ["PaneFeed", "feeds_of"]

_, _VERSION, _TIME, _RUN = CHANGE_COLUMNS
_OWN = pl.Schema({_VERSION: pl.Int64(), _TIME: pl.Datetime("us", "UTC"), _RUN: pl.String()})
_ABOUT = "panes"
"""The key in the ``info`` of a commit with how panes are written."""
_BEFORE = "__lazypipe_before"


class PaneFeed(Feed):
    """What became of windows, as the output's ``panes`` says it."""

    kind = "panes"
    said = "panes"

    def __init__(self, run: Run, name: str, number: int) -> None:
        super().__init__(run, name, number)
        output = run.plan.outputs[name]
        panes = panes_of(output)
        assert panes is not None
        self.panes: Panes = panes
        self.end = None if panes.timing is None else end_of(run.plan.nodes, output.stage)
        weight = {panes.weight: pl.Int8()} if panes.mode == "retract" else {}
        index = {} if panes.index is None else {panes.index: pl.Int64()}
        when = {} if panes.timing is None else {panes.timing: pl.String()}
        self.own = pl.Schema({**_OWN, **weight, **index, **when})

    def _schema(self, commit: Commit) -> pl.Schema:
        return pl.Schema({**self.own, **self._told(commit)[0]})

    def _told(self, commit: Commit) -> tuple[pl.Schema, tuple[str, ...]]:
        """Return the columns of windows as panes have them, and those that are differences."""
        plan = self.run.plan
        return feed_schema(plan.outputs[self.name], plan.nodes, commit.schema)

    def _about(self) -> dict[str, Any]:
        return {_ABOUT: {**self.panes.to_dict(), "key": list(self.key)}}

    def _whole(self, commit: Commit) -> list[pl.LazyFrame]:
        rows = self.output.scan(commit)
        return self._panes(rows.head(0), rows, commit, None, None)

    def _between(self, before: Commit, after: Commit, feed: Commit) -> list[pl.LazyFrame]:
        if feed.info.get(_ABOUT) != self._about()[_ABOUT]:
            raise self._stopped("they were told in another way, or by another key")
        was, now = self._changed(before, after)
        # a window that closes on time is written, although nothing in it changed
        again = self._on_time(before, after, pl.concat([was.select(self.key), now.select(self.key)], how="vertical"))
        was, now = (pl.concat([rows, again], how="diagonal_relaxed") if again.height else rows for rows in (was, now))
        if not was.height + now.height:
            return []
        return self._panes(was.lazy(), now.lazy(), after, before, feed)

    def _changed(self, before: Commit, after: Commit) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows in which two versions differ: those of the earlier one, and those of the later one."""
        if dict(before.schema) != dict(after.schema):
            # a difference has the columns that both versions have
            if any(before.schema.get(n) != after.schema[n] for n in (*self.key, *filter(None, [self.end]))):
                raise self._stopped("the columns of its key, or the ends of windows, are others than they were")
            was, now = (self.output.scan(c).collect(engine="streaming") for c in (before, after))
            missing = {n: t for n, t in after.schema.items() if n not in before.schema}
            return was.with_columns(pl.lit(None, dtype=t).alias(n) for n, t in missing.items()), now
        found = self._diff(before, after)
        was, now = found.deleted, found.inserted
        if found.updated.height:
            sides = [found.updated.select(*self.key, pl.col(side).struct.unnest()) for side in ("before", "after")]
            was, now = (
                pl.concat([one, more], how="diagonal_relaxed") for one, more in zip((was, now), sides, strict=True)
            )
        shape = [pl.col(n).cast(t) for n, t in after.schema.items()]
        return was.select(shape), now.select(shape)

    def _on_time(self, before: Commit, after: Commit, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the windows whose end the watermark passed with a version, but for those with some keys."""
        if self.end is None:
            return after.schema.to_frame()
        rows = self.output.scan(after).filter(self._timing(before, after) == "on_time")
        return rows.join(keys.lazy(), on=[*self.key], how="anti", nulls_equal=True).collect(engine="streaming")

    def _timing(self, before: Commit | None, after: Commit) -> pl.Expr:
        assert self.end is not None
        had = None if before is None else before.info.get(COMPLETE)
        return timing(self.end, after.schema, after.info.get(COMPLETE), had)

    def _panes(
        self, was: pl.LazyFrame, now: pl.LazyFrame, after: Commit, before: Commit | None, feed: Commit | None
    ) -> list[pl.LazyFrame]:
        """Return the rows of panes for windows that have changed, given their rows before and after."""
        key = [*self.key]
        gone = was.join(now.select(key), on=key, how="anti", nulls_equal=True)
        match self.panes.mode:
            case "retract":
                parts = [self._weighed(was, -1), self._weighed(now, 1)]
            case "accumulate":
                parts = [now, self._emptied(gone, after)]
            case _:
                parts = [self._difference(was, now, after, feed)]
        if (column := self.panes.timing) is not None:
            when = self._timing(before, after).alias(column)
            parts = [part.with_columns(when) for part in parts]
        if (column := self.panes.index) is not None:
            told = pl.concat([was.select(key), now.select(key)]).unique()
            numbers = self._numbers(told.collect(engine="streaming"), feed, column)
            parts = [part.join(numbers.lazy(), on=key, how="left", nulls_equal=True) for part in parts]
        return parts

    def _weighed(self, rows: pl.LazyFrame, weight: int) -> pl.LazyFrame:
        return rows.with_columns(pl.lit(weight, dtype=pl.Int8).alias(self.panes.weight))

    def _emptied(self, rows: pl.LazyFrame, commit: Commit) -> pl.LazyFrame:
        """Return the rows of windows that are gone, with null for what was aggregated."""
        schema, differ = self._told(commit)
        return rows.with_columns(pl.lit(None, dtype=schema[n]).alias(n) for n in differ if n != self.end)

    def _difference(self, was: pl.LazyFrame, now: pl.LazyFrame, commit: Commit, feed: Commit | None) -> pl.LazyFrame:
        told_of, differ = self._told(commit)
        there = was.collect_schema()
        # what was written about columns that the version no longer has is retracted
        lost = {} if feed is None else {n: feed.schema[n] for n in there if n not in commit.schema}
        schema, differ = {**told_of, **lost}, (*differ, *lost)
        now = now.with_columns(pl.lit(None, dtype=t).alias(n) for n, t in lost.items())
        key = [*self.key]
        names = [n for n in (*commit.schema, *lost) if n not in key]
        # columns that the version before did not have count as empty
        earlier = was.select(
            *key, *((pl.col(n) if n in there else pl.lit(None)).cast(schema[n]).alias(f"{_BEFORE}_{n}") for n in names)
        )
        both = now.join(earlier, on=key, how="full", nulls_equal=True, coalesce=True)

        def told(name: str) -> pl.Expr:
            new, old = pl.col(name).cast(schema[name]), pl.col(f"{_BEFORE}_{name}")
            if name not in differ:
                return pl.coalesce(new, old)
            return pl.when(new.is_null()).then(-old).when(old.is_null()).then(new).otherwise(new - old)

        return both.select(*key, *(told(n).alias(n) for n in names))

    def _numbers(self, keys: pl.DataFrame, feed: Commit | None, column: str) -> pl.DataFrame:
        """Return the number of the next pane of each of some windows."""
        if feed is None:
            return keys.with_columns(pl.lit(0, dtype=pl.Int64).alias(column))
        on = [*self.key]
        here = {n: t for n, t in keys.schema.items() if feed.schema[n] != t}
        rows = self.feed.scan(feed).select(*on, column).cast(here)  # type: ignore[arg-type]  # names, and their types
        last = rows_of(rows, keys).group_by(on).agg(pl.col(column).max()).collect(engine="streaming")
        told = keys.join(last, on=on, how="left", nulls_equal=True)
        return told.with_columns(pl.col(column).fill_null(-1) + 1)


def feeds_of(output: Output, dataset: Dataset) -> list[Dataset]:
    """Return the datasets with the feeds that an output has."""
    kinds = [ChangeFeed.kind] * output.changes + [PaneFeed.kind] * bool(output.panes)
    return [feed_of(dataset, kind) for kind in kinds]
