"""The commit log: one winner per version, whatever races; commit files that say what is wrong with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

from lazypipe.errors import CommitConflict, StorageError
from lazypipe.storage.datasets import log
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit, CommitLog, DataFile
from lazypipe.storage.numbered import seal, seal_text
from lazypipe.testing.faults import faulty

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
SCHEMA = pl.Schema({"a": pl.Int64(), "k": pl.String()})


def commit(version: int, run: str = "r", **more: Any) -> Commit:
    values: dict[str, Any] = {
        "time": NOON + timedelta(hours=version),
        "mode": "replace",
        "schema": SCHEMA,
        "files": (DataFile(f"{run}-001-00000.parquet", 3, 100),),
    }
    return Commit(version, run, **(values | more))


@pytest.fixture
def uri(somewhere: str) -> str:
    return f"{somewhere}/d.commits"


def file_of(uri: str, version: int) -> str:
    return f"{uri}/{version:020}.json"


def rewrite(uri: str, version: int, change: Any) -> None:
    fs, path = fsspec.core.url_to_fs(file_of(uri, version))
    fs.pipe_file(path, change(fs.cat_file(path)))


def test_a_commit_comes_back_as_it_was_written(uri: str) -> None:
    log = CommitLog(uri)
    written = commit(1, info={"gates": [{"node": "ä", "rows": 3}]}, partition_by=("k",), mode="append")
    log.append(written)
    assert CommitLog(uri).read(1) == written
    assert written.rows == 3
    assert written.bytes == 100


def test_versions_are_numbers_in_order_and_nothing_else_in_the_folder_counts(uri: str) -> None:
    log = CommitLog(uri)
    assert log.versions() == []
    for version in (10, 9, 2):
        log.append(commit(version))
    fs, path = fsspec.core.url_to_fs(uri)
    for name in ("notes.txt", "x.json", f"{3:020}.json.abc.tmp", f"{4:020}.json.bak", "²²².json"):
        fs.pipe_file(f"{path}/{name}", b"{}")
    assert log.versions() == [2, 9, 10]


def test_a_version_is_created_once(uri: str) -> None:
    log = CommitLog(uri)
    log.append(commit(1, "first"))
    with pytest.raises(CommitConflict, match="version 1 was committed by another run") as caught:
        log.append(commit(1, "second"))
    assert caught.value.uri == uri
    assert log.read(1).run == "first"
    assert log.half_written() == {}


@pytest.mark.parametrize("same", [True, False], ids=["identical commits", "different commits"])
def test_of_16_threads_one_wins_each_version(uri: str, same: bool) -> None:
    outcomes: list[tuple[int, str]] = []
    for version in range(1, 9):
        barrier = threading.Barrier(16)

        def race(number: int, version: int = version, barrier: threading.Barrier = barrier) -> None:
            log = CommitLog(uri)
            made = commit(version, "r" if same else f"r{number}")
            barrier.wait()
            try:
                log.append(made)
                outcomes.append((version, made.run))
            except CommitConflict:
                outcomes.append((version, "lost"))

        threads = [threading.Thread(target=race, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    log = CommitLog(uri)
    for version in range(1, 9):
        runs = [run for v, run in outcomes if v == version]
        winners = [run for run in runs if run != "lost"]
        assert len(runs) == 16
        assert winners == [log.read(version).run]
    assert log.half_written() == {}


def test_a_store_that_looks_before_it_writes_has_one_winner_too(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.get_filesystem_class("memory")
    write = memory.pipe_file

    def look_then_write(self: Any, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        time.sleep(0.02)
        write(self, path, value, **more)

    monkeypatch.setattr(memory, "pipe_file", look_then_write)
    uri = f"memory://{uuid.uuid4().hex}/d.commits"
    lost: list[str] = []

    def race(name: str) -> None:
        try:
            CommitLog(uri).append(commit(1, name))
        except CommitConflict:
            lost.append(name)

    threads = [threading.Thread(target=race, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([*lost, CommitLog(uri).read(1).run]) == list("abcd")


RACER = """
import sys, time
from datetime import UTC, datetime
import polars as pl
from lazypipe.errors import CommitConflict
from lazypipe.storage.datasets import log
from lazypipe.storage.datasets.log import Commit, CommitLog

