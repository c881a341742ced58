"""Which windows are whole: judged on rows as a run sees them, on whatever thread."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

import lazypipe as lp
from lazypipe.compile.closing import closes, upstreams
from lazypipe.incremental.incomplete import Incomplete, told, written
from lazypipe.incremental.work import Work
from lazypipe.run.closing import Closing
from lazypipe.run.context import Run
from lazypipe.run.recorder import Recorder
from lazypipe.run.segment.whole import Whole
from lazypipe.windows.expectation import ROWS, STATS, Expectation, mark

T0 = datetime(2024, 5, 1)
HOUR = timedelta(hours=1)
TEXT = """
version: 1
name: p
audit: "off"
sources:
  a: {uri: in/*.parquet, event_time: at, watermark: {delay: 0s}, contract: {columns: {at: Datetime(us), k: String}}}
stages:
  hourly:
    from: a
    do:
      - window:
          {time: at, every: 1h, by: [k], emit: on_close, aggregate: {n: count(*)}, expect: {rows: 2, files: 1, values: {k: 2}},
           on_partial: emit, deadline: 6h, partial: is_partial}
outputs:
  hourly: {to: out/hourly}
"""


def whole(root: Path, *hours: float, now: float, text: str = TEXT) -> Whole:
    (root / "in").mkdir()
    pl.DataFrame({"at": [T0 + h * HOUR for h in hours], "k": ["x"] * len(hours)}).write_parquet(root / "in/1.parquet")
    plan = lp.Pipeline.from_yaml(text, base=str(root)).compile()
    moment = (T0 + now * HOUR).replace(tzinfo=UTC)
    recorder = Recorder(plan, "r", moment)
    run = Run(plan, "r", moment, root, lambda *_: None, recorder)
    node = plan.nodes["hourly"]
    closed = closes(node)
    assert closed is not None
    assert closed.expectation is not None
    return Whole(Closing(run, "hourly", Work("all", ""), {}), node, closed.expectation)


def rows(*found: tuple[int, str, int, int]) -> pl.LazyFrame:
    """Return windows by hour and key, with how many rows and values were found of the whole window."""
    return pl.LazyFrame(
        [
            (k, T0 + hour * HOUR, T0 + (hour + 1) * HOUR, 1, False, {ROWS: count, "__lazypipe_values_0": values})
            for hour, k, count, values in found
        ],
        schema={
            "k": pl.String,
            "window_start": pl.Datetime("us"),
            "window_end": pl.Datetime("us"),
            "n": pl.Int64,
            "is_partial": pl.Boolean,
            STATS: pl.Struct({ROWS: pl.Int64, "__lazypipe_values_0": pl.Int64}),
        },
        orient="row",
    )


def test_rows_of_windows_are_given_marked_or_held_back(tmp_path: Path) -> None:
    judge = whole(tmp_path, 0.5, 9.5, now=7.5)
    frame = rows((0, "x", 1, 1), (1, "x", 2, 2), (1, "y", 2, 2), (2, "x", 3, 1), (5, "x", 2, 2))
    kept = judge.attach(frame).collect()
    given = kept.select("window_start", "k", "is_partial").rows()
    assert given == [
        (T0, "x", True),
        (T0 + HOUR, "x", False),
        (T0 + HOUR, "y", False),
        (T0 + 5 * HOUR, "x", False),
    ]
    # once more on this thread
    assert judge._judge(frame.collect()).select("window_start", "k", "is_partial").rows() == given
    assert judge._judge(frame.clear().collect()).is_empty()
    found = judge.incomplete()
    assert [(w.lacks, w.held) for w in found] == [
        (("1 of 2 rows", "1 of 2 values of k"), False),
        (("1 of 2 values of k",), True),
        (("0 of 2 rows", "0 of 2 values of k"), True),
        (("0 of 2 rows", "0 of 2 values of k"), True),
        (("0 of 2 rows", "0 of 2 values of k"), True),
        (("0 of 2 rows", "0 of 2 values of k"), True),
        (("0 of 2 rows", "0 of 2 values of k"), True),
    ]
    micro = (T0 - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    assert (judge.hold(None), judge.hold(2**60), judge.hold(5)) == (None, micro + 2 * 3_600_000_000, 5)


def test_what_lacks_is_said_in_words() -> None:
    wanted = Expectation(values={"k": ("a", "b", "c", "d", 5), "v": (1,)})
    stats = {mark(0, 4): 1, mark(1, 0): 2}
    assert wanted.lacks(stats, 0, marked=False) == ["no k a, b, c and 1 more", "no marker"]
    assert wanted.lacks({mark(0, n): 1 for n in range(5)}, 0, marked=True) == ["no v 1"]


def test_windows_that_are_whole_are_given_as_they_are(tmp_path: Path) -> None:
    judge = whole(tmp_path, 0.5, 9.5, now=7.5)
    frame = rows((0, "x", 2, 2)).collect()
    assert judge._judge(frame).rows() == frame.rows()


def test_windows_that_are_waited_for_have_no_mark(tmp_path: Path) -> None:
    text = TEXT.replace(",\n           on_partial: emit, deadline: 6h, partial: is_partial", "")
    judge = whole(tmp_path, 0.5, 9.5, now=7.5, text=text)
    frame = rows((0, "x", 2, 2), (1, "x", 1, 2)).drop("is_partial").collect()
    assert judge._judge(frame)["window_start"].to_list() == [T0]


def test_what_is_read_twice_is_waited_for_once(tmp_path: Path) -> None:
    stages = "stages:\n  x: {from: a}\n  y: {from: a}\n  both: {from: x, do: [{union: y}]}\noutputs:\n  both: {to: out/both}\n"
    text = TEXT[: TEXT.index("stages:")] + stages
    plan = lp.Pipeline.from_yaml(text, base=str(tmp_path)).compile()
    assert [(u.name, u.wait) for u in upstreams(plan.nodes, "both", ())] == [("a", 0)]
    (tmp_path / "in").mkdir()
    pl.DataFrame({"at": [T0], "k": ["x"]}).write_parquet(tmp_path / "in/1.parquet")
    # without a watermark there is none to go on
    plan = lp.Pipeline.from_yaml(text.replace("watermark: {delay: 0s}, ", ""), base=str(tmp_path)).compile()
    assert [plan.run().status for _ in range(2)] == ["done", "unchanged"]


def test_many_windows_are_named_in_part() -> None:
    windows = [Incomplete(n, n + 1, ("no marker",), 0, held=True) for n in range(1_002)]
    assert (len(written(windows)["windows"]), written(windows)["more"]) == (1_000, 2)
    assert (len(told(windows)["incomplete"]), told(windows, 3)["more_incomplete"]) == (1_000, 5)
