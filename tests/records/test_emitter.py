"""Where events go and what comes back of it: files, warnings, and runs that nothing of this can stop."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.errors import StorageError
from lazypipe.records.emitter import Emitter
from lazypipe.testing.faults import faulty

TEXT = """
version: 1
name: small
openlineage: {url: "${URL}", file: events.ndjson, spool: spool, attempts: 1}
sources: {a: {uri: a.csv}}
outputs: {b: {from: a, to: out/b}}
"""


@pytest.fixture
def folder(tmp_path: Path, endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "p.yaml").write_text(TEXT)
    monkeypatch.setenv("URL", endpoint.url)
    return tmp_path


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [e["eventType"] for e in events]


def test_a_definition_says_where_events_go(folder: Path, endpoint: Any, events: Any) -> None:
    result = lp.load(folder / "p.yaml").compile().run()
    assert (result.status, result.warnings, result.to_dict()["warnings"]) == ("done", (), [])
    assert kinds(endpoint.taken) == ["START", "COMPLETE"]
    assert events(folder / "events.ndjson") == endpoint.taken
    assert os.listdir(folder / "spool") == []


def test_the_default_spool_is_below_the_state(folder: Path, endpoint: Any) -> None:
    text = TEXT.replace(", spool: spool", ", api_key: k, headers: {X-A: b}, timeout: 1")
    endpoint.script = ["503"] * 2
    result = lp.Pipeline.from_yaml(text, base=str(folder)).compile().run()
    assert len(result.warnings) == 1
    assert len(os.listdir(folder / ".lazypipe" / "openlineage")) == 2
    assert endpoint.requests[0]["Authorization"] == "Bearer k"
    assert endpoint.requests[0]["X-A"] == "b"


def test_an_endpoint_that_was_away_gets_the_runs_in_order(
    folder: Path, endpoint: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.stop()
    for _ in range(2):
        assert main(["run", str(folder / "p.yaml")]) == 0
    err = capsys.readouterr().err
    assert f"warning: ${{URL}}/api/v1/lineage: it cannot be reached (Connection refused); 2 OpenLineage events wait in {folder}/spool until the next run\n" in err  # fmt: skip
    assert endpoint.taken == []
    endpoint.start()
    assert main(["run", str(folder / "p.yaml")]) == 0
    assert "warning" not in capsys.readouterr().err
    assert kinds(endpoint.taken) == ["START", "COMPLETE"] * 3
    runs = [e["run"]["runId"] for e in endpoint.taken]
    assert runs == sorted(runs, key=runs.index)
    assert len(set(runs)) == 3


def hung(folder: Path, endpoint: Any, wait: float) -> tuple[Emitter, lp.HttpTransport]:
    """Return an emitter, and its transport, whose endpoint does not answer for as long as any test takes."""
    endpoint.script = ["slow"] * 10
    slow = lp.HttpTransport(endpoint.url, spool=folder / "other", timeout=600.0, patience=600.0)
    plan = lp.Pipeline.from_yaml(TEXT.replace('url: "${URL}", ', "").replace(", spool: spool, attempts: 1", ""), base=str(folder)).compile()  # fmt: skip
    return Emitter(plan, [slow], wait=wait), slow


def test_a_slow_endpoint_does_not_hold_a_run_up(folder: Path, endpoint: Any) -> None:
    emitter, slow = hung(folder, endpoint, wait=0.2)
    begun = time.monotonic()
    emitter.emit(lambda: BODY)
    told = emitter.finish()
    assert time.monotonic() - begun < 300.0
    assert told == (f"{slow.name}: sending takes too long, and the run does not wait for it",)
    assert len([p for p in (folder / "other").iterdir() if p.suffix == ".json"]) == 1


BODY: dict[str, Any] = {
    "run": "r",
    "pipeline": "small",
    "status": "running",
    "started": "2026-01-01T00:00:00+00:00",
    "code": {"lazypipe": "1", "polars": "2"},
    "params": {},
    "inputs": {},
    "segments": [],
}


def test_ctrl_c_ends_the_waiting_not_the_run(folder: Path, endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    emitter, slow = hung(folder, endpoint, wait=600.0)
    emitter.emit(lambda: BODY)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    idle = emitter._lanes[0]._idle

    def wait(timeout: float) -> bool:
        timer.start()  # not before it waits, however busy the machine is
        return threading.Event.wait(idle, timeout)

    monkeypatch.setattr(idle, "wait", wait)
    begun = time.monotonic()
    (told,) = emitter.finish()
    timer.join()
    assert time.monotonic() - begun < 300.0
    assert told == f"{slow.name}: sending takes too long, and the run does not wait for it"


class Odd:
    """A transport of somebody's own, with mistakes in it."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def emit(self, event: Any) -> None:
        raise RuntimeError("no\nway")

    def flush(self) -> None:
        self.threads.add(threading.get_ident())
        raise ZeroDivisionError

    def problems(self) -> tuple[str, ...]:
        raise KeyError("what")


