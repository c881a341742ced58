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
        (PASSES, f"expression: {CAST}", f"11:5: stage 's', rule 'expression:{CAST}': "),
        (
            PASSES,
            f"expression: {{condition: {CAST}, action: quarantine}}",
            f"11:5: stage 's', rule 'expression:{CAST}': ",
        ),
        (PASSES, f"unique: {{columns: n, id: u, where: {CAST}}}", "11:5: stage 's', rule 'u': "),
        (PASSES, f"proportion: {{condition: {CAST}, min: 0, id: p}}", "11:5: stage 's', rule 'p': "),
        (PASSES, f"between: {REPAIR}", "11:5: stage 's', rule 'between:n': "),
        (f"expression: {CAST}", PASSES, f"6:5: source 'a', rule 'expression:{CAST}': "),
    ],
)
def test_the_rule_is_named(tmp_path: Path, source: str, stage: str, said: str) -> None:
    pl.DataFrame({"n": [1, 20], "s": ["1", "x"]}).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "p.yaml").write_text(DEFINITION.format(source=source, stage=stage))
    result = lp.load(tmp_path / "p.yaml").compile().run()
    (error,) = [str(s.error) for s in result.segments if s.error]
    assert error == f'{tmp_path}/p.yaml:{said}"x" cannot become Int32; mend the rows or the rule; nothing was published'
    assert not (tmp_path / "out" / "s.commits").exists()


def test_two_repairs_are_named_together(tmp_path: Path) -> None:
    pl.DataFrame({"n": [1, 20], "s": ["1", "x"]}).write_parquet(tmp_path / "a.parquet")
    stage = f"between: {REPAIR}}}, {{positive: {{columns: n, action: repair, repair: {{set: 1}}}}"
    text = DEFINITION.format(source=PASSES, stage="{" + stage + "}")
    result = lp.Pipeline.from_yaml(text, base=str(tmp_path)).compile().run()
    (error,) = [str(s.error) for s in result.segments if s.error]
    assert error.startswith("<yaml>:11:5: stage 's', rules 'between:n', 'positive:n': \"x\" cannot become Int32; ")
