"""Columns that lazypipe itself writes: read again as files, refused where another one has their name, and true after a file was renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
import pytest

import lazypipe as lp
from lazypipe.errors import DefinitionError, LazypipeError
from lazypipe.storage.optimizer.forms import Scaled

POSITIVE = [{"between": {"column": "v", "min": 0, "action": "quarantine"}}]


def put(path: Path, rows: dict[str, list[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_parquet(path)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A dataset whose rows know their units, with one row put aside."""
    put(tmp_path / "in/a.parquet", {"k": [1, 2, 3], "v": [1, -1, 2]})
    put(tmp_path / "in/b.parquet", {"k": [4], "v": [5]})
    pipe = lp.pipeline("p", base=str(tmp_path), audit="off").source("s", "in/*.parquet").stage("t", "s", gate=POSITIVE)
    pipe.output("t", "t").build().compile().run().raise_for_status()
    (one,) = (tmp_path / "t").glob("*.parquet")
    assert pl.read_parquet_schema(one).names() == ["k", "v", "_lazypipe_unit"]
    return tmp_path


def reading(base: Path, uri: str, *, gate: Any = (), do: Any = ({"derive": {"w": "v + 1"}},), **more: Any) -> lp.Plan:
    pipe = (
        lp.pipeline("q", base=str(base), audit="off").source("s", uri, **more).stage("u", "s", do=[*do], gate=[*gate])
    )
    return pipe.output("u", "u").build().compile()


WHAT = (
    "the files have a column '_lazypipe_unit', which is reserved for lazypipe; "
    "write the folder of the dataset, which is read by its log (its files also hold deleted rows), or rename the column"
)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"contract": {"columns": {"k": "Int64"}, "on_new_column": "discard_column"}},
        {"contract": {"columns": {"k": "Int64"}, "on_new_column": "evolve", "on_missing_column": "evolve"}},
        {"on_corrupt": "quarantine_file"},
    ],
    ids=lambda m: next(iter(m), "plain"),
)
def test_files_of_a_table_are_not_read_without_its_log(table: Path, more: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError) as told:
        reading(table, "t/*.parquet", **more)
    assert str(told.value) == f"sources.s.uri: {WHAT}"


def test_a_table_of_others_with_such_a_column(table: Path) -> None:
    pytest.importorskip("deltalake").write_deltalake(
        str(table / "lake"), pl.read_parquet(next((table / "t").glob("*.parquet"))).to_arrow()
    )
    plan = reading(table, "lake")
    plan.run().raise_for_status()
    assert lp.scan(str(table / "u")).collect().sort("k").rows() == [(1, 1, 2), (3, 2, 3), (4, 5, 6)]


@pytest.mark.parametrize("policy", ["fail", "discard_column", "evolve"])
def test_files_that_come_later(table: Path, policy: str) -> None:
    (file,) = (table / "t").glob("*.parquet")
    put(table / "mixed/0.parquet", {"k": [9], "v": [9]})
    contract = {"columns": {"k": "Int64", "v": "Int64"}, "on_new_column": policy}
    plan = reading(table, "mixed/*.parquet", contract=contract)
    (table / "mixed/1.parquet").write_bytes(file.read_bytes())
    with pytest.raises(LazypipeError, match=r"1\.parquet: .*has a column '_lazypipe_unit'"):
        plan.run().raise_for_status()


def test_text_cannot_hold_such_a_column(table: Path) -> None:
    (table / "x.csv").write_text("k,_lazypipe_unit,v\n1,2,3\n")
    with pytest.raises(DefinitionError) as told:
        reading(table, "x.csv")
    assert str(told.value) == (f"sources.s.uri: {WHAT}")


def test_rows_put_aside_are_read_as_a_dataset_not_as_files(table: Path) -> None:
    with pytest.raises(
        DefinitionError, match=r"sources\.s\.uri: the files have a column '_lazypipe_file', which is reserved"
    ):
        reading(table, "t__quarantine/*.parquet")
    reading(table, "t__quarantine").run().raise_for_status()
    (row,) = lp.scan(str(table / "u")).collect().rows(named=True)
    assert (row["k"], row["_lazypipe_rules"], row["w"]) == (2, ["between:v"], 0)


