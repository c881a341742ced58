"""What runs find where state, data files and folders are not as they were left: each is told, located, and nothing is lost."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

import lazypipe as lp
from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import StorageError
from lazypipe.incremental.changes import compare
from lazypipe.incremental.hashing import hasher
from lazypipe.incremental.state import Consumed
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.files import expand
from lazypipe.storage.numbered import seal

DATA: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "sources": {"a": {"uri": "in/**/*.csv", "contract": {"columns": {"x": "Int64"}}}},
    "stages": {"b": {"from": "a", "do": [{"filter": "x >= 0"}]}},
    "outputs": {"b": {"to": "out/b"}},
}
CLOCK = 1_700_000_000


def put(base: Path, name: str, *rows: int, at: int = 0) -> Path:
    path = base / "in" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x\n" + "".join(f"{x}\n" for x in rows))
    os.utime(path, (CLOCK + at, CLOCK + at))
    return path


def run(base: Path, data: dict[str, Any] = DATA, **more: Any) -> lp.SegmentResult:
    (segment,) = lp.Pipeline.from_dict(data, base=str(base)).compile().run(**more).segments
    return segment


def held(base: Path, name: str = "b") -> list[int]:
    return sorted(lp.scan(str(base / "out" / name)).collect()["x"].to_list())


def rewrite(base: Path, change: Any) -> Path:
    """Change what the last commit says, and seal it again, as only a program would."""
    dataset = Dataset(str(base / "out/b"))
    commit = dataset.latest()
    assert commit is not None
    path = base / f"out/b.commits/{commit.version:020}.json"
    body = json.loads(path.read_bytes())
    del body["blake3"]
    change(body)
    path.write_text(json.dumps(body | {"blake3": seal(body)}))
    return path


def test_state_of_a_newer_version(tmp_path: Path) -> None:
    put(tmp_path, "1", 1)
    run(tmp_path)
    rewrite(tmp_path, lambda body: body["info"]["consumed"].update(format=99))
    put(tmp_path, "2", 2)
    failed = run(tmp_path)
    assert isinstance(failed.error, StorageError)
    assert str(failed.error) == (
        f"{tmp_path}/out/b: what the output has consumed is kept in format 99, this lazypipe reads up to 2; upgrade lazypipe, or "
        "run once in full, which rewrites it"
    )
    assert held(tmp_path) == [1]
    assert run(tmp_path, full=True).status == "done"
    assert held(tmp_path) == [1, 2]
    assert run(tmp_path).status == "unchanged"


@pytest.mark.parametrize("how", ["edited", "truncated", "newer"])
def test_a_commit_file_that_cannot_be_trusted(tmp_path: Path, how: str) -> None:
    put(tmp_path, "1", 1)
    run(tmp_path)
    path = tmp_path / "out/b.commits/00000000000000000001.json"
    whole = path.read_text()
    message = {
        "edited": "the commit file was changed after it was written",
        "truncated": "the commit file is truncated or damaged",
        "newer": "the commit file has format 99, this lazypipe reads up to 3",
    }[how]
    if how == "newer":
        rewrite(tmp_path, lambda body: body.update(format=99))
    else:
        path.write_text(whole.replace('"rows":1', '"rows":2', 1) if how == "edited" else whole[: len(whole) // 2])
    put(tmp_path, "2", 2)
    failed = run(tmp_path)
    assert isinstance(failed.error, StorageError)
    assert str(failed.error).startswith(f"{path}: {message}; ")
    stream = lp.stream(lp.Pipeline.from_dict(DATA, base=str(tmp_path)), lp.Trigger(once=True))
    with pytest.raises(StorageError, match=message):
        list(stream)
    path.write_text(whole)
    assert run(tmp_path).status == "done"
    assert held(tmp_path) == [1, 2]


def test_a_data_file_of_the_last_commit_is_gone(tmp_path: Path) -> None:
    for name in "123":
        put(tmp_path, name, int(name), 10 * int(name))
    run(tmp_path)
    (data,) = (tmp_path / "out/b").glob("*.parquet")
    data.unlink()
    gone = f"{data}: a data file of version 1 is gone; restore it from a backup, roll back, or run in full, which rebuilds the output"
    with pytest.raises(StorageError) as caught:
        lp.scan(str(tmp_path / "out/b"))
    assert str(caught.value) == gone
    # no version is built upon it, whether its rows are to be read or not
    assert run(tmp_path).status == "unchanged"
    put(tmp_path, "4", 4)
    assert str(run(tmp_path).error) == gone
    (tmp_path / "in/1.csv").unlink()
    (tmp_path / "in/2.csv").unlink()
    assert str(run(tmp_path).error) == gone
    assert run(tmp_path, full=True).status == "done"
    assert held(tmp_path) == [3, 4, 30]


def test_a_data_file_is_gone_of_an_output_that_others_are_made_of(tmp_path: Path) -> None:
    """The output itself has nothing to do, and does not look; who reads it says which version lacks what, and not that a stage is wrong."""
    data = {**DATA, "outputs": {"b": {"to": "out/b"}, "c": {"to": "c.csv"}}}
    data["stages"] = {**DATA["stages"], "c": {"from": "b", "do": [{"derive": {"y": "x * 2"}}]}}
    data["stages"]["c"]["do"].append({"aggregate": {"by": ["y"], "aggregate": {"n": "count(*)"}}})
    put(tmp_path, "1", 1)
    pipe = lp.Pipeline.from_dict(data, base=str(tmp_path))
    assert pipe.compile().run().status == "done"
    (file,) = (tmp_path / "out/b").glob("*.parquet")
    file.unlink()
    (tmp_path / "c.csv").unlink()
    kept, made = pipe.compile().run().segments
    assert kept.status == "unchanged"
    assert str(made.error) == (
        f"{file}: a data file of version 1 is gone; restore it from a backup, roll back, or run in full, which rebuilds the output"
    )
    assert pipe.compile().run(full=True).status == "done"
    assert (tmp_path / "c.csv").read_text() == "y,n\n2,1\n"


def test_a_data_file_is_gone_from_a_store_and_its_rows_are_to_be_written_once_more(tmp_path: Path) -> None:
    uri = f"memory://{tmp_path.name}/b"
    data = {**DATA, "outputs": {"b": {"to": uri}}}
    for name in "123":
        put(tmp_path, name, int(name), 10 * int(name))
    run(tmp_path, data)
    fs, path = fsspec.core.url_to_fs(uri)
    (file,) = fs.glob(f"{path}/*.parquet")
    fs.rm_file(file)
    (tmp_path / "in/1.csv").unlink()
    (tmp_path / "in/2.csv").unlink()
    assert str(run(tmp_path, data).error) == (
        f"{uri}/{file.rpartition('/')[2]}: a data file of the current version is gone, and its rows are needed again; "
        "restore it from a backup, or run once in full, which rebuilds the output"
    )
    assert run(tmp_path, data, full=True).status == "done"
    assert sorted(lp.scan(uri).collect()["x"].to_list()) == [3, 30]


def test_a_clock_that_went_back_between_runs(tmp_path: Path) -> None:
    path = put(tmp_path, "1", 1, at=10_000)
    now = datetime(2026, 1, 2, tzinfo=UTC)
    run(tmp_path, now=now)
    path.write_text("x\n7\n")
    os.utime(path, (CLOCK - 10_000, CLOCK - 10_000))
    put(tmp_path, "2", 2, at=-50_000)
    assert run(tmp_path, now=now - timedelta(days=300)).why == "a: 1 added, 1 modified"
    assert held(tmp_path) == [2, 7]
    assert run(tmp_path, now=now - timedelta(days=900)).status == "unchanged"
    assert [c["version"] for c in lp.history(str(tmp_path / "out/b")).to_dicts()] == [1, 2]


def test_many_thousand_files_are_listed_and_compared(tmp_path: Path) -> None:
    for folder in range(20):
        (tmp_path / f"in/{folder:03}").mkdir(parents=True)
        handle = os.open(tmp_path / f"in/{folder:03}", os.O_RDONLY)
        for number in range(1_000):
            os.mknod(f"{number:04}.csv", 0o644 | stat.S_IFREG, dir_fd=handle)
        os.close(handle)
    files = expand([str(tmp_path / "in/**/*.csv")])
    assert len(files) == 20_000
    before = Consumed.of(Snapshot(files), listed=2**62)
    assert compare(before, Snapshot(files), hasher=hasher()).unchanged == 20_000
    assert len(compare(before, Snapshot(files[:-7]), hasher=hasher()).removed) == 7


def test_a_file_that_cannot_be_read_among_many(tmp_path: Path) -> None:
    for number in range(30):
        put(tmp_path, f"{number:02}", number)
    run(tmp_path)
    bad = tmp_path / "in/31.csv"
    bad.symlink_to("/proc/self/mem")  # readable by nobody, by the superuser neither
    put(tmp_path, "32", 32)
    failed = run(tmp_path)
    assert failed.status == "error"
    assert "in/31.csv" in str(failed.error)
    assert held(tmp_path) == [*range(30)]
    bad.unlink()
    assert run(tmp_path).status == "done"
    assert held(tmp_path) == [*range(30), 32]


def test_links_that_lead_in_circles_and_to_nothing(tmp_path: Path) -> None:
    put(tmp_path, "deep/1", 1)
    (tmp_path / "in/deep/up").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in/here").symlink_to(tmp_path / "in/here")
    (tmp_path / "in/nothing.csv").symlink_to(tmp_path / "no.csv")
    # the pattern names it, and nobody would miss its rows
    link = f"{tmp_path}/in/nothing.csv: source 'a': is a link to a file that does not exist"
    assert str(run(tmp_path).error).startswith(link)
    (tmp_path / "in/nothing.csv").unlink()
    assert run(tmp_path).status == "done"
    assert held(tmp_path) == [1]
    put(tmp_path, "deep/2", 2)
    assert run(tmp_path).why == "a: 1 added, 1 unchanged"
    assert held(tmp_path) == [1, 2]


ODD = [
    "with space",
    "per%20cent",
    "ünïcode",
    "日本",
    "quote'\"",
    "brackets[1]",
    "star*",
    "semi;colon",
    "a=b",
    "#hash",
    "new\nline",
]


def test_odd_names(tmp_path: Path) -> None:
    data = {**DATA, "sources": {"a": {**DATA["sources"]["a"], "uri": "in", "format": "csv"}}}
    for number, name in enumerate(ODD):
        put(tmp_path, name, number)
    run(tmp_path, data)
    assert held(tmp_path) == [*range(len(ODD))]
    assert run(tmp_path, data).status == "unchanged"
    for number, name in enumerate(ODD):
        put(tmp_path, name, 100 + number, at=60)
        assert run(tmp_path, data, max_files=1).why == f"a: 1 modified, {len(ODD) - 1} unchanged"
    assert held(tmp_path) == [100 + n for n in range(len(ODD))]


def test_two_sources_that_match_the_same_files(tmp_path: Path) -> None:
    both = {
        **DATA,
        "sources": dict.fromkeys(("a", "z"), DATA["sources"]["a"]),
        "stages": {"b": {"from": "a", "do": [{"union": {"with": "z"}}]}},
    }
    put(tmp_path, "1", 1)
    put(tmp_path, "2", 2)
    run(tmp_path, both, max_files=1)
    assert held(tmp_path) == [1, 1]
    run(tmp_path, both)
    assert held(tmp_path) == [1, 1, 2, 2]
    put(tmp_path, "1", 7, at=60)
    assert run(tmp_path, both).why == "a: 1 modified, 1 unchanged; z: 1 modified, 1 unchanged"
    assert held(tmp_path) == [2, 2, 7, 7]
    (tmp_path / "in/2.csv").unlink()
    run(tmp_path, both)
    assert held(tmp_path) == [7, 7]
    assert run(tmp_path, both).status == "unchanged"


def test_a_run_over_very_many_files_and_what_it_notices_afterwards(tmp_path: Path) -> None:
    """Their commit is a long one, which is packed; what the next runs find by it is the same as with few files."""
    for number in range(1_200):
        put(tmp_path, f"{number:04}", number)
    assert run(tmp_path).status == "done"
    (commit,) = (tmp_path / "out/b.commits").glob("*.json")
    assert json.loads(commit.read_bytes())["format"] == 2
    assert run(tmp_path).status == "unchanged"
    put(tmp_path, "0007", 7_000)
    (tmp_path / "in/0008.csv").unlink()
    (tmp_path / "in/0009.csv").rename(tmp_path / "in/x.csv")
    put(tmp_path, "0010", 10, at=1)
    put(tmp_path, "new", 1_200)
    done = run(tmp_path)
    assert done.why == "a: 1 added, 1 modified, 1 removed, 1 moved, 1 touched, 1,196 unchanged"
    assert held(tmp_path) == sorted([n for n in range(1_201) if n not in (7, 8)] + [7_000])
    assert run(tmp_path).status == "unchanged"
