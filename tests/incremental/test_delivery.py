"""What is whole may be read; what is not waits, and says why."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from blake3 import blake3

from lazypipe.compile.sources.intake import Expect, Intake
from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import SourceError
from lazypipe.incremental.changes import compare
from lazypipe.incremental.delivery import Delivery, Partial, deliver, refuse_partial
from lazypipe.incremental.manifest import Entry, ManifestError, read_manifest
from lazypipe.incremental.state import Consumed
from lazypipe.incremental.store import Store
from lazypipe.storage.files import FileInfo, expand

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Place:
    """A folder on some file system."""

    def __init__(self, root: str) -> None:
        self.root = root

    def put(self, *names: str, content: bytes = b"x\n1\n") -> None:
        for name in names:
            fs, path = fsspec.core.url_to_fs(f"{self.root}/{name}")
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            fs.pipe_file(path, content)

    def remove(self, name: str) -> None:
        fs, path = fsspec.core.url_to_fs(f"{self.root}/{name}")
        fs.rm_file(path)

    def deliver(self, pattern: str = "**/*.csv", *, before: Consumed | None = None, **expect: Any) -> Delivery:
        intake = Intake(expect=Expect(**expect))
        files = [f for f in self.listed(pattern) if intake.expect and not intake.expect.is_beside(f.uri)]
        return deliver(files, intake, now=NOON, patterns=[f"{self.root}/{pattern}"], before=before)

    def listed(self, pattern: str = "**/*.csv") -> tuple[FileInfo, ...]:
        return expand([f"{self.root}/{pattern}"])

    def told(self, delivery: Delivery) -> tuple[list[str], dict[str, str]]:
        names = [f.uri.removeprefix(f"{self.root}/") for f in delivery.admitted]
        return names, {n.removeprefix(f"{self.root}/"): why for n, why in delivery.waiting.items()}

    def partial(self, delivery: Delivery) -> list[tuple[str, str]]:
        return [(p.where.removeprefix(self.root), p.why) for p in delivery.partial]


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}")


# settle


def test_a_file_that_was_just_written_is_left_for_the_next_run() -> None:
    at = int(NOON.timestamp()) * 10**9
    ages = {"old": 301, "young": 299, "now": 0, "ahead": -3600}
    files = [FileInfo(n, 1, str(at - s * 10**9)) for n, s in ages.items()]
    files.append(FileInfo("etag", 1, '"x"'))
    found = deliver(files, Intake(settle=timedelta(minutes=5)), now=NOON)
    assert [f.uri for f in found.admitted] == ["old", "etag"]
    assert found.waiting == {
        "young": "written 299 s ago, and to settle for 300 s",
        "now": "written 0 s ago, and to settle for 300 s",
        "ahead": "written 3,600 s in the future: a clock is wrong, and to settle for 300 s",
    }
    assert found.partial == ()
    assert str(found) == "2 files, 3 waiting: written 299 s ago, and to settle for 300 s"
    later = deliver(files, Intake(settle=timedelta(minutes=5)), now=NOON + timedelta(hours=2))
    assert later == Delivery(tuple(files))
    assert str(later) == "5 files"


def test_a_file_that_waits_is_neither_gone_nor_changed() -> None:
    at = int(NOON.timestamp()) * 10**9
    before = Consumed.of(Snapshot((FileInfo("a", 1, "1"), FileInfo("b", 1, "1"))))
    files = (FileInfo("a", 1, "1"), FileInfo("b", 2, str(at)), FileInfo("c", 2, str(at)))
    found = deliver(files, Intake(settle=timedelta(seconds=1)), now=NOON)
    changes = compare(before, Snapshot(found.admitted), hasher=lambda _: "", waiting=found.waiting)
    assert changes.still
    assert str(changes) == "1 waiting, 1 unchanged"
    assert changes.consumed() == before


# counts and markers


def test_a_number_of_files(place: Place) -> None:
    place.put("a.csv", "b.csv")
    assert place.told(place.deliver("*.csv", files=2)) == (["a.csv", "b.csv"], {})
    short = place.deliver("*.csv", files=3)
    assert place.told(short) == ([], dict.fromkeys(["a.csv", "b.csv"], "2 of 3 files are there"))
    assert place.partial(short) == [("", "2 of 3 files are there")]
    assert place.partial(place.deliver("*.csv", files=1)) == [("", "2 of 1 files are there")]
    assert place.partial(place.deliver("*.csv", at_least=3)) == [("", "2 of at least 3 files are there")]
    assert place.told(place.deliver("*.csv", at_least=1)) == (["a.csv", "b.csv"], {})


def test_a_number_of_files_in_each_folder(place: Place) -> None:
    place.put("1/a.csv", "1/b.csv", "2/a.csv")
    found = place.deliver(files=2, per="folder")
    assert place.told(found) == (["1/a.csv", "1/b.csv"], {"2/a.csv": "1 of 2 files are there"})
    assert place.partial(found) == [("/2", "1 of 2 files are there")]


def test_a_marker_in_the_folder_or_above(place: Place) -> None:
    place.put("1/a.csv", "2/a.csv", "2/x/b.csv")
    assert place.told(place.deliver(marker="_SUCCESS"))[0] == []
    place.put("2/_SUCCESS", content=b"")
    found = place.deliver(marker="_SUCC*")
    assert place.told(found) == (["2/a.csv", "2/x/b.csv"], {"1/a.csv": "there is no _SUCC*"})
    assert place.partial(found) == [("/1", "there is no _SUCC*")]
    place.put("_SUCCESS", content=b"")
    assert place.told(place.deliver(marker="_SUCCESS"))[1] == {}


def test_a_marker_above_where_the_pattern_starts_does_not_count(place: Place) -> None:
    place.put("d/a.csv", "_SUCCESS")
    assert place.told(place.deliver("d/*.csv", marker="_SUCCESS")) == ([], {"d/a.csv": "there is no _SUCCESS"})
    without_pattern = deliver(place.listed(), Intake(expect=Expect(marker="_SUCCESS")), now=NOON)
    assert place.told(without_pattern)[1] == {"d/a.csv": "there is no _SUCCESS"}


def test_a_marker_for_each_file(place: Place) -> None:
    place.put("a.csv", "b.csv", "a.csv.done")
    found = place.deliver("*.csv", marker="{name}.done")
    assert place.told(found) == (["a.csv"], {"b.csv": "there is no b.csv.done"})
    assert place.partial(found) == [("/b.csv", "there is no b.csv.done")]


def test_files_that_have_not_settled_do_not_count() -> None:
    at = int(NOON.timestamp()) * 10**9
    files = [FileInfo("d/a", 1, "1" * 19), FileInfo("d/b", 1, str(at))]
    found = deliver(files, Intake(settle=timedelta(seconds=5), expect=Expect(files=2)), now=NOON)
    assert found.admitted == ()
    assert found.waiting == {
        "d/a": "1 of 2 files are there",
        "d/b": "written 0 s ago, and to settle for 5 s",
    }
    assert found.partial == (Partial("d", "1 of 2 files are there"),)


def test_what_is_not_whole_stops_the_run_where_that_is_asked_for() -> None:
    found = Delivery((), {"a": "x"}, (Partial("d", "1 of 2 files are there"),))
    refuse_partial(found, Intake(), "s")
    refuse_partial(Delivery(()), Intake(on_partial="fail"), "s")
    with pytest.raises(SourceError) as caught:
        refuse_partial(found, Intake(on_partial="fail"), "s")
    assert str(caught.value) == (
        "d: source 's': the delivery is incomplete: 1 of 2 files are there; deliver the rest, or say on_partial: wait"
    )


def test_members_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for name in ("d/a.csv", "d/_SUCCESS", "e/b.csv"):
            archive.writestr(name, "x\n1\n")
    pattern = f"zip://*/*.csv::file://{tmp_path}/z.zip"
    found = deliver(expand([pattern]), Intake(expect=Expect(marker="_SUCCESS")), now=NOON, patterns=[pattern])
    assert [f.uri.partition("::")[0] for f in found.admitted] == ["zip://d/a.csv"]


# manifests


def sums(content: bytes) -> dict[str, str]:
    return {
        "md5": hashlib.md5(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "blake3": blake3(content).hexdigest(),
    }


A, B = b"x\n1\n", b"x\n1\n2\n"
FORMS = {
    "m.jsonl": "".join(json.dumps({"name": n, "size": len(c), **sums(c)}) + "\n" for n, c in {"a.csv": A, "s/b.csv": B}.items()),
    "m.json": json.dumps({"files": [{"path": "a.csv", "bytes": len(A), "MD5": sums(A)["md5"].upper()}, {"path": "./s/b.csv", "bytes": str(len(B))}]}),
    "list.json": json.dumps(["a.csv", "s/b.csv"]),
    "m.csv": f"File,Size,sha256\na.csv,{len(A)},{sums(A)['sha256']}\ns/b.csv,,\n",
    "SHA256SUMS": f"{sums(A)['sha256']}  a.csv\n{sums(B)['sha256']} *s/b.csv\n",
    "MD5SUMS": f"{sums(A)['md5']}  a.csv\n\n{sums(B)['md5']}  s/b.csv\n",
    "B3SUMS": f"{sums(A)['blake3']}  a.csv\n{sums(B)['blake3']}  s/b.csv\n",
    "BSD": f"SHA256 (a.csv) = {sums(A)['sha256']}\nBLAKE3 (s/b.csv) = {sums(B)['blake3']}\n",
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_manifests_of_every_form(place: Place, name: str) -> None:
    place.put("a.csv", content=A)
    place.put(name, content=FORMS[name].encode())
    found = place.deliver(manifest=name)
    assert place.told(found) == ([], {"a.csv": "1 of 2 files of the manifest are there; 'b.csv' is not"})
    place.put("s/b.csv", content=B)
    place.put("c.csv")
    assert place.told(place.deliver(manifest=name)) == (["a.csv", "s/b.csv"], {"c.csv": "no manifest lists it"})


def test_what_does_not_match_its_manifest_waits_with_all_of_it(place: Place) -> None:
    place.put("a.csv", content=A)
    place.put("b.csv", content=B)
    place.put("m.json", content=json.dumps([{"name": "a.csv"}, {"name": "b.csv", "size": 5}]).encode())
    assert place.partial(place.deliver(manifest="m.json")) == [("/m.json", "'b.csv' has 6 bytes, 5 in the manifest")]
    wrong = [{"name": "a.csv"}, {"name": "b.csv", "size": 6, "md5": sums(A)["md5"]}]
    place.put("m.json", content=json.dumps(wrong).encode())
    found = place.deliver(manifest="m.json")
    why = "'b.csv' has another md5 than in the manifest"
    assert place.told(found) == ([], {"a.csv": why, "b.csv": why})


def test_a_manifest_of_its_own_for_each_delivery(place: Place) -> None:
    place.put("a.csv", "b.csv", "c.csv")
    place.put("m1.json", content=b'["a.csv", "x.csv"]')
    place.put("m2.json", content=b'["b.csv"]')
    assert place.told(place.deliver(manifest="m*.json")) == (
        ["b.csv"],
        {"a.csv": "1 of 2 files of the manifest are there; 'x.csv' is not", "c.csv": "no manifest lists it"},
    )


def test_no_manifest_and_half_a_manifest(place: Place) -> None:
    place.put("a.csv")
    assert place.partial(place.deliver(manifest="m.jsonl")) == [("", "there is no m.jsonl")]
    place.put("m.jsonl", content=b'{"name": "a.csv"}\n{"na')
    found = place.deliver(manifest="m.jsonl")
    assert place.partial(found) == [
        ("/m.jsonl", "the manifest cannot be understood: line 2 is not JSON, or is cut off")
    ]
    assert place.told(found) == ([], {"a.csv": "no manifest lists it"})


def test_files_that_were_consumed_are_not_hashed_again_and_may_be_gone(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    place.put("a.csv", content=A)
    before = Consumed.of(Snapshot(place.listed()))
    place.put("m.json", content=json.dumps([{"name": "a.csv", "sha256": "wrong"}]).encode())
    assert place.told(place.deliver(manifest="m.json"))[0] == []
    assert place.told(place.deliver(manifest="m.json", before=before))[0] == ["a.csv"]
    os.utime(tmp_path / "a.csv", ns=(5, 5))
    assert place.told(place.deliver(manifest="m.json", before=before))[0] == []
    place.put("b.csv")
    place.remove("a.csv")
    place.put("m.json", content=b'["a.csv", "b.csv"]')
    assert place.told(place.deliver(manifest="m.json", before=before))[0] == ["b.csv"]
    assert place.told(place.deliver(manifest="m.json"))[0] == []


def test_an_unsettled_file_holds_up_its_manifest(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    place.put("a.csv", "b.csv")
    place.put("m.json", content=b'["a.csv", "b.csv"]')
    at = int(NOON.timestamp()) * 10**9
    os.utime(tmp_path / "a.csv", ns=(at, at - 10**12))
    os.utime(tmp_path / "b.csv", ns=(at, at))
    intake = Intake(settle=timedelta(seconds=5), expect=Expect(manifest="m.json"))
    found = deliver(place.listed(), intake, now=NOON, patterns=[f"{tmp_path}/*.csv"])
    assert place.told(found) == (
        [],
        {
            "a.csv": "'b.csv' waits: written 0 s ago, and to settle for 5 s",
            "b.csv": "written 0 s ago, and to settle for 5 s",
        },
    )


def test_names_in_manifests() -> None:
    line = f"\\{'a' * 32}  new\\nline\\\\x\n"
    assert read_manifest(line.encode(), "m")[0].name == "new\nline\\x"
    assert read_manifest(b"\xef\xbb\xbf" + b'{"key": "s3://b/a"}', "m") == [Entry("s3://b/a")]
    assert read_manifest(f"{'A' * 64}  a, b.csv".encode(), "x.BLAKE3") == [
        Entry("a, b.csv", None, (("blake3", "a" * 64),))
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff\xfe", "it is not UTF-8 text"),
        (b"", "it lists no file"),
        (b"[]", "it lists no file"),
        (b"nonsense\n", "line 1 is not a checksum and a name, or is cut off"),
        (b"[1]", "entry 1 is not a mapping"),
        (b'{"size": 4}', "entry 1 has no name; it should be under one of name, path, file, filename, url, uri, key"),
        (b'{"name": "a"}\n\n{"name": "b", "size": "x"}\n', "entry 2: size 'x' is not a number"),
        (b'name,size\n"a,5', "it is not CSV: unexpected end of data"),
    ],
)
def test_what_is_no_manifest(data: bytes, why: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(data, "m")
    assert str(caught.value) == why


# looking beside


def test_places_that_cannot_be_looked_at(tmp_path: Path) -> None:
    assert Store().beside(f"{tmp_path}/no") == ()
    with pytest.raises(
        SourceError, match="cannot be listed: .*(failed|refused).*; check the path, permissions and network"
    ) as caught:
        Store().beside("http://127.0.0.1:9/x")
    assert caught.value.uri == "http://127.0.0.1:9/x"
    for look in (lambda uri: Store().read(uri), lambda uri: Store().checksum(uri, "md5")):
        with pytest.raises(SourceError, match="cannot be read: No such file or directory") as caught:
            look(f"{tmp_path}/no")
        assert caught.value.uri == f"{tmp_path}/no"


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Place(str(tmp_path)).put("a.csv", "_SUCCESS")
    found = deliver(expand(["*.csv"]), Intake(expect=Expect(marker="_SUCCESS")), now=NOON, patterns=["*.csv"])
    assert [f.uri for f in found.admitted] == ["a.csv"]
