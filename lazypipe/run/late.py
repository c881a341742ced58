"""Late rows in quarantine: which rule and watermark made them late, read from the rows themselves."""

from __future__ import annotations

import polars as pl

from lazypipe import gates
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.durations import with_durations
from lazypipe.compile.late import LATE, with_late_gates
from lazypipe.errors import LazypipeError
from lazypipe.gates.rules.late import Late
from lazypipe.gates.tap import FILE_COLUMN, quarantine_schema
from lazypipe.incremental.before import files_of_units
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.units import UNIT

__all__ = ["late_rows"]


def late_rows(plan: CompiledPipeline, stage: str) -> pl.LazyFrame:
    """Return the rows that came too late for a stage's windows, with the window, how late they were, and the run that quarantined them.

    Raises
    ------
    LazypipeError
        If the stage quarantines no late rows.
    """
    name = f"{stage}{LATE}"
    rule = None
    if name in plan.nodes and name not in plan.pipeline.stages:
        pipeline = with_late_gates(with_durations(plan.pipeline, plan.params, []), [])
        rule = gates.rule(pipeline.stages[name].gate[-1])
    if not isinstance(rule, Late) or rule.action != "quarantine":
        fix = "say late: quarantine in its window"
        raise LazypipeError(f"stage {stage!r} quarantines no late rows; {fix}")
    node = plan.nodes[name]
    dataset = plan.state.dataset("quarantine", name)
    commit = dataset.latest()
    if commit is None:
        rows = pl.LazyFrame(schema=quarantine_schema(node.schema))
    else:
        rows = _with_files(plan, dataset.scan(commit, tags=commit.tagged))
    closing = rule.closing(node.schema)
    return rows.with_columns(
        closing.start.alias("window_start"),
        closing.end.alias("window_end"),
        closing.late_by.cast(pl.Duration("us")).alias("late_by"),
    )


def _with_files(plan: CompiledPipeline, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Put the file that each row came from in its place, where rows know the unit that they were made of."""
    if UNIT not in rows.collect_schema():
        return rows
    files: dict[int, str] = {}
    for output in [o for o in plan.outputs.values() if o.format == "dataset"]:
        commit = Dataset(output.to, output.storage_options).latest()
        files |= {} if commit is None else files_of_units(commit)
    file = pl.col(UNIT).replace_strict([*files], [*files.values()], default=None, return_dtype=pl.String)
    return rows.with_columns(pl.coalesce(FILE_COLUMN, file).alias(FILE_COLUMN)).drop(UNIT)
