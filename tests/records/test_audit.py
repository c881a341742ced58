"""Reports for people: no personal value is in one, and what cannot be shown any more says so."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp

SECRETS = ("bob@x.org", "eve@x.org", "4711", "1970", "1890")
DEFINITION = """\
version: 1
name: people
params: {year: {type: integer, default: 2000}}
sources:
  people:
    uri: people.csv
    columns:
      mail: {tags: [pii]}
      born: {tags: [pii]}
    gate:
      action: warn
      rules:
        - not_in_set: {column: mail, values: [bob@x.org, nobody@x.org], action: quarantine}
        - max: {column: born, max: 1970, action: warn}
        - quantile: {column: born, q: 0.5, max: 1970, action: warn}
stages:
  known:
    description: Those that we know.
    from: people
    do:
      - filter: mail <> 'eve@x.org' AND id <> 42 AND (id > -7 OR mail = 'eve@x.org')
      - filter: id BETWEEN 0 AND 99 OR mail = 'eve@x.org'
      - fill: {columns: [born], value: 1890}
      - derive: {address: "lower(mail)", old: "born < 1970 OR :year > 0", "quoted": "\\"mail\\" = 'bob@x.org'"}
    gate:
      - expression: {condition: "address <> 'eve@x.org'", description: "1 address, not 'eve's'", action: warn}
      - positive: id
outputs:
  known: {to: out/known}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "people.csv").write_text("id,mail,born\n1,bob@x.org,1980\n2,Eve@x.org,1990\n3,ada@x.org,\n")
    text = DEFINITION
    (tmp_path / "p.yaml").write_text(text)
    return tmp_path


def test_no_personal_value_is_in_a_report(home: Path) -> None:
    text = (home / "p.yaml").read_text()
    lp.load(home / "p.yaml").compile().run(run="r1").raise_for_status()
    (home / "people.csv").write_text("id,mail,born\n1,bob@x.org,1980\nfour,bob@x.org,4711\n")
    (home / "p.yaml").write_text(
        text.replace("uri: people.csv", "uri: people.csv\n    contract: {columns: {id: Int64}}")
    )
    assert lp.load(home / "p.yaml").compile().run(run="r2").status == "error"
    (home / "people.csv").write_text("id,mail,born\n1,bob@x.org,1980\n2,ada@x.org,1985\n")
    lp.load(home / "p.yaml").compile().run(run="r3").raise_for_status()
    report = lp.audit_report(lp.load(home / "p.yaml"), "known")
    for shown in (report.to_markdown(), report.to_json()):
        for secret in (*SECRETS, "1980", "1985", "1990"):
            assert not re.search(rf"(?<![\w.]){re.escape(secret)}(?!\w)", shown), f"{secret}: {shown}"
    told = report.to_dict()
    (maker,) = told["transformations"]
    (source,), (stage,) = maker["sources"], maker["stages"]
    assert source["rules"][0] == "not_in_set: {column: mail, values: '***', action: quarantine}"
    assert source["rules"][1] == "max: {column: born, max: '***', action: warn}"
    assert source["rules"][2] == "quantile: {column: born, q: '***', max: '***', action: warn}"
    # what is compared with other columns is shown, where it can be told from the rest
    assert stage["operations"][0] == "filter: mail <> *** AND id <> 42 AND (id > *** OR mail = ***)"
    assert stage["operations"][1] == "filter: id BETWEEN *** AND *** OR mail = ***"
    assert stage["operations"][2] == "fill: {columns: [born], value: '***'}"
    assert "old: 'born < *** OR :year > 0', quoted: '\"mail\" = ***'" in stage["operations"][3]
    # text that is no SQL is looked at as a whole
    assert stage["rules"][0].endswith("description: '*** address, not ***s''', action: warn}")
    assert stage["rules"][1] == "positive: id"
    tags = {c["name"]: c["tags"] for c in stage["columns"]}
    assert tags["address"] == ["pii"]
    checks = {c["id"]: c for run in told["runs"] for g in run["gates"] for c in g["checks"]}
    assert checks["max:born"]["value"] == "***"
    assert checks["max:born"]["expected"] == "***"
    (failed,) = told["exceptions"]["failed_runs"]
    assert (failed["run"], failed["errors"]) == ("r2", ["not shown: its pipeline reads personal data"])
    assert "Those that we know." in report.to_markdown()


