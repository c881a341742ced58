"""Long lists that are told by what has changed in them come back as they were, value by value and type by type."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.errors import CommitConflict, StorageError
from lazypipe.storage.datasets import log as logs
from lazypipe.storage.datasets import since
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit, CommitLog, DataFile
from lazypipe.storage.datasets.since import lists_of, spliced, splices, told, untold
from lazypipe.storage.datasets.vacuum import vacuum
from lazypipe.storage.numbered import NumberedFiles, seal_text

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
FEW = st.lists(st.sampled_from("abcdefg"), max_size=9)


@given(FEW, FEW, st.booleans())
def test_splices_make_one_list_of_another(old: list[str], new: list[str], unique: bool) -> None:
    if unique:
        old, new = [*dict.fromkeys(old)], [*dict.fromkeys(new)]
    found = splices(old, new)
    assert spliced(old, found) == new
    assert (found == []) == (old == new)
    assert sum(len(s.came) for s in found) <= len(new)


def test_splices_are_few_where_entries_came_went_or_are_others() -> None:
    old = [f"day={n % 30:02}/{n:04}" for n in range(3_000)]
    old.sort()
    came = sorted([*old, *(f"day={n:02}/x" for n in range(30))])
    assert [s[1:] for s in splices(old, came)] == [(0, [f"day={n:02}/x"]) for n in range(30)]
    assert [s[1:] for s in splices(came, old)] == [(1, [])] * 30
    assert splices(old, [*old[:5], "y", *old[6:9], "z", *old[10:]]) == [(5, 1, ["y"]), (9, 1, ["z"])]
    # values that repeat say nothing of where they stood
    assert splices([1, 2, 2, 3, 9], [1, 3, 2, 2, 2, 9]) == [(1, 3, [3, 2, 2, 2])]


VALUES: Any = st.sampled_from(
    [0, 1, True, False, 1.0, 0.0, None, "1", "a", [1], [True], {"path": "x"}, {"b": 1.0}, {"b": 1}]
)


@given(st.lists(VALUES, min_size=2, max_size=6), st.lists(VALUES, max_size=6), st.booleans())
def test_what_is_told_comes_back_by_value_and_type(was: list[Any], now: list[Any], numbers: bool) -> None:
    """Python takes true, 1 and 1.0 for the same; JSON does not."""
    filling = [n * n for n in range(300)] if numbers else ["f"] * 300
    before = {"a": {"b": [{"path": "p/q", "c": filling + was}]}, "d": was}
    after = {"a": {"b": [{"path": "new", "c": []}, {"path": "p/q", "c": filling + now}]}, "d": now, "e": filling}
    lists = lists_of(before)
    said = told(after, lists)
    read = untold(json.loads(json.dumps(said)), json.loads(json.dumps(lists)))
    assert json.dumps(read) == json.dumps(after)


def test_columns_of_one_table_change_at_the_same_places() -> None:
    """Sizes repeat, so where one came cannot be told by them alone."""
    draw = random.Random(1)
    rows = sorted((f"{draw.random():.12f}", draw.randrange(3), str(draw.randrange(2))) for _ in range(2_000))
    more = sorted([*rows, *((f"{draw.random():.12f}", 7, "z") for _ in range(20))])

    def table(of: Sequence[Any]) -> dict[str, list[Any]]:
        return dict(zip(("names", "sizes", "stamps"), map(list, zip(*of, strict=True)), strict=True))

    said = told(table(more), lists_of(table(rows)))
    assert untold(said, lists_of(table(rows))) == table(more)
    assert {n: sum(len(s[2]) for s in of["\0since"][1]) for n, of in said.items()} == dict.fromkeys(said, 20)


def test_what_counts_up_and_what_is_mostly_new_is_not_told_by_lists() -> None:
    lists = lists_of({"a": [*range(500)], "b": ["x"] * 500})
    assert [*lists] == ["/b"]
    after = {"a": [*range(501)], "b": [f"{n}" for n in range(500)], "c": ["y"] * 500}
    assert told(after, lists) == after


# in the log


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits are long with few files already."""
    monkeypatch.setattr(logs, "_LONG", 10_000)


@pytest.fixture
def uri(somewhere: str) -> str:
    return f"{somewhere}/d"


SEEN = [f"some/where/{n:05}-{n * 7919 % 100_003:06}.csv" for n in range(3_000)]


