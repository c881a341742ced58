"""An auditor's story: what was made of what, who did it, where a recalled file's data is, and whether the books were touched.

Two pipelines on real flights feed each other, share one signed ledger, and go through failures, a replay and a kill.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from blake3 import blake3

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.errors import GateError, LazypipeError, StorageError
from lazypipe.storage.datasets.dataset import Dataset

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AUDIT = "audit: {mode: required, ledger: ledger, key: '${LEDGER_KEY}'}\n"
DAILY = """\
version: 1
name: daily
audit: {mode: required, ledger: ledger, key: "${LEDGER_KEY}", actor: nightly job}
sources:
  hourly: {uri: out/hourly, format: dataset}
stages:
  daily:
    from: hourly
    do:
      - derive: {day: "date_trunc('day', hour)"}
      - aggregate: {by: [origin, day], aggregate: {departures: sum(departures)}}
outputs:
  daily: {to: out/daily, mode: append}
  export: {from: daily, to: out/daily.csv, format: csv}
"""


def copied(folder: Path, root: Path) -> Path:
    shutil.copytree(root / "pipelines" / "data", folder / "data")
    text = (root / "pipelines" / "flights.yaml").read_text()
    (folder / "flights.yaml").write_text(text.replace("params:\n", AUDIT + "params:\n", 1))
    (folder / "daily.yaml").write_text(DAILY)
    return folder


def run(home: Path, name: str, run_id: str, **more: Any) -> lp.RunResult:
    result = lp.load(home / f"{name}.yaml").compile().run(run=run_id, **more)
    result.raise_for_status()
    return result


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """February's file comes with the first run, is gone in the second; each time the daily figures are added."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEDGER_KEY", "a key")
        folder = copied(tmp_path_factory.mktemp("audit"), request.config.rootpath)
        run(folder, "flights", "f1", actor="ann", code="1.0")
        run(folder, "daily", "d1")
        (folder / "data" / "flights-2013-02.csv.gz").rename(folder / "recalled.csv.gz")
        run(folder, "flights", "f2", actor="bob", code="1.1")
        run(folder, "daily", "d2")
        yield folder


@pytest.fixture
def ledger(home: Path) -> lp.Ledger:
    return lp.ledger(str(home / "ledger"), key="a key")


def test_nothing_was_touched_and_all_is_signed(ledger: lp.Ledger, home: Path) -> None:
    datasets = [str(home / "out" / name) for name in ("flown", "hourly", "daily")]
    found = ledger.verify(datasets=[*datasets, f"{home}/out/flown__quarantine"])
    assert (found.ok, found.warnings, found.records, found.signed) == (True, (), 8, 8)
    assert not lp.ledger(str(home / "ledger"), key="another").verify().ok
    # before each run that must be recorded publishes anything, the ledger knows that it will
    assert [(e.kind, e.run) for e in ledger.records()] == [
        (kind, name) for name in ("f1", "d1", "f2", "d2") for kind in ("start", "run")
    ]
    assert lp.ledger(lp.load(home / "daily.yaml")).verify().ok
    assert lp.ledger(lp.load(home / "daily.yaml").compile()).verify().signed == 8


