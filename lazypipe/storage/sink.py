"""Sinks: write the rows of a LazyFrame to files that readers do not see yet. Publishing them is a later step.

Every sink is one query, a streaming one unless rows are few for sure. Data files of a dataset carry the run's name, so that no two runs ever write the same
file; an export is written beside its target and swapped in at the end.
"""

from __future__ import annotations

import errno
import io
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import polars as pl
from blake3 import blake3
from polars.io.partition import FileProviderArgs, SinkedPathsCallbackArgs

from lazypipe.errors import LazypipeError, StorageError, first_line
from lazypipe.spec.taps import tap
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.connections import created
from lazypipe.storage.datasets.key_bounds import exact_bounds
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.files import FileInfo, exported, files_at
from lazypipe.storage.flushing import Flushing, write_through
from lazypipe.storage.formats import FORMATS, TEXT_FORMATS
from lazypipe.storage.optimizer.forms import physical, without_keys
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.order import ordered
from lazypipe.storage.optimizer.writing import BatchWriter, check_layout, polars_options, writable
from lazypipe.storage.scan import os_error, plain_reason

__all__ = ["FEW", "FEW_BYTES", "DatasetSink", "ExportSink", "Written", "are_few", "is_data_file", "is_staged"]

Watch = Callable[..., None]
"""Is shown, by Polars, the plan of the very query that runs."""
Told = Callable[[str], object]
"""Is told the path of a file on this machine that is going to be written."""
Parts = Callable[[pl.DataFrame], Sequence[pl.DataFrame]]
"""Says which of some rows go to files of their own."""

_TARGET_BYTES = 1 << 30
"""Size in memory at which a data file is closed and the next begun; on disk it is a quarter of that, or less."""

_PACKED = 4

_IN_HASTE: Mapping[str, Any] = {"compression": "lz4"}
"""What is read once or twice and then gone: speed before size."""

_SOON: Mapping[str, Any] = {"compression": "zstd", "compression_level": 1}
"""Few rows: a third less time than by the usual level, and at most a twentieth more bytes."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What may be said of a file that is read, too."""

_STEP = r"-\d{3}[a-z]*"  # how the prefix that the executor gives ends: …-001
_DATA_FILE = re.compile(_STEP + r"(-\d{3,})?-\d{5}\.parquet$")


@contextmanager
def _written_to(uri: str, staged: str | None = None) -> Iterator[None]:
    """Raise StorageError with the place where a disk that is full, or that may not be written, stopped the writing."""
    try:
        yield
    except Exception as error:
        if isinstance(error, LazypipeError):
            raise
        # what a file object of ours raises, Polars hands on as text
        handed = re.search(r"\[Errno (\d+)\] ([^:]+)", str(error))
        code = os_error(error) or (int(handed[1]) if handed else None)
        if code not in _FULL and (code not in _DENIED or (staged or uri) not in str(error)):
            raise
        raise StorageError(
            f"cannot be written: {handed[2] if handed else plain_reason(error)}",
            uri=uri,
            fix="nothing was published; fix the cause and run again",
        ) from error


def is_data_file(path: str) -> bool:
    """Whether a file below a dataset has a name that a run gives: others are not ours to delete.

    Examples
    --------
    >>> is_data_file("day=1/r7-001-00000.parquet"), is_data_file("mine.parquet")
    (True, False)
    """
    return _DATA_FILE.search(path) is not None


def is_staged(name: str, target: str) -> bool:
    """Whether a file is an export to ``target`` (both without folders) that was not finished.

    Examples
    --------
    >>> is_staged(".r7-001.a.csv", "a.csv"), is_staged(".mine.a.csv", "a.csv")
    (True, False)
    """
    return re.fullmatch(rf"\..+{_STEP}\.{re.escape(target)}", name) is not None


@dataclass(frozen=True)
class Written:
    """What a sink wrote: files relative to its URI."""

    files: tuple[DataFile, ...]

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(f.rows for f in self.files)

    @property
    def bytes(self) -> int:
        """Bytes in all files."""
        return sum(f.bytes for f in self.files)


FEW = 1 << 16
"""As many rows, or fewer, may be written at once: so many of a hundred columns are some tens of megabytes."""
FEW_BYTES = 1 << 20
"""Bytes of the files that they are read from, at most."""


def are_few(files: Iterable[DataFile]) -> bool:
    """Whether the rows of some files are few enough to be written from memory instead of streamed.

    Examples
    --------
    >>> are_few([DataFile("a", 100, 5_000)]), are_few([DataFile("a", 100_000, 5_000)])
    (True, False)
    """
    sizes = [(f.rows, f.bytes) for f in files]
    return sum(rows for rows, _ in sizes) <= FEW and sum(size for _, size in sizes) <= FEW_BYTES


