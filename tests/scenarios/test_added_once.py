"""Rows that are added to what is there come from an output that is made anew: none of them is added twice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from tests.delivered import CLOCK, put

MADE_ANEW = "were recomputed, and would be added a second time"
FIX = "run once in full (--full), which rebuilds it, or use mode: upsert"


class World:
    """A source and a dimension, ``s`` made of them by files, and ``t`` to which rows of ``s`` are added."""

    def __init__(self, root: Path) -> None:
        self.root, self.made = root, 0
        joined = {"join": {"with": "d", "on": "k", "how": "left", "columns": {"label": "label"}}}
        contract = {"columns": {"id": "Int64", "k": "String"}}
        self.data: dict[str, Any] = {
            "version": 1,
            "name": "p",
            "sources": {
                "a": {"uri": "in/a-*.csv", "contract": contract},
                "d": {"uri": "in/d.csv", "contract": {"columns": {"k": "String", "label": "String"}}},
            },
            "stages": {"s": {"from": "a", "do": [joined]}, "t": {"from": "s", "do": [{"derive": {"n": "id * 10"}}]}},
            "outputs": {"s": {"to": "out/s"}, "t": {"to": "out/t", "mode": "append"}},
        }
        (root / "in").mkdir()
        for name, ids in {"1": [1, 2], "2": [3], "3": [4]}.items():
            self.deliver(name, *ids)
        self.dimension("x")

    def put(self, name: str, text: str) -> None:
        self.made += 1
        put(self.root / "in" / f"{name}.csv", text, CLOCK + self.made)

    def deliver(self, name: str, *ids: int) -> None:
        self.put(f"a-{name}", "id,k\n" + "".join(f"{i},k{i}\n" for i in ids))

    def dimension(self, first: str) -> None:
        self.put("d", f"k,label\nk1,{first}\nk2,y\nk3,z\n")

    def run(self, **how: Any) -> dict[str, tuple[str, str]]:
        pipe = lp.Pipeline.from_dict(self.data, base=str(self.root))
        found = pipe.compile().run(**how)
        return {s.name: (s.status, str(s.error) if s.error else s.why or "") for s in found.segments}

    def added(self) -> list[int]:
        return sorted(lp.scan(str(self.root / "out/t")).collect()["n"].to_list())


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    assert {s for s, _ in made.run().values()} == {"done"}
    assert made.added() == [10, 20, 30, 40]
    return made


def test_an_output_that_was_made_anew_is_not_added_again(world: World) -> None:
    assert world.run(outputs=["s"], full=True)["s"][0] == "done"
    status, said = world.run()["t"]
    what = f"output 't': rows of 's' {MADE_ANEW}, such as those of {world.root}/in/a-1.csv"
    assert (status, said) == ("error", f"{world.root}/out/t: {what}; {FIX}")
    assert world.added() == [10, 20, 30, 40]
    # what the message says helps
    assert world.run(full=True)["t"][0] == "done"
    world.deliver("4", 5)
    assert world.run()["t"][0] == "done"
    assert world.added() == [10, 20, 30, 40, 50]


def test_units_that_a_changed_side_touches_are_not_added_again(world: World) -> None:
    world.dimension("changed")
    status, said = world.run()["t"]
    assert status == "error"
    assert f"output 't': rows of 's' {MADE_ANEW}, such as those of {world.root}/in/a-1.csv;" in said


def test_a_file_that_was_changed_ahead_of_another_output(world: World) -> None:
    world.deliver("2", 33, 3)
    assert MADE_ANEW in world.run()["t"][1]
    assert world.added() == [10, 20, 30, 40]


def test_a_file_that_is_gone_is_no_harm_until_it_comes_again(world: World) -> None:
    (world.root / "in/a-2.csv").unlink()
    assert world.run()["t"] == ("unchanged", world.run()["t"][1])
    world.deliver("4", 5)
    assert world.run()["t"][0] == "done"
    assert world.added() == [10, 20, 30, 40, 50]
    # and it is not forgotten by that
    world.deliver("5", 6)
    assert world.run()["t"][0] == "done"
    world.deliver("2", 3)
    assert f"such as those of {world.root}/in/a-2.csv" in world.run()["t"][1]
    assert world.added() == [10, 20, 30, 40, 50, 60]


def test_two_outputs_above_one_another(world: World) -> None:
    world.data["stages"]["u"] = {"from": "t", "do": [{"derive": {"m": "n + 1"}}]}
    world.data["outputs"] = {n: {"to": f"out/{n}2"} for n in "st"} | {"u": {"to": "out/u", "mode": "append"}}
    world.run()
    (world.root / "in/a-3.csv").unlink()
    world.deliver("4", 5)
    assert world.run()["u"][0] == "done"
    world.deliver("1", 1)
    status, said = world.run()["u"]
    assert (status, f"such as those of {world.root}/in/a-1.csv" in said) == ("error", True)
    assert sorted(lp.scan(str(world.root / "out/u")).collect()["m"].to_list()) == [11, 21, 31, 41, 51]


@pytest.mark.parametrize(
    ("on_modified", "ids"), [("reprocess", [1, 2, 3, 3, 33, 4]), ("ignore", [1, 2, 3, 4]), ("fail", None), (None, None)]
)
def test_a_table_says_what_is_to_be_done(world: World, on_modified: str | None, ids: list[int] | None) -> None:
    more = {} if on_modified is None else {"on_modified": on_modified}
    copying: dict[str, Any] = {
        "version": 1,
        "name": "copying",
        "sources": {"table": {"uri": "out/s", **more}},
        "stages": {"c": {"from": "table"}},
        "outputs": {"c": {"to": "out/c", "mode": "append"}},
    }

    def copy() -> lp.RunResult:
        return lp.Pipeline.from_dict(copying, base=str(world.root)).compile().run()

    copy().raise_for_status()
    world.deliver("2", 33, 3)
    world.run()
    (segment,) = copy().segments
    assert (MADE_ANEW in str(segment.error)) == (ids is None)
    assert sorted(lp.scan(str(world.root / "out/c")).collect()["id"].to_list()) == sorted(ids or [1, 2, 3, 4])
    if on_modified == "ignore":
        # others are added all the same, also with a bound
        world.deliver("4", 5)
        world.run()
        pipe = lp.Pipeline.from_dict(copying, base=str(world.root))
        assert pipe.compile().run(max_files=5).status == "done"
        assert sorted(lp.scan(str(world.root / "out/c")).collect()["id"].to_list()) == [1, 2, 3, 4, 5]


def test_where_it_is_not_known_what_went(world: World) -> None:
    data = Dataset(str(world.root / "out/s"))
    first = data.read()
    (world.root / "in/a-3.csv").unlink()
    world.run(outputs=["s"])
    # nothing came: that rows went is no harm
    (folder,) = [p for p in (world.root / "out").iterdir() if p.name.startswith("s") and p.name.endswith(".commits")]
    for path in folder.glob(f"*{first.version}.json"):
        shutil.move(path, world.root / path.name)
    assert world.run()["t"][0] == "unchanged"
    world.deliver("4", 5)
    what = f"output 't': rows of 's' {MADE_ANEW}, such as those of {world.root}/in/a-4.csv"
    assert world.run()["t"][1] == f"{world.root}/out/t: {what}; {FIX}"


def test_a_table_of_which_it_is_not_known_what_it_was_made_of(world: World) -> None:
    world.data["outputs"]["t"] = {"to": "out/u"}
    copying: dict[str, Any] = {
        "version": 1,
        "name": "copying",
        "sources": {"table": {"uri": "out/u"}},
        "stages": {"c": {"from": "table"}},
        "outputs": {"c": {"to": "out/c", "mode": "append"}},
    }

    def copy() -> lp.RunResult:
        return lp.Pipeline.from_dict(copying, base=str(world.root)).compile().run()

    world.run()
    copy().raise_for_status()
    # rows of s are files, those of u are rows of s, of which this pipeline knows nothing
    world.deliver("4", 5)
    world.run()
    assert copy().segments[0].written == 1
    (world.root / "in/a-3.csv").unlink()
    world.run()
    assert copy().status == "unchanged"
    world.deliver("5", 6)
    world.run()
    assert f"rows of 'table' {MADE_ANEW}; {FIX}" in str(copy().segments[0].error)
    pipe = lp.Pipeline.from_dict(copying, base=str(world.root)).compile()
    assert "rebuilding it would lose rows" in str(pipe.run(full=True).segments[0].error)


def test_a_source_that_is_new_is_no_loss(world: World) -> None:
    world.data["sources"]["b"] = {"uri": "in/b.csv", "contract": world.data["sources"]["a"]["contract"]}
    world.put("b", "id,k\n7,k7\n")
    world.data["stages"]["t"]["do"].insert(0, {"union": {"with": "b", "missing": "fill"}})
    assert world.run(full=True)["t"][0] == "done"
    assert world.added() == [10, 20, 30, 40, 70]


def test_rows_of_a_table_below_an_output_that_was_made_anew(world: World) -> None:
    above = {
        "version": 1,
        "name": "above",
        "sources": {"table": {"uri": "out/s"}},
        "stages": {"m": {"from": "table"}, "n": {"from": "m", "do": [{"derive": {"n": "id * 10"}}]}},
        "outputs": {"m": {"to": "out/m"}, "n": {"to": "out/n", "mode": "append"}},
    }

    def run() -> dict[str, str]:
        found = lp.Pipeline.from_dict(above, base=str(world.root)).compile().run()
        return {s.name: str(s.error or s.status) for s in found.segments}

    assert run() == {"m": "done", "n": "done"}
    world.deliver("2", 33, 3)
    world.run(outputs=["s"])
    what = f"output 'n': rows of 'm' {MADE_ANEW}, such as those of {world.root}/in/a-2.csv"
    assert run() == {"m": "done", "n": f"{world.root}/out/n: {what}; {FIX}"}
    assert sorted(lp.scan(str(world.root / "out/n")).collect()["n"].to_list()) == [10, 20, 30, 40]


def test_of_a_stage_that_another_output_keeps_too(tmp_path: Path) -> None:
    """Each row once, whatever becomes of the other output; exports beside them have what is there now."""
    world = World(tmp_path)
    world.data["outputs"] = {
        "s": {"to": "out/s"},
        "log": {"from": "s", "to": "out/log", "mode": "append"},
        "file": {"from": "s", "to": "out/file.csv"},
    }

    def added() -> list[int]:
        return sorted(lp.scan(str(tmp_path / "out/log")).collect()["id"].to_list())

    world.run()
    assert added() == [1, 2, 3, 4]
    world.deliver("4", 5)
    assert world.run()["log"] == ("done", "s: 1 added, 1 unchanged")
    assert added() == [1, 2, 3, 4, 5]
    assert world.run()["log"][0] == "unchanged"
    (tmp_path / "in/a-1.csv").unlink()
    world.run()
    assert added() == [1, 2, 3, 4, 5]
    assert sorted((tmp_path / "out/file.csv").read_text().split()) == sorted(["id,k,label", "3,k3,z", "4,k4,", "5,k5,"])
