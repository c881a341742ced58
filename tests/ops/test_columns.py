"""select, derive, rename, drop, cast, fill, unnest: what becomes of columns while every row stays."""

# values without a zone are what is tested

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from decimal import Decimal
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import ops
from lazypipe.errors import DefinitionError
from lazypipe.spec.model import Step, freeze
from lazypipe.spec.scope import Scope, Table

ENGINES = pytest.mark.parametrize("engine", ["in-memory", "streaming"])
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 123456)
BERLIN = ZoneInfo("Europe/Berlin")
ints = st.none() | st.integers(-3, 3)
texts = st.none() | st.text("aé'\"\n☃", max_size=2)
rows = st.lists(st.tuples(ints, ints, texts), max_size=6)


def frame(data: list[tuple[Any, ...]]) -> pl.LazyFrame:
    return pl.LazyFrame(data, schema={"a": pl.Int64, "b": pl.Int64, "s": pl.String}, orient="row")


def do(step: dict[str, Any], data: pl.LazyFrame, **more: Any) -> pl.DataFrame:
    return lp.apply(step, data, **more).collect()


def column(values: list[Any], dtype: Any = None) -> pl.LazyFrame:
    return pl.LazyFrame({"a": pl.Series(values, dtype=dtype)})


def refused(step: dict[str, Any], data: pl.LazyFrame) -> str:
    with pytest.raises(DefinitionError) as caught:
        lp.apply(step, data)
    return str(caught.value)


# --- select, derive, rename, drop


@given(rows)
def test_select_keeps_and_computes(data: list[tuple[Any, ...]]) -> None:
    assert do({"select": ["s", "a"]}, frame(data)).rows() == [(s, a) for a, _, s in data]
    swapped = do({"select": {"b": "a", "a": "b", "n": "a + b"}}, frame(data))
    assert swapped.columns == ["b", "a", "n"]
    assert swapped.rows() == [(a, b, None if None in (a, b) else a + b) for a, b, _ in data]


@given(rows)
def test_select_keeps_every_row_even_if_it_reads_no_column(data: list[tuple[Any, ...]]) -> None:
    top = max((a for a, _, _ in data if a is not None), default=None)
    assert do({"select": {"one": "1"}}, frame(data)).rows() == [(1,)] * len(data)
    assert do({"select": {"top": "max(a)"}}, frame(data)).rows() == [(top,)] * len(data)


def test_select_of_nothing_or_of_one_column_twice_is_refused() -> None:
    assert "select needs at least one column" in refused({"select": []}, frame([]))
    assert "select[1]: column 'a' is selected twice" in refused({"select": ["a", "a"]}, frame([]))
    assert "select[0]: unknown column 'c'" in refused({"select": ["c"]}, frame([]))


def test_a_python_expression_must_give_one_column() -> None:
    assert "selects no column" in refused({"select": {"x": pl.col("^zz.*$")}}, frame([]))
    assert "derive.x" in refused({"derive": {"x": pl.all()}}, frame([]))


@given(rows)
def test_derive_sees_columns_as_they_were(data: list[tuple[Any, ...]]) -> None:
    result = do({"derive": {"a": "b", "b": "a", "null": "s IS NULL"}}, frame(data))
    assert result.columns == ["a", "b", "s", "null"]
    assert result.rows() == [(b, a, s, s is None) for a, b, s in data]


def test_derive_that_uses_its_own_column_says_what_to_do() -> None:
    assert "is computed in the same derive; move what uses it into a second derive" in refused(
        {"derive": {"x": "a", "y": "x + 1"}}, frame([])
    )


@given(rows)
def test_rename_swaps(data: list[tuple[Any, ...]]) -> None:
    lowered = lp.apply({"rename": {"a": "b", "b": "a"}}, frame(data))
    assert lowered.collect().columns == ["b", "a", "s"]
    assert lowered.collect().rows() == data
    assert lowered.select("a").collect().rows() == [(b,) for _, b, _ in data], "also with projection pushed down"


