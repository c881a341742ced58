"""Streams: when batches begin, what they take, when they are tried again, and when they end; on a clock of the test's own."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import threading
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import polars as pl
import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError

import lazypipe as lp
from lazypipe.errors import CommitConflict, RunError, SourceError, StorageError
from lazypipe.incremental import leaves
from lazypipe.run import stream as streams
from lazypipe.run.retry import is_transient

BASE: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "sources": {"a": {"uri": "in/*.csv", "contract": {"columns": {"x": "Int64", "k": "String"}}}},
    "stages": {
        "b": {"from": "a", "do": [{"filter": "x >= 0"}]},
        "c": {"from": "b", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}]},
    },
    "outputs": {"b": {"to": "out/b"}, "c": {"to": "out/c"}},
}
ONE: dict[str, Any] = {**BASE, "stages": {"b": BASE["stages"]["b"]}, "outputs": {"b": {"to": "out/b"}}}


class Site:
    """A folder, and a clock that moves when the stream sleeps; then what was told to happen by that time happens."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.sleeps: list[float] = []
        self.plans: dict[int, Callable[[], object]] = {}
        self.stream: lp.Stream | None = None
        (base / "in").mkdir()

    def put(self, name: str, *rows: int, k: str = "a") -> Path:
        path = self.base / "in" / f"{name}.csv"
        staged = path.with_name(f".{name}")
        pl.DataFrame({"x": list(rows), "k": [k] * len(rows)}, schema={"x": pl.Int64, "k": pl.String}).write_csv(staged)
        os.utime(staged, (1_700_000_000 + len(self.sleeps), 1_700_000_000 + len(self.sleeps)))
        return staged.rename(path)

    def then(self, sleep: int, happens: Callable[[], object]) -> None:
        """Let something happen in a sleep; what is not told is that the stream is stopped in the last of them."""
        self.plans[sleep] = happens

    def sleep(self, seconds: float) -> None:
        assert self.stream is not None
        self.sleeps.append(seconds)
        self.now += timedelta(seconds=seconds)
        self.plans.pop(len(self.sleeps), lambda: None)()
        if not self.plans:
            self.stream.stop()

    def pipe(self, data: dict[str, Any] = BASE) -> lp.Pipeline:
        return lp.Pipeline.from_dict(data, base=str(self.base))

    def start(self, data: dict[str, Any] = BASE, **more: Any) -> lp.Stream:
        more = {"clock": lambda: self.now, "sleep": self.sleep, "rng": random.Random(1), **more}
        self.stream = lp.stream(self.pipe(data), **more)
        return self.stream

    def run(self, data: dict[str, Any] = BASE, **more: Any) -> list[lp.RunResult]:
        return list(self.start(data, **more))

    def held(self, name: str = "b", column: str = "x") -> list[Any]:
        return sorted(lp.scan(str(self.base / "out" / name)).collect()[column].to_list())

    def written(self) -> set[str]:
        """All files of outputs, records and ledger."""
        roots = [self.base / "out", self.base / ".lazypipe"]
        return {f"{p}:{p.stat().st_mtime_ns}" for r in roots for p in r.rglob("*") if p.is_file()}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def why(result: lp.RunResult) -> list[str]:
    return [f"{s.name} {s.status}: {s.why}" for s in result.segments]


# what batches take


def test_batches_as_files_come_and_nothing_in_between(site: Site) -> None:
    seen: list[set[str]] = []
    site.then(2, lambda: [site.put("1", 1), site.put("2", 2, 3)])
    site.then(3, lambda: seen.append(site.written()))
    site.then(4, lambda: seen.append(site.written()))
    site.then(5, lambda: [site.put("3", 4, k="z"), (site.base / "in/1.csv").unlink()])
    site.then(7, lambda: None)
    first, second = site.run()
    assert why(first) == ["b done: nothing was committed yet", "c done: nothing was committed yet"]
    assert why(second)[0] == "b done: a: 1 added, 1 removed, 1 unchanged"
    assert site.held() == [2, 3, 4]
    assert lp.scan(str(site.base / "out/c")).collect().sort("k").rows() == [("a", 2), ("z", 1)]
    assert seen[0] == seen[1]  # two idle looks
    assert len(list((site.base / ".lazypipe/runs").iterdir())) == 2
    assert len(lp.ledger(site.pipe()).runs()) == 2
    # by the trigger's default, whatever batches took
    assert site.sleeps == [10.0] * 7


