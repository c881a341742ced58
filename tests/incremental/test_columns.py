"""Which columns files were found to have, kept in commits: a file that is as it was is not looked into again.

That nobody looks is told by the machine: what the file holds is destroyed, and its size and stamp stay.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import LazypipeError
from lazypipe.incremental.columns import COLUMNS, columns_found, recalled
from lazypipe.incremental.state import Consumed, ConsumedFile

OLD = 1_700_000_000


def written(path: Path, rows: pl.DataFrame, at: int = OLD) -> Path:
    """Write a file of the format that its name says, long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.name.split(".", 1)[1]:
        case "parquet":
            rows.write_parquet(path)
        case "arrow":
            rows.write_ipc(path)
        case "csv.gz":
            path.write_bytes(gzip.compress(rows.write_csv().encode()))
        case "csv":
            rows.write_csv(path)
        case "jsonl":
            rows.write_ndjson(path)
    os.utime(path, (at, at))
    return path


def destroyed(path: Path) -> None:
    """Have a file hold nothing that could be read, with size and stamp as they were."""
    about = path.stat()
    path.write_bytes(bytes(about.st_size))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def over(base: Path, uri: str, to: str = "out", **more: Any) -> lp.Pipeline:
    made = lp.pipeline("p", base=str(base), audit="off").source("a", uri, **more)
    return made.stage("b", "a", do=[{"filter": "x > 1"}]).output("b", to).build()


LOOKED = r"in/0\.csv|the file is not text|lack column 'x'"
"""How it shows that a file was looked into that holds nothing."""

EACH = {"columns": {"x": "Int64"}, "on_new_column": "evolve"}
"""By this, each file is looked into."""

ROWS = pl.DataFrame({"x": [1, 2, 3], "t": ["a", "b", "c"]})


def said(base: Path) -> dict[str, Any]:
    """Return what the last commit says of columns."""
    last = max((base / "out.commits").glob("*.json"))
    found: dict[str, Any] = json.loads(last.read_text())["info"]["consumed"].get(COLUMNS, {})
    return found


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv", "csv.gz", "jsonl"])
@pytest.mark.parametrize("more", [{}, {"contract": EACH}], ids=["alike", "each"])
def test_where_nothing_changed_no_file_is_opened(tmp_path: Path, ending: str, more: dict[str, Any]) -> None:
    pipe = over(tmp_path, f"in/*.{ending}", **more)
    files = [written(tmp_path / f"in/{n}.{ending}", ROWS) for n in range(3)]
    first = pipe.compile()
    first.run().raise_for_status()
    for file in files:
        destroyed(file)
    again = pipe.compile()
    assert again.run().status == "unchanged"
    assert again.nodes["a"].schema == first.nodes["a"].schema == ROWS.schema


def test_of_one_file_more_no_other_is_opened(tmp_path: Path) -> None:
    pipe = over(tmp_path, "in/*.csv", contract=EACH)
    files = [written(tmp_path / f"in/{n}.csv", ROWS) for n in range(3)]
    pipe.compile().run().raise_for_status()
    for round_ in range(2):  # what is known from before is said again
        for file in files:
            destroyed(file)
        files.append(written(tmp_path / f"in/{len(files)}.csv", ROWS, OLD + 60))
        pipe.compile().run().raise_for_status()
        assert lp.scan(str(tmp_path / "out")).collect().height == 2 * (4 + round_)
    assert said(tmp_path)["a"]["of"] == [0] * 5


def test_files_may_differ(tmp_path: Path) -> None:
    files = [
        written(tmp_path / "in/0.csv", ROWS.drop("t")),
        written(tmp_path / "in/1.csv", ROWS.with_columns(x=pl.col("x") + 0.5)),
        written(tmp_path / "in/2.csv", ROWS.drop("t")),
    ]
    pipe = over(tmp_path, "in/*.csv", contract=DIFFERENT)
    first = pipe.compile()
    first.run().raise_for_status()
    assert said(tmp_path)["a"]["schemas"] == [[["x", "Int64"]], [["x", "Float64"], ["t", "String"]]]
    assert said(tmp_path)["a"]["of"] == [0, 1, 0]
    for file in files:
        destroyed(file)
    assert pipe.compile().nodes["a"].schema == first.nodes["a"].schema == {"x": pl.Float64(), "t": pl.String()}


DIFFERENT = {"columns": {"x": "Float64"}, "on_new_column": "evolve", "on_type_change": "evolve"}


def rewritten(path: Path) -> None:
    written(path, ROWS.with_columns(t=pl.lit("abc")), OLD + 60)


def another_size(path: Path) -> None:
    written(path, ROWS.head(1), OLD)