def test_a_record_holds_what_the_issue_asks_for(ledger: lp.Ledger, home: Path) -> None:
    entry = ledger.runs("flights/flown")[0]
    body = entry.body
    assert (entry.run, entry.actor, entry.status, body["error"]) == ("f1", "ann", "done", None)
    assert body["code"] == {
        "lazypipe": lp.__version__,
        "polars": pl.__version__,
        "python": sys.version.split()[0],
        "version": "1.0",
    }
    text = (home / "flights.yaml").read_bytes()
    assert body["definition"]["blake3"] == blake3(text).hexdigest()
    assert body["definition"]["file"] == str(home / "flights.yaml")
    assert body["params"]["since"] == "2013-01-01 00:00:00+00:00"
    (weather,) = body["inputs"]["weather"]["files"]
    file = home / "data" / "weather.csv.gz"
    assert weather == {
        "uri": str(file),
        "size": file.stat().st_size,
        "stamp": str(file.stat().st_mtime_ns),
        "blake3": blake3(file.read_bytes()).hexdigest(),
    }
    assert body["inputs"]["flights"]["uri"] == [str(home / "data/flights-2013-*.csv.gz")]
    assert len(body["inputs"]["flights"]["files"]) == 3
    (flown,) = [s for s in body["segments"] if s["output"] == "flown"]
    assert (flown["version"], flown["mode"], flown["uri"]) == (1, "replace", str(home / "out/flown"))
    assert flown["sources"] == ["airports", "flights", "planes", "weather"]
    for part in flown["data"]:
        written = home / "out" / "flown" / part["path"]
        assert part["bytes"] == written.stat().st_size
        assert part["rows"] == pl.read_parquet(written, hive_partitioning=False).height
        assert part["blake3"] == blake3(written.read_bytes()).hexdigest()
    assert (
        sum(d["rows"] for d in flown["data"])
        == flown["rows"]
        == lp.scan(str(home / "out/flown"), version=1).collect().height
    )
    gates = {g["node"]: g for s in body["segments"] for g in s["gates"]}
    assert gates["flights"]["rows"] == 80_789
    assert entry.time >= datetime.fromisoformat(body["started"])
    assert body["seconds"] > 0
    told = ledger.object(entry)
    assert told["definition"]["stages"]["flown"]["do"][0] == {"filter": "dep_time IS NOT NULL AND time_hour >= :since"}
    assert "LEDGER_KEY" in told["definition"]["audit"]["key"]
    assert told["schemas"]["hourly"]["departures"] == "Int64"
    assert "a key" not in json.dumps([told, entry.to_dict()])
    edges = [e for p in told["places"] for e in p["edges"] if e["target"] == ["hourly", "mean_delay"]]
    assert {tuple(e["source"]) for e in edges if e["type"] == "DIRECT"} == {("flown", "dep_delay")}
    (start,) = [e for e in ledger.records() if (e.kind, e.run) == ("start", "f1")]
    assert start.body["outputs"]["hourly"] == {
        "uri": str(home / "out/hourly"),
        "format": "dataset",
        "mode": "replace",
        "sources": ["airports", "flights", "planes", "weather"],
    }
    assert start.status == "started"


def test_a_commit_leads_to_its_record_and_holds_the_hashes(ledger: lp.Ledger, home: Path) -> None:
    commit = Dataset(str(home / "out/daily")).read(version=2)
    assert commit.info["ledger"] == {"uri": str(home / "ledger"), "run": "d2"}
    (entry,) = [e for e in ledger.runs() if e.run == "d2"]
    recorded = {d["path"]: d["blake3"] for s in entry.body["segments"] for d in s["data"] if s["output"] == "daily"}
    held = {f.path: f.blake3 for f in commit.files}
    assert recorded.items() < held.items(), "the version before is in it too"
    for path, digest in held.items():
        assert digest == blake3((home / "out/daily" / path).read_bytes()).hexdigest()


def test_history_leads_back_to_raw_files_across_pipelines(ledger: lp.Ledger, home: Path) -> None:
    found = ledger.history("daily", 1)
    assert [(s.uri.removeprefix(f"{home}/out/"), s.version) for s in found.steps] == [("daily", 1), ("hourly", 1)]
    assert {Path(f["uri"]).name for f in found.files} == {
        "airports.csv", "planes.csv", "weather.csv.gz", *(f"flights-2013-0{n}.csv.gz" for n in (1, 2, 3))
    }  # fmt: skip
    assert [e.run for e in found.entries] == ["d1", "f1"]
    both = ledger.history(str(home / "out/daily"))
    assert [(s.uri.removeprefix(f"{home}/out/"), s.version) for s in both.steps] == [
        ("daily", 2), ("hourly", 2), ("daily", 1), ("hourly", 1)
    ]  # fmt: skip
    assert both.steps[0].parents == ((str(home / "out/hourly"), 2), (str(home / "out/daily"), 1))
    assert len(both.files) == 6
    assert "flights-2013-02.csv.gz" not in str(ledger.history("hourly", 2))
    assert "flights-2013-02.csv.gz" in str(both)
    assert both.to_dict()["steps"][1]["actor"] == "bob"
    export = ledger.history("export")
    assert (export.steps[0].output, export.steps[0].version) == ("export", None)
    with pytest.raises(LazypipeError, match="version 7 of 'daily' is not in the ledger; versions 1 to 2 are"):
        ledger.history("daily", 7)
    with pytest.raises(LazypipeError, match="version 1 of 'export' is not in the ledger; it is an exported file"):
        ledger.history("export", 1)
    with pytest.raises(LazypipeError, match="the ledger knows no output 'dayly'; did you mean 'daily'?"):
        ledger.history("dayly")


