"""The public face: definitions that compile, plans that run, and gates and operations on frames of one's own."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self, get_args

import polars as pl

from lazypipe import gates, ops
from lazypipe.compile.audit import BoundAudit, bind_audit
from lazypipe.compile.compiler import CompiledPipeline, bind_outputs, compile_pipeline
from lazypipe.compile.graph import outside
from lazypipe.compile.node import compile_checks
from lazypipe.compile.sources import BoundSource, Snapshot, bind
from lazypipe.contracts import Column, Contract
from lazypipe.errors import LazypipeError, RunError, first_line, nearest
from lazypipe.gates.alone import Split, check_frame, split_frame
from lazypipe.gates.report import GateReport
from lazypipe.incremental import preview as previews
from lazypipe.incremental.bound import Bound
from lazypipe.incremental.diff import diff
from lazypipe.plan.catalog import join
from lazypipe.plan.graph import Lineage
from lazypipe.records import audit as audits
from lazypipe.records.audit import AuditReport
from lazypipe.records.ledger import Ledger
from lazypipe.records.transport import Transport
from lazypipe.run import panes
from lazypipe.run import replay as replays
from lazypipe.run import trace as traces
from lazypipe.run.arrival import Extents, arrived
from lazypipe.run.backfill import TimeRange, pieces, refuse_timeless, touched, within
from lazypipe.run.context import Observer
from lazypipe.run.delivery import listing, whole
from lazypipe.run.executor import execute
from lazypipe.run.late import late_rows
from lazypipe.run.maintenance import vacuum_pipeline
from lazypipe.run.panes import WindowHistory
from lazypipe.run.replay import ReplayResult
from lazypipe.run.result import RunResult
from lazypipe.run.retry import Backoff
from lazypipe.run.stream import OnGateFailure, Stream
from lazypipe.run.trace import Trace
from lazypipe.run.trigger import Trigger
from lazypipe.spec import loader, model
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.model import Fault, Origin, Step, freeze
from lazypipe.spec.scope import Scope, Table
from lazypipe.spec.types import dtype_name
from lazypipe.spec.words import plain
from lazypipe.storage.dataset import Dataset, scan

__all__ = [
    "Builder",
    "Pipeline",
    "Plan",
    "apply",
    "audit_report",
    "catalog",
    "check",
    "diff",
    "history",
    "ledger",
    "load",
    "pipeline",
    "replay",
    "rollback",
    "split",
    "stream",
    "trace",
    "vacuum",
    "window_history",
]


@dataclass(frozen=True)
class Pipeline(model.Pipeline):
    r"""A definition: what was written, ready to be compiled.

    Examples
    --------
    >>> text = "version: 1\nname: p\nsources: {a: {uri: a.csv}}\noutputs: {a: {to: out}}\n"
    >>> pipe = Pipeline.from_yaml(text)
    >>> Pipeline.from_yaml(pipe.to_yaml()) == pipe
    True
    """

    @classmethod
    def of(cls, spec: model.Pipeline) -> Self:
        """Return a specification as a definition that compiles."""
        return cls(**{f.name: getattr(spec, f.name) for f in fields(spec)})

    @classmethod
    def from_yaml(cls, text: str, *, base: str | os.PathLike[str] = ".") -> Self:
        """Read a definition from YAML text; relative URIs start from ``base``."""
        return cls.of(loader.from_yaml(text, base=os.fspath(base)))

    @classmethod
    def from_json(cls, text: str, *, base: str | os.PathLike[str] = ".") -> Self:
        """Read a definition from JSON text; relative URIs start from ``base``."""
        return cls.of(loader.from_json(text, base=os.fspath(base)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, base: str | os.PathLike[str] = ".") -> Self:
        """Read a definition from plain data; relative URIs start from ``base``."""
        return cls.of(loader.from_dict(data, base=os.fspath(base)))

    def to_yaml(self) -> str:
        """Return the definition as YAML; raises DefinitionError for what exists in Python only."""
        return loader.to_yaml(self)

    def to_json(self) -> str:
        """Return the definition as JSON; raises DefinitionError for what exists in Python only."""
        return loader.to_json(self)

    def compile(
        self,
        *,
        now: datetime | None = None,
        env: Mapping[str, str] | None = None,
        allow: Iterable[str] = (),
        params: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Plan:
        """Compile to a plan; reads nothing but schemas. Parameters are given by name, as values or text.

        ``now`` is what ``:now`` and rules about the past mean. Default: the machine's clock.

        Raises
        ------
        DefinitionError
            With every mistake found, each with file, line and column.
        SourceError
            If the schema of a source cannot be read.
        """
        moment = now or datetime.now(UTC)
        values = {**(params or {}), **more}
        compiled = compile_pipeline(self, values, now=moment, env=env, allow=allow, admit=partial(whole, moment))
        return Plan(**{f.name: getattr(compiled, f.name) for f in fields(compiled)})


@dataclass(frozen=True)
class Plan(CompiledPipeline):
    """A compiled pipeline that can be run."""

    def run(
        self,
        *,
        run: str | None = None,
        now: datetime | None = None,
        observer: Observer = lambda *_: None,
        work: Path | None = None,
        full: bool = False,
        max_files: int | None = None,
        max_rows: int | None = None,
        max_bytes: int | None = None,
        since: datetime | date | str | None = None,
        until: datetime | date | str | None = None,
        actor: str | None = None,
        code: str | None = None,
        outputs: Iterable[str] = (),
        emit: Sequence[Transport] = (),
        parent: Mapping[str, str] | None = None,
        window: TimeRange | Sequence[Any] | str | None = None,
    ) -> RunResult:
        """Run the plan: write, audit, publish, record; what has not changed since the last run is left as it is.

        Parameters
        ----------
        run
            The run's id. Default: the time and a random part.
        now
            The time that commits record. Default: the machine's clock. (``:now`` in expressions is set by ``compile``.)
        observer
            Called with segment, number, count and rows seen so far, from several threads.
        work
            Folder for rows kept between segments.
        full
            Whether all outputs are made anew, also those whose inputs have not changed.
        max_files, max_rows, max_bytes
            How much an output takes in at most of each source that it follows file by file, in the order in which the source is listed,
            one file at least; the rest is for later runs (``result.left``). Sources that are read in whole, and outputs that must
            be made anew from all rows (``plan.explain_incremental()``), are not bounded. An output that starts from nothing, or whose
            definition changed, holds the first files only until the last of such runs. Rows of files are counted ahead.
        since, until
            When files must have been written (by their stamps, not by what is in them) for this run to take them in, where it follows
            a source file by file: from ``since`` on, and before ``until``. What was read before stays, and what lies outside is for
            later runs. Refused with ``full`` where rows would be lost.
        actor
            Who runs it. Default: ``audit.actor``, else the environment variable LAZYPIPE_ACTOR, else the user of the machine.
        code
            Version of the pipeline's code. Default: the commit of the Git work tree around the definition, if there is one.
        outputs
            Only these outputs, and those that they are made of. Default: all.
        emit
            Where OpenLineage events about the run go, besides what the definition's ``openlineage`` says: ``FileTransport``,
            ``HttpTransport``, or anything with their methods. What goes wrong with them is in the result's ``warnings``.
        parent
            What started the run, as events tell it: ``run`` (a UUID, or the id of a lazypipe run), ``job`` and ``namespace``.
        window
            A range of event time: ``(start, end)``, the end not in it, either may be None. Of files that were never read, only those
            with times in it are; what was read stays. Sources without ``event_time``, and datasets, are read as they are.

        Returns
        -------
        RunResult
            Also where a gate failed: see its ``status``, or call ``raise_for_status()``.
        """
        moment = now or datetime.now(UTC)
        return execute(
            self,
            run=run or _run_id(moment),
            now=moment,
            observer=observer,
            work=work,
            full=full,
            bound=_bound(max_files, max_rows, max_bytes, since, until, self),
            actor=actor,
            code=code,
            outputs=self._wanted(outputs),
            emit=emit,
            parent=parent,
            window=None if window is None else TimeRange.of(window),
        )

    def backfill(
        self,
        window: TimeRange | Sequence[Any] | str,
        *,
        chunk: timedelta | str,
        now: datetime | None = None,
        observer: Observer = lambda *_: None,
        outputs: Iterable[str] = (),
        actor: str | None = None,
        code: str | None = None,
    ) -> Iterator[RunResult]:
        """Work off a range of event time in pieces, each a run of its own; yields what each did, and ends after one that failed.

        What is done stays done: called again, it goes on where it ended. Ranges may come in any order, and other runs in
        between; a run without ``window`` reads all that is left.

        Parameters
        ----------
        window
            ``(start, end)`` of event time, the end not in it.
        chunk
            How much of event time one run takes, such as ``7d``. A file with times in two pieces is read with the first.

        Raises
        ------
        LazypipeError
            If the range has no start or no end, or no source of files says when its rows happened.
        """
        wanted = self._wanted(outputs)
        extents: dict[str, Extents] = {}
        for piece in pieces(TimeRange.of(window), chunk):
            moment = now or datetime.now(UTC)
            result = execute(
                self,
                run=_run_id(moment),
                now=moment,
                observer=observer,
                actor=actor,
                code=code,
                outputs=wanted,
                window=piece,
                extents=extents,
            )
            yield result
            if result.status not in ("done", "unchanged"):
                return

    def _wanted(self, outputs: Iterable[str]) -> frozenset[str]:
        names = frozenset(outputs)
        for name in sorted(names):
            if name not in self.outputs:
                raise LazypipeError(f"unknown output {name!r}; {nearest(name, self.outputs, 'outputs')}")
        return names

    def preview(
        self,
        *,
        full: bool = False,
        max_files: int | None = None,
        max_rows: int | None = None,
        max_bytes: int | None = None,
        since: datetime | date | str | None = None,
        until: datetime | date | str | None = None,
        now: datetime | None = None,
        window: TimeRange | Sequence[Any] | str | None = None,
    ) -> list[dict[str, Any]]:
        """Return what a run would do, segment by segment: what is read (files, bytes), checked, written, how, and why.

        ``how`` is ``none`` (nothing has changed), ``units`` (only what files came, changed or went), ``all``, ``wait`` (a delivery is
        not whole), or ``unknown`` where it depends on what comes before it in the same run. Sizes are None where they are not known.

        Parameters
        ----------
        full
            Whether everything is to be made anew.
        max_files, max_rows, max_bytes, since, until
            As of ``run``.
        now
            The time of that run. Default: the machine's clock.
        window
            The range of event time that the run would be for. Steps then say how many ``windows`` of which stages the files that
            were never read reach over.
        """
        moment = now or datetime.now(UTC)

        wanted = None if window is None else TimeRange.of(window)
        found: dict[str, Snapshot] = {}
        if wanted is not None:
            refuse_timeless(self)

        def look(source: BoundSource) -> Snapshot:
            snapshot = arrived(self, source, source.looked_at(listing(self, source, moment)), moment)
            found[source.name] = snapshot if wanted is None else within(self, source, snapshot, wanted, moment)
            return found[source.name]

        steps = previews.preview(
            self,
            look,
            listed=time.time_ns(),
            full=full,
            bound=_bound(max_files, max_rows, max_bytes, since, until, self),
        )
        segments = {s.name: s for s in self.segments}
        if wanted is None:
            return steps
        return [{**step, "windows": touched(self, segments[step["name"]], found, moment)} for step in steps]

    def status(self) -> list[dict[str, Any]]:
        """Return, per output that is a dataset, its version, when it was made, and of what: files per source, or versions."""
        return previews.status(self)

    def replay(
        self,
        output: str,
        *,
        run: str | None = None,
        now: datetime | None = None,
        actor: str | None = None,
        code: str | None = None,
    ) -> ReplayResult:
        """Put an output's quarantined rows through its gate again; those that pass now move into the output, once.

        To be called after a rule, a repair or reference data changed. (Rows that the gate of a source put aside come by
        again with every full run.) Parameters are those of ``run``.

        Raises
        ------
        LazypipeError
            If there is no such output, or it is no dataset.
        GateError
            If the gate fails; nothing was moved.
        """
        moment = now or datetime.now(UTC)
        return replays.replay(self, output, run=run or _run_id(moment), now=moment, actor=actor, code=code)

    def late(self, output: str) -> pl.LazyFrame:
        """Scan the rows that came late to the windows of an output, with which window, how late, which run and which file.

        All columns of the rows, and ``window_start`` and ``window_end`` (of the window that decided: the one that ends last),
        ``late_by`` (how long after it had closed they came), ``_lazypipe_run`` and ``_lazypipe_file``. Rows that a run put aside and
        that are not late any more, since their file has changed, are not among them.

        Raises
        ------
        LazypipeError
            If there is no such output, or its stage has no window with ``late: quarantine``.
        """
        if output not in self.outputs:
            raise LazypipeError(f"unknown output {output!r}; {nearest(output, self.outputs, 'outputs')}")
        return late_rows(self, self.outputs[output].stage)

    def window_history(self, output: str, key: Mapping[str, Any], window: Any) -> WindowHistory:
        """Return what each version of an output said of one window: with which run, which files and rows came, and why it changed.

        Versions that ``vacuum`` took away are not known any more.

        Parameters
        ----------
        key
            Column → value of the group that the window is of; ``{}`` where windows have no groups.
        window
            When it starts, or ``(start, end)``: times, or texts of them.

        Raises
        ------
        LazypipeError
            If there is no such output or column, the output has no windows or is no dataset, or more than one window is meant.
        """
        known = Ledger(self.audit.uri, key=self.audit.key) if self.audit.is_on else None
        return panes.window_history(self, output, key, window, known)

    def trace(self, output: str, key: Mapping[str, Any], *, most: int = 100) -> Trace:
        """Find the source rows, in which files, that made the rows of an output with a key.

        The plan is run again, restricted to the key, over the sources as they are now; see ``Trace``.

        Parameters
        ----------
        key
            Column of the output → its value, of the column's type or as text.
        most
            Rows of the output that may have the key.

        Raises
        ------
        LazypipeError
            If there is no such output, column or row, or more rows than ``most`` have the key.
        """
        return traces.trace(self, output, key, most=most)

    def contract(self) -> Contract:
        """Return the outputs with their columns, tags and rules as a data contract, for ``contracts.to_odcs``.

        Raises
        ------
        DefinitionError
            If a rule exists in Python only.
        """
        columns = {
            name: {c: Column(dtype_name(t), self.tags(name).get(c, ())) for c, t in self.schema(name).items()}
            for name in self.outputs
        }
        nodes: dict[str, model.Source | model.Stage] = {**self.pipeline.sources, **self.pipeline.stages}
        rules = {n: tuple(step.to_dict() for step in nodes[o.stage].gate) for n, o in self.outputs.items()}
        return Contract(self.pipeline.name, rules, columns, description=self.pipeline.description)

    def scan(self, output: str) -> pl.LazyFrame:
        """Scan what is published of a dataset output."""
        if output not in self.outputs:
            raise LazypipeError(f"unknown output {output!r}; {nearest(output, self.outputs, 'outputs')}")
        target = self.outputs[output]
        return scan(target.to, storage_options=target.storage_options)


def _run_id(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def load(path: str | Path) -> Pipeline:
    """Read a definition from a YAML or JSON file; relative URIs in it start from the file's folder.

    Raises
    ------
    DefinitionError
        With every mistake of form, each with file, line and column.
    """
    return Pipeline.of(loader.load(path))


class Builder:
    """Builds a definition in Python, part by part; the result equals what the same YAML would give.

    Examples
    --------
    >>> pipe = (
    ...     pipeline("p")
    ...     .param("least", "integer", default=1)
    ...     .source("a", "a.csv", contract={"columns": {"x": "Int64"}})
    ...     .stage("b", "a", do=[{"filter": "x >= :least"}, {"derive": {"y": pl.col("x") * 2}}], gate=[{"not_null": "y"}])
    ...     .output("b", "out/b")
    ...     .build()
    ... )
    >>> pipe.compile().schema("b")
    Schema([('x', Int64), ('y', Int64)])
    """

    def __init__(self, name: str, *, base: str | os.PathLike[str] = ".", **more: Any) -> None:
        self._base = os.fspath(base)
        self._data: dict[str, Any] = {
            "version": 1,
            "name": name,
            **more,
            "params": {},
            "sources": {},
            "stages": {},
            "outputs": {},
        }

    def _add(self, section: str, name: str, entry: Mapping[str, Any]) -> Self:
        if name in self._data[section]:
            raise LazypipeError(f"there is a {section[:-1]} {name!r} already; give one of them another name")
        self._data[section][name] = {k: v for k, v in entry.items() if v is not None}
        return self

    def param(self, name: str, type: str, *, default: Any = None, description: str | None = None) -> Self:  # noqa: A002  # the definition's word
        """Declare a parameter."""
        return self._add("params", name, {"type": type, "default": default, "description": description})

    def source(self, name: str, uri: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **more: Any) -> Self:
        """Declare a source; further keys as in a definition."""
        written = os.fspath(uri) if isinstance(uri, str | os.PathLike) else [os.fspath(u) for u in uri]
        return self._add("sources", name, {"uri": written, **more})

    def stage(
        self,
        name: str,
        from_: str | Sequence[str],
        do: Sequence[Mapping[str, Any] | ops.Operation] = (),
        gate: Sequence[Mapping[str, Any] | gates.Rule] | Mapping[str, Any] = (),
        description: str | None = None,
    ) -> Self:
        """Add a stage: operations and rules as mappings, as in a definition, or as values."""
        return self._add(
            "stages",
            name,
            {
                "from": from_,
                "do": list(do),
                "gate": gate if isinstance(gate, Mapping) else list(gate),
                "description": description,
            },
        )

    def output(self, name: str, to: str | os.PathLike[str], *, from_: str | None = None, **more: Any) -> Self:
        """Declare an output; further keys as in a definition."""
        return self._add("outputs", name, {"from": from_, "to": os.fspath(to), **more})

    def build(self) -> Pipeline:
        """Return the definition; raises DefinitionError with every mistake of form."""
        data = {k: v for k, v in self._data.items() if v or k in ("sources", "outputs")}
        return Pipeline.from_dict(data, base=self._base)


def pipeline(name: str, *, base: str | os.PathLike[str] = ".", **more: Any) -> Builder:
    """Start a definition in Python; relative URIs start from ``base``."""
    return Builder(name, base=base, **more)


def _step(written: Mapping[str, Any] | Arguments) -> Step:
    if isinstance(written, Arguments):
        return written.to_step()
    ((name, arguments),) = written.items()
    return Step(name, freeze(arguments))


def apply(
    step: Mapping[str, Any] | ops.Operation,
    frame: pl.LazyFrame,
    *,
    params: Mapping[str, Any] | None = None,
    allow: Iterable[str] = (),
    **others: pl.LazyFrame,
) -> pl.LazyFrame:
    """Apply one operation to a frame, with other frames by the names that it uses.

    Raises
    ------
    DefinitionError
        If it does not fit the frames.

    Examples
    --------
    >>> apply({"filter": "a > :least"}, pl.LazyFrame({"a": [1, 2]}), params={"least": 1}).collect().rows()
    [(2,)]
    """
    written = _step(step)
    try:
        operation = ops.operation(written)
        tables = {n: Table(f, f.collect_schema()) for n, f in others.items()}
        scope = Scope(type(operation), written, tables, params or {}, frozenset(allow))
        return operation.lower(Table(frame, frame.collect_schema()), scope)
    except Fault as fault:
        raise loader.problems([fault], Origin()) from None


Rules = Sequence[Mapping[str, Any] | gates.Rule]


def _steps(rules: Any) -> list[Step]:
    """Return rules as steps with places; raises DefinitionError for what are none."""
    fix = "write {name: arguments}, one rule in each"
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise loader.problems([Fault(f"{rules!r} is no list of rules", f"{fix}, in a list", ("rules",))], Origin())
    wrong, steps = [], []
    for index, written in enumerate(rules):
        if isinstance(written, Arguments) or (isinstance(written, Mapping) and [str] == [type(k) for k in written]):
            step = _step(written)
            steps.append(Step(step.name, step.arguments, ("rules", index)))
        else:
            wrong.append(Fault(f"{written!r} is no rule", fix, ("rules", index)))
    if wrong:
        raise loader.problems(wrong, Origin())
    return steps


def _lazy(frame: Any, name: str) -> pl.LazyFrame:
    if not isinstance(frame, pl.DataFrame | pl.LazyFrame):
        raise LazypipeError(f"{name} is of type {type(frame).__name__}; give a pl.DataFrame or a pl.LazyFrame")
    return frame.lazy()


@contextmanager
def _over_rows() -> Iterator[None]:
    """Tell in our own words that an expression cannot be evaluated over rows."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        fix = "mend the rows, or the expression of the rule, with TRY_CAST for instance"
        raise RunError(f"the rows cannot be checked: {plain(first_line(error)).what}", fix=fix) from error


