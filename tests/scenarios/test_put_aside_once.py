"""What gates put aside in runs that do not get to publish what went on: killed ones, and ones that another run has overtaken. No row goes, and none comes twice."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import CommitConflict
from lazypipe.storage.datasets.log import Commit, CommitLog

MODES = ["replace", "append", "upsert"]


class Killed(BaseException):
    """As if the process ended there."""


class World:
    def __init__(self, base: Path, mode: str) -> None:
        self.base, self.mode, self.most, self.gated = base, mode, 5, True
        self.rows: list[tuple[str, int]] = []
        (base / "in").mkdir()
        self.deliver(7, 1)
        self.deliver(8)
        self.run()

    def deliver(self, *values: int) -> None:
        number = len([*(self.base / "in").iterdir()]) + 1
        rows = [(f"{number}-{i}", v) for i, v in enumerate(values)]
        self.rows += rows
        pl.DataFrame(rows, schema=["id", "v"], orient="row").write_csv(self.base / f"in/{number}.csv")

    @property
    def pipe(self) -> lp.Pipeline:
        gate = [{"between": {"column": "v", "max": self.most, "action": "quarantine"}}] if self.gated else []
        output = {"to": "out/o", "mode": self.mode, **({"key": "id"} if self.mode == "upsert" else {})}
        columns = {"id": "String", "v": "Int64"}
        return lp.Pipeline.from_dict(self.defined(gate, output, columns), base=str(self.base))

    def defined(self, gate: list[Any], output: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
        return {
            "version": 1,
            "name": "p",
            "state": "state",
            "sources": {"s": {"uri": "in/*.csv", "contract": {"columns": columns}}},
            "stages": {"o": {"from": "s", "gate": gate}},
            "outputs": {"o": output},
        }

    def run(self, **how: Any) -> lp.RunResult:
        result = self.pipe.compile().run(**how)
        result.raise_for_status()
        return result

    def killed(self, monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
        """Run, and die once rows are put aside, before the others are published."""

        def die() -> None:
            raise Killed

        with pytest.raises(Killed), at_commit(monkeypatch, "out/o", die):
            self.run(**how)

    @property
    def quarantine(self) -> str:
        return str(self.base / "out/o__quarantine")

    def held(self, name: str) -> Counter[Any]:
        return Counter(lp.scan(str(self.base / name)).select("id", "v").collect().rows())

    def assert_whole(self) -> None:
        """Each row is good or aside, once, and on the side on which it is to be."""
        assert self.held("out/o") == Counter(r for r in self.rows if r[1] <= self.most)
        assert self.held("out/o__quarantine") == Counter(r for r in self.rows if r[1] > self.most)


@contextmanager
def at_commit(monkeypatch: pytest.MonkeyPatch, name: str, meanwhile: Callable[[], object]) -> Iterator[None]:
    """Do something, once, when a dataset is to be committed to."""
    append, left = CommitLog.append, [meanwhile]

    def overtaken(log: CommitLog, commit: Commit) -> Commit:
        if left and log.uri.endswith(f"{name}.commits"):
            left.pop()()
        return append(log, commit)

    with monkeypatch.context() as patch:
        patch.setattr(CommitLog, "append", overtaken)
        yield


@pytest.fixture(params=MODES)
def world(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    return World(tmp_path, request.param)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("meanwhile", ["nothing", "vacuum", "rewrite", "killed again"])
def test_rows_put_aside_before_a_run_that_was_killed_stay(
    world: World, monkeypatch: pytest.MonkeyPatch, meanwhile: str, *, full: bool
) -> None:
    world.deliver(9, 2)
    world.killed(monkeypatch, full=full)
    if meanwhile == "vacuum":
        lp.vacuum(world.pipe, keep=1, older_than=timedelta(0))
        lp.vacuum(world.quarantine, keep=1, older_than=timedelta(0))
    elif meanwhile == "rewrite":
        lp.optimize.rewrite(world.quarantine, "storage", every=True)
        lp.optimize.rewrite(str(world.base / "out/o"), "storage", every=True)
    elif meanwhile == "killed again":
        world.deliver(6)
        world.killed(monkeypatch)
    world.deliver(6, 0)
    world.run()
    world.assert_whole()
    world.run()
    lp.vacuum(world.pipe, keep=1, older_than=timedelta(0))
    world.deliver(10, 3)
    world.run()
    world.assert_whole()


def test_a_replay_moves_no_row_of_a_run_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, "append")
    world.deliver(9, 2)
    world.killed(monkeypatch)
    world.most = 20
    assert world.pipe.compile().replay("o").healed == 2
    world.run()
    world.assert_whole()


@pytest.mark.parametrize("gone", [True, False])
def test_rows_that_are_good_by_now_do_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, gone: bool
) -> None:
    """Neither behind a run that was killed nor behind one that was overtaken, though the one that published found nothing to be aside any more."""
    world = World(tmp_path, "replace")
    world.most = 8
    world.gated = not gone
    world.killed(monkeypatch)
    world.run()
    world.deliver(8, 0)
    world.run()
    world.assert_whole()
    world.deliver(3)
    world.most = 9
    with pytest.raises(CommitConflict), at_commit(monkeypatch, "out/o", world.run):
        world.run()
    world.assert_whole()


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_a_replay_that_finds_nothing_leaves_a_run_alone_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    world = World(tmp_path, mode)
    world.deliver(9, 2)
    with at_commit(monkeypatch, "out/o", lambda: world.pipe.compile().replay("o")):
        world.run()
    world.assert_whole()


@pytest.mark.parametrize("anew", [True, False])
@pytest.mark.parametrize("mode", ["replace", "append"])
def test_a_replay_that_overtakes_a_run_moves_rows_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, *, anew: bool
) -> None:
    world = World(tmp_path, mode)
    world.deliver(9, 2)
    run = world.pipe.compile()
    world.most = 7
    with at_commit(monkeypatch, "out/o", lambda: world.pipe.compile().replay("o")):
        assert run.run().status == "error"
    if anew:
        lp.optimize.rewrite(world.quarantine, "storage", every=True)
    world.pipe.compile().replay("o")
    world.run()
    world.assert_whole()


@pytest.mark.parametrize("meanwhile", ["rewrite", "run"])
def test_a_replay_that_was_killed_is_finished_whatever_files_the_rows_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    def die() -> None:
        raise Killed

    world = World(tmp_path, "append")
    world.most = 7
    with pytest.raises(Killed), at_commit(monkeypatch, "out/o__quarantine", die):
        world.pipe.compile().replay("o")
    if meanwhile == "rewrite":
        lp.optimize.rewrite(world.quarantine, "storage", every=True)
    else:
        world.deliver(9, 2)
        world.killed(monkeypatch)
    assert world.pipe.compile().replay("o").healed == 1
    world.run()
    world.assert_whole()


def test_keys_are_taken_out_of_what_was_aside_before_a_run_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone/0.csv").write_text("id\nnone\n")
    world = Feeding(tmp_path, "upsert")
    world.deliver(9)
    world.killed(monkeypatch)
    (tmp_path / "in/3.csv").unlink()
    (tmp_path / "gone/1.csv").write_text("id\n1-0\n")
    assert [s.status for s in world.run().segments] == ["unchanged", "done"]
    world.rows = [row for row in world.rows if row not in (("1-0", 7), ("3-0", 9))]
    world.assert_whole()
    world.deliver(6, 0)
    world.run()
    world.assert_whole()


class Feeding(World):
    """An output from which a feed of keys takes rows."""

    def defined(self, gate: list[Any], output: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
        data = super().defined(gate, output, columns)
        keys = {"uri": "gone/*.csv", "contract": {"columns": {"id": "String"}}}
        data["sources"]["k"] = keys
        data["stages"]["gone"] = {"from": "k"}
        data["outputs"]["gone"] = {**output, "mode": "delete"}
        return data


@pytest.mark.parametrize("where", ["out/o", "out/o__quarantine"])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("came", [True, False])
def test_what_a_run_puts_aside_that_another_has_overtaken_is_aside_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str, *, full: bool, came: bool
) -> None:
    def other() -> None:
        if came:
            world.deliver(6, 4)
        world.run()

    world.deliver(9, 2)
    with pytest.raises(lp.LazypipeError) as raised, at_commit(monkeypatch, where, other):
        world.run(full=full)
    assert isinstance(raised.value, CommitConflict)
    world.assert_whole()
    assert [s.status for s in world.run().segments] == ["unchanged"]
    world.deliver(8, 0)
    world.run()
    world.assert_whole()


def test_files_of_an_output_may_be_written_anew_while_rows_are_put_aside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def anew() -> None:
        lp.optimize.rewrite(str(world.base / "out/o"), "storage", every=True)

    world.deliver(9, 2)
    with at_commit(monkeypatch, "out/o__quarantine", anew):
        world.run()
    world.deliver(6, 0)
    world.run()
    world.assert_whole()


def test_what_was_put_aside_by_a_run_that_was_killed_may_be_all_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it stays, but for the rows of that run: they come again."""
    world = World(tmp_path, "append")
    world.deliver(9, 2)
    world.killed(monkeypatch)
    (tmp_path / "out/o__quarantine.commits/00000000000000000001.json").unlink()
    world.deliver(6, 0)
    world.run()
    world.assert_whole()


