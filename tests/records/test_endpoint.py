"""Sending events to an endpoint that works, is away, is slow, or refuses: all arrive, in order, and nothing waits for long."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import LazypipeError
from lazypipe.records.spool import Spool


class Clock:
    """Time that passes only by waiting; it remembers how long each wait was."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def event(number: int) -> dict[str, Any]:
    return {"eventType": "START", "number": number}


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [e["number"] for e in events]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def plain(endpoint: Any) -> Any:
    """The endpoint, for events that are only numbered."""
    endpoint.official = False
    return endpoint


def transport(endpoint: Any, spool: Path, clock: Clock, **more: Any) -> lp.HttpTransport:
    # on a machine with much else to do an answer may take seconds: only those that never come are given up
    given: dict[str, Any] = {"sleep": clock.sleep, "clock": clock, "jitter": lambda: 1.0, "timeout": 5.0, **more}
    return lp.HttpTransport(given.pop("url", endpoint.url), spool=spool, **given)


def send(made: lp.HttpTransport, *sent: int) -> tuple[str, ...]:
    for number in sent:
        made.emit(event(number))
        made.flush()
    return made.problems()


def waiting(spool: Path) -> list[int]:
    return numbers([json.loads(p.read_bytes()) for p in Spool(spool, now=time.time).waiting()])


def test_events_arrive_as_the_convention_says(plain: Any, tmp_path: Path, clock: Clock) -> None:
    made = transport(plain, tmp_path / "spool", clock, headers={"X-Team": "data"}, api_key="k")
    assert send(made, 1, 2) == ()
    assert numbers(plain.taken) == [1, 2]
    first = plain.requests[0]
    assert first["path"] == "/api/v1/lineage"
    assert (first["Content-Type"], first["X-Team"]) == ("application/json", "data")
    assert first["Authorization"] == "Bearer k"
    assert clock.waits == []
    assert os.listdir(tmp_path / "spool") == []


