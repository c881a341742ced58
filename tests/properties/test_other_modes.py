"""An output that is written in another way than before, in full: it is what it would be if it had been written so from the start, and goes on so."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.properties.scale import at_scale

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"id": pl.Int64, "part": pl.String, "t": pl.Int64, "x": pl.Int64})
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", None]), st.integers(0, 2)), min_size=1, max_size=4
)
MODES: dict[str, dict[str, Any]] = {
    "replace": {"mode": "replace"},
    "append": {"mode": "append"},
    "upsert": {"mode": "upsert", "key": "id", "order_by": "t"},
    "scd2": {"mode": "scd2", "key": "id", "event_time": "at"},
    "snapshot": {"mode": "snapshot"},
    "partitions": {"mode": "replace_partitions", "partition_by": "part"},
}
STEP = st.tuples(
    st.sampled_from([*MODES]), st.booleans(), st.booleans(), st.lists(ROWS, max_size=2), st.booleans(), st.booleans()
)
AT = [{"derive": {"at": "t * 3600000000 + 1700000000000000"}}, {"cast": {"at": "Datetime(us)"}}]


class World:
    def __init__(self, base: Path) -> None:
        self.base, self.runs, self.order = base, 0, 0
        self.rows: list[tuple[Any, ...]] = []
        (base / "in").mkdir()

    def deliver(self, rows: list[Any]) -> None:
        made = [(i, part, self.order + n, x) for n, (i, part, x) in enumerate(rows)]
        self.order += len(rows)
        self.rows += made
        pl.DataFrame(made, schema=SCHEMA, orient="row").write_parquet(self.base / f"in/{self.order:04}.parquet")

    def run(self, output: dict[str, Any], **how: Any) -> lp.RunResult:
        self.runs += 1
        data = {
            "version": 1,
            "name": "p",
            "sources": {"s": {"uri": "in/*.parquet"}},
            "stages": {
                "o": {"from": "s", "do": AT, "gate": [{"between": {"column": "x", "max": 1, "action": "quarantine"}}]}
            },
            "outputs": {"o": {"to": "out/o", **output}},
        }
        return (
            lp.Pipeline.from_dict(data, base=str(self.base))
            .compile()
            .run(now=START + timedelta(hours=self.runs), **how)
        )

    def held(self) -> Counter[Any]:
        return Counter(lp.scan(str(self.base / "out/o")).collect().select(*SCHEMA).rows())

    def wanted(self, mode: str) -> Counter[Any]:
        good = [r for r in self.rows if r[3] <= 1]
        match mode:
            case "upsert":
                return Counter({r[0]: r for r in good}.values())
            case "scd2":
                said = [
                    [r for _, [r, *_] in ((k, [*g]) for k, g in groupby(rows, key=lambda r: r[2]))]
                    for rows in self.by_key(good)
                ]
                return Counter(r for rows in said for r in rows)
            case _:
                return Counter(good)

    def by_key(self, rows: list[Any]) -> list[list[Any]]:
        return [[r for r in rows if r[0] == key] for key in {r[0] for r in rows}]


@given(
    first=st.tuples(st.sampled_from([*MODES]), ROWS), steps=st.lists(STEP, min_size=1, max_size=4), scale=st.booleans()
)
@settings(max_examples=settings().max_examples // 5)
def test_another_mode(first: tuple[str, list[Any]], steps: list[Any], scale: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(scale):
        world = World(Path(folder))
        world.deliver([(9, "a", 0)])
        world.deliver(first[1])
        mode = first[0]
        world.run(MODES[mode]).raise_for_status()
        assert world.held() == world.wanted(mode)
        for other, changes, partitioned, files, goes_on, cares in steps:
            output = dict(MODES[other])
            # a feed of rows goes on for rows with that key
            if changes and other == "upsert" and not (world.base / "out/o__changes.commits").exists():
                output["changes"] = True
            if partitioned and other != "partitions":
                output["partition_by"] = "part"
            for rows in files:
                world.deliver(rows)
            before = world.held()
            if other != mode:
                try:
                    result = world.run(output)
                    error = result.segments[-1].error
                except lp.LazypipeError as found:
                    error = found
                assert "full" in str(error), (mode, other)
                assert world.held() == before
            if cares:
                lp.optimize.compact(str(world.base / "out/o"), dead=0.0)
            if other in ("snapshot", "partitions") and other == mode:
                continue
            result = world.run(output, full=True)
            if mode == "snapshot" and other != mode:
                assert "earlier snapshots are no longer known" in str(result.segments[-1].error)
                assert world.held() == before
                continue
            if other == "partitions" and mode != other and result.status == "error":
                assert "in its partitions; write to another place" in str(result.segments[-1].error)
                continue
            result.raise_for_status()
            assert world.held() == world.wanted(other), (mode, other)
            mode = other
            if goes_on and other not in ("snapshot", "partitions"):
                world.deliver([(1, "b", 0), (2, "a", 2), (11, None, 1)])
                world.run(output).raise_for_status()
                assert world.held() == world.wanted(other)
            assert world.run(output).segments[-1].status in (
                "unchanged",
                "done" if other == "snapshot" else "unchanged",
            )
            if output.get("changes"):
                feed = lp.scan(str(world.base / "out/o__changes")).collect()
                signs = feed["_change"].replace_strict(
                    {"insert": 1, "update_after": 1, "delete": -1, "update_before": -1}
                )
                net: Counter[Any] = Counter()
                for row, sign in zip(feed.select(*SCHEMA).rows(), signs, strict=True):
                    net[row] += sign
                assert +net == world.held()
                assert not -net