def test_a_recalled_file_is_found_in_everything_that_holds_its_data(ledger: lp.Ledger, home: Path) -> None:
    def told(file: str, within: lp.Ledger = ledger) -> dict[str, bool]:
        return {f"{h.output} {h.version}": h.in_force for h in within.containing(file)}

    february = str(home / "data" / "flights-2013-02.csv.gz")
    # the ledger goes by runs: none of the rows that were put aside was of February, so that these stay in force
    expected = {
        "flown__quarantine 1": True, "flown 1": False, "hourly 1": False,
        "daily 1": False, "export None": False, "daily 2": True,
    }  # fmt: skip
    found = told(february)
    # an oracle of its own: which published rows are of February
    for version in (1, 2):
        months = lp.scan(str(home / "out/flown"), version=version).select(pl.col("month").unique()).collect()["month"]
        assert (2 in months) == (f"flown {version}" in expected)
    assert found == expected
    digest = blake3((home / "recalled.csv.gz").read_bytes()).hexdigest()
    assert told(digest) == found
    kept = next(h for h in ledger.containing(february) if (h.output, h.version) == ("daily", 2))
    assert (kept.via, kept.pipeline, kept.run) == (("earlier version",), "daily", "d2")
    assert str(kept) == f"{home}/out/daily version 2 (in force): daily/daily, run d2, by earlier version"
    # every version that was made of the weather, also those that were not of February
    assert {"flown 2", "hourly 2", "weather__quarantine 2"} <= told(str(home / "data/weather.csv.gz")).keys()
    assert not any(k.startswith("weather") for k in told(february))
    earlier = ledger.as_of(next(e.time for e in ledger.runs() if e.run == "d1"))
    assert told(february, earlier)["daily 1"] is True
    assert "daily 2" not in told(february, earlier)
    with pytest.raises(LazypipeError, match="no run in the ledger has read 'nothing.csv'"):
        ledger.containing("nothing.csv")


def test_the_report(ledger: lp.Ledger, home: Path) -> None:
    report = lp.audit_report(lp.load(home / "daily.yaml"), "daily", 2)
    assert report.ok
    told = report.to_dict()
    assert json.loads(report.to_json()) == told
    assert told["output"]["in_force"] is True
    assert told["output"]["keeps_earlier_rows"] is True
    assert {(p["actor"], tuple(p["records"])) for p in told["persons"]} == {
        ("nightly job", (8, 4)), ("ann", (2,)), ("bob", (6,))
    }  # fmt: skip
    assert {s["source"] for s in told["sources"]} == {
        f"flights/{n}" for n in ("airports", "flights", "planes", "weather")
    }
    (february,) = [s for s in told["sources"] if s["uri"].endswith("02.csv.gz")]
    written = datetime.fromtimestamp((home / "recalled.csv.gz").stat().st_mtime, UTC).replace(microsecond=0)
    assert f"| {written.isoformat()} | {february['blake3']} |" in report.to_markdown()
    assert february["records"] == [2]
    assert february["blake3"] == blake3((home / "recalled.csv.gz").read_bytes()).hexdigest()
    names = [(t["pipeline"], t["records"]) for t in told["transformations"]]
    assert names == [("daily", [8, 4]), ("flights", [6, 2])]
    stages = {s["name"]: s for t in told["transformations"] for s in t["stages"]}
    assert stages["flown"]["operations"][0] == "filter: 'dep_time IS NOT NULL AND time_hour >= :since'"
    speed = next(c for c in stages["flown"]["columns"] if c["name"] == "speed_mph")
    assert speed["from"] == ["flights.air_time", "flights.distance"]
    assert speed["expression"] == "CAST(flights.distance AS Float64) / (CAST(flights.air_time AS Float64) / 60.0)"
    assert any("dep_time IS NOT NULL" in text for text in stages["flown"]["rows_decided_by"])
    assert stages["daily"]["rules"] == []
    put_aside = {(e["record"], e["node"], e["rule"]): e["failed"] for e in told["exceptions"]["rows"]}
    assert put_aside[2, "flights/weather", "not_null:temp"] == 1
    text = report.to_markdown()
    assert text.startswith("# Audit report: daily version 2\n")
    for part in (
        "## Raw sources",
        "## Transformations",
        "## Exceptions",
        "## People and code",
        "8 are signed, and their signatures are valid.",
    ):
        assert part in text
    assert "| nightly job | 4, 8 |" in text
    assert "NOT INTACT" not in text


