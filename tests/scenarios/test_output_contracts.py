"""Contracts of outputs: a stage that changes under a dataset, in every way that a contract names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp

MODES = ["fail", "evolve", "freeze", "discard_column", "discard_row"]
FIRST = pl.DataFrame({"x": [1, 2], "t": ["a", "b"]})


class World:
    """A pipeline that copies a file to a dataset, of which the file's columns and the contract change."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def pipe(self, frame: pl.DataFrame, contract: dict[str, Any], **output: Any) -> lp.Pipeline:
        frame.write_parquet(self.base / "a.parquet")
        given = {"contract": contract} if contract else {}
        return (
            lp.pipeline("p", base=str(self.base))
            .source("a", "a.parquet", on_modified="reprocess")
            .stage("b", "a", do=[{"select": frame.columns}], gate=output.pop("gate", []))
            .output("b", "out", **given, **output)
            .build()
        )

    def run(self, frame: pl.DataFrame, contract: dict[str, Any], **output: Any) -> pl.DataFrame:
        """Run, and return what was published; a compiled frame and its schema agree with it."""
        plan = self.pipe(frame, contract, **output).compile()
        self.result = plan.run()
        self.result.raise_for_status()
        out = self.out()
        assert dict(out.schema) == dict(plan.schema("b"))
        assert dict(plan.frames["b"].collect_schema()) == dict(plan.schema("b"))
        report = self.result.gates.get("b")
        if report is not None:
            assert report.good + report.quarantined + report.dropped == report.rows == frame.height
        return out

    def out(self) -> pl.DataFrame:
        return lp.scan(str(self.base / "out")).collect().sort(pl.all(), nulls_last=True)

    def quarantine(self) -> pl.DataFrame:
        return lp.scan(str(self.base / "out__quarantine")).collect().sort("x", "t", nulls_last=True)

    def refusal(self, frame: pl.DataFrame, contract: dict[str, Any], **output: Any) -> str:
        with pytest.raises(lp.DefinitionError) as caught:
            self.pipe(frame, contract, **output).compile()
        return str(caught.value)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Version 1 of the dataset is there, with ``FIRST``."""
    made = World(tmp_path)
    made.run(FIRST, {})
    return made


# columns that come


NEW = FIRST.with_columns(n=pl.Series([None, 7]))


def test_a_new_column(world: World) -> None:
    refusal = (
        "outputs.b.contract.on_new_column: 'b' has a column 'n' that the previous commit lacks; "
        "select others in a stage, or say on_new_column: evolve or discard_column"
    )
    assert world.refusal(NEW, {"on_new_column": "fail"}) == refusal
    assert world.refusal(NEW, {"on_new_column": "freeze"}) == refusal
    assert world.out().equals(FIRST)
    assert world.run(NEW, {"on_new_column": "discard_column"}).equals(FIRST)
    assert world.run(NEW, {"on_new_column": "discard_row"}).equals(FIRST.head(1))
    bad = world.quarantine()
    assert bad["_lazypipe_rules"].to_list() == [["new_column:n"]]
    assert json.loads(bad["_lazypipe_raw"].item()) == {"n": "7"}
    assert world.run(NEW, {"on_new_column": "evolve"}).equals(NEW)


def test_what_is_not_said_is_refused(world: World) -> None:
    assert world.refusal(NEW, {"on_missing_column": "evolve"}) == (
        "outputs.b.contract: 'b' has a column 'n' that the previous commit lacks; "
        "select others in a stage, or say on_new_column: evolve or discard_column"
    )


# columns that go


def test_a_missing_column(world: World) -> None:
    less = FIRST.select("x")
    nulls = FIRST.with_columns(t=pl.lit(None, pl.String))
    for mode in ("fail", "freeze"):
        assert world.refusal(less, {"on_missing_column": mode}) == (
            "outputs.b.contract.on_missing_column: 'b' has no column 't', which is in the previous commit; keep it, or say on_missing_column: evolve"
        )
    assert world.run(less, {"on_missing_column": "evolve"}).equals(nulls)
    assert world.result.gates == {}
    assert world.run(less, {"on_missing_column": "discard_column"}).equals(nulls)
    (check,) = world.result.gates["b"].checks
    assert (check.id, check.column, check.status, check.failed) == ("missing_column:t", "t", "warn", 2)
    assert world.run(less, {"on_missing_column": "discard_row"}).height == 0
    bad = world.quarantine()
    assert bad["x"].to_list() == [1, 2]
    assert bad["_lazypipe_rules"].to_list() == [["missing_column:t"]] * 2
    # rows that stand in quarantine for a column that was missing are healed when that is no fault any more
    assert world.pipe(FIRST, {"on_missing_column": "evolve"}).compile().replay("b").healed == 2
    assert world.out().sort("x")["x"].to_list() == [1, 2]


# other types


def test_a_wider_type(world: World) -> None:
    wide = FIRST.with_columns(pl.col("x").cast(pl.Int128))
    assert world.refusal(wide, {"on_type_change": "fail"}) == (
        "outputs.b.contract.on_type_change: column 'x' is Int128 in 'b' and Int64 in the previous commit; "
        "cast it in a stage, or say on_type_change: evolve, freeze, discard_column or discard_row"
    )
    assert world.run(wide, {"on_type_change": "freeze"}).equals(FIRST)
    assert world.run(wide, {"on_type_change": "evolve"}).equals(wide)
    # and a narrower one is written as what it was
    assert world.run(FIRST, {"on_type_change": "evolve"}).equals(wide)


TEXT = pl.DataFrame({"x": ["1", "two", None], "t": ["a", "b", "c"]})


def test_a_type_that_holds_other_values(world: World) -> None:
    assert world.refusal(TEXT, {"on_type_change": "evolve"}) == (
        "outputs.b.contract.on_type_change: column 'x' is String in 'b' and Int64 in the previous commit, "
        "and no type holds both; cast it in a stage"
    )
    result = world.pipe(TEXT, {"on_type_change": "freeze"}).compile().run()
    assert (result.status, result.commits) == ("gate_failed", {})
    assert result.gates["b"].failed == {"type:x": 1}
    assert world.out().equals(FIRST)
    out = world.run(TEXT, {"on_type_change": "discard_column"})
    assert out.rows() == [(1, "a"), (None, "b"), (None, "c")]
    assert world.result.gates["b"].failed == {"type:x": 1}
    out = world.run(TEXT, {"on_type_change": "discard_row"})
    assert out.rows() == [(1, "a"), (None, "c")]
    bad = world.quarantine()
    assert bad.select("x", "t").rows() == [(None, "b")]
    assert json.loads(bad["_lazypipe_raw"].item()) == {"x": "two"}


@pytest.mark.parametrize("mode", ["freeze", "discard_column", "discard_row"])
def test_a_type_that_never_becomes_another(world: World, mode: str) -> None:
    lists = FIRST.with_columns(x=pl.lit([1]))
    found = world.refusal(lists, {"on_type_change": mode})
    assert found.endswith(
        "is List(Int64) in 'b' and Int64 in the previous commit, which it cannot become; cast it in a stage"
    )


# what is declared


def test_declared_columns_hold_from_the_first_commit_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    columns = {"x": "Int32", "t": "String"}
    assert world.refusal(FIRST, {"columns": columns}) == (
        "outputs.b.contract.columns.x: column 'x' is Int64 in 'b' and Int32 in the contract; "
        "cast it in a stage, or say on_type_change: evolve, freeze, discard_column or discard_row"
    )
    assert world.refusal(FIRST, {"columns": {"x": "Int64"}}) == (
        "outputs.b.contract: 'b' has a column 't' that the contract does not list; "
        "list it, select others in a stage, or say on_new_column: evolve or discard_column"
    )
    assert world.refusal(FIRST, {"columns": {"x": "Int64", "T": "String"}, "on_new_column": "evolve"}) == (
        "outputs.b.contract.columns.T: 'b' has no column 'T', which is in the contract; did you mean 't'?"
    )
    assert world.run(FIRST, {"columns": columns, "on_type_change": "freeze"}).schema["x"] == pl.Int32
    assert world.run(FIRST.select("t", "x"), {"columns": {"t": "String"}, "on_type_change": "freeze"}).height == 2


def test_each_column_by_itself(world: World) -> None:
    columns = {
        "x": {"type": "Int64", "on_type_change": "discard_row"},
        "u": {"type": "Float64", "on_missing_column": "evolve"},
        "v": {"type": "String", "alias": ["t", "w"]},
    }
    out = world.run(TEXT, {"columns": columns})
    assert sorted(out.columns) == ["u", "v", "x"]
    assert out.select("x", "u", "v").rows() == [(1, None, "a"), (None, None, "c")]
    both = TEXT.with_columns(w=pl.col("t"))
    assert world.refusal(both, {"columns": columns}).startswith(
        "outputs.b.contract.columns.v: 'b' has a column 't' and another, 'w', that is an alias of 'v'"
    )


def test_a_contract_is_placed_in_the_file(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "a.parquet")
    text = "version: 1\nname: p\nsources: {a: {uri: a.parquet}}\noutputs:\n  a: {to: out, contract: {columns: {x: Date}}}\n"
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(
        lp.DefinitionError, match=re.escape(f"{tmp_path}/p.yaml:5:37: column 'x' is Int64 in 'a' and Date")
    ):
        lp.load(tmp_path / "p.yaml").compile()


@pytest.mark.parametrize("mode", MODES)
def test_a_contract_survives_yaml(world: World, mode: str) -> None:
    words = {"on_type_change": mode, "on_missing_column": mode, "on_new_column": mode}
    pipe = world.pipe(FIRST, {"columns": {"x": {"type": "Int64", "on_type_change": mode}}, **words})
    assert lp.Pipeline.from_yaml(pipe.to_yaml()) == pipe


# where it cannot be


def test_an_export_has_no_commit_before(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.refusal(FIRST, {"on_new_column": "evolve"}, format="csv") == (
        "outputs.b.contract: a contract without columns is about the previous commit, and this is one csv file; "
        "add columns, or remove format"
    )
    plan = world.pipe(FIRST, {"columns": {"t": "String"}, "on_new_column": "discard_column"}, format="csv").compile()
    plan.run().raise_for_status()
    assert (tmp_path / "out").read_text() == "t\na\nb\n"


def test_a_source_is_not_changed_by_the_contract_of_an_output(tmp_path: Path) -> None:
    FIRST.write_parquet(tmp_path / "a.parquet")

    def pipe(contract: dict[str, Any], to: str = "out") -> lp.Pipeline:
        made = lp.pipeline("p", base=str(tmp_path)).source("a", "a.parquet")
        return made.output("a", to, contract=contract).build()

    pipe({"columns": {"x": "Int64"}, "on_new_column": "evolve"}).compile().run().raise_for_status()
    with pytest.raises(lp.DefinitionError) as caught:
        pipe({"columns": {"x": "Int64"}, "on_new_column": "discard_column"}, "other").compile()
    assert str(caught.value) == (
        "outputs.a.contract: the contract changes the rows, and 'a' is a source; "
        "put a stage between, or change the source's contract"
    )


def test_two_contracts_about_one_stage(tmp_path: Path) -> None:
    FIRST.write_parquet(tmp_path / "a.parquet")

    def pipe(new: str, to: str) -> lp.Pipeline:
        contract = {"columns": {"x": "Int64"}, "on_new_column": new}
        made = lp.pipeline("p", base=str(tmp_path)).source("a", "a.parquet").stage("b", "a", do=[{"filter": "x > 0"}])
        made = made.output("b", to, contract=contract)
        return made.output("c", "more", from_="b", contract={"on_new_column": "evolve"}).build()

    pipe("evolve", "out").compile().run().raise_for_status()
    with pytest.raises(lp.DefinitionError) as caught:
        pipe("discard_column", "other").compile()
    assert str(caught.value).startswith(
        "outputs.b.contract: the contract changes the rows of 'b', for which output 'c' has a contract too; "
        "give each of them a stage of its own"
    )


# with gates, keys and rows that are there


def test_the_gate_sees_what_the_contract_has_left(world: World) -> None:
    gate = [
        {"not_null": {"columns": "x", "action": "warn"}},
        {"in_set": {"column": "t", "values": ["a"], "action": "quarantine"}},
    ]
    out = world.run(TEXT, {"on_type_change": "discard_row"}, gate=gate)
    assert out.rows() == [(1, "a")]
    found = {tuple(r) for r in world.quarantine()["_lazypipe_rules"].to_list()}
    assert found == {("type:x", "not_null:x", "in_set:t"), ("not_null:x", "in_set:t")}
    assert world.result.gates["b"].failed["type:x"] == 1


def test_rows_are_added_to_others_that_had_fewer_and_narrower_columns(tmp_path: Path) -> None:
    world = World(tmp_path)
    small = FIRST.with_columns(pl.col("x").cast(pl.Int8), d=pl.date(2024, 1, 31))
    world.run(small, {}, mode="append")
    strict = world.pipe(NEW, {}, mode="append").compile().run()
    assert "columns or partitions that differ from the dataset's" in str(strict.segments[0].error)
    more = FIRST.select("x", "t", pl.lit(0.5).alias("n"), pl.datetime(2024, 2, 1).alias("d"))
    world.run(more, {"on_new_column": "evolve", "on_type_change": "evolve"}, mode="append")
    out = world.out()
    assert out.height == 4
    assert dict(out.schema) == {**more.schema}
    assert out["n"].to_list().count(0.5) == out["n"].null_count() == 2
    assert sorted(out["d"].dt.date().dt.month().to_list()) == [1, 1, 2, 2]
    # once more, with columns that are there: rows are added, none is written again
    files = {p.name for p in (tmp_path / "out").rglob("*.parquet")}
    later = more.with_columns(n=pl.lit(0.25))
    world.run(later, {"on_new_column": "evolve", "on_type_change": "evolve"}, mode="append")
    assert world.out().height == 6
    assert lp.scan(str(tmp_path / "out"), version=2).collect().height == 4
    assert files < {p.name for p in (tmp_path / "out").rglob("*.parquet")}


def test_rows_that_are_there_must_fit_what_is_declared(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run(FIRST, {}, mode="append")
    contract = {"columns": {"x": {"type": "Int32", "on_type_change": "freeze"}, "t": "String"}}
    assert world.refusal(FIRST, contract, mode="append") == (
        "outputs.b.contract.columns.x: column 'x' is Int64 in the dataset, which Int32 does not hold; "
        "declare it to be wider, or say mode: replace"
    )


def test_quarantine_grows_with_the_contract(tmp_path: Path) -> None:
    world = World(tmp_path)
    gate = [{"in_set": {"column": "t", "values": ["a", "c"], "action": "quarantine"}}]
    world.run(FIRST, {}, mode="append", gate=gate)
    world.run(
        TEXT.with_columns(n=1), {"on_type_change": "discard_row", "on_new_column": "evolve"}, mode="append", gate=gate
    )
    bad = world.quarantine().sort("x", nulls_last=True)
    assert bad.select("x", "t", "n").rows() == [(2, "b", None), (None, "b", 1)]
    assert bad["_lazypipe_raw"].to_list()[0] is None
    assert world.out().height == 3


def test_columns_that_changed_since_compiling(world: World) -> None:
    plan = world.pipe(FIRST, {"on_new_column": "evolve"}).compile()
    plan.run().raise_for_status()
    plan.run().raise_for_status()
    world.run(NEW, {"on_new_column": "evolve"})
    result = plan.run()
    assert (result.status, result.commits) == ("error", {})
    assert str(result.segments[0].error) == (
        f"{world.base}/out: output 'b': its columns have changed since the pipeline was compiled; compile the pipeline again"
    )
    assert world.out().equals(NEW)


def test_replay_waits_for_columns_that_changed(world: World) -> None:
    world.run(TEXT, {"on_type_change": "discard_row"})
    plan = world.pipe(TEXT.with_columns(n=1), {"on_type_change": "discard_row", "on_new_column": "evolve"}).compile()
    with pytest.raises(
        lp.LazypipeError,
        match="output 'b': its columns are not those of the current definition; run the pipeline first",
    ):
        plan.replay("b")


def test_stages_below_see_what_is_published(world: World) -> None:
    NEW.write_parquet(world.base / "a.parquet")
    made = lp.pipeline("p", base=str(world.base)).source("a", "a.parquet").stage("b", "a", do=[{"filter": "x > 0"}])
    made = made.output("b", "out", contract={"on_new_column": "discard_column"})
    plan = made.stage("c", "b", do=[{"derive": {"y": "x + 1"}}]).output("c", "below").build().compile()
    assert plan.schema("c").names() == ["x", "t", "y"]
    plan.run().raise_for_status()
    assert lp.scan(str(world.base / "below")).collect().rows() == [(1, "a", 2), (2, "b", 3)]
