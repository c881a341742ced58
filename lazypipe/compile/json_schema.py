"""The JSON Schema of a definition, made from the registries; published as ``lazypipe/pipeline.schema.json``.

``python -m lazypipe.compile.json_schema`` writes the file again; a test holds the two equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lazypipe import gates, ops
from lazypipe.compile.outputs.modes import MODES
from lazypipe.compile.reference import reference
from lazypipe.spec.arguments import COLUMN, COLUMNS, INPUTS
from lazypipe.spec.model import PARAM_TYPES
from lazypipe.storage.formats import FORMATS
from lazypipe.storage.optimizer.workload import ACCESS

__all__ = ["build"]

_TEXT = {"type": "string", "minLength": 1}
_NAME = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}


def _object(description: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    made: dict[str, Any] = {
        "description": description,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return made | ({"required": list(required)} if required else {})


def _described(schema: Any, description: str) -> dict[str, Any]:
    return {"description": description, **schema}


def _text(description: str) -> dict[str, Any]:
    return _described(_TEXT, description)


def _flag(description: str) -> dict[str, Any]:
    return {"description": description, "type": "boolean"}


def _choice(description: str, values: Iterable[str]) -> dict[str, Any]:
    return {"description": description, "enum": [*values]}


def _count(description: str, minimum: int = 1) -> dict[str, Any]:
    return {"description": description, "type": "integer", "minimum": minimum}


def _number(description: str, **limits: float) -> dict[str, Any]:
    return {"description": description, "type": "number", **limits}


def _some(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Return an object of which at least one property is given."""
    return _object(description, properties) | {"minProperties": 1}


def _either(description: str, settings: dict[str, Any], short: dict[str, Any]) -> dict[str, Any]:
    """Return what may be an object with settings, or something shorter; whoever began an object is told what is wrong with that."""
    return {"description": description, "if": {"type": "object"}, "then": settings, "else": short}


_DESCRIPTION = _text("What it is for, in words.")
_OPTIONS = _described(
    {"type": "object"},
    "Credentials and settings for the storage, with the names that Polars (aws_access_key_id) or fsspec (key) "
    "use; ${NAME} is replaced by an environment variable.",
)


def _named(description: str, definition: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "propertyNames": _NAME,
        "additionalProperties": {"$ref": f"#/$defs/{definition}"},
    }


def _one_of(description: str, choices: dict[str, Any], *, others: bool = False) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": choices,
        "additionalProperties": others,
    }


_CHANGES = ("fail", "evolve", "freeze", "discard_column", "discard_row")


def _contract(new: dict[str, Any], change: str, missing: str) -> dict[str, Any]:
    """Return the properties of a contract, with what ``on_type_change`` and ``on_missing_column`` mean there."""
    words = {
        "on_type_change": _choice(change, _CHANGES),
        "on_missing_column": _choice(missing, _CHANGES),
    }
    declared = {
        "description": "A type, or a type with what to do about differences.",
        "type": ["string", "object"],
        "minLength": 1,
        "properties": {
            "type": _text("A type such as Int64, String, Date, Datetime(us, UTC)."),
            "alias": _described(COLUMNS.schema, "Other names that the column may come by."),
            **words,
        },
        "required": ["type"],
        "additionalProperties": False,
    }
    columns = {
        "description": "Column → type, such as Int64, String, Date, Datetime(us, UTC).",
        "type": "object",
        "additionalProperties": declared,
    }
    return {"columns": columns, "on_new_column": new, **words}


def _source_contract() -> dict[str, Any]:
    new = _choice(
        "What to do about columns that are not listed. ignore: take those of the first file; all files must have "
        "them; evolve: take those of any file, null where a file lacks them; discard_column: leave them out; "
        "discard_row: quarantine rows that have a value in one; freeze or fail: refuse the file. In NDJSON, the "
        "first 10,000 lines of each file decide which columns there are; a later line with another field (also "
        "within a struct) is refused, unless such columns are left out. Default: ignore.",
        ["ignore", *_CHANGES],
    )
    change = (
        "What to do if a column has another type in a file, or if a value in CSV or NDJSON cannot be parsed. "
        "fail: refuse the file; evolve: use the narrowest type that holds both without loss; freeze: cast, and "
        "fail if a value does not fit; discard_column: replace values that do not fit by null, counted as "
        "type:<column>; discard_row: quarantine the row, with the original text in _lazypipe_raw. If it is given "
        "for the whole contract and not for one column, discard_row also quarantines text rows that cannot be "
        "read at all (too many or too few fields, an unclosed quote, a line that is not a JSON object), counted "
        "as broken_row, with line, text and reason. Lists and structs in NDJSON must always parse. Default: fail."
    )
    missing = (
        "What to do if a file lacks a column. fail or freeze: refuse the file; evolve: use null; discard_column: "
        "use null, counted as missing_column:<column>; discard_row: quarantine the file's rows. A key that is "
        "missing in a line of NDJSON is always null. Default: fail."
    )
    return _object("What the source must look like.", _contract(new, change, missing), ("columns",))


