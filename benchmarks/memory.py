"""Memory on data larger than memory: what a run takes above an idle process, for rows of one and five times a budget.

Each job runs in a process of its own with ``POLARS_OOC_MEMORY_BUDGET_MB`` set (docs/guide/small-machines.md), and once without it at the largest
size, for what it takes where memory suffices. Rows are 40 bytes in memory: a time, a number of which there are few, a text of which there are
many, and two numbers. What does not grow with the rows is bounded; what grows is told.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from common import DATA, TOY, Clock, _child, _toy_child, parse, publish

import lazypipe as lp

ROW = 40
"""Bytes that a row takes in memory, about."""


def made(rows: int) -> Path:
    """Make (once) files of so many rows, in no order but by file."""
    folder = DATA / f"memory-{rows}"
    each = min(rows, 500_000)
    if not folder.exists():
        draft = folder.with_suffix(".tmp")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for number in range(rows // each):
            n = pl.int_range(number * each, (number + 1) * each, dtype=pl.Int64)
            drawn = n.hash(7).cast(pl.Int64, wrap_numerical=True).abs() % (86_400_000_000 * 30)
            pl.select(
                at=drawn.cast(pl.Datetime("us")),
                k=(n.hash(1) % 100).cast(pl.Int64),
                user=pl.format("user-{}", n.hash(2) % max(rows // 10, 1)),
                x=(n.hash(3) % 1_000_003) / 7,
                n=n,
            ).write_parquet(draft / f"{number:03}.parquet")
        draft.rename(folder)
    return folder


def pipeline(*steps: dict[str, Any], other: bool = False, **output: Any) -> Callable[[Path, Path], None]:
    """Return a job: steps over the rows, written to a dataset."""

    def run(rows: Path, out: Path) -> None:
        sources = {"r": {"uri": str(rows / "*.parquet"), "event_time": "at"}}
        if other:
            sources["o"] = {"uri": str(rows / "*.parquet")}
        text = {
            "version": 1, "name": "memory", "sources": sources,
            "stages": {"made": {"from": "r", "do": [*steps]}},
            "outputs": {"made": {"to": str(out / "made"), **output}},
        }  # fmt: skip
        result = lp.Pipeline.from_yaml(json.dumps(text), base=str(out)).compile().run()
        assert result.status == "done", result

    return run


def rewritten(rows: Path, out: Path) -> None:
    """Write rows as they are; the choice and the writing in order are one step of maintenance."""
    pipeline()(rows, out)
    lp.optimize.rewrite(str(out / "made"), "storage")


MEDIAN = {"m": "median(x)", "n": "count(*)"}
JOBS: dict[str, Callable[[Path, Path], None]] = {
    "idle": lambda *_: None,
    "copy": pipeline(),
    "sort": pipeline({"sort": ["x", "n"]}),
    "optimize: storage": pipeline(optimize="storage"),
    "optimize.rewrite": rewritten,
    "window of sums by number": pipeline({"window": {"time": "at", "every": "1h", "by": "k", "aggregate": {"s": "sum(x)"}}}),
    "window of medians": pipeline({"window": {"time": "at", "every": "1h", "aggregate": MEDIAN}}),
    "window of medians by number": pipeline({"window": {"time": "at", "every": "1h", "by": "k", "aggregate": MEDIAN}}),
    "window of medians by text": pipeline({"window": {"time": "at", "every": "1d", "by": "user", "aggregate": MEDIAN}}),
    "session of medians": pipeline({"session": {"time": "at", "gap": "2m", "by": "k", "aggregate": MEDIAN}}),
    "asof_join": pipeline({"asof_join": {"with": "o", "on": "at", "columns": {"x": "y"}}}, other=True),
    "asof_join by": pipeline({"asof_join": {"with": "o", "on": "at", "by": "k", "columns": {"x": "y"}}}, other=True),
    "distinct": pipeline({"distinct": {"columns": ["user", "k"]}}),
    "aggregate by text": pipeline({"aggregate": {"by": "user", "aggregate": {"s": "sum(x)"}}}),
    "join": pipeline({"join": {"with": "o", "on": "n", "how": "left", "columns": {"x": "y"}}}, other=True),
}  # fmt: skip


def child(job: str, rows: int) -> None:
    """Do one job, and print its seconds."""
    folder = made(rows)
    with tempfile.TemporaryDirectory(dir=DATA) as out, Clock() as clock:
        JOBS[job](folder, Path(out))
    clock.report()


def weighed(job: str, rows: int, budget: int | None) -> dict[str, float]:
    """Return seconds and peak megabytes of a job in a process of its own, allowed to hold so many megabytes before it spills."""
    name = "POLARS_OOC_MEMORY_BUDGET_MB"
    os.environ.update({} if budget is None else {name: str(budget)})
    try:
        return (_toy_child if TOY else _child)(__file__, [job, "--rows", str(rows)])
    finally:
        os.environ.pop(name, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=60, help="megabytes")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 5], help="in budgets")
    parser.add_argument("--jobs", nargs="*", default=[j for j in JOBS if j != "idle"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--child")
    options = parse(parser, "--sizes 1 2 --jobs copy sort")
    if options.child:
        child(options.child, options.rows)
        return
    sizes = {size: size * options.budget * (100 if TOY else 1_000_000) // ROW for size in options.sizes}
    for rows in sizes.values():
        made(rows)
    idle = weighed("idle", sizes[options.sizes[0]], options.budget)["peak_mb"]
    found = []
    for job in options.jobs:
        told = {size: weighed(job, rows, options.budget) for size, rows in sizes.items()}
        most = max(sizes)
        free = weighed(job, sizes[most], None)
        found.append({
            "job": job, "budget MB": options.budget,
            **{f"MB at {size} x": round(t["peak_mb"] - idle) for size, t in told.items()},
            f"MB at {most} x, no budget": round(free["peak_mb"] - idle),
            "CPU ratio": round(told[most]["cpu"] / free["cpu"], 2),
        })  # fmt: skip
    publish("memory", found, note=f"megabytes above an idle process of {idle:.0f} MB; rows of {ROW} bytes: {sizes}")


if __name__ == "__main__":
    main()
