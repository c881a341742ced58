"""A year of history is worked off in pieces, in any order, while new files come: what is there equals what one run makes of all."""

from __future__ import annotations

import json
import shutil
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.run import deciding
from lazypipe.run.backfill import TimeRange
from tests.delivered import put

DEFINITION = """
version: 1
name: days
sources:
  readings:
    uri: in/*.{fmt}
    event_time: at
    {watermark}
    contract: {{columns: {{at: Datetime(us), value: Int64}}}}
  sites: {{uri: sites.csv}}
stages:
  daily:
    from: readings
    do: [{{window: {{time: at, every: 1d, {late}aggregate: {{n: count(*), total: sum(value)}}}}}}]
outputs:
  daily: {{to: {out}/daily, key: window_start}}
state: {out}/state
"""
T0 = datetime(2024, 1, 1)


class History:
    def __init__(self, root: Path, fmt: str = "csv", *, late: bool = False) -> None:
        self.root, self.fmt, self.late = root, fmt, late
        (root / "in").mkdir(exist_ok=True)
        (root / "sites.csv").write_text("site\na\n")

    def deliver(self, day: int, hours: list[int]) -> None:
        times = [T0 + timedelta(days=day, hours=h) for h in hours]
        frame = pl.DataFrame({"at": times, "value": hours}, schema={"at": pl.Datetime("us"), "value": pl.Int64})
        put(self.root / "in" / f"{day:03}.{self.fmt}", frame, 1_750_000_000 + day)

    def plan(self, out: str = "out") -> lp.Plan:
        watermark = "watermark: {delay: 0s}" if self.late else ""
        late = "late: quarantine, " if self.late else ""
        text = DEFINITION.format(fmt=self.fmt, watermark=watermark, late=late, out=out)
        return lp.Pipeline.from_yaml(text, base=str(self.root)).compile()

    def held(self, out: str = "out") -> tuple[list[Any], list[Any]]:
        rows = lp.scan(str(self.root / out / "daily")).sort("window_start").collect().rows()
        late = (
            self.plan(out).late("daily").select("at", "value").sort("at", "value").collect().rows() if self.late else []
        )
        return rows, late


def day(number: int) -> datetime:
    return T0 + timedelta(days=number)


@given(
    files=st.lists(st.lists(st.integers(0, 60), max_size=3), min_size=2, max_size=6),
    ranges=st.lists(st.tuples(st.integers(-1, 7), st.integers(1, 4)), max_size=4),
    live=st.integers(0, 6),
    fmt=st.sampled_from(["csv", "parquet"]),
    late=st.booleans(),
)
@settings(max_examples=settings().max_examples // 4)
def test_ranges_in_any_order_end_in_what_one_run_makes(
    files: list[list[int]], ranges: list[tuple[int, int]], live: int, fmt: str, late: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder), fmt, late=late)
        for number, hours in enumerate(files[:live]):
            history.deliver(number, hours)
        history.deliver(90, [0])
        for index, (start, length) in enumerate(ranges):
            if index == 1:
                for number, hours in enumerate(files[live:], live):
                    history.deliver(number, hours)
            history.plan().run(window=(day(start), day(start + length))).raise_for_status()
            # windows that lie in the range are whole
            history.plan(f"all{index}").run().raise_for_status()
            whole = [r for r in history.held(f"all{index}")[0] if day(start) <= r[0] and r[1] <= day(start + length)]
            assert [r for r in history.held()[0] if day(start) <= r[0] and r[1] <= day(start + length)] == whole
        for number, hours in enumerate(files):
            history.deliver(number, hours)
        history.plan().run().raise_for_status()
        history.plan("anew").run().raise_for_status()
        assert history.held() == history.held("anew")


@pytest.fixture
def history(tmp_path: Path) -> History:
    made = History(tmp_path)
    for number in range(10):
        made.deliver(number, [number])
    return made


def test_only_files_with_times_in_the_range_are_read(history: History) -> None:
    result = history.plan().run(window=(day(3), day(5)))
    assert (result.status, result.segments[0].rows) == ("done", 2)
    assert [r[0] for r in history.held()[0]] == [day(3), day(4)]
    assert history.plan().run(window=(day(3), day(5))).status == "unchanged"
    assert history.plan().run(window=(None, "2024-01-02")).segments[0].why == (
        "readings: 1 added, 2 unchanged; 1 group touched, of 2 rows"
    )
    assert history.plan().run(window="2024-01-09..").segments[0].rows == 5
    assert history.plan().run().segments[0].rows == 10


