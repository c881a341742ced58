"""Few rows that go the ways of many: what is chosen by size or number is chosen as it is for large data."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.incremental.hashing import Hashes
from lazypipe.run.recorder import Recorder
from lazypipe.run.room import Room

READ = Recorder.read
SIZES: dict[str, dict[str, int]] = {
    "gates.tap": {"_SPILL_BYTES": 0},
    "gates.uniqueness": {"_SMALL": 0, "_HELD": 2},
    "incremental.diff": {"PART": 3, "_FEW": 1},
    "incremental.leaves": {"_MOST_PARTS": 3},
    "incremental.lockstep": {"HELD": 3, "_BATCH": 2, "_FEW": 1},
    "run.segment.figures": {"_PAIRS": 2},
    "run.segment.grouping": {"_CELLS": 1},
    "run.segment.groups": {"_TOGETHER": 1},
    "run.segment.merge": {"_PART": 2, "_SAMPLE": 2},
    "run.segment.noted": {"_AT_ONCE": 1},
    "storage.datasets.key_bounds": {"_ONE_GROUP": 0},
    "storage.datasets.keyed": {"_FEW": 1, "_PART": 2, "_SMALL": 1, "_TESTS": 1, "_BOXES": 1},
    "storage.datasets.log": {"_LARGE": 1, "_LONG": 1},
    "storage.parquet.row_groups": {"LARGE": 0},
    "storage.sink": {"FEW": 1},
    "storage.datasets.since": {"_MANY": 1, "_LARGE": 1},
    "storage.datasets.tiers": {"FAN": 2, "ROWS": 4},
}


@contextmanager
def at_scale(really: bool) -> Iterator[None]:
    """Take what is small for large in what runs within, if ``really``; and memory for short, for hash tables."""
    with pytest.MonkeyPatch.context() as patch:
        if really:
            for module, sizes in SIZES.items():
                for name, size in sizes.items():
                    patch.setattr(importlib.import_module(f"lazypipe.{module}"), name, size)
            patch.setattr(Room, "is_short_of", lambda *_: True)
            # borders of row groups are kept of each file, not only of those that are known to change
            patch.setattr(Recorder, "read", read_as_modified)
        yield


def read_as_modified(of: Recorder, source: BoundSource, snapshot: Snapshot, hashes: Hashes | None = None) -> None:
    """Read the files of a source as such of which it is known that they change."""
    hashes = Hashes() if hashes is None else hashes
    hashes.modified.update(snapshot.files)
    READ(of, source, snapshot, hashes)
