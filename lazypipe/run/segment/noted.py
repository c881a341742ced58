"""The keys that rows are looked up by in other inputs, noted while the rows flow by."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import polars as pl

from lazypipe.gates.uniqueness import KeyHashes
from lazypipe.storage.datasets.units import UNIT

__all__ = ["Noted"]

_AT_ONCE = 1 << 16
"""Rows that are hashed at once: of one batch that costs more to begin than to do."""


class Noted:
    """Takes note of the keys of rows, each with its unit, for ``hashes``; thread-safe."""

    def __init__(self, keys: Sequence[str], hashes: KeyHashes) -> None:
        self._columns = [*keys]
        self._hashes = hashes
        self._lock = threading.Lock()
        self._parts: list[tuple[int, pl.DataFrame]] = []
        self._rows = 0

    def note(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Take note of the keys of a batch, and let it go on."""
        if not batch.height:
            return batch
        units, full = batch[UNIT], list[tuple[int, pl.DataFrame]]()
        alike = units.min() == units.max()  # as a rule: what is read at once is of one file
        parts = [(p[UNIT][0], p[self._columns]) for p in ([batch] if alike else batch.partition_by(UNIT))]
        with self._lock:
            self._parts += parts
            self._rows += batch.height
            if self._rows >= _AT_ONCE:
                full, self._parts, self._rows = self._parts, [], 0
        if full:
            self._hashes.add_all(full)
        return batch

    def frame(self) -> pl.LazyFrame:
        """Return the hashed keys, each with its unit; to be asked when no more rows flow."""
        if self._parts:
            self._hashes.add_all(self._parts)
        self._parts, self._rows = [], 0
        return self._hashes.frame()
