"""The formats of files, and what readers and writers need to know about each."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from lazypipe.spec.endings import ENDINGS
from lazypipe.spec.model import NOTHING

__all__ = ["FORMATS", "INFER_ROWS", "TEXT_FORMATS", "TYPED_FORMATS", "FileFormat"]

INFER_ROWS = 10_000
"""Rows of text from which types are taken."""


@dataclass(frozen=True)
class FileFormat:
    """What is known of a format.

    ``endings`` are those of file names; ``name`` is what people call it, and ``called`` what OpenLineage does. ``scan`` takes a list of names, a
    ``schema`` or None, and options of Polars. Files that know their types begin and end with their ``magic``; all others are text, in lines.
    ``lacks`` are types that it has no way to write. With the options ``loose``, its scan takes files that lack columns (which are null then), have
    further ones, and hold narrower numbers.
    """

    name: str
    called: str
    endings: tuple[str, ...]
    scan: Callable[..., pl.LazyFrame]
    sink: Callable[..., pl.LazyFrame]
    magic: bytes = b""
    lacks: tuple[type[pl.DataType], ...] = ()
    loose: Mapping[str, Any] = NOTHING


def _scan_ndjson(names: Sequence[str], **options: Any) -> pl.LazyFrame:
    # which knows patterns only: what looks like one in a name would be other files
    return pl.scan_ndjson([glob.escape(name) for name in names], infer_schema_length=INFER_ROWS, **options)


def _scan_ipc(names: Sequence[str], *, schema: pl.Schema | None = None, **options: Any) -> pl.LazyFrame:
    del schema  # it asks the files alone
    return pl.scan_ipc(list(names), glob=False, **options)


FORMATS: Mapping[str, FileFormat] = {
    "parquet": FileFormat(
        "Parquet",
        "parquet",
        ENDINGS["parquet"],
        partial(pl.scan_parquet, glob=False),
        pl.LazyFrame.sink_parquet,
        b"PAR1",
        loose={
            "missing_columns": "insert",
            "extra_columns": "ignore",
            "cast_options": pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast"),
        },
    ),
    "csv": FileFormat(
        "CSV",
        "csv",
        ENDINGS["csv"],
        partial(pl.scan_csv, glob=False, raise_if_empty=True),
        pl.LazyFrame.sink_csv,
        lacks=(pl.List, pl.Array, pl.Struct, pl.Binary, pl.Duration),
    ),
    "ndjson": FileFormat(
        "NDJSON",
        "json",
        ENDINGS["ndjson"],
        _scan_ndjson,
        pl.LazyFrame.sink_ndjson,
        lacks=(pl.Binary,),
    ),
    "ipc": FileFormat("Arrow IPC", "arrow", ENDINGS["ipc"], _scan_ipc, pl.LazyFrame.sink_ipc, b"ARROW1"),
}

TEXT_FORMATS = tuple(name for name, form in FORMATS.items() if not form.magic)
"""Formats of lines, which know no types."""

TYPED_FORMATS = tuple(name for name, form in FORMATS.items() if form.magic)
"""Formats that know their types, and whose columns Polars itself takes from Hive folders."""