def test_rename_onto_another_column_is_refused() -> None:
    assert "two columns would be called 's'" in refused({"rename": {"a": "s"}}, frame([]))


@given(rows)
def test_drop(data: list[tuple[Any, ...]]) -> None:
    assert do({"drop": ["a", "s"]}, frame(data)).rows() == [(b,) for _, b, _ in data]


# --- cast


@given(st.lists(st.none() | st.text("0123456789+-. e", max_size=4) | st.integers(-(2**70), 2**70).map(str)))
def test_cast_text_to_integer(values: list[str | None]) -> None:
    def oracle(text: str | None) -> int | None:
        number = int(text) if text is not None and re.fullmatch(r"[+-]?\d+", text) else None
        return number if number is not None and -(2**63) <= number < 2**63 else None

    step = {"cast": {"columns": {"a": "Int64"}, "on_error": "null"}}
    assert do(step, column(values, pl.String))["a"].to_list() == [oracle(v) for v in values]


@ENGINES
@pytest.mark.parametrize(
    ("value", "target"),
    [
        *[("12x", "Int64"), ("1e", "Float64"), ("1,5", "Decimal(5, 2)"), ("maybe", "Boolean"), ("z", "Enum(x, y)")],
        *[("2013-02-30", "Date"), ("2013-01-31T12:00", "Date"), ("-", "Date"), ("25:00", "Time")],
        *[("noon", "Datetime"), ("x", "Datetime(ms)"), ("NoW", "Datetime(us, UTC)"), ("0001-01-01", "Datetime(ns)")],
        ("2013-01-02T03:04:05Z", "Datetime"),
    ],
)
def test_a_strict_cast_fails_with_the_value(value: str, target: str, engine: Any) -> None:
    data = column([None, value], pl.String)
    with pytest.raises(pl.exceptions.PolarsError, match=re.escape(value[:10])):
        lp.apply({"cast": {"a": target}}, data).collect(engine=engine)
    lost = lp.apply({"cast": {"columns": {"a": target}, "on_error": "null"}}, data).collect(engine=engine)
    assert lost["a"].to_list() == [None, None]


def test_cast_tallies_what_it_loses() -> None:
    written = Step("cast", freeze({"columns": {"a": "Date", "b": "Int8"}, "on_error": "null"}))
    data = pl.LazyFrame({"a": ["2013-01-01", "x", None], "b": [1, 1000, None]})
    caught: dict[str, pl.Expr] = {}

    def tally(table: pl.LazyFrame, conditions: Any) -> pl.LazyFrame:
        caught.update(conditions)
        return table

    operation = ops.operation(written)
    result = operation.lower(Table(data, data.collect_schema()), Scope(type(operation), written, tally=tally)).collect()
    assert data.select(e.sum().alias(n) for n, e in caught.items()).collect().row(0, named=True) == {
        "cast:a": 1,
        "cast:b": 1,
    }
    assert result.rows() == [(dt.date(2013, 1, 1), 1), (None, None), (None, None)]


ZONED = dt.datetime(2013, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("text", "target", "value"),
    [
        ("2013-01-31", "Date", dt.date(2013, 1, 31)),
        ("0001-01-01", "Date", dt.date(1, 1, 1)),
        ("12:30", "Time", dt.time(12, 30)),
        ("12:30:05.5", "Time", dt.time(12, 30, 5, 500_000)),
        ("2013-01-31", "Datetime", dt.datetime(2013, 1, 31)),
        ("2013-01-31 12:30", "Datetime(ms)", dt.datetime(2013, 1, 31, 12, 30)),
        ("2013-01-31T12:30:00.123456", "Datetime(ms)", dt.datetime(2013, 1, 31, 12, 30, 0, 123_000)),
        ("2013-01-31T12:30:00.123456", "Datetime(ns)", dt.datetime(2013, 1, 31, 12, 30, 0, 123_456)),
        ("2013-01-02T03:04:05Z", "Datetime(us, UTC)", ZONED),
        ("2013-01-02 04:04:05+01:00", "Datetime(ns, UTC)", ZONED),
        ("2013-01-02T04:04:05+0100", "Datetime(us, Europe/Berlin)", ZONED),
        ("2013-01-02 04:04:05", "Datetime(us, Europe/Berlin)", ZONED),
        ("2013-01-02 04:04:05+01", "Datetime(us, UTC)", ZONED),
        ("tRuE", "Boolean", True),
        ("0", "Boolean", False),
    ],
)
def test_cast_reads_iso_text(text: str, target: str, value: Any, strict: bool) -> None:
    step = {"cast": {"columns": {"a": target}, "on_error": "fail" if strict else "null"}}
    for dtype in (pl.String, pl.Categorical, pl.Enum([text])):
        assert do(step, column([None, text], dtype))["a"].to_list() == [None, value]


