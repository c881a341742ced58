"""Queries that take first rows by an order, or group by columns: kept up to date by what is kept of each file, like a full run."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp
from tests import delivered

FIGURES = "with partial aggregates of s kept per file"

FOLDED = {
    "first": "SELECT k, v, id FROM a ORDER BY v DESC, k, id LIMIT 4",
    "offset": "SELECT * FROM self ORDER BY v NULLS FIRST, id DESC, k LIMIT 3 OFFSET 2 -- the next ones",
    "renamed": "SELECT v * 2 AS w, k AS g FROM self WHERE id % 3 > 0 ORDER BY w NULLS LAST, g LIMIT 5",
    "by a name": "WITH t AS (SELECT k, v FROM a) SELECT k, v FROM t ORDER BY k, v LIMIT 2",
    "all": "SELECT k, sum(v) AS s, count(*) AS n, count(v) AS c, min(v) AS lo, max(id) AS hi FROM a GROUP BY k",
    "computed": "SELECT k AS g, sum(v * 2 + id) AS s, k, k AS again FROM a WHERE v > 1 GROUP BY k",
    "nested": "SELECT g, max(w) AS m FROM (SELECT k AS g, v + 1 AS w FROM self WHERE v < 9) AS t GROUP BY g /* end */",
    "two": "SELECT k, v, count(*) AS n FROM self GROUP BY 1, 2",
    "none": "SELECT k, v FROM self GROUP BY k, v",
    "mean": "SELECT k, avg(v) AS m, avg(id * 2) AS w, avg(v > 1) AS b FROM a GROUP BY k",
    "more of a sum": "SELECT k, sum(v) + 1 AS s, coalesce(sum(v), -1) / count(*) AS r, max(v) - min(v) AS w FROM a GROUP BY k",
    "having": "SELECT k, sum(v) AS s FROM a GROUP BY k HAVING count(*) > 1 AND (s < 20 OR min(id) > 3 OR k = 'x')",
    "having a mean": "SELECT self.k AS g FROM self WHERE v > 0 GROUP BY self.k HAVING avg(v) > 1.5",
    "group by all": "SELECT k, sum(v) AS s, v + 1 AS w FROM a GROUP BY ALL",
    "distinct": "SELECT DISTINCT k, v FROM a WHERE id > 5",
    "distinct of all": "SELECT DISTINCT * FROM self",
    "distinct, computed": "SELECT DISTINCT coalesce(k, '?') AS g, v * 2 AS w FROM a",
    "distinct of others": "WITH t AS (SELECT k, v + 1 AS w FROM a) SELECT DISTINCT w, k FROM t",
    "computed groups": "SELECT v + 1 AS g, count(*) AS n FROM a GROUP BY v + 1",
    "groups by a name": "SELECT coalesce(k, 'none') AS g, v, avg(id) AS m FROM a GROUP BY g, v",
    "groups by number": "SELECT count(*) AS n, upper(k) || '!' AS g, upper(k) AS u FROM a GROUP BY 3, 2",
    "kinds": "SELECT k, CASE WHEN count(*) > 2 THEN 'many' ELSE upper(k) END AS s, sum(v)::VARCHAR AS t FROM a GROUP BY k",
    "no groups": "SELECT max(v) AS m, count(*) AS n, avg(id) AS a, sum(v) / 2 AS h FROM a WHERE id > 3",
    "just a mean": "SELECT avg(v) AS m FROM a",
    "a mean, not counted": "SELECT avg(v) AS m, min(k) AS k FROM a WHERE id > 3",
    "just counted": "SELECT count(*) AS n FROM a",
    "of few bits": "SELECT k, sum(CASE WHEN v > 1 THEN 1500000000 ELSE 1 END) AS s, sum(v > 1) AS b FROM a GROUP BY k",
}
OTHERS = {
    "ties": (
        "SELECT k, v FROM a ORDER BY v LIMIT 2",
        "full: s: sql can change any row (rows that tie have no order; order by k too)",
    ),
    "hidden order": ("SELECT k FROM a ORDER BY v, k LIMIT 2", "full: s: sql can change any row (LIMIT; it needs ORDER BY all columns that are selected, and no other)"),
    "computed order": ("SELECT k, v FROM a ORDER BY v + 1, k, v LIMIT 2", "full: s: sql can change any row (LIMIT; it needs ORDER BY all columns that are selected, and no other)"),
    "no order": ("SELECT k, v FROM a LIMIT 2", "full: s: sql can change any row (LIMIT; it needs ORDER BY all columns that are selected, and no other)"),
    "an order within": (
        "SELECT k, v FROM (SELECT k, v FROM a ORDER BY k, v) AS t LIMIT 2",
        "full: s: sql can change any row (LIMIT; it needs ORDER BY all columns that are selected, and no other)",
    ),
    "first of distinct": ("SELECT DISTINCT k FROM a ORDER BY k LIMIT 2", "full: s: sql can change any row (LIMIT; it needs ORDER BY all columns that are selected, and no other)"),
    "first of first": (
        "SELECT k FROM (SELECT k FROM a LIMIT 9) AS t ORDER BY k LIMIT 2",
        "full: s: sql can change any row (LIMIT; it needs ORDER BY all columns that are selected, and no other)",
    ),
    "first of groups": (
        "SELECT k, sum(v) AS s FROM a GROUP BY k ORDER BY k, s LIMIT 2",
        "full: s: sql can change any row (LIMIT; it needs ORDER BY all columns that are selected, and no other)",
    ),
    "a misleading name": ("SELECT k, v AS offset FROM a ORDER BY offset, k LIMIT 3", "full: s: sql can change any row (LIMIT; it needs ORDER BY all columns that are selected, and no other)"),
    "counted once": ("SELECT k, count(DISTINCT v) AS n FROM a GROUP BY k", "groups by k that they touch, from the files that hold rows of these groups"),
    "groups not told": ("SELECT sum(v) AS s FROM a GROUP BY k", "it does not give k unchanged, which it groups by"),
    "groups of groups": (
        "SELECT k, sum(s) AS s FROM (SELECT k, v, max(id) AS s FROM a GROUP BY k, v) AS t GROUP BY k",
        "from the files that hold rows of these groups",
    ),
    "single precision": ("SELECT k, avg(v::REAL) AS m FROM a GROUP BY k", "from the files that hold rows of these groups"),
    "a name without as": ("SELECT k, count(*) n FROM a GROUP BY k", "from the files that hold rows of these groups"),
    "distinct groups": ("SELECT DISTINCT sum(v) AS s FROM a GROUP BY k", "(DISTINCT by other columns)"),
    "distinct on": ("SELECT DISTINCT ON (k) k, v FROM a", "from the files that hold rows of these groups"),
    "a windowed figure": ("SELECT k, sum(v) AS s, rank() OVER (ORDER BY sum(v)) AS r FROM a GROUP BY k", "full: s: sql can change any row"),
    "a computed group that is hidden": ("SELECT count(*) AS n FROM a GROUP BY v + 1", "GROUP BY without an unchanged column"),
    "text that adds up": ("SELECT k, string_agg(k, ',') AS s FROM a GROUP BY k", "from the files that hold rows of these groups"),
    "groups of first": ("SELECT k, sum(v) AS s FROM (SELECT * FROM a LIMIT 5) AS t GROUP BY k", "(LIMIT; it needs ORDER BY all columns that are selected, and no other)"),
}  # fmt: skip


def plan_of(base: Path, query: str, *, ahead: bool = False, gate: bool = False) -> lp.Plan:
    do = [{"filter": "id >= 0"}] if ahead else []
    rules = [{"between": {"column": "id", "max": 90, "action": "quarantine"}}] if gate else []
    text = query.replace("FROM a", "FROM self") if ahead else query
    pipe = lp.pipeline("p", base=str(base), audit="off").source("a", "in/*.parquet", gate=rules)
    return pipe.stage("s", "a", do=[*do, {"sql": text}]).output("s", "s").build().compile()


def put(base: Path, name: str, rows: list[tuple[str | None, int | None, int]], stamp: int) -> None:
    frame = pl.DataFrame(rows, schema={"k": pl.String, "v": pl.Int64, "id": pl.Int64}, orient="row")
    delivered.put(base / "in" / f"{name}.parquet", frame, delivered.CLOCK + stamp)


@pytest.mark.parametrize("query", FOLDED.values(), ids=FOLDED)
def test_it_is_a_full_run_after_each_delivery(tmp_path: Path, query: str) -> None:
    draw = random.Random(query)
    ahead, gate = draw.random() < 0.5, draw.random() < 0.5

    def rows() -> list[tuple[str | None, int | None, int]]:
        keys, values = ["x", "y", "z", None], [None, 1, 2, 9]
        return [(draw.choice(keys), draw.choice(values), draw.randrange(100)) for _ in range(draw.randrange(8))]

    put(tmp_path, "a", [("x", 1, 1), (None, None, 2), ("y", 9, 3)], 0)
    put(tmp_path, "b", rows(), 0)
    assert FIGURES in str(plan_of(tmp_path, query, ahead=ahead).explain_incremental())
    for step in range(7):
        plan = plan_of(tmp_path, query, ahead=ahead, gate=gate)
        plan.run(max_files=1 if step == 3 else None).raise_for_status()
        while step == 3 and plan.run(max_files=1).segments[-1].left:
            pass
        found, expected = lp.scan(str(tmp_path / "s")).collect(), plan.frames["s"].collect()
        assert found.schema == expected.schema
        assert Counter(found.rows()) == Counter(expected.rows())
        if "ORDER" in query:
            assert found.rows() == expected.rows()
        match draw.choice(["add", "modify", "remove", "rename"]) if step else "add":
            case "add":
                put(tmp_path, f"c{step}", rows(), step)
            case "modify":
                put(tmp_path, "a", rows(), step)
            case "remove" if (tmp_path / "in/b.parquet").exists():
                (tmp_path / "in/b.parquet").unlink()
            case _:
                os.rename(tmp_path / "in/a.parquet", tmp_path / "in/z.parquet")
                put(tmp_path, "a", rows(), step)


@pytest.mark.parametrize(("query", "expected"), OTHERS.values(), ids=OTHERS)
def test_other_queries_are_as_they_were(tmp_path: Path, query: str, expected: str) -> None:
    put(tmp_path, "a", [("x", 1, 1), ("y", 9, 3)], 0)
    plan = plan_of(tmp_path, query)
    assert expected in str(plan.explain_incremental())
    assert FIGURES not in str(plan.explain_incremental())


def test_one_file_more_is_all_that_is_read(tmp_path: Path) -> None:
    query = FOLDED["all"]
    for number in range(4):
        put(tmp_path, f"f{number}", [(f"k{number}", 1, 1), ("x", number, 2)], 0)
    plan_of(tmp_path, query).run().raise_for_status()
    for number in range(4):
        delivered.spoil(tmp_path / f"in/f{number}.parquet")  # whoever reads it again will fail
    put(tmp_path, "g", [("x", 5, 9)], 1)
    columns = {"columns": {"k": "String", "v": "Int64", "id": "Int64"}}
    pipe = lp.pipeline("p", base=str(tmp_path), audit="off").source("a", "in/*.parquet", contract=columns)
    pipe.stage("s", "a", do=[{"sql": query}]).output("s", "s").build().compile().run().raise_for_status()
    found = dict(lp.scan(str(tmp_path / "s")).select("k", "s").collect().iter_rows())
    assert found == {"k0": 1, "k1": 1, "k2": 1, "k3": 1, "x": 11}
