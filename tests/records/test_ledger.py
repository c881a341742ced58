"""Appending to a ledger: nothing is lost and all is chained, whoever else writes; what cannot be written says so."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import fsspec
import pytest

from lazypipe.errors import LazypipeError, StorageError
from lazypipe.records import ledger as module
from lazypipe.records.entry import Entry
from lazypipe.records.history import STATUSES
from lazypipe.records.ledger import Ledger, Tip
from lazypipe.run.result import Status
from lazypipe.testing.faults import faulty

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def body(run: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "run",
        "run": run,
        "pipeline": "p",
        "status": "done",
        "actor": "ann",
        "segments": [],
        "inputs": {},
        **more,
    }


@pytest.fixture
def uri(somewhere: str) -> str:
    return f"{somewhere}/ledger"


def test_a_record_comes_back_as_it_was_written(uri: str) -> None:
    ledger = Ledger(uri, key="k")
    moment = datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    written = ledger.append(body("ü", seconds=0.1, nested={"z": [1, None, True], "a": float("inf")}), time=moment)
    (found,) = Ledger(uri).records()
    assert found == written
    assert (found.number, found.previous, found.time) == (1, None, NOON)
    assert (found.kind, found.run, found.pipeline, found.status, found.actor) == ("run", "ü", "p", "done", "ann")
    told = found.to_dict()
    assert (told["number"], told["previous"], told["time"]) == (1, None, "2026-01-01T14:00:00+02:00")
    assert told["signature"] == found.signature is not None
    second = ledger.append(body("r2"), time=NOON)
    assert second.previous == written.blake3
    assert str(second) == "2: 2026-01-01 12:00:00 run r2 of p by ann: done"


def test_records_are_read_once(uri: str) -> None:
    ledger = Ledger(uri)
    ledger.append(body("r1"), time=NOON)
    (first,) = ledger.records()
    ledger.append(body("r2"), time=NOON)
    assert ledger.records()[0] is first


def test_as_of_a_moment(uri: str) -> None:
    ledger = Ledger(uri)
    for hour in range(4):
        ledger.append(body(f"r{hour}"), time=NOON + timedelta(hours=hour))
    assert [e.run for e in ledger.as_of(NOON + timedelta(hours=1)).records()] == ["r0", "r1"]
    assert [e.run for e in ledger.as_of(datetime(2026, 1, 1, 14)).runs()] == ["r0", "r1", "r2"]
    assert [e.run for e in ledger.as_of("2026-01-01T15:00+01:00").runs()] == ["r0", "r1", "r2"]
    assert ledger.as_of(NOON - timedelta(seconds=1)).records() == ledger.as_of("2026-01-01").records() == ()
    assert len(ledger.records()) == 4


def test_runs_by_pipeline_status_and_time(uri: str) -> None:
    ledger = Ledger(uri)
    ledger.append(body("r1"), time=NOON)
    ledger.append(body("r2", status="error"), time=NOON + timedelta(hours=1))
    ledger.append(body("r3", pipeline="q"), time=NOON + timedelta(hours=2))
    assert [e.run for e in ledger.runs()] == ["r1", "r2", "r3"]
    assert [e.run for e in ledger.runs(pipeline="p")] == ["r1", "r2"]
    assert [e.run for e in ledger.runs(status="error")] == ["r2"]
    assert [e.run for e in ledger.runs(since=datetime(2026, 1, 1, 13))] == ["r2", "r3"]
    assert [e.run for e in ledger.runs(until=NOON)] == ["r1"]
    assert ledger.runs("nothing") == ()


def test_a_status_that_no_run_has_is_not_taken_for_no_runs(uri: str) -> None:
    ledger = Ledger(uri)
    ledger.append(body("r1", status="gate_failed"), time=NOON)
    assert [e.run for e in ledger.runs(status="gate_failed")] == ["r1"]
    with pytest.raises(LazypipeError) as caught:
        ledger.runs(status="failed")
    assert str(caught.value) == "unknown status 'failed' of a run; did you mean 'gate_failed'?"
    with pytest.raises(LazypipeError, match="^unknown status 'ok' of a run; known statuses: blocked, done, "):
        ledger.runs(status="ok")


def test_each_status_of_a_run_can_be_asked_for() -> None:
    assert {*STATUSES} == {*get_args(Status)} - {"running"} | {"started"}


def test_what_is_no_moment_is_told(uri: str) -> None:
    ledger, text = Ledger(uri), "soon"
    said = "^'soon' is not a time; write one such as 2024-01-31 or 2024-01-31T12:00$"
    for ask in (ledger.as_of, lambda t: ledger.runs(since=t), lambda t: ledger.runs(until=t)):
        with pytest.raises(LazypipeError, match=said):
            ask(text)


def test_of_many_threads_none_is_lost(uri: str) -> None:
    def work(name: int) -> None:
        ledger = Ledger(uri)
        for turn in range(5):
            # each believes that it knows the end: all but one are wrong
            ledger.append(body(f"{name}-{turn}"), time=NOON, tip=Tip() if turn == 0 else None)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger = Ledger(uri)
    assert sorted(e.run for e in ledger.records()) == sorted(f"{n}-{t}" for n in range(8) for t in range(5))
    assert ledger.verify().ok


WRITER = """
import sys
from datetime import UTC, datetime
from lazypipe.records.history import STATUSES
from lazypipe.records.ledger import Ledger, Tip
from lazypipe.run.result import Status

