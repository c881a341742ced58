"""filter, sort, limit, distinct, explode, unpivot, sample: which rows there are, and in which order."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import DefinitionError

ENGINES = st.sampled_from(["in-memory", "streaming"])
NAN = float("nan")
ints = st.none() | st.integers(-2, 2)
floats = st.sampled_from([None, NAN, -1.5, 0.0, 2.5, math.inf])
texts = st.sampled_from([None, "", "a", "é", "☃"])
table = st.lists(st.tuples(ints, floats, texts), max_size=8).map(lambda rows: [(*r, i) for i, r in enumerate(rows)])
SCHEMA = {"a": pl.Int64, "f": pl.Float64, "s": pl.String, "i": pl.Int64}


def frame(rows: list[Any]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema=SCHEMA, orient="row")


def bag(rows: Any) -> Counter[str]:
    return Counter(map(repr, rows))


def refused(step: dict[str, Any], data: pl.LazyFrame) -> str:
    with pytest.raises(DefinitionError) as caught:
        lp.apply(step, data)
    return str(caught.value)


def order(rows: list[Any], *by: tuple[int, bool, bool]) -> list[Any]:
    """Sort stably by (column, descending, nulls last); NaN is the greatest number."""
    for column, descending, nulls_last in reversed(by):

        def place(row: Any, c: int = column) -> Any:
            return (row[c] != row[c], 0 if row[c] != row[c] else row[c])

        nulls = [r for r in rows if r[column] is None]
        rows = sorted((r for r in rows if r[column] is not None), key=place, reverse=False)
        if descending:  # stable: equal rows keep their order
            rows.reverse()
            rows = sorted(rows, key=place)[::-1]
        rows = rows + nulls if nulls_last else nulls + rows
    return rows


# --- filter


@given(table, ENGINES)
def test_filter_keeps_what_is_true_and_drops_what_is_null(rows: list[Any], engine: Any) -> None:
    step = {"filter": "a > 0 OR s = 'é'"}
    kept = [r for r in rows if (r[0] is not None and r[0] > 0) or r[2] == "é"]
    assert bag(lp.apply(step, frame(rows)).collect(engine=engine).rows()) == bag(kept)
    against = lp.apply({"filter": "NOT (a > 0)"}, frame(rows)).collect()
    assert bag(against.rows()) == bag(r for r in rows if r[0] is not None and r[0] <= 0)


def test_filter_by_null_alone_keeps_nothing() -> None:
    assert lp.apply({"filter": "NULL"}, frame([(1, 1.0, "a", 0)])).collect().height == 0


def test_filter_needs_a_condition() -> None:
    assert "filter: a condition must be true or false, and this is Int64" in refused({"filter": "a"}, frame([]))


@pytest.mark.parametrize(
    "condition", ["count(*) > 1", "max(s) = 'x' AND min(a) < 3", "sum(a) > 0 OR true", "count(a) IS NULL"]
)
def test_filter_by_one_value_of_all_rows_is_refused(condition: str) -> None:
    said = (
        "filter: the condition has one value for all rows, so it would keep all of them or none; filter groups after aggregate, by its columns; or compare within each row's group:"
        " count(*) OVER (PARTITION BY …) > 1"
    )
    assert said in refused({"filter": condition}, frame([]))


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("a > avg(a)", [3]),
        ("count(*) OVER (PARTITION BY s) > 1", [1, 2]),
        ("true", [1, 2, 3]),
        ("1 = 2", []),
        ("count(*) > 2 AND a < 3", [1, 2]),
    ],
)
def test_filter_by_a_row_and_all_others(condition: str, kept: list[int]) -> None:
    rows = frame([(1, 1.0, "x", 0), (2, 1.0, "x", 1), (3, 1.0, "y", 2)])
    assert lp.apply({"filter": condition}, rows).sort("a").collect()["a"].to_list() == kept


# --- sort, limit


@given(
    table, st.lists(st.tuples(st.sampled_from("afs"), st.booleans(), st.booleans()), min_size=1, max_size=3), ENGINES
)
def test_sort_is_stable(rows: list[Any], by: list[tuple[str, bool, bool]], engine: Any) -> None:
    by = list({c: (c, d, n) for c, d, n in by}.values())
    texts = [f"{c}{' desc' if d else ' ASC'}{' NULLS LAST' if n else '  nulls FIRST'}" for c, d, n in by]
    result = lp.apply({"sort": texts}, frame(rows)).collect(engine=engine)
    expected = order(rows, *(("afsi".index(c), d, n) for c, d, n in by))
    assert list(map(repr, result.rows())) == list(map(repr, expected))


def test_sort_of_many_rows_is_stable() -> None:
    many = range(200_000)
    data = pl.LazyFrame({"k": [i * 7919 % 10 for i in many], "s": [str(i % 3) for i in many], "i": many})
    result = lp.apply({"sort": ["k DESC", "s DESC"]}, data).collect(engine="streaming")
    assert result["k"].is_sorted(descending=True)
    assert all(part["i"].is_sorted() for part in result.partition_by("k", "s"))


def test_sort_puts_nulls_last_unless_told() -> None:
    data = pl.LazyFrame({"a": [None, 1, 2], "b desc": [3, 1, 2]})
    assert lp.apply({"sort": "a DESC"}, data).collect()["a"].to_list() == [2, 1, None]
    assert lp.apply({"sort": "b desc"}, data).collect()["b desc"].to_list() == [1, 2, 3], "a column of that name"
    assert lp.apply({"sort": '"b desc" desc'}, data).collect()["b desc"].to_list() == [3, 2, 1]
    assert "sort[0]: unknown column 'c'" in refused({"sort": "c DESC"}, data)


@pytest.mark.parametrize("name", [" v", "v ", " v\n", '"v"', "v desc", "nulls first", ' "', "v"])
@pytest.mark.parametrize("more", ["", " DESC", "  desc nulls  last ", " asc NULLS FIRST"])
def test_sort_by_columns_as_headers_name_them(name: str, more: str) -> None:
    data = pl.LazyFrame({name: [2, None, 1], "id": [0, 1, 2]})
    rest = [2, 0] if "des" not in more.lower() else [0, 2]
    expected = [1, *rest] if "FIRST" in more else [*rest, 1]
    assert lp.apply({"sort": f"{name}{more}"}, data).collect()["id"].to_list() == expected


@given(table, st.integers(0, 10), st.integers(0, 10))
def test_limit(rows: list[Any], count: int, offset: int) -> None:
    result = lp.apply({"limit": {"rows": count, "offset": offset}}, frame(rows)).collect()
    assert result["i"].to_list() == list(range(len(rows)))[offset : offset + count]


# --- distinct


@pytest.mark.parametrize("keep", ["first", "last", "any", "none"])
@given(table, st.randoms(), st.booleans(), st.booleans(), ENGINES)
def test_distinct(keep: str, rows: list[Any], random: Any, descending: bool, nulls_last: bool, engine: Any) -> None:
    random.shuffle(rows)
    step: dict[str, Any] = {"columns": ["s", "f"], "keep": keep}
    if keep in ("first", "last"):
        texts = f"a{' DESC' if descending else ''} NULLS {'LAST' if nulls_last else 'FIRST'}"
        step["order_by"] = [texts, "i DESC" if not descending else "i"]
    result = lp.apply({"distinct": step}, frame(rows)).collect(engine=engine).rows()
    groups: dict[str, list[Any]] = {}
    for row in order(rows, (0, descending, nulls_last), (3, not descending, True)):
        groups.setdefault(repr((row[2], row[1])), []).append(row)
    if keep == "any":
        assert bag(repr((r[2], r[1])) for r in result) == bag(groups)
        assert bag(result) <= bag(rows)
    else:
        single = [g for g in groups.values() if keep != "none" or len(g) == 1]
        assert bag(result) == bag(g[-1 if keep == "last" else 0] for g in single)


@given(table)
def test_distinct_rows(rows: list[Any]) -> None:
    data = frame(rows).drop("i")
    assert bag(lp.apply({"distinct": {}}, data).collect().rows()) == bag({repr(r[:3]): r[:3] for r in rows}.values())


def test_distincts_that_mean_nothing() -> None:
    assert "keep: first needs an order; add order_by: [column]" in refused({"distinct": {"keep": "first"}}, frame([]))
    assert "order_by has no effect here" in refused({"distinct": {"columns": "a", "order_by": "i"}}, frame([]))
    assert "unknown column 'z'" in refused({"distinct": "z"}, frame([]))


# --- explode, unpivot

lists = st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3)


@given(st.lists(lists, max_size=5), ENGINES)
def test_explode_keeps_rows_without_elements(values: list[Any], engine: Any) -> None:
    data = pl.LazyFrame(
        {"i": range(len(values)), "a": values, "b": values}, schema_overrides=dict.fromkeys("ab", pl.List(pl.Int64))
    )
    expected = bag((i, e) for i, v in enumerate(values) for e in (v or [None]))
    assert bag(lp.apply({"explode": "a"}, data.drop("b")).collect(engine=engine).rows()) == expected
    both = lp.apply({"explode": ["a", "b"]}, data).collect(engine=engine)
    assert bag(r[:2] for r in both.rows()) == expected
    assert all(a == b for _, a, b in both.rows())


def test_explode_of_fixed_size_lists_and_of_what_is_none() -> None:
    data = pl.LazyFrame({"a": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2)), "i": [1, 2]})
    assert lp.apply({"explode": "a"}, data).collect().rows() == [(1, 1), (2, 1), (None, 2)]
    assert "column 'i' is Int64, not a list" in refused({"explode": "i"}, data)
    uneven = lp.apply({"explode": ["a", "b"]}, pl.LazyFrame({"a": [[1]], "b": [[1, 2]]}))
    with pytest.raises(pl.exceptions.ShapeError, match="matching element counts"):
        uneven.collect()


@given(st.lists(st.tuples(texts, ints, ints), max_size=6), ENGINES)
def test_unpivot(rows: list[Any], engine: Any) -> None:
    data = pl.LazyFrame(rows, schema={"k": pl.String, "a": pl.Int64, "b": pl.Int64}, orient="row")
    step = {"unpivot": {"columns": ["b", "a"], "index": ["k"], "name_to": "n", "value_to": "v"}}
    result = lp.apply(step, data).collect(engine=engine)
    assert result.columns == ["k", "n", "v"]
    assert bag(result.rows()) == bag([(k, "b", b) for k, _, b in rows] + [(k, "a", a) for k, a, _ in rows])
    without = lp.apply({"unpivot": {"columns": "a"}}, data).collect(engine=engine)
    assert bag(without.rows()) == bag(("a", a) for _, a, _ in rows)


def test_unpivot_may_make_columns_of_names_that_go() -> None:
    data = pl.LazyFrame({"name": [1], "value": [2], "k": [3]})
    result = lp.apply({"unpivot": {"columns": ["name", "value"], "index": "k"}}, data).collect()
    assert result.rows(named=True) == [{"k": 3, "name": "name", "value": 1}, {"k": 3, "name": "value", "value": 2}]


def test_unpivot_of_columns_that_do_not_fit() -> None:
    data = pl.LazyFrame({"i": [1], "f": [1.5], "s": ["a"], "l": [[1]], "name": ["n"]})
    assert lp.apply({"unpivot": {"columns": ["i", "f"]}}, data).collect().rows() == [("i", 1.0), ("f", 1.5)]
    for other in ("s", "l"):
        message = refused({"unpivot": {"columns": ["i", other]}}, data)
        assert message.endswith("and 'i' is Int64; cast one of them first")
    assert "name_to: two columns would be called 'name'" in refused(
        {"unpivot": {"columns": "i", "index": "name"}}, data
    )
    assert "two columns would be called 'v'" in refused(
        {"unpivot": {"columns": "i", "name_to": "v", "value_to": "v"}}, data
    )


# --- sample

MANY = pl.DataFrame(
    {
        "a": range(10_000),
        "g": [i // 10 for i in range(10_000)],
        "l": [[i, None] if i % 3 else None for i in range(10_000)],
        "u": [{"x": str(i), "y": [i % 7]} for i in range(10_000)],
        "c": pl.Series([str(i % 1000) for i in range(10_000)], dtype=pl.Categorical),
        "f": [NAN if i % 2 else i / 2 for i in range(10_000)],
    }
)


def sampled(step: dict[str, Any], data: pl.DataFrame | pl.LazyFrame = MANY, engine: Any = "in-memory") -> list[int]:
    return sorted(lp.apply({"sample": step}, data.lazy()).collect(engine=engine)["a"].to_list())


@pytest.mark.parametrize(
    "step", [{"fraction": 0.3}, {"rows": 500}, {"fraction": 0.3, "by": "g"}, {"rows": 500, "by": "c"}]
)
def test_sample_takes_the_same_rows_whatever_their_order_and_split(step: dict[str, Any]) -> None:
    once = sampled(step)
    shuffled = MANY.sample(fraction=1, shuffle=True, seed=5)
    parts = pl.concat([shuffled[i : i + 777].lazy() for i in range(0, 10_000, 777)])
    assert sampled(step, shuffled) == sampled(step, parts) == sampled(step, parts, "streaming") == once
    assert sampled({**step, "seed": 1}) != once
    assert len(once) == len(set(once))
    if "rows" in step:
        assert len(once) == 500
    else:
        assert abs(len(once) - 3000) < 300
    if step.get("by") == "g":
        assert set(Counter(a // 10 for a in once).values()) == {10}


def test_sample_bounds() -> None:
    everything = list(range(10_000))
    assert sampled({"fraction": 0}) == sampled({"rows": 0}) == []
    assert sampled({"fraction": 1}) == sampled({"rows": 10**9}) == sampled({"fraction": 1 - 1e-17}) == everything
    twins = pl.DataFrame({"a": [1, 1, 1, 1]})
    assert sampled({"rows": 3}, twins) == [1, 1, 1]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({}, "sample needs one size"),
        ({"rows": 1, "fraction": 0.5}, "sample needs one size"),
        ({"fraction": 1.5}, "1.5 is not a fraction of the rows; write a number from 0 to 1"),
        ({"fraction": -0.1}, "-0.1 is not a fraction"),
        ({"fraction": NAN}, "nan is not a fraction"),
        ({"rows": -1}, "-1 rows cannot be kept"),
        ({"rows": 1, "seed": 2**64}, "cannot be a seed"),
        ({"rows": 1, "by": "z"}, "unknown column 'z'"),
    ],
)
def test_samples_that_cannot_be(step: dict[str, Any], message: str) -> None:
    assert message in refused({"sample": step}, MANY.lazy())
