"""The tap: a function inside the streaming query that every batch of a gate's rows passes through.

It counts, takes out the rows that do not go on, and passes the others through. It is put into the plan by whoever runs
it and is never part of a compiled frame. Polars calls it from several threads at once.
"""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import polars as pl

from lazypipe.gates.marks import Lookup, mark, nowhere
from lazypipe.gates.measure import Sum, measured, verdict
from lazypipe.gates.report import CheckResult, GateReport, judge
from lazypipe.gates.rule import Check
from lazypipe.gates.shown import MASKED, records
from lazypipe.gates.tally import Tally
from lazypipe.gates.uniqueness import KeyHashes, KeyTracker
from lazypipe.spec.taps import tap

__all__ = [
    "FILE_COLUMN",
    "RAW_COLUMN",
    "RAW_TEXT",
    "RULES_COLUMN",
    "RUN_COLUMN",
    "WHOLE_ROW",
    "Tap",
    "quarantine_schema",
]

RULES_COLUMN = "_lazypipe_rules"
RUN_COLUMN = "_lazypipe_run"
FILE_COLUMN = "_lazypipe_file"
RAW_COLUMN = "_lazypipe_raw"
"""Cells of a source that did not fit their column, as text: on the way a struct by column, in quarantine JSON of it."""
RAW_TEXT = "__lazypipe_raw_text"
"""In a replay, the ``_lazypipe_raw`` of a quarantined row, which it keeps if it stays in quarantine."""
WHOLE_ROW = "broken_row"
"""What begins the fields of ``_lazypipe_raw`` that tell of a row which could not be read at all, and so has no cells."""

SAMPLES = 10
"""Failing rows that a report names, per check."""

_SPILL_BYTES = 64 << 20
"""Quarantined rows held in memory before they go to a temporary file."""


def quarantine_schema(schema: pl.Schema, *, raw: bool = False) -> pl.Schema:
    """Return the columns of quarantined rows: all of their own, the rules they violate, the run, the file if known.

    With ``raw``, also the text of cells that did not fit.
    """
    own = {**schema, RAW_COLUMN: pl.String()} if raw else schema
    return pl.Schema({**own, RULES_COLUMN: pl.List(pl.String()), RUN_COLUMN: pl.String(), FILE_COLUMN: pl.String()})