def test_cast_reads_all_digits_of_nanoseconds() -> None:
    data = column(["2013-01-31T12:30:00.123456789", "1900-01-01 00:00:00.000000001"])
    assert do({"cast": {"a": "Datetime(ns)"}}, data)["a"].dt.nanosecond().to_list() == [123_456_789, 1]


def test_cast_does_not_guess_local_times_that_do_not_exist_or_exist_twice() -> None:
    texts = ["2013-03-31 02:30:00", "2013-10-27 02:30:00", "2013-10-27 02:30:00+02:00"]
    step = {"columns": {"a": "Datetime(us, Europe/Berlin)"}, "on_error": "null"}
    first = dt.datetime(2013, 10, 27, 2, 30, tzinfo=BERLIN)
    assert do({"cast": step}, column(texts))["a"].to_list() == [None, None, first]


MOMENTS = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))
ROUND_TRIPS: list[tuple[str, Any, Any]] = [
    ("Date", pl.Date(), st.dates()),
    ("Time", pl.Time(), st.times()),
    ("Datetime(us)", pl.Datetime("us"), MOMENTS),
    ("Datetime(us, UTC)", pl.Datetime("us", "UTC"), MOMENTS.map(lambda m: m.replace(tzinfo=dt.UTC))),
    (
        "Datetime(us, Europe/Berlin)",
        pl.Datetime("us", "Europe/Berlin"),
        # the offsets of local mean time have seconds, which text does not show
        MOMENTS.filter(lambda m: m.year > 1900).map(lambda m: m.replace(tzinfo=dt.UTC).astimezone(BERLIN)),
    ),
    ("Datetime(ns)", pl.Datetime("ns"), st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))),
]


@pytest.mark.parametrize(("target", "dtype", "values"), ROUND_TRIPS, ids=lambda v: v if isinstance(v, str) else "")
@given(data=st.data())
def test_cast_goes_to_text_and_back(target: str, dtype: Any, values: Any, data: st.DataObject) -> None:
    found = [None, *data.draw(st.lists(values, max_size=5))]
    source = column(found, dtype)
    text = lp.apply({"cast": {"a": "String"}}, source)
    written = text.collect()["a"].to_list()
    assert [w if w is None else type(v).fromisoformat(w) for v, w in zip(found, written, strict=True)] == found
    assert do({"cast": {"a": target}}, text)["a"].to_list() == found
    iso = column([v if v is None else v.isoformat() for v in found], pl.String)
    assert do({"cast": {"a": target}}, iso)["a"].to_list() == found


def test_durations_go_to_text() -> None:
    data = column([dt.timedelta(hours=-1, microseconds=5), None])
    assert do({"cast": {"a": "String"}}, data)["a"].to_list() == ["-PT59M59.999995S", None]