def test_the_command_line(home: Path) -> None:
    def call(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "lazypipe", *arguments], capture_output=True, text=True, check=False,
            env=os.environ | {"LEDGER_KEY": "a key"},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    code, out, err = call(
        "ledger", str(home / "daily.yaml"), "--containing", str(home / "data/flights-2013-02.csv.gz"), "--json"
    )
    assert (code, err) == (0, "")
    assert ("daily", 2, True) in [(h["output"], h["version"], h["in_force"]) for h in json.loads(out)]


# what goes wrong


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAZYPIPE_ACTOR", "carl")
    pl.DataFrame({"id": [1, 2, 3], "n": [1, -2, 3]}).write_csv(tmp_path / "a.csv")
    define(tmp_path)
    return tmp_path


def define(folder: Path, audit: str = "required", rule: str = "quarantine", ledger: str = "ledger") -> lp.Pipeline:
    (folder / "p.yaml").write_text(
        textwrap.dedent(
            f"""\
            version: 1
            name: p
            audit: {{mode: {audit}, ledger: {ledger}}}
            sources: {{a: {{uri: a.csv}}}}
            stages:
              b: {{from: a, gate: [{{positive: {{columns: n, action: {rule}}}}}]}}
            outputs: {{b: {{to: out/b}}, c: {{from: b, to: out/c.csv, format: csv}}}}
            """
        )
    )
    return lp.load(folder / "p.yaml")


def visible(folder: Path) -> list[str]:
    return sorted(
        str(p.relative_to(folder)) for p in (folder / "out").rglob("*") if p.is_file() and ".tmp" not in p.name
    )


def test_what_must_be_recorded_and_cannot_be_is_not_published(small: Path) -> None:
    (small / "file").write_text("no folder")
    result = define(small, ledger="file/ledger").compile().run()
    assert (result.status, result.exit_code, result.commits) == ("error", 3, {})
    message = f"{small}/file/ledger: audit is required, and cannot write to the ledger: [Errno 20] Not a directory"
    assert str(result.segments[0].error).startswith(message)
    assert str(result.segments[0].error).endswith(
        "fix the cause, or choose another folder with audit.ledger; nothing was published"
    )
    assert visible(small) == []
    with pytest.raises(StorageError, match="audit is required"):
        result.raise_for_status()
    assert result.error is not None