class Tap:
    """Counts and splits the rows of one gate.

    Parameters
    ----------
    schema
        The columns that flow through; a ``_lazypipe_file`` column beyond them is taken off, and kept for quarantined rows.
    spill
        Folder for quarantined rows beyond a budget; made when it is needed.
    notify
        Called with the number of rows of each batch. Polars holds the tap as long as a plan with it: what this reaches must hold no such plan, or
        neither is ever freed.
    split
        Whether rows are taken out; otherwise all go on, and are only counted.
    hold
        Whether rows whose keys may stand in another batch too may be held back until all have been seen: the caller then
        takes those that are good from ``release``.
    key
        Columns that tell rows apart in reports. Default: those that the check reads.
    masked
        Columns whose values reports do not show.
    raw
        Whether ``_lazypipe_raw`` flows through too, to be kept for quarantined rows.
    unit
        A column of ``schema`` by whose values rows are counted apart, for ``tallies``.
    hashing
        The checks, by their ids, of whose keys the hashes are kept, by unit.
    passed
        The columns that go on, besides the unit, where nothing further on reads others: rows are copied without these. Default: all.
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
        hold: bool = False,
        key: tuple[str, ...] = (),
        masked: frozenset[str] = frozenset(),
        raw: bool = False,
        unit: str | None = None,
        hashing: Container[str] = (),
        passed: Container[str] | None = None,
    ) -> None:
        self._checks = tuple(checks)
        self._schema = schema
        self._run = run
        self._spill = spill
        self._notify = notify
        reads = {c.id: c.columns for c in self._checks}  # asked of expressions: not once more with every batch
        self._shown = {i: [*key] or [n for n in schema if n in names] for i, names in reads.items()}
        self._masked = masked
        self._raw = raw
        self._unit = unit
        self._lock = threading.Lock()
        # marks of keys are added by the tap itself, batch by batch
        self._masks = {c.id: f"__lazypipe_violates_{i}" for i, c in enumerate(self._checks) if c.measure is None}
        self._removing = [c for c in self._checks if c.removes_rows and c.measure is None and split]
        self._keeping = [c for c in self._removing if c.action == "quarantine"]
        self._hold = hold and bool(self._removing)
        self.trackers = {c.id: KeyTracker(c.keys, schema) for c in self._checks if c.keys}
        self.hashes = {
            c.id: KeyHashes(c.keys, schema, spill, unit)
            for c in self._checks
            if unit is not None and c.keys and c.id in hashing
        }
        self._sums = {c.id: Sum(c) for c in self._checks if c.measure is not None and c.measure.parts}
        # what is measured of rows that go on may be of any column
        passed = None if self._sums else passed
        names = [n for n in schema if passed is None or n in passed or n == unit] or schema.names()[:1]
        self._passed = pl.Schema({n: schema[n] for n in names})
        self.tallies: dict[int, Tally] = {}
        self._flowed = 0  # asked for with every batch, of which there is one at least for each file
        self._repeated: dict[str, int] = {}
        self._samples: dict[str, list[dict[str, Any]]] = {c.id: [] for c in self._checks}
        self._sampled = Counter[str]()
        self._measured: dict[str, CheckResult] = {}
        self._bad: list[bytes | pl.DataFrame] = []
        self._bad_bytes = 0
        self._spilled: list[Path] = []
        self._held: list[bytes | pl.DataFrame] = []
        self._held_rows = 0

    @property
    def removes(self) -> bool:
        """Whether rows are taken out, so that it matters which rows violate, not only how many."""
        return bool(self._removing)

    @property
    def needs_keys(self) -> bool:
        """Whether rows at the ends of batches went on or away before it was known that their keys repeat."""
        return self.removes and not self._hold

    @property
    def rows(self) -> int:
        """Rows that have flowed through so far."""
        return self._flowed

    def attach(self, frame: pl.LazyFrame, lookup: Lookup = nowhere) -> pl.LazyFrame:
        """Return the frame with the tap in it: its rows are those that go on. ``lookup`` gives the rows of other frames that rows are looked up in."""
        self._marked = mark(frame, self._checks, lookup)
        masks = [self._marked.masks[c.id] for c in self._removing if c.id in self._marked.masks]
        keys = [n for c in self._removing if c.keys for n in sorted(c.columns)]
        return tap(self._marked.frame, self._flow, schema=self._passed, deciding=list(dict.fromkeys([*masks, *keys])))

    def _flow(self, batch: pl.DataFrame) -> pl.DataFrame:
        if batch.height == 0:
            return batch[self._passed.names()]
        if self._unit is None:
            return self._flow_of(0, batch)
        units = batch[self._unit]
        if units.min() == units.max():  # as a rule: what is read at once is of one file
            return self._flow_of(units[0], batch)
        parts = batch.partition_by(self._unit, maintain_order=True)
        return pl.concat([self._flow_of(part[self._unit][0], part) for part in parts])

    def _flow_of(self, unit: int, batch: pl.DataFrame) -> pl.DataFrame:
        marked = self._marked
        # column by column: a query of many sums would go through the engine, and cost more than the sums
        counted = (*marked.masks.values(), *marked.wheres.values(), *marked.repairs.values())
        sums = {name: int(batch[name].sum()) for name in counted}
        batch, held = self._watch_keys(unit, batch)
        good = batch[self._passed.names()]
        bad: pl.DataFrame | None = None
        kept: pl.DataFrame | None = None
        failing: dict[str, pl.DataFrame] = {}
        removed = 0
        found = [c for c in self._removing if sums.get(self._masks[c.id], c.keys)]
        if found or held is not None:
            none = pl.Series("out", [False]).new_from_index(0, batch.height)
            out = reduce(or_, (batch[self._masks[c.id]] for c in found), none)
            if held is not None:
                kept, out = batch.filter(held), out & ~held
            removed = int(out.sum())
            if removed or held is not None:
                good = good.filter(~out if held is None else ~(out | held))
            if removed:
                taken = batch.filter(out)
                bad = self._condemned(taken)
                if held is None:  # all that violate are among these few
                    failing = dict.fromkeys((c.id for c in found), taken)
        for total in self._sums.values():
            total.add(good)
        failed = {c.id: sums.get(self._masks.get(c.id, ""), 0) for c in self._checks}
        evaluated = {c.id: batch.height for c in self._checks} | {i: sums[where] for i, where in marked.wheres.items()}
        repaired = {}
        for i, mark_of in marked.repairs.items():
            # a later repair may make other rows violate, and a repaired row need not meet the condition any more
            repaired[i] = int((batch[mark_of] | batch[self._masks[i]]).sum())
            if i in marked.wheres:
                evaluated[i] = int((batch[mark_of] | batch[marked.wheres[i]]).sum())
        samples = {c.id: self._sample(failing.get(c.id, batch), c, failed[c.id]) for c in self._checks}
        with self._lock:
            tally = self.tallies.setdefault(unit, Tally())
            tally.rows += batch.height
            self._flowed += batch.height
            tally.good += good.height
            for check in self._checks:
                tally.failed[check.id] += failed[check.id]
                tally.evaluated[check.id] += evaluated[check.id]
                if check.id in repaired:
                    tally.repaired[check.id] += repaired[check.id]
                self._samples[check.id] += samples[check.id]
            if bad is not None:
                tally.quarantined += bad.height
                tally.dropped += removed - bad.height
                self._keep(bad)
            if kept is not None and kept.height:
                self._held.append(_packed(kept))
                self._held_rows += kept.height
        self._notify(batch.height)
        return good

    def _watch_keys(self, unit: int, batch: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series | None]:
        """Mark rows whose keys are known to repeat; return also which are to be held back."""
        marks, held = [], pl.lit(value=False)
        holds = False
        for check in self._checks:
            if not check.keys:
                continue
            where = self._marked.wheres.get(check.id)
            compared = batch.filter(where) if where else batch
            hashes = self.hashes[check.id].add(unit, compared) if check.id in self.hashes else None
            ends = self.trackers[check.id].add(compared, hashes)
            if ends is None:  # nothing is known yet; written out, because a query per batch would cost more
                none = pl.Series(self._masks[check.id], [False]).new_from_index(0, batch.height)
                batch = batch.hstack([none])
                continue
            mask, value = pl.lit(value=False), pl.col(check.keys[0]).to_physical()
            if len(ends.repeated):
                mask = value.is_in(ends.repeated.implode()).fill_null(value=False)
            marks.append((mask & pl.col(where) if where else mask).alias(self._masks[check.id]))
            if self._hold:
                at_end = (value == ends.ends[0]) | (value == ends.ends[1])
                held, holds = held | (at_end & pl.col(where) if where else at_end), True
        if marks:
            batch = batch.with_columns(marks)
        return batch, batch.select(held.fill_null(value=False).alias("held")).to_series() if holds else None

    def _sample(self, batch: pl.DataFrame, check: Check, failed: int) -> list[dict[str, Any]]:
        names = self._shown[check.id]
        with self._lock:  # other batches are sampled at the same time
            many = min(failed, SAMPLES - self._sampled[check.id])
            self._sampled[check.id] += many
        if not many or not names:  # a condition on no column at all
            return []
        rows = batch[names][batch[self._masks[check.id]].arg_true().head(many)]
        return [{k: MASKED if k in self._masked else v for k, v in row.items()} for row in records(rows)]

    def _condemned(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the removed rows that go to quarantine, with their violations still as masks; the other removed rows are dropped."""
        if len(self._keeping) == len(self._removing):
            return rows
        return (
            rows.filter(pl.any_horizontal(self._masks[c.id] for c in self._keeping)) if self._keeping else rows.clear()
        )

    def release(self) -> pl.DataFrame | None:
        """Return those of the rows held back that are good, None if none were held; to be called once all were seen.

        The trackers must have been able to tell which keys repeat.
        """
        if not self._held:
            return None
        rows = _unpacked(self._held)
        self._held, self._held_rows = [], 0
        marks = []
        for check in self._checks:
            if check.keys:
                mask = pl.col(self._masks[check.id])
                where = self._marked.wheres.get(check.id)
                again = self.trackers[check.id].ends_repeated(self._schema[check.keys[0]])
                at_end = pl.col(check.keys[0]).to_physical().is_in(again.implode()).fill_null(value=False)
                marks.append((mask | (at_end & pl.col(where) if where else at_end)).alias(self._masks[check.id]))
        rows = rows.with_columns(marks)
        out = rows.select(pl.any_horizontal(self._masks[c.id] for c in self._removing)).to_series()
        bad = self._condemned(rows.filter(out))
        good = rows.filter(~out).select(self._schema.names())
        for total in self._sums.values():
            total.add(good)
        # rows are held back only where all is read at once, as one unit
        self.tallies.setdefault(0, Tally()).add(
            Tally(good=good.height, quarantined=bad.height, dropped=int(out.sum()) - bad.height)
        )
        self._keep(bad)
        return good

    def _with_reasons(self, rows: pl.DataFrame) -> pl.LazyFrame:
        """Return quarantined rows as their dataset holds them: as they were before any repair."""
        # many rows violate the same few sets of rules: each set is spelled out once
        ids = {mask: check for check, mask in self._masks.items() if mask in rows.columns}
        sets = rows[list(ids)].unique() if len(ids) > 1 else rows[list(ids)].head(1)  # there is no other reason
        names = [[ids[m] for m, violates in row.items() if violates] for row in sets.iter_rows(named=True)]
        told = rows.lazy().drop(RULES_COLUMN, strict=False)
        # all in one query, which costs more to begin than to run
        if len(names) == 1:
            told = told.with_columns(pl.lit(names[0], dtype=pl.List(pl.String)).alias(RULES_COLUMN))
        else:
            sets = sets.hstack([pl.Series(RULES_COLUMN, names, dtype=pl.List(pl.String))])
            told = told.join(sets.lazy(), on=list(ids), how="left", maintain_order="left")
        told = told.with_columns(pl.col(kept).alias(name) for name, kept in self._marked.originals.items())
        file = pl.col(FILE_COLUMN) if FILE_COLUMN in rows.columns else pl.lit(None, dtype=pl.String)
        # in a replay, rows keep the run that first quarantined them
        replayed = RUN_COLUMN in rows.columns and RUN_COLUMN not in self._schema
        run = pl.col(RUN_COLUMN) if replayed else pl.lit(self._run).alias(RUN_COLUMN)
        if self._raw and isinstance(rows.schema[RAW_COLUMN], pl.Struct):
            text = pl.col(RAW_TEXT) if RAW_TEXT in rows.columns else _as_json(rows[RAW_COLUMN].struct.fields)
            told = told.with_columns(text.alias(RAW_COLUMN))
        kept = quarantine_schema(self._schema, raw=self._raw).names()
        return told.with_columns(run, file.alias(FILE_COLUMN)).select(kept)

    def _keep(self, bad: pl.DataFrame) -> None:
        if bad.height == 0:
            return
        # as bytes of their own: a few filtered rows would keep alive the text of the whole batch they came from
        part = bad if all(map(_is_by_value, bad.dtypes)) else _packed(bad)
        self._bad.append(part)
        self._bad_bytes += len(part) if isinstance(part, bytes) else int(part.estimated_size())
        if self._bad_bytes > _SPILL_BYTES:
            self._spill.mkdir(parents=True, exist_ok=True)
            path = self._spill / f"{id(self)}-{len(self._spilled)}.arrows"
            # written eagerly: a sink would be a query of its own, on the very threads that run this one
            path.write_bytes(_packed(_unpacked(self._bad)))
            self._spilled.append(path)
            self._bad, self._bad_bytes = [], 0

    def quarantined(self) -> Iterator[pl.LazyFrame]:
        """Yield the quarantined rows, in parts that fit in memory."""
        for path in self._spilled:
            yield self._with_reasons(pl.read_ipc_stream(path))
        if self._bad:
            yield self._with_reasons(_unpacked(self._bad))

    def forget(self) -> None:
        """Let go of the quarantined rows: they are where they go, and who holds the tap may do so until garbage is collected."""
        self._spilled, self._bad, self._bad_bytes = [], [], 0

    def count_keys(self, check: Check, failed: int) -> None:
        """Take the exact count of rows whose key repeats."""
        self._repeated[check.id] = failed

    def measure(
        self,
        check: Check,
        rows: Callable[[], pl.LazyFrame],
        frames: Mapping[str, pl.LazyFrame],
        history: Sequence[Any] = (),
        *,
        ask: bool = False,
    ) -> None:
        """Judge a check of the whole frame: by what was added up, or by a query over the rows that went on (always if ``ask``)."""
        values = (
            self._sums[check.id].value(self._schema)
            if check.id in self._sums and not ask
            else measured(check, rows(), frames).collect(engine="streaming")
        )
        self._measured[check.id] = verdict(check, values, history, self._masked)

    def report(self, node: str, earlier: Iterable[Tally] = ()) -> GateReport:
        """Return what was found, once the query has ended; with what was counted ``earlier`` of other rows."""
        total = Tally()
        for tally in (*earlier, *self.tallies.values()):
            total.add(tally)
        total.good += self._held_rows  # as far as is known by now
        total.failed.update({i: n - total.failed[i] for i, n in self._repeated.items()})
        return GateReport(
            node=node,
            checks=tuple(self._measured.get(c.id) or self._judged(c, total) for c in self._checks),
            rows=total.rows,
            good=total.good,
            quarantined=total.quarantined,
            dropped=total.dropped,
        )

    def _judged(self, check: Check, total: Tally) -> CheckResult:
        failed = total.failed[check.id]
        repaired = total.repaired[check.id] if check.repair is not None else failed
        return judge(
            check,
            total.evaluated[check.id],
            failed,
            repaired=repaired - failed,
            samples=tuple(self._samples[check.id]),
        )


def _as_json(names: Sequence[str]) -> pl.Expr:
    """Return what did not fit as JSON: the cells of a row, or else the row."""
    whole = [n for n in names if n.startswith(f"{WHOLE_ROW}:")]
    encoded = pl.lit(None, dtype=pl.String)
    for part in ([n for n in names if n not in whole], whole):
        fields = [pl.col(RAW_COLUMN).struct.field(n) for n in part]
        if fields:
            told = pl.any_horizontal(f.is_not_null() for f in fields)
            encoded = pl.when(told).then(pl.struct(fields).struct.json_encode()).otherwise(encoded)
    return encoded


def _packed(rows: pl.DataFrame) -> bytes:
    target = io.BytesIO()
    rows.write_ipc_stream(target)
    return target.getvalue()


def _unpacked(parts: Sequence[bytes | pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(pl.read_ipc_stream(part) if isinstance(part, bytes) else part for part in parts)


def _is_by_value(dtype: pl.DataType) -> bool:
    """Whether rows that are filtered have values of a type in memory of their own."""
    return dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean
