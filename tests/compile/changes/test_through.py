"""How rows pass through plans: what is read off them, and what stands against it."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.compile.changes.through import LookedUp, Through, looked_up, through
from lazypipe.plan.reader import read_plan
from lazypipe.spec.taps import label

A = label(
    pl.LazyFrame(
        schema={"x": pl.Int64(), "k": pl.String(), "l": pl.List(pl.Int64()), "s": pl.Struct({"f": pl.Int64()})}
    ),
    "a",
)
B = label(pl.LazyFrame(schema={"x": pl.Int64(), "k": pl.String(), "y": pl.Int64()}), "b")
UNSEEN = "a function that cannot be analyzed"


def found(frame: pl.LazyFrame) -> Through:
    return through(read_plan(frame, exact=True), "a")


def asked(query: str) -> Through:
    with pl.SQLContext(a=A, b=B, eager=False) as context:
        return found(context.execute(query))


@pytest.mark.parametrize(
    ("query", "apart", "whole", "kept"),
    [
        ("SELECT x + 1 AS y, k FROM a WHERE x > 3", {}, set(), {"k": "k"}),
        ("SELECT x AS y, 1 AS one FROM a", {}, set(), {"y": "x"}),
        ("SELECT x * 1.5 AS y, x / 0.5 AS z, x // 1.5 AS w, k FROM a", {}, set(), {"k": "k"}),
        ("SELECT k IN ('a', 'b') AS y, CASE WHEN x NOT IN (1, 2) THEN 1 END AS z FROM a", {}, set(), {}),
        ("SELECT k AS g, x, sum(x) OVER (PARTITION BY k) AS s FROM a", {"k": "g"}, set(), {"g": "k", "x": "x"}),
        ("SELECT k, count(*) AS n FROM a GROUP BY k HAVING count(*) > 1", {"k": "k"}, set(), {"k": "k"}),
        ("SELECT k, x % 2 AS g, max(x) AS m FROM a GROUP BY k, x % 2", {"k": "k"}, set(), {"k": "k"}),
        ("SELECT DISTINCT k, x FROM a", {"k": "k", "x": "x"}, set(), {"k": "k", "x": "x"}),
        ("SELECT a.k, b.y FROM a JOIN b ON a.k = b.k", {}, {"b"}, {"k": "k"}),
        ("SELECT a.x, b.y FROM b JOIN a ON a.k = b.k", {}, {"b"}, {}),
        ("SELECT a.x, b.y FROM b RIGHT JOIN a ON a.k = b.k", {}, {"b"}, {}),
        ("SELECT x FROM a WHERE k IN (SELECT k FROM b)", {}, {"b"}, {"x": "x"}),
        ("SELECT k, x FROM a UNION ALL SELECT k, x + 1 AS x FROM a", {}, set(), {"k": "k"}),
        (
            "WITH t AS (SELECT k, x, sum(x) AS s FROM a GROUP BY k, x) SELECT k, max(s) OVER (PARTITION BY k) AS m FROM t",
            {"k": "k"},
            set(),
            {"k": "k"},
        ),
    ],
)
def test_queries_say_what_rows_have_to_do_with_each_other(
    query: str, apart: dict[str, str], whole: set[str], kept: dict[str, str]
) -> None:
    state = asked(query)
    assert (state.against, state.apart, state.whole, dict(state.kept)) == ("", apart, whole, kept)
    assert state.rows == {"a"}


@pytest.mark.parametrize(
    ("query", "against"),
    [
        ("SELECT x FROM a ORDER BY x LIMIT 3", "LIMIT"),
        ("SELECT count(*) AS n FROM a", "len over all rows"),
        ("SELECT x, sum(x) OVER () AS s FROM a", "count over all rows"),
        ("SELECT sum(x) AS s FROM a GROUP BY x % 2", "GROUP BY without an unchanged column"),
        ("SELECT y, x, rank() OVER (PARTITION BY x ORDER BY k) AS r FROM (SELECT x * 2 AS x, k, x AS y FROM a) t", "OVER without an unchanged column"),
        (
            "WITH t AS (SELECT k, x, sum(x) AS s FROM a GROUP BY k, x) SELECT k, max(s) OVER (PARTITION BY s) AS m FROM t",
            "OVER by other columns",
        ),
        ("SELECT a.x FROM b LEFT JOIN a ON a.k = b.k", "LEFT JOIN"),
        ("SELECT a.x FROM a FULL JOIN b ON a.k = b.k", "FULL JOIN"),
        ("SELECT s.x FROM a JOIN a AS s ON a.k = s.k", "a self-join"),
        ("SELECT k FROM (SELECT k FROM a GROUP BY k) t UNION ALL SELECT k FROM b", "UNION of groups"),
        ("SELECT x FROM a UNION ALL SELECT max(x) AS x FROM b", "UNION with rows that are read in full"),
    ],
)  # fmt: skip
def test_what_mixes_all_rows_is_named(query: str, against: str) -> None:
    state = asked(query)
    assert (state.against, state.apart) == (against, {})
    assert "a" in state.whole


MADE: dict[str, tuple[Callable[[], pl.LazyFrame], str, dict[str, str]]] = {
    "explode": (lambda: A.explode("l").with_columns(n=pl.len().over("k", "l")), "", {"k": "k"}),
    "unnest": (lambda: A.unnest("s").with_columns(n=pl.len().over("k")), "", {"k": "k"}),
    "unpivot": (lambda: A.unpivot("x", index="k").unique(["k"]), "", {"k": "k"}),
    "overwritten": (lambda: A.with_columns(n=pl.len().over("k")).with_columns(k=pl.col("k") + "!"), "", {}),
    "opaque": (lambda: A.map_batches(lambda rows: rows), UNSEEN, {}),
    "mapped": (lambda: A.with_columns(pl.col("x").map_elements(abs, return_dtype=pl.Int64())), UNSEEN, {}),
    "mapped in groups": (
        lambda: A.group_by("k").agg(pl.col("x").map_elements(abs, return_dtype=pl.Int64())),
        UNSEEN,
        {},
    ),
    "mapped in windows": (
        lambda: A.with_columns(pl.col("x").map_elements(abs, return_dtype=pl.Int64()).sum().over("k")),
        UNSEEN,
        {},
    ),
    "windows in windows": (
        lambda: A.with_columns(pl.col("x").sum().over("k").max().over("k")),
        "a window function inside another",
        {},
    ),
    "exploded windows": (lambda: A.select(pl.col("x").sort().over("k", mapping_strategy="explode")), UNSEEN, {}),
    "numbers": (A.with_row_index, "row numbers", {}),
    "time": (lambda: A.sort("x").group_by_dynamic("x", every="2i").agg(pl.len()), "groups by time intervals", {}),
    "aside": (
        lambda: pl.concat([A.select("x"), B.select("y")], how="horizontal"),
        "a horizontal concatenation",
        {},
    ),
    "fewer": (lambda: A.select(pl.col("x").drop_nulls()), "drop_nulls over all rows", {}),
    "constant": (lambda: A.select(pl.lit(1)), "values computed from all rows", {}),
}


@pytest.mark.parametrize("name", MADE)
def test_plans_that_are_made_otherwise(name: str) -> None:
    make, against, apart = MADE[name]
    state = found(make())
    assert (state.against, state.apart, state.opaque) == (against, apart, against == UNSEEN)


def test_sorts_are_told() -> None:
    assert found(A.sort("x")).ordered
    assert not found(A.filter(pl.col("x") > 1)).ordered


def test_rows_of_other_inputs_are_read_as_a_whole() -> None:
    assert found(B.select(pl.col("x").sum())) == Through(whole=frozenset("b"))


def good(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(y=pl.col("x") * 2).filter(pl.col("x") > 1).drop("k")


def summed(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(y=pl.col("x").sum())


def shared(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(y=pl.col("x").sum().over("k"))


def ordered(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("x")


def chosen(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("x")


def doubled(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(pl.selectors.numeric() * 2)


def counted(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(pl.lit(len(rows.collect_schema())).alias(f"n{len(rows.collect_schema())}"))


def typed(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(y=pl.sum_horizontal(pl.selectors.numeric().cast(pl.Float64)))


def complete(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.filter(pl.all_horizontal(pl.selectors.numeric() > 0))


def alike(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.unique()


def hidden(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.map_batches(lambda batch: batch)


def declared(function: Callable[[pl.LazyFrame], pl.LazyFrame], **more: str) -> str:
    data = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "memory://none/a.csv", "contract": {"columns": {"x": "Int64", "k": "String"}}}},
        "stages": {"s": {"from": "a", "do": [{"python": {"call": f"{__name__}:{function.__name__}", **more}}]}},
        "outputs": {"s": {"to": "memory://none/s"}},
    }
    return str(lp.Pipeline.from_dict(data).compile(allow=[__name__]).strategies["s"])


def test_functions_are_followed_where_they_are_declared_to_go_by_rows() -> None:
    assert declared(good) == "full: s: python can change any row (unless you declare incremental: rows)"
    assert declared(good, incremental="rows") == "reads new and changed files of a"
    assert declared(hidden, incremental="rows") == "reads new and changed files of a"


@pytest.mark.parametrize(
    ("function", "what", "fix"),
    [
        (
            summed,
            "does not treat each row by itself: sum over all rows",
            "remove incremental, or do that in another step",
        ),
        (
            shared,
            "does not treat each row by itself: rows with the same k affect each other",
            "remove incremental, or do that in another step",
        ),
        (
            ordered,
            "does not treat each row by itself: it sorts them",
            "remove incremental, or do that in another step",
        ),
        *(
            (
                f,
                "drops columns that it does not know, so its rows cannot be traced to their files",
                "add columns with with_columns, and remove them with drop",
            )
            for f in (chosen, doubled)
        ),
        (counted, "returns other columns when its input has one more column", "name the columns that it works on"),
        *(
            (
                f,
                "also works on columns that lazypipe adds: it selects them by type, by pattern, or all of them",
                "name the columns that it works on",
            )
            for f in (typed, complete)
        ),
        (
            alike,
            "does not treat each row by itself: rows with the same k, x affect each other",
            "remove incremental, or do that in another step",
        ),
    ],
)
def test_wrong_declarations_are_refused(function: Callable[[pl.LazyFrame], pl.LazyFrame], what: str, fix: str) -> None:
    with pytest.raises(lp.DefinitionError) as error:
        declared(function, incremental="rows")
    where = "stages.s.do[0].python.incremental"
    assert str(error.value) == f"{where}: {__name__}:{function.__name__} {what}; {fix}"


NUMBERS = label(pl.LazyFrame(schema={"x": pl.Int16(), "y": pl.UInt64(), "k": pl.String(), "f": pl.Float32()}), "c")


@pytest.mark.parametrize(
    ("joined", "expected"),
    [
        (lambda: A.join(NUMBERS, on="x"), {"c": (("x",), ("x",))}),
        (lambda: A.join(NUMBERS, left_on="x", right_on="y", how="left"), {"c": (("x",), ("y",))}),
        (lambda: A.with_columns(f=pl.lit(1.5)).join(NUMBERS, on=["f", "x"]), {"c": (("x",), ("x",))}),
        (lambda: NUMBERS.join(A, on=["x", "k"]), {"c": (("x", "k"), ("x", "k"))}),
        # numbers in text are equal where the text is not
        (lambda: A.join(NUMBERS, left_on=pl.col("k").cast(pl.Int64), right_on=pl.col("k").cast(pl.Int64)), {}),
        (lambda: A.join(NUMBERS, left_on=pl.col("x").cast(pl.String), right_on=pl.col("y").cast(pl.String)), {}),
        (lambda: A.join(B.join(NUMBERS.select("x"), on="x"), on="x"), {"b": (("x",), ("x",))}),
        (lambda: A.join(B.group_by("x", "k").agg(pl.len()), on=["k", "x"]), {"b": (("k", "x"), ("k", "x"))}),
        (lambda: A.join(B.group_by("x").agg(pl.col("k").max()), on=["k", "x"]), {"b": (("x",), ("x",))}),
        (lambda: A.join(B.sort("y").head(3), on="x"), {}),
        (lambda: A.join(B, on="x").join(B.select(pl.col("y").max()), how="cross"), {}),
    ],
)
def test_how_rows_find_others_is_read_off_the_plan(
    joined: Callable[[], pl.LazyFrame], expected: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
) -> None:
    found = looked_up(read_plan(joined(), exact=True), "a")
    assert found == {name: (LookedUp(*keys),) for name, keys in expected.items()}
