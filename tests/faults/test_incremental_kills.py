"""Incremental runs that are killed at each step, and two at once: the next run gives what one full run gives."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import CommitConflict
from lazypipe.run import deciding
from lazypipe.storage.datasets.dataset import Dataset
from tests.faults.killing import Killer, Template

DEFINITION = """
version: 1
name: killed
sources:
  a: {uri: data/*.csv, contract: {columns: {x: Int64, k: String}}}
stages:
  b:
    from: a
    do: [{filter: x IS NULL OR x >= 0}]
    gate: [{not_null: {columns: [x], action: quarantine}}, {unique: {columns: [x, k], action: fail}}]
  c: {from: b, do: [{aggregate: {by: [k], aggregate: {n: count(*), total: sum(x), mean: avg(x)}}}]}
outputs:
  b: {to: out/b, partition_by: [k]}
  c: {to: out/c}
"""
CLOCK = 1_700_000_000


def deliver(root: Path, name: str, start: int, rows: int = 500, *, at: int = 0) -> None:
    """Write a file: every hundredth value is missing."""
    x = [None if i % 100 == 0 else i for i in range(start, start + rows)]
    path = root / "data" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"x": x, "k": [f"k{i % 3}" for i in range(rows)]}).write_csv(path)
    os.utime(path, (CLOCK + at, CLOCK + at))


def prepare(root: Path) -> Path:
    """A pipeline that has run on three files, of which then one is changed, one removed, and one added."""
    (root / "p.yaml").write_text(DEFINITION)
    for number in range(3):
        deliver(root, str(number), number * 500)
    lp.load(root / "p.yaml").compile().run(run="first").raise_for_status()
    deliver(root, "0", 7_000, 600, at=60)
    (root / "data" / "1.csv").unlink()
    deliver(root, "3", 1_500)
    return root


def held(root: Path) -> dict[str, Counter[Any]]:
    found = {}
    for name in ("out/b", "out/b__quarantine", "out/c"):
        frame = lp.scan(str(root / name)).collect()
        columns = sorted(c for c in frame.columns if c not in ("_lazypipe_run", "_lazypipe_file"))
        found[name] = Counter(map(repr, frame.select(columns).rows()))
    return found


def said(root: Path) -> list[Any]:
    """What the gate's report in the commit counts."""
    (gate,) = Dataset(str(root / "out/b")).read().info["gates"]
    checks = [(c["id"], c["evaluated"], c["failed"], c["status"]) for c in gate["checks"]]
    return [gate[n] for n in ("rows", "good", "quarantined", "dropped")] + checks


@pytest.fixture(scope="module")
def outcome(
    tmp_path_factory: pytest.TempPathFactory, killer: Killer
) -> tuple[dict[str, Counter[Any]], dict[str, Counter[Any]], list[Any], list[str]]:
    """Return what is there before, what a full run makes of the new delivery, and the events of an incremental one."""
    root = prepare(tmp_path_factory.mktemp("whole"))
    before = held(root)
    code, events = killer.run(root, 0, "incremental")
    assert code == 0
    incremental, counted = held(root), said(root)
    lp.load(root / "p.yaml").compile().run(run="full", full=True).raise_for_status()
    assert held(root) == incremental
    assert said(root) == counted
    return before, incremental, counted, events


def test_a_kill_at_every_step(
    tmp_path: Path,
    killer: Killer,
    outcome: tuple[dict[str, Counter[Any]], dict[str, Counter[Any]], list[Any], list[str]],
) -> None:
    before, after, counted, events = outcome
    assert {"before commit", "after commit", "after opening of a data file", "before write of a dataset"} <= set(events)
    (tmp_path / "p").mkdir()
    template = Template(prepare(tmp_path / "p"))
    for number, event in enumerate(events, start=1):
        if event in events[max(0, number - 4) : number - 1] or event in ("after commit", "before record"):
            continue  # nothing on disk differs from the event before, or just one file more
        root = template.again()
        code, _ = killer.run(root, number, "killed")
        assert code == -signal.SIGKILL, f"{event} did not happen"
        for name, rows in held(root).items():
            assert rows in (before[name], after[name]), f"{name} is torn at {number} {event}"
        lp.load(root / "p.yaml").compile().run(run="next").raise_for_status()
        assert held(root) == after, (number, event)
        assert said(root) == counted, (number, event)
        again = lp.load(root / "p.yaml").compile().run(run="again")
        assert {s.status for s in again.segments} == {"unchanged"}
        lp.vacuum(lp.load(root / "p.yaml"), older_than=timedelta(0))
        assert held(root) == after, (number, event)
        for name in ("out/b", "out/b__quarantine", "out/c"):
            dataset = Dataset(str(root / name))
            commit = dataset.read()
            assert {str(p.relative_to(root / name)) for p in (root / name).rglob("*.parquet")} == {
                f.path for f in commit.files
            }
            figures = {p.name for p in Path(dataset.figures).rglob("*.parquet")}
            assert figures == {f.path for f in commit.figures}
        if number % 3:
            continue
        # and what is counted of units goes on
        (root / "data" / "2.csv").unlink()
        lp.load(root / "p.yaml").compile().run(run="then").raise_for_status()
        then = held(root)
        lp.load(root / "p.yaml").compile().run(run="anew", full=True).raise_for_status()
        assert held(root) == then, (number, event)


def test_two_runs_at_once(tmp_path: Path) -> None:
    root = prepare(tmp_path)
    inner: list[lp.RunResult] = []
    first = threading.Lock()

    def meanwhile(segment: str, _number: int, _count: int, rows: int) -> None:
        if segment == "b" and rows and first.acquire(blocking=False):
            # the other run goes by between this one's look at the log and its commit; on a thread that is not the engine's
            other = threading.Thread(target=lambda: inner.append(lp.load(root / "p.yaml").compile().run(run="winner")))
            other.start()
            other.join()

    lost = lp.load(root / "p.yaml").compile().run(run="loser", observer=meanwhile)
    (won,) = inner
    won.raise_for_status()
    assert [s.status for s in lost.segments] == ["error", "blocked"]
    assert isinstance(lost.segments[0].error, CommitConflict)
    after, counted = held(root), said(root)
    assert Dataset(str(root / "out/b")).read().run == "winner"
    again = lp.load(root / "p.yaml").compile().run(run="again")
    assert {s.status for s in again.segments} == {"unchanged"}
    lp.load(root / "p.yaml").compile().run(run="full", full=True).raise_for_status()
    assert (held(root), said(root)) == (after, counted)


def test_a_run_that_goes_by_right_after_the_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = prepare(tmp_path)
    decide = deciding.decide
    won: list[lp.RunResult] = []

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        work = decide(*args, **kwargs)
        if not won:
            monkeypatch.setattr(deciding, "decide", decide)
            won.append(lp.load(root / "p.yaml").compile().run(run="winner"))
        return work

    monkeypatch.setattr(deciding, "decide", overtaken)
    lost = lp.load(root / "p.yaml").compile().run(run="loser")
    won[0].raise_for_status()
    assert isinstance(lost.segments[0].error, CommitConflict)
    after, counted = held(root), said(root)
    lp.load(root / "p.yaml").compile().run(run="full", full=True).raise_for_status()
    assert (held(root), said(root)) == (after, counted)
