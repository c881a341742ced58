"""Small things of reading and rendering plans that whole queries do not reach."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.plan import reader
from lazypipe.plan.executed import Executed
from lazypipe.plan.graph import Lineage
from lazypipe.plan.lineage import ALL, Column, ColumnLineage, Flow
from lazypipe.plan.nodes import Named, PlanExpr, PlanNode
from lazypipe.plan.places import Place, RuleUse
from lazypipe.plan.reader import Capture, read_plan
from lazypipe.plan.steps import plan_lineage

c = pl.col


def text(expr: pl.Expr) -> str:
    frame = pl.LazyFrame(
        {
            "a": [1],
            "b": [2],
            "s": ["x"],
            "ok": [True],
            "f": [0.5],
            "d": [date(2024, 1, 1)],
            "r": [{"p q": 1}],
            "l": [[1]],
            "a b": [1],
        }
    )
    return plan_lineage(read_plan(frame.select(out=expr)), "out").texts["out"]


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (c("a") + c("b") * 2, "a + (b * 2)"),
        (c("a b") - 1, '"a b" - 1'),
        (c("s") == "it's", "s = 'it''s'"),
        (c("a").is_in([1, 2]), "a IN (1, 2)"),
        (c("a").is_in(list(range(30))), "a IN (" + ", ".join(map(str, range(20))) + ", … 30 values)"),
        (c("a").is_between(1, 5), "a BETWEEN 1 AND 5"),
        (~c("ok"), "NOT ok"),
        (-c("a"), "-a"),
        (c("a").is_null() | c("ok"), "(a IS NULL) OR ok"),
        (c("f").is_nan(), "f IS NAN"),
        (c("a").cast(pl.String), "CAST(a AS String)"),
        (pl.when(c("ok")).then(c("a")).otherwise(None), "CASE WHEN ok THEN a ELSE CAST(NULL AS Int64) END"),
        (c("a").mean().over("s", order_by="d"), "AVG(a) OVER (PARTITION BY s ORDER BY d)"),
        (c("a").sum().rolling("d", period="2d"), "SUM(a) OVER (ORDER BY d RANGE 2d)"),
        (c("a").filter(c("ok")).sum(), "SUM(a FILTER (WHERE ok))"),
        (c("a").sort_by("b").last(), "LAST(SORT(a ORDER BY b))"),
        (c("a").n_unique(), "COUNT(DISTINCT a)"),
        (c("a").quantile(0.25), "quantile(a, 0.25, nearest)"),
        (c("a").gather(0), "a[0]"),
        (c("a").sort(), "SORT(a)"),
        (c("r").struct.field("p q"), 'r."p q"'),
        (c("d").dt.truncate("1w"), "DATE_TRUNC(d, '1w')"),
        (c("d") >= date(2024, 1, 31), "d >= '2024-01-31'"),
        (c("ok") == pl.lit(value=True), "ok = TRUE"),
        (pl.lit(pl.Series([1, None])), "(1, NULL)"),
        (pl.lit(pl.Series([[1], [2]])), "((1), (2))"),
        (pl.any_horizontal("ok", c("a") > 1), "ok OR (a > 1)"),
        (c("l").list.first(), "list.get(l, 0)"),
        (pl.len(), "COUNT(*)"),
        (c("s").str.len_chars() ** 2, "pow(LENGTH(s), 2)"),
    ],
)  # fmt: skip
def test_expressions_read_like_sql(expr: pl.Expr, expected: str) -> None:
    assert text(expr) == expected


def test_long_texts_are_cut() -> None:
    wide = pl.LazyFrame({f"column_{i:03}": [1] for i in range(300)})
    found = plan_lineage(
        read_plan(wide.select(total=pl.sum_horizontal(pl.all())).with_columns(more=c("total") + 1)), "out"
    )
    assert found.texts["total"] == "total"
    assert found.texts["more"] == "total + 1"
    rows = plan_lineage(read_plan(wide.unique()), "out").dataset
    assert {len(said) for said in rows.values()} == {961}
    decided = plan_lineage(read_plan(wide.filter(pl.any_horizontal(pl.all() > 0))), "out").dataset
    assert max(len(said) for said in decided.values()) == 961


def test_an_alias_is_what_it_names() -> None:
    @dataclass
    class Column:
        name: str

    @dataclass
    class Alias:
        expr: int
        name: str

    views = {0: Column("a"), 1: Alias(0, "b"), 2: object()}
    assert reader._Exprs(views).get(1) == PlanExpr("column", "a")
    assert reader._Exprs(views).get(2) == PlanExpr("opaque")


@pytest.mark.parametrize("function", [("rechunk",), ("hint_sorted", "a")])
def test_what_changes_nothing_passes_everything(function: tuple[str, ...]) -> None:
    below = PlanNode("frame", ("a",))
    assert reader._map_function(function, ("a",), (below,)) == PlanNode("pass", ("a",), (below,))
    assert reader._map_function(("something new",), ("a",), (below,)).kind == "opaque"


def test_a_join_condition_decides_over_rows() -> None:
    @dataclass
    class Named:
        node: int

    @dataclass
    class Join:
        left_on: list[object]
        right_on: list[object]
        options: tuple[object, ...]
        predicate: Named

    @dataclass
    class Column:
        name: str

    left, right = (
        PlanNode("label", ("a",), options=(("name", "l"),)),
        PlanNode("label", ("b",), options=(("name", "r"),)),
    )
    view = Join([], [], ("Inner", False, None, "_right", False, "none"), Named(0))
    node = reader._join(view, ("a", "b"), (left, right), reader._Exprs({0: Column("b")}))
    assert {(str(e.source), e.subtype) for e in plan_lineage(node).edges if e.target.name == ALL} == {("r.b", "JOIN")}


def test_a_column_that_the_plan_does_not_show_may_be_any() -> None:
    frame = PlanNode("frame", ("a", "b"))
    node = PlanNode("select", ("x",), (frame,), (Named("x", PlanExpr("column", "elsewhere")),))
    assert {(e.source.name, e.opaque) for e in plan_lineage(node).edges} == {("a", True), ("b", True)}


def test_a_copy_is_read_once_and_then_let_go() -> None:
    capture = Capture()
    pl.LazyFrame({"a": [1]}).filter(c("a") > 0).collect(post_opt_callback=capture)  # type: ignore[call-overload]
    executed = Executed("out", capture)
    assert executed.plan is executed.plan
    assert executed.to_dict() == {
        "name": "out",
        "columns": ["a"],
        "edges": [
            {"source": ["frame", "a"], "target": ["out", "a"], "type": "DIRECT", "subtype": "IDENTITY", "masking": False, "opaque": False, "text": "a"},
            {"source": ["frame", "a"], "target": ["out", "*"], "type": "INDIRECT", "subtype": "FILTER", "masking": False, "opaque": False, "text": "a > 0"},
        ],
    }  # fmt: skip


def test_a_column_goes_before_a_rule_of_the_same_name() -> None:
    rule = RuleUse("s", "x", "drop", (Column("s", "y"),))
    lineage = ColumnLineage(
        "s", {"x": {}, "y": {Flow(Column("elsewhere", "z"), "IDENTITY"): ""}}, {}, {}, ("elsewhere",)
    )
    found = Lineage("p", (Place("s", "stage", ("x", "y"), lineage, rules=(rule,)),))
    assert list(found.downstream("s.x")) == []
    assert list(found.upstream("s.y")) == ["elsewhere.z"]
    assert found.composed("s").inputs == ("elsewhere",)
    assert found.impact("s").stages == ("s",)


def test_a_function_that_reads_a_file_of_its_own_says_so(tmp_path: object) -> None:
    pl.DataFrame({"k": [1], "w": [2]}).write_parquet(f"{tmp_path}/own.parquet")

    def joined(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.join(pl.scan_parquet(f"{tmp_path}/own.parquet"), on="k")

    pipe = lp.pipeline("p", base=str(tmp_path)).source("a", "a.csv", contract={"columns": {"k": "Int64"}})
    plan = (
        pipe.stage("s", "a", do=[lp_python(joined)])
        .stage("t", "s")
        .stage("unused", "s")
        .output("t", "out")
        .build()
        .compile()
    )
    assert f"{tmp_path}/own.parquet.w" in plan.lineage().upstream("t.w")
    assert plan.lineage(optimized=True).to_openlineage("t")["fields"]["w"]["inputFields"][0]["field"] == "w"
    assert plan.dead_columns() == {"unused": ("k", "w")}


def lp_python(function: object) -> object:
    from lazypipe import ops

    return ops.operation_class("python")(call=function)


def test_a_query_that_stops_early_is_the_same_plan_each_time() -> None:
    """Polars draws a number for what a sort tells the rows ahead of it, once its first rows are known."""
    first = pl.LazyFrame({"x": [3, 1, 2], "y": [1, 2, 3]}).sort("x").head(2)
    one, other = (plan_lineage(read_plan(first, optimized=True), "out") for _ in range(2))
    assert one == other
    assert one.dataset[Flow(Column("frame", "x"), "FILTER")] == "dynamic_pred(x)"
