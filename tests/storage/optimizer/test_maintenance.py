"""Files are written anew without a row lost, whoever else reads, writes or is killed meanwhile."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import signal
import time as clock
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazypipe.errors import CommitConflict, SourceError, StorageError
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit, CommitLog, DataFile
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.datasets.units import UNIT
from lazypipe.storage.datasets.vacuum import vacuum
from lazypipe.storage.optimizer.forms import Cast
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.maintenance import Rewrite, compact, kept_layout, recluster, relayout, sample
from lazypipe.storage.optimizer.packing import compaction, pack
from lazypipe.storage.parquet.footers import column_bytes
from lazypipe.storage.sink import DatasetSink

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NUMBERS = itertools.count(1)
SCHEMA = pl.Schema({"id": pl.Int64(), "part": pl.Int64(), "text": pl.String()})


@pytest.fixture
def uri(somewhere: str) -> str:
    return f"{somewhere}/d"


def rows(start: int, stop: int) -> pl.DataFrame:
    return pl.select(id=pl.int_range(start, stop)).with_columns(part=pl.col("id") % 3, text=pl.format("t{}", "id"))


def append(uri: str, frame: pl.DataFrame, by: tuple[str, ...] = (), mode: str = "append", **more: Any) -> Commit:
    dataset = Dataset(uri)
    files = DatasetSink(uri, f"w{next(NUMBERS)}-{os.getpid()}-001", by).write(frame.lazy()).files
    return dataset.commit(files, frame.schema, run=f"w{next(NUMBERS)}", time=NOW, mode=mode, partition_by=by, **more)


def tagged(uri: str, parts: dict[int, pl.DataFrame], gone: tuple[int, ...] = ()) -> Commit:
    """One data file for all parts, whose rows know their unit."""
    frame = pl.concat(f.with_columns(pl.lit(u, dtype=pl.UInt64).alias(UNIT)) for u, f in parts.items())
    files = DatasetSink(uri, f"w{next(NUMBERS)}-001").write(frame.lazy()).files
    counted = count_units(uri, files)
    return Dataset(uri).commit(counted, SCHEMA, run="w", time=NOW, mode="change", tagged=True, gone=gone)


def content(uri: str) -> pl.DataFrame:
    return Dataset(uri).scan(Dataset(uri).read()).collect().sort("id")


def run() -> str:
    return f"opt{next(NUMBERS)}"


# packing


@given(st.lists(st.integers(0, 120), max_size=40), st.integers(1, 100))
def test_packing_keeps_everything_once_and_nothing_too_large(sizes: list[int], target: int) -> None:
    groups = pack(sizes, target)
    assert sorted(i for g in groups for i in g) == list(range(len(sizes)))
    for group in groups:
        assert group == sorted(group)
        assert (
            sum(sizes[i] for i in group) <= target
            or len(group) == 1
            or sum(sizes[i] for i in group if sizes[i]) <= target
        )
    fitting = [s for s in sizes if s <= target]
    least = math.ceil(sum(fitting) / target)
    # no two groups could be one
    sums = [sum(sizes[i] for i in g) for g in groups]
    assert all(a + b > target for a, b in itertools.combinations(sums, 2))
    assert len(groups) - (len(sizes) - len(fitting)) <= 2 * least + 1


@given(
    st.lists(st.tuples(st.sampled_from(["a=1", "a=2", ""]), st.integers(1, 120), st.integers(0, 10)), max_size=30),
    st.booleans(),
)
def test_files_of_two_partitions_never_go_together(files: list[tuple[str, int, int]], ordered: bool) -> None:
    made = tuple(
        DataFile(f"{f}/{i}", 10, size, units={i: dead} if dead else {}, layout=None if f else Layout())
        for i, (f, size, dead) in enumerate(files)
    )
    gone = frozenset(u for f in made for u in f.units)
    commit = Commit(
        1, "r", NOW, "replace", SCHEMA, made, ("a",), tagged=True, gone=gone, info={"ordered": True} if ordered else {}
    )
    tasks = compaction(commit, 100)
    done = [f for t in tasks for f in t.files]
    assert len({f.path for f in done}) == len(done)
    for task in tasks:
        assert len({f.path.split("/")[0] for f in task.files}) == 1
        live = [f.bytes * (f.rows - f.dead(gone)) // f.rows for f in task.files]
        assert len(task.files) > 1 or task.files[0].dead(gone) > 2
        assert sum(live) <= 100 or len(task.files) == 1
        if ordered:
            same = [f for f in made if f.path.split("/")[0] == task.files[0].path.split("/")[0]]
            first = same.index(task.files[0])
            assert tuple(same[first : first + len(task.files)]) == task.files


def test_in_order_only_neighbours_go_together() -> None:
    files = tuple(DataFile(str(i), 1, size) for i, size in enumerate([40, 30, 30, 90, 20, 20]))
    commit = Commit(1, "r", NOW, "replace", SCHEMA, files, info={"ordered": True})
    assert [[f.path for f in t.files] for t in compaction(commit, 100)] == [["0", "1", "2"], ["4", "5"]]
    freely = compaction(replace(commit, info={}), 100)
    assert [[f.path for f in t.files] for t in freely] == [["0", "1", "2"], ["4", "5"]]
    assert [[f.path for f in t.files] for t in compaction(replace(commit, info={}), 150)] == [["0", "1", "2", "4", "5"]]


# compaction


def test_small_files_become_one_and_rows_stay(uri: str) -> None:
    for i in range(5):
        append(uri, rows(10 * i, 10 * i + 10), mode="append", info={"consumed": {"n": i}, "gates": [1]})
    before = Dataset(uri).read()
    plan = compact(Dataset(uri), run=run(), time=NOW, dry_run=True)
    assert (plan.version, len(plan.replaced), len(plan.tasks)) == (None, 5, 1)
    assert Dataset(uri).read() == before
    assert str(plan) == f"{uri}: would rewrite 5 files ({before.bytes:,} bytes, 0 dead rows)"
    made = compact(Dataset(uri), run="opt", time=NOW)
    after = Dataset(uri).read()
    assert (after.version, after.mode, after.run, after.rows_of, len(after.files), after.rows) == (
        6,
        "rewrite",
        "opt",
        5,
        1,
        50,
    )
    instead = [[[f.path for f in before.files], [f.path for f in after.files]]]
    assert after.info == {"consumed": {"n": 4}, "rewrite": {"of": 5, "files": 5, "instead": instead}}
    assert (made.version, made.replaced, made.written) == (6, before.files, after.files)
    assert made.after == column_bytes([f"{uri}/{f.path}" for f in after.files])
    assert content(uri).equals(rows(0, 50))
    again = compact(Dataset(uri), run=run(), time=NOW)
    assert str(again) == f"{uri}: nothing to do"
    assert Dataset(uri).read() == after


def test_partitions_stay_apart_and_large_files_as_they_are(uri: str) -> None:
    append(uri, rows(0, 30_000), ("part",))
    large = {f.path for f in Dataset(uri).read().files}
    for i in range(3):
        append(uri, rows(30_000 + 10 * i, 30_010 + 10 * i), ("part",))
    compact(Dataset(uri), run=run(), time=NOW, target=20_000)
    after = Dataset(uri).read()
    assert large < {f.path for f in after.files}
    assert sorted(f.path.split("/")[0] for f in after.files) == ["part=0"] * 2 + ["part=1"] * 2 + ["part=2"] * 2
    assert content(uri).equals(rows(0, 30_030))


def test_dead_rows_are_left_out(uri: str) -> None:
    tagged(uri, {1: rows(0, 10), 2: rows(10, 20), 3: rows(20, 30)})
    tagged(uri, {4: rows(30, 40)}, gone=(2,))
    made = compact(Dataset(uri), run=run(), time=NOW)
    after = Dataset(uri).read()
    assert (made.dead, after.gone, after.tagged) == (10, frozenset(), True)
    assert [f.units for f in after.files] == [{1: 10, 3: 10, 4: 10}]
    assert after.units == {1, 3, 4}
    expected = pl.concat([rows(0, 10), rows(20, 40)])
    assert content(uri).equals(expected)
    # rows still know their unit
    tagged(uri, {5: rows(50, 51)}, gone=(3,))
    assert content(uri).equals(pl.concat([rows(0, 10), rows(30, 40), rows(50, 51)]))


def test_a_file_of_dead_rows_only_goes(uri: str) -> None:
    tagged(uri, {1: rows(0, 10), 2: rows(10, 20)})
    dataset = Dataset(uri)
    commit = dataset.read()
    all_gone = replace(commit, version=2, gone=frozenset({1, 2}))
    dataset.log.append(all_gone)
    compact(dataset, run=run(), time=NOW)
    assert dataset.read().files == ()
    assert content(uri).height == 0


def test_hashes_are_kept_where_there_were_any(tmp_path: Path) -> None:
    from blake3 import blake3

    uri = str(tmp_path / "d")
    commit = append(uri, rows(0, 10))
    hashed = tuple(replace(f, blake3="0" * 64) for f in commit.files)
    Dataset(uri).commit((*hashed, *append(uri, rows(10, 20)).files[1:]), SCHEMA, run="r", time=NOW)
    compact(Dataset(uri), run=run(), time=NOW)
    (file,) = Dataset(uri).read().files
    assert file.blake3 == blake3((tmp_path / "d" / file.path).read_bytes()).hexdigest()


# layouts


def test_another_layout_is_kept_by_the_dataset_and_given_to_all_files(uri: str) -> None:
    for i in range(3):
        append(uri, rows(10 * i, 10 * i + 10).sample(fraction=1.0, shuffle=True, seed=i), ("part",))
    layout = Layout(forms={"id": Cast(pl.Int16())}, sort_by=("id",), level=9)
    made = relayout(Dataset(uri), layout, run=run(), time=NOW, goal="storage", reasons=["small numbers"])
    after = Dataset(uri).read()
    assert kept_layout(after) == layout
    assert after.info["optimize"] == {
        "goal": "storage",
        "layout": layout.to_dict(),
        "reasons": ["small numbers"],
        "rows": 30,
        "bytes_per_row": after.bytes / 30,
    }
    assert {f.layout for f in after.files} == {replace(layout, partition_by=("part",))}
    assert [f.odd for f in after.files] == [()] * 3
    stands = column_bytes([f"{uri}/{f.path}" for f in after.files])
    assert made.after == {"id": stands["id"] + stands["_lazypipe:id:plain"], "text": stands["text"]}
    assert "_lazypipe:" not in made.to_markdown()
    assert content(uri).equals(rows(0, 30))
    for file in after.files:
        ids = Dataset(uri).scan(replace(after, files=(file,))).collect()["id"]
        assert ids.is_sorted()
        assert len(ids) == 10
    assert relayout(Dataset(uri), layout, run=run(), time=NOW).tasks == ()
    assert relayout(Dataset(uri), layout, run=run(), time=NOW, every=True).written != ()
    # small files that come later get it too, when they are compacted
    append(uri, rows(30, 60), ("part",), info=Dataset(uri).read().info)
    compact(Dataset(uri), run=run(), time=NOW)
    assert {f.layout for f in Dataset(uri).read().files} == {replace(layout, partition_by=("part",))}
    assert content(uri).equals(rows(0, 60))


def test_a_report_shows_columns_before_and_after_and_why(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    append(uri, rows(0, 2_000))
    plan = relayout(Dataset(uri), Layout(level=19), run=run(), time=NOW, dry_run=True)
    assert plan.to_markdown().startswith(f"# Plan of {uri}\n\n{uri}: would rewrite 1 file (")
    assert f"| id | {plan.before['id']:,} |" in plan.to_markdown()
    made = relayout(Dataset(uri), Layout(level=19), run=run(), time=NOW, reasons=["it is cold"])
    text = made.to_markdown()
    before, after = made.before["id"], made.after["id"]
    assert f"| id | {before:,} | {after:,} | {(after - before) / before:+.1%} |" in text
    assert "## Why this layout\n\n- it is cold\n" in text
    assert made.to_dict()["columns"]["id"] == [before, after]
    assert made.to_dict()["layout"] == {"level": 19}
    assert str(made).startswith(f"{uri}: version 2: 1 file (")
    assert Rewrite(uri, None, ()).to_markdown() == f"# Rewrite of {uri}\n\n{uri}: nothing to do\n"


@pytest.mark.parametrize("curve", ["z_order", "hilbert"])
def test_a_curve_takes_its_bounds_from_the_data(uri: str, curve: Any) -> None:
    append(uri, rows(0, 500))
    append(uri, rows(500, 1_000))
    relayout(Dataset(uri), Layout(sort_by=("id", "text"), curve=curve), run=run(), time=NOW)
    kept = kept_layout(Dataset(uri).read())
    assert kept is not None
    assert len(kept.bounds["id"]) == 254
    assert content(uri).equals(rows(0, 1_000))


def scattered(start: int, stop: int) -> pl.DataFrame:
    """Rows whose ids and parts come in no order, each value of which is about as frequent as others."""
    mixed = pl.int_range(pl.len()).hash(1) % 9_973
    return rows(start, stop).with_columns(
        id=(pl.int_range(pl.len()) * 7_919 % 10_007) + start, part=mixed.cast(pl.Int64)
    )


def opened(uri: str, column: str, low: int, high: int) -> float:
    """Return which part of the row groups a reader of a range opens."""
    found = []
    for file in Dataset(uri).read().files:
        meta = pq.ParquetFile(f"{uri}/{file.path}").metadata
        for group in map(meta.row_group, range(meta.num_row_groups)):
            told = next(c for i in range(group.num_columns) if (c := group.column(i)).path_in_schema == column)
            found.append(not (told.statistics.max < low or told.statistics.min > high))
    return sum(found) / len(found)


@pytest.mark.parametrize("curve", ["z_order", "hilbert"])
def test_a_curve_prunes_in_all_its_columns_whatever_order_rows_were_in(
    curve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.maintenance._SAMPLE", 2_000)
    uri = str(tmp_path / "d")
    frame = scattered(0, 10_000)
    append(uri, frame)
    size = {"row_group_rows": 100}
    relayout(Dataset(uri), Layout(sort_by=("id", "part"), **size), run=run(), time=NOW)
    assert opened(uri, "id", 3_000, 3_100) < 0.05
    assert opened(uri, "part", 3_000, 3_100) > 0.5
    layout = Layout(sort_by=("id", "part"), curve=curve, **size)
    relayout(Dataset(uri), layout, run=run(), time=NOW)
    for column in ("id", "part"):
        for low in (100, 3_000, 9_000):
            assert opened(uri, column, low, low + 100) < 0.3, (column, low)
    assert content(uri).equals(frame.sort("id"))
    # files that have it are left, though another sample would tell others bounds
    again = relayout(Dataset(uri), layout, run=run(), time=NOW)
    assert (again.tasks, again.version) == ((), None)
    assert relayout(Dataset(uri), layout, run=run(), time=NOW, every=True).version is not None


def test_rows_that_are_put_in_order_again_lie_on_a_curve_of_their_own(tmp_path: Path) -> None:
    """What came since may lie beyond all bounds, as later times and greater numbers do."""
    uri = str(tmp_path / "d")
    layout = Layout(sort_by=("id", "part"), curve="hilbert", row_group_rows=100)
    append(uri, scattered(0, 1_000))
    relayout(Dataset(uri), layout, run=run(), time=NOW, goal="read", reasons=["because"])
    before = Dataset(uri).read().info["optimize"]
    for start in (20_000, 20_500, 21_000):
        append(uri, scattered(start, start + 10_000))
    made = recluster(Dataset(uri), 1.5, run=run(), time=NOW)
    assert made is not None
    after = Dataset(uri).read()
    assert {f.layout for f in after.files} == {kept_layout(after)}
    for column, low in (("id", 21_000), ("id", 26_000), ("part", 1_000), ("part", 8_000)):
        assert opened(uri, column, low, low + 100) < 0.3, (column, low)
    said = after.info["optimize"]
    assert {**said, "layout": None} == {**before, "layout": None}  # it is for what it was chosen for
    expected = pl.concat(scattered(s, s + n) for s, n in ((0, 1_000), *((k, 10_000) for k in (20_000, 20_500, 21_000))))
    assert content(uri).sort("id", "part", "text").equals(expected.sort("id", "part", "text"))


def test_a_sample_is_of_whole_files(tmp_path: Path) -> None:
    """In a file whose rows are in order, the first ones are all alike."""
    uri = str(tmp_path / "d")
    append(uri, rows(0, 100_000))
    found = sample(Dataset(uri), Dataset(uri).read(), 5_000)
    assert found.height == 5_000
    assert [found["id"].is_between(k, k + 24_999).sum() > 500 for k in range(0, 100_000, 25_000)] == [True] * 4
    assert (found["id"].diff() == 1).mean() > 0.9  # neighbours are neighbours


def test_old_partitions_are_read_together_with_new_ones(uri: str) -> None:
    append(uri, rows(0, 30), ("part",))
    append(uri, rows(30, 60), ("part",))
    relayout(Dataset(uri), Layout(), run=run(), time=NOW, partition_by=())
    assert (Dataset(uri).read().partition_by, len(Dataset(uri).read().files)) == ((), 1)
    append(uri, rows(60, 90), ())
    append(uri, rows(90, 120), ("part",))
    assert content(uri).equals(rows(0, 120))
    relayout(Dataset(uri), Layout(partition_by=("part",)), run=run(), time=NOW)
    after = Dataset(uri).read()
    assert {f.path.split("/")[0] for f in after.files} == {"part=0", "part=1", "part=2"}
    assert content(uri).equals(rows(0, 120))
    plan = Dataset(uri).scan(after).filter(part=1).select("id").collect()
    assert sorted(plan["id"]) == list(range(1, 120, 3))


def test_rows_in_an_order_that_a_pipeline_made_stay_in_it(uri: str) -> None:
    frame = rows(0, 50).sample(fraction=1.0, shuffle=True, seed=3)
    for i in range(5):
        append(uri, frame[10 * i : 10 * i + 10], info={"ordered": True})
    relayout(Dataset(uri), Layout(sort_by=("id",), level=5), run=run(), time=NOW)
    compact(Dataset(uri), run=run(), time=NOW)
    assert Dataset(uri).scan(Dataset(uri).read()).collect().equals(frame)
    kept = kept_layout(Dataset(uri).read())
    assert kept == Layout(level=5)


def test_only_the_layout_is_kept_where_there_are_no_files(uri: str) -> None:
    Dataset(uri).commit((), SCHEMA, run="r", time=NOW)
    relayout(Dataset(uri), Layout(level=9), run=run(), time=NOW)
    assert kept_layout(Dataset(uri).read()) == Layout(level=9)
    assert sample(Dataset(uri), Dataset(uri).read()).height == 0


def test_a_sample_has_rows_of_all_files(uri: str) -> None:
    for i in range(4):
        append(uri, rows(100 * i, 100 * i + 100))
    found = sample(Dataset(uri), Dataset(uri).read(), 40)
    assert sorted({i // 100 for i in found["id"]}) == [0, 1, 2, 3]
    assert found.height == 40


@pytest.mark.parametrize(
    ("layout", "by", "message"),
    [
        (Layout(sort_by=("ids",)), None, "there is no column 'ids'; did you mean 'id'?"),
        (Layout(), ("ids",), "there is no column 'ids'; did you mean 'id'?"),
        (Layout(partition_by=("float",)), None, "Float64 column 'float' cannot be a partition column; partition by text, whole numbers"),
        (Layout(), ("id", "float"), "Float64 column 'float' cannot be a partition column"),
        (Layout(codec="zip"), None, "there is no codec 'zip'"),
        (Layout(sort_by=("id",), curve="hilbert"), None, "a hilbert order of 1 columns cannot be made"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_before_anything_is_written(
    tmp_path: Path, layout: Layout, by: Any, message: str
) -> None:
    uri = str(tmp_path / "d")
    append(uri, pl.DataFrame({"id": [1], "float": [0.5]}))
    with pytest.raises(StorageError) as caught:
        relayout(Dataset(uri), layout, run=run(), time=NOW, partition_by=by)
    assert str(caught.value).startswith(f"{uri}: {message}")
    assert len(list((tmp_path / "d").iterdir())) == 1


def test_one_column_must_stay_for_the_files(uri: str) -> None:
    append(uri, rows(0, 3).select("id"))
    with pytest.raises(StorageError, match="every column is a partition column; leave one for the files"):
        relayout(Dataset(uri), Layout(), run=run(), time=NOW, partition_by=("id",))


# others, meanwhile


class Meanwhile(CommitLog):
    """Lets somebody else commit first."""

    def __init__(self, log: CommitLog, what: Any, times: int = 1) -> None:
        super().__init__(log.uri)
        self.what, self.times = what, times

    def append(self, commit: Commit) -> Commit:
        if self.times:
            self.times -= 1
            self.what()
        return super().append(commit)


def test_appends_meanwhile_stay(uri: str) -> None:
    for i in range(3):
        append(uri, rows(10 * i, 10 * i + 10))
    dataset = Dataset(uri)
    dataset.log = Meanwhile(dataset.log, lambda: append(uri, rows(30, 40), info={"consumed": 7}))
    made = compact(dataset, run=run(), time=NOW)
    after = Dataset(uri).read()
    assert (made.version, after.version, after.rows_of, len(after.files), after.info["consumed"]) == (5, 5, 4, 2, 7)
    assert content(uri).equals(rows(0, 40))


def test_units_that_go_meanwhile_stay_away(uri: str) -> None:
    tagged(uri, {1: rows(0, 10), 2: rows(10, 20)})
    tagged(uri, {3: rows(20, 30)})
    dataset = Dataset(uri)
    dataset.log = Meanwhile(dataset.log, lambda: tagged(uri, {4: rows(30, 40)}, gone=(2,)))
    compact(dataset, run=run(), time=NOW)
    assert Dataset(uri).read().gone == {2}
    assert content(uri).equals(pl.concat([rows(0, 10), rows(20, 40)]))


def test_what_another_run_has_replaced_is_not_brought_back(uri: str) -> None:
    append(uri, rows(0, 10))
    append(uri, rows(10, 20))
    dataset = Dataset(uri)
    dataset.log = Meanwhile(dataset.log, lambda: append(uri, rows(5, 6), mode="replace"))
    made = compact(dataset, run=run(), time=NOW)
    assert (made.version, made.missed, made.written) == (None, 1, ())
    assert str(made) == f"{uri}: nothing was rewritten, because another run had replaced the files; run again"
    assert content(uri).equals(rows(5, 6))
    deleted = vacuum(Dataset(uri), older_than=timedelta(0), now=NOW + timedelta(days=9_999))
    assert len(deleted) == 2  # what was written for nothing is gone already


def test_parts_that_still_hold_are_committed(uri: str) -> None:
    for i in range(2):
        append(uri, rows(30 * i, 30 * i + 30), ("part",))
    commit = Dataset(uri).read()

    def other() -> None:
        without = {f.path for f in commit.files if f.path.startswith("part=1")}
        files = DatasetSink(uri, f"w{next(NUMBERS)}-001", ("part",)).write(rows(0, 60).filter(part=1).lazy()).files
        Dataset(uri).commit(files, SCHEMA, run="w", time=NOW, mode="change", partition_by=("part",), without=without)

    dataset = Dataset(uri)
    dataset.log = Meanwhile(dataset.log, other)
    made = compact(dataset, run=run(), time=NOW)
    assert (made.missed, len(made.tasks), len(made.replaced), len(made.written)) == (1, 3, 4, 2)
    assert str(made).endswith("; 1 parts had changed in the meantime, run again")
    assert content(uri).equals(rows(0, 60))


def test_a_dead_row_that_a_rollback_brings_back_is_not_lost(uri: str) -> None:
    tagged(uri, {1: rows(0, 10), 2: rows(10, 20)})
    tagged(uri, {3: rows(20, 30)}, gone=(2,))
    dataset = Dataset(uri)
    dataset.log = Meanwhile(dataset.log, lambda: Dataset(uri).rollback(1, run="b", time=NOW))
    made = compact(dataset, run=run(), time=NOW)
    assert made.version is None
    assert content(uri).equals(rows(0, 20))


def test_who_is_always_late_gives_up_and_takes_its_files_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.maintenance._TRIES", 2)
    uri = str(tmp_path / "d")
    append(uri, rows(0, 10))
    append(uri, rows(10, 20))
    dataset = Dataset(uri)
    dataset.log = Meanwhile(dataset.log, lambda: append(uri, rows(20, 21)), times=9)
    with pytest.raises(CommitConflict, match="others have committed all the time; run again"):
        compact(dataset, run="late", time=NOW)
    assert not list((tmp_path / "d").glob("late*"))


def test_a_run_that_built_on_the_version_before_can_still_commit(uri: str) -> None:
    tagged(uri, {1: rows(0, 10)})
    base = tagged(uri, {2: rows(10, 20)})
    compact(Dataset(uri), run=run(), time=NOW)
    latest = Dataset(uri).read()
    assert [latest.stands(v) for v in range(1, 5)] == [False, True, True, False]
    frame = rows(20, 30).with_columns(pl.lit(3, dtype=pl.UInt64).alias(UNIT))
    files = count_units(uri, DatasetSink(uri, "x-001").write(frame.lazy()).files)
    more = {"run": "x", "time": NOW, "mode": "change", "tagged": True, "gone": (1,)}
    with pytest.raises(CommitConflict):  # it counts on a file that is not there any more
        Dataset(uri).commit(files, SCHEMA, expected=base.version, without={base.files[0].path}, **more)
    made = Dataset(uri).commit(files, SCHEMA, expected=base.version, **more)
    assert (made.version, made.rows_of) == (4, 4)
    assert content(uri).equals(rows(10, 30))
    with pytest.raises(CommitConflict):
        Dataset(uri).commit(files, SCHEMA, expected=base.version, **more)


def test_a_run_that_meets_a_rewrite_in_the_very_moment_of_its_commit(uri: str) -> None:
    append(uri, rows(0, 10))
    append(uri, rows(10, 20))
    files = DatasetSink(uri, "x-001").write(rows(20, 30).lazy()).files
    dataset = Dataset(uri)
    dataset.log = Meanwhile(dataset.log, lambda: compact(Dataset(uri), run=run(), time=NOW))
    assert dataset.commit(files, SCHEMA, run="x", time=NOW, mode="append", expected=2).version == 4
    assert content(uri).equals(rows(0, 30))
    dataset.log = Meanwhile(dataset.log, lambda: append(uri, rows(30, 40)))
    with pytest.raises(CommitConflict):
        dataset.commit(files, SCHEMA, run="x", time=NOW, mode="append", expected=4)


def _appending(uri: str, number: int, times: int) -> None:
    for i in range(times):
        start = 1_000 * (number + 1) + 10 * i
        frame = rows(start, start + 10)
        files = DatasetSink(uri, f"p{number}x{i}-001").write(frame.lazy()).files
        while True:
            try:
                Dataset(uri).commit(files, SCHEMA, run=f"p{number}x{i}", time=NOW, mode="append")
                break
            except CommitConflict:
                continue


def _compacting(uri: str, number: int, until: Any) -> None:
    turn = 0
    while not until.is_set():
        compact(Dataset(uri), run=f"c{number}x{turn}", time=NOW)
        turn += 1
        clock.sleep(0.1)
    # once more with nobody in the way: others may have been done before it had begun
    compact(Dataset(uri), run=f"c{number}last", time=NOW)


def _reading(uri: str, until: Any, wrong: Any) -> None:
    least = 0
    while not until.is_set():
        found = Dataset(uri).scan(Dataset(uri).read()).collect()["id"]
        if found.n_unique() != len(found) or len(found) < least:
            wrong.set()
        least = len(found)
        clock.sleep(0.1)


def test_many_processes_append_compact_and_read_at_once(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    append(uri, rows(0, 10))
    context = multiprocessing.get_context("spawn")
    until, wrong = context.Event(), context.Event()
    appending = [context.Process(target=_appending, args=(uri, n, 5)) for n in range(2)]
    others = [
        context.Process(target=_compacting, args=(uri, 0, until)),
        context.Process(target=_reading, args=(uri, until, wrong)),
    ]
    everyone = (*appending, *others)
    for process in everyone:
        process.start()
    try:
        for process in appending:
            process.join(300)
        until.set()
        for process in others:
            process.join(300)
    finally:
        for process in everyone:
            process.kill()
    assert [p.exitcode for p in everyone] == [0] * 4
    assert not wrong.is_set()
    expected = pl.concat(
        [
            rows(0, 10),
            *(rows(1_000 * (n + 1) + 10 * i, 1_000 * (n + 1) + 10 * i + 10) for n in range(2) for i in range(5)),
        ]
    )
    assert content(uri).equals(expected)
    assert any(Dataset(uri).log.read(v).mode == "rewrite" for v in Dataset(uri).log.versions())
    compact(Dataset(uri), run="end", time=NOW)
    assert len(Dataset(uri).read().files) == 1
    assert content(uri).equals(expected)


def _slowly(uri: str, started: Any) -> None:
    from lazypipe.storage.optimizer import maintenance

    def stop(*_: Any, **__: Any) -> None:
        started.set()
        clock.sleep(600)

    maintenance.find_odd = stop  # type: ignore[assignment]  # files are written by then, and nothing is committed
    compact(Dataset(uri), run="killed", time=NOW)


def test_killed_in_the_middle_nothing_is_lost(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    for i in range(3):
        append(uri, rows(10 * i, 10 * i + 10))
    before = Dataset(uri).read()
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_slowly, args=(uri, started))
    process.start()
    assert started.wait(300)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert Dataset(uri).read() == before
    assert len(list((tmp_path / "d").glob("killed-*"))) == 1
    assert content(uri).equals(rows(0, 30))
    compact(Dataset(uri), run="again", time=NOW)
    assert content(uri).equals(rows(0, 30))
    vacuum(Dataset(uri), older_than=timedelta(0))
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["again-001-000-00000.parquet"]
    assert content(uri).equals(rows(0, 30))


def test_a_damaged_file_stops_it_and_leaves_the_version_in_force(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    append(uri, rows(0, 1_000))
    append(uri, rows(1_000, 2_000))
    path = tmp_path / "d" / Dataset(uri).read().files[1].path
    data = path.read_bytes()
    path.write_bytes(data[:-1_000])
    with pytest.raises(SourceError, match="parquet: cannot be read: ") as caught:
        compact(Dataset(uri), run="x", time=NOW)
    assert caught.value.uri == str(path)
    path.write_bytes(b"PAR1" + bytes(200) + data[204:])
    with pytest.raises(pl.exceptions.PolarsError):
        compact(Dataset(uri), run="x", time=NOW)
    assert not list((tmp_path / "d").glob("x-*"))
    assert Dataset(uri).read().version == 2


def test_rows_that_are_not_there_are_missed(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    append(uri, rows(0, 10))
    commit = append(uri, rows(10, 20))
    Dataset(uri).commit([replace(f, rows=11) for f in commit.files], SCHEMA, run="r", time=NOW)
    with pytest.raises(StorageError, match="22 rows were to be rewritten, and 20 were; nothing was committed"):
        compact(Dataset(uri), run="x", time=NOW)
    assert Dataset(uri).read().version == 3


PARTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30), st.booleans()), min_size=1, max_size=6)
LAYOUTS = st.builds(
    Layout,
    forms=st.sampled_from([{}, {"id": Cast(pl.Int8())}]),
    sort_by=st.sampled_from([(), ("text",), ("part", "id")]),
    row_group_rows=st.none() | st.integers(1, 20),
    writer=st.sampled_from(["polars", "pyarrow"]),
)


@settings(max_examples=settings().max_examples // 2)
@given(
    parts=PARTS,
    layout=LAYOUTS,
    by=st.sampled_from([None, (), ("part",), ("text", "part")]),
    target=st.integers(500, 5_000),
)
def test_rewrites_keep_all_rows(parts: Any, layout: Layout, by: Any, target: int) -> None:
    uri = f"memory://{uuid.uuid4().hex}/d"
    expected = []
    for unit, (start, size, leaves) in enumerate(parts):
        frame = rows(start * 30, start * 30 + size)
        gone = (unit - 1,) if leaves and unit else ()
        if gone:
            expected[-1] = frame.clear()
        expected.append(frame)
        tagged(uri, {unit: frame}, gone)

    def found() -> pl.DataFrame:
        return content(uri).sort("id", "text")

    everything = pl.concat(expected).sort("id", "text")
    assert found().equals(everything)
    compact(Dataset(uri), run=run(), time=NOW, target=target)
    assert found().equals(everything)
    relayout(Dataset(uri), layout, run=run(), time=NOW, partition_by=by)
    assert found().equals(everything)
    tagged(uri, {99: rows(900, 910)}, gone=(len(parts) - 1,))
    compact(Dataset(uri), run=run(), time=NOW)
    assert found().equals(pl.concat([*expected[:-1], rows(900, 910)]).sort("id", "text"))
    assert Dataset(uri).read().units == {u for u, f in enumerate(expected[:-1]) if f.height} | {99}
