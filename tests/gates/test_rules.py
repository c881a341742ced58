"""Each rule, edge by edge and against a naive oracle over lists of dicts; wrong use is a located mistake."""

# columns without a time zone hold datetimes without one

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import gates
from lazypipe.errors import DefinitionError
from lazypipe.spec.model import Step, freeze
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name

NAN, INF = math.nan, math.inf
BERLIN = ZoneInfo("Europe/Berlin")


def violations(frame: pl.DataFrame, rule: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> list[bool]:
    """Which rows violate a rule's one check; the report must count the same."""
    ((name, arguments),) = rule.items()
    step = Step(name, freeze(arguments), ("rules", 0))
    made = gates.rule(step)
    (check,) = made.checks(frame.schema, Scope(type(made), step, params=params or {}))
    found = frame.with_columns(check.mask().alias("__violated"))["__violated"].to_list()
    report = lp.check(frame, [rule], params=params)
    assert report.checks[0].failed == sum(found)
    return found


def column(values: Sequence[Any], dtype: pl.DataType | type[pl.DataType] | None = None) -> pl.DataFrame:
    return pl.DataFrame({"a": pl.Series("a", values, dtype=dtype, strict=False)})


def test_the_catalogue_is_found_by_name() -> None:
    assert gates.names() == ("between", "expression", "in_set", "not_null", "unique")


# not_null


def test_not_null_takes_null_only() -> None:
    assert violations(column([None, NAN, 0.0, INF]), {"not_null": "a"}) == [True, False, False, False]
    assert violations(column(["", None]), {"not_null": "a"}) == [False, True]
    assert violations(column([None, None], pl.Int8), {"not_null": "a"}) == [True, True]
    assert violations(column([None, None], pl.Null), {"not_null": "a"}) == [True, True]
    assert violations(column([[], None, [None]], pl.List(pl.Int8)), {"not_null": "a"}) == [False, True, False]
    assert violations(column([{"x": None}, None], pl.Struct({"x": pl.Int8})), {"not_null": "a"}) == [False, True]
    assert violations(column([], pl.Int8), {"not_null": "a"}) == []


def test_not_null_makes_a_check_per_column() -> None:
    frame = pl.DataFrame({"a": [1, None], "b": [None, None]}, schema={"a": pl.Int8, "b": pl.Int8})
    report = lp.check(frame, [{"not_null": ["a", "b"]}])
    assert report.failed == {"not_null:a": 1, "not_null:b": 2}


# between

MOMENT = datetime(2020, 6, 1, 12, 0, 0, 500_000)
BOUNDS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    # type, (below, at, above), ways to write the bound "at"
    "int8": (pl.Int8, [-1, 0, 1], [0, 0.0]),
    "uint64": (pl.UInt64, [2**63, 2**63 + 1, 2**64 - 1], [2**63 + 1]),
    "int64": (pl.Int64, [2**53, 2**53 + 1, 2**53 + 2], [2**53 + 1]),
    "int128": (pl.Int128, [10**30, 10**30 + 1, 10**30 + 2], [10**30 + 1]),
    "float32": (pl.Float32, [0.0, 0.1, 0.2], [0.1]),
    "float64": (pl.Float64, [-INF, 0.5, INF], [0.5]),
    "zero": (pl.Float64, [-1e-300, -0.0, 1e-300], [0, 0.0, -0.0]),
    "infinite": (pl.Float64, [1e308, INF, None], [INF]),
    "decimal": (
        pl.Decimal(10, 2),
        [Decimal("0.11"), Decimal("0.12"), Decimal("0.13")],
        [0.12, "0.12", Decimal("0.120")],
    ),
    "date": (pl.Date, [date(2020, 5, 31), date(2020, 6, 1), date(2020, 6, 2)], ["2020-06-01", datetime(2020, 6, 1)]),
    "time": (pl.Time, [time(0), time(12, 30), time(23)], ["12:30", "12:30:00"]),
    "duration": (pl.Duration("ms"), [timedelta(0), timedelta(seconds=90), timedelta(days=1)], ["90s", "1.5m"]),
    "ms": (pl.Datetime("ms"), [MOMENT - timedelta(milliseconds=1), MOMENT, datetime(9999, 1, 1)], [MOMENT.isoformat()]),
    "us": (pl.Datetime("us"), [MOMENT - timedelta(microseconds=1), MOMENT, datetime(9999, 1, 1)], [str(MOMENT)]),
    "midnight": (
        pl.Datetime("us"),
        [datetime(1, 1, 1), datetime(2020, 6, 1), MOMENT],
        ["2020-06-01", date(2020, 6, 1)],
    ),
    "far": (pl.Datetime("us"), [MOMENT, datetime(9999, 12, 31), None], ["9999-12-31", date(9999, 12, 31)]),
    "utc": (
        pl.Datetime("us", "UTC"),
        [MOMENT.replace(tzinfo=UTC) - timedelta(hours=1), MOMENT.replace(tzinfo=UTC), None],
        [str(MOMENT), f"{MOMENT}+00:00", f"{MOMENT + timedelta(hours=2)}+02:00"],
    ),
    "berlin": (
        pl.Datetime("ms", "Europe/Berlin"),
        [MOMENT.replace(tzinfo=BERLIN) - timedelta(hours=1), MOMENT.replace(tzinfo=BERLIN), None],
        [str(MOMENT), MOMENT, f"{MOMENT}+02:00", MOMENT.replace(tzinfo=BERLIN).astimezone(UTC)],
    ),
    "text": (pl.String, ["a", "b", "ä"], ["b"]),
}


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize("as_param", [False, True])
def test_between_bounds_of_every_type(kind: str, as_param: bool) -> None:
    dtype, values, ways = BOUNDS[kind]
    frame = column([*values, None], dtype)
    known = [v is not None for v in frame["a"]]
    for written in [*ways, values[1]]:
        bound, params = (":b", {"b": written}) if as_param else (written, {})
        for side, closed, expected in (
            ("min", "both", [True, False, False]),
            ("min", "left", [True, False, False]),
            ("min", "right", [True, True, False]),
            ("max", "both", [False, False, True]),
            ("max", "right", [False, False, True]),
            ("max", "none", [False, True, True]),
        ):
            rule = {"between": {"column": "a", side: bound, "closed": closed}}
            wanted = [v and k for v, k in zip([*expected, False], known, strict=True)]
            assert violations(frame, rule, params) == wanted, (written, side, closed)


