"""The main job on real data: its results equal the same job written by hand in Polars and, independently, in DuckDB."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import lazypipe as lp

KEY = ["time_hour", "carrier", "flight", "origin", "dest"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A copy of ``pipelines/`` in which the job has run."""
    folder = tmp_path_factory.mktemp("flights")
    source = request.config.rootpath / "pipelines"
    shutil.copytree(source / "data", folder / "data")
    shutil.copy(source / "flights.yaml", folder)
    result = lp.load(folder / "flights.yaml").compile().run(run="r1", now=datetime(2026, 1, 1, tzinfo=UTC))
    result.raise_for_status()
    assert result.status == "done"
    assert result.commits == {"flown": 1, "hourly": 1}
    return folder


def by_polars(data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    flights, airports, planes, weather = (
        pl.read_csv(data / name, try_parse_dates=True, infer_schema_length=None)
        for name in ("flights-2013-*.csv.gz", "airports.csv", "planes.csv", "weather.csv.gz")
    )
    weather = weather.filter(pl.col("temp").is_not_null())
    flown = (
        flights.filter(pl.col("dep_time").is_not_null(), pl.col("origin").is_in(["JFK", "LGA", "EWR"]))
        .with_columns(speed_mph=pl.col("distance") / (pl.col("air_time") / 60))
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
    hourly = (
        flown.group_by("origin", hour=pl.col("time_hour").dt.truncate("1h"))
        .agg(
            departures=pl.len().cast(pl.Int64),
            seats=pl.col("seats").sum(),
            mean_delay=pl.col("dep_delay").mean(),
            worst_delay=pl.col("dep_delay").max(),
            mean_temp=pl.col("temp").mean(),
        )
        .with_columns(seats=pl.when(pl.col("seats") == 0).then(None).otherwise("seats"))
        .sort("origin", "hour")
    )
    return flown, hourly


def test_equals_polars_by_hand(home: Path) -> None:
    flown, hourly = by_polars(home / "data")
    assert_frame_equal(
        lp.scan(str(home / "out/flown")).collect(), flown, check_row_order=False, check_column_order=False
    )
    assert_frame_equal(lp.scan(str(home / "out/hourly")).collect(), hourly, check_row_order=True)


def test_equals_duckdb(home: Path) -> None:
    data = home / "data"
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    for name, pattern in (
        ("flights", "flights-2013-*.csv.gz"),
        ("airports", "airports.csv"),
        ("planes", "planes.csv"),
        ("weather", "weather.csv.gz"),
    ):
        db.execute(f"CREATE TABLE {name} AS SELECT * FROM read_csv('{data / pattern}', sample_size = -1, nullstr = '')")
    db.execute("""
        CREATE TABLE flown AS
        SELECT f.*, f.distance / (f.air_time / 60.0) AS speed_mph, a.name AS dest_name, p.manufacturer, p.seats, p.year AS built, r.temp
        FROM flights f
        LEFT JOIN airports a ON f.dest = a.faa
        LEFT JOIN planes p USING (tailnum)
        LEFT JOIN weather r ON r.temp IS NOT NULL AND r.origin = f.origin AND r.time_hour = f.time_hour
        WHERE f.dep_time IS NOT NULL AND coalesce(f.distance / (f.air_time / 60.0) BETWEEN 100 AND 600, true)
    """)
    columns = [*KEY, "speed_mph", "dest_name", "manufacturer", "seats", "built", "temp"]
    expected = db.sql(f"SELECT {', '.join(columns)} FROM flown").pl()
    found = lp.scan(str(home / "out/flown")).select(columns).collect()
    assert_frame_equal(found, expected, check_row_order=False, check_dtypes=False)
    expected = db.sql("""
        SELECT origin, date_trunc('hour', time_hour) AS hour, count(*) AS departures, sum(seats)::BIGINT AS seats,
               avg(dep_delay) AS mean_delay, max(dep_delay) AS worst_delay, avg(temp) AS mean_temp
        FROM flown GROUP BY ALL ORDER BY ALL
    """).pl()
    assert_frame_equal(lp.scan(str(home / "out/hourly")).collect(), expected, check_dtypes=False)


def test_what_was_put_aside(home: Path) -> None:
    """Nothing is lost: what is not in the output is in quarantine, with its reason."""
    record = json.loads((home / ".lazypipe/runs/r1.json").read_text())
    gates = {g["node"]: g for s in record["segments"] for g in s["gates"]}
    assert gates["flights"]["rows"] == gates["flights"]["good"] == 80_789
    weather = lp.scan(str(home / ".lazypipe/quarantine/flights/weather")).collect()
    assert weather.height == gates["weather"]["quarantined"] > 0
    assert weather["_lazypipe_rules"].to_list() == [["not_null:temp"]] * weather.height
    assert set(weather["_lazypipe_run"]) == {"r1"}
    assert set(weather["_lazypipe_file"]) == {str(home / "data/weather.csv.gz")}
    slow = lp.scan(str(home / "out/flown__quarantine")).collect()
    assert slow.height == gates["flown"]["quarantined"] > 0
    assert not slow["speed_mph"].is_between(100, 600).any()
    assert gates["flown"]["rows"] == gates["flown"]["good"] + slow.height
    assert lp.scan(str(home / "out/flown")).select(pl.len()).collect().item() == gates["flown"]["good"]


def test_plain_polars_reads_the_folders_after_vacuum(home: Path) -> None:
    lp.vacuum(lp.load(home / "flights.yaml"))
    plain = pl.scan_parquet(home / "out/flown").collect()
    # rows know the file that they were made of, which lp.scan does not show
    assert plain["_lazypipe_unit"].n_unique() == 3
    assert_frame_equal(
        plain.drop("_lazypipe_unit"),
        lp.scan(str(home / "out/flown")).collect(),
        check_row_order=False,
        check_column_order=False,
    )


def test_a_parameter_moves_the_start(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "data", tmp_path / "data")
    shutil.copy(home / "flights.yaml", tmp_path)
    command = [
        sys.executable,
        "-m",
        "lazypipe",
        "run",
        str(tmp_path / "flights.yaml"),
        "--json",
        "--param",
        "since=2013-03-01T00:00:00+00:00",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["params"]["since"].startswith("2013-03-01")
    assert lp.scan(str(tmp_path / "out/flown")).select(pl.col("time_hour").min()).collect().item() >= datetime(
        2013, 3, 1, tzinfo=UTC
    )


def test_the_plan_streams(home: Path) -> None:
    """No step of the main job falls back to the in-memory engine."""
    plan = lp.load(home / "flights.yaml").compile()
    for stage in ("flown", "hourly"):
        assert "[in-memory engine]" not in plan.explain(stage, "physical")