uri, name = sys.argv[1:]
ledger = Ledger(uri, key="k")
print("ready", flush=True)
sys.stdin.readline()
for turn in range(12):
    named = ledger.put_object("same", lambda: {"definition": "the same for all"}, Tip())
    body = {"kind": "run", "run": f"{name}-{turn}", "pipeline": name, "status": "done", "actor": "a", "segments": [], "inputs": {}}
    ledger.append(body | {"definition": {"object": named}}, time=datetime.now(UTC))
"""


def test_of_4_processes_none_is_lost_and_all_are_chained(tmp_path: Path) -> None:
    uri = str(tmp_path / "ledger")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, uri, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "abcd"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [w.communicate() and w.returncode for w in writers] == [0, 0, 0, 0]
    ledger = Ledger(uri, key="k")
    assert sorted(e.run for e in ledger.records()) == sorted(f"{name}-{turn}" for name in "abcd" for turn in range(12))
    for name in "abcd":
        assert [e.run for e in ledger.runs(pipeline=name)] == [f"{name}-{turn}" for turn in range(12)]
    assert [e.number for e in ledger.records()] == list(range(1, 49))
    found = ledger.verify()
    assert (found.ok, found.signed, found.problems) == (True, 48, ())


def test_a_number_that_nobody_can_get(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(uri)
    ledger.append(body("r1"), time=NOON)
    monkeypatch.setattr(module, "_TRIES", 3)
    monkeypatch.setattr(Ledger, "tip", lambda _: Tip())
    with pytest.raises(StorageError, match="3 times another run took the next number; run again") as caught:
        ledger.append(body("r2"), time=NOON)
    assert caught.value.uri == uri


# objects


def test_an_object_is_made_once(uri: str) -> None:
    ledger = Ledger(uri)
    made: list[int] = []

    def content() -> dict[str, Any]:
        made.append(1)
        return {"definition": {"when": NOON}}

    first = ledger.put_object("k", content, Tip())
    assert ledger.put_object("k", content, Tip()) == first
    entry = ledger.append(body("r1", definition={"object": first}), time=NOON)
    tip = ledger.tip()
    assert (tip.number, tip.blake3, tip.object) == (1, entry.blake3, first)
    fs, folder = fsspec.core.url_to_fs(uri)
    fs.rm_file(f"{folder}/objects/k.json")
    assert ledger.put_object("k", content, tip) == first, "the record before tells it; nothing is read"
    assert made == [1]
    assert ledger.put_object("other", content, tip)["key"] == "other"
    assert made == [1, 1]


def test_another_run_made_the_object_meanwhile(uri: str) -> None:
    ledger = Ledger(uri)
    theirs: list[dict[str, str]] = []

    def content() -> dict[str, Any]:
        theirs.append(Ledger(uri).put_object("k", lambda: {"of": "theirs"}, Tip()))
        return {"of": "ours"}

    assert ledger.put_object("k", content, Tip()) == theirs[0]


# what cannot be written


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a client's own exception")])
def test_whatever_a_store_raises_is_a_storage_error(error: Exception) -> None:
    with faulty() as faults:
        ledger = Ledger("faulty://ledger")
        faults.fail("create", error, forever=True)
        for write in (lambda: ledger.append(body("r"), time=NOON), lambda: ledger.put_object("k", dict, Tip())):
            with pytest.raises(StorageError, match="cannot write to the ledger: .*(No space|client's own)") as caught:
                write()
            assert caught.value.uri == "faulty://ledger"
            assert "audit.ledger" in str(caught.value)
        faults.mend()
        ledger.append(body("r"), time=NOON)
        assert ledger.verify().ok


@pytest.mark.parametrize("below", ["", "/ledger"])
def test_a_ledger_where_a_file_stands(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    ledger = Ledger(f"{tmp_path}/file{below}")
    assert (ledger.records(), ledger.head) == ((), None)
    with pytest.raises(StorageError, match="cannot write to the ledger: .*(there is a file where|Not a directory)"):
        ledger.append(body("r"), time=NOON)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    "content", [b"[]", b"1", b"null", b"{}", b"\xff\xfe", b'{"blake3": 1}', b'{"blake3": "0", "format": []}']
)
def test_something_else_in_a_record_is_named(content: bytes) -> None:
    with pytest.raises(StorageError, match="truncated or damaged|edited after it was written") as caught:
        Entry.from_json(content, "7.json")
    assert caught.value.uri == "7.json"


@pytest.mark.parametrize("definition", [None, 1, {}, {"object": None}, {"object": {"key": "k"}}])
def test_the_end_of_a_ledger_whose_last_record_names_nothing(uri: str, definition: Any) -> None:
    ledger = Ledger(uri)
    entry = ledger.append(body("r1", definition=definition), time=NOON)
    assert ledger.tip() == Tip(1, entry.blake3)


def test_a_record_is_one_line_of_json(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    ledger.append(body("r1"), time=NOON)
    text = (tmp_path / f"{1:020}.json").read_text()
    assert text.count("\n") == 1
    assert json.loads(text)["run"] == "r1"
