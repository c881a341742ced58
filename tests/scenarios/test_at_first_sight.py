"""What somebody expects who knows other tools, has read one page of ours, and mistypes: done as meant, or told what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp

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
