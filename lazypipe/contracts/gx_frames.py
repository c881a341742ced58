"""Expectations on a column as a whole, on several columns, and on the table, as rules."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Any

from lazypipe.contracts import sqltext
from lazypipe.contracts.contract import Written, joined, made
from lazypipe.contracts.gx_given import (
    NUMBERS,
    OLD,
    Given,
    Reader,
    Readers,
    Unmappable,
    Wrong,
    bounds,
    note_dates,
    vacuous,
    values_of,
)
from lazypipe.contracts.gx_values import in_set
from lazypipe.sql.literal import literal
from lazypipe.sql.text import quoted

__all__ = ["READERS"]

_LEAST = 2.0**-63
"""No part of rows is less, unless there is none."""

# one column as a whole


def _aggregate(name: str) -> Reader:
    def read_it(given: Given) -> Iterable[Written]:
        low, high, closed = bounds(given)
        note_dates(given)
        if low is None and high is None:
            return vacuous(given)
        return [given.frame_rule(name, {"column": given.column, "min": low, "max": high, "closed": closed})]

    return read_it


def _distinct_count(given: Given) -> Iterable[Written]:
    low, high, _ = bounds(given, kind="number", whole=True)
    if low is None and high is None:
        return vacuous(given)
    return [given.frame_rule("distinct_count", {"columns": [given.column], "min": low, "max": high})]


def _distinct_share(given: Given) -> Iterable[Written]:
    low, high = _parts(given)
    if low is not None and low > 1:
        raise Unmappable("the part of distinct values is never more than all")
    low, high = None if low is not None and low <= _LEAST else low, None if high is not None and high >= 1 else high
    if low is None and high is None:
        return vacuous(given)
    if low == 1:
        return [given.frame_rule("unique", {"columns": [given.column]})]
    written = {"min": _percent(low), "max": _percent(high)}
    return [given.frame_rule("distinct_count", {"columns": [given.column], **written})]


def _percent(part: float | None) -> str | None:
    return None if part is None else f"{(max(Decimal(str(part)), Decimal(0)) * 100).normalize():f}%"


def _parts(given: Given) -> tuple[float | None, float | None]:
    """Return the bounds of a part."""
    low, high, _ = bounds(given, kind="number")
    # the next float is as good as an open bound
    low = math.nextafter(low, 2) if low is not None and given.kwargs.flag("strict_min") else low
    high = math.nextafter(high, -1) if high is not None and given.kwargs.flag("strict_max") else high
    return low, high


def _completeness(given: Given) -> Iterable[Written]:
    low, high = _parts(given)
    if low is None and high is None:
        return vacuous(given)
    if high is None or high >= 1:
        return [given.frame_rule("completeness", {"column": given.column, "min": low or 0})]
    condition = f"{quoted(given.column)} IS NOT NULL"
    return [given.frame_rule("proportion", {"condition": condition, "min": low, "max": high})]


def _quantiles(given: Given) -> Iterable[Written]:
    ranges = given.kwargs.child("quantile_ranges")
    quantiles, bounds = ranges.need("quantiles", "list"), ranges.need("value_ranges", "list")
    if quantiles is None or bounds is None:
        return
    if len(quantiles) != len(bounds):
        raise Wrong(f"{len(quantiles)} quantiles have {len(bounds)} ranges", "quantile_ranges", "value_ranges")
    if given.value("allow_relative_error") != "linear" and set(quantiles) - {0, 1}:
        given.kwargs.note(
            given.name, "the rule interpolates between values; GX takes the nearest, and allows 0.01 % more"
        )
    for index, (q, written) in enumerate(zip(quantiles, bounds, strict=True)):
        match written:
            case [None, None]:
                continue
            case [low, high] if isinstance(q, int | float):
                yield given.frame_rule("quantile", {"column": given.column, "q": q, "min": low, "max": high})
            case _:
                raise Wrong("a range is two numbers, or null", "quantile_ranges", "value_ranges", index)


def _most_common(given: Given) -> Iterable[Written]:
    values = values_of(given)
    if not values:
        raise Unmappable("no value is allowed")
    ties = given.kwargs.flag("ties_okay") or None
    if len(values) > 1 and not ties:
        given.kwargs.note(given.name, "a tie passes if all of its values are in the set; in GX a tie fails")
    return [given.frame_rule("most_common", {"column": given.column, "is": values, "ties": ties})]


def _contains(given: Given) -> Iterable[Written]:
    name = quoted(given.column)
    for value in values_of(given) or ():
        condition = f"{name} = {literal(value)}"
        yield made("row_count", {"min": 1, "where": condition}, {"where": given.condition, **given.common})


def _equal_set(given: Given) -> Iterable[Written]:
    return [*in_set(given), *_contains(given)]


# several columns


def _pair(given: Given) -> tuple[str, str]:
    return str(given.kwargs.text("column_A")), str(given.kwargs.text("column_B"))


_IGNORE = {
    "both_values_are_missing": "OR",
    "either_value_is_missing": "AND",
    "neither": None,
    "all_values_are_missing": "OR",
    "any_value_is_missing": "AND",
    "never": None,
}


def _not_ignored(given: Given, columns: Sequence[str], default: str) -> str | None:
    """Return the condition of the rows that are looked at; None for all."""
    ignore = given.kwargs.text("ignore_row_if") or default
    if ignore not in _IGNORE:
        raise Wrong(f"unknown ignore_row_if {ignore!r}", "ignore_row_if")
    word = _IGNORE[ignore]
    return None if word is None else " ".join(f"{word} {quoted(c)} IS NOT NULL" for c in columns)[len(word) + 1 :]


def _expression(given: Given, columns: Sequence[str], condition: str, default: str) -> Written:
    """Return an expression in which null is a violation, in the rows that are not ignored."""
    rows = _not_ignored(given, columns, default)
    return given.rule("expression", {"condition": f"COALESCE({condition}, FALSE)", "where": rows}, rows)


def _compared(op: str) -> Reader:
    def read_it(given: Given) -> Iterable[Written]:
        pair = left, right = _pair(given)
        note_dates(given)
        sign = ">=" if op == ">" and given.kwargs.flag("or_equal") else op
        if (given.kwargs.text("ignore_row_if") or "") == "either_value_is_missing":
            rows = _not_ignored(given, pair, "")
            return [given.rule("compare", {"left": left, "op": sign, "right": right}, rows)]
        condition = f"{quoted(left)} {sign} {quoted(right)}"
        return [_expression(given, pair, condition, "both_values_are_missing")]

    return read_it


def _pair_in_set(given: Given) -> Iterable[Written]:
    pair, values = _pair(given), given.kwargs.get("value_pairs_set", "list")
    if values is None:
        return vacuous(given)
    each = []
    for index, value in enumerate(values):
        if not isinstance(value, list) or len(value) != 2:
            raise Wrong("a pair is a list of two values", "value_pairs_set", index)
        each.append(str(joined(_is(c, v) for c, v in zip(pair, value, strict=True))))
    # of no pairs none is right, which a condition without columns could not say of each row
    never = f"{quoted(pair[0])} IS NULL AND {quoted(pair[0])} IS NOT NULL"
    return [_expression(given, pair, joined(each, "OR") or never, "both_values_are_missing")]


def _is(column: str, value: Any) -> str:
    name = quoted(column)
    return f"{name} IS NULL" if value is None else f"{name} = {literal(value)}"


def _columns(given: Given) -> list[str]:
    columns = list(given.kwargs.texts("column_list"))
    if len(columns) < 2:
        raise Wrong("column_list needs two columns or more", "column_list")
    return columns


def _compound_unique(given: Given) -> Iterable[Written]:
    columns = _columns(given)
    ignore = given.kwargs.text("ignore_row_if") or "all_values_are_missing"
    if ignore != "any_value_is_missing":
        given.kwargs.note(
            given.name, "keys that are null in part are not compared, GX takes null as a value of its own"
        )
    rows = _not_ignored(given, columns, ignore)
    return [given.rule("unique", {"columns": columns}, rows)]


def _within_record(given: Given) -> Iterable[Written]:
    columns = _columns(given)
    each = (f"{quoted(a)} IS DISTINCT FROM {quoted(b)}" for a, b in combinations(columns, 2))
    return [_expression(given, columns, str(joined(each)), "all_values_are_missing")]


def _all_equal(given: Given) -> Iterable[Written]:
    columns = _columns(given)
    first = quoted(columns[0])
    each = (f"{first} IS NOT DISTINCT FROM {quoted(c)}" for c in columns[1:])
    return [_expression(given, columns, str(joined(each)), "all_values_are_missing")]


def _sum_equals(given: Given) -> Iterable[Written]:
    columns, total = _columns(given), given.kwargs.get("sum_total", "number")
    if given.kwargs.text("ignore_row_if") == "any_value_is_missing":
        rows = _not_ignored(given, columns, "")
        return [given.rule("sum_equals", {"columns": columns, "total": total}, rows)]
    condition = f"{' + '.join(map(quoted, columns))} = {literal(total)}"
    return [_expression(given, columns, condition, "all_values_are_missing")]


# the table


def _row_count(given: Given) -> Iterable[Written]:
    low, high, _ = bounds(given, kind="number", whole=True)
    if low is None and high is None:
        return vacuous(given)
    return [given.frame_rule("row_count", {"min": low, "max": high})]


def _row_count_equals(given: Given) -> Iterable[Written]:
    yield given.frame_rule("row_count", {"equals": given.kwargs.get("value", "integer")})


def _row_count_same(given: Given) -> Iterable[Written]:
    yield given.frame_rule("row_count", {"same_as": given.kwargs.text("other_table_name")})


def _ordered_columns(given: Given) -> Iterable[Written]:
    if "column_list" not in given.kwargs:
        return vacuous(given)
    columns = list(given.kwargs.texts("column_list"))
    return [given.schema_rule({"columns": columns, "mode": "exact", "ordered": True})]


def _column_set(given: Given) -> Iterable[Written]:
    mode = "exact" if given.kwargs.flag("exact_match", default=True) else "superset"
    if "column_set" not in given.kwargs:
        if mode == "exact":
            raise Wrong("it needs column_set", "column_set")
        return vacuous(given)
    return [given.schema_rule({"columns": list(given.kwargs.texts("column_set")), "mode": mode})]


def _column_count(given: Given) -> Iterable[Written]:
    low, high, _ = bounds(given, kind="number", whole=True)
    if low is None and high is None:
        return vacuous(given)
    return [made("column_count", {"min": low, "max": high}, given.common)]


def _column_count_equals(given: Given) -> Iterable[Written]:
    yield made("column_count", {"equals": given.kwargs.get("value", "integer")}, given.common)


def _exists(given: Given) -> Iterable[Written]:
    if "column_index" in given.kwargs:
        given.kwargs.note("column_index", "the rule asks for the column at any place", "column_index")
    yield given.schema_rule({"columns": [given.column], "mode": "superset"})


_QUERY = re.compile(r"\s*SELECT\s+.+?\s+FROM\s+\{batch\}\s+WHERE\s+(.+?)\s*;?\s*", re.IGNORECASE | re.DOTALL)


def _unexpected_rows(given: Given) -> Iterable[Written]:
    query = _QUERY.fullmatch(given.kwargs.text("unexpected_rows_query") or "")
    why = "only SELECT … FROM {batch} WHERE … has a rule" if query is None else sqltext.problem(query[1])
    if query is None or why:
        raise Unmappable(f"the query has no rule: {why}")
    yield given.frame_rule("expression", {"condition": f"NOT ({query[1]})"})


_ROWS = ("ignore_row_if",)
_PAIR = ("column_A", "column_B")

READERS: Readers = {
    "expect_column_max_to_be_between": (("column",), (*NUMBERS, *OLD), _aggregate("max")),
    "expect_column_min_to_be_between": (("column",), (*NUMBERS, *OLD), _aggregate("min")),
    "expect_column_mean_to_be_between": (("column",), NUMBERS, _aggregate("mean")),
    "expect_column_median_to_be_between": (("column",), NUMBERS, _aggregate("median")),
    "expect_column_stdev_to_be_between": (("column",), NUMBERS, _aggregate("std")),
    "expect_column_sum_to_be_between": (("column",), NUMBERS, _aggregate("sum")),
    "expect_column_unique_value_count_to_be_between": (("column",), NUMBERS, _distinct_count),
    "expect_column_proportion_of_unique_values_to_be_between": (("column",), NUMBERS, _distinct_share),
    "expect_column_proportion_of_non_null_values_to_be_between": (("column",), NUMBERS, _completeness),
    "expect_column_quantile_values_to_be_between": (
        ("column", "quantile_ranges"),
        ("allow_relative_error",),
        _quantiles,
    ),
    "expect_column_most_common_value_to_be_in_set": (("column",), ("value_set", "ties_okay"), _most_common),
    "expect_column_distinct_values_to_contain_set": (("column",), ("value_set", *OLD), _contains),
    "expect_column_distinct_values_to_equal_set": (("column",), ("value_set", *OLD), _equal_set),
    "expect_column_pair_values_to_be_equal": (_PAIR, _ROWS, _compared("=")),
    "expect_column_pair_values_a_to_be_greater_than_b": (_PAIR, ("or_equal", *_ROWS, *OLD), _compared(">")),
    "expect_column_pair_values_to_be_in_set": (_PAIR, ("value_pairs_set", *_ROWS), _pair_in_set),
    "expect_compound_columns_to_be_unique": (("column_list",), _ROWS, _compound_unique),
    "expect_multicolumn_values_to_be_unique": (("column_list",), _ROWS, _within_record),
    "expect_select_column_values_to_be_unique_within_record": (("column_list",), _ROWS, _within_record),
    "expect_multicolumn_values_to_be_equal": (("column_list",), _ROWS, _all_equal),
    "expect_multicolumn_sum_to_equal": (("column_list", "sum_total"), _ROWS, _sum_equals),
    "expect_table_row_count_to_be_between": ((), NUMBERS, _row_count),
    "expect_table_row_count_to_equal": (("value",), (), _row_count_equals),
    "expect_table_row_count_to_equal_other_table": (("other_table_name",), (), _row_count_same),
    "expect_table_column_count_to_be_between": ((), NUMBERS, _column_count),
    "expect_table_column_count_to_equal": (("value",), (), _column_count_equals),
    "expect_table_columns_to_match_ordered_list": ((), ("column_list",), _ordered_columns),
    "expect_table_columns_to_match_set": ((), ("column_set", "exact_match"), _column_set),
    "expect_column_to_exist": (("column",), ("column_index",), _exists),
    "unexpected_rows_expectation": (("unexpected_rows_query",), (), _unexpected_rows),
}
