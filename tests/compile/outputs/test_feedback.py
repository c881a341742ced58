"""An output that its own pipeline would read again is refused, before there is anything of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp


@pytest.mark.parametrize(
    ("uri", "output", "found"),
    [
        ("in/**/*.parquet", {"to": "in/out"}, True),
        ("in/**", {"to": "in/out"}, True),
        ("in", {"to": "in/out"}, True),
        ("in/", {"to": "in/out/t/"}, True),
        ("in/*/*.parquet", {"to": "in/out"}, True),
        ("in/*/*.parquet", {"to": "in/out", "partition_by": "k"}, False),
        ("in/*/*/*.parquet", {"to": "in/out", "partition_by": "k"}, True),
        ("in/*.parquet", {"to": "in/out"}, False),
        ("in/*.parquet", {"to": "in/sum.parquet", "format": "parquet"}, True),
        ("in/**/*.parquet", {"to": "in/sum.parquet", "format": "parquet"}, True),
        ("in/**/*.parquet", {"to": "in/sum.csv", "format": "csv"}, False),
        ("in", {"to": "in/sum.csv", "format": "csv"}, False),
        ("in", {"to": "in/.out"}, False),
        ("in", {"to": "inner"}, False),
        ("in/x.parquet", {"to": "in/x.parquet.sum"}, False),
        (["in/x.parquet", "in/sub"], {"to": "in/sub/out"}, True),
        ("in", {"to": "memory://in/out"}, False),
    ],
)
def test_an_output_within_its_own_source(tmp_path: Path, uri: Any, output: dict[str, Any], found: bool) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("x", "sub/x", "sub/y=1/x"):
        path = tmp_path / "in" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pl.DataFrame({"k": ["a"], "n": [1]}).write_parquet(path)
    source = {
        "uri": uri,
        "format": "parquet",
        "contract": {"on_missing_column": "evolve", "columns": {"k": "String", "n": "Int64"}},
    }
    definition = {"version": 1, "name": "p", "sources": {"a": source}, "outputs": {"a": output}}
    pipe = lp.Pipeline.from_dict(definition, base=str(tmp_path))
    if not found:
        pipe.compile()
        return
    with pytest.raises(lp.DefinitionError) as caught:
        pipe.compile()
    assert str(caught.value) == (
        "outputs.a.to: source 'a' would read the files of output 'a', and add them again in each run; "
        "write the output elsewhere, or narrow the pattern in uri"
    )


def test_a_dataset_may_be_read_by_its_log(tmp_path: Path) -> None:
    pl.DataFrame({"k": ["a"]}).write_parquet(tmp_path / "x.parquet")
    made = lp.pipeline("p", base=str(tmp_path)).source("a", "x.parquet").output("a", "out")
    made.build().compile().run().raise_for_status()
    made = lp.pipeline("p", base=str(tmp_path)).source("a", "x.parquet").source("before", "out")
    made.output("a", "out").output("before", "copy").build().compile()


@pytest.mark.parametrize("uri", ["out", "out/"])
def test_a_source_that_is_the_output_itself_is_told_of_the_stage(tmp_path: Path, uri: str) -> None:
    contract = {"columns": {"k": "String"}}
    made = lp.pipeline("p", base=str(tmp_path)).source("a", "x.parquet", contract=contract).stage("kept", "a")
    made = made.source("history", uri, contract=contract).output("kept", "out").output("history", "copy")
    with pytest.raises(lp.DefinitionError) as caught:
        made.build().compile()
    assert str(caught.value) == (
        "outputs.kept.to: source 'history' would read the files of output 'kept', and add them again in each run; "
        "read 'kept' instead, or make the output in a definition of its own: lazypipe run takes several, in order"
    )