def _run(sink: pl.LazyFrame, capture: Watch | None, engine: Literal["streaming", "in-memory"] = "streaming") -> Any:
    watched: dict[str, Any] = {"post_opt_callback": capture}  # an argument that Polars does not declare
    return sink.collect(engine=engine, **watched)


def _as_one(rows: pl.DataFrame) -> Sequence[pl.DataFrame]:
    return [rows]


@dataclass
class DatasetSink:
    """Parquet files below a dataset's folder, in a folder per partition, named by ``prefix``, as ``layout`` says.

    ``most_rows`` is how many go into a file, where that is better known than by the layout's ``file_bytes``. Who is ``told`` hears of each
    file of this machine before it is there. What is written of it stands on the disk, as far as it is local; a ``spill``, which only this
    run reads, is written in haste and need not.
    """

    uri: str
    prefix: str
    partition_by: tuple[str, ...] = ()
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout | None = None
    most_rows: int | None = None
    told: Told | None = None
    spill: bool = False
    _paths: list[str] = field(default_factory=list, init=False)
    _flushing: Flushing | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Write local files by their paths: for ``file:`` URIs Polars stages each once more, and leaves that behind."""
        self.uri = uris.local_path(self.uri) if uris.is_local(self.uri) else self.uri

    def write(
        self,
        frame: pl.LazyFrame,
        capture: Watch | None = None,
        *,
        few: bool = False,
        made_of: int | None = None,
        keys: Sequence[str] = (),
        parts: Parts = _as_one,
    ) -> Written:
        """Write the rows; raises whatever the query raises, with the files left for ``discard`` or ``vacuum``.

        What the disk refuses is a StorageError.

        Parameters
        ----------
        few
            Whether there are few rows for sure (see ``are_few``): they are computed in memory, and written in one go, which takes less than
            it takes to begin and end a streaming query.
        made_of
            Bytes of the files that the rows are made of, if these cannot become more: where one file may hold them all, Polars need not
            cut them to measure it, and a row group is what came of one that was read, without a copy.
        keys
            Columns of which it is noted between which values they lie, where that takes no look into files.
        parts
            Says of a few rows which go to files of their own.
        """
        layout = self.layout
        if layout is not None:
            schema = frame.collect_schema()
            layout = _fitting(replace(layout, partition_by=self.partition_by), schema)
            check_layout(layout, schema, self.uri)
            frame = physical(
                ordered(frame, layout, schema, self.uri), schema, without_keys(layout.forms, self.partition_by)
            )
        if few and layout is None and uris.is_local(self.uri) and not self.partition_by:
            with _written_to(self.uri):
                return Written(tuple(self._write_at_once(frame, capture, keys, parts)))
        self._flushing = Flushing() if uris.is_local(self.uri) and not self.spill else None
        with _written_to(self.uri), self._flushing or nullcontext():
            if layout is None:
                options = _IN_HASTE if self.spill else self.options
                found = self._write_natively(frame, capture, options, _TARGET_BYTES, made_of)
            elif layout.writer == "pyarrow":
                found = self._write_in_batches(frame, capture, layout)
            else:
                target = None if layout.file_bytes is None else layout.file_bytes * _PACKED
                found = self._write_natively(frame, capture, polars_options(layout), target or _TARGET_BYTES, made_of)
        base = self.uri.rstrip("/") + "/"
        made = (DataFile(p.removeprefix(base), r, b, layout=layout) for p, r, b in found)
        files = sorted(made, key=lambda f: f.path)
        if self.partition_by and not any(f.rows for f in files):
            self.discard()  # Polars makes a file also of no rows; without a folder nobody could read it
            files = []
        return Written(tuple(files))

    def _write_at_once(
        self, frame: pl.LazyFrame, capture: Watch | None, keys: Sequence[str], parts: Parts
    ) -> Iterator[DataFile]:
        """Write few rows: the bytes of a file are all at hand, so that it need not be read again to be hashed, or for its bounds."""
        rows: pl.DataFrame = _run(frame, capture, "in-memory")
        most = max(rows.height, 1) if self.most_rows is None else self.most_rows
        cut = (of for part in parts(rows) for of in part.iter_slices(most)) if rows.height else [rows]
        for index, part in enumerate(cut):
            held = io.BytesIO()
            part.write_parquet(held, **(_IN_HASTE if self.spill else {**_SOON, **self.options}))
            data = held.getvalue()
            path = self._path(pl.DataFrame(), index)
            self._paths.append(path)
            write_through(f"{self.uri.rstrip('/')}/{path}", data, flushed=not self.spill)
            digest = None if self.told is None else blake3(data).hexdigest()
            known = {n: ends for n in keys if (ends := exact_bounds(part[n])) is not None}
            yield DataFile(path, part.height, len(data), digest, bounds=known)

    def _write_natively(
        self,
        frame: pl.LazyFrame,
        capture: Watch | None,
        options: Mapping[str, Any],
        target_bytes: int,
        made_of: int | None,
    ) -> list[tuple[str, int, int]]:
        """Write the rows by Polars; return path, rows and bytes of each file."""
        native = uris.is_native(self.uri)
        fit = self.most_rows is not None or (made_of is not None and made_of * _PACKED <= target_bytes)
        opened: dict[str, Any] = {}
        found: list[tuple[str, int, int]] = []
        if not native:
            fs, root = uris.file_system(self.uri, self.storage_options)

        lock, ended = threading.Lock(), threading.Event()

        def provide(args: FileProviderArgs) -> Any:
            path = self._path(args.partition_keys, args.index_in_partition)
            with lock:
                # after a failure Polars goes on for a while; what it opened then, nobody would remove
                if ended.is_set():
                    raise RuntimeError("the query has ended")
                self._begin(path)
                if native:
                    return path
                uris.make_folder(fs, f"{root}/{path}".rsplit("/", 1)[0])
                opened[path] = _Counting(created(fs, f"{root}/{path}"))
                return opened[path]

        def report(args: SinkedPathsCallbackArgs) -> None:
            found.extend((p.path, p.num_rows, p.num_bytes) for p in args.paths)

        try:
            sinking = frame.sink_parquet(
                pl.PartitionBy(
                    self.uri + "/",
                    file_path_provider=provide,
                    key=list(self.partition_by) or None,
                    include_key=False if self.partition_by else None,
                    max_rows_per_file=self.most_rows,
                    approximate_bytes_per_file=None if fit else target_bytes,
                ),
                mkdir=native,
                lazy=True,
                storage_options=uris.polars_options(self.uri, self.storage_options) if native else None,
                sinked_paths_callback=report if native else None,
                **options,
            )
            _run(sinking, capture)
            for file in opened.values():
                file.finish()
        finally:
            with lock:
                ended.set()
            for file in opened.values():
                with suppress(Exception):  # a second close of a whole file, or the close of one to be discarded
                    file.finish()
        if native:
            return found
        from lazypipe.storage.external.scan import scan_external

        for path, file in opened.items():
            uri = uris.join(self.uri, path)
            rows = scan_external([uri], format="parquet", storage_options=self.storage_options).select(pl.len())
            found.append((path, rows.collect().item(), file.size))
        return found

    def _write_in_batches(
        self, frame: pl.LazyFrame, capture: Watch | None, layout: Layout
    ) -> list[tuple[str, int, int]]:
        """Write the rows by pyarrow; return path, rows and bytes of each file."""
        fs, root = uris.file_system(self.uri, self.storage_options)

        def create(keys: pl.DataFrame, index: int) -> tuple[str, Any]:
            path = self._path(keys, index)
            self._begin(path)
            uris.make_folder(fs, f"{root}/{path}".rsplit("/", 1)[0])
            return path, created(fs, f"{root}/{path}")

        writer = BatchWriter(layout, frame.collect_schema(), self.partition_by, create, self.uri, self.most_rows)
        try:
            _run(frame.sink_batches(writer.add, chunk_size=layout.row_group_rows, lazy=True), capture)
            return writer.finish()
        finally:
            writer.abort()

    def _begin(self, path: str) -> None:
        self._paths.append(path)
        if self._flushing is not None:
            self._flushing.add(f"{self.uri.rstrip('/')}/{path}")
        if self.told is not None and uris.is_local(self.uri):
            self.told(uris.join(self.uri, path))

    def stay(self, written: Written) -> DatasetSink:
        """Have the disk take a spill that is to be published as it is after all; return what writes more beside it."""
        if not self.spill:
            return self
        if uris.is_local(self.uri):
            with Flushing() as flushing:
                for file in written.files:
                    flushing.add(f"{self.uri.rstrip('/')}/{file.path}")
        return replace(self, spill=False)

    def discard(self) -> None:
        """Delete the files of this write."""
        fs, root = uris.file_system(self.uri, self.storage_options)
        for path in self._paths:
            with suppress(OSError):  # not there, or not removable: vacuum comes later
                fs.rm_file(f"{root}/{path}")

    def _path(self, keys: pl.DataFrame, index: int) -> str:
        names = self.partition_by if keys.height else ()  # no rows at all: one file without a folder
        folders = hive.folders(names, [_as_text(keys[n])[0] for n in names])
        return f"{folders}{self.prefix}-{index:05}.parquet"


def _fitting(layout: Layout, schema: Mapping[str, pl.DataType]) -> Layout:
    """Return the layout, by Polars' writer where pyarrow does not know a type."""
    if layout.writer == "polars" or writable(schema):
        return layout
    return replace(layout, writer="polars", codecs={}, encodings={}, bloom=())


