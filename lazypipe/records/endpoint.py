"""Sending events to an OpenLineage endpoint, which may be away, slow, or refuse them.

Every event is put into the spool first, so that neither a killed process nor an endpoint that is away loses one, and sent from
there, oldest first. Sending stops at the first event that cannot be sent, so that order holds; those that the endpoint refuses
are put aside. A process that is killed between an answer and the removal of its event sends it again: events are known by
their run and type, so that a repetition changes nothing at the other end.
"""

from __future__ import annotations

import json
import random
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, Self
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lazypipe.compile.openlineage import endpoint_fault
from lazypipe.errors import LazypipeError, first_line
from lazypipe.records.facets import public
from lazypipe.records.spool import Spool
from lazypipe.records.transport import Event, encoded

__all__ = ["HttpTransport"]

_PATH = "/api/v1/lineage"
_TAKE_IT_SLOWLY = (408, 429)
_CUT_OFF = "it is not whole JSON, as after a crash of the machine"


@dataclass(frozen=True)
class _Outcome:
    """What became of an event: taken, refused for good, or to be tried again later; ``wait`` is what the endpoint asked for."""

    kind: Literal["taken", "refused", "later"]
    why: str = ""
    wait: float = 0.0
    again: bool = True


class _NoRedirect(HTTPRedirectHandler):
    """A redirected POST would become a GET, and credentials would go to another host."""

    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect: it is reported as an answer."""


class HttpTransport:
    """Sends OpenLineage events to an HTTP endpoint. Events that cannot be sent wait in ``spool`` and are sent first later.

    Parameters
    ----------
    url
        The endpoint. If it has no path, ``/api/v1/lineage`` is added.
    spool
        Local folder for waiting events, one per endpoint. Several processes may share it.
    api_key
        Sent as a bearer token. It is never shown.
    timeout
        Seconds that a request may take.
    attempts
        How often to try an event in a row if the endpoint cannot be reached, is busy, or has an internal error.
    patience
        Seconds that all attempts at one event may take together, including waiting.
    sleep, clock, jitter, now
        The function that waits, the clock for waiting, the jitter of waiting times (0 to 1), and the clock for file names.

    Raises
    ------
    LazypipeError
        If the address or a header cannot be one.

    Examples
    --------
    >>> HttpTransport("https://marquez:5000", spool="/tmp/spool").url
    'https://marquez:5000/api/v1/lineage'
    """

    def __init__(
        self,
        url: str,
        *,
        spool: str | Path,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        timeout: float = 2.0,
        attempts: int = 3,
        patience: float = 5.0,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], float] = time.time,
    ) -> None:
        own, user = _without_user(url)
        key = {"Authorization": f"Bearer {api_key}"} if api_key else user
        self._headers = {"Content-Type": "application/json", "User-Agent": "lazypipe", **(headers or {}), **key}
        fault = endpoint_fault(own, self._headers)
        if fault is not None:
            raise LazypipeError(f"OpenLineage: {fault.what}; {fault.fix}")
        parts = urlsplit(own)
        self.url = urlunsplit(parts._replace(path=_PATH)) if parts.path in ("", "/") else own
        # a query string is likely to contain a secret
        self.name = urlunsplit(urlsplit(self.url)._replace(query="", fragment=""))
        self._secrets = [v for v in (api_key, *(headers or {}).values(), *user.values()) if v]
        self._timeout = timeout
        self._attempts = attempts
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter
        self._spool = Spool(spool, now=now, stale=max(60.0, 4 * patience + 4 * timeout))
        self._opener = build_opener(_NoRedirect())
        self._lock = threading.Lock()
        self._held: list[bytes] = []
        self._flying = False
        self._refused: dict[str, list[Path | None]] = {}
        self._state: str | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return the transport for the settings of a definition."""
        names = ("spool", "headers", "api_key", "timeout", "attempts")
        return cls(settings["url"], **{n: settings[n] for n in names if n in settings})

    def emit(self, event: Event) -> None:
        """Put an event into the spool; if that cannot be written, keep it in memory."""
        with self._lock:
            self._keep(encoded(event))

    def problems(self) -> tuple[str, ...]:
        """Return how many events were refused since the last call, per reason, and what is waiting."""
        with self._lock:
            refused = [text for why, kept in self._refused.items() for text in self._told(why, kept)]
            told = (*refused, *((self._state,) if self._state else ()))
            self._refused, self._state = {}, None
        return told

    def _told(self, why: str, kept: list[Path | None]) -> Iterator[str]:
        """Say which events were refused for a reason, those that are kept and those that could not be."""
        there = [path for path in kept if path is not None]
        if there:
            events, are = _several(len(there))
            place = there[0] if len(there) == 1 else there[0].parent
            yield f"{self.name} cannot be given {events}, which {are} kept in {place}: {why}"
        if lost := len(kept) - len(there):
            yield f"{self.name} refused {_several(lost)[0]}, which could not be kept: {why}"

    def flush(self) -> None:
        """Send waiting events, oldest first. Stops at the first event that cannot be sent now."""
        trouble = why = token = None
        try:
            token = self._acquire()
            if token is None:
                self._say(self._left("another process is sending"))
                return
        except OSError as error:
            # a full disk holds no lock, but what is on it can be sent: at worst twice, which does no harm
            trouble = f"its spool cannot be written ({_reason(error)})"
        try:
            why = self._drain(token)
        except OSError as error:
            trouble = f"its spool cannot be used ({_reason(error)})"
            # what is in memory does not overtake what is known to wait
            why = trouble if self._waiting() else None
        finally:
            if token is not None:
                with suppress(OSError):
                    self._spool.release(token)
        self._say(self._drain_memory(trouble) if why is None else self._left(why))

    # what waits

    def _keep(self, message: bytes) -> None:
        """Put a message at the end of the spool; behind those in memory, so that order holds."""
        self._held.append(message)
        with suppress(OSError):
            while self._held and not self._flying:
                self._spool.put(self._held[0])
                self._held.pop(0)

    def _acquire(self) -> str | None:
        """Take the spool's lock, waiting for the process that is sending: it may not have seen the newest event."""
        ends = self._clock() + self._patience
        while (token := self._spool.acquire()) is None and self._clock() < ends:
            self._sleep(0.05)
        return token

    def _drain(self, token: str | None) -> str | None:
        """Send the messages in the spool; return why it stopped, None if all are gone."""
        while messages := self._spool.waiting():
            for message in messages:
                if token is not None and not self._spool.renew(token):
                    return "another process has taken over"
                outcome = self._forward(message)
                if outcome.kind == "later":
                    return outcome.why
        return None

    def _forward(self, message: Path) -> _Outcome:
        """Send one message of the spool, and take it out unless it has to wait."""
        data = message.read_bytes()
        outcome = self._send(data) if _is_whole(data) else _Outcome("refused", _CUT_OFF)
        if outcome.kind == "refused":
            self._note(outcome.why, self._spool.reject(message, outcome.why))
        elif outcome.kind == "taken":
            message.unlink()
        return outcome

    def _drain_memory(self, trouble: str | None) -> str | None:
        """Send the messages that the spool could not take; return what is to be said, None if all are gone."""
        while True:
            with self._lock:
                if not self._held:
                    return None
                message, self._flying = self._held[0], True
            outcome = self._send(message)
            with self._lock:
                self._flying = False
                if outcome.kind != "later":
                    self._held.pop(0)
            if outcome.kind == "later":
                return self._left(outcome.why if trouble is None else f"{outcome.why}, and {trouble}")
            if outcome.kind == "refused":
                self._note(outcome.why, None)

    def _waiting(self) -> int:
        """Return how many messages are known to wait in the spool."""
        with suppress(OSError):
            return len(self._spool.waiting())
        return 0

    def _left(self, why: str) -> str | None:
        """Return what is to be said of events that could not be sent."""
        with self._lock:
            held = len(self._held)
        count = self._waiting()
        told = [f"{_events(count)} in {self._spool.folder} until the next run"] if count else []
        if held:
            told.append(f"{_events(held)} in memory only, and {'are' if held > 1 else 'is'} lost when the process ends")
        return f"{self.name}: {why}; {'; '.join(told)}" if told else None

    def _note(self, why: str, kept: Path | None) -> None:
        with self._lock:
            self._refused.setdefault(why, []).append(kept)

    def _say(self, state: str | None) -> None:
        with self._lock:
            self._state = state

    # sending

    def _send(self, data: bytes) -> _Outcome:
        """Try to send an event, several times if that can help."""
        ends = self._clock() + self._patience
        outcome = _Outcome("later", "there is no time left to try")
        tried = 0
        while (left := ends - self._clock()) > 0:
            outcome = self._post(data, min(self._timeout, left))
            tried += 1
            if outcome.kind != "later" or not outcome.again or tried >= self._attempts:
                break
            wait = max(outcome.wait, min(2.0, 0.25 * 2 ** (tried - 1)) * (0.5 + self._jitter() / 2))
            if wait > ends - self._clock():
                break  # it would be too late by then
            self._sleep(wait)
        return outcome

    def _post(self, data: bytes, timeout: float) -> _Outcome:
        request = Request(self.url, data, self._headers, method="POST")  # noqa: S310  # http or https, checked
        try:
            with self._opener.open(request, timeout=timeout):
                return _Outcome("taken")
        except HTTPError as answer:
            with answer:
                return self._judge(answer)
        except (OSError, HTTPException, ValueError) as error:
            return _Outcome("later", f"it cannot be reached ({self._hidden(_reason(error))})")

    def _judge(self, answer: HTTPError) -> _Outcome:
        code = answer.code
        if code >= 500 or code in _TAKE_IT_SLOWLY:
            return _Outcome("later", f"it answers {code}", _retry_after(answer.headers))
        if code < 400:
            to = self._hidden(public(str(answer.headers.get("Location", "elsewhere"))))
            return _Outcome("later", f"it answers {code}: write the address that it moved to, {to}", again=False)
        text = ""
        with suppress(OSError, HTTPException):
            text = answer.read(2_000).decode("utf-8", "replace").strip()
        return _Outcome("refused", self._hidden(f"{code} {answer.reason} {text}".strip()))

    def _hidden(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _without_user(url: str) -> tuple[str, dict[str, str]]:
    """Return an address without the user and password in it, and the header that carries them."""
    whole = public(url)
    if whole == url:
        return url, {}
    user = unquote(url.partition("://")[2][: len(url) - len(whole) - 1])
    return whole, {"Authorization": f"Basic {b64encode(user.encode()).decode()}"}


def _events(count: int) -> str:
    return f"{count} OpenLineage event{'s wait' if count > 1 else ' waits'}"


def _several(count: int) -> tuple[str, str]:
    return ("an OpenLineage event", "is") if count == 1 else (f"{count:,} OpenLineage events", "are")


def _is_whole(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _retry_after(headers: Message[str, str]) -> float:
    """Return the seconds that an endpoint asks to wait; a date counts from the answer's own."""
    given = headers.get("Retry-After", "")
    with suppress(ValueError, TypeError):
        return float(int(given))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(given) - parsedate_to_datetime(headers["Date"])).total_seconds())
    return 0.0


def _reason(error: BaseException) -> str:
    """Return what happened, without the paths and numbers that errors of the system carry."""
    inner = getattr(error, "reason", error)  # urllib wraps what happened
    return first_line(getattr(inner, "strerror", None) or str(inner) or type(inner).__name__)
