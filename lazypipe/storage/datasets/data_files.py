"""The data files of a dataset as rows, with the names and types of the dataset's columns, however each file stores them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from lazypipe.spec.model import freeze
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.units import UNIT
from lazypipe.storage.files import FileInfo
from lazypipe.storage.optimizer.forms import (
    WIDENS,
    Form,
    odd_columns,
    physical_schema,
    restore,
    scan_schema,
    without_keys,
)
from lazypipe.storage.scan import FILE_COLUMN, Reader

__all__ = ["find_odd", "scan_files"]


def scan_files(
    uri: str,
    files: Sequence[DataFile],
    schema: pl.Schema,
    partition_by: tuple[str, ...],
    storage_options: Mapping[str, Any],
    *,
    tagged: bool = False,
    units: Collection[int] | None = None,
    tags: bool = False,
    file_column: bool = False,
) -> pl.LazyFrame:
    """Return a lazy scan of data files under ``uri``; partition columns come from the folders, with their types.

    Of ``tagged`` files, just the rows of ``units`` are read, if they are given; the column with them shows if ``tags`` is set.
    With ``file_column``, each row carries its data file's URI in ``_lazypipe_file``.
    """
    extra = {**({UNIT: pl.UInt64()} if tags else {}), **({FILE_COLUMN: pl.String()} if file_column else {})}
    seen: dict[str, pl.DataType] = {**schema, **extra}
    if not files:
        return pl.LazyFrame(schema=seen)
    if tagged:
        inside = pl.Schema({**schema, UNIT: pl.UInt64()})
        frame = scan_files(uri, files, inside, partition_by, storage_options, file_column=file_column)
        if units is not None:
            frame = frame.filter(pl.col(UNIT).is_in(pl.Series(sorted(units), dtype=pl.UInt64).implode()))
        return frame.select(*seen)
    alike: dict[tuple[tuple[str, ...], Mapping[str, Form]], list[DataFile]] = {}
    for file in files:
        by = partition_by if file.layout is None else file.layout.partition_by
        forms = {} if file.layout is None else without_keys(file.layout.forms, by)
        alike.setdefault((by, freeze(forms)), []).append(file)
    parts = []
    for (by, written), group in alike.items():
        names = [uris.join(uri, f.path) for f in group]
        odd = {n for f in group for n in (written if f.odd is None else f.odd)}
        parts.append(_scan_alike(names, schema, by, written, odd, storage_options, file_column=file_column))
    return parts[0] if len(parts) == 1 else pl.concat(parts)


def _scan_alike(
    names: list[str],
    schema: pl.Schema,
    partition_by: tuple[str, ...],
    forms: Mapping[str, Form],
    odd: Collection[str],
    storage_options: Mapping[str, Any],
    *,
    file_column: bool,
) -> pl.LazyFrame:
    """Return a lazy scan of files that are all read in the same way."""
    keys = {name: schema[name] for name in partition_by}
    native = uris.is_native(names[0]) and (not keys or hive.is_plain(keys, names))
    if native:
        # a schema of many columns takes as long to make as the scan itself
        inside = scan_schema(schema, forms, odd) if forms else schema
        frame = pl.scan_parquet(
            names,
            schema={n: t for n, t in inside.items() if n not in keys},  # so that no file is opened to learn it
            glob=False,
            hive_partitioning=bool(keys),
            hive_schema=keys or None,
            storage_options=uris.polars_options(names[0], storage_options),
            include_file_paths=FILE_COLUMN if file_column else None,
            cast_options=WIDENS if forms else None,
        )
    else:
        frame = Reader("parquet", storage_options=storage_options).scan(
            [FileInfo(n, None) for n in names], physical_schema(schema, forms), keys=keys, file_column=file_column
        )
    frame = restore(frame, schema, forms, odd=odd, widened=native)
    if native and not keys:
        return frame  # columns stand in their order
    return frame.select(*schema, *((FILE_COLUMN,) if file_column else ()))


def find_odd(
    uri: str,
    files: Iterable[DataFile],
    schema: pl.Schema,
    storage_options: Mapping[str, Any] | None = None,
    *,
    tagged: bool = False,
) -> tuple[DataFile, ...]:
    """Return data files with their odd columns: those with values that do not fit the form which they are written in.

    ``tagged`` tells whether rows in the files carry their unit. Reads only the columns with such values, which are next to nothing where there are none.
    """
    found = []
    for file in files:
        if file.layout is None or not (forms := without_keys(file.layout.forms, file.layout.partition_by)):
            found.append(file)
            continue
        by = file.layout.partition_by
        inside = physical_schema({**schema, **({UNIT: pl.UInt64()} if tagged else {})}, forms)
        inside = pl.Schema({n: t for n, t in inside.items() if n not in by})
        source = FileInfo(uris.join(uri, file.path), None)
        frame = Reader("parquet", storage_options=storage_options or {}).scan([source], inside, keys={})
        row = frame.select(odd_columns(forms)).collect(engine="streaming").row(0, named=True)
        found.append(replace(file, odd=tuple(n for n, is_odd in row.items() if is_odd)))
    return tuple(found)