def _as_text(key: pl.Series) -> pl.Series:
    if isinstance(key.dtype, pl.Datetime) and key.dtype.time_zone:
        key = key.dt.convert_time_zone("UTC")  # offsets of old times have seconds, which are not written
    return key.cast(pl.String)


class _Counting(io.RawIOBase):
    """A writable file that counts bytes and is closed when its owner says so, not when Polars does."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.size = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Write all of it."""
        self._file.write(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Leave flushing to the file system: most remote ones can only do it at the end."""

    def close(self) -> None:
        """Keep the file open until ``finish``."""

    def finish(self) -> None:
        """Close the file; only now is its content complete in the store."""
        self._file.close()


@dataclass
class ExportSink:
    """One file that replaces its target in one step once it is whole; who is ``told`` hears of it as of those of a :class:`DatasetSink`.

    ``metadata`` is what the footer of a Parquet file says besides.
    """

    uri: str
    format: str
    prefix: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    told: Told | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Write local files by their paths, see :class:`DatasetSink`."""
        self.uri = uris.local_path(self.uri) if uris.is_local(self.uri) else self.uri

    @property
    def staged(self) -> str:
        """The URI of the file while it is written: beside the target, so that the swap stays on one file system."""
        folder, _, name = self.uri.rpartition("/")
        return f"{folder}/.{self.prefix}.{name}" if folder else f".{self.prefix}.{name}"

    def write(self, frame: pl.LazyFrame, capture: Watch | None = None) -> Written:
        """Write the rows beside the target; what the disk refuses is a StorageError."""
        with _written_to(self.uri, self.staged):
            return self._written(frame, capture)

    def _written(self, frame: pl.LazyFrame, capture: Watch | None) -> Written:
        counted: list[int] = []

        def count(batch: pl.DataFrame) -> pl.DataFrame:
            counted.append(batch.height)
            return batch

        options: dict[str, Any] = {"metadata": dict(self.metadata)} if self.metadata else {}
        if self.format in TEXT_FORMATS and self.uri.endswith((".gz", ".zst")):
            options["compression"] = "gzip" if self.uri.endswith(".gz") else "zstd"
        target: Any = self.staged
        if self.told is not None and uris.is_local(self.uri):
            self.told(self.staged)
        if uris.is_native(self.uri):
            options |= {"mkdir": True, "storage_options": uris.polars_options(self.uri, self.storage_options)}
        else:
            fs, path = uris.file_system(self.staged, self.storage_options)
            if folder := path.rpartition("/")[0]:
                uris.make_folder(fs, folder)
            target = _Counting(created(fs, path))
        try:
            with Flushing() if uris.is_local(self.uri) else nullcontext() as flushing:
                if flushing is not None:
                    flushing.add(self.staged)
                sinking = FORMATS[self.format].sink(tap(frame, count), target, lazy=True, **options)
                _run(sinking, capture)
                if isinstance(target, _Counting):
                    target.finish()
        finally:
            if isinstance(target, _Counting):
                with suppress(Exception):  # a second close of a whole file, or the close of one to be discarded
                    target.finish()
        fs, path = uris.file_system(self.staged, self.storage_options)
        return Written((DataFile(self.uri.rsplit("/", 1)[-1], sum(counted), int(fs.size(path) or 0)),))

    def publish(self) -> FileInfo | None:
        """Swap the file in, and return it as it is there then, if that is known; raises StorageError if the store refuses."""
        import fsspec

        fs, staged = uris.file_system(self.staged, self.storage_options)
        _, target = uris.file_system(self.uri, self.storage_options)
        try:
            if uris.is_local(self.uri):
                # looked at ahead of the swap, which keeps size and stamp: behind it another run may have swapped in its own
                (file,) = files_at([staged])
                os.replace(staged, target)
                return file
            if type(fs).mv is fsspec.AbstractFileSystem.mv:
                # fsspec's own takes names for patterns; what cannot be removed after the swap is left to vacuum
                fs.cp_file(staged, target)
                with suppress(Exception):
                    fs.rm_file(staged)
            else:
                fs.mv(staged, target)
        except Exception as error:  # any store's own errors: the caller learns which file it was
            raise StorageError(
                f"cannot be replaced: {first_line(error)}", uri=self.uri, fix="fix the cause and run again"
            ) from error
        with suppress(Exception):  # it is there, whether the store tells of it or not
            return exported(self.uri, self.storage_options)
        return None

    def discard(self) -> None:
        """Delete the file beside the target."""
        fs, path = uris.file_system(self.staged, self.storage_options)
        with suppress(OSError):  # not there, or not removable: vacuum comes later
            fs.rm_file(path)
