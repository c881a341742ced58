"""What has changed: every kind told by what files hold, against an oracle that compares whole contents."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import SourceError
from lazypipe.incremental.changes import Changes, Grown, allowed, compare
from lazypipe.incremental.hashing import Common, hasher, prefix_hasher
from lazypipe.incremental.state import Consumed, ConsumedFile, State
from lazypipe.storage.content import hash_file
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.files import FileColumns, FileInfo, expand
from lazypipe.storage.local_files import Names
from lazypipe.storage.parquet.row_groups import Borders

HASH, PREFIX = hasher(), prefix_hasher("ndjson", {})
LATER = time.time_ns() + 3600 * 1_000_000_000


class Folder:
    """Real files; each write gets a stamp of its own, unless it is to be kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = 1_000_000_000_000_000_000

    def write(self, name: str, content: bytes, *, stamp: int | None = None) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(content)
        self.touch(name, stamp)

    def touch(self, name: str, stamp: int | None = None) -> None:
        self.clock += 1_000_000_000  # file systems differ in how fine their stamps are
        os.utime(self.root / name, ns=(self.clock, stamp or self.clock))

    def stamp(self, name: str) -> int:
        return os.stat(self.root / name).st_mtime_ns

    def move(self, name: str, to: str) -> None:
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.root / name, self.root / to)

    def listed(self) -> Snapshot:
        paths = sorted(str(p) for p in self.root.rglob("*") if p.is_file())
        return Snapshot(expand(paths) if paths else ())

    def consumed(self, **more: Any) -> Consumed:
        return Changes(now=self.listed()).consumed(hasher=HASH, **more)

    def contents(self) -> dict[str, tuple[bytes, int]]:
        return {f.uri: (Path(f.uri).read_bytes(), int(f.stamp or 0)) for f in self.listed().files}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def never(file: FileInfo) -> str:
    raise AssertionError(f"{file.uri} was read")


def kinds(changes: Changes) -> dict[str, list[str]]:
    """The names in each kind that has any."""
    told = {
        "added": [f.uri for f in changes.added],
        "modified": [f.uri for f in changes.modified],
        "removed": [f.uri for f in changes.removed],
        "truncated": [f.uri for f in changes.truncated],
        "grown": [g.file.uri for g in changes.grown],
        "moved": [f"{m.before.uri} → {m.now.uri}" for m in changes.moved],
        "touched": [f.uri for f in changes.touched],
        "redelivered": [r.file.uri for r in changes.redelivered],
        "ignored": [f.uri for f in changes.ignored],
    }
    return {k: v for k, v in told.items() if v}


def short(changes: Changes, folder: Folder) -> dict[str, list[str]]:
    return {k: [n.replace(f"{folder.root}/", "") for n in v] for k, v in kinds(changes).items()}


def test_nothing_changed_costs_no_look_into_any_file(folder: Folder) -> None:
    for number in range(5):
        folder.write(f"{number}.csv", b"x\n1\n")
    before = folder.consumed(listed=LATER)
    found = compare(before, folder.listed(), hasher=never)
    assert found.nothing
    assert found.still
    assert str(found) == "5 unchanged"
    assert found.consumed(listed=LATER, hasher=never) == before


def test_each_kind(folder: Folder) -> None:
    for name, content in {
        "a same": b"1\n",
        "b modified": b"2\n",
        "c truncated": b"33\n",
        "d grown": b"4\n",
        "e half a line": b"5",
        "f removed": b"6\n",
        "g moved": b"7\n",
        "h touched": b"8\n",
        "i rewritten longer": b"9\n",
    }.items():
        folder.write(name, content)
    before = folder.consumed(listed=LATER)
    folder.write("b modified", b"0\n")
    folder.write("c truncated", b"3\n")
    folder.write("d grown", b"4\n44\n")
    folder.write("e half a line", b"55\n")
    os.remove(folder.root / "f removed")
    folder.move("g moved", "z/away")
    folder.touch("h touched")
    folder.write("i rewritten longer", b"0\n9\n")
    folder.write("j new", b"unheard of\n")
    folder.write("k again", b"1\n")
    found = compare(before, folder.listed(), hasher=HASH, prefix=PREFIX)
    assert short(found, folder) == {
        "added": ["j new", "k again"],
        "modified": ["b modified", "e half a line", "i rewritten longer"],
        "removed": ["f removed"],
        "truncated": ["c truncated"],
        "grown": ["d grown"],
        "moved": ["g moved → z/away"],
        "touched": ["h touched"],
        "redelivered": ["k again"],
    }
    assert str(found) == (
        "2 added (1 re-delivered), 4 modified (1 shorter), 1 grown, 1 removed, 1 moved, 1 touched, 1 unchanged"
    )
    assert [g.start for g in found.grown] == [2]
    assert found.redelivered[0].like.uri.endswith("a same")
    assert not found.nothing
    after = found.consumed(listed=LATER, hasher=HASH)
    assert after == folder.consumed(listed=LATER)
    assert compare(after, folder.listed(), hasher=never).still


