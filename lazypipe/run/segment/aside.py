"""The quarantine of a gate: a dataset of its own, with the rows that are in quarantine now.

Where an output knows its rows by their units, so does its quarantine, and rows leave with their unit. Otherwise what is put aside
replaces what was, or is added to it; then rows leave whose key has come by, good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any

import polars as pl

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.late import LATE
from lazypipe.compile.outputs.modes import places
from lazypipe.errors import CommitConflict, StorageError
from lazypipe.gates.report import GateReport
from lazypipe.gates.tap import RAW_COLUMN, RULES_COLUMN, RUN_COLUMN, Tap, quarantine_schema
from lazypipe.incremental.before import GENERATION
from lazypipe.incremental.merging import overtaken
from lazypipe.plan.lineage import Column
from lazypipe.run.recorder import Aside
from lazypipe.run.segment.figures import Counted
from lazypipe.run.segment.groups import fitted
from lazypipe.run.segment.query import Query
from lazypipe.spec.model import NOTHING, Output
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.keyed import Rewrite, rewrite_without
from lazypipe.storage.datasets.log import BACK, REWRITE, ROLLBACK, Commit, DataFile
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.datasets.units import UNIT
from lazypipe.storage.shape import grown
from lazypipe.storage.sink import FEW, DatasetSink

__all__ = ["REPEATED_KEY", "Quarantine", "forget", "go_back", "in_force", "needed"]

REPEATED_KEY = "repeated_key"
"""The reason of rows put aside of which another row of the same run, with the same key and as late, went on."""

_AHEAD_OF = "ahead_of"
"""Where in the ``info`` of its commit stands the output's version that is published right after it."""

_WENT_BACK = "went_back_to"
"""Where stands to which version the output had gone back, if that is what keys were taken out of."""


def go_back(
    aside: Dataset,
    latest: Commit,
    data: Dataset,
    commit: Commit,
    *,
    run: str,
    now: datetime,
    of: str | None = None,
) -> Commit | None:
    """Have a quarantine hold what was put aside at the version that its output has gone back to, if ``commit`` says that it has.

    So it does where the last to put rows aside was a run for the output ``of`` that did not get to publish what went on: it may have
    taken what was there for replaced, and has put rows aside that come again. Returns the quarantine's commit, None if it was not needed.
    """
    back = commit.info.get(BACK)
    if back is None and (latest.info.get("of") != of or _is_published(aside, latest, data, commit)):
        return None
    version = _version_due(aside, data, back)
    vacuumed = aside.log.versions()[0] > 1 or (back is None and data.log.versions()[0] > 1)
    if version is None and vacuumed:
        return None  # what was put aside then is vacuumed: rows that come once more are better than rows that are lost
    if version is None:  # nothing was
        said = {_AHEAD_OF: commit.version if back is None else back}
        schema = pl.Schema(latest.schema)
        return aside.commit((), schema, run=run, time=now, mode=f"{ROLLBACK}0", info=said)
    return None if version == latest.version else aside.rollback(version, run=run, time=now)


def in_force(aside: Dataset, latest: Commit, data: Dataset, commit: Commit, of: str) -> Commit | None:
    """Return what is aside as of the output's version in force, where a run may be under way, or was killed, that has put rows aside; None if nothing is."""
    if latest.info.get("of") != of or _is_published(aside, latest, data, commit):
        return latest
    version = _version_in_force(aside, data)
    return None if version is None else aside.log.read(version)


def _is_published(aside: Dataset, put: Commit, data: Dataset, current: Commit | None) -> bool:
    """Whether the run that put rows aside has published what went on, as of the output's commit in force; if that is not known, it is taken to have."""
    try:
        # files that were only written anew are of the same run
        made = aside.log.read(put.rows_of) if put.mode == REWRITE else put
        version, last = made.info.get(_AHEAD_OF), 0 if current is None else current.version
        if version is None or current is None:
            return version is None
        for number in range(version, last + 1):
            there = current if number == last else data.log.read(number)
            if there.run == made.run or there.mode != REWRITE:
                return there.run == made.run
    except StorageError:  # it was there, and is vacuumed by now, or damaged
        return True
    return False