def test_whatever_a_transport_raises_is_a_warning(folder: Path) -> None:
    odd = Odd()
    plan = lp.load(folder / "p.yaml").compile()
    result = plan.run(emit=[odd])
    assert result.status == "done"
    assert set(result.warnings) == {"OpenLineage: no", "OpenLineage: ZeroDivisionError", "OpenLineage: 'what'"}
    assert threading.get_ident() not in odd.threads


def test_an_event_that_cannot_be_made_is_a_warning(folder: Path, endpoint: Any) -> None:
    result = lp.load(folder / "p.yaml").compile().run(parent={"run": "no job"})
    assert (result.status, result.warnings) == ("done", ("an OpenLineage event could not be made: 'job'",))
    assert endpoint.taken == []


def test_events_that_come_while_it_sends_are_sent_too(folder: Path, endpoint: Any) -> None:
    emitter = Emitter(lp.load(folder / "p.yaml").compile())
    for _ in range(20):
        emitter.emit(lambda: BODY)
    assert emitter.finish() == ()
    assert len(endpoint.taken) == 20


def test_without_transports_nothing_is_made(folder: Path) -> None:
    plan = lp.Pipeline.from_yaml(TEXT.replace("openlineage:", "# "), base=str(folder)).compile()
    asked: list[int] = []
    emitter = Emitter(plan)
    emitter.emit(lambda: asked.append(1) or BODY)
    assert (emitter.finish(), asked) == ((), [])


NOBODY = "user 4000000"


def test_a_user_without_a_name_is_told_by_number(folder: Path, endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert lp.load(folder / "p.yaml").compile().run().warnings == ()
    assert [e["run"]["facets"]["lazypipe_run"]["actor"] for e in endpoint.taken] == [NOBODY, NOBODY]


# files


def test_a_line_that_a_crash_cut_off_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.ndjson"
    made = lp.FileTransport(str(path))
    made.emit({"a": 1})
    with path.open("a") as file:
        file.write('{"cut')
    made.emit({"a": "é\n"})
    made.flush()
    assert made.problems() == ()
    assert path.read_text(encoding="utf-8") == '{"a":1}\n{"cut\n{"a":"é\\n"}\n'


def test_two_writers_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"

    def write(number: int) -> None:
        made = lp.FileTransport(f"file://{path}")
        for index in range(50):
            made.emit({"n": number, "i": index, "long": "x" * 5_000})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((e["n"], e["i"]) for e in found) == [(n, i) for n in range(4) for i in range(50)]


def test_a_file_that_cannot_be_written_is_a_warning(folder: Path, endpoint: Any) -> None:
    (folder / "events.ndjson").mkdir()
    result = lp.load(folder / "p.yaml").compile().run()
    assert result.status == "done"
    assert result.warnings == (
        f"OpenLineage: {folder}/events.ndjson: cannot write an OpenLineage event: Is a directory; make room, or choose another file",
    )
    assert kinds(endpoint.taken) == ["START", "COMPLETE"]


def test_a_full_disk_is_told() -> None:
    with pytest.raises(StorageError) as caught:
        lp.FileTransport("/dev/full").emit({"a": 1})
    assert (
        str(caught.value)
        == "/dev/full: cannot write an OpenLineage event: No space left on device; make room, or choose another file"
    )


def test_a_line_that_fits_in_part_is_told(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(StorageError, match="No space left on device"):
            lp.FileTransport(f"{tmp_path}/e.ndjson").emit({"a": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    lp.FileTransport(f"{tmp_path}/e.ndjson").emit({"a": 2})
    assert (tmp_path / "e.ndjson").read_text().splitlines()[1:] == ['{"a":2}']


def test_an_object_store_gets_a_file_per_event(folder: Path) -> None:
    with faulty() as faults:
        text = TEXT.replace(
            'url: "${URL}", file: events.ndjson, spool: spool, attempts: 1', "file: faulty://lake/events"
        )
        plan = lp.Pipeline.from_yaml(text, base=str(folder)).compile()
        assert plan.run(run="r").warnings == ()
        fs = fsspec.filesystem("faulty")
        names = sorted(fs.find("lake/events"))
        found = [json.loads(fs.cat_file(n)) for n in names]
        assert sorted(kinds(found)) == ["COMPLETE", "START"]
        for name, event in zip(names, found, strict=True):
            assert name.endswith(f"_{event['run']['runId']}_{event['eventType']}.json")
        faults.fail("open", OSError(errno.ENOSPC, "full"), nth=1)
        (told,) = plan.run(run="s").warnings
        assert told == "faulty://lake/events: cannot write an OpenLineage event: [Errno 28] full"
        assert len(fs.find("lake/events")) == 3


@pytest.mark.parametrize("emit", [5, ["events.ndjson"], "events.ndjson", lp.FileTransport("events.ndjson")])
def test_what_is_no_list_of_transports_is_refused(folder: Path, emit: Any) -> None:
    plan = lp.load(folder / "p.yaml").compile()
    with pytest.raises(lp.LazypipeError) as caught:
        plan.run(emit=emit)
    told = f"emit is {emit!r}, which is not a list of transports"
    assert str(caught.value) == f"{told}; write [lp.FileTransport(…)], or objects with the same methods"
    assert plan.status()[0]["version"] is None
