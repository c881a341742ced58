"""Binding a source: URIs resolved, format known, contract applied, schema read. With what it looks at, the only part of compiling that does I/O."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from lazypipe.compile.sources.contract import Contract, read_contract, resolve
from lazypipe.compile.sources.intake import read_intake
from lazypipe.compile.sources.source import BoundSource, Recalled, Snapshot
from lazypipe.compile.sources.watermark import read_watermark, time_checks
from lazypipe.errors import LazypipeError, SourceError, StorageError, closest, nearest
from lazypipe.spec.endings import format_of
from lazypipe.spec.model import Fault, Path, Source
from lazypipe.spec.types import dtype_name
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.corrupt import OnCorrupt
from lazypipe.storage.datasets.units import is_of_files
from lazypipe.storage.files import FROM_FOLDER, FileInfo, Named, named
from lazypipe.storage.formats import FORMATS, TEXT_FORMATS
from lazypipe.storage.scan import FILE_COLUMN, Reader
from lazypipe.storage.shape import BY_LOG, told_otherwise
from lazypipe.storage.text.cells import POINT
from lazypipe.storage.text.header import misread, refuse_misread
from lazypipe.windows.watermark import COMPLETE

if TYPE_CHECKING:
    from lazypipe.storage.datasets.log import Commit

__all__ = ["bind", "expand_env", "expand_source", "refuse_unknown_protocol", "unseen"]

_PROTOCOLS = ("abfss", "az", "file", "ftp", "gs", "http", "https", "memory", "s3", "sftp", "simplecache", "zip")
"""Those that are often meant."""
_OTHERS = {
    ".json": "add format: ndjson, if it has one JSON object per line",
    ".tsv": 'add format: csv and read: {separator: "\\t"}',
    ".xls": "save the sheet as CSV or Parquet: workbooks are not read",
    ".ods": "save the sheet as CSV or Parquet: workbooks are not read",
    ".zip": "name what is in it, such as zip://*.csv::data.zip",
}
"""Endings of names that tell no format, and what to do."""
_BY_OWN_LOG = "remove format: delta, so that the dataset is read by its own log, or rename the column"
"""What to do about a column of a Delta table that only lazypipe writes."""


def bind(
    name: str,
    source: Source,
    base: str,
    env: Mapping[str, str],
    admit: Callable[[BoundSource, Snapshot], Snapshot] = lambda _, found: found,
    recall: Callable[[BoundSource], Recalled] = lambda _: Recalled(),
    *,
    as_before: bool = False,
) -> BoundSource:
    """Resolve a source's URIs, format, contract and schema.

    ``admit`` takes out files that are not whole yet; they are looked into only if nothing else would tell the columns. ``recall`` says of
    which files these are known from before; ``as_before`` takes such columns for those of files that have others now (``changed``).

    Raises
    ------
    Fault
        If the definition is wrong: an unset variable, an unknown format, a contract that the files break.
    SourceError
        If the source cannot be read.
    """
    at: Path = ("sources", name)
    patterns, options, marker, redact = expand_source(source, base, env, at)
    try:
        return _bind(name, source, patterns, options, marker, redact, at, admit, recall, as_before=as_before)
    except Fault as fault:
        raise Fault(redact(fault.what), fault.fix, fault.path, away=fault.away) from None


def scan_uri(uri: str, storage_options: Mapping[str, Any] | None, called: str = "data") -> pl.LazyFrame:
    """Return the rows of a dataset, a file, or the files of a pattern, as a source reads them that says no more.

    Raises
    ------
    LazypipeError
        If their format cannot be told, or they do not go together.
    SourceError
        If there is nothing, or it cannot be read.
    """
    try:
        bound = bind(called, Source((uri,), storage_options=storage_options or {}), ".", os.environ)
    except Fault as fault:
        raise LazypipeError(f"{fault.what}; {fault.fix}") from None
    except SourceError as error:  # there is no definition
        fix = None if error.fix is None else error.fix.removesuffix(FROM_FOLDER)
        raise SourceError(error.what, uri=error.uri, fix=fix) from None
    return bound.scan(bound.snapshot())


def unseen(name: str, source: Source) -> list[Fault]:
    """Return what is wrong with a source whatever there is at its URIs, of which nothing is asked."""
    at: Path = ("sources", name)
    try:
        read_contract(source.contract, (*at, "contract"))
        known = all(format_of(uri) is not None for uri in source.uri)
        form = source.format or (_guess(source.uri, {}, at) if known else None)
        if form is not None:
            _refuse_of_others(source, form, source.uri, at)
            read_intake(source, form, at)
    except Fault as fault:
        return [fault]
    return []


def _bind(
    name: str,
    source: Source,
    patterns: tuple[str, ...],
    options: Mapping[str, Any],
    marker: str | None,
    redact: uris.Redactor,
    at: Path,
    admit: Callable[[BoundSource, Snapshot], Snapshot],
    recall: Callable[[BoundSource], Recalled],
    *,
    as_before: bool,
) -> BoundSource:
    form = source.format or _guess(patterns, options, at)
    contract = read_contract(source.contract, (*at, "contract"))
    _refuse_of_others(source, form, patterns, at)
    bound = BoundSource(
        name,
        patterns,
        _reader(source, form, contract, options),
        redact,
        on_corrupt=cast("OnCorrupt", source.on_corrupt),
        intake=read_intake(source, form, at),
        declares=bool(contract.columns),
        version=source.version,
    )
    bound = replace(bound, recalled=recall(bound))
    adapts = _adapts(contract, bound.reader)
    try:
        snapshot, there = _looked_at(bound, admit, adapts=adapts)
    except SourceError as error:
        away = bound.located(error)
        if not contract.columns:
            if source.on_removed == "ignore":  # files come and go: none at all is no fault of anyone
                away.fix = (
                    f"{away.fix}, or declare its columns (contract.columns), so that runs go on while there is none"
                )
            raise away from None
        # a pipeline can be compiled before its data is there, or while it is not readable, if it says what it needs
        snapshot, there = Snapshot(()), ()
        bound = replace(bound, away=away if contract.is_open else None)
    bound, snapshot = _shaped(bound, contract, snapshot, there, at, adapts=adapts, as_before=as_before)
    try:
        _check_names(source, bound.schema, at)
        rule = read_watermark(source, bound.schema, form, at, marker)
    except Fault as fault:
        fault.away = bound.away
        raise
    if rule is not None and rule.commit and snapshot.commit is not None:
        _refuse_silent(snapshot.commit, (*at, "watermark", "commit"))
    tags = _tags(source, snapshot.commit or _told(snapshot, options), bound.schema)
    return replace(
        bound, tags=tags, compiled=snapshot, names=there, watermark=rule, on_bad_time=time_checks(source, rule)
    )


def _reader(source: Source, form: str, contract: Contract, options: Mapping[str, Any]) -> Reader:
    masked = any("pii" in column.get("tags", ()) for column in source.columns.values())
    if form not in TEXT_FORMATS:
        return Reader(form, {}, source.read, options, masked=masked)
    return Reader(form, contract.overrides, source.read, options, masked=masked, by_row=contract.by_row)


def _adapts(contract: Contract, reader: Reader) -> bool:
    """Return whether each file is to be looked at before any is read."""
    # of columns that are not declared, files have to tell the types first
    parsed = reader.marks != POINT or any(told_otherwise(t, reader) for t in contract.types.values())
    # Polars does not look at columns of Parquet that nothing reads; all other formats are checked as they are read
    return contract.adapts or parsed or (reader.format == "parquet" and contract.said)


def _looked_at(
    bound: BoundSource, admit: Callable[[BoundSource, Snapshot], Snapshot], *, adapts: bool
) -> tuple[Snapshot, Sequence[str]]:
    """Return what there is of a source, as far as it must be looked into, with files that are told by their names alone."""
    there, first = ((), None) if adapts else _by_name(bound)
    listed = bound.listed(partial(admit, bound)) if first is None else Snapshot((first,))
    if not listed.files and listed.waiting and not bound.declares:
        listed = bound.listed()
    return bound.look(listed, first=not adapts), there


def _shaped(
    bound: BoundSource,
    contract: Contract,
    snapshot: Snapshot,
    there: Sequence[str],
    at: Path,
    *,
    adapts: bool,
    as_before: bool,
) -> tuple[BoundSource, Snapshot]:
    """Return a source with its columns, from its contract, its files and the names of their folders, and the files that have these."""
    keys = pl.Schema()
    if snapshot.logged is None:
        keys = hive.types(there.each_folder if isinstance(there, Named) else [f.uri for f in snapshot.files])
    inside, keys = contract.for_folders(keys, (*at, "contract"))
    columns = bound.columns(snapshot)
    if as_before and (before := bound.before(columns)) is not columns:
        bound = replace(bound, changed=bound.located(_changed(columns, before)))
        columns = tuple(before)
        snapshot = Snapshot(())  # of which nothing fits
    if snapshot.commit is None and (own := _own(columns)):
        fix = BY_LOG if snapshot.logged is None else _BY_OWN_LOG
        raise Fault(f"the files have a column {own!r}, which is reserved for lazypipe", fix, (*at, "uri"))
    try:
        if bound.reader.format == "csv":
            _check_headers(columns, bound.reader, {*contract.columns, *contract.aliases}, (*at, "uri"))
        shape = resolve(inside, columns, text=bound.is_text, at=(*at, "contract"))
    except SourceError as error:
        raise bound.located(error) from None
    schema = pl.Schema({**{t.name: t.dtype for t in shape.targets}, **keys})
    guessed = frozenset(n for t in shape.targets if t.guessed for n in (t.name, *t.alias))
    bound = replace(bound, schema=schema, shape=shape if adapts else None, guessed=guessed)
    if bound.shape is not None and snapshot.files:
        snapshot = bound.looked_at(snapshot)  # so that a file which breaks the contract is told now
    return bound, snapshot


def _changed(now: Sequence[tuple[FileInfo, pl.Schema]], before: Sequence[tuple[FileInfo, pl.Schema]]) -> SourceError:
    """Return what to say of the first file that has other columns than files had before."""
    kept, had = [dict(s) for _, s in before], before[0][1]
    file, has = next((f, s) for f, s in now if dict(s) not in kept)
    name = next(n for n in (*had, *has) if had.get(n) != has.get(n))
    is_now, was = (f"is {dtype_name(s[name])}" if name in s else "is missing" for s in (has, had))
    what = f"column {name!r} {is_now} in this file, and {was.replace('is', 'was', 1)} in files that were read before, with which the definition is right"
    return SourceError(
        what, uri=file.uri, fix="deliver it again, declare the column in contract, or change the definition"
    )


def _check_headers(
    columns: Sequence[tuple[FileInfo, pl.Schema]], reader: Reader, known: Collection[str], at: Path
) -> None:
    """Refuse CSV that was not read as it was meant: the definition, where that shows in the first file, else the file."""
    for file, names in columns[:1]:
        if (wrong := misread(names.names(), reader.csv_options, known)) is not None:
            raise Fault(f"{file.uri}: {wrong[0]}", wrong[1], at)
    for file, names in columns[1:]:
        refuse_misread(file.uri, names.names(), reader.csv_options, known)


def _refuse_silent(commit: Commit, at: Path) -> None:
    """Refuse a dataset that is to say how far event time is, and does not."""
    if COMPLETE not in commit.info:
        what = "the last commit of the dataset does not say up to which event time it is complete"
        names = "name a column: watermark: {column: …}"
        raise Fault(what, f"run the pipeline that writes it, with watermarks at its sources, or {names}", at)


def _refuse_of_others(source: Source, form: str, patterns: Sequence[str], at: Path) -> None:
    """Refuse what is said of a source and holds for other formats only."""
    if form != "csv" and source.read:
        fix = "remove read"
        if source.format is None and all(format_of(p) is None for p in patterns):
            fix = "add format: csv, since the source's name does not tell, or remove read"
        raise Fault(f"read is for CSV, and this is {form}", fix, (*at, "read"))
    _refuse_long_marks(source.read, (*at, "read"))
    if source.read.get("thousands") == ("," if source.read.get("decimal_comma") else "."):
        what, fix = (
            "the mark for thousands is that for fractions, too",
            "write another mark, or say decimal_comma: true",
        )
        raise Fault(what, fix, (*at, "read", "thousands"))
    if form == "delta" and len(patterns) > 1:
        raise Fault("a Delta table is one folder", "make a source of each, and union them", (*at, "uri"))
    if source.version is not None and form != "delta":
        what = f"version is for Delta tables, and this is {form}"
        raise Fault(what, "add format: delta, or remove version", (*at, "version"))


def _refuse_long_marks(read: Mapping[str, Any], at: Path) -> None:
    """Refuse a separator, or a quote, that is none: Polars knows them as one byte each."""
    marks = {name: read.get(name, default) for name, default in (("separator", ","), ("quote", '"'))}
    for name, mark in marks.items():
        if mark and (len(mark.encode()) > 1 or mark in "\r\n"):
            tab = name == "separator" and mark.lower() in (r"\t", "tab")
            fix = r'write "\t", in double quotes' if tab else "write one ASCII character that is no line break"
            raise Fault(f"{name} is {mark!r}, and must be one character", fix, (*at, name))
    if marks["separator"] == marks["quote"]:
        name = "quote" if "quote" in read else "separator"
        what = f"the separator and the quote character are both {marks['quote']!r}"
        raise Fault(what, "write another one, or quote: '' if nothing is quoted", (*at, name))


def _own(columns: Iterable[tuple[FileInfo, Collection[str]]]) -> str | None:
    """Return a column of files that only lazypipe gives them, if they have one."""
    found = [n for _, names in columns for n in names if n == FILE_COLUMN or is_of_files(n)]
    return FILE_COLUMN if FILE_COLUMN in found else next(iter(found), None)


def _check_names(source: Source, schema: pl.Schema, at: Path) -> None:
    """Refuse names of columns that a source does not have, and an event time that is none."""
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


def _by_name(bound: BoundSource) -> tuple[Sequence[str], FileInfo | None]:
    """Return the names of a source's files, and the first file, where that is all that compiling needs; else none.

    Names of many files cost a fraction of looking at each; the run does that.
    """
    intake = bound.intake
    if (
        bound.reader.format in ("dataset", "delta")
        or bound.on_corrupt != "fail"
        or intake.expect is not None
        or intake.settle
    ):
        return (), None
    names = named(bound.patterns, endings=FORMATS[bound.reader.format].endings)
    first = None if names is None else names.first
    return (names, first) if names is not None and first is not None else ((), None)


def _tags(source: Source, commit: Commit | None, schema: pl.Schema) -> dict[str, tuple[str, ...]]:
    """Return the tags that the definition gives to columns, with those that a dataset's commit carries."""
    carried: Mapping[str, Sequence[str]] = commit.info.get("tags", {}) if commit is not None else {}
    given = {c: tuple(about.get("tags", ())) for c, about in source.columns.items()}
    found = {c: tuple(dict.fromkeys([*given.get(c, ()), *carried.get(c, ())])) for c in schema}
    return {c: tags for c, tags in found.items() if tags}


