"""Change feeds: datasets beside an output that hold what each version changed.

The change feed has the rows that a version inserted, updated and deleted; that of panes (``run/panefeed.py``) says what became of
windows. A feed is made of two versions of the output by their difference, so it holds for every mode. Its commits name the version that they bring
it to. A feed that lags, because a run was killed right after it had published, is completed by the next run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from lazypipe.compile.outputs.modes import CHANGE_COLUMNS, VALID_FROM
from lazypipe.errors import LazypipeError, StorageError
from lazypipe.run.context import Run
from lazypipe.run.recorder import Fed
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import REWRITE, Commit
from lazypipe.storage.shape import grown
from lazypipe.storage.sink import DatasetSink

if TYPE_CHECKING:
    from lazypipe.incremental.diff import RowDiff

__all__ = ["VERSION", "ChangeFeed", "Feed", "feed_of", "needed"]

VERSION = "version"
"""The key in the ``info`` of a feed's commit with the output's version that it is about."""
_DATED = "dated"
"""Where there stands the time that its rows are dated with."""

_CHANGE, _VERSION, _TIME, _RUN = CHANGE_COLUMNS
_OWN = pl.Schema({_CHANGE: pl.String(), _VERSION: pl.Int64(), _TIME: pl.Datetime("us", "UTC"), _RUN: pl.String()})


def feed_of(output: Dataset, kind: str = "changes") -> Dataset:
    """Return the dataset with a feed of an output.

    Examples
    --------
    >>> feed_of(Dataset("out/orders")).uri
    'out/orders__changes'
    """
    return Dataset(f"{output.uri}__{kind}", output.storage_options, delta=output.delta)


def needed(output: Dataset, feed: Dataset) -> int:
    """Return how many versions of an output must be kept so that its feed can continue: from the last one that the feed has."""
    versions, told = output.log.versions(), feed.latest()
    return 1 if told is None else sum(v >= told.info[VERSION] for v in versions)


class Feed(ABC):
    """A feed of one output in one run."""

    kind: ClassVar[str]
    """What the name of its dataset ends with."""
    said: ClassVar[str]
    """What it is called in messages."""
    own: pl.Schema
    """The columns that it has besides those of the output."""

    def __init__(self, run: Run, name: str, number: int) -> None:
        output = run.plan.outputs[name]
        self.run = run
        self.name = name
        self.number = number
        self.key = (*output.key, VALID_FROM) if output.mode == "scd2" else output.key
        self.output = Dataset(output.to, output.storage_options, delta=output.delta_log)
        self.feed = feed_of(self.output, self.kind)

    @abstractmethod
    def _whole(self, commit: Commit) -> list[pl.LazyFrame]:
        """Return the rows of a feed whose first version this is."""

    @abstractmethod
    def _between(self, before: Commit, after: Commit, feed: Commit) -> list[pl.LazyFrame]:
        """Return the rows that a feed adds for a version, given the version before it and the feed's own last commit."""

    def _schema(self, commit: Commit) -> pl.Schema:
        """Return the columns of the feed, for a version of the output."""
        return pl.Schema({**self.own, **commit.schema})

    def _about(self) -> dict[str, Any]:
        """Return what its commits say of it besides."""
        return {}

    def _tags(self) -> dict[str, Any]:
        """Return the tags of its columns, which are those of the output: who reads the feed must not show what the output does not."""
        tags = self.run.plan.tags_written(self.name)
        return {"tags": {c: list(t) for c, t in tags.items()}} if tags else {}

    def complete(self) -> None:
        """Tell of all versions that the feed does not know.

        A feed that begins tells of all rows that are there as new.

        Raises
        ------
        LazypipeError
            If a version that it needs is gone, a key stands twice, or its columns cannot be put with those before.
        """
        latest, feed = self.output.latest(), self.feed.latest()
        if latest is None:
            return
        if feed is None:
            self._write(latest, self._whole(latest), None)
            return
        for version in range(feed.info[VERSION] + 1, latest.version + 1):
            commit = self._read(version)
            # files that were only rewritten hold the same rows
            told = [] if commit.mode == REWRITE else self._between(self._read(version - 1), commit, feed)
            feed = self._write(commit, told, feed)

    def _read(self, version: int) -> Commit:
        try:
            return self.output.log.read(version)
        except StorageError as error:
            raise self._stopped(error.what) from error

    def _stopped(self, why: str) -> StorageError:
        what = f"the {self.said} of output {self.name!r} cannot go on: {why}"
        fix = f"delete it and {self.feed.log.uri.rpartition('/')[2]} to begin a new one"
        return StorageError(what, uri=self.run.plan.redact(self.feed.uri), fix=fix)

    def _diff(self, before: Commit, after: Commit) -> RowDiff:
        """Return the difference of two versions, including columns that only one of them has."""
        from lazypipe.incremental.diff import diff_whole

        try:
            masked = self.run.plan.masked(self.run.plan.outputs[self.name].stage)
            return diff_whole(self.output, before, after, key=self.key, masked=masked)
        except LazypipeError as error:
            raise self._stopped(str(error)) from error

    def _write(self, commit: Commit, parts: list[pl.LazyFrame], before: Commit | None) -> Commit:
        """Commit what one version changed."""
        schema = self._schema(commit)
        if before is not None:
            schema = pl.Schema({**before.schema, **schema})
        moment = _after(commit.time, before, told=bool(parts))
        said = {
            _VERSION: pl.lit(commit.version, dtype=pl.Int64),
            _TIME: pl.lit(moment, dtype=self.own[_TIME]),
            _RUN: pl.lit(commit.run),
        }
        rows = [_shaped(part.with_columns(**said), schema) for part in parts]
        mode = "append"
        if before is not None and dict(before.schema) != dict(schema):
            held = grown(self.feed.scan(before), before.schema, schema)
            if held is None:
                raise self._stopped("columns have narrower types by now")
            rows, mode = [held, *rows], "replace"
        prefix = f"{self.run.id}-{self.number:03}{self.kind[0]}-{commit.version % 1_000:03}"
        sink = DatasetSink(self.feed.uri, prefix, storage_options=self.feed.storage_options)
        try:
            recorder = self.run.recorder
            files = sink.write(pl.concat(rows)).files if rows else ()
            files = recorder.hashed(self.feed.uri, files, self.feed.storage_options)
            made = self.feed.commit(
                files,
                schema,
                run=self.run.id,
                time=self.run.now,
                mode=mode,
                info={
                    "of": self.name,
                    VERSION: commit.version,
                    _DATED: moment.isoformat(),
                    **self._about(),
                    **self._tags(),
                    **self.run.recorder.info,
                },
                expected=0 if before is None else before.version,
            )
        except BaseException:
            sink.discard()
            raise
        segment = self.run.plan.segments[self.number - 1].name
        recorder.fed(
            segment, Fed(f"{self.name}__{self.kind}", self.feed.uri, made, files, self.output.uri, commit.version)
        )
        return made


