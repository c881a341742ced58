"""Outputs by groups: a change makes those groups anew that it touches, and rewrites only the files that hold them."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import StorageError
from lazypipe.run import recorder
from lazypipe.run.segment import figures, grouping, groups
from lazypipe.storage import sink
from lazypipe.storage.datasets import key_bounds, tiers
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.numbered import seal
from lazypipe.storage.parquet.ranges import Footer
from lazypipe.storage.sink import DatasetSink

CLOCK = 1_700_000_000
AGGREGATE = {"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "total": "sum(v)", "worst": "max(v)"}}}
COLUMNS = {"k": pl.Int64(), "v": pl.Int64()}


def definition(*more: dict[str, Any], gate: list[Any] | None = None, **output: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "in/*.parquet"}},
        "stages": {"s": {"from": "a", "do": [AGGREGATE, *more], "gate": gate or []}},
        "outputs": {"s": {"to": "out/s", **output}},
    }


def deliver(root: Path, name: str, rows: list[tuple[int | None, int]], *, later: int = 0) -> Path:
    path = root / "in" / f"{name}.parquet"
    path.parent.mkdir(exist_ok=True)
    pl.DataFrame(rows, schema=COLUMNS, orient="row").write_parquet(path)
    os.utime(path, (CLOCK + later, CLOCK + later))
    return path


def run(root: Path, data: dict[str, Any], **more: Any) -> lp.SegmentResult:
    result = lp.Pipeline.from_dict(data, base=str(root)).compile().run(**more)
    result.raise_for_status()
    return result.segments[0]


def held(root: Path) -> list[tuple[Any, ...]]:
    return sorted(lp.scan(str(root / "out/s")).collect().rows(), key=repr)


def expected(root: Path) -> list[tuple[Any, ...]]:
    """What the files hold by groups, counted by hand."""
    found: dict[int | None, list[int]] = {}
    for path in (root / "in").glob("*.parquet"):
        for k, v in pl.read_parquet(path).rows():
            found.setdefault(k, []).append(v)
    return sorted([(k, len(v), sum(v), max(v)) for k, v in found.items()], key=repr)


def paths(root: Path) -> set[str]:
    return {f.path for f in Dataset(str(root / "out/s")).read().files}


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make data files of a hundred rows each."""
    for module in (figures, tiers):
        monkeypatch.setattr(module, "ROWS", 100)


@pytest.mark.usefixtures("small_files")
def test_only_files_that_hold_touched_groups_are_written(tmp_path: Path) -> None:
    data = definition()
    deliver(tmp_path, "1", [(k, v) for k in range(1_000) for v in (k, -k)])
    run(tmp_path, data)
    before = paths(tmp_path)
    assert len(before) == 10
    deliver(tmp_path, "2", [(5, 1), (905, 7), (906, 8), (None, 3)])
    result = run(tmp_path, data)
    assert result.why == "a: 1 added, 1 unchanged; 4 groups touched, of 1,000 rows"
    assert result.written == 4
    assert held(tmp_path) == expected(tmp_path)
    gone, new = before - paths(tmp_path), paths(tmp_path) - before
    # the first and the last hundred, without three rows, together with the four rows that are new, in files of a hundred
    assert len(gone) == 2
    rows = {f.path: f.rows for f in Dataset(str(tmp_path / "out/s")).read().files}
    assert sorted(rows[p] for p in new) == [1, 100, 100]
    # a file that changes touches the groups that it had and those that it has
    deliver(tmp_path, "2", [(5, 1), (2_000, 7)], later=5)
    assert "; 5 groups touched" in (run(tmp_path, data).why or "")
    assert held(tmp_path) == expected(tmp_path)
    (tmp_path / "in/2.parquet").unlink()
    run(tmp_path, data)
    assert held(tmp_path) == expected(tmp_path)
    assert run(tmp_path, data).status == "unchanged"


