"""Readings come hour by hour, some of them late: what becomes of them, file by file."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.storage.datasets.dataset import Dataset

T0 = datetime(2024, 3, 1)
DEFINITION = """
version: 1
name: readings
sources:
  readings:
    uri: in/*.csv
    event_time: at
    watermark: {delay: 10m, by: site, tolerance: 2d}
    on_bad_time: quarantine
    contract: {columns: {at: Datetime(us), site: String, value: Int64}}
stages:
  hourly:
    from: readings
    do:
      - filter: value >= 0
      - window:
          {time: at, every: 1h, by: [site], allowed_lateness: 2h, late: quarantine,
           aggregate: {n: count(*), total: sum(value)}}
outputs:
  hourly: {to: out/hourly, key: [site, window_start]}
"""

Reading = tuple[str, str, int]


class Station:
    """A folder that readings are delivered into, and the pipeline over it."""

    def __init__(self, root: Path, definition: str = DEFINITION) -> None:
        self.root, self.definition = root, definition
        (root / "in").mkdir()
        self.clock = 1_709_250_000

    def deliver(self, name: str, *readings: Reading, age: int = 0) -> None:
        path = self.root / "in" / f"{name}.csv"
        path.write_text(
            "at,site,value\n" + "".join(f"{at and f'2024-03-{at}:00'},{site},{value}\n" for at, site, value in readings)
        )
        self.clock += 3_600
        stamp = self.clock + 40 * 86_400 - age
        os.utime(path, (stamp, stamp))

    @property
    def plan(self) -> lp.Plan:
        return lp.Pipeline.from_yaml(self.definition, base=str(self.root)).compile()

    def run(self, **more: Any) -> lp.RunResult:
        result = self.plan.run(**more)
        result.raise_for_status()
        return result

    def hours(self, site: str = "a") -> dict[str, tuple[int, int]]:
        rows = lp.scan(str(self.root / "out/hourly")).filter(pl.col("site") == site).sort("window_start").collect()
        return {f"{r['window_start']:%d %H}": (r["n"], r["total"]) for r in rows.iter_rows(named=True)}

    def late(self) -> list[tuple[Any, ...]]:
        rows = self.plan.late("hourly").sort("at", "site", "value").collect()
        return [
            (
                f"{r['at']:%d %H:%M}",
                r["site"],
                r["value"],
                f"{r['window_start']:%d %H}-{r['window_end']:%H}",
                r["late_by"],
            )
            for r in rows.iter_rows(named=True)
        ]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def test_late_by_minutes_hours_days_and_beyond(station: Station) -> None:
    station.deliver("01", ("01 08:05", "a", 1), ("01 09:10", "a", 2))
    station.run()
    # reached: 09:00. minutes late: the hour of 08 ended at 09:00, and takes rows until 11:00
    station.deliver("02", ("01 08:59", "a", 10), ("01 12:30", "a", 3))
    station.run()
    assert station.hours() == {"01 08": (2, 11), "01 09": (1, 2), "01 12": (1, 3)}
    # reached: 12:20. the hour of 09 closed at 12:00, that of 10 takes rows until 13:00
    station.deliver("03", ("01 09:59", "a", 20), ("01 10:00", "a", 30), ("05 00:00", "a", 4))
    result = station.run()
    assert station.hours() == {"01 08": (2, 11), "01 09": (1, 2), "01 10": (1, 30), "01 12": (1, 3), "05 00": (1, 4)}
    assert station.late() == [("01 09:59", "a", 20, "01 09-10", timedelta(minutes=20))]
    assert (result.gates["hourly__late"].rows, result.gates["hourly__late"].quarantined) == (7, 1)
    # days late, and more
    station.deliver("04", ("01 12:00", "a", 40), ("01 08:00", "a", 50), ("04 22:00", "a", 60))
    station.run()
    assert station.hours()["01 12"] == (1, 3)
    assert station.hours()["04 22"] == (1, 60)
    assert [(at, by) for at, _, _, _, by in station.late()] == [
        ("01 08:00", timedelta(days=3, hours=12, minutes=50)),
        ("01 09:59", timedelta(minutes=20)),
        ("01 12:00", timedelta(days=3, hours=8, minutes=50)),
    ]


def test_the_run_and_the_file_of_a_late_row_are_known(station: Station) -> None:
    station.deliver("01", ("01 20:00", "a", 1))
    station.run()
    assert station.plan.late("hourly").collect().height == 0
    station.deliver("02", ("01 08:00", "a", 2))
    station.run(run="the-second")
    row = station.plan.late("hourly").collect().row(0, named=True)
    assert row["_lazypipe_run"] == "the-second"
    assert row["_lazypipe_rules"] == ["late:at"]
    assert row["_lazypipe_file"].endswith("02.csv")
    assert row["_watermark"] == datetime(2024, 3, 1, 19, 50)


def test_rows_of_one_file_are_never_late_to_each_other(station: Station) -> None:
    station.deliver("01", ("09 23:00", "a", 1), ("01 00:00", "a", 2), ("05 12:00", "a", 3))
    station.run()
    assert station.hours() == {"01 00": (1, 2), "05 12": (1, 3), "09 23": (1, 1)}
    assert station.late() == []


def test_a_corrected_delivery_changes_what_it_said_and_what_it_made_late(station: Station) -> None:
    station.deliver("01", ("01 08:00", "a", 1), ("02 08:00", "a", 99))
    station.deliver("02", ("01 08:30", "a", 2))
    station.run()
    assert (station.hours(), len(station.late())) == ({"01 08": (1, 1), "02 08": (1, 99)}, 1)
    # the 2nd of March was a mistake: without it the row of the second file came in time
    station.deliver("01", ("01 08:00", "a", 1), ("01 09:00", "a", 98))
    result = station.run()
    assert (station.hours(), station.late()) == ({"01 08": (2, 3), "01 09": (1, 98)}, [])
    assert result.segments[0].why == "readings: 1 modified, 1 unchanged, 1 under a different watermark"
    station.run(full=True)
    assert (station.hours(), station.late()) == ({"01 08": (2, 3), "01 09": (1, 98)}, [])


def test_a_site_whose_clock_runs_ahead_makes_no_other_late(station: Station) -> None:
    station.deliver("01", ("01 08:00", "a", 1), ("03 08:00", "b", 2))
    station.deliver("02", ("01 08:30", "a", 3), ("01 09:00", "b", 4))
    station.run()
    assert station.hours("a") == {"01 08": (2, 4)}
    assert station.late() == [("01 09:00", "b", 4, "01 09-10", timedelta(days=1, hours=19, minutes=50))]


def test_times_that_are_none_move_nothing_and_are_put_aside(station: Station) -> None:
    station.deliver("01", ("01 08:00", "a", 1), ("", "a", 7), age=40 * 86_400)  # written on the 1st of March
    path = station.root / "in/01.csv"
    stamp = path.stat().st_mtime
    path.write_text(path.read_text() + "2999-01-01 00:00:00,a,8\n")
    os.utime(path, (stamp, stamp))
    station.deliver("02", ("01 08:10", "a", 2))
    result = station.run()
    assert station.hours() == {"01 08": (2, 3)}
    assert station.late() == []
    aside = lp.scan(str(station.root / ".lazypipe/quarantine/readings/readings")).collect()
    assert sorted(aside["value"]) == [7, 8]
    assert result.gates["readings"].quarantined == 2


def test_part_of_a_delivery_and_then_the_rest(station: Station) -> None:
    station.definition = DEFINITION.replace("on_bad_time", 'expect: {marker: "{name}.done"}\n    on_bad_time')
    station.deliver("01", ("01 08:00", "a", 1))
    (station.root / "in/01.csv.done").touch()
    station.deliver("02", ("05 08:00", "a", 2))  # not whole yet: it moves nothing
    station.deliver("03", ("01 08:30", "a", 3))
    (station.root / "in/03.csv.done").touch()
    station.run()
    assert (station.hours(), station.late()) == ({"01 08": (2, 4)}, [])
    (station.root / "in/02.csv.done").touch()
    station.run()
    assert station.hours() == {"01 08": (1, 1), "05 08": (1, 2)}
    assert [late[0] for late in station.late()] == ["01 08:30"]


def test_dropped_rows_are_counted_and_late_rows_may_stop_a_run(station: Station) -> None:
    station.definition = DEFINITION.replace("late: quarantine", "late: drop")
    station.deliver("01", ("02 08:00", "a", 1))
    station.deliver("02", ("01 08:00", "a", 2), ("02 08:00", "a", 3))
    result = station.run()
    assert (result.gates["hourly__late"].dropped, result.gates["hourly__late"].good) == (1, 2)
    with pytest.raises(
        lp.LazypipeError, match="stage 'hourly' quarantines no late rows; say late: quarantine in its window"
    ):
        station.plan.late("hourly")
    with pytest.raises(lp.LazypipeError, match="unknown output 'hour'; did you mean 'hourly'?"):
        station.plan.late("hour")
    station.definition = DEFINITION.replace("late: quarantine", "late: fail")
    failed = station.plan.run()
    assert failed.status == "gate_failed"
    with pytest.raises(lp.GateError, match="late:at"):
        failed.raise_for_status()
    assert station.hours() == {"02 08": (2, 4)}


def test_by_default_late_rows_update_their_windows(station: Station) -> None:
    station.definition = DEFINITION.replace(", allowed_lateness: 2h, late: quarantine", "")
    station.deliver("01", ("20 08:00", "a", 1))
    station.run()
    station.deliver("02", ("01 08:00", "a", 2))
    result = station.run()
    assert station.hours() == {"01 08": (1, 2), "20 08": (1, 1)}
    assert "hourly__late" not in result.gates


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("beside", [False, True])
def test_late_rows_that_are_let_in_are_aside_no_more(station: Station, inner: bool, beside: bool) -> None:
    """Also where what puts them in windows is no output, or another output only adds rows."""
    inner_stage = "  top:\n    from: hourly\n    do:\n      - filter: n > 0\noutputs:\n  top: {to: out/hourly, key: [site, window_start]}\n"
    definition = DEFINITION.rpartition("outputs:\n")[0] + inner_stage if inner else DEFINITION
    station.definition = definition + ("  readings: {to: out/all, mode: append}\n" if beside and not inner else "")
    station.deliver("01", ("20 08:00", "a", 1))
    station.deliver("02", ("01 08:00", "a", 2))
    station.run()
    aside = str(station.root / ".lazypipe/quarantine/readings/hourly__late")
    assert lp.scan(aside).collect()["value"].to_list() == [2]
    letting = station.definition.replace("late: quarantine", "late: update")
    holding, station.definition = station.definition, letting
    station.run()
    assert station.hours() == {"01 08": (1, 2), "20 08": (1, 1)}
    assert lp.scan(aside).collect().is_empty()
    assert {s.status for s in station.run().segments if s.output} == {"unchanged"}
    station.definition = holding
    station.run()
    assert lp.scan(aside).collect()["value"].to_list() == [2]
    assert station.hours() == {"20 08": (1, 1)}


def test_times_are_read_once(station: Station) -> None:
    for number in range(1, 5):
        station.deliver(f"0{number}", (f"0{number} 08:00", "a", number))
        station.run()
    commit = Dataset(str(station.root / "out/hourly")).latest()
    assert commit is not None
    said = commit.info["consumed"]["arrivals"]["readings"]["files"]
    high = [int((datetime(2024, 3, d, 8) - datetime(1970, 1, 1)).total_seconds() * 1e6) for d in range(1, 5)]
    assert [times for _, _, times, _ in said] == [{"=a": [h, h]} for h in high]


def test_late_rows_are_vacuumed_as_all_that_is_put_aside(station: Station) -> None:
    station.deliver("01", ("20 08:00", "a", 1))
    station.deliver("02", ("01 08:00", "a", 2))
    station.run()
    station.deliver("03", ("01 08:00", "a", 3))
    station.run()
    station.run(full=True)
    aside = Dataset(str(station.root / ".lazypipe/quarantine/readings/hourly__late"))
    assert len(aside.log.versions()) == 3
    lp.vacuum(station.plan.pipeline, older_than=timedelta(0))
    assert len(aside.log.versions()) == 1
    assert len(station.late()) == 2


def test_a_replay_says_which_rows_it_does_not_move(station: Station, capsys: pytest.CaptureFixture[str]) -> None:
    station.deliver("01", ("20 08:00", "a", 1), ("", "a", 7))  # one that has no time
    station.deliver("02", ("01 08:00", "a", 2), ("02 08:00", "a", 3))
    station.run()
    assert len(station.late()) == 2
    found = station.plan.replay("hourly")
    assert (found.remaining, found.elsewhere) == (0, {"hourly__late": 2, "readings": 1})
    definition = station.root / "p.yaml"
    definition.write_text(DEFINITION)
    (status,) = lp.load(definition).status()
    assert (status["quarantined"], status["ahead"]) == (0, {"hourly__late": 2, "readings": 1})
    assert station.plan.status() == [status]
    assert main(["status", str(definition)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "2 rows in hourly__late, upstream of hourly",
        "1 row in readings__quarantine, upstream of hourly",
    ]
    assert main(["replay", str(definition), "hourly"]) == 0
    assert capsys.readouterr().err.splitlines()[1:] == [
        "0 rows remain in quarantine",
        "2 rows came late to hourly, and are in hourly__late: replay does not move them; with a longer allowed_lateness, the next run adds them to their windows",
        "1 row is in readings__quarantine, upstream of this gate: run with --full checks it again",
    ]
    definition.write_text(DEFINITION.replace("2h", "60d"))
    assert main(["run", str(definition)]) == 0
    assert main(["replay", str(definition), "hourly", "--json"]) == 0
    assert '"elsewhere": {\n  "readings": 1\n }' in capsys.readouterr().out


def test_sessions_put_rows_aside_that_stand_alone_too_late(station: Station) -> None:
    window = "{time: at, every: 1h, by: [site], allowed_lateness: 2h, late: quarantine,"
    assert window in DEFINITION
    sessions = "{time: at, gap: 30m, by: [site], allowed_lateness: 1h, late: quarantine,"
    station.definition = (
        DEFINITION.replace(window, sessions).replace("- window", "- session").replace("window_start", "session_start")
    )
    station.deliver("01", ("01 08:00", "a", 1), ("01 12:00", "a", 2))
    # reached: 11:50. a row of 10:20 is open until 11:50, one of 10:21 a minute longer
    station.deliver("02", ("01 10:20", "a", 4), ("01 10:21", "a", 8))
    station.run()
    rows = lp.scan(str(station.root / "out/hourly")).sort("session_start").collect()
    assert rows.select("n", "total").rows() == [(1, 1), (1, 8), (1, 2)]
    late = station.plan.late("hourly").collect().row(0, named=True)
    assert (late["value"], late["late_by"]) == (4, timedelta(0))
    assert (late["window_start"], late["window_end"]) == (
        T0 + timedelta(hours=10, minutes=20),
        T0 + timedelta(hours=10, minutes=50),
    )


@pytest.mark.parametrize("rule", [{"time": "at"}, {"time": "at", "every": "1h", "gap": "1h"}])
def test_the_rule_takes_windows_or_a_gap(rule: dict[str, Any]) -> None:
    frame = pl.DataFrame(schema={"at": pl.Datetime("us"), "_watermark": pl.Datetime("us")})
    with pytest.raises(lp.DefinitionError, match="late needs every or gap, and not both; write every: 1h, or gap: 30m"):
        lp.check(frame, [{"late": rule}])


@pytest.mark.parametrize("late", ["update", "quarantine"])
def test_rows_of_history_that_is_vacuumed_and_whose_files_are_gone(station: Station, late: str) -> None:
    station.definition = DEFINITION.replace("on_bad_time: quarantine", "on_removed: ignore").replace(
        "allowed_lateness: 2h, late: quarantine", f"allowed_lateness: 2h, late: {late}"
    )
    for day in range(1, 7):
        station.deliver(f"{day:02}", (f"{day:02} 08:00", "a", day), (f"{day:02} 20:00", "a", day))
        station.run()
    lp.vacuum(station.plan.pipeline, older_than=timedelta(0))
    for day in (1, 2, 3):  # their files are archived
        (station.root / f"in/{day:02}.csv").unlink()
    before = station.hours()
    assert len(before) == 12
    station.deliver("90", ("02 08:30", "a", 100), ("01 00:00", "a", 7), ("06 20:30", "a", 9))
    station.run()
    came = {"06 20": (2, 15)}
    if late == "update":
        came |= {"02 08": (2, 102), "01 00": (1, 7)}
        assert station.hours() == before | came
        return
    assert station.hours() == before | came
    assert [(at, value) for at, _, value, _, _ in station.late()] == [("01 00:00", 7), ("02 08:30", 100)]
    assert [by for *_, by in station.late()] == [
        timedelta(days=5, hours=16, minutes=50),
        timedelta(days=4, hours=8, minutes=50),
    ]


def test_late_rows_keep_all_of_many_columns_and_windows_read_what_they_need(tmp_path: Path) -> None:
    """A gate copies rows that go on without the columns that nothing behind it reads: of few columns that is not done."""
    more = [f"c{number}" for number in range(12)]
    contract = ", ".join(f"{name}: Int64" for name in more)
    definition = f"""
version: 1
name: wide
sources:
  readings:
    uri: in/*.parquet
    event_time: at
    watermark: {{delay: 1h}}
    contract: {{columns: {{at: Datetime(us), site: Int64, {contract}}}}}
stages:
  hourly:
    from: readings
    do:
      - window: {{time: at, every: 1h, by: site, late: quarantine, aggregate: {{n: count(*), total: sum(c3 + c7), least: min(c11)}}}}
outputs:
  hourly: {{to: out/hourly}}
"""
    (tmp_path / "in").mkdir()
    came = []
    for number in range(3):
        minute = pl.int_range(300, eager=True).alias("minute").to_frame()
        rows = minute.select(
            at=T0
            + pl.duration(hours=5 * number, minutes=pl.when(pl.col("minute") % 7 > 0).then("minute").otherwise(0)),
            site=pl.col("minute") % 3,
            **{name: pl.col("minute") * (place + 1) + number for place, name in enumerate(more)},
        )
        if number:
            rows = rows.with_columns(at=pl.when(pl.col("c0") % 10 == 0).then(T0).otherwise("at"))
        rows.write_parquet(tmp_path / f"in/{number}.parquet")
        came.append(rows.with_columns(late=pl.lit(value=bool(number)) & (pl.col("at") == T0)))
        plan = lp.Pipeline.from_yaml(definition, base=str(tmp_path)).compile()
        plan.run().raise_for_status()
    rows = pl.concat(came)
    late = plan.late("hourly").sort("c0").collect()
    assert late.height > 50
    assert late.select("at", "site", *more).rows() == rows.filter("late").sort("c0").select("at", "site", *more).rows()
    hour = pl.col("at").dt.truncate("1h").alias("window_start")
    figures = {"n": pl.len(), "total": (pl.col("c3") + pl.col("c7")).sum(), "least": pl.col("c11").min()}
    wanted = rows.filter(~pl.col("late")).group_by("site", hour).agg(**figures).sort("window_start", "site")
    made = lp.scan(str(tmp_path / "out/hourly")).sort("window_start", "site").collect()
    assert made.select(wanted.columns).rows() == wanted.rows()
