"""What it costs to find out what has changed, against the least that it could cost.

    uv run python benchmarks/incremental.py [--runs 5] [--files 10000] [--rows 10000000] [--only upsert]

Detection is held against a bare recursive listing with stat, content mode against BLAKE3 of the same files alone, what an output has
consumed against the parsing of its JSON, the difference of
two tables (100 rows updated, one deleted in the middle) against reading both and against processing both in full. An upsert of keys that one, five and
all of ten data files hold is held against writing all of them anew; only the merge and the commit are measured, the run around
them is the same for all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from blake3 import blake3
from common import DATA, Clock, measure, orders, parse, publish

import lazypipe as lp
from lazypipe.compile.sources.source import Snapshot
from lazypipe.incremental.changes import Changes, compare
from lazypipe.incremental.hashing import hasher
from lazypipe.incremental.merging import merge_upsert
from lazypipe.incremental.state import State
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.keyed import files_with, rewrite_without, rows_with
from lazypipe.storage.files import expand
from lazypipe.storage.sink import DatasetSink

SIZE = 36_000
VARIANTS = ("list", "nothing changed", "hash", "content mode", "JSON", "state", "read", "full", "diff")
UPSERTS = ("write all", "upsert 1 of 10", "upsert 5 of 10", "upsert 10 of 10")
TABLE_FILES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", metavar=("VARIANT", "FILES", "ROWS"), nargs=3)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--only", choices=("detect", "upsert"))
    options = parse(parser, "--files 20 --rows 2000")
    if options.child:
        variant, files, count = options.child[0], int(options.child[1]), int(options.child[2])
        if variant in UPSERTS:
            upsert(variant, count)
        else:
            child(variant, small_files(files), tables(count))
        return
    sizes = (str(options.files), str(options.rows))
    variants = () if options.only == "upsert" else VARIANTS
    if variants:
        small_files(options.files)
        tables(options.rows)
    if options.only != "detect":
        table(options.rows)
        variants += UPSERTS
    found = measure(__file__, {v: (v, *sizes) for v in variants}, runs=options.runs)
    pairs = {"nothing changed": "list", "content mode": "hash", "state": "JSON", "diff": "full"} | dict.fromkeys(
        UPSERTS[1:], UPSERTS[0]
    )
    rows = [
        {
            "what": variant,
            "seconds": round(found[variant]["seconds"], 4),
            "peak MB": round(found[variant]["peak_mb"]),
            "against": pairs.get(variant, ""),
            "ratio": round(found[variant]["seconds"] / found[pairs.get(variant, variant)]["seconds"], 2),
        }
        for variant in variants
    ]
    note = f"{options.files} files of {SIZE} bytes; tables of {options.rows} rows; medians"
    publish("incremental" if options.only is None else f"incremental-{options.only}", rows, note=note)


def table(rows: int) -> Path:
    """Make a dataset of ten files of orders, one after the other by their ids, as ten upserts would leave it."""
    uri = DATA / f"upserted-{rows}"
    if not Dataset(str(uri)).latest():
        count = max(1, rows // TABLE_FILES)
        source = orders(TABLE_FILES, count)
        for number in range(TABLE_FILES):
            frame = pl.scan_parquet(source / f"orders-{number:03}.parquet")
            written = DatasetSink(str(uri), f"made{number}-001").write(frame)
            schema, now = frame.collect_schema(), datetime.now(UTC)
            Dataset(str(uri)).commit(written.files, schema, run=f"made{number}", time=now, mode="append")
    return uri


def upsert(variant: str, rows: int) -> None:
    """Change one key in each of some files of the table, or write all of it anew; nothing is kept of it."""
    dataset = Dataset(str(table(rows)))
    commit = dataset.read()
    each = rows // TABLE_FILES
    key, prefix = ["order_id"], f"bench{time.time_ns()}-001"
    held = 0 if variant == "write all" else int(variant.split()[1])
    new = dataset.scan(commit).filter(pl.col("order_id").is_in([n * each + each // 2 for n in range(held)]))
    new = new.with_columns(amount=pl.col("amount") + 1).collect()
    with Clock() as clock:
        if variant == "write all":
            sinks = [DatasetSink(dataset.uri, prefix)]
            sinks[0].write(dataset.scan(commit))
        else:
            there = files_with(dataset, commit, new.lazy(), key)
            old = rows_with(dataset, commit, there, new.lazy(), key).collect(engine="streaming")
            merged = merge_upsert(old, new, key)
            found = rewrite_without(dataset, replace(commit, files=there), merged.take.lazy(), key, prefix=f"{prefix}k")
            sinks = [DatasetSink(dataset.uri, f"{prefix}m")]
            sinks[0].write(merged.put.lazy())
            assert len(found.replaced) == merged.put.height == held
            sinks += found.sinks
    clock.report()
    for sink in sinks:
        sink.discard()


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
    if variant in ("nothing changed", "content mode", "JSON", "state"):
        before = Changes(now=listed()).consumed(listed=time.time_ns() + 10**10, hasher=hasher())
    names = [path for path, _, _ in bare(str(folder))] if variant == "hash" else []
    state = json.dumps(State({"a": before}).to_dict())
    with Clock() as clock:
        match variant:
            case "JSON":
                json.loads(state)
            case "state":
                State.from_dict(json.loads(state))
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
