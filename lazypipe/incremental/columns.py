"""The columns that each file has, recorded with what was consumed, so that unchanged files need not be opened again.

What decides is what decides over changes (``changes.py``): name, size and a stamp that proves something. It is a value in the output's own commit, as
all else that is known of files (docs/decisions/0068-what-a-run-must-pay.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import polars as pl

from lazypipe.compile.sources.source import BoundSource, Recalled
from lazypipe.errors import LazypipeError
from lazypipe.incremental.before import CONSUMED, own_commit
from lazypipe.incremental.changes import trusted
from lazypipe.incremental.state import Columns, Consumed
from lazypipe.plan.fingerprint import digest
from lazypipe.spec.model import Output
from lazypipe.spec.types import dtype_from_name, dtype_name
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.scan import Reader
from lazypipe.version import VERSION

__all__ = ["COLUMNS", "columns_found", "recalled"]

COLUMNS = "columns"
"""Where in what was consumed stands which columns files have."""

_LONGEST = 16_384
"""Characters of columns that a commit says again and again; of wider files, looking into one is little."""


def columns_found(source: BoundSource | None, consumed: Consumed) -> dict[str, Any] | None:
    """Return what a commit says of the columns of the files that were consumed, as far as they were looked into; None if of none.

    ``schemas`` are the different ones, ``of`` says which of these each file has, in the order of what was consumed: -1 where that is not known.
    """
    if source is None or consumed.kind != "files" or source.intake.detect != "stamp":
        return None
    proves = trusted(source.recalled.listed)
    found = {(source.redact(f.uri), f.size, f.stamp): s for f, s in source.looked.items() if proves(f.stamp)}
    schemas: list[pl.Schema] = []
    numbers: dict[int, int] = {}  # of very many files most have the very same, from before
    of = []
    for file in consumed.files:
        schema = found.get(file[:3])
        if schema is not None and id(schema) not in numbers:
            if schema not in schemas:
                schemas.append(schema)
            numbers[id(schema)] = schemas.index(schema)
        of.append(-1 if schema is None else numbers[id(schema)])
    while of and of[-1] < 0:
        of.pop()
    told = [[[n, dtype_name(t)] for n, t in schema.items()] for schema in schemas]
    if not of or len(str(told)) > _LONGEST or [*map(_read, told)] != schemas:
        return None
    return {"by": _by(source.reader), "schemas": told, "of": of}


def recalled(outputs: Mapping[str, Output], listed: int) -> Callable[[BoundSource], Recalled]:
    """Return a function that looks up which columns a source's files had, in the last commits of local outputs (remote ones would cost requests).

    ``listed`` is from when on files are looked into now, in nanoseconds since 1970.
    """
    said: list[Mapping[str, Any]] = []
    for name, output in outputs.items():
        if output.format == "dataset" and uris.is_local(output.to):
            with suppress(LazypipeError):  # damage is reported when the work for the output is decided
                commit = own_commit(Dataset(output.to, output.storage_options).latest(), name, output)
                said.append({} if commit is None else commit.info.get(CONSUMED, {}))

    def of(source: BoundSource) -> Recalled:
        found: dict[tuple[str, int | None, str | None], pl.Schema] = {}
        for one in said:
            with suppress(
                KeyError, TypeError, ValueError, AttributeError
            ):  # it has another form, or is from another version
                found |= _known(one, source)
        return Recalled(found, listed)

    return of


def _known(said: Mapping[str, Any], source: BoundSource) -> dict[tuple[str, int | None, str | None], pl.Schema]:
    told = said.get(COLUMNS, {}).get(source.name)
    if told is None or source.intake.detect != "stamp" or told["by"] != _by(source.reader):
        return {}
    plain, schemas, of = said["sources"][source.name], [*map(_read, told["schemas"])], told["of"]
    files, proves = Consumed.from_dict(plain).files, trusted(plain["listed"])
    # of very many files mostly the first alone was looked into
    some = files.first(len(of)) if isinstance(files, Columns) else ()
    return {
        file[:3]: schemas[number] for number, file in zip(of, some, strict=False) if number >= 0 and proves(file.stamp)
    }


def _read(schema: Sequence[Sequence[str]]) -> pl.Schema:
    return pl.Schema({n: dtype_from_name(t) for n, t in schema})


def _by(reader: Reader) -> str:
    """Return what decides over which columns a file is found to have, besides the file, as one hash."""
    declared = [[n, dtype_name(t)] for n, t in reader.declared.items()]
    read = [[n, repr(v)] for n, v in sorted(reader.read.items())]
    return digest(reader.format, declared, read, str(reader.by_row), VERSION, pl.__version__)
