"""Definitions that feed each other: compiled together, so that one knows the columns another will write, and run in order."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from lazypipe.api.pipeline import Pipeline, load
from lazypipe.api.plan import Plan, when_fed
from lazypipe.compile.audit import bind_audit
from lazypipe.compile.compiled import Lacking
from lazypipe.compile.compiler import bind_outputs
from lazypipe.compile.feeding import Feed, Order, feeds, reads
from lazypipe.compile.graph import build, made_with
from lazypipe.compile.outputs.modes import written_schema
from lazypipe.compile.sources.binding import expand_source
from lazypipe.compile.sources.contract import read_contract
from lazypipe.compile.state import bind_state
from lazypipe.errors import AwayError, DefinitionError, LazypipeError, Problem, RunError, SourceError, nearest
from lazypipe.records.ledger import Ledger
from lazypipe.run.context import run_id
from lazypipe.run.not_begun import record_not_begun
from lazypipe.run.result import RunResult, RunResults, SegmentResult
from lazypipe.run.retry import TRIES
from lazypipe.spec import loader, model
from lazypipe.spec.model import Fault, freeze
from lazypipe.spec.types import dtype_name
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.files import exported
from lazypipe.storage.uri import Redactor

__all__ = [
    "Unread",
    "compile_together",
    "definitions",
    "held_up_in",
    "not_begun",
    "order_of",
    "run_all",
    "run_each",
    "several",
    "with_those_that_it_has",
]

_Written = tuple[model.Output, Mapping[str, str]]
"""An output with its columns and their types, as a contract writes them."""

_One = TypeVar("_One")


@dataclass(frozen=True)
class Unread:
    """A definition with syntax mistakes: these, and what is known about it nevertheless, at least its name."""

    error: LazypipeError
    pipeline: model.Pipeline

    @classmethod
    def of(cls, file: str | Path, error: LazypipeError) -> Unread:
        """Look at a file that could not be read as a definition."""
        nothing = model.Pipeline(str(file), {}, audit=model.Audit("off"), origin=model.Origin(str(file)))
        return cls(error, loader.sketch(file) or nothing)

    def compile(self, **_: Any) -> Plan:
        """Raise what is wrong."""
        raise self.error


def definitions(given: Iterable[Pipeline | Plan | Unread]) -> list[model.Pipeline]:
    """Return the definition behind each; of one that is wrong, as much as could be read."""
    return [p if isinstance(p, Pipeline) else p.pipeline for p in given]


def order_of(given: Sequence[Pipeline | Plan | Unread], outputs: Sequence[str]) -> Order:
    """Return in which order definitions run; see ``Order.of``.

    Raises
    ------
    LazypipeError
        As that does; of an output that nobody is known to have, with the files that cannot be read and may have it.
    """
    pipelines = definitions(given)
    unread, known = [p for p in given if isinstance(p, Unread)], [name for p in pipelines for name in p.outputs]
    for name in outputs if unread else ():
        if name not in known:
            reasons = "\n".join(str(p.error) for p in unread)
            what = f"unknown output {name!r}; {nearest(name, known, 'outputs')}; or it is in a definition that cannot be read:"
            raise LazypipeError(f"{what}\n{reasons}")
    return Order.of(pipelines, os.environ, outputs)


def compile_together(
    pipelines: Sequence[Pipeline | Plan | Unread],
    compile_one: Callable[[Pipeline], Plan],
    compile_rest: Callable[[Pipeline], Plan] | None = None,
) -> list[Plan | LazypipeError]:
    """Return the plan of each definition, or why there is none.

    A source without data has the columns of the output that another definition writes there, dataset or file, and those that its contract
    declares, as it declares them: so definitions can be checked, and their lineage shown, before any of them has run. Where that leaves a source
    that cannot be read, ``compile_rest`` makes a plan without the outputs that need it, if it is given.

    Examples
    --------
    >>> from lazypipe.api.builder import pipeline
    >>> raw = pipeline("raw").source("a", "/lake/a.csv", contract={"columns": {"x": "Int64"}}).output("a", "/lake/a").build()
    >>> report = pipeline("report").source("b", "/lake/a").output("b", "/lake/b").build()
    >>> dict(compile_together([report, raw], Pipeline.compile)[0].schema("b"))
    {'x': Int64}
    """
    found: list[Plan | LazypipeError] = [LazypipeError("")] * len(pipelines)
    written: list[_Written] = []
    waiting = list(range(len(pipelines)))
    while waiting:
        known = len(written)
        for index in waiting:
            given = pipelines[index]
            try:
                plan = compile_one(_with(given, written)) if isinstance(given, Pipeline) else _compiled(given)
            except LazypipeError as error:
                found[index] = error
            else:
                found[index] = plan
                written += _written(plan)
        # what came to be known may be what others wait for
        waiting = [i for i in waiting if isinstance(found[i], SourceError)] if len(written) > known else []
    if compile_rest is not None:
        _compile_rest(pipelines, found, compile_rest, written)
    if any(isinstance(one, SourceError) for one in found):
        found = _held_up(definitions(pipelines), found)
    return [_named(given, one) for given, one in zip(pipelines, found, strict=True)]


def _compile_rest(
    pipelines: Sequence[Pipeline | Plan | Unread],
    found: list[Plan | LazypipeError],
    compile_rest: Callable[[Pipeline], Plan],
    written: list[_Written],
) -> None:
    """Put plans without some outputs where sources cannot be read; again, as long as these write what others read."""
    partly = [(i, p) for i, p in enumerate(pipelines) if isinstance(found[i], SourceError) and isinstance(p, Pipeline)]
    known = -1
    while known < len(written):
        known = len(written)
        for index, given in partly:
            try:
                plan = found[index] = compile_rest(_with(given, written))
            except LazypipeError as error:
                found[index] = error
            else:
                written += [of for of in _written(plan) if of not in written]


def _held_up(pipelines: Sequence[model.Pipeline], found: Sequence[Plan | LazypipeError]) -> list[Plan | LazypipeError]:
    """Return what was found, where a source that is not there is to be written by a definition that is wrong with that as the reason."""
    told, fed = list(found), feeds(pipelines, os.environ)
    for feed in fed * len(found):  # one may be held up by another that is
        by, one = told[feed.by], told[feed.to]
        if _is_wrong(by) and isinstance(one, SourceError) and f"source {feed.source!r}:" in one.what:
            told[feed.to] = held_up(feed, pipelines, by)
    return told


def _is_wrong(found: Plan | LazypipeError) -> TypeGuard[DefinitionError]:
    return isinstance(found, DefinitionError) and not isinstance(found, AwayError)


def held_up(feed: Feed, pipelines: Sequence[model.Pipeline], by: LazypipeError) -> LazypipeError:
    """Return the error of a definition whose input another definition cannot write, for the reason ``by``."""
    reader = pipelines[feed.to].origin
    what = f"source {feed.source!r} reads output {feed.output!r} of {pipelines[feed.by].name!r}, which "
    if _is_wrong(by):
        return loader.problems([Fault(f"{what}is wrong", "fix that first", feed.path)], reader)
    return SourceError(str(Problem(f"{what}cannot be made", reader.locate(feed.path))))


def run_all(
    pipelines: Iterable[model.Pipeline | Plan | str | Path],
    *,
    params: Mapping[str, Any] | None = None,
    allow: Iterable[str] = (),
    outputs: Iterable[str] = (),
    now: datetime | None = None,
    **how: Any,
) -> RunResults:
    r"""Run several definitions in the order in which they feed each other.

    If one fails or is wrong, only the outputs that it feeds are held up. (If a file is not even YAML or JSON, it is unknown what it feeds.)
    A run that was overtaken by another one starts over, up to three times.

    Parameters
    ----------
    pipelines
        Definitions, definition files, or plans; plans run as they were compiled.
    params
        Parameter values. Each definition gets those that it declares.
    allow
        Modules whose functions ``python`` operations may call.
    outputs
        Make only these outputs and what they depend on, in whichever definition they are. Default: all.
    now
        The time of each run. Default: the machine's clock.
    how
        Further arguments of ``Plan.run``. To a definition that is fed by others, ``since``, ``until`` and ``window`` apply only as far as
        it reads files of its own.

    Returns
    -------
    RunResults
        Also if something failed: see its ``status``, or call ``raise_for_status()``.

    Raises
    ------
    DefinitionError
        If definitions feed each other in a circle; nothing was run.
    LazypipeError
        If two definitions have the same name, or no definition has a parameter or output that was passed.

    Examples
    --------
    >>> import fsspec
    >>> from lazypipe.api.builder import pipeline
    >>> fsspec.filesystem("memory").pipe("/two/a.csv", b"x\n1\n2\n")
    >>> raw = pipeline("raw", base="memory://two").source("a", "a.csv").output("a", "out/a").build()
    >>> report = pipeline("report", base="memory://two").source("b", "out/a").stage("sum", "b", [{"aggregate": {"aggregate": {"n": "sum(x)"}}}])
    >>> run_all([report.output("sum", "out/sum").build(), raw])
    <RunResults raw: done, report: done>
    """
    given = [
        _read(p) if isinstance(p, str | Path) else p if isinstance(p, Plan) else Pipeline.of(p)
        for p in several(pipelines)
    ]
    found = run_each(given, params=params, allow=allow, outputs=outputs, now=now, **how)
    return RunResults({result.pipeline: result for _, result in found})


def several(pipelines: Iterable[_One]) -> Iterable[_One]:
    """Return definitions as they are given; raises LazypipeError for one alone."""
    if isinstance(pipelines, str) or not isinstance(pipelines, Iterable):
        raise LazypipeError(f"{type(pipelines).__name__} is not a list of definitions; write it in one: […]")
    return pipelines


def _read(file: str | Path) -> Pipeline | Unread:
    try:
        return load(file)
    except DefinitionError as error:
        return Unread.of(file, error)


def run_each(
    given: Sequence[Pipeline | Plan | Unread],
    *,
    params: Mapping[str, Any] | None = None,
    allow: Iterable[str] = (),
    outputs: Iterable[str] = (),
    now: datetime | None = None,
    **how: Any,
) -> Iterator[tuple[int, RunResult]]:
    """Yield what became of each definition as soon as that is known, with its number; see ``run_all``."""
    pipelines = definitions(given)
    params = {} if params is None else params
    if len(pipelines) > 1 and how.get("run"):
        raise LazypipeError(f"run={how['run']!r} names one run, and these are several; leave it out")
    order = order_of(given, [outputs] if isinstance(outputs, str) else [*outputs])
    if not any(isinstance(p, Unread) for p in given):  # which may have it
        with_those_that_it_has(params, *pipelines)
    lacking: set[tuple[int, str]] = set()
    stopped = False
    for number, unread in enumerate(given):
        if isinstance(unread, Unread) and number not in order.numbers:
            # what is asked for may be made of what it was to write; nothing says so, and its ledger is left alone
            yield number, _run(replace(unread.pipeline, audit=model.Audit("off")), unread.compile, now=now)
    for number in order.numbers:
        one, asked = given[number], order.asked[number]
        wanted = asked or frozenset(pipelines[number].outputs)
        held_up = {
            name: f"source {f.source!r} reads output {f.output!r} of {pipelines[f.by].name!r}, which was not made"
            for name, f in _held_up_by(pipelines[number], order.of_outputs(number, lacking)).items()
            if name in wanted
        }
        if stopped or (held_up and held_up.keys() == wanted):
            why = "the run was stopped" if stopped else next(iter(held_up.values()))
            result = _not_run(pipelines[number], asked, now, why, how)
        else:
            rest = wanted - held_up.keys() if held_up else asked
            some = with_those_that_it_has(params, pipelines[number])
            compiled = partial(_compiled, one, now=now, allow=allow, outputs=rest, params=some, skip_unreadable=True)
            if held_up:
                compiled = partial(_compiled_without, compiled, pipelines[number], held_up)
            result = _run(pipelines[number], compiled, is_fed=order.is_fed(number), outputs=asked, now=now, **how)
        stopped = stopped or result.status == "interrupted"
        made = {s.output for s in result.segments if s.status in ("done", "unchanged", "waiting")}
        lacking |= {(number, name) for name in asked or pipelines[number].outputs if name not in made}
        yield number, result


def _compiled(given: Pipeline | Plan | Unread, **how: Any) -> Plan:
    return given if isinstance(given, Plan) else given.compile(**how)


def _held_up_by(pipeline: model.Pipeline, fed: Sequence[Feed]) -> dict[str, Feed]:
    """Return the outputs that are made of sources which others write, with the first of these."""
    graph = build(pipeline, [])
    return {name: f for f in reversed(fed) for name in made_with(pipeline, graph, {f.source})}


def _compiled_without(compiled: Callable[[], Plan], pipeline: model.Pipeline, held_up: Mapping[str, str]) -> Plan:
    return _without(compiled(), pipeline, held_up)


def _without(plan: Plan, pipeline: model.Pipeline, held_up: Mapping[str, str]) -> Plan:
    """Return a plan in which outputs are blocked, with the reason of each."""
    outputs, secrets = bind_outputs(pipeline, os.environ, [])
    redact = Redactor(tuple(secrets))
    lacking = {n: Lacking(redact(outputs[n].to), SourceError(why), blocked=True) for n, why in held_up.items()}
    return replace(plan, lacking={**plan.lacking, **lacking})


def held_up_in(
    plan: Plan | LazypipeError,
    fed: Sequence[Feed],
    pipelines: Sequence[model.Pipeline],
    why: Mapping[tuple[int, str], LazypipeError],
) -> Plan | LazypipeError:
    """Return a plan in which the outputs are blocked that are made of what others cannot make, for the reasons ``why``; an error if these are all.

    Parameters
    ----------
    fed
        The sources of it that others cannot write.
    """
    if isinstance(plan, LazypipeError) or not fed:
        return plan
    wanted = frozenset(plan.asked or plan.outputs)
    blocked = {n: f for n, f in _held_up_by(pipelines[fed[0].to], fed).items() if n in wanted or n in plan.lacking}
    if not blocked:
        return plan
    rest = wanted.difference(blocked, plan.lacking)
    if not rest:
        feed = next(iter(blocked.values()))
        return held_up(feed, pipelines, why[feed.by, feed.output])
    reasons = {n: str(held_up(f, pipelines, why[f.by, f.output])) for n, f in blocked.items()}
    return replace(_without(plan, pipelines[fed[0].to], reasons), asked=rest)


def with_those_that_it_has(params: Mapping[str, Any], *pipelines: model.Pipeline) -> dict[str, Any]:
    """Return the parameters that a definition has of those that are given to several; of several definitions, all: raises LazypipeError for others."""
    known = {name for p in pipelines for name in p.params}
    if len(pipelines) > 1 and (unknown := next((n for n in params if n not in known), None)) is not None:
        raise LazypipeError(f"unknown parameter {unknown!r}; {nearest(unknown, known, 'parameters')}")
    return {n: v for n, v in params.items() if n in known}


def _run(
    pipeline: model.Pipeline, compiled: Callable[[], Plan], *, now: datetime | None, is_fed: bool = False, **how: Any
) -> RunResult:
    """Run a definition, again where another run overtook it; what keeps it from beginning is in the result."""
    begun, clock = now or datetime.now(UTC), time.perf_counter()
    try:
        plan = compiled()
        bound = when_fed(plan, how) if is_fed else how
        result, tries = plan.run(now=now, **bound), 1
        while result.overtaken and tries < TRIES:
            tries += 1
            name = {"run": f"{bound['run']}.{tries}"} if bound.get("run") else {}  # which no two have
            result = compiled().run(now=now, **{**bound, **name})
    except LazypipeError as error:
        ended: RunResult | None = error.result if isinstance(error, RunError) else None
        if ended is not None:
            return ended  # it had begun, and the ledger has it by its own name
        result = RunResult(
            how.get("run") or run_id(begun), pipeline.name, begun, time.perf_counter() - clock, {}, (), "", error=error
        )
        return _recorded(result, pipeline, how.get("outputs", ()), str(error), how)
    return result


def not_begun(file: str | Path, error: LazypipeError, *, outputs: Collection[str]) -> tuple[str, ...]:
    """Record in a definition's ledger that a run did not begin, and why; return warnings about the recording."""
    now, given = datetime.now(UTC), _read(file)
    pipeline = given.pipeline if isinstance(given, Unread) else given
    result = RunResult(run_id(now), pipeline.name, now, 0.0, {}, (), "", error=error)
    return _recorded(result, pipeline, outputs, str(error), {}).warnings


