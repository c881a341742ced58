"""The id that a caller gives a run: data files are named by it, so it must be a name, and of one run only."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp

RULES = [
    {"between": {"column": "x", "max": 8, "action": "quarantine"}},
    {"unique": {"columns": "id", "action": "fail"}},
]


def deliver(root: Path, name: str, *ids: int) -> None:
    (root / "in").mkdir(exist_ok=True)
    pl.DataFrame({"id": ids, "x": [i % 10 for i in ids]}).write_parquet(root / "in" / f"{name}.parquet")


def plan_of(root: Path, **more: Any) -> lp.Plan:
    made = lp.pipeline("p", base=root, **more).source("a", "in/*.parquet").stage("b", "a", gate=RULES)
    return made.output("b", "out").build().compile()


def ids(root: Path, version: int | None = None) -> list[int]:
    return lp.scan(root / "out", version=version).collect()["id"].sort().to_list()


def test_an_id_that_was_used_is_refused_and_what_it_wrote_stays(tmp_path: Path) -> None:
    deliver(tmp_path, "1", 1, 2, 9)
    assert plan_of(tmp_path).run(run="daily").status == "done"
    deliver(tmp_path, "2", 2)  # the gate refuses a second row 2
    with pytest.raises(lp.LazypipeError) as refused:
        plan_of(tmp_path).run(run="daily")
    assert (
        str(refused.value) == "there was a run 'daily' already, and no two have one id; give another, or leave it out"
    )
    assert plan_of(tmp_path).run(run="daily.2").status == "gate_failed"
    assert ids(tmp_path) == [1, 2]


def test_an_id_that_was_used_is_refused_in_a_store(tmp_path: Path) -> None:
    deliver(tmp_path, "1", 1)
    state = f"memory://{tmp_path.name}-ids"
    assert plan_of(tmp_path, state=state).run(run="daily").status == "done"
    with pytest.raises(lp.LazypipeError, match="there was a run 'daily' already"):
        plan_of(tmp_path, state=state).run(run="daily", full=True)


def test_where_its_record_is_gone_the_files_of_the_last_run_tell(tmp_path: Path) -> None:
    deliver(tmp_path, "1", 1, 2)
    plan_of(tmp_path).run(run="daily").raise_for_status()
    shutil.rmtree(tmp_path / ".lazypipe")
    deliver(tmp_path, "2", 2)
    for full in (False, True):
        result = plan_of(tmp_path).run(run="daily", full=full)
        told = "run 'daily' has written files of this dataset already; give another id, or leave it out"
        assert (result.status, str(result.segments[0].error)) == ("error", told)
        assert ids(tmp_path) == [1, 2]
        shutil.rmtree(tmp_path / ".lazypipe")


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda root, run: lp.optimize.rewrite(root / "out", lp.optimize.Layout(sort_by=("x",)), run=run),
        lambda root, run: lp.optimize.compact(root / "out", target=10_000_000, run=run),
    ],
    ids=["rewrite", "compact"],
)
def test_maintenance_refuses_the_id_of_the_files_that_it_reads(tmp_path: Path, rewrite: Callable[..., Any]) -> None:
    deliver(tmp_path, "1", 1, 2)
    plan_of(tmp_path).run(run="daily").raise_for_status()
    with pytest.raises(lp.LazypipeError, match="run 'daily' has written files of this dataset already"):
        rewrite(tmp_path, "daily")
    assert ids(tmp_path) == [1, 2]
    rewrite(tmp_path, "another")
    assert (ids(tmp_path), ids(tmp_path, 1)) == ([1, 2], [1, 2])


def test_a_replay_refuses_the_id_of_another(tmp_path: Path) -> None:
    deliver(tmp_path, "1", 1, 2, 9, 19)
    plan_of(tmp_path).run(run="daily").raise_for_status()

    def replayed(most: int, run: str) -> int:
        rules = [{"between": {"column": "x", "max": 8, "where": f"id > {most}", "action": "quarantine"}}]
        made = lp.pipeline("p", base=tmp_path).source("a", "in/*.parquet").stage("b", "a", gate=rules)
        return made.output("b", "out").build().compile().replay("b", run=run).healed

    assert replayed(9, "mended") == 1
    with pytest.raises(lp.LazypipeError, match="run 'mended' has written files of this dataset already"):
        replayed(19, "mended")
    assert ids(tmp_path) == [1, 2, 9]
    assert replayed(19, "mended.2") == 1
    assert (ids(tmp_path), ids(tmp_path, 2)) == ([1, 2, 9, 19], [1, 2, 9])


@pytest.mark.parametrize("run", ["..", ".", ".hidden", "../daily", "a/b", "a\\b", "a\nb", "a*b", 5, b"daily"])
def test_an_id_that_names_no_file_is_refused(tmp_path: Path, run: Any) -> None:
    deliver(tmp_path, "1", 1)
    plan = plan_of(tmp_path)
    told = (
        f"run is {run!r}, but files are named by it; use letters, digits, spaces and . _ : + = @ ~ -, or leave it out"
    )
    asks: list[Callable[[], object]] = [
        lambda: plan.run(run=run),
        lambda: plan.replay("b", run=run),
        lambda: lp.rollback(tmp_path / "out", version=1, run=run),
        lambda: lp.publish_delta(tmp_path / "out", run=run),
        lambda: lp.optimize.compact(tmp_path / "out", run=run),
    ]
    plan.run().raise_for_status()
    for ask in asks:
        with pytest.raises(lp.LazypipeError) as refused:
            ask()
        assert str(refused.value) == told


def test_a_long_id_is_refused(tmp_path: Path) -> None:
    deliver(tmp_path, "1", 1)
    with pytest.raises(lp.LazypipeError) as refused:
        plan_of(tmp_path).run(run="é" * 61)
    told = "run is longer than 120 bytes, but files are named by it; shorten it, or leave it out"
    assert str(refused.value) == told
    assert plan_of(tmp_path).run(run="é" * 60).status == "done"


@pytest.mark.parametrize("run", ["scheduled__2024-01-01T00:00:00+00:00", "a b", "ü.1", "me@host=3~2"])
def test_ids_of_schedulers_are_taken(tmp_path: Path, run: str) -> None:
    deliver(tmp_path, "1", 1, 9)
    result = plan_of(tmp_path).run(run=run)
    assert (result.run, result.status, ids(tmp_path)) == (run, "done", [1])
    deliver(tmp_path, "2", 2)
    assert plan_of(tmp_path).run().status == "done"
    assert (ids(tmp_path), ids(tmp_path, 1)) == ([1, 2], [1])


def test_an_empty_id_is_none(tmp_path: Path) -> None:
    deliver(tmp_path, "1", 1)
    now = datetime(2024, 1, 2, tzinfo=UTC)
    first, second = (plan_of(tmp_path).run(run="", now=now, full=True) for _ in range(2))
    assert first.run.startswith("20240102T000000-")
    assert first.run != second.run


def test_several_definitions_do_not_share_an_id(tmp_path: Path) -> None:
    deliver(tmp_path, "1", 1)
    one = lp.pipeline("one", base=tmp_path).source("a", "in/*.parquet").output("a", "out").build()
    two = lp.pipeline("two", base=tmp_path).source("a", "out").output("a", "last").build()
    with pytest.raises(lp.LazypipeError) as refused:
        lp.run_all([one, two], run="daily")
    assert str(refused.value) == "run='daily' names one run, and these are several; leave it out"
    assert lp.run_all([one], run="daily")["one"].run == "daily"


def test_a_definition_that_was_overtaken_goes_on_under_an_id_of_its_own(tmp_path: Path) -> None:
    deliver(tmp_path, "1", 1)
    seen: list[str] = []

    def overtake(*_: object) -> None:
        if not seen:
            seen.append(plan_of(tmp_path).run(run="first").status)

    made = lp.pipeline("p", base=tmp_path).source("a", "in/*.parquet").stage("b", "a", gate=RULES).output("b", "out")
    result = lp.run_all([made.build()], run="daily", observer=overtake)["p"]
    assert (seen, result.run, result.status, ids(tmp_path)) == (["done"], "daily.2", "unchanged", [1])


@pytest.mark.parametrize("kind", [Path, str])
def test_a_folder_for_work_keeps_what_was_in_it(tmp_path: Path, kind: Callable[[Path], Any]) -> None:
    deliver(tmp_path, "1", 1, 2)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "thesis.txt").write_text("years of work")
    made = lp.pipeline("p", base=tmp_path).source("a", "in/*.parquet").stage("b", "a", gate=RULES)
    made = made.stage("c", "b", [{"filter": "x = 1"}]).stage("d", "b", [{"filter": "x = 2"}])
    plan = made.output("c", "out").output("d", "last").build().compile()
    seen: list[list[str]] = []

    def look(*_: object) -> None:
        seen.append(sorted(p.name for p in (tmp_path / "scratch").iterdir()))

    plan.run(run="daily", work=kind(tmp_path / "scratch"), observer=look).raise_for_status()
    assert ["daily", "thesis.txt"] in seen
    assert [p.name for p in (tmp_path / "scratch").iterdir()] == ["thesis.txt"]
    assert ids(tmp_path) == [1]