uri, name = sys.argv[1:]
log = CommitLog(uri)
print("ready", flush=True)
sys.stdin.readline()
for version in range(1, 51):
    try:
        log.append(Commit(version, name, datetime.now(UTC), "replace", pl.Schema({"a": pl.Int64()}), ()))
        print(version, "won", flush=True)
    except CommitConflict:
        print(version, "lost", flush=True)
"""


def test_of_4_processes_one_wins_each_version(tmp_path: Path) -> None:
    uri = str(tmp_path / "d.commits")
    racers = {
        name: subprocess.Popen(
            [sys.executable, "-c", RACER, uri, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "abcd"
    }
    for racer in racers.values():
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers.values():
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    told = {name: dict(line.split() for line in racer.communicate()[0].splitlines()) for name, racer in racers.items()}
    log = CommitLog(uri)
    assert log.versions() == list(range(1, 51))
    for version in range(1, 51):
        winners = [name for name, lines in told.items() if lines[str(version)] == "won"]
        assert winners == [log.read(version).run]
    assert log.half_written() == {}


CUTS = [0, 1, 10, 200, -1]
NOT_COMMITS = [b"[]", b"1", b'"x"', b"null", b"{}", b"\xff\xfe", b"[[1, 2]]", b'{"blake3": 1}']


@pytest.mark.parametrize(
    ("change", "why"),
    [
        *((lambda data, cut=cut: data[:cut], "truncated or damaged") for cut in CUTS),
        *((lambda _, content=content: content, "truncated or damaged|changed after") for content in NOT_COMMITS),
        (lambda data: data.replace(b'"rows":3', b'"rows":4'), "changed after it was written"),
        (
            lambda data: json.dumps(json.loads(data) | {"format": 4, "colour": "blue"}).encode(),
            "has format 4, this lazypipe reads up to 3; upgrade lazypipe",
        ),
    ],
    ids=[*map("up to {}".format, CUTS), *map(str, NOT_COMMITS), "edited", "of a newer lazypipe"],
)
def test_a_commit_file_that_is_another_is_named(uri: str, change: Any, why: str) -> None:
    log = CommitLog(uri)
    log.append(commit(1))
    rewrite(uri, 1, change)
    with pytest.raises(StorageError, match=why) as caught:
        log.read(1)
    assert caught.value.uri == file_of(uri, 1)


def test_a_renamed_commit_file_is_not_taken_for_another_version(uri: str) -> None:
    log = CommitLog(uri)
    log.append(commit(1))
    fs, path = fsspec.core.url_to_fs(uri)
    fs.cp_file(file_of(path, 1), file_of(path, 2))
    with pytest.raises(StorageError, match="holds version 1: it was renamed or copied") as caught:
        log.read(2)
    assert caught.value.uri == file_of(uri, 2)


def test_the_seal_does_not_depend_on_the_order_or_the_form_of_the_json(uri: str) -> None:
    log = CommitLog(uri)
    log.append(commit(1))
    rewrite(uri, 1, lambda data: json.dumps(dict(reversed(json.loads(data).items()))).encode())
    assert log.read(1) == commit(1)


def long_commit() -> Commit:
    units = {2**63 + n: n + 1 for n in range(4_000)}
    files = (DataFile("r.parquet", sum(units.values()), 9, "h", units), DataFile("s.parquet", 1, 2))
    info = {"b": [{"names": [f"ü{n}" for n in range(3_000)]}], "a": {"z": 1, "y": [[0, 7]] * 300}}
    return commit(1, files=files, tagged=True, gone=frozenset(range(2**63, 2**63 + 600)), info=info)


def test_a_long_commit_is_packed_and_comes_back_as_it_was(uri: str) -> None:
    written = long_commit()
    CommitLog(uri).append(written)
    read = CommitLog(uri).read(1)
    assert read == written
    assert json.dumps(read.info) == json.dumps(written.info)
    assert (read.files[0].units, read.rows) == (written.files[0].units, sum(range(601, 4_001)) + 1)
    fs, path = fsspec.core.url_to_fs(file_of(uri, 1))
    data = fs.cat_file(path)
    assert json.loads(data)["format"] == 2
    assert len(data) < len(json.dumps([f.to_dict() for f in written.files] + [written.info]))


def test_a_long_commit_that_was_edited_in_any_way_is_named(uri: str) -> None:
    CommitLog(uri).append(long_commit())
    fs, path = fsspec.core.url_to_fs(file_of(uri, 1))
    whole = fs.cat_file(path)
    body = {k: v for k, v in json.loads(whole).items() if k != "blake3"}
    for edited in (
        whole.replace(b'"rows":1', b'"rows":2'),
        whole[:-3] + (b"1" if whole[-3:-2] != b"1" else b"2") + whole[-2:],
        json.dumps(json.loads(whole)).encode(),
        json.dumps(body | {"blake3": seal(body)}).encode(),
    ):
        fs.pipe_file(path, edited)
        with pytest.raises(StorageError, match="the commit file was changed after it was written"):
            CommitLog(uri).read(1)
    fs.pipe_file(path, whole[:-100])
    with pytest.raises(StorageError, match="truncated or damaged"):
        CommitLog(uri).read(1)


@pytest.mark.parametrize(("kind", "packed"), [("numbers", "Zabc="), ("numbers", "Qabc"), ("numbers", ""), ("texts", 7)])
def test_a_long_commit_that_no_lazypipe_packed(tmp_path: Path, kind: str, packed: object) -> None:
    uri = str(tmp_path / "d.commits")
    CommitLog(uri).append(long_commit())
    body = {k: v for k, v in json.loads(long_commit().to_json()).items() if k != "blake3"}
    body["info"] = {"a": {f"\0{kind}": packed}}
    Path(file_of(uri, 1)).write_bytes(seal_text(json.dumps(body)))
    with pytest.raises(StorageError, match="truncated or damaged"):
        CommitLog(uri).read(1)


def test_a_version_that_does_not_exist_says_which_do(uri: str) -> None:
    log = CommitLog(uri)
    with pytest.raises(StorageError, match="there is no version 1; nothing was ever committed"):
        log.read(1)
    log.append(commit(3))
    log.append(commit(4))
    with pytest.raises(StorageError, match="there is no version 5; versions 3 to 4 exist"):
        log.read(5)


TYPES: dict[str, Any] = {
    **{f"plain_{t}": t for t in (pl.Int8(), pl.UInt64(), pl.Int128(), pl.UInt128(), pl.Float16(), pl.Float64())},
    "decimal": pl.Decimal(38, 10),
    "date": pl.Date(),
    "time": pl.Time(),
    "naive": pl.Datetime("ns"),
    "zoned": pl.Datetime("us", "America/Argentina/Buenos_Aires"),
    "duration": pl.Duration("ms"),
    "binary": pl.Binary(),
    "null": pl.Null(),
    "categorical": pl.Categorical(),
    "enum": pl.Enum(["a,b", " c)", "", '"q"', "\n", "ü"]),
    "list": pl.List(pl.List(pl.Enum(["x, y"]))),
    "array": pl.Array(pl.Int8(), (2, 3)),
    "struct": pl.Struct({"a: b": pl.List(pl.Date()), "": pl.Int8(), "x,y": pl.Struct({"(": pl.Boolean()})}),
    "with spaces, ünïcode\n": pl.Boolean(),
    "": pl.String(),
}


def test_every_type_comes_back(uri: str) -> None:
    log = CommitLog(uri)
    log.append(commit(1, schema=pl.Schema(TYPES)))
    found = log.read(1).schema
    assert list(found.items()) == list(pl.Schema(TYPES).items())


@pytest.mark.parametrize("dtype", [pl.Object(), pl.Categorical(pl.Categories("mine")), pl.List(pl.Object())], ids=str)
def test_a_type_that_no_commit_could_be_read_back_with_is_refused_before_it_is_written(uri: str, dtype: Any) -> None:
    log = CommitLog(uri)
    with pytest.raises(StorageError, match="cannot commit: .*(Object|mine)"):
        log.append(commit(1, schema=pl.Schema({"a": dtype})))
    assert log.versions() == []


@pytest.mark.parametrize(
    ("moment", "version"),
    [
        (datetime(2024, 5, 1, 13, tzinfo=UTC), 1),
        (datetime(2024, 5, 1, 14, 59, tzinfo=UTC), 2),
        (datetime(2024, 5, 1, 15), 3),
        (datetime(2024, 5, 1, 15, tzinfo=timezone(timedelta(hours=2))), 1),
        (datetime(2024, 5, 1, 9, 30, tzinfo=timezone(timedelta(hours=-5))), 2),
        (datetime(2999, 1, 1), 3),
    ],
)
def test_as_of_means_a_moment_in_any_time_zone_and_utc_without_one(uri: str, moment: datetime, version: int) -> None:
    dataset = Dataset(uri.removesuffix(".commits"))
    for number in (1, 2, 3):
        dataset.log.append(commit(number))
    assert dataset.read(as_of=moment).version == version


def test_as_of_before_the_first_commit_is_an_error(uri: str) -> None:
    dataset = Dataset(uri.removesuffix(".commits"))
    dataset.log.append(commit(1))
    with pytest.raises(StorageError, match="there is no version from before 2024-05-01 12:59"):
        dataset.read(as_of=datetime(2024, 5, 1, 12, 59))


def test_a_commit_in_another_time_zone_keeps_its_moment(uri: str) -> None:
    moment = datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    log = CommitLog(uri)
    log.append(commit(1, time=moment))
    assert log.read(1).time == moment == NOON
    assert log.read(1).time.utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize("call", ["create", "mkdir"])
def test_a_commit_that_the_store_refuses_is_a_storage_error(call: Any) -> None:
    with faulty() as faults:
        log = CommitLog("faulty://d.commits")
        faults.fail(call, OSError(28, "No space left on device"))
        with pytest.raises(StorageError, match=r"cannot commit: .*No space left on device") as caught:
            log.append(commit(1))
        assert caught.value.uri == "faulty://d.commits"
        assert log.versions() == []
        log.append(commit(1))
        assert log.versions() == [1]


def test_a_log_that_cannot_be_listed_or_read_is_a_storage_error() -> None:
    with faulty() as faults:
        log = CommitLog("faulty://d.commits")
        log.append(commit(1))
        faults.fail("list", PermissionError(13, "Permission denied"))
        with pytest.raises(
            StorageError, match=r"^faulty://d.commits: the commit log cannot be read: Permission denied"
        ):
            log.versions()
        faults.fail("read", TimeoutError("timed out"))
        with pytest.raises(StorageError, match="the commit log cannot be read: timed out"):
            log.read(1)
        assert log.read(1).run == "r"


def test_a_local_commit_that_cannot_be_linked_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CommitLog(str(tmp_path / "d.commits"))

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        log.append(commit(1))
    assert os.listdir(tmp_path / "d.commits") == []


def test_a_commit_that_is_visible_is_a_success_though_its_staged_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CommitLog(str(tmp_path / "d.commits"))

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "unlink", refuse)
    log.append(commit(1))
    assert log.versions() == [1]
    assert len(log.half_written()) == 1


@pytest.mark.parametrize("large", [False, True])
def test_a_commit_that_was_read_is_read_again_only_as_it_stands_there(
    uri: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(log, "_LARGE", 0)
    CommitLog(uri).append(commit(1))
    first, again = CommitLog(uri).read(1), CommitLog(uri).read(1)
    assert first == again == commit(1)
    assert (first is again) != large
    rewrite(uri, 1, lambda data: data.replace(b'"rows":3', b'"rows":4'))
    with pytest.raises(StorageError, match="the commit file was changed after it was written"):
        CommitLog(uri).read(1)