def _not_run(
    pipeline: model.Pipeline, asked: Collection[str], now: datetime | None, why: str, how: Mapping[str, Any]
) -> RunResult:
    names = [n for n in pipeline.outputs if not asked or n in asked]
    segments = tuple(SegmentResult(n, "blocked", n, why=why) for n in names)
    begun = now or datetime.now(UTC)
    result = RunResult(how.get("run") or run_id(begun), pipeline.name, begun, 0.0, {}, segments, "")
    return _recorded(result, pipeline, asked, why, how)


def _recorded(
    result: RunResult, pipeline: model.Pipeline, asked: Collection[str], why: str, how: Mapping[str, Any]
) -> RunResult:
    """Record in the ledger of a definition that a run of it did not begin, if it has a ledger whose place is known."""
    faults: list[Fault] = []
    outputs, secrets = bind_outputs(pipeline, os.environ, faults)
    state, more = bind_state(pipeline, os.environ, faults)
    audit, other = bind_audit(pipeline, os.environ, state, faults)
    if not audit.is_on or faults:
        return result
    book, redact = Ledger.of(audit), Redactor((*secrets, *more, *other))
    actor = how.get("actor") or audit.actor
    warning = record_not_begun(result, pipeline, outputs, redact, book, actor, asked, why)
    return result if warning is None else replace(result, warnings=(warning,))


