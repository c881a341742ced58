"""Cells: text converted to a type, and values converted from one type to another.

Both are expressions that never fail: what does not fit becomes null, beside which stands the condition that it did not fit.
So nothing becomes null in silence, and each cell can go where the contract says.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce

import polars as pl

from lazypipe.ops.cast import converted, refusal
from lazypipe.spec.types import inner_types, instance_of

__all__ = ["BYTES", "POINT", "Marks", "as_text", "is_no_float", "misfit", "parsed", "parses", "refused", "value"]


@dataclass(frozen=True)
class Marks:
    """Which mark stands before the fraction of a number, and which between its thousands (none if it is empty)."""

    decimal_comma: bool = False
    thousands: str = ""

    def told_by(self, dtype: pl.DataType) -> bool:
        """Whether only these marks tell what text says as a number of a type: Polars' reader of CSV takes a point for a comma.

        Examples
        --------
        >>> Marks(decimal_comma=True).told_by(pl.Float64()), POINT.told_by(pl.Float64())
        (True, False)
        """
        return dtype.is_numeric() and (bool(self.thousands) or (self.decimal_comma and not dtype.is_integer()))

    def plain(self, text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """Return numbers as Polars reads them, without marks for thousands and with a point; null where marks stand elsewhere."""
        if self.thousands:
            group, point = f"[{_GROUPS.get(self.thousands, self.thousands)}]", "," if self.decimal_comma else r"\."
            # three digits after the last one; in India two between others
            grouped = rf"^\s*[+-]?\d{{1,3}}(?:{group}\d{{2,3}})*{group}\d{{3}}(?:{point}\d*)?$"
            text = pl.when(text.str.contains(grouped)).then(text.str.replace_all(group, "")).otherwise(text)
        if self.decimal_comma and not dtype.is_integer():
            # a point that is left is no mark of a fraction here
            text = pl.when(~text.str.contains(".", literal=True)).then(text.str.replace(",", ".", literal=True))
        return text


BYTES = "\\x"
"""What stands ahead of bytes that are shown as text."""
POINT = Marks()
"""As Polars and SQL write numbers."""
_GROUPS = {"'": "'’", " ": " \u00a0\u202f"}

_BASIC = r"^(\d{4})-?(\d{2})-?(\d{2})T(\d{2})(\d{2})(\d{2})"
"""How ISO 8601 writes a moment without marks in its time."""


def parses(dtype: pl.DataType) -> bool:
    """Whether text can be read as values of a type by :func:`parsed`.

    Examples
    --------
    >>> parses(pl.Int64()), parses(pl.List(pl.Int64()))
    (True, False)
    """
    return dtype.is_numeric() or isinstance(
        dtype, pl.Boolean | pl.Date | pl.Time | pl.Datetime | pl.Enum | pl.Categorical
    )


def parsed(text: pl.Expr, dtype: pl.DataType, marks: Marks = POINT) -> pl.Expr:
    """Read text as Polars' readers of CSV and NDJSON do; what does not parse is null, and so is an empty text.

    Whatever those take gives the same value here, in every row for itself: dates are ISO 8601 or day-month-year, with ``-``, ``/``
    or ``.``; a datetime without an offset is UTC, one with an offset is turned into UTC (and then into the column's zone). Not
    taken are years of other than four digits, which the readers take for the first century.

    Examples
    --------
    >>> frame = pl.DataFrame({"t": ["7", " 8", "7.5", "", None]})
    >>> frame.select(parsed(pl.col("t"), pl.Int64())).to_series().to_list()
    [7, 8, None, None, None]
    >>> german = pl.Series(["1.234,5", "1.234", "1.5"])
    >>> german.to_frame("t").select(parsed(pl.col("t"), pl.Float64(), Marks(True, "."))).to_series().to_list()
    [1234.5, 1234.0, None]
    """
    match dtype:
        case pl.Boolean():
            lowered = text.str.to_lowercase()
            return pl.when(lowered == "true").then(True).when(lowered == "false").then(False)  # noqa: FBT003
        case pl.Date():
            return _four_digits(_year_first(text)).str.to_date("%Y-%m-%d", strict=False)
        case pl.Datetime():
            return _moment(text, dtype)
        case pl.Time():
            forms = ("%H:%M:%S%.f", "%H:%M")
            return pl.coalesce(text.str.to_time(f, strict=False) for f in forms)
        case pl.Enum() | pl.Categorical() | pl.String():
            return text.cast(dtype, strict=False)
    return marks.plain(text, dtype).str.strip_chars_start(" \t").cast(dtype, strict=False)


def _year_first(text: pl.Expr) -> pl.Expr:
    swapped = text.str.replace(r"^(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})\b", "$3-$2-$1")
    return swapped.str.replace(r"^(\d{4})[/.](\d{1,2})[/.](\d{1,2})\b", "$1-$2-$3")


def _four_digits(text: pl.Expr) -> pl.Expr:
    return pl.when(text.str.contains(r"^\d{4}-")).then(text)


def _moment(text: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    """Bring all accepted ways of writing a moment into one, so that text is parsed only once."""
    whole = (
        _four_digits(_year_first(text.str.replace(_BASIC, "$1-$2-$3 $4:$5:$6").str.replace("T", " ", literal=True)))
        .str.replace(r"^(\d+-\d+-\d+)$", "$1 00:00:00")
        .str.replace(r"^(\S+ \d+:\d+)(Z|[+-].*)?$", "$1:00$2")
        .str.replace(r"^(\S+ [\d:.]+)$", "$1+00:00")
    )
    form = "%Y-%m-%d %H:%M:%S%.f%#z"
    found = whole.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
    # read as nanoseconds, years outside 1677 to 2262 would wrap around
    rest = whole.str.to_datetime(form, time_unit="ns", time_zone="UTC", strict=False).dt.nanosecond() % 1000
    local = found.dt.convert_time_zone(dtype.time_zone) if dtype.time_zone else found.dt.replace_time_zone(None)
    exact = local.cast(dtype, strict=False)
    return exact + pl.duration(nanoseconds=rest, time_unit="ns") if dtype.time_unit == "ns" else exact


def misfit(cell: pl.Expr, value: pl.Expr, source: pl.DataType, target: pl.DataType, marks: Marks = POINT) -> pl.Expr:
    """Return whether ``cell``, of the type ``source``, was lost or changed when it became ``value`` of the type ``target``.

    A number that a smaller float rounds is not changed: to ask for such a float is to ask for that. An empty text stands
    for null, as it does in a CSV, wherever text is not what is wanted.
    """
    lost = cell.is_not_null() & value.is_null()
    if isinstance(source, pl.String):
        lost = lost if isinstance(target, pl.Enum | pl.Categorical) else lost & (cell != "")
        return (
            lost | _has_more_digits(marks.plain(cell, target), value, target)
            if isinstance(target, pl.Decimal)
            else lost
        )
    if source.is_float() and target.is_float():
        return lost | (value.is_infinite() & ~cell.is_infinite())
    if isinstance(source, pl.Struct) and isinstance(target, pl.Struct):
        there = {f.name: instance_of(f.dtype) for f in target.fields}
        fields = [(cell.struct.field(f.name), f.name, instance_of(f.dtype)) for f in source.fields]
        inside = [
            misfit(of, value.struct.field(name), dtype, there[name]) if name in there else of.is_not_null()
            for of, name, dtype in fields
        ]
        return reduce(operator.or_, inside, lost)
    if (_is_plain(source) and _is_plain(target)) or _may_lose(source, target):
        # a cast to fewer digits than a value has would fail
        back = pl.Decimal(38, source.scale) if isinstance(source, pl.Decimal) else source
        return lost | value.cast(back, strict=False).ne_missing(cell)
    return lost


def is_no_float(text: pl.Expr) -> pl.Expr:
    """Whether a whole number in text, as Polars reads it, is another number as a float.

    Examples
    --------
    >>> frame = pl.DataFrame({"t": ["9007199254740992", "9007199254740993", "0.1", "x", None]})
    >>> frame.select(is_no_float(pl.col("t"))).to_series().to_list()
    [False, True, False, False, None]
    """
    whole = text.str.strip_chars()
    there = whole.cast(pl.Float64, strict=False).cast(pl.Int128, strict=False)
    # no type of whole numbers is so wide that all could be compared: floats have 17 digits at the most, whatever zeros follow
    longer = there.is_null() & whole.str.contains(r"^[+-]?0*\d{17}\d*[1-9]0*$")
    return whole.str.contains(r"^[+-]?\d+$") & (longer | there.ne_missing(whole.cast(pl.Int128, strict=False)))


def _has_more_digits(text: pl.Expr, value: pl.Expr, target: pl.Decimal) -> pl.Expr:
    """Whether a number in text, as Polars reads it, has more decimals than a type, which rounds it."""
    plain = text.str.contains(rf"\.\d{{{target.scale}}}\d*[1-9]")
    number = text.str.strip_chars().cast(pl.Float64, strict=False)
    powers = value.cast(pl.Float64, strict=False).ne_missing(number)
    return value.is_not_null() & pl.when(text.str.contains("[eE]")).then(powers).otherwise(plain)


def _may_lose(source: pl.DataType, target: pl.DataType) -> bool:
    """Whether values inside of lists may be lost, or changed in another way than a smaller float rounds them."""
    if isinstance(source, pl.List | pl.Array) and isinstance(target, pl.List | pl.Array):
        one, other = instance_of(source.inner), instance_of(target.inner)
        leaves = not (
            one.is_nested() or one == other or isinstance(other, pl.String) or (one.is_float() and other.is_float())
        )
        return leaves or _may_lose(one, other)
    return isinstance(source, pl.Struct) and source != target


def _is_plain(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or isinstance(dtype, pl.Boolean | pl.Date | pl.Datetime | pl.Duration)


def value(cell: pl.Expr, source: pl.DataType, target: pl.DataType, marks: Marks = POINT) -> pl.Expr:
    """Return cells of one type as another; null where that cannot be. See :func:`refused`."""
    if isinstance(source, pl.String) and parses(target):
        return parsed(cell, target, marks)
    if isinstance(source, pl.Binary) and isinstance(target, pl.String):
        fits = cell.bin.encode("hex").str.contains(_UTF8)
        # a cast fails, though it is not strict, also for bytes behind a null
        return pl.when(fits).then(pl.when(fits).then(cell).otherwise(pl.lit(b"")).cast(target))
    if source.is_float() and isinstance(target, pl.Decimal):
        # it would fail for more digits than there are
        cell = pl.when(cell.abs() < 10.0 ** (target.precision - target.scale)).then(cell)
    return converted(cell, source, target, strict=False)


_NEXT = "[89ab][0-9a-f]"
_UTF8 = (
    rf"^(?:[0-7][0-9a-f]|(?:c[2-9a-f]|d[0-9a-f]){_NEXT}|e0[ab][0-9a-f]{_NEXT}|e[1-9a-cef]{_NEXT}{_NEXT}|ed[89][0-9a-f]{_NEXT}"
    rf"|f0[9ab][0-9a-f]{_NEXT}{_NEXT}|f[1-3]{_NEXT}{_NEXT}{_NEXT}|f48[0-9a-f]{_NEXT}{_NEXT})*$"
)
"""Bytes, as digits, that are UTF-8 (Unicode 15, table 3-7)."""


def refused(source: pl.DataType, target: pl.DataType) -> bool:
    """Whether no value of one type can become one of the other and still say the same.

    A number is no datetime: its type does not say in which unit it counts, and from when.

    Examples
    --------
    >>> refused(pl.Int64(), pl.Int8()), refused(pl.List(pl.Int64()), pl.Date()), refused(pl.Int64(), pl.Date())
    (False, True, True)
    """
    if isinstance(source, pl.String) and parses(target):
        return False
    if _is_of_another_kind(source, target) or refusal(source, target) is not None:
        return True
    return _is_plain(source) and _is_plain(target) and refusal(target, source) is not None


def _is_of_another_kind(source: pl.DataType, target: pl.DataType) -> bool:
    if isinstance(source, pl.Array | pl.List) and isinstance(target, pl.Array):
        same = isinstance(source, pl.Array) and source.shape == target.shape
        return not same or any(_is_of_another_kind(*pair) for pair in inner_types(source, target))
    if isinstance(source, pl.Null):
        return False
    if source.is_nested() or target.is_nested():
        inside = inner_types(source, target)
        return not inside or any(_is_of_another_kind(*pair) for pair in inside)
    if _kind(target) == "text":
        return False
    return isinstance(target, pl.Duration) if _kind(source) == "text" else _kind(source) != _kind(target)


def _kind(dtype: pl.DataType) -> str:
    match dtype:
        case pl.String() | pl.Categorical() | pl.Enum() | pl.Binary():
            return "text"
        case pl.Date() | pl.Datetime():
            return "moment"
        case pl.Time() | pl.Duration():
            return type(dtype).__name__
    return "number"


def as_text(cell: pl.Expr, source: pl.DataType) -> pl.Expr:
    """Return values as text that people can read."""
    match source:
        case pl.String():
            return cell
        case pl.Binary():
            return pl.lit(BYTES) + cell.bin.encode("hex")
        case pl.List() | pl.Array() | pl.Struct():
            return pl.struct(cell.alias("value")).struct.json_encode()
        case _:
            return converted(cell, source, pl.String(), strict=False)
