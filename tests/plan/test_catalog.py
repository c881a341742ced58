"""Pipelines that feed each other: one lineage over all of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import lazypipe as lp
from lazypipe.__main__ import main

COLUMNS = {"columns": {"id": "Int64", "amount": "Float64", "note": "String"}}


def raw(base: str = "/lake") -> lp.Pipeline:
    pipe = lp.pipeline("raw", base=base).source(
        "landing", "landing/*.csv", contract=COLUMNS, gate=[{"not_null": {"columns": "id", "action": "drop"}}]
    )
    pipe.stage("clean", "landing", do=[{"derive": {"net": "amount / 1.19"}}])
    return pipe.output("clean", "clean").output("extract", "extract.parquet", from_="clean", format="parquet").build()


def mart(base: str = "/lake", uri: str = "clean") -> lp.Pipeline:
    columns = {"columns": {"id": "Int64", "net": "Float64"}}
    pipe = lp.pipeline("mart", base=base).source(
        "clean", uri, format="dataset" if uri == "clean" else None, contract=columns
    )
    pipe.stage(
        "total",
        "clean",
        do=[{"aggregate": {"by": ["id"], "aggregate": {"sum": "sum(net)"}}}],
        gate=[{"positive": {"columns": "sum", "id": "sum_is_positive"}}],
    )
    return pipe.output("total", "total").build()


def test_a_source_is_what_another_pipeline_wrote() -> None:
    catalog = lp.catalog([mart(), raw()])
    found = list(catalog.upstream("mart/total.sum"))
    assert (found[0], set(found)) == (
        "mart/clean.net",
        {"mart/clean.net", "mart/clean.id", "raw/clean.net", "raw/clean.id", "raw/landing.amount", "raw/landing.id"},
    )
    assert "mart/total.sum" in catalog.downstream("landing.amount")
    assert "mart/total.sum" in catalog.downstream("raw/landing.id")
    assert "mart/total.sum" not in catalog.downstream("landing.note")
    assert catalog.impact("landing.amount").rules == ("mart/total.sum_is_positive",)
    assert [e.subtype for e in catalog.path("landing.amount", "total.sum")] == [
        "TRANSFORMATION",
        "IDENTITY",
        "AGGREGATION",
    ]


def test_facets_end_at_what_nobody_writes() -> None:
    facet = lp.catalog([mart(), raw()]).to_openlineage("mart/total")
    (field,) = facet["fields"]["sum"]["inputFields"]
    assert (field["name"], field["field"], field["transformations"][0]["subtype"]) == (
        "/lake/landing/*.csv",
        "amount",
        "AGGREGATION",
    )
    assert {f["field"] for f in facet["dataset"]} == {"id"}


@pytest.mark.parametrize("uri", ["extract.parquet", "clean/*.parquet", "file:///lake/clean/x.parquet"])
def test_uris_join_whole_or_below(uri: str) -> None:
    assert "raw/landing.amount" in lp.catalog([raw(), mart(uri=uri)]).upstream("mart/total.sum")


def test_neighbours_are_not_joined() -> None:
    assert "raw/landing.amount" not in lp.catalog([raw(), mart(uri="clean2/*.parquet")]).upstream("mart/total.sum")


def test_a_pipeline_that_reads_its_own_output_ends() -> None:
    pipe = lp.pipeline("loop", base="/lake").source("seen", "seen", format="dataset", contract=COLUMNS)
    catalog = lp.catalog([pipe.stage("more", "seen").output("more", "seen").build()])
    assert list(catalog.upstream("loop/more.id")) == ["loop/seen.id"]
    assert catalog.to_openlineage("loop/more")["fields"]["id"]["inputFields"]


def test_names_must_differ() -> None:
    with pytest.raises(lp.LazypipeError, match="two pipelines are called 'raw'; give one of them another name"):
        lp.catalog([raw(), raw()])


def test_a_name_in_two_pipelines_asks_for_the_whole_one() -> None:
    with pytest.raises(lp.LazypipeError, match="'clean.id' may mean mart/clean.id, raw/clean.id; write one of them"):
        lp.catalog([raw(), mart()]).upstream("clean.id")
    with pytest.raises(
        lp.LazypipeError, match="unknown column or rule 'mart/total.summ'; did you mean 'mart/total.sum'?"
    ):
        lp.catalog([raw(), mart()]).upstream("mart/total.summ")


def test_files_and_plans_are_taken_too(tmp_path: Path) -> None:
    (tmp_path / "raw.yaml").write_text(raw(str(tmp_path)).to_yaml())
    found = lp.catalog([tmp_path / "raw.yaml", mart(str(tmp_path)).compile()], optimized=True)
    assert "raw/landing.amount" in found.upstream("mart/total.sum")
    assert found.optimized


def test_questions_over_many_pipelines_take_milliseconds() -> None:
    one = raw().compile().lineage()
    from dataclasses import replace

    from lazypipe.plan.catalog import join

    catalog = join(replace(one, name=f"p{i}") for i in range(200))
    catalog.upstream("p7/clean.net")
    taken = []
    for _ in range(5):
        begun = time.thread_time()  # others may be busy, also in this process
        assert list(catalog.upstream("p7/clean.net")) == ["p7/landing.amount", "p7/landing.id"]
        taken.append(time.thread_time() - begun)
    assert min(taken) < 0.05
    with pytest.raises(lp.LazypipeError, match="did you mean 'p7/clean'"):
        catalog.upstream("p7/cleam")


def write(tmp_path: Path) -> str:
    path = tmp_path / "raw.yaml"
    path.write_text(raw(str(tmp_path)).to_yaml())
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["clean.net"], "    landing.amount → clean.net: TRANSFORMATION amount / 1.19"),
        (["landing.amount", "--downstream"], "    landing.amount → clean.amount: IDENTITY amount"),
        ([], "landing.note → clean.note: IDENTITY note"),
        (["--format", "dot"], "digraph lineage {"),
        (["clean", "--format", "mermaid"], "flowchart LR"),
        (["clean.net", "--format", "json"], ' "start": "clean.net",'),
        (["clean.net", "--json", "--optimized"], ' "start": "clean.net",'),
    ],
)
def test_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main(["lineage", write(tmp_path), *arguments]) == 0
    assert expected in capsys.readouterr().out.splitlines()


def test_the_command_line_tells_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path)
    assert main(["lineage", file, "clean.nett"]) == 2
    assert "unknown column or rule 'clean.nett'; did you mean 'clean.net'?" in capsys.readouterr().err
    assert main(["lineage", file, "--downstream"]) == 2
    assert "--downstream needs a column, stage or rule" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("exports/*.csv", {"writer/file"}),
        ("exports/2024-*.csv", {"writer/file"}),
        ("**/*.csv", {"writer/file"}),
        ("exports", {"writer/file", "writer/lines"}),
        ("exports/*.ndjson", {"writer/lines"}),
        ("exports/2025-*.csv", set()),
        ("exp", set()),
        ("lake/*/*.parquet", {"writer/table"}),
        ("lake/**/*.parquet", {"writer/table"}),
        ("lake/*", set()),
        ("lake/table/k=x/*.parquet", {"writer/table"}),
        ("memory://lake/table/*.parquet", set()),  # a store that nobody is asked for over a network
    ],
)
def test_a_pattern_finds_what_others_export(uri: str, found: set[str]) -> None:
    pipe = lp.pipeline("writer", base="/d").source("a", "a.csv", contract=COLUMNS).stage("rows", "a")
    pipe.output("file", "exports/2024-01.csv", from_="rows").output("table", "lake/table", from_="rows")
    written = pipe.output("lines", "exports/2024-01.ndjson", from_="rows").build().compile()
    form = "ndjson" if "ndjson" in uri else "csv"
    read = lp.pipeline("reader", base="/d").source("s", uri, format=form, contract=COLUMNS).output("s", "out")
    upstream = lp.catalog([written, read.build().compile()]).upstream("reader/s.amount")
    assert {c.dataset for c in upstream.columns} & {"writer/file", "writer/table", "writer/lines"} == found
    assert ("writer/a.amount" in upstream) == bool(found)
