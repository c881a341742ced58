"""What plans say of queries that group: equal for texts that mean the same, and nothing of other kinds."""

from __future__ import annotations

import polars as pl
import pytest

from lazypipe.compile.changes.added_up import Grouped, grouped
from lazypipe.plan.reader import read_plan
from lazypipe.sql.query import query

ROWS = pl.LazyFrame(schema={"k": pl.String, "v": pl.Int64, "w": pl.Int64})


def found(text: str) -> Grouped | None:
    return grouped(read_plan(query(text, {"t": ROWS}), exact=True))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (
            "SELECT upper(k) AS g, sum(v) / count(*) AS m FROM t GROUP BY g",
            "SELECT g, s / n AS m FROM (SELECT upper(k) AS g, sum(v) AS s, count(*) AS n FROM t GROUP BY upper(k)) AS u",
            True,
        ),
        ("SELECT DISTINCT k FROM t", "SELECT k FROM t GROUP BY k", True),
        ("SELECT max(v) AS m FROM t", "SELECT m FROM (SELECT max(v) AS m FROM t) AS u", True),
        (
            "SELECT k FROM t GROUP BY k HAVING k = 'x'",
            "SELECT k FROM (SELECT k FROM t GROUP BY k) AS u WHERE k = 'x'",
            True,
        ),
        ("SELECT k, max(v) AS m FROM t GROUP BY k", "SELECT k, max(w) AS m FROM t GROUP BY k", False),
        ("SELECT k, max(v) AS m FROM t GROUP BY k", "SELECT k, max(v) AS m FROM t WHERE v > 0 GROUP BY k", False),
        ("SELECT k FROM t GROUP BY k HAVING count(*) > 1", "SELECT k FROM t GROUP BY k HAVING count(*) > 2", False),
        ("SELECT k, max(v) AS m FROM t GROUP BY k", "SELECT k, max(v) AS m FROM t GROUP BY k, w", False),
        ("SELECT k, max(v) AS m FROM t GROUP BY k", "SELECT k, max(v) + 0 AS m FROM t GROUP BY k", False),
    ],
)
def test_queries_that_make_the_same_of_groups(one: str, other: str, same: bool) -> None:
    assert found(one) is not None
    assert (found(one) == found(other)) is same


@pytest.mark.parametrize(
    "query",
    [
        "SELECT k FROM t",
        "SELECT k, max(v) AS m FROM t GROUP BY k ORDER BY m LIMIT 1",
        "SELECT k, max(m) AS m FROM (SELECT k, w, max(v) AS m FROM t GROUP BY k, w) AS u GROUP BY k",
        "SELECT DISTINCT ON (k) k, v FROM t",
    ],
)
def test_other_kinds_of_queries(query: str) -> None:
    assert found(query) is None


def test_what_is_not_a_matter_of_figures_alone() -> None:
    ranked = found("SELECT k, rank() OVER (ORDER BY sum(v)) AS r FROM t GROUP BY k")
    figures = found("SELECT k, sum(v) AS s FROM t GROUP BY k")
    more = found("SELECT k, sum(v) + 1 AS s, max(v) AS m FROM t GROUP BY k HAVING sum(v) > 3")
    assert ranked is not None
    assert figures is not None
    assert more is not None
    made = [*figures.columns.values()]
    assert not ranked.is_made_of(made)
    assert not more.is_made_of(made)
    assert more.is_made_of([*made, more.columns["m"]])
    # rows that are made of others are not looked through
    within = found("SELECT k, max(r) AS m FROM (SELECT k, sum(v) OVER (PARTITION BY k) AS r FROM t) AS u GROUP BY k")
    assert within is not None
    assert (within.rows.kind, within.rows.columns) == ("select", ("k", "r"))
