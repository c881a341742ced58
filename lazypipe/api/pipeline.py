"""Definitions that compile, and plans that run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from lazypipe.compile.compiler import CompiledPipeline, compile_pipeline
from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.errors import LazypipeError
from lazypipe.spec import loader, model
from lazypipe.spec.types import dtype_name
from lazypipe.storage import uri as uris

if TYPE_CHECKING:
    from lazypipe.contracts import Contract
    from lazypipe.incremental.bound import Bound
    from lazypipe.plan.graph import Lineage
    from lazypipe.records.transport import Transport
    from lazypipe.run.arrival import Extents
    from lazypipe.run.backfill import TimeRange
    from lazypipe.run.context import Observer
    from lazypipe.run.panes import WindowHistory
    from lazypipe.run.pull import Pulled, Reader
    from lazypipe.run.replay import ReplayResult
    from lazypipe.run.result import RunResult
    from lazypipe.run.trace import Trace

__all__ = ["Pipeline", "Plan", "catalog", "load", "replay", "trace", "window_history"]


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
        """Return a specification as a definition that compiles; raises LazypipeError for what is none, such as its path."""
        if not isinstance(spec, model.Pipeline):
            raise LazypipeError(
                f"{type(spec).__name__} is no definition; give lp.load(path), or what build() of a builder gives"
            )
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
        compiled = compile_pipeline(self, values, now=moment, env=env, allow=allow, admit=partial(_whole, moment))
        return Plan(**{f.name: getattr(compiled, f.name) for f in fields(compiled)})

    def pull(self, readers: Mapping[str, Reader], *, env: Mapping[str, str] | None = None) -> tuple[Pulled, ...]:
        r"""Pull what there is for sources that are no files, until nothing comes: it becomes files, which runs take in.

        The source's ``uri`` says where these stand: one more file each time in a folder (``pulled/orders/*.parquet``), or one that is
        replaced (``pulled/orders.parquet``), by readers that give all there is. Each says the position behind its rows, so that whoever
        pulls next, also after a crash, goes on from there.

        Parameters
        ----------
        readers
            Source → what is read on from a position.
        env
            Variables that the definition names. Default: those of the process.

        Raises
        ------
        LazypipeError
            If there is no such source, what is given for it does not read, or it gives no rows with a position that is another one.
        DefinitionError
            If the source's ``uri`` is no place where what is pulled can stand.
        SourceError
            If a reader fails.
        StorageError, CommitConflict
            If files cannot be written, or another process pulled the same meanwhile.

        Examples
        --------
        >>> import polars as pl
        >>> class Log:
        ...     def read(self, after):
        ...         begin = after or 0
        ...         return None if begin == 4 else (pl.DataFrame({"x": [begin, begin + 1]}), begin + 2)
        >>> text = "version: 1\nname: p\nsources: {log: {uri: memory://log/*.parquet}}\noutputs: {log: {to: memory://log-out}}\n"
        >>> pipe = Pipeline.from_yaml(text)
        >>> [(p.rows, p.position) for p in pipe.pull({"log": Log()})], pipe.pull({"log": Log()})
        ([(2, 2), (2, 4)], ())
        """
        from lazypipe.run.pull import Pulled, Puller

        puller, found = Puller(self, readers, os.environ if env is None else env), list[Pulled]()
        while came := puller.pull():
            found += came
        return tuple(found)


@dataclass(frozen=True, repr=False)
class Plan(CompiledPipeline):
    r"""A compiled pipeline that can be run.

    Examples
    --------
    >>> text = "version: 1\nname: p\nsources: {a: {uri: a.csv, contract: {columns: {x: Int64}}}}\noutputs: {a: {to: out}}\n"
    >>> Pipeline.from_yaml(text).compile()
    <Plan p: 1 source, 0 stages; outputs: a>
    """

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
            with times in it are; what was read stays. Of a dataset these are the parts, or data files, with times in it by their
            footers; all of it, if what was read has been written anew since. Sources without ``event_time`` are read as they are. The
            record says the range; clocks, markers and commits then say nothing of how far event time is.

        Returns
        -------
        RunResult
            Also where a gate failed: see its ``status``, or call ``raise_for_status()``.
        """
        from lazypipe.run.backfill import TimeRange
        from lazypipe.run.context import run_id
        from lazypipe.run.executor import execute

        moment = now or datetime.now(UTC)
        return execute(
            self,
            run=run or run_id(moment),
            now=moment,
            observer=observer,
            work=work,
            full=full,
            bound=bound_of(max_files, max_rows, max_bytes, since, until, self),
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
        between, or at the same time: a piece that one of them overtook begins once more, three times at most. A run without
        ``window`` reads all that is left.

        Parameters
        ----------
        window
            ``(start, end)`` of event time, the end not in it.
        chunk
            How much of event time one run takes, such as ``7d``. A file with times in two pieces is read with the first.

        Raises
        ------
        LazypipeError
            If the range has no start or no end, or no source says when its rows happened.
        """
        from lazypipe.run.backfill import TimeRange, pieces
        from lazypipe.run.context import run_id
        from lazypipe.run.executor import execute
        from lazypipe.run.retry import TRIES

        wanted = self._wanted(outputs)
        extents: dict[str, Extents] = {}
        for piece in pieces(TimeRange.of(window), chunk):
            for _ in range(TRIES):
                moment = now or datetime.now(UTC)
                result = execute(
                    self,
                    run=run_id(moment),
                    now=moment,
                    observer=observer,
                    actor=actor,
                    code=code,
                    outputs=wanted,
                    window=piece,
                    extents=extents,
                )
                if not result.overtaken:
                    break
            yield result
            if result.status not in ("done", "unchanged"):
                return

    def _wanted(self, outputs: Iterable[str]) -> frozenset[str]:
        names = frozenset(outputs)
        for name in sorted(names):
            self.output(name)
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
        """Return what a run would do, segment by segment: what is read (files, bytes, rows), checked, written, how, and why.

        ``how`` is ``none`` (nothing has changed), ``units`` (only what files came, changed or went), ``all``, ``wait`` (a delivery is
        not whole), ``judge`` (rules about the clock), ``state`` (event time went on, and no row changes), or ``unknown`` where it depends on what comes before it in the same run. Sizes are None where they are not known.

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
        from lazypipe.incremental import preview as previews
        from lazypipe.incremental.stamps import nanoseconds
        from lazypipe.run.arrival import arrived
        from lazypipe.run.backfill import TimeRange, refuse_timeless, touched, within
        from lazypipe.run.delivery import listing

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
            bound=bound_of(max_files, max_rows, max_bytes, since, until, self),
            now=nanoseconds(moment) // 1_000 if wanted is None else None,
        )
        segments = {s.name: s for s in self.segments}
        if wanted is None:
            return steps
        return [{**step, "windows": touched(self, segments[step["name"]], found, moment)} for step in steps]

    def status(self) -> list[dict[str, Any]]:
        """Return, per output that is a dataset, its version, when it was made, and of what: files per source, or versions; and its ``layout``.

        Of a layout that was chosen (``optimize``) it says for which goal, and why.
        """
        from lazypipe.incremental import preview as previews

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

        To be called after a rule, a repair or reference data changed, of outputs with ``mode: replace`` or ``append``: with others,
        rows that are delivered anew find their places. (Rows that gates of sources and inner stages put aside come by
        again with every full run.) Parameters are those of ``run``.

        Raises
        ------
        LazypipeError
            If there is no such output, it is no dataset, or has another mode.
        GateError
            If the gate fails; nothing was moved.
        """
        from lazypipe.run import replay as replays
        from lazypipe.run.context import run_id

        moment = now or datetime.now(UTC)
        return replays.replay(self, output, run=run or run_id(moment), now=moment, actor=actor, code=code)

    def late(self, output: str) -> pl.LazyFrame:
        """Scan the rows that came late to the windows of an output, with which window, how late, which run and which file.

        All columns of the rows, and ``window_start`` and ``window_end`` (of the window that decided: the one that ends last),
        ``late_by`` (how long after it had closed they came), ``_lazypipe_run`` and ``_lazypipe_file`` (null behind steps that put rows of several files together). Rows that a run put aside and
        that are not late any more, since their file has changed, are not among them.

        Raises
        ------
        LazypipeError
            If there is no such output, or its stage has no window with ``late: quarantine``.
        """
        from lazypipe.run.late import late_rows

        return late_rows(self, self.output(output).stage)

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
        from lazypipe.records.ledger import Ledger
        from lazypipe.run import panes

        known = Ledger(self.audit.uri, key=self.audit.key) if self.audit.is_on else None
        return panes.window_history(self, output, key, window, known)

    def trace(
        self,
        output: str,
        key: Mapping[str, Any],
        *,
        most: int = 100,
        version: int | None = None,
        as_of: datetime | None = None,
    ) -> Trace:
        """Find the source rows, in which files, that made the rows of an output with a key.

        The plan is run again, restricted to the key, over the sources as they are now; see ``Trace``. Of a source all of its rows with the key
        are found, also those that gates put aside and stages leave out.

        Parameters
        ----------
        output
            The output, or source.
        key
            Column of it → its value, of the column's type or as text.
        most
            Rows of the output that may have the key.
        version, as_of
            Of which version, or of that in force at a moment: with those files that are still what they were then; ``reasons`` says how
            many are not. Default: of the sources as they are now.

        Raises
        ------
        LazypipeError
            If there is no such output, column or row, or more rows than ``most`` have the key.
        """
        from lazypipe.run import trace as traces

        return traces.trace(self, output, key, most=most, version=version, as_of=as_of)

    def contract(self) -> Contract:
        """Return the outputs with their columns, tags and rules as a data contract, for ``contracts.to_odcs``.

        Raises
        ------
        DefinitionError
            If a rule exists in Python only.
        """
        from lazypipe.contracts import Column, Contract

        columns = {
            name: {c: Column(dtype_name(t), self.tags(name).get(c, ())) for c, t in self.schema(name).items()}
            for name in self.outputs
        }
        nodes: dict[str, model.Source | model.Stage] = {**self.pipeline.sources, **self.pipeline.stages}
        rules = {n: tuple(step.to_dict() for step in nodes[o.stage].gate) for n, o in self.outputs.items()}
        return Contract(self.pipeline.name, rules, columns, description=self.pipeline.description)

    def scan(self, output: str) -> pl.LazyFrame:
        """Scan what is published of a dataset output.

        What stands beside it goes by ``<output>__quarantine``, ``__changes`` or ``__panes``, and what gates of sources and inner stages have put
        aside by ``<name>__quarantine``. ``<output>__late`` are the rows that came late to its windows (``late``).
        """
        from lazypipe.storage.dataset import scan

        name, _, kind = output.rpartition("__")
        if kind == "late" and output not in self.outputs and name in self.outputs:
            return self.late(name)
        if output in self.outputs or kind not in ("quarantine", "changes", "panes"):
            target = self.output(output)
            return scan(target.to, storage_options=target.storage_options)
        if name in self.outputs:
            target = self.outputs[name]
            return scan(f"{target.to}__{kind}", storage_options=target.storage_options)
        if name not in self.nodes or kind != "quarantine":
            self.output(output)  # which refuses it
        state = uris.resolve(self.pipeline.state, self.pipeline.base)
        return scan(uris.beside(state, kind, self.pipeline.name, name))


def _whole(now: datetime, outputs: Mapping[str, model.Output], source: BoundSource, found: Snapshot) -> Snapshot:
    # asked of each source, and what answers is needed only where a delivery is waited for
    if source.intake.expect is None and not source.intake.settle:
        return found
    from lazypipe.run.delivery import whole

    return whole(now, outputs, source, found)


def bound_of(
    files: int | None,
    rows: int | None,
    size: int | None,
    since: datetime | date | str | None,
    until: datetime | date | str | None,
    plan: CompiledPipeline | None = None,
) -> Bound:
    """Return what a run takes; raises LazypipeError where files are to be of some time, and none is read file by file."""
    from lazypipe.incremental.bound import Bound
    from lazypipe.run.backfill import TimeRange

    if since is None and until is None:
        return Bound(files, rows, size)
    written = TimeRange.of((since, until))
    followed = set() if plan is None else {n for s in plan.strategies.values() for n in s.driving}
    sources = [plan.nodes[n].source for n in followed] if plan is not None else []
    if plan is not None and all(s is None or s.reader.format == "dataset" for s in sources):
        what = "no output follows a source file by file, so since and until choose nothing"
        raise LazypipeError(f"{what}; leave them out, or see plan.explain_incremental()")
    return Bound(files, rows, size, written.start, written.end)


def load(path: str | Path) -> Pipeline:
    """Read a definition from a YAML or JSON file; relative URIs in it start from the file's folder.

    Raises
    ------
    DefinitionError
        With every mistake of form, each with file, line and column.
    """
    return Pipeline.of(loader.load(path))


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
    version: int | None = None,
    as_of: datetime | None = None,
    params: Mapping[str, Any] | None = None,
) -> Trace:
    """Find the source rows that made a row of an output: ``Plan.trace``, of a definition too.

    Parameters
    ----------
    params
        Values of parameters, where a definition is given that must be compiled.
    """
    plan = pipeline if isinstance(pipeline, Plan) else Pipeline.of(pipeline).compile(params=params)
    return plan.trace(output, key, most=most, version=version, as_of=as_of)


def catalog(pipelines: Iterable[model.Pipeline | Plan | str | Path], *, optimized: bool = False) -> Lineage:
    """Join the lineage of many pipelines that feed each other: a source is what another pipeline's output writes at its URI.

    Where nothing has been written there yet, and the source has no contract, it has the columns that will be.

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
    >>> from lazypipe.api.builder import pipeline
    >>> columns = {"columns": {"x": "Int64"}}
    >>> one = pipeline("one").source("raw", "/lake/raw.csv", contract=columns).stage("a", "raw").output("a", "/lake/a").build()
    >>> two = pipeline("two").source("a", "/lake/a", format="dataset", contract=columns).output("b", "/lake/b", from_="a").build()
    >>> list(catalog([one, two]).upstream("two/b.x"))
    ['two/a.x', 'one/a.x', 'one/raw.x']
    """
    from lazypipe.api.together import compile_together
    from lazypipe.plan.catalog import join

    given = [load(p) if isinstance(p, str | Path) else p for p in pipelines]
    plans = []
    for plan in compile_together([p if isinstance(p, Plan) else Pipeline.of(p) for p in given], Pipeline.compile):
        if isinstance(plan, LazypipeError):
            raise plan
        plans.append(plan)
    return join(plan.lineage(optimized=optimized) for plan in plans)


def window_history(plan: Plan, output: str, key: Mapping[str, Any], window: Any) -> WindowHistory:
    """Return what each version of an output said of one window; see ``Plan.window_history``."""
    return plan.window_history(output, key, window)
