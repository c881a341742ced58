"""Every core expectation: the mapped rules judge small frames as a naive reading of GX's pandas engine does."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.contracts import from_gx

INF = math.inf
Row = Mapping[str, Any]
Oracle = Callable[[Sequence[Row]], bool]

SCHEMA = {"k": pl.Int64, "a": pl.Int64, "b": pl.Int64, "c": pl.Int64, "f": pl.Float64, "s": pl.String}
NUMBERS = st.none() | st.integers(-3, 6)
TEXTS = st.none() | st.sampled_from(
    ["", "a", "ab", "abc", "A1", "x%y", "x_y", "2024-05-01", "2024-05-01 10:30:00", "10:30", "{}", "[1, 2", "5", "null"]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": NUMBERS,
            "b": NUMBERS,
            "c": st.integers(0, 3),
            "f": NUMBERS.map(lambda n: None if n is None else n / 2),
            "s": TEXTS,
        }
    ),
    max_size=8,
).map(lambda rows: [{"k": k, **row} for k, row in enumerate(rows)])


def part(flags: Sequence[bool], mostly: float = 1) -> bool:
    return not flags or sum(flags) >= round(mostly * len(flags), 9)


def each(
    column: str, ok: Callable[[Any], bool], mostly: float = 1, where: Callable[[Row], bool] = lambda _: True
) -> Oracle:
    return lambda rows: part([ok(r[column]) for r in rows if r[column] is not None and where(r)], mostly)


def all_rows(column: str, ok: Callable[[Any], bool], mostly: float = 1) -> Oracle:
    return lambda rows: part([ok(r[column]) for r in rows], mostly)


def measure(column: str, function: Callable[[list[Any]], Any], ok: Callable[[Any], bool], least: int = 1) -> Oracle:
    def judge(rows: Sequence[Row]) -> bool:
        values = [r[column] for r in rows if r[column] is not None]
        return len(values) < least or ok(function(values))

    return judge


def several(columns: Sequence[str], ignore: str, ok: Callable[[list[Any]], bool], mostly: float = 1) -> Oracle:
    def judge(rows: Sequence[Row]) -> bool:
        keys = [[r[c] for c in columns] for r in rows]
        if ignore == "all":
            keys = [k for k in keys if any(v is not None for v in k)]
        if ignore == "any":
            keys = [k for k in keys if None not in k]
        return part([ok(k) for k in keys], mostly)

    return judge


def known(compare: Callable[[Any, Any], bool]) -> Callable[[list[Any]], bool]:
    return lambda pair: None not in pair and compare(*pair)


def unique(columns: Sequence[str], mostly: float = 1) -> Oracle:
    def judge(rows: Sequence[Row]) -> bool:
        keys = [tuple(r[c] for c in columns) for r in rows if None not in [r[c] for c in columns]]
        times = Counter(keys)
        return part([times[k] == 1 for k in keys], mostly)

    return judge


def ordered(column: str, ok: Callable[[Any, Any], bool], mostly: float = 1) -> Oracle:
    def judge(rows: Sequence[Row]) -> bool:
        values = [r[column] for r in rows if r[column] is not None]
        return part([i == 0 or ok(values[i - 1], v) for i, v in enumerate(values)], mostly)

    return judge


def modes(rows: Sequence[Row], column: str) -> list[Any]:
    times = Counter(r[column] for r in rows if r[column] is not None)
    return [v for v, n in times.items() if n == max(times.values())]


def parses(text: str) -> bool:
    return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text))


def is_json(text: str) -> bool:
    return text in ("{}", "5", "null")


def far(z: float, side: Callable[[float], float], mostly: float = 1) -> Oracle:
    """As GX reckons, but for values that are all the same: none of them is far here."""

    def judge(rows: Sequence[Row]) -> bool:
        values = [r["a"] for r in rows if r["a"] is not None]
        if len(set(values)) < 2:
            return True
        mean, deviation = statistics.fmean(values), statistics.stdev(values)
        return part([side((v - mean) / deviation) < z for v in values], mostly)

    return judge


def entropy(counts: Sequence[int], weights: Sequence[float]) -> float:
    pairs = [(n / sum(counts), w / sum(weights)) for n, w in zip(counts, weights, strict=True)]
    return sum((p * math.log(p / q) if q else INF) for p, q in pairs if p)


def diverges(values: list[int], weights: list[float], most: float, tail: float = 0) -> Oracle:
    def judge(rows: Sequence[Row]) -> bool:
        counts = Counter(r["a"] for r in rows if r["a"] is not None)
        others = [v for v in counts if v not in values]
        expected = [w * (1 - tail) for w in weights] + [tail / len(others)] * len(others) if others else weights
        return not counts or entropy([counts[v] for v in [*values, *others]], expected) <= most

    return judge


def histogram(edges: list[float], weights: list[float], most: float, *, open_above: bool = False) -> Oracle:
    """As numpy counts: bins are closed below, the last of the partition on both sides (what is beyond it, on neither)."""

    def judge(rows: Sequence[Row]) -> bool:
        values = [r["a"] for r in rows if r["a"] is not None]
        inner = edges[1:-1] if open_above else edges[1:-2]
        places = [sum(v >= e for e in inner) + (not open_above and v > edges[-2]) for v in values]
        return not values or entropy([places.count(i) for i in range(len(weights))], weights) <= most

    return judge


A, S = {"column": "a"}, {"column": "s"}
AB = {"column_A": "a", "column_B": "b"}
LIST = {"column_list": ["a", "b", "c"]}
CASES: list[tuple[str, dict[str, Any], Oracle]] = [
    ("expect_column_values_to_not_be_null", A, all_rows("a", lambda v: v is not None)),
    ("expect_column_values_to_not_be_null", {**A, "mostly": 0.75}, all_rows("a", lambda v: v is not None, 0.75)),
    ("expect_column_values_to_be_null", {**A, "mostly": 0.5}, all_rows("a", lambda v: v is None, 0.5)),
    ("expect_column_values_to_be_null", A, all_rows("a", lambda v: v is None)),
    ("expect_column_values_to_be_unique", A, unique(["a"])),
    ("expect_column_values_to_be_unique", {**A, "mostly": 0.6}, unique(["a"], 0.6)),
    ("expect_column_values_to_be_in_set", {**A, "value_set": [1, 2, None]}, each("a", lambda v: v in (1, 2))),
    ("expect_column_values_to_be_in_set", {**S, "value_set": ["a", "ab"], "mostly": 0.7}, each("s", lambda v: v in ("a", "ab"), 0.7)),
    ("expect_column_values_to_be_in_set", {**A, "value_set": []}, each("a", lambda _: False)),
    ("expect_column_values_to_be_in_set", {**A, "value_set": None}, lambda _: True),
    ("expect_column_values_to_not_be_in_set", {**A, "value_set": [1, 2]}, each("a", lambda v: v not in (1, 2))),
    ("expect_column_values_to_not_be_in_set", {**A, "value_set": []}, lambda _: True),
    ("expect_column_values_to_be_between", {**A, "min_value": 0, "max_value": 3}, each("a", lambda v: 0 <= v <= 3)),
    ("expect_column_values_to_be_between", {**A, "min_value": 0, "max_value": 3, "strict_min": True}, each("a", lambda v: 0 < v <= 3)),
    ("expect_column_values_to_be_between", {**A, "min_value": 0, "max_value": 3, "strict_max": True}, each("a", lambda v: 0 <= v < 3)),
    ("expect_column_values_to_be_between", {**A, "min_value": 0, "max_value": 3, "strict_min": True, "strict_max": True, "mostly": 0.5}, each("a", lambda v: 0 < v < 3, 0.5)),
    ("expect_column_values_to_be_between", {**A, "max_value": 3}, each("a", lambda v: v <= 3)),
    ("expect_column_values_to_be_between", {**A, "min_value": 1, "row_condition": 'col("b") > 1', "condition_parser": "great_expectations__experimental__"}, each("a", lambda v: v >= 1, where=lambda r: r["b"] is not None and r["b"] > 1)),
    ("expect_column_values_to_be_between", {**A, "min_value": 1, "mostly": 0.5, "row_condition": "b != 1 and not c > 1", "condition_parser": "pandas"}, each("a", lambda v: v >= 1, 0.5, lambda r: r["b"] != 1 and not r["c"] > 1)),
    ("expect_column_value_lengths_to_be_between", {**S, "min_value": 1, "max_value": 3, "strict_max": True}, each("s", lambda v: 1 <= len(v) < 3)),
    ("expect_column_value_lengths_to_be_between", {**S, "min_value": 1, "strict_min": True}, each("s", lambda v: len(v) > 1)),
    ("expect_column_value_lengths_to_equal", {**S, "value": 3}, each("s", lambda v: len(v) == 3)),
    ("expect_column_values_to_match_regex", {**S, "regex": "^[a-z]+$"}, each("s", lambda v: re.search("^[a-z]+$", v) is not None)),
    ("expect_column_values_to_match_regex", {**S, "regex": "b", "mostly": 0.3}, each("s", lambda v: "b" in v, 0.3)),
    ("expect_column_values_to_not_match_regex", {**S, "regex": "b"}, each("s", lambda v: "b" not in v)),
    ("expect_column_values_to_match_regex_list", {**S, "regex_list": ["^a", "5"]}, each("s", lambda v: v.startswith("a") or "5" in v)),
    ("expect_column_values_to_match_regex_list", {**S, "regex_list": ["a", "b"], "match_on": "all"}, each("s", lambda v: "a" in v and "b" in v)),
    ("expect_column_values_to_match_regex_list", {**S, "regex_list": ["a"], "match_on": "all"}, each("s", lambda v: "a" in v)),
    ("expect_column_values_to_not_match_regex_list", {**S, "regex_list": ["^a", "5"]}, each("s", lambda v: not (v.startswith("a") or "5" in v))),
    ("expect_column_values_to_match_like_pattern", {**S, "like_pattern": "a%"}, each("s", lambda v: v.startswith("a"))),
    ("expect_column_values_to_match_like_pattern", {**S, "like_pattern": "x!%_", "escape": "!"}, each("s", lambda v: v == "x%y")),
    ("expect_column_values_to_not_match_like_pattern", {**S, "like_pattern": "_b%"}, each("s", lambda v: v[1:2] != "b")),
    ("expect_column_values_to_match_like_pattern_list", {**S, "like_pattern_list": ["a%", "x_y"]}, each("s", lambda v: v.startswith("a") or v in ("x%y", "x_y"))),
    ("expect_column_values_to_match_like_pattern_list", {**S, "like_pattern_list": ["a%", "%c"], "match_on": "all"}, each("s", lambda v: v == "abc")),
    ("expect_column_values_to_not_match_like_pattern_list", {**S, "like_pattern_list": ["a%", "x!_y"], "escape": "!"}, each("s", lambda v: not v.startswith("a") and v != "x_y")),
    ("expect_column_values_to_match_strftime_format", {**S, "strftime_format": "%Y-%m-%d"}, each("s", parses)),
    ("expect_column_values_to_match_strftime_format", {**S, "strftime_format": "%Y-%m-%d %H:%M:%S"}, each("s", lambda v: v.endswith(":00"))),
    ("expect_column_values_to_match_strftime_format", {**S, "strftime_format": "%H:%M"}, each("s", lambda v: v == "10:30")),
    ("expect_column_values_to_be_json_parseable", S, each("s", is_json)),
    ("expect_column_values_to_be_increasing", A, ordered("a", lambda x, y: x <= y)),
    ("expect_column_values_to_be_increasing", {**A, "strictly": True}, ordered("a", lambda x, y: x < y)),
    ("expect_column_values_to_be_decreasing", {**A, "mostly": 0.5}, ordered("a", lambda x, y: x >= y, 0.5)),
    ("expect_column_values_to_be_of_type", {**A, "type_": "int64"}, lambda _: True),
    ("expect_column_type_to_be", {**A, "type_": "StringType"}, lambda _: False),
    ("expect_column_values_to_be_in_type_list", {**A, "type_list": ["int32", "int64", "INTEGER"]}, lambda _: True),
    ("expect_column_values_to_be_in_type_list", {**S, "type_list": ["int32", "int64"]}, lambda _: False),
    ("expect_column_values_to_be_in_type_list", {**A, "type_list": None}, lambda _: True),
    ("expect_column_max_to_be_between", {**A, "min_value": 1, "max_value": 5, "strict_max": True}, measure("a", max, lambda v: 1 <= v < 5)),
    ("expect_column_max_to_be_between", A, lambda _: True),
    ("expect_column_min_to_be_between", {**A, "min_value": -1, "strict_min": True}, measure("a", min, lambda v: v > -1)),
    ("expect_column_mean_to_be_between", {**A, "min_value": 1, "max_value": 2}, measure("a", statistics.fmean, lambda v: 1 <= v <= 2)),
    ("expect_column_median_to_be_between", {**A, "max_value": 2}, measure("a", statistics.median, lambda v: v <= 2)),
    ("expect_column_stdev_to_be_between", {**A, "min_value": 1, "max_value": 2}, measure("a", statistics.stdev, lambda v: 1 <= v <= 2, 2)),
    ("expect_column_sum_to_be_between", {**A, "min_value": 0, "max_value": 6}, measure("a", sum, lambda v: 0 <= v <= 6, 0)),
    ("expect_column_unique_value_count_to_be_between", {**A, "min_value": 1, "max_value": 3, "strict_max": True}, measure("a", lambda v: len(set(v)), lambda n: 1 <= n < 3, 0)),
    ("expect_column_proportion_of_unique_values_to_be_between", {**A, "min_value": 1}, unique(["a"])),
    ("expect_column_proportion_of_unique_values_to_be_between", {**A, "max_value": 1}, lambda _: True),
    ("expect_column_proportion_of_unique_values_to_be_between", {**A, "min_value": 0.5, "max_value": 0.75}, measure("a", lambda v: len(set(v)) / len(v), lambda p: 0.5 <= p <= 0.75)),
    ("expect_column_proportion_of_unique_values_to_be_between", {**A, "min_value": 0.5, "strict_min": True}, measure("a", lambda v: len(set(v)) / len(v), lambda p: p > 0.5)),
    ("expect_column_proportion_of_unique_values_to_be_between", {**A, "max_value": 0.5, "strict_max": True}, measure("a", lambda v: len(set(v)) / len(v), lambda p: p < 0.5)),
    ("expect_column_proportion_of_non_null_values_to_be_between", {**A, "min_value": 0.5}, all_rows("a", lambda v: v is not None, 0.5)),
    ("expect_column_proportion_of_non_null_values_to_be_between", {**A, "min_value": 0.5, "strict_min": True}, lambda rows: not rows or sum(r["a"] is not None for r in rows) > len(rows) / 2),
    ("expect_column_proportion_of_non_null_values_to_be_between", {**A, "max_value": 0.5, "strict_max": True}, lambda rows: not rows or sum(r["a"] is not None for r in rows) < len(rows) / 2),
    ("expect_column_quantile_values_to_be_between", {**A, "quantile_ranges": {"quantiles": [0, 0.5, 1], "value_ranges": [[-2, None], [None, None], [None, 4]]}}, measure("a", lambda v: v, lambda v: min(v) >= -2 and max(v) <= 4)),
    ("expect_column_most_common_value_to_be_in_set", {**A, "value_set": [1]}, lambda rows: set(modes(rows, "a")) <= {1}),
    ("expect_column_most_common_value_to_be_in_set", {**A, "value_set": [1, 2], "ties_okay": True}, lambda rows: not modes(rows, "a") or bool(set(modes(rows, "a")) & {1, 2})),
    ("expect_column_value_z_scores_to_be_less_than", {**A, "threshold": 1.2345}, far(1.2345, abs)),
    ("expect_column_value_z_scores_to_be_less_than", {**A, "threshold": -0.9876, "mostly": 0.7}, far(0.9876, abs, 0.7)),
    ("expect_column_value_z_scores_to_be_less_than", {**A, "threshold": 0.9876, "double_sided": False}, far(0.9876, float)),
    ("expect_column_value_z_scores_to_be_less_than", {**A, "threshold": 0.9876, "row_condition": "c < 2", "condition_parser": "pandas"}, lambda rows: far(0.9876, abs)([r for r in rows if r["c"] < 2])),
    ("expect_column_kl_divergence_to_be_less_than", {**A, "partition_object": {"values": [0, 1, 2], "weights": [0.5, 0.25, 0.25]}, "threshold": 0.4}, diverges([0, 1, 2], [0.5, 0.25, 0.25], 0.4)),
    ("expect_column_kl_divergence_to_be_less_than", {**A, "partition_object": {"values": [0, 1], "weights": [0.75, 0.25]}, "threshold": 1.1, "tail_weight_holdout": 0.2}, diverges([0, 1], [0.75, 0.25], 1.1, 0.2)),
    ("expect_column_kl_divergence_to_be_less_than", {**A, "partition_object": {"bins": [0, 2, 4], "weights": [0.5, 0.5]}, "threshold": 0.4}, histogram([-INF, 0, 2, 4, INF], [0, 0.5, 0.5, 0], 0.4)),
    ("expect_column_kl_divergence_to_be_less_than", {**A, "partition_object": {"bins": [0, 2, 3, 4], "weights": [0.5, 0, 0.5]}, "threshold": 0.5, "tail_weight_holdout": 0.2, "internal_weight_holdout": 0.1}, histogram([-INF, 0, 2, 3, 4, INF], [0.1, 0.35, 0.1, 0.35, 0.1], 0.5)),
    ("expect_column_kl_divergence_to_be_less_than", {**A, "partition_object": {"bins": [0, 2, 4], "weights": [0.5, 0.25], "tail_weights": [0.05, 0.2]}, "threshold": 0.4}, histogram([-INF, 0, 2, 4, INF], [0.05, 0.5, 0.25, 0.2], 0.4)),
    ("expect_column_kl_divergence_to_be_less_than", {**A, "partition_object": {"bins": ["-Infinity", 0, 2, "Infinity"], "weights": [0.25, 0.25, 0.5]}, "threshold": 0.3}, histogram([-INF, 0, 2, INF], [0.25, 0.25, 0.5], 0.3, open_above=True)),
    ("expect_column_kl_divergence_to_be_less_than", {**A, "partition_object": {"bins": [-INF, 0, 2], "weights": [0.5, 0.5]}, "threshold": 0.5, "tail_weight_holdout": 0.2}, histogram([-INF, 0, 2, INF], [0.4, 0.4, 0.2], 0.5)),
    ("expect_column_kl_divergence_to_be_less_than", {**A, "partition_object": {"bins": [0, 2, INF], "weights": [0.5, 0.5]}, "threshold": 0.5, "tail_weight_holdout": 0.2}, histogram([-INF, 0, 2, INF], [0.2, 0.4, 0.4], 0.5, open_above=True)),
    ("expect_column_kl_divergence_to_be_less_than", {**A, "partition_object": None, "threshold": 0.5}, lambda _: True),
    ("expect_column_kl_divergence_to_be_less_than", {**A, "partition_object": {"values": [0], "weights": [1]}, "threshold": None}, lambda _: True),
    ("expect_column_distinct_values_to_be_in_set", {**A, "value_set": [1, 2]}, each("a", lambda v: v in (1, 2))),
    ("expect_column_distinct_values_to_contain_set", {**A, "value_set": [1, 2]}, lambda rows: {1, 2} <= {r["a"] for r in rows}),
    ("expect_column_distinct_values_to_equal_set", {**S, "value_set": ["a", "it's"]}, lambda rows: {r["s"] for r in rows} - {None} == {"a", "it's"}),
    ("expect_column_pair_values_to_be_equal", AB, several(["a", "b"], "all", known(lambda a, b: a == b))),
    ("expect_column_pair_values_to_be_equal", {**AB, "ignore_row_if": "either_value_is_missing"}, several(["a", "b"], "any", known(lambda a, b: a == b))),
    ("expect_column_pair_values_to_be_equal", {**AB, "ignore_row_if": "neither", "mostly": 0.5}, several(["a", "b"], "", known(lambda a, b: a == b), 0.5)),
    ("expect_column_pair_values_to_be_equal", {**AB, "mostly": 0.5}, several(["a", "b"], "all", known(lambda a, b: a == b), 0.5)),
    ("expect_column_pair_values_a_to_be_greater_than_b", AB, several(["a", "b"], "all", known(lambda a, b: a > b))),
    ("expect_column_pair_values_A_to_be_greater_than_B", {**AB, "or_equal": True, "ignore_row_if": "either_value_is_missing", "mostly": 0.5}, several(["a", "b"], "any", known(lambda a, b: a >= b), 0.5)),
    ("expect_column_pair_values_to_be_in_set", {**AB, "value_pairs_set": [[1, 1], [None, 2], [0, None]]}, several(["a", "b"], "all", lambda p: tuple(p) in {(1, 1), (None, 2), (0, None)})),
    ("expect_column_pair_values_to_be_in_set", {**AB, "value_pairs_set": []}, several(["a", "b"], "all", lambda _: False)),
    ("expect_column_pair_values_to_be_in_set", {**AB, "value_pairs_set": None}, lambda _: True),
    ("expect_compound_columns_to_be_unique", {"column_list": ["a", "b"], "ignore_row_if": "any_value_is_missing"}, unique(["a", "b"])),
    ("expect_select_column_values_to_be_unique_within_record", LIST, several(["a", "b", "c"], "all", lambda v: len(set(v)) == 3)),
    ("expect_multicolumn_values_to_be_unique", {**LIST, "ignore_row_if": "any_value_is_missing"}, several(["a", "b", "c"], "any", lambda v: len(set(v)) == 3)),
    ("expect_multicolumn_values_to_be_equal", {**LIST, "mostly": 0.5, "ignore_row_if": "never"}, several(["a", "b", "c"], "", lambda v: len(set(v)) == 1, 0.5)),
    ("expect_multicolumn_sum_to_equal", {**LIST, "sum_total": 3}, several(["a", "b", "c"], "all", lambda v: None not in v and sum(v) == 3)),
    ("expect_multicolumn_sum_to_equal", {**LIST, "sum_total": 3, "ignore_row_if": "any_value_is_missing", "mostly": 0.5}, several(["a", "b", "c"], "any", lambda v: sum(v) == 3, 0.5)),
    ("expect_table_row_count_to_be_between", {"min_value": 1, "max_value": 4, "strict_max": True}, lambda rows: 1 <= len(rows) < 4),
    ("expect_table_row_count_to_be_between", {}, lambda _: True),
    ("expect_table_row_count_to_equal", {"value": 3, "row_condition": "a > 0", "condition_parser": "pandas"}, lambda rows: sum(r["a"] is not None and r["a"] > 0 for r in rows) == 3),
    ("expect_table_row_count_to_equal_other_table", {"other_table_name": "others"}, lambda rows: len(rows) == 2),
    ("expect_table_column_count_to_be_between", {"min_value": 6, "max_value": 7, "strict_max": True}, lambda _: True),
    ("expect_table_column_count_to_be_between", {"min_value": 6, "strict_min": True}, lambda _: False),
    ("expect_table_column_count_to_be_between", {}, lambda _: True),
    ("expect_table_column_count_to_equal", {"value": 6}, lambda _: True),
    ("expect_table_column_count_to_equal", {"value": 5}, lambda _: False),
    ("expect_table_columns_to_match_ordered_list", {"column_list": list(SCHEMA)}, lambda _: True),
    ("expect_table_columns_to_match_ordered_list", {"column_list": ["a", "k", "b", "c", "f", "s"]}, lambda _: False),
    ("expect_table_columns_to_match_ordered_list", {"column_list": None}, lambda _: True),
    ("expect_table_columns_to_match_set", {"column_set": ["a", "k", "b", "c", "f", "s"]}, lambda _: True),
    ("expect_table_columns_to_match_set", {"column_set": ["a", "b"]}, lambda _: False),
    ("expect_table_columns_to_match_set", {"column_set": ["a", "b"], "exact_match": False}, lambda _: True),
    ("expect_table_columns_to_match_set", {"column_set": None, "exact_match": False}, lambda _: True),
    ("expect_column_to_exist", {**A, "column_index": 1}, lambda _: True),
    ("expect_column_to_exist", {"column": "nowhere"}, lambda _: False),
    ("unexpected_rows_expectation", {"unexpected_rows_query": "SELECT * FROM {batch} WHERE a > b"}, lambda rows: not any(None not in (r["a"], r["b"]) and r["a"] > r["b"] for r in rows)),
]  # fmt: skip


def verdict(kind: str, kwargs: Mapping[str, Any], rows: Sequence[Row]) -> bool:
    contract = from_gx({"name": "t", "expectations": [{"type": kind, "kwargs": kwargs}]}, order_by=["k"])
    assert not contract.unmapped
    if not contract.rules["t"]:
        assert "everything" in str(contract.notes[0])
        return True
    frame = pl.DataFrame(rows, schema=SCHEMA)
    others = {"others": pl.DataFrame({"x": [1, 2]})} if "other_table_name" in kwargs else {}
    return lp.check(frame, contract.rules["t"], **others).status != "fail"


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: f"{i}-{CASES[i][0].removeprefix('expect_')}")
@settings(max_examples=settings().max_examples * 2 // 5)
@given(rows=ROWS)
def test_verdicts(case: int, rows: list[Row]) -> None:
    kind, kwargs, oracle = CASES[case]
    assert verdict(kind, kwargs, rows) == oracle(rows)


def test_every_expectation_with_a_rule_has_a_case() -> None:
    from lazypipe.contracts.gx import _READERS, _snake

    guesses = {"expect_column_values_to_be_dateutil_parseable"}  # what dateutil reads is not a rule of a kind
    assert {_snake(kind) for kind, _, _ in CASES} | guesses == set(_READERS)


def test_parts_are_exact() -> None:
    rule = from_gx(
        {
            "expectations": [
                {"type": "expect_column_values_to_be_in_set", "kwargs": {**A, "value_set": [1], "mostly": 0.993}}
            ]
        }
    ).rules["suite"]
    right, wrong = [1] * 993, [2] * 7
    assert lp.check(pl.DataFrame({"a": [*right, *wrong, None]}), rule).status == "warn"
    assert lp.check(pl.DataFrame({"a": [*right, *wrong, 2]}), rule).status == "fail"
    assert math.isclose(0.993 * 1000, 993)