def test_values_in_compact_form_are_not_read_as_files(tmp_path: Path) -> None:
    """Their sums would be wrong: 12.50 stands as 1250 in a file whose rows know no unit."""
    put(tmp_path / "in/a.parquet", {"k": [*range(2_000)], "v": [n * 7_919 % 10_007 for n in range(2_000)]})
    pipe = lp.pipeline("p", base=str(tmp_path), audit="off").source("s", "in/*.parquet")
    pipe = pipe.stage("t", "s", do=[{"aggregate": {"by": "k", "aggregate": {"p": "sum(v) / 100.0"}}}])
    pipe.output("t", "t").build().compile().run().raise_for_status()
    lp.optimize.rewrite(tmp_path / "t", lp.optimize.Layout(forms={"p": Scaled(2, pl.Int32())}))
    (one,) = (f for f in (tmp_path / "t").glob("*.parquet") if "_lazypipe:p:plain" in pl.read_parquet_schema(f))
    assert pl.read_parquet(one)["p"].sum() == sum(n * 7_919 % 10_007 for n in range(2_000))
    with pytest.raises(DefinitionError) as told:
        reading(tmp_path, f"t/{one.name}", do=[{"aggregate": {"aggregate": {"p": "sum(p)"}}}])
    assert str(told.value) == "sources.s.uri: " + WHAT.replace("_unit", ":p:plain")
    put(tmp_path / "mixed/0.parquet", {"k": [9], "p": [9]})
    plan = reading(tmp_path, "mixed/*.parquet", do=[], contract={"columns": {"k": "Int64"}, "on_new_column": "evolve"})
    (tmp_path / "mixed/1.parquet").write_bytes(one.read_bytes())
    with pytest.raises(LazypipeError, match=r"1\.parquet: .*has a column '_lazypipe:p:plain'"):
        plan.run().raise_for_status()


def test_no_step_makes_names_of_forms(table: Path) -> None:
    with pytest.raises(DefinitionError) as told:
        reading(table, "in/*.parquet", do=[{"derive": {"_lazypipe:v:plain": "k"}}])
    assert str(told.value) == (
        "stages.u.do[0].derive: column '_lazypipe:v:plain' is reserved for lazypipe, which keeps values in compact form under such names; "
        "give it another name"
    )


def test_no_step_makes_units(table: Path) -> None:
    with pytest.raises(DefinitionError) as told:
        reading(table, "in/*.parquet", do=[{"filter": "k > 0"}, {"derive": {"_lazypipe_unit": "k"}}, {"limit": 3}])
    assert str(told.value) == (
        "stages.u.do[1].derive: column '_lazypipe_unit' is reserved for lazypipe, which keeps in it the file that each row was made from; "
        "give it another name"
    )


def test_rows_put_aside_go_with_their_file_whatever_its_name(tmp_path: Path) -> None:
    """The name that stands beside such a row is the one by which its file was read; it leaves by that which the file has now."""
    put(tmp_path / "in/a.parquet", {"k": [1, 2], "v": [1, -1]})
    put(tmp_path / "in/b.parquet", {"k": [3], "v": [-3]})

    def run() -> tuple[str, dict[int, str]]:
        pipe = lp.pipeline("p", base=str(tmp_path)).source("s", "in/*.parquet", gate=POSITIVE).stage("t", "s")
        result = pipe.output("t", "t").build().compile().run()
        result.raise_for_status()
        aside = lp.scan(str(tmp_path / ".lazypipe/quarantine/p/s")).collect()
        return result.status, {k: Path(f).name for k, f in aside.select("k", "_lazypipe_file").iter_rows()}

    def rename(old: str, new: str) -> None:
        os.rename(tmp_path / "in" / old, tmp_path / "in" / new)

    assert run() == ("done", {2: "a.parquet", 3: "b.parquet"})
    rename("a.parquet", "y.parquet")
    assert run() == ("unchanged", {2: "a.parquet", 3: "b.parquet"})  # nothing of it was read again
    put(tmp_path / "in/y.parquet", {"k": [1, 2, 7], "v": [1, 2, -7]})  # one row is mended, another comes
    assert run() == ("done", {3: "b.parquet", 7: "y.parquet"})
    rename("y.parquet", "z.parquet")
    rename("b.parquet", "y.parquet")  # a name that another one had
    assert run() == ("done", {3: "y.parquet", 7: "z.parquet"})
    (tmp_path / "in/y.parquet").unlink()
    assert run() == ("done", {7: "z.parquet"})
    put(tmp_path / "in/z.parquet", {"k": [1, 2, 7], "v": [1, 2, 7]})
    assert run() == ("done", {})
    assert sorted(lp.scan(str(tmp_path / "t")).collect().rows()) == [(1, 1), (2, 2), (7, 7)]


