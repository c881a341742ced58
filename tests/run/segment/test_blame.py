"""A rule that cannot be evaluated over the rows is named, with its stage and place; nothing is published."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp

DEFINITION = """\
version: 1
name: p
sources:
  a:
    uri: a.parquet
    gate: [{source}]
stages:
  s:
    from: a
    do: [{{derive: {{m: n * 2}}}}]
    gate: [not_null: n, {stage}]
outputs:
  s: {{to: out/s}}
"""
PASSES = "not_null: n"
CAST = "CAST(s AS INT) > 1"
REPAIR = "{column: n, max: 1, action: repair, repair: {set: CAST(s AS INT)}}"


@pytest.mark.parametrize(
    ("source", "stage", "said"),
    [
        (PASSES, f"expression: {CAST}", f"11:25: stage 's', rule 'expression:{CAST}': "),
        (
            PASSES,
            f"expression: {{condition: {CAST}, action: quarantine}}",
            f"11:25: stage 's', rule 'expression:{CAST}': ",
        ),
        (PASSES, f"unique: {{columns: n, id: u, where: {CAST}}}", "11:25: stage 's', rule 'u': "),
        (PASSES, f"proportion: {{condition: {CAST}, min: 0, id: p}}", "11:25: stage 's', rule 'p': "),
        (PASSES, f"between: {REPAIR}", "11:25: stage 's', rule 'between:n': "),
        (f"expression: {CAST}", PASSES, f"6:12: source 'a', rule 'expression:{CAST}': "),
    ],
)
def test_the_rule_is_named(tmp_path: Path, source: str, stage: str, said: str) -> None:
    pl.DataFrame({"n": [1, 20], "s": ["1", "x"]}).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "p.yaml").write_text(DEFINITION.format(source=source, stage=stage))
    result = lp.load(tmp_path / "p.yaml").compile().run()
    (error,) = [str(s.error) for s in result.segments if s.error]
    assert error == f'{tmp_path}/p.yaml:{said}"x" cannot become Int32; fix the rows or the rule; nothing was published'
    assert not (tmp_path / "out" / "s.commits").exists()


@pytest.mark.parametrize("discarded", ["a row", "a cell"])
def test_a_source_whose_cells_are_looked_at_is_not_blamed_for_what_comes_behind_it(
    tmp_path: Path, discarded: str
) -> None:
    (tmp_path / "a.csv").write_text("n,s\n1,1\nx,2\n20,x\n")
    mode = {"a row": "discard_row", "a cell": "discard_column"}[discarded]
    source = f"  a: {{uri: a.csv, contract: {{columns: {{n: Int64, s: String}}, on_type_change: {mode}}}}}\n"
    (tmp_path / "p.yaml").write_text(
        "version: 1\nname: p\nsources:\n"
        + source
        + f"stages:\n  s:\n    from: a\n    gate: [expression: {CAST}]\noutputs:\n  s: {{to: out/s}}\n"
    )
    result = lp.load(tmp_path / "p.yaml").compile().run()
    (error,) = [str(s.error) for s in result.segments if s.error]
    said = f"8:12: stage 's', rule 'expression:{CAST}': \"x\" cannot become Int32; fix the rows or the rule"
    assert error == f"{tmp_path}/p.yaml:{said}; nothing was published"


def test_two_repairs_are_named_together(tmp_path: Path) -> None:
    pl.DataFrame({"n": [1, 20], "s": ["1", "x"]}).write_parquet(tmp_path / "a.parquet")
    stage = f"between: {REPAIR}}}, {{positive: {{columns: n, action: repair, repair: {{set: 1}}}}"
    text = DEFINITION.format(source=PASSES, stage="{" + stage + "}")
    result = lp.Pipeline.from_yaml(text, base=str(tmp_path)).compile().run()
    (error,) = [str(s.error) for s in result.segments if s.error]
    assert error.startswith("<yaml>:11:26: stage 's', rules 'between:n', 'positive:n': \"x\" cannot become Int32; ")


def test_values_of_personal_data_are_not_told(tmp_path: Path) -> None:
    pl.DataFrame({"s": ["ann@x.org", "bob@x.org"]}).write_parquet(tmp_path / "a.parquet")
    source = {"uri": "a.parquet", "columns": {"s": {"tags": ["pii"]}}}
    pipe = lp.pipeline("p", base=tmp_path).source("a", **source)
    pipe = pipe.stage("s", "a", do=[{"cast": {"s": "Int64"}}]).output("s", "out/s")
    (segment,) = pipe.build().compile().run().segments
    assert "operation 1 (cast): column 's' has values that cannot become Int64: ***; fix" in str(segment.error)
    assert str(segment.error).endswith("Int64: ***; fix the data or the operation; nothing was published")
    assert segment.error is not None
    assert segment.error.__cause__ is None


def test_keys_of_personal_data_are_not_told(tmp_path: Path) -> None:
    pl.DataFrame({"s": ["ann@x.org", "ann@x.org"], "n": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    source = {"uri": "a.parquet", "columns": {"s": {"tags": ["pii"]}}}
    pipe = lp.pipeline("p", base=tmp_path).source("a", **source)
    join = {"join": {"with": "a", "on": "s", "validate": "1:1", "suffix": "_there"}}
    (segment,) = pipe.stage("s", "a", do=[join]).output("s", "out/s").build().compile().run().segments[-1:]
    assert "key (***) occurs 2 times" in str(segment.error)


@pytest.mark.parametrize("deliveries", [1, 2])
def test_rows_of_figures_are_there_until_it_is_known_what_failed(tmp_path: Path, deliveries: int) -> None:
    """An output that is made of what is kept of each file: the figures of this run are looked at, too."""
    made = lp.pipeline("p", base=str(tmp_path)).source("a", "a-*.parquet")
    made = made.stage("s", "a", do=[{"aggregate": {"by": "n", "aggregate": {"most": "max(s)"}}}])
    pipe = made.stage("t", "s", do=[{"derive": {"m": "CAST(most AS INT)"}}]).output("t", "out").build()
    for number in range(1, deliveries + 1):
        value = "x" if number == deliveries else "7"
        pl.DataFrame({"n": range(9), "s": ["1"] * 8 + [value]}).write_parquet(tmp_path / f"a-{number}.parquet")
        before = sorted(tmp_path.rglob("out*/**/*.parquet"))
        result = pipe.compile().run()
    (error,) = [str(s.error) for s in result.segments if s.error]
    assert error == (
        "stage 't', operation 1 (derive): column 'most' has values that cannot become Int32: [\"x\"]; "
        "fix the data or the operation; nothing was published"
    )
    assert sorted(tmp_path.rglob("out*/**/*.parquet")) == before
