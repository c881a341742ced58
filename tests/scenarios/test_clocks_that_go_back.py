"""Times of runs date what no column dates: versions and snapshots. Where the clock went back, they go on right after those before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

import lazypipe as lp

NOON = datetime(2024, 6, 2, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def at(hour: int) -> datetime:
    return NOON.replace(hour=hour)


def run(folder: Path, rows: dict[int, int], now: datetime, **output: Any) -> None:
    pl.DataFrame({"id": [*rows], "v": [*rows.values()]}, schema={"id": pl.Int64, "v": pl.Int64}).write_parquet(
        folder / "s.parquet"
    )
    pipe = lp.pipeline("p", base=str(folder), audit="off").source("s", "s.parquet", detect="content")
    pipe.output("s", "out", **output).build().compile(now=now).run(now=now).raise_for_status()


def versions(folder: Path) -> list[tuple[Any, ...]]:
    rows = lp.scan(str(folder / "out")).select("id", "v", "valid_from", "valid_to", "is_current").collect()
    return sorted(rows.rows())


def test_what_is_so_now_is_current_though_the_clock_went_back(tmp_path: Path) -> None:
    scd2 = {"mode": "scd2", "key": "id", "deletes": "close"}
    run(tmp_path, {1: 1, 2: 1}, NOON, **scd2)
    run(tmp_path, {1: 2, 2: 1}, at(11), **scd2)
    first, second = (1, 1, NOON, NOON + TICK, False), (1, 2, NOON + TICK, None, True)
    assert versions(tmp_path) == [first, second, (2, 1, NOON, None, True)]
    lp.optimize.compact(str(tmp_path / "out"), dead=0.0)
    run(tmp_path, {1: 2}, at(10), **scd2)
    assert versions(tmp_path) == [first, second, (2, 1, NOON, NOON + 2 * TICK, False)]
    run(tmp_path, {1: 3}, at(13), **scd2)
    assert versions(tmp_path) == [
        first,
        (1, 2, NOON + TICK, at(13), False),
        (1, 3, at(13), None, True),
        (2, 1, NOON, NOON + 2 * TICK, False),
    ]


def test_snapshots_of_one_time_are_two(tmp_path: Path) -> None:
    for value, now in ((1, NOON), (2, NOON), (3, at(9))):
        run(tmp_path, {1: value}, now, mode="snapshot", keep=2)
    rows = lp.scan(str(tmp_path / "out")).select("v", "snapshot_at").collect().sort("v").rows()
    assert rows == [(2, NOON + TICK), (3, NOON + 2 * TICK)]


def test_a_feed_of_changes_tells_versions_in_their_order_and_history_is_made_of_it(tmp_path: Path) -> None:
    out = {"mode": "upsert", "key": "id", "changes": True}
    history = lp.pipeline("history", base=str(tmp_path)).source("feed", "out__changes")
    history = history.stage(
        "kept",
        "feed",
        [
            {"filter": "_change <> 'update_before'"},
            {"select": {"id": "id", "v": "v", "_time": "_time", "gone": "_change = 'delete'"}},
        ],
    )
    history = history.output("kept", "history", mode="scd2", key="id", event_time="_time", deleted_when="gone")
    states = [({1: 1}, NOON), ({1: 2}, at(11)), ({1: 3}, at(13)), ({1: 4}, at(13)), ({1: 4, 2: 0}, at(9))]
    moments = [NOON, NOON + TICK, at(13), at(13) + TICK, at(13) + 2 * TICK]
    for rows, now in states:
        run(tmp_path, rows, now, **out)
        history.build().compile(now=now).run(now=now).raise_for_status()
    feed = lp.scan(str(tmp_path / "out__changes")).select("_version", "_time").unique().sort("_version").collect()
    assert feed.rows() == [*enumerate(moments, start=1)]
    told = lp.scan(str(tmp_path / "history")).select("id", "v", "valid_from", "valid_to").collect()
    assert sorted(told.rows()) == [
        *((1, v + 1, moments[v], moments[v + 1]) for v in range(3)),
        (1, 4, moments[3], None),
        (2, 0, moments[4], None),
    ]
    # a feed goes on behind its own rewriting
    lp.optimize.compact(str(tmp_path / "out__changes"))
    run(tmp_path, {1: 5}, at(8), **out)
    times = lp.scan(str(tmp_path / "out__changes")).filter(pl.col("_version") == 6).select("_time").unique().collect()
    assert times["_time"].to_list() == [at(13) + 3 * TICK]
