"""A table whose rows knew which file they are of, and know it no more as its gate has got a rule that looks at all of them."""

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset

KEYS = [{"unique": {"columns": "id", "action": "quarantine"}}]


def plans(root: Path, rules: list[Any], *, ahead: bool, **output: Any) -> list[lp.Plan]:
    """Return one pipeline with a table that another output reads, or two, of which the second reads that of the first."""
    made = (
        lp.pipeline("p", base=root).source("s", "in/*.parquet").stage("mid", "s", gate=rules).output("mid", "out/mid")
    )
    if not ahead:
        return [made.stage("end", "mid").output("end", "out/end", **output).build().compile()]
    made.build().compile().run().raise_for_status()
    then = lp.pipeline("q", base=root).source("m", "out/mid").stage("end", "m")
    return [then.output("end", "out/end", **output).build().compile()]


def deliver(root: Path, number: int) -> None:
    (root / "in").mkdir(exist_ok=True)
    pl.DataFrame({"id": [number, 9], "v": [number, number]}).write_parquet(root / f"in/{number}.parquet")


def held(root: Path, name: str) -> Counter[Any]:
    return Counter(lp.scan(root / "out" / name).collect().rows())


@pytest.mark.parametrize("ahead", [False, True])
def test_who_reads_it_is_made_anew(tmp_path: Path, ahead: bool) -> None:
    tagged = []
    for number, rules in enumerate([[], [], KEYS, KEYS, []]):
        deliver(tmp_path, number)
        for plan in plans(tmp_path, rules, ahead=ahead):
            plan.run().raise_for_status()
        tagged.append(Dataset(tmp_path / "out/mid").read().tagged)
        assert held(tmp_path, "end") == held(tmp_path, "mid")
    assert tagged == [True, True, False, False, True]
    assert held(tmp_path, "end").total() == 10


@pytest.mark.parametrize("ahead", [False, True])
def test_rows_by_keys_come_once_more(tmp_path: Path, ahead: bool) -> None:
    deliver(tmp_path, 0)
    pl.DataFrame({"id": [1], "v": [1]}).write_parquet(tmp_path / "in/1.parquet")
    for rules in ([], KEYS):
        for plan in plans(tmp_path, rules, ahead=ahead, mode="upsert", key="id"):
            plan.run().raise_for_status()
        assert held(tmp_path, "end") == held(tmp_path, "mid") == {(0, 0): 1, (9, 0): 1, (1, 1): 1}
    (plan,) = plans(tmp_path, KEYS, ahead=ahead, mode="upsert", key="id")
    assert plan.run().status == "unchanged"


@pytest.mark.parametrize("ahead", [False, True])
def test_rows_that_were_added_are_not_added_once_more(tmp_path: Path, ahead: bool) -> None:
    for number in (0, 1):
        deliver(tmp_path, number)
    for plan in plans(tmp_path, [], ahead=ahead, mode="append"):
        plan.run().raise_for_status()
    before = held(tmp_path, "end")
    name = "m" if ahead else "mid"
    said = f"output 'end': rows of '{name}' were rewritten, and would be added a second time"
    for plan in plans(tmp_path, KEYS, ahead=ahead, mode="append"):
        with pytest.raises(lp.LazypipeError, match=said):
            plan.run().raise_for_status()
        assert held(tmp_path, "end") == before