def test_a_backlog_is_taken_in_parts_without_a_pause(site: Site) -> None:
    for i in range(5):
        site.put(str(i), i)
    results = site.run(max_files=2)
    assert [r.left for r in results] == [3, 1, 0]
    assert why(results[1])[0] == "b done: a: 2 added, 2 unchanged, 1 more left for later runs"
    assert [s.written for r in results for s in r.segments if s.name == "b"] == [2, 2, 1]
    assert site.sleeps == [10.0]
    assert site.held() == [0, 1, 2, 3, 4]
    site.pipe().compile().run(full=True).raise_for_status()
    assert site.held() == [0, 1, 2, 3, 4]


def test_once_takes_what_is_there_and_ends(site: Site) -> None:
    for i in range(3):
        site.put(str(i), i)
    assert [r.left for r in site.run(max_files=1, trigger=lp.Trigger(once=True))] == [2, 1, 0]
    assert site.run(trigger=lp.Trigger(once=True)) == []
    assert site.sleeps == []
    # a batch run has nothing more to do, and a stream goes on where it has ended
    assert {s.status for s in site.pipe().compile().run().segments} == {"unchanged"}
    site.put("9", 9)
    site.pipe().compile().run().raise_for_status()
    assert site.run(trigger=lp.Trigger(once=True)) == []
    assert site.held() == [0, 1, 2, 9]


def test_a_batch_waits_for_so_many_files(site: Site) -> None:
    site.put("1", 1)
    site.then(2, lambda: site.put("2", 2))
    site.then(4, lambda: site.put("3", 3))
    site.then(6, lambda: site.put("4", 4))
    site.then(9, lambda: None)
    trigger = lp.Trigger("5s", files=2, or_after=timedelta(seconds=20))
    results = site.run(trigger=trigger)
    # two files; one, and then the other; none of them in time
    assert [r.started.second for r in results] == [10, 30]
    assert site.held() == [1, 2, 3, 4]
    site.then(14, lambda: None)
    site.put("5", 5)
    (late,) = site.run(trigger=trigger)
    assert late.started - results[1].started == timedelta(seconds=15 + 20)


def test_a_batch_waits_for_so_many_rows(site: Site) -> None:
    site.put("1", *range(4))
    site.then(1, lambda: site.put("2", *range(4)))
    site.then(2, lambda: site.put("3", *range(2)))
    site.then(4, lambda: None)
    (only,) = site.run(trigger=lp.Trigger("1s", rows=10))
    assert only.started.second == 2
    assert len(site.held()) == 10


def test_rows_of_a_dataset_are_known_from_its_log(site: Site) -> None:
    site.put("1", 1, 2)
    site.pipe(ONE).compile().run().raise_for_status()
    data = {**ONE, "sources": {"a": {"uri": "out/b", "format": "dataset"}}, "outputs": {"b": {"to": "more/b"}}}
    site.then(1, lambda: [site.put("2", 3), site.pipe(ONE).compile().run().raise_for_status()])
    site.then(3, lambda: None)
    (only,) = site.run({**data, "state": "other"}, trigger=lp.Trigger("1s", rows=3))
    assert (only.started.second, only.segments[0].rows) == (1, 3)
    # an idle look reads the log only
    (site.base / "out/b").rename(site.base / "out/away")
    assert site.run({**data, "state": "other"}, trigger=lp.Trigger(once=True)) == []
    (site.base / "out/away").rename(site.base / "out/b")


def test_parts_of_a_datasets_commit(site: Site) -> None:
    for i in range(4):
        site.put(str(i), *range(i + 1))
    site.pipe(ONE).compile().run().raise_for_status()
    data = {**ONE, "sources": {"a": {"uri": "out/b"}}, "outputs": {"b": {"to": "more/b"}}, "state": "other"}
    results = site.run(data, max_rows=3, trigger=lp.Trigger(once=True))
    assert [(r.left, r.segments[0].written) for r in results] == [(2, 3), (1, 3), (0, 4)]
    (site.base / "in/3.csv").unlink()
    site.put("1", 7)
    site.pipe(ONE).compile().run().raise_for_status()
    site.run(data, max_files=1, trigger=lp.Trigger(once=True))
    held = sorted(lp.scan(str(site.base / "more/b")).collect()["x"].to_list())
    assert held == site.held()
    assert site.run(data, max_bytes=1, trigger=lp.Trigger(once=True)) == []


