"""What it costs to find out what has changed, against the least that it could cost.

    uv run python benchmarks/incremental.py [--runs 5] [--files 10000] [--rows 10000000]

Detection is held against a bare recursive listing with stat, content mode against BLAKE3 of the same files alone, the difference of
two tables (100 rows updated, one deleted in the middle) against reading both and against processing both in full.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import polars as pl
from blake3 import blake3
from common import DATA, Clock, measure, orders, publish

import lazypipe as lp
from lazypipe.compile.sources import Snapshot
from lazypipe.incremental.changes import Changes, compare
from lazypipe.incremental.hashing import hasher
from lazypipe.storage.files import expand

SIZE = 36_000
VARIANTS = ("list", "nothing changed", "hash", "content mode", "read", "full", "diff")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", metavar=("VARIANT", "FILES", "ROWS"), nargs=3)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], small_files(int(options.child[1])), tables(int(options.child[2])))
        return
    small_files(options.files)
    tables(options.rows)
    sizes = (str(options.files), str(options.rows))
    found = measure(__file__, {v: (v, *sizes) for v in VARIANTS}, runs=options.runs)
    pairs = {"nothing changed": "list", "content mode": "hash", "diff": "full"}
    rows = [
        {
            "what": variant,
            "seconds": round(found[variant]["seconds"], 4),
            "peak MB": round(found[variant]["peak_mb"]),
            "against": pairs.get(variant, ""),
            "ratio": round(found[variant]["seconds"] / found[pairs.get(variant, variant)]["seconds"], 2),
        }
        for variant in VARIANTS
    ]
    publish("incremental", rows, note=f"{options.files} files of {SIZE} bytes; tables of {options.rows} rows; medians")


def small_files(count: int) -> Path:
    folder = DATA / f"small-{count}"
    if not folder.exists():
        made = random.Random(0)
        for number in range(count):
            path = folder.with_suffix(".tmp") / f"{number // 100:04}" / f"{number:06}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made.randbytes(SIZE))
        folder.with_suffix(".tmp").rename(folder)
    return folder


def tables(rows: int) -> tuple[Path, Path]:
    """Make two tables of orders: the second with another amount every 100,000 rows, and one row less in the middle."""
    files = max(1, rows // 1_000_000)
    source = orders(files, min(rows, 1_000_000))
    before, after = DATA / f"before-{rows}.parquet", DATA / f"after-{rows}.parquet"
    if not after.exists():
        frame = pl.scan_parquet([source / f"orders-{n:03}.parquet" for n in range(files)])
        frame.sink_parquet(before)
        amount = pl.when(pl.col("order_id") % 100_000 == 7).then(pl.col("amount") + 1).otherwise("amount")
        changed = frame.with_columns(amount=amount).filter(pl.col("order_id") != rows // 2)
        changed.sink_parquet(after.with_suffix(".tmp"))
        after.with_suffix(".tmp").rename(after)
    return before, after


def bare(folder: str) -> list[tuple[str, int, int]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += bare(entry.path)
            else:
                about = entry.stat()
                found.append((entry.path, about.st_size, about.st_mtime_ns))
    return found


def child(variant: str, folder: Path, pair: tuple[Path, Path]) -> None:
    def listed() -> Snapshot:
        return Snapshot(expand([str(folder)], endings=(".csv",)))

    frames = [pl.scan_parquet(p) for p in pair]
    before = Changes().consumed()
    if variant in ("nothing changed", "content mode"):
        before = Changes(now=listed()).consumed(listed=time.time_ns() + 10**10, hasher=hasher())
    names = [path for path, _, _ in bare(str(folder))] if variant == "hash" else []
    with Clock() as clock:
        match variant:
            case "list":
                bare(str(folder))
            case "nothing changed":
                assert compare(before, listed(), hasher=hasher()).still
            case "content mode":
                assert compare(before, listed(), hasher=hasher(), detect="content").still
            case "hash":
                for name in names:
                    blake3(Path(name).read_bytes()).hexdigest()
            case "read":
                for frame in frames:
                    frame.select(pl.all().null_count()).collect(engine="streaming")
            case "full":
                for frame, path in zip(frames, pair, strict=True):
                    kept = frame.filter(pl.col("amount") > 0).with_columns(total=pl.col("amount") * pl.col("quantity"))
                    kept.sink_parquet(path.with_suffix(".out"))
            case _:
                assert lp.diff(*frames, key="order_id").counts["deleted"] == 1
    clock.report()


if __name__ == "__main__":
    main()
