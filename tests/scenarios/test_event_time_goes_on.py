"""Event time goes on without rows: by clocks, markers, heartbeats, and by the commits of what is read; windows close, and say so."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset

T0 = datetime(2024, 5, 1)
SOURCE = (
    "{{uri: in/{0}-*.{1}, event_time: at, watermark: {{{2}}}, contract: {{columns: {{at: Datetime(us), v: Int64}}}}}}"
)
HOURS = "window: {time: at, every: 1h, allowed_lateness: 1h, emit: on_close, aggregate: {n: count(*), total: sum(v)}}"
DAYS = "window: {time: window_start, every: 1d, emit: on_close, aggregate: {hours: count(*), n: sum(n)}}"


def definition(
    name: str = "p", *, a: str = "delay: 30m, idle_after: 3d", b: str = "idle_after: 3d", **more: str
) -> str:
    sources = f"  a: {SOURCE.format('a', 'csv', a)}\n  b: {SOURCE.format('b', 'csv', b)}\n"
    return more.get(
        "text",
        f"""
version: 1
name: {name}
state: state/{name}
sources:
{sources}
stages:
  hourly: {{from: a, do: [{{union: b}}, {{{HOURS}}}]}}
  daily: {{from: hourly, do: [{{{DAYS}}}]}}
  rows: {{from: a, do: [{{union: b}}]}}
outputs:
  hourly: {{to: out/hourly}}
  daily: {{to: out/daily}}
  rows: {{to: out/rows}}
