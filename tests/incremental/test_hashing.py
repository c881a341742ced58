"""Hashes of files against the hash of their bytes, on any protocol."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import fsspec
import polars as pl
import pytest
from blake3 import blake3

from lazypipe.errors import SourceError
from lazypipe.incremental import hashing
from lazypipe.incremental.hashing import Common, Hashes, group_hasher
from lazypipe.incremental.stamps import moment_of, nanoseconds, stays
from lazypipe.storage.content import hash_file
from lazypipe.storage.files import FileInfo, expand
from lazypipe.storage.parquet import row_groups
from lazypipe.storage.parquet.row_groups import begun


@pytest.fixture
def uri(somewhere: str) -> str:
    return f"{somewhere}/x"


def put(uri: str, content: bytes) -> None:
    fs, path = fsspec.core.url_to_fs(uri)
    fs.pipe_file(path, content)


# around the bounds of what is read at once
@pytest.mark.parametrize("size", [0, 1, 36_000, 2**20 - 1, 2**20, 2**20 + 1, 9 * 2**20 + 3, 17 * 2**20])
def test_hashes_are_those_of_the_bytes(uri: str, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    put(uri, content[:size])
    assert hash_file(uri) == blake3(content[:size]).hexdigest()
    assert hashing.hasher()(FileInfo(uri, size)) == blake3(content[:size]).hexdigest()
    for start in (0, 1, size // 2, size, size + 5):
        assert hashing.hash_prefix(uri, start) == blake3(content[: min(start, size)]).hexdigest()


QUOTED = b'id,k\n1,"a\n2,""b"""\n# "c\n3,d\n4'


@pytest.mark.parametrize(
    ("form", "options", "ends"),
    [
        ("csv", {}, [5, 19]),  # the quote in what is no comment here is never closed
        ("csv", {"comment_prefix": "#"}, [5, 19, 24, 28]),
        ("csv", {"quote_char": None}, [5, 10, 19, 24, 28]),
        ("csv", {"has_header": False}, [5, 19]),
        ("csv", {"skip_rows": 1}, [19]),
        ("csv", {"skip_rows": 1, "comment_prefix": "#"}, [19, 24, 28]),
        ("csv", {"skip_rows": 3}, []),
        ("ndjson", {}, [5, 10, 19, 24, 28]),
    ],
)
def test_where_rows_end(uri: str, form: str, options: dict[str, Any], ends: list[int]) -> None:
    size = len(QUOTED)
    put(uri, QUOTED + b"more that came after it was listed")
    hashes = hashing.Hashes()
    prefix = hashing.prefix_hasher(form, options, hashes=hashes)
    found = {n: prefix(FileInfo(uri, size), n) for n in range(1, size + 1)}
    assert all(p is not None for p in found.values())
    assert {n: p.blake3 for n, p in found.items() if p} == {n: blake3(QUOTED[:n]).hexdigest() for n in found}
    assert {p.whole for p in found.values() if p} == {blake3(QUOTED).hexdigest()}
    assert [n for n, p in found.items() if p and p.ends] == ends
    assert hashes == {FileInfo(uri, size): blake3(QUOTED).hexdigest()}
    put(uri, b"other")
    assert prefix(FileInfo(uri, size), 5) == found[5]  # it was hashed before


def test_rows_that_are_longer_than_what_is_read_at_once(uri: str) -> None:
    row = b'1,"' + b"x\n" * (1 << 20) + b'"\n'
    content = b"id,k\n" + row * 3
    put(uri, content)
    prefix = hashing.prefix_hasher("csv", {})
    for rows in (1, 2, 3):
        size = 5 + rows * len(row)
        assert prefix(FileInfo(uri, len(content)), size) == (
            blake3(content[:size]).hexdigest(),
            blake3(content).hexdigest(),
            True,
        )
        assert prefix(FileInfo(uri, len(content)), size - 3) == (
            blake3(content[: size - 3]).hexdigest(),
            blake3(content).hexdigest(),
            False,
        )