def test_one_file_that_is_larger_than_the_bound_is_taken(site: Site) -> None:
    site.put("1", *range(100))
    site.put("2", *range(5))
    site.put("3", *range(5))
    results = site.run(max_rows=10, trigger=lp.Trigger(once=True))
    assert [s.written for r in results for s in r.segments if s.name == "b"] == [100, 10]


# exports, corrupt files, rules about the clock


def test_an_export_is_written_anew_when_its_source_has_changed(site: Site) -> None:
    data = {**ONE, "outputs": {"b": {"to": "out/b.csv", "format": "csv"}}}
    site.put("1", 1)
    site.then(3, lambda: site.put("2", 2))
    site.then(6, lambda: None)
    first, second = site.run(data)
    assert (first.started.second, second.started.second) == (0, 30)
    assert sorted((site.base / "out/b.csv").read_text().splitlines()) == ["1,a", "2,a", "x,k"]


def test_rows_of_new_files_are_added_once(site: Site) -> None:
    site.put("1", 1)
    site.then(1, lambda: site.put("2", 2))
    site.then(3, lambda: None)
    results = site.run({**ONE, "outputs": {"b": {"to": "out/b", "mode": "append"}}})
    assert [r.segments[0].written for r in results] == [1, 1]
    assert site.held() == [1, 2]


def test_a_corrupt_file_is_left_out_once(site: Site) -> None:
    data = {**ONE, "sources": {"a": {**BASE["sources"]["a"], "on_corrupt": "skip"}}}
    site.put("1", 1)
    site.then(1, lambda: (site.base / "in/2.csv").write_bytes(b"x,k\n1,a\nnothing,\xff\xfe,3,4\n"))
    site.then(4, lambda: site.put("3", 3))
    site.then(6, lambda: None)
    results = site.run(data)
    assert [(r.started.second, r.segments[0].status) for r in results] == [(0, "done"), (10, "unchanged"), (40, "done")]
    assert [c.uri[-5:] for c in results[2].corrupt] == ["2.csv"]
    assert site.held() == [1, 3]


def test_the_clock_alone_is_no_reason_for_a_batch(site: Site) -> None:
    stage = {
        "from": "a",
        "gate": [{"expression": {"condition": ":now > CAST('2001-01-01' AS DATE)", "action": "fail"}}],
    }
    data = {**ONE, "stages": {"b": stage}}
    for i in range(3):
        site.put(str(i), i)
    results = site.run(data, max_files=2, trigger=lp.Trigger(once=True))
    # rows that were taken in meet the clock again, and those of one file more
    assert [(r.left, r.segments[0].written) for r in results] == [(1, 2), (0, 3)]
    assert site.run(data, trigger=lp.Trigger(once=True)) == []


# schemas


def test_new_columns_follow_the_contract(site: Site) -> None:
    contract = {"columns": {"x": "Int64", "k": "String"}, "on_new_column": "evolve"}
    data = {**ONE, "sources": {"a": {"uri": "in/*.csv", "contract": contract}}}
    site.put("1", 1)
    site.then(1, lambda: (site.base / "in/2.csv").write_text("x,k,more\n2,a,7\n"))
    site.then(3, lambda: None)
    site.run(data)
    assert lp.scan(str(site.base / "out/b")).collect().sort("x").rows() == [(1, "a", None), (2, "a", 7)]


def test_a_file_that_breaks_the_contract_ends_the_stream_and_is_named(site: Site) -> None:
    contract = {"columns": {"x": "Int64", "k": "String"}, "on_new_column": "fail"}
    data = {**ONE, "sources": {"a": {"uri": "in/*.csv", "contract": contract}}}
    site.put("1", 1)
    site.then(1, lambda: (site.base / "in/2.csv").write_text("x,k,more\n2,a,7\n"))
    site.then(3, lambda: None)
    good, bad = site.run(data)
    assert (good.status, bad.status) == ("done", "error")
    with pytest.raises(SourceError, match="has a column 'more' that is not expected") as caught:
        bad.raise_for_status()
    assert str(caught.value.uri).endswith("in/2.csv")
    assert site.held() == [1]


