"""Tests of the package ``dbt_expectations`` as rules: named like those of Great Expectations, but judging as the package's SQL does.

Where a test is an expression, a row for which it is null passes, as with a rule. Of a set of values dbt asks by a join, which null does
not pass. ``row_condition`` becomes ``where``, ``strictly`` leaves out both bounds, ``group_by`` becomes ``by``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from itertools import combinations
from typing import Any

from lazypipe.contracts import sqltext, types
from lazypipe.contracts.contract import Written, joined, made
from lazypipe.contracts.dbt_given import (
    NAME,
    PERIODS,
    Given,
    Reader,
    Readers,
    column_of,
    condition_of,
    referred,
    unquoted,
)
from lazypipe.sql.literal import literal
from lazypipe.sql.text import SqlError, quoted

__all__ = ["READERS", "WITHOUT_RULE"]


def _rule(test: Given, name: str, arguments: Written, **common: Any) -> Written:
    """Return a rule on the rows that ``row_condition`` leaves, and ``where`` of the rule's own arguments."""
    own = dict(test.common) | common
    if condition := test.arguments.text("row_condition"):
        own["where"] = joined([own["where"], condition_of(condition)])
    return made(name, arguments, own)


def _groups(test: Given) -> list[str] | None:
    groups = [c.strip('"') for c in test.arguments.texts("group_by")]
    for name in groups:
        if not re.fullmatch(NAME, name):
            raise SqlError(f"it groups by {name!r}, which is not a column; derive it in a stage")
    return groups or None


_CAST = re.compile(
    r"""(?:cast\(\s*)?('(?:[^']|'')*')\s*(?:as\s+(?:date|timestamp|datetime)\s*\)|::\s*\w+)""", re.IGNORECASE
)


def _bound(test: Given, key: str) -> Any:
    """Return a bound: a number, or the date that SQL writes it as; raises SqlError for other expressions."""
    value = test.arguments.get(key, "scalar")
    cast = _CAST.fullmatch(value.strip()) if isinstance(value, str) else None
    return unquoted(cast[1] if cast else value)


def _bounds(test: Given, *, whole: bool = False) -> dict[str, Any]:
    """Return the bounds as arguments; of whole numbers, strict ones become the next number."""
    low, high = (_bound(test, key) for key in ("min_value", "max_value"))
    if low is None and high is None:
        test.arguments.fault(f"{test.name} needs a bound", "add min_value or max_value")
        return {}
    strictly = test.arguments.flag("strictly")
    if not whole:
        return {"min": low, "max": high, "closed": "none" if strictly else None}
    if strictly:
        low, high = low if low is None else low + 1, high if high is None else high - 1
    return {"min": low, "max": high}


def _in_bounds(rule: str, *, whole: bool = False) -> Reader:
    """Return the reader of a test that a value of the column, or a figure of it, lies between bounds."""

    def read_it(test: Given) -> Iterable[Written]:
        column, bounds = column_of(test), _bounds(test, whole=whole)
        if column is not None and bounds:
            if rule == "sum":
                test.note("of no values the sum is 0; dbt takes it for none, which passes")
            by = {"by": _groups(test)} if rule in _FIGURES else {}
            key = {"columns": [column]} if rule == "distinct_count" else {"column": column}
            yield _rule(test, rule, {**key, **bounds, **by})

    return read_it


_FIGURES = ("max", "min", "mean", "median", "std", "sum", "distinct_count")


def _on_column(rule: str) -> Reader:
    def read_it(test: Given) -> Iterable[Written]:
        if column := column_of(test):
            yield _rule(test, rule, {"columns": [column]})

    return read_it


# values and patterns


def _set_of(test: Given, *, as_text: bool = True) -> list[Any] | None:
    values = test.need("value_set", "list")
    if values is None:
        return None
    if not test.arguments.flag("quote_values", default=as_text):
        return [unquoted(v) for v in values if v is not None]
    if any(not isinstance(v, str | None) for v in values):
        test.note("what is no text is compared as it is, dbt puts it in quotes: do that where the column is text")
    return [v for v in values if v is not None]


