"""Every row rule, and every rule on keys and groups, on columns of every type and their edges: as a naive reading of the rule does it, value by value."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import DefinitionError

NOW = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400
PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
FLOATS = [math.nan, math.inf, -math.inf, -0.0, 0.0, 1.5, -2.5]
TEXT = ["", "a", " ", "é", "Z", "ab"]
FAR = [-(2**63) + 1, 2**63 - 1, 0, 1, -1]


def whole(bits: int, *, signed: bool) -> list[int]:
    return [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, 1, 5, -1] if signed else [0, 2**bits - 1, 1, 2, 5]


# the values of times and durations are the numbers that they are counted in, those of structs and lists are tuples
TYPES: dict[str, tuple[Any, list[Any]]] = {
    "Int8": (pl.Int8(), whole(8, signed=True)),
    "Int64": (pl.Int64(), [*whole(64, signed=True), 2**53, 2**53 + 1]),
    "Int128": (pl.Int128(), [*whole(128, signed=True), 2**64]),
    "UInt64": (pl.UInt64(), [*whole(64, signed=False), 2**63]),
    "UInt128": (pl.UInt128(), [*whole(128, signed=False), 2**127]),
    "Float16": (pl.Float16(), FLOATS),
    "Float32": (pl.Float32(), FLOATS),
    "Float64": (pl.Float64(), [*FLOATS, 5e-324, 1e300]),
    "Decimal(9, 2)": (pl.Decimal(9, 2), [Decimal(t) for t in ("0", "9999999.99", "-9999999.99", "0.01", "1.5")]),
    "Decimal(38, 10)": (pl.Decimal(38, 10), [Decimal(t) for t in ("0", "9" * 28 + ".9999999999", "-0.0000000001")]),
    "String": (pl.String(), [*TEXT, "a\n", "\0"]),
    "Categorical": (pl.Categorical(), TEXT),
    "Enum": (pl.Enum(TEXT), TEXT),
    "Boolean": (pl.Boolean(), [True, False]),
    "Date": (pl.Date(), [-(2**31), 2**31 - 1, 0, 1, -1, 19_000]),
    "Datetime(ms)": (pl.Datetime("ms"), [*FAR, 10**12]),
    "Datetime(us)": (pl.Datetime("us"), [*FAR, 10**15]),
    "Datetime(ns)": (pl.Datetime("ns"), [*FAR, 10**18]),
    # an hour that comes twice
    "Datetime(us, Europe/Berlin)": (pl.Datetime("us", "Europe/Berlin"), [0, 1, 1_698_541_200 * 10**6, 1_698_544_800 * 10**6]),
    "Time": (pl.Time(), [0, 1, DAY * 10**9 - 1]),
    "Duration(ms)": (pl.Duration("ms"), FAR),
    "Duration(us)": (pl.Duration("us"), FAR),
    "Duration(ns)": (pl.Duration("ns"), FAR),
    "Binary": (pl.Binary(), [b"", b"\0", b"a", b"\xff"]),
    "List": (pl.List(pl.Float64()), [(), (math.nan,), (0.0,), (-0.0,), (None,), (1.0, 2.0)]),
    "Array": (pl.Array(pl.Int64(), 2), [(1, 2), (None, None), (0, 0)]),
    "Struct": (pl.Struct({"x": pl.Int64(), "y": pl.String()}), [(1, "a"), (None, None), (1, None)]),
    "Null": (pl.Null(), [None]),
}  # fmt: skip


def series(name: str, dtype: Any, values: Sequence[Any]) -> pl.Series:
    if dtype.is_temporal():
        return pl.Series(name, values, pl.Int32 if dtype == pl.Date else pl.Int64).cast(dtype)
    if dtype == pl.Struct:
        values = [v if v is None else dict(zip(("x", "y"), v, strict=True)) for v in values]
    elif dtype.is_nested():
        values = [v if v is None else list(v) for v in values]
    return pl.Series(name, values, dtype)


def same(value: Any) -> Any:
    """What equal values have in common: NaN is equal to itself, and 0 to -0."""
    if isinstance(value, tuple):
        return tuple(map(same, value))
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def is_text(t: Any) -> bool:
    return bool(t in (pl.String, pl.Categorical, pl.Enum, pl.Null))


def has_length(t: Any) -> bool:
    return bool(is_text(t) or t in (pl.List, pl.Array, pl.Binary))


def counts(t: Any) -> bool:
    return bool(t.is_numeric() or t in (pl.Duration, pl.Null))


def is_number(t: Any) -> bool:
    return bool(t.is_numeric() or t == pl.Null)


def is_moment(t: Any) -> bool:
    return bool(t in (pl.Date, pl.Datetime, pl.Null))


@dataclass(frozen=True)
class Case:
    """A rule, the types that it takes (it refuses all others), and which of their values violate it; null does not, if nothing is said."""

    rule: dict[str, Any]
    takes: Callable[[Any], bool]
    violated: Callable[[Any], bool]
    null: bool = False

    def oracle(self, value: Any) -> bool:
        return self.null if value is None else self.violated(value)


def outside(low: Any, high: Any, closed: str) -> Callable[[Any], bool]:
    over = operator.ge if closed in ("both", "left") else operator.gt
    under = operator.le if closed in ("both", "right") else operator.lt

    def violated(value: Any) -> bool:
        exact = value if isinstance(value, float) and not math.isfinite(value) else Fraction(value)
        return not ((low is None or over(exact, low)) and (high is None or under(exact, high)))

    return lambda v: nan(v) or violated(v)


def of(name: str, **arguments: Any) -> dict[str, Any]:
    return {name: {"column": "a", **arguments}}


ANY: Callable[[Any], bool] = lambda t: True  # noqa: E731
CASES = [
    Case({"not_null": {"columns": "a"}}, ANY, lambda v: False, null=True),
    Case({"null": {"columns": "a"}}, ANY, lambda v: True),
    Case({"any_not_null": {"columns": "a"}}, ANY, lambda v: False, null=True),
    Case({"expression": {"condition": "a IS NULL"}}, ANY, lambda v: True),
    Case({"not_empty": {"columns": "a"}}, has_length, lambda v: len(v) == 0),
    Case({"not_empty": {"columns": "a", "blank": True}}, is_text, lambda v: v.strip() == ""),
    Case(of("length_between", min=1, max=1), has_length, lambda v: len(v) != 1),
    Case({"positive": {"columns": "a"}}, counts, lambda v: not v > 0),
    Case({"non_negative": {"columns": "a"}}, counts, lambda v: not v >= 0),
    Case({"finite": {"columns": "a"}}, is_number, lambda v: isinstance(v, float) and not math.isfinite(v)),
    *(
        Case(
            of("multiple_of", of=n),
            lambda t: is_number(t) and not t.is_float(),
            lambda v, n=n: Fraction(v) % Fraction(n) != 0,
        )
        for n in (1, 5, Decimal("0.01"), Decimal("0.3"), 2**64, 10**30)
    ),
    *(
        Case(
            of("between", min=low, max=high, closed=closed),
            lambda t: t.is_numeric() and t not in (pl.UInt128, pl.Float16),
            outside(low, high, closed),
        )
        for low, high in ((0, 2), (-1, 1.5), (None, 5), (1.5, None), (-(2**63), 2**63 - 1))
        for closed in ("both", "left", "right", "none")
    ),
    *(
        Case(of(name, values=values), lambda t: t.is_numeric(), lambda v, w=values, m=member: (v in w) is not m)
        for name, member in (("in_set", True), ("not_in_set", False))
        for values in ([0], [0.0, 5], list(range(12)))
    ),
    *(
        Case(of(name, values=v), lambda t: is_text(t) and t != pl.Null, lambda v, w=v, m=member: (v in w) is not m)
        for name, member in (("in_set", True), ("not_in_set", False))
        for v in (["a", ""], ["a", "é", *"qwertzuiop"])
    ),
    Case(of("in_set", values=[True]), lambda t: t == pl.Boolean, operator.not_),
    Case(of("in_set", values=["00:00"]), lambda t: t in (pl.Time, pl.String), lambda v: v != 0),
    Case(of("regex", pattern="^a$"), is_text, lambda v: v != "a"),
    Case(of("not_regex", pattern="a"), is_text, lambda v: "a" in v),
    Case(of("like", pattern="a%"), is_text, lambda v: not v.startswith("a")),
    Case(of("not_like", pattern="a_"), is_text, lambda v: len(v) == 2 and v[0] == "a"),
    Case(of("json"), is_text, lambda v: True),
    Case(of("parseable", **{"as": "number"}), is_text, lambda v: True),
    Case(of("format", **{"is": "email"}), is_text, lambda v: True),
    Case(of("in_past"), is_moment, lambda v: v >= 0),
    Case(of("in_past", or_now=True), is_moment, lambda v: v > 0),
    Case(of("in_future"), is_moment, lambda v: v <= 0),
    Case(of("in_future", or_now=True), is_moment, lambda v: v < 0),
]


def rows(kind: str, values: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame([pl.Series("i", range(len(values)), pl.Int64), series("a", TYPES[kind][0], values)])


def apart(case: Case, number: int, action: str) -> dict[str, Any]:
    ((name, arguments),) = case.rule.items()
    return {name: {k: v for k, v in arguments.items() if v is not None} | {"action": action, "id": f"r{number}"}}


@pytest.mark.parametrize("kind", TYPES)
def test_rules_refuse_the_types_that_they_are_not_for(kind: str) -> None:
    frame = rows(kind, [])
    # whether values that a rule is given are of the column's type is said by the tests of values
    others = [c for c in CASES if "values" not in next(iter(c.rule.values())) and "between" not in c.rule]
    for case in others:
        rule = apart(case, 0, "warn")
        if case.takes(frame.schema["a"]):
            assert lp.check(frame, [rule], now=NOW).failed == {}
        elif "multiple_of" not in rule:  # of floats it has tests of its own
            with pytest.raises(DefinitionError, match=r"^rules\[0\]\.\w+\.columns?(\[0\])?: column 'a' is .*; \w+ "):
                lp.check(frame, [rule], now=NOW)


def judged(kind: str, values: Sequence[Any]) -> None:
    frame = rows(kind, values)
    cases = [(n, c) for n, c in enumerate(CASES) if c.takes(frame.schema["a"])]
    report = lp.check(frame, [apart(c, n, "warn") for n, c in cases], now=NOW)
    expected = {f"r{n}": sum(map(c.oracle, values)) for n, c in cases}
    assert {c.id: c.failed for c in report.checks} == expected


@pytest.mark.parametrize("kind", TYPES)
def test_row_rules_at_the_edges_of_every_type(kind: str) -> None:
    values = TYPES[kind][1]
    for some in ([*values, None], [], [None, None]):
        judged(kind, some)


@st.composite
def columns(draw: st.DrawFn) -> tuple[str, list[Any]]:
    kind = draw(st.sampled_from(list(TYPES)))
    return kind, draw(st.lists(st.none() | st.sampled_from(TYPES[kind][1]), max_size=12))


@given(column=columns(), data=st.data())
def test_a_split_by_a_row_rule_keeps_every_value(column: tuple[str, list[Any]], data: st.DataObject) -> None:
    kind, values = column
    frame = rows(kind, values)
    case = data.draw(st.sampled_from([c for c in CASES if c.takes(frame.schema["a"])]))
    parts = lp.split(frame.lazy(), [apart(case, 0, "quarantine")], now=NOW)
    bad = [i for i, v in enumerate(values) if case.oracle(v)]
    good = [i for i in range(len(values)) if i not in bad]
    for found, numbers in ((parts.good, good), (parts.bad, bad)):
        assert sorted(found["i"]) == numbers
        assert found.sort("i")["a"].cast(frame.schema["a"]).equals(frame["a"].gather(numbers), null_equal=True)


@given(column=columns(), there=st.data())
def test_keys_and_groups_of_every_type(column: tuple[str, list[Any]], there: st.DataObject) -> None:
    kind, values = column
    dtype, edges = TYPES[kind]
    others = there.draw(st.lists(st.none() | st.sampled_from(edges), max_size=4))
    times, known = Counter(map(same, values)), Counter(map(same, others))
    keys = [same(v) for v in values if v is not None]
    frame, other = rows(kind, values), pl.DataFrame([series("k", dtype, others)])
    reference = {"to": "other", "column": "k"}
    rules = [
        {"unique": {"columns": "a", "id": "unique"}},
        of("foreign_key", references=reference, id="there"),
        of("cardinality", references=reference, max=1, id="once"),
        {"distinct_count": {"columns": "a", "equals": len(set(keys)), "id": "different"}},
        {"row_count": {"min": 1, "max": 1, "by": "a", "id": "groups"}},
        {"sum": {"column": "i", "min": 10**6, "by": "a", "id": "sums"}},
        {"median": {"column": "i", "min": 10**6, "by": "a", "id": "medians"}},
    ]
    report = lp.check(frame, rules, now=NOW, other=other)
    found = {c.id: c.failed for c in report.checks}
    assert found == {
        "unique": sum(times[k] > 1 for k in keys),
        "there": sum(not known[k] for k in keys),
        "once": sum(known[k] > 1 for k in keys),
        "different": 0,
        "groups": sum(n > 1 for n in times.values()),
        "sums": len(times),
        "medians": len(times),
    }


@given(column=columns(), data=st.data())
def test_columns_of_every_type_compare(column: tuple[str, list[Any]], data: st.DataObject) -> None:
    kind, values = column
    dtype, edges = TYPES[kind]
    others = [data.draw(st.none() | st.sampled_from(edges)) for _ in values]
    frame = rows(kind, values).with_columns(series("b", dtype, others))
    both = [(v, w) for v, w in zip(values, others, strict=True) if v is not None and w is not None]
    found = lp.check(frame, [{"compare": {"left": "a", "op": o, "right": "b", "id": o}} for o in ("=", "!=")])
    equal = sum(same(v) == same(w) for v, w in both)
    assert {c.id: c.failed for c in found.checks} == {"=": len(both) - equal, "!=": equal}
    if dtype.is_nested():
        return
    # an Enum has the order of its categories
    place = TEXT.index if kind == "Enum" else lambda v: v
    ops = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
    found = lp.check(frame, [{"compare": {"left": "a", "op": o, "right": "b", "id": o}} for o in ops])
    for check in found.checks:
        holds = sum(not nan(v) and not nan(w) and ops[check.id](place(v), place(w)) for v, w in both)
        assert check.failed == len(both) - holds, check.id


@pytest.mark.parametrize("unit", PER_SECOND)
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_times_at_the_ends_of_their_type_are_fresh_or_not(unit: Any, zone: str | None) -> None:
    hour = 3600 * PER_SECOND[unit]
    for newest, stale in ((2**63 - 1, False), (-(2**63) + 1, True), (-hour, False), (-hour - 1, True)):
        if zone is not None and abs(newest) > 2**62:
            continue  # where no zone reaches
        frame = pl.DataFrame([series("a", pl.Datetime(unit, zone), [newest, None])])
        assert bool(lp.check(frame, [of("freshness", within="1h")], now=NOW).failed) is stale


@pytest.mark.parametrize("unit", PER_SECOND)
def test_a_sum_of_durations_that_no_duration_holds_is_beyond_all_bounds(unit: Any) -> None:
    for sign, bound in ((1, "max"), (-1, "min")):
        frame = pl.DataFrame([series("a", pl.Duration(unit), [sign * (2**63 - 1)] * 3_000)])
        assert lp.check(frame, [of("sum", **{bound: "1000w"})]).failed == {"sum:a": 1}
        assert lp.check(frame, [of("sum", **{"min" if bound == "max" else "max": "0s"})]).failed == {}


@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt64])
def test_more_gaps_than_64_bits_hold_are_more_than_any_bound_allows(dtype: Any) -> None:
    least, most = pl.select(dtype.min(), most=dtype.max()).row(0)
    frame = pl.DataFrame({"a": pl.Series([least, most, None], dtype=dtype)})
    assert lp.check(frame, [of("no_gaps", every=1, max=10**18)]).failed == {"no_gaps:a": 1}
    (check,) = lp.check(frame, [of("no_gaps", every=2**32)]).checks
    assert check.value == 2**32 - 2


def test_sums_of_the_widest_whole_numbers_are_those_of_floats() -> None:
    frame = pl.DataFrame({"a": pl.Series([2**127 - 1] * 4, dtype=pl.Int128)})
    (check,) = lp.check(frame, [of("sum", min=0)]).checks
    assert check.value == float(2**129)