@pytest.mark.parametrize("change", [rewritten, another_size])
def test_a_file_that_is_another_is_looked_into(tmp_path: Path, change: Callable[[Path], None]) -> None:
    file = written(tmp_path / "in/0.csv", ROWS)
    pipe = over(tmp_path, "in/*.csv")
    pipe.compile().run().raise_for_status()
    change(file)
    destroyed(file)
    with pytest.raises(LazypipeError, match=LOOKED):
        pipe.compile().run().raise_for_status()


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {"detect": "content"}),
        ({"detect": "content"}, {}),
        ({}, {"read": {"separator": ";"}}),
        ({}, {"contract": {"columns": {"x": "Float64"}}}),
        ({"contract": {"columns": {"x": "Float64"}}}, {"contract": {"columns": {"x": "Int64"}}}),
    ],
)
def test_what_was_found_holds_for_a_source_that_is_read_so(
    tmp_path: Path, before: dict[str, Any], now: dict[str, Any]
) -> None:
    file = written(tmp_path / "in/0.csv", ROWS)
    over(tmp_path, "in/*.csv", **before).compile().run().raise_for_status()
    destroyed(file)
    with pytest.raises(LazypipeError, match=LOOKED):
        over(tmp_path, "in/*.csv", **now).compile()


def looked_into_again(base: Path, pipe: lp.Pipeline, file: Path) -> None:
    """Check that a run says nothing of a file's columns, so that they are asked of it again."""
    pipe.compile().run().raise_for_status()
    assert said(base) == {}
    destroyed(file)
    with pytest.raises(LazypipeError, match=LOOKED):
        pipe.compile()


def test_what_was_written_just_now_proves_nothing(tmp_path: Path) -> None:
    file = written(tmp_path / "in/0.csv", ROWS)
    os.utime(file)
    looked_into_again(tmp_path, over(tmp_path, "in/*.csv"), file)


def test_a_plan_that_waits_says_nothing_of_what_came_after_it_looked(tmp_path: Path) -> None:
    """The file may have been written once more in the moment in which it was looked into, and its stamp did not tell."""
    file = written(tmp_path / "in/0.csv", ROWS)
    os.utime(file)
    plan = over(tmp_path, "in/*.csv").compile()
    source = plan.nodes["a"].source
    assert source is not None
    about = file.stat()
    later = Consumed(
        "files", (ConsumedFile(str(file), about.st_size, str(about.st_mtime_ns)),), listed=about.st_mtime_ns + 10**12
    )
    assert columns_found(source, later) is None


def test_wide_files_are_looked_into(tmp_path: Path) -> None:
    wide = pl.DataFrame({"x": 1, **{f"a long name of a column {n:04}": 1 for n in range(500)}})
    looked_into_again(tmp_path, over(tmp_path, "in/*.csv"), written(tmp_path / "in/0.csv", wide))


def test_values_of_variables_are_not_written_down_and_known_all_the_same(tmp_path: Path) -> None:
    files = [written(tmp_path / f"{of}-secret/{n}.csv", ROWS) for of in "ab" for n in range(2)]
    env = {"OF": "a-secret", "ELSE": "b-secret"}
    pipe = over(tmp_path, "${OF}/*.csv", contract=EACH)
    pipe.compile(env=env).run().raise_for_status()
    assert "secret" not in json.dumps(said(tmp_path))
    for file in files[:2]:
        destroyed(file)
    assert pipe.compile(env=env).run().status == "unchanged"


@pytest.mark.parametrize("damage", [{"by": "x"}, {"of": ["a"]}, {"schemas": [[["x", "Int46"]]]}, {"schemas": 1}])
def test_what_cannot_be_understood_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: dict[str, Any]
) -> None:
    written(tmp_path / "in/0.csv", ROWS)
    pipe = over(tmp_path, "in/*.csv")
    first = pipe.compile()
    first.run().raise_for_status()
    source = first.nodes["a"].source
    assert source is not None
    read = lp.storage.datasets.dataset.Dataset.latest

    def latest(self: Any, known: Any = None) -> Any:
        commit = read(self, known)
        consumed = commit.info["consumed"]
        told = {**consumed, COLUMNS: {"a": {**consumed[COLUMNS]["a"], **damage}}}
        return commit.__class__(**{**commit.__dict__, "info": {**commit.info, "consumed": told}})

    assert len(recalled(first.outputs, 0)(source).columns) == 1
    monkeypatch.setattr(lp.storage.datasets.dataset.Dataset, "latest", latest)
    assert recalled(first.outputs, 0)(source).columns == {}


def test_of_an_output_elsewhere_or_that_is_damaged_nothing_is_asked(tmp_path: Path) -> None:
    file = written(tmp_path / "in/0.csv", ROWS)
    away = over(tmp_path, "in/*.csv", to="memory://columns-away")
    made = lp.pipeline("p", base=str(tmp_path), audit="off").source("a", "in/*.csv")
    for name, to in (("b", "out"), ("c", "memory://columns-beside"), ("d", "exported.csv")):
        made = made.stage(name, "a", do=[{"filter": "x > 1"}]).output(name, to)
    here = made.build()
    for pipe in (away, here):
        pipe.compile().run().raise_for_status()
    (commit,) = (tmp_path / "out.commits").glob("*.json")
    commit.write_text("{}")
    destroyed(file)
    for pipe in (away, here):
        with pytest.raises(LazypipeError, match=LOOKED):
            pipe.compile()