def deliver(uri: str, names: list[str]) -> Commit:
    dataset = Dataset(uri)
    number = dataset.log.last() + 1
    file = DataFile(f"r{number}.parquet", 3, 100, units={number: 3})
    return dataset.commit(
        [file], pl.Schema({"a": pl.Int64()}), run=f"r{number}", time=NOON, mode="append", info={"seen": names}
    )


def sizes(uri: str) -> dict[str, int]:
    fs, root = fsspec.core.url_to_fs(f"{uri}.commits")
    return {path.removeprefix(root).lstrip("/"): fs.size(path) for path in sorted(fs.find(root))}


def test_commits_are_differences_until_these_are_as_long_as_the_lists(uri: str) -> None:
    names = [*SEEN[:300]]
    made = []
    for number in range(300, 420):
        names.append(SEEN[number])
        made.append(deliver(uri, [*names]))
        assert Dataset(uri).latest() == made[-1]
    found = sizes(uri)
    lists = [n for n in found if n.startswith("lists/")]
    assert 2 <= len(lists) <= 12
    whole = len(made[-1].to_json())
    assert sum(found.values()) < 120 * whole / 5
    # time travel: each version rests upon what it did then
    log = Dataset(uri).log
    for number, commit in enumerate(made, 1):
        assert log.read(number) == commit
        assert json.dumps(log.read(number).body()) == json.dumps(commit.body())
    again = log.read(120).rest
    assert again is not None
    assert made[-1].rest is not None
    assert (again.name, again.spent) == (made[-1].rest.name, made[-1].rest.spent)


def test_what_has_become_short_is_read_without_lists(uri: str) -> None:
    deliver(uri, SEEN)
    long = deliver(uri, SEEN[:-1]).rest
    assert long is not None
    short = deliver(uri, SEEN[:10])
    assert short.rest is None
    log = Dataset(uri).log
    log.remove_lists([long.name])
    assert log.read(3).info["seen"] == SEEN[:10]
    with pytest.raises(StorageError, match="refers to file lists that are gone"):
        log.read(2)


def test_a_single_long_commit_rests_upon_nothing(uri: str) -> None:
    deliver(uri, SEEN)
    assert [*sizes(uri)] == [f"{1:020}.json"]
    deliver(uri, SEEN[:10])
    assert [*sizes(uri)] == [f"{1:020}.json", f"{2:020}.json"]
    deliver(uri, SEEN)
    info = {"seen": [["x" * 1_000] for _ in range(20)]}
    Dataset(uri).restate(deliver(uri, SEEN), run="s", time=NOON, info=info)
    # long, and without a long list
    deliver(uri, ["x" * 100_000])
    deliver(uri, ["x" * 100_000])
    assert len([n for n in sizes(uri) if n.startswith("lists/")]) == 1


def test_going_back_rests_upon_what_the_version_in_force_does(uri: str) -> None:
    fs, root = fsspec.core.url_to_fs(uri)
    for count in (1_000, 1_001, 1_002, 2_500, 2_501):
        deliver(uri, SEEN[:count])
        fs.makedirs(root, exist_ok=True)
        fs.pipe_file(f"{root}/r{Dataset(uri).log.last()}.parquet", b"")
    dataset = Dataset(uri)
    before, latest = dataset.log.read(2), dataset.log.read(5)
    assert before.rest is not None
    assert latest.rest is not None
    assert before.rest.name != latest.rest.name
    dataset.rollback(2, run="back", time=NOON)
    back = dataset.log.read(6)
    assert back.rest is not None
    assert (back.info["seen"], back.rest.name) == (SEEN[:1_001], latest.rest.name)
    vacuum(dataset, keep=1, older_than=timedelta(0))
    assert Dataset(uri).latest() == back


def test_vacuum_keeps_what_versions_to_keep_rest_upon(uri: str) -> None:
    for count in (1_000, 1_001, 1_002, 2_500, 2_501, 2_502):
        deliver(uri, SEEN[:count])
    log, hour = CommitLog(f"{uri}.commits"), timedelta(hours=1)
    second, last = log.read(2).rest, log.read(6).rest
    assert second is not None
    assert last is not None
    assert {*log.rests()} == {second.name, last.name}
    NumberedFiles(f"{uri}.commits", what="x").create_named("lists/killed.json", b"{}")
    vacuum(Dataset(uri), keep=5, older_than=timedelta(0))
    assert {*log.rests()} == {second.name, last.name}
    vacuum(Dataset(uri), keep=1, older_than=hour)
    assert {*log.rests()} == {second.name, last.name}  # it could be of a run that has not committed yet
    vacuum(Dataset(uri), keep=1, older_than=timedelta(0), dry_run=True)
    assert {*log.rests()} == {second.name, last.name}
    vacuum(Dataset(uri), keep=1, older_than=timedelta(0))
    assert {*log.rests()} == {last.name}
    assert log.read(6).info["seen"] == SEEN[:2_502]


