"""Columns that the format of an export does not hold."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from lazypipe.spec.model import Fault, Path
from lazypipe.spec.types import dtype_name

__all__ = ["unwritable"]

_NAMES = {"csv": "CSV", "ndjson": "NDJSON"}


def unwritable(form: str, schema: pl.Schema, path: Path) -> Iterator[Fault]:
    """Return a mistake, at ``path``, for each column of an export that its format does not hold.

    Examples
    --------
    >>> [f.what for f in unwritable("csv", pl.Schema({"a": pl.Duration(), "b": pl.Int64()}), ())]
    ["CSV does not hold column 'a', which is Duration(us)"]
    """
    for name, dtype in schema.items():
        if (form == "csv" and (dtype.is_nested() or dtype in (pl.Duration, pl.Binary))) or (
            form == "ndjson" and _has_bytes(dtype)
        ):
            what = f"{_NAMES[form]} does not hold column {name!r}, which is {dtype_name(dtype)}"
            yield Fault(what, "cast, unnest or drop it in a stage, or write format: parquet", path)


def _has_bytes(dtype: object) -> bool:
    if isinstance(dtype, pl.List | pl.Array):
        return _has_bytes(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return any(_has_bytes(field.dtype) for field in dtype.fields)
    return dtype == pl.Binary
