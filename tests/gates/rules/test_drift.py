"""Rules that compare with the past: each value equals a naive oracle; what is not there yet passes; wrong use is located."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import gates
from lazypipe.errors import DefinitionError
from lazypipe.gates import measure
from lazypipe.gates.rule import PREVIOUS, VALUE, Check
from lazypipe.spec.model import Step, freeze
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name

NAN, INF = math.nan, math.inf


def check_of(schema: pl.Schema, rule: Mapping[str, Any]) -> Check:
    ((name, arguments),) = rule.items()
    step = Step(name, freeze(arguments), ("rules", 0))
    made = gates.rule(step)
    (check,) = made.checks(schema, Scope(type(made), step))
    return check


def against(frame: pl.DataFrame, before: pl.DataFrame | None, rule: Mapping[str, Any]) -> dict[Any, Any]:
    """The value of each group, by the group, and whether it fails."""
    check = check_of(frame.schema, rule)
    assert check.measure is not None
    frames = {} if before is None else {PREVIOUS: before.lazy()}
    values = measure.measured(check, frame.lazy(), frames).collect(engine="streaming")
    by = check.measure.by
    result = measure.verdict(check, values)
    failed = values.filter(~check.measure.accept.fill_null(value=True)).select(by).rows()
    assert result.failed == (len(failed) if by else result.failed)
    if not by:
        assert result.evaluated == 1
        return {(): (result.value, bool(result.failed))}
    return {r[:-1]: (r[-1], r[:-1] in failed) for r in values.select(*by, VALUE).rows()}


def column(values: Sequence[Any], dtype: Any = None) -> pl.DataFrame:
    return pl.DataFrame({"a": pl.Series("a", values, dtype=dtype, strict=False)})


def one(
    now: Sequence[Any], before: Sequence[Any], rule: Mapping[str, Any], dtype: Any = pl.Float64
) -> tuple[Any, bool]:
    found: tuple[Any, bool] = against(column(now, dtype), column(before, dtype), rule)[()]
    return found


def linear(values: list[float], q: float) -> float:
    ordered, place = sorted(values), q * (len(values) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


# psi


def index(now: Sequence[Any], before: Sequence[Any]) -> float | None:
    """The population stability index of values that are bins already."""
    if not now or not before:
        return None
    a, e = Counter(now), Counter(before)
    shares = [(max(a[k] / len(now), 1e-4), max(e[k] / len(before), 1e-4)) for k in a | e]
    return sum((x - y) * math.log(x / y) for x, y in shares)


def binned(values: Sequence[float | None], before: Sequence[float | None], bins: int) -> list[Any]:
    known = [v for v in before if v is not None and not math.isnan(v)]
    edges = [linear(known, i / bins) for i in range(bins)] if known else []
    tied = {e for e, f in pairwise(edges) if e == f}

    def place(value: float) -> Any:
        return ("just", value) if value in tied else sum(value > e for e in edges[1:]) + sum(value > t for t in tied)

    return [v if v is None else "nan" if math.isnan(v) else place(v) for v in values]


# eighths: quantiles between them are exact floats
floats = st.none() | st.integers(-40, 40).map(lambda n: n / 8) | st.just(NAN)
words = st.sampled_from(["u", "v", "w", None])


def close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))


@given(st.lists(floats, max_size=30), st.lists(floats, max_size=30), st.sampled_from([2, 4, 8]))
def test_psi_of_numbers_equals_the_oracle(now: list[Any], before: list[Any], bins: int) -> None:
    value, failed = one(now, before, {"psi": {"column": "a", "bins": bins, "max": 0.25}})
    expected = index(binned(now, before, bins), binned(before, before, bins))
    assert close(value, expected), (value, expected)
    assert failed is (value is not None and value > 0.25)


@given(
    st.lists(st.tuples(st.sampled_from(["x", "y", None]), words), max_size=30),
    st.lists(st.tuples(st.sampled_from(["x", None]), words), max_size=30),
)
def test_psi_of_text_equals_the_oracle(now: list[Any], before: list[Any]) -> None:
    frame, old = (pl.DataFrame(rows, schema={"g": pl.String, "a": pl.String}, orient="row") for rows in (now, before))
    value, _ = against(frame, old, {"psi": {"column": "a"}})[()]
    assert close(value, index([a for _, a in now], [a for _, a in before]))
    found = against(frame, old, {"psi": {"column": "a", "by": "g"}})
    assert found.keys() == {(g,) for g, _ in now}
    for (group,), (value, failed) in found.items():
        expected = index([a for g, a in now if g == group], [a for g, a in before if g == group])
        assert close(value, expected)
        assert failed is (value is not None and value > 0.2)


DRIFTED: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "int": (pl.Int64, [1, 2, 3, 4], [11, 12, 13, 14]),
    "uint8": (pl.UInt8, [0, 1, 2], [253, 254, 255]),
    "decimal": (pl.Decimal(10, 2), [Decimal(1), Decimal(2)], [Decimal(8), Decimal(9)]),
    "infinite": (pl.Float64, [0.0, 1.0], [INF, INF]),
    "nan": (pl.Float32, [0.0, 1.0], [NAN, NAN]),
    "null": (pl.Float32, [0.0, 1.0], [None, None]),
    "filled": (pl.Int8, [None, None], [1, 2]),
    "date": (pl.Date, [date(1, 1, 1), date(2020, 1, 1)], [date(2020, 1, 2), date(9999, 12, 31)]),
    "datetime": (pl.Datetime("ns", "UTC"), [datetime(2020, 1, 1)], [datetime(2021, 1, 1), datetime(2022, 1, 1)]),
    "duration": (pl.Duration("ms"), [timedelta(0), timedelta(1)], [timedelta(7)]),
    "time": (pl.Time, [time(0), time(1)], [time(23)]),
    "bool": (pl.Boolean, [True, True], [False, None]),
    "categorical": (pl.Categorical, ["u"], ["v"]),
    "enum": (pl.Enum(["u", "v"]), ["u"], ["v"]),
    "text": (pl.String, ["u\0"], ["u"]),
}


@pytest.mark.parametrize("kind", DRIFTED)
def test_psi_of_every_type(kind: str) -> None:
    dtype, before, now = DRIFTED[kind]
    before, now = ([pl.Series([v], dtype=dtype, strict=False)[0] for v in values] for values in (before, now))
    assert one(now, before, {"psi": {"column": "a"}}, dtype)[1]
    assert one(before * 2, before, {"psi": {"column": "a"}}, dtype) == (0.0, False)


# ks


def distance(now: Sequence[float], before: Sequence[float]) -> float | None:
    if not now or not before:
        return None

    def below(values: Sequence[float], point: float) -> float:
        return sum(v <= point or math.isnan(point) for v in values) / len(values)

    return max(abs(below(now, p) - below(before, p)) for p in [*now, *before])


def probability(d: float, n: int, m: int) -> float:
    root = math.sqrt(n * m / (n + m))
    size = (root + 0.12 + 0.11 / root) * d
    if size < 0.01:
        return 1.0
    return min(1.0, max(0.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * size * size) for k in range(1, 2_000))))


values = st.none() | st.integers(-5, 5).map(float) | st.sampled_from([NAN, INF, -INF, -0.0])


@given(
    st.lists(st.tuples(st.sampled_from(["x", "y"]), values), max_size=30),
    st.lists(st.tuples(st.sampled_from(["x", "z"]), values), max_size=30),
    st.sampled_from([0.0, 0.25, 0.5]),
)
def test_ks_equals_the_oracle(now: list[Any], before: list[Any], most: float) -> None:
    frame, old = (pl.DataFrame(rows, schema={"g": pl.String, "a": pl.Float64}, orient="row") for rows in (now, before))
    groups = {(): lambda _: True} | {(g,): lambda r, g=g: r[0] == g for g, _ in now}
    for group, inside in groups.items():
        here, there = ([r[1] for r in rows if inside(r) and r[1] is not None] for rows in (now, before))
        by = {"by": "g"} if group else {}
        expected = distance(here, there)
        value, failed = against(frame, old, {"ks": {"column": "a", "max": most, **by}})[group]
        assert close(value, expected)
        if expected is None or not math.isclose(expected, most):
            assert failed is (expected is not None and expected > most)
        value, failed = against(frame, old, {"ks": {"column": "a", "p_value": 0.05, **by}})[group]
        if expected is None:
            assert (value, failed) == (None, False)
        else:
            p = probability(expected, len(here), len(there))
            assert value == pytest.approx(p, abs=1e-5)
            assert failed is (value < 0.05)


def test_ks_of_large_samples_finds_the_critical_values() -> None:
    # Kolmogorov's distribution: 1.3581 for 5 %, 1.6276 for 1 %
    size = 20_000
    for critical, p in ((1.3581, 0.05), (1.6276, 0.01)):
        shift = round(critical / math.sqrt(size / 2) * size)
        now = [float(i + shift) for i in range(size)]
        value, _ = one(now, [float(i) for i in range(size)], {"ks": {"column": "a", "p_value": 0}})
        assert value == pytest.approx(p, rel=0.05)


@pytest.mark.parametrize("kind", ["int", "uint8", "decimal", "infinite", "date", "datetime", "duration", "time"])
def test_ks_of_every_type(kind: str) -> None:
    dtype, before, now = DRIFTED[kind]
    before, now = ([pl.Series([v], dtype=dtype, strict=False)[0] for v in values] for values in (before, now))
    assert one(now, before, {"ks": {"column": "a", "max": 0.4}}, dtype)[1]
    assert one(before * 2, before, {"ks": {"column": "a", "max": 0}}, dtype) == (0.0, False)
    assert one([None], before, {"ks": {"column": "a", "max": 0}}, dtype) == (None, False)


@pytest.mark.parametrize(("here", "there", "size"), [(9, 7, 10), (7, 9, 10), (3, 2, 5), (7, 6, 10), (91, 89, 100)])
def test_a_distance_is_not_more_than_itself(here: int, there: int, size: int) -> None:
    """9/10 - 7/10 is more than 0.2, in floats."""
    now, before = ([0.0] * n + [1.0] * (size - n) for n in (here, there))
    exact = abs(here - there) / size
    assert one(now, before, {"ks": {"column": "a", "max": exact}}) == (exact, False)


# what was before


RULES: list[dict[str, Any]] = [{"psi": {"column": "a", "max": 0}}, {"ks": {"column": "a", "max": 0}}]


@pytest.mark.parametrize("rule", RULES, ids=["psi", "ks"])
def test_what_cannot_be_compared_passes(rule: dict[str, Any]) -> None:
    now = pl.DataFrame({"a": [1, 2], "g": ["x", "y"], "w": [True, True]})
    ((name, arguments),) = rule.items()
    nothing = (None, False)
    for before in (
        None,
        now.drop("a"),
        now.clear(),
        now.with_columns(pl.col("a").cast(pl.String)),
        now.with_columns(pl.lit([1]).alias("a")),
    ):
        assert against(now, before, rule)[()] == nothing
    old = now.with_columns(pl.col("a") + 10)
    assert against(now.clear(), old, rule)[()] == nothing
    assert against(now, old, rule)[()][1]
    # of another width, it is the same number
    assert against(now, old.with_columns(pl.col("a").cast(pl.Float32)), rule)[()][1]
    for more in ({"by": "g"}, {"where": "w"}):
        changed = {name: {**arguments, **more}}
        assert all(failed for _, failed in against(now, old, changed).values())
        for before in (
            None,
            old.drop(*more.values()),
            old.with_columns(pl.lit([1]).alias("g"), pl.lit([1]).alias("w")),
        ):
            assert set(against(now, before, changed).values()) == {nothing}
    assert against(now, old.with_columns(g=pl.lit("x")), {name: {**arguments, "by": "g"}})[("y",)] == nothing
    assert against(now.clear(), old, {name: {**arguments, "by": "g"}}) == {}


@pytest.mark.parametrize("rule", RULES, ids=["psi", "ks"])
def test_where_holds_for_both_sides(rule: dict[str, Any]) -> None:
    frame = pl.DataFrame({"a": [1, 2, 7], "w": [True, True, False]})
    old = pl.DataFrame({"a": [1, 2, 9, 8], "w": [True, True, None, False]})
    ((name, arguments),) = rule.items()
    assert against(frame, old, rule)[()][1]
    assert against(frame, old, {name: {**arguments, "where": "w"}})[()] == (0.0, False)


def test_they_pass_alone_and_say_what_they_expect() -> None:
    frame = column([1, 2])
    assert lp.check(frame, [*RULES, {"z_score": {"metric": "row_count"}}]).status == "pass"
    for rule, words in (
        (RULES[0], "an index of at most 0 against the previous commit"),
        ({"ks": {"column": "a", "max": 0.1}}, "a distance of at most 0.1 against the previous commit"),
        ({"ks": {"column": "a", "p_value": 0.01}}, "a probability of at least 0.01 against the previous commit"),
        (
            {"z_score": {"metric": "mean", "column": "a", "runs": 5}},
            "within 3 standard deviations of the mean of the last 5 runs",
        ),
    ):
        check = check_of(frame.schema, rule)
        assert check.measure is not None
        assert check.measure.expected == words
        if "z_score" not in rule:
            assert check.measure.frames == (PREVIOUS,)
        else:
            assert (check.id, check.measure.history) == ("z_score:mean a", 5)


# z_score


def judged(rule: Mapping[str, Any], frame: pl.DataFrame, history: Sequence[Any]) -> tuple[Any, bool]:
    check = check_of(frame.schema, {"z_score": rule})
    value = measure.measured(check, frame.lazy(), {}).collect()
    if check.measure is not None and check.measure.parts:
        added = measure.Sum(check)
        for row in range(frame.height):
            added.add(frame.slice(row, 1))
        assert close(added.value(frame.schema)[VALUE][0], value[VALUE][0])
    result = measure.verdict(check, value, history)
    return result.value, bool(result.failed)


@given(st.lists(st.none() | st.integers(0, 20) | st.sampled_from([NAN, INF]), max_size=12), st.integers(0, 20))
def test_z_score_equals_the_oracle(history: list[Any], rows: int) -> None:
    rule = {"metric": "row_count", "max": 2, "runs": 6, "min_runs": 3}
    value, failed = judged(rule, pl.DataFrame({"a": [0] * rows}, schema={"a": pl.Int8}), history)
    assert value == rows
    # the last six that measured something; of them those that are numbers
    past = [v for v in [h for h in history if h is not None][-6:] if math.isfinite(v)]
    if len(past) < 3:
        assert not failed
    else:
        apart = abs(rows - statistics.mean(past)) - 2 * statistics.stdev(past)
        if abs(apart) > 1e-6:
            assert failed is (apart > 0)


def test_z_score_of_every_metric() -> None:
    frame = column([1, 3, None, 3])
    for metric, expected in (
        ("mean", 7 / 3),
        ("median", 3.0),
        ("min", 1.0),
        ("max", 3.0),
        ("std", statistics.stdev([1, 3, 3])),
        ("sum", 7.0),
        ("completeness", 0.75),
        ("distinct_count", 2.0),
    ):
        rule = {"metric": metric, "column": "a"}
        value, failed = judged(rule, frame, [expected] * 3)
        assert value == pytest.approx(expected)
        assert not failed
        assert judged(rule, frame, [expected + 1, expected + 1.1, expected + 1.2])[1]
        assert not judged(rule, frame, [expected + 1, expected + 1.1])[1]
    assert judged({"metric": "distinct_count", "column": "a"}, column(["x", "y", None]), [2.0] * 3) == (2.0, False)
    assert judged({"metric": "completeness", "column": "a"}, column([], pl.Date), [1.0] * 3) == (None, False)
    assert judged({"metric": "mean", "column": "a"}, column([NAN]), [1.0, 2.0, 3.0])[1]
    assert judged({"metric": "sum", "column": "a"}, column([Decimal("0.1")]), [0.1] * 3) == (0.1, False)
    # the mean of equal floats is not always one of them
    assert judged({"metric": "mean", "column": "a"}, column([0.1]), [0.1] * 3) == (0.1, False)
    assert judged({"metric": "mean", "column": "a"}, column([0.1001]), [0.1] * 3) == (0.1001, True)


# wrong use

FRAME = pl.DataFrame(
    schema={"n": pl.Int64, "s": pl.String, "b": pl.Boolean, "l": pl.List(pl.Int8), "none": pl.Null, "o": pl.Object}
)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"psi": {"column": "zz"}}, "unknown column 'zz'; known columns: "),
        ({"psi": {"column": "n", "by": "zz"}}, "unknown column 'zz'; known columns: "),
        *(
            (
                {"psi": {"column": c}},
                f"column {c!r} is {dtype_name(FRAME.schema[c])}, which has no bins; name a column of numbers, times, text or booleans",
            )
            for c in ("l", "o")
        ),
        ({"psi": {"column": "n", "max": -1}}, "no index is at most -1; write a number such as 0.2"),
        ({"psi": {"column": "n", "max": NAN}}, "no index is at most nan; write a number such as 0.2"),
        ({"psi": {"column": "n", "bins": 1}}, "1 bins tell nothing apart; write 2 or more, such as 10"),
        (
            {"psi": {"column": "n", "action": "drop"}},
            "a rule on the whole frame cannot remove rows; write action: fail or warn",
        ),
        (
            {"psi": {"column": "n", "where": "n"}},
            "a condition must be true or false, and this is Int64; compare it with something",
        ),
        ({"ks": {"column": "zz", "max": 0.1}}, "unknown column 'zz'; known columns: "),
        *(
            (
                {"ks": {"column": c, "max": 0.1}},
                f"column {c!r} is {dtype_name(FRAME.schema[c])}, which has no order to compare; write psi",
            )
            for c in ("s", "b", "l", "o")
        ),
        ({"ks": {"column": "n"}}, "ks needs a bound; give max or p_value"),
        ({"ks": {"column": "n", "max": 0.1, "p_value": 0.1}}, "max and p_value are two measures; give max or p_value"),
        ({"ks": {"column": "n", "max": 1.1}}, "max 1.1 is not a fraction; write a number from 0 to 1"),
        ({"ks": {"column": "n", "p_value": NAN}}, "p_value nan is not a fraction; write a number from 0 to 1"),
        ({"z_score": {"metric": "mode", "column": "n"}}, "unknown metric 'mode'; "),
        ({"z_score": {"metric": "mean"}}, "mean is that of a column; add column"),
        ({"z_score": {"metric": "row_count", "column": "n"}}, "row_count is that of all columns; remove column"),
        ({"z_score": {"metric": "mean", "column": "zz"}}, "unknown column 'zz'; known columns: "),
        (
            {"z_score": {"metric": "mean", "column": "s"}},
            "column 's' is String, whose mean cannot be compared with earlier runs; name a column of numbers",
        ),
        (
            {"z_score": {"metric": "distinct_count", "column": "o"}},
            "column 'o' is Object, whose values cannot be compared; cast it to a type of its own",
        ),
        (
            {"z_score": {"metric": "row_count", "max": 0}},
            "nothing is 0 standard deviations from a mean; write a number such as 3",
        ),
        ({"z_score": {"metric": "row_count", "min_runs": 1}}, "1 runs have no deviation; write 2 or more, such as 3"),
        (
            {"z_score": {"metric": "row_count", "runs": 2}},
            "runs 2 is less than min_runs 3; write a runs of at least min_runs",
        ),
    ],
)
def test_wrong_use_is_a_definition_error(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        lp.check(FRAME, [rule])
    (problem,) = caught.value.problems
    place, _, said = str(problem).partition(": ")
    assert place.startswith(f"rules[0].{next(iter(rule))}")
    assert said.startswith(message) if message.endswith((": ", "; ")) else said == message