def test_nothing_was_aside_before_a_run_that_was_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(world.base / "out")
    shutil.rmtree(world.base / "state")
    world.most = 10
    world.run()
    world.deliver(12, 2)
    world.killed(monkeypatch)
    world.deliver(11, 0)
    world.run()
    world.assert_whole()


class Shared(World):
    """A stage with a gate that two outputs read: its rows are kept for one run, and what it puts aside is shared."""

    def defined(self, gate: list[Any], output: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
        stages = {
            "m": {"from": "s", "do": [{"filter": "v >= 0"}], "gate": gate},
            "o": {"from": "m"},
            "p": {"from": "m"},
        }
        outputs = {n: {**output, "to": f"out/{n}"} for n in ("o", "p")}
        return {**super().defined(gate, output, columns), "stages": stages, "outputs": outputs}

    def assert_whole(self) -> None:
        for name in ("out/o", "out/p"):
            assert self.held(name) == Counter(r for r in self.rows if r[1] <= self.most)
        assert self.held("state/quarantine/p/m") == Counter(r for r in self.rows if r[1] > self.most)


@pytest.mark.parametrize("where", ["shared/p/m", "out/o", "out/p"])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_rows_put_aside_for_several_outputs_stay_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, where: str, *, full: bool
) -> None:
    def die() -> None:
        raise Killed

    world = Shared(tmp_path, mode)
    world.deliver(9, 2)
    with pytest.raises(Killed), at_commit(monkeypatch, where, die):
        world.run(full=full)
    world.deliver(6, 0)
    world.run()
    world.assert_whole()


@pytest.mark.parametrize("where", ["shared/p/m", "quarantine/p/m"])
@pytest.mark.parametrize("full", [True, False])
def test_what_is_shared_may_be_overtaken_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, *, full: bool
) -> None:
    def other() -> None:
        world.deliver(6, 4)
        world.run()

    world = Shared(tmp_path, "replace")
    world.deliver(9, 2)
    with pytest.raises(lp.LazypipeError), at_commit(monkeypatch, where, other):
        world.run(full=full)
    world.assert_whole()
