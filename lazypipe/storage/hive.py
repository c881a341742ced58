"""Hive folders: partition values in folder names, ``day=2013-01-01/origin=JFK/``, written and read back."""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from urllib.parse import quote, unquote

import polars as pl

__all__ = ["NAME_BYTES", "as_literals", "can_name", "folders", "is_plain", "is_too_long", "types", "values"]

NAME_BYTES = 255
"""How long the name of a folder may be on nearly all file systems."""

_NULL = "__HIVE_DEFAULT_PARTITION__"  # as Hive, Spark and Polars write it
_NULL_AS_TEXT = "%5F" + _NULL[1:]
_NAMING = (pl.String, pl.Boolean, pl.Date, pl.Datetime, pl.Categorical, pl.Enum)
_NOT_IN_NAMES = re.compile(r"[%/=\\?#*\[\]{}\x00-\x1f]")


def can_name(dtype: pl.DataType) -> bool:
    """Whether values of a type can be names of folders, and be read back from them as they were.

    Examples
    --------
    >>> can_name(pl.Date()), can_name(pl.Float64()), can_name(pl.Duration("us"))
    (True, False, False)
    """
    return dtype.is_integer() or isinstance(dtype, _NAMING)


def is_too_long(error: BaseException) -> bool:
    """Whether a file or folder could not be made because of how long its name is, as Python or Polars says it.

    Examples
    --------
    >>> is_too_long(OSError(errno.ENAMETOOLONG, "File name too long")), is_too_long(OSError(errno.ENOSPC, "disk full"))
    (True, False)
    """
    code = errno.ENAMETOOLONG
    return isinstance(error, OSError) and (error.errno == code or f"(os error {code})" in str(error))


def folders(names: Sequence[str], texts: Sequence[str | None]) -> str:
    """Return the folders of partition values, each with a slash behind it.

    Examples
    --------
    >>> folders(["day", "to"], ["2013-01-01", "A/B"]), folders(["to"], [None])
    ('day=2013-01-01/to=A%2FB/', 'to=__HIVE_DEFAULT_PARTITION__/')
    """
    return "".join(f"{_encoded(n)}={_value(t)}/" for n, t in zip(names, texts, strict=True))


def _encoded(name: str) -> str:
    # engines take the names of columns as they stand, so only what cannot stand in a folder's name is encoded
    return _NOT_IN_NAMES.sub(lambda m: f"%{ord(m[0]):02X}", name)


def _value(text: str | None) -> str:
    if text is None:
        return _NULL
    return _NULL_AS_TEXT if text == _NULL else quote(text, safe="")


def values(path: str) -> dict[str, str | None]:
    """Return the texts that the folders right above a file stand for, by column; None is a null.

    Examples
    --------
    >>> values("run=7/out/day=2013-01-01/to=A%2FB/x.parquet")
    {'day': '2013-01-01', 'to': 'A/B'}
    """
    if "=" not in path:
        return {}
    parts = itertools.takewhile(lambda part: "=" in part, reversed(path.split("/")[:-1]))
    pairs = [part.split("=", 1) for part in parts][::-1]
    return {unquote(n): None if t == _NULL else unquote(t) for n, t in pairs}


def is_plain(names: Collection[str], paths: Iterable[str]) -> bool:
    """Whether Polars reads the folders as they are meant: only those of ``names``, none of which is odd, and no false null.

    An empty text, ``k=/``, is a null to Polars where the column is not a String.
    """
    return not any(_NOT_IN_NAMES.search(n) for n in names) and not any(
        _NULL_AS_TEXT in p or "=/" in p or sum("=" in part for part in p.split("/")[:-1]) != len(names) for p in paths
    )


def types(paths: Sequence[str]) -> pl.Schema:
    """Guess the types of the columns in folders from all their values, as Polars does."""
    found: dict[str, list[str]] = {}
    for path in (p for p in paths if "=" in p):
        for name, text in values(path).items():
            found.setdefault(name, []).append(re.sub(r"[\r\n]", " ", text or ""))
    schema = pl.Schema()
    for name, texts in found.items():
        lines = "\n".join(["x", *texts]).encode()
        guessed = pl.read_csv(lines, separator="\x1f", quote_char=None, try_parse_dates=True, infer_schema_length=None)
        schema[name] = guessed.schema["x"]
    return schema


def as_literals(path: str, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """Return the values of a file's folders as literals of their types, for the columns in ``schema``."""
    found = values(path)
    return [_parse(pl.lit(found[n], dtype=pl.String), t).alias(n) for n, t in schema.items()]


def _parse(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Turn the text of a value, as Polars writes it, back into the value."""
    match dtype:
        case pl.Date():
            return text.str.to_date(strict=True)
        case pl.Datetime(time_zone=None):
            return text.str.to_datetime(time_unit=dtype.time_unit, strict=True)
        case pl.Datetime():
            utc = text.str.to_datetime(format="%Y-%m-%d %H:%M:%S%.f%z", time_unit=dtype.time_unit, strict=True)
            return utc.dt.convert_time_zone(str(dtype.time_zone))
        case pl.Boolean():
            return text.replace_strict({"true": True, "false": False}, return_dtype=pl.Boolean)
        case _:
            return text.cast(dtype)
