"""The commit log of a dataset: numbered files, each created exclusively, each a whole statement of what is live.

A dataset at ``out/flown`` has its data under that folder and its log beside it, in ``out/flown.commits``, so that a plain
``pl.scan_parquet("out/flown")`` meets data files only (docs/decisions/0002-log-beside-the-data.md).
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from lazypipe.errors import CommitConflict, StorageError, first_line
from lazypipe.spec.types import dtype_from_name, dtype_name
from lazypipe.storage.numbered import NumberedFiles, seal

__all__ = ["Commit", "CommitLog", "DataFile"]

FORMAT = 1
"""Version of the commit files; a reader refuses newer ones."""


@dataclass(frozen=True)
class DataFile:
    """One data file of a dataset: its path relative to the dataset, its rows and bytes, its content's hash if it is known."""

    path: str
    rows: int
    bytes: int
    blake3: str | None = None


@dataclass(frozen=True)
class Commit:
    """One version of a dataset: all of its live files, its schema, and where it came from.

    ``info`` is for whoever commits (gate results, later consumed positions); readers of data pass over it.
    """

    version: int
    run: str
    time: datetime
    mode: str
    schema: pl.Schema
    files: tuple[DataFile, ...]
    partition_by: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows in all live files."""
        return sum(f.rows for f in self.files)

    @property
    def bytes(self) -> int:
        """Bytes in all live files."""
        return sum(f.bytes for f in self.files)

    def to_json(self) -> builtins.bytes:
        """Return the commit file's content: one JSON object, sealed by the BLAKE3 hash of its body."""
        body = {
            "format": FORMAT,
            "version": self.version,
            "run": self.run,
            "time": self.time.isoformat(),
            "mode": self.mode,
            "schema": [[name, _name(dtype)] for name, dtype in self.schema.items()],
            "partition_by": list(self.partition_by),
            "files": [asdict(f) for f in self.files],
            "info": dict(self.info),
        }
        return json.dumps(body | {"blake3": seal(body)}, indent=1).encode()

    @classmethod
    def from_json(cls, data: builtins.bytes, uri: str) -> Commit:
        """Read a commit file back.

        Raises
        ------
        StorageError
            If it is truncated, was edited, or was written by a newer lazypipe.
        """
        try:
            body = dict(json.loads(data))
            sealed = body.pop("blake3")
            newer = body.get("format", 0) > FORMAT
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(
                "the commit file is truncated or damaged",
                uri=uri,
                fix="restore it from a backup, or read an earlier version",
            ) from error
        if newer:
            raise StorageError(
                f"the commit file has format {body['format']}, this lazypipe reads up to {FORMAT}",
                uri=uri,
                fix="upgrade lazypipe",
            )
        if sealed != seal(body):
            raise StorageError(
                "the commit file was changed after it was written",
                uri=uri,
                fix="restore it from a backup, or read an earlier version",
            )
        return cls(
            version=body["version"],
            run=body["run"],
            time=datetime.fromisoformat(body["time"]),
            mode=body["mode"],
            schema=pl.Schema({n: dtype_from_name(t) for n, t in body["schema"]}),
            partition_by=tuple(body["partition_by"]),
            files=tuple(DataFile(**f) for f in body["files"]),
            info=body["info"],
        )


def _name(dtype: pl.DataType) -> str:
    """The type's name, if it can be read back: a commit that nobody could read must not be made."""
    name = dtype_name(dtype)
    if dtype_from_name(name) != dtype:
        raise ValueError(f"the type {dtype} cannot be recorded")
    return name


class CommitLog:
    """The numbered commit files in one folder, on any file system that can create a file exclusively."""

    def __init__(self, uri: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.uri = uri
        self._files = NumberedFiles(uri, storage_options, what="the commit log")

    def versions(self) -> list[int]:
        """Return the versions that exist, oldest first; empty where there is no log."""
        return self._files.numbers()

    def half_written(self) -> dict[str, Mapping[str, Any]]:
        """Return the files that commits which were killed have left: path to what the store knows of it."""
        return self._files.half_written()

    def read(self, version: int) -> Commit:
        """Return one commit; raises StorageError if it does not exist or is damaged."""
        data, uri = self._files.read(version), self._files.uri_of(version)
        if data is None:
            known = self.versions()
            fix = f"versions {known[0]} to {known[-1]} exist" if known else "nothing was ever committed"
            raise StorageError(f"there is no version {version}", uri=self.uri, fix=fix)
        commit = Commit.from_json(data, uri)
        if commit.version != version:
            raise StorageError(
                f"the commit file holds version {commit.version}: it was renamed or copied",
                uri=uri,
                fix="restore it from a backup, or read an earlier version",
            )
        return commit

    def append(self, commit: Commit) -> None:
        """Make the commit visible, all at once.

        Raises
        ------
        CommitConflict
            If somebody else created this version first.
        StorageError
            If the file cannot be written.
        """
        try:
            self._files.create(commit.version, commit.to_json())
        except FileExistsError:
            raise CommitConflict(
                f"version {commit.version} was committed by another run",
                uri=self.uri,
                fix="run again: nothing of this run became visible",
            ) from None
        except Exception as error:  # any store's own errors: the caller learns which log it was
            raise StorageError(
                f"cannot commit: {first_line(error)}",
                uri=self.uri,
                fix="nothing became visible; mend the cause and run again",
            ) from error

    def remove(self, version: int) -> None:
        """Delete one commit file (vacuum only); another vacuum may have been first."""
        self._files.remove(version)