def test_between_on_nanoseconds_is_exact() -> None:
    frame = pl.DataFrame({"a": [122, 123, 124]}).select(
        pl.lit(datetime(2020, 1, 1)).cast(pl.Datetime("ns")) + pl.duration(nanoseconds="a")
    )
    frame.columns = ["a"]
    bound = "2020-01-01T00:00:00.000000123"
    assert violations(frame, {"between": {"column": "a", "min": bound}}) == [True, False, False]
    assert violations(frame, {"between": {"column": "a", "max": bound}}) == [False, False, True]
    assert violations(frame, {"in_set": {"column": "a", "values": [bound]}}) == [True, False, True]


def test_a_fraction_bounds_whole_numbers() -> None:
    assert violations(column([0, 1, None]), {"between": {"column": "a", "min": 0.5}}) == [True, False, False]
    assert violations(column([0, 1, None]), {"between": {"column": "a", "max": INF}}) == [False, False, False]
    cents = column([Decimal("0.12"), Decimal("0.13")], pl.Decimal(10, 2))
    assert violations(cents, {"between": {"column": "a", "min": 0.125}}) == [True, False]


floats = st.none() | st.floats(width=32) | st.sampled_from([-0.0, 0.0, NAN, INF, -INF, 0.5])


def outside(value: float | None, least: float | None, most: float | None, closed: str) -> bool:
    if value is None:
        return False
    if math.isnan(value):
        return True
    low = least is not None and (value < least or (value == least and closed in ("right", "none")))
    return low or (most is not None and (value > most or (value == most and closed in ("left", "none"))))


