"""Rules on text that is parsed, and on types: ``parseable``, ``is_type``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, ClassVar, Literal, get_args

import polars as pl

from lazypipe.errors import nearest
from lazypipe.gates.rule import Check, Rule
from lazypipe.gates.rules.helpers import is_text, one_of, text
from lazypipe.spec.arguments import COLUMN, TEXT, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_from_name, dtype_name

Sense = Literal["date", "datetime", "time", "integer", "number", "boolean"]


@dataclass(frozen=True)
class Parseable(Rule):
    """The whole text must be readable as a date, time, number or boolean, without white space around it. Null passes.

    Without ``format``, these are accepted:

    - ``date``: ``2013-12-31``.
    - ``time``: ``23:59``, optionally with seconds and fractions of them.
    - ``datetime``: a date, ``T`` or a space, a time, and optionally ``Z`` or an offset (``+01:00``).
    - ``integer``: decimal digits with an optional sign, within the range of Int64.
    - ``number``: also with a point and an exponent, but neither NaN nor infinite.
    - ``boolean``: ``true`` or ``false``, in upper or lower case.

    For dates, datetimes and times, ``format`` holds codes of ``strftime`` (``%d.%m.%Y``), read as Polars reads them:
    a number may lack its leading zeros. For numbers, it is a sample of the separators: ``1234.56``, ``1,234.56``,
    ``1234,56``, ``1.234,56``, ``1 234,56`` or ``1'234.56``. The thousands separators may be left out, but not
    misplaced.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"parseable": {"column": "a", "as": "date", "format": "%d.%m.%Y"}}]
    >>> lp.check(pl.DataFrame({"a": ["31.12.2013", "31.11.2013", "2013-12-31", None]}), rules).failed
    {'parseable:a': 2}
    """

    name: ClassVar[str] = "parseable"
    column: str = arg(COLUMN, "The text column to check.")
    as_: Sense = arg(choice(*get_args(Sense)), "What the text must be readable as.")
    format: str | None = arg(
        TEXT, "How the text is written, such as %d.%m.%Y or 1.234,56. Default: ISO 8601.", default=None
    )

    def __post_init__(self) -> None:
        """Check that there is such a kind, and that the format belongs to it."""
        super().__post_init__()
        one_of(self.as_, get_args(Sense), "as")
        if self.format is None:
            return
        if self.as_ == "number":
            one_of(self.format, _NUMBERS, "format")
        elif self.as_ in ("integer", "boolean"):
            raise Fault(f"there is no format of {self.as_}s", "remove it", ("format",))
        elif not _is_format(self.format, _STAMPS[self.as_]):
            what = f"{self.format!r} is not a format of a {self.as_}"
            raise Fault(what, "write one such as %d.%m.%Y, %d.%m.%Y %H:%M or %H:%M:%S", ("format",))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: not readable."""
        column = text(self.column, schema, scope)
        if self.format is None:
            readable = _READABLE[self.as_](column)
        elif self.as_ == "number":
            readable = column.str.contains(_NUMBERS[self.format])
        else:
            readable = _formatted(column, self.format, _STAMPS[self.as_])
        violated = column.is_not_null() & ~readable
        return [self.check(self.column, schema, scope, violated=violated, column=self.column)]


@dataclass(frozen=True)
class IsType(Rule):
    """The value must be of a type, or convert to it without loss. Null passes.

    A column of that type always passes. Otherwise each value must survive the conversion and back: a float without a
    fraction is an integer, a small Int64 is an Int8, a datetime at midnight is a Date. Text must be readable as the
    type, as in ``parseable``, within its range and, for decimals, with no more digits than the type holds. A text
    datetime must have an offset if, and only if, the type has a time zone. If two types have no such conversion (a
    list and a number, a datetime with and one without time zone), the definition is refused.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"a": ["7", "300", None], "b": [1.0, 1.5, None]})
    >>> rules = [{"is_type": {"column": "a", "type": "Int8"}}, {"is_type": {"column": "b", "type": "Int64"}}]
    >>> lp.check(frame, rules).failed
    {'is_type:a': 1, 'is_type:b': 1}
    """

    name: ClassVar[str] = "is_type"
    column: str = arg(COLUMN, "The column to check.")
    type: str = arg(TEXT, "The type, such as Int64, Date or Decimal(10, 2).")

    def __post_init__(self) -> None:
        """Check that there is such a type."""
        super().__post_init__()
        try:
            dtype_from_name(self.type)
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            raise Fault(what, fix, ("type",)) from None

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: not of the type, and not to be made one."""
        if self.column not in schema:
            raise scope.fault(f"unknown column {self.column!r}", nearest(self.column, schema, "columns"), "column")
        column, own, wanted = pl.col(self.column), schema[self.column], dtype_from_name(self.type)
        if own in (wanted, pl.Null):
            violated = pl.lit(value=False)
        elif is_text(own) and not is_text(wanted):
            readable = _text_as(column.cast(pl.String), wanted)
            if readable is None:
                raise scope.fault(f"text cannot be read as {dtype_name(wanted)}", "name another type", "type")
            violated = column.is_not_null() & ~readable
        elif _related(own, wanted):
            back = column.cast(wanted, strict=False).cast(own, strict=False)
            violated = column.is_not_null() & back.ne_missing(column)
        else:
            what = f"column {self.column!r} is {dtype_name(own)}, and never {dtype_name(wanted)}"
            raise scope.fault(what, f"write {dtype_name(own)}, or cast the column first", "type")
        return [self.check(self.column, schema, scope, violated=violated, column=self.column)]


_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
_OFFSET = r"(?:Z|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])"


def _day(column: pl.Expr, rest: str) -> pl.Expr:
    """Return whether a text is a date and something after it."""
    # the calendar knows the days of a month; the form is stricter than Polars
    known = column.str.head(10).str.to_date("%Y-%m-%d", strict=False).is_not_null()
    return column.str.contains(f"^{_DAY}{rest}$") & known


def _boolean(column: pl.Expr) -> pl.Expr:
    return column.str.contains("^(?i:true|false)$")


def _number(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return whether a text is a finite float of a type."""
    return column.cast(dtype, strict=False).is_finite().fill_null(value=False)