def test_a_definition_that_is_wrong_is_told_where(site: Site) -> None:
    site.put("1", 1)
    data = {**ONE, "stages": {"b": {"from": "a", "do": [{"filter": "zz > 1"}]}}}
    with pytest.raises(lp.DefinitionError, match="unknown column 'zz'"):
        site.run(data)


# gates


GATED = {**ONE, "stages": {"b": {"from": "a", "gate": [{"between": {"column": "x", "min": 0}}]}}}


def test_a_gate_that_fails_ends_the_stream(site: Site) -> None:
    site.put("1", 1)
    site.then(1, lambda: site.put("2", -1))
    site.then(9, lambda: None)
    assert [r.status for r in site.run(GATED)] == ["done", "gate_failed"]
    assert site.held() == [1]


def test_or_is_tried_again_when_something_else_has_come(site: Site) -> None:
    site.put("1", 1)
    site.then(1, lambda: site.put("2", -1))
    site.then(4, lambda: site.put("2", 2))
    site.then(6, lambda: None)
    results = site.run(GATED, on_gate_failure="continue")
    assert [(r.started.second, r.status) for r in results] == [(0, "done"), (10, "gate_failed"), (40, "done")]
    assert site.held() == [1, 2]
    site.put("3", -3)
    (failed,) = site.run(GATED, on_gate_failure="continue", trigger=lp.Trigger(once=True))
    assert failed.status == "gate_failed"


# what goes wrong


def test_a_batch_that_lost_against_another_run_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("1", 1)
    failures = [2]
    compile_ = lp.Pipeline.compile

    def overtaken(self: lp.Pipeline, **more: Any) -> lp.Plan:
        plan = compile_(self, **more)
        if failures[0]:
            failures[0] -= 1
            monkeypatch.setattr(lp.Plan, "fingerprints", lambda _: (_ for _ in ()).throw(CommitConflict("lost")))
        else:
            monkeypatch.undo()
        return plan

    monkeypatch.setattr(lp.Pipeline, "compile", overtaken)
    site.then(3, lambda: None)
    (result,) = site.run(trigger=lp.Trigger(once=True))
    assert result.status == "done"
    assert [0.5 <= site.sleeps[0] <= 1, 1 <= site.sleeps[1] <= 2] == [True, True]


def test_results_of_batches_that_fail_are_given_each_time(site: Site) -> None:
    site.put("1", 1)
    stream = site.start(ONE, backoff=lp.Backoff(attempts=3))
    run, fails = stream.run, [RunError("x")]

    def failing(plan: Any, now: datetime) -> lp.RunResult:
        result = run(plan, now)
        (segment, *_) = result.segments
        object.__setattr__(segment, "status", "error")
        object.__setattr__(segment, "error", fails[0])
        return result

    stream.run = failing
    assert [r.status for r in stream] == ["error"]
    assert site.sleeps == []
    fails[0].__cause__ = TimeoutError()
    (site.base / "in/2.csv").write_text("x,k\n1,b\n")
    site.then(9, lambda: None)
    stream = site.start(ONE, backoff=lp.Backoff(attempts=3))
    stream.run = failing
    site.plans[1] = lambda: site.put("3", 3)
    site.plans[2] = lambda: site.put("4", 4)
    assert [r.status for r in stream] == ["error"] * 3
    assert len(site.sleeps) == 2


TWO: dict[str, Any] = {
    **ONE,
    "sources": {**ONE["sources"], "r": {"uri": "rates/*.parquet"}},
    "outputs": {"b": {"to": "out/b"}, "r": {"to": "out/r"}},
}
"""Two outputs, each of a source of its own."""


def rates(site: Site, name: str, *rows: int) -> Path:
    (site.base / "rates").mkdir(exist_ok=True)
    pl.DataFrame({"x": list(rows)}, schema={"x": pl.Int64}).write_parquet(site.base / f"rates/{name}.parquet")
    return site.base / f"rates/{name}.parquet"


def broken(site: Site, name: str) -> Path:
    (site.base / "rates").mkdir(exist_ok=True)
    (site.base / f"rates/{name}.parquet").write_bytes(b"this is no Parquet")
    return site.base / f"rates/{name}.parquet"


