"""Runs that are killed, at each step and at any moment: what was published stays, and the next run is like any other."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from tests.faults.killing import Killer

ROWS = 6_000
DEFINITION = """
version: 1
name: killed
sources:
  a:
    uri: data/*.csv
    gate: [{not_null: {columns: [x], action: quarantine}}]
stages:
  b: {from: a, do: [{filter: x >= 0}], gate: [{unique: {columns: [x], action: drop}}]}
  c: {from: b, do: [{aggregate: {by: [k], aggregate: {n: count(*), total: sum(x)}}}]}
outputs:
  b: {to: out/b, partition_by: [k]}
  c: {to: out/c}
  e: {from: b, to: out/e.csv, format: csv}
"""


def deliver(root: Path, seed: int) -> None:
    """Write two files: some nulls to be quarantined, some repeated keys."""
    for number in (1, 2):
        x = [None if i % (500 * seed) == 0 else (number * ROWS + i) % (2 * ROWS - 100 * seed) for i in range(ROWS)]
        frame = pl.DataFrame({"x": x, "k": [f"k{i % 3}" for i in range(ROWS)]})
        (root / "data").mkdir(parents=True, exist_ok=True)
        frame.write_csv(root / "data" / f"{number}.csv")


def published(root: Path) -> dict[str, Any]:
    """Return every output's rows in an order that does not depend on the run."""
    found: dict[str, Any] = {}
    for name in ("out/b", "out/c", ".lazypipe/quarantine/killed/a"):
        frame = lp.scan(str(root / name)).collect()
        kept = [c for c in frame.columns if c not in ("_lazypipe_run", "_lazypipe_file")]
        found[name] = frame.select(kept).sort(kept).rows()
    found["out/e.csv"] = sorted((root / "out" / "e.csv").read_text().splitlines())
    return found


def live(root: Path) -> set[str]:
    """Return the files that there should be when nothing is left over."""
    files = {"out/e.csv"}
    for name in ("out/b", "out/c", ".lazypipe/quarantine/killed/a", ".lazypipe/exports/killed/e"):
        dataset = Dataset(str(root / name))
        commit = dataset.read()
        files |= {f"{name}/{f.path}" for f in commit.files} | {f"{name}.commits/{commit.version:020}.json"}
        files |= {f"{name}.commits/figures/{f.path}" for f in commit.figures}
    return files


def files(root: Path) -> set[str]:
    found = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    return {
        f
        for f in found
        if not (
            f.startswith((".lazypipe/runs/", ".lazypipe/hashes.json", "data/", "p.yaml"))
            or re.fullmatch(r"\.lazypipe/ledger/.*\.json", f)
        )
    }


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, killer: Killer) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return what runs on the first and on the second delivery publish, and the events of the second."""
    root = prepared(tmp_path_factory.mktemp("clean"))
    first = published(root)
    deliver(root, 2)
    code, events = killer.run(root, 0, "clean")
    assert code == 0
    return first, published(root), events


def prepared(root: Path) -> Path:
    """A pipeline that has run on the first delivery."""
    (root / "p.yaml").write_text(DEFINITION)
    deliver(root, 1)
    lp.load(root / "p.yaml").compile().run(run="first").raise_for_status()
    return root


def assert_whole(root: Path, before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """Each output is as it was or as it should be, never something between."""
    found = published(root)
    told = {}
    for name, rows in found.items():
        assert rows in (before[name], after[name]), f"{name} is torn"
        told[name] = "old" if rows == before[name] else "new"
    return told


def assert_not_hindered(root: Path, after: dict[str, Any], run: str) -> None:
    lp.load(root / "p.yaml").compile().run(run=run).raise_for_status()
    assert published(root) == after
    lp.vacuum(lp.load(root / "p.yaml"), older_than=timedelta(0))
    assert files(root) == live(root)
    assert published(root) == after


def test_a_kill_at_every_step(
    tmp_path: Path, killer: Killer, clean: tuple[dict[str, Any], dict[str, Any], list[str]]
) -> None:
    before, after, events = clean
    assert all(before[name] != after[name] for name in before)
    root = prepared(tmp_path)
    order = ["out/b", "out/e.csv", "out/c"]
    expected = {
        "before record",
        "batch",
        "before write of a dataset",
        "after opening of a data file",
        "after link of a commit",
    }
    assert expected <= set(events)
    assert {"before commit", "after commit", "after write of an export", "after swap of an export"} <= set(events)
    delivered = 1
    for number, event in enumerate(events, start=1):
        if event in events[number - 4 : number - 1] or event in ("after commit", "before record"):
            continue  # nothing on disk differs from the event before, or just one file more
        # each killed run finds the other delivery than the one before it, so that old and new can be told apart
        delivered = 3 - delivered
        deliver(root, delivered)
        old, new = (before, after) if delivered == 2 else (after, before)
        code, _ = killer.run(root, number, f"killed{number}")
        assert code == -signal.SIGKILL, f"{event} did not happen"
        told = assert_whole(root, old, new)
        if number <= events.index("before link of a commit") + 1:
            assert set(told.values()) == {"old"}, f"published at {number} {event}: {told}"
        elif number == len(events):
            assert set(told.values()) == {"new"}
        assert [told[name] for name in order] == sorted([told[name] for name in order], key=["new", "old"].index)
        record = root / ".lazypipe" / "runs" / f"killed{number}.json"
        if number > 2:
            assert json.loads(record.read_text())["status"] in ("running", "done")
        assert_not_hindered(root, new, f"next{number}")


def test_a_kill_at_any_moment(
    tmp_path: Path, killer: Killer, clean: tuple[dict[str, Any], dict[str, Any], list[str]]
) -> None:
    before, after, _ = clean
    root = prepared(tmp_path)
    moments = random.Random(7)
    for number in range(8):
        deliver(root, 2 if number % 2 == 0 else 1)
        old, new = (before, after) if number % 2 == 0 else (after, before)
        code, _ = killer.run(root, -moments.randint(1, 150), f"killed{number}")
        assert code in (0, -signal.SIGKILL)
        assert_whole(root, old, new)
        assert_not_hindered(root, new, f"next{number}")


# SIGINT

SLOW = """
import os, sys, threading, time
import lazypipe as lp

def slow(batch):
    sys.stdout.write("."); sys.stdout.flush()
    time.sleep(0.05)
    return batch

def wait(frame):
    return frame.map_batches(slow, streamable=True)
"""


@pytest.mark.parametrize("kind", ["dataset", "csv"])
def test_an_interrupt_ends_the_run_and_takes_away_what_it_wrote(tmp_path: Path, kind: str) -> None:
    (tmp_path / "slowly.py").write_text(SLOW)
    for number in range(60):
        pl.DataFrame({"x": range(number * 1000, number * 1000 + 1000)}).write_parquet(tmp_path / f"{number:03}.parquet")
    to = "out/b" if kind == "dataset" else "out/b.csv"
    (tmp_path / "p.yaml").write_text(
        textwrap.dedent(
            f"""\
            version: 1
            name: slow
            sources: {{a: {{uri: "*.parquet"}}}}
            stages:
              b: {{from: a, do: [{{python: "slowly:wait"}}]}}
              c: {{from: a}}
            outputs: {{b: {{to: {to}, format: {kind}}}, c: {{to: out/c}}}}
            """
        )
    )
    script = textwrap.dedent(
        """
        import json, sys
        import lazypipe as lp
        plan = lp.load(sys.argv[1] + "/p.yaml").compile(allow=["slowly"])
        result = plan.run(run="r")
        print("\\n" + json.dumps([result.status, result.exit_code, [s.status for s in result.segments], str(result.segments[0].error)]))
        sys.exit(result.exit_code)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stdout.read(3) == "..."
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    status, code, statuses, error = json.loads(out.splitlines()[-1])
    assert (status, code, statuses) == ("interrupted", 3, ["interrupted"])
    assert error == "stopped by a signal; nothing unfinished was published; run again"
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []
    assert not (tmp_path / ".lazypipe" / "work").exists() or not any((tmp_path / ".lazypipe" / "work").iterdir())
    assert json.loads((tmp_path / ".lazypipe" / "runs" / "r.json").read_text())["status"] == "interrupted"
