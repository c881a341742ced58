"""What a gate found, where personal data is measured or tells groups apart: no face of it shows a value of a person."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main

DEFINITION = """\
version: 1
name: p
audit: {ledger: ledger}
openlineage: {file: events.ndjson}
sources:
  crm:
    uri: people.csv
    columns: {mail: {tags: [pii]}, pay: {tags: [pii]}, born: {tags: [pii]}}
stages:
  people:
    from: crm
    do: [{derive: {address: lower(mail)}}]
    gate: {action: warn, rules: [RULES]}
outputs:
  people: {to: out/people}
"""
PEOPLE = "mail,pay,born,team\nAnn.Secret@x.org,4711.0815,1977-07-07,a\nann.secret@x.org,4711.0815,1977-07-07,a\nBob@x.org,,,b\n"
SECRETS = ("secret", "4711.0815", "1977-07-07", "bob@x")


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("most_common: {column: address, is: zoe@x.org}", "most_common:address: ***, expected zoe@x.org"),
        ("min: {column: pay, min: 9999}", "min:pay: ***, expected at least 9999"),
        ("max: {column: mail, max: A}", "max:mail: ***, expected at most A"),
        ("sum: {column: pay, max: 0}", "sum:pay: ***, expected at most 0"),
        ("quantile: {column: pay, q: 0.5, max: 0}", "quantile:pay 0.5: ***, expected at most 0"),
        ("freshness: {column: born, within: 1d}", "freshness:born: ***, expected within 1d of "),
        (
            "row_count: {by: [address], max: 1}",
            "row_count:by address: address = ***: 2, expected at most 1 in 1 of 2 groups",
        ),
        (
            "mean: {column: pay, by: [team], max: 1}",
            "mean:pay by team: team = a: ***, expected at most 1 in 1 of 2 groups",
        ),
        # how many there are of something is nobody's
        (
            "distinct_count: {columns: address, by: [mail], max: 0}",
            "distinct_count:address by mail: mail = ***: 1; mail = ***: 1; mail = ***: 1, expected",
        ),
        ("completeness: {column: pay, min: 1}", "completeness:pay: 0.666"),
        ("proportion: {column: pay, value: 1, min: 1}", "proportion:pay = 1: 0.0, expected"),
    ],
)
def test_values_of_people_show_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: str, told: str
) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    file = tmp_path / "p.yaml"
    file.write_text(DEFINITION.replace("RULES", "{" + rule + "}"))
    assert main(["run", str(file)]) == 0
    assert main(["run", str(file), "--full", "--json"]) == 0
    assert main(["audit", str(file), "people"]) == 0
    assert main(["ledger", str(file), "--json"]) == 0
    said = "".join(capsys.readouterr())
    assert told in said
    result = lp.load(file).compile().run(full=True)
    (report,) = [g for s in result.segments for g in s.gates]
    faces = [said, repr(result), json.dumps(result.to_dict()), repr(report), str(report.checks), report.to_markdown()]
    faces += [str(report.to_frame().to_dicts()), json.dumps(report.to_dict())]
    written = [p for p in tmp_path.rglob("*") if p.suffix in (".json", ".ndjson")]
    assert {p.parent.name for p in written} >= {"ledger", "people.commits", "runs"}
    assert [p.name for p in written if p.suffix == ".ndjson"] == ["events.ndjson"]
    for face in [*faces, *(p.read_text() for p in written)]:
        assert [s for s in SECRETS if s in face.lower()] == []


def test_a_frame_of_ones_own_shows_its_values() -> None:
    """There, nothing is tagged."""
    frame = pl.DataFrame({"mail": ["a@x.org"] * 2})
    report = lp.check(frame, [{"most_common": {"column": "mail", "is": "b@x.org"}}])
    assert str(report.checks[0]) == "most_common:mail: a@x.org, expected b@x.org (fail)"
