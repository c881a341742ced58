"""A stream: one run after another, each over what has arrived since, until it is stopped.

Each micro-batch is a run like any other: the same plan, gates, commit, record. What was taken in stands in the outputs' own commits,
so that a stream may be killed at any moment, and started again, or followed by a batch run. Where nothing came, nothing is
written: a look is one listing of each source, and of each output's log.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Literal

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import LazypipeError
from lazypipe.incremental.bound import UNBOUND, Bound
from lazypipe.incremental.leaf import Came
from lazypipe.incremental.pending import pending
from lazypipe.incremental.stamps import nanoseconds
from lazypipe.incremental.unreadable import rows_in
from lazypipe.run.arrival import Extents, arrived
from lazypipe.run.delivery import listing
from lazypipe.run.result import RunResult
from lazypipe.run.retry import Backoff, is_transient
from lazypipe.run.trigger import Trigger

__all__ = ["OnGateFailure", "Stream"]

OnGateFailure = Literal["stop", "continue"]
_File = tuple[str, str, int | None, str | None]
_AT_FIRST = 5
"""Failures in a row that are enough for a stream that has never got to look at what is there."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Stream:
    """Micro-batches, as an iterator over their results. It ends when it is stopped, or when no output can be made.

    If some outputs fail and others do not, the stream goes on. An output whose source cannot be read is tried again at every look, and what failed
    for another reason when something else has arrived. If all outputs fail permanently, that result is the last one. An error before a batch has
    started is raised.

    Parameters
    ----------
    compile
        Compiles the definition for a point in time, without outputs whose sources cannot be read. It is called for each batch, so files are checked
        as they are by then.
    run
        Runs a batch.
    trigger
        When batches start.
    on_gate_failure
        ``stop``: a failed gate ends the stream; ``continue``: the batch is tried again when something else has arrived.
    backoff, rng
        How long to wait after failures that may pass.
    clock
        Returns the time.
    sleep
        Waits for a number of seconds. Default: until then, or until ``stop`` is called.
    bound
        Which files batches take, by when they were written. Other files start no batch.
    pull
        Stores new rows of brokers, databases and APIs as files, and returns what came. If something came, there may be more.
    on_retry
        Called with an error that occurred before a batch had started, and the seconds until the next attempt.
    """

    compile: Callable[[datetime], CompiledPipeline] = field(repr=False)
    run: Callable[[CompiledPipeline, datetime], RunResult] = field(repr=False)
    clock: Callable[[], datetime] = field(repr=False)
    rng: random.Random = field(repr=False)
    trigger: Trigger = Trigger()
    on_gate_failure: OnGateFailure = "stop"
    backoff: Backoff = Backoff()
    sleep: Callable[[float], object] | None = field(default=None, repr=False)
    bound: Bound = UNBOUND
    pull: Callable[[], Sized] = field(default=tuple, repr=False)
    on_retry: Callable[[LazypipeError, float], object] = field(default_factory=lambda: lambda *_: None, repr=False)
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)
    _counts: dict[Came, int] = field(default_factory=dict, repr=False)
    _since: datetime | None = field(default=None, repr=False)
    _behind: bool = field(default=False, repr=False)
    _moved: frozenset[str] = field(default=frozenset(), repr=False)
    _corrupt: set[_File] = field(default_factory=set, repr=False)
    _times: Extents = field(default_factory=dict, repr=False)
    _tried: Mapping[str, object] | None = field(default=None, repr=False)
    _told: Mapping[str, str] = field(default_factory=dict, repr=False)
    _failed: bool = field(default=False, repr=False)

    def stop(self) -> None:
        """End the stream after the current batch, or at once if none is running. Can be called from any thread."""
        self._stopped.set()

    @contextmanager
    def until_signalled(self, leave: Callable[[int], object] = os._exit) -> Iterator[Stream]:
        """Stop at SIGTERM or SIGINT, like ``stop``. A second signal ends the process at once, which is safe at any time.

        Must be entered in the main thread. ``leave`` ends the process with an exit code.

        Raises
        ------
        LazypipeError
            If it is entered in another thread, to which the system brings no signals.
        """
        if threading.current_thread() is not threading.main_thread():
            what = "until_signalled is entered in a thread other than the main one, which alone can wait for signals"
            raise LazypipeError(f"{what}; leave it out, and call stop() to end the stream")
        reading, writing = socket.socketpair()
        writing.settimeout(0)

        def watch() -> None:
            # in a thread: while the engine runs, Python calls no handler in the main one
            count = 0
            while numbers := reading.recv(64):
                for number in numbers:
                    if number in _SIGNALS:
                        count += 1
                        self.stop() if count == 1 else leave(128 + number)

        watching = threading.Thread(target=watch, name="lazypipe-signals", daemon=True)
        watching.start()
        handlers = {number: signal.signal(number, lambda *_: self.stop()) for number in _SIGNALS}
        waker = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield self
        finally:
            signal.set_wakeup_fd(waker)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            writing.close()
            watching.join()
            reading.close()

    def __iter__(self) -> Iterator[RunResult]:
        """Run batch after batch."""
        failures, plan, most = 0, None, min(self.backoff.attempts, _AT_FIRST)
        while not self._stopped.is_set():
            began = self.clock()
            # what is looked for is what was compiled for the last batch: schemas matter when there is something to read, or what cannot be
            anew = plan is None or bool(plan.lacking)
            try:
                came = bool(self.pull())
                plan = self.compile(began) if plan is None or anew else plan
                look = _Look(plan, began, self._corrupt, self._times)
                due = self._is_due(look)
                most = self.backoff.attempts
                if not due:
                    failures = 0
                    if came:
                        continue
                    if self.trigger.once:
                        return
                    self._pause_until_next(began)
                    continue
                plan = plan if anew else self.compile(began)
                failing = {**look.failing, **_lacking(plan)}
                if failures + 1 < min(self.backoff.attempts, _AT_FIRST):
                    self._give_time(failing)
                result = self.run(plan, began)
            except LazypipeError as error:
                failures, plan = failures + 1, None
                if not is_transient(error) or failures >= most:
                    raise
                wait = self.backoff.delay(failures, self.rng)
                self.on_retry(error, wait)
                self._pause(wait)
                continue
            self._told = _words(failing)
            yield result
            if result.status == "error":
                failures += 1
                gets_on = _gets_on(result)
                if any(map(is_transient, _failed(result, plan))) and (
                    failures < most or (gets_on and not self.trigger.once)
                ):
                    self._pause(self.backoff.delay(failures, self.rng))
                    continue
                if not gets_on:
                    return
            failures = 0
            self._note(result, look, failed=bool(_failed(result, plan)))
            if self._is_over(result, came=came):
                return
            if not (self._behind or came):
                self._pause_until_next(began)

    def _is_over(self, result: RunResult, *, came: bool) -> bool:
        if any(s.status == "gate_failed" for s in result.segments) and (
            self.on_gate_failure == "stop" or self.trigger.once
        ):
            return True
        more = self._behind if result.status == "error" else result.left
        return result.status == "interrupted" or (self.trigger.once and not more and not came)

    def _give_time(self, failing: Mapping[str, LazypipeError]) -> None:
        """Raise what keeps an output from being made, if it may pass and has not been told yet."""
        for name, error in failing.items():
            if name not in self._told and is_transient(error):
                raise error

    def _note(self, result: RunResult, look: _Look, *, failed: bool) -> None:
        """Remember what a batch has come to: whether it left something, and what it is of no use to look at again."""
        self._since, self._failed = None, failed
        self._corrupt = {(c.source, c.uri, c.size, c.stamp) for c in result.corrupt if c.stamp is not None}
        got_on = any(s.status == "done" and s.output in self._moved for s in result.segments)
        self._behind = result.left > 0 and got_on
        in_vain = not got_on or (result.status in ("gate_failed", "error") and not self._behind)
        self._tried = look.signature() if in_vain else None

    def _is_due(self, look: _Look) -> bool:
        """Whether a batch begins now: something came, or a source can no longer be read, or again."""
        listed = nanoseconds(look.now)
        begins = partial(pending, look.plan, listed=listed, now=listed // 1_000, bound=self.bound)
        found = begins(look)
        if not found.works and look.has_places:
            found = begins(look.in_places)
        self._moved = frozenset(found.works)
        look.failing = {**found.failed, **_lacking(look.plan)}
        if _words(look.failing) != self._told:
            self._since = None
            return True
        if not (found.works or self._failed) or (self._tried is not None and look.signature() == self._tried):
            self._since = None
            return False
        if self._behind or not self.trigger.gathers or not found.files:
            return True
        self._since = self._since or look.now
        rows = found.rows(partial(self._count, look)) if self.trigger.rows is not None else 0
        return self.trigger.is_due(found.files, rows, look.now - self._since)

    def _count(self, look: _Look, came: Came) -> int:
        """Return the rows of a file, counted when it is first seen."""
        if came not in self._counts:
            source = look.plan.nodes[came.source].source
            assert source is not None
            self._counts[came] = rows_in(source, came.file)
        return self._counts[came]

    def _pause_until_next(self, began: datetime) -> None:
        # a clock that went back is no reason to wait for longer than that
        passed = max(0.0, (self.clock() - began).total_seconds())
        self._pause(self.trigger.interval.total_seconds() - passed)

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            (self.sleep or self._stopped.wait)(seconds)


class _Look:
    """Each source as it is at one moment, listed once, without files that were found corrupt; if it has none it is waited for."""

    def __init__(self, plan: CompiledPipeline, now: datetime, corrupt: Container[_File], times: Extents) -> None:
        self.plan = plan
        self.now = now
        self.corrupt = corrupt
        self.times = times
        self.failing: Mapping[str, LazypipeError] = {}
        self._found: dict[str, Snapshot] = {}

    def __call__(self, name: str) -> Snapshot:
        if name not in self._found:
            source = self.plan.nodes[name].source
            assert source is not None
            found = listing(self.plan, source, self.now, patient=True)
            if self.corrupt:
                files = (f for f in found.files if (name, source.redact(f.uri), f.size, f.stamp) not in self.corrupt)
                found = replace(found, files=tuple(files))
            self._found[name] = found
        return self._found[name]

    @property
    def has_places(self) -> bool:
        """Whether the place of a file among others decides what its rows come under."""
        rules = [n.source.watermark for n in self.plan.nodes.values() if n.source is not None]
        return any(rule is not None and rule.by_files for rule in rules)

    def in_places(self, name: str) -> Snapshot:
        """Return a source with what it had reached ahead of each file: one that goes, or takes another place, has others judged again."""
        source = self.plan.nodes[name].source
        assert source is not None
        return arrived(self.plan, source, self(name), self.now, self.times)

    def signature(self) -> Mapping[str, object]:
        """Return what stands for all that is there to be read."""
        return {n: self._signature(n) for n, node in self.plan.nodes.items() if node.source is not None}

    def _signature(self, name: str) -> object:
        try:
            found = self(name)
        except LazypipeError:
            return None
        return found.files if found.commit is None else found.commit.version


def _lacking(plan: CompiledPipeline) -> Mapping[str, LazypipeError]:
    return {name: lacking.error for name, lacking in plan.lacking.items()}


def _words(failing: Mapping[str, LazypipeError]) -> Mapping[str, str]:
    """Return what is told of outputs that cannot be made, once; what may pass is told in other words each time."""
    return {n: "" if is_transient(error) else str(error) for n, error in failing.items()}


def _gets_on(result: RunResult) -> bool:
    """Whether some output did not fail, so that a stream goes on for it."""
    fine = any(s.output is not None and s.status not in ("error", "blocked") for s in result.segments)
    return fine and result.error is None


def _failed(result: RunResult, plan: CompiledPipeline) -> list[LazypipeError]:
    """Return what went wrong in a run; sources that cannot be read are looked at again in any case."""
    failed = (s.error for s in result.segments if s.status == "error" and s.output not in plan.lacking)
    return [e for e in (*failed, result.error) if e is not None]
