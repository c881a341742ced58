"""Settings of storages by the names of Polars and of fsspec: each is given its own, whichever were written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from polars.io.cloud._utils import POLARS_STORAGE_CONFIG_KEYS

import lazypipe as lp
from lazypipe.errors import SourceError
from lazypipe.storage import uri as uris
from lazypipe.storage.files import FileInfo
from lazypipe.storage.options import for_fsspec, for_polars
from lazypipe.storage.scan import Reader

POLARS = {
    "aws_access_key_id": "k",
    "aws_secret_access_key": "s",
    "aws_session_token": "t",
    "aws_endpoint_url": "http://e",
    "aws_region": "eu-1",
}
FSSPEC = {
    "key": "k",
    "secret": "s",
    "token": "t",
    "endpoint_url": "http://e",
    "client_kwargs": {"region_name": "eu-1"},
}


@pytest.mark.parametrize("protocol", ["s3", "s3a"])
@pytest.mark.parametrize("written", [POLARS, FSSPEC, {**POLARS, **FSSPEC}], ids=["polars", "fsspec", "both"])
def test_one_set_of_names_is_enough(protocol: str, written: dict[str, Any]) -> None:
    assert for_fsspec(protocol, written) == FSSPEC
    assert for_polars(protocol, written) == POLARS


def test_names_are_those_of_the_protocol() -> None:
    assert for_fsspec("az", {"azure_storage_account_name": "a", "azure_storage_account_key": "k"}) == {
        "account_name": "a",
        "account_key": "k",
    }
    assert for_polars("abfss", {"account_name": "a", "sas_token": "k", "anon": False}) == {
        "azure_storage_account_name": "a",
        "azure_storage_sas_token": "k",
        "anon": "false",
    }
    assert for_fsspec("gs", {"google_service_account": "key.json", "google_base_url": "x"}) == {"token": "key.json"}
    assert for_fsspec("gcs", {"service_account_key": '{"type": "x"}'}) == {"token": {"type": "x"}}
    assert for_polars("gs", {"token": "key.json"}) == {"google_service_account": "key.json"}
    assert for_polars("gs", {"token": {"type": "x"}}) is None
    for protocol in ("", "memory", "sftp"):
        assert for_fsspec(protocol, {"key": 1, "aws_region": "x"}) == {"key": 1, "aws_region": "x"}
        assert for_polars(protocol, {"key": "k"}) == {"key": "k"}
        assert for_polars(protocol, {}) is None


def test_what_only_one_of_them_knows_goes_to_that_one() -> None:
    written = {
        "aws_allow_http": "true",
        "max_retries": 3,
        "AWS_REGION": "eu-1",
        "config_kwargs": {"a": 1},
        "anon": True,
    }
    more = {"client_kwargs": {"verify": False}, "default_block_size": 5}
    assert for_fsspec("s3", written | more) == {
        "client_kwargs": {"region_name": "eu-1", "verify": False},
        "config_kwargs": {"a": 1},
        "anon": True,
        "default_block_size": 5,
    }
    assert for_polars("s3", written | more) == {
        "aws_allow_http": "true",
        "max_retries": 3,
        "AWS_REGION": "eu-1",
        "aws_skip_signature": "true",
        "default_block_size": "5",
    }
    assert for_fsspec("s3", {"skip_signature": "false"}) == {"anon": False}


@pytest.mark.parametrize("name", sorted(POLARS_STORAGE_CONFIG_KEYS))
@pytest.mark.parametrize("value", [3, "3"])
def test_polars_gets_its_numbers_as_such(name: str, value: str | int) -> None:
    assert for_fsspec("s3", {name: value}) == {}
    options = for_polars("s3", {name: value, "aws_region": "eu-1"})
    assert options == {name: 3, "aws_region": "eu-1"}
    pl.scan_parquet("s3://b/x.parquet", storage_options=options)  # which looks at them
    with pytest.raises(ValueError, match="expected (int|float)"):
        pl.scan_parquet("s3://b/x.parquet", storage_options={name: "3"})
    number = "number" if name == "retry_base_multiplier" else "whole number"
    with pytest.raises(lp.LazypipeError, match=rf"^storage_options: {name} is 'many'; give a {number}$"):
        for_polars("s3", {name: "many"})


def test_file_systems_are_made_with_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def made(uri: str, **options: Any) -> tuple[Any, str]:
        asked.append(options)
        return fsspec.filesystem("memory"), "x"

    monkeypatch.setattr(fsspec.core, "url_to_fs", made)
    uris.file_system("s3://b/x", POLARS)
    uris.file_system("zip://a.csv::s3://b/x.zip", {"s3": POLARS})
    assert asked == [FSSPEC, {"s3": FSSPEC, "skip_instance_cache": True}]


@pytest.fixture
def bucket() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that has nothing, and whose signatures it was asked with."""
    signed: list[str] = []

    class Nothing(BaseHTTPRequestHandler):
        def answer(self) -> None:
            signed.append(self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0])
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_PUT = answer  # noqa: N815  # names that the server calls

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", signed
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("format_", ["parquet", "csv", "ndjson", "ipc", "first row"])
def test_polars_signs_with_what_was_written_for_fsspec(bucket: tuple[str, list[str]], format_: Any) -> None:
    address, signed = bucket
    options = {"key": f"key-{format_}", "secret": "s", "endpoint_url": address, "client_kwargs": {"region_name": "x"}}
    file = FileInfo("s3://b/x", None)
    schema = pl.Schema({"a": pl.Int64})
    with pytest.raises(Exception, match="404|not found|Not Found"):
        if format_ == "first row":
            Reader("csv", storage_options=options).first_row(file, schema)
        else:
            Reader(format_, storage_options=options).scan([file], schema, keys={}).collect()
    assert set(signed) == {f"key-{format_}"}