@given(
    st.lists(st.tuples(floats, st.none() | st.booleans()), max_size=20),
    st.floats(allow_nan=False, width=32) | st.sampled_from([0.5, 0.0]),
    st.floats(allow_nan=False, width=32) | st.none(),
    st.sampled_from(["both", "left", "right", "none"]),
    st.sampled_from([pl.Float32, pl.Float64]),
)
def test_between_equals_the_oracle(
    rows: list[tuple[float | None, bool | None]], one: float, two: float | None, closed: str, dtype: Any
) -> None:
    least, most = (one, two) if two is None or one <= two else (two, one)
    frame = pl.DataFrame(rows, schema={"a": dtype, "w": pl.Boolean}, orient="row")
    bounds = {k: v for k, v in {"min": least, "max": most}.items() if v is not None}
    expected = [outside(a, least, most, closed) and w is True for a, w in rows]
    assert violations(frame, {"between": {"column": "a", **bounds, "closed": closed, "where": "w"}}) == expected


# in_set

SETS: dict[str, tuple[Any, Any, Any, list[Any]]] = {
    # type, a value of the set, one that is not, ways to write the set
    "bool": (pl.Boolean, True, False, [True]),
    "int": (pl.Int8, 1, 2, [1, 1.0, 1]),
    "wide": (pl.UInt8, 1, 2, [1, -1, 300]),
    "uint64": (pl.UInt64, 2**63 + 1, 2**63, [2**63 + 1]),
    "float32": (pl.Float32, 0.1, 0.2, [0.1, 7]),
    "float64": (pl.Float64, 0.5, 0.25, [2, 0.5]),
    "zero": (pl.Float64, -0.0, 1.0, [0.0]),
    "nan": (pl.Float64, NAN, 0.0, [NAN]),
    "infinite": (pl.Float64, INF, -INF, [INF]),
    "decimal": (pl.Decimal(10, 2), Decimal("0.10"), Decimal("0.11"), ["0.1", 5, 0.125]),
    "text": (pl.String, "a", "A", ["a", "b"]),
    "binary": (pl.Binary, b"a", b"b", ["a"]),
    "bytes": (pl.Binary, b"\xff", b"b", [b"\xff"]),
    "categorical": (pl.Categorical, "a", "b", ["a", "never seen"]),
    "enum": (pl.Enum(["a", "b"]), "a", "b", ["a", "not in the enum"]),
    "date": (pl.Date, date(2020, 1, 1), date(2020, 1, 2), ["2020-01-01"]),
    "time": (pl.Time, time(12), time(13), ["12:00"]),
    "duration": (pl.Duration("us"), timedelta(hours=2), timedelta(hours=1), ["2h"]),
    "datetime": (pl.Datetime("ms"), datetime(2020, 1, 1), datetime(2020, 1, 2), ["2020-01-01T00:00:00"]),
    "zoned": (
        pl.Datetime("us", "Europe/Berlin"),
        datetime(2020, 1, 1, tzinfo=BERLIN),
        datetime(2020, 1, 1, 1, tzinfo=BERLIN),
        ["2020-01-01"],
    ),
}


@pytest.mark.parametrize("kind", SETS)
def test_in_set_on_every_scalar_type(kind: str) -> None:
    dtype, inside, other, written = SETS[kind]
    rule = {"in_set": {"column": "a", "values": written}}
    assert violations(column([inside, other, None], dtype), rule) == [False, True, False]


def test_in_set_of_a_column_without_type_passes() -> None:
    assert violations(column([None, None], pl.Null), {"in_set": {"column": "a", "values": ["x"]}}) == [False, False]


@given(st.lists(floats, max_size=20), st.lists(floats.filter(lambda v: v is not None), min_size=1, max_size=4))
def test_in_set_equals_the_oracle(values: list[float | None], allowed: list[float]) -> None:
    def same(a: float, b: float) -> bool:
        return a == b or (math.isnan(a) and math.isnan(b))

    expected = [v is not None and not any(same(v, w) for w in allowed) for v in values]
    assert violations(column(values, pl.Float64), {"in_set": {"column": "a", "values": allowed}}) == expected


# expression


