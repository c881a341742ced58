"""Columns that lazypipe itself writes: read again as files, refused where another one has their name, and true after a file was renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import DefinitionError, LazypipeError

POSITIVE = [{"between": {"column": "v", "min": 0, "action": "quarantine"}}]
NO_NULLS = [{"not_null": {"columns": ["k"], "action": "quarantine"}}]


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
    "the files have a column '_lazypipe_unit', a name that is lazypipe's own; "
    "write the folder of the dataset, which is read by its log: files hold rows that are gone; if it is none, rename the column"
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
    with pytest.raises(DefinitionError, match=r"sources\.s\.uri: the files have a column '_lazypipe_file', a name"):
        reading(table, "t__quarantine/*.parquet")
    reading(table, "t__quarantine").run().raise_for_status()
    (row,) = lp.scan(str(table / "u")).collect().rows(named=True)
    assert (row["k"], row["_lazypipe_rules"], row["w"]) == (2, ["between:v"], 0)


def test_no_step_makes_units(table: Path) -> None:
    with pytest.raises(DefinitionError) as told:
        reading(table, "in/*.parquet", do=[{"filter": "k > 0"}, {"derive": {"_lazypipe_unit": "k"}}, {"limit": 3}])
    assert str(told.value) == (
        "stages.u.do[1].derive: column '_lazypipe_unit' is lazypipe's own: it tells which file each row of an output was made of; "
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
