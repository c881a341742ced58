"""Opens files on any fsspec protocol: by byte position where that is cheap, otherwise through a temporary copy.

A handle reads exactly the bytes that it is asked for (no read-ahead), belongs to one reader, and shares no position with
another, whatever the filesystem does.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import fsspec
import polars as pl
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_compression

from lazypipe.errors import SourceError, first_line, reason_of
from lazypipe.storage import uri as uris
from lazypipe.storage.connections import Pool, is_single
from lazypipe.storage.reasons import NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Handle", "open_handle", "reading", "spool", "verify"]

_COPY_BLOCK = 4 << 20
_LOCAL_HEADER = 30  # bytes of a zip member's local header in front of its name and extra field


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a :class:`SourceError` that names ``uri``.

    fsspec's filesystems raise what their client libraries raise (paramiko's, aiohttp's, ftplib's own exceptions), and Polars
    panics on some damaged pages, so no narrower net catches everything that a bad file can cause.
    """
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError(NOT_FOUND, uri=uri) from error
    except (Exception, pl.exceptions.PanicException) as error:
        raise SourceError(reason_of(error), uri=uri) from error


@contextmanager
def asking() -> Iterator[None]:
    """Turn what clients raise when a connection ends into a ConnectionError: in a file, EOFError would mean that it is damaged."""
    try:
        yield
    except EOFError as error:
        msg = "the server ended the connection"
        raise ConnectionError(msg) from error
    except OSError as error:
        if type(error) is OSError and error.errno is None:
            raise ConnectionError(first_line(error)) from error
        raise


class Handle:
    """An open file: a binary stream, and whether jumping about in it is cheap.

    Parameters
    ----------
    file
        The stream, at its start.
    random
        True if a read at any position costs about what it returns. False for compressed archive members, where every jump
        decompresses from the start, and for servers without byte ranges.
    owner
        Kept alive with the stream: some filesystems close it when they are collected.
    back
        Is called once the stream is closed: somebody else may use its connection.
    """

    def __init__(
        self, file: BinaryIO, *, random: bool, owner: object = None, back: Callable[[], None] | None = None
    ) -> None:
        self.file = file
        self.random = random
        self._owner = owner
        self._back = back

    def size(self) -> int:
        """Length of the file in bytes; only if ``random``."""
        self.file.seek(0, io.SEEK_END)  # some filesystems' seek returns nothing
        return self.file.tell()

    def read_at(self, start: int, length: int) -> bytes:
        """Read ``length`` bytes from ``start``; only if ``random``.

        Raises
        ------
        EOFError
            If the file ends before that.
        """
        self.file.seek(start)
        pieces = []
        while length:
            piece = self.file.read(length)
            if not piece:
                msg = f"the file ends {length} bytes early"
                raise EOFError(msg)
            length -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Close the stream and what it stands on."""
        self.file.close()
        self._owner = None
        back, self._back = self._back, None
        if back is not None and not getattr(self.file, "has_failed", False):
            back()

    def part(self, start: int, end: int) -> BinaryIO:
        """Return the bytes from ``start`` to ``end`` as a stream; closing it closes the file."""
        handle = self
        if not self.random:
            handle = Handle(spool(self.file), random=True)
            self.close()
        return cast("BinaryIO", _Window(handle, start, end - start))


class Positioned(io.RawIOBase):
    """A stream over ``length`` bytes from ``offset`` of something that reads by position; knows only its own position."""

    def __init__(self, offset: int, length: int) -> None:
        self._offset = offset
        self._length = length
        self._at = 0

    def _fetch(self, start: int, stop: int) -> bytes:
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._length)
        if stop <= self._at:
            return 0
        data = self._fetch(self._offset + self._at, self._offset + stop)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class _InMemory(Positioned):
    """A file of fsspec's memory filesystem, whose own file objects share one position among all who open them."""

    def __init__(self, fs: MemoryFileSystem, path: str) -> None:
        super().__init__(0, fs.info(path)["size"])
        self._fs = fs
        self._path = path

    def _fetch(self, start: int, stop: int) -> bytes:
        return cast("bytes", self._fs.cat_file(self._path, start=start, end=stop))


