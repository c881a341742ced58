"""Hashes of content: equal to BLAKE3's own, whatever the store; remembered only while a file surely is the same."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
import uuid
import zipfile
from pathlib import Path

import fsspec
import pytest
from blake3 import blake3

from lazypipe.errors import SourceError
from lazypipe.storage import content
from lazypipe.storage.content import HashCache, hash_file, hash_files, unchanged
from lazypipe.storage.files import FileInfo, expand
from lazypipe.testing.faults import faulty

OLD = (int(time.time()) - 3_600) * 10**9
LATER = OLD + 10**9  # file systems differ in how fine their stamps are


def deliver(path: Path, data: bytes, stamp: int = OLD) -> FileInfo:
    path.write_bytes(data)
    os.utime(path, ns=(stamp, stamp))
    return expand([str(path)])[0]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 23) - 1, 1 << 23, (1 << 23) + 12_345])
def test_equals_blake3_at_each_size(tmp_path: Path, size: int) -> None:
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    (tmp_path / "a").write_bytes(data)
    memory = f"memory://{uuid.uuid4().hex}/a"
    fs, path = fsspec.core.url_to_fs(memory)
    fs.pipe_file(path, data)
    expected = blake3(data).hexdigest()
    assert hash_file(str(tmp_path / "a")) == hash_file(f"file://{tmp_path}/a") == hash_file(memory) == expected


def test_of_a_member_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b.csv", "x\n1\n")
    assert hash_file(f"zip://b.csv::{tmp_path}/a.zip") == blake3(b"x\n1\n").hexdigest()


def test_memory_does_not_grow_with_a_remote_file() -> None:
    uri = f"memory://{uuid.uuid4().hex}/a"
    fs, path = fsspec.core.url_to_fs(uri)
    fs.pipe_file(path, bytes(40 << 20))
    tracemalloc.start()
    hash_file(uri)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read: No such file or directory; check the path") as caught:
        hash_file(str(tmp_path / "a"))
    assert caught.value.uri == str(tmp_path / "a")
    with faulty() as faults:
        fsspec.filesystem("faulty").pipe_file("a", b"x")
        faults.fail("read", RuntimeError("a client's own\nand more"))
        with pytest.raises(SourceError, match="faulty://a: cannot be read: a client's own;"):
            hash_file("faulty://a")


def test_a_hash_is_remembered_until_size_or_stamp_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = HashCache(str(tmp_path / "state" / "hashes.json"))
    file = deliver(tmp_path / "a", b"one")
    assert hash_files([file], None, cache) == {file.uri: blake3(b"one").hexdigest()}
    cache.save()
    again = HashCache(cache.path)
    with monkeypatch.context() as never:
        never.setattr(content, "hash_file", lambda *_: 1 / 0)
        assert hash_files([file], None, again) == {file.uri: blake3(b"one").hexdigest()}
    other = deliver(tmp_path / "a", b"two", LATER)
    assert hash_files([other], None, again) == {file.uri: blake3(b"two").hexdigest()}
    longer = deliver(tmp_path / "a", b"three", LATER)
    assert hash_files([longer], None, again) == {file.uri: blake3(b"three").hexdigest()}


def test_without_a_cache(tmp_path: Path) -> None:
    file = deliver(tmp_path / "a", b"one")
    assert hash_files([file]) == {file.uri: blake3(b"one").hexdigest()}


def test_a_young_stamp_is_not_trusted(tmp_path: Path) -> None:
    """A file that is written twice within one tick of the file system's clock has one stamp and two contents."""
    cache = HashCache(str(tmp_path / "hashes.json"))
    stamp = time.time_ns()
    one = deliver(tmp_path / "a", b"one", stamp)
    assert hash_files([one], None, cache)[one.uri] == blake3(b"one").hexdigest()
    two = deliver(tmp_path / "a", b"two", stamp)
    assert one == two
    assert hash_files([two], None, cache)[two.uri] == blake3(b"two").hexdigest()
    later = hash_files([two], None, cache, clock=lambda: stamp + 2_000_000_001)
    assert later == {two.uri: blake3(b"two").hexdigest()}
    assert cache.get(two) == blake3(b"two").hexdigest()


def test_without_size_or_stamp_nothing_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    cache = HashCache(str(tmp_path / "hashes.json"))
    for file in (FileInfo(str(tmp_path / "a"), 1), FileInfo(str(tmp_path / "a"), None, "e")):
        cache.put(file, "00", time.time_ns())
        assert cache.get(file) is None
    cache.save()
    assert not (tmp_path / "hashes.json").exists()
    assert hash_files([FileInfo(str(tmp_path / "a"), 1)], None, cache) == {
        str(tmp_path / "a"): blake3(b"x").hexdigest()
    }


def test_a_stamp_that_is_no_time_counts_as_it_is(tmp_path: Path) -> None:
    cache = HashCache(str(tmp_path / "hashes.json"))
    file = FileInfo("s3://bucket/a", 3, '"an-etag"')
    cache.put(file, "ab", time.time_ns())
    assert cache.get(file) == "ab"
    assert unchanged(file), "it is not asked"


def test_a_file_that_changes_or_goes_has_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = deliver(tmp_path / "a", b"one")
    deliver(tmp_path / "a", b"two", LATER)
    assert hash_files([file]) == {}
    (tmp_path / "a").unlink()
    assert hash_files([file]) == {}
    file = deliver(tmp_path / "a", b"one")
    plain = content.hash_file

    def slowly(uri: str, *more: object) -> str:
        found = plain(uri)
        deliver(tmp_path / "a", b"two", LATER)
        return found

    monkeypatch.setattr(content, "hash_file", slowly)
    assert hash_files([file]) == {}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"hashes": [[1]]}', b'{"hashes": 1}', b"\xff"])
def test_a_damaged_cache_is_an_empty_one(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "hashes.json").write_bytes(damage)
    file = deliver(tmp_path / "a", b"one")
    cache = HashCache(str(tmp_path / "hashes.json"))
    assert cache.get(file) is None
    hash_files([file], None, cache)
    cache.save()
    assert HashCache(str(tmp_path / "hashes.json")).get(file) == blake3(b"one").hexdigest()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    cache = HashCache(str(tmp_path / "file" / "hashes.json"))
    hash_files([deliver(tmp_path / "a", b"one")], None, cache)
    cache.save()
    HashCache(None).save()
    assert (tmp_path / "file").read_text() == "x"


def test_a_cache_keeps_the_youngest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_MOST", 2)
    cache = HashCache(str(tmp_path / "hashes.json"))
    files = [FileInfo(f"/{n}", 1, "1") for n in range(3)]
    for file in (*files, files[1]):
        cache.put(file, "00", time.time_ns())
    cache.save()
    kept = {entry[0] for entry in json.loads((tmp_path / "hashes.json").read_text())["hashes"]}
    assert kept == {"/2", "/1"}
