"""Windows that close: a run writes those that event time has reached, and reads the files with rows in them, whatever is computed."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.storage.numbered import seal
from tests.delivered import put, spoil

T0 = datetime(2023, 1, 1)
HOUR = timedelta(hours=1)
SCHEMA = {"at": pl.Datetime("us"), "site": pl.String, "x": pl.Int64}
DEFINITION = """
version: 1
name: due
audit: "off"
sources:
  readings:
    uri: in/*.parquet
    event_time: at
    watermark: {WATERMARK}
    contract: {columns: {at: Datetime(us), site: String, x: Int64}}
stages:
  hourly:
    from: readings
    do: [DO]
outputs: {hourly: {to: out/hourly}}
"""
MEDIANS = "window: {time: at, every: 1h, by: site, emit: on_close, allowed_lateness: 2h, aggregate: {m: median(x), n: count(*)}}"
Row = tuple[datetime, str, int]


@dataclass
class Site:
    root: Path
    text: str
    stamp: int = 0
    files: dict[str, list[Row]] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path, do: str, watermark: str = "delay: 0s") -> Site:
        (root / "in").mkdir()
        return cls(root, DEFINITION.replace("DO", do).replace("WATERMARK", watermark))

    def path(self, name: str) -> Path:
        return self.root / "in" / f"{name}.parquet"

    def deliver(self, name: str, rows: list[Row]) -> None:
        self.files[name], self.stamp = rows, self.stamp + 1
        put(self.path(name), pl.DataFrame(rows, schema=SCHEMA, orient="row"), 1_710_000_000 + self.stamp)

    def remove(self, name: str) -> None:
        self.path(name).unlink()
        del self.files[name]

    def damage(self, names: Iterable[str]) -> None:
        """Make files unreadable, in a way that is not seen: whoever reads one fails."""
        for name in names:
            spoil(self.path(name))

    def plan(self) -> lp.Plan:
        return lp.Pipeline.from_yaml(self.text, base=str(self.root)).compile()

    def run(self, **more: Any) -> Any:
        result = self.plan().run(**more)
        result.raise_for_status()
        (segment,) = result.segments
        return segment

    def found(self) -> dict[Any, tuple[Any, int]]:
        rows = lp.scan(str(self.root / "out/hourly")).collect()
        keys = [c for c in ("site", "window", "window_start") if c in rows.columns]
        found = {tuple(row[k] for k in keys): (row["m"], row["n"]) for row in rows.iter_rows(named=True)}
        assert len(found) == rows.height
        return found

    @property
    def rows(self) -> list[Row]:
        return [row for of in self.files.values() for row in of]

    def mark(self, moment: datetime) -> datetime:
        """Say by a file that event time has reached a moment."""
        (self.root / "done").mkdir(exist_ok=True)
        (self.root / "done" / f"{moment:%Y-%m-%dT%H}.ok").touch()
        return moment

    def act(self, name: str, step: Any, unit: timedelta) -> None:
        """Do a step that was drawn; rows are so many units behind the beginning, and the first file stays as it is."""
        names = sorted(self.files)[1:]
        rows = [(T0 + n * unit, k, x) for n, k, x in step[-1]] if isinstance(step[-1], list) else []
        if step[0] == "comes":
            self.deliver(name, rows)
        elif step[0] == "marked":
            self.mark(T0 + step[1] * HOUR)
        elif names and step[0] == "goes":
            self.remove(names[step[1] % len(names)])
        elif names and step[0] == "changes":
            self.deliver(names[step[1] % len(names)], rows)


def day_of(day: int, sites: str = "ab") -> list[Row]:
    """Return the readings of a day, each half an hour."""
    return [
        (T0 + timedelta(days=day, minutes=30 * n), site, (7 * n + day + ord(site)) % 11)
        for n in range(48)
        for site in sites
    ]


def hours(rows: Iterable[Row]) -> dict[Any, tuple[float, int]]:
    """Return the median of each hour and site, row by row."""
    held: dict[Any, list[int]] = {}
    for at, site, x in rows:
        held.setdefault((site, at.replace(minute=0)), []).append(x)
    return {key: (median(xs), len(xs)) for key, xs in held.items()}


def closed(windows: dict[Any, Any], by: datetime) -> dict[Any, Any]:
    """Return the hours that are closed, two of lateness after their end."""
    return {key: of for key, of in windows.items() if key[1] + 3 * HOUR <= by}


def test_a_year_of_hourly_medians_takes_each_day_what_closes(tmp_path: Path) -> None:
    site = Site.of(tmp_path, MEDIANS)
    for day in range(360):
        site.deliver(f"{day:03}", day_of(day))
    site.run()
    assert site.found() == closed(hours(site.rows), T0 + timedelta(days=360, minutes=-30))
    # the first file tells the columns, the last ones hold hours that are open
    damaged = [f"{day:03}" for day in range(1, 359)]
    site.damage(damaged)
    for day in range(360, 365):
        rows = day_of(day)
        if day == 362:  # three late ones, of an hour that is closed and of two that are open
            rows += [(T0 + timedelta(days=361, hours=h, minutes=1), "b", 1_000) for h in (3, 21, 22)]
        site.deliver(f"{day:03}", rows)
        (step,) = site.plan().preview()
        assert step["why"] == (
            f"readings: 1 added, {day} unchanged; files with rows of the same site, window_start, window_end, or of groups that "
            "event time reaches, are read again"
        )
        assert [(of["files"], of["of"], of["at_least"]) for of in step["reads"]] == [(1, day + 1, True)]
        before = site.found()
        segment = site.run()
        after = closed(hours(site.rows), T0 + timedelta(days=day + 1, minutes=-30))
        assert site.found() == after
        changed = {key for key, of in after.items() if before.get(key) != of}
        assert segment.written == len(changed) == 48 + (day == 362)
        assert segment.why == (
            f"readings: 1 added, {day} unchanged; {len(changed)} groups touched, of {len(before):,} rows"
        )
    # nothing came, nothing closes
    assert site.run().status == "unchanged"
    assert site.plan().explain_incremental() == (
        "hourly: reads new and changed files of readings, recomputes only groups by site, window_start, window_end that they touch or event time reaches, "
        "from the files that hold rows of these groups"
    )


@pytest.mark.parametrize(("by", "sites"), [("by: site, ", 2), ("", 1)])
def test_days_that_begin_each_hour_take_each_day_what_closes(tmp_path: Path, by: str, sites: int) -> None:
    sliding = SUMS.replace("every: 1h", "every: 1h, period: 1d").replace("by: site, ", by)
    site = Site.of(tmp_path, sliding)
    for day in range(40):
        site.deliver(f"{day:03}", day_of(day))
    site.run()
    case = {"windows": "every: 1h, period: 24h", "by": bool(by), "lateness": 2, "emit": "on_close", "keep": None}

    def wanted(until: datetime) -> dict[Any, tuple[int, int]]:
        windows = windows_of(site.rows, case)
        return {key: (sum(xs), len(xs)) for key, (end, xs) in windows.items() if is_there(end, until, case)}

    assert site.found() == wanted(T0 + timedelta(days=40, minutes=-30))
    damaged = [f"{day:03}" for day in range(1, 40)]
    site.damage(damaged)
    for day in range(40, 43):
        rows = day_of(day)
        late = 0
        if day == 41:  # one that is a month late, and one of windows that are open
            rows += [(T0 + timedelta(days=11, minutes=1), "b", 1_000), (T0 + timedelta(days=41, minutes=1), "b", 9)]
            late = 24
        site.deliver(f"{day:03}", rows)
        before = site.found()
        segment = site.run()
        after = wanted(T0 + timedelta(days=day + 1, minutes=-30))
        assert site.found() == after
        # those that close, those that the late row is in, and no others
        assert segment.written == 24 * sites + late
        assert {key for key, of in after.items() if before.get(key) != of} <= {
            key for key in after if key not in before or key[-1] < T0 + timedelta(days=12)
        }
        assert (
            segment.why
            == f"readings: 1 added, {day} unchanged; {24 * sites + late} groups touched, of {len(before):,} rows"
        )
    assert site.run().status == "unchanged"


def test_rows_of_open_windows_are_not_lost_while_nothing_closes(tmp_path: Path) -> None:
    site = Site.of(tmp_path, MEDIANS, "delay: 6h")
    site.deliver("0", day_of(0))
    site.run()
    for number in range(3):  # none of these moves event time
        site.deliver(f"late-{number}", [(T0 + timedelta(hours=20, minutes=number), "a", 100 * number)])
        segment = site.run()
        assert (segment.written, segment.why.rpartition("; ")[2]) == (0, "0 groups touched, of 30 rows")
    site.damage(["late-0"])
    site.deliver("y", [(T0 + timedelta(hours=27.5), "b", 1)])  # closes those that end by 19:30
    assert site.run().written == 8
    stamp = site.path("late-0").stat().st_mtime
    put(site.path("late-0"), pl.DataFrame(site.files["late-0"], schema=SCHEMA, orient="row"), stamp)
    site.deliver("z", [(T0 + timedelta(days=9), "b", 1)])
    site.run()
    assert site.found() == closed(hours(site.rows), T0 + timedelta(days=8))
    assert site.found()["a", T0 + timedelta(hours=20)][1] == 5


def test_a_marker_closes_windows_of_rows_that_came_long_before(tmp_path: Path) -> None:
    site = Site.of(tmp_path, MEDIANS, "marker: done/%Y-%m-%dT%H.ok")
    (tmp_path / "done").mkdir()
    for day in range(6):
        site.deliver(f"{day}", day_of(day))
    site.run()
    assert site.found() == {}
    at = T0 + timedelta(days=3, hours=3)
    (tmp_path / "done" / f"{at:%Y-%m-%dT%H}.ok").touch()
    site.run()  # most are due: all is made
    assert site.found() == closed(hours(site.rows), at)
    site.damage(["1", "2", "5"])
    at = T0 + timedelta(days=4, hours=2)
    (tmp_path / "done" / f"{at:%Y-%m-%dT%H}.ok").touch()
    (step,) = site.plan().preview()
    assert (step["how"], step["why"]) == (
        "units",
        (
            "event time has reached 2023-01-05T02:00:00; files with rows of the same site, window_start, window_end, or of groups that "
            "event time reaches, are read again"
        ),
    )
    segment = site.run()
    assert (segment.written, segment.why) == (
        46,
        "event time has reached 2023-01-05T02:00:00; 46 groups touched, of 146 rows",
    )
    assert site.found() == closed(hours(site.rows), at)
    assert site.run().status == "unchanged"


def ignoring(root: Path, ignored: str) -> Site:
    """Return three days of medians, of which the first is closed, and a source that ignores what is said."""
    site = Site.of(root, MEDIANS, "marker: done/%Y-%m-%dT%H.ok")
    site.text = site.text.replace("    event_time: at", f"    {ignored}: ignore\n    event_time: at")
    for day in range(3):
        site.deliver(f"{day}", day_of(day))
    site.mark(datetime(2023, 1, 2))
    site.run()
    return site


def test_rows_of_files_that_are_gone_cannot_be_read_again(tmp_path: Path) -> None:
    site = ignoring(tmp_path, "on_removed")
    site.remove("0")
    assert site.run().status == "unchanged"
    site.mark(datetime(2023, 1, 3))
    before = site.found()
    with pytest.raises(
        lp.StorageError, match="would lose the rows of a file that is gone.*event time has reached 2023-01-03T00:00:00"
    ):
        site.run()
    assert site.found() == before
    assert site.run(full=True).why == "full rebuild requested"
    assert site.found() == closed(hours(site.rows), T0 + timedelta(days=2))


def test_of_files_that_changed_what_they_hold_now_is_read_again(tmp_path: Path) -> None:
    site = ignoring(tmp_path, "on_modified")
    site.deliver("0", [(at, name, x + 1) for at, name, x in day_of(0)])
    assert site.run().status == "unchanged"
    site.mark(datetime(2023, 1, 3))
    assert site.run().why == (
        "event time has reached 2023-01-03T00:00:00; rows of readings must be read again, but their files changed or are gone; "
        "readings: rows of 1 ignored file are not kept, because everything is rebuilt"
    )
    assert site.found() == closed(hours(site.rows), T0 + timedelta(days=2))


def test_a_commit_that_does_not_say_how_far_event_time_was_is_not_built_upon(tmp_path: Path) -> None:
    site = Site.of(tmp_path, MEDIANS)
    for day in range(4):
        site.deliver(f"{day}", day_of(day))
    site.run()
    path = max((tmp_path / "out/hourly.commits").glob("*.json"))
    body = json.loads(path.read_text())
    del body["blake3"], body["info"]["consumed"]["progress"]
    path.write_text(json.dumps(body | {"blake3": seal(body)}))
    site.deliver("4", day_of(4))
    assert site.run().why == "readings: 1 added, 4 unchanged"
    assert site.found() == closed(hours(site.rows), T0 + timedelta(days=5, minutes=-30))


def test_a_deadline_gives_medians_of_windows_that_lack_something(tmp_path: Path) -> None:
    expecting = "expect: {rows: 5}, on_partial: emit, deadline: 6h, partial: lacking, aggregate"
    site = Site.of(tmp_path, MEDIANS.replace("aggregate", expecting))
    site.deliver("0", day_of(0))
    assert site.run(now=datetime(2023, 1, 1, 6, tzinfo=UTC)).written == 0
    segment = site.run(now=datetime(2023, 1, 1, 7, 30, tzinfo=UTC))
    assert (segment.why, segment.written) == ("the deadline of the window from 2023-01-01T00:00:00 has passed", 2)
    assert site.found() == {key: of for key, of in hours(site.rows).items() if key[1] == T0}


SUMS = MEDIANS.replace("median(x)", "sum(x)")


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (
            MEDIANS.replace("aggregate", "expect: {rows: 2}, aggregate"),
            "full: hourly: any row can change when event time advances (expect checks all windows)",
        ),
        (
            "session: {time: at, gap: 1h, by: site, emit: on_close, aggregate: {m: median(x)}}",
            "full: hourly: any row can change when event time advances (session groups by site, and not by session_end)",
        ),
        (
            "session: {time: at, gap: 1h, by: site, max_length: 1d, emit: on_close, aggregate: {m: sum(x)}}",
            "full: hourly: any row can change when event time advances (session groups by site, and not by session_end)",
        ),
        (
            SUMS.replace("every: 1h", "every: [1h, 1d]"),
            ("reads new and changed files of readings, with partial aggregates of hourly kept per file, recomputes only groups by "
            "site, window, window_start, window_end that they touch or event time reaches"),
        ),
        (
            SUMS.replace("every: 1h", "every: 1h, period: 1d"),
            ("reads new and changed files of readings, with partial aggregates of hourly kept per file, recomputes only groups by "
            "site, window_start, window_end that they touch or event time reaches"),
        ),
        (
            MEDIANS + "}, {select: [site, window_start, m]",
            "full: hourly: rows appear and leave by window_end, which is not in the output unchanged, or is not a grouping column",
        ),
        (
            MEDIANS + "}, {rank: {by: site, order_by: m, as: r}",
            "full: hourly: rows appear and leave by window_end, which is not in the output unchanged, or is not a grouping column",
        ),
        (
            SUMS,
            ("reads new and changed files of readings, with partial aggregates of hourly kept per file, recomputes only groups by "
            "site, window_start, window_end that they touch or event time reaches"),
        ),
        (
            SUMS.replace("emit: on_close", "keep_results: 7d"),
            ("reads new and changed files of readings, with partial aggregates of hourly kept per file, recomputes only groups by "
            "site, window_start, window_end that they touch or event time reaches"),
        ),
        ("closed: at", "full: hourly: closed can change any row (event time changes rows without a new file; put it after an aggregate or window by at)"),
    ],
)  # fmt: skip
def test_a_definition_says_how_windows_close(tmp_path: Path, do: str, said: str) -> None:
    do = "{" + do + "}" if "}, {" in do else do
    site = Site.of(tmp_path, do)
    assert site.plan().explain_incremental() == f"hourly: {said}"


@pytest.mark.parametrize(
    ("columns", "groups"),
    [
        ("window_start, n", "window_start"),  # rows of all sites
        ("window_end, site, n", "site"),
        ("window, window_start, n", "window, window_start"),
        ("site, window, n", "site, window"),
        ("window, n", "window"),
    ],
)
def test_windows_that_share_figures_may_go_by_some_of_their_columns(tmp_path: Path, columns: str, groups: str) -> None:
    kinds = "[1h, 5h, all]" if "window," in columns else "1h, period: 5h"
    window = f"{{window: {{time: at, every: {kinds}, by: site, aggregate: {{n: sum(x)}}}}}}"
    site = Site.of(tmp_path, f"{window}, {{select: [{columns}]}}")
    assert f"recomputes only groups by {groups} that they touch" in site.plan().explain_incremental()

    def rows() -> list[Any]:
        return sorted(lp.scan(str(tmp_path / "out/hourly")).collect().rows(), key=repr)

    for day in range(8):
        site.deliver(f"{day}", day_of(day))
    site.run()
    for late in ([], [(T0 + timedelta(days=2, minutes=9), "a", 500)]):
        site.deliver(f"9-{len(late)}", [(T0 + timedelta(days=8, minutes=9), "b", 70), *late])
        site.run()
        found = rows()
        site.run(full=True)
        assert rows() == found
    site.remove("3")
    site.run()
    found = rows()
    site.run(full=True)
    assert rows() == found


def test_groups_may_close_by_any_column_that_tells_them_apart(tmp_path: Path) -> None:
    day = "{derive: {day: 'CAST(at AS DATE)'}}"
    group = "{aggregate: {by: [day, site], aggregate: {m: median(x), n: count(*)}}}"
    site = Site.of(tmp_path, f"{day}, {group}, {{closed: {{end: day, after: 1d}}}}")

    def wanted() -> set[tuple[Any, ...]]:
        held: dict[Any, list[int]] = {}
        for at, name, x in site.rows:
            held.setdefault((at.date(), name), []).append(x)
        until = max(at for at, _, _ in site.rows)
        return {
            (*key, median(xs), len(xs))
            for key, xs in held.items()
            if datetime(key[0].year, key[0].month, key[0].day) + timedelta(days=1) <= until
        }

    for number in range(5):
        site.deliver(f"{number}", day_of(number))
    site.run()
    site.damage(["1", "2", "3"])
    site.deliver("5", day_of(5))
    assert site.run().written == 2
    assert set(lp.scan(str(tmp_path / "out/hourly")).collect().rows()) == wanted()


BESIDE = """
version: 1
name: beside
audit: "off"
sources:
  orders: {uri: orders/*.parquet}
  readings: {uri: in/*.parquet, event_time: at, watermark: {marker: done/%Y-%m-%dT%H.ok}}
stages:
  hourly: {from: readings, do: [{window: {time: at, every: 1h, emit: on_close, aggregate: {m: median(x)}}}]}
  made: {from: orders, do: [{join: {with: hourly, left_on: hour, right_on: window_start, how: left, columns: [m]}}DO]}
outputs: {made: {to: out/made}}
"""


@pytest.mark.parametrize(
    "then",
    [
        "",
        ", {aggregate: {by: id, aggregate: {m: sum(m)}}}",
        ", {aggregate: {by: id, aggregate: {m: median(m)}}}",
    ],
)
def test_rows_that_come_do_not_hide_that_windows_close_beside_them(tmp_path: Path, then: str) -> None:
    for folder in ("orders", "in", "done"):
        (tmp_path / folder).mkdir()

    def run() -> tuple[str, list[float | None]]:
        plan = lp.Pipeline.from_yaml(BESIDE.replace("DO", then), base=str(tmp_path)).compile()
        result = plan.run()
        result.raise_for_status()
        rows = lp.scan(str(tmp_path / "out/made")).collect().sort("id")
        return result.segments[-1].why or "", rows["m"].to_list()

    times = [T0 + h * HOUR for h in range(9)]
    pl.DataFrame({"at": times, "x": range(9)}).write_parquet(tmp_path / "in/0.parquet")
    for number in range(4):
        order = pl.DataFrame({"id": [number], "hour": [times[number]]})
        order.write_parquet(tmp_path / f"orders/{number}.parquet")
    (tmp_path / "done/2023-01-01T02.ok").touch()
    assert run()[1] == [0, 1, None, None]
    (tmp_path / "done/2023-01-01T04.ok").touch()
    pl.DataFrame({"id": [9], "hour": [times[0]]}).write_parquet(tmp_path / "orders/9.parquet")
    assert run() == ("event time has reached 2023-01-01T04:00:00", [0, 1, 2, 3, 0])


# whatever comes


KINDS: dict[str, dict[str, tuple[int, int]]] = {
    "every: 1h, period: 24h": {"1h": (1, 24)},
    "every: 1h": {"1h": (1, 1)},
    "every: 6h, period: 15h": {"6h": (6, 15)},
    "every: [2h, 1d]": {"2h": (2, 2), "1d": (24, 24)},
}
ROWS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 80), st.integers(40, 80), st.integers(0, 300)),
        st.sampled_from("ab"),
        st.integers(0, 9),
    ),
    max_size=6,
)


def steps_of(rows: st.SearchStrategy[list[tuple[int, str, int]]]) -> st.SearchStrategy[Any]:
    """Draw what happens to files and to event time, see ``Site.act``."""
    return st.one_of(
        st.tuples(st.just("comes"), rows),
        st.tuples(st.just("comes"), rows),
        st.tuples(st.just("marked"), st.one_of(st.integers(40, 90), st.integers(0, 320))),
        st.tuples(st.just("goes"), st.integers(0, 9)),
        st.tuples(st.just("changes"), st.integers(0, 9), rows),
    )


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    steps = steps_of(ROWS)
    emit = draw(st.sampled_from(["on_close", "on_close", "each_run"]))
    return {
        "windows": draw(st.sampled_from([*KINDS])),
        "by": draw(st.booleans()),
        "what": draw(st.sampled_from(["median", "sum"])),
        "lateness": draw(st.sampled_from([0, 2])),
        "delay": draw(st.sampled_from([0, 3])),
        "marker": draw(st.booleans()),
        "emit": emit,
        "keep": draw(st.sampled_from([None, 24] if emit == "on_close" else [24])),
        "runs": draw(st.lists(st.lists(steps, max_size=3), min_size=2, max_size=6)),
    }


Windows = dict[Any, tuple[datetime, list[int]]]


def windows_of(rows: list[Row], case: dict[str, Any]) -> Windows:
    """Return the end and the values of each window, row by row."""
    kinds, held = KINDS[case["windows"]], Windows()
    for at, site, x in rows:
        for name, (every, period) in kinds.items():
            start = T0 + (at - T0) // timedelta(hours=every) * timedelta(hours=every)
            while start + timedelta(hours=period) > at:
                key = (*((site,) if case["by"] else ()), *((name,) if len(kinds) > 1 else ()), start)
                held.setdefault(key, (start + timedelta(hours=period), []))[1].append(x)
                start -= timedelta(hours=every)
    return held


def is_there(end: datetime, at: datetime | None, case: dict[str, Any]) -> bool:
    """Whether a window is in the output when event time has reached a moment."""
    due = end + timedelta(hours=case["lateness"])
    if case["emit"] == "on_close" and (at is None or due > at):
        return False
    return case["keep"] is None or at is None or due + timedelta(hours=case["keep"]) > at


@given(case=cases())
@settings(max_examples=settings().max_examples // 2)
def test_any_deliveries_end_in_the_windows_that_are_closed(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        keep = "" if case["keep"] is None else f", keep_results: {case['keep']}h"
        do = (
            f"window: {{time: at, {case['windows']}, {'by: site, ' if case['by'] else ''}emit: {case['emit']}{keep}, "
            f"allowed_lateness: {case['lateness']}h, aggregate: {{m: {case['what']}(x), n: count(*)}}}}"
        )
        watermark = f"delay: {case['delay']}h" + (", marker: done/%Y-%m-%dT%H.ok" if case["marker"] else "")
        site = Site.of(root, do, watermark)
        count = {"median": median, "sum": sum}[case["what"]]
        site.deliver("-", [(T0 + h * HOUR, k, h % 7) for h in range(60) for k in "ab"])
        reached, mark = None, site.mark(T0 + 40 * HOUR)
        before: list[Row] = []
        for number, steps in enumerate(case["runs"]):
            for place, step in enumerate(steps):
                site.act(f"{number}-{place}", step, HOUR)
                if step[0] == "marked":
                    mark = max(mark, T0 + step[1] * HOUR)
            was = reached
            told = mark if case["marker"] else max(at for at, _, _ in site.rows)
            reached = max(told - timedelta(hours=case["delay"]), reached or datetime.min)
            segment = site.run(now=datetime(2030, 1, 1, tzinfo=UTC))
            windows = windows_of(site.rows, case)
            there = {key: (count(xs), len(xs)) for key, (end, xs) in windows.items() if is_there(end, reached, case)}
            assert site.found() == there
            touched = re.search(r"(\d+) groups? touched", segment.why or "")
            if touched is not None:
                old = windows_of(before, case)
                ends = {key: end for key, (end, _) in [*old.items(), *windows.items()]}
                came = {key for key in ends if old.get(key) != windows.get(key)}
                due = {key for key, end in ends.items() if is_there(end, was, case) != is_there(end, reached, case)}
                seen = {k for k, end in ends.items() if is_there(end, was, case) or is_there(end, reached, case)}
                wanted = (came & seen) | (due & windows.keys())
                # a file that was written again touches the windows of all of its rows, also of those that are as they were
                if {step[0] for step in steps} <= {"comes", "marked"}:
                    assert int(touched[1]) == len(wanted)
                    assert segment.written == len(wanted & there.keys())
                assert int(touched[1]) >= len(wanted)
                assert segment.written <= len(seen)
            before = site.rows
        site.run(full=True, now=datetime(2030, 1, 1, tzinfo=UTC))
        assert site.found() == there
