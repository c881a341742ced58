"""A ledger that was touched says so: edited, removed, reordered, inserted, replaced records are named, whoever did it however well."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import LazypipeError, StorageError
from lazypipe.records.entry import sealed
from lazypipe.records.ledger import Ledger, Tip
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.numbered import seal
from lazypipe.testing.faults import faulty

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def body(run: str, **more: Any) -> dict[str, Any]:
    segment = {"name": "a", "status": "done", "output": "a", "uri": "/d/a", "version": 1, "mode": "replace", "rows": 1,
               "data": [], "quarantine": [], "sources": [], "gates": [], "corrupt": [], "error": None}  # fmt: skip
    told = {
        "kind": "run",
        "run": run,
        "pipeline": "p",
        "status": "done",
        "actor": "ann",
        "inputs": {},
        "segments": [segment],
    }
    return told | more


def filled(uri: str, count: int = 6, key: str | None = None) -> Ledger:
    ledger = Ledger(uri, key=key)
    for number in range(1, count + 1):
        ledger.append(body(f"r{number}"), time=NOON + timedelta(hours=number))
    return ledger


@pytest.fixture
def uri(somewhere: str) -> str:
    return f"{somewhere}/ledger"


def path(uri: str, number: int) -> tuple[fsspec.AbstractFileSystem, str]:
    fs, folder = fsspec.core.url_to_fs(uri)
    return fs, f"{folder}/{number:020}.json"


def load(uri: str, number: int) -> Any:
    fs, file = path(uri, number)
    return json.loads(fs.cat_file(file))


def store(uri: str, number: int, data: bytes) -> None:
    fs, file = path(uri, number)
    fs.pipe_file(file, data)


def move(uri: str, start: int, end: int) -> None:
    fs, file = path(uri, start)
    fs.mv(file, path(uri, end)[1])


def forged(number: int, previous: str | None, run: str = "forged", **more: Any) -> bytes:
    return sealed(number, previous, NOON + timedelta(hours=number), body(run, **more))[1]


def edited(uri: str) -> None:
    found = load(uri, 3)
    found["actor"] = "bob"
    store(uri, 3, json.dumps(found).encode())


def edited_and_sealed(uri: str) -> None:
    found = load(uri, 3)
    store(uri, 3, forged(3, found["previous"], "r3", actor="bob"))


def removed(uri: str) -> None:
    fs, file = path(uri, 3)
    fs.rm_file(file)


def removed_and_renumbered(uri: str) -> None:
    removed(uri)
    for number in (4, 5, 6):
        move(uri, number, number - 1)


def several_removed(uri: str) -> None:
    for number in (2, 3, 4):
        fs, file = path(uri, number)
        fs.rm_file(file)


def swapped(uri: str) -> None:
    three, four = load(uri, 3), load(uri, 4)
    store(uri, 3, json.dumps(four).encode())
    store(uri, 4, json.dumps(three).encode())


def inserted(uri: str) -> None:
    for number in (6, 5, 4, 3):
        move(uri, number, number + 1)
    store(uri, 3, forged(3, load(uri, 2)["blake3"]))


def first_removed(uri: str) -> None:
    fs, file = path(uri, 1)
    fs.rm_file(file)


def beginning_cut_off(uri: str) -> None:
    """The first record goes, and the second takes its place under its number, sealed anew."""
    found = load(uri, 2)
    store(uri, 1, forged(1, found["previous"], "r2"))


def truncated(uri: str) -> None:
    fs, file = path(uri, 3)
    fs.pipe_file(file, fs.cat_file(file)[:-20])


def emptied(uri: str) -> None:
    store(uri, 3, b"")


def newer(uri: str) -> None:
    store(uri, 3, json.dumps(load(uri, 3) | {"format": 2, "colour": "blue"}).encode())


def unnumbered(uri: str) -> None:
    store(uri, 3, b'{"blake3": "00", "format": "one"}')


TOUCHED: dict[str, tuple[Callable[[str], None], dict[int, str]]] = {
    "edited": (edited, {3: "the record was edited after it was written; restore it from a backup"}),
    "edited and sealed anew": (
        edited_and_sealed,
        {3: "is not the one that the next record is chained to: it was replaced, or inserted"},
    ),
    "removed": (removed, {3: "is missing: it was removed"}),
    "removed, and those behind renumbered": (
        removed_and_renumbered,
        {n: f"holds record {n + 1}: it was renamed or copied" for n in (3, 4, 5)},
    ),
    "several removed": (several_removed, {2: "is missing, and so are those up to 4: they were removed"}),
    "swapped": (
        swapped,
        {3: "holds record 4: it was renamed or copied", 4: "holds record 3: it was renamed or copied"},
    ),
    "inserted": (
        inserted,
        {
            3: "is not the one that the next record is chained to: it was replaced, or inserted",
            **{n: f"holds record {n - 1}: it was renamed or copied" for n in (4, 5, 6, 7)},
        },
    ),
    "first removed": (first_removed, {1: "is missing: it was removed"}),
    "beginning cut off": (
        beginning_cut_off,
        {1: "is chained to a record before it: there were others, and they were removed"},
    ),
    "truncated": (truncated, {3: "the record is truncated or damaged; restore it from a backup"}),
    "emptied": (emptied, {3: "the record is truncated or damaged; restore it from a backup"}),
    "of a newer version": (newer, {3: "the record has format 2, this lazypipe reads up to 1; upgrade lazypipe"}),
    "something else": (unnumbered, {3: "the record is truncated or damaged; restore it from a backup"}),
}  # fmt: skip


@pytest.mark.parametrize("how", TOUCHED)
def test_a_touched_record_is_named(uri: str, how: str) -> None:
    assert filled(uri).verify().ok
    touch, expected = TOUCHED[how]
    touch(uri)
    found = Ledger(uri).verify()
    assert not found.ok
    assert {p.record: p.what for p in found.problems} == expected
    for problem in found.problems:
        assert problem.file == f"{uri}/{problem.record:020}.json"
    with pytest.raises(StorageError) as caught:
        found.raise_for_status()
    assert str(found.problems[0]) in str(caught.value)
    assert "find out who did it" in str(caught.value)


def test_an_untouched_ledger(uri: str) -> None:
    ledger = filled(uri)
    found = ledger.verify()
    assert (found.ok, found.records, found.problems, found.warnings, found.signed) == (True, 6, (), (), 0)
    found.raise_for_status()
    assert str(found) == f"{uri}: 6 records, all intact"
    assert found.to_dict()["head"] == {"number": 6, "blake3": load(uri, 6)["blake3"]}
    assert found.head == ledger.head
    assert str(ledger.head) == f"6:{load(uri, 6)['blake3']}"


def test_a_wholly_rewritten_form_is_no_edit(uri: str) -> None:
    """Other white space or another order of keys changes nothing that a record says."""
    filled(uri)
    store(uri, 3, json.dumps(dict(reversed(load(uri, 3).items())), indent=4).encode())
    assert Ledger(uri).verify().ok


def test_a_name_that_stands_twice_is_an_edit(uri: str) -> None:
    """Some readers take the first of two, and some the last."""
    filled(uri)
    for twice in ('{"actor": "bob", ', '{"format": 1, "segments": [], '):
        store(uri, 3, json.dumps(load(uri, 3)).replace("{", twice, 1).encode())
        (problem,) = Ledger(uri).verify().problems
        assert (problem.record, problem.what) == (
            3, "the record was edited after it was written; restore it from a backup"
        )  # fmt: skip


@pytest.mark.parametrize(
    "more", [{"segments": 3}, {"segments": [{"output": "a"}]}, {"definition": "none"}, {"run": None, "segments": None}]
)
def test_what_is_sealed_and_no_record_is_named(uri: str, more: dict[str, Any]) -> None:
    filled(uri, 2)
    end = load(uri, 2)["blake3"]
    store(uri, 3, sealed(3, end, NOON + timedelta(hours=3), body("r3") | more)[1])
    (problem,) = [p for p in Ledger(uri).verify(data=True).problems if p.record is not None]
    assert problem.record == 3
    assert problem.what == "is not a record that lazypipe wrote: it is sealed, and lacks what records say"


@pytest.mark.parametrize("more", [{"number": "three"}, {"time": "yesterday"}])
def test_what_is_sealed_and_has_no_place_is_named(uri: str, more: dict[str, Any]) -> None:
    filled(uri, 2)
    whole = {k: v for k, v in load(uri, 2).items() if k != "blake3"} | more
    store(uri, 3, json.dumps({**whole, "blake3": seal(whole)}).encode())
    (problem,) = Ledger(uri).verify().problems
    assert (problem.record, problem.what) == (3, "this is not a record that lazypipe wrote; restore it from a backup")


def test_what_was_removed_at_the_end_shows_against_a_head_that_was_kept(uri: str) -> None:
    ledger = filled(uri)
    head = ledger.head
    assert head is not None
    ledger.append(body("r7"), time=NOON + timedelta(hours=7))
    assert ledger.verify(head).ok
    for number in (6, 7):
        fs, file = path(uri, number)
        fs.rm_file(file)
    assert Ledger(uri).verify().ok, "without the head, nothing shows"
    (problem,) = Ledger(uri).verify(head).problems
    assert (problem.record, problem.what) == (
        6, "is missing: the ledger had it when its head was noted, and now the last is 5",
    )  # fmt: skip
    store(uri, 6, forged(6, load(uri, 5)["blake3"]))
    assert Ledger(uri).verify().ok
    (problem,) = Ledger(uri).verify((head.number, head.blake3)).problems
    assert (problem.record, problem.what) == (6, "is not the one that was there when the head was noted")
    (problem,) = Ledger(f"{uri}-empty").verify(head).problems
    assert problem.what == "is missing: the ledger had it when its head was noted, and now there is none"


def test_a_head_is_also_the_text_that_was_noted(uri: str) -> None:
    ledger = filled(uri)
    assert ledger.verify(str(ledger.head)).ok
    assert ledger.verify(f" {ledger.head}\n").ok
    (problem,) = ledger.verify(f"7:{'0' * 64}").problems
    assert problem.what == "is missing: the ledger had it when its head was noted, and now the last is 6"
    wrong: list[Any] = ["7", "7:", ":af13", "x:af13", (7,), (7, None), ("-1", "af13"), 7]
    for noted in wrong:
        with pytest.raises(LazypipeError) as caught:
            ledger.verify(noted)
        assert str(caught.value) == f"{noted!r} is not the head of a ledger; write its number and hash: 12:af13…"


def test_a_clock_that_goes_backwards_is_a_note_and_the_order_is_that_of_numbers(uri: str) -> None:
    ledger = filled(uri, 2)
    ledger.append(body("r3"), time=NOON)
    assert [e.run for e in ledger.records()] == ["r1", "r2", "r3"]
    found = ledger.verify()
    assert found.ok
    (note,) = found.warnings
    assert (note.record, note.what) == (
        3,
        "its time is 2:00:00 before that of record 2: the clock went backwards, or two runs ended at the same time",
    )
    assert str(found).endswith(f"note: record 3 ({uri}/{3:020}.json): {note.what}")


def test_a_run_that_was_never_heard_of_again_is_a_note(uri: str) -> None:
    ledger = Ledger(uri)
    ledger.append(body("r1", kind="start", status="started", segments=[]), time=NOON)
    ledger.append(body("r2", kind="start", status="started", segments=[]), time=NOON)
    ledger.append(body("r2"), time=NOON)
    found = ledger.verify()
    assert found.ok
    assert [(w.record, w.what) for w in found.warnings] == [
        (1, "run 'r1' began and has no final record: it is still running, or was killed")
    ]
    assert [e.run for e in ledger.runs(status="started")] == ["r1"]


# signatures


def test_records_are_signed_with_a_key(uri: str) -> None:
    ledger = filled(uri, 3, key="a secret")
    found = ledger.verify()
    assert (found.ok, found.signed, found.checked_signatures) == (True, 3, True)
    assert (Ledger(uri).verify().ok, Ledger(uri).verify().checked_signatures) == (True, False)
    assert "a secret" not in str(load(uri, 1))


def test_another_key_does_not_fit(uri: str) -> None:
    filled(uri, 2, key="a secret")
    (problem,) = Ledger(uri, key="another").verify().problems
    what = "none of its 2 signatures was made with this key; give the key that signed them"
    assert (problem.record, problem.file, problem.what) == (None, uri, what)
    Ledger(uri, key="another").append(body("r3"), time=NOON + timedelta(hours=3))
    for key, numbers in (("a secret", [3]), ("another", [1, 2])):
        found = Ledger(uri, key=key).verify().problems
        assert [p.record for p in found] == numbers
        assert {p.what for p in found} == {"its signature was not made with this key"}


def test_a_key_may_be_changed(uri: str) -> None:
    filled(uri, 2, key="oldest")
    for number, key in ((3, "older"), (4, "now"), (5, "now")):
        Ledger(uri, key=key).append(body(f"r{number}"), time=NOON + timedelta(hours=number))
    ledger = Ledger(uri, key="now")
    found = ledger.verify(former_keys=["oldest", "older"])
    assert (found.ok, found.signed, found.checked_signatures) == (True, 5, True)
    assert [str(p) for p in ledger.verify(former_keys="older").problems] == [
        f"record {n} ({path_of(uri, n)}): its signature was not made with any of these keys" for n in (1, 2)
    ]
    (problem,) = Ledger(uri, key="x").verify(former_keys="y").problems
    assert problem.what == "none of its 5 signatures was made with these keys; give the keys that signed them"
    # who holds a key of before cannot go on with it
    Ledger(uri, key="oldest").append(body("r6"), time=NOON + timedelta(hours=6))
    (problem,) = ledger.verify(former_keys=["oldest", "older"]).problems
    assert (problem.record, problem.what) == (6, "was signed with a former key, and records before it with a later one")
    with pytest.raises(LazypipeError) as caught:
        Ledger(uri).verify(former_keys=["oldest"])
    assert str(caught.value) == "former keys were given, and no key that signs now; give that too: lp.ledger(…, key=…)"


def path_of(uri: str, number: int) -> str:
    return f"{uri}/{number:020}.json"


def test_a_folder_in_the_place_of_a_file_is_told_with_all_else(tmp_path: Path) -> None:
    ledger = filled(str(tmp_path), 5)
    named = ledger.put_object("k", lambda: {"definition": {"name": "p"}}, Tip())
    ledger.append(body("r6", definition={"object": named}), time=NOON + timedelta(hours=6))
    for number in (2, 4):
        Path(path_of(str(tmp_path), number)).unlink()
    (tmp_path / "objects/k.json").unlink()
    for name in (path_of(str(tmp_path), 2), str(tmp_path / "objects/k.json")):
        Path(name).mkdir()
    what = "the definition and lineage that it names, objects/k.json, was edited, or replaced; restore it from a backup"
    assert [(p.record, p.what) for p in ledger.verify().problems] == [
        (2, "the ledger cannot be read: Is a directory; restore it from a backup"),
        (4, "is missing: it was removed"),
        (6, what),
    ]


def test_who_has_no_key_cannot_rewrite_the_end(uri: str) -> None:
    filled(uri, 3, key="a secret")
    store(uri, 3, forged(3, load(uri, 2)["blake3"]))
    assert Ledger(uri).verify().ok, "without the key, nothing shows"
    (problem,) = Ledger(uri, key="a secret").verify().problems
    assert (problem.record, problem.what) == (3, "is not signed, and records before it are")


def test_who_has_no_key_cannot_rewrite_all(uri: str) -> None:
    filled(uri, 3)
    (problem,) = Ledger(uri, key="a secret").verify().problems
    assert (problem.record, problem.what) == (3, "is not signed, and neither is any other record")


def test_signing_may_begin_later(uri: str) -> None:
    filled(uri, 3)
    ledger = Ledger(uri, key="a secret")
    ledger.append(body("r4"), time=NOON + timedelta(hours=4))
    found = ledger.verify()
    assert found.ok
    assert [(w.record, w.what) for w in found.warnings] == [(3, "signing began after it: 3 records are unsigned")]


# what records name


@pytest.mark.parametrize("how", ["edited", "removed"])
def test_what_a_record_names_is_checked_too(uri: str, how: str) -> None:
    ledger = Ledger(uri)
    named = ledger.put_object("k", lambda: {"definition": {"name": "p"}}, Tip())
    for number in (1, 2):
        ledger.append(body(f"r{number}", definition={"object": named}), time=NOON)
    ledger.append(body("r3"), time=NOON)
    entry = ledger.read(1)
    assert ledger.object(entry) == {"definition": {"name": "p"}}
    assert ledger.verify().ok
    fs, folder = fsspec.core.url_to_fs(uri)
    file = f"{folder}/objects/k.json"
    fs.rm_file(file) if how == "removed" else fs.pipe_file(file, b'{"definition": {"name": "q"}}')
    state = "is missing" if how == "removed" else "was edited, or replaced"
    what = f"the definition and lineage that it names, objects/k.json, {state}; restore it from a backup"
    assert {p.record: p.what for p in ledger.verify().problems} == {1: what, 2: what}
    wanted = "what record 1 names is missing" if how == "removed" else "it is not what record 1 was written for"
    with pytest.raises(StorageError, match=wanted) as caught:
        ledger.object(entry)
    assert caught.value.uri == f"{uri}/objects/k.json"


# commits that the ledger does not know


def test_commits_are_held_against_the_ledger(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    pipe = lp.pipeline("p", base=str(tmp_path)).source("a", "a.parquet").output("a", "out/a").build()
    pipe.compile().run(run="r1").raise_for_status()
    target = str(tmp_path / "out/a")
    ledger = lp.ledger(pipe)
    assert ledger.verify(datasets=[target]).ok
    assert ledger.verify(datasets=target).ok
    Dataset(target).commit([], pl.Schema({"x": pl.Int64}), run="by-hand", time=NOON)
    (problem,) = ledger.verify(datasets=[target]).problems
    assert (problem.record, problem.file) == (None, f"{target}.commits/{2:020}.json")
    assert problem.what == "version 2 was committed by run 'by-hand', which the ledger does not know"
    assert str(problem) == f"{problem.file}: {problem.what}"
    # another commit takes the place of the one that the run made
    shutil.rmtree(f"{target}.commits")
    Dataset(target).commit([DataFile("x.parquet", 1, 1)], pl.Schema({"x": pl.Int64}), run="r1", time=NOON)
    (problem,) = ledger.verify(datasets=[target]).problems
    assert problem.what == "version 1 does not hold the files that record 1 says"
    Path(f"{target}.commits/{1:020}.json").write_bytes(b"{")
    (problem,) = ledger.verify(datasets=[target]).problems
    assert problem.what.startswith("the commit file is truncated or damaged")


def test_several_problems_are_counted(uri: str) -> None:
    filled(uri)
    edited(uri)
    first_removed(uri)
    with pytest.raises(StorageError, match=r"record 1 \(.*\): is missing: it was removed \(and 1 more\)"):
        Ledger(uri).verify().raise_for_status()
    assert str(Ledger(uri).verify()).splitlines()[0].endswith("5 records, 2 problems")
    assert Ledger(uri).verify().to_dict()["problems"][0]["record"] == 1


def test_a_record_that_goes_while_the_ledger_is_read() -> None:
    with faulty() as faults:
        ledger = filled("faulty://ledger", 3)
        faults.fail("read", FileNotFoundError("gone"), nth=2)
        (problem,) = ledger.verify().problems
        assert (problem.record, problem.what) == (2, "went while the ledger was read")


# reading what is damaged


def test_questions_name_a_damaged_record(uri: str) -> None:
    filled(uri)
    truncated(uri)
    ledger = Ledger(uri)
    with pytest.raises(StorageError, match="the record is truncated or damaged; restore it from a backup") as caught:
        ledger.runs()
    assert caught.value.uri == f"{uri}/{3:020}.json"
    with pytest.raises(StorageError, match="there is no record 9; ask verify"):
        ledger.read(9)
    swapped_in = json.dumps(load(uri, 4)).encode()
    store(uri, 3, swapped_in)
    with pytest.raises(StorageError, match="the file holds record 4: it was renamed or copied"):
        ledger.read(3)


@pytest.mark.parametrize("damage", [truncated, emptied, newer, edited])
def test_a_damaged_end_does_not_stop_the_ledger(uri: str, damage: Callable[[str], None]) -> None:
    """Runs go on being recorded; what is damaged stays what is named."""
    ledger = filled(uri, 3)
    damage(uri)
    entry = ledger.append(body("r4"), time=NOON + timedelta(hours=4))
    assert entry.number == 4
    ledger.append(body("r5"), time=NOON + timedelta(hours=5))
    assert [p.record for p in Ledger(uri).verify().problems] == [3]


def test_files_that_are_not_ours_are_passed_over(tmp_path: Path) -> None:
    ledger = filled(str(tmp_path), 2)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "zzzzzzzzzzzzzzzzzzzz.json").write_text("x")  # as long as a record's name, and behind it
    assert ledger.head is not None
    assert ledger.head.number == 2
    ledger.append(body("r3"), time=NOON)
    assert len(ledger.records()) == 3
    os.remove(tmp_path / "zzzzzzzzzzzzzzzzzzzz.json")
    assert ledger.verify().records == 3
