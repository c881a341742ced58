"""The lineage of what really ran: read while it ran, in the words of the pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.plan import reader
from lazypipe.plan.lineage import ALL, Column, ColumnLineage
from lazypipe.plan.nodes import PlanNode
from lazypipe.plan.reader import Capture, read_plan
from lazypipe.plan.steps import plan_lineage
from lazypipe.spec.taps import label, tap
from lazypipe.storage.datasets.dataset import Dataset

TEXT = """
version: 1
name: shop
sources:
  orders:
    uri: orders.{format}
    columns: {{mail: {{tags: [pii]}}}}
    gate: [{{in_set: {{column: country, values: [DE, FR], action: quarantine}}}}]
  customers: {{uri: customers.parquet}}
stages:
  net:
    from: orders
    do:
      - filter: amount > 0
      - cast: {{columns: {{code: Int64}}, on_error: "null"}}
      - derive: {{net: amount / 2}}
      - join: {{with: customers, on: mail, how: left, validate: "m:1"}}
    gate: [{{unique: {{columns: id, action: quarantine}}}}, {{foreign_key: {{column: mail, references: {{to: customers}}, action: warn}}}}]
  total: {{from: net, do: [{{aggregate: {{by: [segment], aggregate: {{sum: sum(net)}}}}}}]}}
outputs:
  net: {{to: out/net}}
  total: {{to: out/total.csv, format: csv}}
