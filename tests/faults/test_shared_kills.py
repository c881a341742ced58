"""Runs that are killed while several outputs follow one source: what its gate counted, put aside and compared stays right."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

import lazypipe as lp
from tests.faults.killing import Killer, Template

DEFINITION = """
version: 1
name: shared
sources:
  a:
    uri: data/*.csv
    contract: {columns: {x: Int64, k: String}}
    gate: [{not_null: {columns: [x], action: quarantine}}, {unique: {columns: [x, k], action: fail}}]
stages:
  b: {from: a, do: [{filter: x >= 5}]}
  c: {from: a, do: [{aggregate: {by: [k], aggregate: {n: count(*), total: sum(x)}}}]}
outputs: {b: {to: out/b}, c: {to: out/c}}
state: state
"""
CLOCK = 1_700_000_000


def deliver(root: Path, name: str, start: int, *, at: int = 0) -> None:
    rows = [(None if i % 10 == 0 else i, f"k{i}") for i in range(start, start + 30)]
    path = root / "data" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema={"x": pl.Int64, "k": pl.String}, orient="row").write_csv(path)
    os.utime(path, (CLOCK + at, CLOCK + at))


def prepare(root: Path) -> Path:
    """A pipeline that has run on five files, of which then one is changed, one removed, and one added."""
    root.mkdir()
    (root / "p.yaml").write_text(DEFINITION)
    for number in range(5):
        deliver(root, str(number), number * 30)
    lp.load(root / "p.yaml").compile().run(run="first").raise_for_status()
    deliver(root, "0", 7_000, at=60)
    (root / "data" / "1.csv").unlink()
    deliver(root, "5", 150)
    return root


def held(root: Path) -> list[Any]:
    found: list[Any] = []
    for name in ("out/b", "out/c", "state/quarantine/shared/a"):
        frame = lp.scan(str(root / name)).collect()
        columns = sorted(c for c in frame.columns if c not in ("_lazypipe_run", "_lazypipe_file"))
        found.append(Counter(map(repr, frame.select(columns).rows())))
    return found


def counted(result: lp.RunResult) -> list[Any]:
    result.raise_for_status()
    gate = result.gates["a"]
    return [gate.rows, gate.good, gate.quarantined, *((c.id, c.evaluated, c.failed) for c in gate.checks)]


def test_a_run_after_one_that_was_killed_equals_a_full_one(tmp_path: Path, killer: Killer) -> None:
    root = prepare(tmp_path / "whole")
    code, events = killer.run(root, 0, "incremental")
    assert code == 0
    after = held(root)
    full = counted(lp.load(root / "p.yaml").compile().run(run="full", full=True))
    assert held(root) == after
    commits = [n for n, event in enumerate(events, start=1) if "commit" in event]
    assert len(commits) >= 8  # of the quarantine, of what the gate counted, and of both outputs
    template = Template(prepare(tmp_path / "p"))
    for number in commits[::2]:
        root = template.again()
        code, _ = killer.run(root, number, "killed")
        assert code == -signal.SIGKILL
        lp.load(root / "p.yaml").compile().run(run="next").raise_for_status()
        assert held(root) == after, (number, events[number - 1])
        # the gate goes on from what it had counted, and knows each key
        deliver(root, "6", 180)
        assert counted(lp.load(root / "p.yaml").compile().run(run="more"))[:3] == [
            full[0] + 30,
            full[1] + 27,
            full[2] + 3,
        ]
        deliver(root, "7", 150)
        last = lp.load(root / "p.yaml").compile().run(run="again")
        assert last.gates["a"].checks[1].failed == 2 * 27, (number, events[number - 1])
    killer.process.communicate()
    assert killer.process.returncode == 0
