"""Datasets: Hive-partitioned Parquet files and a commit log. Readers see complete commits and nothing else."""

from __future__ import annotations

import os
from collections.abc import Collection, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import polars as pl

from lazypipe.errors import CommitConflict, LazypipeError, StorageError, nearest
from lazypipe.spec.moment import utc_moment
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.key_bounds import KeyBounds
from lazypipe.storage.datasets.log import (
    BACK,
    DELTA,
    JUDGE,
    KEPT,
    REWRITE,
    ROLLBACK,
    Commit,
    CommitLog,
    DataFile,
    log_of,
    partitioned,
)
from lazypipe.storage.datasets.units import UNIT, Units
from lazypipe.storage.files import FileInfo
from lazypipe.storage.scan import FILE_COLUMN

__all__ = ["Dataset", "is_dataset", "scan"]


class Dataset:
    """A table with commits at a URI.

    Parameters
    ----------
    delta
        Whether it is to be a Delta table too. None: if it is one; False: one that is, is refused.

    Examples
    --------
    >>> Dataset("memory://nowhere").latest() is None
    True
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        storage_options: Mapping[str, Any] | None = None,
        *,
        delta: bool | None = None,
    ) -> None:
        self.uri = os.fspath(uri).rstrip("/")
        self.storage_options = dict(storage_options or {})
        self.delta = delta
        self.log = CommitLog(log_of(self.uri), storage_options)

    def latest(self, known: Commit | None = None) -> Commit | None:
        """Return the commit in force, None if there is none yet; one that is ``known``, of this very log, is not read again."""
        version = self.log.last()
        if known is not None and known.version == version:
            return known  # versions are never written twice
        return self.log.read(version) if version else None

    def read(self, *, version: int | None = None, as_of: datetime | date | str | None = None) -> Commit:
        """Return a commit: the latest, a numbered one, or the one in force at a moment.

        Raises
        ------
        StorageError
            If there is no such commit, or both are given, or something else than a number and a moment.
        """
        moment = _asked(self.uri, version, as_of)
        if version is not None:
            return self.log.read(version)
        latest = self.latest()
        if latest is None:
            raise StorageError(
                "there is no dataset here", uri=self.uri, fix="run the pipeline that writes it, or check the path"
            )
        if moment is None:
            return latest
        for number in reversed(self.log.versions()):
            commit = self.log.read(number)
            if commit.time <= moment:
                return commit
        raise StorageError(f"there is no version from before {as_of}", uri=self.uri, fix="ask for a later moment")

    @property
    def figures(self) -> str:
        """Where stands what commits were made from, and readers of data do not see."""
        return uris.join(self.log.uri, "figures")

    def files(self, commit: Commit) -> tuple[FileInfo, ...]:
        """Return a commit's files as a list to scan."""
        return tuple(FileInfo(uris.join(self.uri, f.path), f.bytes) for f in commit.files)

    def scan(self, commit: Commit, *, only: Container[int] | None = None, tags: bool = False) -> pl.LazyFrame:
        """Return a lazy scan of one commit, with the columns and types that were written.

        Parameters
        ----------
        only
            Just the rows of these units.
        tags
            Whether the column with each row's unit is to be seen.
        """
        from lazypipe.storage.datasets.data_files import scan_files

        files, units = commit.files, None
        if commit.gone or only is not None:  # there may be very many units, and mostly all of them are read
            gone = {u for f in files for u in f.units if u in commit.gone or (only is not None and u not in only)}
            files = tuple(f for f in files if f.dead(gone) < f.rows or not f.units)
            kept = {u for f in files for u in f.units} - gone
            units = kept if any(f.dead(gone) for f in files) else None
        return scan_files(
            self.uri,
            files,
            commit.schema,
            commit.partition_by,
            self.storage_options,
            tagged=commit.tagged,
            units=units,
            tags=tags,
        )

    def whole(self, commit: Commit) -> pl.LazyFrame:
        """Return the rows of a commit that was not written just now; raises StorageError as ``refuse_gone``."""
        self.refuse_gone(commit)
        return self.scan(commit)

    def refuse_gone(self, commit: Commit) -> None:
        """Raise StorageError if a data file of a commit is gone from a local folder; of other stores it would take a request for each."""
        if not uris.is_local(self.uri):
            return
        root = uris.local_path(self.uri)
        for file in commit.files:
            if not os.path.exists(os.path.join(root, file.path)):
                what = f"a data file of version {commit.version} is gone"
                fix = "restore it from a backup, roll back, or run in full, which rebuilds the output"
                if (last := self.log.last()) != commit.version:
                    fix = f"restore it from a backup, or read another version: {last} is in force"
                raise StorageError(what, uri=uris.join(self.uri, file.path), fix=fix)

    def worn(self, commit: Commit, gone: Iterable[int]) -> tuple[DataFile, ...]:
        """Return the files of which more than half will be dead rows, once these units are gone too, and some are not."""
        left_out = commit.gone.union(gone)
        return tuple(f for f in commit.files if f.rows < 2 * f.dead(left_out) < 2 * f.rows)

    def scan_units(self, commit: Commit, units: Units) -> pl.LazyFrame:
        """Return a lazy scan of some units of a commit, each row with its own; of rows that do not know theirs, by data file."""
        if commit.tagged:
            return units.renamed(self.scan(commit, only=units.wanted, tags=True))
        from lazypipe.storage.datasets.data_files import scan_files

        files = [f for f in commit.files if uris.join(self.uri, f.path) in units.files]
        schema, by, options = commit.schema, commit.partition_by, self.storage_options
        if FILE_COLUMN in schema:  # rows put aside tell where they came from, in a column of this very name
            number, found = units.numbers, [pl.LazyFrame(schema={**schema, UNIT: pl.UInt64()})]
            for file in files:
                unit = pl.lit(number[uris.join(self.uri, file.path)], dtype=pl.UInt64)
                found.append(scan_files(self.uri, [file], schema, by, options).with_columns(unit.alias(UNIT)))
            return pl.concat(found[1:] or found)
        frame = scan_files(self.uri, files, schema, by, options, file_column=True)
        return units.number(frame).select(*schema, UNIT)

    def commit(
        self,
        files: Iterable[DataFile],
        schema: pl.Schema,
        *,
        run: str,
        time: datetime,
        mode: str = "replace",
        partition_by: tuple[str, ...] = (),
        info: Mapping[str, Any] | None = None,
        expected: int | None = None,
        tagged: bool = False,
        gone: Iterable[int] = (),
        figures: Iterable[DataFile] = (),
        without: Collection[str] = (),
        keys: Collection[str] = (),
        known: Commit | None = None,
    ) -> Commit:
        """Publish written files as the next version, in one step.

        Parameters
        ----------
        mode
            ``replace``: these files are all that is live; ``append``: they are added to those of the commit before;
            ``change``: the same, and of what was there, the units ``gone`` go.
        expected
            The version that the caller built upon (0: none); another one in force by now is a conflict, unless it has the same
            rows, in other files.
        tagged
            Whether rows in the files carry their unit.
        gone
            Units whose rows are no longer part of this version.
        figures
            Files beside the log from which this version was made.
        without
            Paths of files of the commit before that are no longer part of this version: their rows are in ``files``.
        keys
            Columns by which rows are looked up: between which values they lie is noted of each file.
        known
            The commit that the caller has read: if it is still in force, it is not read again.

        Raises
        ------
        CommitConflict
            If another run has committed meanwhile.
        StorageError
            If rows of another shape are appended, the log cannot be written, or, with ``keys``, a file cannot be read.
        """
        files, gone = tuple(files), frozenset(gone)
        while True:
            previous = self.latest(known)
            self._refuse_overtaken(previous, expected, without)
            version, rest, kept = 1, None, dict[str, Any]()
            stay, left_out, came = tuple[DataFile, ...](), frozenset[int](), files
            if previous is not None:
                version, rest = previous.version + 1, previous.rest
                kept = {k: v for k, v in previous.info.items() if k == KEPT}
                if mode in ("append", "change"):
                    stay, left_out = self._staying(previous, schema, gone, without)
                    stay = partitioned(stay, previous.partition_by, partition_by)
                # bounds are of the types of the commit
                came = tuple(_of_types(f, previous.schema, schema) for f in files)
            noted = KeyBounds(self.uri, tuple(keys), schema, partition_by, self.storage_options).noted((*stay, *came))
            made = Commit(
                version=version,
                run=run,
                time=time,
                mode=mode,
                schema=schema,
                files=noted,
                partition_by=partition_by,
                info={**kept, **(info or {}), **self._table(previous, version, begin=bool(self.delta))},
                tagged=tagged,
                gone=left_out,
                figures=tuple(figures),
                rest=rest,
            )
            try:
                return self.append(made)
            except CommitConflict:
                latest = self.latest()
                if previous is None or latest is None or not latest.stands(previous.version):
                    raise
                # files were only written anew meanwhile

    def append(self, made: Commit) -> Commit:
        """Make a commit visible, all at once, and tell of it in the Delta log if there is one; return it as it was made.

        What cannot be told there now is told by the next who comes by, see ``publish``.

        Raises
        ------
        CommitConflict
            If somebody else created this version first.
        StorageError
            If the file cannot be written, or a Delta table cannot hold its rows.
        """
        if DELTA not in made.info:
            return self.log.append(made)
        from lazypipe.storage.lake import publish
        from lazypipe.storage.lake.fitting import fitted

        fit = fitted(self, made)
        try:
            commit = self.log.append(fit.commit)
        except CommitConflict:
            fit.discard()
            raise
        with suppress(StorageError):  # the rows are committed
            publish.catch_up(self.uri, self.log, commit, self.storage_options)
        return commit

    def publish(self, *, run: str, time: datetime) -> int:
        """Have the Delta log tell of all commits; return how many it did not know.

        What is no Delta table yet becomes one, by a commit that holds the same rows.

        Raises
        ------
        StorageError
            If a Delta table cannot hold the rows, its log cannot be read or written, or somebody else writes to it.
        CommitConflict
            If a run commits meanwhile.
        """
        latest = self.latest()
        if latest is None:
            return 0
        if DELTA not in latest.info:
            version = latest.version + 1
            info = {k: v for k, v in latest.info.items() if k != "gates"}
            info[REWRITE] = {"of": latest.rows_of, "files": 0}
            info |= self._table(latest, version, begin=True)
            self.append(replace(latest, version=version, run=run, time=time, mode=REWRITE, info=info))
            return 1
        from lazypipe.storage.lake import publish

        return publish.catch_up(self.uri, self.log, latest, self.storage_options)

    def _table(self, previous: Commit | None, version: int, *, begin: bool = False) -> dict[str, Any]:
        """Return the part of a commit's ``info`` about its Delta table: none without a table, unless it is to ``begin`` one."""
        before = None if previous is None else previous.info.get(DELTA)
        if before is None:
            if not begin:
                return {}
            from lazypipe.storage.lake import publish

            publish.refuse_taken(self.uri, self.storage_options)
            return {DELTA: version}
        if self.delta is False:
            fix = "write format: delta, or write to another place"
            raise StorageError("the dataset here is a Delta table too", uri=self.uri, fix=fix)
        return {DELTA: before}

    def _refuse_overtaken(self, previous: Commit | None, expected: int | None, without: Collection[str]) -> None:
        """Raise where what a run has built upon is not in force any more, in whatever files."""
        number, there = (0, ()) if previous is None else (previous.version, previous.files)
        stands = expected == number or (previous is not None and expected is not None and previous.stands(expected))
        if expected is not None and not (stands and {f.path for f in there}.issuperset(without)):
            raise CommitConflict(
                f"version {number} was committed by another run",
                uri=self.uri,
                fix="run again: nothing of this run became visible",
            )

    def _staying(
        self, previous: Commit, schema: pl.Schema, gone: frozenset[int], without: Collection[str]
    ) -> tuple[tuple[DataFile, ...], frozenset[int]]:
        """Return the files of the previous commit that stay, and the units in them whose rows are gone."""
        if dict(previous.schema) != dict(schema):
            raise StorageError(
                "the rows to append have other columns than the dataset",
                uri=self.uri,
                fix="run once with mode: replace",
            )
        left_out = previous.gone.union(gone)
        files = (f for f in previous.files if f.path not in without)
        stay = tuple(f for f in files if f.dead(left_out) < f.rows or not f.units)
        return stay, left_out.intersection(u for f in stay for u in f.units)

    def restate(self, commit: Commit, *, run: str, time: datetime, info: Mapping[str, Any]) -> Commit:
        """Publish the files of the commit in force once more, with more or other ``info``; no row changes.

        Raises
        ------
        CommitConflict
            If another run has committed since.
        """
        said = {**commit.info, **info}
        return self.append(replace(commit, version=commit.version + 1, run=run, time=time, mode=JUDGE, info=said))

    def rollback(self, version: int, *, run: str, time: datetime) -> Commit:
        """Make an earlier version the one in force, as a commit of its own.

        Raises
        ------
        StorageError
            If there is no such version, or files of it are gone.
        CommitConflict
            If another run commits meanwhile.
        """
        old, latest = self.log.read(version), self.read()
        fs, root = uris.file_system(self.uri, self.storage_options)
        missing = [f.path for f in old.files if not fs.exists(f"{root}/{f.path}")]
        if missing:
            what = f"version {version} cannot come back: {len(missing):,} of its files are gone, such as {missing[0]}"
            raise StorageError(what, uri=self.uri, fix="choose a later version, or run the pipeline in full")
        made = self._again(old, latest, run=run, time=time)
        left = self.log.versions()
        # a vacuum has begun meanwhile: one that keeps the version before may not have seen that the older files are needed again
        if version not in left and latest.version in left:
            self._again(latest, made, run=run, time=time)
            what = f"version {version} was vacuumed while it came back, and version {latest.version} is in force again"
            raise StorageError(what, uri=self.uri, fix="choose a later version, or run the pipeline in full")
        return made

    def _again(self, old: Commit, latest: Commit, *, run: str, time: datetime) -> Commit:
        """Publish an old version as the one after the latest."""
        number = latest.version + 1
        info = {**old.info, BACK: old.info.get(BACK, old.version), **self._table(latest, number)}
        mode = f"{ROLLBACK}{old.version}"
        # what the version in force rests upon is there as long as that is in force
        return self.append(replace(old, version=number, run=run, time=time, mode=mode, info=info, rest=latest.rest))