VALUES: dict[str, tuple[Any, Any]] = {
    "Int8": (1, pl.Int8()),
    "UInt64": (1, pl.UInt64()),
    "Int128": (1, pl.Int128()),
    "Float32": (1.5, pl.Float32()),
    "Float64": (1.5, pl.Float64()),
    "Boolean": (True, pl.Boolean()),
    "String": ("1", pl.String()),
    "Binary": (b"1", pl.Binary()),
    "Date": (NOON.date(), pl.Date()),
    "Datetime(ms)": (NOON, pl.Datetime("ms")),
    "Datetime(us, UTC)": (NOON.replace(tzinfo=dt.UTC), pl.Datetime("us", "UTC")),
    "Time": (NOON.time(), pl.Time()),
    "Duration(us)": (dt.timedelta(1), pl.Duration("us")),
    "Decimal(10, 2)": (Decimal("1.5"), pl.Decimal(10, 2)),
    "Categorical": ("1", pl.Categorical()),
    "Enum(1, 2)": ("1", pl.Enum(["1", "2"])),
    "List(Int64)": ([1], pl.List(pl.Int64())),
    "List(String)": (["1"], pl.List(pl.String())),
    "Struct(a: Int64)": ({"a": 1}, pl.Struct({"a": pl.Int64()})),
}


@pytest.mark.parametrize(("source", "target"), list(product(VALUES, VALUES)), ids=str)
def test_a_cast_that_does_not_exist_is_refused_before_any_data_is_read(source: str, target: str) -> None:
    value, dtype = VALUES[source]
    step = {"cast": {"columns": {"a": target}, "on_error": "null"}}
    data = column([value, None], dtype)
    try:
        lowered = lp.apply(step, data)
    except DefinitionError as error:
        assert str(error).startswith(f"cast.columns.a: column 'a' cannot be cast from {source.partition('(')[0]}")
        return
    # in memory both rows are one batch; elsewhere that is a matter of how many cores there are
    for found in (lowered.collect(engine="in-memory"), lowered.collect(engine="streaming")):
        assert found.schema == {"a": VALUES[target][1]}
        assert found["a"].to_list()[1] is None


@pytest.mark.parametrize(
    ("target", "fields", "first"),
    [
        ("List(Struct(x: Int8))", "x, in, and its type one with x", {"x": 1}),
        ("List(Struct(in: Struct(y: String, z: String), x: Int8))", "x, in, and its type one with in, x", {"in": {"y": "p", "z": None}, "x": 1}),
        ("List(Struct(x: Int8, in: Struct(y: String)))", "y, z, and its type one with y", {"x": 1, "in": {"y": "p"}}),
        ("List(Struct(x: Int8, in: Struct(y: String, z: String), w: Date))", "x, in, and its type one with x, in, w", {"x": 1, "in": {"y": "p", "z": None}, "w": None}),
    ],
)  # fmt: skip
def test_other_fields_are_refused_before_any_data_is_read_and_taken_by_name_where_that_is_said(
    target: str, fields: str, first: dict[str, Any]
) -> None:
    data = pl.DataFrame({"a": [[{"x": 1, "in": {"y": "p", "z": None}}], None, [None]]}, schema_overrides={"a": pl.List(pl.Struct({"x": pl.Int64, "in": pl.Struct({"y": pl.String, "z": pl.String})}))})  # fmt: skip
    with pytest.raises(DefinitionError) as caught:
        lp.apply({"cast": {"a": target}}, data)
    assert str(caught.value) == (
        f"cast.a: column 'a' has a struct with {fields}; "
        'say on_error: "null", which matches fields by name and fills missing ones with null; or derive it'
    )
    out = lp.apply({"cast": {"columns": {"a": target}, "on_error": "null"}}, data).collect()
    assert out["a"].to_list() == [[first], None, [None]]
    same = "List(Struct(x: Int8, in: Struct(y: String, z: String)))"
    assert lp.apply({"cast": {"a": same}}, data).collect()["a"].to_list() == data["a"].to_list()


@pytest.mark.parametrize(
    ("values", "source", "target"),
    [
        ([[1, None]], "List(Int64)", "List(Struct(x: Int64))"),
        ([["1", None]], "List(String)", "List(Struct(x: Int64))"),
        ([[[1, None]]], "List(List(Int64))", "List(List(Struct(x: Int64)))"),
        ([{"b": 1}, {"b": None}], "Struct(b: Int64)", "Struct(b: Struct(x: Int64))"),
    ],
)
@pytest.mark.parametrize("on_error", ["fail", "null"])
def test_no_null_inside_a_value_becomes_a_struct(values: list[Any], source: str, target: str, on_error: str) -> None:
    # Polars makes {'x': None} of it, or says that null cannot be converted
    with pytest.raises(DefinitionError) as caught:
        lp.apply({"cast": {"columns": {"a": target}, "on_error": on_error}}, pl.DataFrame({"a": values}))
    assert str(caught.value) == (
        f"cast.columns.a: column 'a' cannot be cast from {source} to {target}; cast to another type first, or derive it"
    )