CHOICES = {
    "type": cs.numeric(),
    "all but": pl.all().exclude("s"),
    "pattern": pl.col("^(k|v)$"),
    "names": pl.col("k", "v"),
    "place": pl.nth(0, 1),
}


@pytest.mark.parametrize("mode", ["replace", "append"])
@pytest.mark.parametrize("chosen", CHOICES)
def test_columns_that_are_chosen_by_type_or_pattern_are_those_of_the_user(
    tmp_path: Path, chosen: str, mode: str
) -> None:
    """Rows have columns of lazypipe's own on their way, which a choice must not take: not in values, filters, gates or groups."""
    rows = pl.DataFrame({"k": [1, 2, 3, 4], "v": [5, 0, 7, 8], "s": ["a", "b", "a", None]})
    (tmp_path / "in").mkdir()
    for number in range(4):
        rows[number : number + 1].write_parquet(tmp_path / f"in/{number}.parquet")
    one = CHOICES[chosen]
    steps = [{"derive": {"sum": pl.sum_horizontal(one), "least": pl.min_horizontal(one)}}]
    gate = [{"expression": {"condition": pl.all_horizontal(one != 3), "action": "quarantine"}}]
    pipe = lp.pipeline("p", base=str(tmp_path), audit="off").source("s", "in/*.parquet")
    pipe.stage("kept", "s", do=[{"filter": pl.all_horizontal(one > 0)}], gate=gate).stage("t", "kept", do=steps)
    pipe.stage("g", "s", do=[{"aggregate": {"by": "s", "aggregate": {"n": pl.sum_horizontal(one.sum())}}}])
    pipe.output("t", "t", mode=mode).output("g", "g").build().compile().run().raise_for_status()
    assert lp.scan(str(tmp_path / "t")).collect().sort("k").rows() == [(1, 5, "a", 6, 1), (4, 8, None, 12, 4)]
    assert lp.scan(str(tmp_path / "g")).collect().sort("s").rows() == [(None, 12), ("a", 16), ("b", 2)]


def test_sql_chooses_columns_of_the_user_too(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"in/{number}.parquet", {"k": [1], "v": [-number]})
    pipe = lp.pipeline("p", base=str(tmp_path), audit="off").source("s", "in/*.parquet")
    pipe.stage("t", "s", do=[{"derive": {"most": "greatest(COLUMNS('.*'))"}}]).output("t", "t").build().compile().run()
    assert lp.scan(str(tmp_path / "t")).collect()["most"].to_list() == [1, 1, 1]


@pytest.mark.parametrize("call", [lp.check, lp.split])
def test_rules_read_the_columns_that_they_choose(call: Any) -> None:
    rows = pl.DataFrame({"a": [1, None, 3, 4], "b": ["x", "y", None, "z"], "c": [1.0, 2.0, 3.0, float("nan")]})
    cases = [
        (pl.all_horizontal(pl.all().is_not_null()), 2),
        (pl.all_horizontal(pl.col("a", "b").is_not_null()), 2),
        (pl.any_horizontal(pl.col("a", "c") > 2), 1),  # null where none is and one is null
        (pl.all_horizontal(cs.float().is_not_nan()), 1),
        (pl.struct(pl.col("a", "c")).map_elements(lambda row: row["c"] < 3, return_dtype=pl.Boolean), 2),
    ]
    for condition, failed in cases:
        report = call(rows, [{"expression": {"condition": condition, "action": "quarantine"}}])
        report = report if call is lp.check else report.report
        assert [*report.failed.values()] == [failed], str(condition)
    with pytest.raises(DefinitionError) as caught:
        call(rows, [{"expression": pl.struct(pl.all()).map_elements(bool, return_dtype=pl.Boolean)}])
    assert str(caught.value) == (
        "rules[0].expression: an expression with a Python function in it chooses columns by type, by pattern or as all of them; "
        "name them: pl.struct('a', 'b')"
    )
    proportion = lp.check(rows, [{"proportion": {"condition": pl.all_horizontal(pl.all().is_not_null()), "min": 0.5}}])
    assert proportion.status == "pass"


