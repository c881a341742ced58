"""What a stream costs that has nothing to do, and whether it grows with the batches it has run.

    uv run python benchmarks/stream.py [--files 10000] [--batches 1000]

An idle look is held against a bare listing of the same files with stat. For memory, one file is delivered again and again, so that
the state stays as large as it is: resident memory is taken at a fifth of the batches and at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from common import parse, publish

import lazypipe as lp

DEFINITION = """
version: 1
name: streamed
audit: off
sources: {a: {uri: in, format: csv, contract: {columns: {x: Int64}}}}
stages: {b: {from: a, do: [{filter: x >= 0}]}}
outputs: {b: {to: out/b}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--batches", type=int, default=1_000)
    options = parse(parser, "--files 20 --batches 10")
    base = Path(tempfile.mkdtemp())
    try:
        bare, look = idle(base / "idle", options.files)
        early, late, seconds = batches(base / "batches", options.batches)
    finally:
        shutil.rmtree(base)
    rows = [
        {"what": "bare listing", "figure": round(bare, 4), "unit": "s", "ratio": 1.0},
        {"what": "idle look", "figure": round(look, 4), "unit": "s", "ratio": round(look / bare, 2)},
        {"what": "memory early", "figure": round(early), "unit": "MB", "ratio": 1.0},
        {"what": "memory at the end", "figure": round(late), "unit": "MB", "ratio": round(late / early, 3)},
        {"what": "a micro-batch", "figure": round(seconds, 4), "unit": "s", "ratio": 1.0},
    ]
    publish("stream", rows, note=f"{options.files} files; {options.batches} batches of one file; medians")


def put(path: Path, value: int) -> None:
    staged = path.with_name(f".{path.name}")
    staged.write_text(f"x\n{value}\n")
    staged.rename(path)


def idle(base: Path, files: int) -> tuple[float, float]:
    """Return seconds of a bare listing, and of a look at the same files by a stream that has taken them in."""
    for number in range(files):
        folder = base / "in" / f"{number // 100:04}"
        folder.mkdir(parents=True, exist_ok=True)
        put(folder / f"{number:06}.csv", number)
    time.sleep(2.1)  # stamps as young as the listing prove nothing
    pipe = lp.Pipeline.from_yaml(DEFINITION, base=str(base))
    pipe.compile().run().raise_for_status()
    looks: list[float] = []
    bare: list[float] = []

    def sleep(_: float) -> None:
        looks.append(time.perf_counter() - started[0])
        begun = time.perf_counter()
        listed(str(base / "in"))
        bare.append(time.perf_counter() - begun)
        if len(looks) == 8:
            stream.stop()
        started[0] = time.perf_counter()

    started = [time.perf_counter()]
    stream = lp.stream(pipe, sleep=sleep)
    assert list(stream) == []
    return statistics.median(bare[1:]), statistics.median(looks[1:])  # the first look compiles


def listed(folder: str) -> int:
    found = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += listed(entry.path)
            else:
                found += entry.stat().st_size > 0
    return found


def batches(base: Path, count: int) -> tuple[float, float, float]:
    """Return resident megabytes after a fifth of the batches and after all, and the median of seconds per batch."""
    (base / "in").mkdir(parents=True)
    memory: list[float] = []
    seconds: list[float] = []
    put(base / "in/a.csv", 0)
    pipe = lp.Pipeline.from_yaml(DEFINITION, base=str(base))
    stream = lp.stream(pipe, sleep=lambda _: put(base / "in/a.csv", len(seconds)))
    begun = time.perf_counter()
    for result in stream:
        result.raise_for_status()
        seconds.append(time.perf_counter() - begun)
        if len(seconds) in (count // 5, count):
            memory.append(resident())
        if len(seconds) == count:
            break
        begun = time.perf_counter()
    return memory[0], memory[1], statistics.median(seconds)


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
