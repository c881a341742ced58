"""Which files of a source cannot be read, and why: found by reading them after a failure, or before a query that must not meet them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from lazypipe.compile.sources.source import BoundSource, Snapshot, Watch
from lazypipe.errors import SourceError
from lazypipe.spec import taps
from lazypipe.spec.types import dtype_name
from lazypipe.storage import corrupt
from lazypipe.storage.files import FileInfo
from lazypipe.storage.reasons import AGAIN, MASKED, says_thousands
from lazypipe.storage.scan import cannot_read, is_engine_error
from lazypipe.storage.shape import misfits, reader_of, too_long
from lazypipe.storage.text import moments
from lazypipe.storage.text.lines import line_where

if TYPE_CHECKING:
    from lazypipe.storage.lake.table import LakeTable

__all__ = ["answer", "culprit", "damaged", "read_by_row", "reads", "rows_in", "sift"]

_FEW = 16
"""Files that are read one by one to find the one that cannot be read; of more, halves are read first."""


def answer(source: BoundSource, snapshot: Snapshot, ask: Callable[[Watch | None], pl.LazyFrame]) -> pl.DataFrame:
    """Ask something of the rows of files alone; where broken rows are set aside, it is not asked of them.

    ``ask`` is told what is to be put over all columns of files: of a row with fields too many a part could be read without a word.
    """
    if not source.reader.by_row:
        return ask(None).collect(engine="streaming")
    nulls: list[int] = []

    def watch(frame: pl.LazyFrame, last: str | None) -> pl.LazyFrame:
        def note(batch: pl.DataFrame) -> pl.DataFrame:
            if last is not None and not nulls and batch[last].null_count():
                nulls.append(1)
            return batch

        return taps.tap(frame, note)

    def asked() -> pl.DataFrame:
        found = ask(watch).collect(engine="streaming")
        if source.reader.format == "csv":
            source.refuse_short_rows(snapshot, nulls=bool(nulls))
        return found

    try:
        return asked()
    except BaseException as error:
        if not cannot_read(error) or not read_by_row(source, snapshot):
            raise
    return asked()


def sift(source: BoundSource, snapshot: Snapshot) -> None:
    """Find the files with rows that cannot be read, ahead of a query that must not meet them."""
    if source.reader.by_row and not reads(source, snapshot):
        read_by_row(source, snapshot)


def read_by_row(source: BoundSource, snapshot: Snapshot) -> bool:
    """After a failure: find the files that can be read but for some rows, which are read row by row from now on; return whether any was found."""
    if not source.reader.by_row or source.shape is None:
        return False
    found = False
    # what has not been looked into, or was read by row, has another fault
    looked = [f for f, _ in source.columns(snapshot) if not source.is_read_by_row(f)]
    for file in _suspects(source, replace(snapshot, files=looked)):
        if _broken(source, file) is not None:
            continue
        if source.reader.has_broken_rows(file, source.inside(file)):
            source.have_read_by_row(file)
            found = True
    return found


def damaged(source: BoundSource, snapshot: Snapshot) -> dict[str, str]:
    """Return URI → why for files that are corrupt, each of those read for itself that cannot be read with others. Exact, for after a failure."""
    if snapshot.logged is not None:
        return {}
    suspects = _suspects(source, snapshot)
    return {f.uri: why for file in suspects for f, why in corrupt.damaged([file], source.reader, _judged(source, file))}


def _judged(source: BoundSource, file: FileInfo) -> pl.Schema:
    """Return the columns by which it is told whether a file is sound; moments that can be told each for itself are text in it."""
    own = source.own(file)
    apart = moments.columns(source.reader, own)
    if not apart:
        return own
    text = source.reader.scan([file], moments.as_text(own, list(own)))
    try:
        parsed = moments.parsed(text, own, apart, source.name, "each")
        parsed.select(pl.col(apart).null_count()).collect(engine="streaming")
    except BaseException as error:
        if not (cannot_read(error) or isinstance(error, moments.Unusual)):
            raise
        return own
    return moments.as_text(own, apart)


def _suspects(source: BoundSource, snapshot: Snapshot) -> Iterator[FileInfo]:
    """Yield a few files for each that cannot be read: one by one, tens of thousands would take minutes."""
    if len(snapshot.files) <= _FEW:
        yield from snapshot.files
        return
    middle = len(snapshot.files) // 2
    for files in (snapshot.files[:middle], snapshot.files[middle:]):
        half = replace(snapshot, files=files)
        if not reads(source, half):
            yield from _suspects(source, half)


def rows_in(source: BoundSource, file: FileInfo, table: LakeTable | None = None) -> int:
    """Count the rows of one file, perhaps one of a ``table``. A file that cannot be read counts as 0: whoever reads its rows reports it."""
    if table is not None and file.uri in table.rows:
        return table.rows[file.uri]
    try:
        one = source.looked_at(Snapshot((file,), table=table))
        return int(source.scan(one).select(pl.len()).collect(engine="streaming").item())
    except BaseException as error:
        if not cannot_read(error):
            raise
        return rows_in(source, file) if read_by_row(source, Snapshot((file,))) else 0


def culprit(source: BoundSource, snapshot: Snapshot) -> SourceError | None:
    """Return the error that names the first file which cannot be read as the contract says, None if all can."""
    snapshot = _narrowed(source, snapshot)
    if snapshot.table is not None:
        parts = [replace(snapshot, files=(file,)) for file in snapshot.files]
    elif snapshot.commit is None:
        for file in snapshot.files:
            found = _broken(source, file) or source.reader.culprit([file], _judged(source, file))
            if found is not None:
                return source.located(found)
        parts = [Snapshot((file,)) for file in snapshot.files]
    else:
        commit = snapshot.commit
        parts = [Snapshot((i,), replace(commit, files=(f,))) for i, f in zip(snapshot.files, commit.files, strict=True)]
    for part in parts:
        try:
            _read_all(source, part)
        except BaseException as error:
            if not is_engine_error(error):
                raise
            return source.located(_misfit(source, part) or _unread(source, part, error))
    return None


def _narrowed(source: BoundSource, snapshot: Snapshot) -> Snapshot:
    """Return a few of the files, the first that cannot be read among them: each for itself, tens of thousands would take minutes."""
    while len(snapshot.files) > _FEW and snapshot.logged is None:
        half = replace(snapshot, files=snapshot.files[: len(snapshot.files) // 2])
        rest = replace(snapshot, files=snapshot.files[len(half.files) :])
        snapshot = rest if reads(source, half) else half
    return snapshot


def reads(source: BoundSource, part: Snapshot) -> bool:
    """Whether a run could read all rows of all columns."""
    try:
        source.check(part)
        _read_all(source, part)
        if source.reader.format == "csv":
            source.refuse_short_rows(part, nulls=True)
    except BaseException as error:
        if not cannot_read(error):
            raise
        return False
    return True


def _read_all(source: BoundSource, part: Snapshot) -> None:
    """Read all rows; raises what a run would stop with."""
    try:
        source.scan(part, how="each").select(pl.all().null_count()).collect(engine="streaming")
    except moments.Unusual:
        source.scan(part).select(pl.all().null_count()).collect(engine="streaming")


def _broken(source: BoundSource, file: FileInfo) -> SourceError | None:
    """Say what the ends of a file show."""
    try:
        why = corrupt.preflight([file], source.reader).get(file.uri)
    except SourceError as error:  # it cannot be fetched
        return error
    if why is None:
        return None
    other = source.reader.foreign(source.reader.opening(file))
    return SourceError(why, uri=file.uri, fix=AGAIN if other is None or other[0] != why else other[1])


def _unread(source: BoundSource, part: Snapshot, error: BaseException) -> SourceError:
    fix = "fix the file, or change the contract"
    if part.logged is not None:
        fix = "restore it from a backup, or run the pipeline that writes it in full, which rebuilds the dataset"
    if part.table is not None:
        fix = "read a later version if VACUUM has deleted it, or restore it from a backup"
    return SourceError(source.reader.told(error), uri=part.files[0].uri, fix=fix)


def _misfit(source: BoundSource, part: Snapshot) -> SourceError | None:
    """Describe the cells of a file that do not fit their column's type, if that is what is wrong with it."""
    if source.shape is None or part.logged is not None:
        return None
    ((how, files, schema),) = source.groups(part)
    assert how is not None
    frame = reader_of(source.reader, files[0].uri, how).scan(files, schema)
    found = misfits(frame, how, source.shape, source.reader)
    if found is None:
        return None
    name, dtype, count, text, bad = found
    cells = "1 value that is" if count == 1 else f"{count:,} values that are"
    fix = "fix the file, or say on_type_change: discard_row or discard_column"
    point = "," if source.reader.marks.decimal_comma else r"\."
    if isinstance(dtype, pl.Decimal) and re.fullmatch(rf"\s*[+-]?\d*{point}\d+", text):
        fix = f"declare one with as many digits, {fix}"
    elif source.reader.format == "csv" and not (source.reader.masked or source.reader.marks.thousands):
        fix = says_thousands(text) or fix
    if too_long(text, dtype, source.reader):
        fix = "JSON numbers are exact to 15 digits: deliver longer ones as text, declare String, and cast them"
    line = line_where(files[0], source.reader, source.inside(files[0]), bad) if source.is_text else None
    where = "" if line is None else f" (line {line})"
    cell = MASKED if source.reader.masked else repr(text)
    what = f"column {name!r} has {cells} not a valid {dtype_name(dtype)}, such as {cell}{where}"
    return SourceError(what, uri=files[0].uri, fix=fix)
