"""Columns that change in a stage whose gate puts rows aside, and that the output is not made of."""

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp

MORE = [{"derive": {"w": "v + 1"}}]
OTHER = [{"derive": {"w": "id::VARCHAR"}}]
ASIDE = ".lazypipe/quarantine/p/mid"


def run(root: Path, number: int, do: list[Any], output: dict[str, Any], **how: Any) -> lp.RunResult:
    (root / "in").mkdir(exist_ok=True)
    rows = pl.DataFrame({"id": [number, number + 100], "k": ["a", "b"], "v": [number, -1]})
    rows.write_parquet(root / f"in/{number}.parquet")
    gate = [{"between": {"column": "v", "min": 0, "action": "quarantine"}}]
    made = lp.pipeline("p", base=root).source("s", "in/*.parquet").stage("mid", "s", do=do, gate=gate)
    made = made.stage("end", "mid", do=[{"select": ["id", "k"]}]).output("end", "out/end", **output)
    return made.build().compile().run(**how)


def aside(root: Path) -> Counter[Any]:
    rows = lp.scan(root / ASIDE).collect()
    return Counter(rows.select(n for n in rows.columns if not n.startswith("_")).rows())


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], MORE, [(101, "b", -1, 0), (102, "b", -1, 0)]),
        (MORE, [], [(101, "b", -1), (102, "b", -1)]),
        (MORE, OTHER, [(101, "b", -1, "101"), (102, "b", -1, "102")]),
    ],
)
def test_rows_are_put_aside_as_they_are_now(tmp_path: Path, before: Any, after: Any, expected: Any) -> None:
    run(tmp_path, 1, before, {}).raise_for_status()
    result = run(tmp_path, 2, after, {})
    result.raise_for_status()
    assert (
        result.segments[-1].why
        == "the definition changed: partitioning, upstream rules, or the rows that these quarantine"
    )
    assert aside(tmp_path) == Counter(expected)
    assert run(tmp_path, 2, after, {}).status == "unchanged"


def test_what_is_aside_of_rows_that_are_only_added_to_loses_nothing(tmp_path: Path) -> None:
    append = {"mode": "append"}
    run(tmp_path, 1, [], append).raise_for_status()
    run(tmp_path, 2, MORE, append).raise_for_status()
    assert aside(tmp_path) == {(101, "b", -1, None): 1, (102, "b", -1, 0): 1}
    with pytest.raises(lp.LazypipeError) as error:
        run(tmp_path, 3, [], append).raise_for_status()
    assert (
        f"{tmp_path}/{ASIDE}: rows of 'mid' that were quarantined before have values in 'w', but rows no longer have such a column, or have it with another type"
        "; keep the columns, run once in full (--full), or delete this and mid.commits if those rows are not needed"
    ) in str(error.value)
    assert lp.scan(tmp_path / "out/end").collect()["id"].sort().to_list() == [1, 2]
    run(tmp_path, 3, [], append, full=True).raise_for_status()
    assert aside(tmp_path) == {(101, "b", -1): 1, (102, "b", -1): 1, (103, "b", -1): 1}
