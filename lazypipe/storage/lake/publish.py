"""A dataset's commits, written again as versions of a Delta table over the same files.

The commit log stays the truth: a version of the table is written after the commit that it tells of, and what is missing because
a run was killed in between is written by whoever comes next, in order, and always alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import quote

import polars as pl
from blake3 import blake3

from lazypipe.errors import StorageError, first_line
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.log import DELTA, REWRITE, Commit, CommitLog, DataFile
from lazypipe.storage.lake.log import APP, Action, DeltaLog, Table
from lazypipe.storage.lake.stats import of_file
from lazypipe.storage.lake.types import is_naive, schema_string
from lazypipe.version import VERSION

__all__ = ["actions", "catch_up", "forget", "partition_values", "refuse_taken"]

_EVERY = 10
"""A version of so many has a checkpoint."""

_CHANGES = frozenset({"add", "remove", "metaData", "protocol"})
"""Actions that make another table of it."""

_AGAIN = "the rows are committed; fix the cause and run again"

_OPERATIONS: Mapping[str, tuple[str, dict[str, str]]] = {
    "replace": ("WRITE", {"mode": "Overwrite"}),
    "append": ("WRITE", {"mode": "Append"}),
    "change": ("MERGE", {}),
    REWRITE: ("OPTIMIZE", {}),
}
_PLAIN: Mapping[str, Any] = {"minReaderVersion": 1, "minWriterVersion": 2}
_WITH_NAIVE: Mapping[str, Any] = {
    "minReaderVersion": 3,
    "minWriterVersion": 7,
    "readerFeatures": ["timestampNtz"],
    "writerFeatures": ["appendOnly", "invariants", "timestampNtz"],
}


def refuse_taken(uri: str, storage_options: Mapping[str, Any] | None = None) -> None:
    """Refuse a folder with a Delta table that this dataset has not written; raises StorageError."""
    if DeltaLog(uri, storage_options).last() >= 0:
        _refuse(uri, "there is a Delta table here already, and this dataset has not written it")


def _refuse(uri: str, what: str) -> NoReturn:
    raise StorageError(what, uri=uri, fix="write the output to another place, or move _delta_log away to start over")


def catch_up(uri: str, log: CommitLog, latest: Commit, storage_options: Mapping[str, Any] | None = None) -> int:
    """Write the versions of the Delta table that are missing up to a commit; return how many these were.

    Raises
    ------
    StorageError
        If the log cannot be read or written, or if somebody else writes to it. The commit stands.
    """
    table = DeltaLog(uri, storage_options)
    last = table.last()
    told = _told(uri, table, last) if last >= 0 else int(latest.info[DELTA]) - 1
    if told >= latest.version:
        return 0
    found = table.table(last) if last >= 0 else Table()
    for version in range(told + 1, latest.version + 1):
        commit, number = _held(log, version, latest), found.version + 1
        said = actions(found, commit, uri, version, storage_options)
        try:
            table.create(number, said)
        except FileExistsError:  # another process publishes it too, or has noted something: look again
            return version - told - 1 + catch_up(uri, log, latest, storage_options)
        except Exception as error:  # any store's own errors: the caller learns which log it was
            what = f"the Delta log cannot be written: {first_line(error)}"
            raise StorageError(what, uri=table.uri, fix=_AGAIN) from error
        found.apply(said)
        found.version = number
        if number and number % _EVERY == 0:
            _checkpoint(table, found, commit.time)
    return latest.version - told


def _told(uri: str, table: DeltaLog, last: int) -> int:
    """Return the dataset's version that a table is at; what others have only noted, such as that they vacuumed, is passed over.

    Raises
    ------
    StorageError
        If others have changed the table.
    """
    number = last
    while (found := table.actions(number)) is not None:
        if (version := _own(found)) is not None:
            return version
        if any(kind in _CHANGES for action in found for kind in action):
            _refuse(uri, f"version {number} of the Delta table here was written by somebody else")
        number -= 1
    # only checkpoints are left of what was before
    told = table.table(last).transactions.get(APP)
    if told is None:
        _refuse(uri, "the Delta table here was written by somebody else")
    return told


def _own(found: Iterable[Action]) -> int | None:
    """Return the dataset's version behind a version of the table; None if it is not ours."""
    told = (action["txn"] for action in found if "txn" in action)
    return next((int(t["version"]) for t in told if t["appId"] == APP), None)


def _held(log: CommitLog, version: int, latest: Commit) -> Commit:
    """Return a commit, or the next that can be read where it is gone: readers of the table then see its rows a little early."""
    for number in range(version, latest.version):
        with suppress(StorageError):
            return log.read(number)
    return latest


