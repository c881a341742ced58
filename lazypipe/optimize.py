"""How data is best kept: profiles, advice, and datasets written anew by it.

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
from lazypipe.run.context import run_id
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
    """Write a dataset's files anew, in a layout that is given, or chosen by its rows; runs write theirs in it from then on.

    Rows stay as they are, and so does what incremental runs know of them. Readers, and runs that are under way, go on. Files that
    have the layout already are left, unless they are small or hold dead rows: see ``compact`` for just that.

    Parameters
    ----------
    dataset
        Its URI.
    layout
        The layout, or what it is to be chosen for.
    dry_run
        Whether only to say what would be done.
    workload
        What readers ask of it, see ``workload``: the choice is made for that.
    partition_by
        Columns whose values become folders; none if it is empty. Default: those that there are, also advised ones, or, of a
        layout, its own.
    every
        Whether all files are written anew, so that all rows are in order with each other.
    budget
        Seconds that choosing may take. Default: as long as it takes. Nothing is timed: what a dry run tells is what is then done.
    run, now
        An id that was never used, and the time that the commit says. Default: made up, and the machine's clock.
    ledger, actor
        Where it is recorded, and who does it. Default: in the ledger of the run that wrote the rows, if they come of one, and
        the user, or ``LAZYPIPE_ACTOR``. Signed ledgers need a key: ``lp.ledger(…, key=…)``.

    Raises
    ------
    LazypipeError
        If there is no such goal.
    StorageError, SourceError
        If there is no dataset, the layout does not fit it, or files cannot be read or written; then nothing has changed.
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
    name, clock = run or run_id(moment), time.perf_counter()
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
    """Write a dataset's small files as fewer, and leave out dead rows; files of two partitions never go together.

    Parameters
    ----------
    target
        Bytes of a file. Default: what the dataset's layout says, or 128 MiB. Smaller than half of it is small.
    dead
        Which part of a file's rows may be dead. Default: a fifth.
    dry_run, run, now, ledger, actor
        See ``rewrite``.

    Raises
    ------
    LazypipeError
        If ``target`` or ``dead`` is no size or part.
    StorageError, SourceError
        If there is no dataset, or files cannot be read or written; then nothing has changed.
    """
    if dead is not None and not 0 <= dead <= 1:
        raise LazypipeError(f"dead is {dead:g}; write a part of the rows of a file, from 0 to 1")
    if target is not None and target < 1:
        raise LazypipeError(f"target is {target}; write how many bytes a file has, such as 134217728")
    moment = now or datetime.now(UTC)
    of, name, clock = Dataset(dataset, storage_options), run or run_id(moment), time.perf_counter()
    commit = of.read()
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
    """Return what is asked of a dataset: by pipelines that read it, or write it, and by queries.

    Parameters
    ----------
    pipelines
        Compiled ones. Of one that writes it counts what the output declares, and what further outputs do with its rows; those
        that do neither count for nothing.
    queries
        SQL over ``self``, or mappings with ``sql``, ``weight`` (how often it is asked) and ``selectivity``.
    access
        How it is used on the whole. Default: as an output declares that writes it, or as most queries do.

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
        raise LazypipeError(f"{type(wrong_type[0]).__name__} is no compiled pipeline; {fix}")
    said, wrong = declared({"queries": tuple(queries)}, "self", schema)
    if wrong:
        raise LazypipeError(f"query {wrong[0][0] + 1}: {wrong[0][1]}")
    made = [p.workload(name) for p in given for name, o in p.outputs.items() if is_in(o.to, dataset)]
    asked = (query for workload in made for query in workload.queries)
    access = access or next((w.declared for w in made if w.declared is not None), None)
    return Workload((*said.queries, *asked, *uses((p.lineage() for p in given), dataset)), access)
