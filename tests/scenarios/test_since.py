"""Runs over deliveries of some time: files are taken by when they were written, and what lies outside is for later runs."""

from __future__ import annotations

import json
import tempfile
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.storage.datasets.dataset import Dataset
from tests.delivered import put

NOW = datetime(2024, 3, 1, tzinfo=UTC)
EXAMPLES = settings().max_examples
SUM = {"aggregate": {"by": "k", "aggregate": {"s": "sum(v)"}}}
KINDS = [[], [SUM], [{"filter": "v > 0"}, {"select": ["k"]}, {"distinct": {}}]]


class World:
    def __init__(self, root: Path, do: list[Any] | None = None, uri: str = "in/*.csv", **output: Any) -> None:
        self.root = root
        self.do = do or []
        self.uri = uri
        self.output = output
        self.source: dict[str, Any] = {}
        self.more: dict[str, Any] = {}

    def put(self, name: str, *rows: tuple[str, int], day: int, later: int = 0) -> Path:
        at = datetime(2024, 1, day, tzinfo=UTC).timestamp() + later
        return put(self.root / "in" / f"{name}.csv", "k,v\n" + "".join(f"{k},{v}\n" for k, v in rows), at)

    def data(self, out: str = "out") -> dict[str, Any]:
        columns = {"columns": {"k": "String", "v": "Int64"}}
        return {
            "version": 1,
            "name": "p",
            "state": f"{out}/state",
            "sources": {"s": {"uri": self.uri, "contract": columns, **self.source}},
            "stages": {"o": {"from": "s", "do": self.do}, **self.more.get("stages", {})},
            "outputs": {"o": {"to": f"{out}/o", **self.output}, **self.more.get("outputs", {})},
        }

    def plan(self, out: str = "out") -> lp.Plan:
        return lp.Pipeline.from_dict(self.data(out), base=str(self.root)).compile()

    def run(self, out: str = "out", **more: Any) -> lp.SegmentResult:
        result = self.plan(out).run(now=NOW, **more)
        return result.segments[-1]

    def told(self, **more: Any) -> tuple[str, str | None]:
        found = self.run(**more)
        assert found.error is None
        return found.status, found.why and found.why.partition("; 1 group")[0]

    def rows(self, out: str = "out") -> list[Any]:
        return sorted(lp.scan(str(self.root / out / "o")).collect().rows())


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    for day in (1, 5, 9):
        made.put(f"f{day}", ("a", day), day=day)
    return made


def test_what_lies_outside_is_for_later_runs(world: World) -> None:
    some = {"since": "2024-01-05", "until": date(2024, 1, 9)}
    (step,) = world.plan().preview(**some)
    told = "2 not written since 2024-01-05T00:00:00 and before 2024-01-09T00:00:00"
    assert (step["why"], step["reads"][0]["files"]) == (f"nothing was committed yet; s: {told}", 1)
    result = world.plan().run(now=NOW, **some)
    assert (result.status, result.left) == ("done", 0)
    assert world.rows() == [("a", 5)]
    assert world.told(**some) == ("unchanged", f"nothing to do: s: 1 unchanged, {told}")
    assert Dataset(str(world.root / "out/o")).log.versions() == [1]
    assert world.told(since=datetime(2024, 1, 6, tzinfo=UTC)) == (
        "done",
        "s: 1 added, 1 unchanged, 1 not written since 2024-01-06T00:00:00+00:00",
    )
    assert world.told() == ("done", "s: 1 added, 2 unchanged")
    assert world.rows() == [("a", 1), ("a", 5), ("a", 9)]


def test_what_was_read_stays_and_goes_as_ever(world: World) -> None:
    world.run()
    world.put("f1", ("a", 100), day=2)
    (world.root / "in/f9.csv").unlink()
    world.put("f5", ("a", 500), day=6)
    told = "s: 1 modified, 1 removed, 1 waiting, 1 not written since 2024-01-06T00:00:00"
    assert world.told(since="2024-01-06") == ("done", told)
    assert world.rows() == [("a", 1), ("a", 500)]
    # another definition: what was read is read again, unless it is another now that may not be taken
    world.do = [{"derive": {"w": "v + 1"}}]
    assert world.told(since="2024-01-06") == (
        "waiting",
        (
            "waiting for a run without since and until: rebuilding it would lose rows: a file that it was made of was not written since "
            f"2024-01-06T00:00:00, such as {world.root}/in/f1.csv"
        ),
    )
    world.put("f1", ("a", 1), day=1)
    world.put("f2", ("a", 2), day=2)
    assert world.run(since="2024-01-06").status == "done"
    assert world.rows() == [("a", 1, 2), ("a", 500, 501)]
    assert world.told() == ("done", "s: 1 added, 2 unchanged")


@pytest.mark.parametrize("output", [{}, {"mode": "append"}, {"mode": "upsert", "key": ["k", "v"]}])
def test_in_full_it_is_refused_where_rows_would_be_lost(world: World, output: dict[str, Any]) -> None:
    world.output = output
    world.run(since="2024-01-02")
    before = world.rows()
    found = world.run(since="2024-01-09", full=True)
    assert str(found.error) == (
        f"{world.root}/out/o: output 'o': rebuilding it would lose rows: a file that it was made of was not written since "
        f"2024-01-09T00:00:00, such as {world.root}/in/f5.csv; leave out full, or since and until"
    )
    assert "2 files that it was made of were not written before 2024-01-02T00:00:00" in str(
        world.run(until="2024-01-02", full=True).error
    )
    assert world.rows() == before == [("a", 5), ("a", 9)]
    assert world.run(since="2024-01-02", full=True).status == "done"
    assert world.rows() == before


