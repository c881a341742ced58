"""The formats of files: what is known of each, whoever reads or writes it. How rows are read stands in ``scan.py`` and ``external_content.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from lazypipe.spec.endings import ENDINGS

__all__ = ["FORMATS", "TEXT_FORMATS", "TYPED_FORMATS", "FileFormat"]


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
    "parquet": FileFormat("Parquet", "parquet", ENDINGS["parquet"], pl.LazyFrame.sink_parquet, b"PAR1"),
    "csv": FileFormat(
        "CSV",
        "csv",
        ENDINGS["csv"],
        pl.LazyFrame.sink_csv,
        lacks=(pl.List, pl.Array, pl.Struct, pl.Binary, pl.Duration),
    ),
    "ndjson": FileFormat(
        "NDJSON",
        "json",
        ENDINGS["ndjson"],
        pl.LazyFrame.sink_ndjson,
        lacks=(pl.Binary,),
    ),
    "ipc": FileFormat("Arrow IPC", "arrow", ENDINGS["ipc"], pl.LazyFrame.sink_ipc, b"ARROW1"),
}

TEXT_FORMATS = tuple(name for name, form in FORMATS.items() if not form.magic)
"""Formats of lines, which know no types."""

TYPED_FORMATS = tuple(name for name, form in FORMATS.items() if form.magic)
"""Formats that know their types, and whose columns Polars itself takes from Hive folders."""
