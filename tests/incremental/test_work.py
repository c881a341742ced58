"""What a run decides to do for an output, and what it says of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import StorageError
from lazypipe.incremental.before import files_of_units
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.numbered import seal
from tests.delivered import CLOCK, alter, put

BASE: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "sources": {"a": {"uri": "in/*.parquet"}},
    "stages": {"s": {"from": "a", "do": [{"filter": "x >= 0"}]}},
    "outputs": {"s": {"to": "out/s"}},
}


def deliver(root: Path, name: str, rows: list[int], *, later: int = 0) -> Path:
    return put(root / "in" / f"{name}.parquet", pl.DataFrame({"x": rows}, schema={"x": pl.Int64()}), CLOCK + later)


def run(root: Path, data: dict[str, Any] = BASE, *, now: datetime | None = None, **more: Any) -> lp.RunResult:
    result = lp.Pipeline.from_dict(data, base=str(root)).compile(now=now).run(now=now, **more)
    result.raise_for_status()
    return result


def held(root: Path, name: str = "s", **which: Any) -> list[int]:
    return sorted(lp.scan(str(root / "out" / name), **which).collect()["x"].to_list())


def why(result: lp.RunResult) -> str:
    (segment,) = result.segments
    return f"{segment.status}: {segment.why}"


def test_what_is_done_is_said(tmp_path: Path) -> None:
    deliver(tmp_path, "1", [1, -1])
    assert why(run(tmp_path)) == "done: nothing was committed yet"
    assert why(run(tmp_path)) == "unchanged: nothing changed: a: 1 unchanged"
    deliver(tmp_path, "2", [2])
    assert why(run(tmp_path)) == "done: a: 1 added, 1 unchanged"
    deliver(tmp_path, "2", [3, 4], later=9)
    assert why(run(tmp_path)) == "done: a: 1 modified, 1 unchanged"
    (tmp_path / "in" / "1.parquet").unlink()
    assert why(run(tmp_path)) == "done: a: 1 removed, 1 unchanged"
    assert held(tmp_path) == [3, 4]
    assert why(run(tmp_path, full=True)) == "done: full rebuild requested"
    changed = {**BASE, "stages": {"s": {"from": "a", "do": [{"filter": "x > 3"}]}}}
    assert why(run(tmp_path, changed)).startswith("done: the definition changed: ")
    assert held(tmp_path) == [4]


def test_other_partitions_are_another_definition(tmp_path: Path) -> None:
    deliver(tmp_path, "1", [1, 2])
    data = {**BASE, "stages": {"s": {"from": "a", "do": [{"derive": {"k": "x % 2"}}]}}}
    run(tmp_path, data)
    parted = {**data, "outputs": {"s": {"to": "out/s", "partition_by": "k"}}}
    assert (
        why(run(tmp_path, parted))
        == "done: the definition changed: partitioning, upstream rules, or the rows that these quarantine"
    )
    assert held(tmp_path) == [1, 2]
    assert len(list((tmp_path / "out" / "s").glob("k=*"))) == 2


def test_files_that_have_not_changed_are_not_read(tmp_path: Path) -> None:
    first = deliver(tmp_path, "1", [1, 2])
    run(tmp_path)
    whole = first.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8  # columns are learned from footers
    alter(first, b"x" * (len(whole) - footer) + whole[-footer:])
    deliver(tmp_path, "2", [3])
    assert why(run(tmp_path)) == "done: a: 1 added, 1 unchanged"
    assert held(tmp_path) == [1, 2, 3]
    # and as soon as it has to be read, it is noticed
    with pytest.raises(lp.LazypipeError):
        run(tmp_path, full=True)
    assert held(tmp_path) == [1, 2, 3]


def test_a_commit_by_another_program_counts_as_nothing_consumed(tmp_path: Path) -> None:
    deliver(tmp_path, "1", [1])
    run(tmp_path)
    dataset = Dataset(str(tmp_path / "out/s"))
    commit = dataset.read()
    dataset.commit(commit.files, commit.schema, run="by hand", time=datetime(2024, 1, 1, tzinfo=UTC), tagged=True)
    assert why(run(tmp_path)) == "done: the last version does not record what it was made from"
    assert held(tmp_path) == [1]


@pytest.mark.parametrize(
    "damage",
    [{"fingerprint": {}}, {"fingerprint": None}, {"fingerprint": {"rows": 1}}, {"layout": ...}, {"units": ...}],
)
def test_what_was_consumed_may_be_damaged(tmp_path: Path, damage: dict[str, Any]) -> None:
    deliver(tmp_path, "1", [1])
    run(tmp_path)
    (path,) = (tmp_path / "out" / "s.commits").glob("*.json")
    body = json.loads(path.read_text())
    body.pop("blake3")
    said = body["info"]["consumed"]
    for key, value in damage.items():
        if value is ...:
            del said[key]
        else:
            said[key] = value
    path.write_text(json.dumps(body | {"blake3": seal(body)}))
    with pytest.raises(StorageError, match="the record of what the output has consumed is damaged; run once in full"):
        run(tmp_path)
    run(tmp_path, full=True)
    assert held(tmp_path) == [1]
    assert why(run(tmp_path)).startswith("unchanged")


# rules about the clock

FRESH: dict[str, Any] = {
    **BASE,
    "stages": {
        "s": {
            "from": "a",
            "do": [{"derive": {"at": "TIMESTAMP '2024-01-01 00:00:00'"}}],
            "gate": [{"freshness": {"column": "at", "within": "2d"}}],
        }
    },
}


def test_rules_about_the_clock_are_judged_again(tmp_path: Path) -> None:
    deliver(tmp_path, "1", [1])
    start = datetime(2024, 1, 1, tzinfo=UTC)
    run(tmp_path, FRESH, now=start)
    (first,) = Dataset(str(tmp_path / "out/s")).read().files
    plan = lp.Pipeline.from_dict(FRESH, base=str(tmp_path)).compile(now=start + timedelta(days=1))
    (told,) = plan.preview()
    assert (told["how"], told["reads"]) == ("judge", [])
    assert told["writes"].endswith("version 2, with the same data")
    assert (
        why(run(tmp_path, FRESH, now=start + timedelta(days=1)))
        == "done: rules that use the current time are checked again"
    )
    # no row is written for that
    commit = Dataset(str(tmp_path / "out/s")).read()
    assert (commit.version, commit.files) == (2, (first,))
    assert [(c["value"], c["status"]) for c in commit.info["gates"][0]["checks"]] == [("2024-01-01 00:00:00", "pass")]
    with pytest.raises(lp.GateError, match="freshness"):
        run(tmp_path, FRESH, now=start + timedelta(days=3))
    assert held(tmp_path) == [1]
    assert Dataset(str(tmp_path / "out/s")).read().version == 2


def test_what_is_measured_by_the_clock_makes_nothing_anew(tmp_path: Path) -> None:
    first = deliver(tmp_path, "1", [1])
    start = datetime(2024, 1, 1, tzinfo=UTC)
    run(tmp_path, FRESH, now=start)
    whole = first.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    alter(first, b"x" * (len(whole) - footer) + whole[-footer:])
    deliver(tmp_path, "2", [2])
    assert why(run(tmp_path, FRESH, now=start + timedelta(days=1))) == "done: a: 1 added, 1 unchanged"
    assert held(tmp_path) == [1, 2]


@pytest.mark.parametrize("more", [[], [{"unique": {"columns": "x", "action": "warn"}}]])
def test_rows_are_judged_by_the_clock_where_they_are(tmp_path: Path, more: list[Any]) -> None:
    """What was counted of rows before says nothing then: with new ones, all are made anew."""
    deliver(tmp_path, "1", [1, 1])
    gate = [{"in_past": {"column": "at", "action": "warn"}}, *more]
    data = {**FRESH, "stages": {"s": {**FRESH["stages"]["s"], "gate": gate}}}
    at = datetime(2024, 1, 1, tzinfo=UTC)
    found = []
    for day in (-1, 1):
        result = run(tmp_path, data, now=at + timedelta(days=day))
        found.append([(c.evaluated, c.failed) for c in result.gates["s"].checks])
    repeated = [(2, 2)] if more else []
    assert found == [[(2, 2), *repeated], [(2, 0), *repeated]]
    assert len({f.path for v in (1, 2) for f in Dataset(str(tmp_path / "out/s")).read(version=v).files}) == 1
    deliver(tmp_path, "2", [2])
    result = run(tmp_path, data, now=at - timedelta(days=1))
    assert why(result) == "done: rules that use the current time are checked again"
    first = result.gates["s"].checks[0]
    assert (first.evaluated, first.failed) == (3, 3)


def test_rules_of_the_clock_that_take_rows_out_make_them_anew(tmp_path: Path) -> None:
    deliver(tmp_path, "1", [1])
    gate = [{"in_past": {"column": "at", "action": "warn"}}, {"between": {"column": "x", "max": 9, "action": "drop"}}]
    data = {**FRESH, "stages": {"s": {**FRESH["stages"]["s"], "gate": gate}}}
    for _ in range(2):
        result = run(tmp_path, data, now=datetime(2024, 1, 5, tzinfo=UTC))
    assert result.segments[0].written == 1


@pytest.mark.parametrize("rule", ["in_past", "in_future"])
@pytest.mark.parametrize("action", ["warn", "quarantine", "drop"])
def test_rows_meet_the_clock_of_each_run(tmp_path: Path, rule: str, action: str) -> None:
    at = datetime(2024, 1, 1)
    deliver(tmp_path, "1", [1])
    gate = [{rule: {"column": "at", "action": action}}]
    data = {**FRESH, "stages": {"s": {**FRESH["stages"]["s"], "gate": gate}}}
    failed = []
    for day in (-1, 1, 2):
        result = run(tmp_path, data, now=(at + timedelta(days=day)).replace(tzinfo=UTC))
        assert result.segments[0].status == "done"
        failed.append(result.gates["s"].checks[0].failed)
        assert (held(tmp_path) == []) == (failed[-1] == 1 and action != "warn")
    assert failed == ([1, 0, 0] if rule == "in_past" else [0, 1, 1])


@pytest.mark.parametrize(
    "rule",
    [
        {"in_past": {"column": "at", "action": "quarantine"}},
        {"in_future": {"column": "at", "action": "drop"}},
        {"in_future": {"column": "at", "action": "repair", "repair": {"clip": True}}},
    ],
    ids=["quarantine", "drop", "repair"],
)
def test_the_clock_is_no_change_of_the_definition_and_lets_runs_that_take_a_part_come_to_an_end(
    tmp_path: Path, rule: dict[str, Any]
) -> None:
    for name in ("1", "2", "3"):
        deliver(tmp_path, name, [int(name)])
    data = {**FRESH, "stages": {"s": {**FRESH["stages"]["s"], "gate": [rule]}}}
    found = []
    for day in range(5):
        result = run(tmp_path, data, now=datetime(2024, 1, 5 + day, tzinfo=UTC), max_files=1)
        found.append((result.left, why(result).partition(";")[0], result.gates["s"].checks[0].evaluated))
    again = "done: rules that use the current time are checked again"
    assert found == [
        (2, "done: nothing was committed yet", 1),
        (1, again, 2),
        (0, again, 3),
        (0, again, 3),
        (0, again, 3),
    ]


@pytest.mark.parametrize("action", ["warn", "quarantine"])
def test_rows_that_are_added_up_and_put_beside_others_meet_the_clock_too(tmp_path: Path, action: str) -> None:
    deliver(tmp_path, "1", [1])
    deliver(tmp_path, "2", [2])
    do = [*FRESH["stages"]["s"].get("do", []), {"sample": {"rows": 2, "seed": 1}}]
    stage = {**FRESH["stages"]["s"], "do": do, "gate": [{"in_past": {"column": "at", "action": action}}]}
    data = {**FRESH, "stages": {"s": stage}, "outputs": {"s": {"to": "out/s", "mode": "upsert", "key": "x"}}}
    at = datetime(2024, 1, 1, tzinfo=UTC)
    found = [why(run(tmp_path, data, now=at + timedelta(days=day))).partition(";")[0] for day in (-1, 1)]
    moved = "done: rules that use the current time are checked again"
    assert found[1] == (moved if action == "quarantine" else "unchanged: nothing changed: a: 2 unchanged")
    assert held(tmp_path) == [1, 2]


@pytest.mark.parametrize("place", ["source", "kept"])
def test_the_clock_of_rules_ahead_counts_too(tmp_path: Path, place: str) -> None:
    deliver(tmp_path, "1", [1])
    gate = [{"expression": {"condition": "x < date_part('year', :now)", "action": "warn"}}]
    stages: dict[str, Any] = {"s": {"from": "a"}}
    outputs: dict[str, Any] = {"s": {"to": "out/s"}}
    if place == "kept":
        stages = {"k": {"from": "a", "gate": gate}, "s": {"from": "k"}, "t": {"from": "k"}}
        outputs |= {"t": {"to": "out/t"}}
    sources = {"a": {"uri": "in/*.parquet"} | ({"gate": gate} if place == "source" else {})}
    data = {**BASE, "sources": sources, "stages": stages, "outputs": outputs}
    run(tmp_path, data)
    again = run(tmp_path, data)
    assert {s.why for s in again.segments if s.output} == {"rules that use the current time are checked again"}


# dead rows


@pytest.mark.parametrize("parts", [{}, {"partition_by": "k"}])
def test_files_with_more_dead_rows_than_live_ones_are_written_anew(tmp_path: Path, parts: dict[str, Any]) -> None:
    made = {"s": {"from": "a", "do": [{"derive": {"k": "x % 2"}}]}}
    data = {**BASE, "stages": made, "outputs": {"s": {"to": "out/s", **parts}}}
    for name, rows in {"1": [*range(10)], "2": [*range(10, 20)], "3": [*range(20, 30)]}.items():
        deliver(tmp_path, name, rows)
    run(tmp_path, data)
    dataset = Dataset(str(tmp_path / "out/s"))
    (tmp_path / "in" / "1.parquet").unlink()
    run(tmp_path, data)
    one_gone = dataset.read()
    assert {f.path for f in one_gone.files} == {f.path for f in dataset.read(version=1).files}
    assert len(one_gone.gone) == 1
    (tmp_path / "in" / "2.parquet").unlink()
    deliver(tmp_path, "4", [40])
    run(tmp_path, data)
    two_gone = dataset.read()
    assert held(tmp_path) == [*range(20, 30), 40]
    assert two_gone.gone == frozenset()
    assert sum(f.rows for f in two_gone.files) == two_gone.rows == 11
    assert not {f.path for f in two_gone.files} & {f.path for f in one_gone.files}
    # the versions before still are what they were
    assert held(tmp_path, version=1) == [*range(30)]
    assert held(tmp_path, version=2) == [*range(10, 30)]
    (tmp_path / "in" / "3.parquet").unlink()
    run(tmp_path, data)
    assert held(tmp_path) == [40]
    lp.vacuum(str(tmp_path / "out/s"), keep=1, older_than=timedelta(0))
    assert held(tmp_path) == [40]
    found = {str(p.relative_to(tmp_path / "out/s")) for p in (tmp_path / "out/s").rglob("*.parquet")}
    assert found == {f.path for f in dataset.read().files}


def test_rows_of_a_side_that_is_kept_for_the_run_come_once(tmp_path: Path) -> None:
    """A source that is read twice is kept for the run, each row with its unit: only what is new of it is added."""
    deliver(tmp_path, "1", [1])
    pl.DataFrame({"x": [7]}).write_parquet(tmp_path / "b.parquet")
    sources = {**BASE["sources"], "b": {"uri": "b.parquet"}}
    data = {**BASE, "sources": sources, "stages": {"s": {"from": "a", "do": [{"union": "b"}, {"union": "b"}]}}}
    run(tmp_path, data)
    deliver(tmp_path, "2", [2])
    run(tmp_path, data)
    assert held(tmp_path) == [1, 2, 7, 7]


def test_a_commit_that_does_not_say_knows_no_files_of_units() -> None:
    commit = Commit(1, "r", datetime(2024, 1, 1, tzinfo=UTC), "replace", pl.Schema({"x": pl.Int64()}), ())
    assert files_of_units(commit) == {}
