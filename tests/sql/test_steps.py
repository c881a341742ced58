"""SQL text in steps: guesses, whose plans decide; here only what is guessed, and of which texts nothing is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lazypipe.sql.steps import Call, calls, steps


@pytest.mark.parametrize(
    ("text", "rest", "found"),
    [
        ("count(*)", '"f"', {"f": Call("count", "*")}),
        ("Sum ( a -- of all\n + 1)", '"f"', {"f": Call("sum", "a + 1")}),
        ("sum(a) / sum(a)", '"f_0" / "f_0"', {"f_0": Call("sum", "a")}),
        (
            "CASE WHEN max(a || b) >= 'sum(x)' THEN min(f(a, 1)) END",
            'CASE WHEN "f_0" >= \'sum(x)\' THEN "f_1" END',
            {"f_0": Call("max", "a || b"), "f_1": Call("min", "f ( a , 1 )")},
        ),
        ('"sum" + avg(a)', '"sum" + "f_0"', {"f_0": Call("avg", "a")}),
    ],
)
def test_calls_give_way_to_columns(text: str, rest: str, found: dict[str, Call]) -> None:
    assert calls(text, "f") == (rest, found)


@pytest.mark.parametrize(
    "text",
    [
        "a + 1", "median(a)", "count()", "count(DISTINCT a)", "sum(ALL a)", "sum(a) OVER ()", "sum(a) FILTER (WHERE b)", "max(a, b)",
        "t.sum(a)", "sum(a",
    ],
)  # fmt: skip
def test_other_texts_have_none(text: str) -> None:
    assert calls(text, "f") is None


@pytest.mark.parametrize(
    ("query", "names", "by", "result"),
    [
        ("SELECT k, 1 AS one FROM t GROUP BY k", ["k", "one"], ("k",), 'SELECT "k" AS "k", 1 AS "one" FROM self'),
        ("SELECT t.k, sum(v) FROM t GROUP BY t.k", ["k", "v"], ("k",), 'SELECT "k" AS "k", "v" AS "v" FROM self'),
        (
            "SELECT k AS g, k || t.k AS w FROM t GROUP BY g",
            ["g", "w"],
            ("g",),
            'SELECT "g" AS "g", "g" || t . k AS "w" FROM self',
        ),
        (
            "WITH s AS (SELECT k FROM t) SELECT count(*) AS n, k FROM s GROUP BY 2 HAVING n > 1",
            ["n", "k"],
            ("k",),
            'SELECT "n" AS "n", "k" AS "k" FROM self WHERE ( "n" ) > 1',
        ),
        ("SELECT avg(v) AS m FROM t", ["m"], (), 'SELECT "__lazypipe_figure_0" AS "m" FROM self'),
        ('SELECT DISTINCT k AS "a""b" FROM t', ['a"b'], ('a"b',), 'SELECT "a""b" FROM self'),
    ],
)
def test_queries_in_steps(query: str, names: Sequence[str], by: tuple[str, ...], result: str) -> None:
    found = steps(query, names)
    assert found is not None
    assert (found.by, found.result) == (by, result)


@pytest.mark.parametrize(
    "query",
    [
        "FROM t",  # nothing is selected
        "SELECT 1 AS a",  # from nothing
        "SELECT a FROM t GROUP BY a ORDER BY a",
        "SELECT a FROM t GROUP BY a UNION ALL SELECT a FROM s",
        "SELECT DISTINCT ON (b) a FROM t",
        "SELECT DISTINCT a FROM t GROUP BY a",
        "SELECT * FROM t GROUP BY ALL",
        "SELECT count(*) AS a FROM t GROUP BY b",  # its group is not told
        "SELECT a FROM t GROUP BY",
        "SELECT a FROM t GROUP BY 2",
        "SELECT sum(a FROM t",
        "SELECT median(a) AS a, sum(a, b) AS b FROM t",
        "SELECT a FROM t WHERE b = 'open",
    ],
)
def test_other_queries_have_no_steps(query: str) -> None:
    names = ["a", "b"] if "AS b" in query else ["a", "b", "c"] if "*" in query and "count" not in query else ["a"]
    assert steps(query, names) is None