def _version_in_force(aside: Dataset, data: Dataset) -> int | None:
    """Return the quarantine's version that belongs to the output's version in force, None if nothing was put aside yet."""
    found = [aside.log.read(version) for version in aside.log.versions()]
    runs = {c.version: c.run for c in found}
    last = {runs.get(c.rows_of, c.run): c.version for c in found}
    versions = data.log.versions()
    for version in reversed(versions):
        commit = data.log.read(version)
        if commit.run in last:
            return last[commit.run]
        if BACK in commit.info:
            return _version_of(aside, data, commit.info[BACK])
    return max((c.version for c in found if c.info.get(_AHEAD_OF, 0) < versions[0]), default=None)


def _version_due(aside: Dataset, data: Dataset, back: int | None) -> int | None:
    """Return the quarantine's version that belongs to the one that its output has gone ``back`` to, or that is in force; None if nothing was put aside yet."""
    return _version_in_force(aside, data) if back is None else _version_of(aside, data, back)


def _version_of(aside: Dataset, data: Dataset, back: int) -> int | None:
    """Return the quarantine's version that belongs to the version which its output has gone back to, None if nothing was put aside yet."""
    commits = [data.log.read(version) for version in data.log.versions()]
    runs = {c.run: c.version for c in commits}
    rolled = max((c.version for c in commits if c.brings_back is not None), default=0)
    found = [(q.info.get(_AHEAD_OF, runs.get(q.run, 0)), q) for q in map(aside.log.read, aside.log.versions())]
    # what a feed of keys has taken out since then stays out
    fit = ((n, q.version) for n, q in found if n <= back or (n > rolled and q.info.get(_WENT_BACK) == back))
    return max(fit, default=(0, None))[1]


def needed(aside: Dataset, data: Dataset, of: str | None = None) -> int:
    """Return how many versions of a quarantine the next run needs: where it is to go back, from the one that it goes back to; one that is not ``of`` that output by itself goes back only with it."""
    latest, held = data.latest(), aside.latest()
    back = None if latest is None else latest.info.get(BACK)
    if back is None and (
        latest is None
        or held is None
        or (of is not None and held.info.get("of") != of)
        or _is_published(aside, held, data, latest)
    ):
        return 1
    version = _version_due(aside, data, back) or 0
    return sum(v >= version for v in aside.log.versions())


def forget(query: Query, keys: pl.LazyFrame) -> None:
    """Remove rows whose keys an output deletes from quarantines too: from its own, so that no replay brings them back, and from those ahead of it.

    Ahead are the gates of what the rows are made of in this pipeline, where the key is a column as it was.
    """
    output = query.plan.outputs[query.segment.name]
    own = Dataset(f"{output.to}__quarantine", output.storage_options)
    _forget_in(query, own, query.segment.node, dict.fromkeys(output.key, ""), keys)
    for node, names in _ahead(query.plan, output).items():
        aside = query.plan.state.dataset("quarantine", node)
        _forget_in(query, aside, node, names, keys)


def _ahead(plan: CompiledPipeline, output: Output) -> dict[str, dict[str, str]]:
    """Return the nodes ahead of who writes an output whose gates put rows aside, and what each column of the key is called there."""
    writer = next((o for o in plan.outputs.values() if o.to == output.to and o.mode != "delete"), None)
    gated = {n for n, node in plan.nodes.items() if any(c.action == "quarantine" for c in node.checks)}
    if writer is None or not gated - {writer.stage}:
        return {}
    found: dict[str, dict[str, str]] = {}
    lineage = plan.lineage()
    for name in output.key:
        left, seen = [Column(writer.stage, name)], set[Column]()
        edges = [e for e in lineage.upstream(f"{writer.stage}.{name}").edges if e.subtype == "IDENTITY"]
        while left:
            at = left.pop()
            seen.add(at)
            found.setdefault(at.dataset, {}).setdefault(name, at.name)
            left += [e.source for e in edges if e.target == at and e.source not in seen]
    return {n: names for n, names in found.items() if n in gated - {writer.stage} and len(names) == len(output.key)}