def test_an_address_is_taken_as_it_is_where_it_has_a_path(plain: Any, tmp_path: Path, clock: Clock) -> None:
    url = plain.url.replace("//", "//me:p%40ss@") + "/other/way?key=1"
    made = transport(plain, tmp_path, clock, url=url)
    assert send(made, 1) == ()
    assert plain.requests[0]["path"] == "/other/way?key=1"
    assert plain.requests[0]["Authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss
    assert made.name == f"{plain.url}/other/way"


@pytest.mark.parametrize(
    ("url", "headers", "message"),
    [
        ("marquez:5000", {}, "this is not the address of an endpoint; write http:// or https://, and the host"),
        ("ftp://secret@host", {}, "this is not the address of an endpoint; write http:// or https://, and the host"),
        ("http://[::1", {}, "this is not the address of an endpoint; write http:// or https://, and the host"),
        ("http://host:port", {}, "this is not the address of an endpoint; write http:// or https://, and the host"),
        ("http://host", {"a b": "x"}, "'a b' is not a header name; use letters, digits and dashes"),
        (
            "http://host",
            {"X": "secret\n"},
            "the value of header 'X' has characters that are not allowed in a header; use printable ASCII only",
        ),
    ],
)
def test_what_cannot_be_an_endpoint_is_told_at_once(
    tmp_path: Path, url: str, headers: dict[str, str], message: str
) -> None:
    with pytest.raises(LazypipeError) as caught:
        lp.HttpTransport(url, spool=tmp_path, headers=headers)
    assert str(caught.value) == f"OpenLineage: {message}"


def test_busy_and_broken_endpoints_are_tried_again_after_growing_waits(
    plain: Any, tmp_path: Path, clock: Clock
) -> None:
    plain.script = ["503", "429", "408", "500", "cut"]
    assert send(transport(plain, tmp_path, clock, attempts=6, patience=60.0), 1) == ()
    assert numbers(plain.taken) == [1]
    assert len(plain.requests) == 6
    assert clock.waits == [0.25, 0.5, 1.0, 2.0, 2.0]
    plain.script = ["503", "503"]
    assert send(transport(plain, tmp_path, clock, jitter=lambda: 0.0), 2) == ()
    assert clock.waits[5:] == [0.125, 0.25]


def test_an_endpoint_that_stays_broken_is_left_for_the_next_run(plain: Any, tmp_path: Path, clock: Clock) -> None:
    plain.script = ["503"] * 6
    made = transport(plain, tmp_path, clock)
    (told,) = send(made, 1, 2)
    assert told == f"{made.url}: it answers 503; 2 OpenLineage events wait in {tmp_path} until the next run"
    assert waiting(tmp_path) == [1, 2]
    assert len(plain.requests) == 6
    # what has been told is not told again; the next run, in another process, sends what waits first
    assert made.problems() == ()
    assert send(transport(plain, tmp_path, clock), 3) == ()
    assert numbers(plain.taken) == [1, 2, 3]


def test_an_endpoint_that_is_away_gets_all_events_when_it_is_back(plain: Any, tmp_path: Path, clock: Clock) -> None:
    plain.stop()
    for number in (1, 2, 3):
        (told,) = send(transport(plain, tmp_path, clock), number)
        assert told.startswith(
            f"{plain.url}/api/v1/lineage: it cannot be reached (Connection refused); {number} OpenLineage event"
        )
    assert plain.taken == []
    plain.start()
    made = transport(plain, tmp_path, clock)
    made.flush()
    assert made.problems() == ()
    assert numbers(plain.taken) == [1, 2, 3]
    assert waiting(tmp_path) == []


def test_a_slow_endpoint_is_not_waited_for(plain: Any, tmp_path: Path, clock: Clock) -> None:
    plain.script = ["slow"] * 2
    made = transport(plain, tmp_path, clock, timeout=0.1, attempts=99, patience=0.25, jitter=lambda: 0.0)
    (told,) = send(made, 1)
    assert "it cannot be reached (timed out); 1 OpenLineage event waits" in told
    assert clock.waits == [0.125]  # the next wait would be longer than what is left of its patience
    while len(plain.requests) < 2:  # they arrive, however late: whoever sent them is gone
        time.sleep(0.001)
    assert send(transport(plain, tmp_path, clock), 2) == ()
    assert (numbers(plain.taken), len(plain.requests), plain.script) == ([1, 2], 4, [])


def test_no_time_left_means_no_request(plain: Any, tmp_path: Path, clock: Clock) -> None:
    (told,) = send(transport(plain, tmp_path, clock, patience=0.0), 1)
    assert "there is no time left to try; 1 OpenLineage event waits" in told
    assert plain.requests == []


@pytest.mark.parametrize(
    ("given", "date", "waits"),
    [
        ("3", None, [3.0]),
        ("0", None, [0.25]),
        ("-9", None, [0.25]),
        ("Wed, 01 Jan 2025 00:00:04 GMT", "Wed, 01 Jan 2025 00:00:00 GMT", [4.0]),
        ("Wed, 01 Jan 2025 00:00:04 GMT", "Wed, 01 Jan 2025 00:01:00 GMT", [0.25]),
        ("soon", None, [0.25]),
        ("3600", None, []),  # nobody waits that long: it is left for the next run
    ],
)
def test_an_endpoint_may_say_when_to_come_back(
    plain: Any, tmp_path: Path, clock: Clock, given: str, date: str | None, waits: list[float]
) -> None:
    plain.script, plain.headers = ["429"], {"Retry-After": given}
    if date:
        plain.headers["Date"] = date
        from http.server import BaseHTTPRequestHandler

        with pytest.MonkeyPatch.context() as patch:  # the server writes its own date ahead of this one
            patch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda *_: date)
            told = send(transport(plain, tmp_path, clock), 1)
    else:
        told = send(transport(plain, tmp_path, clock), 1)
    assert clock.waits == waits
    assert numbers(plain.taken) == ([1] if waits else [])
    assert bool(told) is not bool(waits)


def test_what_is_refused_is_kept_aside_and_the_next_goes_on(plain: Any, tmp_path: Path, clock: Clock) -> None:
    plain.script, plain.body = ["400", "ok", "422"], "no such thing: k3y é".encode("latin-1")
    made = transport(plain, tmp_path, clock, api_key="k3y")
    one, two = send(made, 1, 2, 3)
    assert numbers(plain.taken) == [2]
    assert len(plain.requests) == 3
    kept = tmp_path / "rejected" / "0000000001.json"
    assert (
        one
        == f"{made.url} cannot be given an OpenLineage event, which is kept in {kept}: 400 Bad Request no such thing: *** �"
    )
    assert json.loads(kept.read_text()) == event(1)
    assert kept.with_suffix(".txt").read_text() == "400 Bad Request no such thing: *** �"
    assert json.loads((tmp_path / "rejected" / "0000000002.json").read_text()) == event(3)
    assert "422" in two
    assert waiting(tmp_path) == []


def test_a_redirect_is_not_followed(plain: Any, tmp_path: Path, clock: Clock) -> None:
    plain.script, plain.headers = ["301", "308"], {"Location": f"{plain.url.replace('//', '//a:b@')}/new"}
    made = transport(plain, tmp_path, clock)
    (told,) = send(made, 1, 2)
    assert f"it answers 308: write the address that it moved to, {plain.url}/new; 2 OpenLineage events wait" in told
    assert (len(plain.requests), clock.waits) == (2, [])


