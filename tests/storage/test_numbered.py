"""Numbered files: what commits and records have in common, where the tests of neither look."""

from __future__ import annotations

import json
import os
from pathlib import Path

import fsspec
import pytest

from lazypipe.errors import StorageError
from lazypipe.storage.numbered import NumberedFiles, is_sealed, seal_text
from lazypipe.testing.faults import faulty


@pytest.fixture
def files(somewhere: str) -> NumberedFiles:
    return NumberedFiles(f"{somewhere}/log", what="the log")


def test_the_last_number(files: NumberedFiles) -> None:
    assert (files.last(), files.numbers()) == (0, [])
    for number in (1, 10, 9):
        files.create(number, b"{}")
    assert files.last() == 10
    files.create_named("x" * 20 + ".json", b"{}")  # as long as a number, and behind it
    assert files.last() == 10
    files.remove([10])
    files.remove([10])
    assert files.last() == 9


def test_a_number_is_created_once_also_when_somebody_comes_between(
    files: NumberedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.create(1, b"first")
    with pytest.raises(FileExistsError):
        files.create(1, b"second")
    monkeypatch.setattr(os.path, "exists", lambda _: False)
    with pytest.raises(FileExistsError):
        files.create(1, b"third")
    assert files.read(1) == b"first"
    assert files.half_written() == {}


def test_other_names_stand_in_folders_of_their_own(files: NumberedFiles) -> None:
    assert files.read_named("objects/a.json") is None
    files.create_named("objects/a.json", b"a")
    with pytest.raises(FileExistsError):
        files.create_named("objects/a.json", b"b")
    assert files.read_named("objects/a.json") == b"a"
    assert files.numbers() == []


@pytest.mark.parametrize("below", ["", "/log"])
def test_a_file_where_the_folder_should_be_is_no_conflict(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    files = NumberedFiles(f"{tmp_path}/file{below}", what="the log")
    assert (files.numbers(), files.last(), files.read(1), files.half_written()) == ([], 0, None, {})
    with pytest.raises(NotADirectoryError):
        files.create(1, b"{}")


def test_what_cannot_be_read_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    local = NumberedFiles(str(tmp_path), what="the log")
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(
        StorageError, match="the log cannot be read: Permission denied; check permissions and network"
    ) as caught:
        local.numbers()
    assert caught.value.uri == str(tmp_path)
    with faulty() as faults:
        faults.fail("list", PermissionError(13, "Permission denied"))
        with pytest.raises(StorageError, match="faulty://log: the log cannot be read: Permission denied"):
            NumberedFiles("faulty://log", what="the log").last()


def test_a_text_that_is_sealed_as_it_is_written() -> None:
    sealed = seal_text('{"a":[1,2],"b":"\u00fc"}')
    assert json.loads(sealed)["a"] == [1, 2]
    assert is_sealed(sealed)
    for place in range(len(sealed)):
        assert not is_sealed(sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :])
        assert not is_sealed(sealed[:place])
    assert not is_sealed(sealed + b" ")


class _ClientError(Exception):
    """As clients of object stores raise them: no error of the operating system."""


def test_whatever_a_client_raises_is_told_of_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    files = NumberedFiles("memory://unreachable", what="the log")

    def broken(*_: object, **__: object) -> None:
        raise _ClientError("Could not connect to the endpoint URL\nand more")

    for name in ("ls", "cat_file"):
        monkeypatch.setattr(type(files._fs), name, broken)
    said = r"^memory://unreachable: the log cannot be read: Could not connect to the endpoint URL; check permissions and network$"
    with pytest.raises(StorageError, match=said):
        files.numbers()
    with pytest.raises(StorageError, match=said):
        files.read(1)


def test_what_its_file_system_needs_is_told_of_the_folder() -> None:
    fsspec.register_implementation("lacking", "nowhere.Lacking", errtxt="Install nowhere to read it", clobber=True)
    said = r"^lacking://x: the log cannot be read: Install nowhere to read it; then run again$"
    with pytest.raises(StorageError, match=said):
        NumberedFiles("lacking://x", what="the log")