def test_without_a_look_at_the_start_growth_is_a_modification(folder: Folder) -> None:
    folder.write("a.csv.gz", b"1\n")
    before = folder.consumed()
    folder.write("a.csv.gz", b"1\n2\n")
    assert short(compare(before, folder.listed(), hasher=HASH), folder) == {"modified": ["a.csv.gz"]}


def test_an_empty_file_does_not_grow_but_is_modified(folder: Folder) -> None:
    """Its header was never read."""
    folder.write("a.csv", b"")
    before = folder.consumed()
    folder.write("a.csv", b"x\n1\n")
    assert short(compare(before, folder.listed(), hasher=HASH, prefix=PREFIX), folder) == {"modified": ["a.csv"]}


def test_touched_and_moved_files_make_no_work(folder: Folder) -> None:
    folder.write("a", b"1\n")
    folder.write("b", b"2\n")
    before = folder.consumed()
    folder.touch("a")
    folder.move("b", "c")
    found = compare(before, folder.listed(), hasher=HASH)
    assert short(found, folder) == {"touched": ["a"], "moved": ["b → c"]}
    assert found.nothing
    assert not found.still


def test_same_size_and_stamp_is_found_by_content_only(folder: Folder) -> None:
    folder.write("a", b"1\n")
    before = folder.consumed(listed=LATER)
    folder.write("a", b"2\n", stamp=folder.stamp("a"))
    assert compare(before, folder.listed(), hasher=never).still
    found = compare(before, folder.listed(), hasher=HASH, detect="content")
    assert short(found, folder) == {"modified": ["a"]}


def test_a_file_written_while_it_was_listed_is_looked_at_next_time(folder: Folder) -> None:
    """As git does with its index: a stamp of the very moment of the listing proves nothing."""
    folder.write("a", b"1\n")
    at = folder.stamp("a")
    racy, settled = folder.consumed(listed=at + 1_999_999_999), folder.consumed(listed=at + 2_000_000_001)
    assert compare(racy, folder.listed(), hasher=HASH).still
    folder.write("a", b"2\n", stamp=at)
    assert short(compare(racy, folder.listed(), hasher=HASH), folder) == {"modified": ["a"]}
    assert compare(settled, folder.listed(), hasher=never).still


def test_a_clock_that_went_back(folder: Folder) -> None:
    folder.write("a", b"1\n", stamp=LATER)
    folder.write("b", b"1\n")
    before = folder.consumed(listed=time.time_ns())
    folder.write("a", b"2\n", stamp=LATER)
    folder.write("b", b"2\n", stamp=1_000)
    assert short(compare(before, folder.listed(), hasher=HASH), folder) == {"modified": ["a", "b"]}


def test_the_same_stamp_with_another_size_is_a_change(folder: Folder) -> None:
    folder.write("a", b"1\n")
    before = folder.consumed(listed=LATER)
    folder.write("a", b"11\n", stamp=folder.stamp("a"))
    assert short(compare(before, folder.listed(), hasher=HASH), folder) == {"modified": ["a"]}


def infos(**sizes: int | None) -> Snapshot:
    return Snapshot(tuple(FileInfo(n, s, None) for n, s in sizes.items()))


