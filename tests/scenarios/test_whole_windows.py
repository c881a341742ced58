"""Windows are given when they are whole: by files, rows, values, markers; waited for, given as partial, or refused after a deadline."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.storage.datasets.dataset import Dataset

T0 = datetime(2024, 5, 1)
TEXT = """
version: 1
name: p
sources:
  a:
    uri: in/*.csv
    event_time: at
    watermark: {{delay: 0s}}
    contract: {{columns: {{at: Datetime(us), sensor: String, v: Int64}}}}
stages:
  hourly:
    from: a
    do:
      - window: {{time: at, every: 1h, by: [sensor], emit: on_close, aggregate: {{{aggregate}}}, expect: {{{expect}}}{more}}}
outputs:
  hourly: {{to: out/hourly}}
"""

Row = tuple[float, str]


class Site:
    def __init__(self, root: Path, expect: str, more: str = "", aggregate: str = "n: count(*)") -> None:
        self.root, self.number = root, 0
        self.text = TEXT.format(expect=expect, more=more, aggregate=aggregate)
        (root / "in").mkdir()
        (root / "done").mkdir()

    def deliver(self, *rows: Row, number: int | None = None) -> None:
        self.number += 1
        path = self.root / "in" / f"{self.number if number is None else number:03}.csv"
        lines = [f"{T0 + timedelta(hours=h)},{sensor},1\n" for h, sensor in rows]
        path.write_text("at,sensor,v\n" + "".join(lines))
        os.utime(path, (1_720_000_000 + self.number,) * 2)

    def mark(self, *hours: int) -> None:
        for hour in hours:
            (self.root / "done" / f"{T0 + timedelta(hours=hour):%Y-%m-%dT%H}.ok").touch()

    def plan(self) -> lp.Plan:
        return lp.Pipeline.from_yaml(self.text, base=str(self.root)).compile()

    def run(self, hour: float = 10_000, **more: Any) -> lp.RunResult:
        return self.plan().run(now=(T0 + timedelta(hours=hour)).replace(tzinfo=UTC), **more)

    def rows(self) -> list[tuple[Any, ...]]:
        rows = lp.scan(str(self.root / "out/hourly")).drop("window_end").sort("window_start", "sensor").collect()
        return [(int((start - T0) / timedelta(hours=1)), *rest) for sensor, start, *rest in rows.rows()]

    def complete(self) -> float:
        commit = Dataset(str(self.root / "out/hourly")).latest()
        assert commit is not None
        return (datetime(1970, 1, 1) + timedelta(microseconds=commit.info["watermark"]) - T0) / timedelta(hours=1)


def lacking(result: lp.RunResult) -> dict[int, tuple[str, ...]]:
    (segment,) = result.segments
    return {(w.start // 3_600_000_000) - 476_256: w.lacks for w in segment.incomplete}


def test_rows_are_counted_over_all_groups_of_a_window(tmp_path: Path) -> None:
    site = Site(tmp_path, "rows: 3")
    site.deliver((0, "x"), (0.1, "y"), (1, "x"), (1.5, "y"), (1.6, "y"), (3, "x"))
    result = site.run()
    # nothing is known of the hour from 2 to 3: it may be missing
    assert lacking(result) == {0: ("2 of 3 rows",), 2: ("0 of 3 rows",)}
    assert (site.rows(), site.complete()) == ([(1, 1), (1, 2)], 0)
    assert site.run().status == "unchanged"
    assert lacking(site.run()) == {0: ("2 of 3 rows",), 2: ("0 of 3 rows",)}
    site.deliver((0.2, "z"))
    assert lacking(site.run()) == {2: ("0 of 3 rows",)}
    assert (site.rows(), site.complete()) == ([(0, 1), (0, 1), (0, 1), (1, 1), (1, 2)], 2)
    assert lp.Pipeline.from_yaml(lp.Pipeline.of(site.plan().pipeline).to_yaml()) == site.plan().pipeline


def test_all_values_must_be_there(tmp_path: Path) -> None:
    site = Site(tmp_path, "values: {sensor: [x, y], v: [1]}")
    site.deliver((0, "x"), (0.1, "y"), (1, "x"), (1.5, "z"), (2.5, "y"), (2.6, "x"), (3, "x"))
    assert lacking(site.run()) == {1: ("no sensor y",)}
    assert {r[0] for r in site.rows()} == {0, 2}
    other = tmp_path / "other"
    other.mkdir()
    site = Site(other, "values: {sensor: [a, b, c, d, x]}", aggregate="n: count(*), m: median(v)")
    site.deliver((0, "x"), (1, "x"))
    assert lacking(site.run()) == {0: ("no sensor a, b, c and 1 more",)}


def test_so_many_different_values_must_be_there(tmp_path: Path) -> None:
    site = Site(tmp_path, "values: {sensor: 2}")
    site.deliver((0, "x"), (0.1, "y"), (1, "x"), (1.5, ""), (3, "x"))
    assert lacking(site.run()) == {1: ("1 of 2 values of sensor",), 2: ("0 of 2 values of sensor",)}


def test_files_are_counted_by_their_event_times(tmp_path: Path) -> None:
    site = Site(tmp_path, "files: 2")
    site.deliver((0, "x"), (1.1, "x"))
    site.deliver((0.5, "y"))
    site.deliver((3, "x"))
    site.deliver()
    assert lacking(site.run()) == {1: ("1 of 2 files",), 2: ("0 of 2 files",)}
    assert site.rows() == [(0, 1), (0, 1)]
    site.deliver((1.2, "y"), (2.3, "y"))
    assert lacking(site.run()) == {2: ("1 of 2 files",)}


def test_a_marker_tells_a_missing_hour_from_an_empty_one(tmp_path: Path) -> None:
    site = Site(tmp_path, "marker: 'done/{start:%Y-%m-%dT%H}.ok'")
    site.deliver((0, "x"), (4, "x"))
    site.mark(0, 2)
    assert lacking(site.run()) == {1: ("no marker",), 3: ("no marker",)}
    assert (site.rows(), site.complete()) == ([(0, 1)], 1)
    assert site.run().status == "unchanged"
    site.mark(1)
    result = site.run()
    assert result.segments[0].why == "the marker of the window from 2024-05-01T01:00:00 has come"
    assert (lacking(result), site.complete()) == ({3: ("no marker",)}, 3)
    assert site.run().status == "unchanged"


EMIT = ", on_partial: emit, deadline: 6h, partial: is_partial"


def test_after_the_deadline_windows_are_given_and_say_so(tmp_path: Path) -> None:
    site = Site(tmp_path, "rows: 2", EMIT)
    site.deliver((0, "x"), (1, "x"), (1.1, "y"), (3, "x"))
    first = site.run(hour=4)
    assert (lacking(first), site.rows(), site.complete()) == (
        {0: ("1 of 2 rows",), 2: ("0 of 2 rows",)},
        [(1, 1, False), (1, 1, False)],
        0,
    )
    assert site.run(hour=6.9).status == "unchanged"
    second = site.run(hour=7)
    assert second.segments[0].why == "the deadline of the window from 2024-05-01T00:00:00 has passed"
    assert [(w.held, w.since) for w in second.segments[0].incomplete] == [
        (False, first.segments[0].incomplete[0].since),
        (True, first.segments[0].incomplete[1].since),
    ]
    assert (site.rows(), site.complete()) == ([(0, 1, True), (1, 1, False), (1, 1, False)], 2)
    site.run(hour=9)
    assert site.complete() == 3
    assert site.run(hour=20).status == "unchanged"
    site.deliver((0.3, "x"))
    site.run(hour=20)
    assert site.rows() == [(0, 2, False), (1, 1, False), (1, 1, False)]


def test_after_the_deadline_a_run_fails(tmp_path: Path) -> None:
    site = Site(tmp_path, "rows: 2", ", on_partial: fail, deadline: 6h")
    site.deliver((0, "x"), (1, "x"), (1.1, "y"), (2, "x"))
    assert site.run(hour=6).status == "done"
    result = site.run(hour=7)
    assert result.status == "error"
    with pytest.raises(lp.RunError) as found:
        result.raise_for_status()
    assert str(found.value) == (
        "<yaml>:14:53: stage 'hourly': the window from 2024-05-01T00:00:00 to 2024-05-01T01:00:00 is incomplete, and its deadline was "
        "2024-05-01T07:00:00: 1 of 2 rows; deliver the rest, or say on_partial: wait or emit"
    )
    assert site.rows() == [(1, 1), (1, 1)]
    site.deliver((0.5, "x"))
    assert site.run(hour=8).status == "done"


def test_what_is_expected_is_part_of_the_definition(tmp_path: Path) -> None:
    site = Site(tmp_path, "rows: 2")
    site.deliver((0, "x"), (1, "x"))
    site.run()
    site.text = site.text.replace("rows: 2", "rows: 1")
    assert site.run().status == "done"
    assert site.rows() == [(0, 1)]


def test_records_plans_and_the_status_say_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path, "rows: 2")
    site.deliver((0, "x"), (14, "x"))
    result = site.run(hour=20)
    told = {
        "start": "2024-05-01T00:00:00",
        "end": "2024-05-01T01:00:00",
        "lacks": ["1 of 2 rows"],
        "since": "2024-05-01T20:00:00",
        "held": True,
    }
    (segment,) = json.loads(Path(result.record).read_text())["segments"]
    assert (segment["incomplete"][0], len(segment["incomplete"])) == (told, 14)
    (entry,) = lp.Ledger(str(tmp_path / ".lazypipe/ledger")).runs("hourly")
    assert entry.body["segments"][0]["incomplete"][0] == told
    (status,), (step,) = site.plan().status(), site.plan().preview()
    assert (status["incomplete"][0], step["incomplete"][13]["lacks"]) == (told, ["0 of 2 rows"])
    file = tmp_path / "p.yaml"
    file.write_text(site.text)
    line = (
        "    incomplete: 2024-05-01T00:00:00..2024-05-01T01:00:00, held back, since 2024-05-01T20:00:00: 1 of 2 rows\n"
    )
    for command in ("status", "plan"):
        assert main([command, str(file)]) == 0
        out = capsys.readouterr().out
        assert line in out
        assert "    incomplete: 4 more\n" in out
    assert main(["run", str(file)]) == 0
    assert line in capsys.readouterr().err


def test_rows_of_windows_that_others_made_are_held_back_too(tmp_path: Path) -> None:
    site = Site(tmp_path, "rows: 1")
    site.text = site.text.replace(
        "window: {time: at, every: 1h, by: [sensor], emit: on_close, aggregate: {n: count(*)}, expect: {rows: 1}}",
        "derive: {from_: 'CAST(at AS DATE)'}\n      - derive: {to: \"from_ + INTERVAL '1 day'\"}\n"
        "      - closed: {start: from_, end: to, after: 1h, expect: {rows: 2, values: {sensor: [x], v: 1}}}",
    )
    site.deliver((0, "x"), (1, "y"), (24, "y"), (25, "z"), (80, "x"))
    result = site.run()
    assert [w.lacks for w in result.segments[0].incomplete] == [("no sensor x",)]
    rows = lp.scan(str(tmp_path / "out/hourly")).collect()
    assert (sorted(rows["sensor"]), rows.columns) == (["x", "y"], ["at", "sensor", "v", "_watermark", "from_", "to"])


def test_lineage_and_traces_know_held_windows(tmp_path: Path) -> None:
    site = Site(tmp_path, "rows: 2", EMIT)
    site.deliver((0, "x"), (1, "x"), (1.1, "x"), (3, "x"))
    site.run(hour=4)
    plan = site.plan()
    assert plan.schema("hourly").names() == ["sensor", "window_start", "window_end", "n", "is_partial"]
    assert {str(c) for c in plan.lineage().upstream("hourly").columns} >= {"a.at", "a.sensor"}
    assert plan.lineage(optimized=True).upstream("hourly.n").direct == plan.lineage().upstream("hourly.n").direct
    found = plan.trace("hourly", {"window_start": T0 + timedelta(hours=1), "sensor": "x"})
    assert [of.rows.height for of in found.sources.values() if of.rows is not None] == [2]


def test_late_rows_are_put_aside_ahead_of_what_is_expected(tmp_path: Path) -> None:
    site = Site(tmp_path, "rows: 2", ", late: quarantine")
    site.deliver((0, "x"), (1, "x"), (1.1, "x"), (4, "y"))
    site.deliver((0.5, "x"), (5, "x"))
    result = site.run()
    # the late row does not make the first hour whole
    assert lacking(result)[0] == ("1 of 2 rows",)
    assert (site.rows(), site.plan().late("hourly").collect().height) == ([(1, 2)], 1)
    result = site.run(full=True)
    assert (lacking(result)[0], site.rows()) == (("1 of 2 rows",), [(1, 2)])


def test_windows_of_other_types_and_names_in_other_modes(tmp_path: Path) -> None:
    site = Site(tmp_path, "rows: 2, marker: 'done/{start:%j}-{end}.ok'")
    site.text = (
        site.text.replace("window: {time: at, every: 1h", "window: {time: at, every: 1d, time_zone: Europe/Berlin")
        .replace("at: Datetime(us)", "at: 'Datetime(us, UTC)'")
        .replace("{to: out/hourly}", "{to: out/hourly, mode: upsert, key: [day, sensor]}")
        .replace("outputs:", "    gate: [{not_null: {columns: day, action: drop}}]\noutputs:")
        .replace("\n    gate:", "\n      - rename: {window_start: day}\n      - drop: window_end\n    gate:")
    )
    site.deliver((0, "x"), (21, "x"), (23, "x"), (80, "x"))
    (tmp_path / "done/122-2024-05-02T00:00:00.ok").touch()
    (tmp_path / "done/121-2024-05-02T00:00:00.ok").touch()
    assert [w.lacks for w in site.run().segments[0].incomplete] == [
        ("1 of 2 rows", "no marker"),
        ("0 of 2 rows", "no marker"),
    ]
    rows = lp.scan(str(tmp_path / "out/hourly")).select("sensor", "day", "n").collect().rows()
    assert [(s, str(d), n) for s, d, n in rows] == [("x", "2024-05-01 00:00:00+02:00", 2)]
    site.deliver((24, "x"))
    (tmp_path / "done/123-2024-05-03T00:00:00.ok").touch()
    site.run()
    assert sorted(lp.scan(str(tmp_path / "out/hourly")).collect()["n"]) == [2, 2]


def test_days_of_dates_have_markers_too(tmp_path: Path) -> None:
    site = Site(tmp_path, "marker: 'done/{end:%Y%m%d-%H}.ok'")
    site.text = site.text.replace("at: Datetime(us)", "at: Date").replace("every: 1h", "every: 1d")
    for day in (1, 2, 3):
        (tmp_path / "in" / f"{day}.csv").write_text(f"at,sensor,v\n2024-05-0{day},x,1\n")
    (tmp_path / "done/20240502-00.ok").touch()
    result = site.run()
    assert [str(w) for w in result.segments[0].incomplete] == [
        "2024-05-02T00:00:00..2024-05-03T00:00:00, held back, since 2025-06-21T16:00:00: no marker"
    ]
    assert lp.scan(str(tmp_path / "out/hourly")).collect()["window_start"].to_list() == [T0.date()]


def test_what_a_run_leaves_for_later_is_not_missing(tmp_path: Path) -> None:
    site = Site(tmp_path, "rows: 1", ", on_partial: fail, deadline: 1h")
    for hour in range(6):
        site.deliver((hour, "x"))
    # in any order, and file by file
    site.run(window=(T0 + timedelta(hours=4), None)).raise_for_status()
    site.run(window=(T0 + timedelta(hours=1), T0 + timedelta(hours=2))).raise_for_status()
    assert [r[0] for r in site.rows()] == [1, 4]
    result = site.run(max_files=1)
    assert (result.status, lacking(result)) == ("done", {2: ("0 of 1 rows",), 3: ("0 of 1 rows",)})
    site.run().raise_for_status()
    assert [r[0] for r in site.rows()] == [0, 1, 2, 3, 4]
    os.remove(tmp_path / "in/003.csv")
    assert site.run(window=(T0, T0 + timedelta(hours=1))).status == "done"
    result = site.run()
    assert result.status == "error"
    assert "from 2024-05-01T02:00:00 to 2024-05-01T03:00:00 is incomplete" in str(result.segments[0].error)


FILES = st.lists(
    st.lists(st.tuples(st.integers(0, 6 * 4).map(lambda q: q / 4), st.sampled_from("xyz")), max_size=4),
    min_size=1,
    max_size=4,
)


@given(
    files=FILES,
    order=st.permutations(range(4)),
    clocks=st.lists(st.integers(0, 20), min_size=4, max_size=4),
    due=st.lists(st.booleans(), min_size=4, max_size=4),
    marks=st.lists(st.integers(0, 6), max_size=7),
    expect=st.sampled_from(
        [
            "rows: 2",
            "files: 2",
            "values: {sensor: [x, y]}",
            "values: {sensor: 2}",
            "rows: 2, marker: 'done/{start:%Y-%m-%dT%H}.ok'",
        ]
    ),
    emits=st.booleans(),
)
@settings(max_examples=max(2, settings().max_examples // 10))
def test_whatever_came_when_the_windows_are_those_of_what_is_there(
    files: list[list[Row]],
    order: list[int],
    clocks: list[int],
    due: list[bool],
    marks: list[int],
    expect: str,
    emits: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), expect, EMIT if emits else "")
        for place, (number, clock) in enumerate(
            zip([o for o in order if o < len(files)], sorted(clocks), strict=False)
        ):
            site.deliver(*files[number], number=number)
            site.mark(*marks[place : place + 1])
            if due[place]:
                site.run(hour=clock).raise_for_status()
        site.mark(*marks)
        clock = max(clocks)
        site.run(hour=clock).raise_for_status()
        kept = site.rows()
        commit = Dataset(f"{folder}/out/hourly").latest()
        assert commit is not None
        assert kept == naive(files, set(marks), expect, clock if emits else None)
        # what is given, how far it is, and what is missing are the same as if all had been read at once
        incomplete = commit.info["consumed"]["progress"]["incomplete"]
        complete = commit.info["watermark"]
        site.text = site.text.replace("out/hourly", "out/anew").replace("name: p", "name: q\nstate: other")
        site.run(hour=clock).raise_for_status()
        anew = Dataset(f"{folder}/out/anew").latest()
        assert anew is not None
        there = anew.info["consumed"]["progress"]["incomplete"]
        assert [(w[0], w[2], w[4]) for w in incomplete["windows"]] == [(w[0], w[2], w[4]) for w in there["windows"]]
        assert complete == anew.info["watermark"]


def naive(files: list[list[Row]], marks: set[int], expect: str, clock: int | None) -> list[tuple[Any, ...]]:
    rows = [row for file in files for row in file]
    reached = max((h for h, _ in rows), default=-1.0)
    found = []
    for hour in range(int(reached)):
        inside = [sensor for h, sensor in rows if hour <= h < hour + 1]
        through = [f for f in files if f and min(f)[0] < hour + 1 and max(f)[0] >= hour]
        checks = {
            "rows: 2": len(inside) >= 2,
            "files: 2": len(through) >= 2,
            "values: {sensor: [x, y]}": {"x", "y"} <= {*inside},
            "values: {sensor: 2}": len({*inside}) >= 2,
        }
        whole = checks.get(expect, len(inside) >= 2 and hour in marks)
        if whole or (clock is not None and hour + 1 + 6 <= clock):
            more = () if clock is None else (not whole,)
            found += [(hour, n, *more) for _, n in sorted(Counter(inside).items())]
    return found


VISITS = """
version: 1
name: p
sources:
  a: {uri: in/*.csv, event_time: at, watermark: {delay: 0s}, contract: {columns: {at: Datetime(us), sensor: String, v: Int64}}}
stages:
  visits:
    from: a
    do:
      - session: {time: at, gap: 30m, by: sensor, aggregate: {n: count(*)}, emit: on_close}
    gate:
      - between: {column: n, min: 2, action: quarantine}
  daily:
    from: visits
    do:
      - window:
          {time: session_end, every: 1d, aggregate: {visits: count(*)}, emit: on_close,
           expect: {values: {sensor: [a, b]}}, on_partial: emit, partial: part, deadline: 6h}
outputs:
  visits: {to: out/visits}
  daily: {to: out/daily}
"""


@pytest.mark.parametrize("argument", ["expect: {rows: 2}", "on_partial: wait", "deadline: 6h", "partial: part"])
def test_nothing_is_expected_of_sessions_and_it_says_what_to_write(tmp_path: Path, argument: str) -> None:
    site = Site(tmp_path, "rows: 1")
    site.deliver((0.1, "a"))
    site.text = VISITS.replace("gap: 30m,", f"gap: 30m, {argument},")
    with pytest.raises(lp.DefinitionError) as found:
        site.plan()
    assert str(found.value) == (
        "<yaml>:10:39: which sessions there should be cannot be told: they are made by their rows, and without rows there is none; "
        "ask of each session in the stage's gate, such as between: {column: n, min: 2, action: quarantine}; "
        "or of periods, in a stage with window over session_end, which has expect"
    )
    name, _, value = argument.partition(": ")
    step = {"session": {"time": "at", "gap": "30m", "aggregate": {"n": "count(*)"}, name: value}}
    with pytest.raises(lp.LazypipeError, match="which sessions there should be cannot be told"):
        lp.apply(step, pl.LazyFrame({"at": [T0]}))


def test_what_sessions_and_periods_of_sessions_must_have(tmp_path: Path) -> None:
    site = Site(tmp_path, "rows: 1")
    site.text = VISITS

    def visits() -> list[Any]:
        found = lp.scan(str(tmp_path / "out/visits")).sort("session_start").collect().rows()
        return [(sensor, (first - T0) / timedelta(hours=1), n) for sensor, first, _, n in found]

    def days() -> list[Any]:
        return sorted(lp.scan(str(tmp_path / "out/daily")).drop("window_end").collect().rows())

    site.deliver((1, "a"), (1.25, "a"), (3, "b"), (23.5, "a"))
    site.run(24)
    assert (visits(), days()) == ([("a", 1, 2)], []), "a session of one row is put aside"
    site.deliver((3.25, "b"), (48.5, "a"))
    site.run(49)
    # the row that came late has mended the session of b, so both are there
    assert visits() == [("a", 1, 2), ("b", 3, 2)]
    assert days() == [(T0, 2, False)]
    site.deliver((48.75, "a"), (96.5, "b"))
    result = site.run(73)
    assert days() == [(T0, 2, False)], "a day without any visit of b, whose deadline has not passed"
    assert [w.held for w in result.segments[1].incomplete] == [False, True, True]
    site.run(110)
    assert days() == [(T0, 2, False), (T0 + timedelta(days=2), 1, True)]
