"""Vacuum takes what no reader can reach, and never anything else."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import CommitConflict, StorageError
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import CommitLog
from lazypipe.storage.sink import DatasetSink, ExportSink

HOUR = timedelta(hours=1)
NOW = timedelta(0)


@pytest.fixture
def root(somewhere: str) -> str:
    return somewhere


def write(uri: str, value: int, *, run: str | None = None, commit: bool = True, mode: str = "replace") -> None:
    frame = pl.DataFrame({"a": [value], "k": ["x"]})
    dataset = Dataset(uri)
    latest = dataset.latest()
    run = run or f"r{(latest.version if latest else 0) + 1}"
    written = DatasetSink(uri, f"{run}-001", ("k",)).write(frame.lazy())
    if commit:
        dataset.commit(written.files, frame.schema, run=run, time=datetime.now(UTC), mode=mode, partition_by=("k",))


def files(uri: str) -> list[str]:
    fs, path = fsspec.core.url_to_fs(uri)
    return sorted(p.removeprefix(path).lstrip("/") for p in fs.find(path))


def values(uri: str, version: int | None = None) -> list[int]:
    return sorted(lp.scan(uri, version=version).collect()["a"].to_list())


def data(*runs: str) -> list[str]:
    return [f"k=x/{run}-001-00000.parquet" for run in runs]


def test_old_versions_go_and_the_latest_stays(root: str) -> None:
    uri = f"{root}/d"
    for value in (1, 2, 3):
        write(uri, value)
    assert lp.vacuum(uri) == data("r1", "r2")
    assert files(uri) == data("r3")
    assert Dataset(uri).log.versions() == [3]
    assert values(uri) == [3]
    assert lp.vacuum(uri) == []


@pytest.mark.parametrize("keep", [1, 2, 3, 4, 9])
def test_the_last_versions_stay_readable(root: str, keep: int) -> None:
    uri = f"{root}/d"
    for value in (1, 2, 3, 4):
        write(uri, value)
    lp.vacuum(uri, keep=keep, older_than=NOW)
    kept = [1, 2, 3, 4][-keep:]
    assert Dataset(uri).log.versions() == kept
    assert [values(uri, v) for v in kept] == [[v] for v in kept]
    assert files(uri) == data(*(f"r{v}" for v in kept))


def test_a_frame_of_a_version_that_went_says_which_file_is_gone(tmp_path: Path) -> None:
    """As the guide has it: Polars reads when the frame is collected; with a version to spare it is read all the same."""
    uri = str(tmp_path / "d")
    write(uri, 1)
    frame = lp.scan(uri)
    write(uri, 2)
    lp.vacuum(uri, keep=2, older_than=NOW)
    assert frame.collect()["a"].to_list() == [1]
    lp.vacuum(uri, older_than=NOW)
    with pytest.raises(FileNotFoundError, match=r"d/k=x/r1-001[^ ]*\.parquet"):
        frame.collect()
    assert lp.scan(uri).collect()["a"].to_list() == [2]


@pytest.mark.parametrize("keep", [0, -1])
def test_keeping_nothing_is_refused(root: str, keep: int) -> None:
    uri = f"{root}/d"
    write(uri, 1)
    with pytest.raises(StorageError, match="keep 1 or more"):
        lp.vacuum(uri, keep=keep)
    assert values(uri) == [1]


def test_files_that_later_versions_still_use_stay(root: str) -> None:
    uri = f"{root}/d"
    write(uri, 1)
    write(uri, 2, mode="append")
    write(uri, 3, mode="append")
    assert lp.vacuum(uri, older_than=NOW) == []
    assert values(uri) == [1, 2, 3]


def test_files_of_no_commit_go_when_they_are_old_enough(root: str) -> None:
    uri = f"{root}/d"
    write(uri, 1)
    write(uri, 9, run="killed", commit=False)
    later = datetime.now(UTC) + HOUR
    assert lp.vacuum(uri) == []
    assert lp.vacuum(uri, older_than=2 * HOUR, now=later) == []
    assert files(uri) == data("killed", "r1")
    assert lp.vacuum(uri, older_than=HOUR / 2, now=later) == data("killed")
    assert files(uri) == data("r1")
    assert values(uri) == [1]


def test_what_the_first_run_left_goes_though_nothing_was_ever_committed(root: str) -> None:
    uri = f"{root}/d"
    write(uri, 9, run="killed", commit=False)
    assert lp.vacuum(uri, older_than=NOW) == data("killed")
    assert files(uri) == []


def test_files_that_no_run_wrote_are_not_touched(root: str) -> None:
    uri = f"{root}/d"
    write(uri, 1)
    fs, path = fsspec.core.url_to_fs(uri)
    for name in ("README.md", "mine.parquet", "k=x/part-00000.parquet", "sub/notes.csv"):
        fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{path}/{name}", b"mine")
    before = files(uri)
    assert lp.vacuum(uri, older_than=NOW) == []
    assert files(uri) == before


def test_a_folder_that_is_no_dataset_is_left_alone(root: str) -> None:
    fs, path = fsspec.core.url_to_fs(f"{root}/home")
    fs.makedirs(path, exist_ok=True)
    fs.pipe_file(f"{path}/thesis.parquet", b"years of work")
    assert lp.vacuum(f"{root}/home", older_than=NOW) == []
    assert files(f"{root}/home") == ["thesis.parquet"]
    assert lp.vacuum(f"{root}/nowhere", older_than=NOW) == []


def test_a_dataset_inside_another_is_left_alone(root: str) -> None:
    outer, inner = f"{root}/d", f"{root}/d/inner"
    write(outer, 1)
    write(inner, 2)
    lp.vacuum(outer, older_than=NOW)
    assert values(inner) == [2]
    assert values(outer) == [1]


def test_commits_that_were_never_linked_go(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    write(uri, 1)
    left = tmp_path / "d.commits" / f"{2:020}.json.0123456789abcdef.tmp"
    left.write_bytes(b"{")
    lp.vacuum(uri)
    assert left.exists()
    lp.vacuum(uri, older_than=NOW)
    assert not left.exists()
    assert values(uri) == [1]


@pytest.mark.parametrize("first", ["vacuum", "rollback"])
def test_whatever_comes_between_a_vacuum_and_a_rollback_the_version_in_force_has_its_files(
    root: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vacuum(uri: str) -> None:
        lp.vacuum(uri, older_than=NOW)

    def rollback(uri: str) -> None:
        lp.rollback(uri, version=1)

    outer, inner = (vacuum, rollback) if first == "vacuum" else (rollback, vacuum)
    ended = set[str]()
    for moment in range(30):
        uri = f"{root}/{first}{moment}"
        for value in (1, 2, 3):
            write(uri, value)
        calls = itertools.count()

        def between(original: Callable[..., Any], uri: str, calls: Iterator[int], moment: int) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                if next(calls) == moment:
                    with suppress(StorageError):
                        inner(uri)
                return original(*args)

            return call

        with monkeypatch.context() as patched:
            for name in ("read", "append", "versions", "remove", "rests"):
                patched.setattr(CommitLog, name, between(getattr(CommitLog, name), uri, calls, moment))
            try:
                outer(uri)
                ended.add("done")
            except (CommitConflict, StorageError) as error:
                ended.add(str(error).partition(": ")[2])
        found = values(uri)
        assert found in ([1], [3])
        assert found == [3] or Dataset(uri).read().mode == "rollback to 1"
        if next(calls) <= moment:
            break
    gone = "version 1 was vacuumed while it came back, and version 3 is in force again; choose a later version, or run the pipeline in full"
    assert (gone in ended) == (first == "rollback")
    assert "done" in ended


def test_a_damaged_commit_that_is_to_go_does_not_stop_vacuum_but_one_to_keep_does(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    for value in (1, 2):
        write(uri, value)
    first, second = sorted((tmp_path / "d.commits").iterdir())
    whole = second.read_bytes()
    first.write_bytes(b"{")
    second.write_bytes(b"{")
    with pytest.raises(StorageError, match="truncated or damaged"):
        lp.vacuum(uri, older_than=NOW)
    assert files(uri) == data("r1", "r2")
    second.write_bytes(whole)
    assert lp.vacuum(uri, older_than=NOW) == data("r1")
    assert values(uri) == [2]
    assert Dataset(uri).log.versions() == [2]


def test_empty_folders_go(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    write(uri, 1)
    os.makedirs(tmp_path / "d" / "k=old" / "deep")
    lp.vacuum(uri, older_than=NOW)
    assert sorted(os.listdir(tmp_path / "d")) == ["k=x"]


@given(
    steps=st.lists(st.sampled_from(["replace", "append", "killed", "vacuum", "vacuum keep 2"]), min_size=1, max_size=8)
)
def test_whatever_happened_before_live_files_stay_and_the_rest_goes(steps: list[str]) -> None:
    uri = f"memory://{uuid.uuid4().hex}/d"
    expected: dict[int, list[int]] = {}
    for number, step in enumerate(steps):
        match step:
            case "replace" | "append":
                before = expected[max(expected)] if expected and step == "append" else []
                write(uri, number, run=f"run{number}", mode=step)
                expected[max(expected, default=0) + 1] = [*before, number]
            case "killed":
                write(uri, number, run=f"run{number}", commit=False)
            case _:
                keep = 2 if step.endswith("2") else 1
                lp.vacuum(uri, keep=keep, older_than=NOW)
                expected = dict(list(expected.items())[-keep:])
        for version, rows in expected.items():
            assert values(uri, version) == rows
    lp.vacuum(uri, keep=99, older_than=NOW)
    live = {f.path for v in expected for f in Dataset(uri).read(version=v).files}
    assert set(files(uri)) == live
    assert lp.vacuum(uri, keep=99, older_than=NOW) == []


# whole pipelines


def pipe(root: str) -> lp.Pipeline:
    text = """
    version: 1
    name: p
    sources: {a: {uri: a.csv, gate: [{between: {column: x, min: 2, action: quarantine}}]}}
    stages: {b: {from: a, do: [{filter: x > 0}]}}
    outputs:
      b: {to: out/b}
      e: {from: b, to: out/e.csv, format: csv}
    """
    fs, path = fsspec.core.url_to_fs(root)
    fs.makedirs(path, exist_ok=True)
    fs.pipe_file(f"{path}/a.csv", b"x\n1\n2\n3\n")
    return lp.Pipeline.from_yaml(text, base=root)


def test_a_pipelines_datasets_quarantines_exports_and_work_folder(root: str) -> None:
    made = pipe(root)
    for run in ("one", "two"):
        made.compile().run(run=run, full=True).raise_for_status()
    ExportSink(f"{root}/out/e.csv", "csv", "killed-002").write(pl.LazyFrame({"x": [1]}))
    DatasetSink(f"{root}/out/b", "killed-001").write(pl.LazyFrame({"x": [1]}))
    fs, path = fsspec.core.url_to_fs(root)
    kept = {"out/.mine.e.csv": b"mine", "out/other.csv": b"mine"}
    left = {".lazypipe/work/killed/b/x.parquet": b"", ".lazypipe/runs/killed.json.tmp": b""}
    if root.startswith("memory"):
        left = {}
    for name, content in (kept | left).items():
        fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{path}/{name}", content)
    before = files(root)
    assert not [d for d in lp.vacuum(made) if "killed" in d]
    assert {b for b in before if "killed" in b} == {f for f in files(root) if "killed" in f}

    stood = files(root)
    told = lp.vacuum(made, older_than=NOW, dry_run=True)
    assert files(root) == stood
    deleted = lp.vacuum(made, older_than=NOW)
    assert told == deleted
    assert len([d for d in deleted if "killed" in d]) == (4 if left else 2)
    after = files(root)
    assert [f for f in after if "killed" in f or "one-" in f] == []
    assert {"out/.mine.e.csv", "out/other.csv", "out/e.csv", "a.csv"} <= set(after)
    assert sorted(lp.scan(f"{root}/out/b").collect()["x"].to_list()) == [2, 3]
    assert lp.scan(f"{root}/.lazypipe/quarantine/p/a").collect()["x"].to_list() == [1]
    assert lp.vacuum(made, older_than=NOW) == []
    assert files(root) == after


def test_a_work_folder_in_use_is_as_young_as_its_youngest_file(tmp_path: Path) -> None:
    made = pipe(str(tmp_path))
    work = tmp_path / ".lazypipe" / "work" / "running"
    work.mkdir(parents=True)
    (work / "x.parquet").write_bytes(b"")
    os.utime(work, (0, 0))
    assert lp.vacuum(made, older_than=HOUR) == []
    assert (work / "x.parquet").exists()
    os.utime(work / "x.parquet", (0, 0))
    assert lp.vacuum(made, older_than=HOUR) == [str(work)]
    assert not work.exists()


def test_vacuum_before_the_first_run(root: str) -> None:
    assert lp.vacuum(pipe(root), older_than=NOW) == []
