"""Tests of the package ``dbt_utils`` that check rows, as rules."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lazypipe.contracts.contract import Written, joined, made
from lazypipe.contracts.dbt_given import NAME, PERIODS, Given, Readers, column_of, condition_of, referred
from lazypipe.sql.text import quoted

__all__ = ["READERS", "WITHOUT_RULE"]


def _groups(test: Given) -> list[str] | None:
    return [c.strip('"') for c in test.arguments.texts("group_by_columns")] or None


def _unique_columns(test: Given) -> Iterable[Written]:
    columns = test.arguments.texts("combination_of_columns")
    if not columns:
        test.arguments.fault("'combination_of_columns' is missing", "add a list of columns")
        return
    test.note("keys with a null in them are not compared, dbt groups nulls together")
    yield made("unique", {"columns": [c.strip('"') for c in columns]}, test.common)


def _accepted_range(test: Given) -> Iterable[Written]:
    column = column_of(test)
    low, high = (test.arguments.get(key, "scalar") for key in ("min_value", "max_value"))
    if low is None and high is None:
        test.arguments.fault(f"{test.name} needs a bound", "add min_value or max_value")
    elif column is not None:
        if any(isinstance(bound, str) for bound in (low, high)):
            test.unmapped("its bounds are expressions, not numbers")
            return
        closed = None if test.arguments.flag("inclusive", default=True) else "none"
        yield made("between", {"column": column, "min": low, "max": high, "closed": closed}, test.common)


def _expression_is_true(test: Given) -> Iterable[Written]:
    expression = test.need("expression", "text")
    if expression is not None:
        name = "" if test.column is None else f"{quoted(test.column)} "
        common = dict(test.common)
        if extra := test.arguments.text("condition"):  # what where was called
            common["where"] = joined([common["where"], condition_of(extra)])
        # dbt asks for rows for which it is not true: null is none of them, as in NOT (…)
        yield made("expression", {"condition": condition_of(f"{name}{expression}")}, common)


def _not_empty(test: Given) -> Iterable[Written]:
    if column := column_of(test):
        name = quoted(column)
        value = name if test.arguments.value.get("trim_whitespace") is False else f"TRIM({name})"
        yield made("expression", {"condition": f"{value} <> ''"}, test.common)


def _not_null_proportion(test: Given) -> Iterable[Written]:
    column, low = column_of(test), test.need("at_least", "number")
    if column is not None and low is not None:
        by = _groups(test)
        if test.arguments.value.get("at_most") not in (None, 1, 1.0):
            condition = f"{quoted(column)} IS NOT NULL"
            high = test.arguments.get("at_most", "number")
            yield made("proportion", {"condition": condition, "min": low, "max": high, "by": by}, test.common)
        else:
            yield made("completeness", {"column": column, "min": low, "by": by}, test.common)


def _at_least_one(test: Given) -> Iterable[Written]:
    if column := column_of(test):
        if by := _groups(test):  # a group of nothing but nulls has a number of values too
            yield made("distinct_count", {"columns": [column], "min": 1, "by": by}, test.common)
        else:
            yield made("row_count", {"min": 1, "where": f"{quoted(column)} IS NOT NULL"}, test.common)


def _not_constant(test: Given) -> Iterable[Written]:
    if column := column_of(test):
        test.note("a column without any value has no two values, and fails; dbt lets it pass")
        yield made("distinct_count", {"columns": [column], "min": 2, "by": _groups(test)}, test.common)


def _equal_row_count(test: Given) -> Iterable[Written]:
    other = test.need("compare_model", "text")
    if (name := referred(other)) is None:
        test.unmapped(f"{other!r} is no ref() or source()")
    else:
        yield made("row_count", {"same_as": name, "by": _groups(test)}, test.common)


def _recency(test: Given) -> Iterable[Written]:
    field, part, count = (
        test.need(key, kind) for key, kind in (("field", "text"), ("datepart", "text"), ("interval", "integer"))
    )
    if field is None or part is None or count is None:
        return
    if part.lower() not in PERIODS or not re.fullmatch(NAME, field):
        test.unmapped(f"a rule takes a column, and one of {', '.join(PERIODS)}")
    elif test.arguments.value.get("ignore_time_component"):
        test.unmapped("ignore_time_component counts days; cast the column to Date")
    else:
        arguments = {"column": field.strip('"'), "within": f"{count}{PERIODS[part.lower()]}", "by": _groups(test)}
        yield made("freshness", arguments, test.common)


_BY = ("group_by_columns",)

READERS: Readers = {
    "dbt_utils.unique_combination_of_columns": (_unique_columns, ("combination_of_columns", "quote_columns"), True),
    "dbt_utils.accepted_range": (_accepted_range, ("min_value", "max_value", "inclusive"), False),
    "dbt_utils.expression_is_true": (_expression_is_true, ("expression", "condition"), False),
    "dbt_utils.not_empty_string": (_not_empty, ("trim_whitespace",), False),
    "dbt_utils.not_null_proportion": (_not_null_proportion, ("at_least", "at_most", *_BY), False),
    "dbt_utils.at_least_one": (_at_least_one, _BY, False),
    "dbt_utils.not_constant": (_not_constant, _BY, False),
    "dbt_utils.equal_rowcount": (_equal_row_count, ("compare_model", *_BY), False),
    "dbt_utils.recency": (_recency, ("field", "datepart", "interval", "ignore_time_component", *_BY), False),
}
WITHOUT_RULE = {
    "dbt_utils.equality": "two tables are compared by lazypipe diff",
    "dbt_utils.fewer_rows_than": "a rule compares numbers of rows for being equal",
    "dbt_utils.cardinality_equality": "a rule looks for keys in one direction: write foreign_key here and there",
    "dbt_utils.mutually_exclusive_ranges": "write a stage with lead(…) OVER (…), and an expression on it",
    "dbt_utils.sequential_values": "write no_gaps and unique, where values are whole numbers or dates",
}
"""Why other tests have no rule, and what to write."""
