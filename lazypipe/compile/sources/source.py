"""Bound sources: which files they have, how these are read, and with which types."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from lazypipe.compile.sources.contract import cell_checks, is_broken
from lazypipe.compile.sources.intake import Intake
from lazypipe.compile.sources.watermark import beat
from lazypipe.errors import SourceError, StorageError
from lazypipe.gates import Check
from lazypipe.gates.tap import RAW_COLUMN
from lazypipe.spec.model import NOTHING
from lazypipe.spec.scope import Tally
from lazypipe.spec.types import dtype_name
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.corrupt import CorruptFile, OnCorrupt, preflight
from lazypipe.storage.datasets.units import UNIT, Units, as_uri, untagged
from lazypipe.storage.files import FileInfo, expand, files_at
from lazypipe.storage.formats import FORMATS, TEXT_FORMATS
from lazypipe.storage.parallel import in_parallel
from lazypipe.storage.scan import FILE_COLUMN, Reader, is_damage
from lazypipe.storage.shape import Fit, Shape, fit, fitted, reader_of
from lazypipe.storage.text import moments, wholes
from lazypipe.storage.text.by_row import TEXT
from lazypipe.storage.text.fields import refuse_unknown_fields
from lazypipe.storage.text.lines import bad_line, refuse_short_rows
from lazypipe.windows.watermark import Arrival, Watermark

if TYPE_CHECKING:
    from lazypipe.storage.datasets.log import Commit
    from lazypipe.storage.lake.table import LakeTable

__all__ = ["BoundSource", "Recalled", "Snapshot"]

Watch = Callable[[pl.LazyFrame, str | None], pl.LazyFrame]
"""Put over all columns of text files; told the last one inside, unless rows that lack it are told apart already."""


@dataclass(frozen=True)
class Snapshot:
    """What a source holds at one moment: its files, a dataset's commit, or a Delta table. ``corrupt`` are files that are left out.

    ``waiting`` are files that are there and are left for a later run, because they are not whole; ``awaited`` says in words
    what is waited for. ``arrivals`` say of each file what the source had reached before it, where it has a watermark. ``beyond`` are the
    units of a dataset that a run over part of event time does not read.
    """

    files: Sequence[FileInfo]
    commit: Commit | None = None
    corrupt: tuple[CorruptFile, ...] = ()
    waiting: tuple[FileInfo, ...] = ()
    awaited: str = ""
    arrivals: Mapping[str, Arrival] = field(default=NOTHING, repr=False, compare=False)
    beyond: frozenset[int] = field(default=frozenset(), repr=False, compare=False)
    table: LakeTable | None = field(default=None, compare=False)

    @property
    def version(self) -> int | None:
        """Which version it is of a dataset or a Delta table, None of files."""
        return self.commit.version if self.commit is not None else None if self.table is None else self.table.version

    @property
    def logged(self) -> pl.Schema | None:
        """The columns that a log says all files have, None where each file is asked."""
        return self.commit.schema if self.commit is not None else None if self.table is None else self.table.schema

    def chosen(self, units: Units | None) -> tuple[FileInfo, ...]:
        """Return the files, or parts of files, that hold some units: of a dataset whose rows know theirs, its data files."""
        if units is None:
            return tuple(self.files)
        if self.commit is not None and self.commit.tagged:
            pairs = zip(self.files, self.commit.files, strict=True)
            return tuple(f for f, data in pairs if not units.wanted.isdisjoint(data.units))
        return units.select(self.files)

    def without(self, corrupt: Sequence[CorruptFile], uris: Collection[str]) -> Snapshot:
        """Return the snapshot without the corrupt files at ``uris``."""
        files = tuple(f for f in self.files if f.uri not in uris)
        return replace(self, files=files, corrupt=(*self.corrupt, *corrupt))


@dataclass(frozen=True)
class Recalled:
    """Which columns files had that were looked into before, by what a commit calls them, size and stamp; ``listed`` is from when on they are looked into now.

    In nanoseconds since 1970: what was written about then may have been written once more, with the same stamp.
    """

    columns: Mapping[tuple[str, int | None, str | None], pl.Schema] = field(default_factory=dict)
    listed: int = 0


class Retyped(NamedTuple):
    """Columns of a source that are others in a file than in those that were read before: name → the type that it had, and has; None if it had, or has, none.

    Examples
    --------
    >>> print(Retyped("t", "d/a.csv", {"v": (pl.Int64(), pl.String()), "z": (None, pl.Int64()), "k": (pl.Int64(), None)}))
    t: in d/a.csv, v is String and was Int64; z is new; k is gone
    """

    source: str
    uri: str
    types: Mapping[str, tuple[pl.DataType | None, pl.DataType | None]]

    def __str__(self) -> str:
        """Say it in one line; of many columns the first few."""
        each = [
            f"{name} is gone"
            if now is None
            else f"{name} is new"
            if was is None
            else f"{name} is {dtype_name(now)} and was {dtype_name(was)}"
            for name, (was, now) in self.types.items()
        ]
        more = [f"{len(each) - _SHOWN} more"] if len(each) > _SHOWN else []
        return f"{self.source}: in {self.uri}, {'; '.join([*each[:_SHOWN], *more])}"


_SHOWN = 5


@dataclass(frozen=True)
class BoundSource:
    """A source that can be listed and scanned. ``schema`` is what its files hold, ``seen`` what its stages see.

    With a ``shape``, files may differ from each other: each is looked at (its footer, or its header) when the source is
    listed, and read as if it had that shape. Without one, they are all as the first. ``compiled`` is what it held when it was
    compiled, or by ``names`` what stood there then, where no more was needed; a run lists it again. ``guessed`` are the columns of text, by
    any of their names, of which only what stands in them says that they are floats. ``recalled`` is what is known from before of the columns inside files,
    ``looked`` what is known by now. ``away`` is why none of its files could be looked at, where they may have more columns than it declares; ``changed``
    which file has other columns than files had before, where ``schema`` is that of before.
    """

    name: str
    patterns: tuple[str, ...] = field(repr=False)
    reader: Reader = field(repr=False)
    redact: uris.Redactor = field(repr=False)
    schema: pl.Schema = field(default_factory=pl.Schema)
    shape: Shape | None = None
    on_corrupt: OnCorrupt = "fail"
    intake: Intake = Intake()
    declares: bool = False
    away: SourceError | None = field(default=None, repr=False, compare=False)
    changed: SourceError | None = field(default=None, repr=False, compare=False)
    guessed: frozenset[str] = frozenset()
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    watermark: Watermark | None = None
    on_bad_time: tuple[Check, ...] = ()
    version: int | None = None
    compiled: Snapshot = field(default=Snapshot(()), repr=False, compare=False)
    names: Sequence[str] = field(default=(), repr=False, compare=False)
    recalled: Recalled = field(default=Recalled(), repr=False, compare=False)
    looked: dict[FileInfo, pl.Schema] = field(default_factory=dict, repr=False, compare=False)
    _broken_rows: set[FileInfo] = field(default_factory=set, repr=False, compare=False)

    @property
    def raw(self) -> pl.Schema:
        """The fields of ``_lazypipe_raw``, which each row carries then; none if no cell is ever taken out."""
        return pl.Schema() if self.shape is None else self.shape.raw(self.reader.format)

    @property
    def seen(self) -> pl.Schema:
        """The columns of its rows: those of its files, and the watermark that each row came under."""
        if self.watermark is None or not self.watermark.tells_rows:
            return self.schema
        return pl.Schema({**self.schema, self.watermark.name: self.schema[self.watermark.time]})

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks made from the contract and ``on_bad_time``; they precede those of the gate."""
        cells = () if self.shape is None else cell_checks(self.shape, self.reader.format)
        times = self.on_bad_time
        if TEXT in self.raw:
            times = tuple(replace(c, violated=c.violated & ~is_broken()) for c in times if c.violated is not None)
        return (*cells, *times)

    def snapshot(self) -> Snapshot:
        """List the source as it is now; raises SourceError if there is nothing to read, or a file breaks the contract.

        Where corrupt files are not to stop a run, those are set aside that can be told without reading them.
        """
        return self.looked_at(self.listing())

    def when_compiled(self) -> Snapshot:
        """Return what the source held when it was compiled, each file as it is now where only names were noted."""
        return Snapshot(tuple(files_at(self.names))) if self.names else self.compiled

    def listing(
        self, admit: Callable[[Snapshot], Snapshot] = lambda found: found, *, patient: bool = False
    ) -> Snapshot:
        """List the source as it is now, and look into no file; raises SourceError if there is nothing to read.

        ``admit`` takes out files that are not whole, before any of them can be taken for corrupt. With ``patient`` there may be no
        file at all.
        """
        try:
            return self.listed(admit, patient=patient)
        except SourceError as error:
            raise self.located(error) from None  # the first one may hold a secret

    def looked_at(self, found: Snapshot) -> Snapshot:
        """Compare files with the contract, where it lets them differ; raises SourceError if one breaks it."""
        if self.shape is None or found.logged is not None:
            return found
        try:
            found = self.look(found)
            for file in found.files:
                self._fit(file)
        except SourceError as error:
            raise self.located(error) from None
        return found

    def listed(self, admit: Callable[[Snapshot], Snapshot] = lambda found: found, *, patient: bool = False) -> Snapshot:
        """List the files, without those whose last bytes show that they are corrupt."""
        if self.reader.format == "dataset":
            from lazypipe.storage.datasets.dataset import Dataset

            dataset = Dataset(self.patterns[0], self.reader.storage_options)
            commit = dataset.latest()
            if commit is None:
                raise SourceError(
                    "there is no dataset here", uri=self.patterns[0], fix="run the pipeline that writes it"
                )
            return Snapshot(dataset.files(commit), commit)
        if self.reader.format == "delta":
            from lazypipe.storage.lake.table import read_table

            try:
                table = read_table(self.patterns[0], self.reader.storage_options, self.version)
            except StorageError as error:
                raise SourceError(error.what, uri=error.uri, fix=error.fix) from error
            return Snapshot(table.files, table=table)
        endings = FORMATS[self.reader.format].endings
        files = expand(self.patterns, self.reader.storage_options, endings=endings, patient=patient)
        if self.intake.expect is not None:
            files = tuple(f for f in files if not self.intake.expect.is_beside(f.uri))
            if not files and not patient:
                what = "there are markers and manifests only, and no data file"
                raise SourceError(what, uri=self.patterns[0], fix="deliver the data, or check marker and manifest")
        found = admit(Snapshot(files))
        return found if self.on_corrupt == "fail" else self.set_aside(found, preflight(found.files, self.reader))

    def look(self, snapshot: Snapshot, *, first: bool = False) -> Snapshot:
        """Find out which columns files have, of all files or of the ``first``; corrupt ones are left out if the source allows that."""
        if snapshot.logged is not None:
            return snapshot
        left = snapshot.files
        while left:
            ahead = left[:1] if first else left
            self._recall(ahead)
            found = in_parallel(self._columns, [f for f in ahead if _whole(f) not in self.looked or f.stamp is None])
            why = {f.uri: e.what for f, e in found if isinstance(e, SourceError)}
            errors = [e for _, e in found if isinstance(e, SourceError)]
            fatal = next((e for e in errors if self.on_corrupt == "fail" or not is_damage(e)), None)
            if fatal is not None:
                raise fatal
            self.looked.update((_whole(f), s) for f, s in found if isinstance(s, pl.Schema))
            snapshot = self.set_aside(snapshot, why)
            left = snapshot.files if first and why else ()
        return snapshot

    def _recall(self, files: Sequence[FileInfo]) -> None:
        """Take the columns of files that are as they were from what is known from before."""
        known = self.recalled.columns
        for file in files if known else ():
            if (found := known.get((self.redact(file.uri), file.size, file.stamp))) is not None:
                self.looked.setdefault(_whole(file), found)

    def _columns(self, file: FileInfo) -> pl.Schema | SourceError:
        try:
            found = self.reader.infer([file])
        except SourceError as error:
            if self.reader.format != "ndjson" or not is_damage(error):
                return error
            line = bad_line(file, self.reader, pl.Schema(self.reader.declared or {"a": pl.String()}))
            what = error.what if line is None else f"{error.what} (line {line})"
            return SourceError(what, uri=error.uri, fix=error.fix)
        keys = hive.values(file.uri)
        return pl.Schema({n: t for n, t in found.items() if n not in keys})

    def columns(self, snapshot: Snapshot) -> tuple[tuple[FileInfo, pl.Schema], ...]:
        """Return the files that have been looked at, each with its columns; for a table, those in its log."""
        if snapshot.logged is not None:
            return ((FileInfo(self.patterns[0], None), untagged(snapshot.logged)),)
        return tuple((f, self.looked[_whole(f)]) for f in snapshot.files if _whole(f) in self.looked)

    def before(self, now: Sequence[tuple[FileInfo, pl.Schema]]) -> Sequence[tuple[FileInfo, pl.Schema]]:
        """Return files with columns that were found in such before: those of ``now``, where none has others."""
        there = {(self.redact(f.uri), f.size, f.stamp) for f, _ in now}
        known = self.recalled.columns
        # one that was replaced may be known as it is now, from an output that needs nothing of what has changed
        told = [dict(s) for key, s in known.items() if key not in there] or [dict(s) for s in known.values()]
        same = tuple((f, s) for f, s in now if dict(s) in told)
        if not told or len(same) == len(now):
            return now
        return same or ((now[0][0], pl.Schema(told[0])),)

    def retyped(self) -> Retyped | None:
        """Return which columns are others than in files that were read before, as the first file shows that has others; None if none are."""
        now = self.columns(self.compiled) if self.compiled.logged is None else ()
        before = self.before(now)
        if before is now:
            return None
        kept, had = [dict(s) for _, s in before], before[0][1]
        file, has = next((f, s) for f, s in now if dict(s) not in kept)
        # what a contract declares is read as that, whatever the file tells
        names = [n for n in dict.fromkeys([*had, *has]) if had.get(n) != has.get(n) == self.schema.get(n)]
        return (
            Retyped(self.name, self.redact(file.uri), {n: (had.get(n), has.get(n)) for n in names}) if names else None
        )

    def set_aside(self, snapshot: Snapshot, why: Mapping[str, str]) -> Snapshot:
        """Return the snapshot without the files at the URIs in ``why``.

        Raises
        ------
        SourceError
            If none is left, and no contract says which columns there would be.
        """
        bad = [f for f in snapshot.files if f.uri in why]
        noted = [
            CorruptFile(self.name, self.redact(f.uri), f.size, f.stamp, self.redact(why[f.uri]), self.on_corrupt)
            for f in bad
        ]
        left = snapshot.without(noted, why)
        if left.corrupt and not left.files and not self.declares:
            first = left.corrupt[0]
            raise SourceError(
                f"source {self.name!r}: no file is left, all {len(left.corrupt)} are corrupt; the first: {first.why}",
                uri=first.uri,
                fix="deliver one that can be read, or declare the columns in contract",
            )
        return left

    def check(self, snapshot: Snapshot) -> None:
        """Refuse what Polars would pass over in silence, or not name; raises SourceError."""
        if snapshot.table is not None:
            self._check_table(snapshot.table)
            return
        try:
            # what stands inside files has been compared with the shape already
            inside = self.schema if self.shape is None else self.reader.keys(snapshot.files, self.schema)
            own = snapshot.commit is None
            self.reader.check(snapshot.files, pl.Schema(inside), inside=self.shape is None, folders=own)
        except SourceError as error:
            raise self.located(error) from error

    def _check_table(self, table: LakeTable) -> None:
        """Refuse a table whose columns are others than when the pipeline was compiled; files are as its log says."""
        for name, dtype in self.schema.items() if self.shape is None else ():
            if (found := table.schema.get(name)) != dtype:
                now = f"is {dtype_name(found)}" if found is not None else "is gone"
                what = f"column {name!r} of the Delta table {now}, and was {dtype_name(dtype)} when the pipeline was compiled"
                raise self.located(SourceError(what, uri=table.uri, fix="compile the pipeline again"))

    def scan(
        self,
        snapshot: Snapshot,
        *,
        file_column: bool = False,
        watch: Watch | None = None,
        how: moments.How = "reader",
        units: Units | None = None,
        tally: Tally | None = None,
    ) -> pl.LazyFrame:
        """Return the lazy scan of a snapshot, in the shape of ``seen`` (with ``_lazypipe_raw``, and ``_lazypipe_file`` if asked).

        ``watch`` is put over all columns of the files, before any is cast or left out; it is told the last one inside. ``how`` says who parses
        moments of CSV: where it is not Polars' reader, the rows raise ``Unusual`` where that must do it after all. With ``units``, only those are read, and each row carries its own. Rows that only tell the time are left out, and counted by
        ``tally``.
        """
        extra = [*([UNIT] if units is not None else []), *([FILE_COLUMN] if file_column else [])]
        names = [*self.seen, *([RAW_COLUMN] if self.raw else []), *extra]
        rule = self.watermark if self.watermark is not None and self.watermark.tells_rows else None
        if snapshot.commit is not None:
            frame = self._scan_dataset(snapshot.commit, snapshot.beyond, extra, units)
            return (frame if rule is None else frame.with_columns(rule.stated(self.schema))).select(names)
        # heartbeats are for watermarks that advance file by file
        counted = rule is not None and rule.by_files
        if units is None and not counted:
            frame = self._scan_files(snapshot, extra, watch, how=how)
            return frame if rule is None else frame.with_columns(rule.stated(self.schema)).select(names)
        if units is not None:
            snapshot = replace(snapshot, files=tuple(f for f in snapshot.files if f.key in units.files))
        frame = self._scan_files(snapshot, [FILE_COLUMN], watch, how=how)
        if rule is not None:
            arrivals = {f.key: snapshot.arrivals[f.uri] for f in snapshot.files if f.uri in snapshot.arrivals}
            files = [f.key for f in snapshot.files]
            under = rule.counted(self.schema, arrivals, files, FILE_COLUMN) if counted else rule.stated(self.schema)
            frame = self._without_beats(frame.with_columns(under), rule, tally)
        frame = frame if units is None else units.number(frame)
        if file_column and any(f.key != f.uri for f in snapshot.files):
            frame = frame.with_columns(as_uri(pl.col(FILE_COLUMN)))
        return frame.select(names)

    def _scan_dataset(
        self, commit: Commit, beyond: frozenset[int], extra: Sequence[str], units: Units | None
    ) -> pl.LazyFrame:
        from lazypipe.storage.datasets.dataset import Dataset

        uri = self.patterns[0]
        dataset = Dataset(uri, self.reader.storage_options)
        if units is None:
            frame = dataset.scan(commit, only=commit.units - beyond if beyond else None)
        else:
            frame = dataset.scan_units(commit, units)
        frame = frame.with_columns(pl.lit(uri).alias(FILE_COLUMN)) if FILE_COLUMN in extra else frame
        if self.shape is None:
            return frame
        one = fit(FileInfo(uri, None), commit.schema, self.shape, self.reader)
        return fitted(frame, one, self.shape, self.reader, extra)

    def _without_beats(self, frame: pl.LazyFrame, rule: Watermark, tally: Tally | None) -> pl.LazyFrame:
        """Leave out rows that only tell the time, counted."""
        if rule.heartbeat is None:
            return frame
        beats = beat(rule.heartbeat, self.schema)
        frame = frame if tally is None else tally(frame, {f"{self.name}: heartbeats": beats})
        return frame.filter(~beats)

    def extents(self, snapshot: Snapshot, bounds: Mapping[str, int | None], watch: Watch | None) -> pl.LazyFrame:
        """Return the earliest and latest event times in files, by partition; reads no other columns of formats that know theirs."""
        rule = self.watermark
        assert rule is not None
        some = replace(snapshot, files=tuple(f for f in snapshot.files if f.key in bounds))
        return rule.extents(self._scan_files(some, [FILE_COLUMN], watch), self.schema, bounds, FILE_COLUMN)

    def _scan_files(
        self,
        snapshot: Snapshot,
        extra: Sequence[str],
        watch: Watch | None,
        *,
        how: moments.How = "reader",
    ) -> pl.LazyFrame:
        file_column = bool(extra)
        names = [*self.schema, *([RAW_COLUMN] if self.raw else []), *extra]
        if snapshot.table is not None:
            table, options = snapshot.table, self.reader.storage_options
            frame = table.scan(snapshot.files, options, file_column=file_column, looked=self.looked)
            if self.shape is not None:
                one = fit(FileInfo(table.uri, None), table.schema, self.shape, self.reader)
                frame = fitted(frame, one, self.shape, self.reader, extra)
            return frame.select(names)
        parts = []
        for fits, files, schema in self.groups(snapshot):
            keys = self.reader.keys(files, self.schema)
            apart = moments.columns(self.reader, schema) if how == "each" else ()
            apart = moments.usual(self.reader, files[0], schema) if how == "usual" else apart
            reader, read = reader_of(self.reader, files[0].uri, fits), moments.as_text(schema, apart)
            frame = reader.scan(files, read, file_column=file_column)
            frame = moments.parsed(frame, schema, apart, self.name, how) if apart else frame
            if watch is not None:
                # where broken rows are found one by one, those that lack fields are known
                last = [n for n in schema if n not in keys][-1]
                frame = watch(frame, None if fits is not None and fits.is_by_row else last)
            if fits is not None and self.shape is not None:
                frame = fitted(frame, fits, self.shape, self.reader, [*keys, *extra])
            parts.append(frame.select(names))
        if not parts:
            raw = {RAW_COLUMN: pl.Struct(self.raw)} if self.raw else {}
            return pl.LazyFrame(schema={**self.schema, **raw, **dict.fromkeys(extra, pl.String)})
        return parts[0] if len(parts) == 1 else pl.concat(parts)

    def _fit(self, file: FileInfo) -> Fit | None:
        """Return how a file is read that has been looked at, None if as all others."""
        if self.shape is None:
            return None
        how = fit(file, self.looked[_whole(file)], self.shape, self.reader)
        return how.by_row() if self.is_read_by_row(file) else how

    def is_read_by_row(self, file: FileInfo) -> bool:
        """Whether a file is known to have rows that cannot be read."""
        return _whole(file) in self._broken_rows

    def have_read_by_row(self, file: FileInfo) -> None:
        """Read a file row by row from now on."""
        self._broken_rows.add(_whole(file))

    def groups(self, snapshot: Snapshot) -> list[tuple[Fit | None, tuple[FileInfo, ...], pl.Schema]]:
        """Return the files that are read in the same way, how, and the columns that their scan has."""
        found: dict[Fit | None, list[FileInfo]] = {}
        for file in snapshot.files:
            found.setdefault(self._fit(file), []).append(file)
        return [
            (how, tuple(files), self.schema if how is None else self._with_keys(how.schema, files[0]))
            for how, files in found.items()
        ]

    def in_order(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with its files in the order in which their rows come in a scan."""
        if snapshot.commit is not None:
            return snapshot
        if snapshot.table is not None:
            return replace(snapshot, files=snapshot.table.in_order(snapshot.files))
        return replace(snapshot, files=tuple(f for _, files, _ in self.groups(snapshot) for f in files))

    def _with_keys(self, inside: pl.Schema, file: FileInfo) -> pl.Schema:
        return pl.Schema({**inside, **self.reader.keys([file], self.schema)})

    def own(self, file: FileInfo) -> pl.Schema:
        """Return the columns by which a file is checked for corruption: its own, or those its text is read with."""
        how = self._fit(file)
        if how is None:
            return self.schema
        return self._with_keys(how.schema if self.is_text else self.looked[_whole(file)], file)

    def refuse_short_rows(self, snapshot: Snapshot, *, nulls: bool) -> None:
        """Raise SourceError for the first row of a CSV with fewer fields than columns; see ``storage.text``."""
        for files, inside in self._inside(snapshot):
            if TEXT not in inside:
                refuse_short_rows(files, self.reader, inside, nulls=nulls, header=self._header)

    def _header(self, file: FileInfo, schema: pl.Schema) -> list[str]:
        """Return the columns of a CSV file in its own order: of one that was looked into they are known, but for those that its folders tell."""
        known = self.looked.get(_whole(file))
        if known is None or not self.reader.read.get("header", True) or hive.values(file.uri):
            return self.reader.header(file, schema)
        return known.names()

    def refuse_unknown_fields(self, snapshot: Snapshot) -> None:
        """Raise SourceError for the first line of NDJSON with a field that no column takes, unless such are to be left out."""
        if self.shape is not None and self.shape.on_new_column == "discard_column":
            return
        for files, inside in self._inside(snapshot):
            refuse_unknown_fields(files, self.reader, inside)

    def refuse_changed_wholes(self, snapshot: Snapshot, names: Collection[str]) -> None:
        """Raise SourceError for the first whole number in some columns that would be another as the float that was guessed."""
        for files, inside in self._inside(snapshot):
            wholes.refuse_changed(files, self.reader, inside, [n for n in names if n in inside])

    def _inside(self, snapshot: Snapshot) -> Iterator[tuple[tuple[FileInfo, ...], pl.Schema]]:
        """Yield the files that are read in the same way, with the columns inside them."""
        for _, files, schema in self.groups(snapshot):
            keys = self.reader.keys(files, schema)
            yield files, pl.Schema({n: t for n, t in schema.items() if n not in keys})

    def inside(self, file: FileInfo) -> pl.Schema:
        """Return the columns inside a file of text, with the types that they are read with."""
        schema = self.own(file)
        keys = self.reader.keys([file], schema)
        return pl.Schema({n: t for n, t in schema.items() if n not in keys})

    def located(self, error: SourceError) -> SourceError:
        """Return the error with the source's name in it, and no secret."""
        uri = None if error.uri is None else self.redact(error.uri)
        what = self.redact(error.what)
        prefix = f"source {self.name!r}: "
        fix = None if error.fix is None else self.redact(error.fix)
        return SourceError(what if what.startswith(prefix) else prefix + what, uri=uri, fix=fix)

    @property
    def is_text(self) -> bool:
        """Whether reading it means parsing text, which costs far more than reading columns."""
        return self.reader.format in TEXT_FORMATS


def _whole(file: FileInfo) -> FileInfo:
    """Return the file that a part is of: both have the same columns."""
    return file if file.end is None else file._replace(start=0, end=None)