def plain(folder: Path, **more: object) -> lp.Pipeline:
    pipe = lp.pipeline("p", base=str(folder), **more).source("a", "*.csv", on_corrupt="skip")
    rules = [
        {"mean": {"column": "x", "min": 0, "action": "warn"}},
        {"between": {"column": "x", "max": 2, "action": "repair", "repair": {"clip": True}}},
    ]
    return pipe.stage("b", "a", gate=rules).output("b", "out/b").build()


def test_measured_values_repaired_rows_and_files_left_out(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1, 2, 5]}).write_csv(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes(b"\x1f\x8b\x08\x00 cut | off")
    plain(tmp_path).compile().run(run="r1").raise_for_status()
    report = lp.audit_report(plain(tmp_path), "b")
    told = report.to_dict()
    (gate,) = told["runs"][0]["gates"]
    (mean,) = [c for c in gate["checks"] if c["rule"] == "mean"]
    assert mean["value"] == pytest.approx(5 / 3)
    (row,) = told["exceptions"]["rows"]
    assert (row["rule"], row["failed"], row["repaired"]) == ("between:x", 0, 1)
    (file,) = told["exceptions"]["files"]
    assert (file["record"], file["uri"]) == (1, str(tmp_path / "b.csv"))
    text = report.to_markdown()
    assert "Files that were left out:" in text
    assert f"| 1 | {tmp_path}/b.csv |" in text
    assert "| mean:x | warn | pass | 1 | 0 | 0 |  | 1.66" in text


def test_nothing_to_complain_of(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1, 2]}).write_csv(tmp_path / "a.csv")
    text = lp.audit_report(plain_run(tmp_path), "p/b").to_markdown()
    assert "## Exceptions\n\nNone.\n" in text
    assert "- Current version: yes\n" in text
    assert "Parameters" not in text


def plain_run(folder: Path) -> lp.Plan:
    plan = plain(folder).compile()
    plan.run().raise_for_status()
    return plan


def test_an_earlier_version_and_its_quarantine(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1, None]}).write_csv(tmp_path / "a.csv")
    text = textwrap.dedent(
        """\
        version: 1
        name: p
        sources: {a: {uri: a.csv, gate: [{not_null: {columns: x, action: quarantine}}]}}
        outputs: {b: {from: a, to: out/b}}
        """
    )
    pipe = lp.Pipeline.from_yaml(text, base=str(tmp_path))
    for number in (1, 2):
        pipe.compile().run(run=f"r{number}", full=True).raise_for_status()
    ledger = lp.ledger(pipe)
    first = lp.audit_report(ledger, "b", 1)
    assert "- Current version: no, a later version has replaced it" in first.to_markdown()
    assert [r["run"] for r in first.to_dict()["runs"]] == ["r1"]
    aside = lp.audit_report(str(tmp_path / ".lazypipe/ledger"), "a__quarantine")
    assert aside.to_dict()["output"]["rows_written"] == 1
    assert [s["name"] for t in aside.to_dict()["transformations"] for s in t["sources"]] == ["a"]
    assert lp.audit_report(pipe.compile(), "b").to_dict()["output"]["version"] == 2


def test_a_definition_that_is_gone(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1, 2, 5]}).write_csv(tmp_path / "a.csv")
    plan = plain_run(tmp_path)
    (tmp_path / "a.csv").unlink()
    assert plan.run(run="r2").status == "error"
    pl.DataFrame({"x": [3]}).write_csv(tmp_path / "a.csv")
    plan.run(run="r3").raise_for_status()
    for file in (tmp_path / ".lazypipe/ledger/objects").iterdir():
        file.unlink()
    report = lp.audit_report(plan, "b")
    assert not report.ok
    (maker,) = report.to_dict()["transformations"]
    assert "what record 3 names is missing" in maker["problem"]
    (gate,) = report.to_dict()["runs"][0]["gates"]
    (mean,) = [c for c in gate["checks"] if c["rule"] == "mean"]
    assert mean["value"] == "***", "who can tell whether it is personal?"
    assert "**It cannot be shown: " in report.to_markdown()
    (failed,) = report.to_dict()["exceptions"]["failed_runs"]
    assert failed["errors"] == ["not shown: its pipeline reads personal data"]


