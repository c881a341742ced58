"""BLAKE3 hashes of the beginnings of files, on any protocol, and hashers for the files of one storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from blake3 import blake3

from lazypipe.storage import uri as uris
from lazypipe.storage.content import PIECE, has_grown, hash_file, unreadable
from lazypipe.storage.external.blocks import TextFormat, is_packed, text_format
from lazypipe.storage.files import FileInfo
from lazypipe.storage.parquet.row_groups import BorderHash, Borders, begun
from lazypipe.storage.text.by_row import row_format

__all__ = ["Common", "Hashes", "Prefix", "group_hasher", "hash_prefix", "hash_rows", "hasher", "prefix_hasher"]

_LONGEST_ROW = 16 << 20
"""Of a file that grows behind a longer one all is read: a quote may be open in it, and what follows would be searched over and over."""


class Prefix(NamedTuple):
    """What a text file begins with.

    ``blake3`` is that of its first bytes, ``whole`` that of all bytes which it was listed with. ``ends`` says whether a row ends
    where the first bytes do, so that what is behind them can be read alone.
    """

    blake3: str
    whole: str
    ends: bool


class Common(NamedTuple):
    """What a Parquet file has in common with what it was: all its bytes are hashed, or none, if it has nothing by its footer.

    ``until`` is where the last row group ends up to which all are as they were; so many ``groups`` they are, ``of`` so many now.
    """

    whole: str | None = None
    until: int = 0
    groups: int = 0
    of: int = 0


class Hashes(dict[FileInfo, str]):
    """The BLAKE3 hashes of files, and of their beginnings, that a run knows so far, so that nothing is hashed twice.

    ``borders`` are what is to be remembered of the row groups of large Parquet files, by the hashes of their content; ``modified`` are those
    that are others than they were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.prefixes: dict[tuple[FileInfo, int], Prefix] = {}
        self.groups: dict[FileInfo, BorderHash] = {}
        self.borders: dict[str, Borders] = {}
        self.modified: set[FileInfo] = set()

    def hash(self, file: FileInfo, made: BorderHash | None, storage_options: Mapping[str, Any] | None) -> str:
        """Hash a Parquet file, and note its row groups."""
        self[file] = found = hash_file(file.uri, storage_options, made)
        if made is not None and made.borders is not None:
            self.groups[file], self.borders[found] = made, made.borders
        return found


def hash_prefix(uri: str, size: int, storage_options: Mapping[str, Any] | None = None) -> str:
    """Return the BLAKE3 of the first ``size`` bytes of a file (of all, if it has less)."""
    made = blake3(max_threads=blake3.AUTO)
    for piece in _pieces(uri, size, storage_options):
        made.update(piece)
    return made.hexdigest()


def hash_rows(file: FileInfo, size: int, text: TextFormat, storage_options: Mapping[str, Any] | None) -> Prefix:
    """Hash the first ``size`` bytes of a text file, then all that it was listed with, in one pass.

    A row ends there if that is behind a newline which stands in no quotes, and behind header and rows to skip. What is appended
    to half a row changes that row, so that not only the new bytes must be read.
    """
    made = blake3(max_threads=blake3.AUTO)
    first, rest, left = "", b"", size
    ends = True
    for number, piece in enumerate(_pieces(file.uri, file.size or 0, storage_options)):
        here, after = piece[:left], piece[left:]
        left -= len(here)
        made.update(here)
        if here and ends:
            begins = text.begins(here) if number == 0 else 0
            ends = begins is not None and not (number == 0 and is_packed(here)) and len(rest) < _LONGEST_ROW
            block = rest + here
            rest = block[text.row_end(block) :]
        if not left:
            first = first or made.hexdigest()
            made.update(after)
    return Prefix(first, made.hexdigest(), ends and not rest)


def hasher(storage_options: Mapping[str, Any] | None = None, *, grows: bool = False) -> Callable[[FileInfo], str]:
    """Return ``hash_file`` for files of one storage; if they may have grown since, of no more than they were listed with."""

    def hashed(file: FileInfo) -> str:
        if not grows or file.size is None:
            return hash_file(file.uri, storage_options)
        if uris.is_local(file.uri):
            found = hash_file(file.uri, storage_options)
            if not has_grown(file):
                return found
        return hash_prefix(file.uri, file.size, storage_options)

    return hashed


def prefix_hasher(
    form: str,
    options: Mapping[str, Any],
    storage_options: Mapping[str, Any] | None = None,
    hashes: Hashes | None = None,
    *,
    by_row: bool = False,
) -> Callable[[FileInfo, int], Prefix | None]:
    """Return ``hash_rows`` for text files of one format and storage, read with ``options``; None for those that are compressed.

    With ``by_row`` some of their rows may be broken, so that an even number of quotes does not say that a row has ended.

    What is found is put into ``hashes``, and taken from there.
    """
    text = row_format(form, options) if by_row else text_format(form, options)
    known = Hashes() if hashes is None else hashes

    def hashed(file: FileInfo, size: int) -> Prefix | None:
        if _is_packed(file.uri):
            return None
        if (file, size) not in known.prefixes:
            known.prefixes[file, size] = found = hash_rows(file, size, text, storage_options)
            known[file] = found.whole
        return known.prefixes[file, size]

    return hashed


def group_hasher(
    storage_options: Mapping[str, Any] | None = None, hashes: Hashes | None = None
) -> Callable[[FileInfo, int | None, Borders], Common]:
    """Return what says how much a Parquet file has in common with what it was, of that size and with those borders.

    What is found is put into ``hashes``, and taken from there. Of a file of another size, whose footer says that its first row groups end
    elsewhere, no more is read than that.
    """
    known = Hashes() if hashes is None else hashes

    def compared(file: FileInfo, size: int | None, was: Borders) -> Common:
        if file not in known.groups:
            made = begun(file, storage_options)
            if (made is None or was.at[0] not in made.at) and file.size != size:
                return Common()
            if made is not None or file not in known:
                known.hash(file, made, storage_options)
        if file not in known.groups:
            return Common(known[file])
        groups = known.groups[file]
        until = was.common(groups.found)
        return Common(known[file], until, groups.groups_within(until), len(groups.at))

    return compared


def _is_packed(uri: str) -> bool:
    return (uris.protocol(uri) != "" and "::" in uri) or uri.endswith((".gz", ".zst"))


def _pieces(uri: str, size: int, options: Mapping[str, Any] | None) -> Iterator[bytes]:
    """Yield the start of a file's content."""
    try:
        with uris.opened(uri, options) as file:
            while size and (piece := file.read(min(size, PIECE))):
                yield piece
                size -= len(piece)
    except Exception as error:  # any store's own errors: the caller learns which file it was
        raise unreadable(uri, error) from error