def test_rows_of_one_time_leave_files_of_others_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many groups there are of that time, and however they are named."""
    monkeypatch.setattr(tiers, "ROWS", 100)
    data = definition()
    by_day = {"time": "at", "every": "1d", "by": "k", "aggregate": {"n": "count(*)"}}
    data["stages"]["s"]["do"] = [{"window": by_day}]
    (tmp_path / "in").mkdir()
    rows = [(datetime(2024, 1, 1) + timedelta(days=day), k) for day in range(20) for k in range(50)]
    made = pl.DataFrame(rows, schema={"at": pl.Datetime("us"), "k": pl.Int64()}, orient="row")
    made.write_parquet(tmp_path / "in/1.parquet")
    run(tmp_path, data)
    before = paths(tmp_path)
    assert len(before) == 10
    late = made.filter(pl.col("at") == datetime(2024, 1, 5))
    late.write_parquet(tmp_path / "in/2.parquet")
    assert "50 groups touched" in (run(tmp_path, data).why or "")
    assert len(before - paths(tmp_path)) == 1
    counted = lp.scan(str(tmp_path / "out/s")).select("window_start", "k", "n").collect()
    assert sorted(counted.rows()) == [(at, k, 1 + (at == datetime(2024, 1, 5))) for at, k in rows]


@pytest.mark.parametrize(
    ("by", "more", "many"),
    [("at", {}, 30), ("at", {"maintain": {"small_files": 8}}, 4), ("k", {}, 1)],
    ids=["times", "few wanted", "no times"],
)
def test_files_are_as_many_as_the_root_of_rows_says_and_no_more_than_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, more: dict[str, Any], many: int
) -> None:
    """What changes in groups of no time may be anywhere: small files would all be written anew, each by a query of its own."""
    monkeypatch.setattr(tiers, "LEAST", 1)
    monkeypatch.setattr(tiers, "_ROOT", 1)
    monkeypatch.setattr(groups, "_TOGETHER", 0)
    data = definition(**more)
    data["stages"]["s"]["do"] = [{"aggregate": {"by": by, "aggregate": {"n": "count(*)"}}}]
    (tmp_path / "in").mkdir()
    made = pl.DataFrame({"k": range(900)}).with_columns(at=pl.lit(date(2024, 1, 1)) + pl.duration(days=pl.col("k")))
    made.write_parquet(tmp_path / "in/1.parquet")
    run(tmp_path, data)
    assert len(paths(tmp_path)) == many
    late = made.filter(pl.col("k").is_in([5, 890]))
    late.write_parquet(tmp_path / "in/2.parquet")
    result = run(tmp_path, data)
    # what a change leaves of a file goes beside what it makes: that is not too many yet
    assert (len(paths(tmp_path)), result.maintained) == (many + 1, ())
    counted = lp.scan(str(tmp_path / "out/s")).select(by, "n").collect().rows()
    assert sorted(counted) == sorted((row[by], 1 + (row["k"] in {5, 890})) for row in made.iter_rows(named=True))


@pytest.mark.parametrize("together", [1 << 16, 0])
def test_a_file_that_has_become_too_large_is_written_anew_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """The second late row finds a small file, whichever way the first one had the large one written."""
    monkeypatch.setattr(groups, "_TOGETHER", together)
    data, root = definition(), str(tmp_path / "out/s")
    deliver(tmp_path, "1", [(k, k) for k in range(1_000)])
    run(tmp_path, data)
    assert len(paths(tmp_path)) == 1
    monkeypatch.setattr(tiers, "ROWS", 100)
    deliver(tmp_path, "2", [(5, 1)])
    run(tmp_path, data)
    there = {f.path: f for f in Dataset(root).read().files}
    assert sorted(f.rows for f in there.values())[-9:] == [100] * 9
    # each holds a stretch of its own
    ends = sorted((f.bounds["k"].low, f.bounds["k"].high) for f in there.values() if f.rows == 100)
    assert all(high < low for (_, high), (low, _) in pairwise(ends))
    deliver(tmp_path, "3", [(455, 1)])
    run(tmp_path, data)
    (gone,) = there.keys() - paths(tmp_path)
    assert there[gone].rows <= 100
    assert held(tmp_path) == expected(tmp_path)


@pytest.mark.usefixtures("small_files")
def test_figures_that_cannot_hold_touched_groups_are_not_read(tmp_path: Path) -> None:
    data = definition()
    for part in range(3):
        deliver(tmp_path, f"{part}", [(k, k) for k in range(part * 1_000, part * 1_000 + 90)])
        run(tmp_path, data)
    commit = Dataset(str(tmp_path / "out/s")).read()
    folder = Path(Dataset(str(tmp_path / "out/s")).figures)
    for file in commit.figures:
        path = folder / file.path
        if pl.scan_parquet(path).select(pl.col("k").min()).collect().item() != 1_000:
            whole = path.read_bytes()
            footer = int.from_bytes(whole[-8:-4], "little") + 8
            path.write_bytes(b"x" * (len(whole) - footer) + whole[-footer:])
    deliver(tmp_path, "late", [(1_007, 1)])
    assert run(tmp_path, data).status == "done"
    assert (1_007, 2, 1_008, 1_007) in held(tmp_path)
    assert held(tmp_path) == expected(tmp_path)


@pytest.mark.usefixtures("small_files")
def test_commits_say_which_groups_figures_hold_and_nobody_opens_them_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    footer_of = key_bounds.footer_of

    def opens(uri: str, options: Any) -> Footer:
        opened.append(Path(uri).name)
        return footer_of(uri, options)

    monkeypatch.setattr(key_bounds, "footer_of", opens)
    data = definition()
    deliver(tmp_path, "a", [(k, k) for k in range(400)])
    run(tmp_path, data)
    assert len(opened) == 4  # of several files it is not known what stands in which
    opened.clear()
    deliver(tmp_path, "b", [(1000, 1), (1001, 1)])
    run(tmp_path, data)
    commit = Dataset(str(tmp_path / "out/s")).read()
    kept = [f.bounds["k"] for f in commit.figures]
    assert sorted((b.low, b.high, b.nulls) for b in kept) == [
        (0, 99, 0),
        (100, 199, 0),
        (200, 299, 0),
        (300, 399, 0),
        (1000, 1001, 0),
    ]
    deliver(tmp_path, "c", [(7, 5)])
    assert "1 group touched" in (run(tmp_path, data).why or "")
    assert held(tmp_path) == expected(tmp_path)
    assert opened == []


JOIN: dict[str, Any] = {"join": {"with": "b", "on": "k", "how": "left"}}
GOOD: dict[str, Any] = {"foreign_key": {"column": "k", "references": {"to": "b", "column": "k"}}}


@pytest.mark.parametrize(
    ("few", "steps", "gate", "sizes"),
    [
        (True, [{"filter": "n > 0"}], [{"between": {"column": "n", "min": 1, "action": "warn"}}], {}),
        (True, [], [], {"sink.FEW": 40}),
        (False, [], [], {"sink.FEW": 40, "grouping.FEW": 1}),
        (False, [], [], {"sink.FEW": 40, "grouping._CELLS": 40}),
        (False, [], [], {"sink.FEW": 40, "grouping._BYTES": 40}),
        (False, [JOIN], [], {}),
        (False, [], [GOOD], {}),
    ],
    ids=["behind", "few of many", "many of many", "too many", "too large", "joined", "looked up"],
)
def test_rows_of_little_that_was_kept_are_not_streamed_unless_others_are_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: bool, steps: list[Any], gate: list[Any], sizes: dict[str, int]
) -> None:
    for name, size in sizes.items():
        module, _, constant = name.partition(".")
        monkeypatch.setattr({"sink": sink, "grouping": grouping}[module], constant, size)
    data = definition(*steps, gate=gate)
    data["sources"]["b"] = {"uri": "b.parquet"}
    pl.DataFrame({"k": range(50), "name": ["x"] * 50}).write_parquet(tmp_path / "b.parquet")
    at_once: list[str] = []
    write = DatasetSink._write_at_once

    def noted(self: DatasetSink, *args: Any) -> Any:
        at_once.append(self.uri)
        return write(self, *args)

    monkeypatch.setattr(DatasetSink, "_write_at_once", noted)
    deliver(tmp_path, "1", [(k, k) for k in range(45)])
    run(tmp_path, data)
    deliver(tmp_path, "2", [(7, 90), (41, 1)])
    run(tmp_path, data)
    assert (str(tmp_path / "out/s") in at_once) is few
    assert [row[:4] for row in held(tmp_path)] == expected(tmp_path)


def test_what_was_written_at_once_is_hashed_and_known_without_being_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = definition()
    deliver(tmp_path, "1", [(k, k) for k in range(40)])
    run(tmp_path, data)
    deliver(tmp_path, "2", [(7, 90), (41, 1)])
    read: list[str] = []
    for module, name in ((recorder, "hash_file"), (key_bounds, "footer_of")):
        plain = getattr(module, name)

        def noted(uri: str, *more: Any, plain: Any = plain) -> Any:
            read.append(str(Path(uri).parent))
            return plain(uri, *more)

        monkeypatch.setattr(module, name, noted)
    run(tmp_path, data)
    assert str(tmp_path / "out/s") not in read
    (file,) = Dataset(str(tmp_path / "out/s")).read().files
    assert file.blake3 == blake3((tmp_path / "out/s" / file.path).read_bytes()).hexdigest()
    assert file.bounds["k"] == (0, 41, 0, 41)
    assert lp.ledger(lp.Pipeline.from_dict(data, base=str(tmp_path))).verify(data=True).ok


@pytest.mark.parametrize("together", [1 << 16, 0])
def test_rows_of_other_groups_are_written_with_new_ones_or_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(groups, "_TOGETHER", together)
    gate: list[Any] = [{"between": {"column": "total", "max": 50, "action": "warn"}}]
    data = definition({"rename": {"k": "g"}}, gate=gate)
    deliver(tmp_path, "1", [(k, k) for k in range(40)])
    first = run(tmp_path, data)
    deliver(tmp_path, "2", [(7, 90), (41, 1)])
    result = run(tmp_path, data)
    assert (result.written, result.rows, len(paths(tmp_path))) == (2, 41, 1 if together else 2)
    assert held(tmp_path) == expected(tmp_path)
    (report,) = result.gates
    assert (report.rows, report.good, report.checks[0].failed) == (41, 41, 1)
    # what only stands beside them is none of what they are made of
    assert first.lineage is not None
    assert result.lineage is not None
    assert result.lineage.columns == first.lineage.columns
    deliver(tmp_path, "2", [(41, 2)])
    assert run(tmp_path, data).written == 2
    assert held(tmp_path) == expected(tmp_path)


def test_rows_beyond_what_changes_go_to_a_file_that_later_changes_leave_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each delivery is of five groups, one further than the last one: one group a time is left behind."""
    monkeypatch.setattr(groups, "_APART", 3)
    data, seen = definition(), []
    for n in range(10):
        deliver(tmp_path, f"{n:02}", [(k, n) for k in range(n - 4 if n else -20, n + 1)])
        assert run(tmp_path, data).written == (5 if n else 21)
        assert held(tmp_path) == expected(tmp_path)
        seen.append({f.path: f.rows for f in Dataset(str(tmp_path / "out/s")).read().files})
    # those left behind are written with what changes until they are as many, and then no more
    assert [sorted(files.values())[:-1] for files in seen[1:]] == [
        *([5], [6], [7], [8]),
        *([4, 5], [4, 6], [4, 7], [4, 8]),
        [4, 4, 5],
    ]
    stayed = sorted(pl.read_parquet(tmp_path / "out/s" / p)["k"].to_list() for p in {*seen[5]} & {*seen[-1]})
    assert stayed == [[*range(-20, -3)], [-3, -2, -1, 0]]


