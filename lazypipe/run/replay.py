"""Replay: quarantined rows of an output go through its gate again, and those that pass now move into the output, once.

Two datasets cannot be committed in one step. What remains in quarantine is therefore written first; then the healed rows
are committed to the output, in whose commit the files that remain are named; and only then the quarantine is committed.
A replay that was killed in between is finished by the next one from what the output's commit says.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.node import Node, ancestors
from lazypipe.compile.outputs.modes import places, written_schema
from lazypipe.errors import CommitConflict, GateError, LazypipeError, RunError, StorageError, first_line, redacted
from lazypipe.gates.alone import mark_repeats
from lazypipe.gates.report import GateReport
from lazypipe.gates.rule import PREVIOUS, Check, Reference
from lazypipe.gates.tap import FILE_COLUMN, RAW_COLUMN, RAW_TEXT, RULES_COLUMN, RUN_COLUMN, Tap, quarantine_schema
from lazypipe.gates.uniqueness import repeated
from lazypipe.incremental.before import CONSUMED, DELETES
from lazypipe.incremental.feed import WRITE
from lazypipe.incremental.merging import overtaken, refuse_repeated
from lazypipe.incremental.put_aside import put_aside
from lazypipe.incremental.work import Work
from lazypipe.records import body as bodies
from lazypipe.records.emitter import Emitter
from lazypipe.records.transport import Transport
from lazypipe.run import layouts
from lazypipe.run.body import head
from lazypipe.run.context import Run, refuse_used
from lazypipe.run.recorder import Aside, Recorder
from lazypipe.run.segment.aside import REPEATED_KEY, go_back, in_force
from lazypipe.run.segment.gone import GoneKeys
from lazypipe.run.segment.merge import Merge, Outcome
from lazypipe.spec.model import Output
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.data_files import find_odd, scan_files
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import BACK, Commit, DataFile
from lazypipe.storage.datasets.units import UNIT, unit_of
from lazypipe.storage.shape import grown
from lazypipe.storage.sink import DatasetSink
from lazypipe.windows.watermark import COMPLETE

__all__ = ["ReplayResult", "replay"]

_ADDED = ("replace", "append")
"""Modes where healed rows are added to those of the output; in others they are merged with these."""

_DELIVERY = "__lazypipe_delivery"
"""Of rows that are merged, the number of the delivery that they came with."""

_UNCLEAR = "__lazypipe_unclear"
"""Of rows that are merged, whether it cannot be told if they are later than what the output has."""


@dataclass(frozen=True)
class ReplayResult:
    """The result of a replay: rows that moved into the output, that left because the output has their key, and that remain.

    ``version`` is the output's commit with the healed rows, or None if there were none. ``report`` is what the gate found, or None if the quarantine
    was empty or the replay only completed an earlier one. ``warnings`` say what could not be recorded in the ledger. ``elsewhere`` counts rows that
    a replay of the output cannot move: those quarantined by gates of the sources and inner stages it is made from (``<name>``), and those too
    late for their window (``<stage>__late``).
    """

    output: str
    healed: int
    superseded: int
    remaining: int
    version: int | None = None
    report: GateReport | None = None
    warnings: tuple[str, ...] = ()
    elsewhere: Mapping[str, int] = field(default_factory=dict)


def replay(
    plan: CompiledPipeline,
    output: str,
    *,
    run: str,
    now: datetime,
    actor: str | None = None,
    code: str | None = None,
    emit: Sequence[Transport] = (),
) -> ReplayResult:
    """Put an output's quarantined rows through its gate again, as it is compiled now.

    With ``replace`` and ``append``, rows that repeat a key are compared with the rows of the output too, and where the output declares a key,
    quarantined rows whose key it has by now have been delivered anew: they leave. With ``upsert`` and ``scd2``, healed rows are merged
    as rows that arrive late: an older row replaces no newer one, and leaves.

    Raises
    ------
    LazypipeError
        If there is no such output, it is no dataset, its mode cannot be replayed, or its gate holds rows against others that replayed rows are not among.
    GateError
        If the gate fails; nothing was moved.
    StorageError
        If it must be recorded in the ledger, and cannot be.
    """
    target = plan.output(output)
    if target.format != "dataset":
        raise LazypipeError(f"output {output!r} is one {target.format} file, which has no quarantine to replay")
    _refuse_mode(output, target)
    _refuse_comparing(plan.nodes[target.stage], output, target)
    found = _replayed(plan, output, target, run, now, actor, code, emit)
    return replace(found, elsewhere=_elsewhere(plan, target.stage))


def _refuse_mode(output: str, target: Output) -> None:
    """Raise LazypipeError where it cannot be told what a row would have become if it had passed when it came."""
    if target.mode in ("replace", "append", "upsert") or (target.mode == "scd2" and target.event_time is not None):
        return
    why = {
        "delete": "the rows in the dataset's quarantine are not those of this output",
        "scd2": "versions are dated by their run, and a replay is later",
        "snapshot": "a snapshot shows the rows of its run, and a replay is later",
        "replace_partitions": "the partitions of the rows may have been replaced since",
    }[target.mode]
    fix = "deliver the corrected rows as a file of their own" + (", or say event_time" if target.mode == "scd2" else "")
    raise LazypipeError(f"output {output!r} has mode: {target.mode}, which cannot be replayed: {why}; {fix}")


def _refuse_comparing(node: Node, output: str, target: Output) -> None:
    """Raise LazypipeError for a check, other than of keys, that decides over rows by others: of these most are not in quarantine."""
    deciding = (c for c in node.checks if c.action != "warn" or c.repair is not None)
    check = next((c for c in deciding if not node.judges_each([c])), None)
    if check is None:
        return
    what = f"output {output!r}: {check.id} compares rows with others, which are not in its quarantine"
    fix = "run the pipeline, which checks all rows again if the rule has changed"
    if target.mode != "replace":
        fix = "deliver the corrected rows as a file of their own"
    raise LazypipeError(f"{what}; {fix}")


def _elsewhere(plan: CompiledPipeline, stage: str) -> dict[str, int]:
    """Return how many rows stand aside on the way to a stage, by the source or stage that has put them there."""
    return put_aside(plan.pipeline, ancestors(plan.nodes, stage) - {stage})


def _replayed(
    plan: CompiledPipeline,
    output: str,
    target: Output,
    run: str,
    now: datetime,
    actor: str | None,
    code: str | None,
    emit: Sequence[Transport],
) -> ReplayResult:
    data = Dataset(target.to, target.storage_options)
    aside = Dataset(f"{target.to}__quarantine", target.storage_options)
    current = data.latest()
    back = None
    if current is not None and (latest := aside.latest()) is not None:
        # what was put aside later comes again with the files that are not consumed any more
        back = go_back(aside, latest, data, current, run=run, now=now)
    latest = aside.latest()
    held = None if latest is None or current is None else in_force(aside, latest, data, current, output)
    if latest is None or held is None or held.rows == 0 or current is None:
        return ReplayResult(output, 0, 0, 0)
    done = _begun(data, _same_rows(aside, held))
    same = dict(current.schema) == dict(written_schema(target, plan.nodes[target.stage].schema))
    if done is None and not same:
        what = f"output {output!r}: its columns are not those of the current definition"
        fix = "run the pipeline first, so that rows can go there"
        if target.mode != "replace":
            fix = "they become so with the next run that adds rows: replay after it"
        raise LazypipeError(f"{what}; {fix}")
    if done is None:
        refuse_used(run, (*current.files, *held.files), f"{run}-000")
    # what was committed before a replay was killed bears its name, and so does what finishes it
    recorder = Recorder(plan, run if done is None else done.run, now, actor, code, kind="replay")
    recorder.inputs[f"{output}__quarantine"] = _as_input(plan, aside, held)
    if back is not None:
        recorder.put_aside(output, Aside.back(target.stage, aside.uri, back))
    work = _Replay(plan, output, target, data, aside, current, held, latest, recorder, now)
    return work.recorded(work.run_all if done is None else lambda: work.finish(done), Emitter(plan, emit))


def _as_input(plan: CompiledPipeline, aside: Dataset, held: Commit) -> dict[str, Any]:
    """Return what a record says of the quarantine that is read."""
    return {
        "uri": [plan.redact(aside.uri)],
        "format": "dataset",
        "files": [
            {"uri": plan.redact(uris.join(aside.uri, f.path)), "size": f.bytes, "stamp": None, "blake3": f.blake3}
            for f in held.files
        ],
        "version": held.version,
    }


def _same_rows(aside: Dataset, held: Commit) -> list[Commit]:
    """Return the versions of a quarantine whose rows these are: files may have been written anew since, and versions have come back."""
    found = [held]
    with suppress(StorageError):  # what is vacuumed was not read by a replay that is still to be finished
        while (number := held.rows_of if held.brings_back is None else held.brings_back) not in (0, held.version):
            held = aside.log.read(number)
            found.append(held)
    return found


def _begun(data: Dataset, held: Sequence[Commit]) -> Commit | None:
    """Return the output's commit of a replay of this very quarantine that was killed before its end."""
    first, numbers = min(c.time for c in held), {c.version for c in held}
    versions = data.log.versions()
    most = max(versions)
    for version in reversed(versions):
        if version > most:  # the output has gone back to before it
            continue
        commit = data.log.read(version)
        if commit.info.get("replay", {}).get("quarantine") in numbers:
            return commit
        if commit.time < first:
            return None
        most = min(most, commit.info.get(BACK, most))
    return None


