"""Files that stand on SFTP and FTP servers, as partners deliver and fetch them: real servers on loopback."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.errors import LazypipeError, SourceError
from lazypipe.run.retry import is_transient
from lazypipe.storage import uri as uris
from lazypipe.storage.connections import create_whole
from lazypipe.storage.datasets.dataset import Dataset
from tests.serving import CUT, PASSWORD, SILENT, USER, serving


@pytest.fixture(scope="module", params=["sftp", "ftp"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server that shows a folder of this machine as its root: its URI, and that folder."""
    root = tmp_path_factory.mktemp(request.param)
    with serving(request.param, root) as uri:
        yield uri, root


OPTIONS = {"username": USER, "password": PASSWORD}
TEXT = """
version: 1
name: shop
state: {uri: "${HOST}/{folder}/state", storage_options: {username: partner, password: "${PASSWORD}"}}
sources:
  orders: {uri: "${HOST}/{folder}/in/*.csv", storage_options: {username: partner, password: "${PASSWORD}"}}
stages:
  good:
    from: orders
    gate: [{between: {column: v, min: 0, action: quarantine}}]
  days:
    from: good
    do: [{aggregate: {by: day, aggregate: {v: sum(v)}}}]
outputs:
  good: {to: "${HOST}/{folder}/good", partition_by: day, storage_options: {username: partner, password: "${PASSWORD}"}}
  days: {to: "${HOST}/{folder}/days", optimize: storage, storage_options: {username: partner, password: "${PASSWORD}"}}
  report:
    from: days
    to: "${HOST}/{folder}/sent/days.csv"
    format: csv
    storage_options: {username: partner, password: "${PASSWORD}"}
"""


