"""Plans that run: what is done with a compiled pipeline, and asked of what it has made."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lazypipe.api.now import time_of_run
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import LazypipeError, nearest
from lazypipe.spec import model
from lazypipe.spec.types import dtype_name
from lazypipe.storage import uri as uris

if TYPE_CHECKING:
    from lazypipe.compile.node import Node
    from lazypipe.contracts import Contract
    from lazypipe.incremental.bound import Bound
    from lazypipe.records.transport import Transport
    from lazypipe.run.arrival import Extents
    from lazypipe.run.backfill import TimeRange
    from lazypipe.run.context import Observer
    from lazypipe.run.panes import WindowHistory
    from lazypipe.run.replay import ReplayResult
    from lazypipe.run.result import RunResult
    from lazypipe.run.trace import Trace

__all__ = ["Plan", "bound_of", "known_outputs", "when_fed"]


@dataclass(frozen=True, repr=False)
class Plan(CompiledPipeline):
    r"""A compiled pipeline that can be run.

    Examples
    --------
    >>> from lazypipe.api.pipeline import Pipeline
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
            Only these outputs, and those that they are made of. Default: all that the plan was compiled for.
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

        moment = time_of_run(now)
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
                moment = time_of_run(now)
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
        return known_outputs(outputs, self.outputs) or self.asked

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
        ahead: Mapping[str, str] | None = None,
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
        ahead
            Sources that something else writes before that run, with what: what is made of them is ``unknown``.
        """
        from lazypipe.incremental import preview as previews
        from lazypipe.incremental.stamps import nanoseconds
        from lazypipe.run.arrival import arrived
        from lazypipe.run.backfill import TimeRange, refuse_timeless, touched, within
        from lazypipe.run.delivery import listing

        moment = time_of_run(now)

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
            ahead=ahead or model.NOTHING,
        )
        segments = {s.name: s for s in self.segments}
        if wanted is None:
            return steps
        return [{**step, "windows": touched(self, segments[step["name"]], found, moment)} for step in steps]

    def status(self) -> list[dict[str, Any]]:
        """Return, per output, its version, when it was made, and of what: files per source, or versions; its quarantine, what stands aside ahead of it, and its ``layout``.

        Of a layout that was chosen (``optimize``) it says for which goal, and why; of an output that is one file, how large that is.
        """
        from lazypipe.incremental import preview as previews

        return previews.status(self.pipeline, self.outputs, self.redact)

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

        moment = time_of_run(now)
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

        self.output(output)  # which refuses what is none
        return late_rows(self, self.pipeline.outputs[output].stage)

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
        as_of: datetime | date | str | None = None,
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
        rules = {
            n: tuple(step.to_dict() for step in nodes[o.stage].gate)
            for n, o in self.pipeline.outputs.items()
            if n in self.outputs
        }
        return Contract(self.pipeline.name, rules, columns, description=self.pipeline.description)

    def scan(self, output: str) -> pl.LazyFrame:
        """Scan what is published of a dataset output.

        What stands beside it goes by ``<output>__quarantine``, ``__changes`` or ``__panes``, and what gates of sources and inner stages have put
        aside by ``<name>__quarantine``: no rows where nothing was. ``<output>__late`` are the rows that came late to its windows (``late``).

        Raises
        ------
        LazypipeError
            If there is no such output, or nothing of the kind stands beside it.
        StorageError
            If nothing was published yet.
        """
        from lazypipe.gates.tap import quarantine_schema
        from lazypipe.storage.datasets.dataset import Dataset, scan

        name, _, kind = output.rpartition("__")
        if kind == "late" and output not in self.outputs and name in self.outputs:
            return self.late(name)
        if output in self.outputs or kind not in ("quarantine", "changes", "panes"):
            published = self.output(output)
            return scan(published.to, storage_options=published.storage_options)
        target = self.outputs.get(name)
        if target is None and (name not in self.nodes or kind != "quarantine"):
            self.output(output)  # which refuses it
        node = self.nodes[name if target is None else self.pipeline.outputs[name].stage]
        options = None if target is None else target.storage_options
        state = uris.resolve(self.pipeline.state, self.pipeline.base)
        place = uris.beside(state, kind, self.pipeline.name, name) if target is None else f"{target.to}__{kind}"
        if Dataset(place, options).latest() is None:
            if (said := _nothing_beside(name, kind, node, target)) is not None:
                raise LazypipeError(said)
            if kind == "quarantine":
                return pl.LazyFrame(schema=quarantine_schema(node.schema, raw=bool(node.raw)))
        return scan(place, storage_options=options)


def _nothing_beside(name: str, kind: str, node: Node, target: model.Output | None) -> str | None:
    """Return why nothing of a kind will ever stand beside an output, source or stage; None if it may."""
    match kind:
        case "changes" if target is not None and not target.changes:
            return f"output {name!r} tells no changes; say changes: true"
        case "panes" if target is not None and not target.panes:
            return f"output {name!r} tells no panes; say panes: {{mode: …}}"
        case "quarantine" if not any(c.action == "quarantine" for c in node.checks):
            return f"no rule of {node.name!r} puts rows in quarantine; say action: quarantine"
        case _:
            return None


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
    if plan is not None and not _follows_files(plan):
        what = "no output follows a source file by file, so since and until choose nothing"
        raise LazypipeError(f"{what}; leave them out, or see plan.explain_incremental()")
    return Bound(files, rows, size, written.start, written.end)


def _follows_files(plan: CompiledPipeline) -> bool:
    """Whether an output follows a source file by file."""
    sources = (plan.nodes[n].source for s in plan.strategies.values() for n in s.driving)
    return any(s is not None and s.reader.format != "dataset" for s in sources)


def when_fed(plan: CompiledPipeline, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a definition runs behind those that feed it: without bounds on files, or event times, where it has none of its own.

    What these leave out does not come to it.
    """
    from lazypipe.run.backfill import is_timed

    none = () if _follows_files(plan) else ("since", "until")
    timeless = () if is_timed(plan) else ("window",)
    return {k: v for k, v in how.items() if k not in (*none, *timeless)}


def known_outputs(outputs: Iterable[str], known: Collection[str]) -> frozenset[str]:
    """Return the names of outputs as a set; raises LazypipeError for one that is none."""
    if not isinstance(outputs, Iterable):
        raise LazypipeError(f"outputs is {outputs!r}, and no list of names; write [name]")
    names = frozenset([outputs] if isinstance(outputs, str) else outputs)
    for name in sorted(names.difference(known)):
        raise LazypipeError(f"unknown output {name!r}; {nearest(name, known, 'outputs')}")
    return names
