"""Delta tables of other tools as sources: the files of a version according to its log, and a scan that follows its schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import unquote

import polars as pl

from lazypipe.errors import SourceError, StorageError
from lazypipe.spec.model import NOTHING
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.files import FileInfo
from lazypipe.storage.lake.log import APP, FOLDER, DeltaLog, Table
from lazypipe.storage.lake.types import to_polars
from lazypipe.storage.scan import FILE_COLUMN
from lazypipe.storage.widen import widened

__all__ = ["LakeTable", "Rewrite", "read_table", "rewrites"]

_READER = 3
"""The last version of the protocol for readers."""

_KNOWN = frozenset({"timestampNtz", "vacuumProtocolCheck", "columnMapping", "deletionVectors"})
"""Features that are read, or that a table may allow without having used them: that is looked at."""

_ELSEWHERE = "read it with another engine, or have its owner write a table without it"

_LOOSE: Mapping[str, Any] = {
    "missing_columns": "insert",
    "extra_columns": "ignore",
    "cast_options": pl.ScanCastOptions(
        integer_cast="upcast",
        float_cast="upcast",
        # Spark writes nanoseconds that stand for microseconds, without a zone, and means UTC
        datetime_cast=("nanosecond-downcast", "millisecond-upcast", "convert-timezone"),
        missing_struct_fields="insert",
        extra_struct_fields="ignore",
        categorical_to_string="allow",
    ),
}

_Values = tuple[Any, ...]


@dataclass(frozen=True)
class LakeTable:
    """One version of a Delta table: its columns, its files, and what its log says of each.

    ``keys`` are the values of the partition columns by the URI of a file, ``rows`` how many it has, where the log says that. ``tells`` is the commit
    of a dataset of lazypipe that it tells of, None of tables that others write.
    """

    uri: str
    version: int
    schema: pl.Schema
    partition_by: tuple[str, ...] = ()
    files: tuple[FileInfo, ...] = field(default=(), repr=False)
    keys: Mapping[str, _Values] = field(default=NOTHING, repr=False)
    rows: Mapping[str, int] = field(default=NOTHING, repr=False)
    tells: int | None = None

    @property
    def inside(self) -> pl.Schema:
        """The columns that stand in files."""
        return pl.Schema({n: t for n, t in self.schema.items() if n not in self.partition_by})

    def in_order(self, files: Sequence[FileInfo]) -> tuple[FileInfo, ...]:
        """Return some of its files in the order in which their rows come in a scan.

        Examples
        --------
        >>> a, b, c = (FileInfo(n, 1) for n in "abc")
        >>> table = LakeTable("t", 0, pl.Schema({"k": pl.Int64()}), ("k",), keys={"a": (1,), "b": (2,), "c": (1,)})
        >>> [f.uri for f in table.in_order([a, b, c])]
        ['a', 'c', 'b']
        """
        if not self.partition_by or self._is_plain(files):
            return tuple(files)
        return tuple(f for of in self._groups(files).values() for f in of)

    def scan(
        self,
        files: Sequence[FileInfo],
        storage_options: Mapping[str, Any] = NOTHING,
        *,
        file_column: bool = False,
        looked: MutableMapping[FileInfo, pl.Schema] | None = None,
    ) -> pl.LazyFrame:
        """Return a lazy scan of some of its files, in the table's columns; those that a file lacks are null there.

        Reads nothing, but the footers of files on protocols that Polars does not read itself, which are kept in ``looked``.

        Raises
        ------
        SourceError
            If such a footer cannot be read, or a column has a type that the table's does not hold; names the file.
        """
        extra = [FILE_COLUMN] if file_column else []
        if not files:
            return pl.LazyFrame(schema={**self.schema, **dict.fromkeys(extra, pl.String)})
        names = [*self.schema, *extra]
        if uris.is_native(files[0].uri):
            if not self.partition_by or self._is_plain(files):
                keys = {n: self.schema[n] for n in self.partition_by}
                return self._native(files, storage_options, keys, extra).select(names)
            parts = [self._native(of, storage_options, {}, extra) for of in self._groups(files).values()]
            firsts = [of[0] for of in self._groups(files).values()]
        else:
            known = {} if looked is None else looked
            parts = [self._through_fsspec(f, storage_options, extra, known) for f in self.in_order(files)]
            firsts = [*self.in_order(files)]
        scans = [p.with_columns(self._literals(f)).select(names) for p, f in zip(parts, firsts, strict=True)]
        return scans[0] if len(scans) == 1 else pl.concat(scans)

    def _literals(self, file: FileInfo) -> list[pl.Expr]:
        values = self.keys[file.uri] if self.partition_by else ()
        return [pl.lit(v, dtype=self.schema[n]).alias(n) for n, v in zip(self.partition_by, values, strict=True)]

    def _groups(self, files: Sequence[FileInfo]) -> dict[_Values, list[FileInfo]]:
        found: dict[_Values, list[FileInfo]] = {}
        for file in files:
            found.setdefault(self.keys[file.uri], []).append(file)
        return found

    def _is_plain(self, files: Sequence[FileInfo]) -> bool:
        """Whether Polars, reading the names of folders, finds what the log says: then one scan does."""
        types = [self.schema[n] for n in self.partition_by]
        if not all(t.is_integer() or t in (pl.String, pl.Date) for t in types):
            return False
        paths = [f.uri for f in files]

        def said(uri: str) -> dict[str, str | None]:
            return {n: None if v is None else str(v) for n, v in zip(self.partition_by, self.keys[uri], strict=True)}

        return hive.is_plain(self.partition_by, paths) and all(hive.values(p) == said(p) for p in paths)

    def _native(
        self,
        files: Sequence[FileInfo],
        options: Mapping[str, Any],
        keys: Mapping[str, pl.DataType],
        extra: Sequence[str],
    ) -> pl.LazyFrame:
        return pl.scan_parquet(
            [f.uri for f in files],
            schema=self.inside,
            glob=False,
            storage_options=uris.polars_options(files[0].uri, options),
            include_file_paths=extra[0] if extra else None,
            hive_partitioning=bool(keys),
            hive_schema=dict(keys) or None,
            **_LOOSE,
        )

    def _through_fsspec(
        self,
        file: FileInfo,
        options: Mapping[str, Any],
        extra: Sequence[str],
        looked: MutableMapping[FileInfo, pl.Schema],
    ) -> pl.LazyFrame:
        from lazypipe.storage.external.scan import external_schema, scan_external

        if file not in looked:
            looked[file] = external_schema(file.uri, format="parquet", storage_options=options)
        found = looked[file]
        frame = scan_external([file.uri], format="parquet", schema=found, storage_options=options)
        columns = [_fitted(file, name, found.get(name), dtype) for name, dtype in self.inside.items()]
        return frame.select(*columns, *[pl.lit(file.uri).alias(n) for n in extra])


def _fitted(file: FileInfo, name: str, found: pl.DataType | None, wanted: pl.DataType) -> pl.Expr:
    """Return a column of a file in the type that the table says."""
    column = pl.col(name)
    if found is None:
        return pl.lit(None, dtype=wanted).alias(name)
    if found == wanted:
        return column
    if isinstance(found, pl.Datetime) and isinstance(wanted, pl.Datetime):
        at = column.dt.cast_time_unit("us")
        at = at if found.time_zone is None else at.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return at if wanted.time_zone is None else at.dt.replace_time_zone("UTC")
    if widened(found, wanted) == wanted:
        return column.cast(wanted)
    what = f"the file has {found} in column {name!r}, which is {wanted} in the Delta table"
    raise SourceError(what, uri=file.uri, fix="have the table's owner rewrite the file")


def read_table(uri: str, storage_options: Mapping[str, Any] | None = None, version: int | None = None) -> LakeTable:
    """Read what a Delta table is at a version, the last one by default, from its log alone.

    Raises
    ------
    StorageError
        If there is no table or no such version, its log is damaged, or reading it right needs what lazypipe has not.

    Examples
    --------
    >>> read_table("memory://no-table")
    Traceback (most recent call last):
    ...
    lazypipe.errors.StorageError: memory://no-table: there is no Delta table: there is no version in _delta_log; check the path
    """
    root = uris.local_path(uri) if uris.is_local(uri) else uri
    log = DeltaLog(root, storage_options)
    if log.last() < 0:
        what = f"there is no Delta table: there is no version in {FOLDER}"
        raise StorageError(what, uri=root, fix="check the path")
    table = log.table(version)
    _refuse_unknown(root, table)
    schema = to_polars(table.metadata["schemaString"], root)
    by = tuple(table.metadata.get("partitionColumns") or ())
    made: dict[str, tuple[int, Mapping[str, Any]]] = {}
    for path, add in table.adds.items():
        if _is_said(add.get("deletionVector")):
            what = "rows of this file are deleted by a deletion vector, which lazypipe does not read"
            fix = "have its owner purge them: REORG TABLE … APPLY (PURGE), and delta.enableDeletionVectors = false"
            raise StorageError(what, uri=_whole(root, path), fix=fix)
        made[_whole(root, path)] = (int(add.get("modificationTime") or 0), add)
    files = tuple(
        # a file is never written twice, so its time of writing identifies it
        FileInfo(where, add.get("size"), str(at * 1_000_000))
        for where, (at, add) in sorted(made.items(), key=lambda item: (item[1][0], item[0]))
    )
    keys = {where: _keys(where, by, schema, add) for where, (_, add) in made.items()} if by else NOTHING
    return LakeTable(root, table.version, schema, by, files, keys, _rows(made), table.transactions.get(APP))


def _is_said(value: Any) -> bool:
    # checkpoints of some writers have structs of nulls for missing values
    return isinstance(value, Mapping) and any(v is not None for v in value.values())


def _refuse_unknown(uri: str, table: Table) -> None:
    """Refuse a table that would be read wrongly, by the name of what it needs."""
    needed = table.protocol.get("minReaderVersion", 1)
    if needed > _READER:
        what = f"the Delta table needs readers of version {needed}, and lazypipe reads up to {_READER}"
        raise StorageError(what, uri=uri, fix=_ELSEWHERE)
    if unknown := sorted(table.features - _KNOWN):
        what = f"the Delta table needs {', '.join(unknown)} of its readers, which lazypipe does not read"
        raise StorageError(what, uri=uri, fix=_ELSEWHERE)
    mapping = _mapping(table.metadata.get("configuration")).get("delta.columnMapping.mode", "none")
    if mapping != "none":
        what = f"the columns of the Delta table have other names in its files (column mapping by {mapping}), which lazypipe does not read"
        raise StorageError(what, uri=uri, fix=_ELSEWHERE)


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if value else {}


def _whole(root: str, path: str) -> str:
    """Return the URI of a file; that of another table's, which a shallow clone names in full, as it is.

    Examples
    --------
    >>> _whole("/lake/t", "day=1/a%20b.parquet"), _whole("/lake/t", "file:/lake/o/a.parquet")
    ('/lake/t/day=1/a b.parquet', '/lake/o/a.parquet')
    """
    path = unquote(path)
    if path.startswith("file:"):
        path = "/" + path.removeprefix("file:").lstrip("/")
    if path.startswith("/") or uris.protocol(path):
        if uris.protocol(path) != uris.protocol(root):
            what = f"a file of the Delta table is outside of its folder, at {path}"
            raise StorageError(what, uri=root, fix="read the table that it was cloned from, or a deep clone")
        return path
    return uris.join(root, path)


def _keys(where: str, by: Sequence[str], schema: pl.Schema, add: Mapping[str, Any]) -> _Values:
    said = _mapping(add.get("partitionValues"))
    found = []
    for name in by:
        text = said.get(name)
        try:
            found.append(_value(text, schema[name]) if text else None)  # an empty text is a null
        except (ValueError, ArithmeticError, KeyError) as error:
            what = f"the Delta log says {text!r} of partition column {name!r}, which is not a valid {schema[name]}"
            raise StorageError(what, uri=where, fix="have the table's owner rewrite the file") from error
    return tuple(found)


def _value(text: str, dtype: pl.DataType) -> Any:
    """Return the value that a partition's text means.

    Examples
    --------
    >>> _value("2024-01-01 05:00:00", pl.Datetime("us", "UTC")), _value("true", pl.Boolean())
    (datetime.datetime(2024, 1, 1, 5, 0, tzinfo=datetime.timezone.utc), True)
    """
    match dtype:
        case pl.String():
            return text
        case pl.Date():
            return date.fromisoformat(text)
        case pl.Datetime():
            at = datetime.fromisoformat(text)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
            return at if dtype.time_zone else at.replace(tzinfo=None)
        case pl.Boolean():
            return {"true": True, "false": False}[text]
        case pl.Decimal():
            return Decimal(text)
        case _ if dtype.is_integer():
            return int(text)
        case _ if dtype.is_float():
            return float(text)
        case _:
            raise ValueError(dtype)


def _rows(made: Mapping[str, tuple[int, Mapping[str, Any]]]) -> dict[str, int]:
    found = {}
    for where, (_, add) in made.items():
        stats = add.get("stats")
        rows = _count(stats) if isinstance(stats, str) else None
        if rows is not None:
            found[where] = rows
    return found


def _count(stats: str) -> int | None:
    try:
        rows = json.loads(stats).get("numRecords")
    except (ValueError, AttributeError):  # only a help for row counts
        return None
    return rows if isinstance(rows, int) else None


class Rewrite(NamedTuple):
    """What a version did to files: those that ``went``, those that ``came``, and whether these hold the same rows."""

    version: int
    went: tuple[str, ...]
    came: tuple[str, ...]
    same: bool


def rewrites(table: LakeTable, storage_options: Mapping[str, Any] | None, since: int) -> list[Rewrite] | None:
    """Return what versions after ``since`` did that took files away, up to a table's own version.

    None if the log no longer has all of these versions: then it is not known.
    """
    found = []
    log = DeltaLog(table.uri, storage_options)
    for version in range(since + 1, table.version + 1):
        actions = log.actions(version)
        if actions is None:
            return None
        adds = [a["add"] for a in actions if "add" in a]
        removes = [a["remove"] for a in actions if "remove" in a]
        if removes:
            went = tuple(_whole(table.uri, r["path"]) for r in removes)
            came = tuple(_whole(table.uri, a["path"]) for a in adds)
            same = not any(x.get("dataChange", True) for x in (*adds, *removes))
            found.append(Rewrite(version, went, came, same))
    return found
