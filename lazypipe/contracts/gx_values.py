"""Expectations on the values of one column, as rules on rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lazypipe.contracts import sqltext, types
from lazypipe.contracts.contract import Written, joined
from lazypipe.contracts.gx_given import (
    NUMBERS,
    OLD,
    Given,
    Reader,
    Readers,
    Unmappable,
    Wrong,
    bounds,
    checked_regex,
    note_dates,
    patterns_of,
    vacuous,
    values_of,
)
from lazypipe.sql.literal import literal
from lazypipe.sql.text import quoted

__all__ = ["READERS", "in_set"]


def _json(given: Given) -> Iterable[Written]:
    return [given.on_values("json", {"column": given.column})]


def _not_null(given: Given) -> Iterable[Written]:
    yield given.rule("not_null", {"columns": [given.column]})


def _null(given: Given) -> Iterable[Written]:
    yield given.rule("null", {"columns": [given.column]})


def _unique(given: Given) -> Iterable[Written]:
    yield given.on_values("unique", {"columns": [given.column]})


def in_set(given: Given) -> Iterable[Written]:
    """Read an expectation that values are in a set."""
    values = values_of(given)
    if values is None:
        return vacuous(given)
    if not values:
        return [given.on_values("null", {"columns": [given.column]})]
    return [given.on_values("in_set", {"column": given.column, "values": values})]


def _not_in_set(given: Given) -> Iterable[Written]:
    values = values_of(given)
    if not values:
        return vacuous(given)
    return [given.on_values("not_in_set", {"column": given.column, "values": values})]


def _between(given: Given) -> Iterable[Written]:
    low, high, closed = bounds(given)
    if low is None and high is None:
        raise Wrong("it needs min_value or max_value")
    note_dates(given)
    return [given.on_values("between", {"column": given.column, "min": low, "max": high, "closed": closed})]


def _lengths(given: Given) -> Iterable[Written]:
    low, high, _ = bounds(given, kind="number", whole=True)
    if low is None and high is None:
        raise Wrong("it needs min_value or max_value")
    return [given.on_values("length_between", {"column": given.column, "min": low, "max": high})]


def _length(given: Given) -> Iterable[Written]:
    value = given.kwargs.get("value", "number")
    return [given.on_values("length_between", {"column": given.column, "min": value, "max": value})]


def _regex(given: Given) -> Iterable[Written]:
    pattern = checked_regex(given.kwargs.text("regex") or "")
    return [given.on_values("regex", {"column": given.column, "pattern": pattern})]


def _not_regex(given: Given) -> Iterable[Written]:
    pattern = checked_regex(given.kwargs.text("regex") or "")
    return [given.on_values("not_regex", {"column": given.column, "pattern": pattern})]


def _any_regex(patterns: Sequence[str]) -> str:
    return patterns[0] if len(patterns) == 1 else "|".join(f"(?:{p})" for p in patterns)


def _regex_list(given: Given) -> Iterable[Written]:
    patterns = [checked_regex(p) for p in patterns_of(given, "regex_list")]
    return [_matching(given, patterns, every=_match_all(given))]


def _matching(given: Given, patterns: Sequence[str], *, every: bool) -> Written:
    if not every or len(patterns) == 1:
        return given.on_values("regex", {"column": given.column, "pattern": _any_regex(patterns)})
    name = quoted(given.column)
    condition = joined(f"{name} ~ {literal(p)}" for p in patterns)
    return given.on_values("expression", {"condition": condition})


def _not_regex_list(given: Given) -> Iterable[Written]:
    patterns = [checked_regex(p) for p in patterns_of(given, "regex_list")]
    return [given.on_values("not_regex", {"column": given.column, "pattern": _any_regex(patterns)})]


def _match_all(given: Given) -> bool:
    match_on = given.kwargs.text("match_on") or "any"
    if match_on not in ("any", "all"):
        raise Wrong(f"match_on must be any or all, not {match_on!r}", "match_on")
    return match_on == "all"


def _like_one(name: str) -> Reader:
    def read_it(given: Given) -> Iterable[Written]:
        pattern, escape = given.kwargs.text("like_pattern") or "", given.kwargs.text("escape")
        if escape is not None:
            pattern = sqltext.like_escaped(pattern, escape)
        return [given.on_values(name, {"column": given.column, "pattern": pattern})]

    return read_it


def _like_patterns(given: Given) -> list[str]:
    escape = given.kwargs.text("escape") or "\\"
    return [sqltext.like_as_regex(p, escape) for p in patterns_of(given, "like_pattern_list")]


def _like_list(given: Given) -> Iterable[Written]:
    return [_matching(given, _like_patterns(given), every=_match_all(given))]


def _not_like_list(given: Given) -> Iterable[Written]:
    return [given.on_values("not_regex", {"column": given.column, "pattern": _any_regex(_like_patterns(given))})]


_DATE_PARTS, _TIME_PARTS = {"Y", "y", "m", "d", "b", "B", "j", "x", "c"}, {"H", "I", "M", "S", "f", "p", "X", "c"}


def _strftime(given: Given) -> Iterable[Written]:
    written = given.kwargs.text("strftime_format") or ""
    parts = set(re.findall(r"%(.)", written.replace("%%", "")))
    dated, timed = bool(parts & _DATE_PARTS), bool(parts & _TIME_PARTS)
    kind = "datetime" if dated and timed else "date" if dated else "time"
    whole = not dated or {"c", "x"} & parts or ({"Y", "y"} & parts and ({"j"} & parts or {"d"} & parts))
    if not whole or not (dated or timed):
        raise Unmappable(f"{written!r} names no whole date, which a rule needs to read one")
    arguments = {"column": given.column, "as": kind, "format": written.replace(".%f", "%.f").replace("%f", "%6f")}
    return [given.on_values("parseable", arguments)]


def _dateutil(given: Given) -> Iterable[Written]:
    given.kwargs.note(given.name, "dates and datetimes in ISO form are known, dateutil guesses many more")
    return [given.on_values("parseable", {"column": given.column, "as": "datetime"})]


def _ordered(name: str) -> Reader:
    def read_it(given: Given) -> Iterable[Written]:
        if not given.order_by:
            raise Unmappable("rows have no order here; name the columns that order them: from_gx(…, order_by=[…])")
        note_dates(given)
        strictly = given.kwargs.flag("strictly") or None
        arguments = {"column": given.column, "order_by": list(given.order_by), "strictly": strictly}
        return [given.on_values(name, arguments)]

    return read_it


def _type(given: Given) -> Iterable[Written]:
    return _types(given, [given.kwargs.text("type_") or ""])


def _type_list(given: Given) -> Iterable[Written]:
    names = given.kwargs.get("type_list", "list")
    return vacuous(given) if names is None else _types(given, patterns_of(given, "type_list"))


def _types(given: Given, names: Sequence[str]) -> Iterable[Written]:
    found = {name: types.from_python(name) for name in names}
    known = list(dict.fromkeys(dtype for dtype in found.values() if dtype is not None))
    if not known:
        raise Unmappable(f"no type is known as {', '.join(map(repr, names))}")
    kinds = {_kind(dtype) for dtype in known}
    if len(kinds) > 1:
        raise Unmappable(f"a rule asks for one kind of type, and these are {', '.join(known)}")
    for name, dtype in found.items():
        if dtype is None:
            given.kwargs.note(f"the type {name!r}", "it is not known here, so a column of it fails")
    alike = None
    if len(known) > 1:
        given.kwargs.note(given.name, f"every {min(kinds)} passes, not only {', '.join(known)}")
        alike = "kind"
    return [given.schema_rule({"columns": {given.column: known[0]}, "mode": "superset", "types": alike})]


def _kind(dtype: str) -> str:
    """Return what the rule ``schema`` takes to be of one kind."""
    word = re.match(r"[A-Za-z]+", dtype.removeprefix("U").lower())
    assert word is not None
    zoned = " with a time zone" if dtype.startswith("Datetime") and "," in dtype else ""
    return {"int": "integer"}.get(word[0], word[0]) + zoned


READERS: Readers = {
    "expect_column_values_to_not_be_null": (("column",), (), _not_null),
    "expect_column_values_to_be_null": (("column",), (), _null),
    "expect_column_values_to_be_unique": (("column",), (), _unique),
    "expect_column_values_to_be_in_set": (("column",), ("value_set", *OLD), in_set),
    "expect_column_values_to_not_be_in_set": (("column",), ("value_set", *OLD), _not_in_set),
    "expect_column_values_to_be_between": (("column",), (*NUMBERS, *OLD), _between),
    "expect_column_value_lengths_to_be_between": (("column",), NUMBERS, _lengths),
    "expect_column_value_lengths_to_equal": (("column", "value"), (), _length),
    "expect_column_values_to_match_regex": (("column", "regex"), (), _regex),
    "expect_column_values_to_not_match_regex": (("column", "regex"), (), _not_regex),
    "expect_column_values_to_match_regex_list": (("column", "regex_list"), ("match_on",), _regex_list),
    "expect_column_values_to_not_match_regex_list": (("column", "regex_list"), (), _not_regex_list),
    "expect_column_values_to_match_like_pattern": (("column", "like_pattern"), ("escape",), _like_one("like")),
    "expect_column_values_to_not_match_like_pattern": (("column", "like_pattern"), ("escape",), _like_one("not_like")),
    "expect_column_values_to_match_like_pattern_list": (
        ("column", "like_pattern_list"),
        ("match_on", "escape"),
        _like_list,
    ),
    "expect_column_values_to_not_match_like_pattern_list": (
        ("column", "like_pattern_list"),
        ("escape",),
        _not_like_list,
    ),
    "expect_column_values_to_match_strftime_format": (("column", "strftime_format"), (), _strftime),
    "expect_column_values_to_be_dateutil_parseable": (("column",), (), _dateutil),
    "expect_column_values_to_be_json_parseable": (("column",), (), _json),
    "expect_column_values_to_be_increasing": (("column",), ("strictly", *OLD), _ordered("increasing")),
    "expect_column_values_to_be_decreasing": (("column",), ("strictly", *OLD), _ordered("decreasing")),
    "expect_column_values_to_be_of_type": (("column", "type_"), (), _type),
    "expect_column_type_to_be": (("column", "type_"), (), _type),
    "expect_column_values_to_be_in_type_list": (("column",), ("type_list",), _type_list),
    "expect_column_distinct_values_to_be_in_set": (("column",), ("value_set", *OLD), in_set),
}
