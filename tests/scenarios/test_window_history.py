"""What each version said of a window, and why it changed."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.vacuum import vacuum
from tests.scenarios.test_panes import T0, Feed

DEFINITION = """
version: 1
name: p
sources:
  a: {uri: in/*.csv, event_time: at, watermark: {delay: 0s}, contract: {columns: {at: Datetime(us), k: String, v: Int64}}}
stages:
  hourly:
    from: a
    do:
      - window: {time: at, every: [1h, 1d], by: [k], aggregate: {n: count(*), total: sum(v)}}
outputs:
  hourly: {to: out/hourly}
  raw: {from: a, to: out/raw.csv, format: csv}
"""


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    made = Feed(tmp_path, DEFINITION)
    made.deliver("1", (0.5, "a", 1), (0.7, "b", 9))
    made.run()  # r2
    made.deliver("2", (0.6, "a", 2), (1.0, "a", 5))
    made.run()  # r4: reached 1.0
    made.deliver("3", (3, "b", 5))
    made.run()  # r6: says nothing of a
    made.deliver("4", (0.1, "a", 40), (9, "a", 4))
    made.run()  # r8
    made.deliver("4", (9, "a", 4))
    made.run()  # r10: a correction
    return made


def test_each_pane_says_what_came_and_why(feed: Feed) -> None:
    history = lp.window_history(feed.plan, "hourly", {"k": "a"}, (T0, T0 + timedelta(hours=1)))
    told = [
        (p.number, p.version, p.run, p.timing, None if p.row is None else (p.row["n"], p.row["total"]))
        for p in history.panes
    ]
    assert told == [
        (0, 1, "r2", "early", (1, 1)),
        (1, 2, "r4", "on_time", (2, 3)),
        (2, 4, "r8", "late", (3, 43)),
        (3, 5, "r10", "late", (2, 3)),
    ]
    names = [([Path(u).name for u in p.came], [Path(u).name for u in p.went]) for p in history.panes]
    assert names == [(["1.csv"], []), (["2.csv"], []), (["4.csv"], []), (["4.csv"], ["4.csv"])]
    assert [p.why for p in history.panes] == [
        "nothing was committed yet",
        "a: 1 added, 1 unchanged",
        "a: 1 added, 3 unchanged; 3 groups touched, of 6 rows",
        "a: 1 modified (1 shorter), 3 unchanged; 3 groups touched, of 7 rows",
    ]
    # rows are those that are in the window now: what the fourth file said first is gone
    rows = [p.rows["a"].select("k", "v").rows() if p.rows else [] for p in history.panes]
    assert rows == [[("a", 1)], [("a", 2)], [], []]
    assert str(history).splitlines()[1].startswith("1: version 2 on time: k=a, window=1h")


def test_what_vacuum_took_away_is_not_made_up(feed: Feed) -> None:
    vacuum(Dataset(str(feed.root / "out/hourly")), keep=3, older_than=timedelta(0))
    # versions 3 to 5 are left; the third says nothing of this window but how it was by then
    history = lp.window_history(feed.plan, "hourly", {"k": "a"}, (T0, T0 + timedelta(hours=1)))
    told = [(p.number, p.version, p.timing, (p.row or {})["n"], p.why) for p in history.panes]
    assert told == [
        (0, 3, None, 2, "as it was by then: versions before this one are vacuumed"),
        (1, 4, "late", 3, "a: 1 added, 3 unchanged; 3 groups touched, of 6 rows"),
        (2, 5, "late", 2, "a: 1 modified (1 shorter), 3 unchanged; 3 groups touched, of 7 rows"),
    ]
    open_still = lp.window_history(feed.plan, "hourly", {"k": "a"}, (T0 + timedelta(hours=9), T0 + timedelta(hours=10)))
    assert [(p.version, p.timing) for p in open_still.panes] == [(4, "early")]


def test_changes_are_retractions(feed: Feed) -> None:
    changes = feed.plan.window_history("hourly", {"k": "a"}, ("2024-05-01T00:00:00", "2024-05-01T01:00:00")).changes()
    assert changes.select("_pane", "_change", "total").rows() == [
        (0, 1, 1),
        (1, -1, 1),
        (1, 1, 3),
        (2, -1, 3),
        (2, 1, 43),
        (3, -1, 43),
        (3, 1, 3),
    ]
    sums = changes.group_by("k").agg((pl.col("_change") * pl.col("total")).sum())
    assert sums.rows() == [("a", 3)]


def test_a_window_that_is_taken_away(feed: Feed) -> None:
    (feed.root / "in/3.csv").unlink()
    feed.run()
    pair = (T0 + timedelta(hours=3), T0 + timedelta(hours=4))
    first, last = feed.plan.window_history("hourly", {"k": "b"}, pair).panes
    assert (first.row is not None, last.row, last.before == first.row, last.rows) == (True, None, True, {})
    assert str(last).startswith("1: version 6 late: taken away (a: 1 removed")
    assert (
        str(feed.plan.window_history("hourly", {"k": "c"}, pair)) == "hourly: no version that is left has this window"
    )
    assert feed.plan.window_history("hourly", {"k": "c"}, pair).changes().is_empty()


def test_versions_with_other_columns_have_no_such_window(feed: Feed) -> None:
    text = DEFINITION.replace("every: [1h, 1d], by: [k]", "every: 1h").replace("out/", "other/")
    plan = lp.Pipeline.from_yaml(text, base=str(feed.root)).compile()
    plan.run().raise_for_status()
    again = lp.Pipeline.from_yaml(text.replace("every: 1h,", "every: 1h, by: [k],"), base=str(feed.root)).compile()
    again.run().raise_for_status()
    panes = again.window_history("hourly", {"k": "a"}, T0).panes
    assert [(p.version, p.number) for p in panes] == [(2, 0)]
    for path in (feed.root / "in").glob("*.csv"):
        path.unlink()
    feed.deliver("9", (90, "z", 1))
    # the sources do not give the window any more, and nothing has run since: its rows cannot be found again
    (pane,) = again.window_history("hourly", {"k": "a"}, T0).panes
    assert (pane.row is not None, pane.rows) == (True, {})


def test_without_a_ledger_or_a_watermark_less_is_known(feed: Feed) -> None:
    text = DEFINITION.replace(", watermark: {delay: 0s}", "").replace("name: p", "name: p\naudit: off")
    plan = lp.Pipeline.from_yaml(text.replace("out/", "other/"), base=str(feed.root)).compile()
    plan.run().raise_for_status()
    (pane,) = plan.window_history("hourly", {"k": "a"}, (T0, T0 + timedelta(hours=1))).panes
    assert (pane.timing, pane.why) == (None, None)
    assert str(pane).startswith("0: version 1: k=a")


@pytest.mark.parametrize(
    ("output", "key", "window", "message"),
    [
        ("hour", {}, T0, "unknown output 'hour'; did you mean 'hourly'?"),
        (
            "raw",
            {},
            T0,
            "output 'raw' has no windows: no column window_start or session_start; name the output of a stage with windows",
        ),
        ("hourly", {"kk": "a"}, T0, "output 'hourly' has no column 'kk'; did you mean 'k'?"),
        (
            "hourly",
            {"k": "a"},
            "soon",
            "output 'hourly': 'soon' is not a value of column 'window_start', which is Datetime(us); write one of that type",
        ),
        (
            "hourly",
            {},
            T0,
            (
                "output 'hourly': more than one window is meant; give all columns of its group, and (start, end) if windows are of "
                "several lengths"
            ),
        ),
    ],
)
def test_mistakes_are_told(feed: Feed, output: str, key: dict[str, Any], window: Any, message: str) -> None:
    with pytest.raises(lp.LazypipeError) as found:
        lp.window_history(feed.plan, output, key, window)
    assert str(found.value) == message


@pytest.mark.parametrize("kind", ["Datetime(us)", "Date", "'Datetime(us, UTC)'"])
def test_windows_that_end_after_the_last_day_of_pythons_calendar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """9999-12-31 stands for no end in many systems, and the window of that day ends the day after."""
    text = """
version: 1
name: p
sources: {a: {uri: "in/*.csv", event_time: at, watermark: {delay: 0s}, contract: {columns: {at: TYPE, v: Int64}}}}
stages: {w: {from: a, do: [window: {time: at, every: 1d, aggregate: {n: count(*)}}]}}
outputs: {w: {to: out/w, key: window_start}}
"""

    def told(*arguments: str) -> Any:
        capsys.readouterr()
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    file, clock = str(tmp_path / "p.yaml"), "" if kind == "Date" else "T01:00:00Z" if "UTC" in kind else "T01:00:00"
    (tmp_path / "p.yaml").write_text(text.replace("TYPE", kind))
    (tmp_path / "in").mkdir()
    for version in ("1", "2"):
        (tmp_path / f"in/{version}.csv").write_text(f"at,v\n9999-12-31{clock},{version}\n2024-02-29{clock},2\n")
        assert main(["run", file]) == 0
    rows = sorted(told("show", file, "w"), key=lambda row: str(row["window_start"]))
    assert [(row["window_start"][:10], row["window_end"][:12], row["n"]) for row in rows] == [
        ("2024-02-29", rows[0]["window_end"][:12], 2),
        ("9999-12-31", "+10000-01-01", 2),
    ]
    assert rows[0]["window_end"].startswith("2024-03-01")
    history = lp.window_history(lp.load(file).compile(), "w", {}, "9999-12-31")
    panes = [(p.timing, p.row and p.row["n"], p.row and str(p.row["window_end"])[:12]) for p in history.panes]
    assert panes == [("early", 1, "+10000-01-01"), ("early", 2, "+10000-01-01")]
    (traced,) = told("trace", file, "w", "--key", "window_start=9999-12-31")["rows"]
    assert (traced["n"], traced["window_end"][:12]) == (2, "+10000-01-01")
    changes = told("diff", f"{tmp_path}/out/w@1", f"{tmp_path}/out/w@2", "--key", "window_end")["changes"]
    assert [str(c["row"]["window_end"] if "row" in c else c["window_end"])[:10] for c in changes] == [
        "2024-03-01",
        "+10000-01-",
    ]