def told(result: lp.RunResult) -> str:
    return ", ".join(f"{s.name} {s.status}" for s in sorted(result.segments, key=lambda s: s.name))


def test_a_source_that_cannot_be_read_stops_only_what_needs_it(site: Site) -> None:
    site.put("1", 1)
    broken(site, "1")
    site.then(3, lambda: site.put("2", 2))
    site.then(6, lambda: rates(site, "1", 7))
    site.then(9, lambda: None)
    results = site.run(TWO)
    # it is told at first, with each batch of others, and when it is there; not at each look
    assert [(r.started.minute * 60 + r.started.second, told(r)) for r in results] == [
        (0, "b done, r error"),
        (30, "b done, r error"),
        (60, "b unchanged, r done"),
    ]
    with pytest.raises(SourceError, match="the file is text, and not Parquet"):
        results[1].raise_for_status()
    assert (site.held(), site.held("r")) == ([1, 2], [7])


def test_a_source_that_breaks_while_it_is_followed(site: Site) -> None:
    site.put("1", 1)
    rates(site, "1", 7)
    site.then(1, lambda: broken(site, "1"))
    site.then(3, lambda: site.put("2", 2))
    site.then(5, lambda: rates(site, "1", 7, 8))
    site.then(8, lambda: None)
    results = site.run(TWO)
    assert [(r.started.second, told(r)) for r in results] == [
        (0, "b done, r done"),
        (10, "b unchanged, r error"),
        (30, "b done, r error"),
        (50, "b unchanged, r done"),
    ]
    assert (site.held(), site.held("r")) == ([1, 2], [7, 8])


@pytest.mark.parametrize("mended", [True, False], ids=["mended", "taken away"])
def test_a_file_that_cannot_be_read_beside_others_is_tried_when_something_has_come(site: Site, mended: bool) -> None:
    site.put("1", 1)
    rates(site, "1", 7)
    site.then(1, lambda: broken(site, "2"))
    site.then(3, lambda: site.put("2", 2))
    site.then(5, lambda: rates(site, "2", 8) if mended else (site.base / "rates/2.parquet").unlink())
    site.then(8, lambda: None)
    results = site.run(TWO)
    assert [(r.started.second, told(r)) for r in results] == [
        (0, "b done, r done"),
        (10, "b unchanged, r error"),
        (30, "b done, r error"),
        (50, f"b unchanged, r {'done' if mended else 'unchanged'}"),
    ]
    assert (site.held(), site.held("r")) == ([1, 2], [7, 8] if mended else [7])


def test_a_backlog_goes_on_beside_what_cannot_be_read(site: Site) -> None:
    for number in range(3):
        site.put(str(number), number)
    broken(site, "1")
    results = site.run(TWO, max_files=1, trigger=lp.Trigger(once=True))
    assert [told(r) for r in results] == ["b done, r error"] * 3
    assert (site.held(), site.sleeps) == ([0, 1, 2], [])


