"""A table is rebuilt while its files are the same, and what reads it, in its pipeline and in others, holds its rows as they are now; or says that it does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TWICE = "output 'added': rows of 't' were recomputed, and would be added a second time{}; run once in full (--full), which rebuilds it, or use mode: upsert"


class World:
    """A pipeline ``one`` that writes a table ``t``, and another one that reads it."""

    def __init__(self, root: Path) -> None:
        self.root, self.hour = root, 0
        self.do: list[Any] = [{"derive": {"w": "v * 2"}}]
        self.gate: list[Any] = []
        self.how: dict[str, Any] = {}
        self.deliver(1, [(1, 1), (2, 2)])

    def deliver(self, number: int, rows: list[tuple[int, int]]) -> None:
        (self.root / "in").mkdir(exist_ok=True)
        at = [T0 + v * HOUR for _, v in rows]
        frame = pl.DataFrame(rows, schema=["id", "v"], orient="row").with_columns(at=pl.Series(at))
        frame.write_parquet(self.root / f"in/{number}.parquet")

    def run(self, data: dict[str, Any], **how: Any) -> dict[str, tuple[str, str]]:
        now = T0 + self.hour * HOUR
        result = lp.Pipeline.from_dict({"version": 1, **data}, base=str(self.root)).compile(now=now).run(now=now, **how)
        return {s.output: (s.status, str(s.error or s.why)) for s in result.segments if s.output is not None}

    def one(self, **how: Any) -> dict[str, tuple[str, str]]:
        groups = [{"aggregate": {"by": "id", "aggregate": {"v": "sum(v)", "w": "sum(w)"}}}]
        stages = {"m": {"from": "s"}, "t": {"from": "m", "do": self.do, "gate": self.gate}}
        stages |= {"copy": {"from": "t"}, "sums": {"from": "t", "do": groups}, "put": {"from": "t"}}
        outputs: dict[str, Any] = {n: {"to": f"out/{n}"} for n in ("m", "t", "copy", "sums")}
        outputs["put"] = {"to": "out/put", "mode": "upsert", "key": "id"}
        return self.run(
            {"name": "one", "sources": {"s": {"uri": "in/*.parquet"}}, "stages": stages, "outputs": outputs}, **how
        )

    def two(self, **how: Any) -> dict[str, tuple[str, str]]:
        modes: dict[str, dict[str, Any]] = {
            "mirror": {},
            "last": {"mode": "upsert", "key": "id"},
            "ordered": {"mode": "upsert", "key": "id", "order_by": "at"},
            "history": {"mode": "scd2", "key": "id", "event_time": "at"},
            "added": {"mode": "append"},
        }
        stages = {n: {"from": "t"} for n in modes}
        outputs = {n: {"to": f"out/{n}", **of} for n, of in modes.items()}
        source = {"uri": "out/t", **self.how}
        return self.run({"name": "two", "sources": {"t": source}, "stages": stages, "outputs": outputs}, **how)

    def rows(self, name: str) -> list[tuple[int, ...]]:
        return sorted(lp.scan(str(self.root / "out" / name)).select("id", "v", "w").collect().rows())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_rows_that_the_clock_lets_pass_go_on_to_whatever_reads_them(world: World) -> None:
    world.gate = [{"expression": {"condition": "at <= :now", "action": "quarantine"}}]
    for world.hour, want in ((1, [(1, 1, 2)]), (2, [(1, 1, 2), (2, 2, 4)])):
        assert {status for status, _ in world.one().values()} == {"done"} or world.hour == 2
        told = world.two()
        for name in ("t", "copy", "sums", "put", "mirror", "last", "ordered", "history"):
            assert world.rows(name) == want, name
    status, said = told["added"]
    assert (status, said.partition(": ")[2]) == ("error", TWICE.format(""))
    assert world.two(full=True, outputs=["added"])["added"][0] == "done"
    assert world.rows("added") == want


def test_a_few_files_at_a_time_suffice_where_each_run_rebuilds(world: World) -> None:
    world.gate = [{"expression": {"condition": "at <= :now", "action": "quarantine"}}]
    world.deliver(2, [(3, 3)])
    world.deliver(3, [(4, 4)])
    world.hour = 5
    for _ in range(6):
        world.one(max_files=1)
        world.two(max_files=1, outputs=["mirror", "last"])
    for name in ("t", "copy", "sums", "put", "mirror", "last"):
        assert [r[0] for r in world.rows(name)] == [1, 2, 3, 4], name


def test_what_a_clock_only_warns_of_changes_nothing_for_those_who_read(world: World) -> None:
    world.gate = [{"expression": {"condition": "at <= :now", "action": "warn"}}]
    for world.hour in (1, 2):
        world.deliver(world.hour, [(world.hour, 1)])
        told = world.one() | world.two()
    assert {status for status, _ in told.values()} == {"done"}
    assert world.rows("added") == world.rows("t")


@pytest.mark.parametrize("place", ["rule", "filter"])
def test_rows_that_another_definition_lets_pass_go_on_to_other_pipelines(world: World, place: str) -> None:
    def most(number: int) -> None:
        if place == "rule":
            world.gate = [{"between": {"column": "v", "max": number, "action": "quarantine"}}]
        else:
            world.do = [{"derive": {"w": "v * 2"}}, {"filter": f"v <= {number}"}]

    most(1)
    world.one()
    world.two()
    most(2)
    world.one()
    told = world.two()
    assert told["last"] == told["history"] == ("done", "t: rebuilt")
    for name in ("mirror", "last", "ordered", "history"):
        assert world.rows(name) == [(1, 1, 2), (2, 2, 4)], name
    assert told["added"] == ("error", f"{world.root}/out/added: {TWICE.format('')}")
    assert world.rows("added") == [(1, 1, 2)]
    world.two(full=True, outputs=["added"])
    assert world.rows("added") == [(1, 1, 2), (2, 2, 4)]
    assert {status for status, _ in world.two().values()} == {"unchanged"}


@pytest.mark.parametrize(("said", "want"), [("ignore", [(1, 1, 2)]), ("reprocess", [(1, 1, 2), (1, 1, 2), (2, 2, 4)])])
def test_a_source_says_what_becomes_of_rows_that_were_recomputed(
    world: World, said: str, want: list[tuple[int, ...]]
) -> None:
    world.how = {"on_modified": said}
    world.do = [{"derive": {"w": "v * 2"}}, {"filter": "v <= 1"}]
    world.one()
    world.two()
    world.do = world.do[:1]
    world.one()
    assert world.two()["added"][0] == ("unchanged" if said == "ignore" else "done")
    assert world.rows("added") == want
    assert world.rows("last") == [*dict.fromkeys(want)]


def test_values_that_another_definition_makes_take_the_place_of_those_before(world: World) -> None:
    world.one()
    world.two()
    world.do = [{"derive": {"w": "v * 3"}}]
    world.one()
    told = world.two()
    for name in ("mirror", "last", "ordered", "history"):
        assert world.rows(name) == [(1, 1, 3), (2, 2, 6)], name
    # rows were added as they were then
    assert told["added"][0] == "unchanged"
    assert world.rows("added") == [(1, 1, 2), (2, 2, 4)]


def test_a_column_that_is_new_adds_no_row_again(world: World) -> None:
    columns = {"id": "Int64", "v": "Int64", "w": "Int64", "at": "Datetime(us, UTC)"}
    world.how = {"contract": {"on_new_column": "discard_column", "columns": columns}}
    world.one()
    world.two()
    world.do = [*world.do, {"derive": {"more": "v"}}]
    world.one()
    world.deliver(3, [(3, 3)])
    world.one()
    assert world.two()["added"] == ("done", "t: 2 added, 1 ignored")
    assert world.rows("added") == [(1, 1, 2), (2, 2, 4), (3, 3, 6)]


def test_where_the_version_that_was_read_is_gone_any_row_may_be_another(world: World) -> None:
    world.one()
    world.two()
    world.do = [*world.do, {"filter": "v > 0"}]
    world.one()
    lp.vacuum(str(world.root / "out/t"), keep=1, older_than=timedelta(0))
    told = world.two()
    assert told["last"][1] == "t: rebuilt"
    assert told["added"] == ("error", f"{world.root}/out/added: {TWICE.format('')}")


@pytest.mark.parametrize("place", ["output", "source"])
def test_what_follows_a_quarantine_follows_the_rule(tmp_path: Path, place: str) -> None:
    world = World(tmp_path)
    uri = {"output": "out/t__quarantine", "source": ".lazypipe/quarantine/one/s"}[place]
    stages = {n: {"from": "q", "do": [{"select": ["id", "v"]}]} for n in ("copy", "put")}
    outputs = {"copy": {"to": "out/copy"}, "put": {"to": "out/put", "mode": "upsert", "key": "id"}}
    two = {"name": "two", "sources": {"q": {"uri": uri}}, "stages": stages, "outputs": outputs}
    for most, want in ((1, [2]), (0, [1, 2]), (1, [2])):
        gate = [{"between": {"column": "v", "max": most, "action": "quarantine"}}]
        sources = {"s": {"uri": "in/*.parquet", **({"gate": gate} if place == "source" else {})}}
        own = {"from": "s", **({"gate": gate} if place == "output" else {})}
        world.run({"name": "one", "sources": sources, "stages": {"t": own}, "outputs": {"t": {"to": "out/t"}}})
        world.run(two)
        assert sorted(lp.scan(str(tmp_path / "out/copy")).collect()["id"]) == want
    assert sorted(lp.scan(str(tmp_path / "out/put")).collect()["id"]) == [1, 2]


def test_keys_that_are_forgotten_go_from_what_follows_a_quarantine(tmp_path: Path) -> None:
    world = World(tmp_path)
    gate = [{"between": {"column": "v", "max": 0, "action": "quarantine"}}]
    sources: dict[str, Any] = {"s": {"uri": "in/*.parquet", "gate": gate}, "gone": {"uri": "gone/*.parquet"}}
    stages = {"all": {"from": "s"}, "put": {"from": "all"}, "copy": {"from": "all"}, "forget": {"from": "gone"}}
    outputs: dict[str, Any] = {"put": {"to": "out/put", "mode": "upsert", "key": "id"}, "copy": {"to": "out/copy"}}
    outputs["forget"] = {"to": "out/put", "mode": "delete", "key": "id"}
    one = {"name": "one", "sources": sources, "stages": stages, "outputs": outputs}
    two = {
        "name": "two",
        "sources": {"q": {"uri": ".lazypipe/quarantine/one/s"}},
        "stages": {"aside": {"from": "q"}},
        "outputs": {"aside": {"to": "out/aside"}},
    }
    (tmp_path / "gone").mkdir()
    for number, want in ((7, [1, 2]), (2, [1])):
        pl.DataFrame({"id": [number]}).write_parquet(tmp_path / f"gone/{number}.parquet")
        assert {status for status, _ in world.run(one).values()} <= {"done", "unchanged"}
        world.run(two)
        assert sorted(lp.scan(str(tmp_path / "out/aside")).collect()["id"]) == want


BESIDE = """
version: 1
name: beside
sources:
  orders: {uri: orders/*.parquet}
  readings: {uri: readings/*.parquet, event_time: at, watermark: {marker: done/%Y-%m-%dT%H.ok}}
stages:
  hourly: {from: readings, do: [{window: {time: at, every: 1h, emit: on_close, aggregate: {m: median(x)}}}]}
  made: {from: orders, do: [{join: {with: hourly, left_on: hour, right_on: window_start, how: left, columns: [m]}}]}
  copy: {from: made}
  put: {from: made}
outputs: {made: {to: out/made}, copy: {to: out/copy}, put: {to: out/put, mode: upsert, key: id}}
"""


@pytest.mark.parametrize("more", [False, True])
def test_windows_that_close_beside_rows_change_what_reads_them(tmp_path: Path, more: bool) -> None:
    for folder in ("orders", "readings", "done"):
        (tmp_path / folder).mkdir()
    times = [T0 + h * HOUR for h in range(9)]
    pl.DataFrame({"at": times, "x": range(9)}).write_parquet(tmp_path / "readings/0.parquet")
    pl.DataFrame({"id": range(3), "hour": times[1:4]}).write_parquet(tmp_path / "orders/0.parquet")
    pipe = lp.Pipeline.from_yaml(BESIDE, base=str(tmp_path))
    for hour, want in ((2, [1, None, None]), (4, [1, 2, 3])):
        (tmp_path / f"done/2024-01-01T{hour:02}.ok").touch()
        if more and hour == 4:
            pl.DataFrame({"id": [9], "hour": times[:1]}).write_parquet(tmp_path / "orders/9.parquet")
        pipe.compile().run().raise_for_status()
        for name in ("made", "copy", "put"):
            rows = lp.scan(str(tmp_path / "out" / name)).filter(pl.col("id") < 9).collect().sort("id")
            assert rows["m"].to_list() == want, name
