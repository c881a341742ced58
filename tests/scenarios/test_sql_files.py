"""Queries in files of their own: part of the definition, told with their lines, and what they mean decides what is made anew."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.errors import DefinitionError
from lazypipe.records.body import text_hash

DEFINITION = """
version: 1
name: shop
params: {least: {type: integer, default: 1}}
sources: {orders: {uri: orders.csv}, names: {uri: names.csv}}
stages:
  totals:
    from: [orders, names]
    do:
      - sql: {file: models/totals.sql}
outputs: {totals: {to: out/totals}}
"""
QUERY = """-- what each day brings
SELECT o.day, sum(o.amount) AS total   /* over
  all orders */
FROM orders AS o
JOIN names AS n ON o.day = n.day
WHERE o.amount >= :least
GROUP BY o.day
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "orders.csv").write_text("day,amount\n1,5\n1,20\n2,30\n")
    (tmp_path / "names.csv").write_text("day,name\n1,one\n2,two\n")
    (tmp_path / "shop.yaml").write_text(DEFINITION)
    (tmp_path / "models/totals.sql").write_text(QUERY)
    return tmp_path


def test_a_query_in_a_file_runs_as_one_in_the_definition_does(shop: Path) -> None:
    pipe = lp.load(shop / "shop.yaml")
    assert pipe.compile().run().status == "done"
    assert sorted(lp.scan(str(shop / "out/totals")).collect().rows()) == [(1, 25), (2, 30)]
    inline = pipe.to_yaml().replace("file: models/totals.sql", f"query: {json.dumps(QUERY)}")
    same = lp.Pipeline.from_yaml(inline, base=shop)
    assert same.compile().fingerprints() == pipe.compile().fingerprints()
    assert [s.status for s in same.compile().run().segments] == ["unchanged"]


def test_what_it_means_decides_and_not_how_it_is_written(shop: Path) -> None:
    file = shop / "models/totals.sql"
    lp.load(shop / "shop.yaml").compile().run().raise_for_status()
    first = text_hash(lp.load(shop / "shop.yaml"))
    file.write_text(
        "\ufeff" + QUERY.replace("/* over\n  all orders */", "").replace("AS total", "as total"), encoding="utf-8"
    )
    plan = lp.load(shop / "shop.yaml").compile()
    assert text_hash(plan.pipeline) != first  # records tell apart what was written
    assert [s.status for s in plan.run().segments] == ["unchanged"]
    file.write_text(QUERY.replace("sum(o.amount)", "max(o.amount)"))
    (segment,) = lp.load(shop / "shop.yaml").compile().run().segments
    assert (segment.status, segment.rows) == ("done", 2)
    assert sorted(lp.scan(str(shop / "out/totals")).collect().rows()) == [(1, 20), (2, 30)]
    # and the record says which query that was
    report = lp.audit_report(lp.load(shop / "shop.yaml"), "totals")
    assert "max(o.amount)" in report.to_markdown()


def test_a_definition_is_written_as_it_was_and_read_as_it_is(shop: Path) -> None:
    pipe = lp.load(shop / "shop.yaml")
    for text, read in ((pipe.to_yaml(), lp.Pipeline.from_yaml), (pipe.to_json(), lp.Pipeline.from_json)):
        assert "models/totals.sql" in text
        assert "SELECT" not in text
        assert read(text, base=shop) == pipe
    built = lp.pipeline("shop", base=shop).param("least", "integer", default=1)
    built = built.source("orders", "orders.csv").source("names", "names.csv")
    built = built.stage("totals", ["orders", "names"], [{"sql": {"file": "models/totals.sql"}}]).output(
        "totals", "out/totals"
    )
    assert built.build() == pipe
    (shop / "models/totals.sql").unlink()
    assert pipe.compile().run().status == "done"  # it is read with the definition


@pytest.mark.parametrize(
    ("query", "line", "column", "what"),
    [
        (
            QUERY.replace("GROUP BY", "GRUOP BY"),
            7,
            1,
            "bad SQL: expected end of statement, found GRUOP",
        ),
        (
            QUERY.replace("sum(o.amount)", "sum(o.amuont)"),
            2,
            21,
            "bad SQL: no column named 'amuont' found in table 'o'",
        ),
        (QUERY.replace("names AS n", "nmaes AS n"), 5, 6, "unknown table 'nmaes'"),
        (QUERY.replace(":least", ":leest"), 6, 19, "unknown parameter :leest"),
        (QUERY.replace("/* over", "/* over /*"), 2, 40, "unclosed /* in SQL"),
        (
            "SELECT day\nFROM orders\nWHERE amount >\n",
            3,
            15,
            "bad SQL: expected an expression, found the end",
        ),
        ("DROP TABLE orders", 1, 1, "a sql operation must be one SELECT statement"),
    ],
)
def test_mistakes_are_told_with_their_place_in_the_file(
    shop: Path, query: str, line: int, column: int, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "models/totals.sql").write_text(query)
    assert main(["check", str(shop / "shop.yaml"), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    where = {"file": str(shop / "models/totals.sql"), "line": line, "column": column}
    assert (problem["what"], problem["where"]) == (what, where)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{file: models/gone.sql}", "10:15: cannot read {0}/models/gone.sql: No such file or directory"),
        ("{file: models}", "10:15: cannot read {0}/models: Is a directory"),
        ("{file: bytes.sql}", "10:15: cannot read {0}/bytes.sql: it is not UTF-8 text"),
        ("{file: empty.sql}", "10:15: {0}/empty.sql is empty"),
        ("{file: models/totals.sql, query: SELECT 1}", "10:40: sql has both a query and a file"),
        ("{}", "10:9: there is no query"),
    ],
)
def test_files_that_are_no_query_are_told(shop: Path, written: str, told: str) -> None:
    (shop / "bytes.sql").write_bytes(b"SELECT '\xff'")
    (shop / "empty.sql").write_text(" \n")
    (shop / "shop.yaml").write_text(DEFINITION.replace("{file: models/totals.sql}", written))
    with pytest.raises(DefinitionError) as caught:
        lp.load(shop / "shop.yaml").compile()
    assert str(caught.value).startswith(f"{shop}/shop.yaml:{told.format(shop)}; ")


def test_on_frames_and_below_other_places(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    (shop / "q.sql").write_text("SELECT a + 1 AS a FROM self")
    frame = pl.LazyFrame({"a": [1]})
    assert lp.apply({"sql": {"file": "q.sql"}}, frame).collect().rows() == [(2,)]
    with pytest.raises(DefinitionError, match="cannot read p.sql: No such file"):
        lp.apply({"sql": {"file": "p.sql"}}, frame)
    fsspec.filesystem("memory").pipe("/sqlfiles/models/q.sql", b"SELECT a + 2 AS a, b FROM x")
    source = {"uri": "x.csv", "contract": {"columns": {"a": "Int64"}}}
    stages = {"y": {"from": "x", "do": [{"sql": {"file": "models/q.sql"}}]}}
    data = {"version": 1, "name": "p", "sources": {"x": source}, "stages": stages, "outputs": {"y": {"to": "out"}}}
    with pytest.raises(DefinitionError) as caught:
        lp.Pipeline.from_dict(data, base="memory://sqlfiles").compile()
    assert str(caught.value).startswith("memory://sqlfiles/models/q.sql:1:20: unknown column 'b'")
    stages["y"]["do"] = [{"sql": {"file": "memory://sqlfiles/gone.sql"}}]
    with pytest.raises(DefinitionError, match=r"stages\.y\.do\[0\]\.sql\.file: cannot read memory://sqlfiles/gone.sql"):
        lp.Pipeline.from_dict(data)
