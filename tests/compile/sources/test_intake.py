"""What a source says of deliveries: read, written back, and refused with what to write instead."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.compile.sources.intake import Expect, Intake

SAYS: dict[str, Any] = {
    "detect": "content",
    "on_removed": "ignore",
    "on_modified": "fail",
    "settle": "5m",
    "expect": {"files": 3, "marker": "{name}.done", "manifest": "m-*.json", "per": "folder"},
    "on_partial": "fail",
}
TYPES = {"columns": {"x": "Int64"}}


def intake(**more: Any) -> Intake:
    pipe = lp.pipeline("p").source("a", "a.csv", contract=TYPES, **more).output("a", "x").build()
    source = pipe.compile().nodes["a"].source
    assert source is not None
    return source.intake


def test_what_is_said_and_what_holds_without() -> None:
    assert intake() == Intake("stamp", "delete", "reprocess", timedelta(0), None, "wait")
    assert intake(**SAYS) == Intake(
        "content",
        "ignore",
        "fail",
        timedelta(minutes=5),
        Expect(files=3, marker="{name}.done", manifest="m-*.json", per="folder"),
        "fail",
    )
    assert intake(expect={"at_least": 2}).expect == Expect(at_least=2)


def test_it_comes_back_from_yaml() -> None:
    pipe = lp.pipeline("p").source("a", "a.csv", **SAYS).output("a", "x").build()
    assert lp.Pipeline.from_yaml(pipe.to_yaml()) == pipe
    assert lp.Pipeline.from_json(pipe.to_json()) == pipe
    assert dict(pipe.sources["a"].expect) == SAYS["expect"]
    assert "detect" not in lp.pipeline("p").source("a", "a.csv").output("a", "x").build().to_yaml()


WRONG = {
    "detect: hash": "'detect' cannot be 'hash'; known values: content, stamp",
    "on_removed: drop": "'on_removed' cannot be 'drop'; known values: delete, fail, ignore",
    "on_modified: proces": "'on_modified' cannot be 'proces'; did you mean 'reprocess'?",
    "on_partial: skip": "'on_partial' cannot be 'skip'; known values: fail, wait",
    "settle: 300": "'settle' must be text, not 300; put it in quotes: \"300\"",
    "settle: 5 min": "settle: '5 min' is not a duration such as 90s, 15m, 2h, 3d or 1w",
    "settle: -5m": "settle: '-5m' is negative; write a duration such as 5m",
    "expect: 3": "'expect' must be a mapping, not 3; write expect: {files: …}",
    "expect: {}": "'expect' is empty; write at least one entry",
    "expect: {fles: 3}": "unknown key 'fles' of 'expect'; did you mean 'files'?",
    "expect: {files: 0}": "'files' is 0, less than 1; write 1 or more",
    "expect: {files: 3, at_least: 2}": "expect has both files and at_least; keep one of them",
    "expect: {marker: x, per: folder}": "per says where files are counted, and nothing is counted; add files or at_least: "
    "markers and manifests are looked for in the folders in any case",
    "expect: {marker: ok/_SUCCESS}": "marker 'ok/_SUCCESS' is a path; write a name, such as _SUCCESS",
    "expect: {manifest: ../m.csv}": "manifest '../m.csv' is a path; write a name, such as manifest.jsonl",
    "on_partial: wait": "on_partial is for incomplete deliveries, and nothing is expected; "
    "add expect, such as expect: {marker: _SUCCESS}",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_told_in_its_place(tmp_path: Path, line: str) -> None:
    (tmp_path / "p.yaml").write_text(
        "version: 1\nname: p\nsources:\n  a:\n    uri: a.csv\n    contract: {columns: {x: Int64}}\n"
        f"    {line}\noutputs:\n  a: {{to: out}}\n"
    )
    with pytest.raises(lp.DefinitionError) as caught:
        lp.load(tmp_path / "p.yaml").compile()
    (problem,) = caught.value.problems
    assert str(problem).partition(": ")[2] == WRONG[line]
    assert problem.where is not None
    assert problem.where.line == 7


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("settle", "5m", "settle is for files that others deliver, and this is a dataset: its commits are whole; remove settle"),
        ("expect", {"files": 1}, "expect is for files that others deliver, and this is a dataset: its commits are whole; remove expect"),
        ("on_partial", "fail", "on_partial is for files that others deliver, and this is a dataset: its commits are whole; remove on_partial"),
        ("detect", "content", "detect: content is for files that others deliver, and this is a dataset: its files never change; remove detect"),
    ],
)  # fmt: skip
def test_of_a_dataset_only_some_can_be_said(key: str, value: Any, message: str) -> None:
    pipe = lp.pipeline("p").source("a", "a", format="dataset", contract=TYPES, **{key: value}).output("a", "x").build()
    with pytest.raises(lp.DefinitionError) as caught:
        pipe.compile()
    assert str(caught.value) == f"sources.a.{key}: {message}"
    fine = lp.pipeline("p").source("a", "a", format="dataset", contract=TYPES, detect="stamp", on_removed="fail")
    fine.output("a", "x").build().compile()


def test_markers_and_manifests_hold_no_data(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1]}).write_csv(tmp_path / "a.csv")
    (tmp_path / "manifest.csv").write_text("name,size\na.csv,4\n")
    (tmp_path / "a.csv.done.csv").write_text("")
    says = {"manifest": "manifest.csv", "marker": "{name}.done.csv"}
    pipe = lp.pipeline("p", base=str(tmp_path)).source("a", "*.csv", expect=says).output("a", "out").build()
    assert pipe.compile().run().status == "done"
    assert lp.scan(str(tmp_path / "out")).collect().rows() == [(1,)]


def test_markers_and_manifests_alone_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("name,size\na.csv,4\n")
    pipe = lp.pipeline("p", base=str(tmp_path)).source("a", "*.csv", expect={"manifest": "manifest.csv"})
    with pytest.raises(lp.SourceError) as caught:
        pipe.output("a", "out").build().compile()
    assert str(caught.value) == (
        f"{tmp_path}/*.csv: source 'a': there are markers and manifests only, and no data file; "
        "deliver the data, or check marker and manifest"
    )
