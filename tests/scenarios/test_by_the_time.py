"""Rows that hold the time of the run are made anew in each, and whoever asks why is told where that is written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

import lazypipe as lp
from lazypipe.__main__ import main

TEXT = """version: 1
name: p
sources:
  a: {uri: a-*.csv}
stages:
  b:
    from: a
    do:
      - derive: {y: x * 2}
      - derive: {seen: ":now"}
  c: {from: b, do: [select: [x, seen]]}
  d: {from: a, do: [derive: {y: x * 2}]}
outputs:
  c: {to: out/c}
  d: {to: out/d}
"""
FIRST, SECOND = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text(TEXT)
    (tmp_path / "a-1.csv").write_text("x\n1\n")
    return tmp_path


def reason(folder: Path) -> str:
    return (
        f"{folder}/p.yaml:10:9: :now differs in every run; use a parameter of your own, which changes only when you change it, "
        "or mode: append, which keeps existing rows"
    )


def test_plans_and_runs_name_the_time_as_the_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = lp.load(folder / "p.yaml")
    plan = pipe.compile(now=FIRST)
    assert plan.explain_incremental().splitlines() == [
        f"c: reads new and changed files of a; rebuilds everything in every run, because {reason(folder)}",
        "d: reads new and changed files of a",
    ]
    assert main(["plan", str(folder / "p.yaml")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("later runs will rebuild it in full too, because ") == 1
    assert f"    later runs will rebuild it in full too, because {reason(folder)}\n" in printed
    plan.run(now=FIRST)
    again = pipe.compile(now=SECOND)
    why = f"the definition or the time of the run changed: seen changed; {reason(folder)}"
    assert {s["name"]: s["why"] for s in again.preview(now=SECOND)}["c"] == why
    assert all("later" not in s for s in again.preview(now=SECOND))
    result = again.run(now=SECOND)
    found = {s.output: s for s in result.segments}
    assert (found["c"].status, found["c"].why, found["d"].status) == ("done", why, "unchanged")
    assert [s.status for s in pipe.compile(now=SECOND).run(now=SECOND).segments] == ["unchanged", "unchanged"]


def test_rows_that_are_appended_keep_their_time_and_nothing_is_told(folder: Path) -> None:
    (folder / "p.yaml").write_text(TEXT.replace("out/c}", "out/c, mode: append}"))
    pipe = lp.load(folder / "p.yaml")
    assert ":now" not in pipe.compile(now=FIRST).explain_incremental()
    assert ":now" not in json.dumps(pipe.compile(now=FIRST).preview(now=FIRST))
    pipe.compile(now=FIRST).run(now=FIRST)
    (folder / "a-2.csv").write_text("x\n2\n")
    result = pipe.compile(now=SECOND).run(now=SECOND)
    assert {s.output: s.why for s in result.segments}["c"] == "a: 1 added, 1 unchanged"
    rows = lp.scan(str(folder / "out/c")).collect().rows()
    assert sorted((x, seen.date()) for x, seen in rows) == [(1, FIRST.date()), (2, SECOND.date())]


def test_a_definition_in_python_names_the_stage(folder: Path) -> None:
    made = lp.pipeline("p", base=str(folder)).source("a", "a-*.csv").stage("b", "a", [{"derive": {"seen": ":now"}}])
    plan = made.output("b", "out/b").build().compile(now=FIRST)
    assert (
        "; rebuilds everything in every run, because b: :now differs in every run; use a " in plan.explain_incremental()
    )