def test_a_file_that_was_read_stays_and_its_changes_are_followed(history: History) -> None:
    history.plan().run(window=(day(0), day(2)))
    history.deliver(0, [5, 6])
    result = history.plan().run(window=(day(8), day(9)))
    assert result.segments[0].why == "readings: 1 added, 1 modified, 1 unchanged"
    assert [(r[0], r[2]) for r in history.held()[0]] == [(day(0), 2), (day(1), 1), (day(8), 1)]


def test_sources_without_a_time_and_windows_over_other_columns(history: History) -> None:
    text = DEFINITION.format(fmt="csv", watermark="watermark: {column: at}", late="", out="out")
    text = text.replace(
        "do: [{window: {time: at", "do: [{derive: {day: at}}, {join: {with: sites, how: cross}}, {window: {time: day"
    )
    plan = lp.Pipeline.from_yaml(text, base=str(history.root)).compile()
    (step,) = plan.preview(window=(day(3), day(5)))
    assert ({r["name"]: r["files"] for r in step["reads"]}, step["windows"]) == ({"readings": 2, "sites": 1}, {})
    plan.run(window=(day(3), day(5))).raise_for_status()
    assert [r[0] for r in history.held()[0]] == [day(3), day(4)]


def test_pieces_are_runs_that_go_on_where_they_ended(history: History) -> None:
    pieces = history.plan().backfill((day(0), day(10)), chunk="3d")
    first, second = next(pieces), next(pieces)
    assert (first.segments[0].rows, second.segments[0].rows) == (3, 6)
    # broken off here; live runs go on meanwhile
    history.plan().run(window=(day(9), None)).raise_for_status()
    again = list(history.plan().backfill((day(0), day(10)), chunk=timedelta(days=3)))
    assert [r.status for r in again] == ["unchanged", "unchanged", "done", "unchanged"]
    assert len(history.held()[0]) == 10


@pytest.mark.parametrize("times", [1, 3])
def test_a_piece_that_another_run_overtook_begins_again(
    history: History, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    decide, won = deciding.decide, list[str]()

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        """Let a live run go by, right after this one has looked at what there is to do."""
        work = decide(*args, **kwargs)
        if len(won) < times:
            with monkeypatch.context() as inner:
                inner.setattr(deciding, "decide", decide)
                won.append(history.plan().run(window=(day(9 - len(won)), None)).status)
        return work

    monkeypatch.setattr(deciding, "decide", overtaken)
    found = list(history.plan().backfill((day(0), day(6)), chunk="3d"))
    assert won == ["done"] * times
    if times == 3:
        assert [(r.status, r.overtaken) for r in found] == [("error", True)]
    else:
        assert [r.status for r in found] == ["done", "done"]
        assert len(history.held()[0]) == 7


def test_a_piece_that_fails_is_the_last(history: History) -> None:
    (history.root / "in/004.csv").write_text("at,value\nwhen,x\n")
    found = list(history.plan().backfill((day(0), day(10)), chunk="2d"))
    assert found[-1].status == "error"
    assert len(found) < 5


def test_a_preview_says_what_a_range_touches(history: History) -> None:
    (step,) = history.plan().preview(window=(day(3), day(5)))
    size = sum((history.root / "in" / f"00{n}.csv").stat().st_size for n in (3, 4))
    assert step["reads"] == [{"name": "readings", "files": 2, "of": 2, "bytes": size, "rows": None}]
    assert step["windows"] == {"daily": 2}
    history.plan().run(window=(day(3), day(4)))
    assert history.plan().preview(window=(day(3), day(5)))[0]["windows"] == {"daily": 1}
    assert "windows" not in history.plan().preview()[0]
    assert not (history.root / "out/daily/x").exists()


def test_a_preview_says_what_a_range_touches_behind_what_outputs_share(history: History) -> None:
    weekly = "  weekly: {from: readings, do: [{window: {time: at, every: 1w, aggregate: {n: count(*)}}}]}\n"
    gated = "watermark: {delay: 0s}\n    on_bad_time: quarantine"
    text = DEFINITION.format(fmt="csv", watermark=gated, late="", out="out")
    text = text.replace("outputs:\n", f"{weekly}outputs:\n  weekly: {{to: out/weekly}}\n")
    plan = lp.Pipeline.from_yaml(text, base=str(history.root)).compile()
    steps = {s["name"]: s for s in plan.preview(window=(day(5), day(9)))}
    # the rows of readings are kept for the run, as both need those that its gate lets through
    assert [(r["name"], r["files"]) for r in steps["readings"]["reads"]] == [("readings", 4)]
    assert {n: s["windows"] for n, s in steps.items()} == {
        "readings": {}, "daily": {"daily": 4}, "weekly": {"weekly": 2},
    }  # fmt: skip


def test_the_command_line_takes_ranges_and_pieces(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    file = history.root / "p.yaml"
    file.write_text(DEFINITION.format(fmt="csv", watermark="", late="", out="out"))
    assert main(["plan", str(file), "--window", "2024-01-01..2024-01-03"]) == 0
    assert "    touches daily: 2 windows\n" in capsys.readouterr().out
    assert main(["run", str(file), "--window", "2024-01-01..2024-01-03"]) == 0
    assert main(["run", str(file), "--window", "2024-01-01..2024-01-09", "--chunk", "4d"]) == 0
    assert len(history.held()[0]) == 8
    assert main(["run", str(file), "--chunk", "4d"]) == 2
    assert "--chunk is for a run with --window, and without --full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("2024", "'2024' is not a range of event time; write START..END, such as 2024-01-01..2024-02-01"),
        (("soon", None), "'soon' is not a time; write one such as 2024-01-31 or 2024-01-31T12:00"),
        ((5, None), "5 is not a time; give a datetime, a date, or a text such as 2024-01-31"),
        (
            (date(2024, 1, 2), date(2024, 1, 1)),
            "the range from 2024-01-02 00:00:00 ends at 2024-01-01 00:00:00; the end must be later",
        ),
    ],
)
def test_ranges_that_are_none(history: History, window: Any, message: str) -> None:
    with pytest.raises(lp.LazypipeError) as found:
        history.plan().run(window=window)
    assert str(found.value) == message


