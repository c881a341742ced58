"""What compiling learns of a source: columns from its first file, names of the others, and of no file more than is needed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import AwayError, SourceError


def plan_of(base: Path, uri: str | list[str], **more: object) -> lp.Plan:
    made = lp.pipeline("p", base=str(base)).source("a", uri, **more)
    return made.stage("s", "a", do=[{"filter": "x > 0"}]).output("s", "out").build().compile()


def put(path: Path, *values: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"x": values}).write_parquet(path)


def test_frames_are_over_the_files_that_stood_there(tmp_path: Path) -> None:
    put(tmp_path / "in/a.parquet", 1, -1)
    put(tmp_path / "in/b.parquet", 2)
    (tmp_path / "in/folder.parquet").mkdir()
    plan = plan_of(tmp_path, "in/*.parquet")
    put(tmp_path / "in/c.parquet", 3)
    assert plan.frames["s"].collect()["x"].to_list() == [1, 2]
    assert plan.frames["a"].collect()["x"].to_list() == [1, -1, 2]
    assert list(plan.frames) == ["a", "s"]
    assert len(plan.frames) == 2
    assert plan.frames["s"] is plan.frames["s"]


def test_frames_do_not_pass_over_a_file_that_is_gone(tmp_path: Path) -> None:
    put(tmp_path / "in/a.parquet", 1)
    put(tmp_path / "in/b.parquet", 2)
    plan = plan_of(tmp_path, "in")
    os.remove(tmp_path / "in/b.parquet")
    with pytest.raises(FileNotFoundError, match=r"b\.parquet"):
        plan.frames["s"].collect()


def test_a_run_looks_at_what_is_there_then(tmp_path: Path) -> None:
    put(tmp_path / "in/a.parquet", 1)
    plan = plan_of(tmp_path, "in/*.parquet")
    put(tmp_path / "in/b.parquet", 2, 3)
    plan.run().raise_for_status()
    os.remove(tmp_path / "in/a.parquet")
    put(tmp_path / "in/b.parquet", 2, 3, 4)
    plan.run().raise_for_status()
    assert sorted(lp.scan(str(tmp_path / "out")).collect()["x"]) == [2, 3, 4]


def test_folders_give_columns_of_all_their_names(tmp_path: Path) -> None:
    """The type of a column in folders is that of all its values, whatever file is the first."""
    put(tmp_path / "in/n=1/a.parquet", 1)
    put(tmp_path / "in/n=two/a.parquet", 2)
    assert dict(plan_of(tmp_path, "in/**/*.parquet").schema("a")) == {"x": pl.Int64(), "n": pl.String()}
    assert dict(plan_of(tmp_path, "in/n=1").schema("a")) == {"x": pl.Int64(), "n": pl.Int64()}


@pytest.mark.parametrize("uri", ["in/*.csv", "in", ["in/*.parquet", "gone/*.parquet"], "gone.parquet"])
def test_nothing_there_is_told_at_once_unless_columns_are_declared(tmp_path: Path, uri: str | list[str]) -> None:
    (tmp_path / "in/x.csv").mkdir(parents=True)
    if isinstance(uri, list):
        put(tmp_path / "in/a.parquet", 1)
    with pytest.raises(SourceError, match=r"source 'a': (no file matches|the folder holds no|there is no such)"):
        plan_of(tmp_path, uri)
    declared = plan_of(tmp_path, uri, contract={"columns": {"x": "Int64"}})
    assert dict(declared.schema("s")) == {"x": pl.Int64()}


AWAY = """version: 1
name: p
sources:
  a: {uri: away/*.csv, %s}
  b: {uri: b.csv}
stages:
  s: {from: a, do: [{filter: %s}]}
  t: {from: b, do: [{filter: %s}]}
outputs:
  s: {to: out/s, %s}
  t: {to: out/t}
"""


@pytest.mark.parametrize(
    ("source", "at_s", "at_t", "output", "said"),
    [
        ("contract: {columns: {x: Int64}}", "y > 0", "x > 0", "", ":7:22: unknown column 'y'; known columns: x"),
        ("contract: {columns: {x: Int64}}", "x > 0", "x > 0", "partition_by: [z]", ":10:33: unknown column 'z'"),
        ("contract: {columns: {x: Int64}}, gate: [{not_null: z}]", "x > 0", "x > 0", "", "unknown column 'z'"),
        (
            "contract: {columns: {x: Int64}}, event_time: z",
            "x > 0",
            "x > 0",
            "",
            "unknown column 'z'; known columns: x",
        ),
        (
            "contract: {columns: {x: Datetime}}, event_time: x, watermark: {delay: 1h, by: z}",
            "x IS NOT NULL",
            "x > 0",
            "",
            "unknown column 'z'; known columns: x",
        ),
    ],
)
def test_a_column_of_what_is_away_is_not_called_unknown(
    tmp_path: Path, source: str, at_s: str, at_t: str, output: str, said: str
) -> None:
    (tmp_path / "b.csv").write_text("x\n1\n")
    with pytest.raises(AwayError) as found:
        lp.Pipeline.from_yaml(AWAY % (source, at_s, at_t, output), base=str(tmp_path)).compile()
    first, last = str(found.value).split("\n")
    assert (said in first, found.value.exit_code, len(found.value.problems)) == (True, 3, 1)
    what = "source 'a': no file matches, and of its columns only those of the contract are known"
    fix = "check the pattern; it starts from the definition's folder"
    assert (last, str(pickle.loads(pickle.dumps(found.value)))) == (
        f"{tmp_path}/away/*.csv: {what}; {fix}",
        str(found.value),
    )
    # where anything is wrong for sure, that is said
    with pytest.raises(lp.DefinitionError) as wrong:
        lp.Pipeline.from_yaml(AWAY % (source, at_s, "zz > 0", output), base=str(tmp_path)).compile()
    assert (type(wrong.value), wrong.value.problems[-1].what) in {
        (lp.DefinitionError, f"unknown column {n!r}") for n in ("zz", "z")
    }
    (tmp_path / "away").mkdir()
    (tmp_path / "away/1.csv").write_text(
        "x,y,z\n1,2,2020-01-01\n" if "Int64" in source else "x,z\n2020-01-01 00:00:00,1\n"
    )
    if "event_time: z" not in source:
        lp.Pipeline.from_yaml(AWAY % (source, at_s, at_t, output), base=str(tmp_path)).compile()


@pytest.mark.parametrize("mode", ["fail", "freeze", "discard_column", "discard_row"])
def test_a_contract_that_tells_all_columns_tells_which_are_unknown(tmp_path: Path, mode: str) -> None:
    source = f"contract: {{columns: {{x: Int64}}, on_new_column: {mode}}}"
    (tmp_path / "b.csv").write_text("x\n1\n")
    with pytest.raises(lp.DefinitionError) as found:
        lp.Pipeline.from_yaml(AWAY % (source, "y > 0", "x > 0", ""), base=str(tmp_path)).compile()
    assert [p.what for p in found.value.problems] == ["unknown column 'y'"]


@pytest.mark.parametrize("more", ["", ", contract: {columns: {a: Int64}, on_new_column: ignore}"])
def test_data_files_of_a_dataset_are_not_read_without_its_log(tmp_path: Path, more: str) -> None:
    text = "{{version: 1, name: p, sources: {{r: {{uri: {uri}{more}}}}}, stages: {{s: {{from: r, do: [{{filter: a > 0}}]}}}}, outputs: {{s: {{to: out/s}}}}}}"
    (tmp_path / "in.csv").write_text("a\n1\n2\n")
    pipeline = lp.Pipeline.from_yaml(text.format(uri="in.csv", more=""), base=str(tmp_path))
    pipeline.compile().run().raise_for_status()
    below = lp.Pipeline.from_yaml(text.format(uri="out/s", more=more), base=str(tmp_path))
    assert below.compile().frames["s"].collect().height == 2
    (tmp_path / "out/s.commits").rename(tmp_path / "elsewhere")
    with pytest.raises(lp.DefinitionError) as found:
        below.compile()
    assert str(found.value.problems[0]).partition(": ")[2] == (
        "the files have a column '_lazypipe_unit', which is reserved for lazypipe; "
        "write the folder of the dataset, which is read by its log (its files also hold deleted rows), or rename the column"
    )


@pytest.mark.parametrize("folder", ["in", "in/k=1"])
@pytest.mark.parametrize("evolve", [False, True])
def test_short_rows_are_found_whatever_is_known_of_the_order_of_columns(
    tmp_path: Path, folder: str, *, evolve: bool
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "0.csv").write_text("x,y\n1,2\n")
    (tmp_path / folder / "1.csv").write_text("y,x\n4,3\n6\n")
    more = {"contract": {"columns": {"x": "Int64"}, "on_new_column": "evolve"}} if evolve else {}
    made = lp.pipeline("p", base=str(tmp_path), audit="off").source("a", "in/**/*.csv", **more).output("a", "out")
    result = made.build().compile().run()
    assert (result.status, "line 3 has 1 of 2 fields" in str(result.segments[0].error)) == ("error", True)


def test_a_short_row_is_found_where_no_line_names_columns(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("1,2\n3\n")
    made = lp.pipeline("p", base=str(tmp_path), audit="off").source("a", "0.csv", read={"header": False})
    result = made.output("a", "out").build().compile().run()
    assert (result.status, "line 2 has 1 of 2 fields" in str(result.segments[0].error)) == ("error", True)