"""
ORDERS = pl.DataFrame(
    {
        "id": [1, 2, 2, 4],
        "mail": ["a@b", "c@d", "a@b", "x@y"],
        "country": ["DE", "FR", "DE", "??"],
        "amount": [10.0, 20.0, 5.0, 7.0],
        "code": ["1", "x", "3", "4"],
        "spare": [1, 2, 3, 4],
    }
)


@pytest.fixture(params=["parquet", "csv", "ipc", "ndjson"])
def ran(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[lp.Plan, lp.RunResult]:
    getattr(ORDERS, f"write_{request.param}")(tmp_path / f"orders.{request.param}")
    pl.DataFrame({"mail": ["a@b", "c@d"], "segment": ["s", "t"]}).write_parquet(tmp_path / "customers.parquet")
    plan = lp.Pipeline.from_yaml(TEXT.format(format=request.param), base=str(tmp_path)).compile()
    result = plan.run()
    result.raise_for_status()
    return plan, result


def test_a_run_has_the_lineage_of_what_it_executed(ran: tuple[lp.Plan, lp.RunResult]) -> None:
    _, result = ran
    net, total = result.segments
    assert net.lineage is not None
    assert total.lineage is not None
    assert {d for d in net.lineage.inputs if d != "repeated keys"} == {"orders", "customers"}
    found = {(str(e.source), e.target.name, e.subtype) for e in net.lineage.edges if e.subtype != "IDENTITY"}
    assert {
        ("orders.amount", "net", "TRANSFORMATION"), ("orders.code", "code", "TRANSFORMATION"), ("orders.amount", ALL, "FILTER"),
        ("orders.country", ALL, "FILTER"), ("orders.mail", ALL, "JOIN"), ("customers.mail", ALL, "JOIN"), ("orders.id", ALL, "FILTER"),
    } <= found  # fmt: skip
    assert not any(e.opaque for e in (*net.lineage.edges, *total.lineage.edges))
    assert total.lineage.inputs == ("net",)
    assert [str(e) for e in total.lineage.edges] == [
        "net.segment → total.segment: IDENTITY segment",
        "net.net → total.sum: AGGREGATION SUM(net)",
        "net.segment → total.*: GROUP_BY segment",
    ]


def test_what_ran_and_what_was_compiled_agree_on_values(ran: tuple[lp.Plan, lp.RunResult]) -> None:
    plan, result = ran
    places = {p.name: p for p in plan.lineage().places}
    for segment in result.segments:
        assert segment.lineage is not None
        compiled = places[segment.lineage.name].lineage
        for column, flows in compiled.columns.items():
            ran_flows = segment.lineage.columns[column]
            assert {f.source for f in flows if f.direct} == {f.source for f in ran_flows if f.direct}


def test_tags_stand_in_every_commit(ran: tuple[lp.Plan, lp.RunResult]) -> None:
    plan, result = ran
    commit = Dataset(plan.outputs["net"].to).latest()
    aside = Dataset(plan.outputs["net"].to + "__quarantine").latest()
    assert commit is not None
    assert aside is not None
    assert commit.info["tags"] == aside.info["tags"] == {"mail": ["pii"]}
    assert "a@b" not in json.dumps(result.to_dict())


def test_a_dataset_hands_its_tags_to_the_next_pipeline(ran: tuple[lp.Plan, lp.RunResult]) -> None:
    plan, _ = ran
    pipe = lp.pipeline("next", base=plan.pipeline.base).source("net", "out/net", columns={"mail": {"tags": ["late"]}})
    following = (
        pipe.stage("who", "net", do=[{"select": {"hello": "'hi ' || mail"}}]).output("who", "out/who").build().compile()
    )
    assert following.tags("net") == {"mail": ("late", "pii")}
    assert following.tags("who") == {"hello": ("late", "pii")}
    assert following.masked("who") == {"hello"}


def test_personal_data_does_not_show_under_another_name(tmp_path: Path) -> None:
    ORDERS.write_parquet(tmp_path / "orders.parquet")
    pipe = lp.pipeline("p", base=str(tmp_path)).source("orders", "orders.parquet", columns={"mail": {"tags": ["pii"]}})
    gate = [{"regex": {"column": "contact", "pattern": "^a", "action": "warn"}}]
    pipe.stage("s", "orders", do=[{"select": {"contact": "lower(mail)"}}], gate=gate)
    result = pipe.output("s", "out").build().compile().run()
    (check,) = result.gates["s"].checks
    assert check.failed == 2
    assert check.samples == ({"contact": "***"}, {"contact": "***"})


def test_a_segment_that_did_not_run_has_no_lineage(tmp_path: Path) -> None:
    ORDERS.write_parquet(tmp_path / "orders.parquet")
    pipe = lp.pipeline("p", base=str(tmp_path)).source("orders", "orders.parquet", gate=[{"unique": "id"}])
    (segment,) = pipe.output("orders", "out").build().compile().run().segments
    assert segment.status == "gate_failed"
    assert segment.lineage is None


def test_a_tap_is_known_and_a_stranger_is_not() -> None:
    def kept(rows: pl.DataFrame) -> pl.DataFrame:
        return rows

    frame = pl.LazyFrame({"a": [1], "b": [2], "__m": [True]})
    ours = tap(frame, kept, schema=pl.Schema({"a": pl.Int64(), "b": pl.Int64()}), deciding=["__m"])
    assert [str(e) for e in plan_lineage(read_plan(ours), "out").edges] == [
        "frame.a → out.a: IDENTITY a",
        "frame.b → out.b: IDENTITY b",
        "frame.__m → out.*: FILTER __m",
    ]
    assert all(e.opaque for e in plan_lineage(read_plan(frame.map_batches(kept))).edges)
    # a function above ours is somebody else's
    assert [n.kind for n in read_plan(tap(frame, kept).map_batches(kept)).walk()] == ["frame", "tap", "opaque"]


def test_a_label_names_what_is_below_it() -> None:
    rows = pl.LazyFrame({"a": [1], "b": [2]}).with_columns(pl.col("a").cast(pl.String))
    found = plan_lineage(read_plan(label(rows, "orders").filter(pl.col("b") > 1).select("a"), optimized=True), "out")
    assert [str(e) for e in found.edges] == ["orders.a → out.a: IDENTITY a", "orders.b → out.*: FILTER b > 1"]


def test_another_version_of_the_traverser_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "VERSION", (99, 1))
    expected = rf"Polars {pl.__version__} shows its plans in version 16.0, and this lazypipe reads version 99.1; install the Polars"
    with pytest.raises(lp.LazypipeError, match=expected):
        read_plan(pl.LazyFrame({"a": [1]}))


def test_reading_along_never_stops_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reader, "VERSION", (99, 1))
    ORDERS.write_parquet(tmp_path / "orders.parquet")
    result = (
        lp.pipeline("p", base=str(tmp_path))
        .source("orders", "orders.parquet")
        .output("o", "out", from_="orders")
        .build()
        .compile()
        .run()
    )
    assert result.status == "done"
    with pytest.raises(lp.LazypipeError, match="shows its plans in version"):
        _ = result.segments[0].lineage


def test_what_goes_wrong_while_reading_is_told_when_asked() -> None:
    class Broken:
        def version(self) -> tuple[int, int]:
            return reader.VERSION

        def get_node(self) -> int:
            raise RuntimeError("no node")

    capture = Capture()
    capture(Broken())
    with pytest.raises(lp.LazypipeError, match="the query plan could not be read: RuntimeError: no node"):
        capture.plan()
    with pytest.raises(lp.LazypipeError, match="there is no query plan to read: the query did not begin"):
        Capture().plan()


def test_several_sinks_are_read_together(tmp_path: Path) -> None:
    frame = label(pl.LazyFrame({"a": [1, 2], "b": [3, 4]}), "t")
    sinks = [
        frame.select(x=pl.col("a") + 1).sink_parquet(tmp_path / "x.parquet", lazy=True),
        frame.filter(pl.col("b") > 3).select(y="a").sink_parquet(tmp_path / "y.parquet", lazy=True),
    ]
    together = pl.collect_all(sinks, lazy=True)
    assert together is not None
    for optimized in (False, True):
        _check_both(plan_lineage(read_plan(together, optimized=optimized), "out"))


def _check_both(found: ColumnLineage) -> None:
    assert {(str(e.source), e.target.name, e.subtype) for e in found.edges} == {
        ("t.a", "x", "TRANSFORMATION"), ("t.a", "y", "IDENTITY"), ("t.b", ALL, "FILTER")
    }  # fmt: skip


NODES = {
    "Cache", "DataFrameScan", "Distinct", "Filter", "GroupBy", "HConcat", "HStack", "Join", "MapFunction", "MergeSorted",
    "PythonScan", "Reduce", "Scan", "Select", "SimpleProjection", "Sink", "Slice", "Sort", "Union",
}  # fmt: skip


def test_every_node_and_expression_of_polars_is_known() -> None:
    from polars import _plr

    shown = {n for n in vars(_plr._ir_nodes) if not n.startswith("_")}
    assert shown == NODES
    values = {"GroupbyOptions", "RollingGroupOptions", "Operator", "PyExprIR", "WindowMapping"}
    functions = {n for n in vars(_plr._expr_nodes) if "Function" in n} - {"Function"}
    assert {n for n in vars(_plr._expr_nodes) if not n.startswith("_")} - values - functions == set(reader.EXPRESSIONS)


def test_files_are_named_as_the_plan_names_them(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1], "b": [2]})
    for part in ("k=1", "k=2"):
        (tmp_path / "hive" / part).mkdir(parents=True)
        frame.write_parquet(tmp_path / "hive" / part / "f.parquet")
    hive = pl.scan_parquet(tmp_path / "hive", hive_partitioning=True, row_index_name="n", include_file_paths="file")
    query = hive.filter(pl.col("k") == 1, pl.col("a") > 0).select("b", "n", "file")
    for optimized in (False, True):
        found = plan_lineage(read_plan(query, optimized=optimized), "out")
        name = (
            f"{tmp_path}/hive/k=1/f.parquet"
            if len(found.inputs[0]) > len(f"{tmp_path}/hive/*")
            else f"{tmp_path}/hive/*"
        )
        assert {(e.source, e.target.name, e.subtype) for e in found.edges} == {
            (Column(name, "b"), "b", "IDENTITY"), (Column(name, "k"), ALL, "FILTER"), (Column(name, "a"), ALL, "FILTER")
        }  # fmt: skip
    frame.write_ipc(tmp_path / "x.ipc")
    assert plan_lineage(read_plan(pl.scan_ipc(tmp_path / "x.ipc"))).inputs == ("frame",)
    missing = pl.scan_parquet(str(tmp_path / "none.parquet"), schema={"a": pl.Int64}).select(pl.col("a") * 2)
    assert plan_lineage(read_plan(missing, optimized=True)).inputs == (f"{tmp_path}/none.parquet",)


def test_python_scans_keep_their_predicates() -> None:
    from polars.io.plugins import register_io_source

    def rows(with_columns: Any, predicate: Any, n_rows: Any, batch_size: Any) -> Any:
        yield pl.DataFrame({"a": [1], "b": [2]})

    frame = register_io_source(rows, schema={"a": pl.Int64, "b": pl.Int64})
    found = plan_lineage(read_plan(frame.filter(pl.col("b") > 1).select("a"), optimized=True), "out")
    assert [str(e) for e in found.edges] == ["frame.a → out.a: IDENTITY a", "frame.b → out.*: FILTER b > 1"]
    assert plan_lineage(read_plan(frame)).inputs == ("frame",)


def test_pyarrow_conditions_may_read_anything(tmp_path: Path) -> None:
    import pyarrow.dataset as ds

    pl.DataFrame({"a": [1], "b": [2]}).write_parquet(tmp_path / "x.parquet")
    frame = pl.scan_pyarrow_dataset(ds.dataset(tmp_path / "x.parquet"))
    found = plan_lineage(read_plan(frame.filter(pl.col("b") > 1).select("a"), optimized=True), "out")
    assert Column("frame", "b") in {e.source for e in found.edges if e.target.name == ALL}


def test_plans_as_deep_as_polars_takes_are_read() -> None:
    frame = pl.LazyFrame({"a": [1]})
    expr = pl.col("a")
    for _ in range(1_500):
        expr = expr + 1
    assert plan_lineage(read_plan(frame.select(expr)), "out").reads == {Column("frame", "a")}
    for _ in range(300):
        frame = frame.with_columns(pl.col("a") + 1).filter(pl.col("a") > 0)
    found = plan_lineage(read_plan(frame), "out")
    assert found.reads == {Column("frame", "a")}
    assert max(len(e.text) for e in found.edges) < 2_000


def test_nodes_are_values() -> None:
    one, two = (read_plan(pl.LazyFrame({"a": [1]}).filter(pl.col("a") > 1)) for _ in range(2))
    assert one == two
    assert isinstance(one, PlanNode)
    assert hash(one) == hash(two)
