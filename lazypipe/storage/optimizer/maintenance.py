"""Rewriting a dataset's files: merged, sorted, in another layout or other partitions, without deleted rows.

Readers go on with the files of their version; runs that commit meanwhile do so. What was rewritten becomes visible by one commit, which
holds the same rows and says so, so that whatever was built upon the commit before can still be committed on top of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import polars as pl

from lazypipe.errors import CommitConflict, StorageError, counted
from lazypipe.spec.model import NOTHING
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.content import hash_file
from lazypipe.storage.datasets.data_files import find_odd
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DELTA, KEPT, REWRITE, Commit, DataFile, partitioned
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.lake.fitting import plain
from lazypipe.storage.optimizer.forms import by_owner
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.order import with_bounds
from lazypipe.storage.optimizer.overlap import overlaps
from lazypipe.storage.optimizer.packing import Task, compaction, live_bytes, renewal, target_bytes
from lazypipe.storage.optimizer.writing import check_layout
from lazypipe.storage.parquet.footers import column_bytes
from lazypipe.storage.sink import DatasetSink

__all__ = ["Rewrite", "advised_folders", "compact", "kept_layout", "recluster", "relayout", "sample"]

_SAMPLE = 100_000
_SAMPLED_FILES = 64
_STRETCH, _STRETCHES = 500, 8
"""Rows at least that follow each other in a sample, and stretches of such rows in a file: where rows are in order, the first are all alike."""
_TRIES = 100


@dataclass(frozen=True)
class Rewrite:
    """What was rewritten, or would be.

    Parameters
    ----------
    uri
        The dataset.
    version
        The new version. None if nothing was committed: there was nothing to do, or it was a dry run.
    tasks
        Which files are merged or rewritten together, and why.
    replaced, written
        Files that are no longer part of the dataset, and the new files with their rows.
    before, after
        Bytes of each column in these files.
    layout
        The layout of the new files, if one was requested, with ``reasons``.
    missed
        How many tasks were given up because another run replaced their files first.
    dead
        How many deleted rows were removed from files.
    record, unrecorded
        The number of its record in the ledger; if it could not be recorded, why.
    """

    uri: str
    version: int | None
    tasks: tuple[Task, ...]
    replaced: tuple[DataFile, ...] = ()
    written: tuple[DataFile, ...] = ()
    before: Mapping[str, int] = NOTHING
    after: Mapping[str, int] = NOTHING
    layout: Layout | None = None
    reasons: tuple[str, ...] = ()
    missed: int = 0
    dead: int = 0
    record: int | None = None
    unrecorded: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "uri": self.uri,
            "version": self.version,
            "tasks": [{"files": [f.path for f in t.files], "why": t.why} for t in self.tasks],
            "files": [len(self.replaced), len(self.written)],
            "bytes": [sum(f.bytes for f in self.replaced), sum(f.bytes for f in self.written)],
            "dead_rows": self.dead,
            "missed": self.missed,
            "columns": {n: [self.before.get(n), self.after.get(n)] for n in dict.fromkeys([*self.before, *self.after])},
            "layout": None if self.layout is None else self.layout.to_dict(),
            "reasons": list(self.reasons),
            "record": self.record,
            "unrecorded": self.unrecorded,
        }

    def to_markdown(self) -> str:
        """Return a report: files and bytes before and after, in total and per column, and the reasons."""
        plain = self.to_dict()
        planned = self.version is None and self.tasks
        lines = [f"# {'Plan' if planned else 'Rewrite'} of {self.uri}", "", str(self), ""]
        if self.after:
            lines += ["| column | bytes before | bytes after | change |", "|---|---:|---:|---:|"]
            lines += [_row(n, b, a) for n, (b, a) in plain["columns"].items()]
            lines += [_row("**all**", sum(self.before.values()), sum(self.after.values())), ""]
        elif self.before:
            lines += ["| column | bytes |", "|---|---:|", *(f"| {n} | {b:,} |" for n, b in self.before.items()), ""]
        if self.tasks:
            lines += ["## Files", "", *(f"- {t.why}" for t in self.tasks), ""]
        if self.reasons:
            lines += ["## Why this layout", "", *(f"- {r}" for r in self.reasons), ""]
        return "\n".join(lines)

    def __str__(self) -> str:
        old, files = sum(f.bytes for f in self.replaced), counted(len(self.replaced), "file")
        if not self.tasks:
            return f"{self.uri}: nothing to do"
        if self.version is None:
            if self.missed:
                return f"{self.uri}: nothing was rewritten, because another run had replaced the files; run again"
            return f"{self.uri}: would rewrite {files} ({old:,} bytes, {counted(self.dead, 'dead row')})"
        new = sum(f.bytes for f in self.written)
        said = f"{files} ({old:,} bytes) became {len(self.written):,} ({new:,} bytes)"
        missed = f"; {self.missed} parts had changed in the meantime, run again" if self.missed else ""
        silent = f"; not in the ledger: {self.unrecorded}" if self.unrecorded else ""
        return f"{self.uri}: version {self.version}: {said}, {counted(self.dead, 'dead row')} left out{missed}{silent}"


def _row(name: str, before: int | None, after: int | None) -> str:
    change = f"{(after - before) / before:+.1%}" if before and after is not None else ""
    shown = ["" if n is None else f"{n:,}" for n in (before, after)]
    return f"| {name} | {shown[0]} | {shown[1]} | {change} |"


def kept_layout(commit: Commit) -> Layout | None:
    """Return the layout that a dataset's next files are to have, None if none was ever chosen."""
    said = commit.info.get(KEPT)
    if said is None:
        return None
    layout = Layout.from_dict(said["layout"])
    return plain(layout) if DELTA in commit.info else layout


