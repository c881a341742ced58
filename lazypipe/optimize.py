"""Storage optimization: profiles of data, advice on layouts, and rewriting datasets.

Examples
--------
>>> import polars as pl
>>> from lazypipe import optimize
>>> frame = pl.DataFrame({"id": range(1_000), "price": [n / 4 for n in range(1_000)]})
>>> optimize.advise(frame, goal="storage", clock=lambda: 0.0).goal
'storage'
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.errors import LazypipeError
from lazypipe.plan.uses import declared, is_in, uses
from lazypipe.records.ledger import Ledger
from lazypipe.run.context import named, refuse_used
from lazypipe.run.rewrites import recorded
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DELTA, Commit
from lazypipe.storage.optimizer.advice import Advice, Reason, order_name
from lazypipe.storage.optimizer.advise import advise
from lazypipe.storage.optimizer.choice import Goal
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.maintenance import Rewrite, advised_folders, kept_layout, relayout
from lazypipe.storage.optimizer.maintenance import compact as compacted
from lazypipe.storage.optimizer.profile import profile
from lazypipe.storage.optimizer.workload import Access, Query, Workload

__all__ = [
    "Advice",
    "Goal",
    "Layout",
    "Query",
    "Reason",
    "Rewrite",
    "Workload",
    "advise",
    "compact",
    "profile",
    "rewrite",
    "workload",
]


def rewrite(
    dataset: str | os.PathLike[str],
    layout: Layout | Goal = "balanced",
    *,
    dry_run: bool = False,
    workload: Workload | None = None,
    partition_by: Sequence[str] | None = None,
    every: bool = False,
    budget: float | None = None,
    storage_options: Mapping[str, Any] | None = None,
    run: str | None = None,
    now: datetime | None = None,
    ledger: Ledger | str | None = None,
    actor: str | None = None,
) -> Rewrite:
    """Rewrite a dataset's files in a layout that is given, or chosen from its rows. Later runs write their files in this layout too.

    The rows do not change, and incremental runs continue as before. Readers and runs in progress are not disturbed. Files that have the layout
    already are left alone, unless they are small or contain deleted rows (``compact`` does only that).

    Parameters
    ----------
    dataset
        The dataset's URI.
    layout
        A layout, or the goal for which to choose one.
    dry_run
        Only return what would be done.
    workload
        How the dataset is read, see ``workload``. The layout is chosen for it.
    partition_by
        Columns whose values become folders; empty for none. Default: the current ones, including those that were advised, or those of the given
        layout.
    every
        Whether to rewrite all files, so that rows are ordered across all of them.
    budget
        Seconds that choosing may take. Default: no limit. Nothing is timed, so a dry run returns exactly what would be done.
    run, now
        An unused run id, and the time recorded in the commit. Default: a generated id, and the machine's clock.
    ledger, actor
        Where to record it, and who does it. Default: the ledger of the run that wrote the rows, if any, and the user or ``LAZYPIPE_ACTOR``. A
        signed ledger needs its key: ``lp.ledger(…, key=…)``.

    Raises
    ------
    LazypipeError
        If there is no such goal.
    StorageError, SourceError
        If there is no dataset, if the layout does not fit it, or if files cannot be read or written. Nothing has changed then.
    """
    target = Dataset(dataset, storage_options)
    commit = target.read()
    goal, reasons = None, tuple[str, ...]()
    if not isinstance(layout, Layout):
        by = tuple((commit.partition_by or advised_folders(commit)) if partition_by is None else partition_by)
        forms = DELTA not in commit.info
        advice = advise(
            target.uri,
            workload,
            layout,
            budget,
            partition_by=by,
            forms=forms,
            timed=False,
            storage_options=storage_options,
        )
        goal, reasons = layout, (*map(str, advice.reasons), *_lost(commit, advice, workload))
        # folders that were advised stay what they are: no partitions of the dataset
        layout = (
            advice.layout
            if partition_by is not None or commit.partition_by
            else replace(advice.layout, partition_by=())
        )
    moment = now or datetime.now(UTC)
    name, clock = named(run, moment), time.perf_counter()
    refuse_used(name, commit.files, f"{name}-")
    made = relayout(
        target,
        layout,
        run=name,
        time=moment,
        partition_by=partition_by,
        goal=goal,
        reasons=reasons,
        every=every,
        dry_run=dry_run,
        commit=commit,
    )
    return recorded(made, target, commit, "rewrite", name, (moment, clock), ledger, actor)


def _lost(commit: Commit, advice: Advice, workload: Workload | None) -> Iterator[str]:
    """Yield what readers lose of whom nothing was said: the order that files were put in for some."""
    there = kept_layout(commit)
    if there is None or (workload is not None and workload.queries):
        return
    if there.sort_by and there.sort_by != advice.layout.sort_by:
        yield f"no longer ordered by {order_name(there)}: no readers were named (workload=, or --pipeline FILE)"


def compact(
    dataset: str | os.PathLike[str],
    *,
    target: int | None = None,
    dead: float | None = None,
    dry_run: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    run: str | None = None,
    now: datetime | None = None,
    ledger: Ledger | str | None = None,
    actor: str | None = None,
) -> Rewrite:
    """Merge a dataset's small files, and remove deleted rows from files. Files of different partitions are never merged.

    Parameters
    ----------
    target
        File size in bytes. Default: that of the dataset's layout, or 128 MiB. Files smaller than half of it are small.
    dead
        The fraction of a file's rows that may be deleted ones. Default: a fifth.
    dry_run, run, now, ledger, actor
        See ``rewrite``.

    Raises
    ------
    LazypipeError
        If ``target`` is not a size, or ``dead`` not a fraction.
    StorageError, SourceError
        If there is no dataset, or if files cannot be read or written. Nothing has changed then.
    """
    if dead is not None and not 0 <= dead <= 1:
        raise LazypipeError(f"dead is {dead:g}; write a fraction of a file's rows, from 0 to 1")
    if target is not None and target < 1:
        raise LazypipeError(f"target is {target}; write the size of a file in bytes, such as 134217728")
    moment = now or datetime.now(UTC)
    of, name, clock = Dataset(dataset, storage_options), named(run, moment), time.perf_counter()
    commit = of.read()
    refuse_used(name, commit.files, f"{name}-")
    made = compacted(of, run=name, time=moment, target=target, dead=dead, dry_run=dry_run, commit=commit)
    return recorded(made, of, commit, "compact", name, (moment, clock), ledger, actor)


def workload(
    dataset: str,
    pipelines: Iterable[CompiledPipeline] = (),
    *,
    queries: Iterable[str | Mapping[str, Any]] = (),
    access: Access | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Workload:
    """Return how a dataset is read: by pipelines that read or write it, and by queries.

    Parameters
    ----------
    pipelines
        Compiled pipelines. One that writes the dataset counts with what the output declares and with what its other outputs do with the rows.
        Pipelines that neither read nor write it are ignored.
    queries
        SQL over ``self``, or mappings with ``sql``, ``weight`` (how often it is run) and ``selectivity``.
    access
        The overall access pattern. Default: what the output declares, or that of most queries.

    Raises
    ------
    StorageError
        If there is no dataset.
    LazypipeError
        If a query cannot be understood.
    """
    schema = Dataset(dataset, storage_options).read().schema
    given = tuple(pipelines) if isinstance(pipelines, Iterable) else (pipelines,)
    if wrong_type := [p for p in given if not isinstance(p, CompiledPipeline)]:
        fix = "give compiled pipelines, in a list, and SQL as queries"
        raise LazypipeError(f"{type(wrong_type[0]).__name__} is not a compiled pipeline; {fix}")
    said, wrong = declared({"queries": tuple(queries)}, "self", schema)
    if wrong:
        raise LazypipeError(f"query {wrong[0][0] + 1}: {wrong[0][1]}")
    made = [p.workload(name) for p in given for name, o in p.outputs.items() if is_in(o.to, dataset)]
    asked = (query for workload in made for query in workload.queries)
    access = access or next((w.declared for w in made if w.declared is not None), None)
    return Workload((*said.queries, *asked, *uses((p.lineage() for p in given), dataset)), access)