@pytest.fixture
def definition(
    server: tuple[str, Path], request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> lp.Pipeline:
    monkeypatch.setenv("HOST", server[0])
    monkeypatch.setenv("PASSWORD", PASSWORD)
    return lp.Pipeline.from_yaml(TEXT.replace("{folder}", folder(request)), base=str(tmp_path))


def folder(request: pytest.FixtureRequest) -> str:
    return request.node.originalname


@pytest.fixture
def there(server: tuple[str, Path], request: pytest.FixtureRequest) -> Path:
    """The folder of the test on the server's machine."""
    (server[1] / folder(request) / "in").mkdir(parents=True)
    return server[1] / folder(request)


def days(server: tuple[str, Path], there: Path, **when: Any) -> list[tuple[Any, ...]]:
    found = lp.scan(f"{server[0]}/{there.name}/days", storage_options=OPTIONS, **when)
    return found.select("day", "v").sort("day").collect().rows()


def test_a_partners_files_are_kept_up_to_date(server: tuple[str, Path], definition: lp.Pipeline, there: Path) -> None:
    (there / "in/a.csv").write_text("id,day,v\n1,mon,5\n2,tue,-1\n3,tue,2\n")
    assert definition.compile().run().status == "done"
    assert days(server, there) == [("mon", 5), ("tue", 2)]
    result = definition.compile().run()
    assert {s.name: s.status for s in result.segments if s.output != "report"} == {
        "good": "unchanged",
        "days": "unchanged",
    }
    (there / "in/b.csv").write_text("id,day,v\n4,mon,7\n5,wed,-7\n")
    assert definition.compile().run().status == "done"
    assert days(server, there) == [("mon", 12), ("tue", 2)]
    assert days(server, there, version=1) == [("mon", 5), ("tue", 2)]
    (there / "in/a.csv").write_text("id,day,v\n1,mon,50\n3,tue,2\n")
    assert definition.compile().run().status == "done"
    assert days(server, there) == [("mon", 57), ("tue", 2)]
    assert (there / "sent/days.csv").read_text() == "day,v\nmon,57\ntue,2\n"
    assert sorted(pl.read_parquet(f"{there}/good/**/*.parquet")["id"].unique()) == [1, 3, 4]
    assert definition.compile().scan("good__quarantine").collect()["id"].to_list() == [5]
    assert lp.ledger(definition).verify().problems == ()
    ledger = lp.ledger(f"{server[0]}/{there.name}/state/ledger", storage_options=OPTIONS)
    assert [r.status for r in ledger.records()] == ["done"] * 4
    given = [word for name, value in OPTIONS.items() for word in ("--storage-option", f"{name}={value}")]
    assert main(["ledger", f"{server[0]}/{there.name}/state/ledger", "--verify", *given]) == 0
    assert main(["audit", f"{server[0]}/{there.name}/state/ledger", "shop/days", *given]) == 0
    assert lp.vacuum(definition, older_than=timedelta())
    assert days(server, there) == [("mon", 57), ("tue", 2)]
    # whatever was written down, the password was not
    assert not [f for f in there.rglob("*") if f.is_file() and PASSWORD.encode() in f.read_bytes()]


def test_many_files_are_read_and_written_side_by_side(
    server: tuple[str, Path], definition: lp.Pipeline, there: Path
) -> None:
    for file in range(12):
        rows = pl.DataFrame({"id": range(file * 5000, file * 5000 + 5000)})
        rows.with_columns(day="d" + (pl.col("id") % 7).cast(pl.String), v=pl.col("id")).write_csv(
            there / f"in/{file}.csv"
        )
    assert definition.compile().run().status == "done"
    every = [sum(range(d, 60_000, 7)) for d in range(7)]
    assert days(server, there) == [(f"d{d}", v) for d, v in enumerate(every)]
    good = lp.scan(f"{server[0]}/{there.name}/good", storage_options=OPTIONS)
    assert good.select(pl.col("id").n_unique(), pl.len()).collect().row(0) == (60_000, 60_000)


@pytest.mark.parametrize("server", ["sftp"], indirect=True)  # FTP has no request for it
def test_of_many_writers_one_gets_a_number(server: tuple[str, Path], there: Path) -> None:
    def create(writer: int) -> bool:
        fs, path = uris.file_system(f"{server[0]}/{there.name}/log/a.json", OPTIONS)
        uris.make_folder(fs, path.rpartition("/")[0])
        try:
            create_whole(fs, path, b"%d" % writer * 1000)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [n for n, first in enumerate(pool.map(create, range(8))) if first]
    assert len(won) == 1
    assert (there / "log/a.json").read_bytes() == b"%d" % won[0] * 1000
    assert [f.name for f in (there / "log").iterdir()] == ["a.json"]


WEBDAV = """
version: 1
name: shop
state: {uri: "webdav://state", storage_options: &dav {base_url: "${HOST}", auth: [partner, "${PASSWORD}"]}}
sources:
  orders: {uri: "webdav://in/*.csv", storage_options: *dav}
stages:
  good:
    from: orders
    gate: [{between: {column: v, min: 0, action: quarantine}}]
  days:
    from: good
    do: [{aggregate: {by: day, aggregate: {v: sum(v)}}}]
outputs:
  good: {to: "webdav://good", partition_by: day, storage_options: *dav}
  days: {to: "webdav://days", storage_options: *dav}
"""


@pytest.fixture
def dav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A WebDAV server that shows the folder of the test: the options that lead to it."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with serving("webdav", tmp_path) as uri:
        base = uri.replace("webdav", "http")
        monkeypatch.setenv("HOST", base)
        monkeypatch.setenv("PASSWORD", PASSWORD)
        yield {"base_url": base, "auth": [USER, PASSWORD]}


def test_files_of_a_webdav_server_are_kept_up_to_date(dav: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("id,day,v\n1,mon,5\n2,tue,-1\n3,tue,2\n")
    pipeline = lp.Pipeline.from_yaml(WEBDAV, base=str(tmp_path))
    pipeline.compile().run().raise_for_status()
    assert pipeline.compile().run().status == "unchanged"
    (tmp_path / "in/b.csv").write_text("id,day,v\n4,mon,7\n5,wed,-7\n")
    pipeline.compile().run().raise_for_status()
    found = lp.scan("webdav://days", storage_options=dav).sort("day").collect()
    assert found.select("day", "v").rows() == [("mon", 12), ("tue", 2)]
    aside = lp.scan("webdav://good__quarantine", storage_options=dav).collect()
    assert sorted(aside["id"]) == [2, 5]
    assert lp.ledger(pipeline).verify().problems == ()
    assert lp.vacuum(pipeline, older_than=timedelta())
    assert not [*tmp_path.rglob("*.tmp")]


def test_of_many_writers_to_a_webdav_server_one_gets_a_number(dav: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()

    def create(writer: int) -> bool:
        fs, path = uris.file_system("webdav://log/a.json", dav)
        try:
            create_whole(fs, path, b"%d" % writer * 1000)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [n for n, first in enumerate(pool.map(create, range(8))) if first]
    assert len(won) == 1
    assert (tmp_path / "log/a.json").read_bytes() == b"%d" % won[0] * 1000
    assert [f.name for f in (tmp_path / "log").iterdir()] == ["a.json"]


def test_a_wrong_password_is_told_without_it(
    definition: lp.Pipeline, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "wrong-and-hidden")
    for do in (lambda: definition.compile().run().raise_for_status(), definition.status, lambda: lp.vacuum(definition)):
        with pytest.raises(LazypipeError) as raised:
            do()
        assert "wrong-and-hidden" not in str(raised.value)
        assert there.name in str(raised.value)


@pytest.mark.parametrize("protocol", ["sftp", "ftp"])
def test_a_server_that_was_away_is_connected_to_again(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("id,day,v\n1,mon,5\n")
    monkeypatch.setenv("PASSWORD", PASSWORD)
    with serving(protocol, tmp_path) as uri:
        monkeypatch.setenv("HOST", uri)
        definition = lp.Pipeline.from_yaml(TEXT.replace("/{folder}", ""), base=str(tmp_path))
        assert definition.compile().run().status == "done"
    (tmp_path / "in/b.csv").write_text("id,day,v\n2,mon,7\n")
    with pytest.raises(LazypipeError) as raised:
        definition.compile().run().raise_for_status()
    assert is_transient(raised.value)
    with serving(protocol, tmp_path, int(uri.rpartition(":")[2])):
        assert definition.compile().run().status == "done"
        assert lp.scan(f"{uri}/days", storage_options=OPTIONS).collect()["v"].to_list() == [12]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # paramiko asks ahead in a thread
@pytest.mark.parametrize("format_", ["csv", "parquet"])
@pytest.mark.parametrize("on_corrupt", ["fail", "skip"])
def test_a_file_whose_connection_is_cut_is_not_a_damaged_one(
    format_: str, on_corrupt: str, server: tuple[str, Path], tmp_path: Path
) -> None:
    there = server[1] / f"cut-{format_}-{on_corrupt}"
    there.mkdir()
    for number in range(2):
        rows = pl.DataFrame({"id": range(number * 20_000, number * 20_000 + 20_000)})
        getattr(rows, f"write_{format_}")(there / f"{number}.{format_}")
    uri = f"{server[0]}/{there.name}"
    made = lp.pipeline("p", base=str(tmp_path)).source(
        "a",
        f"{uri}/*.{format_}",
        storage_options=OPTIONS,
        on_corrupt=on_corrupt,
        contract={"columns": {"id": "Int64"}},
    )
    pipeline = made.output("a", "out").build()
    (server[1] / CUT).touch()
    try:
        with pytest.raises(SourceError) as raised:
            pipeline.compile().run().raise_for_status()
    finally:
        (server[1] / CUT).unlink()
    told = re.escape(uri) + rf"/\d\.{format_}: source 'a': cannot be read: .+; check permissions and network"
    assert re.fullmatch(told, str(raised.value))
    assert is_transient(raised.value)
    assert not Dataset(str(tmp_path / "out")).log.versions()
    pipeline.compile().run().raise_for_status()
    found = lp.scan(str(tmp_path / "out")).select(pl.col("id").n_unique(), pl.len()).collect()
    assert found.row(0) == (40_000, 40_000)


@pytest.mark.parametrize("server", ["sftp"], indirect=True)  # of FTP, fsspec waits for 30 seconds
def test_a_server_that_stays_silent_is_not_waited_for(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.storage.connections.SILENCE", 1.0)
    pl.DataFrame({"id": range(20_000)}).write_csv(server[1] / "long.csv")
    uri = f"{server[0]}/long.csv"
    pipeline = lp.pipeline("p", base=str(tmp_path)).source("a", uri, storage_options=OPTIONS).output("a", "out").build()
    (server[1] / SILENT).touch()
    try:
        with pytest.raises(SourceError) as raised:
            pipeline.compile().run().raise_for_status()
    finally:
        (server[1] / SILENT).unlink()
    told = "source 'a': cannot be read: no answer came in time; check permissions and network"
    assert str(raised.value) == f"{uri}: {told}"
    assert is_transient(raised.value)
    pipeline.compile().run().raise_for_status()
    assert lp.scan(str(tmp_path / "out")).collect().height == 20_000


class Web(BaseHTTPRequestHandler):
    """A server that answers nothing but GET, and where ``refused`` says so, that not at once; it may say ``busy`` of the file, but not of its size, or fall ``silent`` in it."""

    rows: ClassVar[bytes] = b"id,v\n1,2\n3,4\n"
    refused: ClassVar[list[int]] = []
    busy: ClassVar[bool] = False
    sized: ClassVar[bool] = True
    silent: ClassVar[threading.Event | None] = None

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        if self.sized:
            self.send_error(405)
        else:
            self.send_response(200)
            self.end_headers()

    def do_GET(self) -> None:
        if self.refused:
            self.send_error(self.refused.pop())
            return
        first, _, last = (self.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")
        part = self.rows[int(first) : int(last or len(self.rows)) + 1]
        if self.busy and len(part) > 1:
            self.send_error(503)
            return
        self.send_response(206 if self.headers["Range"] else 200)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(self.rows)}")
        if self.sized:
            self.send_header("Content-Length", str(len(part)))
        self.send_header("etag", f'"{hash(self.rows)}"')
        self.end_headers()
        if self.silent is not None and len(part) > 1:
            self.wfile.write(part[:5])
            self.silent.wait(60)
            return
        self.wfile.write(part)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_address[1]}/a.csv?signed=for-get-alone"
        made.shutdown()


@pytest.mark.parametrize("cache", ["", "simplecache::"])
def test_what_the_web_only_lets_one_fetch_is_followed(
    cache: str, web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"""version: 1
name: p
sources: {{a: {{uri: "{cache}{web}", format: csv}}}}
outputs: {{a: {{to: out}}}}
"""
    pipeline = lp.Pipeline.from_yaml(text, base=str(tmp_path))
    monkeypatch.setattr(Web, "refused", [503, 429])
    assert pipeline.compile().run().status == "done"
    assert not Web.refused
    assert pipeline.compile().run().status == "unchanged"
    monkeypatch.setattr(Web, "rows", b"id,v\n5,6\n")
    assert pipeline.compile().run().status == "done"
    assert lp.scan(f"{tmp_path}/out").collect().rows() == [(5, 6)]
    monkeypatch.setattr(Web, "refused", [404])
    with pytest.raises(LazypipeError, match="404"):
        pipeline.compile().run().raise_for_status()
    monkeypatch.setattr(Web, "refused", [503] * 9)
    with pytest.raises(LazypipeError, match="503") as raised:
        pipeline.compile().run().raise_for_status()
    assert is_transient(raised.value)


def of_web(uri: str, tmp_path: Path) -> str:
    """Return what is told of a file that cannot be fetched, and may be another time; without its URI."""
    made = lp.pipeline("p", base=str(tmp_path)).source("a", uri, format="csv", on_corrupt="skip")
    with pytest.raises(SourceError) as raised:
        made.output("a", "out").build().compile().run().raise_for_status()
    assert is_transient(raised.value)
    return str(raised.value).removeprefix(f"{uri}: source 'a': ")


def test_a_server_of_the_web_that_is_busy_or_silent(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"simplecache::{web}"
    monkeypatch.setattr(Web, "busy", True)
    told = "cannot be read: the file does not exist, or the server does not give it now; check permissions and network"
    assert of_web(uri, tmp_path) == told
    monkeypatch.setattr(Web, "busy", False)
    monkeypatch.setattr(Web, "silent", threading.Event())
    monkeypatch.setattr("lazypipe.storage.uri.SILENCE", 1.0)
    try:
        assert of_web(uri, tmp_path) == "cannot be read: no answer came in time; check permissions and network"
    finally:
        Web.silent.set()


def test_a_server_of_the_web_that_does_not_say_how_long_a_file_is(
    web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pipeline(uri: str) -> lp.Pipeline:
        return lp.pipeline("p", base=str(tmp_path)).source("a", uri, format="csv").output("a", "out").build()

    monkeypatch.setattr(Web, "sized", False)
    with pytest.raises(SourceError) as raised:
        pipeline(web).compile().run().raise_for_status()
    told = "cannot be read: the server does not say how long the file is; put simplecache:: in front of its URI, or copy it to a store"
    assert str(raised.value) == f"{web}: source 'a': {told}"
    pipeline(f"simplecache::{web}").compile().run().raise_for_status()
    assert lp.scan(str(tmp_path / "out")).collect().rows() == [(1, 2), (3, 4)]


def test_a_pipelines_ledger_takes_no_other_options(tmp_path: Path) -> None:
    text = "version: 1\nname: p\nsources: {a: {uri: a.csv}}\noutputs: {a: {to: out}}\n"
    with pytest.raises(LazypipeError, match=r"by its URI; that of a pipeline has its own, in its definition"):
        lp.ledger(lp.Pipeline.from_yaml(text, base=str(tmp_path)), storage_options={"key": "k"})


def test_a_variable_of_the_state_that_is_not_set(tmp_path: Path) -> None:
    text = """version: 1
name: p
state: ${NO_SUCH_PLACE}/state
sources: {a: {uri: a.csv}}
outputs: {a: {to: out}}
"""
    pipeline = lp.Pipeline.from_yaml(text, base=str(tmp_path))
    for do in (pipeline.compile, lambda: lp.vacuum(pipeline), lambda: lp.ledger(pipeline)):
        with pytest.raises(lp.DefinitionError) as raised:
            do()
        told = "<yaml>:3:1: environment variable NO_SUCH_PLACE is not set; set it: export NO_SUCH_PLACE=…"
        assert told in str(raised.value)
    assert not [*tmp_path.iterdir()]


def test_the_state_may_stand_where_a_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", str(tmp_path / "kept"))
    (tmp_path / "a.csv").write_text("id\n1\n")
    text = "version: 1\nname: p\nstate: ${PLACE}/x\nsources: {a: {uri: a.csv}}\noutputs: {a: {to: out}}\n"
    pipeline = lp.Pipeline.from_yaml(text, base=str(tmp_path))
    result = pipeline.compile().run()
    assert (tmp_path / f"kept/x/runs/{result.run}.json").exists()
    assert [r.status for r in lp.ledger(str(tmp_path / "kept/x/ledger")).records()] == ["done"]
    assert lp.Pipeline.from_yaml(pipeline.to_yaml()) == pipeline