def _told(snapshot: Snapshot, options: Mapping[str, Any]) -> Commit | None:
    """Return the commit that a Delta table tells of, if it is a dataset of lazypipe: what is known of columns stands there."""
    table = snapshot.table
    if table is None or table.tells is None:
        return None
    from lazypipe.storage.datasets.dataset import Dataset

    try:
        return Dataset(table.uri, options).log.read(table.tells)
    except StorageError:
        return None  # the table was copied, or the commit vacuumed


def expand_source(
    source: Source, base: str, env: Mapping[str, str], at: Path
) -> tuple[tuple[str, ...], dict[str, Any], str | None, uris.Redactor]:
    """Return the URIs, options and marker of a source with variables replaced, and what hides the values of those."""
    patterns: list[str] = []
    secrets: list[uris.Secret] = []
    for index, uri in enumerate(source.uri):
        written, used = expand_env(uri, env, (*at, "uri", index))
        refuse_unknown_protocol(written, (*at, "uri", index))
        patterns.append(uris.resolve(written, base))
        secrets += used
    options: dict[str, Any] = {}
    for name, value in source.storage_options.items():
        options[name], used = expand_env(value, env, (*at, "storage_options", name))
        secrets += used
    marker = source.watermark.get("marker")
    if marker is not None:
        marker, used = expand_env(marker, env, (*at, "watermark", "marker"))
        marker = uris.resolve(marker, base)
        secrets += used
    return tuple(patterns), options, marker, uris.Redactor(tuple(secrets))