def test_content_decides_where_a_store_tells_no_stamp() -> None:
    content = {"a": "h1", "b": "h2", "c": "h3"}
    before = Changes(now=infos(a=1, b=None, c=1)).consumed(listed=LATER, hasher=lambda f: content[f.uri])
    assert compare(before, infos(a=1, b=None, c=1), hasher=lambda f: content[f.uri]).still
    content |= {"b": "other"}
    found = compare(before, infos(a=1, b=5, c=1), hasher=lambda f: content[f.uri])
    assert kinds(found) == {"modified": ["b"]}
    unknown = Changes(now=infos(a=1)).consumed(listed=LATER)
    assert kinds(compare(unknown, infos(a=1), hasher=never)) == {"modified": ["a"]}


def test_stamps_of_stores_that_are_no_moments_are_trusted() -> None:
    now = Snapshot((FileInfo("s3://b/a", 1, '"etag"'),))
    before = Changes(now=now).consumed(listed=0)
    assert compare(before, now, hasher=never).still


def test_copies_and_moves_are_told_apart(folder: Folder) -> None:
    for name in ("a", "b", "c"):
        folder.write(name, b"same\n")
    before = folder.consumed()
    folder.move("a", "x")
    folder.move("b", "y")
    for name in ("z1", "z2"):
        folder.write(name, b"same\n")
    found = compare(before, folder.listed(), hasher=HASH)
    assert short(found, folder) == {
        "moved": ["a → x", "b → y"],
        "added": ["z1", "z2"],
        "redelivered": ["z1", "z2"],
    }


def test_a_move_between_partitions_is_no_move(folder: Folder) -> None:
    """The folders' values are columns: the rows are others."""
    folder.write("day=1/a", b"1\n")
    folder.write("day=1/b", b"2\n")
    before = folder.consumed()
    folder.move("day=1/a", "day=2/a")
    folder.move("day=1/b", "day=1/c")
    found = compare(before, folder.listed(), hasher=HASH)
    assert short(found, folder) == {
        "added": ["day=2/a"],
        "removed": ["day=1/a"],
        "moved": ["day=1/b → day=1/c"],
    }


def test_files_that_cannot_be_read_count_as_changed_and_say_why() -> None:
    files = {n: FileInfo(n, 4, "1500000000000000001") for n in ("touched", "grown", "new", "same")}
    before = Consumed(
        "files",
        (
            ConsumedFile("touched", 4, "1", "h"),
            ConsumedFile("grown", 2, "1", "h"),
            ConsumedFile("same", 4, "1500000000000000001", "h"),
        ),
        listed=LATER,
    )

    def refuse(file: FileInfo, size: int = 0) -> str:
        raise SourceError("cannot be read: Permission denied", uri=file.uri)

    found = compare(before, Snapshot(tuple(files.values())), hasher=refuse, prefix=refuse)
    assert kinds(found) == {"modified": ["touched", "grown"], "added": ["new"]}
    assert found.unreadable == dict.fromkeys(["touched", "grown", "new"], "cannot be read: Permission denied")
    kept = found.consumed(hasher=refuse)
    assert [f.blake3 for f in kept.files] == [None, None, None, "h"]
    fresh = compare(None, Snapshot((files["new"],)), hasher=never)
    assert fresh.consumed(hasher=refuse).files == (ConsumedFile("new", 4, "1500000000000000001", None),)


def commit(version: int, *names: str) -> Snapshot:
    files = tuple(DataFile(n, 1, 10) for n in names)
    made = Commit(version, "r", datetime(2024, 1, 1, tzinfo=UTC), "append", pl.Schema({"a": pl.Int64}), files)
    return Snapshot(tuple(FileInfo(f"out/{n}", 10) for n in names), made)


def test_of_a_dataset_the_names_of_its_files_tell() -> None:
    before = Consumed.of(commit(3, "a", "b"), uri="out")
    assert before == Consumed("dataset", (ConsumedFile("out/a", 10), ConsumedFile("out/b", 10)), "out", 3)
    found = compare(before, commit(5, "b", "c"), hasher=never)
    assert kinds(found) == {"added": ["out/c"], "removed": ["out/a"]}
    assert found.unchanged == 1