def actions(
    table: Table, commit: Commit, uri: str, version: int, storage_options: Mapping[str, Any] | None = None
) -> list[Action]:
    """Return what makes a table what a commit is; ``version`` is that of the dataset."""
    moment = _milliseconds(commit.time)
    other = "WRITE" if commit.brings_back is None else "RESTORE"
    operation, parameters = _OPERATIONS.get(commit.mode, (other, {}))
    info = {
        "timestamp": moment,
        "operation": operation,
        "operationParameters": parameters,
        "engineInfo": f"lazypipe/{VERSION}",
        "lazypipe": {"version": version, "run": commit.run},
    }
    # which version it is stands where checkpoints keep it
    found: list[Action] = [{"commitInfo": info}, {"txn": {"appId": APP, "version": version, "lastUpdated": moment}}]
    changes = commit.mode != REWRITE
    naive = "timestampNtz" in table.features or is_naive(commit.schema)
    protocol = _WITH_NAIVE if naive else _PLAIN
    if not table.protocol or (naive and "timestampNtz" not in table.features):
        found.append({"protocol": protocol})
    columns, by = schema_string(commit.schema), list(commit.partition_by)
    if (table.metadata.get("schemaString"), table.metadata.get("partitionColumns")) != (columns, by):
        found.append({"metaData": _metadata(table, commit, columns, by, moment)})
    live = {quote(f.path, safe="/=-_.~"): f for f in commit.files}
    for path, add in table.adds.items():
        if path not in live:
            found.append({"remove": _removed(add, moment, changes=changes)})
    for path, file in live.items():
        if path not in table.adds:
            found.append({"add": _added(path, file, commit, uri, moment, storage_options, changes=changes)})
    return found


def _metadata(table: Table, commit: Commit, columns: str, by: list[str], moment: int) -> dict[str, Any]:
    """Return what a table is: its columns of now, and what it has been from its beginning."""
    digest = blake3(f"{commit.run}/{commit.version}/{columns}".encode()).hexdigest()[:32]
    made = {
        "id": "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:])),
        "format": {"provider": "parquet", "options": {}},
        "configuration": {},
        "createdTime": moment,
    }
    before = {k: v for k, v in table.metadata.items() if v is not None}
    return {**made, **before, "schemaString": columns, "partitionColumns": by}


def _removed(add: Mapping[str, Any], moment: int, *, changes: bool) -> dict[str, Any]:
    return {
        "path": add["path"],
        "deletionTimestamp": moment,
        "dataChange": changes,
        "extendedFileMetadata": True,
        "partitionValues": add["partitionValues"],
        "size": add["size"],
    }


def _added(
    path: str,
    file: DataFile,
    commit: Commit,
    uri: str,
    moment: int,
    storage_options: Mapping[str, Any] | None,
    *,
    changes: bool,
) -> dict[str, Any]:
    inside = {n: t for n, t in commit.schema.items() if n not in commit.partition_by}
    return {
        "path": path,
        "partitionValues": partition_values(file.path, {n: commit.schema[n] for n in commit.partition_by}),
        "size": file.bytes,
        "modificationTime": moment,
        "dataChange": changes,
        "stats": of_file(uris.join(uri, file.path), file.rows, inside, storage_options or {}),
    }


def partition_values(path: str, schema: Mapping[str, pl.DataType]) -> dict[str, str | None]:
    """Return the partition values of a data file as a Delta log writes them.

    Examples
    --------
    >>> partition_values("day=2013-01-01/to=A%2FB/x.parquet", {"day": pl.Date(), "to": pl.String()})
    {'day': '2013-01-01', 'to': 'A/B'}
    """
    found = hive.values(path)
    texts = {n: found[n] for n in schema}
    times = {n: t for n, t in schema.items() if isinstance(t, pl.Datetime) and texts[n] is not None}
    if times:
        values = pl.select(hive.as_literals(path, times)).row(0, named=True)
        texts |= {n: _time(value, times[n]) for n, value in values.items()}
    return texts


def _time(value: datetime, dtype: pl.DataType) -> str:
    assert isinstance(dtype, pl.Datetime)
    if dtype.time_zone is None:
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def forget(
    uri: str, version: int, now: datetime, limit: datetime, storage_options: Mapping[str, Any] | None = None
) -> None:
    """Delete what a Delta log holds of versions before one of the dataset's, which has a checkpoint from then on.

    What writers that were killed have left in it goes too, once it is older than ``limit``.

    Raises
    ------
    StorageError
        If the log cannot be read or written.
    """
    table = DeltaLog(uri, storage_options)
    table.forget_half_written(limit)
    number = table.last()
    while (found := table.actions(number)) is not None and _own(found) != version:
        number -= 1
    if found is None or number == 0:
        return
    if number not in table.checkpoints():
        _checkpoint(table, table.table(number), now)
    table.forget_before(number)


def _checkpoint(table: DeltaLog, found: Table, now: datetime) -> None:
    try:
        table.write_checkpoint(found, _milliseconds(now))
    except Exception as error:  # any store's own errors
        what = f"the checkpoint of the Delta log cannot be written: {first_line(error)}"
        raise StorageError(what, uri=table.uri, fix=_AGAIN) from error


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)
