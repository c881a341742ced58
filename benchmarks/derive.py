"""What one more file costs, against the same job without what is derived from its plan.

    uv run python benchmarks/derive.py [--runs 3] [--files 50] [--rows 500000]

- ``late windows``: hourly windows of a year, a file with a few late rows more; against a run in full.
- ``ranks``: the rank of each event within its day and place, with the same few late rows; against a run in full.
- ``shared``: two outputs of one text source, a file more; against a run in full, and against two pipelines that each read it.
- ``dimension``: orders with their customers, of whom one changes: one that few files hold, or one that half of them do; against a run in full.
- ``both``: the same, with customers who have ordered nothing too (a full join).
- ``flights``: the example pipeline, its third month more; against all three in full.

Each variant is prepared anew, in a process of its own; only the last run is measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from common import Clock, example, measure, parse, publish

import lazypipe as lp

YEAR = 365 * 24 * 3600
VARIANTS = (
    *("late", "late full", "ranks", "ranks full", "shared", "shared full", "apart", "flights", "flights full"),
    *("few", "many", "customers full", "few csv", "many csv", "customers csv full", "both", "both full"),
)
AGAINST = {"late": "late full", "ranks": "ranks full", "shared": "apart", "flights": "flights full"}
AGAINST |= {"few": "customers full", "many": "customers full", "both": "both full"}
AGAINST |= {"few csv": "customers csv full", "many csv": "customers csv full"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", metavar=("VARIANT", "FILES", "ROWS"), nargs=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--files", type=int, default=50)
    parser.add_argument("--rows", type=int, default=500_000)
    options = parse(parser, "--files 3 --rows 3000")
    if options.child:
        variant, files, rows = options.child
        with tempfile.TemporaryDirectory() as folder:
            child(variant, Path(folder), int(files), int(rows))
        return
    found = measure(__file__, {v: (v, str(options.files), str(options.rows)) for v in VARIANTS}, runs=options.runs)
    rows = [
        {
            "what": variant,
            "seconds": round(found[variant]["seconds"], 3),
            "peak MB": round(found[variant]["peak_mb"]),
            "against": AGAINST.get(variant, ""),
            "ratio": round(found[variant]["seconds"] / found[AGAINST.get(variant, variant)]["seconds"], 2),
        }
        for variant in VARIANTS
    ]
    publish("derive", rows, note=f"{options.rows} rows in {options.files} files; medians")


def child(variant: str, folder: Path, files: int, rows: int) -> None:
    what, *how = variant.split(" ")
    full = "full" in how
    clock = Clock()
    if what == "flights":
        example(folder / "example")
        last = folder / "example/data/flights-2013-03.csv.gz"
        shutil.move(last, folder)
        jobs = [lp.load(folder / "example/flights.yaml")]
        run(jobs)
        shutil.move(folder / last.name, last)
    elif what in ("late", "ranks"):
        events(folder, files, rows, late=False)
        jobs = [lp.Pipeline.from_dict(HOURLY if what == "late" else RANKS, base=str(folder))]
        run(jobs)
        events(folder, 1, rows // 1_000, late=True)
    elif what in ("few", "many", "customers", "both"):
        fmt = "csv" if "csv" in how else "parquet"
        text = json.dumps(CUSTOMERS).replace("FORMAT", fmt)
        text = text.replace('"how": "left"', '"how": "full"') if what == "both" else text
        jobs = [lp.Pipeline.from_dict(json.loads(text), base=str(folder))]
        bought(folder, files, rows, fmt)
        run(jobs)
        customers(folder, rows, moved=3 if what == "many" else rows // 20 - 1)
    else:
        orders(folder, range(files), rows // files)
        jobs = [lp.Pipeline.from_dict(d, base=str(folder)) for d in (apart() if what == "apart" else [SHARED])]
        run(jobs)
        orders(folder, range(files, files + 1), rows // files)
    with clock:
        run(jobs, full=full)
    clock.report()


def run(jobs: list[lp.Pipeline], **more: Any) -> None:
    for job in jobs:
        job.compile().run(**more).raise_for_status()


HOURLY: dict[str, Any] = {
    "version": 1,
    "name": "hourly",
    "sources": {"events": {"uri": "in/*.parquet"}},
    "stages": {
        "hourly": {
            "from": "events",
            "do": [
                {"derive": {"hour": "date_trunc('hour', at)"}},
                {"aggregate": {"by": ["hour", "place"], "aggregate": {"n": "count(*)", "mean": "avg(value)"}}},
            ],
        }
    },
    "outputs": {"hourly": {"to": "out/hourly"}},
}
RANKS: dict[str, Any] = {
    **HOURLY,
    "name": "ranks",
    "stages": {
        "ranks": {
            "from": "events",
            "do": [
                {"derive": {"day": "date_trunc('day', at)"}},
                {"rank": {"as": "place_of_day", "order_by": "value DESC", "by": ["day", "place"]}},
            ],
        }
    },
    "outputs": {"ranks": {"to": "out/ranks"}},
}
SHARED: dict[str, Any] = {
    "version": 1,
    "name": "shared",
    "sources": {"orders": {"uri": "in/*.csv", "gate": [{"not_null": "id"}]}},
    "stages": {
        "large": {"from": "orders", "do": [{"filter": "amount > 500"}]},
        "sums": {"from": "orders", "do": [{"aggregate": {"by": "place", "aggregate": {"total": "sum(amount)"}}}]},
    },
    "outputs": {"large": {"to": "out/large"}, "sums": {"to": "out/sums"}},
}


CUSTOMERS: dict[str, Any] = {
    "version": 1,
    "name": "customers",
    "sources": {"orders": {"uri": "in/*.FORMAT"}, "customers": {"uri": "customers.parquet"}},
    "stages": {
        "known": {"from": "customers", "do": [{"filter": "city IS NOT NULL"}]},
        "sold": {"from": "orders", "do": [{"join": {"with": "known", "on": "customer", "how": "left"}}]},
    },
    "outputs": {"sold": {"to": "out/sold"}},
}


def apart() -> list[dict[str, Any]]:
    """Return the same as two pipelines, each of which reads the source by itself."""
    return [
        {**SHARED, "name": name, "outputs": {name: {"to": f"out/{name}"}}, "stages": {name: SHARED["stages"][name]}}
        for name in SHARED["stages"]
    ]


def events(folder: Path, files: int, rows: int, *, late: bool) -> None:
    """Write events of a year, each file of a part of it; late ones are of one day."""
    start = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=100 * late)
    span = (24 * 3600 if late else YEAR) // files
    (folder / "in").mkdir(exist_ok=True)
    for number in range(files):
        second = number * span + drawn(number, span)
        at = (pl.lit(start) + pl.duration(seconds=second)).alias("at")
        frame = pl.select(n=pl.int_range(rows // files)).select(
            at, drawn(7, 20).alias("place"), (drawn(9, 1_000_000) / 1e6).alias("value")
        )
        frame.sort("at").write_parquet(folder / "in" / f"{'late' if late else 'part'}-{number:05}.parquet")


def bought(folder: Path, files: int, rows: int, fmt: str) -> None:
    """Write orders whose customers change with time, but for one who orders in every other file."""
    (folder / "in").mkdir(exist_ok=True)
    count, many = rows // files, rows // 20
    customers(folder, rows, moved=-1)
    for number in range(files):
        span = max(many // files, 1)
        late = pl.lit(many - 1 - number * span) - drawn(number, span)
        always = pl.lit(3) if number % 2 else late
        frame = pl.select(n=pl.int_range(count)).select(
            (pl.col("n") + number * count).alias("id"),
            pl.when(pl.col("n") % 1_000 == 0).then(always).otherwise(late).alias("customer"),
            *(drawn(seed, 1_000).alias(f"amount_{seed}") for seed in range(5)),
        )
        path = folder / "in" / f"{number:05}.{fmt}"
        frame.write_csv(path) if fmt == "csv" else frame.write_parquet(path)


def customers(folder: Path, rows: int, *, moved: int) -> None:
    """Write the customers, one for every twenty orders, one of whom has moved."""
    frame = pl.select(customer=pl.int_range(rows // 20)).with_columns(
        city=pl.when(customer=moved).then(pl.lit("elsewhere")).otherwise(pl.col("customer").hash(5).cast(pl.String))
    )
    frame.write_parquet(folder / "customers.parquet")


def orders(folder: Path, numbers: range, count: int) -> None:
    (folder / "in").mkdir(exist_ok=True)
    for number in numbers:
        frame = pl.select(n=pl.int_range(count)).select(
            (pl.col("n") + number * count).alias("id"),
            drawn(number, 50).alias("place"),
            drawn(number + 1_000, 1_000).alias("amount"),
        )
        frame.write_csv(folder / "in" / f"{number:05}.csv")


def drawn(seed: int, below: int) -> pl.Expr:
    """Return whole numbers below a bound, the same at each run."""
    return (pl.col("n").hash(seed) % below).cast(pl.Int64)


if __name__ == "__main__":
    main()
