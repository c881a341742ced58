"""Flights come month by month; after each delivery the outputs hold what DuckDB makes of all files."""

from __future__ import annotations

import gzip
import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset

DEFINITION = """
version: 1
name: monthly
sources:
  flights:
    uri: in/flights-*.csv.gz
    contract:
      columns: {dep_time: Int64, arr_time: Int64, tailnum: String, air_time: Int64, time_hour: "Datetime(us, UTC)"}
      on_new_column: ignore
  airports: {uri: in/airports.csv}
stages:
  flown:
    from: flights
    do:
      - filter: dep_time IS NOT NULL
      - derive: {speed: distance / (air_time / 60.0::double)}
      - join: {with: airports, left_on: dest, right_on: faa, how: left, validate: "m:1", columns: {name: dest_name}}
    gate: [{between: {column: speed, min: 150, max: 550, action: quarantine}}]
  daily:
    from: flown
    do:
      - aggregate: {by: [origin, month, day], aggregate: {n: count(*), worst: max(dep_delay), far: sum(distance)}}
outputs:
  flown: {to: out/flown, partition_by: origin}
  daily: {to: out/daily}
"""
ROWS = """
    SELECT origin, month, day, carrier, flight, dep_delay, distance, a.name AS dest_name, distance / (air_time / 60.0) AS speed
    FROM read_csv('{root}/in/flights-*.csv.gz', nullstr='', sample_size=-1) f
    LEFT JOIN read_csv('{root}/in/airports.csv', sample_size=-1) a ON f.dest = a.faa
    WHERE dep_time IS NOT NULL
"""
GOOD = "(speed IS NULL OR speed BETWEEN 150 AND 550)"


def deliver(root: Path, data: Path, name: str) -> Path:
    (root / "in").mkdir(exist_ok=True)
    return Path(shutil.copy2(data / name, root / "in" / name))


def run(root: Path, definition: str = DEFINITION, **more: Any) -> dict[str, tuple[str, str]]:
    result = lp.Pipeline.from_yaml(definition, base=str(root)).compile().run(**more)
    result.raise_for_status()
    return {s.name: (s.status, s.why or "") for s in result.segments}


def held(root: Path, **which: Any) -> tuple[Any, ...]:
    """What the versions hold, in figures that any lost or doubled row changes."""
    flown = lp.scan(str(root / "out/flown"), **which).collect()
    return (
        flown.height,
        flown["distance"].sum(),
        flown["dep_delay"].sum(),
        flown["flight"].sum(),
        sorted(flown["dest_name"].drop_nulls().value_counts().rows()),
    )


def assert_equals_duckdb(root: Path) -> None:
    rows = ROWS.format(root=root)
    db = duckdb.connect()
    db.execute(f"CREATE TABLE t AS {rows}")
    n, far, late, flights = db.execute(
        f"SELECT count(*), sum(distance), sum(dep_delay), sum(flight) FROM t WHERE {GOOD}"
    ).fetchall()[0]
    names = db.execute(
        f"SELECT dest_name, count(*) FROM t WHERE {GOOD} AND dest_name IS NOT NULL GROUP BY 1"
    ).fetchall()
    assert held(root) == (n, far, late, flights, sorted(names))
    aside = lp.scan(str(root / "out/flown__quarantine")).collect()
    ((expected,),) = db.execute(f"SELECT count(*) FROM t WHERE NOT {GOOD}").fetchall()
    assert aside.height == expected
    daily = lp.scan(str(root / "out/daily")).collect().select("origin", "month", "day", "n", "worst", "far")
    query = f"SELECT origin, month, day, count(*), max(dep_delay), sum(distance) FROM t WHERE {GOOD} GROUP BY ALL"
    assert sorted(daily.rows()) == sorted(db.execute(query).fetchall())


@pytest.fixture
def data(root: Path) -> Path:
    return root / "pipelines" / "data"