def test_what_is_not_whole_in_the_spool_is_kept_aside(plain: Any, tmp_path: Path, clock: Clock) -> None:
    spool = Spool(tmp_path, now=time.time)
    whole = json.dumps(event(1)).encode()
    for message in (whole[:-7], b"", b"\xff\xfe", b"[1]", whole):
        spool.put(message)
    (tmp_path / "notes.json").write_text("{")  # a stranger's file is nobody's event
    (tmp_path / ".half.tmp").write_text("{")
    told = send(transport(plain, tmp_path, clock), 2)
    assert numbers(plain.taken) == [1, 2]
    refused = (
        f"{plain.url}/api/v1/lineage cannot be given 4 OpenLineage events, which are kept in {tmp_path / 'rejected'}"
    )
    assert told == (f"{refused}: it is not whole JSON, as after a crash of the machine",)
    assert (tmp_path / "rejected" / "0000000001.json").read_bytes() == whole[:-7]
    assert (tmp_path / "notes.json").exists()


def test_what_is_refused_for_one_reason_is_told_once(plain: Any, tmp_path: Path, clock: Clock) -> None:
    plain.script = ["400"] * 8 + ["422"] + ["400"] * 6
    made = transport(plain, tmp_path, clock)
    many, one = send(made, *range(1, 16))
    kept = tmp_path / "rejected"
    assert many == f"{made.url} cannot be given 14 OpenLineage events, which are kept in {kept}: 400 Bad Request"
    assert one.startswith(
        f"{made.url} cannot be given an OpenLineage event, which is kept in {kept / '0000000009.json'}: 422"
    )
    assert made.problems() == ()


# disks


