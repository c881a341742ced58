"""What a record says of code and definition: the commit that is checked out, keys that change when meaning does, no secrets."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import LazypipeError
from lazypipe.records import body

TEXT = """\
version: 1
name: p
params: {least: {type: integer, default: 1}}
sources:
  a: {uri: "memory://${BUCKET}/a.csv", format: csv, storage_options: {token: "${TOKEN}", secret: in the clear, retries: 3, more: [x, "${TOKEN}"]}, contract: {columns: {x: Int64, y: String}}}
  r: {uri: r.csv, contract: {columns: {x: Int64}}}
stages:
  b: {from: a, do: [{filter: "x > :least AND :now IS NOT NULL"}], gate: [{foreign_key: {columns: x, references: {to: r, columns: x}}}]}
  c: {from: b, do: [{select: [x]}]}
outputs: {c: {to: out/c, storage_options: {key: k}}}
"""


def compiled(text: str = TEXT, **more: Any) -> lp.Plan:
    return lp.Pipeline.from_yaml(text, base="/nowhere").compile(env={"BUCKET": "b-secret", "TOKEN": "t-secret"}, **more)


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def committed(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    (folder / "x").write_text("x")
    git(folder, "add", "x")
    git(folder, "commit", "-qm", "x")
    return git(folder, "rev-parse", "HEAD")


def test_the_commit_that_is_checked_out(tmp_path: Path) -> None:
    head = committed(tmp_path / "r")
    (tmp_path / "r" / "deep" / "down").mkdir(parents=True)
    assert body.commit_id(str(tmp_path / "r")) == body.commit_id(f"file://{tmp_path}/r/deep/down") == head
    git(tmp_path / "r", "pack-refs", "--all")
    assert body.commit_id(str(tmp_path / "r")) == head
    git(tmp_path / "r", "worktree", "add", "-q", str(tmp_path / "w"), "-b", "other")
    git(tmp_path / "w", "commit", "-qm", "y", "--allow-empty")
    other = git(tmp_path / "w", "rev-parse", "HEAD")
    assert other != head
    assert body.commit_id(str(tmp_path / "w")) == other
    git(tmp_path / "r", "checkout", "-q", "--detach")
    assert body.commit_id(str(tmp_path / "r")) == head


def test_where_nothing_is_checked_out(tmp_path: Path) -> None:
    assert body.commit_id(str(tmp_path)) is None
    assert body.commit_id("memory://x") is None
    git(tmp_path, "init", "-q")
    assert body.commit_id(str(tmp_path)) is None, "nothing was committed"
    (tmp_path / ".git" / "packed-refs").write_text("# pack-refs with: peeled\n00 refs/heads/other\n")
    assert body.commit_id(str(tmp_path)) is None
    (tmp_path / ".git" / "HEAD").unlink()
    assert body.commit_id(str(tmp_path)) is None


def test_the_key_changes_with_what_the_object_says_and_with_nothing_else() -> None:
    first = compiled()
    key = body.definition_key(first)
    assert body.definition_key(compiled(now=datetime(2030, 1, 1, tzinfo=UTC))) == key, "not the time of the run"
    assert body.definition_key(compiled(params={"least": "1"})) == key
    for other in (
        compiled(params={"least": 2}),
        compiled(TEXT.replace("x > ", "x >= ")),
        compiled(TEXT.replace("y: String", "y: Date")),
    ):
        assert body.definition_key(other) != key


def test_a_definition_made_in_python_has_a_hash_too() -> None:
    def made(least: int) -> lp.Plan:
        columns = {"columns": {"x": "Int64"}}
        pipe = lp.pipeline("p").source("a", "/a.csv", contract=columns)
        return pipe.stage("b", "a", do=[{"filter": pl.col("x") > least}]).output("b", "/out").build().compile()

    assert body.text_hash(made(1).pipeline) == body.text_hash(made(1).pipeline) != body.text_hash(made(2).pipeline)
    assert body.object_content(made(1))["definition"]["stages"]["b"]["do"] == [
        {"filter": '[(col("x")) > (dyn int: 1)]'}
    ]


def test_no_secret_is_in_an_object() -> None:
    told = json.dumps(body.object_content(compiled()))
    for secret in ("b-secret", "t-secret", "in the clear"):
        assert secret not in told
    options = json.loads(told)["definition"]["sources"]["a"]["storage_options"]
    assert options == {"token": "${TOKEN}", "secret": "***", "retries": 3, "more": ["***", "${TOKEN}"]}
    assert json.loads(told)["definition"]["outputs"]["c"]["storage_options"] == {"key": "***"}
    assert "memory://${BUCKET}/a.csv" in told


def test_sources_whose_rows_go_into_a_stage_are_not_those_that_gates_look_into() -> None:
    assert body.sources_of(compiled(), "c") == ["a"]
    assert body.sources_of(compiled(), "a") == ["a"]


def test_a_source_that_comes_in_twice_and_rows_that_are_kept_between_segments(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1, 2]}).write_csv(tmp_path / "a.csv")
    join = {"join": {"with": "c", "on": "x", "how": "inner"}}
    pipe = lp.pipeline("p", base=str(tmp_path)).source("a", "a.csv").stage("b", "a", gate=[{"positive": "x"}])
    pipe = pipe.stage("c", "b", do=[{"derive": {"y": "x"}}]).stage("d", "b", do=[join]).output("d", "out/d")
    plan = pipe.build().compile()
    assert body.sources_of(plan, "d") == ["a"]
    plan.run().raise_for_status()
    (entry,) = lp.ledger(plan).runs("d")
    assert [s["output"] for s in entry.body["segments"]] == [None, "d"]
    assert str(entry).endswith("done → d 1")
    assert [h.output for h in lp.ledger(plan).containing(str(tmp_path / "a.csv"))] == ["d"]


def test_a_plan_that_cannot_be_read_is_recorded_without_its_lineage(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise LazypipeError("an operator that is not known")

    plan = compiled()
    monkeypatch.setattr(lp.Plan, "lineage", refuse)
    told = body.object_content(plan)
    assert told["places"] == [{"error": "an operator that is not known"}]
    assert told["schemas"]["c"] == {"x": "Int64"}
