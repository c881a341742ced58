"""Runs killed around each commit and each version of a Delta table: after the next run all logs say the same."""

from __future__ import annotations

import signal
from pathlib import Path

import deltalake
import polars as pl

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DELTA
from tests.faults.killing import Killer

DEFINITION = """
version: 1
name: killed
audit: off
sources: {a: {uri: data/*.parquet}}
stages:
  kept: {from: a, gate: [{not_null: {columns: [x], action: quarantine}}]}
outputs:
  kept: {to: out/kept, format: delta}
"""
TABLES = ("out/kept", "out/kept__quarantine")


def prepare(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    (root / "p.yaml").write_text(DEFINITION)
    for name, ids in (("0", [1, 2, 3]), ("1", [4, 5])):
        pl.DataFrame({"id": ids, "x": [None, *ids[1:]]}).write_parquet(root / f"data/{name}.parquet")
    lp.load(root / "p.yaml").compile().run(run="first").raise_for_status()
    # one file of the two that each data file was made of
    pl.DataFrame({"id": [7, 8], "x": [None, 8]}).write_parquet(root / "data/1.parquet")
    return root


def by_delta(root: Path) -> dict[str, list[int]]:
    return {name: sorted(pl.read_delta(str(root / name))["id"]) for name in TABLES}


def by_us(root: Path) -> dict[str, list[int]]:
    return {name: sorted(lp.scan(str(root / name)).collect()["id"]) for name in TABLES}


def test_a_kill_around_each_link(tmp_path: Path, killer: Killer) -> None:
    whole = prepare(tmp_path / "whole")
    before = by_delta(whole)
    code, events = killer.run(whole, 0, "whole")
    assert code == 0
    after = {"out/kept": [2, 3, 8], "out/kept__quarantine": [1, 7]}
    assert by_delta(whole) == by_us(whole) == after
    begin = events.index("before commit")
    links = [n for n, e in enumerate(events, start=1) if n > begin and e == "after link of a commit"][:4]
    assert len(links) == 4, events  # two commits, and two versions of tables
    behind = 0
    for number in links:
        root = prepare(tmp_path / str(number))
        code, _ = killer.run(root, number, "killed")
        assert code == -signal.SIGKILL
        for name, rows in by_delta(root).items():
            assert rows in (before[name], after[name]), (number, name)
        behind += by_delta(root) != by_us(root)
        lp.load(root / "p.yaml").compile().run(run="next").raise_for_status()
        assert by_delta(root) == by_us(root) == after, number
        for name in TABLES:
            latest = Dataset(str(root / name)).read()
            assert deltalake.DeltaTable(str(root / name)).version() == latest.version - latest.info[DELTA]
    assert behind  # some were killed between the two logs


def test_a_vacuum_after_a_kill_loses_nothing(tmp_path: Path, killer: Killer) -> None:
    whole = prepare(tmp_path / "whole")
    _, events = killer.run(whole, 0, "whole")
    # the commit stands, and its version of the table does not
    last = max(n for n, e in enumerate(events, start=1) if e == "after commit")
    root = prepare(tmp_path / "killed")
    code, _ = killer.run(root, last, "killed")
    assert code == -signal.SIGKILL
    assert by_delta(root) != by_us(root)
    for name in TABLES:
        lp.vacuum(str(root / name))
    assert by_delta(root) == by_us(root)