_READABLE: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "date": lambda c: _day(c, ""),
    "datetime": lambda c: _day(c, f"[T ]{_CLOCK}{_OFFSET}?"),
    "time": lambda c: c.str.contains(f"^{_CLOCK}$"),
    "integer": lambda c: c.cast(pl.Int64, strict=False).is_not_null(),
    "number": lambda c: _number(c, pl.Float64()),
    "boolean": _boolean,
}


def _grouped(group: str, point: str) -> str:
    return rf"^[+-]?(?:[0-9]+|[0-9]{{1,3}}(?:{group}[0-9]{{3}})+)(?:{point}[0-9]+)?$"


_NUMBERS = {
    "1234.56": r"^[+-]?[0-9]+(?:\.[0-9]+)?$",
    "1234,56": "^[+-]?[0-9]+(?:,[0-9]+)?$",
    "1,234.56": _grouped(",", r"\."),
    "1.234,56": _grouped(r"\.", ","),
    "1 234,56": _grouped("[ \u00a0\u202f]", ","),
    "1'234.56": _grouped("['’]", r"\."),
}


@dataclass(frozen=True)
class _Stamp:
    """How a kind of stamp is read, and two that differ, to try a format on."""

    read: Callable[[pl.Expr, str], pl.Expr]
    probes: tuple[Any, Any]


_STAMPS = {
    "date": _Stamp(lambda c, f: c.str.to_date(f, strict=False), (date(2013, 12, 31), date(2001, 2, 3))),
    "datetime": _Stamp(
        lambda c, f: c.str.to_datetime(f, strict=False),
        (datetime(2013, 12, 31, 23, 58, 59, tzinfo=UTC), datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)),
    ),
    "time": _Stamp(lambda c, f: c.str.to_time(f, strict=False), (time(23, 58, 59), time(4, 5, 6))),
}


def _is_format(written: str, stamp: _Stamp) -> bool:
    """Whether a format writes two stamps differently, and reads back what it wrote."""
    try:
        texts = pl.Series(stamp.probes).dt.to_string(written)
        read = pl.DataFrame({"a": texts}).select(stamp.read(pl.col("a"), written))["a"]
    except pl.exceptions.PolarsError:
        return False
    return read.null_count() == 0 and read[0] != read[1]


_PADDING = re.compile(r"^\s|%[ceklvnt_]")
"""Formats that write spaces themselves, at the start or by a code."""


def _formatted(column: pl.Expr, written: str, stamp: _Stamp) -> pl.Expr:
    """Return whether a text is written in a format."""
    readable = stamp.read(column, written).is_not_null()
    if _PADDING.search(written):
        return readable
    # Polars passes over space in front of any number, which this format does not ask for
    return readable & ~column.str.contains(r"^\s" if re.search(r"\s", written) else r"\s")


def _text_as(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """Return whether a text can be read as a type; None where nothing can."""
    if dtype.is_integer():
        return column.cast(dtype, strict=False).is_not_null()
    if dtype.is_float():
        return _number(column, dtype)
    match dtype:
        case pl.Decimal():
            size, places = dtype.precision - dtype.scale, dtype.scale
            whole = f"0*[0-9]{{1,{size}}}" if size else "0+"
            return column.str.contains(rf"^[+-]?{whole}(?:\.[0-9]{{0,{places}}}0*)?$")
        case pl.Datetime():
            return _day(column, f"[T ]{_CLOCK}{_OFFSET if dtype.time_zone else ''}")
        case pl.Date():
            return _READABLE["date"](column)
        case pl.Time():
            return _READABLE["time"](column)
        case pl.Boolean():
            return _boolean(column)
    return None


def _related(own: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether values of one type can be values of another."""
    families: tuple[Callable[[pl.DataType], bool], ...] = (
        lambda t: t.is_numeric(),
        is_text,
        lambda t: t == pl.Duration,
        lambda t: t == pl.Date or (isinstance(t, pl.Datetime) and t.time_zone is None),
        lambda t: isinstance(t, pl.Datetime) and t.time_zone is not None,
    )
    return any(belongs(own) and belongs(wanted) for belongs in families)
