"""Streams that are killed in the middle of a batch while files go on arriving, and real signals: nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import polars as pl
import pytest

import lazypipe as lp
from tests.faults.test_incremental_kills import CLOCK, DEFINITION, held, said


def deliver(root: Path, number: int) -> None:
    """Put a file into place in one step; every hundredth value is missing."""
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    staged = folder / f".{number}"
    x = [None if i % 100 == 0 else i for i in range(number * 500, number * 500 + 500)]
    pl.DataFrame({"x": x, "k": [f"k{i % 3}" for i in range(500)]}).write_csv(staged)
    os.utime(staged, (CLOCK + number, CLOCK + number))
    staged.rename(folder / f"{number:03}.csv")


def streamed(root: Path) -> tuple[subprocess.Popen[str], IO[str]]:
    """Start what runs streams and kills them, and return it with what it tells."""
    command = [sys.executable, "-m", "tests.faults.streamed"]
    streams = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    assert streams.stdin is not None
    assert streams.stdout is not None
    return streams, streams.stdout


def run_to_its_end(streams: subprocess.Popen[str], folder: Path) -> None:
    """Let a last stream run that nobody kills."""
    assert streams.stdin is not None
    assert streams.stdout is not None
    print(folder, -1, file=streams.stdin, flush=True)
    assert streams.stdout.readline() == "0\n"
    streams.communicate()
    assert streams.returncode == 0
    runs = [json.loads(p.read_text())["status"] for p in (folder / ".lazypipe/runs").glob("*.json")]
    assert runs.count("running") >= 3, "most were killed before their end"


def test_killed_again_and_again_while_files_arrive(tmp_path: Path, root: Path) -> None:
    (tmp_path / "p.yaml").write_text(DEFINITION)
    streams, told = streamed(root)
    number = 0
    for delay in (0, 15, 40, 70, 110, 160):
        for _ in range(3):
            deliver(tmp_path, number := number + 1)
        print(tmp_path, delay, file=streams.stdin, flush=True)
        deliver(tmp_path, number := number + 1)
        assert told.readline() == f"{-signal.SIGKILL}\n"
        if number > 12:  # and some go meanwhile
            (tmp_path / "data" / f"{number - 11:03}.csv").unlink()
    run_to_its_end(streams, tmp_path)
    after, counted = held(tmp_path), said(tmp_path)
    live = len(list((tmp_path / "data").glob("*.csv")))
    assert sum(after["out/b"].values()) == live * 495
    assert sum(after["out/b__quarantine"].values()) == live * 5
    pipe = lp.load(tmp_path / "p.yaml")
    # from backfill to live and back: a batch run of the same definition has nothing to do
    assert {s.status for s in pipe.compile().run().segments} == {"unchanged"}
    pipe.compile().run(full=True).raise_for_status()
    assert (held(tmp_path), said(tmp_path)) == (after, counted)


PULLED = """
version: 1
name: p
sources: {log: {uri: pulled/*.parquet, contract: {columns: {x: Int64}}}}
stages: {sum: {from: log, do: [{aggregate: {aggregate: {n: count(*), s: sum(x)}}}]}}
outputs: {log: {to: out/log}, sum: {to: out/sum}}
"""


def test_killed_again_and_again_while_a_log_is_pulled(tmp_path: Path, root: Path) -> None:
    (tmp_path / "p.yaml").write_text(PULLED)
    count = 0
    streams, told = streamed(root)
    for delay in (0, 3, 8, 15, 30, 50, 80, 110):
        with (tmp_path / "log").open("a", encoding="utf-8") as log:
            log.writelines(f"{x}\n" for x in range(count, count + 40))
        count += 40
        print(tmp_path, delay, file=streams.stdin, flush=True)
        assert told.readline() == f"{-signal.SIGKILL}\n"
    run_to_its_end(streams, tmp_path)
    assert lp.scan(str(tmp_path / "out/log")).collect()["x"].sort().to_list() == list(range(count))
    assert lp.scan(str(tmp_path / "out/sum")).collect().rows() == [(count, sum(range(count)))]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_batch_end(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "p.yaml").write_text(DEFINITION)
    for i in range(60):  # more than any machine gets through before the signal arrives
        deliver(tmp_path, i)
    command = [sys.executable, "-m", "lazypipe", "stream", str(tmp_path / "p.yaml"), "--max-files", "1", "--json"]
    stream = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    records = tmp_path / ".lazypipe/runs"
    while not records.exists() or len(list(records.glob("*.json"))) < 2:
        assert stream.poll() is None
        time.sleep(0.005)
    stream.send_signal(number)
    out, err = stream.communicate(timeout=300)
    assert (stream.returncode, err) == (0, "")
    results = [json.loads(line) for line in out.splitlines()]
    assert {r["status"] for r in results} == {"done"}
    assert 2 <= len(results) < 60
    assert lp.scan(str(tmp_path / "out/b")).collect().height == 495 * len(results)
    assert {json.loads(p.read_text())["status"] for p in records.glob("*.json")} == {"done"}
