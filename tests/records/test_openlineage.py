"""Events about runs: whole, true to the official schemas and to what stands on disk, and without secrets."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import polars as pl
import pytest
from jsonschema import ValidationError

import lazypipe as lp
from lazypipe import gates
from lazypipe.errors import LazypipeError, StorageError
from lazypipe.testing.faults import faulty
from tests.scenarios.test_processes import RULES

Read = Callable[[Path], list[dict[str, Any]]]


def by_name(datasets: list[dict[str, Any]], below: Path | str = "") -> dict[str, dict[str, Any]]:
    found = {d["name"].removeprefix(f"{below}/"): d for d in datasets}
    assert len(found) == len(datasets)
    return found


def run(folder: Path, text: str, **options: Any) -> tuple[lp.RunResult, Path]:
    file = folder / "events.ndjson"
    (folder / "p.yaml").write_text(text)
    compiled = lp.load(folder / "p.yaml").compile(**options.pop("compile", {}))
    result = compiled.run(emit=[lp.FileTransport(str(file))], **options)
    assert result.warnings == ()
    return result, file


def test_flights_emit_a_start_and_a_complete(tmp_path: Path, root: Path, events: Read) -> None:
    made = shutil.ignore_patterns("out", ".lazypipe")
    shutil.copytree(root / "pipelines", tmp_path, dirs_exist_ok=True, ignore=made)
    text = (tmp_path / "flights.yaml").read_text()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    result, file = run(tmp_path, text, run="r1", now=now, compile={"now": datetime(2025, 12, 31, tzinfo=UTC)})
    assert result.status == "done"
    start, end = events(file)
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["eventTime"] == "2026-01-01T00:00:00+00:00" < end["eventTime"] < "2026-01-01T00:10:00+00:00"
    uuid = str(uuid5(NAMESPACE_URL, "urn:lazypipe:run:lazypipe/flights/r1"))
    assert {e["run"]["runId"] for e in (start, end)} == {uuid}
    for event in (start, end):
        assert (event["job"]["namespace"], event["job"]["name"]) == ("lazypipe", "flights")
        job, about = event["job"]["facets"], event["run"]["facets"]
        assert (job["jobType"]["processingType"], job["jobType"]["integration"]) == ("BATCH", "LAZYPIPE")
        assert job["documentation"]["description"].startswith("Departures from New York City")
        assert lp.Pipeline.from_json(job["sourceCode"]["sourceCode"]) == lp.Pipeline.from_yaml(text)
        engine = about["processing_engine"]
        assert (engine["name"], engine["version"]) == ("polars", pl.__version__)
        assert engine["openlineageAdapterVersion"] == lp.__version__
        assert about["nominalTime"]["nominalStartTime"] == "2025-12-31T00:00:00+00:00"
        assert about["executionParameters"]["parameters"] == [{"key": "since", "value": "2013-01-01 00:00:00+00:00"}]
        assert about["lazypipe_run"]["run"] == "r1"
        assert {"errorMessage", "parent"} & set(about) == set()
    # what is read
    inputs = by_name(end["inputs"], tmp_path)
    assert set(inputs) == {
        f"data/{n}" for n in ("flights-2013-*.csv.gz", "airports.csv", "planes.csv", "weather.csv.gz")
    }
    assert by_name(start["inputs"], tmp_path).keys() == inputs.keys()
    assert all("inputFacets" not in i for i in start["inputs"])
    flights = inputs["data/flights-2013-*.csv.gz"]
    files = sorted((tmp_path / "data").glob("flights-*.gz"))
    raw = pl.read_csv(files, infer_schema=False)
    figures = flights["inputFacets"]["inputStatistics"]
    assert (figures["rowCount"], figures["fileCount"]) == (raw.height, len(files))
    assert figures["size"] == sum(f.stat().st_size for f in files)
    assert flights["inputFacets"]["dataQualityMetrics"]["columnMetrics"]["carrier"] == {
        "nullCount": 0,
        "count": raw.height,
    }
    assertions = {a["name"]: a["success"] for a in flights["facets"]["dataQualityAssertions"]["assertions"]}
    assert assertions["not_null:carrier"] is assertions["in_set:origin"] is True
    assert [f["name"] for f in flights["facets"]["schema"]["fields"]] == raw.columns
    assert flights["facets"]["storage"]["fileFormat"] == "csv"
    assert flights["facets"]["tags"]["tags"] == [
        {"key": "asset_id", "value": "true", "source": "LAZYPIPE", "field": "tailnum"}
    ]
    # what is written
    outputs = by_name(end["outputs"], tmp_path)
    aside = {"out/flown__quarantine", ".lazypipe/quarantine/flights/flights", ".lazypipe/quarantine/flights/weather"}
    assert set(outputs) == {"out/flown", "out/hourly", *aside}
    assert by_name(start["outputs"], tmp_path).keys() == outputs.keys()
    assert all("outputFacets" not in o for o in start["outputs"])
    for name in ("out/flown", "out/hourly"):
        files = [*(tmp_path / name).rglob("*.parquet")]
        figures = outputs[name]["outputFacets"]["outputStatistics"]
        assert figures["rowCount"] == pl.read_parquet(files, hive_partitioning=True).height
        assert (figures["size"], figures["fileCount"]) == (sum(f.stat().st_size for f in files), len(files))
        assert outputs[name]["facets"]["version"]["datasetVersion"] == "1"
        assert outputs[name]["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "CREATE"
    for name in aside:
        kept = lp.scan(str(tmp_path / name)).collect() if (tmp_path / name).exists() else pl.DataFrame()
        assert outputs[name]["outputFacets"]["outputStatistics"]["rowCount"] == kept.height
        if kept.height:
            assert [f["name"] for f in outputs[name]["facets"]["schema"]["fields"]] == kept.columns
    assert [outputs[n]["outputFacets"]["outputStatistics"]["rowCount"] for n in sorted(aside)] == [0, 1, 3]
    delay = outputs["out/hourly"]["facets"]["columnLineage"]["fields"]["mean_delay"]["inputFields"]
    direct = [f for f in delay if any(t["type"] == "DIRECT" for t in f["transformations"])]
    assert [(f["namespace"], f["name"].removeprefix(f"{tmp_path}/"), f["field"]) for f in direct] == [
        ("file", "data/flights-2013-*.csv.gz", "dep_delay")
    ]
    speed = outputs["out/flown"]["facets"]["dataQualityAssertions"]["assertions"][0]
    assert (speed["name"], speed["success"], speed["params"]["failed"]) == ("between:speed_mph", False, 3)
    told = {g["node"]: g for g in end["run"]["facets"]["lazypipe_run"]["gates"]}
    assert (told["weather"]["quarantined"], told["flown"]["quarantined"]) == (1, 3)


GATED = """
version: 1
name: gated
sources:
  a: {uri: a.csv}
