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
from lazypipe.errors import GateError, LazypipeError, StorageError, first_line, redacted
from lazypipe.gates.alone import mark_repeats
from lazypipe.gates.report import GateReport
from lazypipe.gates.rule import PREVIOUS, Check, Reference
from lazypipe.gates.tap import FILE_COLUMN, RAW_COLUMN, RAW_TEXT, RULES_COLUMN, RUN_COLUMN, Tap, quarantine_schema
from lazypipe.gates.uniqueness import repeated
from lazypipe.incremental.before import CONSUMED, DELETES
from lazypipe.incremental.feed import WRITE
from lazypipe.incremental.put_aside import put_aside
from lazypipe.run import layouts
from lazypipe.run.context import refuse_used
from lazypipe.run.recorder import Aside, Recorder
from lazypipe.run.segment.aside import go_back, in_force
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
) -> ReplayResult:
    """Put an output's quarantined rows through its gate again, as it is compiled now.

    Rows that repeat a key are compared with the rows of the output too. Where the output declares a key, quarantined rows
    whose key it has by now have been delivered anew: they leave.

    Raises
    ------
    LazypipeError
        If there is no such output, it is no dataset, or its gate holds rows against others that replayed rows are not among.
    GateError
        If the gate fails; nothing was moved.
    StorageError
        If it must be recorded in the ledger, and cannot be.
    """
    target = plan.output(output)
    if target.format != "dataset":
        raise LazypipeError(f"output {output!r} is one {target.format} file, which has no quarantine to replay")
    if target.mode not in ("replace", "append"):
        what = f"output {output!r} has mode: {target.mode}, and replayed rows would only be added"
        raise LazypipeError(f"{what}; deliver the corrected rows as a file of their own")
    _refuse_comparing(plan.nodes[target.stage], output, target)
    found = _replayed(plan, output, target, run, now, actor, code)
    return replace(found, elsewhere=_elsewhere(plan, target.stage))


def _refuse_comparing(node: Node, output: str, target: Output) -> None:
    """Raise LazypipeError for a check, other than of keys, that decides over rows by others: of these most are not in quarantine."""
    deciding = (c for c in node.checks if c.action != "warn" or c.repair is not None)
    check = next((c for c in deciding if not node.judges_each([c])), None)
    if check is None:
        return
    what = f"output {output!r}: {check.id} compares rows with others, which are not in its quarantine"
    fix = "run the pipeline, which checks all rows again if the rule has changed"
    if target.mode == "append":
        fix = "deliver the corrected rows as a file of their own"
    raise LazypipeError(f"{what}; {fix}")


def _elsewhere(plan: CompiledPipeline, stage: str) -> dict[str, int]:
    """Return how many rows stand aside on the way to a stage, by the source or stage that has put them there."""
    return put_aside(plan.pipeline, ancestors(plan.nodes, stage) - {stage})


