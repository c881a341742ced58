"""Gates on frames of one's own: no pipeline, no files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from lazypipe.gates.marks import Lookup
from lazypipe.gates.report import GateReport
from lazypipe.gates.rule import Check
from lazypipe.gates.tap import Tap, quarantine_schema
from lazypipe.gates.uniqueness import TIMES_COLUMN, repeated
from lazypipe.spec.taps import label

__all__ = ["Split", "check_frame", "mark_repeats", "settle", "split_frame"]


@dataclass(frozen=True)
class Split:
    """A frame's rows after its gate: those that go on, those put aside with the rules they violate, and what was found.

    Rows that a rule drops are in neither. The order of rows is not kept.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    report: GateReport


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
    frame: pl.LazyFrame, checks: Sequence[Check], known: Mapping[str, pl.DataFrame]
) -> tuple[pl.LazyFrame, list[Check]]:
    """Turn the key checks whose repeated keys are known by now into checks that each row can tell."""
    marked = []
    for index, check in enumerate(checks):
        keys = known.get(check.id)
        if keys is None:
            marked.append(check)
            continue
        mark = pl.lit(value=True).alias(f"__lazypipe_repeats_{index}")
        known_keys = label(keys.lazy(), "repeated keys").select(*check.keys, mark)
        frame = frame.join(known_keys, on=check.keys, how="left", maintain_order="left")
        compared = pl.all_horizontal(pl.col(k).is_not_null() for k in check.keys)
        marked.append(replace(check, keys=(), violated=compared & pl.col(mark.meta.output_name())))
    return frame, marked


def check_frame(
    frame: pl.LazyFrame, checks: Sequence[Check], lookup: Lookup, frames: Mapping[str, pl.LazyFrame]
) -> GateReport:
    """Count what violates, in one streaming pass, over the columns that are needed."""
    schema = frame.collect_schema()
    used = {n for c in checks for n in c.columns}
    names = [n for n in schema if n in used] or schema.names()[:1]
    narrow = pl.Schema({n: schema[n] for n in names})
    tap = Tap(checks, narrow, run="", spill=Path(), lookup=lookup, split=False)
    tap.attach(frame.select(names)).select(pl.len()).collect(engine="streaming")
    settle(tap, checks, lambda: frame)
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
            rows, marked = mark_repeats(frame, checks, known)
            tap = Tap(marked, schema, run=run, spill=Path(spill), lookup=lookup, hold=True)
            good = tap.attach(rows).collect(engine="streaming")
            found = settle(tap, marked, lambda: frame)
            if not (found and tap.removes):
                break
            known |= found
        held = tap.release()
        if held is not None:
            good = pl.concat([good, held])
        for check in checks:
            if check.measure is not None:
                tap.measure(check, good.lazy, frames)
        bad = [*tap.quarantined()]
    return Split(good, pl.concat(bad) if bad else pl.DataFrame(schema=quarantine_schema(schema)), tap.report("frame"))