@pytest.mark.parametrize(
    ("values", "target"),
    [
        ([[{"x": 1}, None], None, [None]], "List(Struct(x: Int8))"),
        ([[None, None], None, []], "List(Struct(x: Int8))"),
        ([{"b": [{"x": 1}, None]}, {"b": None}, None], "Struct(b: List(Struct(x: Int8)))"),
    ],
)
def test_null_inside_a_value_stays_null(values: list[Any], target: str) -> None:
    found = lp.apply({"cast": {"a": target}}, pl.DataFrame({"a": values})).collect()
    assert found["a"].to_list() == values


@pytest.mark.parametrize(
    ("value", "dtype", "target", "expected"),
    [
        (300, pl.Int64, "Int8", None),
        (float("nan"), pl.Float64, "Int64", None),
        (1.9, pl.Float64, "Int64", 1),
        (12345, pl.Int64, "Decimal(5, 2)", None),
        ("1.25", pl.String, "Decimal(5, 2)", Decimal("1.25")),
        (dt.datetime(1, 1, 1), pl.Datetime("us"), "Datetime(ns)", None),
        (NOON, pl.Datetime("us"), "Date", NOON.date()),
        ("b", pl.String, "Enum(a, b)", "b"),
        ([1, 2], pl.List(pl.Int64), "List(String)", ["1", "2"]),
    ],
)
def test_cast_of_values(value: Any, dtype: Any, target: str, expected: Any) -> None:
    step = {"cast": {"columns": {"a": target}, "on_error": "null"}}
    assert do(step, column([value], dtype))["a"].to_list() == [expected]


# --- fill


@given(rows)
def test_fill_by_a_value(data: list[tuple[Any, ...]]) -> None:
    result = do({"fill": {"columns": ["a", "b"], "value": 9}}, frame(data))
    assert result.rows() == [(9 if a is None else a, 9 if b is None else b, s) for a, b, s in data]


@pytest.mark.parametrize("strategy", ["forward", "backward"])
@pytest.mark.parametrize("by", [[], ["g"]])
@given(st.lists(st.tuples(st.sampled_from(["x", "y", None]), ints), max_size=8), st.randoms())
def test_fill_in_an_order(strategy: str, by: list[str], values: list[tuple[Any, Any]], random: Any) -> None:
    data = [(g, t, v) for t, (g, v) in enumerate(values)]
    random.shuffle(data)
    last: dict[Any, Any] = {}
    expected = Counter()
    for g, t, v in sorted(data, key=lambda r: r[1], reverse=strategy == "backward"):
        last[g if by else 0] = v if v is not None else last.get(g if by else 0)
        expected[(g, t, last[g if by else 0])] += 1
    source = pl.LazyFrame(data, schema={"g": pl.String, "t": pl.Int64, "v": pl.Int64}, orient="row")
    step = {"fill": {"columns": "v", "strategy": strategy, "order_by": "t", "by": by}}
    assert Counter(do(step, source).rows()) == expected
    turned = {"forward": "backward", "backward": "forward"}[strategy]
    step = {"fill": {"columns": "v", "strategy": turned, "order_by": "t DESC", "by": by}}
    assert Counter(do(step, source).rows()) == expected


