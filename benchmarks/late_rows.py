"""What late rows cost: deliveries that have some against the same without, and one late row after a history of some length.

    uv run python benchmarks/late_rows.py [--runs 5] [--rows 10000000] [--days 1 10 100]

Twenty deliveries of one file each are run one after the other, hourly windows of twenty groups being kept up to date. In the one
case all rows are of their own day; in the others three in a hundred are of one of the five days before, which they update, or which
are closed by then, so that they are put aside. Then one file with one row of the first day comes after histories of some days.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

import polars as pl
from common import TOY, Clock, measure, parse, publish

import lazypipe as lp

DELIVERIES = 2 if TOY else 20
DEFINITION = """
version: 1
name: late
audit: "off"
sources:
  readings:
    uri: in/*.parquet
    event_time: at
    {watermark}
    contract: {{columns: {{at: "Datetime(us)", site: Int64, value: Int64}}}}
stages:
  hourly:
    from: readings
    do:
      - window: {{time: at, every: 1h, by: site, {late}aggregate: {{n: count(*), total: sum(value), mean: avg(value)}}}}
outputs:
  hourly: {{to: out/hourly}}
"""
ASIDE = {"watermark": "watermark: {delay: 1h}", "late": "late: quarantine, "}
PLAIN = {"watermark": "", "late": ""}
SHARES = {
    "none late": (0, PLAIN),
    "3 % late, updating": (3, PLAIN),
    "3 % late, put aside": (3, ASIDE),
    "none late, watched": (0, ASIDE),
}


def deliver(root: Path, day: int, rows: int, late: int) -> None:
    number = pl.int_range(rows, eager=True).alias("n").to_frame().lazy()
    back = pl.when(pl.col("n").hash(3) % 100 < late).then(1 + pl.col("n").hash(4) % 5).otherwise(0)
    at = pl.lit(datetime(2024, 1, 1)) + pl.duration(
        days=day - back.cast(pl.Int64), microseconds=pl.col("n") * (86_400_000_000 // rows)
    )
    path = root / "in" / f"{day:04}.parquet"
    path.parent.mkdir(exist_ok=True)
    number.select(
        at=at, site=(pl.col("n").hash(5) % 20).cast(pl.Int64), value=(pl.col("n").hash(6) % 1_000).cast(pl.Int64)
    ).sink_parquet(path)
    os.utime(path, (1_750_000_000 + day,) * 2)


def run(root: Path, settings: dict[str, str]) -> None:
    lp.Pipeline.from_yaml(DEFINITION.format(**settings), base=str(root)).compile().run().raise_for_status()


def shares(variant: str, rows: int) -> None:
    late, settings = SHARES[variant]
    root = Path(tempfile.mkdtemp())
    try:
        clock = Clock()
        seconds = cpu = 0.0
        for day in range(DELIVERIES):
            deliver(root, 10 + day, rows // DELIVERIES, late)
            with clock:
                run(root, settings)
            seconds, cpu = seconds + clock.seconds, cpu + clock.cpu
        clock.seconds, clock.cpu = seconds, cpu
        clock.report(windows=lp.scan(str(root / "out/hourly")).collect().height)
    finally:
        shutil.rmtree(root)


def one(days: int, rows: int) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        for day in range(days):
            deliver(root, day, rows // DELIVERIES, 0)
        run(root, PLAIN)
        deliver(root, days, 1, 0)
        path = root / "in" / f"{days:04}.parquet"
        pl.DataFrame({"at": [datetime(2024, 1, 1, 12)], "site": [1], "value": [1]}).write_parquet(path)
        with Clock() as clock:
            run(root, PLAIN)
        clock.report(windows=lp.scan(str(root / "out/hourly")).collect().height)
    finally:
        shutil.rmtree(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", metavar=("VARIANT", "ROWS"), nargs=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, nargs="+", default=[1, 10, 100])
    options = parse(parser, "--rows 2000 --days 1 2")
    if options.child:
        variant, rows = options.child
        shares(variant, int(rows)) if variant in SHARES else one(int(variant), int(rows))
        return
    variants = [*SHARES, *map(str, options.days)]
    found = measure(__file__, {v: (v, str(options.rows)) for v in variants}, runs=options.runs)
    rows = []
    for variant in variants:
        peer = "none late" if variant in SHARES else str(options.days[0])
        rows.append(
            {
                "what": variant if variant in SHARES else f"one late row after {variant} days",
                "seconds": round(found[variant]["seconds"], 3),
                "peak MB": round(found[variant]["peak_mb"]),
                "windows": round(found[variant]["windows"]),
                "time ratio": round(found[variant]["seconds"] / found[peer]["seconds"], 2),
            }
        )
    publish("late_rows", rows, note=f"{options.rows:,} rows in {DELIVERIES} deliveries; medians of interleaved runs")


if __name__ == "__main__":
    main()