def _in_set(test: Given) -> Iterable[Written]:
    column, values = column_of(test), _set_of(test)
    if column is not None and values:
        yield _rule(test, "in_set", {"column": column, "values": values})
        # null is in no set that dbt joins with
        yield _rule(test, "not_null", {"columns": [column]}, id=None)


def _not_in_set(test: Given) -> Iterable[Written]:
    column, values = column_of(test), _set_of(test)
    if column is not None and values:
        yield _rule(test, "not_in_set", {"column": column, "values": values})


def _contains(test: Given) -> Iterable[Written]:
    column, values = column_of(test), _set_of(test)
    for value in dict.fromkeys(values or ()) if column is not None else ():
        condition = f"{quoted(str(column))} = {literal(value)}"
        yield _rule(test, "row_count", {"min": 1, "where": condition}, id=None)


def _equals_set(test: Given) -> Iterable[Written]:
    return [*_in_set(test), *_contains(test)]


def _most_common(test: Given) -> Iterable[Written]:
    column, values = column_of(test), _set_of(test, as_text=False)
    if test.need("top_n", "integer") not in (None, 1):
        test.unmapped("a rule asks for the most common value, and no further ones")
    elif column is not None and values:
        yield _rule(test, "most_common", {"column": column, "is": values})


def _lengths(test: Given) -> Iterable[Written]:
    column, value = column_of(test), test.need("value", "integer")
    if column is not None and value is not None:
        yield _rule(test, "length_between", {"column": column, "min": value, "max": value})


def _patterns(rule: str, key: str, of: Callable[[Given, str], str]) -> Reader:
    """Return the reader of a test that a text matches a pattern; of a list of them any one, or all."""

    def read_it(test: Given) -> Iterable[Written]:
        column = column_of(test)
        patterns = [of(test, p) for p in test.arguments.texts(key)]
        if not patterns:
            test.arguments.fault(f"{key!r} is missing", "add a pattern")
        elif column is not None and len(patterns) == 1:
            yield _rule(test, rule, {"column": column, "pattern": patterns[0]})
        elif column is not None:
            sign = {"regex": "~", "not_regex": "!~", "like": "LIKE", "not_like": "NOT LIKE"}[rule]
            word = "AND" if test.arguments.text("match_on") == "all" else "OR"
            name = quoted(column)
            yield _rule(test, "expression", {"condition": joined((f"{name} {sign} {literal(p)}" for p in patterns), word)})  # fmt: skip

    return read_it


def _regex(test: Given, pattern: str) -> str:
    flags = test.arguments.text("flags") or ""
    found = f"(?{flags}){pattern}" if re.fullmatch("[ims]+", flags) else pattern
    if (flags and found == pattern) or not sqltext.is_regex(found):
        raise SqlError(f"{pattern!r}{' with ' if flags else ''}{flags} is not a valid regular expression here")
    if "\\\\" in pattern:
        test.note("backslashes are taken literally: write one where a database needs two")
    return found


def _like(_: Given, pattern: str) -> str:
    return pattern


def _ordered(rule: str) -> Reader:
    def read_it(test: Given) -> Iterable[Written]:
        column = column_of(test)
        order = test.arguments.text("sort_column") or column
        if "step" in test.arguments:
            test.unmapped("a rule compares with the value before, and asks for no step")
        elif column is not None and order is not None:
            if not re.fullmatch(NAME, order):
                raise SqlError(f"{order!r} is not a column; derive it in a stage")
            strictly = test.arguments.flag("strictly", default=True) or None
            arguments = {"column": column, "order_by": [order.strip('"')], "strictly": strictly, "by": _groups(test)}
            yield _rule(test, rule, arguments)

    return read_it


def _types(test: Given) -> Iterable[Written]:
    column = column_of(test)
    names = test.arguments.texts("column_type") or test.arguments.texts("column_type_list")
    known = list(dict.fromkeys(d for n in names if (d := types.from_physical(n)) is not None))
    if not known:
        test.unmapped(f"no type is known as {', '.join(map(repr, names))}")
    elif len(known) > 1:
        test.unmapped(f"a rule asks for one kind of type, and these are {', '.join(known)}")
    elif column is not None:
        yield made("schema", {"columns": {column: known[0]}, "mode": "superset", "types": "kind"}, test.common)