""",
    )


class Site:
    def __init__(self, root: Path) -> None:
        self.root, self.number, self.text = root, 0, definition()
        (root / "in").mkdir()

    def deliver(self, source: str, *hours: float) -> None:
        self.number += 1
        path = self.root / "in" / f"{source}-{self.number:03}.csv"
        path.write_text("at,v\n" + "".join(f"{T0 + timedelta(hours=h)},{i}\n" for i, h in enumerate(hours)))
        stamp = (T0 + timedelta(days=30)).replace(tzinfo=UTC).timestamp() + self.number
        os.utime(path, (stamp, stamp))

    def plan(self, text: str | None = None) -> lp.Plan:
        return lp.Pipeline.from_yaml(text or self.text, base=str(self.root)).compile()

    def run(self, day: float = 40, text: str | None = None, **more: Any) -> lp.RunResult:
        result = self.plan(text).run(now=(T0 + timedelta(days=day)).replace(tzinfo=UTC), **more)
        result.raise_for_status()
        return result

    def starts(self, output: str = "hourly") -> list[float]:
        rows = lp.scan(str(self.root / "out" / output)).collect()
        return sorted((s - T0) / timedelta(hours=1) for s in rows["window_start"])

    def complete(self, output: str = "hourly") -> float | None:
        commit = Dataset(str(self.root / "out" / output)).latest()
        assert commit is not None
        at = commit.info["watermark"]
        return None if at is None else (datetime(1970, 1, 1) + timedelta(microseconds=at) - T0) / timedelta(hours=1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def whys(result: lp.RunResult) -> dict[str, Any]:
    return {s.name: s.why if s.status == "done" else s.status for s in result.segments}


def test_windows_close_when_a_source_is_idle_though_nothing_comes(site: Site) -> None:
    site.deliver("a", 0)
    site.deliver("b", 0.5)
    site.run(day=0)
    site.deliver("a", 48)
    site.run(day=2)
    assert (site.starts(), site.complete()) == ([], -0.5)
    assert site.run(day=2.9).status == "unchanged"
    result = site.run(day=3.1)
    # b is not waited for any more; a day closes an hour later, since its last hour does
    why = "event time has reached 2024-05-02T23:30:00"
    assert (whys(result)["hourly"], whys(result)["rows"]) == (why, why)
    assert (site.starts(), site.complete(), site.starts("daily"), site.complete("rows")) == ([0], 46.5, [0], 47.5)
    again = site.run(day=4)
    assert again.status == "unchanged"
    assert whys(site.run(day=5.5)) == {"hourly": "unchanged", "daily": "unchanged", "rows": "unchanged"}


def test_a_preview_and_a_stream_know_that_windows_are_due(site: Site) -> None:
    site.deliver("a", 0, 20)
    site.deliver("b", 0.5)
    site.run(day=0)

    def steps(day: float) -> dict[str, tuple[str, str]]:
        now = (T0 + timedelta(days=day)).replace(tzinfo=UTC)
        return {s["name"]: (s["how"], s["why"]) for s in site.plan().preview(now=now)}

    def streamed(day: float) -> list[str]:
        pipeline = lp.Pipeline.from_yaml(site.text, base=str(site.root))
        now = (T0 + timedelta(days=day)).replace(tzinfo=UTC)
        return [r.status for r in lp.stream(pipeline, lp.Trigger(once=True), clock=lambda: now)]

    assert {how for how, _ in steps(2).values()} == {"none"}
    assert streamed(2) == []
    # both are idle then: the greatest of their watermarks counts
    assert steps(4)["hourly"] == ("units", "event time has reached 2024-05-01T19:30:00")
    assert steps(4)["rows"] == ("state", "event time has reached 2024-05-01T19:30:00")
    assert steps(4)["daily"][0] == "unknown"
    assert streamed(4) == ["done"]
    assert (site.starts(), streamed(9), site.complete("daily")) == ([0], [], 18.5)


def test_days_in_the_same_pipeline_wait_for_their_last_hour(site: Site) -> None:
    site.deliver("a", *range(24), 24.6)
    site.deliver("b", 24.1)
    site.run()
    # the sources are past the day by then, and its last hour still takes rows
    assert (site.starts()[-1], site.complete(), site.starts("daily"), site.complete("daily")) == (22, 23.1, [], 23.1)
    site.deliver("b", 25.6)
    site.deliver("a", 25.5)
    site.run()
    assert (site.starts()[-1], site.complete(), site.starts("daily")) == (23, 24, [0])
    assert lp.scan(str(site.root / "out/daily")).select("hours", "n").collect().rows() == [(24, 24)]


def test_days_wait_for_hours_of_files_that_are_left_for_later_runs(site: Site) -> None:
    for start in range(0, 48, 12):
        site.deliver("a", *range(start, start + 12))
    site.deliver("b", 60)
    seen = []
    while (result := site.run(max_files=1)).left:
        hours = site.starts()
        seen.append((len(hours), site.starts("daily")))
        for day in site.starts("daily"):
            assert {day + h for h in range(24)} <= {*hours}
    assert result.status == "done"
    assert (site.starts("daily"), len(site.starts())) == ([0], 45)
    assert len(seen) == 3


def test_outputs_say_how_far_they_are_unless_that_would_cost_and_nobody_asks(site: Site) -> None:
    text = definition(a="column: at", b="column: at")
    rows = [line for line in text.splitlines() if not line.startswith(("  daily", "  hourly"))]
    site.text = "\n".join([*rows, "  a: {to: out/a}"])
    site.deliver("a", 1)
    site.deliver("b", 2)
    site.run()
    commit = Dataset(str(site.root / "out/rows")).latest()
    assert commit is not None
    assert "watermark" not in commit.info
    # where a stage closes windows over them they do
    site.text = "\n".join([*rows[:-1], *rows[-1:]]).replace(
        "outputs:", f"  more: {{from: rows, do: [{{{HOURS}}}]}}\noutputs:\n  more: {{to: out/more}}"
    )
    site.run(full=True)
    assert (site.complete("rows"), site.complete("more")) == (1, 0)
    site.text = definition(a="delay: 0s").replace("outputs:\n", "outputs:\n  a: {to: out/a}\n")
    site.text = site.text.replace("hourly, do: [{window", "hourly, do: [{union: {with: hourly}}, {window")
    site.run(full=True)
    assert site.complete("a") == 1


def test_a_version_that_says_nothing_of_event_time_is_told_again(site: Site) -> None:
    site.deliver("a", 1)
    site.deliver("b", 2)
    site.run()
    dataset = Dataset(str(site.root / "out/rows"))
    commit = dataset.latest()
    assert commit is not None
    info = {k: v for k, v in commit.info.items() if k != "watermark"}
    dataset.log.append(replace(commit, version=commit.version + 1, info=info))
    assert whys(site.run())["rows"] == "the progress of event time was not recorded yet"
    assert (site.complete("rows"), site.run().status) == (0.5, "unchanged")


def test_rows_that_are_added_say_how_far_they_are_too(site: Site) -> None:
    keyed = "rows: {to: out/rows, mode: upsert, key: [at, v]}"
    site.text = site.text.replace("rows: {to: out/rows}", keyed).replace(
        "hourly: {to: out/hourly}", "hourly: {to: out/hourly, mode: upsert, key: window_start}"
    )
    site.deliver("a", 0)
    site.deliver("b", 0.5)
    site.run(day=0)
    site.deliver("a", 48)
    site.run(day=2)
    assert (site.complete("rows"), site.starts()) == (0.5, [])
    result = site.run(day=3.1)
    assert (site.complete("rows"), site.starts(), site.complete()) == (47.5, [0], 46.5)
    assert whys(result)["hourly"] == whys(result)["rows"] == "event time has reached 2024-05-02T23:30:00"
    assert site.run(day=4).status == "unchanged"
    gone = "delete: {from: gone, to: out/rows, mode: delete, key: [at, v]}"
    site.text = site.text.replace(keyed, f"{keyed}\n  {gone}")
    site.text = site.text.replace("outputs:", "  gone: {from: a, do: [{filter: v > 9}]}\noutputs:")
    site.run(day=4).raise_for_status()
    assert site.complete("rows") == 47.5


READER = f"""
version: 1
name: days
state: state/days
sources:
  hours: {{uri: out/hourly, event_time: window_start, watermark: {{commit: true}}}}
