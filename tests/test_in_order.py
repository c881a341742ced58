"""Groups in order: the same as Polars makes of them in memory, by all types of keys, and no plan that holds all rows."""

from __future__ import annotations

import itertools
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from threading import Lock
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.in_order import NEAR, Digit, _packed, grouped, lying
from lazypipe.plan.explain import explain
from lazypipe.plan.reader import read_plan
from lazypipe.plan.steps import plan_lineage
from lazypipe.spec.taps import label

NAN, INF = float("nan"), float("inf")
KEYS: dict[str, tuple[pl.DataType, list[Any]]] = {
    "text": (pl.String(), ["", "a", "ab", "é", "a longer text than twelve bytes", None]),
    "text2": (pl.String(), ["a", "b", None]),
    "binary": (pl.Binary(), [b"", b"\0", b"a", None]),
    "bool": (pl.Boolean(), [True, False, None]),
    "int8": (pl.Int8(), [-128, 127, 0, None]),
    "int64": (pl.Int64(), [-(2**63), 2**63 - 1, 0, None]),
    "uint64": (pl.UInt64(), [0, 2**64 - 1, None]),
    "int128": (pl.Int128(), [-(2**127), 2**127 - 1, None]),
    "float": (pl.Float64(), [0.0, -0.0, NAN, INF, -1e300, 5e-324, None]),
    "float32": (pl.Float32(), [0.0, -0.0, NAN, 1.5, None]),
    "decimal": (pl.Decimal(4, 2), [Decimal("1.50"), Decimal("-99.99"), None]),
    "date": (pl.Date(), [date(1, 1, 1), date(9999, 12, 31), None]),
    "datetime": (pl.Datetime("us", "UTC"), [datetime(1, 1, 1), datetime(2262, 5, 1), None]),
    "duration": (pl.Duration("ms"), [timedelta(-1), timedelta(0), None]),
    "time": (pl.Time(), [time(0), time(23, 59, 59, 999_999), None]),
    "enum": (pl.Enum(["y", "x"]), ["x", "y", None]),
    "categorical": (pl.Categorical(), ["x", "y", None]),
    "null": (pl.Null(), [None]),
    "list": (pl.List(pl.Int8()), [[1], [1, 2], [], None]),
    "struct": (pl.Struct({"a": pl.Int8()}), [{"a": 1}, {"a": None}, None]),
}
EXPRS = [pl.col("x").median().alias("m"), pl.col("x").sum().alias("s"), pl.len().alias("n")]


def rows(*names: str, at_most: int = 600) -> pl.LazyFrame:
    """Return each combination of the keys' values several times, in no order."""
    cells = list(itertools.islice(itertools.cycle(itertools.product(*(KEYS[n][1] for n in names))), at_most))
    frame = pl.DataFrame({n: pl.Series([c[i] for c in cells], dtype=KEYS[n][0]) for i, n in enumerate(names)})
    mixed = frame.with_columns(x=pl.int_range(pl.len()) * 7919 % 1009).sample(fraction=1, shuffle=True, seed=3)
    # in two parts, or Polars would know what order few rows are in
    return pl.concat([mixed.head(250).lazy(), mixed.slice(250).lazy()])


def told(frame: pl.DataFrame, names: tuple[str, ...]) -> dict[Any, Any]:
    """Return what is made of each group; zeros have no sign here."""
    found = {
        tuple(repr(0.0 if k == 0 else k) for k in r[:-3]): r[-3:]
        for r in frame.select(*names, "m", "s", "n").iter_rows()
    }
    assert len(found) == frame.height
    return found


SOME = [
    *((name,) for name in KEYS),
    ("text", "int64"), ("text", "float"), ("int64", "datetime"), ("int64", "uint64", "float"), ("text", "text2", "date", "bool"),
    ("int128", "decimal"), ("text", "text2", "binary", "int64"), ("binary", "text", "text2", "int64", "uint64"), ("enum", "categorical", "time"),
    ("duration", "float32", "int8"), ("null", "text"), ("list", "text"), ("struct", "int8"),
]  # fmt: skip


@pytest.mark.parametrize("names", SOME, ids="-".join)
def test_groups_are_those_that_polars_makes_in_memory(names: tuple[str, ...]) -> None:
    frame = rows(*names)
    lowered = grouped(frame, frame.collect_schema(), names, EXPRS)
    assert "in-memory engine" not in explain(lowered, "physical")
    found = lowered.collect(engine="streaming")
    assert found.schema == {
        **{n: KEYS[n][0] for n in names},
        "m": pl.Float64(),
        "s": pl.Int64(),
        "n": pl.get_index_type(),
    }
    assert told(found, names) == told(frame.group_by(names).agg(EXPRS).collect(engine="in-memory"), names)


