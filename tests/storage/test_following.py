"""Files are hashed while they are written: to what stands there at the end, whoever writes, and never to anything else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from blake3 import blake3

from lazypipe.spec.taps import tap
from lazypipe.storage import following as module
from lazypipe.storage.following import Following
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.sink import DatasetSink, ExportSink

PIECE = 1 << 18
NOISE = os.urandom(5 * PIECE + 77)


@pytest.fixture
def following(monkeypatch: pytest.MonkeyPatch) -> Iterator[Following]:
    monkeypatch.setattr(module, "_PAUSE", 0.001)
    made = Following()
    yield made
    made.close()


def reach(following: Following, path: Path | str, at: int) -> bool:
    """Wait until that many bytes are hashed."""
    end = time.monotonic() + 20
    while following.left(str(path), 1 << 40) > (1 << 40) - at:
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


class Rows:
    """Random rows that stop half way until a file they go to is hashed as far as it is written."""

    def __init__(self, following: Following, count: int) -> None:
        self.following = following
        self.count = count
        self.paths: list[str] = []
        self.met: bool | None = None
        self._seen = 0
        self._lock = threading.Lock()

    def told(self, path: str) -> None:
        self.paths.append(path)
        self.following.follow(path)

    def frame(self) -> pl.LazyFrame:
        numbers = pl.int_range(self.count, eager=True)
        noise = pl.DataFrame({"k": numbers % 2, "a": numbers.hash(1), "b": numbers.hash(2), "c": numbers.hash(3)})
        parts = [noise.slice(at, 2_000).lazy() for at in range(0, self.count, 2_000)]
        return tap(pl.concat(parts), self._hold_up)

    def _hold_up(self, rows: pl.DataFrame) -> pl.DataFrame:
        with self._lock:
            self._seen += rows.height
            if self._seen > 0.75 * self.count and self.met is None:
                self.met = any(reach(self.following, path, PIECE) for path in self.paths[:1])
        return rows


SMALL_GROUPS = {"row_group_size": 2_000}
SINKS = {
    "parquet": lambda folder, told: DatasetSink(folder, "r-001", options=SMALL_GROUPS, told=told),
    "partitions": lambda folder, told: DatasetSink(folder, "r-001", ("k",), options=SMALL_GROUPS, told=told),
    "several": lambda folder, told: DatasetSink(folder, "r-001", options=SMALL_GROUPS, most_rows=25_000, told=told),
    "layout": lambda folder, told: DatasetSink(
        folder, "r-001", layout=Layout(codec="zstd", level=1, row_group_rows=2_000), told=told
    ),
    "pyarrow": lambda folder, told: DatasetSink(
        folder, "r-001", layout=Layout(codec="zstd", level=1, row_group_rows=2_000, writer="pyarrow"), told=told
    ),
    **{
        f"export.{ending}": lambda folder, told, ending=ending: ExportSink(
            f"{folder}/a.{ending}", {"arrow": "ipc"}.get(ending, ending.split(".")[0]), "r-001", told=told
        )
        for ending in ("csv", "csv.gz", "csv.zst", "ndjson", "ndjson.zst", "arrow")
    },
}


@pytest.mark.parametrize("writer", SINKS)
def test_what_was_hashed_early_stands_there_at_the_end(writer: str, following: Following, tmp_path: Path) -> None:
    # Polars' IPC writer has batches of 122,880 rows
    rows = Rows(following, 300_000 if writer == "export.arrow" else 60_000)
    sink = SINKS[writer](str(tmp_path / "d"), rows.told)
    assert sink.write(rows.frame()).rows == rows.count
    assert rows.met
    assert sorted(rows.paths) == sorted(str(p) for p in tmp_path.rglob("*") if p.is_file())
    for path in rows.paths:
        data = Path(path).read_bytes()
        assert following.digest(path, len(data)) == blake3(data).hexdigest()


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, len(NOISE)])
def test_equals_blake3_at_each_size(size: int, following: Following, tmp_path: Path) -> None:
    path = tmp_path / "a"
    following.follow(str(path))
    path.write_bytes(NOISE[:size])
    assert reach(following, path, size // PIECE * PIECE)
    assert following.left(str(path), size) == size % PIECE
    assert following.digest(str(path), size) == blake3(NOISE[:size]).hexdigest()
    # it is asked for once
    assert following.digest(str(path), size) is None
    assert following.left(str(path), size) == size


def test_a_hash_that_is_not_sure_is_not_given(following: Following, tmp_path: Path) -> None:
    longer, shorter, gone, other, empty, never = (str(tmp_path / n) for n in ("l", "s", "g", "o", "e", "n"))
    for path in (longer, shorter, gone, other, empty, never):
        following.follow(path)
        if path not in (empty, never):
            Path(path).write_bytes(NOISE)
            assert reach(following, path, 5 * PIECE)
    with open(longer, "ab") as file:
        file.write(b"more")
    with open(shorter, "r+b") as file:
        file.truncate(PIECE)
    # as it was, but not the same file
    os.remove(other)
    Path(other).write_bytes(NOISE)
    os.remove(gone)
    Path(empty).touch()
    for path in (longer, shorter, gone, other, never):
        assert following.digest(path, len(NOISE)) is None
    assert following.digest(empty, 0) is None
    assert following.digest("elsewhere", 1) is None


def test_a_file_that_was_cut_and_has_grown_again_is_not_hashed(following: Following, tmp_path: Path) -> None:
    path = tmp_path / "a"
    following.follow(str(path))
    path.write_bytes(NOISE)
    assert reach(following, path, 5 * PIECE)
    trail = following._trails[str(path)]
    with path.open("r+b") as file:
        file.truncate(0)
        while not trail._is_lost:  # its next look
            time.sleep(0.001)
        file.write(bytes(len(NOISE)))
    assert following.digest(str(path), len(NOISE)) is None


def test_a_file_that_is_there_already_is_not_followed(following: Following, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(NOISE)
    assert not following.follow(str(path))
    assert following.digest(str(path), len(NOISE)) is None


def test_the_next_try_writes_to_the_same_name(following: Following, tmp_path: Path) -> None:
    path = tmp_path / "a"
    following.follow(str(path))
    path.write_bytes(NOISE)
    assert reach(following, path, PIECE)
    path.unlink()
    following.follow(str(path))
    path.write_bytes(NOISE[::-1])
    assert following.digest(str(path), len(NOISE)) == blake3(NOISE[::-1]).hexdigest()


def test_a_file_that_is_there_is_hashed_ahead_of_who_asks(following: Following, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(NOISE)
    assert following.ahead(str(path))
    assert not following.ahead(str(path))
    assert reach(following, path, 5 * PIECE)
    assert following.digest(str(path), len(NOISE)) == blake3(NOISE).hexdigest()
    # what is not there, nobody can hash; that is told to who asks
    assert following.ahead(str(tmp_path / "none"))
    assert following.digest(str(tmp_path / "none"), 1) is None


def test_very_many_files_are_hashed_when_they_are_whole(following: Following, tmp_path: Path) -> None:
    paths = [tmp_path / f"{n:03}" for n in range(40)]
    for path in paths:
        following.follow(str(path))
        path.write_bytes(b"rows")
    known = [following.digest(str(path), 4) for path in paths]
    assert known == [blake3(b"rows").hexdigest()] * 32 + [None] * 8


def test_it_ends(tmp_path: Path) -> None:
    idle, busy = Following(), Following()
    before = {*threading.enumerate()}
    busy.follow(str(tmp_path / "a"))
    (tmp_path / "a").write_bytes(NOISE)
    (begun,) = (t for t in threading.enumerate() if t not in before and t.name == "lazypipe-following")
    assert reach(busy, tmp_path / "a", PIECE)
    for following in (idle, busy):
        following.close()
    assert not begun.is_alive()
    assert busy.digest(str(tmp_path / "a"), len(NOISE)) is None
    assert not [n for n in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{n}") == str(tmp_path / "a")]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="threads have priorities on Linux only")
def test_whoever_else_wants_a_core_goes_first(following: Following, tmp_path: Path) -> None:
    following.follow(str(tmp_path / "a"))
    (tmp_path / "a").write_bytes(NOISE)
    assert reach(following, tmp_path / "a", PIECE)
    (thread,) = [t for t in threading.enumerate() if t.name == "lazypipe-following"]
    assert thread.native_id is not None
    assert os.getpriority(os.PRIO_PROCESS, thread.native_id) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)
