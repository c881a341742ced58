"""What windows cost over the same written by hand in Polars.

    uv run python benchmarks/windows.py [--runs 5] [--rows 10000000] [--keys 100000]

Hourly windows are held against ``group_by(truncate)``, sessions against sort, shift and cumulated sum, 24 hours that begin every hour
against each row exploded into its 24 windows, and an interval join against Polars' ``join_where``; in time and in peak memory.
Rows lie in Parquet, twenty groups have the windows, ``--keys`` the sessions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from common import DATA, Clock, measure, parse, publish

import lazypipe as lp

HOUR = timedelta(hours=1)
SUMS = {"n": "count(*)", "total": "sum(x)", "mean": "avg(x)"}
t, x = pl.col("t"), pl.col("x")
BY_HAND = {"n": pl.len(), "total": x.sum(), "mean": x.mean()}


def ours(rows: pl.LazyFrame, name: str, more: dict[str, object], **others: pl.LazyFrame) -> pl.LazyFrame:
    return lp.apply({name: {"time": "t", **more}}, rows, **others)


def hourly_by_hand(rows: pl.LazyFrame) -> pl.LazyFrame:
    windows = rows.group_by("g", t.dt.truncate("1h").alias("window_start")).agg(**BY_HAND)
    return windows.with_columns(window_end=pl.col("window_start") + HOUR)


def daily_by_hand(rows: pl.LazyFrame) -> pl.LazyFrame:
    local = t.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    windows = rows.group_by("g", local.dt.truncate("1d").alias("window_start")).agg(**BY_HAND)
    return windows.with_columns(window_end=pl.col("window_start").dt.offset_by("1d"))


def sessions_by_hand(rows: pl.LazyFrame) -> pl.LazyFrame:
    ordered = rows.sort("key", "t")
    begins = (pl.col("key") != pl.col("key").shift(1)).fill_null(value=True) | (t.diff() > timedelta(minutes=30))
    told = ordered.with_columns(number=begins.cum_sum())
    return told.group_by("key", "number").agg(session_start=t.min(), session_end=t.max(), **BY_HAND).drop("number")


def sliding_by_hand(rows: pl.LazyFrame) -> pl.LazyFrame:
    exploded = rows.with_columns(back=pl.int_ranges(0, 24)).explode("back")
    start = t.dt.truncate("1h") - pl.duration(hours="back")
    windows = exploded.group_by("g", start.alias("window_start")).agg(**BY_HAND)
    return windows.with_columns(window_end=pl.col("window_start") + 24 * HOUR)


def near_by_hand(rows: pl.LazyFrame) -> pl.LazyFrame:
    here, there = near(rows)
    there = there.rename({"key": "other", "t": "u"})
    within = (pl.col("u") >= t - timedelta(minutes=5), pl.col("u") <= t)
    return here.join_where(there, pl.col("key") == pl.col("other"), *within)


def near(rows: pl.LazyFrame) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    there = rows.filter(pl.col("x") % 4 == 0).select("key", "t", y="x")
    return rows.select("key", "t", "x"), there


def near_ours(rows: pl.LazyFrame) -> pl.LazyFrame:
    here, there = near(rows)
    return ours(here, "interval_join", {"with": "r", "within": ["-5m", "0m"], "by": "key"}, r=there)


HOURLY = {"every": "1h", "by": "g", "aggregate": SUMS}
VARIANTS: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "hourly, by hand": hourly_by_hand,
    "hourly": lambda rows: ours(rows, "window", HOURLY),
    "hourly and daily": lambda rows: ours(rows, "window", {**HOURLY, "every": ["1h", "1d"]}),
    "days in a zone, by hand": daily_by_hand,
    "days in a zone": lambda rows: ours(
        rows.with_columns(t.dt.replace_time_zone("UTC")),
        "window",
        {**HOURLY, "every": "1d", "time_zone": "Europe/Berlin"},
    ),
    "sessions, by hand": sessions_by_hand,
    "sessions": lambda rows: ours(rows, "session", {"gap": "30m", "by": "key", "aggregate": SUMS}),
    "24 h every hour, exploded": sliding_by_hand,
    "24 h every hour": lambda rows: ours(rows, "window", {**HOURLY, "period": "24h"}),
    "near, by hand": near_by_hand,
    "near": near_ours,
}
AGAINST = {
    "hourly": "hourly, by hand",
    "hourly and daily": "hourly, by hand",
    "days in a zone": "days in a zone, by hand",
    "sessions": "sessions, by hand",
    "24 h every hour": "24 h every hour, exploded",
    "near": "near, by hand",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", metavar=("VARIANT", "ROWS", "KEYS"), nargs=3)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    options = parse(parser, "--rows 2000 --keys 20")
    if options.child:
        variant, rows, keys = options.child
        child(variant, events(int(rows), int(keys)))
        return
    events(options.rows, options.keys)
    sizes = (str(options.rows), str(options.keys))
    found = measure(__file__, {v: (v, *sizes) for v in VARIANTS}, runs=options.runs)
    rows = []
    for variant in VARIANTS:
        peer = found[AGAINST.get(variant, variant)]
        here = found[variant]
        rows.append(
            {
                "what": variant,
                "rows out": round(here["height"]),
                "seconds": round(here["seconds"], 3),
                "peak MB": round(here["peak_mb"]),
                "against": AGAINST.get(variant, ""),
                "time ratio": round(here["seconds"] / peer["seconds"], 2),
                "memory ratio": round(here["peak_mb"] / peer["peak_mb"], 2),
            }
        )
        assert variant == "hourly and daily" or here["height"] == peer["height"], variant
    publish(
        "windows", rows, note=f"{options.rows:,} rows of a month, {options.keys:,} keys; medians of interleaved runs"
    )


def events(rows: int, keys: int) -> Path:
    """Make (once) a file of events of one month, about in the order of their times."""
    path = DATA / f"events-{rows}-{keys}.parquet"
    if not path.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        order = pl.int_range(rows, eager=True).alias("n")
        month = 30 * 86_400_000_000
        late = pl.col("n").hash(1) % 600_000_000
        pl.DataFrame(order).lazy().select(
            t=(pl.lit(datetime(2024, 3, 10)) + pl.duration(microseconds=pl.col("n") * (month // rows) + late)),
            key=pl.col("n").hash(2) % keys,
            g=pl.col("n").hash(3) % 20,
            x=(pl.col("n").hash(4) % 1_000).cast(pl.Int64),
        ).sink_parquet(path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)
    return path


def child(variant: str, path: Path) -> None:
    rows = pl.scan_parquet(path)
    lowered = VARIANTS[variant](rows)
    with Clock() as clock:
        height = lowered.collect(engine="streaming").height
    clock.report(height=height)


if __name__ == "__main__":
    main()
