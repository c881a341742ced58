"""What a run would do is said before it does anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import LazypipeError


def write(path: Path, ids: list[int]) -> None:
    pl.DataFrame({"id": ids}).write_parquet(path)


def pipe(base: Path) -> lp.Pipeline:
    gate = [{"unique": {"columns": "id", "action": "drop"}}]
    return (
        lp.pipeline("p", base=str(base))
        .source("a", "in/*.parquet")
        .stage("shared", "a", gate=gate)
        .stage("one", "shared")
        .stage("two", "shared", do=[{"aggregate": {"aggregate": {"n": "count(*)"}}}])
        .stage("below", "two")
        .stage("again", "below", do=[{"filter": "n > 0"}], gate=[{"unique": {"columns": "n", "action": "drop"}}])
        .output("one", "out/one", mode="append")
        .output("two", "out/two")
        .output("again", "out/again")
        .output("file", "out/again.csv", from_="again", format="csv")
        .build()
    )


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in/1.parquet", [1, 2])
    return tmp_path


def said(plan: lp.Plan, **options: Any) -> dict[str, tuple[str, str]]:
    return {s["name"]: (s["how"], s["why"]) for s in plan.preview(**options)}


def test_each_output_and_what_is_kept_on_the_way(base: Path) -> None:
    plan = pipe(base).compile()
    found = said(plan)
    assert found["shared"] == ("all", "its rows are needed as files by one, two")
    assert found["two"] == ("all", "nothing was committed yet")
    assert found["again"] == ("unknown", "depends on what two writes in this run")
    assert found["file"] == ("unknown", "one csv file is replaced")
    plan.run().raise_for_status()
    found = said(plan)
    assert found["one"] == ("none", "nothing changed: a: 1 unchanged")
    assert found["two"] == ("none", "nothing changed: a: 1 unchanged")
    assert found["again"][0] == "none"
    write(base / "in/2.parquet", [3])
    found = said(pipe(base).compile())
    assert found["two"] == ("all", "a: 1 added, 1 unchanged")
    assert found["again"][0] == "unknown"
    assert said(pipe(base).compile(), full=True)["again"] == ("all", "full rebuild requested")


def test_what_is_kept_for_a_run_of_an_output_that_changes_is_unknown_too(base: Path) -> None:
    gate = [{"unique": {"columns": "id", "action": "drop"}}]
    made = (
        lp.pipeline("p", base=str(base))
        .source("a", "in/*.parquet")
        .stage("first", "a")
        .stage("kept", "first", gate=gate)
        .stage("last", "kept", do=[{"filter": "id > 0"}])
        .output("first", "out/first")
        .output("last", "out/last")
        .build()
    )
    found = said(made.compile())
    assert found["last"] == ("unknown", "depends on what kept writes in this run")
    made.compile().run().raise_for_status()
    assert {how for how, _ in said(made.compile()).values()} == {"none"}


def test_status_of_outputs(base: Path) -> None:
    plan = pipe(base).compile()
    names = ["one", "two", "again", "file"]
    assert [(o["output"], o["version"], o.get("files")) for o in plan.status()] == [
        (n, None, 0 if n == "file" else None) for n in names
    ]
    plan.run().raise_for_status()
    one, two, again, file = plan.status()
    assert file["bytes"] == (base / "out/again.csv").stat().st_size
    assert (one["version"], one["consumed"]["a"]["files"]) == (1, 1)
    assert (two["rows"], two["consumed"]["a"]["files"], two["consumed"]["a"]["version"]) == (1, 1, None)
    assert again["consumed"]["two"]["version"] == 1


def test_status_tells_what_stands_aside_ahead_of_outputs(base: Path) -> None:
    odd = [{"expression": {"condition": "id <> 1", "action": "quarantine"}}]
    made = (
        lp.pipeline("p", base=str(base))
        .source("a", "in/*.parquet", gate=odd)
        .source("b", "in/*.parquet")
        .stage("first", "a")
        .stage("both", "first", do=[{"join": {"with": "b", "on": "id"}}])
        .output("first", "out/first")
        .output("both", "out/both")
        .output("b", "out/b")
        .build()
    )
    write(base / "in/1.parquet", [1, 2, 3])
    made.compile().run().raise_for_status()
    told = {"first": {"a": 1}, "both": {"a": 1}, "b": {}}
    assert {o["output"]: o["ahead"] for o in made.compile().status()} == told
    # also where something further on is wrong
    assert {o["output"]: o["ahead"] for o in made.status()} == told


def test_versions_come_back(base: Path) -> None:
    made = pipe(base)
    made.compile().run().raise_for_status()
    write(base / "in/2.parquet", [3])
    made.compile().run().raise_for_status()
    assert lp.history(made, "two")["rows"].to_list() == [1, 1]
    assert lp.rollback(made, "two", version=1) == 3
    assert lp.scan(str(base / "out/two")).collect().item() == 2
    assert lp.history(str(base / "out/two"))["mode"].to_list()[-1] == "rollback to 1"
    assert said(made.compile())["two"] == ("all", "a: 1 added, 1 unchanged")
    made.compile().run().raise_for_status()
    assert lp.scan(str(base / "out/two")).collect().item() == 3
    with pytest.raises(LazypipeError, match="output 'file' is one csv file, which has no versions"):
        lp.history(made, "file")
    with pytest.raises(LazypipeError, match="unknown output 'tow'; did you mean 'two'"):
        lp.rollback(made.compile(), "tow", version=1)
    lp.vacuum(made, keep=2)
    for path in (base / "out/two").glob("*.parquet"):
        path.unlink()
    with pytest.raises(
        LazypipeError, match=r"version 4 cannot come back: 1 of its files are gone, such as .*; choose a later"
    ):
        lp.rollback(made, "two", version=4)


def test_what_other_runs_have_made_of_outputs_is_taken_in(base: Path) -> None:
    """Outputs that were brought up to date alone: what is made of them is not, and a preview says so, as a run does."""
    (base / "facts").mkdir()
    pl.DataFrame({"id": [1, 2], "n": [5, 6]}).write_parquet(base / "facts/1.parquet")
    made = (
        lp.pipeline("p", base=str(base))
        .source("a", "in/*.parquet")
        .source("f", "facts/*.parquet")
        .stage("ids", "a", do=[{"derive": {"w": "id * 2"}}])
        .stage("log", "ids", do=[{"filter": "id > 0"}])
        .stage("known", "f", do=[{"join": {"with": "ids", "on": "id", "how": "left"}}])
        .output("ids", "out/ids")
        .output("log", "out/log", mode="append")
        .output("known", "out/known")
        .build()
    )
    made.compile().run().raise_for_status()
    assert {how for how, _ in said(made.compile()).values()} == {"none"}
    write(base / "in/2.parquet", [3])
    made.compile().run(outputs=["ids"]).raise_for_status()
    found = said(made.compile())
    assert {n: how for n, (how, _) in found.items()} == {"ids": "none", "log": "units", "known": "units"}
    made.compile().run().raise_for_status()
    assert lp.scan(str(base / "out/log")).collect()["id"].sort().to_list() == [1, 2, 3]


def test_rows_are_told_where_logs_and_footers_tell_them(base: Path) -> None:
    """Of files, parts of files, a dataset, parts of a dataset, a Delta table and text."""
    (base / "in/a.csv").write_text("id\n1\n")
    stages = {
        "kept": {"from": "files", "do": [{"filter": "id > 1"}]},
        "more": {"from": "kept", "do": [{"derive": {"x": "id + 1"}}]},
    }
    outputs: dict[str, Any] = {"kept": {"to": "out/kept"}, "text": {"to": "out/text"}}
    data: dict[str, Any] = {
        "version": 1,
        "name": "p",
        "sources": {"files": {"uri": "in/*.parquet"}, "text": {"uri": "in/a.csv"}},
        "stages": {"kept": stages["kept"]},
        "outputs": outputs,
    }

    def rows(data: Any, **options: Any) -> dict[str, Any]:
        steps = lp.Pipeline.from_dict(data, base=str(base)).compile().preview(**options)
        return {r["name"]: r["rows"] for step in steps for r in step["reads"]}

    write(base / "in/2.parquet", [3, 4, 5])
    assert rows(data) == {"files": 5, "text": None}
    assert rows(data, max_files=1) == {"files": 2, "text": None}
    lp.Pipeline.from_dict(data, base=str(base)).compile().run().raise_for_status()
    write(base / "in/3.parquet", [6])
    assert rows(data) == {"files": 1}
    lp.Pipeline.from_dict(data, base=str(base)).compile().run().raise_for_status()
    (base / "in/5.parquet").write_bytes(b"nonsense")
    assert rows(data) == {"files": None}, "what is wrong with it the run tells"

    # the dataset as a source: what is new in it, and what is left when rows go
    further: dict[str, Any] = {
        "version": 1,
        "name": "q",
        "sources": {"kept": {"uri": "out/kept"}},
        "stages": {"more": stages["more"]},
        "outputs": {"more": {"to": "out/more"}},
    }
    (base / "in/5.parquet").unlink()
    assert rows(further) == {"kept": 5}
    assert rows(further, max_rows=2) == {"kept": 1}
    lp.Pipeline.from_dict(further, base=str(base)).compile().run().raise_for_status()
    write(base / "in/4.parquet", [0, 7, 8])
    (base / "in/2.parquet").unlink()
    lp.Pipeline.from_dict(data, base=str(base)).compile().run().raise_for_status()
    assert rows(further) == {"kept": 2}
    assert rows(further, full=True) == {"kept": lp.scan(str(base / "out/kept")).collect().height} == {"kept": 4}

    # a dataset whose rows are not told apart, and a Delta table
    write_delta = {
        **further,
        "name": "r",
        "outputs": {"more": {"to": "out/delta", "format": "delta", "mode": "append"}},
    }
    lp.Pipeline.from_dict(write_delta, base=str(base)).compile().run().raise_for_status()
    for form in ("dataset", "delta"):
        source = {"d": {"uri": "out/delta", "format": form}}
        assert rows({**further, "sources": source, "stages": {"more": {"from": "d"}}}) == {"d": 4}, form
    bare = next((base / "out/delta/_delta_log").glob("*0.json"))
    lines = [json.loads(line) for line in bare.read_text().splitlines()]
    for line in lines:
        line.get("add", {}).pop("stats", None)
    bare.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert rows({**further, "sources": source, "stages": {"more": {"from": "d"}}}) == {"d": None}