class _Remote(Positioned):
    """A file of a server: a connection that ends is neither the end of the file nor damage."""

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(0, size)
        self._file = file
        self.has_failed = False

    def _fetch(self, start: int, stop: int) -> bytes:
        self.has_failed = True  # whatever happens before the end: the connection may then owe an answer
        with asking():
            data = self._ask(start, stop)
        if len(data) < stop - start:
            msg = f"{len(data)} of {stop - start} bytes came"
            raise ConnectionError(msg)
        self.has_failed = False
        return data

    def _ask(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return cast("bytes", self._file.read(stop - start))

    def close(self) -> None:
        self._file.close()
        super().close()


class _Pipelined(_Remote):
    """A file of paramiko's: a plain read waits for every 32 KiB in turn, ``readv`` asks for all of them at once."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, file.stat().st_size)

    def _ask(self, start: int, stop: int) -> bytes:
        return b"".join(self._file.readv([(start, stop - start)]))


class _Window(Positioned):
    """An uncompressed part of another stream, such as a stored member of a zip archive."""

    def __init__(self, handle: Handle, offset: int, length: int) -> None:
        super().__init__(offset, length)
        self._handle = handle

    def _fetch(self, start: int, stop: int) -> bytes:
        return self._handle.read_at(start, stop - start)

    def close(self) -> None:
        self._handle.close()
        super().close()


class _Stored(_Window):
    """A member of a zip archive that is not compressed: who reads all of it in order learns whether it is what the archive says.

    Of compressed ones Python finds that out by itself.
    """

    def __init__(self, handle: Handle, offset: int, info: zipfile.ZipInfo) -> None:
        super().__init__(handle, offset, info.file_size)
        self._info = info
        self._summed = self._sum = 0

    def _fetch(self, start: int, stop: int) -> bytes:
        data = super()._fetch(start, stop)
        known = self._summed - (start - self._offset)
        if 0 <= known < len(data):
            self._sum = zlib.crc32(memoryview(data)[known:], self._sum)
            self._summed += len(data) - known
            if self._summed == self._length and self._sum != self._info.CRC:
                msg = f"Bad CRC-32 for file {self._info.filename!r}"
                raise zipfile.BadZipFile(msg)
        return data


_SOUND: set[tuple[str, int, int]] = set()
"""Members of archives on this machine that were read in whole and are what their archive says, by its time and size."""


def verify(uri: str, handle: Handle) -> None:
    """Read in whole what is going to be read here and there, once in a process, where that tells whether it is damaged and costs no transfer.

    That is so of members of local zip archives that are not compressed. Raises BadZipFile.
    """
    archive = uri.partition("::")[2]
    if not isinstance(handle.file, _Stored) or not uris.is_local(archive):
        return
    about = os.stat(uris.local_path(archive))
    key = (uri, about.st_mtime_ns, about.st_size)
    if key not in _SOUND:
        while handle.file.read(_COPY_BLOCK):
            pass
        handle.file.seek(0)
        _SOUND.add(key)


def open_handle(uri: str, storage_options: Mapping[str, Any] | None) -> Handle:
    """Open ``uri``, any URL that fsspec understands, chained ones included.

    Parameters
    ----------
    uri
        For example ``memory://a.csv``, ``sftp://host/a.parquet`` or ``zip://a.parquet::http://host/b.zip``.
    storage_options
        Options of the filesystem; in a chain those of each link under its protocol's name, as fsspec takes them.

    Raises
    ------
    Exception
        Whatever the filesystem raises; see :func:`reading`.
    """
    if uris.is_local(uri):  # of very many, each is opened to look at its first bytes
        return Handle(open(uris.local_path(uri), "rb"), random=True)
    options = dict(storage_options or {})
    link, _, rest = uri.partition("::")
    protocol, _, member = link.partition("://")
    if protocol in ("zip", "tar") and rest:
        own = options.pop(protocol, {})
        return _open_member(protocol, member, rest, own, open_handle(rest, options))
    back: Callable[[], None] | None = None
    if is_single(protocol):  # fsspec shares a connection by the thread that opened it, and Polars reads in others
        key = f"{os.getpid()} {protocol}://{member.partition('/')[0]} {options}"
        with asking():
            fs = _CONNECTIONS.take(key, lambda: uris.file_system(uri, {**options, "skip_instance_cache": True})[0])
        path, back = f"/{member.partition('/')[2]}", partial(_CONNECTIONS.put, key, fs)
    else:
        fs, path = uris.file_system(uri, options)
    if isinstance(fs, MemoryFileSystem):
        return Handle(cast("BinaryIO", _InMemory(fs, path)), random=True)
    # Without cache_type fsspec reads 5 MiB ahead of every jump. Filesystems without a cache ignore the word.
    # That which keeps blocks has one of its own.
    how = {} if protocol == "blockcache" else {"cache_type": "none"}
    with asking():
        file = fs.open(path, "rb", **how)
        if hasattr(file, "readv"):
            return Handle(cast("BinaryIO", _Pipelined(file)), random=True, owner=fs, back=back)
    random = file.seekable() and not isinstance(fs, AbstractArchiveFileSystem)
    if "http" in fs.protocol and not _knows_ranges(file):
        file.close()
        file, random = fs.open(path, "rb", block_size=0), False
    if random and isinstance(size := getattr(file, "size", None), int):
        file = _Remote(file, size)
    return Handle(file, random=random, owner=fs, back=back)


_CONNECTIONS = Pool()


def _knows_ranges(file: Any) -> bool:
    """Ask an HTTP server for one byte: many do not say in advance whether they know byte ranges."""
    if file.size is None:  # nor do they say how long the file is
        return False
    if file.size > 1:
        try:
            file.seek(1)
            file.read(1)
        except ValueError:
            return False
        file.seek(0)
    return True


def _open_member(protocol: str, member: str, archive_uri: str, options: Mapping[str, Any], archive: Handle) -> Handle:
    """Open a member of an archive through a handle of our own: fsspec's would be shared, and read ahead."""
    if not archive.random:  # archives are read from their end
        copy = spool(archive.file)
        archive.close()
        archive = Handle(copy, random=True)
    if protocol == "zip":
        fs = fsspec.filesystem("zip", fo=archive.file, **options)
        info = fs.zip.getinfo(member.lstrip("/"))
        encrypted = info.flag_bits & 1
        if info.compress_type == zipfile.ZIP_STORED and not encrypted:
            header = archive.read_at(info.header_offset, _LOCAL_HEADER)
            skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            stored = _Stored(archive, info.header_offset + _LOCAL_HEADER + skip, info)
            return Handle(cast("BinaryIO", stored), random=True, owner=fs)
    else:
        window = _Window(archive, 0, archive.size())
        buffered = io.BufferedReader(window, 1 << 16)  # tar headers are 512 bytes each
        fs = fsspec.filesystem("tar", fo=buffered, compression=infer_compression(archive_uri), **options)
    return Handle(fs.open(member, "rb"), random=False, owner=(fs, archive))


def spool(file: BinaryIO) -> BinaryIO:
    """Copy the rest of ``file`` to a temporary file, block by block; closing the copy deletes it.

    Parameters
    ----------
    file
        Stays open.
    """
    copy = tempfile.NamedTemporaryFile(prefix="lazypipe-")  # noqa: SIM115  the caller closes it
    try:
        shutil.copyfileobj(file, copy, _COPY_BLOCK)
        copy.flush()
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return cast("BinaryIO", copy)