def _of_types(file: DataFile, before: Mapping[str, pl.DataType], now: Mapping[str, pl.DataType]) -> DataFile:
    """Return a file of the commit before as one of the next, without the bounds of columns that have other types by then."""
    return (
        replace(file, bounds={n: b for n, b in file.bounds.items() if before.get(n) == now.get(n)})
        if file.bounds
        else file
    )


def _asked(uri: str, version: object, as_of: object) -> datetime | None:
    """Return the moment that is asked for; raises StorageError if what is to choose a commit is of another type, or both are given."""
    if version is not None and as_of is not None:
        raise StorageError("both version and as_of are given", uri=uri, fix="leave out version or as_of")
    if not isinstance(version, int | None):
        raise StorageError(
            f"version {version!r} is not a number", uri=uri, fix="give version=3, or as_of='2024-01-31T12:00'"
        )
    try:
        return None if as_of is None else utc_moment(as_of)
    except LazypipeError as error:
        what, _, fix = str(error).partition("; ")
        raise StorageError(f"as_of {what}", uri=uri, fix=fix) from None


def is_dataset(uri: str, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Whether a commit log stands beside ``uri``."""
    return Dataset(uri, storage_options).log.last() > 0


def scan(
    uri: str | os.PathLike[str],
    *,
    version: int | None = None,
    as_of: datetime | date | str | None = None,
    columns: str | Iterable[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> pl.LazyFrame:
    """Scan one version of a dataset lazily: the latest, a given version, or the one that was in force at a point in time.

    The version is chosen now; its files are read by Polars when the frame is collected. If ``vacuum`` deletes the version in between,
    collecting raises ``FileNotFoundError`` with the file. Scan again, or let ``vacuum`` keep more versions.

    Parameters
    ----------
    version
        The version's number.
    as_of
        A point in time: a datetime, a date (its start), or either as ISO 8601 text. Without a time zone it is UTC.
    columns
        The columns to read. Default: all.
    storage_options
        Credentials and settings for the storage, with the names that Polars or fsspec use.

    Raises
    ------
    StorageError
        If there is no dataset, no such version, or no such column; or a data file of the version is gone from a local folder.

    Examples
    --------
    >>> scan("memory://nowhere")
    Traceback (most recent call last):
    lazypipe.errors.StorageError: memory://nowhere: there is no dataset here; run the pipeline that writes it, or check the path
    """
    dataset = Dataset(uri, storage_options)
    commit = dataset.read(version=version, as_of=as_of)
    frame = dataset.whole(commit)
    if columns is None:
        return frame
    chosen = list(dict.fromkeys([columns] if isinstance(columns, str) else map(_name_of, columns)))
    for name in chosen:
        if name not in commit.schema:
            fix = nearest(name, commit.schema, "columns")
            raise StorageError(f"there is no column {name!r}", uri=dataset.uri, fix=fix)
    return frame.select(chosen)


def _name_of(column: Any) -> str:
    if not isinstance(column, str):
        raise StorageError(f"{column!r} is not a column name", fix="give names, or select from the frame")
    return column