@pytest.mark.parametrize(("least", "files"), [(100, [90]), (50, [10, 80])])
def test_where_hardly_a_group_is_touched_a_small_file_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int, files: list[int]
) -> None:
    """Nothing says that any of its groups changes again soon; only of a larger file that is worth a file more."""
    monkeypatch.setattr(groups, "_APART", 3)
    monkeypatch.setattr(groups, "LEAST", least)
    data = definition()
    deliver(tmp_path, "1", [(k, k) for k in range(90)])
    run(tmp_path, data)
    deliver(tmp_path, "2", [(9, 1)])
    assert run(tmp_path, data).written == 1
    assert sorted(f.rows for f in Dataset(str(tmp_path / "out/s")).read().files) == files
    assert held(tmp_path) == expected(tmp_path)


@given(
    deliveries=st.lists(
        st.lists(
            st.tuples(st.one_of(st.none(), st.integers(-3, 12)), st.integers(0, 9)),
            min_size=1,
            max_size=6,
        ),
        min_size=2,
        max_size=6,
    ),
    dropped=st.integers(0, 9),
)
def test_whichever_rows_go_apart_all_are_there_once(
    deliveries: list[list[tuple[int | None, int]]], dropped: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root, data = Path(folder), definition({"filter": f"total != {dropped}"})
        patch.setattr(groups, "_APART", 1)
        patch.setattr(groups, "LEAST", 1)
        patch.setattr(tiers, "FAN", 4)
        for number, rows in enumerate(deliveries):
            deliver(root, str(number), rows)
            run(root, data)
            wanted = [r for r in expected(root) if r[2] != dropped]
            assert held(root) == wanted
            assert Dataset(str(root / "out/s")).read().rows == len(wanted)


@pytest.mark.parametrize("together", [1 << 16, 0])
def test_a_data_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(groups, "_TOGETHER", together)
    data = definition()
    deliver(tmp_path, "1", [(k, k) for k in range(40)])
    run(tmp_path, data)
    (path,) = paths(tmp_path)
    (tmp_path / "out/s" / path).write_bytes(b"no Parquet at all")
    deliver(tmp_path, "2", [(7, 90)])
    with pytest.raises(StorageError, match=f"out/s/{path}: a data file cannot be read: .*; restore it from a backup"):
        run(tmp_path, data)


def test_many_groups_are_made_anew_all_together(tmp_path: Path) -> None:
    data = definition()
    deliver(tmp_path, "1", [(k, k) for k in range(10)])
    run(tmp_path, data)
    deliver(tmp_path, "2", [(k, k) for k in range(4, 12)])
    assert run(tmp_path, data).why == "a: 1 added, 1 unchanged"
    assert held(tmp_path) == expected(tmp_path)
    assert len(paths(tmp_path)) == 1


def test_groups_that_are_filtered_leave_no_rows(tmp_path: Path) -> None:
    data = definition({"filter": "n < 2"}, {"rename": {"k": "g"}})
    deliver(tmp_path, "1", [(k, k) for k in range(10)])
    run(tmp_path, data)
    deliver(tmp_path, "2", [(4, 4)])
    result = run(tmp_path, data)
    assert (result.written, result.rows) == (0, 9)
    assert held(tmp_path) == [r for r in expected(tmp_path) if r[0] != 4]


GATES: list[dict[str, Any]] = [
    {"between": {"column": "total", "max": 50, "action": "warn"}},
    {"between": {"column": "worst", "min": 2, "action": "warn", "where": "n > 1"}},
    {"unique": {"columns": "k", "action": "warn"}},
    {"unique": {"columns": "n", "action": "warn"}},
    {"unique": {"columns": ["k", "n"], "action": "warn"}},
    {"sum": {"column": "n", "max": 1_000, "action": "warn"}},
    {"row_count": {"min": 3, "action": "fail"}},
]


def counted(root: Path, data: dict[str, Any], **more: Any) -> list[tuple[Any, ...]]:
    (report,) = run(root, data, **more).gates
    return [(report.rows, report.good), *((c.id, c.evaluated, c.failed, c.value, c.status) for c in report.checks)]


@pytest.mark.parametrize("more", [[], [{"join": {"with": "d", "on": "k", "how": "left"}}]])
def test_gates_count_all_rows(tmp_path: Path, more: list[Any]) -> None:
    """With a join that multiplies rows, keys repeat that are those of one group."""
    data = definition(*more, gate=GATES)
    data["sources"]["d"] = {"uri": "d.parquet"}
    pl.DataFrame({"k": [3, 7, 7], "label": ["x", "y", "z"]}).write_parquet(tmp_path / "d.parquet")
    anew = {**data, "outputs": {"s": {"to": "anew/s"}}}
    deliver(tmp_path, "1", [(k, k * 2) for k in range(40)])
    assert counted(tmp_path, data) == counted(tmp_path, anew, full=True)
    for name, rows in {"2": [(3, 90), (7, 1)], "3": [(3, 1), (None, 70)], "4": [(50, 51), (51, 0)]}.items():
        deliver(tmp_path, name, rows)
        assert counted(tmp_path, data) == counted(tmp_path, anew, full=True)
    (tmp_path / "in/3.parquet").unlink()
    assert counted(tmp_path, data) == counted(tmp_path, anew, full=True)
    assert held(tmp_path) == sorted(lp.scan(str(tmp_path / "anew/s")).collect().rows(), key=repr)


def test_a_gate_that_fails_leaves_groups_as_they_were(tmp_path: Path) -> None:
    data = definition(gate=[{"between": {"column": "worst", "max": 100}}])
    deliver(tmp_path, "1", [(k, k) for k in range(40)])
    run(tmp_path, data)
    before = held(tmp_path)
    deliver(tmp_path, "2", [(4, 101)])
    with pytest.raises(lp.GateError, match="1 of 40 rows"):
        run(tmp_path, data)
    assert held(tmp_path) == before
    found = {str(p.relative_to(tmp_path / "out/s")) for p in (tmp_path / "out/s").rglob("*.parquet")}
    assert found == paths(tmp_path)


def test_without_a_report_of_the_version_before_all_is_made_anew(tmp_path: Path) -> None:
    data = definition(gate=[{"between": {"column": "worst", "max": 100}}])
    deliver(tmp_path, "1", [(k, k) for k in range(40)])
    run(tmp_path, data)
    (path,) = (tmp_path / "out/s.commits").glob("*.json")
    body = json.loads(path.read_text())
    body.pop("blake3")
    body["info"].pop("gates")
    path.write_text(json.dumps(body | {"blake3": seal(body)}))
    deliver(tmp_path, "2", [(4, 10)])
    assert run(tmp_path, data).why == "a: 1 added, 1 unchanged"
    assert held(tmp_path) == expected(tmp_path)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("parts", [{}, {"partition_by": "k"}])
def test_files_stay_few(tmp_path: Path, parts: dict[str, Any]) -> None:
    data = definition(**parts)
    pipe = lp.Pipeline.from_dict(data, base=str(tmp_path))
    groups_of = (lambda n: [n, n + 1]) if not parts else (lambda n: [n % 2])
    deliver(tmp_path, "first", [(k, k) for k in range(-8, 0 if not parts else 2)])
    for number in range(16):
        deliver(tmp_path, f"{number:03}", [(k, number) for k in groups_of(number)])
        pipe.compile().run().raise_for_status()
    assert held(tmp_path) == expected(tmp_path)
    commit = Dataset(str(tmp_path / "out/s")).read()
    assert len(commit.files) <= 12
    assert len(commit.figures) <= 12
    for file in commit.files:
        k = pl.scan_parquet(tmp_path / "out/s" / file.path, hive_partitioning=True).collect()["k"]
        assert k.is_sorted()
    lp.vacuum(str(tmp_path / "out/s"), keep=1, older_than=timedelta(0))
    assert held(tmp_path) == expected(tmp_path)
    # and what is kept is enough to go on
    deliver(tmp_path, "999", [(5, 5)])
    pipe.compile().run().raise_for_status()
    assert held(tmp_path) == expected(tmp_path)


def test_a_row_put_aside_ahead_of_a_join_stays_aside_where_keys_of_groups_are_compared(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1, 2, 3], "k": ["x", "y", "x"], "v": [9.0, 9.0, 1.0]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"id": [7, None], "k": ["x", "z"]}).write_parquet(tmp_path / "b.parquet")
    steps = [
        {"join": {"with": "b", "on": "k", "how": "left", "columns": {"id": "there"}}},
        {"aggregate": {"by": "id", "aggregate": {"s": "sum(v)"}}},
    ]
    pipe = lp.pipeline("p", base=str(tmp_path)).source("a", "a.parquet")
    pipe = pipe.source("b", "b.parquet", gate=[{"not_null": {"columns": "id", "action": "quarantine"}}])
    pipe = pipe.stage("sums", "a", do=steps, gate=[{"unique": {"columns": "s", "action": "warn"}}])
    plan = pipe.output("sums", "out").build().compile()
    result = plan.run()
    result.raise_for_status()
    assert (result.gates["sums"].failed, result.gates["b"].rows, result.gates["b"].quarantined) == (
        {"unique:s": 2},
        2,
        1,
    )
    assert plan.scan("b__quarantine").collect()["k"].to_list() == ["z"]