@pytest.mark.parametrize("start", [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x9c"])
def test_what_is_compressed_has_no_rows_that_end(uri: str, start: bytes) -> None:
    put(uri, start + b"1\n2\n")
    found = hashing.prefix_hasher("ndjson", {})(FileInfo(uri, len(start) + 4), len(start) + 2)
    assert found == (blake3(start + b"1\n").hexdigest(), blake3(start + b"1\n2\n").hexdigest(), False)
    assert hashing.prefix_hasher("csv", {})(FileInfo(f"{uri}.csv.gz", 4), 2) is None
    assert hashing.prefix_hasher("csv", {})(FileInfo("zip://a.csv::memory://x.zip", 4), 2) is None


def test_hashes_of_no_more_than_was_listed(uri: str) -> None:
    put(uri, b"1\n2\n")
    assert hashing.hasher(grows=True)(FileInfo(uri, 2)) == blake3(b"1\n").hexdigest()
    assert hashing.hasher(grows=True)(FileInfo(uri, None)) == blake3(b"1\n2\n").hexdigest()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for function in (hash_file, lambda uri: hashing.hash_prefix(uri, 5)):
        for uri, reason in {
            f"{tmp_path}/no": "No such file or directory",
            str(tmp_path): "Is a directory",
            "memory://no": "/no",
        }.items():
            with pytest.raises(
                SourceError, match=f"cannot be read: {reason}; check the path, permissions and network"
            ) as caught:
                function(uri)
            assert caught.value.uri == uri


def test_moments_of_stamps() -> None:
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    at = nanoseconds(noon)
    assert at == int(noon.timestamp()) * 10**9
    assert nanoseconds(noon.astimezone(timezone(timedelta(hours=-7)))) == at
    assert moment_of(str(at + 7)) == at + 7
    assert moment_of("1714564800") == moment_of("1714564800.0") == at
    assert moment_of("2024-05-01T12:00:00") == moment_of("2024-05-01 14:00:00+02:00") == at
    assert moment_of("Wed, 01 May 2024 12:00:00 GMT") == at
    for text in ('"d41d8cd98f00b204"', "W/5", "", "1.2.3", "9" * 400 + ".", "²"):
        assert moment_of(text) is None
    assert moment_of("12345678901234567²") is None
    assert moment_of(None) is None


def test_what_a_file_of_row_groups_has_in_common_with_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_groups, "LARGE", 0)
    path = tmp_path / "a.parquet"

    def write(rows: int, codec: Literal["zstd", "uncompressed"] = "zstd") -> FileInfo:
        pl.DataFrame({"k": range(rows)}).write_parquet(path, row_group_size=100, compression=codec)
        return FileInfo(str(path), path.stat().st_size, str(rows))

    first, known = write(400), Hashes()
    known.hash(first, begun(first), None)
    was = known.borders[known[first]]
    longer = write(600)
    compared = group_hasher(None, known)
    found = compared(longer, first.size, was)
    assert found == (known[longer], was.at[-1], 4, 6)
    monkeypatch.setattr("lazypipe.incremental.hashing.hash_file", None)
    assert compared(longer, first.size, was) == found  # is not hashed again
    monkeypatch.undo()
    monkeypatch.setattr(row_groups, "LARGE", 0)
    other = write(400, "uncompressed")
    assert group_hasher()(other, first.size, was) == Common()  # nothing in common by the footer: no byte is hashed
    # of the same size it may be the very same, whatever its footer is like
    path.write_bytes(b"x" * 100)
    broken, hashes = FileInfo(str(path), 100, "x"), Hashes()
    assert group_hasher(None, hashes)(broken, 100, was) == (hash_file(str(path)), 0, 0, 0)
    assert group_hasher(None, hashes)(broken, 100, was).whole == hashes[broken]
    # one that becomes shorter while it is hashed
    shorter = write(600)
    monkeypatch.setattr("lazypipe.incremental.hashing.hash_file", lambda *_: "digest")
    assert group_hasher()(shorter, first.size, was) == Common("digest")


def test_whether_a_file_stays_as_it_was_listed(uri: str) -> None:
    name, folder = uri + ".parquet", uri.rpartition("/")[0]
    put(name, b"1")
    (listed,) = expand((f"{folder}/*.parquet",), None, endings=("",))
    assert stays(listed)
    assert not stays(listed._replace(size=2))
    assert not stays(listed._replace(stamp="1700000000"))
    put(name, b"12")
    assert not stays(listed)
    fs, path = fsspec.core.url_to_fs(name)
    fs.rm(path)
    assert not stays(listed)


def test_stamps_that_are_no_moments_must_be_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    there = FileInfo("memory://x/a.parquet", 3, '"etag"')
    monkeypatch.setattr("lazypipe.incremental.stamps.expand", lambda *_, **__: [there])
    assert stays(there)
    assert not stays(there._replace(stamp='"other"'))
    assert not stays(there._replace(stamp=None))