def full(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_no_event_while_the_endpoint_is_there(
    plain: Any, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = transport(plain, tmp_path, clock)
    plain.script = ["503"] * 3
    send(made, 1)  # waits on disk, ahead of the others
    monkeypatch.setattr(os, "fdopen", full)
    plain.script = ["400", "ok", "400"]
    told = send(made, 2, 3)
    assert numbers(plain.taken) == [2]
    assert json.loads((tmp_path / "rejected" / "0000000001.json").read_bytes()) == event(1)
    assert told[1] == f"{made.url} refused an OpenLineage event, which could not be kept: 400 Bad Request"
    assert os.listdir(tmp_path) == ["rejected"]
    plain.script = ["400"]
    assert send(made, 4) == (f"{made.url} refused an OpenLineage event, which could not be kept: 400 Bad Request",)


def test_a_full_disk_and_no_endpoint_is_told(
    plain: Any, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = transport(plain, tmp_path, clock)
    plain.script = ["503"] * 9
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        (told,) = send(made, 1)
        assert told == (
            f"{made.url}: it answers 503, and its spool cannot be written (No space left on device); "
            "1 OpenLineage event waits in memory only, and is lost when the process ends"
        )
        (told,) = send(made, 2)
        assert told.endswith("2 OpenLineage events wait in memory only, and are lost when the process ends")
    # with room again, they go to disk in their order, ahead of the next one
    (told,) = send(made, 3)
    assert told.endswith(f"it answers 503; 3 OpenLineage events wait in {tmp_path} until the next run")
    assert waiting(tmp_path) == [1, 2, 3]
    assert send(made, 4) == ()
    assert numbers(plain.taken) == [1, 2, 3, 4]


def test_an_event_that_is_being_sent_from_memory_is_not_kept_twice(
    plain: Any, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = transport(plain, tmp_path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        made.emit(event(1))
    take = plain.take

    def take_and_emit(taken: dict[str, Any]) -> None:
        plain.take = take
        made.emit(event(2))  # while the first is on its way
        take(taken)

    plain.take = take_and_emit
    made.flush()
    assert made.problems() == ()
    assert numbers(plain.taken) == [1, 2]
    assert waiting(tmp_path) == []


def test_a_spool_that_cannot_be_a_folder_is_told(plain: Any, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    made = transport(plain, tmp_path / "file", clock)
    assert send(made, 1) == ()  # nothing is lost, so there is nothing to tell
    assert numbers(plain.taken) == [1]
    plain.script = ["503"] * 3
    (told,) = send(made, 2)
    assert "it answers 503, and its spool cannot be used (Not a directory); 1 OpenLineage event waits in memory" in told


def test_what_cannot_be_removed_does_not_let_others_overtake(
    plain: Any, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = transport(plain, tmp_path, clock)
    made.emit(event(1))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", full)
        patch.setattr(tempfile, "mkstemp", full)
        made.emit(event(2))
        made.flush()
    (told,) = made.problems()
    assert "its spool cannot be used (No space left on device); 1 OpenLineage event waits in" in told
    assert "1 OpenLineage event waits in memory only" in told
    os.utime(tmp_path / "lock", (0, 0))  # which could not be removed either
    assert send(made, 3) == ()
    assert numbers(plain.taken) == [1, 1, 2, 3]  # once more, which changes nothing at the other end


# several at once


def test_another_process_that_sends_is_waited_for(plain: Any, tmp_path: Path, clock: Clock) -> None:
    other = Spool(tmp_path, now=time.time)
    token = other.acquire()
    assert token is not None
    made = transport(plain, tmp_path, clock, patience=1.0)
    (told,) = send(made, 1)
    assert told.endswith(f"another process is sending; 1 OpenLineage event waits in {tmp_path} until the next run")
    assert sum(clock.waits) >= 1.0
    assert plain.requests == []
    # what it leaves behind is taken over once it is old
    os.utime(tmp_path / "lock", (time.time() - 61, time.time() - 61))
    assert not (other.renew("not mine"))
    assert send(made, 2) == ()
    assert numbers(plain.taken) == [1, 2]
    # whoever comes back late sees that the lock is another's
    assert other.renew(token) is False
    for _ in range(2):  # a second time is none
        other.release(token)


def test_who_has_lost_the_lock_stops(plain: Any, tmp_path: Path, clock: Clock) -> None:
    made = transport(plain, tmp_path, clock)
    made.emit(event(1))
    made.emit(event(2))
    take = plain.take

    def take_and_rob(taken: dict[str, Any]) -> None:
        (tmp_path / "lock").write_text("another's")
        take(taken)

    plain.take = take_and_rob
    made.flush()
    (told,) = made.problems()
    assert "another process has taken over; 1 OpenLineage event waits" in told
    assert numbers(plain.taken) == [1]
    assert (tmp_path / "lock").read_text() == "another's"


def test_a_lock_is_broken_by_one_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one finds an old lock, another breaks it and takes it: the first one puts it back."""
    slow, fast = Spool(tmp_path, now=time.time), Spool(tmp_path, now=time.time)
    left = slow.acquire()
    os.utime(tmp_path / "lock", (0, 0))
    won: list[str | None] = []
    rename = os.rename

    def late(source: Any, target: Any) -> None:
        monkeypatch.setattr(os, "rename", rename)
        won.append(fast.acquire())
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert slow.acquire() is None
    (token,) = won
    assert token is not None
    assert fast.renew(token)
    assert not slow.renew(str(left))
    fast.release(token)
    assert os.listdir(tmp_path) == []


def test_two_never_take_the_same_number(tmp_path: Path) -> None:
    spools = [Spool(tmp_path, now=time.time) for _ in range(4)]

    def put(number: int) -> None:
        for index in range(25):
            spools[number].put(json.dumps(event(number * 100 + index)).encode())

    threads = [threading.Thread(target=put, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = waiting(tmp_path)
    assert sorted(found) == [n * 100 + i for n in range(4) for i in range(25)]
    for number in range(4):  # each one's stay in order
        own = [n for n in found if n // 100 == number]
        assert own == sorted(own)


def test_two_transports_on_one_spool_send_each_event_once(plain: Any, tmp_path: Path) -> None:
    made = [lp.HttpTransport(plain.url, spool=tmp_path) for _ in range(3)]

    def work(number: int) -> None:
        for index in range(8):
            made[number].emit(event(number * 100 + index))
            made[number].flush()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [m.problems() for m in made] == [(), (), ()]
    found = numbers(plain.taken)
    assert sorted(found) == [n * 100 + i for n in range(3) for i in range(8)]
    for number in range(3):
        own = [n for n in found if n // 100 == number]
        assert own == sorted(own)


KILLED = """
import sys
import lazypipe as lp
made = lp.HttpTransport(sys.argv[1], spool=sys.argv[2], timeout=60.0, patience=60.0)
made.emit({"number": 1})
made.emit({"number": 2})
made.flush()
"""


def test_a_process_that_is_killed_between_answer_and_removal_repeats_itself(
    plain: Any, tmp_path: Path, clock: Clock
) -> None:
    plain.script = ["hang"]
    process = subprocess.Popen([sys.executable, "-c", KILLED, plain.url, str(tmp_path)])
    while not plain.taken:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert waiting(tmp_path) == [1, 2]
    # the lock that it left is old by the time of the next run
    os.utime(tmp_path / "lock", (0, 0))
    (tmp_path / ".half.tmp").write_text("{")
    (tmp_path / ".old.tmp").write_text("{")
    os.utime(tmp_path / ".old.tmp", (0, 0))
    assert send(transport(plain, tmp_path, clock), 3) == ()
    assert numbers(plain.taken) == [1, 1, 2, 3]
    assert os.listdir(tmp_path) == [".half.tmp"]


ENDED = """
import sys, threading
import lazypipe as lp

transport = lp.HttpTransport(sys.argv[1], spool=sys.argv[2], timeout=1200, patience=1200)
transport.emit({"number": 1})
threading.Thread(target=transport.flush, daemon=True).start()
sys.stdin.read()
"""


def test_a_process_that_ends_while_it_sends_leaves_no_lock(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen([sys.executable, "-c", ENDED, url, str(tmp_path)], stdin=subprocess.PIPE)
        silent.settimeout(600)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)
            assert (tmp_path / "lock").exists()
            process.communicate(timeout=600)  # it ends when it is told nothing more
    assert process.returncode == 0
    assert os.listdir(tmp_path) == ["0000000001.json"]


TAKEN = """
import os, sys, threading, time
from lazypipe.records.spool import Spool

link, made = os.link, threading.Event()

def slow(source, target):
    link(source, target)
    made.set()
    threading.Event().wait()

os.link = slow
spool = Spool(sys.argv[1], now=time.time)
threading.Thread(target=spool.acquire, daemon=True).start()
made.wait()
assert os.path.exists(spool.folder / "lock")
"""


def test_who_asks_in_vain_leaves_the_holder_to_give_the_lock_back(tmp_path: Path) -> None:
    code = f"""
        import time
        from lazypipe.records.spool import Spool
        spool = Spool({str(tmp_path / "spool")!r}, now=time.time)
        assert [spool.acquire() is None, spool.acquire() is None] == [False, True]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    assert [*(tmp_path / "spool").iterdir()] == []


def test_a_process_that_ends_as_it_takes_the_lock_leaves_none(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", TAKEN, str(tmp_path)], check=True, timeout=600)
    assert [n for n in os.listdir(tmp_path) if not n.endswith(".tmp")] == []


def test_a_spool_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert Spool(tmp_path / "none", now=time.time).waiting() == []


# any sequence of failures


@pytest.fixture(scope="module")
def shared(module_endpoint: Callable[[], Any]) -> Iterator[Any]:
    made = module_endpoint()
    made.official = False
    yield made
    made.stop()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["emit", "emit", "flush", "restart", "full", "room"]),
        st.lists(st.sampled_from(["ok", "503", "429", "cut", "lost", "400", "302"]), max_size=4),
    ),
    max_size=12,
)


@given(steps=STEPS, attempts=st.integers(1, 3))
def test_whatever_fails_every_event_arrives_in_order(
    shared: Any, steps: list[tuple[str, list[str]]], attempts: int
) -> None:
    """Of a server that fails in any way, a process that starts anew, and a disk that is full at times."""
    folder, clock = Path(tempfile.mkdtemp()), Clock()
    shared.taken.clear()
    sent, told = 0, list[str]()
    with pytest.MonkeyPatch.context() as patch:
        room = tempfile.mkstemp
        made = transport(shared, folder, clock, attempts=attempts)
        for step, script in steps:
            shared.script = list(script)
            if step == "emit":
                sent += 1
                made.emit(event(sent))
                made.flush()
            elif step == "flush":
                made.flush()
            elif step == "restart" and not made._held:  # what is in memory only does not survive, and is told
                made = transport(shared, folder, clock, attempts=attempts)
            elif step == "full":
                patch.setattr(tempfile, "mkstemp", full)
            elif step == "room":
                patch.setattr(tempfile, "mkstemp", room)
            told += made.problems()
    shared.script = []
    told += send(made, sent + 1)
    arrived = list(dict.fromkeys(numbers(shared.taken)))
    refused = [json.loads(p.read_bytes())["number"] for p in sorted((folder / "rejected").glob("*.json"))]
    unkept = sum("could not be kept" in t for t in told)
    assert arrived == sorted(arrived)
    assert refused == sorted(refused)
    lost = set(range(1, sent + 2)) - set(arrived) - set(refused)
    # refused while the disk was full: told, and the only way not to be anywhere
    assert len(lost) <= unkept
    assert unkept == 0 or "full" in [s for s, _ in steps]
    assert waiting(folder) == []
    shutil.rmtree(folder)
