"""Names of data types as definitions write them: ``Int64``, ``Datetime(us, UTC)``, ``List(String)``, ``Enum(low, high)``.

Categories and field names that are not plain words are written as JSON strings: ``Enum("a, b", "c (d)")``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from numbers import Integral, Rational, Real
from typing import Any, NoReturn

import polars as pl

from lazypipe.errors import closest, nearest

__all__ = [
    "dtype_from_name",
    "dtype_name",
    "inner_types",
    "instance_of",
    "is_hollow",
    "is_pattern",
    "parts",
    "with_names",
]

_PLAIN: dict[str, pl.DataType] = {
    t.__name__.lower(): t()
    for t in (
        pl.Int8,
        pl.Int16,
        pl.Int32,
        pl.Int64,
        pl.Int128,
        pl.UInt8,
        pl.UInt16,
        pl.UInt32,
        pl.UInt64,
        pl.UInt128,
        pl.Float16,
        pl.Float32,
        pl.Float64,
        pl.Boolean,
        pl.String,
        pl.Binary,
        pl.Date,
        pl.Time,
        pl.Categorical,
        pl.Null,
    )
} | {"datetime": pl.Datetime("us"), "duration": pl.Duration("us")}

# the names that SQL users type
_ALIASES = {
    "int": "int64",
    "integer": "int64",
    "bigint": "int64",
    "smallint": "int16",
    "float": "float64",
    "double": "float64",
    "real": "float32",
    "bool": "boolean",
    "str": "string",
    "utf8": "string",
    "text": "string",
    "varchar": "string",
    "timestamp": "datetime",
    "bytes": "binary",
}
_FORMS = {
    "Decimal": "Decimal(10, 2)",
    "Datetime": "Datetime(us, UTC)",
    "Duration": "Duration(ms)",
    "List": "List(Int64)",
    "Struct": "Struct(a: Int64, b: String)",
    "Enum": "Enum(low, high)",
    "Array": "Array(Float64, 3)",
    "Map": "Map(String, Int64)",
}


def dtype_from_name(name: str) -> pl.DataType:
    """Return the Polars type of a written name; case does not matter.

    Raises
    ------
    ValueError
        If there is no such type; the message says the nearest.

    Examples
    --------
    >>> dtype_from_name("int64"), dtype_from_name("Decimal(10, 2)"), dtype_from_name("List(String)")
    (Int64, Decimal(precision=10, scale=2), List(String))
    """
    text = name.strip()
    call = re.fullmatch(r"(\w+)\s*\((.*)\)", text, re.DOTALL)
    if call is None:
        key = text.lower()
        found = _PLAIN.get(_ALIASES.get(key, key))
        if found is None:
            if form := _form(text):
                raise ValueError(f"the type {text!r} needs arguments; write it as {form}")
            known = [str(t).split("(")[0] for t in _PLAIN.values()]
            raise ValueError(f"unknown type {text!r}; {nearest(text, {*known, *_ALIASES, *_FORMS}, 'types')}")
        return found
    try:
        return _parametrized(call[1].lower(), _split(call[2], ","))
    except (ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        if "; " in str(error):
            raise  # it says what to write already
        form = _form(call[1])
        hint = f"write it as {form}" if form else nearest(call[1], _FORMS, "types with arguments")
        raise ValueError(f"cannot read the type {text!r}; {hint}") from error


def _form(head: str) -> str | None:
    return next((form for name, form in _FORMS.items() if name.lower() == head.lower()), None)


def _parametrized(head: str, parts: list[str]) -> pl.DataType:
    match head, parts:
        case "decimal", [precision, scale] if 0 <= int(scale) <= int(precision) <= 38 and int(precision):
            return pl.Decimal(int(precision), int(scale))
        case "datetime", [unit]:
            return pl.Datetime(_unit(unit))
        case "datetime", [unit, zone]:
            return pl.Datetime(_unit(unit), _zone(zone))
        case "duration", [unit]:
            return pl.Duration(_unit(unit))
        case "list", [inner]:
            return pl.List(dtype_from_name(inner))
        case "array", [inner, size] if 0 <= int(size) < 2**31:
            return pl.Array(dtype_from_name(inner), int(size))
        case "map", [key, value]:
            return pl.Map(dtype_from_name(key), dtype_from_name(value))
        case "enum", _:
            words = [_read_word(p) for p in parts]
            return pl.Enum(words) if len(set(words)) == len(words) else _refuse()
        case "struct", _:
            pairs = [_split(part, ":") for part in parts]
            fields = {_read_word(name): dtype_from_name(":".join(rest) or _refuse()) for name, *rest in pairs}
            if len(fields) < len(pairs):
                _refuse()
            return pl.Struct(fields)
    return _refuse()


def _refuse() -> NoReturn:
    raise ValueError("not of the form")


def dtype_name(dtype: pl.DataType) -> str:
    """Write a type so that ``dtype_from_name`` reads it back.

    Examples
    --------
    >>> dtype_name(pl.Datetime("us", "UTC")), dtype_name(pl.List(pl.Int8()))
    ('Datetime(us, UTC)', 'List(Int8)')
    """
    match dtype:
        case pl.Datetime():
            zone = f", {dtype.time_zone}" if dtype.time_zone else ""
            return f"Datetime({dtype.time_unit}{zone})"
        case pl.Duration():
            return f"Duration({dtype.time_unit})"
        case pl.Decimal():
            return f"Decimal({dtype.precision}, {dtype.scale})"
        case pl.Array():
            return f"Array({dtype_name(instance_of(dtype.inner))}, {dtype.size})"
        case pl.List():
            return f"List({dtype_name(instance_of(dtype.inner))})"
        case pl.Map():
            return f"Map({dtype_name(instance_of(dtype.key))}, {dtype_name(instance_of(dtype.value))})"
        case pl.Enum():
            return f"Enum({', '.join(map(_write_word, dtype.categories))})"
        case pl.Struct():
            fields = (f"{_write_word(f.name)}: {dtype_name(instance_of(f.dtype))}" for f in dtype.fields)
            return f"Struct({', '.join(fields)})"
        case _:
            return type(dtype).__name__


def inner_types(source: pl.DataType, target: pl.DataType) -> list[tuple[pl.DataType, pl.DataType]]:
    """Pair the types within one type with those within another: of lists and arrays their elements', of structs those of the fields that both have.

    Examples
    --------
    >>> inner_types(pl.List(pl.Int8()), pl.Array(pl.String(), 2))
    [(Int8, String)]
    """
    match source, target:
        case ((pl.List() | pl.Array()), (pl.List() | pl.Array())):
            return [(instance_of(source.inner), instance_of(target.inner))]
        case pl.Struct(), pl.Struct():
            there = {f.name: instance_of(f.dtype) for f in target.fields}
            return [(instance_of(f.dtype), there[f.name]) for f in source.fields if f.name in there]
    return []


def parts(dtype: pl.DataType) -> Iterator[pl.DataType]:
    """Yield a type, and those within it if it is a list, an array or a struct.

    Examples
    --------
    >>> [*parts(pl.List(pl.Struct({"x": pl.Int8()})))]
    [List(Struct({'x': Int8})), Struct({'x': Int8}), Int8]
    """
    yield dtype
    match dtype:
        case pl.List() | pl.Array():
            yield from parts(instance_of(dtype.inner))
        case pl.Struct():
            for field in dtype.fields:
                yield from parts(instance_of(field.dtype))
        case _:
            pass


def is_hollow(dtype: pl.DataType) -> bool:
    """Whether a type is, or holds, a struct without fields, which Parquet has no way to write.

    Examples
    --------
    >>> is_hollow(pl.List(pl.Struct({}))), is_hollow(pl.Struct({"x": pl.Int8()}))
    (True, False)
    """
    return any(isinstance(part, pl.Struct) and not part.fields for part in parts(dtype))


def instance_of(dtype: object) -> pl.DataType:
    """Return a type as an instance: types inside of others may be classes."""
    made = dtype() if isinstance(dtype, type) else dtype
    assert isinstance(made, pl.DataType)
    return made


def is_pattern(name: str) -> bool:
    """Whether Polars reads the name of a column as a pattern of names.

    Examples
    --------
    >>> is_pattern("*"), is_pattern("^a$"), is_pattern("a*")
    (True, True, False)
    """
    return name == "*" or (name.startswith("^") and name.endswith("$"))


def with_names(value: Any) -> Any:
    """Return arguments of operations and rules with the names of data types in the place of types, which only Python has.

    Numbers of NumPy become numbers of Python, its arrays lists, and members of enumerations that are texts or numbers just these. Arguments of
    Python functions stay what they are.

    Examples
    --------
    >>> from enum import StrEnum
    >>> with_names({"cast": {"a": pl.Int8, "b": pl.List(pl.String)}})
    {'cast': {'a': 'Int8', 'b': 'List(String)'}}
    >>> with_names([StrEnum("Action", ["warn"]).warn])
    ['warn']
    """
    if isinstance(value, pl.DataType) or (isinstance(value, type) and issubclass(value, pl.DataType)):
        return dtype_name(instance_of(value))
    if isinstance(value, Mapping) and "call" not in value:
        return {with_names(k): with_names(v) for k, v in value.items()}
    if isinstance(value, list | tuple) or type(value).__name__ == "ndarray":
        return [with_names(v) for v in value]
    if isinstance(value, str):
        return str.__str__(value)  # an enumeration's own says its name
    if isinstance(value, int | float):
        return value if isinstance(value, bool) else value.__int__() if isinstance(value, int) else value.__float__()
    if not isinstance(value, Real):
        return value
    # what NumPy has, which is not imported for it
    return int(value) if isinstance(value, Integral) else value if isinstance(value, Rational) else float(value)


def _unit(text: str) -> pl._typing.TimeUnit:
    for unit in ("ms", "us", "ns"):
        if text == unit:
            return unit
    raise ValueError(text)


def _zone(name: str) -> str:
    try:
        pl.select(pl.lit(0).cast(pl.Datetime("us", name)))
    except pl.exceptions.PolarsError:
        from zoneinfo import available_timezones

        places = [n for n in available_timezones() if "/" in n]  # no other: EST is not what is meant by CEST
        meant = closest(name, places)
        fix = "write one such as UTC or Europe/Berlin" if meant is None else f"did you mean {meant!r}?"
        raise ValueError(f"unknown time zone {name!r}; {fix}") from None
    return name


_WORD = re.compile(r'[^\s"\\(),:]+(?: [^\s"\\(),:]+)*')


def _write_word(text: str) -> str:
    return text if _WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _read_word(text: str) -> str:
    if not text.startswith('"'):
        return text or _refuse()
    word = json.loads(text)
    assert isinstance(word, str)
    return word


_PART = re.compile(r'"(?:[^"\\]|\\.)*"|.', re.DOTALL)


def _split(text: str, separator: str) -> list[str]:
    """Split at separators that stand outside brackets and quotes."""
    parts, depth = [""], 0
    for part in _PART.findall(text):
        depth += {"(": 1, ")": -1}.get(part, 0)
        if part == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += part
    return [p.strip() for p in parts] if text.strip() else []