stages:
  b: {from: a, description: The b., gate: [{between: {column: x, max: 2}}]}
outputs:
  b: {to: out/b}
"""


def test_a_gate_that_fails_is_told(tmp_path: Path, events: Read) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n2\n3\n")
    result, file = run(tmp_path, GATED)
    assert result.status == "gate_failed"
    start, end = events(file)
    assert (start["eventType"], end["eventType"]) == ("START", "FAIL")
    message = end["run"]["facets"]["errorMessage"]
    assert message["message"] == "gate of 'b' failed: between:x: 1 of 3 rows (fail)"
    assert message["programmingLanguage"] == "python"
    (output,) = end["outputs"]
    assert "outputFacets" not in output
    assert {"version", "lifecycleStateChange"} & set(output["facets"]) == set()
    (assertion,) = output["facets"]["dataQualityAssertions"]["assertions"]
    assert (assertion["success"], assertion["actual"]) == (False, "1")
    assert output["facets"]["documentation"]["description"] == "The b."


@pytest.mark.parametrize("name", gates.names())
def test_every_rule_is_told_as_the_schemas_want_it(tmp_path: Path, events: Read, name: str) -> None:
    """Of a source and of a stage, of rows that violate it, and of numbers that JSON does not have."""
    gate = {"action": "warn", "rules": [{name: RULES[name]}]} if name != "late" else [{name: RULES[name]}]
    gated = name != "cardinality"  # it looks up rows of the source, which cannot be of itself
    columns = {"i": "Int64", "x": "Float64", "t": "String", "g": "String", "m": "Datetime", "w": "Datetime"}
    moments = ["2024-01-01T00:00:00", "2024-01-01T05:00:00", "2024-01-01T02:00:00"]
    rows = {"i": [1, 2, 3], "t": ["a", None, "b"], "g": ["p", "q", "p"], "m": moments, "w": moments}
    pl.DataFrame({"k": [1]}).write_csv(tmp_path / "b.csv")
    pipe = (
        lp.pipeline("p", base=tmp_path)
        .source("a", "a.csv", contract={"columns": columns}, gate=gate if gated else [])
        .source("b", "b.csv")
        .stage("s", "a", do=[{"filter": "i > 0"}], gate=gate)
        .output("a", "kept")  # which rules that compare with the past need
        .output("s", "out")
        .build()
    )
    for n, x in enumerate(([1.0, -2.0, 3.0], [math.nan, math.inf, -math.inf])):
        pl.DataFrame({**rows, "x": pl.Series(x, dtype=pl.Float64)}).write_csv(tmp_path / "a.csv")
        file = tmp_path / f"{n}.ndjson"
        result = pipe.compile().run(full=True, emit=[lp.FileTransport(str(file))])
        assert result.warnings == ()
        end = events(file)[-1]  # which are held against the schemas when they are read
        read = by_name(end["inputs"], tmp_path)["a.csv"]
        written = by_name(end["outputs"], tmp_path)["out"]
        for node, facets in (*((("a", read["facets"]),) if gated else ()), ("s", written["facets"])):
            found = facets["dataQualityAssertions"]["assertions"]
            assert [(f["name"], f["assertion"], f["success"], f["params"]["failed"]) for f in found] == [
                (c.id, name, c.status == "pass", c.failed) for c in result.gates[node].checks
            ]
        if gated:
            assert read["inputFacets"]["dataQualityMetrics"]["rowCount"] == len(x)


def test_a_run_that_is_stopped_is_aborted(tmp_path: Path, events: Read) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")

    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    result, file = run(tmp_path, GATED, observer=stop)
    assert result.status == "interrupted"
    start, end = events(file)
    assert (start["eventType"], end["eventType"]) == ("START", "ABORT")
    assert end["run"]["facets"]["errorMessage"]["message"].startswith("stopped by a signal")


def test_a_source_that_cannot_be_read_is_told(tmp_path: Path, events: Read) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    compiled = lp.Pipeline.from_yaml(GATED, base=str(tmp_path)).compile()
    (tmp_path / "a.csv").unlink()
    file = tmp_path / "e.ndjson"
    assert compiled.run(emit=[lp.FileTransport(str(file))]).status == "error"
    _, end = events(file)
    assert end["eventType"] == "FAIL"
    assert f"{tmp_path}/a.csv" in end["run"]["facets"]["errorMessage"]["message"]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError("full"), "FAIL", "cannot write the run's record: full"),
        (KeyboardInterrupt(), "ABORT", "KeyboardInterrupt"),
    ],
)
def test_a_run_that_breaks_has_an_end_too(
    tmp_path: Path, events: Read, error: BaseException, kind: str, message: str
) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    file = tmp_path / "e.ndjson"
    with faulty() as faults:
        text = GATED.replace("name: gated", "name: gated\nstate: faulty://state")
        compiled = lp.Pipeline.from_yaml(text, base=str(tmp_path)).compile()
        faults.fail("open", error, nth=2)
        with pytest.raises((StorageError, KeyboardInterrupt)):
            compiled.run(emit=[lp.FileTransport(str(file))])
    start, end = events(file)
    assert (start["eventType"], end["eventType"]) == ("START", kind)
    assert message in end["run"]["facets"]["errorMessage"]["message"]
    # what was published is told all the same
    assert end["outputs"][0]["facets"]["version"]["datasetVersion"] == "1"


def test_parents_and_ids(tmp_path: Path, events: Read) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    text = GATED.replace("name: gated", "name: gated\nopenlineage: {namespace: prod}")
    own = "01890A5D-AC96-774B-BCCE-B302099A8057"
    result, file = run(tmp_path, text, run="child", parent={"run": own, "job": "daily", "namespace": "airflow"})
    _, second = run(tmp_path, text, run=own, parent={"run": "child", "job": "gated"}, now=datetime(2026, 1, 1))
    one, _, two, _ = events(file)
    assert one["job"]["namespace"] == "prod"
    assert one["run"]["facets"]["parent"]["run"] == {"runId": own.lower()}
    assert one["run"]["facets"]["parent"]["job"] == {"namespace": "airflow", "name": "daily"}
    assert two["run"]["runId"] == own.lower()
    assert two["run"]["facets"]["parent"]["run"]["runId"] == one["run"]["runId"]
    assert two["run"]["facets"]["parent"]["job"] == {"namespace": "prod", "name": "gated"}
    assert two["eventTime"] == "2026-01-01T00:00:00+00:00"


SECRETS = {"TOKEN": "t0p/secret", "BUCKET": "hidden-bucket", "KEY": "k3y"}


def test_no_secret_shows(tmp_path: Path, events: Read) -> None:
    folder = tmp_path / SECRETS["BUCKET"]
    folder.mkdir()
    (folder / "a.csv").write_text("x\n1\n")
    text = """
    version: 1
    name: secrets
    openlineage:
      url: http://me:passw0rd@127.0.0.1:1/api?token=${TOKEN}
      api_key: ${KEY}
      headers: {X-Key: "typed ${KEY}", X-Plain: typed-in-full, X-Both: "${KEY}${TOKEN}"}
      attempts: 1
    sources:
      a: {uri: "${BUCKET}/a.csv"}
      b:
        uri: sftp://me:passw0rd@host/b.csv
        storage_options: {key: written-down, nested: [{deep: written-down-too, port: 22}], from: "${TOKEN}"}
        contract: {columns: {x: Int64}}
    stages:
      c: {from: a}
      d: {from: b}
    outputs:
      c: {to: "out/${BUCKET}", storage_options: {aws_region: eu-1}}
      d: {to: out/d}
    """
    (tmp_path / "p.yaml").write_text(text)
    compiled = lp.load(tmp_path / "p.yaml").compile(env=SECRETS)
    result = compiled.run(emit=[lp.FileTransport(str(tmp_path / "e.ndjson"))])
    start, end = events(tmp_path / "e.ndjson")
    code = end["job"]["facets"]["sourceCode"]["sourceCode"]
    wrong = (*SECRETS.values(), "passw0rd", "written-down", "typed")
    whole = json.dumps([start, end]) + "".join(result.warnings)
    assert [s for s in wrong if s in whole] == []
    said = lp.Pipeline.from_json(code)
    assert said.openlineage["url"] == "http://127.0.0.1:1/api?token=${TOKEN}"
    assert said.openlineage["api_key"] == "${KEY}"
    assert dict(said.openlineage["headers"]) == {"X-Key": "***", "X-Plain": "***", "X-Both": "${KEY}${TOKEN}"}
    assert said.sources["b"].storage_options["from"] == "${TOKEN}"
    assert dict(said.sources["b"].storage_options["nested"][0]) == {"deep": "***", "port": 22}
    assert dict(said.outputs["c"].storage_options) == {"aws_region": "***"}
    names = {(d["namespace"], d["name"]) for d in (*end["inputs"], *end["outputs"])}
    assert ("file", f"{tmp_path}/${{BUCKET}}/a.csv") in names
    assert ("sftp://host", "b.csv") in names
    sources = [d["facets"]["dataSource"]["uri"] for d in end["inputs"]]
    assert f"file://{tmp_path}/%24%7BBUCKET%7D/a.csv" in sources
    (warning,) = result.warnings
    assert warning.startswith(
        "http://127.0.0.1:1/api: it cannot be reached (Connection refused); 2 OpenLineage events wait"
    )


def test_datasets_of_all_kinds(tmp_path: Path, events: Read) -> None:
    frame = pl.DataFrame(
        {"id": [1, 2], "deep": [{"a": [1.5], "m": "x"}, None], "fixed": [[1, 2], [3, 4]], "mail": ["a@b.c", None]},
        schema_overrides={"fixed": pl.Array(pl.Int16, 2)},
    )
    frame.write_parquet(tmp_path / "one.parquet")
    frame.write_parquet(tmp_path / "two.parquet")
    (tmp_path / "l.ndjson").write_text('{"id": "1"}\n{"id": "x"}\n')
    shared = "{uri: one.parquet, gate: [{row_count: {min: 1}}]}"
    text = f"""
    version: 1
    name: kinds
    sources:
      many:
        uri: [one.parquet, two.parquet]
        description: Both.
        columns: {{mail: {{tags: [pii], description: Where to write to.}}, id: {{tags: []}}}}
        gate: [{{not_null: {{columns: mail, action: warn}}}}]
      once: {shared}
      again: {shared}
      lines:
        uri: l.ndjson
        contract: {{columns: {{id: {{type: Int64, on_type_change: discard_row}}}}}}
      unused: {{uri: two.parquet}}
    stages:
      all: {{from: many, gate: [{{foreign_key: {{column: id, references: {{to: two.parquet, columns: id}}, action: warn}}}}]}}
      inner: {{from: lines, gate: [{{not_null: {{columns: id, action: quarantine}}}}]}}
      lined: {{from: inner}}
      both: {{from: once, do: [{{join: {{with: again, on: id, how: semi}}}}]}}
    outputs:
      all: {{to: out/all, mode: append, description: All of them.}}
      once: {{to: out/once}}
      csv: {{from: lined, to: out/lined.csv, format: csv}}
      both: {{to: out/both}}
    """
    result, file = run(tmp_path, text)
    result.raise_for_status()
    result, file = run(tmp_path, text, full=True)
    *_, end = events(file)
    inputs, outputs = by_name(end["inputs"], tmp_path), by_name(end["outputs"], tmp_path)
    assert set(inputs) == {"one.parquet", "two.parquet", "l.ndjson"}
    schema = inputs["one.parquet"]["facets"]["schema"]["fields"]
    assert schema == [
        {"name": "id", "type": "Int64", "ordinal_position": 1},
        {
            "name": "deep",
            "type": "struct",
            "fields": [
                {"name": "a", "type": "array", "fields": [{"name": "_element", "type": "Float64"}]},
                {"name": "m", "type": "String"},
            ],
            "ordinal_position": 2,
        },
        {"name": "fixed", "type": "array", "fields": [{"name": "_element", "type": "Int16"}], "ordinal_position": 3},
        {"name": "mail", "type": "String", "ordinal_position": 4, "description": "Where to write to."},
    ]
    # two files are one source, and two datasets: the figures of both together belong to neither
    assert "inputFacets" not in inputs["one.parquet"]
    names = [a["name"] for a in inputs["one.parquet"]["facets"]["dataQualityAssertions"]["assertions"]]
    assert names == ["not_null:mail", "row_count", "row_count"]
    assert inputs["l.ndjson"]["inputFacets"]["inputStatistics"]["rowCount"] == 2
    assert inputs["l.ndjson"]["facets"]["storage"]["fileFormat"] == "json"
    # outputs: added to, replaced, exported
    assert outputs["out/all"]["facets"]["documentation"]["description"] == "All of them."
    assert "lifecycleStateChange" not in outputs["out/all"]["facets"]
    assert outputs["out/all"]["facets"]["version"]["datasetVersion"] == "2"
    assert outputs["out/all"]["facets"]["tags"]["tags"][0]["key"] == "pii"
    assert outputs["out/once"]["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "OVERWRITE"
    # a gate of a source is about the source
    assert "dataQualityAssertions" not in outputs["out/once"]["facets"]
    exported = outputs["out/lined.csv"]
    assert exported["facets"]["datasetType"]["datasetType"] == "FILE"
    assert "version" not in exported["facets"]
    assert exported["facets"]["columnLineage"]["fields"]["id"]["inputFields"][0]["name"] == f"{tmp_path}/l.ndjson"
    aside = {n: o for n, o in outputs.items() if "quarantine" in n}
    assert set(aside) == {".lazypipe/quarantine/kinds/lines", ".lazypipe/quarantine/kinds/inner"}
    kept = lp.scan(str(tmp_path / ".lazypipe/quarantine/kinds/lines")).collect()
    lines = aside[".lazypipe/quarantine/kinds/lines"]
    assert [f["name"] for f in lines["facets"]["schema"]["fields"]] == kept.columns
    assert lines["outputFacets"]["outputStatistics"]["rowCount"] == kept.height == 1


def test_statistics_are_of_what_the_run_wrote(tmp_path: Path, events: Read) -> None:
    text = """
    version: 1
    name: p
    sources: {a: {uri: "*.csv", gate: [{between: {column: x, max: 9, action: quarantine}}]}}
    outputs: {added: {from: a, to: out/added, mode: append}}
    """
    before: set[Path] = set()
    for name, rows in (("a", [1, 2, 3, 10]), ("b", [4, 11, 12])):
        before = set((tmp_path / "out/added").glob("*.parquet"))
        pl.DataFrame({"x": rows}).write_csv(tmp_path / f"{name}.csv")
        result, file = run(tmp_path, text)
        result.raise_for_status()
    outputs = by_name(events(file)[-1]["outputs"], tmp_path)
    wrote = {n: o["outputFacets"]["outputStatistics"] for n, o in outputs.items() if "outputFacets" in o}
    assert {n: (s["rowCount"], s["fileCount"]) for n, s in wrote.items()} == {
        "out/added": (1, 1),
        "out/added__quarantine": (2, 1),
    }
    (newest,) = set((tmp_path / "out/added").glob("*.parquet")) - before
    assert wrote["out/added"]["size"] == newest.stat().st_size
    assert lp.scan(str(tmp_path / "out/added")).collect().height == 4
    text = text.replace("max: 9", "max: 99").replace("mode: append", "mode: append, description: all")
    result, file = run(tmp_path, text)
    assert [s.status for s in result.segments] == ["unchanged"]
    assert "outputFacets" not in by_name(events(file)[-1]["outputs"], tmp_path)["out/added"]


READS = """
version: 1
name: p
sources:
  a: {uri: "a*.csv", gate: [{not_null: x}]}
  b: {uri: "b.csv"}
