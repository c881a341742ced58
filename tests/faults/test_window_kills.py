"""Streams of windows, late rows and panes that are killed in the middle of batches: what is there in the end is what a naive count says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

import lazypipe as lp
from tests.faults.killing import Killer, Template

T0 = datetime(2024, 3, 1)
HOUR = timedelta(hours=1)
DEFINITION = """
version: 1
name: p
sources:
  r: {uri: in/*.parquet, event_time: at, watermark: {delay: 1h, by: k}}
stages:
  w:
    from: r
    do:
      - window: {time: at, every: 1h, by: k, late: quarantine, allowed_lateness: 1h, aggregate: {n: count(*), s: sum(x)}}
  m:
    from: w
    do: [{window: {time: window_start, every: 1d, by: k, aggregate: {m: median(n), t: sum(s)}}}]
outputs:
  w: {to: out/w, key: [k, window_start], panes: {mode: retract, weight: sign}}
  m: {to: out/m, key: [k, window_start]}
"""
Row = tuple[datetime, str, int]


def readings(day: int) -> list[Row]:
    """Return the rows of a day; each ninth is of days before, and then mostly late."""
    return [
        (T0 + timedelta(days=day - (n % 9 == 0) * (n % 5), minutes=(n * 37 + day) % 1440), "ab"[n % 2], n % 7)
        for n in range(100)
    ]


def deliver(root: Path, day: int, rows: list[Row], stamp: int) -> None:
    staged = root / f"in/.{day}"
    staged.parent.mkdir(exist_ok=True)
    pl.DataFrame(rows, schema={"at": pl.Datetime("us"), "k": pl.String, "x": pl.Int64}, orient="row").write_parquet(
        staged
    )
    os.utime(staged, (1_710_000_000 + stamp,) * 2)
    staged.rename(root / f"in/{day:03}.parquet")


def naive(days: dict[int, list[Row]]) -> tuple[Counter[Any], Counter[Any]]:
    """Return the windows and the late rows of files, one row after the other."""
    windows: dict[Any, list[int]] = {}
    late: Counter[Any] = Counter()
    reached: dict[str, datetime] = {}
    for day in sorted(days):
        before = dict(reached)
        for at, k, x in days[day]:
            start = at.replace(minute=0)
            if k in before and start + 2 * HOUR <= before[k] - HOUR:
                late[at, k, x] += 1
            else:
                windows.setdefault((k, start, start + HOUR), []).append(x)
            reached[k] = max(reached.get(k, at), at)
    return Counter((*w, len(xs), sum(xs)) for w, xs in windows.items()), late


def rows(root: Path, uri: str) -> list[dict[str, Any]]:
    return lp.scan(str(root / uri)).collect().to_dicts()


def test_windows_late_rows_and_panes_of_streams_that_are_killed(tmp_path: Path, root: Path) -> None:
    (tmp_path / "p.yaml").write_text(DEFINITION)
    command = [sys.executable, "-m", "tests.faults.streamed"]
    streams = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    assert streams.stdin is not None
    assert streams.stdout is not None
    days: dict[int, list[Row]] = {}
    for delay in (10, 60, 120, 200):
        for _ in range(2):
            day = len(days)
            deliver(tmp_path, day, days.setdefault(day, readings(day)), day)
        if len(days) > 4:  # a delivery is corrected
            days[2] = readings(3 + len(days) % 2)
            deliver(tmp_path, 2, days[2], 100 + len(days))
        print(tmp_path, delay, file=streams.stdin, flush=True)
        assert streams.stdout.readline() == f"{-signal.SIGKILL}\n"
    print(tmp_path, -1, file=streams.stdin, flush=True)
    assert streams.stdout.readline() == "0\n"
    streams.communicate()

    windows, late = naive(days)
    assert late.total() > 20
    found = rows(tmp_path, "out/w")
    assert Counter(tuple(r.values()) for r in found) == windows
    aside = rows(tmp_path, ".lazypipe/quarantine/p/w__late")
    assert Counter((r["at"], r["k"], r["x"]) for r in aside) == late
    told: Counter[Any] = Counter()
    for r in rows(tmp_path, "out/w__panes"):
        told[r["k"], r["window_start"], r["window_end"], r["n"], r["s"]] += r["sign"]
    assert {w: n for w, n in told.items() if n} == windows
    by_day: dict[Any, list[tuple[int, int]]] = {}
    for k, start, _, n, s in windows:
        by_day.setdefault((k, start.replace(hour=0)), []).append((n, s))
    assert {(r["k"], r["window_start"]): (r["m"], r["t"]) for r in rows(tmp_path, "out/m")} == {
        key: (median(n for n, _ in of), sum(s for _, s in of)) for key, of in by_day.items()
    }


DUE = """
version: 1
name: due
sources:
  r: {uri: in/*.parquet, event_time: at, watermark: {delay: 1h}}
stages:
  m: {from: r, do: [{window: {time: at, every: 1h, by: k, emit: on_close, keep_results: 3d, aggregate: {m: median(x), n: count(*)}}}]}
outputs:
  m: {to: out/m}
"""


def test_windows_that_are_due_are_so_until_a_run_has_ended(tmp_path: Path, killer: Killer) -> None:
    def medians(days: dict[int, list[Row]]) -> dict[Any, tuple[float, int]]:
        held: dict[Any, list[int]] = {}
        for at, k, x in (r for of in days.values() for r in of):
            held.setdefault((k, at.replace(minute=0)), []).append(x)
        mark = max(at for of in days.values() for at, _, _ in of) - HOUR
        return {
            (k, at): (median(xs), len(xs))
            for (k, at), xs in held.items()
            if at + HOUR <= mark < at + HOUR + timedelta(days=3)
        }

    def there() -> dict[Any, tuple[float, int]]:
        return {(r["k"], r["window_start"]): (r["m"], r["n"]) for r in rows(root, "out/m")}

    (tmp_path / "p").mkdir()
    (tmp_path / "p/p.yaml").write_text(DUE)
    days: dict[int, list[Row]] = {}
    for day in range(5):
        deliver(tmp_path / "p", day, days.setdefault(day, readings(day)), day)
        if day == 3:  # the next one is read with those of an hour that is open
            lp.load(tmp_path / "p/p.yaml").compile().run(run="first").raise_for_status()
            before = medians(days)
    template = Template(tmp_path / "p")
    root = template.again()
    code, events = killer.run(root, 0, "whole")
    after = medians(days)
    assert (code, there()) == (0, after)
    assert before.keys() - after
    assert after.keys() - before
    for number, event in enumerate(events, start=1):
        if event in events[max(0, number - 4) : number - 1]:
            continue  # nothing on disk differs from the event before, or just one file more
        root = template.again()
        code, _ = killer.run(root, number, "killed")
        assert code == -signal.SIGKILL, f"{event} did not happen"
        assert there() in (before, after), f"torn at {number} {event}"
        lp.load(root / "p.yaml").compile().run(run="next").raise_for_status()
        assert there() == after, (number, event)
        again = lp.load(root / "p.yaml").compile().run(run="again")
        assert {s.status for s in again.segments} == {"unchanged"}
