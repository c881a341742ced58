"""The examples in ``pipelines/``: all of them run, feed each other, and give what DuckDB makes of the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import lazypipe as lp
from lazypipe.__main__ import main

MONTHS = ("2013-01", "2013-03", "2013-02")
"""The months as they are delivered here: February is late."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A copy of ``pipelines/`` in which all examples have run after each month's delivery."""
    source, folder = request.config.rootpath / "pipelines", tmp_path_factory.mktemp("examples")
    shutil.copytree(
        source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("out", ".lazypipe", "flights-2013-*")
    )
    for month in MONTHS:
        shutil.copy(source / "data" / f"flights-{month}.csv.gz", folder / "data")
        assert main(["run", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def db(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """What flights.yaml publishes, and the raw files, as tables."""
    with duckdb.connect() as made:
        made.execute("SET TimeZone = 'UTC'")
        for name, pattern in (("flights", "flights-2013-*.csv.gz"), ("weather", "weather.csv.gz")):
            files = f"'{home / 'data' / pattern}', sample_size = -1, nullstr = ''"
            made.execute(f"CREATE TABLE {name} AS SELECT * FROM read_csv({files})")
        flown = lp.scan(home / "out/flown").collect()
        made.register("published", flown)
        made.execute("CREATE TABLE flown AS SELECT * FROM published")
        yield made


def same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Compare rows in any order."""
    assert_frame_equal(found.select(expected.columns), expected, check_row_order=False, check_dtypes=False)


def test_every_definition_is_right_and_has_been_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(home)]) == 0
    for path in home.glob("*.yaml"):
        for output in lp.load(path).compile().outputs.values():
            assert os.path.exists(output.to)
    capsys.readouterr()
    assert main(["run", str(home)]) == 0
    told = capsys.readouterr().err
    assert told.count("unchanged in") == 4
    assert "done in" not in told


@pytest.mark.parametrize(("window", "unit"), [("1d", "day"), ("1w", "week"), ("1mo", "month")])
def test_airlines_by_day_week_and_month_in_new_york(
    home: Path, db: duckdb.DuckDBPyConnection, window: str, unit: str
) -> None:
    found = lp.scan(home / "out/airlines").filter(pl.col("window") == window).collect()
    expected = db.sql(f"""
        SELECT carrier, date_trunc('{unit}', time_hour AT TIME ZONE 'America/New_York') AS window_start, count(*) AS flights,
               avg((dep_delay <= 15)::int) AS punctual, avg(dep_delay) AS mean_delay
        FROM flown GROUP BY ALL
    """).pl()
    same(found.with_columns(pl.col("window_start").dt.replace_time_zone(None)), expected)


def test_airports_over_seven_days(home: Path, db: duckdb.DuckDBPyConnection) -> None:
    found = lp.scan(home / "out/airports").collect()
    expected = db.sql("""
        WITH days AS (SELECT *, date_trunc('day', time_hour AT TIME ZONE 'America/New_York') AS local, unnest(range(7)) AS back FROM flown)
        SELECT origin, local - to_days(back::int) AS window_start, count(*) AS flights, avg((dep_delay <= 15)::int) AS punctual
        FROM days GROUP BY ALL
    """).pl()
    same(found.with_columns(pl.col("window_start").dt.replace_time_zone(None)), expected)


def test_the_worst_routes_in_order(home: Path, db: duckdb.DuckDBPyConnection) -> None:
    found = pl.read_csv(home / "out/worst-routes.csv")
    expected = db.sql("""
        SELECT origin, dest, max(dest_name) AS airport, count(*) AS flights, round(avg(dep_delay), 1) AS mean_delay
        FROM flown GROUP BY origin, dest HAVING count(*) >= 30 ORDER BY mean_delay DESC, origin, dest LIMIT 20
    """).pl()
    assert_frame_equal(found, expected, check_dtypes=False)


def test_where_each_plane_was_last_and_who_flew_it(home: Path, db: duckdb.DuckDBPyConnection) -> None:
    seen = "FROM flights WHERE dep_time IS NOT NULL AND tailnum IS NOT NULL"
    expected = db.sql(f"""
        SELECT tailnum, time_hour, dep_time, carrier, flight, origin, dest {seen}
        AND regexp_matches(tailnum, '^N?[0-9]+[A-Z]*$') IS TRUE
        QUALIFY row_number() OVER (PARTITION BY tailnum ORDER BY time_hour DESC, dep_time DESC) = 1
    """).pl()
    same(lp.scan(home / "out/last_seen").collect(), expected)
    expected = db.sql(f"""
        WITH starts AS (
            SELECT tailnum, carrier, time_hour AS valid_from {seen}
            QUALIFY carrier IS DISTINCT FROM lag(carrier) OVER (PARTITION BY tailnum ORDER BY time_hour))
        SELECT *, lead(valid_from) OVER (PARTITION BY tailnum ORDER BY valid_from) AS valid_to, valid_to IS NULL AS is_current FROM starts
    """).pl()
    same(lp.scan(home / "out/operated").collect(), expected)


def test_the_feed_of_changes_leads_to_what_is_there(home: Path) -> None:
    feed = lp.scan(home / "out/last_seen__changes").collect()
    assert feed.filter(pl.col("_version") == 1)["_change"].unique().to_list() == ["insert"]
    left = feed.filter(pl.col("_change") != "update_before").sort("_version").unique("tailnum", keep="last")
    same(left, lp.scan(home / "out/last_seen").collect())


def test_weather_is_mended_and_rain_is_summed(home: Path, db: duckdb.DuckDBPyConnection) -> None:
    db.execute("""
        CREATE OR REPLACE TABLE mended AS
        SELECT origin, time_hour, coalesce(temp, lag(temp) OVER (PARTITION BY origin ORDER BY time_hour)) AS temp, precip,
               CASE WHEN wind_speed BETWEEN 0 AND 80 THEN wind_speed END AS wind_speed, pressure
        FROM weather
    """)
    same(lp.scan(home / "out/weather").collect(), db.sql("FROM mended").pl())
    assert db.sql("SELECT count(*) FROM weather WHERE wind_speed > 80 OR temp IS NULL").fetchall() == [(2,)]
    expected = db.sql("""
        WITH rain AS (
            SELECT f.*, (SELECT sum(precip) FROM mended m WHERE m.origin = f.origin
                         AND m.time_hour BETWEEN f.time_hour - INTERVAL 3 HOUR AND f.time_hour) > 0.1 AS wet
            FROM flown f)
        SELECT origin, wet, count(*) AS flights, avg(dep_delay) AS mean_delay FROM rain GROUP BY ALL ORDER BY ALL
    """).pl()
    assert_frame_equal(pl.read_csv(home / "out/rain.csv"), expected, check_dtypes=False)


def test_the_pipeline_in_python(home: Path, db: duckdb.DuckDBPyConnection) -> None:
    ended = subprocess.run([sys.executable, str(home / "routes.py")], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("<RunResult ")
    expected = db.sql("""
        SELECT origin, dest, count(*) AS flights, avg((arr_delay > 15)::int) AS late
        FROM flown WHERE arr_delay IS NOT NULL GROUP BY ALL HAVING flights >= 100
    """).pl()
    same(lp.scan(home / "out/routes").collect(), expected)