def test_expression_passes_null_and_takes_parameters_and_python_expressions() -> None:
    frame = pl.DataFrame({"a": [1, 5, None], "b": [2, 2, 2]})
    assert violations(frame, {"expression": "a <= b"}) == [False, True, False]
    assert violations(frame, {"expression": "a <= :most"}, {"most": 0}) == [True, True, False]
    assert violations(frame, {"expression": pl.col("a") <= pl.col("b")}) == [False, True, False]
    assert violations(frame, {"expression": "1 = 2"}) == [True, True, True]
    assert violations(frame, {"expression": "NULL"}) == [False, False, False]
    # an aggregate is that of the whole frame
    assert violations(frame, {"expression": "a < avg(a) * 1.5"}) == [False, True, False]


@given(st.lists(st.tuples(st.none() | st.integers(-3, 3), st.none() | st.integers(-3, 3)), max_size=20))
def test_expression_equals_the_oracle(rows: list[tuple[int | None, int | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Int64}, orient="row")
    rule = {"expression": {"condition": "a <= b OR a = 3", "where": "b <> 0"}}
    # SQL's three values: null OR true is true, null OR false is null
    expected = [b is not None and b != 0 and a is not None and a > b and a != 3 for a, b in rows]
    assert violations(frame, rule) == expected


# unique


def test_unique_does_not_compare_null_and_takes_every_row_of_a_repeated_key() -> None:
    assert violations(column([1, 1, 2, None, None]), {"unique": "a"}) == [True, True, False, False, False]
    assert violations(column([NAN, NAN, 0.0, -0.0, 1.0]), {"unique": "a"}) == [True, True, True, True, False]
    assert violations(column([], pl.Int8), {"unique": "a"}) == []
    assert violations(column([None, None], pl.Null), {"unique": "a"}) == [False, False]


REPEATED: dict[str, tuple[Any, Any, Any]] = {
    "categorical": (pl.Categorical, "a", "b"),
    "enum": (pl.Enum(["a", "b"]), "a", "b"),
    "list": (pl.List(pl.Int8), [1, None], []),
    "array": (pl.Array(pl.Float64, 2), [NAN, 0.0], [1.0, 2.0]),
    "struct": (pl.Struct({"x": pl.Int8, "y": pl.String}), {"x": 1, "y": None}, {"x": None, "y": "1"}),
    "bool": (pl.Boolean, True, False),
    "binary": (pl.Binary, b"", b"0"),
    "decimal": (pl.Decimal(10, 2), Decimal("1.00"), Decimal("1.01")),
    "text": (pl.String, "", " "),
}


@pytest.mark.parametrize("kind", REPEATED)
def test_unique_on_keys_of_every_type(kind: str) -> None:
    dtype, twice, once = REPEATED[kind]
    assert violations(column([twice, once, twice, None, None], dtype), {"unique": "a"}) == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert violations(column([twice, once, None], dtype), {"unique": "a"}) == [False, False, False]


def test_unique_compares_only_the_rows_of_where() -> None:
    frame = pl.DataFrame({"a": [1, 1, 2, 2, 3, 3], "w": [True, False, True, True, None, None]})
    assert violations(frame, {"unique": {"columns": "a", "where": "w"}}) == [False, False, True, True, False, False]


@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 2), st.none() | st.sampled_from("xy"), st.none() | st.booleans()),
        max_size=20,
    )
)
def test_unique_equals_the_oracle(rows: list[tuple[Any, Any, Any]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.String, "w": pl.Boolean}, orient="row")
    keys = [(a, b) if w and a is not None and b is not None else None for a, b, w in rows]
    times = Counter(k for k in keys if k is not None)
    assert violations(frame, {"unique": {"columns": ["a", "b"], "where": "w"}}) == [
        times[k] > 1 if k else False for k in keys
    ]


# wrong use