def advised_folders(commit: Commit) -> tuple[str, ...]:
    """Return the columns whose values runs make folders of by advice, where the dataset has no partitions of its own."""
    layout = None if commit.partition_by else kept_layout(commit)
    return () if layout is None else layout.partition_by


def sample(dataset: Dataset, commit: Commit, rows: int = _SAMPLE) -> pl.DataFrame:
    """Return some rows of each file (of many: of some), in stretches that are spread over it, in the order of the files."""
    total = commit.rows
    if not total:
        return dataset.scan(commit).collect()
    parts = []
    step = -(-len(commit.files) // _SAMPLED_FILES)
    for file in commit.files[::step]:
        live = file.rows - file.dead(commit.gone)
        share = min(-(-rows * step * live // total), live)
        of, number = dataset.scan(replace(commit, files=(file,))), max(min(share // _STRETCH, _STRETCHES), 1)
        # as many rows in all, wherever divisions leave some
        ends = [share * i // number for i in range(number + 1)]
        parts += [of.slice((live - share) * i // number + ends[i], ends[i + 1] - ends[i]) for i in range(number)]
    return pl.concat(parts).head(rows).collect(engine="streaming")


def _with_bounds(dataset: Dataset, commit: Commit, layout: Layout) -> Layout:
    """Return a layout with the bounds of its curve, as all rows tell them that there are: as many as fit into a sample, evenly spread."""
    if layout.curve == "linear":
        return layout
    every = max(commit.rows // _SAMPLE, 1)
    some = dataset.scan(commit).select(pl.col(layout.sort_by).gather_every(every)).collect(engine="streaming")
    return with_bounds(layout, some, dataset.uri)


def compact(
    dataset: Dataset,
    *,
    run: str,
    time: datetime,
    target: int | None = None,
    dead: float | None = None,
    dry_run: bool = False,
    commit: Commit | None = None,
) -> Rewrite:
    """Write many small files as fewer, and leave out dead rows; in the layout that the dataset has.

    Parameters
    ----------
    run, time
        The id that names new files, never used before, and the moment that the commit says.
    target
        Bytes of a file on disk. Default: what the layout says, or 128 MiB.
    dead
        Which part of a file's rows may be dead. Default: a fifth.
    dry_run
        Whether only to say what would be done.
    commit
        The dataset as it was looked at. Default: the latest.

    Raises
    ------
    StorageError, SourceError
        If there is no dataset, or files cannot be read or written; then nothing has changed.
    """
    latest = commit or dataset.read()
    layout = kept_layout(latest)
    tasks = compaction(latest, target, layout=layout, dead=dead)
    return _Work(dataset, latest, tasks, run, time, target).done(dry_run=dry_run)


def relayout(
    dataset: Dataset,
    layout: Layout,
    *,
    run: str,
    time: datetime,
    partition_by: Sequence[str] | None = None,
    goal: str | None = None,
    reasons: Iterable[str] = (),
    every: bool = False,
    dry_run: bool = False,
    commit: Commit | None = None,
) -> Rewrite:
    """Give a dataset's files a layout; the commit keeps it, and runs write their files in it from then on.

    Parameters
    ----------
    run, time, dry_run, commit
        See ``compact``.
    partition_by
        Columns whose values become folders. Default: the layout's, or, if it has none, what each file has now; folders that were
        advised stay advised.
    goal, reasons
        What the layout was chosen for, and why: to be kept and told.
    every
        Whether files that have the layout already are written anew too, so that all are in order with each other.

    Raises
    ------
    StorageError
        If there is no dataset, the layout does not fit its columns, or files cannot be read or written; then nothing has changed.
    """
    latest = commit or dataset.read()
    by = tuple(partition_by) if partition_by is not None else layout.partition_by or None
    if latest.info.get("ordered"):
        layout = replace(layout, sort_by=(), curve="linear")  # the pipeline has ordered the rows
    layout = replace(plain(layout) if DELTA in latest.info else layout, partition_by=())
    advised = () if by is not None else advised_folders(latest)
    check_layout(replace(layout, partition_by=by or ()), latest.schema, dataset.uri)
    _check_folders(by or (), latest.schema, dataset.uri)
    there = kept_layout(latest)
    if there is not None and not every and replace(there, partition_by=(), bounds=layout.bounds) == layout:
        layout = replace(there, partition_by=())  # others may follow from another sample; that is no other layout
    else:
        layout = _with_bounds(dataset, latest, layout)
    tasks = renewal(latest, layout, by, every=every)
    kept = {"goal": goal, "layout": replace(layout, partition_by=advised).to_dict(), "reasons": list(reasons)}
    work = _Work(dataset, latest, tasks, run, time, layout.file_bytes, by, kept, layout, tuple(reasons))
    return work.done(dry_run=dry_run)


def recluster(dataset: Dataset, most: float, *, run: str, time: datetime) -> Rewrite | None:
    """Put the rows of partitions in order again whose files overlap too much; None if there are none, or there is no order.

    Parameters
    ----------
    most
        How many files of a partition may hold the same values of what rows are ordered by, on average.
    run, time
        See ``compact``.

    Raises
    ------
    StorageError, SourceError
        If files cannot be read or written; then nothing has changed.
    """
    latest = dataset.read()
    layout = kept_layout(latest)
    if layout is None or not layout.sort_by or latest.info.get("ordered"):
        return None
    due = {folder: n for folder, n in overlaps(dataset, latest, layout).items() if n > most}
    if not due:
        return None
    kept = None
    if layout.curve != "linear":
        # what came since may lie beyond the bounds that there are
        layout = _with_bounds(dataset, latest, layout)
        kept = {**latest.info[KEPT], "layout": layout.to_dict()}
    tasks = tuple(
        replace(t, why=f"{due[f]:.1f} files of {f or 'the dataset'} hold the same {', '.join(layout.sort_by)}")
        for t in renewal(latest, layout, None, every=True)
        if (f := t.files[0].folder) in due
    )
    return _Work(dataset, latest, tasks, run, time, layout.file_bytes, None, kept, mark="o").done(dry_run=False)


def _check_folders(names: Sequence[str], schema: Mapping[str, pl.DataType], uri: str) -> None:
    for name in names:
        if not hive.can_name(schema[name]):
            what = f"{schema[name]} column {name!r} cannot be a partition column"
            raise StorageError(what, uri=uri, fix="partition by text, whole numbers, booleans, dates or datetimes")
    if names and set(names) == set(schema):
        raise StorageError("every column is a partition column", uri=uri, fix="leave one for the files")


@dataclass
class _Work:
    """Tasks that are written and committed, or taken away again."""

    dataset: Dataset
    commit: Commit
    tasks: tuple[Task, ...]
    run: str
    time: datetime
    target: int | None
    partition_by: tuple[str, ...] | None = None
    kept: Mapping[str, Any] | None = None
    layout: Layout | None = None
    reasons: tuple[str, ...] = ()
    mark: str = ""
    """What tells the names of its files from those of another work of the same run."""
    sinks: list[DatasetSink] = field(default_factory=list)

    def done(self, *, dry_run: bool) -> Rewrite:
        replaced = tuple(f for t in self.tasks for f in t.files)
        made = Rewrite(
            self.dataset.uri,
            None,
            self.tasks,
            replaced,
            layout=self.layout,
            reasons=self.reasons,
            dead=self._dead(replaced),
        )
        if not self.tasks and not self._says_more():
            return made
        made = replace(made, before=self._columns(replaced))
        if dry_run:
            return made
        try:
            written = [(t, self._write(number, t)) for number, t in enumerate(self.tasks)]
            commit, held = self._publish(written)
        except BaseException:
            for sink in self.sinks:
                sink.discard()
            raise
        missed = [number for number, pair in enumerate(written) if pair not in held]
        for number in missed:
            self.sinks[number].discard()
        replaced = tuple(f for t, _ in held for f in t.files)
        files = tuple(f for _, fs in held for f in fs)
        return replace(
            made,
            version=None if commit is None else commit.version,
            replaced=replaced,
            written=files,
            before=self._columns(replaced) if missed else made.before,
            after=self._columns(files),
            missed=len(missed),
            dead=self._dead(replaced),
        )

    def _columns(self, files: Iterable[DataFile]) -> dict[str, int]:
        names = [uris.join(self.dataset.uri, f.path) for f in files]
        return by_owner(column_bytes(names, self.dataset.storage_options))

    def _dead(self, files: Iterable[DataFile]) -> int:
        return sum(f.dead(self.commit.gone) for f in files)

    def _says_more(self) -> bool:
        """Whether the commit is to keep another layout, or other partitions, than it does."""
        if self.kept is None:
            return False
        said = self.commit.info.get(KEPT)
        moved = self.partition_by is not None and self.partition_by != self.commit.partition_by
        return moved or said is None or said["layout"] != self.kept["layout"]

    def _write(self, number: int, task: Task) -> tuple[DataFile, ...]:
        """Write the live rows of a task's files; returns the new files as a commit holds them."""
        dataset, commit = self.dataset, self.commit
        live = sum(f.rows - f.dead(commit.gone) for f in task.files)
        size = sum(live_bytes(f, commit) for f in task.files)
        most = target_bytes(self.target, task.layout)
        # as many rows to a file as give its bytes, judged by what the rows take now; a last file of almost nothing is not made
        parts = max(1, -(-size // most))
        sink = DatasetSink(
            dataset.uri,
            f"{self.run}-{number // 1000 + 1:03}{self.mark}-{number % 1000:03}",
            task.partition_by,
            dataset.storage_options,
            layout=task.layout,
            most_rows=max(1, -(-live // parts)) if self._stays(task) else None,
        )
        self.sinks.append(sink)
        rows = dataset.scan(replace(commit, files=task.files), tags=commit.tagged)
        files = sink.write(rows).files
        if sum(f.rows for f in files) != live:
            what = f"{live:,} rows were to be rewritten, and {sum(f.rows for f in files):,} were"
            raise StorageError(
                what, uri=dataset.uri, fix="nothing was committed; compare the files with the commit log"
            )
        if not live:
            sink.discard()
            return ()
        if commit.tagged:
            files = count_units(dataset.uri, files, dataset.storage_options)
        files = find_odd(dataset.uri, files, commit.schema, dataset.storage_options, tagged=commit.tagged)
        if any(f.blake3 is not None for f in task.files):
            hashed = [hash_file(uris.join(dataset.uri, f.path), dataset.storage_options) for f in files]
            files = tuple(replace(f, blake3=digest) for f, digest in zip(files, hashed, strict=True))
        return files

    def _stays(self, task: Task) -> bool:
        """Whether all files of a task are in the partition that its new ones will be in."""
        by = {self.commit.partition_by if f.layout is None else f.layout.partition_by for f in task.files}
        return by == {task.partition_by} and len({f.folder for f in task.files}) == 1

    def _publish(
        self, written: list[tuple[Task, tuple[DataFile, ...]]]
    ) -> tuple[Commit | None, list[tuple[Task, tuple[DataFile, ...]]]]:
        """Commit what is still to the point: whose files are part of the latest version, with the same dead rows or more."""
        for _ in range(_TRIES):
            latest = self.dataset.read()
            held = [pair for pair in written if self._holds(pair[0], latest)]
            if (written and not held) or dict(latest.schema) != dict(self.commit.schema):
                return None, []
            made = self._next(latest, held)
            try:
                made = self.dataset.append(made)
            except CommitConflict:
                continue
            return made, held
        raise CommitConflict(
            "others have committed all the time", uri=self.dataset.uri, fix="run again: nothing of this became visible"
        )

    def _holds(self, task: Task, latest: Commit) -> bool:
        there = {f.path: f for f in latest.files}
        left_out = {u for f in task.files for u in f.units if u in self.commit.gone}
        same = all(f.path in there and there[f.path].units == f.units for f in task.files)
        return same and latest.tagged == self.commit.tagged and left_out <= latest.gone

    def _next(self, latest: Commit, held: list[tuple[Task, tuple[DataFile, ...]]]) -> Commit:
        by = latest.partition_by if self.partition_by is None else self.partition_by
        # new files stand where the first of those stood that they replace
        instead: dict[str, tuple[DataFile, ...]] = {}
        for task, files in held:
            named = {f.path for f in task.files}
            first = next(f.path for f in latest.files if f.path in named)
            instead |= dict.fromkeys(named, ()) | {first: partitioned(files, self.commit.partition_by, by)}
        kept = partitioned(latest.files, latest.partition_by, by)
        found = tuple(f for old in kept for f in instead.get(old.path, (old,)))
        info = {k: v for k, v in latest.info.items() if k != "gates"}
        said: dict[str, Any] = {"of": latest.rows_of, "files": sum(len(t.files) for t, _ in held)}
        if not latest.tagged:  # rows that know their units are known by these
            said["instead"] = [[[f.path for f in t.files], [f.path for f in files]] for t, files in held]
        info |= {REWRITE: said}
        if self.kept is not None:
            rows = sum(f.rows for f in found)
            took = {"rows": rows, "bytes_per_row": sum(f.bytes for f in found) / rows} if rows else {}
            info[KEPT] = {**took, **self.kept}
        return replace(
            latest,
            version=latest.version + 1,
            run=self.run,
            time=self.time,
            mode=REWRITE,
            files=found,
            partition_by=by,
            info=info,
            gone=latest.gone & {u for f in found for u in f.units},
        )
