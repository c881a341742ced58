"""Gates on your own frames, without a pipeline or files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from lazypipe.gates.marks import Lookup, mended
from lazypipe.gates.report import GateReport
from lazypipe.gates.rule import Check, Reference
from lazypipe.gates.tap import Tap, quarantine_schema
from lazypipe.gates.uniqueness import TIMES_COLUMN, repeated
from lazypipe.spec.taps import label

__all__ = ["Split", "check_frame", "mark_repeats", "settle", "split_frame"]


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of a frame after a gate: ``good`` rows, ``bad`` rows with the rules they violate, and the report.

    Rows that a rule drops are in neither. The order of rows is not kept.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    report: GateReport

    def __repr__(self) -> str:
        return f"<Split {self.good.height:,} good, {self.bad.height:,} bad of {self.report.rows:,} rows>"


def settle(tap: Tap, checks: Sequence[Check], rows: Callable[[], pl.LazyFrame]) -> dict[str, pl.DataFrame]:
    """Count the rows whose keys repeat, with a query over ``rows`` only where the tap cannot tell.

    Returns
    -------
    dict
        Per check, the keys that repeat and that the tap could not mark: rows with them must flow again, marked.
    """
    known = {}
    for check in checks:
        if not check.keys:
            continue
        count = tap.trackers[check.id].count()
        if count is None or (count and tap.needs_keys):
            keys = repeated(rows(), check.keys, check.where).collect(engine="streaming")
            count = int(keys[TIMES_COLUMN].sum())
            if keys.height:
                known[check.id] = keys
        tap.count_keys(check, count)
    return known


def mark_repeats(
    checks: Sequence[Check], known: Mapping[str, pl.DataFrame], lookup: Lookup
) -> tuple[list[Check], Lookup]:
    """Turn the key checks whose repeated keys are known by now into checks that each row can tell, and say where to look.

    Keys are looked up behind repairs, as they were compared.
    """
    marked = []
    names: dict[str, pl.LazyFrame] = {}
    for check in checks:
        keys = known.get(check.id)
        if keys is None:
            marked.append(check)
            continue
        name = f"@repeated:{check.id}"
        names[name] = label(keys.lazy(), "repeated keys")
        marked.append(replace(check, keys=(), reference=Reference(check.keys, name, check.keys, least=0, most=0)))
    return marked, lambda reference: names[reference.to] if reference.to in names else lookup(reference)


def check_frame(
    frame: pl.LazyFrame, checks: Sequence[Check], lookup: Lookup, frames: Mapping[str, pl.LazyFrame]
) -> GateReport:
    """Count what violates, in one streaming pass, over the columns that are needed."""
    schema = frame.collect_schema()
    used = {n for c in checks for n in c.columns}
    names = [n for n in schema if n in used] or schema.names()[:1]
    narrow = pl.Schema({n: schema[n] for n in names})
    tap = Tap(checks, narrow, run="", spill=Path(), split=False)
    tap.attach(frame.select(names), lookup).select(pl.len()).collect(engine="streaming")
    settle(tap, checks, lambda: mended(frame, checks))
    for check in checks:
        if check.measure is not None:
            tap.measure(check, lambda: frame, frames)
    return tap.report("frame")


def split_frame(
    frame: pl.LazyFrame, checks: Sequence[Check], lookup: Lookup, frames: Mapping[str, pl.LazyFrame], *, run: str
) -> Split:
    """Part the rows that go on from those that do not."""
    schema = frame.collect_schema()
    known: dict[str, pl.DataFrame] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as spill:
        while True:
            marked, look = mark_repeats(checks, known, lookup)
            tap = Tap(marked, schema, run=run, spill=Path(spill), hold=True)
            good = tap.attach(frame, look).collect(engine="streaming")
            found = settle(tap, marked, lambda: mended(frame, checks))
            if not (found and tap.removes):
                break
            known |= found
        held = tap.release()
        if held is not None:
            good = pl.concat([good, held])
        for check in checks:
            if check.measure is not None:
                tap.measure(check, good.lazy, frames)
        bad = [rows.collect() for rows in tap.quarantined()]
    return Split(good, pl.concat(bad) if bad else pl.DataFrame(schema=quarantine_schema(schema)), tap.report("frame"))