def _within_deviations(test: Given) -> Iterable[Written]:
    column, z = column_of(test), test.arguments.get("sigma_threshold", "number")
    if "group_by" in test.arguments:
        test.unmapped("it compares sums of groups; write a stage that adds them up, and outliers")
    elif column is not None:
        yield _rule(test, "outliers", {"column": column, "z": z})


# figures


def _distinct(bounds: Callable[[int], dict[str, int]]) -> Reader:
    def read_it(test: Given) -> Iterable[Written]:
        column, value = column_of(test), test.need("value", "integer")
        if column is not None and value is not None:
            yield _rule(test, "distinct_count", {"columns": [column], **bounds(value), "by": _groups(test)})

    return read_it


def _distinct_part(test: Given) -> Iterable[Written]:
    column, bounds = column_of(test), _bounds(test)
    if bounds.pop("closed", None):
        test.unmapped("bounds of a part are allowed values themselves")
    elif column is not None and bounds:
        part = {k: None if v is None else f"{v * 100:g}%" for k, v in bounds.items()}
        # what every part is
        part |= {k: None for k, v in (("min", 0), ("max", 1)) if bounds[k] == v}
        if part["min"] or part["max"]:
            yield _rule(test, "distinct_count", {"columns": [column], **part, "by": _groups(test)})


def _quantile(test: Given) -> Iterable[Written]:
    column, q, bounds = column_of(test), test.need("quantile", "number"), _bounds(test)
    if column is not None and q is not None and bounds:
        yield _rule(test, "quantile", {"column": column, "q": q, **bounds, "by": _groups(test)})


# several columns


def _expression(test: Given) -> Iterable[Written]:
    expression = test.need("expression", "text")
    if "group_by_columns" in test.arguments or "test_condition" in test.arguments:
        test.unmapped("it is about groups; write a stage that aggregates, and an expression")
    elif expression is not None:
        yield _rule(test, "expression", {"condition": condition_of(expression)})


def _compared(op: str) -> Reader:
    def read_it(test: Given) -> Iterable[Written]:
        left, right = test.need("column_A", "text"), test.need("column_B", "text")
        if left is None or right is None:
            return
        sign = ">=" if op == ">" and test.arguments.flag("or_equal") else op
        if re.fullmatch(NAME, left) and re.fullmatch(NAME, right):
            yield _rule(test, "compare", {"left": left.strip('"'), "op": sign, "right": right.strip('"')})
        else:
            yield _rule(test, "expression", {"condition": condition_of(f"({left}) {sign} ({right})")})

    return read_it


def _pairs(test: Given) -> Iterable[Written]:
    left, right, pairs = (
        test.need("column_A", "text"),
        test.need("column_B", "text"),
        test.need("value_pairs_set", "list"),
    )
    if left is None or right is None or pairs is None:
        return
    if not pairs or any(not isinstance(p, list) or len(p) != 2 for p in pairs):
        test.arguments.fault("value_pairs_set must hold lists of two values", None, "value_pairs_set")
        return
    each = (f"({left}) = {literal(unquoted(a))} AND ({right}) = {literal(unquoted(b))}" for a, b in pairs)  # fmt: skip
    yield _rule(test, "expression", {"condition": condition_of(str(joined(each, "OR")))})


def _columns(test: Given) -> list[str]:
    columns = [c.strip('"') for c in test.arguments.texts("column_list")]
    if not columns:
        test.arguments.fault("'column_list' is missing", "add a list of columns")
    return columns


def _looked_at(test: Given, columns: list[str]) -> str | None:
    """Return the condition of the rows that ``ignore_row_if`` leaves; None for all."""
    word = {"all_values_are_missing": "OR", "any_value_is_missing": "AND"}.get(
        test.arguments.text("ignore_row_if") or "all_values_are_missing"
    )
    return word and f" {word} ".join(f"{quoted(c)} IS NOT NULL" for c in columns)