def _output_contract() -> dict[str, Any]:
    new = _choice(
        "What to do about a column of the stage that is neither listed nor in the previous commit. fail or "
        "freeze: refuse the pipeline; evolve: add it; discard_column: leave it out; discard_row: quarantine rows "
        "that have a value in it. Default: fail.",
        _CHANGES,
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
    return _some(
        "What readers of the output can rely on: the listed columns, and those of the previous commit.",
        _contract(new, change, missing),
    )


def _intake() -> dict[str, Any]:
    """Return the properties of a source that say how deliveries are taken in."""
    expect = _some(
        "When a delivery is complete; all conditions must hold.",
        {
            "files": _count("The exact number of files."),
            "at_least": _count("The minimum number of files."),
            "marker": _text(
                "Name or pattern of a file, such as _SUCCESS, that appears in a folder, or in one above it, when "
                "the folder is complete. With {name} in it, each data file has its own marker, such as "
                "'{name}.done'."
            ),
            "manifest": _text(
                "Name or pattern of a file that lists the data files of its folder and the folders below, "
                "optionally with sizes and checksums (sha256, md5, blake3). Formats: JSON, JSON lines, CSV with a"
                " header, or that of sha256sum."
            ),
            "per": _choice(
                "Whether files are counted in the whole source or in each folder. Default: source.",
                ["source", "folder"],
            ),
        },
    )
    return {
        "detect": _choice(
            "How changed files are detected. stamp: by size and modification time (or ETag); content: every file "
            "is hashed in every run. Default: stamp.",
            ["stamp", "content"],
        ),
        "on_removed": _choice(
            "What to do about a file that was read and has been removed. delete: remove its rows; ignore: keep "
            "them; fail: stop the run. Default: delete.",
            ["ignore", "delete", "fail"],
        ),
        "on_modified": _choice(
            "What to do about a file that was read and has changed. reprocess: recompute its rows; ignore: keep "
            "them as they were; fail: stop the run. Default: reprocess; for outputs with mode: append, fail.",
            ["reprocess", "fail", "ignore"],
        ),
        "settle": _text(
            "Read a file only when it has not been written to for this long, such as 90s or 5m. Default: 0s."
        ),
        "expect": expect,
        "on_partial": _choice(
            "What to do about an incomplete delivery. wait: leave it for a later run; fail: stop the run. "
            "Default: wait.",
            ["wait", "fail"],
        ),
    }


def _time() -> dict[str, Any]:
    """Return the properties of a source that say up to which event time it is complete."""
    watermark = _object(
        "The watermark: up to which event time the source is complete. By default, it is the latest event time in"
        " earlier files, minus a delay. Each row gets the watermark under which it came, as a column.",
        {
            "delay": _text(
                "How far behind the latest event time rows may still arrive, such as 90s or 2h. Default: 0s."
            ),
            "order": _choice(
                "The order of files: by name, or by modification time (stamp). Default: name.",
                ["name", "stamp"],
            ),
            "column": _described(
                COLUMN.schema,
                "A column with the arrival time of each row; the watermark is then this time minus the delay.",
            ),
            "marker": _text(
                "A file (or a glob of several), relative to this file, that gives the time up to which the source"
                " is complete, either in its content or in its name, such as done/%Y-%m-%dT%H.ok. The watermark "
                "is the latest such time minus the delay."
            ),
            "commit": _flag(
                "Whether to use the watermark stored in the dataset's commits by the pipeline that writes it. "
                "Default: false."
            ),
            "heartbeat": _text(
                "A SQL condition for rows that only tell the time, such as kind = 'ping'. They advance the "
                "watermark, are counted, and are then removed."
            ),
            "by": _described(
                COLUMN.schema, ("A column that divides the source into partitions, each with its own watermark.")
            ),
            "as": _described(COLUMN.schema, "The name of the column with the watermark. Default: _watermark."),
            "tolerance": _text(
                "How far an event time may be after its file was written (or after the arrival column). A later "
                "one is invalid and does not advance the watermark. Default: 1d."
            ),
            "idle_after": _text(
                "A partition without progress for this long, by the runs' clock, no longer holds back the "
                "watermark. Default: never."
            ),
        },
    )
    return {
        "watermark": watermark,
        "on_bad_time": _choice(
            "What to do about a row whose event time is null or too far in the future. Default: keep.",
            ["fail", "quarantine", "drop", "keep"],
        ),
    }


def _state() -> dict[str, Any]:
    what = "Folder for run records and quarantined rows of sources and inner stages"
    uri = _text(f"{what}, relative to this file; ${{NAME}} is replaced by an environment variable. Default: .lazypipe")
    settings = _object(f"{what}.", {"uri": uri, "storage_options": _OPTIONS}, ("uri",))
    return _either(uri["description"], settings, uri)


def _audit() -> dict[str, Any]:
    modes = _choice(
        "required: nothing is published unless it is recorded; recorded: if a record cannot be written, the run's"
        " result says so; off: no records. Default: recorded.",
        ["required", "recorded", "off"],
    )
    settings = _object(
        "How runs are recorded in the ledger.",
        {
            "mode": modes,
            "ledger": _text(
                "Folder of the ledger, relative to this file; several pipelines may share one; ${NAME} is replaced by an "
                "environment variable. Default: <state>/ledger"
            ),
            "key": _text(
                "A variable such as ${LEDGER_KEY} with a secret key that signs each record, so that only those "
                "who have it can write records."
            ),
            "actor": _text(
                "Who runs it. Default: the environment variable LAZYPIPE_ACTOR, else the user of the machine."
            ),
            "hash": _choice(
                "Which files are hashed: local ones, or all; remote files are then read once more. Default: local.",
                ["local", "all"],
            ),
            "storage_options": _OPTIONS,
        },
    )
    return _either(settings["description"], settings, modes)


def _openlineage() -> dict[str, Any]:
    headers = {
        "description": "Additional HTTP headers, by name; ${NAME} is replaced by an environment variable.",
        "type": "object",
        "additionalProperties": _text("The header's value."),
    }
    return _some(
        "Where OpenLineage events about runs are sent. An endpoint that cannot be reached never stops a run.",
        {
            "url": _text(
                "Address of an OpenLineage endpoint, such as https://marquez:5000; if it has no path, "
                "/api/v1/lineage is added. ${NAME} is replaced by an environment variable."
            ),
            "api_key": _text("Key sent as a bearer token, such as ${LINEAGE_KEY}."),
            "headers": headers,
            "namespace": _text("Namespace of the job. Default: lazypipe."),
            "file": _text(
                "File to which events are appended, one line of JSON each, relative to this file; in an object "
                "store, a folder with one file per event."
            ),
            "spool": _text(
                "Local folder where events wait while the endpoint cannot be reached, relative to this file. "
                "Default: openlineage in the state folder."
            ),
            "timeout": _number("Seconds that one request may take. Default: 2.", minimum=0.01),
            "attempts": _count("How many times in a row to try to send an event. Default: 3."),
        },
    )


def _workload() -> dict[str, Any]:
    """Return what an output says of those who read it."""
    query = _object(
        "A query, and how often it is run.",
        {
            "sql": _text("A SELECT over the output, by its name or as self."),
            "weight": _number("How often it is run, relative to the others. Default: 1.", minimum=0.001),
            "selectivity": _number(
                "The fraction of rows that pass its filters, if known: between 0 and 1.",
                minimum=0.001,
                maximum=1,
            ),
        },
        ("sql",),
    )
    sql = _text("A SELECT over the output, by its name or as self.")
    return _some(
        "How the output is read, besides by this pipeline. The layout is chosen for it.",
        {
            "access": _choice("The overall access pattern. Default: that of most queries.", ACCESS),
            "queries": {
                "description": "Typical queries, as SQL.",
                "type": "array",
                "minItems": 1,
                "items": {"if": {"type": "object"}, "then": query, "else": sql},
            },
        },
    )


def _panes() -> dict[str, Any]:
    """Return how an output tells what becomes of its windows."""
    mode = _choice(
        "What to write for a window that changes. accumulate: its new row. discard: the difference from the "
        "previous pane. retract: its old row and its new one, with weights -1 and 1.",
        ["accumulate", "discard", "retract"],
    )
    said = _object(
        "Write the panes of windows to a dataset beside the output, named with __panes.",
        {
            "mode": mode,
            "weight": _text("With retract: the column with -1 and 1. Default: _weight."),
            "index": _text("A column for the number of the pane, from 0 for each window. Default: none."),
            "timing": _text(
                "A column with early, on_time or late: before, when or after the watermark passed the window's "
                "end. Default: none."
            ),
        },
        ("mode",),
    )
    return _either(said["description"], said, mode)


def _maintenance() -> dict[str, Any]:
    """Return what an output says of when its files are to be written anew."""
    return _some(
        "Maintenance of the output's files after a run has published.",
        {
            "small_files": _count(
                "Merge small files (below half of the target size) if a partition has more than this many."
            ),
            "dead_rows": _number(
                "Rewrite files if more than this fraction of their rows is deleted, between 0 and 1.",
                minimum=0.001,
                maximum=1,
            ),
            "overlap": _number(
                "Sort the rows of a partition again if on average more than this many of its files contain the "
                "same values of the sort columns.",
                minimum=1,
            ),
            "keep": _count("How many versions to keep; files of older ones are deleted."),
        },
    )


def _gate() -> dict[str, Any]:
    """Return what a gate may be: rules, or rules with what they do by default."""
    rules: dict[str, Any] = {"description": "Rules on the rows.", "type": "array", "items": {"$ref": "#/$defs/rule"}}
    action = _choice(
        "The action of rules that do not give their own. Default: fail.", ["fail", "quarantine", "drop", "warn"]
    )
    with_action = _object("Rules, and their default action.", {"action": action, "rules": rules}, ("rules",))
    return _either(rules["description"], with_action, rules)


def _read() -> dict[str, Any]:
    """Return how text files are read."""
    return _object(
        "How to read CSV files.",
        {
            "separator": _text("Field separator of CSV. Default: a comma."),
            "quote": _described({"type": "string"}, "Quote character of CSV; empty for none. Default: a double quote."),
            "header": _flag("Whether the first CSV row contains column names. Default: true."),
            "null_values": _described(
                {"type": "array", "items": {"type": "string"}}, "Texts that mean null, besides an empty field."
            ),
            "comment": _text("Lines that start with this are skipped."),
            "skip_rows": _count("Number of lines to skip before the header.", minimum=0),
            "decimal_comma": _flag(
                "Whether decimals are written with a comma (1,5). A number with a point is then invalid, unless "
                "thousands gives it a meaning."
            ),
            "thousands": _choice(
                "The thousands separator in columns that are declared as numbers: 1.234,50, 1,234.5, 1'234, 1 "
                "234. Default: none; such numbers are invalid.",
                [".", ",", "'", " ", "_"],
            ),
            "parse_dates": _flag(
                "Whether undeclared columns that look like dates or times are read as such. Default: true."
            ),
        },
    )


def _source() -> dict[str, Any]:
    column = _object(
        "What is known about a column.",
        {
            "tags": {"description": "Words such as pii.", "type": "array", "items": _TEXT},
            "description": _DESCRIPTION,
        },
    )
    return _object(
        "Where rows come from.",
        {
            "uri": _described(
                {"type": ["string", "array"], "items": _TEXT, "minLength": 1, "minItems": 1},
                "Path, URI or glob pattern, or a list of them, relative to this file; ${NAME} is replaced by an "
                "environment variable.",
            ),
            "format": _choice(
                "Format of the files; dataset: a dataset written by lazypipe; delta: a Delta Lake table. Default:"
                " by the file names, or by the log in the folder.",
                [*FORMATS, "dataset", "delta"],
            ),
            "version": _count("Which version of a Delta table to read. Default: the latest.", minimum=0),
            "read": _read(),
            "storage_options": _OPTIONS,
            "event_time": _described(COLUMN.schema, "The column with the event time of each row."),
            "key": _described(COLUMNS.schema, "The columns that identify a row."),
            "contract": _source_contract(),
            "columns": {
                "description": "What is known about columns.",
                "type": "object",
                "additionalProperties": column,
            },
            "gate": _gate(),
            "on_corrupt": _choice(
                "What to do about a file that cannot be decoded (truncated, a damaged footer, invalid gzip, a "
                "broken row or line that the contract does not discard). fail: stop the run; skip: leave out the "
                "whole file, say so in the run's result, and try again in the next run; quarantine_file: also "
                "record it in the state folder, and do not try again until it is delivered again. Default: fail.",
                ["fail", "quarantine_file", "skip"],
            ),
            **_intake(),
            **_time(),
            "description": _DESCRIPTION,
        },
        ("uri",),
    )


def _stage() -> dict[str, Any]:
    return _object(
        "A named node: inputs, operations, a gate.",
        {
            "from": _described(
                INPUTS.schema,
                "The source or stage that the operations start from; further ones can be used by sql and python.",
            ),
            "do": {"description": "Operations, in order.", "type": "array", "items": {"$ref": "#/$defs/operation"}},
            "gate": _gate(),
            "description": _DESCRIPTION,
        },
        ("from",),
    )


def _output() -> dict[str, Any]:
    return _object(
        "Where a stage's rows go.",
        {
            "from": _text("The stage (or source). Default: the output's own name."),
            "to": _text("Folder of the dataset, or file of the export, relative to this file."),
            "format": _choice(
                "dataset (a folder of Parquet files with a commit log), delta (a dataset that is also a Delta "
                "Lake table), or the format of a single exported file. Default: by the ending of to, such as .csv"
                " or .parquet; otherwise dataset.",
                ["dataset", "delta", *FORMATS],
            ),
            "mode": _choice(
                "How new rows are combined with existing ones. replace: the output is the stage's result. append:"
                " rows of new input are added. upsert: rows replace those with the same key. delete: rows with "
                "the keys that come are removed. scd2: every version of each key is kept, with valid_from, "
                "valid_to and is_current. snapshot: the rows of every run are kept, with snapshot_at. "
                "replace_partitions: only partitions that occur in the input are replaced. Default: replace.",
                [*MODES],
            ),
            "partition_by": _described(COLUMNS.schema, "Columns whose values become folders."),
            "key": _described(COLUMNS.schema, "The columns that identify a row."),
            "order_by": _described(
                COLUMNS.schema,
                ("With upsert: the columns that decide which of several rows with the same key is the latest."),
            ),
            "event_time": _text(
                "The column with the time from which a row is valid: valid_from with scd2, the order with upsert."
            ),
            "deleted_when": _text(
                "A SQL condition; a row for which it is true deletes its key (upsert), or ends the current "
                "version (scd2)."
            ),
            "deletes": _choice(
                "With scd2: close ends the versions of keys that are no longer in the input, for sources that "
                "always contain everything. Default: ignore.",
                ["ignore", "close"],
            ),
            "keep": _count("With snapshot: how many snapshots to keep. Default: all."),
            "changes": _flag(
                "Whether to write the inserts, updates and deletes of each version to a dataset beside it, named "
                "with __changes. Default: false."
            ),
            "panes": _panes(),
            "optimize": _choice(
                "The goal of the file layout. The layout is chosen from the rows once, and then kept.",
                ["storage", "balanced", "read", "write"],
            ),
            "workload": _workload(),
            "maintain": _maintenance(),
            "storage_options": _OPTIONS,
            "contract": _output_contract(),
            "description": _DESCRIPTION,
        },
        ("to",),
    )


def _param() -> dict[str, Any]:
    return _object(
        "A value that the caller can set; :name in SQL.",
        {
            "type": _choice("Its type. On the command line, a list is written a,b,c or [1, 2].", PARAM_TYPES),
            "default": {"description": "Its value if the caller gives none."},
            "description": _DESCRIPTION,
        },
        ("type",),
    )


def build() -> dict[str, Any]:
    """Return the schema, with every operation and rule that is registered."""
    root = _object(
        "A lazypipe pipeline.",
        {
            "version": {"description": "Version of this format: 1.", "const": 1},
            "name": _text("The pipeline's name."),
            "description": _DESCRIPTION,
            "params": _named("Values that the caller can set.", "param"),
            "state": _state(),
            "audit": _audit(),
            "openlineage": _openlineage(),
            "sources": _named("Where rows come from.", "source"),
            "stages": _named("What is done with them.", "stage"),
            "outputs": _named("Where they go.", "output"),
        },
        ("version", "name", "sources", "outputs"),
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lazypipe pipeline",
        **root,
        "$defs": {
            "param": _param(),
            "source": _source(),
            "stage": _stage(),
            "output": _output(),
            "operation": _one_of(
                "One operation: a mapping with one key, its name.",
                {n: ops.operation_class(n).json_schema() for n in ops.names()},
            ),
            "rule": _one_of(
                "One rule: a mapping with one key, its name.",
                {n: gates.rule_class(n).json_schema() for n in gates.names()},
                others=True,  # those of the user's own are known in Python only
            ),
        },
    }


def text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(build(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    _here = Path(__file__).parent.parent
    (_here / "pipeline.schema.json").write_text(text(), encoding="utf-8")
    (_here.parent / "docs" / "guide" / "reference.md").write_text(reference(build()), encoding="utf-8")