def test_names_that_must_not_be_written_down() -> None:
    def hide(uri: str) -> str:
        return uri.replace("secret", "${B}")

    now = Snapshot((FileInfo("s3://secret/a", 1, "x"), FileInfo("s3://secret/b", 1, "x")))
    before = compare(None, now, hasher=lambda f: f.uri, name=hide).consumed(hasher=lambda f: f.uri)
    assert [f.uri for f in before.files] == ["s3://${B}/a", "s3://${B}/b"]
    later = Snapshot((now.files[0], FileInfo("s3://secret/b", 1, "y")))
    found = compare(before, later, hasher=lambda f: "other", name=hide)
    assert kinds(found) == {"modified": ["s3://secret/b"]}
    assert kinds(allowed(found, on_modified="ignore")) == {"ignored": ["s3://${B}/b"]}
    with pytest.raises(SourceError) as caught:
        allowed(found, on_modified="fail", source="s")
    assert caught.value.uri == "s3://${B}/b"


def test_a_dataset_whose_rows_are_others_in_the_same_files() -> None:
    found = Changes(position=({"plan": "a"}, {"plan": "b"}))
    assert not found.nothing
    assert str(found) == "position moved"
    assert str(Changes()) == "nothing"


# what is allowed to happen


@pytest.fixture
def both(folder: Folder) -> tuple[Folder, Consumed, Changes]:
    for name in ("a", "b", "c", "d"):
        folder.write(name, b"1\n22\n")
    before = folder.consumed()
    folder.write("a", b"2\n22\n")
    folder.write("b", b"1\n")
    os.remove(folder.root / "c")
    return folder, before, compare(before, folder.listed(), hasher=HASH)


def test_by_default_what_changed_is_done_again_and_what_went_goes(both: tuple[Folder, Consumed, Changes]) -> None:
    assert allowed(both[2]) is both[2]


