"""Only the bytes that a query needs are read, and never a whole file at once."""

from __future__ import annotations

import io
import re
import threading
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
import numpy as np
import polars as pl
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from polars.testing import assert_frame_equal

from lazypipe.errors import SourceError
from lazypipe.storage.external.scan import external_schema, scan_external

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest.importorskip("aiohttp")

TAIL = 64 << 10
SLACK = 12 << 10  # page headers, a zip's directory and local header, several small reads
GROUPS, ROWS, COLUMNS = 10, 5000, 20
CHUNK = ROWS * 8
DRAWN = np.random.default_rng(7).random((COLUMNS - 1, GROUPS * ROWS))
FRAME = pl.DataFrame({"key": range(GROUPS * ROWS)} | {f"c{k}": of for k, of in enumerate(DRAWN)})


def written(format_: str, **options: Any) -> bytes:
    out = io.BytesIO()
    getattr(FRAME, f"write_{format_}")(out, **options)
    return out.getvalue()


PARQUET = written("parquet", row_group_size=ROWS, compression="uncompressed")
CSV = written("csv")


def zipped(data: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("before", b"x" * 10**6)
        archive.writestr("x", data)
        archive.writestr("after", b"x" * 10**6)
    return out.getvalue()


class Server(ThreadingHTTPServer):
    """Serves ``files`` from the loopback, with or without byte ranges, and counts what it sends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.sent: list[int] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        size = len(data)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if self.server.ranges else None
        self.send_response(206 if wanted else 200)
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2]), size - 1)
            data = data[first : last + 1]
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.server.sent.append(len(data))
            with suppress(ConnectionError):  # a client that finds no range goes away
                self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class Place:
    """Somewhere a file can lie: puts it there, and counts the bytes that are read from it."""

    def __init__(self, put: Callable[[bytes], str], reads: list[int]) -> None:
        self.put = put
        self.reads = reads

    def read(self, query: Callable[[], pl.DataFrame]) -> tuple[pl.DataFrame, int]:
        self.reads.clear()
        frame = query()
        return frame, sum(self.reads)


class CountedMemory(MemoryFileSystem):
    """fsspec's memory filesystem, counting; opening a file is refused, since its position would be shared."""

    protocol = "counted"
    reads: ClassVar[list[int]] = []

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        data: bytes = super().cat_file(path, start=start, end=end, **kwargs)
        self.reads.append(len(data))
        return data

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        assert mode != "rb"
        return super()._open(path, mode, **kwargs)


fsspec.register_implementation("counted", CountedMemory, clobber=True)


def in_memory(data: bytes) -> str:
    fsspec.filesystem("counted").pipe("counted://x", data)
    return "counted://x"


@pytest.fixture(params=["memory", "zip in memory", "http", "zip on http"])
def place(request: pytest.FixtureRequest, server: Server) -> Place:
    def on_http(data: bytes) -> str:
        server.files["/x"] = data
        return f"http://127.0.0.1:{server.server_port}/x"

    put, reads = (on_http, server.sent) if "http" in request.param else (in_memory, CountedMemory.reads)
    if "zip" in request.param:
        return Place(lambda data: f"zip://x::{put(zipped(data))}", reads)
    return Place(put, reads)


def test_one_of_twenty_columns(place: Place) -> None:
    lazy = scan_external([place.put(PARQUET)], format="parquet")
    frame, read = place.read(lazy.select("c7").collect)
    assert_frame_equal(frame, FRAME.select("c7"))
    assert CHUNK * GROUPS < read < CHUNK * GROUPS + TAIL + SLACK
    assert len(PARQUET) > 15 * read


def test_a_filter_that_keeps_one_of_ten_row_groups(place: Place) -> None:
    lazy = scan_external([place.put(PARQUET)], format="parquet")
    keep = pl.col("key").is_between(3 * ROWS, 4 * ROWS - 1)
    frame, read = place.read(lazy.filter(keep).select("c15").collect)
    assert_frame_equal(frame, FRAME.filter(keep).select("c15"))
    assert 2 * CHUNK < read < 2 * CHUNK + TAIL + SLACK


def test_a_filter_that_nothing_can_pass_reads_only_the_footer(place: Place) -> None:
    lazy = scan_external([place.put(PARQUET)], format="parquet")
    frame, read = place.read(lazy.filter(pl.col("key") < 0).collect)
    assert frame.height == 0
    assert read < TAIL + SLACK


def test_the_first_rows_read_the_first_row_group(place: Place) -> None:
    lazy = scan_external([place.put(PARQUET)] * 3, format="parquet")
    frame, read = place.read(lazy.head(10).collect)
    assert_frame_equal(frame, FRAME.head(10))
    # Polars opens the next files in advance, so that their footers are read too
    assert COLUMNS * CHUNK < read < COLUMNS * CHUNK + 3 * (TAIL + SLACK)


def test_rows_in_the_middle_read_their_row_group(place: Place) -> None:
    lazy = scan_external([place.put(PARQUET)], format="parquet")
    frame, read = place.read(lazy.slice(5 * ROWS + 10, 20).select("c3").collect)
    assert_frame_equal(frame, FRAME.select("c3").slice(5 * ROWS + 10, 20))
    assert read < CHUNK + TAIL + SLACK


def test_counting_and_the_schema_read_only_the_footer(place: Place) -> None:
    uri = place.put(PARQUET)
    lazy = scan_external([uri], format="parquet", schema=FRAME.schema)
    frame, read = place.read(lazy.select(pl.len()).collect)
    assert (frame.item(), read < TAIL + SLACK) == (GROUPS * ROWS, True)
    _, read = place.read(lambda: external_schema(uri, format="parquet").to_frame())
    assert read < TAIL + SLACK


def test_ranges_close_to_each_other_are_read_as_one_and_others_not(place: Place) -> None:
    lazy = scan_external([place.put(PARQUET)], format="parquet")
    first = lazy.head(1)
    _, read = place.read(first.select("c1", "c3").collect)  # one chunk of 40 kB between
    assert 3 * CHUNK < read < 3 * CHUNK + TAIL + SLACK
    _, read = place.read(first.select("c1", "c4").collect)  # two
    assert 2 * CHUNK < read < 2 * CHUNK + TAIL + SLACK


def test_everything_is_read_once(place: Place) -> None:
    lazy = scan_external([place.put(PARQUET)], format="parquet")
    frame, read = place.read(lazy.collect)
    assert_frame_equal(frame, FRAME)
    assert read < len(PARQUET) + TAIL + SLACK
    assert max(place.reads) <= 4 << 20


def test_a_footer_longer_than_the_tail_takes_a_second_read(place: Place) -> None:
    wide = pl.DataFrame({f"column number {k}": [k] for k in range(1000)})
    out = io.BytesIO()
    wide.write_parquet(out)
    lazy = scan_external([place.put(out.getvalue())], format="parquet")
    frame, read = place.read(lazy.select("column number 500").collect)
    assert frame.item() == 500
    assert TAIL < read < len(out.getvalue()) + TAIL + SLACK


def test_the_first_rows_of_csv_read_its_start(place: Place) -> None:
    uri = place.put(CSV)
    lazy = scan_external([uri], format="csv")
    frame, read = place.read(lazy.head(10).collect)
    assert_frame_equal(frame, FRAME.head(10))
    assert read < TAIL + SLACK
    frame, read = place.read(lazy.select("c3").collect)
    assert_frame_equal(frame, FRAME.select("c3"))
    assert read < len(CSV) + TAIL + SLACK
    assert max(place.reads) <= 8 << 20


def test_a_compressed_member_is_decompressed_once(place: Place) -> None:
    data = zipped(PARQUET, zipfile.ZIP_DEFLATED)
    lazy = scan_external([f"zip://x::{place.put(data)}"], format="parquet", schema=FRAME.schema)
    frame, read = place.read(lazy.select("c7").collect)
    assert_frame_equal(frame, FRAME.select("c7"))
    assert read < len(data) + TAIL + SLACK


@pytest.mark.parametrize("format_", ["parquet", "csv", "ndjson", "ipc"])
@pytest.mark.parametrize("archive", [False, True])
def test_a_server_without_ranges_is_read_from_start_to_end(server: Server, format_: Any, archive: bool) -> None:
    data = written(format_)
    server.ranges = False
    server.files["/x"] = zipped(data) if archive else data
    uri = f"{'zip://x::' if archive else ''}http://127.0.0.1:{server.server_port}/x"
    lazy = scan_external([uri], format=format_, schema=FRAME.schema)
    assert_frame_equal(lazy.select("c7").collect(), FRAME.select("c7"))
    assert len(server.sent) == 2  # the first is broken off when it turns out to be no range


def test_a_file_missing_on_a_server_is_named(server: Server) -> None:
    uri = f"zip://x::http://127.0.0.1:{server.server_port}/nowhere.zip"
    with pytest.raises(SourceError, match="the file does not exist") as failed:
        external_schema(uri, format="parquet")
    assert failed.value.uri == uri
