"""Corrupt files: found before they are read where that is cheap, otherwise one by one after a query has failed.

Corrupt is what cannot be decoded, whoever reads it: no bytes, a missing footer, a broken gzip stream, a row with too many
fields, a line that is no JSON, a text that is not a number. A file that cannot be fetched is not corrupt, nor is a whole file
with other columns than expected: the first is for the network, the second for the contract.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from lazypipe.errors import SourceError
from lazypipe.storage import uri as uris
from lazypipe.storage.files import FileInfo
from lazypipe.storage.formats import FORMATS, TEXT_FORMATS, TYPED_FORMATS
from lazypipe.storage.parallel import in_parallel
from lazypipe.storage.scan import Reader, cannot_read, is_damage
from lazypipe.storage.text.by_row import TEXT, untold
from lazypipe.storage.text.lines import bad_line, refuse_short_rows

__all__ = ["CorruptFile", "OnCorrupt", "damaged", "preflight"]

OnCorrupt = Literal["fail", "quarantine_file", "skip"]

_PACKED = {".gz": (b"\x1f\x8b", "gzip"), ".zst": (b"\x28\xb5\x2f\xfd", "zstd")}
_HEAD = 4096
_NO_BYTES = "the file is empty (0 bytes)"


@dataclass(frozen=True)
class CorruptFile:
    """A file that was set aside: its source, URI, size in bytes and stamp, why, and by which word of the definition."""

    source: str
    uri: str
    size: int | None
    stamp: str | None
    why: str
    action: OnCorrupt

    def __str__(self) -> str:
        return f"{self.uri}: source {self.source!r}: {self.why}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def preflight(files: Sequence[FileInfo], reader: Reader) -> dict[str, str]:
    """Return URI → why for the files that are corrupt as their ends alone show: no rows are decoded.

    Looked at are the size, the magic bytes at both ends of Parquet and IPC and the footer between them, the header of gzip and
    zstd where the name promises one, and whether the first line of a text is text. Of a remote store that Polars reads
    itself, only sizes and footers are looked at.

    Raises
    ------
    SourceError
        If a file cannot be fetched.
    """
    found = in_parallel(lambda file: _at_the_ends(file, reader), files)
    return {file.uri: why for file, why in found if why is not None}


def _at_the_ends(file: FileInfo, reader: Reader) -> str | None:
    if file.size == 0:
        return _NO_BYTES
    if uris.is_local(file.uri) or not uris.is_native(file.uri):
        try:
            why = _magic(file, reader)
        except Exception as error:  # whatever a file system raises
            told = reader.unreadable(file, error)
            if is_damage(error):  # of a member of an archive, nothing can be read then
                return told.what
            raise told from error
        if why is not None:
            return why
    if reader.format in TYPED_FORMATS:
        try:
            reader.infer([file])
        except SourceError as error:
            if not is_damage(error):
                raise
            return error.what
    return None


def _magic(file: FileInfo, reader: Reader) -> str | None:
    """Return what is wrong with the first and the last bytes of a file."""
    from lazypipe.storage.external.files import open_handle

    handle = open_handle(file.uri, reader.storage_options)
    try:
        head = handle.file.read(_HEAD)
        form = FORMATS[reader.format]
        magic = form.magic
        if not magic:
            return _text(file, head, reader)
        if not head.startswith(magic):
            other = reader.foreign(head.decode("utf-8", "replace"))
            return f"the file does not begin as {form.name} does" if other is None else other[0]
        if not handle.random:
            return None
        if handle.read_at(max(0, handle.size() - len(magic)), len(magic)) != magic or handle.size() < 2 * len(magic):
            return f"the file does not end as {form.name} does: it is truncated"
    finally:
        handle.close()
    return None


def _text(file: FileInfo, head: bytes, reader: Reader) -> str | None:
    if not head:
        return _NO_BYTES  # the protocol did not tell the size
    name = file.uri.split("::", maxsplit=1)[0].lower()
    for ending, (magic, packing) in _PACKED.items():
        if name.endswith(ending) and not head.startswith(magic):
            return f"the file is not {packing}, as its name says"
    if head.startswith(tuple(magic for magic, _ in _PACKED.values())):
        return None
    line = head.partition(b"\n")[0]
    if _may_show(line, reader) and (other := reader.foreign(head.decode("utf-8", "replace"))) is not None:
        return other[0]
    if b"\0" in line or not _is_utf8(line, whole=len(line) < len(head)):
        return "the file does not begin with UTF-8 text"
    return None


def _may_show(line: bytes, reader: Reader) -> bool:
    """Whether the first line of a text can show that it is something else: in CSV it may be a cell, or a name that was meant."""
    if reader.format != "csv":
        return True
    options = reader.csv_options
    first = line.decode("utf-8", "replace").strip()
    return options.get("has_header", True) and not options.get("skip_rows") and first not in reader.declared


def _is_utf8(line: bytes, *, whole: bool) -> bool:
    for cut in range(1 if whole else 4):  # a character may be cut in two
        try:
            line[: len(line) - cut].decode()
        except UnicodeDecodeError:
            continue
        return True
    return False


def damaged(files: Sequence[FileInfo], reader: Reader, schema: pl.Schema) -> list[tuple[FileInfo, str]]:
    """Read every file for itself; return those that are corrupt, with why.

    ``schema`` are their columns, those in folders included. A file that has others is passed over: it is not for its
    reader to say what to do about it.
    """
    found = []
    for file in files:
        why = _why(file, reader, schema)
        if why is not None:
            found.append((file, why))
    return found


def _why(file: FileInfo, reader: Reader, schema: pl.Schema) -> str | None:
    if file.size == 0:
        return _NO_BYTES
    keys = reader.keys([file], schema)
    by_row = TEXT in schema
    told = pl.Schema({n: t for n, t in schema.items() if n not in keys})
    inside = untold(told)
    try:
        if reader.format == "csv" and set(reader.header(file, inside)) != set(inside):
            return None
        if reader.format in TYPED_FORMATS and {n: t for n, t in reader.infer([file]).items() if n not in keys} != dict(
            inside
        ):
            return None
        reader.scan([file], schema).select(pl.all().null_count()).collect(engine="streaming")
        if reader.format == "csv" and not by_row:
            refuse_short_rows([file], reader, inside, nulls=True)
    except BaseException as error:
        if not cannot_read(error):
            raise
        if not is_damage(error):
            return None
        what = reader.unreadable(file, error).what
        line = (
            bad_line(file, reader, told) if reader.format in TEXT_FORMATS and not re.search(r"line \d", what) else None
        )
        return what if line is None else f"{what} (line {line})"
    return None