def _tagged(tags: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what a commit says of its columns' tags: who reads it must not show what the output does not."""
    return {"tags": {c: list(t) for c, t in tags.items()}} if tags else {}


@dataclass(frozen=True)
class _Replay:
    plan: CompiledPipeline
    output: str
    target: Output
    data: Dataset
    aside: Dataset
    current: Commit
    held: Commit
    latest: Commit
    recorder: Recorder
    now: datetime

    @property
    def run(self) -> str:
        return self.recorder.run

    def recorded(self, work: Callable[[], ReplayResult], emitter: Emitter) -> ReplayResult:
        """Do the work, and have the ledger, and who takes events, say how it went."""
        begun = time.perf_counter()
        emitter.emit(lambda: self.body(begun, "running", ()))
        try:
            result = work()
        except BaseException as failure:
            redacted(failure, self.plan.redact)
            refused = isinstance(failure, GateError)
            stopped = isinstance(failure, KeyboardInterrupt)
            status = "gate_failed" if refused else "interrupted" if stopped else "error"
            said = self.said(begun, status, None, failure)
            self.recorder.finish([(None, said)], status, first_line(failure))
            emitter.emit(lambda: self.body(begun, status, (said,)))
            emitter.finish()
            raise
        done = self.said(begun, "done", result)
        warning, error = self.recorder.finish([(None, done)], "done", None)
        gates = {} if result.report is None else {self.node.name: result.report}
        emitter.emit(lambda: self.body(begun, "done", (done,)), gates)
        told = emitter.finish()
        if error is not None:
            raise error
        return replace(result, warnings=(*((warning,) if warning else ()), *told))

    def body(self, begun: float, status: str, segments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what an event is made of."""
        recorder = self.recorder
        of = {
            "data": bodies.data(recorder.written.get(self.output, ())),
            "quarantine": [a.to_dict() for a in recorder.asides.get(self.output, ())],
        }
        return {
            **head(recorder, status=status, seconds=time.perf_counter() - begun),
            "inputs": recorder.inputs,
            "segments": [{**of, **s} for s in segments],
            "error": None,
        }

    def said(
        self, begun: float, status: str, result: ReplayResult | None, error: BaseException | None = None
    ) -> dict[str, Any]:
        """Return what the record says of the output."""
        files = self.recorder.written.get(self.output, ())
        moved = result is not None and result.version is not None
        return {
            "name": self.output,
            # what was not moved was not published
            "status": status if moved or status != "done" else "unchanged",
            "output": self.output,
            "uri": self.plan.redact(self.data.uri),
            # also where what came after the commit went wrong
            "version": self.recorder.versions.get(self.output),
            "rows": sum(f.rows for f in files),
            "bytes": sum(f.bytes for f in files),
            "files": len(files),
            "seconds": round(time.perf_counter() - begun, 6),
            "gates": [result.report.to_dict()] if result is not None and result.report is not None else [],
            "counts": {},
            "corrupt": [],
            "error": None if error is None else str(error),
            "mode": self.target.mode if self.target.mode not in _ADDED else "append",
            "sources": [f"{self.output}__quarantine"],
        }

    def finish(self, commit: Commit) -> ReplayResult:
        """Have the quarantine hold what remains, as the output's commit says."""
        moved = (f for f in commit.files if f.path.rpartition("/")[2].startswith(f"{self.run}-"))
        self.recorder.written[self.output] = tuple(moved)
        self.recorder.versions[self.output] = commit.version
        said: Mapping[str, Any] = commit.info["replay"]
        files = [*map(DataFile.from_dict, said["remaining"])]
        info = {
            "of": self.output,
            "replayed": commit.run,
            **_tagged(self.plan.tags(self.node.name)),
            **self.recorder.info,
        }
        try:
            made = self.aside.commit(
                files, self.held.schema, run=commit.run, time=self.now, info=info, expected=self.latest.version
            )
        except CommitConflict:
            made = self.aside.read()
            if made.info.get("replayed") != commit.run:
                raise
            # another replay that began meanwhile has finished this one
        self.recorder.put_aside(self.output, Aside(self.node.name, self.aside.uri, made, files, "replace"))
        left = sum(f.rows for f in files)
        return ReplayResult(self.output, said["healed"], said["superseded"], left, commit.version)

    @property
    def node(self) -> Node:
        return self.plan.nodes[self.target.stage]

    def run_all(self) -> ReplayResult:
        rows, checks, late = self.pending()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as spill:
            tap, good = self.gated(rows, checks, Path(spill))
            report = self.told(tap.report(self.node.name))
            report.raise_for_status()
            moving = good if self.target.mode in _ADDED else self.latest_of(good)
            staged, remaining = self.write_remaining(tap, moving)
            left = sum(f.rows for f in remaining)
            superseded = late + good.height - moving.height + (report.quarantined - left)
            if (
                not moving.height
                and left == self.held.rows
                and self.reasons(remaining) == self.counted(self.aside.scan(self.held))
            ):
                for sink in staged:
                    sink.discard()
                return ReplayResult(self.output, 0, superseded, left, None, report)
            made = self.added(moving) if self.target.mode in _ADDED else self.merged(moving, Path(spill))
            files = self.recorder.hashed(self.data.uri, made.files, self.target.storage_options)
        said = {
            "quarantine": self.held.version,
            "healed": moving.height,
            "superseded": superseded,
            "remaining": [f.to_dict() for f in remaining],
        }
        self.recorder.announce()
        commit = self.data.commit(
            files,
            self.current.schema,
            run=self.run,
            time=self.now,
            mode=made.mode,
            partition_by=made.partition_by,
            info={
                "replay": said,
                "gates": [report.to_dict()],
                **_tagged(self.plan.tags_written(self.output)),
                **self.kept_info,
                **made.info,
                **self.recorder.info,
            },
            expected=self.current.version,
            tagged=self.current.tagged,
            without=made.without,
            figures=(*self.figures, *made.beside),
            keys=[n for n in self.target.key if n in self.current.schema],
        )
        return replace(self.finish(commit), report=report)

    def added(self, good: pl.DataFrame) -> Outcome:
        """Write healed rows, which are added to those of the output."""
        ordered = bool(self.current.info.get("ordered"))
        choice = layouts.kept(self.target, self.current, self.current.schema, ordered=ordered)
        by, options, tagged = self.target.partition_by, self.target.storage_options, self.current.tagged
        layout = None if choice is None else choice.layout
        sink = DatasetSink(self.data.uri, f"{self.run}-000", by, options, layout=layout)
        # healed rows are a unit of their own, and those of each replay another, since what reads the output follows it unit by unit;
        # the next run, to which this commit names no inputs, makes everything anew
        unit = unit_of(self.aside.uri, self.run)
        apart = [pl.lit(unit, dtype=pl.UInt64).alias(UNIT)] if tagged else []
        files = sink.write(good.lazy().with_columns(apart)).files if good.height else ()
        files = find_odd(sink.uri, files, self.current.schema, options, tagged=tagged)
        if tagged:
            files = tuple(replace(f, units={unit: f.rows}) for f in files)
        return Outcome(files, pl.Schema(self.current.schema), by, "append")

    def merged(self, good: pl.DataFrame, folder: Path) -> Outcome:
        """Put healed rows together with those of the output, as a run does that gets them late."""
        run = Run(self.plan, self.run, self.now, folder, lambda *_: None, self.recorder)
        work = Work("units", "", commit=self.current, version=self.current.version, adds=True)
        return Merge(run, self.output, 0, work, self.node.schema).outcome(good.lazy(), ())

    @property
    def figures(self) -> tuple[DataFile, ...]:
        """The files beside the log that the next run goes on from, without those which say what keys are gone."""
        if self.target.mode == "replace":
            return ()
        gone = GoneKeys.of(self.data, self.current, pl.Schema(self.current.schema)).files
        return tuple(f for f in self.current.figures if f not in gone)

    @property
    def kept_info(self) -> dict[str, Any]:
        """How the output is written, up to where it is complete; and what it has consumed, if rows are added: the next run goes on there."""
        kept = (COMPLETE,) if self.target.mode == "replace" else (COMPLETE, CONSUMED, DELETES)
        return {WRITE: self.target.mode, **{k: v for k, v in self.current.info.items() if k in kept}}

    def pending(self) -> tuple[pl.LazyFrame, tuple[Check, ...], int]:
        """Return the quarantined rows that the output has not got from its source meanwhile, what they are judged by, and how many it has."""
        rows = self.aside.scan(self.held)
        kept = RAW_COLUMN in self.held.schema
        # of a time when the output had fewer columns, or narrower ones
        now = quarantine_schema(self.node.schema, raw=kept)
        fitting = grown(rows, self.held.schema, now)
        if fitting is None:
            raise self.other_columns(now)
        if kept:
            fitting = fitting.with_columns(pl.col(RAW_COLUMN).alias(RAW_TEXT))
        rows, checks = self.node.judged_again(fitting)
        on, order = places(self.target)
        if not on or (self.target.mode not in _ADDED and not order):
            return rows, checks, 0
        if order:
            there = rows.collect(engine="streaming")
            left = there.filter(~self.older(there, self.known(there.lazy().select(on)), order))
            return left.lazy(), checks, there.height - left.height
        known = self.data.scan(self.current).select(on)
        rows = rows.join(known, on=on, how="anti")
        return rows, checks, self.held.rows - rows.select(pl.len()).collect(engine="streaming").item()

    def known(self, keys: pl.LazyFrame) -> pl.DataFrame:
        """Return how late the rows are which the output holds of some keys, and when keys went that it has removed."""
        on, order = places(self.target)
        names = [*dict.fromkeys([*on, *order])]
        there = self.data.scan(self.current).select(names).join(keys, on=on, how="semi", nulls_equal=True)
        gone = GoneKeys.of(self.data, self.current, pl.Schema(self.current.schema), names).of_keys(keys, on)
        return pl.concat([there, gone.select(names)]).collect(engine="streaming")

    def older(self, rows: pl.DataFrame, by: pl.DataFrame, order: Sequence[str]) -> pl.Series:
        """Say of each row whether another frame has a later one of its key; not of one whose place in the order is missing, and may be mended."""
        on, own = places(self.target)
        known = rows.select(
            pl.all_horizontal(pl.lit(value=True), *(pl.col(n).is_not_null() for n in own)).alias("known")
        )
        return overtaken(rows, by, on, order) & known.to_series()

    def latest_of(self, good: pl.DataFrame) -> pl.DataFrame:
        """Return the latest row of each key, unless the output has a later one; of several at one place in the order the one that was delivered last.

        Raises
        ------
        RunError
            If two rows of one delivery cannot be told apart.
        """
        on, order = places(self.target)
        by = [*order, _DELIVERY]
        rows = good.unique(maintain_order=True)
        fix = "say with order_by or event_time which is the latest, or deliver the right one again"
        try:
            refuse_repeated(rows, on, by, "", fix, self.plan.masked(self.node.name))
        except RunError as error:
            raise RunError(f"output {self.output!r}: {error}") from error
        late = overtaken(rows, rows, on, by)
        if order:
            late |= overtaken(rows, self.known(rows.lazy().select(on)), on, order)
        return rows.filter(~late)

    def unclear(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Mark rows of which another of their run went on, unless their place in the order tells by now that they are later."""
        on, order = places(self.target)
        marked = pl.col(RULES_COLUMN).list.contains(REPEATED_KEY)
        if not order:
            return rows.with_columns(marked.alias(_UNCLEAR))
        there = rows.collect(engine="streaming")
        same = overtaken(there, self.known(there.lazy().select(on)), on, order, equal=True)
        return there.with_columns((marked & same).alias(_UNCLEAR)).lazy()

    def delivered(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return quarantined rows with the number of the delivery that they came with; it is 0 for those of which the log tells no more."""
        log = self.aside.log
        number = {c.run: c.version for c in map(log.read, reversed(log.versions()))}
        return rows.with_columns(
            pl.col(RUN_COLUMN).replace_strict(number, default=0, return_dtype=pl.Int64).alias(_DELIVERY)
        )

    def other_columns(self, now: pl.Schema) -> LazypipeError:
        named = ", ".join(repr(n) for n, t in self.held.schema.items() if now.get(n) != t)
        what = f"output {self.output!r}: its quarantined rows have values in {named}, and the output has no such column, or has it with another type"
        return LazypipeError(
            f"{what}; keep the columns in the definition, or deliver the rows again as a file of their own"
        )

    def gated(self, rows: pl.LazyFrame, checks: Sequence[Check], spill: Path) -> tuple[Tap, pl.DataFrame]:
        node, there = self.node, self.data.scan(self.current)
        own = [] if self.target.mode in _ADDED else [_DELIVERY]
        known = {}
        if own:  # a run's gate judges the rows of the run: which of them are of one, these say
            rows, there = self.delivered(self.unclear(rows)), pl.LazyFrame(schema=there.collect_schema())
            unclear = Check(REPEATED_KEY, REPEATED_KEY, "quarantine", violated=pl.col(_UNCLEAR))
            checks = [unclear, *(replace(c, keys=(*c.keys, _DELIVERY)) if c.keys else c for c in checks)]
        for check in checks:
            if check.keys:
                columns = [c for c in node.schema if c in check.columns]
                both = pl.concat([there.select(columns), node.mended(rows).select(*columns, *own)], how="diagonal")
                known[check.id] = repeated(both, check.keys, check.where).collect(engine="streaming")
        aside = RAW_COLUMN in self.held.schema
        kept = [RAW_COLUMN, RAW_TEXT] if aside else [RAW_COLUMN] if node.raw else []
        rows = rows.select(*node.schema, *own, *([_UNCLEAR] if own else []), *kept, FILE_COLUMN, RUN_COLUMN)
        checks, lookup = mark_repeats([self.judging(c) for c in checks], known, self.lookup)
        tap = Tap(
            checks,
            pl.Schema({**node.schema, **dict.fromkeys(own, pl.Int64())}),
            run=self.run,
            spill=spill,
            key=self.plan.key(node.name),
            masked=self.plan.masked(node.name),
            raw=aside,
        )
        good = tap.attach(rows, lookup).collect(engine="streaming")
        together = good.lazy()
        if self.target.mode == "replace":
            together = pl.concat([there.select(node.schema.names()), together])
        for check in checks:
            if check.measure is not None:
                frames = {n: self.plan.frames[n] for n in check.measure.frames if n != PREVIOUS}
                tap.measure(
                    check, lambda: together, frames | {PREVIOUS: there}, ask=True
                )  # not only those that flowed by
        return tap, good

    def told(self, report: GateReport) -> GateReport:
        """Return a report without the checks that only a replay makes, where they have found nothing."""
        own = {c.id for c in self.node.checks}
        return replace(report, checks=tuple(c for c in report.checks if c.failed or c.id in own))

    def judging(self, check: Check) -> Check:
        """Return a check as a replay makes it: what may be of a delivery was judged when that came.

        Of those that were put aside many violate again; and where rows are added, what is measured is measured of each run's.
        """
        if check.removes_rows:
            return replace(check, fail_above=None)
        if check.measure is not None and self.target.mode != "replace":
            return replace(check, action="warn", fail_above=None)
        return check

    def lookup(self, reference: Reference) -> pl.LazyFrame:
        return self.plan.frames[reference.to]

    def reasons(self, files: Iterable[DataFile]) -> dict[tuple[str, ...], int]:
        """Return how many rows violate which rules."""
        rows = scan_files(self.aside.uri, [*files], self.held.schema, (), self.target.storage_options)
        return self.counted(rows)

    def counted(self, rows: pl.LazyFrame) -> dict[tuple[str, ...], int]:
        counts = rows.group_by(RULES_COLUMN).len().collect(engine="streaming")
        return {tuple(rules): count for rules, count in counts.iter_rows()}

    def write_remaining(self, tap: Tap, moving: pl.DataFrame) -> tuple[list[DatasetSink], list[DataFile]]:
        """Write what stays in quarantine; of rows that are merged without those which are older than rows that move in."""
        sinks: list[DatasetSink] = []
        files: list[DataFile] = []
        order = places(self.target)[1]
        for index, part in enumerate(tap.quarantined()):
            left = part
            if _DELIVERY in moving.columns:
                there = part.collect()
                left = there.filter(~self.older(there, moving, [*order, _DELIVERY])).drop(_DELIVERY).lazy()
            prefix = f"{self.run}-000-{index:03}"
            sinks.append(DatasetSink(self.aside.uri, prefix, storage_options=self.target.storage_options))
            written = sinks[-1].write(left).files
            files += self.recorder.hashed(self.aside.uri, written, self.target.storage_options)
        return sinks, files
