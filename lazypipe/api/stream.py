"""Pipelines that run repeatedly, on whatever arrives."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, get_args

from lazypipe.api.pipeline import Pipeline
from lazypipe.api.plan import bound_of
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.errors import LazypipeError
from lazypipe.incremental.bound import Bound
from lazypipe.records.transport import Transport
from lazypipe.run.context import Observer, run_id
from lazypipe.run.executor import execute
from lazypipe.run.pull import Puller, Reader
from lazypipe.run.result import RunResult
from lazypipe.run.retry import Backoff
from lazypipe.run.stream import OnGateFailure, Stream
from lazypipe.run.trigger import Trigger
from lazypipe.spec import model

__all__ = ["stream"]


def stream(
    pipeline: model.Pipeline,
    trigger: Trigger | None = None,
    *,
    pull: Mapping[str, Reader] | None = None,
    max_files: int | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    since: datetime | date | str | None = None,
    until: datetime | date | str | None = None,
    on_gate_failure: OnGateFailure = "stop",
    backoff: Backoff | None = None,
    on_retry: Callable[[LazypipeError, float], object] = lambda *_: None,
    params: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    allow: Iterable[str] = (),
    observer: Observer = lambda *_: None,
    actor: str | None = None,
    code: str | None = None,
    emit: Sequence[Transport] = (),
    clock: Callable[[], datetime] | None = None,
    sleep: Callable[[float], object] | None = None,
    rng: random.Random | None = None,
) -> Stream:
    """Run a pipeline repeatedly, as a stream of micro-batches. Iterate over the result to run it; each batch's result is yielded.

    Each batch is a run like that of ``Plan.run``. If nothing new has arrived, nothing is written. The definition is compiled for each batch, so
    contracts are applied to files as they arrive. A source without files is waited for. If a batch fails for a reason that may pass, it
    is tried again. If only some outputs fail, the stream goes on with the others: one whose source cannot be read is looked at again at every check,
    and one that failed for another reason is tried again when something else has arrived. Every result is yielded. The stream ends when all outputs
    have failed for good.

    Parameters
    ----------
    trigger
        When batches start. Default: as soon as something has arrived, checked every ten seconds.
    pull
        Source name → ``Reader``, for brokers, databases and APIs (see ``Pipeline.pull``). Each is read at every check, and again at once if
        it returned something.
    max_files, max_rows, max_bytes
        The most that one batch takes, as for ``Plan.run``. If something is left, the next batch follows at once.
    since, until
        Take only files written in this time, as for ``Plan.run``. With ``since``, a stream can start without older files.
    on_gate_failure
        ``stop``: a failed gate ends the stream; ``continue``: the batch is tried again when something else has arrived.
    backoff
        How long to wait after failures that may pass, and how often. Default: see ``Backoff``.
    on_retry
        Called with an error that occurred before a batch had started, such as a store that cannot be reached, and the seconds until the next
        attempt. Batches that fail are yielded as results.
    params, env, allow
        As for ``Pipeline.compile``.
    observer, actor, code, emit
        As for ``Plan.run``.
    clock, sleep, rng
        The clock, the function that waits, and the random numbers that shorten waits. Default: those of the machine; a wait ends early when
        ``stop`` is called.

    Returns
    -------
    Stream
        Has ``stop()``, which ends it after the current batch, and ``until_signalled()``, which does so at a signal.

    Raises
    ------
    LazypipeError
        If the definition, a limit or a reader is wrong; during iteration, also if a source can permanently not be listed.

    Examples
    --------
    >>> from lazypipe.api.builder import pipeline
    >>> columns = {"columns": {"x": "Int64"}}
    >>> pipe = pipeline("p").source("a", "memory://nothing-yet/*.csv", contract=columns).output("a", "memory://out").build()
    >>> [result.status for result in stream(pipe, Trigger(once=True))]
    []
    """
    bound, definition = bound_of(max_files, max_rows, max_bytes, since, until), Pipeline.of(pipeline)
    if not isinstance(trigger, Trigger | None):
        raise LazypipeError(f"trigger is {trigger!r}; give one, such as lp.Trigger(every='10s')")
    if not isinstance(backoff, Backoff | None):
        raise LazypipeError(f"backoff is {backoff!r}; give one, such as lp.Backoff(attempts=5)")
    if on_gate_failure not in get_args(OnGateFailure):
        raise LazypipeError(f"on_gate_failure: {on_gate_failure!r}; write stop or continue")
    allowed, puller = tuple(allow), Puller(definition, pull or {}, os.environ if env is None else env)

    def run(plan: CompiledPipeline, now: datetime) -> RunResult:
        return execute(
            plan,
            run=run_id(now),
            now=now,
            observer=observer,
            bound=bound,
            patient=True,
            actor=actor,
            code=code,
            emit=emit,
        )

    return Stream(
        lambda now: definition.compile(now=now, env=env, allow=allowed, params=params, skip_unreadable=True),
        run,
        clock or (lambda: datetime.now(UTC)),
        rng or random.Random(),  # noqa: S311  # only so that many do not wait for just as long
        trigger or Trigger(),
        on_gate_failure,
        backoff or Backoff(),
        sleep,
        Bound(since=bound.since, until=bound.until),
        puller.pull,
        on_retry,
    )