def test_what_should_be_recorded_and_cannot_be_is_published_and_told(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lazypipe.__main__ import main

    (small / "file").write_text("no folder")
    result = define(small, "recorded", ledger="file/ledger").compile().run()
    assert (result.status, result.commits) == ("done", {"b": 1})
    (warning,) = result.warnings
    assert warning.startswith(f"{small}/file/ledger: this run is not in the ledger: cannot write to the ledger: ")
    assert result.to_dict()["warnings"] == [warning]
    assert json.loads(Path(result.record).read_text())["warnings"] == [warning]
    assert main(["run", str(small / "p.yaml")]) == 0
    assert "warning: " + warning in capsys.readouterr().err


def test_an_end_that_cannot_be_recorded_is_an_error_and_the_start_stands(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lazypipe.__main__ import main

    plan = define(small).compile()
    created = lp.Ledger.append

    def full(self: lp.Ledger, body: Any, **more: Any) -> Any:
        if body["kind"] != "start":
            raise StorageError("cannot write to the ledger: No space left on device", uri=self.uri, fix="fix the cause")
        return created(self, body, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lp.Ledger, "append", full)
        result = plan.run(run="r1")
        assert main(["run", str(small / "p.yaml"), "--full"]) == 3
    assert (result.status, result.exit_code) == ("error", 3)
    assert [s.status for s in result.segments] == ["done", "done"]
    assert str(result.error) == (
        f"{small}/ledger: the end of this run is not in the ledger: cannot write to the ledger: No space left on device; "
        "fix the cause; what it published is announced there by its start"
    )
    with pytest.raises(StorageError, match="the end of this run is not in the ledger"):
        result.raise_for_status()
    assert "the end of this run is not in the ledger" in capsys.readouterr().err
    assert [e.kind for e in lp.ledger(plan).records()] == ["start", "start"]
    assert lp.ledger(plan).verify(datasets=[str(small / "out/b")]).ok
    assert json.loads(Path(result.record).read_text())["status"] == "error"


def test_a_gate_that_refuses_and_a_run_that_breaks_are_recorded(small: Path) -> None:
    assert define(small, rule="fail").compile().run(run="r1").status == "gate_failed"
    (small / "a.csv").write_text("id,n\n1,1\n2\n")
    assert define(small).compile().run(run="r2").status == "error"
    ledger = lp.ledger(str(small / "ledger"))
    assert [(e.run, e.status, e.actor) for e in ledger.runs()] == [
        ("r1", "gate_failed", "carl"),
        ("r2", "error", "carl"),
    ]
    assert [e.kind for e in ledger.records()] == ["run", "run"], "nothing was going to be published"
    assert ledger.verify().ok
    (refused, broken) = ledger.runs("b")
    assert refused.body["segments"][0]["gates"][0]["checks"][0]["failed"] == 1
    assert "a.csv" in broken.body["segments"][0]["error"]
    pl.DataFrame({"id": [1], "n": [1]}).write_csv(small / "a.csv")
    define(small).compile().run(run="r3").raise_for_status()
    told = lp.audit_report(ledger, "b").to_dict()
    assert [(f["run"], f["rules"]) for f in told["exceptions"]["failed_runs"]] == [
        ("r1", ["b: positive:n"]),
        ("r2", []),
    ]
    assert (
        "fewer" in told["exceptions"]["failed_runs"][1]["errors"][0]
        or "2" in told["exceptions"]["failed_runs"][1]["errors"][0]
    )
    assert "| 1 | r1 | gate failed |" in lp.audit_report(ledger, "b").to_markdown().replace(
        "gate_failed", "gate failed"
    )


def test_a_replay_is_recorded(small: Path) -> None:
    plan = define(small).compile()
    plan.run(run="r1", now=NOON).raise_for_status()
    (small / "p.yaml").write_text(
        (small / "p.yaml")
        .read_text()
        .replace("positive", "non_zero")
        .replace("non_zero: {columns: n", "not_null: {columns: n")
    )
    healed = lp.load(small / "p.yaml").compile().replay("b", run="r2", now=NOON, actor="dora")
    assert (healed.healed, healed.version, healed.warnings) == (1, 2, ())
    ledger = lp.ledger(plan)
    assert [(e.kind, e.run, e.status) for e in ledger.records()][2:] == [
        ("start", "r2", "started"),
        ("replay", "r2", "done"),
    ]
    assert ledger.verify(datasets=[f"{small}/out/b", f"{small}/out/b__quarantine"]).ok
    found = {f"{h.output} {h.version}": (h.via, h.in_force) for h in ledger.containing(str(small / "a.csv"))}
    assert found == {
        "b__quarantine 1": (("a",), False),
        "b 1": (("a",), False),
        "c None": (("a",), True),
        "b__quarantine 2": (("b__quarantine",), True),
        "b 2": (("b__quarantine", "earlier version"), True),
    }
    assert [(s.output, s.version) for s in ledger.history("b").steps] == [("b", 2), ("b", 1), ("b__quarantine", 1)]
    assert {p["actor"] for p in lp.audit_report(plan, "b").to_dict()["persons"]} == {"carl", "dora"}


def test_a_replay_that_cannot_be_recorded_moves_nothing(small: Path) -> None:
    define(small).compile().run(run="r1").raise_for_status()
    loose = (small / "p.yaml").read_text().replace("positive", "not_null")
    (small / "file").write_text("no folder")
    (small / "p.yaml").write_text(loose.replace("ledger: ledger", "ledger: file/ledger"))
    with pytest.raises(StorageError, match="audit is required, and cannot write to the ledger"):
        lp.load(small / "p.yaml").compile().replay("b")
    assert lp.scan(str(small / "out/b")).collect().height == 2
    (small / "p.yaml").write_text(
        loose.replace("ledger: ledger", "ledger: file/ledger").replace("required", "recorded")
    )
    found = lp.load(small / "p.yaml").compile().replay("b")
    assert (found.healed, len(found.warnings)) == (1, 1)
    assert lp.scan(str(small / "out/b")).collect().height == 3


def test_a_replay_whose_gate_refuses_is_recorded(small: Path) -> None:
    define(small).compile().run(run="r1").raise_for_status()
    with pytest.raises(GateError):
        define(small, rule="fail").compile().replay("b", run="r2")
    entry = lp.ledger(str(small / "ledger")).records()[-1]
    assert (entry.kind, entry.run, entry.status) == ("replay", "r2", "gate_failed")
    assert "positive:n" in entry.body["error"]


KILLED = """
import os, signal, sys
import lazypipe as lp
from lazypipe.__main__ import main

real = lp.Ledger.append

def append(self, body, **more):
    if body["kind"] == "run":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, body, **more)

lp.Ledger.append = append
lp.load(sys.argv[1]).compile().run(run="killed")
"""


def test_a_run_that_is_killed_after_it_published_is_known(small: Path) -> None:
    define(small)
    done = subprocess.run([sys.executable, "-c", KILLED, str(small / "p.yaml")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert visible(small) != []
    ledger = lp.ledger(str(small / "ledger"))
    (entry,) = ledger.records()
    assert (entry.kind, entry.run, entry.body["outputs"]["b"]["uri"]) == ("start", "killed", str(small / "out/b"))
    assert [e.run for e in ledger.runs("b", status="started")] == ["killed"]
    found = ledger.verify(datasets=[str(small / "out/b")])
    assert found.ok
    (holding,) = ledger.containing(str(small / "a.csv"))[:1]
    assert (holding.output, holding.version, holding.via, holding.in_force) == ("b", None, ("unfinished run",), True)
    assert [w.what for w in found.warnings] == [
        "run 'killed' began and has no final record: it is still running, or was killed"
    ]
    define(small).compile().run(run="next", full=True).raise_for_status()
    told = lp.audit_report(ledger, "b").to_dict()
    assert [(f["run"], f["status"]) for f in told["exceptions"]["failed_runs"]] == [("killed", "started")]
    # a version that a killed run made is known by nobody's record: whoever reads it is told so
    assert told["output"]["version"] == 2


def test_off_writes_nothing(small: Path) -> None:
    plan = define(small, "off").compile()
    result = plan.run(run="r1")
    result.raise_for_status()
    assert {s.lineage for s in result.segments} == {None}
    plan.replay("b")
    assert not (small / "ledger").exists()
    assert not (small / ".lazypipe" / "hashes.json").exists()
    commit = Dataset(str(small / "out/b")).read()
    assert "ledger" not in commit.info
    assert {f.blake3 for f in commit.files} == {None}
    with pytest.raises(LazypipeError, match="runs of pipeline 'p' are not recorded; remove audit: off"):
        lp.ledger(plan)
    with pytest.raises(LazypipeError, match="runs of pipeline 'p' are not recorded; remove audit: off"):
        lp.ledger(plan.pipeline)


def test_an_old_commit_without_hashes_is_read(small: Path) -> None:
    define(small, "off").compile().run(run="r1").raise_for_status()
    file = small / "out" / "b.commits" / f"{1:020}.json"
    from lazypipe.storage.numbered import seal

    body = json.loads(file.read_text())
    del body["blake3"]
    for part in body["files"]:
        part.pop("blake3", None)
    file.write_text(json.dumps(body | {"blake3": seal(body)}))
    pipe = lp.pipeline("q", base=str(small)).source("b", "out/b").output("d", "out/d", from_="b").build()
    pipe.compile().run().raise_for_status()
    (entry,) = lp.ledger(pipe).records()
    (read,) = entry.body["inputs"]["b"]["files"]
    assert entry.body["inputs"]["b"]["version"] == 1
    assert read["blake3"] == blake3(Path(read["uri"]).read_bytes()).hexdigest(), "hashed when it is read"
    history = lp.ledger(pipe).history("d")
    assert [(s.record, s.version) for s in history.steps] == [(1, 1), (None, 1)]
    assert str(history).splitlines()[-1] == f"{small}/out/b version 1: made by nobody that the ledger knows"
    report = lp.audit_report(pipe, "d")
    assert report.to_dict()["exceptions"]["unknown_versions"] == [{"uri": f"{small}/out/b", "version": 1}]
    assert f"| {small}/out/b | 1 |" in report.to_markdown()


def test_a_touched_ledger_shows_in_the_report(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lazypipe.__main__ import main

    for number in (1, 2, 3):
        define(small).compile().run(run=f"r{number}", full=True).raise_for_status()
    (small / "ledger" / f"{1:020}.json").unlink()
    report = lp.audit_report(define(small), "b")
    assert not report.ok
    assert "- Ledger: **NOT INTACT**, see the end" in report.to_markdown()
    assert f"- record 1 ({small}/ledger/{1:020}.json): is missing: it was removed" in report.to_markdown()
    assert main(["audit", str(small / "p.yaml"), "b"]) == 3
    assert main(["audit", str(small / "ledger"), "b", "--version", "1", "--json"]) == 3
    assert main(["ledger", str(small / "p.yaml"), "--verify"]) == 3
    assert "record 1 " in capsys.readouterr().out
    assert main(["ledger", str(small / "p.yaml"), "--verify", "--head", "9"]) == 2
    assert "'9' is not the head of a ledger; write its number and hash: 12:af13…" in capsys.readouterr().err
    assert main(["ledger", str(small / "nowhere"), "--verify"]) == 0
    assert "there are no records: none was written yet, or all are gone" in capsys.readouterr().out
    assert main(["ledger", str(small / "nowhere")]) == 0
    assert capsys.readouterr() == ("", f"there are no records of runs in {small}/nowhere\n")
    assert main(["ledger", str(small / "ledger"), "--output", "z"]) == 0
    assert capsys.readouterr() == ("", f"there are no records of runs of output 'z' in {small}/ledger\n")
    assert main(["ledger", str(small / "ledger"), "--containing", ""]) == 2
    assert "no run in the ledger has read ''" in capsys.readouterr().err
    assert main(["ledger", str(small / "p.yaml"), "--output", "b", "--json"]) == 0
    assert [e["run"] for e in json.loads(capsys.readouterr().out)] == ["r1", "r2", "r3"]
    assert main(["ledger", str(small / "p.yaml")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("run r3 of p by carl: done → b 3, c")
    for verify in (["--verify"], []):
        assert main(["ledger", str(small / "p.yaml"), *verify, "--head", "6:00", "--json"]) == 3
        told = json.loads(capsys.readouterr().out)
        assert {p["record"] for p in told["problems"]} == {1, 6}
    assert main(["ledger", str(small / "p.yaml"), "--data", "--output", "b", "--containing", "a.csv"]) == 2
    assert capsys.readouterr().err == (
        "--verify and --output and --containing ask for different things; give one of them\n"
    )


def test_vacuum_leaves_records_and_takes_half_written_ones(small: Path) -> None:
    pipe = define(small)
    pipe.compile().run().raise_for_status()
    (small / "ledger" / "x.json.00.tmp").write_bytes(b"{")
    (small / "ledger" / "objects" / "y.json.00.tmp").write_bytes(b"{")
    assert lp.vacuum(pipe) == []
    gone = lp.vacuum(pipe, older_than=timedelta(0), now=datetime.now(UTC) + timedelta(seconds=5))
    assert sorted(gone) == [f"{small}/ledger/objects/y.json.00.tmp", f"{small}/ledger/x.json.00.tmp"]
    assert lp.ledger(pipe).verify().ok


def test_a_key_that_was_changed_on_the_command_line(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(small / "p.yaml")
    Path(file).write_text(Path(file).read_text().replace("ledger: ledger", "ledger: ledger, key: '${LEDGER_KEY}'"))
    for key in ("first", "second"):
        monkeypatch.setenv("LEDGER_KEY", key)
        lp.load(file).compile().run(full=True).raise_for_status()
    assert main(["ledger", file, "--verify"]) == 3
    assert "its signature was not made with this key" in capsys.readouterr().out
    monkeypatch.setenv("LEDGER_KEY_2025", "first")
    assert main(["ledger", file, "--former-key", "LEDGER_KEY_2025"]) == 0
    assert "4 records, all intact" in capsys.readouterr().out
    assert main(["ledger", file, "--former-key", "NO_SUCH"]) == 2
    assert capsys.readouterr().err.strip() == (
        "--former-key NO_SUCH: there is no environment variable NO_SUCH; set it to the key"
    )
