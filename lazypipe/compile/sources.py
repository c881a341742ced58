"""Sources bound: URIs resolved, format known, contract applied, schema read. The only part of compiling that does I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from lazypipe.errors import SourceError, nearest
from lazypipe.spec.arguments import check_dtype
from lazypipe.spec.model import Fault, Path, Source
from lazypipe.spec.types import dtype_name
from lazypipe.storage import uri as uris
from lazypipe.storage.dataset import Dataset, scan_files
from lazypipe.storage.files import FORMATS, FileInfo, expand, format_of
from lazypipe.storage.log import Commit
from lazypipe.storage.scan import FILE_COLUMN, Reader, is_engine_error, plain_reason

__all__ = ["BoundSource", "Snapshot", "bind"]


@dataclass(frozen=True)
class Snapshot:
    """What a source holds at one moment: its files, or a dataset's commit."""

    files: tuple[FileInfo, ...]
    commit: Commit | None = None


@dataclass(frozen=True)
class BoundSource:
    """A source that can be listed and scanned. ``schema`` is what its stages see; ``stored`` what its files hold."""

    name: str
    patterns: tuple[str, ...] = field(repr=False)
    reader: Reader = field(repr=False)
    schema: pl.Schema
    stored: pl.Schema
    casts: Mapping[str, pl.DataType]
    redact: uris.Redactor = field(repr=False)

    def snapshot(self) -> Snapshot:
        """List the source as it is now; raises SourceError if there is nothing to read."""
        try:
            return _snapshot(self.patterns, self.reader)
        except SourceError as error:
            raise self.located(error) from None  # the first one may hold a secret

    def scan(
        self,
        snapshot: Snapshot,
        *,
        file_column: bool = False,
        watch: Callable[[pl.LazyFrame], pl.LazyFrame] | None = None,
    ) -> pl.LazyFrame:
        """Return the lazy scan of a snapshot, in the shape of ``schema`` (and ``_lazypipe_file`` where asked).

        ``watch`` is put over all columns of the files, before any is cast or left out.
        """
        if snapshot.commit is not None:
            uri, commit = self.patterns[0], snapshot.commit
            frame = scan_files(uri, commit.files, commit.schema, commit.partition_by, self.reader.storage_options)
            extra = [pl.lit(uri).alias(FILE_COLUMN)] if file_column else []
            return frame.select(*self.schema, *extra)
        frame = self.reader.scan(snapshot.files, self.stored, file_column=file_column)
        if watch is not None:
            frame = watch(frame)
        if self.casts:
            frame = frame.with_columns(pl.col(n).cast(t) for n, t in self.casts.items())
        return frame.select(*self.schema, *([FILE_COLUMN] if file_column else []))

    def culprit(self, snapshot: Snapshot) -> SourceError | None:
        """Return the error that names the first file which cannot be read as the contract says, None if all can."""
        if snapshot.commit is None:
            found = self.reader.culprit(snapshot.files, self.stored)
            if found is not None:
                return self.located(found)
            parts = [Snapshot((file,)) for file in snapshot.files]
        else:
            commit = snapshot.commit
            parts = [
                Snapshot((i,), replace(commit, files=(f,))) for i, f in zip(snapshot.files, commit.files, strict=True)
            ]
        for part in parts:
            try:
                self.scan(part).select(pl.all().null_count()).collect(engine="streaming")
            except BaseException as error:
                if not is_engine_error(error):
                    raise
                fix = "mend the file, or change the contract" if snapshot.commit is None else "restore it from a backup"
                return self.located(SourceError(plain_reason(error), uri=part.files[0].uri, fix=fix))
        return None

    def located(self, error: SourceError) -> SourceError:
        """Return the error with the source's name in it, and no secret."""
        uri = None if error.uri is None else self.redact(error.uri)
        what = self.redact(error.what)
        prefix = f"source {self.name!r}: "
        return SourceError(what if what.startswith(prefix) else prefix + what, uri=uri, fix=error.fix)

    def in_files(self, snapshot: Snapshot) -> pl.Schema:
        """Return the columns that stand inside the files: all but those that folders are named after."""
        keys = self.reader.keys(snapshot.files, self.stored)
        return pl.Schema({n: t for n, t in self.stored.items() if n not in keys})

    @property
    def is_text(self) -> bool:
        """Whether reading it means parsing text, which costs far more than reading columns."""
        return self.reader.format in ("csv", "ndjson")


def _snapshot(patterns: tuple[str, ...], reader: Reader) -> Snapshot:
    if reader.format == "dataset":
        dataset = Dataset(patterns[0], reader.storage_options)
        commit = dataset.latest()
        if commit is None:
            raise SourceError("there is no dataset here", uri=patterns[0], fix="run the pipeline that writes it")
        return Snapshot(dataset.files(commit), commit)
    return Snapshot(expand(patterns, reader.storage_options, endings=FORMATS[reader.format]))


def bind(name: str, source: Source, base: str, env: Mapping[str, str]) -> BoundSource:
    """Resolve a source's URIs, format, contract and schema.

    Raises
    ------
    Fault
        If the definition is wrong: an unset variable, an unknown format, a contract that the files break.
    SourceError
        If the source cannot be read.
    """
    at: Path = ("sources", name)
    patterns, options, redact = _expand(source, base, env, at)
    try:
        return _bind(name, source, patterns, options, redact, at)
    except Fault as fault:
        raise Fault(redact(fault.what), fault.fix, fault.path) from None


