"""Replay: rows in an output's quarantine meet its gate once more, and those that pass now move into the output, once.

Two datasets cannot be committed in one step. What remains in quarantine is therefore written first; then the healed rows
are committed to the output, in whose commit the files that remain are named; and only then the quarantine is committed.
A replay that was killed in between is finished by the next one from what the output's commit says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.compile.node import Node
from lazypipe.errors import LazypipeError, nearest
from lazypipe.gates.alone import mark_repeats
from lazypipe.gates.report import GateReport
from lazypipe.gates.rule import PREVIOUS, Reference
from lazypipe.gates.tap import FILE_COLUMN, RAW_COLUMN, RULES_COLUMN, RUN_COLUMN, Tap
from lazypipe.gates.uniqueness import repeated
from lazypipe.spec.model import Output
from lazypipe.storage.dataset import Dataset, scan_files
from lazypipe.storage.log import Commit, DataFile
from lazypipe.storage.sink import DatasetSink
from lazypipe.storage.units import UNIT

__all__ = ["ReplayResult", "replay"]


@dataclass(frozen=True)
class ReplayResult:
    """What a replay did: rows that moved into the output, that left because the output has their key, that remain.

    ``version`` is the output's commit with the healed rows, None if there were none; ``report`` what the gate found, None
    where nothing was in quarantine, or an earlier replay was only finished.
    """

    output: str
    healed: int
    superseded: int
    remaining: int
    version: int | None = None
    report: GateReport | None = None


def replay(plan: CompiledPipeline, output: str, *, run: str, now: datetime) -> ReplayResult:
    """Put an output's quarantined rows through its gate again, as it is compiled now.

    Rows that repeat a key are compared with the rows of the output too. Where the output declares a key, quarantined rows
    whose key it has by now have been delivered anew: they leave.

    Raises
    ------
    LazypipeError
        If there is no such output, or it is no dataset.
    GateError
        If the gate fails; nothing was moved.
    """
    if output not in plan.outputs:
        raise LazypipeError(f"unknown output {output!r}; {nearest(output, plan.outputs, 'outputs')}")
    target = plan.outputs[output]
    if target.format != "dataset":
        raise LazypipeError(f"output {output!r} is one {target.format} file, which has no quarantine to replay")
    data = Dataset(target.to, target.storage_options)
    aside = Dataset(f"{target.to}__quarantine", target.storage_options)
    held, current = aside.latest(), data.latest()
    if held is None or held.rows == 0 or current is None:
        return ReplayResult(output, 0, 0, 0)
    done = _begun(data, held)
    if done is not None:
        return _finish(output, aside, held, done, now)
    if dict(current.schema) != dict(plan.nodes[target.stage].schema):
        what = f"output {output!r}: its columns are others than those of the definition now"
        raise LazypipeError(f"{what}; run the pipeline first, so that rows can go there")
    return _Replay(plan, output, target, data, aside, current, held, run, now).run_all()


def _begun(data: Dataset, held: Commit) -> Commit | None:
    """Return the output's commit of a replay of this very quarantine that was killed before its end."""
    for version in reversed(data.log.versions()):
        commit = data.log.read(version)
        if commit.info.get("replay", {}).get("quarantine") == held.version:
            return commit
        if commit.time < held.time:
            return None
    return None


def _finish(output: str, aside: Dataset, held: Commit, commit: Commit, now: datetime) -> ReplayResult:
    said: Mapping[str, Any] = commit.info["replay"]
    files = [*map(DataFile.from_dict, said["remaining"])]
    info = {"of": output, "replayed": commit.run}
    aside.commit(files, held.schema, run=commit.run, time=now, info=info, expected=held.version)
    return ReplayResult(output, said["healed"], said["superseded"], sum(f.rows for f in files), commit.version)


@dataclass(frozen=True)
class _Replay:
    plan: CompiledPipeline
    output: str
    target: Output
    data: Dataset
    aside: Dataset
    current: Commit
    held: Commit
    run: str
    now: datetime

    @property
    def node(self) -> Node:
        return self.plan.nodes[self.target.stage]

    def run_all(self) -> ReplayResult:
        rows, superseded = self.pending()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as spill:
            tap, good = self.gated(rows, Path(spill))
            report = tap.report(self.node.name)
            report.raise_for_status()
            staged, remaining = self.write_remaining(tap)
        left = sum(f.rows for f in remaining)
        sink = DatasetSink(self.data.uri, f"{self.run}-000", self.target.partition_by, self.target.storage_options)
        # healed rows are a unit of their own: the next run, to which this commit names no inputs, makes everything anew
        apart = [pl.lit(0, dtype=pl.UInt64).alias(UNIT)] if self.current.tagged else []
        files = sink.write(good.lazy().with_columns(apart)).files if good.height else ()
        if self.current.tagged:
            files = tuple(replace(f, units={0: f.rows}) for f in files)
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
        commit = self.data.commit(
            files,
            self.current.schema,
            run=self.run,
            time=self.now,
            mode="append",
            partition_by=self.target.partition_by,
            info={"replay": said, "gates": [report.to_dict()]},
            expected=self.current.version,
            tagged=self.current.tagged,
        )
        _finish(self.output, self.aside, self.held, commit, self.now)
        return ReplayResult(self.output, good.height, superseded, left, commit.version, report)

    def pending(self) -> tuple[pl.LazyFrame, int]:
        """Return the quarantined rows that the output has not got from its source meanwhile, and how many it has."""
        rows = self.aside.scan(self.held)
        rows = self.node.reread(rows)
        if not self.target.key:
            return rows, 0
        known = self.data.scan(self.current).select(self.target.key)
        rows = rows.join(known, on=self.target.key, how="anti")
        return rows, self.held.rows - rows.select(pl.len()).collect(engine="streaming").item()

    def gated(self, rows: pl.LazyFrame, spill: Path) -> tuple[Tap, pl.DataFrame]:
        node, there = self.node, self.data.scan(self.current)
        known = {}
        for check in node.checks:
            if check.keys:
                columns = [c for c in node.schema if c in check.columns]
                both = pl.concat([there.select(columns), node.mended(rows).select(columns)])
                known[check.id] = repeated(both, check.keys, check.where).collect(engine="streaming")
        aside = RAW_COLUMN in self.held.schema
        kept = [RAW_COLUMN] if aside or node.raw else []
        rows = rows.select(*node.schema, *kept, FILE_COLUMN, RUN_COLUMN)
        checks, lookup = mark_repeats(node.checks, known, self.lookup)
        tap = Tap(
            checks,
            node.schema,
            run=self.run,
            spill=spill,
            lookup=lookup,
            key=self.plan.key(node.name),
            masked=self.plan.masked(node.name),
            raw=aside,
        )
        good = tap.attach(rows).collect(engine="streaming")
        together = pl.concat([there.select(node.schema.names()), good.lazy()])
        for check in checks:
            if check.measure is not None:
                frames = {n: self.plan.frames[n] for n in check.measure.frames if n != PREVIOUS}
                tap.measure(check, lambda: together, frames | {PREVIOUS: there})
        return tap, good

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
            files += sinks[-1].write(part.lazy()).files
        return sinks, files
