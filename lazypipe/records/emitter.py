"""OpenLineage events of one run: created and handed to transports, without ever failing the run or delaying it for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.errors import LazypipeError, first_line
from lazypipe.gates.report import GateReport
from lazypipe.records.transport import FileTransport, Transport
from lazypipe.spec.model import NOTHING

__all__ = ["Emitter"]


class Emitter:
    """Sends events about a run of a compiled pipeline, to where its definition says and to further transports.

    Parameters
    ----------
    parent
        What started the run: ``run``, ``job`` and ``namespace``.
    wait
        Seconds that ``finish`` waits for transports at the most.
    clock
        The clock to wait by.
    """

    def __init__(
        self,
        plan: CompiledPipeline,
        transports: Sequence[Transport] = (),
        *,
        parent: Mapping[str, str] | None = None,
        wait: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        given = transports if isinstance(transports, Sequence) else [None]
        if not all(isinstance(t, Transport) for t in given):
            what = f"emit is {transports!r}, which is not a list of transports"
            raise LazypipeError(f"{what}; write [lp.FileTransport(…)], or objects with the same methods")
        settings = plan.openlineage
        own: list[Transport] = []
        if "url" in settings:
            from lazypipe.records.endpoint import HttpTransport

            own.append(HttpTransport.of(settings))
        if "file" in settings:
            own.append(FileTransport(settings["file"]))
        self._plan = plan
        self._parent = parent
        self._wait = wait
        self._clock = clock
        self._lanes = [_Lane(t) for t in (*own, *transports)]
        self._problems: list[str] = []

    def emit(self, body: Callable[[], Mapping[str, Any]], gates: Mapping[str, GateReport] = NOTHING) -> None:
        """Make an event of a record's body and hand it to every transport; without any, nothing is done."""
        if not self._lanes:
            return
        from lazypipe.records.openlineage import NAMESPACE, run_event

        namespace = str(self._plan.openlineage.get("namespace", NAMESPACE))
        try:
            event = run_event(self._plan, body(), gates=gates, parent=self._parent, namespace=namespace)
        except Exception as error:  # an event is never worth a run
            self._problems.append(f"an OpenLineage event could not be made: {_told(error)}")
            return
        for lane in self._lanes:
            lane.emit(event)

    def finish(self) -> tuple[str, ...]:
        """Wait a little for transports that are still sending; return what went wrong, each thing once."""
        ends = self._clock() + self._wait
        problems = list(self._problems)
        for lane in self._lanes:
            problems += lane.finish(max(0.0, ends - self._clock()))
        return tuple(dict.fromkeys(self._plan.redact(p) for p in problems))


class _Lane:
    """One transport, and the thread in which it sends while there is something to send."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._again = False
        self._problems: list[str] = []

    def emit(self, event: Mapping[str, Any]) -> None:
        self._try(lambda: self._transport.emit(event))
        with self._lock:
            self._again = True
            if self._idle.is_set():
                self._idle.clear()
                # a daemon: an endpoint that hangs must not keep the process from ending
                threading.Thread(target=self._work, name="lazypipe-openlineage", daemon=True).start()

    def finish(self, timeout: float) -> list[str]:
        with suppress(KeyboardInterrupt):  # the run is over: the user who stops it now does not want to wait
            self._idle.wait(timeout)
        if not self._idle.is_set():
            name = getattr(self._transport, "name", type(self._transport).__name__)
            self._problems.append(f"{name}: sending takes too long, and the run does not wait for it")
        self._try(lambda: self._problems.extend(self._transport.problems()))
        told, self._problems = self._problems, []
        return told

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._again:
                    self._idle.set()
                    return
                self._again = False
            self._try(self._transport.flush)

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # transports may be the user's own: their errors are reported
            self._problems.append(f"OpenLineage: {_told(error)}")


def _told(error: Exception) -> str:
    return first_line(str(error) or type(error).__name__)
