"""How the rows of a run and the existing rows become the next version of an output, depending on its mode.

Rows come as files that nobody sees. Which files of the last version hold their keys is found by statistics and keys; only the rows of
those keys are compared, part by part, and only files that hold keys of which something changes are written again
(docs/decisions/0020-write-modes.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import polars as pl

from lazypipe.compile.outputs.modes import IS_CURRENT, SNAPSHOT_AT, VALID_FROM, deleted, places, written_schema
from lazypipe.errors import LazypipeError, RunError, StorageError
from lazypipe.incremental.before import DELETES
from lazypipe.incremental.feed import ANEW, KEYED, WRITE, keyed, mode_of
from lazypipe.incremental.merging import Merged, merge_upsert, merge_versions, refuse_nulls
from lazypipe.incremental.work import Work
from lazypipe.run import layouts
from lazypipe.run.context import Run
from lazypipe.run.segment.gone import GONE, GoneKeys
from lazypipe.run.segment.growing import with_columns_of_now
from lazypipe.spec.model import NOTHING, Output
from lazypipe.storage.datasets.data_files import find_odd
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.keyed import files_with, rewrite_without, rows_with
from lazypipe.storage.datasets.log import KEPT, Commit, DataFile, partitioned
from lazypipe.storage.sink import DatasetSink

__all__ = ["Merge", "Outcome"]

_PART = 2_000_000
"""Rows that are compared at a time."""

_WRITTEN_HERE = ("upsert", "scd2", "snapshot")
"""Modes whose rows are written once they are put together with those that are there."""

_SAMPLE = 10_000
"""Keys by which rows are taken apart into ranges."""

_SNAPSHOTS = "snapshots"
"""Where in a commit's ``info`` stands which files are whose snapshot: its time, the run, the paths."""

_DATED = "dated"
"""Where in a commit's ``info`` stands the time of the run that its versions were dated with, where no column tells it."""


@dataclass(frozen=True)
class Outcome:
    """What is to be committed: new files, the paths of those that they replace, and what the commit says besides.

    ``beside`` are files that no reader of data sees: which keys were removed, and when.
    """

    files: tuple[DataFile, ...]
    schema: pl.Schema
    partition_by: tuple[str, ...]
    mode: str = "change"
    without: frozenset[str] = frozenset()
    info: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    beside: tuple[DataFile, ...] = ()