stages:
  once: {from: a, do: [{filter: x > 0}]}
  sums: {from: a, do: [{aggregate: {by: [x], aggregate: {n: count(*)}}}]}
  other: {from: b, do: [{filter: x > 0}]}
outputs: {once: {to: out/once MODE}, sums: {to: out/sums}, other: {to: out/other}}
"""


@pytest.mark.parametrize("mode", ["", ", mode: append"])
def test_statistics_of_inputs_are_of_what_the_run_read(tmp_path: Path, events: Read, mode: str) -> None:
    text = READS.replace(" MODE", mode)
    if mode:  # what an output by groups has counted of files before is in the report too
        text = text.replace(", sums: {to: out/sums}", "").replace("  sums: {from: a", "  unused: {from: a")
    (tmp_path / "b.csv").write_text("x\n7\n")
    steps: list[tuple[dict[str, int], set[str], int | None]] = [
        ({"a1.csv": 2}, {"a1.csv"}, 2),
        ({"a2.csv": 3, "a3.csv": 1}, {"a2.csv", "a3.csv"}, 4 if mode else None),
        ({}, set(), 0),
    ]
    there = 0
    for number, (files, read, rows) in enumerate(steps):
        there += sum(files.values())
        for name, height in files.items():
            pl.DataFrame({"x": range(1, height + 1)}).write_csv(tmp_path / name)
        if number == 2:
            (tmp_path / "b.csv").write_text("x\n8\n")  # so that there is something to do, though not of a
        result, file = run(tmp_path, text)
        result.raise_for_status()
        inputs = by_name(events(file)[-1]["inputs"], tmp_path)
        found = inputs["a*.csv"]["inputFacets"]
        size = sum((tmp_path / n).stat().st_size for n in read)
        expected = {"size": size, "fileCount": len(read)} | ({} if rows is None else {"rowCount": rows})
        assert {k: v for k, v in found["inputStatistics"].items() if not k.startswith("_")} == expected
        of_b = inputs["b.csv"]["inputFacets"]["inputStatistics"]
        assert (of_b["fileCount"], of_b["size"]) == ((1, 4) if number != 1 else (0, 0))
        # the gate judged the rows that the outputs are made of: where rows are added, those of the run
        if "dataQualityMetrics" in found:
            judged = [tmp_path / n for n in read] if mode else [*tmp_path.glob("a*.csv")]
            metrics = found["dataQualityMetrics"]
            assert metrics["rowCount"] == (sum(files.values()) if mode else there)
            assert (metrics["fileCount"], metrics["bytes"]) == (len(judged), sum(f.stat().st_size for f in judged))
        # the ledger says which of the files that were there were read, where not all were
        told = lp.ledger(str(tmp_path / ".lazypipe/ledger")).records()[-1].body["inputs"]["a"]
        assert len(told["files"]) == len([*tmp_path.glob("a*.csv")])
        named = {} if number == 0 else {"uris": [str(tmp_path / n) for n in sorted(read)]}
        assert told["read"] == {"files": len(read), "bytes": size, **named}


def test_statistics_of_inputs_are_without_what_is_set_aside_and_with_parts(tmp_path: Path, events: Read) -> None:
    text = "{version: 1, name: p, sources: {a: {uri: '*.csv', on_corrupt: skip}}, outputs: {b: {from: a, to: out/b}}}"
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.csv").write_text("x\n1,2\n")  # told only by reading it
    result, file = run(tmp_path, text)
    assert [Path(c.uri).name for c in result.corrupt] == ["b.csv"]
    (tmp_path / "a.csv").write_text("x\n1\n22\n")  # has grown: what was appended is read
    result, _ = run(tmp_path, text)
    assert [s.written for s in result.segments] == [1]
    found = [e["inputs"][0]["inputFacets"]["inputStatistics"] for e in events(file) if e["eventType"] == "COMPLETE"]
    assert [(f["fileCount"], f["size"]) for f in found] == [(1, 4), (1, 3)]


def test_a_dataset_that_is_read_has_its_version(tmp_path: Path, events: Read) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    for _ in range(3):
        _, file = run(tmp_path, GATED, full=True)
    written = events(file)[-1]["outputs"][0]
    text = "{version: 1, name: next, sources: {a: {uri: out/b}}, outputs: {c: {from: a, to: out/c}}}"
    _, file = run(tmp_path, text)
    (read,) = events(file)[-1]["inputs"]
    # what one job writes is what the other reads
    assert (read["namespace"], read["name"]) == (written["namespace"], written["name"])
    assert read["facets"]["version"]["datasetVersion"] == written["facets"]["version"]["datasetVersion"] == "3"
    assert read["facets"]["datasetType"]["datasetType"] == "TABLE"
    assert "documentation" not in read["facets"]
    assert read["inputFacets"]["inputStatistics"]["fileCount"] == 1
    assert "dataQualityMetrics" not in read["inputFacets"]


def test_what_exists_in_python_only_has_no_source_code(tmp_path: Path, events: Read) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    pipe = (
        lp.pipeline("p", base=str(tmp_path), openlineage={"file": "e.ndjson"})
        .source("a", "a.csv")
        .stage("b", "a", do=[{"derive": {"y": pl.col("x") + 1}}])
        .output("b", "out")
        .build()
    )
    assert pipe.compile().run().warnings == ()
    _, end = events(tmp_path / "e.ndjson")
    assert set(end["job"]["facets"]) == {"jobType"}


class Unreadable(lp.Plan):
    def lineage(self, **_: Any) -> Any:
        raise LazypipeError("a plan that cannot be read")


def test_lineage_that_cannot_be_read_costs_its_facet_only(tmp_path: Path, events: Read) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    plan = lp.Pipeline.from_yaml(GATED, base=str(tmp_path)).compile()
    odd = Unreadable(**{n: getattr(plan, n) for n in plan.__dataclass_fields__})
    assert odd.run(emit=[lp.FileTransport(str(tmp_path / "e.ndjson"))]).warnings == ()
    _, end = events(tmp_path / "e.ndjson")
    assert "columnLineage" not in end["outputs"][0]["facets"]
    assert end["outputs"][0]["facets"]["version"]["datasetVersion"] == "1"


def test_a_map_has_keys_and_values() -> None:
    from lazypipe.records.facets import schema_facet

    (field,) = schema_facet(pl.Schema({"m": pl.Map(pl.String, pl.Int8)}), {})["fields"]
    assert field["fields"] == [{"name": "key", "type": "String"}, {"name": "value", "type": "Int8"}]


def test_a_body_without_figures_is_told_as_it_is(tmp_path: Path) -> None:
    """What an older or shorter record does not hold is left out."""
    from lazypipe.records.openlineage import run_event

    (tmp_path / "a.csv").write_text("x\n1\n")
    plan = lp.Pipeline.from_yaml(GATED, base=str(tmp_path)).compile()
    code: Mapping[str, str] = {"lazypipe": "1", "polars": "2"}
    files = {"a": {"files": [{"uri": "a.csv", "size": None}, {"uri": "b.csv", "size": 1}], "version": None}}
    body = {"run": "r", "pipeline": "gated", "status": "blocked", "started": "2026-01-01T00:00:00", "params": {}}
    more = {"ended": "2026-01-01T00:00:01", "code": code, "inputs": files, "segments": []}
    event = run_event(plan, {**body, **more})
    assert event["run"]["facets"]["errorMessage"]["message"] == "the run is blocked"
    figures = event["inputs"][0]["inputFacets"]["inputStatistics"]
    assert {k: v for k, v in figures.items() if not k.startswith("_")} == {"fileCount": 2}
    assert "executionParameters" not in event["run"]["facets"]
    assert "nominalTime" in event["run"]["facets"]
    from lazypipe.compile.compiler import compile_pipeline

    bare = run_event(compile_pipeline(plan.pipeline), {**body, **more})
    assert "nominalTime" not in bare["run"]["facets"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("run", "runId"), "r1"),
        (("eventTime",), "2026-01-01T00:00:00"),
        (("producer",), "lazypipe"),
        (("eventType",), "DONE"),
        (("job", "facets", "jobType", "integration"), None),
        (("run", "facets", "processing_engine", "version"), 2),
        (("inputs", 0, "facets", "schema", "fields", 0, "name"), 1),
        (("outputs", 0, "outputFacets", "outputStatistics", "rowCount"), 1.5),
        (("outputs", 0, "facets", "columnLineage", "fields", "x", "inputFields", 0, "field"), None),
    ],
)
def test_the_schemas_are_really_asked(tmp_path: Path, events: Read, path: tuple[Any, ...], value: Any) -> None:
    """So that the other tests can fail: each of these is one mistake in an event that is right."""
    (tmp_path / "a.csv").write_text("x\n1\n")
    _, file = run(tmp_path, GATED)
    *_, end = events(file)
    place = end
    for key in path[:-1]:
        place = place[key]
    assert path[-1] in place
    place[path[-1]] = value
    (tmp_path / "wrong.ndjson").write_text(json.dumps(end))
    with pytest.raises(ValidationError):
        events(tmp_path / "wrong.ndjson")


def test_columns_are_those_of_what_is_written_whatever_the_mode(tmp_path: Path, events: Read) -> None:
    (tmp_path / "o.csv").write_text("id,at,v\n1,2024-01-01,10\n1,2024-01-02,11\n2,2024-01-01,20\n")
    (tmp_path / "r.csv").write_text("id,why\n2,asked\n")
    text = """
    version: 1
    name: modes
    sources: {o: {uri: o.csv}, r: {uri: r.csv}}
    stages: {latest: {from: o}, versions: {from: o}, gone: {from: r}}
    outputs:
      gone: {to: out/latest, mode: delete, key: id}
      latest: {to: out/latest, mode: upsert, key: id, event_time: at, changes: true}
      versions: {to: out/versions, mode: scd2, key: id, event_time: at}
    """
    result, file = run(tmp_path, text)
    result.raise_for_status()
    *_, end = events(file)
    outputs = by_name(end["outputs"], tmp_path)
    assert set(outputs) == {"out/latest", "out/latest__changes", "out/versions"}
    for name in ("out/latest", "out/versions"):
        columns = lp.scan(str(tmp_path / name)).collect().columns
        assert [f["name"] for f in outputs[name]["facets"]["schema"]["fields"]] == columns
        assert set(outputs[name]["facets"]["columnLineage"]["fields"]) == set(columns)
    lineage = outputs["out/versions"]["facets"]["columnLineage"]
    assert [f["field"] for f in lineage["fields"]["valid_to"]["inputFields"]] == ["at"]
    told = outputs["out/latest__changes"]["facets"]["columnLineage"]
    assert [f["name"] for f in told["fields"]["v"]["inputFields"]] == [f"{tmp_path}/o.csv"]
    removed = [(f["name"], f["field"]) for f in outputs["out/latest"]["facets"]["columnLineage"]["dataset"]]
    assert (f"{tmp_path}/r.csv", "id") in removed


def test_a_replay_reads_a_quarantine_and_writes_its_output(tmp_path: Path, events: Read) -> None:
    pl.DataFrame({"id": [1, 2, 3], "n": [1, 5, 9]}).write_parquet(tmp_path / "in.parquet")

    def plan(most: int, action: str = "quarantine") -> lp.Plan:
        gate: Any = [{"between": {"column": "n", "max": most, "action": action}}]
        built = lp.pipeline("p", base=str(tmp_path)).source("rows", "in.parquet", columns={"n": {"tags": ["pii"]}})
        built = built.stage("kept", "rows", gate=gate).output("kept", "out", mode="upsert", key=["id"])
        return built.output("other", "other", from_="rows").build().compile()

    plan(1).run().raise_for_status()
    sink = lp.FileTransport(str(tmp_path / "events.ndjson"))
    assert plan(5).replay("kept", run="r2", emit=[sink]).healed == 1
    with pytest.raises(LazypipeError):
        plan(5, "fail").replay("kept", run="r3", emit=[sink])
    began, ended, _, failed = events(tmp_path / "events.ndjson")
    assert [e["eventType"] for e in (began, ended, failed)] == ["START", "COMPLETE", "FAIL"]
    assert began["run"]["runId"] == ended["run"]["runId"] != failed["run"]["runId"]
    (read,) = ended["inputs"]
    assert read["name"].endswith("/out__quarantine")
    assert read["facets"]["version"]["datasetVersion"] == "1"
    assert read["inputFacets"]["inputStatistics"]["fileCount"] == 1
    written = by_name(ended["outputs"], tmp_path)
    assert sorted(written) == ["out", "out__quarantine"]
    assert written["out"]["facets"]["version"]["datasetVersion"] == "2"
    assert written["out"]["outputFacets"]["outputStatistics"]["rowCount"] == 1
    assert written["out__quarantine"]["outputFacets"]["outputStatistics"]["rowCount"] == 1
    assert written["out"]["facets"]["tags"]["tags"][0]["field"] == "n"
    (assertion,) = written["out"]["facets"]["dataQualityAssertions"]["assertions"]
    assert assertion["success"] is False
    assert "between:n" in failed["run"]["facets"]["errorMessage"]["message"]