def _checks(
    frame: pl.LazyFrame,
    rules: Rules,
    params: Mapping[str, Any] | None,
    now: datetime | None,
    others: Mapping[str, pl.DataFrame | pl.LazyFrame],
) -> tuple[tuple[gates.Check, ...], dict[str, pl.LazyFrame]]:
    """Compile rules over a frame and others; return the checks, and the other frames by their names."""
    if not isinstance(now, datetime | None):
        raise LazypipeError(f"now is {now!r}, and no datetime; write one, such as datetime.now(UTC)")
    values = {"now": now or datetime.now(UTC), **(params or {})}
    faults: list[Fault] = []
    steps = _steps(rules)
    frames = {name: _lazy(other, f"frame {name!r}") for name, other in others.items()}
    try:
        for uri in outside(steps, frames):
            frames[uri] = _scan_anything(uri)
        schemas = {name: other.collect_schema() for name, other in frames.items()}
        checks = compile_checks(
            steps, frame.collect_schema(), lambda step, owner: Scope(owner, step, params=values), faults, schemas
        )
    except (TypeError, AttributeError, ValueError, ArithmeticError, pl.exceptions.PolarsError) as error:
        # arguments of other types than rules expect: the schema says which, but not of what is in Python only
        fix = "compare its arguments with its documentation"
        unfit = Fault(f"a rule cannot be made of its arguments: {first_line(error)}", fix, ("rules",))
        raise loader.problems(loader.gate_faults(steps) or [unfit], Origin()) from error
    # rules know better than the schema what is wrong with their values
    if wrong := faults or loader.gate_faults(steps):
        raise loader.problems(wrong, Origin())
    return checks, frames


