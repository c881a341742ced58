"""The settings by which a run decides what to do: how it lists files, its time, and how much it takes at most."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import polars as pl

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import Snapshot
from lazypipe.incremental.bound import UNBOUND, Bound
from lazypipe.incremental.hashing import Hashes
from lazypipe.spec.model import NOTHING
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.text.moments import How

__all__ = ["Tables", "Terms", "dataset_of", "table_of"]

Tables = Mapping[str, tuple[Dataset, Commit]]
"""Outputs that others read, by their stages, each with the commit of it that is read."""


def dataset_of(plan: CompiledPipeline, node: str) -> Dataset | None:
    """Return the dataset that the rows of a node are published in; None if no output is one."""
    written = (o for o in plan.outputs.values() if o.stage == node and o.format == "dataset")
    return next((Dataset(o.to, o.storage_options) for o in written), None)


def table_of(plan: CompiledPipeline, node: str, tables: Tables) -> tuple[Dataset, Commit | None] | None:
    """Return the dataset that the rows of a node are published in, and its commit: that of ``tables``, even if others commit meanwhile."""
    if node in tables:
        return tables[node]
    dataset = dataset_of(plan, node)
    return None if dataset is None else (dataset, dataset.latest())


@dataclass(frozen=True)
class Terms:
    """What a run that asks what there is to do for an output says of itself.

    Parameters
    ----------
    run
        Its id.
    look
        Lists a source as it is now.
    listed
        When sources were listed, in nanoseconds since 1970.
    hashes
        BLAKE3 of files, as far as they were hashed for other outputs since they were listed; more are put in.
    digests
        What other sides of joins hold of each key, as far as that was computed for other outputs; more is put in.
    full
        Whether everything is to be made anew, whatever has changed.
    bound
        How much it may take of what is new, where rows are told apart; also where they are made anew.
    judge_again
        Whether rules about the clock are reason enough for work, and new files are hashed for no more than to tell what they are.
    now
        Its clock, in microseconds since 1970, by which windows close though nothing came; None: they do not.
    moments
        Who parses moments of which sources, as far as that is known; more is put in.
    tables
        The outputs that it has brought up to date: what others read of them, though somebody else may have committed since.
    """

    run: str
    look: Callable[[str], Snapshot]
    listed: int
    hashes: Hashes = field(default_factory=Hashes)
    digests: dict[Hashable, pl.DataFrame] = field(default_factory=dict)
    full: bool = False
    bound: Bound = UNBOUND
    judge_again: bool = True
    now: int | None = None
    moments: dict[str, How] = field(default_factory=dict)
    tables: Tables = NOTHING