def test_texts_have_one_number_from_run_to_run_and_in_runs_side_by_side() -> None:
    frame = pl.LazyFrame({"k": [f"user {n % 5_000}" for n in range(40_000)], "g": [n % 3 for n in range(40_000)]})
    frame = pl.concat([frame, frame]).with_columns(x=pl.lit(1))
    queries = [grouped(frame, frame.collect_schema(), ["k", "g"], EXPRS) for _ in range(3)]
    for found in (*pl.collect_all(queries, engine="streaming"), queries[0].collect(engine="streaming")):
        assert (found.height, found["n"].unique().sort().to_list(), found["n"].sum()) == (15_000, [4, 6], 80_000)


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 1 << 33)), min_size=1, max_size=4),
    st.data(),
)
def test_digits_that_fit_tell_all_values_apart(spans: list[tuple[int, int]], data: st.DataObject) -> None:
    size = 1
    for _, count in spans:
        size *= count + 1
    bits = 64 if size <= 1 << 64 else 128
    digits = [Digit(pl.col(f"{i}"), least, count) for i, (least, count) in enumerate(spans)]
    if size > 1 << 128:
        return
    value = [st.one_of(st.none(), st.integers(least, least + count - 1)) for least, count in spans]
    drawn = data.draw(st.lists(st.tuples(*value), min_size=2, max_size=20, unique=True))
    ends = [
        tuple(least + count - 1 for least, count in spans),
        tuple(least for least, _ in spans),
        (None,) * len(spans),
    ]
    values = list(dict.fromkeys([*drawn, *ends]))
    frame = pl.DataFrame(values, schema={f"{i}": pl.Int64() for i in range(len(spans))}, orient="row")
    assert frame.select(_packed(digits, bits)).to_series().n_unique() == len(values)


# --- near each other

PLACES = {
    "int8": pl.Int8(), "int64": pl.Int64(), "uint64": pl.UInt64(), "date": pl.Date(), "us": pl.Datetime("us"), "ns": pl.Datetime("ns", "UTC"),
    "duration": pl.Duration("ms"), "time": pl.Time(),
}  # fmt: skip
GROUPS = {
    "text": [pl.String()], "int64": [pl.Int64()], "both": [pl.String(), pl.Int64()], "five": [pl.String()] * 4 + [pl.Boolean()], "enum": [pl.Enum(["0", "1", "2"])],
    "float": [pl.Float64()], "floats": [pl.Float32(), pl.Float64(), pl.String()], "decimal": [pl.Decimal(38, 2)], "category": [pl.Categorical()],
}  # fmt: skip
TOLERANCES = {"date": "36h", "us": "1500ns", "ns": "2ns", "duration": "1500us", "time": "1ns"}


