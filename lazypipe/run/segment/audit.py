"""The audit of one attempt at a segment: what its gates found, over all rows that the output will have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import polars as pl

from lazypipe.gates import Check
from lazypipe.gates.alone import settle
from lazypipe.gates.report import GateReport
from lazypipe.gates.rule import PREVIOUS
from lazypipe.gates.tally import Tally
from lazypipe.gates.tap import Tap
from lazypipe.gates.uniqueness import TIMES_COLUMN, repeated
from lazypipe.incremental.work import Work
from lazypipe.run.segment.aside import Quarantine
from lazypipe.run.segment.part import Part
from lazypipe.run.segment.query import Query
from lazypipe.run.segment.target import Target
from lazypipe.storage.datasets.log import JUDGE, REWRITE
from lazypipe.storage.sink import DatasetSink, ExportSink, Written

__all__ = ["Audit"]


class Audit(Part):
    """What the gates of a segment found; complete once it is ``ended``. ``untouched`` was counted before, of groups that stay."""

    def __init__(self, query: Query, target: Target) -> None:
        super().__init__(query, target)
        self.untouched: tuple[Tally, ...] = ()
        self.ended = False

    def settle(self) -> bool:
        """Count repeated keys; return whether the rows must be written again, because it matters which ones repeat."""
        again = False
        for name, tap in self.query.taps.items():
            if self.work.kind == "units" and (self.query.unit(name) or self._by_groups(name)):
                continue
            checks = [c for c in self.plan.nodes[name].checks if (name, c.id) not in self.query.known]
            known = settle(tap, checks, partial(self.query.plain, name, before_gate=True))
            self.query.known |= {(name, check): keys for check, keys in known.items()}
            if any(c.id in known and c.removes_rows for c in checks):
                again = True
            elif known:
                report = tap.report(name)
                again = again or (report.quarantined > 0 and report.status != "fail")
        return again

    def measure(self, sink: DatasetSink | ExportSink, written: Written) -> None:
        """Judge the checks of whole frames, over the rows that go on; those of the segment's own node are on disk by now."""
        for name, tap in self.query.taps.items():
            part = self.work.kind == "units" and (bool(self.query.unit(name)) or self._by_groups(name))
            on_disk = name == self.segment.node and isinstance(sink, DatasetSink)
            rows = partial(self._published_rows, sink, written) if on_disk else partial(self.query.plain, name)
            for check in self.plan.nodes[name].checks:
                if check.keys and part:
                    tap.count_keys(check, self._count_keys(name, check, tap, rows))
                if check.measure is not None:
                    frames = {n: self.query.plain(n) for n in check.measure.frames if n != PREVIOUS}
                    commit = self.target.before if self.target.is_published(name) else None
                    if commit is not None and PREVIOUS in check.measure.frames:
                        frames[PREVIOUS] = self.target.dataset.scan(commit)
                    tap.measure(
                        check,
                        rows,
                        frames,
                        self._history(name, check),
                        ask=part,
                    )

    def _published_rows(self, sink: DatasetSink | ExportSink, written: Written) -> pl.LazyFrame:
        """Return all rows that the output will have."""
        rows = self.target.rows_of(sink, written)
        if self.target.groups is not None:
            return pl.concat([self.target.groups.others(), rows])
        commit = self.target.latest() if self.work.adds_units else None
        if commit is None:
            return rows
        return pl.concat([self.target.dataset.scan(commit, only=commit.units - self.work.gone), rows])

    def _by_groups(self, name: str) -> bool:
        """Whether a gate sees only rows of groups that are touched."""
        return self.target.groups is not None and name == self.segment.node

    def _count_keys(self, name: str, check: Check, tap: Tap, rows: Callable[[], pl.LazyFrame]) -> int:
        """Return how many of all rows have a key that repeats, where this run sees some of them only."""
        if (name, check.id) in self.work.hashed:
            return self._count_hashed(name, check)
        if self.target.groups is None:
            return self._count_repeated(check, tap, rows())
        within = {*self.target.groups.names} <= {*check.keys}
        if within and self._had_failed(name, check) == 0 and tap.trackers[check.id].count() == 0:
            return 0  # rows of other groups have other keys
        keys = repeated(rows(), check.keys, check.where).collect(engine="streaming")
        return int(keys[TIMES_COLUMN].sum())

    def _had_failed(self, name: str, check: Check) -> int | None:
        """Return how many rows violated a check, as the commit says that this run builds upon."""
        commit = self.work.commit
        reports = [] if commit is None else [r for r in commit.info.get("gates", ()) if r["node"] == name]
        return next((c["failed"] for r in reports for c in r["checks"] if c["id"] == check.id), None)

    def _count_repeated(self, check: Check, tap: Tap, good: pl.LazyFrame) -> int:
        """Return how many of all rows have a key that repeats: good rows, now and before, and quarantined ones."""
        schema = self.target.schema
        names = [n for n in schema if n in check.columns]
        aside = Quarantine(self.query, self.segment.node).dataset
        commit = aside.latest()
        parts = [good.select(names), *(part.select(names) for part in tap.quarantined())]
        if commit is not None and commit.tagged:
            live = frozenset(self.work.tallies[self.segment.node])
            parts.append(aside.scan(commit, only=live).select(names))
        keys = repeated(pl.concat(parts), check.keys, check.where).collect(engine="streaming")
        return int(keys[TIMES_COLUMN].sum())

    def _count_hashed(self, name: str, check: Check) -> int:
        """Return how many of all rows have a key that repeats, where hashes of keys are kept of those read before."""
        assert self.query.beside is not None
        clean = self._had_failed(name, check) == 0

        def rows(work: Work) -> pl.LazyFrame:
            return self.query.instead(work).plain(name, before_gate=True)

        return self.query.beside.repeats(name, check, self.plan.nodes[name].schema, rows, clean=clean)

    def _history(self, name: str, check: Check) -> list[Any]:
        """Return the values that a check measured in the last runs that led to the version in force, oldest first.

        Files that were only written anew, and rows that only came back or were said to be there still, are no runs of their own; nor do
        runs count whose versions were rolled back.
        """
        if not check.measure or not check.measure.history or not self.target.is_published(name):
            return []
        log = self.target.dataset.log
        there, runs = [*log.versions()], 0
        found: list[Any] = []
        while there and runs < check.measure.history:
            commit = log.read(there.pop())
            if commit.brings_back is not None:
                there = [v for v in there if v <= commit.brings_back]
                continue
            if commit.mode in (JUDGE, REWRITE):
                continue
            runs += 1
            for report in commit.info.get("gates", ()):
                if report["node"] == name:
                    found += [c.get("value") for c in report["checks"] if c["id"] == check.id]
        return found[::-1]

    def count_groups(self) -> None:
        """Take the rows of groups that are not touched into account, as they were counted before."""
        tap, report = self.query.taps.get(self.segment.node), self.target.reported()
        if self.target.groups is not None and tap is not None and report is not None:
            node = self.plan.nodes[self.segment.node]
            self.untouched = self.target.groups.earlier(report, node.checks, node.schema, self.query.lookup)

    def judge(self, written: Written) -> None:
        """Raise GateError where a gate fails; no row may have got lost either."""
        reports = self.reports()
        for report in reports:
            report.raise_for_status()
        if self.segment.node in self.query.taps:
            good = sum(t.good for t in self.query.taps[self.segment.node].tallies.values())
            made = self.target.made(written)
            assert good == made, f"rows lost on the way to {self.target.uri}: {good}, written {made}"

    def reports(self) -> tuple[GateReport, ...]:
        """Return what the gates found; nothing until all of their rows have been seen."""
        if not self.ended:
            return ()
        earlier: dict[str, Iterable[Tally]] = {
            n: t.values() for n, t in self.work.tallies.items() if self.query.unit(n)
        }
        if self.untouched:
            earlier[self.segment.node] = self.untouched
        return tuple(t.report(name, earlier.get(name, ())) for name, t in self.query.taps.items())
