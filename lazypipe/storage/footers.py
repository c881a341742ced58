"""Reading the footer of a Parquet file, and nothing else of it."""

from __future__ import annotations

from typing import IO

from lazypipe.storage.parquet_ranges import TRAILER, Footer, ParquetError, footer_length

__all__ = ["TAIL", "read_footer"]

TAIL = 64 * 1024
"""Bytes that are read at first: most footers are in them."""


def read_footer(file: IO[bytes]) -> Footer:
    """Return the footer of an open file.

    Raises
    ------
    ParquetError
        If the file does not end as a Parquet file does, or its footer is damaged.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL))
    tail = file.read()
    length = footer_length(tail)
    if length + TRAILER > size:
        raise ParquetError("the file does not end as a Parquet file does: it is truncated, or not Parquet")
    if length + TRAILER > len(tail):
        file.seek(size - length - TRAILER)
        tail = file.read()
    return Footer(tail[-length - TRAILER : -TRAILER], data_end=size - length - TRAILER)
