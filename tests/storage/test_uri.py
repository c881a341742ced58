"""URIs: relative to the definition, with variables of the environment that never show."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from lazypipe.storage import uri as uris
from lazypipe.storage.uri import Redactor


@pytest.mark.parametrize(
    ("uri", "protocol", "local", "native"),
    [
        ("data/x.csv", "", True, True),
        ("/abs/x.csv", "", True, True),
        ("file:///abs/x.csv", "file", True, True),
        ("S3://b/x", "s3", False, True),
        ("gs://b/x", "gs", False, True),
        ("https://h/x.csv", "https", False, True),
        ("memory://x", "memory", False, False),
        ("sftp://h/x", "sftp", False, False),
        ("zip://a.csv::s3://b/z.zip", "zip", False, False),
        ("simplecache::s3://b/x", "simplecache", False, False),
        ("a:b/c", "", True, True),
        ("dir/s3://odd", "", True, True),
        ("C:/x.csv", "", True, True),
    ],
)
def test_kinds_of_uris(uri: str, protocol: str, local: bool, native: bool) -> None:
    assert (uris.protocol(uri), uris.is_local(uri), uris.is_native(uri)) == (protocol, local, native)


@pytest.mark.parametrize(
    ("uri", "base", "whole"),
    [
        ("x.csv", "/p", "/p/x.csv"),
        ("./a/../x.csv", "/p/q", "/p/q/x.csv"),
        ("../x.csv", "/p/q", "/p/x.csv"),
        ("/abs/x.csv", "/p", "/abs/x.csv"),
        ("file:///abs/x#1?.csv", "/p", "/abs/x#1?.csv"),
        ("x%20y.csv", "/p", "/p/x%20y.csv"),
        ("x.csv", "file:///p", "/p/x.csv"),
        ("x.csv", "memory://p", "memory://p/x.csv"),
        ("s3://b/x", "/p", "s3://b/x"),
        ("data/*.csv", "/p", "/p/data/*.csv"),
    ],
)
def test_relative_uris_start_from_the_definition(uri: str, base: str, whole: str) -> None:
    assert uris.resolve(uri, base) == whole


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert uris.resolve("~/x.csv", "/p") == "/home/me/x.csv"


def test_segments_are_joined_with_one_slash() -> None:
    assert uris.join("s3://b/a/", "/c/", "d") == "s3://b/a/c/d"
    assert uris.join("/p", "x=1/y") == "/p/x=1/y"


def test_variables_are_replaced_everywhere_and_told() -> None:
    env = {"A": "1", "B": "two", "E": ""}
    value = {"key": "${A}", "list": ["x${B}y", 3], "none": None, "deep": {"e": "${E}|${A}${B}"}}
    found, used = uris.expand(value, env)
    assert found == {"key": "1", "list": ["xtwoy", 3], "none": None, "deep": {"e": "|1two"}}
    assert set(used) == {("A", "1"), ("B", "two")}
    assert uris.expand("$A {B} ${C-x}", env) == ("$A {B} ${C-x}", ())
    with pytest.raises(KeyError, match="MISSING"):
        uris.expand("${MISSING}", env)


def test_values_are_put_back_to_names() -> None:
    redact = Redactor((("PASSWORD", "hunter2"), ("USER", "me")))
    assert redact("cannot open sftp://me:hunter2@host/x") == "cannot open sftp://${USER}:${PASSWORD}@host/x"
    assert Redactor()("text") == "text"


def test_a_value_inside_another_is_put_back_whole() -> None:
    redact = Redactor((("SHORT", "abc"), ("LONG", "abcdef")))
    assert "def" not in redact("x://abcdef/y")


def test_percent_encoded_values_are_put_back_too() -> None:
    redact = Redactor((("PASSWORD", "p@ss/word"),))
    assert "p%40ss" not in redact("cannot open sftp://me:p%40ss%2Fword@host/x")


def test_file_systems_are_found_with_their_options() -> None:
    fs, path = uris.file_system("memory://a/b")
    assert isinstance(fs, fsspec.get_filesystem_class("memory"))
    assert path == "/a/b"
    fs, path = uris.file_system("/a/b")
    assert path == "/a/b"


@pytest.mark.parametrize(
    "uri", ["/a/b", "/a//b/", "a/b", "./a", "../a/", "~/a", "~", "/", "file:///a/b/", "local:///a/../b"]
)
def test_paths_of_this_machine_are_those_of_fsspec(uri: str) -> None:
    assert os.path.realpath(uris.whole_path(uri)) == os.path.realpath(uris.file_system(uri)[1])
    assert uris.whole_path(uri) == "/" or not uris.whole_path(uri).endswith("/")


def test_files_are_opened_wherever_they_are(tmp_path: Path) -> None:
    for uri in (f"{tmp_path}/a", f"file://{tmp_path}/a", "memory://opened/a"):
        fs, path = uris.file_system(uri)
        fs.pipe_file(path, b"abc")
        with uris.opened(uri, block_size=5) as file:
            assert file.read() == b"abc"
