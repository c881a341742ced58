"""The formats of files: what is known of each, whoever reads or writes it. How rows are read stands in ``scan.py`` and ``external_content.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

__all__ = ["FORMATS", "TEXT_FORMATS", "TYPED_FORMATS", "FileFormat", "format_of"]


@dataclass(frozen=True)
class FileFormat:
    """What is known of a format.

    ``endings`` are those of file names; ``name`` is what people call it, and ``called`` what OpenLineage does. Files that know their types begin and
    end with their ``magic``; all others are text, in lines. ``lacks`` are types that it has no way to write.
    """

    name: str
    called: str
    endings: tuple[str, ...]
    sink: Callable[..., pl.LazyFrame]
    magic: bytes = b""
    lacks: tuple[type[pl.DataType], ...] = ()


FORMATS: Mapping[str, FileFormat] = {
    "parquet": FileFormat("Parquet", "parquet", (".parquet", ".pq"), pl.LazyFrame.sink_parquet, b"PAR1"),
    "csv": FileFormat(
        "CSV",
        "csv",
        (".csv", ".csv.gz", ".csv.zst"),
        pl.LazyFrame.sink_csv,
        lacks=(pl.List, pl.Array, pl.Struct, pl.Binary, pl.Duration),
    ),
    "ndjson": FileFormat(
        "NDJSON",
        "json",
        (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".ndjson.zst", ".jsonl.zst"),
        pl.LazyFrame.sink_ndjson,
        lacks=(pl.Binary,),
    ),
    "ipc": FileFormat("Arrow IPC", "arrow", (".arrow", ".ipc", ".feather"), pl.LazyFrame.sink_ipc, b"ARROW1"),
}

TEXT_FORMATS = tuple(name for name, form in FORMATS.items() if not form.magic)
"""Formats of lines, which know no types."""

TYPED_FORMATS = tuple(name for name, form in FORMATS.items() if form.magic)
"""Formats that know their types, and whose columns Polars itself takes from Hive folders."""


def format_of(name: str) -> str | None:
    """Return the format that a file name stands for, None if it does not tell.

    Examples
    --------
    >>> format_of("flights-*.csv.gz"), format_of("x.txt"), format_of("simplecache::https://example.org/x.csv")
    ('csv', None, 'csv')
    """
    links = name.lower().split("::")
    # what only wraps another one has no path of its own
    plain = next((link for link in links if not link.isidentifier()), "")
    return next((name for name, form in FORMATS.items() if plain.endswith(form.endings)), None)