class ChangeFeed(Feed):
    """What each version inserted, updated and deleted."""

    kind = "changes"
    said = "change feed"
    own = _OWN

    def _whole(self, commit: Commit) -> list[pl.LazyFrame]:
        return [self.output.scan(commit).with_columns(pl.lit("insert").alias(_CHANGE))]

    def _between(self, before: Commit, after: Commit, feed: Commit) -> list[pl.LazyFrame]:
        found = self._diff(before, after)
        parts = [
            found.inserted.with_columns(pl.lit("insert").alias(_CHANGE)),
            *_images(found, self.key),
            found.deleted.with_columns(pl.lit("delete").alias(_CHANGE)),
        ]
        return [part.lazy() for part in parts if part.height]


def _after(time: datetime, before: Commit | None, *, told: bool) -> datetime:
    """Return the time of a version, or the next moment after that of the previous one, if the clock went back or stood still.

    A version about which nothing is ``told`` needs none. Otherwise readers who go by times would take an earlier version for the later
    one, or could not order the two.
    """
    if before is None or _DATED not in before.info:
        return time
    last = datetime.fromisoformat(before.info[_DATED])
    return max(time, last + timedelta(microseconds=1)) if told else last


def _images(found: RowDiff, key: tuple[str, ...]) -> list[pl.DataFrame]:
    """Return the rows that were updated, as they were and as they are."""
    if not found.updated.height:
        return []
    return [
        found.updated.select(*key, pl.col(side).struct.unnest(), pl.lit(f"update_{side}").alias(_CHANGE))
        for side in ("before", "after")
    ]


def _shaped(rows: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    there = rows.collect_schema()
    return rows.select((pl.col(n).cast(t) if n in there else pl.lit(None, dtype=t)).alias(n) for n, t in schema.items())
