"""The keys of an output, as the JSON Schema describes them."""

from __future__ import annotations

from typing import Any

from lazypipe.compile.outputs.modes import MODES
from lazypipe.spec.arguments import COLUMNS
from lazypipe.spec.schema_parts import (
    CHANGES,
    DESCRIPTION,
    OPTIONS,
    choice,
    contract,
    count,
    described,
    either,
    flag,
    mapping,
    number,
    some,
    text,
)
from lazypipe.storage.formats import FORMATS
from lazypipe.storage.optimizer.workload import ACCESS

__all__ = ["output_schema"]


def _contract() -> dict[str, Any]:
    new = choice(
        "What to do about a column of the stage that is neither listed nor in the previous commit. fail or "
        "freeze: refuse the pipeline; evolve: add it; discard_column: leave it out; discard_row: quarantine rows "
        "that have a value in it. Default: fail.",
        CHANGES,
    )
    change = (
        "What to do if the type of a column differs from the listed one, or from the previous commit. fail: "
        "refuse the pipeline; evolve: use the narrowest type that holds both without loss; freeze: cast, and "
        "publish nothing if a value does not fit; discard_column: replace values that do not fit by null, counted"
        " as type:<column>; discard_row: quarantine the row, with the original value as text in _lazypipe_raw. "
        "Default: fail."
    )
    missing = (
        "What to do if the stage lacks a column that is listed, or in the previous commit. fail or freeze: refuse"
        " the pipeline; evolve: use null; discard_column: use null, counted as missing_column:<column>; "
        "discard_row: quarantine the rows. Default: fail."
    )
    return some(
        "What readers of the output can rely on: the listed columns, and those of the previous commit.",
        contract(new, change, missing),
    )


def _workload() -> dict[str, Any]:
    """Return ``workload``: how the output is read."""
    query = mapping(
        "A query, and how often it is run.",
        {
            "sql": text("A SELECT over the output, by its name or as self."),
            "weight": number("How often it is run, relative to the others. Default: 1.", minimum=0.001),
            "selectivity": number(
                "The fraction of rows that pass its filters, if known: between 0 and 1.",
                minimum=0.001,
                maximum=1,
            ),
        },
        ("sql",),
    )
    sql = text("A SELECT over the output, by its name or as self.")
    return some(
        "How the output is read, besides by this pipeline. The layout is chosen for it.",
        {
            "access": choice("The overall access pattern. Default: that of most queries.", ACCESS),
            "queries": {
                "description": "Typical queries, as SQL.",
                "type": "array",
                "minItems": 1,
                "items": {"if": {"type": "object"}, "then": query, "else": sql},
            },
        },
    )


def _panes() -> dict[str, Any]:
    """Return ``panes``: how changes of windows are written beside the output."""
    mode = choice(
        "What to write for a window that changes. accumulate: its new row. discard: the difference from the "
        "previous pane. retract: its old row and its new one, with weights -1 and 1.",
        ["accumulate", "discard", "retract"],
    )
    said = mapping(
        "Write the panes of windows to a dataset beside the output, named with __panes.",
        {
            "mode": mode,
            "weight": text("With retract: the column with -1 and 1. Default: _weight."),
            "index": text("A column for the number of the pane, from 0 for each window. Default: none."),
            "timing": text(
                "A column with early, on_time or late: before, when or after the watermark passed the window's "
                "end. Default: none."
            ),
        },
        ("mode",),
    )
    return either(said["description"], said, mode)


def _maintenance() -> dict[str, Any]:
    """Return ``maintain``: when files are merged, rewritten and deleted."""
    return some(
        "Maintenance of the output's files after a run has published.",
        {
            "small_files": count(
                "Merge small files (below half of the target size) if a partition has more than this many."
            ),
            "dead_rows": number(
                "Rewrite files if more than this fraction of their rows is deleted, between 0 and 1.",
                minimum=0.001,
                maximum=1,
            ),
            "overlap": number(
                "Sort the rows of a partition again if on average more than this many of its files contain the "
                "same values of the sort columns.",
                minimum=1,
            ),
            "keep": count("How many versions to keep; files of older ones are deleted."),
        },
    )


def output_schema() -> dict[str, Any]:
    """Return the JSON Schema of an output."""
    return mapping(
        "Where a stage's rows go.",
        {
            "from": text("The stage (or source). Default: the output's own name."),
            "to": text("Folder of the dataset, or file of the export, relative to this file."),
            "format": choice(
                "dataset (a folder of Parquet files with a commit log), delta (a dataset that is also a Delta "
                "Lake table), or the format of a single exported file. Default: by the ending of to, such as .csv"
                " or .parquet; otherwise dataset.",
                ["dataset", "delta", *FORMATS],
            ),
            "mode": choice(
                "How new rows are combined with existing ones. replace: the output is the stage's result. append:"
                " rows of new input are added. upsert: rows replace those with the same key. delete: rows with "
                "the keys that come are removed. scd2: every version of each key is kept, with valid_from, "
                "valid_to and is_current. snapshot: the rows of every run are kept, with snapshot_at. "
                "replace_partitions: only partitions that occur in the input are replaced. Default: replace.",
                [*MODES],
            ),
            "partition_by": described(COLUMNS.schema, "Columns whose values become folders."),
            "key": described(COLUMNS.schema, "The columns that identify a row."),
            "order_by": described(
                COLUMNS.schema,
                ("With upsert: the columns that decide which of several rows with the same key is the latest."),
            ),
            "event_time": text(
                "The column with the time from which a row is valid: valid_from with scd2, the order with upsert."
            ),
            "deleted_when": text(
                "A SQL condition; a row for which it is true deletes its key (upsert), or ends the current "
                "version (scd2)."
            ),
            "deletes": choice(
                "With scd2: close ends the versions of keys that are no longer in the input, for sources that "
                "always contain everything. Default: ignore.",
                ["ignore", "close"],
            ),
            "keep": count("With snapshot: how many snapshots to keep. Default: all."),
            "changes": flag(
                "Whether to write the inserts, updates and deletes of each version to a dataset beside it, named "
                "with __changes. Default: false."
            ),
            "panes": _panes(),
            "optimize": choice(
                "The goal of the file layout. The layout is chosen from the rows once, and then kept.",
                ["storage", "balanced", "read", "write"],
            ),
            "workload": _workload(),
            "maintain": _maintenance(),
            "storage_options": OPTIONS,
            "contract": _contract(),
            "description": DESCRIPTION,
        },
        ("to",),
    )
