"""What somebody expects who knows other tools, has read one page of ours, and mistypes: done as meant, or told what to write."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main

ROWS = pl.DataFrame({"day": [1, 1, 2], "origin": ["JFK", "LGA", "JFK"], "delay": [5, None, -3]})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    ROWS.write_parquet(tmp_path / "flights.parquet")
    return tmp_path


def builder(base: Path) -> lp.Builder:
    return lp.pipeline("p", base=str(base)).source("flights", "flights.parquet")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("report.csv", pl.read_csv),
        ("report.csv.gz", pl.read_csv),
        ("report.parquet", pl.read_parquet),
        ("report.jsonl", pl.read_ndjson),
        ("report.arrow", pl.read_ipc),
    ],
)
def test_a_file_is_what_its_name_says(rows: Path, name: str, read: Any) -> None:
    pipe = builder(rows).output("flights", f"out/{name}").build()
    pipe.compile().run().raise_for_status()
    assert (rows / "out" / name).is_file()
    assert read((rows / "out" / name).read_bytes()).equals(ROWS)
    assert not (rows / "out" / f"{name}.commits").exists()


@pytest.mark.parametrize("to", ["out/v1.csv", "out/v1.csv/", "out/v1.2"])
def test_a_folder_may_bear_the_name_of_a_file(rows: Path, to: str) -> None:
    said = {} if not to.endswith("csv") else {"format": "dataset"}
    pipe = builder(rows).output("flights", to, **said).build()
    pipe.compile().run().raise_for_status()
    assert lp.scan(rows / to).collect().equals(ROWS)
    assert lp.Pipeline.from_yaml(pipe.to_yaml(), base=str(rows)) == pipe


def test_what_only_datasets_have_says_how_a_file_becomes_one(rows: Path) -> None:
    pipe = builder(rows).output("flights", "out/report.csv", mode="append").build()
    with pytest.raises(
        lp.DefinitionError,
        match="mode is for datasets, and this is one csv file; remove mode, or write format: dataset",
    ):
        pipe.compile()


DEFINITION = """
version: 1
name: p
sources:
  flights: {uri: flights.parquet}
stages:
  timed: {from: flights, do: [{filter: day >= :first}], gate: [{not_null: {columns: delay, action: quarantine}}]}
outputs:
  timed: {to: "out/timed"}
  file: {from: timed, to: "out/timed.csv"}
params:
  first: {type: integer}
