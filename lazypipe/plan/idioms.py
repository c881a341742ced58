"""What operations and gates lower to, told as whoever wrote it would: a mean of windows is ``AVG(x)``, not a sum divided by a count.

A text that is not known here stays as the plan has it. ``docs/decisions/0103-lineage-in-the-words-of-its-author.md`` says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from lazypipe.plan.nodes import PlanExpr

__all__ = ["idiom"]

_PER_SECOND = {"ms": 1_000, "us": 1_000_000}
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_TICKS = re.compile(r"dt\.time_stamp\((?P<time>.+), (?P<unit>ms|us)\)", re.DOTALL)
_TRUNCATED = re.compile(r"DATE_TRUNC\(.+, '(?P<every>\d+[dhms])'\)", re.DOTALL)
_MONTHS = re.compile(r"\(CAST\(YEAR\((?P<day>.+)\) AS Int64\) \* 12\) \+ CAST\(MONTH\((?P=day)\) AS Int64\)", re.DOTALL)
_GAP = re.compile(r"CAST\(.*\(\((?P<ticks>.+) - shift\((?P=ticks), 1\)\) > (?P<gap>\d+)\) AS Int64\)", re.DOTALL)
_FIRST_MONTH, _MONDAY = str(1970 * 12 + 1), "4"
"""January 1970 as a number of months, and the first Monday after 1970-01-01 as a number of days: what months and weeks are counted from."""


def idiom(expr: PlanExpr, args: Sequence[str], by: Sequence[str]) -> str | None:
    """Return what an expression is called by whoever wrote it, over the texts of its parts; None if it has no such name.

    Examples
    --------
    >>> total = PlanExpr("agg", "sum", (PlanExpr("column", "x"),))
    >>> some = PlanExpr("ternary", "", (total, PlanExpr("literal", "NULL")), (PlanExpr("operator", "Gt"),))
    >>> idiom(some, ["SUM(x)", "NULL"], ["COUNT(x) > 0"]), idiom(some, ["SUM(x)", "NULL"], ["COUNT(y) > 0"])
    ('SUM(x)', None)
    """
    known = _KNOWN.get((expr.kind, expr.name)) or _KNOWN.get((expr.kind, ""))
    return None if known is None else known(expr, args, by)


def _total(expr: PlanExpr, args: Sequence[str], _by: Sequence[str]) -> str | None:
    """Aggregate what was aggregated of parts of the rows."""
    (part, *_), text = expr.args, args[0]
    if part.kind != "column" or not part.name.startswith("__lazypipe"):
        return None
    if expr.name == "sum" and _inside(_uncast(text), "COUNT") is not None:
        return _uncast(text)
    return text if _inside(text, expr.name.upper()) is not None else None


def _some(_expr: PlanExpr, args: Sequence[str], by: Sequence[str]) -> str | None:
    """Aggregate no values to null, as SQL does."""
    if _uncast(args[1]) != "NULL":
        return None
    whole = _uncast(args[0])
    if (of := _inside(whole, "SUM")) is not None and by[0] in (f"COUNT({of}) > 0", f"COUNT({whole}) > 0"):
        return args[0]
    if (of := _inside(whole, "AVG")) is not None and by[0] in (
        f"MAX(COUNT({of})) > 0",
        f"MAX(CAST(COUNT({of}) AS Int64)) > 0",
    ):
        return args[0]
    return None


def _mean(_expr: PlanExpr, args: Sequence[str], _by: Sequence[str]) -> str | None:
    """Divide a sum by the number of its values."""
    total, number = _inside(_uncast(args[0]), "SUM"), _inside(_uncast(args[1]), "COUNT")
    if total is None or number is None or total not in (number, f"CAST({number} AS Float64)"):
        return None
    return f"AVG({number})"


def _begin(_expr: PlanExpr, args: Sequence[str], _by: Sequence[str]) -> str | None:
    """Count where a window begins: in ticks, days or months."""
    places, later = args
    if (ticks := _TICKS.fullmatch(places)) and (every := re.fullmatch(rf"{re.escape(places)} % (\d+)", later)):
        span = _span(int(every[1]), _PER_SECOND[ticks["unit"]])
        return f"DATE_TRUNC({ticks['time']}, '{span}')" if span else None
    if later == f"({places} - {_MONDAY}) % 7" and _inside(places, "DATE") is not None:
        return f"DATE_TRUNC({places}, '1w')"
    if later == _FIRST_MONTH and (months := _MONTHS.fullmatch(places)):
        return f"DATE_TRUNC({months['day']}, '1mo')"
    return None


def _end(_expr: PlanExpr, args: Sequence[str], _by: Sequence[str]) -> str | None:
    """Count where a window ends that is as long as the next is later."""
    found = _TRUNCATED.fullmatch(args[0])
    if found is None or not args[1].isdigit():
        return None
    same = (found["every"] == _span(int(args[1]), per) for per in _PER_SECOND.values())
    return f"{args[0]} + '{found['every']}'" if any(same) else None


def _cast(expr: PlanExpr, args: Sequence[str], _by: Sequence[str]) -> str | None:
    """Return places on a line to what they are places of."""
    text = args[0]
    if expr.name == "Int64" and text.endswith(" AS Int32)") and _inside(_uncast(text), "DATE") is not None:
        return _uncast(text)
    if expr.name == "Date" and _inside(_uncast(text), "DATE") is not None:
        return _uncast(text)
    if expr.name.startswith("Datetime") and _TRUNCATED.fullmatch(re.sub(r" \+ '\w+'$", "", text)):
        return text
    return None


def _session(_expr: PlanExpr, args: Sequence[str], _by: Sequence[str]) -> str | None:
    """Count gaps that are too long."""
    found = _GAP.fullmatch(args[0])
    ticks = _TICKS.fullmatch(found["ticks"]) if found else None
    if found is None or ticks is None:
        return None
    span = _span(int(found["gap"]), _PER_SECOND[ticks["unit"]])
    return f"SESSION({ticks['time']}, '{span}')" if span else None


def _kept(_expr: PlanExpr, args: Sequence[str], _by: Sequence[str]) -> str | None:
    """Keep the rows that a condition does not refuse."""
    refused = _inside(args[0], "COALESCE")
    if refused is None or not refused.endswith(", FALSE"):
        return None
    refused = refused.removesuffix(", FALSE")
    if refused.endswith(" IS NULL") and _whole(refused.removesuffix(" IS NULL")):
        return refused.replace(" IS NULL", " IS NOT NULL")
    if refused.startswith("NOT ") and _whole(refused[4:]):
        return f"{refused[4:]} IS NOT FALSE"
    return f"{refused if _whole(refused) else f'({refused})'} IS NOT TRUE"


_KNOWN: Mapping[tuple[str, str], Callable[[PlanExpr, Sequence[str], Sequence[str]], str | None]] = {
    ("agg", "sum"): _total,
    ("agg", "min"): _total,
    ("agg", "max"): _total,
    ("ternary", ""): _some,
    ("operator", "TrueDivide"): _mean,
    ("operator", "Minus"): _begin,
    ("operator", "Plus"): _end,
    ("cast", ""): _cast,
    ("function", "cum_sum"): _session,
    ("function", "not"): _kept,
}


def _inside(text: str, name: str) -> str | None:
    """Return what stands in the parentheses of a call, if that is all there is.

    Examples
    --------
    >>> _inside("SUM(a + (b))", "SUM"), _inside("SUM(a) + SUM(b)", "SUM")
    ('a + (b)', None)
    """
    if not (text.startswith(f"{name}(") and text.endswith(")")):
        return None
    inner = text[len(name) + 1 : -1]
    return inner if _balanced(inner) else None


def _uncast(text: str) -> str:
    """Return a text without the casts around it."""
    while (inner := _inside(text, "CAST")) is not None and " AS " in inner:
        text = inner.rpartition(" AS ")[0]
    return text


def _whole(text: str) -> bool:
    """Whether a text is a name, or stands in parentheses."""
    return re.fullmatch(r'[\w.]+|"[^"]*"', text) is not None or (
        text[:1] == "(" and text[-1:] == ")" and _balanced(text[1:-1])
    )


def _balanced(text: str) -> bool:
    """Whether each parenthesis is closed after it was opened; of quoted ones, this may be denied where it is so."""
    depth = 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            return False
    return depth == 0


def _span(ticks: int, per_second: int) -> str | None:
    """Write a length of time, None if there is none or it is not one of whole seconds."""
    seconds, rest = divmod(ticks, per_second)
    if rest or not seconds:
        return None
    return next(f"{seconds // size}{unit}" for unit, size in _UNITS if seconds % size == 0)
