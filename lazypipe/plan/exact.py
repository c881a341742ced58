"""Everything that Polars shows of a part of a plan, as text that is the same in every process: the basis for fingerprints.

Nothing is chosen here: every attribute that is not itself a part of the plan is written down, with its type. What cannot be
written so gives None, and whoever asks must take the part for one that cannot be seen into.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from types import NoneType
from typing import Any

import polars as pl
from blake3 import blake3

from lazypipe.spec.types import dtype_name, instance_of, parts

__all__ = ["Unknown", "each_value", "exact_expr", "exact_node", "text"]

_PARTS = frozenset(
    {"by", "by_column", "condition", "expr", "exprs", "falsy", "function", "idx", "index_column", "input", "input_left", "input_right",
     "inputs", "keys", "aggs", "left", "left_on", "length", "offset", "order_by", "partition_by", "predicate", "right", "right_on",
     "truthy", "arguments", "rows", "should_broadcast"}
)  # fmt: skip
"""Attributes that are parts of the plan themselves, or say nothing of what it gives; of the views in ``_OWN`` fewer."""

_OWN: Mapping[str, frozenset[str]] = {
    "DynamicGroupOptions": frozenset({"offset"}),
    "MapFunction": frozenset({"function"}),
    "Rolling": frozenset({"offset"}),
    "RollingGroupOptions": frozenset({"offset"}),
    "Slice@node": frozenset({"offset"}),
}
_COUNTED = ("partition_by", "order_by")
"""Parts that would run into each other: how many there are is written down."""


class Unknown(Exception):
    """Raised for a value whose equality with others the plan does not show, such as a Python object."""


def exact_expr(view: Any, dtype: Any) -> str | None:
    """Return what distinguishes an expression from others with the same parts, after its type, which is ``?`` if it is unknown."""
    kind = type(view).__name__
    try:
        given = "?" if dtype is None else text(dtype)
        match kind:
            case "NoneType" | "Gather":  # whether a Gather gives null out of bounds is not shown
                return None
            case "Column":
                return given
            case "Literal":
                return _literal(view.value, view.dtype)
            case "Function" if dtype is None:
                return None  # some have a type among their arguments that shows only in what they give
            case _:
                return f"{given}{kind}{_shown(view, kind)}"
    except Unknown:
        return None


def each_value(view: Any) -> tuple[tuple[Any, str], ...]:
    """Return the values of a literal that is one list, each with what tells it from others as a literal of its own.

    None of a list that holds null, or values of which the plan does not show whether they are equal.
    """
    dtype = None if view.dtype is None else instance_of(view.dtype)
    if not isinstance(dtype, pl.List):
        return ()
    values = view.value
    if type(values).__name__ == "PySeries":
        lists = pl.Series._from_pyseries(values).to_list()  # noqa: SLF001  # as Polars shows it
        values = lists[0] if len(lists) == 1 else None
    try:
        return () if values is None or None in values else tuple((v, _literal(v, dtype.inner)) for v in values)
    except Unknown:
        return ()


def exact_node(view: Any) -> str | None:
    """Return what distinguishes a node from others with the same inputs and expressions."""
    kind = type(view).__name__
    try:
        match kind:
            case "NoneType":
                return None
            case "DataFrameScan":
                return _frame(pl.DataFrame._from_pydf(view.df))  # noqa: SLF001  # as Polars shows it
            case _:
                return f"{kind}{_shown(view, 'Slice@node' if kind == 'Slice' else kind)}"
    except Unknown:
        return None


def _shown(view: Any, kind: str) -> str:
    view_type: Any = type(view)  # of Polars, which says nothing of it
    names, counted = _attributes(view_type, kind)
    said = [f"{n}={text(getattr(view, n))}" for n in names]
    said += [f"{n}={_number(getattr(view, n))}" for n in counted]
    return f"({','.join(said)})"


@cache
def _attributes(view: Any, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the attributes of a view to write down, and those to count."""
    names = [n for n in dir(view) if not n.startswith("_")]
    parts = _PARTS - _OWN.get(kind, frozenset())
    return tuple(n for n in names if n not in parts), tuple(n for n in names if n in _COUNTED)