def _replayed(
    plan: CompiledPipeline, output: str, target: Output, run: str, now: datetime, actor: str | None, code: str | None
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
    same = dict(current.schema) == dict(plan.nodes[target.stage].schema)
    if done is None and not same:
        what = f"output {output!r}: its columns are not those of the current definition"
        fix = "run the pipeline first, so that rows can go there"
        if target.mode == "append":
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
    return work.recorded(work.run_all if done is None else lambda: work.finish(done))


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

    def recorded(self, work: Callable[[], ReplayResult]) -> ReplayResult:
        """Do the work, and have the ledger say how it went."""
        begun = time.perf_counter()
        try:
            result = work()
        except BaseException as failure:
            redacted(failure, self.plan.redact)
            refused = isinstance(failure, GateError)
            stopped = isinstance(failure, KeyboardInterrupt)
            status = "gate_failed" if refused else "interrupted" if stopped else "error"
            self.recorder.finish([(None, self.said(begun, status, None, failure))], status, first_line(failure))
            raise
        warning, error = self.recorder.finish([(None, self.said(begun, "done", result))], "done", None)
        if error is not None:
            raise error
        return replace(result, warnings=(warning,) if warning else ())

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
            "mode": "append",
            "sources": [f"{self.output}__quarantine"],
        }

    def finish(self, commit: Commit) -> ReplayResult:
        """Have the quarantine hold what remains, as the output's commit says."""
        moved = (f for f in commit.files if f.path.rpartition("/")[2].startswith(f"{self.run}-"))
        self.recorder.written[self.output] = tuple(moved)
        self.recorder.versions[self.output] = commit.version
        said: Mapping[str, Any] = commit.info["replay"]
        files = [*map(DataFile.from_dict, said["remaining"])]
        info = {"of": self.output, "replayed": commit.run, **self.recorder.info}
        made = self.aside.commit(
            files, self.held.schema, run=commit.run, time=self.now, info=info, expected=self.latest.version
        )
        self.recorder.put_aside(self.output, Aside(self.node.name, self.aside.uri, made, files, "replace"))
        left = sum(f.rows for f in files)
        return ReplayResult(self.output, said["healed"], said["superseded"], left, commit.version)

    @property
    def node(self) -> Node:
        return self.plan.nodes[self.target.stage]

    def run_all(self) -> ReplayResult:
        rows, checks, superseded = self.pending()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as spill:
            tap, good = self.gated(rows, checks, Path(spill))
            report = self.told(tap.report(self.node.name))
            report.raise_for_status()
            staged, remaining = self.write_remaining(tap)
        left = sum(f.rows for f in remaining)
        ordered = bool(self.current.info.get("ordered"))
        choice = layouts.kept(self.target, self.current, self.current.schema, ordered=ordered)
        sink = DatasetSink(
            self.data.uri,
            f"{self.run}-000",
            self.target.partition_by,
            self.target.storage_options,
            layout=None if choice is None else choice.layout,
        )
        # healed rows are a unit of their own, and those of each replay another, since what reads the output follows it unit by unit;
        # the next run, to which this commit names no inputs, makes everything anew
        unit = unit_of(self.aside.uri, self.run)
        apart = [pl.lit(unit, dtype=pl.UInt64).alias(UNIT)] if self.current.tagged else []
        files = sink.write(good.lazy().with_columns(apart)).files if good.height else ()
        files = find_odd(sink.uri, files, self.current.schema, self.target.storage_options, tagged=self.current.tagged)
        files = self.recorder.hashed(sink.uri, files, self.target.storage_options)
        if self.current.tagged:
            files = tuple(replace(f, units={unit: f.rows}) for f in files)
        said = {
            "quarantine": self.held.version,
            "healed": good.height,
            "superseded": superseded,
            "remaining": [f.to_dict() for f in remaining],
        }
        if (
            not good.height
            and left == self.held.rows
            and self.reasons(remaining) == self.counted(self.aside.scan(self.held))
        ):
            for one in (sink, *staged):
                one.discard()
            return ReplayResult(self.output, 0, superseded, left, None, report)
        self.recorder.announce()
        commit = self.data.commit(
            files,
            self.current.schema,
            run=self.run,
            time=self.now,
            mode="append",
            partition_by=self.target.partition_by,
            info={"replay": said, "gates": [report.to_dict()], **self.kept_info, **self.recorder.info},
            expected=self.current.version,
            tagged=self.current.tagged,
        )
        return replace(self.finish(commit), report=report)

    @property
    def kept_info(self) -> dict[str, Any]:
        """How the output is written, up to where it is complete; and what it has consumed, if rows are added: the next run goes on there."""
        kept = (COMPLETE, CONSUMED, DELETES) if self.target.mode == "append" else (COMPLETE,)
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
        if not self.target.key:
            return rows, checks, 0
        known = self.data.scan(self.current).select(self.target.key)
        rows = rows.join(known, on=self.target.key, how="anti")
        return rows, checks, self.held.rows - rows.select(pl.len()).collect(engine="streaming").item()

    def other_columns(self, now: pl.Schema) -> LazypipeError:
        named = ", ".join(repr(n) for n, t in self.held.schema.items() if now.get(n) != t)
        what = f"output {self.output!r}: its quarantined rows have values in {named}, and the output has no such column, or has it with another type"
        return LazypipeError(
            f"{what}; keep the columns in the definition, or deliver the rows again as a file of their own"
        )

    def gated(self, rows: pl.LazyFrame, checks: Sequence[Check], spill: Path) -> tuple[Tap, pl.DataFrame]:
        node, there = self.node, self.data.scan(self.current)
        known = {}
        for check in checks:
            if check.keys:
                columns = [c for c in node.schema if c in check.columns]
                both = pl.concat([there.select(columns), node.mended(rows).select(columns)])
                known[check.id] = repeated(both, check.keys, check.where).collect(engine="streaming")
        aside = RAW_COLUMN in self.held.schema
        kept = [RAW_COLUMN, RAW_TEXT] if aside else [RAW_COLUMN] if node.raw else []
        rows = rows.select(*node.schema, *kept, FILE_COLUMN, RUN_COLUMN)
        checks, lookup = mark_repeats([self.judging(c) for c in checks], known, self.lookup)
        tap = Tap(
            checks,
            node.schema,
            run=self.run,
            spill=spill,
            key=self.plan.key(node.name),
            masked=self.plan.masked(node.name),
            raw=aside,
        )
        good = tap.attach(rows, lookup).collect(engine="streaming")
        together = good.lazy()
        if self.target.mode != "append":
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
        if check.measure is not None and self.target.mode == "append":
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

    def write_remaining(self, tap: Tap) -> tuple[list[DatasetSink], list[DataFile]]:
        sinks: list[DatasetSink] = []
        files: list[DataFile] = []
        for index, part in enumerate(tap.quarantined()):
            prefix = f"{self.run}-000-{index:03}"
            sinks.append(DatasetSink(self.aside.uri, prefix, storage_options=self.target.storage_options))
            written = sinks[-1].write(part).files
            files += self.recorder.hashed(self.aside.uri, written, self.target.storage_options)
        return sinks, files