def test_months_come_change_and_go(tmp_path: Path, data: Path) -> None:
    deliver(tmp_path, data, "airports.csv")
    versions = []
    for month in (1, 2, 3):
        deliver(tmp_path, data, f"flights-2013-{month:02}.csv.gz")
        told = run(tmp_path)
        assert month == 1 or told["flown"][1].startswith("flights: 1 added"), told
        assert_equals_duckdb(tmp_path)
        versions.append(held(tmp_path))
    assert {status for status, _ in run(tmp_path).values()} == {"unchanged"}

    # other spaces and a comment: the same plan
    assert {s for s, _ in run(tmp_path, DEFINITION.replace("name: monthly", "name:   monthly  # said")).values()} == {
        "unchanged"
    }
    # a file under another stamp costs its hash, and nothing else
    os.utime(tmp_path / "in" / "flights-2013-01.csv.gz", (1, 1))
    status, why = run(tmp_path)["flown"]
    assert status == "unchanged"
    assert "1 touched" in why

    # a month is corrected
    second = tmp_path / "in" / "flights-2013-02.csv.gz"
    lines = gzip.decompress(second.read_bytes()).splitlines(keepends=True)
    second.write_bytes(gzip.compress(b"".join(lines[:5_000])))
    run(tmp_path)
    assert_equals_duckdb(tmp_path)
    versions.append(held(tmp_path))

    # a month is taken back: most rows of its file are dead, or it is gone
    (tmp_path / "in" / "flights-2013-01.csv.gz").unlink()
    told = run(tmp_path)
    assert "1 removed" in told["flown"][1]
    assert_equals_duckdb(tmp_path)
    versions.append(held(tmp_path))

    # the dimension changes
    airports = tmp_path / "in" / "airports.csv"
    airports.write_text(airports.read_text().replace("Miami Intl", "Miami"))
    assert "airports: 1 modified (1 shorter)" in run(tmp_path)["flown"][1]
    assert_equals_duckdb(tmp_path)
    versions.append(held(tmp_path))

    for version, then in enumerate(versions, start=1):
        assert held(tmp_path, version=version) == then
    assert run(tmp_path, full=True)["flown"] == ("done", "full rebuild requested")
    assert held(tmp_path) == versions[-1]

    lp.vacuum(str(tmp_path / "out/flown"), keep=1, older_than=timedelta(0))
    lp.vacuum(str(tmp_path / "out/daily"), keep=1, older_than=timedelta(0))
    assert_equals_duckdb(tmp_path)
    for name in ("out/flown", "out/daily"):
        dataset = Dataset(str(tmp_path / name))
        found = {str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*.parquet")}
        assert found == {f.path for f in dataset.read().files}
        assert {p.name for p in Path(dataset.figures).rglob("*.parquet")} == {f.path for f in dataset.read().figures}
    deliver(tmp_path, data, "flights-2013-01.csv.gz")
    run(tmp_path)
    assert_equals_duckdb(tmp_path)

    changed = DEFINITION.replace("max(dep_delay)", "min(dep_delay)")
    told = run(tmp_path, changed)
    assert told["flown"][0] == "unchanged"
    assert told["daily"][1].startswith("the definition changed: ")


def test_flights_come_month_by_month(tmp_path: Path, data: Path) -> None:
    """The example with rules about keys on its source: a month more reads that month, and equals a run of all months."""
    kept, anew = tmp_path / "kept", tmp_path / "anew"
    definition = (data.parent / "flights.yaml").read_text()
    for name in ("airports.csv", "planes.csv", "weather.csv.gz"):
        for root in (kept, anew):
            (root / "data").mkdir(parents=True, exist_ok=True)
            shutil.copy2(data / name, root / "data" / name)
    third = pl.read_csv(gzip.decompress((data / "flights-2013-03.csv.gz").read_bytes()), infer_schema=False)
    at = pl.col("time_hour").str.to_datetime(time_zone="UTC").dt.offset_by("31d").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    april = gzip.compress(third.with_columns(at, month=pl.lit("4")).write_csv().encode(), mtime=0)
    told: dict[str, tuple[str, str]] = {}
    for month in (1, 2, 3, 4):
        name = f"flights-2013-{month:02}.csv.gz"
        content = april if month == 4 else (data / name).read_bytes()
        for root in (kept, anew):
            (root / "data" / name).write_bytes(content)
            os.utime(root / "data" / name, (1_400_000_000 + month, 1_400_000_000 + month))
        if month == 4:
            # what was read before is not read again: from its middle on it cannot be read any more
            before = kept / "data/flights-2013-02.csv.gz"
            whole = before.read_bytes()
            before.write_bytes(whole[: len(whole) // 2] + b"x" * (len(whole) - len(whole) // 2))
            os.utime(before, (1_400_000_002, 1_400_000_002))
        told = run(kept, definition)
        assert month == 1 or told["flown"] == ("done", f"flights: 1 added, {month - 1} unchanged")
    run(anew, definition)
    for name in ("flown", "hourly", "flown__quarantine"):
        one, other = (lp.scan(str(root / "out" / name)).collect() for root in (kept, anew))
        left_out = ["_lazypipe_run", "_lazypipe_file"]
        assert_frame_equal(one.drop(left_out, strict=False), other.drop(left_out, strict=False), check_row_order=False)
    # a flight of April that stands in January too
    january = gzip.decompress((data / "flights-2013-01.csv.gz").read_bytes()).splitlines()
    again = kept / "data/flights-2013-05.csv.gz"
    again.write_bytes(gzip.compress(b"\n".join([january[0], january[7]])))
    with pytest.raises(lp.GateError, match=r"unique:time_hour,carrier,flight,origin,dest: 2 of"):
        run(kept, definition)