def _compound_unique(test: Given) -> Iterable[Written]:
    if columns := _columns(test):
        if test.arguments.text("ignore_row_if") != "any_value_is_missing":
            test.note("keys that are null in part are not compared, dbt groups nulls together")
        yield _rule(test, "unique", {"columns": columns})


def _within_record(test: Given) -> Iterable[Written]:
    if columns := _columns(test):
        each = (f"{quoted(a)} <> {quoted(b)}" for a, b in combinations(columns, 2))
        condition = f"COALESCE({joined(each)}, FALSE)"
        yield _rule(test, "expression", {"condition": condition, "where": _looked_at(test, columns)})


# the table


def _row_count(test: Given) -> Iterable[Written]:
    if bounds := _bounds(test, whole=True):
        yield _rule(test, "row_count", {**bounds, "by": _groups(test)})


def _row_count_equals(test: Given) -> Iterable[Written]:
    if (value := test.need("value", "integer")) is not None:
        yield _rule(test, "row_count", {"equals": value, "by": _groups(test)})


def _row_count_same(test: Given) -> Iterable[Written]:
    other = test.need("compare_model", "text")
    if (name := referred(other)) is None:
        test.unmapped(f"{other!r} is no ref() or source()")
    elif any(key in test.arguments for key in ("factor", "compare_group_by", "compare_row_condition")):
        test.unmapped("a rule counts all rows of the other table; write a stage that filters or groups them")
    else:
        yield _rule(test, "row_count", {"same_as": name, "by": _groups(test)})


def _column_count(test: Given) -> Iterable[Written]:
    if bounds := _bounds(test, whole=True):
        yield made("column_count", bounds, test.common)


def _column_count_equals(test: Given) -> Iterable[Written]:
    if (value := test.need("value", "integer")) is not None:
        yield made("column_count", {"equals": value}, test.common)


def _table_columns(mode: str | None, *, ordered: bool | None = None) -> Reader:
    def read_it(test: Given) -> Iterable[Written]:
        if columns := _columns(test):
            yield made("schema", {"columns": columns, "mode": mode or "exact", "ordered": ordered}, test.common)

    return read_it


def _exists(test: Given) -> Iterable[Written]:
    if column := column_of(test):
        if "column_index" in test.arguments:
            test.note("the rule asks for the column at any place")
        yield made("schema", {"columns": [column], "mode": "superset"}, test.common)


def _recent(test: Given) -> Iterable[Written]:
    part, count = test.need("datepart", "text"), test.need("interval", "integer")
    grouped = test.name.endswith("expect_grouped_row_values_to_have_recent_data")
    field = test.need("timestamp_column", "text") if grouped else column_of(test)
    if part is None or count is None or field is None:
        return
    if part.lower() not in PERIODS or not re.fullmatch(NAME, field):
        test.unmapped(f"a rule takes a column, and one of {', '.join(PERIODS)}")
        return
    test.note("a table without rows passes, and so does a time in the future; dbt takes no account of such times")
    arguments = {"column": field.strip('"'), "within": f"{count}{PERIODS[part.lower()]}", "by": _groups(test)}
    yield _rule(test, "freshness", arguments)


_STEPS = PERIODS | {"month": "mo", "quarter": "q", "year": "y"}


def _every(test: Given) -> Iterable[Written]:
    column, part = test.need("date_col", "text"), (test.arguments.text("date_part") or "day").lower()
    count = test.arguments.get("interval", "integer") or 1
    if column is None:
        return
    start, end = (test.arguments.text(key) for key in ("test_start_date", "test_end_date"))
    if part not in _STEPS or not re.fullmatch(NAME, column):
        test.unmapped(f"a rule takes a column, and one of {', '.join(_STEPS)}")
    elif "exclusion_condition" in test.arguments:
        test.unmapped("a rule excepts no steps (exclusion_condition)")
    elif count != 1 and start is None:
        test.unmapped("a rule counts several steps at a time from a start (test_start_date)")
    else:
        try:
            # dbt leaves out the last day, a rule does not
            last = None if end is None else (date.fromisoformat(end) - timedelta(days=1)).isoformat()
        except ValueError:
            test.unmapped(f"{end!r} is no date")
            return
        arguments = {"column": column.strip('"'), "every": f"{count}{_STEPS[part]}", "start": start, "end": last}
        yield _rule(test, "no_gaps", arguments)