@pytest.mark.parametrize("large", [False, True])
def test_lists_that_were_edited_or_are_gone_are_named(uri: str, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(since, "_LARGE", 0)
    for count in (1_500, 2_000, 2_001):
        deliver(uri, SEEN[:count])
    log = CommitLog(f"{uri}.commits")
    (name,) = log.rests()
    at = f"{uri}.commits/lists/{name}"
    fs, path = fsspec.core.url_to_fs(at)
    whole = fs.cat_file(path)
    assert log.read(3).info["seen"] == SEEN[:2_001]
    fs.pipe_file(path, whole.replace(b"00001", b"00002", 1))
    told = f"{at}: the file lists that commits refer to were changed after they were written; restore it from a backup, or read an earlier version"
    for version in (2, 3):
        with pytest.raises(StorageError) as caught:
            log.read(version)
        assert str(caught.value) == told
    fs.rm_file(path)
    with pytest.raises(StorageError) as caught:
        Dataset(uri).latest()
    gone = f"{at}: the commit refers to file lists that are gone; restore it from a backup, or read an earlier version"
    assert str(caught.value) == gone
    assert log.read(1).info["seen"] == SEEN[:1_500]
    fs.pipe_file(path, whole)
    assert log.read(3).info["seen"] == SEEN[:2_001]


def test_a_commit_that_was_edited_or_that_no_lazypipe_wrote_is_named(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    for count in (1_500, 2_000, 2_001):
        deliver(uri, SEEN[:count])
    path = Path(f"{uri}.commits/{3:020}.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"r3.parquet", b"r4.parquet", 1))
    with pytest.raises(StorageError, match="the commit file was changed after it was written"):
        Dataset(uri).latest()
    body = {k: v for k, v in json.loads(whole).items() if k != "blake3"}
    assert body["format"] == 3
    odd: list[Any] = [["/nowhere", []], ["/info/seen", [[1, 2]]], ["/info/seen", 7], 7]
    for said in odd:
        path.write_bytes(seal_text(json.dumps({**body, "info": {"seen": {"\0since": said}}}, separators=(",", ":"))))
        with pytest.raises(StorageError, match="the commit file is truncated or damaged"):
            Dataset(uri).latest()
    path.write_bytes(seal_text(json.dumps({**body, "rest": {}}, separators=(",", ":"))))
    with pytest.raises(StorageError, match="the commit file is truncated or damaged"):
        Dataset(uri).latest()


def test_of_two_writers_the_one_that_is_late_leaves_no_lists(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver(uri, SEEN[:1_999])
    latest = Dataset(uri).latest()
    assert latest is not None
    late = replace(latest, version=2, run="late")
    deliver(uri, SEEN[:2_000])
    rests = {*CommitLog(f"{uri}.commits").rests()}
    assert len(rests) == 1
    with pytest.raises(CommitConflict):
        CommitLog(f"{uri}.commits").append(late)
    assert {*CommitLog(f"{uri}.commits").rests()} == rests

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(NumberedFiles, "remove_named", refuse)
    with pytest.raises(CommitConflict):  # what cannot be taken away is left to vacuum
        CommitLog(f"{uri}.commits").append(late)


@pytest.mark.parametrize("link", [1, 2])
def test_a_writer_that_is_stopped_between_lists_and_commit_has_changed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: int
) -> None:
    uri = str(tmp_path / "d")
    first = deliver(uri, SEEN[:1_999])
    real, calls = os.link, list[str]()

    def stop(source: str, to: str) -> None:
        calls.append(to)
        if len(calls) == link:
            raise KeyboardInterrupt
        real(source, to)

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", stop)
        with pytest.raises(KeyboardInterrupt):
            deliver(uri, SEEN[:2_000])
    assert Dataset(uri).latest() == first
    assert len(CommitLog(f"{uri}.commits").rests()) == link - 1
    again = deliver(uri, SEEN[:2_000])
    assert Dataset(uri).latest() == again
    assert again.info["seen"] == SEEN[:2_000]
    vacuum(Dataset(uri), keep=2, older_than=timedelta(0))
    assert len(CommitLog(f"{uri}.commits").rests()) == 1
    assert Dataset(uri).latest() == again
