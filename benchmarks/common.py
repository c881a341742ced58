"""What all benchmarks share: data, child processes that are timed and weighed in turn, tables and JSON.

Machines are noisy and shared, so nothing here is an absolute figure: variants run in turn (A B C A B C …), each in a process
of its own, and what counts is the ratio of medians within one run.

``--toy`` runs any of them once, in one process, at a size that says nothing, and writes no results: to see that it still runs.
``LAZYPIPE_BENCHMARK_DATA`` names another folder for what is made once.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import json
import os
import pkgutil
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path

import polars as pl

import lazypipe

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PIPELINES = HERE.parent / "pipelines"
TOY = "--toy" in sys.argv
"""Whether this is only to see that a benchmark runs."""
DATA = Path(os.environ.get("LAZYPIPE_BENCHMARK_DATA", HERE / "data")) / ("toy" if TOY else "")
MILLION = 1_000 if TOY else 1_000_000
"""Rows of a file where rows are counted in millions."""


def parse(parser: argparse.ArgumentParser, toy: str = "") -> argparse.Namespace:
    """Return the options of the command line; of a toy, those that make it small."""
    parser.add_argument("--toy", action="store_true", help="once, at a size that says nothing, with no results written")
    options = parser.parse_args()
    if options.toy and not getattr(options, "child", None):
        options = parser.parse_args(["--toy", *toy.split()])
    DATA.mkdir(parents=True, exist_ok=True)
    return options


def example(folder: Path) -> None:
    """Copy the example pipeline and its data; for a toy, few of its flights."""
    made = DATA / "example"
    if not TOY or not made.exists():
        shutil.copytree(PIPELINES, made if TOY else folder, ignore=shutil.ignore_patterns("out", ".lazypipe"))
        for path in sorted((made / "data").glob("*.csv.gz")) if TOY else ():
            pl.read_csv(path, infer_schema=False).head(500).write_csv(path, compression="gzip")
    if TOY:
        shutil.copytree(made, folder)


def orders(files: int, rows_per_file: int = MILLION) -> Path:
    """Make (once) a folder of Parquet files of generated orders, about 1 % of them with something wrong."""
    folder = DATA / f"orders-{rows_per_file}"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        path = folder / f"orders-{number:03}.parquet"
        if not path.exists():
            _orders(number, rows_per_file).write_parquet(path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
    return folder


def _orders(number: int, rows: int) -> pl.DataFrame:
    def draw(seed: int, below: int) -> pl.Expr:
        return (pl.col("order_id").hash(seed) % below).cast(pl.Int64)

    def pick(seed: int, values: Sequence[str]) -> pl.Expr:
        return draw(seed, len(values)).replace_strict(dict(enumerate(values)), return_dtype=pl.String)

    def rarely(seed: int, wrong: pl.Expr, right: pl.Expr) -> pl.Expr:
        return pl.when(draw(seed, 1000) < 2).then(wrong).otherwise(right)

    email = pl.format("user{}@example{}.com", draw(1, 500_000), draw(2, 50))
    start = pl.lit(datetime(2024, 1, 1))
    happened = start + pl.duration(milliseconds=pl.col("order_id") * 1000 + draw(9, 10_000))
    return (
        pl.DataFrame({"order_id": pl.int_range(number * rows, (number + 1) * rows, eager=True)})
        .with_columns(
            email=rarely(11, pl.lit(None), rarely(12, pl.lit("nobody"), email)),
            country=rarely(13, pl.lit("XX"), pick(3, ["DE", "FR", "US", "GB", "IT", "ES", "NL", "BE", "PL", "SE"])),
            amount=rarely(14, pl.lit(-1.0), draw(4, 1_000_000) / 100),
            quantity=rarely(15, pl.lit(0), 1 + draw(5, 20)).cast(pl.Int32),
            status=pick(6, ["new", "paid", "sent", "done", "void"]),
            event_time=happened,
        )
        .with_columns(updated_at=pl.col("event_time") + pl.duration(seconds=draw(7, 86_400)))
    )


def measure(script: str, variants: Mapping[str, Sequence[str]], *, runs: int = 5) -> dict[str, dict[str, float]]:
    """Run ``python script --child …`` for each variant in turn; return medians of seconds and peak megabytes.

    A child prints one JSON object with ``seconds``, what it measured itself around the work, without start-up.
    """
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for turn in range(1 if TOY else runs + 1):
        for name, arguments in variants.items():
            found = _toy_child(script, arguments) if TOY else _child(script, arguments)
            if turn or TOY:  # the first turn warms caches
                seen[name].append(found)
    return {name: {k: statistics.median(r[k] for r in rows) for k in rows[0]} for name, rows in seen.items()}


def _child(script: str, arguments: Sequence[str]) -> dict[str, float]:
    command = [sys.executable, script, "--child", *arguments]
    # modules that are imported late are compiled by the turn that warms caches, as they are where packages are installed
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(DATA / "bytecode")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    found: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return {**found, "peak_mb": usage.ru_maxrss / 1024}


def _toy_child(script: str, arguments: Sequence[str]) -> dict[str, float]:
    """Do what a child does, in this process: it starts in no time."""
    command, sys.argv = sys.argv, [script, "--toy", "--child", *arguments]
    try:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            vars(sys.modules["__main__"])["main"]()
    finally:
        sys.argv = command
    found: dict[str, float] = json.loads(output.getvalue().strip().splitlines()[-1])
    return {**found, "peak_mb": 1.0}


class Clock:
    """Times a block: ``with Clock() as clock: …; clock.report()``. What imports cost is told by ``start.py``, and not in it."""

    def __init__(self) -> None:
        for module in pkgutil.walk_packages(lazypipe.__path__, "lazypipe."):
            import_module(module.name)

    def __enter__(self) -> Clock:
        self._start, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu = time.perf_counter() - self._start, time.process_time() - self._cpu

    def report(self, **more: float) -> None:
        """Print what the parent reads."""
        print(json.dumps({"seconds": self.seconds, "cpu": self.cpu, **more}))


class Opens:
    """Counts how often files of a folder are opened, by anybody, through the kernel's inotify."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        in_open = 0x20
        if libc.inotify_add_watch(self._descriptor, str(folder).encode(), in_open) < 0:
            sys.exit("inotify does not work here")

    def count(self) -> int:
        """Return the number of opens of Parquet files so far."""
        opens = 0
        try:
            while data := os.read(self._descriptor, 1 << 20):
                offset = 0
                while offset < len(data):
                    *_, length = struct.unpack_from("iIII", data, offset)
                    name = data[offset + 16 : offset + 16 + length].rstrip(b"\0")
                    opens += name.endswith(b".parquet")
                    offset += 16 + length
        except BlockingIOError:
            pass
        return opens


def publish(name: str, rows: Sequence[Mapping[str, object]], *, note: str = "") -> None:
    """Print a table and write it, with versions, to ``benchmarks/results``; of a toy, only print it."""
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=200,
        fmt_str_lengths=80,
        tbl_hide_dataframe_shape=True,
        float_precision=3,
    ):
        print(pl.DataFrame(rows, infer_schema_length=None))
    if TOY:
        return
    RESULTS.mkdir(exist_ok=True)
    versions = {"lazypipe": lazypipe.__version__, "polars": pl.__version__, "python": platform.python_version()}
    found = {"versions": versions, "cpus": os.cpu_count(), "note": note, "rows": list(rows)}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
