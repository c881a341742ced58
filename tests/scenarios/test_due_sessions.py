"""Sessions that close, come late, grow together and fall apart: a run writes those, and no others."""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.scenarios.test_due_windows import HOUR, T0, Row, Site, steps_of
from tests.scenarios.test_due_windows import is_there as is_seen

SESSIONS = (
    "session: {time: at, gap: 2h, by: site, emit: on_close, allowed_lateness: 1h, aggregate: {m: sum(x), n: count(*)}}"
)
MINUTE = timedelta(minutes=1)
Key = tuple[Any, ...]
Visits = dict[Key, tuple[int, int]]


def visits(rows: list[Row], gap: timedelta = 2 * HOUR, *, by: bool = True) -> Visits:
    """Return the sum and number of rows of each session, by site, start and end; row by row."""
    groups: dict[Key, list[tuple[datetime, int]]] = {}
    for at, site, x in rows:
        groups.setdefault((site,) if by else (), []).append((at, x))
    found: Visits = {}
    for group, of in groups.items():
        held: list[list[tuple[datetime, int]]] = []
        for at, x in sorted(of):
            if not held or at - held[-1][-1][0] > gap:
                held.append([])
            held[-1].append((at, x))
        found |= {(*group, s[0][0], s[-1][0]): (sum(x for _, x in s), len(s)) for s in held}
    return found


def found(site: Site) -> Visits:
    rows = lp.scan(str(site.root / "out/hourly")).collect()
    keys = [c for c in ("site", "session_start", "session_end") if c in rows.columns]
    there = {tuple(row[k] for k in keys): (row["m"], row["n"]) for row in rows.iter_rows(named=True)}
    assert len(there) == rows.height
    return there


def day_of(day: int) -> list[Row]:
    """Return three visits of a day to each of two sites."""
    starts = [T0 + timedelta(days=day, hours=h) for h in (0, 7, 14)]
    return [(s + n * 20 * MINUTE, site, day % 7 + n) for s in starts for n in range(6) for site in "ab"]


def test_each_day_writes_the_sessions_that_close(tmp_path: Path) -> None:
    site = Site.of(tmp_path, SESSIONS)
    for day in range(40):
        site.deliver(f"{day:03}", day_of(day))
    site.run()

    def wanted() -> Visits:
        until = max(at for at, _, _ in site.rows) - 3 * HOUR
        return {key: of for key, of in visits(site.rows).items() if key[-1] <= until}

    assert found(site) == wanted()
    site.damage([f"{day:03}" for day in range(1, 40)])
    for day in range(40, 44):
        rows, late = day_of(day), 0
        if day == 41:  # one that is alone, one in a session, one between two that become one
            rows += [
                (T0 + timedelta(days=9, hours=11, minutes=15), "a", 50),
                (T0 + timedelta(days=11, hours=1), "b", 70),
            ]
            rows += [(T0 + timedelta(days=13, hours=h), "a", 90) for h in (3, 5)]
            late = 3
        site.deliver(f"{day:03}", rows)
        before = found(site)
        segment = site.run()
        assert found(site) == wanted()
        assert segment.written == 6 + late
        gone = before.keys() - found(site).keys()
        assert len(gone) == (2 if day == 41 else 0)
        assert segment.why == (
            f"readings: 1 added, {day} unchanged; {6 + late + len(gone)} groups touched, of {len(before):,} rows"
        )
    assert site.run().status == "unchanged"
    site.remove("041")
    before = found(site)
    segment = site.run()
    assert found(site) == wanted()
    # what its late rows had been in; and those of the next file, whose rows come under a different watermark without it
    assert len(found(site).items() - before.items()) == 3
    assert segment.written == 3 + 6


@pytest.mark.parametrize(
    "do", [SESSIONS, SESSIONS.replace("session: {time: at, gap: 2h,", "window: {time: at, every: 1h, period: 3h,")]
)
def test_what_is_touched_decides_over_rows_and_is_in_none(tmp_path: Path, do: str) -> None:
    site = Site.of(tmp_path, do)
    site.text = site.text.replace('audit: "off"\n', "")
    made = []
    for day in range(4):
        site.deliver(f"{day}", day_of(day))
        segment = site.run()
        made.append({(str(e.source), e.target.name) for e in segment.lineage.edges if e.target.name != "*"})
    assert "touched" in (segment.why or "")
    assert made[0] == made[-1]
    assert {source for source, _ in made[0]} == {"readings.at", "readings.site", "readings.x"}


GROUPS = "reads new and changed files of readings, with partial aggregates of hourly kept per file, recomputes only groups by"