stages:
  daily: {{from: hours, do: [{{{DAYS}}}]}}
outputs:
  daily: {{to: out/daily}}
"""


def alone(text: str) -> str:
    """Return the definition without days, which another pipeline makes."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("  daily"))


def test_days_in_another_pipeline_read_how_far_hours_are_from_their_commit(site: Site) -> None:
    hours = alone(site.text)
    site.deliver("a", *range(24), 25.5)
    site.deliver("b", 24.1)
    site.run(text=hours)
    site.run(text=READER)
    assert "_watermark" not in site.plan(READER).schema("hours")
    assert (site.starts("daily"), site.complete("daily")) == ([], 23.1)
    # no row of hours comes with this, and still they are further
    site.deliver("b", 25.6)
    site.run(text=hours, day=40)
    assert site.run(text=READER).status == "done"
    assert (site.starts("daily"), site.complete("daily")) == ([0], 24)
    assert site.run(text=READER).status == "unchanged"


def test_a_commit_that_says_nothing_yet_closes_nothing(site: Site) -> None:
    site.deliver("a")
    site.deliver("b")
    site.run(text=alone(site.text))
    site.run(text=READER)
    assert (site.complete(), site.complete("daily"), site.starts("daily")) == (None, None, [])


def test_a_dataset_whose_commits_say_nothing_is_refused(site: Site) -> None:
    site.deliver("a", 1)
    site.run(
        text=alone(site.text)
        .replace("watermark: {delay: 30m, idle_after: 3d}, ", "")
        .replace("emit: on_close, ", "")
        .replace("watermark: {idle_after: 3d}, ", "")
        .replace("in/b-", "in/a-")
    )
    with pytest.raises(lp.DefinitionError) as found:
        site.plan(READER)
    assert str(found.value).endswith(
        "the last commit of the dataset does not say up to which event time it is complete; run the pipeline that writes it, with "
        "watermarks at its sources, or name a column: watermark: {column: …}"
    )


@pytest.mark.parametrize(
    ("marker", "files", "at"),
    [
        ("marks/upto.txt", {"upto.txt": "2024-05-01T05:00:00\n"}, 5),
        ("marks/upto.txt", {"upto.txt": "2024-05-01T05:00:00+02:00"}, 3),
        ("marks/*.txt", {"x.txt": "2024-05-01 05:00", "y.txt": "2024-05-02"}, 24),
        ("marks/upto-%Y%m%d-%H.ok", {"upto-20240501-04.ok": "", "upto-20240501-07.ok": "", "upto-some-day.ok": ""}, 7),
        ("marks/100%%-%Y.ok", {"100%-2023.ok": ""}, -24 * 486),
        ("marks/upto.txt", {"upto.txt": ""}, None),
        ("marks/upto-%H.ok", {}, None),
        ("nowhere/upto.txt", {}, None),
    ],
)
def test_a_marker_says_how_far_a_source_is(site: Site, marker: str, files: dict[str, str], at: float | None) -> None:
    (site.root / "marks").mkdir()
    for name, content in files.items():
        (site.root / "marks" / name).write_text(content)
    site.text = alone(
        definition(a=f"marker: '{marker}'", b=f"marker: '{marker}'").replace("allowed_lateness: 1h, ", "")
    )
    site.deliver("a", 2, 4.5)
    site.deliver("b", 4.5, 4.6)
    site.run()
    assert site.complete() == at
    assert site.starts() == [h for h in (2, 4) if at is not None and h + 1 <= at]


def test_a_marker_that_goes_on_is_work_and_nothing_else_is(site: Site) -> None:
    site.text = alone(definition(a="marker: upto, delay: 1h", b="marker: upto"))
    site.deliver("a", 0, 30)
    site.deliver("b", 1)
    site.run()
    assert site.starts() == []
    (site.root / "upto").write_text("2024-05-01T03:00:00")
    assert site.run().status == "done"
    assert (site.starts(), site.complete()) == ([0], 1)
    assert site.run().status == "unchanged"
    # it does not go back
    (site.root / "upto").write_text("2024-05-01T01:00:00")
    assert site.run().status == "unchanged"
    (site.root / "upto").write_text("2024-05-03")
    site.run()
    assert site.starts() == [0, 1, 30]
    (site.root / "upto").write_text("soon" * 20)
    with pytest.raises(lp.SourceError) as found:
        site.run()
    text = "soon" * 15
    assert str(found.value) == (
        f"{site.root / 'upto'}: source 'a': the marker says '{text}…', which is not a date or time; write one such as 2024-01-31T12:00:00 into "
        "it, and nothing else"
    )


