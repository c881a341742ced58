"""A pipeline whose files, log, state and ledger all stand on S3: a real server on loopback, which holds to conditional writes."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.storage import uri as uris
from lazypipe.storage.numbered import NumberedFiles


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def options(server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """As an environment has them, for state and ledger; the same are given to sources and outputs."""
    found = {
        "aws_access_key_id": "k",
        "aws_secret_access_key": "s",
        "aws_endpoint_url": server,
        "aws_region": "eu-central-1",
    }
    for name, value in found.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    for name in ("NO_PROXY", "no_proxy"):  # a machine may reach its packages through one
        monkeypatch.setenv(name, "127.0.0.1")
    return found


@pytest.fixture
def bucket(options: dict[str, Any], request: pytest.FixtureRequest) -> str:
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")[:60]
    uris.file_system(f"s3://{name}", options)[0].mkdir(name)
    return f"s3://{name}"


def deliver(bucket: str, options: dict[str, Any], name: str, rows: str) -> None:
    fs, path = uris.file_system(f"{bucket}/in/{name}", options)
    fs.pipe_file(path, f"id,day,v\n{rows}".encode())


def pipeline(bucket: str, options: dict[str, Any], tmp_path: Path) -> lp.CompiledPipeline:
    rule = {"between": {"column": "v", "min": 0, "action": "quarantine"}}
    return (
        lp.pipeline("p", base=str(tmp_path), state=f"{bucket}/state")
        .source("orders", f"{bucket}/in/*.csv", storage_options=options)
        .stage("good", "orders", gate=[rule])
        .stage("days", "good", do=[{"aggregate": {"by": "day", "aggregate": {"v": "sum(v)"}}}])
        .output("good", f"{bucket}/good", storage_options=options, partition_by="day")
        .output("days", f"{bucket}/days", storage_options=options)
        .build()
        .compile()
    )


def days(bucket: str, options: dict[str, Any], **when: Any) -> list[tuple[Any, ...]]:
    return lp.scan(f"{bucket}/days", storage_options=options, **when).sort("day").collect().rows()


def test_kept_up_to_date(bucket: str, options: dict[str, Any], tmp_path: Path) -> None:
    deliver(bucket, options, "a.csv", "1,mon,5\n2,tue,-1\n3,tue,2\n")
    assert pipeline(bucket, options, tmp_path).run().status == "done"
    assert days(bucket, options) == [("mon", 5), ("tue", 2)]
    assert pipeline(bucket, options, tmp_path).run().status == "unchanged"
    deliver(bucket, options, "b.csv", "4,mon,7\n")
    assert pipeline(bucket, options, tmp_path).run().status == "done"
    assert days(bucket, options) == [("mon", 12), ("tue", 2)]
    assert days(bucket, options, version=1) == [("mon", 5), ("tue", 2)]
    assert lp.scan(f"{bucket}/good__quarantine", storage_options=options).collect()["id"].to_list() == [2]
    ledger = lp.ledger(f"{bucket}/state/ledger")
    assert [r.status for r in ledger.records()] == ["done", "unchanged", "done"]
    assert ledger.verify().problems == ()
    assert len(lp.vacuum(f"{bucket}/days", older_than=timedelta())) > 0
    files = uris.file_system(f"{bucket}/days", options)[0].find(f"{bucket}/days".removeprefix("s3://"))
    rows = pl.scan_parquet([f"s3://{f}" for f in files if f.endswith(".parquet")], storage_options=options)
    assert rows.select("day", "v").sort("day").collect().rows() == days(bucket, options)


def test_commands_about_a_uri_take_credentials(
    bucket: str,
    options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(2):
        deliver(bucket, options, f"{number}.csv", f"{number},mon,1\n")
        pipeline(bucket, options, tmp_path).run()
    for name in options:
        monkeypatch.delenv(name.upper())
    given = [word for name, value in options.items() for word in ("--storage-option", f"{name}={value}")]

    def told(*words: str) -> Any:
        assert main([*words, "--json", *given]) == 0
        return json.loads(capsys.readouterr().out)

    good = f"{bucket}/good"
    assert told("diff", f"{good}@1", good, "--key", "id")["inserted"] == 1
    assert told("compact", good)["files"] == [2, 1]
    assert told("optimize", good, "--dry-run")["tasks"]
    assert told("vacuum", good, "--older-than", "0s")["deleted"]
    assert lp.scan(good, storage_options=options).collect().height == 2
    versions = lp.history(good, storage_options=options)["version"].to_list()
    assert versions == [3]
    assert lp.rollback(good, version=3, storage_options=options) == 4
    with pytest.raises(
        lp.LazypipeError, match="^storage_options are those of a dataset that is given by its URI; outputs of a pipe"
    ):
        lp.vacuum(lp.pipeline("p").build(), storage_options=options)


def test_one_of_many_creates_a_number(bucket: str, options: dict[str, Any]) -> None:
    together = threading.Barrier(8)

    def create(number: int) -> int | None:
        files = NumberedFiles(f"{bucket}/log", {**options, "skip_instance_cache": True}, what="the log")
        together.wait()
        try:
            files.create(1, f"{number}".encode())
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [n for n in pool.map(create, range(8)) if n is not None]
    assert [f"{n}".encode() for n in won] == [NumberedFiles(f"{bucket}/log", options, what="the log").read(1)]


def test_two_runs_at_once_lose_nothing(bucket: str, options: dict[str, Any], tmp_path: Path) -> None:
    for number in range(4):
        deliver(bucket, options, f"{number}.csv", f"{number},mon,1\n")
    plans = [pipeline(bucket, options, tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = [*pool.map(lambda plan: plan.run(), plans)]
    assert "done" in {r.status for r in found}
    assert all(r.status in ("done", "unchanged") or r.overtaken for r in found)
    assert pipeline(bucket, options, tmp_path).run().status in ("done", "unchanged")
    assert days(bucket, options) == [("mon", 4)]


@contextmanager
def losing_answers(server: str, to: str) -> Iterator[tuple[str, list[str]]]:
    """A proxy that hands each request on, and cuts the connection instead of the answer to the first PUT with that in its path."""
    lost: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def hand_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            there = http.client.HTTPConnection(urlsplit(server).netloc)
            there.request(self.command, self.path, body, dict(self.headers))
            answer = there.getresponse()
            content = answer.read()
            there.close()
            if self.command == "PUT" and to in self.path and not lost:
                lost.append(self.path)
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = hand_on  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}", lost
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def test_a_record_whose_answer_is_lost_is_one_record(
    server: str, bucket: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(bucket, options, "a.csv", "1,mon,5\n")
    with losing_answers(server, "/state/ledger/0") as (proxy, lost):
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        S3FileSystem.clear_instance_cache()  # one that stands there already would go on by the other way
        assert pipeline(bucket, {**options, "aws_endpoint_url": proxy}, tmp_path).run().status == "done"
    assert len(lost) == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    S3FileSystem.clear_instance_cache()
    assert days(bucket, options) == [("mon", 5)]
    assert lp.history(f"{bucket}/days", storage_options=options)["version"].to_list() == [1]
    ledger = lp.ledger(f"{bucket}/state/ledger")
    assert [e.number for e in ledger.runs()] == [1]
    assert ledger.verify().problems == ()


@pytest.mark.parametrize("to", ["/days.commits/0", "/days.commits/lists/"], ids=["log", "list"])
def test_a_commit_whose_answer_is_lost_is_one_commit(
    to: str, server: str, bucket: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what takes more than a few bytes rests upon lists, whose answers may be lost as well
    for module, name in (("log", "_LONG"), ("log", "_LARGE"), ("since", "_MANY"), ("since", "_LARGE")):
        monkeypatch.setattr(f"lazypipe.storage.datasets.{module}.{name}", 1)
    deliver(bucket, options, "a.csv", "1,mon,5\n")
    pipeline(bucket, options, tmp_path).run().raise_for_status()
    deliver(bucket, options, "b.csv", "2,tue,7\n")
    with losing_answers(server, to) as (proxy, lost):
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        S3FileSystem.clear_instance_cache()
        result = pipeline(bucket, {**options, "aws_endpoint_url": proxy}, tmp_path).run()
        assert result.status == "done"
    assert len(lost) == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    S3FileSystem.clear_instance_cache()
    assert days(bucket, options) == [("mon", 5), ("tue", 7)]
    assert lp.history(f"{bucket}/days", storage_options=options)["version"].to_list() == [1, 2]
    assert pipeline(bucket, options, tmp_path).run().status == "unchanged"
    assert lp.ledger(f"{bucket}/state/ledger").verify().problems == ()
