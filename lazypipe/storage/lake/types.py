"""Delta Lake's types and Polars' types, and which columns a Delta table cannot hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from lazypipe.errors import StorageError
from lazypipe.spec.types import instance_of

__all__ = ["Misfit", "is_naive", "misfits", "schema_string", "to_polars"]

_PLAIN: Mapping[pl.DataType, str] = {
    pl.String(): "string",
    pl.Int64(): "long",
    pl.Int32(): "integer",
    pl.Int16(): "short",
    pl.Int8(): "byte",
    pl.Float32(): "float",
    pl.Float64(): "double",
    pl.Boolean(): "boolean",
    pl.Binary(): "binary",
    pl.Date(): "date",
    pl.Datetime("us"): "timestamp_ntz",
}
_BACK: Mapping[str, pl.DataType] = {name: dtype for dtype, name in _PLAIN.items()} | {
    "timestamp": pl.Datetime("us", "UTC")
}
_WIDER: Mapping[pl.DataType, str] = {
    pl.UInt8(): "Int16",
    pl.UInt16(): "Int32",
    pl.UInt32(): "Int64",
    pl.UInt64(): "Int64, or Decimal(20, 0) where values are larger",
    pl.Int128(): "Int64 or Decimal(38, 0)",
    pl.UInt128(): "Int64 or Decimal(38, 0)",
    pl.Float16(): "Float32",
    pl.Time(): "String, or Int64 (nanoseconds since midnight)",
    pl.Null(): "the type that its values would have",
}
_NOT_IN_NAMES = re.compile(r"[ ,;{}()\n\t=]")
"""What a column's name cannot have in a table without column mapping."""


class Misfit(NamedTuple):
    """A column that a Delta table cannot hold: why, and what to write instead."""

    column: str
    what: str
    fix: str


def misfits(schema: Mapping[str, pl.DataType], partition_by: Sequence[str] = ()) -> Iterator[Misfit]:
    """Yield what keeps rows with these columns from being a Delta table.

    Examples
    --------
    >>> [f"{m.what}; {m.fix}" for m in misfits({"n": pl.UInt32(), "x": pl.Int64()})]
    ["a Delta table cannot hold column 'n' (UInt32); cast it to Int64"]
    """
    alike: dict[str, str] = {}
    for name, dtype in schema.items():
        for path, inner in _inner(name, dtype):
            if (why := _unfit(inner)) is not None:
                shown = f"column {name!r} ({dtype})" if path == name else f"{path!r} ({inner}) in column {name!r}"
                yield Misfit(name, f"a Delta table cannot hold {shown}", f"cast it to {why}")
            if path != name and (found := _NOT_IN_NAMES.search(path.rpartition(".")[2])):
                yield Misfit(name, f"a Delta table cannot have {found[0]!r} in the name of field {path!r}", "rename it")
        if found := _NOT_IN_NAMES.search(name):
            fix = f"rename it, such as to {_NOT_IN_NAMES.sub('_', name)!r}"
            yield Misfit(name, f"a Delta table cannot have {found[0]!r} in the name of column {name!r}", fix)
        other = alike.setdefault(name.lower(), name)
        if other != name:
            what = f"a Delta table cannot tell columns {other!r} and {name!r} apart"
            yield Misfit(name, what, "rename one of them: upper and lower case are the same there")
    for name in partition_by:
        if name in schema and (schema[name].is_float() or schema[name] in (pl.Binary, pl.Decimal)):
            what = f"a Delta table cannot have partitions by column {name!r} ({schema[name]})"
            yield Misfit(name, what, "choose a column of whole numbers, text or dates")
    if schema and set(schema) <= set(partition_by):
        what = "a Delta table cannot have partitions by all of its columns"
        yield Misfit(next(iter(schema)), what, "leave one of them out of partition_by")


def _inner(path: str, dtype: pl.DataType) -> Iterator[tuple[str, pl.DataType]]:
    """Yield a type, or those inside it, each with its path."""
    match dtype:
        case pl.List():
            yield from _inner(path, instance_of(dtype.inner))
        case pl.Struct() if dtype.fields:
            for field in dtype.fields:
                yield from _inner(f"{path}.{field.name}", instance_of(field.dtype))
        case pl.Map():
            yield from _inner(f"{path}.key", instance_of(dtype.key))
            yield from _inner(f"{path}.value", instance_of(dtype.value))
        case _:
            yield path, dtype


