"""Row lineage: which source rows, in which files, made a row of an output."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import ops
from lazypipe.__main__ import main
from lazypipe.storage.datasets.dataset import Dataset

ROOT = Path(__file__).parents[2]
A = pl.DataFrame(
    {
        "i": [0, 1, 2, 3],
        "g": [1, 1, 2, None],
        "v": [10, 20, 30, None],
        "s": ["x", "y", "x", "y"],
        "l": [[1, 2], [3], [], None],
        "r": [{"p": 1}, {"p": 2}, {"p": 3}, None],
        "t": [1.0, 2.0, 3.0, 4.0],
        "day": [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1), None],
    }
)
B = pl.DataFrame(
    {
        "k": [1, 2, 2, None],
        "w": [100, 200, 201, 300],
        "u": [0.5, 1.5, 2.5, 3.5],
        "day": [date(2024, 2, 27), date(2024, 2, 29), date(2024, 2, 29), date(2024, 4, 1)],
    }
)


def plan_of(folder: Path, steps: Any, a: pl.DataFrame = A, **more: Any) -> lp.Plan:
    folder.mkdir(parents=True, exist_ok=True)
    # two files: numbers start anew in each
    a.head(2).write_parquet(folder / "a-0.parquet")
    a.slice(2).write_parquet(folder / "a-1.parquet")
    B.write_parquet(folder / "b.parquet")
    definition = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "a-*.parquet"}, "b": {"uri": "b.parquet"}},
        "stages": {"s": {"from": ["a", "b"] if any("sql" in s for s in steps) else "a", "do": steps, **more}},
        "outputs": {"s": {"to": "out/s"}},
    }
    return lp.Pipeline.from_dict(definition, base=str(folder)).compile(allow=[__name__])


def numbers(trace: lp.Trace, source: str) -> Any:
    """Return the traced rows of a source as they are numbered through all of its files."""
    of = trace.sources.get(source)
    if of is None:
        return []
    if of.rows is None:
        return "any"
    start = {"a-0.parquet": 0, "a-1.parquet": 2, "b.parquet": 0}
    places = of.rows.select("_lazypipe_file", "_lazypipe_row").rows()
    return sorted(start[Path(file).name] + row for file, row in places)


def doubled(frame: pl.LazyFrame) -> pl.LazyFrame:
    return pl.concat([frame, frame])


# operation → steps, key, rows of a, rows of b
CASES: dict[str, list[tuple[Any, dict[str, Any], Any, Any]]] = {
    "filter": [
        ({"filter": "v > 15"}, {"i": 1}, [1], []),
        ({"filter": pl.col("v") >= pl.col("v").mean()}, {"i": 2}, "any", []),
    ],
    "select": [
        ({"select": ["i", "v"]}, {"i": 2}, [2], []),
        ({"select": {"i": "i", "w": "v / 2"}}, {"i": 1}, [1], []),
        ({"select": {"i": "i", "w": "max(v)"}}, {"i": 1}, "any", []),
    ],
    "derive": [
        ({"derive": {"w": "v / 2"}}, {"w": 10.0}, [1], []),
        ({"derive": {"w": "v - avg(v)"}}, {"i": 1}, "any", []),
    ],
    "rename": [({"rename": {"i": "j"}}, {"j": 3}, [3], [])],
    "drop": [({"drop": "v"}, {"i": 3}, [3], [])],
    "cast": [({"cast": {"i": "String"}}, {"i": "2"}, [2], [])],
    "sort": [({"sort": "v DESC"}, {"i": 1}, [1], [])],
    "limit": [({"limit": 4}, {"i": 1}, [1], [])],
    "sample": [({"sample": {"rows": 4, "seed": 1}}, {"i": 1}, [1], [])],
    "explode": [({"explode": "l"}, {"l": 2}, [0], []), ({"explode": "l"}, {"i": 2}, [2], [])],
    "unnest": [({"unnest": "r"}, {"p": 3}, [2], [])],
    "unpivot": [
        ({"unpivot": {"columns": ["v", "g"], "index": "i", "name_to": "n", "value_to": "x"}}, {"x": 30}, [2], [])
    ],
    "pivot": [
        (
            {"pivot": {"on": "s", "into": ["x", "y"], "index": "g", "values": "v", "aggregate": "sum"}},
            {"g": 1},
            [0, 1],
            [],
        ),
        (
            {"pivot": {"on": "s", "into": ["x", "y"], "index": "g", "values": "v", "aggregate": "sum"}},
            {"g": None},
            [3],
            [],
        ),
        (
            {"pivot": {"on": "s", "into": ["x", "y"], "index": "l", "values": "v", "aggregate": "sum"}},
            {"x": 10},
            "any",
            [],
        ),
    ],
    "aggregate": [
        ({"aggregate": {"by": "g", "aggregate": {"n": "count(*)"}}}, {"g": 1}, [0, 1], []),
        ({"aggregate": {"by": "g", "aggregate": {"n": "sum(v)"}}}, {"g": None}, [3], []),
        ({"aggregate": {"aggregate": {"n": "count(*)"}}}, {"n": 4}, [0, 1, 2, 3], []),
    ],
    "distinct": [
        ({"distinct": {"columns": "g", "keep": "last", "order_by": "v"}}, {"g": 1}, [0, 1], []),
        ({"distinct": {"columns": ["g", "s"]}}, {"i": 1}, [1], []),
        ({"distinct": {"columns": "l"}}, {"i": 1}, "any", []),
    ],
    "fill": [
        ({"fill": {"columns": "v", "value": 0}}, {"i": 3}, [3], []),
        ({"fill": {"columns": "v", "strategy": "forward", "by": "s", "order_by": "i"}}, {"i": 3}, [1, 3], []),
        ({"fill": {"columns": "v", "strategy": "forward", "order_by": "i"}}, {"i": 3}, [0, 1, 2, 3], []),
    ],
    "rank": [
        ({"rank": {"as": "n", "order_by": "v", "by": "g"}}, {"i": 1}, [0, 1], []),
        ({"rank": {"as": "n", "order_by": "v"}}, {"i": 1}, [0, 1, 2, 3], []),
    ],
    "over": [
        ({"over": {"columns": {"m": "max(v)"}, "by": "s"}}, {"i": 0}, [0, 2], []),
        ({"over": {"columns": {"s": "max(s)"}, "by": "s"}}, {"i": 1}, [1, 3], []),
        ({"over": {"columns": {"m": "max(v)"}, "by": "l"}}, {"i": 0}, "any", []),
    ],
    "join": [
        ({"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "left"}}, {"i": 0}, [0], [0]),
        ({"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "left"}}, {"i": 2, "w": 201}, [2], [2]),
        ({"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "left"}}, {"i": 3}, [3], []),
        ({"join": {"with": "b", "left_on": "g", "right_on": "k", "columns": {"w": "v2"}}}, {"v2": 200}, [2], [1]),
        ({"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "right"}}, {"w": 300}, [], [3]),
        ({"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "right"}}, {"i": 1}, [1], [0]),
        (
            {"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "right", "columns": ["w"]}},
            {"i": 1},
            [1],
            [0],
        ),
        ({"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "full"}}, {"w": 300}, [], [3]),
        (
            {"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "full", "nulls_equal": True}},
            {"w": 300},
            [3],
            [3],
        ),
        ({"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "semi"}}, {"i": 2}, [2], [1, 2]),
        ({"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "anti"}}, {"i": 3}, [3], []),
        ({"join": {"with": "b", "how": "cross"}}, {"i": 1, "w": 300}, [1], [3]),
        ({"join": {"with": "b", "how": "cross", "columns": []}}, {"i": 1}, [1], [0, 1, 2, 3]),
    ],
    "asof_join": [
        ({"asof_join": {"with": "b", "left_on": "t", "right_on": "u"}}, {"i": 1}, [1], [1]),
        ({"asof_join": {"with": "b", "left_on": "t", "right_on": "u", "strategy": "forward"}}, {"i": 3}, [3], []),
    ],
    "interval_join": [
        ({"interval_join": {"with": "b", "time": "day", "within": ["-1d", "0d"]}}, {"i": 0}, [0], [0]),
        ({"interval_join": {"with": "b", "time": "day", "within": ["-1d", "0d"]}}, {"i": 2, "w": 201}, [2], [2]),
        (
            {"interval_join": {"with": "b", "time": "day", "within": ["1d", "9d"], "how": "left", "columns": ["w"]}},
            {"i": 0},
            [0],
            [1, 2],
        ),
        ({"interval_join": {"with": "b", "time": "day", "within": ["1d", "9d"], "how": "left"}}, {"i": 3}, [3], []),
    ],
    "union": [
        ({"union": {"with": "b", "missing": "fill"}}, {"i": 2}, [2], []),
        ({"union": {"with": "b", "missing": "fill"}}, {"w": 201}, [], [2]),
    ],
    "session": [
        ({"session": {"time": "day", "gap": "1d", "aggregate": {"n": "count(*)"}}}, {"n": 3}, [0, 1, 2], []),
        ({"session": {"time": "day", "gap": "1d", "by": "s", "aggregate": {"n": "sum(v)"}}}, {"n": 30}, [2], []),
        (
            {"session": {"time": "day", "gap": "1d", "max_length": "2d", "aggregate": {"n": "sum(v)"}}},
            {"session_start": "2024-02-28"},
            [0, 1],
            [],
        ),
    ],
    "window": [
        ({"window": {"time": "day", "every": "1mo", "aggregate": {"n": "count(*)"}}}, {"n": 2}, [0, 1], []),
        ({"window": {"time": "day", "every": "1d", "by": "s", "aggregate": {"n": "sum(v)"}}}, {"n": 30}, [2], []),
        (
            {"window": {"time": "day", "every": "1d", "period": "2d", "aggregate": {"n": "sum(v)"}}},
            {"window_start": "2024-02-29"},
            [1, 2],
            [],
        ),
        ({"window": {"time": "day", "every": ["1mo", "all"], "aggregate": {"n": "sum(v)"}}}, {"n": 60}, [0, 1, 2], []),
    ],
    "sql": [
        ({"sql": "SELECT i, v / 2 AS w FROM a WHERE v > 10"}, {"i": 1}, [1], []),
        ({"sql": "SELECT * FROM self WHERE v > 10"}, {"i": 2}, [2], []),
        ({"sql": "SELECT i, v FROM a UNION ALL SELECT i, v + 1 FROM a"}, {"v": 21}, [1], []),
        ({"sql": "SELECT * FROM a UNION ALL SELECT i, g, v + 1, s, l, r, t, day FROM a"}, {"v": 21}, [1], []),
        # groups whose figures add up: the rows that are in them
        ({"sql": "SELECT g, COUNT(*) AS n FROM self GROUP BY g"}, {"g": 1}, [0, 1], []),
        (
            {"sql": "SELECT s, sum(v) / count(*) AS m FROM a WHERE i > 0 GROUP BY s HAVING count(*) > 0"},
            {"s": "x"},
            [2],
            [],
        ),
        ({"sql": "SELECT upper(s) AS u, max(v) AS m FROM a GROUP BY upper(s)"}, {"u": "Y"}, [1, 3], []),
        ({"sql": "SELECT g, count(*) AS n FROM a GROUP BY g"}, {"g": None}, [3], []),
        ({"sql": "SELECT sum(v) AS n FROM a WHERE v > 10"}, {"n": 50}, [1, 2], []),
        ({"sql": "SELECT DISTINCT s FROM a"}, {"s": "y"}, [1, 3], []),
        ({"sql": "SELECT l, count(*) AS n FROM a GROUP BY l"}, {"n": 1}, "any", "any"),
        # what mixes all rows
        ({"sql": "SELECT i, v FROM a ORDER BY v LIMIT 2"}, {"i": 0}, "any", "any"),
        ({"sql": "SELECT i, v - avg(v) OVER () AS w FROM a"}, {"i": 0}, "any", "any"),
    ],
    "python": [({"python": f"{__name__}:doubled"}, {"i": 1}, "any", [])],
}


def test_each_operation_is_traced() -> None:
    # what is closed needs a source with a watermark: tests/scenarios/test_closing.py
    assert set(CASES) == set(ops.names()) - {"closed"}


@pytest.mark.parametrize(("steps", "key", "a", "b"), [c for cases in CASES.values() for c in cases])
def test_the_rows_that_made_a_row(tmp_path: Path, steps: Any, key: dict[str, Any], a: Any, b: Any) -> None:
    plan = plan_of(tmp_path, [steps])
    found = plan.trace("s", key)
    assert (numbers(found, "a"), numbers(found, "b")) == (a, b)
    assert found.exact == ("any" not in (a, b))
    assert found.rows.height >= 1
    for reason in found.reasons:
        assert reason == f"s: {next(iter(steps))} can read any row"
    if found.exact and "sample" not in steps:
        # these rows alone make the row again
        alone = A.with_row_index("n").filter(pl.col("n").is_in(a)).drop("n")
        again = plan_of(tmp_path / "alone", [steps], alone).trace("s", key)
        assert again.rows.sort(pl.all().hash()).equals(found.rows.sort(pl.all().hash()))


QUERIES: list[tuple[Any, dict[str, Any], Any, Any, list[str]]] = [
    (
        [{"sql": "SELECT a.i, b.w FROM a LEFT JOIN b ON a.g = b.k"}],
        {"i": 2, "w": 200},
        [2],
        [1, 2],
        ["sql matches rows of b by k, and all rows with equal values are listed"],
    ),
    (
        [{"sql": "SELECT i, v FROM a WHERE g IN (SELECT k FROM b WHERE w > 100)"}],
        {"i": 2},
        [2],
        [1, 2],
        ["sql matches rows of b by k, and all rows with equal values are listed"],
    ),
    (
        [{"sql": "SELECT a.i, c.n FROM a LEFT JOIN (SELECT k, count(*) AS n FROM b GROUP BY k) AS c ON a.g = c.k"}],
        {"i": 0},
        [0],
        [0],
        ["sql matches rows of b by k, and all rows with equal values are listed"],
    ),
    (
        # numbers of two types are compared as neither of them
        [{"cast": {"g": "Int32"}}, {"sql": "SELECT self.i, b.w FROM self LEFT JOIN b ON self.g = b.k"}],
        {"i": 0},
        [0],
        "any",
        ["sql can read any row of b"],
    ),
    (
        [{"sql": "SELECT i, v FROM a WHERE v < (SELECT max(w) FROM b)"}],
        {"i": 2},
        "any",
        "any",
        ["sql can read any row"],
    ),
    (
        [{"sql": "SELECT i, v FROM a WHERE v > (SELECT avg(v) FROM a)"}],
        {"i": 2},
        "any",
        "any",
        ["sql can read any row"],
    ),
    (
        [{"sql": "SELECT g, median(v) AS m FROM a WHERE i > 0 GROUP BY g"}],
        {"g": 1},
        [0, 1],
        [],
        ["sql groups by g, and all rows with equal values are listed"],
    ),
    (
        [{"sql": "SELECT i, s AS z, v - avg(v) OVER (PARTITION BY s) AS w FROM a"}],
        {"i": 0},
        [0, 2],
        [],
        ["sql groups by s, and all rows with equal values are listed"],
    ),
    (
        [{"sql": "SELECT a.g, count(*) AS n, max(b.w) AS w FROM a LEFT JOIN b ON a.g = b.k GROUP BY a.g"}],
        {"g": 2},
        [2],
        [1, 2],
        [
            "sql groups by g, and all rows with equal values are listed",
            "sql matches rows of b by k, and all rows with equal values are listed",
        ],
    ),
    (
        # behind another step, which is told apart from the input of its name
        [{"filter": "v > 10"}, {"sql": "SELECT g, sum(v) AS n FROM self GROUP BY g"}],
        {"g": 1},
        [1],
        [],
        [],
    ),
    (
        [{"filter": "v > 10"}, {"sql": "SELECT i, v FROM self WHERE v <= (SELECT max(v) FROM self)"}],
        {"i": 1},
        "any",
        "any",
        ["sql can read any row"],
    ),
]


@pytest.mark.parametrize(("steps", "key", "a", "b", "reasons"), QUERIES)
def test_queries_are_traced_as_far_as_their_plans_tell(
    tmp_path: Path, steps: Any, key: dict[str, Any], a: Any, b: Any, reasons: list[str]
) -> None:
    found = plan_of(tmp_path, steps).trace("s", key)
    assert (numbers(found, "a"), numbers(found, "b")) == (a, b)
    assert found.reasons == tuple(f"s: {r}" for r in reasons)
    assert found.rows.height >= 1


# each with other names for its columns, by where it stands
STEPS: list[list[dict[str, Any]]] = [
    *(
        [step]
        for step in (
            {"filter": "v > 1"},
            {"derive": {"v": "v + 1"}},
            {"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "left", "columns": {"w": "w{}"}}},
            {"join": {"with": "b", "left_on": "g", "right_on": "k", "nulls_equal": True, "columns": {"w": "w{}"}}},
            {"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "semi"}},
            {"join": {"with": "b", "left_on": "g", "right_on": "k", "how": "anti"}},
            {"join": {"with": "b", "how": "cross", "columns": {"w": "w{}"}}},
            {"asof_join": {"with": "a", "left_on": "v", "right_on": "i", "by": "g", "columns": {"v": "w{}"}}},
            {"asof_join": {"with": "a", "left_on": "v", "right_on": "i", "columns": {"v": "w{}"}, "tolerance": 1}},
            {"fill": {"columns": "v", "value": 3}},
            {"fill": {"columns": "v", "strategy": "backward", "by": "g", "order_by": "i"}},
            {"over": {"columns": {"v": "sum(v)"}, "by": "g"}},
            {"rank": {"as": "v", "order_by": "v", "by": "g", "method": "min"}},
            {"rank": {"as": "v", "order_by": "v DESC", "method": "dense"}},
            {"distinct": {"columns": ["g", "v"], "keep": "first", "order_by": "i"}},
            {"distinct": {"columns": "g", "keep": "none"}},
            {"distinct": ["i", "g", "v"]},
            {"sample": {"fraction": 0.6}},
            {"union": {"with": "a", "missing": "fill"}},
            {"sort": "v"},
            {"sql": "SELECT i, g, v + 1 AS v FROM self WHERE v > 0"},
            {"sql": "SELECT *, g + 1 AS w{} FROM self WHERE v > 1 OR g IS NULL"},
            {"sql": "SELECT i, g, max(v) AS v FROM self GROUP BY i, g"},
            {"sql": "SELECT DISTINCT i, g, v FROM self"},
        )
    ),
    [{"derive": {"parts": "string_to_array('a,b', ',')"}}, {"explode": "parts"}, {"drop": "parts"}],
    [{"select": ["i", "g", "v"]}, {"derive": {"u": "v * 10"}}, {"unpivot": {"columns": ["v", "u"], "index": ["i", "g"], "value_to": "v"}}, {"drop": "name"}],
]  # fmt: skip
# two hours for each of v
AT: list[dict[str, Any]] = [{"derive": {"at": "v * 7200000000"}}, {"cast": {"at": "Datetime(us)"}}]
LAST: list[list[dict[str, Any]]] = [
    [],
    [{"aggregate": {"by": "g", "aggregate": {"v": "sum(v)", "n": "count(*)"}}}],
    [{"pivot": {"on": "v", "into": [1, 2], "values": "i", "index": "g", "aggregate": "sum"}}],
    [*AT, {"window": {"time": "at", "every": "4h", "period": "6h", "by": "g", "aggregate": {"m": "median(v)"}}}],
    [{"sql": "SELECT g, sum(v) AS v, count(*) AS n FROM self GROUP BY g"}],
    [{"sql": "SELECT g, avg(v) * 2 AS m FROM self WHERE i > 0 GROUP BY g HAVING count(*) > 1"}],
    [{"sql": "SELECT g, median(v) AS m FROM self WHERE i > 0 GROUP BY g"}],
    [*AT, {"session": {"time": "at", "gap": "3h", "by": "g", "max_length": "6h", "aggregate": {"n": "count(*)"}}}],
]
ROWS = st.lists(st.tuples(st.none() | st.integers(1, 3), st.none() | st.integers(0, 4)), min_size=1, max_size=8)


@given(
    rows=ROWS,
    drawn=st.lists(st.sampled_from(STEPS), max_size=4),
    last=st.sampled_from(LAST),
    out=st.randoms(use_true_random=False),
)
def test_other_rows_have_no_part(tmp_path_factory: Any, rows: Any, drawn: Any, last: Any, out: Any) -> None:
    """Without any of the rows that are not named, nothing about the row changes."""
    schema = {"i": pl.Int64, "g": pl.Int64, "v": pl.Int64}
    a = pl.DataFrame([(n, *r) for n, r in enumerate(rows)], schema=schema, orient="row")
    named = [json.loads(json.dumps(steps).replace("{}", str(place))) for place, steps in enumerate(drawn)]
    steps = [step for steps in [*named, last] for step in steps]
    key = "g" if last else "i"
    folder = tmp_path_factory.mktemp("t")
    plan = plan_of(folder, steps, a)
    made = plan.frames["s"].collect()
    if not made.height:
        return
    value = made[key][out.randrange(made.height)]
    found = plan.trace("s", {key: value})
    # of a query that does not add up all rows with the same group are named, also those that it leaves out
    assert found.exact is not any("median" in s.get("sql", "") for s in steps)
    kept = numbers(found, "a")
    left = a.filter(pl.col("i").is_in(kept) | (pl.col("i").hash(out.randrange(99)) % 2 == 0))
    again = plan_of(folder / "less", steps, left).frames["s"].filter(pl.col(key).eq_missing(pl.lit(value))).collect()
    order = pl.all().hash()
    assert again.sort(order).rows() == found.rows.sort(order).rows()


JOINED = [
    "SELECT a.i, a.g, b.w FROM a LEFT JOIN b ON a.g = b.k",
    "SELECT a.i, a.v, b.w FROM a JOIN b ON a.g = b.k WHERE b.w > 1",
    "SELECT a.i, a.v FROM a SEMI JOIN b ON a.g = b.k",
    "SELECT a.i, a.v FROM a ANTI JOIN b ON a.g = b.k",
    "SELECT i, v FROM a WHERE g IN (SELECT k FROM b WHERE w > 1)",
    "SELECT i, v FROM a WHERE g NOT IN (SELECT k FROM b WHERE w > 1)",
    "SELECT i, v FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.g)",
    "SELECT a.i, c.n FROM a LEFT JOIN (SELECT k, count(*) AS n, max(w) AS m FROM b GROUP BY k) AS c ON a.g = c.k",
    "SELECT a.i, x.w AS x, y.w AS y FROM a LEFT JOIN b AS x ON a.g = x.k LEFT JOIN b AS y ON a.v = y.k",
    "SELECT a.i, sum(a.v) OVER (PARTITION BY a.g) AS s, b.w FROM a LEFT JOIN b ON a.g = b.k",
    "SELECT a.g, count(*) AS n, max(b.w) AS w FROM a LEFT JOIN b ON a.g = b.k GROUP BY a.g",
    "SELECT a.g, median(b.w) AS w FROM a LEFT JOIN b ON a.g = b.k WHERE a.v > 1 GROUP BY a.g",
    "SELECT g, count(*) AS n FROM a WHERE g IN (SELECT k FROM b) GROUP BY g",
    "WITH s AS (SELECT g, sum(v) AS t FROM a GROUP BY g) SELECT s.g, s.t, b.w FROM s LEFT JOIN b ON s.g = b.k",
    "SELECT g, sum(v) FILTER (WHERE v > 1) AS s FROM a GROUP BY g",
    "SELECT coalesce(g, 0) AS g, avg(v) AS m FROM a GROUP BY coalesce(g, 0) HAVING count(*) > 1",
    "SELECT i, g, v FROM a UNION ALL SELECT i, g, v + 1 FROM a WHERE g IN (SELECT k FROM b)",
]


@given(
    query=st.sampled_from(JOINED),
    rows=ROWS,
    others=st.lists(st.tuples(st.none() | st.integers(1, 3), st.integers(0, 3)), max_size=6),
    out=st.randoms(use_true_random=False),
)
def test_other_rows_of_what_a_query_reads_have_no_part(
    tmp_path_factory: Any, query: str, rows: Any, others: Any, out: Any
) -> None:
    """Without rows of either side that are not named, nothing about the row changes."""

    def plan(a: list[Any], b: list[Any]) -> lp.Plan:
        folder = tmp_path_factory.mktemp("t")
        for name, of, columns in (("a", a, "igv"), ("b", b, "kw")):
            frame = pl.DataFrame(of, schema=dict.fromkeys(columns, pl.Int64), orient="row")
            frame.write_parquet(folder / f"{name}.parquet")
        definition = {
            "version": 1,
            "name": "p",
            "sources": {n: {"uri": f"{n}.parquet"} for n in "ab"},
            "stages": {"s": {"from": ["a", "b"], "do": [{"sql": query}]}},
            "outputs": {"s": {"to": "out/s"}},
        }
        return lp.Pipeline.from_dict(definition, base=str(folder)).compile()

    def less(of: list[Any], name: str) -> list[Any]:
        traced = found.sources.get(name)
        if traced is not None and traced.rows is None:
            return of
        kept = set() if traced is None or traced.rows is None else {*traced.rows["_lazypipe_row"]}
        return [row for number, row in enumerate(of) if number in kept or out.random() < 0.5]

    a = [(number, *row) for number, row in enumerate(rows)]
    whole = plan(a, others)
    made = whole.frames["s"].collect()
    if not made.height:
        return
    key = made.columns[0]
    value = made[key][out.randrange(made.height)]
    found = whole.trace("s", {key: value})
    again = plan(less(a, "a"), less(others, "b")).frames["s"].filter(pl.col(key).eq_missing(pl.lit(value))).collect()
    order = pl.all().hash()
    assert again.sort(order).rows() == found.rows.sort(order).rows()


def test_flights_are_found_in_their_files() -> None:
    plan = lp.load(ROOT / "pipelines/flights.yaml").compile()
    found = plan.trace("hourly", {"origin": "JFK", "hour": "2013-02-08T11:00:00Z"})
    assert found.exact
    flights = found.sources["flights"].rows
    assert flights is not None
    assert flights.height == found.rows["departures"].item() > 5
    lines = {}
    for file in flights["_lazypipe_file"].unique():
        with gzip.open(file, "rt") as text:
            lines[file] = list(csv.DictReader(text))
    for file, row, carrier, number in flights.select("_lazypipe_file", "_lazypipe_row", "carrier", "flight").rows():
        line = lines[file][row]
        assert (line["carrier"], int(line["flight"])) == (carrier, number)
    assert set(found.sources) == {"flights", "airports", "planes", "weather"}


GATE = [
    {"not_null": {"columns": "v", "action": "quarantine"}},
    {"between": {"column": "v", "max": 25, "action": "repair", "repair": {"clip": True}}},
    {"foreign_key": {"column": "g", "references": {"to": "b", "column": "k"}, "action": "drop"}},
]


def test_gates_repair_and_take_rows_out(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [{"drop": "l"}], gate=GATE)
    plan.run().raise_for_status()
    found = plan.trace("s", {"i": 2})
    assert (numbers(found, "a"), numbers(found, "b"), found.rows["v"].item()) == ([2], [], 25)
    assert found.is_current
    with pytest.raises(
        lp.LazypipeError,
        match=r"no row has this key; trace a instead of the output, or look in the output's quarantine, .*out/s__quarantine$",
    ):
        plan.trace("s", {"i": 3})
    plain = plan_of(tmp_path, [{"join": {"with": "b", "left_on": "g", "right_on": "k"}}])
    with pytest.raises(lp.LazypipeError, match=r"no row has this key; trace a or b instead of the output$"):
        plain.trace("s", {"i": 99})


def test_a_repair_from_other_rows_cannot_be_told(tmp_path: Path) -> None:
    gate = [{"not_null": {"columns": "v", "action": "repair", "repair": {"previous": "i"}}}]
    found = plan_of(tmp_path, [{"drop": "l"}], gate=gate).trace("s", {"i": 3})
    assert (found.rows["v"].item(), found.reasons) == (30, ("s: a repair takes values from other rows",))
    assert found.sources["a"].rows is None
    assert [Path(f).name for f in found.sources["a"].files] == ["a-0.parquet", "a-1.parquet"]
    assert "## a: any row may have had a part" in found.to_markdown()
    assert "Not exact: s: a repair takes values from other rows." in found.to_markdown()
    # also where others decide whether it is taken
    gate = [{"increasing": {"column": "v", "order_by": "i", "action": "repair", "repair": {"null": True}}}]
    found = plan_of(tmp_path / "order", [{"drop": "l"}], gate=gate).trace("s", {"i": 3})
    assert found.reasons == ("s: a repair takes values from other rows",)


def test_of_rows_with_one_key_the_one_that_is_published_is_told(tmp_path: Path) -> None:
    for number, (tier, gone) in enumerate((("a", False), ("b", False), ("c", True))):
        rows = {"k": [1], "tier": [tier], "n": [number], "gone": [gone]}
        pl.DataFrame(rows).write_parquet(tmp_path / f"{number}.parquet")
    pipe = lp.pipeline("p", base=str(tmp_path)).source("in", "[01].parquet")
    key = {"key": "k", "deleted_when": "gone"}
    for name, how in (("up", {"mode": "upsert", "order_by": "n", **key}), ("all", {"mode": "append"})):
        pipe = pipe.stage(name, "in").output(name, name, **how)
    plan = pipe.build().compile()
    plan.run().raise_for_status()
    found = plan.trace("up", {"k": 1})
    assert found.published is not None
    assert (found.published["tier"].to_list(), found.rows["tier"].to_list()) == (["b"], ["a", "b"])
    assert (found.is_current, found.to_dict()["current"]) == (True, True)
    assert found.to_dict()["published"] == [{"k": 1, "tier": "b", "n": 1, "gone": False}]
    text = found.to_markdown()
    assert text.index("| 1 | b | 1 |") < text.index(
        "Published by `mode: upsert`, of the rows that the sources give now:"
    )
    assert "do not give" not in text
    assert "published" not in plan.trace("all", {"k": 1}).to_dict()
    (tmp_path / "1.parquet").unlink()
    found = plan.trace("up", {"k": 1})
    assert not found.is_current
    assert "The sources as they are now do not give all rows that are published." in found.to_markdown()


def test_sources_that_changed_since(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [{"drop": "l"}])
    assert not plan.trace("s", {"i": 1}).is_current  # nothing is published
    plan.run().raise_for_status()
    assert plan.trace("s", {"i": 1}).is_current
    A.with_columns(v=pl.col("v") * 2).head(2).write_parquet(tmp_path / "a-0.parquet")
    found = plan.trace("s", {"i": 1})
    assert not found.is_current
    assert found.published is not None
    assert (found.rows["v"].item(), found.published["v"].item()) == (40, 20)
    assert "The sources as they are now do not give the row that is published." in found.to_markdown()
    A.head(1).write_parquet(tmp_path / "a-0.parquet")
    gone = plan.trace("s", {"i": 1})
    assert (gone.rows.height, gone.sources) == (0, {})


def test_datasets_and_adapted_files(tmp_path: Path) -> None:
    """Rows are numbered in the files of a dataset, and where files of different shapes are read in groups."""
    plan = plan_of(tmp_path, [{"select": ["i", "g"]}])
    plan.run().raise_for_status()
    for number, frame in enumerate([{"i": [7], "g": [1.0]}, {"g": [2], "i": [8]}, {"i": [9, 10], "g": [1.5, 2.5]}]):
        pl.DataFrame(frame).write_csv(tmp_path / f"c-{number}.csv")
    definition = {
        "version": 1,
        "name": "q",
        "sources": {
            "s": {"uri": "out/s", "format": "dataset"},
            "c": {
                "uri": "c-*.csv",
                "contract": {"columns": {"i": "Int64", "g": "Int64"}, "on_type_change": "discard_column"},
            },
        },
        "stages": {"both": {"from": "s", "do": [{"union": "c"}]}},
        "outputs": {"both": {"to": "out/both.parquet", "format": "parquet"}},
    }
    pipe = lp.Pipeline.from_dict(definition, base=str(tmp_path))
    found = lp.trace(pipe, "both", {"i": 2})
    assert found.sources["s"].rows is not None
    assert found.sources["s"].rows.select("_lazypipe_row", "i").rows() == [(2, 2)]
    assert found.published is None
    for value, place in {7: ("c-0.csv", 0), 8: ("c-1.csv", 0), 10: ("c-2.csv", 1)}.items():
        rows = lp.trace(pipe, "both", {"i": value}).sources["c"].rows
        assert rows is not None
        assert [(Path(f).name, n) for f, n in rows.select("_lazypipe_file", "_lazypipe_row").rows()] == [place]


def test_personal_data_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,Ann\n2,a|b\n")
    definition = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "a.csv", "columns": {"name": {"tags": ["pii"]}}}},
        "outputs": {"a": {"to": "out/a"}},
    }
    found = lp.trace(lp.Pipeline.from_dict(definition, base=str(tmp_path)), "a", {"name": "Ann"})
    assert found.sources["a"].rows is not None
    assert found.sources["a"].rows["name"].to_list() == ["Ann"]
    assert "Ann" not in json.dumps(found.to_dict()) + found.to_markdown()
    assert found.to_dict()["key"] == {"name": "***"}
    assert repr(found) == "<Trace of a, name = ***: 1 of a>"
    assert "Ann" not in repr(found.sources)


def test_long_traces_are_cut_in_texts(tmp_path: Path) -> None:
    pl.DataFrame({"g": [1] * 30, "s": ["a|b"] * 30}).write_parquet(tmp_path / "a.parquet")
    definition = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "a.parquet"}},
        "stages": {"n": {"from": "a", "do": [{"aggregate": {"by": "g", "aggregate": {"n": "count(*)"}}}]}},
        "outputs": {"n": {"to": "out/n"}},
    }
    found = lp.trace(lp.Pipeline.from_dict(definition, base=str(tmp_path)), "n", {"g": 1})
    assert len(found.to_dict()["sources"]["a"]["rows"]) == 20
    assert found.to_dict()["sources"]["a"]["count"] == 30
    text = found.to_markdown(limit=2)
    assert "## a: 30 rows, 2 of them shown" in text
    assert text.count("a\\|b") == 2


def test_a_key_without_a_value_is_traced_by_the_word_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pl.DataFrame({"i": [1, None], "s": ["null", None]}, schema={"i": pl.Int64, "s": pl.String})
    frame.write_parquet(tmp_path / "a.parquet")
    pipe = lp.pipeline("p", base=str(tmp_path)).source("a", "a.parquet").stage("b", "a").output("b", "out").build()
    pipe.compile().run().raise_for_status()
    for key in ({"i": "null"}, {"i": None}, {"s": None}):
        assert lp.trace(pipe, "b", key).rows.rows() == [(None, None)]
    # of text, it is a text
    assert lp.trace(pipe, "b", {"s": "null"}).rows.rows() == [(1, "null")]
    (tmp_path / "p.yaml").write_text(pipe.to_yaml())
    assert main(["trace", str(tmp_path / "p.yaml"), "b", "--key", "i=null", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == {"i": None}


@pytest.mark.parametrize(
    ("output", "key", "message"),
    [
        ("t", {"i": 1}, "unknown output 't'; known outputs: s"),
        ("s", {"j": 1}, "output 's' has no column 'j'"),
        ("s", {"i": "one"}, "output 's': 'one' is not a value of column 'i', which is Int64; write one of that type"),
        ("s", {"i": [1]}, r"output 's': \[1\] is not a value of column 'i', which is Int64"),
        ("s", {"i": 99}, "output 's': no row has this key"),
        ("s", {}, "output 's': a trace needs a key; give a column and its value"),
        ("s", {"s": "x"}, "output 's': more than 1 rows have this key; give more columns of it"),
    ],
)
def test_wrong_questions(tmp_path: Path, output: str, key: dict[str, Any], message: str) -> None:
    with pytest.raises(lp.LazypipeError, match=message):
        plan_of(tmp_path, [{"drop": "l"}]).trace(output, key, most=1)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(tmp_path, [{"drop": "l"}])
    file = tmp_path / "p.yaml"
    file.write_text(plan.pipeline.to_yaml())
    assert main(["trace", str(file), "s", "--key", "i=2"]) == 0
    assert "# s: i = 2" in capsys.readouterr().out
    assert main(["trace", str(file), "s", "--key", "i=2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sources"]["a"]["rows"][0]["_lazypipe_row"] == 0
    assert main(["trace", str(file), "s", "--key", "i"]) == 2
    assert "--key 'i' has no value; write --key i=value" in capsys.readouterr().err


def test_a_version_is_traced_with_what_it_was_made_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def put(name: str, *rows: str) -> None:
        (tmp_path / f"{name}.csv").write_text("k,x\n" + "".join(f"{r}\n" for r in rows))

    total = {"aggregate": {"by": "k", "aggregate": {"x": "sum(x)"}}}
    pipe = lp.pipeline("p", base=tmp_path).source("s", "?.csv").stage("t", "s", do=[{"filter": "x > 0"}])
    pipe = (
        pipe.stage("u", "t", do=[total])
        .output("t", "t")
        .output("u", "u")
        .output("f", "out/f.csv", from_="u", format="csv")
    )
    put("a", "m,1")
    put("b", "m,20", "n,5")
    plan = pipe.build().compile()
    plan.run().raise_for_status()
    put("c", "m,300")
    plan.run().raise_for_status()

    def found(**more: Any) -> tuple[int, list[int], tuple[str, ...], bool]:
        of = plan.trace("u", {"k": "m"}, **more)
        source = of.sources["s"].rows
        assert source is not None
        assert of.published is not None
        return of.published["x"].item(), source["x"].to_list(), of.reasons, of.is_current

    assert found() == found(version=2) == (321, [1, 20, 300], (), True)
    assert found(version=1) == (21, [1, 20], (), True)
    moment = Dataset(str(tmp_path / "u")).read(version=1).time
    assert found(as_of=moment) == found(as_of=moment.isoformat()) == found(version=1)
    (tmp_path / "p.yaml").write_text(pipe.build().to_yaml())
    command = ["trace", str(tmp_path / "p.yaml"), "u", "--key", "k=m", "--json"]
    assert main([*command, "--as-of", moment.isoformat()]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 1
    (tmp_path / "a.csv").touch()  # which holds what it held
    put("b", "m,21", "n,5")
    assert found(version=1) == (
        21,
        [1],
        ("s: 1 of 2 files that version 1 was made of are gone, or hold something else",),
        False,
    )
    of = plan.trace("u", {"k": "m"}, version=1)
    assert of.to_dict()["version"] == 1
    assert of.to_markdown().startswith("# u version 1: k = m\n")
    with pytest.raises(lp.StorageError, match="there is no version 7"):
        plan.trace("u", {"k": "m"}, version=7)
    with pytest.raises(lp.LazypipeError, match="output 'f' is one csv file, which has no versions"):
        plan.trace("f", {"k": "m"}, version=1)
    # the table that a version was made of is read as it was then
    table = (
        lp.pipeline("q", base=tmp_path).source("t", "t").stage("v", "t", do=[total]).output("v", "v").build().compile()
    )
    table.run().raise_for_status()
    plan.run().raise_for_status()
    assert table.trace("v", {"k": "m"}, version=1).is_current
    assert not table.trace("v", {"k": "m"}).is_current


def test_of_a_source_all_rows_of_a_key_are_found_whatever_becomes_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("who,x\nbob,1\neve,2\nbob,lots\n")
    (tmp_path / "b.csv").write_text("who,x\nbob,-5\n")
    (tmp_path / "c.csv").write_text("who,x\n" + "ann,7\n" * 30)
    contract = {"columns": {"who": "String", "x": "Int64"}, "on_type_change": "discard_row"}
    pipe = (
        lp.pipeline("p", base=tmp_path)
        .source("s", "?.csv", contract=contract, columns={"x": {"tags": ["pii"]}})
        .stage("t", "s", do=[{"filter": "x > 0"}])
        .output("t", "out/t")
        .build()
    )
    plan = pipe.compile()
    assert [(r["_lazypipe_row"], r["x"]) for r in plan.trace("t", {"who": "bob"}).sources["s"].rows.to_dicts()] == [  # type: ignore[union-attr]
        (0, 1)
    ]
    found = plan.trace("s", {"who": "bob"})  # before any run
    (of,) = found.sources.values()
    assert of.rows is not None
    assert of.rows.rows() == [
        (f"{tmp_path}/a.csv", 0, "bob", 1),
        (f"{tmp_path}/a.csv", 2, "bob", None),
        (f"{tmp_path}/b.csv", 0, "bob", -5),
    ]
    assert of.files == (f"{tmp_path}/a.csv", f"{tmp_path}/b.csv")
    assert (found.rows["x"].to_list(), found.exact, found.is_current, found.published) == (
        [1, None, -5],
        True,
        True,
        None,
    )
    (tmp_path / "p.yaml").write_text(pipe.to_yaml())
    assert main(["trace", str(tmp_path / "p.yaml"), "s", "--key", "who=ann"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:3] == ["# s: who = ann", "", "## s: 30 rows, 20 of them shown"]
    assert shown[6] == f"| {tmp_path}/c.csv | 0 | ann | *** |"
    assert shown[-2:] == [f"- {tmp_path}/c.csv", ""]
    for key, more, message in (
        ({"who": "joe"}, {}, "source 's': no row has this key"),
        ({}, {}, "source 's': a trace needs a key; give a column and its value"),
        ({"y": 1}, {}, "source 's' has no column 'y'; known columns: who, x"),
        ({"x": "many"}, {}, "source 's': 'many' is not a value of column 'x', which is Int64; write one of that type"),
        ({"who": "bob"}, {"version": 1}, "source 's' has no versions; leave out version and as_of"),
    ):
        with pytest.raises(lp.LazypipeError) as caught:
            plan.trace("s", key, **more)
        assert str(caught.value) == message


def test_columns_with_the_names_of_places(tmp_path: Path) -> None:
    """A quarantine that is read as a source has files of its own in its rows, and a file may have numbers of rows."""
    a = A.select("i", "v", _lazypipe_row=pl.col("i") + 40)
    gate = [{"between": {"column": "v", "max": 15, "action": "quarantine"}}]
    plan_of(tmp_path, [], a, gate=gate).run().raise_for_status()
    pipe = lp.pipeline("q", base=str(tmp_path)).source("s", "out/s__quarantine").source("f", "a-*.parquet")
    plan = pipe.stage("t", "s").output("t", "t").build().compile()
    plan.run().raise_for_status()
    for of in ("t", "s"):
        (traced,) = plan.trace(of, {"i": 2}).sources.values()
        assert traced.rows is not None
        ((file, number, *row),) = traced.rows.select(
            "_lazypipe_file_", "_lazypipe_row_", "i", "_lazypipe_row", "_lazypipe_file"
        ).rows()
        # a quarantine promises no order of its rows: the number is that of the row where it was written
        held = pl.read_parquet(file)
        assert (Path(file).parent.name, held["i"].to_list().index(2), row[:2]) == ("s__quarantine", number, [2, 42])
        assert Path(row[2]).name == "a-1.parquet"
        assert traced.files == (file,)
    (traced,) = plan.trace("f", {"i": 3}).sources.values()
    assert traced.rows is not None
    assert traced.rows.drop("_lazypipe_file").rows() == [(1, 3, None, 43)]


def spoilt(folder: Path, ending: str, **source: Any) -> tuple[lp.Plan, Path]:
    """Return a pipeline that has run over one file, and then found another that cannot be read."""
    contract = {"columns": {"id": "Int64", "v": "Int64"}}
    pipe = lp.pipeline("p", base=str(folder)).source("s", f"in/*.{ending}", contract=contract, **source)
    pipe = pipe.stage("o", "s", do=[{"filter": "v > 0"}]).output("o", "o").build()
    rows, good, bad = pl.DataFrame({"id": [1, 2], "v": [3, 4]}), folder / f"in/a.{ending}", folder / f"in/b.{ending}"
    good.parent.mkdir()
    if ending == "csv":
        rows.write_csv(good)
        bad.write_text("id,v\n2,x\n")
    else:
        rows.write_parquet(good)
        # its ends are as they should be
        held = good.read_bytes()
        middle = len(held) // 2
        bad.write_bytes(held[:middle] + bytes(40) + held[middle + 40 :])
    spoilt_, there = bad.read_bytes(), pipe.compile
    bad.unlink()
    there().run().raise_for_status()
    bad.write_bytes(spoilt_)
    return there(), bad


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, ending: str) -> None:
    plan, bad = spoilt(tmp_path, ending)
    for of in ("o", "s"):
        with pytest.raises(lp.SourceError) as told:
            plan.trace(of, {"id": 2})
        assert str(told.value).startswith(f"{bad}: source 's': is not readable as {ending}: ")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("how", ["skip", "quarantine_file"])
def test_a_file_that_a_run_leaves_out_is_left_out(tmp_path: Path, ending: str, how: str) -> None:
    plan, bad = spoilt(tmp_path, ending, on_corrupt=how)
    plan.run().raise_for_status()
    found = plan.trace("o", {"id": 2})
    assert (found.exact, found.is_current) == (True, True)
    of_source = plan.trace("s", {"id": 2})
    assert of_source.reasons == (f"{bad} cannot be read, and is left out",)
    for traced in (found.sources["s"], of_source.sources["s"]):
        assert traced.rows is not None
        assert traced.rows.drop("_lazypipe_file").rows() == [(1, 2, 4)]
    with pytest.raises(lp.LazypipeError) as told:
        plan.trace("s", {"id": 7})
    assert str(told.value) == f"source 's': no row has this key; {bad} cannot be read, and is left out"
    (tmp_path / f"in/a.{ending}").unlink()
    with pytest.raises(lp.LazypipeError, match="no row has this key"):
        plan.trace("s", {"id": 2})


def test_what_cannot_be_computed_now(tmp_path: Path) -> None:
    plan_of(tmp_path, []).run().raise_for_status()
    plan = plan_of(tmp_path, [{"cast": {"s": "Int64"}}])
    with pytest.raises(lp.RunError) as told:
        plan.trace("s", {"i": 0})
    assert str(told.value).startswith("'s' cannot be traced over what the sources hold now: ")
    assert str(told.value).endswith("; run the pipeline, which says where that is, and trace again")


def test_deliveries_that_are_not_whole_have_no_part_in_rows(tmp_path: Path) -> None:
    for day, whole in ((1, True), (2, False)):
        folder = tmp_path / f"in/day={day}"
        folder.mkdir(parents=True)
        pl.DataFrame({"k": ["a"], "v": [day]}).write_csv(folder / "a.csv")
        if whole:
            (folder / "_SUCCESS").touch()
    pipe = lp.pipeline("p", base=str(tmp_path)).source("s", "in", format="csv", expect={"marker": "_SUCCESS"})
    total = [{"aggregate": {"by": "k", "aggregate": {"s": "sum(v)"}}}]
    built = pipe.stage("o", "s", do=total).output("o", "o").build()
    built.compile().run().raise_for_status()
    plan = built.compile()
    found = plan.trace("o", {"k": "a"})
    assert (found.rows.rows(), found.is_current) == ([("a", 1)], True)
    assert found.sources["s"].rows is not None
    assert found.sources["s"].rows["v"].to_list() == [1]
    # whoever looks for all rows of somebody finds those, too
    of_source = plan.trace("s", {"k": "a"}).sources["s"].rows
    assert of_source is not None
    assert sorted(of_source["v"]) == [1, 2]
