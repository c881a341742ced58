"""How often a run asks a store, for the log of an output or for a source: over a network, each time is a round trip."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import lazypipe as lp


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """Count listings and reads of folders with commits, by the dataset."""
    found = Counter[tuple[str, str]]()

    def counted(name: str) -> None:
        real = getattr(MemoryFileSystem, name)

        def call(self: MemoryFileSystem, path: str, *args: Any, **more: Any) -> Any:
            dataset, commits, _ = path.partition(".commits")
            found.update([(name, dataset.rpartition("/")[2])] if commits else [])
            return real(self, path, *args, **more)

        monkeypatch.setattr(MemoryFileSystem, name, call)

    counted("ls")
    counted("cat_file")
    return found


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
def test_a_run_reads_the_log_of_an_output_once(tmp_path: Path, asked: Counter[tuple[str, str]], mode: str) -> None:
    to = f"memory://{uuid.uuid4().hex}/out"
    key = {"key": "id"} if mode == "upsert" else {}

    def run() -> str:
        asked.clear()
        made = lp.pipeline("p", base=str(tmp_path), audit="off").source("a", "in/*.parquet")
        made = made.stage("b", "a", gate=[{"between": {"column": "x", "max": 8, "action": "quarantine"}}])
        result = made.output("b", to, mode=mode, **key).build().compile().run()
        result.raise_for_status()
        return result.status

    def deliver(number: int) -> None:
        (tmp_path / "in").mkdir(exist_ok=True)
        ids = range(number * 10, number * 10 + 10)
        pl.DataFrame({"id": ids, "x": range(10)}).write_parquet(tmp_path / "in" / f"{number}.parquet")

    deliver(0)
    assert run() == "done"
    # what is there; whether it still is, before it is judged and before anything is published; and with the commit
    assert asked == {("ls", "out"): 4, ("ls", "out__quarantine"): 2}
    deliver(1)
    assert run() == "done"
    reads = {("cat_file", "out"): 1, ("cat_file", "out__quarantine"): 1}
    assert asked == {("ls", "out"): 4, ("ls", "out__quarantine"): 2, **reads}
    assert run() == "unchanged"
    assert asked == {("ls", "out"): 1, ("cat_file", "out"): 1}
    aside = lp.scan(f"{to}__quarantine").select("id").collect()["id"].sort().to_list()
    assert (lp.scan(to).select(pl.len()).collect().item(), aside) == (18, [9, 19])


@contextmanager
def served(content: bytes, requests: Counter[str]) -> Iterator[str]:
    """Serve one file that was written long ago, in ranges, and count what is asked for it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that the server calls
            requests[self.command] += 1
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or len(content)) + 1, len(content))
            self.send_response(206 if "Range" in self.headers else 200)
            if "Range" in self.headers:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
            self.send_header("Content-Length", str(end - begin))
            self.send_header("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[begin:end])

        do_HEAD = do_GET  # noqa: N815  # the name that the server calls

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a.csv"
        server.shutdown()


@pytest.mark.parametrize("audit", ["off", None])
def test_a_run_asks_once_for_a_file_of_the_web_and_compiling_once(tmp_path: Path, audit: str | None) -> None:
    asked = Counter[str]()
    with served(b"x,y\n1,2\n3,4\n", asked) as uri:
        made = lp.pipeline("p", base=str(tmp_path), **({} if audit is None else {"audit": audit})).source("a", uri)
        pipe = made.stage("b", "a", do=[{"filter": "x > 1"}]).output("b", "out").build()
        plan = pipe.compile()
        assert asked["HEAD"] == 1 + 1  # ours, and that of Polars, which takes the types from it
        asked.clear()
        assert plan.run().status == "done"
        assert asked == {"HEAD": 1, "GET": 1}
        asked.clear()
        plan = pipe.compile()
        assert asked == {"HEAD": 1}
        asked.clear()
        assert plan.run().status == "unchanged"
        assert asked == {"HEAD": 1}
    assert lp.scan(str(tmp_path / "out")).collect().rows() == [(3, 4)]