def _scan_anything(uri: str) -> pl.LazyFrame:
    """Scan a dataset or files as a pipeline's source would."""
    bound = bind(uri, model.Source((uri,)), ".", os.environ)
    return bound.scan(bound.snapshot())


def check(
    frame: pl.DataFrame | pl.LazyFrame,
    rules: Rules,
    *,
    params: Mapping[str, Any] | None = None,
    now: datetime | None = None,
    **others: pl.DataFrame | pl.LazyFrame,
) -> GateReport:
    """Check rules on a frame, in one streaming pass; no pipeline, no files.

    Parameters
    ----------
    params
        Values of parameters that rules name (``:least``).
    now
        The clock of rules about now. Default: the machine's.
    others
        Other frames, by the names under which rules refer to them.

    Raises
    ------
    DefinitionError
        If a rule does not fit the frame.

    Examples
    --------
    >>> report = check(pl.DataFrame({"a": [1, None]}), [{"not_null": "a"}])
    >>> report.status, report.failed
    ('fail', {'not_null:a': 1})
    """
    lazy = _lazy(frame, "frame")
    checks, frames = _checks(lazy, rules, params, now, others)
    with _over_rows():
        return check_frame(lazy, checks, lambda reference: frames[reference.to], frames)


def split(
    frame: pl.DataFrame | pl.LazyFrame,
    rules: Rules,
    *,
    params: Mapping[str, Any] | None = None,
    now: datetime | None = None,
    run: str = "",
    **others: pl.DataFrame | pl.LazyFrame,
) -> Split:
    """Part a frame's rows: those that go on, and those that rules quarantine, each with the rules that it violates.

    Parameters are those of ``check``; ``run`` is what stands in ``_lazypipe_run``.

    Raises
    ------
    DefinitionError
        If a rule does not fit the frame.

    Examples
    --------
    >>> rules = [{"not_null": {"columns": "a", "action": "quarantine"}}]
    >>> found = split(pl.DataFrame({"a": [1, None]}), rules)
    >>> found.good.rows(), found.bad["_lazypipe_rules"].to_list()
    ([(1,)], [['not_null:a']])
    """
    lazy = _lazy(frame, "frame")
    checks, frames = _checks(lazy, rules, params, now, others)
    with _over_rows():
        return split_frame(lazy, checks, lambda reference: frames[reference.to], frames, run=run)