def refuse_unknown_protocol(uri: str, at: Path) -> None:
    """Raise Fault for a URI of a protocol that nobody speaks."""
    if (name := uris.unknown_protocol(uri)) is not None:
        meant = closest(name.lower(), _PROTOCOLS)
        fix = "install the package that adds it to fsspec, or write one such as s3, gs, az, https or sftp"
        raise Fault(f"unknown protocol {name!r}", f"did you mean {meant!r}?" if meant else fix, at)


def expand_env(value: Any, env: Mapping[str, str], at: Path) -> tuple[Any, tuple[uris.Secret, ...]]:
    """Replace ``${NAME}`` and return it with the values used; raises Fault for a variable that is not set, and for what names no file."""
    try:
        found, used = uris.expand(value, env)
    except KeyError as error:
        name = str(error.args[0])
        raise Fault(f"environment variable {name} is not set", f"set it: export {name}=…", at) from None
    if isinstance(found, str) and "\0" in found:
        raise Fault("a file name cannot contain a zero byte", "take it out", at)
    return found, used


def _guess(patterns: tuple[str, ...], options: Mapping[str, Any], at: Path) -> str:
    formats = {format_of(p) for p in patterns}
    if None in formats and len(patterns) == 1:
        from lazypipe.storage.datasets.dataset import Dataset
        from lazypipe.storage.lake.log import DeltaLog

        if Dataset(patterns[0], options).log.last():
            return "dataset"
        if DeltaLog(patterns[0], options).last() >= 0:
            return "delta"  # its folder also holds files that are none of its rows any more
        if "." not in patterns[0].rsplit("/", 1)[-1]:
            return "parquet"  # a folder
    if len(formats) > 1:
        raise Fault("one source cannot mix formats", "make a source of each, and union them", (*at, "uri"))
    (form,) = formats
    if form is None:
        name = patterns[0].rsplit("/", 1)[-1]
        endings = ", ".join(form.endings[0] for form in FORMATS.values())
        fix = next(
            (f for e, f in _OTHERS.items() if e in name.lower()), f"add format, or use an ending such as {endings}"
        )
        raise Fault(f"the format of {name!r} is not known from its name", fix, (*at, "uri"))
    return form
