"""What lazypipe costs over the same job written by hand in Polars: pipelines/flights.yaml.

    uv run python benchmarks/flights.py [--runs 9] [--times 1 4]

The floor is the query alone, written by hand with every type known: the same files read, the same rows written, nothing
checked, nothing that makes a run safe. The other peer also makes the same checks. ``--times`` repeats the flights, so that the fixed cost of a run
can be told from what grows with the data.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from common import Clock, example, measure, parse, publish

import lazypipe as lp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("VARIANT", "TIMES"))
    parser.add_argument("--times", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--runs", type=int, default=9)
    options = parse(parser, "--times 2")
    if options.child:
        child(options.child[0], int(options.child[1]))
        return
    rows = []
    for times in options.times:
        found = measure(__file__, {n: (n, str(times)) for n in VARIANTS}, runs=options.runs)
        hand = found["query by hand"]["seconds"]
        rows += [
            {
                "flights": f"{80_789 * times:,}",
                "variant": name,
                "seconds": round(r["seconds"], 4),
                "of the query": round(r["seconds"] / hand, 3),
                "peak MB": round(r["peak_mb"]),
            }
            for name, r in found.items()
        ]
    publish("flights", rows, note="compile and run, without the start of Python; medians of interleaved runs")


def child(variant: str, times: int) -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "example"
        example(folder)
        for file in sorted((folder / "data").glob("flights-*")):
            for copy in range(1, times):
                stem, dot, rest = file.name.partition(".")
                shutil.copy(file, file.with_name(f"{stem}-{copy}{dot}{rest}"))
        text = (folder / "flights.yaml").read_text()
        if times > 1:
            # the same flights several times over: their key is no key then
            text = text.replace(
                "      - unique: {columns: [time_hour, carrier, flight, origin, dest], action: fail}\n", ""
            )
            text = text.replace("max: 100}", "max: 10000}")
        (folder / "flights.yaml").write_text(text)
        SCHEMAS.update(schemas(folder / "data"))
        with Clock() as clock:
            VARIANTS[variant](folder, times)
        clock.report()


SCHEMAS: dict[str, pl.Schema] = {}
"""What the files hold: known to whoever writes the query by hand, and so not in its time."""


def schemas(data: Path) -> dict[str, pl.Schema]:
    patterns = ("flights-*.csv.gz", "airports.csv", "planes.csv", "weather.csv.gz")
    found = {p: next(iter(sorted(data.glob(p)))) for p in patterns}
    return {
        p: pl.scan_csv(f, try_parse_dates=True, infer_schema_length=10_000).collect_schema() for p, f in found.items()
    }


def by_lazypipe(folder: Path, _: int) -> None:
    lp.load(folder / "flights.yaml").compile().run().raise_for_status()


def streaming(folder: Path, _: int) -> None:
    """The query alone: files in, the two results out, filters in place of gates, nothing checked or counted."""
    flights, airports, planes, weather = _scans(folder)
    flown = _flown(flights, airports, planes, weather)
    flown.sink_parquet(pl.PartitionBy(folder / "out/flown", key="origin", include_key=False), mkdir=True)
    _hourly(pl.scan_parquet(folder / "out/flown")).sink_parquet(folder / "out/hourly.parquet")


def checked(folder: Path, times: int) -> None:
    """The query and the same checks, with the flights held in memory so that they are parsed once."""
    flights, airports, planes, weather = _scans(folder)
    key = ["time_hour", "carrier", "flight", "origin", "dest"]
    required = ["carrier", "flight", "origin", "dest", "time_hour"]
    flights = flights.collect(engine="streaming").lazy()
    checks = [
        pl.col(required).is_null().sum(),
        (~pl.col("origin").is_in(["JFK", "LGA", "EWR"])).sum().alias("bad_origin"),
    ]
    keys = [pl.struct(key).n_unique().alias("keys")] if times == 1 else []
    flights.select(*checks, *keys).collect(engine="streaming")
    for table, columns in ((airports, ["faa"]), (planes, ["tailnum"]), (weather, ["origin", "time_hour"])):
        table.select(pl.struct(columns).n_unique(), pl.len().alias("n")).collect(engine="streaming")
    flown = _flown(flights, airports, planes, weather)
    out = folder / "out"
    flown.sink_parquet(pl.PartitionBy(out / "flown", key="origin", include_key=False), mkdir=True)
    written = pl.scan_parquet(out / "flown")
    written.select((pl.col("dep_delay") <= -120).sum().alias("delay"), *keys).collect(engine="streaming")
    _hourly(written).sink_parquet(out / "hourly.parquet")
    pl.scan_parquet(out / "hourly.parquet").select(
        pl.struct("origin", "hour").n_unique(), pl.col("departures").is_between(1, 100).sum().alias("sane"), pl.len()
    ).collect(engine="streaming")


VARIANTS = {"query by hand": streaming, "query and checks by hand": checked, "lazypipe": by_lazypipe}


def _scans(folder: Path) -> list[pl.LazyFrame]:
    return [pl.scan_csv(folder / "data" / p, schema=s) for p, s in SCHEMAS.items()]


def _flown(flights: pl.LazyFrame, airports: pl.LazyFrame, planes: pl.LazyFrame, weather: pl.LazyFrame) -> pl.LazyFrame:
    weather = weather.filter(pl.col("temp").is_not_null())
    return (
        flights.filter(
            pl.col("dep_time").is_not_null(),
            pl.col("time_hour") >= datetime(2013, 1, 1, tzinfo=UTC),
            pl.col("origin").is_in(["JFK", "LGA", "EWR"]),
        )
        .with_columns(speed_mph=pl.col("distance") / (pl.col("air_time") / 60.0))
        .join(
            airports.select("faa", dest_name="name", dest_lat="lat", dest_lon="lon"),
            left_on="dest",
            right_on="faa",
            how="left",
        )
        .join(planes.select("tailnum", "manufacturer", "seats", built="year"), on="tailnum", how="left")
        .join(
            weather.select("origin", "time_hour", "temp", "wind_speed", "precip", "visib"),
            on=["origin", "time_hour"],
            how="left",
        )
        .filter(pl.col("speed_mph").is_between(100, 600).fill_null(True))
    )


def _hourly(flown: pl.LazyFrame) -> pl.LazyFrame:
    return (
        flown.group_by("origin", pl.col("time_hour").dt.truncate("1h").alias("hour"))
        .agg(
            departures=pl.len(),
            seats=pl.col("seats").sum(),
            mean_delay=pl.col("dep_delay").mean(),
            worst_delay=pl.col("dep_delay").max(),
            mean_temp=pl.col("temp").mean(),
        )
        .sort("origin", "hour")
    )


if __name__ == "__main__":
    main()
