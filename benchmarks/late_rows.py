"""What late rows cost: the same rows late and in order, and one late row after a history of some length.

    uv run python benchmarks/late_rows.py [--runs 5] [--rows 10000000] [--days 1 10 100]

Twenty deliveries of one file each are run one after the other, hourly windows of twenty groups being kept up to date. Three rows
in a hundred are of one of the five days before: they update windows that are there, or these are closed by then and the rows are put
aside. What that is compared with are the same rows, each delivered on its own day (those of the days before the first delivery with that
one), so that both make the same windows. Then one file with one row of the first day comes after histories of some days, of few groups and
of many; and, of many, one with 5,000 rows of the first day, or of all days.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
from common import DATA, TOY, Clock, measure, parse, publish

import lazypipe as lp

DELIVERIES = 2 if TOY else 20
FEW, MANY = 20, 50 if TOY else 1_000
"""Groups of windows."""
SPREAD = 5_000
FIRST = 10
"""The day of the first delivery: late rows are of the days before, too."""

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
    "in order": ("order", PLAIN, "in order"),
    "3 % late, updating": ("late", PLAIN, "in order"),
    "in order, watched": ("order", ASIDE, "in order, watched"),
    "3 % late, put aside": ("late", ASIDE, "in order, watched"),
}
"""Variants: which deliveries, what the pipeline says, and what it is compared with."""


def made(day: int, rows: int, late: int, sites: int = FEW) -> pl.LazyFrame:
    """Return the rows of one delivery."""
    number = pl.int_range(rows, eager=True).alias("n").to_frame().lazy()
    back = pl.when(pl.col("n").hash(3) % 100 < late).then(1 + pl.col("n").hash(4) % 5).otherwise(0)
    at = pl.lit(datetime(2024, 1, 1)) + pl.duration(
        days=day - back.cast(pl.Int64), microseconds=pl.col("n") * (86_400_000_000 // rows)
    )
    return number.select(
        at=at, site=(pl.col("n").hash(5) % sites).cast(pl.Int64), value=(pl.col("n").hash(6) % 1_000).cast(pl.Int64)
    )


def prepare(rows: int) -> Path:
    """Make the deliveries once, late and in order; return their folder."""
    folder = DATA / f"late-{rows}"
    if folder.exists():
        return folder
    draft = folder.with_suffix(".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    for name in ("late", "order"):
        (draft / name).mkdir(parents=True)
    for number in range(DELIVERIES):
        made(FIRST + number, rows // DELIVERIES, 3).sink_parquet(draft / "late" / f"{number:04}.parquet")
    for number in range(DELIVERIES):
        start, end = (pl.datetime(2024, 1, 1) + pl.duration(days=FIRST + number + more) for more in (0, 1))
        own = pl.col("at") < end if number == 0 else pl.col("at").is_between(start, end, closed="left")
        found = pl.scan_parquet(draft / "late" / "*.parquet").filter(own).sort("at")
        found.sink_parquet(draft / "order" / f"{number:04}.parquet")
    draft.rename(folder)
    return folder


def bring(root: Path, path: Path, number: int) -> None:
    """Deliver a file."""
    there = root / "in" / path.name
    there.parent.mkdir(exist_ok=True)
    shutil.copy(path, there)
    os.utime(there, (1_750_000_000 + number,) * 2)


def run(root: Path, settings: dict[str, str]) -> None:
    lp.Pipeline.from_yaml(DEFINITION.format(**settings), base=str(root)).compile().run().raise_for_status()


def shares(variant: str, rows: int) -> None:
    kind, settings, _ = SHARES[variant]
    root = Path(tempfile.mkdtemp())
    try:
        clock = Clock()
        seconds = cpu = 0.0
        for number, path in enumerate(sorted((prepare(rows) / kind).iterdir())):
            bring(root, path, number)
            with clock:
                run(root, settings)
            seconds, cpu = seconds + clock.seconds, cpu + clock.cpu
        clock.seconds, clock.cpu = seconds, cpu
        clock.report(windows=lp.scan(str(root / "out/hourly")).collect().height)
    finally:
        shutil.rmtree(root)


@dataclass(frozen=True)
class Comes:
    """Some ``rows`` of the first ``of`` days that come after a history of some ``days``, of as many ``sites``."""

    days: int
    sites: int = FEW
    rows: int = 1
    of: int = 1

    def __str__(self) -> str:
        which = (
            "one late row"
            if self.rows == 1
            else f"{self.rows:,} late rows of {'one day' if self.of == 1 else f'{self.of} days'}"
        )
        return f"{which} after {self.days} days" + (f", {self.sites:,} groups" if self.sites > FEW else "")

    @property
    def first(self) -> pl.DataFrame:
        """The rows."""
        number = pl.int_range(self.rows, eager=True).alias("n").to_frame()
        minute = pl.col("n").hash(7) % (self.of * 1_440) if self.rows > 1 else pl.lit(720)
        at = pl.lit(datetime(2024, 1, 1)) + pl.duration(minutes=minute.cast(pl.Int64))
        return number.select(
            at=at, site=(1 + pl.col("n").hash(8) % (self.sites - 1)).cast(pl.Int64), value=pl.lit(1, pl.Int64)
        )


def comes(what: Comes, rows: int) -> None:
    root = Path(tempfile.mkdtemp())
    # as many windows a day as there are groups in it are worth fewer rows each: this is about windows
    of_day = rows // DELIVERIES // (5 if what.sites > FEW else 1)
    try:
        for day in range(what.days):
            path = root / f"{day:04}.parquet"
            made(day, of_day, 0, what.sites).sink_parquet(path)
            bring(root, path, day)
            path.unlink()
        run(root, PLAIN)
        path = root / f"{what.days:04}.parquet"
        what.first.write_parquet(path)
        bring(root, path, what.days)
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
    parser.add_argument("--days", type=int, nargs="*", default=[1, 10, 100])
    options = parse(parser, "--rows 2000 --days 1 2")
    if options.child:
        variant, rows = options.child
        shares(variant, int(rows)) if variant in SHARES else comes(Comes(*json.loads(variant)), int(rows))
        return
    prepare(options.rows)
    first, last = options.days[0], options.days[-1]
    late = [Comes(days, sites) for sites in (FEW, MANY) for days in options.days]
    late += [Comes(last, MANY, SPREAD, of) for of in (1, last)]
    peers = {str(c): str(Comes(first, c.sites) if c.rows == 1 else Comes(last, MANY, SPREAD, 1)) for c in late}
    peers |= {v: peer for v, (_, _, peer) in SHARES.items()}
    asked = {v: v for v in SHARES} | {str(c): json.dumps(astuple(c)) for c in late}
    found = measure(__file__, {v: (of, str(options.rows)) for v, of in asked.items()}, runs=options.runs)
    rows = []
    for variant in asked:
        peer = peers[variant]
        rows.append(
            {
                "what": variant,
                "seconds": round(found[variant]["seconds"], 3),
                "cpu": round(found[variant]["cpu"], 3),
                "peak MB": round(found[variant]["peak_mb"]),
                "windows": round(found[variant]["windows"]),
                "time ratio": round(found[variant]["seconds"] / found[peer]["seconds"], 2),
                "cpu ratio": round(found[variant]["cpu"] / found[peer]["cpu"], 2),
            }
        )
    publish("late_rows", rows, note=f"{options.rows:,} rows in {DELIVERIES} deliveries; medians of interleaved runs")


if __name__ == "__main__":
    main()
