"""sql and python: whole queries and functions, which may do only what they are allowed."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import DefinitionError

T = pl.LazyFrame({"k": [1, 2, None], "v": ["a", "b", "c"]})
U = pl.LazyFrame({"k": [1, 1, 3], "w": [0.5, 1.5, 2.5]})


def refused(step: dict[str, Any], **more: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        lp.apply(step, T, **more)
    return str(caught.value)


class TestSql:
    def test_reads_its_inputs_by_name_and_the_frame_as_self(self) -> None:
        query = """
            WITH sums AS (SELECT k, sum(w) AS w FROM other GROUP BY k)
            SELECT s.v, sums.w FROM self s LEFT JOIN sums ON s.k = sums.k -- the comment; stays out
            ORDER BY s.v DESC LIMIT :most;
        """
        result = lp.apply({"sql": query}, T, other=U, params={"most": 2}).collect()
        assert result.rows(named=True) == [{"v": "c", "w": None}, {"v": "b", "w": None}]
        assert lp.apply({"sql": "SELECT v FROM self WHERE k = 1"}, T).collect().rows() == [("a",)]

    def test_sees_the_types_of_its_inputs(self) -> None:
        data = pl.LazyFrame({"d": ["2013-01-31 12:30:00"]}).select(pl.col("d").str.to_datetime())
        result = lp.apply({"sql": "SELECT date_trunc('month', d) AS m FROM self"}, data).collect()
        assert str(result["m"][0]) == "2013-01-01 00:00:00"

    @pytest.mark.parametrize(
        "query",
        [
            *["DROP TABLE self", "TRUNCATE self", "DELETE FROM self", "SHOW TABLES", "EXPLAIN SELECT 1", " ; "],
            *["CREATE TABLE x AS SELECT 1", "UPDATE self SET k = 1", "-- SELECT\nDROP TABLE self"],
            "/* SELECT */ INSERT INTO self VALUES (1)",
        ],
    )
    def test_takes_only_a_select(self, query: str) -> None:
        assert (
            refused({"sql": query}) == "sql: a sql operation must be one SELECT statement; start it with SELECT or WITH"
        )

    def test_nothing_is_no_query(self) -> None:
        told = "sql: there is no query; write a SELECT statement, or the file with it: sql: {file: a.sql}"
        assert refused({"sql": ""}) == told

    @pytest.mark.parametrize(
        "query",
        [
            "SELECT 1; SELECT 2",
            "SELECT 1; DROP TABLE self",
            "WITH x AS (SELECT 1) DELETE FROM self",
            "SELECT * INTO x FROM self",
        ],
    )
    def test_takes_only_one(self, query: str) -> None:
        assert refused({"sql": query}).startswith("sql: ")
        assert lp.apply({"sql": "SELECT k FROM self"}, T).collect().height == 3

    def test_says_the_nearest_name(self) -> None:
        assert refused({"sql": "SELECT * FROM othr"}, other=U).startswith(
            "sql: unknown table 'othr'; did you mean 'other'?; "
        )
        assert refused({"sql": "SELECT vv FROM self"}) == "sql: unknown column 'vv'; did you mean 'v'?"
        assert (
            refused({"sql": "SELECT :n"}, params={"m": 1})
            == "sql: unknown parameter :n; known parameters: m; or declare it: params: {n: …}"
        )
        assert refused({"sql": "SELECT (1"}).startswith("sql: bad SQL: ")

    @pytest.mark.parametrize(
        ("query", "told"),
        [
            (
                "SELECT v FROM self WHERE v > 1",
                "String cannot be compared with Int32; cast one of them, as in x::double or x::text",
            ),
            (
                "SELECT v FROM self WHERE k BETWEEN '1' AND '3'",
                "String cannot be compared with Int64; cast one of them, as in x::double or x::text",
            ),
            ("SELECT upper(k) AS u FROM self", "'k' is Int64, and String is needed; cast it, as in k::text"),
            ("SELECT abs(v) AS a FROM self", "abs is not possible for String; cast it first, as in x::double"),
            (
                "SELECT CASE WHEN k THEN 1 END AS c FROM self",
                "'k' is Int64, and Boolean is needed; cast it, as in k::boolean",
            ),
            (
                "WITH t AS (SELECT other.w FROM self JOIN other USING (k)) SELECT date(w) AS d FROM t",
                "'w' is Float64, and String is needed; cast it, as in w::text",
            ),
        ],
    )
    def test_types_that_do_not_go_together_are_mistakes_in_the_definition(self, query: str, told: str) -> None:
        assert refused({"sql": query}, other=U) == f"sql: {told}"

    @pytest.mark.parametrize(
        ("query", "rows"),
        [
            ("SELECT (SELECT w FROM other WHERE k = 3) AS w FROM self WHERE k = 1", [(2.5,)]),
            ("SELECT v FROM self WHERE k = (SELECT max(k) - 1 FROM other)", [("b",)]),
            ("SELECT strptime(v, '%Y') AS d FROM self WHERE v = 'x'", []),
            ("SELECT first(v) AS f, median(k) AS m FROM self", [("a", 1.5)]),
        ],
    )
    def test_what_no_rows_do_not_have_is_no_mistake(self, query: str, rows: list[Any]) -> None:
        assert lp.apply({"sql": query}, T, other=U).collect().rows() == rows

    @pytest.mark.parametrize(
        "query",
        [
            *["SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM \"READ_parquet\" ('x')"],
            *["SELECT * FROM self, Scan_X/**/('x')", "WITH t AS (SELECT * FROM read_ndjson('x')) SELECT * FROM t"],
        ],
    )
    def test_reads_no_file(self, query: str) -> None:
        assert "would read a file unseen by the plan; declare it as a source" in refused({"sql": query})


def keep(frame: pl.LazyFrame, *, least: int = 1) -> pl.LazyFrame:
    return frame.filter(pl.col("k") >= least)


def with_other(frame: pl.LazyFrame, other: pl.LazyFrame) -> pl.LazyFrame:
    return frame.join(other, on="k")


def fails(frame: pl.LazyFrame) -> pl.LazyFrame:
    raise ZeroDivisionError("on purpose")


def eager(frame: pl.LazyFrame) -> Any:
    return frame.collect()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> str:
    made = types.ModuleType("allowed_functions")
    for function in (keep, with_other, fails, eager):
        setattr(made, function.__name__, function)
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made.__name__


class TestPython:
    def test_calls_a_function_of_an_allowed_module(self, module: str) -> None:
        step = {"python": {"call": f"{module}:keep", "arguments": {"least": 2}}}
        assert lp.apply(step, T, allow=[module]).collect().rows() == [(2, "b")]
        assert lp.apply(step, T, allow=module).collect().rows() == [(2, "b")], "one module, and not its letters"
        step = {"python": {"call": f"{module}:with_other", "with": ["other"]}}
        assert sorted(lp.apply(step, T, allow=[module], other=U).collect().rows()) == [(1, "a", 0.5), (1, "a", 1.5)]
        assert lp.apply({"python": keep}, T).collect().height == 2, "from Python, a function itself"

    @pytest.mark.parametrize("allow", [[], ["sys"], ["allowed"], ["allowed_functions.sub"]])
    def test_imports_nothing_else(self, module: str, allow: list[str]) -> None:
        message = (
            f"python: module '{module}' is not allowed; allow it: --allow {module}, or allow=['{module}'] in Python"
        )
        assert refused({"python": f"{module}:keep"}, allow=allow) == message

    def test_imports_nothing_that_is_not_allowed(self) -> None:
        assert "lazypipe_nowhere" not in sys.modules
        assert "is not allowed" in refused({"python": "lazypipe_nowhere:f"})

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            ("allowed_functions:fails", "failed: ZeroDivisionError: on purpose; it must take and return LazyFrames"),
            ("allowed_functions:eager", "allowed_functions:eager returned a DataFrame; return a LazyFrame"),
            ("allowed_functions:kep", "module 'allowed_functions' has no function 'kep'; did you mean 'keep'?"),
            ("allowed_functions:with_other", "failed: TypeError: with_other() missing 1 required positional argument"),
            ("allowed_functions", "'allowed_functions' does not name a function; write module:function"),
            ("lazypipe_nowhere:f", "cannot import 'lazypipe_nowhere': ModuleNotFoundError: No module named"),
            (
                "broken_module:f",
                "cannot import 'broken_module': RuntimeError: while importing; check that it is installed, or that its folder is in PYTHONPATH",
            ),
        ],
    )
    def test_says_what_went_wrong(self, module: str, tmp_path: Any, monkeypatch: Any, call: str, message: str) -> None:
        (tmp_path / "broken_module.py").write_text("raise RuntimeError('while importing')")
        monkeypatch.syspath_prepend(tmp_path)
        assert message in refused({"python": call}, allow=[module, "lazypipe_nowhere", "broken_module"])

    @pytest.mark.parametrize(
        ("gives", "message"),
        [
            (
                lambda rows: pl.LazyFrame([{**row, "x": row["n"]} for row in rows]),
                "gives g (String), n (Int64), x (Int64), but not when it was called without rows",
            ),
            (
                lambda rows: pl.LazyFrame({"n": rows[0]["n"]} if rows else {"n": [0.5], "z": 1}),
                "gives n (Int64) and does not give z, but not when it was called without rows",
            ),
            (lambda rows: pl.LazyFrame({"n": [1]} if rows else {"n": [1], "z": 1}), "does not give z, but not when"),
            (lambda rows: pl.LazyFrame({"n": [1 // (2 - len(rows))]}), "failed: ZeroDivisionError: "),
            (lambda rows: pl.LazyFrame(rows, {"g": pl.String, "n": pl.Int64}), None),
        ],
    )
    def test_columns_that_hang_on_rows_are_refused(self, tmp_path: Path, gives: Any, message: str | None) -> None:
        """What was learnt of no rows is what files are read by; such a dataset could be written, and not be read."""
        (tmp_path / "a.csv").write_text("g,n\na,1\nb,2\n")

        def collects(frame: pl.LazyFrame) -> pl.LazyFrame:
            return gives(frame.collect().rows(named=True))  # type: ignore[no-any-return]

        pipe = lp.pipeline("p", base=tmp_path).source("s", "a.csv").stage("t", "s", do=[{"python": collects}])
        plan = pipe.output("t", "out").build().compile()
        result = plan.run()
        if message is None:
            assert lp.scan(tmp_path / "out").collect().rows() == [("a", 1), ("b", 2)]
            return
        (segment,) = result.segments
        assert result.status == "error"
        assert str(segment.error).startswith("stage 't': <function ")
        assert message in str(segment.error)
        if "failed" not in message:
            assert str(segment.error).endswith(
                "; make its columns independent of the rows: work on the LazyFrame, or give frames made from rows a schema"
            )
        assert not (tmp_path / "out.commits").exists()
        with pytest.raises(lp.RunError, match="stage 't': <function "):
            plan.frames["t"]

    def test_of_a_function_that_fails_over_rows_the_place_is_told(
        self, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a.csv").write_text("g,n\na,1\n")
        (tmp_path / "reads_rows.py").write_text(
            "def first(frame): return frame.limit(1 // (1 - frame.collect().height))"
        )
        monkeypatch.syspath_prepend(tmp_path)
        text = "version: 1\nname: p\nsources: {s: {uri: a.csv}}\nstages:\n  t:\n    from: s\n    do:\n      - python: reads_rows:first\n"
        (tmp_path / "p.yaml").write_text(text + "outputs: {t: {to: out}}\n")
        (segment,) = lp.load(tmp_path / "p.yaml").compile(allow=["reads_rows"]).run().segments
        assert str(segment.error) == (
            f"{tmp_path}/p.yaml:8:9: stage 't': reads_rows:first failed: ZeroDivisionError: integer division or modulo by zero; "
            "it must take and return LazyFrames, and read no data"
        )
