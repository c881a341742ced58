"""What each column takes on disk, from the footers of Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lazypipe.errors import StorageError, first_line
from lazypipe.storage import uri as uris
from lazypipe.storage.log import DataFile
from lazypipe.storage.parquet_ranges import TRAILER, Footer, footer_length

__all__ = ["column_bytes", "read_footer"]

_TAIL = 1 << 16


def read_footer(uri: str, storage_options: Mapping[str, Any] | None = None) -> Footer:
    """Return a Parquet file's footer; reads nothing else.

    Raises
    ------
    StorageError
        If it cannot be read, or is none.
    """
    try:
        fs, path = uris.file_system(uri, storage_options)
        with fs.open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
            length = footer_length(tail) + TRAILER
            if length > len(tail):
                file.seek(max(0, size - length))
                tail = file.read()
        return Footer(tail[-length:-TRAILER], data_end=size - length)
    except Exception as error:  # any store's own errors: the caller learns which file it was
        fix = "restore it from a backup, or run the pipeline in full"
        raise StorageError(f"its footer cannot be read: {first_line(error)}", uri=uri, fix=fix) from error


def column_bytes(
    uri: str, files: Iterable[DataFile], storage_options: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """Return the columns that stand in a dataset's files, each with the bytes that it takes in all of them.

    Raises
    ------
    StorageError
        If a footer cannot be read.
    """
    found: dict[str, int] = {}
    for file in files:
        footer = read_footer(uris.join(uri, file.path), storage_options)
        for name in footer.columns:
            taken = sum(r.length for g in range(len(footer.group_rows)) for r in footer.ranges(g, [name]))
            found[name] = found.get(name, 0) + taken
    return found