def test_heartbeats_move_the_watermark_and_are_no_rows(site: Site) -> None:
    site.text = definition(a="heartbeat: v < 0", b="heartbeat: v IS NULL").replace("allowed_lateness: 1h, ", "")

    def beat(source: str, hour: float, v: str) -> None:
        site.number += 1
        path = site.root / "in" / f"{source}-{site.number:03}.csv"
        path.write_text(f"at,v\n{T0 + timedelta(hours=hour)},{v}\n")

    site.deliver("a", 0, 0.5, 2)
    site.deliver("b", 1)
    first = site.run()
    assert (site.starts(), {s.name: dict(s.counts) for s in first.segments}["b"]) == ([0], {"b: heartbeats": 0})
    beat("a", 5, "-1")
    beat("b", 4.5, "")
    result = site.run()
    assert (site.starts(), site.complete()) == ([0, 1, 2], 4.5)
    assert [dict(s.counts) for s in result.segments[:2]] == [{"a: heartbeats": 1}, {"b: heartbeats": 1}]
    rows = lp.scan(str(site.root / "out/rows")).collect()
    assert sorted(rows["v"].to_list()) == [0, 0, 1, 2]
    assert site.run(full=True).status == "done"
    assert (site.starts(), site.complete()) == ([0, 1, 2], 4.5)


@given(
    files=st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 60), min_size=1, max_size=3)), min_size=2, max_size=5
    ),
    runs=st.lists(st.sampled_from([None, "all", "one"]), min_size=5, max_size=5),
)
@settings(max_examples=max(2, settings().max_examples // 20))
def test_however_it_came_hours_and_days_end_as_in_one_run(
    files: list[tuple[str, list[int]]], runs: list[str | None]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        site.text = definition(a="delay: 1h", b="delay: 0s")
        for (source, hours), how in zip([("a", []), ("b", []), *files], [None, None, *runs], strict=False):
            site.deliver(source, *hours)
            if how is not None:
                site.run(**({"max_files": 1} if how == "one" else {}))
        while site.run(max_files=1).left:
            pass
        days = {d: [h for h in site.starts() if d <= h < d + 24] for d in site.starts("daily")}
        counted = lp.scan(f"{folder}/out/daily").select("hours").collect().to_series()
        assert sorted(map(len, days.values())) == sorted(counted)
        found = [(o, site.starts(o), site.complete(o)) for o in ("hourly", "daily")]
        site.text = site.text.replace("out/", "anew/").replace("state/p", "state/q")
        site.run()
        os.rename(f"{folder}/out", f"{folder}/before")
        os.rename(f"{folder}/anew", f"{folder}/out")
        assert [(o, site.starts(o), site.complete(o)) for o in ("hourly", "daily")] == found


def test_windows_close_too_whose_figures_do_not_add_up(site: Site) -> None:
    site.text = site.text.replace("total: sum(v)", "total: median(v)").replace(
        "{n: count(*),", "{n: count(distinct v),"
    )
    site.deliver("a", 0)
    site.deliver("b", 0.5)
    site.run(day=0)
    site.deliver("a", 48)
    site.run(day=2)
    assert site.starts() == []
    why = "event time has reached 2024-05-02T23:30:00; 1 group touched, of 0 rows"
    assert whys(site.run(day=3.1))["hourly"] == why
    assert site.starts() == [0]


def test_what_keys_are_put_in_by_says_how_far_it_is(site: Site) -> None:
    site.text = site.text.replace("rows: {to: out/rows}", "rows: {to: out/rows, mode: upsert, key: [at]}")
    site.text = site.text.replace(
        "rows: {from: a, do: [{union: b}]}", "rows: {from: a, do: [{union: b}, {sort: [at, v]}]}"
    )
    site.deliver("a", 0)
    site.deliver("b", 0.5)
    site.run(day=0)
    site.deliver("a", 48)
    site.run(day=2)
    assert site.complete("rows") == 0.5
    result = site.run(day=3.1)
    assert (whys(result)["rows"], site.complete("rows")) == ("event time has reached 2024-05-02T23:30:00", 47.5)
    assert lp.scan(str(site.root / "out/rows")).collect().height == 3
