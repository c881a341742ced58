"""The tap: one function through which a gate's rows flow, batch by batch, inside the one streaming query.

It counts, takes out the rows that do not go on, and passes the others through. It is put into the plan by whoever runs
it and is never part of a compiled frame. Polars calls it from several threads at once.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl

from lazypipe.gates.report import GateReport, judge
from lazypipe.gates.rule import Check
from lazypipe.gates.uniqueness import KeyTracker

__all__ = ["FILE_COLUMN", "RULES_COLUMN", "RUN_COLUMN", "Tap", "quarantine_schema"]

RULES_COLUMN = "_lazypipe_rules"
RUN_COLUMN = "_lazypipe_run"
FILE_COLUMN = "_lazypipe_file"

_SPILL_BYTES = 64 << 20
"""Quarantined rows held in memory before they go to a temporary file."""


def quarantine_schema(schema: pl.Schema) -> pl.Schema:
    """Return the columns of quarantined rows: all of their own, the rules they violate, the run, the file if known."""
    return pl.Schema({**schema, RULES_COLUMN: pl.List(pl.String()), RUN_COLUMN: pl.String(), FILE_COLUMN: pl.String()})


class Tap:
    """Counts and splits the rows of one gate.

    Parameters
    ----------
    schema
        The columns that flow through; a ``_lazypipe_file`` column beyond them is taken off, and kept for quarantined rows.
    spill
        Folder for quarantined rows beyond a budget; made when it is needed.
    notify
        Called with the number of rows of each batch.
    split
        Whether rows are taken out; otherwise all go on, and are only counted.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        schema: pl.Schema,
        *,
        run: str,
        spill: Path,
        notify: Callable[[int], None] = lambda _: None,
        split: bool = True,
    ) -> None:
        self._checks = tuple(checks)
        self._schema = schema
        self._run = run
        self._spill = spill
        self._notify = notify
        self._lock = threading.Lock()
        self._rows_checked = [c for c in self._checks if c.violated is not None]
        self._masks = {c.id: f"__lazypipe_violates_{i}" for i, c in enumerate(self._checks)}
        self._wheres = {c.id: f"__lazypipe_where_{i}" for i, c in enumerate(self._checks) if c.where is not None}
        self._removing = [c for c in self._rows_checked if c.removes_rows and split]
        self._keeping = [c for c in self._removing if c.action == "quarantine"]
        self.trackers = {c.id: KeyTracker(c.keys, schema) for c in self._checks if c.keys}
        self._failed = dict.fromkeys((c.id for c in self._checks), 0)
        self._evaluated = dict.fromkeys((c.id for c in self._checks), 0)
        self._rows = self._good = self._dropped = self._quarantined = 0
        self._bad: list[bytes] = []
        self._bad_bytes = 0
        self._spilled: list[Path] = []

    @property
    def rows(self) -> int:
        """Rows that have flowed through so far."""
        return self._rows

    def attach(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return the frame with the tap in it: its rows are those that go on."""
        masks = [c.mask().alias(self._masks[c.id]) for c in self._rows_checked]
        wheres = [c.where.fill_null(value=False).alias(self._wheres[c.id]) for c in self._checks if c.where is not None]
        return frame.with_columns(*masks, *wheres).map_batches(
            self._flow, schema=self._schema, streamable=True, validate_output_schema=False
        )

    def _flow(self, batch: pl.DataFrame) -> pl.DataFrame:
        if batch.height == 0:
            return batch.select(self._schema.names())
        counted = [*(self._masks[c.id] for c in self._rows_checked), *self._wheres.values()]
        sums = batch.select(pl.col(counted).sum()).row(0, named=True) if counted else {}
        for check in self._checks:
            if check.keys:
                seen = batch.filter(self._wheres[check.id]) if check.where is not None else batch
                self.trackers[check.id].add(seen)
        good, bad, removed = batch.select(self._schema.names()), None, 0
        if any(sums[self._masks[c.id]] for c in self._removing):
            out = batch.select(pl.any_horizontal(self._masks[c.id] for c in self._removing)).to_series()
            removed = int(out.sum())
            good = good.filter(~out)
            bad = self._condemned(batch.filter(out))
        with self._lock:
            self._rows += batch.height
            self._good += good.height
            for check in self._checks:
                self._failed[check.id] += sums.get(self._masks[check.id], 0)
                self._evaluated[check.id] += sums[self._wheres[check.id]] if check.where is not None else batch.height
            if bad is not None:
                self._quarantined += bad.height
                self._dropped += removed - bad.height
                self._keep(bad)
        self._notify(batch.height)
        return good

    def _condemned(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return those of the removed rows that are quarantined, what they violate still as masks; the others are dropped."""
        if len(self._keeping) == len(self._removing):
            return rows
        return (
            rows.filter(pl.any_horizontal(self._masks[c.id] for c in self._keeping)) if self._keeping else rows.clear()
        )

    def _with_reasons(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return quarantined rows as their dataset holds them."""
        rules = pl.concat_list(
            pl.when(self._masks[c.id]).then(pl.lit(c.id)) for c in self._rows_checked
        ).list.drop_nulls()
        file = pl.col(FILE_COLUMN) if FILE_COLUMN in rows.columns else pl.lit(None, dtype=pl.String)
        # rows that are replayed from a quarantine have these columns already
        return rows.with_columns(
            rules.alias(RULES_COLUMN), pl.lit(self._run).alias(RUN_COLUMN), file.alias(FILE_COLUMN)
        ).select(quarantine_schema(self._schema).names())

    def _keep(self, bad: pl.DataFrame) -> None:
        if bad.height == 0:
            return
        # as bytes of their own: a few filtered rows would keep alive the text of the whole batch they came from
        part = _packed(bad)
        self._bad.append(part)
        self._bad_bytes += len(part)
        if self._bad_bytes > _SPILL_BYTES:
            self._spill.mkdir(parents=True, exist_ok=True)
            path = self._spill / f"{id(self)}-{len(self._spilled)}.arrows"
            # written eagerly: a sink would be a query of its own, on the very threads that run this one
            path.write_bytes(_packed(_unpacked(self._bad)))
            self._spilled.append(path)
            self._bad, self._bad_bytes = [], 0

    def quarantined(self) -> Iterator[pl.DataFrame]:
        """Yield the quarantined rows, in parts that fit in memory."""
        for path in self._spilled:
            yield self._with_reasons(pl.read_ipc_stream(path))
        if self._bad:
            yield self._with_reasons(_unpacked(self._bad))

    def count_keys(self, check: Check, failed: int) -> None:
        """Take the exact count of rows whose key repeats."""
        self._failed[check.id] = failed

    def report(self, node: str) -> GateReport:
        """Return what was found, once the query has ended."""
        return GateReport(
            node=node,
            checks=tuple(judge(c, self._evaluated[c.id], self._failed[c.id]) for c in self._checks),
            rows=self._rows,
            good=self._good,
            quarantined=self._quarantined,
            dropped=self._dropped,
        )


def _packed(rows: pl.DataFrame) -> bytes:
    target = io.BytesIO()
    rows.write_ipc_stream(target)
    return target.getvalue()


def _unpacked(parts: Sequence[bytes]) -> pl.DataFrame:
    return pl.concat(pl.read_ipc_stream(part) for part in parts)
