"""Values as Polars prints them in plans: names of functions, literals, durations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import polars as pl

__all__ = ["duration", "function_name", "literal", "plain"]

_FAMILIES = {
    "Array": "arr", "Boolean": "", "Ewm": "ewm", "List": "list", "Rolling": "rolling", "String": "str", "Struct": "struct",
    "Temporal": "dt",
}  # fmt: skip


def function_name(shown: Any) -> str:
    """Return the name of a function as users write it, near enough.

    Examples
    --------
    >>> function_name("StringFunction.LenChars"), function_name("hash")
    ('str.len_chars', 'hash')
    """
    family, dot, name = str(shown).partition(".")
    if not dot:
        return family
    prefix = _FAMILIES.get(re.sub(r"Function(By)?$", "", family), "")
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return f"{prefix}.{snake}" if prefix else snake


def plain(value: Any) -> Any:
    """Return an option as a plain value; as text, where it is something else."""
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def duration(parts: Sequence[Any]) -> str:
    """Return a duration as Polars writes it, from (months, weeks, days, nanoseconds, negative, …).

    Examples
    --------
    >>> duration((0, 0, 2, 0, True, False))
    '-2d'
    """
    *units, negative, _ = parts
    text = "".join(f"{n}{unit}" for n, unit in zip(units, ("mo", "w", "d", "ns"), strict=True) if n)
    return ("-" if negative else "") + (text or "0ns")


_SHOWN = 20
"""Values of a long literal that are kept."""


def literal(value: Any) -> str:
    """Return a literal as SQL writes it; of many values, the first and how many.

    Examples
    --------
    >>> literal("it's"), literal([1, None])
    ("'it''s'", '(1, NULL)')
    """
    if type(value).__name__ == "PySeries":
        values = pl.Series._from_pyseries(value).to_list()  # noqa: SLF001  # as Polars shows it
    elif isinstance(value, list):
        values = value
    else:
        return _sql(value)
    shown = ", ".join(_sql(v) for v in values[:_SHOWN])
    return f"({shown}, … {len(values)} values)" if len(values) > _SHOWN else f"({shown})"


def _sql(value: Any) -> str:
    if isinstance(value, list):
        return literal(value)
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"