"""


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main([*words])
    return code, "".join(capsys.readouterr())


def test_what_stands_is_told_and_taken_back_whatever_has_become_of_its_sources(
    rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition, other = rows / "p.yaml", rows / "q.yaml"
    definition.write_text(DEFINITION)
    other.write_text(DEFINITION.replace("name: p", "name: q").replace("out/", "elsewhere/"))
    for first in ("1", "2"):
        assert main(["run", str(definition), "--param", f"first={first}"]) == 0
    (rows / "flights.parquet").unlink()
    definition.write_text(DEFINITION.replace("day >=", "dya >="))
    code, told = said(capsys, "status", str(definition))
    assert code == 0
    assert told.startswith("timed: version 2 of 20")
    assert ", 1 row\n    made of flights: 1 file, " in told
    code, told = said(capsys, "history", str(definition), "timed")
    assert (code, [line[:2] for line in told.splitlines()]) == (0, ["1:", "2:"])
    code, told = said(capsys, "rollback", str(definition), "timed", "1")
    assert (code, told) == (0, "timed: version 1 is in force again, as version 3\n")
    assert lp.scan(rows / "out/timed").collect()["day"].to_list() == [1, 2]
    code, told = said(capsys, "status", str(rows))
    assert (code, "timed: version 3 of" in told, "timed: nothing was committed yet\n" in told) == (0, True, True)
    other.write_text("version: 1\nname: q\n")
    code, told = said(capsys, "status", str(rows))
    assert (code, "timed: version 3 of" in told, "q.yaml:1:1: 'sources' is missing" in told) == (2, True, True)
    other.write_text(DEFINITION.replace("out/", "${NO_SUCH_PLACE}/"))
    code, told = said(capsys, "status", str(other))
    assert (code, "environment variable NO_SUCH_PLACE is not set" in told) == (2, True)


def test_how_much_is_in_quarantine_is_told(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = rows / "p.yaml"
    definition.write_text(DEFINITION)
    assert main(["run", str(definition), "--param", "first=1"]) == 0
    assert ", 2 rows, 1 in quarantine\n" in said(capsys, "status", str(definition))[1]
    assert lp.load(definition).status()[0]["quarantined"] == 1
    assert lp.load(definition).compile(first=1).status() == lp.load(definition).status()


def archived(folder: Path, name: str, *, stored: bool, flip: bool) -> str:
    """Put rows into a member of a zip archive, in which one bit is another afterwards; return its URI."""
    rows = pl.DataFrame({"id": range(2_000), "n": [7] * 2_000})
    content = io.BytesIO()
    {"csv": rows.write_csv, "ndjson": rows.write_ndjson, "arrow": rows.write_ipc}.get(
        name.rpartition(".")[2], lambda to: rows.write_parquet(to, compression="uncompressed")
    )(content)
    with zipfile.ZipFile(folder / "z.zip", "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content.getvalue())
    if flip:
        data = bytearray((folder / "z.zip").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "z.zip").write_bytes(data)
    return f"zip://{name}::z.zip"


@pytest.mark.parametrize("how", ["fail", "quarantine_file"])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.ndjson", "a.arrow"])
def test_a_bit_that_flipped_in_an_archive_is_no_other_value(
    rows: Path, name: str, stored: bool, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (rows / "p.yaml").write_text(
        f"version: 1\nname: p\nsources: {{a: {{uri: 'zip://{name}::z.zip', on_corrupt: {how}}}}}\noutputs: {{a: {{to: out}}}}\n"
    )
    archived(rows, name, stored=stored, flip=True)
    code, told = said(capsys, "run", str(rows / "p.yaml"))
    assert (code, "Traceback" in told, (rows / "out").exists()) == (3, False, False), told
    assert "deliver it again" in told or "deliver one that can be read" in told or "each line must be one JSON" in told
    assert "fix the row" not in told
    archived(rows, name, stored=stored, flip=False)
    assert said(capsys, "run", str(rows / "p.yaml"))[0] == 0
    assert lp.scan(rows / "out").collect().height == 2_000


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda b: b.stage("s", "flights", do={"filter": "day > 1"}), "stages.s.do: 'do' must be a list"),
        (lambda b: b.stage("s", "flights", do="day > 1"), "stages.s.do: 'do' must be a list"),
        (
            lambda b: b.stage("s", "flights", do=[{"filter": "day > 1"}, pl.col("day") > 1]),
            "stages.s.do[1]: a Polars expression is not an operation; write what is done with it: {'filter': …}",
        ),
        (
            lambda b: b.stage("s", "flights", do=pl.col("day") > 1),
            "stages.s.do[0]: a Polars expression is not an operation; write what is done with it: {'filter': …}",
        ),
        (
            lambda b: b.stage("s", "flights", gate=[pl.col("day") > 1]),
            "stages.s.gate[0]: a Polars expression is not a rule; write what is done with it: {'expression': …}",
        ),
        (lambda b: b.stage("s", "flights", gate="not_null: day"), "stages.s.gate: 'gate' must be a list"),
        (lambda b: b.source("f", ROWS), "source 'f' is a frame, but sources are files"),
        (lambda b: b.source("f", ROWS.lazy()), "lp.apply and lp.check take frames"),
        (
            lambda b: b.stage("s", "flights", do=[{"group_by": "day"}]),
            "unknown operation 'group_by'; here that is called 'aggregate'",
        ),
        (
            lambda b: b.stage("s", "flights", gate=[{"accepted_values": "day"}]).output("s", "out").build().compile(),
            "unknown rule 'accepted_values'; here that is called 'in_set'",
        ),
        (
            lambda b: lp.check(ROWS, [{"expect_column_values_to_not_be_null": "day"}]),
            "unknown rule 'expect_column_values_to_not_be_null'; lazypipe import gx says which rule an expectation is",
        ),
        (
            lambda b: lp.check(ROWS, [{"nullValues": "day"}]),
            "unknown rule 'nullValues'; here that is called 'not_null'",
        ),
    ],
)
def test_a_step_that_is_none_is_told_as_it_was_written(rows: Path, build: Any, told: str) -> None:
    with pytest.raises(lp.LazypipeError) as caught:
        build(builder(rows)).output("s", "out").build()
    assert told in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_what_is_asked_too_early_says_what_comes_first(rows: Path) -> None:
    unfinished: Any = builder(rows).output("flights", "out")
    with pytest.raises(AttributeError, match=r"finish the definition first: \.build\(\)\.compile\(\)\.run"):
        unfinished.run()
    with pytest.raises(AttributeError, match=r"finish the definition first: \.build\(\)\.compile"):
        unfinished.compile()
    with pytest.raises(AttributeError, match="a builder has no attribute 'sauce'") as caught:
        unfinished.sauce("a", "b.csv")
    assert (caught.value.name, caught.value.obj is unfinished) == ("sauce", True)
    with pytest.raises(AttributeError, match="has no attribute 'chekc'") as missed:
        lp.chekc  # noqa: B018  # type: ignore[attr-defined]
    assert (missed.value.name, missed.value.obj) == ("chekc", lp)


def test_a_frame_that_is_none_says_how_it_becomes_one(rows: Path) -> None:
    rules = [{"not_null": "day"}]
    for given in ("flights.parquet", rows / "flights.parquet"):
        with pytest.raises(
            lp.LazypipeError, match=r"such as pl\.scan_csv\(…\) of a file, or lp\.scan\(…\) of a dataset$"
        ):
            lp.check(given, rules)  # type: ignore[arg-type]
    with pytest.raises(lp.LazypipeError, match=r"such as pl\.from_arrow\(…\) of it$"):
        lp.check(ROWS.to_arrow(), rules)  # type: ignore[arg-type]


def test_text_in_double_quotes_is_a_name_and_told_so(rows: Path) -> None:
    for condition, told in (
        (
            'origin = "JFK"',
            "unknown column 'JFK'; text is written in single quotes: 'JFK'; known columns: day, delay, origin",
        ),
        ("\"orign\" = 'JFK'", "unknown column 'orign'; did you mean 'origin'?"),
        ("origin = JFK", "unknown column 'JFK'; known columns: day, delay, origin"),
    ):
        with pytest.raises(lp.DefinitionError) as caught:
            lp.apply({"filter": condition}, ROWS)
        assert str(caught.value) == f"filter: {told}"
