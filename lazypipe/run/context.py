"""What the segments of one run share."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import LazypipeError
from lazypipe.incremental.bound import UNBOUND, Bound
from lazypipe.incremental.hashing import Hashes
from lazypipe.incremental.shared import Shared
from lazypipe.run.arrival import Extents, arrived
from lazypipe.run.backfill import TimeRange, within
from lazypipe.run.corrupt import admitted
from lazypipe.run.delivery import listing
from lazypipe.run.recorder import Recorder
from lazypipe.run.room import Room
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.datasets.units import Units
from lazypipe.storage.files import FileInfo
from lazypipe.storage.text.moments import How

if TYPE_CHECKING:
    from lazypipe.run.layouts import Choice

__all__ = ["Observer", "Run", "named", "refuse_used", "run_id"]

_NAME = re.compile(r"\w[\w.:+=@~ -]*")
_LONGEST = 120  # bytes of an id: files carry it, with a number and more, and most systems take 255

Observer = Callable[[str, int, int, int], None]
"""Told of progress: segment, its number, how many there are, rows seen by its gates so far."""


def run_id(moment: datetime) -> str:
    """Return a name for a run that begins now, and for no other."""
    return f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def named(run: object, moment: datetime) -> str:
    """Return the id that a caller gives a run, or a new one.

    Raises
    ------
    LazypipeError
        If files cannot be named by it.

    Examples
    --------
    >>> named("nightly 2024-01-01T00:00:00+00:00", datetime(2024, 1, 1))
    'nightly 2024-01-01T00:00:00+00:00'
    >>> named("../nightly", datetime(2024, 1, 1))
    Traceback (most recent call last):
    lazypipe.errors.LazypipeError: run is '../nightly', but files are named by it; use letters, digits, spaces and . _ : + = @ ~ -, or leave it out
    """
    if run is None or run == "":
        return run_id(moment)
    if not isinstance(run, str) or _NAME.fullmatch(run) is None:
        fix = "use letters, digits, spaces and . _ : + = @ ~ -, or leave it out"
        raise LazypipeError(f"run is {run!r}, but files are named by it; {fix}")
    if len(run.encode()) > _LONGEST:
        raise LazypipeError(
            f"run is longer than {_LONGEST} bytes, but files are named by it; shorten it, or leave it out"
        )
    return run


def refuse_used(run: str, files: Iterable[DataFile], prefix: str) -> None:
    """Raise LazypipeError if files of a dataset begin as those that a run of this id would write: it would write over them."""
    if any(f.path.rpartition("/")[2].startswith(prefix) for f in files):
        raise LazypipeError(f"run {run!r} has written files of this dataset already; give another id, or leave it out")


@dataclass(frozen=True)
class Run:
    """What the segments of one run share: the plan, the run's id and time, what was listed, read and kept.

    ``patient`` tells whether sources without any file are waited for. ``cut`` are text files that grow while the run lasts: of these it
    reads what they were listed with. ``moments`` says of sources who parses them, and ``each`` which have been tried each row for itself. ``flat`` are layouts of
    outputs without the folders that were advised, as some value cannot name one. ``kept`` gives rows that are there, as a plan that is made when
    it is asked for.
    """

    plan: CompiledPipeline
    id: str
    now: datetime
    folder: Path
    observer: Observer
    recorder: Recorder
    full: bool = False
    bound: Bound = UNBOUND
    patient: bool = False
    kept: dict[str, Callable[[], pl.LazyFrame]] = field(default_factory=dict)
    shared: dict[str, Shared] = field(default_factory=dict)
    published: dict[str, tuple[Dataset, Commit]] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    reads: dict[str, list[tuple[Snapshot, Units | None]]] = field(default_factory=dict)
    checked: set[FileInfo] = field(default_factory=set)
    hashes: Hashes = field(default_factory=Hashes)
    digests: dict[Hashable, pl.DataFrame] = field(default_factory=dict)
    cut: set[FileInfo] = field(default_factory=set)
    moments: dict[str, How] = field(default_factory=dict)
    each: set[str] = field(default_factory=set)
    flat: dict[str, Choice] = field(default_factory=dict)
    extents: dict[str, Extents] = field(default_factory=dict)
    window: TimeRange | None = None
    room: Room = field(default_factory=lambda: Room.of(os.environ))

    def look(self, name: str) -> Snapshot:
        """List a source, once per run; without the files that are not whole yet, or known to be corrupt."""
        if name not in self.snapshots:
            source = self.plan.nodes[name].source
            assert source is not None
            # a corrupt file is told by looking into it
            listed = listing(self.plan, source, self.now, patient=self.patient)
            if source.on_corrupt != "fail":
                listed = source.looked_at(listed)
            found = self.arrived(source, admitted(self, source, listed))
            if self.window is not None:
                found = within(self.plan, source, found, self.window, self.now, self.extents[name])
            self.snapshots[name] = found
        return self.snapshots[name]

    def arrived(self, source: BoundSource, listed: Snapshot, *, last: bool = False) -> Snapshot:
        """Return a source as it was listed, with what it had reached ahead of each file, if ``last`` also with the times in the last one."""
        seen = self.extents.setdefault(source.name, {})
        return arrived(self.plan, source, listed, self.now, seen, last=last, hashes=self.hashes)
