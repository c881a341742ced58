"""A Delta log: numbered lists of actions, and checkpoints that sum them up."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from lazypipe.errors import StorageError, first_line
from lazypipe.storage import uri as uris
from lazypipe.storage.deleting import delete
from lazypipe.storage.numbered import NumberedFiles, written_at

__all__ = ["APP", "FOLDER", "Action", "DeltaLog", "Table"]

FOLDER = "_delta_log"
"""Where the log of a table stands, in its own folder."""

APP = "lazypipe"
"""Who counts the commits of a dataset in the log that tells them as a Delta table."""

Action = Mapping[str, Any]
"""What one line of a log holds: a mapping with one key, the kind of action."""

_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet$")
_KEPT_REMOVED = 7 * 24 * 3_600_000
"""Milliseconds for which checkpoints name files that were removed, so that other engines can delete them."""

_TEXTS = pl.Map(pl.String, pl.String)
_FEATURES = pl.List(pl.String)
_ROWS = pl.Schema(
    {
        "txn": pl.Struct({"appId": pl.String, "version": pl.Int64, "lastUpdated": pl.Int64}),
        "add": pl.Struct(
            {
                "path": pl.String,
                "partitionValues": _TEXTS,
                "size": pl.Int64,
                "modificationTime": pl.Int64,
                "dataChange": pl.Boolean,
                "stats": pl.String,
            }
        ),
        "remove": pl.Struct(
            {
                "path": pl.String,
                "deletionTimestamp": pl.Int64,
                "dataChange": pl.Boolean,
                "extendedFileMetadata": pl.Boolean,
                "partitionValues": _TEXTS,
                "size": pl.Int64,
            }
        ),
        "metaData": pl.Struct(
            {
                "id": pl.String,
                "name": pl.String,
                "description": pl.String,
                "format": pl.Struct({"provider": pl.String, "options": _TEXTS}),
                "schemaString": pl.String,
                "partitionColumns": pl.List(pl.String),
                "configuration": _TEXTS,
                "createdTime": pl.Int64,
            }
        ),
        "protocol": pl.Struct(
            {
                "minReaderVersion": pl.Int32,
                "minWriterVersion": pl.Int32,
                "readerFeatures": _FEATURES,
                "writerFeatures": _FEATURES,
            }
        ),
    }
)
"""The columns of a checkpoint: each row has one action."""


@dataclass
class Table:
    """The state of a table at one version, as its log gives it: live files, removed files, and the table's properties.

    ``adds`` and ``removes`` are by the paths that the log gives; ``transactions`` say how far each writer is that counts its own.
    """

    version: int = -1
    protocol: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    adds: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    removes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    transactions: dict[str, int] = field(default_factory=dict)

    def apply(self, actions: Iterable[Action]) -> None:
        """Take in actions, in their order."""
        for action in actions:
            match action:
                case {"add": dict(add)}:
                    self.adds[add["path"]] = add
                    self.removes.pop(add["path"], None)
                case {"remove": dict(gone)}:
                    self.adds.pop(gone["path"], None)
                    self.removes[gone["path"]] = gone
                case {"metaData": dict(metadata)}:
                    self.metadata = metadata
                case {"protocol": dict(protocol)}:
                    self.protocol = protocol
                case {"txn": dict(told)}:
                    self.transactions[told["appId"]] = told["version"]
                case _:  # who wrote it, and what only other writers need
                    pass

    @property
    def features(self) -> frozenset[str]:
        """What a reader must know, besides what all do."""
        return frozenset(self.protocol.get("readerFeatures") or ())


class DeltaLog:
    """The log of the Delta table in a folder.

    Examples
    --------
    >>> DeltaLog("memory://no-table").last()
    -1
    """

    def __init__(self, table: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.uri = uris.join(table, FOLDER)
        self.storage_options = storage_options
        self.files = NumberedFiles(self.uri, storage_options, what="the Delta log")

    def last(self) -> int:
        """Return the latest version, -1 if there is none."""
        return max((*self.files.numbers(), *self.checkpoints()), default=-1)

    def checkpoints(self) -> dict[int, list[str]]:
        """Return the versions that have a whole checkpoint, each with the names of its files."""
        found: dict[int, dict[str, int]] = {}
        for name in sorted(self.files.names()):
            if (match := _CHECKPOINT.match(name)) is not None:
                found.setdefault(int(match[1]), {})[name] = int(match[3] or 1)
        whole: dict[int, list[str]] = {}
        for version, names in found.items():
            for parts in set(names.values()):
                of = [n for n, p in names.items() if p == parts]
                if len(of) == parts:
                    whole[version] = of
        return whole

    def actions(self, version: int) -> list[Action] | None:
        """Return what one version did, None if its file is not there; raises StorageError if it cannot be read."""
        data = self.files.read(version)
        if data is None:
            return None
        try:
            return [dict(json.loads(line)) for line in data.splitlines() if line.strip()]
        except (ValueError, TypeError) as error:
            raise StorageError(
                "the file of the Delta log is truncated or damaged",
                uri=self.files.uri_of(version),
                fix="restore it from a backup",
            ) from error

    def table(self, version: int | None = None) -> Table:
        """Return what the log comes to: at its end, or at a version.

        Raises
        ------
        StorageError
            If there is no such version, or files of the log are missing or damaged.
        """
        numbers, checkpoints = set(self.files.numbers()), self.checkpoints()
        last = max((*numbers, *checkpoints), default=-1)
        wanted = last if version is None else version
        if not -1 <= wanted <= last:
            fix = f"the last is {last}" if last >= 0 else "there is no Delta table"
            raise StorageError(f"there is no version {wanted}", uri=self.uri, fix=fix)
        start = max((v for v in checkpoints if v <= wanted), default=-1)
        found = Table(wanted)
        if start >= 0:
            found.apply(self._checkpoint(checkpoints[start]))
        for number in range(start + 1, wanted + 1):
            actions = self.actions(number)
            if actions is None:
                what = f"version {number} of the Delta log is missing, and no readable checkpoint replaces it"
                raise StorageError(what, uri=self.uri, fix="ask for a later version, or restore the file")
            found.apply(actions)
        return found

    def _checkpoint(self, names: Sequence[str]) -> list[Action]:
        found: list[Action] = []
        for name in names:
            try:
                frame = pl.read_parquet(io.BytesIO(self.files.read_named(name) or b""))
            except (pl.exceptions.PolarsError, OSError) as error:
                what = f"the checkpoint cannot be read: {first_line(error)}"
                raise StorageError(what, uri=uris.join(self.uri, name), fix="restore it from a backup") from error
            for kind in (k for k in _ROWS if k in frame.columns):
                rows = frame.get_column(kind).drop_nulls().to_list()
                # a writer that lacks nulls in structs gives structs of nulls
                found += [{kind: row} for row in rows if any(v is not None for v in row.values())]
        return found

    def create(self, version: int, actions: Iterable[Action]) -> None:
        """Write a version, whole; raises FileExistsError if it is there, and whatever the store raises."""
        lines = (json.dumps(a, separators=(",", ":"), ensure_ascii=False) for a in actions)
        self.files.create(version, ("\n".join(lines) + "\n").encode())

    def write_checkpoint(self, table: Table, now: int) -> None:
        """Write the state at a version, so that readers need not read the versions before it.

        Parameters
        ----------
        now
            The moment of that version, in milliseconds: files that were removed long before it are named no more.
        """
        gone = [r for r in table.removes.values() if r.get("deletionTimestamp", 0) > now - _KEPT_REMOVED]
        rows: list[dict[str, Any]] = [{"protocol": table.protocol}, {"metaData": table.metadata}]
        rows += [{"txn": {"appId": app, "version": at, "lastUpdated": now}} for app, at in table.transactions.items()]
        rows += [{"add": {**a, "dataChange": False}} for a in table.adds.values()]
        rows += [{"remove": {**r, "dataChange": False}} for r in gone]
        buffer = io.BytesIO()
        columns = {k: [row.get(k) for row in rows] for k in _ROWS}
        series = [pl.Series(k, v, dtype=_ROWS[k], strict=False) for k, v in columns.items()]
        pl.DataFrame(series).write_parquet(buffer)
        with suppress(FileExistsError):  # the same, by somebody else
            self.files.create_named(f"{table.version:020}.checkpoint.parquet", buffer.getvalue())
        self.point_to(table.version, len(rows))

    def point_to(self, version: int, size: int) -> None:
        """Say which checkpoint is the last, so that readers need not list the folder."""
        fs, path = uris.file_system(uris.join(self.uri, "_last_checkpoint"), self.storage_options)
        local = uris.is_local(self.uri)
        staged = f"{path}.{secrets.token_hex(8)}.tmp" if local else path
        with suppress(OSError):  # only a hint
            fs.pipe_file(staged, json.dumps({"version": version, "size": size}).encode())
            if local:  # whole, or as it was
                os.replace(staged, path)

    def forget_half_written(self, limit: datetime) -> None:
        """Delete what writers that were killed have left, once it is older than ``limit``."""
        fs, _ = uris.file_system(self.uri, self.storage_options)
        delete(fs, [path for path, details in self.files.half_written().items() if written_at(details) <= limit])

    def forget_before(self, version: int) -> None:
        """Delete what came before a version that has a checkpoint."""
        fs, root = uris.file_system(self.uri, self.storage_options)
        self.files.remove([number for number in self.files.numbers() if number < version])
        older = [name for number, names in self.checkpoints().items() if number < version for name in names]
        delete(fs, [f"{root}/{name}" for name in older])
