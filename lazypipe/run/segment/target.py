"""Where one attempt at a segment writes: an output, or rows kept for later segments; and what readers do not see yet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from lazypipe.compile.outputs.modes import SNAPSHOT_AT, merges
from lazypipe.compile.segments import Segment
from lazypipe.errors import CommitConflict, StorageError
from lazypipe.incremental.shared import state_of
from lazypipe.incremental.work import Work
from lazypipe.run.context import Run, refuse_used
from lazypipe.run.segment.groups import Groups
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.data_files import find_odd, scan_files
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.datasets.tiers import most_rows
from lazypipe.storage.sink import DatasetSink, ExportSink, Written

if TYPE_CHECKING:
    from lazypipe.run.layouts import Choice

__all__ = ["Target"]


class Target:
    """Where one try at a segment writes.

    ``staged`` are its sinks so far, to be taken away if it fails. Only the ``groups`` that a change touches are made anew, if they
    are known. Files are laid out as the ``choice`` says, which this run made if it is ``chosen``; it ``waits`` while there are few rows. ``state`` is the dataset that says what
    was counted of rows that are kept for the run only.
    """

    def __init__(self, run: Run, segment: Segment, number: int, work: Work) -> None:
        self.run = run
        self.plan = run.plan
        self.segment = segment
        self.number = number
        self.work = work
        self.output = self.plan.outputs[segment.output] if segment.output else None
        self.uri = self.output.to if self.output else str(run.folder / segment.name)
        self.state = state_of(run.plan, segment)
        self.schema = self.plan.nodes[segment.node].schema
        self.groups: Groups | None = None
        self.staged: list[DatasetSink | ExportSink] = []
        self.choice: Choice | None = None
        self.chosen = False
        self.waits = False

    def prefix(self, suffix: str) -> str:
        """Return how the names of files begin that this try writes."""
        return f"{self.run.id}-{self.number:03}{suffix}"

    def latest(self) -> Commit | None:
        """Return the commit that is in force now; the one that this run builds upon is not read again."""
        return self.dataset.latest(self.work.commit)

    @cached_property
    def before(self) -> Commit | None:
        """The commit that this run builds upon, None if there is none."""
        return self.dataset.latest() if self.work.version is None else self.work.commit

    def current_version(self) -> int:
        """Return the version that is in force now, 0 if there is none."""
        kept = self.state if self.output is None else self.dataset if self.output.format == "dataset" else None
        latest = None if kept is None else kept.latest()
        return latest.version if latest else 0

    @property
    def removes_keys(self) -> bool:
        """Whether it only takes rows out of what other outputs have written."""
        return self.output is not None and self.output.mode == "delete"

    def refuse_conflict(self, expected: int) -> Commit | None:
        """Raise CommitConflict where another run has committed to the output since this one looked; return what is in force."""
        if self.output is None or self.output.format != "dataset":
            return None
        latest = self.latest()
        if not (expected == 0 if latest is None else latest.stands(expected)):
            raise CommitConflict(
                "another run committed in the meantime",
                uri=self.plan.redact(self.uri),
                fix="run again: nothing of this run became visible",
            )
        return latest

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset that the output is."""
        assert self.output is not None
        return Dataset(self.uri, self.output.storage_options, delta=self.output.delta_log)

    def refuse_changes(self) -> None:
        """Raise StorageError where an output with a contract has got other columns since the pipeline was compiled."""
        name = self.segment.output
        if name is None or name not in self.plan.held:
            return
        latest = self.latest()
        known = (self.plan.held[name], self.schema)
        if latest is not None and all(dict(latest.schema) != dict(k or {}) for k in known):
            what = f"output {name!r}: its columns have changed since the pipeline was compiled"
            raise StorageError(what, uri=self.plan.redact(self.uri), fix="compile the pipeline again")

    def refuse_gone(self) -> None:
        """Raise StorageError where this run builds upon a version of which a data file is gone."""
        builds = self.work.kind == "units" or (self.work.adds and not self.work.anew)
        if self.output is None or self.output.format != "dataset" or not builds:
            return
        if self.before is not None:
            self.dataset.refuse_gone(self.before)

    def refuse_used(self) -> None:
        """Raise LazypipeError where a run of the same id has written what is there, whose record is gone: its files would be written over."""
        if self.output is None or self.output.format != "dataset" or self.before is None:
            return
        if self.before.run == self.run.id:  # which another output of this run may have committed too
            refuse_used(self.run.id, self.before.files, self.prefix(""))

    def sink(self, suffix: str, rows: int | None = None) -> DatasetSink | ExportSink:
        """Return where rows go; of an output by groups, about how many ``rows`` it has then, if that is known."""
        prefix = self.prefix(suffix)
        if self.output is None:
            made: DatasetSink | ExportSink = DatasetSink(self.uri, prefix, spill=True)
        elif self.is_merged:
            made = DatasetSink(str(self.run.folder / f"{self.segment.name}.came"), prefix, spill=True)
        elif self.output.format == "dataset":
            layout = None if self.choice is None else self.choice.layout
            few = self.output.maintain.get("small_files")
            # what is laid out is in an order of its own, and changes in what is of no time are anywhere: in all files
            timed = any(self.schema[name].is_temporal() for _, name in self.work.groups)
            known = rows if layout is None and timed and rows is not None else sys.maxsize
            most = most_rows(known, few) if self.work.groups else None
            by = self.output.partition_by or (() if layout is None else layout.partition_by)
            options = self.output.storage_options
            # what is going to be written once more is written in haste
            again = layout is None and self.output.optimize is not None and not self.waits
            told = None if again else self.run.recorder.follow
            made = DatasetSink(self.uri, prefix, by, options, layout=layout, most_rows=most, told=told, spill=again)
        else:
            told = self.run.recorder.follow
            made = ExportSink(self.uri, self.output.format, prefix, self.output.storage_options, told=told)
        self.staged.append(made)
        return made

    def looked_up(self, schema: pl.Schema) -> list[str]:
        """Return the columns by which later runs look up rows: the key of those that they replace, or the groups."""
        if self.output is None:
            return []
        by = [SNAPSHOT_AT] if self.output.mode == "snapshot" else [*self.output.key, *(n for _, n in self.work.groups)]
        return [n for n in by if n in schema]

    @property
    def is_sorted(self) -> bool:
        """Whether rows must be written in the order in which they come."""
        steps = self.plan.nodes[self.segment.node].steps
        return bool(steps) and steps[-1][0].name == "sort"

    @property
    def path(self) -> str:
        """Where the files of the target are, as sinks name it."""
        return (uris.local_path(self.uri) if uris.is_local(self.uri) else self.uri).rstrip("/")

    def hashing(self, sink: DatasetSink | ExportSink, written: Written) -> Callable[[], tuple[DataFile, ...]]:
        """Begin to hash what was written, where that is going to be recorded; what is returned waits for it."""
        if self.output is None or self.is_merged:
            return lambda: written.files
        if isinstance(sink, DatasetSink):
            schema, options = self.schema, sink.storage_options
            files = find_odd(sink.uri, written.files, schema, options, tagged=self.work.told_apart)
            return self.run.recorder.hashing(sink.uri, files, options)
        name = sink.staged.rpartition("/")[2]
        folder = sink.staged.removesuffix(name)
        return self.run.recorder.hashing(folder, written.files, sink.storage_options, names=[name])

    def hashing_of(self, merged: Sequence[DataFile]) -> Callable[[], tuple[DataFile, ...]]:
        """Begin to hash what is there after rows were put together; what is returned waits for it."""
        return self.run.recorder.hashing(self.path, merged, self.dataset.storage_options)

    def made(self, written: Written) -> int:
        """Return how many of the rows that were written are new ones, and not of groups that stay as they are."""
        return written.rows - (0 if self.groups is None else self.groups.beside)

    def rows_of(self, sink: DatasetSink | ExportSink, written: Written) -> pl.LazyFrame:
        """Return the rows that a sink wrote."""
        if isinstance(sink, ExportSink):
            return pl.LazyFrame(schema=self.schema)  # an export is written only where nobody else reads
        tagged = self.work.told_apart and sink.uri.rstrip("/") == self.path
        return scan_files(sink.uri, written.files, self.schema, sink.partition_by, sink.storage_options, tagged=tagged)

    @property
    def is_merged(self) -> bool:
        """Whether rows are put together with those that are there, and only that is published."""
        return self.output is not None and self.work.adds and merges(self.output)

    def is_published(self, name: str) -> bool:
        """Whether the rows of a node are those of the output, and it is a dataset."""
        return name == self.segment.node and self.output is not None and self.output.format == "dataset"

    def reported(self) -> dict[str, Any] | None:
        """Return what the gate of the output found, as the commit that this run builds upon says."""
        commit = self.work.commit
        reports = [] if commit is None else commit.info.get("gates", ())
        return next((r for r in reports if r["node"] == self.segment.node), None)