def test_what_may_pass_is_given_time_before_it_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that answers the second time is nothing to tell; one that does not answer for longer holds nothing else up."""
    site.put("1", 1)
    rates(site, "1", 7)
    listing, begun, waited = streams.listing, site.now, list[str]()

    def away(plan: Any, source: Any, *given: Any, **more: Any) -> Any:
        passed = (site.now - begun).total_seconds()
        if source.name == "r" and (10 <= passed < 10.5 or 30 <= passed < 90):
            raise SourceError("cannot be listed", uri="rates") from ConnectionResetError()
        return listing(plan, source, *given, **more)

    monkeypatch.setattr(streams, "listing", away)
    site.then(1, lambda: None)
    site.then(20, lambda: None)
    results = site.run(TWO, on_retry=lambda error, _: waited.append(str(error)))
    assert [told(r) for r in results] == ["b done, r done", "b unchanged, r unchanged", "b unchanged, r unchanged"]
    assert waited == ["rates: cannot be listed"] * 5


def test_a_gate_that_fails_ends_the_stream_beside_what_cannot_be_read(site: Site) -> None:
    site.put("1", -1)
    broken(site, "1")
    site.then(9, lambda: None)
    data = {**TWO, "stages": GATED["stages"]}
    assert [told(r) for r in site.run(data)] == ["b gate_failed, r error"]
    site.plans = {1: lambda: site.put("2", -2), 3: lambda: None}
    results = site.run(data, on_gate_failure="continue")
    assert [(r.started.second, told(r)) for r in results] == [
        (0, "b gate_failed, r error"),
        (10, "b gate_failed, r error"),
    ]


def test_nothing_else_to_do_ends_the_stream(site: Site) -> None:
    broken(site, "1")
    site.then(9, lambda: None)
    only = {**TWO, "outputs": {"r": {"to": "out/r"}, "again": {"from": "r", "to": "out/again"}}}
    with pytest.raises(SourceError, match="the file is text, and not Parquet"):
        site.run(only)
    assert site.sleeps == []


def test_what_cannot_be_listed_for_good_is_raised(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("1", 1)
    site.then(99, lambda: None)

    def unreachable(*_: Any, **__: Any) -> Any:
        raise SourceError("cannot be listed", uri="in") from ConnectionResetError()

    monkeypatch.setattr(streams, "listing", unreachable)
    with pytest.raises(SourceError, match="cannot be listed"):
        site.run()
    waits = [1, 2, 4, 8]
    assert [w / 2 <= s <= w for s, w in zip(site.sleeps, waits, strict=True)] == [True] * 4


def test_what_has_worked_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("1", 1)
    listing, told = streams.listing, list[tuple[str, float]]()
    begun = site.now

    def away(*given: Any, **more: Any) -> Any:
        if timedelta(seconds=5) < site.now - begun < timedelta(minutes=10):
            raise SourceError("cannot be listed", uri="in") from ConnectionResetError()
        return listing(*given, **more)

    monkeypatch.setattr(streams, "listing", away)
    site.then(1, lambda: site.put("2", 2))
    site.then(40, lambda: None)
    results = site.run(on_retry=lambda error, wait: told.append((str(error), wait)))
    assert [r.status for r in results] == ["done", "done"]
    assert site.held() == [1, 2]
    assert {error for error, _ in told} == {"in: cannot be listed"}
    # what is told is what was waited for, ahead of the looks that went well again
    assert [w for _, w in told] == site.sleeps[1 : 1 + len(told)]
    assert 10 < len(told) < 30


def test_until_it_has_been_away_for_too_long(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("1", 1)
    listing, left = streams.listing, [1]

    def away(*given: Any, **more: Any) -> Any:
        if not left:
            raise SourceError("cannot be listed", uri="in") from ConnectionResetError()
        left.pop()
        return listing(*given, **more)

    monkeypatch.setattr(streams, "listing", away)
    site.then(99, lambda: None)
    results = iter(site.start())
    assert next(results).status == "done"
    with pytest.raises(SourceError, match="cannot be listed"):
        next(results)
    assert len(site.sleeps) == 1 + 29  # the first one is that of the trigger
    assert 12 * 60 <= sum(site.sleeps) <= 24 * 60


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (CommitConflict("x"), True),
        (ConnectionResetError(), True),
        (OSError(28, "No space left on device"), True),
        (pl.exceptions.ComputeError("No such file or directory (os error 2): /x"), True),
        (OSError(13, "Permission denied"), False),
        (pl.exceptions.ComputeError("cannot parse"), False),
        (StorageError("x"), False),
        (socket.gaierror(-3, "Temporary failure in name resolution"), True),
        (EndpointConnectionError(endpoint_url="http://no-such-host.invalid"), True),
        (ConnectionClosedError(endpoint_url="http://s"), True),
        (ClientPayloadError("Response payload is not completed"), True),
        (ServerDisconnectedError(), True),
        (EOFError(), True),
        (EOFError("Compressed file ended before the end-of-stream marker was reached"), False),
        (FileNotFoundError("memory://gone.csv"), True),
        (OSError("object-store error: Generic S3 error: … - HTTP error: error sending request (path: s3://b/x)"), True),
        (OSError("object-store error: Generic S3 error: HTTP error: request or response body error"), True),
        (OSError("object-store error: Generic S3 error: … status code: 429 Too Many Requests"), True),
        (OSError("object-store error: Generic S3 error: … status code: 400 Bad Request"), False),
        (PermissionError("object-store error: … status code: 403 Forbidden: <Error>"), False),
        (HTTPError("http://s", 503, "Service Unavailable", Message(), None), True),
        (HTTPError("http://s", 429, "Too Many Requests", Message(), None), True),
        (HTTPError("http://s", 404, "Not Found", Message(), None), False),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_may_pass(error: BaseException, passes: bool) -> None:
    assert is_transient(error) is passes
    wrapped = RunError("y")
    wrapped.__cause__ = error
    error.__cause__ = wrapped  # a circle
    assert is_transient(wrapped) is passes


# how it ends


def test_stopped_from_another_thread_while_it_sleeps(site: Site) -> None:
    site.put("1", 1)
    stream = lp.stream(site.pipe(), lp.Trigger("1h"))
    results = []
    for result in stream:
        results.append(result)
        threading.Timer(0.1, stream.stop).start()
    assert [r.status for r in results] == ["done"]
    assert list(stream) == []


def test_an_interrupted_batch_is_the_last(site: Site) -> None:
    site.put("1", 1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    assert [r.status for r in site.run(observer=interrupt)] == ["interrupted"]


def test_signals(site: Site) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    left: list[int] = []
    second = threading.Event()

    def leave(code: int) -> None:
        left.append(code)
        second.set()

    signal.signal(signal.SIGUSR1, lambda *_: None)
    stream = lp.stream(site.pipe(), lp.Trigger("1h"))
    with stream.until_signalled(leave) as same:
        assert same is stream
        os.kill(os.getpid(), signal.SIGUSR1)  # none of ours
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        assert list(stream) == []
        assert left == []
        os.kill(os.getpid(), signal.SIGINT)
        assert second.wait(60)
    assert left == [130]
    signal.signal(signal.SIGUSR1, before[2])
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before


def test_signals_are_for_the_main_thread(site: Site) -> None:
    told: list[str] = []

    def enter() -> None:
        try:
            with lp.stream(site.pipe()).until_signalled():
                pass
        except lp.LazypipeError as error:
            told.append(str(error))

    threads = threading.active_count()
    other = threading.Thread(target=enter)
    other.start()
    other.join()
    what = "until_signalled is entered in a thread other than the main one, which alone can wait for signals"
    assert told == [f"{what}; leave it out, and call stop() to end the stream"]
    assert threading.active_count() == threads


def test_a_batch_that_takes_longer_than_the_interval_is_followed_at_once(site: Site) -> None:
    site.put("1", 1)
    times = [site.now, site.now + timedelta(seconds=11), site.now + timedelta(seconds=12)]
    stream = site.start(clock=lambda: times.pop(0) if len(times) > 1 else times[0])
    site.then(2, lambda: None)
    assert [r.started for r in stream] == [site.now - timedelta(seconds=20)]
    assert site.sleeps == [10.0, 10.0]  # none after the batch


def test_a_long_backlog_is_not_hashed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("0", 1)
    site.run(ONE, trigger=lp.Trigger(once=True))
    for number in range(1, 9):
        site.put(str(number), number)  # as long as the first
    hashed: list[str] = []
    plain = leaves.hasher

    def counting(options: Any = None, **how: Any) -> Any:
        return lambda file: hashed.append(file.uri) or plain(options, **how)(file)

    monkeypatch.setattr(leaves, "hasher", counting)
    assert [r.left for r in site.run(ONE, max_files=4, trigger=lp.Trigger(once=True))] == [4, 0]
    assert hashed == []
    assert site.held() == [1, 1, 2, 3, 4, 5, 6, 7, 8]


def test_an_output_that_waits_holds_up_only_what_is_made_of_it(site: Site) -> None:
    waits = {"uri": "late/*.csv", "contract": {"columns": {"k": "String", "label": "String"}}}
    data = {
        **BASE,
        "sources": {**BASE["sources"], "d": waits},
        "stages": {
            "j": {"from": "a", "do": [{"join": {"with": "d", "on": "k", "how": "left", "columns": ["label"]}}]},
            **BASE["stages"],
            "after": {"from": "j", "do": [{"limit": 5}]},
        },
        "outputs": {"j": {"to": "out/j"}, **BASE["outputs"], "after": {"to": "out/after"}},
    }
    (site.base / "late").mkdir()
    site.put("1", 1)
    site.then(2, lambda: (site.base / "late/d.csv").write_text("k,label\na,first\n"))
    site.then(4, lambda: None)
    first, second = site.run(data)
    by_name = [{s.name: s.status for s in r.segments if s.output is not None} for r in (first, second)]
    assert by_name[0] == {"j": "waiting", "b": "done", "c": "done", "after": "waiting"}
    assert by_name[1] == {"j": "done", "b": "unchanged", "c": "unchanged", "after": "done"}
    assert lp.scan(str(site.base / "out/after")).collect().rows() == [(1, "a", "first")]


def test_an_output_that_is_written_twice(site: Site) -> None:
    data = {**ONE, "outputs": {"b": {"to": "out/b"}, "again": {"from": "b", "to": "out/again"}}}
    site.put("1", 1)
    site.then(2, lambda: site.put("2", 2))
    site.then(4, lambda: None)
    assert len(site.run(data)) == 2
    assert site.held("again") == site.held("b") == [1, 2]


def test_a_clock_that_goes_back_makes_no_long_pause(site: Site) -> None:
    site.put("1", 1)
    times = [site.now, site.now, site.now - timedelta(days=1)]
    site.run(clock=lambda: times.pop(0) if len(times) > 1 else times[0])
    assert site.sleeps == [10.0]


def test_memory_does_not_grow_with_batches(site: Site) -> None:
    # one file that is delivered again and again: the state stays as large as it is
    sizes: list[int] = []
    rounds = 20

    def next_one() -> None:
        site.put("1", len(site.sleeps))
        if len(site.sleeps) in (rounds // 2, rounds):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])

    site.put("1", 0)
    for number in range(1, rounds + 1):
        site.then(number, next_one)
    tracemalloc.start()
    try:
        for count, result in enumerate(site.start(ONE)):  # noqa: B007
            assert result.status == "done"
    finally:
        tracemalloc.stop()
    assert count >= rounds - 1
    assert sizes[1] - sizes[0] < 200_000, sizes


# what is wrong with what is asked for


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lp.Trigger("soon"), "trigger: every: 'soon' is not a duration"),
        (lambda: lp.Trigger("0s"), "trigger: every is 0s; write a duration such as 10s"),
        (lambda: lp.Trigger(files=0), "trigger: files is 0; write 1 or more, or leave it out"),
        (lambda: lp.Trigger(or_after="1m"), "trigger: or_after is how long files or rows are waited for; add one of them"),
        (lambda: lp.Trigger(files=3, once=True), "trigger: once takes what is there; leave out files and rows"),
        (lambda: lp.stream(lp.Pipeline.from_dict(ONE), max_files=0), "max_files is 0; a run takes at least 1"),
        (
            lambda: lp.stream(lp.Pipeline.from_dict(ONE), on_gate_failure="go"),  # type: ignore[arg-type]
            "on_gate_failure: 'go'; write stop or continue",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(make: Callable[[], object], message: str) -> None:
    with pytest.raises(lp.LazypipeError, match=message):
        make()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"first": -1}, "backoff: first is -1; write seconds, 0 or more"),
        ({"most": "60s"}, "backoff: most is '60s'; write seconds, 0 or more"),
        ({"most": float("nan")}, "backoff: most is nan; write seconds, 0 or more"),
        ({"first": True}, "backoff: first is True; write seconds, 0 or more"),
        ({"attempts": 0}, "backoff: attempts is 0; write 1 or more"),
        ({"attempts": 1.5}, "backoff: attempts is 1.5; write 1 or more"),
        ({"attempts": True}, "backoff: attempts is True; write 1 or more"),
    ],
)
def test_a_backoff_that_is_none_is_refused_at_once(how: dict[str, Any], told: str) -> None:
    with pytest.raises(lp.LazypipeError) as caught:
        lp.Backoff(**how)
    assert str(caught.value) == told
    assert lp.Backoff(first=0, most=0, attempts=1).delay(3, random.Random(1)) == 0


def test_what_is_no_backoff_is_refused(site: Site) -> None:
    with pytest.raises(lp.LazypipeError) as caught:
        lp.stream(site.pipe(), backoff=5)  # type: ignore[arg-type]
    assert str(caught.value) == "backoff is 5; give one, such as lp.Backoff(attempts=5)"
