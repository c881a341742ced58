"""Several definitions in one go: each after those that feed it; one that fails holds up those that it feeds, and no other."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.errors import DefinitionError, GateError, LazypipeError
from lazypipe.spec import loader

RAW = """
version: 1
name: raw
params: {least: {type: integer, default: 0}}
sources: {orders: {uri: in/*.csv}}
stages: {clean: {from: orders, do: [filter: amount >= :least], gate: [between: {column: amount, max: 100}]}}
outputs:
  clean: {to: lake/clean, key: [day]}
  days: {from: clean, to: lake/days.csv, format: csv}
"""
REPORT = """
version: 1
name: report
params: {factor: {type: integer, default: 1}}
sources: {clean: {uri: lake/clean}}
stages: {total: {from: clean, do: [aggregate: {by: [day], aggregate: {total: "sum(amount) * :factor"}}]}}
outputs: {total: {to: lake/total}}
"""
OTHER = """
version: 1
name: other
sources: {days: {uri: "lake/*.csv"}}
outputs: {days: {to: lake/other}}
"""
ALONE = """
version: 1
name: alone
sources: {orders: {uri: in/*.csv}}
outputs: {orders: {to: lake/alone}}
"""


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    deliver(tmp_path, "1", (1, 5), (1, 20), (2, 30))
    for name, text in (("a_report", REPORT), ("b_other", OTHER), ("c_alone", ALONE), ("d_raw", RAW)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def deliver(lake: Path, name: str, *rows: tuple[int, int]) -> None:
    (lake / f"in/{name}.csv").write_text("\n".join(["day,amount", *(f"{d},{n}" for d, n in rows), ""]))


def files(lake: Path) -> list[str]:
    return sorted(str(p) for p in lake.glob("*.yaml"))


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    code = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def short(found: dict[str, Any]) -> dict[str, str]:
    return {Path(file).stem: result["status"] for file, result in found["files"].items()}


def rows(lake: Path, name: str) -> list[tuple[Any, ...]]:
    return sorted(lp.scan(str(lake / "lake" / name)).collect().rows())


def test_each_runs_after_those_that_feed_it(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, planned, _ = told(capsys, "plan", *files(lake))
    steps = {Path(f).stem: [(s["name"], s["how"], s["why"]) for s in found] for f, found in planned["files"].items()}
    assert (code, planned["status"], [*steps]) == (0, "ok", ["c_alone", "d_raw", "a_report", "b_other"])
    assert steps["a_report"] == [("total", "unknown", "depends on what raw/clean writes in this run")]
    code, found, err = told(capsys, "run", *files(lake))
    assert (code, found["status"]) == (0, "done")
    assert [*short(found)] == ["c_alone", "d_raw", "a_report", "b_other"]
    assert set(short(found).values()) == {"done"}
    assert rows(lake, "total") == [(1, 25), (2, 30)]
    assert rows(lake, "other") == [(1, 5), (1, 20), (2, 30)]
    assert [line for line in err.splitlines() if line.endswith(".yaml:")] == [f"{lake}/{n}.yaml:" for n in short(found)]
    code, found, _ = told(capsys, "run", str(lake))  # a folder
    assert (code, short(found)) == (0, dict.fromkeys(["c_alone", "d_raw", "a_report", "b_other"], "unchanged"))
    code, found, _ = told(capsys, "status", *files(lake))
    assert {Path(f).stem: [o["version"] for o in s] for f, s in found["files"].items()} == {
        "a_report": [1], "b_other": [1], "c_alone": [1], "d_raw": [1, None],
    }  # fmt: skip
    assert main(["status", *files(lake)]) == 0
    assert f"{lake}/a_report.yaml:\ntotal: version 1 of " in capsys.readouterr().out


def test_one_that_fails_holds_up_those_that_it_feeds_and_no_other(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, "run", str(lake))[0] == 0
    deliver(lake, "2", (3, 1000))
    code, found, err = told(capsys, "run", str(lake))
    assert (code, found["status"]) == (1, "gate_failed")
    assert short(found) == {"c_alone": "done", "d_raw": "gate_failed", "a_report": "blocked", "b_other": "blocked"}
    why = "source 'clean' reads output 'clean' of 'raw', which was not made"
    assert f"{lake}/a_report.yaml:\ntotal: {why}\n" in err
    assert found["files"][f"{lake}/a_report.yaml"]["segments"][0]["why"] == why
    assert rows(lake, "total") == [(1, 25), (2, 30)]
    deliver(lake, "2", (3, 10))
    assert told(capsys, "run", str(lake))[0] == 0
    assert rows(lake, "total") == [(1, 25), (2, 30), (3, 10)]


def test_one_with_a_mistake_holds_up_those_that_it_feeds(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lake / "d_raw.yaml").write_text(RAW.replace("column: amount", "column: amonut"))
    code, found, err = told(capsys, "run", *files(lake))
    assert (code, found["status"]) == (2, "error")
    assert short(found) == {"c_alone": "done", "d_raw": "error", "a_report": "blocked", "b_other": "blocked"}
    (problem,) = found["files"][f"{lake}/d_raw.yaml"]["problems"]
    assert (problem["what"], problem["where"]["line"]) == ("unknown column 'amonut'", 6)
    assert f"{lake}/d_raw.yaml:6:" in err
    code, planned, err = told(capsys, "plan", *files(lake))
    assert (code, planned["status"]) == (2, "error")
    assert planned["files"][f"{lake}/d_raw.yaml"]["problems"] == [problem]
    assert [s["name"] for s in planned["files"][f"{lake}/c_alone.yaml"]] == ["orders"]


def test_mistakes_of_form_are_told_of_all(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lake / "a_report.yaml").write_text(REPORT.replace("outputs:", "output:"))
    (lake / "d_raw.yaml").write_text("a: [")
    (lake / "b_other.yaml").unlink()
    code, found, err = told(capsys, "run", *files(lake))
    assert (code, short(found)) == (2, {"a_report": "error", "c_alone": "done", "d_raw": "error"})
    problems = [p for result in found["files"].values() for p in result.get("problems", ())]
    assert [Path(p["where"]["file"]).stem for p in problems] == ["a_report", "d_raw"]
    assert "a_report.yaml:7:1: unknown key 'output'; did you mean 'outputs'?" in err


def test_only_what_outputs_need_is_run_whichever_definition_has_it(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lake / "c_alone.yaml").write_text(ALONE.replace("in/", "gone/"))
    code, planned, _ = told(capsys, "plan", *files(lake), "--output", "total")
    assert (code, [Path(f).stem for f in planned["files"]]) == (0, ["d_raw", "a_report"])
    code, found, _ = told(capsys, "run", *files(lake), "--output", "total")
    assert (code, short(found)) == (0, {"d_raw": "done", "a_report": "done"})
    assert [s["name"] for s in found["files"][f"{lake}/d_raw.yaml"]["segments"]] == ["clean"]
    assert not (lake / "lake/days.csv").exists()
    assert (
        told(capsys, "run", *files(lake), "--output", "totl")[1]["error"]
        == "unknown output 'totl'; did you mean 'total'?"
    )


def test_parameters_go_where_they_are_known(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = [str(lake / "a_report.yaml"), str(lake / "d_raw.yaml")]
    assert told(capsys, "run", *pair, "--param", "least=10", "--param", "factor=2")[0] == 0
    assert rows(lake, "total") == [(1, 40), (2, 60)]
    for command in ("run", "plan", "check"):
        code, found, _ = told(capsys, command, *pair, "--param", "leest=10")
        assert (code, found["error"]) == (2, "unknown parameter 'leest'; did you mean 'least'?")


def test_circles_are_refused_with_their_place(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lake / "d_raw.yaml").write_text(RAW.replace("in/*.csv", "lake/total"))
    for command in ("run", "plan"):
        code, found, _ = told(capsys, command, *files(lake))
        (problem,) = found["problems"]
        assert (code, problem["what"]) == (2, "these definitions feed each other in a circle: report → raw → report")
        assert problem["fix"] == "let source 'clean' read something other than output 'clean' of 'raw'"
        assert (problem["where"]["file"], problem["where"]["line"]) == (f"{lake}/a_report.yaml", 5)
    assert not (lake / "lake").exists()


def test_what_is_for_one_definition_is_refused_and_names_are_told_apart(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in (["--pull", "orders=m:O"], ["--window", "2024-01-01..", "--chunk", "1d"]):
        code, found, _ = told(capsys, "run", *files(lake), *option)
        assert (code, "works with one definition only" in found["error"]) == (2, True)
    assert told(capsys, "run", *files(lake), "total")[1]["error"].startswith("'total' is not a definition; name files")
    (lake / "e.yaml").write_text(RAW)
    what = f"two pipelines are called 'raw', in {lake}/d_raw.yaml and {lake}/e.yaml; give one of them another name"
    assert told(capsys, "run", *files(lake))[1]["error"] == what


def test_in_python(lake: Path) -> None:
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    raw = lp.load(lake / "d_raw.yaml")
    found = lp.run_all([lake / "a_report.yaml", raw], params={"least": 10}, outputs="total", now=moment)
    assert repr(found) == "<RunResults raw: done, report: done>"
    assert (found.exit_code, found["report"].started, len(found)) == (0, moment, 2)
    found.raise_for_status()
    plan = lp.load(lake / "a_report.yaml").compile(factor=3)
    deliver(lake, "2", (3, 1000))
    found = lp.run_all([plan, raw], full=True)
    assert (found.status, found["report"].status, found.exit_code) == ("gate_failed", "blocked", 1)
    assert found.to_dict()["pipelines"]["report"]["status"] == "blocked"
    with pytest.raises(GateError):
        found.raise_for_status()
    deliver(lake, "2", (3, 7))
    assert lp.run_all([plan, raw])["report"].status == "done"
    assert rows(lake, "total") == [(1, 25 * 3), (2, 30 * 3), (3, 7 * 3)]
    with pytest.raises(DefinitionError, match=r"d_raw.yaml:5:.*in a circle"):
        lp.run_all([lp.load(lake / "d_raw.yaml"), _writes(lake / "in/3.csv", lake / "lake/days.csv")])
    with pytest.raises(LazypipeError, match="str is not a definition|int is not a definition"):
        lp.run_all([3])  # type: ignore[list-item]


def _writes(to: Path, of: Path) -> lp.Pipeline:
    return lp.pipeline("back").source("days", of).output("days", to, format="csv").build()


def test_what_gates_look_up_and_what_stands_beside_outputs_is_fed_too(lake: Path) -> None:
    days = pl.DataFrame({"day": [1, 2]})
    days.write_csv(lake / "days.csv")
    first = (
        lp.pipeline("first")
        .source("days", lake / "days.csv")
        .output("days", lake / "lake/known", key=["day"], changes=True)
    )
    gate = [{"foreign_key": {"column": "day", "references": {"to": str(lake / "lake/known"), "column": "day"}}}]
    second = (
        lp.pipeline("second")
        .source("orders", lake / "in/*.csv")
        .stage("s", "orders", gate=gate)
        .output("s", lake / "lake/s")
    )
    third = lp.pipeline("third").source("feed", lake / "lake/known__changes").output("feed", lake / "lake/feed")
    unset = lp.pipeline("unset").source("x", "${NOT_SET}/x.csv").output("x", "${NOT_SET}/y")
    found = lp.run_all([p.build() for p in (third, second, unset, first)])
    assert {n: r.status for n, r in found.items()} == {
        "unset": "error",
        "first": "done",
        "third": "done",
        "second": "done",
    }
    assert [*found] == ["unset", "first", "third", "second"]
    assert found.exit_code == 2


def test_a_run_that_is_stopped_stops_those_behind_it(lake: Path) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    found = lp.run_all([lake / "c_alone.yaml", lake / "d_raw.yaml"], observer=stop)
    assert {n: r.status for n, r in found.items()} == {"alone": "interrupted", "raw": "blocked"}
    assert found["raw"].segments[0].why == "the run was stopped"
    assert found.exit_code == 3


def test_what_a_definition_that_is_wrong_would_write_is_not_looked_for(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lake / "d_raw.yaml").write_text(RAW.replace("amount >=", "amuont >="))
    last = {
        "name: report": "name: last",
        "to: lake/total": "to: lake/last",
        "lake/clean": "lake/total",
        "sum(amount)": "sum(total)",
    }
    text = REPORT
    for one, other in last.items():
        text = text.replace(one, other)
    (lake / "e_last.yaml").write_text(text)
    for command in ("plan", "check"):
        code, found, err = told(capsys, command, *files(lake))
        assert (code, found["status"]) == (2, "error")
        wrong = {Path(f).stem: one["error"] for f, one in found["files"].items() if "error" in one}
        assert wrong == {
            "d_raw": f"{lake}/d_raw.yaml:6:37: unknown column 'amuont'; did you mean 'amount'?",
            "a_report": f"{lake}/a_report.yaml:5:19: source 'clean' reads output 'clean' of 'raw', which is wrong; fix that first",
            "b_other": f"{lake}/b_other.yaml:4:18: source 'days' reads output 'days' of 'raw', which is wrong; fix that first",
            "e_last": f"{lake}/e_last.yaml:5:19: source 'clean' reads output 'total' of 'report', which is wrong; fix that first",
        }
    (lake / "d_raw.yaml").write_text(RAW.replace("in/*.csv", "away/*.csv"))  # what is away is looked for again
    code, found, err = told(capsys, "plan", *files(lake))
    assert (code, "no file matches" in err, "there is no such file" in err) == (3, True, True)


def test_what_is_away_may_have_more_columns_than_its_contract_names(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_raw = "{orders: {uri: in/*.csv, contract: {columns: {day: Int64}}}}"
    (lake / "d_raw.yaml").write_text(RAW.replace("{orders: {uri: in/*.csv}}", of_raw))
    contract = "{columns: {d: {type: Int64, alias: day}}}"
    report = REPORT.replace("{uri: lake/clean}", f"{{uri: lake/clean, contract: {contract}}}").replace("[day]", "[d]")
    (lake / "a_report.yaml").write_text(report)
    assert main(["check", str(lake)]) == 0  # what raw will write there has the amount, and its day by another name
    (lake / "in").rename(lake / "away")
    needs = f"{lake}/d_raw.yaml:6:37: unknown column 'amount'; known columns: day"
    for command in ("check", "plan", "run"):
        code, _, err = told(capsys, command, str(lake))
        assert (code, needs in err, "source 'orders': no file matches, and of its columns" in err) == (3, True, True)
        assert ("which is wrong" in err, "Traceback" in err) == (False, False)
    (lake / "away").rename(lake / "in")
    assert main(["run", str(lake)]) == 0
    assert rows(lake, "total") == [(1, 25), (2, 30)]
    (lake / "in").rename(lake / "away")
    capsys.readouterr()
    code, _, err = told(capsys, "plan", str(lake))
    assert (code, needs in err) == (3, True)
    assert f"{lake}/a_report.yaml:5:19: source 'clean' reads output 'clean' of 'raw', which cannot be made\n" in err


def test_the_ledger_says_what_did_not_begin_and_why(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(lake)]) == 0
    (lake / "d_raw.yaml").write_text(RAW.replace("in/*.csv", "away/*.csv"))
    stage = "stages: {s: {from: orders, do: [filter: amuont > 1]}}\nsources:"
    (lake / "c_alone.yaml").write_text(ALONE.replace("sources:", stage).replace("{to:", "{from: s, to:"))
    assert main(["run", str(lake), "--output", "orders", "--output", "total"]) == 3
    capsys.readouterr()
    assert main(["ledger", str(lake / "a_report.yaml")]) == 0
    said = [line.partition(" of ")[2] for line in capsys.readouterr().out.splitlines()[4:]]
    who = said[0].split()[2].rstrip(":")
    assert said == [
        f"alone by {who}: error: {lake}/c_alone.yaml:4:33: unknown column 'amuont'; did you mean 'amount'?",
        f"raw by {who}: error: {lake}/away/*.csv: source 'orders': no file matches; check the pattern; it starts from the definition's folder",
        f"report by {who}: blocked: source 'clean' reads output 'clean' of 'raw', which was not made",
    ]
    assert main(["ledger", str(lake)]) == 0  # of the folder, as of one of those in it
    assert len(capsys.readouterr().out.splitlines()) == 7
    assert main(["ledger", str(lake / ".lazypipe/ledger")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7
    (lake / "b_other.yaml").write_text(OTHER.replace("version: 1", "version: 1\nstate: elsewhere"))
    assert main(["ledger", str(lake)]) == 2
    assert (
        f"have several ledgers; name one of them: {lake}/.lazypipe/ledger, {lake}/elsewhere/ledger"
        in capsys.readouterr().err
    )
    (lake / "none").mkdir()
    (lake / "none/off.yaml").write_text(ALONE.replace("version: 1", "version: 1\naudit: off"))
    assert main(["ledger", str(lake / "none")]) == 2
    assert "remove audit: off from them" in capsys.readouterr().err
    (lake / "b_other.yaml").write_text(OTHER)
    ledger = lp.ledger(lp.load(lake / "a_report.yaml"))
    (blocked,) = ledger.runs("report/total", status="blocked")
    assert (blocked.error, [s["output"] for s in blocked.body["segments"]]) == (
        "source 'clean' reads output 'clean' of 'raw', which was not made",
        ["total"],
    )
    assert ledger.verify(data=True).ok
    assert lp.audit_report(lp.load(lake / "a_report.yaml"), "total").ok
    with pytest.raises(lp.StorageError, match="is of a run that did not begin, and names nothing"):
        ledger.object(blocked)
    (lake / "d_raw.yaml").write_text(RAW)
    (lake / "c_alone.yaml").write_text(ALONE)
    deliver(lake, "2", (3, 7))
    assert main(["run", str(lake)]) == 0
    assert rows(lake, "total") == [(1, 25), (2, 30), (3, 7)]
    assert ledger.verify(data=True).ok


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RAW.replace("key: [day]", "kye: [day]"), ":8:27: unknown key 'kye' of output 'clean'; did you mean 'key'?"),
        (
            RAW.replace("version: 1", "version: 1\nparams: []").replace("params: {", "param: {"),
            ":5:1: unknown key 'param'; did you mean 'params'?",
        ),
    ],
)
def test_one_with_a_mistake_of_form_holds_up_those_that_it_feeds_and_no_other(
    lake: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    assert main(["run", str(lake)]) == 0
    (lake / "d_raw.yaml").write_text(text)
    deliver(lake, "2", (3, 7))
    capsys.readouterr()
    code, found, err = told(capsys, "run", str(lake))
    assert (code, found["status"]) == (2, "error")
    assert short(found) == {"c_alone": "done", "d_raw": "error", "a_report": "blocked", "b_other": "blocked"}
    assert found["files"][f"{lake}/d_raw.yaml"]["error"] in err
    why = "source 'clean' reads output 'clean' of 'raw', which was not made"
    assert found["files"][f"{lake}/a_report.yaml"]["segments"][0]["why"] == why
    ledger = lp.ledger(lp.load(lake / "a_report.yaml"))
    (wrong,) = ledger.runs(pipeline="raw", status="error")
    assert said in wrong.error
    assert [s["output"] for s in wrong.body["segments"]] == ["clean", "days"]
    assert ledger.verify(data=True).ok
    # from Python, the same
    again = lp.run_all(files(lake))
    assert {n: r.status for n, r in again.items()} == {
        "alone": "unchanged", "raw": "error", "report": "blocked", "other": "blocked",
    }  # fmt: skip
    with pytest.raises(DefinitionError, match="unknown key"):
        again.raise_for_status()
    # what would run is told of the others
    code, planned, err = told(capsys, "plan", str(lake))
    assert (code, next(iter(planned["files"])), said in err) == (2, f"{lake}/c_alone.yaml", True)
    assert isinstance(planned["files"][f"{lake}/c_alone.yaml"], list)
    assert (
        f"{lake}/a_report.yaml:5:19: source 'clean' reads output 'clean' of 'raw', which is wrong; fix that first\n"
        in err
    )
    assert f"{lake}/b_other.yaml:4:18: source 'days' reads output 'days' of 'raw', which is wrong" in err
    # of what is asked for, others are not looked at, and what cannot be read may have it
    assert short(told(capsys, "run", str(lake), "--output", "orders")[1]) == {"d_raw": "error", "c_alone": "unchanged"}
    assert short(told(capsys, "run", str(lake), "--output", "total")[1]) == {"d_raw": "error", "a_report": "blocked"}
    assert len(ledger.runs(pipeline="raw", status="error")) == 3
    # it may have a parameter that others lack
    assert short(told(capsys, "run", str(lake), "--param", "least=6")[1])["c_alone"] == "unchanged"
    (lake / "d_raw.yaml").write_text(RAW)
    assert main(["run", str(lake)]) == 0
    assert rows(lake, "total") == [(1, 25), (2, 30), (3, 7)]


@pytest.mark.parametrize("text", ["version: 1\nname: [raw", "- 1", RAW.replace("name: raw", "nmae: raw"), None])
def test_what_is_no_definition_at_all_stops_no_other(
    lake: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    assert main(["run", str(lake)]) == 0
    capsys.readouterr()
    deliver(lake, "2", (3, 7))
    if text is None:
        (lake / "d_raw.yaml").write_bytes(b"name: \xff")
    else:
        (lake / "d_raw.yaml").write_text(text)
    code, found, _ = told(capsys, "run", str(lake))
    assert (code, short(found)["c_alone"], short(found)["d_raw"]) == (2, "done", "error")
    result = found["files"][f"{lake}/d_raw.yaml"]
    assert result["pipeline"] == f"{lake}/d_raw.yaml"
    assert result["problems"]
    assert rows(lake, "alone") == [(1, 5), (1, 20), (2, 30), (3, 7)]
    # an output that nobody is known to have may be its
    for command in ("run", "plan"):
        code, wanted, err = told(capsys, command, str(lake), "--output", "clean")
        assert (code, wanted["error"] + "\n") == (2, err)
        assert err.startswith(
            "unknown output 'clean'; known outputs: days, orders, total; or it is in a definition that cannot be read:\n"
        )
        assert f"{lake}/d_raw.yaml" in err.splitlines()[1]
    # nobody can tell whom it feeds: they go by what there is
    assert {short(found)[n] for n in ("a_report", "b_other")} == {"unchanged"}
    assert not lp.ledger(lp.load(lake / "c_alone.yaml")).runs(status="error")


def test_what_a_definition_with_mistakes_says_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    whole = "version: 1\nname: p\nstate: s\naudit: {ledger: l}\nsources: {a: {uri: a.csv}, b: {url: b.csv}, c: 3}\n"
    file.write_text(whole + "outputs: {a: {to: out/a, mode: sideways, x: 1}, b: {from: b}}\n")
    found = loader.sketch(file)
    assert found is not None
    assert (found.name, found.state, found.audit.ledger, found.base) == ("p", "s", "l", str(tmp_path))
    assert {n: s.uri for n, s in found.sources.items()} == {"a": ("a.csv",)}
    assert {n: o.to for n, o in found.outputs.items()} == {"a": "out/a"}
    file.write_text(whole.replace("ledger: l", "leger: l") + "outputs: []\n")
    found = loader.sketch(file)
    assert found is not None
    assert (found.audit.mode, found.outputs) == ("off", {})  # nobody knows where
    assert loader.sketch(tmp_path / "none.yaml") is None


def test_one_that_is_run_by_itself_and_does_not_begin_is_in_the_ledger_too(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = lake / "c_alone.yaml"
    assert main(["run", str(file)]) == 0
    wrong = {
        ALONE.replace("to: lake", "too: lake"): (2, "unknown key 'too'"),
        ALONE.replace("orders: {to", "orders: {from: order, to"): (2, "unknown stage 'order'"),
        ALONE.replace("in/*.csv", "away/*.csv"): (3, "no file matches"),
        ALONE.replace("name: alone", "name: alone\nparams: {day: {type: date}}"): (2, "parameter 'day'"),
    }
    for text, (code, _) in wrong.items():
        file.write_text(text)
        assert main(["run", str(file)]) == code
    file.write_text(ALONE)
    assert main(["run", str(file), "--max-files", "0"]) == 2  # what nobody can ask for is told, and that is all
    assert main(["run", str(file)]) == 0
    ledger = lp.ledger(lp.load(file))
    found = [(e.status, e.error) for e in ledger.runs(pipeline="alone")]
    assert [status for status, _ in found] == ["done", *["error"] * 4, "unchanged"]
    for (_, error), (_, said) in zip(found[1:-1], wrong.values(), strict=True):
        assert said in (error or "")
    assert ledger.verify(data=True).ok
    file.write_text(ALONE.replace("name: alone", "name: alone\naudit: {ledger: in/1.csv/x}") + "more: 1\n")
    capsys.readouterr()
    assert main(["run", str(file)]) == 2
    assert "warning: that this run did not begin is not in the ledger: " in capsys.readouterr().err


@pytest.mark.parametrize("bound", [["--until", "2024-06-01"], ["--window", "2024-01-01..2024-01-02"]])
def test_bounds_are_of_those_that_have_files_and_what_they_feed_follows(
    lake: Path, capsys: pytest.CaptureFixture[str], bound: list[str]
) -> None:
    timed = RAW.replace("{uri: in/*.csv}", "{uri: in/*.csv, event_time: day, contract: {columns: {day: Date}}}")
    (lake / "d_raw.yaml").write_text(timed.replace("  days: {from: clean, to: lake/days.csv, format: csv}\n", ""))
    for name in ("b_other", "c_alone"):
        (lake / f"{name}.yaml").unlink()
    (lake / "in/1.csv").write_text("day,amount\n2024-01-01,5\n")
    os.utime(lake / "in/1.csv", (1.7e9, 1.7e9))
    (lake / "in/2.csv").write_text("day,amount\n2024-01-02,7\n")
    code, planned, _ = told(capsys, "plan", str(lake), *bound)
    assert (code, [len(s) for s in planned["files"].values()]) == (0, [1, 1])
    code, found, _ = told(capsys, "run", str(lake), *bound)
    assert (code, short(found)) == (0, {"d_raw": "done", "a_report": "done"})
    assert rows(lake, "total") == [(date(2024, 1, 1), 5)]
    # by itself it has nothing that they bound
    assert main(["run", str(lake / "a_report.yaml"), *bound]) == 2
    assert main(["run", str(lake)]) == 0
    assert rows(lake, "total") == [(date(2024, 1, 1), 5), (date(2024, 1, 2), 7)]


def test_a_ledger_that_cannot_be_written_is_told(lake: Path) -> None:
    off = REPORT.replace("name: report", "name: off\naudit: off").replace("to: lake/total", "to: lake/off")
    full = REPORT.replace("params:", "audit: {ledger: ledger.txt/x}\nparams:")
    (lake / "d_raw.yaml").write_text(RAW.replace("in/*.csv", "away/*.csv"))
    (lake / "ledger.txt").write_text("")
    found = lp.run_all([lake / "d_raw.yaml", *(lp.Pipeline.from_yaml(t, base=str(lake)) for t in (off, full))])
    assert {n: (r.status, len(r.warnings)) for n, r in found.items()} == {
        "raw": ("error", 0),
        "off": ("blocked", 0),
        "report": ("blocked", 1),
    }
    assert found["report"].warnings[0].startswith("that this run did not begin is not in the ledger: ")


PARTLY = {
    "first.yaml": """
version: 1
name: first
sources: {a: {uri: in/a.csv}, b: {uri: in/b.csv}}
outputs: {a: {to: out/a}, b: {to: out/b}}
""",
    "second.yaml": """
version: 1
name: second
sources: {a: {uri: out/a}, b: {uri: out/b}, own: {uri: in/a.csv}}
stages:
  both: {from: a, do: [join: {with: b, on: x, how: left}]}
  checked: {from: own, gate: [foreign_key: {columns: [x], references: {to: b}, action: drop}]}
outputs: {from_a: {from: a, to: out/from_a}, both: {to: out/both}, own: {to: out/own}, checked: {to: out/checked}}
""",
    "third.yaml": """
version: 1
name: third
sources: {from_a: {uri: out/from_a}, both: {uri: out/both}}
outputs: {last_a: {from: from_a, to: out/last_a}, last_both: {from: both, to: out/last_both}}
""",
}


def outcome(result: lp.RunResult) -> dict[str, str]:
    return {s.output: s.status for s in result.segments if s.output is not None}


def test_only_outputs_are_held_up_that_need_what_was_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in PARTLY.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("x\n1\n")
    code, found, err = told(capsys, "run", str(tmp_path))
    assert (code, short(found)) == (3, {"first": "error", "second": "blocked", "third": "blocked"})
    why = "source 'b' reads output 'b' of 'first', which was not made"
    assert f"both: {why}\n" in err
    segments = found["files"][f"{tmp_path}/second.yaml"]["segments"]
    assert {s["output"]: (s["status"], s["why"] == why) for s in segments} == {
        "from_a": ("done", False),
        "own": ("done", False),
        "both": ("blocked", True),
        "checked": ("blocked", True),
    }
    assert {s["output"]: s["uri"] for s in segments}["both"] == f"{tmp_path}/out/both"
    third = found["files"][f"{tmp_path}/third.yaml"]["segments"]
    assert {s["output"]: s["status"] for s in third} == {"last_a": "done", "last_both": "blocked"}
    # plans that were compiled before are held up in the same way, and what is asked for too
    (tmp_path / "in/b.csv").write_text("x\n1\n")
    results = lp.run_all([tmp_path / name for name in PARTLY])
    assert results.status == "done"
    plans = [lp.load(tmp_path / name).compile() for name in PARTLY]
    (tmp_path / "in/b.csv").write_text("")
    (tmp_path / "in/a.csv").write_text("x\n1\n2\n")
    results = lp.run_all(plans)
    assert [outcome(r) for r in results.values()] == [
        {"a": "done", "b": "error"},
        {"from_a": "done", "own": "done", "both": "blocked", "checked": "blocked"},
        {"last_a": "done", "last_both": "blocked"},
    ]
    results = lp.run_all([tmp_path / name for name in PARTLY], outputs=["last_both", "own"])
    assert [outcome(r) for r in results.values()] == [
        {"a": "unchanged", "b": "error"},
        {"own": "unchanged", "both": "blocked"},
        {"last_both": "blocked"},
    ]
    assert results.exit_code == 3
    assert lp.ledger(str(tmp_path / ".lazypipe/ledger")).verify(data=True).ok
    assert [e.status for e in lp.ledger(str(tmp_path / ".lazypipe/ledger")).runs("second/both", status="blocked")]


def test_outputs_that_are_asked_for_beside_one_that_cannot_be_read(tmp_path: Path) -> None:
    """A plan knows the names of outputs that it lacks."""
    for name, text in PARTLY.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("x\n1\n")
    results = lp.run_all([tmp_path / "first.yaml", tmp_path / "third.yaml"], outputs=["a", "b"])
    assert outcome(results["first"]) == {"a": "done", "b": "error"}
    plan = lp.load(tmp_path / "first.yaml").compile(skip_unreadable=True)
    assert outcome(plan.run(outputs=["a"])) == {"a": "unchanged"}
    assert outcome(plan.run(outputs=["b"])) == {"b": "error"}
    assert outcome(plan.run()) == {"a": "unchanged", "b": "error"}
