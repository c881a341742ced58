"""Hashes of files against the hash of their bytes, on any protocol."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import fsspec
import pytest
from blake3 import blake3

from lazypipe.errors import SourceError
from lazypipe.incremental import hashing
from lazypipe.incremental.stamps import moment_of, nanoseconds
from lazypipe.storage.content import hash_file
from lazypipe.storage.files import FileInfo


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "x") if request.param == "local" else f"memory://{uuid.uuid4().hex}/x"


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


def test_a_start_that_ends_within_a_line_equals_no_other(uri: str) -> None:
    put(uri, b"1\n22\n3")
    prefix = hashing.prefix_hasher()
    assert prefix(FileInfo(uri, 6), 5) == blake3(b"1\n22\n").hexdigest()
    assert [prefix(FileInfo(uri, 6), n) for n in (0, 1, 3, 4, 6)] == [""] * 5


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for function in (hash_file, lambda uri: hashing.hash_prefix(uri, 5)):
        for uri, reason in {
            f"{tmp_path}/no": "No such file or directory",
            str(tmp_path): "Is a directory",
            "memory://no": "/no",
        }.items():
            with pytest.raises(
                SourceError, match=f"cannot be read: {reason}; check path, rights and network"
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
