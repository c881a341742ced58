"""Groups in order: the same as Polars makes of them in memory, by all types of keys, and no plan that holds all rows."""

from __future__ import annotations

import itertools
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.in_order import Digit, _packed, grouped
from lazypipe.plan.explain import explain

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