def _unfit(dtype: pl.DataType) -> str | None:
    """Return what to cast a type to that Delta lacks; None if it has it."""
    if dtype in _PLAIN or isinstance(dtype, pl.Decimal):
        return None
    match dtype:
        case pl.Datetime(time_unit="ns"):
            return str(pl.Datetime("us", dtype.time_zone))
        case pl.Datetime() | pl.Categorical():
            return None
        case pl.Duration():
            return f"Int64 ({dtype.time_unit})"
        case pl.Enum():
            return "String"
        case pl.Array():
            return str(pl.List(dtype.inner))
        case pl.Struct():
            return "a struct with fields"
        case _:
            return _WIDER.get(dtype, "a type that Delta has")


def is_naive(schema: Mapping[str, pl.DataType]) -> bool:
    """Whether a column has times without a zone, which older readers of Delta tables do not know."""
    found = (inner for name, dtype in schema.items() for _, inner in _inner(name, dtype))
    return any(isinstance(t, pl.Datetime) and t.time_zone is None for t in found)


def schema_string(schema: Mapping[str, pl.DataType]) -> str:
    """Return the columns as a Delta log writes them; they have no misfits.

    Examples
    --------
    >>> schema_string({"x": pl.List(pl.Int64())})
    '{"type":"struct","fields":[{"name":"x","type":{"type":"array","elementType":"long","containsNull":true},"nullable":true,"metadata":{}}]}'
    """
    return json.dumps(_struct(schema.items()), separators=(",", ":"))


def _struct(fields: Any) -> dict[str, Any]:
    named = [{"name": n, "type": _written(instance_of(t)), "nullable": True, "metadata": {}} for n, t in fields]
    return {"type": "struct", "fields": named}


def _written(dtype: pl.DataType) -> Any:
    match dtype:
        case pl.List():
            return {"type": "array", "elementType": _written(instance_of(dtype.inner)), "containsNull": True}
        case pl.Struct():
            return _struct((f.name, f.dtype) for f in dtype.fields)
        case pl.Map():
            key, value = _written(instance_of(dtype.key)), _written(instance_of(dtype.value))
            return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}
        case pl.Decimal():
            return f"decimal({dtype.precision},{dtype.scale})"
        case pl.Datetime():
            return "timestamp_ntz" if dtype.time_zone is None else "timestamp"
        case pl.Categorical():
            return "string"
        case _:
            return _PLAIN[dtype]


def to_polars(text: str, uri: str) -> pl.Schema:
    """Return the columns of a Delta table.

    Raises
    ------
    StorageError
        If one has a type that is not known.

    Examples
    --------
    >>> dict(to_polars(schema_string({"x": pl.Int64(), "at": pl.Datetime("us")}), "memory://t"))
    {'x': Int64, 'at': Datetime(time_unit='us', time_zone=None)}
    """
    try:
        return pl.Schema({f["name"]: _read(f["type"]) for f in json.loads(text)["fields"]})
    except (ValueError, KeyError, TypeError) as error:
        what = f"the Delta table has columns that cannot be read: {error}"
        raise StorageError(what, uri=uri, fix="read it with another engine, or upgrade lazypipe") from error


def _read(written: Any) -> pl.DataType:
    if isinstance(written, str):
        if found := re.fullmatch(r"decimal\((\d+), ?(\d+)\)", written):
            return pl.Decimal(int(found[1]), int(found[2]))
        if written not in _BACK:
            raise ValueError(f"type {written!r} is not known")
        return _BACK[written]
    match written["type"]:
        case "array":
            return pl.List(_read(written["elementType"]))
        case "map":
            return pl.Map(_read(written["keyType"]), _read(written["valueType"]))
        case "struct":
            return pl.Struct({f["name"]: _read(f["type"]) for f in written["fields"]})
        case other:
            raise ValueError(f"type {other!r} is not known")