def stream(
    pipeline: model.Pipeline,
    trigger: Trigger | None = None,
    *,
    max_files: int | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    since: datetime | date | str | None = None,
    until: datetime | date | str | None = None,
    on_gate_failure: OnGateFailure = "stop",
    backoff: Backoff | None = None,
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
    max_files, max_rows, max_bytes
        How much a batch takes in at most, as of ``Plan.run``; where something is left the next one follows at once.
    since, until
        Which files are taken in, by when they were written, as of ``Plan.run``: ``since`` begins a stream without what came before.
    on_gate_failure
        ``stop``, or ``continue``: the batch is tried again when something else has come.
    backoff
        How long to wait after failures that may pass, and how often. Default: four times, from a second on.
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
        If the definition or a bound is wrong; when iterated over, also if a source cannot be listed for good.

    Examples
    --------
    >>> columns = {"columns": {"x": "Int64"}}
    >>> pipe = pipeline("p").source("a", "memory://nothing-yet/*.csv", contract=columns).output("a", "memory://out").build()
    >>> [result.status for result in stream(pipe, Trigger(once=True))]
    []
    """
    bound, definition = _bound(max_files, max_rows, max_bytes, since, until), Pipeline.of(pipeline)
    if on_gate_failure not in get_args(OnGateFailure):
        raise LazypipeError(f"on_gate_failure: {on_gate_failure!r}; write stop or continue")
    allowed = tuple(allow)

    def run(plan: CompiledPipeline, now: datetime) -> RunResult:
        return execute(
            plan,
            run=_run_id(now),
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
    )


def _bound(
    files: int | None,
    rows: int | None,
    size: int | None,
    since: datetime | date | str | None,
    until: datetime | date | str | None,
    plan: CompiledPipeline | None = None,
) -> Bound:
    """Return what a run takes; raises LazypipeError where files are to be of some time, and none is read file by file."""
    if since is None and until is None:
        return Bound(files, rows, size)
    written = TimeRange.of((since, until))
    followed = set() if plan is None else {n for s in plan.strategies.values() for n in s.driving}
    sources = [plan.nodes[n].source for n in followed] if plan is not None else []
    if plan is not None and all(s is None or s.reader.format == "dataset" for s in sources):
        what = "no output follows a source file by file, so since and until choose nothing"
        raise LazypipeError(f"{what}; leave them out, or see plan.explain_incremental()")
    return Bound(files, rows, size, written.start, written.end)


def replay(
    pipeline: model.Pipeline | Plan,
    output: str,
    *,
    run: str | None = None,
    now: datetime | None = None,
    params: Mapping[str, Any] | None = None,
    actor: str | None = None,
    code: str | None = None,
) -> ReplayResult:
    """Put an output's quarantined rows through its gate again: ``Plan.replay``, of a definition too.

    Parameters
    ----------
    params
        Values of parameters, where a definition is given that must be compiled.
    """
    plan = pipeline if isinstance(pipeline, Plan) else Pipeline.of(pipeline).compile(now=now, params=params)
    return plan.replay(output, run=run, now=now, actor=actor, code=code)


def trace(
    pipeline: model.Pipeline | Plan,
    output: str,
    key: Mapping[str, Any],
    *,
    most: int = 100,
    params: Mapping[str, Any] | None = None,
) -> Trace:
    """Find the source rows that made a row of an output: ``Plan.trace``, of a definition too.

    Parameters
    ----------
    params
        Values of parameters, where a definition is given that must be compiled.
    """
    plan = pipeline if isinstance(pipeline, Plan) else Pipeline.of(pipeline).compile(params=params)
    return plan.trace(output, key, most=most)


def catalog(pipelines: Iterable[model.Pipeline | Plan | str | Path], *, optimized: bool = False) -> Lineage:
    """Join the lineage of many pipelines that feed each other: a source is what another pipeline's output writes at its URI.

    Parameters
    ----------
    pipelines
        Plans, definitions (compiled with the defaults of their parameters), or files with definitions.
    optimized
        Whether only columns that something needs are in it.

    Returns
    -------
    Lineage
        With the same questions as that of one pipeline; names begin with the pipeline's (``flights/flown.dep_delay``), which can
        be left out where nothing else has the rest.

    Raises
    ------
    LazypipeError
        If two pipelines have the same name.

    Examples
    --------
    >>> columns = {"columns": {"x": "Int64"}}
    >>> one = pipeline("one").source("raw", "/lake/raw.csv", contract=columns).stage("a", "raw").output("a", "/lake/a").build()
    >>> two = pipeline("two").source("a", "/lake/a", format="dataset", contract=columns).output("b", "/lake/b", from_="a").build()
    >>> list(catalog([one, two]).upstream("two/b.x"))
    ['two/a.x', 'one/a.x', 'one/raw.x']
    """
    plans = [load(p) if isinstance(p, str | Path) else p for p in pipelines]
    return join((p if isinstance(p, Plan) else Pipeline.of(p).compile()).lineage(optimized=optimized) for p in plans)


def ledger(target: str | model.Pipeline | Plan, *, key: str | None = None) -> Ledger:
    """Open a ledger: the records of runs, and questions about them.

    Parameters
    ----------
    target
        The ledger's URI, or a pipeline whose runs it records.
    key
        What its records are signed with, so that ``verify`` checks it. Default: that of the pipeline.

    Raises
    ------
    LazypipeError
        If the pipeline's runs are not recorded.
    DefinitionError
        If a variable that the definition names is not set.

    Examples
    --------
    >>> ledger("memory://a-new-ledger").verify().ok
    True
    """
    if isinstance(target, str):
        return Ledger(target, key=key)
    bound = _bound_audit(target)
    if not bound.is_on:
        name = target.pipeline.name if isinstance(target, Plan) else target.name
        raise LazypipeError(f"runs of pipeline {name!r} are not recorded; remove audit: off from its definition")
    return Ledger(bound.uri, key=key if key is not None else bound.key)


def _bound_audit(target: model.Pipeline | Plan) -> BoundAudit:
    if isinstance(target, Plan):
        return target.audit
    faults: list[Fault] = []
    bound, _ = bind_audit(target, os.environ, faults)
    if faults:
        raise loader.problems(faults, target.origin)
    return bound


def audit_report(target: str | model.Pipeline | Plan | Ledger, output: str, version: int | None = None) -> AuditReport:
    """Tell all that is known of a version of an output, from raw sources to it: for people who must answer for it.

    Parameters
    ----------
    target
        A pipeline, or the ledger (or its URI) that knows the output.
    output
        The output's name, ``pipeline/name``, or its URI.
    version
        Default: the last.

    Raises
    ------
    LazypipeError
        If the ledger does not know the output or the version.
    """
    if isinstance(target, Ledger):
        return audits.audit_report(target, output, version)
    found = ledger(target)
    if isinstance(target, model.Pipeline) and output in target.outputs:
        output = f"{target.name}/{output}"
    elif isinstance(target, Plan) and output in target.outputs:
        output = f"{target.pipeline.name}/{output}"
    return audits.audit_report(found, output, version)


def history(target: str | model.Pipeline | Plan, output: str | None = None) -> pl.DataFrame:
    """Return the versions of a dataset that can still be read, oldest first.

    Parameters
    ----------
    target
        The dataset's URI, or a pipeline, then with the name of one of its outputs.

    Returns
    -------
    DataFrame
        Columns ``version``, ``time``, ``run``, ``mode``, ``rows``, ``bytes`` and ``files``.

    Examples
    --------
    >>> history("memory://nothing-here").columns
    ['version', 'time', 'run', 'mode', 'rows', 'bytes', 'files']
    """
    log = _dataset(target, output).log
    commits = [log.read(version) for version in log.versions()]
    rows = [(c.version, c.time, c.run, c.mode, c.rows, c.bytes, len(c.files)) for c in commits]
    schema: dict[str, Any] = {
        "version": pl.Int64,
        "time": pl.Datetime("us", "UTC"),
        "run": pl.String,
        "mode": pl.String,
    }
    return pl.DataFrame(rows, schema=schema | dict.fromkeys(("rows", "bytes", "files"), pl.Int64), orient="row")


def rollback(
    target: str | model.Pipeline | Plan,
    output: str | None = None,
    *,
    version: int,
    run: str | None = None,
    now: datetime | None = None,
) -> int:
    """Make an earlier version of a dataset the one in force, as a version of its own; return its number.

    What it had consumed comes back with it: the next run does what has changed since then.

    Raises
    ------
    StorageError
        If there is no such version, or files of it are gone.
    CommitConflict
        If a run commits meanwhile.
    """
    moment = now or datetime.now(UTC)
    return _dataset(target, output).rollback(version, run=run or _run_id(moment), time=moment).version


def _dataset(target: str | model.Pipeline | Plan, output: str | None) -> Dataset:
    if isinstance(target, str):
        return Dataset(target)
    if isinstance(target, Plan):
        outputs = target.outputs
    else:
        faults: list[Fault] = []
        outputs, _ = bind_outputs(target, os.environ, faults)
        if faults:
            raise loader.problems(faults, target.origin)
    if output is None or output not in outputs:
        raise LazypipeError(f"unknown output {output!r}; {nearest(str(output), outputs, 'outputs')}")
    found = outputs[output]
    if found.format != "dataset":
        raise LazypipeError(f"output {output!r} is one {found.format} file, which has no versions")
    return Dataset(found.to, found.storage_options)


def window_history(plan: Plan, output: str, key: Mapping[str, Any], window: Any) -> WindowHistory:
    """Return what each version of an output said of one window; see ``Plan.window_history``."""
    return plan.window_history(output, key, window)


def vacuum(
    target: str | model.Pipeline,
    *,
    keep: int = 1,
    older_than: timedelta = timedelta(hours=24),
    now: datetime | None = None,
) -> list[str]:
    """Delete what nobody can read any more: of one dataset, or of all datasets and leftovers of a pipeline.

    Parameters
    ----------
    keep
        How many versions stay readable.
    older_than
        Files of no commit (left by a run that was killed) go when they are older than this; a run that is writing now
        has younger ones.

    Returns
    -------
    list of str
        The deleted files.
    """
    if isinstance(target, str):
        return Dataset(target).vacuum(keep=keep, older_than=older_than, now=now)
    return vacuum_pipeline(target, keep=keep, older_than=older_than, now=now)