class Merge:
    """The next version of an output, in one run. ``staged`` is what was written for it, and nobody sees until it is committed."""

    def __init__(self, run: Run, name: str, number: int, work: Work, schema: pl.Schema) -> None:
        self.run = run
        self.name = name
        self.work = work
        self.given = schema
        self.output: Output = run.plan.outputs[name]
        self.dataset = Dataset(self.output.to, self.output.storage_options)
        self.commit: Commit | None = None if work.anew else work.commit
        self.schema = written_schema(self.output, schema)
        self.prefix = f"{run.id}-{number:03}"
        self.staged: list[DatasetSink] = []
        self.choice: layouts.Choice | None = None
        self.chosen = False
        self.gone = GoneKeys(self.dataset)
        self.outgrown: pl.Schema | None = None

    def outcome(self, incoming: pl.LazyFrame, files: tuple[DataFile, ...]) -> Outcome:
        """Combine the rows of a run with those that are there, as the write mode says.

        Parameters
        ----------
        incoming
            The rows, as they were written.
        files
            The files with them, where they are to be published as they are.

        Raises
        ------
        RunError
            If keys are missing or repeat, or the dataset has other columns.
        """
        mode = self.output.mode
        if mode != "delete":
            self._refuse_other_columns()
            self._choose(incoming, sum(f.bytes for f in files))
        if mode == "upsert" and self.commit is not None and dict(self.commit.schema) != dict(self.schema):
            self._grow(self.commit)
        if mode in ("upsert", "delete", "scd2"):
            nulls = incoming.select(pl.col(self.output.key).is_null().sum()).collect(engine="streaming")
            self._said(partial(refuse_nulls, nulls.row(0, named=True)))
        match mode:
            case "append":
                return self._made(files, mode="append")
            case "replace_partitions":
                folders = {f.folder for f in files}
                there = () if self.commit is None else self.commit.files
                return self._made(files, without=frozenset(f.path for f in there if f.folder in folders))
            case "snapshot":
                return self._snapshot(incoming)
            case "delete":
                return self._delete(incoming)
            case _:
                return self._merge(incoming)

    def _made(
        self, files: tuple[DataFile, ...], *, mode: str = "change", without: frozenset[str] = frozenset(), **info: Any
    ) -> Outcome:
        if self.work.anew:
            mode = "replace"
        if self.outgrown is not None and self.commit is not None:
            files = (*(f for f in self.commit.files if f.path not in without), *files)
            mode, without = "replace", frozenset()
        before = NOTHING if self.commit is None else self.commit.info
        kept = {DELETES: before[DELETES]} if before.get(DELETES) else {}
        kept |= {KEYED: keyed(self.output)} if self.output.mode in ("upsert", "scd2") else {}
        said = {WRITE: self.output.mode, **kept, **self.gone.said, **info}
        if self.chosen and self.choice is not None and (rows := sum(f.rows for f in files)):
            said[KEPT] = dict(layouts.measured(self.choice, rows, sum(f.bytes for f in files)).said)
        return Outcome(files, self.schema, self.output.partition_by, mode, without, said, self.gone.files)

    def _choose(self, incoming: pl.LazyFrame, size: int) -> None:
        """Take the layout that the files there have, or, where one is asked for and none is kept, choose it by the rows that came."""
        if self.output.mode not in _WRITTEN_HERE:
            return
        there = self.work.commit
        self.choice = layouts.kept(self.output, there, self.schema, ordered=False)
        rows = incoming.select(self.given.names())
        found = self.choice
        due = found is not None and there is not None and layouts.looks_again(self.output, found, there, size)
        if found is not None and there is not None and not due:
            further = layouts.goes_on(self.run.plan, self.name, rows, found, size, there)
            self.choice, self.chosen = further or found, further is not None
        elif self.output.optimize is not None:
            spent = 0.0 if found is None else found.said["spent"]
            made = layouts.choose_ahead(
                self.run.plan, self.name, rows, size, ordered=False, there=self.commit, spent=spent
            )
            self.choice = None if made is layouts.WAITS else made
            self.chosen = self.choice is not None

    def _refuse_other_columns(self) -> None:
        before = self.commit
        if before is None or (dict(before.schema) == dict(self.schema) and not self._counts_on_partitions(before)):
            return
        if self.output.mode in ("append", "upsert") and self.output.contract:
            return  # all rows are written once more, with the columns of now
        others = [n for n in {**before.schema, **self.schema} if before.schema.get(n) != self.schema.get(n)]
        told = f"in {', '.join(map(repr, others))}" if others else "in its partitions"
        what = f"output {self.name!r}: its rows have columns or partitions that differ from the dataset's, {told}"
        # what is not in the partitions that come, and earlier snapshots, a run in full keeps too; of versions dated by runs it is refused
        undated = self.output.mode == "scd2" and self.output.event_time is None
        keeps = undated or self.output.mode in ("snapshot", "replace_partitions")
        fix = "write to another place" if keeps else ANEW
        if keeps and others:
            fix = f"give the rows the dataset's columns and types in the stage, or {fix}"
        if not others and before.partition_by:
            fix = f"say partition_by: [{', '.join(before.partition_by)}], as the dataset has it, or {fix}"
        if self.output.mode in ("append", "upsert") and others:
            fix = f"allow such columns in its contract (on_new_column: evolve), {fix}"
        raise StorageError(what, uri=self.run.plan.redact(self.output.to), fix=fix)

    def _grow(self, commit: Commit) -> None:
        """Write the rows that are there once more, with the columns that the contract has let come, and go on from these."""
        rows = with_columns_of_now(self.dataset, commit, self.schema, self.output)
        self.outgrown = pl.Schema(commit.schema)
        files, by = self._write(rows, "o"), self.output.partition_by
        self.commit = replace(commit, files=files, schema=self.schema, partition_by=by)

    def _counts_on_partitions(self, before: Commit) -> bool:
        """Whether other partitions than those that are there would replace others; elsewhere each file keeps those it was written with."""
        return self.output.mode == "replace_partitions" and before.partition_by != self.output.partition_by

    def _said(self, function: Any) -> Any:
        """Call a function that knows nothing of outputs, and name this output in the error that it raises."""
        try:
            return function()
        except LazypipeError as error:
            raise RunError(f"output {self.name!r}: {error}") from error

    @cached_property
    def _moment(self) -> datetime:
        """The time that rows of this run are dated with: its own, or right after the last one, where the clock went back meanwhile.

        What was true later would else be told to have ended before it began, and two snapshots would be one.
        """
        info = NOTHING if self.commit is None else self.commit.info
        known = [moment for moment, *_ in info.get(_SNAPSHOTS, ())] + ([info[_DATED]] if _DATED in info else [])
        last = max(map(datetime.fromisoformat, known), default=None)
        if last is None or self.run.now > last or (self.run.now == last and self.output.mode == "scd2"):
            return self.run.now
        return last + timedelta(microseconds=1)

    # the modes

    def _snapshot(self, incoming: pl.LazyFrame) -> Outcome:
        moment = pl.lit(self._moment, dtype=self.schema[SNAPSHOT_AT]).alias(SNAPSHOT_AT)
        files = self._write(incoming.with_columns(moment), "s")
        before = () if self.commit is None else self.commit.info[_SNAPSHOTS]
        all_ = [*before, [self._moment.isoformat(), self.run.id]]
        keep = len(all_) if self.output.keep is None else self.output.keep
        stay = {moment for moment, *_ in all_[-keep:]}
        gone = [datetime.fromisoformat(moment) for moment, *_ in all_[:-keep] if moment not in stay]
        if self.commit is None or not gone:
            return self._made(files, snapshots=all_[-keep:])
        # by their times: files may have been put together since
        times = pl.LazyFrame({SNAPSHOT_AT: gone}, schema={SNAPSHOT_AT: self.schema[SNAPSHOT_AT]})
        again, without = self._without(self.commit, times, [SNAPSHOT_AT])
        return self._made((*again, *files), without=without, snapshots=all_[-keep:])

    def _delete(self, incoming: pl.LazyFrame) -> Outcome:
        commit = self.work.commit
        assert commit is not None
        found = rewrite_without(self.dataset, commit, incoming, self.output.key, prefix=f"{self.prefix}k")
        self.staged += found.sinks
        feeds = {**commit.info.get(DELETES, {}), self.name: self.work.info}
        kept = {k: v for k, v in commit.info.items() if k not in (DELETES, GONE, "gates", "ledger")}
        self.gone = GoneKeys.of(self.dataset, commit, pl.Schema(commit.schema))
        self.gone.forget(incoming, self.output.key, f"{self.prefix}g")
        self.staged += self.gone.staged
        info = {WRITE: mode_of(commit), **kept, **self.gone.said, DELETES: feeds}
        said = (found.without, info, self.gone.files)
        return Outcome(found.files, commit.schema, commit.partition_by, "change", *said)

    def _merge(self, incoming: pl.LazyFrame) -> Outcome:
        key, commit = [*self.output.key], self.commit
        keys = incoming.select(key)
        ended = self._ended(keys)
        if ended is not None:
            keys = pl.concat([keys, ended])
        there = () if commit is None else files_with(self.dataset, commit, keys, key)
        then = self.schema if self.outgrown is None else self.outgrown
        self.gone = GoneKeys.of(self.dataset, commit, then, [*dict.fromkeys([*key, *self._order()])])
        self.gone.fit(self.schema, f"{self.prefix}t")
        went: list[pl.LazyFrame] = []
        files: list[DataFile] = []
        taken: list[pl.LazyFrame] = []
        for number, part in enumerate(self._parts(incoming, keys, sum(f.rows for f in there))):
            wanted = keys.filter(part)
            old = self._old(there, wanted).filter(part).collect(engine="streaming")
            new = incoming.filter(part).select(self.given.names()).collect(engine="streaming")
            gone = None if ended is None else ended.filter(part).collect(engine="streaming")
            known = self._known(new, wanted).filter(part).collect(engine="streaming")
            made: Merged = self._said(partial(self._merged, old, new, gone, known))
            if made.gone.height and self._may_be_late:
                went.append(self._spilled(made.gone.lazy(), f"gone-{number}"))
            if made.put.height:
                files += self._write(made.put.lazy(), f"m-{number:03}")
            if made.take.height:
                taken.append(self._spilled(made.take.lazy(), f"taken-{number}"))
        self.gone.add(went, f"{self.prefix}g")
        self.staged += self.gone.staged
        dated = self.output.mode == "scd2" and self.output.event_time is None
        info: dict[str, Any] = {_DATED: self._moment.isoformat()} if dated else {}
        if not taken:
            return self._made(tuple(files), **info)
        assert commit is not None
        holding = replace(commit, files=there)
        stay, without = self._without(holding, pl.concat(taken), key)
        return self._made((*stay, *files), without=without, **info)

    def _without(
        self, commit: Commit, keys: pl.LazyFrame, on: list[str]
    ) -> tuple[tuple[DataFile, ...], frozenset[str]]:
        """Rewrite files without the rows of some keys; return the new files, in the same folders, and the paths of those they replace."""
        found = rewrite_without(self.dataset, commit, keys, on, prefix=f"{self.prefix}k")
        self.staged += found.sinks
        return partitioned(found.files, commit.partition_by, self.output.partition_by), found.without

    def _known(self, new: pl.DataFrame, keys: pl.LazyFrame) -> pl.LazyFrame:
        """Return what is known besides the rows, of some keys."""
        known = self.gone.of_keys(keys, self.output.key)
        if self.output.mode != "scd2" or self.output.event_time is None:
            return known
        # what was said before all that comes stays as it is: feeds that come in order read nothing of what was said ever since
        first = new.select(pl.col(self.output.event_time).min()).item()
        return known if first is None else known.filter(pl.col(VALID_FROM) >= first)

    @property
    def _may_be_late(self) -> bool:
        """Whether a row may come that is older than others: where the order is that of the runs, none can."""
        return bool(self.output.order_by) or self.output.event_time is not None

    def _order(self) -> tuple[str, ...]:
        """Return the columns that say which of several rows with a key is later: they are kept of keys that were removed."""
        if self.output.mode == "scd2":
            return (VALID_FROM,)
        return places(self.output)[1]

    def _merged(self, old: pl.DataFrame, new: pl.DataFrame, gone: pl.DataFrame | None, known: pl.DataFrame) -> Merged:
        output, key = self.output, self.output.key
        condition = deleted(output, self.given, self.run.plan.params)
        said: dict[str, Any] = {"deleted": condition, "gone": known, "masked": self.run.plan.masked(output.stage)}
        if output.mode == "upsert":
            return merge_upsert(old, new, key, order=self._order(), **said)
        now = pl.lit(self._moment, dtype=self.schema[VALID_FROM])
        moment = now if output.event_time is None else pl.col(output.event_time)
        ended = None if gone is None else gone.with_columns(now.alias(VALID_FROM))
        ignore = () if output.event_time is None else (output.event_time,)
        return merge_versions(old, new, key, moment=moment, ignore=ignore, ended=ended, **said)

    def _ended(self, keys: pl.LazyFrame) -> pl.LazyFrame | None:
        """Return the current keys that did not come, where their absence ends them."""
        if self.commit is None or self.output.deletes != "close":
            return None
        key = [*self.output.key]
        there = self.dataset.scan(self.commit).filter(IS_CURRENT).select(key)
        return self._spilled(there.join(keys, on=key, how="anti", nulls_equal=True), "ended")

    def _old(self, files: tuple[DataFile, ...], keys: pl.LazyFrame) -> pl.LazyFrame:
        """Return the current rows of some keys."""
        if self.commit is None or not files:
            return pl.LazyFrame(schema=self.schema)
        rows = rows_with(self.dataset, self.commit, files, keys, self.output.key)
        return rows.select(self.schema.names())

    def _parts(self, incoming: pl.LazyFrame, keys: pl.LazyFrame, there: int) -> Iterator[pl.Expr]:
        """Yield conditions that take rows apart by their key, into parts that are compared in memory."""
        rows = keys.select(pl.len()).collect(engine="streaming").item()
        parts = (rows + there) // _PART + 1
        first = pl.col(self.output.key[0])
        if parts == 1:
            yield pl.lit(value=True)
            return
        # ranges, so that the files are ranges too, and statistics tell them apart
        index = "__lazypipe_index"
        some = incoming.select(first).with_row_index(index).filter(pl.col(index) % (rows // _SAMPLE + 1) == 0)
        sample = some.drop(index).collect(engine="streaming").to_series().sort()
        cuts = [*dict.fromkeys(sample[len(sample) * n // parts] for n in range(1, parts))] if len(sample) else []
        if len(cuts) < parts // 2 or sample.dtype in (pl.Categorical, pl.Enum, pl.Boolean):
            for number in range(parts):
                yield pl.struct(self.output.key).hash() % parts == number
            return
        bounds = [None, *(pl.lit(c, dtype=sample.dtype) for c in cuts), None]
        for low, high in pairwise(bounds):
            above = pl.lit(value=True) if low is None else first >= low
            yield above if high is None else above & (first < high)

    # files

    def _write(self, rows: pl.LazyFrame, suffix: str) -> tuple[DataFile, ...]:
        by, options = self.output.partition_by, self.output.storage_options
        layout = None if self.choice is None else self.choice.layout
        sink = DatasetSink(self.output.to, f"{self.prefix}{suffix}", by, options, layout=layout)
        self.staged.append(sink)
        files = sink.write(rows.select(self.schema.names())).files
        return find_odd(self.output.to, files, self.schema, options)

    def _spilled(self, rows: pl.LazyFrame, name: str) -> pl.LazyFrame:
        """Keep rows in a file of this run."""
        path = self.run.folder / "merge" / f"{self.name}-{name}.parquet"
        rows.sink_parquet(path, mkdir=True, compression="lz4")
        return pl.scan_parquet(path, glob=False)