_ROWS = ("row_condition",)
_NUMBERS = ("min_value", "max_value", "strictly", *_ROWS)
_FIGURE = (*_NUMBERS, "group_by")
_SET = ("value_set", "quote_values", *_ROWS)
_PAIR = ("column_A", "column_B", *_ROWS)
_LIST = ("column_list", "quote_columns", "ignore_row_if", *_ROWS)
_MATCH = ("is_raw", "flags", "match_on", *_ROWS)
_COUNT = ("value", "group_by", *_ROWS)
_OTHER = ("compare_model", "group_by", "compare_group_by", "factor", "compare_row_condition", *_ROWS)

_ALL: dict[str, tuple[Reader, tuple[str, ...]]] = {
    "expression_is_true": (_expression, ("expression", "group_by_columns", "test_condition", *_ROWS)),
    "expect_column_to_exist": (_exists, ("column_index", "transform")),
    "expect_row_values_to_have_recent_data": (_recent, ("datepart", "interval", *_ROWS)),
    "expect_grouped_row_values_to_have_recent_data": (
        _recent,
        ("group_by", "timestamp_column", "datepart", "interval", *_ROWS),
    ),
    "expect_row_values_to_have_data_for_every_n_datepart": (
        _every,
        ("date_col", "date_part", "interval", "exclusion_condition", "test_start_date", "test_end_date", *_ROWS),
    ),
    "expect_table_column_count_to_be_between": (_column_count, ("min_value", "max_value")),
    "expect_table_column_count_to_equal": (_column_count_equals, ("value",)),
    "expect_table_columns_to_contain_set": (_table_columns("superset"), ("column_list", "transform")),
    "expect_table_columns_to_match_set": (_table_columns(None), ("column_list", "transform")),
    "expect_table_columns_to_match_ordered_list": (_table_columns(None, ordered=True), ("column_list", "transform")),
    "expect_table_row_count_to_be_between": (_row_count, _FIGURE),
    "expect_table_row_count_to_equal": (_row_count_equals, _COUNT),
    "expect_table_row_count_to_equal_other_table": (_row_count_same, _OTHER),
    "expect_column_values_to_be_null": (_on_column("null"), _ROWS),
    "expect_column_values_to_not_be_null": (_on_column("not_null"), _ROWS),
    "expect_column_values_to_be_unique": (_on_column("unique"), _ROWS),
    "expect_column_values_to_be_of_type": (_types, ("column_type",)),
    "expect_column_values_to_be_in_type_list": (_types, ("column_type_list",)),
    "expect_column_values_to_be_in_set": (_in_set, _SET),
    "expect_column_values_to_not_be_in_set": (_not_in_set, _SET),
    "expect_column_values_to_be_between": (_in_bounds("between"), _NUMBERS),
    "expect_column_values_to_be_increasing": (
        _ordered("increasing"),
        ("sort_column", "strictly", "group_by", "step", *_ROWS),
    ),
    "expect_column_values_to_be_decreasing": (
        _ordered("decreasing"),
        ("sort_column", "strictly", "group_by", "step", *_ROWS),
    ),
    "expect_column_value_lengths_to_be_between": (_in_bounds("length_between", whole=True), _NUMBERS),
    "expect_column_value_lengths_to_equal": (_lengths, ("value", *_ROWS)),
    "expect_column_values_to_match_regex": (_patterns("regex", "regex", _regex), ("regex", *_MATCH)),
    "expect_column_values_to_not_match_regex": (_patterns("not_regex", "regex", _regex), ("regex", *_MATCH)),
    "expect_column_values_to_match_regex_list": (_patterns("regex", "regex_list", _regex), ("regex_list", *_MATCH)),
    "expect_column_values_to_not_match_regex_list": (
        _patterns("not_regex", "regex_list", _regex),
        ("regex_list", *_MATCH),
    ),
    "expect_column_values_to_match_like_pattern": (_patterns("like", "like_pattern", _like), ("like_pattern", *_ROWS)),
    "expect_column_values_to_not_match_like_pattern": (
        _patterns("not_like", "like_pattern", _like),
        ("like_pattern", *_ROWS),
    ),
    "expect_column_values_to_match_like_pattern_list": (
        _patterns("like", "like_pattern_list", _like),
        ("like_pattern_list", "match_on", *_ROWS),
    ),
    "expect_column_values_to_not_match_like_pattern_list": (
        _patterns("not_like", "like_pattern_list", _like),
        ("like_pattern_list", "match_on", *_ROWS),
    ),
    "expect_column_distinct_count_to_equal": (_distinct(lambda n: {"equals": n}), _COUNT),
    "expect_column_distinct_count_to_be_greater_than": (_distinct(lambda n: {"min": n + 1}), _COUNT),
    "expect_column_distinct_count_to_be_less_than": (_distinct(lambda n: {"max": n - 1}), _COUNT),
    "expect_column_distinct_values_to_be_in_set": (_in_set, _SET),
    "expect_column_distinct_values_to_contain_set": (_contains, _SET),
    "expect_column_distinct_values_to_equal_set": (_equals_set, _SET),
    **{f"expect_column_{of}_to_be_between": (_in_bounds(rule), _FIGURE)
       for of, rule in (("max", "max"), ("min", "min"), ("mean", "mean"), ("median", "median"), ("stdev", "std"), ("sum", "sum"))},
    "expect_column_unique_value_count_to_be_between": (_in_bounds("distinct_count", whole=True), _FIGURE),
    "expect_column_proportion_of_unique_values_to_be_between": (_distinct_part, _FIGURE),
    "expect_column_quantile_values_to_be_between": (_quantile, ("quantile", *_FIGURE)),
    "expect_column_most_common_value_to_be_in_set": (_most_common, ("top_n", "data_type", *_SET)),
    "expect_column_pair_values_A_to_be_greater_than_B": (_compared(">"), ("or_equal", *_PAIR)),
    "expect_column_pair_values_to_be_equal": (_compared("="), _PAIR),
    "expect_column_pair_values_to_be_in_set": (_pairs, ("value_pairs_set", *_PAIR)),
    "expect_compound_columns_to_be_unique": (_compound_unique, _LIST),
    "expect_select_column_values_to_be_unique_within_record": (_within_record, _LIST),
    "expect_column_values_to_be_within_n_stdevs": (_within_deviations, ("sigma_threshold", "group_by", *_ROWS)),
}  # fmt: skip
READERS: Readers = {f"dbt_expectations.{name}": (read_it, known, False) for name, (read_it, known) in _ALL.items()}
_STAGE = "it aggregates; write a stage that does, and an expression on it"
WITHOUT_RULE = {
    f"dbt_expectations.{name}": why
    for name, why in (
        ("equal_expression", _STAGE),
        (
            "expect_multicolumn_sum_to_equal",
            "it adds up all rows; derive the sum of the columns in a stage, and write sum",
        ),
        ("expect_table_aggregation_to_equal_other_table", _STAGE),
        ("expect_table_row_count_to_equal_other_table_times_factor", _STAGE),
        ("expect_table_column_count_to_equal_other_table", "columns are known before any run; write column_count"),
        ("expect_table_columns_to_not_contain_set", "a rule names the columns that there are: write schema"),
        ("expect_column_distinct_count_to_equal_other_table", "write foreign_key here and there"),
        ("expect_column_values_to_have_consistent_casing", _STAGE),
        ("expect_column_values_to_be_within_n_moving_stdevs", "z_score compares with what earlier runs measured"),
    )
}
"""Why other tests have no rule, and what to write."""
