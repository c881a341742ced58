"""Keys by which rows are looked up in other sides, noted while the rows flow by."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import polars as pl

from lazypipe.gates.uniqueness import KeyHashes
from lazypipe.storage.units import UNIT

__all__ = ["Noted"]

_AT_ONCE = 1 << 16
"""Rows that are hashed at once: of one batch that costs more to begin than to do."""


class Noted:
    """Takes note of the keys of rows, each with its unit, for ``hashes``; thread-safe."""

    def __init__(self, keys: Sequence[str], hashes: KeyHashes) -> None:
        self._columns = [*keys, UNIT]
        self._hashes = hashes
        self._lock = threading.Lock()
        self._parts: list[pl.DataFrame] = []
        self._rows = 0

    def note(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Take note of the keys of a batch, and let it go on."""
        full: list[pl.DataFrame] = []
        with self._lock:
            self._parts.append(batch[self._columns])
            self._rows += batch.height
            if self._rows >= _AT_ONCE:
                full, self._parts, self._rows = self._parts, [], 0
        self._hash(full)
        return batch

    def frame(self) -> pl.LazyFrame:
        """Return the hashed keys, each with its unit; to be asked when no more rows flow."""
        self._hash(self._parts)
        self._parts, self._rows = [], 0
        return self._hashes.frame()

    def _hash(self, parts: Sequence[pl.DataFrame]) -> None:
        if not parts:
            return
        rows = pl.concat(parts)
        units = rows[UNIT]
        if rows.height and units.min() == units.max():  # as a rule: what is read at once is of one file
            self._hashes.add(units[0], rows)
            return
        for part in rows.partition_by(UNIT):
            self._hashes.add(part[UNIT][0], part)