def _number(parts: Any) -> int:
    return len(parts) if isinstance(parts, list) else int(parts is not None)


def _literal(value: Any, dtype: Any) -> str:
    if type(value).__name__ != "PySeries" and value is not None and _is_finer(dtype):
        raise Unknown(value)  # Python's times end at microseconds
    return f"{text(dtype)}Literal({text(value)})"


def _is_finer(dtype: Any) -> bool:
    """Whether values may be finer than Python shows them."""
    return any(
        isinstance(part, pl.Time) or (isinstance(part, pl.Datetime | pl.Duration) and part.time_unit == "ns")
        for part in parts(instance_of(dtype))
    )


def _frame(frame: pl.DataFrame) -> str:
    """Return what distinguishes rows in memory from others."""
    schema = ",".join(f"{text(n)}:{text(t)}" for n, t in frame.schema.items())
    if not frame.height:
        return f"Frame({schema})"
    if any(t.is_object() for t in frame.dtypes):
        raise Unknown(frame.schema)
    digest = blake3()
    for column in frame:
        digest.update(column.rechunk().to_frame().write_ipc(None, compression="uncompressed").getvalue())
    return f"Frame({schema},{frame.height},{digest.hexdigest()})"


def text(value: Any) -> str:
    """Write a value with its type.

    Raises
    ------
    Unknown
        If there is no way to write it that is the same in every process.

    Examples
    --------
    >>> text(1), text(1.0), text("1"), text(True), text([None, {"b": 2, "a": 1}])
    ('1', '1.0', '"1"', 'True', '[None,{"a":1,"b":2}]')
    """
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if kind is str:
        return _quoted(value)
    match value:
        case bytes():
            return f"bytes({value.hex()})"
        case list() | tuple():
            return "[" + ",".join(map(text, value)) + "]"
        case frozenset() | set():
            return "set(" + ",".join(sorted(map(text, value))) + ")"
        case Mapping():
            return "{" + ",".join(sorted(f"{text(k)}:{text(v)}" for k, v in value.items())) + "}"
        case datetime() | date() | time():
            zone = getattr(value, "tzinfo", None)
            return f"{type(value).__name__}({value.isoformat()}{'' if zone is None else ' ' + str(zone)}{_fold(value)})"
        case timedelta():
            return f"timedelta({value.days},{value.seconds},{value.microseconds})"
        case Decimal() | Fraction():
            return f"{type(value).__name__}({value})"
        case pl.DataType():
            return _type(value)
        case type() if issubclass(value, pl.DataType):
            return f"<{value.__name__}>"
        case _:
            return _foreign(value)


_PLAIN = frozenset({NoneType, bool, int, float})
_quoted = json.encoder.encode_basestring


@lru_cache(maxsize=512)
def _type(dtype: pl.DataType) -> str:
    return f"<{dtype_name(dtype)}>"


def _fold(value: date | time) -> str:
    return " fold" if getattr(value, "fold", 0) else ""


_MEMBER = re.compile(r"\w+\.\w+")
_RECORDS = frozenset({"DynamicGroupOptions", "GroupbyOptions", "PyFileOptions", "RollingGroupOptions", "WindowMapping"})


def _foreign(value: Any) -> str:
    """Write a value that Polars shows in a form of its own."""
    name = type(value).__name__
    if name == "PySeries":
        return _frame(pl.Series._from_pyseries(value).alias("").to_frame())  # noqa: SLF001  # as Polars shows it
    if name in _RECORDS:
        return f"{name}{_shown(value, name)}"
    if type(value).__module__ == "builtins" and _MEMBER.fullmatch(said := str(value)):
        return said
    raise Unknown(value)