TERMS = """\
version: 1
name: p
sources:
  a:
    uri: "*.csv"
    event_time: at
    watermark: {delay: 0s, heartbeat: "mail = 'ping'"}
    contract: {columns: {id: Int64, at: Datetime(us), mail: {type: String, alias: e_mail}, op: String}, on_new_column: discard_column}
    columns: {mail: {tags: [pii]}}
stages:
  b: {from: a, do: [{select: [id, at, mail, op]}]}
  hours: {from: a, do: [{window: {time: at, every: 1h, late: quarantine, aggregate: {n: count(*)}}}]}
outputs:
  b: {to: out/b, mode: upsert, key: id, order_by: at, deleted_when: "op = 'D' OR mail = 'gone@x.org'", description: who there is}
  hours: {to: out/hours}
"""


def test_terms_on_which_rows_are_read_and_written_are_transformations_too(tmp_path: Path) -> None:
    pipe = lp.Pipeline.from_yaml(TERMS, base=str(tmp_path))
    for number, rows in enumerate(
        [["1,2024-01-01 09:00:00,ada@x.org,I", "2,2024-01-01 12:00:00,ping,I"], ["1,2024-01-01 10:00:00,ada@x.org,D"]]
    ):
        (tmp_path / f"{number}.csv").write_text("id,at,e_mail,op\n" + "\n".join(rows) + "\n")
        pipe.compile().run(actor=f"p{number}").raise_for_status()
    report = lp.audit_report(pipe, "b")
    (told,) = report.to_dict()["transformations"]
    (source,), (output,) = told["sources"], told["outputs"]
    assert source["terms"] == [
        "event_time: at",
        "contract: {columns: {id: Int64, at: Datetime(us), mail: {type: String, alias: e_mail}, op: String}, on_new_column: discard_column}",
        "watermark: {delay: 0s, heartbeat: mail = ***}",
    ]
    assert (output["name"], output["from"], output["description"]) == ("b", ["b"], "who there is")
    assert output["terms"] == ["mode: upsert", "key: [id]", "order_by: [at]", "deleted_when: op = 'D' OR mail = ***"]
    text = report.to_markdown()
    assert "#### Output b\n\nwho there is\n\nFrom `b`.\n\nTerms:\n\n1. `mode: upsert`\n" in text
    assert "- Rows written: 0, combined with those of the previous version (mode: upsert)\n" in text
    assert "ping" not in text
    assert "gone" not in text


def test_what_stands_ahead_of_windows_with_late_rows_is_in_a_report(tmp_path: Path) -> None:
    pipe = lp.Pipeline.from_yaml(TERMS, base=str(tmp_path))
    for number, hour in enumerate((9, 12, 8)):
        (tmp_path / f"{number}.csv").write_text(f"id,at,e_mail,op\n1,2024-01-01 {hour:02}:00:00,x,I\n")
    pipe.compile().run().raise_for_status()
    report = lp.audit_report(pipe, "hours")
    (told,) = report.to_dict()["transformations"]
    late, hours = told["stages"]
    assert (late["name"], late["from"]) == ("hours__late", ["a"])
    assert late["description"] == "What hours does with rows that come late."
    (decided,) = late["rows_decided_by"]
    assert "_watermark" in decided
    assert "__lazypipe" not in report.to_markdown(), "names of our own say nothing"
    assert hours["name"] == "hours"
    assert {f for c in hours["columns"] for f in c["from"]} == {"hours__late.at"}


def test_rows_that_were_only_written_anew_are_not_said_to_be_added(tmp_path: Path) -> None:
    pipe = lp.pipeline("p", base=str(tmp_path)).source("a", "*.csv").output("a", "out/a", mode="append").build()
    for number in range(2):
        (tmp_path / f"{number}.csv").write_text(f"x\n{number}\n")
        pipe.compile().run().raise_for_status()
    assert (
        "- Rows in it: 2\n- Rows written: 1, added to those of the previous version\n"
        in lp.audit_report(pipe, "a").to_markdown()
    )
    lp.optimize.compact(str(tmp_path / "out/a"))
    anew = lp.audit_report(pipe, "a").to_markdown()
    assert "- Rows written: 2, in other files: the previous version has the same rows\n" in anew