@pytest.fixture
def guarded() -> Iterator[tuple[str, dict[str, bytes]]]:
    """The address of a server that gives files, whole, to who says the right word."""
    files: dict[str, bytes] = {}

    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that the server calls
            known = self.headers.get("Authorization") == "Bearer word"
            content = files.get(self.path, b"") if known else b""
            self.send_response(200 if content else 404 if known else 401)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hash(content)}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815  # the name that the server calls

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_web_is_read_with_headers_through_a_cache(
    guarded: tuple[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, files = guarded
    monkeypatch.setenv("AUTH", "Bearer word")
    options = {"http": {"headers": {"Authorization": "${AUTH}"}}}
    pipe = lp.pipeline("p", base=str(tmp_path)).source("s", f"simplecache::{address}/a.csv", storage_options=options)
    pipe.output("s", "out")
    for rows, status in ((b"a\n1\n", "done"), (b"a\n1\n", "unchanged"), (b"a\n2\n3\n", "done")):
        files["/a.csv"] = rows
        assert pipe.build().compile().run().status == status
        expected = [int(r) for r in rows.split()[1:]]
        assert lp.scan(str(tmp_path / "out")).collect()["a"].to_list() == expected
    monkeypatch.setenv("AUTH", "Bearer another")
    with pytest.raises(SourceError, match="HTTP Error 401"):
        pipe.build().compile()


@pytest.mark.parametrize(
    ("user", "options", "what"),
    [
        ("me:${PW}@", {}, "user names in addresses"),
        ("", {"headers": {"Authorization": "${PW}"}}, "headers"),
        ("", {"client_kwargs": {"headers": {"Authorization": "${PW}"}}}, "headers"),
    ],
)
def test_secrets_that_polars_would_not_send_are_refused(
    monkeypatch: pytest.MonkeyPatch, user: str, options: dict[str, Any], what: str
) -> None:
    monkeypatch.setenv("PW", "secret")
    pipe = lp.pipeline("p").source("s", f"https://{user}host/a.csv", storage_options=options).output("s", "out")
    with pytest.raises(SourceError) as caught:
        pipe.build().compile()
    assert str(caught.value) == (
        f"https://host/a.csv: source 's': {what} are not sent when Polars reads from the web; "
        'write simplecache::https://host/a.csv, with storage_options: {https: {headers: {Authorization: "${AUTH}"}}}'
    )
