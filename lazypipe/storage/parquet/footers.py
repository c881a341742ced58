"""Footers of Parquet files, read from the ends of files: the bytes of each column, and the range of its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import polars as pl

from lazypipe.errors import SourceError, reason_of
from lazypipe.storage import uri as uris
from lazypipe.storage.parquet.ranges import TRAILER, Footer, ParquetError, footer_length

__all__ = ["TAIL", "column_bytes", "column_range", "footer_of", "read_footer", "reading"]

TAIL = 64 * 1024
"""Bytes that are read at first: most footers are in them."""


def read_footer(file: Any) -> Footer:
    """Read the footer of an open file; raises ParquetError if it has none."""
    file.seek(0, 2)
    size = file.tell()  # what ``seek`` returns is nothing over SFTP
    file.seek(max(0, size - TAIL))
    tail = file.read()
    length = footer_length(tail)
    if length + TRAILER > size:
        raise ParquetError("the file does not end as a Parquet file does: it is truncated, or not Parquet")
    if length + TRAILER > len(tail):
        file.seek(size - length - TRAILER)
        tail = file.read()
    return Footer(tail[-length - TRAILER : -TRAILER], data_end=size - length - TRAILER)


def footer_of(uri: str, storage_options: Mapping[str, Any] | None) -> Footer:
    """Read the footer of a file; raises ParquetError if it has none, and the store's own errors."""
    with uris.opened(uri, storage_options, block_size=TAIL) as file:
        return read_footer(file)


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Name the file that is read within the ``with``, in a SourceError, whatever a store raises of it, or if it is no Parquet."""
    try:
        yield
    except Exception as error:
        fix = "check the path, permissions and network, or deliver it again"
        raise SourceError(f"cannot be read: {reason_of(error)}", uri=uri, fix=fix) from error


def column_bytes(names: Iterable[str], storage_options: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Return the bytes that the columns of files take, as they stand there, by their footers.

    Raises
    ------
    SourceError
        If a file cannot be read, or is not Parquet.
    """
    found: dict[str, int] = {}
    for uri in names:
        with reading(uri):
            footer = footer_of(uri, storage_options)
            for name in footer.columns:
                ranges = (r for n in range(len(footer.group_rows)) for r in footer.ranges(n, [name]))
                found[name] = found.get(name, 0) + sum(r.length for r in ranges)
    return found


def column_range(
    uri: str, column: str, dtype: pl.DataType, storage_options: Mapping[str, Any] | None = None
) -> tuple[Any, Any] | None:
    """Return the least and the greatest value of a Parquet file's column as its footer says them, physical; None if it does not.

    A column without any value has ``(None, None)``.

    Raises
    ------
    SourceError
        If the file cannot be read, or is not Parquet.
    """
    from lazypipe.storage.parquet.prune import Bounds, column_bounds

    with reading(uri):
        footer = footer_of(uri, storage_options)
        if column not in footer.columns:
            return None
        found = column_bounds(footer, column, dtype) if footer.group_rows else Bounds(None, None, 0, 0)
    return None if found is None or (found.low is None and not found.all_null) else (found.low, found.high)