def test_nothing_was_written_then(world: World) -> None:
    assert world.told(since="2025-01-01") == (
        "waiting",
        "waiting for files: s: 3 not written since 2025-01-01T00:00:00",
    )
    assert not (world.root / "out/o.commits").exists()
    world.output = {"mode": "append"}
    assert world.told(since="2025-01-01")[0] == "waiting"
    world.run(since="2024-01-09")
    assert world.told(since="2025-01-01") == (
        "unchanged",
        "nothing to do: s: 1 unchanged, 2 not written since 2025-01-01T00:00:00",
    )


def test_with_other_bounds_and_shared_sources(world: World) -> None:
    world.source = {"gate": [{"not_null": {"columns": "k", "action": "quarantine"}}]}
    world.more = {"stages": {"t": {"from": "s", "do": [SUM]}}, "outputs": {"t": {"to": "out/t"}}}
    plan = world.plan()
    lefts = [plan.run(now=NOW, since="2024-01-02", max_files=1).left for _ in range(3)]
    assert lefts == [1, 0, 0]
    assert world.rows() == [("a", 5), ("a", 9)]
    assert lp.scan(str(world.root / "out/t")).collect().rows() == [("a", 14)]
    result = plan.run(now=NOW)
    assert [g.rows for s in result.segments for g in s.gates] == [3]


def test_what_cannot_be_told(world: World, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.csv", "k,v\na,1\n")
    world.uri = f"zip://*.csv::{tmp_path}/x.zip"
    assert str(world.run(since="2024-01-01").error) == (
        f"zip://a.csv::{tmp_path}/x.zip: source 's': its storage does not say when it was written, and since and until need that"
        "; leave out since and until; max_files says how many files a run takes"
    )
    world.do = [{"sort": ["v"]}]
    with pytest.raises(lp.LazypipeError) as caught:
        world.run(until="2024-01-01")
    assert str(caught.value) == (
        "no output follows a source file by file, so since and until choose nothing; leave them out, or see plan.explain_incremental()"
    )
    for given_, said in (
        ({"since": "soon"}, "'soon' is not a time; write one such as 2024-01-31 or 2024-01-31T12:00"),
        ({"since": "2024-02-01", "until": "2024-01-01"}, "the range from 2024-02-01 00:00:00 ends at 2024-01-01 00:00:00"),
    ):  # fmt: skip
        with pytest.raises(lp.LazypipeError, match=said):
            world.run(**given_)


def test_tables_are_read_as_they_are(world: World) -> None:
    world.run()
    reader = {
        "version": 1,
        "name": "r",
        "sources": {"o": {"uri": "out/o"}, "s": {"uri": "in/*.csv"}},
        "stages": {"u": {"from": "o", "do": [{"union": {"with": "s"}}]}},
        "outputs": {"u": {"to": "out/u"}},
    }
    plan = lp.Pipeline.from_dict(reader, base=str(world.root)).compile()
    plan.run(now=NOW, since="2024-01-09").raise_for_status()
    assert sorted(lp.scan(str(world.root / "out/u")).collect()["v"]) == [1, 5, 9, 9]


def test_on_the_command_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    path = world.root / "p.json"
    path.write_text(json.dumps(world.data()))
    assert main(["plan", str(path), "--since", "2024-01-05", "--until", "2024-01-06"]) == 0
    assert "reads s: 1 of 3 files" in capsys.readouterr().out
    assert main(["run", str(path), "--since", "2024-01-05", "--until", "2024-01-06"]) == 0
    assert world.rows() == [("a", 5)]
    assert main(["run", str(path), "--full", "--until", "2024-01-05"]) == 3
    assert "rebuilding it would lose rows" in capsys.readouterr().err
    assert main(["run", str(path), "--window", "2024-01-01..2024-02-01", "--chunk", "7d", "--since", "2024-01-05"]) == 2
    assert "leave one of them out" in capsys.readouterr().err
    assert main(["stream", str(path), "--once", "--since", "2024-01-06"]) == 0
    assert world.rows() == [("a", 5), ("a", 9)]


def test_a_stream_that_begins_without_what_came_before(world: World) -> None:
    pipe = lp.Pipeline.from_dict(world.data(), base=str(world.root))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            world.put("f8", ("b", 8), day=8)
        if len(waits) == 5:
            stream.stop()

    stream = lp.stream(pipe, lp.Trigger(every="1s"), since="2024-01-06", sleep=sleep, clock=lambda: NOW)
    assert [(r.status, r.left) for r in stream] == [("done", 0), ("done", 0)]
    assert len(waits) == 5
    assert world.rows() == [("a", 9), ("b", 8)]


@settings(max_examples=max(4, EXAMPLES // 8))
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9)), max_size=4), st.sampled_from(range(3)))  # fmt: skip
def test_whatever_parts_it_is_taken_in_the_end_is_that_of_a_full_run(
    steps: list[tuple[int, int, int, int]], kind: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), KINDS[kind])
        world.put("first", ("a", 1), day=1)
        for number, (name, day, since, length) in enumerate(steps):
            world.put(str(name), ("ab"[day % 2], day), ("c", since), day=day, later=number)
            begin = datetime(2024, 1, since)
            found = world.run(since=begin, until=begin + timedelta(days=length + 1))
            assert found.error is None
        assert world.run().error is None
        assert world.run("full").error is None
        assert world.rows() == world.rows("full")
