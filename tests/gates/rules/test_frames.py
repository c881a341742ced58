"""Rules on whole frames: each figure equals a naive oracle, in whole and in batches; edges; wrong use is located."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import gates
from lazypipe.compile.compiled import EPOCH
from lazypipe.errors import DefinitionError
from lazypipe.gates import measure
from lazypipe.gates.rule import VALUE, Check
from lazypipe.gates.rules.frames import MostCommon, Proportion
from lazypipe.spec.model import Step, freeze
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name

NAN, INF = math.nan, math.inf
Found = tuple[dict[tuple[Any, ...], Any], set[tuple[Any, ...]]]


def check_of(frame: pl.DataFrame, rule: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> Check:
    ((name, arguments),) = rule.items()
    step = Step(name, freeze(arguments), ("rules", 0))
    made = gates.rule(step)
    (check,) = made.checks(frame.schema, Scope(type(made), step, params={"now": EPOCH, **(params or {})}))
    return check


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return type(one) is type(other) and one == other


def found(
    frame: pl.DataFrame,
    rule: Mapping[str, Any],
    *,
    params: Mapping[str, Any] | None = None,
    now: datetime = EPOCH,
    **others: pl.DataFrame,
) -> Found:
    """The value of each group, and the groups that fail: asked in whole, added up by batches, and as reported."""
    check = check_of(frame, rule, {"now": now, **(params or {})})
    assert check.measure is not None
    by = check.measure.by
    whole = measure.measured(check, frame.lazy(), {n: o.lazy() for n, o in others.items()}).collect(engine="streaming")
    values = {r[:-1]: r[-1] for r in whole.select(*by, VALUE).rows()}
    for size in (1, 3) if check.measure.parts else ():
        # merged again and again, as partial figures of many groups are
        with patch.object(measure, "_COMPACT", 2):
            added = measure.Sum(check)
            for start in range(0, frame.height, size):
                added.add(frame.slice(start, size))
            parts = {r[:-1]: r[-1] for r in added.value(frame.schema).select(*by, VALUE).rows()}
        assert parts.keys() == values.keys()
        assert all(same(parts[k], v) for k, v in values.items()), (parts, values)
    accepted = whole.with_columns(ok=check.measure.accept.fill_null(value=True))
    failed = {r[:-1] for r in accepted.select(*by, "ok").rows() if not r[-1]}
    report = lp.check(frame, [rule], params=params, now=now, **others)
    assert (report.checks[0].evaluated, report.checks[0].failed) == (len(values), len(failed))
    if not by and report.checks[0].value is not None:
        assert same(report.checks[0].value, values[()])
    return values, failed


def one(frame: pl.DataFrame, rule: Mapping[str, Any], **more: Any) -> tuple[Any, bool]:
    """The value of the whole frame, and whether it fails."""
    values, failed = found(frame, rule, **more)
    assert values.keys() == {()}
    return values[()], bool(failed)


def column(values: Sequence[Any], dtype: Any = None) -> pl.DataFrame:
    return pl.DataFrame({"a": pl.Series("a", values, dtype=dtype, strict=False)})


def grouped(rows: Sequence[tuple[Any, Any]], dtype: Any = pl.Float64) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"g": pl.String, "a": dtype}, orient="row")


def by_group(rows: Sequence[tuple[Any, Any]]) -> dict[tuple[Any], list[Any]]:
    groups: dict[tuple[Any], list[Any]] = {}
    for group, value in rows:
        groups.setdefault((group,), []).append(value)
    return groups


# figures of one column

numbers = st.none() | st.integers(-1000, 1000).map(lambda n: n / 8) | st.sampled_from([NAN, INF, -INF, 0.0, -0.0])
pairs = st.lists(st.tuples(st.sampled_from(["x", "y", None]), numbers), max_size=25)


def nan_if_any(calculate: Callable[[list[float]], float | None]) -> Callable[[list[float | None]], float | None]:
    def figure(values: list[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return NAN if any(math.isnan(v) for v in known) else calculate(known)

    return figure


def exact_mean(values: list[float]) -> float | None:
    if not values:
        return None
    infinite = {v for v in values if math.isinf(v)}
    if infinite:
        return NAN if len(infinite) > 1 else infinite.pop()
    return float(sum(map(Fraction, values)) / len(values))


def exact_sum(values: list[float]) -> float:
    infinite = {v for v in values if math.isinf(v)}
    if infinite:
        return NAN if len(infinite) > 1 else infinite.pop()
    return float(sum(map(Fraction, values)))


def exact_std(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    if len(known) < 2:
        return None
    return statistics.stdev(known) if all(map(math.isfinite, known)) else NAN


def linear(q: float) -> Callable[[list[float]], float | None]:
    def quantile(values: list[float]) -> float | None:
        if not values:
            return None
        ordered, place = sorted(values), q * (len(values) - 1)
        low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
        return low if low == high else low + (high - low) * (place - math.floor(place))

    return quantile


FIGURES: dict[str, tuple[dict[str, Any], Callable[[list[float | None]], float | None]]] = {
    "mean": ({}, nan_if_any(exact_mean)),
    "sum": ({}, nan_if_any(exact_sum)),
    "std": ({}, exact_std),
    "min": ({}, nan_if_any(lambda v: min(v, default=None))),
    "max": ({}, nan_if_any(lambda v: max(v, default=None))),
    "median": ({}, nan_if_any(linear(0.5))),
    "quantile": ({"q": 0.3}, nan_if_any(linear(0.3))),
}


@pytest.mark.parametrize("name", FIGURES)
@given(rows=pairs, least=st.integers(-20, 20))
def test_figures_equal_the_oracle(name: str, rows: list[tuple[Any, Any]], least: int) -> None:
    arguments, oracle = FIGURES[name]
    rule = {name: {"column": "a", "min": least, **arguments}}
    values, failed = found(grouped(rows), {name: {**rule[name], "by": "g"}})
    expected = {g: oracle(v) for g, v in by_group(rows).items()}
    assert values.keys() == expected.keys()
    for group, value in expected.items():
        if name in ("median", "quantile") and any(v in (INF, -INF) for v in by_group(rows)[group]):
            continue  # between infinities there is no middle
        assert same(values[group], value), (group, values[group], value)
        # at the very bound, the last digit decides
        if value is not None and not math.isclose(value, least, rel_tol=1e-9):
            assert (group in failed) == (not value >= least)
        if value is None:
            assert group not in failed
    value, _ = one(grouped(rows), rule)
    if name not in ("median", "quantile"):
        assert same(value, oracle([v for _, v in rows]))


@given(st.lists(st.none() | st.integers(-50, 50), max_size=30), st.sampled_from([0, 0.1, 0.25, 0.5, 0.9, 1]))
def test_quantiles_equal_those_of_duckdb(values: list[int | None], q: float) -> None:
    frame = column(values, pl.Int64)
    with duckdb.connect() as db:  # one of its own: others may have left a result of the shared one unread
        ((expected,),) = db.sql(f"select quantile_cont(a, {q}) from frame").fetchall()
    value, _ = one(frame, {"quantile": {"column": "a", "q": q, "min": 0}})
    assert value == (None if expected is None else pytest.approx(expected))
    if q == 0.5:
        assert one(frame, {"median": {"column": "a", "min": 0}})[0] == value


TYPES: dict[str, tuple[Any, list[Any], dict[str, Any]]] = {
    # type, values, the figures
    "int8": (pl.Int8, [100, 100, None], {"sum": 200, "mean": 100.0, "std": 0.0, "min": 100, "median": 100.0}),
    "int64": (pl.Int64, [2**63 - 1, 1], {"sum": 2**63, "max": 2**63 - 1}),
    "uint64": (pl.UInt64, [2**64 - 1, 1], {"sum": 2**64, "min": 1, "mean": float(2**63)}),
    "int128": (pl.Int128, [10**30, 10**30], {"sum": 2e30, "min": 10**30, "mean": 1e30}),
    "uint128": (pl.UInt128, [2**128 - 1], {"sum": float(2**128), "max": 2**128 - 1}),
    "float16": (pl.Float16, [60000.0, 60000.0], {"sum": 120_000.0, "max": 60000.0, "median": 60000.0}),
    "float32": (pl.Float32, [0.5, 1.0], {"sum": 1.5, "mean": 0.75, "max": 1.0, "median": 0.75}),
    "decimal": (
        pl.Decimal(10, 2),
        [Decimal("0.10"), Decimal("0.10"), Decimal("0.10")],
        {"sum": Decimal("0.30"), "min": Decimal("0.10"), "median": 0.1},
    ),
    # a mean is a float, and is added up in the order in which rows come: of these to the same bits
    "decimal in halves": (
        pl.Decimal(10, 2),
        [Decimal("0.25"), Decimal("0.50"), Decimal("0.75")],
        {"sum": Decimal("1.50"), "mean": 0.5, "median": 0.5, "std": 0.25},
    ),
    "duration": (
        pl.Duration("ms"),
        [timedelta(hours=1), timedelta(hours=2)],
        {"sum": timedelta(hours=3), "mean": timedelta(minutes=90), "max": timedelta(hours=2)},
    ),
    "ns": (
        pl.Duration("ns"),
        [timedelta(days=100_000), timedelta(days=100_000)],
        {"sum": timedelta(days=200_000), "mean": timedelta(days=100_000), "median": timedelta(days=100_000)},
    ),
    "date": (
        pl.Date,
        [date(2020, 1, 1), date(2020, 1, 2), None],
        {"min": date(2020, 1, 1), "max": date(2020, 1, 2), "median": datetime(2020, 1, 1, 12)},
    ),
    "limits": (pl.Date, [date(1, 1, 1), date(9999, 12, 31)], {"min": date(1, 1, 1), "max": date(9999, 12, 31)}),
    "datetime": (pl.Datetime("ms"), [datetime(2020, 1, 1), None], {"max": datetime(2020, 1, 1)}),
    "zoned": (
        pl.Datetime("us", "UTC"),
        [datetime(2020, 1, 1, tzinfo=UTC)],
        {"min": datetime(2020, 1, 1, tzinfo=UTC), "median": datetime(2020, 1, 1, tzinfo=UTC)},
    ),
    "time": (pl.Time, [time(1), time(3)], {"min": time(1), "median": time(2)}),
    "text": (pl.String, ["b", "a\0", None], {"min": "a\0", "max": "b"}),
}


@pytest.mark.parametrize("kind", TYPES)
def test_figures_of_every_type(kind: str) -> None:
    dtype, values, expected = TYPES[kind]
    for name, value in expected.items():
        # the value itself is a bound that it keeps, on both sides; nothing lies strictly above it
        for bounds, fails in (({"min": value, "max": value}, False), ({"min": value, "closed": "none"}, True)):
            got, failed = one(column(values, dtype), {name: {"column": "a", **bounds}})
            assert same(got, value), (name, got)
            assert failed is fails, (name, bounds)
    for name in expected:
        for nothing in ([], [None, None]):
            got, failed = one(column(nothing, dtype), {name: {"column": "a", "min": expected[name]}})
            # of nothing, only the sum has a value
            assert (bool(got), got is None, failed) == (False, name != "sum", name == "sum")


def test_the_spread_of_large_numbers_that_differ_little_is_stable() -> None:
    values = [1e9 + v for v in (4, 7, 13, 16)]
    value, _ = one(column(values), {"std": {"column": "a", "max": 6}})
    assert value == pytest.approx(statistics.stdev([4, 7, 13, 16]), rel=1e-12)


def test_bounds_open_and_closed_and_in_words() -> None:
    frame = column([1, 2, 3])
    for bounds, fails, words in (
        ({"min": 2}, False, "at least 2"),
        ({"min": 2, "closed": "right"}, True, "above 2"),
        ({"max": 2, "closed": "left"}, True, "below 2"),
        ({"min": 1, "max": 2}, False, "at least 1 and at most 2"),
        ({"min": 2, "max": 2.5, "closed": "left"}, False, "at least 2 and below 2.5"),
        ({"min": ":least"}, True, "at least 5"),
    ):
        rule = {"mean": {"column": "a", **bounds}}
        assert one(frame, rule, params={"least": 5})[1] is fails
        measure = check_of(frame, rule, {"least": 5}).measure
        assert measure is not None
        assert measure.expected == words


def test_where_thresholds_and_ids() -> None:
    frame = pl.DataFrame({"g": ["x", "x", "y", None], "a": [1, 9, 1, 9], "w": [True, False, None, True]})
    assert found(frame, {"mean": {"column": "a", "min": 5, "by": "g", "where": "w"}}) == (
        {("x",): 1.0, (None,): 9.0},
        {("x",)},
    )
    rule = {"mean": {"column": "a", "min": 5, "by": "g"}}
    assert found(frame, rule) == ({("x",): 5.0, ("y",): 1.0, (None,): 9.0}, {("y",)})
    report = lp.check(frame, [rule, {"mean": {**rule["mean"], "max_failures": 1}}, {"min": {"column": "a", "max": 0}}])
    assert [c.id for c in report.checks] == ["mean:a by g#1", "mean:a by g#2", "min:a"]
    assert [c.status for c in report.checks] == ["fail", "warn", "fail"]
    assert lp.check(frame, [{"mean": {"column": "a", "min": 6, "action": "warn"}}]).status == "warn"
    assert report.checks[0].groups == ({"g": "y", "value": 1.0},)


def test_a_measured_column_may_be_called_as_the_figure_is() -> None:
    frame = pl.DataFrame({"value": [1, 2], "history": [1, 1]})
    assert one(frame, {"mean": {"column": "value", "min": 1}}) == (1.5, False)
    assert one(frame, {"max": {"column": "history", "min": 2}}) == (1, True)
    # a group may be that of the measured column itself
    twice = column([1, 1])
    assert found(twice, {"sum": {"column": "a", "min": 3, "by": "a"}}) == ({(1,): 2}, {(1,)})
    assert found(twice, {"median": {"column": "a", "min": 3, "by": "a"}}) == ({(1,): 1.0}, {(1,)})
    assert found(twice, {"most_common": {"column": "a", "is": 1, "by": "a"}}) == ({(1,): 1}, set())
    assert found(twice, {"distinct_count": {"columns": ["a"], "max": 1, "by": "a"}}) == ({(1,): 1}, set())
    assert found(twice, {"no_gaps": {"column": "a", "every": 1, "by": "a"}}) == ({(1,): 0}, set())


# row_count


@given(st.lists(st.sampled_from(["x", "y", None])), st.lists(st.sampled_from(["x", "z", None])))
def test_row_count_equals_the_oracle(here: list[Any], there: list[Any]) -> None:
    frame, other = (pl.DataFrame({"g": v}, schema={"g": pl.String}) for v in (here, there))
    assert one(frame, {"row_count": {"min": 3, "max": 5}}) == (len(here), not 3 <= len(here) <= 5)
    assert one(frame, {"row_count": {"equals": 2}}) == (len(here), len(here) != 2)
    assert one(frame, {"row_count": {"same_as": "o"}}, o=other) == (len(here), len(here) != len(there))
    assert one(frame, {"row_count": {"same_as": "o", "min": 2}}, o=other)[1] is (
        len(here) != len(there) or len(here) < 2
    )
    mine, theirs = Counter(here), Counter(there)
    assert found(frame, {"row_count": {"max": 1, "by": "g"}}) == (
        {(g,): n for g, n in mine.items()},
        {(g,) for g, n in mine.items() if n > 1},
    )
    groups = mine.keys() | theirs.keys()
    assert found(frame, {"row_count": {"same_as": "o", "by": "g"}}, o=other) == (
        {(g,): mine[g] for g in groups},
        {(g,) for g in groups if mine[g] != theirs[g]},
    )


def test_row_count_of_a_frame_without_columns_and_of_one_that_is_not_there_yet() -> None:
    frame = column([1, 2])
    check = check_of(frame, {"row_count": {"same_as": "o", "max": 3}})
    value = measure.measured(check, frame.lazy(), {}).collect()
    assert measure.verdict(check, value).status == "pass"
    assert measure.verdict(check, measure.measured(check, pl.concat([frame] * 2).lazy(), {}).collect()).status == "fail"
    assert check.measure is not None
    assert check.measure.expected == "at most 3 and as many as in o"
    assert check.measure.frames == ("o",)
    made = gates.rule(Step("row_count", freeze({"same_as": "o"})))
    assert made.frames() == {"same_as": "o"}
    assert gates.rule(Step("row_count", freeze({"min": 1}))).frames() == {}


# schema

WIDE = pl.DataFrame(
    schema={
        "i": pl.Int32,
        "f": pl.Float32,
        "s": pl.Categorical,
        "t": pl.Datetime("ms", "UTC"),
        "l": pl.List(pl.Int8),
        "r": pl.Struct({"x": pl.Int8}),
        "d": pl.Duration("ms"),
        "m": pl.Decimal(10, 2),
        "b": pl.Boolean,
        "q": pl.Array(pl.Int8, 2),
    }
)
EXACT = {n: dtype_name(t) for n, t in WIDE.schema.items()}
KINDS = EXACT | {
    "i": "UInt8",
    "f": "Float64",
    "s": "String",
    "t": "Datetime(us, Europe/Berlin)",
    "l": "List(UInt64)",
    "r": "Struct(x: Int64)",
    "d": "Duration(us)",
    "m": "Decimal(38, 4)",
    "q": "List(Int64)",
}
OTHERS = {"i": "Float64", "f": "Decimal(10, 2)", "s": "Binary", "t": "Datetime(ms)", "l": "List(String)", "r": "Struct(y: Int8)", "d": "Int64", "m": "Float64", "b": "Int8", "q": "String"}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "difference"),
    [
        ({"a": "Int64", "b": "text"}, ""),
        (["b", "a"], ""),
        ({"a": "Int64"}, "not expected: b"),
        (["a", "b", "c", "d"], "missing: c, d"),
        ({"a": "String", "c": "Date"}, "missing: c; not expected: b; type of a is Int64, not String"),
        ({"columns": ["a"], "mode": "superset"}, ""),
        ({"columns": ["a", "c"], "mode": "superset"}, "missing: c"),
        ({"columns": ["a", "b", "c"], "mode": "subset"}, ""),
        ({"columns": ["a", "c"], "mode": "subset"}, "not expected: b"),
        ({"columns": ["b", "a"], "ordered": True}, "order is a, b, not b, a"),
        ({"columns": ["a", "b"], "ordered": True}, ""),
        ({"columns": ["a", "z", "b"], "ordered": True, "mode": "subset"}, ""),
        ({"columns": {"a": "Int8"}, "mode": "superset"}, "type of a is Int64, not Int8"),
        ({"columns": {"a": "Int8"}, "mode": "superset", "types": "kind"}, ""),
    ],
)
@pytest.mark.parametrize("rows", [0, 2])
def test_schema_says_what_differs(rule: Any, difference: str, rows: int) -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}).head(rows)
    assert one(frame, {"schema": rule}) == (difference, difference != "")


def test_schema_types_exactly_and_by_kind() -> None:
    assert one(WIDE, {"schema": EXACT}) == ("", False)
    assert one(WIDE, {"schema": {"columns": EXACT, "types": "kind"}}) == ("", False)
    assert one(WIDE, {"schema": {"columns": KINDS, "types": "kind"}}) == ("", False)
    changed = [n for n in EXACT if KINDS[n] != EXACT[n]]
    assert one(WIDE, {"schema": KINDS})[0] == "; ".join(f"type of {n} is {EXACT[n]}, not {KINDS[n]}" for n in changed)
    assert one(WIDE, {"schema": {"columns": OTHERS, "types": "kind"}})[0].count("type of") == len(OTHERS)
    measure = check_of(WIDE, {"schema": {"columns": {"i": "Int8", "f": "Float64"}, "mode": "superset"}}).measure
    assert measure is not None
    assert measure.expected == "i Int8, f Float64 and perhaps more"
    named = check_of(WIDE, {"schema": {"columns": ["i"], "mode": "subset", "action": "warn"}})
    assert named.action == "warn"
    assert named.measure is not None
    assert named.measure.expected == "i or fewer"


@pytest.mark.parametrize(
    ("bound", "fails"),
    [
        ({"min": 2}, False),
        ({"min": 3}, True),
        ({"max": 1}, True),
        ({"min": 1, "max": 2}, False),
        ({"equals": 2}, False),
    ],
)
def test_column_count_is_that_of_columns_whatever_the_rows(bound: dict[str, int], fails: bool) -> None:
    for rows in ([], [(None, None)], [("x", 1.0)] * 5):
        assert one(grouped(rows), {"column_count": bound}) == (2, fails)
    assert one(pl.DataFrame(), {"column_count": {"equals": 0}}) == (0, False)


@pytest.mark.parametrize("name", ["l", "s", "a"])
def test_values_of_nested_columns_are_not_named(name: str) -> None:
    frame = pl.DataFrame({"l": [[1]], "s": [{"x": 1}], "a": pl.Series([[1]], dtype=pl.Array(pl.Int64, 1))})
    said = f"column {name!r} is {dtype_name(frame.schema[name])}, whose values a rule cannot name; "
    # a series is a list of Polars, which no definition can write
    rules = [MostCommon(column=name, is_=(frame[name],)), MostCommon(column=name, is_=(1,))]
    for rule in (*rules, Proportion(column=name, value=1, max="1%")):
        with pytest.raises(DefinitionError) as caught:
            lp.check(frame, [rule])
        assert str(caught.value).startswith(f"rules[0].{rule.name}.column: {said}")


# completeness and proportion


@given(
    st.lists(st.tuples(st.sampled_from(["x", None]), st.sampled_from(["u", "v", None])), max_size=20),
    st.integers(0, 20),
)
def test_completeness_and_proportion_equal_the_oracle(rows: list[tuple[Any, Any]], twentieths: int) -> None:
    bound = f"{twentieths * 5}%"
    frame, limit = grouped(rows, pl.String), Fraction(twentieths, 20)
    shares, parts = {}, {}
    for group, values in by_group(rows).items():
        known = [v for v in values if v is not None]
        shares[group] = Fraction(len(known), len(values))
        parts[group] = Fraction(known.count("u"), len(known)) if known else None
    values, failed = found(frame, {"completeness": {"column": "a", "min": bound, "by": "g"}})
    assert values == {g: float(s) for g, s in shares.items()}
    assert failed == {g for g, s in shares.items() if s < limit}
    for counted in ({"column": "a", "value": "u"}, {"condition": "a = 'u'"}, {"condition": pl.col("a") == "u"}):
        values, failed = found(frame, {"proportion": {**counted, "min": bound, "by": "g"}})
        assert values == {g: None if p is None else float(p) for g, p in parts.items()}
        assert failed == {g for g, p in parts.items() if p is not None and p < limit}
        _, failed = found(frame, {"proportion": {**counted, "max": bound, "by": "g"}})
        assert failed == {g for g, p in parts.items() if p is not None and p > limit}


def test_fractions_are_exact() -> None:
    frame = column([None] * 993 + [1] * 7)
    assert one(frame, {"completeness": {"column": "a", "min": "0.7%"}}) == (0.007, False)
    assert one(frame, {"completeness": {"column": "a", "min": 0.007}}) == (0.007, False)
    assert one(frame, {"completeness": {"column": "a", "min": 0.0070001}}) == (0.007, True)
    assert one(frame, {"completeness": {"column": "a", "min": 0}}) == (0.007, False)
    assert one(frame, {"completeness": {"column": "a"}}) == (0.007, True)
    assert one(column([], pl.Int8), {"completeness": {"column": "a"}}) == (None, False)
    assert one(column([None], pl.Null), {"completeness": {"column": "a", "min": "1%"}}) == (0.0, True)
    assert one(column([NAN]), {"completeness": {"column": "a"}}) == (1.0, False)
    measure = check_of(frame, {"completeness": {"column": "a", "min": 0.007}}).measure
    assert measure is not None
    assert measure.expected == "at least 0.7%"


@pytest.mark.parametrize(
    ("dtype", "values", "value", "part"),
    [
        (pl.Int8, [1, 2, None], 1.0, 0.5),
        (pl.Float64, [NAN, 1.0], NAN, 0.5),
        (pl.Boolean, [True, False, None], False, 0.5),
        (pl.Categorical, ["x", "y"], "x", 0.5),
        (pl.Date, [date(2020, 1, 1)], "2020-01-01", 1.0),
        (pl.Decimal(5, 2), [Decimal("0.10")], 0.1, 1.0),
        (pl.String, ["a\0", ""], "a\0", 0.5),
        (pl.Null, [None], "x", None),
        (pl.String, [], "x", None),
    ],
)
def test_proportion_of_every_type(dtype: Any, values: list[Any], value: Any, part: float | None) -> None:
    rule = {"proportion": {"column": "a", "value": value, "max": "100%"}}
    assert one(column(values, dtype), rule) == (part, False)


# distinct_count and most_common


@given(
    st.lists(st.tuples(st.sampled_from(["x", "y", None]), st.sampled_from([1.0, -0.0, 0.0, NAN, None])), max_size=15)
)
def test_distinct_count_equals_the_oracle(rows: list[tuple[Any, Any]]) -> None:
    frame = grouped(rows)

    def plain(value: Any) -> Any:
        return "nan" if value != value else value + 0.0 if isinstance(value, float) else value

    expected = {g: len({plain(v) for v in values if v is not None}) for g, values in by_group(rows).items()}
    assert found(frame, {"distinct_count": {"columns": "a", "max": 1, "by": "g"}}) == (
        expected,
        {g for g, n in expected.items() if n > 1},
    )
    both = len({(g, plain(a)) for g, a in rows if g is not None and a is not None})
    assert one(frame, {"distinct_count": {"columns": ["g", "a"], "equals": 2}}) == (both, both != 2)
    assert one(frame, {"distinct_count": {"columns": ["g", "a"], "min": 2, "max": 3}})[1] is (not 2 <= both <= 3)
    of = sum(g is not None and a is not None for g, a in rows)
    part = Fraction(both, of) if of else None
    for bounds, passes in (
        ({"min": "50%"}, part is None or part >= Fraction(1, 2)),
        ({"min": "10%", "max": "66.6%"}, part is None or Fraction(1, 10) <= part <= Fraction(666, 1000)),
        ({"equals": "50%"}, part is None or part == Fraction(1, 2)),
    ):
        measured = None if part is None else float(part)
        assert one(frame, {"distinct_count": {"columns": ["g", "a"], **bounds}}) == (measured, not passes)
    parts = {
        g: float(Fraction(expected[g], n)) if (n := sum(v is not None for v in values)) else None
        for g, values in by_group(rows).items()
    }
    assert found(frame, {"distinct_count": {"columns": "a", "min": "60%", "by": "g"}}) == (
        parts,
        {g for g, p in parts.items() if p is not None and p < 0.6},
    )


def test_distinct_count_of_nested_and_empty_columns() -> None:
    rule = {"distinct_count": {"columns": "a", "min": 1}}
    assert one(column([[1], [1], None], pl.List(pl.Int8)), rule) == (1, False)
    assert one(column([{"x": 1}, {"x": 2}]), rule) == (2, False)
    assert one(column([], pl.Int8), rule) == (0, True)
    assert one(column([None], pl.Null), rule) == (0, True)


@given(st.lists(st.tuples(st.sampled_from(["x", None]), st.sampled_from(["u", "v", "w", None])), max_size=15))
def test_most_common_equals_the_oracle(rows: list[tuple[Any, Any]]) -> None:
    frame, strict, lenient = grouped(rows, pl.String), set(), set()
    tops = {}
    for group, values in by_group(rows).items():
        counts = Counter(v for v in values if v is not None)
        tops[group] = {v for v, n in counts.items() if n == max(counts.values())}
        strict |= {group} if tops[group] - {"u", "v"} else set()
        lenient |= {group} if tops[group] and not tops[group] & {"u", "v"} else set()
    rule = {"column": "a", "is": ["u", "v"], "by": "g"}
    values, failed = found(frame, {"most_common": rule})
    assert values.keys() == tops.keys()
    assert all(v in tops[g] if tops[g] else v is None for g, v in values.items())
    # the value that is shown is one that fails
    assert all(values[g] == "w" for g in failed)
    assert failed == strict
    assert found(frame, {"most_common": {**rule, "ties": True}})[1] == lenient


@pytest.mark.parametrize(
    ("dtype", "values", "given", "expected"),
    [
        (pl.Int8, [1, 1, 2], 1, (1, False)),
        (pl.Int8, [1, 1, 2], [2, 3], (1, True)),
        (pl.Boolean, [True, False, None, None], [True, False], (False, False)),
        (pl.Float64, [NAN, NAN, 1.0], NAN, (NAN, False)),
        (pl.Categorical, ["x", "x"], "y", ("x", True)),
        (pl.Enum(["x", "y"]), ["y"], ["y", "never"], ("y", False)),
        (pl.Date, [date(2020, 1, 1)], "2020-01-01", (date(2020, 1, 1), False)),
        (pl.Null, [None], "x", (None, False)),
        (pl.String, [], "x", (None, False)),
        (pl.String, [None], "x", (None, False)),
    ],
)
def test_most_common_of_every_type(dtype: Any, values: list[Any], given: Any, expected: tuple[Any, bool]) -> None:
    value, failed = one(column(values, dtype), {"most_common": {"column": "a", "is": given}})
    assert same(value, expected[0])
    assert failed is expected[1]
    measure = check_of(column(values, dtype), {"most_common": {"column": "a", "is": given}}).measure
    assert measure is not None
    assert measure.expected == (f"one of {', '.join(map(str, given))}" if isinstance(given, list) else str(given))


# freshness

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dtype", "newest", "within", "stale"),
    [
        (pl.Datetime("us"), datetime(2024, 5, 1, 10), "2h", False),
        (pl.Datetime("us"), datetime(2024, 5, 1, 9, 59, 59, 999_999), "2h", True),
        (pl.Datetime("ms"), datetime(2030, 1, 1), "0s", False),
        (pl.Datetime("ns"), datetime(2024, 5, 1, 10), timedelta(hours=2), False),
        (pl.Datetime("ns"), datetime(2024, 5, 1, 9), timedelta(hours=2), True),
        (pl.Datetime("us", "UTC"), datetime(2024, 5, 1, 10, tzinfo=UTC), "2h", False),
        (pl.Datetime("us", "Europe/Berlin"), datetime(2024, 5, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")), "2h", False),
        (pl.Datetime("us", "Europe/Berlin"), datetime(2024, 5, 1, 11, tzinfo=ZoneInfo("Europe/Berlin")), "2h", True),
        (pl.Date, date(2024, 5, 1), "0s", False),
        (pl.Date, date(2024, 4, 30), "12h", False),
        (pl.Date, date(2024, 4, 30), "11h", True),
        (pl.Datetime("us"), datetime(1, 1, 1), "999999999d", False),
        (pl.Datetime("us"), datetime(9999, 12, 31), "1h", False),
        (pl.Date, date(9999, 12, 31), "1h", False),
        (pl.Datetime("us"), None, "1h", False),
    ],
)
def test_freshness(dtype: Any, newest: Any, within: Any, stale: bool) -> None:
    old = None if newest is None else newest.replace(year=1)
    rule = {"freshness": {"column": "a", "within": within}}
    for now in (NOON, NOON.replace(tzinfo=None), NOON.astimezone(ZoneInfo("Asia/Tokyo"))):
        frame = column([None, newest], dtype) if dtype == pl.Datetime("ns") else column([old, newest, None], dtype)
        assert one(frame, rule, now=now)[1] is stale
    assert one(column([], dtype), rule, now=NOON) == (None, False)


def test_freshness_of_groups() -> None:
    rows = [("x", datetime(2024, 5, 1, 11)), ("y", datetime(2024, 5, 1, 9)), (None, datetime(2024, 5, 1, 9))]
    frame = grouped([*rows, ("y", None), ("z", None)], pl.Datetime("us"))
    _, failed = found(frame, {"freshness": {"column": "a", "within": "2h", "by": "g"}}, now=NOON)
    assert failed == {("y",), (None,)}
    measure = check_of(frame, {"freshness": {"column": "a", "within": "2h"}}, {"now": NOON}).measure
    assert measure is not None
    assert measure.expected == "within 2h of 2024-05-01 12:00:00 UTC"


# no_gaps


@given(
    st.lists(st.tuples(st.sampled_from(["x", None]), st.none() | st.integers(-30, 30)), max_size=15),
    st.integers(1, 7),
    st.none() | st.integers(-20, 20),
    st.none() | st.integers(0, 20),
)
def test_gaps_in_numbers_equal_the_oracle(
    rows: list[tuple[Any, Any]], every: int, start: int | None, more: int | None
) -> None:
    origin = 0 if start is None else start
    end = None if more is None else (origin + more)
    expected = {}
    for group, values in by_group(rows).items():
        steps = {(v - origin) // every for v in values if v is not None}
        steps = {s for s in steps if (start is None or s >= 0) and (end is None or s <= (end - origin) // every)}
        low = 0 if start is not None else min(steps, default=None)
        high = (end - origin) // every if end is not None else max(steps, default=None)
        expected[group] = None if low is None or high is None else high - low + 1 - len(steps)
    edges = {k: v for k, v in (("start", start), ("end", end)) if v is not None}
    rule = {"no_gaps": {"column": "a", "every": every, "max": 1, "by": "g", **edges}}
    for dtype in (pl.Int8, pl.Int64):
        values, failed = found(grouped(rows, dtype), rule)
        assert values == expected
        assert failed == {g for g, n in expected.items() if n is not None and n > 1}


days = st.dates(date(2020, 1, 1), date(2021, 12, 31))


@given(st.lists(st.none() | days, max_size=12), st.sampled_from(["1d", "2d", "1w", "1mo", "2mo", "1q", "1y"]))
def test_gaps_in_dates_equal_the_oracle(values: list[date | None], every: str) -> None:
    def step(day: date) -> int:
        months = day.year * 12 + day.month - 1
        since = (day - date(1970, 1, 1)).days
        counts = {"1d": since, "2d": since // 2, "1w": (since + 3) // 7}
        counts |= {"1mo": months, "2mo": months // 2, "1q": months // 3, "1y": day.year}
        return counts[every]

    steps = {step(v) for v in values if v is not None}
    expected = max(steps) - min(steps) + 1 - len(steps) if steps else None
    rule = {"no_gaps": {"column": "a", "every": every}}
    assert one(column(values, pl.Date), rule) == (expected, bool(expected))
    moments = [None if v is None else datetime(v.year, v.month, v.day, 23, 59) for v in values]
    for dtype in (pl.Datetime("ms"), pl.Datetime("us"), pl.Datetime("ns"), pl.Datetime("us", "America/New_York")):
        frame = column(moments, dtype if dtype.time_zone is None else pl.Datetime("us"))
        frame = frame if dtype.time_zone is None else frame.select(pl.col("a").dt.replace_time_zone(dtype.time_zone))
        assert one(frame, rule) == (expected, bool(expected))


def test_gaps_where_clocks_change_and_at_edges() -> None:
    # in Berlin, 2024-03-31 has 23 hours
    hours = pl.datetime_range(
        datetime(2024, 3, 30), datetime(2024, 4, 2), "1h", time_zone="Europe/Berlin", eager=True
    ).alias("a")
    frame = hours.to_frame()
    assert one(frame, {"no_gaps": {"column": "a", "every": "1h"}}) == (0, False)
    assert one(frame.head(5).vstack(frame[6:]), {"no_gaps": {"column": "a", "every": "1h"}}) == (1, True)
    assert one(frame, {"no_gaps": {"column": "a", "every": "1d"}}) == (0, False)
    rule = {"column": "a", "every": "1d", "start": "2024-03-30", "end": "2024-04-05"}
    assert one(frame, {"no_gaps": rule}) == (3, True)
    assert one(frame.clear(), {"no_gaps": rule}) == (7, True)
    assert one(frame, {"no_gaps": {**rule, "start": ":since"}}, params={"since": "2024-04-01"}) == (3, True)
    assert one(frame.clear(), {"no_gaps": {"column": "a", "every": "1d"}}) == (None, False)
    # rows outside do not count; a step begins at start
    moments = column([datetime(2024, 1, 1, 10), datetime(2024, 1, 1, 11, 59), datetime(2024, 1, 1, 12, 30)])
    assert one(moments, {"no_gaps": {"column": "a", "every": "1h", "start": "2024-01-01T10:30"}}) == (1, True)
    assert one(moments, {"no_gaps": {"column": "a", "every": "1h", "end": "2024-01-01T11:00"}}) == (0, False)
    assert one(moments, {"no_gaps": {"column": "a", "every": "1h", "start": "2024-01-02T00:00"}}) == (None, False)
    assert one(moments, {"no_gaps": {"column": "a", "every": "1mo", "start": "2023-11-05"}}) == (2, True)
    assert one(column([2**64 - 1, 0], pl.UInt64), {"no_gaps": {"column": "a", "every": 2**62}}) == (2, True)
    limits = column([date(1, 1, 1), date(9999, 12, 31)])
    assert one(limits, {"no_gaps": {"column": "a", "every": "1y", "max": 9_997}}) == (9_997, False)
    measure = check_of(limits, {"no_gaps": {"column": "a", "every": "1y", "max": 2}}).measure
    assert measure is not None
    assert measure.expected == "at most 2 steps of 1y missing"


# wrong use

FRAME = pl.DataFrame(
    schema={
        "n": pl.Int64,
        "wide": pl.Int128,
        "f": pl.Float64,
        "s": pl.String,
        "b": pl.Boolean,
        "d": pl.Date,
        "ms": pl.Datetime("ms"),
        "du": pl.Duration("us"),
        "t": pl.Time,
        "l": pl.List(pl.Int64),
        "cat": pl.Categorical,
        "none": pl.Null,
        "o": pl.Object,
        "value": pl.String,
    }
)
TAKEN = {
    "mean": ("numbers or durations", "s b d ms t l cat o"),
    "sum": ("numbers or durations", "s b d ms t l cat o"),
    "std": ("numbers", "s b d ms t du l cat o"),
    "min": ("numbers, dates, times or text", "b l cat o"),
    "max": ("numbers, dates, times or text", "b l cat o"),
    "median": ("numbers, dates or times", "s b l cat o"),
    "quantile": ("numbers, dates or times", "s b l cat o"),
}
OTHER = "write a value of that type"


@pytest.mark.parametrize("name", TAKEN)
def test_figures_that_a_type_does_not_have(name: str) -> None:
    takes, unfit = TAKEN[name]
    more = {"q": 0.5} if name == "quantile" else {}
    for column in unfit.split():
        what = f"column {column!r} is {dtype_name(FRAME.schema[column])}, which has no {name}"
        wrong({name: {"column": column, "min": 1, **more}}, f"{what}; name a column of {takes}")


def wrong(rule: Mapping[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        lp.check(FRAME, [rule], params={"day": date(2020, 1, 1)}, other=FRAME)
    (problem,) = caught.value.problems
    place, _, said = str(problem).partition(": ")
    assert place.startswith(f"rules[0].{next(iter(rule))}")
    assert said.startswith(message) if message.endswith(("; ", ": ")) else said == message


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        *(
            (
                {"mean": {"column": "n", "min": 1, "action": action, **more}},
                "a rule on the whole frame cannot remove rows; write action: fail or warn",
            )
            for action, more in (("quarantine", {}), ("drop", {}), ("repair", {"repair": {"null": True}}))
        ),
        ({"mean": {"column": "zz", "min": 1}}, "unknown column 'zz'; known columns: "),
        ({"mean": {"column": "n"}}, "mean needs a bound; give min or max"),
        ({"mean": {"column": "n", "max": NAN}}, "NaN is not a bound; write a number"),
        ({"mean": {"column": "n", "min": 2, "max": 1}}, "min 2 is greater than max 1; swap them"),
        (
            {"mean": {"column": "n", "min": 1, "max": 1, "closed": "left"}},
            "nothing lies between 1 and 1; write closed: both",
        ),
        (
            {"mean": {"column": "n", "min": "abc"}},
            f"'abc' cannot be compared with the mean of 'n', which is Float64; {OTHER}",
        ),
        (
            {"min": {"column": "d", "min": 5}},
            f"5 cannot be compared with the min of 'd', which is Date; {OTHER}",
        ),
        (
            {"max": {"column": "n", "min": True}},
            f"True cannot be compared with the max of 'n', which is Int64; {OTHER}",
        ),
        ({"max": {"column": "d", "min": ":dya"}}, "unknown parameter :dya; did you mean 'day'?"),
        ({"max": {"column": "n", "min": 1, "by": "zz"}}, "unknown column 'zz'; known columns: "),
        ({"max": {"column": "n", "min": 1, "by": ["s", "s"]}}, "'s' is listed twice in by; name each column once"),
        (
            {"max": {"column": "n", "min": 1, "by": "o"}},
            "column 'o' is Object, whose values cannot be compared; cast it to a type of its own",
        ),
        (
            {"max": {"column": "n", "min": 1, "by": "value"}},
            "a column called 'value' cannot name groups; rename it first",
        ),
        ({"quantile": {"column": "n", "q": 1.5, "min": 1}}, "there is no quantile 1.5; write a number from 0 to 1"),
        ({"quantile": {"column": "n", "q": -0.1, "min": 1}}, "there is no quantile -0.1; write a number from 0 to 1"),
        ({"quantile": {"column": "n", "q": NAN, "min": 1}}, "there is no quantile nan; write a number from 0 to 1"),
        ({"quantile": {"column": "n", "q": True, "min": 1}}, "there is no quantile True; write a number from 0 to 1"),
        ({"quantile": {"column": "n", "q": "x", "min": 1}}, "there is no quantile 'x'; write a number from 0 to 1"),
        ({"quantile": {"column": "n", "min": 1}}, "'q' is missing in 'quantile'; add q: "),
        ({"row_count": {}}, "row_count needs a bound; give min, max, equals or same_as"),
        (
            {"row_count": {"min": 1, "equals": 2}},
            "equals cannot be combined with min and max; give equals, or min and max",
        ),
        ({"row_count": {"min": 3, "max": 2}}, "min 3 is greater than max 2; swap them"),
        (
            {"row_count": {"min": "many"}},
            f"'many' cannot be compared with the number of rows, which is Int64; {OTHER}",
        ),
        ({"row_count": {"same_as": "othr"}}, "unknown frame 'othr'; did you mean 'other'?"),
        ({"row_count": {"same_as": "other", "by": "zz"}}, "unknown column 'zz'; known columns: "),
        ({"schema": {"columns": []}}, "schema needs columns; name at least one"),
        ({"schema": {"columns": ["n", "n"]}}, "'n' is listed twice in columns; name each column once"),
        ({"schema": {"n": "Int65"}}, "unknown type 'Int65'; did you mean 'Int64'?"),
        ({"schema": {"n": "Decimal"}}, "the type 'Decimal' needs arguments; write it as Decimal(10, 2)"),
        ({"schema": {"columns": ["n"], "mode": "all"}}, "unknown mode 'all'; write exact, superset or subset"),
        ({"schema": {"columns": ["n"], "types": "any"}}, "unknown types 'any'; write exact or kind"),
        ({"schema": {"columns": ["n"], "where": "n > 1"}}, "schema is about columns, not rows; remove where"),
        ({"column_count": {"min": 1, "where": "n > 1"}}, "column_count is about columns, not rows; remove where"),
        ({"column_count": {}}, "column_count needs a bound; give min, max or equals"),
        ({"column_count": {"min": 3, "max": 2}}, "min 3 is greater than max 2; swap them"),
        (
            {"column_count": {"min": 1, "equals": 2}},
            "equals cannot be combined with min and max; give equals, or min and max",
        ),
        ({"completeness": {"column": "zz"}}, "unknown column 'zz'; known columns: "),
        (
            {"completeness": {"column": "n", "min": "101%"}},
            "101% is more than all rows; write a fraction from 0 to 1, or 0% to 100%",
        ),
        (
            {"completeness": {"column": "n", "min": 95}},
            "95 is more than all rows; write a fraction from 0 to 1, or 0% to 100%",
        ),
        *(
            (
                {"completeness": {"column": "n", "min": written}},
                f"{written!r} is not a fraction; write one from 0 to 1, or 0% to 100%",
            )
            for written in ("most", -0.5, "5%%", "1/0", NAN, True)
        ),
        ({"proportion": {"column": "n", "value": 1}}, "proportion needs a bound; give min or max"),
        *(
            (
                {"proportion": {"max": "1%", **counted}},
                "proportion must count exactly one thing; give column and value, or a condition",
            )
            for counted in ({}, {"column": "n"}, {"value": 1}, {"column": "n", "value": 1, "condition": "n = 1"})
        ),
        ({"proportion": {"column": "n", "value": 1, "min": "30%", "max": "20%"}}, "min 0.3 is greater than max 0.2; "),
        ({"proportion": {"column": "zz", "value": 1, "max": "1%"}}, "unknown column 'zz'; known columns: "),
        (
            {"proportion": {"column": "n", "value": "x", "max": "1%"}},
            f"'x' cannot be compared with column 'n', which is Int64; {OTHER}",
        ),
        (
            {"proportion": {"column": "o", "value": "x", "max": "1%"}},
            "column 'o' is Object, whose values cannot be compared; cast it to a type of its own",
        ),
        (
            {"proportion": {"condition": "n", "max": "1%"}},
            "a condition must be true or false, and this is Int64; compare it with something",
        ),
        (
            {"proportion": {"condition": pl.col("n") > pl.col("s"), "max": "1%"}},
            "String cannot be compared with Int64; ",
        ),
        ({"distinct_count": {"columns": "n"}}, "distinct_count needs a bound; give min, max or equals"),
        ({"distinct_count": {"columns": ["n", "zz"], "min": 1}}, "unknown column 'zz'; known columns: "),
        (
            {"distinct_count": {"columns": ["n", "n"], "min": 1}},
            "'n' is listed twice in columns; name each column once",
        ),
        (
            {"distinct_count": {"columns": ["n", "o"], "min": 1}},
            "column 'o' is Object, whose values cannot be compared; cast it to a type of its own",
        ),
        (
            {"distinct_count": {"columns": "n", "min": 2, "max": "50%"}},
            "a number and a part cannot bound the same; write both as a part, such as 50%, or two rules",
        ),
        (
            {"distinct_count": {"columns": "n", "max": "101%"}},
            "101% is more than all rows; write a fraction from 0 to 1, or 0% to 100%",
        ),
        (
            {"distinct_count": {"columns": "n", "max": "x%"}},
            "'x%' is not a fraction; write one from 0 to 1, or 0% to 100%",
        ),
        (
            {"distinct_count": {"columns": "n", "min": "9%", "max": "8%"}},
            "min 0.09 is greater than max 0.08; swap them",
        ),
        (
            {"distinct_count": {"columns": "n", "max": 2, "equals": 2}},
            "equals cannot be combined with min and max; give equals, or min and max",
        ),
        ({"most_common": {"column": "zz", "is": 1}}, "unknown column 'zz'; known columns: "),
        (
            {"most_common": {"column": "n", "is": ["x", 1]}},
            "'x', 1 cannot be compared with column 'n', which is Int64; write values of that type",
        ),
        (
            {"most_common": {"column": "n", "is": 1.5}},
            "column 'n' holds whole numbers, and 1.5 is none; write whole numbers",
        ),
        (
            {"most_common": {"column": "l", "is": 1}},
            "column 'l' is List(Int64), whose values a rule cannot name; unnest or explode it first, and name a column of single values",
        ),
        ({"freshness": {"column": "zz", "within": "1h"}}, "unknown column 'zz'; known columns: "),
        (
            {"freshness": {"column": "n", "within": "1h"}},
            "column 'n' is Int64, which is not a date or time; name a column of dates or datetimes",
        ),
        (
            {"freshness": {"column": "d", "within": "soon"}},
            "'soon' is not a duration such as 90s, 15m, 2h, 3d or 1w",
        ),
        ({"freshness": {"column": "d", "within": "-1h"}}, "within -1h is negative; write a duration such as 2h"),
        ({"no_gaps": {"column": "zz", "every": 1}}, "unknown column 'zz'; known columns: "),
        *(
            (
                {"no_gaps": {"column": c, "every": 1}},
                f"column {c!r} is {dtype_name(FRAME.schema[c])}, which has no steps; name a column of dates, datetimes or whole numbers",
            )
            for c in ("f", "s", "t", "du", "wide", "none", "b")
        ),
        *(
            (
                {"no_gaps": {"column": "n", "every": every}},
                f"{every!r} is not a step of column 'n', which is Int64; write a whole number, 1 or more",
            )
            for every in ("1d", 0, -1, 1.5, True)
        ),
        *(
            (
                {"no_gaps": {"column": "d", "every": every}},
                f"{every!r} is not a step of time; write one such as 15m, 1h, 1d, 1w, 1mo, 1q or 1y",
            )
            for every in (1, "0d", "-1d", "0mo", "often")
        ),
        (
            {"no_gaps": {"column": "d", "every": "1h"}},
            "1h is finer than column 'd', which is Date; write a longer step",
        ),
        (
            {"no_gaps": {"column": "d", "every": "36h"}},
            "36h is finer than column 'd', which is Date; write a longer step",
        ),
        (
            {"no_gaps": {"column": "ms", "every": "0.0001s"}},
            "0.0001s is finer than column 'ms', which is Datetime(ms); write a longer step",
        ),
        (
            {"no_gaps": {"column": "d", "every": "1d", "start": 5}},
            f"5 cannot be compared with column 'd', which is Date; {OTHER}",
        ),
        (
            {"no_gaps": {"column": "n", "every": 1, "end": 0.5}},
            "0.5 is not a whole number, and column 'n' holds whole numbers; write a whole number",
        ),
        (
            {"no_gaps": {"column": "d", "every": "1d", "start": "2024-02-01", "end": "2024-01-01"}},
            "start 2024-02-01 is after end 2024-01-01; swap them",
        ),
    ],
)
def test_wrong_use_is_a_definition_error(rule: dict[str, Any], message: str) -> None:
    wrong(rule, message)