FRAME = pl.DataFrame(
    schema={
        "n": pl.Int64,
        "f": pl.Float32,
        "s": pl.String,
        "b": pl.Boolean,
        "d": pl.Date,
        "ms": pl.Datetime("ms"),
        "ns": pl.Datetime("ns"),
        "utc": pl.Datetime("us", "UTC"),
        "nyc": pl.Datetime("us", "America/New_York"),
        "dec": pl.Decimal(10, 2),
        "du": pl.Duration("us"),
        "t": pl.Time,
        "l": pl.List(pl.Int64),
        "st": pl.Struct({"x": pl.Int64}),
        "cat": pl.Categorical,
        "bin": pl.Binary,
        "none": pl.Null,
        "o": pl.Object,
    }
)


def misfit(shown: str, name: str, many: bool = False) -> str:
    of_that = "values" if many else "a value"
    return f"{shown} cannot be compared with column {name!r}, which is {dtype_name(FRAME.schema[name])}; write {of_that} of that type"


def bound(name: str, value: Any) -> dict[str, Any]:
    return {"between": {"column": name, "max": value}}


def among(name: str, *values: Any) -> dict[str, Any]:
    return {"in_set": {"column": name, "values": list(values)}}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"not_nul": "n"}, "unknown rule 'not_nul'; did you mean 'not_null'?"),
        ({"not_null": "m"}, "unknown column 'm'; did you mean 'ms'?"),
        (
            {"not_null": {"columns": ["n", "s"], "id": "x"}},
            "one id cannot name the checks of several columns; write one rule per column",
        ),
        ({"unique": ["n", "zz"]}, "unknown column 'zz'; known columns: "),
        (bound("zz", 1), "unknown column 'zz'; known columns: "),
        (among("zz", 1), "unknown column 'zz'; known columns: "),
        ({"between": {"column": "n"}}, "between needs a bound; give min, max or both"),
        ({"between": {"column": "n", "min": NAN}}, "NaN is no bound; write a number"),
        (
            {"between": {"column": "n", "min": 2, "max": 1}},
            "min 2 is greater than max 1; no row could pass; exchange them",
        ),
        (
            {"between": {"column": "d", "min": "2020-01-02", "max": ":day"}},
            "min 2020-01-02 is greater than max :day; no row could pass; exchange them",
        ),
        (bound("b", 1), "column 'b' is Boolean, which has no order; use in_set"),
        (bound("l", 1), "column 'l' is List(Int64), which has no order; use in_set"),
        (bound("cat", "a"), "column 'cat' is Categorical, which has no order; use in_set"),
        (bound("none", 1), "column 'none' is Null, which has no order; use in_set"),
        (bound("n", "abc"), misfit("'abc'", "n")),
        (bound("n", True), misfit("True", "n")),
        (bound("n", 10**40), misfit(str(10**40), "n")),
        (bound("f", "1"), misfit("'1'", "f")),
        (bound("dec", "x"), misfit("'x'", "dec")),
        (bound("dec", INF), misfit("inf", "dec")),
        (bound("dec", 1e50), misfit("1e+50", "dec")),
        (bound("s", 1), misfit("1", "s")),
        (bound("d", "01.02.2020"), misfit("'01.02.2020'", "d")),
        (bound("d", "2020-01-01T12:00"), misfit("'2020-01-01T12:00'", "d")),
        (bound("d", datetime(2020, 1, 1, 12)), misfit("datetime.datetime(2020, 1, 1, 12, 0)", "d")),
        (bound("d", 5), misfit("5", "d")),
        (bound("ms", "noon"), misfit("'noon'", "ms")),
        (bound("ms", "2020-01-01T00:00:00.0005"), misfit("'2020-01-01T00:00:00.0005'", "ms")),
        (bound("ms", "2020-01-01T00:00:00Z"), misfit("'2020-01-01T00:00:00Z'", "ms")),
        (bound("ns", "9999-12-31"), misfit("'9999-12-31'", "ns")),
        (bound("ns", date(9999, 12, 31)), misfit("datetime.date(9999, 12, 31)", "ns")),
        (bound("utc", 5), misfit("5", "utc")),
        (bound("nyc", "2020-03-08T02:30:00"), misfit("'2020-03-08T02:30:00'", "nyc")),
        (bound("du", "soon"), misfit("'soon'", "du")),
        (bound("du", 5), misfit("5", "du")),
        (bound("t", "25:00"), misfit("'25:00'", "t")),
        (bound("t", timedelta(1)), misfit("datetime.timedelta(days=1)", "t")),
        (bound("n", ":dya"), "unknown parameter :dya; did you mean 'day'?"),
        (bound("n", ":day"), misfit("datetime.date(2020, 1, 1)", "n")),
        (bound("n", ":several"), misfit("(1, 2)", "n")),
        (among("n", 1, "a"), misfit("1, 'a'", "n", many=True)),
        (among("n", 1, True), misfit("1, True", "n", many=True)),
        (among("n", 1.5), misfit("1.5", "n")),
        (among("s", True, False), misfit("True, False", "s", many=True)),
        (among("s", 1), misfit("1", "s")),
        (among("s", None), misfit("None", "s")),
        (among("cat", 1), misfit("1", "cat")),
        (among("b", "true"), misfit("'true'", "b")),
        (among("b", 1), misfit("1", "b")),
        (among("bin", 1), misfit("1", "bin")),
        (among("l", 1), misfit("1", "l")),
        (among("st", "x"), misfit("'x'", "st")),
        (among("o", "x"), misfit("'x'", "o")),
        (among("d", timedelta(1)), misfit("datetime.timedelta(days=1)", "d")),
        ({"expression": "n > 's'"}, "String cannot be compared with Int64; "),
        ({"expression": pl.col("n") > pl.col("s")}, "String cannot be compared with Int64; "),
        ({"expression": "n"}, "a condition must be true or false, and this is Int64; compare it with something"),
        ({"expression": "nn > 1"}, "unknown column 'nn'; "),
        ({"not_null": {"columns": "n", "where": "s > 1"}}, "String cannot be compared with Int32; "),
        (
            {"unique": {"columns": "n", "where": "n"}},
            "a condition must be true or false, and this is Int64; compare it with something",
        ),
        (
            {"unique": {"columns": "n", "max_failures": 1, "fail_above": 1}},
            "max_failures and fail_above say the same; give one of them",
        ),
        (
            {"unique": {"columns": "n", "max_failures": "101%"}},
            "101% is more than all rows; write a count of rows, or 0% to 100%",
        ),
        (
            {"unique": {"columns": "n", "warn_above": "some"}},
            "'some' is no limit; write a count of rows, or 0% to 100%",
        ),
        ({"unique": {"columns": "n", "fail_above": 1.5}}, "1.5 is no limit; write a count of rows, or 0% to 100%"),
        ({"unique": {"columns": "n", "fail_above": -1}}, "-1 is no limit; write a count of rows, or 0% to 100%"),
    ],
)
def test_wrong_use_is_a_definition_error(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        lp.check(FRAME, [rule], params={"day": date(2020, 1, 1), "several": (1, 2)})
    (problem,) = caught.value.problems
    place, _, said = str(problem).partition(": ")
    assert place.startswith(f"rules[0].{next(iter(rule))}")
    assert said.startswith(message) if message.endswith((": ", "; ")) else said == message


def test_every_mistake_is_told_with_its_place(tmp_path: Any) -> None:
    pl.DataFrame({"n": [1], "s": ["x"]}).write_parquet(tmp_path / "a.parquet")
    text = """\
version: 1
name: p
sources:
  a:
    uri: a.parquet
    gate:
      - not_null: m
      - between: {column: n, min: 2, max: 1}
      - in_set: {column: s, values: [yes, true]}
      - expression: s > 1
outputs:
  a: {to: out}
"""
    with pytest.raises(DefinitionError) as caught:
        lp.Pipeline.from_yaml(text, base=str(tmp_path)).compile()
    places = [(p.where.line, p.where.column) for p in caught.value.problems if p.where]
    assert places == [(7, 9), (8, 30), (9, 29), (10, 9)]
    assert [p.what for p in caught.value.problems] == [
        "unknown column 'm'",
        "min 2 is greater than max 1",
        "'yes', True cannot be compared with column 's', which is String",
        "String cannot be compared with Int32",
    ]