def _bind(
    name: str,
    source: Source,
    patterns: tuple[str, ...],
    options: Mapping[str, Any],
    redact: uris.Redactor,
    at: Path,
) -> BoundSource:
    form = source.format or _guess(patterns, options, at)
    declared = _declared(source, at)
    reader = Reader(form, declared if form in ("csv", "ndjson") else {}, source.read, options)
    if form not in ("csv", "ndjson") and source.read:
        raise Fault(f"read is for text files, and this is {form}", "remove read", (*at, "read"))
    closed = source.contract.get("on_new_column") in ("drop", "fail")
    unbound = BoundSource(name, patterns, reader, pl.Schema(), pl.Schema(), {}, redact)
    try:
        snapshot = _snapshot(patterns, reader)
        found = snapshot.commit.schema if snapshot.commit else reader.infer(snapshot.files)
    except SourceError as error:
        if not declared:
            raise unbound.located(error) from None
        found = pl.Schema(declared)  # a pipeline can be compiled before its data is there
    stored, schema, casts = _apply(source, found, declared, at, closed=closed)
    for key, names in (
        ("event_time", [source.event_time] if source.event_time else []),
        ("key", source.key),
        ("columns", source.columns),
    ):
        for index, column in enumerate(names):
            if column not in schema:
                place = column if key == "columns" else index
                raise Fault(f"unknown column {column!r}", nearest(column, schema, "columns"), (*at, key, place))
    if source.event_time and not isinstance(schema[source.event_time], pl.Date | pl.Datetime):
        what = f"event_time {source.event_time!r} is {dtype_name(schema[source.event_time])}, not a date or a datetime"
        raise Fault(what, "declare it as one in contract", (*at, "event_time"))
    return BoundSource(name, patterns, reader, schema, stored, casts, redact)


def _expand(
    source: Source, base: str, env: Mapping[str, str], at: Path
) -> tuple[tuple[str, ...], dict[str, Any], uris.Redactor]:
    patterns: list[str] = []
    secrets: list[tuple[str, str]] = []
    for index, uri in enumerate(source.uri):
        written, used = expand_env(uri, env, (*at, "uri", index))
        patterns.append(uris.resolve(written, base))
        secrets += used
    options: dict[str, Any] = {}
    for name, value in source.storage_options.items():
        options[name], used = expand_env(value, env, (*at, "storage_options", name))
        secrets += used
    return tuple(patterns), options, uris.Redactor(tuple(secrets))


def expand_env(value: Any, env: Mapping[str, str], at: Path) -> tuple[Any, tuple[tuple[str, str], ...]]:
    """Replace ``${NAME}`` and return it with the values used; raises Fault for a variable that is not set."""
    try:
        return uris.expand(value, env)
    except KeyError as error:
        name = str(error.args[0])
        raise Fault(f"environment variable {name} is not set", f"set it: export {name}=…", at) from None


def _guess(patterns: tuple[str, ...], options: Mapping[str, Any], at: Path) -> str:
    formats = {format_of(p) for p in patterns}
    if None in formats and len(patterns) == 1:
        if Dataset(patterns[0], options).log.versions():
            return "dataset"
        if "." not in patterns[0].rsplit("/", 1)[-1]:
            return "parquet"  # a folder
    if len(formats) > 1:
        raise Fault("one source cannot mix formats", "make a source of each, and union them", (*at, "uri"))
    (form,) = formats
    if form is None:
        endings = ", ".join(e for group in FORMATS.values() for e in group[:1])
        raise Fault(
            f"the format of {patterns[0].rsplit('/', 1)[-1]!r} is not known from its name",
            f"add format, or use an ending such as {endings}",
            (*at, "uri"),
        )
    return form


def _declared(source: Source, at: Path) -> dict[str, pl.DataType]:
    types = {}
    for column, written in source.contract.get("columns", {}).items():
        try:
            types[column] = check_dtype(written)
        except Fault as fault:
            raise Fault(fault.what, fault.fix, (*at, "contract", "columns", column)) from None
    return types


def _apply(
    source: Source, found: pl.Schema, declared: Mapping[str, pl.DataType], at: Path, *, closed: bool
) -> tuple[pl.Schema, pl.Schema, dict[str, pl.DataType]]:
    """Hold what the files have against the contract: what to read, what stages see, what to cast."""
    path: Path = (*at, "contract", "columns")
    for column in declared:
        if column not in found:
            raise Fault(
                f"the files lack column {column!r}", nearest(column, found, "columns in the files"), (*path, column)
            )
    new = [c for c in found if c not in declared] if closed else []
    if new and source.contract["on_new_column"] == "fail":
        raise Fault(
            f"the files have a new column {new[0]!r}",
            "declare it, or say on_new_column: ignore or drop",
            (*at, "contract", "on_new_column"),
        )
    casts = {}
    for column, dtype in declared.items():
        if found[column] != dtype:
            if source.contract.get("on_type_change", "fail") == "fail":
                what = f"column {column!r} is {dtype_name(found[column])} in the files and {dtype_name(dtype)} in the contract"
                raise Fault(what, "change the contract, or say on_type_change: cast", (*path, column))
            casts[column] = dtype
    schema = pl.Schema({c: casts.get(c, t) for c, t in found.items() if c not in new})
    # text files are parsed whole, so that a ragged or mistyped row cannot hide in a column that nobody reads
    return found, schema, casts
