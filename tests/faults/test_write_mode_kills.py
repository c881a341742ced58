"""Runs whose outputs add to what is there, killed at each step: after the next run every row is there once, and feeds agree."""

from __future__ import annotations

import os
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.vacuum import vacuum
from tests.faults.killing import Killer, Template

DEFINITION = """
version: 1
name: killed
sources:
  a: {uri: data/*.parquet}
  gone: {uri: gone/*.parquet}
stages:
  added: {from: a, gate: [{not_null: {columns: [x], action: quarantine}}]}
  latest: {from: a, do: [{filter: x IS NOT NULL}]}
  removed: {from: gone}
  versions: {from: a, do: [{select: [id, at, x]}]}
outputs:
  added: {to: out/added, mode: append, partition_by: k}
  latest: {to: out/latest, mode: upsert, key: id, event_time: at, changes: true}
  removed: {to: out/latest, mode: delete, key: id}
  versions: {to: out/versions, mode: scd2, key: id, event_time: at}
"""
OUTPUTS = ("out/added", "out/added__quarantine", "out/latest", "out/latest__changes", "out/versions")
CLOCK = 1_700_000_000


def deliver(root: Path, folder: str, name: str, ids: range, day: int) -> None:
    frame = pl.DataFrame({"id": ids}).with_columns(
        at=pl.datetime(2024, 1, day),
        x=pl.when(pl.col("id") % 50 != 0).then(pl.col("id") * day % 7),
        k=pl.format("k{}", pl.col("id") % 3),
    )
    path = root / folder / f"{name}.parquet"
    path.parent.mkdir(exist_ok=True)
    frame.write_parquet(path)
    os.utime(path, (CLOCK, CLOCK))


def prepare(root: Path) -> Path:
    (root / "p.yaml").write_text(DEFINITION)
    deliver(root, "data", "0", range(300), 1)
    deliver(root, "gone", "0", range(5), 1)
    lp.load(root / "p.yaml").compile().run(run="first").raise_for_status()
    deliver(root, "data", "1", range(250, 400), 2)
    deliver(root, "gone", "1", range(100, 110), 2)
    (root / "data" / "0.parquet").unlink()  # archived
    return root


def held(root: Path) -> dict[str, Counter[str]]:
    found = {}
    for name in OUTPUTS:
        frame = lp.scan(str(root / name)).collect()
        columns = sorted(c for c in frame.columns if c not in ("_lazypipe_run", "_lazypipe_file", "_run", "_time"))
        found[name] = Counter(map(repr, frame.select(columns).rows()))
    return found


def expected() -> dict[str, set[int]]:
    """Return ids that must be there, each once: whatever the runs did."""
    good = {i for i in range(400) if i % 50}
    return {"out/latest": good - {*range(5), *range(100, 110)}}


def test_a_kill_at_every_step(tmp_path: Path, killer: Killer) -> None:
    whole = prepare_in(tmp_path / "whole")
    before = held(whole)
    code, events = killer.run(whole, 0, "whole")
    assert code == 0
    after = held(whole)
    latest = lp.scan(str(whole / "out/latest")).collect()
    assert sorted(latest["id"]) == sorted(expected()["out/latest"])
    assert after["out/added"].total() == 300 - 6 + 150 - 3
    assert after["out/added__quarantine"].total() == 6 + 3
    assert lp.scan(str(whole / "out/versions")).filter("is_current").collect().height == 400
    assert events.count("before commit") == 7, events
    template = Template(prepare_in(tmp_path / "p"))
    for number, event in enumerate(events, start=1):
        # around each commit, and now and then between: each kill costs three runs
        if event != "before commit" and number % 9:
            continue
        root = template.again()
        code, _ = killer.run(root, number, "killed")
        assert code == -signal.SIGKILL, f"{event} did not happen"
        for name in ("out/added", "out/versions"):
            assert held(root)[name] in (before[name], after[name]), f"{name} is torn at {number} {event}"
        lp.load(root / "p.yaml").compile().run(run="next").raise_for_status()
        assert held(root) == after, (number, event)
        again = lp.load(root / "p.yaml").compile().run(run="again")
        assert {s.status for s in again.segments} == {"unchanged"}
        lp.vacuum(lp.load(root / "p.yaml"), older_than=timedelta(0))
        assert held(root) == after, (number, event)
        for name in OUTPUTS:
            there = {str(p.relative_to(root / name)) for p in (root / name).rglob("*.parquet")}
            assert there == {f.path for f in Dataset(str(root / name)).read().files}, (number, event)


def prepare_in(root: Path) -> Path:
    root.mkdir()
    return prepare(root)


def test_a_feed_that_lags_needs_versions_that_vacuum_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = prepare_in(tmp_path / "p")
    from lazypipe.run.changefeed import ChangeFeed

    with monkeypatch.context() as patch:
        patch.setattr(ChangeFeed, "complete", lambda _: None)
        lp.load(root / "p.yaml").compile().run(run="second").raise_for_status()
    told = Dataset(str(root / "out/latest__changes")).read().info["version"]
    latest = Dataset(str(root / "out/latest")).read().version
    assert told < latest - 1
    lp.vacuum(lp.load(root / "p.yaml"), older_than=timedelta(0))
    lp.load(root / "p.yaml").compile().run(run="third").raise_for_status()
    feed = lp.scan(str(root / "out/latest__changes")).collect()
    assert feed["_version"].max() == latest
    # what was taken away by hand is told
    with monkeypatch.context() as patch:
        patch.setattr(ChangeFeed, "complete", lambda _: None)
        deliver(root, "data", "2", range(3), 3)
        deliver(root, "gone", "2", range(1), 3)
        lp.load(root / "p.yaml").compile().run(run="fourth").raise_for_status()
    vacuum(Dataset(str(root / "out/latest")), older_than=timedelta(0))
    result: Any = lp.load(root / "p.yaml").compile().run(run="fifth")
    (failed,) = [s for s in result.segments if s.name == "latest"]
    assert "the change feed of output 'latest' cannot go on: there is no version" in str(failed.error)
    assert "delete it and latest__changes.commits to begin a new one" in str(failed.error)
