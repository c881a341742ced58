"""Files of a table are merged between runs, and several outputs that add rows, or follow them, share the stage that reads it: no row is lost."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe import optimize

WAITS = "waiting for the next run: files of t were merged, and {} first reads them as they were before"


class World:
    """A table ``t`` of one row per file, and outputs of a definition that reads it through a stage ``shared``."""

    def __init__(self, root: Path, **stages: Any) -> None:
        self.root, self.count = root, 0
        (root / "in").mkdir()
        self.one = lp.Pipeline.from_dict(
            {
                "version": 1,
                "name": "one",
                "sources": {"s": {"uri": "in/*.parquet"}},
                "stages": {"t": {"from": "s"}},
                "outputs": {"t": {"to": "t", "mode": "upsert", "key": "id"}},
            },
            base=str(root),
        )
        self.data: dict[str, Any] = {
            "version": 1,
            "name": "two",
            "sources": {"t": {"uri": "t"}},
            "stages": {
                "shared": {"from": "t", "do": [{"derive": {"even": "id % 2 = 0"}}]},
                "a": {"from": "shared", "do": [{"select": ["id"]}]},
                "b": {"from": "shared", "do": [{"select": ["id", "even"]}]},
                **stages,
            },
            "outputs": {"a": {"to": "a", "mode": "append"}, "b": {"to": "b", "mode": "append"}},
        }

    def deliver(self, *ids: int) -> None:
        """Add rows to the table, each in a file of its own."""
        for number in ids:
            pl.DataFrame({"id": [number]}).write_parquet(self.root / f"in/{number}.parquet")
            self.one.compile().run().raise_for_status()
            self.count += 1

    def merge(self) -> None:
        """Make one file of all that the table has."""
        assert len(optimize.compact(str(self.root / "t")).replaced) > 1

    @property
    def pipe(self) -> lp.Pipeline:
        return lp.Pipeline.from_dict(self.data, base=str(self.root))

    def run(self, *outputs: str) -> dict[str, tuple[str, str | None]]:
        result = self.pipe.compile(outputs=outputs).run()
        result.raise_for_status()
        return {s.output: (s.status, s.why) for s in result.segments if s.output is not None}

    def statuses(self, *outputs: str) -> dict[str, str]:
        return {name: status for name, (status, _) in self.run(*outputs).items()}

    def ids(self, name: str) -> list[int]:
        return sorted(lp.scan(str(self.root / name)).collect()["id"].to_list())


@pytest.mark.parametrize(
    "gate", [[], [{"between": {"column": "id", "max": 2, "action": "quarantine"}}]], ids=["no gate", "gate"]
)
def test_outputs_that_share_a_stage_add_all_rows(tmp_path: Path, gate: list[Any]) -> None:
    world = World(tmp_path)
    world.data["stages"]["shared"]["gate"] = gate
    world.deliver(1)
    world.run()
    world.deliver(2, 3)
    world.merge()
    assert {s["name"]: s["how"] for s in world.pipe.compile().preview() if s["name"] in "ab"} == {
        "a": "units",
        "b": "units",
    }
    assert world.statuses() == {"a": "done", "b": "done"}
    expected = [1, 2] if gate else [1, 2, 3]
    assert world.ids("a") == world.ids("b") == expected
    if gate:
        assert world.ids(".lazypipe/quarantine/two/shared") == [3]
    world.deliver(4)
    assert world.statuses() == {"a": "done", "b": "done"}
    assert world.ids("a") == world.ids("b") == (expected if gate else [1, 2, 3, 4])
    assert world.statuses() == {"a": "unchanged", "b": "unchanged"}
    if gate:
        assert world.ids(".lazypipe/quarantine/two/shared") == [3, 4]


def test_what_a_shared_gate_quarantined_stays_when_files_are_merged(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.data["stages"]["shared"]["gate"] = [{"between": {"column": "id", "max": 2, "action": "quarantine"}}]
    # what reads the table in whole has no part in that
    world.data["sources"]["o"] = {"uri": "in/*.parquet"}
    world.data["stages"]["c"] = {"from": "o", "do": [{"join": {"with": "t", "on": "id", "how": "semi"}}]}
    world.data["outputs"]["c"] = {"to": "c"}
    world.deliver(1, 2, 3)
    world.run()
    world.merge()
    assert world.statuses() == {"a": "unchanged", "b": "unchanged", "c": "done"}
    world.deliver(4)
    assert world.statuses() == {"a": "done", "b": "done", "c": "done"}
    assert world.ids("c") == [1, 2, 3, 4]
    assert world.ids(".lazypipe/quarantine/two/shared") == [3, 4]
    assert world.ids("a") == world.ids("b") == [1, 2]


def test_what_reads_the_merged_file_waits_for_what_does_not(tmp_path: Path) -> None:
    world = World(tmp_path, c={"from": "shared", "do": [{"aggregate": {"by": "even", "aggregate": {"n": "count(*)"}}}]})
    world.data["outputs"]["c"] = {"to": "c"}
    world.deliver(1)
    world.run()
    world.deliver(2, 3)
    world.merge()
    plan = {s["name"]: s for s in world.pipe.compile().preview()}
    assert (plan["c"]["how"], plan["c"]["why"]) == ("wait", WAITS.format("a"))
    assert plan["c"]["writes"].startswith("nothing: ")
    assert [(r["files"], r["rows"]) for r in plan["shared"]["reads"]] == [(2, 2)]
    result = world.pipe.compile().run()
    assert [(s.output, s.status, s.left) for s in result.segments if s.output] == [
        ("a", "done", 0),
        ("b", "done", 0),
        ("c", "waiting", 1),
    ]
    assert result.segments[-1].why == WAITS.format("a")
    assert world.ids("a") == world.ids("b") == [1, 2, 3]
    assert world.statuses() == {"a": "unchanged", "b": "unchanged", "c": "done"}
    rows = lp.scan(str(tmp_path / "c")).collect()
    assert Counter(rows.select("even", "n").rows()) == {(True, 1): 1, (False, 2): 1}
    assert world.statuses() == {"a": "unchanged", "b": "unchanged", "c": "unchanged"}


def test_the_output_that_is_furthest_behind_goes_first(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.deliver(1)
    world.run()
    world.deliver(2)
    world.run("a")
    world.deliver(3)
    world.merge()
    world.deliver(4)
    world.merge()
    # a has read two rows, b one: both need the version before the first merge
    assert world.statuses() == {"a": "done", "b": "done"}
    assert world.ids("a") == world.ids("b") == [1, 2, 3]
    world.run("b")
    assert world.ids("b") == [1, 2, 3, 4]
    assert world.statuses() == {"a": "done", "b": "unchanged"}
    assert world.ids("a") == world.ids("b") == [1, 2, 3, 4]


def test_outputs_that_need_different_versions_go_one_after_the_other(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.deliver(1)
    world.run()
    world.deliver(2)
    world.merge()
    world.run("a")  # of the version before
    world.deliver(3)
    world.merge()
    found = world.run()
    assert found["a"] == ("waiting", WAITS.format("b"))
    assert found["b"][0] == "done"
    assert (world.ids("a"), world.ids("b")) == ([1, 2], [1, 2])
    assert world.statuses() == {"a": "done", "b": "done"}
    assert world.ids("a") == world.ids("b") == [1, 2, 3]


def test_stages_behind_stages_that_are_shared(tmp_path: Path) -> None:
    inner = {"from": "shared", "do": [{"filter": "id <> 2"}]}
    world = World(tmp_path, inner=inner, c={"from": "inner"}, d={"from": "inner", "do": [{"select": ["id"]}]})
    world.data["outputs"] |= {"c": {"to": "c", "mode": "append"}, "d": {"to": "d"}}
    world.deliver(1)
    world.run()
    world.deliver(2, 3)
    world.merge()
    assert world.statuses() == {"a": "done", "b": "done", "c": "done", "d": "waiting"}
    assert [world.ids(n) for n in "abcd"] == [[1, 2, 3], [1, 2, 3], [1, 3], [1]]
    assert world.statuses() == {"a": "unchanged", "b": "unchanged", "c": "unchanged", "d": "done"}
    assert world.ids("d") == [1, 3]


@pytest.mark.parametrize(
    "gate", [[], [{"between": {"column": "id", "max": 2, "action": "quarantine"}}]], ids=["no gate", "gate"]
)
def test_an_output_of_the_same_definition_is_read_as_it_was_before(tmp_path: Path, gate: list[Any]) -> None:
    world = World(tmp_path)
    world.data["stages"]["shared"]["gate"] = gate
    world.data["sources"] = {"s": {"uri": "in/*.parquet"}}
    world.data["stages"]["t"] = {"from": "s"}
    world.data["outputs"]["t"] = {"to": "t", "mode": "upsert", "key": "id"}
    world.one = world.pipe
    world.deliver(1)
    for number in (2, 3):
        pl.DataFrame({"id": [number]}).write_parquet(tmp_path / f"in/{number}.parquet")
        world.run("t")
    world.merge()
    assert world.statuses() == {"t": "unchanged", "a": "done", "b": "done"}
    assert world.ids("a") == world.ids("b") == ([1, 2] if gate else [1, 2, 3])
    world.deliver(4)
    world.merge()
    world.deliver(5)
    assert world.ids("a") == world.ids("b") == ([1, 2] if gate else [1, 2, 3, 4, 5])
    if gate:
        assert world.ids(".lazypipe/quarantine/two/shared") == [3, 4, 5]


def test_an_output_that_also_reads_what_comes_later_is_not_forgotten(tmp_path: Path) -> None:
    late = {"from": "shared", "do": [{"join": {"with": "z", "on": "id", "how": "semi"}}]}
    world = World(tmp_path, z={"from": "t"}, b=late)
    world.data["outputs"]["z"] = {"to": "z", "mode": "append"}
    world.deliver(1)
    world.run()
    world.deliver(2, 3)
    world.merge()
    for _ in range(2):
        world.run()
    assert [world.ids(n) for n in "abz"] == [[1, 2, 3]] * 3


def test_a_stream_goes_on_until_all_have_read_the_merged_file(tmp_path: Path) -> None:
    world = World(tmp_path, c={"from": "shared", "do": [{"select": ["id"]}]})
    world.data["outputs"]["c"] = {"to": "c"}
    world.deliver(1)
    world.run()
    world.deliver(2, 3)
    world.merge()
    assert [r.status for r in lp.stream(world.pipe, lp.Trigger(once=True))][-1] == "done"
    assert [world.ids(n) for n in "abc"] == [[1, 2, 3]] * 3


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_the_version_before_is_gone(tmp_path: Path, mode: str) -> None:
    world = World(tmp_path)
    del world.data["outputs"]["b"]
    world.data["outputs"]["a"] |= {"mode": mode} | ({"key": "id"} if mode == "upsert" else {})
    world.deliver(1)
    world.run()
    world.deliver(2, 3)
    world.merge()
    lp.vacuum(world.one, keep=1, older_than=timedelta(0))
    if mode == "append":  # with keys it does no harm that rows come again
        for said in ({}, {"on_modified": "fail"}, {"on_modified": "ignore"}):
            world.data["sources"]["t"] = {"uri": "t", **said}
            result = world.pipe.compile().run()
            assert str(result.segments[0].error) == (
                f"{tmp_path}/a: output 'a': rows of 't' were rewritten, and would be added a second time; run once in full "
                "(--full), which rebuilds it, or say at the source on_modified: reprocess to add all of its rows again"
            )
        assert world.ids("a") == [1]
        world.pipe.compile().run(full=True).raise_for_status()
    else:
        world.run()
    assert world.ids("a") == [1, 2, 3]
    world.data["sources"]["t"] = {"uri": "t"}
    world.deliver(4)
    assert world.statuses() == {"a": "done"}
    assert world.ids("a") == [1, 2, 3, 4]


@pytest.mark.parametrize("said", ["fail", "ignore", "reprocess"])
def test_rows_of_a_table_that_were_corrected_are_added_again_only_if_asked_for(tmp_path: Path, said: str) -> None:
    world = World(tmp_path)
    world.data["sources"]["t"]["on_modified"] = said
    for number, rows in enumerate([{"id": [1, 2], "x": [1, 2]}, {"id": [1], "x": [10]}]):
        pl.DataFrame(rows).write_parquet(tmp_path / f"in/{number}.parquet")
        world.one.compile().run().raise_for_status()
        if number == 0:
            world.run("a")
    assert world.ids("a") == [1, 2]
    result = world.pipe.compile(outputs=["a"]).run()
    if said == "reprocess":
        assert (result.status, world.ids("a")) == ("done", [1, 1, 2, 2])
        return
    assert str(result.segments[-1].error) == (
        f"{tmp_path}/a: output 'a': rows of 't' were rewritten, and would be added a second time; read a feed of its changes "
        "instead, write to another place, or say at the source on_modified: reprocess to add all of its rows again"
    )
    assert world.ids("a") == [1, 2]


def test_in_full_all_is_read_as_it_is_now(tmp_path: Path) -> None:
    world = World(tmp_path, c={"from": "shared", "do": [{"select": ["id"]}]})
    world.data["outputs"]["c"] = {"to": "c"}
    world.deliver(1)
    world.run()
    world.deliver(2, 3)
    world.merge()
    assert [s["how"] for s in world.pipe.compile().preview(full=True)] == ["all"] * 4
    world.pipe.compile().run(full=True).raise_for_status()
    assert [world.ids(n) for n in "abc"] == [[1, 2, 3]] * 3


@pytest.mark.parametrize(
    "gate", [[], [{"between": {"column": "id", "max": 2, "action": "quarantine"}}]], ids=["no gate", "gate"]
)
def test_a_delta_table_is_read_as_it_was_before(tmp_path: Path, gate: list[Any]) -> None:
    deltalake = pytest.importorskip("deltalake")
    world = World(tmp_path)
    if not gate:
        world.data["stages"]["c"] = {"from": "shared", "do": [{"select": ["id"]}]}
        world.data["outputs"]["c"] = {"to": "c"}
    world.data["stages"]["shared"]["gate"] = gate
    uri = str(tmp_path / "t")

    def deliver(*ids: int) -> None:
        for number in ids:
            deltalake.write_deltalake(uri, pl.DataFrame({"id": [number]}).to_arrow(), mode="append")

    def merge() -> None:
        deltalake.DeltaTable(uri).optimize.compact()

    deliver(1)
    world.run()
    deliver(2, 3)
    merge()
    both = {"a": "done", "b": "done"}
    assert world.statuses() == both | ({} if gate else {"c": "waiting"})
    assert world.statuses() == {"a": "unchanged", "b": "unchanged"} | ({} if gate else {"c": "done"})
    names, expected = ("ab", [1, 2]) if gate else ("abc", [1, 2, 3])
    assert [world.ids(n) for n in names] == [expected] * len(names)
    deliver(4)
    assert world.statuses() == dict.fromkeys(names, "done")
    merge()
    deliver(5)
    assert world.statuses() == dict.fromkeys(names, "done")
    assert [world.ids(n) for n in names] == [expected if gate else [1, 2, 3, 4, 5]] * len(names)
    if gate:
        assert world.ids(".lazypipe/quarantine/two/shared") == [3, 4, 5]


class Kept:
    """An output that keeps the rows of files that are gone, of a table whose files are merged and corrected."""

    def __init__(self, root: Path, kind: str, **output: Any) -> None:
        self.root, self.kind, self.count = root, kind, 0
        (root / "in").mkdir()
        source = {"uri": "in/*.parquet"}
        mode = "append" if kind == "delta" else kind
        table = {"to": "t", "mode": mode, **({"key": "id"} if kind == "upsert" else {}), **output}
        stages = {"t": {"from": "s"}}
        one = {"version": 1, "name": "one", "sources": {"s": source}, "stages": stages, "outputs": {"t": table}}
        self.one = lp.Pipeline.from_dict(one, base=str(root))
        self.on_removed = "ignore"

    def deliver(self, **rows: list[int]) -> None:
        """Add rows to the table; of one with keys they are corrections, if they are there."""
        self.count += 1
        if self.kind == "delta":
            deltalake = pytest.importorskip("deltalake")
            deltalake.write_deltalake(str(self.root / "t"), pl.DataFrame(rows).to_arrow(), mode="append")
            return
        pl.DataFrame(rows).write_parquet(self.root / f"in/{0 if self.kind == 'snapshot' else self.count}.parquet")
        self.one.compile().run().raise_for_status()

    def merge(self) -> None:
        if self.kind == "delta":
            pytest.importorskip("deltalake").DeltaTable(str(self.root / "t")).optimize.compact()
        else:
            optimize.compact(str(self.root / "t"))

    def run(self, **how: Any) -> lp.RunResult:
        source = {"uri": "t", "on_removed": self.on_removed}
        stages = {"rows": {"from": "t", "do": [{"select": ["id", "x"]}]}}
        stages["sums"] = {"from": "t", "do": [{"aggregate": {"by": "id", "aggregate": {"x": "sum(x)"}}}]}
        outputs = {"rows": {"to": "rows"}, "sums": {"to": "sums"}}
        two = {"version": 1, "name": "two", "sources": {"t": source}, "stages": stages, "outputs": outputs}
        return lp.Pipeline.from_dict(two, base=str(self.root)).compile().run(**how)

    def rows(self, name: str = "rows") -> list[tuple[int, int]]:
        return sorted(lp.scan(str(self.root / name)).select("id", "x").collect().rows())


@pytest.mark.parametrize("kind", ["append", "upsert", "delta"])
@pytest.mark.parametrize("on_removed", ["ignore", "fail"])
def test_merged_files_are_not_gone(tmp_path: Path, kind: str, on_removed: str) -> None:
    world = Kept(tmp_path, kind)
    world.on_removed = on_removed
    for number in (1, 2, 3):
        world.deliver(id=[number], x=[number])
    world.run().raise_for_status()
    world.merge()
    world.deliver(id=[4], x=[4])
    world.run().raise_for_status()
    assert world.rows() == world.rows("sums") == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_corrected_rows_are_not_kept_beside_what_they_were(tmp_path: Path) -> None:
    world = Kept(tmp_path, "upsert")
    world.deliver(id=[1, 2], x=[1, 2])
    world.run().raise_for_status()
    world.deliver(id=[1], x=[10])
    world.run().raise_for_status()
    assert world.rows() == world.rows("sums") == [(1, 10), (2, 2)]


def test_corrected_files_of_a_table_whose_rows_follow_its_files(tmp_path: Path) -> None:
    world = Kept(tmp_path, "replace")
    world.deliver(id=[1, 2], x=[1, 2])
    world.deliver(id=[3], x=[3])
    world.run().raise_for_status()
    world.deliver(id=[4], x=[4])
    world.run().raise_for_status()
    # one file is corrected and one is gone before the next run
    world.count = 0
    world.deliver(id=[1, 2], x=[10, 2])
    (tmp_path / "in/2.parquet").unlink()
    world.one.compile().run().raise_for_status()
    world.run().raise_for_status()
    assert world.rows() == world.rows("sums") == [(1, 10), (2, 2), (3, 3), (4, 4)]
    world.merge()
    world.count = 4
    world.deliver(id=[5], x=[5])
    world.run().raise_for_status()
    assert world.rows() == world.rows("sums") == [(1, 10), (2, 2), (3, 3), (4, 4), (5, 5)]


def test_rows_that_were_deleted_from_a_delta_table_are_kept(tmp_path: Path) -> None:
    world = Kept(tmp_path, "delta")
    for number in (1, 2, 3):
        world.deliver(id=[number], x=[number])
    world.run().raise_for_status()
    pytest.importorskip("deltalake").DeltaTable(str(tmp_path / "t")).delete("id = 1")
    world.merge()
    world.deliver(id=[4], x=[4])
    world.run().raise_for_status()
    assert world.rows() == world.rows("sums") == [(1, 1), (2, 2), (3, 3), (4, 4)]
    world.merge()
    world.run().raise_for_status()
    assert world.rows() == world.rows("sums") == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_snapshots_that_are_no_longer_kept_in_the_table_are_kept(tmp_path: Path) -> None:
    world = Kept(tmp_path, "snapshot", keep=1)
    for number in (1, 2, 3):
        world.deliver(id=[number], x=[number])
        world.run().raise_for_status()
    assert world.rows() == world.rows("sums") == [(1, 1), (2, 2), (3, 3)]


def test_what_became_of_files_is_no_longer_known(tmp_path: Path) -> None:
    world = Kept(tmp_path, "upsert")
    for number in (1, 2):
        world.deliver(id=[number], x=[number])
    world.run().raise_for_status()
    world.merge()
    lp.vacuum(world.one, keep=1, older_than=timedelta(0))
    result = world.run()
    assert re.fullmatch(
        r".*/t/\S+\.parquet: source 't': files that were read are gone, and the log of the table no longer says whether their "
        r"rows are in others now; run once in full \(--full\), or say on_removed: delete",
        str(result.segments[0].error),
    )
    assert world.rows() == [(1, 1), (2, 2)]
    world.run(full=True).raise_for_status()
    assert world.rows() == world.rows("sums") == [(1, 1), (2, 2)]


def test_a_commit_that_cannot_be_read_is_told_by_a_preview(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.deliver(1)
    world.run()
    world.deliver(2, 3)
    world.merge()
    (commit,) = (tmp_path / "b.commits").glob("*1.json")
    commit.write_text("{")
    (said,) = [s for s in world.pipe.compile().preview() if s["name"] == "b"]
    assert said["how"] == "error"
    assert re.search(r"b\.commits/0+1\.json: the commit file", said["why"])
    assert {s["name"]: s["how"] for s in world.pipe.compile(outputs=["a"]).preview() if s["name"] == "a"} == {
        "a": "units"
    }