@pytest.mark.parametrize(
    ("window", "chunk", "message"),
    [
        ((None, day(1)), "1d", "the range ..2024-01-02T00:00:00 has no start; pieces need both"),
        ((day(1), None), "1d", "the range 2024-01-02T00:00:00.. has no end; pieces need both"),
        ((day(1), day(2)), "soon", "chunk: 'soon' is not a duration such as 90s, 15m, 2h, 3d or 1w"),
        ((day(1), day(2)), "0d", "chunk: 0d is not a length; write one such as 1d"),
    ],
)
def test_pieces_that_are_none(history: History, window: Any, chunk: str, message: str) -> None:
    with pytest.raises(lp.LazypipeError) as found:
        next(history.plan().backfill(window, chunk=chunk))
    assert str(found.value) == message


def test_a_pipeline_without_event_times_has_no_ranges(history: History) -> None:
    text = DEFINITION.format(fmt="csv", watermark="", late="", out="out").replace("    event_time: at\n", "")
    plan = lp.Pipeline.from_yaml(text, base=str(history.root)).compile()
    for ask in (plan.run, plan.preview):
        with pytest.raises(lp.LazypipeError, match="no source has an event time"):
            ask(window=(day(1), day(2)))


def test_a_range_with_a_time_zone_is_that_moment(history: History) -> None:
    berlin = datetime(2024, 1, 4, 1, tzinfo=UTC) - timedelta(hours=1)
    assert history.plan().run(window=(berlin, berlin + timedelta(days=1))).segments[0].rows == 1


READER = """
version: 1
name: reader
sources:
  rows: {{uri: out/rows, event_time: at}}
  daily: {{uri: out/daily, event_time: window_start}}
stages:
  hourly:
    from: rows
    do: [{{window: {{time: at, every: 1h, aggregate: {{{aggregate}}}}}}}]
  weekly:
    from: daily
    do: [{{window: {{time: window_start, every: 1w, aggregate: {{n: sum(n)}}}}}}]
outputs:
  hourly: {{to: {out}/hourly}}
  weekly: {{to: {out}/weekly}}
state: {out}/state
"""


class Datasets(History):
    """Files whose rows are published as a dataset, and their days as another one, which another pipeline reads."""

    def publish(self) -> None:
        text = DEFINITION.format(fmt="csv", watermark="", late="", out="out")
        text = text.replace("to: out/daily,", "to: out/daily, partition_by: [total],")
        text = text.replace(
            "outputs:\n", "  rows: {from: readings, do: [{filter: value >= 0}]}\noutputs:\n  rows: {to: out/rows}\n"
        )
        lp.Pipeline.from_yaml(text, base=str(self.root)).compile().run().raise_for_status()

    def reader(self, out: str = "read", aggregate: str = "n: count(*)") -> lp.Plan:
        return lp.Pipeline.from_yaml(READER.format(out=out, aggregate=aggregate), base=str(self.root)).compile()

    def read(self, out: str = "read") -> dict[str, list[Any]]:
        scan = {n: lp.scan(str(self.root / out / n)).sort("window_start") for n in ("hourly", "weekly")}
        return {n: rows.collect().rows() for n, rows in scan.items()}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Datasets(tmp_path_factory.mktemp("published"))
    for number in range(10):
        made.deliver(number, [number])
        made.publish()
    return made.root


