"""aggregate, pivot, rank, over: rows seen together, against DuckDB and loops."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import DefinitionError

ENGINES = st.sampled_from(["in-memory", "streaming"])
ints = st.none() | st.integers(-3, 3)
groups = st.sampled_from([None, "", "a", "é"])
rows = st.lists(st.tuples(groups, ints, ints, st.none() | st.sampled_from([-1.5, 0.0, 2.25])), max_size=8)
SCHEMA = {"g": pl.String, "x": pl.Int64, "y": pl.Int64, "f": pl.Float64, "i": pl.Int64}


DUCK = duckdb.connect()
DUCK.execute("SET threads = 1")


def frame(data: list[Any]) -> pl.LazyFrame:
    return pl.LazyFrame([(*r, i) for i, r in enumerate(data)], schema=SCHEMA, orient="row")


def duck(query: str, data: pl.LazyFrame) -> Counter[Any]:
    DUCK.register("t", data.collect().to_arrow())
    return rounded(DUCK.execute(query).fetchall())


def rounded(found: list[Any]) -> Counter[Any]:
    return Counter(tuple(round(v, 9) if isinstance(v, float) else v for v in row) for row in found)


def refused(step: dict[str, Any], data: pl.LazyFrame) -> str:
    with pytest.raises(DefinitionError) as caught:
        lp.apply(step, data)
    return str(caught.value)


# --- aggregate

AGGREGATES = {
    "rows": "count(*)",
    "known": "count(x)",
    "kinds": "count(distinct x)",
    "total": "sum(x)",
    "double": "sum(f) * 2 + 1",
    "low": "min(x)",
    "high": "max(f)",
    "mean": "avg(x)",
    "spread": "max(x) - min(y)",
    "some": "sum(x) FILTER (WHERE y > 0)",
    "deviation": "stddev(f)",
    "middle": "median(x)",
}


@pytest.mark.parametrize("by", [[], ["g"], ["g", "y"], ["g", "g"]])
@given(rows, ENGINES)
def test_aggregate(by: list[str], data: list[Any], engine: Any) -> None:
    columns = list(dict.fromkeys(by))
    select = ", ".join([*columns, *AGGREGATES.values()])
    query = f"SELECT {select} FROM t" + (f" GROUP BY {', '.join(columns)}" if by else "")
    result = lp.apply({"aggregate": {"by": by, "aggregate": AGGREGATES}}, frame(data)).collect(engine=engine)
    assert result.columns == [*columns, *AGGREGATES]
    assert rounded(result.rows()) == duck(query, frame(data))
    if not by:
        assert result.height == 1


def test_aggregates_that_are_none() -> None:
    for text in ("x", "x + 1", "sum(x) + x", "upper(g)"):
        message = refused({"aggregate": {"by": "g", "aggregate": {"o": text}}}, frame([]))
        assert "aggregate.aggregate.o: 'o' is not an aggregate" in message
        assert "'o' is not an aggregate" in refused({"aggregate": {"aggregate": {"o": text}}}, frame([]))
    assert "'g' is a group column already" in refused(
        {"aggregate": {"by": "g", "aggregate": {"g": "max(x)"}}}, frame([])
    )
    lists = lp.apply({"aggregate": {"by": "g", "aggregate": {"all": "array_agg(x)"}}}, frame([("a", 1, 1, None)] * 2))
    assert lists.collect().rows() == [("a", [1, 1])]


NARROW = pl.LazyFrame(
    {"g": ["a", "a", "b"], "i": [2**31 - 1, 5, 7], "b": [True, True, False]}, schema_overrides={"i": pl.Int32}
)


@pytest.mark.parametrize(
    "step",
    [
        {"aggregate": {"by": "g", "aggregate": {"a": "sum(i)", "b": "sum(b) - 5"}}},
        {"over": {"by": "g", "columns": {"a": "sum(i)", "b": "sum(b) - 5"}}},
        {"sql": {"query": "SELECT g, sum(i) AS a, sum(b) - 5 AS b FROM self GROUP BY g"}},
    ],
)
def test_sums_of_columns_of_few_bits_have_64(step: dict[str, Any]) -> None:
    found = lp.apply(step, NARROW).select("g", "a", "b").unique().collect()
    assert {*found.rows()} == {("a", 2**31 + 4, -3), ("b", 7, -5)}
    assert found.schema == {"g": pl.String, "a": pl.Int64, "b": pl.Int64}


@pytest.mark.parametrize(("values", "sums"), [("i", {2**31 + 4, 7}), ("b", {2, 0})])
def test_sums_of_pivots_have_64_bits(values: str, sums: set[int]) -> None:
    rows = NARROW.select("g", values, k=pl.lit("x"))
    step = {"pivot": {"on": "k", "into": ["x"], "index": "g", "values": values, "aggregate": "sum"}}
    found = lp.apply(step, rows).collect()
    assert {*found["x"]} == sums
    assert found.schema["x"] == pl.Int64


# --- pivot

FOLDS: dict[str, Any] = {
    "sum": lambda v: sum(e for e in v if e is not None),
    "min": lambda v: min((e for e in v if e is not None), default=None),
    "max": lambda v: max((e for e in v if e is not None), default=None),
    "mean": lambda v: sum(k) / len(k) if (k := [e for e in v if e is not None]) else None,
    "len": len,
    "first": lambda v: v[0] if v else None,
    "last": lambda v: v[-1] if v else None,
}


@pytest.mark.parametrize("aggregate", FOLDS)
@given(rows)
def test_pivot(aggregate: str, data: list[Any]) -> None:
    step = {"pivot": {"on": "g", "into": ["é", "a"], "index": "x", "values": "y", "aggregate": aggregate}}
    result = lp.apply(step, frame(data)).collect()
    cells: dict[Any, dict[str, list[Any]]] = {}
    for g, x, y, _ in data:
        cells.setdefault(x, {}).setdefault(g, []).append(y)
    fold = FOLDS[aggregate]
    assert result.columns == ["x", "é", "a"]
    assert rounded(result.rows()) == rounded(
        [(x, fold(c.get("é", [])), fold(c.get("a", []))) for x, c in cells.items()]
    )


@pytest.mark.parametrize(
    ("dtype", "values", "into", "names"),
    [
        (pl.Int8, [1, 2, None], [2], ["2"]),
        (pl.Boolean, [True, False], [True], ["true"]),
        (pl.Float64, [1.0], [1.0], ["1.0"]),
    ],
)
def test_pivot_on_other_types(dtype: Any, values: list[Any], into: list[Any], names: list[str]) -> None:
    data = pl.LazyFrame({"on": pl.Series(values, dtype=dtype), "k": 1, "v": 5})
    step = {"pivot": {"on": "on", "into": into, "index": "k", "values": "v", "aggregate": "sum"}}
    assert lp.apply(step, data).collect().rows(named=True) == [{"k": 1, names[0]: 5}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"into": ["a", "a"]}, "pivot.into[1]: two columns would be called 'a'; list each value once"),
        ({"into": ["x"]}, "pivot.into[0]: two columns would be called 'x'"),
        ({"into": [1]}, "pivot.into: the values do not fit column 'g', which is String"),
        ({"on": "q"}, "unknown column 'q'"),
        ({"values": "q"}, "unknown column 'q'"),
    ],
)
def test_pivots_that_cannot_be(change: dict[str, Any], message: str) -> None:
    step = {"on": "g", "into": ["a"], "index": "x", "values": "y", "aggregate": "sum", **change}
    assert message in refused({"pivot": step}, frame([]))


# --- rank

DIRECTIONS = st.lists(st.tuples(st.sampled_from("gxyf"), st.booleans(), st.booleans()), min_size=1, max_size=4)


@pytest.mark.parametrize("by", [[], ["g"], ["x", "g"]])
@pytest.mark.parametrize(("method", "function"), [("min", "rank"), ("dense", "dense_rank"), ("ordinal", "row_number")])
@given(rows, DIRECTIONS)
def test_rank(method: str, function: str, by: list[str], data: list[Any], order: Any) -> None:
    texts = [f"{c} {'DESC' if d else 'ASC'} NULLS {'LAST' if n else 'FIRST'}" for c, d, n in order]
    if method == "ordinal":
        texts.append("i DESC")  # or ties may be numbered in any order
    partition = f"PARTITION BY {', '.join(by)}" if by else ""
    query = f"SELECT *, {function}() OVER ({partition} ORDER BY {', '.join(texts)}) FROM t"
    step = {"rank": {"as": "r", "order_by": texts, "by": by, "method": method}}
    assert rounded(lp.apply(step, frame(data)).collect().rows()) == duck(query, frame(data))


def test_rank_puts_nan_above_every_number_and_nulls_last() -> None:
    data = pl.LazyFrame({"f": [math.nan, 1.0, None, math.inf]})
    for text, ranks in (("f", [3, 1, 4, 2]), ("f DESC", [1, 3, 4, 2]), ("f NULLS FIRST", [4, 2, 1, 3])):
        assert lp.apply({"rank": {"as": "r", "order_by": text}}, data).collect()["r"].to_list() == ranks


# --- over


@given(rows)
def test_over_aggregates_of_a_partition(data: list[Any]) -> None:
    step = {"over": {"by": ["g"], "columns": {"n": "count(*)", "share": "x - max(x)", "all": "sum(y)"}}}
    window = "OVER (PARTITION BY g)"
    query = f"SELECT *, count(*) {window}, x - max(x) {window}, sum(y) {window} FROM t"
    assert rounded(lp.apply(step, frame(data)).collect().rows()) == duck(query, frame(data))


@pytest.mark.parametrize("by", [[], ["g"]])
@given(rows, st.randoms(), st.booleans(), st.booleans())
def test_over_in_an_order(by: list[str], data: list[Any], random: Any, descending: bool, nulls_last: bool) -> None:
    direction = f"{'DESC' if descending else 'ASC'} NULLS {'LAST' if nulls_last else 'FIRST'}"
    order = [f"x {direction}", f"i {direction}"]
    columns = {
        "before": pl.col("y").shift(1),
        "so_far": pl.col("y").fill_null(0).cum_sum(),
        "start": "first(i)",
        "n": pl.int_range(pl.len()) + 1,
    }
    window = f"OVER ({'PARTITION BY g' if by else ''} ORDER BY {', '.join(order)})"
    query = f"SELECT *, lag(y) {window}, sum(coalesce(y, 0)) {window}, first_value(i) {window}, row_number() {window} FROM t"
    table = frame(data).collect().sample(fraction=1, shuffle=True, seed=random.randint(0, 99)).lazy()
    result = lp.apply({"over": {"by": by, "order_by": order, "columns": columns}}, table).collect()
    assert rounded(result.rows()) == duck(query, frame(data))


@given(rows, st.randoms())
def test_over_with_windows_of_its_own(data: list[Any], random: Any) -> None:
    """As its docstring says: an aggregate is of the whole partition, also in an order, and a window in SQL is not."""
    columns = {
        "all": "sum(y)",
        "so_far": "sum(y) OVER (PARTITION BY g ORDER BY i)",
        "before": "lag(y) OVER (PARTITION BY g ORDER BY i)",
    }
    table = frame(data).collect().sample(fraction=1, shuffle=True, seed=random.randint(0, 99)).lazy()
    result = lp.apply({"over": {"by": "g", "order_by": "i", "columns": columns}}, table).collect()
    window = "OVER (PARTITION BY g ORDER BY i)"
    assert rounded(result.rows()) == duck(
        f"SELECT *, sum(y) OVER (PARTITION BY g), sum(y) {window}, lag(y) {window} FROM t", frame(data)
    )


@given(rows)
def test_windows_in_sql_text(data: list[Any]) -> None:
    """In derive, as the docstring of over says."""
    texts = {
        "before": "lag(y) OVER (PARTITION BY g ORDER BY i)",
        "total": "sum(x) OVER (PARTITION BY g)",
        "place": "row_number() OVER (PARTITION BY g ORDER BY i DESC)",
    }
    result = lp.apply({"derive": texts}, frame(data)).collect()
    assert rounded(result.rows()) == duck(f"SELECT *, {', '.join(texts.values())} FROM t", frame(data))


def test_overs_that_cannot_be() -> None:
    assert "over needs a partition or an order" in refused({"over": {"columns": {"n": "sum(x)"}}}, frame([]))
    mixed = {"over": {"columns": {"n": "sum(x)"}, "order_by": ["x", "y DESC"]}}
    assert "over takes one direction for all columns of order_by" in refused(mixed, frame([]))
    assert "over.columns.n: unknown column 'q'" in refused({"over": {"by": "g", "columns": {"n": "sum(q)"}}}, frame([]))