def test_what_is_ignored_stays_consumed_as_it_was(both: tuple[Folder, Consumed, Changes]) -> None:
    folder, before, found = both
    kept = allowed(found, on_removed="ignore", on_modified="ignore")
    assert short(kept, folder) == {"ignored": ["c", "a", "b"]}
    assert kept.nothing
    assert str(kept) == "3 ignored, 1 unchanged"
    after = kept.consumed(hasher=HASH)
    assert sorted(after.files) == sorted(before.files)
    folder.write("c", b"1\n22\n")
    back = compare(after, folder.listed(), hasher=HASH)
    # that a file is shorter says something of text only
    assert short(back, folder) == {"modified": ["a", "b"], "touched": ["c"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_removed": "fail"}, "c: source 's': a file that was read is gone; restore it, or say on_removed: delete or ignore"),
        ({"on_modified": "fail"}, "a: source 's': 2 files that were read are changed; restore them, or say on_modified: reprocess or ignore"),
    ],
)  # fmt: skip
def test_what_must_not_happen_stops_the_run(both: tuple[Folder, Consumed, Changes], options: Any, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        allowed(both[2], source="s", **options)
    assert str(caught.value) == f"{both[0].root}/{message}"


def test_growth_changes_nothing_that_was_read(folder: Folder) -> None:
    folder.write("a", b"1\n")
    before = folder.consumed()
    folder.write("a", b"1\n2\n")
    found = compare(before, folder.listed(), hasher=HASH, prefix=PREFIX)
    assert allowed(found, on_modified="fail", on_removed="fail") == found


# any sequence of operations, against an oracle that compares whole contents

NAMES = st.sampled_from(["a", "b", "c", "s/d", "s/e"])
CONTENT = st.lists(st.sampled_from([b"1\n", b"22\n", b"3", b""]), max_size=3).map(b"".join)
OPERATION = st.one_of(
    st.tuples(st.just("write"), NAMES, CONTENT),
    st.tuples(st.just("keep the stamp"), NAMES, CONTENT),
    st.tuples(st.just("append"), NAMES, CONTENT),
    st.tuples(st.just("truncate"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("delete"), NAMES, st.none()),
    st.tuples(st.just("touch"), NAMES, st.none()),
    st.tuples(st.just("move"), NAMES, NAMES),
    st.tuples(st.just("copy"), NAMES, NAMES),
)


def apply(folder: Folder, operation: tuple[str, str, Any]) -> None:
    kind, name, argument = operation
    path = folder.root / name
    if kind == "write":
        folder.write(name, argument)
    if not path.is_file():
        return
    old = path.read_bytes()
    match kind:
        case "keep the stamp":
            folder.write(name, argument, stamp=folder.stamp(name))
        case "append":
            folder.write(name, old + argument)
        case "truncate":
            folder.write(name, old[:argument])
        case "delete":
            path.unlink()
        case "touch":
            folder.touch(name)
        case "move" if argument != name:
            folder.move(name, argument)
        case "copy" if argument != name:
            folder.write(argument, old)


def oracle(
    before: Mapping[str, tuple[bytes, int]], now: Mapping[str, tuple[bytes, int]], carried: Counter[bytes]
) -> dict[str, Any]:
    told: dict[str, list[str]] = {k: [] for k in ("modified", "truncated", "grown", "touched", "unchanged")}
    for name in sorted(before.keys() & now.keys()):
        (old, at), (new, then) = before[name], now[name]
        if old == new:
            told["unchanged" if at == then else "touched"].append(name)
        elif len(new) < len(old):
            told["truncated"].append(name)
        elif len(new) > len(old) and new.startswith(old) and old.endswith(b"\n"):
            told["grown"].append(name)
        else:
            told["modified"].append(name)
    gone = Counter(before[n][0] for n in before.keys() - now.keys())
    came = Counter(now[n][0] for n in now.keys() - before.keys())
    moved = gone & came
    stays = {before[n][0] for n in before.keys() & now.keys()}
    added = came - moved
    return told | {
        "moved": moved,
        "removed": gone - moved,
        "added": added,
        "redelivered": Counter({c: n for c, n in (added - carried).items() if c in stays}),
    }


def carried(found: Changes, before: Mapping[str, tuple[bytes, int]]) -> list[Grown]:
    """The files that went on under another name: to the oracle one went, and another came."""
    return [g for g in found.grown if g.file.uri not in before]


def as_told(found: Changes, before: Mapping[str, tuple[bytes, int]], now: Mapping[str, tuple[bytes, int]]) -> Any:
    """The same in the oracle's words: which of several equal files was moved where cannot be known."""
    assert all(before[m.before.uri][0] == now[m.now.uri][0] for m in found.moved)
    names = {k: [f.uri for f in getattr(found, k)] for k in ("modified", "truncated", "touched")}
    grown = [g for g in found.grown if g.file.uri in before]
    told = {n for v in names.values() for n in v} | {g.file.uri for g in grown}
    assert all(len(before[g.file.uri][0]) == g.start for g in grown)
    assert found.unchanged == len(before.keys() & now.keys()) - len(told)
    return names | {
        "grown": [g.file.uri for g in grown],
        "unchanged": sorted((before.keys() & now.keys()) - told),
        "moved": Counter(now[m.now.uri][0] for m in found.moved),
        "removed": Counter(before[f.uri][0] for f in [*found.removed, *(g.was for g in carried(found, before))]),
        "added": Counter(now[f.uri][0] for f in [*found.added, *(g.file for g in carried(found, before))]),
        "redelivered": Counter(now[r.file.uri][0] for r in found.redelivered),
    }


@pytest.mark.parametrize("how", ["stamp", "content", "racy"])
@given(first=st.lists(OPERATION, max_size=6), rounds=st.lists(st.lists(OPERATION, max_size=5), min_size=1, max_size=3))
def test_any_sequence_of_operations(how: str, first: list[Any], rounds: list[list[Any]]) -> None:
    with TemporaryDirectory() as root:
        folder = Folder(Path(root))
        for operation in first:
            apply(folder, operation)
        state, before = folder.consumed(listed=LATER if how == "stamp" else 0), folder.contents()
        for operations in rounds:
            for operation in operations:
                if how != "stamp" or operation[0] != "keep the stamp":
                    apply(folder, operation)
            detect: Any = "content" if how == "content" else "stamp"
            found = compare(state, folder.listed(), hasher=HASH, prefix=PREFIX, detect=detect)
            now = folder.contents()
            went_on = carried(found, before)
            for grown in went_on:
                assert grown.was is not None
                old, new = before[grown.was.uri][0], now[grown.file.uri][0]
                assert grown.was.uri not in now
                assert old.endswith(b"\n")
                assert new.startswith(old)
                assert grown.start == len(old) < len(new)
            contents = Counter(now[g.file.uri][0] for g in went_on)
            assert as_told(found, before, now) == oracle(before, now, contents)
            state, before = found.consumed(listed=LATER if how == "stamp" else 0, hasher=HASH), now
            assert {f.uri: f.blake3 for f in state.files} == {n: hash_file(n) for n in now}
            assert Consumed.from_dict(state.to_dict()) == state


def test_whether_a_file_has_grown_is_not_known_without_its_hash(folder: Folder) -> None:
    folder.write("a.csv", b"k\n1\n")
    before = compare(None, folder.listed(), hasher=HASH).consumed(wanted=lambda _: False)
    assert [f.blake3 for f in before.files] == [None]
    folder.write("a.csv", b"k\n1\n2\n")
    found = compare(before, folder.listed(), hasher=HASH, prefix=PREFIX)
    assert short(found, folder) == {"modified": ["a.csv"]}
    assert found.lengthened == {f"{folder.root}/a.csv"}


# many, odd and unreadable


def test_twenty_thousand_files_that_all_moved() -> None:
    """All of one size: pairing must not compare each with each."""
    compared = 0

    class Hash(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    old = tuple(ConsumedFile(f"a/{n}", 5, "1", Hash(f"{n:064x}")) for n in range(20_000))
    now = Snapshot(tuple(FileInfo(f"b/{n}", 5, "1") for n in range(20_000)))
    found = compare(Consumed("files", old), now, hasher=lambda f: Hash(f"{int(f.uri[2:]):064x}"))
    assert compared < 10 * 20_000
    assert str(found) == "20,000 moved"
    assert all(m.before.uri[2:] == m.now.uri[2:] for m in found.moved)


def test_a_file_that_vanishes_while_it_is_looked_at_counts_as_changed(folder: Folder) -> None:
    folder.write("a", b"1\n")
    folder.write("b\nü", b"1\n")
    before = folder.consumed()
    for name in ("a", "b\nü"):
        folder.touch(name)
    now = folder.listed()
    os.remove(folder.root / "a")
    found = compare(before, now, hasher=HASH)
    assert short(found, folder) == {"modified": ["a"], "touched": ["b\nü"]}
    assert found.unreadable == {f"{folder.root}/a": "cannot be read: No such file or directory"}
    assert Consumed.from_dict(before.to_dict()) == before


def test_two_sources_that_match_the_same_file_are_told_apart(folder: Folder) -> None:
    folder.write("a", b"1\n")
    one, other = folder.consumed(), Consumed("files")
    assert compare(one, folder.listed(), hasher=never).still
    assert short(compare(other, folder.listed(), hasher=never), folder) == {"added": ["a"]}


def as_kept(consumed: Consumed) -> Consumed:
    """Return what was consumed as a commit gives it back."""
    return State.from_dict(json.loads(json.dumps(State({"a": consumed}).to_dict()))).sources["a"]


STAMPS = st.sampled_from([None, "1700000000000000000", "1700000000000000001", "1900000000000000000", '"etag"', "12"])
LISTED = st.lists(
    st.tuples(st.sampled_from(["a", "b", "d/a", "d/b"]), st.sampled_from([None, 3, 4]), STAMPS), max_size=4
)


@given(
    LISTED, LISTED, st.booleans(), st.sampled_from([None, 1_800_000_000_000_000_000, 5]), st.booleans(), st.booleans()
)
def test_what_is_the_same_at_one_look_is_the_same_file_by_file(
    was: Any, now: Any, alike: bool, listed: int | None, content: bool, dataset: bool
) -> None:
    """With and without the short cut for lists that are equal to the letter, against files that all have other content."""
    before = tuple(ConsumedFile(u, s, t, "old") for u, s, t in {f[0]: f for f in was}.values())
    there = [FileInfo(*f[:3]) for f in (before if alike else {f[0]: f for f in now}.values())]
    commit = Commit(1, "r", datetime(2024, 1, 1, tzinfo=UTC), "replace", pl.Schema(), ()) if dataset else None
    plain = Consumed("dataset" if dataset else "files", before, listed=listed)
    asked: dict[str, list[str]] = {"kept": [], "columns": [], "": []}
    listings: dict[str, Sequence[FileInfo]] = {"kept": tuple(there), "columns": tuple(there), "": tuple(there)}
    if all(f.size is not None and str(f.stamp).isdecimal() for f in there):  # as files of local folders are
        of = groupby((f.uri for f in there), lambda uri: uri[:-1])
        folders = [Names(start, [uri[-1] for uri in uris]) for start, uris in of]
        listings["columns"] = FileColumns(folders, [f.size or 0 for f in there], [int(f.stamp or 0) for f in there])

    def hashing(kept: str) -> Any:
        return lambda file: asked[kept].append(file.uri) or "new"

    found = {
        kept: compare(
            as_kept(plain) if kept else plain,
            Snapshot(files, commit),
            hasher=hashing(kept),
            detect="content" if content else "stamp",
        )
        for kept, files in listings.items()
    }
    for way in ("kept", "columns"):
        assert found[way] == found[""]
        assert kinds(found[way]) == kinds(found[""])
        assert asked[way] == asked[""]


def test_files_as_they_were_are_known_without_looking_at_each(folder: Folder) -> None:
    for n in range(3):
        folder.write(f"{n}.csv", b"x")
    before = as_kept(folder.consumed(listed=LATER))
    found = compare(before, folder.listed(), hasher=never)
    assert (found.still, found.unchanged, str(found)) == (True, 3, "3 unchanged")
    assert found.consumed(listed=LATER) == before
    folder.touch("1.csv")
    assert short(compare(before, folder.listed(), hasher=HASH), folder) == {"touched": ["1.csv"]}


def test_files_of_row_groups(folder: Folder) -> None:
    """What has become of them is said by what they have in common with what they were."""
    names = ("same", "grown", "noted", "other", "part", "gone", "plain")
    for name in names:
        folder.write(name, name.encode())
    before = folder.consumed(listed=LATER)
    borders = {
        f.blake3: Borders((10, 20), ("x", "y")) for f in before.files if f.blake3 and not f.uri.endswith("plain")
    }
    before = replace(before, borders=borders)
    for name in names:
        folder.write(name, name.encode() + b"more" * (name != "same"))
        folder.touch(name)

    def groups(file: FileInfo, size: int | None, was: Borders) -> Common:
        name = file.uri.rpartition("/")[2]
        assert was.at == (10, 20)
        assert size == len(name)
        if name == "gone":
            raise SourceError("cannot be read", uri=file.uri)
        found = {"grown": (20, 2, 4), "noted": (20, 2, 2), "part": (10, 1, 3)}
        return Common(None if name == "other" else HASH(file), *found.get(name, (0, 0, 0)))

    found = compare(before, folder.listed(), hasher=HASH, groups=groups)
    modified = ["gone", "other", "part", "plain"]
    assert short(found, folder) == {"grown": ["grown"], "touched": ["noted", "same"], "modified": modified}
    assert [(g.start, g.was) for g in found.grown] == [(20, None)]
    assert {u.rpartition("/")[2]: c.until for u, c in found.common.items()} == {"grown": 20, "part": 10}
    assert [*found.unreadable.values()] == ["cannot be read"]
    assert {u.rpartition("/")[2] for u in found.apart} == {"other"}
    told = "4 modified (1 of 3 row groups unchanged), 1 grown (2 of 4 row groups unchanged), 2 touched"
    assert str(found) == told
    after = found.consumed(listed=LATER, hasher=HASH)
    assert Consumed.from_dict(after.to_dict()).borders.keys() == {
        f.blake3 for f in after.files if f.uri.endswith("same")
    }
    # a content that is looked at anyway
    again = compare(before, folder.listed(), hasher=HASH, groups=groups, detect="content")
    assert short(again, folder) == short(found, folder)
