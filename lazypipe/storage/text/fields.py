"""Fields of NDJSON that no column takes: Polars' reader skips them silently, so they are looked for after a query.

What types are taken from are the first lines of files. A field that only later lines have, or only later files, would be lost with
all that stands in it.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from lazypipe.errors import SourceError
from lazypipe.spec.types import dtype_name, instance_of
from lazypipe.storage.files import FileInfo
from lazypipe.storage.scan import Reader, is_engine_error
from lazypipe.storage.text.by_row import TEXT, untold
from lazypipe.storage.text.lines import batches, sound, sound_rows
from lazypipe.storage.widen import with_fields

__all__ = ["refuse_unknown_fields"]

_CHUNK = 4096


def refuse_unknown_fields(files: Sequence[FileInfo], reader: Reader, schema: pl.Schema) -> None:
    """Raise SourceError for the first line of NDJSON with a value in a field that ``schema`` lacks; names file, line and field.

    Null fields do not count. Lines are valid JSON objects: otherwise the reader before would have failed.
    """
    by_row, known = TEXT in schema, pl.Struct(untold(schema))
    passed = (
        () if by_row else sound(files, lambda part: all(_takes_all(lines, known) for _, lines in batches(part, reader)))
    )
    for file in files:
        if file.uri in passed:
            continue
        try:
            (_refuse_by_row if by_row else _refuse)(file, reader, known)
        except OSError as error:  # it is read once more, which may fail where it did not before
            raise reader.unreadable(file, error) from error


def _refuse(file: FileInfo, reader: Reader, known: pl.Struct) -> None:
    for first, lines in batches([file], reader):
        found = None if _takes_all(lines, known) else _first_unknown(lines, known)
        if found is not None:
            row, path = found
            raise _refusal(file, first + row, path, lines[row], known)


def _refuse_by_row(file: FileInfo, reader: Reader, known: pl.Struct) -> None:
    with sound_rows(file, reader, pl.Schema()) as rows:
        while chunk := list(itertools.islice(rows, _CHUNK)):
            lines = pl.Series([text[:-1] for _, text in chunk])
            found = None if _takes_all(lines, known) else _first_unknown(lines, known)
            if found is not None:
                row, path = found
                raise _refusal(file, chunk[row][0], path, lines[row], known)


def _takes_all(lines: pl.Series, known: pl.Struct) -> bool:
    """Whether all fields of some lines are known; False also where that takes a closer look."""
    try:
        found = _types(lines.str.join("\n").item())
    except (
        BaseException
    ) as error:  # lines have types that no column could hold together, which is the reader's to judge
        if not is_engine_error(error):
            raise
        return False
    return with_fields(known, pl.Struct(found)) == known


def _types(text: str) -> pl.Schema:
    return pl.scan_ndjson(io.BytesIO(text.encode()), infer_schema_length=None).collect_schema() if text else pl.Schema()


def _first_unknown(lines: pl.Series, known: pl.Struct) -> tuple[int, tuple[str, ...]] | None:
    """Return which line is the first with a field that is not known, and the way to it."""
    for row, line in enumerate(lines):
        path = _unknown(json.loads(line), known) if line.strip() else None
        if path is not None:
            return row, path
    return None


def _unknown(value: Any, known: pl.DataType) -> tuple[str, ...] | None:
    """Return the way to the first field of a value that its type lacks, None if it has all."""
    inside: list[tuple[str, Any, pl.DataType]] = []
    match value, known:
        case dict(), pl.Struct():
            types = {f.name: instance_of(f.dtype) for f in known.fields}
            for name, part in value.items():
                if part is not None and name not in types:
                    return (name,)
            inside = [(name, part, types[name]) for name, part in value.items() if name in types]
        case dict(), pl.Map():
            inside = [(name, part, instance_of(known.value)) for name, part in value.items()]
        case list(), pl.List() | pl.Array():
            inside = [("[]", part, instance_of(known.inner)) for part in value]
    for name, part, dtype in inside:
        path = _unknown(part, dtype)
        if path is not None:
            return (name, *path)
    return None


def _refusal(file: FileInfo, line: int, path: tuple[str, ...], text: str, known: pl.Struct) -> SourceError:
    schema = {f.name: instance_of(f.dtype) for f in known.fields}
    top, name = path[0], ".".join(path).replace(".[]", "[]")
    found = _types(text)[top]
    dtype = dtype_name(with_fields(schema[top], found) if top in schema else found)
    dtype = "'" + dtype.replace("'", "''") + "'" if "," in dtype or ":" in dtype else dtype
    declared = dtype if top in schema else f"{{type: {dtype}, on_missing_column: evolve}}"
    fix = f"declare columns: {{{top}: {declared}}} in contract, or leave out what is not declared: on_new_column: discard_column"
    return SourceError(f"line {line} has a field {name!r} that no column takes", uri=file.uri, fix=fix)