WHOLE = "reads new and changed files of readings, with partial aggregates of hourly kept per file, rewrites all rows from these"


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (SESSIONS, f"{GROUPS} site, session_start, session_end that they touch or event time reaches"),
        (SESSIONS.replace("emit: on_close, ", ""), f"{GROUPS} site, session_start that they touch"),
        (SESSIONS.replace("by: site, ", ""), f"{GROUPS} session_start, session_end that they touch or event time reaches"),
        (SESSIONS.replace("emit: on_close, ", "") + "}, {select: [site, n]", f"{GROUPS} site that they touch"),
        (SESSIONS.replace("emit: on_close, ", "") + "}, {select: [session_start, site, n]", f"{GROUPS} site, session_start that they touch"),
        (
            SESSIONS.replace("emit: on_close, ", "") + "}, {select: [session_start, n]",
            f"{WHOLE} (session_start identifies its groups only together with site, which is not in the output unchanged)",
        ),
        (
            SESSIONS + "}, {select: [session_start, session_end, n]",
            f"{WHOLE} (session_start identifies its groups only together with site, which is not in the output unchanged)",
        ),
        (
            SESSIONS + "}, {select: [site, session_start, n]",
            f"{WHOLE} (hourly: rows appear and leave by session_end, which is not in the output unchanged, or is not a grouping column)",
        ),
    ],
)  # fmt: skip
def test_a_definition_says_how_sessions_close(tmp_path: Path, do: str, said: str) -> None:
    site = Site.of(tmp_path, "{" + do + "}" if "}, {" in do else do)
    assert site.plan().explain_incremental() == f"hourly: {said}"


SESSION = "{session: {time: at, gap: 2h, by: [site, day], aggregate: {m: sum(x), n: count(*)}}}"
SLIDING = "{window: {time: at, every: 3h, period: 6h, by: [site, day], aggregate: {m: sum(x), n: count(*)}}}"


@pytest.mark.parametrize(
    ("do", "most"),
    [
        (f"{SESSION}, {{closed: session_start}}", 12),
        (f"{SESSION}, {{closed: {{end: day, after: 1d}}}}", 12),
        (f"{SESSION}, {{closed: session_end}}, {{closed: {{end: session_start, after: 9h, keep: 6d}}}}", 12),
        (f"{SESSION}, {{closed: session_end}}, {{closed: {{end: day, after: 1d}}}}", 12),
        (f"{SLIDING}, {{closed: {{end: day, after: 1d}}}}", 24),
        (f"{SLIDING}, {{closed: window_end}}, {{closed: {{end: day, after: 1d, keep: 6d}}}}", 24),
    ],
)
def test_they_may_close_by_any_column_that_tells_them_apart(tmp_path: Path, do: str, most: int) -> None:
    site = Site.of(tmp_path, f"{{derive: {{day: 'CAST(at AS DATE)'}}}}, {do}")

    def rows() -> list[Any]:
        return sorted(lp.scan(str(tmp_path / "out/hourly")).collect().rows(), key=repr)

    for day in range(8):
        site.deliver(f"{day:02}", day_of(day))
    site.run()
    for day in range(8, 11):
        late = [(T0 + timedelta(days=day - 2, hours=h), "b", 9) for h in ((4, 5) if day == 9 else ())]
        site.deliver(f"{day:02}", [*day_of(day), *late])
        segment = site.run()
        found = rows()
        assert "touched" in (segment.why or "")
        assert 0 < segment.written <= most
        site.run(full=True)
        assert rows() == found


BESIDE = """
version: 1
name: beside
audit: "off"
sources:
  readings: {uri: in/*.parquet, event_time: at, watermark: {delay: 0s}}
  sites: {uri: sites/*.parquet}
stages:
  hourly:
    from: readings
    do:
      - session: {time: at, gap: 2h, by: site, emit: on_close, aggregate: {m: sum(x), n: count(*)}}
      - join: {with: sites, on: site, how: left, columns: [name]}
outputs: {hourly: {to: out/hourly}}
"""


@pytest.mark.parametrize("emit", ["emit: on_close, ", ""])
def test_what_is_looked_up_behind_sessions_touches_those_that_look_it_up(tmp_path: Path, emit: str) -> None:
    site = Site.of(tmp_path, SESSIONS)
    site.text = BESIDE.replace("emit: on_close, ", emit)
    (tmp_path / "sites").mkdir()

    def name(of: str, called: str) -> None:
        pl.DataFrame({"site": [of], "name": [called]}).write_parquet(tmp_path / f"sites/{of}.parquet")

    def rows() -> set[tuple[Any, ...]]:
        return set(lp.scan(str(tmp_path / "out/hourly")).collect().rows())

    def wanted(names: dict[str, str]) -> set[tuple[Any, ...]]:
        until = max(at for at, _, _ in site.rows) - 2 * HOUR
        there = ((key, of) for key, of in visits(site.rows).items() if not emit or key[-1] <= until)
        return {(*key, *of, names.get(key[0])) for key, of in there}

    for day in range(3):
        site.deliver(f"{day}", [row for row in day_of(day) if row[1] == "a"])
    site.deliver("b", [(T0 + timedelta(hours=h), "b", h) for h in (1, 2, 9)])
    name("a", "Alm")
    site.run()
    assert rows() == wanted({"a": "Alm"})
    name("b", "Berg")
    segment = site.run()
    assert rows() == wanted({"a": "Alm", "b": "Berg"})
    assert (segment.written, "2 groups touched" in (segment.why or "")) == (2, True)
    # while sessions grow together and fall apart
    name("b", "Bach")
    site.deliver("c", [(T0 + timedelta(hours=h), "b", h) for h in (4, 6, 7)])
    assert site.run().written == 1
    assert rows() == wanted({"a": "Alm", "b": "Bach"})
    name("b", "Burg")
    site.remove("c")
    site.run()
    assert rows() == wanted({"a": "Alm", "b": "Burg"})


