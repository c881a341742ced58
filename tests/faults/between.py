"""What stands between a pipeline and an object store: it hands each request on, notes it, and does to some what networks and stores do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from s3fs import S3FileSystem

Asked = tuple[str, str]
"""A request: its method, and its path with what is asked."""
LOST = "lost"
"""The store does what is asked; the connection is cut instead of the answer."""
CUT = "cut"
"""The connection is cut in the midst of the answer."""
DROPPED = "dropped"
"""The connection is cut before the store hears of the request."""
Fate = Callable[[Asked], str | int | None]
"""What happens to a request: a fault, a status that is answered in the store's place, or nothing (None)."""

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def _nothing(_: Asked) -> None:
    return None


@dataclass
class Between:
    """A proxy in front of a store: its URL, what it was asked in turn, and what it does."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    fate: Fate = _nothing

    def once(self, fault: str | int, method: str, part: str) -> None:
        """Do this to the first request from now on with that method and that in its path."""
        left = [fault]
        self.fate = lambda asked: left.pop() if left and asked[0] == method and part in asked[1] else None

    def take(self) -> list[Asked]:
        """Return what was asked since the last time."""
        found, self.asked[:] = list(self.asked), []
        return found


@contextmanager
def between(server: str) -> Iterator[Between]:
    """Stand in front of a store; clients that were there already would go on by the other way, and are forgotten."""
    proxy, lock = Between(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def hand_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = (self.command, unquote(self.path))
            with lock:
                proxy.asked.append(asked)
                fate = proxy.fate(asked)
            if isinstance(fate, int):
                self.tell(fate, {}, _DENIED if fate == 403 else _SLOW_DOWN)
                return
            self.close_connection = fate is not None
            if fate == DROPPED:
                return
            there = http.client.HTTPConnection(urlsplit(server).netloc)
            there.request(self.command, self.path, body, dict(self.headers))
            answer = there.getresponse()
            content = answer.read()
            there.close()
            if fate != LOST:
                self.tell(answer.status, dict(answer.getheaders()), content, cut=fate == CUT)

        def tell(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = hand_on  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    standing = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=standing.serve_forever)
    thread.start()
    proxy.url = f"http://127.0.0.1:{standing.server_port}"
    S3FileSystem.clear_instance_cache()
    try:
        yield proxy
    finally:
        S3FileSystem.clear_instance_cache()
        standing.shutdown()
        thread.join()
        standing.server_close()
