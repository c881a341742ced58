"""Which keys were removed from an output, and when: stored beside its log, so that an older row that arrives late does not bring them back.

Of versions, also when keys were said to be as they were: an earlier version that comes late holds until then.

They are files that no reader of data sees, like those with figures. They belong to a commit, so that a rollback brings back what was known then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lazypipe.storage.datasets.data_files import scan_files
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.datasets.tiers import due
from lazypipe.storage.sink import DatasetSink

__all__ = ["GONE", "GoneKeys"]

GONE = "gone_keys"
"""Where in a commit's ``info`` stand the columns and the paths of these files."""


@dataclass
class GoneKeys:
    """The files that say which keys were removed, as a run finds and leaves them.

    Each row holds a key and its place in the order, or the moment, at which it was removed. One key may stand in several rows.
    """

    dataset: Dataset
    columns: list[str] = field(default_factory=list)
    files: tuple[DataFile, ...] = ()
    schema: pl.Schema = field(default_factory=pl.Schema)
    staged: list[DatasetSink] = field(default_factory=list)

    @classmethod
    def of(
        cls, dataset: Dataset, commit: Commit | None, schema: pl.Schema, columns: Sequence[str] | None = None
    ) -> GoneKeys:
        """Return what a commit says of them; nothing, where it says it by other ``columns`` than are asked for.

        ``schema`` has the types of the output's columns.
        """
        if commit is None:
            return cls(dataset, [*(columns or ())], schema=schema)
        said = commit.info.get(GONE, {})
        named = frozenset(said.get("files", ()))
        files = tuple(f for f in commit.figures if f.path in named)
        there = [*said.get("columns", ())]
        if columns is not None and there != [*columns]:
            return cls(dataset, [*columns], (), schema)
        return cls(dataset, there, files, schema)

    @property
    def said(self) -> dict[str, Any]:
        """Return what the next commit is to say of them."""
        return {GONE: {"columns": self.columns, "files": [f.path for f in self.files]}} if self.files else {}

    def fit(self, schema: pl.Schema, prefix: str) -> None:
        """Have the files hold the types that the output's columns have by now."""
        types = pl.Schema({n: schema[n] for n in self.columns})
        if self.files and types != {n: self.schema[n] for n in self.columns}:
            self.files = self._write(self._scan(self.files).cast(types), prefix)
        self.schema = schema

    def of_keys(self, keys: pl.LazyFrame, key: Sequence[str]) -> pl.LazyFrame:
        """Return the rows that have some of the keys."""
        return self._scan(self.files).join(keys, on=[*key], how="semi", nulls_equal=True)

    def add(self, rows: Iterable[pl.LazyFrame], prefix: str) -> None:
        """Write rows down, and small files as one; rows that stand twice become one."""
        rows = [*rows]
        if not rows:
            return
        self.files += self._write(pl.concat(rows).select(self.columns), prefix)
        if small := due(self.files):
            together = self._scan(small).unique().sort(self.columns)
            self.files = (*(f for f in self.files if f not in small), *self._write(together, f"{prefix}m"))

    def forget(self, keys: pl.LazyFrame, key: Sequence[str], prefix: str) -> None:
        """Rewrite the files without some keys: what must be removed without a trace must not be here either."""
        if not self.files or not set(key) <= set(self.columns):
            return
        rows = self._scan(self.files)
        self.files = self._write(rows.join(keys.select(key), on=[*key], how="anti", nulls_equal=True), prefix)

    def _scan(self, files: Sequence[DataFile]) -> pl.LazyFrame:
        types = pl.Schema({n: self.schema[n] for n in self.columns})
        return scan_files(self.dataset.figures, files, types, (), self.dataset.storage_options)

    def _write(self, rows: pl.LazyFrame, prefix: str) -> tuple[DataFile, ...]:
        sink = DatasetSink(self.dataset.figures, prefix, storage_options=self.dataset.storage_options)
        self.staged.append(sink)
        written = sink.write(rows)
        if not written.rows:
            sink.discard()
            return ()
        return written.files