def test_rows_that_remove_keys_are_told_by_an_expression(tmp_path: Path) -> None:
    put(tmp_path / "in/0.parquet", {"k": [1, 2], "v": [0, 0], "gone": [0, 0]})
    pipe = lp.pipeline("p", base=str(tmp_path), audit="off").source("s", "in/*.parquet")
    gone = pl.any_horizontal(cs.starts_with("gone") > 0)
    pipe.output("s", "t", mode="upsert", key="k", order_by="v", deleted_when=gone)
    assert pipe.build().compile().run().status == "done"
    put(tmp_path / "in/1.parquet", {"k": [1, 3], "v": [1, 1], "gone": [1, 0]})
    assert pipe.build().compile().run().status == "done"
    assert pipe.build().compile().run().status == "unchanged"
    assert lp.scan(str(tmp_path / "t")).collect().sort("k").rows() == [(2, 0, 0), (3, 1, 0)]
    wrong = lp.pipeline("p", base=str(tmp_path)).source("s", "in/*.parquet").output("s", "w", deleted_when=gone)
    with pytest.raises(DefinitionError, match="deleted_when is for mode: upsert or scd2, and this is mode: replace"):
        wrong.build().compile()


def test_rows_put_aside_are_followed_file_by_file(tmp_path: Path) -> None:
    """They tell where they came from in the column by which files are told apart elsewhere."""
    one = lp.pipeline("one", base=str(tmp_path)).source("s", "in/*.parquet").stage("t", "s", gate=POSITIVE)
    one = one.output("t", "t", mode="append")
    two = lp.pipeline("two", base=str(tmp_path)).source("q", "t__quarantine")
    for name, how in {"copy": {}, "added": {"mode": "append"}, "last": {"mode": "upsert", "key": "k"}}.items():
        two = two.stage(name, "q").output(name, name, **how)
    for number in (1, 2, 3):
        put(tmp_path / f"in/{number}.parquet", {"k": [number, -number], "v": [number, -number]})
        one.build().compile().run().raise_for_status()
        result = two.build().compile().run()
        result.raise_for_status()
    assert {s.why for s in result.segments if s.output} == {"q: 1 added, 2 unchanged"}
    for name in ("copy", "added", "last"):
        rows = lp.scan(str(tmp_path / name)).collect().sort("k")
        assert rows["k"].to_list() == [-3, -2, -1]
        assert [Path(f).name for f in rows["_lazypipe_file"]] == ["3.parquet", "2.parquet", "1.parquet"]


def test_rows_put_aside_of_a_delta_table_are_read_by_its_own_log(tmp_path: Path) -> None:
    put(tmp_path / "in/a.parquet", {"k": [1, 2], "v": [1, -1]})
    pipe = lp.pipeline("p", base=str(tmp_path)).source("s", "in/*.parquet").stage("t", "s", gate=POSITIVE)
    pipe.output("t", "t", format="delta").build().compile().run().raise_for_status()
    with pytest.raises(DefinitionError) as told:
        reading(tmp_path, "t__quarantine", format="delta")
    assert str(told.value) == (
        "sources.s.uri: the files have a column '_lazypipe_file', which is reserved for lazypipe; "
        "remove format: delta, so that the dataset is read by its own log, or rename the column"
    )
    reading(tmp_path, "t__quarantine").run().raise_for_status()
    assert lp.scan(str(tmp_path / "u")).collect()["k"].to_list() == [2]
