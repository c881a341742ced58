"""Event time on real data: what each airport saw per hour and day, when planes flew, and the weather before a flight; as DuckDB has it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import lazypipe as lp

PIPELINE = """
version: 1
name: windows
sources:
  flights:
    uri: data/flights-*.csv.gz
    event_time: time_hour
    contract: {columns: {dep_time: Int64, arr_time: Int64, tailnum: String, time_hour: "Datetime(us, UTC)"}}
  weather: {uri: data/weather.csv.gz, contract: {columns: {time_hour: "Datetime(us, UTC)"}}}
stages:
  flown: {from: flights, do: [{filter: dep_time IS NOT NULL}]}
  hourly:
    from: flown
    do:
      - window: {time: time_hour, every: 1h, by: [origin], aggregate: {departures: count(*), mean_delay: avg(dep_delay)}}
  at_home:
    from: flown
    do:
      - window: {time: time_hour, every: [1d, 1mo], time_zone: America/New_York, by: origin, aggregate: {departures: count(*)}}
  day_before:
    from: flown
    do:
      - window: {time: time_hour, every: 1h, period: 24h, by: origin, aggregate: {departures: count(*), worst: max(dep_delay)}}
  busy:
    from: flown
    do:
      - filter: tailnum IS NOT NULL
      - session: {time: time_hour, gap: 6h, by: tailnum, aggregate: {flights: count(*), miles: sum(distance)}}
  rained_on:
    from: flown
    do:
      - select: [time_hour, origin, carrier, flight]
      - interval_join: {with: weather, time: time_hour, within: [-2h, 0h], by: origin, how: left, columns: {precip: precip}}
      - aggregate: {by: [time_hour, origin, carrier, flight], aggregate: {rain: max(precip), hours: count(precip)}}
outputs:
  flown: {to: out/flown}
  hourly: {to: out/hourly, key: [origin, window_start]}
  at_home: {to: out/at_home}
  day_before: {to: out/day_before}
  busy: {to: out/busy}
  rained_on: {to: out/rained_on}
"""

QUERIES = {
    "hourly": """
        SELECT origin, date_trunc('hour', time_hour) AS s, date_trunc('hour', time_hour) + INTERVAL 1 HOUR, count(*), avg(dep_delay)
        FROM flown GROUP BY ALL""",
    "at_home": """
        SELECT origin, '1d', timezone('America/New_York', d), timezone('America/New_York', d + INTERVAL 1 DAY), n
        FROM (SELECT origin, date_trunc('day', timezone('America/New_York', time_hour)) AS d, count(*) AS n FROM flown GROUP BY ALL)
        UNION ALL
        SELECT origin, '1mo', timezone('America/New_York', d), timezone('America/New_York', d + INTERVAL 1 MONTH), n
        FROM (SELECT origin, date_trunc('month', timezone('America/New_York', time_hour)) AS d, count(*) AS n FROM flown GROUP BY ALL)""",
    "day_before": """
        SELECT origin, s, s + INTERVAL 24 HOUR, count(*), max(dep_delay)
        FROM flown, (SELECT unnest(generate_series(min(time_hour) - INTERVAL 24 HOUR, max(time_hour), INTERVAL 1 HOUR)) AS s FROM flown)
        WHERE time_hour >= s AND time_hour < s + INTERVAL 24 HOUR GROUP BY ALL""",
    "busy": """
        SELECT tailnum, min(time_hour), max(time_hour), count(*), sum(distance)::BIGINT FROM (
            SELECT *, count(*) FILTER (WHERE begins) OVER (PARTITION BY tailnum ORDER BY time_hour RANGE UNBOUNDED PRECEDING) AS n FROM (
                SELECT *, coalesce(time_hour - lag(time_hour) OVER (PARTITION BY tailnum ORDER BY time_hour) > INTERVAL 6 HOUR, true) AS begins
                FROM flown WHERE tailnum IS NOT NULL))
        GROUP BY tailnum, n""",
    "rained_on": """
        SELECT f.time_hour, f.origin, carrier, flight, max(w.precip), count(w.precip)
        FROM flown f LEFT JOIN weather w ON f.origin = w.origin
        AND w.time_hour BETWEEN f.time_hour - INTERVAL 2 HOUR AND f.time_hour GROUP BY ALL""",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    shutil.copytree(request.config.rootpath / "pipelines/data", tmp_path / "data")
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return tmp_path


def test_deliveries_of_months_give_what_duckdb_says_of_all(home: Path) -> None:
    months = sorted((home / "data").glob("flights-*"))
    for path in months[1:]:
        path.rename(path.with_suffix(".later"))
    plan = lp.load(home / "p.yaml").compile()
    said = plan.explain_incremental()
    assert said.count("reads new and changed files of flown, with partial aggregates") == 4, said
    assert (
        "rained_on: reads new and changed files of flown and files whose rows change with weather, with partial aggregates"
        in said
    )
    for path in months:
        if not path.exists():
            path.with_suffix(".later").rename(path)
            os.utime(path, (1_700_000_000, 1_700_000_000))
        plan = lp.load(home / "p.yaml").compile()
        plan.run().raise_for_status()

    db = duckdb.connect()
    db.execute("SET threads = 1")
    db.execute("SET TimeZone = 'UTC'")
    files = home / "data/flights-*.csv.gz"
    db.execute(f"CREATE TABLE flights AS SELECT * FROM read_csv('{files}', sample_size = -1, nullstr = '')")
    db.execute(
        f"CREATE TABLE weather AS SELECT * FROM read_csv('{home / 'data/weather.csv.gz'}', sample_size = -1, nullstr = '')"
    )
    db.execute("CREATE TABLE flown AS SELECT * FROM flights WHERE dep_time IS NOT NULL")
    for name, query in QUERIES.items():
        found = lp.scan(str(home / f"out/{name}")).collect()
        zoned = [c for c, t in found.schema.items() if isinstance(t, pl.Datetime)]
        found = found.with_columns(pl.col(zoned).dt.convert_time_zone("UTC"))
        expected = db.sql(query).pl()
        expected.columns = found.columns
        assert expected.height > 100, name
        assert_frame_equal(found, expected, check_row_order=False, check_dtypes=False)
