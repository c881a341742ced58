"""An OpenLineage endpoint on this machine, which holds every event against the official schemas and can misbehave."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

SCHEMAS = [json.loads(p.read_text()) for p in sorted((Path(__file__).parent / "data/openlineage").glob("*.json"))]
REGISTRY: Registry[Any] = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in SCHEMAS)
FORMATS = FormatChecker(formats=())


@FormatChecker.checks(FORMATS, "uuid", raises=ValueError)
def is_uuid(value: object) -> bool:
    return str(UUID(str(value))) == value


@FormatChecker.checks(FORMATS, "date-time", raises=ValueError)
def is_time(value: object) -> bool:
    return datetime.fromisoformat(str(value)).tzinfo is not None


@FormatChecker.checks(FORMATS, "uri")
def is_uri(value: object) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9+.-]*:[\w%:/?#\[\]@!$&'()*+,;=~.-]+", str(value), re.ASCII) is not None


def check(event: Mapping[str, Any]) -> int:
    """Hold an event, and each of its facets, against the schemas that they name; return how many facets it has."""
    plain = json.loads(json.dumps(event, allow_nan=False))
    _validate(plain, plain["schemaURL"])
    facets = [*_facets(plain)]
    for facet in facets:
        _validate(facet, facet["_schemaURL"])
    return len(facets)


def _validate(value: Any, schema: str) -> None:
    assert schema.startswith("https://openlineage.io/spec/")
    Draft202012Validator({"$ref": schema}, registry=REGISTRY, format_checker=FORMATS).validate(value)


def _facets(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "_schemaURL" in value:
            yield value
        for inner in value.values():
            yield from _facets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _facets(inner)


class Endpoint:
    """Takes events at a port of this machine.

    ``script`` says how the next requests go, ``ok`` for those after: a code to answer with, ``cut`` (the connection ends before
    the event is taken), ``lost`` (after it was taken, without an answer), ``slow`` (no answer until the test ends), ``hang`` (after
    it was taken, no answer until the test ends).
    """

    def __init__(self) -> None:
        self.script: list[str] = []
        self.headers: dict[str, str] = {}
        self.body = b""
        self.taken: list[dict[str, Any]] = []
        self.requests: list[Mapping[str, str]] = []
        self.faults: list[str] = []
        self.over = threading.Event()
        self.official = True
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.answer(self)

            def do_GET(self) -> None:
                endpoint.faults.append(f"GET {self.path}")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.over.set()
        self.thread.join()
        self.server.server_close()
        self.over.clear()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        data = request.rfile.read(int(request.headers["Content-Length"]))
        self.requests.append({"path": request.path, **dict(request.headers)})
        how = self.script.pop(0) if self.script else "ok"
        if how in ("ok", "lost", "hang"):
            self.take(json.loads(data))
        if how in ("cut", "lost"):
            request.close_connection = True
            return
        if how in ("slow", "hang"):
            self.over.wait()
            request.close_connection = True
            return
        request.send_response(201 if how == "ok" else int(how))
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(self.body)))
        request.end_headers()
        request.wfile.write(self.body)

    def take(self, event: dict[str, Any]) -> None:
        try:
            if self.official:
                check(event)
            self.taken.append(event)
        except Exception as error:
            self.faults.append(str(error))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.stop()
    assert made.faults == []


@pytest.fixture(scope="module")
def module_endpoint() -> type[Endpoint]:
    """Make an endpoint that the caller stops."""
    return Endpoint


@pytest.fixture
def events() -> Any:
    """Read a file of events, each held against the schemas."""

    def read(path: Path) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for event in found:
            assert check(event) > 5
        return found

    return read