def _written(plan: Plan) -> list[_Written]:
    """Return the outputs of a plan with their columns, without outputs that only delete keys."""
    return [
        (output, {n: dtype_name(t) for n, t in written_schema(output, plan.schema(output.stage)).items()})
        for output in plan.outputs.values()
        if output.mode != "delete"
    ]


def _with(pipeline: Pipeline, written: Sequence[_Written]) -> Pipeline:
    """Return a definition whose sources have the columns of what is written there, where nothing is yet."""
    sources = dict(pipeline.sources)
    for name, source in pipeline.sources.items():
        if len(source.uri) > 1:
            continue
        try:
            contract = read_contract(source.contract, ("sources", name, "contract"))
            (uri,), options, _, _ = expand_source(source, pipeline.base, os.environ, ("sources", name))
        except Fault:
            continue  # reported when it is compiled
        output, columns = next((w for w in written if reads(w[0], replace(source, uri=(uri,)))), (None, {}))
        if output is None or not contract.is_open:
            continue
        more = {n: t for n, t in columns.items() if n not in contract.aliases}
        declared = {**more, **source.contract.get("columns", {})}
        known = freeze({**source.contract, "columns": declared, "on_new_column": "fail"})  # there are no others
        if output.format == "dataset" and not Dataset(uri, options).log.last():
            sources[name] = replace(source, format=source.format or "dataset", contract=known)
        elif output.format != "dataset" and exported(uri, options) is None:
            sources[name] = replace(source, contract=known)
    return replace(pipeline, sources=sources)


def _named(given: Pipeline | Plan | Unread, found: Plan | LazypipeError) -> Plan | LazypipeError:
    """Return an error of a source with the definition that it is of, for there are several."""
    if isinstance(found, SourceError) and not isinstance(found, AwayError) and isinstance(given, Pipeline):
        return SourceError(f"{given.origin.file}: {found.what}", uri=found.uri, fix=found.fix)
    return found
