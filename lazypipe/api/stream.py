"""Pipelines that run again and again, on what arrives."""

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
    """Run a pipeline again and again, over what came since: iterate over the result to run it, batch after batch.

    Each batch is a run as ``Plan.run`` makes it; where nothing came nothing is written. The definition is compiled for each batch, so
    that contracts decide over files as they come. A source without files is waited for. A batch that cannot be completed is tried
    again, if what went wrong may pass; its result is given each time, and the last one ends the stream.

    Parameters
    ----------
    trigger
        When batches begin. Default: as soon as anything came, which is looked for every ten seconds.
    pull
        Source → what is read on from a position, for sources that are no files, as of ``Pipeline.pull``: each is asked at every look, and
        again at once where something came.
    max_files, max_rows, max_bytes
        How much a batch takes in at most, as of ``Plan.run``; where something is left the next one follows at once.
    since, until
        Which files are taken in, by when they were written, as of ``Plan.run``: ``since`` begins a stream without what came before.
    on_gate_failure
        ``stop``, or ``continue``: the batch is tried again when something else has come.
    backoff
        How long to wait after failures that may pass, and how often. Default: see ``Backoff``.
    on_retry
        Is told what failed before a batch had begun, such as a look at a store that is away, and how many seconds are waited until it is
        tried again; batches that fail are given as results.
    params, env, allow
        As of ``Pipeline.compile``.
    observer, actor, code, emit
        As of ``Plan.run``.
    clock, sleep, rng
        What tells the time, waits, and shortens waits at random. Default: those of the machine; sleep ends early when ``stop`` is called.

    Returns
    -------
    Stream
        With ``stop()``, which ends it after the batch that is running, and ``until_signalled()``, which has signals do so.

    Raises
    ------
    LazypipeError
        If the definition, a bound or what pulls is wrong; when iterated over, also if a source cannot be listed for good.

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
        lambda now: definition.compile(now=now, env=env, allow=allowed, params=params),
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