@pytest.fixture
def datasets(published: Path, tmp_path: Path) -> Datasets:
    made = Datasets(tmp_path)
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    return made


def test_of_a_dataset_only_parts_with_times_in_the_range_are_read(datasets: Datasets) -> None:
    steps = {s["name"]: s for s in datasets.reader().preview(window=(day(3), day(5)))}
    assert [(r["files"], r["of"]) for r in steps["hourly"]["reads"]] == [(2, 10)]
    assert steps["hourly"]["windows"] == {"hourly": 2}
    result = datasets.reader().run(window=(day(3), day(5)))
    found = datasets.read()
    assert ([r[0].day for r in found["hourly"]], result.window) == ([4, 5], "2024-01-04T00:00:00..2024-01-06T00:00:00")
    assert [r[2] for r in found["weekly"]] == [2]
    assert steps["weekly"]["reads"] == [{**steps["weekly"]["reads"][0], "files": 2, "of": 2}]
    again = datasets.reader().run(window=(day(3), day(5)))
    assert again.status == "unchanged"
    list(datasets.reader().backfill((day(0), day(9)), chunk="2d"))
    assert [r[0].day for r in datasets.read()["hourly"]] == list(range(1, 10))
    datasets.reader().run().raise_for_status()
    datasets.reader("anew").run().raise_for_status()
    assert datasets.read() == datasets.read("anew")


def test_bounded_runs_over_a_range_of_a_dataset(datasets: Datasets) -> None:
    result = datasets.reader().run(window=(day(2), day(6)), max_files=3)
    assert len(datasets.read()["hourly"]) == 3
    assert result.segments[0].left == 7
    datasets.reader().run(window=(day(2), day(6)), max_files=3)
    assert [r[0].day for r in datasets.read()["hourly"]] == [3, 4, 5, 6]


def test_figures_that_do_not_add_up_are_made_of_the_range_alone(datasets: Datasets) -> None:
    plan = datasets.reader(aggregate="m: median(value)")
    plan.run(window=(day(2), day(4))).raise_for_status()
    assert [r[0].day for r in datasets.read()["hourly"]] == [3, 4]
    plan.run().raise_for_status()
    assert len(datasets.read()["hourly"]) == 10


def test_where_a_dataset_was_written_anew_all_of_it_is_read(datasets: Datasets) -> None:
    datasets.reader().run(window=(day(0), day(2))).raise_for_status()
    datasets.deliver(0, [3, 4])
    datasets.publish()
    datasets.reader().run(window=(day(5), day(6))).raise_for_status()
    datasets.reader("anew").run().raise_for_status()
    assert datasets.read() == datasets.read("anew")


def test_a_dataset_whose_footers_say_nothing_is_read_as_it_is(datasets: Datasets) -> None:
    text = READER.format(out="read", aggregate="n: count(*)").replace(
        "rows: {uri: out/rows, event_time: at}",
        "rows: {uri: out/rows, event_time: t, contract: {columns: {t: {type: Datetime(us), alias: at}}}}",
    )
    plan = lp.Pipeline.from_yaml(text.replace("time: at", "time: t"), base=str(datasets.root)).compile()
    plan.run(window=TimeRange(day(3), day(4)), outputs=["hourly"]).raise_for_status()
    assert len(lp.scan(str(datasets.root / "read/hourly")).collect()) == 10
    # what stands in the names of folders stands in no file
    parted = "version: 1\nname: w\nstate: w\nsources: {a: {uri: out/daily}}\noutputs: {a: {to: out/parted, partition_by: window_start}}"
    lp.Pipeline.from_yaml(parted, base=str(datasets.root)).compile().run().raise_for_status()
    plan = lp.Pipeline.from_yaml(
        READER.format(out="read", aggregate="n: count(*)").replace("out/daily", "out/parted"), base=str(datasets.root)
    ).compile()
    plan.run(window=(day(3), day(4)), outputs=["weekly"]).raise_for_status()
    assert sorted(lp.scan(str(datasets.root / "read/weekly")).collect()["n"]) == [3, 7]


def test_records_say_the_range_of_a_run(history: History) -> None:
    result = history.plan().run(window=("2024-01-03", None))
    said = "2024-01-03T00:00:00.."
    assert json.loads(Path(result.record).read_text())["window"] == said
    (entry,) = lp.Ledger(str(history.root / "out/state/ledger")).runs("daily")
    assert (result.window, entry.body["window"]) == (said, said)
    assert "window" not in json.loads(Path(history.plan().run().record).read_text())
