"""Plans that can be run, and questions about what they have made."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from lazypipe.api.forked import refuse_forked
from lazypipe.api.now import time_of_run
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import LazypipeError, StorageError, nearest
from lazypipe.spec import model
from lazypipe.spec.types import dtype_name

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
    r"""A compiled pipeline. It can be run, explained and traced.

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
        work: str | os.PathLike[str] | None = None,
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
        """Run the plan: write, audit, publish, record. Outputs whose inputs have not changed since the last run are left as they are.

        Parameters
        ----------
        run
            The run's id, for one run only: data files and records are named by it. Default: the time and a random part.
        now
            The time recorded in commits. Default: the machine's clock. (``:now`` in expressions is set by ``compile``.)
        observer
            Called with segment, number of segments, count and rows so far, from several threads.
        work
            Folder in which a temporary one is made, for rows kept between segments. Default: below ``state``, if that is on this machine.
        full
            Whether to rebuild all outputs, also those whose inputs have not changed.
        max_files, max_rows, max_bytes
            The most that an output takes from each source in this run, in the order in which the source lists its files, but at least one
            file. The rest is left for later runs (``result.left``). This applies to sources that the output follows file by file; sources that are
            read as a whole, and outputs that must be rebuilt from all rows (``plan.explain_incremental()``), are not limited. An output that
            starts from nothing, or whose definition has changed, contains only the first files until the last of these runs. To apply
            ``max_rows``, the rows of files are counted first.
        since, until
            Take only files that were written at or after ``since`` and before ``until``, by their modification times and not by their content.
            This applies to sources that an output follows file by file. What was read earlier stays; other files are left for later runs.
            Refused together with ``full`` if rows would be lost.
        actor
            Who runs it. Default: ``audit.actor``, else the environment variable LAZYPIPE_ACTOR, else the user of the machine.
        code
            The version of the pipeline's code. Default: the current commit of the definition's Git work tree, if there is one.
        outputs
            Make only these outputs and what they depend on. Default: all outputs that the plan was compiled for.
        emit
            Where OpenLineage events about the run are sent, in addition to the definition's ``openlineage``: ``FileTransport``,
            ``HttpTransport``, or any object with the same methods. If sending fails, the result's ``warnings`` say so.
        parent
            What started the run, for OpenLineage events: ``run`` (a UUID, or the id of a lazypipe run), ``job`` and ``namespace``.
        window
            Restrict the run to a range of event time ``(start, end)``, without the end; either may be None. Of the files that were never read, only
            those with times in the range are read; what was read earlier stays. Of a dataset, only parts or data files with times in the range
            are read, according to their footers; but all of it, if what was read earlier has been rewritten since. Sources without
            ``event_time`` are read as usual. The range is recorded. In such a run, watermarks that come from clocks, markers or commits do
            not advance.

        Returns
        -------
        RunResult
            Also if a gate failed: see its ``status``, or call ``raise_for_status()``.

        Raises
        ------
        LazypipeError
            If an argument is wrong, or if there was a run with this id.
        """
        from lazypipe.records.record import Records
        from lazypipe.run.backfill import TimeRange
        from lazypipe.run.context import named
        from lazypipe.run.executor import execute

        refuse_forked()
        moment = time_of_run(now)
        name = named(run, moment)
        if run:
            Records(self.state.join("runs"), self.state.storage_options).refuse_used(name)
        return execute(
            self,
            run=name,
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
        """Process a range of event time in chunks. Each chunk is a run; its result is yielded. Stops after a run that failed.

        Completed chunks are kept: call it again to continue. Ranges can be processed in any order, and other runs can happen before, after and at the
        same time. A chunk that was overtaken by another run is tried again, up to three times. A run without ``window`` reads all that is left.

        Parameters
        ----------
        window
            The range of event time ``(start, end)``, without the end.
        chunk
            How much event time one run covers, such as ``7d``. A file with times in two chunks is read with the first.

        Raises
        ------
        LazypipeError
            If the range has no start or no end, or if no source has an ``event_time``.
        """
        from lazypipe.run.backfill import TimeRange, pieces
        from lazypipe.run.context import run_id
        from lazypipe.run.executor import execute
        from lazypipe.run.retry import TRIES

        refuse_forked()
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
        all_of_them = self.asked and self.asked.union(self.lacking)
        return known_outputs(outputs, {**self.outputs, **self.lacking}) or all_of_them

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
        """Return what a run would do, segment by segment: what it reads (files, bytes, rows), checks and writes, how, and why.

        ``how`` is one of: ``none`` (nothing has changed), ``units`` (only new, changed and removed files), ``all``, ``wait`` (a delivery is
        incomplete), ``judge`` (rules that use the clock), ``state`` (event time has advanced, but no row changes), ``unknown`` (it depends on
        an earlier part of the same run), ``error`` (the output cannot be made; ``why`` is the error), or ``blocked`` (what it is made of cannot be).
        Sizes are None if they are not known.

        Parameters
        ----------
        full
            Whether the run would rebuild everything.
        max_files, max_rows, max_bytes, since, until
            As for ``run``.
        now
            The time of that run. Default: the machine's clock.
        window
            The range of event time of that run. Each step then says how many ``windows`` of which stages are covered by files
            that were never read.
        ahead
            Sources that are written by something else before that run, and by what. Whatever depends on them is ``unknown``.
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
        return [
            {**step, "windows": touched(self, segments[step["name"]], found, moment)}
            if step["name"] in segments
            else step
            for step in steps
        ]

    def status(self) -> list[dict[str, Any]]:
        """Return the state of each output: its version and time, what it was made from (files per source, or versions), its quarantine, and its ``layout``.

        If the layout was chosen (``optimize``), the entry also gives the goal and the reasons. For an output that is a single file, it gives the
        file's size.
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
        emit: Sequence[Transport] = (),
    ) -> ReplayResult:
        """Put an output's quarantined rows through its gate again. Rows that pass now move into the output, once.

        Call it after a rule, a repair or reference data has changed. With ``mode: upsert``, and ``scd2`` with ``event_time``, they are merged
        as rows that arrive late: an older row replaces no newer one. With ``delete``, ``snapshot``, ``replace_partitions``, and ``scd2`` without
        ``event_time``, deliver the corrected rows again. (Rows that were quarantined by gates of sources and inner stages are judged again in every
        full run.) Parameters are as for ``run``. The OpenLineage events name the quarantine as the input.

        Raises
        ------
        LazypipeError
            If there is no such output, if it is not a dataset, if its mode cannot be replayed, or if the gate
            compares rows with others that are not in quarantine.
        GateError
            If the gate fails; no row was moved.
        """
        from lazypipe.run import replay as replays
        from lazypipe.run.context import named

        refuse_forked()
        moment = time_of_run(now)
        return replays.replay(self, output, run=named(run, moment), now=moment, actor=actor, code=code, emit=emit)

    def late(self, output: str) -> pl.LazyFrame:
        """Scan the rows that came too late for the windows of an output.

        The frame has all columns of the rows, and ``window_start`` and ``window_end`` (of the window that closed last), ``late_by`` (how long after
        it had closed the row came), ``_lazypipe_run`` and ``_lazypipe_file`` (null after steps that combine rows of several files). Rows that were
        put aside but are no longer late, because their file has changed, are not included.

        Raises
        ------
        LazypipeError
            If there is no such output, or if its stage has no window with ``late: quarantine``.
        """
        from lazypipe.run.late import late_rows

        self.output(output)  # which refuses what is none
        return late_rows(self, self.pipeline.outputs[output].stage)

    def window_history(self, output: str, key: Mapping[str, Any], window: Any) -> WindowHistory:
        """Return what each version of an output said about one window: in which run, which files and rows came, and why it changed.

        Versions that were removed by ``vacuum`` are not included.

        Parameters
        ----------
        key
            Column → value of the window's group; ``{}`` if windows have no groups.
        window
            The window's start, or ``(start, end)``, as times or text.

        Raises
        ------
        LazypipeError
            If there is no such output or column, if the output has no windows or is not a dataset, or if more than one window matches.
        """
        from lazypipe.records.ledger import Ledger
        from lazypipe.run import panes

        known = Ledger.of(self.audit) if self.audit.is_on else None
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
        """Find the source rows, with their files, that made the rows of an output with a given key.

        The plan is run again, restricted to the key, over the sources as they are now; see ``Trace``. If ``output`` is a source, all of its rows
        with the key are found, including those that gates put aside and stages leave out.

        Parameters
        ----------
        output
            The output or source.
        key
            Column → value, of the column's type or as text.
        most
            How many rows of the output may have the key.
        version, as_of
            Trace a version, or the version in force at a moment. Only files that are unchanged since then are used; ``reasons`` says how many
            are not. Default: the sources as they are now.

        Raises
        ------
        LazypipeError
            If there is no such output, column or row, or if more than ``most`` rows have the key.
        """
        from lazypipe.run import trace as traces

        return traces.trace(self, output, key, most=most, version=version, as_of=as_of)

    def contract(self) -> Contract:
        """Return the outputs, with their columns, tags and rules, as a data contract for ``contracts.to_odcs``.

        Raises
        ------
        DefinitionError
            If a rule exists only in Python.
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
        """Scan the published rows of an output; those of an export are read from its file.

        The datasets beside it have the names ``<output>__quarantine``, ``__changes``, ``__panes`` and ``__late`` (see ``late``). Rows quarantined by
        gates of sources and inner stages are in ``<name>__quarantine``. The frame is empty if nothing was ever put there.

        Raises
        ------
        LazypipeError
            If there is no such output, or if it can have no dataset of this kind beside it.
        StorageError
            If nothing has been published yet.
        """
        from lazypipe.gates.tap import quarantine_schema
        from lazypipe.storage.datasets.dataset import Dataset, scan

        name, _, kind = output.rpartition("__")
        if kind == "late" and output not in self.outputs and name in self.outputs:
            return self.late(name)
        if output in self.outputs or kind not in ("quarantine", "changes", "panes"):
            published = self.output(output)
            if published.format != "dataset":
                return _exported(published, self.nodes[published.stage].schema)
            return scan(published.to, storage_options=published.storage_options)
        target = self.outputs.get(name)
        if target is None and (name not in self.nodes or kind != "quarantine"):
            self.output(output)  # which refuses it
        node = self.nodes[name if target is None else self.pipeline.outputs[name].stage]
        options = self.state.storage_options if target is None else target.storage_options
        place = self.state.place(kind, name) if target is None else f"{target.to}__{kind}"
        if Dataset(place, options).latest() is None:
            if (said := _nothing_beside(name, kind, node, target)) is not None:
                raise LazypipeError(said)
            if kind == "quarantine":
                return pl.LazyFrame(schema=quarantine_schema(node.schema, raw=bool(node.raw)))
        return scan(place, storage_options=options)


def _exported(output: model.Output, schema: pl.Schema) -> pl.LazyFrame:
    """Scan the file of an export; columns of CSV have the types of the stage's, those of NDJSON the types that JSON shows."""
    from lazypipe.storage import hive
    from lazypipe.storage.files import exported
    from lazypipe.storage.scan import Reader

    file = exported(output.to, output.storage_options)
    if file is None:
        fix = "run the pipeline that writes it, or check the path"
        raise StorageError("there is no such file", uri=output.to, fix=fix)
    if not file.size:  # NDJSON has no line without rows
        return pl.LazyFrame(schema=schema)
    declared = schema if output.format == "csv" else {}
    reader = Reader(output.format, declared=declared, storage_options=output.storage_options)
    folders = hive.values(file.uri).keys() - schema.keys()
    inside = pl.Schema({n: t for n, t in reader.infer([file]).items() if n not in folders})
    return reader.scan([file], inside, keys={})


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
        raise LazypipeError(f"outputs is {outputs!r}, which is not a list of names; write [name]")
    names = frozenset([outputs] if isinstance(outputs, str) else outputs)
    for name in sorted(names.difference(known)):
        raise LazypipeError(f"unknown output {name!r}; {nearest(name, known, 'outputs')}")
    return names