def _forget_in(query: Query, aside: Dataset, node: str, names: Mapping[str, str], keys: pl.LazyFrame) -> None:
    """Take rows out of what a gate has put aside; ``names`` says what the columns of the key are called there, if otherwise."""
    run, work = query.run, query.work
    before, current = aside.latest(), work.commit
    if before is None or current is None:
        return
    output = query.plan.outputs[query.segment.name]
    data, name = Dataset(output.to, output.storage_options), query.segment.name
    # what several outputs share goes by what is kept of it, and not by the versions of this one
    of = next((n for n, o in query.plan.outputs.items() if n == before.info.get("of") and o.to == output.to), None)
    back = go_back(aside, before, data, current, run=run.id, now=run.now, of=of)
    if back is not None:
        run.recorder.put_aside(name, Aside.back(node, aside.uri, back))
        before = back
    if not before.rows:
        return
    key = [there or here for here, there in names.items()]
    if not set(key) <= before.schema.keys():
        return  # they were put aside before rows had this key
    held = fitted(keys.select(pl.col(here).alias(there or here) for here, there in names.items()), before.schema)
    prefix = f"{run.id}-{query.number:03}h"
    found = rewrite_without(aside, before, held, key, prefix=prefix)
    if not found.replaced:
        return
    files = run.recorder.hashed(aside.uri, found.files, aside.storage_options)
    said: dict[str, Any] = {} if work.version is None else {_AHEAD_OF: work.version + 1}
    said |= {_WENT_BACK: current.info[BACK]} if BACK in current.info else {}
    said |= {GENERATION: run.id} if before.tagged else {}
    try:
        commit = aside.commit(
            files,
            before.schema,
            run=run.id,
            time=run.now,
            mode="change",
            info={**before.info, **said, **run.recorder.info},
            tagged=before.tagged,
            without=found.without,
            keys=key,
            known=before,
        )
    except BaseException:
        found.discard()
        raise
    run.recorder.put_aside(name, Aside(node, aside.uri, commit, files, "change"))


