"""What is right by itself stays right together: layouts and keys, watermarks and outputs that are added to, bounds and windows that close."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import DefinitionError
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.optimizer.form_numbers import Cast
from lazypipe.storage.optimizer.form_texts import Flag
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.maintenance import relayout

START = datetime(2024, 6, 1, tzinfo=UTC)
TIMED = {"event_time": "t", "watermark": {"delay": "0s"}}
CLOSES = {"window": {"time": "t", "every": "1h", "emit": "on_close", "aggregate": {"n": "count(*)"}}}


class World:
    """A folder with deliveries of ``t, k, v`` and a pipeline over it; runs are a day apart."""

    def __init__(self, root: Path, output: dict[str, Any], *steps: dict[str, Any], **source: Any) -> None:
        self.root = root
        self.runs = 0
        columns = {"t": "Datetime(us)", "k": "Int64", "s": "String"}
        self.definition: dict[str, Any] = {
            "version": 1,
            "name": "p",
            "sources": {"a": {"uri": "in/*.csv", "contract": {"columns": columns}, **source}},
            "stages": {"s": {"from": "a", "do": [*steps] or [{"filter": "k >= 0"}]}},
            "outputs": {"o": {"from": "s", "to": "out/o", **output}},
        }

    def deliver(self, name: str, *rows: tuple[int, int, str]) -> None:
        (self.root / "in").mkdir(exist_ok=True)
        lines = [f"2024-01-01T{minutes // 60:02}:{minutes % 60:02}:00,{k},{s}" for minutes, k, s in rows]
        (self.root / "in" / f"{name}.csv").write_text("\n".join(["t,k,s", *lines, ""]))

    def run(self, **more: Any) -> lp.RunResult:
        self.runs += 1
        plan = lp.Pipeline.from_dict(self.definition, base=self.root).compile()
        result = plan.run(now=START + timedelta(days=self.runs), **more)
        result.raise_for_status()
        return result

    @property
    def dataset(self) -> Dataset:
        return Dataset(str(self.root / "out/o"))

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        return sorted(lp.scan(str(self.root / "out/o")).select(columns).collect().rows())


@pytest.mark.parametrize(("key", "form"), [("k", Cast(pl.Int8())), ("s", Flag("yes", "no"))])
def test_a_key_in_another_form_is_found(tmp_path: Path, key: str, form: Any) -> None:
    world = World(tmp_path, {"mode": "upsert", "key": [key]})
    world.deliver("1", (0, 1, "yes"), (0, 2, "no"), (0, 1000, "maybe"))
    world.run()
    relayout(world.dataset, Layout(forms={key: form}), run="x", time=START)
    world.deliver("2", (60, 1000, "maybe"))
    world.run()
    assert world.rows("k", "s") == [(1, "yes"), (2, "no"), (1000, "maybe")]


@pytest.mark.parametrize("by", ["k", "half"])
def test_groups_are_found_in_other_partitions(tmp_path: Path, by: str) -> None:
    counted = {"aggregate": {"by": ["k"], "aggregate": {"n": "count(*)"}}}
    world = World(tmp_path, {}, counted, {"derive": {"half": "k % 2"}})
    world.deliver("1", *((0, k, "x") for k in range(20)))
    world.run()
    relayout(world.dataset, Layout(), run="x", time=START, partition_by=[by])
    for name in ("2", "3"):
        world.deliver(name, (0, 3, name))
        assert world.run().segments[0].why is not None
    assert world.rows("k", "n") == [(k, 3 if k == 3 else 1) for k in range(20)]


@pytest.mark.parametrize("mode", [{"mode": "append"}, {"mode": "upsert", "key": ["k"]}])
def test_what_was_added_is_not_added_again_under_another_watermark(tmp_path: Path, mode: dict[str, Any]) -> None:
    world = World(tmp_path, mode, {"filter": "k >= 0"}, {"drop": ["_watermark"]}, **TIMED)
    world.deliver("a", (60, 1, "x"))
    world.deliver("c", (180, 2, "old"))
    world.run()
    world.deliver("d", (150, 2, "new"))
    world.run()
    world.deliver("b", (120, 3, "x"))  # those behind it came later than was known
    (tmp_path / "in/a.csv").unlink()
    world.run()
    older = [(2, "old")] if mode["mode"] == "append" else []
    assert world.rows("k", "s") == sorted([(1, "x"), *older, (2, "new"), (3, "x")])


def test_the_last_snapshots_are_told_apart_in_files_that_were_put_together(tmp_path: Path) -> None:
    world = World(tmp_path, {"mode": "snapshot", "keep": 2})
    world.deliver("1", (0, 1, "x"))
    world.run()
    world.run()
    lp.optimize.compact(str(tmp_path / "out/o"))
    for _ in range(2):
        world.run()
    assert world.rows("snapshot_at") == [(START + timedelta(days=3),), (START + timedelta(days=4),)]


def test_files_that_are_left_for_later_close_no_windows(tmp_path: Path) -> None:
    world = World(tmp_path, {}, CLOSES, **TIMED)
    for name, minutes in (("a", 60), ("b", 90), ("c", 330)):
        world.deliver(name, (minutes, 1, "x"))
    seen = []
    for _ in range(3):
        left = world.run(max_files=1).left
        seen.append((left, world.rows("n")))
    assert seen == [(2, []), (1, []), (0, [(2,)])]


def test_windows_that_close_want_an_output(tmp_path: Path) -> None:
    world = World(tmp_path, {}, CLOSES, **TIMED)
    for name in ("x", "y"):
        world.definition["stages"][name] = {"from": "s", "do": [{"filter": "n > 0"}]}
        world.definition["outputs"][name] = {"to": f"out/{name}"}
    lp.Pipeline.from_dict(world.definition, base=tmp_path).compile()
    del world.definition["outputs"]["o"]
    with pytest.raises(DefinitionError, match="none records up to when they are closed; add an output of stage 's'"):
        lp.Pipeline.from_dict(world.definition, base=tmp_path).compile()


READERS = [{"mode": "append"}, {"mode": "upsert", "key": ["k"]}, {"mode": "scd2", "key": ["k"]}]


def copying(world: World, reader: dict[str, Any]) -> None:
    world.definition["stages"]["t"] = {"from": "s", "do": [{"filter": "k > 0"}]}
    world.definition["outputs"]["t"] = {"to": "out/t", **reader}


def copied(world: World) -> list[int]:
    return sorted(lp.scan(str(world.root / "out/t")).collect()["k"].to_list())


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("keeps", [{"small_files": 2, "keep": 2}, {"small_files": 3}])
def test_files_are_put_together_where_another_output_adds_them(
    tmp_path: Path, reader: dict[str, Any], keeps: dict[str, int]
) -> None:
    world = World(tmp_path, {"mode": "append", "maintain": keeps})
    copying(world, reader)
    for number in range(1, 9):
        world.deliver(str(number), (number, number, "x"))
        (o, t) = world.run().segments
        assert (o.written, t.written) == (1, 1)
    assert copied(world) == [*range(1, 9)]
    commit = world.dataset.latest()
    assert commit is not None
    assert len(commit.files) < 5
    assert [s.status for s in world.run().segments] == ["unchanged", "unchanged"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("apart", [False, True])
def test_a_reader_that_lags_reads_the_version_before_files_were_put_together(
    tmp_path: Path, reader: dict[str, Any], apart: bool
) -> None:
    world = World(tmp_path, {"mode": "append"})
    if apart:  # in a pipeline of its own
        other = World(tmp_path, {})
        other.definition["sources"]["a"] = {"uri": "out/o", "format": "dataset"}
        other.definition["outputs"] = {"t": {"from": "s", "to": "out/t", **reader}}
    else:
        copying(world, reader)
        other = world

    def write(*numbers: int) -> None:
        for number in numbers:
            world.deliver(str(number), (number, number, "x"))
            world.run(outputs=["o"])

    def read(**more: Any) -> lp.RunResult:
        return other.run(outputs=["t"], **more)

    target = str(tmp_path / "out/o")
    write(1, 2)
    read()
    write(3, 4)
    lp.optimize.compact(target)
    write(5, 6)
    lp.optimize.compact(target)
    write(7)
    assert [s.written for s in read().segments if s.output == "t"] == [2]
    assert copied(world) == [1, 2, 3, 4]
    result = read()
    assert copied(world) == [1, 2, 3, 4, 5, 6]
    assert result.left > 0
    read()
    assert copied(world) == [1, 2, 3, 4, 5, 6, 7]
    assert [s.status for s in read().segments] == ["unchanged"] * (1 if apart else 2)
    # put together where it has read everything, and nothing came since: still no news
    for _ in range(2):
        lp.optimize.rewrite(target, Layout(sort_by=("k",)))
    assert [s.status for s in read().segments] == ["unchanged"] * (1 if apart else 2)
    write(8, 9)
    lp.optimize.compact(target)
    seen = []
    while (result := read(max_files=1)).status == "done":
        seen.append((result.segments[-1].written, result.left > 0))
    assert copied(world) == [*range(1, 10)]
    assert seen == [(1, True), (1, False)]
    if apart and reader["mode"] != "scd2":  # what has successors is not gone
        assert read(full=True).segments[0].rows == 9


def test_where_it_is_not_known_any_more_what_took_whose_place(tmp_path: Path) -> None:
    world = World(tmp_path, {"mode": "append"})
    copying(world, {"mode": "append"})
    for number in (1, 2):
        world.deliver(str(number), (number, number, "x"))
        world.run()
    lp.optimize.compact(str(tmp_path / "out/o"))
    world.deliver("3", (3, 3, "x"))
    world.run(outputs=["o"])
    lp.vacuum(str(tmp_path / "out/o"))
    plan = lp.Pipeline.from_dict(world.definition, base=tmp_path).compile()
    assert "rows of 's' were rewritten, and would be added a second time" in str(plan.run().segments[1].error)
    assert copied(world) == [1, 2]


def test_of_partitions_that_were_put_together_those_that_are_new_are_read(tmp_path: Path) -> None:
    world = World(tmp_path, {"mode": "append", "partition_by": ["k"]})
    copying(world, {"mode": "append"})
    for number, k in enumerate([1, 1]):
        world.deliver(str(number), (number, k, "x"))
        world.run()
    for number, k in enumerate([2, 2, 2], start=2):
        world.deliver(str(number), (number, k, "x"))
        world.run(outputs=["o"])
    lp.optimize.compact(str(tmp_path / "out/o"))
    assert [s.written for s in world.run().segments if s.output == "t"] == [3]
    assert copied(world) == [1, 1, 2, 2, 2]


@pytest.mark.parametrize("other", ["b", "t"])
def test_rows_that_come_two_ways_are_told_apart(tmp_path: Path, other: str) -> None:
    """One file, read by an output and by what is made of that output; or two outputs of the same file, put together later."""
    columns = {"columns": {"k": "Int64"}}
    definition = {
        "version": 1,
        "name": "p",
        "sources": {n: {"uri": f"in/{n}-*.csv", "contract": columns} for n in "ab"},
        "stages": {
            "s": {"from": "a", "do": [{"union": {"with": "b"}}]},
            "t": {"from": "s", "do": [{"filter": "k > 1"}]},
            "u": {"from": "s", "do": [{"union": {"with": other}}]},
            "v": {"from": "u", "do": [{"derive": {"more": "k + 1"}}]},
        },
        "outputs": {n: {"to": f"out/{n}"} for n in "stuv"},
    }
    (tmp_path / "in").mkdir()
    plan = lp.Pipeline.from_dict(definition, base=tmp_path).compile

    def rows(name: str) -> list[int]:
        return sorted(lp.scan(str(tmp_path / "out" / name)).collect()["k"].to_list())

    def put(name: str, key: int) -> None:
        (tmp_path / f"in/{name}.csv").write_text(f"k\n{key}\n")

    for name, key in (("a-1", 1), ("b-1", 2), ("a-2", 3), ("b-2", 4)):
        put(name, key)
    while plan().run(max_files=1).left:
        pass
    assert rows("s") == [1, 2, 3, 4]
    assert rows("u") == rows("v") == ([1, 2, 2, 3, 4, 4] if other == "b" else [1, 2, 2, 3, 3, 4, 4])
    (tmp_path / "in/b-2.csv").unlink()
    plan().run().raise_for_status()
    assert rows("u") == rows("v") == ([1, 2, 2, 3] if other == "b" else [1, 2, 2, 3, 3])


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_what_was_put_aside_goes_back_with_its_version(tmp_path: Path, mode: str) -> None:
    good = {"positive": {"columns": "k", "action": "quarantine"}}
    world = World(tmp_path, {"mode": mode})
    world.definition["stages"]["s"] = {"from": "a", "gate": [good]}

    def held() -> tuple[list[int], list[int]]:
        found = [lp.scan(str(tmp_path / f"out/o{end}")).collect()["k"].to_list() for end in ("", "__quarantine")]
        return sorted(found[0]), sorted(found[1])

    world.deliver("0", (0, 10, "x"))
    world.run()
    for number in (1, 2):
        world.deliver(str(number), (0, number, "x"), (0, -number, "x"))
        world.run()
    assert held() == ([1, 2, 10], [-2, -1])
    at = START
    # to each version; then what came after it comes again, and something new besides
    for number, version in enumerate((2, 3, 1), start=3):
        at += timedelta(hours=1)
        lp.rollback(str(tmp_path / "out/o"), version=version, now=at)
        world.deliver(str(number), (0, number, "x"), (0, -number, "x"))
        world.run()
        assert held() == ([*range(1, number + 1), 10], [*range(-number, 0)])


def test_what_is_added_of_an_output_whose_rows_know_their_files(tmp_path: Path) -> None:
    world = World(tmp_path, {})
    world.definition["stages"]["t"] = {"from": "s", "do": [{"derive": {"more": "k + 1"}}]}
    world.definition["outputs"]["t"] = {"to": "out/t", "mode": "append"}
    for number in (1, 2):
        world.deliver(str(number), (0, number, "x"))
        world.run()
    assert sorted(lp.scan(str(tmp_path / "out/t")).collect()["more"].to_list()) == [2, 3]


class TestWindows:
    """Windows, with what else follows files and groups."""

    def test_windows_of_which_something_is_expected_close_where_no_row_came(self, tmp_path: Path) -> None:
        hours = {"time": "t", "every": "1h", "emit": "on_close", "expect": {"rows": 1}, "aggregate": {"n": "count(*)"}}
        world = World(tmp_path, {}, {"window": hours}, **TIMED)
        world.deliver("1", (0, 1, "x"), (60, 1, "x"), (130, 1, "x"))
        world.run()
        world.deliver("2", (300, 1, "x"))
        world.run()
        assert world.rows("window_start", "n") == [(datetime(2024, 1, 1, hour), 1) for hour in range(3)]

    def test_a_stream_sees_that_rows_come_under_another_watermark(self, tmp_path: Path) -> None:
        hours = {"time": "t", "every": "1h", "late": "drop", "aggregate": {"n": "count(*)"}}
        world = World(tmp_path, {}, {"window": hours}, event_time="t", watermark={"delay": "0s", "order": "name"})

        def stream() -> list[str]:
            pipeline = lp.Pipeline.from_dict(world.definition, base=tmp_path)
            return [r.status for r in lp.stream(pipeline, lp.Trigger(once=True), clock=lambda: START)]

        world.deliver("b", (300, 1, "x"))
        world.deliver("c", (0, 1, "x"))
        assert (stream(), world.rows("n")) == (["done"], [(1,)])
        (tmp_path / "in/c.csv").rename(tmp_path / "in/a.csv")  # it came first, then, and was not late
        assert (stream(), world.rows("n")) == (["done"], [(1,), (1,)])
        assert stream() == []


class TestGoingBack:
    """What is put aside, replayed and taken back."""

    @staticmethod
    def world(root: Path) -> World:
        world = World(root, {"mode": "append"})
        world.definition["stages"]["s"] = {
            "from": "a",
            "gate": [{"between": {"column": "k", "min": 0, "action": "quarantine"}}],
        }
        for number in (1, 2):
            world.deliver(str(number), (0, number, "x"), (0, -number, "x"))
            world.run()
        return world

    @staticmethod
    def replay(world: World) -> int:
        """Let all rows pass from now on."""
        world.definition["stages"]["s"]["gate"][0]["between"]["min"] = -10
        world.runs += 1
        plan = lp.Pipeline.from_dict(world.definition, base=world.root).compile()
        return plan.replay("o", now=START + timedelta(days=world.runs)).healed

    @staticmethod
    def back(world: World, version: int) -> None:
        world.runs += 1
        lp.rollback(str(world.root / "out/o"), version=version, now=START + timedelta(days=world.runs))

    def test_rows_that_come_again_are_not_replayed_before(self, tmp_path: Path) -> None:
        world = self.world(tmp_path)
        self.back(world, 1)
        assert self.replay(world) == 1
        assert world.rows("k") == [(-1,), (1,)]
        world.run()
        assert world.rows("k") == [(-2,), (-1,), (1,), (2,)]

    def test_a_replay_that_was_killed_and_taken_back_is_not_finished(self, tmp_path: Path) -> None:
        world = self.world(tmp_path)
        assert self.replay(world) == 2
        Path(tmp_path / "out/o__quarantine.commits/00000000000000000003.json").unlink()
        self.back(world, 2)
        assert world.rows("k") == [(1,), (2,)]
        assert self.replay(world) == 2
        assert world.rows("k") == [(-2,), (-1,), (1,), (2,)]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("mode", ["append", "replace"])
def test_a_file_that_has_another_name_when_it_grows_is_not_added_again(tmp_path: Path, mode: str, apart: bool) -> None:
    world = World(tmp_path, {"mode": mode})
    copying(world, {"mode": "append"})
    for number in (1, 2):
        world.deliver(str(number), (0, number, "x"))
    world.run()
    path = tmp_path / "in/1.csv"
    for number in (3, 4):
        path = path.rename(path.with_name(f"moved-{number}.csv"))
        if apart:
            world.deliver(f"more-{number}", (0, 10 * number, "x"))
        assert [s.status for s in world.run().segments] == ["done", "done" if apart else "unchanged"]
        assert [s.status for s in world.run().segments] == ["unchanged", "unchanged"]
        with path.open("a") as file:
            file.write(f"2024-01-01T00:00:00,{number},x\n")
        world.run()
    assert copied(world) == [1, 2, 3, 4, *([30, 40] if apart else [])]


@pytest.mark.parametrize("on_modified", ["ignore", "fail"])
def test_growth_is_no_modification_though_nothing_is_audited(tmp_path: Path, on_modified: str) -> None:
    world = World(tmp_path, {}, on_modified=on_modified)
    world.definition["audit"] = "off"
    world.deliver("1", (0, 1, "x"))
    world.run()
    world.deliver("1", (0, 1, "x"), (0, 2, "x"))
    world.run()
    assert world.rows("k") == [(1,), (2,)]


class TestSides:
    """Joins whose sides change, with what else follows files: shared tails, keys that must be unique, what reads the output."""

    @staticmethod
    def world(root: Path, join: dict[str, Any], **readers: Any) -> World:
        """Join files of ``a`` with those of ``b``, by ``k``; ``readers`` are further stages, each with an output."""
        world = World(root, {})
        columns = {"columns": {"k": "Int64", "w": "Int64"}}
        world.definition |= {
            "sources": {**world.definition["sources"], "b": {"uri": "b/*.csv", "contract": columns}},
            "stages": {
                "m": {"from": "a", "do": [{"filter": "k >= 0"}]},
                "s": {"from": "m", "do": [{"join": {"with": "b", "on": "k", **join}}]},
                **readers,
            },
        }
        world.definition["outputs"] |= {name: {"to": f"out/{name}"} for name in readers}
        (root / "b").mkdir()
        return world

    @staticmethod
    def put(world: World, *rows: tuple[int, int]) -> None:
        (world.root / "b/1.csv").write_text("k,w\n" + "".join(f"{k},{w}\n" for k, w in rows))

    @pytest.mark.parametrize("gate", [[], [{"positive": {"columns": "k", "action": "quarantine"}}]])
    def test_a_part_is_touched_where_another_reads_the_whole_file(self, tmp_path: Path, gate: list[Any]) -> None:
        world = self.world(tmp_path, {"how": "left"}, t={"from": "m", "do": [{"derive": {"more": "k + 1"}}]})
        world.definition["stages"]["m"]["gate"] = gate
        self.put(world, (1, 5))
        world.deliver("1", (0, 1, "x"))
        world.run()
        world.deliver("1", (0, 1, "x"), (0, 2, "x"))
        assert world.run().segments[-1].why == "a: 1 grown"
        self.put(world, (1, 6))
        world.definition["stages"]["t"]["do"] = [{"derive": {"more": "k + 2"}}]
        assert world.run().segments[1].why == "b: 1 modified (1 key changed): 1 of 2 files of a"
        assert world.rows("k", "w") == [(1, 6), (2, None)]
        assert sorted(lp.scan(str(tmp_path / "out/t")).collect()["more"].to_list()) == [3, 4]

    @pytest.mark.parametrize("validate", ["1:1", "1:m"])
    def test_keys_are_compared_though_there_is_nothing_to_join_them_with(self, tmp_path: Path, validate: str) -> None:
        world = self.world(tmp_path, {"validate": validate})
        self.put(world)
        world.deliver("1", (0, 1, "x"))
        world.run()
        world.deliver("1", (0, 1, "x"), (0, 1, "y"))
        with pytest.raises(lp.RunError, match=r"key \(1\) occurs 2 times on a side where validate allows one"):
            world.run()
        assert world.rows("k") == []

    def test_a_file_that_is_another_now_is_not_cut_where_it_grew(self, tmp_path: Path) -> None:
        world = self.world(tmp_path, {"how": "left"}, t={"from": "m", "do": [{"derive": {"more": "k + 1"}}]})
        world.definition["sources"]["a"]["on_modified"] = "ignore"
        world.definition["stages"]["m"]["gate"] = [{"positive": {"columns": "k", "action": "quarantine"}}]
        self.put(world, (1, 5))
        for rows in ([1], [1, 2], [30000, 4, 5]):
            world.deliver("1", *((0, k, "x") for k in rows))
            world.run()
        world.definition["stages"]["t"]["do"] = [{"derive": {"more": "k + 2"}}]
        world.run()
        assert world.rows("k") == [(1,), (2,)]
        assert sorted(lp.scan(str(tmp_path / "out/t")).collect()["more"].to_list()) == [6, 7, 30002]
        assert [s.status for s in world.run().segments] == ["unchanged", "unchanged"]


def test_the_ledger_knows_what_was_put_aside_and_came_back(tmp_path: Path) -> None:
    world = World(tmp_path, {"mode": "append"}, {"filter": "k > -9"})
    world.definition["stages"]["s"]["gate"] = [{"between": {"column": "k", "min": 0, "action": "quarantine"}}]
    aside, uri = str(tmp_path / "out/o__quarantine"), str(tmp_path / "out/o")
    steps = [(0, 1), (0, -1), (0, -2), (0, 3), (0, -4)]  # nothing is put aside by the first
    ledger = lp.ledger(lp.Pipeline.from_dict(world.definition, base=tmp_path))

    def deliver(name: str, row: tuple[int, int]) -> None:
        world.deliver(name, (*row, name), (1, 7, "x"))
        world.run()

    for number, row in enumerate(steps[:3]):
        deliver(str(number), row)
    lp.rollback(uri, version=2)
    deliver("3", steps[3])
    assert [s.version for s in ledger.history(aside).steps] == [4, 3, 1]  # the third file comes again
    (held,) = [h for h in ledger.containing(str(tmp_path / "in/1.csv")) if h.aside and h.in_force]
    assert (held.version, held.via) == (4, ("a", "earlier version"))
    lp.rollback(uri, version=1)
    plan = lp.Pipeline.from_dict(world.definition, base=tmp_path).compile()
    assert plan.replay("o").remaining == 0
    deliver("4", steps[4])
    assert lp.history(aside)["mode"].to_list()[-2:] == ["rollback to 0", "append"]
    found = ledger.verify(datasets=[uri, aside])
    assert found.problems == ()
    assert ["made by" in w.what for w in found.warnings] == [True]  # of a replay that found nothing, which is no run