ROWS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 200), st.integers(90, 200), st.integers(0, 900)),
        st.sampled_from("ab"),
        st.integers(0, 9),
    ),
    max_size=6,
)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    steps = steps_of(ROWS)
    emit = draw(st.sampled_from(["on_close", "on_close", "each_run"]))
    return {
        "gap": draw(st.sampled_from([20, 60, 150])),
        "by": draw(st.booleans()),
        "lateness": draw(st.sampled_from([0, 2])),
        "marker": draw(st.booleans()),
        "emit": emit,
        "keep": draw(st.sampled_from([None, 24])),
        "runs": draw(st.lists(st.lists(steps, max_size=3), min_size=2, max_size=6)),
    }


def is_there(end: datetime, at: datetime | None, case: dict[str, Any]) -> bool:
    """Whether a session is in the output when event time has reached a moment."""
    return is_seen(end + case["gap"] * MINUTE, at, case)


def chains(rows: list[Row], case: dict[str, Any]) -> Visits:
    return visits(rows, case["gap"] * MINUTE, by=case["by"])


@given(case=cases())
@settings(max_examples=settings().max_examples // 2)
def test_any_deliveries_end_in_the_sessions_that_are_closed(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        keep = "" if case["keep"] is None else f", keep_results: {case['keep']}h"
        do = (
            f"session: {{time: at, gap: {case['gap']}m, {'by: site, ' if case['by'] else ''}emit: {case['emit']}{keep}, "
            f"allowed_lateness: {case['lateness']}h, aggregate: {{m: sum(x), n: count(*)}}}}"
        )
        site = Site.of(root, do, "delay: 1h" + (", marker: done/%Y-%m-%dT%H.ok" if case["marker"] else ""))
        site.deliver(
            "-", [(T0 + h * 3 * HOUR + m * 9 * MINUTE, k, h % 7) for h in range(20) for k in "ab" for m in (0, 1)]
        )
        reached, mark = None, site.mark(T0 + 40 * HOUR)
        before: list[Row] = []
        for number, steps in enumerate(case["runs"]):
            for place, step in enumerate(steps):
                site.act(f"{number}-{place}", step, 20 * MINUTE)
                if step[0] == "marked":
                    mark = max(mark, T0 + step[1] * HOUR)
            was = reached
            told = mark if case["marker"] else max(at for at, _, _ in site.rows)
            reached = max(told - HOUR, reached or datetime.min)
            segment = site.run(now=datetime(2030, 1, 1, tzinfo=UTC))
            there = {key: of for key, of in chains(site.rows, case).items() if is_there(key[-1], reached, case)}
            assert found(site) == there
            touched = re.search(r"(\d+) groups? touched", segment.why or "")
            if touched is not None:
                old = {key: of for key, of in chains(before, case).items() if is_there(key[-1], was, case)}
                # where all are there, sessions go by their start
                until = None if "keep" in keep or case["emit"] == "on_close" else -1
                assert int(touched[1]) >= len({key[:until] for key, _ in old.items() ^ there.items()})
                assert segment.written <= len(there)
                if {step[0] for step in steps} <= {"comes", "marked"}:
                    # what came lies in sessions that are made anew; so do those that close or leave, and no others
                    new = [row for row in site.rows if row not in before]
                    came = {
                        key
                        for key in there
                        if any(key[-2] <= at <= key[-1] and (not case["by"] or key[0] == k) for at, k, _ in new)
                    }
                    assert segment.written == len(came | {key for key in there if old.get(key) != there[key]})
            before = site.rows
        site.run(full=True, now=datetime(2030, 1, 1, tzinfo=UTC))
        assert found(site) == there


def test_sessions_that_are_cut_are_made_anew_where_only_event_time_went_on(tmp_path: Path) -> None:
    cut = SESSIONS.replace("gap: 2h", "gap: 2h, max_length: 12h")  # longer than any: none is cut
    site = Site.of(tmp_path, cut, "marker: done/%Y-%m-%dT%H.ok")
    for day in range(3):
        site.deliver(f"{day}", day_of(day))
    for day in (1, 2):
        site.mark(T0 + timedelta(days=day))
        assert (site.run().why or "").endswith(
            f"event time has reached {T0 + timedelta(days=day):%Y-%m-%dT%H:%M:%S}"
        ) is (day > 1)
        until = T0 + timedelta(days=day) - 3 * HOUR
        assert found(site) == {key: of for key, of in visits(site.rows).items() if key[-1] <= until}