@pytest.mark.parametrize(
    ("dtype", "value", "filled"),
    [
        (pl.Int8, 5, 5),
        (pl.Float32, 2, 2.0),
        (pl.Float16, 0.5, 0.5),
        (pl.UInt128, 2**100, 2**100),
        (pl.Boolean, False, False),
        (pl.String, "é", "é"),
        (pl.Categorical, "new", "new"),
        (pl.Enum(["a", "b"]), "b", "b"),
        (pl.Decimal(5, 1), 1.5, Decimal("1.5")),
        (pl.Date, "2013-01-31", dt.date(2013, 1, 31)),
        (pl.Time, "12:30", dt.time(12, 30)),
        (pl.Datetime("ms"), "2013-01-31T12:30", dt.datetime(2013, 1, 31, 12, 30)),
        (pl.Datetime("us", "Europe/Berlin"), "2013-01-31T12:30", dt.datetime(2013, 1, 31, 12, 30, tzinfo=BERLIN)),
        (pl.Datetime("us", "Europe/Berlin"), "2013-01-31T11:30Z", dt.datetime(2013, 1, 31, 12, 30, tzinfo=BERLIN)),
        (pl.Duration("us"), dt.timedelta(1), dt.timedelta(1)),
    ],
)
def test_fill_keeps_the_type(dtype: Any, value: Any, filled: Any) -> None:
    result = do({"fill": {"columns": "a", "value": value}}, column([None], dtype))
    assert result["a"].dtype == dtype
    assert result["a"].to_list() == [filled]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        *[(pl.Int8, v) for v in (300, 2**70, 1.5, "1", True)],
        *[(pl.UInt8, -1), (pl.Float64, "1"), (pl.Float64, True), (pl.Boolean, 1), (pl.String, 0), (pl.String, False)],
        *[(pl.Enum(["a"]), "b"), (pl.Decimal(5, 1), 1.55), (pl.Decimal(5, 1), 10**6), (pl.Date, "2013"), (pl.Date, 1)],
        *[
            (pl.Datetime("us"), "2013-01-31T12:30Z"),
            (pl.Datetime("ns"), "0001-01-01"),
            (pl.List(pl.Int64), 1),
            (pl.Null, 1),
        ],
    ],
)
def test_fill_with_a_value_of_another_type_is_refused(dtype: Any, value: Any) -> None:
    message = refused({"fill": {"columns": "a", "value": value}}, column([None], dtype))
    assert message.startswith(f"fill.value: {value!r} does not fit column 'a', which is ")
    assert message.endswith("; write a value of that type")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "fill needs one way to fill; give value or strategy"),
        ({"value": 1, "strategy": "forward"}, "fill needs one way to fill"),
        ({"strategy": "forward"}, "strategy: forward needs an order; add order_by: [column]"),
        ({"value": 1, "by": "b"}, "a value needs no order and no groups; remove order_by and by"),
        ({"strategy": "backward", "order_by": "q"}, "unknown column 'q'"),
    ],
)
def test_fills_that_cannot_be(more: dict[str, Any], message: str) -> None:
    assert message in refused({"fill": {"columns": "a", **more}}, frame([]))


def test_fill_leaves_nan_alone() -> None:
    assert str(do({"fill": {"columns": "a", "value": 0}}, column([float("nan"), None]))["a"].to_list()) == "[nan, 0.0]"


# --- unnest


def test_unnest() -> None:
    data = pl.LazyFrame({"u": [{"p": 1, "q": "é"}, None, {"p": None, "q": ""}], "p2": [1, 2, 3]})
    assert do({"unnest": "u"}, data).rows() == [(1, "é", 1), (None, None, 2), (None, "", 3)]
    named = do({"unnest": {"columns": "u", "separator": "_"}}, data.rename({"p2": "p"}))
    assert named.columns == ["u_p", "u_q", "p"]


def test_unnest_refuses_names_that_are_taken_and_columns_that_are_no_structs() -> None:
    data = pl.LazyFrame({"u": [{"p": 1}], "p": [2], "w": [{"p": 1}]})
    assert "unnest: two columns would be called 'p'; give a separator" in refused({"unnest": "u"}, data)
    assert "two columns would be called 'p'" in refused({"unnest": ["u", "w"]}, data.drop("p"))
    assert "column 'p' is Int64, not a struct" in refused({"unnest": "p"}, data)
