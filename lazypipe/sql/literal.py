"""Values written as SQL."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from lazypipe.sql.text import SqlError

__all__ = ["literal"]


def literal(value: object) -> str:
    """Render a Python value as one SQL literal, with its type; a list as several, for ``IN (:list)``.

    Examples
    --------
    >>> literal("it's"), literal(date(2013, 1, 1)), literal(None), literal(["a", "b"])
    ("'it''s'", "DATE '2013-01-01'", 'NULL', "'a', 'b'")

    Raises
    ------
    SqlError
        If there is no literal for it.
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return _integer(value)
        case float():
            # with an exponent it is a float from the start; Polars reads 1.5 as a decimal, and -0.0 as 0
            text = repr(float(value))
            shown = f"'{text}'" if not math.isfinite(value) else text if "e" in text else f"{text}e0"
            return f"CAST({shown} AS DOUBLE)"
        case Decimal():
            return _decimal(value)
        case str():
            return "'" + value.replace("'", "''") + "'"
        case datetime():
            return _timestamp(value)
        case date():
            return f"DATE '{value.isoformat()}'"
        case time() if value.tzinfo is None:
            return f"TIME '{value.isoformat()}'"
        case timedelta():
            # not INTERVAL '…': that has no sign, wraps around at 292 years, and cannot be added to a duration
            return f"CAST({_integer(_fitting(value // timedelta(microseconds=1), 64, value))} AS INTERVAL)"
        case list() | tuple():
            if not value:
                raise SqlError("an empty list cannot be used in SQL", "pass at least one value")
            return ", ".join(literal(v) for v in value)
        case _:
            raise SqlError(f"a {type(value).__name__} cannot be a SQL parameter")


def _fitting(number: int, bits: int, value: object) -> int:
    if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        return number
    raise SqlError(f"{value} is too large for SQL", f"it must fit {bits} bits")


def _integer(value: int) -> str:
    number = int(value)  # of a bool or an enumeration too
    if 0 <= number < 2**63:
        return str(number)
    if -(2**63) < number < 0:
        return f"({number})"
    kind = "BIGINT" if number == -(2**63) else "HUGEINT"
    return f"CAST('{_fitting(number, 128, number)}' AS {kind})"


def _decimal(value: Decimal) -> str:
    text = f"{value:f}"
    if not value.is_finite() or sum(c.isdigit() for c in text) > 38:
        raise SqlError(f"the decimal {value} is not one that SQL knows", "it must be a number of at most 38 digits")
    return f"({text})" if "." in text else f"({text}.)"  # without a point it would be an integer


def _timestamp(value: datetime) -> str:
    if value.tzinfo is None:
        return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
    try:
        return f"TIMESTAMPTZ '{value.astimezone(UTC).isoformat(sep=' ')}'"
    except OverflowError as error:
        raise SqlError(f"{value} is out of range in UTC", "it must be in the years 1 to 9999") from error