def sided(place: pl.DataType, by: list[pl.DataType], name: str, rows: int, seed: int) -> pl.DataFrame:
    """Return rows of one side, with nulls among their places and groups."""
    drawn = (pl.int_range(rows).hash(seed) // 2).cast(pl.Int64)
    places = pl.when(drawn % 9 > 0).then(drawn % 13 if place != pl.Int8 else drawn % 13 - 6)
    columns = {
        f"k{i}": pl.when(drawn.hash(i) % 11 > 0)
        .then(drawn.hash(i) % 2 if dtype == pl.Boolean else drawn.hash(i) % 3)
        .cast(pl.Int8)
        for i, dtype in enumerate(by)
    }
    casts = {f"k{i}": dtype for i, dtype in enumerate(by)}
    frame = pl.select(t=places.cast(pl.Int64), **columns, **{name: pl.int_range(rows)})
    texts = [n for n, t in casts.items() if isinstance(t, pl.Enum | pl.Categorical)]
    made = (
        frame.cast({"t": pl.Int32 if place == pl.Date else pl.Int64})
        .cast({"t": place, **{n: pl.String() for n in texts}})  # type: ignore[arg-type]
        .cast(casts)  # type: ignore[arg-type]
    )
    # zeros of two signs are equal, and what is not a number is equal to the like of it
    return made.with_columns(
        pl.when(pl.col(n) == 0).then(-0.0 if seed == 1 else 0.0).when(pl.col(n) == 2).then(float("nan"))
        .otherwise(pl.col(n)).cast(t).alias(n)
        for n, t in casts.items()
        if t.is_float()
    )  # fmt: skip


def both(
    step: dict[str, Any], left: pl.DataFrame, there: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what an as-of join finds, which streams, and what it would find in memory."""
    streamed = lp.apply(step, pl.concat([left.lazy()] * 2), r=pl.concat([there.lazy(), there.lazy().clear()]))
    assert "in-memory engine" not in explain(streamed, "physical")
    with monkeypatch.context() as patch:
        patch.setattr("lazypipe.ops.asof_join.lying", lambda *_, **__: None)
        plain = lp.apply(step, pl.concat([left, left]).lazy(), r=there.lazy()).collect(engine="in-memory")
    return streamed.collect(engine="streaming"), plain


@pytest.mark.parametrize("strategy", ["backward", "forward", "nearest"])
@pytest.mark.parametrize(
    ("place", "groups"), [*((p, "text") for p in PLACES), *(("us", g) for g in GROUPS if g != "text")]
)
def test_rows_near_each_other_are_those_that_polars_finds_in_memory(
    place: str, groups: str, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by = [f"k{i}" for i in range(len(GROUPS[groups]))]
    left, right = sided(PLACES[place], GROUPS[groups], "i", 60, 1), sided(PLACES[place], GROUPS[groups], "j", 45, 2)
    right = right.unique(["t", *by], keep="first", maintain_order=True)  # of equals any may be taken
    renamed = right.rename({"t": "u", **{n: f"other_{n}" for n in by}})
    others = {"left_by": by, "right_by": [f"other_{n}" for n in by]}
    for tolerance in (None, TOLERANCES.get(place, 1.5)):
        for there, how in ((right, {"on": "t", "by": by}), (renamed, {"left_on": "t", "right_on": "u", **others})):
            step = {"asof_join": {"with": "r", "strategy": strategy, "tolerance": tolerance, **how}}
            step = {"asof_join": {k: v for k, v in step["asof_join"].items() if v is not None}}
            found, plain = both(step, left, there, monkeypatch)
            assert found["t"].equals(found["t"].sort(nulls_last=True))
            assert found.sort("t", "i", nulls_last=True).equals(plain.sort("t", "i", nulls_last=True))


@pytest.mark.parametrize("strategy", ["backward", "forward"])
@pytest.mark.parametrize("dtype", [pl.Float64(), pl.Float32()])
def test_fractions_lie_in_their_order(dtype: pl.DataType, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inf, nan, least = float("inf"), float("nan"), 5e-324 if dtype == pl.Float64 else 1e-45
    most = 1.7e308 if dtype == pl.Float64 else 3.4e38
    values = [-inf, -most, -2.5, -1.0, -least, -0.0, 0.0, least, 0.5, 1.0, 2.5, most, inf, nan, None]
    left = pl.DataFrame({"t": values, "k": ["a"] * 15, "i": range(15)}, schema_overrides={"t": dtype})
    left = pl.concat([left, left.with_columns(k=pl.lit("b")), left.with_columns(k=pl.lit(None, dtype=pl.String))])
    right = left.select("t", "k", y="i").filter((pl.col("y") % 3 == 0) | (pl.col("k") == "b") & (pl.col("y") % 4 == 1))
    for there, how in ((right, {"on": "t"}), (right.rename({"t": "u"}), {"left_on": "t", "right_on": "u"})):
        for more in ({}, {"columns": ["y"]}, {"columns": {"y": "z"}}):
            step = {"asof_join": {"with": "r", "by": "k", "strategy": strategy, **how, **more}}
            found, plain = both(step, left, there, monkeypatch)
            assert found.columns == plain.columns
            assert found["t"].fill_nan(None).equals(found["t"].fill_nan(None).sort(nulls_last=True))
            assert found.sort("i", "k").equals(plain.sort("i", "k"))
            assert found["y" if "y" in found.columns else "z"].count() > 40


def test_places_at_both_ends_of_their_type_are_no_nearer_to_other_groups() -> None:
    ends = [-(2**63), 2**63 - 1]
    left = pl.LazyFrame({"t": ends * 2, "k": ["a", "a", "b", None]})
    right = pl.LazyFrame({"t": [ends[0], ends[1], 0], "k": ["a", "b", None], "y": [1, 2, 3]})
    found = {
        s: lp.apply({"asof_join": {"with": "r", "on": "t", "by": "k", "strategy": s}}, left, r=right)
        for s in ("backward", "forward", "nearest")
    }
    rows = {s: {r[:2]: r[2] for r in f.collect().iter_rows()} for s, f in found.items()}
    low, high = ends
    assert rows["backward"] == {(low, "a"): 1, (high, "a"): 1, (low, "b"): None, (high, None): None}
    assert rows["forward"] == {(low, "a"): 1, (high, "a"): None, (low, "b"): 2, (high, None): None}
    assert rows["nearest"] == {(low, "a"): 1, (high, "a"): 1, (low, "b"): 2, (high, None): None}


@pytest.mark.parametrize("taken", [["x", "y"], ["y"], ["t", "k", "g", "x", "y"]])
@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize(
    "types",
    [
        {"t": pl.Datetime("us"), "k": pl.String(), "g": pl.Int64()},
        {"t": pl.Date(), "k": pl.Float64(), "g": pl.Boolean()},
        {"t": pl.Float64(), "k": pl.Categorical(), "g": pl.Decimal(10, 2)},
    ],
)
def test_lineage_is_that_of_the_plain_join(
    taken: list[str], types: dict[str, pl.DataType], optimized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (label(pl.LazyFrame(schema={**types, n: pl.Int64()}), n) for n in ("x", "y"))

    def lineage() -> object:
        joined = lp.apply({"asof_join": {"with": "r", "on": "t", "by": ["k", "g"]}}, one, r=other).select(taken)
        return plan_lineage(read_plan(joined, optimized=optimized))

    here = lineage()
    monkeypatch.setattr("lazypipe.ops.asof_join.lying", lambda *_, **__: None)
    assert here == lineage()


# --- steps

STEPS = {
    "aggregate": {"by": ["k", "g"]},
    "aggregate by one": {"by": "k"},
    "window": {"time": "t", "every": "1h"},
    "window by text": {"time": "t", "every": "1h", "by": "k"},
    "window by number": {"time": "t", "every": "15m", "by": "g"},
    "window by both": {"time": "t", "every": "1d", "by": ["k", "g"]},
    "window that overlaps": {"time": "t", "every": "1h", "period": "3h", "by": "k"},
    "window of days": {"time": "b", "every": "1d", "by": ["g", "k"]},
    "window of days that overlap": {"time": "b", "every": "1d", "period": "2d", "by": "k"},
    "window of months": {"time": "b", "every": "1mo", "by": "g"},
    "window of several kinds": {"time": "t", "every": ["1h", "1d", "all"], "by": "k"},
    "window over all time": {"time": "t", "every": "all"},
    "session": {"time": "t", "gap": "20m"},
    "session by": {"time": "t", "gap": "20m", "by": ["k", "g"]},
    "session that is cut": {"time": "t", "gap": "20m", "max_length": "1h", "by": "k"},
}
AGGREGATES = [
    "count(*)", "count(x)", "count(distinct x)", "sum(x)", "sum(distinct x)", "avg(x)", "min(x)", "max(k)", "first(x)", "last(x)", "median(x)",
    "quantile_cont(x, 0.9)", "quantile_disc(x, 0.1)", "stddev(x)", "variance(x)", "corr(x, f)", "covar_pop(x, f)", "covar_samp(x, f)", "array_agg(x)",
    "array_agg(x ORDER BY f)", "array_agg(DISTINCT x)", "string_agg(k, ',')", "sum(x - avg(x))", "sum(x) FILTER (WHERE x > 5)", "median(x) FILTER (WHERE x > 5)",
    "max(x) - median(f)",
]  # fmt: skip
SAME = {"med": "median(x)", "q": "quantile_disc(f, 0.3)", "n": "count(*)", "all": "array_agg(x ORDER BY x)"}


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    """Rows of a file, of which Polars knows no order."""
    path = tmp_path_factory.mktemp("readings") / "r.parquet"
    n = pl.int_range(500) * 7919 % 1009
    frame = pl.select(
        t=(n * 97 % 4_000 * 60_000_000).cast(pl.Datetime("us")),
        k=pl.when(n % 7 > 0).then(pl.format("c{}", n % 5)),
        g=pl.when(n % 11 > 0).then(n % 3),
        x=n % 17,
        f=(n % 23) / 7,
    )
    frame.with_columns(b=pl.col("t").dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")).write_parquet(
        path
    )
    return pl.scan_parquet(path)


def lowered(name: str, aggregate: dict[str, str], frame: pl.LazyFrame) -> pl.LazyFrame:
    return lp.apply({name.split(maxsplit=1)[0]: {**STEPS[name], "aggregate": aggregate}}, frame)


@pytest.mark.parametrize("name", STEPS)
def test_no_aggregate_falls_back_to_the_engine_in_memory(name: str, readings: pl.LazyFrame) -> None:
    assert "[in-memory engine]" in explain(readings.group_by("k", "g").agg(pl.col("x").median()), "physical")
    for text in AGGREGATES if name in ("aggregate", "window by text") else ("count(*)", "median(x)", "array_agg(x)"):
        assert "in-memory engine" not in explain(lowered(name, {"a": text}, readings), "physical"), text


@pytest.mark.parametrize("name", STEPS)
def test_steps_give_what_they_give_in_memory(
    name: str, readings: pl.LazyFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = lowered(name, SAME, readings).collect(engine="streaming")
    monkeypatch.setattr("lazypipe.in_order._streams", lambda *_: True)
    plain = lowered(name, SAME, readings)
    assert "in-memory engine" in explain(plain, "physical")
    keys = [c for c in found.columns if c not in SAME]
    assert found.height > 1 or name == "window over all time"
    assert found.sort(keys).equals(plain.collect(engine="in-memory").sort(keys))


def test_keys_pass_through_and_filters_go_below(readings: pl.LazyFrame) -> None:
    made = lowered("aggregate", {"m": "median(x)"}, readings).filter(pl.col("k") == "c1").collect_schema()
    assert made.names() == ["k", "g", "m"]
    text = lowered("aggregate", {"m": "median(x)"}, readings).filter(pl.col("k") == "c1").explain()
    assert 'SELECTION: col("k") == "c1"' in text


@pytest.mark.parametrize(
    ("by", "place"),
    [
        ({"k": pl.Binary()}, pl.Int64()),
        ({"k": pl.String()}, pl.Int128()),
        ({"k": pl.Float16()}, pl.Int64()),
        ({"k": pl.String()}, pl.Decimal(10, 2)),
    ],
)
def test_what_lies_on_no_line_is_joined_in_memory(by: dict[str, pl.DataType], place: pl.DataType) -> None:
    schema = {**by, "t": place}
    assert lying(list(by), "t", schema) is None
    rows = pl.concat([pl.LazyFrame(schema=schema)] * 2)
    step = {"asof_join": {"with": "r", "on": "t", "by": list(by)}}
    assert "in-memory-join" in explain(lp.apply(step, rows, r=rows), "physical")


@pytest.mark.parametrize("more", [{"strategy": "nearest"}, {"tolerance": 0.5}])
def test_how_far_fractions_lie_from_each_other_no_line_says(more: dict[str, Any]) -> None:
    rows = pl.concat([pl.LazyFrame(schema={"t": pl.Float64(), "k": pl.String()})] * 2)
    step = {"asof_join": {"with": "r", "on": "t", "by": "k", **more}}
    assert "in-memory-join" in explain(lp.apply(step, rows, r=rows), "physical")


def test_types_that_differ_are_left_to_polars() -> None:
    left, right = (pl.LazyFrame(schema={"t": pl.Int64(), "k": t}) for t in (pl.Enum(["a"]), pl.Enum(["b", "a"])))
    assert lying(["k"], "t", {"t": pl.Int64(), "k": pl.Enum(["a"])}) is not None
    joined = lp.apply({"asof_join": {"with": "r", "on": "t", "by": "k"}}, left, r=right)
    assert NEAR not in joined.explain(optimized=False)


def test_functions_that_cannot_be_written_down_are_asked_for_anew() -> None:
    lock = Lock()

    def same(values: pl.Series) -> pl.Series:
        with lock:
            return values

    made = pl.col("x").map_batches(same, return_dtype=pl.Int64()).median()
    frame = rows("int8")
    found = grouped(
        frame, frame.collect_schema(), ["int8"], [made.alias("m"), pl.col("x").sum().alias("s"), pl.len().alias("n")]
    )
    plain = frame.group_by("int8").agg(EXPRS).collect(engine="in-memory")
    assert told(found.collect(engine="in-memory"), ("int8",)) == told(plain, ("int8",))


@pytest.mark.parametrize("name", ["aggregate", "window by text"])
@pytest.mark.parametrize("optimized", [False, True])
def test_lineage_is_that_of_the_plain_groups(
    name: str, optimized: bool, readings: pl.LazyFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = label(readings, "r")
    here = plan_lineage(read_plan(lowered(name, SAME, frame), optimized=optimized))
    monkeypatch.setattr("lazypipe.in_order._streams", lambda *_: True)
    assert here == plan_lineage(read_plan(lowered(name, SAME, frame), optimized=optimized))
