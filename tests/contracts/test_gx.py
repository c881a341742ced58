"""Expectation suites: their form in 0.x and 1.x, what each argument becomes, what is not taken over, what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lazypipe import gates
from lazypipe.contracts import from_gx
from lazypipe.errors import DefinitionError
from lazypipe.spec.model import Step, freeze

DATA = Path(__file__).parent / "data"


def suite(kind: str, kwargs: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "t",
        "expectations": [{"type": f"expect_{kind}" if kind[0].islower() else kind, "kwargs": kwargs, **more}],
    }


def rules(kind: str, kwargs: Mapping[str, Any], **more: Any) -> tuple[Any, ...]:
    contract = from_gx(suite(kind, kwargs, **more), order_by=["k"])
    assert not contract.unmapped
    for rule in contract.rules["t"]:
        ((name, arguments),) = rule.items()
        gates.rule(Step(name, freeze(arguments)))
    return contract.rules["t"]


def left(kind: str, kwargs: Mapping[str, Any]) -> list[str]:
    contract = from_gx(suite(kind, kwargs))
    assert contract.rules["t"] == ()
    return [f.why for f in contract.unmapped]


def notes(kind: str, kwargs: Mapping[str, Any], **more: Any) -> list[str]:
    return [f"{f.what}: {f.why}" for f in from_gx(suite(kind, kwargs, **more)).notes]


def wrong(data: Any) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        from_gx(data)
    return [str(p) for p in caught.value.problems]


def test_a_suite_of_0x() -> None:
    path = DATA / "suite_018.json"
    contract = from_gx(path, table="orders")
    assert contract.name == "orders.warning"
    assert contract.rules == {
        "orders": (
            {"schema": {"columns": ["order_id", "status", "amount", "ordered_at"], "ordered": True, "mode": "exact"}},
            {"not_null": {"columns": "order_id", "description": "The key of an order."}},
            {"unique": "order_id"},
            {
                "in_set": {
                    "column": "status",
                    "values": ["new", "paid"],
                    "where": '("status" IS NOT NULL) AND ("amount" IS NOT NULL)',
                    "max_failures": "5%",
                    "description": "Old orders have other states.",
                }
            },
            {"between": {"column": "ordered_at", "min": "2020-01-01", "closed": "right"}},
            {"schema": {"columns": {"amount": "Float64"}, "mode": "superset"}},
            {"outliers": {"column": "amount", "z": 3}},
            {
                "kl_divergence": {
                    "column": "status",
                    "values": ["a"],
                    "weights": [1.0],
                    "max": 0.1,
                }
            },
        )
    }
    assert [str(f).removeprefix(str(path)) for f in contract.unmapped] == [
        (
            ":47:5: orders.status: expect_column_values_to_match_regex: "
            "'(?<=x)y' has look-around or back references, which are not known here"
        ),
        (
            ":59:5: orders.amount: expect_column_mean_to_be_between: "
            "min_value is an evaluation parameter, whose value only GX knows"
        ),
        ":63:5: orders.zip: expect_column_values_to_be_valid_zip5: it is no core expectation; write an expression",
        (
            ":69:38: orders.status: expect_column_values_to_be_null: "
            "its row_condition cannot be taken over: 'amount.str.len()' has no SQL"
        ),
    ]
    assert [f.what for f in contract.notes] == [
        "expect_column_values_to_be_between",
        "expect_column_value_z_scores_to_be_less_than",
    ]


def test_a_suite_of_1x() -> None:
    contract = from_gx(DATA / "suite_1x.json")
    assert contract.rules == {
        "orders": (
            {
                "between": {
                    "column": "amount",
                    "min": 0.0,
                    "max": 1000.0,
                    "closed": "left",
                    "where": '("amount" IS NOT NULL) AND (("status" IN (\'new\', \'paid\')) AND ("ordered_at" IS NOT NULL))',
                    "max_failures": "0.1%",
                    "description": "Amounts are sane.",
                    "action": "warn",
                }
            },
            {"compare": {"left": "shipped_at", "op": ">=", "right": "ordered_at"}},
            {"unique": ["customer_id", "ordered_at"]},
            {"expression": "NOT (amount > 100 AND status = 'new')"},
            {"row_count": {"min": 1, "max": 1000000}},
        )
    }
    assert [f.what for f in contract.unmapped] == ["expect_column_values_to_not_be_outliers"]
    assert [f.what for f in contract.notes] == [
        "severity 'urgent'",
        "expect_compound_columns_to_be_unique",
        "unheard_of of expect_table_row_count_to_be_between",
    ]


def test_names_of_suites_and_tables() -> None:
    assert from_gx({"expectations": []}).rules == {"suite": ()}
    assert from_gx({"name": "a", "expectations": []}, table="b").rules == {"b": ()}
    assert from_gx("{expectations: []}").name == "suite"


def test_dateutil_is_a_guess() -> None:
    kwargs = {"column": "c"}
    assert rules("column_values_to_be_dateutil_parseable", kwargs) == (
        {"parseable": {"column": "c", "as": "datetime"}},
    )
    assert "dateutil guesses" in notes("column_values_to_be_dateutil_parseable", kwargs)[0]


def test_fractions_of_seconds() -> None:
    kwargs = {"column": "c", "strftime_format": "%Y-%m-%d %H:%M:%S.%f"}
    assert rules("column_values_to_match_strftime_format", kwargs) == (
        {"parseable": {"column": "c", "as": "datetime", "format": "%Y-%m-%d %H:%M:%S%.f"}},
    )


def test_mostly_zero_lets_everything_pass() -> None:
    assert rules("column_values_to_be_null", {"column": "c", "mostly": 0}) == (
        {"null": {"columns": "c", "max_failures": "100%"}},
    )


def test_completeness_in_full() -> None:
    kind = "column_proportion_of_non_null_values_to_be_between"
    assert rules(kind, {"column": "c", "min_value": 0.5, "max_value": 1}) == (
        {"completeness": {"column": "c", "min": 0.5}},
    )
    assert rules(kind, {"column": "c", "min_value": 0.25, "max_value": 0.5}) == (
        {"proportion": {"condition": '"c" IS NOT NULL', "min": 0.25, "max": 0.5}},
    )
    assert "everything" in notes(kind, {"column": "c"})[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"min_value": 0.5}, {"min": "50%"}),
        ({"max_value": 0.5}, {"max": "50%"}),
        ({"min_value": 0.1, "max_value": 0.9, "strict_max": True}, {"min": "10%", "max": "89.99999999999999%"}),
        ({"min_value": 0, "strict_min": True, "max_value": 0.25}, {"max": "25%"}),
        ({"max_value": -0.5}, {"max": "0%"}),
    ],
)
def test_parts_of_distinct_values(given: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    kind = "column_proportion_of_unique_values_to_be_between"
    (rule,) = rules(kind, {"column": "c", **given})
    assert {k: v for k, v in rule["distinct_count"].items() if k != "columns"} == expected


def test_values_that_nothing_limits() -> None:
    for kind in ("unique_value_count", "proportion_of_unique_values"):
        assert rules(f"column_{kind}_to_be_between", {"column": "c"}) == ()
        assert "everything" in notes(f"column_{kind}_to_be_between", {"column": "c"})[0]


@pytest.mark.parametrize(
    ("kind", "kwargs", "note"),
    [
        ("column_quantile_values_to_be_between", {"column": "c", "quantile_ranges": {"quantiles": [0.1], "value_ranges": [[1, 2]]}}, "the rule interpolates"),
        ("column_most_common_value_to_be_in_set", {"column": "c", "value_set": [1, 2]}, "a tie passes"),
        ("column_values_to_be_in_type_list", {"column": "c", "type_list": ["int8", "int16", "thing"]}, "it is not known here"),
        ("column_max_to_be_between", {"column": "c", "max_value": "2020-01-01", "parse_strings_as_datetimes": True}, "taken to hold dates"),
        ("column_to_exist", {"column": "c", "column_index": 0}, "at any place"),
        ("column_value_z_scores_to_be_less_than", {"column": "c", "threshold": 3}, "of values that are all the same none is far; in GX each of them fails"),
    ],
)  # fmt: skip
def test_what_means_something_else_is_noted(kind: str, kwargs: Mapping[str, Any], note: str) -> None:
    assert note in notes(kind, kwargs)[0]


def test_exact_quantiles_need_no_note() -> None:
    ranges = {"quantiles": [0.1], "value_ranges": [[1, 2]]}
    kwargs = {"column": "c", "quantile_ranges": ranges, "allow_relative_error": "linear"}
    assert notes("column_quantile_values_to_be_between", kwargs) == []
    assert rules("column_quantile_values_to_be_between", kwargs) == (
        {"quantile": {"column": "c", "q": 0.1, "min": 1, "max": 2}},
    )


STUBS = (
    "column_chisquare_test_p_value_to_be_greater_than",
    "column_bootstrapped_ks_test_p_value_to_be_greater_than",
    "column_parameterized_distribution_ks_test_p_value_to_be_greater_than",
    "column_pair_cramers_phi_value_to_be_less_than",
)
CORE = """
ColumnDistinctValuesToBeInSet ColumnDistinctValuesToContainSet ColumnDistinctValuesToEqualSet ColumnKLDivergenceToBeLessThan
ColumnMaxToBeBetween ColumnMeanToBeBetween ColumnMedianToBeBetween ColumnMinToBeBetween ColumnMostCommonValueToBeInSet
ColumnPairValuesAToBeGreaterThanB ColumnPairValuesToBeEqual ColumnPairValuesToBeInSet
ColumnProportionOfNonNullValuesToBeBetween ColumnProportionOfUniqueValuesToBeBetween ColumnQuantileValuesToBeBetween
ColumnStdevToBeBetween ColumnSumToBeBetween ColumnToExist ColumnUniqueValueCountToBeBetween ColumnValueLengthsToBeBetween
ColumnValueLengthsToEqual ColumnValueZScoresToBeLessThan ColumnValuesToBeBetween ColumnValuesToBeDateutilParseable
ColumnValuesToBeDecreasing ColumnValuesToBeInSet ColumnValuesToBeInTypeList ColumnValuesToBeIncreasing
ColumnValuesToBeJsonParseable ColumnValuesToBeNull ColumnValuesToBeOfType ColumnValuesToBeUnique
ColumnValuesToMatchLikePattern ColumnValuesToMatchLikePatternList ColumnValuesToMatchRegex ColumnValuesToMatchRegexList
ColumnValuesToMatchStrftimeFormat ColumnValuesToNotBeInSet ColumnValuesToNotBeNull ColumnValuesToNotMatchLikePattern
ColumnValuesToNotMatchLikePatternList ColumnValuesToNotMatchRegex ColumnValuesToNotMatchRegexList
CompoundColumnsToBeUnique MulticolumnSumToEqual MulticolumnValuesToBeUnique SelectColumnValuesToBeUniqueWithinRecord
TableColumnCountToBeBetween TableColumnCountToEqual TableColumnsToMatchOrderedList TableColumnsToMatchSet
TableRowCountToBeBetween TableRowCountToEqual TableRowCountToEqualOtherTable
"""
"""What 0.18 and 1.x export from their core, but for schemas within JSON and the results of queries."""


def test_every_core_expectation_is_mapped() -> None:
    from lazypipe.contracts.gx import _READERS, _snake

    assert {_snake(f"Expect{name}") for name in CORE.split()} | {_snake("UnexpectedRowsExpectation")} <= set(_READERS)


@pytest.mark.parametrize(
    ("kind", "kwargs", "why"),
    [
        ("column_values_to_be_increasing", {"column": "c"}, "rows have no order here; name the columns that order them: from_gx(…, order_by=[…])"),
        ("column_values_to_be_of_type", {"column": "c", "type_": "object"}, "no type is known as 'object'"),
        ("column_values_to_be_in_type_list", {"column": "c", "type_list": ["int64", "StringType"]}, "a rule asks for one kind of type, and these are Int64, String"),
        ("column_values_to_be_in_type_list", {"column": "c", "type_list": ["timestamptz", "timestamp"]}, "a rule asks for one kind of type, and these are Datetime(us, UTC), Datetime(us)"),
        ("column_values_to_match_strftime_format", {"column": "c", "strftime_format": "%Y-%m"}, "'%Y-%m' names no whole date, which a rule needs to read one"),
        ("column_values_to_match_strftime_format", {"column": "c", "strftime_format": "x"}, "'x' names no whole date, which a rule needs to read one"),
        ("column_proportion_of_unique_values_to_be_between", {"column": "c", "min_value": 1, "strict_min": True}, "the part of distinct values is never more than all"),
        ("column_most_common_value_to_be_in_set", {"column": "c", "value_set": []}, "no value is allowed"),
        ("column_distinct_values_to_contain_set", {"column": "c", "value_set": [{"a": 1}]}, "a dict cannot be a SQL parameter"),
        ("column_value_z_scores_to_be_less_than", {"column": "c", "threshold": 0}, "a threshold of 0 leaves the mean itself too far"),
        ("column_value_z_scores_to_be_less_than", {"column": "c", "threshold": -1, "double_sided": False}, "a threshold of -1 leaves the mean itself too far"),
        ("column_kl_divergence_to_be_less_than", {"column": "c", "threshold": 1, "partition_object": {"bins": ["-inf", "inf"], "weights": [1]}}, "everything is in its one bin"),
        *((kind, {"column": "c"}, "Great Expectations has only named it since 0.13, without evaluating it; kl_divergence compares with given weights, psi and ks with the previous commit") for kind in STUBS),
        ("column_values_to_match_json_schema", {"column": "c"}, "json asks whether the text is JSON, no rule for what is in it"),
        ("query_results_to_match_comparison", {}, "it compares the results of two queries; write a stage"),
        ("UnexpectedRowsExpectation", {"unexpected_rows_query": "SELECT 1"}, "the query has no rule: only SELECT … FROM {batch} WHERE … has a rule"),
        ("UnexpectedRowsExpectation", {"unexpected_rows_query": "SELECT * FROM {batch} WHERE a IN (SELECT 1)"}, "the query has no rule: it holds a query of its own; join what it reads in a stage"),
    ],
)  # fmt: skip
def test_expectations_without_a_rule(kind: str, kwargs: Mapping[str, Any], why: str) -> None:
    assert left(kind, kwargs) == [why]


def _bins(*bins: Any, weights: list[Any], **more: Any) -> dict[str, Any]:
    return {"partition_object": {"bins": list(bins), "weights": weights, **more}}


KL = "expect_column_kl_divergence_to_be_less_than"
DIVERGENCES: list[tuple[dict[str, Any], str]] = [
    ({**_bins(0, 1, weights=[1]), "threshold": -1}, f"threshold: {KL}: a divergence is never below 0"),
    ({**_bins(0, 1, weights=[1]), "tail_weight_holdout": 1}, f"tail_weight_holdout: {KL}: 1 is no part that leaves something"),
    ({**_bins(0, 1, weights=[1]), "internal_weight_holdout": -1}, f"internal_weight_holdout: {KL}: -1 is no part that leaves something"),
    ({"partition_object": {"bins": [1]}}, "partition_object: 'weights' is missing; add weights: it must be a list"),
    ({"partition_object": {"weights": [1]}}, "partition_object: 'bins' is missing; add bins: it must be a list"),
    (_bins(0, 1, weights=[1, 1]), f"partition_object.weights: {KL}: 2 bins need 1 weights from 0"),
    (_bins(0, 1, weights=["x"]), f"partition_object.weights: {KL}: 2 bins need 1 weights from 0"),
    (_bins(0, 1, weights=[0]), f"partition_object.weights: {KL}: 2 bins need 1 weights from 0"),
    ({"partition_object": {"values": ["a"], "weights": [-1]}}, f"partition_object.weights: {KL}: 1 values need 1 weights from 0"),
    ({"partition_object": {"values": ["a"], "weights": [1]}, "internal_weight_holdout": 0.1}, f"internal_weight_holdout: {KL}: values have no weights between them"),
    (_bins(0, "x", weights=[1]), f"partition_object.bins: {KL}: 'x' is no edge of a bin"),
    (_bins(0, None, weights=[1]), f"partition_object.bins: {KL}: None is no edge of a bin"),
    (_bins(1, 0, weights=[1]), f"partition_object.bins: {KL}: bins are not in order"),
    ({**_bins(0, 1, weights=[1]), "bucketize_data": False}, f"bucketize_data: {KL}: bins need bucketize_data"),
    ({**_bins(0, 1, weights=[1], tail_weights=[0, 0]), "tail_weight_holdout": 0.1}, f"partition_object.tail_weights: {KL}: tail_weights are two, and the only weights of what is beyond the bins"),
    (_bins("-inf", 1, weights=[1], tail_weights=[0, 0]), f"partition_object.tail_weights: {KL}: tail_weights are two, and the only weights of what is beyond the bins"),
    ({**_bins("-inf", 0, "inf", weights=[1, 1]), "tail_weight_holdout": 0.1}, f"tail_weight_holdout: {KL}: nothing is beyond the bins"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "kwargs", "message"),
    [
        ("column_values_to_be_null", {}, "expectations[0].kwargs: 'column' is missing in expect_column_values_to_be_null; add column"),
        ("column_values_to_match_regex", {"column": "c"}, "expectations[0].kwargs: 'regex' is missing in expect_column_values_to_match_regex; add regex"),
        ("column_values_to_be_null", {"column": "c", "mostly": 1.5}, "expectations[0].kwargs.mostly: mostly 1.5 is not a fraction of the rows; write a number from 0 to 1"),
        ("column_values_to_be_null", {"column": "c", "mostly": "most"}, "expectations[0].kwargs.mostly: mostly must be a number, not 'most'"),
        ("column_values_to_be_between", {"column": "c"}, "expectations[0].kwargs: expect_column_values_to_be_between: it needs min_value or max_value"),
        ("column_values_to_be_between", {"column": "c", "min_value": 5, "max_value": 1}, "expectations[0].kwargs.min_value: expect_column_values_to_be_between: min_value 5 is greater than max_value 1"),
        ("column_values_to_be_between", {"column": "c", "min_value": "b", "max_value": "a"}, "expectations[0].kwargs.min_value: expect_column_values_to_be_between: min_value b is greater than max_value a"),
        ("column_value_lengths_to_be_between", {"column": "c"}, "expectations[0].kwargs: expect_column_value_lengths_to_be_between: it needs min_value or max_value"),
        ("column_values_to_match_regex_list", {"column": "c", "regex_list": []}, "expectations[0].kwargs.regex_list: expect_column_values_to_match_regex_list: regex_list is empty"),
        ("column_values_to_match_regex_list", {"column": "c", "regex_list": ["a"], "match_on": "some"}, "expectations[0].kwargs.match_on: expect_column_values_to_match_regex_list: match_on must be any or all, not 'some'"),
        ("column_quantile_values_to_be_between", {"column": "c", "quantile_ranges": {"quantiles": [0.5]}}, "expectations[0].kwargs.quantile_ranges: 'value_ranges' is missing; add value_ranges: it must be a list"),
        ("column_quantile_values_to_be_between", {"column": "c", "quantile_ranges": {"quantiles": [0.5], "value_ranges": []}}, "expectations[0].kwargs.quantile_ranges.value_ranges: expect_column_quantile_values_to_be_between: 1 quantiles have 0 ranges"),
        ("column_quantile_values_to_be_between", {"column": "c", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[1]]}}, "expectations[0].kwargs.quantile_ranges.value_ranges[0]: expect_column_quantile_values_to_be_between: a range is two numbers, or null"),
        ("column_pair_values_to_be_equal", {"column_A": "a"}, "expectations[0].kwargs: 'column_B' is missing in expect_column_pair_values_to_be_equal; add column_B"),
        ("column_pair_values_to_be_equal", {"column_A": "a", "column_B": "b", "ignore_row_if": "odd"}, "expectations[0].kwargs.ignore_row_if: expect_column_pair_values_to_be_equal: unknown ignore_row_if 'odd'"),
        ("column_pair_values_to_be_in_set", {"column_A": "a", "column_B": "b", "value_pairs_set": [[1]]}, "expectations[0].kwargs.value_pairs_set[0]: expect_column_pair_values_to_be_in_set: a pair is a list of two values"),
        ("multicolumn_sum_to_equal", {"column_list": ["a"], "sum_total": 3}, "expectations[0].kwargs.column_list: expect_multicolumn_sum_to_equal: column_list needs two columns or more"),
        ("column_value_z_scores_to_be_less_than", {"column": "c"}, "expectations[0].kwargs: 'threshold' is missing in expect_column_value_z_scores_to_be_less_than; add threshold"),
        ("column_value_z_scores_to_be_less_than", {"column": "c", "threshold": "x"}, "expectations[0].kwargs.threshold: threshold must be a number, not 'x'"),
        ("column_value_z_scores_to_be_less_than", {"column": "c", "threshold": None}, "expectations[0].kwargs: 'threshold' is missing in expect_column_value_z_scores_to_be_less_than; add threshold"),
        *(("column_kl_divergence_to_be_less_than", {"column": "c", "threshold": 1, **kwargs}, f"expectations[0].kwargs.{message}") for kwargs, message in DIVERGENCES),
        ("table_column_count_to_equal", {}, "expectations[0].kwargs: 'value' is missing in expect_table_column_count_to_equal; add value"),
        ("table_columns_to_match_set", {}, "expectations[0].kwargs.column_set: expect_table_columns_to_match_set: it needs column_set"),
    ],
)  # fmt: skip
def test_wrong_arguments(kind: str, kwargs: Mapping[str, Any], message: str) -> None:
    assert wrong(suite(kind, kwargs)) == [message]


def test_wrong_suites() -> None:
    assert wrong("[1]") == ["<text>:1:1: this is not a valid expectation suite; it must be a mapping"]
    assert wrong("{}") == ["<text>:1:1: 'expectations' is missing; add expectations: a list of {type, kwargs}"]
    assert wrong('{"expectations": [{"kwargs": {}}]}') == [
        "<text>:1:19: 'type' is missing; add type: the name of the expectation"
    ]
    assert wrong('{"expectations": [{"type": "expect_column_to_exist", "kwargs": []}]}') == [
        "<text>:1:54: kwargs must be a mapping, not a list",
        "<text>:1:54: 'column' is missing in expect_column_to_exist; add column",
    ]
