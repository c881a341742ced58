"""Tests of dbt_expectations and dbt_utils: rules fail where the packages' own SQL, as DuckDB answers it, returns rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.contracts import from_dbt
from lazypipe.contracts.dbt import _READERS, _WITHOUT_RULE
from lazypipe.errors import DefinitionError

SCHEMA = pl.Schema({"c": pl.Int64, "d": pl.Int64, "s": pl.String, "day": pl.Date, "g": pl.String})
NOW = datetime(2024, 1, 10, tzinfo=UTC)
INTS = st.none() | st.integers(-2, 3)
DAYS = st.none() | st.dates(date(2024, 1, 1), date(2024, 1, 6))
ROWS = st.lists(
    st.tuples(INTS, INTS, st.none() | st.sampled_from(["", "a", "b", "ab", "a@b"]), DAYS, st.sampled_from(["x", "y"])),
    max_size=6,
)


def model(test: Any, column: str | None = "c") -> dict[str, Any]:
    if column is None:
        return {"models": [{"name": "m", "data_tests": [test]}]}
    return {"models": [{"name": "m", "columns": [{"name": column, "data_tests": [test]}]}]}


def expectation(name: str, column: str | None = "c", **arguments: Any) -> dict[str, Any]:
    return model({f"dbt_expectations.{name}": arguments}, column)


def utils(name: str, column: str | None = "c", **arguments: Any) -> dict[str, Any]:
    return model({f"dbt_utils.{name}": arguments}, column)


def true(condition: str, where: str = "true") -> str:
    """What the packages ask of an expression: the rows for which it is false."""
    return f"SELECT * FROM (SELECT {condition} AS e FROM t WHERE {where}) WHERE NOT e"


def of_groups(condition: str, by: str = "g") -> str:
    return f"SELECT * FROM (SELECT {condition} AS e FROM t GROUP BY {by}) WHERE NOT e"


def repeated(columns: str, where: str = "true") -> str:
    return f"SELECT {columns} FROM t WHERE {where} GROUP BY {columns} HAVING count(*) > 1"


def lagging(op: str, by: str = "") -> str:
    over = f"(PARTITION BY {by} ORDER BY d)" if by else "(ORDER BY d)"
    # of rows that tie in the order, databases take any; of those with a null in it as well
    return f"SELECT * FROM (SELECT c, lag(c) OVER {over} AS l FROM t WHERE c IS NOT NULL AND d IS NOT NULL) WHERE NOT c {op} l"


AT_MOST, SOME = {"max_value": 2}, {"min_value": 0, "max_value": 2}
VALUES = {"value_set": [0, 1], "quote_values": False}
NOT_IN = "SELECT * FROM t LEFT JOIN (VALUES (0), (1)) v(x) ON c = x WHERE x IS NULL"

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "null": (expectation("expect_column_values_to_be_null"), "SELECT * FROM t WHERE c IS NOT NULL"),
    "not null": (expectation("expect_column_values_to_not_be_null", row_condition="d > 0"), "SELECT * FROM t WHERE c IS NULL AND d > 0"),
    "unique": (expectation("expect_column_values_to_be_unique"), repeated("c", "c IS NOT NULL")),
    "in set": (expectation("expect_column_values_to_be_in_set", **VALUES), NOT_IN),
    "in set of texts": (
        expectation("expect_column_values_to_be_in_set", "s", value_set=["a", "b"], row_condition="c > 0"),
        "SELECT * FROM t LEFT JOIN (VALUES ('a'), ('b')) v(x) ON s = x WHERE x IS NULL AND c > 0",
    ),
    "not in set": (
        expectation("expect_column_values_to_not_be_in_set", **VALUES),
        "SELECT * FROM t JOIN (VALUES (0), (1)) v(x) ON c = x",
    ),
    "between": (expectation("expect_column_values_to_be_between", **SOME), true("c >= 0 AND c <= 2")),
    "strictly between": (expectation("expect_column_values_to_be_between", strictly=True, **SOME), true("c > 0 AND c < 2")),
    "between dates": (
        expectation("expect_column_values_to_be_between", "day", min_value="cast('2024-01-02' as date)", max_value="'2024-01-05'::date"),
        true("day >= '2024-01-02' AND day <= '2024-01-05'"),
    ),
    "increasing": (expectation("expect_column_values_to_be_increasing", sort_column="d", strictly=False), lagging(">=")),
    "decreasing in groups": (
        expectation("expect_column_values_to_be_decreasing", sort_column="d", strictly=False, group_by=["g"]),
        lagging("<=", "g"),
    ),
    "strictly increasing": (
        expectation("expect_column_values_to_be_increasing"),
        "SELECT * FROM (SELECT c, lag(c) OVER (ORDER BY c) AS l FROM t WHERE c IS NOT NULL) WHERE NOT c > l",
    ),
    "lengths": (expectation("expect_column_value_lengths_to_be_between", "s", min_value=1, max_value=2), true("len(s) BETWEEN 1 AND 2")),
    "strict lengths": (expectation("expect_column_value_lengths_to_be_between", "s", min_value=0, strictly=True), true("len(s) > 0")),
    "length": (expectation("expect_column_value_lengths_to_equal", "s", value=1), true("len(s) = 1")),
    "regex": (expectation("expect_column_values_to_match_regex", "s", regex="^A", flags="i"), true("regexp_matches(s, '(?i)^A')")),
    "not regex": (expectation("expect_column_values_to_not_match_regex", "s", regex="b$", is_raw=True), true("NOT regexp_matches(s, 'b$')")),
    "any regex": (
        expectation("expect_column_values_to_match_regex_list", "s", regex_list=["^a", "@"]),
        true("regexp_matches(s, '^a') OR regexp_matches(s, '@')"),
    ),
    "all regex": (
        expectation("expect_column_values_to_match_regex_list", "s", regex_list=["^a", "b$"], match_on="all"),
        true("regexp_matches(s, '^a') AND regexp_matches(s, 'b$')"),
    ),
    "not all regex": (
        expectation("expect_column_values_to_not_match_regex_list", "s", regex_list=["^a", "b$"]),
        true("NOT regexp_matches(s, '^a') OR NOT regexp_matches(s, 'b$')"),
    ),
    "no regex": (
        expectation("expect_column_values_to_not_match_regex_list", "s", regex_list=["^a", "b$"], match_on="all"),
        true("NOT regexp_matches(s, '^a') AND NOT regexp_matches(s, 'b$')"),
    ),
    "like": (expectation("expect_column_values_to_match_like_pattern", "s", like_pattern="a%"), true("s LIKE 'a%'")),
    "not like": (expectation("expect_column_values_to_not_match_like_pattern", "s", like_pattern="a_"), true("s NOT LIKE 'a_'")),
    "any like": (
        expectation("expect_column_values_to_match_like_pattern_list", "s", like_pattern_list=["a%", "%b"]),
        true("s LIKE 'a%' OR s LIKE '%b'"),
    ),
    "no like": (
        expectation("expect_column_values_to_not_match_like_pattern_list", "s", like_pattern_list=["a%", "%b"], match_on="all"),
        true("s NOT LIKE 'a%' AND s NOT LIKE '%b'"),
    ),
    "distinct count": (expectation("expect_column_distinct_count_to_equal", value=2), true("count(DISTINCT c) = 2")),
    "more distinct": (
        expectation("expect_column_distinct_count_to_be_greater_than", value=1, group_by=["g"]),
        of_groups("count(DISTINCT c) > 1"),
    ),
    "fewer distinct": (expectation("expect_column_distinct_count_to_be_less_than", value=3), true("count(DISTINCT c) < 3")),
    "distinct in set": (expectation("expect_column_distinct_values_to_be_in_set", **VALUES), NOT_IN),
    "contains set": (
        expectation("expect_column_distinct_values_to_contain_set", **VALUES),
        "SELECT * FROM (VALUES (0), (1)) v(x) WHERE x NOT IN (SELECT c FROM t WHERE c IS NOT NULL)",
    ),
    "equals set": (
        expectation("expect_column_distinct_values_to_equal_set", **VALUES),
        "SELECT * FROM (SELECT DISTINCT c FROM t) FULL JOIN (VALUES (0), (1)) v(x) ON c = x WHERE c IS NULL OR x IS NULL",
    ),
    "max": (expectation("expect_column_max_to_be_between", **AT_MOST), true("max(c) <= 2")),
    "min in groups": (expectation("expect_column_min_to_be_between", min_value=0, group_by=["g"]), of_groups("min(c) >= 0")),
    "mean": (expectation("expect_column_mean_to_be_between", strictly=True, **SOME), true("avg(c) > 0 AND avg(c) < 2")),
    "median": (expectation("expect_column_median_to_be_between", **SOME), true("median(c) >= 0 AND median(c) <= 2")),
    "sum": (expectation("expect_column_sum_to_be_between", row_condition="g = 'x'", min_value=1), true("coalesce(sum(c), 0) >= 1", "g = 'x'")),
    "stdev": (expectation("expect_column_stdev_to_be_between", max_value=1.9), true("stddev(c) <= 1.9")),
    "unique values": (expectation("expect_column_unique_value_count_to_be_between", min_value=1, max_value=3, strictly=True), true("count(DISTINCT c) = 2")),
    "unique part": (
        expectation("expect_column_proportion_of_unique_values_to_be_between", min_value=0.5, max_value=0.75),
        true("count(DISTINCT c) / nullif(count(c), 0) BETWEEN 0.5 AND 0.75"),
    ),
    "some unique part": (
        expectation("expect_column_proportion_of_unique_values_to_be_between", min_value=0, max_value=0.5),
        true("count(DISTINCT c) / nullif(count(c), 0) <= 0.5"),
    ),
    "quantile": (
        expectation("expect_column_quantile_values_to_be_between", quantile=0.25, min_value=0),
        true("quantile_cont(c, 0.25) >= 0"),
    ),
    "expression": (expectation("expression_is_true", None, expression="c + d = 1", row_condition="d > 0"), true("c + d = 1", "d > 0")),
    "pair": (expectation("expect_column_pair_values_A_to_be_greater_than_B", None, column_A="c", column_B="d"), true("c > d")),
    "pair of expressions": (
        expectation("expect_column_pair_values_A_to_be_greater_than_B", None, column_A="c + 1", column_B="d", or_equal=True),
        true("c + 1 >= d"),
    ),
    "equal pair": (expectation("expect_column_pair_values_to_be_equal", None, column_A="c", column_B="d"), true("c = d")),
    "pairs": (
        expectation("expect_column_pair_values_to_be_in_set", None, column_A="c", column_B="s", value_pairs_set=[[0, "'a'"], [1, "'b'"]]),
        true("(c = 0 AND s = 'a') OR (c = 1 AND s = 'b')"),
    ),
    "compound unique": (
        expectation("expect_compound_columns_to_be_unique", None, column_list=["c", "s"], ignore_row_if="any_value_is_missing"),
        repeated("c, s", "c IS NOT NULL AND s IS NOT NULL"),
    ),
    "within a record": (
        expectation("expect_select_column_values_to_be_unique_within_record", None, column_list=["c", "d"]),
        "SELECT * FROM t WHERE (c IS NOT NULL OR d IS NOT NULL) AND (c = d OR c IS NULL OR d IS NULL)",
    ),
    "complete records": (
        expectation("expect_select_column_values_to_be_unique_within_record", None, column_list=["c", "d"], ignore_row_if="any_value_is_missing"),
        "SELECT * FROM t WHERE c = d",
    ),
    "rows": (expectation("expect_table_row_count_to_be_between", None, min_value=1, max_value=4, strictly=True), true("count(*) > 1 AND count(*) < 4")),
    "rows of groups": (expectation("expect_table_row_count_to_be_between", None, max_value=2, group_by=["g"]), of_groups("count(*) <= 2")),
    "so many rows": (expectation("expect_table_row_count_to_equal", None, value=3), true("count(*) = 3")),
    "as many rows": (
        expectation("expect_table_row_count_to_equal_other_table", None, compare_model="ref('other')"),
        "SELECT 1 WHERE (SELECT count(*) FROM t) <> (SELECT count(*) FROM other)",
    ),
    "days": (
        expectation("expect_row_values_to_have_data_for_every_n_datepart", None, date_col="day"),
        "SELECT * FROM (SELECT unnest(generate_series(min(day), max(day), INTERVAL 1 DAY))::date AS x FROM t) WHERE x NOT IN (SELECT day FROM t WHERE day IS NOT NULL)",
    ),
    "days from and to": (
        expectation(
            "expect_row_values_to_have_data_for_every_n_datepart", None, date_col="day", interval=2, test_start_date="2024-01-02", test_end_date="2024-01-06"
        ),
        "SELECT * FROM (VALUES (date '2024-01-02'), (date '2024-01-04')) v(x) WHERE x NOT IN (SELECT day FROM t WHERE day IS NOT NULL) AND x + 1 NOT IN (SELECT day FROM t WHERE day IS NOT NULL)",
    ),
    "recent": (
        expectation("expect_row_values_to_have_recent_data", "day", datepart="day", interval=5),
        # a day lasts until its end, a rule says
        "SELECT * FROM (SELECT max(day) AS m FROM t) WHERE m + 1 < date '2024-01-10' - 5",
    ),
    "recent groups": (
        expectation("expect_grouped_row_values_to_have_recent_data", None, group_by=["g"], timestamp_column="day", datepart="day", interval=5),
        "SELECT * FROM (SELECT max(day) AS m FROM t GROUP BY g) WHERE m + 1 < date '2024-01-10' - 5",
    ),
    "columns": (expectation("expect_table_columns_to_match_ordered_list", None, column_list=[*SCHEMA]), "SELECT 1 WHERE false"),
    "no such column": (expectation("expect_table_columns_to_contain_set", None, column_list=["c", "z"]), "SELECT 1"),
    "one column more": (expectation("expect_table_columns_to_match_set", None, column_list=["c", "d"]), "SELECT 1"),
    "a column": (expectation("expect_column_to_exist"), "SELECT 1 WHERE false"),
    "so many columns": (expectation("expect_table_column_count_to_equal", None, value=4), "SELECT 1"),
    "columns between": (expectation("expect_table_column_count_to_be_between", None, min_value=4, max_value=5), "SELECT 1 WHERE false"),
    "type": (expectation("expect_column_values_to_be_of_type", column_type="integer"), "SELECT 1 WHERE false"),
    "types": (expectation("expect_column_values_to_be_in_type_list", column_type_list=["date", "geography"]), "SELECT 1"),
    "utils: groups": (
        utils("equal_rowcount", None, compare_model="ref('other')", group_by_columns=["g"]),
        "SELECT * FROM (SELECT g, count(*) AS n FROM t GROUP BY g) a FULL JOIN (SELECT g, count(*) AS n FROM other GROUP BY g) b USING (g) WHERE a.n IS DISTINCT FROM b.n",
    ),
    "utils: part of groups": (utils("not_null_proportion", at_least=0.5, group_by_columns=["g"]), of_groups("count(c) / count(*) >= 0.5")),
    "utils: at least one": (utils("at_least_one", group_by_columns=["g"]), of_groups("count(c) > 0")),
    "utils: condition": (utils("expression_is_true", None, expression="c > 0", condition="d > 0"), true("c > 0", "d > 0")),
    "utils: not accepted": (utils("not_accepted_values", values=[1, 2], quote=False), "SELECT * FROM t WHERE c IN (1, 2)"),
    "utils: unique where": (utils("unique_where", where="d > 0"), repeated("c", "c IS NOT NULL AND d > 0")),
    "utils: not null where": (utils("not_null_where", where="d > 0"), "SELECT * FROM t WHERE c IS NULL AND d > 0"),
    "utils: not constant": (utils("not_constant", group_by_columns=["g"]), of_groups("count(DISTINCT c) > 1")),
}  # fmt: skip


DUCK = duckdb.connect()


@cache
def judged(name: str) -> tuple[Any, str]:
    """The rules of a case, and the SQL that they are held against."""
    data, sql = CASES[name]
    contract = from_dbt(data)
    assert contract.unmapped == ()
    return contract.rules["m"], sql


@pytest.mark.parametrize("name", CASES)
@given(rows=ROWS, others=ROWS)
def test_rules_fail_where_the_packages_would(name: str, rows: list[Any], others: list[Any]) -> None:
    rules, sql = judged(name)
    if name in ("increasing", "decreasing in groups"):
        rows = list({(r[1], r[4]): r for r in rows}.values())  # of ties in the order, databases take any first
        rows = list({r[1]: r for r in rows}.values()) if name == "increasing" else rows
    frame, other = (pl.DataFrame(r, schema=SCHEMA, orient="row") for r in (rows, others))
    report = lp.check(frame, rules, now=NOW, other=other)
    for table, held in (("t", frame), ("other", other)):
        DUCK.register(table, held.to_arrow())
    expected = DUCK.execute(sql).fetchall()
    assert (report.status == "fail") is bool(expected), (rows, expected)


def test_outliers_and_the_most_common_value() -> None:
    """What DuckDB does not say in a line: few rows, reckoned by hand."""
    spread = from_dbt(expectation("expect_column_values_to_be_within_n_stdevs", sigma_threshold=2)).rules["m"]
    assert spread == ({"outliers": {"column": "c", "z": 2}},)
    assert [lp.check(pl.DataFrame({"c": [0] * 9 + [last]}), spread).status for last in (0, 5)] == ["pass", "fail"]
    common = expectation("expect_column_most_common_value_to_be_in_set", value_set=[2, 3], top_n=1)
    rules = from_dbt(common).rules["m"]
    assert rules == ({"most_common": {"column": "c", "is": [2, 3]}},)
    assert [lp.check(pl.DataFrame({"c": v}), rules).status for v in ([2, 2, 1], [2, 1, 1])] == ["pass", "fail"]


def left(data: Mapping[str, Any]) -> str:
    contract = from_dbt(data)
    assert contract.rules["m"] == ()
    (found,) = contract.unmapped
    return found.why


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (expectation("expect_something_else"), "it is no generic test of dbt; write an expression"),
        (expectation("expect_column_values_to_not_be_null", mostly=0.9), "its argument 'mostly' is not known, and may change what it means"),
        (utils("accepted_range", min_value=0, colour="red"), "its argument 'colour' is not known, and may change what it means"),
        (expectation("expect_column_values_to_be_null", row_condition="day > now()"), "'day > now()' cannot be taken over: now would read the machine's clock; write :now, the time of the run, which the caller can set"),
        (expectation("expect_column_values_to_be_between", min_value="current_date - 5"), "current_date - 5 without quotes is an expression, not a value"),
        (expectation("expect_column_values_to_be_between", min_value="{{ var('x') }}"), "its min_value holds a template, which only dbt can fill in"),
        (expectation("expect_column_max_to_be_between", max_value=2, group_by=["lower(g)"]), "it groups by 'lower(g)', which is not a column; derive it in a stage"),
        (expectation("expect_column_values_to_match_regex", "s", regex="(?=a)"), "'(?=a)' is not a valid regular expression here"),
        (expectation("expect_column_values_to_match_regex", "s", regex="a", flags="e"), "'a' with e is not a valid regular expression here"),
        (expectation("expect_column_values_to_be_increasing", step=1), "a rule compares with the value before, and asks for no step"),
        (expectation("expect_column_values_to_be_increasing", sort_column="d + 1"), "'d + 1' is not a column; derive it in a stage"),
        (expectation("expect_column_most_common_value_to_be_in_set", value_set=[1], top_n=2), "a rule asks for the most common value, and no further ones"),
        (expectation("expect_column_values_to_be_of_type", column_type="geography"), "no type is known as 'geography'"),
        (expectation("expect_column_values_to_be_in_type_list", column_type_list=["date", "timestamp"]), "a rule asks for one kind of type, and these are Date, Datetime(us)"),
        (expectation("expect_column_values_to_be_within_n_stdevs", group_by=["g"]), "it compares sums of groups; write a stage that adds them up, and outliers"),
        (expectation("expect_column_proportion_of_unique_values_to_be_between", max_value=0.5, strictly=True), "bounds of a part are allowed values themselves"),
        (expectation("expression_is_true", None, expression="sum(c) > 1", group_by_columns=["g"]), "it is about groups; write a stage that aggregates, and an expression"),
        (expectation("expect_table_row_count_to_equal_other_table", None, compare_model="x y"), "'x y' is no ref() or source()"),
        (expectation("expect_table_row_count_to_equal_other_table", None, compare_model="ref('x')", factor=2), "a rule counts all rows of the other table; write a stage that filters or groups them"),
        (expectation("expect_row_values_to_have_recent_data", datepart="month", interval=1), "a rule takes a column, and one of minute, hour, day, week"),
        (expectation("expect_row_values_to_have_data_for_every_n_datepart", None, date_col="day", date_part="second"), "a rule takes a column, and one of minute, hour, day, week, month, quarter, year"),
        (expectation("expect_row_values_to_have_data_for_every_n_datepart", None, date_col="day", exclusion_condition="x"), "a rule excepts no steps (exclusion_condition)"),
        (expectation("expect_row_values_to_have_data_for_every_n_datepart", None, date_col="day", interval=7), "a rule counts several steps at a time from a start (test_start_date)"),
        (expectation("expect_row_values_to_have_data_for_every_n_datepart", None, date_col="day", test_end_date="soon"), "'soon' is no date"),
        (expectation("expect_column_values_to_not_be_null", "a || b"), "'a || b' is not a column; derive it in a stage"),
    ],
)  # fmt: skip
def test_without_a_rule(data: Mapping[str, Any], why: str) -> None:
    assert left(data) == why


@pytest.mark.parametrize("name", sorted(_WITHOUT_RULE))
def test_others_say_what_to_write(name: str) -> None:
    assert name not in _READERS
    assert left(model(name)) == _WITHOUT_RULE[name]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (expectation("expect_column_to_exist", column_index=1), "the rule asks for the column at any place"),
        (expectation("expect_column_values_to_match_regex", "s", regex="^\\\\d"), "backslashes are taken literally: write one where a database needs two"),
        (expectation("expect_column_values_to_be_in_set", value_set=[1]), "what is no text is compared as it is, dbt puts it in quotes: do that where the column is text"),
        (expectation("expect_column_sum_to_be_between", min_value=1), "of no values the sum is 0; dbt takes it for none, which passes"),
        (expectation("expect_compound_columns_to_be_unique", None, column_list=["c", "d"]), "keys that are null in part are not compared, dbt groups nulls together"),
    ],
)  # fmt: skip
def test_with_another_meaning(data: Mapping[str, Any], why: str) -> None:
    contract = from_dbt(data)
    assert len(contract.rules["m"]) in (1, 2)
    assert [n.why for n in contract.notes] == [why]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (expectation("expect_column_values_to_be_between"), "dbt_expectations.expect_column_values_to_be_between needs a bound; add min_value or max_value"),
        (expectation("expect_column_values_to_be_in_set"), "'value_set' is missing; add value_set: it must be a list"),
        (expectation("expect_column_values_to_match_regex", "s"), "'regex' is missing; add a pattern"),
        (expectation("expect_column_value_lengths_to_equal", "s"), "'value' is missing; add value: it must be a whole number"),
        (expectation("expect_column_distinct_count_to_equal", value="2"), "value must be a whole number, not '2'"),
        (expectation("expect_column_pair_values_to_be_equal", None, column_A="c"), "'column_B' is missing; add column_B: it must be text"),
        (expectation("expect_column_pair_values_to_be_in_set", None, column_A="c", column_B="d"), "'value_pairs_set' is missing; add value_pairs_set: it must be a list"),
        (expectation("expect_column_pair_values_to_be_in_set", None, column_A="c", column_B="d", value_pairs_set=[[1]]), "value_pairs_set must hold lists of two values"),
        (expectation("expect_compound_columns_to_be_unique", None), "'column_list' is missing; add a list of columns"),
        (expectation("expect_select_column_values_to_be_unique_within_record", None), "'column_list' is missing; add a list of columns"),
        (expectation("expect_table_columns_to_match_set", None), "'column_list' is missing; add a list of columns"),
        (expectation("expect_table_row_count_to_be_between", None), "dbt_expectations.expect_table_row_count_to_be_between needs a bound; add min_value or max_value"),
        (expectation("expect_table_column_count_to_be_between", None), "dbt_expectations.expect_table_column_count_to_be_between needs a bound; add min_value or max_value"),
        (expectation("expect_table_row_count_to_equal", None), "'value' is missing; add value: it must be a whole number"),
        (expectation("expect_table_column_count_to_equal", None), "'value' is missing; add value: it must be a whole number"),
        (expectation("expect_row_values_to_have_recent_data", interval=1), "'datepart' is missing; add datepart: it must be text"),
        (expectation("expect_row_values_to_have_data_for_every_n_datepart", None), "'date_col' is missing; add date_col: it must be text"),
        (expectation("expression_is_true", None), "'expression' is missing; add expression: it must be text"),
        (expectation("expect_column_quantile_values_to_be_between", min_value=1), "'quantile' is missing; add quantile: it must be a number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(data: Mapping[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        from_dbt(data)
    (problem,) = caught.value.problems
    assert str(problem).endswith(message)


@pytest.mark.parametrize(
    "name", sorted(n for n in _READERS if n.startswith("dbt_expectations.expect_column_") and "pair" not in n)
)
def test_a_test_of_a_column_needs_one(name: str) -> None:
    needed = {
        "value": 1,
        "min_value": 0,
        "value_set": ["a"],
        "regex": "a",
        "regex_list": ["a", "b"],
        "top_n": 1,
        "quantile": 0.5,
    }
    needed |= {
        "like_pattern": "a",
        "like_pattern_list": ["a", "b"],
        "column_type": "date",
        "column_type_list": ["date"],
        "sort_column": "d",
    }
    known = _READERS[name][1]
    with pytest.raises(DefinitionError, match="of a table needs a column; add column_name, or write it at the column"):
        from_dbt(model({name: {k: v for k, v in needed.items() if k in known}}, None))


def test_settings_hold_for_all_rules_of_a_test() -> None:
    config = {"severity": "warn", "where": "d > 0"}
    test = {
        "dbt_expectations.expect_column_values_to_be_in_set": {"name": "known", "value_set": ["a"], "config": config}
    }
    assert from_dbt(model(test, "s")).rules["m"] == (
        {"in_set": {"column": "s", "values": ["a"], "where": "d > 0", "action": "warn", "id": "known"}},
        {"not_null": {"columns": "s", "where": "d > 0", "action": "warn"}},
    )