class Quarantine:
    """Where the gate of one node puts rows aside in a run, and the commit of them."""

    def __init__(self, query: Query, name: str) -> None:
        self.query = query
        self.name = name
        self.run = query.run
        # late rows may be aside ahead of a stage that tells none apart by now
        self.node = query.plan.nodes.get(name) or query.plan.nodes[name.removesuffix(LATE)]
        self.schema = quarantine_schema(self.node.schema, raw=bool(self.node.raw))
        self.output = query.plan.outputs[query.segment.output] if query.segment.output else None
        self.staged: list[DatasetSink] = []
        self.went_back = False
        # where keys are only removed, the dataset's quarantine is that of the output which writes it
        own = self.output is not None and name == query.segment.node and self.output.mode != "delete"
        if self.output is not None and own:
            options = self.output.storage_options
            self.dataset = Dataset(f"{self.output.to}__quarantine", options, delta=self.output.delta_log)
        else:
            self.dataset = query.plan.state.dataset("quarantine", name)
        self.places = ((), ()) if self.output is None else places(self.output)
        self.by_key = self.output.key if self.output is not None and own and self.output.format == "dataset" else ()

    def publish(self, tap: Tap, good: Callable[[], pl.LazyFrame]) -> None:
        """Commit what the gate has put aside; ``good`` gives the rows that went on."""
        before = self._go_back(self.dataset.latest())
        if self.query.unit(self.name):
            self._change(tap, before)
        else:
            self._replace(tap, good, before)
        tap.forget()

    def clear(self) -> None:
        """Have nothing be aside any more, where a gate is gone from the definition and all of its rows were made anew."""
        before = self.dataset.latest()
        if before is not None and not self._adds and (before.rows or self._is_left_behind(before)):
            self.schema = pl.Schema(before.schema)
            self._commit(GateReport(self.name, (), 0, 0), (), mode="replace", kept="replace", known=before)

    def _go_back(self, before: Commit | None) -> Commit | None:
        """Begin with what was put aside at the version that the output has gone back to, or that is in force; return the quarantine's commit."""
        work = self.query.work
        if before is None or work.commit is None:
            return before
        if work.kind == "units" or (self._adds and BACK not in work.commit.info):
            return self._return_to(work.commit, before)
        return before

    def take_back(self) -> None:
        """Have the quarantine hold what belongs to the output's version in force, where another run has published that meanwhile."""
        with suppress(StorageError, CommitConflict):  # left to the next run
            before, current = self.dataset.latest(), None if self.query.dataset is None else self.query.dataset.latest()
            if before is not None and current is not None and BACK not in current.info:
                self._return_to(current, before)

    def _return_to(self, current: Commit, before: Commit) -> Commit:
        if self.query.dataset is None:
            return before
        run, of = self.run, self.query.segment.output or self.name
        made = go_back(self.dataset, before, self.query.dataset, current, run=run.id, now=run.now, of=of)
        if made is None:
            return before
        self.went_back = True
        run.recorder.put_aside(self.query.segment.name, Aside.back(self.name, self.dataset.uri, made))
        return made

    def _replace(self, tap: Tap, good: Callable[[], pl.LazyFrame], before: Commit | None) -> None:
        report = tap.report(self.name)
        mode = kept = "append" if self._adds else "replace"
        parts: Iterable[pl.LazyFrame] = map(self._told, tap.quarantined())
        if self.by_key and self.output is not None and self.output.mode in ("upsert", "scd2"):
            parts = (self._marked(part, good) for part in parts)
        rows = report.quarantined
        healed = Rewrite()
        if mode == "append" and before is not None:
            if RAW_COLUMN in before.schema and RAW_COLUMN not in self.schema:  # of a contract that took cells out
                self.schema = quarantine_schema(self.node.schema, raw=True)
                none = pl.lit(None, dtype=pl.String).alias(RAW_COLUMN)
                parts = (part.with_columns(none).select(self.schema.names()) for part in parts)
            same, lost = dict(before.schema) == dict(self.schema), self._is_left_behind(before)
            if same and not lost:
                healed = self._healed(before, good)
                mode = "change" if healed.replaced else mode
            else:
                left = self._still_aside(before, good, lost=lost, more=report.quarantined > 0)
                if left is not None:
                    parts, mode = chain([left.lazy()] if left.height else [], parts), "replace"
                    rows += left.height
                elif report.quarantined and not same:
                    raise self._other_columns(before)
        if not report.quarantined and (mode == "append" or before is None):
            return
        files = [*self._hashed(healed.files)]
        files += [f for number, part in enumerate(parts) for f in self._write(number, part, few=rows <= FEW)]
        # rows from before may still be in it, whichever way it was written
        self._commit(report, files, mode=mode, kept=kept, without=healed.without, known=before)

    def _other_columns(self, before: Commit) -> StorageError:
        old, new = before.schema, self.schema
        named = ", ".join(repr(n) for n, t in old.items() if new.get(n) != t)
        what = f"rows of {self.name!r} that were quarantined before have values in {named}, but rows no longer have such a column, or have it with another type"
        log = self.dataset.log.uri.rpartition("/")[2]
        fix = f"keep the columns, run once in full (--full), or delete this and {log} if those rows are not needed"
        return StorageError(what, uri=self.query.plan.redact(self.dataset.uri), fix=fix)

    @property
    def _adds(self) -> bool:
        """Whether the rows of before were not judged again in this run."""
        work = self.query.work
        if self.output is None or not work.adds or work.anew:
            return False
        return self.output.mode == "append" or work.kind == "units"

    def _change(self, tap: Tap, before: Commit | None) -> None:
        """Put this run's rows aside, and take those away whose unit is gone, or of which no commit of the output knows."""
        report, work = tap.report(self.name), self.query.work
        live = frozenset(work.tallies.get(self.name, {})) if work.kind == "units" else frozenset()
        follows = before is not None and before.tagged and work.kind == "units"
        gone = before.units - live if before is not None and follows else frozenset()
        stays = before is None or (follows and not gone) or not (before.rows or follows)
        if not report.quarantined and stays and (before is None or not self._is_left_behind(before)):
            return
        files: list[DataFile] = []
        for number, part in enumerate(map(self._named, tap.quarantined())):
            files += self._told_apart(number, part, few=report.quarantined <= FEW)
        mode, said = ("change", before.info) if before is not None and follows else ("replace", NOTHING)
        # rows that are judged again are others of the same units
        since = {GENERATION: said.get(GENERATION, self.run.id)}
        self._commit(report, files, since, mode=mode, kept="replace", tagged=True, gone=gone, known=before)

    def _named(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        return self.query.with_files(self.query.with_units(rows))

    def _told(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Replace the unit that rows carry only for this purpose by the name of the file they came from."""
        return self._named(rows).drop(UNIT) if UNIT in rows.collect_schema() else rows

    def _told_apart(self, number: int, rows: pl.LazyFrame, *, few: bool) -> tuple[DataFile, ...]:
        """Write rows that know their units to files that say how many of each they hold."""
        counted = Counted()
        files = self._write(number, counted.attach(rows), few=few)
        return counted.files(files, partial(count_units, self.dataset.uri, files, self.dataset.storage_options))

    def _write(self, number: int, rows: pl.LazyFrame, *, few: bool) -> tuple[DataFile, ...]:
        prefix, options = f"{self.run.id}-{self.query.number:03}-{number:03}", self.dataset.storage_options
        sink = DatasetSink(self.dataset.uri, prefix, storage_options=options, told=self.run.recorder.follow)
        self.staged.append(sink)
        return self._hashed(sink.write(rows, few=few, keys=self.by_key).files)

    def _hashed(self, files: Sequence[DataFile]) -> tuple[DataFile, ...]:
        return self.run.recorder.hashed(self.dataset.uri, files, self.dataset.storage_options)

    def _commit(
        self,
        report: GateReport,
        files: Sequence[DataFile],
        said: Mapping[str, Any] = NOTHING,
        *,
        mode: str,
        kept: str,
        **more: Any,
    ) -> None:
        info = {
            "of": self.query.segment.output or self.name,
            **({} if self.query.work.version is None else {_AHEAD_OF: self.query.work.version + 1}),
            "gate": report.to_dict(),
            **said,
            **self.query.tags(self.node.name),
            **self.run.recorder.info,
        }
        run, now, keys = self.run.id, self.run.now, self.by_key
        commit = self.dataset.commit(files, self.schema, run=run, time=now, mode=mode, info=info, keys=keys, **more)
        self.staged.clear()
        self.run.recorder.put_aside(self.query.segment.name, Aside(self.name, self.dataset.uri, commit, files, kept))

    def _healed(self, before: Commit, good: Callable[[], pl.LazyFrame]) -> Rewrite:
        """Write the files that hold rows put aside before whose key has come by, good, once more without these."""
        if not self.by_key or not before.rows:
            return Rewrite()
        prefix = f"{self.run.id}-{self.query.number:03}h"
        on, order = self.places
        keys = good().select(on).drop_nulls()
        if order:
            rows = self.dataset.scan(before).select([*dict.fromkeys([*on, *order])]).join(keys, on=on, how="semi")
            held = rows.collect(engine="streaming")
            held = held.filter(self._came_again(held, good))
            keys, on = held.lazy(), tuple(held.columns)
        found = rewrite_without(self.dataset, before, keys, on, prefix=prefix)
        self.staged += found.sinks
        return found

    def _marked(self, rows: pl.LazyFrame, good: Callable[[], pl.LazyFrame]) -> pl.LazyFrame:
        """Add a reason to rows put aside of which another of the same run, with their key and place in the order, goes on: no replay can tell which is later."""
        on, order = self.places
        names, both = [*dict.fromkeys([*on, *order])], "__lazypipe_both"
        same = good().select(names).join(rows.select(names), on=names, how="semi", nulls_equal=True).unique()
        told = rows.join(same.with_columns(pl.lit(value=True).alias(both)), on=names, how="left", nulls_equal=True)
        more = pl.concat_list(RULES_COLUMN, pl.lit(REPEATED_KEY))
        rules = pl.when(pl.col(both).is_not_null()).then(more).otherwise(pl.col(RULES_COLUMN))
        return told.with_columns(rules.alias(RULES_COLUMN)).drop(both)

    def _came_again(self, held: pl.DataFrame, good: Callable[[], pl.LazyFrame]) -> pl.Series:
        """Say of each row put aside before whether one of its key came by, good, that is as late in the output's order, or later."""
        on, order = self.places
        same = good().select([*dict.fromkeys([*on, *order])]).join(held.lazy().select(on), on=on, how="semi")
        return overtaken(held, same.collect(engine="streaming"), on, order, equal=True)

    def _still_aside(
        self, before: Commit, good: Callable[[], pl.LazyFrame], *, lost: bool, more: bool
    ) -> pl.DataFrame | None:
        """Return what stays of the rows put aside before by a killed run or of other columns, with those of now; None if they can stay as they are."""
        rows, same = self.dataset.scan(before), dict(before.schema) == dict(self.schema)
        if lost:  # its rows come again
            rows = rows.filter(pl.col(RUN_COLUMN).ne_missing(before.run))
        held = rows if same else grown(rows, before.schema, self.schema)
        left = None if held is None else held.collect(engine="streaming")
        if left is not None and self.by_key:
            # of the types of now; rows from before a column of the key have no value in it
            left = left.filter(~self._came_again(left, good))
        return None if left is not None and left.height == before.rows and (same or not more) else left

    def _is_left_behind(self, before: Commit) -> bool:
        """Whether the run that put rows aside was killed before it published those that are good; what is aside now is to be said once more then."""
        if self.went_back or self.output is None or self.query.dataset is None:
            return False
        return not _is_published(self.dataset, before, self.query.dataset, self.query.work.commit)
