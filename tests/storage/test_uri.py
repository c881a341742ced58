"""URIs: relative to the definition, with variables of the environment that never show."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import lazypipe as lp
from lazypipe.storage import uri as uris
from lazypipe.storage.uri import Redactor, Secret


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
    assert {(s.name, s.value) for s in used} == {("A", "1"), ("B", "two")}
    assert uris.expand("$A {B} ${C-x}", env) == ("$A {B} ${C-x}", ())
    with pytest.raises(KeyError, match="MISSING"):
        uris.expand("${MISSING}", env)


def test_values_are_put_back_to_names() -> None:
    redact = Redactor(uris.expand("sftp://${USER}:${PASSWORD}@host", {"PASSWORD": "hunter2", "USER": "me"})[1])
    assert redact("cannot open sftp://me:hunter2@host/x") == "cannot open sftp://${USER}:${PASSWORD}@host/x"
    assert Redactor()("text") == "text"


def test_a_value_inside_another_is_put_back_whole() -> None:
    redact = Redactor((Secret("SHORT", "abc"), Secret("LONG", "abcdef")))
    assert "def" not in redact("x://abcdef/y")


@pytest.mark.parametrize(
    ("written", "value", "text", "shown"),
    [
        ("data/${X}.csv", "a", "/base/data/a.csv: a file is a table", "/base/data/${X}.csv: a file is a table"),
        ("data/${X}.csv", "a", "the format of 'a.csv' is not known", "the format of '${X}.csv' is not known"),
        ("data/${X}.csv", "a", "data/airports.csv, a. b", "data/airports.csv, a. b"),
        ("in${X}b/c", "a", "/base/inab/c and inab/c, a b", "/base/in${X}b/c and in${X}b/c, a b"),
        ("${X}/c", "a", "/base/a/c is a c", "/base/${X}/c is a c"),
        ("data/${X}*.csv", "a", "data/a*.csv: a row", "data/${X}*.csv: a row"),
        ("data/${X}*.csv", "a", "data/a7.csv: a row", "data/${X}7.csv: a row"),
        ("*${X}.csv", "a", "data/7a.csv: a row", "data/7${X}.csv: a row"),
        ("s3://b-${X}/${Y}/z", "eu", "s3://b-eu/us/z in eu: queue", "s3://b-${X}/${Y}/z in eu: queue"),
        ("${X}", "a", "the key 'a' is unknown, key=a, a key", "the key '${X}' is unknown, key=${X}, a key"),
        ("${X}", "prod", "production: prod is down", "production: ${X} is down"),
        ("${X}", "s3cret", "xs3crety", "x${X}y"),
        ("x/${X}", "1", "1 row in x/1, version 1: 11", "1 row in x/${X}, version 1: 11"),
        ("x/${X}/", "-", "x/-/y - z", "x/${X}/y - z"),
    ],
)
def test_short_values_are_masked_where_they_can_be_the_value(written: str, value: str, text: str, shown: str) -> None:
    redact = Redactor(uris.expand(written, {"X": value, "Y": "us"})[1])
    assert redact(text) == shown


def test_no_name_of_a_variable_is_taken_for_a_value() -> None:
    redact = Redactor((Secret("secret", "longer"), Secret("A", "secret")))
    assert redact("longer secret") == "${secret} ${A}"


def test_percent_encoded_values_are_put_back_too() -> None:
    redact = Redactor((Secret("PASSWORD", "p@ss/word"),))
    assert "p%40ss" not in redact("cannot open sftp://me:p%40ss%2Fword@host/x")


def test_file_systems_are_found_with_their_options() -> None:
    fs, path = uris.file_system("memory://a/b")
    assert isinstance(fs, fsspec.get_filesystem_class("memory"))
    assert path == "/a/b"
    fs, path = uris.file_system("/a/b")
    assert path == "/a/b"


class _Store(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """What another process has of a store."""

    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]


class _Remembering(_Store):
    """Remembers what it has listed, as those of object stores do; a process has one of them."""

    protocol = "remembering"
    remembered: ClassVar[dict[str, list[dict[str, Any]]]] = {}
    find = AbstractFileSystem.find

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("remembering://", "memory://")))

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:  # fsspec's signature
        path = self._strip_protocol(path)
        if path not in self.remembered:
            self.remembered[path] = super().ls(path, detail=True)
        found = self.remembered[path]
        return found if detail else [f["name"] for f in found]

    def info(self, path: str, **_: Any) -> Any:
        path = self._strip_protocol(path)
        known = [f for f in self.ls(path.rpartition("/")[0]) if f["name"] == path]
        return known[0] if known else super().info(path)

    def invalidate_cache(self, path: str | None = None) -> None:
        if path is None:
            self.remembered.clear()
        else:
            self.remembered.pop(self._strip_protocol(path), None)


@pytest.mark.parametrize("uri", ["in/*.csv", "in", "in/1.csv"])
def test_what_came_to_an_object_store_is_seen_by_the_same_process(tmp_path: Path, uri: str) -> None:
    fsspec.register_implementation("remembering", _Remembering, clobber=True)
    _Store.store.clear()
    _Remembering.remembered.clear()
    fs = _Store()
    pipe = lp.pipeline("p", base=str(tmp_path), audit="off").source("s", f"remembering://{uri}", format="csv")
    plan = pipe.output("s", "out").build()
    fs.pipe_file("/in/1.csv", b"a\n1\n")
    assert plan.compile().run().status == "done"
    fs.pipe_file("/in/1.csv", b"a\n1\n2\n")
    assert plan.compile().run().status == "done"
    assert sorted(lp.scan(str(tmp_path / "out")).collect()["a"]) == [1, 2]
    fs.pipe_file("/in/2.csv", b"a\n3\n")
    expected = [1, 2] if uri.endswith("1.csv") else [1, 2, 3]
    assert plan.compile().run().status == ("unchanged" if len(expected) == 2 else "done")
    assert sorted(lp.scan(str(tmp_path / "out")).collect()["a"]) == expected


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
