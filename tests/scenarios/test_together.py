"""What is right by itself stays right together: layouts and keys, watermarks and outputs that are added to, bounds and windows that close."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import DefinitionError
from lazypipe.storage.dataset import Dataset
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
    with pytest.raises(DefinitionError, match="none keeps how far these are closed; add an output of stage 's'"):
        lp.Pipeline.from_dict(world.definition, base=tmp_path).compile()


@pytest.mark.parametrize("keeps", [{"keep": 3}, {"small_files": 4}])
def test_files_are_not_put_together_where_another_output_adds_them(tmp_path: Path, keeps: dict[str, int]) -> None:
    world = World(tmp_path, {"mode": "append", "maintain": keeps})
    world.definition["stages"] |= {"m": {"from": "s", "do": []}, "t": {"from": "m", "do": [{"filter": "k > 0"}]}}
    world.definition["outputs"]["t"] = {"to": "out/t", "mode": "append"}
    pipe = lp.Pipeline.from_dict(world.definition, base=tmp_path)
    if "keep" in keeps:
        pipe.compile()
        return
    with pytest.raises(DefinitionError, match="output 't' adds rows of each file of this one"):
        pipe.compile()
